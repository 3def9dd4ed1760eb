//! Who is calling: tokens (JWT) and keys of tenants' callers; users, passwords and API tokens of the control API (`people`).
//!
//! Owns: issuing and verifying tokens, the tenants' signing keys, outside issuers' keys, passwords. Never: decides which endpoints need
//! a token (see `ingress`).
//! Invariants: the key fixes the algorithm, never the token's header; a token of ours whose row is missing or revoked is refused; so is one
//! whose claims have no value for a row filter of it or of its issuer.

mod claims;
pub mod consumer_keys;
mod issuers;
mod jwks;
mod jws;
mod keys;
pub mod people;
#[cfg(test)]
mod tests;
mod throttle;
mod trust;
mod uses;
mod verified;

use std::{
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use http::HeaderValue;
use serde_json::{Map, Value, json};

pub use crate::auth::verified::VerifiedToken;
use crate::{
    auth::{
        consumer_keys::ConsumerKeys,
        issuers::{KeySets, Times},
        jws::Unverified,
        trust::{Issuer, Trust},
        uses::Uses,
    },
    db::{
        self, Db, DbError,
        cache::{ReadAt, TenantCache},
        signing_keys::{NewSigningKey, SigningKey},
        tokens::{EndpointsOfRoutes, NewToken},
        uses::Presented,
    },
    domain::{
        names::{EndpointId, TenantId, TenantName},
        route::MethodSet,
        rows::{RowFilter, RowScope, Unresolved, resolve_filters},
        secret::Secret,
        signing::KeyAlgorithm,
    },
    egress::Egress,
    vault::{Vault, VaultError},
};

/// Longest token that is looked at, in bytes; ours have about 350, and at most this.
const TOKEN_BYTES_MAX: usize = 8 << 10;

/// Claims that a token of ours may be given, as JSON, in bytes. Base64 makes them a third longer.
const CLAIMS_BYTES_MAX: usize = 4 << 10;

/// Claims of our tokens that only the host sets.
const RESERVED_CLAIMS: [&str; 7] = ["iss", "aud", "jti", "iat", "exp", "nbf", "endpoint"];

/// Verified tokens that are remembered, in bytes, roughly: 50,000 usual ones.
const VERIFIED_BYTES_MAX: u64 = 64 << 20;

/// What is remembered is looked up anew after this time, in case its revocation went unnoticed.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// Tenants' keys and issuers that are remembered, in bytes, roughly: those of 10,000 usual tenants. With as many row filters as there may be
/// a tenant's take 3 MB.
const TRUSTS_BYTES_MAX: u64 = 16 << 20;

/// How long the last use of a token or a key waits to be written.
const USES_WRITTEN_AFTER: Duration = Duration::from_secs(1);

/// What our own tokens say in `iss`.
pub const ISSUER: &str = "pqhost";

/// Why a token is not issued or not accepted. Callers see the same for the first two.
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
    /// The token is for other methods of the endpoint.
    #[error("the token is for other methods")]
    TokenNotForMethod,
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
    /// Whether the consumer key is valid cannot be told yet: too many others are looked up.
    #[error("too many consumer keys that are not remembered were sent at once")]
    TooManyLookUps {
        /// When to try again.
        retry_after: Duration,
    },
    /// A row filter has no value for the caller, who may then reach no rows at all. The text is for logs.
    #[error(transparent)]
    NoRows(#[from] Unresolved),
    /// Whether the token is valid cannot be told: its issuer's keys are not there.
    #[error("the keys of the token's issuer cannot be had")]
    IssuerUnavailable {
        /// When they are asked for again.
        retry_after: Duration,
    },
    /// The lifetime is beyond what a date can hold.
    #[error("the token cannot be valid that long")]
    InvalidExpiry,
    /// Only the host sets this claim.
    #[error("the claim `{0}` is set by the host")]
    ReservedClaim(&'static str),
    /// The claims are too large.
    #[error("the claims of a token may have {limit_bytes} bytes as JSON")]
    ClaimsTooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// The token would be too large.
    #[error("with these endpoints and claims the token would be longer than {limit_bytes} bytes")]
    TokenTooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// The control database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A signing key cannot be used.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A key cannot be made or used.
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
    pub only: Option<EndpointsOfRoutes>,
    /// The only methods it is for; all if absent.
    pub methods: Option<MethodSet>,
    /// What it says besides.
    pub claims: Map<String, Value>,
    /// The only rows it reaches; all that scripts do if absent.
    pub row_filters: Option<Vec<RowFilter>>,
}

impl TokenRequest {
    /// For everything that the tenant has.
    #[must_use]
    pub fn new(name: impl Into<String>, expires_in: Duration) -> Self {
        Self { name: name.into(), expires_in, only: None, methods: None, claims: Map::new(), row_filters: None }
    }
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

/// When a token is looked at.
#[derive(Debug, Clone, Copy)]
struct Moment {
    /// Milliseconds since 1970.
    now_ms: u64,
    read_at: ReadAt,
}

/// Issues and verifies tokens.
#[derive(Debug)]
pub struct Authenticator {
    /// Keys of consumers.
    pub keys: ConsumerKeys,
    db: Db,
    vault: Arc<Vault>,
    issuers: KeySets,
    verified: TenantCache<(TenantId, blake3::Hash), VerifiedToken>,
    trusts: TenantCache<TenantId, Arc<Trust>>,
    uses: Arc<Uses>,
}

impl Authenticator {
    /// Keys of tenants are kept in `db`, sealed by `vault`; those of outside issuers are fetched through `egress`.
    #[must_use]
    pub fn new(db: Db, vault: Arc<Vault>, egress: Arc<Egress>) -> Self {
        Self::with_times(db, vault, egress, Times::default())
    }

    fn with_times(db: Db, vault: Arc<Vault>, egress: Arc<Egress>, times: Times) -> Self {
        let uses = Arc::new(Uses::default());
        Self {
            keys: ConsumerKeys::new(db.clone(), Arc::clone(&uses)),
            verified: TenantCache::new(&db, REMEMBERED_FOR, VERIFIED_BYTES_MAX, VerifiedToken::weight),
            trusts: TenantCache::new(&db, REMEMBERED_FOR, TRUSTS_BYTES_MAX, |trust: &Arc<Trust>| trust.bytes()),
            db,
            vault,
            issuers: KeySets::new(egress, times),
            uses,
        }
    }

    /// Writes when tokens and keys were last used, for as long as the host runs.
    pub async fn keep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(USES_WRITTEN_AFTER).await;
            self.write_uses().await;
        }
    }

    /// Writes now when tokens and keys were last used.
    pub async fn write_uses(&self) {
        if let Err(error) = self.uses.write(&self.db).await {
            tracing::warn!(%error, "when tokens and keys were last used cannot be written"); // that keeps nobody from calling
        }
    }

    /// Makes a key of the tenant, which signs its tokens from now on. With `overlap`, its other keys verify for that long and no longer,
    /// else until they are deleted. `db` tells who does.
    ///
    /// # Errors
    /// If the tenant has too many keys, or none can be made.
    pub async fn create_signing_key(
        &self,
        db: &Db,
        tenant: TenantId,
        algorithm: KeyAlgorithm,
        overlap: Option<Duration>,
    ) -> Result<SigningKey, AuthError> {
        let made = keys::generate(algorithm)?;
        let kid = uuid::Uuid::new_v4().simple().to_string();
        let seal = || self.vault.seal(&key_context(tenant, &kid), &made.private);
        let new = NewSigningKey { kid: kid.clone(), algorithm, public_key: made.public };
        let overlap_ms = overlap.map(|overlap| i64::try_from(overlap.as_millis()).unwrap_or(i64::MAX));
        Ok(db.signing_keys().insert(tenant, &new, overlap_ms, seal).await?)
    }

    /// Issues a token of the tenant; its first one makes its signing key. `db` tells who does.
    ///
    /// # Errors
    /// If the key cannot be used, the lifetime is absurd, or the claims are reserved, too large, or say nothing for a row filter.
    pub async fn create_token(
        &self,
        db: &Db,
        tenant: TenantId,
        name: &TenantName,
        new: TokenRequest,
    ) -> Result<IssuedToken, AuthError> {
        let TokenRequest { name: token_name, expires_in, only, methods, claims: given, row_filters } = new;
        if let Some(reserved) = RESERVED_CLAIMS.into_iter().find(|reserved| given.contains_key(*reserved)) {
            return Err(AuthError::ReservedClaim(reserved));
        }
        if Value::from(given.clone()).to_string().len() > CLAIMS_BYTES_MAX {
            return Err(AuthError::ClaimsTooLarge { limit_bytes: CLAIMS_BYTES_MAX });
        }
        let issued_at = now_ms() / 1000;
        let expires_at = issued_at.checked_add(expires_in.as_secs()).ok_or(AuthError::InvalidExpiry)?;
        let expires_at_ms =
            expires_at.checked_mul(1000).and_then(|ms| i64::try_from(ms).ok()).ok_or(AuthError::InvalidExpiry)?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let mut claims = Map::new();
        for (claim, value) in [
            ("iss", json!(ISSUER)),
            ("aud", json!(name)),
            ("jti", json!(id)),
            ("iat", json!(issued_at)),
            ("exp", json!(expires_at)),
        ] {
            claims.insert(claim.to_owned(), value);
        }
        match only.as_ref().map(|only| only.routes.as_slice()) {
            None => {}
            Some([route]) => drop(claims.insert("endpoint".to_owned(), json!(route))),
            Some(routes) => drop(claims.insert("endpoint".to_owned(), json!(routes))),
        }
        claims.extend(given.clone());
        // Refused here, not when it is presented.
        reach(row_filters.as_deref(), &claims)?;

        let key = match db.signing_keys().list(tenant).await?.into_iter().next() {
            Some(key) => key,
            None => self.create_signing_key(db, tenant, KeyAlgorithm::default(), None).await?,
        };
        let private = self.vault.unseal(&key_context(tenant, &key.kid), &key.sealed)?;
        let text = jws::sign(key.algorithm, &key.kid, &private, &claims)?;
        if text.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::TokenTooLarge { limit_bytes: TOKEN_BYTES_MAX });
        }
        let name = token_name;
        let row = NewToken { id: id.clone(), name, only, methods, claims: given, row_filters, expires_at_ms };
        db.tokens().insert_token(tenant, &row).await?;
        Ok(IssuedToken { id, text: text.into(), expires_at_ms })
    }

    /// The keys that others may verify the tenant's tokens with, as a set (RFC 7517).
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn public_keys(&self, tenant: TenantId) -> Result<Value, AuthError> {
        let trust = self.trust(tenant, self.db.now()).await?;
        Ok(json!({ "keys": trust.public_keys(signed(now_ms())) }))
    }

    /// The token in an `Authorization` field, if it is valid for this tenant, endpoint and method (upper case).
    ///
    /// # Errors
    /// If it is not, or that cannot be found out.
    pub async fn verify(
        &self,
        tenant: TenantId,
        name: &TenantName,
        endpoint: EndpointId,
        method: &str,
        authorization: Option<&HeaderValue>,
    ) -> Result<VerifiedToken, AuthError> {
        let text = bearer(authorization)?;
        let hash = (tenant, blake3::hash(text.as_bytes()));
        let at = Moment { now_ms: now_ms(), read_at: self.db.now() };
        let known = self.verified.get(tenant, &hash).filter(|token| at.now_ms < token.good_until_ms);
        let token = match known {
            Some(token) => token,
            None => {
                let token = self.check(tenant, name, text, at).await?;
                self.verified.insert(hash, at.read_at, token.clone());
                token
            }
        };
        if token.only.as_ref().is_some_and(|only| !only.contains(&endpoint)) {
            return Err(AuthError::TokenNotForEndpoint);
        }
        if token.methods.is_some_and(|methods| !methods.allows(method)) {
            return Err(AuthError::TokenNotForMethod);
        }
        if let (Some(id), Some(noted)) = (&token.id, &token.noted) {
            self.uses.note(Presented::Token, tenant, id, noted, signed(at.now_ms));
        }
        Ok(token)
    }

    /// What a tenant trusts, read now if it is not remembered.
    async fn trust(&self, tenant: TenantId, now: ReadAt) -> Result<Arc<Trust>, AuthError> {
        if let Some(trust) = self.trusts.get(tenant, &tenant) {
            return Ok(trust);
        }
        let trust = Arc::new(Trust::read(&self.db, &self.vault, tenant).await?);
        self.trusts.insert(tenant, now, Arc::clone(&trust));
        Ok(trust)
    }

    async fn check(
        &self,
        tenant: TenantId,
        name: &TenantName,
        text: &str,
        at: Moment,
    ) -> Result<VerifiedToken, AuthError> {
        let token = Unverified::read(text)?;
        let trust = self.trust(tenant, at.read_at).await?;
        // What it says of its issuer decides by whose key it is verified, and nothing else.
        let issuer = token.issuer().ok_or(invalid("it names no issuer"))?;
        if issuer == ISSUER {
            return self.check_own(tenant, name, &trust, token, at).await;
        }
        let issuer = trust.issuer(issuer).ok_or(invalid("it is of an unknown issuer"))?;
        self.check_outside(tenant, issuer, token, at).await
    }

    async fn check_own(
        &self,
        tenant: TenantId,
        name: &TenantName,
        trust: &Trust,
        token: Unverified<'_>,
        at: Moment,
    ) -> Result<VerifiedToken, AuthError> {
        let kid = token.kid().ok_or(invalid("it names no key"))?;
        let key = trust.own(kid, signed(at.now_ms)).ok_or(invalid("it names an unknown key"))?;
        let bytes = token.bytes();
        let claims = token.verify(&key.key)?;
        let checked = claims::check(&claims, name.as_str(), at.now_ms / 1000)?;
        let good_until_ms = checked.good_until_ms();
        let id = checked.id.ok_or(invalid("it has no id"))?;
        let row = self.db.tokens().find_token(tenant, &id).await?.ok_or(invalid("it was never issued"))?;
        if row.revoked_at_ms.is_some() {
            return Err(invalid("it was revoked"));
        }
        let only = match row.routes {
            Some(_) => Some(Arc::from(self.db.tokens().list_endpoints_of(tenant, &id).await?)),
            None => None,
        };
        let rows = reach(row.row_filters.as_deref(), &claims)?;
        let key_until = key.verifies_until_ms.and_then(|until| u64::try_from(until).ok());
        Ok(VerifiedToken {
            id: Some(id),
            issuer: ISSUER.into(),
            claims: Arc::new(claims),
            only,
            methods: row.methods,
            rows,
            good_until_ms: good_until_ms.min(key_until.unwrap_or(u64::MAX)),
            noted: Some(Arc::new(AtomicI64::new(row.last_used_at_ms.unwrap_or(0)))),
            bytes,
        })
    }

    async fn check_outside(
        &self,
        tenant: TenantId,
        issuer: &Issuer,
        token: Unverified<'_>,
        at: Moment,
    ) -> Result<VerifiedToken, AuthError> {
        let key = self.issuers.find(tenant, &issuer.jwks_url, token.kid()).await?;
        let bytes = token.bytes();
        let claims = token.verify(&key)?;
        let checked = claims::check(&claims, &issuer.audience, at.now_ms / 1000)?;
        let rows = reach(issuer.row_filters.as_deref(), &claims)?;
        Ok(VerifiedToken {
            good_until_ms: checked.good_until_ms(),
            id: checked.id,
            issuer: Arc::clone(&issuer.name),
            claims: Arc::new(claims),
            only: None,
            methods: None,
            rows,
            noted: None,
            bytes,
        })
    }
}

/// The rows that whoever has these claims reaches, if not all.
fn reach(filters: Option<&[RowFilter]>, claims: &Map<String, Value>) -> Result<Option<Arc<RowScope>>, Unresolved> {
    // A token has no attributes.
    filters.map(|filters| resolve_filters(filters, &Map::new(), claims)).transpose()
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

/// Now, in milliseconds since 1970.
fn now_ms() -> u64 {
    db::now_ms().unsigned_abs()
}

/// As the control database has it.
fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
