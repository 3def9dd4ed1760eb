//! One run of a handler, from its slot to its record.

use std::{sync::Arc, time::Instant};

use futures::StreamExt as _;
use tokio::sync::oneshot;

use crate::{
    db::{invocations::InvocationRecord, now_ms, versions::Loaded},
    domain::{
        exchange::{HandlerBody, HandlerRequest, HandlerResponse},
        limits::Limits,
        quota::{Usage as TenantUsage, UsedUp},
    },
    invoke::{
        Answer, Call, Inner, InvokeError, RowStream,
        delivery::Delivery,
        directory::RunnableVersion,
        fields,
        recording::{Begun, PendingAnswer},
        redaction::{Printed, Recordable, Revealed},
        script_host::Cursors,
    },
    publish::{Publisher, Rebuilt},
    sandbox::{
        Log,
        capabilities::CursorId,
        pool::Lease,
        slot::{CallError, Usage},
    },
};

/// A run that is to begin.
pub(super) struct Invocation {
    pub(super) inner: Arc<Inner>,
    pub(super) call: Call,
    pub(super) started: Instant,
}

/// What is recorded of a run besides its outcome.
#[derive(Default)]
struct Trace {
    usage: Usage,
    log: Log,
    dirty_pages: u64,
}

impl Invocation {
    /// Runs the handler, hands over what comes of it, and then rewinds the slot and records the run.
    pub(super) async fn run(mut self, answer: oneshot::Sender<Result<Answer, InvokeError>>) {
        let started_at_ms = now_ms();
        let revealed = Arc::new(Revealed::default());
        let mut record = self.record(started_at_ms);
        let is_recorded = self.call.record;
        let recording = is_recorded.then(|| Begun::with(&self.call.request, &self.inner.recorder)).flatten();
        let cursors = Arc::new(Cursors::default());
        let mut trace = Trace::default();

        let script = Arc::clone(&self.call.script);
        let (outcome, lease) = match &script.version {
            Some(version) => self.run_version(version, &cursors, &revealed, &mut trace).await,
            None => (Err(InvokeError::NotPublished { script: script.name.clone() }), None),
        };
        record.duration_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut traceback = None;
        match &outcome {
            Ok(response) => record.status = response.status,
            Err(error) => {
                record.status = error.status();
                record.code = Some(error.code().to_owned());
                traceback = error.traceback().map(str::to_owned);
            }
        }
        self.call.routes.count(used(&outcome, &record, &trace.usage));
        let version = script.version.as_ref().map_or(0, |version| version.version.number);
        let outcome = outcome.and_then(|response| with_rows(response, &cursors));
        let (outcome, delivery) = match outcome.map(Delivery::of) {
            Ok((response, delivery)) => (Ok(response), Some(delivery)),
            Err(error) => (Err(error), None),
        };
        let (outcome, recording) = match recording {
            Some(begun) => {
                let (outcome, answer) = PendingAnswer::of(outcome);
                (outcome, Some(begun.finished(answer)))
            }
            None => (outcome, None),
        };
        // A caller who has gone needs no answer.
        _ = answer.send(outcome.map(|response| Answer { response, version }));

        let Trace { usage, log, mut dirty_pages } = trace;
        let printed = Printed { log, log_bytes: self.call.limits.log_bytes, traceback };
        let Recordable { log, traceback } = self.inner.redacted(&self.call.request, &revealed, printed).await;
        (record.log, record.traceback) = (log, traceback);
        if let (Some(lease), Some(version)) = (lease, &script.version) {
            match self.inner.pool.give_back(lease, version.version.id).await {
                Ok(pages) => dirty_pages = pages as u64,
                Err(reason) => tracing::debug!(%reason, script.name = %script.name, "a slot is dropped"),
            }
        }
        record.fuel = usage.fuel;
        record.dirty_pages = dirty_pages;
        let mut room = None;
        if let Some(recording) = recording {
            let (recording, mut taken) = recording.await;
            record.recording = match self.storage_used_up().await {
                None => self.inner.sealed(record.tenant, record.id, recording).await,
                Some(used_up) => {
                    tracing::info!(tenant.id = %record.tenant, invocation.id = %record.id, %used_up, "a request is not recorded");
                    None
                }
            };
            taken.shrink_to(record.recording.as_ref().map_or(0, Vec::len));
            room = Some(taken);
        }
        if let Some(delivery) = delivery {
            record.answer_bytes = delivery.finished().await;
        }
        // Rows that were streamed are counted by now.
        record.rows = cursors.rows_read();
        let InvocationRecord { rows, answer_bytes, .. } = record;
        self.call.routes.count(TenantUsage { rows, answer_bytes, ..TenantUsage::default() });
        self.inner.recorder.record(record, room);
    }

