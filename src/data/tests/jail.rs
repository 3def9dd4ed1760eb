//! Attempts to leave a SQLite folder.

use super::*;

fn folder_of_two() -> Fixture {
    Fixture::sqlite(&[
        ("crm", "CREATE TABLE accounts (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO accounts VALUES (1, 'Ada')"),
        ("Web Shop", "CREATE TABLE orders (id INTEGER, account INTEGER); INSERT INTO orders VALUES (7, 1)"),
    ])
}

#[tokio::test]
async fn each_file_is_a_schema() {
    let fixture = folder_of_two();
    let joined = "SELECT o.id, a.name FROM crm.accounts a JOIN \"Web Shop\".orders o ON o.account = a.id";
    assert_eq!(fixture.query(joined).await.unwrap(), [json!({"id": 7, "name": "Ada"})]);
    // A file that appears later is there for the next statement, and one that is replaced is the new one.
    write_sqlite(&fixture.folder.path().join("later.db"), "CREATE TABLE t (id INTEGER); INSERT INTO t VALUES (1)");
    assert_eq!(fixture.query("SELECT * FROM later.t").await.unwrap(), [json!({"id": 1})]);
    fs::remove_file(fixture.folder.path().join("later.db")).unwrap();
    let error = fixture.query("SELECT * FROM later.t").await.unwrap_err();
    assert_eq!(error.code, SqlErrorCode::UnknownTable, "{error}");
    // `main` is a file if there is one.
    write_sqlite(&fixture.folder.path().join("main.db"), "CREATE TABLE m (id INTEGER); INSERT INTO m VALUES (5)");
    assert_eq!(fixture.query("SELECT * FROM m").await.unwrap(), [json!({"id": 5})]);
    // The folder may be named relative to the base.
    let mut fixture = folder_of_two();
    fixture.target.url = ConnectionUrl::parse("sqlite:.").unwrap();
    fixture.target.revision = 2;
    assert_eq!(fixture.query("SELECT name FROM crm.accounts").await.unwrap(), [json!({"name": "Ada"})]);
}

