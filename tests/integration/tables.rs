//! Endpoints that a table or a query answers, without a script.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use pqhost::domain::exchange::AuthMode;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    data::run,
    support::{Answer, TestApp},
};

/// A host with an empty schema on each kind of database, behind its connection `dw_2`: the kind, the schema, and the host.
pub(crate) async fn schema_on_each(name: &str) -> Vec<(&'static str, String, TestApp)> {
    let mut all = Vec::new();
    for (kind, url) in [
        ("sqlite", "sqlite:acme"),
        ("postgres", "postgres://postgres@127.0.0.1:5432/test"),
        ("mysql", "mysql://root@127.0.0.1:3306/test"),
    ] {
        let app = TestApp::new().await;
        let acme = app.acme().await;
        app.connection(&acme, "dw_2", url).await;
        std::fs::create_dir_all(app.workspace.data.sqlite().join("acme")).unwrap();
        let schema = format!("pqtables_{name}_{}", std::process::id());
        run(&app, "schema", &format!("db.create_schema('dw_2', '{schema}')\nreturn []")).await;
        all.push((kind, schema, app));
    }
    all
}

/// A host with the table `orders` on each kind of database.
pub(crate) async fn on_each(name: &str) -> Vec<(&'static str, String, TestApp)> {
    let all = schema_on_each(name).await;
    for (kind, schema, app) in &all {
        let (decimal, time) = match *kind {
            "sqlite" => ("INTEGER", "DATETIME"),
            "postgres" => ("NUMERIC(20, 6)", "TIMESTAMP"),
            _ => ("DECIMAL(20, 6)", "DATETIME(6)"),
        };
        let body = format!(
            "db.execute('dw_2', 'CREATE TABLE {schema}.orders (id INTEGER PRIMARY KEY, status VARCHAR(20) NOT NULL, total {decimal}, note VARCHAR(50), made {time}, paid BOOLEAN)')
rows = [{{'id': n, 'status': ['open', 'closed', 'Öpen %_!'][n % 3], 'total': None if n % 7 == 0 else n % 11,
         'note': None if n % 5 == 0 else 'n,\"%d\"' % (n % 4), 'made': '2024-01-%02d 10:00:00' % (1 + n % 28), 'paid': n % 2 == 0}} for n in range(500)]
db.insert('dw_2', '{schema}', 'orders', rows)
return []"
        );
        run(app, "make", &body).await;
    }
    all
}

pub(crate) async fn serve(app: &TestApp, route: &str, source: Value) {
    let acme = app.acme().await;
    app.table_endpoint(&acme, route, source, AuthMode::Public).await;
}

pub(crate) fn ids(answer: &Answer) -> Vec<i64> {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json().as_array().unwrap().iter().map(|row| row["id"].as_i64().unwrap()).collect()
}

fn ids_of_csv(answer: &Answer) -> Vec<i64> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut reader = csv::Reader::from_reader(answer.body.as_bytes());
    let at = reader.headers().unwrap().iter().position(|name| name == "id").unwrap();
    reader.records().map(|record| record.unwrap()[at].parse().unwrap()).collect()
}

/// A cursor with another order and other values of the last row than the one that the host has made.
fn forged(cursor: &str, order: &str, values: Value) -> String {
    let mut content: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(cursor).unwrap()).unwrap();
    content["order"] = order.into();
    content["values"] = values;
    BASE64_URL_SAFE_NO_PAD.encode(content.to_string())
}

