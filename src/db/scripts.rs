//! Scripts.

use sqlx::FromRow;

use crate::{
    db::{
        Db, DbError, Tx, drafts,
        error::{Unique, is_missing_reference},
        from_column, now_ms,
        tenants::quotas_of,
    },
    domain::{
        names::{ScriptId, ScriptName, TenantId, VersionId},
        quota::{Quota, UsedUp},
    },
};

const NAME_TAKEN: Unique = Unique { name: "script_name_taken", columns: "script.tenant_id, script.name" };

/// A script of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Its id.
    pub id: ScriptId,
    /// Its name.
    pub name: ScriptName,
    /// Id and number of its newest version, once one is published.
    pub latest_version: Option<(VersionId, i64)>,
    /// Id and number of the version that its endpoints serve, unless they name one.
    pub live_version: Option<(VersionId, i64)>,
    /// When it was created, in milliseconds since 1970.
    pub created_at_ms: i64,
}

#[derive(FromRow)]
struct Row {
    id: i64,
    name: String,
    created_at_ms: i64,
    latest_id: Option<i64>,
    latest_number: Option<i64>,
    live_id: Option<i64>,
    live_number: Option<i64>,
}

/// Statements about scripts.
#[derive(Debug, Clone, Copy)]
pub struct Scripts<'a>(pub(super) &'a Db);

