//! What goes wrong at a database raises the documented exception, on each kind of database.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{data::run, support::TestApp};

/// A host whose connection `dw_2` leads to one kind of database, with a schema of its own.
struct Fixture {
    app: TestApp,
    kind: &'static str,
    schema: String,
}

impl Fixture {
    async fn new(kind: &'static str) -> Self {
        // These tests are not about time, and machines are busy.
        let app = TestApp::with(|config| {
            config.limits.deadline = Duration::from_secs(60);
            config.limits.sql.statement_time = Duration::from_secs(30);
        })
        .await;
        let acme = app.acme().await;
        match kind {
            "sqlite" => app.accounts(&acme).await,
            "postgres" => app.connection(&acme, "dw_2", "postgres://postgres@127.0.0.1:5432/test").await,
            _ => app.connection(&acme, "dw_2", "mysql://root@127.0.0.1:3306/test").await,
        }
        let fixture = Self { app, kind, schema: format!("pqbad_{}", uuid::Uuid::new_v4().simple()) };
        let body = "
db.create_schema('dw_2', s)
for name in ['t', 'ready']: db.create_table('dw_2', s, name, {'id': 'integer', 'name': 'text'}, 'id')
db.insert('dw_2', s, 't', [{'id': 1, 'name': 'a'}, {'id': 2, 'name': 'b'}])
return []
";
        fixture.run("make", body).await;
        fixture
    }

    /// Runs `body` with `s` as the schema, `million` as a query of a million rows, and `code` that calls and gives the error's code.
    async fn run(&self, name: &str, body: &str) -> Value {
        let prelude = "
ten = '(SELECT 0' + ' UNION ALL SELECT 0' * 9 + ')'
million = ', '.join(f'{ten} t{n}' for n in range(6))
def code(f):
    try: return f()
    except pq.exceptions.PeliqanClientException as e: return e.code
";
        run(&self.app, name, &format!("s = '{}'\n{}\n{}", self.schema, prelude.trim(), body.trim())).await
    }

    /// The database serves as before.
    async fn end(self) {
        let rows = self.run("rows", "return [r['id'] for r in db.fetch('dw_2', s, 't', order_by='id', limit=2)]").await;
        assert_eq!(rows, json!([1, 2]), "{}", self.kind);
        self.app.assert_rewound();
        let cascade = if self.kind == "postgres" { "CASCADE" } else { "" };
        if self.kind != "sqlite" {
            self.run("drop", &format!("db.execute('dw_2', f'DROP SCHEMA {{s}} {cascade}')\nreturn []")).await;
        }
    }
}

const KINDS: [&str; 3] = ["sqlite", "postgres", "mysql"];

