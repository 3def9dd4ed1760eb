//! MySQL and MariaDB.
//!
//! Owns: the pool of sessions, and running one statement in one. Never: writes SQL of the table form (see `select`).
//!
//! **Round trips.** A table read whose statement this session has prepared before costs one.
//!
//! **Session state.** sqlx cannot reset a session. So sessions are shared only by statements that see no state: table
//! reads, our own changes in their transactions, and authors' statements that provably neither leave nor see any (see
//! `plain`). Every other statement has a new session to itself, which is closed after it.
//!
//! **Stopping.** Neither server notices while it computes that its client is gone. A statement that nobody waits for is
//! stopped with `KILL` from a second connection; the server's own limit on statements bounds it should that fail.
//!
//! **Statements are prepared, always.** The prepared form takes one statement at a time, whatever the server and sqlx
//! have agreed upon, and has values with types instead of text. LOCAL INFILE is never agreed upon.

mod decode;
mod encode;
mod error;
mod examine;
mod geometry;
mod json_columns;
mod plain;
mod session;
mod transaction;

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use sqlx::{
    AssertSqlSafe, Either, Executor as _, Row as _, SqlSafeStr as _, Statement as _,
    mysql::{MySqlArguments, MySqlColumn, MySqlConnection, MySqlRow, MySqlStatement},
};
use tokio::time::{Instant, timeout, timeout_at};

pub(crate) use crate::data::mysql::{decode::Decoder, examine::examine, transaction::hold};
use crate::{
    data::{
        DataSettings,
        cursor::{self, Batch, Producer, Rows, timed_out},
        filling::Filling,
        mysql::{
            json_columns::{JsonColumns, JsonColumnsCache},
            session::{Connector, Session},
        },
        pool::Pool,
        select::{Form, Statement, first_word, invalid},
        server::{DRAINED_ROWS_MAX, Failure, server_limit},
        url::ServerUrl,
    },
    domain::sql::{SqlError, SqlErrorCode},
};

/// How long asking the server for the reason of an error may take.
const EXPLAIN_TIME: Duration = Duration::from_secs(5);

/// The sessions of one database.
#[derive(Debug)]
pub(crate) struct MySqlPool {
    connector: Connector,
    /// Whether only reading statements are let through. The server is told, too, but may be told otherwise.
    read_only: bool,
    sessions: Pool<Session>,
    json_columns: JsonColumnsCache,
    acquire_time: Duration,
}

impl MySqlPool {
    pub(crate) fn new(url: ServerUrl, read_only: bool, settings: &DataSettings) -> Self {
        Self {
            connector: Connector::new(url, read_only, settings.acquire_time),
            read_only,
            sessions: Pool::new(settings.pool_connections),
            json_columns: JsonColumnsCache::default(),
            acquire_time: settings.acquire_time,
        }
    }

    pub(crate) fn database(&self) -> &str {
        self.connector.database()
    }

    pub(crate) fn connections(&self) -> &Pool<Session> {
        &self.sessions
    }
}

/// Whether a statement may run in a session that others have used and will use.
fn may_share(statement: &Statement) -> bool {
    match statement.form {
        Form::Table { .. } | Form::Change { .. } => true,
        Form::Query { .. } => plain::is_plain(&statement.template.render(|_| "?".to_owned())),
    }
}

/// Runs a statement to its end and sends its rows.
pub(crate) async fn run(pool: Arc<MySqlPool>, statement: Statement, mut producer: Producer) {
    let limits = *producer.limits();
    let _permit = match pool.sessions.permit(pool.acquire_time).await {
        Ok(permit) => permit,
        Err(error) => return producer.fail(error).await,
    };
    let shares = may_share(&statement);
    loop {
        let pooled = if shares { pool.sessions.take() } else { None };
        let reused = pooled.is_some();
        let mut session = match pooled {
            Some(session) => session,
            None => {
                drop(pool.sessions.take_surplus());
                match pool.connector.connect(server_limit(&limits)).await {
                    Ok(session) => session,
                    Err(error) => return producer.fail(error).await,
                }
            }
        };
        let deadline = Instant::now() + limits.statement_time;
        let mut executing = false;
        let result = attempt(&pool, &mut session, &statement, &mut producer, deadline, &mut executing).await;
        let may_run_again = !executing || !matches!(statement.form, Form::Change { .. });
        if let Err(Failure::Database(error)) = &result
            && reused
            && may_run_again
            && !producer.has_begun()
            && error::is_lost(error)
        {
            // The server was restarted or closed an idle session: the others are gone too.
            drop(pool.sessions.take_idle_for(Duration::ZERO));
            continue;
        }
        return finish(&pool, session, &statement, result, executing, producer).await;
    }
}

