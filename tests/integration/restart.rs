//! A database server that stops and starts again while the host serves.

use std::{net::TcpListener, path::Path, process::Command, time::Duration};

use serde_json::{Value, json};

use crate::support::{HANG_GUARD, TestApp};

/// A PostgreSQL of its own.
pub(crate) struct Server {
    directory: tempfile::TempDir,
    pub port: u16,
}

impl Server {
    pub(crate) fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { directory: tempfile::tempdir().unwrap(), port };
        server.run("start");
        server
    }

    pub(crate) fn run(&self, verb: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/postgres.sh");
        let status = Command::new(script).arg(verb).arg(self.directory.path()).arg(self.port.to_string()).status();
        assert!(status.unwrap().success(), "postgres.sh {verb}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/postgres.sh");
        // A test that failed may have stopped it already.
        Command::new(script).arg("stop").arg(self.directory.path()).status().ok();
    }
}

const SOURCE: &str = "
import time
def code(f):
    try: return f()
    except pq.exceptions.PeliqanClientException as e: return e.code
def waiting(db):
    with db.transaction():
        db.insert('dw_2', 'public', 't', id=50)
        pq.set_state('waiting')
        while pq.get_state() != 'go on': time.sleep(0.1)
        first = code(lambda: db.insert('dw_2', 'public', 't', id=51))
        pq.set_state(first)
def handler(request):
    db, do = pq.dbconnect('dw_2'), request['query']['do']
    match do:
        case 'make': return db.create_table('dw_2', 'public', 't', {'id': 'integer'}, 'id')['status']
        case 'read': return [code(lambda: len(db.fetch('dw_2', 'public', 't')))]
        case 'query': return [code(lambda: db.fetch('dw_2', query='SELECT 1 AS a')[0]['a'])]
        case 'insert': return [code(lambda: db.insert('dw_2', 'public', 't', id=1)['status'])]
        case 'wait': return [code(lambda: waiting(db)), pq.get_state()]
        case 'state': return [pq.get_state()]
        case 'go on': return [pq.set_state('go on')]
";

#[tokio::test]
async fn a_postgres_that_restarts_is_used_again() {
    let server = Server::start();
    let app = TestApp::with(|config| config.limits.deadline = HANG_GUARD).await;
    let acme = app.acme().await;
    app.connection(&acme, "dw_2", &format!("postgres://postgres@127.0.0.1:{}/test", server.port)).await;
    app.serve(&acme, "s", SOURCE).await;
    let call = async |what: &str| -> Value { app.get(&format!("/acme/s?do={what}")).await.json() };
    app.get("/acme/s?do=make").await;
    assert_eq!((call("read").await, call("query").await), (json!([0]), json!([1])));

    // Between two invocations: the sessions of the pool are dead, and nobody notices.
    server.run("stop");
    server.run("start");
    assert_eq!((call("read").await, call("query").await), (json!([0]), json!([1])));
    assert_eq!(call("insert").await, json!(["success"]));

    // While it is down.
    server.run("stop");
    for what in ["read", "query", "insert"] {
        assert_eq!(call(what).await, json!(["ERROR_DATABASE_UNAVAILABLE"]), "{what}");
    }
    server.run("start");
    assert_eq!((call("read").await, call("query").await), (json!([1]), json!([1])));

    // In the middle of a transaction: the statement after it fails, the commit too, and nothing is kept.
    let (result, ()) = tokio::join!(call("wait"), async {
        let waiting = async {
            while call("state").await != json!(["waiting"]) {
                tokio::time::sleep(Duration::from_millis(50)).await; // the pace of asking
            }
        };
        tokio::time::timeout(HANG_GUARD, waiting).await.expect("the transaction begins");
        server.run("stop");
        server.run("start");
        call("go%20on").await;
    });
    assert_eq!(result, json!(["ERROR_TRANSACTION_OVER", "ERROR_DATABASE_UNAVAILABLE"]));
    assert_eq!(call("read").await, json!([1]));
    app.assert_rewound();
}
