//! Everything that the vault has sealed, for changing its key.

use crate::{
    db::{Db, DbError},
    domain::names::{ConnectionId, SecretId, TenantId},
};

/// What a sealed value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SealedFor {
    /// The URL of a connection.
    Connection(ConnectionId),
    /// A key that signs a tenant's tokens.
    SigningKey {
        /// The tenant.
        tenant: TenantId,
        /// The key's name.
        kid: String,
    },
    /// A secret of scripts.
    Secret(SecretId),
    /// The key that seals a tenant's recordings.
    RecordingKey(TenantId),
    /// What tells whether a host has the key of the others; see [`Sealed::ensure_check`].
    Check,
}

/// A column of ciphertext. Its table has `id`.
#[derive(Debug)]
pub(super) struct SealedColumn {
    pub(super) table: &'static str,
    pub(super) column: &'static str,
    /// SQL for the tenant's id.
    tenant: &'static str,
    /// SQL for what names the value besides its ids.
    kid: &'static str,
    pub(super) of: fn(TenantId, i64, String) -> SealedFor,
}

/// All of them; a test compares this with the schema.
pub(super) const SEALED_COLUMNS: [SealedColumn; 5] = [
    SealedColumn {
        table: "connection",
        column: "sealed_url",
        tenant: "tenant_id",
        kid: "''",
        of: |_, id, _| SealedFor::Connection(ConnectionId(id)),
    },
    SealedColumn {
        table: "signing_key",
        column: "sealed",
        tenant: "tenant_id",
        kid: "kid",
        of: |tenant, _, kid| SealedFor::SigningKey { tenant, kid },
    },
    SealedColumn {
        table: "secret",
        column: "sealed",
        tenant: "tenant_id",
        kid: "''",
        of: |_, id, _| SealedFor::Secret(SecretId(id)),
    },
    SealedColumn {
        table: "recording_key",
        column: "sealed",
        tenant: "tenant_id",
        kid: "''",
        of: |tenant, _, _| SealedFor::RecordingKey(tenant),
    },
    SealedColumn {
        table: "vault_check",
        column: "sealed",
        tenant: "CAST(0 AS BIGINT)",
        kid: "''",
        of: |_, _, _| SealedFor::Check,
    },
];

/// Statements about sealed values of all tenants.
#[derive(Debug, Clone, Copy)]
pub struct Sealed<'a>(pub(super) &'a Db);

impl Sealed<'_> {
    /// A value that the first host which opened this database has sealed: `seal` makes it if there is none.
    ///
    /// # Errors
    /// The database fails.
    pub async fn ensure_check(self, seal: impl FnOnce() -> Vec<u8> + Send) -> Result<Vec<u8>, DbError> {
        const FIND: &str = "SELECT sealed FROM vault_check WHERE id = 1";
        if let Some(sealed) = sqlx::query_scalar(FIND).fetch_optional(&self.0.readers).await? {
            return Ok(sealed);
        }
        let mut tx = self.0.begin_derived_change(None).await?;
        sqlx::query("INSERT INTO vault_check (id, sealed) VALUES (1, $1) ON CONFLICT (id) DO NOTHING")
            .bind(seal())
            .execute(&mut *tx)
            .await?;
        let sealed = sqlx::query_scalar(FIND).fetch_one(&mut *tx).await?;
        tx.commit().await?;
        Ok(sealed)
    }

    /// Replaces every sealed value by what `reseal` makes of it (`None`: it stays) in one transaction, and returns how many.
    ///
    /// # Errors
    /// The outer error if the database fails, the inner one if `reseal` does. Nothing is changed then.
    pub async fn reseal_all<E: Send>(
        self,
        mut reseal: impl FnMut(&SealedFor, &[u8]) -> Result<Option<Vec<u8>>, E> + Send,
    ) -> Result<Result<usize, E>, DbError> {
        let mut tx = self.0.begin_change(None, "rotate_vault_key", "").await?;
        let mut n_resealed = 0;
        for SealedColumn { table, column, tenant: owner, kid, of } in SEALED_COLUMNS {
            // All names are ours, from the table above.
            let select = format!("SELECT {owner}, id, {kid}, {column} FROM {table} ORDER BY id");
            let rows = sqlx::query_as::<_, (i64, i64, String, Vec<u8>)>(sqlx::AssertSqlSafe(select));
            for (tenant, id, kid, sealed) in rows.fetch_all(&mut *tx).await? {
                let value = of(TenantId(tenant), id, kid);
                let resealed = match reseal(&value, &sealed) {
                    Ok(Some(resealed)) => resealed,
                    Ok(None) => continue,
                    Err(error) => return Ok(Err(error)),
                };
                let update = format!("UPDATE {table} SET {column} = $3 WHERE {owner} = $1 AND id = $2");
                sqlx::query(sqlx::AssertSqlSafe(update)).bind(tenant).bind(id).bind(resealed).execute(&mut *tx).await?;
                n_resealed += 1;
            }
        }
        tx.commit().await?;
        Ok(Ok(n_resealed))
    }
}
