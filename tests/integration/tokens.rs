//! Tokens, the keys that sign them, and issuers outside: over both listeners of a host.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD};
use p256::pkcs8::EncodePrivateKey as _;
use pqhost::domain::exchange::AuthMode;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::{
    control::Api,
    control_database::on_each,
    program::Installation,
    support::{Answer, HANG_GUARD, TestApp},
    upstream::Upstream,
};

const WHO: &str = "def handler(request): return [request['auth']]";

/// Endpoints that say who calls: `/a` and `/b` for all methods, with tokens.
async fn serve_who(app: &TestApp) {
    let acme = app.acme().await;
    app.try_publish(&acme, "who", WHO).await.unwrap();
    for route in ["/a", "/b"] {
        app.endpoint(&acme, "ANY", route, "who", AuthMode::Jwt).await;
    }
}

fn call(app: &TestApp, method: Method, path: &str, token: &str) -> RequestBuilder {
    app.request(method, path).bearer_auth(token)
}

/// An issuer outside.
pub(crate) struct Outside {
    key: jsonwebtoken::EncodingKey,
    /// Where an `Upstream` publishes its keys.
    pub(crate) path: String,
}

impl Outside {
    pub(crate) fn new() -> Self {
        let secret = p256::SecretKey::random(&mut rsa::rand_core::OsRng);
        let point = p256::EncodedPoint::from(secret.public_key());
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (x, y) = (encode(point.x().unwrap()), encode(point.y().unwrap()));
        let set = json!({"keys": [{"kid": "k1", "kty": "EC", "crv": "P-256", "use": "sig", "x": x, "y": y}]});
        let key = jsonwebtoken::EncodingKey::from_ec_der(secret.to_pkcs8_der().unwrap().as_bytes());
        Self { key, path: format!("/given/{}", hex::encode(set.to_string())) }
    }

    /// A token for the audience `orders` that says this besides.
    pub(crate) fn sign(&self, issuer: &str, more: &Value) -> String {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut claims = json!({"iss": issuer, "aud": "orders", "exp": seconds + 600});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let header = jsonwebtoken::Header {
            kid: Some("k1".to_owned()),
            ..jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256)
        };
        jsonwebtoken::encode(&header, &claims, &self.key).unwrap()
    }
}

#[tokio::test]
async fn a_token_opens_what_it_is_for_and_is_seen_to_be_used() {
    on_each(token_opens_what_it_is_for_and_is_seen_to_be_used).await;
}

async fn token_opens_what_it_is_for_and_is_seen_to_be_used(app: TestApp) {
    serve_who(&app).await;
    let api = Api::operator(&app).await;
    let new =
        json!({"name": "partner", "endpoints": ["/b", "/a", "/b"], "methods": "get, PUT", "claims": {"partner": 17}});
    let made = api.post("/tenants/acme/tokens", &new).await.expect("201");
    let (id, token) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    for (method, path, status) in
        [(Method::GET, "/acme/a", 200), (Method::HEAD, "/acme/a", 200), (Method::PUT, "/acme/b", 200)]
    {
        assert_eq!(Answer::of(call(&app, method, path, token)).await.status, status, "{path}");
    }
    let refused = Answer::of(call(&app, Method::POST, "/acme/a", token)).await;
    assert_eq!(refused.problem(), (403, "method_forbidden".to_owned()));
    let only_a = api.post("/tenants/acme/tokens", &json!({"endpoint": "/a"})).await.expect("201");
    let refused = Answer::of(call(&app, Method::GET, "/acme/b", only_a["token"].as_str().unwrap())).await;
    assert_eq!(refused.problem(), (403, "forbidden".to_owned()));

    let auth = Answer::of(call(&app, Method::GET, "/acme/a", token)).await.json()[0].take();
    assert_eq!((&auth["kind"], &auth["token_id"], &auth["issuer"]), (&json!("jwt"), &json!(id), &json!("pqhost")));
    assert_eq!((&auth["claims"]["partner"], &auth["claims"]["endpoint"]), (&json!(17), &json!(["/a", "/b"])));
    assert_eq!(auth["methods"], json!(["GET", "PUT"]));

    // Its text is nowhere, its last use soon is, and noting it drops no caches.
    let counted = app.changes_seen().await;
    let used = async {
        loop {
            let listed = api.get("/tenants/acme/tokens").await.expect("200");
            let entry = listed["items"].as_array().unwrap().iter().find(|entry| entry["id"] == id).unwrap().clone();
            if entry["last_used_at"].is_string() {
                return entry;
            }
        }
    };
    let mut entry = tokio::time::timeout(HANG_GUARD, used).await.expect("its use is written soon");
    assert_eq!(app.changes_seen().await, counted);
    for volatile in ["id", "created_at", "expires_at", "last_used_at"] {
        assert!(entry[volatile].take().is_string(), "{volatile}");
    }
    let expected = json!({"id": null, "name": "partner", "endpoints": ["/a", "/b"], "methods": "GET, PUT",
        "claims": {"partner": 17}, "row_filters": null, "created_at": null, "expires_at": null, "last_used_at": null, "revoked_at": null});
    assert_eq!(entry, expected);

    for (bad, code) in [
        (json!({"endpoints": []}), "422 invalid"),
        (json!({"endpoints": vec!["/a"; 3], "endpoint": "/a"}), "422 invalid"),
        (json!({"endpoints": (0..21).map(|n| format!("/{n}")).collect::<Vec<_>>()}), "422 invalid"),
        (json!({"endpoints": ["/a", "/c"]}), "404 not_found"),
        (json!({"methods": ""}), "422 invalid"),
        (json!({"methods": "FETCH"}), "422 invalid"),
        (json!({"claims": {"exp": 9_999_999_999_u64}}), "422 invalid"),
        (json!({"claims": {"a": "x".repeat(4096)}}), "422 invalid"),
        (json!({"claims": null}), "400 invalid_body"),
    ] {
        api.post("/tenants/acme/tokens", &bad).await.expect(code);
    }
    let any = api.post("/tenants/acme/tokens", &json!({"methods": "ANY"})).await.expect("201");
    assert_eq!(Answer::of(call(&app, Method::DELETE, "/acme/b", any["token"].as_str().unwrap())).await.status, 200);
    api.delete(&format!("/tenants/acme/tokens/{id}")).await.expect("204");
    let refused = Answer::of(call(&app, Method::GET, "/acme/a", token)).await;
    assert_eq!(refused.problem(), (401, "unauthorized".to_owned()), "at once on the host that revoked it");
}

