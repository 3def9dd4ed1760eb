//! Scripts.

use crate::{
    db::{Db, DbError, error::is_missing_reference, now_ms},
    domain::names::{ScriptId, ScriptName, TenantId, VersionId},
};

/// A script of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Its id.
    pub id: ScriptId,
    /// Its name.
    pub name: ScriptName,
    /// Id and number of its newest version, once one is published.
    pub latest_version: Option<(VersionId, i64)>,
    /// When it was created, in milliseconds since 1970.
    pub created_at_ms: i64,
}

type Row = (i64, String, i64, Option<i64>, Option<i64>);

/// Statements about scripts.
#[derive(Debug, Clone, Copy)]
pub struct Scripts<'a>(pub(super) &'a Db);

impl Scripts<'_> {
    /// The script of this name, created when the tenant has none.
    ///
    /// # Errors
    /// [`DbError::Unknown`] when there is no such tenant, or the database fails.
    pub async fn ensure_script(self, tenant: TenantId, name: &ScriptName) -> Result<ScriptId, DbError> {
        if let Some(script) = self.find_script(tenant, name).await? {
            return Ok(script.id);
        }
        let mut tx = self.0.begin_change().await?;
        sqlx::query(
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
        tx.commit().await?;
        Ok(ScriptId(id))
    }

    /// The tenant's script of this name.
    ///
    /// # Errors
    /// The database fails.
    pub async fn find_script(self, tenant: TenantId, name: &ScriptName) -> Result<Option<Script>, DbError> {
        sqlx::query_as::<_, Row>(
            "SELECT s.id, s.name, s.created_at_ms, v.id, v.number
             FROM script s LEFT JOIN version v ON v.tenant_id = s.tenant_id AND v.script_id = s.id
                  AND v.number = (SELECT MAX(number) FROM version WHERE script_id = s.id)
             WHERE s.tenant_id = $1 AND s.name = $2",
        )
        .bind(tenant.0)
        .bind(name.as_str())
        .fetch_optional(&self.0.readers)
        .await?
        .map(script)
        .transpose()
    }

    /// The tenant's scripts by name.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list_scripts(self, tenant: TenantId) -> Result<Vec<Script>, DbError> {
        sqlx::query_as::<_, Row>(
            "SELECT s.id, s.name, s.created_at_ms, v.id, v.number
             FROM script s LEFT JOIN version v ON v.tenant_id = s.tenant_id AND v.script_id = s.id
                  AND v.number = (SELECT MAX(number) FROM version WHERE script_id = s.id)
             WHERE s.tenant_id = $1 ORDER BY s.name",
        )
        .bind(tenant.0)
        .fetch_all(&self.0.readers)
        .await?
        .into_iter()
        .map(script)
        .collect()
    }
}

fn script((id, name, created_at_ms, version, number): Row) -> Result<Script, DbError> {
    Ok(Script {
        id: ScriptId(id),
        name: name.try_into().map_err(|error| DbError::corrupt("script name", error))?,
        latest_version: version.map(VersionId).zip(number),
        created_at_ms,
    })
}
