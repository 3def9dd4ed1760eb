//! Issuers outside of pqhost whose tokens a tenant accepts.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use url::{Host, Url};
use utoipa::ToSchema;

use crate::{
    auth::ISSUER,
    control::{
        access::InTenant,
        extract::{Created, InQuery, Json, Page, PageQuery, time},
    },
    db::issuers::{Issuer as IssuerRow, NewIssuer},
    domain::{
        rows::{RowFilter, check_filters_by_claims},
        shown,
    },
    problem::api::ApiError,
};

/// Longest name, and longest audience, in bytes. Both are URLs mostly.
const NAME_BYTES_MAX: usize = 500;

/// Longest URL of a key set, in bytes.
const URL_BYTES_MAX: usize = 2000;

/// An issuer whose tokens are accepted.
#[derive(Serialize, ToSchema)]
pub(super) struct Issuer {
    issuer: String,
    jwks_url: String,
    audience: String,
    /// The only rows that its tokens reach; all that scripts do when null
    row_filters: Option<Vec<RowFilter>>,
    created_at: String,
}

/// An issuer to be accepted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddIssuer {
    /// What its tokens say in `iss`, to the letter
    #[schema(max_length = 500)]
    issuer: String,
    /// Where its keys are: https, or http to an address that the operator has listed with `--egress-private`
    #[schema(max_length = 2000)]
    jwks_url: String,
    /// What its tokens for this tenant say in `aud`, to the letter
    #[schema(max_length = 500)]
    audience: String,
    /// The only rows that its tokens reach, whatever scripts ask for: values, or claims of the token. All that scripts reach when null or left
    /// out
    row_filters: Option<Vec<RowFilter>>,
}

/// Which issuer.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct IssuerQuery {
    /// As the list shows it
    issuer: String,
}

/// List the issuers whose tokens are accepted
#[utoipa::path(get, path = "/tenants/{tenant}/issuers", tag = "endpoints", params(PageQuery),
    responses((status = 200, description = "Issuers by name", body = Page<Issuer>)))]
pub(super) async fn list_issuers(
    scope: InTenant,
    InQuery(page): InQuery<PageQuery>,
) -> Result<Json<Page<Issuer>>, ApiError> {
    let (limit, after) = page.bounds()?;
    let mut issuers = scope.db.issuers().list_issuers(scope.id()).await?;
    issuers.retain(|row| after.as_ref().is_none_or(|after| row.issuer > *after));
    issuers.truncate(limit as usize + 1);
    Ok(Json(Page::new(issuers, limit, |row| row.issuer.clone(), Issuer::from)))
}

/// Accept the tokens of an issuer
#[utoipa::path(post, path = "/tenants/{tenant}/issuers", tag = "endpoints", request_body = AddIssuer,
    responses((status = 201, description = "Accepted from now on", body = Issuer)))]
pub(super) async fn add_issuer(
    scope: InTenant,
    Json(AddIssuer { issuer, jwks_url, audience, row_filters }): Json<AddIssuer>,
) -> Result<Created<Issuer>, ApiError> {
    for (field, text) in [("issuer", &issuer), ("audience", &audience)] {
        if text.is_empty() || text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) {
            let message = format!("`{field}` must have 1 to {NAME_BYTES_MAX} bytes, none of them control characters");
            return Err(ApiError::Invalid(message));
        }
    }
    if issuer == ISSUER {
        return Err(ApiError::Invalid(format!("`{ISSUER}` is the issuer of the tenant's own tokens")));
    }
    check_filters_by_claims(row_filters.as_deref().unwrap_or_default())
        .map_err(|error| ApiError::Invalid(error.to_string()))?;
    let new = NewIssuer { issuer, jwks_url: checked_url(&jwks_url)?, audience, row_filters };
    Ok(Created(Issuer::from(scope.db.issuers().insert_issuer(scope.id(), &new).await?)))
}

/// Accept the tokens of an issuer no longer
#[utoipa::path(delete, path = "/tenants/{tenant}/issuers", tag = "endpoints", params(IssuerQuery),
    responses((status = 204, description = "Refused from now on")))]
pub(super) async fn remove_issuer(
    scope: InTenant,
    InQuery(IssuerQuery { issuer }): InQuery<IssuerQuery>,
) -> Result<StatusCode, ApiError> {
    match scope.db.issuers().delete_issuer(scope.id(), &issuer).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::Unknown { what: "issuer", name: shown(&issuer) }),
    }
}

/// A URL as it will be asked. Whether its address may be reached is found out then: names lead elsewhere tomorrow.
fn checked_url(text: &str) -> Result<String, ApiError> {
    let invalid = || {
        let hint = "write https://HOST/PATH, or http:// with an address that the operator has listed";
        ApiError::Invalid(format!("`jwks_url` is no URL that keys are fetched from, `{}`: {hint}", shown(text)))
    };
    let url = Url::parse(text).ok().filter(|_| text.len() <= URL_BYTES_MAX).ok_or_else(invalid)?;
    let is_secure = match (url.scheme(), url.host()) {
        ("https", Some(_)) | ("http", Some(Host::Ipv4(_) | Host::Ipv6(_))) => true,
        (_, _) => false,
    };
    let has_password = !url.username().is_empty() || url.password().is_some();
    if !is_secure || has_password || url.fragment().is_some() {
        return Err(invalid());
    }
    Ok(url.into())
}

impl From<IssuerRow> for Issuer {
    fn from(row: IssuerRow) -> Self {
        let IssuerRow { issuer, jwks_url, audience, row_filters, created_at_ms } = row;
        Self { issuer, jwks_url, audience, row_filters, created_at: time(created_at_ms) }
    }
}
