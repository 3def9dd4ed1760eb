//! Creating schemas and tables.
//!
//! Owns: the types that scripts may name and what they are in each dialect. Never: lets an author's text into SQL; a type is
//! one of ours or an error.

use std::fmt::Write as _;

use crate::{
    data::{
        Database,
        dialect::{Dialect, invalid, shown},
        read::scope::Granted,
        statement::{Purpose, Statement},
        template::Template,
        write::change::{COLUMNS_MAX, Writer},
    },
    domain::{
        sql::{NewTable, SqlError, SqlErrorCode},
        value::SqlValue,
    },
};

/// A type of a column, in no database's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldType {
    Boolean,
    Integer,
    BigInteger,
    Float,
    Decimal(Option<(u16, u16)>),
    Text,
    Varchar(u32),
    Json,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Uuid,
    Binary,
}

/// The names by which scripts know the types, for errors.
const KNOWN: &str = "boolean, integer, bigint, float, decimal, decimal(p,s), text, varchar(n), json, date, time, \
                     timestamp, timestamptz, uuid, binary";

impl FieldType {
    /// Reads the name of a type. Common names of several databases and of JSON schemas mean the same.
    pub(crate) fn parse(text: &str) -> Result<Self, SqlError> {
        let unknown = || invalid(format!("unknown type `{}`: known are {KNOWN}", shown(text)));
        let lower = text.trim().to_ascii_lowercase();
        let (name, numbers) = match lower.split_once('(') {
            None => (lower.as_str(), Vec::new()),
            Some((name, rest)) => {
                let inside = rest.strip_suffix(')').ok_or_else(unknown)?;
                let numbers = inside.split(',').map(|number| number.trim().parse::<u32>());
                (name.trim_end(), numbers.collect::<Result<Vec<_>, _>>().map_err(|_| unknown())?)
            }
        };
        Ok(match (name, &numbers[..]) {
            ("boolean" | "bool", []) => Self::Boolean,
            ("integer" | "int" | "int4" | "smallint" | "int2", []) => Self::Integer,
            ("bigint" | "int8" | "long", []) => Self::BigInteger,
            ("float" | "double" | "double precision" | "real" | "float8" | "number", []) => Self::Float,
            ("decimal" | "numeric", []) => Self::Decimal(None),
            ("decimal" | "numeric", [precision @ 1..=65, scale]) if scale <= precision && *scale <= 30 => {
                // Both are below 66.
                Self::Decimal(Some((u16::try_from(*precision).unwrap_or(65), u16::try_from(*scale).unwrap_or(0))))
            }
            ("decimal" | "numeric", [precision @ 1..=65]) => {
                Self::Decimal(Some((u16::try_from(*precision).unwrap_or(65), 0)))
            }
            ("text" | "string" | "str" | "varchar", []) => Self::Text,
            ("varchar" | "character varying" | "string", [length @ 1..=10_000]) => Self::Varchar(*length),
            ("json" | "jsonb" | "object" | "array" | "dict" | "list", []) => Self::Json,
            ("date", []) => Self::Date,
            ("time", []) => Self::Time,
            ("timestamp" | "datetime" | "timestamp without time zone", []) => Self::Timestamp,
            ("timestamptz" | "timestamp with time zone" | "date-time", []) => Self::TimestampTz,
            ("uuid", []) => Self::Uuid,
            ("binary" | "bytea" | "blob" | "bytes", []) => Self::Binary,
            _ => return Err(unknown()),
        })
    }

    /// The type in a database's words.
    pub(crate) fn sql(self, dialect: Dialect) -> String {
        let (postgres, mysql, sqlite) = match self {
            Self::Boolean => ("boolean", "boolean", "BOOLEAN"),
            Self::Integer => ("integer", "int", "INTEGER"),
            Self::BigInteger => ("bigint", "bigint", "INTEGER"),
            Self::Float => ("double precision", "double", "REAL"),
            // As many digits as MySQL has: 45 before the point.
            Self::Decimal(None) => ("numeric", "decimal(65, 20)", "DECIMAL"),
            Self::Decimal(Some((precision, scale))) => return format!("decimal({precision}, {scale})"),
            Self::Text => ("text", "longtext", "TEXT"),
            Self::Varchar(length) => return format!("varchar({length})"),
            Self::Json => ("jsonb", "json", "JSON"),
            Self::Date => ("date", "date", "DATE"),
            Self::Time => ("time", "time(6)", "TIME"),
            Self::Timestamp => ("timestamp", "datetime(6)", "TIMESTAMP"),
            // Without NULL it would set itself to the current time.
            Self::TimestampTz => ("timestamptz", "timestamp(6) NULL", "TIMESTAMPTZ"),
            // SQLite has none; its text compares as well.
            Self::Uuid => ("uuid", "char(36)", "TEXT"),
            Self::Binary => ("bytea", "longblob", "BLOB"),
        };
        match dialect {
            Dialect::MySql => mysql.to_owned(),
            Dialect::Postgres => postgres.to_owned(),
            Dialect::Sqlite => sqlite.to_owned(),
        }
    }

