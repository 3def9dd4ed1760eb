//! Tenants.

use crate::{
    db::{
        Db, DbError,
        error::{Unique, is_missing_reference},
        now_ms,
    },
    domain::{
        names::{ConnectionId, TenantId, TenantName, UserId},
        quota::Quotas,
    },
};

const NAME_TAKEN: Unique = Unique { name: "tenant_name_taken", columns: "tenant.name" };

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its name.
    pub name: TenantName,
    /// The connection that scripts get as `pq.DW_NAME`.
    pub default_connection: Option<ConnectionId>,
    /// Whether everybody may read the OpenAPI document of its endpoints.
    pub public_document: bool,
    /// What it may use over time.
    pub quotas: Quotas,
    /// When it was created, in milliseconds since 1970.
    pub created_at_ms: i64,
}

/// Which tenants somebody may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VisibleTenants {
    /// All.
    All,
    /// This one.
    Only(TenantId),
    /// Those that the user is a member of.
    Of(UserId),
}

type Row = (i64, String, Option<i64>, i64, String, i64);

/// Statements about tenants.
#[derive(Debug, Clone, Copy)]
pub struct Tenants<'a>(pub(super) &'a Db);

impl Tenants<'_> {
    /// Creates a tenant without anything.
    ///
    /// # Errors
    /// [`DbError::NameTaken`], or the database fails.
    pub async fn create_tenant(self, name: &TenantName) -> Result<TenantId, DbError> {
        let mut tx = self.0.begin_change(None, "create_tenant", name.as_str()).await?;
        let id = sqlx::query_scalar("INSERT INTO tenant (name, created_at_ms) VALUES ($1, $2) RETURNING id")
            .bind(name.as_str())
            .bind(now_ms())
            .fetch_one(&mut *tx)
            .await
            .map_err(|error| match NAME_TAKEN.is_violated(&error) {
                true => DbError::NameTaken { what: "tenant", name: name.to_string() },
                false => error.into(),
            })?;
        let id = TenantId(id);
        self.0.attribute(&mut tx, Some(id)).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// The tenant of this name.
    ///
    /// # Errors
    /// The database fails.
    pub async fn find_tenant(self, name: &TenantName) -> Result<Option<Tenant>, DbError> {
        sqlx::query_as::<_, Row>(
            "SELECT id, name, default_connection_id, public_document, quotas, created_at_ms FROM tenant WHERE name = $1",
        )
        .bind(name.as_str())
        .fetch_optional(&self.0.readers)
        .await?
        .map(tenant)
        .transpose()
    }

    /// All tenants by name.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list_tenants(self) -> Result<Vec<Tenant>, DbError> {
        self.list_visible_tenants(VisibleTenants::All, None, u32::MAX).await
    }

    /// Tenants by name that somebody may see, those behind `after` if given.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list_visible_tenants(
        self,
        visible: VisibleTenants,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Tenant>, DbError> {
        let (sql, id) = match visible {
            VisibleTenants::All => (
                "SELECT id, name, default_connection_id, public_document, quotas, created_at_ms FROM tenant
                 WHERE $1 = 0 AND name > $2 ORDER BY name LIMIT $3",
                0,
            ),
            VisibleTenants::Only(tenant) => (
                "SELECT id, name, default_connection_id, public_document, quotas, created_at_ms FROM tenant
                 WHERE id = $1 AND name > $2 ORDER BY name LIMIT $3",
                tenant.0,
            ),
            VisibleTenants::Of(user) => (
                "SELECT t.id, t.name, t.default_connection_id, t.public_document, t.quotas, t.created_at_ms
                 FROM tenant t JOIN member m ON m.tenant_id = t.id
                 WHERE m.user_id = $1 AND t.name > $2 ORDER BY t.name LIMIT $3",
                user.0,
            ),
        };
        sqlx::query_as::<_, Row>(sql)
            .bind(id)
            .bind(after.unwrap_or(""))
            .bind(i64::from(limit))
            .fetch_all(&self.0.readers)
            .await?
            .into_iter()
            .map(tenant)
            .collect()
    }

    /// Makes one of the tenant's connections its default.
    ///
    /// # Errors
    /// [`DbError::Unknown`] when the tenant has no such connection, or the database fails.
    pub async fn set_default_connection(self, tenant: TenantId, connection: ConnectionId) -> Result<(), DbError> {
        let mut tx = self.0.begin_change(tenant, "set_default_connection", &connection.to_string()).await?;
        let updated = sqlx::query("UPDATE tenant SET default_connection_id = $2 WHERE id = $1")
            .bind(tenant.0)
            .bind(connection.0)
            .execute(&mut *tx)
            .await
            .map_err(|error| match is_missing_reference(&error) {
                true => DbError::Unknown { what: "connection", id: connection.0 },
                false => error.into(),
            })?;
        if updated.rows_affected() == 0 {
            return Err(DbError::Unknown { what: "row", id: tenant.0 });
        }
        tx.commit().await?;
        Ok(())
    }

    /// Says whether everybody may read the OpenAPI document of the tenant's endpoints.
    ///
    /// # Errors
    /// [`DbError::Unknown`] when the tenant is gone, or the database fails.
    pub async fn set_public_document(self, tenant: TenantId, public: bool) -> Result<(), DbError> {
        let mut tx = self.0.begin_change(tenant, "set_public_document", if public { "on" } else { "off" }).await?;
        let updated = sqlx::query("UPDATE tenant SET public_document = $2 WHERE id = $1")
            .bind(tenant.0)
            .bind(i64::from(public))
            .execute(&mut *tx)
            .await?;
        if updated.rows_affected() == 0 {
            return Err(DbError::Unknown { what: "row", id: tenant.0 });
        }
        tx.commit().await?;
        Ok(())
    }

    /// Replaces what the tenant may use over time.
    ///
    /// # Errors
    /// [`DbError::Unknown`] when the tenant is gone, or the database fails.
    pub async fn set_quotas(self, tenant: TenantId, quotas: &Quotas) -> Result<(), DbError> {
        let json = serde_json::to_string(quotas).map_err(|error| DbError::corrupt("quotas", error))?;
        let mut tx = self.0.begin_change(tenant, "set_quotas", &json).await?;
        let updated = sqlx::query("UPDATE tenant SET quotas = $2 WHERE id = $1")
            .bind(tenant.0)
            .bind(&json)
            .execute(&mut *tx)
            .await?;
        if updated.rows_affected() == 0 {
            return Err(DbError::Unknown { what: "row", id: tenant.0 });
        }
        tx.commit().await?;
        Ok(())
    }

    /// Deletes a tenant that has no scripts, with its endpoints to tables, connections, secrets, tokens, keys and members. Its
    /// invocations, usage and audit log stay; recordings of requests are unreadable from then on, as their key is gone.
    ///
    /// # Errors
    /// [`DbError::InUse`] when it has scripts, [`DbError::Unknown`] when it is gone, or the database fails.
    pub async fn delete_tenant(self, tenant: TenantId, name: &TenantName) -> Result<(), DbError> {
        let mut tx = self.0.begin_change(None, "delete_tenant", name.as_str()).await?;
        self.0.attribute(&mut tx, Some(tenant)).await?;
        let scripts: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM script WHERE tenant_id = $1")
            .bind(tenant.0)
            .fetch_one(&mut *tx)
            .await?;
        if scripts > 0 {
            let by = format!("it has {scripts} scripts; delete them first");
            return Err(DbError::InUse { what: "tenant", name: name.to_string(), by });
        }
        for sql in [
            "UPDATE tenant SET default_connection_id = NULL WHERE id = $1",
            "DELETE FROM credential WHERE tenant_id = $1",
            "DELETE FROM member WHERE tenant_id = $1",
            "DELETE FROM token WHERE tenant_id = $1",
            "DELETE FROM signing_key WHERE tenant_id = $1",
            "DELETE FROM issuer WHERE tenant_id = $1",
            "DELETE FROM secret WHERE tenant_id = $1",
            "DELETE FROM endpoint WHERE tenant_id = $1",
            "DELETE FROM egress_rule WHERE tenant_id = $1",
            "DELETE FROM connection WHERE tenant_id = $1",
        ] {
            sqlx::query(sql).bind(tenant.0).execute(&mut *tx).await?;
        }
        let deleted = sqlx::query("DELETE FROM tenant WHERE id = $1").bind(tenant.0).execute(&mut *tx).await?;
        if deleted.rows_affected() == 0 {
            return Err(DbError::Unknown { what: "tenant", id: tenant.0 });
        }
        tx.commit().await?;
        Ok(())
    }
}

/// What a row says of quotas.
pub(super) fn quotas_of(json: &str) -> Result<Quotas, DbError> {
    serde_json::from_str(json).map_err(|error| DbError::corrupt("quotas", error))
}

fn tenant((id, name, default_connection, public_document, quotas, created_at_ms): Row) -> Result<Tenant, DbError> {
    Ok(Tenant {
        id: TenantId(id),
        name: name.try_into().map_err(|error| DbError::corrupt("tenant name", error))?,
        default_connection: default_connection.map(ConnectionId),
        public_document: public_document != 0,
        quotas: quotas_of(&quotas)?,
        created_at_ms,
    })
}
