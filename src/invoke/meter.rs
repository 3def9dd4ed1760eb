//! What a tenant uses on this host, counted as it goes, and the quotas that follow from it.
//!
//! Owns: counters of each tenant, and whether its quotas of requests and fuel are used up. Never: writes them (see `recorder`), or
//! looks anything up while a request waits.
//! Invariant: what was counted is in a counter until it is in the control database.
//!
//! Counting costs a few atomic additions in memory of the tenant's own, and once per batch that is written, a place in a queue.

use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use governor::{
    RateLimiter,
    clock::{Clock as _, MonotonicClock},
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use tokio::sync::{Semaphore, mpsc};

use crate::{
    db::usage::UsageRecord,
    domain::{
        names::TenantId,
        quota::{Day, Quota, Quotas, Usage, UsedUp},
    },
    invoke::InvokeError,
};

/// Meters that are kept while nobody uses them, at most, of some 400 bytes. One that is gone takes along when its tenant's last requests
/// came; what was counted is written before.
const METERS_MAX: u64 = 50_000;

/// How long they are kept: longer than routes, which hold their tenant's meter, are remembered.
const METER_IDLE_MAX: Duration = Duration::from_secs(300);

/// Pages of tables that are read for one tenant at once: a few databases' connections.
const TENANT_PAGES_MAX: usize = 16;

/// Pages that are on their way to callers, of all tenants, in KiB.
pub(super) const PAGES_KIB_MAX: usize = 256 << 10;

/// The share of one tenant: a quarter of what all may have.
const TENANT_PAGES_KIB_MAX: usize = PAGES_KIB_MAX / 4;

/// A token bucket that holds one second's worth.
type Bucket = RateLimiter<NotKeyed, InMemoryState, MonotonicClock, NoOpMiddleware<Instant>>;

/// How fast a tenant's requests may come.
#[derive(Debug)]
struct Rate {
    per_second: u32,
    /// `None` lets nothing through.
    bucket: Option<Bucket>,
}

impl Rate {
    fn new(per_second: u32) -> Self {
        let quota = NonZeroU32::new(per_second).map(governor::Quota::per_second);
        let bucket = quota.map(|quota| Bucket::direct_with_clock(quota, MonotonicClock));
        Self { per_second, bucket }
    }

    /// Takes a request's place, or says when there is one.
    fn take(&self) -> Result<(), Duration> {
        let Some(bucket) = &self.bucket else { return Err(Duration::from_secs(1)) };
        bucket.check().map_err(|until| until.wait_time_from(MonotonicClock.now()))
    }
}

/// Quotas of a tenant as its routes know them.
#[derive(Debug)]
pub(super) struct Granted {
    meter: Arc<Meter>,
    rate: Option<Arc<Rate>>,
}

impl Granted {
    pub(super) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Lets a request in, unless too many come.
    pub(super) fn admit(&self) -> Result<(), InvokeError> {
        let Some(rate) = &self.rate else { return Ok(()) };
        rate.take().map_err(|retry_after| {
            let used_up = UsedUp { quota: Quota::RequestsPerSecond, limit: rate.per_second.into() };
            self.refused(used_up, retry_after)
        })
    }

    /// Lets a handler begin, unless the day's fuel is used up.
    pub(super) fn admit_handler(&self) -> Result<(), InvokeError> {
        let limit = self.meter.fuel_per_day.load(Ordering::Relaxed);
        if limit == u64::MAX {
            return Ok(());
        }
        let seconds = now();
        if self.meter.fuel_used(Day::of(seconds)) < limit {
            return Ok(());
        }
        let retry_after = Duration::from_secs(Day::seconds_left(seconds));
        Err(self.refused(UsedUp { quota: Quota::FuelPerDay, limit }, retry_after))
    }

    fn refused(&self, used_up: UsedUp, retry_after: Duration) -> InvokeError {
        self.meter.count(Usage::of_refusal());
        InvokeError::QuotaUsedUp { used_up, retry_after }
    }
}

/// Counters of a tenant.
#[derive(Debug)]
pub(super) struct Meter {
    tenant: TenantId,
    /// Of days with an even and an odd number. What a day counted is written within moments; it has a whole day for that.
    days: [Counters; 2],
    /// Whether this stands in the queue of those that are to be written.
    is_queued: AtomicBool,
    queue: mpsc::UnboundedSender<Arc<Self>>,
    /// Handlers that may run at once, and quotas of fuel and storage; the largest number without one. Kept here and not with routes, which
    /// a session or a request with a slow body may have found long before a change.
    concurrency: AtomicUsize,
    fuel_per_day: AtomicU64,
    storage_bytes: AtomicU64,
    /// Kept while routes are read anew, which does not fill the bucket.
    rate: Mutex<Option<Arc<Rate>>>,
    /// Held while a page of a table is read, before one that is shared by all tenants.
    pub(super) pages: Arc<Semaphore>,
    /// Held while pages are on their way to their callers, a permit for each KiB.
    pub(super) page_bytes: Arc<Semaphore>,
    /// What is kept for the tenant, as it was when it was last looked at.
    pub(super) kept: tokio::sync::Mutex<Option<(Instant, u64)>>,
}

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    fuel: AtomicU64,
    duration_us: AtomicU64,
    rows: AtomicU64,
    answer_bytes: AtomicU64,
    /// Fuel that all hosts have written, as was last seen.
    written_fuel: AtomicU64,
    /// The day of that.
    written_day: AtomicI64,
}

