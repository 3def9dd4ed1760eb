//! PostgreSQL's errors, explained to an author.
//!
//! Owns: SQLSTATE to [`SqlErrorCode`]. Never: lets host, port, user or password into a message, nor values of rows into those
//! for callers who may not reach them.

use sqlx::{
    Row as _,
    postgres::{PgConnection, PgDatabaseError},
};

use crate::{
    data::{
        failure::{self, is_broken, shortened},
        statement::{ErrorDetail, Statement},
    },
    domain::sql::{SqlError, SqlErrorCode},
};

/// The error of a connection that could not be established.
pub(super) fn of_connecting(error: &sqlx::Error) -> SqlError {
    failure::of_connecting(error, |error| match error.code().as_deref() {
        Some("28P01" | "28000") => Some("the database refused the login of this connection"),
        Some("3D000") => Some("the server has no database of the name in this connection"),
        Some("53300") => Some("the database has no connections left"),
        Some("57P03") => Some("the database is starting up or shutting down"),
        _ => None,
    })
}

/// Tells whether the session is gone.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    // 57P0x: terminated by an administrator, a crash or a shutdown. 08: connection exceptions.
    let code = error.as_database_error().and_then(|error| error.code());
    is_broken(error) || code.is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
}

/// Tells whether a prepared statement no longer fits its table.
pub(super) fn is_stale_plan(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| {
        error.code().as_deref() == Some("0A000") && error.message().contains("cached plan must not change result type")
    })
}

/// Tells whether the reason may be that the server could not read or keep a value.
pub(super) fn is_of_value(error: &sqlx::Error) -> bool {
    // What has a name is not there; the text of a type has another syntax; a name is too long. Extensions know no codes.
    const OF_TEXTS: [&str; 8] = ["42P01", "3F000", "42704", "42883", "42601", "42602", "42622", "XX000"];
    let Some(error) = error.as_database_error() else { return false };
    let code = error.code().unwrap_or_default();
    let is_of_domain = code == "23514" && error.table().is_none();
    code.starts_with("22") || OF_TEXTS.contains(&&*code) || is_of_domain
}

/// The error of a statement.
pub(super) async fn of_statement(
    connection: &mut PgConnection,
    error: &sqlx::Error,
    statement: &Statement,
) -> SqlError {
    let (table, detail) = (statement.purpose.table(), statement.detail);
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
        return failure::lost();
    }
    let sqlx::Error::Database(error) = error else {
        return failure::unreadable();
    };
    let error = error.downcast_ref::<PgDatabaseError>();
    match (error.code(), table) {
        ("42P01", Some((schema, table))) => {
            let known = knows_schema(connection, schema);
            failure::missing_table(schema, table, known).await
        }
        ("42P01", None) => SqlError::new(SqlErrorCode::UnknownTable, message_of(error, detail)),
        ("3F000", _) => SqlError::new(SqlErrorCode::UnknownSchema, message_of(error, detail)),
        ("42703", _) => SqlError::new(SqlErrorCode::UnknownColumn, message_of(error, detail)),
        ("57014", _) => SqlError::new(SqlErrorCode::StatementTimeout, message_of(error, detail)),
        // Deadlock, serialization failure, lock not available.
        ("40P01" | "40001" | "55P03", _) => SqlError::new(SqlErrorCode::Conflict, message_of(error, detail)),
        ("25006", _) => SqlError::new(SqlErrorCode::ReadOnly, message_of(error, detail)),
        // Duplicate table (or view, index), schema, column, type: a table has one of its name.
        ("42P07" | "42P06" | "42701" | "42710", _) => {
            SqlError::new(SqlErrorCode::AlreadyExists, message_of(error, detail))
        }
        // Somebody else creates the same at the same moment, which the catalogue's own index notices first.
        ("23505", _) if error.schema() == Some("pg_catalog") => {
            SqlError::new(SqlErrorCode::AlreadyExists, message_of(error, detail))
        }
        (code, _) if code.starts_with("23") => {
            SqlError::new(SqlErrorCode::ConstraintViolated, message_of(error, detail))
        }
        _ => SqlError::new(SqlErrorCode::StatementFailed, message_of(error, detail)),
    }
}

async fn knows_schema(connection: &mut PgConnection, schema: Option<&str>) -> Result<bool, sqlx::Error> {
    let known = sqlx::query("SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)")
        .bind(schema)
        .fetch_one(connection)
        .await?;
    known.try_get(0)
}

fn message_of(error: &PgDatabaseError, detail: ErrorDetail) -> String {
    match detail {
        ErrorDetail::Full => {}
        // What cannot be converted, divided or kept is in the message itself.
        ErrorDetail::WithoutValues if error.code().starts_with("22") => return failure::unfit_value(error.code()),
        // The message names a constraint, and DETAIL the rows that are in the way.
        ErrorDetail::WithoutValues => return shortened(error.message().to_owned()),
    }
    let mut message = error.message().to_owned();
    for (label, text) in [("DETAIL", error.detail()), ("HINT", error.hint())] {
        if let Some(text) = text {
            message.push('\n');
            message.push_str(label);
            message.push_str(":  ");
            message.push_str(text);
        }
    }
    shortened(message)
}
