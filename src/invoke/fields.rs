//! Which header fields a handler's response may have.
//!
//! Owns: what belongs to the host or to other tenants, who share its origin. Never: makes HTTP of a response (see `ingress`).

use http::{HeaderName, HeaderValue, header};

use crate::{
    domain::{
        exchange::{HandlerRequest, HandlerResponse},
        names::TenantName,
        people::SESSION_COOKIE,
        shown,
    },
    invoke::InvokeError,
    sandbox::slot::{FailureKind, ScriptFailure},
};

/// Header fields in a response, at most.
const FIELDS_MAX: usize = 100;

/// Longest attribute of a cookie that browsers look at, in bytes.
const COOKIE_ATTRIBUTE_BYTES_MAX: usize = 1024;

/// Begins the names of cookies that browsers send to a whole host.
const HOST_PREFIX: &str = "__host-";

/// Fields that belong to a connection, or that the host computes.
const RESERVED: [&str; 9] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

/// Fields that browsers apply to a whole origin, and remember: pages and callers of all tenants.
///
/// Not among them is what browsers apply to one page or answer, such as `Reporting-Endpoints` and `SourceMap`.
const OF_THE_ORIGIN: [&str; 17] = [
    "accept-ch",
    "alt-svc",
    "cache-group-invalidation",
    "clear-site-data",
    "critical-ch",
    "expect-ct",
    "nel",
    "origin-agent-cluster",
    "public-key-pins",
    "public-key-pins-report-only",
    "report-to",
    "sec-session-registration",
    "secure-session-registration",
    "service-worker-allowed",
    "set-login",
    "strict-transport-security",
    "use-as-dictionary",
];

/// The response, if callers may have it.
///
/// A cookie that names no path gets that of the tenant where browsers would take `/`.
///
/// # Errors
/// [`InvokeError::BadReturn`], which names the field and tells the author what to do.
pub(super) fn checked<B>(
    mut response: HandlerResponse<B>,
    tenant: &TenantName,
    request: &HandlerRequest,
) -> Result<HandlerResponse<B>, InvokeError> {
    // Below 200 are answers that do not end a request: a guest that was tampered with could hold up its connection.
    if !(200..=599).contains(&response.status) {
        return Err(refusal(format!("its status {} is not one of 200 to 599", response.status)));
    }
    if response.headers.len() > FIELDS_MAX {
        let n_fields = response.headers.len();
        return Err(refusal(format!("it has {n_fields} header fields; at most {FIELDS_MAX} are allowed")));
    }
    let is_root = request.path.trim_matches('/').is_empty();
    for (name, value) in &mut response.headers {
        check_field(name, value, tenant).map_err(|why| refusal(format!("its header field `{}` {why}", shown(name))))?;
        if name.eq_ignore_ascii_case(header::SET_COOKIE.as_str())
            && is_root
            && attributes(value, "path").next().is_none()
        {
            value.push_str(&format!("; Path=/{tenant}"));
        }
    }
    Ok(response)
}

fn refusal(why: String) -> InvokeError {
    let message = format!("the handler's response was not sent: {why}");
    InvokeError::BadReturn(ScriptFailure {
        kind: FailureKind::BadReturn,
        type_name: "BadReturn".to_owned(),
        traceback: format!("{message}\n"),
        message,
        location: None,
    })
}

fn check_field(name: &str, value: &str, tenant: &TenantName) -> Result<(), String> {
    let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
        return Err("has a name that HTTP does not allow".to_owned());
    };
    if HeaderValue::from_bytes(value.as_bytes()).is_err() {
        return Err("has a value with control characters".to_owned());
    }
    if RESERVED.contains(&name.as_str()) {
        return Err("is the host's to set: leave it out".to_owned());
    }
    if OF_THE_ORIGIN.contains(&name.as_str()) {
        return Err(
            "acts on all tenants of this host: leave it out; a proxy in front of the host may send it".to_owned()
        );
    }
    if name == header::SET_COOKIE { check_cookie(value, tenant) } else { Ok(()) }
}

