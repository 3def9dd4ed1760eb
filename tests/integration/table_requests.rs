//! Table endpoints, asked and made: names, cursors, formats, queries.

use pqhost::domain::exchange::AuthMode;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    control::Api,
    support::{Answer, TestApp},
    tables::{drop_schema, execute, ids, on_each, schema_on_each, serve},
};

/// The detail of a 400, which shows nothing of the SQL.
#[track_caller]
fn refusal(answer: &Answer, what: &str) -> String {
    assert_eq!(answer.problem(), (400, "invalid_filter".to_owned()), "{what}: {}", answer.body);
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(!detail.contains("SELECT"), "{what}: {detail}");
    detail
}

#[tokio::test]
async fn columns_named_like_parameters_have_conditions_in_quotes() {
    for (kind, schema, app) in schema_on_each("reserved").await {
        let names = ["select", "order", "limit", "cursor", "count", "format", "a,b", "q\"q", "-x", "t0"];
        let quote = |name: &str| match kind {
            "mysql" => format!("`{name}`"),
            _ => format!("\"{}\"", name.replace('"', "\"\"")),
        };
        let columns: Vec<_> = names.iter().map(|name| format!("{} INTEGER", quote(name))).collect();
        let row = |id: usize| format!("({id}{})", format!(", {}", id * 10).repeat(names.len()));
        execute(
            &app,
            &[
                format!("CREATE TABLE {schema}.r (id INTEGER PRIMARY KEY, {})", columns.join(", ")),
                format!("INSERT INTO {schema}.r VALUES {}, {}, {}", row(1), row(2), row(3)),
            ],
        )
        .await;
        serve(&app, "/r", json!({"connection": "dw_2", "schema": schema, "table": "r"})).await;
        let query = json!({"connection": "dw_2", "query": format!("SELECT * FROM {schema}.r"), "key": ["id"]});
        serve(&app, "/q", query).await;
        for (route, name) in ["/r", "/q"].into_iter().flat_map(|route| names.map(|name| (route, name))) {
            let quoted = format!("\"{}\"", name.replace('"', "\"\""));
            let field: String = url::form_urlencoded::byte_serialize(quoted.as_bytes()).collect();
            let get = async |query: String| app.get(&format!("/acme{route}?{query}")).await;
            assert_eq!(ids(&get(format!("{field}=gt.10")).await), [2, 3], "{kind} {route} {name}");
            assert_eq!(ids(&get(format!("order=-{field}")).await), [3, 2, 1], "{kind} {route} {name}");
            assert_eq!(
                ids(&get(format!("{field}=in.(10,30)&order=-{field}&limit=5")).await),
                [3, 1],
                "{kind} {route} {name}"
            );
            let selected = get(format!("select={field}&limit=1")).await.json();
            assert_eq!(selected, json!([{name: 10, "id": 1}]), "{kind} {route} {name}");
        }
        // Without quotes they are the endpoint's own.
        assert!(refusal(&app.get("/acme/r?order=gt.10").await, kind).contains("`gt.10`"));
        drop_schema(&app, kind, &schema).await;
    }
}

