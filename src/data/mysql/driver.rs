//! The pool of sessions, and running one statement in one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, Connection as _, Either, Executor as _, Row as _, SqlSafeStr as _, Statement as _,
    mysql::{MySqlArguments, MySqlColumn, MySqlConnection, MySqlQueryResult, MySqlRow, MySqlStatement},
};
use tokio::time::{timeout, timeout_at};

use crate::{
    data::{
        DataSettings,
        cursor::Batch,
        dialect::{Dialect, invalid},
        driver::{Attempt, Driver, End, Ending, Remedy},
        failure::{Failure, server_limit},
        mysql::{
            catalog::CATALOG,
            decode::{Decoder, MySqlRows, size_of_values},
            encode, error,
            json_columns::{JsonColumns, JsonColumnsCache},
            plain,
            session::{Connector, Session},
        },
        pieces::{before_first_word, first_word},
        pool::Pool,
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

/// The longest that ending a transaction may take.
const END_TIME: Duration = Duration::from_secs(5);

/// Words that statements may begin with inside of a transaction. Most others commit it, without a word.
const POSSIBLE: [&str; 12] = [
    "select", "with", "values", "table", "insert", "update", "delete", "replace", "show", "explain", "describe", "desc",
];

/// The sessions of one database.
#[derive(Debug)]
pub(crate) struct MySqlPool {
    connector: Connector,
    /// Set if only reading statements are let through. The server is told, too, but may be told otherwise.
    read_only: bool,
    sessions: Pool<Session>,
    json_columns: JsonColumnsCache,
    acquire_time: Duration,
    /// Set if the server is a MariaDB that gives rows back; set when a session has begun.
    gives_rows_back: AtomicBool,
}

impl MySqlPool {
    pub(crate) fn new(url: ServerUrl, read_only: bool, settings: &DataSettings) -> Self {
        Self {
            connector: Connector::new(url, read_only, settings.acquire_time),
            read_only,
            sessions: Pool::new(settings.pool_connections),
            json_columns: JsonColumnsCache::default(),
            acquire_time: settings.acquire_time,
            gives_rows_back: AtomicBool::new(false),
        }
    }

    async fn new_session(&self, limits: &SqlLimits) -> Result<Session, SqlError> {
        let session = self.connector.connect(server_limit(limits)).await?;
        self.gives_rows_back.store(session.gives_rows_back, Ordering::Relaxed);
        Ok(session)
    }
}

impl Driver for MySqlPool {
    type Session = Session;

    const DIALECT: Dialect = Dialect::MySql;
    const CATALOG: Catalog = CATALOG;

    fn sessions(&self) -> &Pool<Session> {
        &self.sessions
    }

    fn acquire_time(&self) -> Duration {
        self.acquire_time
    }

    fn database(&self) -> &str {
        self.connector.database()
    }

    fn may_share(&self, statement: &Statement) -> bool {
        match &statement.purpose {
            _ if statement.is_dry => true,
            Purpose::Read { .. } | Purpose::Change { .. } => true,
            Purpose::Author { schema: Some(_), .. } => false,
            Purpose::Author { .. } => plain::is_plain(&statement.template.sketch()),
        }
    }

    async fn connect(&self, limits: &SqlLimits) -> Result<Session, SqlError> {
        self.new_session(limits).await
    }

    fn gives_rows_back(&self) -> bool {
        self.gives_rows_back.load(Ordering::Relaxed)
    }

    async fn execute(self: &Arc<Self>, mut attempt: Attempt<Session>) -> (Attempt<Session>, Result<(), Failure>) {
        let result = run(self, &mut attempt).await;
        (attempt, result)
    }

    fn remedy(&self, failure: &Failure, attempt: &Attempt<Session>) -> Remedy {
        let may_run_again = !attempt.is_executing || !matches!(attempt.statement.purpose, Purpose::Change { .. });
        match failure {
            Failure::Database(error) if may_run_again && error::is_lost(error) => Remedy::NewSession,
            _ => Remedy::Nothing,
        }
    }

    async fn refresh(&self, _session: &mut Session) -> bool {
        false
    }

    async fn explain(&self, session: &mut Session, failure: Failure, statement: &Statement) -> SqlError {
        match failure {
            Failure::Database(error) => error::of_statement(&mut session.connection, &error, statement).await,
            Failure::Reported(error) | Failure::Refused(error) => error,
            Failure::TimedOut | Failure::Abandoned => {
                SqlError::new(SqlErrorCode::Unavailable, "the statement was given up")
            }
        }
    }

    fn end_of(&self, failure: &Failure, is_executing: bool) -> End {
        match failure {
            Failure::Database(error) if error::is_lost(error) => End::Lost,
            Failure::Database(sqlx::Error::Database(_)) => End::Clean,
            Failure::Refused(_) if !is_executing => End::Clean,
            Failure::Database(_)
            | Failure::Refused(_)
            | Failure::Reported(_)
            | Failure::TimedOut
            | Failure::Abandoned => End::Running,
        }
    }

    async fn release(&self, session: Session, end: End, statement: &Statement) {
        match end {
            End::Clean if self.may_share(statement) => self.sessions.put(session),
            End::Clean | End::Lost => {}
            End::Running => self.connector.kill(&session).await,
        }
    }

    /// A script's transaction has a session to itself, which is closed after it; the host's own changes share the pool's.
    async fn begin(self: &Arc<Self>, limits: &SqlLimits, author: Author) -> Result<Session, SqlError> {
        if author == Author::Host
            && let Some(mut session) = self.sessions.take()
        {
            // Nothing was done yet, so a session that turns out to be lost is replaced.
            if start(&mut session, limits).await.is_ok() {
                return Ok(session);
            }
            drop(self.sessions.take_idle_for(Duration::ZERO));
        }
        drop(self.sessions.take_surplus());
        let mut session = self.new_session(limits).await?;
        start(&mut session, limits).await.map_err(|error| error::of_connecting(&error))?;
        Ok(session)
    }

    fn admit(&self, _session: &mut Session, statement: &Statement) -> Result<(), SqlError> {
        let word = match statement.purpose {
            _ if statement.is_dry => return Ok(()),
            Purpose::Read { .. } => return Ok(()),
            Purpose::Change { .. } => first_word(Dialect::MySql, &statement.template.sketch()),
            Purpose::Author { .. } => kind(statement),
        };
        if let (true, Some(error)) = (statement.purpose.is_author(), refusal_inside(&word)) {
            return Err(error);
        }
        if POSSIBLE.contains(&word.as_str()) {
            return Ok(());
        }
        let what = if word.is_empty() { "this statement".to_owned() } else { word.to_ascii_uppercase() };
        let message =
            format!("{what} is not possible inside of `with dbconn.transaction():` on MySQL, which would commit");
        Err(SqlError::new(SqlErrorCode::NotAllowed, message))
    }

    async fn finish(self: &Arc<Self>, mut session: Session, ending: Ending) -> (Session, Result<(), Failure>) {
        let sql = match ending {
            Ending::Commit => "COMMIT",
            Ending::Rollback => "ROLLBACK",
        };
        let ended = match timeout(END_TIME, sqlx::raw_sql(sql).execute(&mut session.connection)).await {
            Ok(result) => result.map(|_| ()),
            Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
        };
        (session, ended.map_err(Failure::Database))
    }

    async fn release_transaction(self: &Arc<Self>, session: Session, end: End, author: Author) {
        match end {
            End::Clean if author == Author::Host => self.sessions.put(session),
            End::Clean | End::Lost => {}
            End::Running => self.connector.kill(&session).await,
        }
    }
}

async fn start(session: &mut Session, limits: &SqlLimits) -> Result<(), sqlx::Error> {
    session.limit_statements(server_limit(limits)).await?;
    sqlx::raw_sql("START TRANSACTION").execute(&mut session.connection).await.map(|_| ())
}

/// Prepares the statement, executes it unless it is dry, and sends its rows.
async fn run(pool: &MySqlPool, attempt: &mut Attempt<Session>) -> Result<(), Failure> {
    let Attempt { session, statement, producer, deadline, is_executing } = attempt;
    if pool.read_only && !statement.is_dry && !reads(statement) {
        let message = "the connection reads only (`mode=ro`)";
        return Err(Failure::Refused(SqlError::new(SqlErrorCode::ReadOnly, message)));
    }
    let limit = server_limit(producer.limits());
    let schema = statement.purpose.looks_in();
    let preparing = async {
        session.limit_statements(limit).await?;
        session.look_in(schema, pool.connector.database()).await?;
        let (prepared, arguments) = prepare(&mut session.connection, statement).await?;
        let json_columns = if session.is_mariadb {
            pool.json_columns.of(&mut session.connection, prepared.columns()).await?.and(&statement.json_columns)
        } else {
            JsonColumns::default()
        };
        Ok::<_, Failure>((prepared, arguments, json_columns))
    };
    let (prepared, arguments, json_columns) = tokio::select! {
        prepared = timeout_at(*deadline, preparing) => prepared.map_err(|_| Failure::TimedOut)??,
        () = producer.abandoned() => return Err(Failure::Abandoned),
    };
    let expected = prepared.columns();
    let mut received =
        Received { expected, json_columns, decimals: statement.decimals, decoder: None, has_ended: false };
    if statement.is_dry {
        return Ok(producer.send(Batch { rows: received.batch(Vec::new()), last: true, n_changed: 0 }).await?);
    }
    *is_executing = true;
    let rows = session.connection.fetch_many(prepared.query_with(arguments));
    pump(rows, received, statement, producer, *deadline).await
}

/// Tells whether a statement may run where only reading is allowed. The server refuses what changes data all the same.
fn reads(statement: &Statement) -> bool {
    const READING: [&str; 8] = ["select", "with", "values", "table", "show", "explain", "describe", "desc"];

    match statement.purpose {
        Purpose::Read { .. } => true,
        Purpose::Change { .. } => false,
        Purpose::Author { .. } => READING.contains(&kind(statement).as_str()),
    }
}

/// The first word of a statement; empty if an executable comment stands before it, which may hold the true one.
fn kind(statement: &Statement) -> String {
    let sql = statement.template.sketch();
    let before = before_first_word(Dialect::MySql, &sql);
    if ["/*!", "/*M!", "/*m!"].iter().any(|comment| before.contains(comment)) {
        String::new()
    } else {
        first_word(Dialect::MySql, &sql)
    }
}

/// Has the server parse the statement, unless this session did that before.
async fn prepare(
    connection: &mut MySqlConnection,
    statement: &Statement,
) -> Result<(MySqlStatement, MySqlArguments), Failure> {
    let template = &statement.template;
    if statement.is_dry {
        connection.clear_cached_statements().await?; // which say what the columns were
    }
    // Ours, or the author's own: what it may do is a matter of the account it runs as.
    let prepared = connection.prepare_with(AssertSqlSafe(encode::render(template)).into_sql_str(), &[]).await?;
    let n_values = template.gaps().count();
    let n_placeholders = match prepared.parameters() {
        Some(Either::Right(number)) => number,
        Some(Either::Left(types)) => types.len(),
        None => 0,
    };
    if n_placeholders != n_values {
        let message = format!("`query` has {n_placeholders} placeholders, `params` has {n_values} values");
        return Err(Failure::Refused(invalid(message)));
    }
    let arguments = encode::arguments(template).map_err(Failure::Refused)?;
    Ok((prepared, arguments))
}

/// The results of a statement. A procedure may give several, each with columns of its own.
struct Received<'a> {
    /// The columns, as far as the server can tell before the first row.
    expected: &'a [MySqlColumn],
    json_columns: JsonColumns,
    decimals: bool,
    /// Once the columns are known.
    decoder: Option<Arc<Decoder>>,
    has_ended: bool,
}

impl Received<'_> {
    /// Only the first row tells the true types: before the values are known the server guesses those of `SELECT ?`.
    fn decoder(&mut self, columns: &[MySqlColumn]) -> Arc<Decoder> {
        let decoder =
            self.decoder.get_or_insert_with(|| Arc::new(Decoder::new(columns, &self.json_columns, self.decimals)));
        Arc::clone(decoder)
    }
}

impl Results for Received<'_> {
    type Row = MySqlRow;
    type End = MySqlQueryResult;

    fn end(&mut self, end: MySqlQueryResult) -> u64 {
        self.has_ended = self.decoder.is_some();
        end.rows_affected()
    }

    fn note(&mut self, row: &MySqlRow) -> Result<usize, Failure> {
        if self.has_ended {
            return Err(Failure::Refused(several_results()));
        }
        self.decoder(row.columns());
        Ok(size_of_values(row))
    }

    fn batch(&mut self, rows: Vec<MySqlRow>) -> Box<dyn AnyBatch> {
        let decoder = self.decoder(self.expected);
        Box::new(MySqlRows::new(decoder, rows))
    }
}

fn several_results() -> SqlError {
    SqlError::new(SqlErrorCode::StatementFailed, "the statement gives several results: a `query` may give one")
}
