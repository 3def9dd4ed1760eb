"""Ways to change rows of others, to get at them by other doors, and to get past `pq`."""

import marshal

import pq
from place import attempt
from pq._host import read_rows, sql

THEIRS, MINE, NEW = 2, 1, 90


def add_insert(name, rows, table="orders"):
    attempt(f"insert: {name}")(lambda p: p.db.insert("dw", p.schema, table, rows))


for _name, _rows in {
    "for others": {"id": NEW, "customer_id": 18},
    "for nobody": {"id": NEW, "customer_id": None},
    "for others as a text": {"id": NEW, "customer_id": "18"},
    "as a float": {"id": NEW, "customer_id": 18.0},
    "as a list": {"id": NEW, "customer_id": [18]},
    "as a dict": {"id": NEW, "customer_id": {"value": 18}},
    "as an expression": {"id": NEW, "customer_id": "17 + 1"},
    "over others' key": {"id": THEIRS, "note": "taken"},
    "over others' code": {"id": NEW, "code": "c2"},
    "upper case column": {"id": NEW, "CUSTOMER_ID": 18},
    "mixed case column": {"id": NEW, "Customer_ID": 18},
    "two spellings": {"id": NEW, "customer_id": 17, "CUSTOMER_ID": 18},
    "two spellings, other order": {"CUSTOMER_ID": 18, "id": NEW, "customer_id": 17},
    "a dotted i": {"id": NEW, "customer_\u0130d": 18},
    "a full-width letter": {"id": NEW, "\uff43ustomer_id": 18},
    "a space behind the column": {"id": NEW, "customer_id ": 18},
    "NUL behind the column": {"id": NEW, "customer_id\0": 18},
    "a quote in the column": {"id": NEW, 'customer_id", "note': 18},
    "a back quote in the column": {"id": NEW, "customer_id`, `note": 18},
    "a qualified column": {"id": NEW, "orders.customer_id": 18},
    "the row number": {"rowid": THEIRS, "customer_id": 17},
    "one of several": [{"id": NEW}, {"id": NEW + 1, "customer_id": 18}],
    "several over others": [{"id": NEW}, {"id": THEIRS}],
    "without a column": {},
}.items():
    add_insert(_name, _rows)

add_insert("of a client in upper case", {"id": NEW, "customer": "ACME"}, "clients")
add_insert("of a padded client", {"id": NEW, "customer": "acme "}, "clients")
add_insert("into a view", {"id": NEW, "customer_id": 18}, "all_orders")
add_insert("into a table without filter", {"id": NEW, "note": "planted"}, "secrets")


def add_update(name, pk, values, table="orders"):
    attempt(f"update: {name}")(lambda p: p.db.update("dw", p.schema, table, pk, values))
    attempt(f"upsert: {name}")(lambda p: p.db.upsert("dw", p.schema, table, pk, values))


for _name, _pk, _values in [
    ("others' row", THEIRS, {"note": "taken"}),
    ("others' row into mine", THEIRS, {"customer_id": 17}),
    ("mine into others'", MINE, {"customer_id": 18}),
    ("mine into nobody's", MINE, {"customer_id": None}),
    ("mine in upper case", MINE, {"CUSTOMER_ID": 18}),
    ("mine in two spellings", MINE, {"customer_id": 17, "CUSTOMER_ID": 18}),
    ("mine with a dotted i", MINE, {"customer_\u0130d": 18}),
    ("mine to others' key", MINE, {"id": THEIRS}),
    ("mine to others' code", MINE, {"code": "c2"}),
    ("mine by a list", MINE, {"customer_id": [18]}),
    ("a key with or", "2 OR 1=1", {"note": "taken"}),
    ("a key of text", "2", {"note": "taken"}),
    ("a key of text that begins with the number", "2x", {"note": "taken"}),
    ("a key of float", 2.0, {"note": "taken"}),
    ("a list of keys", [MINE, THEIRS], {"note": "taken"}),
    ("a key of true", True, {"note": "taken"}),
    ("a dict of operators", {"id": {"$ne": MINE}}, {"note": "taken"}),
    ("a dict with the filter's column", {"id": THEIRS, "customer_id": 18}, {"note": "taken"}),
    ("a dict in upper case", {"ID": THEIRS}, {"note": "taken"}),
    ("a dict of another column", {"customer_id": 18}, {"note": "taken"}),
    ("no key", None, {"note": "taken"}),
    ("an expression as value", THEIRS, {"note": "(SELECT note FROM orders)"}),
    ("a column with an assignment", MINE, {'note" = "note", "customer_id': 18}),
    ("a column with a comment", MINE, {'note" = 1 --': 18}),
    ("the row number", MINE, {"rowid": THEIRS}),
    ("others' row, nothing but its key", THEIRS, {"id": THEIRS}),
]:
    add_update(_name, _pk, _values)

