//! Tokens that were issued: everything but their text.

use sqlx::FromRow;

use crate::{
    db::{Db, DbError, error::is_missing_reference, now_ms},
    domain::names::TenantId,
};

/// A token to be recorded before it is given out.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Its id (`jti`), unique over all tenants.
    pub id: String,
    /// What the operator calls it.
    pub name: String,
    /// The only route it is good for, if not for all.
    pub endpoint_route: Option<String>,
    /// Milliseconds since 1970.
    pub expires_at_ms: i64,
}

/// A token that was issued.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Token {
    /// Its id (`jti`).
    pub id: String,
    /// What the operator calls it.
    pub name: String,
    /// The only route it is good for, if not for all.
    pub endpoint_route: Option<String>,
    /// Milliseconds since 1970.
    pub created_at_ms: i64,
    /// Milliseconds since 1970.
    pub expires_at_ms: i64,
    /// Milliseconds since 1970; `None` while it is good.
    pub revoked_at_ms: Option<i64>,
}

/// Statements about tokens.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'a>(pub(super) &'a Db);

impl Tokens<'_> {
    /// Records a token.
    ///
    /// # Errors
    /// [`DbError::Unknown`] when there is no such tenant, or the database fails.
    pub async fn insert_token(self, tenant: TenantId, new: &NewToken) -> Result<(), DbError> {
        let NewToken { id, name, endpoint_route, expires_at_ms } = new;
        let mut tx = self.0.begin_change(tenant, "create_token", id).await?;
        sqlx::query(
            "INSERT INTO token (id, tenant_id, name, endpoint_route, created_at_ms, expires_at_ms)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(id)
        .bind(tenant.0)
        .bind(name)
        .bind(endpoint_route)
        .bind(now_ms())
        .bind(expires_at_ms)
        .execute(&mut *tx)
        .await
        .map_err(|error| match is_missing_reference(&error) {
            true => DbError::Unknown { what: "row", id: tenant.0 },
            false => error.into(),
        })?;
        tx.commit().await?;
        Ok(())
    }

    /// Revokes a token for ever; `false` when the tenant has no such token. Revoking twice keeps the first time.
    ///
    /// # Errors
    /// The database fails.
    pub async fn revoke_token(self, tenant: TenantId, id: &str) -> Result<bool, DbError> {
        let mut tx = self.0.begin_change(tenant, "revoke_token", id).await?;
        let updated = sqlx::query(
            "UPDATE token SET revoked_at_ms = COALESCE(revoked_at_ms, $3) WHERE tenant_id = $1 AND id = $2",
        )
        .bind(tenant.0)
        .bind(id)
        .bind(now_ms())
        .execute(&mut *tx)
        .await?;
        if updated.rows_affected() == 0 {
            return Ok(false);
        }
        tx.commit().await?;
        Ok(true)
    }

    /// The tenant's token of this id.
    ///
    /// # Errors
    /// The database fails.
    pub async fn find_token(self, tenant: TenantId, id: &str) -> Result<Option<Token>, DbError> {
        Ok(sqlx::query_as("SELECT * FROM token WHERE tenant_id = $1 AND id = $2")
            .bind(tenant.0)
            .bind(id)
            .fetch_optional(&self.0.readers)
            .await?)
    }

    /// The tenant's tokens by id, those behind `after` if given.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list_tokens_after(
        self,
        tenant: TenantId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Token>, DbError> {
        Ok(sqlx::query_as("SELECT * FROM token WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3")
            .bind(tenant.0)
            .bind(after.unwrap_or(""))
            .bind(i64::from(limit))
            .fetch_all(&self.0.readers)
            .await?)
    }

    /// The tenant's tokens, newest first, revoked and expired ones too.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list_tokens(self, tenant: TenantId) -> Result<Vec<Token>, DbError> {
        Ok(sqlx::query_as("SELECT * FROM token WHERE tenant_id = $1 ORDER BY created_at_ms DESC, id DESC")
            .bind(tenant.0)
            .fetch_all(&self.0.readers)
            .await?)
    }
}
