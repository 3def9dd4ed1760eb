//! The columns of tables and queries, as documents, scripts and the control API tell it.

use pqhost::domain::exchange::AuthMode;
use serde_json::{Value, json};

use crate::{
    control::Api,
    data::run,
    documents::{DOCUMENT, publish_document, row_schema, sound},
    support::{Tenant, TestApp},
    tables::{drop_schema, execute, schema_on_each},
};

/// A column: its name, its declaration, some of its values as SQL, and its schema.
type Column = (&'static str, &'static str, &'static [&'static str], Value);

fn nullable(kind: &str) -> Value {
    json!({"type": [kind, "null"]})
}

fn formatted(kind: &str, format: &str) -> Value {
    json!({"type": [kind, "null"], "format": format})
}

fn bytes() -> Value {
    json!({"type": ["string", "null"], "pattern": r"^\\x([0-9a-f]{2})*$"})
}

fn columns_of(kind: &str) -> Vec<Column> {
    match kind {
        "postgres" => vec![
            ("id", "integer PRIMARY KEY", &["1"], json!({"type": "integer", "format": "int32"})),
            ("needed", "double precision NOT NULL", &["'NaN'", "0.1"], nullable("number")),
            ("flag", "boolean", &["true"], nullable("boolean")),
            ("small", "smallint", &["-32768"], formatted("integer", "int32")),
            ("large", "bigint", &["-9223372036854775808"], formatted("integer", "int64")),
            ("o", "oid", &["4294967295"], formatted("integer", "int64")),
            ("r", "real", &["'-Infinity'", "1.5"], nullable("number")),
            ("num", "numeric", &["'NaN'", "123456789012345678901.25"], nullable("number")),
            ("price", "money", &["12.5"], nullable("number")),
            ("t", "text", &["'é'"], nullable("string")),
            ("j", "json", &["'[1]'", "'{}'", "'true'"], json!({})),
            ("d", "jsonb", &["'{\"a\": 1.50}'", "'\"x\"'"], json!({})),
            ("u", "uuid", &["'6ba7b810-9dad-11d1-80b4-00c04fd430c8'"], formatted("string", "uuid")),
            ("day", "date", &["'2024-02-29'"], formatted("string", "date")),
            ("hour", "time", &["'23:59:59.5'"], nullable("string")),
            ("made", "timestamp", &["'2024-02-29 12:00'"], nullable("string")),
            ("at", "timestamptz", &["'2024-02-29 12:00+02'"], formatted("string", "date-time")),
            ("wait", "interval", &["'1 day 2 hours'"], nullable("string")),
            ("b", "bytea", &["'\\x'", "'\\x00ff'"], bytes()),
            ("tags", "text[]", &["'{a,NULL}'", "'{}'", "'{{a},{b}}'"], json!({"type": ["array", "null"], "items": {}})),
            ("p", "point", &["'(1,2)'"], nullable("string")),
            ("span", "int4range", &["'[1,5)'"], nullable("string")),
        ],
        "mysql" => vec![
            ("id", "int PRIMARY KEY", &["1"], json!({"type": "integer", "format": "int32"})),
            ("needed", "double NOT NULL", &["0.1", "-0.0"], json!({"type": "number"})),
            ("flag", "boolean", &["true", "2"], json!({"type": ["boolean", "integer", "null"]})),
            ("tiny", "tinyint", &["-128"], formatted("integer", "int32")),
            ("large", "bigint", &["-9223372036854775808"], formatted("integer", "int64")),
            ("u32", "int unsigned", &["4294967295"], formatted("integer", "int64")),
            ("u64", "bigint unsigned", &["18446744073709551615"], json!({"type": ["integer", "null"], "minimum": 0})),
            ("bits", "bit(64)", &["b'1'"], json!({"type": ["integer", "null"], "minimum": 0})),
            ("f", "float", &["1.5"], nullable("number")),
            ("num", "decimal(30,5)", &["123456789012345678901.25"], nullable("number")),
            ("t", "varchar(20)", &["'é'"], nullable("string")),
            ("e", "enum('low','high')", &["'high'"], nullable("string")),
            ("s", "set('a','b')", &["''", "'a,b'"], nullable("string")),
            ("j", "json", &["'[1]'", "'{}'", "'true'"], json!({})),
            ("day", "date", &["'2024-02-29'"], formatted("string", "date")),
            ("hour", "time", &["'23:59:59'", "'-100:00:00'"], nullable("string")),
            ("made", "datetime(6)", &["'2024-02-29 12:00'"], nullable("string")),
            ("at", "timestamp NULL", &["'2024-02-29 12:00'"], formatted("string", "date-time")),
            ("b", "blob", &["''", "x'00ff'"], bytes()),
            ("k", "binary(4)", &["x'00ff'"], bytes()),
            ("p", "point", &["POINT(1, 2)"], nullable("string")),
        ],
        _ => vec![
            ("id", "INTEGER PRIMARY KEY NOT NULL", &["1"], json!({"type": "integer", "format": "int64"})),
            ("needed", "REAL NOT NULL", &["0.1", "3"], json!({"type": "number"})),
            ("flag", "BOOLEAN", &["1"], nullable("boolean")),
            ("large", "BIGINT", &["-9223372036854775808"], formatted("integer", "int64")),
            ("num", "DECIMAL(30,5)", &["1.25", "3"], nullable("number")),
            ("t", "TEXT", &["'é'"], nullable("string")),
            ("j", "JSON", &["'[1]'", "'{}'"], json!({})),
            ("day", "DATE", &["'2024-02-29'"], formatted("string", "date")),
            ("made", "DATETIME", &["'2024-02-29 12:00'"], nullable("string")),
            ("at", "TIMESTAMPTZ", &["'2024-02-29T12:00:00+00:00'"], formatted("string", "date-time")),
            ("b", "BLOB", &["x''", "x'00ff'"], nullable("string")),
            ("any", "", &["1", "'x'"], json!({})),
        ],
    }
}

