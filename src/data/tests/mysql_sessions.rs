//! What sessions of MySQL and MariaDB leave behind: nothing, neither for the next statement nor running.

use super::*;

/// Waits until no session of the server is at a statement with this text.
async fn until_not_running(text: &str) {
    until_running(text, false).await;
}

/// Waits until a session of the server is at a statement with this text, or none; hang guard: a minute.
async fn until_running(text: &str, is_wanted: bool) {
    let mut connection = MySqlConnection::connect(MYSQL).await.unwrap();
    for _ in 0..1200 {
        let count: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE ? AND ID <> CONNECTION_ID()",
        )
        .bind(format!("%{text}%"))
        .fetch_one(&mut connection)
        .await
        .unwrap();
        if (count > 0) == is_wanted {
            return;
        }
        sqlx::query("SELECT SLEEP(0.05)").execute(&mut connection).await.unwrap();
    }
    panic!("running is still not {is_wanted}: {text}");
}

/// Waits until nobody holds the lock `leak`: the server needs a moment to notice that a session is closed.
async fn until_unlocked() {
    let mut connection = MySqlConnection::connect(MYSQL).await.unwrap();
    let got: i64 = sqlx::query_scalar("SELECT GET_LOCK('leak', 10)").fetch_one(&mut connection).await.unwrap();
    assert_eq!(got, 1, "the lock is still held");
    connection.close().await.unwrap();
}

/// What the server calls the session that runs the next shared statement.
async fn session_of(fixture: &Fixture) -> i64 {
    fixture.query("SELECT CONNECTION_ID() AS id").await.unwrap()[0]["id"].as_i64().unwrap()
}

