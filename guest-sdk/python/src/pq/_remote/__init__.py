"""The host's functions outside of the sandbox: calls to a running host.

Never part of the sandbox. `_interfaces` has the types and functions of `wit/`, `_values` turns values into JSON and
back, `_session` speaks HTTP.
"""

from pq._remote._interfaces import context, http, secrets, sql, state, tenant
from pq._remote._session import configure
from pq._remote._values import Err

__all__ = ["Err", "configure", "context", "http", "secrets", "sql", "state", "tenant"]
