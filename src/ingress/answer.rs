//! A handler's response as HTTP. Which header fields it may have is checked before (see `invoke`).

use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use crate::{
    domain::{
        exchange::{HandlerBody, HandlerResponse},
        names::InvocationId,
        shown,
    },
    invoke::{Answer, RowStream},
    problem::InvalidResponse,
};

/// Says which version of a script answered.
const VERSION: HeaderName = HeaderName::from_static("x-script-version");

/// Builds the response. With `without_body`, for HEAD: what GET would say, without its body.
pub(super) fn respond(answer: Answer, id: InvocationId, without_body: bool) -> Result<Response<Body>, InvalidResponse> {
    let Answer { response: HandlerResponse { status, headers, body }, version } = answer;
    let status = StatusCode::from_u16(status).map_err(|_| InvalidResponse(format!("status {status}")))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let fields = response.headers_mut();
    for (name, value) in &headers {
        let (name, value) = field(name, value)?;
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

fn field(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), InvalidResponse> {
    let field = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_bytes(value.as_bytes()).ok());
    field.ok_or_else(|| InvalidResponse(format!("header field `{}`", shown(name))))
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
        let response = answer(201, &[("X-A", "b"), ("x-a", "c"), ("set-cookie", "a=b")]).unwrap();
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
}