    async fn storage_used_up(&self) -> Option<UsedUp> {
        let Inner { db, vault, connections, .. } = &*self.inner;
        let routes = &self.call.routes;
        routes.granted.storage_used_up((db, vault, connections), routes.tenant_id).await
    }

    fn record(&self, started_at_ms: i64) -> InvocationRecord {
        let Call { routes, endpoint, script, request, rerun, .. } = &self.call;
        InvocationRecord {
            id: request.request_id,
            tenant: routes.tenant_id,
            script: script.id,
            version: script.version.as_ref().map(|version| version.version.id),
            endpoint: *endpoint,
            method: request.method.clone(),
            path: request.path.clone(),
            status: 0,
            code: None,
            started_at_ms,
            duration_us: 0,
            fuel: 0,
            dirty_pages: 0,
            rows: 0,
            answer_bytes: 0,
            log: String::new(),
            traceback: None,
            rerun: rerun.clone(),
            recording: None,
        }
    }

    /// Runs the handler; gives the slot back only if the call came to an end.
    async fn run_version(
        &mut self,
        version: &RunnableVersion,
        cursors: &Arc<Cursors>,
        revealed: &Arc<Revealed>,
        trace: &mut Trace,
    ) -> (Result<HandlerResponse<CursorId>, InvokeError>, Option<Lease>) {
        let mut lease = match self.mounted_slot(version).await {
            Ok(lease) => lease,
            Err(error) => return (Err(error), None),
        };
        let limits = self.call.limits;
        let Call { routes, script, request, .. } = &self.call;
        let script = (script.id, script.name.clone());
        let rows = request.caller.rows().cloned();
        let host = self.inner.script_host(routes, script, limits, Arc::clone(cursors), Arc::clone(revealed), rows);
        if let Err(error) = lease.slot().begin(Some(Box::new(host)), &limits) {
            return (Err(InvokeError::Host(error.to_string())), None);
        }
        let handling = call_handler(&mut lease, version, request, &limits);
        let outcome = tokio::time::timeout(limits.deadline, handling).await;
        trace.usage = lease.slot().usage(&limits);
        trace.log = lease.slot().take_log();
        let outcome = match outcome {
            Ok(outcome) => outcome.map_err(|error| InvokeError::from_call(error, limits.memory_bytes)),
            Err(_) => Err(InvokeError::DeadlineExceeded { deadline: limits.deadline }),
        };
        let outcome = outcome.and_then(|response| checked_size(response, &limits));
        (outcome.and_then(|response| fields::checked(response, &routes.tenant, request)), Some(lease))
    }

    /// A slot of the tenant that shows what the version starts from.
    async fn mounted_slot(&self, version: &RunnableVersion) -> Result<Lease, InvokeError> {
        let Inner { pool, images, publisher, .. } = &*self.inner;
        let tenant = self.call.routes.tenant_id;
        let id = version.version.id;
        let concurrency = self.call.routes.granted.meter().concurrency();
        let mut lease = pool.acquire(tenant, concurrency, id).await?;
        if lease.shows_version == Some(id) {
            return Ok(lease);
        }
        let host = |error: &dyn std::fmt::Display| InvokeError::Host(error.to_string());
        let image = match image_hash(&version.version.loaded, pool.runtime_hash()) {
            Image::Base => Arc::clone(pool.base_image()),
            Image::Script(hash) => match images.get_mapped(hash) {
                Some(image) => image,
                None => {
                    let (images, hash) = (Arc::clone(images), hash.to_owned());
                    let read =
                        tokio::task::spawn_blocking(move || images.get(&hash)).await.map_err(|error| host(&error))?;
                    match read {
                        Ok(image) => image,
                        Err(error) => {
                            tracing::warn!(%error, version.id = %id, "making the image anew");
                            self.rebuilt(publisher, version).await?
                        }
                    }
                }
            },
            Image::OtherRuntime => self.rebuilt(publisher, version).await?,
        };
        lease.slot().mount(&image).map_err(|error| host(&error))?;
        Ok(lease)
    }

