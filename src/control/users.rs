//! Users, and their roles in tenants.

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    control::{
        Control,
        access::{Access, InTenant},
        extract::{Created, InPath, InQuery, Json, Page, PageQuery, time},
    },
    db::{Db, users::User as UserRow},
    domain::{
        names::TenantName,
        people::{Email, Role},
        secret::Secret,
    },
    problem::api::ApiError,
};

/// A user of this API.
#[derive(Serialize, ToSchema)]
pub(super) struct User {
    #[schema(value_type = String)]
    email: Email,
    created_at: String,
}

/// A user to be created.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUser {
    #[schema(value_type = String, format = Email)]
    email: Email,
    #[schema(format = Password, min_length = 12)]
    password: String,
}

/// A new password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetPassword {
    #[schema(format = Password, min_length = 12)]
    password: String,
}

/// A user's role in a tenant.
#[derive(Serialize, ToSchema)]
pub(super) struct Member {
    #[schema(value_type = String)]
    email: Email,
    role: Role,
    since: String,
}

/// The role that a member is to have.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetMember {
    role: Role,
}

/// List users
#[utoipa::path(get, path = "/users", tag = "users", params(PageQuery),
    responses((status = 200, description = "Users by address", body = Page<User>)))]
pub(super) async fn list_users(
    access: Access,
    InQuery(page): InQuery<PageQuery>,
) -> Result<Json<Page<User>>, ApiError> {
    let (limit, after) = page.bounds()?;
    let users = access.db.users().list_users(after.as_deref(), limit + 1).await?;
    let item = |user: UserRow| User { created_at: time(user.created_at_ms), email: user.email };
    Ok(Json(Page::new(users, limit, |user| user.email.to_string(), item)))
}

/// Create a user, who has no role anywhere yet
#[utoipa::path(post, path = "/users", tag = "users", request_body = NewUser,
    responses((status = 201, description = "Created", body = User)))]
pub(super) async fn create_user(
    State(control): State<Control>,
    access: Access,
    Json(NewUser { email, password }): Json<NewUser>,
) -> Result<Created<User>, ApiError> {
    let hash = control.people.hash_password(Secret::from(password)).await?;
    access.db.users().create_user(&email, &hash).await?;
    let user = find_user(&access.db, &email).await?;
    Ok(Created(User { created_at: time(user.created_at_ms), email }))
}

/// Give a user a new password, which ends its sessions
#[utoipa::path(put, path = "/users/{email}/password", tag = "users", request_body = SetPassword,
    responses((status = 204, description = "Set")))]
pub(super) async fn set_password(
    State(control): State<Control>,
    access: Access,
    InPath(email): InPath<Email>,
    Json(SetPassword { password }): Json<SetPassword>,
) -> Result<StatusCode, ApiError> {
    let user = find_user(&access.db, &email).await?;
    let hash = control.people.hash_password(Secret::from(password)).await?;
    access.db.users().set_password(user.id, &email, &hash, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Delete a user with its roles, sessions and tokens, unless a tenant would be left without an owner
#[utoipa::path(delete, path = "/users/{email}", tag = "users",
    responses((status = 204, description = "Deleted"),
              (status = 409, description = "It is the only owner of a tenant")))]
pub(super) async fn delete_user(access: Access, InPath(email): InPath<Email>) -> Result<StatusCode, ApiError> {
    let user = find_user(&access.db, &email).await?;
    match access.db.users().delete_user(user.id, &email).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(unknown(&email)),
    }
}

/// List a tenant's members
#[utoipa::path(get, path = "/tenants/{tenant}/members", tag = "members", params(PageQuery),
    responses((status = 200, description = "Members by address", body = Page<Member>)))]
pub(super) async fn list_members(
    scope: InTenant,
    InQuery(page): InQuery<PageQuery>,
) -> Result<Json<Page<Member>>, ApiError> {
    let (limit, after) = page.bounds()?;
    let members = scope.db.members().list_members(scope.id(), after.as_deref(), limit + 1).await?;
    let item = |member: crate::db::members::Member| Member {
        email: member.email,
        role: member.role,
        since: time(member.created_at_ms),
    };
    Ok(Json(Page::new(members, limit, |member| member.email.to_string(), item)))
}

/// Give a user a role in the tenant, in place of the one it had
#[utoipa::path(put, path = "/tenants/{tenant}/members/{email}", tag = "members", request_body = SetMember,
    responses((status = 204, description = "Set")))]
pub(super) async fn set_member(
    scope: InTenant,
    InPath((_, email)): InPath<(TenantName, Email)>,
    Json(SetMember { role }): Json<SetMember>,
) -> Result<StatusCode, ApiError> {
    let user = find_user(&scope.db, &email).await?;
    scope.db.members().set_member(scope.id(), user.id, &email, role).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Take a user out of the tenant
#[utoipa::path(delete, path = "/tenants/{tenant}/members/{email}", tag = "members",
    responses((status = 204, description = "Removed")))]
pub(super) async fn remove_member(
    scope: InTenant,
    InPath((_, email)): InPath<(TenantName, Email)>,
) -> Result<StatusCode, ApiError> {
    let user = find_user(&scope.db, &email).await?;
    match scope.db.members().remove_member(scope.id(), user.id, &email).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::Unknown { what: "member", name: email.to_string() }),
    }
}

async fn find_user(db: &Db, email: &Email) -> Result<UserRow, ApiError> {
    db.users().find_user(email).await?.ok_or_else(|| unknown(email))
}

fn unknown(email: &Email) -> ApiError {
    ApiError::Unknown { what: "user", name: email.to_string() }
}
