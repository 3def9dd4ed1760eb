//! PostgreSQL's values as JSON.
//!
//! Owns: the types we know and their JSON. Never: loses a digit unless it is asked for floats.

use sqlx::{
    Column as _, Row as _, TypeInfo as _, ValueRef as _,
    postgres::{PgColumn, PgRow},
};

use crate::{
    data::{
        json::{self, Reader, Shape},
        postgres::{
            codec::{Codec, Malformed, dimensions, exact, length, take, text},
            numeric::{self, Numeric},
            text::{hstore_pairs, write_plain, write_unquoted},
        },
    },
    domain::sql::{Column, SqlError, SqlErrorCode},
};

/// How the rows of one statement become JSON objects.
#[derive(Debug)]
pub(crate) struct Decoder {
    columns: Vec<DecodedColumn>,
    decimals: bool,
    money_digits: u32,
    shape: Shape,
}

#[derive(Debug)]
struct DecodedColumn {
    name: String,
    /// What stands before the value: `{"name":` or `,"name":`.
    prefix: Vec<u8>,
    codec: Codec,
}

impl Decoder {
    /// Chooses how to read each column.
    ///
    /// # Errors
    ///
    /// `UnsupportedType` names the first column we cannot read, and what to do.
    pub(super) fn new(columns: &[PgColumn], decimals: bool, money_digits: u32, shape: Shape) -> Result<Self, SqlError> {
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
        Ok(Self { columns, decimals, money_digits, shape })
    }

    /// Whether values of `money` may occur, whose digits after the point are a setting of the server.
    pub(super) fn has_money(columns: &[PgColumn]) -> bool {
        columns.iter().any(|column| Codec::of(column.type_info()).is_some_and(|codec| codec.has_money()))
    }

    pub(crate) fn columns(&self) -> Vec<Column> {
        let kind =
            |column: &DecodedColumn| Column { name: column.name.clone(), kind: column.codec.kind(self.decimals) };
        self.columns.iter().map(kind).collect()
    }

    /// Writes rows as JSON with commas between them.
    pub(crate) fn write(&self, out: &mut Vec<u8>, rows: &[PgRow], reader: Reader) -> Result<(), SqlError> {
        let writer = Writer { reader, decimals: self.decimals, money_digits: self.money_digits };
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
    money_digits: u32,
}

impl Writer {
    fn write(&self, out: &mut Vec<u8>, codec: &Codec, bytes: &[u8]) -> Result<(), Malformed> {
        match codec {
            Codec::Bool => out.extend_from_slice(if exact::<1>(bytes)? == [0] { b"false" } else { b"true" }),
            Codec::Int2 => json::write_int(out, i16::from_be_bytes(exact(bytes)?)),
            Codec::Int4 => json::write_int(out, i32::from_be_bytes(exact(bytes)?)),
            Codec::Int8 => json::write_int(out, i64::from_be_bytes(exact(bytes)?)),
            Codec::Oid => json::write_int(out, u32::from_be_bytes(exact(bytes)?)),
            Codec::Xid8 => json::write_int(out, u64::from_be_bytes(exact(bytes)?)),
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
            Codec::Money => {
                let number = i64::from_be_bytes(exact(bytes)?);
                self.write_decimal(out, &numeric::scaled(number, self.money_digits));
            }
            Codec::Hstore => write_hstore(out, bytes)?,
            Codec::Range(_) | Codec::Composite(_) | Codec::Record | Codec::Geometric(_) | Codec::TsVector => {
                let mut plain = Vec::new();
                write_plain(&mut plain, codec, bytes, self.money_digits)?;
                json::write_string(out, text(&plain)?);
            }
            Codec::Date
            | Codec::Time
            | Codec::TimeTz
            | Codec::Timestamp
            | Codec::TimestampTz
            | Codec::Interval
            | Codec::Inet
            | Codec::MacAddr
            | Codec::Bits
            | Codec::Lsn
            | Codec::Tid => {
                out.push(b'"');
                write_unquoted(out, codec, bytes)?;
                out.push(b'"');
            }
        }
        Ok(())
    }

    fn write_decimal(&self, out: &mut Vec<u8>, text: &str) {
        if self.decimals {
            json::write_decimal(out, text, self.reader);
        } else {
            json::write_decimal_as_float(out, text, self.reader);
        }
    }

    fn write_numeric(&self, out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Malformed> {
        let not_finite = match numeric::read(bytes).ok_or(Malformed)? {
            Numeric::Decimal(text) => {
                self.write_decimal(out, &text);
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

    /// Wire form: see [`dimensions`], then the items.
    fn write_array(&self, out: &mut Vec<u8>, item: &Codec, bytes: &[u8]) -> Result<(), Malformed> {
        let mut rest = bytes;
        let dimensions = dimensions(&mut rest)?;
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

/// An object of texts.
fn write_hstore(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Malformed> {
    out.push(b'{');
    for (nth, (key, value)) in hstore_pairs(bytes)?.into_iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        json::write_string(out, key);
        out.push(b':');
        match value {
            Some(value) => json::write_string(out, value),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
    Ok(())
}
