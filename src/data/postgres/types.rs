//! PostgreSQL's types.
//!
//! Owns: what each type is: its wire form, its JSON schema, its order; and the pieces that wire forms are made of. Never: writes
//! a value (see `text` and `decode`).

use serde_json::{Value, json};
use sqlx::{
    TypeInfo as _,
    postgres::{PgTypeInfo, PgTypeKind},
};

use crate::{
    data::described::{Equality, Order},
    domain::sql::ColumnKind,
};

/// Most dimensions of an array in PostgreSQL.
const DIMENSIONS_MAX: usize = 6;

/// The wire form of a type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Codec {
    Bool,
    Int2,
    Int4,
    Int8,
    /// Also what refers to things of the catalogue: only the server knows their names.
    Oid,
    Xid8,
    Float4,
    Float8,
    Numeric,
    /// A count of the smallest unit.
    Money,
    Text,
    /// One byte, which is 0 for an empty text.
    Char,
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
    Lsn,
    Tid,
    Geometric(Shape),
    TsVector,
    Hstore,
    Array(Box<Self>),
    Range(Box<Self>),
    /// The fields' types.
    Composite(Vec<Self>),
    /// A composite without a name, whose values tell the types of their fields.
    Record,
}

/// The geometric types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Point,
    Segment,
    Box,
    Line,
    Path,
    Polygon,
    Circle,
}

/// The bytes are not what the type's wire form says.
pub(super) struct Malformed;

