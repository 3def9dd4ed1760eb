//! Connections: the databases and HTTP APIs that a tenant's scripts may use.

use std::{fmt, str::FromStr};

use crate::{
    db::{
        Db, DbError,
        error::{Unique, is_missing_reference},
        now_ms,
    },
    domain::names::{ConnectionId, ConnectionName, TenantId},
};

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

mod grants; // below the macro, which it uses

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

/// Statements about connections.
#[derive(Debug, Clone, Copy)]
pub struct Connections<'a>(pub(super) &'a Db);

impl Connections<'_> {
    /// Creates a connection, and tells whether it is the tenant's default now: its first database is. `seal` makes its ciphertext, which is
    /// bound to the new id.
    ///
    /// # Errors
    /// [`DbError::NameTaken`], [`DbError::Unknown`] when there is no such tenant, or the database fails.
    pub async fn create_connection(
        self,
        tenant: TenantId,
        name: &ConnectionName,
        kind: ConnectionKind,
        seal: impl FnOnce(ConnectionId) -> Vec<u8> + Send,
    ) -> Result<(ConnectionRow, bool), DbError> {
        let created_at_ms = now_ms();
        let mut tx = self.0.begin_change(tenant, "create_connection", name.as_str()).await?;
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO connection (tenant_id, name, kind, revision, sealed_url, created_at_ms)
             VALUES ($1, $2, $3, 1, $4, $5)
             RETURNING id",
        )
        .bind(tenant.0)
        .bind(name.as_str())
        .bind(kind.as_str())
        .bind(Vec::<u8>::new()) // nobody sees it: the next statement is in the same transaction
        .bind(created_at_ms)
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
        let sealed_url = seal(ConnectionId(id));
        sqlx::query("UPDATE connection SET sealed_url = $3 WHERE tenant_id = $1 AND id = $2")
            .bind(tenant.0)
            .bind(id)
            .bind(&sealed_url)
            .execute(&mut *tx)
            .await?;
        let is_default = kind == ConnectionKind::Sql && {
            let updated = sqlx::query(
                "UPDATE tenant SET default_connection_id = $2 WHERE id = $1 AND default_connection_id IS NULL",
            );
            updated.bind(tenant.0).bind(id).execute(&mut *tx).await?.rows_affected() == 1
        };
        tx.commit().await?;
        let (id, name) = (ConnectionId(id), name.clone());
        Ok((ConnectionRow { id, name, kind, revision: 1, sealed_url, restricted: false, created_at_ms }, is_default))
    }

    /// Replaces what is sealed of a connection, if it is still at revision `expected` (`None` for any). Gives what it is now.
    ///
    /// # Errors
    /// [`DbError::Stale`] when it is not, [`DbError::Unknown`] when the tenant has no such connection, or the database fails.
    pub async fn update_connection(
        self,
        tenant: TenantId,
        connection: ConnectionRow,
        expected: Option<i64>,
        seal: impl FnOnce(ConnectionId) -> Vec<u8> + Send,
    ) -> Result<ConnectionRow, DbError> {
        let mut tx = self.0.begin_change(tenant, "update_connection", connection.name.as_str()).await?;
        let sealed_url = seal(connection.id);
        let revision: Option<i64> = sqlx::query_scalar(
            "UPDATE connection SET sealed_url = $3, revision = revision + 1
             WHERE tenant_id = $1 AND id = $2 RETURNING revision",
        )
        .bind(tenant.0)
        .bind(connection.id.0)
        .bind(&sealed_url)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(revision) = revision else {
            return Err(DbError::Unknown { what: "connection", id: connection.id.0 });
        };
        if expected.is_some_and(|expected| expected != revision - 1) {
            return Err(DbError::Stale);
        }
        tx.commit().await?;
        Ok(ConnectionRow { revision, sealed_url, ..connection })
    }

    /// Deletes a connection, if it is still at revision `expected` (`None` for any); the tenant is without a default one if it was that.
    ///
    /// # Errors
    /// [`DbError::Stale`] when it is not, [`DbError::Unknown`] when it is gone, or the database fails.
    pub async fn delete_connection(
        self,
        tenant: TenantId,
        connection: &ConnectionRow,
        expected: Option<i64>,
    ) -> Result<(), DbError> {
        let mut tx = self.0.begin_change(tenant, "delete_connection", connection.name.as_str()).await?;
        sqlx::query("UPDATE tenant SET default_connection_id = NULL WHERE id = $1 AND default_connection_id = $2")
            .bind(tenant.0)
            .bind(connection.id.0)
            .execute(&mut *tx)
            .await?;
        let revision: Option<i64> =
            sqlx::query_scalar("DELETE FROM connection WHERE tenant_id = $1 AND id = $2 RETURNING revision")
                .bind(tenant.0)
                .bind(connection.id.0)
                .fetch_optional(&mut *tx)
                .await?;
        let revision = revision.ok_or(DbError::Unknown { what: "connection", id: connection.id.0 })?;
        if expected.is_some_and(|expected| expected != revision) {
            return Err(DbError::Stale);
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
