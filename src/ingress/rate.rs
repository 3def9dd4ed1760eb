//! How often somebody has called, and whether once more is too often.
//!
//! Owns: the counting. It is this host's own: of several hosts, each lets a caller through as often as its limit says.

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
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

type Limiter<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// Counts requests.
pub(super) struct RateLimits<C: Clock = DefaultClock> {
    clock: C,
    limiters: Cache<(Counted, RateLimit), Arc<Limiter<C>>>,
}

impl<C: Clock> fmt::Debug for RateLimits<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimits").field("counted", &self.limiters.entry_count()).finish_non_exhaustive()
    }
}

impl RateLimits {
    /// Nobody has called yet.
    pub(super) fn new() -> Self {
        Self::with(DefaultClock::default(), COUNTED_MAX)
    }
}

impl<C> RateLimits<C>
where
    C: Clock + Clone + Send + Sync + 'static,
    C::Instant: Send + Sync,
{
    fn with(clock: C, counted_max: u64) -> Self {
        // The default policy would keep newcomers out of a full cache, and their requests uncounted.
        let limiters = Cache::builder().max_capacity(counted_max).eviction_policy(EvictionPolicy::lru()).build();
        Self { clock, limiters }
    }

    /// Counts a request. A limit that is changed begins anew.
    ///
    /// # Errors
    /// If it is one too many, with the time after which one is not, in whole seconds: who waits so long is let through.
    pub(super) fn check(&self, counted: Counted, limit: RateLimit) -> Result<(), Duration> {
        let new = || Arc::new(RateLimiter::direct_with_clock(quota(limit), self.clock.clone()));
        self.limiters.get_with((counted, limit), new).check().map_err(|not_until| {
            let wait = not_until.wait_time_from(self.clock.now());
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
    use governor::clock::FakeRelativeClock;

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
        let clock = FakeRelativeClock::default();
        let limits = RateLimits::with(clock.clone(), 10);
        let limit = RateLimit::new(2, 2).unwrap();
        let check = || limits.check(Counted::Key("a".into()), limit);
        assert!(check().is_ok() && check().is_ok());
        let wait = check().unwrap_err();
        assert_eq!(wait, Duration::from_secs(1));
        clock.advance(Duration::from_millis(300));
        assert_eq!(check().unwrap_err(), wait, "700 milliseconds are told as a second");
        clock.advance(wait);
        check().unwrap();
        check().expect_err("one for each second");
    }

    #[test]
    fn who_is_new_is_counted_when_others_fill_the_memory() {
        let limits = RateLimits::with(DefaultClock::default(), 10);
        let limit = RateLimit::new(1, 3600).unwrap();
        for n in 0..1000 {
            let key = Counted::Key(n.to_string().into());
            limits.check(key.clone(), limit).unwrap();
            limits.check(key, limit).expect_err("the second");
        }
        limits.limiters.run_pending_tasks();
        assert!(limits.limiters.entry_count() <= 10);
    }
}
