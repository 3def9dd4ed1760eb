//! What an endpoint may be told: limits, browsers of other sites, caching, rates, documentation, and what answers without a script.

use std::time::Duration;

use http::{HeaderName, Uri};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::domain::{
    limits::{HEADROOM_BYTES, Limits},
    names::ConnectionName,
    rate_limit::{InvalidRateLimit, RateLimit},
    shown,
    sql::TableName,
};

/// Longest description, in bytes.
const DESCRIPTION_BYTES_MAX: usize = 10_000;
/// Longest JSON schema, in bytes as JSON.
const SCHEMA_BYTES_MAX: usize = 64 << 10;
/// Names in one list of the settings, at most.
const LIST_MAX: usize = 100;
/// Longest time for which an answer may be cached: a day.
const CACHED_SECONDS_MAX: u32 = 86_400;
/// Longest SQL text of an endpoint, in bytes.
const QUERY_BYTES_MAX: usize = 64 << 10;
/// Most rows of a page.
pub const PAGE_ROWS_MAX: u32 = 10_000;

/// What an endpoint is told besides its address, its callers and what answers. Absent fields take the host's defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EndpointSettings {
    /// For those who call it; shown in the tenant's OpenAPI document
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// JSON schema of the request's body, for the document
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// JSON schema of the answer's body, for the document
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Limits of its invocations, below those of the host
    #[serde(skip_serializing_if = "LimitSettings::is_default")]
    pub limits: LimitSettings,
    /// Which pages of other sites may call it from a browser; none unless given
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<CorsPolicy>,
    /// How long answers may be given again; not at all unless given
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CachePolicy>,
    /// Requests that it answers; without a limit of its own unless given
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<EndpointRateLimit>,
}

/// Limits of an endpoint's invocations. What is above the host's limit has the host's limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Units of fuel
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
    /// Milliseconds from the start of the handler to its response
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Bytes of the request's body
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_body_bytes: Option<u64>,
    /// Bytes of a response body that the handler returns itself
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_body_bytes: Option<u64>,
    /// Bytes of memory above the runtime's own
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

/// Pages that may call an endpoint from a browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CorsPolicy {
    /// For example `https://shop.example`; `*` alone for all, which excludes `credentials`
    pub origins: Vec<String>,
    /// Header fields that a page may send besides the harmless ones and `authorization`
    #[serde(default)]
    pub headers: Vec<String>,
    /// Header fields of answers that a page may read besides the harmless ones
    #[serde(default)]
    pub expose: Vec<String>,
    /// Whether browsers send cookies
    #[serde(default)]
    pub credentials: bool,
    /// Seconds for which a browser remembers the answer
    #[serde(default = "preflight_seconds")]
    pub max_age: u32,
}

/// An hour; browsers take at most two.
fn preflight_seconds() -> u32 {
    3600
}

/// How answers are kept to be given again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CachePolicy {
    /// Seconds for which an answer is fresh
    pub ttl: u32,
    /// Seconds after that for which it is still given, while it is fetched anew
    #[serde(default)]
    pub stale_while_revalidate: u32,
    /// Query fields that tell answers apart; all unless given
    #[serde(default)]
    pub query: Option<Vec<String>>,
    /// Header fields that tell answers apart
    #[serde(default)]
    pub headers: Vec<String>,
    /// Gives callers with tokens or keys each other's answers. Callers who reach some rows only never share
    #[serde(default)]
    pub shared: bool,
}

/// Requests in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointRateLimit {
    /// Requests
    pub requests: u32,
    /// Seconds
    pub seconds: u32,
    /// Whom they are counted for
    #[serde(default)]
    pub per: RatePer,
}

impl EndpointRateLimit {
    /// How many requests in how long.
    ///
    /// # Errors
    /// For none, or too many.
    pub fn limit(self) -> Result<RateLimit, InvalidRateLimit> {
        RateLimit::new(self.requests, self.seconds)
    }
}

/// Whom requests are counted for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RatePer {
    /// Each token or key; on public endpoints each address
    #[default]
    Caller,
    /// All callers together
    Endpoint,
}

