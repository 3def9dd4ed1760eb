//! Hosts that a tenant's scripts may call.

use crate::{
    db::{
        Db, DbError,
        error::{Unique, is_missing_reference},
        now_ms,
    },
    domain::{egress::AllowRule, names::TenantId},
};

const TAKEN: Unique = Unique { name: "egress_rule_taken", columns: "egress_rule.tenant_id, egress_rule.rule" };

/// A rule as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressRow {
    /// The rule.
    pub rule: AllowRule,
    /// When it was added, in milliseconds since 1970.
    pub created_at_ms: i64,
}

/// Statements about outbound HTTP.
#[derive(Debug, Clone, Copy)]
pub struct Egress<'a>(pub(super) &'a Db);

impl Egress<'_> {
    /// Adds a rule; the time of one that is already there stays.
    ///
    /// # Errors
    /// [`DbError::Unknown`] when there is no such tenant, or the database fails.
    pub async fn allow(self, tenant: TenantId, rule: &AllowRule) -> Result<(), DbError> {
        let mut tx = self.0.begin_change(tenant, "allow_host", &rule.to_string()).await?;
        let inserted = sqlx::query("INSERT INTO egress_rule (tenant_id, rule, created_at_ms) VALUES ($1, $2, $3)")
            .bind(tenant.0)
            .bind(rule.to_string())
            .bind(now_ms())
            .execute(&mut *tx)
            .await;
        match inserted {
            Ok(_) => Ok(tx.commit().await?),
            Err(error) if TAKEN.is_violated(&error) => Ok(()),
            Err(error) if is_missing_reference(&error) => Err(DbError::Unknown { what: "tenant", id: tenant.0 }),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a rule; false if there is none.
    ///
    /// # Errors
    /// The database fails.
    pub async fn deny(self, tenant: TenantId, rule: &AllowRule) -> Result<bool, DbError> {
        let mut tx = self.0.begin_change(tenant, "deny_host", &rule.to_string()).await?;
        let deleted = sqlx::query("DELETE FROM egress_rule WHERE tenant_id = $1 AND rule = $2")
            .bind(tenant.0)
            .bind(rule.to_string())
            .execute(&mut *tx)
            .await?;
        if deleted.rows_affected() == 0 {
            return Ok(false);
        }
        tx.commit().await?;
        Ok(true)
    }

    /// The tenant's rules in the order of their text.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list_rules(self, tenant: TenantId) -> Result<Vec<EgressRow>, DbError> {
        sqlx::query_as::<_, (String, i64)>(
            "SELECT rule, created_at_ms FROM egress_rule WHERE tenant_id = $1 ORDER BY rule",
        )
        .bind(tenant.0)
        .fetch_all(&self.0.readers)
        .await?
        .into_iter()
        .map(|(rule, created_at_ms)| {
            let rule = rule.parse().map_err(|error| DbError::corrupt("egress rule", error))?;
            Ok(EgressRow { rule, created_at_ms })
        })
        .collect()
    }
}
