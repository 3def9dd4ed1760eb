//! A running statement, as seen by who reads its rows.
//!
//! Owns: the limits on rows, bytes and time, and the JSON array around the rows. Never: talks to a database; a producer
//! does, at the other end of a short channel, and stops when this end is dropped.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::Stream;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

use crate::{
    data::{json::Reader, mysql, postgres, sqlite},
    domain::{
        limits::SqlLimits,
        sql::{Column, SqlError, SqlErrorCode},
    },
};

/// Rows that a producer sends at once, at most: large enough that waking the reader costs little per row.
pub(crate) const BATCH_ROWS: usize = 1000;
/// Bytes of values after which a batch is full. With [`QUEUED_BATCHES`] this bounds what one cursor holds.
pub(crate) const BATCH_BYTES: usize = 256 << 10;
/// Batches that wait for the reader. One is being read while one is being filled.
const QUEUED_BATCHES: usize = 2;

/// The error for a statement that nobody ran to an end.
pub(crate) const UNANSWERED: &str = "the statement ended without an answer";

/// Values of some rows, as the driver gave them.
pub(crate) enum Rows {
    MySql(Vec<sqlx::mysql::MySqlRow>),
    Postgres(Vec<sqlx::postgres::PgRow>),
    Sqlite(sqlite::Rows),
}

impl Rows {
    fn len(&self) -> usize {
        match self {
            Self::MySql(rows) => rows.len(),
            Self::Postgres(rows) => rows.len(),
            Self::Sqlite(rows) => rows.len(),
        }
    }
}

/// How a statement's values become JSON.
#[derive(Debug)]
pub(crate) enum Decoder {
    MySql(mysql::Decoder),
    Postgres(postgres::Decoder),
    Sqlite(sqlite::Decoder),
}

impl Decoder {
    pub(crate) fn columns(&self) -> Vec<Column> {
        match self {
            Self::MySql(decoder) => decoder.columns(),
            Self::Postgres(decoder) => decoder.columns(),
            Self::Sqlite(decoder) => decoder.columns(),
        }
    }

    /// Writes the rows as JSON objects with commas between them.
    fn write(&self, out: &mut Vec<u8>, rows: &Rows, reader: Reader) -> Result<(), SqlError> {
        match (self, rows) {
            (Self::MySql(decoder), Rows::MySql(rows)) => decoder.write(out, rows, reader),
            (Self::Postgres(decoder), Rows::Postgres(rows)) => decoder.write(out, rows, reader),
            (Self::Sqlite(decoder), Rows::Sqlite(rows)) => {
                decoder.write(out, rows, reader);
                Ok(())
            }
            (Self::MySql(_) | Self::Postgres(_) | Self::Sqlite(_), _) => {
                Err(lost("rows and columns of two databases were mixed up"))
            }
        }
    }
}

/// One message from a producer.
pub(crate) struct Batch {
    pub(crate) rows: Rows,
    /// Nothing follows.
    pub(crate) last: bool,
}

/// A statement that has begun, with what it already gave.
struct Opened {
    decoder: Decoder,
    first: Batch,
}

/// The database's end of a cursor.
pub(crate) struct Producer {
    opened: Option<oneshot::Sender<Result<Opened, SqlError>>>,
    rows: mpsc::Sender<Result<Batch, SqlError>>,
    decoder: Option<Decoder>,
    limits: SqlLimits,
    /// When a reader who takes nothing is given up.
    give_up_at: Instant,
}

/// The reader is gone; the statement is to be stopped.
#[derive(Debug)]
pub(crate) struct Abandoned;

impl Producer {
    pub(crate) fn limits(&self) -> &SqlLimits {
        &self.limits
    }

    /// Says what the columns are. Goes out with the first batch, so that errors of the first rows are errors of `fetch`.
    pub(crate) fn describe(&mut self, decoder: Decoder) {
        self.decoder = Some(decoder);
    }

