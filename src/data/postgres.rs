//! PostgreSQL.
//!
//! Owns: sessions, and running one statement in one. Never: writes SQL of the table form (see `select`).
//!
//! **Round trips.** A table read whose statement this session has prepared before costs one: bind, execute, sync. There
//! is no BEGIN and no SET: limits are settings of the session.
//!
//! **Session state.** A table read is our own SQL and changes no session state. Our own changes leave the last values of
//! sequences, which only an author's statement could ask for: they are removed before the next one of those, and not
//! after each change. After an author's statement, which may
//! have called a function that does anything, the session is reset with `DISCARD ALL` before anyone else gets it; in a
//! transaction that fails, and then the session is closed. It is closed without further ado after a statement that may
//! leave what no reset removes (see [`outlasts_reset`]). All this takes place after the rows have left.
//!
//! **Stopping.** A statement nobody waits for is stopped by closing its session: the server looks for that every half
//! second (`client_connection_check_interval`), and `statement_timeout` bounds it in any case.

mod codec;
mod decode;
mod encode;
mod error;
mod examine;
mod geometric;
mod numeric;
mod text;
mod transaction;

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Either, Executor as _, Row as _, SqlSafeStr as _, SqlStr,
    Statement as _, ValueRef as _,
    postgres::{PgArguments, PgConnectOptions, PgConnection, PgRow, PgStatement, PgTypeInfo},
};
use tokio::{
    runtime::Handle,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;

pub(crate) use crate::data::postgres::{decode::Decoder, examine::examine, transaction::hold};
use crate::{
    data::{
        DataSettings,
        cursor::{self, Batch, Producer, Rows, timed_out},
        filling::Filling,
        pool::Pool,
        select::{Form, Statement},
        server::{DRAINED_ROWS_MAX, Failure, server_limit},
        url::ServerUrl,
    },
    domain::sql::{SqlError, SqlErrorCode},
};

/// How long resetting a session may take; a slower one is closed.
const RESET_TIME: Duration = Duration::from_secs(5);
/// Prepared statements a session keeps. Table reads are few; each costs the server some kilobytes.
const PREPARED_MAX: usize = 100;
/// Values of a change whose prepared statement a session keeps: more are not likely to come again, and take memory.
const KEPT_VALUES_MAX: usize = 500;

/// The sessions of one database.
#[derive(Debug)]
pub(crate) struct PostgresPool {
    url: Url,
    /// Whether transactions may only read.
    read_only: bool,
    sessions: Pool<Session>,
    acquire_time: Duration,
    /// Serves the sockets. Statements may run elsewhere: see [`run`].
    runtime: Handle,
}

/// Keeps the URL out of `Debug`.
struct Url(ServerUrl);

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
    /// Whether `lastval()` and `currval()` may tell what an earlier use of the session made of sequences.
    recalls_sequences: bool,
}

impl PostgresPool {
    pub(crate) fn new(url: ServerUrl, read_only: bool, settings: &DataSettings, runtime: Handle) -> Self {
        Self {
            url: Url(url),
            read_only,
            sessions: Pool::new(settings.pool_connections),
            acquire_time: settings.acquire_time,
            runtime,
        }
    }

    pub(crate) fn database(&self) -> &str {
        &self.url.0.database
    }

    pub(crate) fn connections(&self) -> &Pool<Session> {
        &self.sessions
    }

    async fn connect(&self, limit: Duration) -> Result<Session, SqlError> {
        let (options, for_older_servers) = (self.options(limit, true), self.options(limit, false));
        let connecting = async move {
            match PgConnection::connect_with(&options).await {
                // Servers before 14 do not know how to look for a lost client.
                Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42704") => {
                    PgConnection::connect_with(&for_older_servers).await
                }
                result => result,
            }
        };
        let connecting = AbortOnDropHandle::new(self.runtime.spawn(connecting));
        match timeout(self.acquire_time, connecting).await {
            Ok(Ok(Ok(connection))) => {
                Ok(Session { connection, first_timeout: limit, timeout: limit, recalls_sequences: false })
            }
            Ok(Ok(Err(error))) => Err(error::of_connecting(&error)),
            Ok(Err(_)) | Err(_) => Err(SqlError::new(SqlErrorCode::Unavailable, "the database does not answer")),
        }
    }

    fn options(&self, limit: Duration, check_client: bool) -> PgConnectOptions {
        let ServerUrl { host, port, user, password, database, ssl_mode, ssl_root_cert } = &self.url.0;
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
        if self.read_only {
            options = options.options([("default_transaction_read_only", "on")]);
        }
        if check_client {
            options = options.options([("client_connection_check_interval", 500)]);
        }
        options
    }
}

fn milliseconds(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX).max(1)
}

