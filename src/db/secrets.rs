//! Secrets: what scripts may ask for by name, sealed.

use crate::{
    db::{Db, DbError, Tx, error::is_missing_reference, now_ms},
    domain::{
        names::{ScriptId, ScriptName, SecretId, SecretName, TenantId},
        secret::Readers,
    },
};

/// A secret as it is stored, for who may read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// Its id, which it is sealed for.
    pub id: SecretId,
    /// Ciphertext of the vault.
    pub sealed: Vec<u8>,
}

/// What may be told about a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretInfo {
    /// Its name.
    pub name: SecretName,
    /// The scripts that may read it; all of the tenant if absent.
    pub scripts: Option<Vec<ScriptName>>,
    /// When it was created, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// When its value was set last.
    pub updated_at_ms: i64,
}

/// Statements about secrets.
#[derive(Debug, Clone, Copy)]
pub struct Secrets<'a>(pub(super) &'a Db);

impl Secrets<'_> {
    /// Creates a secret or replaces its value. `seal` makes its ciphertext, which is bound to its id.
    ///
    /// # Errors
    /// [`DbError::Unknown`] when the tenant, or a script among the readers, does not exist, or the database fails.
    pub async fn set_secret(
        self,
        tenant: TenantId,
        name: &SecretName,
        readers: &Readers,
        seal: impl FnOnce(SecretId) -> Vec<u8> + Send,
    ) -> Result<SecretId, DbError> {
        let mut tx = self.0.begin_change(tenant, "set_secret", name.as_str()).await?;
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO secret (tenant_id, name, sealed, restricted, created_at_ms, updated_at_ms)
             VALUES ($1, $2, $3, 0, $4, $4)
             ON CONFLICT (tenant_id, name) DO UPDATE SET updated_at_ms = excluded.updated_at_ms
             RETURNING id",
        )
        .bind(tenant.0)
        .bind(name.as_str())
        .bind(Vec::<u8>::new()) // nobody sees it: the next statement is in the same transaction
        .bind(now_ms())
        .fetch_one(&mut *tx)
        .await
        .map_err(|error| match is_missing_reference(&error) {
            true => DbError::Unknown { what: "row", id: tenant.0 },
            false => error.into(),
        })?;
        sqlx::query("UPDATE secret SET sealed = $3 WHERE tenant_id = $1 AND id = $2")
            .bind(tenant.0)
            .bind(id)
            .bind(seal(SecretId(id)))
            .execute(&mut *tx)
            .await?;
        let scripts = match readers {
            Readers::Unchanged => None,
            Readers::AllScripts => Some((0_i64, &[][..])),
            Readers::Only(scripts) => Some((1, scripts.as_slice())),
        };
        if let Some((restricted, scripts)) = scripts {
            replace_readers(&mut tx, tenant, id, restricted, scripts).await?;
        }
        tx.commit().await?;
        Ok(SecretId(id))
    }

    /// Changes who may read a secret; `false` when the tenant has none of this name.
    ///
    /// # Errors
    /// [`DbError::Unknown`] when a script is not the tenant's, or the database fails.
    pub async fn set_readers(
        self,
        tenant: TenantId,
        name: &SecretName,
        readers: &[ScriptId],
        restricted: bool,
    ) -> Result<bool, DbError> {
        let mut tx = self.0.begin_derived_change(tenant).await?;
        let Some((id, _)) = find(&mut tx, tenant, name).await? else { return Ok(false) };
        replace_readers(&mut tx, tenant, id, i64::from(restricted), readers).await?;
        self.note_readers(&mut tx, tenant, name, id).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Lets one more script read a secret that is for some scripts only; `false` when the tenant has none of this name. Scripts that may
    /// read it already go on doing so.
    ///
    /// # Errors
    /// [`DbError::InUse`] when all scripts may read it, [`DbError::Unknown`] when the script is not the tenant's, or the database fails.
    pub async fn add_reader(self, tenant: TenantId, name: &SecretName, script: ScriptId) -> Result<bool, DbError> {
        let mut tx = self.0.begin_derived_change(tenant).await?;
        let Some(id) = expect_restricted(&mut tx, tenant, name).await? else { return Ok(false) };
        insert_reader(&mut tx, tenant, id, script).await?;
        self.note_readers(&mut tx, tenant, name, id).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Lets one script less read a secret that is for some scripts only; `false` when the tenant has none of this name.
    ///
    /// # Errors
    /// [`DbError::InUse`] when all scripts may read it, or the database fails.
    pub async fn remove_reader(self, tenant: TenantId, name: &SecretName, script: ScriptId) -> Result<bool, DbError> {
        let mut tx = self.0.begin_derived_change(tenant).await?;
        let Some(id) = expect_restricted(&mut tx, tenant, name).await? else { return Ok(false) };
        sqlx::query("DELETE FROM secret_grant WHERE tenant_id = $1 AND secret_id = $2 AND script_id = $3")
            .bind(tenant.0)
            .bind(id)
            .bind(script.0)
            .execute(&mut *tx)
            .await?;
        self.note_readers(&mut tx, tenant, name, id).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Notes who may read a secret from now on.
    async fn note_readers(self, tx: &mut Tx, tenant: TenantId, name: &SecretName, id: i64) -> Result<(), DbError> {
        let restricted: i64 = sqlx::query_scalar("SELECT restricted FROM secret WHERE tenant_id = $1 AND id = $2")
            .bind(tenant.0)
            .bind(id)
            .fetch_one(&mut **tx)
            .await?;
        let scripts: Vec<String> = sqlx::query_scalar(
            "SELECT s.name FROM secret_grant g JOIN script s ON s.tenant_id = g.tenant_id AND s.id = g.script_id
             WHERE g.tenant_id = $1 AND g.secret_id = $2 ORDER BY s.name",
        )
        .bind(tenant.0)
        .bind(id)
        .fetch_all(&mut **tx)
        .await?;
        let readers = match (restricted != 0, scripts.is_empty()) {
            (false, _) => "all scripts".to_owned(),
            (true, true) => "no script".to_owned(),
            (true, false) => scripts.join(", "),
        };
        self.0.note_change(tx, tenant, "set_readers", &format!("{name}: {readers}")).await
    }

    /// Deletes a secret. Returns whether there was one of this name.
    ///
    /// # Errors
    /// The database fails.
    pub async fn delete_secret(self, tenant: TenantId, name: &SecretName) -> Result<bool, DbError> {
        let mut tx = self.0.begin_change(tenant, "delete_secret", name.as_str()).await?;
        sqlx::query(
            "DELETE FROM secret_grant WHERE tenant_id = $1
             AND secret_id IN (SELECT id FROM secret WHERE tenant_id = $1 AND name = $2)",
        )
        .bind(tenant.0)
        .bind(name.as_str())
        .execute(&mut *tx)
        .await?;
        let deleted = sqlx::query("DELETE FROM secret WHERE tenant_id = $1 AND name = $2")
            .bind(tenant.0)
            .bind(name.as_str())
            .execute(&mut *tx)
            .await?;
        if deleted.rows_affected() == 0 {
            return Ok(false);
        }
        tx.commit().await?;
        Ok(true)
    }

    /// The tenant's secret of this name, if this script may read it.
    ///
    /// # Errors
    /// The database fails.
    pub async fn find_secret_for(
        self,
        tenant: TenantId,
        name: &SecretName,
        script: ScriptId,
    ) -> Result<Option<SealedSecret>, DbError> {
        let row = sqlx::query_as::<_, (i64, Vec<u8>)>(
            "SELECT id, sealed FROM secret WHERE tenant_id = $1 AND name = $2 AND (restricted = 0 OR EXISTS (
                 SELECT 1 FROM secret_grant g
                 WHERE g.tenant_id = secret.tenant_id AND g.secret_id = secret.id AND g.script_id = $3))",
        )
        .bind(tenant.0)
        .bind(name.as_str())
        .bind(script.0)
        .fetch_optional(&self.0.readers)
        .await?;
        Ok(row.map(|(id, sealed)| SealedSecret { id: SecretId(id), sealed }))
    }

    /// The tenant's secrets by name, without their values.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list_secrets(self, tenant: TenantId) -> Result<Vec<SecretInfo>, DbError> {
        let rows = sqlx::query_as::<_, (String, i64, i64, i64, Option<String>)>(
            "SELECT s.name, s.restricted, s.created_at_ms, s.updated_at_ms, script.name
             FROM secret s
                  LEFT JOIN secret_grant g ON g.tenant_id = s.tenant_id AND g.secret_id = s.id
                  LEFT JOIN script ON script.tenant_id = g.tenant_id AND script.id = g.script_id
             WHERE s.tenant_id = $1 ORDER BY s.name, script.name",
        )
        .bind(tenant.0)
        .fetch_all(&self.0.readers)
        .await?;
        let mut secrets: Vec<SecretInfo> = Vec::new();
        for (name, restricted, created_at_ms, updated_at_ms, script) in rows {
            let name: SecretName = name.try_into().map_err(|error| DbError::corrupt("secret name", error))?;
            if secrets.last().is_none_or(|last| last.name != name) {
                let scripts = (restricted != 0).then(Vec::new);
                secrets.push(SecretInfo { name, scripts, created_at_ms, updated_at_ms });
            }
            if let (Some(script), Some(SecretInfo { scripts: Some(scripts), .. })) = (script, secrets.last_mut()) {
                scripts.push(script.try_into().map_err(|error| DbError::corrupt("script name", error))?);
            }
        }
        Ok(secrets)
    }
}

