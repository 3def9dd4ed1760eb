//! Secrets at rest.
//!
//! Owns: the installation's key and the format of sealed values. Never: knows what is sealed or where it is kept.
//! Invariant: a value opens only with the key and the context that it was sealed with.
//!
//! A sealed value is `format (1 byte) | key id (4) | nonce (24) | ciphertext and tag`, XChaCha20-Poly1305. The first two
//! and the context are authenticated with it. The key id tells which key a value needs, so keys can be rotated one value
//! at a time and a wrong key gets an error that says so. Nonces are random: 192 bits never repeat.
//!
//! While the key is being changed there are two: the old one opens what is not sealed anew yet, the new one seals. Several
//! processes may use a data directory meanwhile. So that nothing is sealed with a key that is about to go, values are
//! sealed within the transaction that stores them, and [`Vault::seal`] looks at the key files first.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

use chacha20poly1305::{
    Key, KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};

pub use crate::domain::secret::Secret; // a vault is asked for secrets: callers need no second import
pub use crate::vault::data_key::DataKey;
use crate::vault::key_file::KeyBytes;

mod data_key;
mod key_file;
pub mod stream;
#[cfg(test)]
mod tests;

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
    /// A new key would take the place of one that is there.
    #[error("there is already a file `{path}`")]
    KeyFileExists {
        /// The key file.
        path: PathBuf,
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
    /// The key is to be changed, but it comes from the environment and the new one does not.
    #[error(
        "the vault key comes from the environment: set PQHOST_VAULT_KEY_NEXT to the new key (64 hexadecimal digits), run \
         this again, and then make it PQHOST_VAULT_KEY"
    )]
    NoNextKey,
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

/// Keys from the environment instead of a file.
#[derive(Debug)]
pub struct EnvironmentKeys {
    /// The key, 64 hexadecimal digits.
    pub current: Secret,
    /// The key that takes its place, while it is being changed.
    pub next: Option<Secret>,
}

/// Holds the installation's key. Both it and the cipher's copy are overwritten when dropped.
pub struct Vault {
    /// The first one seals.
    keys: RwLock<Vec<SealingKey>>,
    /// Where keys are read anew; absent if they come from the environment.
    key_file: Option<PathBuf>,
}

/// Keys that a process remembers: the current one, and those before it that values may still be sealed with.
const KEYS_MAX: usize = 4;

#[derive(Clone)]
struct SealingKey {
    id: [u8; KEY_ID_BYTES],
    cipher: XChaCha20Poly1305,
}

impl Vault {
    /// Opens the vault with the keys of the environment if given, else with `key_file`, which is created with mode
    /// 0600 when it does not exist. Several processes may do so at once: all get the same key.
    ///
    /// # Errors
    /// The key file cannot be used, others may read it, or a key is not valid.
    pub fn open(key_file: &Path, environment: Option<EnvironmentKeys>) -> Result<Self, VaultError> {
        let Some(EnvironmentKeys { current, next }) = environment else {
            let keys = key_file::read_or_create(key_file)?;
            return Ok(Self::with_keys(&keys, Some(key_file.to_owned())));
        };
        let mut keys = Vec::new();
        if let Some(next) = next {
            keys.push(key_file::parse_key(&next, || "the environment variable `PQHOST_VAULT_KEY_NEXT`".to_owned())?);
        }
        keys.push(key_file::parse_key(&current, || "the environment variable `PQHOST_VAULT_KEY`".to_owned())?);
        Ok(Self::with_keys(&keys, None))
    }

