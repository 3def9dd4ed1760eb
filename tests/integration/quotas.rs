//! What tenants may use over time, and what they used.

use std::time::{Duration, Instant};

use pqhost::domain::{
    exchange::AuthMode,
    quota::{Day, Month},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    control::Api,
    control_database::{Schema, on_each, on_each_installation},
    program::Installation,
    support::{Answer, HANG_GUARD, Tenant, TestApp, client},
};

const HELLO: &str = "def handler(request): return 'hi'";

/// Grants acme something; the host that did it knows at once.
async fn grant(app: &TestApp, quotas: &Value) -> Api {
    let operator = Api::operator(app).await;
    operator.put("/tenants/acme/quotas", quotas).await.expect("204");
    operator
}

/// The quota that a caller was told of, and for how long.
#[track_caller]
fn used_up(answer: &Answer) -> (String, u64) {
    assert_eq!(answer.problem(), (429, "quota_exceeded".to_owned()), "{answer:?}");
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    let quota = detail.split('`').nth(1).unwrap().to_owned();
    (quota, answer.headers["retry-after"].to_str().unwrap().parse().unwrap())
}

/// What acme used this month, once `is_so`.
async fn usage(app: &TestApp, is_so: impl Fn(&Value) -> bool + Send + Sync) -> Value {
    let operator = Api::operator(app).await;
    let waiting = async {
        loop {
            let shown = operator.get("/tenants/acme/usage").await.expect("200");
            if is_so(&shown["total"]) {
                return shown;
            }
        }
    };
    tokio::time::timeout(HANG_GUARD, waiting).await.expect("usage is written soon")
}

async fn fuel_used(app: &TestApp, acme: &Tenant) -> u64 {
    let day = Day::of(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs());
    app.workspace.db.usage().find_fuel(acme.id, day).await.unwrap()
}

#[tokio::test]
async fn requests_beyond_a_seconds_are_told_to_come_back() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.serve(&acme, "hello", HELLO).await;
    app.endpoint(&acme, "GET", "/closed", "hello", AuthMode::Jwt).await;
    let globex = app.tenant("globex").await;
    app.serve(&globex, "hello", HELLO).await;
    let token = app.token(&acme).await;
    let call = async || Answer::of(app.request(Method::GET, "/acme/closed").bearer_auth(&token)).await;
    app.see_changes().await;
    assert_eq!(call().await.status, 200);
    let operator = grant(&app, &json!({"requests_per_second": 1})).await;

    // Strangers use nothing up: after any number of them the second's one request is there.
    for _ in 0..20 {
        assert_eq!(app.get("/acme/closed").await.status, 401);
    }
    let (began, mut n_admitted, mut n_refused) = (Instant::now(), 0, 0);
    while n_refused < 3 {
        let answer = call().await;
        if answer.status == 200 {
            n_admitted += 1;
        } else {
            assert_eq!(used_up(&answer), ("requests_per_second".to_owned(), 1));
            n_refused += 1;
        }
    }
    assert!((1..=1 + began.elapsed().as_secs() + 1).contains(&n_admitted), "{n_admitted} in {:?}", began.elapsed());
    assert_eq!(app.get("/globex/hello").await.status, 200, "it is nobody else's quota");
    let used = usage(&app, |total| total["refused"] == n_refused).await;
    assert_eq!(used["total"]["requests"], n_admitted + 1, "{used}");

    // A second that has none; and as many as before.
    grant(&app, &json!({"requests_per_second": 0})).await;
    assert_eq!(used_up(&call().await).0, "requests_per_second");
    grant(&app, &json!({})).await;
    for _ in 0..3 {
        assert_eq!(call().await.status, 200);
    }
    let shown = operator.get("/tenants/acme/quotas").await.expect("200");
    assert_eq!(shown["quotas"], json!({}));
}

