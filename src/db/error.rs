//! What can go wrong with the control database.

use std::{error::Error, fmt, io, path::PathBuf, sync::Arc};

use sqlx::error::ErrorKind;

use crate::domain::{control_database::ControlDatabase, route::RouteConflict};

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
    /// The tenant has as many as it may have.
    #[error("a tenant has at most {limit} {what}: delete one first")]
    TooMany {
        /// What they are, for example `signing keys`.
        what: &'static str,
        /// How many there may be.
        limit: usize,
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
    /// The server cannot be reached, refuses the connection, or has broken it. A change that was about to be acknowledged
    /// may have been made.
    #[error(transparent)]
    Unreachable(Unreachable),
    /// PostgreSQL cannot store what SQLite can: text with a NUL character.
    #[error("text with a NUL character cannot be stored")]
    NulInText,
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
    /// It is no database, or its schema cannot be brought up to date.
    #[error("cannot open the control database `{database}`: {cause}")]
    Open {
        /// The file, or the server and the database on it.
        database: String,
        /// What is wrong.
        cause: Box<dyn Error + Send + Sync>,
    },
    /// Anything else: a bug or a failing disk.
    #[error("the control database failed: {0}")]
    Failed(sqlx::Error),
}

impl DbError {
    pub(super) fn corrupt(what: &'static str, cause: impl fmt::Display) -> Self {
        Self::Corrupt { what, cause: cause.to_string() }
    }

    /// Why `database` could not be opened.
    pub(super) fn open(database: &ControlDatabase, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let cause = cause.into();
        match cause.downcast::<sqlx::Error>() {
            Ok(cause) => match Self::from(*cause) {
                Self::Failed(cause) => Self::Open { database: database.to_string(), cause: cause.into() },
                error => error,
            },
            Err(cause) => Self::Open { database: database.to_string(), cause },
        }
    }
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        let error = match error {
            sqlx::Error::PoolTimedOut => return Self::Busy,
            sqlx::Error::AnyDriverError(cause) => match cause.downcast::<Unreachable>() {
                Ok(unreachable) => return Self::Unreachable(*unreachable),
                Err(cause) => sqlx::Error::AnyDriverError(cause),
            },
            error => error,
        };
        if let Some(cause) = Unreachable::cause(&error) {
            return Self::Unreachable(Unreachable { server: None, cause });
        }
        let Some(code) = error.as_database_error().and_then(|error| error.code()) else { return Self::Failed(error) };
        match Code::of(&code) {
            // lock_not_available, serialization_failure, deadlock_detected, query_canceled
            Code::Server("55P03" | "40001" | "40P01" | "57014") | Code::File(5) => Self::Busy,
            Code::Server("22021") => Self::NulInText, // what arrives is valid UTF-8, so nothing else can be wrong with it
            Code::Server("53100") | Code::File(13) => Self::DiskFull,
            Code::Server(_) | Code::File(_) => Self::Failed(error),
        }
    }
}

/// A code of one of the two databases.
enum Code<'a> {
    /// Of PostgreSQL: five characters.
    Server(&'a str),
    /// Of SQLite: the kind of error, which is the low byte of its number of up to four digits.
    File(u32),
}

impl<'a> Code<'a> {
    fn of(code: &'a str) -> Self {
        match code.parse::<u32>() {
            Ok(number) if code.len() < 5 => Self::File(number & 0xff),
            _ => Self::Server(code),
        }
    }
}

/// A server that cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach the control database{}: {cause}", .server.as_ref().map(|server| format!(" `{server}`")).unwrap_or_default())]
pub struct Unreachable {
    /// The server, and the database on it; unknown when it broke in the middle of a change.
    pub(super) server: Option<Arc<str>>,
    /// What is wrong.
    pub(super) cause: String,
}

impl Unreachable {
    /// What `error` says about the connection, if it is about that and not about a statement.
    pub(super) fn cause(error: &sqlx::Error) -> Option<String> {
        match error {
            sqlx::Error::Io(cause) => Some(cause.to_string()),
            sqlx::Error::Tls(cause) => Some(format!("no encrypted connection: {cause}")),
            sqlx::Error::Database(error) => {
                let code = error.code()?;
                let Code::Server(code) = Code::of(&code) else { return None };
                // Connections; roles and passwords; an unknown database; too many connections; shutting down and starting.
                let is_about_connection = ["08", "28", "57P"].iter().any(|class| code.starts_with(class));
                (is_about_connection || matches!(code, "3D000" | "53300")).then(|| error.message().to_owned())
            }
            _ => None,
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
