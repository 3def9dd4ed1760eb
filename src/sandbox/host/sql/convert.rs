//! Between the words of `wit/sql.wit` and those of `domain`.
//!
//! Owns: checking the form and size of what a guest passes. Never: judges identifiers and values; `data` does.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{
    domain::sql::{
        Action, Change, Column, ColumnKind, Params, Select, SqlError, SqlErrorCode, TableColumn, TableName, TableWrite,
    },
    sandbox::{
        bindings::pq::host::sql,
        capabilities::{DatabaseInfo, Place, TransactionId},
        marshal::{Marshal, Refused},
    },
};

/// Most bytes of records, as JSON, that one call may write. What scripts rely on; a handler that has more calls twice.
pub(super) const WRITTEN_BYTES_MAX: usize = 10 << 20;
/// Most values in what one call passes: bounds the host's memory at some 100 MB while the call lasts.
const WRITTEN_VALUES_MAX: usize = 1_000_000;

pub(super) fn select(select: sql::Select) -> Result<Select, SqlError> {
    let sql::Select {
        database,
        schema,
        table,
        query,
        params,
        filter,
        order_by,
        limit,
        offset,
        decimals,
        lists,
        stream,
    } = select;
    if table.is_some() == query.is_some() {
        return Err(invalid("give either a table name or `query`, and not both"));
    }
    check_size("`params`", &params)?;
    check_size("`where`", &filter)?;
    let params = match serde_json::from_str(&params) {
        Ok(Value::Null) => Params::None,
        Ok(Value::Array(values)) => Params::Positional(values),
        Ok(Value::Object(values)) => Params::Named(values),
        _ => return Err(invalid("`params` must be a list or a dict of values that JSON can express")),
    };
    let filter = match serde_json::from_str(&filter) {
        Ok(Value::Null) => Map::new(),
        Ok(Value::Object(filter)) => filter,
        _ => return Err(invalid("`where` must be a dict of column to value that JSON can express")),
    };
    Ok(Select { database, schema, table, query, params, filter, order_by, limit, offset, decimals, lists, stream })
}

pub(super) fn change(table: sql::TableName, action: sql::Action, key: &str, rows: &str) -> Result<Change, SqlError> {
    let mut rows: Vec<Map<String, Value>> = records(rows)?;
    let key: Value = json(key, "`pk` must be a value that JSON can express")?;
    if key.is_array() {
        return Err(invalid("`pk` must be the value of the primary key, or a dict of its columns"));
    }
    let mut only_row = || match (rows.pop(), rows.is_empty()) {
        (Some(row), true) => Ok(row),
        _ => Err(invalid("give the columns of one row")),
    };
    let action = match action {
        sql::Action::Insert => Action::Insert { rows },
        sql::Action::Update => Action::Update { key, values: only_row()? },
        sql::Action::Upsert => Action::Upsert { key, values: only_row()? },
        sql::Action::Delete => Action::Delete { key },
    };
    Ok(Change { table: table.into(), action })
}

pub(super) fn write(
    table: sql::TableName,
    records: &str,
    types: &str,
    key: Vec<String>,
) -> Result<TableWrite, SqlError> {
    let types: Option<Map<String, Value>> = json(types, "`object_schema` must be a dict that JSON can express")?;
    Ok(TableWrite { table: table.into(), records: self::records(records)?, types: types.unwrap_or_default(), key })
}

/// Rows for the guest, from JSON.
pub(super) fn rows(json: &[u8]) -> Result<Vec<u8>, SqlError> {
    let mut marshal = Marshal(Vec::new());
    match marshal.json(json) {
        Ok(()) => Ok(marshal.0),
        Err(Refused) => {
            let message = "a JSON value in the rows is nested deeper than 500 times or has a number of more than 4300 \
                           digits: select it as text in a `query`";
            Err(SqlError::new(SqlErrorCode::ResultTooLarge, message))
        }
    }
}

fn records(text: &str) -> Result<Vec<Map<String, Value>>, SqlError> {
    json(text, "the records must be dicts of column to value that JSON can express, nested at most 120 deep")
}

fn json<T: DeserializeOwned>(text: &str, problem: &str) -> Result<T, SqlError> {
    check_size("the records", text)?;
    serde_json::from_str(text).map_err(|_| invalid(problem))
}

