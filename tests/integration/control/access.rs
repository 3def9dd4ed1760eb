//! Who may use which operation: every operation, every role, and somebody of another tenant.

use pqhost::config::Config;
use reqwest::Method;
use serde_json::{Value, json};

use super::Api;
use crate::{control_database::on_each, support::TestApp};

/// Operations of the document: method, path with parameters filled in, what it needs.
fn operations(openapi: &Value) -> Vec<(String, Method, String, String)> {
    let mut operations = Vec::new();
    for (path, item) in openapi["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let path = path.strip_prefix("/api/v1").unwrap();
            // Nothing below the tenant exists, and bodies are wrong: who is let in changes nothing.
            let filled: Vec<_> = path
                .split('/')
                .map(|segment| match segment {
                    "{tenant}" => "acme",
                    "{version}" | "{endpoint}" => "999",
                    "{email}" => "nobody@nowhere.example",
                    _ if segment.starts_with('{') => "nothing",
                    _ => segment,
                })
                .collect();
            let id = operation["operationId"].as_str().unwrap().to_owned();
            let needs = operation["x-needs"].as_str().unwrap().to_owned();
            operations.push((id, method.to_uppercase().parse().unwrap(), filled.join("/"), needs));
        }
    }
    operations
}

#[tokio::test]
async fn every_operation_lets_in_those_it_should_and_nobody_else() {
    on_each(operation_lets_in_those_it_should_and_nobody_else).await;
}

