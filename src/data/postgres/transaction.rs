//! Transactions in PostgreSQL: a task that holds one session from BEGIN to its end.
//!
//! Owns: when a transaction ends and whether its session may be used again. Never: runs a statement its own way (see
//! `attempt`).

use std::sync::Arc;

use sqlx::Connection as _;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::{
    data::{
        cursor::timed_out,
        postgres::{
            KEPT_VALUES_MAX, PostgresPool, RESET_TIME, Session, attempt, error, forget_sequences, milliseconds,
            outlasts_reset, reset,
        },
        select::{Form, Statement, Told, first_word},
        server::{Failure, server_limit},
        transaction::{Order, Orders, refusal_inside},
    },
    domain::{
        limits::SqlLimits,
        sql::{SqlError, SqlErrorCode},
    },
};

/// What the author's statements may have left in the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stain {
    None,
    /// A reset removes it.
    Resettable,
    /// Only closing the session removes it.
    Permanent,
}

/// Holds a transaction until it is committed, rolled back, ended by an error, or nobody wants it any more.
pub(crate) async fn hold(
    pool: Arc<PostgresPool>,
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
    let mut session = match timeout(limits.statement_time, begin(&pool, &limits)).await {
        Ok(Ok(session)) => session,
        Ok(Err(error)) => {
            _ = begun.send(Err(error)); // nor here
            return;
        }
        Err(_) => {
            _ = begun.send(Err(timed_out(limits.statement_time))); // nor here
            return;
        }
    };
    if begun.send(Ok(())).is_err() {
        return; // closing the session undoes the BEGIN
    }
    let mut stain = Stain::None;
    let reusable = serve(&mut session, &mut orders, &mut stain).await;
    drop(orders);
    // From here on the caller has its answer.
    if !reusable {
        return;
    }
    let clean = async {
        match stain {
            Stain::None => {
                session.recalls_sequences = true;
                Ok(())
            }
            Stain::Resettable => reset(&mut session).await,
            Stain::Permanent => Err(sqlx::Error::WorkerCrashed), // in the sense of: not to be used
        }
    };
    if let Ok(Ok(())) = timeout(RESET_TIME, clean).await {
        pool.sessions.put(session);
    }
}

/// A session in a new transaction. Nothing was done yet, so a session that turns out to be lost is replaced.
async fn begin(pool: &PostgresPool, limits: &SqlLimits) -> Result<Session, SqlError> {
    let limit = server_limit(limits);
    if let Some(mut session) = pool.sessions.take() {
        if try_begin(&mut session, limit, pool.read_only).await.is_ok() {
            return Ok(session);
        }
        drop(pool.sessions.take_idle_for(std::time::Duration::ZERO));
    }
    let mut session = pool.connect(limit).await?;
    try_begin(&mut session, limit, pool.read_only).await.map_err(|error| error::of_connecting(&error))?;
    Ok(session)
}

async fn try_begin(session: &mut Session, limit: std::time::Duration, read_only: bool) -> Result<(), sqlx::Error> {
    // A prepared statement that no longer fits its table would end the transaction.
    session.connection.clear_cached_statements().await?;
    forget_sequences(session).await?;
    if session.timeout != limit {
        let sql = format!("SET statement_timeout = {}", milliseconds(limit));
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut session.connection).await?;
        session.timeout = limit;
    }
    // After the first query, nothing can make a read-only transaction writable.
    let sql = if read_only { "BEGIN READ ONLY; SELECT 1" } else { "BEGIN" };
    sqlx::raw_sql(sql).execute(&mut session.connection).await.map(|_| ())
}

/// Carries out orders. Returns whether the session is outside of a transaction and well.
async fn serve(session: &mut Session, orders: &mut Orders, stain: &mut Stain) -> bool {
    let mut told = Told::All;
    loop {
        match orders.next().await {
            Some(Order::Run { statement, mut producer }) => {
                if let Err(error) = judge(&statement, stain) {
                    producer.fail(error).await;
                    continue;
                }
                told = statement.told; // one caller's, in all of a transaction
                let statement_time = producer.limits().statement_time;
                let deadline = Instant::now() + statement_time;
                let mut executing = false;
                let failure = match attempt(session, &statement, &mut producer, deadline, &mut executing).await {
                    Ok(()) => continue,
                    Err(failure) => failure,
                };
                let (error, reusable) = match failure {
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
                    Failure::Database(error) => report(session, &error, &statement.form, told).await,
                };
                orders.close(&error.message);
                producer.fail(error).await;
                return reusable;
            }
            Some(Order::Commit(done)) => {
                let (result, reusable) = match end(session, "COMMIT").await {
                    Ok(()) => (Ok(()), true),
                    Err(error) if error::is_lost(&error) => {
                        let message = "the connection was lost during the commit: whether it took place is not known";
                        (Err(SqlError::new(SqlErrorCode::Unavailable, message)), false)
                    }
                    Err(error) => {
                        let form = Form::Query { offset: 0, limit: None };
                        (Err(error::of_statement(&mut session.connection, &error, &form, told).await), true)
                    }
                };
                _ = done.send(result); // the invocation may have been cancelled
                return reusable;
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

/// Refuses what would end the transaction, and notes what a statement may leave.
fn judge(statement: &Statement, stain: &mut Stain) -> Result<(), SqlError> {
    if !matches!(statement.form, Form::Query { .. }) {
        if statement.template.values.len() > KEPT_VALUES_MAX {
            *stain = Stain::Resettable.max(*stain);
        }
        return Ok(());
    }
    let sql = statement.template.render(|_| "NULL".to_owned());
    if let Some(error) = refusal_inside(&first_word(&sql)) {
        return Err(error);
    }
    let left = if outlasts_reset(&sql) { Stain::Permanent } else { Stain::Resettable };
    *stain = left.max(*stain);
    Ok(())
}

/// The error of a statement, after its transaction was rolled back; and whether the session is well.
async fn report(session: &mut Session, error: &sqlx::Error, form: &Form, told: Told) -> (SqlError, bool) {
    let is_lost = error::is_lost(error) || !matches!(error, sqlx::Error::Database(_));
    let rolled_back = !is_lost && end(session, "ROLLBACK").await.is_ok();
    let report = timeout(RESET_TIME, error::of_statement(&mut session.connection, error, form, told)).await;
    (report.unwrap_or_else(|_| timed_out(RESET_TIME)), rolled_back)
}

async fn end(session: &mut Session, sql: &'static str) -> Result<(), sqlx::Error> {
    match timeout(RESET_TIME, sqlx::raw_sql(sql).execute(&mut session.connection)).await {
        Ok(result) => result.map(|_| ()),
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}
