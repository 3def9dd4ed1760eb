//! Secrets at rest.
//!
//! Owns: the installation's key and the format of sealed values. Never: knows what is sealed or where it is kept.
//! Invariant: a value opens only with the key and the context that it was sealed with.
//!
//! A sealed value is `format (1 byte) | key id (4) | nonce (24) | ciphertext and tag`, XChaCha20-Poly1305. The first two
//! and the context are authenticated with it. The key id tells which key a value needs, so keys can be rotated one value
//! at a time and a wrong key gets an error that says so. Nonces are random: 192 bits never repeat.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use chacha20poly1305::{
    Key, KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};

pub use crate::domain::secret::Secret; // a vault is asked for secrets: callers need no second import
use crate::vault::key_file::KeyBytes;

mod key_file;

/// First byte of a sealed value.
const FORMAT: u8 = 1;
const KEY_ID_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;
const HEADER_BYTES: usize = 1 + KEY_ID_BYTES;

/// Why a vault cannot be opened or a value not be unsealed. Fault of the host or its operator.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The key file cannot be read or written.
    #[error("cannot {action} the vault key `{path}`: {cause}")]
    KeyFile {
        /// What was tried.
        action: &'static str,
        /// The key file.
        path: PathBuf,
        /// What the operating system says.
        cause: std::io::Error,
    },
    /// Others than the owner may use the key file.
    #[error(
        "the vault key `{path}` can be read or written by others (mode {mode:04o}): run `chmod 600 {path}`, and replace the key if they may have seen it"
    )]
    KeyFileExposed {
        /// The key file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The key is not 32 bytes in hexadecimal. Does not echo it.
    #[error("the vault key from {origin} is not valid: expected 64 hexadecimal digits (32 bytes)")]
    InvalidKey {
        /// The file or environment variable.
        origin: String,
    },
    /// The value is too short or of an unknown format.
    #[error("a sealed value is not in a format that this version knows")]
    UnknownFormat,
    /// The value was sealed with another key.
    #[error(
        "a value is sealed with key {sealed_with}, but the vault holds key {holds}: restore the key file that belongs to this data directory"
    )]
    WrongKey {
        /// Id of the key that the value needs.
        sealed_with: String,
        /// Id of the key that the vault holds.
        holds: String,
    },
    /// The value was changed, or belongs to something else.
    #[error("a sealed value for `{context}` does not open: it was changed, or sealed for something else")]
    Tampered {
        /// What it should have been sealed for.
        context: String,
    },
}

/// Holds the installation's key. Both it and the cipher's copy are overwritten when dropped.
pub struct Vault {
    cipher: XChaCha20Poly1305,
    key_id: [u8; KEY_ID_BYTES],
}

impl Vault {
    /// Opens the vault with `env_key` (64 hexadecimal digits) if given, else with `key_file`, which is created with mode
    /// 0600 when it does not exist. Several processes may do so at once: all get the same key.
    ///
    /// # Errors
    /// The key file cannot be used, others may read it, or the key is not valid.
    pub fn open(key_file: &Path, env_key: Option<Secret>) -> Result<Self, VaultError> {
        let key = match env_key {
            Some(text) => key_file::parse_key(&text, || "the environment variable `PQHOST_VAULT_KEY`".to_owned())?,
            None => key_file::read_or_create(key_file)?,
        };
        Ok(Self::with_key(&key))
    }

