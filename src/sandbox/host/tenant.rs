//! `pq:host/tenant` for guests.

use crate::sandbox::{
    bindings::pq::host::tenant,
    capabilities::{ConnectionInfo, ScriptSummary},
    host::Granted,
};

impl tenant::Host for Granted<'_> {
    async fn list_connections(&mut self) -> wasmtime::Result<Result<Vec<tenant::Connection>, String>> {
        let connections = self.granted()?.list_connections().await;
        let for_guest = |ConnectionInfo { id, name, is_default }| tenant::Connection {
            id: id.0,
            name: String::from(name),
            is_default,
        };
        Ok(connections.map(|all| all.into_iter().map(for_guest).collect()).map_err(|error| error.0))
    }

    async fn list_scripts(&mut self) -> wasmtime::Result<Result<Vec<tenant::Script>, String>> {
        let scripts = self.granted()?.list_scripts().await;
        let for_guest =
            |ScriptSummary { id, name, version }| tenant::Script { id: id.0, name: String::from(name), version };
        Ok(scripts.map(|all| all.into_iter().map(for_guest).collect()).map_err(|error| error.0))
    }
}
