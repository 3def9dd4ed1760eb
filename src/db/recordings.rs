//! The keys that seal recordings. Recordings themselves are part of the invocation log, and go with it.

use crate::{
    db::{Db, DbError, error::is_missing_reference, now_ms},
    domain::names::TenantId,
};

/// Statements about keys of recordings.
#[derive(Debug, Clone, Copy)]
pub struct Recordings<'a>(pub(super) &'a Db);

impl Recordings<'_> {
    /// The sealed key of a tenant, if it has one yet.
    ///
    /// # Errors
    /// The database fails.
    pub async fn find_key(self, tenant: TenantId) -> Result<Option<Vec<u8>>, DbError> {
        Ok(sqlx::query_scalar("SELECT sealed FROM recording_key WHERE tenant_id = $1")
            .bind(tenant.0)
            .fetch_optional(&self.0.readers)
            .await?)
    }

    /// The sealed key of a tenant. `seal` makes one if there is none.
    ///
    /// # Errors
    /// [`DbError::Unknown`] when there is no such tenant, or the database fails.
    pub async fn ensure_key(self, tenant: TenantId, seal: impl FnOnce() -> Vec<u8> + Send) -> Result<Vec<u8>, DbError> {
        if let Some(sealed) = self.find_key(tenant).await? {
            return Ok(sealed);
        }
        // Not a change: no host knows that there is none.
        sqlx::query_scalar(
            "INSERT INTO recording_key (tenant_id, sealed, created_at_ms) VALUES ($1, $2, $3)
             ON CONFLICT (tenant_id) DO UPDATE SET tenant_id = excluded.tenant_id RETURNING sealed",
        )
        .bind(tenant.0)
        .bind(seal())
        .bind(now_ms())
        .fetch_one(&self.0.writer)
        .await
        .map_err(|error| match is_missing_reference(&error) {
            true => DbError::Unknown { what: "row", id: tenant.0 },
            false => error.into(),
        })
    }
}
