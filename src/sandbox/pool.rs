//! Which slot serves which invocation.
//!
//! Owns: all slots, their number, their tenants, waiting for one, spares. Never: calls a guest.
//!
//! A slot belongs to one tenant from its first invocation until it is dropped. For an invocation the pool takes, in this
//! order: a slot of the tenant that already shows the version, any idle slot of the tenant, a spare that has belonged to
//! nobody, a new one (dropping the longest idle slot of another tenant when there are too many).

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use crate::{
    domain::names::{TenantId, VersionId},
    sandbox::{
        memory::MappedImage,
        runtime::{Runtime, RuntimeError},
        slot::{NotReusable, Slot},
    },
};

/// Slots kept ready that have belonged to no tenant yet.
///
/// A tenant that traps on purpose costs 1 ms of background work a time; two cover a first call and a trap at once.
const SPARES: usize = 2;

/// An idle slot is dropped after this time. It holds 1 to 10 MB.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// How many slots there may be, and how long to wait for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSettings {
    /// Invocations that may run at once, over all tenants.
    pub slots_max: usize,
    /// Invocations of one tenant that may run at once.
    pub slots_per_tenant_max: usize,
    /// Invocations that may wait for a slot, over all tenants; and as many of each tenant for another one of its own to end.
    pub queue_max: usize,
    /// How long an invocation may wait for a slot.
    pub queue_wait: Duration,
    /// After each this many rewinds, compare the whole memory with its image; 0 for never. A comparison takes 10 ms.
    pub verify_every: usize,
}

/// Why there is no slot.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The tenant runs as many invocations as it may.
    #[error("the tenant already runs {limit} handlers at once")]
    TenantBusy {
        /// The limit.
        limit: usize,
    },
    /// All slots are in use, and waiting is over or the queue is full.
    #[error("all {limit} slots are in use")]
    Overloaded {
        /// The limit.
        limit: usize,
    },
    /// A slot cannot be made.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// Counters, for operators.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolStatus {
    /// Slots that wait for their tenant's next invocation.
    pub idle: usize,
    /// Slots that have belonged to nobody.
    pub spare: usize,
    /// Slots made since the start.
    pub created: usize,
    /// Slots dropped because they could not be rewound.
    pub discarded: usize,
    /// Rewinds after which a comparison found a difference: a bug, or broken memory.
    pub differences: usize,
}

struct IdleSlot {
    slot: Slot,
    tenant: TenantId,
    version: VersionId,
    since: Instant,
}

#[derive(Default)]
struct State {
    /// Longest idle first.
    idle: VecDeque<IdleSlot>,
    spares: Vec<Slot>,
    /// Permits of each tenant that has had any since the last tidying, and how many there are.
    tenants: HashMap<TenantId, (usize, Arc<Line>)>,
}

/// Permits, and those who wait for one.
struct Line {
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Line {
    fn new(permits: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(permits)), waiting: AtomicUsize::new(0) }
    }

    /// A permit at once, or after waiting with at most `max`; `None` if the line is full or the time is over.
    async fn permit(&self, max: usize, until: tokio::time::Instant) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Some(permit);
        }
        let _place = Place::take(&self.waiting, max)?;
        tokio::time::timeout_at(until, Arc::clone(&self.permits).acquire_owned()).await.ok()?.ok()
    }
}

/// All slots of a host.
pub struct Pool {
    runtime: Arc<Runtime>,
    settings: PoolSettings,
    state: Mutex<State>,
    /// For all tenants. Each has a line of its own, so that who waits for itself takes no place in this one.
    line: Line,
    created: AtomicUsize,
    discarded: AtomicUsize,
    rewinds: AtomicUsize,
    differences: AtomicUsize,
    /// Told when a spare was taken.
    spare_taken: Notify,
    /// Slots being dropped.
    drops: TaskTracker,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("settings", &self.settings).field("status", &self.status()).finish_non_exhaustive()
    }
}

