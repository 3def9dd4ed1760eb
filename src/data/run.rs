//! Running statements: one loop for a statement of its own, one for those of a transaction.
//!
//! Owns: permits, second tries, who is told of an error, when a session is given back. Never: knows a database (see `driver`).

use std::{fmt, sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::{
    data::{
        cursor::{Producer, timed_out},
        dialect::Dialect,
        driver::{Attempt, Driver, End, Ending, Remedy},
        failure::Failure,
        read::catalog::Catalog,
        statement::{ErrorDetail, Purpose, Statement},
        template::Template,
        transaction::{Author, Order, Orders},
    },
    domain::{
        limits::SqlLimits,
        sql::{SqlError, SqlErrorCode},
    },
};

/// The longest that asking the database for the reason of an error may take.
const EXPLAIN_TIME: Duration = Duration::from_secs(5);

/// Runs a statement to its end and sends its rows.
///
/// May run on any runtime that has timers. Dropping it closes the session.
pub(crate) async fn run<D: Driver>(driver: Arc<D>, statement: Statement, mut producer: Producer) {
    let limits = *producer.limits();
    let _permit = match driver.sessions().permit(driver.acquire_time()).await {
        Ok(permit) => permit,
        Err(error) => return producer.fail(error).await,
    };
    let statement = Arc::new(statement);
    let mut idle = if driver.may_share(&statement) { driver.sessions().take() } else { None };
    let mut may_retry = true;
    loop {
        let is_reused = idle.is_some();
        let session = match idle.take() {
            Some(session) => session,
            None => {
                drop(driver.sessions().take_surplus());
                match driver.connect(&limits).await {
                    Ok(session) => session,
                    Err(error) => return producer.fail(error).await,
                }
            }
        };
        let attempt = attempt_of(session, Arc::clone(&statement), producer);
        let (mut attempt, result) = driver.execute(attempt).await;
        let remedy = match &result {
            Err(failure) if may_retry && !attempt.producer.has_begun() => driver.remedy(failure, &attempt),
            Ok(()) | Err(_) => Remedy::Nothing,
        };
        match remedy {
            Remedy::NewSession if is_reused => drop(driver.sessions().take_idle_for(Duration::ZERO)),
            Remedy::Refresh => {
                if driver.refresh(&mut attempt.session).await {
                    idle = Some(attempt.session);
                }
            }
            Remedy::Nothing | Remedy::NewSession => return conclude(&*driver, attempt, result).await,
        }
        producer = attempt.producer;
        may_retry = false;
    }
}

fn attempt_of<S>(session: S, statement: Arc<Statement>, producer: Producer) -> Attempt<S> {
    let deadline = Instant::now() + producer.limits().statement_time;
    Attempt { session, statement, producer, deadline, is_executing: false }
}

/// Reports the result, and gives the session back.
async fn conclude<D: Driver>(driver: &D, attempt: Attempt<D::Session>, result: Result<(), Failure>) {
    let Attempt { mut session, statement, mut producer, is_executing, .. } = attempt;
    let end = match result {
        Ok(()) => End::Clean,
        Err(failure) => {
            let end = driver.end_of(&failure, is_executing);
            if let Some(error) =
                report(driver, &mut session, failure, &statement, producer.limits().statement_time).await
            {
                producer.fail(error).await;
            }
            end
        }
    };
    // From here on the reader has its answer.
    drop(producer);
    driver.release(session, end, &statement).await;
}

/// The error for the reader after a failure; nothing if it has left.
async fn report<D: Driver>(
    driver: &D,
    session: &mut D::Session,
    failure: Failure,
    statement: &Statement,
    time: Duration,
) -> Option<SqlError> {
    match failure {
        Failure::Abandoned => None,
        Failure::TimedOut => Some(timed_out(time)),
        Failure::Refused(error) => Some(error),
        Failure::Reported(error) => Some(error),
        failure @ Failure::Database(_) => {
            let explained = timeout(EXPLAIN_TIME, driver.explain(session, failure, statement)).await;
            Some(explained.unwrap_or_else(|_| timed_out(EXPLAIN_TIME)))
        }
    }
}

/// Holds a transaction until it is committed, rolled back, ended by an error, or nobody wants it any more.
pub(crate) async fn hold<D: Driver>(
    driver: Arc<D>,
    limits: SqlLimits,
    author: Author,
    mut orders: Orders,
    begun: oneshot::Sender<Result<(), SqlError>>,
) {
    let _permit = match driver.sessions().permit(driver.acquire_time()).await {
        Ok(permit) => permit,
        Err(error) => {
            _ = begun.send(Err(error)); // a caller who left needs no error
            return;
        }
    };
    let beginning = timeout(limits.statement_time, driver.begin(&limits, author)).await;
    let session = match beginning.unwrap_or_else(|_| Err(timed_out(limits.statement_time))) {
        Ok(session) => session,
        Err(error) => {
            _ = begun.send(Err(error)); // nor here
            return;
        }
    };
    if begun.send(Ok(())).is_err() {
        return; // closing the session undoes the BEGIN
    }
    let (session, end) = serve(&driver, session, &mut orders).await;
    drop(orders);
    // From here on the caller has its answer.
    driver.release_transaction(session, end, author).await;
}

/// Carries out orders. Gives the session back, outside of its transaction unless something went wrong.
async fn serve<D: Driver>(driver: &Arc<D>, mut session: D::Session, orders: &mut Orders) -> (D::Session, End) {
    let mut detail = ErrorDetail::Full;
    loop {
        let (ending, told) = match orders.next().await {
            Some(Order::Run { statement, mut producer }) => {
                detail = statement.detail; // one caller's, in all of a transaction
                if let Err(error) = driver.admit(&mut session, &statement) {
                    producer.fail(error).await;
                    continue;
                }
                let (attempt, result) = driver.execute(attempt_of(session, Arc::from(statement), producer)).await;
                match result {
                    Ok(()) => session = attempt.session,
                    // It has not reached the database.
                    Err(Failure::Refused(error)) if !attempt.is_executing => {
                        let Attempt { session: kept, mut producer, .. } = attempt;
                        session = kept;
                        producer.fail(error).await;
                    }
                    Err(failure) => return fail(driver, attempt, failure, orders).await,
                }
                continue;
            }
            Some(Order::Commit(done)) => (Ending::Commit, Some(done)),
            Some(Order::Rollback(done)) => (Ending::Rollback, Some(done)),
            None => (Ending::Rollback, None),
        };
        let (session, ended) = driver.finish(session, ending).await;
        return conclude_transaction(&**driver, session, ended, told, detail).await;
    }
}

/// Ends a transaction in which a statement has failed.
async fn fail<D: Driver>(
    driver: &Arc<D>,
    attempt: Attempt<D::Session>,
    failure: Failure,
    orders: &mut Orders,
) -> (D::Session, End) {
    let Attempt { session, statement, mut producer, is_executing, .. } = attempt;
    let mut end = driver.end_of(&failure, is_executing);
    let mut session = session;
    if end == End::Clean {
        let ended;
        (session, ended) = driver.finish(session, Ending::Rollback).await;
        if let Err(failure) = ended {
            end = match driver.end_of(&failure, true) {
                End::Lost => End::Lost,
                End::Clean | End::Running => End::Running,
            };
        }
    }
    match report(&**driver, &mut session, failure, &statement, producer.limits().statement_time).await {
        Some(error) => {
            orders.close(&error.message);
            producer.fail(error).await;
        }
        None => orders.close("rows of a statement were given up before their end"),
    }
    (session, end)
}

async fn conclude_transaction<D: Driver>(
    driver: &D,
    mut session: D::Session,
    ended: Result<(), Failure>,
    told: Option<oneshot::Sender<Result<(), SqlError>>>,
    detail: ErrorDetail,
) -> (D::Session, End) {
    let Err(failure) = ended else {
        if let Some(told) = told {
            _ = told.send(Ok(())); // the invocation may have been cancelled
        }
        return (session, End::Clean);
    };
    let end = driver.end_of(&failure, true);
    if let Some(told) = told {
        let error = if end == End::Lost {
            let message = "the connection was lost during the commit: whether it took place is not known";
            SqlError::new(SqlErrorCode::Unavailable, message)
        } else {
            let purpose = Purpose::Author { offset: 0, limit: None, schema: None };
            let ending = Statement { detail, ..Statement::ours(Template::default(), purpose) };
            let told = report(driver, &mut session, failure, &ending, EXPLAIN_TIME).await;
            told.unwrap_or_else(|| timed_out(EXPLAIN_TIME))
        };
        _ = told.send(Err(error)); // the invocation may have been cancelled
    }
    (session, end)
}

/// A [`Driver`] of any database.
pub(crate) trait AnyDriver: Send + Sync + fmt::Debug {
    fn dialect(&self) -> Dialect;

    fn catalog(&self) -> &'static Catalog;

    /// The name of the database behind the connection.
    fn database(&self) -> &str;

    /// Closes sessions that were idle for this long.
    fn close_idle(&self, age: Duration);

    /// The time for which nobody has used it; `None` while somebody does.
    fn unused_for(&self) -> Option<Duration>;

    /// Tells whether short statements of ours are best run by the task that waits for them.
    fn runs_in_place(&self) -> bool;

    /// See [`Driver::gives_rows_back`].
    fn gives_rows_back(&self) -> bool;

    /// See [`run`].
    fn run(self: Arc<Self>, statement: Statement, producer: Producer) -> BoxFuture<'static, ()>;

    /// See [`hold`].
    fn hold(
        self: Arc<Self>,
        limits: SqlLimits,
        author: Author,
        orders: Orders,
        begun: oneshot::Sender<Result<(), SqlError>>,
    ) -> BoxFuture<'static, ()>;

    /// Creates a schema, where that is not a statement.
    fn create_schema(self: Arc<Self>, schema: String) -> Option<BoxFuture<'static, Result<(), SqlError>>>;
}

impl<D: Driver> AnyDriver for D {
    fn dialect(&self) -> Dialect {
        D::DIALECT
    }

    fn catalog(&self) -> &'static Catalog {
        &D::CATALOG
    }

    fn database(&self) -> &str {
        Driver::database(self)
    }

    fn close_idle(&self, age: Duration) {
        drop(self.sessions().take_idle_for(age));
    }

    fn unused_for(&self) -> Option<Duration> {
        self.sessions().unused_for()
    }

    fn runs_in_place(&self) -> bool {
        D::RUNS_IN_PLACE
    }

    fn gives_rows_back(&self) -> bool {
        Driver::gives_rows_back(self)
    }

    fn run(self: Arc<Self>, statement: Statement, producer: Producer) -> BoxFuture<'static, ()> {
        run(self, statement, producer).boxed()
    }

    fn hold(
        self: Arc<Self>,
        limits: SqlLimits,
        author: Author,
        orders: Orders,
        begun: oneshot::Sender<Result<(), SqlError>>,
    ) -> BoxFuture<'static, ()> {
        hold(self, limits, author, orders, begun).boxed()
    }

    fn create_schema(self: Arc<Self>, schema: String) -> Option<BoxFuture<'static, Result<(), SqlError>>> {
        Driver::create_schema(self, schema)
    }
}
