//! Keys that tokens are signed and verified with.
//!
//! Owns: the algorithms. Invariant: a key has one algorithm, and verifies by that one only.

use std::sync::Arc;

use ring::{
    hmac,
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{
        self, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaParameters,
        UnparsedPublicKey,
    },
};
use zeroize::Zeroizing;

use crate::{
    auth::AuthError,
    domain::{secret::Secret, signing::KeyAlgorithm},
};

/// Bytes of a new key for HMAC-SHA-256; as many as that makes use of.
const SHARED_BYTES: usize = 32;

/// Moduli that are accepted, in bytes: 2048 to 4096 bits. Longer ones make verifying slow, which callers could abuse.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

/// What a token may be signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Hs256,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    /// As a token's header names it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }
}

impl From<KeyAlgorithm> for Algorithm {
    fn from(algorithm: KeyAlgorithm) -> Self {
        match algorithm {
            KeyAlgorithm::Hs256 => Self::Hs256,
            KeyAlgorithm::Es256 => Self::Es256,
            KeyAlgorithm::EdDsa => Self::EdDsa,
        }
    }
}

/// A key that verifies.
#[derive(Debug, Clone)]
pub(super) struct VerifyingKey {
    algorithm: Algorithm,
    material: Material,
}

#[derive(Debug, Clone)]
enum Material {
    Shared(Arc<Secret>),
    Rsa(&'static RsaParameters, PublicKeyComponents<Vec<u8>>),
    /// A point of a curve.
    Point(UnparsedPublicKey<Vec<u8>>),
}

impl VerifyingKey {
    /// A secret that both signs and verifies, with HMAC-SHA-256.
    pub(super) fn shared(secret: Secret) -> Self {
        Self { algorithm: Algorithm::Hs256, material: Material::Shared(Arc::new(secret)) }
    }

    /// A public key on a curve: an uncompressed point, for Ed25519 its 32 bytes. `None` if that cannot be one of the algorithm.
    pub(super) fn point(algorithm: Algorithm, bytes: Vec<u8>) -> Option<Self> {
        let (verification, length): (&'static dyn signature::VerificationAlgorithm, _) = match algorithm {
            Algorithm::Es256 => (&signature::ECDSA_P256_SHA256_FIXED, 65),
            Algorithm::Es384 => (&signature::ECDSA_P384_SHA384_FIXED, 97),
            Algorithm::EdDsa => (&signature::ED25519, 32),
            Algorithm::Hs256 | Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512 | Algorithm::Ps256 => {
                return None;
            }
        };
        let is_whole = bytes.len() == length;
        is_whole.then(|| Self { algorithm, material: Material::Point(UnparsedPublicKey::new(verification, bytes)) })
    }

    /// A public key of RSA. `None` if its modulus is too short or too long, or the algorithm another one.
    pub(super) fn rsa(algorithm: Algorithm, modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        let parameters = match algorithm {
            Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            Algorithm::Hs256 | Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => return None,
        };
        // As numbers, which begin with no zero.
        let number = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
        let (n, e) = (number(modulus), number(exponent));
        let is_fit = MODULUS_BYTES.contains(&n.len()) && (1..=4).contains(&e.len());
        is_fit.then(|| Self { algorithm, material: Material::Rsa(parameters, PublicKeyComponents { n, e }) })
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether this key has signed the message.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Shared(secret) => {
                hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret.expose()), message, signature).is_ok()
            }
            Material::Rsa(parameters, key) => key.verify(parameters, message, signature).is_ok(),
            Material::Point(key) => key.verify(message, signature).is_ok(),
        }
    }

    /// Whether both are the same key with the same algorithm.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm
            && match (&self.material, &other.material) {
                (Material::Rsa(_, one), Material::Rsa(_, other)) => one.n == other.n && one.e == other.e,
                (Material::Point(one), Material::Point(other)) => one.as_ref() == other.as_ref(),
                (Material::Shared(_) | Material::Rsa(..) | Material::Point(_), _) => false,
            }
    }
}

/// A key that was made.
pub(super) struct NewKey {
    /// To be sealed.
    pub(super) private: Zeroizing<Vec<u8>>,
    /// What others verify with, if there is such a thing.
    pub(super) public: Option<Vec<u8>>,
}

/// Makes a key.
pub(super) fn generate(algorithm: KeyAlgorithm) -> Result<NewKey, AuthError> {
    let failed = |_| AuthError::Signing("no key can be made".to_owned());
    let random = SystemRandom::new();
    match algorithm {
        KeyAlgorithm::Hs256 => {
            let mut private = Zeroizing::new(vec![0; SHARED_BYTES]);
            getrandom::fill(&mut private).map_err(|error| AuthError::Signing(error.to_string()))?;
            Ok(NewKey { private, public: None })
        }
        KeyAlgorithm::Es256 => {
            let private = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).map_err(failed)?;
            let private = Zeroizing::new(private.as_ref().to_vec());
            let public = p256_pair(&private)?.public_key().as_ref().to_vec();
            Ok(NewKey { private, public: Some(public) })
        }
        KeyAlgorithm::EdDsa => {
            let private = Ed25519KeyPair::generate_pkcs8(&random).map_err(failed)?;
            let private = Zeroizing::new(private.as_ref().to_vec());
            let public = ed25519_pair(&private)?.public_key().as_ref().to_vec();
            Ok(NewKey { private, public: Some(public) })
        }
    }
}

/// Signs with a private key that [`generate`] has made.
pub(super) fn sign(algorithm: KeyAlgorithm, private: &Secret, message: &[u8]) -> Result<Vec<u8>, AuthError> {
    let private = private.expose();
    match algorithm {
        KeyAlgorithm::Hs256 => Ok(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, private), message).as_ref().to_vec()),
        KeyAlgorithm::Es256 => {
            let signed = p256_pair(private)?.sign(&SystemRandom::new(), message);
            Ok(signed.map_err(|_| AuthError::Signing("there is no randomness".to_owned()))?.as_ref().to_vec())
        }
        KeyAlgorithm::EdDsa => Ok(ed25519_pair(private)?.sign(message).as_ref().to_vec()),
    }
}

fn p256_pair(private: &[u8]) -> Result<EcdsaKeyPair, AuthError> {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, private, &SystemRandom::new())
        .map_err(|error| AuthError::Signing(error.to_string()))
}

fn ed25519_pair(private: &[u8]) -> Result<Ed25519KeyPair, AuthError> {
    Ed25519KeyPair::from_pkcs8(private).map_err(|error| AuthError::Signing(error.to_string()))
}
