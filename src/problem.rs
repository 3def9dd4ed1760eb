//! Every error as HTTP: problem documents (RFC 9457).
//!
//! Owns: the only place where errors get their status, code and text for callers. Never: decides what is an error.

pub mod api;

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::{
    auth::AuthError,
    domain::{
        Fault,
        names::InvocationId,
        route::{InvalidPath, MethodSet},
    },
    invoke::{InvokeError, tables::TableError},
    remote::SessionError,
};

/// Names the invocation in every answer.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Why a request did not reach a handler, besides authorization.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No tenant or no endpoint; callers cannot tell which.
    #[error("there is no such endpoint")]
    UnknownEndpoint,
    /// The endpoint is there, and switched off.
    #[error("this endpoint is switched off")]
    DisabledEndpoint,
    /// The path's endpoints answer other methods.
    #[error("this endpoint answers {0}")]
    MethodNotAllowed(MethodSet),
    /// The path is malformed.
    #[error(transparent)]
    InvalidPath(#[from] InvalidPath),
    /// The URL is too long.
    #[error("the URL has {seen_bytes} bytes; at most {limit_bytes} are allowed")]
    UrlTooLong {
        /// The limit.
        limit_bytes: usize,
        /// What was sent.
        seen_bytes: usize,
    },
    /// There are too many header fields.
    #[error("the request has more than {limit} header fields")]
    TooManyHeaders {
        /// The limit.
        limit: usize,
    },
    /// HTTP/1.1 needs exactly one `Host`.
    #[error("the request must have one `Host` header field")]
    InvalidHost,
    /// A field that must be there once was sent several times.
    #[error("the header field `{0}` was sent more than once")]
    RepeatedHeader(&'static str),
    /// The caller, or all callers together, ask more often than they may.
    #[error("too many requests; try again later")]
    RateLimited {
        /// When there is room for another request.
        retry_after: Duration,
    },
    /// The body is too large.
    #[error("the body has more than {limit_bytes} bytes")]
    BodyTooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// The body took too long to arrive.
    #[error("the body did not arrive within {limit:?}")]
    BodyTimeout {
        /// The limit.
        limit: Duration,
    },
    /// The connection broke, or the body's framing is wrong.
    #[error("the body cannot be read")]
    BodyBroken,
    /// A form that is none.
    #[error("the form cannot be read: {0}")]
    InvalidForm(String),
}

/// A handler's response that may not be sent.
#[derive(Debug, thiserror::Error)]
#[error("the handler's response may not be sent: {0}")]
pub struct InvalidResponse(pub String);

/// An error on its way to a caller.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    fault: Fault,
    retry_after: Option<Duration>,
    allow: Option<MethodSet>,
    traceback: Option<String>,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
    invocation_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceback: Option<&'a str>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, fault: Fault, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), fault, retry_after: None, allow: None, traceback: None }
    }

    /// A bug of ours; callers learn nothing more.
    #[must_use]
    pub fn host_error() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "host_error", Fault::Host, "something went wrong in the host")
    }

    /// The host compiles its runtime, or opens its data.
    #[must_use]
    pub fn host_starting() -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "host_starting", Fault::Host, "the host is starting");
        Self { retry_after: Some(Duration::from_secs(1)), ..problem }
    }

    /// Shows the traceback to the caller; for `pqhost dev` only.
    #[must_use]
    pub fn with_traceback(mut self, traceback: Option<&str>) -> Self {
        self.traceback = traceback.map(str::to_owned);
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// Who caused it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// The response for the request of this id.
    #[must_use]
    pub fn into_response(self, id: InvocationId) -> Response {
        let document = Document {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            code: self.code,
            detail: &self.detail,
            invocation_id: id.to_string(),
            traceback: self.traceback.as_deref(),
        };
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Ok(value) = HeaderValue::from_str(&document.invocation_id) {
            headers.insert(REQUEST_ID, value);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
        }
        if let Some(value) = self.allow.and_then(|methods| HeaderValue::from_str(&methods.to_string()).ok()) {
            headers.insert(header::ALLOW, value);
        }
        response
    }
}

/// At least one, and never too early.
fn whole_seconds(after: Duration) -> u64 {
    (after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1)
}

