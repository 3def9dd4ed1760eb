//! The program as operators run it: starting, stopping, being killed.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use pqhost::{
    app::Workspace,
    config::DataDir,
    domain::names::{ScriptId, TenantId},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    control_database::on_each_installation,
    support::{Answer, HANG_GUARD, client, share_cache},
};

/// The logs of hosts, in their data directories.
const LOG: &str = "host.log";

pub(crate) const POSTGRES: &str = "postgres://postgres@127.0.0.1:5432/test";

/// A data directory.
pub(crate) struct Installation {
    folder: tempfile::TempDir,
    /// The URL of its control database, if that is on a server.
    database: Option<String>,
}

impl Installation {
    /// With the tenant `acme`.
    pub(crate) fn new() -> Self {
        Self::with_acme(None)
    }

    /// The same with its control database on a server.
    pub(crate) fn on(database: &str) -> Self {
        Self::with_acme(Some(database.to_owned()))
    }

    fn with_acme(database: Option<String>) -> Self {
        _ = rustls::crypto::ring::default_provider().install_default(); // another test may have done it
        let installation = Self::empty(database);
        share_cache(installation.folder());
        installation.run(&["tenant", "create", "acme"]);
        installation
    }

    /// Without anything.
    pub(crate) fn empty(database: Option<String>) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), database }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pqhost"));
        command.arg("--data").arg(self.folder()).arg("--json").args(arguments);
        command.envs(self.database.iter().map(|url| ("PQHOST_DATABASE", url)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Value {
        let output = self.command(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(&text).unwrap()
    }

    /// Runs a command and kills it after `time`. Returns what it acknowledged, if it came that far.
    fn run_and_kill(&self, arguments: &[&str], time: Duration) -> Option<Value> {
        let mut child = self.command(arguments).spawn().unwrap();
        std::thread::sleep(time); // any moment will do: before it begins, in the middle, after its end
        child.kill().unwrap();
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        child.wait().unwrap();
        serde_json::from_str(&text).ok()
    }

    fn script(&self, name: &str, source: &str) -> String {
        let file = self.folder().join(format!("{name}.py"));
        std::fs::write(&file, source).unwrap();
        format!("{name}={}", file.display())
    }

    /// Publishes a script and makes a public endpoint of its name.
    pub(crate) fn publish(&self, name: &str, source: &str) {
        self.run(&["script", "publish", "acme", &self.script(name, source)]);
        self.run(&["endpoint", "create", "acme", "ANY", &format!("/{name}"), name, "--auth", "public"]);
    }

    fn serve(&self, arguments: &[&str]) -> Serving {
        self.serve_at("127.0.0.1:0", arguments)
    }

    /// With a control address of its own.
    pub(crate) fn serve_at(&self, control: &str, arguments: &[&str]) -> Serving {
        let arguments = [&["serve", "--ingress", "127.0.0.1:0", "--control", control], arguments].concat();
        let log = File::options().create(true).append(true).open(self.folder().join(LOG)).unwrap();
        let mut child = self.command(&arguments).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let urls: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let url = |name: &str| urls[name].as_str().unwrap().to_owned();
        Serving { child, ingress: url("ingress"), control: url("control") }
    }
}

/// A script `held` whose handler runs from when its state is `runs` until it is `go on`, on a machine of any speed.
struct Held {
    workspace: Workspace,
    script: (TenantId, ScriptId),
}

const HELD: &str = "
import time
def handler(request):
    pq.set_state('runs')
    while pq.get_state() != 'go on': time.sleep(0.05)
    return ['done']
";

impl Held {
    async fn publish(place: &Installation) -> Self {
        place.publish("held", HELD);
        let workspace = Workspace::open(&DataDir::new(place.folder().to_owned())).await.unwrap();
        let tenant = workspace.db.tenants().find_tenant(&"acme".parse().unwrap()).await.unwrap().unwrap().id;
        let script = workspace.db.scripts().find_script(tenant, &"held".parse().unwrap()).await.unwrap().unwrap().id;
        Self { workspace, script: (tenant, script) }
    }

    /// Resolves when it runs. It may be made to run once more then.
    async fn until_running(&self) {
        let (tenant, script) = self.script;
        let state = self.workspace.db.state();
        let running = async { while state.find_state(tenant, script).await.unwrap().is_none() {} };
        tokio::time::timeout(HANG_GUARD, running).await.expect("the handler runs");
        state.set_state(tenant, script, None).await.unwrap();
    }

    async fn let_go(&self) {
        let (tenant, script) = self.script;
        self.workspace.db.state().set_state(tenant, script, Some("\"go on\"")).await.unwrap();
    }
}

/// A host in a process of its own, killed in the end.
pub(crate) struct Serving {
    child: Child,
    pub(crate) ingress: String,
    pub(crate) control: String,
}

impl Drop for Serving {
    fn drop(&mut self) {
        _ = self.child.kill(); // it may have ended
        _ = self.child.wait();
    }
}

impl Serving {
    fn signal(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    async fn ended(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < HANG_GUARD, "the host does not end");
            tokio::task::yield_now().await;
        }
    }

    async fn readiness(&self) -> (u16, String) {
        let answer = Answer::of(client().get(format!("{}/readyz", self.control))).await;
        (answer.status, answer.body)
    }

    async fn until_draining(&self) {
        let draining = async { while self.readiness().await != (503, "draining\n".to_owned()) {} };
        tokio::time::timeout(HANG_GUARD, draining).await.unwrap();
    }

    fn address(&self) -> &str {
        self.ingress.strip_prefix("http://").unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_what_is_in_flight_finish_and_refuses_the_rest() {
    let place = Installation::new();
    place.run(&["connection", "create", "acme", "pg", POSTGRES]);
    place.publish("quick", "def handler(request): return 'quick'");
    let held = Held::publish(&place).await;
    place.publish(
        "rows",
        "def handler(request):\n    return pq.dbconnect('pg').fetch('pg', query='SELECT i, pg_sleep(0.02)::text AS s FROM generate_series(1, 200) i')",
    );
    let mut host = place.serve(&["--deadline", "120s"]);
    assert_eq!(host.readiness().await, (200, "ok\n".to_owned()));

    let mut idle = TcpStream::connect(host.address()).await.unwrap();
    idle.write_all(b"GET /acme/quick HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&buffer).contains("quick") {
        assert!(idle.read(&mut buffer).await.unwrap() > 0);
    }
    let rows = client().get(format!("{}/acme/rows", host.ingress)).send().await.unwrap();
    let clients = [client(), reqwest::Client::builder().http2_prior_knowledge().build().unwrap()];
    let mut slow = Vec::new();
    for client in &clients {
        slow.push(tokio::spawn(Answer::of(client.get(format!("{}/acme/held", host.ingress)))));
        held.until_running().await;
    }

    host.signal();
    assert_eq!(idle.read(&mut buffer).await.unwrap(), 0, "an idle connection is closed");
    host.until_draining().await;
    let refused = async { while TcpStream::connect(host.address()).await.is_ok() {} };
    tokio::time::timeout(HANG_GUARD, refused).await.expect("new connections are refused");
    assert!(slow.iter().all(|answer| !answer.is_finished()), "all this takes place while requests are in flight");
    held.let_go().await;
    for answer in slow {
        let answer = answer.await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "[\"done\"]"));
    }
    let mut text = Vec::new();
    let mut pieces = rows.bytes_stream();
    while let Some(piece) = pieces.next().await {
        text.extend(piece.unwrap());
    }
    assert_eq!(serde_json::from_slice::<Vec<Value>>(&text).unwrap().len(), 200);
    assert_eq!(host.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once() {
    let place = Installation::new();
    let held = Held::publish(&place).await;
    let mut host = place.serve(&["--deadline", "300s"]);
    let url = format!("{}/acme/held", host.ingress);
    let request = tokio::spawn(async move { reqwest::get(url).await });
    held.until_running().await;
    host.signal();
    host.until_draining().await;
    host.signal();
    assert_eq!(host.ended().await.code(), Some(0));
    assert!(request.await.unwrap().is_err(), "its connection is broken off");
    let log = std::fs::read_to_string(place.folder().join(LOG)).unwrap();
    let why = ["told twice to stop", "did not finish in time"].map(|reason| log.contains(reason));
    assert_eq!(why, [true, false], "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_answers_while_it_compiles_the_runtime() {
    let place = Installation::empty(None); // without the cache of the other tests
    let ports = [(); 2].map(|()| {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() // free again, and nobody's so soon
    });
    let [ingress, control] = ports.map(|address| address.to_string());
    let child = place.command(&["serve", "--ingress", &ingress, "--control", &control]).spawn().unwrap();
    let host = Serving { child, ingress: format!("http://{ingress}"), control: format!("http://{control}") };
    let listening = async { while TcpStream::connect(host.address()).await.is_err() {} };
    tokio::time::timeout(HANG_GUARD, listening).await.unwrap();
    assert_eq!(host.readiness().await, (503, "starting\n".to_owned()));
    let answer = Answer::of(client().get(format!("{}/acme/x", host.ingress))).await;
    assert_eq!(answer.problem(), (503, "host_starting".to_owned()));
}

/// What a writer was told is done.
#[derive(Default)]
struct Acknowledged {
    /// Script and its version.
    versions: Vec<(String, i64)>,
    endpoints: Vec<String>,
    tokens: Vec<String>,
    revoked: Vec<String>,
}

/// Publishes and creates with one process per step, each of which is killed at another moment. Every second step is done
/// again unless it was done.
fn write(place: &Installation, writer: usize) -> Acknowledged {
    let mut done = Acknowledged::default();
    for step in 0..4 {
        let name = format!("s{writer}x{step}");
        let file = place.script(&name, &format!("def handler(request): return '{name}'"));
        let publish = ["script", "publish", "acme", file.as_str()];
        let mut published = place.run_and_kill(&publish, Duration::from_millis(40 + 110 * (writer + 2 * step) as u64));
        if step % 2 == 1 && published.is_none() {
            published = Some(place.run(&publish));
        }
        let Some(published) = published else { continue };
        done.versions.push((name.clone(), published["version"].as_i64().unwrap()));
        let route = format!("/{name}");
        place.run(&["endpoint", "create", "acme", "GET", &route, &name]);
        done.endpoints.push(route);
        let token = place.run(&["token", "create", "acme"]);
        let text = token["token"].as_str().unwrap().to_owned();
        if step % 2 == 0 {
            place.run(&["token", "revoke", "acme", token["id"].as_str().unwrap()]);
            done.revoked.push(text);
        } else {
            done.tokens.push(text);
        }
    }
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_9() {
    on_each_installation(survives_kill_9).await;
}

async fn survives_kill_9(place: &Installation) {
    place.publish("first", "def handler(request): return 'first'");
    let done: Vec<Acknowledged> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2).map(|writer| scope.spawn(move || write(place, writer))).collect();
        // Hosts are killed meanwhile, each in the middle of requests.
        for life in 1..4 {
            let mut host = place.serve(&[]);
            let busy = scope.spawn({
                let url = format!("{}/acme/first", host.ingress);
                move || while curl(&url).is_some() {}
            });
            std::thread::sleep(Duration::from_millis(230 * life)); // any moment will do, while it answers requests
            host.child.kill().unwrap();
            busy.join().unwrap();
        }
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });

    let host = place.serve(&[]);
    let client = client();
    let get = async |path: &str, token: &str| {
        Answer::of(client.get(format!("{}/acme{path}", host.ingress)).bearer_auth(token)).await
    };
    let valid = done.iter().flat_map(|done| &done.tokens).next().unwrap();
    for Acknowledged { versions, endpoints, tokens, revoked } in &done {
        assert!(!versions.is_empty() && !tokens.is_empty());
        for ((name, version), route) in versions.iter().zip(endpoints) {
            let answer = get(route, valid).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, name.as_str()));
            assert_eq!(answer.headers["x-script-version"], version.to_string().as_str());
        }
        for token in tokens {
            assert_eq!(get(&endpoints[0], token).await.status, 200);
        }
        for token in revoked {
            assert_eq!(get(&endpoints[0], token).await.status, 401);
        }
    }
    // Versions that nobody acknowledged are there in full or not at all.
    for script in place.run(&["script", "list", "acme"]).as_array().unwrap() {
        let name = script["name"].as_str().unwrap();
        if script["version"].is_null() {
            continue;
        }
        let route = format!("/all/{name}");
        place.run(&["endpoint", "create", "acme", "GET", &route, name]);
        let served = async { while get(&route, valid).await.status == 404 {} };
        tokio::time::timeout(HANG_GUARD, served).await.expect("the host sees the new endpoint");
        let answer = get(&route, valid).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, name));
    }
}

/// The status line of an answer; `None` if the host is gone.
fn curl(url: &str) -> Option<String> {
    use std::io::Write as _;
    let (address, path) = url.strip_prefix("http://")?.split_once('/')?;
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    write!(stream, "GET /{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    (!line.is_empty()).then_some(line)
}
