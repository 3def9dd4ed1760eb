//! Keys that consumers of a tenant's endpoints present, and the rows that they reach.

use std::{sync::Arc, time::Duration};

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    auth::consumer_keys::check_terms,
    control::{
        Control,
        access::InTenant,
        extract::{Created, Expected, InPath, InQuery, Json, Page, PageQuery, Tagged, time},
    },
    db::{
        consumer_keys::{ConsumerKey as KeyRow, KeyTerms},
        endpoints::Endpoint,
    },
    domain::{
        names::TenantName,
        rate_limit::RateLimit,
        route::MethodSet,
        rows::{RowFilter, check_filters},
        shown,
    },
    problem::api::ApiError,
};

/// Longest lifetime: ten years, for partners who never change anything.
const TIME_MAX_SECONDS: u64 = 3653 * 86400;

/// Largest attributes, in bytes of JSON: handlers get them with each request.
const ATTRIBUTES_BYTES_MAX: usize = 8 << 10;

/// Most endpoints that a key may name.
const ENDPOINTS_MAX: usize = 1000;

/// A consumer key without its text.
#[derive(Serialize, ToSchema)]
pub(super) struct ConsumerKey {
    id: String,
    name: String,
    /// Routes of the only endpoints that it is for; all when null
    endpoints: Option<Vec<String>>,
    /// The only methods that it is for, for example `GET,POST`; all when null
    methods: Option<String>,
    attributes: Map<String, Value>,
    /// The only rows that it reaches; all that scripts do when null
    row_filters: Option<Vec<RowFilter>>,
    /// How often it may be used on each host; without limit when null
    rate_limit: Option<RateLimit>,
    created_at: String,
    expires_at: String,
    /// To the minute
    last_used_at: Option<String>,
    revoked_at: Option<String>,
}

/// A consumer key to be created.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateConsumerKey {
    /// Whose it is, for people
    #[serde(default)]
    #[schema(max_length = 200)]
    name: String,
    /// Routes of the only endpoints that it is for: those that the routes have now; all unless given
    endpoints: Option<Vec<String>>,
    /// The only methods that it is for, for example `GET,POST`; all unless given
    methods: Option<String>,
    /// What is known of its holder: handlers see it, and row filters take values from it
    #[serde(default)]
    attributes: Map<String, Value>,
    /// The only rows that it reaches, whatever scripts ask for; null for all that scripts reach
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required)]
    row_filters: Option<Vec<RowFilter>>,
    /// How often it may be used on each host; without limit unless given
    rate_limit: Option<RateLimit>,
    /// Seconds until it expires; 365 days unless given
    #[schema(minimum = 1, maximum = 315619200)]
    expires_in: Option<u64>,
}

/// What a consumer key is to be for. What is left out is as for a new one.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplaceConsumerKey {
    /// Whose it is, for people
    #[serde(default)]
    #[schema(max_length = 200)]
    name: String,
    /// Routes of the only endpoints that it is for: those that the routes have now; all unless given
    endpoints: Option<Vec<String>>,
    /// The only methods that it is for, for example `GET,POST`; all unless given
    methods: Option<String>,
    /// What is known of its holder: handlers see it, and row filters take values from it
    #[serde(default)]
    attributes: Map<String, Value>,
    /// The only rows that it reaches, whatever scripts ask for; null for all that scripts reach
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required)]
    row_filters: Option<Vec<RowFilter>>,
    /// How often it may be used on each host; without limit unless given
    rate_limit: Option<RateLimit>,
}

/// A consumer key that was created. It is not shown again.
#[derive(Serialize, ToSchema)]
pub(super) struct NewConsumerKey {
    id: String,
    key: String,
    expires_at: String,
}

type InKey = InPath<(TenantName, String)>;

/// List consumer keys
#[utoipa::path(get, path = "/tenants/{tenant}/consumer-keys", tag = "endpoints", params(PageQuery),
    responses((status = 200, description = "Keys, oldest first", body = Page<ConsumerKey>)))]
pub(super) async fn list_consumer_keys(
    scope: InTenant,
    InQuery(page): InQuery<PageQuery>,
) -> Result<Json<Page<ConsumerKey>>, ApiError> {
    let (limit, after) = page.bounds()?;
    let keys = scope.db.consumer_keys().list_keys_after(scope.id(), after.as_deref(), limit + 1).await?;
    let endpoints = scope.db.endpoints().list_endpoints(scope.id()).await?;
    Ok(Json(Page::new(keys, limit, |key| key.id.clone(), |key| ConsumerKey::new(key, &endpoints))))
}

/// Create a key for a consumer of endpoints with the auth mode `key`
#[utoipa::path(post, path = "/tenants/{tenant}/consumer-keys", tag = "endpoints", request_body = CreateConsumerKey,
    responses((status = 201, description = "Created", body = NewConsumerKey)))]
pub(super) async fn create_consumer_key(
    State(control): State<Control>,
    scope: InTenant,
    Json(new): Json<CreateConsumerKey>,
) -> Result<Created<NewConsumerKey>, ApiError> {
    let CreateConsumerKey { name, endpoints, methods, attributes, row_filters, rate_limit, expires_in } = new;
    let seconds = expires_in.unwrap_or(365 * 86400);
    if seconds == 0 || seconds > TIME_MAX_SECONDS {
        return Err(ApiError::Invalid(format!("`expires_in` must be 1 to {TIME_MAX_SECONDS}, not {seconds}")));
    }
    let asked = ReplaceConsumerKey { name, endpoints, methods, attributes, row_filters, rate_limit };
    let terms = asked.terms(&scope).await?;
    let issued = control.auth.keys.create_key(&scope.db, scope.id(), terms, Duration::from_secs(seconds)).await?;
    let key = issued.text.expose_str().map_err(|error| ApiError::Host(error.to_string()))?.to_owned();
    Ok(Created(NewConsumerKey { id: issued.id, key, expires_at: time(issued.expires_at_ms) }))
}

