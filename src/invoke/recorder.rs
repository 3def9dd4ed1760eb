//! Writes what invocations did, and what tenants used, to the control database, in batches, behind the answers.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::{sync::mpsc, task::JoinHandle, time::MissedTickBehavior};

use crate::{
    db::{Db, DbError, invocations::InvocationRecord, now_ms, usage::UsageRecord},
    domain::{names::TenantId, quota::Day},
    invoke::meter::{Meter, Queue, today},
};

/// Records that may wait to be written; further ones are counted and dropped. At 6,000 a second this is a stall of 3 s.
const WAITING_MAX: usize = 20_000;

/// Bytes of recordings that may be made, or wait to be written. A further record is written without its recording.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// Bytes of recordings that are kept of a tenant; the oldest go first. Their entries in the log stay.
const RECORDINGS_KEPT_BYTES: u64 = 256 << 20;

/// After how many bytes of a tenant's recordings it is looked for whether they are too many, which reads how large each is.
const RECORDINGS_STEP_BYTES: u64 = 4 << 20;

/// Records written in one transaction.
const BATCH_MAX: usize = 500;

/// Tenants whose usage is written in one transaction.
const METERS_MAX: usize = 500;

/// How long usage is kept, in days: 25 months, so that a month can be compared with the one a year before while it lasts.
const USAGE_DAYS: i64 = 25 * 31;

/// Pause between transactions, so that each carries many records.
const PAUSE: Duration = Duration::from_millis(100);

/// Longest pause after a transaction that failed. Below the 5 s that a host waits for its last records, so that a host that stops writes what it can.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Records deleted in one transaction when a tenant has too many, or they are too old.
const PRUNE_BATCH: u32 = 1000;

/// How often records are looked for that are too old.
const SWEEP: Duration = Duration::from_secs(60);

/// Transactions of one sweep, at most: new records are not to wait for long.
const SWEEP_BATCHES: u32 = 10;

/// Takes records and writes them.
#[derive(Debug)]
pub(crate) struct Recorder {
    sender: mpsc::Sender<Waiting>,
    dropped: AtomicU64,
    recordings_dropped: AtomicU64,
    waiting_bytes: Arc<AtomicUsize>,
}

/// A record that waits to be written, with the room that its recording takes.
type Waiting = (InvocationRecord, Option<Room>);

/// Room for a recording, from before anything of it is kept until it is written.
#[derive(Debug)]
pub(crate) struct Room {
    waiting_bytes: Arc<AtomicUsize>,
    bytes: usize,
}

impl Room {
    /// Gives back what is not needed any more.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.waiting_bytes.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

impl Recorder {
    /// A recorder that keeps the newest `keep` records of each tenant, for `age`, and writes what meters in `queue` have counted. The task ends when the recorder is dropped and everything
    /// is written.
    pub(super) fn start(db: Db, queue: Queue, keep: u32, age: Duration) -> (Self, JoinHandle<()>) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let writing = tokio::spawn(write(db, keep, age, receiver, queue));
        let (dropped, recordings_dropped) = (AtomicU64::new(0), AtomicU64::new(0));
        (Self { sender, dropped, recordings_dropped, waiting_bytes }, writing)
    }

    /// Room for a recording of so many bytes; `None` if too many others are being made, or wait to be written.
    pub(crate) fn reserve(&self, bytes: usize) -> Option<Room> {
        let add = |waiting: usize| waiting.checked_add(bytes).filter(|waiting| *waiting <= WAITING_BYTES_MAX);
        if self.waiting_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok() {
            return Some(Room { waiting_bytes: Arc::clone(&self.waiting_bytes), bytes });
        }
        let dropped = self.recordings_dropped.fetch_add(1, Ordering::Relaxed) + 1;
        if dropped.is_power_of_two() {
            tracing::error!(dropped, "recordings are left out: too many are being made, or wait to be written");
        }
        None
    }

