//! Who am I: logging in and out.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    auth::people::{Principal, SESSION_TIME},
    control::{
        Control,
        access::{Access, Client, Spoken},
        extract::{Json, time},
    },
    db::credentials::{Credential, CredentialsOf, Holder},
    domain::{
        client::Scheme,
        names::TenantName,
        people::{Email, Role, SESSION_COOKIE},
        secret::Secret,
    },
    problem::api::ApiError,
};

/// What somebody logs in with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LogIn {
    #[schema(value_type = String, format = Email)]
    email: Email,
    #[schema(format = Password)]
    password: String,
    /// Keep the session in a cookie of this browser instead of giving its token
    #[serde(default)]
    cookie: bool,
}

/// A session that has begun.
#[derive(Serialize, ToSchema)]
pub(super) struct Session {
    /// To be sent as `Authorization: Bearer`; absent when the session is in a cookie
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    expires_at: String,
}

/// A tenant and what the caller may do there.
#[derive(Serialize, ToSchema)]
struct Membership {
    #[schema(value_type = String)]
    tenant: TenantName,
    role: Role,
}

/// Who is calling.
#[derive(Serialize, ToSchema)]
pub(super) struct WhoAmI {
    /// As the audit log names the caller
    actor: String,
    /// Absent when the caller is no user
    #[schema(value_type = Option<String>)]
    email: Option<Email>,
    is_operator: bool,
    /// Tenants in which a user has a role
    tenants: Vec<Membership>,
}

/// What a user changes its password with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangePassword {
    #[schema(format = Password)]
    current: String,
    #[schema(format = Password, min_length = 12)]
    new: String,
}

/// Log in with e-mail address and password
#[utoipa::path(post, path = "/session", tag = "session", request_body = LogIn,
    responses((status = 201, description = "Logged in", body = Session)))]
pub(super) async fn log_in(
    State(control): State<Control>,
    Client(client): Client,
    Spoken(scheme): Spoken,
    Json(LogIn { email, password, cookie }): Json<LogIn>,
) -> Result<Response, ApiError> {
    let session = control.people.log_in(&email, Secret::from(password), client).await?;
    let text = session.text.expose_str().map_err(|error| ApiError::Host(error.to_string()))?;
    let token = (!cookie).then(|| text.to_owned());
    let answer = Session { token, expires_at: time(session.expires_at_ms) };
    let mut response = (StatusCode::CREATED, Json(answer)).into_response();
    if cookie {
        set_cookie(&mut response, text, SESSION_TIME.as_secs(), scheme);
    }
    Ok(response)
}

/// Show who is calling
#[utoipa::path(get, path = "/session", tag = "session",
    responses((status = 200, description = "The caller", body = WhoAmI)))]
pub(super) async fn show_session(access: Access) -> Result<Json<WhoAmI>, ApiError> {
    let Access { principal, db, .. } = &access;
    let user = principal.user();
    let tenants = match user {
        Some((id, _)) => db.members().list_tenants_of(id).await?,
        None => Vec::new(),
    };
    Ok(Json(WhoAmI {
        actor: principal.actor(),
        email: user.map(|(_, email)| email.clone()),
        is_operator: principal.is_operator(),
        tenants: tenants.into_iter().map(|(tenant, role)| Membership { tenant, role }).collect(),
    }))
}

/// Log out: end the session that the request is sent with
#[utoipa::path(delete, path = "/session", tag = "session",
    responses((status = 204, description = "Logged out"),
              (status = 409, description = "It is sent with an API token, which stays valid: revoke that by its id")))]
pub(super) async fn log_out(Spoken(scheme): Spoken, access: Access) -> Result<Response, ApiError> {
    let Principal::Bearer(Credential { id, holder: Holder::Session { user, .. }, .. }) = &access.principal else {
        return Err(ApiError::NoSession);
    };
    access.db.credentials().revoke_credential(CredentialsOf::User(*user), id).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(&mut response, "", 0, scheme);
    Ok(response)
}

/// Change one's own password, which ends all of one's sessions
#[utoipa::path(put, path = "/session/password", tag = "session", request_body = ChangePassword,
    responses((status = 204, description = "Changed")))]
pub(super) async fn change_password(
    State(control): State<Control>,
    Client(client): Client,
    access: Access,
    Json(ChangePassword { current, new }): Json<ChangePassword>,
) -> Result<StatusCode, ApiError> {
    let Some((user, email)) = access.principal.user() else { return Err(ApiError::Unauthenticated) };
    let checked = control.people.check_password(email, Secret::from(current), client).await?;
    let hash = control.people.hash_password(Secret::from(new)).await?;
    access.db.users().set_password(user, email, &hash, Some(&checked.password_hash)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Keeps the session in the browser; `Secure`, so that it is never sent without TLS, where the browser speaks TLS now.
fn set_cookie(response: &mut Response, value: &str, max_age_seconds: u64, scheme: Scheme) {
    let secure = if scheme == Scheme::Https { "; Secure" } else { "" };
    let cookie =
        format!("{SESSION_COOKIE}={value}; Path=/api/v1; HttpOnly; SameSite=Strict; Max-Age={max_age_seconds}{secure}");
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
}
