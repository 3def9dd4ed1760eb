//! The part of a database that a caller may reach, whatever a script asks for.
//!
//! Owns: the decision, and its condition as SQL. Never: runs a statement.
//! Invariant: no SQL names a table of a script's choice but by a [`Granted`], and only this file makes one.
//!
//! A caller without row filters reaches what the script reaches. For others, a table is the one that a filter names, in
//! the filter's own spelling: whatever else leads to its rows (a view, a synonym, another schema or spelling) has another
//! name and is refused. Statements of the author's, which could name anything, are refused unless the filters open the
//! whole connection.

use std::sync::Arc;

use crate::{
    data::{
        dialect::{Dialect, shown, shown_table},
        read::catalog::{CatalogColumn, Table},
        sqlite::Affinity,
        statement::ErrorDetail,
        template::Template,
    },
    domain::{
        names::ConnectionName,
        rows::{Reachable, ReachableTable, RowCondition, RowScope, Scalar},
        sql::{SqlError, SqlErrorCode, TableName},
        value::{Record, SqlValue},
    },
};

/// The part of one connection that may be reached.
#[derive(Debug, Clone, Default)]
pub(crate) enum Scope {
    /// Nothing: of a caller whose filters do not name the connection.
    #[default]
    Nothing,
    /// These tables.
    Tables(Arc<[ReachableTable]>),
    /// Everything.
    All,
}

impl Scope {
    /// The part of a connection that a caller reaches; `None` is a caller without row filters.
    pub(crate) fn of(rows: Option<&RowScope>, connection: &ConnectionName) -> Self {
        let Some(RowScope(rows)) = rows else { return Self::All };
        let named: Vec<&Reachable> = rows.iter().filter(|entry| entry.connection == *connection).collect();
        let tables: Arc<[ReachableTable]> = named.iter().filter_map(|entry| entry.table.clone()).collect();
        match (named.is_empty(), tables.is_empty()) {
            (true, _) => Self::Nothing,
            (false, true) => Self::All,
            // Beside tables, an entry for the whole connection does not count: the narrower meaning is the safe one.
            (false, false) => Self::Tables(tables),
        }
    }

    /// The detail of errors that a caller is told. They may be about rows, and tables, that no statement of the caller's names: those
    /// that a constraint compares with, or that refer to a row.
    pub(crate) fn detail(&self) -> ErrorDetail {
        match self {
            Self::All => ErrorDetail::Full,
            Self::Tables(_) | Self::Nothing => ErrorDetail::WithoutValues,
        }
    }

    /// The table that a script means.
    pub(crate) fn table(&self, name: TableName) -> Result<Granted, SqlError> {
        let tables = match self {
            Self::All => return Ok(Granted { name, only: None }),
            Self::Nothing => &[][..],
            Self::Tables(tables) => tables,
        };
        let is_meant = |table: &&ReachableTable| {
            table.table == name.table && (name.schema.is_none() || table.schema == name.schema)
        };
        let meant: Vec<&ReachableTable> = tables.iter().filter(is_meant).collect();
        match meant[..] {
            [ReachableTable { schema, table, only }] => {
                let name = TableName { database: name.database, schema: schema.clone(), table: table.clone() };
                Ok(Granted { name, only: only.clone() })
            }
            [] => {
                let table = shown_table(name.schema.as_deref(), &name.table);
                let names = "names must be spelled exactly as the filters spell them";
                Err(refused(format!("the row filters of this caller do not name table {table}; {names}")))
            }
            _ => {
                let names: Vec<_> = meant.iter().map(|t| shown_table(t.schema.as_deref(), &t.table)).collect();
                Err(refused(format!("the row filters of this caller name {}: give the schema", names.join(" and "))))
            }
        }
    }
}

/// A table that a caller may reach, as statements name it.
#[derive(Debug, Clone)]
pub(crate) struct Granted {
    name: TableName,
    only: Option<RowCondition>,
}

impl Granted {
    pub(crate) fn name(&self) -> &TableName {
        &self.name
    }

    /// The only rows of it, if not all.
    pub(crate) fn only(&self) -> Option<&RowCondition> {
        self.only.as_ref()
    }

    /// The rows of a filtered table to which changes must keep; `None` if all rows of it may be changed.
    ///
    /// # Errors
    /// `NotAllowed` if the database would not keep the filter's value exactly as it is.
    pub(crate) fn own<'a>(&'a self, table: &'a Table, dialect: Dialect) -> Result<Option<Own<'a>>, SqlError> {
        let Some(condition) = &self.only else { return Ok(None) };
        let RowCondition { column: name, value } = condition;
        let column = table.columns.iter().find(|column| column.name == *name);
        if column.is_some_and(|column| !column.generated && keeps(column, value, dialect)) {
            return Ok(Some(Own { condition, table }));
        }
        let table = shown_table(self.name.schema.as_deref(), &self.name.table);
        let reason = format!("column `{}` cannot keep the filter's value exactly as it is", shown(name));
        Err(refused(format!("table {table} can only be read by callers with this row filter: {reason}")))
    }
}

/// The rows of a filtered table that are the caller's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own<'a> {
    condition: &'a RowCondition,
    table: &'a Table,
}