    /// Hands over a record, with the room of its recording; never waits.
    pub(crate) fn record(&self, record: InvocationRecord, room: Option<Room>) {
        if self.sender.try_send((record, room)).is_err() {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                tracing::error!(dropped, "invocation records are dropped: the control database is too slow");
            }
        }
    }
}

fn recording_bytes(record: &InvocationRecord) -> u64 {
    record.recording.as_ref().map_or(0, |recording| recording.len() as u64)
}

async fn write(db: Db, keep: u32, age: Duration, mut receiver: mpsc::Receiver<Waiting>, queue: Queue) {
    let (_open, mut queued) = queue; // as long as this task has a sender, the queue has no end
    let mut received = Vec::with_capacity(BATCH_MAX);
    let mut meters = Vec::new();
    // Bytes that were recorded of each tenant since its recordings were counted.
    let mut recorded: HashMap<TenantId, u64> = HashMap::new();
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut n_failed = 0_u32;
    loop {
        let is_over = tokio::select! {
            n_received = receiver.recv_many(&mut received, BATCH_MAX) => n_received == 0, // the recorder was dropped
            _ = queued.recv_many(&mut meters, METERS_MAX) => false,
            _ = sweep.tick() => {
                sweep_old(&db, age).await;
                sweep_expired(&db).await;
                continue;
            }
        };
        // Whichever came first, the other belongs to it.
        fill(&mut received, BATCH_MAX, || receiver.try_recv().ok());
        fill(&mut meters, METERS_MAX, || queued.try_recv().ok());
        let (batch, rooms): (Vec<_>, Vec<_>) = received.drain(..).unzip();
        let used: Vec<_> =
            meters.iter().flat_map(|meter| meter.unwritten().map(|record| (Arc::clone(meter), record))).collect();
        let is_written = write_batch(&db, &batch, used).await;
        drop(rooms);
        if is_over && (queued.is_empty() || !is_written) {
            return; // everything is written, or cannot be
        }
        if !is_written {
            meters.drain(..).for_each(|meter| meter.queue());
            if !receiver.is_closed() {
                tokio::time::sleep(pause_after(n_failed)).await;
            }
            n_failed = n_failed.saturating_add(1);
            continue;
        }
        n_failed = 0;
        meters.clear();
        for record in batch.iter().filter(|record| record.recording.is_some()) {
            *recorded.entry(record.tenant).or_default() += recording_bytes(record);
        }
        for (tenant, _) in recorded.extract_if(|_, bytes| *bytes >= RECORDINGS_STEP_BYTES) {
            prune_recordings(&db, tenant).await;
        }
        let tenants: BTreeSet<TenantId> = batch.iter().map(|record| record.tenant).collect();
        if receiver.len() >= BATCH_MAX {
            continue;
        }
        for tenant in tenants {
            if let Err(error) = db.invocations().prune(tenant, keep, PRUNE_BATCH).await {
                tracing::error!(%error, tenant.id = %tenant, "old invocation records cannot be deleted");
            }
        }
        if !receiver.is_closed() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// How long to leave the database alone after a failure that so many others went before: what comes meanwhile waits, up to [`WAITING_MAX`].
fn pause_after(n_failed: u32) -> Duration {
    PAUSE.saturating_mul(2_u32.saturating_pow(n_failed)).min(PAUSE_MAX)
}

/// Adds what is there at once, up to `max`.
fn fill<T>(batch: &mut Vec<T>, max: usize, mut next: impl FnMut() -> Option<T>) {
    while batch.len() < max {
        let Some(more) = next() else { return };
        batch.push(more);
    }
}

/// Writes records, and what meters have counted. If that fails, the records are lost, and the meters still have it.
async fn write_batch(db: &Db, batch: &[InvocationRecord], used: Vec<(Arc<Meter>, UsageRecord)>) -> bool {
    let (meters, used): (Vec<_>, Vec<_>) = used.into_iter().unzip();
    match unless_busy(|| db.invocations().insert_batch(batch, &used).boxed()).await {
        Ok(fuel_used) => {
            for ((meter, record), fuel_used) in meters.iter().zip(&used).zip(fuel_used) {
                meter.written(record, fuel_used);
            }
            true
        }
        Err(error) if batch.is_empty() => {
            tracing::warn!(%error, "what tenants used waits: the control database takes nothing");
            false
        }
        Err(error) => {
            tracing::error!(%error, records = batch.len(), "invocation records are lost");
            false
        }
    }
}

/// Writes again and again while others hold the database, as an import does for minutes: what waits meanwhile is bounded.
async fn unless_busy<'a, T>(write: impl Fn() -> BoxFuture<'a, Result<T, DbError>>) -> Result<T, DbError> {
    loop {
        match write().await {
            Err(DbError::Busy) => {
                tracing::warn!("invocation records wait: others hold the control database");
                tokio::time::sleep(PAUSE).await;
            }
            written => return written,
        }
    }
}

/// Takes the oldest recordings of a tenant away that has too many bytes of them.
async fn prune_recordings(db: &Db, tenant: TenantId) {
    let take = || db.invocations().prune_recordings(tenant, RECORDINGS_KEPT_BYTES, PRUNE_BATCH).boxed();
    repeat(take, "old recordings cannot be deleted").await;
}

/// Deletes batch after batch until there is nothing more to delete, or [`SWEEP_BATCHES`].
async fn repeat<'a>(delete: impl Fn() -> BoxFuture<'a, Result<u64, DbError>>, failure: &str) {
    for _ in 0..SWEEP_BATCHES {
        match delete().await {
            Ok(deleted) if deleted == u64::from(PRUNE_BATCH) => {}
            Ok(_) => return,
            Err(error) => {
                tracing::error!(%error, "{failure}");
                return;
            }
        }
    }
}

