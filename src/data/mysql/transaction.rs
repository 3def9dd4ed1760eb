//! Transactions in MySQL and MariaDB: a task that holds one session from its beginning to its end. A script's
//! transaction has a session to itself, which is closed after it; the host's own changes share the pool's.
//!
//! Owns: when a transaction ends. Never: runs a statement its own way (see `attempt`).

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::{
    data::{
        cursor::timed_out,
        mysql::{EXPLAIN_TIME, MySqlPool, attempt, error, kind, session::Session},
        select::{Form, Statement, Told},
        server::{Failure, server_limit},
        transaction::{Author, Order, Orders, refusal_inside},
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
    author: Author,
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
    let beginning = timeout(limits.statement_time, begin(&pool, &limits, author)).await;
    let mut session = match beginning.unwrap_or_else(|_| Err(timed_out(limits.statement_time))) {
        Ok(session) => session,
        Err(error) => {
            _ = begun.send(Err(error)); // nor here
            return;
        }
    };
    if begun.send(Ok(())).is_err() {
        return; // closing the session rolls back what was not committed, here and below
    }
    match serve(&pool, &mut session, &mut orders).await {
        End::Clean if author == Author::Host => pool.sessions.put(session),
        End::Clean | End::Lost => {}
        End::Running => pool.connector.kill(&session).await,
    }
}

/// A session in a new transaction. Nothing was done yet, so a session that turns out to be lost is replaced.
async fn begin(pool: &MySqlPool, limits: &SqlLimits, author: Author) -> Result<Session, SqlError> {
    if author == Author::Host
        && let Some(mut session) = pool.sessions.take()
    {
        if start(&mut session, limits).await.is_ok() {
            return Ok(session);
        }
        drop(pool.sessions.take_idle_for(Duration::ZERO));
    }
    drop(pool.sessions.take_surplus());
    let mut session = pool.connector.connect(server_limit(limits)).await?;
    start(&mut session, limits).await.map_err(|error| error::of_connecting(&error))?;
    Ok(session)
}

async fn start(session: &mut Session, limits: &SqlLimits) -> Result<(), sqlx::Error> {
    session.limit_statements(server_limit(limits)).await?;
    sqlx::raw_sql("START TRANSACTION").execute(&mut session.connection).await.map(|_| ())
}

/// How a session is left.
enum End {
    /// Outside of a transaction, with nothing running.
    Clean,
    /// Nothing runs in it, and it is of no more use.
    Lost,
    /// A statement may still run.
    Running,
}

impl End {
    /// After the statement that ends the transaction.
    fn after(ended: &Result<(), sqlx::Error>) -> Self {
        match ended {
            Ok(()) => Self::Clean,
            Err(error) if error::is_lost(error) => Self::Lost,
            Err(_) => Self::Running,
        }
    }
}

/// Carries out orders.
async fn serve(pool: &MySqlPool, session: &mut Session, orders: &mut Orders) -> End {
    let mut told = Told::All;
    loop {
        match orders.next().await {
            Some(Order::Run { statement, mut producer }) => {
                if let Err(error) = judge(&statement) {
                    producer.fail(error).await;
                    continue;
                }
                told = statement.told; // one caller's, in all of a transaction
                let statement_time = producer.limits().statement_time;
                let deadline = Instant::now() + statement_time;
                let mut executing = false;
                let failure = match attempt(pool, session, &statement, &mut producer, deadline, &mut executing).await {
                    Ok(()) => continue,
                    Err(failure) => failure,
                };
                let (error, end) = match failure {
                    Failure::Refused(error) if !executing => {
                        producer.fail(error).await;
                        continue;
                    }
                    Failure::Refused(error) => (error, End::Running),
                    Failure::Abandoned => {
                        orders.close("rows of a statement were given up before their end");
                        return End::Running;
                    }
                    Failure::TimedOut => (timed_out(statement_time), End::Running),
                    Failure::Database(error) => {
                        let is_lost = error::is_lost(&error);
                        let rolled_back = end(session, "ROLLBACK").await;
                        let report = error::of_statement(&mut session.connection, &error, &statement.form, told);
                        let report = timeout(EXPLAIN_TIME, report).await;
                        let end = if is_lost { End::Lost } else { End::after(&rolled_back) };
                        (report.unwrap_or_else(|_| timed_out(EXPLAIN_TIME)), end)
                    }
                };
                orders.close(&error.message);
                producer.fail(error).await;
                return end;
            }
            Some(Order::Commit(done)) => {
                let committed = end(session, "COMMIT").await;
                let ended = End::after(&committed);
                let result = match committed {
                    Ok(()) => Ok(()),
                    Err(error) if error::is_lost(&error) => {
                        let message = "the connection was lost during the commit: whether it took place is not known";
                        Err(SqlError::new(SqlErrorCode::Unavailable, message))
                    }
                    Err(error) => {
                        let form = Form::Query { offset: 0, limit: None };
                        Err(error::of_statement(&mut session.connection, &error, &form, told).await)
                    }
                };
                _ = done.send(result); // the invocation may have been cancelled
                return ended;
            }
            Some(Order::Rollback(done)) => {
                let ended = end(session, "ROLLBACK").await;
                _ = done.send(()); // the invocation may have been cancelled
                return End::after(&ended);
            }
            None => return End::after(&end(session, "ROLLBACK").await),
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
