//! Between the words of `wit/sql.wit` and those of `domain`.
//!
//! Owns: checking the form and size of what a guest passes. Never: judges identifiers and values; `data` does.

use serde_json::{Map, Value};

use crate::{
    domain::{
        sql::{
            Action, Change, Column, ColumnKind, Params, RowKey, Select, SqlError, SqlErrorCode, TableColumn, TableName,
            TableWrite,
        },
        value::{Record, SqlValue},
    },
    marshal::{Reader, Unreadable},
    sandbox::{
        bindings::pq::host::sql,
        capabilities::{DatabaseInfo, Place, TransactionId},
    },
};

/// Most bytes of values that one call may pass. What scripts rely on; a handler that has more calls twice.
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
    let params = match read("`params`", &params, Reader::value_or_record)? {
        Ok(SqlValue::Null) => Params::None,
        Ok(SqlValue::List(values)) => Params::Positional(values),
        Ok(_) => return Err(invalid("`params` must be a list or a dict of values")),
        Err(record) => Params::Named(record),
    };
    let filter = read("`where`", &filter, Reader::record)?.unwrap_or_default();
    Ok(Select { database, schema, table, query, params, filter, order_by, limit, offset, decimals, lists, stream })
}

pub(super) fn change(table: sql::TableName, action: sql::Action, key: &[u8], rows: &[u8]) -> Result<Change, SqlError> {
    let action = match action {
        sql::Action::Insert => Action::Insert { rows: read("the records", rows, Reader::records)? },
        sql::Action::Update => Action::Update { key: row_key(key)?, values: only_row(rows)? },
        sql::Action::Upsert => Action::Upsert { key: row_key(key)?, values: only_row(rows)? },
        sql::Action::Delete => Action::Delete { key: row_key(key)? },
    };
    Ok(Change { table: table.into(), action })
}

fn row_key(key: &[u8]) -> Result<RowKey, SqlError> {
    match read("`pk`", key, Reader::value_or_record)? {
        Ok(SqlValue::List(_)) => Err(invalid("`pk` must be the value of the primary key, or a dict of its columns")),
        Ok(value) => Ok(RowKey::Value(value)),
        Err(columns) => Ok(RowKey::Columns(columns)),
    }
}

fn only_row(rows: &[u8]) -> Result<Record, SqlError> {
    let mut rows = read("the records", rows, Reader::records)?;
    match (rows.pop(), rows.is_empty()) {
        (Some(row), true) => Ok(row),
        _ => Err(invalid("give the columns of one row")),
    }
}

pub(super) fn write(
    table: sql::TableName,
    records: &[u8],
    types: &str,
    key: Vec<String>,
) -> Result<TableWrite, SqlError> {
    if types.len() > WRITTEN_BYTES_MAX {
        let message = format!("`object_schema` is {} bytes as JSON; {WRITTEN_BYTES_MAX} may be passed", types.len());
        return Err(SqlError::new(SqlErrorCode::InputTooLarge, message));
    }
    let types: Option<Map<String, Value>> =
        serde_json::from_str(types).map_err(|_| invalid("`object_schema` must be a dict that JSON can express"))?;
    let records = read("the records", records, Reader::records)?;
    Ok(TableWrite { table: table.into(), records, types: types.unwrap_or_default(), key })
}