/// A host with the table `t` of these columns on each kind of database, in a schema of its own: one row of NULLs, as far as they are
/// allowed, and as many as it takes to have each value.
async fn on_each(name: &str) -> Vec<(&'static str, String, TestApp, Tenant)> {
    let mut all = Vec::new();
    for (kind, schema, app) in schema_on_each(&format!("types_{name}")).await {
        let columns = columns_of(kind);
        let declared: Vec<_> = columns.iter().map(|(name, declaration, ..)| format!("{name} {declaration}")).collect();
        let mut sql = vec![
            format!("CREATE TABLE {schema}.t ({})", declared.join(", ")),
            format!("INSERT INTO {schema}.t (id, needed) VALUES (0, 1)"),
        ];
        for nth in 0..3 {
            let value = |(name, _, values, _): &Column| match *name {
                "id" => format!("{}", nth + 1),
                _ => values[nth % values.len()].to_owned(),
            };
            let values: Vec<_> = columns.iter().map(value).collect();
            sql.push(format!("INSERT INTO {schema}.t VALUES ({})", values.join(", ")));
        }
        execute(&app, &sql).await;
        let acme = app.acme().await;
        all.push((kind, schema, app, acme));
    }
    all
}

/// True if a schema of the few words that columns have takes a value.
fn takes(schema: &Value, value: &Value) -> bool {
    let types: Vec<&str> = match &schema["type"] {
        Value::Null => return schema == &json!({}),
        Value::String(one) => vec![one],
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        other => panic!("{other}"),
    };
    let is_type = |name: &&str| match *name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other}"),
    };
    let text = value.as_str().unwrap_or_default();
    let digits = |text: &str, pattern: &str| {
        text.len() == pattern.len()
            && text
                .bytes()
                .zip(pattern.bytes())
                .all(|(byte, like)| if like == b'0' { byte.is_ascii_digit() } else { byte == like })
    };
    let is_formatted = value.is_null()
        || match schema["format"].as_str() {
            None => true,
            Some("int32") => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
            Some("int64") => value.is_i64(),
            Some("uuid") => uuid::Uuid::parse_str(text).is_ok(),
            Some("date") => digits(text, "0000-00-00"),
            Some("date-time") => digits(text, "0000-00-00T00:00:00+00:00"),
            Some(other) => panic!("{other}"),
        };
    let is_pattern = value.is_null() || schema["pattern"].is_null() || {
        let hex = text.strip_prefix("\\x");
        hex.is_some_and(|hex| hex.len() % 2 == 0 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
    };
    types.iter().any(is_type)
        && is_formatted
        && is_pattern
        && schema["minimum"].as_i64().is_none_or(|_| value.is_u64() || value.is_null())
}

/// Checks that a schema takes rows as an endpoint gives them, each cell of them.
async fn expect_rows_to_fit(app: &TestApp, route: &str, schema: &Value, what: &str) {
    let rows = app.get(&format!("/acme{route}")).await;
    assert_eq!(rows.status, 200, "{what}: {rows:?}");
    let rows = rows.json();
    assert_eq!(rows.as_array().unwrap().len(), 4, "{what}");
    for row in rows.as_array().unwrap() {
        let row = row.as_object().unwrap();
        assert_eq!(row.len(), schema["properties"].as_object().unwrap().len(), "{what}");
        for (name, value) in row {
            let column = &schema["properties"][name];
            assert!(takes(column, value), "{what} {name}: {value} is not {column}");
        }
    }
}