#[tokio::test]
async fn a_partner_that_is_over_its_own_limit_uses_nothing_of_the_tenants_up() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.try_publish(&acme, "hello", HELLO).await.unwrap();
    app.endpoint(&acme, "GET", "/partners", "hello", AuthMode::Key).await;
    let operator = grant(&app, &json!({"requests_per_second": 2})).await;
    let key = async |rate_limit: Value| {
        let terms = json!({"row_filters": null, "rate_limit": rate_limit});
        let made = operator.post("/tenants/acme/consumer-keys", &terms).await.expect("201");
        made["key"].as_str().unwrap().to_owned()
    };
    let (loud, other) = (key(json!({"requests": 1, "seconds": 86_400})).await, key(Value::Null).await);
    let call = |key: &str| Answer::of(app.request(Method::GET, "/acme/partners").header("x-api-key", key));
    assert_eq!(call(&loud).await.status, 200);
    for answer in futures::future::join_all((0..30).map(|_| call(&loud))).await {
        assert_eq!(answer.problem(), (429, "rate_limited".to_owned()));
    }
    let document = |key: &str| Answer::of(app.request(Method::GET, "/acme/openapi.json").header("x-api-key", key));
    assert_eq!(document(&loud).await.problem(), (429, "rate_limited".to_owned()));
    assert_eq!(document(&other).await.status, 200);
    assert_eq!(call(&other).await.status, 200);
}

#[tokio::test]
async fn what_the_host_shows_of_a_tenant_is_counted_and_uses_nothing_up() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.try_publish(&acme, "hello", HELLO).await.unwrap();
    app.endpoint(&acme, "GET", "/closed", "hello", AuthMode::Jwt).await;
    let token = app.token(&acme).await;
    let document = || Answer::of(app.request(Method::GET, "/acme/openapi.json").bearer_auth(&token));
    let keys = || app.get("/acme/.well-known/jwks.json");
    let (document_bytes, key_bytes) = (document().await.body.len(), keys().await.body.len());
    let used = usage(&app, |total| total["requests"] == 2).await;
    assert_eq!(used["total"]["answer_bytes"], document_bytes + key_bytes, "{used}");
    grant(&app, &json!({"requests_per_second": 1})).await;
    let strangers = futures::future::join_all((0..30).map(|_| keys())).await;
    assert!(strangers.iter().all(|answer| answer.status == 200));
    assert_eq!(document().await.status, 200);
    let call = || Answer::of(app.request(Method::GET, "/acme/closed").bearer_auth(&token));
    assert_eq!(call().await.status, 200, "the second's request is still there for who calls");
    let used = usage(&app, |total| total["requests"] == 2 + 30 + 2).await;
    assert_eq!(used["total"]["refused"], 0, "{used}");
}

#[tokio::test]
async fn fewer_handlers_run_at_once_than_the_host_allows() {
    let app = TestApp::with(|config| config.queue_wait = Duration::from_millis(300)).await;
    let acme = app.acme().await;
    let wait = "import time\ndef handler(request):\n    if pq.get_state() is None: pq.set_state('runs')\n    while pq.get_state() == 'runs': time.sleep(0.02)\n    return 'done'";
    app.serve(&acme, "wait", wait).await;
    let operator = grant(&app, &json!({"concurrency": 1})).await;
    let state = "/tenants/acme/scripts/wait/state";
    let (first, ()) = tokio::join!(app.get("/acme/wait"), async {
        while operator.get(state).await.expect("200")["value"] != "runs" {}
        let second = app.get("/acme/wait").await;
        assert_eq!(second.problem(), (429, "tenant_concurrency".to_owned()));
        assert_eq!(second.json()["detail"], "the tenant already runs 1 handlers at once");
        operator.put(state, &json!("go on")).await.expect("204");
    });
    assert_eq!((first.status, first.body.as_str()), (200, "done"));
    let used = usage(&app, |total| total["requests"] == 1 && total["refused"] == 1).await;
    assert_eq!(used["total"]["failed"], 0, "{used}");

    grant(&app, &json!({"concurrency": 0})).await;
    assert_eq!(app.get("/acme/wait").await.problem().1, "tenant_concurrency");
    grant(&app, &json!({"concurrency": u32::MAX})).await;
    assert_eq!(app.get("/acme/wait").await.status, 200);
    app.assert_rewound();
}