impl Counters {
    fn usage(&self) -> Usage {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Usage {
            requests: read(&self.requests),
            failed: read(&self.failed),
            refused: read(&self.refused),
            fuel: read(&self.fuel),
            duration_us: read(&self.duration_us),
            rows: read(&self.rows),
            answer_bytes: read(&self.answer_bytes),
        }
    }

    /// Does something to each counter that has more than 0 of `usage`.
    fn change(&self, usage: Usage, change: impl Fn(&AtomicU64, u64)) {
        let Usage { requests, failed, refused, fuel, duration_us, rows, answer_bytes } = usage;
        for (counter, count) in [
            (&self.requests, requests),
            (&self.failed, failed),
            (&self.refused, refused),
            (&self.fuel, fuel),
            (&self.duration_us, duration_us),
            (&self.rows, rows),
            (&self.answer_bytes, answer_bytes),
        ] {
            if count > 0 {
                change(counter, count);
            }
        }
    }
}

impl Meter {
    fn counters(&self, day: Day) -> &Counters {
        &self.days[usize::from(day.0 & 1 == 1)]
    }

    /// Adds to what the tenant uses today.
    pub(super) fn count(self: &Arc<Self>, usage: Usage) {
        self.counters(today()).change(usage, |counter, count| _ = counter.fetch_add(count, Ordering::Relaxed));
        self.queue();
    }

    /// Has this written, or written once more.
    pub(super) fn queue(self: &Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::AcqRel) {
            _ = self.queue.send(Arc::clone(self)); // without a recorder nobody asks
        }
    }

    /// What is to be written of today and yesterday, for who has taken this from the queue, and then writes it or queues this again: else
    /// it would be written twice. What is counted from now on queues this again.
    pub(super) fn unwritten(&self) -> impl Iterator<Item = UsageRecord> + use<> {
        self.is_queued.swap(false, Ordering::AcqRel); // who found it set has counted before, and this sees it
        let today = today();
        let (tenant, yesterday) = (self.tenant, Day(today.0 - 1));
        let records = [yesterday, today].map(|day| UsageRecord { tenant, day, usage: self.counters(day).usage() });
        records.into_iter().filter(|record| record.usage != Usage::default())
    }

    /// What [`Self::unwritten`] gave is written, and so much fuel was used that day, by all hosts.
    pub(super) fn written(&self, record: &UsageRecord, fuel_used: u64) {
        // In this order fuel is counted twice for a moment, and never not at all.
        self.learn_fuel(record.day, fuel_used);
        let counters = self.counters(record.day);
        counters.change(record.usage, |counter, count| _ = counter.fetch_sub(count, Ordering::Relaxed));
    }

    /// So much fuel was used that day, by all hosts, as far as it is written.
    fn learn_fuel(&self, day: Day, fuel_used: u64) {
        let counters = self.counters(day);
        if counters.written_day.load(Ordering::Acquire) == day.0 {
            counters.written_fuel.fetch_max(fuel_used, Ordering::Relaxed); // it only grows
        } else {
            counters.written_fuel.store(fuel_used, Ordering::Relaxed);
            counters.written_day.store(day.0, Ordering::Release);
        }
    }

    /// Fuel that was used that day: by this host, and what is known of others.
    fn fuel_used(&self, day: Day) -> u64 {
        let counters = self.counters(day);
        let is_of_day = counters.written_day.load(Ordering::Acquire) == day.0;
        let written = if is_of_day { counters.written_fuel.load(Ordering::Relaxed) } else { 0 };
        written.saturating_add(counters.fuel.load(Ordering::Relaxed))
    }

    /// Handlers of the tenant that may run at once; `usize::MAX` without a quota.
    pub(super) fn concurrency(&self) -> usize {
        self.concurrency.load(Ordering::Relaxed)
    }

    /// Bytes that may be kept for the tenant, if there is a quota.
    pub(super) fn storage_bytes(&self) -> Option<u64> {
        Some(self.storage_bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes < u64::MAX)
    }

    /// The bucket of this rate: the same one as long as the rate is the same.
    fn rate(&self, per_second: u32) -> Arc<Rate> {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        match &*rate {
            Some(rate) if rate.per_second == per_second => Arc::clone(rate),
            Some(_) | None => Arc::clone(rate.insert(Arc::new(Rate::new(per_second)))),
        }
    }
}

