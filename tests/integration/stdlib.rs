//! What Python's own modules do where the sandbox has less than a computer.

use serde_json::json;

use crate::support::TestApp;

/// Answers with the value of the expression in the body, or with the exception.
const EVALUATE: &str = r"
def handler(request):
    try:
        return [eval(request['data'], {name: __import__(name) for name in 'argparse hashlib random socket sys unittest uuid'.split()})]
    except Exception as error:
        return type(error).__name__
";

/// A name that is looked up is not found; nothing ends the sandbox.
const REFUSED: [&str; 7] = [
    "socket.gethostbyname('localhost')",
    "socket.gethostbyname_ex('localhost')",
    "socket.gethostbyaddr('127.0.0.1')",
    "socket.getaddrinfo('localhost', 80)",
    "socket.getnameinfo(('127.0.0.1', 80), 0)",
    "socket.create_connection(('localhost', 80))",
    "socket.create_connection(('127.0.0.1', 80))",
];

#[tokio::test]
async fn what_the_sandbox_has_not_raises_and_ends_nothing() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.serve(&acme, "evaluate", EVALUATE).await;
    for expression in REFUSED {
        assert_eq!(app.post("/acme/evaluate", expression).await.body, "gaierror", "{expression}");
    }
    for (expression, expected) in [
        ("socket.getfqdn() == socket.gethostname()", json!(true)),
        ("uuid.uuid1().version", json!(1)),
        ("uuid.getnode() == uuid.getnode() > 0", json!(true)),
        ("sys.argv", json!(["handler.py"])),
        ("argparse.ArgumentParser().prog", json!("handler.py")),
        ("unittest.mock.patch('random.Random.random', lambda self: 2.0)(random.random)()", json!(2.0)),
    ] {
        assert_eq!(app.post("/acme/evaluate", expression).await.json(), json!([expected]), "{expression}");
    }
    for (expression, exception) in [
        ("hashlib.pbkdf2_hmac('sha256', 5, b'salt', 1)", "TypeError"),
        ("hashlib.pbkdf2_hmac('sha256', b'password', 5, 1)", "TypeError"),
        ("hashlib.scrypt(5, salt=b'salt', n=2, r=8, p=1)", "TypeError"),
        ("hashlib.scrypt(b'password', salt=b'salt', n=2, r=8, p=1, maxmem=-1)", "ValueError"),
    ] {
        assert_eq!(app.post("/acme/evaluate", expression).await.body, exception, "{expression}");
    }
    app.assert_rewound();
}
