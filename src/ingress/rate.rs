//! How often an endpoint may be asked, and a consumer key be used.
//!
//! Owns: the counters, one for each caller or for all of an endpoint. Never: identifies callers.
//!
//! Each host process counts for itself, from when it started. Counters of one kind make room for each other and for no other kind's: strangers
//! without number, or a tenant's many tokens, have no partner's key begin anew.

use std::{net::IpAddr, num::NonZeroU32, sync::Arc, time::Duration};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter, clock::Clock as _};
use moka::policy::EvictionPolicy;
use serde_json::Value;

use crate::{
    domain::{
        client::ClientAddress,
        endpoint::RatePer,
        exchange::{Caller, KeyHolder, TokenBearer},
        names::EndpointId,
        rate_limit::RateLimit,
    },
    invoke::EndpointTarget,
    problem::RequestError,
};

/// Counters of each kind that are remembered. One takes about 300 bytes. Whoever was silent for longest is forgotten, and begins anew.
const COUNTERS_MAX: u64 = 50_000;

/// A counter that is not used for this long is forgotten: by then the slowest limit has let in all that it lets in at once.
const IDLE: Duration = Duration::from_secs(86_400);

/// Requests that are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Counted {
    /// At an endpoint. One that is changed begins anew.
    Endpoint { endpoint: EndpointId, revision: i64, whose: Whose },
    /// With a consumer key, wherever. A limit that is changed begins anew.
    Key { id: Arc<str>, limit: RateLimit },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Whose {
    Everybodys,
    /// A network's, of callers of whom nothing else is known.
    Network(Option<IpAddr>),
    Token {
        issuer: Arc<str>,
        id: Arc<str>,
    },
    /// Of an outside issuer that gives its tokens no ids; without a subject its tokens count together.
    Subject {
        issuer: Arc<str>,
        subject: Option<Arc<str>>,
    },
    Key(Arc<str>),
}

impl Whose {
    fn of(caller: &Caller, client: Option<ClientAddress>) -> Self {
        match caller {
            Caller::Public => Self::Network(client.map(ClientAddress::network)),
            Caller::Token(TokenBearer { id: Some(id), issuer, .. }) => {
                Self::Token { issuer: Arc::clone(issuer), id: Arc::clone(id) }
            }
            Caller::Token(TokenBearer { id: None, issuer, claims, .. }) => {
                let subject = claims.get("sub").and_then(Value::as_str).map(Arc::from);
                Self::Subject { issuer: Arc::clone(issuer), subject }
            }
            Caller::Key(KeyHolder { id, .. }) => Self::Key(Arc::clone(id)),
        }
    }
}

type Counters = moka::sync::Cache<Counted, Arc<DefaultDirectRateLimiter>>;

/// Counts requests.
#[derive(Debug)]
pub(super) struct RateLimits {
    /// Of all callers of an endpoint together.
    endpoints: Counters,
    /// Of keys, by their own limits and by endpoints'.
    keys: Counters,
    tokens: Counters,
    networks: Counters,
}

impl RateLimits {
    pub(super) fn new() -> Self {
        Self::with_counters(COUNTERS_MAX)
    }

    fn with_counters(max: u64) -> Self {
        // The default policy would keep newcomers out of a full cache, and their requests uncounted.
        let policy = EvictionPolicy::lru();
        let counters =
            || Counters::builder().max_capacity(max).time_to_idle(IDLE).eviction_policy(policy.clone()).build();
        Self { endpoints: counters(), keys: counters(), tokens: counters(), networks: counters() }
    }

    /// Where requests of this kind are counted.
    fn counters(&self, counted: &Counted) -> &Counters {
        match counted {
            Counted::Key { .. } | Counted::Endpoint { whose: Whose::Key(_), .. } => &self.keys,
            Counted::Endpoint { whose: Whose::Token { .. } | Whose::Subject { .. }, .. } => &self.tokens,
            Counted::Endpoint { whose: Whose::Network(_), .. } => &self.networks,
            Counted::Endpoint { whose: Whose::Everybodys, .. } => &self.endpoints,
        }
    }

