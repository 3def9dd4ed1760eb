"""The name under which scripts written for Peliqan import `pq`."""

import pq
from peliqan import exceptions
from pq import *  # noqa: F403  (everything that `pq` offers, under its other name)

Peliqan = pq

__all__ = ["Peliqan", "exceptions", *pq.__all__]


def __getattr__(name: str) -> object:
    """Names that `pq` computes when asked, such as `DW_NAME`."""
    return getattr(pq, name)
