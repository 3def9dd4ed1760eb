//! The documented flow of a script that authenticates its callers itself, on real tables.

use std::path::PathBuf;

use pqhost::domain::exchange::AuthMode;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Tenant, TestApp, example};

const SECRET: &str = "a long random text";
const ADAS: &str = "the token that Ada will send";
const BOBS: &str = "the token that Bob will send";

/// The example with the comment of a step made into code.
fn with_step(step: &str, code: &str) -> String {
    let handler = example("custom-auth", "handler.py");
    let comment = handler.lines().find(|line| line.trim_start().starts_with(step)).unwrap().to_owned();
    handler.replace(&comment, &format!("    {code}"))
}

fn adas() -> Value {
    json!([{"id": 1, "partner": "ada", "amount": 9.5}, {"id": 3, "partner": "ada", "amount": 7.0}])
}

fn bobs() -> Value {
    json!([{"id": 2, "partner": "bob", "amount": 3.0}])
}

async fn call(app: &TestApp, path: &str, token: Option<&str>) -> Answer {
    let request = app.request(Method::GET, path);
    Answer::of(token.into_iter().fold(request, |request, token| request.header("authorization", token))).await
}

/// A host on which the example's steps 1 to 4 are done, and the folder of its databases.
async fn app_with_orders() -> (TestApp, Tenant, PathBuf) {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    // Step 1.
    let folder = app.workspace.data.sqlite().join("acme");
    std::fs::create_dir_all(&folder).unwrap();
    for (file, sql) in [
        ("tokens.db", "CREATE TABLE api_keys (id TEXT PRIMARY KEY, token TEXT NOT NULL UNIQUE)"),
        (
            "sales.db",
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, partner TEXT, amount REAL);
             INSERT INTO orders VALUES (1, 'ada', 9.5), (2, 'bob', 3), (3, 'ada', 7)",
        ),
    ] {
        rusqlite::Connection::open(folder.join(file)).unwrap().execute_batch(sql).unwrap();
    }
    app.connection(&acme, "dw_2", "sqlite:acme").await;
    // Step 2: the version that holds the secret runs once.
    let first = with_step("# Step 2", &format!("pq.set_state({{'secret': '{SECRET}'}})"));
    app.try_publish(&acme, "orders", first).await.unwrap();
    app.endpoint(&acme, "GET", "/orders", "orders", AuthMode::Public).await;
    assert_eq!(call(&app, "/acme/orders", Some(ADAS)).await.status, 401);
    // Step 3, for two partners.
    for (partner, token) in [("ada", ADAS), ("bob", BOBS)] {
        let adding = with_step("# Step 3", &format!("add_new_token('{partner}', '{token}')"));
        app.try_publish(&acme, "orders", adding).await.unwrap();
        assert_eq!(call(&app, "/acme/orders", None).await.status, 401);
    }
    // Step 4: the example as it stands.
    app.try_publish(&acme, "orders", example("custom-auth", "handler.py")).await.unwrap();
    (app, acme, folder)
}

#[tokio::test]
async fn callers_authenticate_with_tokens_of_a_table_and_see_their_own_rows() {
    let (app, _acme, folder) = app_with_orders().await;
    // Steps 5 and 6.
    for (token, expected) in [(ADAS, adas()), (BOBS, bobs()), (ADAS, adas())] {
        let answer = call(&app, "/acme/orders", Some(token)).await;
        assert_eq!((answer.status, answer.json()), (200, expected));
    }
    for token in [None, Some(""), Some("ada"), Some(SECRET), Some("' OR 1=1 --"), Some(&ADAS[1..])] {
        let answer = call(&app, "/acme/orders", token).await;
        assert_eq!((answer.status, answer.headers["www-authenticate"].to_str().unwrap()), (401, "Token"), "{token:?}");
        assert!(!answer.body.contains("ada"), "{}", answer.body);
    }
    let kept: String = rusqlite::Connection::open(folder.join("tokens.db"))
        .unwrap()
        .query_row("SELECT group_concat(id || token) FROM api_keys", [], |row| row.get(0))
        .unwrap();
    assert!(kept.contains("ada") && !kept.contains("token that"), "tokens are kept hashed: {kept}");
}

#[tokio::test]
async fn an_endpoint_that_keeps_answers_gives_none_of_them_to_another_partner() {
    let (app, acme, _) = app_with_orders().await;
    for (route, cache) in
        [("/kept", json!({"ttl": 600})), ("/apart", json!({"ttl": 600, "headers": ["authorization"]}))]
    {
        app.endpoint_with(&acme, ("GET", route), "orders", AuthMode::Public, json!({ "cache": cache })).await;
    }
    let ask = async |route: &str| {
        let mut from = Vec::new();
        for (token, expected) in [(ADAS, adas()), (BOBS, bobs()), (ADAS, adas()), (BOBS, bobs())] {
            let answer = call(&app, &format!("/acme{route}"), Some(token)).await;
            assert_eq!((answer.status, answer.json()), (200, expected), "{route}");
            from.push(answer.headers.get("x-cache").map(|from| from.to_str().unwrap().to_owned()));
        }
        assert_eq!(call(&app, &format!("/acme{route}"), None).await.status, 401);
        from
    };
    assert_eq!(ask("/kept").await, [const { None }; 4], "the host does not know whose they are");
    let from = app.undisturbed(&acme, async || ask("/apart").await).await;
    assert_eq!(from, ["miss", "miss", "hit", "hit"].map(|from| Some(from.to_owned())));
}
