//! Endpoints: which script answers which requests.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    control::{
        access::InTenant,
        extract::{Created, Expected, InPath, InQuery, Json, Page, PageQuery, Tagged, numeric, time},
        scripts::find_script,
    },
    db::{
        Db,
        endpoints::{Endpoint as EndpointRow, NewEndpoint as EndpointParts},
    },
    domain::{
        exchange::AuthMode,
        names::{EndpointId, ScriptName, TenantId, TenantName},
        route::{MethodSet, RoutePattern},
    },
    problem::api::ApiError,
};

/// An endpoint.
#[derive(Serialize, ToSchema)]
pub(super) struct Endpoint {
    id: i64,
    /// For example `GET`, `GET,POST` or `ANY`
    methods: String,
    /// Below the tenant, for example `/orders/{id}`
    route: String,
    /// Where it answers, below the address of the ingress listener
    path: String,
    #[schema(value_type = String)]
    script: ScriptName,
    /// The version that it is pinned to; the script's live one unless given
    version: Option<i64>,
    auth: AuthMode,
    /// Whether requests and answers are kept, sealed, so that they can be re-run
    record: bool,
    created_at: String,
}

/// What an endpoint is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewEndpoint {
    /// For example `GET`, `GET,POST` or `ANY`
    methods: String,
    /// For example `/orders/{id}`; `*` matches a segment, `**` the rest
    route: String,
    #[schema(value_type = String)]
    script: ScriptName,
    /// Number of the version to pin it to; it serves the script's live one unless given
    version: Option<i64>,
    /// Who may call it
    #[serde(default)]
    auth: AuthMode,
    /// Keeps requests and answers, sealed, as long as the invocation log, so that they can be re-run. They may hold personal data
    #[serde(default)]
    record: bool,
}

type InEndpoint = InPath<(TenantName, EndpointId)>;

/// List endpoints
#[utoipa::path(get, path = "/tenants/{tenant}/endpoints", tag = "endpoints", params(PageQuery),
    responses((status = 200, description = "Endpoints, oldest first", body = Page<Endpoint>)))]
pub(super) async fn list_endpoints(
    scope: InTenant,
    InQuery(page): InQuery<PageQuery>,
) -> Result<Json<Page<Endpoint>>, ApiError> {
    let (limit, after) = page.bounds()?;
    let after = numeric(after.as_deref())?.map(EndpointId);
    let endpoints = scope.db.endpoints().list_endpoints_after(scope.id(), after, limit + 1).await?;
    let item = |endpoint| Endpoint::new(&scope.tenant.name, endpoint);
    Ok(Json(Page::new(endpoints, limit, |endpoint| endpoint.id.to_string(), item)))
}

/// Create an endpoint
#[utoipa::path(post, path = "/tenants/{tenant}/endpoints", tag = "endpoints", request_body = NewEndpoint,
    responses((status = 201, description = "Created", body = Endpoint),
              (status = 409, description = "Another endpoint answers the same requests")))]
pub(super) async fn create_endpoint(
    scope: InTenant,
    Json(new): Json<NewEndpoint>,
) -> Result<Created<Endpoint>, ApiError> {
    let parts = new.parts(&scope.db, scope.id()).await?;
    let endpoint = scope.db.endpoints().create_endpoint(scope.id(), &parts).await?;
    Ok(Created(Endpoint::new(&scope.tenant.name, endpoint)))
}

/// Show an endpoint
#[utoipa::path(get, path = "/tenants/{tenant}/endpoints/{endpoint}", tag = "endpoints",
    responses((status = 200, description = "The endpoint, with an `ETag`", body = Endpoint)))]
pub(super) async fn show_endpoint(scope: InTenant, InPath((_, id)): InEndpoint) -> Result<Tagged<Endpoint>, ApiError> {
    let endpoint = scope.db.endpoints().find_endpoint(scope.id(), id).await?;
    let endpoint = endpoint.ok_or_else(|| ApiError::Unknown { what: "endpoint", name: id.to_string() })?;
    Ok(Tagged(endpoint.revision, Endpoint::new(&scope.tenant.name, endpoint)))
}

/// Replace what an endpoint is, for example pin it to a version
#[utoipa::path(put, path = "/tenants/{tenant}/endpoints/{endpoint}", tag = "endpoints", request_body = NewEndpoint,
    params(("if-match" = Option<String>, Header, description = "`ETag` of the endpoint as it was read")),
    responses((status = 200, description = "Replaced", body = Endpoint),
              (status = 409, description = "Another endpoint answers the same requests"),
              (status = 412, description = "Somebody else changed it")))]
pub(super) async fn replace_endpoint(
    scope: InTenant,
    InPath((_, id)): InEndpoint,
    Expected(expected): Expected,
    Json(new): Json<NewEndpoint>,
) -> Result<Tagged<Endpoint>, ApiError> {
    let parts = new.parts(&scope.db, scope.id()).await?;
    let endpoint = scope.db.endpoints().update_endpoint(scope.id(), id, &parts, expected).await?;
    Ok(Tagged(endpoint.revision, Endpoint::new(&scope.tenant.name, endpoint)))
}

/// Delete an endpoint
#[utoipa::path(delete, path = "/tenants/{tenant}/endpoints/{endpoint}", tag = "endpoints",
    params(("if-match" = Option<String>, Header, description = "`ETag` of the endpoint as it was read")),
    responses((status = 204, description = "Deleted"), (status = 412, description = "Somebody else changed it")))]
pub(super) async fn delete_endpoint(
    scope: InTenant,
    InPath((_, id)): InEndpoint,
    Expected(expected): Expected,
) -> Result<StatusCode, ApiError> {
    scope.db.endpoints().delete_endpoint(scope.id(), id, expected).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl NewEndpoint {
    async fn parts(self, db: &Db, tenant: TenantId) -> Result<EndpointParts, ApiError> {
        let Self { methods, route, script, version, auth, record } = self;
        let methods: MethodSet = methods.parse().map_err(invalid)?;
        let route: RoutePattern = route.parse().map_err(invalid)?;
        let script = find_script(db, tenant, &script).await?;
        let pinned_version = match version {
            Some(number) => {
                let version = db.versions().find_version_numbered(tenant, script.id, number).await?;
                let unknown =
                    || ApiError::Unknown { what: "version", name: format!("{number} of script {}", script.name) };
                Some(version.ok_or_else(unknown)?.id)
            }
            None => None,
        };
        Ok(EndpointParts { methods, route, script: script.id, pinned_version, auth, record })
    }
}

fn invalid(error: impl std::fmt::Display) -> ApiError {
    ApiError::Invalid(error.to_string())
}

impl Endpoint {
    fn new(tenant: &TenantName, endpoint: EndpointRow) -> Self {
        let EndpointRow { id, methods, route, script_name, auth, record, pinned_version, created_at_ms, .. } = endpoint;
        Self {
            id: id.0,
            methods,
            path: format!("/{tenant}{route}"),
            route,
            script: script_name,
            version: pinned_version,
            auth,
            record,
            created_at: time(created_at_ms),
        }
    }
}
