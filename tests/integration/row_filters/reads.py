"""Ways to see rows of others."""

import pq
from place import DIALECTS, attempt

# Statements of one's own. `o` is the table, `c` another filtered one, `v` a view, `e` a copy in another schema, `s` the schema.

STATEMENTS = {
    "select": "SELECT * FROM {o}",
    "the other filtered table": "SELECT * FROM {c}",
    "or true": "SELECT * FROM {o} WHERE customer_id = 17 OR 1 = 1",
    "union": "SELECT id, note FROM {o} WHERE customer_id = 17 UNION ALL SELECT id, note FROM {o}",
    "union with a view": "SELECT id, note FROM {o} WHERE customer_id = 17 UNION SELECT id, note FROM {v}",
    "except": "SELECT id, note FROM {o} EXCEPT SELECT id, note FROM {o} WHERE customer_id = 17",
    "sub-query in from": "SELECT * FROM (SELECT * FROM {o}) AS x",
    "sub-query in select": "SELECT (SELECT max(note) FROM {o} WHERE customer_id = 18) AS note",
    "sub-query in where": "SELECT note FROM {o} WHERE id IN (SELECT id FROM {o} WHERE customer_id <> 17)",
    "correlated": "SELECT a.id, (SELECT b.note FROM {o} b WHERE b.id = a.id + 1) AS n FROM {o} a WHERE a.customer_id = 17",
    "self join": "SELECT b.note FROM {o} a JOIN {o} b ON a.id <> b.id WHERE a.customer_id = 17",
    "cross join": "SELECT b.* FROM {o} a, {o} b WHERE a.customer_id = 17",
    "cte": "WITH everything AS (SELECT * FROM {o}) SELECT * FROM everything",
    "cte of the table's name": "WITH orders AS (SELECT * FROM {e}) SELECT * FROM orders",
    "recursive cte": "WITH RECURSIVE r(n, note) AS (SELECT 1, note FROM {o} WHERE id = 2 UNION ALL SELECT n + 1, note FROM r WHERE n < 2) SELECT * FROM r",
    "view": "SELECT * FROM {v}",
    "other schema": "SELECT * FROM {e}",
    "comment in between": "SELECT/**/*/* a */FROM/**/{o}",
    "comment at the end": "SELECT * FROM {o} -- WHERE customer_id = 17",
    "comment in front": "-- nothing\n/* more */ SELECT * FROM {o}",
    "parentheses": "(SELECT * FROM {o})",
    "having": "SELECT note FROM {o} GROUP BY note HAVING count(*) > 0",
    "window": "SELECT max(note) OVER () AS m FROM {o}",
    "case": "SELECT CASE WHEN note LIKE 'THEIRS%' THEN note END AS n FROM {o}",
    "explain": "EXPLAIN SELECT * FROM {o}",
    "update": "UPDATE {o} SET note = 'taken' WHERE customer_id = 18",
    "update into mine": "UPDATE {o} SET customer_id = 17",
    "delete": "DELETE FROM {o}",
    "insert for others": "INSERT INTO {o} (id, customer_id, code, note) VALUES (90, 18, 'x', 'planted')",
    "insert select": "INSERT INTO {o} (id, customer_id, code, note) SELECT id + 100, 17, code, note FROM {o} WHERE customer_id = 18",
    "drop": "DROP TABLE {e}",
    "alter": "ALTER TABLE {o} RENAME TO moved",
    "create table as": "CREATE TABLE {s}.copied AS SELECT * FROM {o}",
    "create view": "CREATE VIEW {s}.mine AS SELECT * FROM {o}",
    "stacked": "SELECT 1 AS a; SELECT * FROM {o}",
    "stacked behind mine": "SELECT * FROM {o} WHERE customer_id = 17; DELETE FROM {o}",
    "empty in front": ";; SELECT * FROM {o}",
    "savepoint": "SAVEPOINT a",
    "begin": "BEGIN",
}
OF_DIALECT = {
    "postgres": {
        "table": "TABLE {o}",
        "only": "SELECT * FROM ONLY {o}",
        "lateral": "SELECT x.* FROM (SELECT 1) a, LATERAL (SELECT * FROM {o}) x",
        "row to json": "SELECT row_to_json(t)::text AS note FROM {o} t",
        "row to text": "SELECT CAST(t AS text) AS note FROM {o} t",
        "string_agg": "SELECT string_agg(note, ',') AS n FROM {o}",
        "query_to_xml": "SELECT query_to_xml('SELECT * FROM {o}', true, false, '')::text AS x",
        "table_to_xml": "SELECT table_to_xml('{o}', true, false, '')::text AS x",
        "unicode name": 'SELECT * FROM "{s}".U&"\\006frders"',
        "set role": "SET ROLE postgres",
        "set role and read": "SET ROLE postgres; SELECT * FROM {o}",
        "search_path": "SET search_path TO {other}",
        "set_config": "SELECT set_config('search_path', '{other}', false), (SELECT max(note) FROM {e}) AS n",
        "copy": "COPY {o} TO STDOUT",
        "copy to program": "COPY {o} TO PROGRAM 'cat > /dev/null'",
        "cursor": "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM {o}",
        "prepare": "PREPARE p AS SELECT * FROM {o}",
        "do": "DO $$ BEGIN UPDATE {o} SET note = 'taken'; END $$",
        "raise": "DO $$ BEGIN RAISE EXCEPTION '%', (SELECT max(note) FROM {o}); END $$",
        "error by cast": "SELECT CAST((SELECT max(note) FROM {o}) AS integer)",
        "update returning": "UPDATE {o} SET note = note RETURNING *",
        "delete in cte": "WITH gone AS (DELETE FROM {o} RETURNING *) SELECT * FROM gone",
        "upsert": "INSERT INTO {o} (id, customer_id) VALUES (2, 17) ON CONFLICT (id) DO UPDATE SET customer_id = 17 RETURNING *",
        "merge": "MERGE INTO {o} t USING (SELECT 2 AS id) x ON t.id = x.id WHEN MATCHED THEN UPDATE SET customer_id = 17",
        "truncate": "TRUNCATE {o}",
        "policy": "ALTER TABLE {o} DISABLE ROW LEVEL SECURITY",
        "statistics": "SELECT * FROM pg_catalog.pg_stats WHERE schemaname = '{s}'",
        "information_schema": "SELECT * FROM information_schema.tables",
        "temporary": "CREATE TEMP TABLE orders AS SELECT * FROM {o}",
        "function": "CREATE FUNCTION {s}.f() RETURNS SETOF {o} LANGUAGE sql AS 'SELECT * FROM {o}'",
        "rule": "CREATE RULE r AS ON DELETE TO {o} DO INSTEAD NOTHING",
        "lock": "LOCK TABLE {o}",
        "large object": "SELECT lo_from_bytea(0, (SELECT max(note) FROM {o})::bytea)",
    },
    "mysql": {
        "group_concat": "SELECT group_concat(note) AS n FROM {o}",
        "executable comment": "/*!50000 SELECT * FROM {o} */",
        "executable comment inside": "SELECT * FROM {o} WHERE customer_id = 17 /*!50000 OR 1 = 1 */",
        "executable comment of mariadb": "/*M!100000 SELECT * FROM {o} */",
        "use": "USE {other}",
        "handler": "HANDLER {o} OPEN",
        "set": "SET @x = (SELECT group_concat(note) FROM {o})",
        "outfile": "SELECT * FROM {o} INTO OUTFILE '/nonexistent/rows'",
        "show": "SHOW TABLES FROM {s}",
        "replace": "REPLACE INTO {o} (id, customer_id, code) VALUES (2, 17, 'x')",
        "on duplicate": "INSERT INTO {o} (id, customer_id) VALUES (2, 17) ON DUPLICATE KEY UPDATE customer_id = 17",
        "truncate": "TRUNCATE {o}",
        "information_schema": "SELECT * FROM information_schema.tables",
        "role": "SET ROLE ALL",
        "extractvalue": "SELECT extractvalue(1, concat(0x7e, (SELECT max(note) FROM {o})))",
        "load data": "LOAD DATA INFILE '/etc/hostname' INTO TABLE {o}",
        "prepared": "PREPARE p FROM 'SELECT * FROM {o}'",
        "delimiter": "BEGIN NOT ATOMIC SELECT * FROM {o}; END",
        "hex": "SELECT 0x41, note FROM {o} WHERE note <> 0x41",
    },
    "sqlite": {
        "brackets": "SELECT * FROM [{s}].[orders]",
        "backticks": "SELECT * FROM `{s}`.`orders`",
        "rowid": "SELECT rowid, note FROM {o}",
        "group_concat": "SELECT group_concat(note) AS n FROM {o}",
        "returning": "UPDATE {o} SET note = note RETURNING *",
        "replace": "REPLACE INTO {o} (id, customer_id) VALUES (2, 17)",
        "or replace": "INSERT OR REPLACE INTO {o} (id, customer_id) VALUES (2, 17)",
        "upsert": "INSERT INTO {o} (id, customer_id) VALUES (2, 17) ON CONFLICT (id) DO UPDATE SET customer_id = 17 RETURNING *",
        "attach": "ATTACH '{s}.db' AS mine",
        "master": "SELECT * FROM {s}.sqlite_master",
        "pragma": "PRAGMA table_info(orders)",
        "pragma function": "SELECT * FROM pragma_table_list",
        "vacuum": "VACUUM {s} INTO '/nonexistent/rows'",
        "trigger": "CREATE TRIGGER {s}.t AFTER INSERT ON orders BEGIN UPDATE orders SET customer_id = 17; END",
        "json": "SELECT json_group_array(note) AS n FROM {o}",
        "writable schema": "PRAGMA writable_schema = 1",
        "reindex": "REINDEX {o}",
    },
}