    /// Counts a request against the limit of its endpoint and that of the caller's key.
    ///
    /// # Errors
    /// [`RequestError::RateLimited`] if it is one too many.
    pub(super) fn check(
        &self,
        endpoint: &EndpointTarget,
        caller: &Caller,
        of_key: Option<RateLimit>,
        client: Option<ClientAddress>,
    ) -> Result<(), RequestError> {
        self.check_key(caller, of_key)?;
        let Some(rate) = endpoint.settings.rate_limit else { return Ok(()) };
        let Ok(limit) = rate.limit() else { return Ok(()) }; // it was checked when it was set
        let whose = match rate.per {
            RatePer::Caller => Whose::of(caller, client),
            RatePer::Endpoint => Whose::Everybodys,
        };
        self.count(&Counted::Endpoint { endpoint: endpoint.id, revision: endpoint.revision, whose }, limit)
    }

    /// Counts a request against the limit of the caller's key alone.
    ///
    /// # Errors
    /// [`RequestError::RateLimited`] if it is one too many.
    pub(super) fn check_key(&self, caller: &Caller, of_key: Option<RateLimit>) -> Result<(), RequestError> {
        match (caller, of_key) {
            (Caller::Key(holder), Some(limit)) => {
                self.count(&Counted::Key { id: Arc::clone(&holder.id), limit }, limit)
            }
            (Caller::Public | Caller::Token(_) | Caller::Key(_), _) => Ok(()),
        }
    }

    fn count(&self, counted: &Counted, limit: RateLimit) -> Result<(), RequestError> {
        let counter = self.counters(counted).get_with_by_ref(counted, || Arc::new(RateLimiter::direct(quota(limit))));
        counter.check().map_err(|not_before| {
            let wait = not_before.wait_time_from(counter.clock().now());
            // Told in whole seconds: who waits for so many is let through.
            let retry_after = Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
            RequestError::RateLimited { retry_after }
        })
    }
}