#[tokio::test]
async fn pages_in_any_order_have_each_row_once() {
    for (kind, schema, app) in on_each("pages").await {
        serve(&app, "/orders", json!({"connection": "dw_2", "schema": schema, "table": "orders"})).await;
        let orders = ["", "-id", "total", "-total", "note,-total", "-made,status", "status,-note,total", "paid,-made"];
        for order in orders {
            let order_field = if order.is_empty() { String::new() } else { format!("&order={order}") };
            let mut next = Some(format!("/acme/orders?limit=64{order_field}"));
            let (mut seen, mut rows) = (Vec::new(), Vec::new());
            while let Some(path) = next {
                let answer = app.get(&path).await;
                seen.extend(ids(&answer));
                rows.extend(answer.json().as_array().unwrap().clone());
                let link = answer.headers.get("link").map(|link| link.to_str().unwrap().to_owned());
                next = link.map(|link| link.trim_start_matches('<').split('>').next().unwrap().to_owned());
                assert_eq!(next.is_some(), answer.headers.contains_key("x-next-cursor"));
                assert!(seen.len() <= 600, "{kind} {order}: pages do not end");
            }
            let mut sorted = seen.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..500).collect::<Vec<_>>(), "{kind} order={order}: {seen:?}");
            // NULL is the last in either direction.
            if let "total" | "-total" = order {
                let nulls = rows.iter().rev().take_while(|row| row["total"].is_null()).count();
                assert_eq!(nulls, 500_usize.div_ceil(7), "{kind} {order}");
            }
        }
        drop_schema(&app, kind, &schema).await;
    }
}

#[tokio::test]
async fn filters_mean_the_same_on_each_database() {
    for (kind, schema, app) in on_each("filters").await {
        serve(&app, "/orders", json!({"connection": "dw_2", "schema": schema, "table": "orders"})).await;
        let count = async |query: &str| {
            let answer = app.get(&format!("/acme/orders?limit=1&count=exact&{query}")).await;
            assert_eq!(answer.status, 200, "{kind} {query}: {}", answer.body);
            answer.headers["x-total-count"].to_str().unwrap().parse::<i64>().unwrap()
        };
        let expect = |is: &dyn Fn(i64) -> bool| i64::try_from((0..500).filter(|n| is(*n)).count()).unwrap();
        let null = |n: i64| n % 7 == 0;
        for (query, expected) in [
            ("", 500),
            ("status=eq.open", expect(&|n| n % 3 == 0)),
            ("status=ne.open", expect(&|n| n % 3 != 0)),
            ("id=gte.100&id=lt.200", 100),
            ("id=in.(1,2,999)", 2),
            ("id=in.()", 0),
            ("status=in.(%22open%22,closed)", expect(&|n| n % 3 != 2)),
            ("total=is.null", expect(&null)),
            ("total=is.not_null", expect(&|n| !null(n))),
            ("total=gt.5.5", expect(&|n| !null(n) && n % 11 > 5)),
            ("paid=is.true", 250),
            ("paid=eq.false", 250),
            ("status=like.*pen*", expect(&|n| n % 3 != 1)),
            ("status=like.*%25_!", expect(&|n| n % 3 == 2)),
            ("status=like.o_en", 0),
            ("made=lte.2024-01-02T10:00:00", if kind == "sqlite" { -1 } else { expect(&|n| n % 28 < 2) }),
            ("note=eq.n,%221%22", expect(&|n| n % 5 != 0 && n % 4 == 1)),
            ("status=eq.' OR '1'='1", 0),
            ("status=eq.%22%3B DROP TABLE orders --", 0),
        ] {
            if expected >= 0 {
                assert_eq!(count(query).await, expected, "{kind}: {query}");
            }
        }
        let answer = app.get("/acme/orders?select=id,status&id=eq.7").await;
        assert_eq!(answer.json(), json!([{"id": 7, "status": "closed"}]), "{kind}");
        for (query, code) in [
            ("id=eq.abc", "invalid_filter"),
            ("made=gt.never", "invalid_filter"),
            ("nope=eq.1", "invalid_filter"),
            ("id", "invalid_filter"),
            ("order=nope", "invalid_filter"),
            ("select=id,nope", "invalid_filter"),
            ("limit=99999", "invalid_filter"),
            ("cursor=AAAA", "invalid_filter"),
            ("status=eq.%00", "invalid_filter"),
        ] {
            let answer = app.get(&format!("/acme/orders?limit=500&{query}").replace("limit=500&limit", "limit")).await;
            assert_eq!(answer.problem(), (400, code.to_owned()), "{kind}: {query}");
            assert!(!answer.body.contains("SELECT"), "{}", answer.body);
        }
        drop_schema(&app, kind, &schema).await;
    }
}

