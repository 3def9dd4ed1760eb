//! Nothing reaches the next statement, and nothing is left running.

use super::*;

#[tokio::test]
async fn session_state_does_not_reach_the_next_fetch() {
    let fixture = Fixture::postgres("CREATE TABLE t (id int); INSERT INTO t VALUES (1)").await;
    let schema = &fixture.schema;
    let role = format!("{schema}_role");
    admin(&format!("CREATE ROLE {role}")).await;
    let probe = "SELECT current_user::text AS u, current_setting('search_path') AS p, current_setting('work_mem') AS w,
        current_setting('TimeZone') AS z, current_setting('pqhost.secret', true) AS s,
        to_regclass('pg_temp.leak')::text AS temp, (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks,
        (SELECT count(*) FROM pg_prepared_statements WHERE from_sql) AS prepared, (SELECT count(*) FROM pg_cursors WHERE name <> '') AS cursors,
        (SELECT count(*) FROM pg_listening_channels()) AS channels, pg_current_xact_id_if_assigned()::text IS NULL AS clean";
    let before = fixture.query(probe).await.unwrap();
    for leak in [
        format!("SET ROLE {role}"),
        format!("SET SESSION AUTHORIZATION {role}"),
        format!("SELECT set_config('role', '{role}', false)"),
        "SET search_path = pg_catalog".into(),
        "SET work_mem = '1GB'".into(),
        "SET TIME ZONE 'Asia/Tokyo'".into(),
        "SET statement_timeout = 0".into(),
        "SELECT set_config('pqhost.secret', 'x', false)".into(),
        "CREATE TEMP TABLE leak (id int)".into(),
        "SELECT pg_advisory_lock(7)::text".into(),
        "BEGIN".into(),
        "PREPARE leak AS SELECT 'leaked'".into(),
        "LISTEN leak".into(),
        "DECLARE leak CURSOR WITH HOLD FOR SELECT 1".into(),
        "DEALLOCATE ALL".into(),
        "DISCARD ALL".into(),
        "DO $$ BEGIN PERFORM set_config('search_path', 'nowhere', false); EXECUTE 'PREPARE sqlx_s_1 AS SELECT 666'; END $$".into(),
        "SELECT 1/0".into(),
        "SELECT 1 FROM nowhere".into(),
    ] {
        _ = fixture.query(&*leak).await; // some end in an error, which must not matter either
        assert_eq!(fixture.query(probe).await.unwrap(), before, "{leak}");
        assert_eq!(fixture.rows(fixture.table("t")).await.unwrap(), [json!({"id": 1})], "{leak}");
        let timeout = fixture.query("SHOW statement_timeout").await.unwrap();
        assert_eq!(timeout, [json!({"statement_timeout": "305s"})], "{leak}");
    }
    admin(&format!("DROP ROLE {role}")).await;
    fixture.end().await;
}

#[tokio::test]
async fn a_dropped_cursor_stops_its_statement() {
    let fixture = Fixture::postgres("").await;
    let tag = format!("/* {} */", fixture.schema);
    let running = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%{tag}%' AND state <> 'idle' AND pid <> pg_backend_pid()"
    );
    // With rows on their way.
    let mut cursor =
        fixture.fetch(query(format!("SELECT repeat('x', 1000) FROM generate_series(1, 300000) {tag}"))).await.unwrap();
    assert!(cursor.next_batch(RowFormat::Json).await.unwrap().is_some());
    assert_eq!(admin_count(&running).await, 1);
    drop(cursor);
    until_zero(&running).await;
    // Before the first row: the future is dropped.
    let fetch = fixture.fetch(query(format!("SELECT pg_sleep(100) {tag}")));
    dropped_at_work(fetch, &running).await;
    until_zero(&running).await;
    // A stream that is dropped.
    let cursor =
        fixture.fetch(query(format!("SELECT repeat('x', 1000) FROM generate_series(1, 300000) {tag}"))).await.unwrap();
    let mut stream = Box::pin(cursor.into_json());
    stream.next().await.unwrap().unwrap();
    drop(stream);
    until_zero(&running).await;
    // Both permits are free again.
    let (a, b) = tokio::join!(fixture.query("SELECT 1 AS a"), fixture.query("SELECT 1 AS a"));
    assert!(a.is_ok() && b.is_ok());
    fixture.end().await;
}

