"""The name under which scripts written for Peliqan import `pq`."""

import pq
from pq import *  # noqa: F403  (everything that `pq` offers, under its other name)

from peliqan import exceptions

Peliqan = pq

__all__ = ["Peliqan", "exceptions", *pq.__all__]


def __getattr__(name: str) -> object:
    """Names that `pq` computes when asked, such as `DW_NAME`."""
    return getattr(pq, name)
