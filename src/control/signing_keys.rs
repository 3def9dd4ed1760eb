//! Keys that sign a tenant's tokens.

use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    control::{
        Control,
        access::InTenant,
        extract::{Created, InPath, InQuery, Json, Page, PageQuery, time},
    },
    db::signing_keys::SigningKey as SigningKeyRow,
    domain::{names::TenantName, shown, signing::KeyAlgorithm},
    problem::api::ApiError,
};

/// Longest overlap: as long as a token can be valid.
const OVERLAP_MAX_SECONDS: u64 = 3653 * 86400;

/// A key without its secret.
#[derive(Serialize, ToSchema)]
pub(super) struct SigningKey {
    /// Its name in tokens
    kid: String,
    algorithm: KeyAlgorithm,
    /// Whether new tokens are signed with it
    signs: bool,
    created_at: String,
    /// After this its tokens are refused; absent if they are not until it is deleted
    verifies_until: Option<String>,
}

/// A key to be created.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateSigningKey {
    /// Whoever knows an HS256 key could sign with it, so its tokens are verified here only; public keys of ES256 and EdDSA are
    /// at `/{tenant}/.well-known/jwks.json` of the ingress listener
    algorithm: KeyAlgorithm,
    /// Seconds for which tokens of the tenant's other keys stay good; unless given, until those keys are deleted
    #[schema(maximum = 315619200)]
    overlap: Option<u64>,
}

/// List signing keys
#[utoipa::path(get, path = "/tenants/{tenant}/signing-keys", tag = "endpoints", params(PageQuery),
    responses((status = 200, description = "Keys that verify tokens, newest first: the first one signs", body = Page<SigningKey>)))]
pub(super) async fn list_signing_keys(
    scope: InTenant,
    InQuery(page): InQuery<PageQuery>,
) -> Result<Json<Page<SigningKey>>, ApiError> {
    let (limit, after) = page.bounds()?;
    let keys = scope.db.signing_keys().list(scope.id()).await?;
    let mut keys: Vec<_> = keys.into_iter().enumerate().map(|(place, key)| (place == 0, key)).collect();
    if let Some(after) = after {
        let behind = keys.iter().position(|(_, key)| key.kid == after).map_or(keys.len(), |place| place + 1);
        keys.drain(..behind);
    }
    keys.truncate(limit as usize + 1);
    Ok(Json(Page::new(keys, limit, |(_, key)| key.kid.clone(), |(signs, key)| SigningKey::new(key, signs))))
}

/// Create a signing key, which signs from now on
#[utoipa::path(post, path = "/tenants/{tenant}/signing-keys", tag = "endpoints", request_body = CreateSigningKey,
    responses((status = 201, description = "Created", body = SigningKey)))]
pub(super) async fn create_signing_key(
    State(control): State<Control>,
    scope: InTenant,
    Json(CreateSigningKey { algorithm, overlap }): Json<CreateSigningKey>,
) -> Result<Created<SigningKey>, ApiError> {
    if let Some(overlap) = overlap.filter(|overlap| *overlap > OVERLAP_MAX_SECONDS) {
        return Err(ApiError::Invalid(format!("`overlap` must be 0 to {OVERLAP_MAX_SECONDS}, not {overlap}")));
    }
    let overlap = overlap.map(Duration::from_secs);
    let key = control.auth.create_signing_key(&scope.db, scope.id(), algorithm, overlap).await?;
    Ok(Created(SigningKey::new(key, true)))
}

/// Delete a signing key that signs no longer: its tokens are refused from now on
#[utoipa::path(delete, path = "/tenants/{tenant}/signing-keys/{kid}", tag = "endpoints",
    responses((status = 204, description = "Deleted")))]
pub(super) async fn delete_signing_key(
    scope: InTenant,
    InPath((_, kid)): InPath<(TenantName, String)>,
) -> Result<StatusCode, ApiError> {
    match scope.db.signing_keys().delete(scope.id(), &kid).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::Unknown { what: "signing key", name: shown(&kid) }),
    }
}

impl SigningKey {
    fn new(row: SigningKeyRow, signs: bool) -> Self {
        let SigningKeyRow { kid, algorithm, sealed: _, public_key: _, created_at_ms, verifies_until_ms } = row;
        let (created_at, verifies_until) = (time(created_at_ms), verifies_until_ms.map(time));
        Self { kid, algorithm, signs, created_at, verifies_until }
    }
}
