//! Writes what invocations did to the control database, in batches, behind the answers.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{sync::mpsc, task::JoinHandle, time::MissedTickBehavior};

use crate::{
    db::{Db, invocations::InvocationRecord},
    domain::names::TenantId,
};

/// Records that may wait to be written; further ones are counted and dropped. At 6,000 a second this is a stall of 3 s.
const WAITING_MAX: usize = 20_000;

/// Bytes of recordings that may wait to be written. A further record is written without its recording.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// Records written in one transaction.
const BATCH_MAX: usize = 500;

/// Pause between transactions, so that each carries many records.
const PAUSE: Duration = Duration::from_millis(100);

/// Records deleted in one transaction when a tenant has too many, or they are too old.
const PRUNE_BATCH: u32 = 1000;

/// How often records are looked for that are too old.
const SWEEP: Duration = Duration::from_secs(60);

/// Transactions of one sweep, at most: new records are not to wait for long.
const SWEEP_BATCHES: u32 = 10;

/// Takes records and writes them.
#[derive(Debug)]
pub(crate) struct Recorder {
    sender: mpsc::Sender<InvocationRecord>,
    dropped: AtomicU64,
    waiting_bytes: Arc<AtomicUsize>,
}

impl Recorder {
    /// A recorder that keeps the newest `keep` records of each tenant, for `age`. The task ends when the recorder is dropped and everything
    /// is written.
    pub(crate) fn start(db: Db, keep: u32, age: Duration) -> (Self, JoinHandle<()>) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let writing = tokio::spawn(write(db, keep, age, receiver, Arc::clone(&waiting_bytes)));
        (Self { sender, dropped: AtomicU64::new(0), waiting_bytes }, writing)
    }

    /// Hands over a record; never waits.
    pub(crate) fn record(&self, mut record: InvocationRecord) {
        let bytes = recording_bytes(&record);
        if self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > WAITING_BYTES_MAX && bytes > 0 {
            tracing::error!(invocation.id = %record.id, "a recording is dropped: the control database is too slow");
            record.recording = None;
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        if let Err(error) = self.sender.try_send(record) {
            self.waiting_bytes.fetch_sub(recording_bytes(&error.into_inner()), Ordering::Relaxed);
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                tracing::error!(dropped, "invocation records are dropped: the control database is too slow");
            }
        }
    }
}

fn recording_bytes(record: &InvocationRecord) -> usize {
    record.recording.as_ref().map_or(0, Vec::len)
}

async fn write(
    db: Db,
    keep: u32,
    age: Duration,
    mut receiver: mpsc::Receiver<InvocationRecord>,
    waiting_bytes: Arc<AtomicUsize>,
) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let received = tokio::select! {
            received = receiver.recv_many(&mut batch, BATCH_MAX) => received,
            _ = sweep.tick() => {
                sweep_old(&db, age).await;
                sweep_expired(&db).await;
                continue;
            }
        };
        if received == 0 {
            return; // the recorder was dropped, and everything is written
        }
        if let Err(error) = db.invocations().insert_batch(&batch).await {
            tracing::error!(%error, records = batch.len(), "invocation records are lost");
        }
        waiting_bytes.fetch_sub(batch.iter().map(recording_bytes).sum(), Ordering::Relaxed);
        let tenants: BTreeSet<TenantId> = batch.drain(..).map(|record| record.tenant).collect();
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

/// Deletes records that are too old, some at a time: what is left over is deleted with the next sweep.
async fn sweep_old(db: &Db, age: Duration) {
    let before_ms = now_ms().saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    for _ in 0..SWEEP_BATCHES {
        match db.invocations().prune_older(before_ms, PRUNE_BATCH).await {
            Ok(deleted) if deleted == u64::from(PRUNE_BATCH) => {}
            Ok(_) => return,
            Err(error) => {
                tracing::error!(%error, "old invocation records cannot be deleted");
                return;
            }
        }
    }
}

/// Deletes what is no longer good for anything: sessions, tokens, previews, idempotency keys.
async fn sweep_expired(db: &Db) {
    let now = now_ms();
    let swept = [
        db.credentials().prune_expired(now, PRUNE_BATCH).await,
        db.tokens().prune_expired(now, PRUNE_BATCH).await,
        db.previews().prune_expired(now, PRUNE_BATCH).await,
        db.idempotency().prune_expired(now, PRUNE_BATCH).await,
    ];
    for error in swept.into_iter().filter_map(Result::err) {
        tracing::error!(%error, "what has expired cannot be deleted");
    }
}

/// In milliseconds since 1970.
fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        db::credentials::{CredentialsOf, Grounds, Holder, NewCredential},
        domain::{
            control_database::ControlDatabase,
            names::{EndpointId, InvocationId, ScriptId},
        },
    };

    fn recorded(bytes: usize) -> InvocationRecord {
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
            started_at_ms: 0,
            duration_us: 0,
            fuel: 0,
            dirty_pages: 0,
            rows: 0,
            answer_bytes: 0,
            log: String::new(),
            traceback: None,
            rerun: None,
            recording: (bytes > 0).then(|| vec![0; bytes]),
        }
    }

    #[tokio::test]
    async fn recordings_that_wait_are_bounded_and_records_without_them_are_written_all_the_same() {
        let (sender, mut waiting) = mpsc::channel(WAITING_MAX);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let recorder = Recorder { sender, dropped: AtomicU64::new(0), waiting_bytes: Arc::clone(&waiting_bytes) };
        let n_kept = WAITING_BYTES_MAX / (1 << 20);
        for _ in 0..n_kept + 3 {
            recorder.record(recorded(1 << 20));
        }
        recorder.record(recorded(0));
        assert_eq!(waiting_bytes.load(Ordering::Relaxed), WAITING_BYTES_MAX);
        let mut kept = Vec::new();
        while let Ok(record) = waiting.try_recv() {
            kept.push(record.recording.is_some());
        }
        assert_eq!((kept.len(), kept.iter().filter(|kept| **kept).count()), (n_kept + 4, n_kept));
        assert!(kept[..n_kept].iter().all(|kept| *kept), "those that came first");
        // What cannot wait at all does not count.
        waiting_bytes.store(0, Ordering::Relaxed);
        drop(waiting);
        recorder.record(recorded(1 << 20));
        assert_eq!(waiting_bytes.load(Ordering::Relaxed), 0);
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
        let (recorder, writing) = Recorder::start(db.clone(), 10, Duration::from_secs(60));
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
