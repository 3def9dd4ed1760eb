//! Sessions, and running one statement in one.

use std::{sync::Arc, time::Duration};

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, Row as _, SqlSafeStr as _, SqlStr,
    Statement as _,
    postgres::{PgArguments, PgConnectOptions, PgConnection, PgQueryResult, PgRow, PgStatement},
};
use tokio::{
    runtime::Handle,
    time::{timeout, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    data::{
        DataSettings,
        cursor::Batch,
        dialect::{Dialect, invalid, shown},
        driver::{Attempt, Driver, End, Ending, Remedy},
        failure::{Failure, server_limit},
        pieces::first_word,
        pool::Pool,
        postgres::{
            blame,
            catalog::CATALOG,
            decode::{Decoder, PostgresRows, size_of_values},
            encode, error,
        },
        pump::{Results, pump},
        read::catalog::Catalog,
        rows::AnyBatch,
        statement::{Purpose, Statement},
        transaction::{Author, refusal_inside},
        url::ServerUrl,
    },
    domain::{
        limits::SqlLimits,
        sql::{SqlError, SqlErrorCode},
    },
};

/// The longest that resetting a session may take; a slower one is closed.
const RESET_TIME: Duration = Duration::from_secs(5);
/// Prepared statements a session keeps. Table reads are few; each costs the server some kilobytes.
const PREPARED_MAX: usize = 100;
/// Values of a change whose prepared statement a session keeps: more are not likely to come again, and take memory.
const KEPT_VALUES_MAX: usize = 500;

/// The sessions of one database.
#[derive(Debug)]
pub(crate) struct PostgresPool {
    url: Url,
    /// Set if transactions may only read.
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
    pub(super) connection: PgConnection,
    /// The `statement_timeout` with which the session began, to which a reset returns.
    first_timeout: Duration,
    timeout: Duration,
    /// The `search_path` of the connection, while another one is set.
    own_path: Option<String>,
    /// Set if `lastval()` and `currval()` may tell what an earlier use of the session made of sequences.
    recalls_sequences: bool,
    /// Traces of an author's statements in a transaction.
    stain: Stain,
}

/// Traces of statements in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stain {
    None,
    /// A reset removes it.
    Resettable,
    /// Only closing the session removes it.
    Permanent,
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

    async fn new_session(&self, limit: Duration) -> Result<Session, SqlError> {
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
            Ok(Ok(Ok(connection))) => Ok(Session {
                connection,
                first_timeout: limit,
                timeout: limit,
                own_path: None,
                recalls_sequences: false,
                stain: Stain::None,
            }),
            Ok(Ok(Err(error))) => Err(error::of_connecting(&error)),
            Ok(Err(_)) | Err(_) => Err(SqlError::new(SqlErrorCode::Unavailable, "the database does not answer")),
        }
    }

    pub(super) fn options(&self, limit: Duration, check_client: bool) -> PgConnectOptions {
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

impl Driver for PostgresPool {
    type Session = Session;

    const DIALECT: Dialect = Dialect::Postgres;
    const CATALOG: Catalog = CATALOG;
    const RUNS_IN_PLACE: bool = true;

    fn sessions(&self) -> &Pool<Session> {
        &self.sessions
    }

    fn acquire_time(&self) -> Duration {
        self.acquire_time
    }

    fn database(&self) -> &str {
        &self.url.0.database
    }

    fn may_share(&self, _statement: &Statement) -> bool {
        true // a session is reset after whatever may have changed it
    }

    async fn connect(&self, limits: &SqlLimits) -> Result<Session, SqlError> {
        self.new_session(server_limit(limits)).await
    }

    async fn execute(self: &Arc<Self>, mut attempt: Attempt<Session>) -> (Attempt<Session>, Result<(), Failure>) {
        let result = run(&mut attempt).await;
        (attempt, result)
    }

    fn remedy(&self, failure: &Failure, attempt: &Attempt<Session>) -> Remedy {
        let Failure::Database(error) = failure else { return Remedy::Nothing };
        let purpose = &attempt.statement.purpose;
        let may_run_again = matches!(purpose, Purpose::Read { .. }) || !attempt.is_executing;
        if may_run_again && error::is_lost(error) {
            Remedy::NewSession
        } else if !purpose.is_author() && error::is_stale_plan(error) {
            // The table has other columns than when this session prepared the statement, which was not run.
            Remedy::Refresh
        } else {
            Remedy::Nothing
        }
    }

    async fn refresh(&self, session: &mut Session) -> bool {
        session.connection.clear_cached_statements().await.is_ok()
    }

    async fn explain(&self, session: &mut Session, failure: Failure, statement: &Statement) -> SqlError {
        match failure {
            Failure::Database(error) => {
                let explained = error::of_statement(&mut session.connection, &error, statement).await;
                let blamed = match error::is_of_value(&error) {
                    true => blame::blamed(&mut session.connection, statement, &explained).await,
                    false => None,
                };
                blamed.unwrap_or(explained)
            }
            Failure::Reported(error) | Failure::Refused(error) => error,
            Failure::TimedOut | Failure::Abandoned => {
                SqlError::new(SqlErrorCode::Unavailable, "the statement was given up")
            }
        }
    }

    fn end_of(&self, failure: &Failure, is_executing: bool) -> End {
        match failure {
            Failure::Database(error) if !error::is_lost(error) && matches!(error, sqlx::Error::Database(_)) => {
                End::Clean
            }
            Failure::Database(_) => End::Lost,
            Failure::Refused(_) if !is_executing => End::Clean,
            Failure::Refused(_) | Failure::Reported(_) | Failure::TimedOut | Failure::Abandoned => End::Running,
        }
    }

    async fn release(&self, mut session: Session, end: End, statement: &Statement) {
        if end != End::Clean {
            return; // closing the session stops what runs in it
        }
        let stain = match &statement.purpose {
            _ if statement.is_dry => Stain::None,
            Purpose::Read { .. } => Stain::None,
            Purpose::Change { .. } if statement.template.values.len() <= KEPT_VALUES_MAX => {
                session.recalls_sequences = true;
                Stain::None
            }
            Purpose::Change { .. } => Stain::Resettable,
            Purpose::Author { .. } => stain_of(statement),
        };
        self.keep(session, stain).await;
    }

    async fn begin(self: &Arc<Self>, limits: &SqlLimits, _author: Author) -> Result<Session, SqlError> {
        let limit = server_limit(limits);
        if let Some(mut session) = self.sessions.take() {
            // Nothing was done yet, so a session that turns out to be lost is replaced.
            if try_begin(&mut session, limit, self.read_only).await.is_ok() {
                return Ok(session);
            }
            drop(self.sessions.take_idle_for(Duration::ZERO));
        }
        let mut session = self.new_session(limit).await?;
        try_begin(&mut session, limit, self.read_only).await.map_err(|error| error::of_connecting(&error))?;
        Ok(session)
    }

    fn admit(&self, session: &mut Session, statement: &Statement) -> Result<(), SqlError> {
        let stain = match &statement.purpose {
            Purpose::Author { .. } => {
                if let Some(error) = refusal_inside(&first_word(Dialect::Postgres, &statement.template.sketch())) {
                    return Err(error);
                }
                stain_of(statement)
            }
            _ if statement.template.values.len() > KEPT_VALUES_MAX => Stain::Resettable,
            Purpose::Read { .. } | Purpose::Change { .. } => Stain::None,
        };
        session.stain = stain.max(session.stain);
        Ok(())
    }

    async fn finish(self: &Arc<Self>, mut session: Session, ending: Ending) -> (Session, Result<(), Failure>) {
        let sql = match ending {
            Ending::Commit => "COMMIT",
            Ending::Rollback => "ROLLBACK",
        };
        let ended = match timeout(RESET_TIME, sqlx::raw_sql(sql).execute(&mut session.connection)).await {
            Ok(result) => result.map(|_| ()),
            Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
        };
        (session, ended.map_err(Failure::Database))
    }

    async fn release_transaction(self: &Arc<Self>, mut session: Session, end: End, _author: Author) {
        if end == End::Clean {
            let stain = std::mem::replace(&mut session.stain, Stain::None);
            session.recalls_sequences = true;
            self.keep(session, stain).await;
        }
    }
}

impl PostgresPool {
    /// Keeps a session for others, without what was left in it.
    async fn keep(&self, mut session: Session, stain: Stain) {
        let is_clean = match stain {
            Stain::None => true,
            Stain::Resettable => matches!(timeout(RESET_TIME, reset(&mut session)).await, Ok(Ok(()))),
            Stain::Permanent => false,
        };
        if is_clean {
            self.sessions.put(session);
        }
    }
}

/// The traces that an author's statement may leave.
fn stain_of(statement: &Statement) -> Stain {
    if outlasts_reset(&statement.template.sketch()) { Stain::Permanent } else { Stain::Resettable }
}

async fn try_begin(session: &mut Session, limit: Duration, read_only: bool) -> Result<(), sqlx::Error> {
    // A prepared statement that no longer fits its table would end the transaction.
    session.connection.clear_cached_statements().await?;
    forget_sequences(session).await?;
    set_limit(session, limit).await?;
    session.stain = Stain::None;
    // After the first query, nothing can make a read-only transaction writable.
    let sql = if read_only { "BEGIN READ ONLY; SELECT 1" } else { "BEGIN" };
    sqlx::raw_sql(sql).execute(&mut session.connection).await.map(|_| ())
}

/// Tells whether SQL may leave something in its session that `DISCARD ALL` does not remove: names of settings like `my.thing`,
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
    session.own_path = None;
    session.recalls_sequences = false;
    Ok(())
}

