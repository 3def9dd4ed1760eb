//! What scripts remember between requests.

use serde_json::{Value, json};

use crate::support::{Tenant, TestApp};

/// Serves `body` as the handler of a script and calls it.
async fn run(app: &TestApp, tenant: &Tenant, script: &str, body: &str) -> Value {
    let body: String = body.trim().lines().map(|line| format!("    {line}\n")).collect();
    let source = format!("def handler(request):\n{body}");
    if app.workspace.db.scripts().find_script(tenant.id, &script.parse().unwrap()).await.unwrap().is_some() {
        app.try_publish(tenant, script, &source).await.unwrap();
    } else {
        app.serve(tenant, script, &source).await;
    }
    let answer = app.get(&format!("/{}/{script}", tenant.name)).await;
    let record = app.invocation(tenant, answer.headers["x-request-id"].to_str().unwrap()).await;
    assert_eq!(answer.status, 200, "{script}: {}", record.traceback.unwrap_or_default());
    answer.json()
}

/// What `expression` raises: `[code, message, class]`.
async fn raised(app: &TestApp, tenant: &Tenant, script: &str, expression: &str) -> Value {
    let body = format!(
        "from peliqan.exceptions import PeliqanClientException\ntry:\n    {expression}\nexcept PeliqanClientException as e:\n    \
         return [e.code, e.message, type(e).__name__]\nreturn 'nothing was raised'"
    );
    run(app, tenant, script, &body).await
}

#[tokio::test]
async fn state_reads_back_equal_across_requests_and_versions() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    assert_eq!(run(&app, &acme, "s", "return [pq.get_state()]").await, json!([null]));
    for value in [
        "'5'",
        "5",
        "True",
        "0.1",
        "1e300",
        "-0.0",
        "2 ** 200",
        "''",
        "'é\\u0000\\ud800 \\U0001f600'",
        "{}",
        "[]",
        "{'a': [1, {'b': None}], 'é': '\\n\\t\"', '': 2.0}",
        "[[[[[[]]]]]]",
    ] {
        // Each `run` publishes a new version: state survives that.
        run(&app, &acme, "s", &format!("pq.set_state({value}); return []")).await;
        let body = format!("s = pq.get_state(); return [s == {value}, type(s) is type({value})]");
        assert_eq!(run(&app, &acme, "s", &body).await, json!([true, true]), "{value}");
    }
    assert_eq!(run(&app, &acme, "s", "pq.set_state(None); return [pq.get_state()]").await, json!([null]));
    app.assert_rewound();
}

#[tokio::test]
async fn what_state_cannot_be_raises_and_leaves_what_was_there() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    run(&app, &acme, "s", "pq.set_state('before'); return []").await;
    for (expression, code, text) in [
        ("pq.set_state(object())", "ERROR_JSON_SERIALIZER", "object"),
        ("pq.set_state({1, 2})", "ERROR_JSON_SERIALIZER", "set"),
        ("pq.set_state(b'x')", "ERROR_JSON_SERIALIZER", "bytes"),
        ("pq.set_state(float('nan'))", "ERROR_JSON_SERIALIZER", "JSON"),
        ("import datetime; pq.set_state({'at': datetime.datetime(2024, 1, 1)})", "ERROR_JSON_SERIALIZER", "datetime"),
        ("a = []; a.append(a); pq.set_state(a)", "ERROR_JSON_SERIALIZER", "ircular"),
        ("pq.set_state({(1, 2): 3})", "ERROR_JSON_SERIALIZER", "tuple"),
        ("pq.update_state(lambda s: object())", "ERROR_JSON_SERIALIZER", "object"),
        ("pq.update_state(5)", "ERROR_INVALID_ARGUMENT", "function"),
        ("pq.set_state('x' * (1 << 20))", "ERROR_STATE_TOO_LARGE", "1048578 bytes"),
        ("pq.update_state(lambda s: 'é' * (1 << 19))", "ERROR_STATE_TOO_LARGE", "1048576"),
        ("pq.get_interface_state(10 ** 6)", "ERROR_INTERFACE_DOES_NOT_EXIST", "1000000"),
        ("pq.get_interface_state(2 ** 70)", "ERROR_INVALID_ARGUMENT", "interface_id"),
        ("pq.set_interface_state('me', 1)", "ERROR_INVALID_ARGUMENT", "interface_id"),
        ("[pq.get_state() for _ in range(501)]", "ERROR_TOO_MANY_STATE_OPERATIONS", "500"),
    ] {
        let error = raised(&app, &acme, "s", expression).await;
        assert_eq!(error[0], code, "{expression}: {error}");
        assert!(error[1].as_str().unwrap().contains(text), "{expression}: {error}");
        let class =
            if code == "ERROR_JSON_SERIALIZER" { "PeliqanJsonSerializerException" } else { "PeliqanClientException" };
        assert_eq!(error[2], class, "{expression}");
    }
    assert_eq!(run(&app, &acme, "s", "return [pq.get_state()]").await, json!(["before"]));
    // Exactly 1 MiB is allowed: the quotes count.
    let body = "pq.set_state('x' * ((1 << 20) - 2)); return [len(pq.get_state())]";
    assert_eq!(run(&app, &acme, "s", body).await, json!([(1 << 20) - 2]));
}

