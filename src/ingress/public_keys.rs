//! The keys that others verify a tenant's tokens with, as the host itself shows them.

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, Method, header, request::Parts};

use crate::{
    domain::route::MethodSet,
    ingress::{Failure, Ingress, count, etag, options},
    invoke::TenantRoutes,
    problem::RequestError,
};

/// Below the tenant. No endpoint answers there: whoever asks for keys must get the host's.
pub(super) const PATH: &str = "/.well-known/jwks.json";

/// Verifiers ask again after this time, so that a new key may sign at once: who does not know a key asks too.
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=300");

impl Ingress {
    /// Answers a request for [`PATH`]. Anybody may ask, so it uses up nothing of what the tenant's callers share.
    pub(super) async fn public_keys(&self, routes: &TenantRoutes, parts: &Parts) -> Result<Response, Failure> {
        let methods: MethodSet = "GET".parse().expect("GET is a method");
        match parts.method {
            Method::GET | Method::HEAD => {}
            Method::OPTIONS => return Ok(options(methods.with_implied())),
            _ => return Err(RequestError::MethodNotAllowed(methods.with_implied()).into()),
        }
        let keys = self.auth.public_keys(routes.tenant_id).await.map_err(Failure::Auth)?;
        let body = Bytes::from(keys.to_string());
        let kind = HeaderValue::from_static("application/jwk-set+json");
        let mut response = etag::respond(parts, &etag::of(None, &body), &body, kind);
        response.headers_mut().insert(header::CACHE_CONTROL, CACHE);
        count(routes, &response);
        Ok(response)
    }
}
