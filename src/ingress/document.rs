//! What a tenant's endpoints are, for those who call them: `/{tenant}/openapi.json`.
//!
//! Owns: who may read it, and which endpoints they are told of. Never: words it (see `openapi`).

mod openapi;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};

use self::openapi::Described;
use crate::{
    auth::AuthError,
    domain::{
        exchange::AuthMode,
        names::InvocationId,
        route::{MethodSet, RequestPath},
    },
    ingress::{Failure, Ingress, count, etag, identify::Identified},
    invoke::{
        Backend, EndpointTarget, TenantRoutes,
        tables::{SourceColumns, TableCall},
    },
    problem::Problem,
};

/// Where it is, below the tenant. An endpoint with this very route answers in its place.
const ROUTE: &str = "/openapi.json";

/// What documents take that are remembered, in bytes. A miss costs about a millisecond for a hundred endpoints.
const BYTES_MAX: u64 = 16 << 20;

/// A document is made anew after this time, in case a change went unnoticed.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// Endpoints whose databases are asked at once.
const DESCRIBED_AT_ONCE: usize = 8;

/// What an endpoint for any method is described as.
const ANY_METHOD: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// Documents that were asked for lately, by what is in them.
#[derive(Debug)]
pub(super) struct Documents(moka::sync::Cache<blake3::Hash, Document>);

#[derive(Debug, Clone)]
struct Document {
    etag: HeaderValue,
    text: Bytes,
}

impl Documents {
    pub(super) fn new() -> Self {
        let weigher = |_: &blake3::Hash, document: &Document| u32::try_from(document.text.len()).unwrap_or(u32::MAX);
        let documents = moka::sync::Cache::builder().max_capacity(BYTES_MAX).weigher(weigher);
        Self(documents.eviction_policy(moka::policy::EvictionPolicy::lru()).time_to_live(REMEMBERED_FOR).build())
    }
}

/// Whether a request asks for the document, and no endpoint answers in its place.
pub(super) fn is_asked_for(method: &Method, path: &RequestPath<'_>, routes: &TenantRoutes) -> bool {
    let [name] = path.segments() else { return false };
    let is_own = || routes.table.targets().iter().any(|endpoint| endpoint.route == ROUTE);
    (*method == Method::GET || *method == Method::HEAD) && ROUTE.strip_prefix('/') == Some(name) && !is_own()
}

impl Ingress {
    /// The document: of all endpoints, for everybody, if the tenant has it so; else of those that the reader may call. It uses up nothing of what
    /// the tenant's callers share, and one more use of a reader's key.
    pub(super) async fn document(&self, routes: Arc<TenantRoutes>, parts: &Parts) -> Result<Response, Failure> {
        let described = self.described(&routes, &parts.headers).await?;
        let key = key(&routes, &described);
        let document = match self.documents.0.get(&key) {
            Some(document) => document,
            None => {
                let deadline = Instant::now() + self.settings.describing_time;
                let describing = described.into_iter().map(async |described| {
                    let columns = self.columns(&routes, &described.endpoint, deadline).await;
                    Described { columns, ..described }
                });
                let described = futures::stream::iter(describing).buffered(DESCRIBED_AT_ONCE).collect().await;
                let tenant = routes.tenant.clone();
                let base = self.settings.public_url.as_ref().map_or_else(String::new, ToString::to_string);
                let text = tokio::task::spawn_blocking(move || openapi::document(&base, &tenant, described)).await?;
                let text = Bytes::from(text.to_string());
                let document = Document { etag: etag::of(None, &text), text };
                self.documents.0.insert(key, document.clone());
                document
            }
        };
        let response = respond(&document, routes.public_document, parts);
        count(&routes, &response);
        Ok(response)
    }

