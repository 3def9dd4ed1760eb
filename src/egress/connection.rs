//! HTTP connections: an API whose address and credentials scripts use without seeing them.
//!
//! Owns: what is sealed, and what a script's request becomes. Never: lets a request leave the connection's own URL.
//! Invariant: no error and no `Debug` text shows a credential.

use std::{borrow::Cow, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::Zeroizing;

use crate::{
    domain::{
        egress::AllowRule,
        http::{HttpError, HttpErrorCode, HttpRequest},
        limits::HttpLimits,
    },
    egress::prepare,
};

/// Header fields of one connection.
const HEADERS_MAX: usize = 16;

/// An API as an operator describes it.
pub struct HttpConnection {
    /// Ends in `/`.
    base: Url,
    headers: Vec<(String, Zeroizing<String>)>,
}

/// What the vault seals.
#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    url: Cow<'a, str>,
    headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// Why a URL and header fields are no HTTP connection. Says what is wrong without repeating any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHttpConnection {
    /// Not http, https, or not a URL at all.
    #[error("the connection URL must be `https://HOST/...` or `http://HOST/...`")]
    Url,
    /// A base URL with parameters.
    #[error("the connection URL may have no `?` or `#`")]
    Parameters,
    /// The user or password is not UTF-8 once decoded.
    #[error("the connection URL's user or password is not valid text")]
    Text,
    /// Not of the form `Name: value`, or too many.
    #[error("a header must be `Name: value`, without line breaks, and there may be {HEADERS_MAX} at most")]
    Header,
    /// The sealed text was not made by `to_sealed_text`.
    #[error("the stored HTTP connection cannot be read")]
    Sealed,
}

impl HttpConnection {
    /// Whether a connection URL is one of HTTP.
    #[must_use]
    pub fn is_http(url: &str) -> bool {
        url.starts_with("http://") || url.starts_with("https://")
    }

    /// From a URL, whose user and password become a Basic `Authorization`, and lines `Name: value`.
    ///
    /// # Errors
    /// Names what is wrong, without any part of it.
    pub fn new<'a>(url: &str, lines: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidHttpConnection> {
        let mut base = Url::parse(url).map_err(|_| InvalidHttpConnection::Url)?;
        if AllowRule::of_url(&base).is_err() {
            return Err(InvalidHttpConnection::Url);
        }
        if base.query().is_some() || base.fragment().is_some() {
            return Err(InvalidHttpConnection::Parameters);
        }
        let mut headers = Vec::new();
        if !base.username().is_empty() || base.password().is_some() {
            let decode = |text| percent_decode_str(text).decode_utf8().map_err(|_| InvalidHttpConnection::Text);
            let pair = Zeroizing::new(format!(
                "{}:{}",
                decode(base.username())?,
                decode(base.password().unwrap_or_default())?
            ));
            let value = format!("Basic {}", STANDARD.encode(pair.as_bytes()));
            headers.push(("authorization".to_owned(), Zeroizing::new(value)));
            let cleared = base.set_username("").and(base.set_password(None));
            cleared.map_err(|()| InvalidHttpConnection::Url)?;
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        for line in lines.into_iter().filter(|line| !line.trim().is_empty()) {
            let (name, value) = line.split_once(':').ok_or(InvalidHttpConnection::Header)?;
            headers.push((name.trim().to_ascii_lowercase(), Zeroizing::new(value.trim().to_owned())));
        }
        let fields = headers.iter().map(|(name, value)| (name.clone(), value.to_string())).collect();
        let sent = prepare::headers(&fields, &HttpLimits::default()).map_err(|_| InvalidHttpConnection::Header)?;
        if headers.len() > HEADERS_MAX || sent.len() != headers.len() {
            return Err(InvalidHttpConnection::Header);
        }
        Ok(Self { base, headers })
    }

    /// What the vault seals.
    #[must_use]
    pub fn to_sealed_text(&self) -> Zeroizing<String> {
        let headers = self.headers.iter().map(|(name, value)| (name.into(), value.as_str().into())).collect();
        let sealed = Sealed { url: self.base.as_str().into(), headers };
        Zeroizing::new(serde_json::to_string(&sealed).expect("text is always JSON"))
    }

    /// Back from [`to_sealed_text`](Self::to_sealed_text).
    ///
    /// # Errors
    /// If it is anything else.
    pub fn from_sealed_text(text: &str) -> Result<Self, InvalidHttpConnection> {
        let Sealed { url, headers } = serde_json::from_str(text).map_err(|_| InvalidHttpConnection::Sealed)?;
        let base = Url::parse(&url).map_err(|_| InvalidHttpConnection::Sealed)?;
        let headers =
            headers.into_iter().map(|(name, value)| (name.into_owned(), Zeroizing::new(value.into_owned()))).collect();
        Ok(Self { base, headers })
    }

