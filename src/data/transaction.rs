//! A transaction, as seen by who runs statements in it.
//!
//! Owns: the orders between a [`Transaction`] and the task that holds its database session. Never: talks to a database.
//! Invariant: a transaction that nobody commits is rolled back, because its task ends when the last handle is dropped.
//!
//! Any error that the database reports ends a transaction: what a statement leaves half done is never committed, and locks
//! are given up at once. An argument that is refused before it reaches the database does not.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use tokio::sync::{mpsc, oneshot};

use crate::{
    data::{
        cursor::{self, Cursor, Producer, UNANSWERED},
        statement::Statement,
    },
    domain::{
        limits::SqlLimits,
        sql::{SqlError, SqlErrorCode},
    },
};

/// Whose statements a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Author {
    /// A script's: they may leave and see what a session remembers.
    Script,
    /// The host's own changes of a table.
    Host,
}

/// What the task of a transaction is told to do.
pub(crate) enum Order {
    Run { statement: Box<Statement>, producer: Producer },
    Commit(oneshot::Sender<Result<(), SqlError>>),
    Rollback(oneshot::Sender<Result<(), SqlError>>),
}

/// A transaction that has begun. Dropping its last clone rolls it back.
///
/// One statement at a time: the rows of one must be read to their end, or given up, before the next. Giving rows up ends
/// the transaction.
#[derive(Clone)]
pub struct Transaction {
    orders: mpsc::Sender<Order>,
    reason: Arc<OnceLock<String>>,
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("over", &self.orders.is_closed()).finish_non_exhaustive()
    }
}

/// The session's end of a transaction.
pub(crate) struct Orders {
    orders: mpsc::Receiver<Order>,
    reason: Arc<OnceLock<String>>,
}

/// A transaction and the orders that its task is to carry out.
pub(crate) fn open() -> (Transaction, Orders) {
    let (sender, receiver) = mpsc::channel(1);
    let reason = Arc::new(OnceLock::new());
    (Transaction { orders: sender, reason: Arc::clone(&reason) }, Orders { orders: receiver, reason })
}

impl Transaction {
    pub(crate) async fn run(&self, statement: Statement, limits: SqlLimits) -> Result<Cursor, SqlError> {
        let (producer, cursor) = cursor::open(limits, statement.shape);
        let order = Order::Run { statement: Box::new(statement), producer };
        self.orders.send(order).await.map_err(|_| self.over())?;
        match cursor.await {
            // The transaction ended before it came to this order.
            Err(error) if error.message == UNANSWERED => Err(self.over()),
            result => result,
        }
    }

    /// Keeps what the transaction has changed, for all to see.
    ///
    /// # Errors
    ///
    /// `TransactionOver` if it was rolled back before, with the reason; what the database says, after which nothing is
    /// kept; `Unavailable` if the connection was lost, after which nobody knows.
    pub async fn commit(self) -> Result<(), SqlError> {
        let (done, result) = oneshot::channel();
        self.orders.send(Order::Commit(done)).await.map_err(|_| self.over())?;
        result.await.unwrap_or_else(|_| Err(self.over()))
    }

    /// Undoes what the transaction has changed, and waits until that is done.
    pub async fn rollback(self) {
        let (done, result) = oneshot::channel();
        if self.orders.send(Order::Rollback(done)).await.is_ok() {
            _ = result.await; // a task that ended has rolled back as well
        }
    }

    fn over(&self) -> SqlError {
        let message = match self.reason.get() {
            Some(reason) => format!("the transaction was rolled back after an error: {reason}"),
            None => "the transaction is over".to_owned(),
        };
        SqlError::new(SqlErrorCode::TransactionOver, message)
    }
}

impl Orders {
    /// The next order; `None` when nobody is left to give one.
    pub(crate) async fn next(&mut self) -> Option<Order> {
        self.orders.recv().await
    }

    /// Takes no more orders. Whoever gives one is told why.
    pub(crate) fn close(&mut self, reason: &str) {
        _ = self.reason.set(reason.to_owned()); // the first reason is the right one
        self.orders.close();
    }
}

/// Why an author's statement may not run inside of a transaction: it would end it, or begin another.
pub(crate) fn refusal_inside(first_word: &str) -> Option<SqlError> {
    const REFUSED: [&str; 9] =
        ["begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "prepare"];
    REFUSED.contains(&first_word).then(|| {
        let message = format!(
            "{} is not possible inside of `with dbconn.transaction():`, which commits at its end",
            first_word.to_ascii_uppercase()
        );
        SqlError::new(SqlErrorCode::NotAllowed, message)
    })
}
