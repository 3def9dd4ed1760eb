//! Keys that consumers of a tenant's endpoints present.
//!
//! Owns: their form, issuing and verifying them. Never: reads a request (see `ingress`).
//! Invariant: a key whose row filters have no value for its holder lets nobody in.

use std::{
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use serde_json::Map;
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    auth::{AuthError, uses::Uses},
    db::{
        Db,
        cache::TenantCache,
        consumer_keys::{ConsumerKey, KeyTerms, NewConsumerKey},
        now_ms,
        uses::Presented,
    },
    domain::{
        exchange::KeyHolder,
        names::{EndpointId, TenantId},
        rate_limit::RateLimit,
        rows::{RowScope, Unresolved, resolve_filters},
        secret::Secret,
    },
};

/// In front of every key, so that people and scanners recognise a leaked one.
pub const KEY_PREFIX: &str = "pqk_";

/// Random bytes of a key.
const KEY_BYTES: usize = 32;

/// Bytes of its checksum, by which scanners tell keys from what only looks like one, and we do without a look into the
/// database.
const CHECKSUM_BYTES: usize = 4;

/// What verified keys take that are remembered, in bytes. One of few words takes half a KiB.
const CACHED_BYTES_MAX: u64 = 64 << 20;

/// A remembered key is verified anew after this time, in case its revocation went unnoticed.
const CACHED_FOR: Duration = Duration::from_secs(60);

/// Keys that are looked up at once. Each takes one of the control database's readers, of which there are two at least: whoever
/// sends keys that nobody has leaves one to all else. One look-up takes a millisecond or less.
const LOOKED_UP_MAX: usize = 1;

/// Lanes in which keys wait for that. A tenant's wait in one of them, one behind the other, and each lane is served in its turn: whoever sends
/// one tenant keys that nobody has holds up the tenants of its lane, and everybody else by one look-up.
const LANES: usize = 64;

/// How long a key waits to be looked up. Behind more than are done in that time, callers are told to come again.
const LOOK_UP_WAIT: Duration = Duration::from_secs(1);

/// A new key. Its text is not kept anywhere.
#[derive(Debug)]
pub struct IssuedKey {
    /// To revoke it by.
    pub id: String,
    /// To be handed to the consumer.
    pub text: Secret,
    /// Milliseconds since 1970.
    pub expires_at_ms: i64,
}

/// A key that was found valid.
#[derive(Debug, Clone)]
pub struct VerifiedKey {
    /// Who presented it.
    pub holder: KeyHolder,
    /// How often it may be used, if not without limit.
    pub rate_limit: Option<RateLimit>,
}

/// A key as it is remembered.
#[derive(Debug)]
struct Known {
    key: VerifiedKey,
    /// The only endpoints it is for, if not all.
    endpoints: Option<Arc<[EndpointId]>>,
    expires_at_ms: i64,
    /// When its use was noted.
    noted_at_ms: AtomicI64,
}

impl Known {
    /// Bytes of memory that it takes, roughly: what is read from JSON takes some three times its text.
    fn weight(&self) -> usize {
        let KeyHolder { id: _, attributes, methods: _, rows } = &self.key.holder;
        let attributes = serde_json::to_string(attributes).map_or(0, |text| 3 * text.len());
        let endpoints = self.endpoints.as_ref().map_or(0, |endpoints| size_of_val(&**endpoints));
        500 + attributes + endpoints + rows.as_ref().map_or(0, |rows| rows.bytes())
    }
}

/// Issues and verifies keys.
#[derive(Debug)]
pub struct ConsumerKeys {
    db: Db,
    verified: TenantCache<(TenantId, blake3::Hash), Arc<Known>>,
    uses: Arc<Uses>,
    /// For those that are not remembered.
    look_ups: Semaphore,
    lanes: [Semaphore; LANES],
}