add_update("a client in upper case", 12, {"note": "taken"}, "clients")
add_update("a client of the same letters", 13, {"note": "taken"}, "clients")
add_update("a client into another", 11, {"customer": "ACME"}, "clients")
add_update("in a view", THEIRS, {"note": "taken"}, "all_orders")
add_update("in a table without filter", 1, {"note": "taken"}, "secrets")


@attempt("upsert: a new row of others")
def _(p):
    return p.db.upsert("dw", p.schema, "orders", NEW, {"customer_id": 18})


@attempt("upsert: a new row with others' code")
def _(p):
    return p.db.upsert("dw", p.schema, "orders", NEW, {"code": "c2"})


# What a constraint says of the row that is in the way.
BETWEEN = {"low": "A", "high": "Z"}


@attempt("insert: where a row of others is in the way", ["postgres"])
def _(p):
    return p.db.insert("dw", p.schema, "spans", {"id": NEW, **BETWEEN})


@attempt("update: to where a row of others is in the way", ["postgres"])
def _(p):
    return p.db.update("dw", p.schema, "spans", MINE, BETWEEN)


@attempt("transaction: ended by a row of others", ["postgres"])
def _(p):
    with p.db.transaction():
        try:
            p.db.insert("dw", p.schema, "spans", {"id": NEW, **BETWEEN})
        except Exception:
            pass
        return p.fetch("dw", p.schema, "orders")


for _name, _pk in {"others' row": THEIRS, "nobody's row": 4, "a key with or": "2 OR 1=1", "a list": [2, 3], "a text": "2"}.items():
    attempt(f"delete: {_name}")(lambda p, pk=_pk: p.db.delete("dw", p.schema, "orders", pk))


@attempt("delete: in a view")
def _(p):
    return p.db.delete("dw", p.schema, "all_orders", THEIRS)


@attempt("write: over others")
def _(p):
    return p.db.write(p.schema, "orders", {"id": THEIRS, "customer_id": 17}, pk="id", db_name="dw")


@attempt("write: more columns")
def _(p):
    return p.db.write(p.schema, "orders", {"id": NEW, "customer_id": 17, "extra": 1}, db_name="dw")


@attempt("write: without a key")
def _(p):
    return p.db.write(p.schema, "copies", {"id": NEW, "note": "planted"}, db_name="dw")


@attempt("write: a new table")
def _(p):
    return p.db.write(p.schema, "made", {"id": 1}, db_name="dw")


@attempt("create_table: beside")
def _(p):
    return p.db.create_table("dw", p.schema, "made", {"id": "integer"})


@attempt("create_table: in its place")
def _(p):
    return p.db.create_table("dw", "", "orders", {"id": "integer"})


@attempt("create_schema")
def _(p):
    return p.db.create_schema("dw", p.schema + "_made")


# Metadata, which leads to names, which lead to rows.


@attempt("metadata: every table of list_databases")
def _(p):
    tables = [(d["name"], t["id"]) for d in pq.list_databases() for t in d["tables"]]
    return [list(pq.trinoconnect().fetch(table_id=id)) for _, id in tables]


