//! MySQL's values as JSON.
//!
//! Owns: the types and their JSON. Never: loses a digit unless it is asked for floats.

use sqlx::{
    Column as _, Decode, MySql, Row as _, Type, TypeInfo as _,
    mysql::{MySqlColumn, MySqlRow, MySqlTypeInfo},
};

use crate::{
    data::{
        json::{self, Reader, Shape},
        mysql::{geometry, json_columns::JsonColumns},
    },
    domain::sql::{Column, ColumnKind, SqlError, SqlErrorCode},
};

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
    /// What stands before the value: `{"name":` or `,"name":`.
    prefix: Vec<u8>,
    codec: Codec,
}

/// How a type's binary form is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    /// TINYINT(1): 0 and 1 are booleans, other numbers stay numbers.
    Bool {
        signed: bool,
    },
    /// Of as many bytes as there are.
    Int,
    Uint,
    Float,
    Double,
    Decimal,
    Bits,
    Date,
    Time,
    Datetime,
    Timestamp,
    Text,
    /// Text that a constraint of MariaDB keeps valid.
    JsonText,
    Json,
    Bytes,
    Geometry,
}

/// The bytes are not what the type's binary form says.
pub(super) struct Malformed;

impl Codec {
    fn of(column: &MySqlColumn, json_columns: &JsonColumns) -> Self {
        let r#type = column.type_info();
        let signed = !<u64 as Type<MySql>>::compatible(r#type);
        match r#type.name() {
            "BOOLEAN" => Self::Bool { signed },
            "TINYINT" | "SMALLINT" | "MEDIUMINT" | "INT" | "BIGINT" => Self::Int,
            "TINYINT UNSIGNED" | "SMALLINT UNSIGNED" | "MEDIUMINT UNSIGNED" | "INT UNSIGNED" | "BIGINT UNSIGNED"
            | "YEAR" => Self::Uint,
            "FLOAT" => Self::Float,
            "DOUBLE" => Self::Double,
            "DECIMAL" => Self::Decimal,
            "BIT" => Self::Bits,
            "DATE" => Self::Date,
            "TIME" => Self::Time,
            "DATETIME" => Self::Datetime,
            "TIMESTAMP" => Self::Timestamp,
            "JSON" => Self::Json,
            "GEOMETRY" => Self::Geometry,
            _ if json_columns.contains(column) => Self::JsonText,
            "NULL" | "ENUM" | "SET" => Self::Text,
            _ if is_text(r#type) => Self::Text,
            _ => Self::Bytes,
        }
    }

    fn kind(self, decimals: bool) -> ColumnKind {
        match self {
            Self::Decimal if decimals => ColumnKind::Decimal,
            Self::Date => ColumnKind::Date,
            Self::Time => ColumnKind::Time,
            Self::Datetime => ColumnKind::Timestamp,
            Self::Timestamp => ColumnKind::TimestampTz,
            _ => ColumnKind::Plain,
        }
    }
}

/// Whether a type holds characters. Its name does not say so: a text with a binary collation has that of a BLOB.
pub(super) fn is_text(r#type: &MySqlTypeInfo) -> bool {
    <str as Type<MySql>>::compatible(r#type)
}

/// Whether a type holds numbers, and compares texts by the number at their beginning.
pub(super) fn is_number(r#type: &MySqlTypeInfo) -> bool {
    let name = r#type.name();
    matches!(name, "BOOLEAN" | "FLOAT" | "DOUBLE" | "DECIMAL" | "YEAR") || name.contains("INT")
}

/// Bytes of the values of a row.
pub(super) fn size_of_values(row: &MySqlRow) -> usize {
    (0..row.len()).filter_map(|at| bytes_of(row, at)).map(<[u8]>::len).sum()
}

/// The value in its binary form; `None` for NULL.
fn bytes_of(row: &MySqlRow, at: usize) -> Option<&[u8]> {
    // Only this tells NULL from a zero date, which sqlx calls null too.
    row.try_get_raw(at).ok().and_then(|value| <&[u8] as Decode<MySql>>::decode(value).ok())
}

impl Decoder {
    /// Chooses how to read each column.
    pub(super) fn new(columns: &[MySqlColumn], json_columns: &JsonColumns, decimals: bool, shape: Shape) -> Self {
        let columns = columns
            .iter()
            .enumerate()
            .map(|(nth, column)| {
                let name = column.name().to_owned();
                let prefix = shape.prefix(nth, &name);
                DecodedColumn { name, prefix, codec: Codec::of(column, json_columns) }
            })
            .collect();
        Self { columns, decimals, shape }
    }

    pub(crate) fn columns(&self) -> Vec<Column> {
        let kind =
            |column: &DecodedColumn| Column { name: column.name.clone(), kind: column.codec.kind(self.decimals) };
        self.columns.iter().map(kind).collect()
    }

    /// Writes rows as JSON with commas between them.
    pub(crate) fn write(&self, out: &mut Vec<u8>, rows: &[MySqlRow], reader: Reader) -> Result<(), SqlError> {
        for (nth, row) in rows.iter().enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            for (at, column) in self.columns.iter().enumerate() {
                out.extend_from_slice(&column.prefix);
                match bytes_of(row, at) {
                    None => out.extend_from_slice(b"null"),
                    Some(bytes) => self
                        .write_value(out, column.codec, bytes, reader)
                        .map_err(|Malformed| malformed(&column.name))?,
                }
            }
            out.push(self.shape.end());
        }
        Ok(())
    }

    fn write_value(&self, out: &mut Vec<u8>, codec: Codec, bytes: &[u8], reader: Reader) -> Result<(), Malformed> {
        match codec {
            Codec::Bool { signed } => match bytes {
                [0] => out.extend_from_slice(b"false"),
                [1] => out.extend_from_slice(b"true"),
                _ if signed => json::write_int(out, int_of(bytes)?),
                _ => json::write_int(out, uint_of(bytes)?),
            },
            Codec::Int => json::write_int(out, int_of(bytes)?),
            Codec::Uint => json::write_int(out, uint_of(bytes)?),
            Codec::Float => json::write_single(out, f32::from_le_bytes(exact(bytes)?), reader),
            Codec::Double => json::write_double(out, f64::from_le_bytes(exact(bytes)?), reader),
            Codec::Decimal => {
                let decimal = plain_decimal(text(bytes)?);
                if self.decimals {
                    json::write_decimal(out, &decimal, reader);
                } else {
                    json::write_decimal_as_float(out, &decimal, reader);
                }
            }
            Codec::Bits => {
                // The one number that has its highest byte first.
                let bits = bytes.iter().rev().copied().collect::<Vec<u8>>();
                json::write_int(out, uint_of(&bits)?);
            }
            Codec::Text => json::write_string(out, text(bytes)?),
            Codec::JsonText if serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_err() => {
                json::write_string(out, text(bytes)?); // the constraint can be switched off
            }
            // The server holds only valid JSON.
            Codec::JsonText | Codec::Json => out.extend_from_slice(bytes),
            Codec::Bytes => json::write_bytes(out, bytes),
            Codec::Date | Codec::Time | Codec::Datetime | Codec::Timestamp | Codec::Geometry => {
                out.push(b'"');
                match codec {
                    Codec::Time => write_time(out, bytes)?,
                    Codec::Geometry => geometry::write(out, bytes)?,
                    _ => write_moment(out, codec, bytes)?,
                }
                out.push(b'"');
            }
        }
        Ok(())
    }
}

fn malformed(column: &str) -> SqlError {
    SqlError::new(SqlErrorCode::StatementFailed, format!("the value of column `{column}` could not be read"))
}

/// ZEROFILL pads decimals with zeros, which JSON has not.
fn plain_decimal(text: &str) -> String {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let digits = digits.trim_start_matches('0');
    let zero = if digits.is_empty() || digits.starts_with('.') { "0" } else { "" };
    format!("{sign}{zero}{digits}")
}

/// Binary form: how many bytes follow, year, month, day, hour, minute, second, microseconds; zeros at the end are left
/// out. A date of zeros, whole or in part, is written as MySQL writes it; Python has none such.
fn write_moment(out: &mut Vec<u8>, codec: Codec, bytes: &[u8]) -> Result<(), Malformed> {
    let (y0, y1, month, day, time) = match *bytes.get(1..).ok_or(Malformed)? {
        [] => (0, 0, 0, 0, &[][..]),
        [y0, y1, month, day, ref time @ ..] => (y0, y1, month, day, time),
        _ => return Err(Malformed),
    };
    let year = i64::from(u16::from_le_bytes([y0, y1]));
    json::write_two(out, year / 100);
    json::write_two(out, year % 100);
    out.push(b'-');
    json::write_two(out, month.into());
    out.push(b'-');
    json::write_two(out, day.into());
    if codec == Codec::Date {
        return Ok(());
    }
    out.push(b'T');
    json::write_time(out, micros_of(time)?);
    if codec == Codec::Timestamp {
        out.extend_from_slice(b"+00:00"); // sessions are in UTC
    }
    Ok(())
}

/// Binary form: how many bytes follow, sign, days, hour, minute, second, microseconds. A TIME is a span of up to 838 hours.
fn write_time(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Malformed> {
    let (negative, days, time) = match *bytes.get(1..).ok_or(Malformed)? {
        [] => (0, 0, &[][..]),
        [negative, d0, d1, d2, d3, ref time @ ..] => (negative, u32::from_le_bytes([d0, d1, d2, d3]), time),
        _ => return Err(Malformed),
    };
    if negative != 0 {
        out.push(b'-');
    }
    let micros = micros_of(time)? + i64::from(days) * 86_400_000_000;
    let hours = micros / 3_600_000_000;
    if hours < 100 {
        json::write_time(out, micros);
        return Ok(());
    }
    let mut clock = Vec::new();
    json::write_time(&mut clock, micros % 3_600_000_000);
    json::write_int(out, hours);
    out.extend_from_slice(clock.get(2..).ok_or(Malformed)?);
    Ok(())
}

/// Hour, minute, second and, if they are not zero, microseconds.
fn micros_of(time: &[u8]) -> Result<i64, Malformed> {
    let (hour, minute, second, micros) = match *time {
        [] => return Ok(0),
        [hour, minute, second] => (hour, minute, second, 0),
        [hour, minute, second, m0, m1, m2, m3] => (hour, minute, second, u32::from_le_bytes([m0, m1, m2, m3])),
        _ => return Err(Malformed),
    };
    let seconds = (i64::from(hour) * 60 + i64::from(minute)) * 60 + i64::from(second);
    Ok(seconds * 1_000_000 + i64::from(micros))
}

fn int_of(bytes: &[u8]) -> Result<i64, Malformed> {
    Ok(match *bytes {
        [_] => i64::from(i8::from_le_bytes(exact(bytes)?)),
        [_, _] => i64::from(i16::from_le_bytes(exact(bytes)?)),
        [_, _, _, _] => i64::from(i32::from_le_bytes(exact(bytes)?)),
        _ => i64::from_le_bytes(exact(bytes)?),
    })
}

fn uint_of(bytes: &[u8]) -> Result<u64, Malformed> {
    let mut wide = [0; 8];
    wide.get_mut(..bytes.len()).ok_or(Malformed)?.copy_from_slice(bytes);
    Ok(u64::from_le_bytes(wide))
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

fn exact<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Malformed> {
    bytes.try_into().map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_lose_their_padding_only() {
        for (text, plain) in
            [("00012.50", "12.50"), ("-0.10", "-0.10"), ("0", "0"), ("-000", "-0"), ("0000.00", "0.00"), ("100", "100")]
        {
            assert_eq!(plain_decimal(text), plain);
        }
    }
}
