//! What no client should send.

use reqwest::Method;
use serde_json::{Value, json};

use super::Api;
use crate::{control_database::on_each, support::TestApp};

#[tokio::test]
async fn every_body_that_is_none_is_refused_by_name_and_changes_nothing() {
    on_each(body_that_is_none_is_refused_by_name_and_changes_nothing).await;
}

async fn body_that_is_none_is_refused_by_name_and_changes_nothing(app: TestApp) {
    app.serve(&app.acme().await, "hello", "def handler(request): return 'hi'").await;
    let api = Api::operator(&app).await;
    let openapi = api.get("/openapi.json").await.expect("200");
    let before = api.get("/audit?limit=1").await.expect("200");
    for (path, item) in openapi["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Some(content) = operation["requestBody"]["content"]["application/json"].as_object() else { continue };
            let id = operation["operationId"].as_str().unwrap();
            if operation["x-needs"] == "user" || id == "set_state" || id == "call_function" {
                continue; // not for an operator; takes any JSON; looks for its session first (see sdk.rs)
            }
            let path = path.strip_prefix("/api/v1").unwrap().replace("{tenant}", "acme").replace("{script}", "hello");
            let path = path.replace("{version}", "1").replace("{endpoint}", "1").replace("{email}", "a@b.c");
            let path = path.replace(['{', '}'], "");
            let send = |body: String| {
                let request = api.request(method.to_uppercase().parse().unwrap(), &path);
                request.header("content-type", "application/json").body(body)
            };
            for bad in [
                "",
                "{",
                "null",
                "[]",
                "7",
                "\"text\"",
                "{\"unknown_field\": 1}",
                "{\"name\": 7, \"role\": 7}",
                "\u{0}",
            ] {
                let reply = Api::send(send(bad.to_owned())).await;
                assert_eq!(reply.summary(), "400 invalid_body", "{id} with {bad:?}: {}", reply.body);
            }
            let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
            Api::send(send(deep)).await.expect("400 invalid_body");
            let untyped = api.request(method.to_uppercase().parse().unwrap(), &path).body("{}");
            Api::send(untyped).await.expect("415 not_json");

            // Every field that the schema has, with a value of a wrong type.
            let name = content["schema"]["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
            let schema = &openapi["components"]["schemas"][name];
            for (field, schema) in schema["properties"].as_object().unwrap() {
                let is_object = schema["type"] == "object";
                let wrong = if is_object { json!([1]) } else { json!({"nested": [1]}) };
                let reply = Api::send(send(json!({field: wrong}).to_string())).await;
                assert_eq!(reply.summary(), "400 invalid_body", "{id} with {field}: {}", reply.body);
            }
        }
    }
    let after = api.get("/audit?limit=1").await.expect("200");
    assert_eq!(before, after);
}

#[tokio::test]
async fn parameters_that_cannot_be_are_refused() {
    let app = TestApp::new().await;
    let api = Api::operator(&app).await;
    let long = "x".repeat(10_000);
    for (path, expected) in [
        ("/tenants?limit=0", "400 invalid_parameter"),
        ("/tenants?limit=1001", "400 invalid_parameter"),
        ("/tenants?limit=-1", "400 invalid_parameter"),
        ("/tenants?limit=many", "400 invalid_parameter"),
        ("/tenants?cursor=!", "400 invalid_parameter"),
        ("/tenants?cursor=AA", "400 invalid_parameter"),
        ("/tenants?unknown=1", "400 invalid_parameter"),
        ("/tenants/%00", "404 not_found"),
        ("/tenants/acme%2F..", "404 not_found"),
        (&format!("/tenants/{long}"), "404 not_found"),
        ("/tenants/nothing", "404 not_found"),
        ("/tenants/acme/scripts/no such", "400 invalid_parameter"),
        ("/tenants/acme/scripts/nothing/versions/x", "400 invalid_parameter"),
        ("/tenants/acme/scripts/nothing/versions/99999999999999999999", "400 invalid_parameter"),
        ("/tenants/acme/scripts/nothing/versions?cursor=eA", "400 invalid_parameter"),
        ("/tenants/acme/endpoints/-1", "404 not_found"),
        ("/tenants/acme/invocations/x", "404 not_found"),
        ("/tenants/acme/invocations?since=yesterday", "400 invalid_parameter"),
        ("/tenants/acme/invocations?version=1", "400 invalid_parameter"),
        ("/tenants/acme/invocations?status_min=70000", "400 invalid_parameter"),
        ("/nothing", "404 path_unknown"),
        ("/tenants/acme/", "404 path_unknown"),
    ] {
        let reply = api.get(path).await;
        assert_eq!(reply.summary(), expected, "{path}: {}", reply.body);
        assert!(reply.body.to_string().len() < 1000, "{path}");
        assert_eq!(reply.headers["content-type"], "application/problem+json", "{path}");
    }
    Api::send(api.request(Method::PATCH, "/tenants")).await.expect("405 method_not_allowed");
    let twice = api.request(Method::GET, "/session").header("authorization", "Bearer x");
    Api::send(twice).await.expect("400 invalid_parameter");
}