#[tokio::test]
async fn signing_keys_rotate_and_what_they_signed_ends_with_them() {
    on_each(signing_keys_rotate_and_what_they_signed_ends_with_them_on).await;
}

async fn signing_keys_rotate_and_what_they_signed_ends_with_them_on(app: TestApp) {
    serve_who(&app).await;
    let api = Api::operator(&app).await;
    let keys = "/tenants/acme/signing-keys";
    let token = async || {
        let made = api.post("/tenants/acme/tokens", &json!({})).await.expect("201");
        made["token"].as_str().unwrap().to_owned()
    };
    let status = async |token: &str| Answer::of(call(&app, Method::GET, "/acme/a", token)).await.status;
    assert_eq!(api.get(keys).await.expect("200"), json!({"items": []}));
    let mut tokens = vec![token().await];
    let listed = api.get(keys).await.expect("200");
    assert_eq!((&listed["items"][0]["algorithm"], &listed["items"][0]["signs"]), (&json!("HS256"), &json!(true)));
    for algorithm in ["ES256", "EdDSA"] {
        let made = api.post(keys, &json!({"algorithm": algorithm})).await.expect("201");
        assert_eq!(
            (&made["algorithm"], &made["signs"], &made["verifies_until"]),
            (&json!(algorithm), &json!(true), &Value::Null)
        );
        assert_eq!(made.as_object().unwrap().len(), 5, "nothing secret: {made}");
        tokens.push(token().await);
        assert_eq!(jsonwebtoken::decode_header(tokens.last().unwrap()).unwrap().kid.as_deref(), made["kid"].as_str());
    }
    // The vault's key changes, and nobody notices.
    app.workspace.rotate_vault_key().await.unwrap();
    for token in &tokens {
        assert_eq!(status(token).await, 200);
    }
    tokens.push(token().await);

    let page = api.get(&format!("{keys}?limit=2")).await.expect("200");
    let rest = api.get(&format!("{keys}?cursor={}", page["next_cursor"].as_str().unwrap())).await.expect("200");
    let items: Vec<_> = [&page, &rest].into_iter().flat_map(|page| page["items"].as_array().unwrap()).collect();
    let shown: Vec<_> = items.iter().map(|key| (key["algorithm"].as_str().unwrap(), key["signs"] == true)).collect();
    assert_eq!(shown, [("EdDSA", true), ("ES256", false), ("HS256", false)]);
    let kid = |place: usize| items[place]["kid"].as_str().unwrap();
    api.delete(&format!("{keys}/{}", kid(0))).await.expect("409 in_use");
    api.delete(&format!("{keys}/{}", kid(2))).await.expect("204");
    api.delete(&format!("{keys}/{}", kid(2))).await.expect("404 not_found");
    api.delete(&format!("{keys}/..%2F..%2Fvault.key")).await.expect("404 not_found");
    assert_eq!((status(&tokens[0]).await, status(&tokens[1]).await, status(&tokens[3]).await), (401, 200, 200));

    // With an overlap the old ones have an end; without any, they end now.
    api.post(keys, &json!({"algorithm": "ES256", "overlap": 3600})).await.expect("201");
    let listed = api.get(keys).await.expect("200");
    let ends: Vec<_> =
        listed["items"].as_array().unwrap().iter().map(|key| key["verifies_until"].is_string()).collect();
    assert_eq!((ends, status(&tokens[1]).await), (vec![false, true, true], 200));
    api.post(keys, &json!({"algorithm": "HS256", "overlap": 0})).await.expect("201");
    assert_eq!((status(&tokens[1]).await, status(&tokens[3]).await, status(&token().await).await), (401, 401, 200));
    assert_eq!(api.get(keys).await.expect("200")["items"].as_array().unwrap().len(), 1);

    for bad in [
        json!({"algorithm": "none"}),
        json!({"algorithm": "RS256"}),
        json!({"overlap": 1}),
        json!({"algorithm": "ES256", "overlap": -1}),
    ] {
        api.post(keys, &bad).await.expect("400 invalid_body");
    }
    api.post(keys, &json!({"algorithm": "ES256", "overlap": 315_619_201})).await.expect("422 invalid");
}

