//! Issuers outside of pqhost whose tokens a tenant accepts.

use sqlx::FromRow;

use crate::{
    db::{
        Db, DbError,
        error::{Unique, is_missing_reference},
        json::{from_json, to_json},
        now_ms,
    },
    domain::{names::TenantId, rows::RowFilter},
};

/// Issuers of one tenant: a few identity providers, each with a few environments.
pub const ISSUERS_MAX: usize = 20;

const TAKEN: Unique = Unique { name: "issuer_taken", columns: "issuer.tenant_id, issuer.issuer" };

/// An issuer to be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewIssuer {
    /// What its tokens say in `iss`, to the letter.
    pub issuer: String,
    /// Where its keys are.
    pub jwks_url: String,
    /// What its tokens for this tenant say in `aud`.
    pub audience: String,
    /// The only rows they reach, if not all that scripts do.
    pub row_filters: Option<Vec<RowFilter>>,
}

/// An issuer that is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// What its tokens say in `iss`, to the letter.
    pub issuer: String,
    /// Where its keys are.
    pub jwks_url: String,
    /// What its tokens for this tenant say in `aud`.
    pub audience: String,
    /// The only rows they reach, if not all that scripts do.
    pub row_filters: Option<Vec<RowFilter>>,
    /// Milliseconds since 1970.
    pub created_at_ms: i64,
}

#[derive(FromRow)]
struct Row {
    issuer: String,
    jwks_url: String,
    audience: String,
    row_filters: Option<String>,
    created_at_ms: i64,
}

/// Statements about issuers.
#[derive(Debug, Clone, Copy)]
pub struct Issuers<'a>(pub(super) &'a Db);

impl Issuers<'_> {
    /// Adds an issuer.
    ///
    /// # Errors
    /// [`DbError::NameTaken`] when the tenant has this issuer, [`DbError::TooMany`] when it has [`ISSUERS_MAX`],
    /// [`DbError::Unknown`] when there is no such tenant, or the database fails.
    pub async fn insert_issuer(self, tenant: TenantId, new: &NewIssuer) -> Result<Issuer, DbError> {
        let NewIssuer { issuer, jwks_url, audience, row_filters } = new.clone();
        let mut tx = self.0.begin_change(tenant, "add_issuer", &format!("{issuer} {jwks_url} {audience}")).await?;
        let there_are: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM issuer WHERE tenant_id = $1")
            .bind(tenant.0)
            .fetch_one(&mut *tx)
            .await?;
        if usize::try_from(there_are).is_ok_and(|there_are| there_are >= ISSUERS_MAX) {
            return Err(DbError::TooMany { what: "issuers", limit: ISSUERS_MAX });
        }
        let created_at_ms = now_ms();
        sqlx::query(
            "INSERT INTO issuer (tenant_id, issuer, jwks_url, audience, row_filters, created_at_ms)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(tenant.0)
        .bind(&issuer)
        .bind(&jwks_url)
        .bind(&audience)
        .bind(row_filters.as_ref().map(to_json))
        .bind(created_at_ms)
        .execute(&mut *tx)
        .await
        .map_err(|error| {
            if TAKEN.is_violated(&error) {
                DbError::NameTaken { what: "trusted issuer", name: issuer.clone() }
            } else if is_missing_reference(&error) {
                DbError::Unknown { what: "tenant", id: tenant.0 }
            } else {
                error.into()
            }
        })?;
        tx.commit().await?;
        Ok(Issuer { issuer, jwks_url, audience, row_filters, created_at_ms })
    }

    /// Removes an issuer: none of its tokens is valid any more. `false` when the tenant has no such issuer.
    ///
    /// # Errors
    /// The database fails.
    pub async fn delete_issuer(self, tenant: TenantId, issuer: &str) -> Result<bool, DbError> {
        let mut tx = self.0.begin_change(tenant, "remove_issuer", issuer).await?;
        let deleted = sqlx::query("DELETE FROM issuer WHERE tenant_id = $1 AND issuer = $2")
            .bind(tenant.0)
            .bind(issuer)
            .execute(&mut *tx)
            .await?;
        if deleted.rows_affected() == 0 {
            return Ok(false);
        }
        tx.commit().await?;
        Ok(true)
    }

    /// The tenant's issuers by name.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list_issuers(self, tenant: TenantId) -> Result<Vec<Issuer>, DbError> {
        sqlx::query_as::<_, Row>(
            "SELECT issuer, jwks_url, audience, row_filters, created_at_ms FROM issuer WHERE tenant_id = $1
             ORDER BY issuer",
        )
        .bind(tenant.0)
        .fetch_all(&self.0.readers)
        .await?
        .into_iter()
        .map(Issuer::try_from)
        .collect()
    }
}

impl TryFrom<Row> for Issuer {
    type Error = DbError;

    fn try_from(row: Row) -> Result<Self, DbError> {
        let Row { issuer, jwks_url, audience, row_filters, created_at_ms } = row;
        let row_filters = row_filters.map(|filters| from_json("row filter", &filters)).transpose()?;
        Ok(Self { issuer, jwks_url, audience, row_filters, created_at_ms })
    }
}