    /// The type as a part of a primary key, which in MySQL has no text without a length.
    fn key_sql(self, dialect: Dialect) -> String {
        match (self, dialect) {
            (Self::Text, Dialect::MySql) => Self::Varchar(255).sql(dialect),
            _ => self.sql(dialect).replace(" NULL", ""),
        }
    }

    /// Tells whether the database can number rows with it.
    fn is_number(self) -> bool {
        matches!(self, Self::Integer | Self::BigInteger)
    }

    /// The type that keeps a value.
    pub(crate) fn of(value: &SqlValue) -> Option<Self> {
        match value {
            SqlValue::Null => None,
            SqlValue::Bool(_) => Some(Self::Boolean),
            SqlValue::Int(_) => Some(Self::BigInteger),
            SqlValue::BigInt(_) => Some(Self::Decimal(None)),
            SqlValue::Double(_) => Some(Self::Float),
            // As text, which keeps every digit and is told in the documents.
            SqlValue::Decimal(_) | SqlValue::Moment(_) | SqlValue::Text(_) | SqlValue::Literal(_) => Some(Self::Text),
            SqlValue::Bytes(_) => Some(Self::Binary),
            SqlValue::List(_) | SqlValue::Json(_) => Some(Self::Json),
        }
    }

    /// The type that keeps the values of both; JSON keeps all of them as they are.
    pub(crate) fn with(self, other: Self) -> Self {
        match (self, other) {
            _ if self == other => self,
            (Self::BigInteger, Self::Float) | (Self::Float, Self::BigInteger) => Self::Float,
            (Self::BigInteger | Self::Float, Self::Decimal(None))
            | (Self::Decimal(None), Self::BigInteger | Self::Float) => Self::Decimal(None),
            _ => Self::Json,
        }
    }
}

impl Database {
    /// Creates a schema, unless it is there. In SQLite a schema is a file in the connection's folder.
    ///
    /// # Errors
    ///
    /// A name that cannot be one; `ReadOnly`; `NotAllowed` in SQLite when there are as many as can be, or inside of a
    /// transaction; what the database says.
    pub async fn create_schema(&self, database: &str, schema: &str) -> Result<(), SqlError> {
        self.check_name(database)?;
        self.check_open("`create_schema`")?;
        let name = self.dialect().quoted("schema", schema)?;
        if self.dialect() == Dialect::Sqlite && self.is_inside() {
            let message = "a SQLite schema cannot be created inside of a transaction: create it before";
            return Err(SqlError::new(SqlErrorCode::NotAllowed, message));
        }
        if let Some(created) = self.create_schema_file(schema).await {
            return created;
        }
        let mut template = Template::default();
        template.text(&format!("CREATE SCHEMA IF NOT EXISTS {name}"));
        let purpose = Purpose::Change { schema: None, table: schema.to_owned() };
        match self.perform(Statement::ours(template, purpose)).await {
            // Two at once both found it missing.
            Err(error) if error.code == SqlErrorCode::ConstraintViolated && !self.is_inside() => Ok(()),
            result => result,
        }
    }