#[tokio::test]
async fn mysql_changes_share_a_session_that_tells_nothing_of_them() {
    let fixture = Fixture::mysql("CREATE TABLE t (id int AUTO_INCREMENT PRIMARY KEY, x int UNIQUE)").await;
    let session = session_of(&fixture).await;
    for x in 0..3 {
        let rows = fixture.change("t", insert(json!({"x": x}))).await.unwrap();
        assert_eq!(rows, json!([{"id": x + 1, "x": x}]));
    }
    assert_eq!(session_of(&fixture).await, session, "no change has a session of its own");
    let error = fixture.change("t", insert(json!({"x": 1}))).await.unwrap_err();
    assert_eq!(error.code, SqlErrorCode::ConstraintViolated);
    assert_eq!(session_of(&fixture).await, session, "it was rolled back, and the session is as good as before");
    let told = fixture.query("SELECT LAST_INSERT_ID() AS inserted, @@in_transaction AS open").await.unwrap();
    assert_eq!(told[0], json!({"inserted": 0, "open": 0}));
    // An author's transaction has a session to itself, which ends with it.
    let transaction = fixture.database().begin().await.unwrap();
    let inside = fixture.database().inside(transaction.clone());
    let mut cursor = inside.fetch(query("SELECT LAST_INSERT_ID() AS inserted")).await.unwrap();
    assert_eq!(cursor.next_batch(RowFormat::Json).await.unwrap().unwrap(), r#"[{"inserted":0}]"#);
    drop(cursor);
    transaction.rollback().await;
    assert_eq!(session_of(&fixture).await, session);
    fixture.end().await;
}

#[tokio::test]
async fn mysql_session_state_does_not_reach_the_next_fetch() {
    let fixture = Fixture::mysql(
        "CREATE TABLE t (id int AUTO_INCREMENT PRIMARY KEY, x int); INSERT INTO t VALUES (1, 1);
         CREATE FUNCTION leaks() RETURNS int DETERMINISTIC BEGIN SET @leak = 1; RETURN GET_LOCK('leak', 0); END",
    )
    .await;
    let probe = "SELECT @leak AS variable, @@sql_mode AS mode, @@time_zone AS zone, @@autocommit AS autocommit, @@max_statement_time AS time,
        @@character_set_results AS charset, @@foreign_key_checks AS keys_checked, @@in_transaction AS in_transaction, DATABASE() AS db,
        LAST_INSERT_ID() AS inserted, ROW_COUNT() AS changed, FOUND_ROWS() AS found,
        (SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_TYPE LIKE '%TEMPORARY%') AS temporary";
    let shared = "SELECT DATABASE() AS db, COUNT(*) AS n, CURRENT_TIMESTAMP() - UTC_TIMESTAMP() AS zone FROM t";
    let before = (fixture.query(probe).await.unwrap(), fixture.query(shared).await.unwrap());
    assert_eq!(before.0[0]["zone"], json!("+00:00"));
    assert_eq!((&before.0[0]["autocommit"], &before.0[0]["time"]), (&json!(1), &json!(305.0)));
    for leak in [
        "SET @leak = 1",
        "SELECT @leak := 1",
        "SELECT 1 INTO @leak",
        "SELECT leaks()",
        "SET sql_mode = ''",
        "SET time_zone = '+09:00'",
        "SET autocommit = 0",
        "SET max_statement_time = 0",
        "SET NAMES latin1",
        "SET foreign_key_checks = 0",
        "USE mysql",
        "BEGIN",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT",
        "CREATE TEMPORARY TABLE t (leak int)",
        "SELECT GET_LOCK('leak', 0)",
        "LOCK TABLES t WRITE",
        "FLUSH TABLES WITH READ LOCK",
        "HANDLER t OPEN",
        "PREPARE leak FROM 'SELECT 1'",
        "DO LAST_INSERT_ID(5)",
        "SELECT SQL_CALC_FOUND_ROWS * FROM t",
        "SELECT 1/0",
        "SELECT * FROM nowhere",
    ] {
        _ = fixture.query(leak).await; // some end in an error, which must not matter either
        until_unlocked().await;
        let after = (fixture.query(probe).await.unwrap(), fixture.query(shared).await.unwrap());
        assert_eq!(after, before, "{leak}");
        assert_eq!(fixture.rows(fixture.table("t")).await.unwrap(), [json!({"id": 1, "x": 1})], "{leak}");
    }
    // An open transaction was rolled back.
    fixture.query("BEGIN").await.unwrap();
    assert_eq!(fixture.query("INSERT INTO t VALUES (2, 2)").await.unwrap(), [] as [Value; 0]);
    assert_eq!(fixture.query("SELECT * FROM t").await.unwrap().len(), 2);
    fixture.end().await;
}

#[tokio::test]
async fn reading_shares_sessions_and_all_else_has_its_own() {
    let fixture = Fixture::mysql("CREATE TABLE t (id int); CREATE VIEW me AS SELECT CONNECTION_ID() AS id").await;
    let first = session_of(&fixture).await;
    for _ in 0..3 {
        assert_eq!(fixture.rows(fixture.table("me")).await.unwrap(), [json!({"id": first})]);
        assert_eq!(session_of(&fixture).await, first);
    }
    for own in ["SELECT CONNECTION_ID() AS id, @@version AS v", "SELECT CONNECTION_ID() AS id FOR UPDATE"] {
        let ids =
            [fixture.query(own).await.unwrap()[0]["id"].clone(), fixture.query(own).await.unwrap()[0]["id"].clone()];
        assert!(ids[0] != ids[1] && !ids.contains(&json!(first)), "{ids:?}");
    }
    assert_eq!(session_of(&fixture).await, first);
    // An error of SQL is none of the session.
    assert!(fixture.rows(fixture.table("nope")).await.is_err());
    assert_eq!(session_of(&fixture).await, first);
    fixture.end().await;
}

#[tokio::test]
async fn a_dropped_cursor_stops_its_mysql_statement() {
    let fixture = Fixture::mysql("CREATE TABLE t (id int); INSERT INTO t VALUES (1)").await;
    let tag = fixture.schema.clone();
    let endless = format!("SELECT REPEAT('x', 1000) AS x FROM seq_1_to_300000 -- {tag}");
    // With rows on their way.
    let mut cursor = fixture.fetch(query(&*endless)).await.unwrap();
    assert!(cursor.next_batch(RowFormat::Json).await.unwrap().is_some());
    drop(cursor);
    until_not_running(&tag).await;
    // Before the first row: the future is dropped. Reading and changing alike.
    for sql in [format!("SELECT SLEEP(100) AS s -- {tag}"), format!("UPDATE t SET id = SLEEP(100) -- {tag}")] {
        tokio::select! {
            _ = fixture.fetch(query(&*sql)) => panic!("nothing dropped it: {sql}"),
            () = until_running(&tag, true) => {}
        }
        until_not_running(&tag).await;
    }
    // A stream that is dropped.
    let mut stream = Box::pin(fixture.fetch(query(&*endless)).await.unwrap().into_json());
    stream.next().await.unwrap().unwrap();
    drop(stream);
    until_not_running(&tag).await;
    // What `limit` cut off.
    assert_eq!(fixture.rows(Select { limit: Some(3), ..query(&*endless) }).await.unwrap().len(), 3);
    until_not_running(&tag).await;
    // Both permits are free again.
    let (a, b) = tokio::join!(fixture.query("SELECT 1 AS a"), fixture.query("SELECT 1 AS a"));
    assert!(a.is_ok() && b.is_ok());
    fixture.end().await;
}

#[tokio::test]
async fn slow_mysql_statements_are_stopped() {
    let mut fixture = Fixture::mysql("CREATE TABLE t (id int); INSERT INTO t VALUES (1)").await;
    let spacious = fixture.limits.statement_time;
    let tag = fixture.schema.clone();
    for sql in [
        format!("SELECT SLEEP(100) AS s -- {tag}"),
        format!("SELECT BENCHMARK(1000000000000, MD5('x')) AS b -- {tag}"),
        format!("SELECT seq, IF(seq > 5000, SLEEP(100), 0) AS s FROM seq_1_to_6000 -- {tag}"),
        format!("UPDATE t SET id = SLEEP(100) -- {tag}"),
    ] {
        fixture.limits.statement_time = Duration::from_millis(500);
        let error = fixture.query(&*sql).await.unwrap_err();
        assert_eq!(
            (error.code, error.message.as_str()),
            (SqlErrorCode::StatementTimeout, "the statement ran longer than 500ms"),
            "{sql}"
        );
        fixture.limits.statement_time = spacious;
        until_not_running(&tag).await;
        assert!(fixture.query("SELECT 1").await.is_ok());
    }
    // The server's own limit, should the host be gone.
    let error = fixture.query("SET STATEMENT max_statement_time = 0.1 FOR SELECT SLEEP(10)").await.unwrap_err();
    assert_eq!(error.code, SqlErrorCode::StatementTimeout, "{error}");
    fixture.end().await;
}

#[tokio::test]
async fn a_killed_mysql_session_is_replaced() {
    let fixture = Fixture::mysql("CREATE TABLE t (id int); INSERT INTO t VALUES (1)").await;
    for select in [fixture.table("t"), query("SELECT 1 AS id")] {
        let session = session_of(&fixture).await;
        mysql_admin(&format!("KILL {session}")).await;
        assert_eq!(fixture.rows(select).await.unwrap(), [json!({"id": 1})]);
        assert_ne!(session_of(&fixture).await, session);
    }
    // While a statement runs, there is an error, and no second run.
    let error = fixture.query("KILL CONNECTION_ID()").await.unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (SqlErrorCode::Unavailable, "the connection to the database was lost")
    );
    assert!(fixture.query("SELECT 1").await.is_ok());
    fixture.end().await;
}

