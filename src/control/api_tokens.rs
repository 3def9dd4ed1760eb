//! Tokens of this API: of operators, of tenants, of users.

use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    auth::people::Principal,
    control::{
        Control,
        access::{Access, InTenant},
        extract::{Created, InPath, InQuery, Json, Page, PageQuery, time},
    },
    db::{
        Db,
        credentials::{Credential, CredentialsOf, Grounds, Holder},
    },
    domain::{names::TenantName, people::Role, shown},
    problem::api::ApiError,
};

/// Longest name of a token, in characters.
const NAME_CHARS_MAX: usize = 200;

/// A token without its text.
#[derive(Serialize, ToSchema)]
pub(super) struct ApiToken {
    id: String,
    /// `operator`, `tenant`, `user`, or `session` for a user who has logged in
    kind: &'static str,
    name: String,
    /// What a tenant's token may do
    role: Option<Role>,
    created_at: String,
    expires_at: String,
    /// To the minute
    last_used_at: Option<String>,
    revoked_at: Option<String>,
}

/// A token that was created. It is not shown again.
#[derive(Serialize, ToSchema)]
pub(super) struct NewToken {
    id: String,
    token: String,
    expires_at: String,
}

/// A token to be created.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateToken {
    /// What it is for
    #[serde(default)]
    #[schema(max_length = 200)]
    name: String,
    /// Seconds until it expires: at most 366 days, 90 days unless given
    #[schema(minimum = 1, maximum = 31622400)]
    expires_in: Option<u64>,
}

/// A tenant's token to be created.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateTenantToken {
    /// What it may do
    role: Role,
    /// What it is for
    #[serde(default)]
    #[schema(max_length = 200)]
    name: String,
    /// Seconds until it expires: at most 366 days, 90 days unless given
    #[schema(minimum = 1, maximum = 31622400)]
    expires_in: Option<u64>,
}

/// List one's own tokens and sessions
#[utoipa::path(get, path = "/session/api-tokens", tag = "session", params(PageQuery),
    responses((status = 200, description = "Tokens, oldest first", body = Page<ApiToken>)))]
pub(super) async fn list_my_api_tokens(
    access: Access,
    InQuery(page): InQuery<PageQuery>,
) -> Result<Json<Page<ApiToken>>, ApiError> {
    list(&access.db, mine(&access)?.0, page).await
}

/// Create a token that may do what its user may
#[utoipa::path(post, path = "/session/api-tokens", tag = "session", request_body = CreateToken,
    responses((status = 201, description = "Created", body = NewToken)))]
pub(super) async fn create_my_api_token(
    State(control): State<Control>,
    access: Access,
    Json(CreateToken { name, expires_in }): Json<CreateToken>,
) -> Result<Created<NewToken>, ApiError> {
    // A token that was stolen must not outlive itself.
    let Principal::Bearer(Credential { id, holder: Holder::Session { .. }, .. }) = &access.principal else {
        return Err(ApiError::Forbidden { needs: "user who has logged in" });
    };
    let (holder, grounds) = (mine(&access)?.1, Grounds::Credential(id));
    create(&control, &access.db, holder, name, expires_in, grounds).await
}

/// Revoke one of one's own tokens or sessions
#[utoipa::path(delete, path = "/session/api-tokens/{id}", tag = "session",
    responses((status = 204, description = "Revoked")))]
pub(super) async fn revoke_my_api_token(access: Access, InPath(id): InPath<String>) -> Result<StatusCode, ApiError> {
    revoke(&access.db, mine(&access)?.0, &id).await
}

/// List operators' tokens
#[utoipa::path(get, path = "/operator-tokens", tag = "operators", params(PageQuery),
    responses((status = 200, description = "Tokens, oldest first", body = Page<ApiToken>)))]
pub(super) async fn list_operator_tokens(
    access: Access,
    InQuery(page): InQuery<PageQuery>,
) -> Result<Json<Page<ApiToken>>, ApiError> {
    list(&access.db, CredentialsOf::Operators, page).await
}

/// Create an operator's token, which may do everything
#[utoipa::path(post, path = "/operator-tokens", tag = "operators", request_body = CreateToken,
    responses((status = 201, description = "Created", body = NewToken)))]
pub(super) async fn create_operator_token(
    State(control): State<Control>,
    access: Access,
    Json(CreateToken { name, expires_in }): Json<CreateToken>,
) -> Result<Created<NewToken>, ApiError> {
    create(&control, &access.db, Holder::Operator, name, expires_in, Grounds::None).await
}

