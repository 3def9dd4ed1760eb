//! PostgreSQL's values as JSON.
//!
//! Owns: the types we know and their JSON. Never: loses a digit unless it is asked for floats.

use std::net::{Ipv4Addr, Ipv6Addr};

use sqlx::{
    Column as _, Row as _, TypeInfo as _, ValueRef as _,
    postgres::{PgColumn, PgRow, PgTypeInfo, PgTypeKind},
};

use crate::{
    data::{
        json::{self, Reader, Shape},
        postgres::numeric::{self, Numeric},
    },
    domain::sql::{Column, ColumnKind, SqlError, SqlErrorCode},
};

/// Most dimensions of an array in PostgreSQL.
const DIMENSIONS_MAX: usize = 6;
const DAY_MICROS: i64 = 86_400_000_000;

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

/// How a type's wire form is read.
#[derive(Debug, Clone, PartialEq)]
enum Codec {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Numeric,
    Text,
    /// Text after a byte that counts versions of the format.
    VersionedText,
    Json,
    Jsonb,
    Uuid,
    Date,
    Time,
    TimeTz,
    Timestamp,
    TimestampTz,
    Interval,
    Bytea,
    Inet,
    MacAddr,
    Bits,
    Array(Box<Self>),
}

/// The bytes are not what the type's wire form says.
struct Malformed;

impl Codec {
    fn of(r#type: &PgTypeInfo) -> Option<Self> {
        Some(match r#type.oid()?.0 {
            16 => Self::Bool,
            17 => Self::Bytea,
            18 | 19 | 25 | 142 | 705 | 1042 | 1043 | 2278 => Self::Text,
            20 => Self::Int8,
            21 => Self::Int2,
            23 => Self::Int4,
            26 => Self::Oid,
            114 => Self::Json,
            650 | 869 => Self::Inet,
            700 => Self::Float4,
            701 => Self::Float8,
            774 | 829 => Self::MacAddr,
            1082 => Self::Date,
            1083 => Self::Time,
            1114 => Self::Timestamp,
            1184 => Self::TimestampTz,
            1186 => Self::Interval,
            1266 => Self::TimeTz,
            1560 | 1562 => Self::Bits,
            1700 => Self::Numeric,
            2950 => Self::Uuid,
            3802 => Self::Jsonb,
            4072 => Self::VersionedText,
            // sqlx leaves a type unresolved only if the catalogue does not have it.
            _ if r#type.name() == "?" => return None,
            _ => return Self::of_kind(r#type),
        })
    }

    fn of_kind(r#type: &PgTypeInfo) -> Option<Self> {
        match r#type.kind() {
            PgTypeKind::Array(item) => Self::of(item).map(|item| Self::Array(Box::new(item))),
            PgTypeKind::Domain(base) => Self::of(base),
            PgTypeKind::Enum(_) => Some(Self::Text),
            // Types of extensions, known by name because their ids differ from database to database.
            PgTypeKind::Simple => match r#type.name().rsplit('.').next()? {
                "citext" => Some(Self::Text),
                "ltree" | "lquery" | "ltxtquery" => Some(Self::VersionedText),
                _ => None,
            },
            PgTypeKind::Pseudo | PgTypeKind::Composite(_) | PgTypeKind::Range(_) => None,
        }
    }

    fn kind(&self, decimals: bool) -> ColumnKind {
        match self {
            Self::Numeric if decimals => ColumnKind::Decimal,
            Self::Date => ColumnKind::Date,
            Self::Time | Self::TimeTz => ColumnKind::Time,
            Self::Timestamp => ColumnKind::Timestamp,
            Self::TimestampTz => ColumnKind::TimestampTz,
            _ => ColumnKind::Plain,
        }
    }
}

impl Decoder {
    /// Chooses how to read each column.
    ///
    /// # Errors
    ///
    /// `UnsupportedType` names the first column we cannot read, and what to do.
    pub(super) fn new(columns: &[PgColumn], decimals: bool, shape: Shape) -> Result<Self, SqlError> {
        let columns = columns
            .iter()
            .enumerate()
            .map(|(nth, column)| {
                let name = column.name().to_owned();
                let codec = Codec::of(column.type_info()).ok_or_else(|| unsupported(column))?;
                let prefix = shape.prefix(nth, &name);
                Ok(DecodedColumn { name, prefix, codec })
            })
            .collect::<Result<_, SqlError>>()?;
        Ok(Self { columns, decimals, shape })
    }