/// Runs a statement to its end and sends its rows.
///
/// May run on any runtime that has timers. Dropping it closes the session, which stops the statement.
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
        let is_ours = !matches!(statement.form, Form::Query { .. });
        let may_run_again = may_retry && !producer.has_begun() && (is_table || !executing);
        if may_run_again && reused && error::is_lost(error) {
            // The server was restarted or closed an idle session: the others are gone too.
            drop(pool.sessions.take_idle_for(Duration::ZERO));
        } else if may_retry && is_ours && !producer.has_begun() && error::is_stale_plan(error) {
            // The table has other columns than when this session prepared the statement, which was not run.
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
            let report = error::of_statement(&mut session.connection, &error, &statement.form, statement.told);
            let report = timeout(RESET_TIME, report).await;
            producer.fail(report.unwrap_or_else(|_| timed_out(RESET_TIME))).await;
            reusable
        }
    };
    drop(producer);
    if !reusable {
        return;
    }
    let cleaned = match statement.form {
        Form::Table { .. } => Ok(Ok(())),
        Form::Change { .. } if statement.template.values.len() <= KEPT_VALUES_MAX => {
            session.recalls_sequences = true;
            Ok(Ok(()))
        }
        Form::Query { .. } if outlasts_reset(&statement.template.render(|_| "NULL".to_owned())) => return,
        Form::Change { .. } | Form::Query { .. } => timeout(RESET_TIME, reset(&mut session)).await,
    };
    match cleaned {
        Ok(Ok(())) => {}
        Ok(Err(_)) | Err(_) => return, // it stays unclean, so it is closed
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

/// Removes what our own changes leave in a session.
async fn forget_sequences(session: &mut Session) -> Result<(), sqlx::Error> {
    if session.recalls_sequences {
        sqlx::raw_sql("DISCARD SEQUENCES").execute(&mut session.connection).await?;
        session.recalls_sequences = false;
    }
    Ok(())
}

/// Makes the session as good as new. Fails inside of a transaction.
async fn reset(session: &mut Session) -> Result<(), sqlx::Error> {
    session.connection.clear_cached_statements().await?;
    sqlx::raw_sql("DISCARD ALL").execute(&mut session.connection).await?;
    session.timeout = session.first_timeout;
    session.recalls_sequences = false;
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
        if matches!(statement.form, Form::Query { .. }) {
            forget_sequences(session).await?;
        }
        if session.timeout != limit {
            let sql = format!("SET statement_timeout = {}", milliseconds(limit));
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut session.connection).await?;
            session.timeout = limit;
        }
        let (prepared, arguments) = prepare(&mut session.connection, statement).await?;
        let has_money = Decoder::has_money(prepared.columns());
        let money_digits = if has_money { money_digits(&mut session.connection).await? } else { 0 };
        Ok::<_, Failure>((prepared, arguments, money_digits))
    };
    let prepared = tokio::select! {
        prepared = timeout_at(deadline, preparing) => prepared.map_err(|_| Failure::TimedOut)??,
        () = producer.abandoned() => return Err(Failure::Abandoned),
    };
    let (prepared, arguments, money_digits) = prepared;
    let decoder = Decoder::new(prepared.columns(), statement.decimals, money_digits, statement.shape)
        .map_err(Failure::Refused)?;
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
    let arguments = encode::arguments(statement, types).map_err(Failure::Refused)?;
    if casts.iter().all(Option::is_none) {
        return Ok((prepared, arguments));
    }
    let sql = template.render(|number| match &casts[number] {
        Some(cast) => format!("(${}::text)::{cast}", number + 1),
        None => format!("${}", number + 1),
    });
    Ok((connection.prepare_with(sql_text(sql), &[]).await?, arguments))
}

/// How many digits of `money` stand after the point: 100 cents are a dollar.
async fn money_digits(connection: &mut PgConnection) -> Result<u32, sqlx::Error> {
    let row = sqlx::query("SELECT 1::money").fetch_one(connection).await?;
    let one = row.try_get_raw(0)?.as_bytes().ok().and_then(|bytes| bytes.try_into().ok()).map(i64::from_be_bytes);
    Ok(one.and_then(|one| one.checked_ilog10()).unwrap_or(0))
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
        Form::Table { .. } | Form::Change { .. } => (0, u64::MAX),
        Form::Query { offset, limit } => (*offset, limit.unwrap_or(u64::MAX)),
    };
    let mut to_drain = DRAINED_ROWS_MAX;
    let mut rows = connection.fetch_many(prepared.query_with(arguments));
    let mut batch = Filling::new();
    // How long the server may be silent; set anew when rows leave.
    let mut silence = Box::pin(tokio::time::sleep_until(deadline));
    loop {
        let waits = !batch.is_empty();
        let row = tokio::select! {
            biased;
            row = rows.next() => row,
            () = batch.wait(), if waits => {
                producer.send(rows_of(&mut batch, false)).await?;
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
                let bytes = size_of_values(&row);
                batch.push(row, bytes);
                if batch.is_full() {
                    producer.send(rows_of(&mut batch, false)).await?;
                    silence.as_mut().reset(Instant::now() + statement_time);
                }
            }
            Some(Either::Right(_)) if to_drain > 0 => to_drain -= 1,
            Some(Either::Right(_)) => {
                producer.send(rows_of(&mut batch, true)).await?;
                return Err(Failure::Abandoned);
            }
        }
    }
    producer.send(rows_of(&mut batch, true)).await?;
    Ok(())
}

fn rows_of(filling: &mut Filling<PgRow>, last: bool) -> Batch {
    Batch { rows: Rows::Postgres(filling.take()), last }
}

fn size_of_values(row: &PgRow) -> usize {
    let values = (0..row.len()).filter_map(|column| row.try_get_raw(column).ok().filter(|value| !value.is_null()));
    values.map(|value| value.as_bytes().map_or(0, <[u8]>::len)).sum()
}