/// Refuses JSON before it is parsed: a value of two bytes takes a hundred when it is.
fn check_size(what: &str, text: &str) -> Result<(), SqlError> {
    let message = if text.len() > WRITTEN_BYTES_MAX {
        format!("{what} are {} bytes as JSON; {WRITTEN_BYTES_MAX} may be passed at once", text.len())
    } else if weight(text) > WRITTEN_VALUES_MAX {
        format!("{what} hold more than {WRITTEN_VALUES_MAX} values")
    } else {
        return Ok(());
    };
    Err(SqlError::new(SqlErrorCode::InputTooLarge, message))
}

/// About how many values JSON text has; an object counts for four, as it takes the memory of so many.
fn weight(text: &str) -> usize {
    let (mut weight, mut is_string, mut is_escaped) = (0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_string,
            b'"' => is_string = !is_string,
            _ if is_string => {}
            b',' | b'[' => weight += 1,
            b'{' => weight += 4,
            _ => {}
        }
    }
    weight
}

fn invalid(message: &str) -> SqlError {
    SqlError::new(SqlErrorCode::InvalidArgument, message)
}

impl From<sql::Place> for Place {
    fn from(place: sql::Place) -> Self {
        Self { connection: place.connection, transaction: place.transaction.map(TransactionId) }
    }
}

impl From<sql::TableName> for TableName {
    fn from(name: sql::TableName) -> Self {
        let sql::TableName { database, schema, table } = name;
        Self { database, schema, table }
    }
}

impl From<Column> for sql::Column {
    fn from(column: Column) -> Self {
        Self { name: column.name, kind: column.kind.into() }
    }
}

impl From<TableColumn> for sql::TableColumn {
    fn from(column: TableColumn) -> Self {
        let TableColumn { name, data_type, nullable, generated: _, default_sql: _, key_position } = column;
        Self { name, data_type, nullable, key_position: u32::try_from(key_position).unwrap_or(0) }
    }
}

impl From<DatabaseInfo> for sql::Database {
    fn from(info: DatabaseInfo) -> Self {
        let DatabaseInfo { id, name, is_default, dialect, schemas } = info;
        let (schemas, error) = match schemas {
            Ok(schemas) => (schemas, None),
            Err(error) => (Vec::new(), Some(error.message)),
        };
        let schemas = schemas.into_iter().map(|(name, tables)| sql::Schema { name, tables }).collect();
        Self { id: id.0, name: name.to_string(), is_default, dialect: dialect.to_owned(), schemas, error }
    }
}

impl From<ColumnKind> for sql::ColumnKind {
    fn from(kind: ColumnKind) -> Self {
        match kind {
            ColumnKind::Plain => Self::Plain,
            ColumnKind::Decimal => Self::Decimal,
            ColumnKind::Date => Self::Date,
            ColumnKind::Time => Self::Time,
            ColumnKind::Timestamp => Self::Timestamp,
            ColumnKind::TimestampTz => Self::TimestampTz,
        }
    }
}

