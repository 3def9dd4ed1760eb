//! The columns of a table or a query, without reading a row of it.
//!
//! Owns: having the database prepare a SELECT, and how a query is wrapped. Never: decides what a type means; each driver does.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    data::{
        Database,
        described::{Described, Order},
        dialect::{Dialect, invalid},
        read::{catalog::Source, table::QUERY_BYTES_MAX},
        statement::{Purpose, Statement},
        template::{self, Template},
    },
    domain::{
        sql::{Params, SqlError, TableName},
        value::{Record, SqlValue},
    },
};

/// A LIMIT that leaves out nothing: MySQL drops the ORDER BY of a derived table that has none.
const MYSQL_ALL: &str = "\nLIMIT 18446744073709551615";

/// A column of a table or a query, as callers get it.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceColumn {
    /// Its name.
    pub name: String,
    /// JSON schema of its values.
    pub schema: Value,
    /// Set if its values have an order that tells all of them apart.
    pub has_order: bool,
    /// Its place in the primary key from 1; 0 when it is no part of it.
    pub key_position: i64,
}

impl Database {
    /// The columns of a table in the database's order.
    ///
    /// # Errors
    ///
    /// `UnknownTable`, `UnknownSchema`, `NotAllowed`, or what the database says.
    pub async fn table_columns(&self, name: TableName) -> Result<Vec<SourceColumn>, SqlError> {
        let granted = self.grant(name)?;
        let described = self.described_table(granted.name()).await?;
        let table = self.table(granted.name()).await?;
        let column = |described: &Described| {
            let known = table.column(&described.name, self.dialect());
            let is_nullable = known.is_none_or(|known| known.nullable);
            source_column(described, is_nullable, known.map_or(0, |known| known.key_position))
        };
        Ok(described.columns.iter().map(column).collect())
    }

    /// The columns of an author's query, in order.
    ///
    /// # Errors
    ///
    /// `NotAllowed`, or what the database says of the query.
    pub async fn query_columns(&self, sql: &str) -> Result<Vec<SourceColumn>, SqlError> {
        self.check_open("a query")?;
        let described = self.described_query(sql).await?;
        Ok(described.columns.iter().map(|described| source_column(described, true, 0)).collect())
    }

    /// Asks anew the next time what the columns of a table are.
    pub fn forget_table(&self, name: TableName) {
        if let Ok(granted) = self.grant(name) {
            self.tables().forget(granted.name());
        }
    }

    /// Asks anew the next time what the columns of a query are.
    pub fn forget_query(&self, sql: &str) {
        self.tables().forget_source(sql);
    }

    /// The columns of a table.
    pub(super) async fn described_table(&self, name: &TableName) -> Result<Arc<Source>, SqlError> {
        let TableName { schema, table, .. } = name;
        let quoted = self.dialect().quoted_table(schema.as_deref(), table)?;
        if let Some(known) = self.tables().source(&quoted) {
            return Ok(known);
        }
        let table = self.table(name).await?;
        // By name: `*` leaves out what is invisible, and asks for what the connection may not read.
        let names: Result<Vec<_>, _> =
            table.columns.iter().map(|column| self.dialect().column_of_source("table", &column.name)).collect();
        let mut template = Template::default();
        template.text(&format!("SELECT {} FROM {quoted} AS t0", names?.join(", ")));
        let mut columns = self.described(template, Purpose::read(name)).await?;
        if self.dialect() == Dialect::MySql {
            // The catalogue says more than a result: labels, lengths, which text is JSON.
            for column in &mut columns {
                if let Some(known) = table.column(&column.name, self.dialect()) {
                    column.declared = Arc::clone(&known.data_type);
                    column.order = ordered_by_labels(&known.data_type).unwrap_or_else(|| column.order.clone());
                }
            }
        }
        Ok(self.remember(quoted, Source { columns, sql: None, is_renamed: false }))
    }

