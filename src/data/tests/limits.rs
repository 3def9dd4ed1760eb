//! Limits on rows, bytes, time and connections; and what stays below them flows.

use super::*;

#[tokio::test]
async fn a_hundred_thousand_rows_stream_in_bounded_batches() {
    let mut fixture = Fixture::postgres("").await;
    fixture.limits.guest_rows = 200_000;
    fixture.limits.guest_bytes = 100 << 20;
    let sqlite = {
        let mut sqlite = Fixture::sqlite(&[]);
        sqlite.limits = fixture.limits;
        sqlite
    };
    let postgres_sql = "SELECT i, 'row ' || i AS name FROM generate_series(1, 100000) i";
    let sqlite_sql = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 100000) SELECT i, 'row ' || i AS name FROM c";
    for (fixture, sql) in [(&fixture, postgres_sql), (&sqlite, sqlite_sql)] {
        let mut cursor = fixture.fetch(query(sql)).await.unwrap();
        let mut n_rows = 0;
        while let Some(batch) = cursor.next_batch(RowFormat::Json).await.unwrap() {
            let rows: Vec<Value> = serde_json::from_slice(&batch).unwrap();
            assert!(rows.len() <= 1000);
            for row in rows {
                n_rows += 1;
                assert_eq!(row, json!({"i": n_rows, "name": format!("row {n_rows}")}));
            }
        }
        assert_eq!((n_rows, cursor.rows_read()), (100_000, 100_000));
        // Partly by the script, the rest by the caller.
        let mut cursor = fixture.fetch(query(sql)).await.unwrap();
        let taken: Vec<Value> =
            serde_json::from_slice(&cursor.next_batch(RowFormat::Json).await.unwrap().unwrap()).unwrap();
        let counter = cursor.row_counter();
        let rest: Vec<Value> = serde_json::from_slice(&streamed(cursor).await.unwrap()).unwrap();
        assert_eq!(taken.len() + rest.len(), 100_000);
        assert_eq!(rest[0]["i"], json!(taken.len() + 1));
        assert_eq!(counter.load(Ordering::Relaxed), 100_000);
    }
    fixture.end().await;
}

#[tokio::test]
async fn a_sqlite_file_grows_to_its_limit_and_not_beyond() {
    let mut fixture = Fixture::sqlite(&[("shop", "CREATE TABLE t (x BLOB); INSERT INTO t VALUES (zeroblob(3000000))")]);
    let mut settings = DataSettings::new(fixture.folder.path().to_owned());
    settings.sqlite_bytes = 8 << 20;
    fixture.connections = Connections::new(settings);
    let grow = || fixture.query("INSERT INTO shop.t VALUES (zeroblob(3000000))");
    grow().await.unwrap();
    let error = grow().await.unwrap_err();
    assert_eq!(error.code, SqlErrorCode::StatementFailed);
    assert!(error.message.contains("grown to the size that the host allows"), "{error}");
    // What is there can be read, and made smaller; a new schema has the limit, too.
    fixture.query("DELETE FROM shop.t").await.unwrap();
    grow().await.unwrap();
    let database = fixture.database();
    database.create_schema("", "more").await.unwrap();
    fixture.query("CREATE TABLE more.t (x BLOB)").await.unwrap();
    let error = fixture.query("INSERT INTO more.t VALUES (zeroblob(9000000))").await.unwrap_err();
    assert!(error.message.contains("grown to the size"), "{error}");
}