    /// Sends rows, waiting while the reader has not taken the ones before.
    pub(crate) async fn send(&mut self, batch: Batch) -> Result<(), Abandoned> {
        if let Some(opened) = self.opened.take() {
            let Some(decoder) = self.decoder.take() else { return Err(Abandoned) };
            return opened.send(Ok(Opened { decoder, first: batch })).map_err(|_| Abandoned);
        }
        match timeout_at(self.give_up_at, self.rows.send(Ok(batch))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Abandoned),
        }
    }

    /// Ends with an error.
    pub(crate) async fn fail(&mut self, error: SqlError) {
        match self.opened.take() {
            Some(opened) => _ = opened.send(Err(error)), // a reader that left needs no error
            None => _ = timeout_at(self.give_up_at, self.rows.send(Err(error))).await, // nor does this one
        }
    }

    /// Resolves when the reader is gone.
    pub(crate) async fn abandoned(&self) {
        self.rows.closed().await;
    }

    /// Whether rows have gone out: then nothing may be tried again.
    pub(crate) fn has_begun(&self) -> bool {
        self.opened.is_none()
    }

    /// A view for code that cannot wait: says whether the reader is gone.
    pub(crate) fn watch(&self) -> impl Fn() -> bool + Send + 'static {
        let rows = self.rows.clone();
        move || rows.is_closed()
    }
}

/// The rows of one statement.
///
/// Owns its database connection through the task at the other end: dropping the cursor stops the statement, and a
/// connection with an unfinished statement is closed.
pub struct Cursor {
    columns: Vec<Column>,
    decoder: Decoder,
    first: Option<Batch>,
    batches: mpsc::Receiver<Result<Batch, SqlError>>,
    finished: bool,
    started: Instant,
    limits: SqlLimits,
    rows_read: Arc<AtomicU64>,
    guest_bytes: u64,
    /// Whether a script takes the rows batch by batch and keeps none.
    is_stream: bool,
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor")
            .field("columns", &self.columns)
            .field("finished", &self.finished)
            .finish_non_exhaustive()
    }
}

/// A producer and the future that waits until it has begun.
pub(crate) fn open(limits: SqlLimits) -> (Producer, impl Future<Output = Result<Cursor, SqlError>> + Send) {
    let (opened_sender, opened) = oneshot::channel();
    let (rows, batches) = mpsc::channel(QUEUED_BATCHES);
    let started = Instant::now();
    let give_up_at = started + limits.statement_time + limits.stream_time;
    let producer = Producer { opened: Some(opened_sender), rows, decoder: None, limits, give_up_at };
    let cursor = async move {
        let Opened { decoder, first } = opened.await.map_err(|_| lost(UNANSWERED))??;
        let rows_read = Arc::new(AtomicU64::new(0));
        let columns = decoder.columns();
        Ok(Cursor {
            columns,
            decoder,
            first: Some(first),
            batches,
            finished: false,
            started,
            limits,
            rows_read,
            guest_bytes: 0,
            is_stream: false,
        })
    };
    (producer, cursor)
}

impl Cursor {
    /// The cursor of a script that reads in a stream: rows have the limits of a stream to a caller, and bytes have none,
    /// because the script holds one batch at a time.
    #[must_use]
    pub fn into_stream(self) -> Self {
        Self { is_stream: true, ..self }
    }

    /// The columns, in order; empty for a statement that gives no rows.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Rows handed out so far.
    #[must_use]
    pub fn rows_read(&self) -> u64 {
        self.rows_read.load(Ordering::Relaxed)
    }

