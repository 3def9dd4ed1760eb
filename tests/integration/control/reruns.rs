//! Requests that were recorded, sent again.

use pqhost::domain::people::Role;
use reqwest::Method;
use serde_json::{Value, json};

use super::Api;
use crate::support::{Answer, Tenant, TestApp};

/// A host with a recorded endpoint `/s/{id}` of script `s`, an author, and the path of the endpoint.
struct Recorded {
    app: TestApp,
    acme: Tenant,
    author: Api,
    endpoint: String,
}

fn endpoint(auth: &str, record: bool) -> Value {
    json!({"methods": "ANY", "route": "/s/{id}", "script": "s", "auth": auth, "record": record})
}

impl Recorded {
    async fn new(source: &str, auth: &str) -> Self {
        let app = TestApp::new().await;
        let acme = app.acme().await;
        app.try_publish(&acme, "s", source).await.unwrap();
        let author = Api::anonymous(&app).with_token(&app.api_token(&acme, Role::Author).await);
        let made = author.post("/tenants/acme/endpoints", &endpoint(auth, true)).await.expect("201");
        assert_eq!(made["record"], true);
        let endpoint = format!("/tenants/acme/endpoints/{}", made["id"]);
        Self { app, acme, author, endpoint }
    }

    /// Calls the endpoint; gives the answer and the invocation's id, once it is in the log.
    async fn call(&self, body: impl Into<reqwest::Body>) -> (Answer, String) {
        self.sent(self.app.request(Method::POST, "/acme/s/7?a=1").body(body)).await
    }

    async fn sent(&self, request: reqwest::RequestBuilder) -> (Answer, String) {
        let answer = Answer::of(request).await;
        let id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
        self.app.invocation(&self.acme, &id).await;
        (answer, id)
    }

    async fn rerun(&self, id: &str, body: Value) -> super::Reply {
        self.author.post(&format!("/tenants/acme/invocations/{id}/rerun"), &body).await
    }
}

#[tokio::test]
async fn a_recorded_request_is_run_again_and_the_answers_are_compared() {
    let source = "
def handler(request):
    print(request['headers'], request['cookies'], request['auth'], request['request_id'])
    body = {'v': 1, 'iss': request['auth']['claims']['iss'], 'json': request['json'], 'id': request['path_params']['id'], 'q': request['query']}
    return body, 201, {'X-V': '1', 'Set-Cookie': 'session=s3cret-set'}
";
    let host = Recorded::new(source, "jwt").await;
    let (app, acme) = (&host.app, &host.acme);
    let token = app.token(acme).await;
    let request = app.request(Method::POST, "/acme/s/7?a=1").json(&json!({"name": "personal-data"}));
    let request = request.header("authorization", format!("JWT {token}"));
    let (first, id) = host.sent(request.header("cookie", "c=s3cret-cookie").header("x-api-key", "s3cret-key")).await;
    assert_eq!((first.status, &first.json()["json"]["name"]), (201, &json!("personal-data")));
    let shown = host.author.get(&format!("/tenants/acme/invocations/{id}")).await.expect("200");
    assert_eq!((&shown["is_recorded"], &shown["rerun_of"]), (&json!(true), &Value::Null));

    let again = host.rerun(&id, json!({})).await.expect("200");
    assert_eq!(again["version"], 1);
    for answer in [&again["original"], &again["rerun"]] {
        assert_eq!((&answer["status"], &answer["text"]), (&json!(201), &json!(first.body)), "{again}");
        assert!(!answer.to_string().contains("s3cret"), "{again}");
    }
    let same = json!({"same_status": true, "same_headers": true, "same_body": true});
    assert_eq!(again["comparison"], same);

    // It is an invocation of its own, which says what it repeats and who asked; the handler saw no credentials.
    let rerun_id = again["invocation"].as_str().unwrap();
    let record = app.invocation(acme, rerun_id).await;
    let rerun = record.rerun.unwrap();
    assert_eq!(rerun.invocation.to_string(), id);
    assert!(rerun.by.starts_with("API token"), "{}", rerun.by);
    assert!(record.log.contains(rerun_id) && record.log.contains("'jti'"), "{}", record.log);
    for hidden in ["Authorization", "s3cret", &token] {
        assert!(!record.log.contains(hidden), "{hidden}: {}", record.log);
    }
    let shown = host.author.get(&format!("/tenants/acme/invocations/{rerun_id}")).await.expect("200");
    assert_eq!((&shown["is_recorded"], &shown["rerun_of"]), (&json!(false), &json!(id)));
    host.rerun(rerun_id, json!({})).await.expect("409 not_recorded");
    let audit = Api::operator(app).await.get("/tenants/acme/audit?limit=1").await.expect("200");
    assert_eq!(audit["items"][0]["action"], "rerun_invocation");

    // On another version.
    let files = json!({"files": [{"name": "handler.py", "text": source.replace("'v': 1", "'v': 2").replace("201", "200")}], "promote": false});
    host.author.post("/tenants/acme/scripts/s/versions", &files).await.expect("201");
    let other = host.rerun(&id, json!({"version": 2})).await.expect("200");
    let compared = &other["comparison"];
    assert_eq!(
        (&compared["same_status"], &compared["same_headers"], &compared["same_body"]),
        (&json!(false), &json!(true), &json!(false))
    );
    let diff = compared["diff"].as_str().unwrap();
    assert!(diff.contains("-  \"v\": 1,\n+  \"v\": 2,\n"), "{diff}");
    assert_eq!(app.invocation(acme, other["invocation"].as_str().unwrap()).await.status, 200);

    host.rerun(&id, json!({"version": 99})).await.expect("404 not_found");
    host.author.delete("/tenants/acme/scripts/s/versions/2/files").await.expect("204");
    host.rerun(&id, json!({"version": 2})).await.expect("410 version_purged");
    let viewer = host.author.with_token(&app.api_token(acme, Role::Viewer).await);
    viewer.post(&format!("/tenants/acme/invocations/{id}/rerun"), &json!({})).await.expect("403 forbidden");

    // At rest it is sealed, and stays readable when the vault's key is replaced.
    for file in std::fs::read_dir(app.workspace.data.path()).unwrap().flatten().filter(|file| file.path().is_file()) {
        let bytes = std::fs::read(file.path()).unwrap();
        let found = bytes.windows(13).any(|window| window == b"personal-data");
        assert!(!found, "{}", file.path().display());
    }
    app.workspace.rotate_vault_key().await.unwrap();
    app.see_changes().await;
    assert_eq!(host.rerun(&id, json!({})).await.expect("200")["comparison"], same);
    app.assert_rewound();
}

