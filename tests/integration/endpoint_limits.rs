//! Endpoints that are switched off, or have limits of their own.

use pqhost::domain::exchange::AuthMode;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    control::Api,
    support::{Answer, HANG_GUARD, TestApp},
};

const USES: &str = "
import time
def handler(request):
    kind = request['query'].get('kind')
    if kind == 'fuel':
        while True: pass
    if kind == 'deadline': time.sleep(60)
    if kind == 'memory': return str(len(bytearray(100 << 20)))
    if kind == 'response': return 'x' * 100_000
    return str(len(request['body']))
";

#[tokio::test]
async fn an_endpoint_has_limits_of_its_own_below_the_hosts() {
    let app = TestApp::with(|config| {
        config.limits.memory_bytes = 256 << 20;
        config.limits.deadline = HANG_GUARD; // for all but the endpoint that is about it
    })
    .await;
    let acme = app.acme().await;
    app.try_publish(&acme, "s", USES).await.unwrap();
    let endpoint = async |route: &str, limits: Value| {
        app.endpoint_with(&acme, ("ANY", route), "s", AuthMode::Public, json!({ "limits": limits })).await;
    };
    endpoint("/plain", json!({})).await;
    endpoint("/wide", json!({"fuel": u64::MAX, "request_body_bytes": u64::MAX, "memory_bytes": u64::MAX})).await;
    endpoint("/fuel", json!({"fuel": 200_000_000})).await;
    endpoint("/deadline", json!({"deadline_ms": 100})).await;
    endpoint("/memory", json!({"memory_bytes": 64 << 20})).await;
    endpoint("/response", json!({"response_body_bytes": 50_000})).await;
    endpoint("/body", json!({"request_body_bytes": 1000})).await;
    endpoint("/none", json!({"request_body_bytes": 0})).await;

    for (kind, status, code) in [
        ("fuel", 500, "script_fuel"),
        ("deadline", 504, "script_deadline"),
        ("memory", 500, "script_memory"),
        ("response", 500, "script_response_too_large"),
    ] {
        let answer = app.get(&format!("/acme/{kind}?kind={kind}")).await;
        assert_eq!(answer.problem(), (status, code.to_owned()), "{kind}");
        // Where there is time for an answer on a slow machine too.
        let next = if kind == "deadline" { "plain" } else { kind };
        assert_eq!(app.get(&format!("/acme/{next}")).await.body, "0", "{kind}: the next request is as ever");
    }
    for kind in ["memory", "response"] {
        assert_eq!(app.get(&format!("/acme/plain?kind={kind}")).await.status, 200, "{kind}");
    }
    for (route, bytes, status) in [
        ("body", 1000, 200),
        ("body", 1001, 413),
        ("none", 0, 200),
        ("none", 1, 413),
        ("plain", 1001, 200),
        ("wide", 2 << 20, 200),
        ("wide", (2 << 20) + 1, 413),
    ] {
        assert_eq!(app.post(&format!("/acme/{route}"), vec![0; bytes]).await.status, status, "{route} {bytes}");
    }
    app.assert_rewound();
}

#[tokio::test]
async fn a_switched_off_endpoint_answers_nobody_and_is_switched_on_again() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.try_publish(&acme, "s", "def handler(request): return request['method']").await.unwrap();
    let cors = json!({"cors": {"origins": ["*"]}});
    let endpoint = app.endpoint_with(&acme, ("GET", "/x"), "s", AuthMode::Public, cors.clone()).await;
    app.endpoint(&acme, "POST", "/x", "s", AuthMode::Public).await;
    let operator = Api::operator(&app).await;
    let switch = async |enabled: bool| {
        let wanted = json!({"methods": "GET", "route": "/x", "script": "s", "auth": "public", "enabled": enabled, "settings": cors});
        operator.put(&format!("/tenants/acme/endpoints/{}", endpoint.id), &wanted).await.expect("200");
    };
    assert_eq!(app.get("/acme/x").await.body, "GET");
    switch(false).await;
    assert_eq!(app.get("/acme/x").await.problem(), (404, "endpoint_disabled".to_owned()));
    assert_eq!(Answer::of(app.request(Method::HEAD, "/acme/x")).await.status, 404);
    let preflight = app.request(Method::OPTIONS, "/acme/x").header("origin", "https://a.example");
    let preflight = Answer::of(preflight.header("access-control-request-method", "GET")).await;
    assert!(!preflight.headers.contains_key("access-control-allow-origin"), "{preflight:?}");
    assert_eq!(app.post("/acme/x", "").await.body, "POST", "another endpoint of the path answers");
    switch(true).await;
    assert_eq!(app.get("/acme/x").await.body, "GET");
}
