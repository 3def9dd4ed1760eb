//! Endpoints that a table or a query answers without a script.
//!
//! Owns: reading one page within the limits of any invocation, and its record. Never: HTTP, or what a caller's words mean (see
//! `ingress`).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    data::{Database, PageFormat, SourceColumn, WrittenRows},
    db::{invocations::InvocationRecord, now_ms},
    domain::{
        endpoint::TableSource,
        limits::Limits,
        names::{EndpointId, InvocationId, ScriptId},
        page::PageQuery,
        quota::Usage,
        rows::RowScope,
        shown,
        sql::{SqlError, SqlErrorCode},
    },
    invoke::{Invoker, TenantRoutes},
};

/// Most bytes of one page: it is held in memory while the next page's address is made.
const PAGE_BYTES_MAX: usize = 16 << 20;

/// Pages that are read at once, of all tenants; further ones wait.
pub(super) const PAGES_MAX: usize = 64;

/// The longest that a page waits for its turn.
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

/// The columns of a source, known before a page of it is asked for.
#[derive(Debug)]
pub struct SourceColumns {
    /// Columns that callers may see, filter and order by.
    pub visible: Vec<SourceColumn>,
    /// Columns that tell rows apart, if any are known. They may not be visible.
    pub key: Vec<String>,
    /// Names of the query's placeholders.
    pub parameters: Vec<String>,
}

/// A page.
#[derive(Debug)]
pub struct Page {
    /// Its columns, its text, and where it ends.
    pub rows: WrittenRows,
    /// Their number on all pages, if that was asked.
    pub total: Option<u64>,
    /// To be held until the rows have left.
    pub room: PageRoom,
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
    /// The questions that callers may ask of a table or a query, as it is now, as far as it can be found out by `deadline`. Of a query whose database
    /// does not answer, that is its placeholders.
    pub async fn source_columns(&self, call: &TableCall, deadline: Instant) -> SourceColumns {
        let mut known = SourceColumns { visible: Vec::new(), key: Vec::new(), parameters: Vec::new() };
        let Ok(database) = self.table_database(call).await else { return known };
        known.parameters = call.source.query.as_ref().map(|sql| database.parameters(sql)).unwrap_or_default();
        forget_source(&database, &call.source);
        match tokio::time::timeout_at(deadline.into(), source_columns(&database, &call.source)).await {
            Ok(Ok(columns)) => columns,
            Ok(Err(_)) | Err(_) => known,
        }
    }

    /// Gets ready to read a page: waits for its turn, and finds out what may be asked.
    ///
    /// # Errors
    /// If that fails, which is recorded; see [`TableError`].
    pub async fn open_table(&self, call: TableCall) -> Result<OpenTable, TableError> {
        let deadline = Instant::now() + PAGE_TIME.min(call.limits.deadline);
        let record = Recorded { invoker: self.clone(), started: Instant::now(), started_at_ms: now_ms() };
        let opening = tokio::time::timeout_at(deadline.into(), async {
            // The tenant's before everybody's, so that nobody holds up others while it waits for itself.
            let busy = |_| TableError::Busy;
            let meter = call.routes.granted.meter();
            let own = Arc::clone(&meter.pages).acquire_owned();
            let own = tokio::time::timeout(TURN_TIME, own).await.map_err(busy)?.map_err(|_| TableError::Busy)?;
            let shared = Arc::clone(&self.0.pages).acquire_owned();
            let shared = tokio::time::timeout(TURN_TIME, shared).await.map_err(busy)?.map_err(|_| TableError::Busy)?;
            let failed = |error| TableError::of(error, false, call.rows.is_some());
            let database = self.table_database(&call).await.map_err(failed)?;
            let columns = source_columns(&database, &call.source).await.map_err(failed)?;
            Ok((database, columns, [own, shared]))
        });
        match opening.await.unwrap_or_else(|_| Err(took_too_long())) {
            Ok((database, columns, turn)) => Ok(OpenTable { call, record, deadline, database, columns, _turn: turn }),
            Err(error) => Err(record.failed(&call, error)),
        }
    }

    /// The source's database, for this caller.
    async fn table_database(&self, call: &TableCall) -> Result<Database, SqlError> {
        let TableCall { routes, source, rows, limits, .. } = call;
        let name = source.connection.as_str();
        // Connections that are for some scripts only are for none here.
        let mut target = self.0.directory.find_target(routes.tenant_id, ScriptId::NONE, name, rows.as_deref()).await?;
        // GET changes nothing, whatever functions a view or a query calls.
        target.url = target.url.reading_only();
        self.0.readers.database(target, limits.sql).scoped(rows.as_deref())
    }
}

/// A table or a query whose turn it is to be read.
#[derive(Debug)]
pub struct OpenTable {
    call: TableCall,
    record: Recorded,
    deadline: Instant,
    database: Database,
    columns: SourceColumns,
    _turn: [OwnedSemaphorePermit; 2],
}

impl OpenTable {
    /// The columns that may be asked for.
    #[must_use]
    pub fn columns(&self) -> &SourceColumns {
        &self.columns
    }

