//! Sets of public keys (RFC 7517): a tenant's own, for others, and others', for us.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{auth::keys::VerifyingKey, domain::signing::KeyAlgorithm};

/// Keys of one set. Large providers publish up to ten.
pub(super) const KEYS_MAX: usize = 100;

/// Longest name of a key, in bytes. Common are 20 to 64.
const KID_BYTES_MAX: usize = 256;

/// Members of a key that only its owner may know.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// A tenant's key as others may know it; `None` for a shared secret.
pub(super) fn public_key(kid: &str, algorithm: KeyAlgorithm, public: Option<&[u8]>) -> Option<Value> {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    match (algorithm, public?) {
        (KeyAlgorithm::Hs256, _) => None,
        // 4, x, y: a point that is not compressed.
        (KeyAlgorithm::Es256, [4, xy @ ..]) if xy.len() == 64 => {
            let (x, y) = xy.split_at(32);
            Some(
                json!({"kid": kid, "use": "sig", "alg": algorithm, "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)}),
            )
        }
        (KeyAlgorithm::Es256, _) => None,
        (KeyAlgorithm::EdDsa, x) => {
            Some(json!({"kid": kid, "use": "sig", "alg": algorithm, "kty": "OKP", "crv": "Ed25519", "x": encode(x)}))
        }
    }
}

/// The keys of an issuer that tokens may be signed with.
#[derive(Debug)]
pub(super) struct IssuerKeys {
    named: BTreeMap<String, VerifyingKey>,
    /// The only key of the set, whether it has a name or not.
    only: Option<VerifyingKey>,
}

/// Why a text is no set of keys. For logs: callers never see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidKeySet {
    #[error("what came is no JSON object with `keys`")]
    NotJson,
    #[error("the set has more than {KEYS_MAX} keys")]
    TooMany,
    #[error("no key of the set can verify a token")]
    Unusable,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

impl IssuerKeys {
    /// Reads a set. Keys that are for something else, of an unknown kind, secret, or published with their private part are left
    /// out; so are all keys of a name that stands for different ones.
    pub(super) fn read(json: &[u8]) -> Result<Self, InvalidKeySet> {
        let Set { keys } = serde_json::from_slice(json).map_err(|_| InvalidKeySet::NotJson)?;
        if keys.len() > KEYS_MAX {
            return Err(InvalidKeySet::TooMany);
        }
        let mut usable: Vec<(Option<&str>, VerifyingKey)> = Vec::new();
        for jwk in &keys {
            let Some(key) = verifying_key(jwk) else { continue };
            let kid = jwk["kid"].as_str();
            if kid.is_some_and(|kid| kid.len() > KID_BYTES_MAX) {
                continue;
            }
            if !usable.iter().any(|(known, other)| *known == kid && other.is_same(&key)) {
                usable.push((kid, key));
            }
        }
        let is_ambiguous = |kid: &str| usable.iter().filter(|(known, _)| *known == Some(kid)).count() > 1;
        let named = usable.iter().filter_map(|(kid, key)| Some(((*kid)?, key)));
        let named = named.filter(|(kid, _)| !is_ambiguous(kid)).map(|(kid, key)| (kid.to_owned(), key.clone()));
        let named = named.collect();
        let only = match usable.as_slice() {
            [] => return Err(InvalidKeySet::Unusable),
            [(_, only)] => Some(only.clone()),
            [_, ..] => None,
        };
        Ok(Self { named, only })
    }

    /// The key of this name; without a name, the only one.
    pub(super) fn find(&self, kid: Option<&str>) -> Option<&VerifyingKey> {
        match kid {
            Some(kid) => self.named.get(kid),
            None => self.only.as_ref(),
        }
    }
}

/// The key that a JWK describes, if it is one that tokens may be signed with.
fn verifying_key(jwk: &Value) -> Option<VerifyingKey> {
    if PRIVATE.iter().any(|member| jwk.get(member).is_some()) {
        return None;
    }
    if jwk.get("use").is_some_and(|usage| usage != "sig") {
        return None;
    }
    if jwk.get("key_ops").is_some_and(|operations| {
        operations.as_array().is_none_or(|operations| operations.iter().all(|operation| operation != "verify"))
    }) {
        return None;
    }
    let text = |member: &str| jwk.get(member).and_then(Value::as_str);
    let bytes = |member: &str| URL_SAFE_NO_PAD.decode(text(member)?.trim_end_matches('=')).ok();
    // What the key says it is for; else what keys of its kind are for.
    let named = match jwk.get("alg") {
        Some(alg) => Some(alg.as_str()?),
        None => None,
    };
    let among = |algorithms: &[Algorithm]| match named {
        Some(named) => named.parse().ok().filter(|algorithm| algorithms.contains(algorithm)),
        None => algorithms.first().copied(),
    };
    let point = |algorithm, length: usize| {
        let (x, y) = (bytes("x")?, bytes("y")?);
        (x.len() == length && y.len() == length).then_some(())?;
        VerifyingKey::point(algorithm, &[&[4], x.as_slice(), y.as_slice()].concat())
    };
    match (text("kty")?, text("crv")) {
        ("RSA", None) => {
            use Algorithm::{PS256, RS256, RS384, RS512};
            VerifyingKey::rsa(among(&[RS256, RS384, RS512, PS256])?, &bytes("n")?, &bytes("e")?)
        }
        ("EC", Some("P-256")) => point(among(&[Algorithm::ES256])?, 32),
        ("EC", Some("P-384")) => point(among(&[Algorithm::ES384])?, 48),
        ("OKP", Some("Ed25519")) => VerifyingKey::point(among(&[Algorithm::EdDSA])?, &bytes("x")?),
        _ => None,
    }
}
