//! Keys that sign a tenant's tokens, sealed, and their public parts.

use sqlx::FromRow;

use crate::{
    db::{
        Db, DbError,
        error::{Unique, is_missing_reference},
        now_ms,
    },
    domain::{names::TenantId, signing::KeyAlgorithm},
};

/// Keys of one tenant: one that signs, and older ones that verify. With a rotation a month and tokens of a year, 13.
pub const SIGNING_KEYS_MAX: usize = 20;

const KID_TAKEN: Unique = Unique { name: "signing_key_kid_taken", columns: "signing_key.tenant_id, signing_key.kid" };

/// A key as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// Its name in a token's header.
    pub kid: String,
    /// What it signs with.
    pub algorithm: KeyAlgorithm,
    /// Ciphertext of the vault.
    pub sealed: Vec<u8>,
    /// What others verify with, if there is such a thing.
    pub public_key: Option<Vec<u8>>,
    /// Milliseconds since 1970.
    pub created_at_ms: i64,
    /// Milliseconds since 1970, after which it verifies nothing; `None` if it does until it is deleted.
    pub verifies_until_ms: Option<i64>,
}

/// A key to be stored.
#[derive(Debug, Clone)]
pub struct NewSigningKey {
    /// Its name in a token's header.
    pub kid: String,
    /// What it signs with.
    pub algorithm: KeyAlgorithm,
    /// What others verify with, if there is such a thing.
    pub public_key: Option<Vec<u8>>,
}

#[derive(FromRow)]
struct Row {
    kid: String,
    algorithm: String,
    sealed: Vec<u8>,
    public_key: Option<Vec<u8>>,
    created_at_ms: i64,
    verifies_until_ms: Option<i64>,
}

/// Statements about signing keys.
#[derive(Debug, Clone, Copy)]
pub struct SigningKeys<'a>(pub(super) &'a Db);

impl SigningKeys<'_> {
    /// Adds a key, which is the one that signs from now on. `seal` makes its ciphertext. With `overlap_ms`, the tenant's other keys
    /// verify for that long and no longer; those that verify nothing any more are deleted.
    ///
    /// # Errors
    /// [`DbError::NameTaken`] when the tenant has a key of this `kid`, [`DbError::TooMany`] when it has [`SIGNING_KEYS_MAX`],
    /// [`DbError::Unknown`] when there is no such tenant, or the database fails.
    pub async fn insert(
        self,
        tenant: TenantId,
        new: &NewSigningKey,
        overlap_ms: Option<i64>,
        seal: impl FnOnce() -> Vec<u8> + Send,
    ) -> Result<SigningKey, DbError> {
        let NewSigningKey { kid, algorithm, public_key } = new;
        let mut tx = self.0.begin_change(tenant, "create_signing_key", &format!("{kid} {algorithm}")).await?;
        let (sealed, now) = (seal(), now_ms());
        sqlx::query("DELETE FROM signing_key WHERE tenant_id = $1 AND verifies_until_ms < $2")
            .bind(tenant.0)
            .bind(now)
            .execute(&mut *tx)
            .await?;
        let there_are: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM signing_key WHERE tenant_id = $1")
            .bind(tenant.0)
            .fetch_one(&mut *tx)
            .await?;
        if usize::try_from(there_are).is_ok_and(|there_are| there_are >= SIGNING_KEYS_MAX) {
            return Err(DbError::TooMany { what: "signing keys", limit: SIGNING_KEYS_MAX });
        }
        if let Some(overlap_ms) = overlap_ms {
            sqlx::query(
                "UPDATE signing_key SET verifies_until_ms = $2
                 WHERE tenant_id = $1 AND (verifies_until_ms IS NULL OR verifies_until_ms > $2)",
            )
            .bind(tenant.0)
            .bind(now.saturating_add(overlap_ms))
            .execute(&mut *tx)
            .await?;
        }
        sqlx::query(
            "INSERT INTO signing_key (tenant_id, kid, algorithm, sealed, public_key, created_at_ms)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(tenant.0)
        .bind(kid)
        .bind(algorithm.as_str())
        .bind(&sealed)
        .bind(public_key)
        .bind(now)
        .execute(&mut *tx)
        .await
        .map_err(|error| {
            if KID_TAKEN.is_violated(&error) {
                DbError::NameTaken { what: "signing key", name: kid.clone() }
            } else if is_missing_reference(&error) {
                DbError::Unknown { what: "row", id: tenant.0 }
            } else {
                error.into()
            }
        })?;
        tx.commit().await?;
        let NewSigningKey { kid, algorithm, public_key } = new.clone();
        Ok(SigningKey { kid, algorithm, sealed, public_key, created_at_ms: now, verifies_until_ms: None })
    }

    /// The tenant's keys that verify something, newest first: the first one signs.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list(self, tenant: TenantId) -> Result<Vec<SigningKey>, DbError> {
        sqlx::query_as::<_, Row>(
            "SELECT kid, algorithm, sealed, public_key, created_at_ms, verifies_until_ms FROM signing_key
             WHERE tenant_id = $1 AND (verifies_until_ms IS NULL OR verifies_until_ms > $2) ORDER BY id DESC",
        )
        .bind(tenant.0)
        .bind(now_ms())
        .fetch_all(&self.0.readers)
        .await?
        .into_iter()
        .map(SigningKey::try_from)
        .collect()
    }

    /// Deletes keys of any tenant that verify nothing any more, at most `delete_max`. Gives the number that were deleted. Whoever remembers
    /// one knows when it ended.
    ///
    /// # Errors
    /// The database fails.
    pub async fn prune_expired(self, before_ms: i64, delete_max: u32) -> Result<u64, DbError> {
        let deleted = sqlx::query(
            "DELETE FROM signing_key WHERE id IN (SELECT id FROM signing_key WHERE verifies_until_ms < $1 LIMIT $2)",
        )
        .bind(before_ms)
        .bind(i64::from(delete_max))
        .execute(&self.0.log_writer)
        .await?;
        Ok(deleted.rows_affected())
    }

    /// Deletes a key: nothing that it signed is valid any more. `false` when the tenant has no such key.
    ///
    /// # Errors
    /// [`DbError::InUse`] for the key that signs, or the database fails.
    pub async fn delete(self, tenant: TenantId, kid: &str) -> Result<bool, DbError> {
        let mut tx = self.0.begin_change(tenant, "delete_signing_key", kid).await?;
        let newest: Option<String> =
            sqlx::query_scalar("SELECT kid FROM signing_key WHERE tenant_id = $1 ORDER BY id DESC LIMIT 1")
                .bind(tenant.0)
                .fetch_optional(&mut *tx)
                .await?;
        if newest.as_deref() == Some(kid) {
            let by = "it signs new tokens; create another one first".to_owned();
            return Err(DbError::InUse { what: "signing key", name: kid.to_owned(), by });
        }
        let deleted = sqlx::query("DELETE FROM signing_key WHERE tenant_id = $1 AND kid = $2")
            .bind(tenant.0)
            .bind(kid)
            .execute(&mut *tx)
            .await?;
        if deleted.rows_affected() == 0 {
            return Ok(false);
        }
        tx.commit().await?;
        Ok(true)
    }
}

impl TryFrom<Row> for SigningKey {
    type Error = DbError;

    fn try_from(row: Row) -> Result<Self, DbError> {
        let Row { kid, algorithm, sealed, public_key, created_at_ms, verifies_until_ms } = row;
        let algorithm = algorithm.parse().map_err(|error| DbError::corrupt("signing key", error))?;
        Ok(Self { kid, algorithm, sealed, public_key, created_at_ms, verifies_until_ms })
    }
}
