//! Signing and verifying.

use p256::ecdsa::signature::hazmat::{PrehashSigner as _, PrehashVerifier as _};
use rsa::{Pkcs1v15Sign, Pss, rand_core::OsRng, traits::PublicKeyParts as _};
use sha1::Sha1;
use sha2::{Digest as _, Sha224, Sha256, Sha384, Sha512};

use crate::crypto::{
    CryptoError, FUEL_PER_NS, Hash, hash_cost,
    keys::{Private, Public},
};

/// How to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    RsaPkcs1v15,
    /// The salt is as long as the hash.
    RsaPss,
    /// Signatures in DER.
    Ecdsa,
}

impl Scheme {
    /// What signing costs: the longest key of this kind that `key`, a PKCS#8 document, can hold.
    pub(crate) fn sign_cost(self, key: &[u8], message: &[u8]) -> u64 {
        let us = match self {
            // A document has some 4.5 bytes for each 8 bits of the modulus; 2048 bits take 4 ms.
            Self::RsaPkcs1v15 | Self::RsaPss => 4_000 * (key.len() as u64).pow(3) / 1_220_u64.pow(3) + 500,
            Self::Ecdsa => 1_500,
        };
        us * 1_000 * FUEL_PER_NS + hash_cost(message.len())
    }

    /// What verifying costs.
    pub(crate) fn verify_cost(self, message: &[u8]) -> u64 {
        1_500_000 * FUEL_PER_NS + hash_cost(message.len())
    }
}

fn digest(hash: Hash, message: &[u8]) -> Vec<u8> {
    match hash {
        Hash::Sha1 => Sha1::digest(message).to_vec(),
        Hash::Sha224 => Sha224::digest(message).to_vec(),
        Hash::Sha256 => Sha256::digest(message).to_vec(),
        Hash::Sha384 => Sha384::digest(message).to_vec(),
        Hash::Sha512 => Sha512::digest(message).to_vec(),
    }
}

fn pkcs1v15(hash: Hash) -> Pkcs1v15Sign {
    match hash {
        Hash::Sha1 => Pkcs1v15Sign::new::<Sha1>(),
        Hash::Sha224 => Pkcs1v15Sign::new::<Sha224>(),
        Hash::Sha256 => Pkcs1v15Sign::new::<Sha256>(),
        Hash::Sha384 => Pkcs1v15Sign::new::<Sha384>(),
        Hash::Sha512 => Pkcs1v15Sign::new::<Sha512>(),
    }
}

fn pss(hash: Hash) -> Pss {
    match hash {
        Hash::Sha1 => Pss::new::<Sha1>(),
        Hash::Sha224 => Pss::new::<Sha224>(),
        Hash::Sha256 => Pss::new::<Sha256>(),
        Hash::Sha384 => Pss::new::<Sha384>(),
        Hash::Sha512 => Pss::new::<Sha512>(),
    }
}

const WRONG_KIND: CryptoError = CryptoError::InvalidKey("the key is of another kind than the algorithm needs");

/// Signs a message with a private key in PKCS#8.
///
/// # Errors
/// If the key is none, of another kind, or too small for the hash.
pub(crate) fn sign(key: &[u8], scheme: Scheme, hash: Hash, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let digest = digest(hash, message);
    let too_small = |_| CryptoError::InvalidKey("the key is too small for this hash");
    match (Private::from_der(key)?, scheme) {
        (Private::Rsa(key), Scheme::RsaPkcs1v15) => {
            // With a random number generator the computation is blinded: it takes a time that says nothing of the key.
            key.sign_with_rng(&mut OsRng, pkcs1v15(hash), &digest).map_err(too_small)
        }
        (Private::Rsa(key), Scheme::RsaPss) => {
            if key.size() < digest.len() * 2 + 2 {
                return Err(CryptoError::InvalidKey("the key is too small for this hash"));
            }
            key.sign_with_rng(&mut OsRng, pss(hash), &digest).map_err(too_small)
        }
        (Private::P256(key), Scheme::Ecdsa) => {
            let signature: Result<p256::ecdsa::Signature, _> = p256::ecdsa::SigningKey::from(key).sign_prehash(&digest);
            Ok(signature.map_err(|_| WRONG_KIND)?.to_der().as_bytes().to_vec())
        }
        (Private::P384(key), Scheme::Ecdsa) => {
            let signature: Result<p384::ecdsa::Signature, _> = p384::ecdsa::SigningKey::from(key).sign_prehash(&digest);
            Ok(signature.map_err(|_| WRONG_KIND)?.to_der().as_bytes().to_vec())
        }
        (Private::Rsa(_), Scheme::Ecdsa)
        | (Private::P256(_) | Private::P384(_), Scheme::RsaPkcs1v15 | Scheme::RsaPss) => Err(WRONG_KIND),
    }
}

/// Whether a signature of a message is that of a public key in `SubjectPublicKeyInfo`.
///
/// # Errors
/// If the key is none or of another kind. A malformed signature is a wrong one.
pub(crate) fn verify(
    key: &[u8],
    scheme: Scheme,
    hash: Hash,
    message: &[u8],
    signature: &[u8],
) -> Result<bool, CryptoError> {
    let digest = digest(hash, message);
    match (Public::from_der(key)?, scheme) {
        (Public::Rsa(key), Scheme::RsaPkcs1v15) => Ok(key.verify(pkcs1v15(hash), &digest, signature).is_ok()),
        (Public::Rsa(key), Scheme::RsaPss) => Ok(key.verify(pss(hash), &digest, signature).is_ok()),
        (Public::P256(key), Scheme::Ecdsa) => {
            let signature = p256::ecdsa::Signature::from_der(signature);
            let key = p256::ecdsa::VerifyingKey::from(key);
            Ok(signature.is_ok_and(|signature| key.verify_prehash(&digest, &signature).is_ok()))
        }
        (Public::P384(key), Scheme::Ecdsa) => {
            let signature = p384::ecdsa::Signature::from_der(signature);
            let key = p384::ecdsa::VerifyingKey::from(key);
            Ok(signature.is_ok_and(|signature| key.verify_prehash(&digest, &signature).is_ok()))
        }
        (Public::Rsa(_), Scheme::Ecdsa) | (Public::P256(_) | Public::P384(_), Scheme::RsaPkcs1v15 | Scheme::RsaPss) => {
            Err(WRONG_KIND)
        }
    }
}
