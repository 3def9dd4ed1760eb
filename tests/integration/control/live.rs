//! Live tails: who may follow, for how long, and how many at once.

use std::time::Duration;

use futures::StreamExt as _;
use reqwest::{Method, Response};
use serde_json::json;

use super::Api;
use crate::support::{HANG_GUARD, TestApp};

const LIVE: &str = "/tenants/acme/invocations/live";

async fn follow(api: &Api) -> Response {
    let response = api.request(Method::GET, LIVE).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response
}

/// What still comes, until the host ends the stream.
async fn rest(response: Response) -> String {
    let reading = async {
        let mut pieces = response.bytes_stream();
        let mut text = Vec::new();
        while let Some(piece) = pieces.next().await {
            text.extend(piece.expect("it ends, and is not broken off"));
        }
        String::from_utf8(text).unwrap()
    };
    tokio::time::timeout(HANG_GUARD, reading).await.expect("the host ends the stream")
}

#[tokio::test]
async fn a_tail_ends_with_its_credential_its_role_or_its_tenant() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.serve(&acme, "hello", "def handler(request): return 'hi'").await;
    let operator = Api::operator(&app).await;

    // Something is shown while it may be, and nothing after that.
    let made = operator.post("/tenants/acme/api-tokens", &json!({"role": "viewer"})).await.expect("201");
    let tail = follow(&operator.with_token(made["token"].as_str().unwrap())).await;
    app.get("/acme/hello").await;
    app.last_invocation(&acme, 0).await;
    let mut tail = tail;
    let first = tokio::time::timeout(HANG_GUARD, tail.chunk()).await.unwrap().unwrap().unwrap();
    assert!(String::from_utf8_lossy(&first).contains("/hello"), "{first:?}");
    operator.delete(&format!("/tenants/acme/api-tokens/{}", made["id"].as_str().unwrap())).await.expect("204");
    // How long somebody who was let in stays so: a limit that the host keeps by the same clock, whatever a machine needs.
    tokio::time::sleep(Duration::from_secs(1)).await;
    app.get("/acme/hello").await;
    assert!(!rest(tail).await.contains("/hello"), "what happens after the token is revoked is not shown");

    let vic = operator.user("vic@acme.example", "acme", "viewer").await;
    let tail = follow(&vic).await;
    operator.delete("/tenants/acme/members/vic@acme.example").await.expect("204");
    rest(tail).await;
    vic.get(LIVE).await.expect("404 not_found");

    let ann = operator.user("ann@acme.example", "acme", "owner").await;
    let tail = follow(&ann).await;
    operator.put("/users/ann@acme.example/password", &json!({"password": "another horse battery"})).await.expect("204");
    rest(tail).await;

    app.tenant("globex").await;
    let tail = operator.request(Method::GET, "/tenants/globex/invocations/live").send().await.unwrap();
    operator.delete("/tenants/globex").await.expect("204");
    rest(tail).await;
}

#[tokio::test]
async fn tails_keep_nobody_else_out() {
    let app = TestApp::new().await;
    let operator = Api::operator(&app).await;
    let vic = operator.user("vic@acme.example", "acme", "viewer").await;
    let mut tails = Vec::new();
    for _ in 0..8 {
        tails.push(follow(&vic).await);
    }
    let refused = vic.get(LIVE).await;
    assert!(refused.headers.contains_key("retry-after"));
    refused.expect("429 too_many_tails");
    vic.get("/tenants/acme/invocations").await.expect("200");
    let other = follow(&operator).await;
    let health = app.client.get(format!("{}/healthz", app.control_url)).send().await.unwrap();
    assert_eq!(health.status(), 200);
    drop((tails.pop(), other));
    // The host notices when it has something to say, or looks.
    let again = async {
        while vic.get(LIVE).await.summary() != "200" {
            tokio::time::sleep(Duration::from_millis(50)).await; // the pace of asking
        }
    };
    tokio::time::timeout(HANG_GUARD, again).await.expect("the place is free again");
}
