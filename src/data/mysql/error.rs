//! What errors of MySQL and MariaDB mean to an author.
//!
//! Owns: error numbers to [`SqlErrorCode`]. Never: lets host, port, user or password into a message.

use sqlx::{
    Row as _,
    mysql::{MySqlConnection, MySqlDatabaseError},
};

use crate::{
    data::select::{Form, shown},
    domain::sql::{SqlError, SqlErrorCode},
};

/// Longest message taken from a server, in bytes: some repeat the value they complain about.
const MESSAGE_BYTES_MAX: usize = 4096;

/// The number of the server's error. <https://mariadb.com/kb/en/mariadb-error-code-reference/>
fn number(error: &sqlx::Error) -> Option<u16> {
    error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>())
        .map(|error| error.number())
}

/// The error of a connection that could not be established. Servers' own messages name users and hosts, so they are
/// not repeated.
pub(super) fn of_connecting(error: &sqlx::Error) -> SqlError {
    let message = match error {
        sqlx::Error::Database(_) => match number(error) {
            Some(1044 | 1045 | 1698 | 3118 | 4151) => "the database refused the login of this connection",
            Some(1049) => "the server has no database of the name in this connection",
            Some(1040 | 1203 | 1226) => "the database has no connections left",
            Some(1053 | 3169) => "the database is starting up or shutting down",
            _ => "the database refused the connection",
        },
        sqlx::Error::Tls(_) => "no encrypted connection to the database could be established",
        // sqlx has no RSA here, which a login that is not encrypted may need.
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

/// Whether the session is gone.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
        // Shutdown, a broken network, killed, closed for idleness.
        sqlx::Error::Database(_) => {
            matches!(number(error), Some(1053 | 1152 | 1153 | 1158..=1161 | 1184 | 1927 | 3169 | 4031))
        }
        _ => false,
    }
}

/// Whether there is no session to kill.
pub(super) fn is_unknown_session(error: &sqlx::Error) -> bool {
    number(error) == Some(1094)
}

/// The error of a statement.
pub(super) async fn of_statement(connection: &mut MySqlConnection, error: &sqlx::Error, form: &Form) -> SqlError {
    if is_lost(error) {
        return SqlError::new(SqlErrorCode::Unavailable, "the connection to the database was lost");
    }
    let (Some(number), Some(database_error)) = (number(error), error.as_database_error()) else {
        return SqlError::new(SqlErrorCode::StatementFailed, "the database's answer could not be read");
    };
    let message = message_of(database_error.message());
    match (number, form) {
        (1049 | 1102 | 1103 | 1109 | 1146, Form::Table { schema, table } | Form::Change { schema, table }) => {
            of_missing_table(connection, schema.as_deref(), table).await
        }
        (1049 | 1102, Form::Query { .. }) => SqlError::new(SqlErrorCode::UnknownSchema, message),
        (1103 | 1109 | 1146, Form::Query { .. }) => SqlError::new(SqlErrorCode::UnknownTable, message),
        (1054 | 1166, _) => SqlError::new(SqlErrorCode::UnknownColumn, message),
        // Duplicate database, table, column, key; the row, the table or the deadline of another.
        (1007 | 1050 | 1060 | 1061, _) => SqlError::new(SqlErrorCode::AlreadyExists, message),
        (1020 | 1205 | 1213, _) => SqlError::new(SqlErrorCode::Conflict, message),
        (1290 | 1792, _) => SqlError::new(SqlErrorCode::ReadOnly, message),
        (1048 | 1062 | 1216 | 1217 | 1364 | 1451 | 1452 | 1586 | 3819 | 4025, _) => {
            SqlError::new(SqlErrorCode::ConstraintViolated, message)
        }
        (1969 | 3024, _) => SqlError::new(SqlErrorCode::StatementTimeout, message),
        _ => SqlError::new(SqlErrorCode::StatementFailed, message),
    }
}

/// MariaDB says that the table does not exist if its database does not either, so ask which it is.
async fn of_missing_table(connection: &mut MySqlConnection, schema: Option<&str>, table: &str) -> SqlError {
    let Some(schema) = schema else {
        return SqlError::new(SqlErrorCode::UnknownTable, format!("unknown table `{}`", shown(table)));
    };
    let known = sqlx::query("SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ?")
        .bind(schema)
        .fetch_one(connection)
        .await
        .and_then(|row| row.try_get::<i64, _>(0));
    // If even this fails, the error about the table is still the right one.
    if known.unwrap_or(1) > 0 {
        let message = format!("unknown table `{}.{}`", shown(schema), shown(table));
        return SqlError::new(SqlErrorCode::UnknownTable, message);
    }
    SqlError::new(SqlErrorCode::UnknownSchema, format!("unknown schema `{}`", shown(schema)))
}

fn message_of(message: &str) -> String {
    let mut message = without_accounts(message);
    if message.len() > MESSAGE_BYTES_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        message.push('…');
    }
    message
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
        assert!(message_of(&"é".repeat(5000)).len() < MESSAGE_BYTES_MAX + 8);
    }
}