/// Refuses cookies that browsers would show to others than the tenant. What counts is how browsers read them.
fn check_cookie(cookie: &str, tenant: &TenantName) -> Result<(), String> {
    let pair = cookie.split(';').next().unwrap_or_default();
    let name = pair.split_once('=').map_or("", |(name, _)| trimmed(name));
    if name.is_empty() {
        return Err("sets a cookie without a name: write `name=value`".to_owned());
    }
    if name.eq_ignore_ascii_case(SESSION_COOKIE) {
        return Err(format!("sets the cookie `{SESSION_COOKIE}`, which is the host's: choose another name"));
    }
    let prefix = name.as_bytes().get(..HOST_PREFIX.len()).unwrap_or_default();
    if prefix.eq_ignore_ascii_case(HOST_PREFIX.as_bytes()) {
        return Err("sets a cookie `__Host-...`, which is for all tenants of this host: choose another name".to_owned());
    }
    if attributes(cookie, "domain").next().is_some() {
        return Err("has a `Domain`: leave it out, a cookie of a handler is for its own host only".to_owned());
    }
    let is_of_tenant = |path: &str| {
        let below = path.strip_prefix('/').and_then(|path| path.strip_prefix(tenant.as_str()));
        below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
            && path.len() <= COOKIE_ATTRIBUTE_BYTES_MAX
    };
    match attributes(cookie, "path").find(|path| !is_of_tenant(path)) {
        None => Ok(()),
        Some(path) => Err(format!(
            "has the path `{}`, at which other tenants may be: write `Path=/{tenant}`, or a path below it",
            shown(path)
        )),
    }
}

/// The values of a cookie's attributes of this name.
fn attributes<'a>(cookie: &'a str, wanted: &str) -> impl Iterator<Item = &'a str> {
    let attributes = cookie.split(';').skip(1).map(|attribute| attribute.split_once('=').unwrap_or((attribute, "")));
    attributes.filter(move |(name, _)| trimmed(name).eq_ignore_ascii_case(wanted)).map(|(_, value)| trimmed(value))
}

