//! Changing databases from inside the sandbox.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    data::{app_with_accounts, run},
    support::{Answer, TestApp, example},
};

/// A host with an empty schema of its own on PostgreSQL, as connection `dw_2`.
struct Postgres {
    app: TestApp,
    schema: String,
}

impl Postgres {
    async fn new(name: &str) -> Self {
        // These tests are not about time, and machines are busy.
        let app = TestApp::with(|config| {
            config.limits.deadline = Duration::from_secs(60);
            config.limits.sql.statement_time = Duration::from_secs(30);
        })
        .await;
        let acme = app.acme().await;
        app.connection(&acme, "dw_2", "postgres://postgres@127.0.0.1:5432/test").await;
        let schema = format!("pqwrites_{name}_{}", std::process::id());
        let postgres = Self { app, schema };
        postgres.drop_schema("before").await;
        postgres
    }

    async fn drop_schema(&self, when: &str) {
        let sql = format!("DROP SCHEMA IF EXISTS {} CASCADE", self.schema);
        run(&self.app, &format!("drop_{when}"), &format!("db.execute('dw_2', '{sql}')\nreturn []")).await;
    }
}

/// Runs the same script on SQLite and on PostgreSQL, with `s` as the name of a schema that is not there yet.
async fn run_on_both(name: &str, body: &str, expected: &Value) {
    let sqlite = app_with_accounts().await;
    assert_eq!(run(&sqlite, name, &format!("s = 'fresh'\n{}", body.trim())).await, *expected, "SQLite");
    let postgres = Postgres::new(name).await;
    let script = format!("s = '{}'\n{}", postgres.schema, body.trim());
    assert_eq!(run(&postgres.app, name, &script).await, *expected, "PostgreSQL");
    postgres.drop_schema("after").await;
    sqlite.assert_rewound();
    postgres.app.assert_rewound();
}

#[tokio::test]
async fn rows_are_inserted_updated_upserted_and_deleted() {
    let body = "
db.create_schema('dw_2', s)
made = db.create_table('dw_2', s, 't', [{'name': 'id', 'type': 'integer'}, {'name': 'name', 'type': 'text'}, {'name': 'data', 'type': 'json'}], pk='id')
one = db.insert('dw_2', s, 't', {'name': 'a'}, data={'x': [1]})
many = db.insert('dw_2', s, 't', [{'name': 'b'}, {'name': 'c', 'data': None}])
up = db.update('dw_2', s, 't', 1, name='é')
new = db.upsert('dw_2', s, 't', 7, {'name': 'g'})
kept = db.upsert('dw_2', s, 't', 7, data=5)
gone = db.delete('dw_2', s, 't', 2)
return [made['pk'], one, many['detail'], up['detail'], new['detail'], kept['detail'], gone['detail'],
        [r['id'] for r in db.fetch('dw_2', s, 't', order_by='id')]]
";
    let row = |id: i64, name: &str, data: Value| json!({"id": id, "name": name, "data": data});
    let expected = json!([
        ["id"],
        {"status": "success", "detail": row(1, "a", json!({"x": [1]}))},
        [row(2, "b", Value::Null), row(3, "c", Value::Null)],
        row(1, "é", json!({"x": [1]})), row(7, "g", Value::Null), row(7, "g", json!(5)), row(2, "b", Value::Null),
        [1, 3, 7],
    ]);
    run_on_both("rows", body, &expected).await;
}