    /// Seals `plain`; it opens only with the same `context`, for example `connection:42`.
    ///
    /// # Panics
    /// When the kernel gives no randomness, or for plaintext of more than 256 GiB.
    #[must_use]
    pub fn seal(&self, context: &str, plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).expect("the kernel's random source works on every supported system");
        let header = self.header();
        let aad = associated_data(header, context);
        let ciphertext = self
            .cipher
            .encrypt(XNonce::from_slice(&nonce), Payload { msg: plain, aad: &aad })
            .expect("only a plaintext of 256 GiB and more is refused");
        [&header[..], &nonce, &ciphertext].concat()
    }

    /// Opens what [`Self::seal`] made with the same `context`.
    ///
    /// # Errors
    /// `sealed` is of an unknown format, of another key, changed, or sealed with another context.
    pub fn unseal(&self, context: &str, sealed: &[u8]) -> Result<Secret, VaultError> {
        let Some((header, rest)) = sealed.split_first_chunk::<HEADER_BYTES>() else {
            return Err(VaultError::UnknownFormat);
        };
        let Some((nonce, ciphertext)) = rest.split_first_chunk::<NONCE_BYTES>() else {
            return Err(VaultError::UnknownFormat);
        };
        if header[0] != FORMAT {
            return Err(VaultError::UnknownFormat);
        }
        if header[1..] != self.key_id {
            return Err(VaultError::WrongKey {
                sealed_with: hex::encode(&header[1..]),
                holds: hex::encode(self.key_id),
            });
        }
        let aad = associated_data(*header, context);
        self.cipher
            .decrypt(XNonce::from_slice(nonce), Payload { msg: ciphertext, aad: &aad })
            .map(Secret::from)
            .map_err(|_| VaultError::Tampered { context: context.to_owned() })
    }

    fn with_key(key: &KeyBytes) -> Self {
        let digest = blake3::derive_key("pqhost 2026 vault key id", key.as_ref());
        let key_id = *digest.first_chunk().expect("a digest has 32 bytes");
        Self { cipher: XChaCha20Poly1305::new(Key::from_slice(key.as_ref())), key_id }
    }

    fn header(&self) -> [u8; HEADER_BYTES] {
        let mut header = [FORMAT; HEADER_BYTES];
        header[1..].copy_from_slice(&self.key_id);
        header
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("key_id", &hex::encode(self.key_id)).finish_non_exhaustive()
    }
}

fn associated_data(header: [u8; HEADER_BYTES], context: &str) -> Vec<u8> {
    [&header[..], context.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(fill: u8) -> Vault {
        Vault::with_key(&KeyBytes::new([fill; 32]))
    }

    #[test]
    fn what_was_sealed_opens_in_its_context_only() {
        let vault = vault(7);
        let sealed = vault.seal("connection:1", b"postgres://u:p@h/d");
        assert_eq!(vault.unseal("connection:1", &sealed).unwrap().expose(), b"postgres://u:p@h/d");
        let error = vault.unseal("connection:2", &sealed).unwrap_err();
        assert!(matches!(&error, VaultError::Tampered { context } if context == "connection:2"), "{error}");
    }

    #[test]
    fn sealing_twice_gives_different_values_without_the_plaintext() {
        let vault = vault(7);
        let (one, two) = (vault.seal("c", b"secret-text"), vault.seal("c", b"secret-text"));
        assert_ne!(one, two);
        assert!(!one.windows(6).any(|window| window == b"secret"));
    }

    #[test]
    fn another_key_is_named() {
        let error = vault(8).unseal("c", &vault(7).seal("c", b"x")).unwrap_err();
        assert!(matches!(error, VaultError::WrongKey { .. }), "{error}");
    }

    #[test]
    fn every_changed_or_missing_byte_is_noticed() {
        let vault = vault(7);
        let sealed = vault.seal("c", b"x");
        for i in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[i] ^= 1;
            assert!(vault.unseal("c", &changed).is_err(), "byte {i}");
            assert!(vault.unseal("c", &sealed[..i]).is_err(), "cut at {i}");
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let text = format!("{:?}", vault(0xab));
        assert!(text.starts_with("Vault { key_id: ") && !text.contains("abab") && text.len() < 40, "{text}");
    }

    #[test]
    fn a_key_from_the_environment_needs_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("vault.key");
        let vault = Vault::open(&file, Some(Secret::from("0a".repeat(32)))).unwrap();
        assert!(!file.exists());
        assert_eq!(vault.key_id, Vault::with_key(&KeyBytes::new([0x0a; 32])).key_id);
        let error = Vault::open(&file, Some(Secret::from("tooshort".to_owned()))).unwrap_err().to_string();
        assert!(error.contains("PQHOST_VAULT_KEY") && !error.contains("tooshort"), "{error}");
    }
}
