//! Reading keys.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use p256::elliptic_curve::sec1::ToEncodedPoint as _;
use rsa::{
    RsaPrivateKey, RsaPublicKey,
    pkcs1::{DecodeRsaPrivateKey as _, DecodeRsaPublicKey as _},
    pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _},
    traits::PublicKeyParts as _,
};
use zeroize::Zeroizing;

use crate::crypto::{CryptoError, FUEL_PER_NS};

/// Largest key as PEM or DER, in bytes. One of RSA with 4096 bits has 3,300.
const KEY_BYTES_MAX: usize = 8 << 10;

/// Longest modulus: signing with twice the bits takes eight times as long.
pub(super) const RSA_BITS_MAX: usize = 4096;

/// Kinds of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyKind {
    Rsa,
    P256,
    P384,
}

/// A public key in one form, with its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublicKey {
    pub(crate) kind: KeyKind,
    /// `SubjectPublicKeyInfo`.
    pub(crate) der: Vec<u8>,
    /// Modulus, or x.
    pub(crate) first: Vec<u8>,
    /// Exponent, or y.
    pub(crate) second: Vec<u8>,
}

/// A private key in one form.
pub(crate) struct PrivateKey {
    /// PKCS#8.
    pub(crate) der: Zeroizing<Vec<u8>>,
    pub(crate) public: PublicKey,
}

/// A private key, ready to use.
pub(super) enum Private {
    Rsa(Box<RsaPrivateKey>),
    P256(p256::SecretKey),
    P384(p384::SecretKey),
}

/// A public key, ready to use.
pub(super) enum Public {
    Rsa(Box<RsaPublicKey>),
    P256(p256::PublicKey),
    P384(p384::PublicKey),
}

const NO_PUBLIC_KEY: CryptoError =
    CryptoError::InvalidKey("the data is no public key: RSA up to 4096 bits, P-256 and P-384 are supported");
const NO_PRIVATE_KEY: CryptoError =
    CryptoError::InvalidKey("the data is no private key: RSA up to 4096 bits, P-256 and P-384 are supported");

impl PublicKey {
    /// What reading any key costs.
    pub(crate) fn load_cost() -> u64 {
        1_000_000 * FUEL_PER_NS
    }

    /// Reads PEM or DER.
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`].
    pub(crate) fn load(data: &[u8]) -> Result<Self, CryptoError> {
        let (_, der) = decode(data)?;
        Public::from_der(&der)?.describe()
    }
}

impl PrivateKey {
    /// What reading any key costs.
    pub(crate) fn load_cost() -> u64 {
        2_000_000 * FUEL_PER_NS
    }

    /// Reads PEM or DER.
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`].
    pub(crate) fn load(data: &[u8]) -> Result<Self, CryptoError> {
        let (label, der) = decode(data)?;
        if label == ENCRYPTED {
            return Err(CryptoError::InvalidKey("the private key is encrypted, which is not supported"));
        }
        let key = Private::from_der(&der)?;
        let der = match &key {
            Private::Rsa(key) => key.to_pkcs8_der(),
            Private::P256(key) => key.to_pkcs8_der(),
            Private::P384(key) => key.to_pkcs8_der(),
        };
        let der = Zeroizing::new(der.map_err(|_| NO_PRIVATE_KEY)?.as_bytes().to_vec());
        Ok(Self { der, public: key.public().describe()? })
    }
}

impl Private {
    /// Reads PKCS#8, PKCS#1 or SEC1.
    pub(super) fn from_der(der: &[u8]) -> Result<Self, CryptoError> {
        if der.len() > KEY_BYTES_MAX {
            return Err(NO_PRIVATE_KEY);
        }
        let rsa = RsaPrivateKey::from_pkcs8_der(der).or_else(|_| RsaPrivateKey::from_pkcs1_der(der));
        if let Ok(key) = rsa {
            return if key.n().bits() <= RSA_BITS_MAX { Ok(Self::Rsa(Box::new(key))) } else { Err(NO_PRIVATE_KEY) };
        }
        if let Ok(key) = p256::SecretKey::from_pkcs8_der(der) {
            return Ok(Self::P256(key));
        }
        if let Ok(key) = p384::SecretKey::from_pkcs8_der(der) {
            return Ok(Self::P384(key));
        }
        // SEC1 names the curve in an optional field only; a key of the other curve has another length.
        if let Ok(key) = p256::SecretKey::from_sec1_der(der) {
            return Ok(Self::P256(key));
        }
        p384::SecretKey::from_sec1_der(der).map(Self::P384).map_err(|_| NO_PRIVATE_KEY)
    }

