//! PostgreSQL.
//!
//! Owns: sessions, and running one statement in one. Never: writes SQL of the table form (see `select`).
//!
//! **Round trips.** A table read whose statement this session has prepared before costs one: bind, execute, sync. There
//! is no BEGIN and no SET: limits are settings of the session.
//!
//! **Session state.** A table read is our own SQL and changes no session state. After an author's statement, which may
//! have called a function that does anything, the session is reset with `DISCARD ALL` before anyone else gets it; in a
//! transaction that fails, and then the session is closed. It is closed without further ado after a statement that may
//! leave what no reset removes (see [`outlasts_reset`]). All this takes place after the rows have left.
//!
//! **Stopping.** A statement nobody waits for is stopped by closing its session: the server looks for that every half
//! second (`client_connection_check_interval`), and `statement_timeout` bounds it in any case.

mod decode;
mod encode;
mod error;
mod examine;
mod numeric;

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Either, Executor as _, Row as _, SqlSafeStr as _, SqlStr,
    Statement as _, ValueRef as _,
    postgres::{PgArguments, PgConnectOptions, PgConnection, PgRow, PgStatement, PgTypeInfo},
};
use tokio::time::{Instant, Sleep, timeout, timeout_at};

pub(crate) use crate::data::postgres::{decode::Decoder, examine::examine};
use crate::{
    data::{
        DataSettings,
        cursor::{self, BATCH_BYTES, BATCH_ROWS, Batch, Producer, Rows, timed_out},
        pool::Pool,
        select::{Form, Statement},
        url::PostgresUrl,
    },
    domain::{
        limits::SqlLimits,
        sql::{SqlError, SqlErrorCode},
    },
};

/// How long rows may wait in a batch that is not full, so that a slow statement's rows arrive as they come.
const BATCH_TIME: Duration = Duration::from_millis(20);
/// How long resetting a session may take; a slower one is closed.
const RESET_TIME: Duration = Duration::from_secs(5);
/// Prepared statements a session keeps. Table reads are few; each costs the server some kilobytes.
const PREPARED_MAX: usize = 100;
/// Rows that are read and thrown away after `limit`, to spare a session that is nearly done.
const DRAINED_ROWS_MAX: u64 = 1000;

/// The sessions of one database.
#[derive(Debug)]
pub(crate) struct PostgresPool {
    url: Url,
    sessions: Pool<Session>,
    acquire_time: Duration,
}

/// Keeps the URL out of `Debug`.
struct Url(PostgresUrl);

impl std::fmt::Debug for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PostgresUrl")
    }
}

/// A connection and the limit its server enforces.
#[derive(Debug)]
pub(crate) struct Session {
    connection: PgConnection,
    /// What `statement_timeout` was set to when the session began, to which a reset returns.
    first_timeout: Duration,
    timeout: Duration,
}

impl PostgresPool {
    pub(crate) fn new(url: PostgresUrl, settings: &DataSettings) -> Self {
        Self { url: Url(url), sessions: Pool::new(settings.pool_connections), acquire_time: settings.acquire_time }
    }

    pub(crate) fn database(&self) -> &str {
        &self.url.0.database
    }

    pub(crate) fn connections(&self) -> &Pool<Session> {
        &self.sessions
    }

