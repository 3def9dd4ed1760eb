//! The module against real databases, as `invoke` uses it.

mod changes;
mod isolation;
mod jail;
mod limits;
mod mysql;
mod mysql_sessions;
mod mysql_writes;
mod postgres_types;
mod rounds;
mod scope;
mod transactions;
mod types;
mod writes;

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use sqlx::{Connection as _, MySqlConnection, PgConnection};

use super::*;
use crate::domain::quota::{Quota, UsedUp};
use crate::domain::sql::{
    Action, Change, ColumnKind, Params, RowFormat, RowKey, Select, SqlError, SqlErrorCode, TableName,
};
use crate::domain::value::{Record, SqlValue};

const POSTGRES: &str = "postgres://postgres@127.0.0.1:5432/test";
const MYSQL: &str = "mysql://root@127.0.0.1:3306";

/// One tenant's view of one database.
struct Fixture {
    connections: Connections,
    target: Target,
    limits: SqlLimits,
    /// Of PostgreSQL or MySQL; dropped at the end by [`Fixture::end`].
    schema: String,
    /// Of SQLite.
    folder: tempfile::TempDir,
}

impl Fixture {
    /// PostgreSQL with a schema of its own, in which `setup` has run.
    async fn postgres(setup: &str) -> Self {
        let schema = new_schema();
        let setup = format!("CREATE SCHEMA {schema}; SET search_path = {schema}, public; {setup}");
        admin(&setup).await;
        Self::new(POSTGRES, schema)
    }

    /// MySQL with a database of its own, in which `setup` has run.
    async fn mysql(setup: &str) -> Self {
        let schema = new_schema();
        mysql_admin(&format!("CREATE DATABASE {schema}; USE {schema}; {setup}")).await;
        Self::new(&format!("{MYSQL}/{schema}"), schema)
    }

    /// A SQLite folder with one file per schema, in which the given SQL has run.
    fn sqlite(files: &[(&str, &str)]) -> Self {
        let mut fixture = Self::new("sqlite:.", String::new());
        for (schema, setup) in files {
            write_sqlite(&fixture.folder.path().join(format!("{schema}.db")), setup);
        }
        let url = format!("sqlite://{}", fixture.folder.path().display());
        fixture.target.url = ConnectionUrl::parse(&url).unwrap();
        fixture
    }

    fn new(url: &str, schema: String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = DataSettings::new(folder.path().to_owned());
        settings.pool_connections = 2;
        settings.acquire_time = Duration::from_secs(2);
        let target = Target {
            tenant: TenantId(1),
            connection: ConnectionId(1),
            revision: 1,
            name: "dw_2".parse().unwrap(),
            url: ConnectionUrl::parse(url).unwrap(),
        };
        Self { connections: Connections::new(settings), target, limits: SqlLimits::default(), schema, folder }
    }

    /// The same with a URL that says `mode=ro`, without dropping what is there.
    fn read_only(&mut self) {
        let url = match self.schema.as_str() {
            "" => format!("sqlite://{}?mode=ro", self.folder.path().display()),
            _ => format!("{POSTGRES}?mode=ro"),
        };
        self.target.url = ConnectionUrl::parse(&url).unwrap();
        self.target.revision += 1;
    }

    /// For changes, writes and transactions.
    fn database(&self) -> Database {
        self.connections.database(self.target.clone(), self.limits)
    }

    /// A table of the fixture: in its schema on PostgreSQL, in `shop` on SQLite.
    fn name(&self, table: &str) -> TableName {
        let schema = if self.schema.is_empty() { "shop" } else { &self.schema };
        TableName { database: String::new(), schema: Some(schema.to_owned()), table: table.to_owned() }
    }

    async fn change(&self, table: &str, action: Action) -> Result<Value, SqlError> {
        let rows = self.database().change(Change { table: self.name(table), action }, RowFormat::Json).await?;
        Ok(serde_json::from_slice(&rows).unwrap())
    }

    /// Everything in a table, by its first column.
    async fn all(&self, table: &str) -> Value {
        let TableName { schema, table, .. } = self.name(table);
        let mut rows = self.rows(Select { schema, table: Some(table), ..Select::default() }).await.unwrap();
        rows.sort_by_key(|row| row.as_object().unwrap().values().next().unwrap().to_string());
        Value::Array(rows)
    }

    async fn fetch(&self, select: Select) -> Result<Cursor, SqlError> {
        self.connections.database(self.target.clone(), self.limits).fetch(select).await
    }

