//! A running statement, as seen by who reads its rows.
//!
//! Owns: the limits on rows, bytes and time, and the list around the rows. Never: talks to a database; a producer does, at the
//! other end of a short channel, and stops when this end is dropped.

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
    data::{
        described::Described,
        rows::{AnyBatch, CsvRows, JsonRows, MarshalRows, Reader, ValueRows},
        statement::Shape,
    },
    domain::{
        limits::SqlLimits,
        sql::{Column, RowFormat, SqlError, SqlErrorCode},
        value::SqlValue,
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

/// One message from a producer.
pub(crate) struct Batch {
    pub(crate) rows: Box<dyn AnyBatch>,
    /// Nothing follows.
    pub(crate) last: bool,
    /// Rows that the statement has found to change, where its database says so; with the last batch.
    pub(crate) n_changed: u64,
}

/// The database's end of a cursor.
pub(crate) struct Producer {
    opened: Option<oneshot::Sender<Result<Batch, SqlError>>>,
    rows: mpsc::Sender<Result<Batch, SqlError>>,
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

    /// Sends rows, waiting while the reader has not taken the ones before. The first ones open the cursor, so errors before them are
    /// errors of `fetch`.
    pub(crate) async fn send(&mut self, batch: Batch) -> Result<(), Abandoned> {
        if let Some(opened) = self.opened.take() {
            return opened.send(Ok(batch)).map_err(|_| Abandoned);
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

    /// Tells whether rows have gone out: then nothing may be tried again.
    pub(crate) fn has_begun(&self) -> bool {
        self.opened.is_none()
    }

    /// The same for who looks on while the producer works.
    pub(crate) fn when_abandoned(&self) -> impl Future<Output = ()> + Send + 'static {
        let rows = self.rows.clone();
        async move { rows.closed().await }
    }
}

/// The rows of one statement.
///
/// Owns its database connection through the task at the other end: dropping the cursor stops the statement, and a
/// connection with an unfinished statement is closed.
pub struct Cursor {
    columns: Vec<Column>,
    shape: Shape,
    first: Option<Batch>,
    batches: mpsc::Receiver<Result<Batch, SqlError>>,
    finished: bool,
    n_changed: u64,
    started: Instant,
    limits: SqlLimits,
    rows_read: Arc<AtomicU64>,
    guest_bytes: u64,
    /// Set if a script takes the rows batch by batch and keeps none.
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
pub(crate) fn open(
    limits: SqlLimits,
    shape: Shape,
) -> (Producer, impl Future<Output = Result<Cursor, SqlError>> + Send) {
    let (opened_sender, opened) = oneshot::channel::<Result<Batch, SqlError>>();
    let (rows, batches) = mpsc::channel(QUEUED_BATCHES);
    let started = Instant::now();
    let give_up_at = started + limits.statement_time + limits.stream_time;
    let producer = Producer { opened: Some(opened_sender), rows, limits, give_up_at };
    let cursor = async move {
        let first = opened.await.map_err(|_| lost(UNANSWERED))??;
        Ok(Cursor {
            columns: first.rows.columns().to_vec(),
            shape,
            first: Some(first),
            batches,
            finished: false,
            n_changed: 0,
            started,
            limits,
            rows_read: Arc::new(AtomicU64::new(0)),
            guest_bytes: 0,
            is_stream: false,
        })
    };
    (producer, cursor)
}

/// The text of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageFormat {
    /// A strict JSON array of objects.
    Json,
    /// CSV with a header line.
    Csv,
}

/// All rows of a statement, written out.
#[derive(Debug)]
pub struct WrittenRows {
    /// Their columns.
    pub columns: Vec<Column>,
    /// The text.
    pub bytes: Bytes,
    /// Their number.
    pub n_rows: u64,
    /// The values of the last one, as its database reads them back.
    pub last: Option<Vec<SqlValue>>,
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

    /// The types of the columns, as long as no rows were read.
    pub(crate) fn described(&self) -> Vec<Described> {
        self.first.as_ref().map(|first| first.rows.described()).unwrap_or_default()
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

    /// Rows that the statement has found to change, where its database says so and all of its rows were read.
    pub(crate) fn n_changed(&self) -> u64 {
        self.n_changed
    }

    /// The next rows for a script, as a list in this format; `None` after the last.
    ///
    /// # Errors
    ///
    /// The database's error; `ResultTooLarge` beyond `guest_rows` or `guest_bytes`; `StatementTimeout` when
    /// `statement_time` has passed since `fetch`. Of a stream the limits are `streamed_rows` and `stream_time`. After an
    /// error there are no more rows.
    pub async fn next_batch(&mut self, format: RowFormat) -> Result<Option<Bytes>, SqlError> {
        let result = self.next_guest_batch(format).await;
        if result.is_err() {
            self.finish();
        }
        result
    }

    async fn next_guest_batch(&mut self, format: RowFormat) -> Result<Option<Bytes>, SqlError> {
        let SqlLimits { statement_time, guest_rows, guest_bytes, streamed_rows, stream_time, .. } = self.limits;
        let (time, rows_max, bytes_max) = if self.is_stream {
            (stream_time, streamed_rows, u64::MAX)
        } else {
            (statement_time, guest_rows, guest_bytes)
        };
        let Some(rows) = self.next_rows(self.started + time, time).await? else { return Ok(None) };
        if self.count(&*rows) > rows_max {
            return Err(too_large(format!("the result has more than {rows_max} rows"), "into the script"));
        }
        let out = match format {
            RowFormat::Marshal => {
                let mut out = MarshalRows::new(&self.columns, self.shape);
                rows.write_marshal(0..rows.len(), &mut out)?;
                out.take()
            }
            RowFormat::Json => {
                let mut out = JsonRows::new(&self.columns, self.shape, Reader::Guest);
                out.out().push(b'[');
                rows.write_json(0..rows.len(), &mut out)?;
                out.out().push(b']');
                out.take()
            }
        };
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
        let writer = JsonRows::new(&self.columns, self.shape, Reader::Caller);
        let begin = (self, writer, Streaming::Begin);
        futures::stream::unfold(begin, move |(mut cursor, mut writer, streaming)| async move {
            match cursor.next_chunk(&mut writer, streaming, deadline).await {
                Ok(Some((chunk, streaming))) => Some((Ok(chunk), (cursor, writer, streaming))),
                Ok(None) => None,
                Err(error) => {
                    cursor.finish();
                    Some((Err(error), (cursor, writer, Streaming::End)))
                }
            }
        })
    }

    async fn next_chunk(
        &mut self,
        writer: &mut JsonRows,
        streaming: Streaming,
        deadline: Instant,
    ) -> Result<Option<(Bytes, Streaming)>, SqlError> {
        let SqlLimits { streamed_rows, stream_time, .. } = self.limits;
        match streaming {
            Streaming::Begin => writer.out().push(b'['),
            Streaming::Middle => {}
            Streaming::End => return Ok(None),
        }
        let Some(rows) = self.next_rows(deadline, stream_time).await? else {
            writer.out().push(b']');
            return Ok(Some((writer.take().into(), Streaming::End)));
        };
        if self.count(&*rows) > streamed_rows {
            return Err(too_large(format!("the result has more than {streamed_rows} rows"), "to a caller"));
        }
        rows.write_json(0..rows.len(), writer)?;
        let streaming = if self.finished {
            writer.out().push(b']');
            Streaming::End
        } else {
            Streaming::Middle
        };
        Ok(Some((writer.take().into(), streaming)))
    }

    /// All rows, as one page for a caller.
    ///
    /// # Errors
    ///
    /// As [`into_json`](Self::into_json); `ResultTooLarge` for a page of more than `bytes_max` bytes.
    pub async fn into_page(mut self, format: PageFormat, bytes_max: usize) -> Result<WrittenRows, SqlError> {
        let deadline = Instant::now() + self.limits.stream_time;
        let mut page = PageWriter::new(format, &self.columns);
        let mut last = ValueRows::default();
        while let Some(rows) = self.next_rows(deadline, self.limits.stream_time).await? {
            self.count(&*rows);
            page.write(&*rows)?;
            if page.len() > bytes_max {
                return Err(too_large(format!("the page has more than {bytes_max} bytes"), "to a caller"));
            }
            last.0.clear();
            rows.write_values(rows.len() - 1..rows.len(), &mut last)?;
        }
        let n_rows = self.rows_read();
        Ok(WrittenRows { columns: self.columns, bytes: page.into_bytes().into(), n_rows, last: last.0.pop() })
    }

    /// All rows of a statement of ours for a script, as one list.
    ///
    /// # Errors
    ///
    /// As [`next_batch`](Self::next_batch).
    pub(crate) async fn whole(&mut self, format: RowFormat) -> Result<Vec<u8>, SqlError> {
        let guest_bytes = self.limits.guest_bytes;
        let out = match format {
            RowFormat::Marshal => {
                let mut out = MarshalRows::new(&self.columns, self.shape);
                while let Some(rows) = self.next_of_all().await? {
                    rows.write_marshal(0..rows.len(), &mut out)?;
                }
                out.take()
            }
            RowFormat::Json => {
                let mut out = JsonRows::new(&self.columns, self.shape, Reader::Guest);
                out.out().push(b'[');
                while let Some(rows) = self.next_of_all().await? {
                    rows.write_json(0..rows.len(), &mut out)?;
                }
                out.out().push(b']');
                out.take()
            }
        };
        if out.len() as u64 > guest_bytes {
            return Err(too_large(format!("the result is larger than {guest_bytes} bytes"), "into the script"));
        }
        Ok(out)
    }

    /// The values of all rows, as the database reads them back.
    pub(crate) async fn values(&mut self) -> Result<Vec<Vec<SqlValue>>, SqlError> {
        let mut values = ValueRows::default();
        while let Some(rows) = self.next_of_all().await? {
            rows.write_values(0..rows.len(), &mut values)?;
        }
        Ok(values.0)
    }

    /// The next rows of a statement of ours, all of which are read at once.
    async fn next_of_all(&mut self) -> Result<Option<Box<dyn AnyBatch>>, SqlError> {
        let SqlLimits { statement_time, guest_rows, .. } = self.limits;
        let Some(rows) = self.next_rows(self.started + statement_time, statement_time).await? else { return Ok(None) };
        if self.count(&*rows) > guest_rows {
            return Err(too_large(format!("the result has more than {guest_rows} rows"), "into the script"));
        }
        Ok(Some(rows))
    }

    /// The next rows, at least one.
    async fn next_rows(&mut self, deadline: Instant, time: Duration) -> Result<Option<Box<dyn AnyBatch>>, SqlError> {
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
            self.n_changed = batch.n_changed;
            if batch.rows.len() > 0 {
                return Ok(Some(batch.rows));
            }
        }
    }

    fn count(&self, rows: &dyn AnyBatch) -> u64 {
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

/// The part of a stream's JSON array that comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Streaming {
    Begin,
    Middle,
    End,
}

/// A page that is being written.
enum PageWriter {
    Json(JsonRows),
    Csv(Box<CsvRows>),
}

impl PageWriter {
    fn new(format: PageFormat, columns: &[Column]) -> Self {
        match format {
            PageFormat::Json => {
                let mut rows = JsonRows::new(columns, Shape::Object, Reader::Caller);
                rows.out().push(b'[');
                Self::Json(rows)
            }
            PageFormat::Csv => Self::Csv(Box::new(CsvRows::new(columns))),
        }
    }

    fn write(&mut self, batch: &dyn AnyBatch) -> Result<(), SqlError> {
        match self {
            Self::Json(rows) => batch.write_json(0..batch.len(), rows),
            Self::Csv(rows) => batch.write_csv(0..batch.len(), rows),
        }
    }

    fn len(&mut self) -> usize {
        match self {
            Self::Json(rows) => rows.out().len(),
            Self::Csv(rows) => rows.len(),
        }
    }

    fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Json(mut rows) => {
                rows.out().push(b']');
                rows.take()
            }
            Self::Csv(rows) => rows.into_bytes(),
        }
    }
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
