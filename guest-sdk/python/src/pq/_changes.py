"""Changing what is in a database."""

import json

from pq._arguments import call, names, text, values
from pq._errors import invalid
from pq._host import read_rows, sql

_MISSING = object()


def _types(object_schema: object) -> str:
    if not isinstance(object_schema, dict | None):
        raise invalid(f"object_schema must be a dict, not {type(object_schema).__name__}")
    try:
        return json.dumps(object_schema)
    except (TypeError, ValueError, RecursionError) as error:
        raise invalid(f"object_schema holds a value that cannot be passed on: {error}") from None


class Changes:
    """The half of a connection that changes rows and tables."""

    __slots__ = ("_name", "_transaction")

    def __init__(self, name: str) -> None:
        self._name = name
        self._transaction = None

    def insert(self, db_name: str, schema_name: str | None, table_name: str, *args: object, **kwargs: object) -> dict:
        """Adds a row, given as a dict, as keywords, or both; or a list of dicts in one statement.

        `{"status": "success", "detail": row}` with the row as the database has it now, generated key included; for a
        list, `detail` is a list of rows.
        """
        if len(args) == 1 and isinstance(args[0], (list, tuple)) and not kwargs:
            rows = list(args[0])
            if not all(isinstance(row, dict) for row in rows):
                raise invalid("insert() takes a dict or a list of dicts")
            return _success(self._change(db_name, schema_name, table_name, sql.Action.INSERT, None, rows))
        row = _row("insert", args, kwargs)
        return _success(self._change(db_name, schema_name, table_name, sql.Action.INSERT, None, [row])[0])

    def update(
        self,
        db_name: str,
        schema_name: str | None,
        table_name: str,
        pk: object = _MISSING,
        *args: object,
        **kwargs: object,
    ) -> dict:
        """Changes the named columns of the row whose primary key is `pk`; other columns keep their values.

        `pk` is the key's value, or a dict of its columns when there are several. `detail` of the result is the row as
        it is now. Without such a row it raises `ERROR_ROW_DOES_NOT_EXIST`.
        """
        row = _row("update", args, kwargs)
        return self._change_row(db_name, schema_name, table_name, sql.Action.UPDATE, pk, row)

    def upsert(
        self,
        db_name: str,
        schema_name: str | None,
        table_name: str,
        pk: object = _MISSING,
        *args: object,
        **kwargs: object,
    ) -> dict:
        """As `update`, or adds the row if there is none."""
        row = _row("upsert", args, kwargs)
        return self._change_row(db_name, schema_name, table_name, sql.Action.UPSERT, pk, row)

    def delete(self, db_name: str, schema_name: str | None, table_name: str, pk: object = _MISSING) -> dict:
        """Removes the row whose primary key is `pk`. `detail` of the result is the row as it was."""
        return self._change_row(db_name, schema_name, table_name, sql.Action.DELETE, pk, {})

    def write(
        self,
        schema_name: str | None,
        table_name: str,
        records: dict | list | tuple,
        object_schema: dict | None = None,
        pk: str | list[str] | None = None,
        db_name: str | None = None,
        transformer_mode: str = "lossless",
        decimal_separator: str = ".",
    ) -> dict:
        """Keeps records in a table, which is created if it is not there, as is its schema; so are missing columns.

        A record replaces the row with the same `pk` (a column or a list of columns); without a primary key, rows are
        added. Dicts and lists in a record are kept as JSON. Types of new columns come from `object_schema` (a JSON
        schema, or column to type) and else from the values. More than 10 MiB of records raise. `transformer_mode` is
        accepted for scripts that pass it; values are never cut or rounded to fit.
        """
        if isinstance(records, dict):
            records = [records]
        if not isinstance(records, (list, tuple)) or not all(isinstance(record, dict) for record in records):
            raise invalid("records must be a dict, or a list or tuple of dicts")
        if decimal_separator != ".":
            raise invalid("decimal_separator must be '.'; convert the values before")
        written = call(
            sql.write,
            self._place(),
            _table(db_name, schema_name, table_name),
            values("records", records),
            _types(object_schema),
            names("pk", pk),
        )
        return _success({"written": written})

    def create_schema(self, db_name: str, schema_name: str) -> dict:
        """Creates a schema, unless it is there."""
        call(sql.create_schema, self._place(), text("db_name", db_name or ""), text("schema_name", schema_name))
        return _success({"name": schema_name})

    def create_table(
        self,
        db_name: str,
        schema_name: str | None,
        table_name: str,
        fields: dict | list | None = None,
        pk: str | list[str] | None = None,
    ) -> dict:
        """Creates a table. `fields` is a dict of name to type, or a list of `{"name": ..., "type": ...}`.

        Types: boolean, integer, bigint, float, decimal, decimal(p,s), text, varchar(n), json, date, time, timestamp,
        timestamptz, uuid, binary. A primary key of one integer is given by the database when an insert leaves it out;
        without `fields` the table has one, `id`. A table that is there raises `ERROR_ALREADY_EXISTS`.
        """
        table = _table(db_name, schema_name, table_name)
        call(sql.create_table, self._place(), table, _fields(fields), names("pk", pk))
        return self.get_table_schema(db_name, schema_name, table_name) | {"status": "success"}

    def get_table_schema(self, db_name: str, schema_name: str | None, table_name: str) -> dict:
        """The columns of a table: `{"name", "schema_name", "fields", "pk"}`.

        A field is `{"name", "type", "nullable", "pk", "schema"}`: `type` is in the database's words, `schema` the JSON
        schema of the column's values, as callers get them.
        """
        columns = call(sql.describe, self._place(), _table(db_name, schema_name, table_name))
        return {"name": table_name, "schema_name": schema_name, **described(columns)}

    def _place(self) -> object:
        return sql.Place(self._name, self._transaction)

    def _change_row(
        self, db_name: str, schema_name: str | None, table_name: str, action: object, pk: object, row: dict
    ) -> dict:
        if pk is _MISSING:
            raise invalid("'pk' must be provided")
        return _success(self._change(db_name, schema_name, table_name, action, pk, [row])[0])

    def _change(
        self, db_name: str, schema_name: str | None, table_name: str, action: object, pk: object, rows: list
    ) -> list:
        table = _table(db_name, schema_name, table_name)
        key, rows = values("pk", pk), values("the row", rows)
        return read_rows(call(sql.change, self._place(), table, action, key, rows))