def add_statement(name, template, dialects):
    def run(place):
        values = {
            "o": place.orders, "c": place.clients, "v": place.view, "e": place.elsewhere, "s": place.schema, "other": place.other,
        }  # fmt: skip
        statement = template.format(**values)
        return place.fetch("dw", query=statement)

    attempt(f"query: {name}", dialects)(run)


for _name, _template in STATEMENTS.items():
    add_statement(_name, _template, DIALECTS)
for _dialect, _statements in OF_DIALECT.items():
    for _name, _template in _statements.items():
        add_statement(f"{_name} ({_dialect})", _template, (_dialect,))


@attempt("query: with positional params")
def _(p):
    return p.fetch("dw", query=f"SELECT * FROM {p.orders} WHERE customer_id = %s", params=[18])


@attempt("query: with named params")
def _(p):
    return p.fetch("dw", query=f"SELECT * FROM {p.orders} WHERE customer_id = :c", params={"c": 18})


@attempt("query: limit and offset of the host")
def _(p):
    return p.fetch("dw", query=f"SELECT * FROM {p.orders}", limit=100, offset=1)


@attempt("query: untouched")
def _(p):
    return p.db.fetch("dw", query=f"SELECT * FROM {p.orders}")


@attempt("query: as a stream")
def _(p):
    return [row for batch in p.db.fetch_stream("dw", query=f"SELECT * FROM {p.orders}") for row in batch]


