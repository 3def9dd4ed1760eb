//! A hostile handler against the row filters of its caller, on every kind of database: the corpus in `row_filters/`.

use std::{sync::Arc, time::Duration};

use pqhost::{
    db::consumer_keys::KeyTerms,
    domain::{exchange::AuthMode, script::SourceFile},
};
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::support::{Answer, Tenant, TestApp};

/// What only notes of others say.
const MARK: &str = "THEIRS";

/// A host with the tables, the handler, and two keys.
struct Corpus {
    app: TestApp,
    dialect: &'static str,
    schema: String,
    other: String,
    /// Of customer 17 and client `acme`.
    restricted: String,
    /// Of nobody in particular.
    unrestricted: String,
}

/// What is in the tables.
#[derive(Debug, Clone, PartialEq)]
struct Kept {
    /// Tables and schemas that there are, and rows of others.
    others: (Value, Value),
    own: Value,
}

impl Corpus {
    async fn new(dialect: &'static str) -> Self {
        // These tests are not about time, and machines are busy.
        let app = TestApp::with(|config| {
            config.limits.deadline = Duration::from_secs(60);
            config.limits.sql.statement_time = Duration::from_secs(10);
        })
        .await;
        let acme = app.acme().await;
        let id = format!("{dialect}{}", std::process::id());
        let (schema, other) = match dialect {
            "sqlite" => ("shop".to_owned(), "elsewhere".to_owned()),
            _ => (format!("pqrows_{id}"), format!("pqelse_{id}")),
        };
        let url = match dialect {
            "postgres" => "postgres://postgres@127.0.0.1:5432/test",
            "mysql" => "mysql://root@127.0.0.1:3306/test",
            _ => {
                let folder = app.workspace.data.sqlite().join("acme");
                std::fs::create_dir_all(&folder).unwrap();
                for file in [&schema, &other] {
                    std::fs::File::create(folder.join(format!("{file}.db"))).unwrap();
                }
                "sqlite:acme"
            }
        };
        app.connection(&acme, "dw", url).await;
        app.connection(&acme, "dw_raw", url).await;
        publish(&app, &acme).await;
        let filter = |table: &str, column: &str, equals: Value| json!({"connection": "dw", "schema": schema, "table": table, "column": column, "equals": equals});
        let filters = json!([
            filter("orders", "customer_id", json!({"attribute": "customer"})),
            filter("clients", "customer", json!({"value": "acme"})),
            filter("spans", "customer_id", json!({"attribute": "customer"})),
        ]);
        let (restricted, unrestricted) = (key(&app, &acme, filters).await, key(&app, &acme, Value::Null).await);
        let corpus = Self { app, dialect, schema, other, restricted, unrestricted };
        corpus.make().await;
        corpus
    }

