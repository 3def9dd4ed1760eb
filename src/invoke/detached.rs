//! What an invocation of a script would be given, for a caller outside of any sandbox.

use std::{sync::Arc, time::Instant};

use crate::{
    domain::names::{ScriptId, ScriptName, TenantId, TenantName},
    invoke::{InvokeError, Invoker, script_host::ScriptHost},
    sandbox::outside::{self, Call, OutsideError, Reply},
};

/// Why a call has no reply.
#[derive(Debug, thiserror::Error)]
pub enum DetachedError {
    /// There is no such function, or it takes other arguments.
    #[error(transparent)]
    Outside(#[from] OutsideError),
    /// The call took too long, and with it everything is over: what it did may have been done in part.
    #[error("the call ran longer than {deadline:?}")]
    DeadlineExceeded {
        /// The limit.
        deadline: std::time::Duration,
    },
}

/// The capabilities of a script, whose limits count over all calls. Dropping it rolls back its transactions.
///
/// Dropping a call that has begun leaves it in an unknown state: drop both.
pub struct Detached(ScriptHost);

impl std::fmt::Debug for Detached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detached").field("script", &self.0.script_name).finish_non_exhaustive()
    }
}

impl Detached {
    /// Which script's, of which tenant.
    #[must_use]
    pub fn script(&self) -> (TenantId, ScriptId) {
        (self.0.routes.tenant_id, self.0.script)
    }

    /// Calls a function, which has as long as an invocation.
    ///
    /// # Errors
    /// If there is no reply; see [`DetachedError`].
    pub async fn call(&mut self, call: Call) -> Result<Reply, DetachedError> {
        self.0.started = Instant::now();
        let deadline = self.0.limits.deadline;
        let calling = outside::call(&mut self.0, call);
        let reply =
            tokio::time::timeout(deadline, calling).await.map_err(|_| DetachedError::DeadlineExceeded { deadline })?;
        Ok(reply?)
    }
}

impl Invoker {
    /// What an invocation of this script would be given; `None` if there is no such tenant or script. A version need not be
    /// published.
    ///
    /// # Errors
    /// If the control database fails.
    pub async fn detach(&self, tenant: &TenantName, script: &ScriptName) -> Result<Option<Detached>, InvokeError> {
        let Some(routes) = self.find_routes(tenant).await? else { return Ok(None) };
        let found = self.0.db.scripts().find_script(routes.tenant_id, script).await?;
        let limits = self.0.directory.limits();
        let (cursors, revealed) = (Arc::default(), Arc::default());
        // An author's program has no caller whose rows it could be kept to.
        Ok(found.map(|script| {
            Detached(self.0.script_host(&routes, (script.id, script.name), limits, cursors, revealed, None))
        }))
    }
}
