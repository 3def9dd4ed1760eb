//! Tables as the databases' catalogues have them.
//!
//! Owns: remembering tables for a while. Never: asks a database (see `describe`).

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    data::{
        described::Described,
        dialect::{Dialect, invalid, shown_table},
        template::Template,
    },
    domain::{
        names::{ConnectionId, TenantId},
        sql::{SqlError, TableName},
    },
};

/// The queries to a database's catalogue.
#[derive(Debug)]
pub(crate) struct Catalog {
    /// The columns of a table: `name`, `data_type`, `nullable`, `generated`, `default_sql` and `key_position` of each, in order.
    pub(crate) columns: fn(schema: Option<&str>, table: &str) -> Result<Template, SqlError>,
    /// All schemas with their tables and views: `schema` and `table`, which is NULL for a schema without any.
    pub(crate) tables: &'static str,
    /// A row for the schema whose name is bound behind it; absent where an unknown schema is told by other means.
    pub(crate) schema: Option<&'static str>,
}

/// Tables of one connection that are remembered. A script uses few; when there are more, all are forgotten.
const CACHED_MAX: usize = 64;
/// The time for which a table is remembered. One that a failing statement shows to be outdated is read anew at once; this bounds how
/// long a changed primary key goes unnoticed.
const CACHED_FOR: Duration = Duration::from_secs(60);

/// A column as the catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CatalogColumn {
    pub(crate) name: String,
    /// Its type, in the database's words.
    pub(crate) data_type: Arc<str>,
    /// Set if it may be NULL.
    pub(crate) nullable: bool,
    /// Set if the database alone writes it.
    pub(crate) generated: bool,
    /// SQL of its default, where the dialect has no `DEFAULT` to name it.
    pub(crate) default_sql: Option<String>,
    /// Its place in the primary key from 1; 0 when it is no part of it.
    pub(crate) key_position: i64,
}

/// A table as the catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) columns: Vec<CatalogColumn>,
}

impl Table {
    /// Names of the primary key's columns, in its order.
    pub(crate) fn key(&self) -> Vec<&str> {
        let mut columns: Vec<_> = self.columns.iter().filter(|column| column.key_position > 0).collect();
        columns.sort_by_key(|column| column.key_position);
        columns.iter().map(|column| column.name.as_str()).collect()
    }

    /// The column of this name.
    pub(crate) fn column(&self, name: &str, dialect: Dialect) -> Option<&CatalogColumn> {
        self.columns.iter().find(|column| dialect.is_same_column(&column.name, name))
    }

    /// Tells each value of a template the type of its column.
    pub(crate) fn tell(&self, template: &mut Template, dialect: Dialect) {
        for bound in &mut template.values {
            let column = bound.column.as_deref().and_then(|name| self.column(name, dialect));
            bound.r#type = column.map(|column| Arc::clone(&column.data_type));
        }
    }
}

/// Schema and name of a table.
pub(crate) type CacheKey = (Option<String>, String);

/// A table or a query as a result shows it.
#[derive(Debug, PartialEq)]
pub(crate) struct Source {
    pub(crate) columns: Vec<Described>,
    /// Of a query: its SQL, fit to stand in parentheses.
    pub(crate) sql: Option<String>,
    /// Set if two columns of the query have one name, so that the names of `columns` must be given to them.
    pub(crate) is_renamed: bool,
}

impl Source {
    /// The column of this name.
    pub(crate) fn column(&self, name: &str, dialect: Dialect) -> Option<&Described> {
        self.columns.iter().find(|column| dialect.is_same_column(&column.name, name))
    }

    /// The names of the columns as SQL, with commas between them.
    pub(crate) fn quoted_names(&self, dialect: Dialect) -> Result<String, SqlError> {
        let quoted: Result<Vec<_>, _> =
            self.columns.iter().map(|column| dialect.quoted("query", &column.name)).collect();
        Ok(quoted?.join(", "))
    }
}

/// The remembered tables of each connection, whoever uses it for what.
#[derive(Debug, Default)]
pub(crate) struct TableCaches(Mutex<HashMap<(TenantId, ConnectionId), OfRevision>>);

/// The remembered tables of one revision of a connection, as long as anybody holds it.
type OfRevision = (i64, Weak<TableCache>);

impl TableCaches {
    /// The remembered tables of this revision of a connection.
    pub(crate) fn find(&self, connection: (TenantId, ConnectionId), revision: i64) -> Arc<TableCache> {
        // A map of handles is never half changed.
        let mut caches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = caches.get(&connection).filter(|(known, _)| *known == revision);
        if let Some(cache) = known.and_then(|(_, cache)| cache.upgrade()) {
            return cache;
        }
        caches.retain(|_, (_, cache)| cache.strong_count() > 0);
        let cache = Arc::default();
        caches.insert(connection, (revision, Arc::downgrade(&cache)));
        cache
    }
}

/// Tables and queries of one connection, as they were.
#[derive(Debug, Default)]
pub(crate) struct TableCache(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    tables: HashMap<CacheKey, (Instant, Arc<Table>)>,
    /// By quoted name, or by SQL.
    sources: HashMap<String, (Instant, Arc<Source>)>,
}

impl TableCache {
    pub(crate) fn get(&self, key: &CacheKey) -> Option<Arc<Table>> {
        fresh(self.known().tables.get(key)?)
    }

    pub(crate) fn put(&self, key: CacheKey, table: Arc<Table>) {
        remember(&mut self.known().tables, key, table);
    }

    pub(crate) fn source(&self, key: &str) -> Option<Arc<Source>> {
        fresh(self.known().sources.get(key)?)
    }

    pub(crate) fn put_source(&self, key: String, source: Arc<Source>) {
        remember(&mut self.known().sources, key, source);
    }

    /// Reads the table anew the next time, and whatever may be made of it.
    pub(crate) fn forget(&self, name: &TableName) {
        let mut known = self.known();
        known.tables.remove(&key_of(name));
        known.sources.clear();
    }

    /// Asks anew the next time what a source is, by its quoted name or its SQL.
    pub(crate) fn forget_source(&self, key: &str) {
        self.known().sources.remove(key);
    }

    /// Reads all tables anew the next time.
    pub(crate) fn forget_all(&self) {
        *self.known() = Known::default();
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // A map of handles is never half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fresh<T>((since, known): &(Instant, Arc<T>)) -> Option<Arc<T>> {
    (since.elapsed() < CACHED_FOR).then(|| Arc::clone(known))
}

fn remember<K: Eq + Hash, T>(known: &mut HashMap<K, (Instant, Arc<T>)>, key: K, value: Arc<T>) {
    if known.len() >= CACHED_MAX {
        known.clear();
    }
    known.insert(key, (Instant::now(), value));
}

/// The key of a remembered table.
pub(crate) fn key_of(name: &TableName) -> CacheKey {
    (name.schema.clone(), name.table.clone())
}

/// The error for a table whose rows a primary key cannot tell apart.
pub(crate) fn without_key(name: &TableName) -> SqlError {
    let table = shown_table(name.schema.as_deref(), &name.table);
    invalid(format!(
        "table {table} has no primary key, so `pk` cannot name one of its rows: add a primary key to the table, or use \
         `execute` with a WHERE of your own"
    ))
}
