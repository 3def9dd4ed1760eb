//! `pq:host/state` for guests.

use serde_json::value::RawValue;

use crate::{
    domain::{
        names::ScriptId,
        state::{STATE_BYTES_MAX, StateEntry, StateError},
    },
    sandbox::{bindings::pq::host::state, host::Granted},
};

impl state::Host for Granted<'_> {
    async fn get(&mut self, script_id: Option<i64>) -> wasmtime::Result<Result<state::Entry, state::Error>> {
        let entry = self.granted()?.get_state(script_id.map(ScriptId)).await;
        Ok(entry.map(state::Entry::from).map_err(state::Error::from))
    }

    async fn set(
        &mut self,
        script_id: Option<i64>,
        value: Option<String>,
    ) -> wasmtime::Result<Result<(), state::Error>> {
        let capabilities = self.granted()?;
        if let Err(error) = value.as_deref().map_or(Ok(()), check) {
            return Ok(Err(error.into()));
        }
        let written = capabilities.set_state(script_id.map(ScriptId), value).await;
        Ok(written.map_err(state::Error::from))
    }

    async fn compare_and_set(
        &mut self,
        revision: i64,
        value: Option<String>,
    ) -> wasmtime::Result<Result<Option<state::Entry>, state::Error>> {
        let capabilities = self.granted()?;
        if let Err(error) = value.as_deref().map_or(Ok(()), check) {
            return Ok(Err(error.into()));
        }
        let conflict = capabilities.compare_and_set_state(revision, value).await;
        Ok(conflict.map(|entry| entry.map(state::Entry::from)).map_err(state::Error::from))
    }
}

/// Refuses what would not be read back.
fn check(value: &str) -> Result<(), StateError> {
    if value.len() > STATE_BYTES_MAX {
        return Err(StateError::TooLarge { bytes: value.len() });
    }
    match serde_json::from_str::<&RawValue>(value) {
        Ok(_) => Ok(()),
        Err(error) => Err(StateError::NotJson { problem: error.to_string() }),
    }
}

impl From<StateEntry> for state::Entry {
    fn from(entry: StateEntry) -> Self {
        let StateEntry { value, revision } = entry;
        Self { value, revision }
    }
}

impl From<StateError> for state::Error {
    fn from(error: StateError) -> Self {
        let code = match error {
            StateError::UnknownScript { .. } => state::ErrorCode::UnknownScript,
            StateError::TooLarge { .. } | StateError::QuotaUsedUp(_) => state::ErrorCode::TooLarge,
            StateError::TooManyOperations => state::ErrorCode::TooManyOperations,
            // Scripts that use `pq` never see it.
            StateError::NotJson { .. } | StateError::Unavailable => state::ErrorCode::Unavailable,
        };
        Self { code, message: error.to_string() }
    }
}
