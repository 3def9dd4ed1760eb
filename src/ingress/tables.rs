//! A table's rows over HTTP: `?status=eq.open&order=-created&limit=50`.
//!
//! Owns: what a request's query fields mean, cursors, JSON and CSV. Never: SQL (see `data`), limits (see `invoke`).

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, header, request::Parts};
use serde_json::value::RawValue;

use crate::{
    domain::{endpoint::TableSource, exchange::Caller, names::InvocationId, page::PageQuery, sql::Column},
    ingress::{
        Failure, Ingress, Routed,
        tables::{cursor::next_cursor, read::read},
    },
    invoke::tables::{Page, PageRoom, TableCall, TableError},
};

mod cursor;
mod read;

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
        let query = parts.uri.query().unwrap_or_default();
        let read = |known| read(source, known, query, &route.path_params, &parts.headers);
        let (page, query, form) = self.invoker.read_page(&call, read).await.map_err(Failure::Table)?;
        let target = parts.uri.clone();
        // Writing CSV, or looking for the last row, takes a while for a large page.
        let responding = tokio::task::spawn_blocking(move || respond(page, &query, form, &target, without_body));
        responding.await?.map_err(Failure::Table)
    }
}

/// How a page is to be answered.
#[derive(Debug, Clone, Copy)]
struct Form {
    format: Format,
    /// Whether further pages have addresses: the order tells all rows apart.
    has_pages: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Csv,
}

/// The response for a page.
fn respond(
    page: Page,
    query: &PageQuery,
    Form { format, has_pages }: Form,
    target: &http::Uri,
    without_body: bool,
) -> Result<Response<Body>, TableError> {
    let next = if has_pages { next_cursor(&page, query)? } else { None };
    let (body, kind) = match format {
        Format::Json => (page.rows, HeaderValue::from_static("application/json")),
        Format::Csv => (to_csv(&page.columns, &page.rows)?, HeaderValue::from_static("text/csv; charset=utf-8")),
    };
    let mut response = Response::new(Body::empty());
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, kind);
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    fields.insert(header::VARY, HeaderValue::from_static("accept"));
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(total) = page.total {
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
        *response.body_mut() = Body::from(Bytes::from_owner(Held { body, _room: page.room }));
    }
    Ok(response)
}

/// A body that gives its room back when the connection has taken the last of it.
struct Held {
    body: Bytes,
    _room: Option<PageRoom>,
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

/// A header line and a line for each row (RFC 4180). NULL is empty; lists and objects are JSON.
fn to_csv(columns: &[Column], rows: &[u8]) -> Result<Bytes, TableError> {
    let rows: Vec<HashMap<Cow<'_, str>, &RawValue>> = serde_json::from_slice(rows).map_err(|error| misread(&error))?;
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    let failed = |error: csv::Error| TableError::Misconfigured(error.to_string());
    writer.write_record(columns.iter().map(|column| column.name.as_str())).map_err(failed)?;
    for row in rows {
        let cells: Result<Vec<_>, _> = columns.iter().map(|column| cell(row.get(column.name.as_str()))).collect();
        writer.write_record(cells?.iter().map(|cell| cell.as_ref())).map_err(failed)?;
    }
    let bytes = writer.into_inner().map_err(|error| TableError::Misconfigured(error.to_string()))?;
    Ok(bytes.into())
}

fn cell<'a>(value: Option<&&'a RawValue>) -> Result<Cow<'a, str>, TableError> {
    Ok(match value.map(|raw| raw.get()) {
        None | Some("null") => Cow::Borrowed(""),
        Some(text) if text.starts_with('"') => {
            serde_json::from_str::<String>(text).map_err(|error| misread(&error))?.into()
        }
        Some(text) => Cow::Borrowed(text),
    })
}

fn invalid(message: String) -> TableError {
    TableError::Invalid(message)
}

fn misread(error: &serde_json::Error) -> TableError {
    TableError::Misconfigured(format!("the rows cannot be read back: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sql::ColumnKind;

    #[test]
    fn the_next_address_keeps_what_was_asked() {
        let next = |target: &str| with_cursor(&target.parse().unwrap(), "c");
        assert_eq!(next("/acme/orders"), "/acme/orders?cursor=c");
        assert_eq!(next("/acme/orders?a=eq.1&cursor=b&limit=5"), "/acme/orders?a=eq.1&limit=5&cursor=c");
    }

    #[test]
    fn csv_keeps_what_json_says() {
        let column = |name: &str| Column { name: name.to_owned(), kind: ColumnKind::Plain };
        let rows = br#"[{"a":"x,\"y\"\n","b":null,"c":1.50},{"a":"","b":{"k":[1]},"c":true}]"#;
        let csv = to_csv(&[column("a"), column("b"), column("c")], rows).unwrap();
        assert_eq!(&csv[..], b"a,b,c\r\n\"x,\"\"y\"\"\n\",,1.50\r\n,\"{\"\"k\"\":[1]}\",true\r\n");
    }
}