async fn operation_lets_in_those_it_should_and_nobody_else(app: TestApp) {
    app.serve(&app.acme().await, "hello", "def handler(request): return 'hi'").await; // so that the tenant is not deleted
    app.tenant("globex").await;
    let anonymous = Api::anonymous(&app);
    let operator = Api::operator(&app).await;
    let callers = [
        ("nobody", anonymous.clone()),
        ("a wrong token", anonymous.with_token(&format!("pqh_{}", "0".repeat(64)))),
        ("a foreign owner", operator.user("eve@globex.example", "globex", "owner").await),
        ("viewer", operator.user("vic@acme.example", "acme", "viewer").await),
        ("author", operator.user("ann@acme.example", "acme", "author").await),
        ("owner", operator.user("olga@acme.example", "acme", "owner").await),
        ("operator", operator.clone()),
    ];
    let openapi = anonymous.get("/openapi.json").await.expect("200");
    let operations = operations(&openapi);
    assert!(operations.len() > 50, "{}", operations.len());
    for (id, method, path, needs) in &operations {
        for (name, api) in &callers {
            let request = api.request(method.clone(), path);
            let request = if method == Method::GET { request } else { request.json(&json!({"unknown": 1})) };
            let reply = Api::send(request).await;
            let (code, detail) = (reply.body["code"].as_str(), reply.body["detail"].as_str().unwrap_or_default());
            let seen = match code {
                Some("unauthenticated") => "who are you",
                Some("forbidden") => "forbidden",
                Some("not_found") if detail.contains("there is no tenant") => "no such tenant",
                Some("host_error") => panic!("{id} as {name}: {}", reply.body),
                _ => "let in",
            };
            let roles = ["viewer", "author", "owner", "operator"];
            let rank = |role: &str| roles.iter().position(|known| *known == role);
            let expected = match (needs.as_str(), *name) {
                ("nothing", _) => "let in",
                (_, "nobody" | "a wrong token") => "who are you",
                ("anyone", _) => "let in",
                ("user", "operator") => "forbidden",
                ("user", _) => "let in",
                ("operator", "operator") => "let in",
                ("operator", _) => "forbidden",
                (_, "a foreign owner") => "no such tenant",
                (needs, role) if rank(role) >= rank(needs) => "let in",
                _ => "forbidden",
            };
            assert_eq!(seen, expected, "{id} needs {needs}, called by {name}: {}", reply.body);
        }
    }
    // Nobody has changed anything on the way.
    let audit = operator.get("/tenants/acme/audit").await.expect("200");
    let actions: Vec<_> =
        audit["items"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    let expected = ["set_member", "set_member", "set_member", "create_endpoint", "publish_version", "create_script"];
    assert_eq!(actions, expected);
}

#[tokio::test]
async fn a_tenants_token_may_do_what_its_role_may_in_its_tenant() {
    on_each(tenants_token_may_do_what_its_role_may_in_its_tenant).await;
}

async fn tenants_token_may_do_what_its_role_may_in_its_tenant(app: TestApp) {
    app.tenant("globex").await;
    let operator = Api::operator(&app).await;
    let made = operator.post("/tenants/acme/api-tokens", &json!({"role": "author", "name": "ci"})).await.expect("201");
    let ci = operator.with_token(made["token"].as_str().unwrap());
    ci.post("/tenants/acme/scripts", &json!({"name": "hello"})).await.expect("201");
    ci.put("/tenants/acme/secrets/key", &json!({"value": "v"})).await.expect("403 forbidden");
    ci.get("/tenants/globex/scripts").await.expect("404 not_found");
    let visible = ci.get("/tenants").await.expect("200");
    assert_eq!(visible["items"].as_array().unwrap().len(), 1, "{visible}");
    ci.delete("/session").await.expect("409 no_session");
    let whoami = ci.get("/session").await.expect("200");
    let id = made["id"].as_str().unwrap();
    assert_eq!(whoami["actor"], format!("API token {id} ci"));

    ci.delete(&format!("/tenants/acme/api-tokens/{id}")).await.expect("403 forbidden");
    operator.delete(&format!("/tenants/acme/api-tokens/{id}")).await.expect("204");
    ci.get("/session").await.expect("401 unauthenticated");
    operator.delete("/tenants/acme/api-tokens/nothing").await.expect("404 not_found");
    let listed = operator.get("/tenants/acme/api-tokens").await.expect("200");
    assert!(listed["items"][0]["revoked_at"].is_string(), "{listed}");
    assert!(listed["items"][0].get("token").is_none(), "{listed}");
}

#[tokio::test]
async fn a_browsers_session_changes_things_only_from_our_own_pages() {
    let app = TestApp::new().await;
    let operator = Api::operator(&app).await;
    operator.user("olga@acme.example", "acme", "owner").await;
    let anonymous = Api::anonymous(&app);
    let login = json!({"email": "Olga@acme.example", "password": "correct horse battery", "cookie": true});
    let reply = anonymous.post("/session", &login).await;
    assert_eq!(reply.summary(), "201");
    assert!(reply.body.get("token").is_none(), "{}", reply.body);
    let set_cookie = reply.headers["set-cookie"].to_str().unwrap();
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(set_cookie.contains(attribute), "{set_cookie}");
    }
    let cookie = set_cookie.split(';').next().unwrap();

    let change = |api: &Api| api.request(Method::PUT, "/tenants/acme/secrets/key").json(&json!({"value": "v"}));
    let with_cookie = change(&anonymous).header("cookie", cookie);
    Api::send(with_cookie).await.expect("403 cross_site");
    let ours = change(&anonymous).header("cookie", cookie).header("x-requested-with", "pqhost");
    Api::send(ours).await.expect("204");
    let read = anonymous.request(Method::GET, "/session").header("cookie", cookie);
    assert_eq!(Api::send(read).await.expect("200")["email"], "olga@acme.example");
    // A token is no cookie, and two sessions are none.
    let token = operator.post("/operator-tokens", &json!({})).await.expect("201");
    let token = format!("pqhost_session={}", token["token"].as_str().unwrap());
    Api::send(anonymous.request(Method::GET, "/session").header("cookie", token)).await.expect("401 unauthenticated");
    let twice = format!("{cookie}; {cookie}");
    Api::send(anonymous.request(Method::GET, "/session").header("cookie", twice)).await.expect("401 unauthenticated");

    let out =
        anonymous.request(Method::DELETE, "/session").header("cookie", cookie).header("x-requested-with", "pqhost");
    Api::send(out).await.expect("204");
    Api::send(anonymous.request(Method::GET, "/session").header("cookie", cookie)).await.expect("401 unauthenticated");
}

#[tokio::test]
async fn who_owns_a_tenant_does_not_own_the_hosts_network_and_files() {
    let app = TestApp::new().await;
    let operator = Api::operator(&app).await;
    let owner = operator.user("olga@acme.example", "acme", "owner").await;
    let data = app.workspace.data.path().to_str().unwrap().to_owned();
    for url in [&format!("sqlite:{data}"), "sqlite:other/dw", "postgres://postgres@127.0.0.1:5432/test"] {
        let new = json!({"name": "dw", "url": url});
        owner.post("/tenants/acme/connections", &new).await.expect("403 forbidden");
    }
    let api = json!({"name": "crm", "url": "https://api.example.com/"});
    owner.post("/tenants/acme/connections", &api).await.expect("201");
    owner.put("/tenants/acme/connections/crm", &json!({"url": format!("sqlite:{data}")})).await.expect("403 forbidden");
}

