//! The way of a statement's rows from the server to their reader.

use std::sync::Arc;

use futures::StreamExt as _;
use sqlx::{
    Either, Executor as _, Row as _, Statement as _, ValueRef as _,
    postgres::{PgArguments, PgConnection, PgRow, PgStatement},
};
use tokio::time::Instant;

use crate::data::{
    cursor::{Batch, Producer},
    failure::{DRAINED_ROWS_MAX, Failure},
    filling::Filling,
    postgres::decode::{Decoder, PostgresRows},
    statement::Statement,
};

/// The way of the rows from the server to the reader.
pub(super) struct Pump<'a> {
    pub(super) decoder: Arc<Decoder>,
    pub(super) statement: &'a Statement,
    pub(super) producer: &'a mut Producer,
    pub(super) n_changed: u64,
}

impl Pump<'_> {
    /// Executes and sends the rows in batches.
    pub(super) async fn run(
        &mut self,
        connection: &mut PgConnection,
        prepared: &PgStatement,
        arguments: PgArguments,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let statement_time = self.producer.limits().statement_time;
        let (mut to_skip, mut to_take) = self.statement.purpose.window();
        let mut to_drain = DRAINED_ROWS_MAX;
        let mut rows = connection.fetch_many(prepared.query_with(arguments));
        let mut batch = Filling::new();
        // The time for which the server may be silent; set anew when rows leave.
        let mut silence = Box::pin(tokio::time::sleep_until(deadline));
        loop {
            let waits = !batch.is_empty();
            let row = tokio::select! {
                biased;
                row = rows.next() => row,
                () = batch.wait(), if waits => {
                    self.send(&mut batch, false).await?;
                    silence.as_mut().reset(Instant::now() + statement_time);
                    continue;
                }
                () = silence.as_mut() => return Err(Failure::TimedOut),
                () = self.producer.abandoned() => return Err(Failure::Abandoned),
            };
            match row.transpose()? {
                None => break,
                Some(Either::Left(result)) => self.n_changed += result.rows_affected(),
                Some(Either::Right(_)) if to_skip > 0 => to_skip -= 1,
                Some(Either::Right(row)) if to_take > 0 => {
                    to_take -= 1;
                    let bytes = size_of_values(&row);
                    batch.push(row, bytes);
                    if batch.is_full() {
                        self.send(&mut batch, false).await?;
                        silence.as_mut().reset(Instant::now() + statement_time);
                    }
                }
                Some(Either::Right(_)) if to_drain > 0 => to_drain -= 1,
                Some(Either::Right(_)) => {
                    self.send(&mut batch, true).await?;
                    return Err(Failure::Abandoned);
                }
            }
        }
        self.send(&mut batch, true).await
    }

    async fn send(&mut self, batch: &mut Filling<PgRow>, last: bool) -> Result<(), Failure> {
        let rows = Box::new(PostgresRows::new(Arc::clone(&self.decoder), batch.take()));
        Ok(self.producer.send(Batch { rows, last, n_changed: self.n_changed }).await?)
    }
}

fn size_of_values(row: &PgRow) -> usize {
    let values = (0..row.len()).filter_map(|column| row.try_get_raw(column).ok().filter(|value| !value.is_null()));
    values.map(|value| value.as_bytes().map_or(0, <[u8]>::len)).sum()
}
