//! From a routed request to a response: version, slot, handler, rewind, record.
//!
//! Owns: the order of these steps, deadlines, caches over the control database, the capabilities of scripts. Never: HTTP.
//!
//! An invocation runs as a task on the guests' runtime. It hands its answer over as soon as there is one, and only then
//! rewinds its slot. A caller who goes away does not stop it: a webhook must be stored even if its sender hangs up.

mod delivery;
mod detached;
pub mod directory;
pub mod error;
mod fields;
mod invocation;
mod meter;
mod recorder;
pub mod recording;
mod redaction;
mod rerun;
mod script_host;
pub mod storage;
pub mod tables;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc, oneshot},
    task::JoinHandle,
};

pub use crate::invoke::{
    detached::{Detached, DetachedError},
    directory::{Backend, EndpointTarget, ScriptTarget, TenantRoutes},
    error::InvokeError,
    rerun::Rerun,
};
use crate::{
    data::Connections,
    db::{Db, invocations::RerunOf},
    domain::{
        exchange::{HandlerRequest, HandlerResponse},
        limits::Limits,
        names::{EndpointId, ScriptId, ScriptName, TenantId, TenantName},
        preview::PreviewToken,
        rows::RowScope,
        sql::SqlError,
    },
    egress::Egress,
    invoke::{
        directory::Directory,
        invocation::Invocation,
        meter::Meters,
        recorder::Recorder,
        redaction::Revealed,
        script_host::{Cursors, ScriptHost, Transactions},
    },
    publish::Publisher,
    sandbox::{images::ImageLibrary, pool::Pool},
    vault::Vault,
};

/// Rows on their way to a caller: pieces of one JSON array.
pub type RowStream = BoxStream<'static, Result<Bytes, SqlError>>;

/// A request that has found its endpoint and whose caller may call it.
#[derive(Debug)]
pub struct Call {
    /// The tenant.
    pub routes: Arc<TenantRoutes>,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The script that answers.
    pub script: Arc<ScriptTarget>,
    /// What the invocation may use.
    pub limits: Limits,
    /// Whether request and answer are kept.
    pub record: bool,
    /// The request.
    pub request: HandlerRequest,
    /// What it repeats, if it is a re-run.
    pub rerun: Option<RerunOf>,
}

/// What came of a call.
#[derive(Debug)]
pub struct Answer<R = RowStream> {
    /// The handler's response.
    pub response: HandlerResponse<R>,
    /// Number of the version that served.
    pub version: i64,
}

/// What an [`Invoker`] works with.
#[derive(Debug)]
pub struct Parts {
    /// The control database.
    pub db: Db,
    /// Unseals connection URLs.
    pub vault: Arc<Vault>,
    /// The tenants' databases.
    pub connections: Arc<Connections>,
    /// The same for endpoints without a script, which only read.
    pub readers: Arc<Connections>,
    /// Outbound HTTP.
    pub egress: Arc<Egress>,
    /// The slots.
    pub pool: Arc<Pool>,
    /// The scripts' images.
    pub images: Arc<ImageLibrary>,
    /// Makes missing images.
    pub publisher: Arc<Publisher>,
    /// Where guests run.
    pub guests: Handle,
    /// What an invocation may use.
    pub limits: Limits,
    /// Invocation records kept for each tenant.
    pub records_kept: u32,
    /// How long they are kept.
    pub records_age: Duration,
}

/// Runs handlers.
#[derive(Debug, Clone)]
pub struct Invoker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    db: Db,
    vault: Arc<Vault>,
    directory: Arc<Directory>,
    connections: Arc<Connections>,
    readers: Arc<Connections>,
    egress: Arc<Egress>,
    pool: Arc<Pool>,
    images: Arc<ImageLibrary>,
    publisher: Arc<Publisher>,
    guests: Handle,
    recorder: Recorder,
    /// Held while a recording is sealed.
    sealing: Semaphore,
    /// Held while many secrets are looked for in what a handler printed, by as many as may.
    redacting: Semaphore,
    /// Held while a page of a table is read.
    pages: Arc<Semaphore>,
    /// Held while pages are on their way to their callers, a permit for each KiB.
    page_bytes: Arc<Semaphore>,
}

