//! SQLite's types, which are a column's wish: each value has a kind of its own.
//!
//! Owns: how a column's declared type decides what its values mean, and what a value becomes in it. Never: lets SQLite convert a number
//! that would lose digits; a value that is not what its column declares is read as it is.

use std::{ops::Range, str::FromStr as _, sync::Arc};

use bigdecimal::BigDecimal;
use rusqlite::{
    Row, Statement,
    types::{Value as Kept, ValueRef},
};
use serde_json::{Value, json};

use crate::{
    data::{
        described::{Described, Equality, Order},
        moments::{Moment, is_span},
        rows::{RowBatch, RowWriter, unique_names},
        template::Bound,
    },
    domain::{
        sql::{Column, ColumnKind, SqlError},
        value::{SqlValue, double_text, is_json},
    },
};

/// The meaning that a column's declared type gives to its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// Nothing beyond the kind of each value.
    Plain,
    Boolean,
    Json,
    Decimal,
    Float,
    Date,
    Time,
    Timestamp,
    TimestampTz,
}

impl Meaning {
    fn of(declared: &str) -> Self {
        let declared = declared.to_ascii_lowercase();
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
            _ => Self::Plain,
        }
    }

    fn kind(self, decimals: bool) -> ColumnKind {
        match self {
            Self::Decimal if decimals => ColumnKind::Decimal,
            Self::Plain | Self::Boolean | Self::Json | Self::Decimal | Self::Float => ColumnKind::Plain,
            Self::Date => ColumnKind::Date,
            Self::Time => ColumnKind::Time,
            Self::Timestamp => ColumnKind::Timestamp,
            Self::TimestampTz => ColumnKind::TimestampTz,
        }
    }

    /// JSON schema of the values that the declared type is for, without NULL.
    fn schema(self, declared: &str) -> Value {
        match self {
            Self::Boolean => json!({"type": "boolean"}),
            Self::Decimal | Self::Float => json!({"type": "number"}),
            Self::Date => json!({"type": "string", "format": "date"}),
            Self::TimestampTz => json!({"type": "string", "format": "date-time"}),
            Self::Time | Self::Timestamp => json!({"type": "string"}),
            Self::Json => json!({}),
            Self::Plain => match Affinity::of(declared) {
                Affinity::Integer => json!({"type": "integer", "format": "int64"}),
                Affinity::Text => json!({"type": "string"}),
                Affinity::Real | Affinity::Numeric => json!({"type": "number"}),
                Affinity::Blob if declared.is_empty() => json!({}),
                Affinity::Blob => json!({"type": "string"}),
            },
        }
    }
}

/// The kind of value that SQLite prefers in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Affinity {
    Integer,
    Text,
    Blob,
    Real,
    Numeric,
}

impl Affinity {
    /// <https://www.sqlite.org/datatype3.html#determination_of_column_affinity>
    pub(crate) fn of(declared: &str) -> Self {
        let declared = declared.to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
        if has(&["int"]) {
            Self::Integer
        } else if has(&["char", "clob", "text"]) {
            Self::Text
        } else if declared.is_empty() || has(&["blob"]) {
            Self::Blob
        } else if has(&["real", "floa", "doub"]) {
            Self::Real
        } else {
            Self::Numeric
        }
    }
}

/// The declared types of a table's columns. What `RETURNING` gives has none of its own.
#[derive(Debug, Default)]
pub(super) struct Declared(Vec<(String, Arc<str>)>);

impl Declared {
    /// The types of the columns that a statement selects.
    pub(super) fn of(statement: &Statement<'_>) -> Self {
        let columns = statement.columns();
        let declared = |declared: Option<&str>| declared.unwrap_or_default().into();
        Self(columns.iter().map(|column| (column.name().to_owned(), declared(column.decl_type()))).collect())
    }

    fn find(&self, column: &str) -> Option<&Arc<str>> {
        self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(column)).map(|(_, declared)| declared)
    }

    /// The value that SQLite gets.
    ///
    /// # Errors
    /// A sentence, if SQLite would keep another value or could not compare it.
    pub(super) fn value_for(&self, bound: &Bound) -> Result<Kept, String> {
        let Bound { value, column, r#type } = bound;
        let found = column.as_deref().and_then(|column| self.find(column));
        match r#type.as_ref().or(found) {
            Some(declared) => for_column(value, declared),
            None => anywhere(value),
        }
    }
}

const TOO_LARGE: &str = "SQLite keeps whole numbers of up to 64 bits: keep longer ones in a column of texts";

