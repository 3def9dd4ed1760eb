//! What tenants' endpoints say of themselves: `/{tenant}/openapi.json`.

use std::collections::HashSet;

use pqhost::domain::exchange::AuthMode;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    control::Api,
    support::{Answer, Tenant, TestApp},
};

pub(crate) const DOCUMENT: &str = "/acme/openapi.json";

async fn app() -> (TestApp, Tenant) {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.try_publish(&acme, "s", "def handler(request): return request['path']").await.unwrap();
    (app, acme)
}

pub(crate) async fn publish_document(app: &TestApp, tenant: &Tenant, public: bool) {
    app.workspace.db.tenants().set_public_document(tenant.id, public).await.unwrap();
    app.see_changes().await;
}

/// The document, of which everything that must hold for any has been checked.
#[track_caller]
pub(crate) fn sound(answer: &Answer) -> Value {
    assert_eq!(
        (answer.status, answer.headers["content-type"].as_bytes()),
        (200, &b"application/json"[..]),
        "{answer:?}"
    );
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    let (mut names, mut shapes) = (HashSet::new(), HashSet::new());
    for (path, item) in document["paths"].as_object().unwrap() {
        let parts: Vec<_> = path.split(['{', '}']).collect();
        let shape: String = parts.iter().step_by(2).map(|literal| format!("{literal}{{}}")).collect();
        assert!(path.starts_with('/') && path.is_ascii() && shapes.insert(shape), "{path}");
        let declared = item["parameters"].as_array().cloned().unwrap_or_default();
        let declared: Vec<_> =
            declared.iter().map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect();
        let used: Vec<_> = parts.iter().skip(1).step_by(2).collect();
        assert_eq!(declared.iter().collect::<Vec<_>>(), used, "{path}");
        assert_eq!(used.iter().collect::<HashSet<_>>().len(), used.len(), "{path}");
        for (method, operation) in item.as_object().unwrap().iter().filter(|(method, _)| *method != "parameters") {
            assert!(names.insert(operation["operationId"].clone()), "{path} {method}");
            assert!(operation["responses"]["200"]["description"].is_string(), "{path} {method}");
        }
    }
    for reference in references(&document["paths"]).into_iter().chain(references(&document["components"]["responses"]))
    {
        let found = document.pointer(reference.strip_prefix('#').unwrap());
        assert!(found.is_some(), "{reference}");
    }
    document
}

/// What is referred to, but for what authors' schemas say outside of themselves.
fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| match value {
                Value::String(reference) if name == "$ref" => vec![reference.clone()],
                value => references(value),
            })
            .collect(),
        Value::Array(values) => values.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

/// Method and path of each operation.
fn operations(document: &Value) -> Vec<String> {
    let mut operations: Vec<_> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys().filter(|key| *key != "parameters");
            methods.map(move |method| format!("{method} {path}")).collect::<Vec<_>>()
        })
        .collect();
    operations.sort();
    operations
}

/// The schema of an operation's rows.
pub(crate) fn row_schema<'a>(document: &'a Value, route: &str) -> &'a Value {
    &document["paths"][route]["get"]["responses"]["200"]["content"]["application/json"]["schema"]["items"]
}