/// All requests of the limit at once, and room for the next one after its share of the time.
fn quota(limit: RateLimit) -> Quota {
    let requests = NonZeroU32::new(limit.requests()).unwrap_or(NonZeroU32::MIN);
    let share = Duration::from_secs(limit.seconds().into()) / requests.get();
    Quota::with_period(share).unwrap_or(Quota::per_second(requests)).allow_burst(requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> Option<ClientAddress> {
        Some(ClientAddress(text.parse().unwrap()))
    }

    #[test]
    fn any_limit_that_may_be_set_can_be_counted() {
        for requests in [1, 2, 3, 1_000_000] {
            for seconds in [1, 60, 86_400] {
                let quota = quota(RateLimit::new(requests, seconds).unwrap());
                assert_eq!(quota.burst_size().get(), requests);
                RateLimiter::direct(quota).check().unwrap();
            }
        }
    }

    fn key(id: &str) -> Counted {
        Counted::Key { id: id.into(), limit: RateLimit::new(1, 3600).unwrap() }
    }

    fn wait(checked: Result<(), RequestError>) -> Duration {
        match checked.unwrap_err() {
            RequestError::RateLimited { retry_after } => retry_after,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_caller_is_stopped_at_its_limit_and_told_for_how_long() {
        let limits = RateLimits::new();
        let limit = RateLimit::new(3, 3600).unwrap();
        for _ in 0..3 {
            limits.count(&key("a"), limit).unwrap();
        }
        let wait = wait(limits.count(&key("a"), limit));
        assert!(wait > Duration::from_secs(1100) && wait <= Duration::from_secs(1200), "{wait:?}");
        limits.count(&key("b"), limit).unwrap();
    }

    #[test]
    fn time_lets_requests_through_again() {
        let limits = RateLimits::new();
        let limit = RateLimit::new(10, 1).unwrap();
        // The eleventh, or a later one on a machine that is slow.
        let refused = (0..).map(|_| limits.count(&key("a"), limit)).find(Result::is_err).unwrap();
        std::thread::sleep(wait(refused));
        limits.count(&key("a"), limit).expect("it comes as late as it was told to");
    }

    #[test]
    fn who_is_new_is_counted_when_others_fill_the_memory() {
        let limits = RateLimits::with_counters(10);
        let limit = RateLimit::new(1, 3600).unwrap();
        for n in 0..1000 {
            let key = key(&n.to_string());
            limits.count(&key, limit).unwrap();
            limits.count(&key, limit).expect_err("the second");
        }
        limits.keys.run_pending_tasks();
        assert!(limits.keys.entry_count() <= 10);
    }

    #[test]
    fn callers_of_one_kind_push_out_nobody_of_another() {
        let limit = RateLimit::new(1, 3600).unwrap();
        let kinds: [fn(usize) -> Whose; 4] = [
            |n| Whose::Network(client(&format!("2001:db8:{n:x}::1")).map(ClientAddress::network)),
            |n| Whose::Token { issuer: "pqhost".into(), id: n.to_string().into() },
            |n| Whose::Subject { issuer: "outside".into(), subject: Some(n.to_string().into()) },
            |n| Whose::Key(n.to_string().into()),
        ];
        let at = |endpoint: i64, whose: Whose| Counted::Endpoint { endpoint: EndpointId(endpoint), revision: 1, whose };
        for (flooding, whose) in kinds.iter().enumerate() {
            let limits = RateLimits::with_counters(10);
            let mut quiet = vec![at(1, Whose::Everybodys)];
            if flooding != 3 {
                quiet.extend([key("quiet"), at(1, Whose::Key("quiet".into()))]);
            }
            if flooding != 1 && flooding != 2 {
                quiet.extend([at(1, kinds[1](0)), at(1, kinds[2](0))]);
            }
            if flooding != 0 {
                quiet.push(at(1, kinds[0](0)));
            }
            for one in &quiet {
                limits.count(one, limit).unwrap();
            }
            for n in 1..1000 {
                limits.count(&at(2, whose(n)), limit).unwrap();
            }
            for counters in [&limits.endpoints, &limits.keys, &limits.tokens, &limits.networks] {
                counters.run_pending_tasks();
            }
            for one in &quiet {
                limits.count(one, limit).expect_err("it was counted before");
            }
        }
    }

    #[test]
    fn callers_are_who_they_are_and_not_where_they_come_from() {
        let token = |id: Option<&str>, issuer: &str, subject: &str| {
            let claims = serde_json::json!({"sub": subject}).as_object().cloned().unwrap();
            let (id, claims) = (id.map(Into::into), Arc::new(claims));
            Caller::Token(TokenBearer { id, issuer: issuer.into(), claims, methods: None, rows: None })
        };
        let key =
            |id: &str| Caller::Key(KeyHolder { id: id.into(), attributes: Arc::default(), methods: None, rows: None });
        let public = [client("192.0.2.1"), client("192.0.2.2"), client("2001:db8::1"), client("2001:db8:0:1::1"), None];
        let mut all: Vec<_> = public.into_iter().map(|client| Whose::of(&Caller::Public, client)).collect();
        let callers = [
            token(Some("1"), "pqhost", "ann"),
            token(Some("2"), "pqhost", "ann"),
            token(Some("1"), "outside", "ann"),
            token(None, "outside", "ann"),
            token(None, "outside", "bob"),
            key("1"),
            key("2"),
        ];
        for caller in &callers {
            assert_eq!(Whose::of(caller, client("192.0.2.1")), Whose::of(caller, client("192.0.2.9")));
            all.push(Whose::of(caller, None));
        }
        for (index, one) in all.iter().enumerate() {
            assert!(!all[index + 1..].contains(one), "{one:?}");
        }
        let neighbours = ["2001:db8::1", "2001:db8::ffff:1"].map(|text| Whose::of(&Caller::Public, client(text)));
        assert_eq!(neighbours[0], neighbours[1]);
    }
}