#[tokio::test]
async fn columns_of_one_name_are_told_apart() {
    for (kind, schema, app) in on_each("twins").await {
        let sql = format!(
            "SELECT a.id, b.id, a.status AS x, b.status AS x, b.id + 1 AS id_2 FROM {schema}.orders a \
                           JOIN {schema}.orders b ON b.id = a.id + 1 WHERE a.id < 4"
        );
        serve(&app, "/twins", json!({"connection": "dw_2", "query": sql, "key": ["id"]})).await;
        let expected = json!([
            {"id": 0, "id_3": 1, "x": "open", "x_2": "closed", "id_2": 2},
            {"id": 1, "id_3": 2, "x": "closed", "x_2": "Öpen %_!", "id_2": 3},
            {"id": 2, "id_3": 3, "x": "Öpen %_!", "x_2": "open", "id_2": 4},
            {"id": 3, "id_3": 4, "x": "open", "x_2": "closed", "id_2": 5},
        ]);
        let get = async |query: &str| {
            let answer = app.get(&format!("/acme/twins?{query}")).await;
            assert_eq!(answer.status, 200, "{kind} {query}: {}", answer.body);
            answer
        };
        assert_eq!(get("").await.json(), expected, "{kind}");
        let csv = get("format=csv").await.body;
        let lines: Vec<_> = csv.lines().collect();
        assert_eq!(lines[..2], ["id,id_3,x,x_2,id_2", "0,1,open,closed,2"], "{kind}");
        assert_eq!(ids(&get("id_3=gte.2&order=-id_3&limit=2").await), [3, 2], "{kind}");
        let next = get("order=-id_3&limit=3").await.headers["x-next-cursor"].to_str().unwrap().to_owned();
        assert_eq!(ids(&get(&format!("order=-id_3&limit=3&cursor={next}")).await), [0], "{kind}");
        assert_eq!(get("select=id_3&id=eq.1").await.json(), json!([{"id_3": 2, "id": 1}]), "{kind}");
        assert_eq!(get("count=exact&x_2=eq.closed").await.headers["x-total-count"], "2", "{kind}");
        let unnamed = format!("SELECT 1, 2, 'x', status FROM {schema}.orders WHERE id = 1");
        serve(&app, "/unnamed", json!({"connection": "dw_2", "query": unnamed})).await;
        let row = app.get("/acme/unnamed").await.json()[0].as_object().unwrap().clone();
        assert_eq!(
            row.values().cloned().collect::<Vec<_>>(),
            [json!(1), json!(2), json!("x"), json!("closed")],
            "{kind}"
        );
        drop_schema(&app, kind, &schema).await;
    }
}

#[tokio::test]
async fn query_keeps_the_order_that_its_author_wrote() {
    for (kind, schema, app) in on_each("author").await {
        let sql = format!(
            "SELECT id, total FROM {schema}.orders WHERE total IS NOT NULL AND id < :below ORDER BY total DESC, id"
        );
        let mut expected: Vec<i64> = (0..60).filter(|id| id % 7 != 0).collect();
        expected.sort_by_key(|id| (-(id % 11), *id));
        for (route, sql) in
            [("/plain", sql.clone()), ("/comment", format!("{sql} -- the largest first")), ("/end", format!("{sql};"))]
        {
            serve(&app, route, json!({"connection": "dw_2", "query": sql, "page_rows": 4})).await;
            let get = async |query: &str| ids(&app.get(&format!("/acme{route}?below=60{query}")).await);
            assert_eq!(get("").await, expected[..4], "{kind} {route}");
            assert_eq!(get("&limit=40").await, expected[..40], "{kind} {route}");
            let odd: Vec<_> = expected.iter().copied().filter(|id| *id > 20).collect();
            assert_eq!(get("&id=gt.20&limit=9").await, odd[..9], "{kind} {route}: with a condition");
            assert_eq!(get("&select=id").await, expected[..4], "{kind} {route}: with a selection");
        }
        // What the author limits stays limited, in whatever order callers want it.
        let limited = format!("SELECT id, total FROM {schema}.orders WHERE total IS NOT NULL ORDER BY id LIMIT 3");
        serve(&app, "/limited", json!({"connection": "dw_2", "query": limited, "key": ["id"]})).await;
        assert_eq!(ids(&app.get("/acme/limited?order=-id").await), [3, 2, 1], "{kind}");
        drop_schema(&app, kind, &schema).await;
    }
}

