//! What a process remembers of tenants, and until when that holds.
//!
//! Owns: which tenants have changed since something was read. Never: reads it.
//! Invariant: once [`Db::look_for_changes`] has returned, nothing is believed that was read of a tenant before a change which that call
//! could see; what was read of other tenants still is.

use std::{
    fmt,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::AnyConnection;
use tokio::sync::Mutex;

use crate::{
    db::{Db, DbError},
    domain::names::TenantId,
};

/// Places for the changes of tenants. Tenants that share one are read anew together, which costs queries and kept answers.
const PLACES: usize = 1 << 14;

/// When something was read: how many changes had been seen until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadAt(u64);

/// The changes of the control database that this process has seen.
pub(super) struct Changes {
    /// How many times some were seen.
    count: AtomicU64,
    /// What `count` was when last something changed that concerns every tenant.
    of_all: AtomicU64,
    /// The same for something that concerns a tenant, at its place.
    of_tenants: Box<[AtomicU64]>,
    /// What the database said of changes when it was last asked.
    last: Mutex<Option<Counters>>,
}

/// What the database says of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counters {
    changes: i64,
    /// Those of them that concern one tenant only, or nobody.
    attributed: i64,
}

impl Changes {
    pub(super) fn new() -> Self {
        let of_tenants = (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        Self { count: AtomicU64::new(0), of_all: AtomicU64::new(0), of_tenants, last: Mutex::default() }
    }

    fn place(&self, tenant: TenantId) -> &AtomicU64 {
        &self.of_tenants[usize::try_from(tenant.0.unsigned_abs() % PLACES as u64).unwrap_or_default()]
    }

    fn now(&self) -> ReadAt {
        ReadAt(self.count.load(Ordering::SeqCst))
    }

    /// When something last changed that concerns the tenant.
    fn last_of(&self, tenant: TenantId) -> ReadAt {
        let of_tenant = self.place(tenant).load(Ordering::SeqCst);
        ReadAt(of_tenant.max(self.of_all.load(Ordering::SeqCst)))
    }

    /// Notes changes of these tenants, or without any, of everything. Only for who holds `last`.
    fn note(&self, tenants: Option<&[TenantId]>) {
        let now = self.count.load(Ordering::SeqCst) + 1;
        match tenants {
            None => self.of_all.store(now, Ordering::SeqCst),
            Some(tenants) => tenants.iter().for_each(|tenant| self.place(*tenant).store(now, Ordering::SeqCst)),
        }
        // Last: what is made meanwhile of something that is still remembered says that it was read before, and is not believed.
        self.count.store(now, Ordering::SeqCst);
    }

    /// Notes what has changed since the database said `last`, and gives what it says now.
    async fn look(&self, connection: &mut AnyConnection, last: Option<Counters>) -> Result<Counters, sqlx::Error> {
        let counters = sqlx::query_as("SELECT counter, attributed FROM change WHERE id = 1");
        let (changes, attributed) = counters.fetch_one(&mut *connection).await?;
        let now = Counters { changes, attributed };
        match last {
            Some(last) if last == now => {}
            Some(last) if are_attributed(last, now) => {
                let changed = sqlx::query_scalar("SELECT tenant_id FROM tenant_change WHERE counter > $1");
                let changed: Vec<i64> = changed.bind(last.changes).fetch_all(connection).await?;
                self.note(Some(&changed.into_iter().map(TenantId).collect::<Vec<_>>()));
            }
            Some(_) | None => self.note(None),
        }
        Ok(now)
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Db {
    /// Looks whether any process has changed what this one remembers. A host does that a few times a second, and after each change of its
    /// own. Without a change it is one read of some 40 microseconds.
    ///
    /// # Errors
    /// The database cannot be read; all that is remembered is still believed then.
    pub async fn look_for_changes(&self) -> Result<(), DbError> {
        // First, so that who waits for one, because the control API has long lists to read, keeps nobody else from looking.
        let connection = self.readers.acquire().await;
        // Whoever comes second returns when what the first one has seen is noted.
        let mut last = self.changes.last.lock().await;
        let seen = match connection {
            Ok(mut connection) => self.changes.look(&mut connection, *last).await,
            Err(error) => Err(error),
        };
        // What answers after a failure may be a replica or a backup that is behind: then everything is read anew.
        *last = seen.as_ref().ok().copied();
        seen?;
        Ok(())
    }

    /// How many changes there were.
    #[cfg(test)]
    pub(crate) async fn count_changes(&self) -> i64 {
        sqlx::query_scalar("SELECT counter FROM change WHERE id = 1").fetch_one(&self.readers).await.unwrap()
    }

    /// To be noted before something is read that is to be remembered.
    #[must_use]
    pub fn now(&self) -> ReadAt {
        self.changes.now()
    }

    /// Tells what is made of what was read of a tenant at `read_at` from what is made of it after its next change: the number of its last one, or
    /// of when it was read if that was before.
    #[must_use]
    pub fn generation(&self, tenant: TenantId, read_at: ReadAt) -> u64 {
        self.changes.last_of(tenant).min(read_at).0
    }
}

/// Whether all changes in between concern one tenant at most, and nothing went back as it does when a backup is put in place.
fn are_attributed(last: Counters, now: Counters) -> bool {
    now.changes >= last.changes && now.changes - now.attributed == last.changes - last.attributed
}

/// What was read of tenants. It is believed until its tenant changes, and for a time at most, in case that goes unnoticed.
pub struct TenantCache<K, V> {
    entries: moka::sync::Cache<K, (ReadAt, V)>,
    changes: Arc<Changes>,
}

impl<K, V> fmt::Debug for TenantCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantCache").finish_non_exhaustive()
    }
}

impl<K, V> TenantCache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// One of what is read from `db`, for values that together weigh so much at most.
    pub fn new(db: &Db, time: Duration, weight_max: u64, weigh: impl Fn(&V) -> usize + Send + Sync + 'static) -> Self {
        let entries = moka::sync::Cache::builder()
            .max_capacity(weight_max)
            .weigher(move |_, (_, value): &(ReadAt, V)| u32::try_from(weigh(value)).unwrap_or(u32::MAX))
            .time_to_live(time)
            .build();
        Self { entries, changes: Arc::clone(&db.changes) }
    }

    /// What is remembered of this tenant.
    pub fn get(&self, tenant: TenantId, key: &K) -> Option<V> {
        self.get_of(key, |_| Some(tenant))
    }

    /// The same where only the value tells whose it is. One of no tenant is believed until anything changes.
    pub fn get_of(&self, key: &K, owner: impl FnOnce(&V) -> Option<TenantId>) -> Option<V> {
        let (read_at, value) = self.entries.get(key)?;
        let changed = owner(&value).map_or_else(|| self.changes.now(), |tenant| self.changes.last_of(tenant));
        (read_at >= changed).then_some(value)
    }

    /// Remembers what was read at `read_at`.
    pub fn insert(&self, key: K, read_at: ReadAt, value: V) {
        self.entries.insert(key, (read_at, value));
        // Else the cache makes room only after some dozens of insertions, and values may hold megabytes.
        self.entries.run_pending_tasks();
    }

    /// What all of it weighs.
    #[cfg(test)]
    pub(crate) fn weight(&self) -> u64 {
        self.entries.run_pending_tasks();
        self.entries.weighted_size()
    }

    #[cfg(test)]
    pub(crate) fn clear(&self) {
        self.entries.invalidate_all();
    }
}
