//! Errors of the control API.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::{
    domain::{
        Fault,
        names::{InvocationId, ScriptName},
        quota::UsedUp,
    },
    problem::Problem,
};

/// Why the control API did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ApiError {
    /// No credential, or none that is valid.
    #[error("send a valid API token: `Authorization: Bearer pqh_...`")]
    Unauthenticated,
    /// E-mail address or password.
    #[error("the e-mail address or the password is wrong")]
    WrongPassword,
    /// Too many wrong passwords.
    #[error("too many attempts to log in; try again later")]
    TooManyAttempts {
        /// When.
        retry_after: Duration,
    },
    /// Too many answers without end.
    #[error("{whose} {limit} live tails, which is the limit: end one")]
    TooManyTails {
        /// Who has them.
        whose: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A browser's session without the header field that only our own pages send.
    #[error("a change in a browser's session needs the header field `x-requested-with: pqhost`")]
    CrossSite,
    /// Only a session ends by logging out.
    #[error("this is no session but a token, which stays valid: revoke it by its id")]
    NoSession,
    /// The credential does not allow this.
    #[error("this needs the role {needs}")]
    Forbidden {
        /// The least role that may.
        needs: &'static str,
    },
    /// There is no such path.
    #[error("there is nothing at this path; see /api/v1/openapi.json")]
    UnknownPath,
    /// The path has other methods.
    #[error("this path has no operation for {method}")]
    MethodNotAllowed {
        /// What was sent.
        method: String,
    },
    /// No such thing, or none that the caller may know of.
    #[error("there is no {what} `{name}`")]
    Unknown {
        /// What it is, for example `script`.
        what: &'static str,
        /// Its name or id, escaped and shortened.
        name: String,
    },
    /// The body is too large.
    #[error("the body has more than {limit_bytes} bytes")]
    BodyTooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// The body took too long to arrive.
    #[error("the body did not arrive within {limit:?}")]
    BodyTimeout {
        /// The limit.
        limit: Duration,
    },
    /// The body is not what the operation takes.
    #[error("the body cannot be read: {0}")]
    InvalidBody(String),
    /// The body is of another kind.
    #[error("send the body as JSON, with `content-type: application/json`")]
    NotJson,
    /// A parameter of the path, the query or the header is not what the operation takes.
    #[error("{0}")]
    InvalidParameter(String),
    /// What was asked for cannot be.
    #[error("{0}")]
    Invalid(String),
    /// The script is not sound.
    #[error("the script was not published: {message}")]
    ScriptRejected {
        /// What is wrong with it.
        message: String,
        /// Where; for its author.
        traceback: Option<String>,
    },
    /// A recorded request cannot be sent again, because it was not recorded.
    #[error("{0}")]
    NotRecorded(String),
    /// A tenant's database cannot be reached, or refused a statement; its own words, or ours.
    #[error("{0}")]
    DatabaseRefused(String),
    /// The name is taken.
    #[error("{0}")]
    NameTaken(String),
    /// Another endpoint answers the same requests.
    #[error("{0}")]
    RouteTaken(String),
    /// The source of the version is gone.
    #[error("version {version} of script `{script}` was purged: its source is gone")]
    Purged {
        /// Whose version it is.
        script: ScriptName,
        /// Its number.
        version: i64,
    },
    /// Something else needs it.
    #[error("{0}")]
    InUse(String),
    /// The tenant has as much as it may.
    #[error("{0}: an operator may grant more")]
    QuotaUsedUp(UsedUp),
    /// Somebody changed it in between.
    #[error("it has been changed since it was read: read it again")]
    Stale,
    /// The key was used for another request.
    #[error("this idempotency key was used for another request")]
    IdempotencyKeyReused,
    /// The request runs, or was cut off.
    #[error("a request with this idempotency key runs, or was cut off; look what it did")]
    IdempotencyKeyInUse,
    /// The request was carried out.
    #[error("this request was carried out before; its answer held a secret and is not kept")]
    IdempotentAnswerNotKept,
    /// The control database is busy or full.
    #[error("{0}")]
    Unavailable(String),
    /// A bug of ours, or a broken machine. The text is for the log.
    #[error("{0}")]
    Host(String),
}