#[tokio::test]
async fn what_would_leave_the_folder_is_refused() {
    let fixture = folder_of_two();
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("x.db").display().to_string();
    for (sql, named) in [
        (format!("ATTACH '{target}' AS x"), "ATTACH"),
        (format!("ATTACH 'file:{target}?mode=rwc' AS x"), "ATTACH"),
        ("ATTACH ':memory:' AS x".into(), "ATTACH"),
        ("DETACH crm".into(), "DETACH"),
        (format!("VACUUM crm INTO '{target}'"), "VACUUM"),
        ("VACUUM crm".into(), "VACUUM"),
        ("SELECT load_extension('/tmp/x.so')".into(), "load_extension"),
        ("SELECT fts3_tokenizer('simple')".into(), "fts3_tokenizer"),
        ("PRAGMA writable_schema = ON".into(), "writable_schema"),
        ("PRAGMA journal_mode = DELETE".into(), "journal_mode"),
        ("PRAGMA crm.journal_mode".into(), "journal_mode"),
        ("PRAGMA foreign_keys = OFF".into(), "foreign_keys"),
        ("PRAGMA temp_store_directory = '/tmp'".into(), "temp_store_directory"),
        ("PRAGMA trusted_schema = ON".into(), "trusted_schema"),
        ("PRAGMA cache_size = 10000000".into(), "cache_size"),
        ("PRAGMA mmap_size = 10000000000".into(), "mmap_size"),
        ("SELECT * FROM pragma_journal_mode".into(), "journal_mode"),
        ("CREATE VIRTUAL TABLE crm.v USING dbstat".into(), "dbstat"),
        ("PRAGMA database_list".into(), "database_list"),
        ("SELECT file FROM pragma_database_list".into(), "database_list"),
        ("BEGIN".into(), "transactions"),
        ("SAVEPOINT s".into(), "transactions"),
        ("CREATE TABLE unplaced (id INTEGER)".into(), "`main` is not kept"),
    ] {
        let error = fixture.query(&*sql).await.unwrap_err();
        assert!(error.code == SqlErrorCode::NotAllowed && error.message.contains(named), "{sql}: {error:?}");
    }
    for sql in [
        "UPDATE crm.sqlite_master SET sql = 'x'",
        "DELETE FROM crm.sqlite_schema",
        "INSERT INTO crm.sqlite_master VALUES ('table','x','x',0,'x')",
    ] {
        let error = fixture.query(sql).await.unwrap_err();
        assert_eq!(error.code, SqlErrorCode::StatementFailed, "{sql}: {error}");
    }
    for sql in ["SELECT 1; SELECT 2", "SELECT 1; ATTACH 'x' AS x"] {
        let error = fixture.query(sql).await.unwrap_err();
        assert!(matches!(error.code, SqlErrorCode::StatementFailed | SqlErrorCode::NotAllowed), "{error}");
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    let tables = fixture.query("PRAGMA crm.table_info(accounts)").await.unwrap();
    assert_eq!(tables.len(), 2, "reading pragmas are allowed");
    assert_eq!(fixture.query("SELECT * FROM crm.accounts").await.unwrap().len(), 1);
}

#[tokio::test]
async fn nothing_temporary_is_created_however_it_is_spelled() {
    let fixture = folder_of_two();
    for sql in [
        "CREATE TEMP TABLE x (id INTEGER)",
        "CREATE TEMPORARY TABLE IF NOT EXISTS x AS SELECT 1 AS id",
        "CREATE TABLE temp.x (id INTEGER)",
        "CREATE TABLE \"temp\".x (id INTEGER)",
        "CREATE TABLE [TEMP].x AS SELECT 1 AS id",
        "CREATE TABLE /* here */ `Temp` . x (id INTEGER)",
        "CREATE TEMP VIEW x AS SELECT 1",
        "CREATE VIEW temp.x AS SELECT 1",
        "CREATE TEMP TRIGGER x AFTER INSERT ON crm.accounts BEGIN SELECT 1; END",
        "CREATE TRIGGER temp.x AFTER INSERT ON crm.accounts BEGIN SELECT 1; END",
        "CREATE VIRTUAL TABLE temp.x USING fts5(a)",
        "CREATE VIRTUAL TABLE temp.x USING rtree(id, a, b)",
        "INSERT INTO temp.sqlite_schema VALUES ('table', 'x', 'x', 0, 'x')",
    ] {
        let error = fixture.query(sql).await.expect_err(sql);
        let is_refused = error.code == SqlErrorCode::NotAllowed && error.message.contains("temporary");
        assert!(is_refused || error.message.contains("may not be modified"), "{sql}: {error:?}");
        assert_eq!(fixture.query("SELECT * FROM temp.sqlite_schema").await.unwrap(), [] as [Value; 0], "{sql}");
    }
    // What only looks through it is allowed.
    for sql in [
        "ALTER TABLE crm.accounts RENAME TO people",
        "ALTER TABLE crm.people RENAME COLUMN name TO called",
        "CREATE TRIGGER crm.t AFTER INSERT ON people BEGIN SELECT 1; END",
        "DROP TABLE crm.people",
        "SELECT id FROM \"Web Shop\".orders UNION SELECT account FROM \"Web Shop\".orders ORDER BY 1 DESC",
    ] {
        fixture.query(sql).await.expect(sql);
    }
}

#[tokio::test]
async fn links_are_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret.db");
    write_sqlite(&secret, "CREATE TABLE s (x TEXT); INSERT INTO s VALUES ('other tenant')");
    let fixture = folder_of_two();
    std::os::unix::fs::symlink(&secret, fixture.folder.path().join("link.db")).unwrap();
    let select = |schema: &str| Select { schema: Some(schema.into()), table: Some("s".into()), ..Select::default() };
    let error = fixture.rows(select("link")).await.unwrap_err();
    assert_eq!(error.code, SqlErrorCode::NotAllowed);
    assert_eq!(error.message, "schema `link` is a symbolic link, which is not followed");
    assert!(fixture.query("SELECT * FROM link.s").await.is_err());
    let path = format!("../{}/secret", outside.path().file_name().unwrap().to_str().unwrap());
    assert_eq!(fixture.rows(select(&path)).await.unwrap_err().code, SqlErrorCode::UnknownSchema);
}

#[tokio::test]
async fn large_things_are_refused() {
    let fixture = folder_of_two();
    let (value, statement) = (SqlErrorCode::ResultTooLarge, SqlErrorCode::StatementFailed);
    for (sql, code) in [
        ("SELECT zeroblob(1000000000)".to_owned(), value),
        ("SELECT randomblob(1000000000)".to_owned(), value),
        ("SELECT replace(hex(zeroblob(8000000)), '0', '0123456789')".to_owned(), value),
        (format!("SELECT {}1{}", "abs(".repeat(1000), ")".repeat(1000)), statement),
        (format!("SELECT {}1", "1+".repeat(1000)), statement),
        (format!("SELECT 'a' LIKE '{}'", "%a".repeat(10_000)), statement),
        (format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(1000)), statement),
    ] {
        let error = fixture.query(&*sql).await.map(|rows| rows.len());
        let error = error.expect_err(&sql[..sql.len().min(60)]);
        assert_eq!(error.code, code, "{error}");
    }
}