impl From<&RequestError> for Problem {
    fn from(error: &RequestError) -> Self {
        let (status, code) = match error {
            RequestError::UnknownEndpoint => (StatusCode::NOT_FOUND, "endpoint_unknown"),
            RequestError::DisabledEndpoint => (StatusCode::NOT_FOUND, "endpoint_disabled"),
            RequestError::MethodNotAllowed(_) => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            RequestError::InvalidPath(_) => (StatusCode::BAD_REQUEST, "invalid_path"),
            RequestError::UrlTooLong { .. } => (StatusCode::URI_TOO_LONG, "url_too_long"),
            RequestError::TooManyHeaders { .. } => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too_many_headers"),
            RequestError::InvalidHost => (StatusCode::BAD_REQUEST, "invalid_host"),
            RequestError::RepeatedHeader(_) => (StatusCode::BAD_REQUEST, "repeated_header"),
            RequestError::RateLimited { .. } => (StatusCode::TOO_MANY_REQUESTS, "rate_limited"),
            RequestError::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            RequestError::BodyTimeout { .. } => (StatusCode::REQUEST_TIMEOUT, "body_timeout"),
            RequestError::BodyBroken => (StatusCode::BAD_REQUEST, "body_broken"),
            RequestError::InvalidForm(_) => (StatusCode::BAD_REQUEST, "invalid_form"),
        };
        let (allow, retry_after) = match error {
            RequestError::MethodNotAllowed(methods) => (Some(*methods), None),
            RequestError::RateLimited { retry_after } => (None, Some(*retry_after)),
            RequestError::UnknownEndpoint
            | RequestError::DisabledEndpoint
            | RequestError::InvalidPath(_)
            | RequestError::UrlTooLong { .. }
            | RequestError::TooManyHeaders { .. }
            | RequestError::InvalidHost
            | RequestError::RepeatedHeader(_)
            | RequestError::BodyTooLarge { .. }
            | RequestError::BodyTimeout { .. }
            | RequestError::BodyBroken
            | RequestError::InvalidForm(_) => (None, None),
        };
        Self { allow, retry_after, ..Self::new(status, code, Fault::Caller, error.to_string()) }
    }
}

impl From<&AuthError> for Problem {
    fn from(error: &AuthError) -> Self {
        match error {
            // One text for both: a caller who guesses learns nothing.
            AuthError::MissingToken | AuthError::InvalidToken { .. } => {
                let detail = "this endpoint needs a valid token: send `Authorization: Bearer <token>`";
                Self::new(StatusCode::UNAUTHORIZED, "unauthorized", Fault::Caller, detail)
            }
            AuthError::TokenNotForEndpoint => {
                Self::new(StatusCode::FORBIDDEN, "forbidden", Fault::Caller, "this token is for another endpoint")
            }
            AuthError::MissingKey | AuthError::InvalidKey { .. } => {
                let detail = "this endpoint needs a valid consumer key: send `X-API-Key: <key>`";
                Self::new(StatusCode::UNAUTHORIZED, "unauthorized", Fault::Caller, detail)
            }
            AuthError::KeyNotForEndpoint => {
                let detail = "this key is for another endpoint or method";
                Self::new(StatusCode::FORBIDDEN, "forbidden", Fault::Caller, detail)
            }
            AuthError::TooManyLookUps { retry_after } => {
                let detail = "the host is busy; try again later";
                let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "host_overloaded", Fault::Host, detail);
                Self { retry_after: Some(*retry_after), ..problem }
            }
            AuthError::NoRows(_) => {
                let detail = "what is known of you does not say which rows you may see: ask whoever gave you access";
                Self::new(StatusCode::FORBIDDEN, "row_filter_unresolved", Fault::Caller, detail)
            }
            AuthError::TokenNotForMethod => {
                let detail = "this token is for other methods";
                Self::new(StatusCode::FORBIDDEN, "method_forbidden", Fault::Caller, detail)
            }
            // The tenant has named the issuer, as it has written its scripts.
            AuthError::IssuerUnavailable { retry_after } => {
                let detail = "the keys of this token's issuer cannot be had right now; try again later";
                let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "issuer_unavailable", Fault::Script, detail);
                Self { retry_after: Some(*retry_after), ..problem }
            }
            AuthError::InvalidExpiry
            | AuthError::ReservedClaim(_)
            | AuthError::ClaimsTooLarge { .. }
            | AuthError::TokenTooLarge { .. }
            | AuthError::Db(_)
            | AuthError::Vault(_)
            | AuthError::Signing(_) => Self::host_error(),
        }
    }
}

