//! The words of SQL in which the databases differ.
//!
//! Owns: quoting of names, how long they may be, and what a placeholder looks like. Never: writes a statement.
//! Invariant: nothing of a script's arguments reaches SQL text unquoted but an author's own statement.

use std::fmt::Write as _;

use crate::domain::{
    names::ConnectionName,
    sql::{SqlError, SqlErrorCode},
};

/// Most values of one statement: the highest number that the protocols of PostgreSQL and MySQL can count.
pub(crate) const VALUES_MAX: usize = 65_535;

/// The database whose SQL is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    MySql,
    Postgres,
    Sqlite,
}

impl Dialect {
    /// The name of the dialect, as scripts and operators read it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::MySql => "mysql",
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
        }
    }

    /// Most values of one statement.
    pub(crate) fn values_max(self) -> usize {
        match self {
            Self::MySql | Self::Postgres => VALUES_MAX,
            // SQLITE_MAX_VARIABLE_NUMBER
            Self::Sqlite => 32_766,
        }
    }

    /// Why a database would not keep a name as it is, if so: PostgreSQL cuts names, and MySQL's error does not name the argument.
    fn problem_of(self, name: &str) -> Option<String> {
        // SQLite has no limit; a longer name is a mistake.
        let (length, max, unit) = match self {
            Self::Postgres => (name.len(), 63, "bytes"),
            Self::MySql => (name.chars().count(), 64, "characters"),
            Self::Sqlite => (name.len(), 255, "bytes"),
        };
        if name.is_empty() {
            Some("is empty".to_owned())
        } else if length > max {
            Some(format!("is longer than {max} {unit}, which is the most that {} keeps", self.product()))
        } else if name.contains('\0') {
            Some("contains a NUL character".to_owned())
        } else {
            None
        }
    }

    fn product(self) -> &'static str {
        match self {
            Self::MySql => "MySQL",
            Self::Postgres => "PostgreSQL",
            Self::Sqlite => "pqhost for SQLite",
        }
    }

    /// Tells whether two names of columns are the same to the database.
    pub(crate) fn is_same_column(self, one: &str, other: &str) -> bool {
        match self {
            Self::Postgres => one == other,
            Self::MySql => one == other || one.to_lowercase() == other.to_lowercase(),
            Self::Sqlite => one.eq_ignore_ascii_case(other),
        }
    }

    /// A name as SQL, quoted. `argument` is what the script calls it.
    pub(crate) fn quoted(self, argument: &str, name: &str) -> Result<String, SqlError> {
        match self.problem_of(name) {
            Some(problem) => Err(invalid(format!("`{argument}`: name `{}` {problem}", shown(name)))),
            None => Ok(match self {
                Self::MySql => backticked(name),
                Self::Postgres | Self::Sqlite => format!("\"{}\"", name.replace('"', "\"\"")),
            }),
        }
    }

    /// The name of a table as SQL, with its schema if one is given.
    pub(crate) fn quoted_table(self, schema: Option<&str>, table: &str) -> Result<String, SqlError> {
        let table = self.quoted("table", table)?;
        match schema {
            Some(schema) => Ok(format!("{}.{table}", self.quoted("schema", schema)?)),
            None => Ok(table),
        }
    }

    /// A column of the one source `t0`, and nothing else if it has none of this name: a lone `"name"` is a text for SQLite then, and
    /// `t0."name"` a call of a function for PostgreSQL, to which a lone `"t0"` is a whole row.
    pub(crate) fn column_of_source(self, argument: &str, name: &str) -> Result<String, SqlError> {
        let quoted = self.quoted(argument, name)?;
        Ok(match self {
            Self::Postgres if name != "t0" => quoted,
            Self::Postgres | Self::MySql | Self::Sqlite => format!("t0.{quoted}"),
        })
    }

    /// The number behind `LIMIT` that means all rows, where OFFSET is known only after LIMIT.
    pub(crate) fn no_limit(self) -> Option<&'static str> {
        match self {
            Self::MySql => Some("18446744073709551615"),
            Self::Sqlite => Some("-1"),
            Self::Postgres => None,
        }
    }
}

/// An identifier as MySQL quotes it.
pub(crate) fn backticked(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// The name of a table as an error shows it.
pub(crate) fn shown_table(schema: Option<&str>, table: &str) -> String {
    let schema = schema.map_or_else(String::new, |schema| format!("{}.", shown(schema)));
    format!("`{schema}{}`", shown(table))
}

/// A text from a script as an error may show it: its beginning, with control characters escaped.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (nth, character) in text.chars().enumerate() {
        if nth == 80 {
            shown.push('…');
            break;
        }
        // A quote is no danger here and reads better as it is.
        if character == '"' || character == '\'' {
            shown.push(character);
        } else {
            _ = write!(shown, "{}", character.escape_debug()); // writing to a String cannot fail
        }
    }
    shown
}

/// The error for an argument of the wrong form.
pub(crate) fn invalid(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlErrorCode::InvalidArgument, message)
}

/// Checks the name of the database that a script gave against those by which it may call this one.
pub(crate) fn check_database(given: &str, connection: &ConnectionName, real: &str) -> Result<(), SqlError> {
    if given.is_empty() || given == connection.as_str() || given == real {
        return Ok(());
    }
    Err(SqlError::new(
        SqlErrorCode::UnknownDatabase,
        format!("unknown database `{}`: connection `{connection}` has one database", shown(given)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_has_three_names() {
        let name: ConnectionName = "dw_2".parse().unwrap();
        for good in ["", "dw_2", "warehouse"] {
            check_database(good, &name, "warehouse").unwrap();
        }
        let error = check_database("other\n", &name, "warehouse").unwrap_err();
        assert_eq!(error.code, SqlErrorCode::UnknownDatabase);
        assert_eq!(error.message, "unknown database `other\\n`: connection `dw_2` has one database");
    }

    #[test]
    fn names_that_a_database_would_cut_are_refused() {
        for (dialect, name, is_kept) in [
            (Dialect::Postgres, "p".repeat(63), true),
            (Dialect::Postgres, "p".repeat(64), false),
            (Dialect::Postgres, "é".repeat(32), false),
            (Dialect::MySql, "é".repeat(64), true),
            (Dialect::MySql, "p".repeat(65), false),
            (Dialect::Sqlite, "p".repeat(255), true),
            (Dialect::Sqlite, "p".repeat(256), false),
            (Dialect::Sqlite, String::new(), false),
            (Dialect::MySql, "a\0b".to_owned(), false),
        ] {
            let quoted = dialect.quoted("column", &name);
            assert_eq!(quoted.is_ok(), is_kept, "{dialect:?} {name}: {quoted:?}");
        }
        let error = Dialect::Postgres.quoted("column", &"p".repeat(66)).unwrap_err();
        let expected = format!(
            "`column`: name `{}` is longer than 63 bytes, which is the most that PostgreSQL keeps",
            "p".repeat(66)
        );
        assert_eq!(error.message, expected);
    }
}
