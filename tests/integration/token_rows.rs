//! Tokens that reach some rows only: the tenant's own, and those of issuers outside.

use pqhost::domain::exchange::AuthMode;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    control::Api,
    support::{Answer, TestApp},
    tables::{drop_schema, ids, on_each},
    tokens::Outside,
    upstream::Upstream,
};

const TOKENS: &str = "/tenants/acme/tokens";
const ISSUERS: &str = "/tenants/acme/issuers";
const ISSUER: &str = "https://login.example.com/";

/// Endpoints for tokens that show the same table: `/table` without a script, `/script` with one.
async fn serve_table(app: &TestApp, schema: &str, table: &str) {
    let acme = app.acme().await;
    let source = json!({"connection": "dw_2", "schema": schema, "table": table, "page_rows": 1000});
    app.table_endpoint(&acme, "/table", source, AuthMode::Jwt).await;
    let handler = format!("def handler(request): return pq.dbconnect('dw_2').fetch('dw_2', '{schema}', '{table}')");
    app.try_publish(&acme, "script", &handler).await.unwrap();
    app.endpoint(&acme, "GET", "/script", "script", AuthMode::Jwt).await;
}

async fn get(app: &TestApp, path: &str, token: &str) -> Answer {
    Answer::of(app.request(Method::GET, path).bearer_auth(token)).await
}

/// A host whose table has the accounts 1 to 3, with an issuer outside whose tokens reach the account of their claim `account`.
struct Accounts {
    app: TestApp,
    api: Api,
    outside: Outside,
    _upstream: Upstream,
}

fn of_account(equals: &Value) -> Value {
    json!([{"connection": "dw_2", "schema": "salesforce", "table": "accounts", "column": "id", "equals": equals}])
}

impl Accounts {
    async fn new() -> Self {
        let app = TestApp::with(|config| config.egress_private = vec!["127.0.0.0/8".parse().unwrap()]).await;
        app.accounts(&app.acme().await).await;
        serve_table(&app, "salesforce", "accounts").await;
        let (upstream, outside) = (Upstream::start().await, Outside::new());
        let api = Api::operator(&app).await;
        let new = json!({"issuer": ISSUER, "jwks_url": upstream.url(&outside.path), "audience": "orders",
            "row_filters": of_account(&json!({"claim": "account"}))});
        let added = api.post(ISSUERS, &new).await.expect("201");
        assert_eq!(added["row_filters"], new["row_filters"]);
        assert_eq!(api.get(ISSUERS).await.expect("200")["items"], json!([added]));
        Self { app, api, outside, _upstream: upstream }
    }

    /// A token of the issuer outside that says this besides.
    fn outside(&self, more: &Value) -> String {
        self.outside.sign(ISSUER, more)
    }

    /// A token of the tenant.
    async fn own(&self, new: &Value) -> String {
        self.api.post(TOKENS, new).await.expect("201")["token"].as_str().unwrap().to_owned()
    }
}

/// What is no value of a claim that rows could be told apart by.
fn unusable() -> Vec<Value> {
    let mut values =
        vec![json!(null), json!(true), json!(2.0), json!(2.5), json!([2]), json!({"id": 2}), json!(u64::MAX)];
    values.extend(["", "\0", "2\0", &"2".repeat(2 << 10)].map(|text| json!(text)));
    values
}

#[tokio::test]
async fn a_token_reaches_its_own_rows_with_and_without_a_script() {
    for (kind, schema, app) in on_each("tokens").await {
        serve_table(&app, &schema, "orders").await;
        let acme = app.acme().await;
        let query = json!({"connection": "dw_2", "query": format!("SELECT * FROM {schema}.orders")});
        app.table_endpoint(&acme, "/query", query, AuthMode::Jwt).await;
        let api = Api::operator(&app).await;
        let filter = json!({"connection": "dw_2", "schema": schema, "table": "orders", "column": "status",
            "equals": {"claim": "status"}});
        let token = async |status: &str, row_filters: Value| {
            let new = json!({"name": status, "claims": {"status": status}, "row_filters": row_filters});
            api.post(TOKENS, &new).await.expect("201")["token"].as_str().unwrap().to_owned()
        };
        for (status, rest) in [("open", 0), ("closed", 1)] {
            let token = token(status, json!([filter])).await;
            let mine: Vec<i64> = (0..500).filter(|n| n % 3 == rest).collect();
            for attempt in ["", "&status=ne.x", "&status=in.(open,closed)", "&id=gte.0"] {
                let seen = ids(&get(&app, &format!("/acme/table?limit=1000&order=id{attempt}"), &token).await);
                assert_eq!(seen, mine, "{kind} {status} {attempt}");
            }
            let mut seen = ids(&get(&app, "/acme/script", &token).await);
            seen.sort_unstable();
            assert_eq!(seen, mine, "{kind} {status}");
            assert_eq!(
                get(&app, "/acme/query", &token).await.problem(),
                (403, "rows_not_allowed".to_owned()),
                "{kind}"
            );
        }
        let open = token("open", Value::Null).await;
        for path in ["/acme/table?limit=1000", "/acme/query?limit=1000", "/acme/script"] {
            assert_eq!(ids(&get(&app, path, &open).await).len(), 500, "{kind} {path}: without filters, as ever");
        }
        let nothing = token("open", json!([])).await;
        assert_eq!(get(&app, "/acme/table", &nothing).await.problem(), (403, "rows_not_allowed".to_owned()), "{kind}");

        let listed = api.get(TOKENS).await.expect("200");
        let mut shown: Vec<_> = listed["items"].as_array().unwrap().iter().map(|entry| &entry["row_filters"]).collect();
        shown.sort_by_key(|filters| filters.to_string());
        assert_eq!(shown, [&json!([]), &json!([filter]), &json!([filter]), &Value::Null], "{kind}");
        drop_schema(&app, kind, &schema).await;
    }
}

