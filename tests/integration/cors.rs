//! Pages of other sites that call endpoints from a browser.

use pqhost::domain::exchange::AuthMode;
use reqwest::Method;
use serde_json::json;

use crate::support::{Answer, TestApp};

const SHOP: &str = "https://shop.example";

/// What the answers say about origins, field by field; absent ones are empty.
fn said(answer: &Answer) -> [String; 3] {
    ["allow-origin", "allow-methods", "allow-credentials"].map(|name| {
        let values: Vec<_> = answer.headers.get_all(format!("access-control-{name}")).iter().collect();
        values.iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join(" and ")
    })
}

fn varies(answer: &Answer) -> String {
    let values = answer.headers.get_all("vary").iter().map(|value| value.to_str().unwrap());
    values.collect::<Vec<_>>().join(", ")
}

async fn preflight(app: &TestApp, path: &str, origin: &str, method: &str) -> Answer {
    let request = app.request(Method::OPTIONS, path).header("origin", origin);
    Answer::of(request.header("access-control-request-method", method)).await
}

async fn page(app: &TestApp, path: &str, origin: &str) -> Answer {
    Answer::of(app.request(Method::GET, path).header("origin", origin)).await
}

async fn app() -> TestApp {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    let source = "def handler(request): return request['method'], 200, {'X-Method': request['method']}";
    app.try_publish(&acme, "shop", source).await.unwrap();
    let cors = json!({"cors": {"origins": [SHOP], "headers": ["X-Shop"], "expose": ["X-Method"], "credentials": true,
        "max_age": 60}});
    app.endpoint_with(&acme, ("GET", "/orders"), "shop", AuthMode::Jwt, cors.clone()).await;
    app.endpoint_with(&acme, ("POST", "/orders"), "shop", AuthMode::Jwt, cors).await;
    let other = json!({"cors": {"origins": ["https://other.example"]}});
    app.endpoint_with(&acme, ("PUT", "/orders"), "shop", AuthMode::Public, other).await;
    app.endpoint(&acme, "DELETE", "/orders", "shop", AuthMode::Public).await;
    let any = json!({"cors": {"origins": ["*"]}});
    app.endpoint_with(&acme, ("ANY", "/open/{id}"), "shop", AuthMode::Public, any).await;
    app
}

#[tokio::test]
async fn the_host_answers_preflights_without_a_token() {
    let app = app().await;
    for path in ["/acme/orders", "/acme/orders/"] {
        let answer = preflight(&app, path, SHOP, "POST").await;
        assert_eq!((answer.status, answer.body.as_str()), (204, ""));
        assert_eq!(said(&answer), [SHOP, "GET, HEAD, POST", "true"]);
        assert_eq!(answer.headers["access-control-allow-headers"], "authorization, content-type, x-api-key, X-Shop");
        assert_eq!(answer.headers["access-control-max-age"], "60");
        assert_eq!(varies(&answer), "origin, access-control-request-method, access-control-request-headers");
        assert!(answer.headers.contains_key("x-request-id"));
    }
    assert_eq!(said(&preflight(&app, "/acme/orders", "https://other.example", "PUT").await)[1], "PUT");
    let open = preflight(&app, "/acme/open/1", "null", "GET").await;
    assert_eq!(said(&open), ["*", "GET, HEAD, POST, PUT, PATCH, DELETE", ""]);
    // Methods that nobody knows reach an endpoint for all methods, and are its policy's.
    let open = preflight(&app, "/acme/open/1", SHOP, "PROPFIND").await;
    assert_eq!(said(&open)[1], "GET, HEAD, POST, PUT, PATCH, DELETE, PROPFIND");

    // Where the method that is asked for has no policy there is the answer to OPTIONS that was always there.
    for (path, method) in [("/acme/orders", "DELETE"), ("/acme/orders", "PATCH"), ("/acme/orders", "post")] {
        let answer = preflight(&app, path, SHOP, method).await;
        assert_eq!((answer.status, said(&answer)), (204, Default::default()), "{method}");
        assert_eq!(answer.headers["allow"], "GET, HEAD, POST, PUT, DELETE, OPTIONS");
    }
    assert_eq!(preflight(&app, "/acme/nope", SHOP, "GET").await.problem(), (404, "endpoint_unknown".to_owned()));
}