#[tokio::test]
async fn csv_and_json_hold_the_same() {
    for (kind, schema, app) in on_each("csv").await {
        serve(&app, "/orders", json!({"connection": "dw_2", "schema": schema, "table": "orders", "page_rows": 500}))
            .await;
        let json = app.get("/acme/orders").await;
        let csv = app.get("/acme/orders?format=csv").await;
        assert_eq!(csv.headers["content-type"], "text/csv; charset=utf-8");
        let accepted = app.request(Method::GET, "/acme/orders").header("accept", "text/csv, */*");
        assert_eq!(Answer::of(accepted).await.body, csv.body);
        let mut reader = csv::Reader::from_reader(csv.body.as_bytes());
        let names: Vec<_> = reader.headers().unwrap().iter().map(str::to_owned).collect();
        let rows = json.json();
        let rows = rows.as_array().unwrap();
        assert_eq!(names, rows[0].as_object().unwrap().keys().cloned().collect::<Vec<_>>(), "{kind}");
        let records: Vec<_> = reader.records().map(Result::unwrap).collect();
        assert_eq!(records.len(), 500);
        for (record, row) in records.iter().zip(rows) {
            for (cell, name) in record.iter().zip(&names) {
                let expected = match &row[name] {
                    Value::Null => String::new(),
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                if !row[name].is_f64() {
                    assert_eq!(cell, expected, "{kind} {name}");
                }
            }
        }
        // JSON and CSV are kept apart, and so are what callers with keys may see.
        let source = json!({"connection": "dw_2", "schema": schema, "table": "orders", "page_rows": 500});
        let settings = json!({"cache": {"ttl": 600}});
        let acme = app.acme().await;
        app.table_endpoint_with(&acme, "/kept", source, AuthMode::Public, settings).await;
        let ask = |accept: &str| Answer::of(app.request(Method::GET, "/acme/kept").header("accept", accept));
        for (accept, expected) in [("application/json", &json), ("text/csv", &csv)] {
            let answers = app.undisturbed(&acme, async || [ask(accept).await, ask(accept).await]).await;
            for (origin, answer) in ["miss", "hit"].iter().zip(&answers) {
                assert_eq!((answer.headers["x-cache"].to_str().unwrap(), &answer.body), (*origin, &expected.body));
            }
        }
        let head = Answer::of(app.request(Method::HEAD, "/acme/orders")).await;
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        drop_schema(&app, kind, &schema).await;
    }
}

#[tokio::test]
async fn an_endpoint_changes_from_a_table_to_a_script_and_back_at_one_address() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.accounts(&acme).await;
    let source = json!({"connection": "dw_2", "schema": "salesforce", "table": "accounts", "columns": ["id", "name"]});
    app.table_endpoint(&acme, "/accounts/{id}", source.clone(), AuthMode::Public).await;
    let rows = json!([{"id": 2, "name": "Bôb"}]);
    let answer = app.get("/acme/accounts/2").await;
    assert_eq!(answer.json(), rows);
    assert_eq!(app.get("/acme/accounts/2?revenue=is.null").await.problem().1, "invalid_filter", "it is not visible");

    let record = app.invocation(&acme, answer.headers["x-request-id"].to_str().unwrap()).await;
    assert_eq!((record.status, record.rows, record.answer_bytes), (200, 1, answer.body.len() as u64));
    assert_eq!(record.path, "/accounts/2");

    let token = app.api_token(&acme, pqhost::domain::people::Role::Author).await;
    let list = format!("{}/api/v1/tenants/acme/endpoints", app.control_url);
    let listed = Answer::of(app.client.get(&list).bearer_auth(&token)).await.json();
    let id =
        listed["items"].as_array().unwrap().iter().find(|one| one["route"] == "/accounts/{id}").unwrap()["id"].clone();
    app.try_publish(&acme, "accounts", "def handler(request): return {'id': request['path_params']['id']}")
        .await
        .unwrap();
    let put = async |body: Value| {
        let answer = Answer::of(app.client.put(format!("{list}/{id}")).bearer_auth(&token).json(&body)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    };
    let base = json!({"methods": "GET", "route": "/accounts/{id}", "auth": "public"});
    let with = |name: &str, value: Value| {
        let mut body = base.clone();
        body[name] = value;
        body
    };
    put(with("script", json!("accounts"))).await;
    assert_eq!(app.get("/acme/accounts/2").await.json(), json!({"id": "2"}));
    put(with("source", source)).await;
    assert_eq!(app.get("/acme/accounts/2").await.json(), rows);
    let mut off = with("script", json!("accounts"));
    off["enabled"] = json!(false);
    put(off).await;
    assert_eq!(app.get("/acme/accounts/2").await.problem(), (404, "endpoint_disabled".to_owned()));
}

#[tokio::test]
async fn a_query_takes_its_values_from_the_address() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.accounts(&acme).await;
    let sql = "SELECT id, name, id * 10 AS tens FROM salesforce.accounts WHERE id >= :least -- and so on";
    let source = json!({"connection": "dw_2", "query": sql, "key": ["id"]});
    app.table_endpoint(&acme, "/few", source, AuthMode::Public).await;
    let get = async |query: &str| app.get(&format!("/acme/few?{query}")).await;
    assert_eq!(ids(&get("least=2").await), [2, 3]);
    assert_eq!(ids(&get("least=2&tens=lt.30").await), [2]);
    assert_eq!(ids(&get("least=0&order=-tens&limit=2").await), [3, 2]);
    let next = get("least=0&order=-tens&limit=2").await.headers["x-next-cursor"].to_str().unwrap().to_owned();
    assert_eq!(ids(&get(&format!("least=0&order=-tens&limit=2&cursor={next}")).await), [1]);
    assert_eq!(get("").await.problem(), (400, "invalid_filter".to_owned()));
    // What an expression gives has no type in SQLite, where any number is less than any text.
    assert_eq!(ids(&get("least=0&tens=lt.20.5").await), [1, 2]);
    assert_eq!(ids(&get("least=0&tens=gt.20.5").await), [3]);
    let halves = "SELECT id, id / 2.0 AS half FROM salesforce.accounts WHERE half >= :least";
    let source = json!({"connection": "dw_2", "query": halves, "key": ["half"], "page_rows": 1});
    app.table_endpoint(&acme, "/halves", source, AuthMode::Public).await;
    let (mut path, mut seen) = ("/acme/halves?least=1&order=-half".to_owned(), Vec::new());
    while seen.len() < 5 {
        let answer = app.get(&path).await;
        seen.extend(ids(&answer));
        let Some(next) = answer.headers.get("x-next-cursor") else { break };
        path = format!("/acme/halves?least=1&order=-half&cursor={}", next.to_str().unwrap());
    }
    assert_eq!(seen, [3, 2], "pages end, and 0.5 is less than 1");
    assert_eq!(get("least=0&tens=eq.20) OR (1=1").await.json(), json!([]));
    // What the caller did not say is not the caller's fault, and what it said is.
    app.table_endpoint(
        &acme,
        "/typo",
        json!({"connection": "dw_2", "schema": "salesforce", "table": "accounts", "columns": ["nome"]}),
        AuthMode::Public,
    )
    .await;
    let typo = app.get("/acme/typo?nome=eq.1").await;
    assert_eq!(typo.problem(), (500, "endpoint_misconfigured".to_owned()));
    let record = app.invocation(&acme, typo.headers["x-request-id"].to_str().unwrap()).await;
    assert!(record.log.contains("no column `nome`"), "{record:?}");
    let refused = get("least=0&nope=eq.1").await;
    assert_eq!(refused.problem(), (400, "invalid_filter".to_owned()));
    let record = app.invocation(&acme, refused.headers["x-request-id"].to_str().unwrap()).await;
    assert!(record.status == 400 && record.log.contains("nope"), "{record:?}");
    // What changes is no query, whatever it is called.
    app.table_endpoint(
        &acme,
        "/worse",
        json!({"connection": "dw_2", "query": "DELETE FROM salesforce.accounts"}),
        AuthMode::Public,
    )
    .await;
    let answer = app.get("/acme/worse").await;
    assert_eq!(answer.problem(), (500, "endpoint_misconfigured".to_owned()));
    assert_eq!(ids(&get("least=0").await), [1, 2, 3]);
}