impl Own<'_> {
    /// A row to be inserted, as the caller's.
    pub(crate) fn inserted(self, row: &Record) -> Result<Record, SqlError> {
        let mut row = self.changed(row)?;
        row.insert(self.condition.column.clone(), self.condition.value.value());
        Ok(row)
    }

    /// Values to be changed in a row, which stays the caller's.
    pub(crate) fn changed(self, values: &Record) -> Result<Record, SqlError> {
        let RowCondition { column: own, value: own_value } = self.condition;
        let mut kept = Record::new();
        for (column, value) in values {
            // Other spellings may mean the filter's column, by rules that each database has of its own.
            if !self.table.columns.iter().any(|known| known.name == *column) {
                let message = format!("unknown column `{}`: spell columns exactly as the table does", shown(column));
                return Err(SqlError::new(SqlErrorCode::UnknownColumn, message));
            }
            if column != own {
                kept.insert(column.clone(), value.clone());
            } else if value.text().is_none_or(|given| given != own_value.text()) {
                let message =
                    format!("column `{}` may have one value only for callers with this row filter", shown(own));
                return Err(refused(message));
            }
        }
        Ok(kept)
    }
}

/// Appends the condition: its column is this value, byte by byte. `values` are the columns that the values are for.
///
/// The plain comparison is for the database's index. It may say yes to more: to other cases, to padding, to the number 0 for
/// any text. So the column's own text is compared, too, in an order that knows nothing but bytes. What has no such text, NULL
/// or a number with decimals, is nobody's.
pub(crate) fn write_exact(
    template: &mut Template,
    dialect: Dialect,
    alias: &str,
    condition: &RowCondition,
) -> Result<(), SqlError> {
    let RowCondition { column: name, value } = condition;
    let column = format!("{alias}{}", dialect.quoted("column", name)?);
    template.text(&format!("{column} = "));
    let text = SqlValue::Text(value.text());
    match dialect {
        // A number would not use the index of a text, and the text is compared below in any case.
        Dialect::MySql => template.value(text.clone()),
        Dialect::Postgres | Dialect::Sqlite => template.column_value(name, value.value()),
    }
    let (left, right) = match dialect {
        Dialect::MySql => (format!("CAST(CONVERT({column} USING utf8mb4) AS BINARY) = CAST("), " AS BINARY)"),
        Dialect::Postgres => {
            (format!("CAST({column} AS pg_catalog.text) COLLATE pg_catalog.\"C\" OPERATOR(pg_catalog.=) "), "")
        }
        Dialect::Sqlite => (format!("CAST({column} AS TEXT) COLLATE BINARY = "), ""),
    };
    template.text(" AND ");
    template.text(&left);
    template.value(text);
    template.text(right);
    Ok(())
}

/// Tells whether a column keeps a value so that its text is the value's, byte by byte. Says no when in doubt: databases round, cut,
/// pad and convert what they are given, and a row would become another caller's.
fn keeps(column: &CatalogColumn, value: &Scalar, dialect: Dialect) -> bool {
    let declared = column.data_type.to_ascii_lowercase();
    let (r#type, length) = match declared.split_once('(') {
        Some((r#type, rest)) => (r#type.trim(), rest.split(')').next().and_then(|n| n.trim().parse::<usize>().ok())),
        None => (declared.trim(), None),
    };
    let text = value.text();
    let whole = text.parse::<i64>().ok().filter(|number| number.to_string() == text);
    let fits = |length: usize| text.chars().count() <= length && !text.ends_with(' ');
    match dialect {
        Dialect::Postgres => match r#type {
            // What does not fit is an error.
            "smallint" | "integer" | "bigint" => whole.is_some(),
            "numeric" => length.is_none() && !declared.contains('(') && whole.is_some(),
            "text" | "citext" => true,
            "character varying" => length.is_none_or(fits),
            "uuid" => uuid::Uuid::parse_str(&text).is_ok_and(|id| id.hyphenated().to_string() == text),
            _ => false,
        },
        // A server that is not strict takes the nearest number that fits, cuts texts, and writes `?` for what a column's
        // character set does not have.
        Dialect::MySql => {
            let is_in = |bits: u32| {
                let is_signed = !declared.contains("unsigned");
                whole.is_some_and(|number| number >> (bits - 1) == 0 || (is_signed && number >> (bits - 1) == -1))
            };
            match r#type.split(' ').next().unwrap_or_default() {
                "tinyint" => is_in(8),
                "smallint" => is_in(16),
                "mediumint" => is_in(24),
                "int" => is_in(32),
                "bigint" => is_in(64),
                "varchar" | "char" => text.is_ascii() && length.is_some_and(fits),
                "text" | "mediumtext" | "longtext" => text.is_ascii(),
                _ => false,
            }
        }
        Dialect::Sqlite => match Affinity::of(&declared) {
            // Without NUL and as text; but a column of JSON gets every text as JSON.
            Affinity::Text => true,
            Affinity::Integer | Affinity::Numeric => whole.is_some() && !r#type.starts_with("json"),
            Affinity::Blob => declared.is_empty(),
            Affinity::Real => false,
        },
    }
}

/// The error for a caller whose row filters do not name a connection, whether it is there or not.
pub(crate) fn not_named(connection: &str) -> SqlError {
    refused(format!("the row filters of this caller do not name connection `{}`", shown(connection)))
}

pub(crate) fn refused(message: String) -> SqlError {
    SqlError::new(SqlErrorCode::NotAllowed, message)
}
