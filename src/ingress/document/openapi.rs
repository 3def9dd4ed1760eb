//! Endpoints as an OpenAPI 3.1 document.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use crate::{
    domain::{endpoint::TableSource, exchange::AuthMode, names::TenantName},
    ingress::tables::field_of,
    invoke::{Backend, EndpointTarget, tables::SourceColumns},
};

/// Longest summary, in characters; a description's first line is one if it fits.
const SUMMARY_MAX: usize = 120;

/// What stands for itself in a segment of a path (RFC 3986).
const SEGMENT: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// An endpoint, and those of its methods that the reader may call.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) endpoint: Arc<EndpointTarget>,
    pub(super) methods: Vec<Method>,
    /// Of a table or a query.
    pub(super) columns: Option<SourceColumns>,
}

/// The document of a tenant's endpoints, on the host that callers know by `base`; without one, relative to where the document was read.
pub(super) fn document(base: &str, tenant: &TenantName, mut endpoints: Vec<Described>) -> Value {
    // What OpenAPI cannot tell apart (`/a/{x}`, `/a/*` and `/a/**`) is one path there; what answers more specifically is described.
    endpoints.sort_by(|one, other| rank(one).cmp(&rank(other)));
    let mut document = Document::default();
    for described in &endpoints {
        document.add(described);
    }
    let Document { paths, schemas, names: _ } = document;
    let paths: Map<_, _> = paths.into_values().map(|Path { template, item }| (template, Value::Object(item))).collect();
    let mut all_schemas = Map::from_iter([("Problem".to_owned(), problem_schema())]);
    all_schemas.extend(schemas);
    json!({
        "openapi": "3.1.0",
        "info": {"title": tenant, "version": "1", "description": format!("Endpoints of `{tenant}`.")},
        "servers": [{"url": format!("{base}/{tenant}")}],
        "paths": paths,
        "components": {
            "schemas": all_schemas,
            "responses": problems().into_iter().map(|(status, text)| (name_of(status), problem(status, text))).collect::<Map<_, _>>(),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    })
}

/// First what routing tries first; among that, names that an author gave.
fn rank(Described { endpoint, .. }: &Described) -> (bool, bool, bool, &str, i64) {
    let EndpointTarget { id, methods, route, .. } = &**endpoint;
    (route.ends_with("/**"), methods.is_any(), route.contains('*'), route, id.0)
}

#[derive(Default)]
struct Document {
    /// By what they look like with nameless parameters.
    paths: BTreeMap<String, Path>,
    schemas: Map<String, Value>,
    /// Of operations.
    names: HashSet<String>,
}

/// A path, and what there is to it.
struct Path {
    template: String,
    item: Map<String, Value>,
}

impl Document {
    fn add(&mut self, Described { endpoint, methods, columns }: &Described) {
        let route = Route::of(&endpoint.route);
        // A placeholder of a segment's name is filled by it.
        let is_segment = |name: &str| endpoint.route.split('/').any(|segment| named(segment) == Some(name));
        let placeholders = columns.iter().flat_map(|columns| &columns.parameters).map(String::as_str);
        let placeholders: Vec<_> = placeholders.filter(|name| !is_segment(name)).collect();
        let path = self.paths.entry(route.shape).or_insert_with(|| {
            let mut item = Map::new();
            if !route.parameters.is_empty() {
                item.insert("parameters".to_owned(), Value::Array(route.parameters));
            }
            Path { template: route.template, item }
        });
        for method in methods {
            let method = method.as_str().to_ascii_lowercase();
            if path.item.contains_key(&method) {
                continue;
            }
            let mut name = operation_name(&method, &path.template);
            if !self.names.insert(name.clone()) {
                name = format!("{name}_{}", endpoint.id);
                self.names.insert(name.clone());
            }
            let operation = operation(endpoint, columns.as_ref(), &placeholders, &method, &name, &mut self.schemas);
            path.item.insert(method, operation);
        }
    }
}

/// A route as OpenAPI writes it.
struct Route {
    /// For example `/orders/{id}`.
    template: String,
    /// For example `/orders/{}`.
    shape: String,
    parameters: Vec<Value>,
}

impl Route {
    fn of(route: &str) -> Self {
        let mut this = Self { template: String::new(), shape: String::new(), parameters: Vec::new() };
        let segments = || route.split('/').filter(|segment| !segment.is_empty());
        let mut taken: HashSet<String> = segments().filter_map(named).map(str::to_owned).collect();
        for (index, segment) in segments().enumerate() {
            let (name, description) = match (named(segment), segment) {
                (Some(name), _) => (name.to_owned(), None),
                (None, "*") => (free_name(format!("segment_{}", index + 1), &mut taken), Some("any one segment")),
                (None, "**") => {
                    let rest = "the rest of the path: one segment, several with `/` between them, or none";
                    (free_name("rest".to_owned(), &mut taken), Some(rest))
                }
                (None, literal) => {
                    let literal = format!("/{}", utf8_percent_encode(literal, &SEGMENT));
                    this.template.push_str(&literal);
                    this.shape.push_str(&literal);
                    continue;
                }
            };
            this.template.push_str(&format!("/{{{name}}}"));
            this.shape.push_str("/{}");
            let mut parameter = json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}});
            if let Some(description) = description {
                parameter["description"] = description.into();
            }
            this.parameters.push(parameter);
        }
        if this.template.is_empty() {
            this.template.push('/');
            this.shape.push('/');
        }
        this
    }
}

