//! How much is kept for a tenant, and whether that is all that may be.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    data::{Connections, written_sqlite_bytes},
    db::{Db, connections::ConnectionKind, usage::KeptBytes},
    domain::{
        names::TenantId,
        quota::{Quota, UsedUp},
    },
    invoke::{InvokeError, directory::target_of, meter::Granted},
    vault::Vault,
};

/// For how long what was found is good. Meanwhile a tenant can go beyond its quota by what it writes in that time.
const KEPT_FOR: Duration = Duration::from_secs(2);

/// What is kept for a tenant, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// In the control database.
    pub control: KeptBytes,
    /// In its SQLite files on this machine, but for those that it only reads.
    pub sqlite: u64,
}

impl Kept {
    /// All of it.
    #[must_use]
    pub fn bytes(self) -> u64 {
        let Self { control: KeptBytes { source, state, recordings }, sqlite } = self;
        [source, state, recordings, sqlite].into_iter().fold(0, u64::saturating_add)
    }

    /// Looks what is kept. `sqlite_base` is where relative folders lie.
    ///
    /// # Errors
    /// The control database fails, or a connection's URL does not open.
    pub async fn find(db: &Db, vault: &Vault, sqlite_base: &Path, tenant: TenantId) -> Result<Self, InvokeError> {
        let control = db.usage().find_kept_bytes(tenant).await?;
        let mut urls = Vec::new();
        for row in db.connections().list_connections(tenant).await? {
            if row.kind == ConnectionKind::Sql {
                let target = target_of(vault, tenant, row).map_err(|error| InvokeError::Host(error.to_string()))?;
                urls.push(target.url);
            }
        }
        let base = sqlite_base.to_owned();
        let looking = tokio::task::spawn_blocking(move || written_sqlite_bytes(&base, &urls));
        let sqlite = looking.await.map_err(|error| InvokeError::Host(error.to_string()))?;
        Ok(Self { control, sqlite })
    }
}

impl Granted {
    /// Whether as much is kept for the tenant as may be. Looks at most every [`KEPT_FOR`], and only if there is a quota.
    pub(super) async fn storage_used_up(
        &self,
        (db, vault, connections): (&Db, &Vault, &Connections),
        tenant: TenantId,
    ) -> Option<UsedUp> {
        let limit = self.meter().storage_bytes()?;
        let mut known = self.meter().kept.lock().await; // who comes meanwhile waits for what is found
        let bytes = match *known {
            Some((at, bytes)) if at.elapsed() < KEPT_FOR => bytes,
            before => {
                let found = Kept::find(db, vault, connections.sqlite_base(), tenant).await;
                let bytes = found.map(Kept::bytes).unwrap_or_else(|error| {
                    tracing::error!(tenant.id = %tenant, %error, "what is kept for a tenant cannot be told");
                    before.map_or(0, |(_, bytes)| bytes)
                });
                *known = Some((Instant::now(), bytes));
                bytes
            }
        };
        (bytes >= limit).then_some(UsedUp { quota: Quota::StorageBytes, limit })
    }
}