#[tokio::test]
async fn a_killed_connection_is_replaced() {
    let fixture = Fixture::postgres("CREATE TABLE t (id int); INSERT INTO t VALUES (1)").await;
    let kill = |pid: &Value| format!("SELECT pg_terminate_backend({pid})");
    for select in [fixture.table("t"), query("SELECT 1 AS id")] {
        let pid = fixture.query("SELECT pg_backend_pid() AS pid").await.unwrap()[0]["pid"].clone();
        admin(&kill(&pid)).await;
        until_zero(&format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}")).await;
        assert_eq!(fixture.rows(select).await.unwrap(), [json!({"id": 1})]);
    }
    // COPY leaves the protocol in a state of its own.
    for copy in ["COPY (SELECT 1) TO STDOUT".to_owned(), format!("COPY {}.t FROM STDIN", fixture.schema)] {
        let error = fixture.query(&*copy).await.unwrap_err();
        assert_eq!(error.code, SqlErrorCode::StatementFailed, "{error}");
        assert!(error.message.contains("COPY is not possible"), "{error}");
    }
    assert_eq!(fixture.rows(fixture.table("t")).await.unwrap(), [json!({"id": 1})]);
    // While a statement runs, there is an error, and no second run.
    let error = fixture.query("SELECT pg_terminate_backend(pg_backend_pid())").await.unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (SqlErrorCode::Unavailable, "the connection to the database was lost")
    );
    assert!(fixture.query("SELECT 1").await.is_ok());
    fixture.end().await;
}

#[tokio::test]
async fn a_changed_table_is_read_as_it_is_now() {
    let fixture = Fixture::postgres("CREATE TABLE t (id int); INSERT INTO t VALUES (1)").await;
    assert_eq!(fixture.rows(fixture.table("t")).await.unwrap(), [json!({"id": 1})]);
    admin(&format!("ALTER TABLE {}.t ADD COLUMN name text DEFAULT 'x'", fixture.schema)).await;
    assert_eq!(fixture.rows(fixture.table("t")).await.unwrap(), [json!({"id": 1, "name": "x"})]);
    fixture.end().await;
}

#[tokio::test]
async fn table_reads_keep_their_session_and_its_prepared_statement() {
    let fixture = Fixture::postgres("CREATE TABLE t AS SELECT pg_backend_pid() AS creator").await;
    admin(&format!("CREATE VIEW {}.me AS SELECT pg_backend_pid() AS pid, (SELECT count(*) FROM pg_prepared_statements) AS prepared", fixture.schema)).await;
    let first = fixture.rows(fixture.table("me")).await.unwrap();
    for _ in 0..5 {
        assert_eq!(fixture.rows(fixture.table("me")).await.unwrap(), first);
    }
    assert_eq!(first[0]["prepared"], json!(1));
    fixture.end().await;
}

/// The server's process behind a connection of the pool.
async fn backend_of(fixture: &Fixture) -> Value {
    fixture.query("SELECT pg_backend_pid() AS pid").await.unwrap()[0]["pid"].clone()
}

#[tokio::test]
async fn another_revision_has_another_pool_and_forget_closes() {
    let mut fixture = Fixture::postgres("").await;
    let first = backend_of(&fixture).await;
    fixture.target.revision = 2;
    let second = backend_of(&fixture).await;
    assert_ne!(first, second);
    until_zero(&format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {}", first)).await;
    fixture.connections.forget(fixture.target.tenant, fixture.target.connection);
    until_zero(&format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {}", second)).await;
    fixture.end().await;
}

#[tokio::test]
async fn idle_connections_are_closed_and_pools_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = DataSettings::new(folder.path().to_owned());
    settings.idle_time = Duration::from_millis(200);
    settings.pools = 3;
    let connections = Connections::new(settings);
    let url = ConnectionUrl::parse(&format!("{POSTGRES}?sslmode=disable")).unwrap();
    let mut pids = Vec::new();
    for connection in 0..10 {
        let target = Target {
            tenant: TenantId(connection),
            connection: ConnectionId(connection),
            revision: 1,
            name: "c".parse().unwrap(),
            url: url.clone(),
        };
        let database = connections.database(target, SqlLimits::default());
        let mut cursor = database.fetch(query("SELECT pg_backend_pid() AS pid")).await.unwrap();
        let rows: Value = serde_json::from_slice(&cursor.next_batch(RowFormat::Json).await.unwrap().unwrap()).unwrap();
        pids.push(rows[0]["pid"].to_string());
        until_zero(&format!(
            "SELECT count(*) FROM pg_stat_activity WHERE pid = {} AND query <> 'DISCARD ALL'",
            pids.last().unwrap()
        ))
        .await;
    }
    assert!(connections.shared.pools().len() <= 3);
    until_zero(&format!("SELECT count(*) FROM pg_stat_activity WHERE pid IN ({})", pids.join(", "))).await;
}

#[tokio::test]
async fn connecting_tells_nothing_of_the_url() {
    for (url, message) in [
        ("postgres://bob:hunter2@127.0.0.1:1/db", "the database cannot be reached: connection refused"),
        ("postgres://bob:hunter2@no-such-host.invalid/db", "the database cannot be reached"),
        (
            "postgres://postgres:hunter2@127.0.0.1/nope_hunter2",
            "the server has no database of the name in this connection",
        ),
        ("postgres://bob_hunter2:x@127.0.0.1/test", "the database refused the login of this connection"),
        ("sqlite:///nope/hunter2", "the SQLite folder of this connection does not exist"),
    ] {
        let fixture = Fixture::new(url, String::new());
        let error = fixture.query("SELECT 1").await.unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (SqlErrorCode::Unavailable, message));
        assert!(!format!("{:?} {:?}", fixture.target, fixture.connections).contains("hunter2"));
    }
}
