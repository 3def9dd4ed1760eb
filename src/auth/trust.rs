//! Whose tokens a tenant accepts: its own keys', and other issuers'.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    auth::{AuthError, ISSUER, jwks, key_context, keys::VerifyingKey},
    db::{Db, signing_keys::SigningKey},
    domain::{names::TenantId, rows::RowFilter, signing::KeyAlgorithm},
    vault::Vault,
};

/// What a key of a tenant takes in memory, with its public part as JSON, in bytes, roughly.
const KEY_BYTES: usize = 300;

/// What a tenant trusts.
#[derive(Debug)]
pub(super) struct Trust {
    keys: Vec<OwnKey>,
    issuers: Vec<Issuer>,
}

/// A key of the tenant's own.
#[derive(Debug)]
pub(super) struct OwnKey {
    kid: String,
    /// Milliseconds since 1970.
    pub(super) verifies_until_ms: Option<i64>,
    pub(super) key: VerifyingKey,
    /// For others.
    public: Option<Value>,
}

/// An issuer outside of pqhost.
#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) name: Arc<str>,
    pub(super) jwks_url: Arc<str>,
    pub(super) audience: String,
    /// The only rows that its tokens reach, if not all.
    pub(super) row_filters: Option<Vec<RowFilter>>,
}

impl Trust {
    /// Reads it anew.
    pub(super) async fn read(db: &Db, vault: &Vault, tenant: TenantId) -> Result<Self, AuthError> {
        let keys = db.signing_keys().list(tenant).await?;
        let keys = keys.into_iter().map(|key| OwnKey::open(vault, tenant, key)).collect::<Result<_, _>>()?;
        let issuers = db.issuers().list_issuers(tenant).await?;
        let issuers = issuers.into_iter().map(|row| Issuer {
            name: row.issuer.into(),
            jwks_url: row.jwks_url.into(),
            audience: row.audience,
            row_filters: row.row_filters,
        });
        Ok(Self { keys, issuers: issuers.collect() })
    }

    /// Bytes of memory that it takes, roughly.
    pub(super) fn bytes(&self) -> usize {
        let Self { keys, issuers } = self;
        200 + KEY_BYTES * keys.len() + issuers.iter().map(Issuer::bytes).sum::<usize>()
    }

    /// The tenant's own key of this name, if it still verifies.
    pub(super) fn own(&self, kid: &str, now_ms: i64) -> Option<&OwnKey> {
        self.keys.iter().find(|key| key.kid == kid && key.verifies(now_ms))
    }

    /// The issuer of this name.
    pub(super) fn issuer(&self, name: &str) -> Option<&Issuer> {
        // Not even if the tenant has named one like this: it could speak for us.
        self.issuers.iter().find(|issuer| *issuer.name == *name && name != ISSUER)
    }

    /// The keys that others may verify the tenant's tokens with.
    pub(super) fn public_keys(&self, now_ms: i64) -> Vec<&Value> {
        self.keys.iter().filter(|key| key.verifies(now_ms)).filter_map(|key| key.public.as_ref()).collect()
    }
}

impl Issuer {
    fn bytes(&self) -> usize {
        let Self { name, jwks_url, audience, row_filters } = self;
        let filters = row_filters.iter().flatten().map(RowFilter::bytes).sum::<usize>();
        size_of::<Self>() + name.len() + jwks_url.len() + audience.len() + filters
    }
}

impl OwnKey {
    fn open(vault: &Vault, tenant: TenantId, key: SigningKey) -> Result<Self, AuthError> {
        let SigningKey { kid, algorithm, sealed, public_key, created_at_ms: _, verifies_until_ms } = key;
        let public = jwks::public_key(&kid, algorithm, public_key.as_deref());
        let key = match algorithm {
            KeyAlgorithm::Hs256 => Some(VerifyingKey::shared(&vault.unseal(&key_context(tenant, &kid), &sealed)?)),
            KeyAlgorithm::Es256 | KeyAlgorithm::EdDsa => {
                public_key.and_then(|bytes| VerifyingKey::point(algorithm.into(), &bytes))
            }
        };
        let key = key.ok_or_else(|| AuthError::Signing(format!("the public part of key {kid} is none")))?;
        Ok(Self { kid, verifies_until_ms, key, public })
    }

    fn verifies(&self, now_ms: i64) -> bool {
        self.verifies_until_ms.is_none_or(|until| now_ms < until)
    }
}
