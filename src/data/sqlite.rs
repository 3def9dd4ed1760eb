//! SQLite.
//!
//! Owns: running one statement on a blocking thread, and the pool of open folders. Never: decides what a statement may
//! do (see `jail`).
//!
//! Through rusqlite, not sqlx, because the jail needs what sqlx does not offer: an authorizer, run-time limits and a
//! handler that stops a statement half-way. Both link the same SQLite.
//!
//! **Session state.** The jail refuses what could leave some: temporary tables, transactions of a script's own, pragmas. A connection that
//! wrote anything is closed all the same, because it remembers the last row id and the number of changes.

mod folder;
mod jail;
mod transaction;
mod values;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

pub(crate) use crate::data::sqlite::{
    folder::{create_schema, used_bytes},
    transaction::hold,
    values::{Decoder, Rows},
};
use crate::{
    data::{
        DataSettings,
        cursor::{self, BATCH_BYTES, BATCH_ROWS, Batch, Producer, timed_out},
        pool::Pool,
        select::{Dialect, Form, Statement, Told, quoted_table, shown_table},
        sqlite::{
            jail::{Jail, READ_ONLY},
            values::Declared,
        },
    },
    domain::sql::{SqlError, SqlErrorCode},
};

/// Virtual machine instructions between two looks at the clock and the reader: some 10 microseconds of work.
const INSTRUCTIONS_PER_CHECK: i32 = 10_000;

/// The open connections to one folder.
pub(crate) struct SqlitePool {
    folder: PathBuf,
    /// Whether nothing may be changed.
    read_only: bool,
    /// What a file may grow to.
    file_bytes: u64,
    name: String,
    jails: Pool<Jail>,
    acquire_time: Duration,
    /// Of the whole process.
    threads: Arc<Semaphore>,
}

// The folder is part of a connection URL.
impl fmt::Debug for SqlitePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlitePool").finish_non_exhaustive()
    }
}

impl SqlitePool {
    pub(crate) fn new(folder: PathBuf, read_only: bool, settings: &DataSettings, threads: Arc<Semaphore>) -> Self {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let jails = Pool::new(settings.pool_connections);
        let file_bytes = settings.sqlite_bytes;
        Self { folder, read_only, file_bytes, name, jails, acquire_time: settings.acquire_time, threads }
    }

    /// The name of the folder.
    pub(crate) fn database(&self) -> &str {
        &self.name
    }

    pub(crate) fn connections(&self) -> &Pool<Jail> {
        &self.jails
    }

    /// Waits for the right to use a blocking thread.
    async fn thread(&self) -> Result<OwnedSemaphorePermit, SqlError> {
        match timeout(self.acquire_time, Arc::clone(&self.threads).acquire_owned()).await {
            Ok(permit) => Ok(permit.expect("the semaphore is never closed")),
            Err(_) => Err(SqlError::new(SqlErrorCode::Unavailable, "too many SQLite statements are running")),
        }
    }
}

/// Runs a statement to its end and sends its rows.
pub(crate) async fn run(pool: Arc<SqlitePool>, statement: Statement, mut producer: Producer) {
    let permit = match pool.jails.permit(pool.acquire_time).await {
        Ok(permit) => permit,
        Err(error) => return producer.fail(error).await,
    };
    let thread = match pool.thread().await {
        Ok(thread) => thread,
        Err(error) => return producer.fail(error).await,
    };
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        let _held = (permit, thread);
        run_blocking(&pool, &statement, producer, &runtime);
    });
}

fn run_blocking(pool: &SqlitePool, statement: &Statement, mut producer: Producer, runtime: &Handle) {
    let jail = match open(pool) {
        Ok(jail) => jail,
        Err(error) => return runtime.block_on(producer.fail(error)),
    };
    match execute(&jail, statement, &mut producer, runtime) {
        Ok(Fitness::Clean) => {
            drop(producer);
            if jail.leave().is_ok() {
                pool.jails.put(jail);
            }
        }
        Ok(Fitness::Used) => {}
        Err(error) => runtime.block_on(producer.fail(error)),
    }
}