@attempt("metadata: every name_in_query")
def _(p):
    names = [t["name_in_query"] for d in pq.list_databases() for t in d["tables"]]
    return [p.fetch("dw", query=f"SELECT * FROM {name}") for name in names]


@attempt("metadata: load_table of a view")
def _(p):
    return list(pq.load_table("dw", p.schema, "all_orders"))


@attempt("metadata: a table_id of a view")
def _(p):
    return list(pq.trinoconnect().fetch(table_id=f"dw.{p.schema}.all_orders"))


@attempt("metadata: a table_id of the other connection")
def _(p):
    return list(pq.trinoconnect().fetch(table_id=f"dw_raw.{p.schema}.orders"))


@attempt("metadata: a table_id with an encoded dot")
def _(p):
    return list(pq.trinoconnect().fetch(table_id=f"dw.{p.schema}.%6Frders"))


# Other connections to the same database.


@attempt("connection: another one")
def _(p):
    return list(pq.dbconnect("dw_raw").fetch("dw_raw", p.schema, "orders"))


@attempt("connection: a query on another one")
def _(p):
    return list(pq.dbconnect("dw_raw").fetch("dw_raw", query=f"SELECT * FROM {p.orders}"))


@attempt("connection: an update on another one")
def _(p):
    return pq.dbconnect("dw_raw").update("dw_raw", p.schema, "orders", THEIRS, {"note": "taken"})


@attempt("connection: the default one")
def _(p):
    return list(pq.dbconnect(pq.DW_NAME).fetch("", p.schema, "orders"))


@attempt("connection: its name in upper case")
def _(p):
    return list(pq.dbconnect("DW").fetch("DW", p.schema, "orders"))


@attempt("connection: another one's name as database")
def _(p):
    return p.fetch("dw_raw", p.schema, "orders")


@attempt("connection: a transaction of another one")
def _(p):
    raw = pq.dbconnect("dw_raw")
    with raw.transaction():
        return list(raw.fetch("", p.schema, "orders"))


# Transactions.


@attempt("transaction: a read")
def _(p):
    with p.db.transaction():
        return p.fetch("dw", p.schema, "orders")


@attempt("transaction: a view")
def _(p):
    with p.db.transaction():
        return p.fetch("dw", p.schema, "all_orders")


@attempt("transaction: a statement")
def _(p):
    with p.db.transaction():
        return p.db.execute("dw", f"SELECT * FROM {p.orders}")


@attempt("transaction: an update of others")
def _(p):
    with p.db.transaction():
        return p.db.update("dw", p.schema, "orders", THEIRS, {"note": "taken"})


@attempt("transaction: a new row that moves away")
def _(p):
    with p.db.transaction():
        p.db.insert("dw", p.schema, "orders", {"id": NEW})
        try:
            p.db.update("dw", p.schema, "orders", NEW, {"customer_id": 18})
        except pq.exceptions.PeliqanClientException as error:
            return error.code


@attempt("transaction: an upsert of others that is caught")
def _(p):
    with p.db.transaction():
        try:
            p.db.upsert("dw", p.schema, "orders", THEIRS, {"note": "taken"})
        except pq.exceptions.PeliqanClientException as error:
            return error.code


@attempt("transaction: deleted and taken")
def _(p):
    with p.db.transaction():
        p.db.delete("dw", p.schema, "orders", THEIRS)
        p.db.insert("dw", p.schema, "orders", {"id": THEIRS})


# The host's functions without `pq`.


def passed(value):
    return marshal.dumps(value, 2)


def pairs(*fields):
    """A dict that may have a key twice."""
    return b"{" + b"".join(passed(name) + passed(value) for name, value in fields) + b"0"


def one(record):
    return b"[\1\0\0\0" + record


def select(p, table="orders", schema=True, query=None, where=None, order=(), database=""):
    schema = p.schema if schema is True else schema
    where = passed(None) if where is None else where
    return sql.Select(database, schema, table, query, passed(None), where, list(order), None, None, False, False, False)


def raw_rows(opened):
    rows = []
    while batch := sql.next(opened.cursor):
        rows += read_rows(batch)
    return rows


