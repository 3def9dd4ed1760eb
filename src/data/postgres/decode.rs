//! PostgreSQL's rows.
//!
//! Owns: from the wire to whoever writes rows. Never: loses a digit unless it is asked for doubles.

use std::sync::Arc;

use serde_json::json;
use sqlx::{
    Column as _, Row as _, TypeInfo as _, ValueRef as _,
    postgres::{PgColumn, PgRow},
};

use crate::{
    data::{
        described::{Described, Equality, Order},
        postgres::{
            numeric::{self, Numeric},
            text::{hstore_pairs, write_plain, write_unquoted},
            types::{Codec, Malformed, dimensions, equality_of, exact, length, order_of, take, text},
        },
        rows::{RowBatch, RowWriter, unique_names},
        statement::Statement,
    },
    domain::sql::{Column, SqlError, SqlErrorCode},
};

/// A reader of one statement's rows.
#[derive(Debug)]
pub(super) struct Decoder {
    columns: Vec<Column>,
    types: Vec<ColumnType>,
    decimals: bool,
    money_digits: u32,
}

#[derive(Debug)]
struct ColumnType {
    /// As the database calls the column.
    name: String,
    codec: Codec,
    /// Set if its values can be read.
    is_known: bool,
    declared: Arc<str>,
    order: Order,
    equality: Equality,
}

