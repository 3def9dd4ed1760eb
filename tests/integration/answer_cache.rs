//! Answers that endpoints keep and give again.

use futures::{StreamExt as _, stream::FuturesUnordered};
use pqhost::domain::{exchange::AuthMode, names::EndpointId};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    control::Api,
    support::{Answer, HANG_GUARD, Tenant, TestApp},
};

/// Says who called and how, and something that no other run says.
const ECHO: &str = "
import uuid
def handler(request):
    return [request['auth'], request['query'], request['headers'].get('X-A'), request['path'], str(uuid.uuid4())]
";

async fn app(source: &str, auth: AuthMode, cache: Value) -> (TestApp, Tenant, EndpointId) {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.try_publish(&acme, "s", source).await.unwrap();
    let endpoint = app.endpoint_with(&acme, ("GET", "/c/**"), "s", auth, json!({ "cache": cache })).await;
    (app, acme, endpoint.id)
}

fn from(answer: &Answer) -> &str {
    answer.headers.get("x-cache").map_or("", |value| value.to_str().unwrap())
}

/// Asks twice and says where both answers came from; they are the same if the second is a hit.
async fn twice(app: &TestApp, tenant: &Tenant, request: impl Fn() -> RequestBuilder + Send + Sync) -> String {
    let ask = async || (Answer::of(request()).await, Answer::of(request()).await);
    let (first, second) = app.undisturbed(tenant, ask).await;
    assert_eq!(from(&second) == "hit", first.body == second.body, "{first:?} {second:?}");
    assert_ne!(first.headers["x-request-id"], second.headers["x-request-id"]);
    format!("{} {}", from(&first), from(&second))
}

#[tokio::test]
async fn no_caller_gets_anothers_answer_unless_the_endpoint_says_so() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.try_publish(&acme, "s", ECHO).await.unwrap();
    let tokens = [app.token(&acme).await, app.token(&acme).await];
    let (operator, mut keys) = (Api::operator(&app).await, Vec::new());
    // Two who reach all rows, and two who reach none.
    for row_filters in [Value::Null, Value::Null, json!([]), json!([])] {
        let terms = json!({"name": "walk", "row_filters": row_filters});
        let made = operator.post("/tenants/acme/consumer-keys", &terms).await.expect("201");
        keys.push(made["key"].as_str().unwrap().to_owned());
    }
    let mut n = 0;
    // Strangers, and two who show a script what it may know them by.
    let [of_public, of_jwt, of_key]: [Vec<Option<&String>>; 3] = [
        [None, None].into_iter().chain(tokens.iter().map(Some)).collect(),
        tokens.iter().map(Some).collect(),
        keys.iter().map(Some).collect(),
    ];
    for (auth, credentials) in [(AuthMode::Public, of_public), (AuthMode::Jwt, of_jwt), (AuthMode::Key, of_key)] {
        for shared in [false, true] {
            for headers in [&[][..], &["X-A"]] {
                for query in [None, Some(vec![]), Some(vec!["q"])] {
                    n += 1;
                    let case = format!("{auth} shared={shared} {headers:?} {query:?}");
                    let cache = json!({"ttl": 600, "shared": shared, "headers": headers, "query": query});
                    let route = format!("/r{n}");
                    app.endpoint_with(&acme, ("GET", &route), "s", auth, json!({ "cache": cache })).await;
                    let ask = async || {
                        let mut answers = Vec::new();
                        for (who, header, field) in requests(credentials.len()).chain(requests(credentials.len())) {
                            let request = app.request(Method::GET, &format!("/acme{route}{field}"));
                            let request = request.header("x-a", header);
                            let request = credentials[who].into_iter().fold(request, RequestBuilder::bearer_auth);
                            answers.push(((who, header, field), Answer::of(request).await));
                        }
                        answers
                    };
                    type Asker<'a> = (Option<usize>, &'a str, &'a str);
                    let mut seen: Vec<(Asker<'_>, Value)> = Vec::new();
                    for ((who, header, field), answer) in app.undisturbed(&acme, ask).await {
                        assert_eq!(answer.status, 200, "{case}");
                        // Caches between host and caller are told that it is one caller's, and by which fields callers differ.
                        let told = |name: &str, word: &str| {
                            let values = answer.headers.get_all(name).iter();
                            values.flat_map(|value| value.to_str().unwrap().split(", ")).any(|known| known == word)
                        };
                        assert_eq!(told("vary", "authorization"), auth != AuthMode::Public, "{case}");
                        assert_eq!(told("vary", "x-api-key"), auth == AuthMode::Key, "{case}");
                        assert_eq!(told("cache-control", "private"), auth != AuthMode::Public, "{case}");
                        // Of whom the host does not know who they are it keeps nothing.
                        if auth == AuthMode::Public && credentials[who].is_some() {
                            let body = answer.json();
                            assert!(
                                from(&answer).is_empty() && !answer.headers.contains_key("cache-control"),
                                "{case}"
                            );
                            assert!(seen.iter().all(|(_, known)| known[4] != body[4]), "{case}");
                            seen.push(((Some(who), "", ""), body));
                            continue;
                        }
                        // What may tell this answer from others, in this case.
                        let shares = auth == AuthMode::Public || (shared && who < 2);
                        let who = (!shares).then_some(who);
                        let header = if headers.is_empty() { "" } else { header };
                        let field = match &query {
                            None => field,
                            Some(names) if names.is_empty() => "",
                            Some(_) => field.split('&').next().unwrap(),
                        };
                        let (kind, body) = ((who, header, field), answer.json());
                        match seen.iter().find(|(known, _)| *known == kind) {
                            Some((_, known)) => assert_eq!((from(&answer), known), ("hit", &body), "{case} {kind:?}"),
                            None => {
                                assert_eq!(from(&answer), "miss", "{case} {kind:?}");
                                assert!(seen.iter().all(|(_, known)| known[4] != body[4]), "{case} {kind:?}");
                                seen.push((kind, body));
                            }
                        }
                    }
                }
            }
        }
    }
    assert_eq!(n, 36);
}

