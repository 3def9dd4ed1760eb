//! The control plane: everything that operators and authors manage, as one documented API below `/api/v1`.
//!
//! Owns: the operations and their types (one file per resource), who may use them (`operations.rs` is the table,
//! `access.rs` enforces it), the OpenAPI document. Never: SQL, HTTP statuses (see `problem`).
//! Invariant: an operation runs only after its [`Needs`] are met.

mod access;
mod api_tokens;
mod audit;
mod connections;
mod consumer_keys;
pub(crate) mod diff;
mod document;
mod egress;
mod endpoints;
mod error;
mod extract;
mod idempotency;
mod invocations;
mod issuers;
mod operations;
mod previews;
mod programs;
mod quotas;
mod reruns;
mod scripts;
mod secrets;
mod sessions;
mod signing_keys;
mod state;
mod tables;
mod tails;
mod tenants;
mod tokens;
mod usage;
mod users;
mod versions;

use std::{fmt, sync::Arc};

use axum::{Router, extract::DefaultBodyLimit, http::Request, middleware, response::IntoResponse as _};
use tokio::sync::OnceCell;

use crate::{
    app::{Host, StartError, Workspace},
    auth::{Authenticator, people::People},
    config::DataDir,
    control::tails::Tails,
    data::{Connections, DataSettings},
    db::Db,
    domain::names::InvocationId,
    invoke::Invoker,
    problem::{REQUEST_ID, api::ApiError},
    publish::Publisher,
    remote::Sessions,
    vault::Vault,
};

pub use crate::control::access::Needs;
pub use crate::control::operations::openapi;

/// Where the API lives.
pub const PREFIX: &str = "/api/v1";

/// Starts what publishing needs, when somebody publishes.
pub type StartPublisher = dyn Fn() -> Result<Arc<Publisher>, StartError> + Send + Sync;

/// What the API works on.
pub struct Parts {
    /// The control database.
    pub db: Db,
    /// Seals secrets.
    pub vault: Arc<Vault>,
    /// Issues tokens to callers of endpoints.
    pub auth: Arc<Authenticator>,
    /// Where SQLite connections live.
    pub data: DataDir,
    /// Sessions of programs; there are some where a host runs.
    pub sessions: Option<Arc<Sessions>>,
    /// Runs handlers; there is one where a host runs.
    pub invoker: Option<Invoker>,
    /// Called once, when the first script is published.
    pub start_publisher: Box<StartPublisher>,
}

impl Parts {
    /// Those of a host.
    #[must_use]
    pub fn of_host(host: &Host) -> Self {
        let publisher = Arc::clone(&host.guests.publisher);
        let parts = Self::of_workspace(&host.workspace, Box::new(move || Ok(Arc::clone(&publisher))));
        Self { sessions: Some(Arc::clone(&host.sessions)), invoker: Some(host.invoker.clone()), ..parts }
    }

    /// Those of a data directory.
    #[must_use]
    pub fn of_workspace(workspace: &Workspace, start_publisher: Box<StartPublisher>) -> Self {
        let Workspace { data, db, vault, auth } = workspace;
        Self {
            db: db.clone(),
            vault: Arc::clone(vault),
            auth: Arc::clone(auth),
            data: data.clone(),
            sessions: None,
            invoker: None,
            start_publisher,
        }
    }
}

/// The API's state; clones share it.
#[derive(Clone)]
pub(crate) struct Control(Arc<Inner>);

pub(crate) struct Inner {
    db: Db,
    vault: Arc<Vault>,
    auth: Arc<Authenticator>,
    people: People,
    data: DataDir,
    sessions: Option<Arc<Sessions>>,
    invoker: Option<Invoker>,
    /// For who looks at tables; scripts have their own.
    connections: Arc<Connections>,
    tails: Arc<Tails>,
    comparing: diff::Comparing,
    publisher: OnceCell<Arc<Publisher>>,
    start_publisher: Arc<StartPublisher>,
}

impl std::ops::Deref for Control {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl Control {
    fn new(parts: Parts) -> Self {
        let Parts { db, vault, auth, data, sessions, invoker, start_publisher } = parts;
        let db = db.for_control();
        let people = People::new(db.clone());
        let connections = tables::connections(DataSettings::new(data.sqlite()));
        Self(Arc::new(Inner {
            db,
            vault,
            auth,
            people,
            data,
            sessions,
            invoker,
            connections,
            tails: Arc::default(),
            comparing: diff::Comparing::default(),
            publisher: OnceCell::new(),
            start_publisher: Arc::from(start_publisher),
        }))
    }

    fn invoker(&self) -> Result<&Invoker, ApiError> {
        self.invoker
            .as_ref()
            .ok_or_else(|| ApiError::Unavailable("no host runs here: name one with `--url`".to_owned()))
    }

    async fn publisher(&self) -> Result<&Publisher, ApiError> {
        let start = || async {
            let start = Arc::clone(&self.start_publisher);
            let started = tokio::task::spawn_blocking(move || start()).await;
            started.map_err(|error| ApiError::Host(error.to_string()))?.map_err(ApiError::from)
        };
        self.publisher.get_or_try_init(start).await.map(AsRef::as_ref)
    }
}

/// The API, its OpenAPI document, and its rendered documentation.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn router(parts: Parts) -> Router {
    let control = Control::new(parts);
    let (operations, openapi) = operations::operations(&control).split();
    Router::new()
        .merge(operations)
        .merge(document::router(&openapi))
        .fallback(async || ApiError::UnknownPath)
        .method_not_allowed_fallback(async |request: Request<axum::body::Body>| ApiError::MethodNotAllowed {
            method: request.method().as_str().chars().take(20).collect(),
        })
        .layer(DefaultBodyLimit::max(extract::BODY_BYTES_MAX))
        .layer(middleware::from_fn(name_request))
        .with_state(control)
}

/// Gives every answer an id, and keeps browsers and proxies from keeping it.
async fn name_request(request: axum::extract::Request, next: middleware::Next) -> axum::response::Response {
    let mut response = next.run(request).await.into_response();
    let headers = response.headers_mut();
    if let Ok(id) = InvocationId::generate().to_string().parse() {
        headers.entry(REQUEST_ID).or_insert(id);
    }
    let nosniff = http::HeaderValue::from_static("nosniff");
    headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, nosniff);
    headers.entry(http::header::CACHE_CONTROL).or_insert(http::HeaderValue::from_static("no-store"));
    response
}