impl ConsumerKeys {
    /// Keys whose hashes are in `db`.
    pub(super) fn new(db: Db, uses: Arc<Uses>) -> Self {
        let verified = TenantCache::new(&db, CACHED_FOR, CACHED_BYTES_MAX, |known: &Arc<Known>| known.weight());
        let lanes = std::array::from_fn(|_| Semaphore::new(1));
        Self { db, verified, look_ups: Semaphore::new(LOOKED_UP_MAX), lanes, uses }
    }

    /// Issues a key of the tenant; `db` tells who does.
    ///
    /// # Errors
    /// [`AuthError::NoRows`] if its holder would have no value for a row filter, or the database fails.
    pub async fn create_key(
        &self,
        db: &Db,
        tenant: TenantId,
        terms: KeyTerms,
        expires_in: Duration,
    ) -> Result<IssuedKey, AuthError> {
        check_terms(&terms)?;
        let text = new_text().map_err(|error| AuthError::Signing(error.to_string()))?;
        let lifetime_ms = i64::try_from(expires_in.as_millis()).map_err(|_| AuthError::InvalidExpiry)?;
        let expires_at_ms = now_ms().checked_add(lifetime_ms).ok_or(AuthError::InvalidExpiry)?;
        let id = uuid::Uuid::now_v7().simple().to_string();
        let new = NewConsumerKey { id: id.clone(), hash: hash_of(&text).to_hex().to_string(), terms, expires_at_ms };
        db.consumer_keys().insert_key(tenant, &new).await?;
        Ok(IssuedKey { id, text: Secret::from(text), expires_at_ms })
    }

    /// The key of this text, if it is valid for this tenant, endpoint and method (upper case).
    ///
    /// # Errors
    /// If it is not, or that cannot be found out.
    pub async fn verify(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        method: &str,
        text: &str,
    ) -> Result<VerifiedKey, AuthError> {
        if !is_form(text) {
            return Err(invalid("it is none of ours"));
        }
        let hash = (tenant, hash_of(text));
        let known = match self.verified.get(tenant, &hash) {
            Some(known) => known,
            None => {
                let read_at = self.db.now();
                let known = Arc::new(self.find(hash).await?);
                self.verified.insert(hash, read_at, Arc::clone(&known));
                known
            }
        };
        let now = now_ms();
        if known.expires_at_ms <= now {
            return Err(invalid("it has expired"));
        }
        let is_for_endpoint = known.endpoints.as_ref().is_none_or(|endpoints| endpoints.contains(&endpoint));
        let is_for_method = known.key.holder.methods.is_none_or(|methods| methods.allows(method));
        if !is_for_endpoint || !is_for_method {
            return Err(AuthError::KeyNotForEndpoint);
        }
        self.uses.note(Presented::ConsumerKey, tenant, &known.key.holder.id, &known.noted_at_ms, now);
        Ok(known.key.clone())
    }

    async fn find(&self, (tenant, hash): (TenantId, blake3::Hash)) -> Result<Known, AuthError> {
        let turn = async { (self.lane(tenant).acquire().await, self.look_ups.acquire().await) };
        let Ok(looking) = timeout(LOOK_UP_WAIT, turn).await else {
            return Err(AuthError::TooManyLookUps { retry_after: LOOK_UP_WAIT });
        };
        let found = self.db.consumer_keys().find_by_hash(tenant, hash.to_hex().as_str()).await?;
        drop(looking);
        let ConsumerKey { id, terms, expires_at_ms, last_used_at_ms, revoked_at_ms, .. } =
            found.ok_or(invalid("there is none like it"))?;
        if revoked_at_ms.is_some() {
            return Err(invalid("it was revoked"));
        }
        let rows = resolved(&terms)?;
        let KeyTerms { name: _, endpoints, methods, attributes, row_filters: _, rate_limit } = terms;
        let holder = KeyHolder { id: id.into(), attributes, methods, rows };
        let noted_at_ms = AtomicI64::new(last_used_at_ms.unwrap_or(0));
        Ok(Known { key: VerifiedKey { holder, rate_limit }, endpoints, expires_at_ms, noted_at_ms })
    }