/// Reports the result, stops what still runs, and keeps the session if it may be used again.
async fn finish(
    pool: &MySqlPool,
    mut session: Session,
    statement: &Statement,
    result: Result<(), Failure>,
    executing: bool,
    mut producer: Producer,
) {
    let (ended, lost) = match result {
        Ok(()) => (true, false),
        Err(Failure::Abandoned) => (false, false),
        Err(Failure::TimedOut) => {
            producer.fail(timed_out(producer.limits().statement_time)).await;
            (false, false)
        }
        Err(Failure::Refused(error)) => {
            producer.fail(error).await;
            (!executing, false)
        }
        Err(Failure::Database(error)) => {
            let report = error::of_statement(&mut session.connection, &error, &statement.form, statement.told);
            let report = timeout(EXPLAIN_TIME, report).await;
            producer.fail(report.unwrap_or_else(|_| timed_out(EXPLAIN_TIME))).await;
            let is_lost = error::is_lost(&error);
            (matches!(error, sqlx::Error::Database(_)) && !is_lost, is_lost)
        }
    };
    drop(producer);
    if !ended && !lost {
        pool.connector.kill(&session).await;
    } else if ended && may_share(statement) {
        pool.sessions.put(session);
    }
}

async fn attempt(
    pool: &MySqlPool,
    session: &mut Session,
    statement: &Statement,
    producer: &mut Producer,
    deadline: Instant,
    executing: &mut bool,
) -> Result<(), Failure> {
    if pool.read_only && !reads(statement) {
        let message = "the connection reads only (`mode=ro`)";
        return Err(Failure::Refused(SqlError::new(SqlErrorCode::ReadOnly, message)));
    }
    let limit = server_limit(producer.limits());
    let preparing = async {
        session.limit_statements(limit).await?;
        let (prepared, arguments) = prepare(&mut session.connection, statement).await?;
        let json_columns = if session.is_mariadb {
            pool.json_columns.of(&mut session.connection, prepared.columns()).await?
        } else {
            JsonColumns::default()
        };
        Ok::<_, Failure>((prepared, arguments, json_columns))
    };
    let (prepared, arguments, json_columns) = tokio::select! {
        prepared = timeout_at(deadline, preparing) => prepared.map_err(|_| Failure::TimedOut)??,
        () = producer.abandoned() => return Err(Failure::Abandoned),
    };
    *executing = true;
    let mut pump = Pump { statement, json_columns, described: false, producer };
    pump.run(&mut session.connection, &prepared, arguments, deadline).await
}

/// Whether a statement may run where only reading is allowed. The server refuses what changes data all the same.
fn reads(statement: &Statement) -> bool {
    const READING: [&str; 8] = ["select", "with", "values", "table", "show", "explain", "describe", "desc"];

    match statement.form {
        Form::Table { .. } => true,
        Form::Change { .. } => false,
        Form::Query { .. } => READING.contains(&kind(statement).as_str()),
    }
}

/// The first word of a statement; empty if there is an executable comment in it, which may hold the true one.
fn kind(statement: &Statement) -> String {
    let sql = statement.template.render(|_| "?".to_owned());
    if ["/*!", "/*M!", "/*m!"].iter().any(|comment| sql.contains(comment)) { String::new() } else { first_word(&sql) }
}