    fn public(&self) -> Public {
        match self {
            Self::Rsa(key) => Public::Rsa(Box::new(key.to_public_key())),
            Self::P256(key) => Public::P256(key.public_key()),
            Self::P384(key) => Public::P384(key.public_key()),
        }
    }
}

impl Public {
    /// Reads `SubjectPublicKeyInfo` or PKCS#1.
    pub(super) fn from_der(der: &[u8]) -> Result<Self, CryptoError> {
        if der.len() > KEY_BYTES_MAX {
            return Err(NO_PUBLIC_KEY);
        }
        let rsa = RsaPublicKey::from_public_key_der(der).or_else(|_| RsaPublicKey::from_pkcs1_der(der));
        if let Ok(key) = rsa {
            return if key.n().bits() <= RSA_BITS_MAX { Ok(Self::Rsa(Box::new(key))) } else { Err(NO_PUBLIC_KEY) };
        }
        if let Ok(key) = p256::PublicKey::from_public_key_der(der) {
            return Ok(Self::P256(key));
        }
        p384::PublicKey::from_public_key_der(der).map(Self::P384).map_err(|_| NO_PUBLIC_KEY)
    }

    fn describe(&self) -> Result<PublicKey, CryptoError> {
        let (kind, der, first, second) = match self {
            Self::Rsa(key) => (KeyKind::Rsa, key.to_public_key_der(), key.n().to_bytes_be(), key.e().to_bytes_be()),
            Self::P256(key) => {
                let point = key.to_encoded_point(false);
                let (x, y) = point.x().zip(point.y()).ok_or(NO_PUBLIC_KEY)?;
                (KeyKind::P256, key.to_public_key_der(), x.to_vec(), y.to_vec())
            }
            Self::P384(key) => {
                let point = key.to_encoded_point(false);
                let (x, y) = point.x().zip(point.y()).ok_or(NO_PUBLIC_KEY)?;
                (KeyKind::P384, key.to_public_key_der(), x.to_vec(), y.to_vec())
            }
        };
        Ok(PublicKey { kind, der: der.map_err(|_| NO_PUBLIC_KEY)?.into_vec(), first, second })
    }
}

/// What an encrypted key is labelled, whatever the form of its PEM.
const ENCRYPTED: &str = "ENCRYPTED";

/// The label and the content of PEM; DER as it is, with an empty label.
fn decode(data: &[u8]) -> Result<(String, Zeroizing<Vec<u8>>), CryptoError> {
    const BEGIN: &str = "-----BEGIN ";
    let invalid = CryptoError::InvalidKey("the data is neither PEM nor DER of a key");
    if data.len() > KEY_BYTES_MAX {
        return Err(invalid);
    }
    if data.first() == Some(&0x30) {
        return Ok((String::new(), Zeroizing::new(data.to_vec())));
    }
    let text = std::str::from_utf8(data).map_err(|_| invalid.clone())?;
    let (_, rest) = text.split_once(BEGIN).ok_or_else(|| invalid.clone())?;
    let (label, rest) = rest.split_once("-----").ok_or_else(|| invalid.clone())?;
    let (body, _) = rest.split_once("-----END ").ok_or_else(|| invalid.clone())?;
    if label.contains(ENCRYPTED) || body.contains(ENCRYPTED) {
        return Ok((ENCRYPTED.to_owned(), Zeroizing::default()));
    }
    let body: Zeroizing<String> = Zeroizing::new(body.split_ascii_whitespace().collect());
    let der = STANDARD.decode(body.as_bytes()).map_err(|_| invalid)?;
    Ok((label.to_owned(), Zeroizing::new(der)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_key_is_refused_in_words() {
        for (data, text) in [
            (&b""[..], "neither PEM nor DER"),
            (b"secret", "neither PEM nor DER"),
            (b"\x30\x03\x02\x01\x00", "no private key"),
            (b"-----BEGIN PRIVATE KEY-----\n*\n-----END PRIVATE KEY-----", "neither PEM nor DER"),
            (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "no private key"),
            (b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----", "encrypted"),
            (
                b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----",
                "encrypted",
            ),
            (&[0x30; KEY_BYTES_MAX + 1], "neither PEM nor DER"),
        ] {
            let error = PrivateKey::load(data).err().unwrap().to_string();
            assert!(error.contains(text), "{error}");
            assert!(PublicKey::load(data).is_err());
        }
    }
}
