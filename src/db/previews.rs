//! Addresses at which versions answer that are not served yet.

use crate::{
    db::{Db, DbError, error::is_missing_reference, now_ms},
    domain::names::{TenantId, VersionId},
};

/// Statements about previews.
#[derive(Debug, Clone, Copy)]
pub struct Previews<'a>(pub(super) &'a Db);

impl Previews<'_> {
    /// Records an address by the hash of its token.
    ///
    /// # Errors
    /// [`DbError::Unknown`] when the tenant has no such version, or the database fails.
    pub async fn insert_preview(
        self,
        tenant: TenantId,
        version: VersionId,
        target: &str,
        hash: &str,
        expires_at_ms: i64,
    ) -> Result<(), DbError> {
        let mut tx = self.0.begin_change(tenant, "create_preview", target).await?;
        sqlx::query(
            "INSERT INTO preview (hash, tenant_id, version_id, created_at_ms, expires_at_ms) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(hash)
        .bind(tenant.0)
        .bind(version.0)
        .bind(now_ms())
        .bind(expires_at_ms)
        .execute(&mut *tx)
        .await
        .map_err(|error| match is_missing_reference(&error) {
            true => DbError::Unknown { what: "version", id: version.0 },
            false => error.into(),
        })?;
        sqlx::query("DELETE FROM preview WHERE expires_at_ms < $1").bind(now_ms()).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// The version of the tenant that the token of this hash leads to.
    ///
    /// # Errors
    /// The database fails.
    pub async fn find_preview(self, tenant: TenantId, hash: &str) -> Result<Option<VersionId>, DbError> {
        let id: Option<i64> = sqlx::query_scalar(
            "SELECT version_id FROM preview WHERE tenant_id = $1 AND hash = $2 AND expires_at_ms > $3",
        )
        .bind(tenant.0)
        .bind(hash)
        .bind(now_ms())
        .fetch_optional(&self.0.readers)
        .await?;
        Ok(id.map(VersionId))
    }
}
