//! What tables there are and what columns they have.
//!
//! Owns: reading the databases' catalogues, and remembering tables for a while. Never: changes anything.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    data::{
        Database,
        placeholders::Template,
        select::{Dialect, Form, Statement, invalid, quoted_table, shown_table},
    },
    domain::sql::{SqlError, SqlErrorCode, TableColumn, TableName},
};

/// Tables of one connection that are remembered. A script uses few; when there are more, all are forgotten.
const CACHED_MAX: usize = 64;
/// How long a table is remembered. What a failing statement shows to be outdated is read anew at once; this bounds how
/// long a changed primary key goes unnoticed.
const CACHED_FOR: Duration = Duration::from_secs(60);

/// A table as the catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) columns: Vec<TableColumn>,
}

impl Table {
    /// Names of the primary key's columns, in its order.
    pub(super) fn key(&self) -> Vec<&str> {
        let mut columns: Vec<_> = self.columns.iter().filter(|column| column.key_position > 0).collect();
        columns.sort_by_key(|column| column.key_position);
        columns.iter().map(|column| column.name.as_str()).collect()
    }

    /// The column of this name.
    pub(super) fn column(&self, name: &str, dialect: Dialect) -> Option<&TableColumn> {
        self.columns.iter().find(|column| match dialect {
            Dialect::Postgres => column.name == name,
            Dialect::MySql => column.name.to_lowercase() == name.to_lowercase(),
            Dialect::Sqlite => column.name.eq_ignore_ascii_case(name),
        })
    }
}

type CacheKey = (Option<String>, String);

/// Tables of one connection, as they were.
#[derive(Debug, Default)]
pub(super) struct TableCache(Mutex<HashMap<CacheKey, (Instant, Arc<Table>)>>);

impl TableCache {
    fn get(&self, key: &CacheKey) -> Option<Arc<Table>> {
        let tables = self.tables();
        let (since, table) = tables.get(key)?;
        (since.elapsed() < CACHED_FOR).then(|| Arc::clone(table))
    }

    fn put(&self, key: CacheKey, table: Arc<Table>) {
        let mut tables = self.tables();
        if tables.len() >= CACHED_MAX {
            tables.clear();
        }
        tables.insert(key, (Instant::now(), table));
    }

    /// Reads the table anew the next time.
    pub(super) fn forget(&self, name: &TableName) {
        self.tables().remove(&key_of(name));
    }

    /// Reads all tables anew the next time.
    pub(super) fn forget_all(&self) {
        self.tables().clear();
    }

    fn tables(&self) -> MutexGuard<'_, HashMap<CacheKey, (Instant, Arc<Table>)>> {
        // A map of handles is never half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key_of(name: &TableName) -> CacheKey {
    (name.schema.clone(), name.table.clone())
}

/// A schema of a database with its tables and views.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// Its name.
    pub name: String,
    /// Names of its tables and views.
    pub tables: Vec<String>,
}

impl Database {
    /// The columns of a table.
    ///
    /// # Errors
    ///
    /// `UnknownTable`, `UnknownSchema`, `NotAllowed` for what a restricted caller may not reach, or what the database says.
    pub async fn describe(&self, name: &TableName) -> Result<Vec<TableColumn>, SqlError> {
        self.check_name(&name.database)?;
        let granted = self.grant(name.clone())?;
        self.tables().forget(granted.name());
        Ok(self.table(granted.name()).await?.columns.clone())
    }

    /// The table, remembered or read now. Inside of a transaction, which may yet be undone, nothing is remembered.
    pub(super) async fn table(&self, name: &TableName) -> Result<Arc<Table>, SqlError> {
        let key = key_of(name);
        if let Some(known) = self.tables().get(&key) {
            return Ok(known);
        }
        let columns: Vec<ColumnRow> = self.rows(describe_statement(self.dialect(), name)?).await?;
        if columns.is_empty() {
            return Err(self.missing(name).await);
        }
        let columns = columns.into_iter().map(TableColumn::from).collect();
        let table = Arc::new(Table { columns });
        if !self.is_inside() {
            self.tables().put(key, Arc::clone(&table));
        }
        Ok(table)
    }

