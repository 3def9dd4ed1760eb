//! Transactions in MySQL and MariaDB: a task that holds one session from its beginning to its end, and then closes it.
//!
//! Owns: when a transaction ends. Never: runs a statement its own way (see `attempt`).

use std::sync::Arc;

use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::{
    data::{
        cursor::timed_out,
        mysql::{EXPLAIN_TIME, Failure, MySqlPool, attempt, error, kind, server_limit, session::Session},
        select::{Form, Statement},
        transaction::{Order, Orders, refusal_inside},
    },
    domain::{
        limits::SqlLimits,
        sql::{SqlError, SqlErrorCode},
    },
};

/// What statements may begin with inside of a transaction. Most others commit it, without a word.
const POSSIBLE: [&str; 12] = [
    "select", "with", "values", "table", "insert", "update", "delete", "replace", "show", "explain", "describe", "desc",
];

/// Holds a transaction until it is committed, rolled back, ended by an error, or nobody wants it any more.
pub(crate) async fn hold(
    pool: Arc<MySqlPool>,
    limits: SqlLimits,
    mut orders: Orders,
    begun: oneshot::Sender<Result<(), SqlError>>,
) {
    let _permit = match pool.sessions.permit(pool.acquire_time).await {
        Ok(permit) => permit,
        Err(error) => {
            _ = begun.send(Err(error)); // a caller who left needs no error
            return;
        }
    };
    drop(pool.sessions.take_surplus());
    let beginning = timeout(limits.statement_time, begin(&pool, &limits)).await;
    let mut session = match beginning.unwrap_or_else(|_| Err(timed_out(limits.statement_time))) {
        Ok(session) => session,
        Err(error) => {
            _ = begun.send(Err(error)); // nor here
            return;
        }
    };
    if begun.send(Ok(())).is_ok() && !serve(&pool, &mut session, &mut orders).await {
        pool.connector.kill(&session).await;
    }
    // Closing the session rolls back what was not committed.
}

async fn begin(pool: &MySqlPool, limits: &SqlLimits) -> Result<Session, SqlError> {
    let mut session = pool.connector.connect(server_limit(limits)).await?;
    let begun = sqlx::raw_sql("START TRANSACTION").execute(&mut session.connection).await;
    begun.map(|_| session).map_err(|error| error::of_connecting(&error))
}

/// Carries out orders. Returns whether nothing runs in the session any more.
async fn serve(pool: &MySqlPool, session: &mut Session, orders: &mut Orders) -> bool {
    loop {
        match orders.next().await {
            Some(Order::Run { statement, mut producer }) => {
                if let Err(error) = judge(&statement) {
                    producer.fail(error).await;
                    continue;
                }
                let statement_time = producer.limits().statement_time;
                let deadline = Instant::now() + statement_time;
                let mut executing = false;
                let failure = match attempt(pool, session, &statement, &mut producer, deadline, &mut executing).await {
                    Ok(()) => continue,
                    Err(failure) => failure,
                };
                let (error, is_still) = match failure {
                    Failure::Refused(error) if !executing => {
                        producer.fail(error).await;
                        continue;
                    }
                    Failure::Refused(error) => (error, false),
                    Failure::Abandoned => {
                        orders.close("rows of a statement were given up before their end");
                        return false;
                    }
                    Failure::TimedOut => (timed_out(statement_time), false),
                    Failure::Database(error) => {
                        let rolled_back = end(session, "ROLLBACK").await.is_ok();
                        let report = error::of_statement(&mut session.connection, &error, &statement.form);
                        let report = timeout(EXPLAIN_TIME, report).await;
                        (report.unwrap_or_else(|_| timed_out(EXPLAIN_TIME)), rolled_back || error::is_lost(&error))
                    }
                };
                orders.close(&error.message);
                producer.fail(error).await;
                return is_still;
            }
            Some(Order::Commit(done)) => {
                let result = match end(session, "COMMIT").await {
                    Ok(()) => Ok(()),
                    Err(error) if error::is_lost(&error) => {
                        let message = "the connection was lost during the commit: whether it took place is not known";
                        Err(SqlError::new(SqlErrorCode::Unavailable, message))
                    }
                    Err(error) => {
                        let form = Form::Query { offset: 0, limit: None };
                        Err(error::of_statement(&mut session.connection, &error, &form).await)
                    }
                };
                _ = done.send(result); // the invocation may have been cancelled
                return true;
            }
            Some(Order::Rollback(done)) => {
                let ended = end(session, "ROLLBACK").await;
                _ = done.send(()); // the invocation may have been cancelled
                return ended.is_ok();
            }
            None => return end(session, "ROLLBACK").await.is_ok(),
        }
    }
}

/// Refuses what would end the transaction.
fn judge(statement: &Statement) -> Result<(), SqlError> {
    if let Form::Table { .. } = statement.form {
        return Ok(());
    }
    let word = kind(statement);
    if let (Form::Query { .. }, Some(error)) = (&statement.form, refusal_inside(&word)) {
        return Err(error);
    }
    if POSSIBLE.contains(&word.as_str()) {
        return Ok(());
    }
    let what = if word.is_empty() { "this statement".to_owned() } else { word.to_ascii_uppercase() };
    let message = format!("{what} is not possible inside of `with dbconn.transaction():` on MySQL, which would commit");
    Err(SqlError::new(SqlErrorCode::NotAllowed, message))
}

async fn end(session: &mut Session, sql: &'static str) -> Result<(), sqlx::Error> {
    match timeout(EXPLAIN_TIME, sqlx::raw_sql(sql).execute(&mut session.connection)).await {
        Ok(result) => result.map(|_| ()),
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}