    /// Seals `plain`; it opens only with the same `context`, for example `connection:42`.
    ///
    /// Call it within the transaction that stores the value: a key that is being changed is noticed here.
    ///
    /// # Panics
    /// When the kernel gives no randomness, or for plaintext of more than 256 GiB.
    #[must_use]
    pub fn seal(&self, context: &str, plain: &[u8]) -> Vec<u8> {
        if let Err(error) = self.refresh() {
            tracing::error!(%error, "the vault key cannot be read again; sealing with the one that is known");
        }
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).expect("the kernel's random source works on every supported system");
        let key = self.keys.read().unwrap_or_else(PoisonError::into_inner)[0].clone();
        let header = header(key.id);
        let aad = associated_data(header, context);
        let ciphertext = key
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
        let [FORMAT, key_id @ ..] = *header else { return Err(VaultError::UnknownFormat) };
        let key = match self.find_key(key_id) {
            Some(key) => key,
            None => {
                self.refresh()?; // another process may have changed the key
                self.find_key(key_id).ok_or_else(|| self.wrong_key(key_id))?
            }
        };
        let aad = associated_data(*header, context);
        key.cipher
            .decrypt(XNonce::from_slice(nonce), Payload { msg: ciphertext, aad: &aad })
            .map(Secret::from)
            .map_err(|_| VaultError::Tampered { context: context.to_owned() })
    }

    /// Checks that the vault holds the key that a value is sealed with, without opening it.
    ///
    /// # Errors
    /// [`VaultError::WrongKey`], or the value is in no known format.
    pub fn expect_key_of(&self, sealed: &[u8]) -> Result<(), VaultError> {
        let Some([FORMAT, key_id @ ..]) = sealed.first_chunk::<HEADER_BYTES>().copied() else {
            return Err(VaultError::UnknownFormat);
        };
        match self.find_key(key_id) {
            Some(_) => Ok(()),
            None => Err(self.wrong_key(key_id)),
        }
    }

    /// Whether a value is sealed with the key that seals now.
    #[must_use]
    pub fn is_current(&self, sealed: &[u8]) -> bool {
        let key = self.keys.read().unwrap_or_else(PoisonError::into_inner)[0].id;
        sealed.starts_with(&header(key))
    }

    /// Begins to change the key: from now on every process that uses this vault seals with a new one. The old one stays
    /// until [`Rotation::finish`]. Where another process is at it, waits until that one is done; after a crash, goes on.
    ///
    /// # Errors
    /// The key files cannot be used, or the key comes from the environment and the new one does not.
    pub fn begin_rotation(&self) -> Result<Rotation<'_>, VaultError> {
        let Some(key_file) = &self.key_file else {
            let n_keys = self.keys.read().unwrap_or_else(PoisonError::into_inner).len();
            return if n_keys < 2 { Err(VaultError::NoNextKey) } else { Ok(Rotation { vault: self, lock: None }) };
        };
        let lock = key_file::lock(key_file)?;
        key_file::create_next(key_file)?;
        self.refresh()?;
        Ok(Rotation { vault: self, lock: Some(lock) })
    }

    /// Reads the key files again. Keys that were known stay known.
    fn refresh(&self) -> Result<(), VaultError> {
        let Some(key_file) = &self.key_file else { return Ok(()) };
        let read = key_file::read_or_create(key_file)?;
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = read.iter().map(SealingKey::new).collect();
        let older: Vec<_> = keys.drain(..).filter(|known| all.iter().all(|key| key.id != known.id)).collect();
        all.extend(older);
        all.truncate(KEYS_MAX);
        *keys = all;
        Ok(())
    }

    fn find_key(&self, id: [u8; KEY_ID_BYTES]) -> Option<SealingKey> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).iter().find(|key| key.id == id).cloned()
    }

    fn wrong_key(&self, needed: [u8; KEY_ID_BYTES]) -> VaultError {
        let holds = self.keys.read().unwrap_or_else(PoisonError::into_inner)[0].id;
        VaultError::WrongKey { sealed_with: hex::encode(needed), holds: hex::encode(holds) }
    }

    fn with_keys(keys: &[KeyBytes], key_file: Option<PathBuf>) -> Self {
        Self { keys: RwLock::new(keys.iter().map(SealingKey::new).collect()), key_file }
    }
}

/// A change of the key that has begun. Dropping it leaves both keys in place.
#[derive(Debug)]
#[must_use = "the old key stays until `finish`"]
pub struct Rotation<'a> {
    vault: &'a Vault,
    /// Held until the end. Absent if keys come from the environment.
    lock: Option<std::fs::File>,
}

impl Rotation<'_> {
    /// Puts the new key in the old one's place. Call it when nothing is sealed with the old key any more.
    ///
    /// # Errors
    /// The key files cannot be changed.
    pub fn finish(self) -> Result<(), VaultError> {
        if let (Some(key_file), Some(_held)) = (&self.vault.key_file, &self.lock) {
            key_file::promote_next(key_file)?;
        }
        Ok(())
    }

    /// Whether the operator must make the new key the current one, because keys come from the environment.
    #[must_use]
    pub fn is_from_environment(&self) -> bool {
        self.lock.is_none()
    }
}

impl SealingKey {
    fn new(key: &KeyBytes) -> Self {
        Self { id: key_id(key), cipher: XChaCha20Poly1305::new(Key::from_slice(key.as_ref())) }
    }
}

/// Names a key without telling it.
fn key_id(key: &KeyBytes) -> [u8; KEY_ID_BYTES] {
    let digest = blake3::derive_key("pqhost 2026 vault key id", key.as_ref());
    *digest.first_chunk().expect("a digest has 32 bytes")
}

fn header(key_id: [u8; KEY_ID_BYTES]) -> [u8; HEADER_BYTES] {
    let mut header = [FORMAT; HEADER_BYTES];
    header[1..].copy_from_slice(&key_id);
    header
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key_id = self.keys.read().unwrap_or_else(PoisonError::into_inner)[0].id;
        f.debug_struct("Vault").field("key_id", &hex::encode(key_id)).finish_non_exhaustive()
    }
}

fn associated_data(header: [u8; HEADER_BYTES], context: &str) -> Vec<u8> {
    [&header[..], context.as_bytes()].concat()
}