/// A slot for one invocation. Dropping it without [`Pool::give_back`] drops the slot, as a cancelled call must.
#[derive(Debug)]
pub(crate) struct Lease {
    slot: Option<Slot>,
    /// What the slot was mounted with by the pool's knowledge.
    pub(crate) shows_version: Option<VersionId>,
    tenant: TenantId,
    pool: Arc<Pool>,
    _permits: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl Lease {
    pub(crate) fn slot(&mut self) -> &mut Slot {
        self.slot.as_mut().expect("a lease has its slot until it is given back")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.pool.discarded.fetch_add(1, Ordering::Relaxed);
            self.pool.drop_slot(slot);
        }
    }
}

impl Pool {
    /// An empty pool. [`Self::keep`] must run for spares and tidying.
    #[must_use]
    pub fn new(runtime: Arc<Runtime>, settings: PoolSettings) -> Arc<Self> {
        Arc::new(Self {
            runtime,
            settings,
            state: Mutex::default(),
            line: Line::new(settings.slots_max),
            created: AtomicUsize::new(0),
            discarded: AtomicUsize::new(0),
            rewinds: AtomicUsize::new(0),
            differences: AtomicUsize::new(0),
            spare_taken: Notify::new(),
            drops: TaskTracker::new(),
        })
    }

    /// Counters.
    #[must_use]
    pub fn status(&self) -> PoolStatus {
        let state = self.state();
        PoolStatus {
            idle: state.idle.len(),
            spare: state.spares.len(),
            created: self.created.load(Ordering::Relaxed),
            discarded: self.discarded.load(Ordering::Relaxed),
            differences: self.differences.load(Ordering::Relaxed),
        }
    }

    /// Names the runtime's build; see [`Runtime::hash`].
    #[must_use]
    pub fn runtime_hash(&self) -> &str {
        self.runtime.hash()
    }

    /// What scripts start from whose module-level code runs in each request.
    pub(crate) fn base_image(&self) -> &Arc<MappedImage> {
        self.runtime.base()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps spares ready and drops slots that have been idle for long. Runs until dropped.
    pub async fn keep(self: Arc<Self>) {
        loop {
            let missing = SPARES.saturating_sub(self.state().spares.len());
            for _ in 0..missing {
                let mut slot = match self.create().await {
                    Ok(slot) => slot,
                    Err(error) => {
                        tracing::error!(%error, "cannot make a spare slot");
                        break;
                    }
                };
                // Mounting an image over a memory that is known to be clean takes a third of the time.
                match slot.rewind().await {
                    Ok(_) => self.state().spares.push(slot),
                    Err(error) => tracing::error!(%error, "a new slot cannot be rewound"),
                }
            }
            _ = tokio::time::timeout(IDLE_MAX / 4, self.spare_taken.notified()).await; // either way it is time to look
            self.drop_idle(IDLE_MAX);
        }
    }

    /// Drops all slots that have been idle for `age`.
    pub fn drop_idle(&self, age: Duration) {
        let mut old = Vec::new();
        {
            let mut state = self.state();
            while state.idle.front().is_some_and(|idle| idle.since.elapsed() >= age) {
                old.extend(state.idle.pop_front());
            }
            state
                .tenants
                .retain(|_, (limit, line)| Arc::strong_count(line) > 1 || line.permits.available_permits() < *limit);
        }
        for idle in old {
            self.drop_slot(idle.slot);
        }
    }

    async fn create(&self) -> Result<Slot, RuntimeError> {
        self.created.fetch_add(1, Ordering::Relaxed);
        self.runtime.new_slot().await
    }

    /// Unmapping a slot's memory takes half a millisecond: not on a thread that runs guests.
    fn drop_slot(&self, slot: Slot) {
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(self.drops.spawn_blocking_on(move || drop(slot), &runtime)),
            Err(_) => drop(slot),
        }
    }