#[tokio::test]
async fn execute_gives_a_header_and_lists() {
    let body = "
db.create_schema('dw_2', s)
return [
    db.execute('dw_2', f'CREATE TABLE {s}.t (id INTEGER PRIMARY KEY, v INTEGER)'),
    db.execute('dw_2', f'INSERT INTO {s}.t VALUES (%s, %s), (2, 20)', params=[1, 10]),
    db.execute('dw_2', f'SELECT id, v, v AS v FROM {s}.t WHERE id = :id', {'id': 1}),
    db.execute('dw_2', f'SELECT id FROM {s}.t WHERE id = 99'),
    list(db.execute_stream('dw_2', f'SELECT id FROM {s}.t ORDER BY id')),
    list(db.fetch_stream('dw_2', s, 't', where={'id': 99})),
    db.get_table_schema('dw_2', s, 't')['fields'][0]['name'],
]
";
    let expected = json!([
        {"status": "success", "detail": []},
        {"status": "success", "detail": []},
        {"status": "success", "detail": [["id", "v", "v_2"], [1, 10, 10]]},
        {"status": "success", "detail": [["id"]]},
        [{"status": "success", "detail": [["id"], [1], [2]]}],
        [[]],
        "id",
    ]);
    run_on_both("execute", body, &expected).await;
}

#[tokio::test]
async fn write_keeps_what_it_is_given() {
    let body = "
import datetime, decimal
first = db.write(s, 'events', {'id': 1, 'at': datetime.date(2024, 1, 2), 'price': decimal.Decimal('1.50'), 'nested': {'a': [1]}}, pk='id')
db.write(s, 'events', ({'id': 1, 'nested': []}, {'id': 2, 'extra': True}), pk=['id'], db_name='dw_2', transformer_mode='lossless')
return [first['status'], sorted((dict(r) for r in db.fetch('dw_2', s, 'events')), key=lambda r: r['id'])]
";
    let expected = json!(["success", [
        {"id": 1, "at": null, "price": null, "nested": [], "extra": null},
        {"id": 2, "at": null, "price": null, "nested": null, "extra": true},
    ]]);
    run_on_both("write", body, &expected).await;
}

#[tokio::test]
async fn a_transaction_is_all_or_nothing() {
    let body = "
db.create_schema('dw_2', s)
db.create_table('dw_2', s, 't', {'id': 'integer', 'v': 'integer'}, pk='id')
def total(): return [r['v'] for r in db.fetch('dw_2', s, 't', order_by='id')]
other = pq.dbconnect('dw_2')
out = []
with db.transaction():
    db.insert('dw_2', s, 't', id=1, v=1)
    db.execute('dw_2', f'UPDATE {s}.t SET v = v + 1')
    out.append([total(), len(other.fetch('dw_2', s, 't'))])
try:
    with db.transaction() as tx:
        tx.insert('dw_2', s, 't', id=2, v=2)
        raise KeyError('x')
except KeyError as e:
    out.append(str(e))
out.append(total())
def code(f):
    try: f()
    except pq.exceptions.PeliqanClientException as e: return e.code
def swallowed():
    with db.transaction():
        db.update('dw_2', s, 't', 1, v=9)
        try: db.insert('dw_2', s, 't', id=1, v=1)
        except Exception as e: out.append(e.code)
def nested():
    with db.transaction():
        with db.transaction(): pass
def by_hand():
    with db.transaction(): db.execute('dw_2', 'COMMIT')
def after():
    with db.transaction(): db.insert('dw_2', s, 't', id=3, v=3)
return out + [code(swallowed), code(nested), code(by_hand), code(after), total()]
";
    let expected = json!([
        [[2], 0],
        "'x'",
        [2],
        "ERROR_CONSTRAINT_VIOLATED",
        "ERROR_TRANSACTION_OVER",
        "ERROR_NOT_ALLOWED",
        "ERROR_NOT_ALLOWED",
        null,
        [2, 3],
    ]);
    run_on_both("transaction", body, &expected).await;
}