/// Every combination of so many callers, a header field, and a query.
fn requests(callers: usize) -> impl Iterator<Item = (usize, &'static str, &'static str)> {
    let fields = ["?q=1", "?q=1&r=2", "?q=2"];
    let sent = ["x", "y"].into_iter().flat_map(move |header| fields.map(|field| (header, field)));
    (0..callers).flat_map(move |who| sent.clone().map(move |(header, field)| (who, header, field)))
}

#[tokio::test]
async fn what_a_caller_may_see_is_looked_at_in_every_request() {
    let (app, acme, endpoint) = app(ECHO, AuthMode::Jwt, json!({"ttl": 600, "shared": true})).await;
    let token = app.token(&acme).await;
    let call = || app.request(Method::GET, "/acme/c/x").bearer_auth(&token);
    assert_eq!(twice(&app, &acme, call).await, "miss hit");
    for authorization in ["", "Bearer x", "Bearer x.y.z"] {
        let request = app.request(Method::GET, "/acme/c/x").header("authorization", authorization);
        assert_eq!(Answer::of(request).await.problem(), (401, "unauthorized".to_owned()));
    }
    // A new version answers at once, and a switched-off endpoint not at all.
    let published = app.try_publish(&acme, "s", ECHO.replace("[request['auth'],", "['new',")).await.unwrap();
    let after = Answer::of(call()).await;
    assert_eq!((from(&after), after.json()[0].as_str()), ("miss", Some("new")));
    assert_eq!(after.headers["x-script-version"], published.version.number.to_string().as_str());
    let id = app.workspace.db.tokens().list_tokens_after(acme.id, None, 10).await.unwrap().remove(0).id;
    app.workspace.db.tokens().revoke_token(acme.id, &id).await.unwrap();
    app.until_with(&|app: &TestApp| app.request(Method::GET, "/acme/c/x").bearer_auth(&token), |a| a.status == 401)
        .await;

    let token = app.token(&acme).await;
    let call = |app: &TestApp| app.request(Method::GET, "/acme/c/x").bearer_auth(&token);
    app.until_with(&call, |answer| from(answer) == "hit").await;
    switch_off(&app, &acme, endpoint).await;
    let refused = app.until_with(&call, |answer| answer.status == 404).await;
    assert_eq!(refused.problem(), (404, "endpoint_disabled".to_owned()));
}