    pub(crate) fn columns(&self) -> Vec<Column> {
        let kind =
            |column: &DecodedColumn| Column { name: column.name.clone(), kind: column.codec.kind(self.decimals) };
        self.columns.iter().map(kind).collect()
    }

    /// Writes rows as JSON with commas between them.
    pub(crate) fn write(&self, out: &mut Vec<u8>, rows: &[PgRow], reader: Reader) -> Result<(), SqlError> {
        let writer = Writer { reader, decimals: self.decimals };
        for (nth, row) in rows.iter().enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            if self.columns.is_empty() {
                out.push(self.shape.begin());
            }
            for (at, column) in self.columns.iter().enumerate() {
                out.extend_from_slice(&column.prefix);
                let value = row.try_get_raw(at).map_err(|_| malformed(&column.name))?;
                if value.is_null() {
                    out.extend_from_slice(b"null");
                    continue;
                }
                let bytes = value.as_bytes().map_err(|_| malformed(&column.name))?;
                writer.write(out, &column.codec, bytes).map_err(|Malformed| malformed(&column.name))?;
            }
            out.push(self.shape.end());
        }
        Ok(())
    }
}

fn unsupported(column: &PgColumn) -> SqlError {
    let (name, r#type) = (column.name(), column.type_info().name().to_lowercase());
    SqlError::new(
        SqlErrorCode::UnsupportedType,
        format!(
            "column `{name}` has the type {type}, which cannot be returned: select it as `\"{name}\"::text` in a `query`"
        ),
    )
}

fn malformed(column: &str) -> SqlError {
    SqlError::new(SqlErrorCode::StatementFailed, format!("the value of column `{column}` could not be read"))
}

struct Writer {
    reader: Reader,
    decimals: bool,
}

impl Writer {
    fn write(&self, out: &mut Vec<u8>, codec: &Codec, bytes: &[u8]) -> Result<(), Malformed> {
        match codec {
            Codec::Bool => out.extend_from_slice(if exact::<1>(bytes)? == [0] { b"false" } else { b"true" }),
            Codec::Int2 => json::write_int(out, i16::from_be_bytes(exact(bytes)?)),
            Codec::Int4 => json::write_int(out, i32::from_be_bytes(exact(bytes)?)),
            Codec::Int8 => json::write_int(out, i64::from_be_bytes(exact(bytes)?)),
            Codec::Oid => json::write_int(out, u32::from_be_bytes(exact(bytes)?)),
            Codec::Float4 => json::write_single(out, f32::from_be_bytes(exact(bytes)?), self.reader),
            Codec::Float8 => json::write_double(out, f64::from_be_bytes(exact(bytes)?), self.reader),
            Codec::Numeric => self.write_numeric(out, bytes)?,
            Codec::Text => json::write_string(out, text(bytes)?),
            Codec::VersionedText => json::write_string(out, text(bytes.get(1..).ok_or(Malformed)?)?),
            // The server holds only valid JSON.
            Codec::Json => out.extend_from_slice(bytes),
            Codec::Jsonb => out.extend_from_slice(bytes.get(1..).ok_or(Malformed)?),
            Codec::Bytea => json::write_bytes(out, bytes),
            Codec::Uuid => {
                out.push(b'"');
                let uuid = uuid::Uuid::from_bytes(exact(bytes)?).hyphenated();
                out.extend_from_slice(uuid.encode_lower(&mut uuid::Uuid::encode_buffer()).as_bytes());
                out.push(b'"');
            }
            Codec::Array(item) => self.write_array(out, item, bytes)?,
            Codec::Date
            | Codec::Time
            | Codec::TimeTz
            | Codec::Timestamp
            | Codec::TimestampTz
            | Codec::Interval
            | Codec::Inet
            | Codec::MacAddr
            | Codec::Bits => {
                out.push(b'"');
                write_unquoted(out, codec, bytes)?;
                out.push(b'"');
            }
        }
        Ok(())
    }

    fn write_numeric(&self, out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Malformed> {
        let not_finite = match numeric::read(bytes).ok_or(Malformed)? {
            Numeric::Decimal(text) if self.decimals => {
                json::write_decimal(out, &text, self.reader);
                return Ok(());
            }
            Numeric::Decimal(text) => {
                json::write_decimal_as_float(out, &text, self.reader);
                return Ok(());
            }
            Numeric::NotANumber => f64::NAN,
            Numeric::Infinity => f64::INFINITY,
            Numeric::NegativeInfinity => f64::NEG_INFINITY,
        };
        if self.decimals && self.reader == Reader::Guest {
            // A column of decimals holds strings; Python's Decimal reads these too.
            out.push(b'"');
            json::write_double(out, not_finite, self.reader);
            out.push(b'"');
            return Ok(());
        }
        json::write_double(out, not_finite, self.reader);
        Ok(())
    }

    /// Wire form: dimensions, a flag, the item type, then length and lower bound of each dimension, then the items.
    fn write_array(&self, out: &mut Vec<u8>, item: &Codec, bytes: &[u8]) -> Result<(), Malformed> {
        let mut rest = bytes;
        let n_dimensions = length(take::<4>(&mut rest)?)?;
        take::<8>(&mut rest)?;
        if n_dimensions > DIMENSIONS_MAX {
            return Err(Malformed);
        }
        let mut dimensions = Vec::with_capacity(n_dimensions);
        for _ in 0..n_dimensions {
            dimensions.push(length(take::<4>(&mut rest)?)?);
            take::<4>(&mut rest)?;
        }
        if dimensions.is_empty() {
            out.extend_from_slice(b"[]");
            return Ok(());
        }
        self.write_items(out, item, &dimensions, &mut rest)
    }

    fn write_items(
        &self,
        out: &mut Vec<u8>,
        item: &Codec,
        dimensions: &[usize],
        rest: &mut &[u8],
    ) -> Result<(), Malformed> {
        let Some((n_items, inner)) = dimensions.split_first() else {
            let [a, b, c, d] = take::<4>(rest)?;
            if i32::from_be_bytes([a, b, c, d]) == -1 {
                out.extend_from_slice(b"null");
                return Ok(());
            }
            let (value, after) = rest.split_at_checked(length([a, b, c, d])?).ok_or(Malformed)?;
            *rest = after;
            return self.write(out, item, value);
        };
        out.push(b'[');
        for nth in 0..*n_items {
            if nth > 0 {
                out.push(b',');
            }
            self.write_items(out, item, inner, rest)?;
        }
        out.push(b']');
        Ok(())
    }
}

/// Writes types whose JSON is a string of plain characters, without the quotes.
fn write_unquoted(out: &mut Vec<u8>, codec: &Codec, bytes: &[u8]) -> Result<(), Malformed> {
    match codec {
        Codec::Date => match i32::from_be_bytes(exact(bytes)?) {
            i32::MAX => out.extend_from_slice(b"infinity"),
            i32::MIN => out.extend_from_slice(b"-infinity"),
            days => {
                json::write_date(out, days.into());
                write_era(out, days.into());
            }
        },
        Codec::Time => json::write_time(out, i64::from_be_bytes(exact(bytes)?)),
        Codec::TimeTz => {
            let mut rest = bytes;
            json::write_time(out, i64::from_be_bytes(take(&mut rest)?));
            // The wire has seconds west of Greenwich, people write them east.
            write_offset(out, -i64::from(i32::from_be_bytes(exact(rest)?)));
        }
        Codec::Timestamp => write_timestamp(out, bytes, b"")?,
        Codec::TimestampTz => write_timestamp(out, bytes, b"+00:00")?,
        Codec::Interval => write_interval(out, bytes)?,
        Codec::Inet => write_inet(out, bytes)?,
        Codec::MacAddr => {
            for (nth, byte) in bytes.iter().enumerate() {
                if nth > 0 {
                    out.push(b':');
                }
                out.extend_from_slice(hex::encode([*byte]).as_bytes());
            }
        }
        Codec::Bits => {
            let mut rest = bytes;
            let n_bits = length(take::<4>(&mut rest)?)?;
            for nth in 0..n_bits {
                let byte = rest.get(nth / 8).ok_or(Malformed)?;
                out.push(b'0' + (byte >> (7 - nth % 8) & 1));
            }
        }
        _ => return Err(Malformed),
    }
    Ok(())
}

fn write_timestamp(out: &mut Vec<u8>, bytes: &[u8], zone: &[u8]) -> Result<(), Malformed> {
    match i64::from_be_bytes(exact(bytes)?) {
        i64::MAX => out.extend_from_slice(b"infinity"),
        i64::MIN => out.extend_from_slice(b"-infinity"),
        micros => {
            let days = micros.div_euclid(DAY_MICROS);
            json::write_date(out, days);
            out.push(b'T');
            json::write_time(out, micros.rem_euclid(DAY_MICROS));
            out.extend_from_slice(zone);
            write_era(out, days);
        }
    }
    Ok(())
}

fn write_era(out: &mut Vec<u8>, days: i64) {
    if json::is_before_christ(days) {
        out.extend_from_slice(b" BC");
    }
}

fn write_offset(out: &mut Vec<u8>, seconds: i64) {
    out.push(if seconds < 0 { b'-' } else { b'+' });
    let seconds = seconds.abs();
    json::write_two(out, seconds / 3600);
    out.push(b':');
    json::write_two(out, seconds / 60 % 60);
    if seconds % 60 != 0 {
        out.push(b':');
        json::write_two(out, seconds % 60);
    }
}

/// As PostgreSQL prints intervals by default: `1 year 2 mons -3 days +04:05:06.7`.
fn write_interval(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Malformed> {
    let mut rest = bytes;
    let micros = i64::from_be_bytes(take(&mut rest)?);
    let days = i32::from_be_bytes(take(&mut rest)?);
    let months = i32::from_be_bytes(exact(rest)?);
    let infinity: Option<&[u8]> = match (micros, days, months) {
        (i64::MAX, i32::MAX, i32::MAX) => Some(b"infinity"),
        (i64::MIN, i32::MIN, i32::MIN) => Some(b"-infinity"),
        _ => None,
    };
    if let Some(infinity) = infinity {
        out.extend_from_slice(infinity);
        return Ok(());
    }
    let begin = out.len();
    // A positive part after a negative one is marked with a plus.
    let mut after_negative = false;
    for (number, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if number == 0 {
            continue;
        }
        let space = if out.len() == begin { "" } else { " " };
        let plus = if after_negative && number > 0 { "+" } else { "" };
        let plural = if number == 1 { "" } else { "s" };
        out.extend_from_slice(format!("{space}{plus}{number} {unit}{plural}").as_bytes());
        after_negative = number < 0;
    }
    if micros == 0 && out.len() > begin {
        return Ok(());
    }
    if out.len() > begin {
        out.push(b' ');
    }
    if micros < 0 {
        out.push(b'-');
    } else if after_negative {
        out.push(b'+');
    }
    let micros = micros.unsigned_abs();
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    out.extend_from_slice(format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60).as_bytes());
    if fraction != 0 {
        out.extend_from_slice(format!(".{fraction:06}").trim_end_matches('0').as_bytes());
    }
    Ok(())
}

/// Wire form: family (2 or 3), bits of the mask, whether it is a `cidr`, length, address.
fn write_inet(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Malformed> {
    let mut rest = bytes;
    let [_family, mask, is_cidr, _length] = take(&mut rest)?;
    let (address, full_mask) = if let Ok(octets) = <[u8; 4]>::try_from(rest) {
        (Ipv4Addr::from(octets).to_string(), 32)
    } else {
        (Ipv6Addr::from(exact::<16>(rest)?).to_string(), 128)
    };
    out.extend_from_slice(address.as_bytes());
    if is_cidr != 0 || mask != full_mask {
        out.push(b'/');
        json::write_int(out, mask);
    }
    Ok(())
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

fn exact<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Malformed> {
    bytes.try_into().map_err(|_| Malformed)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(Malformed)?;
    *rest = tail;
    Ok(*head)
}

fn length(bytes: [u8; 4]) -> Result<usize, Malformed> {
    usize::try_from(i32::from_be_bytes(bytes)).map_err(|_| Malformed)
}
