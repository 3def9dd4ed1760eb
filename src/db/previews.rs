//! Addresses at which versions answer that are not served yet.

use sqlx::FromRow;

use crate::{
    db::{Db, DbError, error::is_missing_reference, now_ms},
    domain::names::{ScriptId, ScriptName, TenantId, VersionId},
};

/// An address to be recorded.
#[derive(Debug, Clone)]
pub struct NewPreview {
    /// Hash of its token, in hexadecimal; also names it.
    pub hash: String,
    /// The version that answers.
    pub version: VersionId,
    /// That version's script.
    pub script: ScriptName,
    /// That version's number.
    pub number: i64,
    /// Milliseconds since 1970.
    pub expires_at_ms: i64,
}

/// An address as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Preview {
    /// Hash of its token, in hexadecimal; also names it.
    pub hash: String,
    /// Number of the version that answers.
    pub number: i64,
    /// Milliseconds since 1970.
    pub created_at_ms: i64,
    /// Milliseconds since 1970.
    pub expires_at_ms: i64,
}

/// Statements about previews.
#[derive(Debug, Clone, Copy)]
pub struct Previews<'a>(pub(super) &'a Db);

impl Previews<'_> {
    /// Records an address.
    ///
    /// # Errors
    /// [`DbError::Unknown`] when the tenant has no such version, or the database fails.
    pub async fn insert_preview(self, tenant: TenantId, new: &NewPreview) -> Result<(), DbError> {
        let NewPreview { hash, version, script, number, expires_at_ms } = new;
        let target = format!("{script} version {number}");
        let mut tx = self.0.begin_change(tenant, "create_preview", &target).await?;
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
        tx.commit().await?;
        Ok(())
    }

    /// Addresses of a script's versions that have not expired, by hash, those behind `after` if given.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list_previews(
        self,
        tenant: TenantId,
        script: ScriptId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Preview>, DbError> {
        Ok(sqlx::query_as(
            "SELECT p.hash, v.number, p.created_at_ms, p.expires_at_ms
             FROM preview p JOIN version v ON v.tenant_id = p.tenant_id AND v.id = p.version_id
             WHERE p.tenant_id = $1 AND v.script_id = $2 AND p.expires_at_ms > $3 AND p.hash > $4
             ORDER BY p.hash LIMIT $5",
        )
        .bind(tenant.0)
        .bind(script.0)
        .bind(now_ms())
        .bind(after.unwrap_or(""))
        .bind(i64::from(limit))
        .fetch_all(&self.0.readers)
        .await?)
    }

    /// Deletes an address of one of a script's versions; `false` when there is none of this hash.
    ///
    /// # Errors
    /// The database fails.
    pub async fn delete_preview(
        self,
        tenant: TenantId,
        script: ScriptId,
        name: &ScriptName,
        hash: &str,
    ) -> Result<bool, DbError> {
        let mut tx = self.0.begin_change(tenant, "revoke_preview", &format!("{name} {hash}")).await?;
        let deleted = sqlx::query(
            "DELETE FROM preview WHERE tenant_id = $1 AND hash = $3
             AND version_id IN (SELECT id FROM version WHERE tenant_id = $1 AND script_id = $2)",
        )
        .bind(tenant.0)
        .bind(script.0)
        .bind(hash)
        .execute(&mut *tx)
        .await?;
        if deleted.rows_affected() == 0 {
            return Ok(false);
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Deletes addresses of any tenant that expired before a time, at most `delete_max`. Gives the number that were deleted.
    ///
    /// # Errors
    /// The database fails.
    pub async fn prune_expired(self, before_ms: i64, delete_max: u32) -> Result<u64, DbError> {
        let deleted = sqlx::query(
            "DELETE FROM preview WHERE hash IN (SELECT hash FROM preview WHERE expires_at_ms < $1 LIMIT $2)",
        )
        .bind(before_ms)
        .bind(i64::from(delete_max))
        .execute(&self.0.log_writer)
        .await?;
        Ok(deleted.rows_affected())
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
