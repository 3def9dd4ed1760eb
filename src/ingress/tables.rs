//! A table's rows over HTTP: `?status=eq.open&order=-created&limit=50`.
//!
//! Owns: what a request's query fields mean, cursors, the response. Never: SQL and rows (see `data`), limits (see `invoke`).

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, header, request::Parts};
use url::form_urlencoded;

use crate::{
    data::PageFormat,
    domain::{endpoint::TableSource, exchange::Caller, names::InvocationId, shown},
    ingress::{
        Failure, Ingress, Routed,
        tables::{
            cursor::next_cursor,
            read::{Asked, read},
        },
    },
    invoke::tables::{Page, PageRoom, TableCall, TableError},
};

mod cursor;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod read;

pub(super) use crate::ingress::tables::read::field_of;

const NEXT_CURSOR: HeaderName = HeaderName::from_static("x-next-cursor");
const TOTAL_COUNT: HeaderName = HeaderName::from_static("x-total-count");

impl Ingress {
    /// Answers with rows. With `without_body`, for HEAD: what GET would say, without its body.
    pub(super) async fn rows(
        &self,
        source: &TableSource,
        route: &Routed,
        parts: &Parts,
        caller: &Caller,
        (id, without_body): (InvocationId, bool),
    ) -> Result<Response<Body>, Failure> {
        let call = TableCall {
            routes: Arc::clone(&route.routes),
            endpoint: route.endpoint.id,
            source: source.clone(),
            rows: caller.rows().cloned(),
            limits: route.endpoint.limits,
            request_id: id,
            method: parts.method.as_str().to_owned(),
            path: route.path.clone(),
        };
        let table = self.invoker.open_table(call).await.map_err(Failure::Table)?;
        let query_string = parts.uri.query().unwrap_or_default();
        let asked = match read(source, table.columns(), query_string, &route.path_params, &parts.headers) {
            Ok(asked) => asked,
            Err(error) => return Err(Failure::Table(table.refuse(error))),
        };
        let page = table.read(&asked.query, asked.format).await;
        let page = page.map_err(|error| Failure::Table(with_hint(error, query_string)))?;
        respond(page, &asked, source, &parts.uri, without_body).map_err(Failure::Table)
    }
}

/// The response for a page.
fn respond(
    page: Page,
    asked: &Asked,
    source: &TableSource,
    target: &http::Uri,
    without_body: bool,
) -> Result<Response<Body>, TableError> {
    let Page { rows, total, room } = page;
    let next = if asked.has_pages { next_cursor(&rows, &asked.query, source)? } else { None };
    let (body, kind) = match asked.format {
        PageFormat::Json => (rows.bytes, HeaderValue::from_static("application/json")),
        PageFormat::Csv => (rows.bytes, HeaderValue::from_static("text/csv; charset=utf-8")),
    };
    let mut response = Response::new(Body::empty());
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, kind);
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    fields.insert(header::VARY, HeaderValue::from_static("accept"));
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(total) = total {
        fields.insert(TOTAL_COUNT, HeaderValue::from(total));
    }
    if let Some(cursor) = next {
        let link = format!("<{}>; rel=\"next\"", with_cursor(target, &cursor));
        if let (Ok(cursor), Ok(link)) = (HeaderValue::from_str(&cursor), HeaderValue::from_str(&link)) {
            fields.insert(NEXT_CURSOR, cursor);
            fields.insert(header::LINK, link);
        }
    }
    if !without_body {
        *response.body_mut() = Body::from(Bytes::from_owner(Held { body, _room: room }));
    }
    Ok(response)
}

/// A body that gives its room back when the connection has taken the last of it.
struct Held {
    body: Bytes,
    _room: PageRoom,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

/// The address of the next page, relative to the host.
fn with_cursor(target: &http::Uri, cursor: &str) -> String {
    let kept = target.query().unwrap_or_default().split('&');
    let kept: Vec<_> = kept.filter(|field| !field.is_empty() && !field.starts_with("cursor=")).collect();
    let separator = if kept.is_empty() { "" } else { "&" };
    format!("{}?{}{separator}cursor={cursor}", target.path(), kept.join("&"))
}

/// Says of a condition that was refused that a `+` is no plus in an address, if it has one.
fn with_hint(error: TableError, query_string: &str) -> TableError {
    let TableError::Invalid(message) = error else { return error };
    let is_refused = |field: &&str| {
        let name = form_urlencoded::parse(field.as_bytes()).next().map(|(name, _)| name).unwrap_or_default();
        message.contains(&format!("`{}`", shown(&name)))
    };
    let with_plus = query_string.split('&').filter(|field| field.contains('+')).find(is_refused);
    invalid(match with_plus {
        Some(_) => format!("{message}; a `+` in an address is a space: write %2B for a plus"),
        None => message,
    })
}

fn invalid(message: String) -> TableError {
    TableError::Invalid(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_address_keeps_what_was_asked() {
        let next = |target: &str| with_cursor(&target.parse().unwrap(), "c");
        assert_eq!(next("/acme/orders"), "/acme/orders?cursor=c");
        assert_eq!(next("/acme/orders?a=eq.1&cursor=b&limit=5"), "/acme/orders?a=eq.1&limit=5&cursor=c");
    }
}
