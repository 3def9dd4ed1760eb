//! How often somebody may guess a password.
//!
//! Strangers must not lock a user out: what is refused is a client that guesses, for one user or for many. Guesses from everywhere at once
//! only slow down those who come from where the user has not logged in before.

use std::{
    hash::Hash,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use crate::domain::{client::ClientAddress, people::Email};

/// Wrong passwords for one user from one network within [`WINDOW`], before no further one is looked at.
///
/// People mistype a few times; ten in a quarter of an hour are a thousand a day, hopeless against twelve characters.
const FAILURES_PER_PAIR: u32 = 10;

/// The same for all users from one network, in which there may be an office.
const FAILURES_PER_NETWORK: u32 = 100;

/// Wrong passwords for one user from anywhere within [`WINDOW`], after which strangers wait for their turn.
const FAILURES_PER_USER: u32 = 30;

const WINDOW: Duration = Duration::from_secs(15 * 60);

/// Attempts of strangers for such a user come this far apart: 86,400 a day, from however many networks.
const PACE: Duration = Duration::from_secs(1);

/// Longest time that an attempt waits for its turn, so that ten wait at most. Further ones are to come back then.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// How long it is remembered where a user has logged in, while the host runs.
const KNOWN_FOR: Duration = Duration::from_secs(30 * 86400);

/// Entries of each kind that are remembered; beyond, those least used are forgotten. One takes about 200 bytes.
const REMEMBERED_MAX: u64 = 50_000;

/// Whoever is behind no network at all: a command on this machine.
type Network = Option<IpAddr>;

/// Attempts since a moment.
#[derive(Debug)]
struct Attempts {
    since: Instant,
    failed: AtomicU32,
}

/// Counts wrong passwords by user and by network.
#[derive(Debug)]
pub(super) struct Throttle {
    pairs: moka::sync::Cache<(Email, Network), Arc<Attempts>>,
    networks: moka::sync::Cache<IpAddr, Arc<Attempts>>,
    users: moka::sync::Cache<Email, Arc<Attempts>>,
    /// When the next attempt of a stranger is looked at.
    turns: moka::sync::Cache<Email, Arc<Mutex<Instant>>>,
    /// Where users have logged in.
    known: moka::sync::Cache<(Email, Network), ()>,
}

impl Throttle {
    pub(super) fn new() -> Self {
        let known = moka::sync::Cache::builder().max_capacity(REMEMBERED_MAX).time_to_live(KNOWN_FOR).build();
        Self { pairs: cache(), networks: cache(), users: cache(), turns: cache(), known }
    }

    /// Counts an attempt as failed until [`Attempt::succeeded`] says otherwise, so that attempts at the same time count, too.
    ///
    /// # Errors
    /// The time after which another attempt is looked at.
    pub(super) fn attempt(&self, email: &Email, client: Option<ClientAddress>) -> Result<Attempt<'_>, Duration> {
        let network = client.map(ClientAddress::network);
        let of_network = network.map(|network| charge(&self.networks, network, FAILURES_PER_NETWORK)).transpose()?;
        let pair = (email.clone(), network);
        let of_pair = charge(&self.pairs, pair.clone(), FAILURES_PER_PAIR)?;
        let of_user = charge(&self.users, email.clone(), FAILURES_PER_USER);
        let wait = match of_user {
            Err(_) if !self.known.contains_key(&pair) => self.turn(email)?,
            Ok(_) | Err(_) => Duration::ZERO,
        };
        let charged =
            [of_network, Some(of_pair), of_user.ok()].into_iter().flatten().filter_map(Charge::keep).collect();
        Ok(Attempt { throttle: self, pair, charged, wait })
    }

    /// How long an attempt of a stranger waits for its turn.
    fn turn(&self, email: &Email) -> Result<Duration, Duration> {
        let now = Instant::now();
        let next = self.turns.get_with_by_ref(email, || Arc::new(Mutex::new(now)));
        let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = next.saturating_duration_since(now);
        if wait >= WAIT_MAX {
            return Err(wait);
        }
        *next = now + wait + PACE;
        Ok(wait)
    }
}

/// An attempt whose password is to be looked at, after a while.
#[derive(Debug)]
pub(super) struct Attempt<'t> {
    throttle: &'t Throttle,
    pair: (Email, Network),
    charged: Vec<Arc<Attempts>>,
    /// How long to wait before.
    pub(super) wait: Duration,
}

impl Attempt<'_> {
    /// The password was right: its user starts anew from there; its network is merely not charged, or it could try others without end.
    pub(super) fn succeeded(self) {
        let Self { throttle, pair, charged, wait: _ } = self;
        for attempts in charged {
            attempts.failed.fetch_sub(1, Ordering::Relaxed);
        }
        throttle.pairs.invalidate(&pair);
        throttle.known.insert(pair, ());
    }
}

fn cache<K: Hash + Eq + Send + Sync + 'static, V: Clone + Send + Sync + 'static>() -> moka::sync::Cache<K, V> {
    moka::sync::Cache::builder().max_capacity(REMEMBERED_MAX).time_to_live(WINDOW).build()
}

/// An attempt that counts as failed. Dropped, it does not: nobody has looked at the password.
struct Charge(Option<Arc<Attempts>>);

