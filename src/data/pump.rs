//! The way of a statement's rows from a server to their reader.
//!
//! Owns: how many rows are taken, when a batch leaves, and when waiting ends. Never: knows a database.

use futures::{Stream, StreamExt as _};
use sqlx::Either;
use tokio::time::{Instant, sleep_until};

use crate::data::{
    cursor::{Batch, Producer},
    failure::{DRAINED_ROWS_MAX, Failure},
    filling::Filling,
    rows::AnyBatch,
    statement::Statement,
};

/// The results of one statement, as a database's library gives them.
pub(crate) trait Results {
    type Row;
    /// The end of a result.
    type End;

    /// Takes note of the end of a result. Gives the number of rows that it has changed.
    fn end(&mut self, end: Self::End) -> u64;

    /// Takes note of a row, whether it is passed on or not. Gives the bytes of its values.
    ///
    /// # Errors
    ///
    /// If the reader cannot have such a row.
    fn note(&mut self, row: &Self::Row) -> Result<usize, Failure>;

    /// A batch of rows with their decoder.
    fn batch(&mut self, rows: Vec<Self::Row>) -> Box<dyn AnyBatch>;
}

/// Sends the rows of a running statement in batches, until there are no more or nobody wants them.
///
/// The server may be silent until `deadline`, and for the statement's time after each batch.
pub(crate) async fn pump<R: Results>(
    rows: impl Stream<Item = Result<Either<R::End, R::Row>, sqlx::Error>>,
    mut results: R,
    statement: &Statement,
    producer: &mut Producer,
    deadline: Instant,
) -> Result<(), Failure> {
    let statement_time = producer.limits().statement_time;
    let (mut to_skip, mut to_take) = statement.purpose.window();
    let mut to_drain = DRAINED_ROWS_MAX;
    let mut n_changed = 0;
    let mut filling = Filling::new();
    let mut rows = std::pin::pin!(rows);
    let mut silence = Box::pin(sleep_until(deadline));
    let last = loop {
        let waits = !filling.is_empty();
        let row = tokio::select! {
            biased;
            row = rows.next() => Some(row),
            () = filling.wait(), if waits => None,
            () = silence.as_mut() => return Err(Failure::TimedOut),
            () = producer.abandoned() => return Err(Failure::Abandoned),
        };
        let is_due = match row.map(Option::transpose).transpose()? {
            None => true,
            Some(None) => break Ok(()),
            Some(Some(Either::Left(end))) => {
                n_changed += results.end(end);
                false
            }
            Some(Some(Either::Right(row))) => {
                let bytes = results.note(&row)?;
                if to_skip > 0 {
                    to_skip -= 1;
                } else if to_take > 0 {
                    to_take -= 1;
                    filling.push(row, bytes);
                } else if to_drain > 0 {
                    to_drain -= 1;
                } else {
                    break Err(Failure::Abandoned); // closing the session is cheaper than reading on
                }
                filling.is_full()
            }
        };
        if is_due {
            let rows = results.batch(filling.take());
            producer.send(Batch { rows, last: false, n_changed }).await?;
            silence.as_mut().reset(Instant::now() + statement_time);
        }
    };
    let rows = results.batch(filling.take());
    producer.send(Batch { rows, last: true, n_changed }).await?;
    last
}