/// A value of which it is not known where it goes. Booleans are numbers; lists and objects are JSON text.
fn anywhere(value: &SqlValue) -> Result<Kept, String> {
    Ok(match value {
        SqlValue::Null => Kept::Null,
        SqlValue::Bool(value) => Kept::Integer((*value).into()),
        SqlValue::Int(value) => Kept::Integer(*value),
        SqlValue::BigInt(_) => return Err(TOO_LARGE.to_owned()),
        SqlValue::Double(value) if value.is_nan() => return Err("SQLite has no NaN".to_owned()),
        SqlValue::Double(value) => Kept::Real(*value),
        SqlValue::Bytes(bytes) => Kept::Blob(bytes.clone()),
        SqlValue::Text(text) | SqlValue::Moment(text) | SqlValue::Decimal(text) => Kept::Text(text.clone()),
        SqlValue::Literal(text) => number_or_text(text),
        SqlValue::List(_) | SqlValue::Json(_) => Kept::Text(value.json().map_err(|error| error.to_string())?),
    })
}

/// A value for a column of this declared type.
fn for_column(value: &SqlValue, declared: &str) -> Result<Kept, String> {
    let affinity = Affinity::of(declared);
    match (Meaning::of(declared), value) {
        (_, SqlValue::Null) => Ok(Kept::Null),
        (Meaning::Json, SqlValue::Literal(text)) if !is_json(text) => Err("JSON is expected there".to_owned()),
        (Meaning::Json, _) => {
            let json = value.json().map_err(|error| error.to_string())?;
            // SQLite makes a number of a text that looks like one.
            match BigDecimal::from_str(json.trim()) {
                Ok(exact) => exactly(json.trim(), &exact),
                Err(_) => Ok(Kept::Text(json)),
            }
        }
        (Meaning::Boolean, SqlValue::Literal(text)) if text == "true" => Ok(Kept::Integer(1)),
        (Meaning::Boolean, SqlValue::Literal(text)) if text == "false" => Ok(Kept::Integer(0)),
        (
            meaning @ (Meaning::Date | Meaning::Time | Meaning::Timestamp | Meaning::TimestampTz),
            SqlValue::Literal(text),
        ) => {
            let is_moment = match meaning {
                Meaning::Time => is_span(text),
                Meaning::Date => Moment::parse(text).is_some_and(|moment| moment.is_date()),
                _ => Moment::parse(text).is_some(),
            };
            match number(text)? {
                Some(number) => Ok(number),
                None if is_moment => Ok(Kept::Text(text.clone())),
                None => Err(format!("a value of type {declared} is expected there")),
            }
        }
        (_, SqlValue::Text(text) | SqlValue::Literal(text)) if affinity == Affinity::Blob => {
            let bytes = text.strip_prefix("\\x").and_then(|digits| hex::decode(digits).ok());
            match (bytes, value) {
                (Some(bytes), _) => Ok(Kept::Blob(bytes)),
                (None, SqlValue::Literal(_)) => Ok(number_or_text(text)),
                (None, _) => Ok(Kept::Text(text.clone())),
            }
        }
        (_, SqlValue::Double(double)) if double.is_nan() => Err("SQLite has no NaN".to_owned()),
        (_, SqlValue::Double(_) | SqlValue::BigInt(_)) if affinity == Affinity::Text => {
            Ok(Kept::Text(value.text().unwrap_or_default().into_owned()))
        }
        (_, SqlValue::Literal(text)) if affinity == Affinity::Real && text.ends_with("Infinity") => {
            let infinity = text.parse().map(Kept::Real);
            infinity.map_err(|_| format!("a value of type {declared} is expected there"))
        }
        (_, SqlValue::Literal(text)) if affinity != Affinity::Text => {
            number(text)?.ok_or_else(|| format!("a value of type {declared} is expected there"))
        }
        (_, SqlValue::Literal(text)) => Ok(Kept::Text(text.clone())),
        (_, SqlValue::Text(text) | SqlValue::Decimal(text)) if matches!(affinity, Affinity::Text | Affinity::Blob) => {
            Ok(Kept::Text(text.clone()))
        }
        // SQLite makes a number of a text that looks like one.
        (_, SqlValue::Text(text) | SqlValue::Decimal(text)) => match BigDecimal::from_str(text.trim()) {
            Ok(exact) => exactly(text.trim(), &exact),
            Err(_) => Ok(Kept::Text(text.clone())),
        },
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            reason = "it is looked at whether digits are lost"
        )]
        (_, SqlValue::Int(integer))
            if affinity == Affinity::Real && (*integer as f64) as i128 != i128::from(*integer) =>
        {
            Err("the column keeps doubles, which have 53 bits".to_owned())
        }
        _ => anywhere(value),
    }
}

