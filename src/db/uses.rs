//! When tokens and keys of callers were last used.

use std::sync::Arc;

use crate::{
    db::{Db, DbError},
    domain::names::TenantId,
};

/// The last use of anything is noted when the one that is noted is this old, so that reading does not become writing.
pub const USE_STEP_MS: i64 = 60_000;

/// What callers present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Presented {
    /// A token of the tenant's own.
    Token,
    /// A consumer key.
    ConsumerKey,
}

/// A use of what a caller presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// What it was.
    pub presented: Presented,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its id.
    pub id: Arc<str>,
    /// Milliseconds since 1970.
    pub at_ms: i64,
}

/// Notes a use in a table.
macro_rules! note {
    ($table:literal) => {
        concat!(
            "UPDATE ",
            $table,
            " SET last_used_at_ms = $3 WHERE tenant_id = $1 AND id = $2 AND (last_used_at_ms IS NULL OR last_used_at_ms <= $4)"
        )
    };
}

/// Statements about uses.
#[derive(Debug, Clone, Copy)]
pub struct Uses<'a>(pub(super) &'a Db);

impl Uses<'_> {
    /// Notes uses by callers of any tenant, unless a later one, or one of the last minute, is noted. Drops no caches: it changes what
    /// people see, and nothing that a host decides by.
    ///
    /// # Errors
    /// The database fails.
    pub async fn note_uses(self, uses: &[Use]) -> Result<(), DbError> {
        // In one order everywhere, so that hosts do not wait for each other in a circle.
        let mut uses: Vec<_> = uses.iter().collect();
        uses.sort_by_key(|used| (used.presented, &used.id));
        let mut tx = self.0.log_writer.begin().await?;
        for Use { presented, tenant, id, at_ms } in uses {
            let note = match presented {
                Presented::Token => note!("token"),
                Presented::ConsumerKey => note!("consumer_key"),
            };
            sqlx::query(note)
                .bind(tenant.0)
                .bind(&**id)
                .bind(at_ms)
                .bind(at_ms - USE_STEP_MS)
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(())
    }
}
