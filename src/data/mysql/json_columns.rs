//! Which columns of MariaDB hold JSON.
//!
//! MariaDB's JSON is LONGTEXT with a constraint, and a result does not say which text is such. So the table's definition
//! is asked for, once in a while: it may be read with any right on the table, unlike the catalogue's list of
//! constraints.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, Column as _, ColumnOrigin, MySql, Row as _, TypeInfo as _,
    mysql::{MySqlColumn, MySqlConnection, MySqlTypeInfo},
};
use tokio::time::Instant;

use crate::data::dialect::backticked;

/// How long a table's definition is believed. JSON that is taken for text meanwhile is no danger, only a surprise to
/// who has just altered a table.
const FRESH_TIME: Duration = Duration::from_secs(30);
/// Tables of one database that are remembered, at most; then all are forgotten.
const TABLES_MAX: usize = 1000;

/// The names of columns.
type Names = Arc<HashSet<String>>;

/// The JSON columns of the tables behind one result, by table.
#[derive(Debug, Default)]
pub(super) struct JsonColumns {
    tables: HashMap<Arc<str>, Names>,
    /// Names of such columns in rows that a change gives back: the server names no schema for them.
    named: Vec<String>,
}

impl JsonColumns {
    /// The same, and the columns of these names, whatever table the server names.
    pub(super) fn and(self, named: &[String]) -> Self {
        Self { named: named.to_vec(), ..self }
    }

    pub(super) fn contains(&self, column: &MySqlColumn) -> bool {
        self.named.iter().any(|name| name == column.name())
            || matches!(column.origin(), ColumnOrigin::Table(origin)
                if self.tables.get(&origin.table).is_some_and(|names| names.contains(&*origin.name)))
    }
}

/// What is known of the tables of one database server.
#[derive(Debug, Default)]
pub(super) struct JsonColumnsCache(Mutex<HashMap<Arc<str>, (Instant, Names)>>);

impl JsonColumnsCache {
    /// The JSON columns of the tables of a result, asking the server for what is not known.
    pub(super) async fn of(
        &self,
        connection: &mut MySqlConnection,
        columns: &[MySqlColumn],
    ) -> Result<JsonColumns, sqlx::Error> {
        let mut found = JsonColumns::default();
        for column in columns.iter().filter(|column| may_be_json(column)) {
            let ColumnOrigin::Table(origin) = column.origin() else { continue };
            if found.tables.contains_key(&origin.table) {
                continue;
            }
            let names = match self.known(&origin.table) {
                Some(names) => names,
                None => self.ask(connection, &origin.table).await?,
            };
            found.tables.insert(origin.table, names);
        }
        Ok(found)
    }

    fn known(&self, table: &str) -> Option<Names> {
        let tables = self.tables();
        let (since, names) = tables.get(table)?;
        (since.elapsed() < FRESH_TIME).then(|| Arc::clone(names))
    }

    async fn ask(&self, connection: &mut MySqlConnection, table: &Arc<str>) -> Result<Names, sqlx::Error> {
        let definition = match definition_of(connection, table).await {
            // Of a view, or of a table that this account may not see.
            Err(sqlx::Error::Database(_)) => String::new(),
            result => result?,
        };
        let names = Arc::new(json_columns_in(&definition));
        let mut tables = self.tables();
        if tables.len() >= TABLES_MAX {
            tables.clear();
        }
        tables.insert(Arc::clone(table), (Instant::now(), Arc::clone(&names)));
        Ok(names)
    }

    fn tables(&self) -> MutexGuard<'_, HashMap<Arc<str>, (Instant, Names)>> {
        // A map of shared values is never half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells whether a type holds characters. Its name does not say so: a text with a binary collation has that of a BLOB.
pub(super) fn is_text(r#type: &MySqlTypeInfo) -> bool {
    <str as sqlx::Type<MySql>>::compatible(r#type)
}

/// JSON has a binary collation of a text, which makes sqlx call it a BLOB. Ordinary text has not.
fn may_be_json(column: &MySqlColumn) -> bool {
    column.type_info().name().ends_with("BLOB") && is_text(column.type_info())
}

/// `table` is `schema.table`. Where one of the two has a dot of its own it cannot be told apart, and JSON stays text.
async fn definition_of(connection: &mut MySqlConnection, table: &str) -> Result<String, sqlx::Error> {
    let Some((schema, table)) = table.split_once('.').filter(|(_, table)| !table.contains('.')) else {
        return Ok(String::new());
    };
    let sql = format!("SHOW CREATE TABLE {}.{}", backticked(schema), backticked(table));
    let row = sqlx::query(AssertSqlSafe(sql)).persistent(false).fetch_optional(connection).await?;
    row.map_or(Ok(String::new()), |row| row.try_get(1))
}

/// The columns with a constraint ``CHECK (json_valid(`column`))``.
fn json_columns_in(definition: &str) -> HashSet<String> {
    let mut names = HashSet::new();
    for rest in definition.split("CHECK (json_valid(`").skip(1) {
        let mut name = String::new();
        let mut characters = rest.chars().peekable();
        while let Some(character) = characters.next() {
            if character == '`' && characters.next_if_eq(&'`').is_none() {
                names.insert(name);
                break;
            }
            name.push(character);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_columns_are_found_in_a_definition() {
        let definition = "CREATE TABLE `t` (\n `a``b` longtext DEFAULT NULL CHECK (json_valid(`a``b`)),\n `c` text,\n \
                          `d)` longtext COMMENT 'é' CHECK (json_valid(`d)`))\n)";
        assert_eq!(json_columns_in(definition), ["a`b", "d)"].map(str::to_owned).into());
        assert_eq!(json_columns_in("CREATE TABLE `t` (`x` text CHECK (json_valid(`x"), HashSet::new());
        assert_eq!(json_columns_in(""), HashSet::new());
    }
}
