//! Connections to the control database, whichever it is.
//!
//! Owns: what differs between SQLite and PostgreSQL outside of migrations: how connections are opened and set up, how
//! transactions begin. Never: statements about tables.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, TryFutureExt as _, future::BoxFuture, stream::BoxStream};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use sqlx::{
    Any, AnyConnection, AnyPool, AssertSqlSafe, ConnectOptions as _, Describe, Either, Execute, Executor, SqlStr,
    any::{AnyConnectOptions, AnyPoolOptions, AnyQueryResult, AnyRow, AnyStatement, AnyTypeInfo},
    pool::PoolConnection,
};

use crate::{
    db::{BUSY_TIMEOUT, DbError, Tx, error::Unreachable},
    domain::control_database::ControlDatabase,
};

/// What a pool's connections are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Bringing the schema up to date.
    Migrating,
    /// Reading what invocations need, which is little: the host caches it. The database refuses changes.
    Reading,
    /// Reading what the control API shows: long lists, searches of the log. The database refuses changes.
    Showing,
    /// Changes, durable when they are acknowledged.
    Writing,
    /// The log, which does not wait for the disk: it may lose its last moments in a power failure.
    Logging,
}

/// Connections for [`Purpose::Showing`].
pub(super) const SHOWING_MAX: u32 = 4;

/// How long to wait for a connection to a server.
///
/// Longer than a restart of PostgreSQL takes, so that this is not noticed; shorter than callers wait.
const SERVER_TIMEOUT: Duration = Duration::from_secs(5);

/// Size to which SQLite's write-ahead log is cut after a burst, in bytes.
const WAL_BYTES: u32 = 64 << 20;

/// Opens connections.
#[derive(Debug)]
pub(super) struct Connector {
    options: AnyConnectOptions,
    /// How messages name the server; absent for a file.
    server: Option<Arc<str>>,
}

impl Connector {
    pub(super) fn new(database: &ControlDatabase) -> Result<Self, DbError> {
        sqlx::any::install_default_drivers();
        let (url, server) = match database {
            ControlDatabase::File(path) => {
                let path = percent_encode(path.as_os_str().as_encoded_bytes(), NON_ALPHANUMERIC);
                (format!("sqlite://{path}"), None)
            }
            ControlDatabase::Server(server) => (server.expose_url().to_owned(), Some(server.to_string().into())),
        };
        let options = AnyConnectOptions::from_str(&url).map_err(|cause| DbError::open(database, cause))?;
        Ok(Self { options: options.disable_statement_logging(), server })
    }

    /// A connection that belongs to no pool: whatever is wrong is told at once.
    pub(super) async fn connect(&self, purpose: Purpose) -> Result<AnyConnection, sqlx::Error> {
        let connecting = async {
            let mut connection = self.options.connect().await?;
            sqlx::raw_sql(AssertSqlSafe(self.setup(purpose))).execute(&mut connection).await?;
            Ok(connection)
        };
        let connected = match self.server {
            Some(_) => tokio::time::timeout(SERVER_TIMEOUT, connecting).await.unwrap_or(Err(sqlx::Error::PoolTimedOut)),
            None => connecting.await,
        };
        connected.map_err(|error| named(self.server.as_ref(), error))
    }

    /// Connections that are opened when they are needed.
    pub(super) fn pool(&self, purpose: Purpose) -> Pool {
        let setup = self.setup(purpose);
        let options = AnyPoolOptions::new().after_connect(move |connection, _| {
            let setup = sqlx::raw_sql(AssertSqlSafe(setup.clone()));
            async move { setup.execute(connection).await.map(|_| ()) }.boxed()
        });
        let options = match self.server {
            // A few, so that hosts and commands stay below a server's usual 100. A connection may break at any time.
            Some(_) => options
                .max_connections(match purpose {
                    Purpose::Showing => SHOWING_MAX,
                    Purpose::Reading | Purpose::Writing => 3,
                    Purpose::Migrating | Purpose::Logging => 1,
                })
                .acquire_timeout(SERVER_TIMEOUT),
            // Each connection costs a thread. Writers of this process queue for one in order, instead of polling for the
            // file's lock.
            None => options
                .max_connections(match purpose {
                    Purpose::Showing => SHOWING_MAX,
                    Purpose::Reading => 2,
                    Purpose::Migrating | Purpose::Writing | Purpose::Logging => 1,
                })
                .acquire_timeout(BUSY_TIMEOUT)
                .test_before_acquire(false)
                .idle_timeout(None)
                .max_lifetime(None),
        };
        Pool { pool: options.connect_lazy_with(self.options.clone()), server: self.server.clone() }
    }

