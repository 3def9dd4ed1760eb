//! Changing the vault's key: everything that is sealed is sealed anew.

use crate::{
    app::Workspace,
    auth::key_context,
    db::{DbError, sealed::SealedFor},
    invoke::directory::{recording_key_context, secret_context, url_context},
    vault::{Vault, VaultError},
};

/// Why the key was not changed. What was sealed before opens as before.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The control database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A value does not open, or the key files cannot be used.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotated {
    /// Values that were sealed anew.
    pub n_values: usize,
    /// The operator must make the new key the current one: keys come from the environment.
    pub is_from_environment: bool,
}

impl Workspace {
    /// Changes the vault's key. Hosts may run meanwhile: those with a key file notice the new key by themselves.
    ///
    /// If the process dies in between, both keys are there, everything opens, and the next call goes on.
    ///
    /// # Errors
    /// If a value cannot be sealed anew, or the key cannot be replaced.
    pub async fn rotate_vault_key(&self) -> Result<Rotated, RotationError> {
        let rotation = self.vault.begin_rotation()?;
        let n_values = reseal_all(self).await?;
        let is_from_environment = rotation.is_from_environment();
        rotation.finish()?;
        Ok(Rotated { n_values, is_from_environment })
    }
}

async fn reseal_all(workspace: &Workspace) -> Result<usize, RotationError> {
    let vault = &workspace.vault;
    let resealed = workspace.db.sealed().reseal_all(|value, sealed| reseal(vault, value, sealed)).await?;
    Ok(resealed?)
}

fn reseal(vault: &Vault, value: &SealedFor, sealed: &[u8]) -> Result<Option<Vec<u8>>, VaultError> {
    if vault.is_current(sealed) {
        return Ok(None);
    }
    let context = context(value);
    let plain = vault.unseal(&context, sealed)?;
    Ok(Some(vault.seal(&context, plain.expose())))
}

/// What a value is sealed for, as the vault wants to know it.
pub(super) fn context(value: &SealedFor) -> String {
    match value {
        SealedFor::Connection(id) => url_context(*id),
        SealedFor::SigningKey { tenant, kid } => key_context(*tenant, kid),
        SealedFor::Secret(id) => secret_context(*id),
        SealedFor::RecordingKey(tenant) => recording_key_context(*tenant),
        SealedFor::Check => "vault-check".to_owned(),
    }
}
