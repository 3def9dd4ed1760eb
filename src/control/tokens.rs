//! Tokens (JWT) that callers of a tenant's endpoints present.

use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    auth::TokenRequest,
    control::{
        Control,
        access::InTenant,
        extract::{Created, InPath, InQuery, Json, Page, PageQuery, time},
    },
    db::tokens::{EndpointsOfRoutes, Token as TokenRow},
    domain::{
        names::TenantName,
        route::{InvalidMethods, MethodSet},
        rows::{RowFilter, check_filters_by_claims},
        shown,
    },
    problem::api::ApiError,
};

/// Longest lifetime: ten years, for partners who never change anything.
const TIME_MAX_SECONDS: u64 = 3653 * 86400;

/// Routes that one token is bound to.
const ROUTES_MAX: usize = 20;

/// A token without its text.
#[derive(Serialize, ToSchema)]
pub(super) struct Token {
    id: String,
    name: String,
    /// Routes of the only endpoints that it is for: those that the routes had when it was created
    endpoints: Option<Vec<String>>,
    /// The only methods that it is for, for example `GET,POST`
    methods: Option<String>,
    /// What it says besides what the host sets
    #[schema(value_type = Object)]
    claims: Map<String, Value>,
    /// The only rows that it reaches; all that scripts do when null
    row_filters: Option<Vec<RowFilter>>,
    created_at: String,
    expires_at: String,
    /// To the minute
    last_used_at: Option<String>,
    revoked_at: Option<String>,
}

/// A token to be created.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateEndpointToken {
    /// What it is for
    #[serde(default)]
    #[schema(max_length = 200)]
    name: String,
    /// Routes of the only endpoints that it is for: those that the routes have now
    #[schema(max_items = 20)]
    endpoints: Option<Vec<String>>,
    /// The same for one route
    endpoint: Option<String>,
    /// The only methods that it is for, for example `GET,POST`; all that the endpoints answer unless given
    methods: Option<String>,
    /// Seconds until it expires; 30 days unless given
    #[schema(minimum = 1, maximum = 315619200)]
    expires_in: Option<u64>,
    /// What it says besides, which handlers read in `request['auth']['claims']`: 4 KiB as JSON at most, without `iss`, `aud`, `jti`,
    /// `iat`, `exp`, `nbf` and `endpoint`
    #[serde(default)]
    #[schema(value_type = Object)]
    claims: Map<String, Value>,
    /// The only rows that it reaches, whatever scripts ask for: values or claims, also those that the host sets. All that scripts reach when null
    /// or left out; consumer keys have to say it, tokens were there before row filters were
    row_filters: Option<Vec<RowFilter>>,
}

/// A token that was created. It is not shown again.
#[derive(Serialize, ToSchema)]
pub(super) struct NewEndpointToken {
    id: String,
    token: String,
    expires_at: String,
}

/// List tokens
#[utoipa::path(get, path = "/tenants/{tenant}/tokens", tag = "endpoints", params(PageQuery),
    responses((status = 200, description = "Tokens by id", body = Page<Token>)))]
pub(super) async fn list_tokens(
    scope: InTenant,
    InQuery(page): InQuery<PageQuery>,
) -> Result<Json<Page<Token>>, ApiError> {
    let (limit, after) = page.bounds()?;
    let tokens = scope.db.tokens().list_tokens_after(scope.id(), after.as_deref(), limit + 1).await?;
    Ok(Json(Page::new(tokens, limit, |token| token.id.clone(), Token::from)))
}

/// Create a token for callers of endpoints
#[utoipa::path(post, path = "/tenants/{tenant}/tokens", tag = "endpoints", request_body = CreateEndpointToken,
    responses((status = 201, description = "Created", body = NewEndpointToken)))]
