//! A table's rows over HTTP: `?status=eq.open&order=-created&limit=50`.
//!
//! Owns: what a request's query fields mean, cursors, JSON and CSV. Never: SQL (see `data`), limits (see `invoke`).

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use axum::body::Body;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header, request::Parts};
use serde_json::{Map, Value, value::RawValue};

use crate::{
    domain::{
        endpoint::TableSource,
        exchange::Caller,
        names::InvocationId,
        page::{Comparison, Condition, OrderBy, PageQuery, PageSource, Test},
        shown,
        sql::Column,
    },
    ingress::{Failure, Ingress, Routed},
    invoke::tables::{Page, PageRoom, SourceColumns, TableCall, TableError},
};

/// Query fields that are no columns.
const RESERVED: [&str; 6] = ["select", "order", "limit", "cursor", "count", "format"];

/// Longest cursor, in bytes.
const CURSOR_BYTES_MAX: usize = 4096;

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

/// Reads a request's query and path fields.
fn read(
    source: &TableSource,
    known: SourceColumns,
    query_string: &str,
    path_params: &[(String, String)],
    headers: &HeaderMap,
) -> Result<(PageQuery, Form), TableError> {
    let SourceColumns { visible, key, parameters } = known;
    let check = |column: &str| match &visible {
        Some(visible) if !visible.iter().any(|known| known == column) => {
            Err(invalid(format!("there is no column `{}`", shown(column))))
        }
        Some(_) | None => Ok(()),
    };
    let mut asked = Fields::default();
    let mut values = Map::new();
    let mut conditions = Vec::new();
    for (name, value) in url::form_urlencoded::parse(query_string.as_bytes()) {
        if name.contains('\0') || value.contains('\0') {
            return Err(invalid(format!("`{}` has a NUL character", shown(&name))));
        }
        if parameters.iter().any(|known| *known == name) {
            values.insert(name.into_owned(), Value::from(&*value));
        } else if RESERVED.contains(&&*name) {
            asked.set(&name, value.into_owned())?;
        } else {
            check(&name)?;
            conditions.push(Condition { test: read_test(&name, &value)?, column: name.into_owned() });
        }
    }
    for (name, value) in path_params {
        if parameters.contains(name) {
            values.insert(name.clone(), Value::from(value.as_str()));
        } else {
            check(name)?;
            let test = Test::Compare(Comparison::Equal, value.clone());
            conditions.push(Condition { column: name.clone(), test });
        }
    }
    if let Some(missing) = parameters.iter().find(|name| !values.contains_key(*name)) {
        return Err(invalid(format!("the query field `{}` is missing", shown(missing))));
    }
    let Fields { select, order, limit, cursor, count, format } = asked;
    let is_asked =
        select.is_some() || order.is_some() || !conditions.is_empty() || !values.is_empty() || cursor.is_some();
    let has_pages = !key.is_empty() && key.iter().all(|column| check(column).is_ok());
    let order = read_order(order.as_deref(), if has_pages { &key } else { &[] }, check)?;
    let columns = match select {
        Some(select) => {
            let mut columns: Vec<_> = select.split(',').map(|column| column.trim().to_owned()).collect();
            columns.iter().try_for_each(|column| check(column))?;
            // The next page begins behind their values.
            let missing = order.iter().map(|by| &by.column).filter(|column| !columns.contains(column));
            let missing: Vec<_> = missing.cloned().collect();
            columns.extend(missing);
            Some(columns)
        }
        None => source.columns.clone(),
    };
    let after = match cursor {
        Some(_) if !has_pages => {
            return Err(invalid(
                "there are no further pages: no column that callers see tells all rows apart".to_owned(),
            ));
        }
        Some(cursor) => Some(read_cursor(&cursor, &order)?),
        None => None,
    };
    let page_source = match &source.query {
        Some(sql) => PageSource::Query { sql: sql.clone(), values },
        None => PageSource::Table(source.table_name()),
    };
    let limit = read_limit(limit.as_deref(), source)?;
    let counts = match count.as_deref() {
        None | Some("none") => false,
        Some("exact") => true,
        Some(other) => return Err(invalid(format!("`count` is `exact` or `none`, not `{}`", shown(other)))),
    };
    let format = read_format(format.as_deref(), headers)?;
    let query = PageQuery { source: page_source, columns, conditions, order, after, limit, counts, is_asked };
    Ok((query, Form { format, has_pages }))
}

/// The fields of [`RESERVED`], each once.
#[derive(Debug, Default)]
struct Fields {
    select: Option<String>,
    order: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
    count: Option<String>,
    format: Option<String>,
}

