//! What authors work on before publishing it.

use crate::{
    db::{Db, DbError, Tx, error::is_missing_reference, now_ms},
    domain::names::{ScriptId, ScriptName, TenantId},
};

/// A draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Files as JSON, an array of name and content in base64; the first one defines `handler`.
    pub files: String,
    /// Counts changes, from 1.
    pub revision: i64,
    /// Milliseconds since 1970.
    pub updated_at_ms: i64,
}

/// Statements about drafts.
#[derive(Debug, Clone, Copy)]
pub struct Drafts<'a>(pub(super) &'a Db);

impl Drafts<'_> {
    /// The draft of a script, if it has one.
    ///
    /// # Errors
    /// The database fails.
    pub async fn find_draft(self, tenant: TenantId, script: ScriptId) -> Result<Option<Draft>, DbError> {
        let row = sqlx::query_as::<_, (String, i64, i64)>(
            "SELECT files, revision, updated_at_ms FROM script_draft WHERE tenant_id = $1 AND script_id = $2",
        )
        .bind(tenant.0)
        .bind(script.0)
        .fetch_optional(&self.0.readers)
        .await?;
        Ok(row.map(|(files, revision, updated_at_ms)| Draft { files, revision, updated_at_ms }))
    }

    /// Replaces the draft, if it is still at `expected` (0 for none, `None` for any). Gives the new revision.
    ///
    /// # Errors
    /// [`DbError::Stale`] when it is not, [`DbError::Unknown`] when the tenant has no such script, or the database fails.
    pub async fn set_draft(
        self,
        tenant: TenantId,
        script: ScriptId,
        name: &ScriptName,
        files: &str,
        expected: Option<i64>,
    ) -> Result<Draft, DbError> {
        let updated_at_ms = now_ms();
        let mut tx = self.0.begin_change(tenant, "set_draft", name.as_str()).await?;
        let revision = replace(&mut tx, tenant, script, files, updated_at_ms).await?;
        if expected.is_some_and(|expected| expected != revision - 1) {
            return Err(DbError::Stale);
        }
        tx.commit().await?;
        Ok(Draft { files: files.to_owned(), revision, updated_at_ms })
    }
}

/// Gives the new revision.
pub(super) async fn replace(
    tx: &mut Tx,
    tenant: TenantId,
    script: ScriptId,
    files: &str,
    updated_at_ms: i64,
) -> Result<i64, DbError> {
    sqlx::query_scalar(
        "INSERT INTO script_draft (tenant_id, script_id, files, revision, updated_at_ms) VALUES ($1, $2, $3, 1, $4)
         ON CONFLICT (script_id) DO UPDATE
         SET files = excluded.files, revision = script_draft.revision + 1, updated_at_ms = excluded.updated_at_ms
         RETURNING revision",
    )
    .bind(tenant.0)
    .bind(script.0)
    .bind(files)
    .bind(updated_at_ms)
    .fetch_one(&mut **tx)
    .await
    .map_err(|error| match is_missing_reference(&error) {
        true => DbError::Unknown { what: "script", id: script.0 },
        false => error.into(),
    })
}
