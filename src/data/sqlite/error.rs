//! SQLite's errors, explained to an author.

use crate::{
    data::{
        dialect::shown_table,
        statement::{ErrorDetail, Statement},
    },
    domain::sql::{SqlError, SqlErrorCode},
};

/// Why a connection with `mode=ro` refuses a change.
pub(super) const READ_ONLY: &str = "this connection reads only: its URL says `mode=ro`";

/// The error of a database that cannot be used.
pub(super) fn broken() -> SqlError {
    SqlError::new(SqlErrorCode::Unavailable, "the SQLite database cannot be used")
}

/// The error of a statement; `refusal` is why the jail refused it, if it did. SQLite's messages name tables and columns, never files: attached files are
/// known by their schema. Nor do they show values of rows, but for one.
pub(super) fn error_of(refusal: Option<String>, error: rusqlite::Error, statement: &Statement) -> SqlError {
    explained(refusal, error, statement.purpose.table(), statement.detail)
}

/// The error of a BEGIN or a COMMIT, which compute nothing of rows.
pub(super) fn of_host(refusal: Option<String>, error: rusqlite::Error) -> SqlError {
    explained(refusal, error, None, ErrorDetail::Full)
}

fn explained(
    refusal: Option<String>,
    error: rusqlite::Error,
    table: Option<(Option<&str>, &str)>,
    detail: ErrorDetail,
) -> SqlError {
    use rusqlite::ErrorCode;

    if let Some(reason) = refusal {
        let code = if reason == READ_ONLY { SqlErrorCode::ReadOnly } else { SqlErrorCode::NotAllowed };
        return SqlError::new(code, reason);
    }
    let code = error.sqlite_error_code();
    let message = match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message,
        rusqlite::Error::MultipleStatement => "a `query` may hold one statement".to_owned(),
        other => other.to_string(),
    };
    if let Some((schema, table)) = table
        && message.starts_with("no such table")
    {
        let table = shown_table(schema, table);
        return SqlError::new(SqlErrorCode::UnknownTable, format!("unknown table {table}"));
    }
    if detail == ErrorDetail::WithoutValues && message.starts_with("bad JSON path") {
        return SqlError::new(
            SqlErrorCode::StatementFailed,
            "a value that is used as a JSON path is not one: paths look like `$.name`",
        );
    }
    if code == Some(ErrorCode::DiskFull) {
        let message = "the SQLite file has grown to the size that the host allows, or the host's disk is full";
        return SqlError::new(SqlErrorCode::StatementFailed, message);
    }
    let code = match code {
        Some(ErrorCode::OperationInterrupted) => SqlErrorCode::StatementTimeout,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => SqlErrorCode::Conflict,
        Some(ErrorCode::CannotOpen) => SqlErrorCode::Unavailable,
        Some(ErrorCode::ConstraintViolation) => SqlErrorCode::ConstraintViolated,
        Some(ErrorCode::TooBig) if message == "string or blob too big" => SqlErrorCode::ResultTooLarge,
        Some(ErrorCode::ReadOnly) => SqlErrorCode::ReadOnly,
        Some(ErrorCode::AuthorizationForStatementDenied) => SqlErrorCode::NotAllowed,
        _ if message.starts_with("no such table") => SqlErrorCode::UnknownTable,
        _ if message.starts_with("no such column") || message.contains(" has no column named ") => {
            SqlErrorCode::UnknownColumn
        }
        _ if message.ends_with(" already exists") || message.starts_with("duplicate column name") => {
            SqlErrorCode::AlreadyExists
        }
        _ if message.starts_with("unknown database") => SqlErrorCode::UnknownSchema,
        _ => SqlErrorCode::StatementFailed,
    };
    SqlError::new(code, message)
}