#[tokio::test]
async fn credentials_broken_in_every_way_are_refused() {
    let app = TestApp::new().await;
    let anonymous = Api::anonymous(&app);
    let zeros = format!("Bearer pqh_{}", "0".repeat(64));
    let long = format!("Bearer pqh_{}", "0".repeat(7000));
    for value in ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "pqh_00", "Bearer pqh_", "JWT pqh_00", &zeros, &long] {
        let request = anonymous.request(Method::GET, "/session").header("authorization", value);
        let reply = Api::send(request).await;
        assert_eq!(reply.headers["www-authenticate"], "Bearer", "{value}");
        assert_eq!(reply.summary(), "401 unauthenticated", "{value}");
    }
}

#[tokio::test]
async fn files_that_are_none_are_refused() {
    let app = TestApp::new().await;
    let api = Api::operator(&app).await;
    let publish =
        async |files: Value| api.post("/tenants/acme/scripts/x/versions", &json!({"files": files})).await.summary();
    let file = |name: &str| json!({"name": name, "text": ""});
    for files in [
        json!([]),
        json!([file("/etc/passwd")]),
        json!([file("../x")]),
        json!([file("")]),
        json!([file("a"), file("a")]),
        json!([{"name": "a"}]),
        json!([{"name": "a", "text": "", "base64": ""}]),
        json!([{"name": "a", "base64": "?"}]),
        Value::Array((0..4001).map(|n| file(&n.to_string())).collect()),
    ] {
        assert_eq!(
            publish(files.clone()).await,
            "422 invalid",
            "{}",
            files.to_string().chars().take(80).collect::<String>()
        );
    }
    assert_eq!(publish(json!([{"name": "a", "text": "x".repeat((16 << 20) + 1)}])).await, "422 invalid");
    assert_eq!(publish(json!([{"name": "a", "text": "x".repeat(24 << 20)}])).await, "413 body_too_large");
    let anonymous = Api::anonymous(&app);
    let large = json!({"email": "a@b.example", "password": "x".repeat(20 << 10)});
    anonymous.post("/session", &large).await.expect("413 body_too_large");
    api.get("/tenants/acme/scripts/x").await.expect("404 not_found");
}

#[tokio::test]
async fn of_many_at_once_one_creates_and_one_deletes() {
    let app = TestApp::new().await;
    let api = Api::operator(&app).await;
    let body = json!({"name": "raced"});
    let replies = futures::future::join_all((0..8).map(|_| api.post("/tenants/acme/scripts", &body))).await;
    let created = replies.iter().filter(|reply| reply.summary() == "201").count();
    assert!(created == 1 && replies.iter().all(|r| ["201", "409 name_taken"].contains(&r.summary().as_str())));

    // Publishing and deleting at once: whatever comes first, both say what happened.
    let files = json!({"files": [{"name": "handler.py", "text": "def handler(request): return 1\n"}]});
    for _ in 0..5 {
        let publish = api.post("/tenants/acme/scripts/raced/versions", &files);
        let delete = api.delete("/tenants/acme/scripts/raced");
        let (published, deleted) = tokio::join!(publish, delete);
        assert!(["201", "404 not_found"].contains(&published.summary().as_str()), "{}", published.body);
        assert!(["204", "404 not_found"].contains(&deleted.summary().as_str()), "{}", deleted.body);
        let script = api.get("/tenants/acme/scripts/raced").await;
        if script.summary() == "200" {
            let version = script.body["latest_version"].as_i64().unwrap();
            api.get(&format!("/tenants/acme/scripts/raced/versions/{version}/files")).await.expect("200");
        }
    }
}
