//! Which pages of other sites may call an endpoint from a browser.
//!
//! Owns: preflights, and the fields by which a browser knows what a page may do. Never: keeps anyone out who is no browser.
//!
//! An origin is compared byte for byte with those that were named, so whatever merely looks like one of them is another.

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::domain::endpoint::CorsPolicy;

/// Methods that a path is asked for, when a page asks for one of them.
const METHODS: [Method; 6] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// Fields that a page may always send: those of callers' tokens and keys, and the type of a body.
const ALLOWED: [&str; 3] = ["authorization", "content-type", "x-api-key"];

/// Fields of answers that a page may always read: those that the host sets.
const EXPOSED: [&str; 7] =
    ["x-request-id", "x-script-version", "etag", "retry-after", "link", "x-total-count", "x-next-cursor"];

/// What a script may not say for itself where a policy does.
const OWNED: [HeaderName; 6] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
];

/// What a browser asks before it sends what a page wants to send.
#[derive(Debug)]
pub(super) struct Preflight {
    method: Method,
    origin: Option<HeaderValue>,
}

impl Preflight {
    /// The question in a request, if it is one.
    pub(super) fn of(method: &Method, headers: &HeaderMap) -> Option<Self> {
        if *method != Method::OPTIONS || !headers.contains_key(header::ORIGIN) {
            return None;
        }
        let asked = single(headers, &header::ACCESS_CONTROL_REQUEST_METHOD)?;
        Some(Self { method: Method::from_bytes(asked.as_bytes()).ok()?, origin: origin(headers) })
    }

    /// The answer, if the endpoint for the method that is asked for has a policy; `policy_of` finds those of the path.
    pub(super) fn answer<'p>(&self, policy_of: impl Fn(&Method) -> Option<&'p CorsPolicy>) -> Option<Response> {
        let policy = policy_of(&self.method)?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let fields = response.headers_mut();
        for asked in [header::ORIGIN, header::ACCESS_CONTROL_REQUEST_METHOD, header::ACCESS_CONTROL_REQUEST_HEADERS] {
            fields.append(header::VARY, HeaderValue::from(asked));
        }
        let Some(origin) = self.allowed_by(policy) else { return Some(response) };
        let may = |method: &&Method| policy_of(method).is_some_and(|policy| self.allowed_by(policy).is_some());
        let unlisted = (!METHODS.contains(&self.method)).then_some(&self.method);
        let methods = METHODS.iter().chain(unlisted).filter(may).map(Method::as_str);
        let headers = ALLOWED.into_iter().chain(policy.headers.iter().map(String::as_str));
        fields.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        insert_list(fields, header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        insert_list(fields, header::ACCESS_CONTROL_ALLOW_HEADERS, headers);
        fields.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(policy.max_age));
        insert_credentials(fields, policy);
        Some(response)
    }

    fn allowed_by(&self, policy: &CorsPolicy) -> Option<HeaderValue> {
        allowed(policy, self.origin.as_ref())
    }
}