    async fn connect(&self, limit: Duration) -> Result<Session, SqlError> {
        let connecting = async {
            match PgConnection::connect_with(&self.options(limit, true)).await {
                // Servers before 14 do not know how to look for a lost client.
                Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42704") => {
                    PgConnection::connect_with(&self.options(limit, false)).await
                }
                result => result,
            }
        };
        match timeout(self.acquire_time, connecting).await {
            Ok(Ok(connection)) => Ok(Session { connection, first_timeout: limit, timeout: limit }),
            Ok(Err(error)) => Err(error::of_connecting(&error)),
            Err(_) => Err(SqlError::new(SqlErrorCode::Unavailable, "the database does not answer")),
        }
    }

    fn options(&self, limit: Duration, check_client: bool) -> PgConnectOptions {
        let PostgresUrl { host, port, user, password, database, ssl_mode, ssl_root_cert } = &self.url.0;
        // Every part is set here, so that PGPASSWORD and its like in the host's environment do not reach tenants.
        let mut options = PgConnectOptions::new_without_pgpass()
            .host(host)
            .port(*port)
            .username(user)
            .password(password.as_deref().map_or("", String::as_str))
            .database(database)
            .ssl_mode((*ssl_mode).into())
            .application_name("pqhost")
            .statement_cache_capacity(PREPARED_MAX)
            .options([("statement_timeout", milliseconds(limit))])
            // A tenant's SQL does not belong into the host's log.
            .disable_statement_logging();
        if let Some(certificate) = ssl_root_cert {
            options = options.ssl_root_cert(certificate);
        }
        if check_client {
            options = options.options([("client_connection_check_interval", 500)]);
        }
        options
    }
}

/// What the server is told: the longest any reader may take, because a slow caller of a stream holds up its statement.
/// The shorter limits are enforced here.
fn server_limit(limits: &SqlLimits) -> Duration {
    limits.statement_time + limits.stream_time
}

fn milliseconds(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX).max(1)
}

/// Why a statement did not come to its end.
enum Failure {
    Database(sqlx::Error),
    /// Our own refusal, before or while reading.
    Refused(SqlError),
    TimedOut,
    Abandoned,
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<cursor::Abandoned> for Failure {
    fn from(_: cursor::Abandoned) -> Self {
        Self::Abandoned
    }
}

/// Runs a statement to its end and sends its rows.
pub(crate) async fn run(pool: Arc<PostgresPool>, statement: Statement, mut producer: Producer) {
    let limits = *producer.limits();
    let _permit = match pool.sessions.permit(pool.acquire_time).await {
        Ok(permit) => permit,
        Err(error) => return producer.fail(error).await,
    };
    let mut session = pool.sessions.take();
    let mut may_retry = true;
    loop {
        let reused = session.is_some();
        let mut current = match session.take() {
            Some(session) => session,
            None => match pool.connect(server_limit(&limits)).await {
                Ok(session) => session,
                Err(error) => return producer.fail(error).await,
            },
        };
        let deadline = Instant::now() + limits.statement_time;
        let mut executing = false;
        let result = attempt(&mut current, &statement, &mut producer, deadline, &mut executing).await;
        let Err(Failure::Database(error)) = &result else {
            return finish(&pool, current, &statement, result, producer).await;
        };
        let is_table = matches!(statement.form, Form::Table { .. });
        let may_run_again = may_retry && !producer.has_begun() && (is_table || !executing);
        if may_run_again && reused && error::is_lost(error) {
            // The server was restarted or closed an idle session: the others are gone too.
            drop(pool.sessions.take_idle_for(Duration::ZERO));
        } else if may_run_again && is_table && error::is_stale_plan(error) {
            // The table has other columns than when this session prepared the statement.
            if current.connection.clear_cached_statements().await.is_ok() {
                session = Some(current);
            }
        } else {
            return finish(&pool, current, &statement, result, producer).await;
        }
        may_retry = false;
    }
}

/// Reports the result and keeps the session if it may be used again.
async fn finish(
    pool: &PostgresPool,
    mut session: Session,
    statement: &Statement,
    result: Result<(), Failure>,
    mut producer: Producer,
) {
    let reusable = match result {
        Ok(()) => true,
        Err(Failure::Abandoned) => false,
        Err(Failure::TimedOut) => {
            producer.fail(timed_out(producer.limits().statement_time)).await;
            false
        }
        Err(Failure::Refused(error)) => {
            producer.fail(error).await;
            true
        }
        Err(Failure::Database(error)) => {
            let reusable = matches!(error, sqlx::Error::Database(_)) && !error::is_lost(&error);
            let report = error::of_statement(&mut session.connection, &error, &statement.form);
            let report = timeout(RESET_TIME, report).await;
            producer.fail(report.unwrap_or_else(|_| timed_out(RESET_TIME))).await;
            reusable
        }
    };
    drop(producer);
    if !reusable {
        return;
    }
    if matches!(statement.form, Form::Query { .. }) {
        if outlasts_reset(&statement.template.render(|_| "NULL".to_owned())) {
            return;
        }
        match timeout(RESET_TIME, reset(&mut session)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return, // it stays unclean, so it is closed
        }
    }
    pool.sessions.put(session);
}

/// Whether SQL may leave something in its session that `DISCARD ALL` does not remove: names of settings like `my.thing`,
/// the seed of `random()`, loaded libraries. Says yes for every statement that is none of the common ones.
fn outlasts_reset(sql: &str) -> bool {
    const COMMON: [&str; 10] =
        ["select", "with", "values", "table", "insert", "update", "delete", "merge", "explain", "show"];
    // `U&"..."` can spell any name.
    const SUSPECT: [&str; 3] = ["set_config", "setseed", "u&"];

    let sql = sql.to_ascii_lowercase();
    let first = sql.trim_start_matches(|c: char| c == '(' || c.is_whitespace());
    let is_common = COMMON.iter().any(|word| {
        first.strip_prefix(word).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    });
    !is_common || SUSPECT.iter().any(|suspect| sql.contains(suspect))
}

/// Makes the session as good as new. Fails inside of a transaction.
async fn reset(session: &mut Session) -> Result<(), sqlx::Error> {
    session.connection.clear_cached_statements().await?;
    sqlx::raw_sql("DISCARD ALL").execute(&mut session.connection).await?;
    session.timeout = session.first_timeout;
    Ok(())
}

async fn attempt(
    session: &mut Session,
    statement: &Statement,
    producer: &mut Producer,
    deadline: Instant,
    executing: &mut bool,
) -> Result<(), Failure> {
    let limit = server_limit(producer.limits());
    let preparing = async {
        if session.timeout != limit {
            let sql = format!("SET statement_timeout = {}", milliseconds(limit));
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut session.connection).await?;
            session.timeout = limit;
        }
        prepare(&mut session.connection, statement).await
    };
    let prepared = tokio::select! {
        prepared = timeout_at(deadline, preparing) => prepared.map_err(|_| Failure::TimedOut)??,
        () = producer.abandoned() => return Err(Failure::Abandoned),
    };
    let (prepared, arguments) = prepared;
    let decoder = Decoder::new(prepared.columns(), statement.decimals).map_err(Failure::Refused)?;
    producer.describe(cursor::Decoder::Postgres(decoder));
    *executing = true;
    pump(&mut session.connection, &prepared, arguments, &statement.form, producer, deadline).await
}