/// A decimal as a number that loses nothing of it.
fn exactly(text: &str, exact: &BigDecimal) -> Result<Kept, String> {
    if let Some(digits) = SqlValue::from(text).whole_digits() {
        return digits.parse().map(Kept::Integer).map_err(|_| TOO_LARGE.to_owned());
    }
    let double: f64 = text.parse().unwrap_or(f64::NAN);
    match BigDecimal::from_str(&double_text(double)) {
        Ok(kept) if kept == *exact => Ok(Kept::Real(double)),
        _ => Err("SQLite keeps decimals as doubles, which would lose digits: keep it in a column of texts".to_owned()),
    }
}

/// A text as a number, or `None` if it is none.
fn number(text: &str) -> Result<Option<Kept>, String> {
    let text = text.trim();
    if BigDecimal::from_str(text).is_err() {
        return Ok(None);
    }
    match SqlValue::from(text).whole_digits() {
        Some(digits) => match digits.parse() {
            Ok(number) => Ok(Some(Kept::Integer(number))),
            Err(_) if text.contains(['.', 'e', 'E']) => Ok(text.parse().ok().map(Kept::Real)),
            Err(_) => Err(TOO_LARGE.to_owned()),
        },
        None => Ok(text.parse().ok().map(Kept::Real)),
    }
}

/// A text as a number, if the number's text is the same: SQLite compares a text with a number by their kinds alone, and turns a number into
/// the same text where a column holds texts.
fn number_or_text(text: &str) -> Kept {
    if let Ok(integer) = text.parse::<i64>()
        && integer.to_string() == text
    {
        return Kept::Integer(integer);
    }
    match text.parse::<f64>() {
        Ok(double) if double.is_finite() && double_text(double) == text => Kept::Real(double),
        _ => Kept::Text(text.to_owned()),
    }
}

/// A reader of one statement's rows.
#[derive(Debug)]
pub(super) struct Decoder {
    columns: Vec<Column>,
    types: Vec<ColumnType>,
    decimals: bool,
}

#[derive(Debug)]
struct ColumnType {
    /// As the database calls the column.
    name: String,
    declared: Arc<str>,
    meaning: Meaning,
}

impl Decoder {
    /// Reads the columns' declared types from the statement, or from `declared` where the statement has none.
    pub(super) fn new(statement: &Statement<'_>, decimals: bool, declared: &Declared) -> Self {
        let type_of = |column: &rusqlite::Column<'_>| {
            let name = column.name().to_owned();
            let known = column.decl_type().map(Arc::from).or_else(|| declared.find(&name).cloned());
            let declared: Arc<str> = known.unwrap_or_default();
            ColumnType { name, meaning: Meaning::of(&declared), declared }
        };
        let types: Vec<ColumnType> = statement.columns().iter().map(type_of).collect();
        let names = unique_names(types.iter().map(|column| column.name.as_str()));
        let named = names.into_iter().zip(&types);
        let columns = named.map(|(name, column)| Column { name, kind: column.meaning.kind(decimals) }).collect();
        Self { columns, types, decimals }
    }
}

/// Rows copied out of SQLite, in two allocations, and how to read them.
pub(super) struct SqliteRows {
    decoder: Arc<Decoder>,
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

impl SqliteRows {
    pub(super) fn new(decoder: Arc<Decoder>) -> Self {
        Self { decoder, n_rows: 0, cells: Vec::new(), bytes: Vec::new() }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len() + self.cells.len() * size_of::<Cell>()
    }

