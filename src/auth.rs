//! Who is calling: tokens (JWT) and keys of tenants' callers; users, passwords and API tokens of the control API (`people`).
//!
//! Owns: issuing and verifying tokens, the tenants' signing keys, passwords. Never: decides which endpoints need a token (see `ingress`).
//! Invariants: the key fixes the algorithm, never the token's header; a token whose row is missing or revoked is refused.

pub mod keys;
pub mod people;
#[cfg(test)]
mod tests;
mod throttle;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::HeaderValue;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    auth::keys::ConsumerKeys,
    db::{
        Db, DbError,
        signing_keys::SigningKey,
        tokens::{EndpointsOfRoute, NewToken},
    },
    domain::{
        exchange::TokenBearer,
        names::{EndpointId, TenantId, TenantName},
        rows::Unresolved,
        secret::Secret,
    },
    vault::{Vault, VaultError},
};

/// Longest token that is looked at, in bytes; ours have about 350.
const TOKEN_BYTES_MAX: usize = 8 << 10;

/// Clocks of issuers and hosts may differ by this much, in seconds.
const LEEWAY_SECONDS: u64 = 60;

/// Verified tokens that are remembered. One takes about 1 KB.
const CACHED_MAX: u64 = 50_000;

/// A remembered token is verified anew after this time, in case its revocation went unnoticed.
const CACHED_FOR: Duration = Duration::from_secs(60);

/// Bytes of a new signing key; as many as HMAC-SHA-256 makes use of.
const KEY_BYTES: usize = 32;

const ISSUER: &str = "pqhost";

/// Why a token is not issued or not accepted. Callers see the same for all of the first three.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// There is no `Authorization` field, or none of a scheme that is known here.
    #[error("no token was sent")]
    MissingToken,
    /// The token is not valid here and now.
    #[error("the token is not valid: {reason}")]
    InvalidToken {
        /// For logs.
        reason: &'static str,
    },
    /// The token is for another endpoint.
    #[error("the token is for another endpoint")]
    TokenNotForEndpoint,
    /// No consumer key was sent where one is needed.
    #[error("no consumer key was sent")]
    MissingKey,
    /// The consumer key is not valid here and now.
    #[error("the consumer key is not valid: {reason}")]
    InvalidKey {
        /// For logs.
        reason: &'static str,
    },
    /// The consumer key is for other endpoints or methods.
    #[error("the consumer key is for another endpoint or method")]
    KeyNotForEndpoint,
    /// A row filter has no value for the caller, who may then reach no rows at all. The text is for logs.
    #[error(transparent)]
    NoRows(#[from] Unresolved),
    /// The lifetime is beyond what a date can hold.
    #[error("the token cannot be valid that long")]
    InvalidExpiry,
    /// The control database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A signing key cannot be used.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Signing failed.
    #[error("signing a token: {0}")]
    Signing(String),
}

const fn invalid(reason: &'static str) -> AuthError {
    AuthError::InvalidToken { reason }
}

/// What a new token may do.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// For people.
    pub name: String,
    /// How long it is valid.
    pub expires_in: Duration,
    /// The only endpoints it is for; all of the tenant's if absent.
    pub only: Option<EndpointsOfRoute>,
}

/// A new token. Its text is not kept anywhere.
#[derive(Debug)]
pub struct IssuedToken {
    /// To revoke it by.
    pub id: String,
    /// To be handed to the caller.
    pub text: Secret,
    /// Milliseconds since 1970.
    pub expires_at_ms: i64,
}

/// A token that was found valid.
#[derive(Debug, Clone)]
pub struct VerifiedToken {
    /// Its id.
    pub id: Arc<str>,
    /// Its claims.
    pub claims: Arc<Map<String, Value>>,
    tenant: TenantId,
    /// The only endpoints it is for, if not all.
    only: Option<Arc<[EndpointId]>>,
    expires_at: u64,
}