/// Has the server parse the statement, which tells the types of its values, and converts those.
///
/// The server infers the type of each placeholder from where it stands. A JSON value is sent in the binary form of that
/// type where that is trivial (numbers, booleans, text, JSON). For every other type the placeholder becomes
/// `($1::text)::type` and the value is sent as text, so that the server itself reads dates, decimals or intervals as it
/// does in a literal; arrays go the same way. That costs one more round trip the first time.
async fn prepare(connection: &mut PgConnection, statement: &Statement) -> Result<(PgStatement, PgArguments), Failure> {
    let template = &statement.template;
    let sql = template.render(|number| format!("${}", number + 1));
    let prepared = connection.prepare_with(sql_text(sql), &[]).await?;
    let types = parameter_types(&prepared);
    if types.len() != template.values.len() {
        let message =
            format!("`query` has {} placeholders, `params` has {} values", types.len(), template.values.len());
        return Err(Failure::Refused(crate::data::select::invalid(message)));
    }
    let casts: Vec<Option<String>> = types.iter().map(encode::cast).collect();
    let arguments = encode::arguments(&template.values, types).map_err(Failure::Refused)?;
    if casts.iter().all(Option::is_none) {
        return Ok((prepared, arguments));
    }
    let sql = template.render(|number| match &casts[number] {
        Some(cast) => format!("(${}::text)::{cast}", number + 1),
        None => format!("${}", number + 1),
    });
    Ok((connection.prepare_with(sql_text(sql), &[]).await?, arguments))
}

