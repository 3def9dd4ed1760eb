//! What goes wrong, goes wrong with the documented status and code, and the next request is served from a fresh sandbox.

use pqhost::{publish::PublishError, sandbox::slot::FailureKind};

use crate::support::{HANG_GUARD, TestApp};

/// Besides what each test makes of `/bad`, a handler that notices whether its sandbox is fresh.
const GOOD: &str = "
COUNT = 0
def handler(request):
    global COUNT
    COUNT += 1
    return {'count': COUNT}
";

/// Publishes a handler body, calls it, and calls the good one after it.
async fn outcome(body: &str) -> (u16, String) {
    let app = TestApp::with(|config| {
        config.limits.fuel = 400_000_000;
        config.limits.deadline = HANG_GUARD; // none of these takes time
    })
    .await;
    let acme = app.acme().await;
    app.accounts(&acme).await;
    app.serve(&acme, "good", GOOD).await;
    let body: String = body.lines().map(|line| format!("    {line}\n")).collect();
    app.serve(&acme, "bad", &format!("import sys, os, json\ndef handler(request):\n{body}")).await;
    assert_eq!(app.get("/acme/good").await.json()["count"], 1);
    let problem = app.get("/acme/bad").await.problem();
    for _ in 0..2 {
        assert_eq!(app.get("/acme/good").await.json()["count"], 1);
    }
    app.assert_rewound();
    problem
}

macro_rules! bad {
    ($($name:ident: $body:expr => $status:literal $code:literal;)*) => {
        $(#[tokio::test]
        async fn $name() {
            assert_eq!(outcome($body).await, ($status, $code.to_owned()));
        })*
    };
}

bad! {
    an_exception: "raise ValueError('boom')" => 500 "script_error";
    a_wrong_return_type: "return object()" => 500 "script_bad_return";
    a_wrong_status: "return 'x', 999" => 500 "script_bad_return";
    a_header_with_a_line_break: "return 'x', 200, {'X-A': 'b\\r\\nX-B: c'}" => 500 "script_bad_return";
    a_reserved_header: "return 'x', 200, {'Transfer-Encoding': 'chunked'}" => 500 "script_bad_return";
    a_value_that_json_cannot_express: "return {'a': object()}" => 500 "script_bad_return";
    a_response_that_contains_itself: "a = []\na.append(a)\nreturn a" => 500 "script_bad_return";
    deep_recursion_in_python: "def f(n):\n    return f(n - 1) if n else 0\nreturn f(100_000)" => 500 "script_error";
    deep_recursion_in_json: "return json.loads('[' * 100_000)" => 500 "script_error";
    an_infinite_loop: "while True: pass" => 500 "script_fuel";
    an_infinite_loop_that_catches_everything:
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass" => 500 "script_fuel";
    an_allocation_of_2_gigabytes: "return len('x' * 2_000_000_000)" => 500 "script_memory";
    // More than a 32-bit Python can count to is an OverflowError.
    an_allocation_of_10_gigabytes: "return len('x' * 10_000_000_000)" => 500 "script_error";
    allocating_until_it_fails: "keep = []\nwhile True: keep.append(bytearray(1 << 20))" => 500 "script_memory";
    sys_exit: "sys.exit(3)" => 500 "script_exit";
    os_exit: "os._exit(3)" => 500 "script_exit";
    os_abort: "os.abort()" => 500 "script_trap";
    a_response_of_7_megabytes: "return 'x' * 7_000_000" => 500 "script_response_too_large";
    an_unknown_connection: "return pq.dbconnect('nope').fetch('nope', 's', 't')" => 500 "script_error";
    an_sql_error: "return list(pq.dbconnect('dw_2').fetch('dw_2', query='SELEC 1'))" => 500 "script_error";
    an_sql_error_nobody_looks_at: "return pq.dbconnect('dw_2').fetch('dw_2', query='SELECT * FROM nope')" => 500 "script_error";
    a_table_name_with_quotes:
        "return list(pq.dbconnect('dw_2').fetch('dw_2', 'salesforce', 'a\"; DROP TABLE accounts; --'))" => 500 "script_error";
    a_table_name_of_a_megabyte:
        "return list(pq.dbconnect('dw_2').fetch('dw_2', 'salesforce', 'a' * 1_000_000))" => 500 "script_error";
    a_table_name_with_nul: "return list(pq.dbconnect('dw_2').fetch('dw_2', 'salesforce', 'a\\0b'))" => 500 "script_error";
// `repr` looks at every list that it is in for each that it enters.
    deep_recursion_in_repr: "a = []\nfor _ in range(100_000): a = [a]\nreturn repr(a)" => 500 "script_fuel";
    a_deep_response: "a = []\nfor _ in range(100_000): a = [a]\nreturn a" => 500 "script_bad_return";
    an_exception_that_lies: "class E(Exception):\n    def __str__(self): raise SystemExit\nraise E" => 500 "script_error";
}

#[tokio::test]
async fn a_handler_that_waits_hits_its_deadline() {
    let app = TestApp::with(|config| config.limits.deadline = std::time::Duration::from_secs(2)).await;
    let acme = app.acme().await;
    app.serve(&acme, "good", GOOD).await;
    app.serve(&acme, "bad", "import time\ndef handler(request): time.sleep(60)\n").await;
    assert_eq!(app.get("/acme/bad").await.problem(), (504, "script_deadline".to_owned()));
    assert_eq!(app.until("/acme/good", |answer| answer.status == 200).await.json()["count"], 1);
}