impl From<&ApiError> for Problem {
    fn from(error: &ApiError) -> Self {
        let (status, code) = match error {
            ApiError::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated"),
            ApiError::WrongPassword => (StatusCode::UNAUTHORIZED, "wrong_password"),
            ApiError::TooManyAttempts { .. } => (StatusCode::TOO_MANY_REQUESTS, "too_many_attempts"),
            ApiError::TooManyTails { .. } => (StatusCode::TOO_MANY_REQUESTS, "too_many_tails"),
            ApiError::NoSession => (StatusCode::CONFLICT, "no_session"),
            ApiError::CrossSite => (StatusCode::FORBIDDEN, "cross_site"),
            ApiError::Forbidden { .. } => (StatusCode::FORBIDDEN, "forbidden"),
            ApiError::UnknownPath => (StatusCode::NOT_FOUND, "path_unknown"),
            ApiError::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            ApiError::Unknown { .. } => (StatusCode::NOT_FOUND, "not_found"),
            ApiError::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            ApiError::BodyTimeout { .. } => (StatusCode::REQUEST_TIMEOUT, "body_timeout"),
            ApiError::InvalidBody(_) => (StatusCode::BAD_REQUEST, "invalid_body"),
            ApiError::NotJson => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json"),
            ApiError::InvalidParameter(_) => (StatusCode::BAD_REQUEST, "invalid_parameter"),
            ApiError::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            ApiError::ScriptRejected { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "script_rejected"),
            ApiError::NotRecorded(_) => (StatusCode::CONFLICT, "not_recorded"),
            ApiError::DatabaseRefused(_) => (StatusCode::UNPROCESSABLE_ENTITY, "database_refused"),
            ApiError::NameTaken(_) => (StatusCode::CONFLICT, "name_taken"),
            ApiError::RouteTaken(_) => (StatusCode::CONFLICT, "route_taken"),
            ApiError::Purged { .. } => (StatusCode::GONE, "version_purged"),
            ApiError::InUse(_) => (StatusCode::CONFLICT, "in_use"),
            ApiError::QuotaUsedUp(_) => (StatusCode::CONFLICT, "quota_exceeded"),
            ApiError::Stale => (StatusCode::PRECONDITION_FAILED, "changed_meanwhile"),
            ApiError::IdempotencyKeyReused => (StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused"),
            ApiError::IdempotencyKeyInUse => (StatusCode::CONFLICT, "idempotency_key_in_use"),
            ApiError::IdempotentAnswerNotKept => (StatusCode::CONFLICT, "idempotent_answer_not_kept"),
            ApiError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            ApiError::Host(_) => return Self::host_error(),
        };
        let fault = match error {
            ApiError::Unavailable(_) => Fault::Host,
            ApiError::QuotaUsedUp(_) => Fault::Quota,
            _ => Fault::Caller,
        };
        let retry_after = match error {
            ApiError::TooManyAttempts { retry_after } => Some(*retry_after),
            ApiError::TooManyTails { .. } => Some(Duration::from_secs(10)),
            ApiError::Unavailable(_) => Some(Duration::from_secs(1)),
            _ => None,
        };
        let traceback = match error {
            ApiError::ScriptRejected { traceback, .. } => traceback.clone(),
            _ => None,
        };
        Self { retry_after, traceback, ..Self::new(status, code, fault, error.to_string()) }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let id = InvocationId::generate();
        let problem = Problem::from(&self);
        match problem.fault() {
            Fault::Host => tracing::error!(request.id = %id, error = %self, "the control API failed"),
            Fault::Caller | Fault::Script | Fault::Quota => {
                tracing::debug!(request.id = %id, error = %self, "the control API refused a request");
            }
        }
        problem.into_response(id)
    }
}
