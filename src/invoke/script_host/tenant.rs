//! What the tenant has, for one invocation.

use futures::{FutureExt as _, future::BoxFuture};

use crate::{
    db::{
        DbError,
        connections::{ConnectionKind, ConnectionRow},
    },
    domain::limits::CONTROL_READS_MAX,
    invoke::script_host::ScriptHost,
    sandbox::capabilities::{ConnectionInfo, MetadataError, ScriptSummary, TenantMetadata},
};

impl ScriptHost {
    fn count_metadata_read(&mut self) -> Result<(), MetadataError> {
        if self.may_read_control() {
            return Ok(());
        }
        Err(MetadataError(format!(
            "the handler may read secrets and metadata {CONTROL_READS_MAX} times in one request"
        )))
    }

    fn metadata_error(&self, error: &DbError) -> MetadataError {
        tracing::error!(tenant.name = %self.routes.tenant, %error, "metadata of a tenant cannot be read");
        MetadataError("the host cannot read this list right now; try again".to_owned())
    }
}

impl TenantMetadata for ScriptHost {
    fn list_connections(&mut self) -> BoxFuture<'_, Result<Vec<ConnectionInfo>, MetadataError>> {
        async move {
            self.count_metadata_read()?;
            let default = self.routes.default_connection(&self.script_name).map(|(id, _)| id);
            let rows = self.db.connections().list_connections_for(self.routes.tenant_id, self.script).await;
            let rows = rows.map_err(|error| self.metadata_error(&error))?;
            let info = |id, name| ConnectionInfo { id, name, is_default: default == Some(id) };
            let is_told = |row: &ConnectionRow| {
                row.kind != ConnectionKind::Sql || self.rows.as_ref().is_none_or(|rows| rows.names(row.name.as_str()))
            };
            Ok(rows.into_iter().filter(is_told).map(|row| info(row.id, row.name)).collect())
        }
        .boxed()
    }

    fn list_scripts(&mut self) -> BoxFuture<'_, Result<Vec<ScriptSummary>, MetadataError>> {
        async move {
            self.count_metadata_read()?;
            let scripts = self.db.scripts().list_scripts(self.routes.tenant_id).await;
            let scripts = scripts.map_err(|error| self.metadata_error(&error))?;
            let version = |latest: Option<(_, i64)>| latest.map(|(_, number)| number);
            Ok(scripts
                .into_iter()
                .map(|script| ScriptSummary {
                    id: script.id,
                    name: script.name,
                    version: version(script.latest_version),
                })
                .collect())
        }
        .boxed()
    }
}
