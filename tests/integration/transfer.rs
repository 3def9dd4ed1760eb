//! A host or a tenant in a file, by the program as operators run it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use pqhost::{app::Workspace, config::DataDir, domain::names::InvocationId};
use reqwest::Method;
use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    io::ioctl_fionread,
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::unix::pipe, time::timeout};

use crate::{
    control::Api,
    control_database::{Schema, is_file_being_changed},
    program::Installation,
    support::{Answer, HANG_GUARD, TestApp, changes_seen, share_cache},
};

/// Exports of one key.
struct Exports {
    folder: tempfile::TempDir,
    key: PathBuf,
}

impl Exports {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("transfer.key");
        let place = Installation::empty(None);
        place.run(&["vault", "create-key", text(&key)]);
        let again = place.command(&["vault", "create-key", text(&key)]).output().unwrap();
        assert!(!again.status.success(), "a key is not replaced");
        Self { folder, key }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn export(&self, data: &DataDir, name: &str, flags: &[&str]) -> PathBuf {
        let file = self.path(name);
        let output = self.command(data, "export", &file, flags);
        assert!(output.status.success(), "{}", said(&output));
        assert!(!self.path(&format!("{name}.part")).exists());
        file
    }

    fn import(&self, data: &DataDir, file: &Path, flags: &[&str]) {
        let output = self.command(data, "import", file, flags);
        assert!(output.status.success(), "{}", said(&output));
    }

    /// What the program says when it does not import.
    fn refused(&self, data: &DataDir, file: &Path, flags: &[&str]) -> String {
        let output = self.command(data, "import", file, flags);
        assert!(!output.status.success(), "{}", said(&output));
        said(&output)
    }

    fn command(&self, data: &DataDir, verb: &str, file: &Path, flags: &[&str]) -> Output {
        self.prepare(data, verb, file, flags).output().unwrap()
    }