#[tokio::test]
async fn the_import_itself_refuses_state_that_is_not_json() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    run(&app, &acme, "s", "pq.set_state('before'); return []").await;
    for text in [
        "{",
        "",
        " ",
        "x",
        "nul",
        "NaN",
        "-Infinity",
        "01",
        "1,",
        "'a'",
        "{1: 2}",
        "[1,]",
        "{}{}",
        "\0",
        "\"\n\"",
        "\u{feff}1",
        "\"\\x\"",
        "[[[[[[",
    ] {
        // A text of JSON is one of Python.
        let literal = serde_json::to_string(text).unwrap();
        let body = format!(
            "from pq._host import Err, state\ntext = {literal}\nraised = []\nfor write in [lambda: state.set(None, text), \
             lambda: state.compare_and_set(state.get(None).revision, text)]:\n    try:\n        write()\n    except Err as e:\n        \
             raised.append(e.value.message)\nreturn [raised, pq.get_state()]"
        );
        let answer = run(&app, &acme, "s", &body).await;
        let told = answer[0].as_array().unwrap();
        assert_eq!((told.len(), &answer[1]), (2, &json!("before")), "{text}: {answer}");
        assert!(
            told.iter().all(|told| told.as_str().unwrap().starts_with("the state is not JSON: ")),
            "{text}: {answer}"
        );
    }
    for text in ["null", " [1e400] ", "{\"a\": 1, \"a\": 2}"] {
        let body = format!("from pq._host import state\nstate.set(None, '{text}'); return [state.get(None).value]");
        assert_eq!(run(&app, &acme, "s", &body).await, json!([text]), "{text}");
    }
}

#[tokio::test]
async fn state_of_another_script_is_there_for_the_same_tenant_only() {
    let app = TestApp::new().await;
    let (acme, other) = (app.acme().await, app.tenant("other").await);
    let id = run(&app, &acme, "a", "pq.set_state({'secret': 'of acme'}); return [pq.INTERFACE_ID]").await[0].clone();
    let read = format!("return [pq.get_interface_state({id}), pq.get_interface_state('{id}')]");
    assert_eq!(run(&app, &acme, "b", &read).await, json!([{"secret": "of acme"}, {"secret": "of acme"}]));
    run(&app, &acme, "b", &format!("pq.set_interface_state({id}, [1]); return []")).await;
    assert_eq!(run(&app, &acme, "a", "return pq.get_state()").await, json!([1]));
    for expression in [
        format!("pq.get_interface_state({id})"),
        format!("pq.set_interface_state({id}, 'stolen')"),
        format!("pq.set_interface_state({id}, None)"),
    ] {
        let error = raised(&app, &other, "steal", &expression).await;
        assert_eq!(error[0], "ERROR_INTERFACE_DOES_NOT_EXIST", "{expression}: {error}");
        assert!(!error.to_string().contains("acme"), "{error}");
    }
    assert_eq!(run(&app, &acme, "a", "return pq.get_state()").await, json!([1]));
}

#[tokio::test]
async fn updates_of_fifty_requests_at_once_lose_nothing() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    let source = "
def handler(request):
    tries = 0
    def add(state):
        nonlocal tries
        tries += 1
        return {'n': (state or {'n': 0})['n'] + 1}
    return [pq.update_state(add)['n'], tries]
";
    app.serve(&acme, "count", source).await;
    let answers = futures::future::join_all((0..50).map(|_| app.get("/acme/count"))).await;
    let counts: Vec<_> = answers.iter().map(|answer| answer.json()[0].as_u64().unwrap()).collect();
    let mut sorted = counts.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=50).collect::<Vec<_>>(), "each request got a number of its own");
    app.assert_rewound();
}

#[tokio::test]
async fn module_level_code_that_reads_state_runs_in_each_request() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    let source = "SEEN = pq.get_state()\ndef handler(request):\n    pq.set_state((SEEN or 0) + 1)\n    return [SEEN]\n";
    let version = app.serve(&acme, "m", source).await.version;
    assert_eq!(version.loaded.reason.as_deref(), Some("handler.py, line 1, calls the host through `pq`"));
    for expected in [json!([null]), json!([1]), json!([2])] {
        assert_eq!(app.get("/acme/m").await.json(), expected);
    }
}