async fn set_limit(session: &mut Session, limit: Duration) -> Result<(), sqlx::Error> {
    if session.timeout != limit {
        let sql = format!("SET statement_timeout = {}", milliseconds(limit));
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut session.connection).await?;
        session.timeout = limit;
    }
    Ok(())
}

/// Prepares the statement, executes it unless it is dry, and sends its rows.
async fn run(attempt: &mut Attempt<Session>) -> Result<(), Failure> {
    let Attempt { session, statement, producer, deadline, is_executing } = attempt;
    let limit = server_limit(producer.limits());
    let schema = statement.purpose.looks_in();
    let preparing = async {
        if statement.purpose.is_author() {
            forget_sequences(session).await?;
        }
        set_limit(session, limit).await?;
        look_in(session, schema).await?;
        let (prepared, arguments) = prepare(&mut session.connection, statement).await?;
        let has_money = Decoder::has_money(prepared.columns());
        let money_digits = if has_money { money_digits(&mut session.connection).await? } else { 0 };
        Ok::<_, Failure>((prepared, arguments, money_digits))
    };
    let prepared = tokio::select! {
        prepared = timeout_at(*deadline, preparing) => prepared.map_err(|_| Failure::TimedOut)??,
        () = producer.abandoned() => return Err(Failure::Abandoned),
    };
    let (prepared, arguments, money_digits) = prepared;
    let decoder = Arc::new(Decoder::new(prepared.columns(), statement, money_digits).map_err(Failure::Refused)?);
    if statement.is_dry {
        let rows = Received { decoder }.batch(Vec::new());
        return Ok(producer.send(Batch { rows, last: true, n_changed: 0 }).await?);
    }
    *is_executing = true;
    let rows = session.connection.fetch_many(prepared.query_with(arguments));
    pump(rows, Received { decoder }, statement, producer, *deadline).await
}