    /// The counter behind [`rows_read`](Self::rows_read), for who wants to know after [`into_json`](Self::into_json).
    #[must_use]
    pub fn row_counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.rows_read)
    }

    /// The next rows for a script: a JSON array of objects, in which the tokens `NaN`, `Infinity` and `-Infinity` may
    /// occur; `None` after the last.
    ///
    /// # Errors
    ///
    /// What the database says; `ResultTooLarge` beyond `guest_rows` or `guest_bytes`; `StatementTimeout` when
    /// `statement_time` has passed since `fetch`. Of a stream the limits are `streamed_rows` and `stream_time`. After an
    /// error there are no more rows.
    pub async fn next_batch(&mut self) -> Result<Option<Bytes>, SqlError> {
        let result = self.next_guest_batch().await;
        if result.is_err() {
            self.finish();
        }
        result
    }

    async fn next_guest_batch(&mut self) -> Result<Option<Bytes>, SqlError> {
        let SqlLimits { statement_time, guest_rows, guest_bytes, streamed_rows, stream_time, .. } = self.limits;
        let (time, rows_max, bytes_max) = if self.is_stream {
            (stream_time, streamed_rows, u64::MAX)
        } else {
            (statement_time, guest_rows, guest_bytes)
        };
        let Some(rows) = self.next_rows(self.started + time, time).await? else { return Ok(None) };
        if self.count(&rows) > rows_max {
            return Err(too_large(format!("the result has more than {rows_max} rows"), "into the script"));
        }
        let mut out = vec![b'['];
        self.decoder.write(&mut out, &rows, Reader::Guest)?;
        out.push(b']');
        self.guest_bytes += out.len() as u64;
        if self.guest_bytes > bytes_max {
            return Err(too_large(format!("the result is larger than {bytes_max} bytes"), "into the script"));
        }
        Ok(Some(out.into()))
    }

    /// The rows that [`next_batch`](Self::next_batch) has not taken, as the chunks of one strict JSON array (NaN and
    /// infinities are null, exact decimals are numbers).
    ///
    /// An error is the last item: `ResultTooLarge` beyond `streamed_rows`, `StatementTimeout` when `stream_time` has
    /// passed, or what the database says.
    pub fn into_json(self) -> impl Stream<Item = Result<Bytes, SqlError>> + Send + 'static {
        let deadline = Instant::now() + self.limits.stream_time;
        futures::stream::unfold((self, Streaming::Begin), move |(mut cursor, streaming)| async move {
            match cursor.next_chunk(streaming, deadline).await {
                Ok(Some((chunk, streaming))) => Some((Ok(chunk), (cursor, streaming))),
                Ok(None) => None,
                Err(error) => {
                    cursor.finish();
                    Some((Err(error), (cursor, Streaming::End)))
                }
            }
        })
    }

    async fn next_chunk(
        &mut self,
        streaming: Streaming,
        deadline: Instant,
    ) -> Result<Option<(Bytes, Streaming)>, SqlError> {
        let SqlLimits { streamed_rows, stream_time, .. } = self.limits;
        let separator = match streaming {
            Streaming::Begin => b'[',
            Streaming::Middle => b',',
            Streaming::End => return Ok(None),
        };
        let Some(rows) = self.next_rows(deadline, stream_time).await? else {
            let end: &'static [u8] = if streaming == Streaming::Begin { b"[]" } else { b"]" };
            return Ok(Some((Bytes::from_static(end), Streaming::End)));
        };
        if self.count(&rows) > streamed_rows {
            return Err(too_large(format!("the result has more than {streamed_rows} rows"), "to a caller"));
        }
        let mut out = vec![separator];
        self.decoder.write(&mut out, &rows, Reader::Caller)?;
        if self.finished {
            out.push(b']');
            return Ok(Some((out.into(), Streaming::End)));
        }
        Ok(Some((out.into(), Streaming::Middle)))
    }

    /// The next rows, at least one.
    async fn next_rows(&mut self, deadline: Instant, time: Duration) -> Result<Option<Rows>, SqlError> {
        loop {
            if self.finished {
                return Ok(None);
            }
            let batch = match self.first.take() {
                Some(first) => first,
                None => match timeout_at(deadline, self.batches.recv()).await {
                    Ok(Some(batch)) => batch?,
                    Ok(None) if Instant::now() < deadline => {
                        return Err(lost("the connection to the database was lost"));
                    }
                    Ok(None) | Err(_) => return Err(timed_out(time)),
                },
            };
            self.finished = batch.last;
            if batch.rows.len() > 0 {
                return Ok(Some(batch.rows));
            }
        }
    }

    fn count(&self, rows: &Rows) -> u64 {
        let n_rows = rows.len() as u64;
        self.rows_read.fetch_add(n_rows, Ordering::Relaxed) + n_rows
    }

    /// Lets the producer stop.
    fn finish(&mut self) {
        self.finished = true;
        self.first = None;
        self.batches.close();
    }
}

/// How far the JSON array of a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Streaming {
    Begin,
    Middle,
    End,
}

fn too_large(what: String, r#where: &str) -> SqlError {
    SqlError::new(
        SqlErrorCode::ResultTooLarge,
        format!("{what}: that many may not go {where}; use `limit` or a narrower query"),
    )
}

/// The error for a statement that used up its time.
pub(crate) fn timed_out(time: Duration) -> SqlError {
    SqlError::new(SqlErrorCode::StatementTimeout, format!("the statement ran longer than {time:?}"))
}

fn lost(message: &str) -> SqlError {
    SqlError::new(SqlErrorCode::Unavailable, message)
}