#[tokio::test]
async fn public_keys_are_the_hosts_to_show() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.try_publish(&acme, "mine", "def handler(request): return {'keys': 'mine'}").await.unwrap();
    for route in ["/.well-known/jwks.json", "/**"] {
        app.endpoint(&acme, "ANY", route, "mine", AuthMode::Public).await;
    }
    let api = Api::operator(&app).await;
    let path = "/acme/.well-known/jwks.json";
    assert_eq!(app.get(path).await.json(), json!({"keys": []}));
    let mut made = Vec::new();
    for algorithm in ["HS256", "ES256", "EdDSA"] {
        made.push(api.post("/tenants/acme/signing-keys", &json!({"algorithm": algorithm})).await.expect("201"));
    }
    let shown = app.get(path).await;
    let headers =
        ["content-type", "cache-control", "x-content-type-options"].map(|name| shown.headers[name].to_str().unwrap());
    assert_eq!(headers, ["application/jwk-set+json", "public, max-age=300", "nosniff"]);
    let set = shown.json();
    let keys: Vec<_> = set["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| (&key["kid"], &key["alg"], &key["kty"], &key["use"]))
        .collect();
    let sig = json!("sig");
    let expected = [
        (&made[2]["kid"], &json!("EdDSA"), &json!("OKP"), &sig),
        (&made[1]["kid"], &json!("ES256"), &json!("EC"), &sig),
    ];
    assert_eq!(keys, expected);
    assert!(
        set["keys"].as_array().unwrap().iter().all(|key| key.get("d").is_none() && key.get("k").is_none()),
        "{set}"
    );

    assert_eq!(app.get(&format!("{path}/")).await.json(), set);
    assert_eq!(app.get("/acme/.well%2Dknown/jwks.json").await.json(), set);
    assert_eq!(app.get("/acme/.well-known/jwks.json/x").await.json(), json!({"keys": "mine"}));
    let head = Answer::of(app.request(Method::HEAD, path)).await;
    assert_eq!(
        (head.status, head.body.as_str(), &head.headers["content-length"]),
        (200, "", &shown.headers["content-length"])
    );
    let tag = shown.headers["etag"].to_str().unwrap();
    for (known, status) in [(tag, 304), (&format!("\"x\", W/{tag}"), 304), ("*", 304), ("\"x\"", 200)] {
        assert_eq!(
            Answer::of(app.request(Method::GET, path).header("if-none-match", known)).await.status,
            status,
            "{known}"
        );
    }
    let posted = app.post(path, "{}").await;
    assert_eq!(
        (posted.problem(), posted.headers["allow"].to_str().unwrap()),
        ((405, "method_not_allowed".to_owned()), "GET, HEAD, OPTIONS")
    );
    assert_eq!(Answer::of(app.request(Method::OPTIONS, path)).await.status, 204);
    assert_eq!(app.get("/nobody/.well-known/jwks.json").await.problem(), (404, "endpoint_unknown".to_owned()));

    // A key that is deleted is not shown any more.
    api.delete(&format!("/tenants/acme/signing-keys/{}", made[1]["kid"].as_str().unwrap())).await.expect("204");
    assert_eq!(app.get(path).await.json()["keys"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn tokens_of_an_outside_issuer_are_accepted_while_it_is_trusted() {
    let app = TestApp::with(|config| config.egress_private = vec!["127.0.0.0/8".parse().unwrap()]).await;
    serve_who(&app).await;
    let upstream = Upstream::start().await;
    let api = Api::operator(&app).await;
    let issuer = "https://login.example.com/realms/a b?c";
    let (outside, says) = (Outside::new(), json!({"sub": "ada", "groups": ["x", {"y": [1]}]}));
    let token = outside.sign(issuer, &says);
    let answer = async |token: &str| Answer::of(call(&app, Method::GET, "/acme/a", token)).await;
    let unauthorized = (401, "unauthorized".to_owned());
    assert_eq!(answer(&token).await.problem(), unauthorized);
    let new = json!({"issuer": issuer, "jwks_url": upstream.url(&outside.path), "audience": "orders"});
    let added = api.post("/tenants/acme/issuers", &new).await.expect("201");
    assert_eq!(
        (&added["issuer"], &added["jwks_url"], &added["audience"]),
        (&new["issuer"], &new["jwks_url"], &new["audience"])
    );
    api.post("/tenants/acme/issuers", &new).await.expect("409 name_taken");

    let accepted = answer(&token).await;
    assert_eq!(accepted.status, 200, "{}", accepted.body);
    let auth = accepted.json()[0].take();
    assert_eq!((&auth["kind"], &auth["token_id"], &auth["issuer"]), (&json!("jwt"), &Value::Null, &json!(issuer)));
    assert_eq!((&auth["claims"]["sub"], &auth["claims"]["groups"]), (&json!("ada"), &json!(["x", {"y": [1]}])));
    let forged = Outside::new().sign(issuer, &says);
    assert_eq!(answer(&forged).await.problem(), unauthorized);

    // Whoever has the server of keys down learns nothing of it.
    let second = outside.sign("https://second.example.com", &says);
    let dead =
        json!({"issuer": "https://second.example.com", "jwks_url": upstream.url("/hang-up"), "audience": "orders"});
    api.post("/tenants/acme/issuers", &dead).await.expect("201");
    let unavailable = answer(&second).await;
    assert_eq!(unavailable.problem(), (503, "issuer_unavailable".to_owned()));
    assert!((1..=5).contains(&unavailable.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap()));
    assert!(
        !unavailable.body.contains("127.0.0.1") && !unavailable.body.contains("second.example"),
        "{}",
        unavailable.body
    );

    let listed = api.get("/tenants/acme/issuers?limit=1").await.expect("200");
    assert_eq!(listed["items"][0]["issuer"], issuer);
    let rest = api
        .get(&format!("/tenants/acme/issuers?cursor={}", listed["next_cursor"].as_str().unwrap()))
        .await
        .expect("200");
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("issuer", issuer).finish();
    api.delete(&format!("/tenants/acme/issuers?{query}")).await.expect("204");
    api.delete(&format!("/tenants/acme/issuers?{query}")).await.expect("404 not_found");
    assert_eq!(answer(&token).await.problem(), unauthorized, "at once");

    let with = |field: &str, value: Value| {
        let mut new = new.clone();
        new[field] = value;
        new
    };
    for (field, value) in [
        ("issuer", json!("")),
        ("issuer", json!("pqhost")),
        ("issuer", json!("a\nb")),
        ("issuer", json!("x".repeat(501))),
        ("audience", json!("")),
        ("jwks_url", json!("")),
        ("jwks_url", json!("login.example.com")),
        ("jwks_url", json!("http://login.example.com/keys")),
        ("jwks_url", json!("file:///etc/passwd")),
        ("jwks_url", json!("https://user:hunter2@login.example.com/keys")),
        ("jwks_url", json!("https://login.example.com/keys#a")),
        ("jwks_url", json!(format!("https://login.example.com/{}", "x".repeat(2000)))),
    ] {
        let problem = api.post("/tenants/acme/issuers", &with(field, value)).await.expect("422 invalid");
        assert!(problem.to_string().len() < 1000);
    }
    for n in 0..19 {
        api.post("/tenants/acme/issuers", &with("issuer", json!(n.to_string()))).await.expect("201");
    }
    api.post("/tenants/acme/issuers", &with("issuer", json!("20"))).await.expect("422 invalid");
}

#[tokio::test]
async fn a_broken_token_is_the_same_to_its_caller_whatever_is_wrong() {
    let app = TestApp::new().await;
    serve_who(&app).await;
    let api = Api::operator(&app).await;
    api.post("/tenants/acme/signing-keys", &json!({"algorithm": "ES256"})).await.expect("201");
    let made = api.post("/tenants/acme/tokens", &json!({})).await.expect("201");
    let token = made["token"].as_str().unwrap();
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let jwk = app.get("/acme/.well-known/jwks.json").await.json()["keys"][0].take();
    let confused = {
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
        header.kid = jwk["kid"].as_str().map(str::to_owned);
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        let key = jsonwebtoken::EncodingKey::from_secret(jwk.to_string().as_bytes());
        jsonwebtoken::encode(&header, &claims, &key).unwrap()
    };
    let mut seen = Vec::new();
    for broken in [
        confused,
        format!("{}.{claims}.", encode(r#"{"alg":"none"}"#)),
        format!("{header}.{claims}.{}", encode(&"0".repeat(64))),
        format!("{header}..{signature}"),
        format!("{token}.{signature}"),
        format!("{header}.{}.{signature}", encode(r#"{"iss":"https://nobody.example.com","exp":99999999999}"#)),
        format!("{}.{claims}.{signature}", encode(r#"{"alg":"ES256","kid":"../../etc/passwd"}"#)),
        "x".repeat(9000),
    ] {
        let answer = Answer::of(call(&app, Method::GET, "/acme/a", &broken)).await;
        assert_eq!(answer.problem(), (401, "unauthorized".to_owned()), "{broken}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        seen.push((answer.json()["detail"].clone(), answer.headers.len()));
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:?}");
    let twice = call(&app, Method::GET, "/acme/a", token).header("authorization", format!("Bearer {token}"));
    assert_eq!(Answer::of(twice).await.problem(), (400, "repeated_header".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_managed_by_command() {
    let place = Installation::new();
    let rows = "dw:public.orders:partner=claim:partner";
    let create = ["token", "create", "acme", "--methods", "GET,HEAD", "--claims", "{\"partner\": 17}"];
    let first = place.run(&[&create[..], &["--rows", rows, "--rows", "dw_2"]].concat());
    assert!(first["token"].is_string(), "{first}");
    let key = place.run(&["signing-key", "create", "acme", "ES256", "--overlap", "30d"]);
    assert_eq!(key["algorithm"], "ES256");
    place.run(&["signing-key", "create", "acme", "eddsa", "--no-overlap"]);
    let listed = place.run(&["signing-key", "list", "acme"]);
    assert_eq!(listed.as_array().unwrap().len(), 1, "the others verify no longer: {listed}");
    place.run(&["signing-key", "create", "acme", "HS256"]);
    place.run(&["signing-key", "delete", "acme", listed[0]["kid"].as_str().unwrap()]);
    let tokens = place.run(&["token", "list", "acme"]);
    assert_eq!((&tokens[0]["methods"], &tokens[0]["claims"]), (&json!("GET, HEAD"), &json!({"partner": 17})));
    let filter = json!({"connection": "dw", "schema": "public", "table": "orders", "column": "partner", "equals": {"claim": "partner"}});
    assert_eq!(tokens[0]["row_filters"], json!([filter, {"connection": "dw_2"}]));
    let (issuer, keys) = ("https://login.example.com/?a=b&c", "https://login.example.com/keys");
    place.run(&["issuer", "add", "acme", issuer, keys, "orders", "--rows", rows]);
    place.run(&["issuer", "add", "acme", "https://two.example.com", keys, "orders", "--no-rows"]);
    place.run(&["issuer", "add", "acme", "https://three.example.com", keys, "orders"]);
    let listed = place.run(&["issuer", "list", "acme"]);
    assert_eq!(listed[0]["audience"], "orders");
    let reached: Vec<_> = listed.as_array().unwrap().iter().map(|issuer| &issuer["row_filters"]).collect();
    assert_eq!(reached, [&json!([filter]), &Value::Null, &json!([])], "by name");
    for name in ["https://two.example.com", "https://three.example.com"] {
        place.run(&["issuer", "remove", "acme", name]);
    }
    for both in
        [&["--rows", rows, "--all-rows"][..], &["--no-rows", "--all-rows"], &["--rows", rows, "--rows-from", "x"]]
    {
        let both = place.command(&[&["token", "create", "acme"], both].concat()).output().unwrap();
        assert!(!both.status.success(), "which of the two?");
    }
    place.run(&["issuer", "remove", "acme", issuer]);
    assert_eq!(place.run(&["issuer", "list", "acme"]), json!([]));
}