#[tokio::test]
async fn a_day_has_its_fuel() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.serve(&acme, "hello", HELLO).await;
    let counter = app.changes_seen().await;
    app.until("/acme/hello", |answer| answer.status == 200).await;
    let writing = async { while fuel_used(&app, &acme).await == 0 {} };
    tokio::time::timeout(HANG_GUARD, writing).await.expect("usage is written soon");
    assert_eq!(app.changes_seen().await, counter, "usage makes no host read anything anew");

    // Used up is used up: what was used before the quota counts.
    grant(&app, &json!({"fuel_per_day": 1})).await;
    let before = Day::seconds_left(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs());
    let (quota, retry_after) = used_up(&app.get("/acme/hello").await);
    let until_midnight = Day::seconds_left(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs());
    assert_eq!(quota, "fuel_per_day");
    let is_midnight_over = before < until_midnight;
    assert!((until_midnight..=before).contains(&retry_after) || is_midnight_over, "{retry_after} {before}");
    let used = usage(&app, |total| total["refused"] == 1).await;
    assert_eq!(used["total"]["requests"], 1, "{used}");
    let logged = app.last_invocation(&acme, 0).await.record;
    assert_eq!(used["total"]["fuel"], logged.fuel);

    // The next handler that ends is counted at once, not when it is written.
    let left = logged.fuel + 1;
    grant(&app, &json!({"fuel_per_day": left})).await;
    assert_eq!(app.get("/acme/hello").await.status, 200);
    assert_eq!(used_up(&app.get("/acme/hello").await).0, "fuel_per_day");
    usage(&app, |total| total["requests"] == 2 && total["refused"] == 2).await;
    let entries = app.last_invocation(&acme, 1).await;
    let all = app.workspace.db.invocations().list(acme.id, None, 10).await.unwrap();
    assert_eq!((all.len(), all[1].seq), (2, entries.seq), "what did not run is not in the log");
    for all in [json!({"fuel_per_day": u64::MAX}), json!({"fuel_per_day": null})] {
        grant(&app, &all).await;
        assert_eq!(app.get("/acme/hello").await.status, 200, "{all}");
    }
    grant(&app, &json!({"fuel_per_day": 0})).await;
    assert_eq!(used_up(&app.get("/acme/hello").await).0, "fuel_per_day");
}

#[tokio::test]
async fn hosts_that_share_a_database_share_a_days_fuel() {
    let Some(schema) = Schema::new().await else { return };
    let one = TestApp::on(&schema.database()).await;
    let key = one.workspace.data.vault_key();
    let join = |config: &mut pqhost::config::Config| {
        std::fs::copy(&key, config.data.vault_key()).unwrap();
        config.data = config.data.clone().with_server(Some(schema.database()));
    };
    let other = TestApp::with(join).await;
    let acme = one.acme().await;
    one.serve(&acme, "hello", HELLO).await;
    grant(&one, &json!({"fuel_per_day": u64::MAX})).await;
    // Both know their routes, and that nothing is used but this.
    one.until("/acme/hello", |answer| answer.status == 200).await;
    other.until("/acme/hello", |answer| answer.status == 200).await;
    usage(&one, |total| total["requests"] == 2).await;
    let each = fuel_used(&one, &acme).await / 2;
    grant(&one, &json!({"fuel_per_day": each * 5})).await;
    one.until("/acme/hello", |answer| answer.status == 200).await; // 3
    other.until("/acme/hello", |answer| answer.status == 200).await; // 4
    let written = async |n: u64| usage(&one, |total| total["requests"].as_u64() >= Some(n)).await;
    let n_requests = written(4).await["total"]["requests"].as_u64().unwrap();

    // One host alone uses up what is left. The other learns it with what it writes itself, or when it reads its routes: at most one
    // batch of its requests goes beyond.
    let mut n_more = 0;
    while one.get("/acme/hello").await.status == 200 {
        n_more += 1;
        assert!(n_more <= 3, "the fuel of {n_requests} requests and {n_more} is not used up");
    }
    written(n_requests + n_more).await;
    let beyond = other.get("/acme/hello").await;
    if beyond.status == 200 {
        written(n_requests + n_more + 1).await;
    } else {
        assert_eq!(used_up(&beyond).0, "fuel_per_day");
    }
    other.until("/acme/hello", |answer| answer.status == 429).await;
    let total = written(n_requests + n_more).await["total"].clone();
    assert!(total["requests"].as_u64().unwrap() <= n_requests + n_more + 2, "{total}");
    drop((one, other));
    schema.drop().await;
}

