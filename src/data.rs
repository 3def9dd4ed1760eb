//! The tenants' databases.
//!
//! Owns: connection pools, dialects, types, rows and values, limits on statements, the SQLite jail. Never: decides who may use
//! which connection (see `invoke`), or keeps a URL longer than its pool.
//! Invariant: whatever one statement does to its session, the next user of the connection does not see.
//!
//! `docs/DATABASES.md` says the same to operators.

mod cursor;
mod database;
mod described;
mod dialect;
mod driver;
mod examine;
mod failure;
mod filling;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod moments;
mod mysql;
mod pieces;
mod pool;
mod postgres;
mod pump;
mod read;
mod rows;
mod run;
mod sqlite;
mod statement;
mod template;
#[cfg(test)]
mod tests;
mod transaction;
mod url;
mod write;

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{runtime::Handle, sync::Semaphore};

pub(crate) use crate::data::read::scope::not_named;
pub use crate::data::{
    cursor::{Cursor, PageFormat, WrittenRows},
    database::Database,
    examine::{Examination, examine},
    read::source::SourceColumn,
    transaction::Transaction,
    url::{ConnectionUrl, InvalidConnectionUrl, URL_BYTES_MAX},
};
use crate::{
    data::{
        read::catalog::{TableCache, TableCaches},
        run::AnyDriver,
        url::Driver,
    },
    domain::{
        limits::SqlLimits,
        names::{ConnectionId, ConnectionName, TenantId},
    },
};

/// How the host uses databases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSettings {
    /// Folder below which relative `sqlite:` URLs lie.
    pub sqlite_base: PathBuf,
    /// Connections to one database, at most. 8 keep a database of a few cores busy; more make it slower.
    pub pool_connections: usize,
    /// Databases with a pool at once, at most. The pool that is unused for longest makes room; when all are in use
    /// there may be more.
    pub pools: usize,
    /// How long a statement waits for a free connection, or for a new one to be established, before it fails.
    pub acquire_time: Duration,
    /// How long an idle connection is kept. Databases count their connections, so not long.
    pub idle_time: Duration,
    /// What a SQLite file may grow to.
    pub sqlite_bytes: u64,
    /// SQLite statements running at once in the whole process, at most; each holds a thread.
    pub sqlite_statements: usize,
}

impl DataSettings {
    /// The defaults, with relative SQLite folders below `sqlite_base`.
    #[must_use]
    pub fn new(sqlite_base: PathBuf) -> Self {
        Self {
            sqlite_base,
            pool_connections: 8,
            pools: 512,
            acquire_time: Duration::from_secs(5),
            idle_time: Duration::from_secs(60),
            sqlite_bytes: 1 << 30,
            sqlite_statements: 64,
        }
    }
}

/// Which database a statement is for.
#[derive(Debug, Clone)]
pub struct Target {
    /// Whose.
    pub tenant: TenantId,
    /// Which of theirs.
    pub connection: ConnectionId,
    /// Counts changes of the connection: another revision gets another pool.
    pub revision: i64,
    /// What scripts call it.
    pub name: ConnectionName,
    /// Where it is.
    pub url: ConnectionUrl,
}

/// All tenants' connection pools.
#[derive(Debug)]
pub struct Connections {
    shared: Arc<Shared>,
    /// Closes idle connections; ends with this struct.
    sweeper: tokio::task::AbortHandle,
}

#[derive(Debug)]
struct Shared {
    settings: DataSettings,
    /// Where sockets are served and most statements run.
    runtime: Handle,
    sqlite_threads: Arc<Semaphore>,
    pools: Mutex<HashMap<(TenantId, ConnectionId), Entry>>,
    tables: Arc<TableCaches>,
}

#[derive(Debug)]
struct Entry {
    revision: i64,
    pool: Arc<dyn AnyDriver>,
    /// What is known of its tables.
    tables: Arc<TableCache>,
}

