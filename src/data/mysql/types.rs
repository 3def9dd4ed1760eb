//! The types of MySQL and MariaDB.
//!
//! Owns: what each type is, by its name in the catalogue or by what a result says of it; its JSON schema and its order. Never: reads
//! or writes a value (see `decode` and `encode`).

use serde_json::{Value, json};
use sqlx::{Column as _, MySql, TypeInfo as _, mysql::MySqlColumn};

use crate::{
    data::{
        described::{Equality, Order},
        mysql::json_columns::{JsonColumns, is_text},
    },
    domain::sql::ColumnKind,
};

/// A type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    /// TINYINT(1): 0 and 1 are booleans, other numbers stay numbers.
    Bool {
        is_signed: bool,
    },
    /// A whole number of so many bits.
    Int {
        bits: u8,
    },
    Uint {
        bits: u8,
    },
    Bits,
    Year,
    Float,
    Double,
    Decimal,
    Date,
    Time,
    Datetime,
    Timestamp,
    Text,
    /// Text of which only certain values are allowed: ENUM, SET.
    Labels,
    Json,
    Bytes,
    Geometry,
}

/// The bytes are not what the type's binary form says.
pub(super) struct Malformed;

impl Type {
    /// The type of a column as the catalogue names it: `int(11) unsigned`, `varchar(255)`, `json`. A name that is not known may be a
    /// text: servers convert those to whatever else they have.
    pub(super) fn of_declared(declared: &str) -> Self {
        let lower = declared.to_ascii_lowercase();
        let name = lower.split(['(', ' ']).next().unwrap_or_default();
        let is_unsigned = lower.contains("unsigned");
        let int = |bits| if is_unsigned { Self::Uint { bits } } else { Self::Int { bits } };
        match name {
            "tinyint" if lower.starts_with("tinyint(1)") => Self::Bool { is_signed: !is_unsigned },
            "boolean" | "bool" => Self::Bool { is_signed: true },
            "tinyint" => int(8),
            "smallint" => int(16),
            "mediumint" => int(24),
            "int" | "integer" => int(32),
            "bigint" => int(64),
            "year" => Self::Year,
            "bit" => Self::Bits,
            "float" => Self::Float,
            "double" | "real" => Self::Double,
            "decimal" | "numeric" => Self::Decimal,
            "date" => Self::Date,
            "time" => Self::Time,
            "datetime" => Self::Datetime,
            "timestamp" => Self::Timestamp,
            "json" => Self::Json,
            "enum" | "set" => Self::Labels,
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Self::Bytes,
            "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring" | "multipolygon"
            | "geometrycollection" | "geomcollection" => Self::Geometry,
            _ => Self::Text,
        }
    }

