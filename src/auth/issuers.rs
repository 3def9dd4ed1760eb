//! Keys of issuers outside of pqhost: fetched when a token needs them, and kept.
//!
//! Owns: when a set is fetched, who waits for that and how long. Never: decides which issuers a tenant trusts (see `trust`), which
//! addresses may be reached (see `egress`).
//! Invariant: whatever a server of keys does, of one issuer's set there is one fetch at a time, and it ends.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use tokio::sync::Semaphore;
use url::Url;

use crate::{
    auth::{
        AuthError, invalid,
        jwks::{InvalidKeySet, IssuerKeys},
        keys::VerifyingKey,
    },
    domain::{
        egress::AllowRule,
        http::{HttpError, HttpRequest},
        limits::HttpLimits,
        names::TenantId,
    },
    egress::Egress,
};

/// Sets that are kept. A usual one takes 2 KB; the largest that there can be, 80 KB.
const SETS_MAX: u64 = 1_000;

/// Requests that wait for the same set. More than that make do with what is known, or are told to come back.
const WAITING_MAX: usize = 100;

/// What a fetch may take. Sets of large providers have 10 KB.
const FETCH: HttpLimits = HttpLimits {
    requests: 1,
    request_bytes: 0,
    response_bytes: 256 << 10,
    headers: 100,
    header_bytes: 64 << 10,
    time: Duration::from_secs(5),
};

/// How long things last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// A set is taken as it is for this long.
    pub(super) fresh: Duration,
    /// A set whose server does not answer any more goes on for this long.
    pub(super) kept: Duration,
    /// A set is not fetched again before this has passed, whatever keys tokens name.
    pub(super) again: Duration,
    /// The same while there is no set at all.
    pub(super) again_without: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            fresh: Duration::from_secs(600),
            kept: Duration::from_secs(24 * 3600),
            again: Duration::from_secs(30),
            again_without: Duration::from_secs(5),
        }
    }
}

/// The sets of all tenants' issuers.
#[derive(Debug)]
pub(super) struct KeySets {
    egress: Arc<Egress>,
    times: Times,
    sets: moka::sync::Cache<(TenantId, Arc<str>), Arc<KeySet>>,
}

/// One issuer's set.
#[derive(Debug)]
struct KeySet {
    state: Mutex<State>,
    waiting: Semaphore,
}

#[derive(Debug, Default)]
struct State {
    /// The last good one, and when it came.
    known: Option<(IssuerKeys, Instant)>,
    /// When the last fetch ended, and whether it brought a set.
    last: Option<(Instant, bool)>,
    fetching: Option<Shared<BoxFuture<'static, ()>>>,
}

/// Why a fetch brought no set. For logs.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the URL of its keys is not https, nor http to an address that the operator has listed")]
    NotSecure,
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the server answered {0} instead of 200")]
    Status(u16),
    #[error(transparent)]
    Invalid(#[from] InvalidKeySet),
}

impl KeySets {
    pub(super) fn new(egress: Arc<Egress>, times: Times) -> Self {
        let sets = moka::sync::Cache::builder().max_capacity(SETS_MAX).time_to_idle(times.kept).build();
        Self { egress, times, sets }
    }

    /// The key of this name in the set at `url`; without a name, the only key of the set.
    ///
    /// # Errors
    /// [`AuthError::InvalidToken`] if there is none, [`AuthError::IssuerUnavailable`] if that cannot be told.
    pub(super) async fn find(
        &self,
        tenant: TenantId,
        url: &Arc<str>,
        kid: Option<&str>,
    ) -> Result<VerifyingKey, AuthError> {
        let new = || Arc::new(KeySet { state: Mutex::default(), waiting: Semaphore::new(WAITING_MAX) });
        let set = self.sets.get_with((tenant, Arc::clone(url)), new);
        let wants_fetch = set.lock().wants_fetch(kid, &self.times);
        if wants_fetch && let Ok(_place) = set.waiting.try_acquire() {
            self.fetched(&set, kid, tenant, url).await;
        }
        set.lock().find(kid, &self.times)
    }

