//! What PostgreSQL's errors mean to an author.
//!
//! Owns: SQLSTATE to [`SqlErrorCode`]. Never: lets host, port, user or password into a message, nor values of rows into those
//! for callers who may not reach them.

use sqlx::{
    Row as _,
    postgres::{PgConnection, PgDatabaseError},
};

use crate::{
    data::{
        select::{Form, Told},
        server::{self, is_broken, shortened},
    },
    domain::sql::{SqlError, SqlErrorCode},
};

/// The error of a connection that could not be established.
pub(super) fn of_connecting(error: &sqlx::Error) -> SqlError {
    server::of_connecting(error, |error| match error.code().as_deref() {
        Some("28P01" | "28000") => Some("the database refused the login of this connection"),
        Some("3D000") => Some("the server has no database of the name in this connection"),
        Some("53300") => Some("the database has no connections left"),
        Some("57P03") => Some("the database is starting up or shutting down"),
        _ => None,
    })
}

/// Whether the session is gone.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    // 57P0x: terminated by an administrator, a crash or a shutdown. 08: connection exceptions.
    let code = error.as_database_error().and_then(|error| error.code());
    is_broken(error) || code.is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
}

/// Whether a prepared statement no longer fits its table.
pub(super) fn is_stale_plan(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| {
        error.code().as_deref() == Some("0A000") && error.message().contains("cached plan must not change result type")
    })
}

/// The error of a statement.
pub(super) async fn of_statement(
    connection: &mut PgConnection,
    error: &sqlx::Error,
    form: &Form,
    told: Told,
) -> SqlError {
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
        return server::lost();
    }
    let sqlx::Error::Database(error) = error else {
        return server::unreadable();
    };
    let error = error.downcast_ref::<PgDatabaseError>();
    match (error.code(), form) {
        ("42P01", Form::Table { schema, table } | Form::Change { schema, table }) => {
            let known = knows_schema(connection, schema.as_deref());
            server::missing_table(schema.as_deref(), table, known).await
        }
        ("42P01", Form::Query { .. }) => SqlError::new(SqlErrorCode::UnknownTable, message_of(error, told)),
        ("3F000", _) => SqlError::new(SqlErrorCode::UnknownSchema, message_of(error, told)),
        ("42703", _) => SqlError::new(SqlErrorCode::UnknownColumn, message_of(error, told)),
        ("57014", _) => SqlError::new(SqlErrorCode::StatementTimeout, message_of(error, told)),
        // Deadlock, serialization failure, lock not available.
        ("40P01" | "40001" | "55P03", _) => SqlError::new(SqlErrorCode::Conflict, message_of(error, told)),
        ("25006", _) => SqlError::new(SqlErrorCode::ReadOnly, message_of(error, told)),
        // Duplicate table (or view, index), schema, column, type: a table has one of its name.
        ("42P07" | "42P06" | "42701" | "42710", _) => {
            SqlError::new(SqlErrorCode::AlreadyExists, message_of(error, told))
        }
        // Somebody else creates the same at the same moment, which the catalogue's own index notices first.
        ("23505", _) if error.schema() == Some("pg_catalog") => {
            SqlError::new(SqlErrorCode::AlreadyExists, message_of(error, told))
        }
        (code, _) if code.starts_with("23") => SqlError::new(SqlErrorCode::ConstraintViolated, message_of(error, told)),
        _ => SqlError::new(SqlErrorCode::StatementFailed, message_of(error, told)),
    }
}

async fn knows_schema(connection: &mut PgConnection, schema: Option<&str>) -> Result<bool, sqlx::Error> {
    let known = sqlx::query("SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)")
        .bind(schema)
        .fetch_one(connection)
        .await?;
    known.try_get(0)
}

fn message_of(error: &PgDatabaseError, told: Told) -> String {
    match told {
        Told::All => {}
        // What cannot be converted, divided or kept is in the message itself.
        Told::WithoutValues if error.code().starts_with("22") => return server::unfit_value(error.code()),
        // The message names a constraint, and DETAIL the rows that are in the way.
        Told::WithoutValues => return shortened(error.message().to_owned()),
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
