//! SQLite's values as JSON.
//!
//! Owns: rows copied out of SQLite, and how a column's declared type decides what its values mean. Never: fails; a value
//! that is not what its column declares is given as it is.

use std::ops::Range;

use rusqlite::{
    Row, Statement,
    types::{Value as SqlValue, ValueRef},
};
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::{
    data::json::{self, Reader, Shape},
    domain::sql::{Column, ColumnKind},
};

/// Rows copied out of SQLite, in two allocations.
pub(crate) struct Rows {
    n_columns: usize,
    n_rows: usize,
    cells: Vec<Cell>,
    bytes: Vec<u8>,
}

enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(Range<usize>),
    Blob(Range<usize>),
}

impl Rows {
    pub(crate) fn new(n_columns: usize) -> Self {
        Self { n_columns, n_rows: 0, cells: Vec::new(), bytes: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.n_rows
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len() + self.cells.len() * size_of::<Cell>()
    }

    pub(super) fn push(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        for column in 0..self.n_columns {
            let cell = match row.get_ref(column)? {
                ValueRef::Null => Cell::Null,
                ValueRef::Integer(value) => Cell::Integer(value),
                ValueRef::Real(value) => Cell::Real(value),
                ValueRef::Text(text) => Cell::Text(self.copy(text)),
                ValueRef::Blob(blob) => Cell::Blob(self.copy(blob)),
            };
            self.cells.push(cell);
        }
        self.n_rows += 1;
        Ok(())
    }

    fn copy(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }
}

/// How the rows of one statement become JSON objects.
#[derive(Debug)]
pub(crate) struct Decoder {
    columns: Vec<DecodedColumn>,
    decimals: bool,
    shape: Shape,
}

#[derive(Debug)]
struct DecodedColumn {
    name: String,
    prefix: Vec<u8>,
    meaning: Meaning,
}

/// What a column's declared type says about its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// Nothing beyond their storage class.
    Plain,
    Boolean,
    Json,
    Decimal,
    Float,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Blob,
}

impl Meaning {
    fn of(declared: Option<&str>) -> Self {
        let declared = declared.unwrap_or_default().to_ascii_lowercase();
        // Without a length, as in `decimal(10, 2)`.
        match declared.split('(').next().unwrap_or_default().trim() {
            "bool" | "boolean" => Self::Boolean,
            "json" | "jsonb" => Self::Json,
            "decimal" | "numeric" => Self::Decimal,
            "real" | "float" | "double" | "double precision" => Self::Float,
            "date" => Self::Date,
            "time" => Self::Time,
            "datetime" | "timestamp" | "timestamp without time zone" => Self::Timestamp,
            "timestamptz" | "timestamp with time zone" => Self::TimestampTz,
            "blob" => Self::Blob,
            _ => Self::Plain,
        }
    }
}

/// The declared types of a table's columns. What `RETURNING` gives has none of its own.
#[derive(Debug, Default)]
pub(super) struct Declared(Vec<(String, Meaning)>);

impl Declared {
    /// Those of the columns that a statement selects.
    pub(super) fn of(statement: &Statement<'_>) -> Self {
        let columns = statement.columns();
        Self(columns.iter().map(|column| (column.name().to_owned(), Meaning::of(column.decl_type()))).collect())
    }

    fn meaning(&self, column: &str) -> Meaning {
        let found = self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(column));
        found.map_or(Meaning::Plain, |(_, meaning)| *meaning)
    }

    /// JSON as SQLite's values: booleans are numbers there, lists and objects are kept as JSON text. Where the column
    /// is known, a JSON column gets every value as JSON text, and a BLOB the bytes that `\x00ff` stands for.
    pub(super) fn value_for(&self, column: Option<&str>, value: &Value) -> SqlValue {
        let meaning = column.map_or(Meaning::Plain, |column| self.meaning(column));
        match value {
            Value::Null => SqlValue::Null,
            _ if meaning == Meaning::Json => SqlValue::Text(value.to_string()),
            Value::Bool(value) => SqlValue::Integer((*value).into()),
            Value::Number(number) => match number.as_i64() {
                Some(integer) => SqlValue::Integer(integer),
                None => SqlValue::Real(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) if meaning == Meaning::Blob => {
                let bytes = text.strip_prefix("\\x").and_then(|digits| hex::decode(digits).ok());
                bytes.map_or_else(|| SqlValue::Text(text.clone()), SqlValue::Blob)
            }
            Value::String(text) => SqlValue::Text(text.clone()),
            Value::Array(_) | Value::Object(_) => SqlValue::Text(value.to_string()),
        }
    }
}

