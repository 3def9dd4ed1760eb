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
        let sql = match tenant {
            Some(_) => {
                "SELECT seq, actor, action, target, at_ms FROM audit
                 WHERE tenant_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3"
            }
            None => {
                "SELECT seq, actor, action, target, at_ms FROM audit
                 WHERE COALESCE(tenant_id, $1) = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3"
            }
        };
        Ok(sqlx::query_as(sql)
            .bind(tenant.map_or(0, |tenant| tenant.0)) // no tenant has the id 0
            .bind(before.unwrap_or(i64::MAX))
            .bind(i64::from(limit))
            .fetch_all(&self.0.readers)
            .await?)
    }
}
