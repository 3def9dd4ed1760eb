//! What can go wrong with the control database.

use std::{fmt, io, path::PathBuf};

use sqlx::{error::ErrorKind, migrate::MigrateError};

use crate::domain::route::RouteConflict;

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// There is already one of this name.
    #[error("there is already a {what} `{name}`")]
    NameTaken {
        /// What it is, for example `tenant`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// An endpoint of the tenant already answers the same requests.
    #[error(transparent)]
    RouteTaken(RouteConflict),
    /// The tenant has no such thing.
    #[error("the tenant has no {what} with the id {id}")]
    Unknown {
        /// What it is, for example `script`.
        what: &'static str,
        /// The id.
        id: i64,
    },
    /// Something else needs it.
    #[error("the {what} `{name}` is in use: {by}")]
    InUse {
        /// What it is, for example `script`.
        what: &'static str,
        /// Its name.
        name: String,
        /// What needs it, in words.
        by: String,
    },
    /// Somebody changed it since it was read.
    #[error("it has been changed since it was read: read it again")]
    Stale,
    /// The tenant would lose its only owner.
    #[error("the tenant needs an owner: make somebody else its owner first")]
    LastOwner,
    /// A row holds what this version of pqhost cannot have written.
    #[error("the control database holds an invalid {what}: {cause}")]
    Corrupt {
        /// What it is, for example `tenant name`.
        what: &'static str,
        /// What is wrong with it.
        cause: String,
    },
    /// Others wrote for longer than [`BUSY_TIMEOUT`](crate::db::BUSY_TIMEOUT).
    #[error("the control database is busy: another process or request holds it for too long; try again")]
    Busy,
    /// No space is left, or a quota of the file system is used up. Nothing was written.
    #[error("the control database cannot grow: the disk is full")]
    DiskFull,
    /// The file cannot be created or locked.
    #[error("cannot open the control database `{path}`: {cause}")]
    File {
        /// The database file.
        path: PathBuf,
        /// What the operating system says.
        cause: io::Error,
    },
    /// The file is no database, or its schema cannot be brought up to date.
    #[error("cannot open the control database `{path}`: {cause}")]
    Open {
        /// The database file.
        path: PathBuf,
        /// What is wrong.
        cause: MigrateError,
    },
    /// Anything else: a bug or a failing disk.
    #[error("the control database failed: {0}")]
    Failed(sqlx::Error),
}

impl DbError {
    pub(super) fn corrupt(what: &'static str, cause: impl fmt::Display) -> Self {
        Self::Corrupt { what, cause: cause.to_string() }
    }
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        if matches!(error, sqlx::Error::PoolTimedOut) {
            return Self::Busy;
        }
        // The low byte of SQLite's code is its kind. PostgreSQL's codes are five characters, so no mistake is possible.
        let code = error.as_database_error().and_then(|error| error.code()).and_then(|code| code.parse::<u32>().ok());
        match code.map(|code| code & 0xff) {
            Some(5) => Self::Busy,
            Some(13) => Self::DiskFull,
            Some(_) | None => Self::Failed(error),
        }
    }
}

/// A unique constraint, as each database names it.
pub(super) struct Unique {
    /// The constraint's name: PostgreSQL.
    pub(super) name: &'static str,
    /// Its columns: SQLite.
    pub(super) columns: &'static str,
}

impl Unique {
    /// Whether `error` says that this constraint was violated.
    pub(super) fn is_violated(&self, error: &sqlx::Error) -> bool {
        let Some(error) = error.as_database_error() else { return false };
        error.kind() == ErrorKind::UniqueViolation
            && (error.constraint() == Some(self.name)
                || error.message().strip_prefix("UNIQUE constraint failed: ") == Some(self.columns))
    }
}

/// Whether `error` says that a row referred to is not there. SQLite does not tell which: use it where only one can be.
pub(super) fn is_missing_reference(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.kind() == ErrorKind::ForeignKeyViolation)
}