impl Charge {
    fn keep(mut self) -> Option<Arc<Attempts>> {
        self.0.take()
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(attempts) = &self.0 {
            attempts.failed.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn charge<K: Hash + Eq + Send + Sync + 'static>(
    counters: &moka::sync::Cache<K, Arc<Attempts>>,
    key: K,
    max: u32,
) -> Result<Charge, Duration> {
    let new = || Arc::new(Attempts { since: Instant::now(), failed: AtomicU32::new(0) });
    let attempts = counters.get_with(key, new);
    let failed_before = attempts.failed.fetch_add(1, Ordering::Relaxed);
    let charge = Charge(Some(Arc::clone(&attempts)));
    if failed_before < max { Ok(charge) } else { Err(WINDOW.saturating_sub(attempts.since.elapsed())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> Option<ClientAddress> {
        Some(ClientAddress(text.parse().unwrap()))
    }

    fn stranger(n: u32) -> Option<ClientAddress> {
        Some(ClientAddress(std::net::Ipv4Addr::from_bits(0xC612_0000 + n).into()))
    }

    #[test]
    fn guessing_stops_after_a_few_attempts_and_success_starts_anew() {
        let throttle = Throttle::new();
        let [ann, bob, cid] = ["ann", "bob", "cid"].map(|name| format!("{name}@acme.example").parse().unwrap());
        let office = client("192.0.2.1");
        for _ in 0..FAILURES_PER_PAIR {
            throttle.attempt(&ann, office).unwrap();
        }
        let wait = throttle.attempt(&ann, office).unwrap_err();
        assert!(wait <= WINDOW && wait > WINDOW - Duration::from_secs(60), "{wait:?}");
        throttle.attempt(&bob, office).unwrap().succeeded();
        throttle.attempt(&bob, office).unwrap();

        for _ in 1..FAILURES_PER_PAIR {
            throttle.attempt(&cid, office).unwrap();
        }
        throttle.attempt(&cid, office).unwrap().succeeded();
        throttle.attempt(&cid, office).unwrap();
    }

    #[test]
    fn one_client_cannot_try_many_users_not_even_with_many_ipv6_addresses() {
        let throttle = Throttle::new();
        let user = |n: u32| format!("user{n}@acme.example").parse().unwrap();
        let address = |n: u32| client(&format!("2001:db8::{n:x}"));
        for n in 0..FAILURES_PER_NETWORK {
            throttle.attempt(&user(n), address(n)).unwrap();
        }
        throttle.attempt(&user(1000), address(1000)).unwrap_err();
        throttle.attempt(&user(1000), client("2001:db8:0:1::1")).unwrap();
        throttle.attempt(&user(1000), None).unwrap();
    }

    #[test]
    fn what_is_not_looked_at_counts_against_nobody() {
        let throttle = Throttle::new();
        let (ann, bob) = ("ann@acme.example".parse().unwrap(), "bob@acme.example".parse().unwrap());
        let office = client("192.0.2.1");
        let refused = (0..2 * FAILURES_PER_NETWORK).filter(|_| throttle.attempt(&ann, office).is_err()).count();
        assert_eq!(refused, (2 * FAILURES_PER_NETWORK - FAILURES_PER_PAIR) as usize);
        throttle.attempt(&bob, office).unwrap();

        for n in 0..FAILURES_PER_USER + 5 {
            throttle.attempt(&bob, stranger(n)).unwrap(); // the last of them wait for their turns
        }
        let hotel = client("198.51.100.1");
        let waits: Vec<_> = (0..100).filter_map(|_| throttle.attempt(&bob, hotel).err()).collect();
        assert!(waits.len() >= 90, "most come too early: {waits:?}");
        assert!(waits.iter().all(|wait| *wait <= WAIT_MAX + PACE), "{hotel:?} is not locked out: {waits:?}");
    }

    #[test]
    fn strangers_delay_strangers_and_not_the_user() {
        let throttle = Throttle::new();
        let ann = "ann@acme.example".parse().unwrap();
        let home = client("192.0.2.1");
        let wait = |client| throttle.attempt(&ann, client).map(|attempt| attempt.wait);
        throttle.attempt(&ann, home).unwrap().succeeded();
        for n in 0..FAILURES_PER_USER {
            assert_eq!(wait(stranger(n)), Ok(Duration::ZERO));
        }
        let begin = Instant::now();
        assert_eq!(wait(stranger(100)), Ok(Duration::ZERO));
        let waits: Vec<_> = (101..110).map(|n| wait(stranger(n)).unwrap()).collect();
        let tenth = waits[8];
        assert!(tenth <= 9 * PACE && tenth + begin.elapsed() >= 9 * PACE, "{tenth:?}");
        // The twelfth, or a later one where time passes.
        let refused = (110..).find_map(|n| wait(stranger(n)).err()).unwrap();
        assert!(refused <= WAIT_MAX + PACE, "nobody is locked out: {refused:?}");
        let at_home = throttle.attempt(&ann, home).unwrap();
        assert_eq!(at_home.wait, Duration::ZERO);
        at_home.succeeded();
        assert_ne!(wait(stranger(99)), Ok(Duration::ZERO), "strangers are slow still");
    }
}