#[tokio::test]
async fn nothing_is_recorded_unless_the_endpoint_says_so() {
    let host = Recorded::new("def handler(request): return 'x'", "public").await;
    host.author.put(&host.endpoint, &endpoint("public", false)).await.expect("200");
    let (_, before) = host.call("a").await;
    let refused = host.rerun(&before, json!({})).await;
    let detail = refused.body["detail"].as_str().unwrap().to_owned();
    refused.expect("409 not_recorded");
    assert!(detail.contains("pqhost endpoint record acme"), "{detail}");
    host.author.put(&host.endpoint, &endpoint("public", true)).await.expect("200");
    let (_, after) = host.call("a").await;
    host.rerun(&after, json!({})).await.expect("200");
    host.rerun(&before, json!({})).await.expect("409 not_recorded");
    let unknown = host.rerun("01890000-0000-7000-8000-000000000000", json!({})).await;
    unknown.expect("404 not_found");
}

#[tokio::test]
async fn a_rerun_writes_what_it_writes_and_streamed_rows_are_recorded() {
    let source = "
def handler(request):
    db = pq.dbconnect('dw_2')
    if request['json'] == 'fail': raise ValueError('no')
    db.insert('dw_2', 'salesforce', 'accounts', {'name': request['body'].decode()})
    return db.fetch('dw_2', 'salesforce', 'accounts', order_by='id')
";
    let host = Recorded::new(source, "public").await;
    host.app.accounts(&host.acme).await;
    let (first, id) = host.call("posted").await;
    assert_eq!(first.json().as_array().unwrap().len(), 4, "{first:?}");
    let again = host.rerun(&id, json!({})).await.expect("200");
    assert_eq!(again["original"]["text"], first.body);
    let rows = |answer: &Value| serde_json::from_str::<Value>(answer["text"].as_str().unwrap()).unwrap();
    assert_eq!(rows(&again["rerun"]).as_array().unwrap().len(), 5, "the insert was carried out again: {again}");
    assert_eq!(again["comparison"]["same_body"], false);
    assert_eq!(host.app.invocation(&host.acme, &id).await.rows, 4, "those that were streamed");

    // What failed is recorded as well.
    let request =
        host.app.request(Method::POST, "/acme/s/7").header("content-type", "application/json").body("\"fail\"");
    let (failed, id) = host.sent(request).await;
    assert_eq!(failed.problem(), (500, "script_error".to_owned()));
    let again = host.rerun(&id, json!({})).await.expect("200");
    for answer in [&again["original"], &again["rerun"]] {
        assert_eq!((&answer["status"], &answer["code"]), (&json!(500), &json!("script_error")));
    }
    assert_eq!(again["comparison"]["same_status"], true);
}

#[tokio::test]
async fn bodies_are_recorded_up_to_a_limit() {
    let source = "def handler(request): return b'x' * (300 * 1024) if request['query'].get('a') else b'y'";
    let host = Recorded::new(source, "public").await;
    let (answer, id) = host.call("small").await;
    assert_eq!(answer.body.len(), 300 << 10);
    let again = host.rerun(&id, json!({})).await.expect("200");
    for answer in [&again["original"], &again["rerun"]] {
        assert_eq!((answer["text"].as_str().unwrap().len(), &answer["is_cut"]), (256 << 10, &json!(true)));
    }
    assert_eq!(again["comparison"]["same_body"], Value::Null);
    let (_, id) = host.call(vec![b'x'; 300 << 10]).await;
    let refused = host.rerun(&id, json!({})).await;
    assert!(refused.body["detail"].as_str().unwrap().contains("262144"), "{}", refused.body);
    refused.expect("409 not_recorded");
}
