//! Running one statement on a blocking thread, and the pool of open folders.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use rusqlite::InterruptHandle;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep_until, timeout},
};

use crate::{
    data::{
        DataSettings,
        cursor::{BATCH_BYTES, BATCH_ROWS, Batch, Producer, timed_out},
        dialect::{Dialect, invalid, shown},
        driver::{Attempt, Driver, End, Ending, Remedy},
        failure::Failure,
        pieces::first_word,
        pool::Pool,
        read::catalog::Catalog,
        rows::RowBatch as _,
        sqlite::{
            catalog::CATALOG,
            error::{READ_ONLY, broken, error_of, of_host},
            folder::check_name,
            jail::Jail,
            schemas::create_file,
            types::{Declared, Decoder, SqliteRows},
        },
        statement::{Purpose, Statement},
        template::Bound,
        transaction::{Author, refusal_inside},
    },
    domain::{
        limits::SqlLimits,
        sql::{SqlError, SqlErrorCode},
    },
};

/// Pause between two attempts to stop a statement: one that has not begun yet does not hear of it.
const INTERRUPT_EVERY: Duration = Duration::from_millis(10);

/// The open connections to one folder.
pub(crate) struct SqlitePool {
    folder: PathBuf,
    /// Set if nothing may be changed.
    read_only: bool,
    /// The size that a file may grow to.
    file_bytes: u64,
    name: String,
    jails: Pool<Session>,
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

    /// Waits for the right to use a blocking thread.
    async fn thread(&self) -> Result<OwnedSemaphorePermit, SqlError> {
        match timeout(self.acquire_time, Arc::clone(&self.threads).acquire_owned()).await {
            Ok(permit) => Ok(permit.expect("the semaphore is never closed")),
            Err(_) => Err(SqlError::new(SqlErrorCode::Unavailable, "too many SQLite statements are running")),
        }
    }

    /// A connection with every file of the folder that is there now.
    fn open(&self) -> Result<Jail, SqlError> {
        if let Some(mut jail) = self.jails.take().and_then(|session| session.jail)
            && jail.attach_new_files()?
        {
            return Ok(jail);
        }
        Jail::open(&self.folder, self.read_only, self.file_bytes)
    }

    /// Does something that blocks.
    async fn on_a_thread<R: Send + 'static>(
        self: &Arc<Self>,
        act: impl FnOnce(&Self) -> R + Send + 'static,
    ) -> Result<R, SqlError> {
        let thread = self.thread().await?;
        let pool = Arc::clone(self);
        let acting = tokio::task::spawn_blocking(move || {
            let _thread = thread;
            act(&pool)
        });
        acting.await.map_err(|_| broken())
    }
}

/// A connection; opened when it is first needed, because that blocks.
#[derive(Debug, Default)]
pub(crate) struct Session {
    jail: Option<Jail>,
    /// Set if it may remember something of a statement.
    is_used: bool,
}

impl Driver for SqlitePool {
    type Session = Session;

    const DIALECT: Dialect = Dialect::Sqlite;
    const CATALOG: Catalog = CATALOG;

    fn sessions(&self) -> &Pool<Session> {
        &self.jails
    }

    fn acquire_time(&self) -> Duration {
        self.acquire_time
    }

    /// The name of the folder.
    fn database(&self) -> &str {
        &self.name
    }

