//! The text of a token: JSON Web Signature, compact (RFC 7515), with claims (RFC 7519).
//!
//! Owns: which texts are read, more strictly than `jsonwebtoken` does, which signs and verifies them. Never: chooses a key.
//! Invariants: claims come out of here only once a key has verified them; nothing in a header but `alg`, `kid`, `typ` and `crit`
//! is looked at, so no token brings or names the place of a key.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Header;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::{
    auth::{
        AuthError, invalid,
        keys::{self, VerifyingKey},
    },
    domain::{secret::Secret, signing::KeyAlgorithm},
};

/// Kinds of tokens (`typ`) that are for presenting to an API. Others, such as log-out tokens, are of the same issuers and for
/// something else (RFC 8725, 3.11).
const TYPES: [&str; 4] = ["jwt", "application/jwt", "at+jwt", "application/at+jwt"];

/// A token that nobody has verified.
#[derive(Debug)]
pub(super) struct Unverified<'a> {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    /// What the signature is of.
    signed: &'a str,
    /// In base64.
    signature: &'a str,
}

impl<'a> Unverified<'a> {
    /// Reads a token.
    pub(super) fn read(text: &'a str) -> Result<Self, AuthError> {
        let (signed, signature) = text.rsplit_once('.').ok_or(invalid("it has no signature"))?;
        let (header, claims) = signed.split_once('.').ok_or(invalid("it has too few parts"))?;
        let header = object(header).ok_or(invalid("its header is malformed"))?;
        let claims = object(claims).ok_or(invalid("its claims are malformed"))?;
        if header.contains_key("crit") {
            return Err(invalid("its header has extensions that must be understood"));
        }
        match header.get("typ") {
            None => {}
            Some(Value::String(typ)) if TYPES.iter().any(|known| known.eq_ignore_ascii_case(typ)) => {}
            Some(_) => return Err(invalid("it is a token for something else")),
        }
        if !header.get("kid").is_none_or(Value::is_string) {
            return Err(invalid("its header is malformed"));
        }
        Ok(Self { header, claims, signed, signature })
    }

    /// Bytes of its text.
    pub(super) fn bytes(&self) -> usize {
        self.signed.len() + self.signature.len()
    }

    /// Which key it says that it is signed with.
    pub(super) fn kid(&self) -> Option<&str> {
        self.header.get("kid").and_then(Value::as_str)
    }

    /// Who it says that it is of.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }

    /// Its claims, if this key has signed it.
    pub(super) fn verify(self, key: &VerifyingKey) -> Result<Map<String, Value>, AuthError> {
        let algorithm = self.header.get("alg").and_then(Value::as_str).and_then(|name| name.parse().ok());
        if algorithm != Some(key.algorithm()) {
            return Err(invalid("it is signed with another algorithm"));
        }
        if !key.verifies(self.signed, self.signature).map_err(|_| invalid("its signature is malformed"))? {
            return Err(invalid("its signature is wrong"));
        }
        Ok(self.claims)
    }
}

/// Signs claims with a tenant's key.
pub(super) fn sign(
    algorithm: KeyAlgorithm,
    kid: &str,
    private: &Secret,
    claims: &Map<String, Value>,
) -> Result<String, AuthError> {
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(algorithm.into()) };
    jsonwebtoken::encode(&header, claims, &keys::signing_key(algorithm, private))
        .map_err(|error| AuthError::Signing(error.to_string()))
}

/// The JSON object of a part.
fn object(part: &str) -> Option<Map<String, Value>> {
    let json = URL_SAFE_NO_PAD.decode(part).ok()?;
    let Unambiguous(object) = serde_json::from_slice(&json).ok()?;
    Some(object)
}

/// An object that says nothing twice: of two claims with one name, others may believe the other one.
struct Unambiguous(Map<String, Value>);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Unambiguous;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Unambiguous, A::Error> {
                let mut object = Map::new();
                while let Some((name, value)) = members.next_entry::<String, Value>()? {
                    if object.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name is used twice"));
                    }
                }
                Ok(Unambiguous(object))
            }
        }

        deserializer.deserialize_map(Members)
    }
}
