//! `pq:host/sql` for guests.

use serde_json::Value;

use crate::{
    domain::sql::{ColumnKind, Params, Select, SqlError, SqlErrorCode},
    sandbox::{bindings::pq::host::sql, capabilities::CursorId, state::SlotState},
};

impl sql::Host for SlotState {
    async fn fetch(
        &mut self,
        connection: String,
        select: sql::Select,
    ) -> wasmtime::Result<Result<sql::Opened, sql::Error>> {
        let select = match select_from_guest(select) {
            Ok(select) => select,
            Err(error) => return Ok(Err(error.into())),
        };
        let opened = self.granted()?.fetch(&connection, select).await;
        Ok(opened.map_err(sql::Error::from).map(|opened| sql::Opened {
            cursor: opened.cursor.0,
            columns: opened.columns.into_iter().map(|c| sql::Column { name: c.name, kind: c.kind.into() }).collect(),
        }))
    }

    async fn next(&mut self, cursor: u32) -> wasmtime::Result<Result<Vec<u8>, sql::Error>> {
        let batch = self.granted()?.next(CursorId(cursor)).await;
        Ok(batch.map(|batch| batch.map(Vec::from).unwrap_or_default()).map_err(sql::Error::from))
    }

    fn close(&mut self, cursor: u32) -> wasmtime::Result<()> {
        self.granted()?.close(CursorId(cursor));
        Ok(())
    }
}

/// Checks what a guest asks for. Identifiers and values are `data`'s to judge.
fn select_from_guest(select: sql::Select) -> Result<Select, SqlError> {
    let invalid = |what: &str| SqlError::new(SqlErrorCode::InvalidArgument, what);
    let sql::Select { database, schema, table, query, params, where_, order_by, limit, offset, decimals } = select;
    if table.is_some() == query.is_some() {
        return Err(invalid("give either a table name or `query`, and not both"));
    }
    let params = match serde_json::from_str(&params) {
        Ok(Value::Null) => Params::None,
        Ok(Value::Array(values)) => Params::Positional(values),
        Ok(Value::Object(values)) => Params::Named(values),
        _ => return Err(invalid("`params` must be a list or a dict of values that JSON can express")),
    };
    let filter = match serde_json::from_str(&where_) {
        Ok(Value::Null) => serde_json::Map::new(),
        Ok(Value::Object(filter)) => filter,
        _ => return Err(invalid("`where` must be a dict of column to value that JSON can express")),
    };
    Ok(Select { database, schema, table, query, params, filter, order_by, limit, offset, decimals })
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
            select_from_guest(sql::Select {
                database: String::new(),
                schema: None,
                table: table.map(str::to_owned),
                query: query.map(str::to_owned),
                params: params.to_owned(),
                where_: filter.to_owned(),
                order_by: Vec::new(),
                limit: None,
                offset: None,
                decimals: false,
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
}