impl Connections {
    /// Begins without any connection. Sockets are served by the tokio runtime that calls this, whoever runs a statement.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(settings: DataSettings) -> Self {
        Self::knowing(settings, Arc::default())
    }

    /// Connections of their own to the same databases: what one finds out or changes of a table, the other knows.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn beside(&self, settings: DataSettings) -> Self {
        Self::knowing(settings, Arc::clone(&self.shared.tables))
    }

    fn knowing(settings: DataSettings, tables: Arc<TableCaches>) -> Self {
        let runtime = Handle::current();
        let sqlite_threads = Arc::new(Semaphore::new(settings.sqlite_statements));
        let idle_time = settings.idle_time;
        let shared = Arc::new(Shared { settings, runtime, sqlite_threads, pools: Mutex::default(), tables });
        let sweeper = shared.runtime.spawn(sweep_regularly(Arc::downgrade(&shared), idle_time)).abort_handle();
        Self { shared, sweeper }
    }

    /// Where folders of relative `sqlite:` URLs lie.
    #[must_use]
    pub fn sqlite_base(&self) -> &Path {
        &self.shared.settings.sqlite_base
    }

    /// A tenant's database, for statements with these limits. No I/O.
    #[must_use]
    pub fn database(&self, target: Target, limits: SqlLimits) -> Database {
        let (pool, tables) = self.shared.pool(&target);
        Database::new(pool, tables, self.shared.runtime.clone(), target.name, limits)
    }

    /// Closes the idle connections of a tenant's connection, which was changed or deleted. Running statements finish.
    pub fn forget(&self, tenant: TenantId, connection: ConnectionId) {
        self.shared.pools().remove(&(tenant, connection));
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.sweeper.abort();
    }
}

impl Shared {
    /// The pool of this target, new if there is none or only one of another revision.
    fn pool(&self, target: &Target) -> (Arc<dyn AnyDriver>, Arc<TableCache>) {
        let key = (target.tenant, target.connection);
        let mut pools = self.pools();
        if let Some(entry) = pools.get(&key).filter(|entry| entry.revision == target.revision) {
            return (Arc::clone(&entry.pool), Arc::clone(&entry.tables));
        }
        pools.remove(&key);
        if pools.len() >= self.settings.pools {
            evict_longest_unused(&mut pools);
        }
        let pool = self.new_pool(&target.url);
        let tables = self.tables.find(key, target.revision);
        let entry = Entry { revision: target.revision, pool: Arc::clone(&pool), tables: Arc::clone(&tables) };
        pools.insert(key, entry);
        (pool, tables)
    }

    fn new_pool(&self, url: &ConnectionUrl) -> Arc<dyn AnyDriver> {
        let (read_only, settings) = (url.1.is_read_only(), &self.settings);
        match &url.0 {
            Driver::MySql(url) => Arc::new(mysql::MySqlPool::new((**url).clone(), read_only, settings)),
            Driver::Postgres(url) => {
                Arc::new(postgres::PostgresPool::new((**url).clone(), read_only, settings, self.runtime.clone()))
            }
            Driver::Sqlite(folder) => {
                let (folder, threads) = (settings.sqlite_base.join(folder), Arc::clone(&self.sqlite_threads));
                Arc::new(sqlite::SqlitePool::new(folder, read_only, settings, threads))
            }
        }
    }

    /// Closes connections that are idle too long, and drops pools that have been without any use ten times as long.
    fn sweep(&self) {
        let idle_time = self.settings.idle_time;
        self.pools().retain(|_, entry| {
            entry.pool.close_idle(idle_time);
            entry.pool.unused_for().is_none_or(|unused| unused < idle_time * 10)
        });
    }

    fn pools(&self) -> MutexGuard<'_, HashMap<(TenantId, ConnectionId), Entry>> {
        // A map of handles is never half changed.
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes in the SQLite files of these connections, but for those that only read; pages that are free do not count. Blocks.
#[must_use]
pub fn written_sqlite_bytes(sqlite_base: &Path, urls: &[ConnectionUrl]) -> u64 {
    let written = urls.iter().filter(|ConnectionUrl(_, mode)| !mode.is_read_only());
    let folders: BTreeSet<_> = written
        .filter_map(|ConnectionUrl(driver, _)| match driver {
            Driver::Sqlite(folder) => sqlite_base.join(folder).canonicalize().ok(), // two connections may have one folder
            Driver::MySql(_) | Driver::Postgres(_) => None,
        })
        .collect();
    folders.iter().map(|folder| sqlite::used_bytes(folder)).fold(0, u64::saturating_add)
}

fn evict_longest_unused(pools: &mut HashMap<(TenantId, ConnectionId), Entry>) {
    let unused = pools.iter().filter_map(|(key, entry)| Some((entry.pool.unused_for()?, *key)));
    if let Some((_, key)) = unused.max_by_key(|(unused, _)| *unused) {
        pools.remove(&key);
    }
}

async fn sweep_regularly(shared: Weak<Shared>, idle_time: Duration) {
    // Twice per period, so that nothing stays idle for more than one and a half.
    let mut ticks = tokio::time::interval((idle_time / 2).max(Duration::from_millis(100)));
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        shared.sweep();
    }
}
