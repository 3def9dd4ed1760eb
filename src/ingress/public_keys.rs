//! The keys that others verify a tenant's tokens with, as the host itself shows them.

use axum::{body::Body, response::Response};
use http::{HeaderValue, Method, StatusCode, header, request::Parts};
use serde_json::Value;

use crate::{domain::route::MethodSet, ingress::Failure, problem::RequestError};

/// Below the tenant. No endpoint answers there: whoever asks for keys must get the host's.
pub(super) const PATH: &str = "/.well-known/jwks.json";

/// Verifiers ask again after this time, so that a new key may sign at once: who does not know a key asks too.
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// Answers a request for [`PATH`].
pub(super) fn respond(parts: &Parts, keys: &Value) -> Result<Response, Failure> {
    let methods: MethodSet = "GET".parse().expect("GET is a method");
    match parts.method {
        Method::GET | Method::HEAD => {}
        Method::OPTIONS => return Err(Failure::Options(methods.with_implied())),
        _ => return Err(RequestError::MethodNotAllowed(methods.with_implied()).into()),
    }
    let body = keys.to_string();
    let tag = format!("\"{}\"", &blake3::hash(body.as_bytes()).to_hex()[..32]);
    let known = parts.headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = known.flat_map(|tags| tags.split(',')).any(|known| {
        let known = known.trim();
        known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag
    });
    let length = body.len();
    let mut response =
        Response::new(if is_known || parts.method == Method::HEAD { Body::empty() } else { body.into() });
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, CACHE);
    headers.insert(header::ETAG, HeaderValue::from_str(&tag).expect("hexadecimal digits in quotes are ASCII"));
    if !is_known {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    Ok(response)
}
