//! The data plane: requests to tenants' endpoints.
//!
//! Owns: finding the endpoint, checking the caller, reading the body, sending the answer. Never: runs handlers (see `invoke`),
//! words errors (see `problem`).

mod answer;
mod cache;
mod cors;
mod document;
mod etag;
mod form;
mod identify;
mod public_keys;
mod rate;
mod tables;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, HttpBody as _},
    extract::{Request, State},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header, request::Parts};
use http_body_util::{BodyExt as _, Limited};
use tokio::task::JoinError;

use crate::{
    auth::{AuthError, Authenticator},
    domain::{
        Fault,
        client::{ClientAddress, Scheme},
        endpoint::CorsPolicy,
        exchange::{Caller, HandlerRequest},
        names::{InvocationId, TenantName},
        people::SESSION_COOKIE,
        public_url::PublicUrl,
        quota::Usage,
        route::{Lookup, MethodSet, RequestPath},
    },
    ingress::{
        cache::{AnswerCache, Answered, Question},
        cors::Preflight,
        document::Documents,
        identify::Identified,
        rate::RateLimits,
    },
    invoke::{Backend, Call, EndpointTarget, InvokeError, Invoker, ScriptTarget, TenantRoutes, tables::TableError},
    problem::{InvalidResponse, Problem, REQUEST_ID, RequestError},
};

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub use self::tables::fuzzing;

/// Longest URL, in bytes: what common proxies let through.
const URL_BYTES_MAX: usize = 8 << 10;

/// Time for a body to arrive. A phone on a bad line sends 2 MiB in half of it.
const BODY_TIME: Duration = Duration::from_secs(30);

/// Time for databases to say what their columns are when a document is made: a reader waits that long if one of them is away.
const DESCRIBING_TIME: Duration = Duration::from_secs(3);

/// What can be set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Shows tracebacks to callers: for `pqhost dev` only.
    pub dev: bool,
    /// Time for a body to arrive.
    pub body_time: Duration,
    /// Time for the databases behind endpoints to say what their columns are, all together, when a document is made. Those that
    /// do not answer are left out.
    pub describing_time: Duration,
    /// The beginning of callers' URLs, where it is another than they connect to.
    pub public_url: Option<PublicUrl>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { dev: false, body_time: BODY_TIME, describing_time: DESCRIBING_TIME, public_url: None }
    }
}

#[derive(Debug)]
struct Ingress {
    invoker: Invoker,
    auth: Arc<Authenticator>,
    settings: Settings,
    answers: Arc<AnswerCache<Failure>>,
    rates: RateLimits,
    documents: Documents,
}

/// Answers every path of the ingress listener.
pub fn router(invoker: Invoker, auth: Arc<Authenticator>, settings: Settings) -> Router {
    let (answers, rates, documents) = (Arc::new(AnswerCache::new()), RateLimits::new(), Documents::new());
    Router::new().fallback(serve).with_state(Arc::new(Ingress { invoker, auth, settings, answers, rates, documents }))
}

/// Anything that keeps a request from its answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Request(RequestError),
    #[error(transparent)]
    Auth(AuthError),
    #[error(transparent)]
    Invoke(InvokeError),
    #[error(transparent)]
    Response(InvalidResponse),
    #[error(transparent)]
    Table(TableError),
}

impl From<&Failure> for Problem {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::Request(error) => error.into(),
            Failure::Auth(error) => error.into(),
            Failure::Invoke(error) => error.into(),
            Failure::Response(error) => error.into(),
            Failure::Table(error) => error.into(),
        }
    }
}

