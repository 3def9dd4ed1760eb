//! Keys for many values of one kind: the vault seals the key, the key seals the values.

use std::fmt;

use chacha20poly1305::{
    Key, KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};

use crate::{
    domain::secret::Secret,
    vault::{NONCE_BYTES, VaultError},
};

const KEY_BYTES: usize = 32;

/// A key that is itself sealed by the vault, so that what it seals can stay as it is when the vault's key is replaced.
#[derive(Clone)]
pub struct DataKey(XChaCha20Poly1305);

impl DataKey {
    /// A new key, to be sealed by the vault and then opened with [`Self::open`].
    ///
    /// # Panics
    /// When the kernel gives no randomness.
    #[must_use]
    pub fn generate() -> Secret {
        let mut key = vec![0; KEY_BYTES];
        getrandom::fill(&mut key).expect("the kernel's random source works on every supported system");
        key.into()
    }

    /// The key that [`Self::generate`] made.
    ///
    /// # Errors
    /// It has another length.
    pub fn open(key: &Secret) -> Result<Self, VaultError> {
        let key: &[u8; KEY_BYTES] = key.expose().try_into().map_err(|_| VaultError::UnknownFormat)?;
        Ok(Self(XChaCha20Poly1305::new(Key::from_slice(key))))
    }

    /// Seals `plain`; it opens only with the same `context`.
    ///
    /// # Panics
    /// When the kernel gives no randomness, or for plaintext of more than 256 GiB.
    #[must_use]
    pub fn seal(&self, context: &str, plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).expect("the kernel's random source works on every supported system");
        let payload = Payload { msg: plain, aad: context.as_bytes() };
        let ciphertext = self
            .0
            .encrypt(XNonce::from_slice(&nonce), payload)
            .expect("only a plaintext of 256 GiB and more is refused");
        [&nonce[..], &ciphertext].concat()
    }

    /// Opens what [`Self::seal`] made with the same `context`.
    ///
    /// # Errors
    /// `sealed` was changed, or sealed with another key or context.
    pub fn unseal(&self, context: &str, sealed: &[u8]) -> Result<Secret, VaultError> {
        let Some((nonce, ciphertext)) = sealed.split_first_chunk::<NONCE_BYTES>() else {
            return Err(VaultError::UnknownFormat);
        };
        let payload = Payload { msg: ciphertext, aad: context.as_bytes() };
        let plain = self.0.decrypt(XNonce::from_slice(nonce), payload);
        plain.map(Secret::from).map_err(|_| VaultError::Tampered { context: context.to_owned() })
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_data_key_sealed_opens_with_it_in_its_context_only() {
        let secret = DataKey::generate();
        let (key, other) = (DataKey::open(&secret).unwrap(), DataKey::open(&DataKey::generate()).unwrap());
        let sealed = key.seal("a", b"plain");
        assert_eq!(DataKey::open(&secret).unwrap().unseal("a", &sealed).unwrap().expose(), b"plain");
        assert!(key.unseal("b", &sealed).is_err() && other.unseal("a", &sealed).is_err());
        for n in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[n] ^= 1;
            assert!(key.unseal("a", &changed).is_err() && key.unseal("a", &sealed[..n]).is_err(), "{n}");
        }
        assert!(DataKey::open(&Secret::from(vec![0; 31])).is_err());
        assert_eq!(format!("{key:?}"), "DataKey(..)");
    }
}