#[tokio::test]
async fn the_end_of_a_request_rolls_back() {
    for postgres in [false, true] {
        let host = if postgres { Some(Postgres::new("unfinished").await) } else { None };
        let sqlite = app_with_accounts().await;
        let (app, schema) = host.as_ref().map_or((&sqlite, "salesforce"), |host| (&host.app, host.schema.as_str()));
        if postgres {
            run(app, "make", &format!("db.create_schema('dw_2', '{schema}')\ndb.create_table('dw_2', '{schema}', 'accounts', {{'id': 'integer'}}, 'id')\nreturn []")).await;
        }
        let before = run(app, "before", &format!("return [len(db.fetch('dw_2', '{schema}', 'accounts'))]")).await;
        let begin = format!("db.transaction().__enter__()\ndb.insert('dw_2', '{schema}', 'accounts', id=50)\n");
        assert_eq!(run(app, "leave", &format!("{begin}return [1]")).await, json!([1]));
        let acme = app.acme().await;
        for (name, end) in
            [("raise", "    raise KeyError\n"), ("exit", "    raise SystemExit\n"), ("loop", "    while True: pass\n")]
        {
            let script = format!(
                "def handler(request):\n    db = pq.dbconnect('dw_2')\n    db.transaction().__enter__()\n    db.insert('dw_2', '{schema}', 'accounts', id=50)\n{end}"
            );
            app.serve(&acme, name, &script).await;
            assert_ne!(app.get(&format!("/acme/{name}")).await.status, 200);
        }
        // The lock is free, and the row is not there.
        let after = run(app, "after", &format!("db.insert('dw_2', '{schema}', 'accounts', id=50)\nreturn [len(db.fetch('dw_2', '{schema}', 'accounts')) - 1]")).await;
        assert_eq!(after, before);
        if let Some(host) = host {
            host.drop_schema("after").await;
        }
    }
}

