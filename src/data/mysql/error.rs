//! Errors of MySQL and MariaDB, explained to an author.
//!
//! Owns: error numbers to [`SqlErrorCode`]. Never: lets host, port, user or password into a message, nor values of rows into
//! those for callers who may not reach them.

use std::sync::Arc;

use sqlx::{
    Row as _,
    error::DatabaseError,
    mysql::{MySqlConnection, MySqlDatabaseError},
};

use crate::{
    data::{
        dialect::shown,
        failure::{self, is_broken, shortened},
        mysql::types::Type,
        statement::{ErrorDetail, Statement},
    },
    domain::sql::{SqlError, SqlErrorCode},
};

/// The number of the server's error. <https://mariadb.com/kb/en/mariadb-error-code-reference/>
fn number(error: &sqlx::Error) -> Option<u16> {
    error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>())
        .map(|error| error.number())
}

/// The error of a connection that could not be established.
pub(super) fn of_connecting(error: &sqlx::Error) -> SqlError {
    failure::of_connecting(error, |_| match number(error) {
        Some(1044 | 1045 | 1698 | 3118 | 4151) => Some("the database refused the login of this connection"),
        Some(1049) => Some("the server has no database of the name in this connection"),
        Some(1040 | 1203 | 1226) => Some("the database has no connections left"),
        Some(1053 | 3169) => Some("the database is starting up or shutting down"),
        _ => None,
    })
}

/// Tells whether the session is gone.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    // Shutdown, a broken network, killed, closed for idleness.
    is_broken(error) || matches!(number(error), Some(1053 | 1152 | 1153 | 1158..=1161 | 1184 | 1927 | 3169 | 4031))
}

/// Tells whether there is no schema of a name, or none that the account may see.
pub(super) fn is_unknown_schema(error: &sqlx::Error) -> bool {
    matches!(number(error), Some(1044 | 1049))
}

/// Tells whether there is no session to kill.
pub(super) fn is_unknown_session(error: &sqlx::Error) -> bool {
    number(error) == Some(1094)
}

/// The error of a statement.
pub(super) async fn of_statement(
    connection: &mut MySqlConnection,
    error: &sqlx::Error,
    statement: &Statement,
) -> SqlError {
    let (table, detail) = (statement.purpose.table(), statement.detail);
    if is_lost(error) {
        return failure::lost();
    }
    let (Some(number), Some(database_error)) = (number(error), error.as_database_error()) else {
        return failure::unreadable();
    };
    let message = match detail {
        ErrorDetail::Full => without_accounts(database_error.message()),
        ErrorDetail::WithoutValues => without_values(number, database_error),
    };
    let message = shortened(message);
    match (number, table) {
        (1049 | 1102 | 1103 | 1109 | 1146, Some((schema, table))) => {
            let known = knows_schema(connection, schema);
            failure::missing_table(schema, table, known).await
        }
        (1049 | 1102, None) => SqlError::new(SqlErrorCode::UnknownSchema, message),
        (1103 | 1109 | 1146, None) => SqlError::new(SqlErrorCode::UnknownTable, message),
        (1054 | 1166, _) => SqlError::new(SqlErrorCode::UnknownColumn, message),
        // Duplicate database, table, column, key; the row, the table or the deadline of another.
        (1007 | 1050 | 1060 | 1061, _) => SqlError::new(SqlErrorCode::AlreadyExists, message),
        (1020 | 1205 | 1213, _) => SqlError::new(SqlErrorCode::Conflict, message),
        (1290 | 1792, _) => SqlError::new(SqlErrorCode::ReadOnly, message),
        (1048 | 1062 | 1216 | 1217 | 1364 | 1451 | 1452 | 1586 | 3819 | 4025, _) => {
            SqlError::new(SqlErrorCode::ConstraintViolated, message)
        }
        (1969 | 3024, _) => SqlError::new(SqlErrorCode::StatementTimeout, message),
        // A value that is out of range, cut off, of no such type, too long, or not a shape.
        (1264 | 1265 | 1292 | 1366 | 1367 | 1406 | 1416, Some(_)) => {
            SqlError::new(SqlErrorCode::InvalidArgument, named_column(statement, number, message))
        }
        _ => SqlError::new(SqlErrorCode::StatementFailed, message),
    }
}

/// A message about a value. The server does not say which one is not a shape.
fn named_column(statement: &Statement, number: u16, message: String) -> String {
    let is_shape = |declared: &Option<Arc<str>>| {
        declared.as_ref().is_some_and(|declared| Type::of_declared(declared) == Type::Geometry)
    };
    let mut shapes = statement.template.values.iter().filter(|bound| is_shape(&bound.r#type) && !bound.value.is_null());
    match shapes.next().and_then(|bound| bound.column.as_ref()) {
        Some(column) if number == 1416 => format!("the value of column `{}` is not a shape: {message}", shown(column)),
        Some(_) | None => message,
    }
}

async fn knows_schema(connection: &mut MySqlConnection, schema: Option<&str>) -> Result<bool, sqlx::Error> {
    let known = sqlx::query("SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ?")
        .bind(schema)
        .fetch_one(connection)
        .await?;
    Ok(known.try_get::<i64, _>(0)? > 0)
}

/// The server's message, unless it shows a value.
fn without_values(number: u16, error: &dyn DatabaseError) -> String {
    let state = error.code().unwrap_or_default();
    match number {
        // Duplicate entry '…' for key '…'
        1062 | 1586 => match error.message().rsplit_once(" for key ") {
            Some((_, key)) => format!("Duplicate entry for key {key}"),
            None => "Duplicate entry for a key".to_owned(),
        },
        // Incorrect integer value: '…' for column; truncated incorrect DOUBLE value: '…'; and their like.
        1292 | 1366 | 1411 | 1525 => failure::unfit_value(&state),
        _ if state.starts_with("22") => failure::unfit_value(&state),
        _ => without_accounts(error.message()),
    }
}

/// Replaces accounts (`'user'@'host'`), which servers put into messages about missing rights.
fn without_accounts(message: &str) -> String {
    let mut rest = message;
    let mut shown = String::new();
    while let Some((at, quote)) = ["'@'", "`@`"].iter().filter_map(|mark| Some((rest.find(mark)?, &mark[..1]))).min() {
        let begin = rest[..at].rfind(quote).unwrap_or(0);
        let host = at + 3;
        let end = rest[host..].find(quote).map_or(rest.len(), |length| host + length + 1);
        shown.push_str(&rest[..begin]);
        shown.push_str("of this connection");
        rest = &rest[end..];
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_no_accounts() {
        for (message, shown) in [
            (
                "SELECT command denied to user 'bob'@'10.0.0.1' for table `a`.`b`",
                "SELECT command denied to user of this connection for table `a`.`b`",
            ),
            (
                "Access denied for user `b``ob`@`%` (`x`@`y",
                "Access denied for user `b`of this connection (of this connection",
            ),
            ("Table 'a.b' doesn't exist", "Table 'a.b' doesn't exist"),
            ("'@'", "of this connection"),
        ] {
            assert_eq!(without_accounts(message), shown);
        }
    }
}