    /// The type of a column of a result.
    pub(super) fn of_column(column: &MySqlColumn, json_columns: &JsonColumns) -> Self {
        let r#type = column.type_info();
        let is_signed = !<u64 as sqlx::Type<MySql>>::compatible(r#type);
        match r#type.name() {
            "BOOLEAN" => Self::Bool { is_signed },
            "ENUM" | "SET" => Self::Labels,
            "JSON" => Self::Json,
            _ if json_columns.contains(column) => Self::Json,
            // A text with a binary collation is called a BLOB.
            "NULL" => Self::Text,
            _ if is_text(r#type) => Self::Text,
            "GEOMETRY" => Self::Geometry,
            name @ ("TINYINT" | "SMALLINT" | "MEDIUMINT" | "INT" | "BIGINT" | "TINYINT UNSIGNED"
            | "SMALLINT UNSIGNED" | "MEDIUMINT UNSIGNED" | "INT UNSIGNED" | "BIGINT UNSIGNED" | "YEAR"
            | "BIT" | "FLOAT" | "DOUBLE" | "DECIMAL" | "DATE" | "TIME" | "DATETIME" | "TIMESTAMP") => {
                Self::of_declared(name)
            }
            _ => Self::Bytes,
        }
    }

    /// The type in words that [`of_declared`](Self::of_declared) understands.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bool { is_signed: true } => "tinyint(1)",
            Self::Bool { is_signed: false } => "tinyint(1) unsigned",
            Self::Int { bits: 8 } => "tinyint",
            Self::Int { bits: 16 } => "smallint",
            Self::Int { bits: 24 } => "mediumint",
            Self::Int { bits: 32 } => "int",
            Self::Int { .. } => "bigint",
            Self::Uint { bits: 8 } => "tinyint unsigned",
            Self::Uint { bits: 16 } => "smallint unsigned",
            Self::Uint { bits: 24 } => "mediumint unsigned",
            Self::Uint { bits: 32 } => "int unsigned",
            Self::Uint { .. } => "bigint unsigned",
            Self::Bits => "bit",
            Self::Year => "year",
            Self::Float => "float",
            Self::Double => "double",
            Self::Decimal => "decimal",
            Self::Date => "date",
            Self::Time => "time",
            Self::Datetime => "datetime",
            Self::Timestamp => "timestamp",
            Self::Text => "text",
            Self::Labels => "enum",
            Self::Json => "json",
            Self::Bytes => "blob",
            Self::Geometry => "geometry",
        }
    }

    pub(super) fn kind(self, decimals: bool) -> ColumnKind {
        match self {
            Self::Decimal if decimals => ColumnKind::Decimal,
            Self::Date => ColumnKind::Date,
            Self::Time => ColumnKind::Time,
            Self::Datetime => ColumnKind::Timestamp,
            Self::Timestamp => ColumnKind::TimestampTz,
            _ => ColumnKind::Plain,
        }
    }

    /// JSON schema of the values, as callers get them, without NULL.
    pub(super) fn schema(self) -> Value {
        match self {
            Self::Bool { .. } => json!({"type": ["boolean", "integer"]}),
            Self::Int { bits: 64 } | Self::Uint { bits: 32 } => json!({"type": "integer", "format": "int64"}),
            Self::Int { .. } => json!({"type": "integer", "format": "int32"}),
            Self::Uint { bits: 64 } | Self::Bits => json!({"type": "integer", "minimum": 0}),
            Self::Uint { .. } | Self::Year => json!({"type": "integer", "format": "int32", "minimum": 0}),
            Self::Float | Self::Double | Self::Decimal => json!({"type": "number"}),
            Self::Date => json!({"type": "string", "format": "date"}),
            Self::Timestamp => json!({"type": "string", "format": "date-time"}),
            Self::Bytes => json!({"type": "string", "pattern": r"^\\x([0-9a-f]{2})*$"}),
            Self::Json => json!({}),
            Self::Time | Self::Datetime | Self::Text | Self::Labels | Self::Geometry => json!({"type": "string"}),
        }
    }

    /// When two values are the same. Shapes are compared without their reference system, which their text has not.
    pub(super) fn equality(self) -> Equality {
        match self {
            Self::Json => Equality::Json,
            Self::Geometry => Equality::Shape,
            _ => Equality::AsItIs,
        }
    }

    /// The order of the values. MariaDB's JSON is a text.
    pub(super) fn order(self, column: &MySqlColumn) -> Order {
        match self {
            Self::Geometry => Order::No,
            Self::Json if column.type_info().name() == "JSON" => Order::No,
            Self::Labels => Order::AsText,
            _ => Order::AsItIs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_known_by_their_names() {
        for (declared, r#type) in [
            ("int(11)", Type::Int { bits: 32 }),
            ("bigint(20) unsigned zerofill", Type::Uint { bits: 64 }),
            ("tinyint(1)", Type::Bool { is_signed: true }),
            ("tinyint(4)", Type::Int { bits: 8 }),
            ("decimal(10,2)", Type::Decimal),
            ("VARCHAR(20)", Type::Text),
            ("enum('int','blob')", Type::Labels),
            ("datetime(6)", Type::Datetime),
            ("binary(16)", Type::Bytes),
            ("uuid", Type::Text),
            ("year(4)", Type::Year),
        ] {
            assert_eq!(Type::of_declared(declared), r#type, "{declared}");
            assert_eq!(Type::of_declared(r#type.name()), r#type, "{declared}");
        }
    }
}