#[tokio::test]
async fn files_that_are_full_are_read_and_made_smaller_and_nothing_else() {
    let quota = UsedUp { quota: Quota::StorageBytes, limit: 4_000_000 };
    let set_up =
        "CREATE TABLE t (x BLOB); CREATE TABLE u (y INTEGER PRIMARY KEY); INSERT INTO t VALUES (zeroblob(3000000));
                  INSERT INTO u VALUES (1)";
    let mut fixture = Fixture::sqlite(&[("shop", set_up)]);
    let base = fixture.folder.path().to_owned();
    let used = || written_sqlite_bytes(&base, &[fixture.target.url.clone(), fixture.target.url.clone()]);
    let before = used();
    assert!((3_000_000..3_100_000).contains(&before), "{before}");
    assert_eq!(written_sqlite_bytes(&base, &[fixture.target.url.clone().reading_only()]), 0);
    fixture.limits.sqlite_is_full = Some(quota);
    for refused in [
        "INSERT INTO shop.u VALUES (2)",
        "REPLACE INTO shop.u VALUES (1)",
        "UPDATE shop.u SET y = 3",
        "CREATE TABLE shop.v (z)",
        "CREATE TABLE shop.v AS SELECT * FROM shop.t",
        "CREATE INDEX shop.i ON t (x)",
        "CREATE VIEW shop.w AS SELECT 1",
        "ALTER TABLE shop.u ADD COLUMN z",
        "CREATE VIRTUAL TABLE shop.f USING fts5(x)",
    ] {
        let error = fixture.query(refused).await.unwrap_err();
        assert_eq!(error.code, SqlErrorCode::NotAllowed, "{refused}: {error}");
        assert!(error.message.starts_with("the tenant's quota `storage_bytes` of 4000000 is used up"), "{error}");
    }
    assert_eq!(fixture.rows(query("SELECT y FROM shop.u")).await.unwrap(), [json!({"y": 1})]);
    fixture.query("DELETE FROM shop.t").await.unwrap();
    fixture.query("DROP TABLE shop.u").await.unwrap();
    assert!(used() < 100_000, "what is free does not count: {}", used());
    fixture.limits.sqlite_is_full = None;
    fixture.query("CREATE TABLE shop.v (z)").await.unwrap();
}

#[tokio::test]
async fn too_many_rows_or_bytes_are_an_error_that_names_the_limit() {
    let mut fixture = Fixture::postgres("").await;
    fixture.limits.guest_rows = 10;
    fixture.limits.streamed_rows = 20;
    let series = |n: u32| query(format!("SELECT i FROM generate_series(1, {n}) i"));
    assert_eq!(fixture.rows(series(10)).await.unwrap().len(), 10);
    let mut cursor = fixture.fetch(series(11)).await.unwrap();
    let error = cursor.next_batch(RowFormat::Json).await.unwrap_err();
    assert_eq!(error.code, SqlErrorCode::ResultTooLarge);
    assert!(error.message.contains("more than 10 rows"), "{error}");
    assert_eq!(cursor.next_batch(RowFormat::Json).await.unwrap(), None);
    assert!(streamed(fixture.fetch(series(20)).await.unwrap()).await.is_ok());
    let error = streamed(fixture.fetch(series(5000)).await.unwrap()).await.unwrap_err();
    assert_eq!(error.code, SqlErrorCode::ResultTooLarge);
    assert!(error.message.contains("more than 20 rows"), "{error}");
    fixture.limits.guest_bytes = 1000;
    let error = fixture.query("SELECT repeat('x', 1000) AS x").await.unwrap_err();
    assert_eq!(error.code, SqlErrorCode::ResultTooLarge);
    assert!(error.message.contains("larger than 1000 bytes"), "{error}");
    fixture.end().await;
}

#[tokio::test]
async fn slow_statements_are_stopped() {
    let mut postgres = Fixture::postgres("").await;
    let mut sqlite = Fixture::sqlite(&[]);
    let endless = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) SELECT";
    for (is_sqlite, sql) in [
        (false, "SELECT pg_sleep(100)::text".to_owned()),
        (
            false,
            "SELECT i, CASE WHEN i > 5000 THEN pg_sleep(100)::text END AS s FROM generate_series(1, 6000) i".to_owned(),
        ),
        (true, format!("{endless} count(*) FROM c")),
        (true, format!("{endless} i FROM c WHERE i < 2000 OR i < 0")),
    ] {
        let fixture = if is_sqlite { &mut sqlite } else { &mut postgres };
        let spacious = fixture.limits.statement_time;
        fixture.limits.statement_time = Duration::from_millis(300);
        let error = fixture.query(&*sql).await.unwrap_err();
        assert_eq!(
            (error.code, error.message.as_str()),
            (SqlErrorCode::StatementTimeout, "the statement ran longer than 300ms"),
            "{sql}"
        );
        let error = match fixture.fetch(query(&*sql)).await {
            Ok(cursor) => streamed(cursor).await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.code, SqlErrorCode::StatementTimeout, "{sql}");
        fixture.limits.statement_time = spacious;
        assert!(fixture.query("SELECT 1").await.is_ok());
    }
    until_zero(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(100)::text' AND state <> 'idle'",
    )
    .await;
    postgres.end().await;
}

/// Beyond this something hangs: with a look at the clock every 10,000 instructions, each of these would take minutes.
const HANG_GUARD: Duration = Duration::from_secs(30);