pub(super) async fn create_token(
    State(control): State<Control>,
    scope: InTenant,
    Json(new): Json<CreateEndpointToken>,
) -> Result<Created<NewEndpointToken>, ApiError> {
    let CreateEndpointToken { name, endpoints, endpoint, methods, expires_in, claims, row_filters } = new;
    if name.chars().count() > 200 || name.chars().any(char::is_control) {
        return Err(ApiError::Invalid("`name` may have 200 characters, none of them control characters".to_owned()));
    }
    let routes = match (endpoints, endpoint) {
        (Some(_), Some(_)) => return Err(ApiError::Invalid("send `endpoints` or `endpoint`, not both".to_owned())),
        (Some(routes), None) => Some(routes),
        (None, Some(route)) => Some(vec![route]),
        (None, None) => None,
    };
    let only = match routes {
        Some(routes) => Some(endpoints_of(&scope, routes).await?),
        None => None,
    };
    let methods: Option<MethodSet> = methods
        .map(|methods| methods.parse())
        .transpose()
        .map_err(|error: InvalidMethods| ApiError::Invalid(error.to_string()))?;
    let methods = methods.filter(|methods| !methods.is_any());
    let seconds = expires_in.unwrap_or(30 * 86400);
    if seconds == 0 || seconds > TIME_MAX_SECONDS {
        return Err(ApiError::Invalid(format!("`expires_in` must be 1 to {TIME_MAX_SECONDS}, not {seconds}")));
    }
    check_filters_by_claims(row_filters.as_deref().unwrap_or_default())
        .map_err(|error| ApiError::Invalid(error.to_string()))?;
    let expires_in = Duration::from_secs(seconds);
    let request = TokenRequest { name, expires_in, only, methods, claims, row_filters };
    let token = control.auth.create_token(&scope.db, scope.id(), &scope.tenant.name, request).await?;
    let text = token.text.expose_str().map_err(|error| ApiError::Host(error.to_string()))?;
    Ok(Created(NewEndpointToken { id: token.id, token: text.to_owned(), expires_at: time(token.expires_at_ms) }))
}

/// Revoke a token
#[utoipa::path(delete, path = "/tenants/{tenant}/tokens/{id}", tag = "endpoints",
    responses((status = 204, description = "Revoked")))]
pub(super) async fn revoke_token(
    scope: InTenant,
    InPath((_, id)): InPath<(TenantName, String)>,
) -> Result<StatusCode, ApiError> {
    match scope.db.tokens().revoke_token(scope.id(), &id).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::Unknown { what: "token", name: shown(&id) }),
    }
}

/// The endpoints that routes have now.
async fn endpoints_of(scope: &InTenant, mut routes: Vec<String>) -> Result<EndpointsOfRoutes, ApiError> {
    routes.sort();
    routes.dedup();
    if routes.is_empty() || routes.len() > ROUTES_MAX {
        return Err(ApiError::Invalid(format!("`endpoints` must be 1 to {ROUTES_MAX} routes")));
    }
    let endpoints = scope.db.endpoints().list_endpoints(scope.id()).await?;
    if let Some(unknown) = routes.iter().find(|route| !endpoints.iter().any(|known| known.route == **route)) {
        return Err(ApiError::Unknown { what: "endpoint", name: shown(unknown) });
    }
    let ids = endpoints.into_iter().filter(|known| routes.contains(&known.route)).map(|known| known.id).collect();
    Ok(EndpointsOfRoutes { routes, ids })
}

impl From<TokenRow> for Token {
    fn from(token: TokenRow) -> Self {
        let TokenRow {
            id,
            name,
            routes,
            methods,
            claims,
            row_filters,
            created_at_ms,
            expires_at_ms,
            last_used_at_ms,
            revoked_at_ms,
        } = token;
        Self {
            id,
            name,
            endpoints: routes,
            methods: methods.map(|methods| methods.to_string()),
            claims,
            row_filters,
            created_at: time(created_at_ms),
            expires_at: time(expires_at_ms),
            last_used_at: last_used_at_ms.map(time),
            revoked_at: revoked_at_ms.map(time),
        }
    }
}
