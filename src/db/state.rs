//! What scripts remember between requests.
//!
//! Unlike other writes these are no changes that hosts look for: no host caches state, and a script may write it in every
//! request.

use sqlx::Any;

use crate::{
    db::{Db, DbError, error::is_missing_reference, now_ms},
    domain::{
        names::{ScriptId, ScriptName, TenantId},
        state::StateEntry,
    },
};

/// Statements about state.
#[derive(Debug, Clone, Copy)]
pub struct State<'a>(pub(super) &'a Db);

impl State<'_> {
    /// The state of a script; `None` when the tenant has no such script.
    ///
    /// # Errors
    /// The database fails.
    pub async fn find_state(self, tenant: TenantId, script: ScriptId) -> Result<Option<StateEntry>, DbError> {
        let row = sqlx::query_as::<_, (Option<String>, Option<i64>)>(
            "SELECT st.value, st.revision
             FROM script s LEFT JOIN script_state st ON st.tenant_id = s.tenant_id AND st.script_id = s.id
             WHERE s.tenant_id = $1 AND s.id = $2",
        )
        .bind(tenant.0)
        .bind(script.0)
        .fetch_optional(&self.0.readers)
        .await?;
        Ok(row.map(|(value, revision)| StateEntry { value, revision: revision.unwrap_or(0) }))
    }

    /// Replaces the state of a script; the last of several writers wins.
    ///
    /// # Errors
    /// [`DbError::Unknown`] when the tenant has no such script, or the database fails.
    pub async fn set_state(self, tenant: TenantId, script: ScriptId, value: Option<&str>) -> Result<(), DbError> {
        set(&self.0.state_writer, tenant, script, value).await
    }

    /// Replaces the state of a script if nobody has written since it was at `revision`. Returns whether it did.
    ///
    /// # Errors
    /// [`DbError::Unknown`] when the tenant has no such script, or the database fails.
    pub async fn compare_and_set_state(
        self,
        tenant: TenantId,
        script: ScriptId,
        revision: i64,
        value: Option<&str>,
    ) -> Result<bool, DbError> {
        compare_and_set(&self.0.state_writer, tenant, script, revision, value).await
    }

    /// Replaces the state of a script as somebody does who manages it, which is noted; if it is still at revision `expected` (`None` for
    /// any, 0 for none).
    ///
    /// # Errors
    /// [`DbError::Stale`] when it is not, [`DbError::Unknown`] when the tenant has no such script, or the database fails.
    pub async fn replace_state(
        self,
        tenant: TenantId,
        script: ScriptId,
        name: &ScriptName,
        expected: Option<i64>,
        value: Option<&str>,
    ) -> Result<(), DbError> {
        let action = if value.is_some() { "set_state" } else { "clear_state" };
        let mut tx = self.0.begin_change(tenant, action, name.as_str()).await?;
        match expected {
            None => set(&mut *tx, tenant, script, value).await?,
            Some(expected) => {
                let revision: Option<i64> =
                    sqlx::query_scalar("SELECT revision FROM script_state WHERE tenant_id = $1 AND script_id = $2")
                        .bind(tenant.0)
                        .bind(script.0)
                        .fetch_optional(&mut *tx)
                        .await?;
                // The script may write in between, where its statements do not wait for this transaction.
                let is_written = revision.unwrap_or(0) == expected
                    && compare_and_set(&mut *tx, tenant, script, expected, value).await?;
                if !is_written {
                    return Err(DbError::Stale);
                }
            }
        }
        tx.commit().await?;
        Ok(())
    }
}

async fn set<'c>(
    writer: impl sqlx::Executor<'c, Database = Any>,
    tenant: TenantId,
    script: ScriptId,
    value: Option<&str>,
) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO script_state (tenant_id, script_id, value, revision, updated_at_ms) VALUES ($1, $2, $3, 1, $4)
         ON CONFLICT (tenant_id, script_id) DO UPDATE
         SET value = excluded.value, revision = script_state.revision + 1, updated_at_ms = excluded.updated_at_ms",
    )
    .bind(tenant.0)
    .bind(script.0)
    .bind(value)
    .bind(now_ms())
    .execute(writer)
    .await
    .map_err(|error| missing_script(error, script))?;
    Ok(())
}

async fn compare_and_set<'c>(
    writer: impl sqlx::Executor<'c, Database = Any>,
    tenant: TenantId,
    script: ScriptId,
    revision: i64,
    value: Option<&str>,
) -> Result<bool, DbError> {
    let written = sqlx::query(
        "INSERT INTO script_state (tenant_id, script_id, value, revision, updated_at_ms)
         VALUES ($1, $2, $3, $4 + 1, $5)
         ON CONFLICT (tenant_id, script_id) DO UPDATE
         SET value = excluded.value, revision = script_state.revision + 1, updated_at_ms = excluded.updated_at_ms
         WHERE script_state.revision = $4",
    )
    .bind(tenant.0)
    .bind(script.0)
    .bind(value)
    .bind(revision)
    .bind(now_ms())
    .execute(writer)
    .await
    .map_err(|error| missing_script(error, script))?;
    Ok(written.rows_affected() == 1)
}

fn missing_script(error: sqlx::Error, script: ScriptId) -> DbError {
    match is_missing_reference(&error) {
        true => DbError::Unknown { what: "script", id: script.0 },
        false => error.into(),
    }
}
