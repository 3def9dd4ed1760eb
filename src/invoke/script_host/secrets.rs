//! Secrets, for one invocation.

use std::fmt::Display;

use futures::{FutureExt as _, future::BoxFuture};

use crate::{
    domain::{
        limits::CONTROL_READS_MAX,
        names::SecretName,
        secret::{REVEALED_BYTES_MAX, Secret, SecretError},
        shown,
    },
    invoke::{directory::secret_context, script_host::ScriptHost},
    sandbox::capabilities::SecretAccess,
};

impl ScriptHost {
    /// Counts a query to the control database that the script asked for. Returns whether it may still be made.
    pub(super) fn may_read_control(&mut self) -> bool {
        self.n_control_reads = self.n_control_reads.saturating_add(1);
        self.n_control_reads <= CONTROL_READS_MAX
    }

    async fn read_secret(&mut self, name: String) -> Result<Secret, SecretError> {
        if !self.may_read_control() {
            return Err(SecretError::TooManyReads { limit: CONTROL_READS_MAX });
        }
        let (tenant, script) = (&self.routes.tenant, &self.script_name);
        let unavailable = |error: &dyn Display| {
            tracing::error!(tenant.name = %tenant, script.name = %script, %error, "a secret cannot be read");
            SecretError::Unavailable
        };
        let unknown =
            || SecretError::Unknown { name: shown(&name), script: script.to_string(), tenant: tenant.to_string() };
        let valid: SecretName = name.parse().map_err(|_invalid| unknown())?;
        let found = self.db.secrets().find_secret_for(self.routes.tenant_id, &valid, self.script).await;
        let found = found.map_err(|error| unavailable(&error))?.ok_or_else(unknown)?;
        let secret =
            self.vault.unseal(&secret_context(found.id), &found.sealed).map_err(|error| unavailable(&error))?;
        if !self.revealed.add(&secret) {
            return Err(SecretError::TooLarge { limit: REVEALED_BYTES_MAX });
        }
        Ok(secret)
    }
}

impl SecretAccess for ScriptHost {
    fn get_secret(&mut self, name: String) -> BoxFuture<'_, Result<Secret, SecretError>> {
        self.read_secret(name).boxed()
    }
}