    /// The columns of an author's query, and how it is wrapped.
    pub(super) async fn described_query(&self, sql: &str) -> Result<Arc<Source>, SqlError> {
        if let Some(known) = self.tables().source(sql) {
            return Ok(known);
        }
        let query = sql.trim().trim_end_matches(';').to_owned();
        if query.len() > QUERY_BYTES_MAX || query.contains('\0') {
            return Err(invalid("`query` is too long, or contains a NUL character"));
        }
        let columns = self.described(self.with_nulls(&query)?, author()).await?;
        let is_renamed = columns.iter().any(|column| column.is_renamed);
        let mut source = Source { columns, sql: Some(query.clone()), is_renamed };
        // What cannot stand in parentheses is refused here, for whatever is asked of it.
        self.described(self.with_nulls(&self.wrapped(&source)?)?, author()).await?;
        if self.dialect() == Dialect::MySql {
            let limited =
                Source { columns: source.columns.clone(), sql: Some(format!("{query}{MYSQL_ALL}")), is_renamed };
            let template = self.with_nulls(&self.wrapped(&limited)?)?;
            // One that has a LIMIT of its own cannot have another, and keeps its order.
            if self.described(template, author()).await.is_ok() {
                source = limited;
            }
        }
        Ok(self.remember(sql.to_owned(), source))
    }

    /// A SELECT of all that a query gives.
    fn wrapped(&self, source: &Source) -> Result<String, SqlError> {
        let Source { sql, is_renamed, .. } = source;
        let sql = sql.as_deref().unwrap_or_default();
        Ok(match is_renamed {
            true => format!("WITH t0({}) AS (\n{sql}\n) SELECT * FROM t0", source.quoted_names(self.dialect())?),
            false => format!("SELECT * FROM (\n{sql}\n) AS t0"),
        })
    }

    /// A query with NULL for each of its parameters.
    fn with_nulls(&self, sql: &str) -> Result<Template, SqlError> {
        let names = template::names(self.dialect(), sql);
        let nulls: Record = names.into_iter().map(|name| (name, SqlValue::Null)).collect();
        template::parse(self.dialect(), sql.to_owned(), Params::Named(nulls))
    }

    async fn described(&self, template: Template, purpose: Purpose) -> Result<Vec<Described>, SqlError> {
        let statement = Statement { is_dry: true, decimals: true, ..Statement::ours(template, purpose) };
        self.read_with(statement, async |cursor| Ok(cursor.described())).await
    }

    fn remember(&self, key: String, source: Source) -> Arc<Source> {
        let source = Arc::new(source);
        if !self.is_inside() {
            self.tables().put_source(key, Arc::clone(&source));
        }
        source
    }
}

fn source_column(described: &Described, is_nullable: bool, key_position: i64) -> SourceColumn {
    let Described { name, schema, order, .. } = described;
    let schema = with_null(schema, is_nullable);
    SourceColumn { name: name.clone(), schema, has_order: *order != Order::No, key_position }
}

/// A JSON schema that takes null, too, if that may occur. One without a type takes everything.
pub(super) fn with_null(schema: &Value, is_nullable: bool) -> Value {
    let mut schema = schema.clone();
    match schema.get_mut("type").filter(|_| is_nullable) {
        Some(Value::Array(types)) if !types.contains(&Value::from("null")) => types.push(Value::from("null")),
        Some(r#type @ Value::String(_)) => *r#type = Value::Array(vec![r#type.take(), Value::from("null")]),
        Some(_) | None => {}
    }
    schema
}

fn author() -> Purpose {
    Purpose::Author { offset: 0, limit: None, schema: None }
}

/// The order of MySQL's ENUM and SET, whose type has their labels: `enum('a','it''s')`.
fn ordered_by_labels(declared: &str) -> Option<Order> {
    let is_set = declared.starts_with("set(");
    let inner = declared.strip_prefix(if is_set { "set(" } else { "enum(" })?.strip_suffix(')')?;
    let mut labels = Vec::new();
    let mut rest = inner;
    while let Some(text) = rest.strip_prefix('\'') {
        let mut label = String::new();
        let mut characters = text.char_indices().peekable();
        let mut end = text.len();
        while let Some((at, character)) = characters.next() {
            if character == '\'' && characters.next_if(|(_, next)| *next == '\'').is_none() {
                end = at + 1;
                break;
            }
            label.push(character);
        }
        labels.push(label);
        rest = text[end..].strip_prefix(',').unwrap_or_default();
    }
    Some(Order::ByNumber { labels: labels.into(), is_set })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_from_their_type() {
        let labels = |declared: &str| match ordered_by_labels(declared) {
            Some(Order::ByNumber { labels, is_set }) => Some((labels.to_vec(), is_set)),
            _ => None,
        };
        let owned = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect::<Vec<_>>();
        assert_eq!(labels("enum('low','it''s','a,b','')"), Some((owned(&["low", "it's", "a,b", ""]), false)));
        assert_eq!(labels("set('a','c')"), Some((owned(&["a", "c"]), true)));
        for other in ["varchar(5)", "enum", "int(11)"] {
            assert_eq!(labels(other), None);
        }
    }
}