impl Decoder {
    /// Chooses how to read each column.
    ///
    /// # Errors
    ///
    /// `UnsupportedType` names the first column we cannot read, and what to do; not if no rows follow.
    pub(super) fn new(columns: &[PgColumn], statement: &Statement, money_digits: u32) -> Result<Self, SqlError> {
        let Statement { decimals, is_dry, .. } = *statement;
        let types = columns
            .iter()
            .map(|column| {
                let r#type = column.type_info();
                let codec = Codec::of(r#type);
                let is_known = codec.is_some();
                let codec = codec.or(is_dry.then_some(Codec::Text)).ok_or_else(|| unsupported(column))?;
                let declared = r#type.name().into();
                let (order, equality) = (order_of(r#type), equality_of(r#type));
                Ok(ColumnType { name: column.name().to_owned(), codec, is_known, declared, order, equality })
            })
            .collect::<Result<Vec<_>, SqlError>>()?;
        let names = unique_names(types.iter().map(|column| column.name.as_str()));
        let named = names.into_iter().zip(&types);
        let columns = named.map(|(name, column)| Column { name, kind: column.codec.kind(decimals) }).collect();
        Ok(Self { columns, types, decimals, money_digits })
    }

    /// Tells whether values of `money` may occur, whose digits after the point are a setting of the server.
    pub(super) fn has_money(columns: &[PgColumn]) -> bool {
        columns.iter().any(|column| Codec::of(column.type_info()).is_some_and(|codec| codec.has_money()))
    }
}

/// Some rows, and how to read them.
pub(super) struct PostgresRows {
    decoder: Arc<Decoder>,
    rows: Vec<PgRow>,
}

impl PostgresRows {
    pub(super) fn new(decoder: Arc<Decoder>, rows: Vec<PgRow>) -> Self {
        Self { decoder, rows }
    }
}

impl RowBatch for PostgresRows {
    fn columns(&self) -> &[Column] {
        &self.decoder.columns
    }

    fn described(&self) -> Vec<Described> {
        let columns = self.decoder.columns.iter().zip(&self.decoder.types);
        let describe = |(column, of): (&Column, &ColumnType)| Described {
            name: column.name.clone(),
            is_renamed: column.name != of.name,
            declared: Arc::clone(&of.declared),
            schema: if of.is_known { of.codec.schema() } else { json!({}) },
            order: of.order.clone(),
            equality: of.equality,
        };
        columns.map(describe).collect()
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn write<W: RowWriter>(&self, row: usize, out: &mut W) -> Result<(), SqlError> {
        let Decoder { types, decimals, money_digits, .. } = &*self.decoder;
        let values = Values { decimals: *decimals, money_digits: *money_digits };
        for (at, ColumnType { name, codec, .. }) in types.iter().enumerate() {
            let malformed = || malformed(name);
            let value = self.rows[row].try_get_raw(at).map_err(|_| malformed())?;
            if value.is_null() {
                out.null();
                continue;
            }
            let bytes = value.as_bytes().map_err(|_| malformed())?;
            let written =
                if W::WANTS_LITERALS { values.literal(out, codec, bytes) } else { values.write(out, codec, bytes) };
            written.map_err(|error| match error {
                Unwritable::Malformed => malformed(),
                Unwritable::Refused(error) => error,
            })?;
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

/// Why a value was not written.
enum Unwritable {
    Malformed,
    /// Its reader cannot take it.
    Refused(SqlError),
}

impl From<Malformed> for Unwritable {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<SqlError> for Unwritable {
    fn from(error: SqlError) -> Self {
        Self::Refused(error)
    }
}

struct Values {
    decimals: bool,
    money_digits: u32,
}

impl Values {
    /// Writes a value as PostgreSQL reads it back.
    fn literal<W: RowWriter>(&self, out: &mut W, codec: &Codec, bytes: &[u8]) -> Result<(), Unwritable> {
        let mut plain = Vec::new();
        write_plain(&mut plain, codec, bytes, self.money_digits)?;
        out.literal(text(&plain)?);
        Ok(())
    }

    fn write<W: RowWriter>(&self, out: &mut W, codec: &Codec, bytes: &[u8]) -> Result<(), Unwritable> {
        match codec {
            Codec::Bool => out.bool(exact::<1>(bytes)? != [0]),
            Codec::Int2 => out.int(i16::from_be_bytes(exact(bytes)?).into()),
            Codec::Int4 => out.int(i32::from_be_bytes(exact(bytes)?).into()),
            Codec::Int8 => out.int(i64::from_be_bytes(exact(bytes)?)),
            Codec::Oid => out.int(u32::from_be_bytes(exact(bytes)?).into()),
            Codec::Xid8 => out.uint(u64::from_be_bytes(exact(bytes)?)),
            Codec::Float4 => out.single(f32::from_be_bytes(exact(bytes)?)),
            Codec::Float8 => out.double(f64::from_be_bytes(exact(bytes)?)),
            Codec::Numeric => match numeric::read(bytes).ok_or(Malformed)? {
                Numeric::Decimal(text) => self.decimal(out, &text),
                Numeric::NotANumber => self.no_decimal(out, f64::NAN),
                Numeric::Infinity => self.no_decimal(out, f64::INFINITY),
                Numeric::NegativeInfinity => self.no_decimal(out, f64::NEG_INFINITY),
            },
            Codec::Money => {
                let number = i64::from_be_bytes(exact(bytes)?);
                self.decimal(out, &numeric::scaled(number, self.money_digits));
            }
            Codec::Text => out.text(text(bytes)?),
            Codec::Char => out.text(text(bytes)?.trim_end_matches('\0')),
            Codec::VersionedText => out.text(text(bytes.get(1..).ok_or(Malformed)?)?),
            // The server holds only valid JSON.
            Codec::Json => out.json(text(bytes)?)?,
            Codec::Jsonb => out.json(text(bytes.get(1..).ok_or(Malformed)?)?)?,
            Codec::Bytea => out.bytes(bytes),
            Codec::Uuid => {
                let uuid = uuid::Uuid::from_bytes(exact(bytes)?).hyphenated();
                out.plain(|out| {
                    out.extend_from_slice(uuid.encode_lower(&mut uuid::Uuid::encode_buffer()).as_bytes());
                    Ok::<_, Malformed>(())
                })?;
            }
            Codec::Array(item) => self.array(out, item, bytes)?,
            Codec::Hstore => out.texts(&hstore_pairs(bytes)?),
            // All others have no form but their text.
            _ if codec.is_plain() => out.plain(|out| write_unquoted(out, codec, bytes))?,
            _ => self.literal(out, codec, bytes)?,
        }
        Ok(())
    }

    fn decimal(&self, out: &mut impl RowWriter, text: &str) {
        if self.decimals {
            out.decimal(text);
        } else {
            out.decimal_as_double(text);
        }
    }

    fn no_decimal(&self, out: &mut impl RowWriter, value: f64) {
        if self.decimals {
            out.no_decimal(value);
        } else {
            out.double(value);
        }
    }

    /// Wire form: see [`dimensions`], then the items.
    fn array<W: RowWriter>(&self, out: &mut W, item: &Codec, bytes: &[u8]) -> Result<(), Unwritable> {
        let mut rest = bytes;
        let dimensions = dimensions(&mut rest)?;
        if dimensions.is_empty() {
            out.begin_list();
            out.end_list();
            return Ok(());
        }
        self.items(out, item, &dimensions, &mut rest)
    }

    fn items<W: RowWriter>(
        &self,
        out: &mut W,
        item: &Codec,
        dimensions: &[usize],
        rest: &mut &[u8],
    ) -> Result<(), Unwritable> {
        let Some((n_items, inner)) = dimensions.split_first() else {
            let n_bytes = take::<4>(rest)?;
            if i32::from_be_bytes(n_bytes) == -1 {
                out.null();
                return Ok(());
            }
            let (value, after) = rest.split_at_checked(length(n_bytes)?).ok_or(Malformed)?;
            *rest = after;
            return self.write(out, item, value);
        };
        out.begin_list();
        for _ in 0..*n_items {
            self.items(out, item, inner, rest)?;
        }
        out.end_list();
        Ok(())
    }
}
/// Bytes of the values of a row.
pub(super) fn size_of_values(row: &PgRow) -> usize {
    let values = (0..row.len()).filter_map(|column| row.try_get_raw(column).ok().filter(|value| !value.is_null()));
    values.map(|value| value.as_bytes().map_or(0, <[u8]>::len)).sum()
}