impl From<&InvokeError> for Problem {
    fn from(error: &InvokeError) -> Self {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (detail, retry_after) = match error {
            // What a script raises may hold anything: it is for its author, in the tenant's log.
            InvokeError::ScriptRaised(_) => ("the handler failed".to_owned(), None),
            InvokeError::BadReturn(_) => ("the handler returned something that is no response".to_owned(), None),
            InvokeError::ScriptTrapped { .. } => ("the handler was stopped".to_owned(), None),
            InvokeError::NotPublished { .. }
            | InvokeError::ScriptExited
            | InvokeError::OutOfFuel { .. }
            | InvokeError::DeadlineExceeded { .. }
            | InvokeError::OutOfMemory { .. }
            | InvokeError::StackOverflow
            | InvokeError::ResponseTooLarge { .. } => (error.to_string(), None),
            InvokeError::TooManyInFlight { .. } => (error.to_string(), Some(Duration::from_secs(1))),
            InvokeError::QuotaUsedUp { retry_after, .. } => (error.to_string(), Some(*retry_after)),
            InvokeError::Overloaded { retry_after, .. } => {
                ("the host is busy; try again later".to_owned(), Some(*retry_after))
            }
            InvokeError::Db(_) | InvokeError::Host(_) => return Self::host_error(),
        };
        Self { retry_after, ..Self::new(status, error.code(), error.fault(), detail) }
    }
}

impl From<&TableError> for Problem {
    fn from(error: &TableError) -> Self {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (detail, fault, seconds) = match error {
            TableError::Invalid(_) | TableError::TooLarge { .. } => (error.to_string(), Fault::Caller, None),
            TableError::Refused(_) => {
                ("the database takes these values for no filter of their columns".to_owned(), Fault::Caller, None)
            }
            TableError::Busy => ("the host is busy; try again later".to_owned(), Fault::Host, Some(1)),
            // What a database says is for the tenant, in its log.
            TableError::NotAllowed(_) => ("you may not read these rows".to_owned(), Fault::Caller, None),
            TableError::TimedOut(_) => ("the database took too long".to_owned(), Fault::Script, None),
            TableError::Unavailable(_) => {
                ("the database cannot be reached right now".to_owned(), Fault::Script, Some(1))
            }
            TableError::Misconfigured(_) => ("this endpoint's table cannot be read".to_owned(), Fault::Script, None),
        };
        Self { retry_after: seconds.map(Duration::from_secs), ..Self::new(status, error.code(), fault, detail) }
    }
}

impl From<&SessionError> for Problem {
    fn from(error: &SessionError) -> Self {
        let (status, code, fault) = match error {
            SessionError::UnknownScript { .. } => (StatusCode::NOT_FOUND, "script_unknown", Fault::Caller),
            SessionError::UnknownSession => (StatusCode::NOT_FOUND, "session_unknown", Fault::Caller),
            SessionError::Busy => (StatusCode::CONFLICT, "session_busy", Fault::Caller),
            SessionError::TooMany { .. } => (StatusCode::TOO_MANY_REQUESTS, "too_many_sessions", Fault::Quota),
            SessionError::InvalidCall(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_call", Fault::Caller),
            SessionError::DeadlineExceeded { .. } => (StatusCode::GATEWAY_TIMEOUT, "call_deadline", Fault::Script),
            SessionError::Invoke(error) => return Self::from(error),
        };
        let retry_after = matches!(error, SessionError::TooMany { .. }).then_some(Duration::from_secs(10));
        Self { retry_after, ..Self::new(status, code, fault, error.to_string()) }
    }
}

impl From<&InvalidResponse> for Problem {
    fn from(_: &InvalidResponse) -> Self {
        let detail = "the handler returned something that is no response";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "script_bad_return", Fault::Script, detail)
    }
}