#[tokio::test]
async fn a_document_says_what_callers_need_to_know() {
    let (app, acme) = app().await;
    let order = json!({"type": "object", "properties": {"lines": {"type": "array", "items": {"$ref": "#/$defs/line"}}},
        "$defs": {"line": {"type": "string"}}});
    let settings = json!({"description": "An order.\n\nIt is **long**.", "output": order, "cache": {"ttl": 5}});
    app.endpoint_with(&acme, ("GET", "/orders/{id}"), "s", AuthMode::Jwt, settings).await;
    let settings = json!({"input": order, "output": true});
    app.endpoint_with(&acme, ("POST, PUT", "/orders/{other}"), "s", AuthMode::Key, settings).await;
    app.endpoint(&acme, "ANY", "/files/*/{name}/**", "s", AuthMode::Public).await;
    app.endpoint(&acme, "GET", "/", "s", AuthMode::Public).await;
    publish_document(&app, &acme, true).await;
    let document = sound(&app.get(DOCUMENT).await);
    assert_eq!(document["info"]["title"], "acme");
    assert_eq!(document["servers"], json!([{"url": "/acme"}]));
    assert_eq!(
        operations(&document),
        [
            "delete /files/{segment_2}/{name}/{rest}",
            "get /",
            "get /files/{segment_2}/{name}/{rest}",
            "get /orders/{id}",
            "patch /files/{segment_2}/{name}/{rest}",
            "post /files/{segment_2}/{name}/{rest}",
            "post /orders/{id}",
            "put /files/{segment_2}/{name}/{rest}",
            "put /orders/{id}",
        ]
    );
    let get = &document["paths"]["/orders/{id}"]["get"];
    assert_eq!(get["summary"], "An order.");
    assert_eq!(get["description"], "An order.\n\nIt is **long**.");
    assert_eq!((&get["tags"], &get["security"]), (&json!(["orders"]), &json!([{"token": []}])));
    let statuses: Vec<_> = get["responses"].as_object().unwrap().keys().collect();
    assert_eq!(statuses, ["200", "304", "400", "401", "403", "404", "413", "429", "500", "503", "504", "default"]);
    let schema = get["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].as_str().unwrap();
    let schema = document.pointer(schema.strip_prefix('#').unwrap()).unwrap();
    let line = schema["properties"]["lines"]["items"]["$ref"].as_str().unwrap();
    assert_eq!(document.pointer(line.strip_prefix('#').unwrap()), Some(&json!({"type": "string"})));
    let post = &document["paths"]["/orders/{id}"]["post"];
    assert_eq!((&post["security"], &post["requestBody"]["required"]), (&json!([{"key": []}]), &json!(true)));
    let any = &document["paths"]["/files/{segment_2}/{name}/{rest}"];
    assert_eq!((&any["get"]["security"], any["get"]["responses"].get("401")), (&json!([]), None));
    let schemes = &document["components"]["securitySchemes"];
    assert_eq!(schemes["token"], json!({"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}));
    assert_eq!(schemes["key"], json!({"type": "apiKey", "in": "header", "name": "x-api-key"}));
}

#[tokio::test]
async fn a_table_is_described_with_its_columns() {
    let (app, acme) = app().await;
    app.accounts(&acme).await;
    let operator = Api::operator(&app).await;
    let source = json!({"connection": "dw_2", "schema": "salesforce", "table": "accounts", "columns": ["id", "name"],
        "page_rows": 7, "page_rows_max": 70});
    let endpoint = json!({"methods": "GET", "route": "/accounts", "source": source, "auth": "public"});
    operator.post("/tenants/acme/endpoints", &endpoint).await.expect("201");
    publish_document(&app, &acme, true).await;
    let document = sound(&app.get(DOCUMENT).await);
    let operation = &document["paths"]["/accounts"]["get"];
    let parameters = operation["parameters"].as_array().unwrap();
    let names: Vec<_> = parameters.iter().map(|parameter| parameter["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["select", "order", "limit", "cursor", "count", "format", "id", "name"]);
    assert_eq!(parameters[2]["schema"], json!({"type": "integer", "minimum": 1, "maximum": 70, "default": 7}));
    assert!(operation["responses"].get("default").is_none(), "the host answers nothing else");

    // What the document says works.
    let order = parameters[1]["description"].as_str().unwrap().split('`').nth(1).unwrap();
    let [down, up] = [order, order.trim_start_matches('-')].map(|order| order.replace("name", "id"));
    let page = async |order: &str| {
        let page = app.get(&format!("/acme/accounts?order={order}&select=id&limit=1&count=exact")).await;
        assert_eq!(page.status, 200, "{page:?}");
        for name in operation["responses"]["200"]["headers"].as_object().unwrap().keys() {
            assert!(page.headers.contains_key(name), "{name}");
        }
        page.json()[0]["id"].as_i64().unwrap()
    };
    assert!(page(&down).await > page(&up).await);
    assert_eq!(operation["responses"]["200"]["headers"].as_object().unwrap().len(), 3);

    // Where neither the endpoint nor the database says the columns, clients may say any.
    let source = json!({"connection": "dw_2", "schema": "salesforce", "table": "later"});
    let endpoint = json!({"methods": "GET", "route": "/all", "source": source, "auth": "public"});
    operator.post("/tenants/acme/endpoints", &endpoint).await.expect("201");
    let document = sound(&app.get(DOCUMENT).await);
    assert_eq!(row_schema(&document, "/all"), &json!({"type": "object"}));
    let any = document["paths"]["/all"]["get"]["parameters"].as_array().unwrap().last().unwrap();
    assert_eq!((&any["name"], &any["style"], &any["explode"]), (&json!("columns"), &json!("form"), &json!(true)));
    assert_eq!(any["schema"]["additionalProperties"], json!({"type": "string"}));
    let folder = app.workspace.data.sqlite().join("acme");
    let database = rusqlite::Connection::open(folder.join("salesforce.db")).unwrap();
    database.execute_batch("CREATE TABLE later (id INTEGER); INSERT INTO later VALUES (1), (2)").unwrap();
    assert_eq!(app.get("/acme/all?id=eq.2&select=id").await.json(), json!([{"id": 2}]));
}

#[tokio::test]
async fn a_query_is_described_with_what_its_callers_have_to_say() {
    let (app, acme) = app().await;
    app.accounts(&acme).await;
    let operator = Api::operator(&app).await;
    let query = "SELECT id, name, 1 AS since FROM salesforce.accounts WHERE id >= :since AND id < :limit AND name <> ':no' AND id <> :id AND id <> :segment_3";
    let source = json!({"connection": "dw_2", "query": query, "columns": ["id", "name", "since"], "key": ["id"]});
    let endpoint = json!({"methods": "GET", "route": "/of/{id}/*", "source": source, "auth": "public"});
    operator.post("/tenants/acme/endpoints", &endpoint).await.expect("201");
    publish_document(&app, &acme, true).await;
    let document = sound(&app.get(DOCUMENT).await);
    let path = &document["paths"]["/of/{id}/{segment_3}"];
    assert_eq!(path["parameters"][0]["name"], "id", "the path says it");
    let parameters = path["get"]["parameters"].as_array().unwrap();
    let named = |is_required: bool| -> Vec<_> {
        let is_so = |parameter: &&Value| (parameter["required"] == true) == is_required;
        parameters.iter().filter(is_so).map(|parameter| parameter["name"].as_str().unwrap()).collect()
    };
    assert_eq!(named(true), ["since", "limit", "segment_3"], "what has no name in the route says nothing");
    assert_eq!(named(false), ["select", "order", "cursor", "count", "format", "id", "name"]);
    let answer = app.get("/acme/of/7/x?since=1&limit=3&segment_3=9&select=id").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(app.get("/acme/of/7/x?since=1&select=id").await.problem(), (400, "invalid_filter".to_owned()));
    // A connection that is not there any more keeps nobody from reading of the others.
    operator.delete("/tenants/acme/connections/dw_2").await.expect("204");
    sound(&app.get(DOCUMENT).await);
}

#[tokio::test]
async fn readers_are_told_of_what_they_may_call() {
    let (app, acme) = app().await;
    for (methods, route, auth) in [
        ("GET", "/a", AuthMode::Jwt),
        ("POST", "/a", AuthMode::Jwt),
        ("GET", "/b", AuthMode::Jwt),
        ("GET", "/k", AuthMode::Key),
        ("GET", "/open", AuthMode::Public),
    ] {
        app.endpoint(&acme, methods, route, "s", auth).await;
    }
    let ask = async |authorization: &str| {
        Answer::of(app.request(Method::GET, DOCUMENT).header("authorization", authorization)).await
    };
    let operator = Api::operator(&app).await;
    let new = json!({"name": "bound", "endpoint": "/b"});
    let bound = operator.post("/tenants/acme/tokens", &new).await.expect("201");
    let bound = format!("Bearer {}", bound["token"].as_str().unwrap());
    let all = format!("Bearer {}", app.token(&acme).await);
    let document = sound(&ask(&all).await);
    assert_eq!(operations(&document), ["get /a", "get /b", "get /open", "post /a"]);
    let answer = ask(&bound).await;
    assert_eq!(operations(&sound(&answer)), ["get /b", "get /open"]);
    assert_eq!(answer.headers["cache-control"], "private, no-cache");
    assert!(!answer.headers.contains_key("access-control-allow-origin"));

    let other = app.tenant("other").await;
    let foreign = format!("Bearer {}", app.token(&other).await);
    for authorization in ["", "Bearer", "Bearer x.y.z", &foreign, &all.replace("Bearer", "Basic"), &format!("{all}x")] {
        assert_eq!(ask(authorization).await.problem(), (401, "unauthorized".to_owned()), "{authorization}");
    }
    assert_eq!(app.get(DOCUMENT).await.problem(), (401, "unauthorized".to_owned()));
    let twice = app.request(Method::GET, DOCUMENT).header("authorization", &all).header("authorization", &all);
    assert_eq!(Answer::of(twice).await.problem(), (400, "repeated_header".to_owned()));
    assert_eq!(app.get("/nope/openapi.json").await.problem(), (404, "endpoint_unknown".to_owned()));
    assert_eq!(app.post(DOCUMENT, "").await.problem(), (404, "endpoint_unknown".to_owned()));
    // Nothing but what everybody may call: whoever that is, a token of it there is none.
    assert_eq!(app.get("/other/openapi.json").await.problem(), (401, "unauthorized".to_owned()));

    publish_document(&app, &acme, true).await;
    for authorization in ["", &all, &bound, "Bearer x.y.z"] {
        let answer = ask(authorization).await;
        assert_eq!(operations(&sound(&answer)), ["get /a", "get /b", "get /k", "get /open", "post /a"]);
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
    }
    publish_document(&app, &acme, false).await;
    assert_eq!(app.get(DOCUMENT).await.status, 401);
}

#[tokio::test]
async fn a_document_follows_changes_and_readers_who_have_it_are_told_so() {
    let (app, acme) = app().await;
    let endpoint = app.endpoint_with(&acme, ("GET", "/a"), "s", AuthMode::Public, json!({})).await;
    publish_document(&app, &acme, true).await;
    let first = app.get(DOCUMENT).await;
    let etag = first.headers["etag"].to_str().unwrap();
    for (list, status) in [(etag, 304), ("*", 304), ("W/\"x\"", 200), ("garbage", 200), (&etag[1..], 200)] {
        let answer = Answer::of(app.request(Method::GET, DOCUMENT).header("if-none-match", list)).await;
        assert_eq!((answer.status, answer.body.is_empty()), (status, status == 304), "{list}");
    }
    let head = Answer::of(app.request(Method::HEAD, DOCUMENT)).await;
    assert_eq!((head.status, head.body.as_str(), &head.headers["etag"]), (200, "", &first.headers["etag"]));
    assert_eq!(head.headers["content-length"], first.body.len().to_string().as_str());
    assert_eq!(app.get("/acme/openapi.json/").await.body, first.body);

    app.endpoint(&acme, "GET", "/b", "s", AuthMode::Public).await;
    let second = app.get(DOCUMENT).await;
    assert_eq!(operations(&sound(&second)), ["get /a", "get /b"]);
    assert_ne!(second.headers["etag"], first.headers["etag"]);
    let operator = Api::operator(&app).await;
    let off = json!({"methods": "GET", "route": "/a", "script": "s", "auth": "public", "enabled": false});
    operator.put(&format!("/tenants/acme/endpoints/{}", endpoint.id), &off).await.expect("200");
    assert_eq!(operations(&sound(&app.get(DOCUMENT).await)), ["get /b"]);
}

#[tokio::test]
async fn an_endpoint_of_this_very_route_answers_in_its_place() {
    let (app, acme) = app().await;
    for route in ["/**", "/{name}"] {
        app.endpoint(&acme, "GET", route, "s", AuthMode::Public).await;
    }
    publish_document(&app, &acme, true).await;
    sound(&app.get(DOCUMENT).await);
    assert_eq!(app.get("/acme/openapi.jso").await.body, "/openapi.jso");
    assert_eq!(app.get("/acme/x/openapi.json").await.body, "/x/openapi.json");
    app.endpoint(&acme, "GET", "/openapi.json", "s", AuthMode::Public).await;
    assert_eq!(app.get(DOCUMENT).await.body, "/openapi.json");
}

#[tokio::test]
async fn odd_routes_and_schemas_make_a_sound_document() {
    let (app, acme) = app().await;
    let mut deep = json!({"type": "string"});
    for _ in 0..40 {
        deep = json!({"properties": {"x": deep}});
    }
    for (n, (methods, route, settings)) in [
        ("GET", "/a/{x}", json!({})),
        ("POST", "/a/*", json!({})),
        ("ANY", "/a/**", json!({})),
        ("GET", "/a/{x}/{segment_2}/*", json!({})),
        ("GET", "/r/{rest}/**", json!({})),
        ("GET", "/a b/é/\"q\"/[x]", json!({})),
        ("GET", "/a-b", json!({})),
        ("GET", "/a.b", json!({})),
        ("GET", "/a_b", json!({})),
        ("GET, HEAD, OPTIONS, DELETE", "/all", json!({"input": false, "output": {}})),
        ("POST", "/refs", json!({"input": {"$ref": "#"}, "output": {"properties": {"$ref": {"type": "string"}}}})),
        (
            "PUT",
            "/refs",
            json!({"input": {"enum": [{"$ref": 5}, "$ref"]}, "output": {"$id": "https://x.example/y", "$ref": "#/z"}}),
        ),
        ("PATCH", "/refs", json!({"input": deep, "output": {"$ref": "https://elsewhere.example/schema"}})),
        ("POST", "/text", json!({"description": format!("{}\nmore", "ü".repeat(200))})),
        ("POST", "/control", json!({"description": "\u{0}\u{1b}[31m</script>\u{202e}"})),
    ]
    .into_iter()
    .enumerate()
    {
        let auth = [AuthMode::Public, AuthMode::Jwt, AuthMode::Key][n % 3];
        app.endpoint_with(&acme, (methods, route), "s", auth, settings).await;
    }
    publish_document(&app, &acme, true).await;
    let document = sound(&app.get(DOCUMENT).await);
    let paths = &document["paths"];
    assert_eq!(paths["/a/{x}"]["get"]["operationId"], "get_a_x");
    assert_eq!(paths["/a/{x}"]["post"]["security"], json!([{"token": []}]), "what is more specific is described");
    assert!(paths["/a/{x}"]["put"].is_object(), "and what it leaves");
    assert!(paths.get("/a%20b/%C3%A9/%22q%22/%5Bx%5D").is_some(), "{paths}");
    assert_eq!(document["components"]["schemas"]["post_refs_input"]["$ref"], "#/components/schemas/post_refs_input");
    assert_eq!(paths["/text"]["post"]["summary"], "POST /text");
}