impl VerifiedToken {
    /// Who presented it.
    #[must_use]
    pub fn bearer(self) -> TokenBearer {
        TokenBearer { id: Some(self.id), issuer: ISSUER.into(), claims: self.claims, methods: None, rows: None }
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    jti: &'a str,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a str>,
}

/// Issues and verifies tokens.
#[derive(Debug)]
pub struct Authenticator {
    /// Keys of consumers.
    pub keys: ConsumerKeys,
    db: Db,
    vault: Arc<Vault>,
    verified: moka::sync::Cache<blake3::Hash, VerifiedToken>,
    /// Counts [`Self::forget`], so that what was read before a revocation is not remembered after it.
    forgotten: AtomicU64,
}

impl Authenticator {
    /// Keys of tenants are kept in `db`, sealed by `vault`.
    #[must_use]
    pub fn new(db: Db, vault: Arc<Vault>) -> Self {
        let verified = moka::sync::Cache::builder().max_capacity(CACHED_MAX).time_to_live(CACHED_FOR).build();
        Self { keys: ConsumerKeys::new(db.clone()), db, vault, verified, forgotten: AtomicU64::new(0) }
    }

    /// Reads keys and revocations anew from now on.
    pub fn forget(&self) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        self.verified.invalidate_all();
        self.keys.forget();
    }

    /// Issues a token of the tenant; its first one makes its signing key. `db` tells who does.
    ///
    /// # Errors
    /// If the key cannot be used, or the lifetime is absurd.
    pub async fn create_token(
        &self,
        db: &Db,
        tenant: TenantId,
        name: &TenantName,
        new: TokenRequest,
    ) -> Result<IssuedToken, AuthError> {
        let key = self.signing_key(db, tenant).await?;
        let issued_at = now();
        let expires_at = issued_at.checked_add(new.expires_in.as_secs()).ok_or(AuthError::InvalidExpiry)?;
        let expires_at_ms =
            expires_at.checked_mul(1000).and_then(|ms| i64::try_from(ms).ok()).ok_or(AuthError::InvalidExpiry)?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let endpoint = new.only.as_ref().map(|only| only.route.as_str());
        let claims = Claims { iss: ISSUER, aud: name.as_str(), jti: &id, iat: issued_at, exp: expires_at, endpoint };
        let secret = self.vault.unseal(&key_context(tenant, &key.kid), &key.sealed)?;
        let header = Header { kid: Some(key.kid), ..Header::new(Algorithm::HS256) };
        let text = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret.expose()))
            .map_err(|error| AuthError::Signing(error.to_string()))?;
        let row = NewToken { id: id.clone(), name: new.name, only: new.only, expires_at_ms };
        db.tokens().insert_token(tenant, &row).await?;
        Ok(IssuedToken { id, text: text.into(), expires_at_ms })
    }

    async fn signing_key(&self, db: &Db, tenant: TenantId) -> Result<SigningKey, AuthError> {
        if let Some(key) = db.signing_keys().list(tenant).await?.into_iter().next() {
            return Ok(key);
        }
        let mut bytes = zeroize::Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(&mut *bytes).map_err(|error| AuthError::Signing(error.to_string()))?;
        let kid = uuid::Uuid::new_v4().simple().to_string();
        let seal = || self.vault.seal(&key_context(tenant, &kid), &*bytes);
        Ok(db.signing_keys().insert(tenant, &kid, seal).await?)
    }

    /// The token in an `Authorization` field, if it is valid for this tenant and endpoint.
    ///
    /// # Errors
    /// If it is not, or that cannot be found out.
    pub async fn verify(
        &self,
        tenant: TenantId,
        name: &TenantName,
        endpoint: EndpointId,
        authorization: Option<&HeaderValue>,
    ) -> Result<VerifiedToken, AuthError> {
        let text = bearer(authorization)?;
        let hash = blake3::hash(text.as_bytes());
        let known = self
            .verified
            .get(&hash)
            .filter(|token| token.tenant == tenant && now() < token.expires_at + LEEWAY_SECONDS);
        let token = match known {
            Some(token) => token,
            None => {
                let forgotten = self.forgotten.load(Ordering::SeqCst);
                let token = self.check(tenant, name, text).await?;
                self.verified.insert(hash, token.clone());
                if self.forgotten.load(Ordering::SeqCst) != forgotten {
                    self.verified.invalidate(&hash);
                }
                token
            }
        };
        match &token.only {
            Some(only) if !only.contains(&endpoint) => Err(AuthError::TokenNotForEndpoint),
            Some(_) | None => Ok(token),
        }
    }

    async fn check(&self, tenant: TenantId, name: &TenantName, text: &str) -> Result<VerifiedToken, AuthError> {
        let header = jsonwebtoken::decode_header(text).map_err(|_| invalid("its header is malformed"))?;
        let kid = header.kid.ok_or(invalid("it names no key"))?;
        let keys = self.db.signing_keys().list(tenant).await?;
        let key = keys.into_iter().find(|key| key.kid == kid).ok_or(invalid("it names an unknown key"))?;
        let secret = self.vault.unseal(&key_context(tenant, &key.kid), &key.sealed)?;

        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_audience(&[name.as_str()]);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        let decoded =
            jsonwebtoken::decode::<Map<String, Value>>(text, &DecodingKey::from_secret(secret.expose()), &validation);
        let claims = decoded.map_err(|error| invalid(reason(error.kind())))?.claims;

        let id = claims.get("jti").and_then(Value::as_str).ok_or(invalid("it has no id"))?;
        let expires_at =
            claims.get("exp").and_then(Value::as_u64).ok_or(invalid("its expiry is not a whole number"))?;
        let row = self.db.tokens().find_token(tenant, id).await?.ok_or(invalid("it was never issued"))?;
        if row.revoked_at_ms.is_some() {
            return Err(invalid("it was revoked"));
        }
        let only = match row.endpoint_route {
            Some(_) => Some(Arc::from(self.db.tokens().list_endpoints_of(tenant, id).await?)),
            None => None,
        };
        Ok(VerifiedToken { id: Arc::from(id), claims: Arc::new(claims), tenant, only, expires_at })
    }
}

