//! Tenants.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    control::{
        access::{Access, InTenant},
        extract::{Created, InPath, InQuery, Json, Page, PageQuery, time},
    },
    db::{Db, connections::ConnectionKind, tenants::Tenant as TenantRow},
    domain::{
        names::{ConnectionName, TenantName},
        people::Role,
    },
    problem::api::ApiError,
};

/// A tenant.
#[derive(Serialize, ToSchema)]
pub(super) struct Tenant {
    #[schema(value_type = String)]
    name: TenantName,
    created_at: String,
}

/// A tenant with what belongs to it.
#[derive(Serialize, ToSchema)]
pub(super) struct TenantDetails {
    #[schema(value_type = String)]
    name: TenantName,
    /// The connection that scripts mean by `pq.DW_NAME`
    #[schema(value_type = Option<String>)]
    default_connection: Option<ConnectionName>,
    /// Whether everybody may read the OpenAPI document of its endpoints, `/{tenant}/openapi.json` on the ingress listener
    public_document: bool,
    /// What the caller may do
    role: Role,
    created_at: String,
}

/// A tenant to be created.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTenant {
    #[schema(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")]
    name: TenantName,
}

/// What is to change of a tenant.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantChange {
    /// The connection that scripts mean by `pq.DW_NAME`
    #[schema(value_type = Option<String>)]
    default_connection: Option<ConnectionName>,
    /// Whether everybody may read the OpenAPI document of its endpoints
    public_document: Option<bool>,
}

/// List the tenants in which the caller has a role; an operator sees all
#[utoipa::path(get, path = "/tenants", tag = "tenants", params(PageQuery),
    responses((status = 200, description = "Tenants by name", body = Page<Tenant>)))]
pub(super) async fn list_tenants(
    access: Access,
    InQuery(page): InQuery<PageQuery>,
) -> Result<Json<Page<Tenant>>, ApiError> {
    let (limit, after) = page.bounds()?;
    let visible = access.principal.visible_tenants();
    let tenants = access.db.tenants().list_visible_tenants(visible, after.as_deref(), limit + 1).await?;
    let item = |tenant: TenantRow| Tenant { name: tenant.name, created_at: time(tenant.created_at_ms) };
    Ok(Json(Page::new(tenants, limit, |tenant| tenant.name.to_string(), item)))
}

/// Create a tenant
#[utoipa::path(post, path = "/tenants", tag = "tenants", request_body = NewTenant,
    responses((status = 201, description = "Created", body = Tenant)))]
pub(super) async fn create_tenant(
    access: Access,
    Json(NewTenant { name }): Json<NewTenant>,
) -> Result<Created<Tenant>, ApiError> {
    access.db.tenants().create_tenant(&name).await?;
    let tenant = access.db.tenants().find_tenant(&name).await?;
    let tenant = tenant.ok_or_else(|| ApiError::Unknown { what: "tenant", name: name.to_string() })?;
    Ok(Created(Tenant { name, created_at: time(tenant.created_at_ms) }))
}

/// Show a tenant
#[utoipa::path(get, path = "/tenants/{tenant}", tag = "tenants",
    responses((status = 200, description = "The tenant", body = TenantDetails)))]
pub(super) async fn show_tenant(scope: InTenant) -> Result<Json<TenantDetails>, ApiError> {
    let InTenant { db, tenant, role, .. } = scope;
    details(&db, tenant, role).await
}

/// Choose the tenant's default connection, or who may read the OpenAPI document of its endpoints
#[utoipa::path(patch, path = "/tenants/{tenant}", tag = "tenants", request_body = TenantChange,
    responses((status = 200, description = "Changed", body = TenantDetails)))]
pub(super) async fn update_tenant(
    scope: InTenant,
    Json(TenantChange { default_connection, public_document }): Json<TenantChange>,
) -> Result<Json<TenantDetails>, ApiError> {
    let InTenant { db, mut tenant, role, .. } = scope;
    if let Some(name) = default_connection {
        let connection = db.connections().find_connection(tenant.id, &name).await?;
        let connection = connection.ok_or_else(|| ApiError::Unknown { what: "connection", name: name.to_string() })?;
        if connection.kind != ConnectionKind::Sql {
            return Err(ApiError::Invalid(format!("`{name}` is an HTTP API: the default is a database")));
        }
        db.tenants().set_default_connection(tenant.id, connection.id).await?;
        tenant.default_connection = Some(connection.id);
    }
    if let Some(public) = public_document {
        db.tenants().set_public_document(tenant.id, public).await?;
        tenant.public_document = public;
    }
    details(&db, tenant, role).await
}

/// Delete a tenant that has no scripts, with everything that belongs to it
#[utoipa::path(delete, path = "/tenants/{tenant}", tag = "tenants",
    responses((status = 204, description = "Deleted")))]
pub(super) async fn delete_tenant(access: Access, InPath(name): InPath<TenantName>) -> Result<StatusCode, ApiError> {
    let tenant = access.db.tenants().find_tenant(&name).await?;
    let tenant = tenant.ok_or_else(|| ApiError::Unknown { what: "tenant", name: name.to_string() })?;
    access.db.tenants().delete_tenant(tenant.id, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn details(db: &Db, tenant: TenantRow, role: Role) -> Result<Json<TenantDetails>, ApiError> {
    let connections = db.connections().list_connections(tenant.id).await?;
    let default = connections.into_iter().find(|connection| Some(connection.id) == tenant.default_connection);
    Ok(Json(TenantDetails {
        name: tenant.name,
        default_connection: default.map(|connection| connection.name),
        public_document: tenant.public_document,
        role,
        created_at: time(tenant.created_at_ms),
    }))
}
