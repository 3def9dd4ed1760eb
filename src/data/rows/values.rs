//! Rows as values, to be given back to their database: where a page ended, or which row was changed.

use crate::{
    data::rows::RowWriter,
    domain::{sql::SqlError, value::SqlValue},
};

/// Keeps the values of rows.
#[derive(Debug, Default)]
pub(crate) struct ValueRows(pub(crate) Vec<Vec<SqlValue>>);

impl ValueRows {
    fn push(&mut self, value: SqlValue) {
        if let Some(row) = self.0.last_mut() {
            row.push(value);
        }
    }
}

impl RowWriter for ValueRows {
    const WANTS_LITERALS: bool = true;

    fn begin_row(&mut self) {
        self.0.push(Vec::new());
    }

    fn end_row(&mut self) {}

    fn null(&mut self) {
        self.push(SqlValue::Null);
    }

    fn bool(&mut self, value: bool) {
        self.push(SqlValue::Bool(value));
    }

    fn int(&mut self, value: i64) {
        self.push(SqlValue::Int(value));
    }

    fn uint(&mut self, value: u64) {
        self.push(SqlValue::from(value));
    }

    fn double(&mut self, value: f64) {
        self.push(SqlValue::Double(value));
    }

    fn single(&mut self, value: f32) {
        self.push(SqlValue::Double(value.into()));
    }

    fn decimal(&mut self, text: &str) {
        self.push(SqlValue::Decimal(text.to_owned()));
    }

    fn decimal_as_double(&mut self, text: &str) {
        self.decimal(text);
    }

    fn no_decimal(&mut self, value: f64) {
        self.double(value);
    }

    fn text(&mut self, text: &str) {
        self.push(SqlValue::from(text));
    }

    fn literal(&mut self, text: &str) {
        self.push(SqlValue::Literal(text.to_owned()));
    }

    fn plain<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        let mut text = Vec::new();
        write(&mut text)?;
        self.literal(&String::from_utf8_lossy(&text));
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.push(SqlValue::Bytes(bytes.to_vec()));
    }

    fn json(&mut self, json: &str) -> Result<(), SqlError> {
        self.literal(json);
        Ok(())
    }

    /// Drivers whose databases have lists give them as literals, so these are not called.
    fn begin_list(&mut self) {}

    fn end_list(&mut self) {}

    fn texts(&mut self, _pairs: &[(&str, Option<&str>)]) {
        self.null();
    }
}