#[tokio::test]
async fn a_name_that_is_no_column_of_a_query_is_nothing_else_either() {
    for (kind, schema, app) in on_each("names").await {
        let query = json!({"connection": "dw_2", "query": format!("SELECT * FROM {schema}.orders")});
        serve(&app, "/orders", query).await;
        // Functions that PostgreSQL would call with each row, or with all of them; and what the host calls the query.
        for name in ["json_agg", "row_to_json", "count", "pg_typeof", "nothing", "t0"] {
            for asked in [format!("select={name}"), format!("order={name}"), format!("{name}=is.not_null")] {
                let answer = app.get(&format!("/acme/orders?{asked}")).await;
                assert_eq!(answer.problem(), (400, "invalid_filter".to_owned()), "{kind} {asked}");
            }
        }
        drop_schema(&app, kind, &schema).await;
    }
}

#[tokio::test]
async fn what_cannot_be_read_says_so_and_shows_nothing() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.accounts(&acme).await;
    app.connection(&acme, "gone", "postgres://me:hunter2@127.0.0.1:1/none").await;
    for (name, source, expected) in [
        (
            "missing",
            json!({"connection": "dw_2", "schema": "salesforce", "table": "nope"}),
            (500, "endpoint_misconfigured"),
        ),
        ("away", json!({"connection": "gone", "table": "t"}), (503, "database_unavailable")),
        ("never", json!({"connection": "unknown", "table": "t"}), (500, "endpoint_misconfigured")),
        (
            "broken",
            json!({"connection": "dw_2", "query": "SELECT secret FROM nowhere"}),
            (500, "endpoint_misconfigured"),
        ),
        (
            "jailed",
            json!({"connection": "dw_2", "query": "SELECT load_extension('x')"}),
            (500, "endpoint_misconfigured"),
        ),
    ] {
        app.table_endpoint(&acme, &format!("/{name}"), source, AuthMode::Public).await;
        let answer = app.get(&format!("/acme/{name}")).await;
        assert_eq!(answer.problem(), (expected.0, expected.1.to_owned()), "{name}");
        for secret in ["nope", "nowhere", "hunter2", "127.0.0.1", "unknown"] {
            assert!(!answer.body.contains(secret), "{}", answer.body);
        }
    }
    let closed = json!({"connection": "dw_2", "schema": "salesforce", "table": "accounts"});
    app.table_endpoint(&acme, "/closed", closed, AuthMode::Jwt).await;
    assert_eq!(app.get("/acme/closed").await.problem(), (401, "unauthorized".to_owned()));
    let token = app.token(&acme).await;
    let answer = Answer::of(app.request(Method::GET, "/acme/closed").bearer_auth(&token)).await;
    assert_eq!(ids(&answer), [1, 2, 3]);
    assert_eq!(app.post("/acme/closed", "").await.problem(), (405, "method_not_allowed".to_owned()));
}

