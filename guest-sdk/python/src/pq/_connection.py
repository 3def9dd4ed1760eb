"""Databases of the tenant."""

import json
from typing import NoReturn

from componentize_py_types import Err
from wit_world.imports import sql

from pq._errors import from_host, invalid
from pq._rows import Conversion, Rows
from pq.exceptions import OperationNotSupported

_NO_PANDAS = (
    "df=True needs pandas, which has native code and cannot run in the sandbox; leave df out and work with the list of "
    "dicts, or aggregate in SQL with query="
)


class Connection:
    """A database of the tenant, by name. Making one does no I/O: an unknown name fails at the first statement."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def fetch(
        self,
        db_name: str = "",
        schema_name: str | None = None,
        table_name: str | None = None,
        query: str | None = None,
        df: bool = False,
        fillna_with: object = None,
        fillnat_with: object = None,
        enable_python_types: bool = True,
        enable_datetime_as_string: bool = True,
        tz: str = "UTC",
        *,
        params: list | tuple | dict | None = None,
        limit: int | None = None,
        offset: int | None = None,
        order_by: str | list[str] | None = None,
        where: dict | None = None,
        decimals: bool = False,
    ) -> list:
        """Reads a table, or runs `query` in the database's own dialect, and gives a list of dicts.

        `params` are bound to `%s`, `$1` or `:name` in `query`. `where` (column to value; a list means any of, None
        means IS NULL), `order_by` (columns, `-` in front for descending), `limit` and `offset` go with a table.
        `fillna_with` replaces NULL in all columns, `fillnat_with` in those of dates and times. Dates and times are
        ISO 8601 text, or with `enable_datetime_as_string=False` aware `datetime`s in `tz`. `decimals=True` gives exact
        `Decimal`s.

        Returned from the handler as it is, the result streams from the database to the caller and never enters the
        sandbox. Raises `PeliqanClientException`.
        """
        if df:
            raise OperationNotSupported(_NO_PANDAS)
        if isinstance(order_by, str):
            order_by = [order_by]
        select = sql.Select(
            _text("db_name", db_name or ""),
            _text("schema_name", schema_name, optional=True),
            _text("table_name", table_name, optional=True),
            _text("query", query, optional=True),
            "null" if params is None else _json("params", params, (list, tuple, dict)),
            "null" if where is None else _json("where", where, (dict,)),
            [_text("order_by", column) for column in order_by or ()],
            _count("limit", limit),
            _count("offset", offset),
            bool(decimals),
        )
        try:
            opened = sql.fetch(self._name, select)
        except Err as error:
            raise from_host(error.value) from None
        return Rows(opened, Conversion.wanted(fillna_with, fillnat_with, enable_datetime_as_string, tz, decimals))

    def __getattr__(self, name: str) -> object:
        if name not in _NOT_YET:
            raise AttributeError(f"a connection has no method {name!r}")

        def refuse(*_args: object, **_kwargs: object) -> NoReturn:
            raise OperationNotSupported(f"{name}() is not supported: this release of pqhost reads only")

        return refuse


_NOT_YET = frozenset(
    [
        "execute",
        "insert",
        "update",
        "upsert",
        "delete",
        "write",
        "fetch_stream",
        "execute_stream",
        "create_schema",
        "create_table",
        "get_table_schema",
        "transaction",
    ]
)


def dbconnect(connection: str | None = None) -> Connection:
    """The tenant's database connection of this name."""
    if not connection:
        raise invalid("pq.dbconnect() needs the name of a connection, for example pq.dbconnect('dw_2')")
    return Connection(_text("connection", connection))


def _text(what: str, value: object, optional: bool = False) -> str | None:
    if value is None and optional:
        return None
    if not isinstance(value, str):
        raise invalid(f"{what} must be a str, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise invalid(f"{what} holds characters that are not valid Unicode: {value!r:.80}") from None
    return value


def _count(what: str, value: object) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < 2**63:
        raise invalid(f"{what} must be an int of 0 or more, not {value!r:.80}")
    return value


def _json(what: str, value: object, types: tuple[type, ...]) -> str:
    if not isinstance(value, types):
        raise invalid(f"{what} must be a {' or '.join(t.__name__ for t in types)}, not {type(value).__name__}")
    try:
        text = json.dumps(value, default=_parameter)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise invalid(f"{what} holds a value that cannot be a parameter: {error}") from None
    return text


def _parameter(value: object) -> object:
    """Values beyond JSON that databases know as text."""
    import datetime
    import decimal
    import uuid

    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not supported")