def raw_fetch(p, place=None, **options):
    return raw_rows(sql.fetch(place or sql.Place("dw", None), select(p, **options)))


@attempt("host: fetch")
def _(p):
    return raw_fetch(p)


@attempt("host: fetch of a view")
def _(p):
    return raw_fetch(p, table="all_orders")


@attempt("host: a query")
def _(p):
    return raw_fetch(p, table=None, schema=None, query=f"SELECT * FROM {p.orders}")


@attempt("host: a query with a schema")
def _(p):
    return raw_fetch(p, table=None, query=f"SELECT * FROM {p.orders}")


@attempt("host: a table and a query")
def _(p):
    return raw_fetch(p, query=f"SELECT * FROM {p.orders}")


@attempt("host: neither table nor query")
def _(p):
    return raw_fetch(p, table=None)


@attempt("host: a key twice in where")
def _(p):
    return raw_fetch(p, where=pairs(("customer_id", 18), ("customer_id", [17, 18, 19, None])))


@attempt("host: where is a list")
def _(p):
    return raw_fetch(p, where=passed([{"customer_id": 18}]))


@attempt("host: another connection")
def _(p):
    return raw_fetch(p, sql.Place("dw_raw", None))


@attempt("host: another connection in a transaction of this one")
def _(p):
    return raw_fetch(p, sql.Place("dw_raw", sql.begin("dw")))


@attempt("host: a guessed transaction")
def _(p):
    return raw_fetch(p, sql.Place("dw", 1))


@attempt("host: a guessed cursor")
def _(p):
    found = []
    for number in [*range(200), 2**31, 2**32 - 1]:
        if batch := sql.next(number):
            found += read_rows(batch)
    return found


@attempt("host: a foreign result, untouched")
def _(p):
    rows = p.db.fetch("dw", p.schema, "orders")
    rows._opened = sql.Opened(1, [])
    return rows


def change(p, action, key, rows, table="orders", schema=None):
    name = sql.TableName("", schema or p.schema, table)
    return read_rows(sql.change(sql.Place("dw", None), name, action, key, rows))


@attempt("host: insert with a key twice")
def _(p):
    return change(p, sql.Action.INSERT, passed(None), one(pairs(("id", 90), ("customer_id", 17), ("customer_id", 18))))


@attempt("host: update with a key twice")
def _(p):
    return change(p, sql.Action.UPDATE, pairs(("id", 1), ("id", 2)), passed([{"note": "taken"}]))


@attempt("host: update of several rows")
def _(p):
    return change(p, sql.Action.UPDATE, passed(2), passed([{"note": "a"}, {"note": "taken"}]))


@attempt("host: update with rows as a key")
def _(p):
    return change(p, sql.Action.UPDATE, passed([1, 2]), passed([{"note": "taken"}]))


@attempt("host: delete with a value")
def _(p):
    return change(p, sql.Action.DELETE, passed(2), passed([{"customer_id": 17}]))


@attempt("host: upsert with null in the key")
def _(p):
    return change(p, sql.Action.UPSERT, passed({"id": None}), passed([{"id": 2, "note": "taken"}]))


@attempt("host: a change in another schema")
def _(p):
    return change(p, sql.Action.UPDATE, passed(2), passed([{"note": "taken"}]), schema=p.other)


@attempt("host: write")
def _(p):
    name, records = sql.TableName("", p.schema, "orders"), passed([{"id": THEIRS, "customer_id": 17}])
    return sql.write(sql.Place("dw", None), name, records, "null", ["id"])


@attempt("host: describe and list")
def _(p):
    sql.describe(sql.Place("dw", None), sql.TableName("", p.schema, "secrets"))
    return raw_fetch(p, table="secrets")


@attempt("host: pq is changed")
def _(p):
    import pq._changes
    import pq._connection

    pq._connection._select = lambda *a, **k: select(p, table=None, schema=None, query=f"SELECT * FROM {p.orders}")
    return p.fetch("dw", p.schema, "orders")