impl Scripts<'_> {
    /// The script of this name, created when the tenant has none.
    ///
    /// # Errors
    /// [`DbError::QuotaUsedUp`], [`DbError::Unknown`] when there is no such tenant, or the database fails.
    pub async fn ensure_script(self, tenant: TenantId, name: &ScriptName) -> Result<ScriptId, DbError> {
        if let Some(script) = self.find_script(tenant, name).await? {
            return Ok(script.id);
        }
        let mut tx = self.0.begin_change(tenant, "create_script", name.as_str()).await?;
        let inserted = sqlx::query(
            "INSERT INTO script (tenant_id, name, created_at_ms) VALUES ($1, $2, $3)
             ON CONFLICT (tenant_id, name) DO NOTHING",
        )
        .bind(tenant.0)
        .bind(name.as_str())
        .bind(now_ms())
        .execute(&mut *tx)
        .await
        .map_err(|error| match is_missing_reference(&error) {
            true => DbError::Unknown { what: "row", id: tenant.0 },
            false => error.into(),
        })?;
        let id = sqlx::query_scalar("SELECT id FROM script WHERE tenant_id = $1 AND name = $2")
            .bind(tenant.0)
            .bind(name.as_str())
            .fetch_one(&mut *tx)
            .await?;
        if inserted.rows_affected() > 0 {
            expect_room(&mut tx, tenant).await?;
        }
        tx.commit().await?;
        Ok(ScriptId(id))
    }

    /// The tenant's script of this name.
    ///
    /// # Errors
    /// The database fails.
    pub async fn find_script(self, tenant: TenantId, name: &ScriptName) -> Result<Option<Script>, DbError> {
        sqlx::query_as::<_, Row>(
            "SELECT s.id, s.name, s.created_at_ms, v.id AS latest_id, v.number AS latest_number,
                    l.id AS live_id, l.number AS live_number
             FROM script s LEFT JOIN version v ON v.tenant_id = s.tenant_id AND v.script_id = s.id
                  AND v.number = (SELECT MAX(number) FROM version WHERE script_id = s.id)
                  LEFT JOIN version l ON l.tenant_id = s.tenant_id AND l.id = s.live_version_id
             WHERE s.tenant_id = $1 AND s.name = $2",
        )
        .bind(tenant.0)
        .bind(name.as_str())
        .fetch_optional(&self.0.readers)
        .await?
        .map(script)
        .transpose()
    }

    /// How many scripts the tenant has.
    ///
    /// # Errors
    /// The database fails.
    pub async fn count_scripts(self, tenant: TenantId) -> Result<u64, DbError> {
        let n_scripts: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM script WHERE tenant_id = $1")
            .bind(tenant.0)
            .fetch_one(&self.0.readers)
            .await?;
        Ok(from_column(n_scripts))
    }

    /// The tenant's scripts by name.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list_scripts(self, tenant: TenantId) -> Result<Vec<Script>, DbError> {
        self.list_scripts_after(tenant, None, u32::MAX).await
    }

    /// The tenant's scripts by name, those behind `after` if given.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list_scripts_after(
        self,
        tenant: TenantId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Script>, DbError> {
        sqlx::query_as::<_, Row>(
            "SELECT s.id, s.name, s.created_at_ms, v.id AS latest_id, v.number AS latest_number,
                    l.id AS live_id, l.number AS live_number
             FROM script s LEFT JOIN version v ON v.tenant_id = s.tenant_id AND v.script_id = s.id
                  AND v.number = (SELECT MAX(number) FROM version WHERE script_id = s.id)
                  LEFT JOIN version l ON l.tenant_id = s.tenant_id AND l.id = s.live_version_id
             WHERE s.tenant_id = $1 AND s.name > $2 ORDER BY s.name LIMIT $3",
        )
        .bind(tenant.0)
        .bind(after.unwrap_or(""))
        .bind(i64::from(limit))
        .fetch_all(&self.0.readers)
        .await?
        .into_iter()
        .map(script)
        .collect()
    }

    /// Creates a script with a draft.
    ///
    /// # Errors
    /// [`DbError::NameTaken`], [`DbError::QuotaUsedUp`], [`DbError::Unknown`] when there is no such tenant, or the database fails.
    pub async fn create_script(self, tenant: TenantId, name: &ScriptName, draft: &str) -> Result<Script, DbError> {
        let created_at_ms = now_ms();
        let mut tx = self.0.begin_change(tenant, "create_script", name.as_str()).await?;
        let id: i64 =
            sqlx::query_scalar("INSERT INTO script (tenant_id, name, created_at_ms) VALUES ($1, $2, $3) RETURNING id")
                .bind(tenant.0)
                .bind(name.as_str())
                .bind(created_at_ms)
                .fetch_one(&mut *tx)
                .await
                .map_err(|error| {
                    if NAME_TAKEN.is_violated(&error) {
                        DbError::NameTaken { what: "script", name: name.to_string() }
                    } else if is_missing_reference(&error) {
                        DbError::Unknown { what: "row", id: tenant.0 }
                    } else {
                        error.into()
                    }
                })?;
        expect_room(&mut tx, tenant).await?;
        let id = ScriptId(id);
        drafts::replace(&mut tx, tenant, id, draft, created_at_ms).await?;
        tx.commit().await?;
        Ok(Script { id, name: name.clone(), latest_version: None, live_version: None, created_at_ms })
    }

    /// Makes a version the one that endpoints serve unless they name one, and remembers the one before it.
    ///
    /// # Errors
    /// [`DbError::Stale`] when another version than `expected` is live (`None` for any), [`DbError::Unknown`] when the script has no
    /// such version, or the database fails.
    pub async fn set_live_version(
        self,
        tenant: TenantId,
        script: &Script,
        version: VersionId,
        number: i64,
        expected: Option<VersionId>,
    ) -> Result<(), DbError> {
        let target = format!("{} version {number}", script.name);
        let mut tx = self.0.begin_change(tenant, "promote_version", &target).await?;
        if let Some(expected) = expected {
            let live: Option<i64> =
                sqlx::query_scalar("SELECT live_version_id FROM script WHERE tenant_id = $1 AND id = $2")
                    .bind(tenant.0)
                    .bind(script.id.0)
                    .fetch_optional(&mut *tx)
                    .await?
                    .flatten();
            if live != Some(expected.0) {
                return Err(DbError::Stale);
            }
        }
        let updated = sqlx::query(
            "UPDATE script SET live_version_id = $3,
                    previous_version_id = CASE WHEN live_version_id = $3 THEN previous_version_id ELSE live_version_id END
             WHERE tenant_id = $1 AND id = $2
                   AND EXISTS (SELECT 1 FROM version
                               WHERE tenant_id = $1 AND script_id = $2 AND id = $3 AND purged_at_ms IS NULL)",
        )
        .bind(tenant.0)
        .bind(script.id.0)
        .bind(version.0)
        .execute(&mut *tx)
        .await?;
        if updated.rows_affected() == 0 {
            return Err(DbError::Unknown { what: "version", id: version.0 });
        }
        tx.commit().await?;
        Ok(())
    }

    /// Id and number of the version that was live before the one that is.
    ///
    /// # Errors
    /// The database fails.
    pub async fn find_previous_version(
        self,
        tenant: TenantId,
        script: ScriptId,
    ) -> Result<Option<(VersionId, i64)>, DbError> {
        let row = sqlx::query_as::<_, (i64, i64)>(
            "SELECT v.id, v.number FROM script s JOIN version v ON v.tenant_id = s.tenant_id AND v.id = s.previous_version_id
             WHERE s.tenant_id = $1 AND s.id = $2",
        )
        .bind(tenant.0)
        .bind(script.0)
        .fetch_optional(&self.0.readers)
        .await?;
        Ok(row.map(|(id, number)| (VersionId(id), number)))
    }

    /// Deletes a script with its versions, draft and state. Its invocations stay in the log.
    ///
    /// # Errors
    /// [`DbError::InUse`] when an endpoint leads to it, [`DbError::Unknown`] when it is gone, or the database fails.
    pub async fn delete_script(self, tenant: TenantId, script: ScriptId, name: &ScriptName) -> Result<(), DbError> {
        let mut tx = self.0.begin_change(tenant, "delete_script", name.as_str()).await?;
        if self.0.writer.is_server() {
            // The script may be writing its state: what it has begun ends before, what it begins waits, and then finds no script.
            sqlx::query("SELECT id FROM script WHERE tenant_id = $1 AND id = $2 FOR UPDATE")
                .bind(tenant.0)
                .bind(script.0)
                .execute(&mut *tx)
                .await?;
        }
        let endpoints: Vec<(String, String)> = sqlx::query_as(
            "SELECT methods, route FROM endpoint WHERE tenant_id = $1 AND script_id = $2 ORDER BY route, methods LIMIT 3",
        )
        .bind(tenant.0)
        .bind(script.0)
        .fetch_all(&mut *tx)
        .await?;
        if !endpoints.is_empty() {
            let by: Vec<_> = endpoints.iter().map(|(methods, route)| format!("{methods} {route}")).collect();
            let by = format!("endpoints lead to it, such as {}", by.join(", "));
            return Err(DbError::InUse { what: "script", name: name.to_string(), by });
        }
        for sql in [
            "UPDATE script SET live_version_id = NULL, previous_version_id = NULL WHERE tenant_id = $1 AND id = $2",
            "DELETE FROM preview WHERE tenant_id = $1
             AND version_id IN (SELECT id FROM version WHERE tenant_id = $1 AND script_id = $2)",
            "DELETE FROM version_file WHERE tenant_id = $1
             AND version_id IN (SELECT id FROM version WHERE tenant_id = $1 AND script_id = $2)",
            "DELETE FROM version WHERE tenant_id = $1 AND script_id = $2",
            "DELETE FROM script_draft WHERE tenant_id = $1 AND script_id = $2",
            "DELETE FROM script_state WHERE tenant_id = $1 AND script_id = $2",
            "DELETE FROM secret_grant WHERE tenant_id = $1 AND script_id = $2",
        ] {
            sqlx::query(sql).bind(tenant.0).bind(script.0).execute(&mut *tx).await?;
        }
        let deleted = sqlx::query("DELETE FROM script WHERE tenant_id = $1 AND id = $2")
            .bind(tenant.0)
            .bind(script.0)
            .execute(&mut *tx)
            .await?;
        if deleted.rows_affected() == 0 {
            return Err(DbError::Unknown { what: "script", id: script.0 });
        }
        tx.commit().await?;
        Ok(())
    }
}

