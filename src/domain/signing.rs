//! What tokens are signed with.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::domain::shown;

/// The algorithm of a tenant's signing key. The key fixes it, never a token's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub enum KeyAlgorithm {
    /// HMAC with SHA-256: only this host can verify.
    #[default]
    #[serde(rename = "HS256")]
    Hs256,
    /// ECDSA on P-256: whoever has the public key can verify.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519: whoever has the public key can verify.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// The text is no [`KeyAlgorithm`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown algorithm `{0}`: use HS256, ES256 or EdDSA")]
pub struct InvalidKeyAlgorithm(String);

impl KeyAlgorithm {
    /// As a token's header names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

impl FromStr for KeyAlgorithm {
    type Err = InvalidKeyAlgorithm;

    fn from_str(text: &str) -> Result<Self, InvalidKeyAlgorithm> {
        [Self::Hs256, Self::Es256, Self::EdDsa]
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| InvalidKeyAlgorithm(shown(text)))
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