    async fn rebuilt(
        &self,
        publisher: &Publisher,
        version: &RunnableVersion,
    ) -> Result<Arc<crate::sandbox::MappedImage>, InvokeError> {
        let rebuilt = publisher.rebuild(self.call.routes.tenant_id, &version.version).await;
        let Rebuilt { loaded, is_stored } =
            rebuilt.map_err(|error| InvokeError::Host(format!("making the image anew: {error}")))?;
        if is_stored {
            // Else the host sees it when it looks next.
            if let Err(error) = self.inner.db.look_for_changes().await {
                tracing::warn!(%error, "cannot look for changes of the control database");
            }
        }
        match image_hash(&loaded, self.inner.pool.runtime_hash()) {
            Image::Script(hash) => self.inner.images.get(hash).map_err(|error| InvokeError::Host(error.to_string())),
            Image::Base | Image::OtherRuntime => Err(InvokeError::Host(
                "the script now needs its module-level code run in each request; try again".to_owned(),
            )),
        }
    }
}

/// What a handler that has ended, or has not begun, used of what its tenant may.
fn used(
    outcome: &Result<HandlerResponse<CursorId>, InvokeError>,
    record: &InvocationRecord,
    usage: &Usage,
) -> TenantUsage {
    let counted = match outcome {
        Err(InvokeError::TooManyInFlight { .. }) => return TenantUsage::of_refusal(),
        Ok(_) | Err(_) => TenantUsage::of_request(record.status),
    };
    TenantUsage { fuel: usage.fuel, duration_us: record.duration_us, ..counted }
}

/// Where a version starts from.
enum Image<'a> {
    Base,
    Script(&'a str),
    OtherRuntime,
}

fn image_hash<'a>(loaded: &'a Loaded, runtime_hash: &str) -> Image<'a> {
    match &loaded.image {
        None => Image::Base,
        Some(image) if loaded.runtime_hash == runtime_hash => Image::Script(&image.hash),
        Some(_) => Image::OtherRuntime,
    }
}

async fn call_handler(
    lease: &mut Lease,
    version: &RunnableVersion,
    request: &HandlerRequest,
    limits: &Limits,
) -> Result<HandlerResponse<CursorId>, CallError> {
    if let Some(files) = &version.files {
        lease.slot().load(files, false, limits).await?;
    }
    lease.slot().handle(request, limits).await
}

fn checked_size(
    response: HandlerResponse<CursorId>,
    limits: &Limits,
) -> Result<HandlerResponse<CursorId>, InvokeError> {
    match &response.body {
        HandlerBody::Bytes(bytes) if bytes.len() as u64 > limits.response_body_bytes => {
            Err(InvokeError::ResponseTooLarge {
                limit_bytes: limits.response_body_bytes,
                seen_bytes: bytes.len() as u64,
            })
        }
        HandlerBody::Bytes(_) | HandlerBody::Rows(_) => Ok(response),
    }
}

/// Turns a cursor that the handler returned into its rows.
fn with_rows(
    response: HandlerResponse<CursorId>,
    cursors: &Cursors,
) -> Result<HandlerResponse<RowStream>, InvokeError> {
    let HandlerResponse { status, headers, body } = response;
    let body = match body {
        HandlerBody::Bytes(bytes) => HandlerBody::Bytes(bytes),
        HandlerBody::Rows(id) => {
            // Only a guest that was tampered with names a cursor that is not open.
            let cursor =
                cursors.take(id).ok_or_else(|| InvokeError::ScriptTrapped { reason: format!("no cursor {}", id.0) })?;
            HandlerBody::Rows(cursor.into_json().boxed())
        }
    };
    Ok(HandlerResponse { status, headers, body })
}
