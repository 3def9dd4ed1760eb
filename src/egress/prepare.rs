//! From what a script asks for to a request that may be sent.
//!
//! Owns: reading the URL, the allow-list, header fields. Never: sends anything.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use ipnet::IpNet;
use url::{Host, Url};

use crate::{
    domain::{
        egress::AllowRule,
        http::{Fields, HttpError, HttpErrorCode, HttpRequest},
        limits::HttpLimits,
        shown,
    },
    egress::address::may_reach,
};

/// Longest URL, in bytes. Servers commonly refuse longer ones.
const URL_BYTES_MAX: usize = 8 << 10;

/// Fields that concern the connection or that the host computes. Ignored in requests, left out of responses.
const CONNECTION_FIELDS: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn invalid(message: impl Into<String>) -> HttpError {
    HttpError::new(HttpErrorCode::InvalidRequest, message)
}

/// Reads a URL and checks it against the allow-list, and a literal address against the address rules.
///
/// Whatever stands in `text` - other notations of an address, user and password, backslashes - only what the parser makes
/// of it is checked and then used.
pub(super) fn target(text: &str, allowed: &[AllowRule], listed: &[IpNet]) -> Result<Url, HttpError> {
    if text.len() > URL_BYTES_MAX {
        return Err(invalid(format!("the URL is longer than {URL_BYTES_MAX} bytes")));
    }
    let mut url = Url::parse(text).map_err(|error| invalid(format!("`{}` is no URL: {error}", shown(text))))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid(format!("`{}` is neither http nor https", shown(text))));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("the URL holds a user or password; send them in an Authorization header"));
    }
    url.set_fragment(None);
    let refused = |message: String| HttpError::new(HttpErrorCode::NotAllowed, message);
    if !allowed.iter().any(|rule| rule.permits(&url)) {
        let rule = AllowRule::of_url(&url).map_or_else(|_| String::new(), |rule| rule.to_string());
        return Err(refused(format!("scripts of this tenant may not call `{rule}`; an operator can allow it")));
    }
    let literal = match url.host() {
        Some(Host::Ipv4(address)) => Some(address.into()),
        Some(Host::Ipv6(address)) => Some(address.into()),
        Some(Host::Domain(_)) | None => None,
    };
    if literal.is_some_and(|address| !may_reach(address, listed)) {
        return Err(refused(
            "scripts may not call addresses that are not public, unless the operator lists them".into(),
        ));
    }
    Ok(url)
}

/// Reads the method.
pub(super) fn method(text: &str) -> Result<Method, HttpError> {
    match Method::from_bytes(text.as_bytes()) {
        // CONNECT makes a tunnel and TRACE echoes credentials; neither has a use here.
        Ok(method) if method != Method::CONNECT && method != Method::TRACE && text.len() <= 32 => Ok(method),
        _ => Err(invalid(format!("the method `{}` cannot be sent", shown(text)))),
    }
}

/// Reads header fields. Line breaks and other control characters are errors, not header injections.
pub(super) fn headers(fields: &Fields, limits: &HttpLimits) -> Result<HeaderMap, HttpError> {
    let bytes: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
    if fields.len() > limits.headers || bytes > limits.header_bytes {
        return Err(HttpError::new(
            HttpErrorCode::RequestTooLarge,
            format!("a request may have {} header fields of {} bytes in all", limits.headers, limits.header_bytes),
        ));
    }
    let mut headers = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields {
        let parsed = HeaderName::from_bytes(name.as_bytes());
        let parsed = parsed.map_err(|_| invalid(format!("`{}` is no name of a header field", shown(name))))?;
        if CONNECTION_FIELDS.contains(&parsed.as_str())
            || matches!(parsed.as_str(), "host" | "content-length" | "expect")
        {
            continue;
        }
        let value = value.chars().map(|c| u8::try_from(u32::from(c))).collect::<Result<Vec<_>, _>>().ok();
        let value = value.and_then(|value| HeaderValue::from_bytes(&value).ok());
        let value = value.ok_or_else(|| invalid(format!("the value of the header field `{parsed}` cannot be sent")))?;
        headers.append(parsed, value);
    }
    Ok(headers)
}

/// The body, if it is not too large.
pub(super) fn check_body(request: &HttpRequest, limits: &HttpLimits) -> Result<(), HttpError> {
    if request.body.len() > limits.request_bytes {
        let message = format!("a request body may have {} bytes, not {}", limits.request_bytes, request.body.len());
        return Err(HttpError::new(HttpErrorCode::RequestTooLarge, message));
    }
    Ok(())
}

