"""What databases, schemas and tables there are.

Ids are made from names and stay the same as long as the names do: `connection.schema` and `connection.schema.table`,
with a `.` or `%` of a name percent-encoded. The id of a database is that of its connection.
"""

from urllib.parse import quote, unquote

from pq._arguments import call, text
from pq._changes import described
from pq._errors import invalid
from pq._host import sql
from pq.exceptions import PeliqanClientException


def list_databases() -> list[dict]:
    """The tenant's databases: `{id, name, tables, schemas, is_datawarehouse, dialect, error}`.

    `error` says why `tables` and `schemas` are empty when a database cannot be asked; it is None otherwise.
    """
    return [_database(database) for database in call(sql.list_databases, None)]


def get_schema(schema_id: str) -> dict:
    """A schema: `{id, name, database_id, tables}`."""
    connection, name = parts_of("schema_id", schema_id, 2)
    [database] = call(sql.list_databases, connection)
    if database.error is not None:
        raise PeliqanClientException(database.error, "ERROR_DATABASE_UNAVAILABLE")
    for schema in database.schemas:
        if schema.name == name:
            tables = _tables(database, schema)
            return {"id": schema_id, "name": name, "database_id": database.id, "tables": tables}
    raise PeliqanClientException(f"unknown schema {name!r:.80}", "ERROR_SCHEMA_DOES_NOT_EXIST")


def get_table(table_id: str) -> dict:
    """A table: `{id, name, schema_id, schema_name, database_name, all_fields, pk}`.

    `all_fields` are as `get_table_schema` gives them.
    """
    connection, schema, name = parts_of("table_id", table_id, 3)
    columns = call(sql.describe, sql.Place(connection, None), sql.TableName("", schema, name))
    table = described(columns)
    return {
        "id": table_id,
        "name": name,
        "schema_id": _id(connection, schema),
        "schema_name": schema,
        "database_name": connection,
        "all_fields": table["fields"],
        "pk": table["pk"],
    }


def parts_of(what: str, given: object, n_parts: int) -> list[str]:
    """The names that an id was made from."""
    parts = [unquote(part) for part in text(what, given).split(".")]
    if len(parts) != n_parts or not all(parts):
        raise invalid(f"{what} {given!r:.80} is none that pq.list_databases() gives")
    return parts


def _id(*parts: str) -> str:
    return ".".join(quote(part, safe=" ").replace(".", "%2E") for part in parts)


def _database(database: object) -> dict:
    return {
        "id": database.id,
        "name": database.name,
        "tables": [table for schema in database.schemas for table in _tables(database, schema)],
        "schemas": [{"id": _id(database.name, schema.name), "name": schema.name} for schema in database.schemas],
        "is_datawarehouse": database.is_default,
        "dialect": database.dialect,
        "error": database.error,
    }


def _tables(database: object, schema: object) -> list[dict]:
    mark = "`" if database.dialect == "mysql" else '"'

    def quoted(name: str) -> str:
        return f"{mark}{name.replace(mark, mark * 2)}{mark}"

    return [
        {
            "id": _id(database.name, schema.name, name),
            "name": name,
            "schema_id": _id(database.name, schema.name),
            "name_in_query": f"{quoted(schema.name)}.{quoted(name)}",
        }
        for name in schema.tables
    ]