#[tokio::test]
async fn what_cannot_be_done_raises_with_a_code() {
    let app = app_with_accounts().await;
    let acme = app.acme().await;
    app.connection(&acme, "ro", "sqlite:acme?mode=ro").await;
    app.connection(&acme, "ro2", "sqlite:acme?mode=ro").await;
    for (index, (expression, code, text)) in [
        ("db.update('dw_2', 'salesforce', 'accounts')", "ERROR_INVALID_ARGUMENT", "'pk' must be provided"),
        ("db.update('dw_2', 'salesforce', 'accounts', 99, name='x')", "ERROR_ROW_DOES_NOT_EXIST", "id = 99"),
        ("db.update('dw_2', 'salesforce', 'accounts', [1], name='x')", "ERROR_INVALID_ARGUMENT", "primary key"),
        ("db.insert('dw_2', 'salesforce', 'accounts', 5)", "ERROR_INVALID_ARGUMENT", "not as int"),
        ("db.insert('dw_2', 'salesforce', 'accounts', [1])", "ERROR_INVALID_ARGUMENT", "list of dicts"),
        ("db.insert('dw_2', 'salesforce', 'accounts', name=object())", "ERROR_INVALID_ARGUMENT", "the type object"),
        ("db.insert('dw_2', 'salesforce', 'accounts', name='\\ud800')", "ERROR_INVALID_ARGUMENT", "valid Unicode"),
        ("db.insert('dw_2', 'salesforce', 'accounts', revenue=float('nan'))", "ERROR_INVALID_ARGUMENT", "SQLite has no NaN"),
        ("db.insert('dw_2', 'salesforce', 'accounts', id=1)", "ERROR_CONSTRAINT_VIOLATED", "UNIQUE"),
        ("db.insert('dw_2', 'salesforce', 'nope', id=1)", "ERROR_TABLE_DOES_NOT_EXIST", "salesforce.nope"),
        ("db.insert('dw_2', 'nope', 'accounts', id=1)", "ERROR_SCHEMA_DOES_NOT_EXIST", "nope"),
        ("db.insert('nope', 'salesforce', 'accounts', id=1)", "ERROR_DATABASE_DOES_NOT_EXIST", "nope"),
        ("db.insert('dw_2', 'salesforce', 'accounts', nope=1)", "ERROR_COLUMN_DOES_NOT_EXIST", "nope"),
        ("db.write('salesforce', 'x', 5)", "ERROR_INVALID_ARGUMENT", "list or tuple of dicts"),
        ("db.write('salesforce', 'x', {'a': 'x' * 11_000_000})", "ERROR_INPUT_TOO_LARGE", "10485760"),
        ("db.write('salesforce', 'x', {'a': eval('[' * 90 + ']' * 90), 'b': __import__('functools').reduce(lambda a, _: [a], range(200), 1)})", "ERROR_INVALID_ARGUMENT", "nested"),
        ("db.create_table('dw_2', 'salesforce', 'accounts', {'a': 'text'})", "ERROR_ALREADY_EXISTS", "accounts"),
        ("db.create_table('dw_2', 'salesforce', 'x', {'a': 'what'})", "ERROR_INVALID_ARGUMENT", "unknown type"),
        ("db.create_schema('dw_2', '../x')", "ERROR_INVALID_ARGUMENT", "cannot be created"),
        ("db.execute('dw_2', '')", "ERROR_INVALID_ARGUMENT", "needs a query"),
        ("db.execute('dw_2', 'SELEC')", "ERROR_STATEMENT_FAILED", "SELEC"),
        ("db.execute('dw_2', 'SELECT ?', params=[1, 2])", "ERROR_INVALID_ARGUMENT", "2 values"),
        ("db.execute('dw_2', \"VACUUM salesforce INTO '/tmp/x'\")", "ERROR_NOT_ALLOWED", "VACUUM"),
        ("pq.dbconnect('ro').insert('ro', 'salesforce', 'accounts', id=9)", "ERROR_READ_ONLY", "reads only"),
        ("pq.dbconnect('ro').create_schema('ro', 'x')", "ERROR_READ_ONLY", "reads only"),
        ("[pq.dbconnect(n).transaction().__enter__() for n in ('dw_2', 'ro', 'ro2')]", "ERROR_NOT_ALLOWED", "2 transactions open"),
        ("pq.trinoconnect().insert('a', 'b', 'c', {})", "ERROR_OPERATION_NOT_SUPPORTED", "pq.dbconnect(pq.DW_NAME)"),
        ("pq.get_table('nonsense')", "ERROR_INVALID_ARGUMENT", "list_databases"),
        ("pq.get_table('dw_2.salesforce.nope')", "ERROR_TABLE_DOES_NOT_EXIST", "nope"),
        ("pq.get_schema('dw_2.nope')", "ERROR_SCHEMA_DOES_NOT_EXIST", "nope"),
        ("pq.get_schema('other.nope')", "ERROR_CONNECTION_DOES_NOT_EXIST", "other"),
    ]
    .into_iter()
    .enumerate()
    {
        let body = format!(
            "from peliqan.exceptions import PeliqanClientException\ntry:\n    {expression}\nexcept PeliqanClientException as e:\n    return [e.code, e.message]"
        );
        let result = run(&app, &format!("e{index}"), &body).await;
        assert_eq!(result[0], code, "{expression}: {result}");
        assert!(result[1].as_str().unwrap().contains(text), "{expression}: {result}");
    }
    // A wrong number of arguments is Python's own error, and the next request is served.
    let body = "try: db.insert('dw_2')\nexcept TypeError: return [len(db.fetch('dw_2', 'salesforce', 'accounts'))]";
    assert_eq!(run(&app, "after", body).await, json!([3]));
    app.assert_rewound();
}