#[tokio::test]
async fn no_more_scripts_than_granted_whoever_is_first() {
    on_each(async |app: TestApp| {
        let acme = app.acme().await;
        app.try_publish(&acme, "first", HELLO).await.unwrap();
        let operator = grant(&app, &json!({"scripts": 2})).await;
        let create = async |name: &str| operator.post("/tenants/acme/scripts", &json!({"name": name})).await.summary();
        let mut summaries =
            [create("a"), create("b"), create("c")].into_iter().collect::<futures::stream::FuturesUnordered<_>>();
        let mut seen = Vec::new();
        while let Some(summary) = futures::StreamExt::next(&mut summaries).await {
            seen.push(summary);
        }
        seen.sort();
        assert_eq!(seen, ["201", "409 quota_exceeded", "409 quota_exceeded"]);
        let reply = operator.post("/tenants/acme/scripts", &json!({"name": "d"})).await;
        assert_eq!(reply.body["detail"], "the tenant's quota `scripts` of 2 is used up: an operator may grant more");

        // Publishing creates scripts too; those that are there can go on.
        let error = app.try_publish(&acme, "d", HELLO).await.unwrap_err().to_string();
        assert!(error.contains("`scripts` of 2"), "{error}");
        app.try_publish(&acme, "first", HELLO).await.unwrap();
        let shown = operator.get("/tenants/acme/quotas").await.expect("200");
        assert_eq!((&shown["used"]["scripts"], &shown["quotas"]), (&json!(2), &json!({"scripts": 2})));
        app.tenant("globex").await;
        operator.post("/tenants/globex/scripts", &json!({"name": "d"})).await.expect("201");
        let actions = operator.get("/tenants/acme/audit").await.expect("200");
        let noted = actions["items"].as_array().unwrap().iter().find(|entry| entry["action"] == "set_quotas").unwrap();
        assert_eq!(noted["target"], r#"{"scripts":2}"#);
    })
    .await;
}

#[tokio::test]
async fn what_is_kept_has_an_end() {
    on_each(kept_has_an_end).await;
}

async fn kept_has_an_end(app: TestApp) {
    let acme = app.acme().await;
    let source = format!("{HELLO}\n# {}", "x".repeat(10_000));
    app.try_publish(&acme, "s", &source).await.unwrap();
    let operator = Api::operator(&app).await;
    let kept = async || operator.get("/tenants/acme/quotas").await.expect("200")["used"]["storage"].clone();
    assert_eq!(
        kept().await,
        json!({"source": source.len(), "state": 0, "recordings": 0, "sqlite": 0, "total": source.len()})
    );
    app.accounts(&acme).await;
    let set_state = "/tenants/acme/scripts/s/state";
    operator.put(set_state, &json!("é")).await.expect("204");
    let stored = kept().await;
    assert_eq!(stored["state"], 4, "bytes, not characters: {stored}");
    assert!(stored["sqlite"].as_u64() >= Some(4096), "{stored}");

    let limit = stored["total"].as_u64().unwrap() + 1000;
    grant(&app, &json!({"storage_bytes": limit})).await;
    let draft = |text: &str| json!({"files": [{"name": "handler.py", "text": text}]});
    let path = "/tenants/acme/scripts/s/draft";
    operator.put(path, &draft(&source)).await.expect("409 quota_exceeded");
    let reply = operator.post("/tenants/acme/scripts/s/versions", &draft(&source)).await;
    let expected = format!("the tenant's quota `storage_bytes` of {limit} is used up: an operator may grant more");
    assert_eq!(reply.expect("409 quota_exceeded")["detail"], expected);
    operator.put(path, &draft(HELLO)).await.expect("200");
    operator.put(set_state, &json!("x".repeat(2000))).await.expect("409 quota_exceeded");
    operator.post("/tenants/acme/scripts", &json!({"name": "t"})).await.expect("201");

    // What scripts keep.
    let writes = "
from peliqan.exceptions import PeliqanClientException
def told(f):
    try: return f()
    except PeliqanClientException as e: return [e.code, e.message]
def handler(request):
    db = pq.dbconnect('dw_2')
    return [told(lambda: pq.set_state('more')), told(lambda: db.insert('dw_2', 'salesforce', 'accounts', id=9, name='x')['status']),
            told(lambda: len(db.fetch('dw_2', 'salesforce', 'accounts'))), told(lambda: pq.set_state(None))]";
    app.serve(&acme, "w", writes).await;
    grant(&app, &json!({"storage_bytes": 1})).await;
    let answer = app.get("/acme/w").await.json();
    let told = "the tenant's quota `storage_bytes` of 1 is used up";
    assert!(answer[0][1].as_str().unwrap().starts_with(told), "{answer}");
    assert!(answer[1][1].as_str().unwrap().contains(told), "{answer}");
    assert_eq!((&answer[2], &answer[3]), (&json!(3), &Value::Null), "reading and clearing go on");
    let endpoint = json!({"methods": "GET", "route": "/recorded", "script": "s", "auth": "public", "record": true});
    operator.post("/tenants/acme/endpoints", &endpoint).await.expect("201");
    let recorded = async || {
        let answer = app.until("/acme/recorded", |answer| answer.status == 200).await;
        let id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
        app.invocation(&acme, &id).await;
        operator.get(&format!("/tenants/acme/invocations/{id}")).await.expect("200")["is_recorded"].clone()
    };
    assert_eq!(recorded().await, false);

    // A grant is known at once; what was found before, for two seconds.
    grant(&app, &json!({"storage_bytes": u64::MAX})).await;
    let answer = app.get("/acme/w").await.json();
    assert_eq!(answer, json!([null, "success", 4, null]));
    assert_eq!(recorded().await, true);
    assert!(kept().await["recordings"].as_u64() > Some(0));
    app.assert_rewound();
}

#[tokio::test]
async fn a_month_is_the_sum_of_its_days_as_json_and_as_csv() {
    on_each(month_is_the_sum_of_its_days).await;
}

async fn month_is_the_sum_of_its_days(app: TestApp) {
    let acme = app.acme().await;
    app.serve(
        &acme,
        "s",
        "def handler(request):\n    if request['query'].get('fail'): raise ValueError\n    return 'hello'",
    )
    .await;
    for path in ["/acme/s", "/acme/s?fail=1", "/acme/s"] {
        app.get(path).await;
    }
    let shown = usage(&app, |total| total["requests"] == 3 && total["answer_bytes"] == 10).await;
    let day = &shown["days"][0];
    assert_eq!((&day["failed"], &day["refused"], &day["rows"]), (&json!(1), &json!(0), &json!(0)));
    let logged = app.workspace.db.invocations().list(acme.id, None, 10).await.unwrap();
    assert_eq!(day["fuel"], logged.iter().map(|entry| entry.record.fuel).sum::<u64>());
    assert_eq!(day["duration_us"], logged.iter().map(|entry| entry.record.duration_us).sum::<u64>());

    // Another day, with all that a column can hold, and a day of another month.
    let today = Day::of(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs());
    let month = Month::of(today).unwrap();
    let (first, end) = month.days();
    let other_day = if first == today { Day(today.0 + 1) } else { first };
    let all = pqhost::domain::quota::Usage { requests: 1, fuel: i64::MAX as u64 / 2, rows: 7, ..Default::default() };
    let record = |day| pqhost::db::usage::UsageRecord { tenant: acme.id, day, usage: all };
    let records = [record(other_day), record(end), record(Day(first.0 - 1))];
    app.workspace.db.invocations().insert_batch(&[], &records).await.unwrap();
    let operator = Api::operator(&app).await;
    let shown = operator.get(&format!("/tenants/acme/usage?month={month}")).await.expect("200");
    let days = shown["days"].as_array().unwrap();
    assert_eq!((days.len(), &shown["month"]), (2, &json!(month.to_string())));
    assert_eq!((&shown["total"]["requests"], &shown["total"]["rows"]), (&json!(4), &json!(7)));
    let fuel = day["fuel"].as_u64().unwrap() + i64::MAX as u64 / 2;
    assert_eq!(shown["total"]["fuel"], fuel);

    let reply = operator.get(&format!("/tenants/acme/usage?month={month}&format=csv")).await;
    assert_eq!(reply.headers["content-type"], "text/csv; charset=utf-8");
    let text = reply.expect("200").as_str().unwrap().to_owned();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let headings = reader.headers().unwrap().clone();
    let parsed: Vec<Value> = reader
        .records()
        .map(|record| {
            let record = record.unwrap();
            let field = |(name, text): (&str, &str)| {
                let value = text.parse::<u64>().map_or_else(|_| json!(text), |number| json!(number));
                (name.to_owned(), value)
            };
            Value::Object(headings.iter().zip(record.iter()).map(field).collect())
        })
        .collect();
    assert_eq!(&parsed, days);
    let empty = operator.get("/tenants/acme/usage?month=1999-12&format=csv").await.expect("200");
    assert_eq!(empty.as_str().unwrap().lines().count(), 1);

    for garbage in [
        "month=2026",
        "month=2026-13",
        "month=-001-01",
        "month=",
        "month=2026-11-01",
        "month=%00",
        "format=xml",
        "day=1",
    ] {
        for path in ["/tenants/acme/usage", "/usage"] {
            operator.get(&format!("{path}?{garbage}")).await.expect("400 invalid_parameter");
        }
    }

    // All tenants, one after the other, those that are gone too.
    let globex = app.tenant("globex").await;
    let record = pqhost::db::usage::UsageRecord { tenant: globex.id, day: today, usage: all };
    app.workspace.db.invocations().insert_batch(&[], &[record]).await.unwrap();
    operator.delete("/tenants/globex").await.expect("204");
    let page = operator.get(&format!("/usage?month={month}&limit=1")).await.expect("200");
    assert_eq!((&page["items"][0]["tenant"], &page["items"][0]["fuel"]), (&json!("acme"), &json!(fuel)));
    let cursor = page["next_cursor"].as_str().unwrap();
    let page = operator.get(&format!("/usage?month={month}&limit=1&cursor={cursor}")).await.expect("200");
    assert_eq!((&page["items"][0]["tenant"], &page["items"][0]["tenant_id"]), (&Value::Null, &json!(globex.id.0)));
    assert!(page.get("next_cursor").is_none(), "{page}");
}

#[tokio::test]
async fn quotas_that_cannot_be_are_refused_and_named() {
    let app = TestApp::new().await;
    let operator = Api::operator(&app).await;
    for (quotas, summary) in [
        (json!({"requests_per_second": 1_000_001}), "422 invalid"),
        (json!({"requests_per_second": u64::MAX}), "400 invalid_body"),
        (json!({"scripts": -1}), "400 invalid_body"),
        (json!({"scripts": 1.5}), "400 invalid_body"),
        (json!({"concurrency": "4"}), "400 invalid_body"),
        (json!({"fuel_per_day": 1e30}), "400 invalid_body"),
        (json!({"colour": 1}), "400 invalid_body"),
        (json!([]), "400 invalid_body"),
    ] {
        operator.put("/tenants/acme/quotas", &quotas).await.expect(summary);
    }
    let all = json!({"requests_per_second": 1_000_000, "concurrency": u32::MAX, "fuel_per_day": u64::MAX,
                     "storage_bytes": u64::MAX, "scripts": u32::MAX});
    operator.put("/tenants/acme/quotas", &all).await.expect("204");
    assert_eq!(operator.get("/tenants/acme/quotas").await.expect("200")["quotas"], all);
    app.serve(&app.acme().await, "hello", HELLO).await;
    assert_eq!(app.get("/acme/hello").await.status, 200);
    operator.put("/tenants/nobody/quotas", &json!({})).await.expect("404 not_found");
}

#[test]
fn commands_grant_and_tell() {
    let place = Installation::new();
    place.run(&["quota", "set", "acme", "--scripts", "5", "--fuel-per-day", "18446744073709551615"]);
    let set = place.run(&["quota", "set", "acme", "--scripts", "none", "--concurrency", "0"]);
    assert_eq!(set, json!({"fuel_per_day": u64::MAX, "concurrency": 0, "scripts": null}));
    let shown = place.run(&["quota", "show", "acme"]);
    assert_eq!(shown["quotas"], json!({"fuel_per_day": u64::MAX, "concurrency": 0}));
    for bad in [
        &["quota", "set", "acme"][..],
        &["quota", "set", "acme", "--scripts", "few"],
        &["usage", "show", "acme", "--month", "13"],
    ] {
        assert!(!place.command(bad).output().unwrap().status.success(), "{bad:?}");
    }
    let used = place.run(&["usage", "show", "acme", "--month", "2026-11"]);
    assert_eq!((&used["month"], &used["days"]), (&json!("2026-11"), &json!([])));
    let text = place.run(&["usage", "show", "acme", "--csv"]);
    assert_eq!(text, "day,requests,failed,refused,fuel,duration_us,rows,answer_bytes\n");
    assert_eq!(place.run(&["usage", "list", "--month", "2026-11"]), json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_that_was_written_survives_kill_9() {
    on_each_installation(survives_kill_9).await;
}

async fn survives_kill_9(place: &Installation) {
    place.publish("hello", HELLO);
    let host = place.serve_at("127.0.0.1:0", &[]);
    let client = client();
    let call = async || Answer::of(client.get(format!("{}/acme/hello", host.ingress))).await.status;
    let requests = || place.run(&["usage", "show", "acme"])["total"]["requests"].as_u64().unwrap();
    for _ in 0..20 {
        assert_eq!(call().await, 200);
    }
    let began = Instant::now();
    while requests() < 20 {
        assert!(began.elapsed() < HANG_GUARD, "usage is written soon");
    }
    for _ in 0..5 {
        assert_eq!(call().await, 200);
    }
    drop(host); // is killed
    let left = requests();
    assert!((20..=25).contains(&left), "{left}");
    let logged = place.command(&["logs", "acme"]).output().unwrap().stdout;
    let logged = logged.iter().filter(|byte| **byte == b'\n').count() as u64;
    assert!((20..=left).contains(&logged), "no handler is in the log that is not counted: {logged} {left}");
}