/// Reads what a guest passes.
fn read<'a, T>(
    what: &str,
    values: &'a [u8],
    read: impl FnOnce(Reader<'a>) -> Result<T, Unreadable>,
) -> Result<T, SqlError> {
    if values.len() > WRITTEN_BYTES_MAX {
        let message = format!("{what} are {} bytes; {WRITTEN_BYTES_MAX} may be passed at once", values.len());
        return Err(SqlError::new(SqlErrorCode::InputTooLarge, message));
    }
    read(Reader::new(values, WRITTEN_VALUES_MAX)).map_err(|problem| {
        let code = match problem {
            Unreadable::TooMany(_) => SqlErrorCode::InputTooLarge,
            Unreadable::TooDeep
            | Unreadable::TooLong
            | Unreadable::NotUnicode
            | Unreadable::NotJson
            | Unreadable::Key
            | Unreadable::Unsupported => SqlErrorCode::UnsupportedValue,
            Unreadable::Malformed => SqlErrorCode::InvalidArgument,
        };
        SqlError::new(code, format!("{what} {problem}"))
    })
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
        let TableColumn { name, data_type, schema, nullable, generated: _, key_position } = column;
        Self {
            name,
            data_type: data_type.to_string(),
            schema: schema.to_string(),
            nullable,
            key_position: u32::try_from(key_position).unwrap_or(0),
        }
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
            SqlErrorCode::UnsupportedValue => sql::ErrorCode::UnsupportedValue,
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

    /// The text that Python passes for an expression.
    fn passed(expression: &str) -> Vec<u8> {
        let script = format!("import marshal, sys; sys.stdout.buffer.write(marshal.dumps({expression}, 2))");
        std::process::Command::new("python3").args(["-c", &script]).output().unwrap().stdout
    }

    #[test]
    fn a_select_is_a_table_or_a_query_with_values() {
        let select = |table: Option<&str>, query: Option<&str>, params: &str, filter: &str| {
            select(sql::Select {
                database: String::new(),
                schema: None,
                table: table.map(str::to_owned),
                query: query.map(str::to_owned),
                params: passed(params),
                filter: passed(filter),
                order_by: Vec::new(),
                limit: None,
                offset: None,
                decimals: false,
                lists: false,
                stream: false,
            })
        };
        assert!(select(Some("t"), None, "None", "{'a': 1}").is_ok());
        let params = select(None, Some("q"), "[1]", "None").unwrap().params;
        assert_eq!(params, Params::Positional(vec![SqlValue::Int(1)]));
        for (table, query, params, filter) in [
            (None, None, "None", "None"),
            (Some("t"), Some("q"), "None", "None"),
            (None, Some("q"), "1", "None"),
            (Some("t"), None, "None", "[]"),
        ] {
            assert_eq!(select(table, query, params, filter).unwrap_err().code, SqlErrorCode::InvalidArgument);
        }
    }

    #[test]
    fn rows_are_dicts_of_bounded_size() {
        let table = || sql::TableName { database: String::new(), schema: None, table: "t".to_owned() };
        assert!(change(table(), sql::Action::Insert, &passed("None"), &passed("[{'a': 1}]")).is_ok());
        for (action, key, rows, code) in [
            (sql::Action::Insert, "None", "[1]", SqlErrorCode::InvalidArgument),
            (sql::Action::Insert, "None", "{}", SqlErrorCode::InvalidArgument),
            (sql::Action::Update, "1", "[]", SqlErrorCode::InvalidArgument),
            (sql::Action::Update, "[1]", "[{}]", SqlErrorCode::InvalidArgument),
            (sql::Action::Update, "1", "[{'a': {1, 2}}]", SqlErrorCode::UnsupportedValue),
            (sql::Action::Insert, "None", "[{'a': {'b': float('nan')}}]", SqlErrorCode::UnsupportedValue),
        ] {
            let error = change(table(), action, &passed(key), &passed(rows)).unwrap_err();
            assert_eq!(error.code, code, "{key} {rows}");
        }
        for (rows, code) in [
            (format!("[{{'a': 'x' * {WRITTEN_BYTES_MAX}}}]"), SqlErrorCode::InputTooLarge),
            ("[{}] * 300_000".to_owned(), SqlErrorCode::InputTooLarge),
            ("[{'a': eval('[' * 200 + ']' * 200)}]".to_owned(), SqlErrorCode::UnsupportedValue),
        ] {
            assert_eq!(write(table(), &passed(&rows), "null", vec![]).unwrap_err().code, code);
        }
        let prose = passed("[{'a': ',[' * 1_000_000}]");
        assert!(write(table(), &prose, "null", vec![]).is_ok(), "what is text does not count");
        assert!(write(table(), &passed("[]"), "[]", vec![]).is_err());
    }
}
