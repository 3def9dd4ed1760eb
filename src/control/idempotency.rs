//! Requests that may be sent twice and run once.

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest as _, Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;

use crate::{
    control::{
        Control,
        access::Access,
        extract::{BODY_BYTES_MAX, in_time},
    },
    db::idempotency::Remembered,
    problem::api::ApiError,
};

/// The header field with the key.
pub(super) const FIELD: &str = "idempotency-key";

/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 255;

/// Whether an answer may be given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It may.
    Kept,
    /// It holds a secret, which is shown once.
    Secret,
}

/// Answers a request that was answered before with what it was answered then.
pub(super) async fn once(
    State((control, answer)): State<(Control, Answer)>,
    access: Access,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let Some(key) = request.headers().get(FIELD) else { return Ok(next.run(request).await) };
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(ApiError::InvalidParameter(format!("`{FIELD}` must have 1 to {KEY_BYTES_MAX} characters")));
    }
    // Keys of one caller say nothing to another.
    let key = hash([access.principal.actor().as_bytes(), key.as_bytes()]);
    let (parts, body) = request.into_parts();
    let reading = Bytes::from_request(Request::from_parts(parts.clone(), body), &control);
    let body = in_time(reading).await?.map_err(|_| ApiError::BodyTooLarge { limit_bytes: BODY_BYTES_MAX })?;
    let request_hash = hash([parts.method.as_str().as_bytes(), parts.uri.to_string().as_bytes(), &body]);

    match control.db.idempotency().begin(&key, &request_hash).await? {
        Remembered::Fresh => {}
        Remembered::Unfinished => return Err(ApiError::IdempotencyKeyInUse),
        Remembered::Answered { request_hash: other, .. } if other != request_hash => {
            return Err(ApiError::IdempotencyKeyReused);
        }
        Remembered::Answered { body: None, .. } => return Err(ApiError::IdempotentAnswerNotKept),
        Remembered::Answered { status, body: Some(body), .. } => return Ok(again(status, body)),
    }
    let request = Request::from_parts(parts, Body::from(body));
    // On a task of its own: if the caller hangs up, the request still ends one way or the other, and its key with it.
    let running = tokio::spawn(async move { control.run_and_keep(request, next, &key, answer).await });
    running.await.map_err(|error| ApiError::Host(error.to_string()))?
}

impl Control {
    async fn run_and_keep(
        &self,
        request: Request,
        next: Next,
        key: &str,
        answer: Answer,
    ) -> Result<Response, ApiError> {
        let response = next.run(request).await;
        if response.status().is_server_error() {
            return Ok(response); // the change may have been made all the same: the key stays taken
        }
        if !response.status().is_success() {
            self.db.idempotency().forget(key).await?; // nothing was created
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| ApiError::Host(error.to_string()))?.to_bytes();
        let kept = (answer == Answer::Kept).then_some(&*body);
        self.db.idempotency().finish(key, parts.status.as_u16(), kept).await?;
        Ok(Response::from_parts(parts, Body::from(body)))
    }
}

fn again(status: i64, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or_default();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
    response
}

fn hash<const N: usize>(parts: [&[u8]; N]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    hasher.finalize().to_hex().to_string()
}