#[tokio::test]
async fn metadata_tells_what_there_is() {
    let app = app_with_accounts().await;
    let acme = app.acme().await;
    app.connection(&acme, "broken", "postgres://u@127.0.0.1:1/db").await;
    let body = "
databases = {d['name']: d for d in pq.list_databases()}
dw = databases['dw_2']
table = pq.get_table(dw['tables'][0]['id'])
schema = pq.get_schema(dw['schemas'][0]['id'] if dw['schemas'][0]['name'] == 'salesforce' else 'dw_2.salesforce')
return {
    'tables': dw['tables'], 'id_is_dw': dw['id'] == pq.DW_ID,
    'fields': [f['name'] for f in table['all_fields']], 'pk': table['pk'],
    'in_schema': [t['name'] for t in schema['tables']],
    'queried': len(db.fetch('dw_2', query='SELECT * FROM ' + dw['tables'][0]['name_in_query'])),
    'broken': [databases['broken']['tables'], 'refused' in databases['broken']['error']],
}
";
    let expected = json!({
        "tables": [{"id": "dw_2.salesforce.accounts", "name": "accounts", "schema_id": "dw_2.salesforce", "name_in_query": "\"salesforce\".\"accounts\""}],
        "id_is_dw": true, "fields": ["id", "name", "revenue"], "pk": ["id"], "in_schema": ["accounts"], "queried": 3, "broken": [[], true],
    });
    assert_eq!(run(&app, "metadata", body.trim()).await, expected);
    // Module-level code that asks is run in each request, and asks anew.
    let source = "NAMES = [d['name'] for d in pq.list_databases()]\ndef handler(request): return NAMES\n";
    assert!(app.serve(&acme, "frozen", source).await.version.loaded.reason.is_some());
    assert_eq!(app.get("/acme/frozen").await.json(), json!(["broken", "dw_2"]));
    app.connection(&acme, "another", "sqlite:acme").await;
    assert_eq!(app.get("/acme/frozen").await.json(), json!(["another", "broken", "dw_2"]));
}

#[tokio::test]
async fn the_default_connection_is_read_without_its_name() {
    let app = app_with_accounts().await;
    let none = "
def handler(request):
    try: pq.trinoconnect().fetch(query='SELECT 1')
    except Exception as e: return [e.code, e.message]
";
    app.serve(&app.tenant("bare").await, "none", none).await;
    let expected = json!(["ERROR_INVALID_ARGUMENT", "the tenant has no default connection"]);
    assert_eq!(app.get("/bare/none").await.json(), expected);
    let body = "
return [
    pq.DW_NAME, len(pq.trinoconnect().fetch(pq.DW_NAME, 'salesforce', 'accounts')),
    len(pq.trinoconnect().fetch(table_id='dw_2.salesforce.accounts', limit=2)),
    pq.trinoconnect().execute('SELECT 1 AS a')['detail'], len(pq.load_table('dw_2', 'salesforce', 'accounts')),
    len(pq.load_table(query='SELECT * FROM salesforce.accounts WHERE id = 1')), pq.list_databases()[0]['is_datawarehouse'],
]
";
    assert_eq!(run(&app, "default", body.trim()).await, json!(["dw_2", 3, 2, [["a"], [1]], 3, 1, true]));
}

