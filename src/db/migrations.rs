//! The schema and its history. The files are in `migrations/`: a folder for each kind of database, with the same numbers.

use sqlx::{AnyConnection, migrate::Migrator};

use crate::{
    db::{
        DbError,
        connect::{Connector, Purpose},
    },
    domain::control_database::ControlDatabase,
};

static SQLITE: Migrator = lenient(sqlx::migrate!("migrations/sqlite"));
static POSTGRES: Migrator = lenient(sqlx::migrate!("migrations/postgres"));

/// An older binary runs against the schema of the next one.
const fn lenient(mut migrations: Migrator) -> Migrator {
    migrations.ignore_missing = true;
    migrations
}

/// A step of the schema's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// Its number; later ones have higher numbers.
    pub number: i64,
    /// What it is about.
    pub name: String,
    /// Whether the database has it.
    pub state: MigrationState,
}

/// Whether a database has a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrationState {
    /// It has.
    Applied,
    /// It will, once this pqhost opens it.
    Pending,
    /// It has, and this pqhost does not know the migration: a newer one has made it.
    Newer,
}

fn migrations(database: &ControlDatabase) -> &'static Migrator {
    match database {
        ControlDatabase::File(_) => &SQLITE,
        ControlDatabase::Server(_) => &POSTGRES,
    }
}

/// The number of the newest migration that this pqhost knows.
#[must_use]
pub fn newest() -> i64 {
    SQLITE.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Brings the schema up to date. Of several processes one does it, the others wait.
pub(super) async fn apply(database: &ControlDatabase, connection: &mut AnyConnection) -> Result<(), DbError> {
    // `run` takes what a connection can be had from, and rustc cannot prove such a future `Send` (rust-lang/rust#100013).
    migrations(database).run_direct(None, connection, false).await.map_err(|cause| DbError::open(database, cause))
}

/// The history of the schema, oldest first. Changes nothing: a database that does not exist is not created.
///
/// # Errors
/// The database cannot be read.
pub async fn list_migrations(database: &ControlDatabase) -> Result<Vec<Migration>, DbError> {
    let is_new = matches!(database, ControlDatabase::File(path) if !path.exists());
    let applied = if is_new { Vec::new() } else { read_applied(database).await? };
    let known = migrations(database).iter();
    let mut all: Vec<_> = known
        .map(|migration| Migration {
            number: migration.version,
            name: migration.description.to_string(),
            state: match applied.iter().any(|(number, _)| *number == migration.version) {
                true => MigrationState::Applied,
                false => MigrationState::Pending,
            },
        })
        .collect();
    for (number, name) in applied {
        if !all.iter().any(|migration| migration.number == number) {
            all.push(Migration { number, name, state: MigrationState::Newer });
        }
    }
    all.sort_by_key(|migration| migration.number);
    Ok(all)
}

async fn read_applied(database: &ControlDatabase) -> Result<Vec<(i64, String)>, DbError> {
    let connector = Connector::new(database)?;
    let open = |cause: sqlx::Error| DbError::open(database, cause);
    let mut connection = connector.connect(Purpose::Reading).await.map_err(open)?;
    let rows = sqlx::query_as("SELECT version, description FROM _sqlx_migrations ORDER BY version");
    let applied = match rows.fetch_all(&mut connection).await {
        Err(error) if is_missing_table(&error) => Vec::new(),
        rows => rows.map_err(open)?,
    };
    sqlx::Connection::close(connection).await.map_err(open)?;
    Ok(applied)
}

fn is_missing_table(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else { return false };
    error.code().as_deref() == Some("42P01") || error.message().starts_with("no such table")
}