/// Executes statements on `dw_2`.
pub(crate) async fn execute(app: &TestApp, sql: &[String]) {
    let name = format!("execute_{}", uuid::Uuid::new_v4().simple());
    run(app, &name, &format!("for sql in {}: db.execute('dw_2', sql)\nreturn []", json!(sql))).await;
}

/// A SQLite schema is a file, which goes with its host's folder.
pub(crate) async fn drop_schema(app: &TestApp, kind: &str, schema: &str) {
    let cascade = if kind == "postgres" { " CASCADE" } else { "" };
    if kind != "sqlite" {
        run(app, "drop", &format!("db.execute('dw_2', 'DROP SCHEMA {schema}{cascade}')\nreturn []")).await;
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of attempts, and what each must show")]
async fn row_filters_hold_for_tables_without_a_script() {
    for (kind, schema, app) in on_each("filtered").await {
        let acme = app.acme().await;
        let table = json!({"connection": "dw_2", "schema": schema, "table": "orders", "page_rows": 1000});
        app.table_endpoint(&acme, "/orders", table.clone(), AuthMode::Key).await;
        app.table_endpoint(&acme, "/of/{status}", table, AuthMode::Key).await;
        app.table_endpoint(&acme, "/open", json!({"connection": "dw_2", "table": "orders"}), AuthMode::Key).await;
        let query = json!({"connection": "dw_2", "query": format!("SELECT * FROM {schema}.orders")});
        app.table_endpoint(&acme, "/query", query, AuthMode::Key).await;
        let other = json!({"connection": "dw_2", "schema": schema, "table": "orders_too"});
        app.table_endpoint(&acme, "/other", other, AuthMode::Key).await;
        let owner = app.api_token(&acme, pqhost::domain::people::Role::Owner).await;
        let key = async |filters: Value| {
            let url = format!("{}/api/v1/tenants/acme/consumer-keys", app.control_url);
            let body = json!({"attributes": {"status": "open"}, "row_filters": filters});
            let made = Answer::of(app.client.post(url).bearer_auth(&owner).json(&body)).await;
            assert_eq!(made.status, 201, "{made:?}");
            made.json()["key"].as_str().unwrap().to_owned()
        };
        let of_status = json!([{"connection": "dw_2", "schema": schema, "table": "orders", "column": "status",
                                "equals": {"attribute": "status"}}]);
        let restricted = key(of_status).await;
        let get =
            async |key: &str, path: &str| Answer::of(app.request(Method::GET, path).header("x-api-key", key)).await;
        let mine: Vec<i64> = (0..500).filter(|n| n % 3 == 0).collect();
        let all = "/acme/orders?limit=1000&count=exact";
        let answer = get(&restricted, all).await;
        assert_eq!((ids(&answer), answer.headers["x-total-count"].to_str().unwrap()), (mine.clone(), "167"), "{kind}");
        let unrestricted = key(Value::Null).await;
        // A cursor of somebody who sees all, between rows that are not the caller's.
        let between = get(&unrestricted, "/acme/orders?limit=2&order=-status").await;
        let between = between.headers["x-next-cursor"].to_str().unwrap();
        let forged = |order: &str, values: Value| forged(between, order, values);
        let before_all = forged("id", json!([{"int": -1}]));
        let mut worth_trying = 0;
        for attempt in [
            &format!("order=-status&cursor={between}"),
            &format!("order=id&cursor={before_all}"),
            &format!("cursor={before_all}&status=ne.open"),
            &format!("order=status&cursor={}", forged("status,id", json!([{"text": "closed"}, {"int": 1}]))),
            &format!("order=status&cursor={}", forged("status,id", json!([{"text": ""}, "null"]))),
            "status=eq.closed",
            "status=ne.open",
            "status=in.(open,closed)",
            "status=eq.OPEN",
            "status=like.*",
            "id=in.(1,2,4)",
            "order=-status,id",
            "select=id&order=id",
            "status=is.not_null&id=gte.0",
            "status=eq.open' OR '1'='1",
        ] {
            let seen = async |key: &str| {
                let path = format!("/acme/orders?limit=1000&count=exact&{attempt}");
                let json = get(key, &path).await;
                let csv = get(key, &format!("{path}&format=csv")).await;
                let total = json.headers["x-total-count"].to_str().unwrap().parse::<usize>().unwrap();
                let seen = ids(&json);
                assert_eq!(ids_of_csv(&csv), seen, "{kind} {attempt}");
                assert_eq!(csv.headers["x-total-count"], json.headers["x-total-count"], "{kind} {attempt}");
                (seen, total)
            };
            let (seen_by_all, _) = seen(&unrestricted).await;
            worth_trying += usize::from(seen_by_all.iter().any(|id| !mine.contains(id)));
            let (seen, total) = seen(&restricted).await;
            assert!(seen.iter().all(|id| mine.contains(id)), "{kind} {attempt}: {seen:?}");
            // A cursor does not change how many there are.
            let is_all_of_them = if attempt.contains("cursor=") { total <= mine.len() } else { total == seen.len() };
            assert!(is_all_of_them, "{kind} {attempt}: {total}");
        }
        assert!(worth_trying > 10, "{kind}: only {worth_trying} attempts see rows of others without the filter");
        let of_another_order = format!("/acme/orders?order=id&cursor={between}");
        assert_eq!(get(&restricted, &of_another_order).await.problem(), (400, "invalid_filter".to_owned()), "{kind}");
        for (order, values) in [
            ("id", json!([{"text": "0) OR (1=1"}])),
            ("id", json!([{"literal": "0) OR (1=1"}])),
            ("id", json!([{"json": "0) OR (1=1"}])),
            ("id", json!([{"decimal": "0) OR (1=1"}])),
            ("id", json!([{"big_int": "0) OR (1=1"}])),
            ("id", json!([{"moment": "0) OR (1=1"}])),
            ("id", json!([{"bool": true}])),
            ("id", json!([{"bytes": [48]}])),
            ("id", json!([{"double": u64::MAX}])),
            ("id", json!([{"list": [{"int": 1}]}])),
            ("status,id", json!([{"text": "' OR '1'='1"}, {"int": 0}])),
        ] {
            let path = format!("/acme/orders?order={order}&cursor={}", forged(order, values.clone()));
            let answer = get(&restricted, &path).await;
            let is_refused = answer.status == 400 && answer.problem().1 == "invalid_filter";
            assert!(is_refused || ids(&answer).iter().all(|id| mine.contains(id)), "{kind} {values}: {answer:?}");
        }
        for (path, expected) in [
            ("/acme/of/open", &mine[..]),
            ("/acme/of/closed", &[]),
            ("/acme/of/closed?status=eq.open", &[]),
            ("/acme/of/open?status=eq.closed", &[]),
            ("/acme/of/open'%20OR%20'1'='1", &[]),
        ] {
            let answer =
                get(&restricted, &format!("{path}{}count=exact", if path.contains('?') { '&' } else { '?' })).await;
            assert_eq!(ids(&answer), expected, "{kind} {path}");
            assert_eq!(answer.headers["x-total-count"], expected.len().to_string(), "{kind} {path}");
        }
        assert_eq!(ids(&get(&unrestricted, "/acme/of/closed").await).len(), 167, "{kind}: others have such rows");
        for path in ["/acme/query", "/acme/other"] {
            assert_eq!(get(&restricted, path).await.problem(), (403, "rows_not_allowed".to_owned()), "{kind} {path}");
        }
        // One filter names a table of this name: it is meant, wherever the endpoint looks for it.
        assert_eq!(ids(&get(&restricted, "/acme/open?limit=1000").await), mine, "{kind}");

        assert_eq!(ids(&get(&unrestricted, all).await).len(), 500, "{kind}");
        assert_eq!(ids(&get(&unrestricted, "/acme/query?limit=1000").await).len(), 500, "{kind}");
        let nothing = key(json!([])).await;
        assert_eq!(get(&nothing, all).await.problem(), (403, "rows_not_allowed".to_owned()), "{kind}");
        drop_schema(&app, kind, &schema).await;
    }
}

#[tokio::test]
async fn a_query_changes_nothing_whatever_functions_it_calls() {
    for (kind, schema, app) in on_each("readonly").await {
        let acme = app.acme().await;
        let function = match kind {
            "postgres" => format!(
                "CREATE FUNCTION {schema}.spend() RETURNS INT LANGUAGE sql AS $$ UPDATE {schema}.orders SET note = 'spent' RETURNING 1 $$"
            ),
            "mysql" => format!(
                "CREATE FUNCTION {schema}.spend() RETURNS INT MODIFIES SQL DATA BEGIN UPDATE {schema}.orders SET note = 'spent'; RETURN 1; END"
            ),
            _ => continue, // has no functions that change anything
        };
        run(&app, "define", &format!("db.execute('dw_2', \"{function}\")\nreturn []")).await;
        let query = format!("SELECT {schema}.spend() AS spent");
        app.table_endpoint(&acme, "/spend", json!({"connection": "dw_2", "query": query}), AuthMode::Public).await;
        let answer = app.get("/acme/spend").await;
        assert_eq!(answer.problem(), (500, "endpoint_misconfigured".to_owned()), "{kind}");
        let spent = format!("return db.fetch('dw_2', '{schema}', 'orders', where={{'note': 'spent'}}) + []");
        assert_eq!(run(&app, "spent", &spent).await, json!([]), "{kind}");
        drop_schema(&app, kind, &schema).await;
    }
}
