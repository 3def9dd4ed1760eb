//! The handler contract: what scripts receive and may return.

use reqwest::Method;
use serde_json::json;

use crate::support::{Answer, Tenant, TestApp, example};

#[tokio::test]
async fn a_handler_receives_the_request_in_full() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    let source = "
def handler(request):
    assert type(request) is dict
    headers = request['headers']
    return {
        'keys': sorted(request), 'method': request['method'], 'path': request['path'], 'query_string': request['query_string'],
        'query': request['query'], 'data': request['data'], 'body': request['body'] == request['data'].encode(),
        'json': request['json'], 'form': request['form'], 'cookies': request['cookies'], 'kind': request['auth']['kind'],
        'ip': request['client_ip'], 'url': request['url'].partition('/acme')[2],
        'headers': [headers['x-test'], headers['X-Test'], headers.get('X-TEST'), 'x-tEst' in headers, 'Nope' in headers],
        'titles': 'X-Test' in list(headers),
    }
";
    app.serve(&acme, "echo", source).await;
    let request = app
        .request(Method::POST, "/acme/echo?a=1&b=%C3%A9&a=2")
        .header("x-test", "value")
        .header("cookie", "c=d; e=f")
        .header("content-type", "application/json")
        .body("{\"n\": [1, 2.5]}");
    let expected = json!({
        "keys": ["auth", "body", "client_ip", "cookies", "data", "files", "form", "headers", "json", "method", "path",
                 "path_params", "query", "query_string", "request_id", "url"],
        "method": "POST", "path": "/echo", "query_string": "a=1&b=%C3%A9&a=2", "query": {"a": "1", "b": "é"},
        "data": "{\"n\": [1, 2.5]}", "body": true, "json": {"n": [1, 2.5]}, "form": {}, "cookies": {"c": "d", "e": "f"},
        "kind": "public", "ip": "127.0.0.1", "url": "/echo?a=1&b=%C3%A9&a=2",
        "headers": ["value", "value", "value", true, false], "titles": true,
    });
    assert_eq!(Answer::of(request).await.json(), expected);
}

#[tokio::test]
async fn the_older_generation_of_handlers_has_a_global_request() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    let source = "
def handler():
    return [request.method, request.query_string == b'a=1', request.args, request.data, request.get_data() == b'xyz', request.form]
";
    app.serve(&acme, "old", source).await;
    assert_eq!(app.post("/acme/old?a=1", "xyz").await.json(), json!(["POST", true, {"a": "1"}, "xyz", true, {}]));
}

#[tokio::test]
async fn every_form_of_return_is_a_response() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    for (index, (expression, status, content_type, body)) in [
        ("{'a': [1, None, 'é']}", 200, "application/json", "{\"a\":[1,null,\"é\"]}"),
        ("[]", 200, "application/json", "[]"),
        ("'<b>hi</b>'", 200, "text/html; charset=utf-8", "<b>hi</b>"),
        ("''", 200, "text/html; charset=utf-8", ""),
        ("b'abc'", 200, "application/octet-stream", "abc"),
        ("None", 204, "", ""),
        ("('made', 201)", 201, "text/html; charset=utf-8", "made"),
        ("({'a': 1}, 202, {'X-A': 'b', 'Content-Type': 'application/x+json'})", 202, "application/x+json", "{\"a\":1}"),
        ("[float('nan'), float('inf'), 1e16]", 200, "application/json", "[null,null,1e+16]"),
        (
            "[D('1.50'), D('3'), datetime.date(2024, 1, 2), uuid.UUID(int=1), b'ab', {7}]",
            200,
            "application/json",
            "[1.5,3,\"2024-01-02\",\"00000000-0000-0000-0000-000000000001\",\"YWI=\",[7]]",
        ),
        (
            "[datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.UTC), Point(1, 2)]",
            200,
            "application/json",
            "[\"2024-01-02T03:04:05+00:00\",{\"x\":1,\"y\":2}]",
        ),
        (
            "[RUN_CONTEXT, st.write('printed'), __import__('pq') is pq, __import__('peliqan').Peliqan is pq]",
            200,
            "application/json",
            "[\"api_handler\",null,true,true]",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let source = format!(
            "import datetime, uuid, dataclasses\nfrom decimal import Decimal as D\n@dataclasses.dataclass\nclass Point:\n    x: int\n    \
             y: int\ndef handler(request):\n    return {expression}\n"
        );
        app.serve(&acme, &format!("r{index}"), &source).await;
        let answer = app.get(&format!("/acme/r{index}")).await;
        let found = answer.headers.get("content-type").map_or("", |value| value.to_str().unwrap());
        assert_eq!((answer.status, found, answer.body.as_str()), (status, content_type, body), "{expression}");
    }
}

#[tokio::test]
async fn an_http_error_answers_with_its_status() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.serve(&acme, "gone", "def handler(request): raise pq.HTTPError(404, 'no such order')").await;
    let answer = app.get("/acme/gone").await;
    assert_eq!((answer.status, answer.json()["detail"].as_str()), (404, Some("no such order")));
}

