//! The program as operators run it: starting, stopping, being killed.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    control_database::on_each_installation,
    support::{Answer, HANG_GUARD, client, share_cache},
};

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
        std::thread::sleep(time); // the moment of the murder, not a wait for anything
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
        let mut child = self.command(&arguments).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let urls: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let url = |name: &str| urls[name].as_str().unwrap().to_owned();
        Serving { child, ingress: url("ingress"), control: url("control") }
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

/// Resolves when so many statements that contain `marker` run.
async fn until_running(marker: &str, count: i64) {
    let mut database = PgConnection::connect(POSTGRES).await.unwrap();
    let sql =
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE $1";
    let running = async {
        while sqlx::query_scalar::<_, i64>(sql).bind(format!("%{marker}%")).fetch_one(&mut database).await.unwrap()
            < count
        {}
    };
    tokio::time::timeout(HANG_GUARD, running).await.expect("the statements run");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_what_is_in_flight_finish_and_refuses_the_rest() {
    let place = Installation::new();
    let marker = format!("drain_{}", std::process::id());
    place.run(&["connection", "create", "acme", "pg", POSTGRES]);
    place.publish("quick", "def handler(request): return 'quick'");
    place.publish(
        "slow",
        &format!(
            "def handler(request):\n    list(pq.dbconnect('pg').fetch('pg', query='SELECT pg_sleep(4)::text AS s /* {marker} */'))\n    return ['done']"
        ),
    );
    place.publish(
        "rows",
        "def handler(request):\n    return pq.dbconnect('pg').fetch('pg', query='SELECT i, pg_sleep(0.02)::text AS s FROM generate_series(1, 200) i')",
    );
    let mut host = place.serve(&[]);
    assert_eq!(host.readiness().await, (200, "ok\n".to_owned()));

    let mut idle = TcpStream::connect(host.address()).await.unwrap();
    idle.write_all(b"GET /acme/quick HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&buffer).contains("quick") {
        assert!(idle.read(&mut buffer).await.unwrap() > 0);
    }
    let rows = client().get(format!("{}/acme/rows", host.ingress)).send().await.unwrap();
    let clients = [client(), reqwest::Client::builder().http2_prior_knowledge().build().unwrap()];
    let slow: Vec<_> = clients
        .iter()
        .map(|client| tokio::spawn(Answer::of(client.get(format!("{}/acme/slow", host.ingress)))))
        .collect();
    until_running(&marker, 2).await;

    host.signal();
    assert_eq!(idle.read(&mut buffer).await.unwrap(), 0, "an idle connection is closed");
    host.until_draining().await;
    let refused = async { while TcpStream::connect(host.address()).await.is_ok() {} };
    tokio::time::timeout(HANG_GUARD, refused).await.expect("new connections are refused");
    assert!(slow.iter().all(|answer| !answer.is_finished()), "all this takes place while requests are in flight");
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
    let marker = format!("twice_{}", std::process::id());
    place.run(&["connection", "create", "acme", "pg", POSTGRES]);
    place.publish(
        "slow",
        &format!(
            "import time\ndef handler(request):\n    list(pq.dbconnect('pg').fetch('pg', query='SELECT pg_sleep(1)::text AS s /* {marker} */'))\n    time.sleep(250)"
        ),
    );
    let mut host = place.serve(&["--deadline", "300s"]);
    let url = format!("{}/acme/slow", host.ingress);
    let request = tokio::spawn(async move { reqwest::get(url).await });
    until_running(&marker, 1).await;
    host.signal();
    host.until_draining().await;
    host.signal();
    let told = Instant::now();
    assert_eq!(host.ended().await.code(), Some(0));
    assert!(told.elapsed() < Duration::from_secs(20), "{:?}", told.elapsed());
    assert!(request.await.unwrap().is_err(), "its connection is broken off");
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

/// Publishes and creates with one process per step; every second step is killed at another moment.
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
            std::thread::sleep(Duration::from_millis(230 * life)); // the moment of the murder
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
