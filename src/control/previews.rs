//! Previews: addresses at which a version answers, whether it is live or not.

use std::time::Duration;

use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    control::{
        access::InTenant,
        extract::{Created, InPath, InQuery, Json, Page, PageQuery, time},
        scripts::{find_script, find_whole_version},
    },
    db::previews::{NewPreview, Preview as PreviewRow},
    domain::{
        names::{ScriptName, TenantName},
        preview::PreviewToken,
        shown,
    },
    problem::api::ApiError,
};

/// How long a preview's address works.
const PREVIEW_TIME: Duration = Duration::from_secs(7 * 86400);

/// A preview that was created. Its address is not shown again.
#[derive(Serialize, ToSchema)]
pub(super) struct PreviewAddress {
    /// To revoke it by
    id: String,
    /// To be put before a route of the tenant: `GET {path}/orders/17` of the ingress listener
    path: String,
    expires_at: String,
}

/// A preview without its address.
#[derive(Serialize, ToSchema)]
pub(super) struct Preview {
    id: String,
    /// Number of the version
    version: i64,
    created_at: String,
    expires_at: String,
}

/// Create an address at which a version answers before it is live, for a week
#[utoipa::path(post, path = "/tenants/{tenant}/scripts/{script}/versions/{version}/previews", tag = "versions",
    responses((status = 201, description = "Created; endpoints check their callers as always", body = PreviewAddress)))]
pub(super) async fn create_preview(
    scope: InTenant,
    InPath((tenant, name, number)): InPath<(TenantName, ScriptName, i64)>,
) -> Result<Created<PreviewAddress>, ApiError> {
    let script = find_script(&scope.db, scope.id(), &name).await?;
    let version = find_whole_version(&scope.db, scope.id(), &script, number).await?;
    let token = PreviewToken::generate().map_err(|error| ApiError::Host(error.to_string()))?;
    let expires_at_ms = (chrono::Utc::now() + PREVIEW_TIME).timestamp_millis();
    // A hash of 16 random bytes tells nothing about them.
    let new = NewPreview { hash: token.hash(), version: version.id, script: name, number, expires_at_ms };
    scope.db.previews().insert_preview(scope.id(), &new).await?;
    Ok(Created(PreviewAddress { id: new.hash, path: token.path(&tenant), expires_at: time(expires_at_ms) }))
}

/// List the addresses at which versions of a script answer
#[utoipa::path(get, path = "/tenants/{tenant}/scripts/{script}/previews", tag = "versions", params(PageQuery),
    responses((status = 200, description = "Previews by id", body = Page<Preview>)))]
pub(super) async fn list_previews(
    scope: InTenant,
    InPath((_, name)): InPath<(TenantName, ScriptName)>,
    InQuery(page): InQuery<PageQuery>,
) -> Result<Json<Page<Preview>>, ApiError> {
    let (limit, after) = page.bounds()?;
    let script = find_script(&scope.db, scope.id(), &name).await?;
    let previews = scope.db.previews().list_previews(scope.id(), script.id, after.as_deref(), limit + 1).await?;
    Ok(Json(Page::new(previews, limit, |preview| preview.hash.clone(), Preview::from)))
}

/// Make an address answer no longer
#[utoipa::path(delete, path = "/tenants/{tenant}/scripts/{script}/previews/{preview}", tag = "versions",
    responses((status = 204, description = "Revoked")))]
pub(super) async fn revoke_preview(
    scope: InTenant,
    InPath((_, name, id)): InPath<(TenantName, ScriptName, String)>,
) -> Result<StatusCode, ApiError> {
    let script = find_script(&scope.db, scope.id(), &name).await?;
    match scope.db.previews().delete_preview(scope.id(), script.id, &name, &id).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::Unknown { what: "preview", name: shown(&id) }),
    }
}

impl From<PreviewRow> for Preview {
    fn from(preview: PreviewRow) -> Self {
        let PreviewRow { hash, number, created_at_ms, expires_at_ms } = preview;
        Self { id: hash, version: number, created_at: time(created_at_ms), expires_at: time(expires_at_ms) }
    }
}
