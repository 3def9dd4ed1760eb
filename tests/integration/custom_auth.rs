//! The documented flow of a script that authenticates its callers itself, on real tables.

use pqhost::domain::exchange::AuthMode;
use reqwest::Method;
use serde_json::json;

use crate::support::{Answer, TestApp, example};

const SECRET: &str = "a long random text";
const ADAS: &str = "the token that Ada will send";
const BOBS: &str = "the token that Bob will send";

/// The example with the comment of a step made into code.
fn with_step(step: &str, code: &str) -> String {
    let handler = example("custom-auth", "handler.py");
    let comment = handler.lines().find(|line| line.trim_start().starts_with(step)).unwrap().to_owned();
    handler.replace(&comment, &format!("    {code}"))
}

#[tokio::test]
async fn callers_authenticate_with_tokens_of_a_table_and_see_their_own_rows() {
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
    let call = async |token: Option<&str>| {
        let request = app.request(Method::GET, "/acme/orders");
        Answer::of(token.into_iter().fold(request, |request, token| request.header("authorization", token))).await
    };

    // Step 2: the version that holds the secret runs once.
    let first = with_step("# Step 2", &format!("pq.set_state({{'secret': '{SECRET}'}})"));
    app.try_publish(&acme, "orders", first).await.unwrap();
    app.endpoint(&acme, "GET", "/orders", "orders", AuthMode::Public).await;
    assert_eq!(call(Some(ADAS)).await.status, 401);
    // Step 3, for two partners.
    for (partner, token) in [("ada", ADAS), ("bob", BOBS)] {
        let adding = with_step("# Step 3", &format!("add_new_token('{partner}', '{token}')"));
        app.try_publish(&acme, "orders", adding).await.unwrap();
        assert_eq!(call(None).await.status, 401);
    }
    // Step 4: the example as it stands.
    app.try_publish(&acme, "orders", example("custom-auth", "handler.py")).await.unwrap();

    // Steps 5 and 6.
    let adas = json!([{"id": 1, "partner": "ada", "amount": 9.5}, {"id": 3, "partner": "ada", "amount": 7.0}]);
    let bobs = json!([{"id": 2, "partner": "bob", "amount": 3.0}]);
    for (token, expected) in [(ADAS, &adas), (BOBS, &bobs), (ADAS, &adas)] {
        let answer = call(Some(token)).await;
        assert_eq!((answer.status, &answer.json()), (200, expected));
    }
    for token in [None, Some(""), Some("ada"), Some(SECRET), Some("' OR 1=1 --"), Some(&ADAS[1..])] {
        let answer = call(token).await;
        assert_eq!((answer.status, answer.headers["www-authenticate"].to_str().unwrap()), (401, "Token"), "{token:?}");
        assert!(!answer.body.contains("ada"), "{}", answer.body);
    }
    let kept: String = rusqlite::Connection::open(folder.join("tokens.db"))
        .unwrap()
        .query_row("SELECT group_concat(id || token) FROM api_keys", [], |row| row.get(0))
        .unwrap();
    assert!(kept.contains("ada") && !kept.contains("token that"), "tokens are kept hashed: {kept}");
}