    pub(super) fn push(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        for column in 0..self.decoder.types.len() {
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

impl RowBatch for SqliteRows {
    fn columns(&self) -> &[Column] {
        &self.decoder.columns
    }

    fn described(&self) -> Vec<Described> {
        let columns = self.decoder.columns.iter().zip(&self.decoder.types);
        let describe = |(column, of): (&Column, &ColumnType)| Described {
            name: column.name.clone(),
            is_renamed: column.name != of.name,
            declared: Arc::clone(&of.declared),
            schema: of.meaning.schema(&of.declared),
            order: Order::AsItIs,
            equality: if of.meaning == Meaning::Json { Equality::Json } else { Equality::AsItIs },
        };
        columns.map(describe).collect()
    }

    fn len(&self) -> usize {
        self.n_rows
    }

    fn write<W: RowWriter>(&self, row: usize, out: &mut W) -> Result<(), SqlError> {
        let Decoder { types, decimals, .. } = &*self.decoder;
        let cells = &self.cells[row * types.len()..(row + 1) * types.len()];
        for (ColumnType { meaning, .. }, cell) in types.iter().zip(cells) {
            match (cell, meaning) {
                (Cell::Null, _) => out.null(),
                (Cell::Integer(value), _) if W::WANTS_LITERALS => out.int(*value),
                (Cell::Real(value), _) if W::WANTS_LITERALS => out.double(*value),
                (Cell::Integer(0), Meaning::Boolean) => out.bool(false),
                (Cell::Integer(1), Meaning::Boolean) => out.bool(true),
                (Cell::Integer(value), Meaning::Decimal) if *decimals => {
                    out.decimal(itoa::Buffer::new().format(*value));
                }
                (Cell::Real(value), Meaning::Decimal) if *decimals && value.is_finite() => {
                    out.decimal(&value.to_string()); // shortest, and never with an exponent
                }
                (Cell::Real(value), Meaning::Decimal) if *decimals => out.no_decimal(*value),
                (Cell::Integer(value), Meaning::Decimal | Meaning::Float) => {
                    out.decimal_as_double(itoa::Buffer::new().format(*value));
                }
                (Cell::Integer(value), _) => out.int(*value),
                (Cell::Real(value), _) => out.double(*value),
                (Cell::Blob(range), _) => out.bytes(&self.bytes[range.clone()]),
                (Cell::Text(range), meaning) => {
                    // SQLite does not check that its texts are UTF-8.
                    let text = String::from_utf8_lossy(&self.bytes[range.clone()]);
                    let is_json = *meaning == Meaning::Json && !W::WANTS_LITERALS && is_json(&text);
                    if is_json { out.json(&text)? } else { out.text(&text) }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_keeps_all_its_digits_or_is_refused() {
        let text = |text: &str| SqlValue::from(text);
        let literal = |text: &str| SqlValue::Literal(text.to_owned());
        let big = "100000000000000000001";
        for (declared, value, kept) in [
            ("INTEGER", SqlValue::Int(i64::MIN), Some(Kept::Integer(i64::MIN))),
            ("INTEGER", SqlValue::BigInt(big.into()), None),
            ("NUMERIC", text(big), None),
            ("NUMERIC(30)", SqlValue::Decimal(big.into()), None),
            ("TEXT", SqlValue::BigInt(big.into()), Some(Kept::Text(big.into()))),
            ("TEXT", SqlValue::Double(0.1 + 0.2), Some(Kept::Text("0.30000000000000004".into()))),
            ("REAL", SqlValue::Int((1 << 53) + 1), None),
            ("REAL", SqlValue::Int(1 << 53), Some(Kept::Integer(1 << 53))),
            ("REAL", SqlValue::Double(f64::NAN), None),
            ("REAL", SqlValue::Double(f64::INFINITY), Some(Kept::Real(f64::INFINITY))),
            ("DECIMAL(10,2)", SqlValue::Decimal("12.50".into()), Some(Kept::Real(12.5))),
            ("DECIMAL(10,2)", SqlValue::Decimal("12.00".into()), Some(Kept::Integer(12))),
            ("DECIMAL", SqlValue::Decimal("12345678901234567.89".into()), None),
            ("DECIMAL", text("about 5"), Some(Kept::Text("about 5".into()))),
            ("INTEGER", literal("5"), Some(Kept::Integer(5))),
            ("INTEGER", literal("abc"), None),
            ("BLOB", text("\\x00ff"), Some(Kept::Blob(vec![0, 255]))),
            ("", text("\\x00ff"), Some(Kept::Blob(vec![0, 255]))),
            ("", literal("5.5"), Some(Kept::Real(5.5))),
            ("", literal("5.50"), Some(Kept::Text("5.50".into()))),
            ("BLOB", text("\\x0"), Some(Kept::Text("\\x0".into()))),
            ("TEXT", text("\\x00ff"), Some(Kept::Text("\\x00ff".into()))),
            ("TEXT", SqlValue::Bytes(vec![0]), Some(Kept::Blob(vec![0]))),
            ("JSON", text("a"), Some(Kept::Text("\"a\"".into()))),
            ("JSON", literal("{"), None),
            ("JSON", literal("{\"a\": 1.0}"), Some(Kept::Text("{\"a\": 1.0}".into()))),
            ("BOOLEAN", literal("true"), Some(Kept::Integer(1))),
            ("TIMESTAMP", literal("2024-01-02T03:04:05"), Some(Kept::Text("2024-01-02T03:04:05".into()))),
            ("TIMESTAMP", literal("never"), None),
            ("TIMESTAMP", literal("1700000000"), Some(Kept::Integer(1_700_000_000))),
            ("DATE", text("2024"), Some(Kept::Integer(2024))),
            ("DATE", text("1e400"), None),
            ("JSON", SqlValue::BigInt(big.into()), None),
            ("JSON", SqlValue::Int(5), Some(Kept::Integer(5))),
        ] {
            let result = for_column(&value, declared);
            assert_eq!(result.clone().ok(), kept, "{declared} {value:?}: {result:?}");
        }
    }
}
