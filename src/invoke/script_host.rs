//! What a running script is granted, one file per capability.

mod http;
mod secrets;
mod sql;
mod state;
mod tenant;

use std::{sync::Arc, time::Instant};

pub(super) use crate::invoke::script_host::sql::{Cursors, Transactions};
use crate::{
    data::Connections,
    db::Db,
    domain::{
        limits::Limits,
        names::{ScriptId, ScriptName},
        quota::UsedUp,
        rows::RowScope,
    },
    egress::Egress,
    invoke::{
        directory::{Directory, TenantRoutes},
        redaction::Revealed,
    },
    sandbox::capabilities::{Capabilities, ScriptInfo},
    vault::Vault,
};

/// The capabilities of one invocation.
pub(super) struct ScriptHost {
    pub(super) db: Db,
    pub(super) directory: Arc<Directory>,
    pub(super) connections: Arc<Connections>,
    pub(super) routes: Arc<TenantRoutes>,
    pub(super) script: ScriptId,
    pub(super) script_name: ScriptName,
    pub(super) limits: Limits,
    pub(super) cursors: Arc<Cursors>,
    pub(super) n_statements: u32,
    pub(super) n_state_operations: u32,
    pub(super) n_control_reads: u32,
    pub(super) vault: Arc<Vault>,
    /// Secrets that the script was given.
    pub(super) revealed: Arc<Revealed>,
    pub(super) transactions: Transactions,
    pub(super) egress: Arc<Egress>,
    pub(super) n_requests: u32,
    /// The rows that the caller may reach, if not all.
    pub(super) rows: Option<Arc<RowScope>>,
    /// When the handler began; outside of a sandbox, when the call did.
    pub(super) started: Instant,
}

impl ScriptHost {
    /// Whether as much is kept for the tenant as may be.
    async fn storage_used_up(&self) -> Option<UsedUp> {
        let Self { db, vault, connections, routes, .. } = self;
        routes.granted.storage_used_up((db, vault, connections), routes.tenant_id).await
    }
}

impl Capabilities for ScriptHost {
    fn describe(&self) -> ScriptInfo {
        ScriptInfo {
            tenant: self.routes.tenant.clone(),
            script_id: self.script,
            script_name: self.script_name.clone(),
            default_connection: self
                .routes
                .default_connection(&self.script_name)
                .map(|(id, name)| (id, name.to_string())),
        }
    }
}
