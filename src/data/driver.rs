//! The abilities of a database on which statements run.
//!
//! Owns: the trait, and the words between it and the one loop that runs statements (see `run`). Never: knows a database.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::{
    data::{
        cursor::Producer, dialect::Dialect, failure::Failure, pool::Pool, read::catalog::Catalog, statement::Statement,
        transaction::Author,
    },
    domain::{limits::SqlLimits, sql::SqlError},
};

/// One database of one tenant: its sessions, and how statements run in them.
pub(crate) trait Driver: fmt::Debug + Send + Sync + Sized + 'static {
    /// A connection that is in nobody's way.
    type Session: Send + 'static;

    const DIALECT: Dialect;

    const CATALOG: Catalog;

    /// Set if short statements of ours are best run by the task that waits for them: handing them to another thread, and their rows
    /// back, takes a good part of their time. Then dropping [`execute`](Self::execute) must stop the statement.
    const RUNS_IN_PLACE: bool = false;

    /// The sessions that are idle, and the permits to use them.
    fn sessions(&self) -> &Pool<Self::Session>;

    /// The time to wait for a session.
    fn acquire_time(&self) -> Duration;

    /// The name of the database behind the connection.
    fn database(&self) -> &str;

    /// Tells whether a change gives back the rows that it changes, as far as is known.
    fn gives_rows_back(&self) -> bool {
        true
    }

    /// Creates a schema, where that is not a statement.
    fn create_schema(self: Arc<Self>, _schema: String) -> Option<BoxFuture<'static, Result<(), SqlError>>> {
        None
    }

    /// Tells whether a statement may run in a session that others have used and will use.
    fn may_share(&self, statement: &Statement) -> bool;

    /// A new session.
    fn connect(&self, limits: &SqlLimits) -> impl Future<Output = Result<Self::Session, SqlError>> + Send;

    /// Runs a statement and sends its rows.
    fn execute(
        self: &Arc<Self>,
        attempt: Attempt<Self::Session>,
    ) -> impl Future<Output = (Attempt<Self::Session>, Result<(), Failure>)> + Send;

    /// The remedy for a failure before any row was sent.
    fn remedy(&self, failure: &Failure, attempt: &Attempt<Self::Session>) -> Remedy;

    /// Prepares a session for a second try of the same statement. Says whether it is fit for that.
    fn refresh(&self, session: &mut Self::Session) -> impl Future<Output = bool> + Send;

    /// Explains a failure to the author. May ask the database.
    fn explain(
        &self,
        session: &mut Self::Session,
        failure: Failure,
        statement: &Statement,
    ) -> impl Future<Output = SqlError> + Send;

    /// The state in which a failure leaves the session.
    fn end_of(&self, failure: &Failure, is_executing: bool) -> End;

    /// Gives a session back after a statement of its own, or closes it.
    fn release(&self, session: Self::Session, end: End, statement: &Statement) -> impl Future<Output = ()> + Send;

    /// A session in a new transaction.
    fn begin(
        self: &Arc<Self>,
        limits: &SqlLimits,
        author: Author,
    ) -> impl Future<Output = Result<Self::Session, SqlError>> + Send;

    /// Refuses what would end the transaction behind our back, and notes what a statement may leave.
    fn admit(&self, session: &mut Self::Session, statement: &Statement) -> Result<(), SqlError>;

    /// Ends the transaction of a session.
    fn finish(
        self: &Arc<Self>,
        session: Self::Session,
        ending: Ending,
    ) -> impl Future<Output = (Self::Session, Result<(), Failure>)> + Send;

    /// Gives a session back after a transaction, or closes it.
    fn release_transaction(
        self: &Arc<Self>,
        session: Self::Session,
        end: End,
        author: Author,
    ) -> impl Future<Output = ()> + Send;
}

/// A statement on its way through a session.
pub(crate) struct Attempt<S> {
    pub(crate) session: S,
    pub(crate) statement: Arc<Statement>,
    pub(crate) producer: Producer,
    /// When the statement's time is over, unless rows leave.
    pub(crate) deadline: Instant,
    /// Set if the database may have begun to do it.
    pub(crate) is_executing: bool,
}

/// The remedy for a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    Nothing,
    /// The session was lost before the statement began; other idle ones are lost, too.
    NewSession,
    /// The session has outdated ideas of a table.
    Refresh,
}

/// The state in which a session is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing runs in it.
    Clean,
    /// Nothing runs in it, and it is of no more use.
    Lost,
    /// A statement may still run.
    Running,
}

/// The end of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Commit,
    Rollback,
}