def described(columns: list) -> dict:
    """`fields` and `pk` of a table."""
    fields = [
        {
            "name": column.name,
            "type": column.data_type,
            "nullable": column.nullable,
            "pk": column.key_position > 0,
            "schema": json.loads(column.schema),
        }
        for column in columns
    ]
    key = sorted((column for column in columns if column.key_position), key=lambda column: column.key_position)
    return {"fields": fields, "pk": [column.name for column in key]}


def _success(detail: object) -> dict:
    return {"status": "success", "detail": detail}


def _table(db_name: object, schema_name: object, table_name: object) -> object:
    return sql.TableName(
        text("db_name", db_name or ""),
        text("schema_name", schema_name, optional=True),
        text("table_name", table_name),
    )


def _row(operation: str, args: tuple, kwargs: dict) -> dict:
    row = {}
    for part in (*args, kwargs):
        if not isinstance(part, dict):
            raise invalid(f"{operation}() takes the row as a dict or as keywords, not as {type(part).__name__}")
        row |= part
    return row


def _fields(fields: object) -> list[tuple[str, str]]:
    if fields is None:
        return []
    if isinstance(fields, dict):
        pairs = list(fields.items())
    elif isinstance(fields, (list, tuple)) and all(
        isinstance(f, dict) and {"name", "type"} <= f.keys() for f in fields
    ):
        pairs = [(field["name"], field["type"]) for field in fields]
    else:
        raise invalid('fields must be a dict of name to type, or a list of {"name": ..., "type": ...}')
    return [(text("the name of a field", name), text("the type of a field", kind)) for name, kind in pairs]
