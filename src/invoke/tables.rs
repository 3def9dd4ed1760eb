//! Endpoints that a table or a query answers without a script.
//!
//! Owns: reading one page within the limits of any invocation, and its record. Never: HTTP, or what a caller's words mean (see
//! `ingress`).

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    data::Database,
    db::{invocations::InvocationRecord, now_ms},
    domain::{
        endpoint::TableSource,
        limits::Limits,
        names::{EndpointId, InvocationId, ScriptId},
        page::PageQuery,
        quota::Usage,
        rows::RowScope,
        sql::{Column, SqlError, SqlErrorCode},
    },
    invoke::{Invoker, TenantRoutes},
};

/// Most bytes of one page: it is held in memory while the next page's address is made.
const PAGE_BYTES_MAX: usize = 16 << 20;

/// Pages that are read at once, of all tenants; further ones wait.
pub(super) const PAGES_MAX: usize = 64;

/// How long a page waits for its turn.
const TURN_TIME: Duration = Duration::from_secs(5);

/// Time for one page.
const PAGE_TIME: Duration = Duration::from_secs(10);

/// A request that a table is to answer, and whose caller may call it.
#[derive(Debug)]
pub struct TableCall {
    /// The tenant.
    pub routes: Arc<TenantRoutes>,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The table or query.
    pub source: TableSource,
    /// The rows that the caller reaches, if not all.
    pub rows: Option<Arc<RowScope>>,
    /// What an invocation may use.
    pub limits: Limits,
    /// Also the invocation's id.
    pub request_id: InvocationId,
    /// Upper case.
    pub method: String,
    /// Below the tenant, percent-decoded.
    pub path: String,
}

/// What is known of a source before a page of it is asked for.
#[derive(Debug)]
pub struct SourceColumns {
    /// Columns that callers may see, filter and order by; of a query without a list, they are not known.
    pub visible: Option<Vec<String>>,
    /// Columns that tell rows apart, if any are known. They may not be visible.
    pub key: Vec<String>,
    /// Names of the query's placeholders.
    pub parameters: Vec<String>,
}

/// A page.
#[derive(Debug)]
pub struct Page {
    /// Its columns.
    pub columns: Vec<Column>,
    /// A JSON array of objects.
    pub rows: Bytes,
    /// How many there are.
    pub n_rows: u64,
    /// How many there are on all pages, if that was asked.
    pub total: Option<u64>,
    /// To be held until the rows have left.
    pub room: Option<PageRoom>,
}

/// Room for a page on its way to a caller.
#[derive(Debug)]
pub struct PageRoom(#[expect(dead_code, reason = "held, not looked at")] [OwnedSemaphorePermit; 2]);

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The caller asked for what there is not.
    #[error("{0}")]
    Invalid(String),
    /// The database refused what the caller asked, in words that may say more than callers are to know.
    #[error("the database refused the caller's words: {0}")]
    Refused(String),
    /// The caller reaches no rows of this table.
    #[error("{0}")]
    NotAllowed(String),
    /// The page is too large.
    #[error("the page has more than {limit_bytes} bytes: ask for fewer rows with `limit`")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// Too many pages are read, or on their way to callers.
    #[error("too many pages are read, or on their way to callers")]
    Busy,
    /// The database took too long.
    #[error("{0}")]
    TimedOut(String),
    /// The database cannot be reached.
    #[error("{0}")]
    Unavailable(String),
    /// The endpoint's source cannot be read, whoever asks.
    #[error("{0}")]
    Misconfigured(String),
}

impl TableError {
    /// The stable code that callers see.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) | Self::Refused(_) => "invalid_filter",
            Self::NotAllowed(_) => "rows_not_allowed",
            Self::TooLarge { .. } => "page_too_large",
            Self::Busy => "host_overloaded",
            Self::TimedOut(_) => "database_timeout",
            Self::Unavailable(_) => "database_unavailable",
            Self::Misconfigured(_) => "endpoint_misconfigured",
        }
    }

    /// The HTTP status that callers see.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Invalid(_) | Self::Refused(_) | Self::TooLarge { .. } => 400,
            Self::NotAllowed(_) => 403,
            Self::TimedOut(_) => 504,
            Self::Unavailable(_) | Self::Busy => 503,
            Self::Misconfigured(_) => 500,
        }
    }

    /// An error of the database, about a page that depends on the caller's words or does not, for a caller that is restricted or is not.
    fn of(error: SqlError, is_asked: bool, is_restricted: bool) -> Self {
        let SqlError { code, message } = error;
        match code {
            SqlErrorCode::InvalidArgument | SqlErrorCode::UnknownColumn if is_asked => Self::Invalid(message),
            SqlErrorCode::StatementFailed if is_asked => Self::Refused(message),
            SqlErrorCode::NotAllowed if is_restricted => Self::NotAllowed(message),
            SqlErrorCode::ResultTooLarge => Self::TooLarge { limit_bytes: PAGE_BYTES_MAX },
            SqlErrorCode::StatementTimeout => Self::TimedOut(message),
            SqlErrorCode::Unavailable | SqlErrorCode::Conflict => Self::Unavailable(message),
            _ => Self::Misconfigured(message),
        }
    }
}

impl Invoker {
    /// What callers may ask of a table or a query.
    ///
    /// # Errors
    /// If it cannot be found out.
    pub async fn source_columns(&self, call: &TableCall) -> Result<SourceColumns, TableError> {
        let failed = |error| TableError::of(error, false, call.rows.is_some());
        let database = self.database(call).await.map_err(failed)?;
        source_columns(&database, &call.source).await.map_err(failed)
    }