/// The token in a field of the scheme `Bearer` or `JWT`.
fn bearer(authorization: Option<&HeaderValue>) -> Result<&str, AuthError> {
    let text = authorization.ok_or(AuthError::MissingToken)?.to_str().map_err(|_| invalid("it is not ASCII"))?;
    let (scheme, token) = text.split_once(' ').ok_or(AuthError::MissingToken)?;
    if !scheme.eq_ignore_ascii_case("bearer") && !scheme.eq_ignore_ascii_case("jwt") {
        return Err(AuthError::MissingToken);
    }
    let token = token.trim();
    if token.len() > TOKEN_BYTES_MAX {
        return Err(invalid("it is too long"));
    }
    Ok(token)
}

/// What a signing key is sealed for.
#[must_use]
pub fn key_context(tenant: TenantId, kid: &str) -> String {
    format!("signing-key:{tenant}:{kid}")
}

fn reason(kind: &jsonwebtoken::errors::ErrorKind) -> &'static str {
    use jsonwebtoken::errors::ErrorKind;
    // The library's list is open; what is not named here is one of its many ways to be malformed.
    match kind {
        ErrorKind::ExpiredSignature => "it has expired",
        ErrorKind::ImmatureSignature => "it is not valid yet",
        ErrorKind::InvalidSignature => "its signature is wrong",
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => "it is signed with another algorithm",
        ErrorKind::InvalidAudience => "it is for another tenant",
        ErrorKind::InvalidIssuer => "it is of another issuer",
        ErrorKind::MissingRequiredClaim(_) => "it lacks a required claim",
        _ => "it is malformed",
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
