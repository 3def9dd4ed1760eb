//! Looking at tables of tenants' databases.

use serde_json::{Value, json};

use super::Api;
use crate::{data::run, support::TestApp};

/// A host whose connection `dw_2` leads to one kind of database, with a table `we"ird` of 150 rows and a view in a schema of its own.
async fn app_with_table(kind: &str, schema: &str) -> TestApp {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    match kind {
        "sqlite" => app.accounts(&acme).await,
        "postgres" => app.connection(&acme, "dw_2", "postgres://postgres@127.0.0.1:5432/test").await,
        _ => app.connection(&acme, "dw_2", "mysql://root@127.0.0.1:3306/test").await,
    }
    let body = format!(
        "
s = '{schema}'
db.create_schema('dw_2', s)
db.create_table('dw_2', s, 'we\"ird', {{'id': 'integer', 'name': 'text', 'at': 'date'}}, 'id')
db.insert('dw_2', s, 'we\"ird', [{{'id': n, 'name': 'n' + str(n), 'at': '2026-01-02'}} for n in range(1, 151)])
db.create_table('dw_2', s, 'large', {{'id': 'integer', 'name': 'text'}}, 'id')
db.insert('dw_2', s, 'large', [{{'id': n, 'name': 'x' * 100000}} for n in range(1, 21)])
return []
"
    );
    run(&app, "make", body.trim()).await;
    app
}

#[tokio::test]
async fn tables_and_their_first_rows_are_shown_on_each_kind_of_database() {
    for kind in ["sqlite", "postgres", "mysql"] {
        let schema = format!("pqshow_{}", uuid::Uuid::new_v4().simple());
        let app = app_with_table(kind, &schema).await;
        let author = Api::operator(&app).await.user("ann@acme.example", "acme", "author").await;
        let tables = "/tenants/acme/connections/dw_2/tables";

        // All pages together are all tables, in order.
        let (mut all, mut next) = (Vec::new(), format!("{tables}?limit=2"));
        loop {
            let page = author.get(&next).await.expect("200");
            all.extend(page["items"].as_array().unwrap().clone());
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            next = format!("{tables}?limit=2&cursor={cursor}");
        }
        let ours: Vec<_> = all.iter().filter(|table| table["schema"] == schema.as_str()).map(|t| &t["name"]).collect();
        assert_eq!(ours, ["large", "we\"ird"], "{kind}: {all:?}");
        let system = ["pg_catalog", "information_schema", "mysql", "performance_schema", "sys"];
        assert!(all.iter().all(|table| !system.contains(&table["schema"].as_str().unwrap())), "{kind}: {all:?}");

        let table = format!("{tables}/{schema}/we%22ird");
        let shown = author.get(&table).await.expect("200");
        assert_eq!(shown["rows"].as_array().unwrap().len(), 20, "{kind}");
        let columns: Vec<_> =
            shown["columns"].as_array().unwrap().iter().map(|c| (&c["name"], &c["key_position"])).collect();
        assert_eq!(columns, [(&json!("id"), &json!(1)), (&json!("name"), &json!(0)), (&json!("at"), &json!(0))]);
        assert!(!shown["columns"][0]["data_type"].as_str().unwrap().is_empty());
        let row = shown["rows"].as_array().unwrap().iter().find(|row| row["id"] == 1);
        assert_eq!(row, Some(&json!({"id": 1, "name": "n1", "at": "2026-01-02"})), "{kind}: as scripts get it");
        let many = author.get(&format!("{table}?limit=100")).await.expect("200");
        assert_eq!(many["rows"].as_array().unwrap().len(), 100);

        // What is too large, missing, or not to be seen.
        let large = author.get(&format!("{tables}/{schema}/large?limit=20")).await;
        assert!(large.body["detail"].as_str().unwrap().contains("lower `limit`"), "{}", large.body);
        large.expect("422 database_refused");
        author.get(&format!("{tables}/{schema}/large?limit=2")).await.expect("200");
        for limit in ["0", "101", "-1", "x"] {
            author.get(&format!("{table}?limit={limit}")).await.expect("400 invalid_parameter");
        }
        author.get(&format!("{tables}?cursor=eA")).await.expect("400 invalid_parameter");
        for (schema, name) in [
            (schema.as_str(), "nothing"),
            ("nothing", "we%22ird"),
            (&schema, "we%22ird%22%3B%20DROP%20TABLE%20x"),
            ("pg_catalog", "pg_authid"),
            ("mysql", "user"),
            ("main", "sqlite_schema"),
        ] {
            author.get(&format!("{tables}/{schema}/{name}")).await.expect("404 not_found");
        }
        if kind != "sqlite" {
            let cascade = if kind == "postgres" { "CASCADE" } else { "" };
            run(&app, "drop", &format!("db.execute('dw_2', 'DROP SCHEMA {schema} {cascade}')\nreturn []")).await;
        }
    }
}

#[tokio::test]
async fn looking_at_a_table_changes_nothing_and_a_database_that_fails_says_why() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.connection(&acme, "dw_2", "postgres://postgres@127.0.0.1:5432/test").await;
    let api = Api::operator(&app).await;
    let schema = format!("pqshow_{}", uuid::Uuid::new_v4().simple());
    // A view that writes when it is read.
    let body = format!(
        "
for sql in ['CREATE SCHEMA {schema}', 'CREATE TABLE {schema}.log (n integer)',
            'CREATE FUNCTION {schema}.write() RETURNS integer LANGUAGE sql AS $$INSERT INTO {schema}.log VALUES (1) RETURNING n$$',
            'CREATE VIEW {schema}.v AS SELECT {schema}.write() AS n', 'CREATE VIEW {schema}.slow AS SELECT pg_sleep(60)::text AS n']:
    db.execute('dw_2', sql)
return []
"
    );
    run(&app, "make", body.trim()).await;
    let tables = format!("/tenants/acme/connections/dw_2/tables/{schema}");
    let refused = api.get(&format!("{tables}/v")).await;
    assert!(refused.body["detail"].as_str().unwrap().contains("read-only"), "{}", refused.body);
    refused.expect("422 database_refused");
    api.get(&format!("{tables}/slow")).await.expect("422 database_refused"); // else it would come to its end
    let written = run(&app, "count", &format!("return db.fetch('dw_2', '{schema}', 'log')")).await;
    assert_eq!(written, json!([]));
    run(&app, "drop", &format!("db.execute('dw_2', 'DROP SCHEMA {schema} CASCADE')\nreturn []")).await;

    app.connection(&acme, "gone", "postgres://postgres:hunter22@127.0.0.1:1/test").await;
    let gone = api.get("/tenants/acme/connections/gone/tables").await;
    assert!(!gone.body.to_string().contains("hunter22"), "{}", gone.body);
    gone.expect("422 database_refused");
    let crm = json!({"name": "crm", "url": "https://api.example.com/"});
    api.post("/tenants/acme/connections", &crm).await.expect("201");
    api.get("/tenants/acme/connections/crm/tables").await.expect("422 invalid");
    let viewer = api.user("vic@acme.example", "acme", "viewer").await;
    viewer.get("/tenants/acme/connections/gone/tables").await.expect("403 forbidden");
    let listed = api.get("/tenants/acme/connections").await.expect("200");
    assert_eq!(listed["items"][0]["scripts"], Value::Null);
}
