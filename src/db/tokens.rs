//! Tokens that were issued: everything but their text.

use serde_json::{Map, Value};
use sqlx::FromRow;

use crate::{
    db::{
        Db, DbError,
        credentials::TOKENS_SHOWN_MS,
        error::is_missing_reference,
        json::{from_json, to_json},
        now_ms,
    },
    domain::{
        names::{EndpointId, TenantId},
        route::MethodSet,
        rows::RowFilter,
    },
};

/// A token to be recorded before it is given out.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Its id (`jti`), unique over all tenants.
    pub id: String,
    /// What the operator calls it.
    pub name: String,
    /// The only endpoints it is good for, if not for all.
    pub only: Option<EndpointsOfRoutes>,
    /// The only methods it is good for, if not for all.
    pub methods: Option<MethodSet>,
    /// What it says besides.
    pub claims: Map<String, Value>,
    /// The only rows it reaches, if not all that scripts do.
    pub row_filters: Option<Vec<RowFilter>>,
    /// Milliseconds since 1970.
    pub expires_at_ms: i64,
}

/// The endpoints of some routes, one for some methods each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointsOfRoutes {
    /// The routes.
    pub routes: Vec<String>,
    /// Their endpoints' ids.
    pub ids: Vec<EndpointId>,
}

/// A token that was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its id (`jti`).
    pub id: String,
    /// What the operator calls it.
    pub name: String,
    /// The routes whose endpoints it is good for, if not for all. They may have other endpoints now.
    pub routes: Option<Vec<String>>,
    /// The only methods it is good for, if not for all.
    pub methods: Option<MethodSet>,
    /// What it was given to say besides.
    pub claims: Map<String, Value>,
    /// The only rows it reaches, if not all that scripts do.
    pub row_filters: Option<Vec<RowFilter>>,
    /// Milliseconds since 1970.
    pub created_at_ms: i64,
    /// Milliseconds since 1970.
    pub expires_at_ms: i64,
    /// Milliseconds since 1970, to the minute.
    pub last_used_at_ms: Option<i64>,
    /// Milliseconds since 1970; `None` while it is good.
    pub revoked_at_ms: Option<i64>,
}

#[derive(FromRow)]
struct Row {
    id: String,
    name: String,
    /// Routes, one on a line: they have no control characters.
    endpoint_route: Option<String>,
    methods: Option<String>,
    claims: Option<String>,
    row_filters: Option<String>,
    created_at_ms: i64,
    expires_at_ms: i64,
    last_used_at_ms: Option<i64>,
    revoked_at_ms: Option<i64>,
}

/// Selects [`Row`]s.
macro_rules! select {
    ($condition:literal) => {
        concat!(
            "SELECT id, name, endpoint_route, methods, claims, row_filters, created_at_ms, expires_at_ms,
             last_used_at_ms, revoked_at_ms FROM token ",
            $condition
        )
    };
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
        let NewToken { id, name, only, methods, claims, row_filters, expires_at_ms } = new;
        let mut tx = self.0.begin_change(tenant, "create_token", format!("{id} {name}").trim_end()).await?;
        sqlx::query(
            "INSERT INTO token (id, tenant_id, name, endpoint_route, methods, claims, row_filters, created_at_ms, expires_at_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(id)
        .bind(tenant.0)
        .bind(name)
        .bind(only.as_ref().map(|only| only.routes.join("\n")))
        .bind(methods.map(|methods| methods.to_string()))
        .bind((!claims.is_empty()).then(|| to_json(claims)))
        .bind(row_filters.as_ref().map(to_json))
        .bind(now_ms())
        .bind(expires_at_ms)
        .execute(&mut *tx)
        .await
        .map_err(|error| match is_missing_reference(&error) {
            true => DbError::Unknown { what: "row", id: tenant.0 },
            false => error.into(),
        })?;
        for endpoint in only.iter().flat_map(|only| &only.ids) {
            sqlx::query("INSERT INTO token_endpoint (token_id, tenant_id, endpoint_id) VALUES ($1, $2, $3)")
                .bind(id)
                .bind(tenant.0)
                .bind(endpoint.0)
                .execute(&mut *tx)
                .await
                .map_err(|error| match is_missing_reference(&error) {
                    true => DbError::Unknown { what: "endpoint", id: endpoint.0 },
                    false => error.into(),
                })?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// The endpoints that a token with a route is good for.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list_endpoints_of(self, tenant: TenantId, id: &str) -> Result<Vec<EndpointId>, DbError> {
        let ids: Vec<i64> =
            sqlx::query_scalar("SELECT endpoint_id FROM token_endpoint WHERE tenant_id = $1 AND token_id = $2")
                .bind(tenant.0)
                .bind(id)
                .fetch_all(&self.0.readers)
                .await?;
        Ok(ids.into_iter().map(EndpointId).collect())
    }

    /// Deletes tokens of any tenant that expired a month before a time, at most `delete_max`. Gives the number that were deleted. Without their rows
    /// they are refused as before.
    ///
    /// # Errors
    /// The database fails.
    pub async fn prune_expired(self, before_ms: i64, delete_max: u32) -> Result<u64, DbError> {
        let deleted =
            sqlx::query("DELETE FROM token WHERE id IN (SELECT id FROM token WHERE expires_at_ms < $1 LIMIT $2)")
                .bind(before_ms - TOKENS_SHOWN_MS)
                .bind(i64::from(delete_max))
                .execute(&self.0.log_writer)
                .await?;
        Ok(deleted.rows_affected())
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
        sqlx::query_as::<_, Row>(select!("WHERE tenant_id = $1 AND id = $2"))
            .bind(tenant.0)
            .bind(id)
            .fetch_optional(&self.0.readers)
            .await?
            .map(Token::try_from)
            .transpose()
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
        sqlx::query_as::<_, Row>(select!("WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3"))
            .bind(tenant.0)
            .bind(after.unwrap_or(""))
            .bind(i64::from(limit))
            .fetch_all(&self.0.readers)
            .await?
            .into_iter()
            .map(Token::try_from)
            .collect()
    }
}

impl TryFrom<Row> for Token {
    type Error = DbError;

    fn try_from(row: Row) -> Result<Self, DbError> {
        let Row {
            id,
            name,
            endpoint_route,
            methods,
            claims,
            row_filters,
            created_at_ms,
            expires_at_ms,
            last_used_at_ms,
            revoked_at_ms,
        } = row;
        let routes = endpoint_route.map(|routes| routes.split('\n').map(str::to_owned).collect());
        let methods = methods.map(|methods| methods.parse()).transpose();
        let claims = claims.map(|claims| from_json("token", &claims)).transpose()?;
        Ok(Self {
            id,
            name,
            routes,
            methods: methods.map_err(|error| DbError::corrupt("token", error))?,
            claims: claims.unwrap_or_default(),
            row_filters: row_filters.map(|filters| from_json("row filter", &filters)).transpose()?,
            created_at_ms,
            expires_at_ms,
            last_used_at_ms,
            revoked_at_ms,
        })
    }
}