impl Codec {
    pub(super) fn of(r#type: &PgTypeInfo) -> Option<Self> {
        if let Some(codec) = Self::built_in(r#type.oid()?.0) {
            return Some(codec);
        }
        // sqlx leaves a type unresolved only if the catalogue does not have it.
        if r#type.name() == "?" {
            return None;
        }
        match r#type.kind() {
            PgTypeKind::Array(item) => Self::of(item).map(|item| Self::Array(Box::new(item))),
            PgTypeKind::Domain(base) => Self::of(base),
            PgTypeKind::Enum(_) => Some(Self::Text),
            PgTypeKind::Range(bound) => Self::of(bound).map(|bound| Self::Range(Box::new(bound))),
            PgTypeKind::Composite(fields) => {
                fields.iter().map(|(_, r#type)| Self::of(r#type)).collect::<Option<_>>().map(Self::Composite)
            }
            // Types of extensions, known by name because their ids differ from database to database.
            PgTypeKind::Simple => match r#type.name().rsplit('.').next()? {
                "citext" => Some(Self::Text),
                "hstore" => Some(Self::Hstore),
                "ltree" | "lquery" | "ltxtquery" => Some(Self::VersionedText),
                _ => None,
            },
            PgTypeKind::Pseudo => None,
        }
    }

    /// The codec of a type that has the same id in every database.
    pub(super) fn built_in(oid: u32) -> Option<Self> {
        let array = |item: Self| Self::Array(Box::new(item));
        let range = |bound: Self| Self::Range(Box::new(bound));
        Some(match oid {
            16 => Self::Bool,
            17 => Self::Bytea,
            18 => Self::Char,
            19 | 25 | 142 | 705 | 1042 | 1043 | 1790 | 2275 | 2278 => Self::Text,
            20 => Self::Int8,
            21 => Self::Int2,
            22 => array(Self::Int2),
            23 => Self::Int4,
            // Among them regproc, regclass, regtype and their like.
            24 | 26 | 28 | 29 | 2202..=2206 | 3734 | 3769 | 4089 | 4096 | 4191 => Self::Oid,
            27 => Self::Tid,
            30 => array(Self::Oid),
            114 => Self::Json,
            600 => Self::Geometric(Shape::Point),
            601 => Self::Geometric(Shape::Segment),
            602 => Self::Geometric(Shape::Path),
            603 => Self::Geometric(Shape::Box),
            604 => Self::Geometric(Shape::Polygon),
            628 => Self::Geometric(Shape::Line),
            650 | 869 => Self::Inet,
            700 => Self::Float4,
            701 => Self::Float8,
            718 => Self::Geometric(Shape::Circle),
            774 | 829 => Self::MacAddr,
            790 => Self::Money,
            1082 => Self::Date,
            1083 => Self::Time,
            1114 => Self::Timestamp,
            1184 => Self::TimestampTz,
            1186 => Self::Interval,
            1266 => Self::TimeTz,
            1560 | 1562 => Self::Bits,
            1700 => Self::Numeric,
            2249 => Self::Record,
            2950 => Self::Uuid,
            3220 => Self::Lsn,
            3614 => Self::TsVector,
            3802 => Self::Jsonb,
            3904 => range(Self::Int4),
            3906 => range(Self::Numeric),
            3908 => range(Self::Timestamp),
            3910 => range(Self::TimestampTz),
            3912 => range(Self::Date),
            3926 => range(Self::Int8),
            4072 => Self::VersionedText,
            5069 => Self::Xid8,
            // Arrays; `of` knows them all, a record only these.
            199 => array(Self::Json),
            1000 => array(Self::Bool),
            1002 => array(Self::Char),
            1003 | 1009 | 1014 | 1015 => array(Self::Text),
            1005 => array(Self::Int2),
            1007 => array(Self::Int4),
            1016 => array(Self::Int8),
            1021 => array(Self::Float4),
            1022 => array(Self::Float8),
            1115 => array(Self::Timestamp),
            1182 => array(Self::Date),
            1185 => array(Self::TimestampTz),
            1231 => array(Self::Numeric),
            2951 => array(Self::Uuid),
            3807 => array(Self::Jsonb),
            _ => return None,
        })
    }

    pub(super) fn kind(&self, decimals: bool) -> ColumnKind {
        match self {
            Self::Numeric | Self::Money if decimals => ColumnKind::Decimal,
            Self::Date => ColumnKind::Date,
            Self::Time | Self::TimeTz => ColumnKind::Time,
            Self::Timestamp => ColumnKind::Timestamp,
            Self::TimestampTz => ColumnKind::TimestampTz,
            _ => ColumnKind::Plain,
        }
    }

    /// JSON schema of the values, as callers get them; without NULL, but with null for NaN and infinities.
    pub(super) fn schema(&self) -> Value {
        match self {
            Self::Bool => json!({"type": "boolean"}),
            Self::Int2 | Self::Int4 => json!({"type": "integer", "format": "int32"}),
            Self::Int8 | Self::Oid => json!({"type": "integer", "format": "int64"}),
            Self::Xid8 => json!({"type": "integer", "minimum": 0}),
            Self::Float4 | Self::Float8 | Self::Numeric => json!({"type": ["number", "null"]}),
            Self::Money => json!({"type": "number"}),
            Self::Json | Self::Jsonb => json!({}),
            Self::Uuid => json!({"type": "string", "format": "uuid"}),
            Self::Date => json!({"type": "string", "format": "date"}),
            Self::TimestampTz => json!({"type": "string", "format": "date-time"}),
            Self::Bytea => json!({"type": "string", "pattern": r"^\\x([0-9a-f]{2})*$"}),
            Self::Hstore => json!({"type": "object", "additionalProperties": {"type": ["string", "null"]}}),
            Self::Array(_) => json!({"type": "array", "items": {}}), // of any number of dimensions
            Self::Text
            | Self::Char
            | Self::VersionedText
            | Self::Time
            | Self::TimeTz
            | Self::Timestamp
            | Self::Interval
            | Self::Inet
            | Self::MacAddr
            | Self::Bits
            | Self::Lsn
            | Self::Tid
            | Self::Geometric(_)
            | Self::TsVector
            | Self::Range(_)
            | Self::Composite(_)
            | Self::Record => json!({"type": "string"}),
        }
    }

    /// Tells whether the text of its values is of plain characters, which need no quotes anywhere.
    pub(super) fn is_plain(&self) -> bool {
        matches!(
            self,
            Self::Date
                | Self::Time
                | Self::TimeTz
                | Self::Timestamp
                | Self::TimestampTz
                | Self::Interval
                | Self::Inet
                | Self::MacAddr
                | Self::Bits
                | Self::Lsn
                | Self::Tid
        )
    }

    /// Tells whether values of `money` may occur in it.
    pub(super) fn has_money(&self) -> bool {
        match self {
            Self::Money | Self::Record => true,
            Self::Array(inner) | Self::Range(inner) => inner.has_money(),
            Self::Composite(fields) => fields.iter().any(Self::has_money),
            _ => false,
        }
    }
}