#[tokio::test]
async fn columns_are_told_alike_wherever_they_are_told() {
    for (kind, schema, app, acme) in on_each("told").await {
        let expected: Vec<_> =
            columns_of(kind).into_iter().map(|(name, _, _, schema)| (name.to_owned(), schema)).collect();
        let table = json!({"connection": "dw_2", "schema": schema, "table": "t"});
        app.table_endpoint(&acme, "/table", table, AuthMode::Public).await;
        let sql = format!("SELECT t.*, 'x' AS id FROM {schema}.t");
        app.table_endpoint(&acme, "/query", json!({"connection": "dw_2", "query": sql}), AuthMode::Public).await;
        publish_document(&app, &acme, true).await;
        let document = sound(&app.get(DOCUMENT).await);

        let of_table = row_schema(&document, "/table");
        let properties = |schema: &Value| -> Vec<(String, Value)> {
            schema["properties"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, schema)| (name.clone(), schema.clone()))
                .collect()
        };
        assert_eq!(sorted(properties(of_table)), sorted(expected.clone()), "{kind}");
        assert!(of_table["required"].is_null(), "`select` leaves columns out");
        expect_rows_to_fit(&app, "/table", of_table, kind).await;

        // Nothing is known of what a query leaves NULL, and a second column of a name gets another.
        let of_query = row_schema(&document, "/query");
        let names: Vec<_> = sorted(properties(of_query)).into_iter().map(|(name, _)| name).collect();
        let mut all: Vec<_> = expected.iter().map(|(name, _)| name.clone()).chain(["id_2".to_owned()]).collect();
        all.sort();
        assert_eq!(names, all, "{kind}");
        assert_eq!(of_query["properties"]["needed"], nullable("number"), "{kind}");
        expect_rows_to_fit(&app, "/query", of_query, kind).await;
        let parameters = document["paths"]["/table"]["get"]["parameters"].as_array().unwrap();
        let conditions = parameters.iter().skip(6).map(|parameter| parameter["name"].as_str().unwrap());
        assert_eq!(conditions.collect::<Vec<_>>(), expected.iter().map(|(name, _)| name).collect::<Vec<_>>(), "{kind}");

        let body = format!(
            "return [db.get_table_schema('dw_2', '{schema}', 't')['fields'], pq.get_table('dw_2.{schema}.t')['all_fields']]"
        );
        let told = run(&app, "told", &body).await;
        let api = Api::operator(&app).await;
        let shown = api.get(&format!("/tenants/acme/connections/dw_2/tables/{schema}/t")).await.expect("200");
        for columns in [&told[0], &told[1], &shown["columns"]] {
            let columns = columns.as_array().unwrap().iter();
            let told: Vec<_> =
                columns.map(|column| (column["name"].as_str().unwrap().to_owned(), column["schema"].clone())).collect();
            assert_eq!(told, expected, "{kind}");
        }
        drop_schema(&app, kind, &schema).await;
    }
}

fn sorted(mut columns: Vec<(String, Value)>) -> Vec<(String, Value)> {
    columns.sort_by(|one, other| one.0.cmp(&other.0));
    columns
}

#[tokio::test]
async fn new_column_is_seen_once_a_script_has_added_it() {
    for (kind, schema, app, acme) in on_each("altered").await {
        let table = json!({"connection": "dw_2", "schema": schema, "table": "t"});
        app.table_endpoint(&acme, "/table", table, AuthMode::Public).await;
        let sql = format!("SELECT * FROM {schema}.t");
        app.table_endpoint(&acme, "/query", json!({"connection": "dw_2", "query": sql}), AuthMode::Public).await;
        publish_document(&app, &acme, true).await;
        let before = sound(&app.get(DOCUMENT).await);
        for route in ["/table", "/query"] {
            assert!(row_schema(&before, route)["properties"]["extra"].is_null(), "{kind}");
            assert_eq!(app.get(&format!("/acme{route}?extra=is.null")).await.status, 400, "{kind} {route}");
        }
        let alter = format!("db.execute('dw_2', 'ALTER TABLE {schema}.t ADD COLUMN extra DATE')");
        let told =
            run(&app, "alter", &format!("{alter}\nreturn db.get_table_schema('dw_2', '{schema}', 't')['fields'][-1]"))
                .await;
        assert_eq!((&told["name"], &told["schema"]), (&json!("extra"), &formatted("string", "date")), "{kind}");
        for route in ["/table", "/query"] {
            assert_eq!(app.get(&format!("/acme{route}?extra=is.null")).await.status, 200, "{kind} {route}");
        }
        // A document that is made anew asks anew, also after a change that the host did not see.
        let unseen = format!("db.execute('dw_2', 'ALTER TABLE {schema}.t ADD COLUMN more DATE')");
        let unseen = match kind {
            "postgres" => unseen.replace("'ALTER", "'DO $$ BEGIN ALTER").replace("DATE'", "DATE; END $$'"),
            _ => unseen,
        };
        run(&app, "more", &format!("{unseen}\nreturn []")).await;
        app.table_endpoint(&acme, "/another", json!({"connection": "dw_2", "table": "none"}), AuthMode::Public).await;
        let after = sound(&app.get(DOCUMENT).await);
        for (route, column) in [("/table", "extra"), ("/query", "extra"), ("/table", "more"), ("/query", "more")] {
            let property = &row_schema(&after, route)["properties"][column];
            assert_eq!(*property, formatted("string", "date"), "{kind} {route} {column}");
        }
        assert_eq!(*row_schema(&after, "/another"), json!({"type": "object"}), "{kind}");
        drop_schema(&app, kind, &schema).await;
    }
}