#[tokio::test]
async fn an_answer_outlives_changes_of_other_tenants_and_none_of_its_own() {
    let (app, acme, _) = app(ECHO, AuthMode::Jwt, json!({"ttl": 600})).await;
    let globex = app.tenant("globex").await;
    let token = app.token(&acme).await;
    let call = || app.request(Method::GET, "/acme/c/x").bearer_auth(&token);
    assert_eq!(twice(&app, &acme, call).await, "miss hit");
    // Whatever the other one does, and the host sees at once.
    app.serve(&globex, "theirs", "def handler(request): return '1'").await;
    let token_of_globex = app.token(&globex).await;
    app.see_changes().await;
    let operator = Api::operator(&app).await;
    operator.post("/tenants/globex/signing-keys", &json!({"algorithm": "ES256"})).await.expect("201");
    assert_eq!(app.get("/globex/theirs").await.body, "1");
    assert_eq!(from(&Answer::of(call()).await), "hit");
    let theirs = app.request(Method::GET, "/acme/c/x").bearer_auth(token_of_globex);
    assert_eq!(Answer::of(theirs).await.problem(), (401, "unauthorized".to_owned()));
    app.accounts(&acme).await;
    assert_eq!(from(&Answer::of(call()).await), "miss");
}

async fn switch_off(app: &TestApp, tenant: &Tenant, endpoint: EndpointId) {
    let operator = Api::operator(app).await;
    let path = format!("/tenants/{}/endpoints/{endpoint}", tenant.name);
    let mut wanted = operator.get(&path).await.expect("200");
    wanted["enabled"] = json!(false);
    let fields = ["methods", "route", "script", "auth", "enabled", "settings"];
    let wanted: serde_json::Map<_, _> =
        fields.map(|field| (field.to_owned(), wanted[field].clone())).into_iter().collect();
    operator.put(&path, &json!(wanted)).await.expect("200");
}

#[tokio::test]
async fn a_credential_that_only_the_script_knows_is_kept_apart_where_the_endpoint_names_it() {
    let fields = ["authorization", "x-api-key", "cookie"];
    for (n, named) in fields.iter().enumerate() {
        let (app, acme, _) = app(ECHO, AuthMode::Public, json!({"ttl": 600, "headers": [named.to_uppercase()]})).await;
        let ask = |field: &str, value: &str| app.request(Method::GET, "/acme/c/x").header(field, value);
        let (other, third) = (fields[(n + 1) % 3], fields[(n + 2) % 3]);
        assert_eq!(twice(&app, &acme, || ask(named, "a=ann")).await, "miss hit", "{named}");
        for unnamed in [other, third] {
            assert_eq!(twice(&app, &acme, || ask(unnamed, "a=ann")).await, " ", "{unnamed}");
            assert_eq!(twice(&app, &acme, || ask(unnamed, "a=ann").header(*named, "a=ann")).await, " ", "{unnamed}");
        }
        let ask_all = async || {
            let [anns, bobs] = ["a=ann", "a=bob"].map(|who| Answer::of(ask(named, who)));
            [anns.await, bobs.await, app.get("/acme/c/x").await]
        };
        let [anns, bobs, strangers] = app.undisturbed(&acme, ask_all).await;
        assert!(anns.body != bobs.body && bobs.body != strangers.body && strangers.body != anns.body, "{named}");
        assert_eq!(anns.headers["vary"], named.to_uppercase().as_str());
    }
}