    fn create_schema(self: Arc<Self>, schema: String) -> Option<BoxFuture<'static, Result<(), SqlError>>> {
        let creating = async move {
            if self.read_only {
                return Err(SqlError::new(SqlErrorCode::ReadOnly, READ_ONLY));
            }
            check_name(&schema)?;
            self.on_a_thread(move |pool| create_file(&pool.folder, pool.file_bytes, &schema)).await?
        };
        Some(creating.boxed())
    }

    /// An open connection is taken on the thread that runs the statement.
    fn may_share(&self, _statement: &Statement) -> bool {
        false
    }

    async fn connect(&self, _limits: &SqlLimits) -> Result<Session, SqlError> {
        Ok(Session::default())
    }

    async fn execute(self: &Arc<Self>, attempt: Attempt<Session>) -> (Attempt<Session>, Result<(), Failure>) {
        let thread = match self.thread().await {
            Ok(thread) => thread,
            Err(error) => return (attempt, Err(Failure::Refused(error))),
        };
        let (pool, runtime) = (Arc::clone(self), Handle::current());
        let running = tokio::task::spawn_blocking(move || {
            let _thread = thread;
            run(&pool, attempt, &runtime)
        });
        running.await.expect("running a statement does not panic")
    }

    fn remedy(&self, _failure: &Failure, _attempt: &Attempt<Session>) -> Remedy {
        Remedy::Nothing
    }

    async fn refresh(&self, _session: &mut Session) -> bool {
        false
    }

    async fn explain(&self, _session: &mut Session, failure: Failure, _statement: &Statement) -> SqlError {
        match failure {
            Failure::Reported(error) | Failure::Refused(error) => error,
            Failure::Database(_) | Failure::TimedOut | Failure::Abandoned => broken(),
        }
    }

    fn end_of(&self, failure: &Failure, _is_executing: bool) -> End {
        match failure {
            Failure::Refused(_) | Failure::Reported(_) => End::Clean,
            Failure::Database(_) | Failure::TimedOut | Failure::Abandoned => End::Lost,
        }
    }

    async fn release(&self, session: Session, end: End, _statement: &Statement) {
        let is_fit = session.jail.as_ref().is_some_and(|jail| end == End::Clean && !session.is_used && jail.is_fit());
        if is_fit {
            self.jails.put(session);
        }
    }

    async fn begin(self: &Arc<Self>, _limits: &SqlLimits, _author: Author) -> Result<Session, SqlError> {
        let beginning = self.on_a_thread(|pool| {
            let jail = pool.open()?;
            jail.begin().map_err(|error| of_host(jail.take_refusal(), error))?;
            Ok(Session { jail: Some(jail), is_used: true })
        });
        beginning.await?
    }

    fn admit(&self, _session: &mut Session, statement: &Statement) -> Result<(), SqlError> {
        if !statement.purpose.is_author() {
            return Ok(());
        }
        refusal_inside(&first_word(Dialect::Sqlite, &statement.template.sketch())).map_or(Ok(()), Err)
    }

    /// Without a commit the connection is closed, which undoes what was not committed and frees its locks.
    async fn finish(self: &Arc<Self>, session: Session, ending: Ending) -> (Session, Result<(), Failure>) {
        let ended = self.on_a_thread(move |_| match (session.jail, ending) {
            (Some(jail), Ending::Commit) => jail.commit().map_err(|error| of_host(jail.take_refusal(), error)),
            (_, Ending::Commit | Ending::Rollback) => Ok(()),
        });
        let ended = ended.await.unwrap_or_else(Err);
        (Session::default(), ended.map_err(Failure::Reported))
    }

    async fn release_transaction(self: &Arc<Self>, session: Session, _end: End, _author: Author) {
        if session.jail.is_some() {
            _ = self.on_a_thread(move |_| drop(session)).await; // without a thread, dropping the closure has closed it here
        }
    }
}

/// Runs a statement, on a thread that may block.
fn run(pool: &SqlitePool, mut attempt: Attempt<Session>, runtime: &Handle) -> (Attempt<Session>, Result<(), Failure>) {
    let jail = match attempt.session.jail.take().map_or_else(|| pool.open(), Ok) {
        Ok(jail) => jail,
        Err(error) => return (attempt, Err(Failure::Reported(error))),
    };
    let Attempt { session, statement, producer, is_executing, .. } = &mut attempt;
    let result = execute(&jail, statement, producer, is_executing, runtime);
    session.is_used |= *result.as_ref().unwrap_or(&true);
    session.jail = Some(jail);
    (attempt, result.map(|_| ()))
}