/// The fields of a response that a script is told.
pub(super) fn response_fields(headers: &HeaderMap, limits: &HttpLimits) -> Result<Fields, HttpError> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers.len() > limits.headers || bytes > limits.header_bytes {
        return Err(HttpError::new(
            HttpErrorCode::ResponseTooLarge,
            format!("a response may have {} header fields of {} bytes in all", limits.headers, limits.header_bytes),
        ));
    }
    let told = headers.iter().filter(|(name, _)| !CONNECTION_FIELDS.contains(&name.as_str()));
    Ok(told
        .map(|(name, value)| (name.to_string(), value.as_bytes().iter().copied().map(char::from).collect()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(rules: &[&str]) -> Vec<AllowRule> {
        rules.iter().map(|rule| rule.parse().unwrap()).collect()
    }

    #[test]
    fn urls_are_judged_by_what_they_mean() {
        use HttpErrorCode::{InvalidRequest, NotAllowed};
        let allowed =
            rules(&["api.example.com", "http://api.example.com", "http://127.0.0.1", "http://[::ffff:127.0.0.1]"]);
        for (url, outcome) in [
            ("https://api.example.com/a?b#c", Ok("https://api.example.com/a?b")),
            ("HTTPS://API.example.com:443", Ok("https://api.example.com/")),
            ("https:\\\\api.example.com\\x", Ok("https://api.example.com/x")),
            ("https://api.example.com@evil.org/", Err(InvalidRequest)),
            ("https://evil.org@api.example.com/", Err(InvalidRequest)),
            ("https://evil.org\\@api.example.com/", Err(NotAllowed)),
            ("https://evil.org#@api.example.com/", Err(NotAllowed)),
            ("https://evil.org/?https://api.example.com/", Err(NotAllowed)),
            ("https://api.example.com.evil.org/", Err(NotAllowed)),
            ("https://api.example.com:444/", Err(NotAllowed)),
            ("file:///etc/passwd", Err(InvalidRequest)),
            ("gopher://api.example.com/", Err(InvalidRequest)),
            ("/relative", Err(InvalidRequest)),
            ("", Err(InvalidRequest)),
            // Allowed by name, but not public.
            ("http://127.0.0.1/", Err(NotAllowed)),
            ("http://2130706433/", Err(NotAllowed)),
            ("http://0177.0.0.1/", Err(NotAllowed)),
            ("http://0x7f000001/", Err(NotAllowed)),
            ("http://127.1/", Err(NotAllowed)),
            ("http://[::ffff:127.0.0.1]/", Err(NotAllowed)),
            ("http://[::ffff:7f00:1]/", Err(NotAllowed)),
        ] {
            let judged = target(url, &allowed, &[]);
            assert_eq!(judged.as_ref().map(Url::as_str).map_err(|error| error.code), outcome, "{url}");
        }
        assert!(target(&format!("https://api.example.com/{}", "a".repeat(9000)), &allowed, &[]).is_err());
    }

    #[test]
    fn fields_cannot_smuggle_others() {
        let limits = HttpLimits::default();
        let read = |name: &str, value: &str| headers(&vec![(name.to_owned(), value.to_owned())], &limits);
        for (name, value) in [
            ("X-A", "b\r\nX-B: c"),
            ("X-A", "b\nc"),
            ("X-A", "b\0c"),
            ("X-A: b\r\nX-B", "c"),
            ("X A", "b"),
            ("", "b"),
            ("X-A", "\u{100}"),
        ] {
            assert_eq!(read(name, value).unwrap_err().code, HttpErrorCode::InvalidRequest, "{name:?} {value:?}");
        }
        for name in
            ["Host", "Content-Length", "Transfer-Encoding", "Connection", "Proxy-Authorization", "TE", "Upgrade"]
        {
            assert!(read(name, "1").unwrap().is_empty(), "{name}");
        }
        assert_eq!(read("X-A", "\u{e9}").unwrap()["x-a"].as_bytes(), [0xe9]);
        assert!(headers(&vec![("a".to_owned(), String::new()); 101], &limits).is_err());
        assert!(read("a", &"x".repeat(70_000)).is_err());
    }

    #[test]
    fn tunnels_and_echoes_are_no_methods() {
        for (text, sent) in [
            ("GET", true),
            ("PATCH", true),
            ("PROPFIND", true),
            ("CONNECT", false),
            ("TRACE", false),
            ("G T", false),
            ("", false),
        ] {
            assert_eq!(method(text).is_ok(), sent, "{text}");
        }
    }
}
