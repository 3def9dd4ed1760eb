"""What a handler script can ask of its host.

`pq` is there in every script without an import; `import pq` and `import peliqan as pq` give the same module.

    def handler(request):
        dbconn = pq.dbconnect('dw_2')
        return dbconn.fetch('dw_2', 'salesforce', 'accounts')

- `connect(connection)`: an HTTP API of the tenant, see `pq.Connector`.
- `dbconnect(connection)`: a database of the tenant, see `pq.Connection`. `trinoconnect()` and `load_table()` read its
  default connection; `list_databases()`, `get_schema(id)` and `get_table(id)` tell what there is.
- `get_state()`, `set_state(data)`, `update_state(fn)`: what this script remembers between requests.
- `HTTPError(status, message)`: raise it to answer with that status.
- `get_secret(name)`: a secret of the tenant, as text.
- `list_connections()`, `list_scripts()`: what the tenant has.
- `configure(url, token, script)`: outside of the sandbox, the host to talk to; see `docs/SDK.md`.
- `DW_NAME`, `DW_ID`: name and id of the tenant's default connection; `INTERFACE_ID`: id of this script.

Everything that fails raises `peliqan.exceptions.PeliqanClientException`.
"""

from pq._connection import Connection, dbconnect, load_table, trinoconnect
from pq._connector import Connector, connect
from pq._errors import HTTPError
from pq._host import IN_SANDBOX
from pq._metadata import get_schema, get_table, list_databases
from pq._rows import Rows
from pq._state import get_interface_state, get_state, set_interface_state, set_state, update_state
from pq._tenant import describe, get_secret, list_connections, list_scripts
from pq._unsupported import refusal

__all__ = [
    "Connection",
    "Connector",
    "HTTPError",
    "Rows",
    "connect",
    "dbconnect",
    "get_interface_state",
    "get_schema",
    "get_secret",
    "get_state",
    "get_table",
    "list_connections",
    "list_databases",
    "list_scripts",
    "load_table",
    "set_interface_state",
    "set_state",
    "trinoconnect",
    "update_state",
]

if not IN_SANDBOX:
    from pq._remote import configure

    __all__ += ["configure"]


def __getattr__(name: str) -> object:
    if name in ("DW_NAME", "DW_ID", "INTERFACE_ID"):
        return describe(name)
    refuse = refusal(name)
    if refuse is None:
        raise AttributeError(f"module 'pq' has no attribute {name!r}")
    return refuse
