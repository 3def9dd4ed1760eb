//! When tokens and consumer keys were last used, to the minute, on its way to the control database.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use crate::{
    db::{
        Db, DbError,
        uses::{Presented, USE_STEP_MS, Use},
    },
    domain::names::TenantId,
};

/// Uses that wait to be written, of 100 bytes each: those of a second, unless the database is slow. Further ones are noted with the
/// next use of the same.
const WAITING_MAX: usize = 50_000;

/// Uses that are written in one transaction.
const BATCH: usize = 500;

/// Uses that are not written yet, with when they were.
#[derive(Debug, Default)]
pub(super) struct Uses(Mutex<Waiting>);

/// What was presented, to whom, and its id; and when, in milliseconds since 1970.
type Waiting = HashMap<(Presented, TenantId, Arc<str>), i64>;

impl Uses {
    /// Notes a use, unless one of the last minute is noted. `noted` is when that was.
    pub(super) fn note(&self, presented: Presented, tenant: TenantId, id: &Arc<str>, noted: &AtomicI64, now_ms: i64) {
        let last = noted.load(Ordering::Relaxed);
        if now_ms - last < USE_STEP_MS
            || noted.compare_exchange(last, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return;
        }
        let mut waiting = self.waiting();
        if waiting.len() < WAITING_MAX {
            waiting.insert((presented, tenant, Arc::clone(id)), now_ms);
        }
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// The database fails. What was about to be written then is noted with the next use of the same; the rest goes on waiting.
    pub(super) async fn write(&self, db: &Db) -> Result<(), DbError> {
        loop {
            let uses = self.take();
            if uses.is_empty() {
                return Ok(());
            }
            db.uses().note_uses(&uses).await?;
        }
    }

    /// Some of what waits, as much as is written at once.
    fn take(&self) -> Vec<Use> {
        let mut waiting = self.waiting();
        let taken: Vec<_> = waiting.keys().take(BATCH).cloned().collect();
        let remove = |key| waiting.remove_entry(&key);
        let uses = taken.into_iter().filter_map(remove);
        uses.map(|((presented, tenant, id), at_ms)| Use { presented, tenant, id, at_ms }).collect()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // A map of times is never half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
