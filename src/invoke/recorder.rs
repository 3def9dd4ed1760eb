//! Writes what invocations did to the control database, in batches, behind the answers.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    db::{Db, invocations::InvocationRecord},
    domain::names::TenantId,
};

/// Records that may wait to be written; further ones are counted and dropped. At 6,000 a second this is a stall of 3 s.
const WAITING_MAX: usize = 20_000;

/// Records written in one transaction.
const BATCH_MAX: usize = 500;

/// Pause between transactions, so that each carries many records.
const PAUSE: Duration = Duration::from_millis(100);

/// Records deleted in one transaction when a tenant has too many.
const PRUNE_BATCH: u32 = 1000;

/// Takes records and writes them.
#[derive(Debug)]
pub(crate) struct Recorder {
    sender: mpsc::Sender<InvocationRecord>,
    dropped: AtomicU64,
}

impl Recorder {
    /// A recorder that keeps the newest `keep` records of each tenant. The task ends when the recorder is dropped and everything
    /// is written.
    pub(crate) fn start(db: Db, keep: u32) -> (Self, JoinHandle<()>) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        (Self { sender, dropped: AtomicU64::new(0) }, tokio::spawn(write(db, keep, receiver)))
    }

    /// Hands over a record; never waits.
    pub(crate) fn record(&self, record: InvocationRecord) {
        if self.sender.try_send(record).is_err() {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                tracing::error!(dropped, "invocation records are dropped: the control database is too slow");
            }
        }
    }
}

async fn write(db: Db, keep: u32, mut receiver: mpsc::Receiver<InvocationRecord>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while receiver.recv_many(&mut batch, BATCH_MAX).await > 0 {
        if let Err(error) = db.invocations().insert_batch(&batch).await {
            tracing::error!(%error, records = batch.len(), "invocation records are lost");
        }
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