/// Id of a secret, and whether it is for some scripts only.
async fn find(tx: &mut Tx, tenant: TenantId, name: &SecretName) -> Result<Option<(i64, bool)>, DbError> {
    let row = sqlx::query_as::<_, (i64, i64)>("SELECT id, restricted FROM secret WHERE tenant_id = $1 AND name = $2")
        .bind(tenant.0)
        .bind(name.as_str())
        .fetch_optional(&mut **tx)
        .await?;
    Ok(row.map(|(id, restricted)| (id, restricted != 0)))
}

async fn expect_restricted(tx: &mut Tx, tenant: TenantId, name: &SecretName) -> Result<Option<i64>, DbError> {
    match find(tx, tenant, name).await? {
        Some((_, false)) => {
            let by = "all scripts of the tenant may read it; say first which ones may".to_owned();
            Err(DbError::InUse { what: "secret", name: name.to_string(), by })
        }
        found => Ok(found.map(|(id, _)| id)),
    }
}

async fn insert_reader(tx: &mut Tx, tenant: TenantId, secret: i64, script: ScriptId) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO secret_grant (tenant_id, secret_id, script_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind(tenant.0)
    .bind(secret)
    .bind(script.0)
    .execute(&mut **tx)
    .await
    .map_err(|error| match is_missing_reference(&error) {
        true => DbError::Unknown { what: "script", id: script.0 },
        false => error.into(),
    })?;
    Ok(())
}

async fn replace_readers(
    tx: &mut Tx,
    tenant: TenantId,
    secret: i64,
    restricted: i64,
    scripts: &[ScriptId],
) -> Result<(), DbError> {
    sqlx::query("UPDATE secret SET restricted = $3 WHERE tenant_id = $1 AND id = $2")
        .bind(tenant.0)
        .bind(secret)
        .bind(restricted)
        .execute(&mut **tx)
        .await?;
    sqlx::query("DELETE FROM secret_grant WHERE tenant_id = $1 AND secret_id = $2")
        .bind(tenant.0)
        .bind(secret)
        .execute(&mut **tx)
        .await?;
    for script in scripts {
        insert_reader(tx, tenant, secret, *script).await?;
    }
    Ok(())
}