#[tokio::test]
async fn a_token_of_an_outside_issuer_reaches_the_rows_of_its_claim() {
    let host = Accounts::new().await;
    let tokens = [json!({"account": 1}), json!({"account": "2"}), json!({"account": 3}), json!({"account": 4})];
    for _ in 0..2 {
        for (number, claims) in (1..).zip(&tokens) {
            let token = host.outside(claims);
            let mine = if number < 4 { vec![number] } else { Vec::new() };
            for path in ["/acme/table", "/acme/table?id=gte.0", "/acme/script"] {
                assert_eq!(ids(&get(&host.app, path, &token).await), mine, "{path} {claims}");
            }
        }
    }
    for path in ["/acme/table", "/acme/script"] {
        let says = unusable().into_iter().map(|value| json!({"account": value}));
        for claims in says.chain([json!({}), json!({"Account": 2}), json!({"attributes": {"account": 2}})]) {
            let refused = get(&host.app, path, &host.outside(&claims)).await;
            assert_eq!(refused.problem(), (403, "row_filter_unresolved".to_owned()), "{path} {claims}");
            assert!(!refused.body.contains("account") && !refused.body.contains("salesforce"), "{}", refused.body);
        }
    }
    // What the issuer's tokens reach is nothing to the tenant's own.
    let own = host.own(&json!({})).await;
    assert_eq!(ids(&get(&host.app, "/acme/table", &own).await), [1, 2, 3]);
}

#[tokio::test]
async fn row_filters_that_no_claim_of_a_token_satisfies_are_refused_when_it_is_made() {
    let host = Accounts::new().await;
    let says = unusable().into_iter().map(|value| json!({"account": value}));
    for claims in says.chain([json!({}), json!({"Account": 2})]) {
        let new = json!({"claims": claims, "row_filters": of_account(&json!({"claim": "account"}))});
        let refused = host.api.post(TOKENS, &new).await.expect("422 invalid");
        assert!(
            refused["detail"].as_str().unwrap().starts_with("claim `account` of a row filter is missing"),
            "{refused}"
        );
    }
    assert_eq!(host.api.get(TOKENS).await.expect("200")["items"], json!([]));
    let of_host = json!({"name": "of what the host says", "row_filters": of_account(&json!({"claim": "iat"}))});
    let of_host = host.own(&of_host).await;
    assert_eq!(
        ids(&get(&host.app, "/acme/table", &of_host).await),
        [0_i64; 0],
        "no account has the number of this second"
    );

    let by_attribute = of_account(&json!({"attribute": "account"}));
    let twice = json!([{"connection": "dw_2"}, {"connection": "dw_2"}]);
    let too_many: Vec<_> = (0..65).map(|n| json!({"connection": "dw_2", "table": format!("t{n}")})).collect();
    for (row_filters, expected) in [
        (by_attribute, "422 invalid"),
        (twice, "422 invalid"),
        (json!(too_many), "422 invalid"),
        (json!([{"connection": "dw_2", "schema": "s"}]), "422 invalid"),
        (json!([{"connection": "dw_2", "tables": "t"}]), "400 invalid_body"),
        (json!({}), "400 invalid_body"),
        (of_account(&json!({"value": 2.5})), "400 invalid_body"),
    ] {
        let token = json!({"claims": {"account": 2}, "row_filters": row_filters});
        host.api.post(TOKENS, &token).await.expect(expected);
        let issuer = json!({"issuer": "https://other.example.com", "jwks_url": "https://other.example.com/keys",
            "audience": "orders", "row_filters": row_filters});
        host.api.post(ISSUERS, &issuer).await.expect(expected);
    }
}

#[tokio::test]
async fn a_rerun_reaches_the_rows_of_the_recorded_token() {
    let host = Accounts::new().await;
    let endpoint = json!({"methods": "GET", "route": "/recorded", "script": "script", "auth": "jwt", "record": true});
    host.api.post("/tenants/acme/endpoints", &endpoint).await.expect("201");
    let acme = host.app.acme().await;
    let own = json!({"claims": {"account": 2}, "row_filters": of_account(&json!({"claim": "account"}))});
    let tokens = [(host.own(&own).await, 2), (host.outside(&json!({"account": 3})), 3)];
    let mut recorded = Vec::new();
    for (token, account) in &tokens {
        let answer = get(&host.app, "/acme/recorded", token).await;
        assert_eq!(ids(&answer), [*account]);
        let id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
        host.app.invocation(&acme, &id).await;
        recorded.push(id);
    }
    // What is trusted later widens nothing of what was recorded before.
    let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("issuer", ISSUER).finish();
    host.api.delete(&format!("{ISSUERS}?{query}")).await.expect("204");
    for (id, (token, _)) in recorded.iter().zip(&tokens) {
        let rerun = host.api.post(&format!("/tenants/acme/invocations/{id}/rerun"), &json!({})).await.expect("200");
        assert_eq!(rerun["comparison"]["same_body"], json!(true), "{rerun}");
        assert!(!rerun.to_string().contains(token), "{rerun}");
    }
}
