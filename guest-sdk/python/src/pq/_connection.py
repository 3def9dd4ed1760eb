"""Databases of the tenant."""

from collections.abc import Iterator

from pq._arguments import call, count, names, text, values
from pq._changes import Changes
from pq._errors import invalid
from pq._host import IN_SANDBOX, context, read_rows, sql
from pq._rows import Conversion, Rows
from pq.exceptions import OperationNotSupported

_NO_PANDAS = (
    "df=True needs pandas, which has native code and cannot run in the sandbox; leave df out and work with the list of "
    "dicts, or aggregate in SQL with query="
)


class Connection(Changes):
    """A database of the tenant, by name. Making one does no I/O: an unknown name fails at the first statement."""

    __slots__ = ()

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
        sandbox. Inside of a transaction the rows are read at once. Raises `PeliqanClientException`.
        """
        conversion = _conversion(df, fillna_with, fillnat_with, enable_datetime_as_string, tz, decimals)
        select = _select(
            db_name, schema_name, table_name, query, params, limit, offset, order_by, where, decimals=decimals
        )
        rows = Rows(call(sql.fetch, self._place(), select), conversion)
        if not IN_SANDBOX:
            # Rows that wait would hold a connection, and the statement's time runs while a person thinks.
            return rows.touch()
        if self._transaction is not None:
            rows.touch()
        return rows

    def fetch_stream(
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
    ) -> Iterator[list[dict]]:
        """As `fetch`, but gives batches of rows one after the other, at least one, so that a result may be larger than
        the script's memory.
        """
        conversion = _conversion(df, fillna_with, fillnat_with, enable_datetime_as_string, tz, decimals)
        select = _select(
            db_name, schema_name, table_name, query, params, limit, offset, order_by, where, decimals, stream=True
        )
        opened = call(sql.fetch, self._place(), select)
        return _batches(opened, conversion)

    def execute(self, db_name: str, query: str, params: list | tuple | dict | None = None) -> dict:
        """Runs any statement: `{"status": "success", "detail": [header, *rows]}` with rows as lists.

        `detail` is `[]` for a statement that gives no rows.
        """
        select = _select(db_name, None, None, _required_query(query), params, lists=True)
        opened = call(sql.fetch, self._place(), select)
        rows = [row for batch in _batches(opened, None) for row in batch]
        return _executed(opened, rows)

    def execute_stream(self, db_name: str, query: str, params: list | tuple | dict | None = None) -> Iterator[dict]:
        """As `execute`, but gives the rows in batches, at least one. Each has the form of what `execute` gives."""
        select = _select(db_name, None, None, _required_query(query), params, lists=True, stream=True)
        opened = call(sql.fetch, self._place(), select)
        return (_executed(opened, rows) for rows in _batches(opened, None))

    def transaction(self) -> "Transaction":
        """`with dbconn.transaction():` what is done with this connection inside takes place together or not at all.

        The end of the block commits, an exception rolls back, and so does the end of the request. An error of a
        statement ends the transaction even if the script catches it: statements after it, and the commit, raise
        `ERROR_TRANSACTION_OVER`. Transactions of one connection cannot be nested.
        """
        return Transaction(self)


class Transaction:
    """A block in which a connection's statements take place together or not at all."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> Connection:
        self._connection._transaction = call(sql.begin, self._connection._name)
        return self._connection

    def __exit__(self, kind: object, _error: object, _traceback: object) -> None:
        transaction = self._connection._transaction
        self._connection._transaction = None
        if kind is None:
            call(sql.commit, transaction)
        else:
            sql.rollback(transaction)


class TrinoConnection:
    """Reads the tenant's default connection."""

    __slots__ = ()

    def fetch(
        self,
        db_name: str | None = None,
        schema_name: str | None = None,
        table_name: str | None = None,
        query: str | None = None,
        table_id: str | None = None,
        df: bool = False,
        **options: object,
    ) -> list:
        """As `Connection.fetch`; `table_id` is an id that `pq.list_databases()` gives."""
        if table_id is not None:
            from pq._metadata import parts_of

            connection, schema_name, table_name = parts_of("table_id", table_id, 3)
            return Connection(connection).fetch("", schema_name, table_name, df=df, **options)
        return _default_connection().fetch(db_name or "", schema_name, table_name, query, df, **options)

    def execute(self, query: str, params: list | tuple | dict | None = None) -> dict:
        """As `Connection.execute`."""
        return _default_connection().execute("", query, params)

    def __getattr__(self, name: str) -> object:
        if name.startswith("_"):
            raise AttributeError(name)

        def refuse(*_args: object, **_kwargs: object) -> object:
            raise OperationNotSupported(
                f"{name}() is not supported on pq.trinoconnect(); use pq.dbconnect(pq.DW_NAME).{name}()"
            )

        return refuse


def dbconnect(connection: str | None = None) -> Connection:
    """The tenant's database connection of this name."""
    if not connection:
        raise invalid("pq.dbconnect() needs the name of a connection, for example pq.dbconnect('dw_2')")
    return Connection(text("connection", connection))


def trinoconnect() -> TrinoConnection:
    """The tenant's default connection, for reading."""
    return TrinoConnection()


def load_table(
    db_name: str | None = None,
    schema_name: str | None = None,
    table_name: str | None = None,
    query: str | None = None,
    table_id: str | None = None,
    df: bool = False,
    **options: object,
) -> list:
    """Rows of a table of the tenant's default connection; see `TrinoConnection.fetch`."""
    return TrinoConnection().fetch(db_name, schema_name, table_name, query, table_id, df, **options)


def _default_connection() -> Connection:
    name = context.describe().default_connection
    if name is None:
        raise invalid("the tenant has no default connection")
    return Connection(name)


def _required_query(query: object) -> str:
    if not query:
        raise invalid("execute() needs a query")
    return query


_NONE = values("None", None)


def _select(
    db_name: object,
    schema_name: object,
    table_name: object,
    query: object,
    params: object = None,
    limit: object = None,
    offset: object = None,
    order_by: object = None,
    where: object = None,
    decimals: bool = False,
    lists: bool = False,
    stream: bool = False,
) -> object:
    return sql.Select(
        text("db_name", db_name or ""),
        text("schema_name", schema_name, optional=True),
        text("table_name", table_name, optional=True),
        text("query", query, optional=True),
        _NONE if params is None else values("params", params, (list, tuple, dict)),
        _NONE if where is None else values("where", where, (dict,)),
        names("order_by", order_by),
        count("limit", limit),
        count("offset", offset),
        bool(decimals),
        lists,
        stream,
    )


def _conversion(
    df: bool, fillna: object, fillnat: object, dates_as_text: bool, tz: str, decimals: bool
) -> Conversion | None:
    if df:
        raise OperationNotSupported(_NO_PANDAS)
    return Conversion.wanted(fillna, fillnat, dates_as_text, tz, decimals)


def _batches(opened: object, conversion: Conversion | None) -> Iterator[list]:
    is_empty = True
    try:
        while batch := call(sql.next, opened.cursor):
            is_empty = False
            rows = read_rows(batch)
            if conversion is not None:
                conversion.apply(rows, opened.columns)
            yield rows
    finally:
        sql.close(opened.cursor)
    if is_empty:
        yield []


def _executed(opened: object, rows: list) -> dict:
    header = [column.name for column in opened.columns]
    return {"status": "success", "detail": [header, *rows] if header else []}
