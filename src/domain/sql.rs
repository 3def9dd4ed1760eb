//! What a script may ask of a database, and what it may be told.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::domain::value::{Record, SqlValue};

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
    /// Column to value: equality, a list means any of, NULL means IS NULL. Table form only.
    pub filter: Record,
    /// Column names, a leading `-` for descending. Table form only.
    pub order_by: Vec<String>,
    /// At most this many rows.
    pub limit: Option<u64>,
    /// Skip this many rows first.
    pub offset: Option<u64>,
    /// Give numeric columns as exact decimals instead of floats.
    pub decimals: bool,
    /// Give rows as lists of values instead of objects.
    pub lists: bool,
    /// The script reads the rows batch by batch, so the limits are those of a stream.
    pub stream: bool,
}

/// Values for placeholders.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Params {
    /// None given: the statement's text is used exactly as it stands.
    #[default]
    None,
    /// For `%s`, `?` and `$1`.
    Positional(Vec<SqlValue>),
    /// For `:name`.
    Named(Record),
}

/// A table of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableName {
    /// Database name; empty or the connection's own name means its default.
    pub database: String,
    /// Schema; the database's default when absent.
    pub schema: Option<String>,
    /// Name of the table.
    pub table: String,
}

/// A change of rows of one table.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Which table.
    pub table: TableName,
    /// What to do.
    pub action: Action,
}

/// The primary key of one row.
#[derive(Debug, Clone, PartialEq)]
pub enum RowKey {
    /// The value of its only column.
    Value(SqlValue),
    /// The values of all its columns.
    Columns(Record),
}

/// The action of a [`Change`].
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Adds rows, in one statement.
    Insert {
        /// Column to value.
        rows: Vec<Record>,
    },
    /// Changes the named columns of one row.
    Update {
        /// Which row.
        key: RowKey,
        /// Column to value.
        values: Record,
    },
    /// As `Update`, or adds the row if there is none.
    Upsert {
        /// Which row.
        key: RowKey,
        /// Column to value.
        values: Record,
    },
    /// Removes one row.
    Delete {
        /// Which row.
        key: RowKey,
    },
}

/// Records to be kept in a table that is made to fit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TableWrite {
    /// Which table; its schema, itself and its columns are created where they are missing.
    pub table: TableName,
    /// Column to value; objects and lists are kept as JSON.
    pub records: Vec<Record>,
    /// Types of columns, as a JSON schema or as column to type; what it does not name is inferred.
    pub types: Map<String, Value>,
    /// Columns of the primary key; empty: those that the table has.
    pub key: Vec<String>,
}

/// A table to be created.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NewTable {
    /// Where, and its name.
    pub table: TableName,
    /// Column names and types, in order.
    pub fields: Vec<(String, String)>,
    /// Columns of the primary key.
    pub key: Vec<String>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct TableColumn {
    /// Its name.
    pub name: String,
    /// Its type, in the database's words.
    pub data_type: Arc<str>,
    /// JSON schema of its values, as callers get them.
    pub schema: Value,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// Whether the database alone writes it.
    pub generated: bool,
    /// Its place in the primary key from 1; 0 when it is no part of it.
    pub key_position: i64,
}

/// The form in which rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowFormat {
    /// A list of dicts, as Python's module `marshal` reads it.
    Marshal,
    /// A JSON array of objects, with the tokens `NaN`, `Infinity` and `-Infinity` where they occur.
    Json,
}

/// The reading of a column's values, beyond what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// As they are.
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
    /// No row has this primary key.
    UnknownRow,
    /// What is to be created is there.
    AlreadyExists,
    /// An argument is missing, contradictory or of the wrong form.
    InvalidArgument,
    /// The database refused the statement; the message is its own.
    StatementFailed,
    /// The rows would break a constraint of the table; the message is the database's own.
    ConstraintViolated,
    /// Another transaction was in the way (a deadlock, a lock, a serialization failure); trying again may succeed.
    Conflict,
    /// The transaction has ended.
    TransactionOver,
    /// A value is passed that no database could take: of a type that is not supported, not Unicode, NaN inside of JSON.
    UnsupportedValue,
    /// The statement does what scripts may not.
    NotAllowed,
    /// The connection reads only.
    ReadOnly,
    /// A column has a type that cannot be returned.
    UnsupportedType,
    /// The statement ran longer than it may.
    StatementTimeout,
    /// More rows or bytes than may enter the guest or be streamed.
    ResultTooLarge,
    /// More records than one call may write.
    InputTooLarge,
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