#[tokio::test]
async fn an_async_handler_works_if_it_waits_for_nothing() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.serve(&acme, "a", "async def f(): return 7\nasync def handler(request): return {'n': await f()}").await;
    assert_eq!(app.get("/acme/a").await.json(), json!({"n": 7}));
    app.serve(&acme, "b", "import asyncio\nasync def handler(request): await asyncio.sleep(1)").await;
    assert_eq!(app.get("/acme/b").await.status, 500);
}

#[tokio::test]
async fn forms_files_and_path_parameters_reach_the_handler() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    let source = "
def handler(request):
    files = {name: [f['name'], f['content'].decode()] for name, f in request['files'].items()}
    return [request['form'], files, request['path_params']]
";
    app.serve(&acme, "form", source).await;
    app.endpoint(&acme, "POST", "/orders/{id}/*/x", "form", pqhost::domain::exchange::AuthMode::Public).await;
    let form = reqwest::multipart::Form::new()
        .text("a", "1")
        .part("f", reqwest::multipart::Part::text("hi").file_name("a.txt"));
    let answer = Answer::of(app.request(Method::POST, "/acme/form").multipart(form)).await;
    assert_eq!(answer.json(), json!([{"a": "1"}, {"f": ["a.txt", "hi"]}, {}]));
    let request =
        app.request(Method::POST, "/acme/orders/a%20b/z/x").header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(Answer::of(request.body("k=v&k=w")).await.json(), json!([{"k": "v"}, {}, {"id": "a b"}]));
}

#[tokio::test]
async fn module_level_code_that_sees_the_world_runs_in_each_request_and_its_author_is_told() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.accounts(&acme).await;
    for (index, (source, reason)) in [
        ("x = 1\nimport time\nSTART = time.time()\n", "handler.py, line 3, reads the clock"),
        ("import uuid\nSTART = str(uuid.uuid4())\n", "handler.py, line 2, uses random numbers"),
        (
            "START = len(pq.dbconnect('dw_2').fetch('dw_2', 'salesforce', 'accounts'))\n",
            "handler.py, line 1, calls the host through `pq`",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("s{index}");
        let source = format!("{source}def handler(request): return [START, RUN_CONTEXT]\n");
        let version = app.serve(&acme, &name, &source).await.version;
        assert_eq!(
            (version.loaded.mode.to_string().as_str(), version.loaded.reason.as_deref()),
            ("per_request", Some(reason))
        );
        let (one, two) =
            (app.get(&format!("/acme/{name}")).await.json(), app.get(&format!("/acme/{name}")).await.json());
        assert_eq!(one == two, index == 2, "{one} {two}");
    }
    // What sees nothing of the world is frozen: `dbconnect` does no I/O.
    let plain = "import random, time, datetime, logging\nDB = pq.dbconnect('dw_2')\nPRIMES = [n for n in range(2, 99)]\ndef handler(r): return 1\n";
    assert_eq!(app.serve(&acme, "plain", plain).await.version.loaded.reason, None);
}

#[tokio::test]
async fn each_example_answers_as_its_folder_says() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.accounts(&acme).await;
    for name in ["hello", "accounts", "webhook", "crud", "webhook-store"] {
        play(&app, &acme, name).await;
    }
}

/// Sends the request of an example and compares what comes back with its answer.
pub(crate) async fn play(app: &TestApp, tenant: &Tenant, name: &str) {
    app.serve(tenant, name, &example(name, "handler.py")).await;
    let request: serde_json::Value = serde_json::from_str(&example(name, "request.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&example(name, "answer.json")).unwrap();
    let method = request["method"].as_str().unwrap().parse().unwrap();
    let mut builder = app.request(method, &format!("/{}{}", tenant.name, request["path"].as_str().unwrap()));
    for (field, value) in request["headers"].as_object().unwrap() {
        builder = builder.header(field, value.as_str().unwrap());
    }
    let answer = Answer::of(builder.body(request["body"].as_str().unwrap().to_owned())).await;
    assert_eq!(json!({"status": answer.status, "body": answer.json()}), expected, "{name}");
}

#[tokio::test]
async fn time_zones_are_known() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    let source = "
import datetime, zoneinfo
BRUSSELS = zoneinfo.ZoneInfo('Europe/Brussels')
def known(name):
    try: return zoneinfo.ZoneInfo(name).key == name
    except (zoneinfo.ZoneInfoNotFoundError, ValueError): return False
def handler(request):
    noon = datetime.datetime(2024, 7, 1, 12, tzinfo=BRUSSELS)
    there = [noon.astimezone(zoneinfo.ZoneInfo(name)) for name in ('America/New_York', 'Asia/Kolkata', 'UTC')]
    names = zoneinfo.available_timezones()
    return [noon, *there, len(names) > 500, all(map(known, names)), [known(n) for n in ('Nowhere', '../etc/passwd', '/etc', '')]]
";
    let published = app.serve(&acme, "zones", source).await;
    assert_eq!(published.version.loaded.reason, None, "knowing a zone is no look at the world");
    let expected = json!([
        "2024-07-01T12:00:00+02:00",
        "2024-07-01T06:00:00-04:00",
        "2024-07-01T15:30:00+05:30",
        "2024-07-01T10:00:00+00:00",
        true,
        true,
        [false, false, false, false],
    ]);
    assert_eq!(app.get("/acme/zones").await.json(), expected);
}