#[tokio::test]
async fn cursors_of_something_else_are_refused_in_clear_words() {
    for (kind, schema, app) in on_each("cursors").await {
        serve(&app, "/orders", json!({"connection": "dw_2", "schema": schema, "table": "orders"})).await;
        let query = json!({"connection": "dw_2", "query": format!("SELECT * FROM {schema}.orders"), "key": ["id"]});
        serve(&app, "/query", query).await;
        serve(&app, "/keyless", json!({"connection": "dw_2", "query": format!("SELECT * FROM {schema}.orders")})).await;
        let cursor = async |path: &str| app.get(path).await.headers["x-next-cursor"].to_str().unwrap().to_owned();
        let by_id = cursor("/acme/orders?limit=2").await;
        let by_total = cursor("/acme/orders?limit=2&order=-total").await;
        let of_query = cursor("/acme/query?limit=2").await;
        for (path, cursor, why) in [
            ("/acme/orders", by_total.as_str(), "is of another `order`"),
            ("/acme/orders?order=total", &by_total, "is of another `order`"),
            ("/acme/orders?order=-id", &by_id, "is of another `order`"),
            ("/acme/orders", &of_query, "is of another endpoint"),
            ("/acme/query", &by_id, "is of another endpoint"),
            ("/acme/orders", &by_id[1..], "cannot be read"),
            ("/acme/orders", "AAAA", "cannot be read"),
            ("/acme/orders", "", "cannot be read"),
            ("/acme/orders", "%22%00", "NUL"),
            ("/acme/orders", &"A".repeat(5000), "is too long"),
            ("/acme/keyless", &by_id, "no further pages"),
        ] {
            let separator = if path.contains('?') { '&' } else { '?' };
            let detail = refusal(&app.get(&format!("{path}{separator}cursor={cursor}")).await, kind);
            assert!(detail.contains("cursor") || why == "no further pages", "{kind} {path} {cursor}: {detail}");
            assert!(detail.contains(why), "{kind} {path} {cursor}: {detail}");
        }
        assert_eq!(ids(&app.get(&format!("/acme/orders?limit=1&cursor={by_id}")).await), [2], "{kind}");
        drop_schema(&app, kind, &schema).await;
    }
}

#[tokio::test]
async fn lists_and_formats_are_read_strictly() {
    for (kind, schema, app) in on_each("strict").await {
        serve(&app, "/orders", json!({"connection": "dw_2", "schema": schema, "table": "orders"})).await;
        for (list, is_list) in [
            ("(%22open%22)", true),
            ("(open,closed)", true),
            ("(open,%22%22)", true),
            ("(%22%22%22%22)", true),
            ("()", true),
            ("(%22o%22pen)", false),
            ("(%22open%5C%22%22)", false),
            ("(op%22en%22)", false),
            ("(%22open)", false),
            ("(%22open%22,)closed", false),
            ("open", false),
        ] {
            let answer = app.get(&format!("/acme/orders?status=in.{list}&limit=5")).await;
            match is_list {
                true => assert_eq!(answer.status, 200, "{kind} {list}: {}", answer.body),
                false => assert!(refusal(&answer, kind).contains("`status=in."), "{kind} {list}: {}", answer.body),
            }
        }
        for (accept, kind_of_answer) in [
            ("text/csv", "text/csv; charset=utf-8"),
            ("text/csv;q=0.1, application/json", "application/json"),
            ("application/json;q=0.2, text/csv;q=0.3", "text/csv; charset=utf-8"),
            ("text/csv, */*", "text/csv; charset=utf-8"),
            ("*/*", "application/json"),
        ] {
            let answer = Answer::of(app.request(Method::GET, "/acme/orders?limit=1").header("accept", accept)).await;
            assert_eq!(answer.headers["content-type"], kind_of_answer, "{kind} {accept}");
        }
        drop_schema(&app, kind, &schema).await;
    }
}

/// A table with a column that has no order, and the declarations of that column.
fn unordered(kind: &str) -> &'static [&'static str] {
    match kind {
        "postgres" => &["json", "point", "box", "xml", "json[]", "tsquery", "xid"],
        "mysql" => &["point", "geometry"],
        _ => &[],
    }
}