/// Deletes records and usage that are too old, some at a time: what is left over is deleted with the next sweep.
async fn sweep_old(db: &Db, age: Duration) {
    let before_ms = now_ms().saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    let delete = || db.invocations().prune_older(before_ms, PRUNE_BATCH).boxed();
    repeat(delete, "old invocation records cannot be deleted").await;
    let before = Day(today().0 - USAGE_DAYS);
    repeat(|| db.usage().prune(before, PRUNE_BATCH).boxed(), "old usage cannot be deleted").await;
}

/// Deletes what is no longer good for anything: sessions, tokens, signing keys, previews, idempotency keys.
async fn sweep_expired(db: &Db) {
    let (now, failure) = (now_ms(), "what has expired cannot be deleted");
    repeat(|| db.credentials().prune_expired(now, PRUNE_BATCH).boxed(), failure).await;
    repeat(|| db.tokens().prune_expired(now, PRUNE_BATCH).boxed(), failure).await;
    repeat(|| db.consumer_keys().prune_expired(now, PRUNE_BATCH).boxed(), failure).await;
    repeat(|| db.signing_keys().prune_expired(now, PRUNE_BATCH).boxed(), failure).await;
    repeat(|| db.previews().prune_expired(now, PRUNE_BATCH).boxed(), failure).await;
    repeat(|| db.idempotency().prune_expired(now, PRUNE_BATCH).boxed(), failure).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        db::credentials::{CredentialsOf, Grounds, Holder, NewCredential},
        domain::{
            control_database::ControlDatabase,
            names::{EndpointId, InvocationId, ScriptId},
            quota::{Quotas, Usage},
        },
        invoke::meter::Meters,
    };

    fn record() -> InvocationRecord {
        InvocationRecord {
            id: InvocationId::generate(),
            tenant: TenantId(1),
            script: ScriptId(1),
            version: None,
            endpoint: EndpointId(1),
            method: "GET".to_owned(),
            path: "/".to_owned(),
            status: 200,
            code: None,
            started_at_ms: now_ms(),
            duration_us: 0,
            fuel: 0,
            dirty_pages: 0,
            rows: 0,
            answer_bytes: 0,
            log: String::new(),
            traceback: None,
            rerun: None,
            recording: None,
        }
    }

    #[test]
    fn recordings_that_are_made_or_wait_are_bounded_and_records_are_not_held_up_by_them() {
        let (sender, mut waiting) = mpsc::channel(WAITING_MAX);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let (dropped, recordings_dropped) = (AtomicU64::new(0), AtomicU64::new(0));
        let recorder = Recorder { sender, dropped, recordings_dropped, waiting_bytes: Arc::clone(&waiting_bytes) };
        let taken = || waiting_bytes.load(Ordering::Relaxed);
        assert!(recorder.reserve(usize::MAX).is_none());
        let mut making = recorder.reserve(WAITING_BYTES_MAX / 2).unwrap();
        let waits = recorder.reserve(WAITING_BYTES_MAX / 2).unwrap();
        assert!(recorder.reserve(1).is_none(), "what is only being made counts");
        recorder.record(record(), Some(waits));
        recorder.record(record(), None);
        assert_eq!(taken(), WAITING_BYTES_MAX, "what waits counts");
        making.shrink_to(10);
        assert_eq!(taken(), WAITING_BYTES_MAX / 2 + 10);
        drop(recorder.reserve(WAITING_BYTES_MAX / 2 - 10).unwrap());
        drop(making);
        drop(waiting.try_recv().unwrap());
        assert!(waiting.try_recv().unwrap().1.is_none());
        assert_eq!(taken(), 0, "what is written does not");
        // What cannot wait at all does not count.
        drop(waiting);
        recorder.record(record(), recorder.reserve(1));
        assert_eq!(taken(), 0);
    }

    #[tokio::test]
    async fn a_recording_is_written_and_its_room_is_free_again() {
        let directory = tempfile::tempdir().unwrap();
        let db = Db::open(&ControlDatabase::File(directory.path().join("pqhost.db"))).await.unwrap();
        let tenant = db.tenants().create_tenant(&"acme".parse().unwrap()).await.unwrap();
        let (recorder, writing) = Recorder::start(db.clone(), mpsc::unbounded_channel(), 10, Duration::from_secs(60));
        let recorded = InvocationRecord { tenant, recording: Some(vec![1]), ..record() };
        let id = recorded.id;
        recorder.record(recorded, recorder.reserve(1));
        let waiting_bytes = Arc::clone(&recorder.waiting_bytes);
        drop(recorder);
        writing.await.unwrap();
        assert_eq!(waiting_bytes.load(Ordering::Relaxed), 0);
        assert_eq!(db.invocations().find_recording(tenant, id).await.unwrap(), Some(vec![1]));
    }

    #[tokio::test]
    async fn what_is_counted_is_written_now_or_later_and_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = ControlDatabase::File(directory.path().join("pqhost.db"));
        let open = || Db::open(&file);
        let (db, broken) = (open().await.unwrap(), open().await.unwrap());
        let tenant = db.tenants().create_tenant(&"acme".parse().unwrap()).await.unwrap();
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let granted = Meters::new(sender.clone()).grant(tenant, &Quotas::default(), 0);
        let meter = granted.meter();
        meter.count(Usage { fuel: 5, ..Usage::of_request(200) });
        broken.close().await;
        let queued = receiver.try_recv().unwrap();
        let used: Vec<_> = queued.unwritten().map(|record| (Arc::clone(&queued), record)).collect();
        assert!(!write_batch(&broken, &[], used).await, "a database that is closed");

        meter.count(Usage { fuel: 2, ..Usage::of_request(500) });
        let (recorder, writing) = Recorder::start(db.clone(), (sender, receiver), 10, Duration::from_secs(60));
        drop(recorder);
        writing.await.unwrap();
        let (first, end) = (Day(today().0 - 1), Day(today().0 + 1));
        let days = db.usage().list_days(tenant, first, end).await.unwrap();
        let mut sum = Usage::default();
        days.iter().for_each(|(_, usage)| sum += *usage); // two, if midnight has passed
        assert_eq!(sum, Usage { requests: 2, failed: 1, fuel: 7, ..Usage::default() });
        assert_eq!(meter.unwritten().count(), 0);
    }

    #[test]
    fn a_database_that_fails_is_left_alone_for_longer_and_longer() {
        let pauses: Vec<_> = [0, 1, 2, 3, 4, 5, 100, u32::MAX].map(|n| pause_after(n).as_millis()).into();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 2000, 2000, 2000]);
    }

    /// What is logged, line by line.
    #[derive(Clone, Default)]
    struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn only_what_is_lost_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let broken = Db::open(&ControlDatabase::File(directory.path().join("pqhost.db"))).await.unwrap();
        broken.close().await;
        let (sender, _queue) = mpsc::unbounded_channel();
        let granted = Meters::new(sender).grant(TenantId(1), &Quotas::default(), 0);
        let meter = granted.meter();
        meter.count(Usage::of_request(200));
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let _logging = tracing::subscriber::set_default(subscriber);
        let logged = async |batch: &[InvocationRecord]| {
            let used = meter.unwritten().map(|record| (Arc::clone(meter), record)).collect();
            assert!(!write_batch(&broken, batch, used).await, "a database that is closed");
            String::from_utf8(std::mem::take(&mut *lines.0.lock().unwrap())).unwrap()
        };
        let nothing_lost = logged(&[]).await;
        assert!(nothing_lost.contains("WARN") && !nothing_lost.contains("ERROR"), "{nothing_lost}");
        let lost = logged(&[record(), record()]).await;
        assert!(lost.contains("ERROR") && lost.contains("records=2"), "{lost}");
    }

    #[tokio::test]
    async fn what_others_keep_from_being_written_is_written_later() {
        let tries = AtomicUsize::new(0);
        unless_busy(busy_at_first(&tries, || Ok(()))).await.unwrap();
        assert_eq!(tries.swap(0, Ordering::Relaxed), 4);
        let failed = unless_busy(busy_at_first(&tries, || Err(DbError::DiskFull))).await;
        assert!(matches!(failed, Err(DbError::DiskFull)), "{failed:?}");
        assert_eq!(tries.load(Ordering::Relaxed), 4);
    }

    /// Is busy three times.
    fn busy_at_first(
        tries: &AtomicUsize,
        outcome: fn() -> Result<(), DbError>,
    ) -> impl Fn() -> BoxFuture<'static, Result<(), DbError>> {
        move || {
            let is_busy = tries.fetch_add(1, Ordering::Relaxed) < 3;
            async move { if is_busy { Err(DbError::Busy) } else { outcome() } }.boxed()
        }
    }

    #[tokio::test]
    async fn a_host_deletes_what_has_expired() {
        let directory = tempfile::tempdir().unwrap();
        let db = Db::open(&ControlDatabase::File(directory.path().join("pqhost.db"))).await.unwrap();
        let email = "ann@acme.example".parse().unwrap();
        let user = db.users().create_user(&email, "hash").await.unwrap();
        let holder = Holder::Session { user, email };
        for (id, expires_at_ms) in [("over", 1), ("good", i64::MAX)] {
            let (id, hash, holder) = (id.to_owned(), format!("hash of {id}"), holder.clone());
            let new = NewCredential { id, holder, name: String::new(), hash, expires_at_ms };
            db.credentials().insert_credential(&new, Grounds::None).await.unwrap();
        }
        let (recorder, writing) = Recorder::start(db.clone(), mpsc::unbounded_channel(), 10, Duration::from_secs(60));
        let swept = async {
            loop {
                let left = db.credentials().list_credentials(CredentialsOf::User(user), None, 10).await.unwrap();
                match left.as_slice() {
                    [only] => return only.id.clone(),
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        assert_eq!(tokio::time::timeout(SWEEP, swept).await.expect("it sweeps when it starts"), "good");
        drop(recorder);
        writing.await.unwrap();
    }
}