    /// Gives up, because what was asked cannot be read; this is recorded.
    #[must_use]
    pub fn refuse(self, error: TableError) -> TableError {
        self.record.failed(&self.call, error)
    }

    /// Reads a page; this is recorded.
    ///
    /// # Errors
    /// If there is no page; see [`TableError`].
    pub async fn read(self, query: &PageQuery, format: PageFormat) -> Result<Page, TableError> {
        let Self { call, record, deadline, database, .. } = self;
        let reading = tokio::time::timeout_at(deadline.into(), async {
            let refused = |error| TableError::of(error, query.is_asked, call.rows.is_some());
            let cursor = database.page(query).await.map_err(refused)?;
            let rows = cursor.into_page(format, PAGE_BYTES_MAX).await.map_err(refused)?;
            let total = match query.counts {
                true => Some(database.count(query).await.map_err(refused)?),
                false => None,
            };
            let n_kib = u32::try_from(rows.bytes.len() >> 10).unwrap_or(u32::MAX);
            let take = |of: &Arc<Semaphore>| Arc::clone(of).try_acquire_many_owned(n_kib).map_err(|_| TableError::Busy);
            let own = take(&call.routes.granted.meter().page_bytes)?;
            let room = PageRoom([own, take(&record.invoker.0.page_bytes)?]);
            Ok(Page { rows, total, room })
        });
        match reading.await.unwrap_or_else(|_| Err(took_too_long())) {
            Ok(page) => {
                record.done(&call, page.rows.n_rows, page.rows.bytes.len() as u64);
                Ok(page)
            }
            Err(error) => Err(record.failed(&call, error)),
        }
    }
}

fn took_too_long() -> TableError {
    TableError::TimedOut("the database took too long".to_owned())
}

/// The record of a request that a table answers, written when it is over.
#[derive(Debug)]
struct Recorded {
    invoker: Invoker,
    started: Instant,
    started_at_ms: i64,
}

impl Recorded {
    fn done(&self, call: &TableCall, rows: u64, answer_bytes: u64) {
        self.record(call, (200, None, String::new()), rows, answer_bytes);
    }

    fn failed(&self, call: &TableCall, error: TableError) -> TableError {
        self.record(call, (error.status(), Some(error.code().to_owned()), format!("{error}\n")), 0, 0);
        error
    }

    fn record(&self, call: &TableCall, outcome: (u16, Option<String>, String), rows: u64, answer_bytes: u64) {
        let (status, code, log) = outcome;
        let duration_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
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
            started_at_ms: self.started_at_ms,
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
        self.invoker.0.recorder.record(record, None);
    }
}

/// Says what is wrong with the columns that a source names, if anything is. What its database does not tell, for example because the
/// table is yet to be made, is not wrong.
pub async fn problem_of_source(database: &Database, source: &TableSource) -> Option<String> {
    forget_source(database, source);
    let all = all_columns(database, source).await.ok()?;
    let find = |name: &String| all.iter().find(|column| column.name == *name);
    if let Err(error) = check_names(&all, source) {
        return Some(error.message);
    }
    let unordered = source.key.iter().filter_map(find).find(|column| !column.has_order)?;
    Some(format!(
        "`key`: the values of column `{}` have no order that tells them apart, so pages cannot follow each other by it: name other columns",
        unordered.name
    ))
}

fn forget_source(database: &Database, source: &TableSource) {
    match &source.query {
        Some(sql) => database.forget_query(sql),
        None => database.forget_table(source.table_name()),
    }
}

async fn all_columns(database: &Database, source: &TableSource) -> Result<Vec<SourceColumn>, SqlError> {
    match &source.query {
        Some(sql) => database.query_columns(sql).await,
        None => database.table_columns(source.table_name()).await,
    }
}

/// Checks that there is what a source names.
fn check_names(all: &[SourceColumn], source: &TableSource) -> Result<(), SqlError> {
    let TableSource { columns, key, .. } = source;
    let named = columns.iter().flatten().map(|name| ("columns", name)).chain(key.iter().map(|name| ("key", name)));
    for (field, name) in named {
        if !all.iter().any(|column| column.name == *name) {
            let message = format!("`{field}`: there is no column `{}`", shown(name));
            return Err(SqlError::new(SqlErrorCode::UnknownColumn, message));
        }
    }
    Ok(())
}

/// The columns and placeholders of a table or a query.
async fn source_columns(database: &Database, source: &TableSource) -> Result<SourceColumns, SqlError> {
    let TableSource { query, columns, key, .. } = source;
    let parameters = query.as_ref().map(|sql| database.parameters(sql)).unwrap_or_default();
    let all = all_columns(database, source).await?;
    check_names(&all, source)?;
    let mut primary_key: Vec<_> = all.iter().filter(|column| column.key_position > 0).collect();
    primary_key.sort_by_key(|column| column.key_position);
    let key = match key.is_empty() {
        true => primary_key.into_iter().map(|column| column.name.clone()).collect(),
        false => key.clone(),
    };
    let is_visible = |name: &String| columns.as_ref().is_none_or(|columns| columns.contains(name));
    let visible = all.into_iter().filter(|column| is_visible(&column.name)).collect();
    Ok(SourceColumns { visible, key, parameters })
}
