//! Endpoints that answer so often and no more.

use futures::StreamExt as _;
use pqhost::domain::exchange::AuthMode;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::{Answer, TestApp};

const ECHO: &str = "def handler(request): return 'hi'";

async fn app(auth: AuthMode, settings: Value) -> TestApp {
    let app = TestApp::with(|config| config.trusted_proxies.networks = vec!["127.0.0.0/8".parse().unwrap()]).await;
    let acme = app.acme().await;
    app.try_publish(&acme, "s", ECHO).await.unwrap();
    app.endpoint_with(&acme, ("GET, POST", "/r"), "s", auth, settings).await;
    app
}

fn limit(requests: u32, seconds: u32, per: &str) -> Value {
    json!({"rate_limit": {"requests": requests, "seconds": seconds, "per": per}})
}

async fn status(request: RequestBuilder) -> u16 {
    Answer::of(request).await.status
}

#[tokio::test]
async fn each_token_has_its_own_limit() {
    let app = app(AuthMode::Jwt, limit(3, 86_400, "caller")).await;
    let acme = app.acme().await;
    let tokens = [app.token(&acme).await, app.token(&acme).await];
    for token in &tokens {
        // Who is not let in is not counted.
        for _ in 0..5 {
            let request = app.request(Method::GET, "/acme/r").header("authorization", format!("Bearer {token}x"));
            assert_eq!(status(request).await, 401);
        }
        for _ in 0..3 {
            assert_eq!(status(app.request(Method::GET, "/acme/r").bearer_auth(token)).await, 200);
        }
        // The body of a request that is refused is not read.
        let post = app.request(Method::POST, "/acme/r").bearer_auth(token).body(vec![0; 3 << 20]);
        for request in [app.request(Method::GET, "/acme/r").bearer_auth(token), post] {
            let refused = Answer::of(request).await;
            assert_eq!(refused.problem(), (429, "rate_limited".to_owned()));
            let after: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((28_700..=28_800).contains(&after), "{after}");
        }
    }
    let plain = app.request(Method::OPTIONS, "/acme/r").header("origin", "https://a.example");
    assert_eq!(status(plain.header("access-control-request-method", "GET")).await, 204);
}

#[tokio::test]
async fn an_endpoint_may_have_one_limit_for_all() {
    let app = app(AuthMode::Jwt, limit(10, 86_400, "endpoint")).await;
    let acme = app.acme().await;
    let tokens = [app.token(&acme).await, app.token(&acme).await];
    let asking = (0..40).map(|n: usize| status(app.request(Method::GET, "/acme/r").bearer_auth(&tokens[n % 2])));
    let answered = futures::future::join_all(asking).await;
    assert_eq!(answered.iter().filter(|status| **status == 200).count(), 10, "{answered:?}");
    assert_eq!(answered.iter().filter(|status| **status == 429).count(), 30, "{answered:?}");
    // Another endpoint, of the same script, has its own.
    app.endpoint_with(&acme, ("GET", "/other"), "s", AuthMode::Public, limit(1, 86_400, "endpoint")).await;
    assert_eq!([app.get("/acme/other").await.status, app.get("/acme/other").await.status], [200, 429]);
}

#[tokio::test]
async fn strangers_are_counted_by_the_network_they_come_from() {
    let app = app(AuthMode::Public, limit(1, 86_400, "caller")).await;
    let call = async |client: &str| status(app.request(Method::GET, "/acme/r").header("x-forwarded-for", client)).await;
    for (client, expected) in [
        ("192.0.2.1", 200),
        ("192.0.2.1", 429),
        ("192.0.2.2", 200),
        ("2001:db8::1", 200),
        ("2001:db8::2", 429),
        ("2001:db8:0:1::2", 200),
        // What a client itself puts before what its proxy says is not believed.
        ("198.51.100.1, 192.0.2.2", 429),
        ("garbage", 200),
        ("more garbage", 429),
    ] {
        assert_eq!(call(client).await, expected, "{client}");
    }
    // A token is nothing to an endpoint that asks for none.
    let token = app.token(&app.acme().await).await;
    let request = app.request(Method::GET, "/acme/r").header("x-forwarded-for", "192.0.2.1").bearer_auth(token);
    assert_eq!(status(request).await, 429);
}

#[tokio::test]
async fn answers_from_memory_count_too() {
    let settings = json!({"rate_limit": {"requests": 20, "seconds": 86_400}, "cache": {"ttl": 600}});
    let app = app(AuthMode::Public, settings).await;
    let answers: Vec<_> = futures::stream::iter(0..25).then(|_| app.get("/acme/r")).collect().await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 20);
    assert!(answers.iter().any(|answer| answer.headers.get("x-cache").is_some_and(|from| from == "hit")));
}

#[tokio::test]
async fn a_limit_fills_up_again() {
    let app = app(AuthMode::Public, limit(2, 6, "caller")).await;
    // The third, or a later one where two take longer than it takes to fill up.
    let refused = app.until("/acme/r", |answer| answer.status == 429).await;
    let after = refused.headers["retry-after"].to_str().unwrap();
    assert!(["1", "2", "3"].contains(&after), "{after}");
    app.until("/acme/r", |answer| answer.status == 200).await;
}

#[tokio::test]
async fn a_limit_that_is_changed_counts_anew() {
    let app = app(AuthMode::Public, limit(1, 86_400, "endpoint")).await;
    assert_eq!([app.get("/acme/r").await.status, app.get("/acme/r").await.status], [200, 429]);
    let operator = crate::control::Api::operator(&app).await;
    let endpoints = operator.get("/tenants/acme/endpoints").await.expect("200");
    let path = format!("/tenants/acme/endpoints/{}", endpoints["items"][0]["id"]);
    let endpoint = json!({"methods": "GET", "route": "/r", "script": "s", "auth": "public",
        "settings": limit(3, 86_400, "endpoint")});
    operator.put(&path, &endpoint).await.expect("200");
    let statuses = [(); 4].map(|()| app.get("/acme/r"));
    assert_eq!(futures::future::join_all(statuses).await.iter().filter(|answer| answer.status == 200).count(), 3);
    operator.put(&path, &json!({"methods": "GET", "route": "/r", "script": "s", "auth": "public"})).await.expect("200");
    for _ in 0..20 {
        assert_eq!(app.get("/acme/r").await.status, 200);
    }
}