/// A table or a query that an endpoint serves without a script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TableSource {
    /// The tenant's connection
    #[schema(value_type = String)]
    pub connection: ConnectionName,
    /// The table's schema; the database's default unless given
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// The table or view
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Instead of a table: a statement that reads, in the database's dialect. `:name` stands for a query field of the request
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// Columns that callers see, may filter and order by; all unless given
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// Columns that tell rows apart, which pages need; the table's primary key unless given
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// Rows of a page unless the caller asks for fewer or more
    #[serde(default = "page_rows")]
    pub page_rows: u32,
    /// Rows of a page, at most
    #[serde(default = "page_rows_max")]
    pub page_rows_max: u32,
}

fn page_rows() -> u32 {
    100
}

fn page_rows_max() -> u32 {
    1000
}

/// Settings that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: {problem}")]
pub struct InvalidSettings {
    field: &'static str,
    problem: String,
}

fn invalid(field: &'static str, problem: impl Into<String>) -> InvalidSettings {
    InvalidSettings { field, problem: problem.into() }
}

impl EndpointSettings {
    /// What they take in memory, roughly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        // Only the documentation has a size worth counting. A parsed value takes several times its text.
        let schema = |schema: &Option<Value>| schema.as_ref().map_or(0, |schema| 4 * schema.to_string().len());
        self.description.len() + schema(&self.input) + schema(&self.output)
    }

    /// Checks what the types do not.
    ///
    /// # Errors
    /// The first field that is wrong, and why.
    pub fn check(&self) -> Result<(), InvalidSettings> {
        let Self { description, input, output, limits, cors, cache, rate_limit } = self;
        if description.len() > DESCRIPTION_BYTES_MAX {
            return Err(invalid("description", format!("at most {DESCRIPTION_BYTES_MAX} bytes")));
        }
        for (field, schema) in [("input", input), ("output", output)] {
            check_schema(field, schema.as_ref())?;
        }
        limits.check()?;
        cors.as_ref().map_or(Ok(()), CorsPolicy::check)?;
        cache.as_ref().map_or(Ok(()), CachePolicy::check)?;
        match rate_limit.map(EndpointRateLimit::limit) {
            Some(Err(error)) => Err(invalid("rate_limit", error.to_string())),
            Some(Ok(_)) | None => Ok(()),
        }
    }
}

fn check_schema(field: &'static str, schema: Option<&Value>) -> Result<(), InvalidSettings> {
    match schema {
        None | Some(Value::Bool(_)) => Ok(()),
        Some(Value::Object(schema)) => match serde_json::to_string(schema).map_or(0, |text| text.len()) {
            0..=SCHEMA_BYTES_MAX => Ok(()),
            _ => Err(invalid(field, format!("a schema has at most {SCHEMA_BYTES_MAX} bytes"))),
        },
        Some(_) => Err(invalid(field, "a JSON schema is an object")),
    }
}

impl LimitSettings {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    fn check(self) -> Result<(), InvalidSettings> {
        let Self { fuel, deadline_ms, request_body_bytes: _, response_body_bytes, memory_bytes } = self;
        if fuel == Some(0) || deadline_ms == Some(0) || response_body_bytes == Some(0) {
            return Err(invalid("limits", "a limit of 0 would let nothing run"));
        }
        if memory_bytes.is_some_and(|bytes| bytes < HEADROOM_BYTES) {
            return Err(invalid(
                "limits",
                format!("`memory_bytes` is at least {HEADROOM_BYTES}, which every script has"),
            ));
        }
        Ok(())
    }

    /// The host's limits, or these where they are lower.
    #[must_use]
    pub fn within(self, host: Limits) -> Limits {
        let Self { fuel, deadline_ms, request_body_bytes, response_body_bytes, memory_bytes } = self;
        let lower = |own: Option<u64>, host: u64| own.map_or(host, |own| own.min(host));
        Limits {
            fuel: lower(fuel, host.fuel),
            deadline: deadline_ms.map_or(host.deadline, |ms| Duration::from_millis(ms).min(host.deadline)),
            request_body_bytes: lower(request_body_bytes, host.request_body_bytes),
            response_body_bytes: lower(response_body_bytes, host.response_body_bytes),
            memory_bytes: lower(memory_bytes, host.memory_bytes),
            ..host
        }
    }
}