    /// Returns when a fetch of the set has ended: the one that runs, or a new one. Fetches end by themselves, so that dropping this
    /// neither stops one that others wait for nor leaves one behind for long.
    async fn fetched(&self, set: &Arc<KeySet>, kid: Option<&str>, tenant: TenantId, url: &Arc<str>) {
        let fetching = {
            let mut state = set.lock();
            if !state.wants_fetch(kid, &self.times) {
                return; // one has ended in between
            }
            let running = state.fetching.clone().filter(|_| state.is_fetching());
            running.unwrap_or_else(|| {
                let fetch = fetch(Arc::clone(&self.egress), Arc::clone(set), tenant, Arc::clone(url));
                let fetching = tokio::spawn(fetch).map(drop).boxed().shared();
                state.fetching = Some(fetching.clone());
                fetching
            })
        };
        fetching.await;
    }
}

impl KeySet {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The set, if it is not too old to be believed.
    fn keys(&self, times: &Times) -> Option<&IssuerKeys> {
        self.known.as_ref().filter(|(_, since)| since.elapsed() < times.kept).map(|(keys, _)| keys)
    }

    fn is_fetching(&self) -> bool {
        self.fetching.as_ref().is_some_and(|fetching| fetching.peek().is_none())
    }

    /// How long the set is not fetched again.
    fn pause(&self, times: &Times) -> Duration {
        let pause = if self.keys(times).is_some() { times.again } else { times.again_without };
        self.last.map_or(Duration::ZERO, |(ended, _)| pause.saturating_sub(ended.elapsed()))
    }

    /// Whether who looks for a key should wait for a fetch.
    fn wants_fetch(&self, kid: Option<&str>, times: &Times) -> bool {
        let is_fresh = self.known.as_ref().is_some_and(|(_, since)| since.elapsed() < times.fresh);
        let is_known = self.keys(times).is_some_and(|keys| keys.find(kid).is_some());
        !(is_fresh && is_known) && self.pause(times).is_zero()
    }

    /// A key, as far as is known.
    fn find(&self, kid: Option<&str>, times: &Times) -> Result<VerifyingKey, AuthError> {
        let keys = self.keys(times);
        if let Some(key) = keys.and_then(|keys| keys.find(kid)) {
            return Ok(key.clone());
        }
        let has_come = self.last.is_some_and(|(_, has_come)| has_come);
        if keys.is_some() && has_come && !self.is_fetching() {
            return Err(invalid("its issuer has no such key"));
        }
        Err(AuthError::IssuerUnavailable { retry_after: self.pause(times).max(Duration::from_secs(1)) })
    }
}

/// Fetches a set, and notes what came of it.
async fn fetch(egress: Arc<Egress>, set: Arc<KeySet>, tenant: TenantId, url: Arc<str>) {
    let fetched = ask(&egress, tenant, &url).await;
    if let Err(error) = &fetched {
        // Its author has named it, and sees no more of it than this.
        tracing::warn!(tenant.id = %tenant, jwks.url = &*url, %error, "the keys of an issuer cannot be had");
    }
    let mut state = set.lock();
    state.last = Some((Instant::now(), fetched.is_ok()));
    state.fetching = None;
    if let Ok(keys) = fetched {
        state.known = Some((keys, Instant::now()));
    }
}

async fn ask(egress: &Egress, tenant: TenantId, url: &str) -> Result<IssuerKeys, FetchError> {
    let parsed = Url::parse(url).map_err(|_| FetchError::NotSecure)?;
    if parsed.scheme() != "https" && !egress.lists_host_of(&parsed) {
        return Err(FetchError::NotSecure);
    }
    let rule = AllowRule::of_url(&parsed).map_err(|_| FetchError::NotSecure)?;
    let request = HttpRequest {
        method: "GET".to_owned(),
        url: url.to_owned(),
        headers: vec![("accept".to_owned(), "application/json".to_owned())],
        ..HttpRequest::default()
    };
    let response = egress.send(tenant, &[rule], request, &FETCH, Instant::now() + FETCH.time).await?;
    if response.status != 200 {
        return Err(FetchError::Status(response.status)); // a redirect too: who names a set names where it is
    }
    Ok(IssuerKeys::read(&response.body)?)
}
