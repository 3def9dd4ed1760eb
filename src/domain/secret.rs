//! Bytes that must not be seen.

use std::fmt;

use zeroize::Zeroizing;

use crate::domain::names::ScriptId;

/// Largest secret of a script, in bytes: key files and service accounts have 2 to 12 KiB.
pub const SECRET_BYTES_MAX: usize = 64 << 10;

/// Bytes of secrets that one invocation may read, each secret counted once: 4 of the largest.
///
/// All of them are redacted from its log, which takes memory and time for each byte.
pub const REVEALED_BYTES_MAX: usize = 4 * SECRET_BYTES_MAX;

/// Shorter secrets are too likely to be part of innocent text to be redacted from logs.
pub const REDACTED_BYTES_MIN: usize = 6;

/// Who may read a secret, when its value is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readers {
    /// As before; for a new secret, all scripts of the tenant.
    Unchanged,
    /// All scripts of the tenant.
    AllScripts,
    /// These scripts.
    Only(Vec<ScriptId>),
}

/// Why a script was not given a secret, in words that its author may read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The tenant has no such secret, or this script may not read it.
    #[error(
        "there is no secret `{name}` that script `{script}` may read: store it with `pqhost secret set {tenant} {name}`, \
         or grant it with `--script {script}`"
    )]
    Unknown {
        /// What the script asked for, escaped and shortened.
        name: String,
        /// The script.
        script: String,
        /// Its tenant.
        tenant: String,
    },
    /// More reads than one invocation may make.
    #[error("the handler may read secrets and metadata {limit} times in one request")]
    TooManyReads {
        /// How many.
        limit: u32,
    },
    /// More bytes than one invocation may read.
    #[error("the handler may read {limit} bytes of secrets in one request; read only those that it needs")]
    TooLarge {
        /// How many.
        limit: usize,
    },
    /// The host cannot read it now.
    #[error("the host cannot read the secret right now; try again")]
    Unavailable,
}

/// A password, key or URL with credentials.
///
/// Has no `Display`, no `Serialize` and a `Debug` that tells nothing; its memory is overwritten when it is dropped.
/// `expose` is the only way in, so that reviewers can search for it.
pub struct Secret(Zeroizing<Vec<u8>>);

/// The secret is not UTF-8, though a text was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret that should be text is not UTF-8")]
pub struct NotText;

impl Secret {
    /// The bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The secret as text.
    ///
    /// # Errors
    /// [`NotText`] when it is not UTF-8.
    pub fn expose_str(&self) -> Result<&str, NotText> {
        std::str::from_utf8(&self.0).map_err(|_| NotText)
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_tells_nothing() {
        assert_eq!(format!("{:?}", Some(Secret::from("hunter2".to_owned()))), "Some(Secret(..))");
    }

    #[test]
    fn only_utf8_is_text() {
        assert_eq!(Secret::from("ü".to_owned()).expose_str(), Ok("ü"));
        assert_eq!(Secret::from(vec![0xff]).expose_str(), Err(NotText));
    }
}
