//! Why statements fail.
//!
//! Owns: the kinds of failures, and the words for what PostgreSQL's and MySQL's servers both report. Never: knows one server's
//! error codes.

use std::{future::Future, time::Duration};

use sqlx::error::DatabaseError;

use crate::{
    data::{
        cursor,
        dialect::{shown, shown_table},
    },
    domain::{
        limits::SqlLimits,
        sql::{SqlError, SqlErrorCode},
    },
};

/// Rows that are read and thrown away after `limit`, to spare a session that is nearly done.
pub(crate) const DRAINED_ROWS_MAX: u64 = 1000;
/// Longest message taken from a server, in bytes: some repeat the value they complain about.
const MESSAGE_BYTES_MAX: usize = 4096;

/// Why a statement did not come to its end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A server's error, still in its own words.
    Database(sqlx::Error),
    /// The database's error, in words for the author.
    Reported(SqlError),
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

/// The limit that the server is told: the longest any reader may take, because a slow caller of a stream holds up its statement.
/// The shorter limits are enforced here.
pub(crate) fn server_limit(limits: &SqlLimits) -> Duration {
    limits.statement_time + limits.stream_time
}

/// Tells whether the connection itself failed.
pub(crate) fn is_broken(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed)
}

/// The error of a connection that could not be established. Servers' own messages name users, hosts and databases, so
/// they are not repeated: `refused` gives the words for a server's refusal.
pub(crate) fn of_connecting(
    error: &sqlx::Error,
    refused: impl FnOnce(&dyn DatabaseError) -> Option<&'static str>,
) -> SqlError {
    let message = match error {
        sqlx::Error::Database(error) => refused(&**error).unwrap_or("the database refused the connection"),
        sqlx::Error::Tls(_) => "no encrypted connection to the database could be established",
        // sqlx has no RSA here, which a login to MySQL that is not encrypted may need.
        sqlx::Error::Configuration(_) => {
            "the server wants an encrypted connection for this login: use `sslmode=require`"
        }
        sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            "the database cannot be reached: connection refused"
        }
        _ => "the database cannot be reached",
    };
    SqlError::new(SqlErrorCode::Unavailable, message)
}

/// The error of a statement whose session is gone.
pub(crate) fn lost() -> SqlError {
    SqlError::new(SqlErrorCode::Unavailable, "the connection to the database was lost")
}

/// The error of a statement whose answer is none that sqlx knows.
pub(crate) fn unreadable() -> SqlError {
    SqlError::new(SqlErrorCode::StatementFailed, "the database's answer could not be read")
}

/// The words for a value that something cannot take, to whom it may not be shown: it may be of any row that the database
/// looked at.
pub(crate) fn unfit_value(code: &str) -> String {
    format!("a value is not one that a column or an expression can take (SQLSTATE {code})")
}

/// The error about a table that does not exist. Servers say the same if its schema does not exist either, so
/// `knows_schema` asks which it is.
pub(crate) async fn missing_table(
    schema: Option<&str>,
    table: &str,
    knows_schema: impl Future<Output = Result<bool, sqlx::Error>>,
) -> SqlError {
    match schema {
        // If even asking fails, the error about the table is still the right one.
        Some(schema) if !knows_schema.await.unwrap_or(true) => {
            SqlError::new(SqlErrorCode::UnknownSchema, format!("unknown schema `{}`", shown(schema)))
        }
        Some(_) | None => {
            SqlError::new(SqlErrorCode::UnknownTable, format!("unknown table {}", shown_table(schema, table)))
        }
    }
}

/// A server's message, cut to a length that fits into an answer.
pub(crate) fn shortened(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_between_two_characters() {
        assert_eq!(shortened("short".to_owned()), "short");
        let cut = shortened("é".repeat(5000));
        assert_eq!(cut.chars().count(), MESSAGE_BYTES_MAX / 2 + 1);
        assert!(cut.ends_with("é…"));
    }
}