#[tokio::test]
async fn handlers_neither_see_nor_set_the_cookie_of_the_control_api() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.serve(&acme, "seen", "def handler(request): return [request['headers'].get('Cookie'), request['cookies']]")
        .await;
    let cookies = "a=1; pqhost_session=pqh_secret; b=2";
    let seen = app.client.get(format!("{}/acme/seen", app.url)).header("cookie", cookies).send().await.unwrap();
    assert_eq!(seen.text().await.unwrap(), r#"["a=1; b=2",{"a":"1","b":"2"}]"#);
    let alone =
        app.client.get(format!("{}/acme/seen", app.url)).header("cookie", "pqhost_session=x").send().await.unwrap();
    assert_eq!(alone.text().await.unwrap(), "[null,{}]");
    app.serve(&acme, "set", "def handler(request): return 'x', 200, {'Set-Cookie': ' PQHOST_session=mine; Path=/'}")
        .await;
    assert_eq!(app.get("/acme/set").await.problem(), (500, "script_bad_return".to_owned()));
}

#[tokio::test]
async fn guessing_a_password_is_stopped_and_its_user_is_not() {
    let app = TestApp::with(|config| config.trusted_proxies.networks = vec!["127.0.0.0/8".parse().unwrap()]).await;
    let operator = Api::operator(&app).await;
    operator.user("olga@acme.example", "acme", "owner").await;
    let anonymous = Api::anonymous(&app);
    let login = async |client: &str, password: &str| {
        let body = json!({"email": "olga@acme.example", "password": password});
        let request = anonymous.request(Method::POST, "/session").header("x-forwarded-for", client);
        Api::send(request.json(&body)).await
    };
    for n in 0..10 {
        login(&format!("2001:db8::{n}"), "wrong horse battery").await.expect("401 wrong_password");
    }
    let refused = login("2001:db8::abc", "correct horse battery").await;
    assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() > 60);
    refused.expect("429 too_many_attempts");
    login("192.0.2.1", "correct horse battery").await.expect("201");
    let unknown = json!({"email": "nobody@acme.example", "password": "correct horse battery"});
    anonymous.post("/session", &unknown).await.expect("401 wrong_password");
}

#[tokio::test]
async fn who_is_no_trusted_proxy_is_the_client_whatever_it_says() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.serve(&acme, "ip", "def handler(request): return request['client_ip']").await;
    let ip = async |app: &TestApp| {
        let request = app.client.get(format!("{}/acme/ip", app.url)).header("x-forwarded-for", "192.0.2.1");
        let request = request.header("forwarded", "for=198.51.100.7");
        request.send().await.unwrap().text().await.unwrap()
    };
    assert_eq!(ip(&app).await, "127.0.0.1");
    for (field, expected) in [("x-forwarded-for", "192.0.2.1"), ("forwarded", "198.51.100.7")] {
        let change = |config: &mut Config| {
            config.trusted_proxies.networks = vec!["127.0.0.0/8".parse().unwrap()];
            config.trusted_proxies.field = field.parse().unwrap();
        };
        let app = TestApp::with(change).await;
        app.serve(&app.acme().await, "ip", "def handler(request): return request['client_ip']").await;
        assert_eq!(ip(&app).await, expected);
    }
}

#[tokio::test]
async fn a_tenant_keeps_an_owner_and_a_new_password_ends_sessions() {
    on_each(tenant_keeps_an_owner_and_a_new_password_ends_sessions).await;
}

async fn tenant_keeps_an_owner_and_a_new_password_ends_sessions(app: TestApp) {
    let operator = Api::operator(&app).await;
    let olga = operator.user("olga@acme.example", "acme", "owner").await;
    let member = "/tenants/acme/members/olga@acme.example";
    olga.put(member, &json!({"role": "viewer"})).await.expect("409 in_use");
    olga.delete(member).await.expect("409 in_use");
    operator.user("ann@acme.example", "acme", "owner").await;
    olga.put(member, &json!({"role": "viewer"})).await.expect("204");
    olga.put(member, &json!({"role": "owner"})).await.expect("403 forbidden");

    let anonymous = Api::anonymous(&app);
    let login = json!({"email": "olga@acme.example", "password": "correct horse battery"});
    let session = anonymous.post("/session", &login).await.expect("201");
    let session = anonymous.with_token(session["token"].as_str().unwrap());
    let change = |current: &str, new: &str| json!({"current": current, "new": new});
    session.put("/session/password", &change("wrong", "new horse battery")).await.expect("401 wrong_password");
    session.put("/session/password", &change("correct horse battery", "short")).await.expect("422 invalid");
    session.put("/session/password", &change("correct horse battery", "new horse battery")).await.expect("204");
    session.get("/session").await.expect("401 unauthenticated");
    anonymous.post("/session", &login).await.expect("401 wrong_password");
    operator.delete("/users/ann@acme.example").await.expect("409 in_use");
    operator.delete("/users/olga@acme.example").await.expect("204");
    olga.get("/session").await.expect("401 unauthenticated");
    operator.delete("/users/olga@acme.example").await.expect("404 not_found");
}
