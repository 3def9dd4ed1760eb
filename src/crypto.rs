//! Cryptography for scripts' libraries.
//!
//! Owns: the algorithms, what each call costs, and limits of keys and parameters. Never: keeps a key, or decides what a
//! script does with one. The host's own cryptography is in `vault` and `auth`.

mod derive;
mod keys;
mod signatures;

use aes::cipher::{BlockDecryptMut as _, BlockEncryptMut as _, KeyIvInit as _, block_padding::NoPadding};

pub(crate) use crate::crypto::{
    derive::{Pbkdf2, Scrypt},
    keys::{KeyKind, PrivateKey, PublicKey},
    signatures::{Scheme, sign, verify},
};

/// Bytes of AES block.
const BLOCK: usize = 16;

/// Fuel for one nanosecond of the host: what guests use in that time.
const FUEL_PER_NS: u64 = 5;

/// A hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CryptoError {
    /// No key, or of a kind that is not supported.
    #[error("{0}")]
    InvalidKey(&'static str),
    /// A length or count that is not allowed.
    #[error("{0}")]
    InvalidArgument(String),
}

/// What AES of so many bytes costs.
pub(crate) fn aes_cost(bytes: usize) -> u64 {
    1_000 * FUEL_PER_NS + bytes as u64 * FUEL_PER_NS
}

/// What hashing a message of so many bytes costs.
fn hash_cost(bytes: usize) -> u64 {
    bytes as u64 * 2 * FUEL_PER_NS
}

/// AES-CBC without padding, in place.
///
/// # Errors
/// If a length is not allowed.
pub(crate) fn aes_cbc(key: &[u8], iv: &[u8], mut data: Vec<u8>, encrypt: bool) -> Result<Vec<u8>, CryptoError> {
    if iv.len() != BLOCK || !data.len().is_multiple_of(BLOCK) {
        return Err(CryptoError::InvalidArgument(
            "AES-CBC needs an IV of 16 bytes and whole blocks of 16 bytes".into(),
        ));
    }
    let bytes = data.len();
    macro_rules! run {
        ($Aes:ty) => {
            if encrypt {
                let cipher = cbc::Encryptor::<$Aes>::new_from_slices(key, iv).expect("both lengths were checked");
                cipher.encrypt_padded_mut::<NoPadding>(&mut data, bytes).expect("whole blocks").len()
            } else {
                let cipher = cbc::Decryptor::<$Aes>::new_from_slices(key, iv).expect("both lengths were checked");
                cipher.decrypt_padded_mut::<NoPadding>(&mut data).expect("whole blocks").len()
            }
        };
    }
    match key.len() {
        16 => run!(aes::Aes128),
        24 => run!(aes::Aes192),
        32 => run!(aes::Aes256),
        _ => return Err(CryptoError::InvalidKey("an AES key has 16, 24 or 32 bytes")),
    };
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NIST SP 800-38A, F.2.1 to F.2.6, first block.
    #[test]
    fn aes_cbc_gives_the_published_results() {
        let plain = "6bc1bee22e409f96e93d7e117393172a";
        let iv = "000102030405060708090a0b0c0d0e0f";
        for (key, cipher) in [
            ("2b7e151628aed2a6abf7158809cf4f3c", "7649abac8119b246cee98e9b12e9197d"),
            ("8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b", "4f021db243bc633d7178183a9fa071e8"),
            ("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", "f58c4c04d6e5f1ba779eabfb5f7bfbd6"),
        ] {
            let (key, iv, plain) = (hex::decode(key).unwrap(), hex::decode(iv).unwrap(), hex::decode(plain).unwrap());
            let encrypted = aes_cbc(&key, &iv, plain.clone(), true).unwrap();
            assert_eq!(hex::encode(&encrypted), cipher);
            assert_eq!(aes_cbc(&key, &iv, encrypted, false).unwrap(), plain);
        }
        assert!(aes_cbc(&[0; 16], &[0; 16], vec![0; 15], true).is_err());
        assert!(aes_cbc(&[0; 16], &[0; 15], vec![0; 16], true).is_err());
        assert!(aes_cbc(&[0; 17], &[0; 16], vec![0; 16], false).is_err());
    }
}
