//! `pq:host/secrets` for guests.

use crate::{
    domain::secret::SecretError,
    sandbox::{bindings::pq::host::secrets, host::Granted},
};

impl secrets::Host for Granted<'_> {
    async fn get(&mut self, name: String) -> wasmtime::Result<Result<String, secrets::Error>> {
        let secret = self.granted()?.get_secret(name).await;
        let text = secret
            .and_then(|secret| secret.expose_str().map(str::to_owned).map_err(|_not_text| SecretError::Unavailable));
        Ok(text.map_err(secrets::Error::from))
    }
}

impl From<SecretError> for secrets::Error {
    fn from(error: SecretError) -> Self {
        let code = match error {
            SecretError::Unknown { .. } => secrets::ErrorCode::UnknownSecret,
            SecretError::TooManyReads { .. } | SecretError::TooLarge { .. } => secrets::ErrorCode::TooManyReads,
            SecretError::Unavailable => secrets::ErrorCode::Unavailable,
        };
        Self { code, message: error.to_string() }
    }
}