/// The rows of a statement.
struct Received {
    decoder: Arc<Decoder>,
}

impl Results for Received {
    type Row = PgRow;
    type End = PgQueryResult;

    fn end(&mut self, end: PgQueryResult) -> u64 {
        end.rows_affected()
    }

    fn note(&mut self, row: &PgRow) -> Result<usize, Failure> {
        Ok(size_of_values(row))
    }

    fn batch(&mut self, rows: Vec<PgRow>) -> Box<dyn AnyBatch> {
        Box::new(PostgresRows::new(Arc::clone(&self.decoder), rows))
    }
}

/// Has names without a schema looked up in `schema` first, or, without one, where the connection looks.
async fn look_in(session: &mut Session, schema: Option<&str>) -> Result<(), Failure> {
    if schema.is_none() && session.own_path.is_none() {
        return Ok(());
    }
    session.connection.clear_cached_statements().await?; // their values have the types of the tables found then
    if let Some(path) = &session.own_path {
        set_path(&mut session.connection, path).await?;
        session.own_path = None;
    }
    let Some(schema) = schema else { return Ok(()) };
    let row = sqlx::query(
        "SELECT pg_catalog.current_setting('search_path'), pg_catalog.quote_ident(nspname) \
         FROM pg_catalog.pg_namespace WHERE nspname = $1",
    )
    .bind(schema)
    .fetch_optional(&mut session.connection)
    .await?;
    let Some(row) = row else {
        let message = format!("unknown schema `{}`", shown(schema));
        return Err(Failure::Refused(SqlError::new(SqlErrorCode::UnknownSchema, message)));
    };
    let (own, quoted): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let path = if own.is_empty() { quoted } else { format!("{quoted}, {own}") };
    session.own_path = Some(own);
    Ok(set_path(&mut session.connection, &path).await?)
}

async fn set_path(connection: &mut PgConnection, path: &str) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_catalog.set_config('search_path', $1, false)")
        .bind(path)
        .execute(connection)
        .await
        .map(|_| ())
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
    if statement.is_dry {
        connection.clear_cached_statements().await?; // which say what the columns were
    }
    let prepared = connection.prepare_with(sql_text(sql), &[]).await?;
    let types = encode::parameter_types(&prepared);
    if types.len() != template.values.len() {
        let message =
            format!("`query` has {} placeholders, `params` has {} values", types.len(), template.values.len());
        return Err(Failure::Refused(invalid(message)));
    }
    let casts: Vec<Option<String>> =
        template.values.iter().zip(types).map(|(bound, r#type)| encode::cast(bound, r#type)).collect();
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

/// The number of digits of `money` after the point: 100 cents are a dollar.
async fn money_digits(connection: &mut PgConnection) -> Result<u32, sqlx::Error> {
    let row = sqlx::query("SELECT 1::money").fetch_one(connection).await?;
    let one = row.try_get_raw(0)?.as_bytes().ok().and_then(|bytes| bytes.try_into().ok()).map(i64::from_be_bytes);
    Ok(one.and_then(|one| one.checked_ilog10()).unwrap_or(0))
}

fn sql_text(sql: String) -> SqlStr {
    // Ours, or the author's own: what it may do is a matter of the role it runs as.
    AssertSqlSafe(sql).into_sql_str()
}