@attempt("execute")
def _(p):
    return p.db.execute("dw", f"SELECT * FROM {p.orders}")


@attempt("execute: an update")
def _(p):
    return p.db.execute("dw", f"UPDATE {p.orders} SET note = 'taken'")


@attempt("execute_stream")
def _(p):
    return list(p.db.execute_stream("dw", f"SELECT * FROM {p.orders}"))


@attempt("trinoconnect: a query")
def _(p):
    return list(pq.trinoconnect().fetch(query=f"SELECT * FROM {p.orders}"))


@attempt("trinoconnect: execute")
def _(p):
    return pq.trinoconnect().execute(f"SELECT * FROM {p.orders}")


# Names of tables and schemas.


def add_table(name, table, schema=None, dialects=DIALECTS):
    def run(place):
        values = {"s": place.schema, "other": place.other, "orders": place.orders}
        in_schema = place.schema if schema is None else schema.format(**values)
        return place.fetch("dw", in_schema, table.format(**values))

    attempt(f"table: {name}", dialects)(run)


for _name, _table in {
    "a view": "all_orders",
    "a table without filter": "secrets",
    "upper case": "ORDERS",
    "title case": "Orders",
    "space behind": "orders ",
    "space in front": " orders",
    "tab behind": "orders\t",
    "new line behind": "orders\n",
    "NUL behind": "orders\0",
    "NUL and more behind": "orders\0x",
    "quoted": '"orders"',
    "back-quoted": "`orders`",
    "bracketed": "[orders]",
    "a quote inside": 'or"ders',
    "a quote doubled": 'orders""',
    "a back quote behind": "orders`",
    "with the schema": "{s}.orders",
    "with the schema quoted": '{s}"."orders',
    "with the schema back-quoted": "{s}`.`orders",
    "of another schema": "{other}.orders",
    "a second table": "orders, secrets",
    "an alias and a comment": 'orders" AS t0 --',
    "an alias and a comment back-quoted": "orders` AS t0 -- ",
    "a comment": "orders/**/",
    "a union": 'orders" AS t0 UNION SELECT * FROM "secrets" --',
    "a sub-query": "(SELECT * FROM {orders})",
    "a cyrillic letter": "\u043erders",
    "a full-width letter": "\uff4frders",
    "a zero-width space": "orders\u200b",
    "a combining mark": "o\u0308rders",
    "a dotless letter": "\u0131tems",
    "a kelvin sign": "boo\u212as",
    "empty": "",
    "very long": "orders" * 2000,
    "a star": "*",
    "a schema of its name": "schemata",
}.items():
    add_table(_name, _table)

