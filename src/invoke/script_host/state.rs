//! What the script remembers, for one invocation.

use futures::{FutureExt as _, future::BoxFuture};

use crate::{
    db::DbError,
    domain::{
        names::ScriptId,
        state::{STATE_OPERATIONS_MAX, StateEntry, StateError},
    },
    invoke::script_host::ScriptHost,
    sandbox::capabilities::StateAccess,
};

impl ScriptHost {
    /// Counts an operation and names the script whose state it is about.
    fn state_operation(&mut self, script: Option<ScriptId>) -> Result<ScriptId, StateError> {
        if self.n_state_operations >= STATE_OPERATIONS_MAX {
            return Err(StateError::TooManyOperations);
        }
        self.n_state_operations += 1;
        Ok(script.unwrap_or(self.script))
    }

    fn state_error(&self, error: &DbError) -> StateError {
        if let DbError::Unknown { id, .. } = error {
            return StateError::UnknownScript { id: *id };
        }
        let (tenant, script) = (&self.routes.tenant, &self.script_name);
        tracing::error!(tenant.name = %tenant, script.name = %script, %error, "state of a script cannot be read or written");
        StateError::Unavailable
    }

    /// Refuses to keep more, if as much is kept as may be. Clearing is always possible.
    async fn check_room(&self, value: Option<&str>) -> Result<(), StateError> {
        match self.storage_used_up().await {
            Some(used_up) if value.is_some() => Err(StateError::QuotaUsedUp(used_up)),
            Some(_) | None => Ok(()),
        }
    }

    async fn read_state(&self, script: ScriptId) -> Result<StateEntry, StateError> {
        let found = self.db.state().find_state(self.routes.tenant_id, script).await;
        found.map_err(|error| self.state_error(&error))?.ok_or(StateError::UnknownScript { id: script.0 })
    }
}

impl StateAccess for ScriptHost {
    fn get_state(&mut self, script: Option<ScriptId>) -> BoxFuture<'_, Result<StateEntry, StateError>> {
        async move {
            let script = self.state_operation(script)?;
            self.read_state(script).await
        }
        .boxed()
    }

    fn set_state(&mut self, script: Option<ScriptId>, value: Option<String>) -> BoxFuture<'_, Result<(), StateError>> {
        async move {
            let script = self.state_operation(script)?;
            self.check_room(value.as_deref()).await?;
            let written = self.db.state().set_state(self.routes.tenant_id, script, value.as_deref()).await;
            written.map_err(|error| self.state_error(&error))
        }
        .boxed()
    }

    fn compare_and_set_state(
        &mut self,
        revision: i64,
        value: Option<String>,
    ) -> BoxFuture<'_, Result<Option<StateEntry>, StateError>> {
        async move {
            let script = self.state_operation(None)?;
            self.check_room(value.as_deref()).await?;
            let tenant = self.routes.tenant_id;
            let written = self.db.state().compare_and_set_state(tenant, script, revision, value.as_deref()).await;
            match written.map_err(|error| self.state_error(&error))? {
                true => Ok(None),
                false => self.read_state(script).await.map(Some),
            }
        }
        .boxed()
    }
}