/// The name of a segment that has one.
fn named(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

fn free_name(mut name: String, taken: &mut HashSet<String>) -> String {
    while !taken.insert(name.clone()) {
        name.push('_');
    }
    name
}

/// For example `get_orders_id`.
fn operation_name(method: &str, template: &str) -> String {
    let words = template.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    words.fold(method.to_owned(), |name, word| format!("{name}_{word}"))
}

fn operation(
    endpoint: &EndpointTarget,
    columns: Option<&SourceColumns>,
    placeholders: &[&str],
    method: &str,
    name: &str,
    schemas: &mut Map<String, Value>,
) -> Value {
    let settings = &endpoint.settings;
    let mut operation = Map::from_iter([("operationId".to_owned(), name.into())]);
    let first_line = settings.description.lines().next().unwrap_or_default();
    let summary = match first_line.chars().count() {
        1..=SUMMARY_MAX => first_line.to_owned(),
        _ => format!("{} {}", method.to_ascii_uppercase(), endpoint.route),
    };
    operation.insert("summary".to_owned(), summary.into());
    if !settings.description.is_empty() {
        operation.insert("description".to_owned(), settings.description.as_str().into());
    }
    if let Some(tag) = endpoint.route.split('/').find(|segment| !segment.is_empty() && !segment.starts_with(['{', '*']))
    {
        operation.insert("tags".to_owned(), json!([tag]));
    }
    if let Backend::Table(source) = &endpoint.backend {
        operation.insert("parameters".to_owned(), table_parameters(source, columns, placeholders).into());
    }
    if ["post", "put", "patch"].contains(&method) {
        let body = match &settings.input {
            Some(schema) => {
                let schema = named_schema(format!("{name}_input"), schema, schemas);
                json!({"required": true, "content": {"application/json": {"schema": schema}}})
            }
            None => {
                json!({"content": {"application/json": {"schema": {}}, "application/octet-stream": {"schema": {}}}})
            }
        };
        operation.insert("requestBody".to_owned(), body);
    }
    let content = match (&settings.output, &endpoint.backend) {
        (Some(schema), _) => {
            let schema = named_schema(format!("{name}_output"), schema, schemas);
            Some(json!({"application/json": {"schema": schema}}))
        }
        (None, Backend::Table(_)) => Some(json!({
            "application/json": {"schema": {"type": "array", "items": row_schema(columns)}},
            "text/csv": {"schema": {"type": "string"}},
        })),
        (None, Backend::Script(_)) => None,
    };
    operation.insert("responses".to_owned(), responses(endpoint, content));
    let security = match endpoint.auth {
        AuthMode::Jwt => json!([{"token": []}]),
        AuthMode::Key => json!([{"key": []}]),
        AuthMode::Public => json!([]),
    };
    operation.insert("security".to_owned(), security);
    Value::Object(operation)
}

/// The schema of a row, column by column. Callers leave columns out with `select`, so none is required.
fn row_schema(columns: Option<&SourceColumns>) -> Value {
    let visible = columns.map_or(&[][..], |columns| &columns.visible);
    let properties: Map<_, _> = visible.iter().map(|column| (column.name.clone(), column.schema.clone())).collect();
    if properties.is_empty() { json!({"type": "object"}) } else { json!({"type": "object", "properties": properties}) }
}

fn responses(endpoint: &EndpointTarget, content: Option<Value>) -> Value {
    let mut answer = json!({"description": "The answer"});
    if let Some(content) = content {
        answer["content"] = content;
    }
    if let Backend::Table(_) = endpoint.backend {
        answer["headers"] = page_headers();
    }
    let mut responses = Map::from_iter([("200".to_owned(), answer)]);
    if endpoint.settings.cache.is_some() {
        responses
            .insert("304".to_owned(), json!({"description": "The caller has the answer already (`If-None-Match`)"}));
    }
    for (status, _) in problems() {
        if endpoint.auth != AuthMode::Public || !matches!(status, 401 | 403) {
            let reference = format!("#/components/responses/{}", name_of(status));
            responses.insert(status.to_string(), json!({"$ref": reference}));
        }
    }
    if let Backend::Script(_) = endpoint.backend {
        responses.insert("default".to_owned(), json!({"description": "Whatever else the handler answers"}));
    }
    Value::Object(responses)
}

/// What a page of a table says beside its rows.
fn page_headers() -> Value {
    let text = json!({"type": "string"});
    json!({
        "X-Next-Cursor": {"description": "The `cursor` of the next page; absent on the last one, and where rows have no order", "schema": text},
        "Link": {"description": "The address of the next page, as `<...>; rel=\"next\"`; present with `X-Next-Cursor`", "schema": text},
        "X-Total-Count": {"description": "How many rows all pages have; present with `count=exact`", "schema": {"type": "integer"}},
    })
}

/// Statuses that the host answers by itself, and why.
fn problems() -> [(u16, &'static str); 9] {
    [
        (400, "The request is malformed"),
        (401, "No valid token or key was sent"),
        (403, "The token or key is for something else"),
        (404, "There is no such endpoint any more, or it is switched off"),
        (413, "The body is too large"),
        (429, "Too many requests; see `Retry-After`"),
        (500, "The handler failed, or the host did"),
        (503, "The host is busy or starts; see `Retry-After`"),
        (504, "The handler took too long"),
    ]
}

fn name_of(status: u16) -> String {
    format!("Problem{status}")
}

fn problem(status: u16, description: &str) -> Value {
    let content = json!({"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}});
    let mut problem = json!({"description": description, "content": content});
    if matches!(status, 429 | 503) {
        let seconds = json!({"description": "Seconds after which to try again", "schema": {"type": "integer"}});
        problem["headers"] = json!({ "Retry-After": seconds });
    }
    problem
}

fn problem_schema() -> Value {
    json!({
        "type": "object",
        "description": "What went wrong (RFC 9457)",
        "required": ["status"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "code": {"type": "string", "description": "Stable; absent if a handler words the problem itself"},
            "detail": {"type": "string"},
            "invocation_id": {"type": "string", "description": "To be told to whoever runs the endpoint"},
        },
    })
}

/// Keeps an author's schema under a name, and refers to it. What it refers to in itself is found below that name then.
fn named_schema(name: String, schema: &Value, schemas: &mut Map<String, Value>) -> Value {
    let place = format!("#/components/schemas/{name}");
    let mut schema = schema.clone();
    // One with an id of its own is a document of its own: its references start there.
    if schema.get("$id").is_none() {
        rebase(&mut schema, &place);
    }
    schemas.insert(name, schema);
    json!({ "$ref": place })
}

/// As deep as JSON that was parsed, which has a limit.
fn rebase(schema: &mut Value, place: &str) {
    match schema {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(reference) if name == "$ref" && (reference == "#" || reference.starts_with("#/")) => {
                        reference.replace_range(..1, place);
                    }
                    _ => rebase(value, place),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| rebase(value, place)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What callers may ask of a table or a query; these placeholders they have to fill.
fn table_parameters(source: &TableSource, columns: Option<&SourceColumns>, placeholders: &[&str]) -> Vec<Value> {
    let TableSource { columns: listed, page_rows, page_rows_max, .. } = source;
    let known = columns.map_or(&[][..], |columns| &columns.visible).iter().map(|column| &column.name);
    let names: Vec<&String> = match listed {
        Some(listed) => listed.iter().collect(),
        None => known.collect(),
    };
    let parameter = |name: &str, description: &str, schema: Value| json!({"name": name, "in": "query", "description": description, "schema": schema});
    let text = || json!({"type": "string"});
    let one_of = |words: [&str; 2]| json!({"type": "string", "enum": words});
    let rows = json!({"type": "integer", "minimum": 1, "maximum": page_rows_max, "default": page_rows});
    let required = placeholders.iter().map(|name| {
        let mut parameter = parameter(name, "A value of the query", text());
        parameter["required"] = true.into();
        parameter
    });
    let own = [
        parameter("select", "Columns of the answer, separated by commas", text()),
        parameter("order", "Columns to sort by, separated by commas; `-name` for the reverse", text()),
        parameter("limit", "Rows of a page", rows),
        parameter("cursor", "Where the page starts: what the answer before says in `X-Next-Cursor`", text()),
        parameter("count", "Whether `X-Total-Count` tells how many rows there are", one_of(["exact", "none"])),
        parameter("format", "How the rows are written", one_of(["json", "csv"])),
    ];
    let conditions: Vec<_> = match names[..] {
        [_, ..] => {
            let condition =
                |column: &&String| parameter(&field_of(column), "A condition, for example `eq.open`", text());
            names.iter().map(condition).collect()
        }
        // Each member of the object is a query field of its own: clients send fields by whatever name then.
        [] => {
            let object = json!({"type": "object", "additionalProperties": text()});
            let mut any =
                parameter("columns", "Conditions by columns, for example `{\"status\": \"eq.open\"}`", object);
            any["style"] = "form".into();
            any["explode"] = true.into();
            vec![any]
        }
    };
    // A name means the first of these.
    let mut taken = HashSet::new();
    let is_first = |known: &Value| taken.insert(known["name"].as_str().unwrap_or_default().to_owned());
    required.chain(own).chain(conditions).filter(is_first).collect()
}
