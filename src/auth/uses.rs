//! When tokens were last used, to the minute, on its way to the control database.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use crate::{
    db::{
        Db, DbError,
        tokens::{LAST_USED_STEP_MS, TokenUse},
    },
    domain::names::TenantId,
};

/// Uses that wait to be written, of 100 bytes each: those of a second, unless the database is slow. Further ones are noted with the
/// token's next use.
const WAITING_MAX: usize = 50_000;

/// Uses that are written in one transaction.
const BATCH: usize = 500;

/// Uses that are not written yet.
#[derive(Debug, Default)]
pub(super) struct Uses(Mutex<HashMap<(TenantId, Arc<str>), i64>>);

impl Uses {
    /// Notes a use, unless one of the last minute is noted. `noted` is when that was.
    pub(super) fn note(&self, tenant: TenantId, id: &Arc<str>, noted: &AtomicI64, now_ms: i64) {
        let last = noted.load(Ordering::Relaxed);
        if now_ms - last < LAST_USED_STEP_MS
            || noted.compare_exchange(last, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return;
        }
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < WAITING_MAX {
            waiting.insert((tenant, Arc::clone(id)), now_ms);
        }
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// The database fails. What was not written is noted with the tokens' next uses.
    pub(super) async fn write(&self, db: &Db) -> Result<(), DbError> {
        let waiting = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let uses: Vec<_> =
            waiting.into_iter().map(|((tenant, id), at_ms)| TokenUse { tenant, id: id.to_string(), at_ms }).collect();
        for batch in uses.chunks(BATCH) {
            db.tokens().note_uses(batch).await?;
        }
        Ok(())
    }
}