#[tokio::test]
async fn large_results_and_many_cursors_are_bounded() {
    let postgres = Postgres::new("large").await;
    let app = &postgres.app;
    let code = "
def code(f):
    try: return f()
    except pq.exceptions.PeliqanClientException as e: return e.code
";
    let cases = [
        ("db.fetch('dw_2', query='SELECT generate_series(1, 1000000) AS i')[0]", json!("ERROR_RESULT_TOO_LARGE")),
        ("db.execute('dw_2', 'SELECT generate_series(1, 1000000) AS i')", json!("ERROR_RESULT_TOO_LARGE")),
        ("db.fetch('dw_2', query=\"SELECT repeat('x', 100000000) AS cell\")[0]", json!("ERROR_RESULT_TOO_LARGE")),
        ("[db.fetch('dw_2', query='SELECT 1') for _ in range(200)]", json!("ERROR_TOO_MANY_STATEMENTS")),
        ("sum(map(len, db.fetch_stream('dw_2', query='SELECT generate_series(1, 50000) AS i')))", json!(50_000)),
    ];
    for (index, (expression, expected)) in cases.into_iter().enumerate() {
        let body = format!("{}\nreturn [code(lambda: {expression})]", code.trim());
        assert_eq!(run(app, &format!("large{index}"), &body).await, json!([expected]), "{expression}");
    }
    // Cursors that hold their connection: after the last free one, the next waits and is refused.
    let body = format!(
        "{}\n{}",
        code.trim(),
        "endless = \"SELECT repeat('x', 1000) AS x, generate_series(1, 300000) AS i\"
def unread():
    with db.transaction():
        rows = db.fetch_stream('dw_2', query=endless)
        next(rows)
unread = code(unread)
held = [db.fetch('dw_2', query=endless) for _ in range(8)]
return [unread, code(lambda: db.fetch('dw_2', query='SELECT 1'))]"
    );
    assert_eq!(run(app, "held", &body).await, json!(["ERROR_TRANSACTION_OVER", "ERROR_DATABASE_UNAVAILABLE"]));
    assert_eq!(run(app, "next", "return db.fetch('dw_2', query='SELECT 1 AS a')").await, json!([{"a": 1}]));
    // Lost in the middle of a result.
    let body = format!(
        "{}\n{}",
        code.trim(),
        "rows = db.fetch_stream('dw_2', query=\"SELECT pg_backend_pid() AS pid, repeat('x', 1000) AS x, generate_series(1, 300000) AS i\")
pid = next(rows)[0]['pid']
db.execute('dw_2', f'SELECT pg_terminate_backend({pid})')
return [code(lambda: [None for _ in rows] and None)]"
    );
    assert_eq!(run(app, "lost", &body).await, json!(["ERROR_DATABASE_UNAVAILABLE"]));
    assert_eq!(run(app, "again", "return db.fetch('dw_2', query='SELECT 1 AS a')").await, json!([{"a": 1}]));
    app.assert_rewound();
    postgres.drop_schema("after").await;
}

#[tokio::test]
async fn the_crud_example_is_a_rest_api() {
    let app = app_with_accounts().await;
    let acme = app.acme().await;
    app.serve(&acme, "crud", &example("crud", "handler.py")).await;
    app.endpoint(&acme, "ANY", "/crud/{id}", "crud", pqhost::domain::exchange::AuthMode::Public).await;
    let send = async |method: &str, path: &str, body: &str| {
        let request = app.request(method.parse().unwrap(), &format!("/acme/crud{path}"));
        let answer = Answer::of(request.header("content-type", "application/json").body(body.to_owned())).await;
        (answer.status, if answer.status < 300 && answer.status != 204 { answer.json() } else { Value::Null })
    };
    assert_eq!(send("GET", "", "").await, (200, json!([])));
    let ada = json!({"id": 1, "name": "Ada", "email": null, "tags": null});
    assert_eq!(send("POST", "", r#"{"name": "Ada"}"#).await, (201, ada.clone()));
    assert_eq!(send("GET", "/1", "").await, (200, ada));
    let changed = json!({"id": 1, "name": "Ada", "email": "a@b", "tags": null});
    assert_eq!(send("PATCH", "/1", r#"{"email": "a@b"}"#).await, (200, changed));
    assert_eq!(send("PUT", "/5", r#"{"name": "Eve"}"#).await.0, 200);
    for (method, path, body, status) in [
        ("GET", "/9", "", 404),
        ("PATCH", "/9", r#"{"name": "x"}"#, 404),
        ("POST", "", r#"{"nope": 1}"#, 400),
        ("POST", "", "[", 400),
        ("POST", "", r#"{"id": 1}"#, 409),
        ("PATCH", "", "{}", 405),
        ("DELETE", "/1", "", 204),
        ("DELETE", "/1", "", 404),
    ] {
        assert_eq!(send(method, path, body).await.0, status, "{method} {path}");
    }
    assert_eq!(send("GET", "", "").await.1.as_array().unwrap().len(), 1);
}
