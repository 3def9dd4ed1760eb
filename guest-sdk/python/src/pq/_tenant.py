"""Secrets, and what the tenant has."""

from pq._errors import invalid
from pq._host import Err, context, secrets, tenant
from pq.exceptions import PeliqanClientException

_CODES = {
    "UNKNOWN_SECRET": "ERROR_SECRET_DOES_NOT_EXIST",
    "TOO_MANY_READS": "ERROR_TOO_MANY_READS",
    "UNAVAILABLE": "ERROR_SECRET_UNAVAILABLE",
}


def get_secret(connection: str) -> str:
    """The secret of this name, as it was stored with `pqhost secret set`. Scripts cannot write secrets.

    If it is printed later, the log shows `[redacted]` in its place. Raises ERROR_SECRET_DOES_NOT_EXIST if there is
    none of this name that the script may read.
    """
    if not isinstance(connection, str) or not connection:
        raise invalid(f"pq.get_secret() needs the name of a secret, a str, not {connection!r:.80}")
    try:
        return secrets.get(connection.encode(errors="replace").decode())
    except Err as error:
        failure = error.value
        code = _CODES.get(failure.code.name, "ERROR_UNKNOWN")
        raise PeliqanClientException(failure.message, code) from None


def list_connections() -> list[dict]:
    """The tenant's connections by name: a list of `{"id", "name", "is_datawarehouse"}`."""
    try:
        connections = tenant.list_connections()
    except Err as error:
        raise PeliqanClientException(error.value, "ERROR_METADATA_UNAVAILABLE") from None
    return [{"id": c.id, "name": c.name, "is_datawarehouse": c.is_default} for c in connections]


def list_scripts() -> list[dict]:
    """The tenant's scripts by name: a list of `{"id", "name", "version"}`; `version` is None before the first one."""
    try:
        scripts = tenant.list_scripts()
    except Err as error:
        raise PeliqanClientException(error.value, "ERROR_METADATA_UNAVAILABLE") from None
    return [{"id": s.id, "name": s.name, "version": s.version} for s in scripts]


def describe(name: str) -> object:
    """`DW_NAME`, `DW_ID` or `INTERFACE_ID`."""
    info = context.describe()
    if name == "DW_NAME":
        return info.default_connection
    if name == "DW_ID":
        return info.default_connection_id
    return info.script_id
