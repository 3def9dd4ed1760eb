//! Transactions: together or not at all, and nothing is left behind.

use super::*;

const ACCOUNTS: &str = "CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER CHECK (balance >= 0));
    INSERT INTO accounts VALUES (1, 100), (2, 0)";

struct Inside {
    database: Database,
    transaction: Transaction,
    name: TableName,
}

impl Inside {
    async fn begin(fixture: &Fixture) -> Self {
        let transaction = fixture.database().begin().await.unwrap();
        let database = fixture.database().inside(transaction.clone());
        Self { database, transaction, name: fixture.name("accounts") }
    }

    async fn change(&self, action: Action) -> Result<Vec<u8>, SqlError> {
        self.database.change(Change { table: self.name.clone(), action }, RowFormat::Json).await
    }

    async fn query(&self, sql: impl Into<String>) -> Result<(), SqlError> {
        let mut cursor = self.database.fetch(query(sql)).await?;
        while cursor.next_batch(RowFormat::Json).await?.is_some() {}
        Ok(())
    }

    async fn commit(self) -> Result<(), SqlError> {
        self.transaction.commit().await
    }
}

async fn balances(fixture: &Fixture) -> Vec<i64> {
    fixture.all("accounts").await.as_array().unwrap().iter().map(|row| row["balance"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn a_commit_keeps_everything_and_a_rollback_nothing() {
    for fixture in both(ACCOUNTS).await {
        let table = format!("{}.accounts", fixture.name("").schema.unwrap());
        let inside = Inside::begin(&fixture).await;
        inside.change(update(json!(1), json!({"balance": 60}))).await.unwrap();
        inside.query(format!("UPDATE {table} SET balance = balance + 40 WHERE id = 2")).await.unwrap();
        assert_eq!(balances(&fixture).await, [100, 0], "nobody else sees it yet");
        inside.commit().await.unwrap();
        assert_eq!(balances(&fixture).await, [60, 40]);

        let inside = Inside::begin(&fixture).await;
        inside.change(delete(json!(1))).await.unwrap();
        inside.transaction.clone().rollback().await;
        assert_eq!(inside.change(delete(json!(2))).await.unwrap_err().code, SqlErrorCode::TransactionOver);
        assert_eq!(balances(&fixture).await, [60, 40]);

        // Nobody ends it: it ends with its last handle.
        let inside = Inside::begin(&fixture).await;
        inside.change(delete(json!(1))).await.unwrap();
        drop(inside);
        let after = Inside::begin(&fixture).await; // on SQLite this waits for the lock to be free
        after.change(update(json!(2), json!({"balance": 41}))).await.unwrap();
        after.commit().await.unwrap();
        assert_eq!(balances(&fixture).await, [60, 41]);
        fixture.end().await;
    }
}

#[tokio::test]
async fn an_error_ends_a_transaction() {
    for fixture in both(ACCOUNTS).await {
        let inside = Inside::begin(&fixture).await;
        inside.change(update(json!(1), json!({"balance": 1}))).await.unwrap();
        // What never reached the database does no harm.
        let error = inside
            .database
            .fetch(Select { params: Params::Positional(vec![SqlValue::Int(1)]), ..query("SELECT 1") })
            .await;
        assert_eq!(error.unwrap_err().code, SqlErrorCode::InvalidArgument);
        for sql in ["BEGIN", "/* x */ commit", "ROLLBACK", "SAVEPOINT s", "END;"] {
            let error = inside.query(sql).await.unwrap_err();
            assert_eq!(error.code, SqlErrorCode::NotAllowed, "{sql}: {error}");
        }
        inside.change(update(json!(1), json!({"balance": 2}))).await.unwrap();
        let error = inside.change(update(json!(2), json!({"balance": -1}))).await.unwrap_err();
        assert_eq!(error.code, SqlErrorCode::ConstraintViolated, "{error}");
        let error = inside.change(update(json!(1), json!({"balance": 3}))).await.unwrap_err();
        assert_eq!(error.code, SqlErrorCode::TransactionOver);
        assert!(error.message.contains("CHECK constraint") || error.message.contains("check constraint"), "{error}");
        assert_eq!(inside.commit().await.unwrap_err().code, SqlErrorCode::TransactionOver);
        assert_eq!(balances(&fixture).await, [100, 0]);
        // Locks are free.
        fixture.change("accounts", update(json!(1), json!({"balance": 5}))).await.unwrap();
        fixture.end().await;
    }
}

#[tokio::test]
async fn of_two_that_wait_for_each_other_one_goes_on() {
    let [postgres, sqlite] = both(ACCOUNTS).await;
    let (one, two) = (Inside::begin(&postgres).await, Inside::begin(&postgres).await);
    one.change(update(json!(1), json!({"balance": 1}))).await.unwrap();
    two.change(update(json!(2), json!({"balance": 2}))).await.unwrap();
    let (first, second) = tokio::join!(
        one.change(update(json!(2), json!({"balance": 1}))),
        two.change(update(json!(1), json!({"balance": 2})))
    );
    let (failed, winner, expected) = match (first, second) {
        (Ok(_), Err(error)) => (error, one, [1, 1]),
        (Err(error), Ok(_)) => (error, two, [2, 2]),
        other => panic!("{other:?}"),
    };
    assert_eq!(failed.code, SqlErrorCode::Conflict, "{failed}");
    assert!(failed.message.contains("deadlock detected"), "{failed}");
    winner.commit().await.unwrap();
    assert_eq!(balances(&postgres).await, expected);
    postgres.end().await;

    // SQLite lets one in and the other wait, then fail.
    let one = Inside::begin(&sqlite).await;
    let error = sqlite.database().begin().await.unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (SqlErrorCode::Conflict, "database is locked"));
    one.change(update(json!(1), json!({"balance": 9}))).await.unwrap();
    one.commit().await.unwrap();
    assert_eq!(balances(&sqlite).await, [9, 0]);
}

#[tokio::test]
async fn a_constraint_that_is_checked_at_the_end_fails_the_commit() {
    let fixture = Fixture::postgres(
        "CREATE TABLE accounts (id int PRIMARY KEY, parent int REFERENCES accounts (id) DEFERRABLE INITIALLY DEFERRED)",
    )
    .await;
    let inside = Inside::begin(&fixture).await;
    inside.change(insert(json!({"id": 1, "parent": 2}))).await.unwrap();
    assert_eq!(inside.commit().await.unwrap_err().code, SqlErrorCode::ConstraintViolated);
    let inside = Inside::begin(&fixture).await;
    inside.change(insert(json!({"id": 1, "parent": 2}))).await.unwrap();
    inside.change(insert(json!({"id": 2, "parent": 1}))).await.unwrap();
    inside.commit().await.unwrap();
    assert_eq!(fixture.all("accounts").await.as_array().unwrap().len(), 2);
    fixture.end().await;
}

#[tokio::test]
async fn no_session_state_leaves_a_transaction() {
    let fixture = Fixture::postgres(ACCOUNTS).await;
    let probe = "SELECT current_setting('search_path') AS p, current_setting('pqhost.secret', true) AS s, to_regclass('pg_temp.leak')::text AS t,
        (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS l";
    let before = fixture.query(probe).await.unwrap();
    for leak in [
        "SET search_path = pg_catalog",
        "SELECT set_config('pqhost.secret', 'x', false)",
        "CREATE TEMP TABLE leak (id int)",
        "SELECT pg_advisory_lock(7)::text",
    ] {
        let inside = Inside::begin(&fixture).await;
        inside.query(leak).await.unwrap();
        inside.commit().await.unwrap();
        assert_eq!(fixture.query(probe).await.unwrap(), before, "{leak}");
    }
    fixture.end().await;
}

#[tokio::test]
async fn a_transaction_whose_connection_is_lost_is_over() {
    let fixture = Fixture::postgres(ACCOUNTS).await;
    let inside = Inside::begin(&fixture).await;
    inside.change(update(json!(1), json!({"balance": 1}))).await.unwrap();
    let error = inside.query("SELECT pg_terminate_backend(pg_backend_pid())").await.unwrap_err();
    assert_eq!(error.code, SqlErrorCode::Unavailable, "{error}");
    assert_eq!(inside.commit().await.unwrap_err().code, SqlErrorCode::TransactionOver);
    assert_eq!(balances(&fixture).await, [100, 0]);
    fixture.end().await;
}

#[tokio::test]
async fn transactions_are_undone_when_nobody_waits_any_more() {
    let mut fixture = Fixture::postgres(ACCOUNTS).await;
    fixture.limits.statement_time = Duration::from_secs(3);
    let inside = Inside::begin(&fixture).await;
    inside.change(update(json!(1), json!({"balance": 1}))).await.unwrap();
    assert_eq!(inside.query("SELECT pg_sleep(100)::text").await.unwrap_err().code, SqlErrorCode::StatementTimeout);
    let inside = Inside::begin(&fixture).await;
    inside.change(update(json!(1), json!({"balance": 2}))).await.unwrap();
    // The invocation is cancelled in the middle of a statement.
    let sql = format!("SELECT pg_sleep(100)::text /* {} */", fixture.schema);
    let running = format!("SELECT count(*) FROM pg_stat_activity WHERE query = '{sql}' AND state = 'active'");
    dropped_at_work(inside.query(&sql), &running).await;
    drop(inside);
    let inside = Inside::begin(&fixture).await;
    let cursor =
        inside.database.fetch(query("SELECT repeat('x', 1000) FROM generate_series(1, 300000)")).await.unwrap();
    drop(cursor);
    assert_eq!(inside.query("SELECT 1").await.unwrap_err().code, SqlErrorCode::TransactionOver);
    // Three sessions were lost on two permits, and the row is free.
    fixture.change("accounts", update(json!(1), json!({"balance": 3}))).await.unwrap();
    fixture.end().await;
}