impl CorsPolicy {
    fn check(&self) -> Result<(), InvalidSettings> {
        let Self { origins, headers, expose, credentials, max_age: _ } = self;
        if origins.is_empty() || origins.len() > LIST_MAX {
            return Err(invalid("cors", format!("`origins` are 1 to {LIST_MAX}")));
        }
        let is_any = origins.iter().any(|origin| origin == "*");
        if is_any && origins.len() > 1 {
            return Err(invalid("cors", "`*` stands alone among `origins`"));
        }
        if is_any && *credentials {
            return Err(invalid("cors", "with `credentials`, `origins` must be named"));
        }
        if let Some(origin) = origins.iter().find(|origin| *origin != "*" && !is_origin(origin)) {
            let origin = shown(origin);
            return Err(invalid("cors", format!("`{origin}` is no origin: write for example https://shop.example")));
        }
        check_fields("cors", headers)?;
        check_fields("cors", expose)
    }
}

/// Whether a browser could send this as an origin: scheme, host in lower case, perhaps a port; nothing behind them.
fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return false };
    let (Some(scheme @ ("http" | "https")), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return false;
    };
    let default_port = if scheme == "https" { 443 } else { 80 };
    text == format!("{scheme}://{authority}")
        && !authority.host().is_empty()
        && !authority.as_str().contains('@')
        && authority.port_u16() != Some(default_port)
        && !text.bytes().any(|byte| byte.is_ascii_uppercase())
}

impl CachePolicy {
    fn check(&self) -> Result<(), InvalidSettings> {
        let Self { ttl, stale_while_revalidate, query, headers, shared: _ } = self;
        if *ttl == 0 || *ttl > CACHED_SECONDS_MAX || *stale_while_revalidate > CACHED_SECONDS_MAX {
            return Err(invalid("cache", format!("`ttl` is 1 to {CACHED_SECONDS_MAX} seconds")));
        }
        if query.as_ref().is_some_and(|names| names.len() > LIST_MAX) {
            return Err(invalid("cache", format!("`query` has at most {LIST_MAX} names")));
        }
        check_fields("cache", headers)
    }
}

fn check_fields(field: &'static str, names: &[String]) -> Result<(), InvalidSettings> {
    if names.len() > LIST_MAX {
        return Err(invalid(field, format!("at most {LIST_MAX} header fields")));
    }
    match names.iter().find(|name| HeaderName::from_bytes(name.as_bytes()).is_err()) {
        Some(name) => {
            let name = shown(name);
            Err(invalid(field, format!("`{name}` is no header field")))
        }
        None => Ok(()),
    }
}

impl TableSource {
    /// The table; of a query, an empty name.
    #[must_use]
    pub fn table_name(&self) -> TableName {
        let Self { schema, table, .. } = self;
        TableName { database: String::new(), schema: schema.clone(), table: table.clone().unwrap_or_default() }
    }