impl Decoder {
    /// Reads the columns' declared types from the statement, or from `declared` where the statement has none.
    pub(super) fn new(statement: &Statement<'_>, decimals: bool, shape: Shape, declared: &Declared) -> Self {
        let columns = statement
            .columns()
            .iter()
            .enumerate()
            .map(|(nth, column)| {
                let name = column.name().to_owned();
                let meaning = match column.decl_type() {
                    Some(declared) => Meaning::of(Some(declared)),
                    None => declared.meaning(&name),
                };
                DecodedColumn { prefix: shape.prefix(nth, &name), name, meaning }
            })
            .collect();
        Self { columns, decimals, shape }
    }

    pub(super) fn n_columns(&self) -> usize {
        self.columns.len()
    }

    pub(crate) fn columns(&self) -> Vec<Column> {
        let kind = |meaning| match meaning {
            Meaning::Decimal if self.decimals => ColumnKind::Decimal,
            Meaning::Plain | Meaning::Boolean | Meaning::Json | Meaning::Decimal | Meaning::Float | Meaning::Blob => {
                ColumnKind::Plain
            }
            Meaning::Date => ColumnKind::Date,
            Meaning::Time => ColumnKind::Time,
            Meaning::Timestamp => ColumnKind::Timestamp,
            Meaning::TimestampTz => ColumnKind::TimestampTz,
        };
        self.columns.iter().map(|column| Column { name: column.name.clone(), kind: kind(column.meaning) }).collect()
    }

    /// Writes rows as JSON with commas between them.
    pub(crate) fn write(&self, out: &mut Vec<u8>, rows: &Rows, reader: Reader) {
        for (nth, cells) in rows.cells.chunks_exact(self.columns.len().max(1)).enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            for (column, cell) in self.columns.iter().zip(cells) {
                out.extend_from_slice(&column.prefix);
                self.write_cell(out, column.meaning, cell, &rows.bytes, reader);
            }
            out.push(self.shape.end());
        }
    }

    fn write_cell(&self, out: &mut Vec<u8>, meaning: Meaning, cell: &Cell, bytes: &[u8], reader: Reader) {
        match (cell, meaning) {
            (Cell::Null, _) => out.extend_from_slice(b"null"),
            (Cell::Integer(0), Meaning::Boolean) => out.extend_from_slice(b"false"),
            (Cell::Integer(1), Meaning::Boolean) => out.extend_from_slice(b"true"),
            (Cell::Integer(value), Meaning::Decimal) if self.decimals => {
                json::write_decimal(out, itoa::Buffer::new().format(*value), reader);
            }
            (Cell::Real(value), Meaning::Decimal) if self.decimals => self.write_real_decimal(out, *value, reader),
            (Cell::Integer(value), Meaning::Decimal | Meaning::Float) => {
                json::write_decimal_as_float(out, itoa::Buffer::new().format(*value), reader);
            }
            (Cell::Integer(value), _) => json::write_int(out, *value),
            (Cell::Real(value), _) => json::write_double(out, *value, reader),
            (Cell::Text(range), _) => write_text(out, meaning, &bytes[range.clone()]),
            (Cell::Blob(range), _) => json::write_bytes(out, &bytes[range.clone()]),
        }
    }

    /// A decimal that SQLite keeps as a double: its shortest text, in plain digits.
    fn write_real_decimal(&self, out: &mut Vec<u8>, value: f64, reader: Reader) {
        if value.is_finite() {
            // `{}` of a double is shortest and never uses an exponent.
            json::write_decimal(out, &value.to_string(), reader);
        } else {
            json::write_double(out, value, Reader::Caller);
        }
    }
}

fn write_text(out: &mut Vec<u8>, meaning: Meaning, text: &[u8]) {
    // SQLite does not check that its texts are UTF-8.
    let text = String::from_utf8_lossy(text);
    if meaning == Meaning::Json && serde_json::from_str::<IgnoredAny>(&text).is_ok() {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    json::write_string(out, &text);
}