/// Runs a statement and sends its rows. Gives whether it may have left something in its connection.
fn execute(
    jail: &Jail,
    statement: &Statement,
    producer: &mut Producer,
    is_executing: &mut bool,
    runtime: &Handle,
) -> Result<bool, Failure> {
    let statement_time = producer.limits().statement_time;
    let silence = Silence::new(jail, producer, statement_time, runtime);
    jail.keep_from_growing(producer.limits().sqlite_is_full);
    let explain = |error: rusqlite::Error, stopped: bool| {
        let error = if stopped { timed_out(statement_time) } else { error_of(jail.take_refusal(), error, statement) };
        Failure::Reported(error)
    };
    let sql = statement.template.render(|number| format!("?{}", number + 1));
    jail.look_in(statement.purpose.looks_in()).map_err(Failure::Reported)?;
    if let Some((Some(schema), _)) = statement.purpose.table() {
        jail.check_schema(schema).map_err(Failure::Reported)?;
    }
    let mut prepared = jail.prepare(&sql).map_err(|error| explain(error, silence.is_over()))?;
    let n_values = statement.template.values.len();
    if prepared.parameter_count() != n_values {
        let message =
            format!("`query` has {} placeholders, `params` has {n_values} values", prepared.parameter_count());
        return Err(Failure::Refused(invalid(message)));
    }
    let declared = declared_types(jail, statement);
    for (nth, bound) in statement.template.values.iter().enumerate() {
        let value = declared.value_for(bound).map_err(|problem| {
            let what = match &bound.column {
                Some(column) => format!("the value of column `{}`", shown(column)),
                None => format!("value {}", nth + 1),
            };
            Failure::Refused(invalid(format!("{what} is {}: {problem}", shown(&bound.value.shown()))))
        })?;
        prepared.raw_bind_parameter(nth + 1, value).map_err(|error| explain(error, false))?;
    }
    let is_changing = !prepared.readonly();
    let decoder = Arc::new(Decoder::new(&prepared, statement.decimals, &declared));
    if statement.is_dry {
        let rows = Box::new(SqliteRows::new(decoder));
        runtime.block_on(producer.send(Batch { rows, last: true, n_changed: 0 }))?;
        return Ok(false);
    }
    *is_executing = true;
    let (mut to_skip, mut to_take) = statement.purpose.window();
    let mut rows = prepared.raw_query();
    let mut batch = SqliteRows::new(Arc::clone(&decoder));
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
            if is_changing {
                continue;
            }
            break;
        }
        to_take -= 1;
        batch.push(row).map_err(|error| explain(error, false))?;
        if batch.len() >= BATCH_ROWS || batch.bytes() >= BATCH_BYTES {
            let full = Box::new(std::mem::replace(&mut batch, SqliteRows::new(Arc::clone(&decoder))));
            silence.rest();
            runtime.block_on(producer.send(Batch { rows: full, last: false, n_changed: 0 }))?;
            silence.begin();
        }
    }
    runtime.block_on(producer.send(Batch { rows: Box::new(batch), last: true, n_changed: 0 }))?;
    Ok(is_changing)
}

/// The declared types of the columns of our own statement's table.
fn declared_types(jail: &Jail, statement: &Statement) -> Declared {
    let is_change = matches!(statement.purpose, Purpose::Change { .. });
    let has_column = |bound: &Bound| bound.column.is_some() && bound.r#type.is_none();
    if !is_change && !statement.template.values.iter().any(has_column) {
        return Declared::default();
    }
    let Some((schema, table)) = statement.purpose.table() else { return Declared::default() };
    let Ok(table) = Dialect::Sqlite.quoted_table(schema, table) else { return Declared::default() };
    // If this fails, so does the statement itself, with the better error.
    jail.prepare(&format!("SELECT * FROM {table}")).map(|statement| Declared::of(&statement)).unwrap_or_default()
}

/// Interrupts the statement when its reader is gone or SQLite computes for too long without a row; from outside, because SQLite
/// itself would look at the clock only after so many instructions, of which one may take long.
struct Silence {
    time: Duration,
    /// When the silence has been long enough; `None` while rows wait for their reader.
    until: watch::Sender<Option<Instant>>,
    /// Taken when the statement is over, because what runs on the connection next must not be interrupted.
    interrupt: Arc<Mutex<Option<InterruptHandle>>>,
}

impl Silence {
    fn new(jail: &Jail, producer: &Producer, time: Duration, runtime: &Handle) -> Self {
        let (until, told) = watch::channel(Some(Instant::now() + time));
        let interrupt = Arc::new(Mutex::new(Some(jail.interrupt_handle())));
        _ = runtime.spawn(watch_over(told, producer.when_abandoned(), Arc::clone(&interrupt)));
        Self { time, until, interrupt }
    }

    /// Counts anew from now.
    fn begin(&self) {
        self.until.send_replace(Some(Instant::now() + self.time));
    }

    /// Does not count until it begins again.
    fn rest(&self) {
        self.until.send_replace(None);
    }

    fn is_over(&self) -> bool {
        self.until.borrow().is_some_and(|until| Instant::now() >= until)
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        drop(self.interrupt.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Interrupts until the statement is over, once its time is or its reader is gone.
async fn watch_over(
    mut told: watch::Receiver<Option<Instant>>,
    abandoned: impl Future<Output = ()>,
    interrupt: Arc<Mutex<Option<InterruptHandle>>>,
) {
    let mut abandoned = std::pin::pin!(abandoned);
    loop {
        let until = *told.borrow_and_update();
        tokio::select! {
            () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => break,
            () = abandoned.as_mut() => break,
            changed = told.changed() => if changed.is_err() { return },
        }
    }
    loop {
        match &*interrupt.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(handle) => handle.interrupt(),
            None => return,
        }
        tokio::time::sleep(INTERRUPT_EVERY).await;
    }
}