/// Show a consumer key without its text
#[utoipa::path(get, path = "/tenants/{tenant}/consumer-keys/{id}", tag = "endpoints",
    responses((status = 200, description = "The key, with an `ETag`", body = ConsumerKey)))]
pub(super) async fn show_consumer_key(
    scope: InTenant,
    InPath((_, id)): InKey,
) -> Result<Tagged<ConsumerKey>, ApiError> {
    let key = scope.db.consumer_keys().find_key(scope.id(), &id).await?.ok_or_else(|| unknown(&id))?;
    tagged(&scope, key).await
}

/// Replace what a consumer key is for. Its text and its expiry stay
#[utoipa::path(put, path = "/tenants/{tenant}/consumer-keys/{id}", tag = "endpoints", request_body = ReplaceConsumerKey,
    params(("if-match" = Option<String>, Header, description = "`ETag` of the key as it was read")),
    responses((status = 200, description = "Replaced", body = ConsumerKey),
              (status = 412, description = "Somebody else changed it")))]
pub(super) async fn replace_consumer_key(
    scope: InTenant,
    InPath((_, id)): InKey,
    Expected(expected): Expected,
    Json(asked): Json<ReplaceConsumerKey>,
) -> Result<Tagged<ConsumerKey>, ApiError> {
    let terms = asked.terms(&scope).await?;
    let key = scope.db.consumer_keys().replace_terms(scope.id(), &id, &terms, expected).await?;
    tagged(&scope, key.ok_or_else(|| unknown(&id))?).await
}

/// Revoke a consumer key
#[utoipa::path(delete, path = "/tenants/{tenant}/consumer-keys/{id}", tag = "endpoints",
    responses((status = 204, description = "Revoked")))]
pub(super) async fn revoke_consumer_key(scope: InTenant, InPath((_, id)): InKey) -> Result<StatusCode, ApiError> {
    match scope.db.consumer_keys().revoke_key(scope.id(), &id).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(unknown(&id)),
    }
}

fn unknown(id: &str) -> ApiError {
    ApiError::Unknown { what: "consumer key", name: shown(id) }
}

async fn tagged(scope: &InTenant, key: KeyRow) -> Result<Tagged<ConsumerKey>, ApiError> {
    let endpoints = scope.db.endpoints().list_endpoints(scope.id()).await?;
    Ok(Tagged(key.revision, ConsumerKey::new(key, &endpoints)))
}

impl ReplaceConsumerKey {
    async fn terms(self, scope: &InTenant) -> Result<KeyTerms, ApiError> {
        let Self { name, endpoints: routes, methods, attributes, row_filters, rate_limit } = self;
        if name.chars().count() > 200 || name.chars().any(char::is_control) {
            return Err(ApiError::Invalid(
                "`name` may have 200 characters, none of them control characters".to_owned(),
            ));
        }
        if serde_json::to_vec(&attributes).map_or(usize::MAX, |json| json.len()) > ATTRIBUTES_BYTES_MAX {
            return Err(ApiError::Invalid(format!("`attributes` may have {ATTRIBUTES_BYTES_MAX} bytes")));
        }
        check_filters(row_filters.as_deref().unwrap_or_default()).map_err(invalid)?;
        let methods: Option<MethodSet> = methods.map(|methods| methods.parse()).transpose().map_err(invalid)?;
        let mut endpoints = None;
        if let Some(routes) = routes {
            if routes.len() > ENDPOINTS_MAX {
                return Err(ApiError::Invalid(format!("`endpoints` may have {ENDPOINTS_MAX} routes")));
            }
            let known = scope.db.endpoints().list_endpoints(scope.id()).await?;
            let unknown = routes.iter().find(|route| !known.iter().any(|endpoint| endpoint.route == **route));
            if let Some(route) = unknown {
                return Err(ApiError::Unknown { what: "endpoint", name: shown(route) });
            }
            let named = known.iter().filter(|endpoint| routes.contains(&endpoint.route));
            endpoints = Some(named.map(|endpoint| endpoint.id).collect());
        }
        let attributes = Arc::new(attributes);
        let terms = KeyTerms { name, endpoints, methods, attributes, row_filters, rate_limit };
        check_terms(&terms)?;
        Ok(terms)
    }
}

fn invalid(error: impl std::fmt::Display) -> ApiError {
    ApiError::Invalid(error.to_string())
}

impl ConsumerKey {
    fn new(key: KeyRow, known: &[Endpoint]) -> Self {
        let KeyRow { id, terms, revision: _, created_at_ms, expires_at_ms, last_used_at_ms, revoked_at_ms } = key;
        let KeyTerms { name, endpoints, methods, attributes, row_filters, rate_limit } = terms;
        let routes = endpoints.map(|ids| {
            let named = known.iter().filter(|endpoint| ids.contains(&endpoint.id));
            let mut routes: Vec<_> = named.map(|endpoint| endpoint.route.clone()).collect();
            routes.sort();
            routes.dedup();
            routes
        });
        Self {
            id,
            name,
            endpoints: routes,
            methods: methods.map(|methods| methods.to_string()),
            attributes: Arc::unwrap_or_clone(attributes),
            row_filters,
            rate_limit,
            created_at: time(created_at_ms),
            expires_at: time(expires_at_ms),
            last_used_at: last_used_at_ms.map(time),
            revoked_at: revoked_at_ms.map(time),
        }
    }
}
