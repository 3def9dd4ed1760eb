//! Keys that sign a tenant's tokens, sealed.

use sqlx::FromRow;

use crate::{
    db::{
        Db, DbError,
        error::{Unique, is_missing_reference},
        now_ms,
    },
    domain::names::TenantId,
};

const KID_TAKEN: Unique = Unique { name: "signing_key_kid_taken", columns: "signing_key.tenant_id, signing_key.kid" };

/// A key as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct SigningKey {
    /// Its name in a token's header.
    pub kid: String,
    /// Ciphertext of the vault.
    pub sealed: Vec<u8>,
}

/// Statements about signing keys.
#[derive(Debug, Clone, Copy)]
pub struct SigningKeys<'a>(pub(super) &'a Db);

impl SigningKeys<'_> {
    /// Adds a key, which is the one that signs from now on. `seal` makes its ciphertext.
    ///
    /// # Errors
    /// [`DbError::NameTaken`] when the tenant has a key of this `kid`, [`DbError::Unknown`] when there is no such tenant,
    /// or the database fails.
    pub async fn insert(
        self,
        tenant: TenantId,
        kid: &str,
        seal: impl FnOnce() -> Vec<u8> + Send,
    ) -> Result<SigningKey, DbError> {
        let mut tx = self.0.begin_change(tenant, "create_signing_key", kid).await?;
        let sealed = seal();
        sqlx::query("INSERT INTO signing_key (tenant_id, kid, sealed, created_at_ms) VALUES ($1, $2, $3, $4)")
            .bind(tenant.0)
            .bind(kid)
            .bind(&sealed)
            .bind(now_ms())
            .execute(&mut *tx)
            .await
            .map_err(|error| {
                if KID_TAKEN.is_violated(&error) {
                    DbError::NameTaken { what: "signing key", name: kid.to_owned() }
                } else if is_missing_reference(&error) {
                    DbError::Unknown { what: "row", id: tenant.0 }
                } else {
                    error.into()
                }
            })?;
        tx.commit().await?;
        Ok(SigningKey { kid: kid.to_owned(), sealed })
    }

    /// The tenant's keys, newest first.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list(self, tenant: TenantId) -> Result<Vec<SigningKey>, DbError> {
        Ok(sqlx::query_as("SELECT kid, sealed FROM signing_key WHERE tenant_id = $1 ORDER BY id DESC")
            .bind(tenant.0)
            .fetch_all(&self.0.readers)
            .await?)
    }
}