#[tokio::test]
async fn database_that_does_not_answer_leaves_the_rest_of_a_document() {
    // Connections are established by the kernel; nobody ever answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let app = TestApp::with_ingress(|settings| settings.describing_time = std::time::Duration::from_millis(50)).await;
    let acme = app.acme().await;
    for (name, url) in [
        ("pg", format!("postgres://me@{address}/none")),
        ("my", format!("mysql://me@{address}/none")),
        ("gone", "postgres://me@127.0.0.1:1/none".to_owned()),
    ] {
        app.connection(&acme, name, &url).await;
        let query = json!({"connection": name, "query": "SELECT a FROM t WHERE b = :since"});
        app.table_endpoint(&acme, &format!("/{name}/query"), query, AuthMode::Public).await;
        let table = json!({"connection": name, "table": "t", "columns": ["id"]});
        app.table_endpoint(&acme, &format!("/{name}/table"), table, AuthMode::Public).await;
    }
    publish_document(&app, &acme, true).await;
    let document = sound(&app.get(DOCUMENT).await);
    for name in ["pg", "my", "gone"] {
        let query = format!("/{name}/query");
        let parameters = &document["paths"][&query]["get"]["parameters"];
        assert_eq!((&parameters[0]["name"], &parameters[0]["required"]), (&json!("since"), &json!(true)), "{name}");
        assert_eq!(*row_schema(&document, &query), json!({"type": "object"}), "{name}");
        let table = format!("/{name}/table");
        let last = document["paths"][&table]["get"]["parameters"].as_array().unwrap().last().unwrap();
        assert_eq!(last["name"], "id", "{name}: what the source names is known");
    }
}

#[tokio::test]
async fn columns_that_callers_do_not_see_are_nowhere_in_a_document() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.accounts(&acme).await;
    let source = json!({"connection": "dw_2", "schema": "salesforce", "table": "accounts", "columns": ["name", "id"]});
    app.table_endpoint(&acme, "/open", source, AuthMode::Public).await;
    let source = json!({"connection": "dw_2", "query": "SELECT name, revenue AS worth FROM salesforce.accounts", "columns": ["name"]});
    app.table_endpoint(&acme, "/query", source, AuthMode::Public).await;
    let source = json!({"connection": "dw_2", "schema": "salesforce", "table": "accounts"});
    app.table_endpoint(&acme, "/all", source, AuthMode::Jwt).await;
    let token = app.token(&acme).await;
    let read = async || {
        let request = app.request(reqwest::Method::GET, DOCUMENT).bearer_auth(&token);
        crate::support::Answer::of(request).await
    };
    let whole = sound(&read().await);
    let names = |document: &Value, route: &str| -> Vec<String> {
        sorted(row_schema(document, route)["properties"].as_object().unwrap().clone().into_iter().collect())
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    };
    assert_eq!(names(&whole, "/all"), ["id", "name", "revenue"]);
    assert_eq!(names(&whole, "/open"), ["id", "name"]);
    assert_eq!(names(&whole, "/query"), ["name"]);
    // Somebody who may not call `/all` does not read what it has.
    let source = json!({"connection": "dw_2", "schema": "salesforce", "table": "accounts", "columns": ["name"]});
    app.table_endpoint(&acme, "/names", source, AuthMode::Jwt).await;
    let operator = Api::operator(&app).await;
    let bound = operator.post("/tenants/acme/tokens", &json!({"name": "bound", "endpoint": "/names"})).await;
    let bound = bound.expect("201")["token"].as_str().unwrap().to_owned();
    let restricted = app.request(reqwest::Method::GET, DOCUMENT).bearer_auth(&bound);
    let restricted = crate::support::Answer::of(restricted).await;
    assert_eq!(names(&sound(&restricted), "/names"), ["name"]);
    assert!(!restricted.body.contains("revenue") && !restricted.body.contains("worth"), "{}", restricted.body);
}