/// Has the server parse the statement, unless this session did that before.
async fn prepare(
    connection: &mut MySqlConnection,
    statement: &Statement,
) -> Result<(MySqlStatement, MySqlArguments), Failure> {
    let template = &statement.template;
    let sql = template.render(|_| "?".to_owned());
    // Ours from `select`, or the author's own: what it may do is a matter of the account it runs as.
    let prepared = connection.prepare_with(AssertSqlSafe(sql).into_sql_str(), &[]).await?;
    // MySQL's placeholders have no numbers, so a value that is used twice is sent twice.
    let values: Vec<_> = template.gaps().map(|number| &template.values[number]).collect();
    let n_placeholders = match prepared.parameters() {
        Some(Either::Right(number)) => number,
        Some(Either::Left(types)) => types.len(),
        None => 0,
    };
    if n_placeholders != values.len() {
        let message = format!("`query` has {n_placeholders} placeholders, `params` has {} values", values.len());
        return Err(Failure::Refused(invalid(message)));
    }
    let arguments =
        encode::arguments(&values, &statement.value_columns, prepared.columns()).map_err(Failure::Refused)?;
    Ok((prepared, arguments))
}

/// The way of the rows from the server to the reader.
struct Pump<'a> {
    statement: &'a Statement,
    json_columns: JsonColumns,
    /// Whether the reader knows the columns.
    described: bool,
    producer: &'a mut Producer,
}

impl Pump<'_> {
    /// Executes and sends the rows in batches.
    async fn run(
        &mut self,
        connection: &mut MySqlConnection,
        prepared: &MySqlStatement,
        arguments: MySqlArguments,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let statement_time = self.producer.limits().statement_time;
        let (mut to_skip, mut to_take) = match self.statement.form {
            Form::Table { .. } | Form::Change { .. } => (0, u64::MAX),
            Form::Query { offset, limit } => (offset, limit.unwrap_or(u64::MAX)),
        };
        let mut to_drain = DRAINED_ROWS_MAX;
        let mut rows = connection.fetch_many(prepared.query_with(arguments));
        let mut batch = Filling::new();
        // How long the server may be silent; set anew when rows leave.
        let mut silence = Box::pin(tokio::time::sleep_until(deadline));
        // A procedure may give several results, each with columns of its own.
        let mut result_ended = false;
        loop {
            let waits = !batch.is_empty();
            let row = tokio::select! {
                biased;
                row = rows.next() => row,
                () = batch.wait(), if waits => {
                    self.send(&mut batch, false).await?;
                    silence.as_mut().reset(Instant::now() + statement_time);
                    continue;
                }
                () = silence.as_mut() => return Err(Failure::TimedOut),
                () = self.producer.abandoned() => return Err(Failure::Abandoned),
            };
            let row = match row.transpose()? {
                None => break,
                Some(Either::Left(_)) => {
                    result_ended = self.described;
                    continue;
                }
                Some(Either::Right(_)) if result_ended => return Err(Failure::Refused(several_results())),
                Some(Either::Right(row)) => row,
            };
            if !self.described {
                self.describe(row.columns());
            }
            if to_skip > 0 {
                to_skip -= 1;
            } else if to_take > 0 {
                to_take -= 1;
                let bytes = decode::size_of_values(&row);
                batch.push(row, bytes);
                if batch.is_full() {
                    self.send(&mut batch, false).await?;
                    silence.as_mut().reset(Instant::now() + statement_time);
                }
            } else if to_drain > 0 {
                to_drain -= 1;
            } else {
                self.send(&mut batch, true).await?;
                return Err(Failure::Abandoned);
            }
        }
        if !self.described {
            self.describe(prepared.columns());
        }
        self.send(&mut batch, true).await
    }

    /// Only the first row tells the true types: before the values are known the server guesses those of `SELECT ?`.
    fn describe(&mut self, columns: &[MySqlColumn]) {
        let Statement { decimals, shape, .. } = self.statement;
        let decoder = Decoder::new(columns, &self.json_columns, *decimals, *shape);
        self.producer.describe(cursor::Decoder::MySql(decoder));
        self.described = true;
    }

    async fn send(&mut self, batch: &mut Filling<MySqlRow>, last: bool) -> Result<(), Failure> {
        Ok(self.producer.send(Batch { rows: Rows::MySql(batch.take()), last }).await?)
    }
}

fn several_results() -> SqlError {
    SqlError::new(SqlErrorCode::StatementFailed, "the statement gives several results: a `query` may give one")
}