    /// Creates a table. Without fields it has an `id` that the database numbers; so is a primary key of one integer
    /// column that an insert does not name.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`; unknown types, a key that is no field, names that cannot be one; what the database says.
    pub async fn create_table(&self, new: NewTable) -> Result<(), SqlError> {
        let NewTable { table: name, mut fields, mut key } = new;
        self.check_name(&name.database)?;
        let granted = self.grant_whole(name, "create_table", "it is there already")?;
        if fields.is_empty() {
            if key.len() > 1 {
                return Err(invalid("`create_table` needs `fields` for a primary key of several columns"));
            }
            let id = key.first().cloned().unwrap_or_else(|| "id".to_owned());
            fields.push((id.clone(), "bigint".to_owned()));
            key = vec![id];
        }
        let fields = fields
            .into_iter()
            .map(|(column, r#type)| Ok((column, FieldType::parse(&r#type)?)))
            .collect::<Result<Vec<_>, SqlError>>()?;
        self.tables().forget(granted.name());
        self.perform(create_statement(self.dialect(), &granted, &fields, &key, false)?).await
    }
}

/// `CREATE TABLE`.
pub(crate) fn create_statement(
    dialect: Dialect,
    granted: &Granted,
    fields: &[(String, FieldType)],
    key: &[String],
    unless_exists: bool,
) -> Result<Statement, SqlError> {
    if fields.len() > COLUMNS_MAX {
        return Err(invalid(format!("a table may have {COLUMNS_MAX} columns, not {}", fields.len())));
    }
    if let Some(unknown) = key.iter().find(|column| !fields.iter().any(|(field, _)| field == *column)) {
        return Err(invalid(format!("`pk` names `{}`, which is none of the fields", shown(unknown))));
    }
    let mut writer = Writer::new(dialect, granted)?;
    writer.text(if unless_exists { "CREATE TABLE IF NOT EXISTS " } else { "CREATE TABLE " }).table().text(" (");
    let is_numbered = |column: &str, r#type: FieldType| r#type.is_number() && key.len() == 1 && key[0] == column;
    for (nth, (column, r#type)) in fields.iter().enumerate() {
        writer.text(if nth == 0 { "" } else { ", " }).name(column)?.text(" ");
        if is_numbered(column, *r#type) {
            writer.text(&numbered(dialect, *r#type));
        } else {
            if key.contains(column) {
                writer.text(&r#type.key_sql(dialect)).text(" NOT NULL");
            } else {
                writer.text(&r#type.sql(dialect));
            }
        }
    }
    if !key.is_empty() {
        let key: Vec<&str> = key.iter().map(String::as_str).collect();
        writer.text(", PRIMARY KEY (").names(&key)?.text(")");
    }
    writer.text(")");
    Ok(writer.statement())
}

/// An integer that the database gives when an insert does not.
fn numbered(dialect: Dialect, r#type: FieldType) -> String {
    let mut sql = r#type.sql(dialect);
    match dialect {
        // Writing to a String cannot fail.
        Dialect::MySql => _ = write!(sql, " NOT NULL AUTO_INCREMENT"),
        Dialect::Postgres => _ = write!(sql, " GENERATED BY DEFAULT AS IDENTITY"),
        // `INTEGER PRIMARY KEY` is the row's own number.
        Dialect::Sqlite => "INTEGER".clone_into(&mut sql),
    }
    sql
}

/// `ALTER TABLE … ADD COLUMN`.
pub(crate) fn add_column_statement(
    dialect: Dialect,
    granted: &Granted,
    column: &str,
    r#type: FieldType,
) -> Result<Statement, SqlError> {
    let mut writer = Writer::new(dialect, granted)?;
    writer.text("ALTER TABLE ").table().text(" ADD COLUMN ").name(column)?.text(" ").text(&r#type.sql(dialect));
    Ok(writer.statement())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn types_are_known_by_common_names_and_nothing_else() {
        for (name, postgres, sqlite) in [
            ("string", "text", "TEXT"),
            ("Integer", "integer", "INTEGER"),
            ("number", "double precision", "REAL"),
            ("decimal(10, 2)", "decimal(10, 2)", "decimal(10, 2)"),
            ("VARCHAR(20)", "varchar(20)", "varchar(20)"),
            ("date-time", "timestamptz", "TIMESTAMPTZ"),
            ("object", "jsonb", "JSON"),
            ("bytes", "bytea", "BLOB"),
        ] {
            let r#type = FieldType::parse(name).unwrap();
            assert_eq!((r#type.sql(Dialect::Postgres), r#type.sql(Dialect::Sqlite)), (postgres.into(), sqlite.into()));
        }
        for bad in ["", "text; DROP TABLE t", "varchar(20", "varchar(x)", "decimal(2, 3)", "int)", "text DEFAULT 1"] {
            assert!(FieldType::parse(bad).unwrap_err().message.contains("known are boolean"), "{bad}");
        }
    }

    #[test]
    fn a_column_keeps_all_values_that_it_is_given() {
        let of = |values: &[Value]| {
            values.iter().cloned().map(SqlValue::from).filter_map(|value| FieldType::of(&value)).reduce(FieldType::with)
        };
        for (values, expected) in [
            (vec![json!(null)], None),
            (vec![json!(1), json!(null), json!(2)], Some(FieldType::BigInteger)),
            (vec![json!(1), json!(1.5)], Some(FieldType::Float)),
            (vec![json!(1), json!(u64::MAX)], Some(FieldType::Decimal(None))),
            (vec![json!("a"), json!(1)], Some(FieldType::Json)),
            (vec![json!({}), json!([])], Some(FieldType::Json)),
            (vec![json!(true), json!(false)], Some(FieldType::Boolean)),
        ] {
            assert_eq!(of(&values), expected, "{values:?}");
        }
    }
}
