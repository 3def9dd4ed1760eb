//! Who changed what.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    control::{
        access::{Access, InTenant},
        extract::{InQuery, Json, Page, PageQuery, numeric, time},
    },
    db::{Db, audit::AuditEntry},
    domain::names::TenantId,
    problem::api::ApiError,
};

/// A change.
#[derive(Serialize, ToSchema)]
pub(super) struct Change {
    /// Who did it
    actor: String,
    /// What, for example `publish_version`
    action: String,
    /// To what, for example the script's name
    target: String,
    at: String,
}

/// List changes of the host: users, tenants, keys
#[utoipa::path(get, path = "/audit", tag = "operators", params(PageQuery),
    responses((status = 200, description = "Changes, newest first", body = Page<Change>)))]
pub(super) async fn list_audit(
    access: Access,
    InQuery(page): InQuery<PageQuery>,
) -> Result<Json<Page<Change>>, ApiError> {
    list(&access.db, None, page).await
}

/// List changes of a tenant
#[utoipa::path(get, path = "/tenants/{tenant}/audit", tag = "tenants", params(PageQuery),
    responses((status = 200, description = "Changes, newest first", body = Page<Change>)))]
pub(super) async fn list_tenant_audit(
    scope: InTenant,
    InQuery(page): InQuery<PageQuery>,
) -> Result<Json<Page<Change>>, ApiError> {
    list(&scope.db, Some(scope.id()), page).await
}

async fn list(db: &Db, tenant: Option<TenantId>, page: PageQuery) -> Result<Json<Page<Change>>, ApiError> {
    let (limit, before) = page.bounds()?;
    let entries = db.audit().list(tenant, numeric(before.as_deref())?, limit + 1).await?;
    let item = |entry: AuditEntry| Change {
        actor: entry.actor,
        action: entry.action,
        target: entry.target,
        at: time(entry.at_ms),
    };
    Ok(Json(Page::new(entries, limit, |entry| entry.seq.to_string(), item)))
}