    /// Which part of a name does not exist.
    async fn missing(&self, name: &TableName) -> SqlError {
        let table = shown_table(name.schema.as_deref(), &name.table);
        let schemas = match self.dialect() {
            Dialect::MySql => Some("SELECT 1 AS known FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = "),
            Dialect::Postgres => Some("SELECT 1 AS known FROM pg_catalog.pg_namespace WHERE nspname = "),
            Dialect::Sqlite => None,
        };
        if let (Some(schema), Some(schemas)) = (&name.schema, schemas) {
            let mut template = Template::default();
            template.text(schemas);
            template.value(Value::from(schema.as_str()));
            let known: Result<Vec<Value>, _> = self.rows(catalog(template)).await;
            // If even this fails, the error about the table is still the right one.
            if known.is_ok_and(|rows| rows.is_empty()) {
                let message = format!("unknown schema `{}`", crate::data::select::shown(schema));
                return SqlError::new(SqlErrorCode::UnknownSchema, message);
            }
        }
        SqlError::new(SqlErrorCode::UnknownTable, format!("unknown table {table}"))
    }

    /// Whether a table has unique keys besides its primary key. Only MySQL needs to know.
    pub(super) async fn has_other_unique_keys(&self, name: &TableName) -> Result<bool, SqlError> {
        let mut template = Template::default();
        template.text(
            "SELECT 1 AS known FROM information_schema.STATISTICS \
             WHERE NON_UNIQUE = 0 AND INDEX_NAME <> 'PRIMARY' AND TABLE_NAME = ",
        );
        template.value(Value::from(name.table.as_str()));
        template.text(" AND (@@lower_case_table_names > 0 OR BINARY TABLE_NAME = ");
        template.value(Value::from(name.table.as_str()));
        template.text(") AND TABLE_SCHEMA = ");
        match &name.schema {
            Some(schema) => template.value(Value::from(schema.as_str())),
            None => template.text("DATABASE()"),
        }
        template.text(" LIMIT 1");
        let known: Vec<Value> = self.rows(catalog(template)).await?;
        Ok(!known.is_empty())
    }