#[tokio::test]
async fn only_whole_answers_to_plain_gets_are_kept() {
    let source = "
import uuid
def handler(request):
    kind = request['path'].split('/')[2]
    body = kind + str(uuid.uuid4())
    return {
        'cookie': (body, 200, {'Set-Cookie': 'a=b'}),
        'no-store': (body, 200, {'Cache-Control': 'no-store'}),
        'private': (body, 200, {'Cache-Control': 'max-age=5, private'}),
        'vary': (body, 200, {'Vary': 'Cookie'}),
        'claims': (body, 200, {'X-Cache': 'hit', 'Cache-Control': 'no-store'}),
        'missing': (body, 404),
        'made': (body, 201),
        'moved': (body, 301, {'Location': '/'}),
        'long': body + 'x' * 1_100_000,
        'fits': body + 'x' * 900_000,
    }.get(kind, body)
";
    let (app, acme, _) = app(source, AuthMode::Public, json!({"ttl": 600})).await;
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    for kind in ["cookie", "no-store", "private", "vary", "claims", "missing", "made", "moved", "long"] {
        let url = format!("{}/acme/c/{kind}", app.url);
        assert_eq!(twice(&app, &acme, || client.get(&url)).await, " ", "{kind}");
    }
    let get = |path: &str| app.request(Method::GET, &format!("/acme/c/{path}"));
    for kind in ["fits", "plain", "a%2Fb", "a/b", "%c3%a9"] {
        assert_eq!(twice(&app, &acme, || get(kind)).await, "miss hit", "{kind}");
    }
    // A body is in no key, so no GET with one is asked.
    assert_eq!(twice(&app, &acme, || get("plain").body("fat")).await, " ");
    // What is sent in another way is another question; nobody chooses the host that others are told.
    let ask = async || {
        let mut answers = Vec::new();
        for path in ["a%2Fb", "a/b", "a/b/", "A/b", "a/b?x=1&y=2", "a/b?y=2&x=1", "plain"] {
            answers.push(Answer::of(get(path)).await);
        }
        answers.push(Answer::of(get("plain").header("host", "evil.example")).await);
        answers
    };
    let (first, second) = app.undisturbed(&acme, async || (ask().await, ask().await)).await;
    for (index, (first, second)) in first.iter().zip(&second).enumerate() {
        assert_eq!((from(first), from(second), &first.body), ("miss", "hit", &second.body), "{index}");
    }
    // HEAD is a GET's.
    let head = || Answer::of(app.request(Method::HEAD, "/acme/c/plain"));
    let asked = async || [head().await, Answer::of(get("plain")).await, head().await];
    let [first, whole, head] = app.undisturbed(&acme, asked).await;
    assert_eq!([&first, &whole, &head].map(from), ["miss", "hit", "hit"]);
    assert!(first.body.is_empty() && head.body.is_empty() && whole.body.starts_with("plain"));
    for name in ["content-length", "content-type", "etag"] {
        assert!([&first, &head].iter().all(|head| head.headers[name] == whole.headers[name]), "{name}");
    }
    assert_eq!(head.headers["content-length"], whole.body.len().to_string().as_str());

    // Other methods, and endpoints that do not keep answers, are as ever.
    app.endpoint_with(&acme, ("ANY", "/any"), "s", AuthMode::Public, json!({"cache": {"ttl": 600}})).await;
    let post = || app.request(Method::POST, "/acme/any");
    assert_eq!(twice(&app, &acme, post).await, " ");
    app.endpoint(&acme, "GET", "/plain", "s", AuthMode::Public).await;
    let answer = app.get("/acme/plain").await;
    assert!(!answer.headers.contains_key("etag") && !answer.headers.contains_key("cache-control"), "{answer:?}");
}