impl From<SqlError> for sql::Error {
    fn from(error: SqlError) -> Self {
        let code = match error.code {
            SqlErrorCode::UnknownConnection => sql::ErrorCode::UnknownConnection,
            SqlErrorCode::UnknownDatabase => sql::ErrorCode::UnknownDatabase,
            SqlErrorCode::UnknownSchema => sql::ErrorCode::UnknownSchema,
            SqlErrorCode::UnknownTable => sql::ErrorCode::UnknownTable,
            SqlErrorCode::UnknownColumn => sql::ErrorCode::UnknownColumn,
            SqlErrorCode::UnknownRow => sql::ErrorCode::UnknownRow,
            SqlErrorCode::AlreadyExists => sql::ErrorCode::AlreadyExists,
            SqlErrorCode::ConstraintViolated => sql::ErrorCode::ConstraintViolated,
            SqlErrorCode::Conflict => sql::ErrorCode::Conflict,
            SqlErrorCode::TransactionOver => sql::ErrorCode::TransactionOver,
            SqlErrorCode::ReadOnly => sql::ErrorCode::ReadOnly,
            SqlErrorCode::InputTooLarge => sql::ErrorCode::InputTooLarge,
            SqlErrorCode::InvalidArgument => sql::ErrorCode::InvalidArgument,
            SqlErrorCode::StatementFailed => sql::ErrorCode::StatementFailed,
            SqlErrorCode::NotAllowed => sql::ErrorCode::NotAllowed,
            SqlErrorCode::UnsupportedType => sql::ErrorCode::UnsupportedType,
            SqlErrorCode::StatementTimeout => sql::ErrorCode::StatementTimeout,
            SqlErrorCode::ResultTooLarge => sql::ErrorCode::ResultTooLarge,
            SqlErrorCode::TooManyStatements => sql::ErrorCode::TooManyStatements,
            SqlErrorCode::Unavailable => sql::ErrorCode::Unavailable,
        };
        Self { code, message: error.message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_select_is_a_table_or_a_query_with_json_arguments() {
        let select = |table: Option<&str>, query: Option<&str>, params: &str, filter: &str| {
            select(sql::Select {
                database: String::new(),
                schema: None,
                table: table.map(str::to_owned),
                query: query.map(str::to_owned),
                params: params.to_owned(),
                filter: filter.to_owned(),
                order_by: Vec::new(),
                limit: None,
                offset: None,
                decimals: false,
                lists: false,
                stream: false,
            })
        };
        assert!(select(Some("t"), None, "null", r#"{"a": 1}"#).is_ok());
        assert_eq!(select(None, Some("q"), "[1]", "null").unwrap().params, Params::Positional(vec![Value::from(1)]));
        for (table, query, params, filter) in [
            (None, None, "null", "null"),
            (Some("t"), Some("q"), "null", "null"),
            (None, Some("q"), "1", "null"),
            (None, Some("q"), "[", "null"),
            (Some("t"), None, "null", "[]"),
        ] {
            assert_eq!(select(table, query, params, filter).unwrap_err().code, SqlErrorCode::InvalidArgument);
        }
    }

    #[test]
    fn rows_that_python_could_not_read_are_an_error() {
        assert!(rows(br#"[{"a": [1]}]"#).is_ok());
        for json in [format!("[{{\"a\": {}1{}}}]", "[".repeat(500), "]".repeat(500)), format!("[{}]", "9".repeat(4301))]
        {
            assert_eq!(rows(json.as_bytes()).unwrap_err().code, SqlErrorCode::ResultTooLarge);
        }
    }

    #[test]
    fn rows_are_objects_of_bounded_size() {
        let table = || sql::TableName { database: String::new(), schema: None, table: "t".to_owned() };
        assert!(change(table(), sql::Action::Insert, "null", r#"[{"a": 1}]"#).is_ok());
        for (action, key, rows) in [
            (sql::Action::Insert, "null", "[1]"),
            (sql::Action::Insert, "null", "{}"),
            (sql::Action::Update, "1", "[]"),
            (sql::Action::Update, "[", "[{}]"),
            (sql::Action::Update, "[1]", "[{}]"),
        ] {
            assert_eq!(change(table(), action, key, rows).unwrap_err().code, SqlErrorCode::InvalidArgument);
        }
        let large = format!("[{{\"a\": \"{}\"}}]", "x".repeat(WRITTEN_BYTES_MAX));
        assert_eq!(write(table(), &large, "null", vec![]).unwrap_err().code, SqlErrorCode::InputTooLarge);
        assert_eq!(change(table(), sql::Action::Insert, "null", &large).unwrap_err().code, SqlErrorCode::InputTooLarge);
        let many = format!("[{}{{}}]", "{},".repeat(300_000));
        assert_eq!(write(table(), &many, "null", vec![]).unwrap_err().code, SqlErrorCode::InputTooLarge);
        let prose = format!("[{{\"a\": \"{}\"}}]", "{,[\\\"".repeat(500_000));
        assert!(write(table(), &prose, "null", vec![]).is_ok(), "what is text does not count");
        let deep = format!("[{{\"a\": {}1{}}}]", "[".repeat(500), "]".repeat(500));
        assert_eq!(write(table(), &deep, "null", vec![]).unwrap_err().code, SqlErrorCode::InvalidArgument);
    }
}