/// The meters of all tenants that are in use.
#[derive(Debug)]
pub(super) struct Meters {
    meters: moka::sync::Cache<TenantId, Arc<Meter>>,
    queue: mpsc::UnboundedSender<Arc<Meter>>,
}

/// Meters that are to be written; each stands in it once.
pub(super) type Queue = (mpsc::UnboundedSender<Arc<Meter>>, mpsc::UnboundedReceiver<Arc<Meter>>);

impl Meters {
    /// Meters that stand in this queue when they have counted something.
    pub(super) fn new(queue: mpsc::UnboundedSender<Arc<Meter>>) -> Self {
        let meters = moka::sync::Cache::builder().max_capacity(METERS_MAX).time_to_idle(METER_IDLE_MAX).build();
        Self { meters, queue }
    }

    /// What the tenant is granted; `fuel_used` is what all hosts have used of its fuel today.
    pub(super) fn grant(&self, tenant: TenantId, quotas: &Quotas, fuel_used: u64) -> Granted {
        let Quotas { requests_per_second, concurrency, fuel_per_day, storage_bytes, scripts: _ } = *quotas;
        let new = || {
            Arc::new(Meter {
                tenant,
                days: Default::default(),
                is_queued: AtomicBool::new(false),
                queue: self.queue.clone(),
                concurrency: AtomicUsize::new(usize::MAX),
                fuel_per_day: AtomicU64::new(u64::MAX),
                storage_bytes: AtomicU64::new(u64::MAX),
                rate: Mutex::default(),
                pages: Arc::new(Semaphore::new(TENANT_PAGES_MAX)),
                page_bytes: Arc::new(Semaphore::new(TENANT_PAGES_KIB_MAX)),
                kept: tokio::sync::Mutex::default(),
            })
        };
        let meter = self.meters.get_with(tenant, new);
        meter.learn_fuel(today(), fuel_used);
        let concurrency = concurrency.map_or(usize::MAX, |n| n as usize);
        meter.concurrency.store(concurrency, Ordering::Relaxed);
        meter.fuel_per_day.store(fuel_per_day.unwrap_or(u64::MAX), Ordering::Relaxed);
        meter.storage_bytes.store(storage_bytes.unwrap_or(u64::MAX), Ordering::Relaxed);
        let rate = requests_per_second.map(|per_second| meter.rate(per_second));
        Granted { meter, rate }
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The day that it is.
pub(super) fn today() -> Day {
    Day::of(now())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meters() -> (Meters, mpsc::UnboundedReceiver<Arc<Meter>>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Meters::new(sender), receiver)
    }

    fn used_up(result: Result<(), InvokeError>) -> (Quota, u64, Duration) {
        match result {
            Err(InvokeError::QuotaUsedUp { used_up: UsedUp { quota, limit }, retry_after }) => {
                (quota, limit, retry_after)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_second_has_its_requests_and_reading_routes_anew_adds_none() {
        let (meters, _queue) = meters();
        let quotas = |n| Quotas { requests_per_second: Some(n), ..Quotas::default() };
        let begin = Instant::now();
        let asked: Vec<_> = (0..100).map(|_| meters.grant(TenantId(1), &quotas(3), 0).admit()).collect();
        assert!(asked[..3].iter().all(Result::is_ok), "{asked:?}");
        let n_admitted = asked.iter().filter(|admitted| admitted.is_ok()).count();
        assert!(n_admitted as u64 <= 3 * (1 + begin.elapsed().as_secs() + 1), "{asked:?}");
        for refused in asked.into_iter().filter(Result::is_err) {
            let (quota, limit, retry_after) = used_up(refused);
            assert_eq!((quota, limit), (Quota::RequestsPerSecond, 3));
            assert!(retry_after > Duration::ZERO && retry_after < Duration::from_secs(1), "{retry_after:?}");
        }
        meters.grant(TenantId(2), &quotas(3), 0).admit().unwrap();
        meters.grant(TenantId(1), &quotas(4), 0).admit().unwrap();
        used_up(meters.grant(TenantId(1), &quotas(0), 0).admit());
        meters.grant(TenantId(1), &Quotas::default(), 0).admit().unwrap();
        assert!(meters.grant(TenantId(3), &quotas(u32::MAX), 0).admit().is_ok());
    }

    #[test]
    fn what_is_counted_is_known_before_it_is_written_and_afterwards() {
        let (meters, mut queue) = meters();
        let quotas = Quotas { fuel_per_day: Some(100), ..Quotas::default() };
        let granted = meters.grant(TenantId(1), &quotas, 40);
        let meter = granted.meter();
        granted.admit_handler().unwrap();
        meter.count(Usage { fuel: 59, ..Usage::of_request(200) });
        meter.count(Usage { rows: 2, ..Usage::default() });
        granted.admit_handler().unwrap();
        let queued = queue.try_recv().unwrap();
        assert!(queue.try_recv().is_err(), "it stands in the queue once");
        let records: Vec<_> = queued.unwritten().collect();
        let [record] = records.as_slice() else { panic!("{records:?}") };
        assert_eq!(record.usage, Usage { fuel: 59, rows: 2, ..Usage::of_request(200) });
        meter.count(Usage { fuel: 1, ..Usage::of_request(500) }); // while that is written
        assert_eq!(used_up(granted.admit_handler()).0, Quota::FuelPerDay);
        queued.written(record, 40 + 59 + 7); // 7 by another host
        let left: Vec<_> = queue.try_recv().unwrap().unwritten().collect();
        let [left] = left.as_slice() else { panic!("{left:?}") };
        assert_eq!(left.usage, Usage { requests: 1, failed: 1, refused: 1, fuel: 1, ..Usage::default() });
        assert_eq!(meter.fuel_used(today()), 107);
        meter.learn_fuel(today(), 50); // older news
        assert_eq!(meter.fuel_used(today()), 107);
        let (_, limit, retry_after) = used_up(granted.admit_handler());
        assert!(limit == 100 && retry_after <= Duration::from_secs(86_400), "{retry_after:?}");
        meter.written(left, 107);
        assert_eq!(meter.fuel_used(Day(today().0 + 2)), 0, "the counters of a day serve the next but one");
    }

    #[test]
    fn quotas_of_any_size_hold() {
        let (meters, _queue) = meters();
        let quotas = |fuel| Quotas { fuel_per_day: Some(fuel), ..Quotas::default() };
        used_up(meters.grant(TenantId(1), &quotas(0), 0).admit_handler());
        let before = meters.grant(TenantId(1), &quotas(u64::MAX), i64::MAX as u64);
        before.admit_handler().unwrap();
        meters.grant(TenantId(1), &quotas(i64::MAX as u64), 0);
        assert_eq!(used_up(before.admit_handler()).0, Quota::FuelPerDay, "who found routes before a change sees it");
        let concurrency = |n| Quotas { concurrency: n, ..Quotas::default() };
        for (n, expected) in [(Some(0), 0), (Some(u32::MAX), u32::MAX as usize), (None, usize::MAX)] {
            assert_eq!(meters.grant(TenantId(1), &concurrency(n), 0).meter().concurrency(), expected);
        }
    }
}