/// Revoke an operator's token
#[utoipa::path(delete, path = "/operator-tokens/{id}", tag = "operators",
    responses((status = 204, description = "Revoked")))]
pub(super) async fn revoke_operator_token(access: Access, InPath(id): InPath<String>) -> Result<StatusCode, ApiError> {
    revoke(&access.db, CredentialsOf::Operators, &id).await
}

/// List a tenant's API tokens
#[utoipa::path(get, path = "/tenants/{tenant}/api-tokens", tag = "members", params(PageQuery),
    responses((status = 200, description = "Tokens, oldest first", body = Page<ApiToken>)))]
pub(super) async fn list_api_tokens(
    scope: InTenant,
    InQuery(page): InQuery<PageQuery>,
) -> Result<Json<Page<ApiToken>>, ApiError> {
    list(&scope.db, CredentialsOf::Tenant(scope.id()), page).await
}

/// Create an API token for a program, for example one that deploys
#[utoipa::path(post, path = "/tenants/{tenant}/api-tokens", tag = "members", request_body = CreateTenantToken,
    responses((status = 201, description = "Created", body = NewToken)))]
pub(super) async fn create_api_token(
    State(control): State<Control>,
    scope: InTenant,
    Json(CreateTenantToken { role, name, expires_in }): Json<CreateTenantToken>,
) -> Result<Created<NewToken>, ApiError> {
    let holder = Holder::Tenant { tenant: scope.id(), role };
    create(&control, &scope.db, holder, name, expires_in, Grounds::None).await
}

/// Revoke a tenant's API token
#[utoipa::path(delete, path = "/tenants/{tenant}/api-tokens/{id}", tag = "members",
    responses((status = 204, description = "Revoked")))]
pub(super) async fn revoke_api_token(
    scope: InTenant,
    InPath((_, id)): InPath<(TenantName, String)>,
) -> Result<StatusCode, ApiError> {
    revoke(&scope.db, CredentialsOf::Tenant(scope.id()), &id).await
}

/// The caller's credentials, and as whose new ones are made.
fn mine(access: &Access) -> Result<(CredentialsOf, Holder), ApiError> {
    let (user, email) = access.principal.user().ok_or(ApiError::Unauthenticated)?;
    Ok((CredentialsOf::User(user), Holder::User { user, email: email.clone() }))
}

async fn list(db: &Db, of: CredentialsOf, page: PageQuery) -> Result<Json<Page<ApiToken>>, ApiError> {
    let (limit, after) = page.bounds()?;
    let tokens = db.credentials().list_credentials(of, after.as_deref(), limit + 1).await?;
    Ok(Json(Page::new(tokens, limit, |token| token.id.clone(), ApiToken::from)))
}

async fn create(
    control: &Control,
    db: &Db,
    holder: Holder,
    name: String,
    expires_in: Option<u64>,
    grounds: Grounds<'_>,
) -> Result<Created<NewToken>, ApiError> {
    if name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        return Err(ApiError::Invalid(format!(
            "`name` may have {NAME_CHARS_MAX} characters, none of them control characters"
        )));
    }
    let seconds = expires_in.unwrap_or(90 * 86400);
    if seconds == 0 {
        return Err(ApiError::Invalid("`expires_in` must be more than 0".to_owned()));
    }
    let issued = control.people.create_token(db, holder, name, Duration::from_secs(seconds), grounds).await?;
    let token = issued.text.expose_str().map_err(|error| ApiError::Host(error.to_string()))?.to_owned();
    Ok(Created(NewToken { id: issued.id, token, expires_at: time(issued.expires_at_ms) }))
}

async fn revoke(db: &Db, of: CredentialsOf, id: &str) -> Result<StatusCode, ApiError> {
    match db.credentials().revoke_credential(of, id).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::Unknown { what: "token", name: shown(id) }),
    }
}

impl From<Credential> for ApiToken {
    fn from(credential: Credential) -> Self {
        let Credential { id, holder, name, created_at_ms, expires_at_ms, last_used_at_ms, revoked_at_ms } = credential;
        let (kind, role) = match holder {
            Holder::Operator => ("operator", None),
            Holder::Tenant { role, .. } => ("tenant", Some(role)),
            Holder::User { .. } => ("user", None),
            Holder::Session { .. } => ("session", None),
        };
        Self {
            id,
            kind,
            name,
            role,
            created_at: time(created_at_ms),
            expires_at: time(expires_at_ms),
            last_used_at: last_used_at_ms.map(time),
            revoked_at: revoked_at_ms.map(time),
        }
    }
}
