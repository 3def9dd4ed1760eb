//! Databases that are there for one test.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{Connection as _, PgConnection};

use crate::{db::Db, domain::control_database::ControlDatabase};

const POSTGRES: &str = "postgres://postgres@127.0.0.1:5432/test";

/// A new database.
pub(super) struct Fresh {
    pub(super) database: ControlDatabase,
    /// What connections to it call themselves on a server.
    pub(super) name: String,
    _folder: tempfile::TempDir,
}

impl Fresh {
    /// A file that does not exist yet.
    pub(super) fn file() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = ControlDatabase::File(folder.path().join("pqhost.db"));
        Self { database, name: String::new(), _folder: folder }
    }

    pub(super) async fn open(&self) -> Db {
        Db::open(&self.database).await.unwrap()
    }

    /// How a process of its own is told where it is; see [`located`].
    pub(super) fn locator(&self) -> String {
        match &self.database {
            ControlDatabase::File(path) => path.to_str().unwrap().to_owned(),
            ControlDatabase::Server(server) => server.expose_url().to_owned(),
        }
    }
}

/// Back from [`Fresh::locator`].
pub(super) fn located(text: &str) -> ControlDatabase {
    match text.parse() {
        Ok(server) => ControlDatabase::Server(server),
        Err(_) => ControlDatabase::File(text.into()),
    }
}

/// Runs a test on a new database of each kind. Without a PostgreSQL the half of it is skipped, loudly; never in CI.
pub(super) async fn on_each(test: impl AsyncFn(&Fresh)) {
    test(&Fresh::file()).await;
    on_server(test).await;
}

/// A connection that sees the whole server.
pub(super) async fn admin() -> Result<PgConnection, sqlx::Error> {
    PgConnection::connect(POSTGRES).await
}

/// Runs a test on PostgreSQL, in a schema of its own.
#[expect(clippy::print_stderr, reason = "what is skipped is to be seen")]
pub(super) async fn on_server(test: impl AsyncFn(&Fresh)) {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let mut admin = match admin().await {
        Ok(admin) => admin,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "no PostgreSQL answers: {error}");
            eprintln!("#### SKIPPED on PostgreSQL, because none answers on 127.0.0.1:5432: {error}");
            return;
        }
    };
    let schema = format!("pqdb_{}_{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
    let mut execute = async |sql: String| sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
    execute(format!("DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}")).await;
    let url = format!("{POSTGRES}?options=-c%20search_path%3D{schema}&application_name={schema}");
    let database = ControlDatabase::Server(url.parse().unwrap());
    let fresh = Fresh { database, name: schema.clone(), _folder: tempfile::tempdir().unwrap() };
    test(&fresh).await;
    execute(format!("SET client_min_messages = warning; DROP SCHEMA {schema} CASCADE")).await;
}
