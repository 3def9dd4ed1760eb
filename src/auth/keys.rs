//! Keys that tokens are signed and verified with.
//!
//! Owns: which keys are accepted. Invariant: a key has one algorithm, and verifies by that one only.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use zeroize::Zeroizing;

use crate::{
    auth::AuthError,
    domain::{secret::Secret, signing::KeyAlgorithm},
};

/// Bytes of a new key for HMAC-SHA-256; as many as that makes use of.
const SHARED_BYTES: usize = 32;

/// Moduli that are accepted, in bytes: 2048 to 4096 bits. Longer ones make verifying slow, which callers could abuse.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

impl From<KeyAlgorithm> for Algorithm {
    fn from(algorithm: KeyAlgorithm) -> Self {
        match algorithm {
            KeyAlgorithm::Hs256 => Self::HS256,
            KeyAlgorithm::Es256 => Self::ES256,
            KeyAlgorithm::EdDsa => Self::EdDSA,
        }
    }
}

/// A key that verifies.
#[derive(Debug, Clone)]
pub(super) struct VerifyingKey {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl VerifyingKey {
    /// A secret that both signs and verifies, with HMAC-SHA-256.
    pub(super) fn shared(secret: &Secret) -> Self {
        Self { algorithm: Algorithm::HS256, key: DecodingKey::from_secret(secret.expose()) }
    }

    /// A public key on a curve: an uncompressed point, for Ed25519 its 32 bytes. `None` if that cannot be one of the algorithm.
    pub(super) fn point(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        let (length, key) = match algorithm {
            Algorithm::ES256 => (65, DecodingKey::from_ec_der(bytes)),
            Algorithm::ES384 => (97, DecodingKey::from_ec_der(bytes)),
            Algorithm::EdDSA => (32, DecodingKey::from_ed_der(bytes)),
            _ => return None,
        };
        (bytes.len() == length).then_some(Self { algorithm, key })
    }

    /// A public key of RSA. `None` if its modulus is too short or too long, or the algorithm another one.
    pub(super) fn rsa(algorithm: Algorithm, modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        // As numbers, which begin with no zero.
        let number = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
        let (n, e) = (number(modulus), number(exponent));
        let is_fit = algorithm.family() == AlgorithmFamily::Rsa
            && MODULUS_BYTES.contains(&n.len())
            && (1..=4).contains(&e.len());
        is_fit.then(|| Self { algorithm, key: DecodingKey::from_rsa_raw_components(&n, &e) })
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether this key has signed the message. The signature is in base64.
    pub(super) fn verifies(&self, message: &str, signature: &str) -> Result<bool, jsonwebtoken::errors::Error> {
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), &self.key, self.algorithm)
    }

    /// Whether both are the same public key with the same algorithm.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        use DecodingKeyKind::{RsaModulusExponent, SecretOrDer};
        self.algorithm == other.algorithm
            && match (self.key.kind(), other.key.kind()) {
                (RsaModulusExponent { n, e }, RsaModulusExponent { n: other_n, e: other_e }) => {
                    n == other_n && e == other_e
                }
                (SecretOrDer(one), SecretOrDer(other)) => one == other,
                (RsaModulusExponent { .. } | SecretOrDer(_), _) => false,
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
    match algorithm {
        KeyAlgorithm::Hs256 => {
            let mut private = Zeroizing::new(vec![0; SHARED_BYTES]);
            getrandom::fill(&mut private).map_err(|error| AuthError::Signing(error.to_string()))?;
            Ok(NewKey { private, public: None })
        }
        KeyAlgorithm::Es256 => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?;
            let private = pair.to_pkcs8v1().map_err(failed)?;
            Ok(NewKey {
                private: Zeroizing::new(private.as_ref().to_vec()),
                public: Some(pair.public_key().as_ref().to_vec()),
            })
        }
        KeyAlgorithm::EdDsa => {
            let pair = Ed25519KeyPair::generate().map_err(failed)?;
            let private = pair.to_pkcs8().map_err(failed)?;
            Ok(NewKey {
                private: Zeroizing::new(private.as_ref().to_vec()),
                public: Some(pair.public_key().as_ref().to_vec()),
            })
        }
    }
}

/// The key to sign with, of a private key that [`generate`] has made.
pub(super) fn signing_key(algorithm: KeyAlgorithm, private: &Secret) -> EncodingKey {
    match algorithm {
        KeyAlgorithm::Hs256 => EncodingKey::from_secret(private.expose()),
        KeyAlgorithm::Es256 => EncodingKey::from_ec_der(private.expose()),
        KeyAlgorithm::EdDsa => EncodingKey::from_ed_der(private.expose()),
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

    use super::*;

    #[test]
    fn keys_that_ring_has_made_sign() {
        // Control databases hold such keys from when ring made them. Key and signature are those of RFC 8032, 7.1, test 1.
        let private = "3051020101300506032b6570042204209d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60\
                       812100d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let signature = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b\
                         d25bf5f0595bbe24655141438e7a100b";
        let key = signing_key(KeyAlgorithm::EdDsa, &Secret::from(hex::decode(private).unwrap()));
        let signed = jsonwebtoken::crypto::sign(b"", &key, Algorithm::EdDSA).unwrap();
        assert_eq!(hex::encode(BASE64_URL_SAFE_NO_PAD.decode(signed).unwrap()), signature);
    }
}
