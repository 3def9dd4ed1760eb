//! Tokens (JWT) that callers of a tenant's endpoints present.

use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    auth::TokenRequest,
    control::{
        Control,
        access::InTenant,
        error::shown,
        extract::{Created, InPath, InQuery, Json, Page, PageQuery, time},
    },
    db::tokens::{EndpointsOfRoute, Token as TokenRow},
    domain::names::TenantName,
    problem::api::ApiError,
};

/// Longest lifetime: ten years, for partners who never change anything.
const TIME_MAX_SECONDS: u64 = 3653 * 86400;

/// A token without its text.
#[derive(Serialize, ToSchema)]
pub(super) struct Token {
    id: String,
    name: String,
    /// Route of the only endpoints that it is for: those that the route had when it was created
    endpoint: Option<String>,
    created_at: String,
    expires_at: String,
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
    /// Route of the only endpoints that it is for: those that the route has now, for whatever methods
    endpoint: Option<String>,
    /// Seconds until it expires; 30 days unless given
    #[schema(minimum = 1, maximum = 315619200)]
    expires_in: Option<u64>,
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
    Json(CreateEndpointToken { name, endpoint, expires_in }): Json<CreateEndpointToken>,
) -> Result<Created<NewEndpointToken>, ApiError> {
    if name.chars().count() > 200 || name.chars().any(char::is_control) {
        return Err(ApiError::Invalid("`name` may have 200 characters, none of them control characters".to_owned()));
    }
    let only = match endpoint {
        Some(route) => {
            let endpoints = scope.db.endpoints().list_endpoints(scope.id()).await?;
            let ids: Vec<_> =
                endpoints.into_iter().filter(|known| known.route == route).map(|known| known.id).collect();
            if ids.is_empty() {
                return Err(ApiError::Unknown { what: "endpoint", name: shown(&route) });
            }
            Some(EndpointsOfRoute { route, ids })
        }
        None => None,
    };
    let seconds = expires_in.unwrap_or(30 * 86400);
    if seconds == 0 || seconds > TIME_MAX_SECONDS {
        return Err(ApiError::Invalid(format!("`expires_in` must be 1 to {TIME_MAX_SECONDS}, not {seconds}")));
    }
    let request = TokenRequest { name, expires_in: Duration::from_secs(seconds), only };
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

impl From<TokenRow> for Token {
    fn from(token: TokenRow) -> Self {
        let TokenRow { id, name, endpoint_route, created_at_ms, expires_at_ms, revoked_at_ms } = token;
        Self {
            id,
            name,
            endpoint: endpoint_route,
            created_at: time(created_at_ms),
            expires_at: time(expires_at_ms),
            revoked_at: revoked_at_ms.map(time),
        }
    }
}