impl Invoker {
    /// An invoker, and the task that writes its records, which ends when the last clone is gone.
    #[must_use]
    pub fn new(parts: Parts) -> (Self, JoinHandle<()>) {
        let Parts {
            db,
            vault,
            connections,
            readers,
            egress,
            pool,
            images,
            publisher,
            guests,
            limits,
            records_kept,
            records_age,
        } = parts;
        let (queue, queued) = mpsc::unbounded_channel();
        let meters = Meters::new(queue.clone());
        let directory = Arc::new(Directory::new(db.clone(), Arc::clone(&vault), limits, meters));
        let (recorder, writing) = Recorder::start(db.clone(), (queue, queued), records_kept, records_age);
        let (sealing, redacting) = (Semaphore::new(1), Semaphore::new(redaction::THREADS));
        let inner = Inner {
            db,
            vault,
            directory,
            connections,
            readers,
            egress,
            pool,
            images,
            publisher,
            guests,
            recorder,
            sealing,
            redacting,
            pages: Arc::new(Semaphore::new(tables::PAGES_MAX)),
            page_bytes: Arc::new(Semaphore::new(meter::PAGES_KIB_MAX)),
        };
        (Self(Arc::new(inner)), writing)
    }

    /// The routes of a tenant; `None` if there is no such tenant.
    ///
    /// # Errors
    /// If the control database fails.
    pub async fn find_routes(&self, tenant: &TenantName) -> Result<Option<Arc<TenantRoutes>>, InvokeError> {
        self.0.directory.find_routes(tenant).await
    }

    /// The endpoint as it answers in a preview; `None` if the preview's token is unknown or has expired.
    ///
    /// # Errors
    /// If the control database fails.
    pub async fn preview(
        &self,
        tenant: TenantId,
        token: &PreviewToken,
        endpoint: &Arc<EndpointTarget>,
    ) -> Result<Option<Arc<EndpointTarget>>, InvokeError> {
        self.0.directory.preview(tenant, token, endpoint).await
    }

    /// Runs the handler of an endpoint.
    ///
    /// # Errors
    /// If there is no response; see [`InvokeError`].
    pub async fn invoke(&self, call: Call) -> Result<Answer, InvokeError> {
        call.routes.granted.admit_handler()?;
        let (answer, answered) = oneshot::channel();
        let invocation = Invocation { inner: Arc::clone(&self.0), call, started: Instant::now() };
        self.0.guests.spawn(invocation.run(answer));
        answered.await.unwrap_or_else(|_| Err(InvokeError::Host("the invocation's task died".to_owned())))
    }
}

impl Inner {
    /// What a script may ask of its host, with nothing used up yet.
    fn script_host(
        &self,
        routes: &Arc<TenantRoutes>,
        (script, script_name): (ScriptId, ScriptName),
        limits: Limits,
        cursors: Arc<Cursors>,
        revealed: Arc<Revealed>,
        rows: Option<Arc<RowScope>>,
    ) -> ScriptHost {
        ScriptHost {
            db: self.db.clone(),
            directory: Arc::clone(&self.directory),
            connections: Arc::clone(&self.connections),
            routes: Arc::clone(routes),
            script,
            script_name,
            limits,
            cursors,
            n_statements: 0,
            n_state_operations: 0,
            n_control_reads: 0,
            vault: Arc::clone(&self.vault),
            revealed,
            transactions: Transactions::default(),
            egress: Arc::clone(&self.egress),
            n_requests: 0,
            rows,
            started: Instant::now(),
        }
    }
}

/// How often a host looks for changes that other processes made.
pub const CHANGE_POLL: Duration = Duration::from_millis(250);
