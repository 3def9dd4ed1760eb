//! The data plane: requests to tenants' endpoints.
//!
//! Owns: finding the endpoint, checking the caller, reading the body, sending the answer. Never: runs handlers (see `invoke`),
//! words errors (see `problem`).

mod answer;
mod form;
mod public_keys;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header, request::Parts};
use http_body_util::{BodyExt as _, Limited};

use crate::{
    auth::{AuthError, Authenticator},
    domain::{
        Fault,
        client::ClientAddress,
        exchange::{AuthMode, Caller, HandlerRequest},
        names::{InvocationId, TenantId, TenantName},
        people::SESSION_COOKIE,
        route::{Lookup, MethodSet, RequestPath},
    },
    invoke::{Call, EndpointTarget, InvokeError, Invoker, TenantRoutes},
    problem::{InvalidResponse, Problem, REQUEST_ID, RequestError},
};

/// Longest URL, in bytes: what common proxies let through.
const URL_BYTES_MAX: usize = 8 << 10;

/// Time for a body to arrive. A phone on a bad line sends 2 MiB in half of it.
const BODY_TIME: Duration = Duration::from_secs(30);

/// What can be set.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Shows tracebacks to callers: for `pqhost dev` only.
    pub dev: bool,
    /// Time for a body to arrive.
    pub body_time: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { dev: false, body_time: BODY_TIME }
    }
}

#[derive(Debug)]
struct Ingress {
    invoker: Invoker,
    auth: Arc<Authenticator>,
    settings: Settings,
}

/// Answers every path of the ingress listener.
pub fn router(invoker: Invoker, auth: Arc<Authenticator>, settings: Settings) -> Router {
    Router::new().fallback(serve).with_state(Arc::new(Ingress { invoker, auth, settings }))
}

/// Anything that keeps a request from its answer.
#[derive(Debug)]
enum Failure {
    Request(RequestError),
    Auth(AuthError),
    Invoke(InvokeError),
    Response(InvalidResponse),
    /// No failure: the methods of a path, for OPTIONS.
    Options(MethodSet),
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
    let mut response = match ingress.answer(request, id).await {
        Ok(response) => response,
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
    async fn answer(&self, request: Request, id: InvocationId) -> Result<Response, Failure> {
        let (parts, body) = request.into_parts();
        let route = match self.find(&parts).await? {
            Found::Endpoint(route) => route,
            Found::PublicKeys(tenant) => {
                let keys = self.auth.public_keys(tenant).await.map_err(Failure::Auth)?;
                return public_keys::respond(&parts, &keys);
            }
        };
        let caller = self.identify(&route, &parts).await?;
        let body = self.read_body(&route.endpoint, &parts.headers, body).await?;
        let without_body = route.head_as_get;
        let call = handler_call(route, parts, body, caller, id).await?;
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
            return Ok(Found::PublicKeys(routes.tenant_id));
        }
        let (mut endpoint, path_params, head_as_get) = match routes.table.find(parts.method.as_str(), &path) {
            Lookup::Found(found) => (Arc::clone(found.target), found.params, found.head_as_get),
            Lookup::MethodNotAllowed(methods) if parts.method == Method::OPTIONS => {
                return Err(Failure::Options(methods));
            }
            Lookup::MethodNotAllowed(methods) => return Err(RequestError::MethodNotAllowed(methods).into()),
            Lookup::Unknown => return Err(RequestError::UnknownEndpoint.into()),
        };
        if let Some(token) = preview {
            let previewed = self.invoker.preview(routes.tenant_id, &token, &endpoint).await.map_err(Failure::Invoke)?;
            endpoint = previewed.ok_or(RequestError::UnknownEndpoint)?;
        }
        Ok(Found::Endpoint(Routed { routes, endpoint, path: below, path_params, head_as_get }))
    }

    async fn identify(&self, route: &Routed, parts: &Parts) -> Result<Caller, Failure> {
        let mut authorizations = parts.headers.get_all(header::AUTHORIZATION).iter();
        let authorization = authorizations.next();
        if authorizations.next().is_some() {
            return Err(RequestError::RepeatedHeader("Authorization").into());
        }
        match route.endpoint.auth {
            AuthMode::Public => Ok(Caller::Public),
            AuthMode::Jwt => {
                let TenantRoutes { tenant_id, tenant, .. } = &*route.routes;
                let (endpoint, method) = (route.endpoint.id, parts.method.as_str());
                let verified = self.auth.verify(*tenant_id, tenant, endpoint, method, authorization).await;
                let token = verified.map_err(Failure::Auth)?;
                Ok(Caller::Token(token.bearer()))
            }
            AuthMode::Key => Err(Failure::Auth(AuthError::MissingToken)),
        }
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
        let mut problem = match failure {
            Failure::Request(error) => Problem::from(error),
            Failure::Auth(error) => Problem::from(error),
            Failure::Invoke(error) => Problem::from(error),
            Failure::Response(error) => Problem::from(error),
            Failure::Options(methods) => return options(*methods),
        };
        let text = match failure {
            Failure::Request(error) => error.to_string(),
            Failure::Auth(error) => error.to_string(),
            Failure::Invoke(error) => error.to_string(),
            Failure::Response(error) => error.to_string(),
            Failure::Options(_) => String::new(),
        };
        let (code, error) = (problem.code(), text.as_str());
        match problem.fault() {
            Fault::Caller => tracing::debug!(invocation.id = %id, code, error, "a request was refused"),
            Fault::Script | Fault::Quota => {
                tracing::info!(invocation.id = %id, code, error, "a handler gave no answer");
            }
            Fault::Host => tracing::error!(invocation.id = %id, code, error, "a request failed"),
        }
        if self.settings.dev {
            let traceback = match failure {
                Failure::Invoke(error) => error.traceback().map(str::to_owned).or(Some(text)),
                Failure::Request(_) | Failure::Auth(_) | Failure::Response(_) | Failure::Options(_) => Some(text),
            };
            problem = problem.with_traceback(traceback.as_deref());
        }
        problem.into_response(id)
    }
}

/// What a request has found.
#[derive(Debug)]
enum Found {
    Endpoint(Routed),
    /// The public keys of a tenant, which the host itself shows.
    PublicKeys(TenantId),
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
}

async fn handler_call(
    route: Routed,
    parts: Parts,
    body: Bytes,
    caller: Caller,
    id: InvocationId,
) -> Result<Call, Failure> {
    let form = form::parse(&parts.headers, &body).await?;
    let client = parts.extensions.get::<ClientAddress>();
    let Routed { routes, endpoint, path, path_params, head_as_get } = route;
    let method = if head_as_get { Method::GET } else { parts.method };
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let host = parts.uri.authority().map(|authority| authority.as_str().to_owned());
    let host = host.or_else(|| parts.headers.get(header::HOST).map(text)).unwrap_or_default();
    let target = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let request = HandlerRequest {
        method: method.as_str().to_owned(),
        url: format!("http://{host}{target}"),
        path,
        query_string: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers.iter().filter_map(shown_field).collect(),
        body,
        form: form.fields,
        files: form.files,
        path_params,
        client_ip: client.map_or_else(String::new, |ClientAddress(address)| address.to_string()),
        request_id: id,
        caller,
    };
    Ok(Call { routes, endpoint, request, rerun: None })
}

/// A header field as a handler sees it: without the cookie of somebody who is logged in to the control API.
fn shown_field((name, value): (&HeaderName, &HeaderValue)) -> Option<(String, String)> {
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