    /// All rows, as a script gets them.
    async fn rows(&self, select: Select) -> Result<Vec<Value>, SqlError> {
        let mut cursor = self.fetch(select).await?;
        let mut rows = Vec::new();
        while let Some(batch) = cursor.next_batch(RowFormat::Json).await? {
            rows.extend(serde_json::from_slice::<Vec<Value>>(&batch).unwrap());
        }
        Ok(rows)
    }

    async fn query(&self, sql: impl Into<String>) -> Result<Vec<Value>, SqlError> {
        self.rows(query(sql)).await
    }

    async fn query_with(&self, sql: &str, params: Value) -> Result<Vec<Value>, SqlError> {
        let params = match params {
            Value::Array(values) => Params::Positional(values.into_iter().map(SqlValue::from).collect()),
            Value::Object(_) => Params::Named(row(params)),
            other => panic!("no params: {other}"),
        };
        self.rows(Select { params, ..query(sql) }).await
    }

    /// The table of this name in the fixture's schema.
    fn table(&self, table: &str) -> Select {
        Select { schema: Some(self.schema.clone()), table: Some(table.to_owned()), ..Select::default() }
    }

    async fn end(self) {
        let Self { connections, schema, target, .. } = self;
        drop(connections);
        match target.url.0 {
            _ if schema.is_empty() => {}
            Driver::MySql(_) => mysql_admin(&format!("DROP DATABASE {schema}")).await,
            Driver::Postgres(_) if schema.is_empty() => {}
            Driver::Postgres(_) => admin(&format!("DROP SCHEMA {schema} CASCADE")).await,
            Driver::Sqlite(_) => {}
        }
    }
}