impl Fields {
    fn set(&mut self, name: &str, value: String) -> Result<(), TableError> {
        let field = match name {
            "select" => &mut self.select,
            "order" => &mut self.order,
            "limit" => &mut self.limit,
            "cursor" => &mut self.cursor,
            "count" => &mut self.count,
            _ => &mut self.format,
        };
        match field.replace(value) {
            None => Ok(()),
            Some(_) => Err(invalid(format!("`{name}` stands there twice"))),
        }
    }
}

fn read_test(name: &str, text: &str) -> Result<Test, TableError> {
    let wrong = || {
        let operators = "eq, ne, gt, gte, lt, lte, like, in or is";
        invalid(format!("`{}={}`: write OPERATOR.VALUE with {operators}, for example `eq.5`", shown(name), shown(text)))
    };
    let (operator, value) = text.split_once('.').ok_or_else(wrong)?;
    let compare = |comparison| Ok(Test::Compare(comparison, value.to_owned()));
    match operator {
        "eq" => compare(Comparison::Equal),
        "ne" | "neq" => compare(Comparison::NotEqual),
        "gt" => compare(Comparison::Greater),
        "gte" => compare(Comparison::AtLeast),
        "lt" => compare(Comparison::Less),
        "lte" => compare(Comparison::AtMost),
        "like" => Ok(Test::Like(value.to_owned())),
        "in" => Ok(Test::In(read_list(value).ok_or_else(wrong)?)),
        "is" => match value {
            "null" => Ok(Test::IsNull(true)),
            "not_null" => Ok(Test::IsNull(false)),
            "true" => Ok(Test::Is(true)),
            "false" => Ok(Test::Is(false)),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    }
}

/// `(a,"b,c",d)`: in double quotes a comma is one of the value's, and `""` a quote.
fn read_list(text: &str) -> Option<Vec<String>> {
    let inner = text.strip_prefix('(')?.strip_suffix(')')?;
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(inner.as_bytes());
    let mut records = reader.records();
    let record = match records.next() {
        Some(record) => record.ok()?,
        None => return Some(Vec::new()),
    };
    records.next().is_none().then(|| record.iter().map(str::to_owned).collect())
}

fn read_order(
    order: Option<&str>,
    key: &[String],
    check: impl Fn(&str) -> Result<(), TableError>,
) -> Result<Vec<OrderBy>, TableError> {
    let mut columns: Vec<OrderBy> = Vec::new();
    for text in order.into_iter().flat_map(|order| order.split(',')) {
        let (column, descending) = text.trim().strip_prefix('-').map_or((text.trim(), false), |column| (column, true));
        check(column)?;
        if column.is_empty() || columns.iter().any(|known| known.column == column) {
            return Err(invalid(format!("`order` has `{}` twice, or an empty column", shown(column))));
        }
        columns.push(OrderBy { column: column.to_owned(), descending });
    }
    let missing: Vec<_> = key.iter().filter(|key| !columns.iter().any(|known| known.column == **key)).collect();
    columns.extend(missing.into_iter().map(|key| OrderBy { column: key.clone(), descending: false }));
    Ok(columns)
}

fn read_limit(limit: Option<&str>, source: &TableSource) -> Result<u32, TableError> {
    let Some(text) = limit else { return Ok(source.page_rows) };
    match text.parse::<u32>() {
        Ok(rows) if (1..=source.page_rows_max).contains(&rows) => Ok(rows),
        Ok(_) | Err(_) => {
            Err(invalid(format!("`limit` is a number from 1 to {}, not `{}`", source.page_rows_max, shown(text))))
        }
    }
}

fn read_format(format: Option<&str>, headers: &HeaderMap) -> Result<Format, TableError> {
    match format {
        Some("json") => Ok(Format::Json),
        Some("csv") => Ok(Format::Csv),
        Some(other) => Err(invalid(format!("`format` is `json` or `csv`, not `{}`", shown(other)))),
        None => {
            let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let first = accepted.split([',', ';']).next().unwrap_or_default().trim();
            Ok(if first.eq_ignore_ascii_case("text/csv") { Format::Csv } else { Format::Json })
        }
    }
}

/// The order that a cursor belongs to, as text.
fn order_text(order: &[OrderBy]) -> String {
    let column = |by: &OrderBy| format!("{}{}", if by.descending { "-" } else { "" }, by.column);
    order.iter().map(column).collect::<Vec<_>>().join(",")
}

fn read_cursor(cursor: &str, order: &[OrderBy]) -> Result<Vec<Value>, TableError> {
    let garbage = || invalid("`cursor` is none: take it from the page before, with the same `order`".to_owned());
    if cursor.len() > CURSOR_BYTES_MAX {
        return Err(garbage());
    }
    let json = BASE64_URL_SAFE_NO_PAD.decode(cursor).map_err(|_| garbage())?;
    let (of, values): (String, Vec<Value>) = serde_json::from_slice(&json).map_err(|_| garbage())?;
    let is_plain = |value: &Value| !matches!(value, Value::Array(_) | Value::Object(_));
    if of != order_text(order) || values.len() != order.len() || order.is_empty() || !values.iter().all(is_plain) {
        return Err(garbage());
    }
    Ok(values)
}

/// The cursor of the page behind this one, if there may be one.
fn next_cursor(page: &Page, query: &PageQuery) -> Result<Option<String>, TableError> {
    if page.n_rows < u64::from(query.limit) {
        return Ok(None);
    }
    let rows: Vec<&RawValue> = serde_json::from_slice(&page.rows).map_err(|error| misread(&error))?;
    let Some(last) = rows.last() else { return Ok(None) };
    let last: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_str(last.get()).map_err(|error| misread(&error))?;
    let mut values = Vec::with_capacity(query.order.len());
    for OrderBy { column, .. } in &query.order {
        let value = last.get(column.as_str());
        let missing = || TableError::Misconfigured(format!("the rows have no column `{}`", shown(column)));
        values.push(exact(value.ok_or_else(missing)?)?);
    }
    let json = serde_json::to_vec(&(order_text(&query.order), values)).map_err(|error| misread(&error))?;
    let cursor = BASE64_URL_SAFE_NO_PAD.encode(json);
    if cursor.len() > CURSOR_BYTES_MAX {
        let columns = order_text(&query.order);
        return Err(invalid(format!(
            "the last row is too long to begin a page behind it: order by less than `{columns}`"
        )));
    }
    Ok(Some(cursor))
}

/// A value that is equal to the column's: a number that JSON's numbers do not hold stays text.
fn exact(raw: &RawValue) -> Result<Value, TableError> {
    let value: Value = serde_json::from_str(raw.get()).map_err(|error| misread(&error))?;
    Ok(match value {
        Value::Number(number) if number.is_f64() && number.to_string() != raw.get() => Value::from(raw.get()),
        value => value,
    })
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
    use serde_json::json;

    use super::*;

    fn source(source: Value) -> TableSource {
        serde_json::from_value(source).unwrap()
    }

    fn columns_of(names: &[&str]) -> SourceColumns {
        let visible = Some(names.iter().map(|name| (*name).to_owned()).collect());
        SourceColumns { visible, key: vec!["id".to_owned()], parameters: Vec::new() }
    }

    fn asked(query: &str) -> Result<(PageQuery, Form), TableError> {
        let source = source(json!({"connection": "dw", "table": "orders"}));
        read(&source, columns_of(&["id", "status", "total"]), query, &[], &HeaderMap::new())
    }

    #[test]
    fn a_request_is_read_as_it_is_meant() {
        let query = "status=eq.open&total=gte.1.5&id=in.(1,%22a,%22%22b%22,)&status=is.not_null&order=-total&limit=7\
                     &select=id,%20total&count=exact";
        let (query, form) = asked(query).unwrap();
        assert!(query.counts && query.is_asked && form.has_pages && form.format == Format::Json && query.limit == 7);
        let tests: Vec<_> = query.conditions.iter().map(|condition| (&*condition.column, &condition.test)).collect();
        assert_eq!(
            tests,
            [
                ("status", &Test::Compare(Comparison::Equal, "open".to_owned())),
                ("total", &Test::Compare(Comparison::AtLeast, "1.5".to_owned())),
                ("id", &Test::In(vec!["1".to_owned(), "a,\"b".to_owned(), String::new()])),
                ("status", &Test::IsNull(false)),
            ]
        );
        assert_eq!(order_text(&query.order), "-total,id", "the key tells equal rows apart");
        assert_eq!(query.columns, Some(vec!["id".to_owned(), "total".to_owned()]));
    }

    #[test]
    fn garbage_is_told_by_name() {
        for (query, part) in [
            ("status=open", "`status=open`"),
            ("status=foo.1", "eq, ne"),
            ("status=is.maybe", "`status=is.maybe`"),
            ("id=in.1,2", "`id=in.1,2`"),
            ("id=in.(1\n2)", "in."),
            ("secret=eq.1", "no column `secret`"),
            ("select=id,secret", "no column `secret`"),
            ("select=", "no column ``"),
            ("order=secret", "no column `secret`"),
            ("order=id,-id", "twice"),
            ("limit=0", "1 to 1000"),
            ("limit=1001", "1 to 1000"),
            ("limit=-1", "1 to 1000"),
            ("limit=1&limit=2", "twice"),
            ("count=maybe", "`exact` or `none`"),
            ("format=xml", "`json` or `csv`"),
            ("cursor=%F0%9F", "`cursor`"),
            ("cursor=AAAA", "`cursor`"),
            ("status=eq.%00", "NUL"),
        ] {
            let error = asked(query).unwrap_err();
            assert!(matches!(error, TableError::Invalid(_)) && error.to_string().contains(part), "{query}: {error}");
        }
    }

    #[test]
    fn a_cursor_is_good_for_its_own_order_and_keeps_numbers_exact() {
        let (query, _) = asked("order=-total&limit=2").unwrap();
        let rows =
            Bytes::from_static(br#"[{"id":1,"total":2},{"id":9007199254740993,"total":0.10000000000000000001}]"#);
        let page = Page { columns: Vec::new(), rows, n_rows: 2, total: None, room: None };
        let cursor = next_cursor(&page, &query).unwrap().unwrap();
        let values = read_cursor(&cursor, &query.order).unwrap();
        assert_eq!(values, [json!("0.10000000000000000001"), json!(9_007_199_254_740_993_i64)]);
        assert!(read_cursor(&cursor, &asked("order=total").unwrap().0.order).is_err());
        let crafted = |json: Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
        for crafted in [
            crafted(json!(["-total,id", [1]])),
            crafted(json!(["-total,id", [1, {"a": 1}]])),
            crafted(json!(["-total,id", 1])),
            crafted(json!({"a": 1})),
            "A".repeat(CURSOR_BYTES_MAX + 1),
        ] {
            assert!(read_cursor(&crafted, &query.order).is_err(), "{crafted}");
        }
        let short = Page { n_rows: 1, ..page };
        assert_eq!(next_cursor(&short, &query).unwrap(), None, "it was the last page");
    }

    #[test]
    fn a_page_has_the_columns_of_its_order_and_no_further_pages_without_a_visible_key() {
        let (query, _) = asked("select=total&order=status").unwrap();
        let columns = ["total", "status", "id"].map(str::to_owned);
        assert_eq!(query.columns.as_deref(), Some(&columns[..]));
        let source = source(json!({"connection": "dw", "table": "orders", "columns": ["status"]}));
        let read = |query: &str| read(&source, columns_of(&["status"]), query, &[], &HeaderMap::new());
        let (query, form) = read("order=status").unwrap();
        assert!(!form.has_pages && order_text(&query.order) == "status");
        assert!(read("cursor=AAAA").unwrap_err().to_string().contains("no further pages"));
        assert!(!read("").unwrap().0.is_asked, "what the endpoint says is not the caller's");
    }

    #[test]
    fn the_next_address_keeps_what_was_asked() {
        let next = |target: &str| with_cursor(&target.parse().unwrap(), "c");
        assert_eq!(next("/acme/orders"), "/acme/orders?cursor=c");
        assert_eq!(next("/acme/orders?a=eq.1&cursor=b&limit=5"), "/acme/orders?a=eq.1&limit=5&cursor=c");
    }

    #[test]
    fn csv_keeps_what_json_says() {
        let column = |name: &str| Column { name: name.to_owned(), kind: crate::domain::sql::ColumnKind::Plain };
        let rows = br#"[{"a":"x,\"y\"\n","b":null,"c":1.50},{"a":"","b":{"k":[1]},"c":true}]"#;
        let csv = to_csv(&[column("a"), column("b"), column("c")], rows).unwrap();
        assert_eq!(&csv[..], b"a,b,c\r\n\"x,\"\"y\"\"\n\",,1.50\r\n,\"{\"\"k\"\":[1]}\",true\r\n");
    }

    #[test]
    fn a_querys_placeholders_come_from_the_address() {
        let source = source(json!({"connection": "dw", "query": "SELECT 1 WHERE :since < 1"}));
        let known = || SourceColumns { visible: None, key: Vec::new(), parameters: vec!["since".to_owned()] };
        let (query, form) = read(&source, known(), "since=5&x=eq.1", &[], &HeaderMap::new()).unwrap();
        assert!(!form.has_pages, "nothing tells its rows apart");
        let PageSource::Query { values, .. } = query.source else { panic!("a query") };
        assert_eq!(values["since"], json!("5"));
        let error = read(&source, known(), "", &[], &HeaderMap::new()).unwrap_err();
        assert_eq!(error.to_string(), "the query field `since` is missing");
    }
}
