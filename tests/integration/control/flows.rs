//! What authors and operators do, from beginning to end.

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

use super::Api;
use crate::{control_database::on_each, support::TestApp};

fn handler(text: &str) -> Value {
    json!([{"name": "handler.py", "text": format!("def handler(request): return '{text}'\n")}])
}

#[tokio::test]
async fn a_purged_version_is_nowhere_to_be_had() {
    on_each(purged_version_is_nowhere_to_be_had).await;
}

async fn purged_version_is_nowhere_to_be_had(app: TestApp) {
    let operator = Api::operator(&app).await;
    let author = operator.user("ann@acme.example", "acme", "author").await;
    let viewer = operator.user("vic@acme.example", "acme", "viewer").await;
    let versions = "/tenants/acme/scripts/pay/versions";
    let publish = async |text: &str| author.post(versions, &json!({"files": handler(text)})).await.expect("201");
    let first = publish("sk_live_51Hsecret").await;
    publish("two").await;
    let endpoint = json!({"methods": "GET", "route": "/pay", "script": "pay", "auth": "public", "version": 1});
    let endpoint = author.post("/tenants/acme/endpoints", &endpoint).await.expect("201");
    let endpoint = format!("/tenants/acme/endpoints/{}", endpoint["id"]);
    let call = async |path: &str| {
        let answer = app.client.get(format!("{}{path}", app.url)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(call("/acme/pay").await, (200, "sk_live_51Hsecret".to_owned()));
    let preview = author.post(&format!("{versions}/1/previews"), &json!({})).await.expect("201");
    let preview = format!("{}/pay", preview["path"].as_str().unwrap());

    // Sources are the authors' to see.
    for path in ["1/files", "2/diff"] {
        viewer.get(&format!("{versions}/{path}")).await.expect("403 forbidden");
    }
    viewer.get("/tenants/acme/scripts/pay/draft").await.expect("403 forbidden");
    viewer.delete(&format!("{versions}/1/files")).await.expect("403 forbidden");

    // What is served is not purged.
    author.delete(&format!("{versions}/1/files")).await.expect("409 in_use");
    author.delete(&format!("{versions}/2/files")).await.expect("409 in_use");
    author.delete(&format!("{versions}/3/files")).await.expect("404 not_found");
    let unpinned = json!({"methods": "GET", "route": "/pay", "script": "pay", "auth": "public"});
    author.put(&endpoint, &unpinned).await.expect("200");
    author.delete(&format!("{versions}/1/files")).await.expect("204");

    let shown = viewer.get(&format!("{versions}/1")).await.expect("200");
    for field in ["number", "content_hash", "author", "message", "created_at"] {
        assert_eq!(shown[field], first[field], "{field}");
    }
    assert!(shown["purged_at"].is_string(), "{shown}");
    let gone = "410 version_purged";
    author.get(&format!("{versions}/1/files")).await.expect(gone);
    author.get(&format!("{versions}/1/diff")).await.expect(gone);
    author.get(&format!("{versions}/2/diff")).await.expect(gone);
    author.delete(&format!("{versions}/1/files")).await.expect(gone);
    author.post(&format!("{versions}/1/previews"), &json!({})).await.expect(gone);
    author.put("/tenants/acme/scripts/pay/live-version", &json!({"version": 1})).await.expect(gone);
    let pinned = json!({"methods": "GET", "route": "/pay", "script": "pay", "auth": "public", "version": 1});
    author.put(&endpoint, &pinned).await.expect(gone);
    author.post("/tenants/acme/scripts/pay/roll-back", &json!({"from": 2})).await.expect("422 invalid");
    assert_eq!(call("/acme/pay").await, (200, "two".to_owned()));
    assert_eq!(call(&preview).await.0, 404);
    let (db, acme) = (&app.workspace.db, app.acme().await.id);
    let script = db.scripts().find_script(acme, &"pay".parse().unwrap()).await.unwrap().unwrap();
    let purged = db.versions().find_version_numbered(acme, script.id, 1).await.unwrap().unwrap();
    assert_eq!(db.versions().list_files(acme, purged.id).await.unwrap(), []);
    assert_eq!(purged.loaded.image, None);
    let audit = operator.get("/tenants/acme/audit").await.expect("200");
    let last = &audit["items"][0];
    assert_eq!((&last["action"], &last["target"]), (&json!("purge_version"), &json!("pay version 1")), "{audit}");
}

#[tokio::test]
async fn a_script_from_draft_to_endpoint_and_back_to_an_older_version() {
    on_each(script_from_draft_to_endpoint_and_back_to_an_older_version).await;
}

async fn script_from_draft_to_endpoint_and_back_to_an_older_version(app: TestApp) {
    let operator = Api::operator(&app).await;
    let author = operator.user("ann@acme.example", "acme", "author").await;
    author.post("/tenants/acme/scripts", &json!({"name": "orders"})).await.expect("201");
    author.post("/tenants/acme/scripts", &json!({"name": "orders"})).await.expect("409 name_taken");

    // The boilerplate can be published as it is.
    let published =
        author.post("/tenants/acme/scripts/orders/versions", &json!({"message": "first"})).await.expect("201");
    assert_eq!((&published["number"], &published["author"]), (&json!(1), &json!("user ann@acme.example")));
    let endpoint = json!({"methods": "GET", "route": "/orders", "script": "orders", "auth": "public"});
    let endpoint = author.post("/tenants/acme/endpoints", &endpoint).await.expect("201");
    let call = async |path: &str| {
        let response = app.client.get(format!("{}{path}", app.url)).send().await.unwrap();
        let version = response.headers().get("x-script-version").map(|v| v.to_str().unwrap().to_owned());
        (response.text().await.unwrap(), version.unwrap_or_default())
    };
    assert_eq!(call("/acme/orders").await, ("{\"hello\":\"world\"}".to_owned(), "1".to_owned()));

    // A draft is saved by one author at a time.
    let draft = "/tenants/acme/scripts/orders/draft";
    let shown = author.get(draft).await;
    let etag = shown.headers["etag"].clone();
    let save = |text: &str| {
        author.request(Method::PUT, draft).header("if-match", &etag).json(&json!({"files": handler(text)}))
    };
    Api::send(save("two")).await.expect("200");
    Api::send(save("lost")).await.expect("412 changed_meanwhile");
    let now = author.get(draft).await.expect("200");
    assert_eq!(now["files"], handler("two"));

    // Published without being served: only its preview shows it.
    author.post("/tenants/acme/scripts/orders/versions", &json!({"message": "a\u{0}b"})).await.expect("422 invalid");
    let held = json!({"promote": false, "message": "second"});
    author.post("/tenants/acme/scripts/orders/versions", &held).await.expect("201");
    assert_eq!(call("/acme/orders").await.1, "1");
    let preview = author.post("/tenants/acme/scripts/orders/versions/2/previews", &json!({})).await.expect("201");
    let preview = preview["path"].as_str().unwrap();
    assert_eq!(call(&format!("{preview}/orders")).await, ("two".to_owned(), "2".to_owned()));
    let wrong = format!("/acme/_preview/{}/orders", "0".repeat(32));
    assert!(call(&wrong).await.0.contains("endpoint_unknown"));

    // Promoted, rolled back, pinned.
    let live = "/tenants/acme/scripts/orders/live-version";
    author.put(live, &json!({"version": 2})).await.expect("200");
    assert_eq!(call("/acme/orders").await.1, "2");
    let back = author.post("/tenants/acme/scripts/orders/roll-back", &json!({"from": 2})).await.expect("200");
    assert_eq!(back["live_version"], 1);
    // Sent twice, it goes back once.
    author.post("/tenants/acme/scripts/orders/roll-back", &json!({"from": 2})).await.expect("412 changed_meanwhile");
    assert_eq!(call("/acme/orders").await.1, "1");
    let id = endpoint["id"].as_i64().unwrap();
    let pinned = json!({"methods": "GET,POST", "route": "/orders", "script": "orders", "auth": "public", "version": 2});
    author.put(&format!("/tenants/acme/endpoints/{id}"), &pinned).await.expect("200");
    assert_eq!(call("/acme/orders").await.1, "2");
    let outdated = author.request(Method::DELETE, &format!("/tenants/acme/endpoints/{id}")).header("if-match", "\"1\"");
    Api::send(outdated).await.expect("412 changed_meanwhile");

    // What changed, and the files as they were.
    let diff = author.get("/tenants/acme/scripts/orders/versions/2/diff").await.expect("200");
    assert_eq!(diff["is_complete"], true);
    let diff = diff["diff"].as_str().unwrap();
    assert!(diff.contains("--- a/handler.py") && diff.contains("+def handler(request): return 'two'"), "{diff}");
    let files = author.get("/tenants/acme/scripts/orders/versions/2/files").await.expect("200");
    assert_eq!(files["files"], handler("two"));
    let versions = author.get("/tenants/acme/scripts/orders/versions?limit=1").await.expect("200");
    assert_eq!((&versions["items"][0]["number"], &versions["items"][0]["message"]), (&json!(2), &json!("second")));
    let next = format!("/tenants/acme/scripts/orders/versions?cursor={}", versions["next_cursor"].as_str().unwrap());
    let rest = author.get(&next).await.expect("200");
    assert_eq!((&rest["items"][0]["number"], rest.get("next_cursor")), (&json!(1), None));

    // In use, then not.
    author.delete("/tenants/acme/scripts/orders").await.expect("409 in_use");
    author.delete(&format!("/tenants/acme/endpoints/{id}")).await.expect("204");
    author.delete("/tenants/acme/scripts/orders").await.expect("204");
    author.get("/tenants/acme/scripts/orders").await.expect("404 not_found");
    assert!(call("/acme/orders").await.0.contains("endpoint_unknown"));

    let audit = operator.get("/tenants/acme/audit?limit=3").await.expect("200");
    let seen = audit["items"].as_array().unwrap().iter().map(|entry| {
        assert_eq!(entry["actor"], "user ann@acme.example");
        format!("{} {}", entry["action"].as_str().unwrap(), entry["target"].as_str().unwrap())
    });
    let expected = [
        "delete_script orders",
        "delete_endpoint GET, POST /orders to orders version 2 (public)",
        "update_endpoint GET /orders to orders (public), now GET, POST /orders to orders version 2 (public)",
    ];
    assert_eq!(seen.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_preview_answers_until_it_is_revoked() {
    let app = TestApp::new().await;
    app.serve(&app.acme().await, "orders", "def handler(request): return 'hi'").await;
    let api = Api::operator(&app).await;
    let preview = api.post("/tenants/acme/scripts/orders/versions/1/previews", &json!({})).await.expect("201");
    let path = format!("{}/orders", preview["path"].as_str().unwrap());
    assert_eq!(app.get(&path).await.body, "hi");
    let previews = api.get("/tenants/acme/scripts/orders/previews").await.expect("200");
    let listed = &previews["items"][0];
    assert_eq!((&listed["id"], &listed["version"]), (&preview["id"], &json!(1)));
    assert_eq!(listed.get("path"), None, "its address is shown once");
    let one = |script: &str| format!("/tenants/acme/scripts/{script}/previews/{}", preview["id"].as_str().unwrap());
    app.try_publish(&app.acme().await, "other", "def handler(request): return 1").await.unwrap();
    api.delete(&one("other")).await.expect("404 not_found");
    api.delete(&one("orders")).await.expect("204");
    api.delete(&one("orders")).await.expect("404 not_found");
    assert_eq!(app.get(&path).await.problem(), (404, "endpoint_unknown".to_owned()));
}

#[tokio::test]
async fn a_token_of_an_endpoint_is_not_for_another_one_at_the_same_route() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.try_publish(&acme, "orders", "def handler(request): return request['method']").await.unwrap();
    let api = Api::operator(&app).await;
    let create = async |methods: &str| {
        let body = json!({"methods": methods, "route": "/orders", "script": "orders"});
        api.post("/tenants/acme/endpoints", &body).await.expect("201")["id"].as_i64().unwrap()
    };
    let get = create("GET").await;
    create("POST").await;
    let token = api.post("/tenants/acme/tokens", &json!({"endpoint": "/orders"})).await.expect("201");
    let call = async |method: Method| {
        let request = app.client.request(method, format!("{}/acme/orders", app.url));
        request.bearer_auth(token["token"].as_str().unwrap()).send().await.unwrap().status().as_u16()
    };
    assert_eq!((call(Method::GET).await, call(Method::POST).await), (200, 200));
    let path = format!("/tenants/acme/endpoints/{get}");
    let changed = json!({"methods": "GET,PUT", "route": "/orders", "script": "orders"});
    api.put(&path, &changed).await.expect("200");
    assert_eq!(call(Method::PUT).await, 200, "it is the same endpoint");
    api.delete(&path).await.expect("204");
    create("GET").await;
    assert_eq!((call(Method::GET).await, call(Method::POST).await), (403, 200));
    api.post("/tenants/acme/tokens", &json!({"endpoint": "/nothing"})).await.expect("404 not_found");
}

#[tokio::test]
async fn a_script_that_fails_is_not_published_and_its_author_sees_the_line() {
    on_each(script_that_fails_is_not_published_and_its_author_sees_the_line).await;
}

async fn script_that_fails_is_not_published_and_its_author_sees_the_line(app: TestApp) {
    let api = Api::operator(&app).await;
    let files = json!([{"name": "handler.py", "text": "x = 1\nraise ValueError('no')\ndef handler(request): pass\n"}]);
    let refused =
        api.post("/tenants/acme/scripts/bad/versions", &json!({"files": files})).await.expect("422 script_rejected");
    assert!(refused["traceback"].as_str().unwrap().contains("handler.py\", line 2"), "{refused}");
    api.get("/tenants/acme/scripts/bad").await.expect("404 not_found");
}

#[tokio::test]
async fn connections_secrets_hosts_and_state_are_managed_and_nothing_secret_comes_out() {
    on_each(everything_is_managed_and_nothing_secret_comes_out).await;
}

async fn everything_is_managed_and_nothing_secret_comes_out(app: TestApp) {
    let api = Api::operator(&app).await;
    let new = json!({"name": "dw", "url": "postgres://postgres:hunter22@127.0.0.1:1/test"});
    let made = api.post("/tenants/acme/connections", &new).await.expect("201");
    assert_eq!((&made["kind"], &made["is_default"]), (&json!("sql"), &json!(true)));
    let tested = api.post("/tenants/acme/connections/dw/test", &json!({})).await.expect("200");
    assert_eq!(tested["is_reachable"], false);
    assert!(tested["remarks"][0].as_str().unwrap().starts_with("cannot connect"), "{tested}");
    let shown = api.get("/tenants/acme/connections/dw").await;
    let etag = shown.headers["etag"].clone();
    let url = "postgres://postgres@127.0.0.1:5432/test";
    let replace = || {
        let request = api.request(Method::PUT, "/tenants/acme/connections/dw");
        request.header("if-match", &etag).json(&json!({"url": url}))
    };
    Api::send(replace()).await.expect("200");
    Api::send(replace()).await.expect("412 changed_meanwhile");
    let tested = api.post("/tenants/acme/connections/dw/test", &json!({})).await.expect("200");
    assert_eq!(tested["is_reachable"], true, "{tested}");

    let api_connection =
        json!({"name": "crm", "url": "https://api.example.com/v1", "headers": ["Authorization: Bearer x"]});
    api.post("/tenants/acme/connections", &api_connection).await.expect("201");
    api.post("/tenants/acme/connections/crm/test", &json!({})).await.expect("422 invalid");
    // The default is a database, and stays one.
    let default = api.request(Method::PATCH, "/tenants/acme").json(&json!({"default_connection": "crm"}));
    Api::send(default).await.expect("422 invalid");
    let other_kind = json!({"url": "https://api.example.com/v1"});
    api.put("/tenants/acme/connections/dw", &other_kind).await.expect("422 invalid");
    assert_eq!(api.get("/tenants/acme").await.expect("200")["default_connection"], "dw");
    let outdated = api.request(Method::DELETE, "/tenants/acme/connections/dw").header("if-match", &etag);
    Api::send(outdated).await.expect("412 changed_meanwhile");
    let bad = json!({"name": "x", "url": "ftp://example.com"});
    api.post("/tenants/acme/connections", &bad).await.expect("422 invalid");

    api.post("/tenants/acme/scripts", &json!({"name": "hello"})).await.expect("201");
    let secret = json!({"value": "hunter22-secret", "scripts": ["hello"]});
    api.put("/tenants/acme/secrets/key", &secret).await.expect("204");
    api.put("/tenants/acme/secrets/key", &json!({"value": "x", "scripts": ["nothing"]})).await.expect("404 not_found");
    api.post("/tenants/acme/allowed-hosts", &json!({"host": "API.example.com"})).await.expect("201");
    api.delete("/tenants/acme/allowed-hosts?host=api.example.com").await.expect("204");
    api.delete("/tenants/acme/allowed-hosts?host=api.example.com").await.expect("404 not_found");

    let state = "/tenants/acme/scripts/hello/state";
    assert_eq!(api.get(state).await.expect("200")["value"], Value::Null);
    Api::send(api.request(Method::PUT, state).header("if-match", "\"7\"").json(&json!(1)))
        .await
        .expect("412 changed_meanwhile");
    api.put(state, &json!({"a": [1, 1.0, "x"]})).await.expect("204");
    let shown = api.get(state).await;
    assert_eq!(shown.headers["etag"], "\"1\"");
    assert_eq!(shown.body["value"].to_string(), r#"{"a":[1,1.0,"x"]}"#);
    let stale = api.request(Method::PUT, state).header("if-match", "\"7\"").json(&json!(1));
    Api::send(stale).await.expect("412 changed_meanwhile");
    Api::send(api.request(Method::DELETE, state).header("if-match", "\"7\"")).await.expect("412 changed_meanwhile");
    Api::send(api.request(Method::DELETE, state).header("if-match", "\"1\"")).await.expect("204");

    let readers = "/tenants/acme/secrets/key/readers";
    api.put(readers, &json!({"scripts": []})).await.expect("204");
    api.put(&format!("{readers}/hello"), &json!({})).await.expect("204");
    assert_eq!(api.get("/tenants/acme/secrets").await.expect("200")["items"][0]["scripts"], json!(["hello"]));
    api.delete(&format!("{readers}/hello")).await.expect("204");
    api.put(readers, &json!({"scripts": null})).await.expect("204");
    api.put(&format!("{readers}/hello"), &json!({})).await.expect("409 in_use");
    api.put(&format!("{readers}/nothing"), &json!({})).await.expect("404 not_found");
    let audit = api.get("/tenants/acme/audit?limit=4").await.expect("200");
    let targets: Vec<_> = audit["items"].as_array().unwrap().iter().map(|entry| &entry["target"]).collect();
    assert_eq!(targets, ["key: all scripts", "key: no script", "key: hello", "key: no script"]);

    for path in ["/tenants/acme/connections", "/tenants/acme/secrets", "/tenants/acme/audit", "/tenants/acme"] {
        let text = api.get(path).await.expect("200").to_string();
        assert!(!text.contains("hunter22"), "{path}: {text}");
    }
}

#[tokio::test]
async fn a_create_with_a_key_runs_once() {
    on_each(create_with_a_key_runs_once).await;
}

async fn create_with_a_key_runs_once(app: TestApp) {
    let api = Api::operator(&app).await;
    let create = |path: &str, body: &Value| api.request(Method::POST, path).header("idempotency-key", "k1").json(body);
    let body = json!({"name": "initech"});
    let first = Api::send(create("/tenants", &body)).await;
    let again = Api::send(create("/tenants", &body)).await;
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(first.expect("201"), again.expect("201"));
    Api::send(create("/tenants", &json!({"name": "other"}))).await.expect("422 idempotency_key_reused");
    // What failed may be tried again, and a secret is shown once.
    let keyed = |key: &str, body: &Value| {
        api.request(Method::POST, "/operator-tokens").header("idempotency-key", key).json(body)
    };
    Api::send(keyed("k2", &json!({"expires_in": 0}))).await.expect("422 invalid");
    Api::send(keyed("k2", &json!({"name": "ci"}))).await.expect("201");
    Api::send(keyed("k2", &json!({"name": "ci"}))).await.expect("409 idempotent_answer_not_kept");
    Api::send(keyed(&"k".repeat(256), &json!({}))).await.expect("400 invalid_parameter");
}

#[tokio::test]
async fn a_create_that_failed_in_the_host_is_not_carried_out_again() {
    let app = TestApp::new().await;
    let api = Api::operator(&app).await;
    let create = || api.request(Method::POST, "/tenants").header("idempotency-key", "k").json(&json!({"name": "new"}));
    let file = app.workspace.data.path().join("pqhost.db");
    let mut database = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    let broken = "CREATE TRIGGER broken BEFORE INSERT ON tenant BEGIN SELECT RAISE(ABORT, 'broken'); END";
    sqlx::raw_sql(broken).execute(&mut database).await.unwrap();
    Api::send(create()).await.expect("500 host_error");
    sqlx::raw_sql("DROP TRIGGER broken").execute(&mut database).await.unwrap();
    Api::send(create()).await.expect("409 idempotency_key_in_use");
}

#[tokio::test]
async fn the_log_is_searched_by_what_people_look_for() {
    on_each(log_is_searched_by_what_people_look_for).await;
}

async fn log_is_searched_by_what_people_look_for(app: TestApp) {
    let api = Api::operator(&app).await;
    let acme = app.acme().await;
    app.serve(&acme, "good", "def handler(request):\n print('printed')\n return 'x'").await;
    app.serve(&acme, "bad", "def handler(request): raise ValueError('no')").await;
    for path in ["good", "bad", "good"] {
        app.client.get(format!("{}/acme/{path}", app.url)).send().await.unwrap();
    }
    let list = async |query: &str| {
        let page = api.get(&format!("/tenants/acme/invocations?{query}")).await.expect("200");
        page["items"].as_array().unwrap().clone()
    };
    app.last_invocation(&acme, 2).await; // records are written behind
    assert_eq!(list("script=good&version=1").await.len(), 2);
    assert_eq!(list("script=good&version=2").await.len(), 0);
    assert_eq!(list("status_min=500").await.len(), 1);
    assert_eq!(list("status_max=499").await.len(), 2);
    assert_eq!(list("since=2100-01-01T00:00:00Z").await.len(), 0);
    assert_eq!(list("until=2100-01-01T00:00:00Z").await.len(), 3);
    let failed = &list("script=bad").await[0];
    assert_eq!((&failed["status"], &failed["code"]), (&json!(500), &json!("script_error")));
    let one = api.get(&format!("/tenants/acme/invocations/{}", failed["id"].as_str().unwrap())).await.expect("200");
    assert!(one["traceback"].as_str().unwrap().contains("ValueError: no"), "{one}");
    let good = list("script=good").await;
    let one = api.get(&format!("/tenants/acme/invocations/{}", good[0]["id"].as_str().unwrap())).await.expect("200");
    assert_eq!(one["log"], "printed\n");
    assert!(good.iter().all(|entry| entry.get("log").is_none()), "{good:?}");
    assert_eq!(list("script=good&details=true").await[0]["log"], "printed\n");
}
