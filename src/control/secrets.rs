//! Secrets of scripts. They go in and never come out.

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    control::{
        Control,
        access::InTenant,
        extract::{InPath, InQuery, Json, Page, PageQuery, time},
        scripts::find_script,
    },
    db::secrets::SecretInfo,
    domain::{
        names::{ScriptId, ScriptName, SecretName, TenantName},
        secret::{Readers, SECRET_BYTES_MAX, Secret as SecretText},
    },
    invoke::directory::secret_context,
    problem::api::ApiError,
};

/// A secret without its value.
#[derive(Serialize, ToSchema)]
pub(super) struct Secret {
    #[schema(value_type = String)]
    name: SecretName,
    /// The only scripts that may read it; all of the tenant when absent
    #[schema(value_type = Option<Vec<String>>)]
    scripts: Option<Vec<ScriptName>>,
    created_at: String,
    updated_at: String,
}

/// A secret's value, and who may read it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetSecret {
    #[schema(format = Password, min_length = 1)]
    value: String,
    /// The only scripts that may read it; as before when absent, at first all of the tenant
    #[schema(value_type = Option<Vec<String>>)]
    scripts: Option<Vec<ScriptName>>,
    /// Lets all scripts of the tenant read it
    #[serde(default)]
    all_scripts: bool,
}

/// Who may read a secret, or use a connection.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetReaders {
    /// The only scripts; all of the tenant when null
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(value_type = Option<Vec<String>>, required)]
    pub(super) scripts: Option<Vec<ScriptName>>,
}

/// List secrets
#[utoipa::path(get, path = "/tenants/{tenant}/secrets", tag = "secrets", params(PageQuery),
    responses((status = 200, description = "Secrets by name", body = Page<Secret>)))]
pub(super) async fn list_secrets(
    scope: InTenant,
    InQuery(page): InQuery<PageQuery>,
) -> Result<Json<Page<Secret>>, ApiError> {
    let (limit, after) = page.bounds()?;
    let mut secrets = scope.db.secrets().list_secrets(scope.id()).await?;
    secrets.retain(|secret| after.as_deref().is_none_or(|after| secret.name.as_str() > after));
    secrets.truncate(limit as usize + 1);
    let item = |secret: SecretInfo| Secret {
        name: secret.name,
        scripts: secret.scripts,
        created_at: time(secret.created_at_ms),
        updated_at: time(secret.updated_at_ms),
    };
    Ok(Json(Page::new(secrets, limit, |secret| secret.name.to_string(), item)))
}

/// Create a secret, or replace its value
#[utoipa::path(put, path = "/tenants/{tenant}/secrets/{secret}", tag = "secrets", request_body = SetSecret,
    responses((status = 204, description = "Set")))]
pub(super) async fn set_secret(
    State(control): State<Control>,
    scope: InTenant,
    InPath((_, name)): InPath<(TenantName, SecretName)>,
    Json(SetSecret { value, scripts, all_scripts }): Json<SetSecret>,
) -> Result<StatusCode, ApiError> {
    let value = SecretText::from(value);
    let bytes = value.expose().len();
    if bytes == 0 || bytes > SECRET_BYTES_MAX {
        return Err(ApiError::Invalid(format!("a secret has 1 to {SECRET_BYTES_MAX} bytes, not {bytes}")));
    }
    let readers = match (scripts, all_scripts) {
        (Some(_), true) => return Err(ApiError::Invalid("give either `scripts` or `all_scripts`".to_owned())),
        (None, true) => Readers::AllScripts,
        (None, false) => Readers::Unchanged,
        (Some(names), false) => Readers::Only(script_ids(&scope, &names).await?),
    };
    let seal = |id| control.vault.seal(&secret_context(id), value.expose());
    scope.db.secrets().set_secret(scope.id(), &name, &readers, seal).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Change who may read a secret
#[utoipa::path(put, path = "/tenants/{tenant}/secrets/{secret}/readers", tag = "secrets", request_body = SetReaders,
    responses((status = 204, description = "Changed")))]
pub(super) async fn set_readers(
    scope: InTenant,
    InPath((_, name)): InPath<(TenantName, SecretName)>,
    Json(SetReaders { scripts }): Json<SetReaders>,
) -> Result<StatusCode, ApiError> {
    let ids = script_ids(&scope, scripts.as_deref().unwrap_or_default()).await?;
    match scope.db.secrets().set_readers(scope.id(), &name, &ids, scripts.is_some()).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::Unknown { what: "secret", name: name.to_string() }),
    }
}

/// Let one more script read a secret that is for some scripts only
#[utoipa::path(put, path = "/tenants/{tenant}/secrets/{secret}/readers/{script}", tag = "secrets",
    responses((status = 204, description = "It may read the secret"),
              (status = 409, description = "All scripts of the tenant may read it")))]
pub(super) async fn add_reader(
    scope: InTenant,
    InPath((_, name, script)): InPath<(TenantName, SecretName, ScriptName)>,
) -> Result<StatusCode, ApiError> {
    let script = find_script(&scope.db, scope.id(), &script).await?;
    match scope.db.secrets().add_reader(scope.id(), &name, script.id).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::Unknown { what: "secret", name: name.to_string() }),
    }
}

/// Let a script read a secret no longer that is for some scripts only
#[utoipa::path(delete, path = "/tenants/{tenant}/secrets/{secret}/readers/{script}", tag = "secrets",
    responses((status = 204, description = "It may not read the secret"),
              (status = 409, description = "All scripts of the tenant may read it")))]
pub(super) async fn remove_reader(
    scope: InTenant,
    InPath((_, name, script)): InPath<(TenantName, SecretName, ScriptName)>,
) -> Result<StatusCode, ApiError> {
    let script = find_script(&scope.db, scope.id(), &script).await?;
    match scope.db.secrets().remove_reader(scope.id(), &name, script.id).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::Unknown { what: "secret", name: name.to_string() }),
    }
}

pub(super) async fn script_ids(scope: &InTenant, names: &[ScriptName]) -> Result<Vec<ScriptId>, ApiError> {
    let mut ids = Vec::new();
    for name in names {
        ids.push(find_script(&scope.db, scope.id(), name).await?.id);
    }
    Ok(ids)
}

/// Delete a secret
#[utoipa::path(delete, path = "/tenants/{tenant}/secrets/{secret}", tag = "secrets",
    responses((status = 204, description = "Deleted")))]
pub(super) async fn delete_secret(
    scope: InTenant,
    InPath((_, name)): InPath<(TenantName, SecretName)>,
) -> Result<StatusCode, ApiError> {
    match scope.db.secrets().delete_secret(scope.id(), &name).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::Unknown { what: "secret", name: name.to_string() }),
    }
}