#[tokio::test]
async fn look_alikes_of_an_origin_are_let_in_nowhere() {
    let app = app().await;
    let token = app.token(&app.acme().await).await;
    for origin in [
        "null",
        "*",
        "http://shop.example",
        "HTTPS://SHOP.EXAMPLE",
        "https://shop.example.",
        "https://shop.example/",
        "https://shop.example:443",
        "https://shop.example:8443",
        "https://shop.example.evil.com",
        "https://www.shop.example",
        "https://evilshop.example",
        "https://shop.example@evil.com",
        "https://user@shop.example",
        "https://shop.example, https://shop.example",
        "https://other.example",
        "https://sh\u{f6}p.example",
        "",
        &"x".repeat(8000),
    ] {
        let answer = preflight(&app, "/acme/orders", origin, "POST").await;
        assert_eq!((answer.status, said(&answer)), (204, Default::default()), "{origin}");
        assert!(varies(&answer).contains("origin"));
        let request = app.request(Method::GET, "/acme/orders").bearer_auth(&token).header("origin", origin);
        let answer = Answer::of(request).await;
        assert_eq!((answer.status, said(&answer)), (200, Default::default()), "it keeps browsers out, not callers");
        assert_eq!(varies(&answer), "authorization, origin");
    }
    let twice = |method| {
        let request = app.request(method, "/acme/orders").header("origin", SHOP).header("origin", SHOP);
        request.header("access-control-request-method", "GET").bearer_auth(&token)
    };
    assert_eq!(said(&Answer::of(twice(Method::OPTIONS)).await), <[String; 3]>::default());
    assert_eq!(said(&Answer::of(twice(Method::GET)).await), <[String; 3]>::default());
    let bytes = reqwest::header::HeaderValue::from_bytes(b"https://shop.example\xff").unwrap();
    let request = app.request(Method::GET, "/acme/orders").header("origin", bytes).bearer_auth(&token);
    assert_eq!(said(&Answer::of(request).await), <[String; 3]>::default());
}

#[tokio::test]
async fn a_page_reads_answers_and_errors_alike() {
    let app = app().await;
    let acme = app.acme().await;
    let refused = page(&app, "/acme/orders", SHOP).await;
    assert_eq!(refused.problem(), (401, "unauthorized".to_owned()));
    assert_eq!(said(&refused), [SHOP, "", "true"]);
    let request = app.request(Method::GET, "/acme/orders").header("origin", SHOP).bearer_auth(app.token(&acme).await);
    let answer = Answer::of(request).await;
    assert_eq!((answer.status, said(&answer)), (200, [SHOP, "", "true"].map(str::to_owned)));
    let exposed = "x-request-id, x-script-version, etag, retry-after, link, x-total-count, x-next-cursor, X-Method";
    assert_eq!(answer.headers["access-control-expose-headers"], exposed);

    let source = "def handler(request): raise pq.HTTPError(404, 'none') if 'id' in request['query'] else 1/0";
    app.try_publish(&acme, "fails", source).await.unwrap();
    let cors = json!({"cors": {"origins": [SHOP]}});
    app.endpoint_with(&acme, ("GET", "/fails"), "fails", AuthMode::Public, cors).await;
    let limit = json!({"requests": 1, "seconds": 86_400});
    let kept = json!({"cors": {"origins": [SHOP]}, "cache": {"ttl": 600}, "rate_limit": limit});
    app.endpoint_with(&acme, ("GET", "/limited"), "shop", AuthMode::Public, kept).await;
    let limited = "/acme/limited";
    for (path, status) in [("/acme/fails", 500), ("/acme/fails?id=1", 404), (limited, 200), (limited, 429)] {
        let answer = page(&app, path, SHOP).await;
        assert_eq!((answer.status, said(&answer)), (status, [SHOP, "", ""].map(str::to_owned)));
    }
}

#[tokio::test]
async fn a_policy_wins_over_what_a_script_says_and_without_one_scripts_say_it() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    let source = "
def handler(request):
    return 'own', 200, {'Access-Control-Allow-Origin': '*', 'Access-Control-Allow-Credentials': 'true',
        'Access-Control-Allow-Methods': 'TRACE', 'Vary': 'Accept'}
";
    app.try_publish(&acme, "own", source).await.unwrap();
    app.endpoint(&acme, "GET, OPTIONS", "/own", "own", AuthMode::Public).await;
    let cors = json!({"cors": {"origins": [SHOP]}});
    app.endpoint_with(&acme, ("GET, OPTIONS", "/policy"), "own", AuthMode::Public, cors).await;
    for method in [Method::GET, Method::OPTIONS] {
        let request = app.request(method, "/acme/own").header("origin", "null");
        let answer = Answer::of(request.header("access-control-request-method", "GET")).await;
        assert_eq!((answer.body.as_str(), said(&answer)), ("own", ["*", "TRACE", "true"].map(str::to_owned)));
    }
    let answer = page(&app, "/acme/policy", "null").await;
    assert_eq!((said(&answer), varies(&answer).as_str()), (Default::default(), "Accept, origin"));
    assert_eq!(said(&page(&app, "/acme/policy", SHOP).await), [SHOP, "", ""]);
    assert_eq!(preflight(&app, "/acme/policy", SHOP, "GET").await.body, "", "the host answers, not the script");
    let plain = Answer::of(app.request(Method::OPTIONS, "/acme/policy")).await;
    assert_eq!(plain.body, "own", "what is no preflight is the script's");
}
