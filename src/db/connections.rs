//! Connections: the databases and HTTP APIs that a tenant's scripts may use.

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::{
    db::{
        Db, DbError,
        error::{Unique, is_missing_reference},
        now_ms,
    },
    domain::names::{ConnectionId, ConnectionName, ScriptId, ScriptName, TenantId},
};

const NAME_TAKEN: Unique = Unique { name: "connection_name_taken", columns: "connection.tenant_id, connection.name" };

/// What a connection leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionKind {
    /// A database.
    Sql,
    /// An HTTP API.
    Http,
}

impl ConnectionKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Sql => "sql",
            Self::Http => "http",
        }
    }
}

impl fmt::Display for ConnectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ConnectionKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Sql, Self::Http]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| format!("`{text}` is neither sql nor http"))
    }
}

/// A connection as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionRow {
    /// Its id.
    pub id: ConnectionId,
    /// Its name.
    pub name: ConnectionName,
    /// What it leads to.
    pub kind: ConnectionKind,
    /// Counts changes of the URL, from 1.
    pub revision: i64,
    /// Ciphertext of the vault.
    pub sealed_url: Vec<u8>,
    /// Whether only those scripts may use it that it is granted to; otherwise all of the tenant.
    pub restricted: bool,
    /// When it was created, in milliseconds since 1970.
    pub created_at_ms: i64,
}

type Row = (i64, String, String, i64, Vec<u8>, i64, i64);

/// Selects connections as [`Row`]s.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, kind, revision, sealed_url, restricted, created_at_ms FROM connection
             WHERE tenant_id = $1 ",
            $rest
        )
    };
}

/// Statements about connections.
#[derive(Debug, Clone, Copy)]
pub struct Connections<'a>(pub(super) &'a Db);

