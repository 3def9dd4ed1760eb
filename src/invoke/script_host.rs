//! What a running script is granted, one file per capability.

mod http;
mod sql;

use std::{sync::Arc, time::Instant};

pub(super) use crate::invoke::script_host::sql::Cursors;
use crate::{
    data::Connections,
    egress::Egress,
    invoke::directory::{Directory, EndpointTarget, TenantRoutes},
    sandbox::capabilities::{Capabilities, ScriptInfo},
};

/// The capabilities of one invocation.
pub(super) struct ScriptHost {
    pub(super) directory: Arc<Directory>,
    pub(super) connections: Arc<Connections>,
    pub(super) routes: Arc<TenantRoutes>,
    pub(super) endpoint: Arc<EndpointTarget>,
    pub(super) cursors: Arc<Cursors>,
    pub(super) n_statements: u32,
    pub(super) egress: Arc<Egress>,
    pub(super) n_requests: u32,
    /// When the handler began.
    pub(super) started: Instant,
}

impl Capabilities for ScriptHost {
    fn describe(&self) -> ScriptInfo {
        ScriptInfo {
            tenant: self.routes.tenant.clone(),
            script_id: self.endpoint.script,
            script_name: self.endpoint.script_name.clone(),
            default_connection: self.routes.default_connection.clone().map(|(id, name)| (id, name.to_string())),
        }
    }
}
