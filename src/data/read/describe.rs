//! The tables of a database, and their columns.
//!
//! Owns: reading the databases' catalogues. Never: changes anything.

use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::{
    data::{
        Database,
        dialect::{shown, shown_table},
        read::{
            catalog::{CatalogColumn, Table, key_of},
            source::with_null,
        },
        statement::{Purpose, Statement},
        template::Template,
    },
    domain::{
        sql::{SqlError, SqlErrorCode, TableColumn, TableName},
        value::SqlValue,
    },
};

/// A schema of a database with its tables and views.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// Its name.
    pub name: String,
    /// Names of its tables and views.
    pub tables: Vec<String>,
}

impl Database {
    /// The columns of a table, as they are now.
    ///
    /// # Errors
    ///
    /// `UnknownTable`, `UnknownSchema`, `NotAllowed` for what a restricted caller may not reach, or what the database says.
    pub async fn describe(&self, name: &TableName) -> Result<Vec<TableColumn>, SqlError> {
        self.check_name(&name.database)?;
        let granted = self.grant(name.clone())?;
        self.tables().forget(granted.name());
        let table = self.table(granted.name()).await?;
        let described = self.described_table(granted.name()).await?;
        let column = |known: &CatalogColumn| {
            let CatalogColumn { name, data_type, nullable, generated, default_sql: _, key_position } = known.clone();
            let of_result = described.columns.iter().find(|column| column.name == name);
            let schema = of_result.map_or_else(|| json!({}), |column| with_null(&column.schema, nullable));
            TableColumn { name, data_type, schema, nullable, generated, key_position }
        };
        Ok(table.columns.iter().map(column).collect())
    }

    /// The table, remembered or read now. Inside of a transaction, which may yet be undone, nothing is remembered.
    pub(crate) async fn table(&self, name: &TableName) -> Result<Arc<Table>, SqlError> {
        let key = key_of(name);
        if let Some(known) = self.tables().get(&key) {
            return Ok(known);
        }
        let template = (self.catalog().columns)(name.schema.as_deref(), &name.table)?;
        let columns: Vec<ColumnRow> = self.rows(Statement::ours(template, Purpose::read(name))).await?;
        if columns.is_empty() {
            return Err(self.missing(name).await);
        }
        let columns = columns.into_iter().map(CatalogColumn::from).collect();
        let table = Arc::new(Table { columns });
        if !self.is_inside() {
            self.tables().put(key, Arc::clone(&table));
        }
        Ok(table)
    }

    /// The error for a name, by the part of it that does not exist.
    async fn missing(&self, name: &TableName) -> SqlError {
        let table = shown_table(name.schema.as_deref(), &name.table);
        if let (Some(schema), Some(schemas)) = (&name.schema, self.catalog().schema) {
            let mut template = Template::default();
            template.text(schemas);
            template.value(SqlValue::from(schema.as_str()));
            let known: Result<Vec<Value>, _> = self.rows(catalog(template)).await;
            // If even this fails, the error about the table is still the right one.
            if known.is_ok_and(|rows| rows.is_empty()) {
                let message = format!("unknown schema `{}`", shown(schema));
                return SqlError::new(SqlErrorCode::UnknownSchema, message);
            }
        }
        SqlError::new(SqlErrorCode::UnknownTable, format!("unknown table {table}"))
    }

    /// All schemas with their tables and views, as far as the connection may see them, and the caller may reach them.
    ///
    /// # Errors
    ///
    /// The database's error; `ResultTooLarge` for more than a result may have.
    pub async fn schemas(&self) -> Result<Vec<Schema>, SqlError> {
        let mut template = Template::default();
        template.text(self.catalog().tables);
        let rows: Vec<TableRow> = self.rows(catalog(template)).await?;
        let mut schemas: Vec<Schema> = Vec::new();
        for TableRow { schema, table } in rows {
            if !self.shows(&schema, table.as_deref()) {
                continue;
            }
            if schemas.last().is_none_or(|last| last.name != schema) {
                schemas.push(Schema { name: schema, tables: Vec::new() });
            }
            if let (Some(table), Some(schema)) = (table, schemas.last_mut()) {
                schema.tables.push(table);
            }
        }
        Ok(schemas)
    }

    /// Tells whether [`schemas`](Self::schemas) has this table, without reading the others.
    ///
    /// # Errors
    ///
    /// The database's error.
    pub async fn lists(&self, schema: &str, table: &str) -> Result<bool, SqlError> {
        if !self.shows(schema, Some(table)) {
            return Ok(false);
        }
        let quoted = |name| self.dialect().quoted("column", name);
        let mut template = Template::default();
        let (schema_column, table_column) = (quoted("schema")?, quoted("table")?);
        template.text(&format!("SELECT 1 AS known FROM ({}) l WHERE l.{schema_column} = ", self.catalog().tables));
        template.value(SqlValue::from(schema));
        template.text(&format!(" AND l.{table_column} = "));
        template.value(SqlValue::from(table));
        let known: Vec<Value> = self.rows(catalog(template)).await?;
        Ok(!known.is_empty())
    }
}

#[derive(Deserialize)]
struct TableRow {
    schema: String,
    table: Option<String>,
}

#[derive(Deserialize)]
struct ColumnRow {
    name: String,
    data_type: Arc<str>,
    #[serde(deserialize_with = "truth")]
    nullable: bool,
    #[serde(deserialize_with = "truth")]
    generated: bool,
    default_sql: Option<String>,
    key_position: i64,
}

impl From<ColumnRow> for CatalogColumn {
    fn from(row: ColumnRow) -> Self {
        let ColumnRow { name, data_type, nullable, generated, default_sql, key_position } = row;
        Self { name, data_type, nullable, generated, default_sql, key_position }
    }
}

/// A boolean, of which SQLite makes a number.
fn truth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Bool(value) => value,
        other => other.as_i64() == Some(1),
    })
}

/// A statement about the catalogue; it reads and nothing else.
fn catalog(template: Template) -> Statement {
    Statement::ours(template, Purpose::Read { schema: None, table: "catalog".to_owned() })
}