    /// Checks what the types do not.
    ///
    /// # Errors
    /// The first field that is wrong, and why.
    pub fn check(&self) -> Result<(), InvalidSettings> {
        let Self { connection: _, schema, table, query, columns, key, page_rows, page_rows_max } = self;
        match (table, query) {
            (Some(_), None) => {}
            (None, Some(query)) if schema.is_some() => {
                return Err(invalid("schema", format!("goes with a table, not with `{:.40}`", query)));
            }
            (None, Some(query)) if query.len() > QUERY_BYTES_MAX || query.trim().is_empty() => {
                return Err(invalid("query", format!("has 1 to {QUERY_BYTES_MAX} bytes")));
            }
            (None, Some(_)) => {}
            (Some(_), Some(_)) | (None, None) => return Err(invalid("table", "give a table or a query")),
        }
        if columns.as_ref().is_some_and(|columns| columns.is_empty() || columns.len() > 1000) {
            return Err(invalid("columns", "are 1 to 1000"));
        }
        if key.len() > LIST_MAX {
            return Err(invalid("key", format!("has at most {LIST_MAX} columns")));
        }
        if *page_rows == 0 || page_rows > page_rows_max || *page_rows_max > PAGE_ROWS_MAX {
            return Err(invalid("page_rows", format!("is 1 to `page_rows_max`, which is at most {PAGE_ROWS_MAX}")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(settings: Value) -> Result<(), String> {
        let settings: EndpointSettings = serde_json::from_value(settings).map_err(|error| error.to_string())?;
        settings.check().map_err(|error| error.to_string())
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (settings, field) in [
            (json!({"description": "x".repeat(10_001)}), "`description`"),
            (json!({"input": 5}), "`input`"),
            (json!({"output": {"x": "y".repeat(70_000)}}), "`output`"),
            (json!({"limits": {"fuel": 0}}), "`limits`"),
            (json!({"limits": {"memory_bytes": 5}}), "`limits`"),
            (json!({"limits": {"fule": 5}}), "fule"),
            (json!({"cors": {"origins": []}}), "`cors`"),
            (json!({"cors": {"origins": ["*"], "credentials": true}}), "`cors`"),
            (json!({"cors": {"origins": ["*", "https://a.example"]}}), "`cors`"),
            (json!({"cors": {"origins": ["https://a.example"], "headers": ["a b"]}}), "`cors`"),
            (json!({"cache": {"ttl": 0}}), "`cache`"),
            (json!({"cache": {"ttl": 90_000}}), "`cache`"),
            (json!({"cache": {"ttl": 5, "headers": [""]}}), "`cache`"),
            (json!({"rate_limit": {"requests": 0, "seconds": 1}}), "`rate_limit`"),
            (json!({"rate_limit": {"requests": 1, "seconds": 90_000}}), "`rate_limit`"),
            (json!({"unknown": 1}), "unknown"),
        ] {
            let error = check(settings.clone()).unwrap_err();
            assert!(error.contains(field), "{settings}: {error}");
        }
        check(json!({})).unwrap();
    }

    #[test]
    fn an_origin_is_what_browsers_send() {
        for good in ["https://a.example", "http://localhost:3000", "http://[::1]:80801".trim_end_matches('1')] {
            assert!(is_origin(good), "{good}");
        }
        for bad in [
            "null",
            "a.example",
            "https://a.example/",
            "https://a.example/x",
            "https://A.example",
            "HTTPS://a.example",
            "https://a.example:443",
            "https://u@a.example",
            "https://",
            "https://*.example/",
            "ftp://a.example",
            "https://a.example?x",
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
    }

    #[test]
    fn an_endpoint_lowers_limits_and_raises_none() {
        let host = Limits::default();
        let lower = LimitSettings { fuel: Some(5), deadline_ms: Some(100), ..LimitSettings::default() };
        assert_eq!(lower.within(host), Limits { fuel: 5, deadline: Duration::from_millis(100), ..host });
        let higher = LimitSettings { fuel: Some(u64::MAX), deadline_ms: Some(u64::MAX), ..LimitSettings::default() };
        assert_eq!(higher.within(host), host);
    }

    #[test]
    fn a_source_is_a_table_or_a_query() {
        let check = |source: Value| serde_json::from_value::<TableSource>(source).unwrap().check();
        check(json!({"connection": "dw", "table": "t"})).unwrap();
        check(json!({"connection": "dw", "query": "SELECT 1"})).unwrap();
        for bad in [
            json!({"connection": "dw"}),
            json!({"connection": "dw", "table": "t", "query": "SELECT 1"}),
            json!({"connection": "dw", "schema": "s", "query": "SELECT 1"}),
            json!({"connection": "dw", "query": " "}),
            json!({"connection": "dw", "table": "t", "columns": []}),
            json!({"connection": "dw", "table": "t", "page_rows": 0}),
            json!({"connection": "dw", "table": "t", "page_rows": 2000}),
        ] {
            assert!(check(bad.clone()).is_err(), "{bad}");
        }
    }
}
