//! What tenants may use over time: operators grant it, the tenant sees how much is left.

use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    control::{
        Control,
        access::{Access, InTenant},
        extract::{InPath, Json, today},
    },
    db::{Db, tenants::Tenant, usage::KeptBytes},
    domain::{
        names::TenantName,
        quota::{Quota, Quotas, UsedUp},
    },
    invoke::{InvokeError, storage::Kept},
    problem::api::ApiError,
};

/// Quotas and what is used of them.
#[derive(Serialize, ToSchema)]
pub(super) struct TenantQuotas {
    /// What is granted; what is absent is not limited but by the host
    quotas: Quotas,
    used: UsedNow,
}

/// What is used of quotas.
#[derive(Serialize, ToSchema)]
pub(super) struct UsedNow {
    /// Units of fuel today (UTC), as far as hosts have written it
    fuel_today: u64,
    storage: Storage,
    scripts: u64,
}

/// What is kept for the tenant, in bytes.
#[derive(Serialize, ToSchema)]
pub(super) struct Storage {
    /// Files of versions, and drafts
    source: u64,
    /// States of scripts
    state: u64,
    /// Recordings of requests and answers
    recordings: u64,
    /// SQLite files on this host, but for those that the tenant only reads, and without free pages
    sqlite: u64,
    /// All of it
    total: u64,
}

impl From<Kept> for Storage {
    fn from(kept: Kept) -> Self {
        let Kept { control: KeptBytes { source, state, recordings }, sqlite } = kept;
        Self { source, state, recordings, sqlite, total: kept.bytes() }
    }
}

/// Show what a tenant may use, and what it uses now
#[utoipa::path(get, path = "/tenants/{tenant}/quotas", tag = "tenants",
    responses((status = 200, description = "Quotas, and what is used of them", body = TenantQuotas)))]
pub(super) async fn show_quotas(
    State(control): State<Control>,
    scope: InTenant,
) -> Result<Json<TenantQuotas>, ApiError> {
    let InTenant { db, tenant, .. } = scope;
    let fuel_today = db.usage().find_fuel(tenant.id, today()).await?;
    let scripts = db.scripts().count_scripts(tenant.id).await?;
    let storage = kept(&control, &db, &tenant).await?.into();
    Ok(Json(TenantQuotas { quotas: tenant.quotas, used: UsedNow { fuel_today, storage, scripts } }))
}

/// Grant a tenant what it may use; it takes the place of what was granted before
#[utoipa::path(put, path = "/tenants/{tenant}/quotas", tag = "tenants", request_body = Quotas,
    responses((status = 204, description = "Granted")))]
pub(super) async fn set_quotas(
    access: Access,
    InPath(name): InPath<TenantName>,
    Json(quotas): Json<Quotas>,
) -> Result<StatusCode, ApiError> {
    let quotas = quotas.validated().map_err(ApiError::Invalid)?;
    let tenant = access.db.tenants().find_tenant(&name).await?;
    let tenant = tenant.ok_or_else(|| ApiError::Unknown { what: "tenant", name: name.to_string() })?;
    access.db.tenants().set_quotas(tenant.id, &quotas).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn kept(control: &Control, db: &Db, tenant: &Tenant) -> Result<Kept, ApiError> {
    let found = Kept::find(db, &control.vault, &control.data.sqlite(), tenant.id).await;
    found.map_err(|error| match error {
        InvokeError::Db(error) => error.into(),
        error => ApiError::Host(error.to_string()),
    })
}

/// Refuses to keep so many bytes more, if that is beyond the tenant's quota. Others may keep something meanwhile: as much as they send
/// at once goes beyond it.
pub(super) async fn check_room(control: &Control, scope: &InTenant, bytes: usize) -> Result<(), ApiError> {
    let Some(limit) = scope.tenant.quotas.storage_bytes else { return Ok(()) };
    let kept = kept(control, &scope.db, &scope.tenant).await?.bytes();
    match kept.saturating_add(bytes as u64) > limit {
        true => Err(ApiError::QuotaUsedUp(UsedUp { quota: Quota::StorageBytes, limit })),
        false => Ok(()),
    }
}
