//! What scripts remember. It may hold what scripts keep secret: viewers do not see it.

use axum::extract;
use http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    control::{
        Control,
        access::InTenant,
        extract::{Expected, InPath, Json, Tagged},
        quotas::check_room,
        scripts::find_script,
    },
    domain::{
        names::{ScriptName, TenantName},
        state::STATE_BYTES_MAX,
    },
    problem::api::ApiError,
};

/// A script's state.
#[derive(Serialize, ToSchema)]
pub(super) struct State {
    /// Any JSON; null when never set, or cleared
    #[schema(value_type = Value)]
    value: Option<Box<RawValue>>,
    /// Counts writes
    revision: i64,
}

type InScript = InPath<(TenantName, ScriptName)>;

/// Show a script's state
#[utoipa::path(get, path = "/tenants/{tenant}/scripts/{script}/state", tag = "state",
    responses((status = 200, description = "The state, with an `ETag`", body = State)))]
pub(super) async fn show_state(scope: InTenant, InPath((_, name)): InScript) -> Result<Tagged<State>, ApiError> {
    let script = find_script(&scope.db, scope.id(), &name).await?;
    let entry = scope.db.state().find_state(scope.id(), script.id).await?.unwrap_or_default();
    let value = entry.value.map(RawValue::from_string).transpose();
    let value = value.map_err(|error| ApiError::Host(format!("a state is not JSON: {error}")))?;
    Ok(Tagged(entry.revision, State { value, revision: entry.revision }))
}

/// Replace a script's state
#[utoipa::path(put, path = "/tenants/{tenant}/scripts/{script}/state", tag = "state", request_body = Value,
    params(("if-match" = Option<String>, Header, description = "`ETag` of the state that this one replaces")),
    responses((status = 204, description = "Replaced"), (status = 412, description = "It was written meanwhile")))]
pub(super) async fn set_state(
    extract::State(control): extract::State<Control>,
    scope: InTenant,
    InPath((_, name)): InScript,
    Expected(expected): Expected,
    Json(value): Json<Box<RawValue>>,
) -> Result<StatusCode, ApiError> {
    if value.get().len() > STATE_BYTES_MAX {
        let bytes = value.get().len();
        return Err(ApiError::Invalid(format!("a state has at most {STATE_BYTES_MAX} bytes, not {bytes}")));
    }
    // `null` is how a script says that it has no state.
    let text = Some(value.get()).filter(|text| *text != "null");
    if let Some(text) = text {
        check_room(&control, &scope, text.len()).await?;
    }
    write(&scope, &name, text, expected).await
}

/// Clear a script's state
#[utoipa::path(delete, path = "/tenants/{tenant}/scripts/{script}/state", tag = "state",
    params(("if-match" = Option<String>, Header, description = "`ETag` of the state that is cleared")),
    responses((status = 204, description = "Cleared"), (status = 412, description = "It was written meanwhile")))]
pub(super) async fn clear_state(
    scope: InTenant,
    InPath((_, name)): InScript,
    Expected(expected): Expected,
) -> Result<StatusCode, ApiError> {
    write(&scope, &name, None, expected).await
}

async fn write(
    scope: &InTenant,
    name: &ScriptName,
    value: Option<&str>,
    expected: Option<i64>,
) -> Result<StatusCode, ApiError> {
    let script = find_script(&scope.db, scope.id(), name).await?;
    scope.db.state().replace_state(scope.id(), script.id, name, expected, value).await?;
    Ok(StatusCode::NO_CONTENT)
}