/// A row of these takes a large part of a second, in a few of SQLite's own instructions.
#[tokio::test]
async fn functions_of_sqlite_do_not_outlast_their_statement() {
    let mut fixture = Fixture::sqlite(&[("crm", "CREATE TABLE t (x)")]);
    let rows = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c)";
    let large = format!("{}hex(zeroblob(3000000 + i)){}", "replace(".repeat(12), ", '0', '1')".repeat(12));
    for sql in [
        format!("{rows} SELECT count(length({large})) FROM c"),
        format!("{rows} SELECT 1 FROM c WHERE {large} LIKE '%2%' OR {large} GLOB '*3*'"),
        format!("{rows} SELECT sum(instr({large}, 'x')) FROM c"),
        format!("{rows} SELECT max(length({large})) OVER () FROM c"),
        format!("{rows} SELECT (SELECT count(*) FROM c AS d WHERE d.i < 9 AND length({large}) < 0) FROM c WHERE i < 0"),
        format!("{rows} INSERT INTO crm.t SELECT i FROM c WHERE length({large}) < 0"),
    ] {
        fixture.limits.statement_time = Duration::from_millis(100);
        let running = tokio::time::timeout(HANG_GUARD, fixture.query(&*sql)).await;
        let error = running.unwrap_or_else(|_| panic!("{sql} goes on")).expect_err(&sql);
        assert_eq!(error.code, SqlErrorCode::StatementTimeout, "{sql}: {error}");
    }
    fixture.limits.statement_time = HANG_GUARD;
    assert_eq!(fixture.query("SELECT count(*) AS n FROM crm.t").await.unwrap(), [json!({"n": 0})]);
}

#[tokio::test]
async fn a_script_that_reads_slowly_uses_up_its_time() {
    let mut fixture = Fixture::postgres("").await;
    fixture.limits.statement_time = Duration::from_secs(3);
    let mut cursor =
        fixture.fetch(query("SELECT repeat('x', 500) AS x FROM generate_series(1, 1000000)")).await.unwrap();
    tokio::time::sleep(fixture.limits.statement_time).await;
    let error = loop {
        match cursor.next_batch(RowFormat::Json).await {
            Ok(batch) => assert!(batch.is_some(), "the end came before the limit"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code, SqlErrorCode::StatementTimeout, "{error}");
    fixture.end().await;
}

#[tokio::test]
async fn the_host_stops_reading_when_the_reader_does() {
    let mut fixture = Fixture::postgres("").await;
    fixture.limits.stream_time = Duration::from_secs(3);
    fixture.limits.statement_time = Duration::from_secs(3);
    let cursor = fixture.fetch(query("SELECT repeat('x', 1000) AS x FROM generate_series(1, 300000)")).await.unwrap();
    let mut stream = Box::pin(cursor.into_json());
    stream.next().await.unwrap().unwrap();
    // Nobody polls the stream; the connection is given up all the same.
    until_zero(&format!("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%generate_series(1, 300000)' AND state = 'active' AND application_name = 'pqhost' AND query NOT LIKE '%{}%'", "/*")).await;
    let error = loop {
        match stream.next().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("an unfinished stream must end in an error"),
        }
    };
    assert_eq!(error.code, SqlErrorCode::StatementTimeout);
    assert!(stream.next().await.is_none());
    fixture.end().await;
}

#[tokio::test]
async fn connections_are_bounded() {
    let mut fixture = Fixture::postgres("").await;
    fixture.limits.statement_time = Duration::from_secs(30);
    let endless = || query("SELECT repeat('x', 1000) AS x FROM generate_series(1, 300000)");
    let first = fixture.fetch(endless()).await.unwrap();
    let _second = fixture.fetch(endless()).await.unwrap();
    let error = fixture.query("SELECT 1").await.unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (SqlErrorCode::Unavailable, "all 2 connections to the database are in use")
    );
    drop(first);
    assert!(fixture.query("SELECT 1").await.is_ok());
    fixture.end().await;
}

#[tokio::test]
async fn a_limit_on_a_query_spares_the_connection_when_it_is_nearly_done() {
    let fixture = Fixture::postgres("").await;
    let select = |n: u32| Select {
        limit: Some(3),
        ..query(format!("SELECT pg_backend_pid() AS pid FROM generate_series(1, {n})"))
    };
    let short = fixture.rows(select(100)).await.unwrap();
    assert_eq!(short.len(), 3);
    assert_eq!(fixture.rows(select(300_000)).await.unwrap().len(), 3);
    fixture.end().await;
}