    /// Makes all tables anew.
    async fn make(&self) -> Kept {
        let Self { schema: s, other: e, dialect, .. } = self;
        let sources =
            [(s, ["orders", "clients", "secrets", "copies"]), (e, ["orders", "clients", "secrets", "copies"])];
        let mut run = match *dialect {
            "postgres" => vec![
                format!("DROP SCHEMA IF EXISTS {s}_made CASCADE"),
                format!("DROP SCHEMA IF EXISTS {s} CASCADE"),
                format!("DROP SCHEMA IF EXISTS {e} CASCADE"),
                format!("CREATE SCHEMA {s}"),
                format!("CREATE SCHEMA {e}"),
            ],
            "mysql" => vec![
                format!("DROP DATABASE IF EXISTS {s}_made"),
                format!("DROP DATABASE IF EXISTS {s}"),
                format!("DROP DATABASE IF EXISTS {e}"),
                format!("CREATE DATABASE {s} CHARACTER SET utf8mb4"),
                format!("CREATE DATABASE {e} CHARACTER SET utf8mb4"),
            ],
            _ => {
                let views = ["all_orders", "mine"].map(|view| format!("DROP VIEW IF EXISTS {s}.{view}"));
                let made = ["moved", "copied", "made", "\"Orders \"", "\"orders \""];
                let tables = sources.iter().flat_map(|(s, tables)| {
                    tables.iter().chain(&made).map(move |table| format!("DROP TABLE IF EXISTS {s}.{table}"))
                });
                views.into_iter().chain(tables).collect()
            }
        };
        for schema in [s, e] {
            run.extend([
                format!("CREATE TABLE {schema}.orders (id INTEGER PRIMARY KEY, customer_id INTEGER, code VARCHAR(40) UNIQUE, note VARCHAR(80))"),
                format!("CREATE TABLE {schema}.clients (id INTEGER PRIMARY KEY, customer VARCHAR(40), note VARCHAR(80))"),
                format!("CREATE TABLE {schema}.secrets (id INTEGER PRIMARY KEY, note VARCHAR(80))"),
                format!("CREATE TABLE {schema}.copies (id INTEGER PRIMARY KEY, customer_id INTEGER, note VARCHAR(80))"),
                format!("INSERT INTO {schema}.orders VALUES (2, 18, 'c2', '{MARK}-2'), (3, 19, 'c3', '{MARK}-3'), (4, NULL, 'c4', '{MARK}-4')"),
                format!(
                    "INSERT INTO {schema}.clients VALUES (12, 'ACME', '{MARK}-12'), (13, 'acmé', '{MARK}-13'), (14, 'acme ', '{MARK}-14'), \
                     (15, '0', '{MARK}-15'), (16, 'abc', '{MARK}-16'), (17, '0x1', '{MARK}-17'), (18, '1e0', '{MARK}-18'), (19, NULL, '{MARK}-19')"
                ),
                format!("INSERT INTO {schema}.secrets VALUES (1, '{MARK}-secret')"),
                format!("INSERT INTO {schema}.copies VALUES (1, 18, '{MARK}-copy')"),
            ]);
        }
        // A view of SQLite finds its tables in its own file.
        let orders = if *dialect == "sqlite" { "orders".to_owned() } else { format!("{s}.orders") };
        run.extend([
            format!("INSERT INTO {e}.orders VALUES (1, 17, 'c1', '{MARK}-elsewhere')"),
            format!("CREATE VIEW {s}.all_orders AS SELECT * FROM {orders}"),
        ]);
        if *dialect == "postgres" {
            // A constraint that shows the row in the way, which need not be equal to the new one.
            run.extend([
                format!("CREATE TYPE {s}.words AS RANGE (SUBTYPE = text, COLLATION = \"C\")"),
                format!(
                    "CREATE TABLE {s}.spans (id INTEGER PRIMARY KEY, customer_id INTEGER, low TEXT, high TEXT, \
                     EXCLUDE USING gist ({s}.words(low, high) WITH &&))"
                ),
                format!("INSERT INTO {s}.spans VALUES (1, 17, '0', '1'), (2, 18, '{MARK}-2', '{MARK}-3')"),
            ]);
        }
        // Names that are nearly the same, where there can be such.
        let near: &[&str] = match *dialect {
            "postgres" => &["\"Orders\"", "\"orders \"", "\"or\"\"ders\""],
            "mysql" => &["`Orders`", "`or\"ders`"],
            _ => &["\"orders \""],
        };
        for name in near {
            run.push(format!(
                "CREATE TABLE {s}.{name} (id INTEGER PRIMARY KEY, customer_id INTEGER, note VARCHAR(80))"
            ));
            run.push(format!("INSERT INTO {s}.{name} VALUES (1, 17, '{MARK}-near')"));
        }
        self.keep(&run).await;
        self.make_own().await
    }

    /// Makes the caller's own rows anew.
    async fn make_own(&self) -> Kept {
        let s = &self.schema;
        self.keep(&[
            format!("DELETE FROM {s}.orders WHERE customer_id = 17"),
            format!("DELETE FROM {s}.clients WHERE id IN (11, 90)"),
            format!("INSERT INTO {s}.orders VALUES (1, 17, 'c1', 'mine-1')"),
            format!("INSERT INTO {s}.clients VALUES (11, 'acme', 'mine-11')"),
        ])
        .await
    }

    /// Runs statements as somebody whom nothing restricts, and says what is in the tables.
    async fn keep(&self, run: &[String]) -> Kept {
        let body = json!({"run": run, "schemas": [self.schema, self.other]}).to_string();
        let answer = self.app.post("/acme/keeper", body).await;
        if answer.status != 200 {
            let acme = self.app.acme().await;
            let record = self.app.invocation(&acme, answer.headers["x-request-id"].to_str().unwrap()).await;
            panic!("{}: {}", self.dialect, record.traceback.unwrap_or(answer.body));
        }
        let mut kept = answer.json();
        Kept { others: (kept["names"].take(), kept["others"].take()), own: kept["own"].take() }
    }

    async fn call(&self, key: &str, attempt: Option<&str>) -> Answer {
        let Self { app, dialect, schema, other, .. } = self;
        let path = {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            query.append_pair("dialect", dialect).append_pair("schema", schema).append_pair("other", other);
            query.extend_pairs(attempt.map(|attempt| ("attempt", attempt)));
            format!("/acme/attempts?{}", query.finish())
        };
        Answer::of(app.request(Method::GET, &path).header("x-api-key", key)).await
    }

    async fn attempts(&self) -> Vec<String> {
        serde_json::from_value(self.call(&self.restricted, None).await.json()).unwrap()
    }

    async fn end(self) {
        self.app.assert_rewound();
        if self.dialect == "sqlite" {
            return;
        }
        let cascade = if self.dialect == "postgres" { "CASCADE" } else { "" };
        let drop = |schema: &str| format!("DROP SCHEMA IF EXISTS {schema} {cascade}");
        let made = format!("{}_made", self.schema);
        self.keep(&[drop(&self.schema), drop(&self.other), drop(&made)]).await;
    }
}