#[tokio::test]
async fn source_with_wrong_columns_is_refused_when_it_is_made() {
    for (kind, schema, app) in schema_on_each("sources").await {
        let api = Api::operator(&app).await;
        let declared = unordered(kind).iter().enumerate().map(|(nth, declared)| format!(", u{nth} {declared}"));
        execute(
            &app,
            &[format!("CREATE TABLE {schema}.t (id INTEGER PRIMARY KEY, n INTEGER{})", declared.collect::<String>())],
        )
        .await;
        let endpoint =
            |route: &str, source: Value| json!({"methods": "GET", "route": route, "source": source, "auth": "public"});
        let table = |more: Value| {
            let mut source = json!({"connection": "dw_2", "schema": schema, "table": "t"});
            source.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            source
        };
        let query = |more: Value| {
            let mut source = json!({"connection": "dw_2", "query": format!("SELECT * FROM {schema}.t")});
            source.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            source
        };
        let mut wrong = Vec::new();
        for source in [&table as &dyn Fn(Value) -> Value, &query] {
            wrong.push((source(json!({"columns": ["id", "nome"]})), "`columns`: there is no column `nome`".to_owned()));
            wrong.push((source(json!({"key": ["id", "ID"]})), "`key`: there is no column `ID`".to_owned()));
            for nth in 0..unordered(kind).len() {
                wrong.push((
                    source(json!({"key": ["id", format!("u{nth}")]})),
                    format!("`key`: the values of column `u{nth}`"),
                ));
            }
        }
        let made = api
            .post(
                "/tenants/acme/endpoints",
                &endpoint("/t", table(json!({"columns": ["id", "n"], "key": ["n", "id"]}))),
            )
            .await;
        let id = made.expect("201")["id"].as_i64().unwrap();
        for (source, why) in wrong {
            let new = endpoint("/wrong", source);
            for refused in [
                api.post("/tenants/acme/endpoints", &new).await,
                api.put(&format!("/tenants/acme/endpoints/{id}"), &new).await,
            ] {
                assert!(refused.body["detail"].as_str().unwrap().contains(&why), "{kind} {new}: {}", refused.body);
                refused.expect("422 invalid");
            }
        }
        for nth in 0..unordered(kind).len() {
            app.get("/acme/t").await; // is as it was
            let source = table(json!({"columns": ["id", "n", format!("u{nth}")]}));
            let route = format!("/u{nth}");
            api.post("/tenants/acme/endpoints", &endpoint(&route, source)).await.expect("201");
            let detail = refusal(&app.get(&format!("/acme{route}?order=u{nth}")).await, kind);
            assert!(detail.contains(&format!("`u{nth}`")) && detail.contains("order"), "{kind}: {detail}");
        }
        // What the database does not say is not held against anyone.
        for (route, source) in [
            (
                "/later",
                json!({"connection": "dw_2", "schema": schema, "table": "later", "columns": ["x"], "key": ["x"]}),
            ),
            ("/broken", json!({"connection": "dw_2", "query": "SELEKT", "key": ["x"]})),
        ] {
            api.post("/tenants/acme/endpoints", &endpoint(route, source)).await.expect("201");
        }
        drop_schema(&app, kind, &schema).await;
    }
}

#[tokio::test]
async fn endpoint_is_made_though_its_database_is_away() {
    // Connections are established by the kernel; nobody ever answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.connection(&acme, "silent", &format!("postgres://me@{address}/none")).await;
    app.connection(&acme, "gone", "mysql://me@127.0.0.1:1/none").await;
    let api = Api::operator(&app).await;
    for name in ["silent", "gone"] {
        let source = json!({"connection": name, "table": "t", "key": ["id"]});
        let new = json!({"methods": "GET", "route": format!("/{name}"), "source": source, "auth": "public"});
        api.post("/tenants/acme/endpoints", &new).await.expect("201");
    }
}

#[tokio::test]
async fn column_that_cannot_be_read_is_in_nobodys_way() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.connection(&acme, "dw_2", "postgres://postgres@127.0.0.1:5432/test").await;
    let schema = format!("pqtables_unreadable_{}", std::process::id());
    let sql = [
        format!("CREATE SCHEMA {schema}"),
        format!("CREATE TABLE {schema}.t (id INTEGER PRIMARY KEY, words tsquery)"),
        format!("INSERT INTO {schema}.t VALUES (1, 'a & b')"),
    ];
    execute(&app, &sql).await;
    let source = json!({"connection": "dw_2", "schema": schema, "table": "t", "columns": ["id"]});
    app.table_endpoint(&acme, "/some", source, AuthMode::Public).await;
    app.table_endpoint(&acme, "/all", json!({"connection": "dw_2", "schema": schema, "table": "t"}), AuthMode::Public)
        .await;
    assert_eq!(ids(&app.get("/acme/some").await), [1]);
    assert_eq!(ids(&app.get("/acme/all?select=id").await), [1]);
    assert_eq!(app.get("/acme/all").await.problem(), (500, "endpoint_misconfigured".to_owned()));
    let fields = format!("return db.get_table_schema('dw_2', '{schema}', 't')['fields']");
    let fields = crate::data::run(&app, "fields", &fields).await;
    assert_eq!((&fields[1]["name"], &fields[1]["schema"]), (&json!("words"), &json!({})));
    drop_schema(&app, "postgres", &schema).await;
}