fn trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        exchange::{Caller, HandlerBody},
        names::InvocationId,
    };

    fn answer_at(path: &str, status: u16, headers: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
        let request = HandlerRequest {
            method: "GET".to_owned(),
            url: String::new(),
            path: path.to_owned(),
            query_string: String::new(),
            headers: Vec::new(),
            body: Vec::new().into(),
            form: Vec::new(),
            files: Vec::new(),
            path_params: Vec::new(),
            client_ip: String::new(),
            request_id: InvocationId::generate(),
            caller: Caller::Public,
        };
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let response = HandlerResponse { status, headers, body: HandlerBody::<()>::Bytes(Vec::new().into()) };
        match checked(response, &"acme".parse().unwrap(), &request) {
            Ok(response) => Ok(response.headers),
            Err(error) => Err(error.traceback().expect("the author is told").to_owned()),
        }
    }

    fn refused(name: &str, value: &str) -> String {
        let told = answer_at("/x", 200, &[(name, value)]).expect_err(&format!("{name}: {value}"));
        told.trim_end().to_owned()
    }

    #[test]
    fn fields_of_the_host_and_of_its_origin_are_refused_by_name() {
        for name in RESERVED.iter().chain(&OF_THE_ORIGIN) {
            for name in [(*name).to_owned(), name.to_uppercase()] {
                let told = refused(&name, "1");
                assert!(told.contains(&format!("`{name}`")) && told.contains("leave it out"), "{told}");
            }
        }
        assert_eq!(
            refused("Clear-Site-Data", "\"*\""),
            "the handler's response was not sent: its header field `Clear-Site-Data` acts on all tenants of this host: \
             leave it out; a proxy in front of the host may send it"
        );
        for (name, value) in [("a b", "c"), ("", "c"), ("nel ", "c"), ("x-a", "b\r\nx-b: c"), ("x-a", "b\0")] {
            refused(name, value);
        }
        let allowed =
            ["Reporting-Endpoints", "SourceMap", "Content-Security-Policy", "WWW-Authenticate", "Link", "X-A"];
        let allowed = allowed.map(|name| (name, "a"));
        assert_eq!(answer_at("/x", 200, &allowed).unwrap().len(), allowed.len());
    }

    #[test]
    fn cookies_for_others_than_the_tenant_are_refused() {
        for (cookie, told) in [
            ("", "without a name"),
            ("a", "without a name"),
            ("=a", "without a name"),
            (" \t= a", "without a name"),
            ("=pqhost_session=evil; Path=/api/v1", "without a name"),
            ("pqhost_session; a=b", "without a name"),
            ("; a=b", "without a name"),
            ("pqhost_session=a", "the host's"),
            (" PQHOST_session\t=a", "the host's"),
            ("__Host-a=b; Secure; Path=/", "`__Host-...`"),
            ("__hOST-a=b; Secure; Path=/acme", "`__Host-...`"),
            ("__Host-Http-a=b", "`__Host-...`"),
            ("a=b; Domain=example.com", "`Domain`"),
            ("a=b;domain", "`Domain`"),
            ("a=b; DOMAIN =", "`Domain`"),
            ("a=b; Path=/", "the path `/`, at"),
            ("a=b;path=/other", "the path `/other`"),
            ("a=b; PATH\t=\t/acme2 ", "the path `/acme2`"),
            ("a=b; Path=/acm", "the path `/acm`"),
            ("a=b; Path=/ACME", "the path `/ACME`"),
            ("a=b; Path", "the path ``"),
            ("a=b; Path=acme", "the path `acme`"),
            ("a=b; Path=\"/acme\"", "the path `"),
            ("a=b; Path=/acme; Path=/", "the path `/`"),
            ("a=b; Path=/; Path=/acme", "the path `/`"),
            (&format!("a=b; Path=/acme/{}", "x".repeat(1100)), "the path `/acme/xxx"),
        ] {
            let refused = refused("Set-Cookie", cookie);
            assert!(refused.contains("`Set-Cookie`") && refused.contains(told), "{cookie}: {refused}");
        }
        assert!(refused("set-cookie", "a=b; Path=/").ends_with("write `Path=/acme`, or a path below it"));
        for cookie in [
            "a=domain; Path=/acme",
            "a=b; Path=/acme/x; HttpOnly",
            "__Secure-a=b; Secure; path=/acme/",
            "a=",
            "a=b=c; Max-Age=3",
            "xpqhost_session=a",
        ] {
            let sent = answer_at("/x", 200, &[("Set-Cookie", cookie)]);
            assert_eq!(sent.unwrap(), [("Set-Cookie".to_owned(), cookie.to_owned())]);
        }
    }

    #[test]
    fn a_cookie_without_a_path_does_not_get_that_of_all_tenants() {
        for (path, sent, expected) in [
            ("/", "a=b", "a=b; Path=/acme"),
            ("", "a=b; Secure", "a=b; Secure; Path=/acme"),
            ("/", "a=b; Path=/acme/x", "a=b; Path=/acme/x"),
            ("/x", "a=b", "a=b"),
        ] {
            let headers = answer_at(path, 200, &[("set-cookie", sent)]).unwrap();
            assert_eq!(headers, [("set-cookie".to_owned(), expected.to_owned())], "{path}");
        }
    }

    #[test]
    fn answers_that_are_too_long_or_do_not_end_are_refused() {
        assert!(answer_at("/x", 200, &vec![("x-a", "b"); FIELDS_MAX]).is_ok());
        assert!(answer_at("/x", 200, &vec![("x-a", "b"); FIELDS_MAX + 1]).is_err());
        for status in [0, 99, 100, 101, 199, 600, 999, 1000] {
            assert!(answer_at("/x", status, &[]).is_err(), "{status}");
        }
    }
}