async fn publish(app: &TestApp, acme: &Tenant) {
    let file = |name: &str, content: &str| SourceFile { name: name.to_owned(), content: content.into() };
    let files = vec![
        file("handler.py", include_str!("row_filters/handler.py")),
        file("place.py", include_str!("row_filters/place.py")),
        file("reads.py", include_str!("row_filters/reads.py")),
        file("changes.py", include_str!("row_filters/changes.py")),
    ];
    app.try_publish_files(acme, "attempts", files).await.unwrap();
    app.endpoint(acme, "GET", "/attempts", "attempts", AuthMode::Key).await;
    app.serve(acme, "keeper", include_str!("row_filters/keeper.py")).await;
}

/// A key of customer 17 with these row filters.
async fn key(app: &TestApp, tenant: &Tenant, row_filters: Value) -> String {
    let attributes: Map<String, Value> = [("customer".to_owned(), json!(17))].into_iter().collect();
    let terms = KeyTerms {
        name: String::new(),
        endpoints: None,
        methods: None,
        attributes: Arc::new(attributes),
        row_filters: serde_json::from_value(row_filters).unwrap(),
        rate_limit: None,
    };
    let (db, keys) = (&app.workspace.db, &app.workspace.auth.keys);
    let issued = keys.create_key(db, tenant.id, terms, Duration::from_secs(3600)).await.unwrap();
    issued.text.expose_str().unwrap().to_owned()
}

/// Tries everything with the restricted key; then what of it succeeds without the filters, so that it is known to be worth trying.
async fn nothing_widens(dialect: &'static str, worth_trying_min: usize) {
    let corpus = Corpus::new(dialect).await;
    let attempts = corpus.attempts().await;
    assert!(attempts.len() > 250, "{}", attempts.len());
    let before = corpus.keep(&[]).await;
    let mut failures = Vec::new();
    for attempt in &attempts {
        let answer = corpus.call(&corpus.restricted, Some(attempt)).await;
        if answer.status != 200 || answer.body.contains(MARK) {
            failures.push(format!("{attempt}: {} {}", answer.status, answer.body));
        }
        let after = corpus.keep(&[]).await;
        if after.others != before.others {
            failures.push(format!("{attempt}: {} changed {:?} to {:?}", answer.body, before.others, after.others));
            corpus.make().await;
        } else if after.own != before.own {
            corpus.make_own().await;
        }
    }
    assert!(failures.is_empty(), "{dialect}: {} failures\n{}", failures.len(), failures.join("\n"));
    let own = corpus.call(&corpus.restricted, Some("read: as a stream")).await;
    assert_eq!(own.json(), json!([{"id": 1, "customer_id": 17, "code": "c1", "note": "mine-1"}]));

    let mut worth_trying = 0;
    for attempt in &attempts {
        let answer = corpus.call(&corpus.unrestricted, Some(attempt)).await;
        assert_eq!(answer.status, 200, "{attempt}: {}", answer.body);
        let after = corpus.keep(&[]).await;
        let succeeds = answer.body.contains(MARK) || after.others != before.others;
        worth_trying += usize::from(succeeds);
        if after != before {
            corpus.make().await;
        }
    }
    assert!(worth_trying >= worth_trying_min, "{dialect}: only {worth_trying} succeed without filters");
    corpus.end().await;
}

#[tokio::test]
async fn no_attempt_reaches_rows_of_others_on_sqlite() {
    nothing_widens("sqlite", 100).await;
}

#[tokio::test]
async fn no_attempt_reaches_rows_of_others_on_postgres() {
    nothing_widens("postgres", 100).await;
}

#[tokio::test]
async fn no_attempt_reaches_rows_of_others_on_mysql() {
    nothing_widens("mysql", 100).await;
}

#[tokio::test]
async fn a_restricted_caller_is_told_only_of_its_tables() {
    let corpus = Corpus::new("sqlite").await;
    let acme = corpus.app.acme().await;
    let source = "
def handler(request):
    databases = pq.list_databases()
    tables = [t['id'] for d in databases for t in d['tables']]
    try: pq.dbconnect('dw_raw').fetch('dw_raw', 'shop', 'orders')
    except pq.exceptions.PeliqanClientException as e: hidden = str(e)
    else: hidden = ''
    try: pq.dbconnect('nowhere').fetch('nowhere', 'shop', 'orders')
    except pq.exceptions.PeliqanClientException as e: unknown = str(e).replace('nowhere', 'dw_raw')
    names = [c['name'] for c in pq.list_connections()]
    return [[d['name'] for d in databases], tables, pq.get_table('dw.shop.orders')['pk'], names, hidden == unknown]
";
    corpus.app.try_publish(&acme, "told", source).await.unwrap();
    corpus.app.endpoint(&acme, "GET", "/told", "told", AuthMode::Key).await;
    let told = async |key: &str| {
        Answer::of(corpus.app.request(Method::GET, "/acme/told").header("x-api-key", key)).await.json()
    };
    let expected = json!([["dw"], ["dw.shop.clients", "dw.shop.orders"], ["id"], ["dw"], true]);
    assert_eq!(told(&corpus.restricted).await, expected);
    let all = told(&corpus.unrestricted).await;
    assert_eq!((&all[0], &all[3]), (&json!(["dw", "dw_raw"]), &json!(["dw", "dw_raw"])));
    corpus.end().await;
}
