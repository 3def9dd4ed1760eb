//! What callers see of the host itself.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD};
use futures::{StreamExt as _, stream::FuturesUnordered};
use pqhost::domain::exchange::AuthMode;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{Answer, HANG_GUARD, Tenant, TestApp};

const ECHO: &str = "def handler(request): return [request['method'], request['path'], len(request['body'])]";

async fn app() -> TestApp {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.try_publish(&acme, "echo", ECHO).await.unwrap();
    app.endpoint(&acme, "GET", "/open", "echo", AuthMode::Public).await;
    app.endpoint(&acme, "POST", "/open", "echo", AuthMode::Public).await;
    app.endpoint(&acme, "GET", "/closed", "echo", AuthMode::Jwt).await;
    app
}

#[tokio::test]
async fn tokens_open_what_is_closed() {
    let app = app().await;
    let acme = app.acme().await;
    let token = app.token(&acme).await;
    for scheme in ["JWT", "Bearer"] {
        let request = app.request(Method::GET, "/acme/closed").header("authorization", format!("{scheme} {token}"));
        assert_eq!(Answer::of(request).await.status, 200);
    }
    let other = app.tenant("other").await;
    let foreign = app.token(&other).await;
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    let kid = String::from_utf8(URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    let none_with_kid = URL_SAFE_NO_PAD.encode(kid.replace("HS256", "none"));
    let mut texts = Vec::new();
    for authorization in [
        "",
        "Bearer",
        "Bearer x.y.z",
        &format!("Bearer {foreign}"),
        "Basic YTpi",
        &format!("Bearer {none}.{claims}."),
        &format!("Bearer {none_with_kid}.{claims}."),
        &format!("Bearer {none_with_kid}.{claims}.{signature}"),
        &format!("Bearer {signed}."),
        &format!("Bearer {signed}"),
        &format!("Bearer {header}.{}.{signature}", URL_SAFE_NO_PAD.encode("{}")),
        &format!("Bearer {}", expired(&app, &acme, &token).await),
        &format!("Bearer {}", "x".repeat(20_000)),
    ] {
        let answer = Answer::of(app.request(Method::GET, "/acme/closed").header("authorization", authorization)).await;
        assert_eq!(answer.problem(), (401, "unauthorized".to_owned()), "{authorization}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        texts.push(answer.json()["detail"].clone());
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "wrong, missing and foreign tokens look the same");
    let twice = app.request(Method::GET, "/acme/closed").header("authorization", "a").header("authorization", "b");
    assert_eq!(Answer::of(twice).await.problem(), (400, "repeated_header".to_owned()));
}

/// The token, signed anew by the tenant's own key as it would be two hours after its expiry.
async fn expired(app: &TestApp, tenant: &Tenant, token: &str) -> String {
    let header = jsonwebtoken::decode_header(token).unwrap();
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let mut claims: Value = serde_json::from_slice(&claims).unwrap();
    let key = app.workspace.db.signing_keys().list(tenant.id).await.unwrap().remove(0);
    let context = format!("signing-key:{}:{}", tenant.id, key.kid);
    let secret = app.workspace.vault.unseal(&context, &key.sealed).unwrap();
    let key = jsonwebtoken::EncodingKey::from_secret(secret.expose());
    let again = jsonwebtoken::encode(&header, &claims, &key).unwrap();
    let request = app.request(Method::GET, "/acme/closed").header("authorization", format!("Bearer {again}"));
    assert_eq!(Answer::of(request).await.status, 200, "it is the expiry alone that is refused");
    for claim in ["iat", "exp"] {
        claims[claim] = (claims[claim].as_u64().unwrap() - 7200).into();
    }
    jsonwebtoken::encode(&header, &claims, &key).unwrap()
}

#[tokio::test]
async fn a_revoked_token_is_refused_within_a_second() {
    let app = app().await;
    let acme = app.acme().await;
    let token = app.token(&acme).await;
    let status = async || {
        Answer::of(app.request(Method::GET, "/acme/closed").header("authorization", format!("JWT {token}")))
            .await
            .status
    };
    assert_eq!(status().await, 200);
    let id = app.workspace.db.tokens().list_tokens_after(acme.id, None, 10).await.unwrap().remove(0).id;
    app.workspace.db.tokens().revoke_token(acme.id, &id).await.unwrap();
    let refused = async {
        while status().await != 401 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(HANG_GUARD, refused).await.expect("the host sees what another process changed");
}

#[tokio::test]
async fn unknown_things_and_wrong_methods() {
    let app = app().await;
    for path in ["/", "/nope", "/nope/open", "/acme", "/acme/nope", "/acme/open/more", "/acme//open", "/ac%00me/open"] {
        assert_eq!(app.get(path).await.problem(), (404, "endpoint_unknown".to_owned()), "{path}");
    }
    // Clients tidy such paths up before they send them, so these are sent by hand.
    for path in ["/acme/%zz", "/acme/%ff", "/acme/%2e%2e/x", "/acme/../x"] {
        let answer = raw(&app, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("invalid_path"), "{path}: {answer}");
    }
    let answer = Answer::of(app.request(Method::DELETE, "/acme/open")).await;
    assert_eq!(answer.problem(), (405, "method_not_allowed".to_owned()));
    assert!(answer.headers["allow"].to_str().unwrap().contains("GET"), "{answer:?}");
    assert_eq!(app.get(&format!("/acme/open?{}", "x".repeat(9000))).await.problem(), (414, "url_too_long".to_owned()));
    for query in ["?", "?&&=&", "?a=%zz", "?%ff=%00", "?a=b=c&;"] {
        assert_eq!(app.get(&format!("/acme/open{query}")).await.status, 200, "{query}");
    }
}

#[tokio::test]
async fn head_options_and_trailing_slashes() {
    let app = app().await;
    let head = Answer::of(app.request(Method::HEAD, "/acme/open")).await;
    let get = app.get("/acme/open/").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.headers["content-length"], r#"["GET","/open",0]"#.len().to_string().as_str());
    assert_eq!(get.json(), json!(["GET", "/open/", 0]));
    let options = Answer::of(app.request(Method::OPTIONS, "/acme/open")).await;
    assert_eq!((options.status, options.body.as_str()), (204, ""));
    assert!(options.headers["allow"].to_str().unwrap().contains("POST"), "{options:?}");
}

#[tokio::test]
async fn bodies_have_a_limit_announced_or_chunked() {
    let app = app().await;
    let fits = app.post("/acme/open", vec![b'x'; 2 << 20]).await;
    assert_eq!(fits.json()[2], 2 << 20);
    let chunks = |bytes: usize| {
        reqwest::Body::wrap_stream(futures::stream::iter(
            (0..bytes >> 16).map(|_| Ok::<_, std::io::Error>(vec![0; 1 << 16])),
        ))
    };
    assert_eq!(app.post("/acme/open", chunks(2 << 20)).await.json()[2], 2 << 20);
    let refused = app.request(Method::POST, "/acme/open").body(chunks((2 << 20) + (1 << 16))).send().await;
    // The host may close the connection while the client still sends; if the answer arrives, it is the right one.
    if let Ok(response) = refused {
        assert_eq!(response.status(), 413);
    }
    let announced = raw(&app, "POST /acme/open HTTP/1.1\r\nhost: x\r\ncontent-length: 3000000\r\n\r\n").await;
    assert!(announced.starts_with("HTTP/1.1 413") && announced.contains("body_too_large"), "{announced}");
}

/// Sends bytes and reads until the host closes the connection.
async fn raw(app: &TestApp, request: &str) -> String {
    let mut stream = TcpStream::connect(app.url.strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    if !request.contains("connection: close") {
        stream.shutdown().await.unwrap();
    }
    let mut answer = Vec::new();
    tokio::time::timeout(HANG_GUARD, stream.read_to_end(&mut answer)).await.expect("the host closes").ok();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn requests_cannot_be_smuggled() {
    let app = app().await;
    for (what, request) in [
        ("two lengths", "POST /acme/open HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd"),
        ("a length that is no number", "POST /acme/open HTTP/1.1\r\nhost: x\r\ncontent-length: +3\r\n\r\nabc"),
        (
            "an encoding that is not chunked",
            "POST /acme/open HTTP/1.1\r\nhost: x\r\ntransfer-encoding: xchunked\r\n\r\nabc",
        ),
        ("a space before the colon", "GET /acme/open HTTP/1.1\r\nhost : x\r\n\r\n"),
        ("a folded field", "GET /acme/open HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\r\n"),
        ("no version", "GET /acme/open\r\n\r\n"),
        (
            "two encodings",
            "POST /acme/open HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
        ),
        (
            "chunked is not last",
            "POST /acme/open HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        ),
        (
            "an encoding in HTTP/1.0",
            "POST /acme/open HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("a list of lengths", "POST /acme/open HTTP/1.1\r\nhost: x\r\ncontent-length: 3, 3\r\n\r\nabc"),
        ("a hexadecimal length", "POST /acme/open HTTP/1.1\r\nhost: x\r\ncontent-length: 0x3\r\n\r\nabc"),
        (
            "a chunk size that is no number",
            "POST /acme/open HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n\r\n",
        ),
        (
            "a chunk size beyond all bounds",
            "POST /acme/open HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n\r\n",
        ),
        (
            "a chunk size that ends in a bare line feed",
            "POST /acme/open HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n",
        ),
        ("a bare carriage return", "GET /acme/open HTTP/1.1\r\nhost: x\r\na: b\rc: d\r\n\r\n"),
        ("a NUL in a field", "GET /acme/open HTTP/1.1\r\nhost: x\r\na: b\0\r\n\r\n"),
        ("a field without a name", "GET /acme/open HTTP/1.1\r\nhost: x\r\n: b\r\n\r\n"),
        ("no host", "GET /acme/open HTTP/1.1\r\n\r\n"),
        ("two hosts", "GET /acme/open HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n"),
    ] {
        let answer = raw(&app, request).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{what}: {answer}");
    }
    // With both, chunked wins and the connection carries nothing after it.
    let both = "POST /acme/open HTTP/1.1\r\nhost: x\r\ncontent-length: 40\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /acme/nope HTTP/1.1\r\nhost: x\r\n\r\n";
    let answer = raw(&app, both).await;
    assert!(!answer.contains("\"POST\",\"/open\",40"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "what follows is not taken for a request: {answer}");
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_not_waited_for() {
    let app = TestApp::with_ingress(|settings| settings.body_time = Duration::from_millis(300)).await;
    let acme = app.acme().await;
    app.serve(&acme, "open", ECHO).await;
    let request = "POST /acme/open HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n";
    for (body, what) in [("\r\nabc", "half of it"), ("expect: 100-continue\r\n\r\n", "none of it")] {
        let mut stream = TcpStream::connect(app.url.strip_prefix("http://").unwrap()).await.unwrap();
        stream.write_all(format!("{request}{body}").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(HANG_GUARD, stream.read_to_end(&mut answer)).await.expect("the host closes").unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.contains("HTTP/1.1 408") && answer.contains("body_timeout"), "{what}: {answer}");
    }
    assert_eq!(app.post("/acme/open", "abc").await.json()[2], 3);
}

#[tokio::test]
async fn one_connection_serves_many_requests_in_order() {
    let app = app().await;
    let one = "GET /acme/open?1 HTTP/1.1\r\nhost: x\r\n\r\n";
    let answer = raw(&app, &format!("{one}{one}GET /acme/nope HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await;
    // A body ends without a line break, so the next answer starts behind it.
    let statuses: Vec<_> = answer.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "200", "404"]);
}

#[tokio::test]
async fn http2_works_without_negotiation() {
    let app = app().await;
    let client = reqwest::Client::builder().http2_prior_knowledge().timeout(HANG_GUARD).build().unwrap();
    let calls = (0..20).map(|_| client.get(format!("{}/acme/open", app.url)).send());
    for response in futures::future::join_all(calls).await {
        let response = response.unwrap();
        assert_eq!((response.version(), response.status().as_u16()), (reqwest::Version::HTTP_2, 200));
    }
    for (path, status) in [("/acme/open", 200), ("/acme/nope", 404)] {
        let head = Answer::of(client.head(format!("{}{path}", app.url))).await;
        assert_eq!((head.status, head.body.as_str()), (status, ""), "{path}");
    }
}

#[tokio::test]
async fn more_calls_than_slots_wait_their_turn_or_are_told_to_come_back() {
    let app = TestApp::with(|config| {
        config.slots_max = 2;
        config.slots_per_tenant_max = 1;
        config.queue_max = 2;
        config.queue_wait = HANG_GUARD;
        config.limits.deadline = HANG_GUARD;
    })
    .await;
    let acme = app.acme().await;
    let source =
        "import time\ndef handler(request):\n    while pq.get_state() != 'go on': time.sleep(0.02)\n    return {}";
    let script = app.serve(&acme, "slow", source).await.version.script;
    let mut calls: FuturesUnordered<_> = (0..6).map(|_| app.get("/acme/slow")).collect();
    for _ in 0..3 {
        let refused = calls.next().await.unwrap();
        assert_eq!(refused.problem(), (429, "tenant_concurrency".to_owned()));
        assert_eq!(refused.headers["retry-after"], "1");
    }
    // One runs, and two wait for it.
    app.workspace.db.state().set_state(acme.id, script, Some("\"go on\"")).await.unwrap();
    while let Some(answer) = calls.next().await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test]
async fn a_tenant_that_waits_for_itself_takes_no_place_from_others() {
    let app = TestApp::with(|config| {
        config.slots_max = 2;
        config.slots_per_tenant_max = 1;
        config.queue_max = 2;
        config.queue_wait = HANG_GUARD;
        config.limits.deadline = HANG_GUARD;
    })
    .await;
    let source =
        "import time\ndef handler(request):\n    while pq.get_state() != 'go on': time.sleep(0.02)\n    return {}";
    let (mut calls, mut scripts) = (FuturesUnordered::new(), Vec::new());
    // The first two tenants take both slots and fill their lines; of the third, one waits for a slot and two for that one.
    for name in ["acme", "globex", "initech"] {
        let tenant = app.tenant(name).await;
        let script = app.serve(&tenant, "slow", source).await.version.script;
        scripts.push((tenant, script));
        let url = format!("{}/{name}/slow", app.url);
        let mut of_tenant: FuturesUnordered<_> = (0..4).map(|_| Box::pin(Answer::of(app.client.get(&url)))).collect();
        let refused = of_tenant.next().await.unwrap();
        assert_eq!(refused.problem(), (429, "tenant_concurrency".to_owned()), "{name}");
        calls.extend(of_tenant);
    }
    for (tenant, script) in &scripts {
        app.workspace.db.state().set_state(tenant.id, *script, Some("\"go on\"")).await.unwrap();
    }
    while let Some(answer) = calls.next().await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test]
async fn the_control_listener_tells_whether_the_host_is_well() {
    let app = app().await;
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/acme/open", 404)] {
        let answer = Answer::of(app.client.get(format!("{}{path}", app.control_url))).await;
        assert_eq!(answer.status, status, "{path}");
    }
}

#[tokio::test]
async fn fields_for_other_tenants_are_refused_and_the_author_is_told() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    let source = "def handler(request): return 'x', 200, [(request['query']['name'], request['query']['value'])]";
    app.serve(&acme, "send", source).await;
    for (name, value, told) in [
        ("Service-Worker-Allowed", "/", "acts on all tenants"),
        ("clear-site-data", "%22*%22", "acts on all tenants"),
        ("STRICT-TRANSPORT-SECURITY", "max-age=1", "acts on all tenants"),
        ("Alt-Svc", "h3=%22:1%22", "acts on all tenants"),
        ("Set-Cookie", "=pqhost_session%3Devil; Path%3D/api/v1", "without a name"),
        ("Set-Cookie", "a%3Db; Path%3D/", "write `Path=/acme`"),
        ("Content-Length", "1", "the host's to set"),
    ] {
        let answer = app.get(&format!("/acme/send?name={name}&value={value}")).await;
        assert_eq!(answer.problem(), (500, "script_bad_return".to_owned()), "{name}");
        let record = app.invocation(&acme, answer.headers["x-request-id"].to_str().unwrap()).await;
        let traceback = record.traceback.unwrap();
        assert_eq!((record.status, record.code.as_deref()), (500, Some("script_bad_return")));
        assert!(traceback.contains(&format!("`{name}`")) && traceback.contains(told), "{traceback}");
    }
    let answer = app.get("/acme/send?name=Set-Cookie&value=a%3Db; Path%3D/acme/send").await;
    assert_eq!((answer.status, &answer.headers["set-cookie"]), (200, &"a=b; Path=/acme/send".parse().unwrap()));
    app.endpoint(&acme, "GET", "/", "send", AuthMode::Public).await;
    for path in ["/acme", "/acme/"] {
        let answer = app.get(&format!("{path}?name=Set-Cookie&value=a%3Db")).await;
        assert_eq!(answer.headers["set-cookie"], "a=b; Path=/acme", "{path}");
    }
}
