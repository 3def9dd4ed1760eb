//! What PostgreSQL's errors mean to an author.
//!
//! Owns: SQLSTATE to [`SqlErrorCode`]. Never: lets host, port, user or password into a message.

use sqlx::{
    Row as _,
    postgres::{PgConnection, PgDatabaseError},
};

use crate::{
    data::select::{Form, shown},
    domain::sql::{SqlError, SqlErrorCode},
};

/// Longest message taken from a server, in bytes: some repeat the value they complain about.
const MESSAGE_BYTES_MAX: usize = 4096;

/// The error of a connection that could not be established. Servers' own messages name users and databases, so they
/// are not repeated.
pub(super) fn of_connecting(error: &sqlx::Error) -> SqlError {
    let message = match error {
        sqlx::Error::Database(error) => match error.code().as_deref() {
            Some("28P01" | "28000") => "the database refused the login of this connection",
            Some("3D000") => "the server has no database of the name in this connection",
            Some("53300") => "the database has no connections left",
            Some("57P03") => "the database is starting up or shutting down",
            _ => "the database refused the connection",
        },
        sqlx::Error::Tls(_) => "no encrypted connection to the database could be established",
        sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            "the database cannot be reached: connection refused"
        }
        _ => "the database cannot be reached",
    };
    SqlError::new(SqlErrorCode::Unavailable, message)
}

/// Whether the session is gone.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => {
            // 57P0x: terminated by an administrator, a crash or a shutdown. 08: connection exceptions.
            error.code().is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
        }
        _ => false,
    }
}

/// Whether a prepared statement no longer fits its table.
pub(super) fn is_stale_plan(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| {
        error.code().as_deref() == Some("0A000") && error.message().contains("cached plan must not change result type")
    })
}

/// The error of a statement.
pub(super) async fn of_statement(connection: &mut PgConnection, error: &sqlx::Error, form: &Form) -> SqlError {
    if matches!(error, sqlx::Error::Protocol(_)) {
        let message = "the database's answer could not be read; COPY is not possible in a `query`";
        return SqlError::new(SqlErrorCode::StatementFailed, message);
    }
    if let sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) = error {
        // sqlx reads the catalogue's entries for types it does not know, and does not understand those of multiranges.
        let message = "a column has a type that cannot be returned, perhaps a multirange: select it as `column::text`";
        return SqlError::new(SqlErrorCode::UnsupportedType, message);
    }
    if is_lost(error) {
        return SqlError::new(SqlErrorCode::Unavailable, "the connection to the database was lost");
    }
    let sqlx::Error::Database(error) = error else {
        return SqlError::new(SqlErrorCode::StatementFailed, "the database's answer could not be read");
    };
    let error = error.downcast_ref::<PgDatabaseError>();
    match (error.code(), form) {
        ("42P01", Form::Table { schema, table } | Form::Change { schema, table }) => {
            of_missing_table(connection, schema.as_deref(), table).await
        }
        ("42P01", Form::Query { .. }) => SqlError::new(SqlErrorCode::UnknownTable, message_of(error)),
        ("3F000", _) => SqlError::new(SqlErrorCode::UnknownSchema, message_of(error)),
        ("42703", _) => SqlError::new(SqlErrorCode::UnknownColumn, message_of(error)),
        ("57014", _) => SqlError::new(SqlErrorCode::StatementTimeout, message_of(error)),
        // Deadlock, serialization failure, lock not available.
        ("40P01" | "40001" | "55P03", _) => SqlError::new(SqlErrorCode::Conflict, message_of(error)),
        ("25006", _) => SqlError::new(SqlErrorCode::ReadOnly, message_of(error)),
        // Duplicate table (or view, index), schema, column.
        ("42P07" | "42P06" | "42701", _) => SqlError::new(SqlErrorCode::AlreadyExists, message_of(error)),
        (code, _) if code.starts_with("23") => SqlError::new(SqlErrorCode::ConstraintViolated, message_of(error)),
        _ => SqlError::new(SqlErrorCode::StatementFailed, message_of(error)),
    }
}

/// PostgreSQL says "relation does not exist" for a missing schema too, so ask which it is.
async fn of_missing_table(connection: &mut PgConnection, schema: Option<&str>, table: &str) -> SqlError {
    let Some(schema) = schema else {
        return SqlError::new(SqlErrorCode::UnknownTable, format!("unknown table `{}`", shown(table)));
    };
    let known = sqlx::query("SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)")
        .bind(schema)
        .fetch_one(connection)
        .await
        .and_then(|row| row.try_get::<bool, _>(0));
    // If even this fails, the error about the table is still the right one.
    if known.unwrap_or(true) {
        let message = format!("unknown table `{}.{}`", shown(schema), shown(table));
        return SqlError::new(SqlErrorCode::UnknownTable, message);
    }
    SqlError::new(SqlErrorCode::UnknownSchema, format!("unknown schema `{}`", shown(schema)))
}

fn message_of(error: &PgDatabaseError) -> String {
    let mut message = error.message().to_owned();
    for (label, text) in [("DETAIL", error.detail()), ("HINT", error.hint())] {
        if let Some(text) = text {
            message.push('\n');
            message.push_str(label);
            message.push_str(":  ");
            message.push_str(text);
        }
    }
    if message.len() > MESSAGE_BYTES_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        message.push('…');
    }
    message
}
