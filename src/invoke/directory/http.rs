//! Allow-lists and HTTP connections of tenants.

use std::{fmt, sync::Arc};

use crate::{
    db::connections::ConnectionKind,
    domain::{
        egress::AllowRule,
        http::{HttpError, HttpErrorCode},
        names::{ConnectionName, ScriptId, TenantId},
    },
    egress::HttpConnection,
    invoke::directory::{Directory, url_context},
};

impl Directory {
    /// The hosts that a tenant's scripts may call.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(crate) async fn find_rules(&self, tenant: TenantId) -> Result<Arc<[AllowRule]>, HttpError> {
        if let Some(rules) = self.rules.get(tenant, &tenant) {
            return Ok(rules);
        }
        let read_at = self.db.now();
        let rows = self.db.egress().list_rules(tenant).await.map_err(|error| {
            tracing::error!(tenant.id = %tenant, %error, "an allow-list cannot be read");
            HttpError::new(HttpErrorCode::NotAllowed, "the tenant's allow-list cannot be read right now")
        })?;
        let rules: Arc<[AllowRule]> = rows.into_iter().map(|row| row.rule).collect();
        self.rules.insert(tenant, read_at, Arc::clone(&rules));
        Ok(rules)
    }

    /// The HTTP connection that a script names.
    ///
    /// # Errors
    /// If the tenant has none of this name that the script may use; the message names those that there are.
    pub(crate) async fn find_http_connection(
        &self,
        tenant: TenantId,
        script: ScriptId,
        name: &str,
    ) -> Result<Arc<HttpConnection>, HttpError> {
        let unknown = async || {
            let message = self.unknown(tenant, script, name, |row| row.kind == ConnectionKind::Http).await;
            HttpError::new(HttpErrorCode::UnknownConnection, message)
        };
        let Ok(name) = name.parse::<ConnectionName>() else { return Err(unknown().await) };
        let key = (tenant, script, name);
        if let Some(known) = self.http_connections.get(tenant, &key) {
            return Ok(known);
        }
        let name = &key.2;
        let read_at = self.db.now();
        let unavailable = |error: &dyn fmt::Display| {
            tracing::error!(tenant.id = %tenant, connection.name = %name, %error, "a connection cannot be read");
            HttpError::new(HttpErrorCode::ConnectFailed, format!("connection `{name}` cannot be used right now"))
        };
        let row = self.db.connections().find_connection_for(tenant, name, script).await;
        let row = row.map_err(|error| unavailable(&error))?;
        let Some(row) = row.filter(|row| row.kind == ConnectionKind::Http) else { return Err(unknown().await) };
        let text = self.vault.unseal(&url_context(row.id), &row.sealed_url).map_err(|error| unavailable(&error))?;
        let text = text.expose_str().map_err(|error| unavailable(&error))?;
        let connection = HttpConnection::from_sealed_text(text).map_err(|error| unavailable(&error))?;
        let connection = Arc::new(connection);
        self.http_connections.insert(key, read_at, Arc::clone(&connection));
        Ok(connection)
    }
}