for _name, _schema, _table, _dialects in [
    ("of another schema", "{other}", "orders", DIALECTS),
    ("in upper case", "SHOP", "orders", DIALECTS),
    ("with a space", "{s} ", "orders", DIALECTS),
    ("quoted", '"{s}"', "orders", DIALECTS),
    ("with the table", '{s}"."orders', "orders", DIALECTS),
    ("with a comment", '{s}"."secrets" --', "orders", DIALECTS),
    ("empty", "", "orders", DIALECTS),
    ("public", "public", "orders", DIALECTS),
    ("information_schema tables", "information_schema", "tables", DIALECTS),
    ("information_schema columns", "information_schema", "columns", ("postgres", "mysql")),
    ("pg_catalog statistics", "pg_catalog", "pg_stats", ("postgres",)),
    ("pg_catalog classes", "pg_catalog", "pg_class", ("postgres",)),
    ("pg_temp", "pg_temp", "orders", ("postgres",)),
    ("pg_toast", "pg_toast", "orders", ("postgres",)),
    ("mysql users", "mysql", "user", ("mysql",)),
    ("performance_schema", "performance_schema", "events_statements_history", ("mysql",)),
    ("sqlite_master", "{s}", "sqlite_master", ("sqlite",)),
    ("sqlite_schema", "{s}", "sqlite_schema", ("sqlite",)),
    ("temp", "temp", "orders", ("sqlite",)),
    ("temp schema", "temp", "sqlite_temp_master", ("sqlite",)),
    ("main", "main", "orders", ("sqlite",)),
    ("pragma", "pragma", "pragma_table_list", ("sqlite",)),
]:
    add_table(f"schema {_name}", _table, _schema, _dialects)


@attempt("table: pragma without a schema", ("sqlite",))
def _(p):
    return p.fetch("dw", None, "pragma_table_list")


@attempt("table: a view without a schema")
def _(p):
    return p.fetch("dw", None, "all_orders")