#[tokio::test]
async fn what_a_database_refuses_has_the_same_code_on_each() {
    for kind in KINDS {
        let fixture = Fixture::new(kind).await;
        for (index, (expression, expected)) in [
            ("db.fetch('dw_2', query='SELEC 1')[0]", "ERROR_STATEMENT_FAILED"),
            ("db.execute('dw_2', 'SELEC 1')", "ERROR_STATEMENT_FAILED"),
            ("db.insert('dw_2', s, 't', id=1, name='x')", "ERROR_CONSTRAINT_VIOLATED"),
            ("db.execute('dw_2', f'INSERT INTO {s}.t (id) VALUES (1)')", "ERROR_CONSTRAINT_VIOLATED"),
            ("db.fetch('dw_2', s, 5)", "ERROR_INVALID_ARGUMENT"),
            ("db.fetch('dw_2', s, 't', limit='many')", "ERROR_INVALID_ARGUMENT"),
            ("db.fetch('dw_2', query='SELECT %s', params=[1, 2])", "ERROR_INVALID_ARGUMENT"),
            ("db.update('dw_2', s, 't', [1], name='x')", "ERROR_INVALID_ARGUMENT"),
            ("db.insert('dw_2', s, 't', name=object())", "ERROR_INVALID_ARGUMENT"),
            ("db.insert('dw_2', s, 't', id=9, name='\\ud800')", "ERROR_INVALID_ARGUMENT"),
            ("db.fetch('dw_2', query='SELECT 1\\0')", "ERROR_INVALID_ARGUMENT"),
        ]
        .into_iter()
        .enumerate()
        {
            let result = fixture.run(&format!("e{index}"), &format!("return [code(lambda: {expression})]")).await;
            assert_eq!(result, json!([expected]), "{kind}: {expression}");
        }
        fixture.end().await;
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_on_each() {
    for kind in KINDS {
        let fixture = Fixture::new(kind).await;
        // MySQL makes NULL of more than `max_allowed_packet`, 16 MiB.
        let cell = match kind {
            "sqlite" => "hex(zeroblob(50000000))",
            "postgres" => "repeat('x', 100000000)",
            _ => "repeat('x', 12000000)",
        };
        let cell = format!("db.fetch('dw_2', query=\"SELECT {cell} AS cell\")[0]");
        for (name, expression, expected) in [
            ("read", "db.fetch('dw_2', query=f'SELECT 1 AS i FROM {million}')[0]", "ERROR_RESULT_TOO_LARGE"),
            ("executed", "db.execute('dw_2', f'SELECT 1 AS i FROM {million}')", "ERROR_RESULT_TOO_LARGE"),
            ("cell", cell.as_str(), "ERROR_RESULT_TOO_LARGE"),
            ("cursors", "[db.fetch('dw_2', query='SELECT 1') for _ in range(200)]", "ERROR_TOO_MANY_STATEMENTS"),
        ] {
            let result = fixture.run(name, &format!("return [code(lambda: {expression})]")).await;
            assert_eq!(result, json!([expected]), "{kind}: {expression}");
        }
        fixture.end().await;
    }
}

#[tokio::test]
async fn texts_with_nul_or_without_utf8_are_kept_or_refused() {
    for (kind, nul, query, broken) in [
        ("sqlite", json!("a\0b"), "SELECT CAST(x'61ff62' AS TEXT) AS t", json!("a\u{fffd}b")),
        ("postgres", json!("ERROR_INVALID_ARGUMENT"), "SELECT E'a\\\\xffb' AS t", json!("ERROR_STATEMENT_FAILED")),
        ("mysql", json!("a\0b"), "SELECT _utf8mb4 x'61ff62' AS t", json!("ERROR_STATEMENT_FAILED")),
    ] {
        let fixture = Fixture::new(kind).await;
        let body = format!(
            "return [code(lambda: db.insert('dw_2', s, 't', id=3, name='a\\0b')['detail']['name']),
        code(lambda: db.fetch('dw_2', query=\"{query}\")[0]['t'])]"
        );
        assert_eq!(fixture.run("texts", &body).await, json!([nul, broken]), "{kind}");
        fixture.end().await;
    }
}

#[tokio::test]
async fn of_two_handlers_that_wait_for_each_other_one_raises_a_conflict() {
    for kind in ["postgres", "mysql"] {
        let fixture = Fixture::new(kind).await;
        let source = format!(
            "
import time
def handler(request):
    mine, other = int(request['query']['mine']), int(request['query']['other'])
    db, aside, s = pq.dbconnect('dw_2'), pq.dbconnect('dw_2'), '{}'
    try:
        with db.transaction():
            db.update('dw_2', s, 't', mine, name='x')
            aside.insert('dw_2', s, 'ready', id=mine)
            while len(aside.fetch('dw_2', s, 'ready')) < 2: time.sleep(0.1)
            db.update('dw_2', s, 't', other, name='x')
        return ['done']
    except pq.exceptions.PeliqanClientException as e:
        return [e.code]
",
            fixture.schema
        );
        let acme = fixture.app.acme().await;
        fixture.app.serve(&acme, "wait", &source).await;
        let (one, other) =
            tokio::join!(fixture.app.get("/acme/wait?mine=1&other=2"), fixture.app.get("/acme/wait?mine=2&other=1"));
        let mut outcomes = [one.body, other.body];
        outcomes.sort();
        assert_eq!(outcomes, ["[\"ERROR_CONFLICT\"]", "[\"done\"]"], "{kind}");
        fixture.end().await;
    }
}

#[tokio::test]
async fn a_result_that_mysql_breaks_off_raises() {
    let fixture = Fixture::new("mysql").await;
    let body = "
rows = db.fetch_stream('dw_2', query=f\"SELECT CONNECTION_ID() AS pid, REPEAT('x', 1000) AS x FROM {million}\")
pid = next(rows)[0]['pid']
db.execute('dw_2', f'KILL {pid}')
return [code(lambda: [None for _ in rows] and None)]
";
    assert_eq!(fixture.run("lost", body).await, json!(["ERROR_DATABASE_UNAVAILABLE"]));
    fixture.end().await;
}