/// Whether a connection may be used again.
enum Fitness {
    Clean,
    Used,
}

/// A connection with every file of the folder that is there now.
fn open(pool: &SqlitePool) -> Result<Jail, SqlError> {
    if let Some(mut jail) = pool.jails.take()
        && jail.attach_new_files()?
    {
        return Ok(jail);
    }
    Jail::open(&pool.folder, pool.read_only, pool.file_bytes)
}

fn execute(jail: &Jail, statement: &Statement, producer: &mut Producer, runtime: &Handle) -> Result<Fitness, SqlError> {
    let statement_time = producer.limits().statement_time;
    let mut silence = Silence::new(jail, producer, statement_time);
    jail.keep_from_growing(producer.limits().sqlite_is_full);
    let explain = |error: rusqlite::Error, stopped: bool| {
        if stopped { timed_out(statement_time) } else { error_of(jail, error, &statement.form, statement.told) }
    };
    silence.begin()?;
    let sql = statement.template.render(|number| format!("?{}", number + 1));
    if let Form::Table { schema: Some(schema), .. } | Form::Change { schema: Some(schema), .. } = &statement.form {
        jail.check_schema(schema)?;
    }
    let mut prepared = jail.prepare(&sql).map_err(|error| explain(error, silence.is_over()))?;
    let n_values = statement.template.values.len();
    if prepared.parameter_count() != n_values {
        let message =
            format!("`query` has {} placeholders, `params` has {n_values} values", prepared.parameter_count());
        return Err(crate::data::select::invalid(message));
    }
    let declared = declared_types(jail, &statement.form, n_values > 0 || prepared.column_count() > 0);
    for (nth, value) in statement.template.values.iter().enumerate() {
        let value = declared.value_for(statement.column(nth), value);
        prepared.raw_bind_parameter(nth + 1, value).map_err(|error| explain(error, false))?;
    }
    let fitness = if prepared.readonly() { Fitness::Clean } else { Fitness::Used };
    let decoder = Decoder::new(&prepared, statement.decimals, statement.shape, &declared);
    let n_columns = decoder.n_columns();
    producer.describe(cursor::Decoder::Sqlite(decoder));
    let (mut to_skip, mut to_take) = match statement.form {
        Form::Table { .. } | Form::Change { .. } => (0, u64::MAX),
        Form::Query { offset, limit } => (offset, limit.unwrap_or(u64::MAX)),
    };
    let mut rows = prepared.raw_query();
    let mut batch = Rows::new(n_columns);
    loop {
        let row = match rows.next() {
            Ok(Some(row)) => row,
            Ok(None) => break,
            Err(error) => return Err(explain(error, silence.is_over())),
        };
        if to_skip > 0 {
            to_skip -= 1;
            continue;
        }
        if to_take == 0 {
            // A statement that changes something is run to its end, whatever is read of it.
            match fitness {
                Fitness::Clean => break,
                Fitness::Used => continue,
            }
        }
        to_take -= 1;
        batch.push(row).map_err(|error| explain(error, false))?;
        if batch.len() >= BATCH_ROWS || batch.bytes() >= BATCH_BYTES {
            let full = std::mem::replace(&mut batch, Rows::new(n_columns));
            if runtime.block_on(producer.send(Batch { rows: cursor::Rows::Sqlite(full), last: false })).is_err() {
                return Ok(Fitness::Used);
            }
            silence.begin()?;
        }
    }
    match runtime.block_on(producer.send(Batch { rows: cursor::Rows::Sqlite(batch), last: true })) {
        Ok(()) => Ok(fitness),
        Err(cursor::Abandoned) => Ok(Fitness::Used),
    }
}