@attempt("table: a copy without a schema")
def _(p):
    return p.fetch("dw", None, "copies")


# Arguments of a table read. Each of these may show what is ours.


def add_read(name, table="orders", **options):
    attempt(f"read: {name}")(lambda p: p.fetch("dw", p.schema, table, **options))


for _name, _where in {
    "others' value": {"customer_id": 18},
    "both values": {"customer_id": [17, 18]},
    "all values and null": {"customer_id": [17, 18, 19, None]},
    "null": {"customer_id": None},
    "a dict of operators": {"customer_id": {"$ne": 17}},
    "a dict of operators in a list": {"customer_id": [{"$gt": 0}]},
    "nested lists": {"customer_id": [[17, 18], [19]]},
    "a text with or": {"customer_id": "17 OR 1=1"},
    "a text with a quote": {"note": "' OR '1'='1"},
    "a text with a backslash": {"note": "\\' OR 1=1 -- "},
    "a boolean": {"id": True},
    "a float": {"id": 2.0},
    "a text for a number": {"id": "2"},
    "a huge number": {"id": 10**40},
    "zero for a text": {"note": 0},
    "a list with null": {"note": ["THEIRS-2", None]},
    "many values": {"id": list(range(500))},
    "a key with or": {"customer_id) OR (1": 1},
    "a key with a quote": {'id" = 2 OR "id': 2},
    "a key with a back quote": {"id` = 2 OR `id": 2},
    "a key with an alias": {"t0.id": 2},
    "a key with another case": {"CUSTOMER_ID": 18},
    "a key with a space": {"customer_id ": 18},
    "a key with NUL": {"id\0": 2},
    "a key with a comment": {'id" = 2 -- ': 2},
    "an empty key": {"": 1},
    "a row as a key": {"t0": 1},
    "the row number": {"rowid": 2},
    "a physical address": {"ctid": "(0,2)"},
}.items():
    add_read(f"where {_name}", where=_where)

for _name, _order in {
    "a statement": "id; DELETE FROM orders",
    "a sub-query": "(SELECT note FROM orders LIMIT 1)",
    "a number": "1",
    "a comment": "id --",
    "a quote": 'id" LIMIT 100 --',
    "a back quote": "id` LIMIT 100 -- ",
    "a union": "id UNION SELECT * FROM secrets",
    "the filter's column": "-customer_id",
    "a function": "pg_sleep",
    "a row": "t0",
}.items():
    add_read(f"order by {_name}", order_by=_order)

add_read("limit without end", limit=2**63)
add_read("an offset over the own rows", offset=1, limit=100)
add_read("no limit", limit=0)
add_read("decimals", decimals=True)
add_read("filled", fillna_with="THEIR")


@attempt("read: as a stream")
def _(p):
    return [row for batch in p.db.fetch_stream("dw", p.schema, "orders") for row in batch]


@attempt("read: untouched")
def _(p):
    return p.db.fetch("dw", p.schema, "orders")


@attempt("read: without a schema")
def _(p):
    return p.fetch("dw", None, "orders")


@attempt("read: with the connection as database")
def _(p):
    return p.fetch("dw", p.schema, "orders", where={"id": 2})


@attempt("read: with a table and a query")
def _(p):
    return p.fetch("dw", p.schema, "orders", f"SELECT * FROM {p.orders}")


# Whose rows are told apart by a text: `acme` is ours, and others' are alike.

for _name, _where in {
    "all": None,
    "upper case": {"customer": "ACME"},
    "padding": {"customer": "acme "},
    "an accent": {"customer": "acmé"},
    "a decomposed accent": {"customer": "acme\u0301"},
    "zero": {"customer": 0},
    "a list": {"customer": ["ACME", "acme ", "Acme", "0", "abc"]},
    "true": {"customer": True},
    "hexadecimal": {"customer": "0x1"},
    "an exponent": {"customer": "1e0"},
}.items():
    add_read(f"clients, {_name}", "clients", where=_where)