/// Says in an answer, of whatever kind, what the page that asked for it may see of it.
pub(super) fn apply(policy: &CorsPolicy, origin: Option<&HeaderValue>, fields: &mut HeaderMap) {
    for name in OWNED {
        fields.remove(name);
    }
    if !is_any(policy) {
        fields.append(header::VARY, HeaderValue::from(header::ORIGIN));
    }
    let Some(origin) = allowed(policy, origin) else { return };
    fields.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    let exposed = EXPOSED.into_iter().chain(policy.expose.iter().map(String::as_str));
    insert_list(fields, header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    insert_credentials(fields, policy);
}

/// The one origin that a request comes from. One with several was not made by a browser.
pub(super) fn origin(headers: &HeaderMap) -> Option<HeaderValue> {
    single(headers, &header::ORIGIN).cloned()
}

fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// What the answer says about the origin, if pages from there may call. `*` lets in `null` as well, the origin of files and of
/// sandboxed frames: without credentials such a page sees what anybody sees who calls without a browser.
fn allowed(policy: &CorsPolicy, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
    if is_any(policy) {
        return Some(HeaderValue::from_static("*"));
    }
    origin.filter(|origin| policy.origins.iter().any(|named| named.as_bytes() == origin.as_bytes())).cloned()
}

fn is_any(policy: &CorsPolicy) -> bool {
    policy.origins.iter().any(|origin| origin == "*")
}

fn insert_credentials(fields: &mut HeaderMap, policy: &CorsPolicy) {
    if policy.credentials {
        fields.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
}

fn insert_list<'n>(fields: &mut HeaderMap, name: HeaderName, names: impl Iterator<Item = &'n str>) {
    let names: Vec<_> = names.collect();
    let value = HeaderValue::from_str(&names.join(", ")).expect("methods and names of fields are visible ASCII");
    fields.insert(name, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(origins: &[&str]) -> CorsPolicy {
        let origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
        CorsPolicy { origins, headers: vec!["x-a".to_owned()], expose: Vec::new(), credentials: false, max_age: 5 }
    }

    #[test]
    fn an_origin_that_merely_looks_like_one_that_is_named_is_another() {
        let policy = policy(&["https://shop.example", "http://localhost:3000"]);
        let allows = |origin: &[u8]| allowed(&policy, Some(&HeaderValue::from_bytes(origin).unwrap())).is_some();
        assert!(allows(b"https://shop.example") && allows(b"http://localhost:3000"));
        for other in [
            "",
            "*",
            "null",
            "http://shop.example",
            "https://shop.example/",
            "https://shop.example.",
            "https://shop.example.evil.com",
            "https://evil.com#https://shop.example",
            "https://evilshop.example",
            "https://www.shop.example",
            "https://shop.example:443",
            "https://shop.example:8443",
            "https://user@shop.example",
            "https://shop.example@evil.com",
            "HTTPS://shop.example",
            "https://Shop.example",
            "https://shop_example",
            "https://shop.example https://evil.com",
            "https://shop.example,https://evil.com",
            "http://localhost",
            "http://localhost:30000",
            "https://sh\u{f6}p.example",
        ] {
            assert!(!allows(other.as_bytes()), "{other}");
        }
        assert!(!allows(b"https://shop.example\xff"));
        assert!(allowed(&policy, None).is_none());
    }

    #[test]
    fn a_preflight_has_one_method_and_an_origin() {
        let preflight = |fields: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_str(value).unwrap());
            }
            Preflight::of(&Method::OPTIONS, &headers)
        };
        let (origin, method) = (("origin", "https://a.example"), ("access-control-request-method", "PUT"));
        let found = preflight(&[origin, method]).unwrap();
        assert_eq!((found.method, found.origin.unwrap().to_str().unwrap()), (Method::PUT, origin.1));
        assert!(preflight(&[origin]).is_none());
        assert!(preflight(&[method]).is_none());
        assert!(preflight(&[origin, method, method]).is_none());
        assert!(preflight(&[origin, ("access-control-request-method", "PUT, GET")]).is_none());
        assert!(preflight(&[origin, ("access-control-request-method", "")]).is_none());
        assert_eq!(preflight(&[origin, origin, method]).unwrap().origin, None);
    }

    #[test]
    fn an_answer_has_what_the_policy_says_and_nothing_of_what_the_script_said() {
        let mut fields = HeaderMap::new();
        for name in OWNED {
            fields.append(name, HeaderValue::from_static("*"));
        }
        apply(&policy(&["https://a.example"]), None, &mut fields);
        assert_eq!(fields.len(), 1, "{fields:?}");
        assert_eq!(fields[header::VARY], "origin");
        fields.clear();
        apply(&policy(&["*"]), None, &mut fields);
        assert_eq!(fields[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!fields.contains_key(header::VARY));
    }
}
