//! Keys of consumers: everything but their text, of which a hash is kept.

use std::sync::Arc;

use serde_json::{Map, Value};
use sqlx::FromRow;

use crate::{
    db::{
        Db, DbError, Tx,
        credentials::TOKENS_SHOWN_MS,
        error::is_missing_reference,
        json::{from_json, to_json},
        now_ms,
    },
    domain::{
        names::{EndpointId, TenantId},
        rate_limit::RateLimit,
        route::MethodSet,
        rows::RowFilter,
    },
};

/// What a key is for: what its tenant may change.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyTerms {
    /// What the tenant calls it.
    pub name: String,
    /// The only endpoints it is good for, if not for all.
    pub endpoints: Option<Arc<[EndpointId]>>,
    /// The only methods it is good for, if not for all.
    pub methods: Option<MethodSet>,
    /// What the tenant wrote down about its holder.
    pub attributes: Arc<Map<String, Value>>,
    /// The only rows it reaches, if not all that scripts do.
    pub row_filters: Option<Vec<RowFilter>>,
    /// How often it may be used, if not without limit.
    pub rate_limit: Option<RateLimit>,
}

/// A key to be recorded before it is given out.
#[derive(Debug, Clone)]
pub struct NewConsumerKey {
    /// Its id, unique over all tenants.
    pub id: String,
    /// Hash of its text, in hexadecimal.
    pub hash: String,
    /// What it is for.
    pub terms: KeyTerms,
    /// Milliseconds since 1970.
    pub expires_at_ms: i64,
}

/// A key that was issued.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerKey {
    /// Its id.
    pub id: String,
    /// What it is for.
    pub terms: KeyTerms,
    /// Counts changes of it.
    pub revision: i64,
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
    methods: Option<String>,
    restricted: i64,
    attributes: String,
    row_filters: Option<String>,
    rate_limit: Option<String>,
    revision: i64,
    created_at_ms: i64,
    expires_at_ms: i64,
    last_used_at_ms: Option<i64>,
    revoked_at_ms: Option<i64>,
}

/// Selects [`Row`]s.
macro_rules! select {
    ($condition:literal) => {
        concat!(
            "SELECT id, name, methods, restricted, attributes, row_filters, rate_limit, revision, created_at_ms, expires_at_ms,
                    last_used_at_ms, revoked_at_ms FROM consumer_key ",
            $condition
        )
    };
}

/// Statements about keys of consumers.
#[derive(Debug, Clone, Copy)]
pub struct ConsumerKeys<'a>(pub(super) &'a Db);

