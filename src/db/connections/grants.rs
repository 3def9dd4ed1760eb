//! Which scripts may use a connection.

use std::collections::BTreeMap;

use crate::{
    db::{
        DbError, Tx,
        connections::{ConnectionRow, Connections, Row, connection},
        error::is_missing_reference,
    },
    domain::names::{ConnectionId, ConnectionName, ScriptId, ScriptName, TenantId},
};

impl Connections<'_> {
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
        let mut tx = self.0.begin_derived_change(tenant).await?;
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
            insert_reader(&mut tx, tenant, connection.id, *script).await?;
        }
        self.note_readers(&mut tx, tenant, connection).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Lets one more script use a connection that is for some scripts only. Scripts that may use it already go on doing so.
    ///
    /// # Errors
    /// [`DbError::InUse`] when all scripts may use it, [`DbError::Unknown`] when it or the script is gone, or the database fails.
    pub async fn add_reader(
        self,
        tenant: TenantId,
        connection: &ConnectionRow,
        script: ScriptId,
    ) -> Result<(), DbError> {
        let mut tx = self.0.begin_derived_change(tenant).await?;
        expect_restricted(&mut tx, tenant, connection).await?;
        insert_reader(&mut tx, tenant, connection.id, script).await?;
        self.note_readers(&mut tx, tenant, connection).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Lets one script less use a connection that is for some scripts only.
    ///
    /// # Errors
    /// [`DbError::InUse`] when all scripts may use it, [`DbError::Unknown`] when it is gone, or the database fails.
    pub async fn remove_reader(
        self,
        tenant: TenantId,
        connection: &ConnectionRow,
        script: ScriptId,
    ) -> Result<(), DbError> {
        let mut tx = self.0.begin_derived_change(tenant).await?;
        expect_restricted(&mut tx, tenant, connection).await?;
        sqlx::query("DELETE FROM connection_grant WHERE tenant_id = $1 AND connection_id = $2 AND script_id = $3")
            .bind(tenant.0)
            .bind(connection.id.0)
            .bind(script.0)
            .execute(&mut *tx)
            .await?;
        self.note_readers(&mut tx, tenant, connection).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Notes which scripts may use a connection from now on.
    async fn note_readers(self, tx: &mut Tx, tenant: TenantId, connection: &ConnectionRow) -> Result<(), DbError> {
        let scripts: Vec<String> = sqlx::query_scalar(
            "SELECT s.name FROM connection_grant g JOIN script s ON s.tenant_id = g.tenant_id AND s.id = g.script_id
             WHERE g.tenant_id = $1 AND g.connection_id = $2 ORDER BY s.name",
        )
        .bind(tenant.0)
        .bind(connection.id.0)
        .fetch_all(&mut **tx)
        .await?;
        let readers = match (is_restricted(tx, tenant, connection).await?, scripts.is_empty()) {
            (false, _) => "all scripts".to_owned(),
            (true, true) => "no script".to_owned(),
            (true, false) => scripts.join(", "),
        };
        self.0.note_change(tx, tenant, "set_connection_readers", &format!("{}: {readers}", connection.name)).await
    }
}

/// Whether a connection is for some scripts only, in this transaction.
async fn is_restricted(tx: &mut Tx, tenant: TenantId, connection: &ConnectionRow) -> Result<bool, DbError> {
    let restricted: Option<i64> =
        sqlx::query_scalar("SELECT restricted FROM connection WHERE tenant_id = $1 AND id = $2")
            .bind(tenant.0)
            .bind(connection.id.0)
            .fetch_optional(&mut **tx)
            .await?;
    let unknown = || DbError::Unknown { what: "connection", id: connection.id.0 };
    Ok(restricted.ok_or_else(unknown)? != 0)
}

async fn expect_restricted(tx: &mut Tx, tenant: TenantId, connection: &ConnectionRow) -> Result<(), DbError> {
    if is_restricted(tx, tenant, connection).await? {
        return Ok(());
    }
    let by = "all scripts of the tenant may use it; say first which ones may".to_owned();
    Err(DbError::InUse { what: "connection", name: connection.name.to_string(), by })
}

async fn insert_reader(
    tx: &mut Tx,
    tenant: TenantId,
    connection: ConnectionId,
    script: ScriptId,
) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO connection_grant (tenant_id, connection_id, script_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind(tenant.0)
    .bind(connection.0)
    .bind(script.0)
    .execute(&mut **tx)
    .await
    .map_err(|error| match is_missing_reference(&error) {
        true => DbError::Unknown { what: "script", id: script.0 },
        false => error.into(),
    })?;
    Ok(())
}
