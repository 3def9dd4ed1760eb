//! Who calls, by what a request shows.
//!
//! Owns: which header fields hold a credential. Never: decides whether it is valid (see `auth`).

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::{
    auth::{AuthError, consumer_keys::VerifiedKey},
    domain::{
        exchange::{AuthMode, Caller},
        rate_limit::RateLimit,
    },
    ingress::{Failure, Ingress},
    invoke::{EndpointTarget, TenantRoutes},
    problem::RequestError,
};

/// The field of a consumer key, beside `Authorization`.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Who calls, and how often they may.
#[derive(Debug)]
pub(super) struct Identified {
    pub(super) caller: Caller,
    /// The limit of a consumer key.
    pub(super) rate_limit: Option<RateLimit>,
}

impl Ingress {
    pub(super) async fn identify(
        &self,
        routes: &TenantRoutes,
        endpoint: &EndpointTarget,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Identified, Failure> {
        let authorization = only(headers, &header::AUTHORIZATION, "Authorization")?;
        let caller = match endpoint.auth {
            AuthMode::Public => Caller::Public,
            AuthMode::Jwt => {
                let TenantRoutes { tenant_id, tenant, .. } = routes;
                let verified = self.auth.verify(*tenant_id, tenant, endpoint.id, method.as_str(), authorization).await;
                Caller::Token(verified.map_err(Failure::Auth)?.bearer())
            }
            AuthMode::Key => {
                let text = presented_key(authorization, only(headers, &API_KEY, "X-API-Key")?)?;
                let verified = self.auth.keys.verify(routes.tenant_id, endpoint.id, method.as_str(), text).await;
                let VerifiedKey { holder, rate_limit } = verified.map_err(Failure::Auth)?;
                return Ok(Identified { caller: Caller::Key(holder), rate_limit });
            }
        };
        Ok(Identified { caller, rate_limit: None })
    }
}

/// The value of a field that may be sent once.
fn only<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    shown: &'static str,
) -> Result<Option<&'a HeaderValue>, RequestError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(RequestError::RepeatedHeader(shown));
    }
    Ok(first)
}

/// The consumer key in either of two fields; in both it is sent twice, whatever they say.
fn presented_key<'a>(
    authorization: Option<&'a HeaderValue>,
    api_key: Option<&'a HeaderValue>,
) -> Result<&'a str, Failure> {
    let missing = Failure::Auth(AuthError::MissingKey);
    match (authorization, api_key) {
        (Some(_), Some(_)) => Err(RequestError::RepeatedHeader("Authorization or X-API-Key").into()),
        (None, Some(value)) => value.to_str().map(str::trim).map_err(|_| missing),
        (Some(value), None) => {
            let Some((scheme, key)) = value.to_str().ok().and_then(|text| text.split_once(' ')) else {
                return Err(missing);
            };
            let is_known = ["bearer", "key"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
            if is_known { Ok(key.trim()) } else { Err(missing) }
        }
        (None, None) => Err(missing),
    }
}