#[tokio::test]
async fn a_caller_who_has_the_answer_is_told_so() {
    let (app, acme, _) =
        app("def handler(request): return 'same'", AuthMode::Public, json!({"ttl": 600, "headers": ["x-a"]})).await;
    let miss = app.get("/acme/c/x").await; // the body is the same every time
    let etag = miss.headers["etag"].to_str().unwrap().to_owned();
    let says = |answer: &Answer, name: &str| answer.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(says(&miss, "cache-control").unwrap(), "public, max-age=600");
    assert_eq!((says(&miss, "vary").unwrap(), says(&miss, "age")), ("x-a".to_owned(), None));
    let ask = async |list: &str| Answer::of(app.request(Method::GET, "/acme/c/x").header("if-none-match", list)).await;
    let has = [etag.clone(), format!("W/{etag}"), format!("\"x\", W/\"y\" , {etag}"), "*".to_owned()];
    for list in &has {
        let answer = ask(list).await;
        assert_eq!((answer.status, answer.body.as_str()), (304, ""), "{list}");
        assert_eq!(answer.headers["etag"], etag.as_str());
        assert!(answer.headers.contains_key("x-cache") && answer.headers.contains_key("x-request-id"));
        assert!(!answer.headers.contains_key("content-type"), "{answer:?}");
    }
    let unquoted = etag.trim_matches('"').to_owned();
    for list in ["", ",", "\"", "\"x\"", &unquoted, &etag[1..], "\"x\" *", &"\"x\",".repeat(1000), "W/", "\u{e9}"] {
        let answer = ask(list).await;
        assert_eq!((answer.status, &answer.body), (200, &miss.body), "{list}");
    }
    let fields = (0..40)
        .fold(app.request(Method::GET, "/acme/c/x"), |request, n| request.header("if-none-match", format!("\"{n}\"")));
    assert_eq!(Answer::of(fields.header("if-none-match", &etag)).await.status, 304);

    // A script's own tag, and what it says about keeping, win.
    let source = "def handler(request): return 'x', 200, {'ETag': '\"own\"', 'Cache-Control': 'max-age=5'}";
    app.try_publish(&acme, "own", source).await.unwrap();
    app.endpoint_with(&acme, ("GET", "/own"), "own", AuthMode::Jwt, json!({"cache": {"ttl": 600}})).await;
    let token = app.token(&acme).await;
    let own = Answer::of(app.request(Method::GET, "/acme/own").bearer_auth(&token)).await;
    assert_eq!(
        (own.headers["etag"].as_bytes(), own.headers["cache-control"].as_bytes()),
        (&b"\"own\""[..], &b"private, max-age=5"[..])
    );
    let request = app.request(Method::GET, "/acme/own").bearer_auth(&token).header("if-none-match", "W/\"own\"");
    assert_eq!(Answer::of(request).await.status, 304);
    // Who needs a token gets nothing that a proxy would give to others.
    app.try_publish(&acme, "plain", "def handler(request): return 'x'").await.unwrap();
    let cache = json!({"cache": {"ttl": 5, "shared": true, "stale_while_revalidate": 7}});
    app.endpoint_with(&acme, ("GET", "/jwt"), "plain", AuthMode::Jwt, cache).await;
    let answer = Answer::of(app.request(Method::GET, "/acme/jwt").bearer_auth(&token)).await;
    assert_eq!(answer.headers["cache-control"], "private, max-age=5, stale-while-revalidate=7");
}