#[tokio::test]
async fn too_many_files_are_told() {
    let names: Vec<String> = (0..11).map(|n| format!("s{n}")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), "CREATE TABLE t (id INTEGER)")).collect();
    assert!(Fixture::sqlite(&files[..10]).query("SELECT * FROM s9.t").await.is_ok());
    let error = Fixture::sqlite(&files).query("SELECT 1").await.unwrap_err();
    assert_eq!(error.code, SqlErrorCode::Unavailable);
    assert_eq!(error.message, "the SQLite folder has 11 schemas besides `main`, at most 10 can be used");
}

#[tokio::test]
async fn nothing_is_remembered_between_statements() {
    let fixture = folder_of_two();
    fixture.query("INSERT INTO crm.accounts VALUES (99, 'Bob')").await.unwrap();
    let rows =
        fixture.query("SELECT last_insert_rowid() AS id, changes() AS n, total_changes() AS total").await.unwrap();
    assert_eq!(rows, [json!({"id": 0, "n": 0, "total": 0})]);
    assert_eq!(fixture.query("SELECT count(*) AS n FROM crm.accounts").await.unwrap(), [json!({"n": 2})]);
}

#[tokio::test]
async fn a_broken_file_is_named_without_its_path() {
    let fixture = folder_of_two();
    fs::write(fixture.folder.path().join("junk.db"), "x".repeat(5000)).unwrap();
    let error = fixture.query("SELECT * FROM junk.t").await.unwrap_err();
    assert!(!error.message.contains(&*fixture.folder.path().to_string_lossy()), "{error}");
}

#[tokio::test]
async fn changes_do_not_leave_the_folder_either() {
    let fixture = folder_of_two();
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("x.db").display().to_string();
    let database = fixture.database();
    let name = |schema: &str, table: &str| TableName {
        database: String::new(),
        schema: Some(schema.to_owned()),
        table: table.to_owned(),
    };
    for action in [insert(json!({"sql": "x"})), update(json!("x"), json!({"sql": "x"})), delete(json!("x"))] {
        for table in ["sqlite_master", "sqlite_schema", "sqlite_sequence", "pragma_table_info", "dbstat"] {
            let change = Change { table: name("crm", table), action: action.clone() };
            assert!(database.change(change, RowFormat::Json).await.is_err(), "{table} {action:?}");
        }
    }
    for schema in [target.as_str(), "crm\".accounts; ATTACH 'x' AS y; --", "temp", "../crm"] {
        let change = Change { table: name(schema, "t"), action: insert(json!({"a": 1})) };
        assert!(database.change(change, RowFormat::Json).await.is_err(), "{schema}");
        let write = crate::domain::sql::TableWrite {
            table: name(schema, "t"),
            records: vec![row(json!({"a": 1}))],
            ..Default::default()
        };
        assert!(database.write(write).await.is_err(), "{schema}");
    }
    // Inside of a transaction the same is refused as outside.
    for (sql, named) in [
        (format!("ATTACH '{target}' AS x"), "ATTACH"),
        (format!("VACUUM crm INTO '{target}'"), "VACUUM"),
        ("DETACH crm".to_owned(), "DETACH"),
        ("SELECT load_extension('/tmp/x.so')".to_owned(), "load_extension"),
        ("SELECT writefile('/tmp/x', 'y')".to_owned(), "writefile"),
        ("SELECT readfile('/etc/passwd')".to_owned(), "readfile"),
        ("PRAGMA writable_schema = ON".to_owned(), "writable_schema"),
        ("PRAGMA journal_mode = OFF".to_owned(), "journal_mode"),
        ("COMMIT".to_owned(), "COMMIT"),
        ("CREATE TEMP TABLE x (id INTEGER)".to_owned(), "temporary"),
    ] {
        let inside = fixture.database().inside(fixture.database().begin().await.unwrap());
        let error = inside.fetch(query(&*sql)).await.unwrap_err();
        let is_refused = error.code == SqlErrorCode::NotAllowed && error.message.contains(named);
        let is_impossible = ["no such function", "cannot VACUUM"].iter().any(|reason| error.message.contains(reason));
        assert!(is_refused || is_impossible, "{sql}: {error:?}");
    }
    // Column names, types and defaults are names and nothing else.
    let evil = "a\" TEXT); ATTACH 'x' AS y; --";
    let change = Change { table: name("crm", "accounts"), action: insert(json!({(evil): 1})) };
    assert_eq!(database.change(change, RowFormat::Json).await.unwrap_err().code, SqlErrorCode::UnknownColumn);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(fixture.query("SELECT * FROM crm.accounts").await.unwrap().len(), 1);
}