    /// All schemas with their tables and views, as far as the connection may see them, and the caller may reach them.
    ///
    /// # Errors
    ///
    /// What the database says; `ResultTooLarge` for more than a result may have.
    pub async fn schemas(&self) -> Result<Vec<Schema>, SqlError> {
        let mut template = Template::default();
        template.text(list(self.dialect()));
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

    /// Whether [`schemas`](Self::schemas) has this table, without reading the others.
    ///
    /// # Errors
    ///
    /// What the database says.
    pub async fn lists(&self, schema: &str, table: &str) -> Result<bool, SqlError> {
        if !self.shows(schema, Some(table)) {
            return Ok(false);
        }
        let (left, right) = match self.dialect() {
            Dialect::MySql => ("l.`schema` = ", " AND l.`table` = "),
            Dialect::Postgres | Dialect::Sqlite => ("l.\"schema\" = ", " AND l.\"table\" = "),
        };
        let mut template = Template::default();
        template.text(&format!("SELECT 1 AS known FROM ({}) l WHERE {left}", list(self.dialect())));
        template.value(Value::from(schema));
        template.text(right);
        template.value(Value::from(table));
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
    data_type: String,
    #[serde(deserialize_with = "truth")]
    nullable: bool,
    #[serde(deserialize_with = "truth")]
    generated: bool,
    default_sql: Option<String>,
    key_position: i64,
}

impl From<ColumnRow> for TableColumn {
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
    Statement::ours(template, Vec::new(), Form::Table { schema: None, table: "catalog".to_owned() })
}

fn describe_statement(dialect: Dialect, name: &TableName) -> Result<Statement, SqlError> {
    let TableName { database: _, schema, table } = name;
    // Checks the names, too.
    let quoted = quoted_table(dialect, schema.as_deref(), table)?;
    let mut template = Template::default();
    match dialect {
        Dialect::Postgres => {
            template.text(
                "SELECT a.attname::text AS name, pg_catalog.format_type(a.atttypid, a.atttypmod) AS data_type, \
                 NOT a.attnotnull AS nullable, (a.attgenerated <> '' OR a.attidentity = 'a') AS generated, \
                 NULL::text AS default_sql, \
                 coalesce(pg_catalog.array_position(i.indkey::int2[], a.attnum) + 1, 0) AS key_position \
                 FROM pg_catalog.pg_attribute a \
                 JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
                 LEFT JOIN pg_catalog.pg_index i ON i.indrelid = a.attrelid AND i.indisprimary \
                 WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attrelid = pg_catalog.to_regclass(",
            );
            template.value(Value::from(quoted));
            template.text(") ORDER BY a.attnum");
        }
        Dialect::MySql => {
            // The comments are for MariaDB, whose JSON is a text with a constraint.
            template.text(
                "SELECT c.COLUMN_NAME AS name, /*M!100500 CASE WHEN EXISTS (SELECT 1 FROM information_schema.CHECK_CONSTRAINTS j \
                 WHERE j.CONSTRAINT_SCHEMA = c.TABLE_SCHEMA AND j.TABLE_NAME = c.TABLE_NAME \
                 AND j.CHECK_CLAUSE = CONCAT('json_valid(`', REPLACE(c.COLUMN_NAME, '`', '``'), '`)')) \
                 THEN 'json' ELSE */ c.COLUMN_TYPE /*M!100500 END */ AS data_type, c.IS_NULLABLE = 'YES' AS nullable, \
                 c.EXTRA LIKE '%VIRTUAL GENERATED%' OR c.EXTRA LIKE '%STORED GENERATED%' AS generated, \
                 NULL AS default_sql, CAST(IFNULL(k.SEQ_IN_INDEX, 0) AS SIGNED) AS key_position FROM information_schema.COLUMNS c \
                 LEFT JOIN information_schema.STATISTICS k ON k.TABLE_SCHEMA = c.TABLE_SCHEMA \
                 AND BINARY k.TABLE_NAME = BINARY c.TABLE_NAME AND k.INDEX_NAME = 'PRIMARY' AND k.COLUMN_NAME = c.COLUMN_NAME \
                 WHERE c.TABLE_NAME = ",
            );
            template.value(Value::from(table.as_str()));
            // This catalogue does not know case, but most servers have tables that differ in nothing else.
            template.text(" AND (@@lower_case_table_names > 0 OR BINARY c.TABLE_NAME = ");
            template.value(Value::from(table.as_str()));
            template.text(")");
            template.text(" AND c.TABLE_SCHEMA = ");
            match schema {
                Some(schema) => template.value(Value::from(schema.as_str())),
                None => template.text("DATABASE()"),
            }
            template.text(" ORDER BY c.ORDINAL_POSITION");
        }
        Dialect::Sqlite => {
            template.text(
                "SELECT name, type AS data_type, NOT \"notnull\" AS nullable, hidden IN (2, 3) AS generated, \
                 dflt_value AS default_sql, pk AS key_position FROM pragma_table_xinfo(",
            );
            template.value(Value::from(table.as_str()));
            if let Some(schema) = schema {
                template.text(", ");
                template.value(Value::from(schema.as_str()));
            }
            template.text(") WHERE hidden <> 1 ORDER BY cid");
        }
    }
    Ok(Statement::ours(template, Vec::new(), Form::Table { schema: schema.clone(), table: table.clone() }))
}

/// SQL for all schemas with their tables and views.
fn list(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::MySql => {
            "SELECT s.SCHEMA_NAME AS `schema`, t.TABLE_NAME AS `table` FROM information_schema.SCHEMATA s \
             LEFT JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = s.SCHEMA_NAME \
             WHERE s.SCHEMA_NAME NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys') ORDER BY 1, 2"
        }
        Dialect::Postgres => {
            "SELECT n.nspname::text AS schema, c.relname::text AS \"table\" FROM pg_catalog.pg_namespace n \
             LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
             AND NOT c.relispartition AND pg_catalog.has_table_privilege(c.oid, 'SELECT') \
             WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' \
             AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') ORDER BY 1, 2"
        }
        // Each schema has its `sqlite_schema`, so one without tables is there, too.
        Dialect::Sqlite => {
            "SELECT DISTINCT schema, CASE WHEN name LIKE 'sqlite\\_%' ESCAPE '\\' THEN NULL ELSE name END AS \"table\" \
             FROM pragma_table_list WHERE schema <> 'temp' AND type IN ('table', 'view', 'virtual') ORDER BY 1, 2"
        }
    }
}

/// What to do about a table whose rows a primary key cannot tell apart.
pub(super) fn without_key(name: &TableName) -> SqlError {
    let table = shown_table(name.schema.as_deref(), &name.table);
    invalid(format!(
        "table {table} has no primary key, so `pk` cannot name one of its rows: add a primary key to the table, or use \
         `execute` with a WHERE of your own"
    ))
}
