//! Who calls, by what a request shows.
//!
//! Owns: which header fields hold a credential, and which of them handlers see. Never: decides whether it is valid (see `auth`).

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

/// Whether a field holds what the host let the caller in by, and its handler must not see it.
///
/// With a key, or a token that reaches some rows only, a handler could call other endpoints in the caller's name, or pass it on. Other tokens
/// are shown: scripts have always found them there, and hand them on to servers that know them.
pub(super) fn is_withheld(name: &HeaderName, caller: &Caller) -> bool {
    match caller {
        Caller::Public => false,
        Caller::Token(bearer) => bearer.rows.is_some() && *name == header::AUTHORIZATION,
        // It was sent in one of the two, and the other was not sent.
        Caller::Key(_) => *name == header::AUTHORIZATION || *name == API_KEY,
    }
}

/// Says in an answer of an endpoint that asks for a credential that it is one caller's, and which fields tell callers apart: no cache between the host
/// and a caller gives it to another one then. A script cannot say otherwise, because such a cache knows no tokens.
pub(super) fn mark_as_callers(auth: AuthMode, fields: &mut HeaderMap) {
    match auth {
        AuthMode::Public => return,
        AuthMode::Jwt => _ = fields.append(header::VARY, HeaderValue::from(header::AUTHORIZATION)),
        AuthMode::Key => {
            fields.append(header::VARY, HeaderValue::from(header::AUTHORIZATION));
            fields.append(header::VARY, HeaderValue::from(API_KEY));
        }
    }
    let said = fields.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let said: Vec<_> = said.flat_map(|value| value.split(',')).map(str::trim).filter(|one| !one.is_empty()).collect();
    let is = |directive: &str, name: &str| {
        directive.split('=').next().is_some_and(|known| known.trim().eq_ignore_ascii_case(name))
    };
    if said.iter().any(|directive| is(directive, "no-store")) {
        return;
    }
    // With names of fields, in quotes, `private` is about those alone.
    let is_part = |one: &str| one.matches('"').count() % 2 == 1;
    let is_for_others = |one: &str| ["public", "private", "s-maxage"].into_iter().any(|name| is(one, name));
    let kept = said.into_iter().filter(|one| !is_for_others(one) && !is_part(one));
    let value = ["private"].into_iter().chain(kept).collect::<Vec<_>>().join(", ");
    if let Ok(value) = HeaderValue::try_from(value) {
        fields.insert(header::CACHE_CONTROL, value);
    }
}

/// Fields by which scripts that ask for no token or key know their callers themselves.
pub(super) const CREDENTIALS: [HeaderName; 3] = [header::AUTHORIZATION, API_KEY, header::COOKIE];

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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::exchange::{KeyHolder, TokenBearer};

    #[test]
    fn what_needs_a_credential_is_one_callers_whatever_its_script_says() {
        let marked = |auth: AuthMode, said: &[&'static str]| {
            let mut fields = HeaderMap::new();
            fields.insert(header::VARY, HeaderValue::from_static("accept"));
            said.iter().for_each(|value| _ = fields.append(header::CACHE_CONTROL, HeaderValue::from_static(value)));
            mark_as_callers(auth, &mut fields);
            let texts = |name| fields.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned());
            (
                texts(header::VARY).collect::<Vec<_>>().join(", "),
                texts(header::CACHE_CONTROL).collect::<Vec<_>>().join(", "),
            )
        };
        assert_eq!(marked(AuthMode::Public, &["public"]), ("accept".to_owned(), "public".to_owned()));
        let jwt = |said: &[&'static str]| {
            let (vary, cache_control) = marked(AuthMode::Jwt, said);
            assert_eq!(vary, "accept, authorization");
            cache_control
        };
        for (said, expected) in [
            (&[][..], "private"),
            (&["max-age=600"], "private, max-age=600"),
            (&["Public, MAX-AGE=5"], "private, MAX-AGE=5"),
            (&["s-maxage=9", "must-revalidate"], "private, must-revalidate"),
            (&["private"], "private"),
            (&["private=\"set-cookie\", max-age=5"], "private, max-age=5"),
            (&["private=\"set-cookie, x-a\", max-age=5"], "private, max-age=5"),
            (&["no-store"], "no-store"),
            (&["no-cache, public"], "private, no-cache"),
            (&[","], "private"),
        ] {
            assert_eq!(jwt(said), expected, "{said:?}");
        }
        assert_eq!(marked(AuthMode::Key, &[]), ("accept, authorization, x-api-key".to_owned(), "private".to_owned()));
    }

    #[test]
    fn handlers_are_not_shown_what_reaches_more_than_they_do_for_its_bearer() {
        let token = |is_restricted: bool| {
            let (issuer, claims) = ("pqhost".into(), Arc::default());
            Caller::Token(TokenBearer {
                id: None,
                issuer,
                claims,
                methods: None,
                rows: is_restricted.then(Arc::default),
            })
        };
        let key = Caller::Key(KeyHolder { id: "1".into(), attributes: Arc::default(), methods: None, rows: None });
        for (caller, withheld) in [
            (Caller::Public, [false, false, false]),
            (token(false), [false, false, false]),
            (token(true), [true, false, false]),
            (key, [true, true, false]),
        ] {
            assert_eq!(CREDENTIALS.each_ref().map(|name| is_withheld(name, &caller)), withheld, "{caller:?}");
        }
    }
}