#[tokio::test]
async fn a_looping_handler_delays_nobody_elses_time_limits() {
    let app = TestApp::with(|config| {
        config.guest_threads = 1;
        config.limits.fuel = u64::MAX / 2;
        config.limits.deadline = std::time::Duration::from_secs(3);
    })
    .await;
    let acme = app.acme().await;
    app.serve(&acme, "good", GOOD).await;
    app.serve(&acme, "bad", "def handler(request):\n    while True: pass\n").await;
    // The only guest thread is busy with the loop, which gives way often enough for others to be served meanwhile.
    let (looped, ()) = tokio::join!(app.get("/acme/bad"), async {
        for _ in 0..20 {
            assert_eq!(app.get("/acme/good").await.json()["count"], 1);
        }
    });
    assert_eq!(looped.problem(), (504, "script_deadline".to_owned()));
}

#[tokio::test]
async fn scripts_that_are_not_sound_are_not_published() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    let rejected = async |source: &[u8]| match app.try_publish(&acme, "bad", source).await {
        Err(PublishError::Rejected(failure)) => failure,
        other => panic!("{other:?}"),
    };
    for (source, kind, text) in [
        (&b"def handler(request:\n    pass"[..], FailureKind::Syntax, "'(' was never closed"),
        (b"x = 1", FailureKind::NoHandler, "define `def handler(request):`"),
        (b"handler = 5", FailureKind::NoHandler, "cannot be called"),
        (b"def handler(a, b): pass", FailureKind::NoHandler, "cannot be called with one argument"),
        (b"# \xff\xfe\ndef handler(r): pass", FailureKind::Syntax, "line 1: byte 0xff is not UTF-8"),
        (b"x = 1\0", FailureKind::Syntax, "null byte"),
        (b"import nothing_of_this_name\n", FailureKind::Raised, "No module named"),
        (b"1/0", FailureKind::Raised, "division by zero"),
        (b"raise SystemExit(1)", FailureKind::Exited, "1"),
    ] {
        let failure = rejected(source).await;
        assert_eq!(failure.kind, kind, "{failure:?}");
        assert!(failure.message.contains(text), "{failure:?}");
    }
    // The caret and the line are the author's.
    let failure = rejected(b"x = 1\ny = = 2\n").await;
    assert_eq!(failure.location, Some(("handler.py".to_owned(), 2)));
    assert!(failure.traceback.contains("y = = 2") && failure.traceback.contains('^'), "{}", failure.traceback);

    let huge = "#".repeat((16 << 20) + 1);
    assert!(matches!(app.try_publish(&acme, "bad", huge).await, Err(PublishError::TooLarge { .. })));
    let deep = format!("x = {}1{}\ndef handler(r): pass", "(".repeat(100_000), ")".repeat(100_000));
    assert!(matches!(app.try_publish(&acme, "bad", deep).await, Err(PublishError::Rejected(_))));
    let endless = app.try_publish(&acme, "bad", "while True: pass").await;
    assert!(matches!(endless, Err(PublishError::LimitExceeded { .. })), "{endless:?}");
    assert!(app.workspace.db.scripts().list_scripts(acme.id).await.unwrap().is_empty());
    // Nothing was stored, and a sound script is version 1.
    assert_eq!(app.serve(&acme, "bad", "def handler(r): return [1]").await.version.number, 1);
    // What is refused leaves the version before it in place.
    rejected(b"def handler(r: return [2]").await;
    let answer = app.get("/acme/bad").await;
    assert_eq!(
        (answer.status, answer.body.as_str(), &answer.headers["x-script-version"]),
        (200, "[1]", &"1".parse().unwrap())
    );
}

#[tokio::test]
async fn a_traceback_goes_to_the_log_with_the_authors_lines_and_not_to_the_caller() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    let source = "def helper(d):\n    return d['missing']\n\ndef handler(request):\n    print('before')\n    return helper({})\n";
    app.serve(&acme, "bad", source).await;
    let answer = app.get("/acme/bad").await;
    assert_eq!(answer.problem(), (500, "script_error".to_owned()));
    assert!(!answer.body.contains("missing"), "{}", answer.body);
    let record = app.last_invocation(&acme, 0).await.record;
    let traceback = record.traceback.unwrap();
    for text in [
        "File \"handler.py\", line 6, in handler",
        "File \"handler.py\", line 2, in helper",
        "d['missing']",
        "KeyError",
    ] {
        assert!(traceback.contains(text), "{text}: {traceback}");
    }
    assert!(!traceback.contains("pqhost_runtime") && !traceback.contains("app.py"), "{traceback}");
    assert_eq!((record.log.as_str(), record.status, record.code.as_deref()), ("before\n", 500, Some("script_error")));
}

#[tokio::test]
async fn prints_are_kept_up_to_a_limit_and_secrets_are_not() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.serve(
        &acme,
        "loud",
        "def handler(request):\n    print(request['headers'].get('Authorization'))\n    print('x' * 200_000)\n",
    )
    .await;
    let request = app.request(reqwest::Method::GET, "/acme/loud").header("authorization", "Bearer very-secret-token");
    assert_eq!(crate::support::Answer::of(request).await.status, 204);
    let log = app.last_invocation(&acme, 0).await.record.log;
    assert!(log.starts_with("[redacted]\nxxx") && log.len() < 70_000, "{}", &log[..100]);
    assert!(log.contains("more bytes were printed"), "{}", &log[log.len() - 100..]);
}
