//! The API's documentation: OpenAPI 3.1, and a page for people made from it.

use std::{fmt::Write as _, sync::Arc};

use axum::{
    Router,
    response::{Html, IntoResponse},
    routing::get,
};
use http::header;
use serde::Serialize;
use serde_json::Value;
use utoipa::{
    PartialSchema as _, ToSchema,
    openapi::{
        ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder, RefOr, Schema,
        schema::{ObjectBuilder, Type},
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::{
    control::{Control, PREFIX},
    domain::people::SESSION_COOKIE,
};

const DESCRIPTION: &str = "\
Manages the tenants of a pqhost: their scripts, endpoints, connections, secrets and people.

Times are RFC 3339 in UTC. Lists come in pages: pass `next_cursor` as `cursor` until it is absent. What has an `ETag` can be \
changed with `If-Match`, and then is only if nobody else has changed it. Errors are problem documents (RFC 9457); `code` is \
stable. A tenant in which the caller has no role looks as if it did not exist. `x-needs` of an operation is the least role \
that may use it: viewer, author or owner of the tenant, an operator of the host, or anyone with a credential.";

/// An error.
#[derive(Debug, Serialize, ToSchema)]
struct Problem {
    /// `about:blank`
    r#type: String,
    /// What the status means
    title: String,
    /// The HTTP status
    status: u16,
    /// Stable, for programs
    code: String,
    /// One sentence that names the input
    detail: String,
    /// Names the request in the host's log
    invocation_id: String,
    /// Of a script that was refused: where it failed
    traceback: Option<String>,
}

/// The document without operations.
pub(super) fn introduction() -> OpenApi {
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("An API token (`pqh_...`): of an operator, of a tenant in a role, or of a user"))
        .build();
    let session = ApiKeyValue::with_description(
        SESSION_COOKIE,
        "A browser's session; changes also need the header field `x-requested-with: pqhost`",
    );
    let components = ComponentsBuilder::new()
        .schema("Problem", Problem::schema())
        .security_scheme("token", SecurityScheme::Http(token))
        .security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(session)))
        .build();
    let info = InfoBuilder::new()
        .title("pqhost control API")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .build();
    OpenApiBuilder::new().info(info).components(Some(components)).build()
}

/// The schema of a parameter of the path.
pub(super) fn path_parameter(name: &str) -> RefOr<Schema> {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let name_like = |example: &str| text().pattern(Some("^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")).examples([example]);
    // The examples are what `make demo` has.
    let object = match name {
        "tenant" => name_like("demo"),
        "script" => name_like("hello"),
        "connection" => name_like("dw_2"),
        "secret" => name_like("api_key"),
        "version" | "endpoint" => ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).examples([1]),
        _ => text(),
    };
    RefOr::T(object.build().into())
}

/// `/api/v1/openapi.json`, and the page at `/api/v1/`.
pub(super) fn router(openapi: &OpenApi) -> Router<Control> {
    let json: Arc<str> = openapi.to_json().unwrap_or_default().into();
    let page: Arc<str> = page(&serde_json::to_value(openapi).unwrap_or_default()).into();
    let page = get(async move || {
        let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
        ([(header::CONTENT_SECURITY_POLICY, policy)], Html(page.to_string())).into_response()
    });
    Router::new()
        .route(
            &format!("{PREFIX}/openapi.json"),
            get(async move || ([(header::CONTENT_TYPE, "application/json")], json.to_string())),
        )
        .route(&format!("{PREFIX}/"), page.clone())
        .route(PREFIX, page)
}

/// The document as a page: no scripts, nothing loaded from elsewhere.
fn page(openapi: &Value) -> String {
    let text = |value: &Value| escape(value.as_str().unwrap_or_default());
    let mut html = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
         <title>{0}</title><style>{STYLE}</style><h1>{0} {1}</h1><p>{2}</p>\
         <p>For programs: <a href='{PREFIX}/openapi.json'>openapi.json</a></p>",
        text(&openapi["info"]["title"]),
        text(&openapi["info"]["version"]),
        text(&openapi["info"]["description"]).replace("\n\n", "</p><p>"),
    );
    let mut tag = String::new();
    for (path, item) in openapi["paths"].as_object().into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let this = text(&operation["tags"][0]);
            if this != tag {
                _ = write!(html, "<h2>{this}</h2>"); // writing to a String does not fail
                tag = this;
            }
            write_operation(&mut html, path, method, operation);
        }
    }
    html.push_str("<h2>schemas</h2>");
    for (name, schema) in openapi["components"]["schemas"].as_object().into_iter().flatten() {
        let schema = serde_json::to_string_pretty(schema).unwrap_or_default();
        let name = escape(name);
        _ = write!(
            html,
            "<details id='{name}'><summary><b>{name}</b></summary><pre>{}</pre></details>",
            escape(&schema)
        );
    }
    html
}

fn write_operation(html: &mut String, path: &str, method: &str, operation: &Value) {
    let text = |value: &Value| escape(value.as_str().unwrap_or_default());
    _ = write!(
        html,
        "<details id='{id}'><summary><code>{method} {path}</code> {summary} <small>needs {needs}</small></summary><p>{more}</p><ul>",
        id = text(&operation["operationId"]),
        method = method.to_uppercase(),
        path = escape(path),
        summary = text(&operation["summary"]),
        needs = text(&operation["x-needs"]),
        more = text(&operation["description"]),
    );
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let (name, place, about) = (&parameter["name"], &parameter["in"], &parameter["description"]);
        _ = write!(html, "<li><code>{}</code> ({}) {}", text(name), text(place), text(about));
    }
    let body = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
    if let Some(name) = schema_name(body) {
        _ = write!(html, "<li>body: <a href='#{name}'>{name}</a>");
    }
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        let schema = &response["content"]["application/json"]["schema"]["$ref"];
        let link = schema_name(schema).map(|name| format!(" <a href='#{name}'>{name}</a>")).unwrap_or_default();
        _ = write!(html, "<li>{}: {}{link}", escape(status), text(&response["description"]));
    }
    html.push_str("</ul></details>");
}

fn schema_name(reference: &Value) -> Option<String> {
    reference.as_str()?.strip_prefix("#/components/schemas/").map(escape)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;").replace('"', "&quot;")
}

const STYLE: &str = "\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}\
summary{cursor:pointer;padding:.2rem 0}small{opacity:.7}pre{overflow:auto}code{font-size:.95em}";
