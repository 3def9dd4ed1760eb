//! A batch of rows that is being filled.
//!
//! Owns: when it is full, and when it has waited long enough. Never: knows a database.

use std::{pin::Pin, time::Duration};

use tokio::time::{Instant, Sleep};

use crate::data::cursor::{BATCH_BYTES, BATCH_ROWS};

/// How long rows may wait in a batch that is not full, so that a slow statement's rows arrive as they come.
const BATCH_TIME: Duration = Duration::from_millis(20);

/// Rows that have not been sent yet.
pub(crate) struct Filling<R> {
    rows: Vec<R>,
    bytes: usize,
    /// When they are to be sent even if they are no full batch. Set by the first.
    flush_at: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<R> Filling<R> {
    pub(crate) fn new() -> Self {
        Self { rows: Vec::new(), bytes: 0, flush_at: None, timer: None }
    }

    /// Adds a row whose values have this many bytes.
    pub(crate) fn push(&mut self, row: R, bytes: usize) {
        self.bytes += bytes;
        self.rows.push(row);
        if self.flush_at.is_none() {
            self.flush_at = Some(Instant::now() + BATCH_TIME);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.rows.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    /// Resolves when the batch has waited long enough. The timer is made when it is first needed: never, as long as
    /// the server is faster than we are.
    pub(crate) async fn wait(&mut self) {
        let flush_at = self.flush_at.unwrap_or_else(Instant::now);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(flush_at)));
        if timer.deadline() != flush_at {
            timer.as_mut().reset(flush_at);
        }
        timer.as_mut().await;
    }

    /// Takes the rows out.
    pub(crate) fn take(&mut self) -> Vec<R> {
        self.bytes = 0;
        self.flush_at = None;
        std::mem::take(&mut self.rows)
    }
}