    /// The columns and placeholders of a table or query, as far as its database says in time.
    async fn columns(
        &self,
        routes: &Arc<TenantRoutes>,
        endpoint: &EndpointTarget,
        deadline: Instant,
    ) -> Option<SourceColumns> {
        let Backend::Table(source) = &endpoint.backend else { return None };
        let call = TableCall {
            routes: Arc::clone(routes),
            endpoint: endpoint.id,
            source: source.clone(),
            rows: None,
            limits: endpoint.limits,
            request_id: InvocationId::generate(),
            method: Method::GET.to_string(),
            path: endpoint.route.clone(),
        };
        Some(self.invoker.source_columns(&call, deadline).await)
    }

    /// The endpoints that the reader is told of, and their methods.
    async fn described(&self, routes: &TenantRoutes, headers: &HeaderMap) -> Result<Vec<Described>, Failure> {
        let mut described = Vec::new();
        let mut reader = Reader::default();
        for endpoint in routes.table.targets().into_iter().filter(|endpoint| endpoint.enabled) {
            let mut methods = Vec::new();
            for method in methods_of(endpoint.methods) {
                let is_open = routes.public_document || endpoint.auth == AuthMode::Public;
                if is_open || reader.note(endpoint.auth, || self.identify(routes, endpoint, &method, headers)).await? {
                    methods.push(method);
                }
            }
            if !methods.is_empty() {
                described.push(Described { endpoint: Arc::clone(endpoint), methods, columns: None });
            }
        }
        let Reader { identified, refused: _, refusal } = reader;
        match identified {
            Some(Identified { caller, rate_limit }) => self.rates.check_key(&caller, rate_limit)?,
            None if routes.public_document => {}
            None => return Err(refusal.unwrap_or(Failure::Auth(AuthError::MissingToken))),
        }
        Ok(described)
    }
}

/// Who asks for a document, as far as is known.
#[derive(Default)]
struct Reader {
    /// Who they are, if there is anything but public endpoints that they may call.
    identified: Option<Identified>,
    /// What they have shown no credential for, or a wrong one. It is looked at once, not once for each endpoint.
    refused: Vec<AuthMode>,
    refusal: Option<Failure>,
}

impl Reader {
    /// Whether they may call what is behind `identified`.
    async fn note<F: Future<Output = Result<Identified, Failure>> + Send>(
        &mut self,
        auth: AuthMode,
        identified: impl FnOnce() -> F + Send,
    ) -> Result<bool, Failure> {
        if self.refused.contains(&auth) {
            return Ok(false);
        }
        let failure = match identified().await {
            Ok(identified) => {
                self.identified = Some(identified);
                return Ok(true);
            }
            Err(failure) => failure,
        };
        let Failure::Auth(error) = &failure else { return Err(failure) };
        match Problem::from(error).status() {
            StatusCode::UNAUTHORIZED => self.refused.push(auth),
            StatusCode::FORBIDDEN => {} // it is for others
            _ => return Err(failure),
        }
        self.refusal.get_or_insert(failure);
        Ok(false)
    }
}

fn methods_of(methods: MethodSet) -> Vec<Method> {
    if methods.is_any() {
        return ANY_METHOD.into();
    }
    methods.names_listed().filter_map(|name| Method::from_bytes(name.as_bytes()).ok()).collect()
}

/// What is in a document: after a change of endpoints it has another key.
fn key(routes: &TenantRoutes, described: &[Described]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&routes.tenant_id.0.to_le_bytes()).update(&routes.generation.to_le_bytes());
    for Described { endpoint, methods, columns: _ } in described {
        hasher.update(&endpoint.id.0.to_le_bytes()).update(&endpoint.revision.to_le_bytes());
        for method in methods {
            hasher.update(method.as_str().as_bytes()).update(b" ");
        }
    }
    hasher.finalize()
}

fn respond(Document { etag, text }: &Document, is_public: bool, parts: &Parts) -> Response {
    let mut response = etag::respond(parts, etag, text, HeaderValue::from_static("application/json"));
    let fields = response.headers_mut();
    fields.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static(if is_public { "no-cache" } else { "private, no-cache" }),
    );
    if is_public {
        // Pages that show documents, of whatever site: everybody may read it.
        fields.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
    response
}
