//! Keys of consumers, from their making to their end.

use pqhost::{db::consumer_keys::ConsumerKey, domain::exchange::AuthMode};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    control::Api,
    control_database::on_each,
    support::{Answer, HANG_GUARD, TestApp, example},
};

const KEYS: &str = "/tenants/acme/consumer-keys";

/// A host with an endpoint for keys that says who calls.
async fn app_with_endpoint(app: &TestApp) -> Api {
    let acme = app.acme().await;
    app.try_publish(&acme, "who", "def handler(request): return request['auth']").await.unwrap();
    app.endpoint(&acme, "ANY", "/who", "who", AuthMode::Key).await;
    app.endpoint(&acme, "ANY", "/other", "who", AuthMode::Key).await;
    Api::operator(app).await
}

/// The answer to a request with these header fields.
async fn call(app: &TestApp, method: Method, path: &str, fields: &[(&str, &str)]) -> Answer {
    let request = app.request(method, path);
    Answer::of(fields.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
}

async fn with_key(app: &TestApp, path: &str, key: &str) -> Answer {
    call(app, Method::GET, path, &[("x-api-key", key)]).await
}

/// A key with these terms, and its id.
async fn create(api: &Api, terms: &Value) -> (String, String) {
    let created = api.post(KEYS, terms).await.expect("201");
    (created["key"].as_str().unwrap().to_owned(), created["id"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn partners_with_keys_see_and_add_their_own_rows_only() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    let folder = app.workspace.data.sqlite().join("acme");
    std::fs::create_dir_all(&folder).unwrap();
    let sales = rusqlite::Connection::open(folder.join("sales.db")).unwrap();
    sales
        .execute_batch(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, partner TEXT NOT NULL, amount REAL);
             INSERT INTO orders VALUES (1, 'ada', 9.5), (2, 'bob', 3), (3, 'ada', 7)",
        )
        .unwrap();
    app.connection(&acme, "dw_2", "sqlite:acme").await;
    app.try_publish(&acme, "orders", example("partners", "handler.py")).await.unwrap();
    app.endpoint(&acme, "GET,POST", "/orders", "orders", AuthMode::Key).await;
    let api = Api::operator(&app).await;
    let key = async |partner: &str| {
        let filter = json!({"connection": "dw_2", "schema": "sales", "table": "orders", "column": "partner",
            "equals": {"attribute": "partner"}});
        let terms = json!({"name": partner, "attributes": {"partner": partner}, "row_filters": [filter]});
        create(&api, &terms).await.0
    };
    let (ada, bob) = (key("ada").await, key("bob").await);
    let order = |id: i64, partner: &str, amount: f64| json!({"id": id, "partner": partner, "amount": amount});
    let post = async |key: &str, body: Value| {
        Answer::of(app.request(Method::POST, "/acme/orders").header("x-api-key", key).json(&body)).await
    };
    assert_eq!(with_key(&app, "/acme/orders", &ada).await.json(), json!([order(1, "ada", 9.5), order(3, "ada", 7.0)]));
    assert_eq!(with_key(&app, "/acme/orders", &bob).await.json(), json!([order(2, "bob", 3.0)]));
    let added = post(&bob, json!({"amount": 1})).await;
    assert_eq!((added.status, added.json()), (201, order(4, "bob", 1.0)));
    for theirs in [json!({"partner": "ada", "amount": 1}), json!({"id": 1, "amount": 1})] {
        assert_eq!(post(&bob, theirs.clone()).await.status, 400, "{theirs}");
    }
    let of_ada: i64 =
        sales.query_row("SELECT COUNT(*) FROM orders WHERE partner = 'ada'", [], |row| row.get(0)).unwrap();
    assert_eq!(of_ada, 2);
}

#[tokio::test]
async fn a_key_is_good_for_what_it_says_and_nothing_else() {
    on_each(key_is_good_for_what_it_says_and_nothing_else).await;
}

async fn key_is_good_for_what_it_says_and_nothing_else(app: TestApp) {
    let api = app_with_endpoint(&app).await;
    let terms = json!({"name": "Ada", "endpoints": ["/who"], "methods": "GET", "row_filters": null,
        "attributes": {"customer": 17, "é": [null]}});
    let (key, id) = create(&api, &terms).await;
    let answer = with_key(&app, "/acme/who", &key).await;
    let auth = answer.json();
    assert_eq!((&auth["kind"], &auth["key_id"]), (&json!("key"), &json!(id)));
    assert_eq!((&auth["attributes"], &auth["methods"]), (&json!({"customer": 17, "é": [null]}), &json!(["GET"])));
    for (name, value) in [("authorization", format!("Bearer {key}")), ("Authorization", format!("key {key}"))] {
        assert_eq!(call(&app, Method::GET, "/acme/who", &[(name, &value)]).await.status, 200, "{name}");
    }
    assert_eq!(call(&app, Method::HEAD, "/acme/who", &[("x-api-key", &key)]).await.status, 200, "GET answers HEAD");
    assert_eq!(with_key(&app, "/acme/other", &key).await.problem(), (403, "forbidden".to_owned()));
    let posted = call(&app, Method::POST, "/acme/who", &[("x-api-key", &key)]).await;
    assert_eq!(posted.problem(), (403, "forbidden".to_owned()));

    let bearer = format!("Bearer {key}");
    for fields in [
        &[("x-api-key", &*key), ("x-api-key", &*key)][..],
        &[("x-api-key", &*key), ("authorization", &*bearer)],
        &[("x-api-key", &*key), ("authorization", "")],
        &[("authorization", &*bearer), ("authorization", &*bearer)],
    ] {
        let answer = call(&app, Method::GET, "/acme/who", fields).await;
        assert_eq!(answer.problem(), (400, "repeated_header".to_owned()), "{fields:?}");
    }

    let globex = app.tenant("globex").await;
    app.try_publish(&globex, "who", "def handler(request): return request['auth']").await.unwrap();
    app.endpoint(&globex, "ANY", "/who", "who", AuthMode::Key).await;
    let acme = app.acme().await;
    let token = format!("Bearer {}", app.token(&acme).await);
    let missing = call(&app, Method::GET, "/acme/who", &[]).await;
    let flipped = format!("{}{}", &key[..75], if key.ends_with('0') { '1' } else { '0' });
    let refused = [
        ("/acme/who", "authorization", &*token),
        ("/acme/who", "authorization", &*key),
        ("/acme/who", "authorization", "Basic cHFrXw=="),
        ("/acme/who", "x-api-key", ""),
        ("/acme/who", "x-api-key", "pqk_"),
        ("/acme/who", "x-api-key", &*flipped),
        ("/acme/who", "x-api-key", "pqk_' OR 1=1 --"),
        ("/globex/who", "x-api-key", &*key),
        (&format!("/acme/who?x-api-key={key}"), "accept", "*/*"),
    ];
    for (path, name, value) in refused {
        let answer = call(&app, Method::GET, path, &[(name, value)]).await;
        assert_eq!(answer.problem(), (401, "unauthorized".to_owned()), "{path} {name}: {value}");
        assert_eq!(answer.json()["detail"], missing.json()["detail"], "all look the same");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
    // An endpoint for tokens takes no keys.
    app.endpoint(&acme, "GET", "/jwt", "who", AuthMode::Jwt).await;
    assert_eq!(call(&app, Method::GET, "/acme/jwt", &[("authorization", &bearer)]).await.status, 401);
    assert_eq!(with_key(&app, "/acme/jwt", &key).await.status, 401);
}

#[tokio::test]
async fn a_key_ends_when_it_is_revoked_and_when_it_expires() {
    on_each(key_ends_when_it_is_revoked_and_when_it_expires).await;
}

async fn key_ends_when_it_is_revoked_and_when_it_expires(app: TestApp) {
    let api = app_with_endpoint(&app).await;
    let (key, id) = create(&api, &json!({"row_filters": null})).await;
    assert_eq!(with_key(&app, "/acme/who", &key).await.status, 200);
    api.delete(&format!("{KEYS}/{id}")).await.expect("204");
    let request = |app: &TestApp| app.request(Method::GET, "/acme/who").header("x-api-key", &key);
    let answer = app.until_with(&request, |answer| answer.status == 401).await;
    assert_eq!(answer.problem(), (401, "unauthorized".to_owned()));
    assert!(api.get(&format!("{KEYS}/{id}")).await.expect("200")["revoked_at"].is_string());

    let (brief, _) = create(&api, &json!({"row_filters": null, "expires_in": 2})).await;
    assert_eq!(with_key(&app, "/acme/who", &brief).await.status, 200);
    let request = |app: &TestApp| app.request(Method::GET, "/acme/who").header("x-api-key", &brief);
    app.until_with(&request, |answer| answer.status == 401).await;
}

#[tokio::test]
async fn what_a_key_is_for_is_shown_and_replaced() {
    let app = TestApp::new().await;
    let api = app_with_endpoint(&app).await;
    let filter = json!({"connection": "dw", "table": "t", "column": "c", "equals": {"attribute": "customer"}});
    let terms = json!({"name": "Ada", "endpoints": ["/who"], "methods": "POST,GET", "attributes": {"customer": 17},
        "row_filters": [filter], "rate_limit": {"requests": 5, "seconds": 60}});
    let (key, id) = create(&api, &terms).await;
    let path = format!("{KEYS}/{id}");
    let shown = api.request(Method::GET, &path);
    let shown = Api::send(shown).await;
    let tag = shown.headers["etag"].to_str().unwrap().to_owned();
    let shown = shown.expect("200");
    for field in ["name", "endpoints", "attributes", "row_filters", "rate_limit"] {
        assert_eq!(shown[field], terms[field], "{field}");
    }
    assert_eq!(shown["methods"], "GET, POST");
    assert!(!shown.to_string().contains(&key[4..]), "{shown}");
    assert_eq!(api.get(KEYS).await.expect("200")["items"], json!([shown]));

    let plain = json!({"row_filters": null});
    let replace = api.request(Method::PUT, &path).header("if-match", &tag).json(&plain);
    let replaced = Api::send(replace).await.expect("200");
    assert_eq!((&replaced["methods"], &replaced["row_filters"]), (&Value::Null, &Value::Null));
    let late = api.request(Method::PUT, &path).header("if-match", &tag).json(&plain);
    Api::send(late).await.expect("412 changed_meanwhile");
    api.put(&format!("{KEYS}/nothing"), &plain).await.expect("404 not_found");
    api.delete(&format!("{KEYS}/nothing")).await.expect("404 not_found");
    let audit = api.get("/tenants/acme/audit").await.expect("200").to_string();
    for action in ["create_consumer_key", "replace_consumer_key"] {
        assert!(audit.contains(action), "{audit}");
    }
    assert!(!audit.contains(&key[4..]), "{audit}");

    for (bad, expected) in [
        (json!({}), "400 invalid_body"),
        (json!({"row_filters": {}}), "400 invalid_body"),
        (json!({"row_filters": [{"connection": "dw", "tables": "t"}]}), "400 invalid_body"),
        (json!({"row_filters": [{"connection": "dw", "schema": "s"}]}), "422 invalid"),
        (json!({"row_filters": [filter]}), "422 invalid"),
        (json!({"row_filters": [filter], "attributes": {"customer": null}}), "422 invalid"),
        (json!({"row_filters": null, "endpoints": ["/nowhere"]}), "404 not_found"),
        (json!({"row_filters": null, "methods": "FETCH"}), "422 invalid"),
        (json!({"row_filters": null, "rate_limit": {"requests": 0, "seconds": 1}}), "400 invalid_body"),
        (json!({"row_filters": null, "name": "a\nb"}), "422 invalid"),
        (json!({"row_filters": null, "attributes": {"a": "x".repeat(9000)}}), "422 invalid"),
    ] {
        api.post(KEYS, &bad).await.expect(expected);
        api.put(&path, &bad).await.expect(expected);
    }
    for seconds in [0_u64, 10_u64.pow(10)] {
        api.post(KEYS, &json!({"row_filters": null, "expires_in": seconds})).await.expect("422 invalid");
    }
}

/// Looks for a credential wherever a handler can: in all of its request, in what any frame of its stack knows, and in every module.
const SNOOPER: &str = "
import re, sys
def handler(request):
    seen = set()
    def look(thing):
        seen.update(re.findall(r'pqk_[0-9a-f]{20,}|eyJ[\\w-]+\\.[\\w-]+\\.[\\w-]+', repr(thing)))
    for name in list(request) + dir(request):
        look(request[name] if name in request else getattr(request, name))
    for name in ('Authorization', 'authorization', 'X-API-Key', 'x-api-key', 'X_API_KEY', 'Cookie'):
        look(request['headers'].get(name))
    frame = sys._getframe()
    while frame:
        for value in list(frame.f_locals.values()) + list(frame.f_globals.values()):
            look(value)
        frame = frame.f_back
    for module in list(sys.modules.values()):
        for value in list(getattr(module, '__dict__', {}).values()):
            if isinstance(value, (str, bytes, list, tuple, dict, set)):
                look(value)
    return {'kept': request['headers'].get('X-Kept'), 'seen': sorted(seen)}
";

#[tokio::test]
async fn a_handler_finds_its_callers_key_nowhere() {
    let app = TestApp::new().await;
    let (acme, api) = (app.acme().await, Api::operator(&app).await);
    app.try_publish(&acme, "snoop", SNOOPER).await.unwrap();
    app.endpoint(&acme, "GET,POST", "/key", "snoop", AuthMode::Key).await;
    app.endpoint(&acme, "GET,POST", "/jwt", "snoop", AuthMode::Jwt).await;
    app.endpoint(&acme, "GET,POST", "/public", "snoop", AuthMode::Public).await;
    let (key, _) = create(&api, &json!({"row_filters": null})).await;
    let token = app.token(&acme).await;
    for (path, field, value, is_shown) in [
        ("/acme/key", "x-api-key", key.clone(), false),
        ("/acme/key", "authorization", format!("Bearer {key}"), false),
        ("/acme/key", "authorization", format!("Key {key}"), false),
        // As it always was: scripts hand such tokens on.
        ("/acme/jwt", "authorization", format!("Bearer {token}"), true),
        // Scripts that know their callers themselves.
        ("/acme/public", "x-api-key", key.clone(), true),
        ("/acme/public", "authorization", format!("Bearer {key}"), true),
    ] {
        for method in [Method::GET, Method::POST] {
            let answer = call(&app, method, path, &[(field, &value), ("x-kept", "yes"), ("cookie", "a=b")]).await;
            let case = format!("{path} {field} {}", &value[..8]);
            assert_eq!((answer.status, &answer.json()["kept"]), (200, &json!("yes")), "{case}: {}", answer.body);
            let secret = value.rsplit([' ', '_']).next().unwrap();
            assert_eq!(answer.body.contains(secret), is_shown, "{case}");
        }
    }
}

#[tokio::test]
async fn a_key_is_used_as_often_as_its_limit_says() {
    let app = TestApp::new().await;
    let api = app_with_endpoint(&app).await;
    let limited = json!({"row_filters": null, "rate_limit": {"requests": 2, "seconds": 3600}});
    let ((key, id), (other, _)) = (create(&api, &limited).await, create(&api, &limited).await);
    for _ in 0..2 {
        assert_eq!(with_key(&app, "/acme/who", &key).await.status, 200);
    }
    let refused = with_key(&app, "/acme/who", &key).await;
    assert_eq!(refused.problem(), (429, "rate_limited".to_owned()));
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1700..=1800).contains(&wait), "{wait}");
    assert_eq!(with_key(&app, "/acme/who", &other).await.status, 200, "another key");
    api.put(&format!("{KEYS}/{id}"), &json!({"row_filters": null})).await.expect("200");
    let request = |app: &TestApp| app.request(Method::GET, "/acme/who").header("x-api-key", &key);
    app.until_with(&request, |answer| answer.status == 200).await;
}

#[tokio::test]
async fn a_key_shows_when_it_was_used_and_that_drops_no_cache() {
    let app = TestApp::new().await;
    let api = app_with_endpoint(&app).await;
    let (key, id) = create(&api, &json!({"row_filters": null})).await;
    let counter = app.changes_seen().await;
    assert_eq!(with_key(&app, "/acme/who", &key).await.status, 200);
    let acme = app.acme().await;
    let noted = async {
        loop {
            let found = app.workspace.db.consumer_keys().find_key(acme.id, &id).await.unwrap();
            match found {
                Some(ConsumerKey { last_used_at_ms: Some(at_ms), .. }) => return at_ms,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    let first = tokio::time::timeout(HANG_GUARD, noted).await.expect("the use is noted soon");
    assert_eq!(with_key(&app, "/acme/who", &key).await.status, 200);
    app.workspace.auth.write_uses().await;
    let shown = api.get(&format!("{KEYS}/{id}")).await.expect("200");
    assert!(shown["last_used_at"].is_string());
    let found = app.workspace.db.consumer_keys().find_key(acme.id, &id).await.unwrap().unwrap();
    assert_eq!(found.last_used_at_ms, Some(first), "once a minute");
    assert_eq!(app.changes_seen().await, counter);
}

#[tokio::test]
async fn a_key_whose_filter_has_no_value_lets_nobody_in() {
    let app = TestApp::new().await;
    let api = app_with_endpoint(&app).await;
    let filter = json!({"connection": "dw", "table": "t", "column": "c", "equals": {"attribute": "customer"}});
    let (key, id) = create(&api, &json!({"attributes": {"customer": 17}, "row_filters": [filter]})).await;
    assert_eq!(with_key(&app, "/acme/who", &key).await.status, 200);
    // Such a row is not made by the API, which checks; a file that is imported may hold it.
    let acme = app.acme().await;
    let mut terms = app.workspace.db.consumer_keys().find_key(acme.id, &id).await.unwrap().unwrap().terms;
    terms.attributes = std::sync::Arc::default();
    app.workspace.db.consumer_keys().replace_terms(acme.id, &id, &terms, None).await.unwrap();
    let request = |app: &TestApp| app.request(Method::GET, "/acme/who").header("x-api-key", &key);
    let refused = app.until_with(&request, |answer| answer.status != 200).await;
    assert_eq!(refused.problem(), (403, "row_filter_unresolved".to_owned()));
    assert!(!refused.body.contains("customer"), "{}", refused.body);
}

#[tokio::test]
async fn a_key_is_in_no_log_and_a_rerun_reaches_the_same_rows() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.accounts(&acme).await;
    let source = "
def handler(request):
    return pq.dbconnect('dw_2').fetch('dw_2', 'salesforce', 'accounts')
";
    app.try_publish(&acme, "rows", source).await.unwrap();
    let api = Api::operator(&app).await;
    let endpoint = json!({"methods": "GET", "route": "/rows", "script": "rows", "auth": "key", "record": true});
    api.post("/tenants/acme/endpoints", &endpoint).await.expect("201");
    app.see_changes().await;
    let filter = json!({"connection": "dw_2", "schema": "salesforce", "table": "accounts", "column": "id", "equals": {"value": 2}});
    let (key, _) = create(&api, &json!({"row_filters": [filter]})).await;
    let answer = with_key(&app, "/acme/rows", &key).await;
    assert_eq!(answer.json().as_array().unwrap().len(), 1, "{}", answer.body);
    let id = answer.headers["x-request-id"].to_str().unwrap();
    let record = app.invocation(&acme, id).await;
    assert!(!format!("{record:?}").contains(&key[4..]));
    let rerun = api.post(&format!("/tenants/acme/invocations/{id}/rerun"), &json!({})).await.expect("200");
    assert_eq!(rerun["comparison"]["same_body"], json!(true), "{rerun}");
    assert!(!rerun.to_string().contains(&key[4..]), "{rerun}");
}
