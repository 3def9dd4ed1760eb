//! Who changed what. [`Db::begin_change`](crate::db::Db) writes it, in the transaction of the change.

use sqlx::FromRow;

use crate::{
    db::{Db, DbError},
    domain::names::TenantId,
};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct AuditEntry {
    /// Its place in the log.
    pub seq: i64,
    /// Whose name did it: `user ann@acme.example`, `token 7f3a..`, or the command line of the host's machine.
    pub actor: String,
    /// What was done, for example `publish_version`.
    pub action: String,
    /// To what, for example the script's name.
    pub target: String,
    /// Milliseconds since 1970.
    pub at_ms: i64,
}

/// Statements about the audit log.
#[derive(Debug, Clone, Copy)]
pub struct AuditLog<'a>(pub(super) &'a Db);

impl AuditLog<'_> {
    /// Notes what somebody had the host do, where that changes nothing of the control database itself.
    ///
    /// # Errors
    /// The database fails.
    pub async fn note(self, tenant: TenantId, action: &str, target: &str) -> Result<(), DbError> {
        let mut tx = self.0.writer.begin().await?; // not a change: hosts remember nothing of it
        self.0.note_change(&mut tx, tenant, action, target).await?;
        Ok(tx.commit().await?)
    }

    /// Changes of a tenant, or without one, of the host as a whole; newest first, before entry `before` if given.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list(
        self,
        tenant: Option<TenantId>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, DbError> {
        let (before, limit) = (before.unwrap_or(i64::MAX), i64::from(limit));
        let query = match tenant {
            Some(tenant) => sqlx::query_as(
                "SELECT seq, actor, action, target, at_ms FROM audit
                 WHERE tenant_id = $3 AND seq < $1 ORDER BY seq DESC LIMIT $2",
            )
            .bind(before)
            .bind(limit)
            .bind(tenant.0),
            // Written so that it finds the few entries of the host by their index, among many of tenants.
            None => sqlx::query_as(
                "SELECT seq, actor, action, target, at_ms FROM audit
                 WHERE tenant_id IS NULL AND seq < $1 ORDER BY seq DESC LIMIT $2",
            )
            .bind(before)
            .bind(limit),
        };
        Ok(query.fetch_all(&self.0.readers).await?)
    }
}
