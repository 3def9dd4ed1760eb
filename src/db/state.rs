//! What scripts remember between requests.
//!
//! Unlike other writes these do not count up the change counter: no host caches state, and a script may write it in every
//! request.

use crate::{
    db::{Db, DbError, error::is_missing_reference, now_ms},
    domain::{
        names::{ScriptId, TenantId},
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
        sqlx::query(
            "INSERT INTO script_state (tenant_id, script_id, value, revision, updated_at_ms) VALUES ($1, $2, $3, 1, $4)
             ON CONFLICT (tenant_id, script_id) DO UPDATE
             SET value = excluded.value, revision = script_state.revision + 1, updated_at_ms = excluded.updated_at_ms",
        )
        .bind(tenant.0)
        .bind(script.0)
        .bind(value)
        .bind(now_ms())
        .execute(&self.0.writer)
        .await
        .map_err(|error| missing_script(error, script))?;
        Ok(())
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
        .execute(&self.0.writer)
        .await
        .map_err(|error| missing_script(error, script))?;
        Ok(written.rows_affected() == 1)
    }
}

fn missing_script(error: sqlx::Error, script: ScriptId) -> DbError {
    match is_missing_reference(&error) {
        true => DbError::Unknown { what: "script", id: script.0 },
        false => error.into(),
    }
}