    fn prepare(&self, data: &DataDir, verb: &str, file: &Path, flags: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pqhost"));
        command.arg("--data").arg(data.path());
        if let pqhost::domain::control_database::ControlDatabase::Server(server) = data.database() {
            command.env("PQHOST_DATABASE", server.expose_url());
        }
        command.args([verb, "--key-file", text(&self.key)]).args(flags).arg(file);
        command
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A data directory without anything, and what keeps it.
fn new_data(schema: Option<&Schema>) -> (DataDir, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    share_cache(folder.path());
    (DataDir::new(folder.path().to_owned()).with_server(schema.map(Schema::database)), folder)
}

const SOURCE: &str = "
import json
x = [1, 2, 3]
def handler(request):
    rows = pq.dbconnect('dw').fetch('dw', query='SELECT 7 AS a')
    return [x, rows[0]['a'], pq.get_secret('key'), pq.get_state()]
";

/// A tenant with something of everything that its callers notice, and the token of a caller.
async fn fill(app: &TestApp, api: &Api) -> String {
    let dw = json!({"name": "dw", "url": "postgres://postgres@127.0.0.1:5432/test"});
    api.post("/tenants/acme/connections", &dw).await.expect("201");
    let files = json!([{"name": "handler.py", "text": SOURCE}]);
    api.post("/tenants/acme/scripts/s/versions", &json!({"files": files, "message": "one"})).await.expect("201");
    api.put("/tenants/acme/secrets/key", &json!({"value": "hunter22", "scripts": ["s"]})).await.expect("204");
    api.put("/tenants/acme/scripts/s/state", &json!({"n": 1})).await.expect("204");
    for (route, auth) in [("/s", "jwt"), ("/open", "public")] {
        let endpoint = json!({"methods": "GET", "route": route, "script": "s", "auth": auth});
        api.post("/tenants/acme/endpoints", &endpoint).await.expect("201");
    }
    let issuer = "https://login.example.com";
    let issuer = json!({"issuer": issuer, "jwks_url": format!("{issuer}/keys"), "audience": "orders"});
    api.post("/tenants/acme/issuers", &issuer).await.expect("201");
    for algorithm in ["HS256", "EdDSA", "ES256"] {
        api.post("/tenants/acme/signing-keys", &json!({"algorithm": algorithm, "overlap": 3600})).await.expect("201");
    }
    let acme = app.acme().await;
    let token = app.token(&acme).await;
    assert_eq!(get(app, "/acme/s", &token).await.json(), expected());
    app.last_invocation(&acme, 0).await;
    token
}

fn expected() -> Value {
    json!([[1, 2, 3], 7, "hunter22", {"n": 1}])
}

async fn get(app: &TestApp, path: &str, token: &str) -> Answer {
    Answer::of(app.request(Method::GET, path).bearer_auth(token)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_host_moves_from_sqlite_to_postgres_and_back() {
    let Some(schema) = Schema::new().await else { return };
    let exports = Exports::new();
    let app = TestApp::new().await;
    let operator = Api::operator(&app).await;
    let user = operator.user("ann@acme.example", "acme", "author").await;
    let token = fill(&app, &operator).await;
    app.tenant("globex").await;
    let shown = async |api: &Api| {
        let mut all = Vec::new();
        for path in ["/tenants", "/tenants/acme/scripts", "/tenants/acme/scripts/s/versions", "/tenants/acme/secrets"] {
            all.push(api.get(path).await.expect("200").to_string());
        }
        for path in ["members", "tokens", "connections", "signing-keys", "issuers"] {
            let mut list = api.get(&format!("/tenants/acme/{path}")).await.expect("200");
            for entry in list["items"].as_array_mut().unwrap() {
                entry.as_object_mut().unwrap().remove("last_used_at"); // they are used on the way
            }
            all.push(list.to_string());
        }
        all.push(api.get("/users").await.expect("200").to_string());
        all
    };
    let before = shown(&operator).await;

    let mut from = app.workspace.data.clone();
    let mut file = exports.export(&from, "host-0", &["--with-log"]);
    let mut folders = vec![];
    for (n, schema) in [(1, Some(&schema)), (2, None)] {
        let (data, folder) = new_data(schema);
        exports.import(&data, &file, &[]);
        let refused = exports.refused(&data, &file, &[]);
        assert!(refused.contains("tenants or users"), "{refused}");
        let moved = TestApp::with(|config| config.data = data.clone()).await;
        let at_moved = |api: &Api| api.at(&moved);
        assert_eq!(get(&moved, "/acme/s", &token).await.json(), expected(), "callers notice nothing");
        assert_eq!(get(&moved, "/acme/s", "wrong").await.status, 401);
        assert_eq!(shown(&at_moved(&operator)).await, before, "and operators neither");
        at_moved(&user).get("/tenants/acme/scripts").await.expect("200");
        at_moved(&user).get("/tenants/globex/scripts").await.expect("404 not_found");
        let acme = moved.acme().await;
        let log = moved.workspace.db.invocations().list(acme.id, None, 10).await.unwrap();
        assert_eq!(log[0].script_name.as_ref().map(|name| name.as_str()), Some("s"));
        from = data;
        file = exports.export(&from, &format!("host-{n}"), &["--with-log"]);
        drop(moved);
        folders.push(folder);
    }
    schema.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_moves_alone_or_is_copied_under_another_name() {
    let exports = Exports::new();
    let app = TestApp::new().await;
    let operator = Api::operator(&app).await;
    operator.user("ann@acme.example", "acme", "author").await;
    let token = fill(&app, &operator).await;
    app.tenant("globex").await;
    let file = exports.export(&app.workspace.data, "acme", &["--tenant", "acme"]);
    let bytes = fs::read(&file).unwrap();
    assert!(!bytes.windows(8).any(|window| window == b"hunter22" || window == b"handler("), "it is sealed");

    // Beside what is there, while the host serves: the tenant as a copy, for which its callers need new tokens.
    let refused = exports.refused(&app.workspace.data, &file, &[]);
    assert!(refused.contains("there is already a tenant `acme`"), "{refused}");
    exports.import(&app.workspace.data, &file, &["--as", "copy"]);
    app.until("/copy/open", |answer| answer.status == 200).await;
    assert_eq!(app.get("/copy/open").await.json(), expected());
    assert_eq!(get(&app, "/copy/s", &token).await.status, 401);

    // On a host of its own it is itself, without people and the log.
    let (data, _folder) = new_data(None);
    exports.import(&data, &file, &[]);
    let moved = TestApp::with(|config| config.data = data.clone()).await;
    assert_eq!(get(&moved, "/acme/s", &token).await.json(), expected());
    let api = Api::operator(&moved).await;
    assert_eq!(api.get("/users").await.expect("200")["items"], json!([]));
    assert_eq!(api.get("/tenants").await.expect("200")["items"].as_array().unwrap().len(), 1);
    let unknown = exports.command(&data, "export", &exports.path("x"), &["--tenant", "globex"]);
    assert!(!unknown.status.success() && said(&unknown).contains("no tenant `globex`"), "{}", said(&unknown));
    assert!(!exports.path("x").exists() && !exports.path("x.part").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_is_not_whole_or_not_ours_changes_nothing() {
    let exports = Exports::new();
    let source = Installation::new();
    source.run(&["egress", "allow", "acme", "https://api.example.com"]);
    let from = DataDir::new(source.folder().to_owned());
    let (host, tenant) = (exports.export(&from, "host", &[]), exports.export(&from, "tenant", &["--tenant", "acme"]));
    let again = exports.command(&from, "export", &host, &[]);
    assert!(!again.status.success() && said(&again).contains("exists"), "{}", said(&again));

    let schema = Schema::new().await;
    for schema in [None, schema.as_ref()].into_iter().take(1 + usize::from(schema.is_some())) {
        let (data, _folder) = new_data(schema);
        let target = Workspace::open(&data).await.unwrap();
        let seen = async || {
            assert_eq!(target.db.tenants().list_tenants().await.unwrap(), []);
            changes_seen(&target.db).await
        };
        let before = seen().await;
        let whole = fs::read(&host).unwrap();
        let bad = |name: &str, bytes: &[u8]| {
            let path = exports.path(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        for end in [17, 60, 200, whole.len() / 2, whole.len() - 1] {
            let refused = exports.refused(&data, &bad("cut", &whole[..end]), &[]);
            assert!(refused.contains("cut off"), "{end}: {refused}");
        }
        for place in [60, 200, whole.len() / 2, whole.len() - 1] {
            let mut changed = whole.clone();
            changed[place] ^= 1;
            let refused = exports.refused(&data, &bad("changed", &changed), &[]);
            assert!(refused.contains("changed or damaged") || refused.contains("cut off"), "{place}: {refused}");
        }
        let mut newer = whole.clone();
        newer[16] += 1;
        assert!(exports.refused(&data, &bad("newer", &newer), &[]).contains("format 2"));
        assert!(exports.refused(&data, &bad("other", b"something else"), &[]).contains("no export"));
        assert!(exports.refused(&data, &exports.path("nothing"), &[]).contains("No such file"));
        assert!(exports.refused(&data, &host, &["--as", "other"]).contains("--as is for tenants"));
        let other_key = Exports::new();
        let refused = other_key.refused(&data, &host, &[]);
        assert!(refused.contains("sealed with key"), "{refused}");
        assert!(!refused.contains(fs::read_to_string(&other_key.key).unwrap().trim()), "{refused}");
        assert_eq!(seen().await, before, "nothing is changed");
        exports.import(&data, &tenant, &[]);
        assert!(exports.refused(&data, &host, &[]).contains("tenants or users"));
    }
    if let Some(schema) = schema {
        schema.drop().await;
    }
}

/// Imports the beginning of an export, and kills the import while it waits for the rest.
///
/// The export comes through a pipe, so the import stops where the bytes do, on a machine of any speed. It has handled all
/// of them but the last 8 KiB at most, its buffer.
#[expect(clippy::future_not_send, reason = "a test awaits it where it is")]
async fn kill_import_after(
    exports: &Exports,
    data: &DataDir,
    beginning: &[u8],
    is_being_changed: impl AsyncFn() -> bool,
) {
    let path = exports.path("pipe");
    _ = fs::remove_file(&path); // that of the import before
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let mut child = exports.prepare(data, "import", &path, &[]).spawn().unwrap();
    let feeding = async {
        let mut pipe = loop {
            match pipe::OpenOptions::new().open_sender(&path) {
                Ok(pipe) => break pipe,
                Err(_) => assert!(child.try_wait().unwrap().is_none(), "the import ends before it opens its file"),
            }
            tokio::task::yield_now().await;
        };
        pipe.write_all(beginning).await.unwrap();
        while ioctl_fionread(&pipe).unwrap() > 0 {
            assert!(child.try_wait().unwrap().is_none(), "the import ends before it has read what there is");
            tokio::task::yield_now().await;
        }
        pipe
    };
    let pipe = timeout(HANG_GUARD, feeding).await.expect("the import reads its file");
    assert!(is_being_changed().await, "the import is in the middle of its transaction");
    child.kill().unwrap();
    child.wait().unwrap();
    drop(pipe); // open until now, so that the import did not see an end
    // A server takes a moment to notice that its client is gone.
    let undone = async {
        while is_being_changed().await {
            tokio::task::yield_now().await;
        }
    };
    timeout(HANG_GUARD, undone).await.expect("the transaction ends with the import");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_killed_leaves_nothing() {
    let exports = Exports::new();
    let source = Installation::new();
    let from = DataDir::new(source.folder().to_owned());
    let workspace = Workspace::open(&from).await.unwrap();
    let acme = workspace.db.tenants().find_tenant(&"acme".parse().unwrap()).await.unwrap().unwrap().id;
    let record = |_| pqhost::db::invocations::InvocationRecord {
        id: InvocationId::generate(),
        tenant: acme,
        script: pqhost::domain::names::ScriptId(1),
        version: None,
        endpoint: pqhost::domain::names::EndpointId(1),
        method: "GET".to_owned(),
        path: "/".to_owned(),
        status: 200,
        code: None,
        started_at_ms: 0,
        duration_us: 0,
        fuel: 0,
        dirty_pages: 0,
        rows: 0,
        answer_bytes: 0,
        log: "x".repeat(1000),
        traceback: None,
        rerun: None,
        recording: None,
    };
    for _ in 0..3 {
        let batch: Vec<_> = (0..1000).map(record).collect();
        workspace.db.invocations().insert_batch(&batch, &[]).await.unwrap();
    }
    let file = exports.export(&from, "large", &["--with-log"]);
    let whole = fs::read(&file).unwrap();
    assert!(whole.len() > 3_000_000, "a beginning is much longer than what an import holds in its buffer");

    let schema = Schema::new().await;
    for schema in [None, schema.as_ref()].into_iter().take(1 + usize::from(schema.is_some())) {
        let (data, _folder) = new_data(schema);
        let target = Workspace::open(&data).await.unwrap();
        let before = changes_seen(&target.db).await;
        let is_being_changed = async || match schema {
            Some(schema) => schema.is_being_changed().await,
            None => is_file_being_changed(&data),
        };
        assert!(!is_being_changed().await);
        // With the first rows, in the middle, and when all rows are in: the last byte says that the export is whole.
        for n_bytes in [whole.len() / 50, whole.len() / 2, whole.len() - 1] {
            kill_import_after(&exports, &data, &whole[..n_bytes], is_being_changed).await;
            assert_eq!(changes_seen(&target.db).await, before, "{n_bytes} bytes");
            assert_eq!(target.db.tenants().list_tenants().await.unwrap(), [], "{n_bytes} bytes");
        }
        exports.import(&data, &file, &[]);
        let acme = target.db.tenants().find_tenant(&"acme".parse().unwrap()).await.unwrap().unwrap().id;
        assert_eq!(target.db.invocations().list(acme, Some(0), 1000).await.unwrap().len(), 1000);
    }
    if let Some(schema) = schema {
        schema.drop().await;
    }
}
