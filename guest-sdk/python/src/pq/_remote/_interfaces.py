"""The interfaces of `wit/`: their types, and their functions with what they give."""

from dataclasses import dataclass

from pq._remote import _session
from pq._remote._values import Case, Err, decode, encode


class Interface:
    """An interface with its types and functions as attributes, like a module of the sandbox."""

    def __init__(self, name: str, error: object, types: list[type], functions: dict[str, object]) -> None:
        for kind in types:
            setattr(self, kind.__name__, kind)
        for function, result in functions.items():
            setattr(self, function, _function(name, function, result, error))


def _function(interface: str, function: str, result: object, error: object) -> object:
    def call(*arguments: object) -> object:
        reply = _session.call(interface, function, [encode(argument) for argument in arguments])
        if "err" in reply:
            raise Err(decode(error, reply["err"]))
        return decode(result, reply["ok"])

    call.__name__ = function
    return call


@dataclass
class Error:
    """What all interfaces but `tenant` raise."""

    code: Case
    message: str


@dataclass
class Place:
    connection: str
    transaction: int | None


@dataclass
class TableName:
    database: str
    schema: str | None
    table: str


@dataclass
class Select:
    database: str
    schema: str | None
    table: str | None
    query: str | None
    params: bytes
    filter: bytes
    order_by: list[str]
    limit: int | None
    offset: int | None
    decimals: bool
    lists: bool
    stream: bool


class Action:
    INSERT = Case("INSERT")
    UPDATE = Case("UPDATE")
    UPSERT = Case("UPSERT")
    DELETE = Case("DELETE")


@dataclass
class Column:
    name: str
    kind: Case


@dataclass
class Opened:
    cursor: int
    columns: list[Column]


@dataclass
class TableColumn:
    name: str
    data_type: str
    schema: str
    nullable: bool
    key_position: int


@dataclass
class Schema:
    name: str
    tables: list[str]


@dataclass
class Database:
    id: int
    name: str
    is_default: bool
    dialect: str
    schemas: list[Schema]
    error: str | None


sql = Interface(
    "sql",
    Error,
    [Action, Place, Select, TableName],
    {
        "fetch": Opened,
        "next": bytes,
        "close": None,
        "change": bytes,
        "write": int,
        "create_schema": None,
        "create_table": None,
        "describe": list[TableColumn],
        "list_databases": list[Database],
        "begin": int,
        "commit": None,
        "rollback": None,
    },
)


@dataclass
class Entry:
    value: str | None
    revision: int


state = Interface("state", Error, [], {"get": Entry, "set": None, "compare_and_set": Entry | None})

secrets = Interface("secrets", Error, [], {"get": str})


@dataclass
class Request:
    method: str
    url: str
    headers: list[tuple[str, str]]
    body: bytes
    connect_timeout_ms: int | None
    read_timeout_ms: int | None


@dataclass
class Response:
    status: int
    reason: str
    headers: list[list]
    body: bytes


http = Interface("http", Error, [Request], {"send": Response, "call": Response})


@dataclass
class Connection:
    id: int
    name: str
    is_default: bool


@dataclass
class Script:
    id: int
    name: str
    version: int | None


tenant = Interface("tenant", str, [], {"list_connections": list[Connection], "list_scripts": list[Script]})


@dataclass
class Info:
    tenant: str
    script_id: int
    script_name: str
    default_connection: str | None
    default_connection_id: int | None


context = Interface("context", None, [], {"describe": Info})