    /// Reads a page, and records that, or why there is none. `read` turns the request into what is asked of the source, and whatever else it says.
    ///
    /// # Errors
    /// If there is no page; see [`TableError`].
    pub async fn read_page<T: Send>(
        &self,
        call: &TableCall,
        read: impl FnOnce(SourceColumns) -> Result<(PageQuery, T), TableError> + Send,
    ) -> Result<(Page, PageQuery, T), TableError> {
        let (started, started_at_ms) = (Instant::now(), now_ms());
        let reading = tokio::time::timeout(PAGE_TIME.min(call.limits.deadline), self.page(call, read));
        let page = reading.await.unwrap_or_else(|_| Err(TableError::TimedOut("the database took too long".to_owned())));
        let (status, code, log) = match &page {
            Ok(_) => (200, None, String::new()),
            Err(error) => (error.status(), Some(error.code().to_owned()), format!("{error}\n")),
        };
        let (rows, answer_bytes) = page.as_ref().map_or((0, 0), |(page, ..)| (page.n_rows, page.rows.len() as u64));
        let duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        call.routes.count(Usage { rows, answer_bytes, duration_us, ..Usage::of_request(status) });
        let record = InvocationRecord {
            id: call.request_id,
            tenant: call.routes.tenant_id,
            script: ScriptId::NONE,
            version: None,
            endpoint: call.endpoint,
            method: call.method.clone(),
            path: call.path.clone(),
            status,
            code,
            started_at_ms,
            duration_us,
            fuel: 0,
            dirty_pages: 0,
            rows,
            answer_bytes,
            log,
            traceback: None,
            rerun: None,
            recording: None,
        };
        self.0.recorder.record(record, None);
        page
    }

    async fn page<T: Send>(
        &self,
        call: &TableCall,
        read: impl FnOnce(SourceColumns) -> Result<(PageQuery, T), TableError> + Send,
    ) -> Result<(Page, PageQuery, T), TableError> {
        // The tenant's before everybody's, so that nobody holds up others while it waits for itself.
        let meter = Arc::clone(call.routes.granted.meter());
        let busy = |_| TableError::Busy;
        let _own = tokio::time::timeout(TURN_TIME, meter.pages.acquire()).await.map_err(busy)?;
        let _shared = tokio::time::timeout(TURN_TIME, self.0.pages.acquire()).await.map_err(busy)?;
        let is_restricted = call.rows.is_some();
        let failed = |error| TableError::of(error, false, is_restricted);
        let database = self.database(call).await.map_err(failed)?;
        let (query, more) = read(source_columns(&database, &call.source).await.map_err(failed)?)?;
        let refused = |error| TableError::of(error, query.is_asked, is_restricted);
        let cursor = database.page(&query).await.map_err(refused)?;
        let (columns, counter) = (cursor.columns().to_vec(), cursor.row_counter());
        let mut pieces = std::pin::pin!(cursor.into_json());
        let mut rows = BytesMut::new();
        while let Some(piece) = pieces.try_next().await.map_err(refused)? {
            if rows.len() + piece.len() > PAGE_BYTES_MAX {
                return Err(TableError::TooLarge { limit_bytes: PAGE_BYTES_MAX });
            }
            rows.extend_from_slice(&piece);
        }
        let total = match query.counts {
            true => Some(database.count(&query).await.map_err(refused)?),
            false => None,
        };
        let n_rows = counter.load(Ordering::Relaxed);
        let n_kib = u32::try_from(rows.len() >> 10).unwrap_or(u32::MAX);
        let take = |of: &Arc<Semaphore>| Arc::clone(of).try_acquire_many_owned(n_kib).map_err(|_| TableError::Busy);
        let room = Some(PageRoom([take(&meter.page_bytes)?, take(&self.0.page_bytes)?]));
        Ok((Page { columns, rows: rows.freeze(), n_rows, total, room }, query, more))
    }

    /// The source's database, for this caller.
    async fn database(&self, call: &TableCall) -> Result<Database, SqlError> {
        let TableCall { routes, source, rows, limits, .. } = call;
        let name = source.connection.as_str();
        // Connections that are for some scripts only are for none here.
        let mut target = self.0.directory.find_target(routes.tenant_id, ScriptId::NONE, name, rows.as_deref()).await?;
        // GET changes nothing, whatever functions a view or a query calls.
        target.url = target.url.reading_only();
        self.0.readers.database(target, limits.sql).scoped(rows.as_deref())
    }
}

/// What callers may ask of a table or a query.
async fn source_columns(database: &Database, source: &TableSource) -> Result<SourceColumns, SqlError> {
    let TableSource { query, columns, key, .. } = source;
    if let Some(sql) = query {
        return Ok(SourceColumns { visible: columns.clone(), key: key.clone(), parameters: database.parameters(sql) });
    }
    let (all, primary_key) = database.columns(source.table_name()).await?;
    if let Some(missing) = columns.iter().flatten().chain(key).find(|column| !all.contains(column)) {
        let message = format!("the table has no column `{missing}`, which the endpoint's source names");
        return Err(SqlError::new(SqlErrorCode::UnknownColumn, message));
    }
    let key = if key.is_empty() { primary_key } else { key.clone() };
    Ok(SourceColumns { visible: Some(columns.clone().unwrap_or(all)), key, parameters: Vec::new() })
}
