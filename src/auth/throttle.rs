//! How often somebody may guess a password.

use std::{
    hash::Hash,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use crate::domain::people::Email;

/// Wrong passwords for one address within [`WINDOW`], before no further one is looked at.
///
/// People mistype a few times; ten in a quarter of an hour are a thousand a day, hopeless against twelve characters.
const FAILURES_PER_EMAIL: u32 = 10;

/// The same for one client, behind whose address there may be an office.
const FAILURES_PER_CLIENT: u32 = 100;

const WINDOW: Duration = Duration::from_secs(15 * 60);

/// Addresses that are remembered of either kind; beyond, those least used are forgotten. One takes about 200 bytes.
const REMEMBERED_MAX: u64 = 50_000;

/// Attempts since a moment.
#[derive(Debug)]
struct Attempts {
    since: Instant,
    failed: AtomicU32,
}

/// Counts wrong passwords by user and by client.
#[derive(Debug)]
pub(super) struct Throttle {
    emails: moka::sync::Cache<Email, Arc<Attempts>>,
    clients: moka::sync::Cache<IpAddr, Arc<Attempts>>,
}

impl Throttle {
    pub(super) fn new() -> Self {
        Self { emails: counters(), clients: counters() }
    }

    /// Counts an attempt as failed until [`Self::succeeded`] says otherwise, so that attempts at the same time count, too.
    ///
    /// # Errors
    /// The time after which another attempt is looked at.
    pub(super) fn attempt(&self, email: &Email, client: Option<IpAddr>) -> Result<(), Duration> {
        if let Some(client) = client {
            count(&self.clients, &client, FAILURES_PER_CLIENT)?;
        }
        count(&self.emails, email, FAILURES_PER_EMAIL)
    }

    /// The attempt was right: its user starts anew; its client is merely not charged, or it could try others without end.
    pub(super) fn succeeded(&self, email: &Email, client: Option<IpAddr>) {
        self.emails.invalidate(email);
        if let Some(attempts) = client.and_then(|client| self.clients.get(&client)) {
            // Another window may have begun since.
            _ = attempts.failed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |failed| failed.checked_sub(1));
        }
    }
}

fn counters<K: Hash + Eq + Send + Sync + 'static>() -> moka::sync::Cache<K, Arc<Attempts>> {
    moka::sync::Cache::builder().max_capacity(REMEMBERED_MAX).time_to_live(WINDOW).build()
}

fn count<K: Hash + Eq + Clone + Send + Sync + 'static>(
    counters: &moka::sync::Cache<K, Arc<Attempts>>,
    key: &K,
    max: u32,
) -> Result<(), Duration> {
    let new = || Arc::new(Attempts { since: Instant::now(), failed: AtomicU32::new(0) });
    let attempts = counters.get_with_by_ref(key, new);
    if attempts.failed.fetch_add(1, Ordering::Relaxed) < max {
        return Ok(());
    }
    attempts.failed.fetch_sub(1, Ordering::Relaxed);
    Err(WINDOW.saturating_sub(attempts.since.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guessing_stops_after_a_few_attempts_and_success_starts_anew() {
        let throttle = Throttle::new();
        let (ann, bob) = ("ann@acme.example".parse().unwrap(), "bob@acme.example".parse().unwrap());
        let client = Some(IpAddr::from([192, 0, 2, 1]));
        for _ in 0..FAILURES_PER_EMAIL {
            throttle.attempt(&ann, client).unwrap();
        }
        let wait = throttle.attempt(&ann, client).unwrap_err();
        assert!(wait <= WINDOW && wait > WINDOW - Duration::from_secs(60), "{wait:?}");
        throttle.attempt(&bob, client).unwrap();
        throttle.succeeded(&bob, client);
        throttle.succeeded(&ann, client);
        throttle.attempt(&ann, client).unwrap();
    }

    #[test]
    fn one_client_cannot_try_many_users() {
        let throttle = Throttle::new();
        let client = Some(IpAddr::from([192, 0, 2, 1]));
        let user = |n: u32| format!("user{n}@acme.example").parse().unwrap();
        for n in 0..FAILURES_PER_CLIENT {
            throttle.attempt(&user(n), client).unwrap();
        }
        throttle.attempt(&user(1000), client).unwrap_err();
        throttle.attempt(&user(1000), None).unwrap();
    }
}
