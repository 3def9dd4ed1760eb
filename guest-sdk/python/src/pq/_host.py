"""The host's functions, as `wit/` declares them: the sandbox's own, or elsewhere those of a running host."""

import sys

IN_SANDBOX = sys.platform == "wasi"

if IN_SANDBOX:
    from marshal import loads as read_rows

    from componentize_py_types import Err
    from wit_world.imports import context, http, secrets, sql, state, tenant
else:
    from json import loads as read_rows

    from pq._remote import Err, context, http, secrets, sql, state, tenant

__all__ = ["IN_SANDBOX", "Err", "context", "http", "read_rows", "secrets", "sql", "state", "tenant"]