fn sql_text(sql: String) -> SqlStr {
    // Ours from `select`, or the author's own: what it may do is a matter of the role it runs as.
    AssertSqlSafe(sql).into_sql_str()
}

fn parameter_types(statement: &PgStatement) -> &[PgTypeInfo] {
    match statement.parameters() {
        Some(Either::Left(types)) => types,
        Some(Either::Right(_)) | None => &[],
    }
}

/// Executes and sends the rows in batches.
async fn pump(
    connection: &mut PgConnection,
    prepared: &PgStatement,
    arguments: PgArguments,
    form: &Form,
    producer: &mut Producer,
    deadline: Instant,
) -> Result<(), Failure> {
    let statement_time = producer.limits().statement_time;
    let (mut to_skip, mut to_take) = match form {
        Form::Table { .. } => (0, u64::MAX),
        Form::Query { offset, limit } => (*offset, limit.unwrap_or(u64::MAX)),
    };
    let mut to_drain = DRAINED_ROWS_MAX;
    let mut rows = connection.fetch_many(prepared.query_with(arguments));
    let mut batch = Filling::default();
    // How long the server may be silent; set anew when rows leave.
    let mut silence = Box::pin(tokio::time::sleep_until(deadline));
    loop {
        let flush_at = batch.flush_at;
        let row = tokio::select! {
            biased;
            row = rows.next() => row,
            () = batch.wait(), if flush_at.is_some() => {
                producer.send(batch.take(false)).await?;
                silence.as_mut().reset(Instant::now() + statement_time);
                continue;
            }
            () = silence.as_mut() => return Err(Failure::TimedOut),
            () = producer.abandoned() => return Err(Failure::Abandoned),
        };
        match row.transpose()? {
            None => break,
            Some(Either::Left(_)) => {} // a count of changed rows
            Some(Either::Right(_)) if to_skip > 0 => to_skip -= 1,
            Some(Either::Right(row)) if to_take > 0 => {
                to_take -= 1;
                batch.push(row);
                if batch.is_full() {
                    producer.send(batch.take(false)).await?;
                    silence.as_mut().reset(Instant::now() + statement_time);
                }
            }
            Some(Either::Right(_)) if to_drain > 0 => to_drain -= 1,
            Some(Either::Right(_)) => {
                producer.send(batch.take(true)).await?;
                return Err(Failure::Abandoned);
            }
        }
    }
    producer.send(batch.take(true)).await?;
    Ok(())
}

/// A batch that is being filled.
#[derive(Default)]
struct Filling {
    rows: Vec<PgRow>,
    bytes: usize,
    /// When it is to be sent even if it is not full. Set by its first row.
    flush_at: Option<Instant>,
    timer: Option<std::pin::Pin<Box<Sleep>>>,
}

impl Filling {
    fn push(&mut self, row: PgRow) {
        let values = (0..row.len()).filter_map(|column| row.try_get_raw(column).ok().filter(|value| !value.is_null()));
        self.bytes += values.map(|value| value.as_bytes().map_or(0, <[u8]>::len)).sum::<usize>();
        self.rows.push(row);
        if self.flush_at.is_none() {
            self.flush_at = Some(Instant::now() + BATCH_TIME);
        }
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    /// Resolves when the batch has waited long enough. The timer is made when it is first needed: never, as long as
    /// the server is faster than we are.
    async fn wait(&mut self) {
        let flush_at = self.flush_at.unwrap_or_else(Instant::now);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(flush_at)));
        if timer.deadline() != flush_at {
            timer.as_mut().reset(flush_at);
        }
        timer.as_mut().await;
    }

    fn take(&mut self, last: bool) -> Batch {
        self.bytes = 0;
        self.flush_at = None;
        Batch { rows: Rows::Postgres(std::mem::take(&mut self.rows)), last }
    }
}