#[tokio::test]
async fn a_changed_mysql_table_is_read_as_it_is_now() {
    let fixture = Fixture::mysql("CREATE TABLE t (id int); INSERT INTO t VALUES (1)").await;
    assert_eq!(fixture.rows(fixture.table("t")).await.unwrap(), [json!({"id": 1})]);
    mysql_admin(&format!("ALTER TABLE {}.t ADD COLUMN name text DEFAULT 'x', MODIFY id varchar(5)", fixture.schema))
        .await;
    assert_eq!(fixture.rows(fixture.table("t")).await.unwrap(), [json!({"id": "1", "name": "x"})]);
    fixture.end().await;
}

#[tokio::test]
async fn mysql_connections_are_bounded() {
    let mut fixture = Fixture::mysql("").await;
    fixture.limits.statement_time = Duration::from_secs(30);
    let endless = || query("SELECT REPEAT('x', 1000) AS x FROM seq_1_to_300000");
    let count = format!("SELECT COUNT(*) AS n FROM information_schema.PROCESSLIST WHERE DB = '{}'", fixture.schema);
    let first = fixture.fetch(endless()).await.unwrap();
    let second = fixture.fetch(endless()).await.unwrap();
    let error = fixture.query("SELECT 1").await.unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (SqlErrorCode::Unavailable, "all 2 connections to the database are in use")
    );
    drop((first, second));
    // Two idle sessions, then one that is not shared: it takes the place of one of them.
    let (a, b) = tokio::join!(fixture.query("SELECT SLEEP(0.2) AS a"), fixture.query("SELECT SLEEP(0.2) AS b"));
    assert!(a.is_ok() && b.is_ok());
    let rows = fixture.query(format!("{count} AND @@version <> ''")).await.unwrap();
    assert!(rows[0]["n"].as_i64().unwrap() <= 2, "{rows:?}");
    fixture.end().await;
}

#[tokio::test]
async fn connecting_to_mysql_tells_nothing_of_the_url() {
    for (url, message) in [
        ("mysql://bob:hunter2@127.0.0.1:1/db", "the database cannot be reached: connection refused"),
        ("mysql://bob:hunter2@no-such-host.invalid/db", "the database cannot be reached"),
        ("mysql://root@127.0.0.1/nope_hunter2", "the server has no database of the name in this connection"),
        ("mysql://bob_hunter2:x@127.0.0.1/test", "the database refused the login of this connection"),
        ("mariadb://root:hunter2@127.0.0.1/test", "the database refused the login of this connection"),
        ("mysql://root@127.0.0.1/test?sslmode=require", "no encrypted connection to the database could be established"),
        ("mysql://root@localhost/test?host=/nope/hunter2.sock", "the database cannot be reached"),
    ] {
        let fixture = Fixture::new(url, String::new());
        let error = fixture.query("SELECT 1").await.unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (SqlErrorCode::Unavailable, message), "{url}");
        assert!(!format!("{:?} {:?}", fixture.target, fixture.connections).contains("hunter2"));
    }
}