impl Connections<'_> {
    /// Creates a connection. `seal` makes its ciphertext, which is bound to the new id.
    ///
    /// # Errors
    /// [`DbError::NameTaken`], [`DbError::Unknown`] when there is no such tenant, or the database fails.
    pub async fn create_connection(
        self,
        tenant: TenantId,
        name: &ConnectionName,
        kind: ConnectionKind,
        seal: impl FnOnce(ConnectionId) -> Vec<u8> + Send,
    ) -> Result<ConnectionId, DbError> {
        let mut tx = self.0.begin_change(tenant, "create_connection", name.as_str()).await?;
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO connection (tenant_id, name, kind, revision, sealed_url, created_at_ms)
             VALUES ($1, $2, $3, 1, $4, $5)
             RETURNING id",
        )
        .bind(tenant.0)
        .bind(name.as_str())
        .bind(kind.as_str())
        .bind(&[][..]) // nobody sees it: the next statement is in the same transaction
        .bind(now_ms())
        .fetch_one(&mut *tx)
        .await
        .map_err(|error| {
            if NAME_TAKEN.is_violated(&error) {
                DbError::NameTaken { what: "connection", name: name.to_string() }
            } else if is_missing_reference(&error) {
                DbError::Unknown { what: "row", id: tenant.0 }
            } else {
                error.into()
            }
        })?;
        sqlx::query("UPDATE connection SET sealed_url = $3 WHERE tenant_id = $1 AND id = $2")
            .bind(tenant.0)
            .bind(id)
            .bind(seal(ConnectionId(id)))
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(ConnectionId(id))
    }

    /// Replaces what is sealed of a connection, if it is still at revision `expected` (`None` for any).
    ///
    /// # Errors
    /// [`DbError::Stale`] when it is not, [`DbError::Unknown`] when the tenant has no such connection, or the database fails.
    pub async fn update_connection(
        self,
        tenant: TenantId,
        connection: &ConnectionRow,
        kind: ConnectionKind,
        expected: Option<i64>,
        seal: impl FnOnce(ConnectionId) -> Vec<u8> + Send,
    ) -> Result<(), DbError> {
        let mut tx = self.0.begin_change(tenant, "update_connection", connection.name.as_str()).await?;
        let revision: Option<i64> = sqlx::query_scalar(
            "UPDATE connection SET sealed_url = $3, kind = $4, revision = revision + 1
             WHERE tenant_id = $1 AND id = $2 RETURNING revision",
        )
        .bind(tenant.0)
        .bind(connection.id.0)
        .bind(seal(connection.id))
        .bind(kind.as_str())
        .fetch_optional(&mut *tx)
        .await?;
        let Some(revision) = revision else {
            return Err(DbError::Unknown { what: "connection", id: connection.id.0 });
        };
        if expected.is_some_and(|expected| expected != revision - 1) {
            return Err(DbError::Stale);
        }
        tx.commit().await?;
        Ok(())
    }

    /// Deletes a connection; the tenant is without a default one if it was that.
    ///
    /// # Errors
    /// [`DbError::Unknown`] when it is gone, or the database fails.
    pub async fn delete_connection(self, tenant: TenantId, connection: &ConnectionRow) -> Result<(), DbError> {
        let mut tx = self.0.begin_change(tenant, "delete_connection", connection.name.as_str()).await?;
        sqlx::query("UPDATE tenant SET default_connection_id = NULL WHERE id = $1 AND default_connection_id = $2")
            .bind(tenant.0)
            .bind(connection.id.0)
            .execute(&mut *tx)
            .await?;
        sqlx::query("DELETE FROM connection_grant WHERE tenant_id = $1 AND connection_id = $2")
            .bind(tenant.0)
            .bind(connection.id.0)
            .execute(&mut *tx)
            .await?;
        let deleted = sqlx::query("DELETE FROM connection WHERE tenant_id = $1 AND id = $2")
            .bind(tenant.0)
            .bind(connection.id.0)
            .execute(&mut *tx)
            .await?;
        if deleted.rows_affected() == 0 {
            return Err(DbError::Unknown { what: "connection", id: connection.id.0 });
        }
        tx.commit().await?;
        Ok(())
    }

    /// The tenant's connection of this name.
    ///
    /// # Errors
    /// The database fails.
    pub async fn find_connection(
        self,
        tenant: TenantId,
        name: &ConnectionName,
    ) -> Result<Option<ConnectionRow>, DbError> {
        sqlx::query_as::<_, Row>(select!("AND name = $2"))
            .bind(tenant.0)
            .bind(name.as_str())
            .fetch_optional(&self.0.readers)
            .await?
            .map(connection)
            .transpose()
    }

    /// The tenant's connection of this name, if this script may use it.
    ///
    /// # Errors
    /// The database fails.
    pub async fn find_connection_for(
        self,
        tenant: TenantId,
        name: &ConnectionName,
        script: ScriptId,
    ) -> Result<Option<ConnectionRow>, DbError> {
        sqlx::query_as::<_, Row>(select!(
            "AND name = $2 AND (restricted = 0 OR EXISTS (
                 SELECT 1 FROM connection_grant g
                 WHERE g.tenant_id = connection.tenant_id AND g.connection_id = connection.id AND g.script_id = $3))"
        ))
        .bind(tenant.0)
        .bind(name.as_str())
        .bind(script.0)
        .fetch_optional(&self.0.readers)
        .await?
        .map(connection)
        .transpose()
    }

    /// The tenant's connections that this script may use, by name.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list_connections_for(self, tenant: TenantId, script: ScriptId) -> Result<Vec<ConnectionRow>, DbError> {
        sqlx::query_as::<_, Row>(select!(
            "AND (restricted = 0 OR EXISTS (
                 SELECT 1 FROM connection_grant g
                 WHERE g.tenant_id = connection.tenant_id AND g.connection_id = connection.id AND g.script_id = $2))
             ORDER BY name"
        ))
        .bind(tenant.0)
        .bind(script.0)
        .fetch_all(&self.0.readers)
        .await?
        .into_iter()
        .map(connection)
        .collect()
    }

    /// The scripts that the tenant's restricted connections are granted to, by name.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list_grants(self, tenant: TenantId) -> Result<BTreeMap<ConnectionId, Vec<ScriptName>>, DbError> {
        let rows = sqlx::query_as::<_, (i64, String)>(
            "SELECT g.connection_id, s.name FROM connection_grant g
             JOIN script s ON s.tenant_id = g.tenant_id AND s.id = g.script_id
             WHERE g.tenant_id = $1 ORDER BY s.name",
        )
        .bind(tenant.0)
        .fetch_all(&self.0.readers)
        .await?;
        let mut grants: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (connection, script) in rows {
            let script = script.try_into().map_err(|error| DbError::corrupt("script name", error))?;
            grants.entry(ConnectionId(connection)).or_default().push(script);
        }
        Ok(grants)
    }

    /// Changes which scripts may use a connection: if it is `restricted` only these, otherwise all of the tenant.
    ///
    /// # Errors
    /// [`DbError::Unknown`] when it is gone, or a script is not the tenant's, or the database fails.
    pub async fn set_readers(
        self,
        tenant: TenantId,
        connection: &ConnectionRow,
        readers: &[ScriptId],
        restricted: bool,
    ) -> Result<(), DbError> {
        let mut tx = self.0.begin_change(tenant, "set_connection_readers", connection.name.as_str()).await?;
        let updated = sqlx::query("UPDATE connection SET restricted = $3 WHERE tenant_id = $1 AND id = $2")
            .bind(tenant.0)
            .bind(connection.id.0)
            .bind(i64::from(restricted))
            .execute(&mut *tx)
            .await?;
        if updated.rows_affected() == 0 {
            return Err(DbError::Unknown { what: "connection", id: connection.id.0 });
        }
        sqlx::query("DELETE FROM connection_grant WHERE tenant_id = $1 AND connection_id = $2")
            .bind(tenant.0)
            .bind(connection.id.0)
            .execute(&mut *tx)
            .await?;
        for script in readers {
            sqlx::query(
                "INSERT INTO connection_grant (tenant_id, connection_id, script_id) VALUES ($1, $2, $3)
                 ON CONFLICT DO NOTHING",
            )
            .bind(tenant.0)
            .bind(connection.id.0)
            .bind(script.0)
            .execute(&mut *tx)
            .await
            .map_err(|error| match is_missing_reference(&error) {
                true => DbError::Unknown { what: "script", id: script.0 },
                false => error.into(),
            })?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// The tenant's connections by name.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list_connections(self, tenant: TenantId) -> Result<Vec<ConnectionRow>, DbError> {
        self.list_connections_after(tenant, None, u32::MAX).await
    }

    /// The tenant's connections by name, those behind `after` if given.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list_connections_after(
        self,
        tenant: TenantId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<ConnectionRow>, DbError> {
        sqlx::query_as::<_, Row>(select!("AND name > $2 ORDER BY name LIMIT $3"))
            .bind(tenant.0)
            .bind(after.unwrap_or(""))
            .bind(i64::from(limit))
            .fetch_all(&self.0.readers)
            .await?
            .into_iter()
            .map(connection)
            .collect()
    }
}

fn connection(
    (id, name, kind, revision, sealed_url, restricted, created_at_ms): Row,
) -> Result<ConnectionRow, DbError> {
    Ok(ConnectionRow {
        id: ConnectionId(id),
        name: name.try_into().map_err(|error| DbError::corrupt("connection name", error))?,
        kind: kind.parse().map_err(|error| DbError::corrupt("connection kind", error))?,
        revision,
        sealed_url,
        restricted: restricted != 0,
        created_at_ms,
    })
}