/// Fails when the tenant has more scripts than it may, one of which this transaction has created. Such transactions take turns.
async fn expect_room(tx: &mut Tx, tenant: TenantId) -> Result<(), DbError> {
    let (quotas, n_scripts): (String, i64) =
        sqlx::query_as("SELECT quotas, (SELECT COUNT(*) FROM script WHERE tenant_id = $1) FROM tenant WHERE id = $1")
            .bind(tenant.0)
            .fetch_one(&mut **tx)
            .await?;
    match quotas_of(&quotas)?.scripts {
        Some(limit) if n_scripts > i64::from(limit) => {
            Err(DbError::QuotaUsedUp(UsedUp { quota: Quota::Scripts, limit: limit.into() }))
        }
        Some(_) | None => Ok(()),
    }
}

fn version(id: Option<i64>, number: Option<i64>) -> Option<(VersionId, i64)> {
    id.map(VersionId).zip(number)
}

fn script(row: Row) -> Result<Script, DbError> {
    Ok(Script {
        id: ScriptId(row.id),
        name: row.name.try_into().map_err(|error| DbError::corrupt("script name", error))?,
        latest_version: version(row.latest_id, row.latest_number),
        live_version: version(row.live_id, row.live_number),
        created_at_ms: row.created_at_ms,
    })
}