fn new_schema() -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    format!("pqdata_{}_{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// Both databases with the same table, made by SQL that both understand; `{s}` stands for the schema.
async fn both(setup: &str) -> [Fixture; 2] {
    let postgres = Fixture::postgres(&setup.replace("{s}.", "")).await;
    let sqlite = Fixture::sqlite(&[("shop", &setup.replace("{s}.", ""))]);
    [postgres, sqlite]
}

/// A row or a filter.
fn row(json: Value) -> Record {
    match json {
        Value::Object(row) => row.into_iter().map(|(column, value)| (column, SqlValue::from(value))).collect(),
        other => panic!("no object: {other}"),
    }
}

fn insert(rows: Value) -> Action {
    match rows {
        Value::Array(rows) => Action::Insert { rows: rows.into_iter().map(row).collect() },
        one => Action::Insert { rows: vec![row(one)] },
    }
}

fn key(json: Value) -> RowKey {
    if json.is_object() { RowKey::Columns(row(json)) } else { RowKey::Value(json.into()) }
}

fn update(key: Value, values: Value) -> Action {
    Action::Update { key: self::key(key), values: row(values) }
}

fn upsert(key: Value, values: Value) -> Action {
    Action::Upsert { key: self::key(key), values: row(values) }
}

fn delete(key: Value) -> Action {
    Action::Delete { key: self::key(key) }
}

fn query(sql: impl Into<String>) -> Select {
    Select { query: Some(sql.into()), ..Select::default() }
}

/// Runs SQL on a connection of the test's own.
async fn admin(sql: &str) {
    let mut connection = PgConnection::connect(POSTGRES).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// Runs SQL on a connection of the test's own.
async fn mysql_admin(sql: &str) {
    let mut connection = MySqlConnection::connect(MYSQL).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// The number that SQL gives on a connection of the test's own.
async fn admin_count(sql: &str) -> i64 {
    let mut connection = PgConnection::connect(POSTGRES).await.unwrap();
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap()
}

/// Waits until SQL gives zero; the server does the waiting.
async fn until_zero(sql: &str) {
    until_count(sql, |count| count == 0).await;
}

/// Waits until PostgreSQL counts as many as `is_enough` wants; hang guard: a minute.
async fn until_count(sql: &str, is_enough: impl Fn(i64) -> bool) {
    let mut connection = PgConnection::connect(POSTGRES).await.unwrap();
    for _ in 0..1200 {
        let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap();
        if is_enough(count) {
            return;
        }
        sqlx::query("SELECT pg_sleep(0.05)").execute(&mut connection).await.unwrap();
    }
    panic!("it still counts something else: {sql}");
}

/// Drops `statement` as soon as the count of `running`, its sessions at work, is not zero.
async fn dropped_at_work(statement: impl Future, running: &str) {
    tokio::select! {
        _ = statement => panic!("nothing dropped it: {running}"),
        () = until_count(running, |count| count > 0) => {}
    }
}

fn write_sqlite(path: &Path, setup: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(setup).unwrap();
}

/// All that a caller gets.
async fn streamed(cursor: Cursor) -> Result<Vec<u8>, SqlError> {
    let chunks: Vec<_> = cursor.into_json().try_collect().await?;
    Ok(chunks.concat())
}

/// The JSON text of the only row, as a script gets it.
async fn row_text(fixture: &Fixture, select: Select) -> String {
    let mut cursor = fixture.fetch(select).await.unwrap();
    let batch = cursor.next_batch(RowFormat::Json).await.unwrap().unwrap();
    assert!(cursor.next_batch(RowFormat::Json).await.unwrap().is_none());
    String::from_utf8(batch.to_vec()).unwrap()
}

#[tokio::test]
async fn a_table_is_read_with_filter_order_limit_and_offset() {
    let sqlite = Fixture::sqlite(&[(
        "shop",
        "CREATE TABLE items (id INTEGER, name TEXT, price REAL);
         INSERT INTO items VALUES (1,'a',1.5),(2,'b',NULL),(3,'c',3.5),(4,'a',4)",
    )]);
    let postgres = Fixture::postgres(
        "CREATE TABLE items (id int, name text, price float8);
         INSERT INTO items VALUES (1,'a',1.5),(2,'b',NULL),(3,'c',3.5),(4,'a',4)",
    )
    .await;
    let mysql = Fixture::mysql(
        "CREATE TABLE items (id int, name text, price double);
         INSERT INTO items VALUES (1,'a',1.5),(2,'b',NULL),(3,'c',3.5),(4,'a',4)",
    )
    .await;
    let (in_postgres, in_mysql) = (postgres.schema.clone(), mysql.schema.clone());
    for (fixture, schema) in [(&sqlite, "shop".to_owned()), (&postgres, in_postgres), (&mysql, in_mysql)] {
        let select = || Select { schema: Some(schema.clone()), table: Some("items".into()), ..Select::default() };
        let ids = |rows: Vec<Value>| rows.iter().map(|row| row["id"].as_i64().unwrap()).collect::<Vec<_>>();
        let all = fixture.rows(Select { order_by: vec!["id".into()], ..select() }).await.unwrap();
        assert_eq!(all[1], json!({"id": 2, "name": "b", "price": null}));
        assert_eq!(all[3], json!({"id": 4, "name": "a", "price": 4.0}));
        assert_eq!(ids(all), [1, 2, 3, 4]);
        for (filter, expected) in [
            (json!({"name": "a"}), vec![4, 1]),
            (json!({"name": "a", "id": 1}), vec![1]),
            (json!({"price": null}), vec![2]),
            (json!({"id": [1, 3, 99]}), vec![3, 1]),
            (json!({"price": [null, 3.5]}), vec![3, 2]),
            (json!({"id": []}), vec![]),
            (json!({"name": "' OR 1=1 --"}), vec![]),
        ] {
            let order_by = vec!["-id".to_owned()];
            let select = Select { filter: tests_filter(&filter), order_by, ..select() };
            assert_eq!(ids(fixture.rows(select).await.unwrap()), expected, "{filter}");
        }
        for (limit, offset, expected) in [
            (Some(2), None, vec![1, 2]),
            (None, Some(3), vec![4]),
            (Some(1), Some(1), vec![2]),
            (Some(0), None, vec![]),
        ] {
            let select = Select { order_by: vec!["id".into()], limit, offset, ..select() };
            assert_eq!(ids(fixture.rows(select).await.unwrap()), expected);
            let select = Select { limit, offset, ..query(format!("SELECT id FROM {schema}.items ORDER BY id")) };
            assert_eq!(ids(fixture.rows(select).await.unwrap()), expected);
        }
    }
    postgres.end().await;
    mysql.end().await;
}

fn tests_filter(json: &Value) -> Record {
    row(json.clone())
}

#[tokio::test]
async fn missing_things_are_named() {
    let sqlite = Fixture::sqlite(&[("shop", "CREATE TABLE items (id INTEGER)")]);
    let postgres = Fixture::postgres("CREATE TABLE items (id int)").await;
    let mysql = Fixture::mysql("CREATE TABLE items (id int)").await;
    let (in_postgres, in_mysql) = (postgres.schema.clone(), mysql.schema.clone());
    for (fixture, schema) in [(&sqlite, "shop".to_owned()), (&postgres, in_postgres), (&mysql, in_mysql)] {
        let select = |schema: &str, table: &str| Select {
            schema: Some(schema.to_owned()),
            table: Some(table.to_owned()),
            ..Select::default()
        };
        let error = fixture.rows(select(&schema, "no\"pe")).await.unwrap_err();
        assert_eq!(
            (error.code, error.message),
            (SqlErrorCode::UnknownTable, format!("unknown table `{schema}.no\"pe`"))
        );
        let error = fixture.rows(select("nowhere", "items")).await.unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (SqlErrorCode::UnknownSchema, "unknown schema `nowhere`"));
        let error =
            fixture.rows(Select { order_by: vec!["nope".into()], ..select(&schema, "items") }).await.unwrap_err();
        assert_eq!(error.code, SqlErrorCode::UnknownColumn);
        assert!(error.message.contains("nope"), "{error}");
        let error =
            fixture.rows(Select { filter: tests_filter(&json!({"nope": 1})), ..select(&schema, "items") }).await;
        assert_eq!(error.unwrap_err().code, SqlErrorCode::UnknownColumn);
        let error = fixture.query("SELEC 1").await.unwrap_err();
        assert_eq!(error.code, SqlErrorCode::StatementFailed);
        assert!(error.message.contains("syntax"), "{error}");
        let error = fixture.query("SELECT * FROM nope_table").await.unwrap_err();
        assert_eq!(error.code, SqlErrorCode::UnknownTable);
        let error = fixture.rows(Select { database: "other".into(), ..query("SELECT 1") }).await.unwrap_err();
        assert_eq!(error.code, SqlErrorCode::UnknownDatabase);
        assert!(fixture.rows(Select { database: "dw_2".into(), ..query("SELECT 1") }).await.is_ok());
    }
    assert!(postgres.rows(Select { database: "test".into(), ..query("SELECT 1") }).await.is_ok());
    assert!(mysql.rows(Select { database: mysql.schema.clone(), ..query("SELECT 1") }).await.is_ok());
    postgres.end().await;
    mysql.end().await;
}

#[tokio::test]
async fn injected_identifiers_are_only_names() {
    const SETUP: &str = "CREATE TABLE items (id int); INSERT INTO items VALUES (1)";
    for fixture in [Fixture::postgres(SETUP).await, Fixture::mysql(SETUP).await] {
        for evil in [
            "items\"; DROP TABLE items; --",
            "items`; DROP TABLE items; -- ",
            "items WHERE 1=1",
            "'",
            "items\" AS t0, pg_user --",
            "items` AS t0, mysql.user #",
            "\\",
            "../items",
            "é",
            "items;",
        ] {
            let error = fixture.rows(fixture.table(evil)).await.unwrap_err();
            assert_eq!(error.code, SqlErrorCode::UnknownTable, "{evil}: {error}");
            let select = Select { schema: Some(evil.into()), ..fixture.table("items") };
            assert_eq!(fixture.rows(select).await.unwrap_err().code, SqlErrorCode::UnknownSchema, "{evil}");
            for select in [
                Select { order_by: vec![evil.to_owned()], ..fixture.table("items") },
                Select {
                    filter: [(evil.to_owned(), SqlValue::Int(1))].into_iter().collect(),
                    ..fixture.table("items")
                },
            ] {
                assert_eq!(fixture.rows(select).await.unwrap_err().code, SqlErrorCode::UnknownColumn, "{evil}");
            }
        }
        assert_eq!(fixture.rows(fixture.table("items")).await.unwrap().len(), 1);
        fixture.end().await;
    }
}

#[tokio::test]
async fn statements_that_change_data_give_no_rows() {
    let sqlite = Fixture::sqlite(&[("shop", "CREATE TABLE t (id INTEGER)")]);
    let postgres = Fixture::postgres("CREATE TABLE t (id int)").await;
    let mysql = Fixture::mysql("CREATE TABLE t (id int)").await;
    let (in_postgres, in_mysql) = (postgres.schema.clone(), mysql.schema.clone());
    for (fixture, schema) in [(&sqlite, "shop".to_owned()), (&postgres, in_postgres), (&mysql, in_mysql)] {
        assert_eq!(fixture.query(format!("INSERT INTO {schema}.t VALUES (1), (2)")).await.unwrap(), [] as [Value; 0]);
        assert_eq!(fixture.query(format!("CREATE TABLE {schema}.u (id int)")).await.unwrap(), [] as [Value; 0]);
        // MariaDB has RETURNING for others than UPDATE.
        let returned = fixture.query(format!("INSERT INTO {schema}.t VALUES (3), (4) RETURNING id")).await.unwrap();
        assert_eq!(returned.len(), 2);
        let cursor = fixture.fetch(query(format!("DELETE FROM {schema}.t"))).await.unwrap();
        assert!(cursor.columns().is_empty());
        assert_eq!(streamed(cursor).await.unwrap(), b"[]");
        assert_eq!(fixture.query(format!("SELECT * FROM {schema}.t")).await.unwrap(), [] as [Value; 0]);
    }
    postgres.end().await;
    mysql.end().await;
}