#[tokio::test]
async fn many_who_ask_at_once_run_the_handler_once() {
    let source = "
import time, uuid
def handler(request):
    while pq.get_state() != 'go on': time.sleep(0.02)
    if 'fail' in request['path']: raise ValueError(uuid.uuid4())
    return str(uuid.uuid4())
";
    let app = TestApp::with(|config| {
        config.trusted_proxies.networks = vec!["127.0.0.0/8".parse().unwrap()];
        config.limits.deadline = HANG_GUARD;
    })
    .await;
    let acme = app.acme().await;
    let script = app.try_publish(&acme, "s", source).await.unwrap().version.script;
    let settings = json!({"cache": {"ttl": 600}, "rate_limit": {"requests": 30, "seconds": 86_400}});
    app.endpoint_with(&acme, ("GET", "/c/**"), "s", AuthMode::Public, settings).await;
    let set_state = async |value| app.workspace.db.state().set_state(acme.id, script, value).await.unwrap();
    let networks = std::cell::Cell::new(0);
    // From a network that has not asked yet.
    let request = |path: &str| {
        let from = format!("192.0.2.{}", networks.get());
        app.request(Method::GET, path).header("x-forwarded-for", from)
    };
    // The handler goes on when all 30 have asked, which is so when the 31st is over the limit of its network.
    let ask = async |path: &str| {
        networks.update(|n| n + 1);
        set_state(None).await;
        let mut asking: FuturesUnordered<_> = (0..31).map(|_| Answer::of(request(path))).collect();
        let refused = timeout(HANG_GUARD, asking.next()).await.expect("all ask").unwrap();
        assert_eq!(refused.problem(), (429, "rate_limited".to_owned()));
        set_state(Some("\"go on\"")).await;
        asking.collect::<Vec<_>>().await
    };
    let answers = app.undisturbed(&acme, async || ask("/acme/c/x").await).await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == answers[0].body));
    let (ran, given): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| from(answer) == "miss");
    assert_eq!((ran.len(), given.len()), (1, 29));
    // What was answered from memory is in no log.
    let id = |answer: &Answer| answer.headers["x-request-id"].to_str().unwrap().to_owned();
    app.invocation(&acme, &id(ran[0])).await;
    for answer in given {
        let logged = app.workspace.db.invocations().find_invocation(acme.id, id(answer).parse().unwrap()).await;
        assert!(logged.unwrap().is_none());
    }

    let answers = app.undisturbed(&acme, async || ask("/acme/c/fail").await).await;
    assert!(answers.iter().all(|answer| answer.problem() == (500, "script_error".to_owned())));
    networks.update(|n| n + 1);
    let last = Answer::of(request("/acme/c/fail")).await;
    assert_eq!(last.status, 500, "a failure is not kept");
    app.invocation(&acme, &id(&last)).await;
    let mut logged = 0;
    for answer in &answers {
        let found = app.workspace.db.invocations().find_invocation(acme.id, id(answer).parse().unwrap()).await;
        logged += usize::from(found.unwrap().is_some());
    }
    assert_eq!(logged, 1, "all others waited for it");
}

#[tokio::test]
async fn a_stale_answer_is_given_while_a_fresh_one_is_fetched() {
    let cache = json!({"ttl": 1, "stale_while_revalidate": 600});
    let (app, acme, _) = app(ECHO, AuthMode::Public, cache).await;
    let ask = async || {
        let first = app.get("/acme/c/x").await;
        let stale = app.until("/acme/c/x", |answer| from(answer) != "hit").await;
        // Stale again already, where asking takes longer than it is fresh.
        let fresh = app.until("/acme/c/x", |answer| answer.body != first.body).await;
        (first, stale, fresh)
    };
    let (first, stale, fresh) = app.undisturbed(&acme, ask).await;
    assert_eq!((from(&stale), &stale.body), ("stale", &first.body));
    assert!(stale.headers["age"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    assert!(["hit", "stale"].contains(&from(&fresh)), "{fresh:?}");
    // Its time is over.
    let (app, acme, _) = self::app(ECHO, AuthMode::Public, json!({"ttl": 1})).await;
    let ask = async || [app.get("/acme/c/x").await, app.until("/acme/c/x", |answer| from(answer) != "hit").await];
    let [first, second] = app.undisturbed(&acme, ask).await;
    assert_eq!(from(&second), "miss");
    assert_ne!(second.body, first.body);
}

#[tokio::test]
async fn rows_are_kept_like_any_other_body() {
    let source = "def handler(request): return pq.dbconnect('dw_2').fetch('dw_2', 'salesforce', 'accounts')";
    let (app, acme, _) = app(source, AuthMode::Public, json!({"ttl": 600})).await;
    app.accounts(&acme).await;
    let ask = async || [app.get("/acme/c/x").await, app.get("/acme/c/x").await];
    let [first, second] = app.undisturbed(&acme, ask).await;
    assert_eq!((first.status, from(&first), from(&second)), (200, "miss", "hit"), "{first:?}");
    assert_eq!((first.json()[0]["name"].as_str(), &second.body), (Some("Ada"), &first.body));
}

#[tokio::test]
async fn a_preview_is_never_answered_from_memory() {
    let (app, acme, _) = app(ECHO, AuthMode::Public, json!({"ttl": 600})).await;
    let operator = Api::operator(&app).await;
    let made = operator.post("/tenants/acme/scripts/s/versions/1/previews", &json!({})).await.expect("201");
    let path = format!("{}/c/x", made["path"].as_str().unwrap());
    assert_eq!(twice(&app, &acme, || app.request(Method::GET, &path)).await, " ");
}