impl From<JoinError> for Failure {
    fn from(_: JoinError) -> Self {
        Self::Invoke(InvokeError::Host("the task of a request died".to_owned()))
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

async fn serve(State(ingress): State<Arc<Ingress>>, request: Request) -> Response {
    let id = InvocationId::generate();
    // HTTP/1.1 leaves the body out by itself.
    let without_body = request.method() == Method::HEAD && request.version() == Version::HTTP_2;
    let (parts, body) = request.into_parts();
    let mut response = match ingress.find(&parts).await {
        Ok(Found::Endpoint(route)) => {
            let endpoint = Arc::clone(&route.endpoint);
            let origin = cors::origin(&parts.headers);
            let answer = ingress.answer(route, parts, body, id).await;
            let mut response = answer.unwrap_or_else(|failure| ingress.fail(&failure, id));
            identify::mark_as_callers(endpoint.auth, response.headers_mut());
            if let Some(policy) = &endpoint.settings.cors {
                cors::apply(policy, origin.as_ref(), response.headers_mut());
            }
            response
        }
        Ok(Found::Document(routes)) => {
            ingress.document(routes, &parts).await.unwrap_or_else(|failure| ingress.fail(&failure, id))
        }
        Ok(Found::PublicKeys(routes)) => {
            ingress.public_keys(&routes, &parts).await.unwrap_or_else(|failure| ingress.fail(&failure, id))
        }
        Ok(Found::Answer(response)) => response,
        Err(failure) => ingress.fail(&failure, id),
    };
    if without_body {
        *response.body_mut() = Body::empty();
    }
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

impl Ingress {
    async fn answer(
        self: &Arc<Self>,
        route: Routed,
        parts: Parts,
        body: Body,
        id: InvocationId,
    ) -> Result<Response, Arc<Failure>> {
        let Identified { caller, rate_limit } =
            self.identify(&route.routes, &route.endpoint, &parts.method, &parts.headers).await?;
        let client = parts.extensions.get::<ClientAddress>().copied();
        // In this order: who is over its own limit uses up nothing that the tenant's other callers share.
        self.rates.check(&route.endpoint, &caller, rate_limit, client).map_err(Failure::from)?;
        route.routes.admit().map_err(Failure::Invoke)?;
        let Some(question) = Question::of(&route, &parts, &body, &caller) else {
            let without_body = route.head_as_get;
            return Ok(self.run(route, parts, body, caller, id, without_body).await?);
        };
        let (ingress, routes) = (Arc::clone(self), Arc::clone(&route.routes));
        let run = |id| async move { ingress.run(route, parts, body, caller, id, false).await };
        let Answered { outcome, ran } = self.answers.answer(question, id, run).await;
        // What runs counts itself.
        if !ran {
            match &outcome {
                Ok(response) => count(&routes, response),
                Err(failure) => routes.count(Usage::of_request(Problem::from(&**failure).status().as_u16())),
            }
        }
        outcome
    }

    /// Lets the endpoint answer. With `without_body`, for HEAD: what GET would say, without its body.
    async fn run(
        &self,
        route: Routed,
        parts: Parts,
        body: Body,
        caller: Caller,
        id: InvocationId,
        without_body: bool,
    ) -> Result<Response, Failure> {
        let script = match &route.endpoint.backend {
            Backend::Script(script) => Arc::clone(script),
            Backend::Table(source) => return self.rows(source, &route, &parts, &caller, (id, without_body)).await,
        };
        let body = self.read_body(&route.endpoint, &parts.headers, body).await?;
        let url = self.url_of(&parts);
        let call = handler_call(route, script, (parts, url), body, caller, id).await?;
        let answer = self.invoker.invoke(call).await.map_err(Failure::Invoke)?;
        answer::respond(answer, id, without_body).map_err(Failure::Response)
    }

    async fn find(&self, parts: &Parts) -> Result<Found, Failure> {
        let url = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        if url.len() > URL_BYTES_MAX {
            return Err(RequestError::UrlTooLong { limit_bytes: URL_BYTES_MAX, seen_bytes: url.len() }.into());
        }
        if parts.version == Version::HTTP_11 && parts.headers.get_all(header::HOST).iter().count() != 1 {
            return Err(RequestError::InvalidHost.into());
        }
        let path = RequestPath::parse(parts.uri.path()).map_err(RequestError::from)?;
        let (preview, path) = match path.without_preview() {
            Ok((token, path)) => (Some(token), path),
            Err(path) => (None, path),
        };
        let tenant: TenantName = path.tenant().parse().map_err(|_| RequestError::UnknownEndpoint)?;
        let routes = self.invoker.find_routes(&tenant).await.map_err(Failure::Invoke)?;
        let routes = routes.ok_or(RequestError::UnknownEndpoint)?;
        let below = path.below_tenant();
        if preview.is_none() && below.strip_suffix('/').unwrap_or(&below) == public_keys::PATH {
            return Ok(Found::PublicKeys(routes));
        }
        if preview.is_none() && document::is_asked_for(&parts.method, &path, &routes) {
            return Ok(Found::Document(routes));
        }
        if let Some(preflight) = Preflight::of(&parts.method, &parts.headers)
            && let Some(answer) = preflight.answer(|method| policy_of(&routes, method, &path))
        {
            return Ok(Found::Answer(answer));
        }
        let (mut endpoint, path_params, head_as_get) = match routes.table.find(parts.method.as_str(), &path) {
            Lookup::Found(found) => (Arc::clone(found.target), found.params, found.head_as_get),
            Lookup::MethodNotAllowed(methods) if parts.method == Method::OPTIONS => {
                return Ok(Found::Answer(options(methods)));
            }
            Lookup::MethodNotAllowed(methods) => return Err(RequestError::MethodNotAllowed(methods).into()),
            Lookup::Unknown => return Err(RequestError::UnknownEndpoint.into()),
        };
        if !endpoint.enabled {
            return Err(RequestError::DisabledEndpoint.into());
        }
        let is_preview = preview.is_some();
        if let Some(token) = preview {
            let previewed = self.invoker.preview(routes.tenant_id, &token, &endpoint).await.map_err(Failure::Invoke)?;
            endpoint = previewed.ok_or(RequestError::UnknownEndpoint)?;
        }
        Ok(Found::Endpoint(Routed { routes, endpoint, path: below, path_params, head_as_get, is_preview }))
    }

    async fn read_body(
        &self,
        endpoint: &EndpointTarget,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Bytes, RequestError> {
        let limit_bytes = endpoint.limits.request_body_bytes;
        let too_large = || RequestError::BodyTooLarge { limit_bytes };
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|bytes| bytes > limit_bytes) {
            return Err(too_large());
        }
        let body = Limited::new(body, usize::try_from(limit_bytes).unwrap_or(usize::MAX));
        let limit = self.settings.body_time;
        let collected = tokio::time::timeout(limit, body.collect()).await;
        match collected.map_err(|_| RequestError::BodyTimeout { limit })? {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
            Err(_) => Err(RequestError::BodyBroken),
        }
    }

    fn fail(&self, failure: &Failure, id: InvocationId) -> Response {
        let (mut problem, text) = (Problem::from(failure), failure.to_string());
        let (code, error) = (problem.code(), text.as_str());
        match problem.fault() {
            Fault::Caller | Fault::Quota => {
                tracing::debug!(invocation.id = %id, code, error, "a request was refused");
            }
            Fault::Script => tracing::info!(invocation.id = %id, code, error, "a handler gave no answer"),
            Fault::Host => tracing::error!(invocation.id = %id, code, error, "a request failed"),
        }
        if self.settings.dev {
            let traceback = match failure {
                Failure::Invoke(error) => error.traceback().map(str::to_owned).or(Some(text)),
                Failure::Request(_) | Failure::Auth(_) | Failure::Response(_) | Failure::Table(_) => Some(text),
            };
            problem = problem.with_traceback(traceback.as_deref());
        }
        problem.into_response(id)
    }
}

impl Ingress {
    /// The URL of a request as its caller wrote it.
    fn url_of(&self, parts: &Parts) -> String {
        let target = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        if let Some(public) = &self.settings.public_url {
            return format!("{public}{target}");
        }
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let host = parts.uri.authority().map(|authority| authority.as_str().to_owned());
        let host = host.or_else(|| parts.headers.get(header::HOST).map(text)).unwrap_or_default();
        let scheme = parts.extensions.get::<Scheme>().copied().unwrap_or_default();
        format!("{}://{host}{target}", scheme.as_str())
    }
}

/// What a request has found.
#[derive(Debug)]
enum Found {
    Endpoint(Routed),
    /// The description of a tenant's endpoints.
    Document(Arc<TenantRoutes>),
    /// The public keys of a tenant.
    PublicKeys(Arc<TenantRoutes>),
    /// What the host says itself.
    Answer(Response),
}

/// An endpoint that a request has found.
#[derive(Debug)]
struct Routed {
    routes: Arc<TenantRoutes>,
    endpoint: Arc<EndpointTarget>,
    /// Below the tenant, decoded.
    path: String,
    path_params: Vec<(String, String)>,
    head_as_get: bool,
    is_preview: bool,
}

/// Counts a request that was let in, and that the host answered from its memory.
fn count(routes: &TenantRoutes, response: &Response) {
    let answer_bytes = response.body().size_hint().exact().unwrap_or(0);
    routes.count(Usage { answer_bytes, ..Usage::of_request(response.status().as_u16()) });
}

async fn handler_call(
    route: Routed,
    script: Arc<ScriptTarget>,
    (parts, url): (Parts, String),
    body: Bytes,
    caller: Caller,
    id: InvocationId,
) -> Result<Call, Failure> {
    let form = form::parse(&parts.headers, &body).await?;
    let client = parts.extensions.get::<ClientAddress>();
    let Routed { routes, endpoint, path, path_params, head_as_get, is_preview: _ } = route;
    let method = if head_as_get { Method::GET } else { parts.method };
    let request = HandlerRequest {
        method: method.as_str().to_owned(),
        url,
        path,
        query_string: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers.iter().filter_map(|field| shown_field(field, &caller)).collect(),
        body,
        form: form.fields,
        files: form.files,
        path_params,
        client_ip: client.map_or_else(String::new, |ClientAddress(address)| address.to_string()),
        request_id: id,
        caller,
    };
    let EndpointTarget { id: endpoint, limits, record, .. } = *endpoint;
    Ok(Call { routes, endpoint, script, limits, record, request, rerun: None })
}

/// What the endpoint that answers `method` at `path` lets browsers do.
fn policy_of<'r>(routes: &'r TenantRoutes, method: &Method, path: &RequestPath<'_>) -> Option<&'r CorsPolicy> {
    let Lookup::Found(found) = routes.table.find(method.as_str(), path) else { return None };
    found.target.settings.cors.as_ref().filter(|_| found.target.enabled)
}

/// A header field as a handler sees it: without the cookie of somebody who is logged in to the control API, and without the credential of a
/// caller whom a handler is not to take the place of.
fn shown_field((name, value): (&HeaderName, &HeaderValue), caller: &Caller) -> Option<(String, String)> {
    if identify::is_withheld(name, caller) {
        return None;
    }
    let text = String::from_utf8_lossy(value.as_bytes());
    if *name != header::COOKIE {
        return Some((name.as_str().to_owned(), text.into_owned()));
    }
    let is_session = |pair: &&str| pair.split('=').next().is_some_and(|name| name.trim() == SESSION_COOKIE);
    let pairs: Vec<_> = text.split(';').filter(|pair| !is_session(pair)).collect();
    let kept = pairs.join(";").trim().to_owned();
    (!kept.is_empty()).then(|| (name.as_str().to_owned(), kept))
}

fn options(methods: MethodSet) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if let Ok(value) = HeaderValue::from_str(&methods.to_string()) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}
