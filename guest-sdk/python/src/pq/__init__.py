"""What a handler script can ask of its host.

`pq` is there in every script without an import; `import pq` and `import peliqan as pq` give the same module.

    def handler(request):
        dbconn = pq.dbconnect('dw_2')
        return dbconn.fetch('dw_2', 'salesforce', 'accounts')

- `dbconnect(connection)`: a database of the tenant, see `pq.Connection`.
- `connect(connection)`: an HTTP API of the tenant, see `pq.Connector`.
- `HTTPError(status, message)`: raise it to answer with that status.
- `DW_NAME`, `DW_ID`: name and id of the tenant's default connection; `INTERFACE_ID`: id of this script.

Everything that fails raises `peliqan.exceptions.PeliqanClientException`.
"""

from typing import NoReturn

from pq._connection import Connection, dbconnect
from pq._connector import Connector, connect
from pq._errors import HTTPError
from pq._rows import Rows
from pq.exceptions import OperationNotSupported

__all__ = ["Connection", "Connector", "HTTPError", "Rows", "connect", "dbconnect"]

_NOT_SUPPORTED = {
    "sftpconnect": "scripts have no file transfer; call an HTTP API that has the file",
    "aiconnect": "there are no AI connections; call the provider's HTTP API",
}

_NOT_YET = [
    "get_state",
    "set_state",
    "update_state",
    "get_interface_state",
    "set_interface_state",
    "get_secret",
    "list_connections",
    "list_databases",
    "get_table",
    "get_schema",
    "list_scripts",
    "trinoconnect",
    "load_table",
]


def _refuse(name: str, reason: str) -> object:
    def refuse(*_args: object, **_kwargs: object) -> NoReturn:
        raise OperationNotSupported(f"pq.{name}() is not supported: {reason}")

    refuse.__name__ = name
    return refuse


def __getattr__(name: str) -> object:
    if name in ("DW_NAME", "DW_ID", "INTERFACE_ID"):
        from wit_world.imports import context

        info = context.describe()
        return {
            "DW_NAME": info.default_connection,
            "DW_ID": info.default_connection_id,
            "INTERFACE_ID": info.script_id,
        }[name]
    if name in _NOT_SUPPORTED:
        return _refuse(name, _NOT_SUPPORTED[name])
    if name in _NOT_YET:
        return _refuse(name, "this release of pqhost does not have it yet")
    if name.startswith("run_"):
        return _refuse(name, "a handler answers requests; it does not run other scripts")
    raise AttributeError(f"module 'pq' has no attribute {name!r}")
