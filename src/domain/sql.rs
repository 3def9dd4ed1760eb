//! What a script may ask of a database, and what it may be told.

use serde_json::{Map, Value};

/// One `fetch`: a table read or a statement, never both.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Select {
    /// Database name; empty or the connection's own name means its default.
    pub database: String,
    /// Schema of `table`; the database's default when absent.
    pub schema: Option<String>,
    /// Table or view to read.
    pub table: Option<String>,
    /// Statement in the database's own dialect.
    pub query: Option<String>,
    /// Values for the statement's placeholders.
    pub params: Params,
    /// Column to value: equality, an array means any of, null means IS NULL. Table form only.
    pub filter: Map<String, Value>,
    /// Column names, a leading `-` for descending. Table form only.
    pub order_by: Vec<String>,
    /// At most this many rows.
    pub limit: Option<u64>,
    /// Skip this many rows first.
    pub offset: Option<u64>,
    /// Give numeric columns as exact decimals instead of floats.
    pub decimals: bool,
}

/// Values for placeholders.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Params {
    /// None given: the statement's text is used exactly as it stands.
    #[default]
    None,
    /// For `%s`, `?` and `$1`.
    Positional(Vec<Value>),
    /// For `:name`.
    Named(Map<String, Value>),
}

/// How a column's JSON values are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// As JSON gives them.
    Plain,
    /// A string with an exact decimal; only with [`Select::decimals`].
    Decimal,
    /// ISO 8601 date.
    Date,
    /// ISO 8601 time of day.
    Time,
    /// ISO 8601 date and time without zone.
    Timestamp,
    /// ISO 8601 date and time with offset.
    TimestampTz,
}

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// As the database names it.
    pub name: String,
    /// How to read its values.
    pub kind: ColumnKind,
}

/// Why a statement gave no rows, named for what the author can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SqlErrorCode {
    /// No connection of this name.
    UnknownConnection,
    /// No such database behind the connection.
    UnknownDatabase,
    /// No such schema.
    UnknownSchema,
    /// No such table or view.
    UnknownTable,
    /// No such column.
    UnknownColumn,
    /// An argument is missing, contradictory or of the wrong form.
    InvalidArgument,
    /// The database refused the statement; the message is its own.
    StatementFailed,
    /// The statement does what scripts may not.
    NotAllowed,
    /// A column has a type that cannot be returned.
    UnsupportedType,
    /// The statement ran longer than it may.
    StatementTimeout,
    /// More rows or bytes than may enter the guest or be streamed.
    ResultTooLarge,
    /// More statements than one invocation may run.
    TooManyStatements,
    /// The database cannot be reached, or all its connections are in use.
    Unavailable,
}

/// An error of a statement, in words that its author may read.
///
/// `message` never holds credentials, addresses, or anything of another tenant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SqlError {
    /// What kind of error.
    pub code: SqlErrorCode,
    /// One sentence, or the database's own message.
    pub message: String,
}

impl SqlError {
    /// An error with its message.
    pub fn new(code: SqlErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}
