//! MySQL's rows.
//!
//! Owns: from the wire to whoever writes rows. Never: loses a digit unless it is asked for doubles.

use std::sync::Arc;

use sqlx::{
    Column as _, Decode, MySql, Row as _,
    mysql::{MySqlColumn, MySqlRow},
};

use crate::{
    data::{
        described::{Described, Order},
        moments,
        mysql::{
            geometry,
            json_columns::JsonColumns,
            types::{Malformed, Type},
        },
        rows::{RowBatch, RowWriter, unique_names},
    },
    domain::{
        sql::{Column, SqlError, SqlErrorCode},
        value::is_json,
    },
};

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
    r#type: Type,
    order: Order,
}

impl Decoder {
    /// Chooses how to read each column.
    pub(super) fn new(columns: &[MySqlColumn], json_columns: &JsonColumns, decimals: bool) -> Self {
        let type_of = |column: &MySqlColumn| {
            let r#type = Type::of_column(column, json_columns);
            ColumnType { name: column.name().to_owned(), r#type, order: r#type.order(column) }
        };
        let types: Vec<ColumnType> = columns.iter().map(type_of).collect();
        let names = unique_names(types.iter().map(|column| column.name.as_str()));
        let named = names.into_iter().zip(&types);
        let columns = named.map(|(name, column)| Column { name, kind: column.r#type.kind(decimals) }).collect();
        Self { columns, types, decimals }
    }
}

/// Some rows, and how to read them.
pub(super) struct MySqlRows {
    decoder: Arc<Decoder>,
    rows: Vec<MySqlRow>,
}

impl MySqlRows {
    pub(super) fn new(decoder: Arc<Decoder>, rows: Vec<MySqlRow>) -> Self {
        Self { decoder, rows }
    }
}

impl RowBatch for MySqlRows {
    fn columns(&self) -> &[Column] {
        &self.decoder.columns
    }

    fn described(&self) -> Vec<Described> {
        let columns = self.decoder.columns.iter().zip(&self.decoder.types);
        let describe = |(column, of): (&Column, &ColumnType)| Described {
            name: column.name.clone(),
            is_renamed: column.name != of.name,
            declared: of.r#type.name().into(),
            schema: of.r#type.schema(),
            order: of.order.clone(),
            equality: of.r#type.equality(),
        };
        columns.map(describe).collect()
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn write<W: RowWriter>(&self, row: usize, out: &mut W) -> Result<(), SqlError> {
        for (at, ColumnType { name, r#type, .. }) in self.decoder.types.iter().enumerate() {
            match bytes_of(&self.rows[row], at) {
                None => out.null(),
                Some(bytes) if *r#type == Type::Json => match text(bytes) {
                    Ok(json) if is_json(json) => out.json(json)?,
                    Ok(text) => out.text(text), // the constraint can be switched off
                    Err(Malformed) => return Err(malformed(name)),
                },
                Some(bytes) => {
                    write_value(out, *r#type, bytes, self.decoder.decimals).map_err(|Malformed| malformed(name))?;
                }
            }
        }
        Ok(())
    }
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

fn write_value(out: &mut impl RowWriter, r#type: Type, bytes: &[u8], decimals: bool) -> Result<(), Malformed> {
    match r#type {
        Type::Bool { is_signed } => match bytes {
            [0] => out.bool(false),
            [1] => out.bool(true),
            _ if is_signed => out.int(int_of(bytes)?),
            _ => out.uint(uint_of(bytes)?),
        },
        Type::Int { .. } => out.int(int_of(bytes)?),
        Type::Uint { .. } | Type::Year => out.uint(uint_of(bytes)?),
        Type::Float => out.single(f32::from_le_bytes(exact(bytes)?)),
        Type::Double => out.double(f64::from_le_bytes(exact(bytes)?)),
        Type::Decimal => {
            let decimal = plain_decimal(text(bytes)?);
            if decimals { out.decimal(&decimal) } else { out.decimal_as_double(&decimal) }
        }
        Type::Bits => {
            // The one number that has its highest byte first.
            let bits = bytes.iter().rev().copied().collect::<Vec<u8>>();
            out.uint(uint_of(&bits)?);
        }
        Type::Text | Type::Labels | Type::Json => out.text(text(bytes)?),
        Type::Bytes => out.bytes(bytes),
        Type::Time => out.plain(|out| write_time(out, bytes))?,
        Type::Geometry => out.plain(|out| geometry::write(out, bytes))?,
        Type::Date | Type::Datetime | Type::Timestamp => out.plain(|out| write_moment(out, r#type, bytes))?,
    }
    Ok(())
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
fn write_moment(out: &mut Vec<u8>, r#type: Type, bytes: &[u8]) -> Result<(), Malformed> {
    let (y0, y1, month, day, time) = match *bytes.get(1..).ok_or(Malformed)? {
        [] => (0, 0, 0, 0, &[][..]),
        [y0, y1, month, day, ref time @ ..] => (y0, y1, month, day, time),
        _ => return Err(Malformed),
    };
    let year = i64::from(u16::from_le_bytes([y0, y1]));
    moments::write_two(out, year / 100);
    moments::write_two(out, year % 100);
    out.push(b'-');
    moments::write_two(out, month.into());
    out.push(b'-');
    moments::write_two(out, day.into());
    if r#type == Type::Date {
        return Ok(());
    }
    out.push(b'T');
    moments::write_time(out, micros_of(time)?);
    if r#type == Type::Timestamp {
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
        moments::write_time(out, micros);
        return Ok(());
    }
    let mut clock = Vec::new();
    moments::write_time(&mut clock, micros % 3_600_000_000);
    out.extend_from_slice(itoa::Buffer::new().format(hours).as_bytes());
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
