//! Hosts that a tenant's scripts may call.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    control::{
        access::InTenant,
        extract::{Created, InQuery, Json, Page, PageQuery, time},
    },
    db::egress::EgressRow,
    domain::egress::AllowRule,
    problem::api::ApiError,
};

/// A host that may be called.
#[derive(Serialize, ToSchema)]
pub(super) struct AllowedHost {
    /// `HOST`, `HOST:PORT` or `*.DOMAIN`; https, unless `http://` stands in front
    host: String,
    created_at: String,
}

/// A host to be allowed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AllowHost {
    /// `HOST`, `HOST:PORT` or `*.DOMAIN`; https, unless `http://` stands in front
    host: String,
}

/// Which host.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HostQuery {
    /// As the list shows it
    host: String,
}

/// List the hosts that scripts may call
#[utoipa::path(get, path = "/tenants/{tenant}/allowed-hosts", tag = "connections", params(PageQuery),
    responses((status = 200, description = "Hosts by name", body = Page<AllowedHost>)))]
pub(super) async fn list_allowed_hosts(
    scope: InTenant,
    InQuery(page): InQuery<PageQuery>,
) -> Result<Json<Page<AllowedHost>>, ApiError> {
    let (limit, after) = page.bounds()?;
    let mut rules = scope.db.egress().list_rules(scope.id()).await?;
    rules.retain(|row| after.as_deref().is_none_or(|after| row.rule.to_string().as_str() > after));
    rules.truncate(limit as usize + 1);
    let item = |row: EgressRow| AllowedHost { host: row.rule.to_string(), created_at: time(row.created_at_ms) };
    Ok(Json(Page::new(rules, limit, |row| row.rule.to_string(), item)))
}

/// Let scripts call a host
#[utoipa::path(post, path = "/tenants/{tenant}/allowed-hosts", tag = "connections", request_body = AllowHost,
    responses((status = 201, description = "Allowed", body = AllowHost)))]
pub(super) async fn allow_host(
    scope: InTenant,
    Json(AllowHost { host }): Json<AllowHost>,
) -> Result<Created<HostName>, ApiError> {
    let rule = parse(&host)?;
    scope.db.egress().allow(scope.id(), &rule).await?;
    Ok(Created(HostName { host: rule.to_string() }))
}

/// A host as it was understood.
#[derive(Serialize)]
pub(super) struct HostName {
    host: String,
}

/// Let scripts call a host no longer
#[utoipa::path(delete, path = "/tenants/{tenant}/allowed-hosts", tag = "connections", params(HostQuery),
    responses((status = 204, description = "Denied")))]
pub(super) async fn deny_host(
    scope: InTenant,
    InQuery(HostQuery { host }): InQuery<HostQuery>,
) -> Result<StatusCode, ApiError> {
    let rule = parse(&host)?;
    match scope.db.egress().deny(scope.id(), &rule).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::Unknown { what: "allowed host", name: rule.to_string() }),
    }
}

fn parse(host: &str) -> Result<AllowRule, ApiError> {
    host.parse().map_err(|error: crate::domain::egress::InvalidAllowRule| ApiError::Invalid(error.to_string()))
}