    fn lane(&self, tenant: TenantId) -> &Semaphore {
        &self.lanes[usize::try_from(tenant.0.unsigned_abs() % LANES as u64).unwrap_or_default()]
    }
}

/// Checks that a holder of a key with these terms would reach some rows.
///
/// # Errors
/// [`AuthError::NoRows`] if the holder has no value for a row filter.
pub fn check_terms(terms: &KeyTerms) -> Result<(), AuthError> {
    resolved(terms)?;
    Ok(())
}

fn resolved(terms: &KeyTerms) -> Result<Option<Arc<RowScope>>, Unresolved> {
    // A key has no claims.
    let filters = terms.row_filters.as_deref();
    filters.map(|filters| resolve_filters(filters, &terms.attributes, &Map::new())).transpose()
}

const fn invalid(reason: &'static str) -> AuthError {
    AuthError::InvalidKey { reason }
}

fn new_text() -> Result<String, getrandom::Error> {
    let mut bytes = zeroize::Zeroizing::new([0; KEY_BYTES]);
    getrandom::fill(&mut *bytes)?;
    let random = zeroize::Zeroizing::new(hex::encode(*bytes));
    Ok(format!("{KEY_PREFIX}{}{}", &*random, checksum(&random)))
}

/// Whether a text is a key of some host: right prefix, length and checksum.
fn is_form(text: &str) -> bool {
    let Some(digits) = text.strip_prefix(KEY_PREFIX) else { return false };
    let is_hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_hex || digits.len() != 2 * (KEY_BYTES + CHECKSUM_BYTES) {
        return false;
    }
    let (random, given) = digits.split_at(2 * KEY_BYTES);
    checksum(random) == given
}

fn checksum(random: &str) -> String {
    hex::encode(&blake3::hash(random.as_bytes()).as_bytes()[..CHECKSUM_BYTES])
}