/// The declared types of the columns of a table that is to be changed.
fn declared_types(jail: &Jail, form: &Form, needs_types: bool) -> Declared {
    let Form::Change { schema, table } = form else { return Declared::default() };
    if !needs_types {
        return Declared::default();
    }
    let Ok(table) = quoted_table(Dialect::Sqlite, schema.as_deref(), table) else { return Declared::default() };
    // If this fails, so does the statement itself, with the better error.
    jail.prepare(&format!("SELECT * FROM {table}")).map(|statement| Declared::of(&statement)).unwrap_or_default()
}

/// Stops the statement when its reader is gone or SQLite computes for too long without a row.
struct Silence<'a> {
    jail: &'a Jail,
    producer: Arc<dyn Fn() -> bool + Send + Sync>,
    time: Duration,
    deadline: Instant,
}

impl<'a> Silence<'a> {
    fn new(jail: &'a Jail, producer: &Producer, time: Duration) -> Self {
        Self { jail, producer: Arc::new(producer.watch()), time, deadline: Instant::now() + time }
    }

    /// Counts anew from now.
    fn begin(&mut self) -> Result<(), SqlError> {
        let deadline = Instant::now() + self.time;
        self.deadline = deadline;
        let is_abandoned = Arc::clone(&self.producer);
        let is_over = move || is_abandoned() || Instant::now() >= deadline;
        self.jail.stop_when(INSTRUCTIONS_PER_CHECK, is_over).map_err(|_| broken())
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }
}

fn broken() -> SqlError {
    SqlError::new(SqlErrorCode::Unavailable, "the SQLite database cannot be used")
}

/// What an error of SQLite means to an author. Its messages name tables and columns, never files: attached files are
/// known by their schema. Nor do they show values of rows, but for one.
fn error_of(jail: &Jail, error: rusqlite::Error, form: &Form, told: Told) -> SqlError {
    use rusqlite::ErrorCode;

    if let Some(reason) = jail.take_refusal() {
        let code = if reason == READ_ONLY { SqlErrorCode::ReadOnly } else { SqlErrorCode::NotAllowed };
        return SqlError::new(code, reason);
    }
    let code = error.sqlite_error_code();
    let message = match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message,
        rusqlite::Error::MultipleStatement => "a `query` may hold one statement".to_owned(),
        other => other.to_string(),
    };
    if let Form::Table { schema, table } | Form::Change { schema, table } = form
        && message.starts_with("no such table")
    {
        let table = shown_table(schema.as_deref(), table);
        return SqlError::new(SqlErrorCode::UnknownTable, format!("unknown table {table}"));
    }
    if told == Told::WithoutValues && message.starts_with("bad JSON path") {
        return SqlError::new(SqlErrorCode::StatementFailed, "a value is no path of JSON");
    }
    if code == Some(ErrorCode::DiskFull) {
        let message = "the SQLite file has grown to the size that the host allows, or the host's disk is full";
        return SqlError::new(SqlErrorCode::StatementFailed, message);
    }
    let code = match code {
        Some(ErrorCode::OperationInterrupted) => SqlErrorCode::StatementTimeout,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => SqlErrorCode::Conflict,
        Some(ErrorCode::CannotOpen) => SqlErrorCode::Unavailable,
        Some(ErrorCode::ConstraintViolation) => SqlErrorCode::ConstraintViolated,
        Some(ErrorCode::TooBig) if message == "string or blob too big" => SqlErrorCode::ResultTooLarge,
        Some(ErrorCode::ReadOnly) => SqlErrorCode::ReadOnly,
        Some(ErrorCode::AuthorizationForStatementDenied) => SqlErrorCode::NotAllowed,
        _ if message.starts_with("no such table") => SqlErrorCode::UnknownTable,
        _ if message.starts_with("no such column") || message.contains(" has no column named ") => {
            SqlErrorCode::UnknownColumn
        }
        _ if message.ends_with(" already exists") || message.starts_with("duplicate column name") => {
            SqlErrorCode::AlreadyExists
        }
        _ if message.starts_with("unknown database") => SqlErrorCode::UnknownSchema,
        _ => SqlErrorCode::StatementFailed,
    };
    SqlError::new(code, message)
}