/// The order of a type's values. Boxes, circles and their like compare by what they cover, which does not tell them apart.
pub(super) fn order_of(r#type: &PgTypeInfo) -> Order {
    // xml, xid, cid, refcursor, jsonpath, void; lquery and ltxtquery.
    const WITHOUT: [u32; 6] = [142, 28, 29, 1790, 4072, 2278];
    if r#type.oid().is_some_and(|oid| WITHOUT.contains(&oid.0)) {
        return Order::No;
    }
    match r#type.kind() {
        PgTypeKind::Array(item) => return order_of(item),
        PgTypeKind::Domain(base) => return order_of(base),
        PgTypeKind::Composite(fields) => {
            let has_order = fields.iter().all(|(_, field)| order_of(field) == Order::AsItIs);
            return if has_order { Order::AsItIs } else { Order::No };
        }
        PgTypeKind::Simple if matches!(r#type.name().rsplit('.').next(), Some("lquery" | "ltxtquery")) => {
            return Order::No;
        }
        _ => {}
    }
    match Codec::of(r#type) {
        // The operators of hstore that order have names of their own.
        Some(Codec::Json | Codec::Geometric(_) | Codec::Record | Codec::Hstore) | None => Order::No,
        Some(_) => Order::AsItIs,
    }
}

/// When two values of a type are the same. Boxes, circles and their like are equal to the server if they are of the same size, and
/// lines if they nearly are.
pub(super) fn equality_of(r#type: &PgTypeInfo) -> Equality {
    // xml, refcursor, jsonpath, void.
    const WITHOUT: [u32; 4] = [142, 1790, 4072, 2278];
    if r#type.oid().is_some_and(|oid| WITHOUT.contains(&oid.0)) {
        return Equality::No;
    }
    match r#type.kind() {
        PgTypeKind::Array(item) if equality_of(item) == Equality::No => return Equality::No,
        PgTypeKind::Array(_) => return Equality::List,
        PgTypeKind::Domain(base) => return equality_of(base),
        PgTypeKind::Composite(fields) => {
            let has_equality = fields.iter().all(|(_, field)| equality_of(field) != Equality::No);
            return if has_equality { Equality::Composite } else { Equality::No };
        }
        PgTypeKind::Simple if matches!(r#type.name().rsplit('.').next(), Some("lquery" | "ltxtquery")) => {
            return Equality::No;
        }
        _ => {}
    }
    match Codec::of(r#type) {
        Some(Codec::Json | Codec::Geometric(_) | Codec::Record) | None => Equality::No,
        Some(Codec::Jsonb) => Equality::Json,
        Some(Codec::Array(_)) => Equality::List,
        Some(_) => Equality::AsItIs,
    }
}

pub(super) fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

pub(super) fn exact<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Malformed> {
    bytes.try_into().map_err(|_| Malformed)
}

pub(super) fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(Malformed)?;
    *rest = tail;
    Ok(*head)
}

pub(super) fn length(bytes: [u8; 4]) -> Result<usize, Malformed> {
    usize::try_from(i32::from_be_bytes(bytes)).map_err(|_| Malformed)
}

/// The beginning of an array: number of dimensions, a flag, the type of the items, then length and lower bound
/// of each dimension. Empty for an array without items. Each item has a length of four bytes, so that no array can claim
/// more than it holds.
pub(super) fn dimensions(rest: &mut &[u8]) -> Result<Vec<usize>, Malformed> {
    let n_dimensions = length(take(rest)?)?;
    take::<8>(rest)?;
    if n_dimensions > DIMENSIONS_MAX {
        return Err(Malformed);
    }
    let mut dimensions = Vec::with_capacity(n_dimensions);
    for _ in 0..n_dimensions {
        dimensions.push(length(take(rest)?)?);
        take::<4>(rest)?;
    }
    if dimensions.is_empty() || dimensions.contains(&0) {
        return Ok(Vec::new());
    }
    let n_items = dimensions.iter().try_fold(1_usize, |items, length| items.checked_mul(*length)).ok_or(Malformed)?;
    if n_items > rest.len() / 4 { Err(Malformed) } else { Ok(dimensions) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_claim_no_more_than_they_hold() {
        let array = |lengths: &[i32], items: usize| {
            let header = [i32::try_from(lengths.len()).unwrap(), 0, 23].map(i32::to_be_bytes).concat();
            let lengths: Vec<u8> = lengths.iter().flat_map(|length| [length.to_be_bytes(), [0; 4]].concat()).collect();
            [header, lengths, vec![0; items * 4]].concat()
        };
        for (lengths, items, read) in [
            (&[2, 3][..], 6, Some(vec![2, 3])),
            (&[], 0, Some(vec![])),
            (&[i32::MAX, 0], 0, Some(vec![])),
            (&[2, 3], 5, None),
            (&[i32::MAX, i32::MAX, i32::MAX], 1, None),
            (&[-1], 1, None),
            (&[1, 1, 1, 1, 1, 1, 1], 1, None),
        ] {
            assert_eq!(dimensions(&mut &*array(lengths, items)).ok(), read, "{lengths:?}");
        }
    }
}
