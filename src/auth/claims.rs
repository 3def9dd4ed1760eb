//! What a token must say to be valid here and now.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value};

use crate::auth::{AuthError, invalid};

/// Clocks of issuers and hosts may differ by this much, in seconds.
const LEEWAY_SECONDS: u64 = 60;

/// Latest date that is one, in seconds since 1970: whole numbers up to here are exact in every reader of JSON.
const DATE_MAX: u64 = 1 << 53;

/// What matters of a token's claims once they are checked.
#[derive(Debug)]
pub(super) struct Checked {
    /// Its id, if it has one.
    pub(super) id: Option<Arc<str>>,
    /// Seconds since 1970.
    expires_at: u64,
}

impl Checked {
    /// When the token is valid no longer, in milliseconds since 1970.
    pub(super) fn good_until_ms(&self) -> u64 {
        (self.expires_at + LEEWAY_SECONDS) * 1000
    }
}

/// Checks verified claims. Who issued them is known by the key.
pub(super) fn check(claims: &Map<String, Value>, audience: &str, now: u64) -> Result<Checked, AuthError> {
    let expires_at = date(claims, "exp")?.ok_or(invalid("it never expires"))?;
    if expires_at + LEEWAY_SECONDS <= now {
        return Err(invalid("it has expired"));
    }
    if date(claims, "nbf")?.is_some_and(|not_before| not_before > now + LEEWAY_SECONDS) {
        return Err(invalid("it is not valid yet"));
    }
    date(claims, "iat")?;
    let is_for_us = match claims.get("aud") {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(several)) => {
            several.iter().all(Value::is_string) && several.iter().any(|one| one.as_str() == Some(audience))
        }
        Some(_) | None => false,
    };
    if !is_for_us {
        return Err(invalid("it is for another audience"));
    }
    let id = match claims.get("jti") {
        None => None,
        Some(Value::String(id)) => Some(Arc::from(id.as_str())),
        Some(_) => return Err(invalid("its id is no text")),
    };
    Ok(Checked { id, expires_at })
}

/// A date, in seconds since 1970. RFC 7519 allows fractions.
fn date(claims: &Map<String, Value>, name: &str) -> Result<Option<u64>, AuthError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let whole = || Some(Duration::try_from_secs_f64(value.as_f64()?).ok()?.as_secs());
    let seconds = value.as_u64().or_else(whole).filter(|seconds| *seconds <= DATE_MAX);
    seconds.map(Some).ok_or(invalid("a date in it is none"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn claims_are_valid_here_and_now_or_refused() {
        let expired = Err("it has expired");
        let no_date = Err("a date in it is none");
        let elsewhere = Err("it is for another audience");
        for (claim, value, outcome) in [
            ("exp", json!(NOW), Ok(())),
            ("exp", json!(NOW - 59), Ok(())),
            ("exp", json!(NOW - 60), expired),
            ("exp", json!(NOW as f64 + 0.5), Ok(())),
            ("exp", json!(0), expired),
            ("exp", json!(-1), no_date),
            ("exp", json!(-0.5), no_date),
            ("exp", json!(1e300), no_date),
            ("exp", json!(u64::MAX), no_date),
            ("exp", json!("1800000000"), no_date),
            ("exp", json!(null), no_date),
            ("exp", json!([NOW]), no_date),
            ("nbf", json!(NOW + 60), Ok(())),
            ("nbf", json!(NOW + 61), Err("it is not valid yet")),
            ("nbf", json!("0"), no_date),
            ("iat", json!(NOW + 3600), Ok(())),
            ("iat", json!("today"), no_date),
            ("aud", json!(["other", "acme"]), Ok(())),
            ("aud", json!("other"), elsewhere),
            ("aud", json!("acme "), elsewhere),
            ("aud", json!([]), elsewhere),
            ("aud", json!([["acme"]]), elsewhere),
            ("aud", json!(["acme", 7]), elsewhere),
            ("aud", json!({"acme": 1}), elsewhere),
            ("jti", json!(7), Err("its id is no text")),
            ("jti", json!(null), Err("its id is no text")),
        ] {
            let mut claims = json!({"exp": NOW, "aud": "acme"});
            claims[claim] = value.clone();
            let checked = check(claims.as_object().unwrap(), "acme", NOW);
            let seen = checked.map(drop).map_err(|error| match error {
                AuthError::InvalidToken { reason } => reason,
                other => panic!("{other}"),
            });
            assert_eq!(seen, outcome, "{claim} {value}");
        }
        for (missing, reason) in [("exp", "it never expires"), ("aud", "it is for another audience")] {
            let mut claims = json!({"exp": NOW, "aud": "acme"});
            claims.as_object_mut().unwrap().remove(missing);
            let error = check(claims.as_object().unwrap(), "acme", NOW).unwrap_err();
            assert!(error.to_string().ends_with(reason), "{error}");
        }
    }
}
