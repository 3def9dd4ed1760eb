//! How often somebody has called, and whether once more is too often.
//!
//! Owns: the counting. It is this host's own: of several hosts, each lets a caller through as often as its limit says.

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter, clock::Clock as _};
use moka::{policy::EvictionPolicy, sync::Cache};

use crate::domain::rate_limit::RateLimit;

/// Callers whose requests are counted at once, at most; one takes some 200 bytes. Whoever was silent for longest is forgotten,
/// and begins anew.
const COUNTED_MAX: u64 = 100_000;

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Counted {
    /// Those with a consumer key.
    Key(Arc<str>),
}

/// Counts requests.
pub(super) struct RateLimits(Cache<(Counted, RateLimit), Arc<DefaultDirectRateLimiter>>);

impl fmt::Debug for RateLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimits").field("counted", &self.0.entry_count()).finish()
    }
}

impl RateLimits {
    /// Nobody has called yet.
    pub(super) fn new() -> Self {
        // The default policy would keep newcomers out of a full cache, and their requests uncounted.
        Self(Cache::builder().max_capacity(COUNTED_MAX).eviction_policy(EvictionPolicy::lru()).build())
    }

    /// Counts a request. A limit that is changed begins anew.
    ///
    /// # Errors
    /// If it is one too many, with the time after which one is not, in whole seconds: who waits so long is let through.
    pub(super) fn check(&self, counted: Counted, limit: RateLimit) -> Result<(), Duration> {
        let limiter = self.0.get_with((counted, limit), || Arc::new(RateLimiter::direct(quota(limit))));
        limiter.check().map_err(|not_until| {
            let wait = not_until.wait_time_from(limiter.clock().now());
            Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
        })
    }
}

/// All requests of a limit at once, and then one for each share of its time.
fn quota(limit: RateLimit) -> Quota {
    let requests = NonZeroU32::new(limit.requests()).unwrap_or(NonZeroU32::MIN);
    let each = Duration::from_secs(limit.seconds().into()) / requests.get();
    Quota::with_period(each).unwrap_or(Quota::per_second(requests)).allow_burst(requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_stopped_at_its_limit_and_told_for_how_long() {
        let limits = RateLimits::new();
        let key = |id: &str| Counted::Key(id.into());
        let limit = RateLimit::new(3, 3600).unwrap();
        for _ in 0..3 {
            limits.check(key("a"), limit).unwrap();
        }
        let wait = limits.check(key("a"), limit).unwrap_err();
        assert!(wait > Duration::from_secs(1100) && wait <= Duration::from_secs(1200), "{wait:?}");
        limits.check(key("b"), limit).unwrap();
        limits.check(key("a"), RateLimit::new(4, 3600).unwrap()).expect("another limit");
    }

    #[test]
    fn time_lets_requests_through_again() {
        let limits = RateLimits::new();
        let limit = RateLimit::new(2, 2).unwrap();
        let check = || limits.check(Counted::Key("a".into()), limit);
        assert!(check().is_ok() && check().is_ok());
        let wait = check().unwrap_err();
        assert_eq!(wait, Duration::from_secs(1));
        std::thread::sleep(wait);
        check().unwrap();
        check().expect_err("one for each second");
    }

    #[test]
    fn who_is_new_is_counted_when_others_fill_the_memory() {
        let limits = RateLimits(Cache::builder().max_capacity(10).eviction_policy(EvictionPolicy::lru()).build());
        let limit = RateLimit::new(1, 3600).unwrap();
        for n in 0..1000 {
            let key = Counted::Key(n.to_string().into());
            limits.check(key.clone(), limit).unwrap();
            limits.check(key, limit).expect_err("the second");
        }
        limits.0.run_pending_tasks();
        assert!(limits.0.entry_count() <= 10);
    }
}