/// Fast, unlike that of a password: nobody guesses 32 random bytes.
fn hash_of(text: &str) -> blake3::Hash {
    blake3::hash(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::control_database::ControlDatabase;

    /// A tenant with a key.
    struct Fixture {
        keys: ConsumerKeys,
        tenant: TenantId,
        issued: IssuedKey,
        _directory: tempfile::TempDir,
    }

    impl Fixture {
        async fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let db = Db::open(&ControlDatabase::File(directory.path().join("pqhost.db"))).await.unwrap();
            let tenant = db.tenants().create_tenant(&"acme".parse().unwrap()).await.unwrap();
            let keys = ConsumerKeys::new(db.clone(), Arc::default());
            let terms = KeyTerms {
                name: "partner".to_owned(),
                endpoints: None,
                methods: None,
                attributes: Arc::default(),
                row_filters: None,
                rate_limit: None,
            };
            let issued = keys.create_key(&db, tenant, terms, Duration::from_secs(3600)).await.unwrap();
            Self { keys, tenant, issued, _directory: directory }
        }

        fn text(&self) -> &str {
            self.issued.text.expose_str().unwrap()
        }

        async fn verify(&self, text: &str) -> Result<VerifiedKey, AuthError> {
            self.keys.verify(self.tenant, EndpointId(1), "GET", text).await
        }
    }

    #[tokio::test]
    async fn a_key_that_was_read_before_its_revocation_is_not_believed_after_it() {
        let fixture = Fixture::new().await;
        let Fixture { keys, tenant, issued, .. } = &fixture;
        fixture.verify(fixture.text()).await.unwrap();
        let hash = (*tenant, hash_of(fixture.text()));
        let (read_at, read) = (keys.db.now(), keys.verified.get(*tenant, &hash).unwrap());
        keys.db.consumer_keys().revoke_key(*tenant, &issued.id).await.unwrap();
        keys.db.look_for_changes().await.unwrap();
        // Somebody who has read before, and was slow, remembers only now.
        keys.verified.insert(hash, read_at, read);
        let error = fixture.verify(fixture.text()).await.unwrap_err();
        assert!(matches!(error, AuthError::InvalidKey { reason: "it was revoked" }), "{error}");
    }

    #[tokio::test]
    async fn keys_that_nobody_has_take_one_reader_and_wait_for_it() {
        let fixture = Fixture::new().await;
        fixture.verify(fixture.text()).await.unwrap();
        let looking = fixture.keys.look_ups.acquire_many(LOOKED_UP_MAX.try_into().unwrap()).await.unwrap();
        let (waiting, remembered) = (fixture.verify(&new_text().unwrap()).await, fixture.verify(fixture.text()).await);
        assert!(matches!(waiting, Err(AuthError::TooManyLookUps { retry_after: LOOK_UP_WAIT })), "{waiting:?}");
        remembered.unwrap();
        drop(looking);
        let texts: Vec<_> = (0..100).map(|_| new_text().unwrap()).collect();
        let answers = futures::future::join_all(texts.iter().map(|text| fixture.verify(text))).await;
        assert!(answers.iter().all(|answer| matches!(answer, Err(AuthError::InvalidKey { .. }))), "{answers:?}");
    }

    #[tokio::test]
    async fn keys_that_one_tenant_is_sent_without_end_hold_up_no_other_tenants() {
        let fixture = Fixture::new().await;
        let Fixture { keys, tenant, .. } = &fixture;
        let other = TenantId(tenant.0 + 1);
        // What is looked up of the tenant's takes for ever, and many more wait behind it.
        let _looking = keys.lane(*tenant).acquire().await.unwrap();
        let texts: Vec<_> = (0..100).map(|_| new_text().unwrap()).collect();
        let waiting = futures::future::join_all(texts.iter().map(|text| fixture.verify(text)));
        let text = new_text().unwrap();
        let others = keys.verify(other, EndpointId(1), "GET", &text);
        let (waiting, others) = futures::future::join(waiting, others).await;
        assert!(waiting.iter().all(|answer| matches!(answer, Err(AuthError::TooManyLookUps { .. }))), "{waiting:?}");
        assert!(matches!(others, Err(AuthError::InvalidKey { .. })), "{others:?}");
    }

    #[tokio::test]
    async fn what_is_remembered_of_keys_is_counted() {
        let fixture = Fixture::new().await;
        let Fixture { keys, tenant, .. } = &fixture;
        fixture.verify(fixture.text()).await.unwrap();
        let plain = keys.verified.weight();
        let attributes = serde_json::json!({"a": "x".repeat(8000)}).as_object().unwrap().clone();
        let row_filters = serde_json::from_value(serde_json::json!([
            {"connection": "dw", "schema": "s".repeat(200), "table": "t", "column": "c", "equals": {"value": "v".repeat(1000)}}
        ]));
        let terms = KeyTerms {
            name: String::new(),
            endpoints: None,
            methods: None,
            attributes: Arc::new(attributes),
            row_filters: row_filters.unwrap(),
            rate_limit: None,
        };
        let large = keys.create_key(&keys.db, *tenant, terms, Duration::from_secs(60)).await.unwrap();
        keys.db.look_for_changes().await.unwrap();
        fixture.verify(large.text.expose_str().unwrap()).await.unwrap();
        let both = keys.verified.weight();
        assert!((400..1000).contains(&plain) && both >= plain + 9200, "{plain} {both}");
    }

    #[test]
    fn a_key_is_recognised_and_what_looks_like_one_is_not() {
        let text = new_text().unwrap();
        assert_eq!(text.len(), 4 + 64 + 8);
        assert!(is_form(&text));
        assert_ne!(text, new_text().unwrap());
        let last = if text.ends_with('0') { '1' } else { '0' };
        for bad in [
            String::new(),
            KEY_PREFIX.to_owned(),
            text.to_uppercase(),
            format!("{text}0"),
            text[..75].to_owned(),
            format!("{}{last}", &text[..75]),
            format!("pqh_{}", &text[4..]),
            format!(" {text}"),
            format!("pqk_{}", "é".repeat(36)),
        ] {
            assert!(!is_form(&bad), "{bad}");
        }
    }
}