    /// What the connection itself may call, whatever the tenant's allow-list says.
    pub(super) fn rule(&self) -> Result<AllowRule, HttpError> {
        AllowRule::of_url(&self.base).map_err(|error| HttpError::new(HttpErrorCode::InvalidRequest, error.to_string()))
    }

    /// A script's request, aimed below the connection's URL and with its credentials.
    ///
    /// # Errors
    /// If its path leads anywhere else.
    pub(super) fn aim(&self, mut request: HttpRequest) -> Result<HttpRequest, HttpError> {
        let elsewhere = || {
            let message = "the path leads out of the connection's own URL; call other hosts with `requests`";
            HttpError::new(HttpErrorCode::NotAllowed, message)
        };
        // A full URL is common in `next` links of an API.
        let url = if Self::is_http(&request.url) {
            Url::parse(&request.url)
        } else {
            Url::parse(&format!("{}{}", self.base, request.url.trim_start_matches('/')))
        };
        let url = url.map_err(|_| elsewhere())?;
        let below = url.origin() == self.base.origin()
            && (url.path().starts_with(self.base.path()) || format!("{}/", url.path()) == self.base.path());
        // To the server behind, an encoded slash may be a slash, and what it separates a step up.
        let decoded = percent_decode_str(url.path()).decode_utf8_lossy();
        if !below || decoded.split(['/', '\\']).any(|segment| segment == "..") {
            return Err(elsewhere());
        }
        request.url = url.into();
        request.headers.retain(|(name, _)| !self.headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name)));
        request.headers.extend(self.headers.iter().map(|(name, value)| (name.clone(), value.to_string())));
        Ok(request)
    }
}

impl fmt::Debug for HttpConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpConnection(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> HttpConnection {
        HttpConnection::new("https://api.example.com/v1", ["Authorization: Bearer hunter2"]).unwrap()
    }

    #[test]
    fn a_request_stays_below_the_connections_url_and_cannot_replace_its_credentials() {
        for (path, url) in [
            ("contacts/5", Some("https://api.example.com/v1/contacts/5")),
            ("/contacts?a=b", Some("https://api.example.com/v1/contacts?a=b")),
            ("", Some("https://api.example.com/v1/")),
            ("https://api.example.com/v1/next?page=2", Some("https://api.example.com/v1/next?page=2")),
            ("../admin", None),
            ("a/../../admin", None),
            ("%2e%2e/admin", None),
            ("a/%2E./b", Some("https://api.example.com/v1/b")),
            ("a/%2E./%2e%2E/b", None),
            ("..%2fadmin", None),
            ("..%5Cadmin", None),
            ("projects/a%2fb", Some("https://api.example.com/v1/projects/a%2fb")),
            ("..\\admin", None),
            ("https://api.example.com/v2", None),
            ("https://api.example.com.evil.org/v1/", None),
            ("https://api.example.com@evil.org/v1/", None),
            ("http://api.example.com/v1/", None),
            ("https://api.example.com:444/v1/", None),
            ("//evil.org/v1", Some("https://api.example.com/v1/evil.org/v1")),
        ] {
            let headers = vec![("AUTHORIZATION".to_owned(), "mine".to_owned()), ("x-a".to_owned(), "b".to_owned())];
            let aimed = connection().aim(HttpRequest { url: path.to_owned(), headers, ..HttpRequest::default() });
            assert_eq!(aimed.as_ref().ok().map(|request| request.url.as_str()), url, "{path}");
            if let Ok(request) = aimed {
                let expected = [("x-a", "b"), ("authorization", "Bearer hunter2")];
                assert!(request.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).eq(expected), "{path}");
            }
        }
    }

    #[test]
    fn a_connection_survives_sealing_and_shows_nothing() {
        let made = HttpConnection::new("https://al%40ice:hunter2@api.example.com", ["X-Key:  k  "]).unwrap();
        let text = made.to_sealed_text();
        let back = HttpConnection::from_sealed_text(&text).unwrap();
        assert_eq!(back.base.as_str(), "https://api.example.com/");
        let headers: Vec<_> = back.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(headers, [("authorization", "Basic YWxAaWNlOmh1bnRlcjI="), ("x-key", "k")]);
        assert_eq!(format!("{back:?}"), "HttpConnection(..)");
    }

    #[test]
    fn what_is_wrong_is_named_without_a_credential() {
        for (url, header) in [
            ("postgres://u:hunter2@h/d", "A: b"),
            ("https://", "A: b"),
            ("https://h/?hunter2", "A: b"),
            ("https://h/", "hunter2"),
            ("https://h/", "A: hunter2\r\nB: c"),
            ("https://h/", "Host: hunter2"),
        ] {
            let error = HttpConnection::new(url, [header]).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }
}