    /// What is said on each new connection.
    fn setup(&self, purpose: Purpose) -> String {
        let wait_ms = BUSY_TIMEOUT.as_millis();
        if self.server.is_none() {
            let pragma = match purpose {
                Purpose::Migrating => "journal_mode = WAL",
                Purpose::Reading | Purpose::Showing => "query_only = ON",
                Purpose::Writing => "synchronous = FULL",
                Purpose::Logging => "synchronous = NORMAL",
            };
            return format!(
                "PRAGMA busy_timeout = {wait_ms}; PRAGMA journal_size_limit = {WAL_BYTES}; PRAGMA {pragma}"
            );
        }
        let characteristics = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED";
        let purpose = match purpose {
            Purpose::Migrating => "SET client_min_messages = warning; SET lock_timeout = '60s'".to_owned(),
            Purpose::Reading | Purpose::Showing => format!("{characteristics}, READ ONLY"),
            Purpose::Writing => format!("{characteristics}, READ WRITE; SET synchronous_commit = on"),
            Purpose::Logging => format!("{characteristics}, READ WRITE; SET synchronous_commit = off"),
        };
        // The last one frees what a host holds that was cut off from the server.
        format!("SET lock_timeout = {wait_ms}; SET idle_in_transaction_session_timeout = '60s'; {purpose}")
    }
}

/// Creates the file and takes the lock that one process at a time holds while it opens the database.
pub(super) fn prepare_file(path: &Path) -> io::Result<File> {
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let open = |path: &Path| OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    let lock = open(&PathBuf::from(lock_path))?;
    lock.lock()?;
    open(path)?;
    Ok(lock)
}

/// Connections for one purpose. Errors that come from them name the server.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    pool: AnyPool,
    server: Option<Arc<str>>,
}

impl Pool {
    /// Whether the database is PostgreSQL.
    pub(super) fn is_server(&self) -> bool {
        self.server.is_some()
    }

    /// Begins a transaction that changes something; on SQLite it waits for the write lock right away.
    pub(super) async fn begin(&self) -> Result<Tx, sqlx::Error> {
        let begin = if self.is_server() { "BEGIN" } else { "BEGIN IMMEDIATE" };
        self.pool.begin_with(begin).await.map_err(|error| named(self.server.as_ref(), error))
    }

    /// Begins a transaction in which everything is read as it was at its first statement.
    pub(super) async fn begin_snapshot(&self) -> Result<Tx, sqlx::Error> {
        let begin = if self.is_server() { "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" } else { "BEGIN" };
        self.pool.begin_with(begin).await.map_err(|error| named(self.server.as_ref(), error))
    }

    /// One connection, for several statements.
    pub(super) async fn acquire(&self) -> Result<PoolConnection<Any>, sqlx::Error> {
        self.pool.acquire().await.map_err(|error| named(self.server.as_ref(), error))
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

impl<'p> Executor<'p> for &'_ Pool {
    type Database = Any;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<AnyQueryResult, AnyRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Any>,
    {
        let server = self.server.clone();
        self.pool.fetch_many(query).map(move |step| step.map_err(|error| named(server.as_ref(), error))).boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<AnyRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Any>,
    {
        let server = self.server.clone();
        self.pool.fetch_optional(query).map_err(move |error| named(server.as_ref(), error)).boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [AnyTypeInfo],
    ) -> BoxFuture<'e, Result<AnyStatement, sqlx::Error>>
    where
        'p: 'e,
    {
        self.pool.prepare_with(sql, parameters)
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Any>, sqlx::Error>>
    where
        'p: 'e,
    {
        self.pool.describe(sql)
    }
}

/// The error, with the server's name if it says that the server cannot be reached.
fn named(server: Option<&Arc<str>>, error: sqlx::Error) -> sqlx::Error {
    let Some(server) = server else { return error };
    let cause = match error {
        sqlx::Error::PoolTimedOut => {
            format!("no connection within {SERVER_TIMEOUT:?}: it is down, or all connections are taken")
        }
        error => match Unreachable::cause(&error) {
            Some(cause) => cause,
            None => return error,
        },
    };
    sqlx::Error::AnyDriverError(Box::new(Unreachable { server: Some(Arc::clone(server)), cause }))
}