    /// A slot for an invocation of this version, by a tenant that may run `limit` at once if that is less than [`PoolSettings`] allow.
    ///
    /// # Errors
    /// If there is none within the limits of [`PoolSettings`].
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        tenant: TenantId,
        limit: usize,
        version: VersionId,
    ) -> Result<Lease, PoolError> {
        let permits = self.permits(tenant, limit.min(self.settings.slots_per_tenant_max)).await?;
        let (found, evicted) = {
            let mut state = self.state();
            let found = state.take_idle(tenant, version);
            let evicted = match &found {
                Some(_) => None,
                None if state.idle.len() + self.settings.slots_max - self.line.permits.available_permits()
                    > self.settings.slots_max =>
                {
                    state.idle.pop_front()
                }
                None => None,
            };
            let found = found.or_else(|| state.spares.pop().map(|slot| (slot, None)));
            (found, evicted)
        };
        if let Some(idle) = evicted {
            self.drop_slot(idle.slot);
        }
        let (slot, shows_version) = match found {
            Some(found) => found,
            None => (self.create().await?, None),
        };
        if shows_version.is_none() {
            self.spare_taken.notify_one();
        }
        Ok(Lease { slot: Some(slot), shows_version, tenant, pool: Arc::clone(self), _permits: permits })
    }

    /// The tenant's permit, then a global one: a tenant waits for its own handlers before it takes a place from others.
    ///
    /// When the limit changes, what runs or waits under the old one does not count under the new one.
    async fn permits(
        &self,
        tenant: TenantId,
        limit: usize,
    ) -> Result<(OwnedSemaphorePermit, OwnedSemaphorePermit), PoolError> {
        let tenant_busy = PoolError::TenantBusy { limit };
        if limit == 0 {
            return Err(tenant_busy); // nobody will give a permit back
        }
        let of_tenant = {
            let mut state = self.state();
            let (known, line) = state.tenants.entry(tenant).or_insert_with(|| (limit, Arc::new(Line::new(limit))));
            if *known != limit {
                (*known, *line) = (limit, Arc::new(Line::new(limit)));
            }
            Arc::clone(line)
        };
        let overloaded = PoolError::Overloaded { limit: self.settings.slots_max };
        let (max, until) = (self.settings.queue_max, tokio::time::Instant::now() + self.settings.queue_wait);
        let tenant_permit = of_tenant.permit(max, until).await.ok_or(tenant_busy)?;
        let global_permit = self.line.permit(max, until).await.ok_or(overloaded)?;
        Ok((tenant_permit, global_permit))
    }

    /// Rewinds the slot of an invocation of `version` and makes it available again; drops it if it cannot be rewound.
    ///
    /// Returns the number of pages that were private. To be called after the response has left.
    pub(crate) async fn give_back(&self, mut lease: Lease, version: VersionId) -> Result<usize, NotReusable> {
        let pages = lease.slot().rewind().await?;
        let rewinds = self.rewinds.fetch_add(1, Ordering::Relaxed) + 1;
        if self.settings.verify_every > 0 && rewinds.is_multiple_of(self.settings.verify_every) {
            lease.slot().verify().inspect_err(|difference| {
                self.differences.fetch_add(1, Ordering::Relaxed);
                tracing::error!(tenant.id = %lease.tenant, error = %difference, "a slot is not what it was before the call");
            })?;
        }
        let Some(slot) = lease.slot.take() else { return Ok(pages) };
        self.state().idle.push_back(IdleSlot { slot, tenant: lease.tenant, version, since: Instant::now() });
        Ok(pages)
    }
}

impl State {
    /// The tenant's slot used last that shows the version, or else its slot used last.
    fn take_idle(&mut self, tenant: TenantId, version: VersionId) -> Option<(Slot, Option<VersionId>)> {
        let of_tenant = || self.idle.iter().enumerate().rev().filter(|(_, idle)| idle.tenant == tenant);
        let index = of_tenant().find(|(_, idle)| idle.version == version).or_else(|| of_tenant().next())?.0;
        let idle = self.idle.remove(index)?;
        Some((idle.slot, Some(idle.version)))
    }
}

/// A place in the line, given up when dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, max: usize) -> Option<Self> {
        let place = Self(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < max).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