impl ConsumerKeys<'_> {
    /// Records a key.
    ///
    /// # Errors
    /// [`DbError::Unknown`] when there is no such tenant or endpoint, or the database fails.
    pub async fn insert_key(self, tenant: TenantId, new: &NewConsumerKey) -> Result<(), DbError> {
        let NewConsumerKey { id, hash, terms, expires_at_ms } = new;
        let KeyTerms { name, endpoints, methods, attributes, row_filters, rate_limit } = terms;
        let mut tx = self.0.begin_change(tenant, "create_consumer_key", format!("{id} {name}").trim_end()).await?;
        sqlx::query(
            "INSERT INTO consumer_key (id, tenant_id, name, hash, methods, restricted, attributes, row_filters, rate_limit,
                                       revision, created_at_ms, expires_at_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1, $10, $11)",
        )
        .bind(id)
        .bind(tenant.0)
        .bind(name)
        .bind(hash)
        .bind(methods.map(|methods| methods.to_string()))
        .bind(i64::from(endpoints.is_some()))
        .bind(to_json(attributes))
        .bind(row_filters.as_ref().map(to_json))
        .bind(rate_limit.as_ref().map(to_json))
        .bind(now_ms())
        .bind(expires_at_ms)
        .execute(&mut *tx)
        .await
        .map_err(|error| match is_missing_reference(&error) {
            true => DbError::Unknown { what: "row", id: tenant.0 },
            false => error.into(),
        })?;
        insert_endpoints(&mut tx, tenant, id, terms).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Replaces what a key is for, if it is still at revision `expected` (`None` for any). Gives what it is now; `None` when the
    /// tenant has no such key.
    ///
    /// # Errors
    /// [`DbError::Stale`] when it is not, [`DbError::Unknown`] when the tenant has no such endpoint, or the database fails.
    pub async fn replace_terms(
        self,
        tenant: TenantId,
        id: &str,
        terms: &KeyTerms,
        expected: Option<i64>,
    ) -> Result<Option<ConsumerKey>, DbError> {
        let KeyTerms { name, endpoints, methods, attributes, row_filters, rate_limit } = terms;
        let mut tx = self.0.begin_change(tenant, "replace_consumer_key", format!("{id} {name}").trim_end()).await?;
        let revision: Option<i64> =
            sqlx::query_scalar("SELECT revision FROM consumer_key WHERE tenant_id = $1 AND id = $2")
                .bind(tenant.0)
                .bind(id)
                .fetch_optional(&mut *tx)
                .await?;
        let Some(revision) = revision else { return Ok(None) };
        if expected.is_some_and(|expected| expected != revision) {
            return Err(DbError::Stale);
        }
        sqlx::query(
            "UPDATE consumer_key SET name = $3, methods = $4, restricted = $5, attributes = $6, row_filters = $7, rate_limit = $8,
                                     revision = revision + 1 WHERE tenant_id = $1 AND id = $2",
        )
        .bind(tenant.0)
        .bind(id)
        .bind(name)
        .bind(methods.map(|methods| methods.to_string()))
        .bind(i64::from(endpoints.is_some()))
        .bind(to_json(attributes))
        .bind(row_filters.as_ref().map(to_json))
        .bind(rate_limit.as_ref().map(to_json))
        .execute(&mut *tx)
        .await?;
        sqlx::query("DELETE FROM consumer_key_endpoint WHERE tenant_id = $1 AND key_id = $2")
            .bind(tenant.0)
            .bind(id)
            .execute(&mut *tx)
            .await?;
        insert_endpoints(&mut tx, tenant, id, terms).await?;
        tx.commit().await?;
        self.find_key(tenant, id).await
    }

    /// Revokes a key for ever; `false` when the tenant has no such key. Revoking twice keeps the first time.
    ///
    /// # Errors
    /// The database fails.
    pub async fn revoke_key(self, tenant: TenantId, id: &str) -> Result<bool, DbError> {
        let mut tx = self.0.begin_change(tenant, "revoke_consumer_key", id).await?;
        let updated = sqlx::query(
            "UPDATE consumer_key SET revoked_at_ms = COALESCE(revoked_at_ms, $3), revision = revision + 1
             WHERE tenant_id = $1 AND id = $2",
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

    /// The tenant's key whose text has this hash, revoked and expired ones too.
    ///
    /// # Errors
    /// The database fails.
    pub async fn find_by_hash(self, tenant: TenantId, hash: &str) -> Result<Option<ConsumerKey>, DbError> {
        let row: Option<Row> = sqlx::query_as(select!("WHERE tenant_id = $1 AND hash = $2"))
            .bind(tenant.0)
            .bind(hash)
            .fetch_optional(&self.0.readers)
            .await?;
        self.whole(tenant, row).await
    }

    /// The tenant's key of this id.
    ///
    /// # Errors
    /// The database fails.
    pub async fn find_key(self, tenant: TenantId, id: &str) -> Result<Option<ConsumerKey>, DbError> {
        let row: Option<Row> = sqlx::query_as(select!("WHERE tenant_id = $1 AND id = $2"))
            .bind(tenant.0)
            .bind(id)
            .fetch_optional(&self.0.readers)
            .await?;
        self.whole(tenant, row).await
    }

    async fn whole(self, tenant: TenantId, row: Option<Row>) -> Result<Option<ConsumerKey>, DbError> {
        let Some(row) = row else { return Ok(None) };
        let ids: Vec<i64> =
            sqlx::query_scalar("SELECT endpoint_id FROM consumer_key_endpoint WHERE tenant_id = $1 AND key_id = $2")
                .bind(tenant.0)
                .bind(&row.id)
                .fetch_all(&self.0.readers)
                .await?;
        row.with_endpoints(ids).map(Some)
    }

    /// The tenant's keys by id, those behind `after` if given.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list_keys_after(
        self,
        tenant: TenantId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<ConsumerKey>, DbError> {
        let rows: Vec<Row> = sqlx::query_as(select!("WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3"))
            .bind(tenant.0)
            .bind(after.unwrap_or(""))
            .bind(i64::from(limit))
            .fetch_all(&self.0.readers)
            .await?;
        let mut endpoints = Vec::new();
        if let (Some(first), Some(last)) = (rows.first(), rows.last()) {
            endpoints = sqlx::query_as::<_, (String, i64)>(
                "SELECT key_id, endpoint_id FROM consumer_key_endpoint
                 WHERE tenant_id = $1 AND key_id >= $2 AND key_id <= $3 ORDER BY key_id, endpoint_id",
            )
            .bind(tenant.0)
            .bind(&first.id)
            .bind(&last.id)
            .fetch_all(&self.0.readers)
            .await?;
        }
        let of = |row: &Row| endpoints.iter().filter(|(key, _)| *key == row.id).map(|(_, id)| *id).collect();
        rows.into_iter()
            .map(|row| {
                let ids = of(&row);
                row.with_endpoints(ids)
            })
            .collect()
    }

    /// Deletes keys of any tenant that expired a month before a time, at most `delete_max`. Gives the number that were deleted. Without
    /// their rows they are refused as before.
    ///
    /// # Errors
    /// The database fails.
    pub async fn prune_expired(self, before_ms: i64, delete_max: u32) -> Result<u64, DbError> {
        let deleted = sqlx::query(
            "DELETE FROM consumer_key WHERE id IN (SELECT id FROM consumer_key WHERE expires_at_ms < $1 LIMIT $2)",
        )
        .bind(before_ms - TOKENS_SHOWN_MS)
        .bind(i64::from(delete_max))
        .execute(&self.0.log_writer)
        .await?;
        Ok(deleted.rows_affected())
    }
}

async fn insert_endpoints(tx: &mut Tx, tenant: TenantId, key: &str, terms: &KeyTerms) -> Result<(), DbError> {
    for endpoint in terms.endpoints.iter().flat_map(|endpoints| &**endpoints) {
        let inserted = sqlx::query(
            "INSERT INTO consumer_key_endpoint (key_id, tenant_id, endpoint_id)
             SELECT $1, tenant_id, id FROM endpoint WHERE tenant_id = $2 AND id = $3",
        )
        .bind(key)
        .bind(tenant.0)
        .bind(endpoint.0)
        .execute(&mut **tx)
        .await?;
        if inserted.rows_affected() == 0 {
            return Err(DbError::Unknown { what: "endpoint", id: endpoint.0 });
        }
    }
    Ok(())
}

impl Row {
    fn with_endpoints(self, ids: Vec<i64>) -> Result<ConsumerKey, DbError> {
        let Self {
            id,
            name,
            methods,
            restricted,
            attributes,
            row_filters,
            rate_limit,
            revision,
            created_at_ms,
            expires_at_ms,
            last_used_at_ms,
            revoked_at_ms,
        } = self;
        let methods = methods.map(|text| text.parse()).transpose();
        let terms = KeyTerms {
            name,
            endpoints: (restricted != 0).then(|| ids.into_iter().map(EndpointId).collect()),
            methods: methods.map_err(|error| DbError::corrupt("method", error))?,
            attributes: Arc::new(from_json("attributes", &attributes)?),
            row_filters: row_filters.map(|text| from_json("row filter", &text)).transpose()?,
            rate_limit: rate_limit.map(|text| from_json("rate limit", &text)).transpose()?,
        };
        Ok(ConsumerKey { id, terms, revision, created_at_ms, expires_at_ms, last_used_at_ms, revoked_at_ms })
    }
}
