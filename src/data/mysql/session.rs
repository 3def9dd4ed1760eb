//! Sessions of MySQL and MariaDB.
//!
//! Owns: connecting, what every session is set to, and stopping a session from outside.

use std::{fmt, time::Duration};

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _,
    mysql::{MySqlConnectOptions, MySqlConnection},
};
use tokio::time::timeout;
use tracing::warn;

use crate::{
    data::{
        dialect::{Dialect, shown},
        failure::Failure,
        mysql::error,
        url::ServerUrl,
    },
    domain::sql::{SqlError, SqlErrorCode},
};

/// Prepared statements a session keeps. A server keeps 16,382 of all its clients by default, so few: table reads and
/// the queries of a handful of scripts.
const PREPARED_MAX: usize = 32;

/// How to reach one database. Shows nothing of its URL.
pub(super) struct Connector {
    url: ServerUrl,
    read_only: bool,
    patience: Duration,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

/// A connection, and what its server calls it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(super) connection: MySqlConnection,
    pub(super) is_mariadb: bool,
    /// Set if it knows INSERT ... RETURNING.
    pub(super) gives_rows_back: bool,
    id: u64,
    /// Set if names without a schema are looked up in another one than the connection's own.
    looks_elsewhere: bool,
    /// The limit that the server enforces on statements.
    limit: Duration,
}

impl Connector {
    pub(super) fn new(url: ServerUrl, read_only: bool, patience: Duration) -> Self {
        Self { url, read_only, patience }
    }

    pub(super) fn database(&self) -> &str {
        &self.url.database
    }

    /// A new session in UTC, with UTF-8, committing by itself, and with a limit on its statements.
    pub(super) async fn connect(&self, limit: Duration) -> Result<Session, SqlError> {
        let connecting = async {
            let mut connection = self.options().connect().await?;
            let row = sqlx::raw_sql(AssertSqlSafe(beginning(limit, self.read_only))).fetch_one(&mut connection).await?;
            let version = row.try_get::<String, _>(1)?;
            let is_mariadb = version.contains("MariaDB");
            let gives_rows_back = is_mariadb && is_at_least(&version, 10, 5);
            Ok(Session { connection, is_mariadb, gives_rows_back, id: row.try_get(0)?, looks_elsewhere: false, limit })
        };
        match timeout(self.patience, connecting).await {
            Ok(Ok(session)) => Ok(session),
            Ok(Err(error)) => Err(error::of_connecting(&error)),
            Err(_) => Err(SqlError::new(SqlErrorCode::Unavailable, "the database does not answer")),
        }
    }

    /// Ends a session, whatever it is doing.
    pub(super) async fn kill(&self, session: &Session) {
        let killing = async {
            let mut connection = self.options().connect().await?;
            let sql = format!("KILL {}", session.id);
            match sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await {
                Err(error) if !error::is_unknown_session(&error) => Err(error),
                Ok(_) | Err(_) => connection.close().await,
            }
        };
        if !matches!(timeout(self.patience, killing).await, Ok(Ok(()))) {
            // Its message could hold parts of the URL.
            warn!("a MySQL statement that nobody waits for could not be stopped; the server's own limit ends it");
        }
    }

    pub(super) fn options(&self) -> MySqlConnectOptions {
        let ServerUrl { host, port, user, password, database, ssl_mode, ssl_root_cert } = &self.url;
        let mut options = MySqlConnectOptions::new()
            .host(host)
            .port(*port)
            .username(user)
            .database(database)
            .ssl_mode((*ssl_mode).into())
            .statement_cache_capacity(PREPARED_MAX)
            // What sqlx would set of its own accord. `beginning` sets what we want, and the dialect stays the server's.
            .pipes_as_concat(false)
            .no_engine_substitution(false)
            .timezone(None)
            .set_names(false)
            // A tenant's SQL does not belong into the host's log.
            .disable_statement_logging();
        if let Some(password) = password {
            options = options.password(password);
        }
        if host.starts_with('/') {
            options = options.socket(host);
        }
        if let Some(certificate) = ssl_root_cert {
            options = options.ssl_ca(certificate);
        }
        options
    }
}

impl Session {
    /// Has names without a schema looked up in `schema`, or else in `own`, the connection's.
    pub(super) async fn look_in(&mut self, schema: Option<&str>, own: &str) -> Result<(), Failure> {
        if schema.is_none() && !self.looks_elsewhere {
            return Ok(());
        }
        self.connection.clear_cached_statements().await?; // they keep the schema in which they were prepared
        self.looks_elsewhere = true;
        self.use_schema(schema.unwrap_or(own)).await?;
        self.looks_elsewhere = schema.is_some();
        Ok(())
    }

    async fn use_schema(&mut self, schema: &str) -> Result<(), Failure> {
        let sql = format!("USE {}", Dialect::MySql.quoted("schema", schema).map_err(Failure::Refused)?);
        match sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection).await {
            Err(error) if error::is_unknown_schema(&error) => {
                let message = format!("unknown schema `{}`", shown(schema));
                Err(Failure::Refused(SqlError::new(SqlErrorCode::UnknownSchema, message)))
            }
            result => Ok(result.map(|_| ())?),
        }
    }

    /// Sets how long a statement may run before the server stops it.
    pub(super) async fn limit_statements(&mut self, limit: Duration) -> Result<(), sqlx::Error> {
        if self.limit != limit {
            let sql = format!("SET @@session.autocommit = 1{}", limits(limit));
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection).await?;
            self.limit = limit;
        }
        Ok(())
    }
}

/// Tells whether a version such as `10.11.19-MariaDB` is this one or a later one.
fn is_at_least(version: &str, major: u32, minor: u32) -> bool {
    let mut numbers = version.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

/// What a session begins with, in one round trip; gives its id and the server's version.
fn beginning(limit: Duration, read_only: bool) -> String {
    let limits = limits(limit);
    let read_only = if read_only { "SET SESSION TRANSACTION READ ONLY; " } else { "" };
    // A server that is not strict would cut and convert what does not fit, without a word.
    format!(
        "SET NAMES utf8mb4, time_zone = '+00:00', autocommit = 1, \
         sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES'){limits}; {read_only}SELECT CONNECTION_ID(), VERSION()"
    )
}

/// Assignments of the server's limit on statements. Each of the two servers reads the comment that is meant for it:
/// MySQL knows no `/*M!`, and MariaDB skips versions of MySQL from 5.7 to 5.7.99.
fn limits(limit: Duration) -> String {
    let milliseconds = limit.as_millis().clamp(1, u32::MAX.into());
    let seconds = limit.as_secs_f64().max(0.001);
    format!(" /*M!100101 , max_statement_time = {seconds:.3} */ /*!50708 , max_execution_time = {milliseconds} */")
}
