//! Endpoints: which script, table or query answers which requests.

use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    control::{
        Control,
        access::InTenant,
        extract::{Created, Expected, InPath, InQuery, Json, Page, PageQuery, Tagged, numeric, time},
        scripts::{find_script, find_whole_version},
        tables,
    },
    db::{
        Db,
        endpoints::{Backend, Endpoint as EndpointRow, NewBackend, NewEndpoint as EndpointParts},
    },
    domain::{
        endpoint::{EndpointSettings, TableSource},
        exchange::AuthMode,
        names::{EndpointId, ScriptName, TenantId, TenantName},
        route::{MethodSet, RoutePattern},
    },
    invoke::tables::problem_of_source,
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
    /// The script that answers
    #[schema(value_type = Option<String>)]
    script: Option<ScriptName>,
    /// The version that it is pinned to; the script's live one unless given
    version: Option<i64>,
    /// What answers instead of a script
    source: Option<TableSource>,
    auth: AuthMode,
    /// Whether it answers; callers of one that does not get `404 endpoint_disabled`
    enabled: bool,
    /// Whether requests and answers are kept, sealed, so that they can be re-run
    record: bool,
    settings: EndpointSettings,
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
    /// The script that answers; or give a `source`
    #[schema(value_type = Option<String>)]
    script: Option<ScriptName>,
    /// Number of the version to pin it to; it serves the script's live one unless given
    version: Option<i64>,
    /// A table or a query that answers without a script, to GET
    source: Option<TableSource>,
    /// Who may call it
    #[serde(default)]
    auth: AuthMode,
    /// Whether it answers
    #[serde(default = "yes")]
    enabled: bool,
    /// Keeps requests and answers, sealed, as long as the invocation log, so that they can be re-run. They may hold personal data
    #[serde(default)]
    record: bool,
    /// Limits, browsers of other sites, caching, rates, documentation
    #[serde(default)]
    settings: EndpointSettings,
}

fn yes() -> bool {
    true
}

/// Longest that whoever makes an endpoint waits for its database to say what its columns are.
const LOOKING_TIME: Duration = Duration::from_secs(3);

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
    State(control): State<Control>,
    scope: InTenant,
    Json(new): Json<NewEndpoint>,
) -> Result<Created<Endpoint>, ApiError> {
    let parts = new.parts(&control, &scope).await?;
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
    State(control): State<Control>,
    scope: InTenant,
    InPath((_, id)): InEndpoint,
    Expected(expected): Expected,
    Json(new): Json<NewEndpoint>,
) -> Result<Tagged<Endpoint>, ApiError> {
    let parts = new.parts(&control, &scope).await?;
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
    async fn parts(self, control: &Control, scope: &InTenant) -> Result<EndpointParts, ApiError> {
        let Self { methods, route, script, version, source, auth, enabled, record, settings } = self;
        let methods: MethodSet = methods.parse().map_err(invalid)?;
        let route: RoutePattern = route.parse().map_err(invalid)?;
        settings.check().map_err(invalid)?;
        let backend = match (script, source) {
            (Some(script), None) => to_script(&scope.db, scope.id(), &script, version).await?,
            (None, Some(source)) => {
                if methods.names_listed().any(|method| method != "GET" && method != "HEAD") {
                    return Err(invalid("a table or query answers GET, and no other method"));
                }
                if version.is_some() || record {
                    return Err(invalid("`version` and `record` go with a script"));
                }
                to_table(control, scope, source).await?
            }
            (Some(_), Some(_)) | (None, None) => return Err(invalid("give a `script` or a `source`")),
        };
        Ok(EndpointParts { methods, route, backend, auth, record, enabled, settings })
    }
}

async fn to_script(
    db: &Db,
    tenant: TenantId,
    script: &ScriptName,
    version: Option<i64>,
) -> Result<NewBackend, ApiError> {
    let script = find_script(db, tenant, script).await?;
    let pinned_version = match version {
        Some(number) => Some(find_whole_version(db, tenant, &script, number).await?.id),
        None => None,
    };
    Ok(NewBackend::Script { script: script.id, pinned_version })
}

async fn to_table(control: &Control, scope: &InTenant, source: TableSource) -> Result<NewBackend, ApiError> {
    source.check().map_err(invalid)?;
    let database = tables::database(control, scope, &source.connection).await?;
    let looking = tokio::time::timeout(LOOKING_TIME, problem_of_source(&database, &source));
    // An endpoint may be made while its database is away.
    match looking.await.ok().flatten() {
        Some(problem) => Err(invalid(problem)),
        None => Ok(NewBackend::Table(source)),
    }
}

fn invalid(error: impl std::fmt::Display) -> ApiError {
    ApiError::Invalid(error.to_string())
}

impl Endpoint {
    fn new(tenant: &TenantName, endpoint: EndpointRow) -> Self {
        let EndpointRow { id, methods, route, backend, auth, record, enabled, settings, revision: _, created_at_ms } =
            endpoint;
        let (script, version, source) = match backend {
            Backend::Script { name, pinned_version, .. } => (Some(name), pinned_version, None),
            Backend::Table(source) => (None, None, Some(source)),
        };
        Self {
            id: id.0,
            methods,
            path: format!("/{tenant}{route}"),
            route,
            script,
            version,
            source,
            auth,
            enabled,
            record,
            settings,
            created_at: time(created_at_ms),
        }
    }
}
