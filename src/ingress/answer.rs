//! A handler's response as HTTP.

use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use crate::{
    domain::{
        exchange::{HandlerBody, HandlerResponse},
        names::InvocationId,
        people::SESSION_COOKIE,
        shown,
    },
    invoke::{Answer, RowStream},
    problem::InvalidResponse,
};

/// Header fields in a response, at most.
const HEADERS_MAX: usize = 100;

/// Fields that belong to a connection, or that the host computes: a handler may not set them.
const RESERVED: [HeaderName; 9] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("x-request-id"),
];

/// Says which version of a script answered.
const VERSION: HeaderName = HeaderName::from_static("x-script-version");

/// Builds the response. With `without_body`, for HEAD: what GET would say, without its body.
pub(super) fn respond(answer: Answer, id: InvocationId, without_body: bool) -> Result<Response<Body>, InvalidResponse> {
    let Answer { response: HandlerResponse { status, headers, body }, version } = answer;
    // Below 200 are answers that do not end a request: a guest that was tampered with could hold up its connection.
    if !(200..=599).contains(&status) {
        return Err(InvalidResponse(format!("status {status}")));
    }
    let status = StatusCode::from_u16(status).map_err(|_| InvalidResponse(format!("status {status}")))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let fields = response.headers_mut();
    if headers.len() > HEADERS_MAX {
        return Err(InvalidResponse(format!("{} fields; at most {HEADERS_MAX} are allowed", headers.len())));
    }
    for (name, value) in &headers {
        let (name, value) = checked(name, value)?;
        fields.append(name, value);
    }
    fields.entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    fields.insert(VERSION, HeaderValue::from(version));
    let bodiless = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    let length = match &body {
        HandlerBody::Bytes(bytes) if !bodiless => Some(bytes.len()),
        HandlerBody::Bytes(_) | HandlerBody::Rows(_) => None,
    };
    if let Some(length) = length {
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if !without_body && !bodiless {
        *response.body_mut() = match body {
            HandlerBody::Bytes(bytes) => Body::from(bytes),
            HandlerBody::Rows(rows) => Body::from_stream(logged(rows, id)),
        };
    }
    Ok(response)
}

/// Rows that end in an error break the connection off, so that no caller takes them for complete; the log has the reason.
fn logged(rows: RowStream, id: InvocationId) -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> {
    rows.map(move |piece| {
        piece.map_err(|error| {
            tracing::warn!(invocation.id = %id, %error, "streaming rows to a caller ended early");
            std::io::Error::other(error)
        })
    })
}

fn checked(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), InvalidResponse> {
    let shown = shown(name);
    let refuse = |why: &str| InvalidResponse(format!("`{shown}` {why}"));
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refuse("is no header name"))?;
    let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| refuse("has a value with control characters"))?;
    if RESERVED.contains(&name) {
        return Err(refuse("is the host's to set"));
    }
    if name == header::SET_COOKIE && is_session(&value) {
        return Err(refuse("sets a cookie that is the host's"));
    }
    if name == header::SET_COOKIE && has_domain(&value) {
        return Err(refuse("has a Domain: a cookie of a handler is for its own host only"));
    }
    Ok((name, value))
}

fn is_session(cookie: &HeaderValue) -> bool {
    let name = cookie.as_bytes().split(|byte| *byte == b'=').next().unwrap_or_default();
    name.trim_ascii().eq_ignore_ascii_case(SESSION_COOKIE.as_bytes())
}

fn has_domain(cookie: &HeaderValue) -> bool {
    let attributes = cookie.as_bytes().split(|byte| *byte == b';').skip(1);
    attributes.into_iter().any(|attribute| {
        let name = attribute.split(|byte| *byte == b'=').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"domain")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)]) -> Result<Response<Body>, InvalidResponse> {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let body = HandlerBody::Bytes(Bytes::from_static(b"abc"));
        respond(
            Answer { response: HandlerResponse { status, headers, body }, version: 3 },
            InvocationId::generate(),
            false,
        )
    }

    #[test]
    fn keeps_a_handlers_fields_and_adds_the_hosts() {
        let response = answer(201, &[("X-A", "b"), ("x-a", "c"), ("set-cookie", "a=domain; Path=/")]).unwrap();
        let all: Vec<_> = response.headers().get_all("x-a").iter().collect();
        assert_eq!(all, ["b", "c"]);
        for (name, value) in [("content-length", "3"), ("x-content-type-options", "nosniff"), ("x-script-version", "3")]
        {
            assert_eq!(response.headers()[name], value);
        }
    }

    #[test]
    fn no_body_has_no_length() {
        assert!(!answer(204, &[]).unwrap().headers().contains_key("content-length"));
    }

    #[test]
    fn refuses_fields_that_are_not_a_handlers_to_set() {
        for (name, value) in [
            ("content-length", "5"),
            ("Transfer-Encoding", "chunked"),
            ("connection", "close"),
            ("x-request-id", "mine"),
            ("a b", "c"),
            ("", "c"),
            ("x-a", "b\r\nx-b: c"),
            ("x-a", "b\0"),
            ("set-cookie", "a=b; Domain=example.com"),
            ("set-cookie", "a=b; domain =example.com"),
        ] {
            assert!(answer(200, &[(name, value)]).is_err(), "{name}: {value}");
        }
        assert!(answer(200, &vec![("x-a", "b"); HEADERS_MAX + 1]).is_err());
        for status in [0, 99, 100, 101, 199, 600, 999, 1000] {
            assert!(answer(status, &[]).is_err(), "{status}");
        }
    }
}
