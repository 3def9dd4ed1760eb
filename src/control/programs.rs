//! Programs of authors, which call what their scripts call: the sessions of `remote`.

use std::time::Duration;

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    control::{
        Control,
        access::InTenant,
        extract::{Created, InPath, Json},
    },
    domain::{
        Fault,
        names::{InvocationId, ScriptId, ScriptName, TenantName},
    },
    problem::{Problem, api::ApiError},
    remote::{SessionError, Sessions},
    sandbox::outside::Call,
};

/// Largest call, in bytes: 10 MiB of records are twice that if each of their characters must be escaped.
const CALL_BYTES_MAX: usize = 21 << 20;

/// Time for a call to arrive.
const CALL_TIME: Duration = Duration::from_secs(30);

/// JSON above this size is parsed on another thread: it takes a millisecond.
const LARGE_BYTES: usize = 128 << 10;

/// A session that was opened.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OpenedSession {
    /// To be named by its calls
    session: String,
}

/// A call of a function of `wit/`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FunctionCall {
    /// `sql`, `state`, `secrets`, `http`, `tenant` or `context`
    interface: String,
    /// For example `list_databases`
    function: String,
    /// In the order of `wit/`: records as objects, cases of enums in `PascalCase`, `list<u8>` as base64
    #[schema(value_type = Vec<Value>)]
    arguments: Vec<Value>,
}

/// Anything that keeps a request from its answer.
pub(super) enum Failure {
    Api(ApiError),
    Session(SessionError),
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let error = match self {
            Self::Api(error) => return error.into_response(),
            Self::Session(error) => error,
        };
        let (id, problem) = (InvocationId::generate(), Problem::from(&error));
        match problem.fault() {
            Fault::Host => tracing::error!(request.id = %id, %error, "a session failed"),
            Fault::Caller | Fault::Quota | Fault::Script => {
                tracing::debug!(request.id = %id, %error, "a session's request was refused");
            }
        }
        problem.into_response(id)
    }
}

impl Control {
    fn sessions(&self) -> Result<&std::sync::Arc<Sessions>, ApiError> {
        self.sessions.as_ref().ok_or_else(|| ApiError::Unavailable("no host runs here".to_owned()))
    }
}

/// The script whose session is meant. Without such a script there is none.
async fn script_of(scope: &InTenant, name: &ScriptName) -> Result<ScriptId, Failure> {
    let script = scope.db.scripts().find_script(scope.id(), name).await.map_err(ApiError::from)?;
    Ok(script.ok_or(SessionError::UnknownSession)?.id)
}

fn session_id(text: &str) -> Result<InvocationId, SessionError> {
    text.parse().map_err(|_| SessionError::UnknownSession)
}

/// Begin a session: what one invocation of the script is, for a program
#[utoipa::path(post, path = "/tenants/{tenant}/scripts/{script}/sessions", tag = "programs",
    responses((status = 201, description = "Begun; it ends after a minute without a call", body = OpenedSession)))]
pub(super) async fn open_session(
    State(control): State<Control>,
    scope: InTenant,
    InPath((_, script)): InPath<(TenantName, ScriptName)>,
) -> Result<Created<OpenedSession>, Failure> {
    let id = control.sessions()?.open(&scope.tenant.name, &script).await?;
    Ok(Created(OpenedSession { session: id.to_string() }))
}

/// End a session; what its transactions have not committed is rolled back
#[utoipa::path(delete, path = "/tenants/{tenant}/scripts/{script}/sessions/{session}", tag = "programs",
    responses((status = 204, description = "Ended")))]
pub(super) async fn close_session(
    State(control): State<Control>,
    scope: InTenant,
    InPath((_, script, session)): InPath<(TenantName, ScriptName, String)>,
) -> Result<StatusCode, Failure> {
    let (sessions, script) = (control.sessions()?, script_of(&scope, &script).await?);
    sessions.close(scope.id(), script, session_id(&session)?)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Call a function as a script would
#[utoipa::path(post, path = "/tenants/{tenant}/scripts/{script}/sessions/{session}/calls", tag = "programs",
    request_body = FunctionCall,
    responses((status = 200, description = "`{\"ok\": value}`, or `{\"err\": {\"code\", \"message\"}}` as a script would get it",
        body = Value)))]
pub(super) async fn call_function(
    State(control): State<Control>,
    scope: InTenant,
    InPath((_, script, session)): InPath<(TenantName, ScriptName, String)>,
    body: Body,
) -> Result<Response, Failure> {
    let (sessions, script) = (control.sessions()?, script_of(&scope, &script).await?);
    let claimed = sessions.claim(scope.id(), script, session_id(&session)?)?;
    match read_call(body).await {
        Ok(call) => Ok(Json(claimed.call(call).await?).into_response()),
        Err(failure) => {
            claimed.give_back();
            Err(failure)
        }
    }
}

/// Read only once the session is taken, so that there is one call of each session in memory.
async fn read_call(body: Body) -> Result<Call, Failure> {
    let collected = tokio::time::timeout(CALL_TIME, Limited::new(body, CALL_BYTES_MAX).collect()).await;
    let body = match collected {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return Err(ApiError::BodyTooLarge { limit_bytes: CALL_BYTES_MAX }.into());
        }
        Ok(Err(_)) | Err(_) => return Err(ApiError::InvalidBody("it did not arrive".to_owned()).into()),
    };
    let FunctionCall { interface, function, arguments } = parse(body).await.map_err(ApiError::InvalidBody)?;
    Ok(Call { interface, function, arguments })
}

async fn parse(body: Bytes) -> Result<FunctionCall, String> {
    let parse = |body: Bytes| serde_json::from_slice(&body).map_err(|error| error.to_string());
    if body.len() <= LARGE_BYTES {
        return parse(body);
    }
    tokio::task::spawn_blocking(move || parse(body)).await.map_err(|error| error.to_string())?
}
