//! Addresses at which versions answer that are not served yet.

use crate::domain::names::TenantName;

/// First segment, below the tenant, of a preview's address. No route of an endpoint begins with it.
pub const PREVIEW_SEGMENT: &str = "_preview";

const TOKEN_BYTES: usize = 16;

/// What makes a preview's address one that nobody guesses.
pub struct PreviewToken(String);

impl PreviewToken {
    /// A new one.
    ///
    /// # Errors
    /// If the machine has no random numbers.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0_u8; TOKEN_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self(hex::encode(bytes)))
    }

    /// The token in an address, if it can be one.
    #[must_use]
    pub fn parse(segment: &str) -> Option<Self> {
        let is_token = segment.len() == 2 * TOKEN_BYTES && segment.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_token.then(|| Self(segment.to_owned()))
    }

    /// As it is stored, in hexadecimal.
    #[must_use]
    pub fn hash(&self) -> String {
        blake3::hash(self.0.as_bytes()).to_hex().to_string()
    }

    /// The address, before a route.
    #[must_use]
    pub fn path(&self, tenant: &TenantName) -> String {
        format!("/{tenant}/{PREVIEW_SEGMENT}/{}", self.0)
    }
}

impl std::fmt::Debug for PreviewToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PreviewToken")
    }
}
