//! The listeners' limits, without any handler behind them.

use std::time::{Duration, Instant};

use axum::{Router, body::Body, routing::get};
use pqhost::server::{self, Settings};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};

use crate::support::{Answer, HANG_GUARD, client};

const BRIEF: Duration = Duration::from_millis(300);

struct Listening {
    address: std::net::SocketAddr,
    serving: Option<JoinHandle<()>>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

fn routes() -> Router {
    Router::new()
        .route("/", get(async || "hello"))
        .route("/large", get(async || Body::from(vec![b'x'; 64 << 20])))
        .route("/panic", get(async || -> &str { panic!("a test's") }))
}

async fn open(settings: Settings) -> server::Server {
    let loopback = ([127, 0, 0, 1], 0).into();
    server::bind(loopback, loopback).await.unwrap().open(settings).unwrap()
}

async fn listen(change: impl FnOnce(&mut Settings)) -> Listening {
    let mut settings = Settings::default();
    change(&mut settings);
    let server = open(settings).await;
    let address = server.ingress_addr;
    server.admit(routes(), Router::new());
    let serving = Some(tokio::spawn(async move { _ = server.serve(HANG_GUARD).await.unwrap() }));
    Listening { address, serving }
}

impl Listening {
    /// Sends bytes and reads until the host closes; says what came and how long that took, connecting included.
    async fn exchange(&self, bytes: &[u8]) -> (String, Duration) {
        let started = Instant::now();
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        _ = tokio::time::timeout(HANG_GUARD, stream.read_to_end(&mut answer)).await.expect("the host closes"); // or resets
        (String::from_utf8_lossy(&answer).into_owned(), started.elapsed())
    }

    async fn assert_serves(&self) {
        let answer = reqwest::get(format!("http://{}/", self.address)).await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "hello");
    }
}

#[tokio::test]
async fn slow_and_silent_connections_are_closed() {
    let host = listen(|settings| {
        settings.header_time = BRIEF;
        settings.idle_time = BRIEF;
        settings.response_time = BRIEF;
    })
    .await;
    let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for (what, bytes, answer) in [
        ("silent", &b""[..], ""),
        ("might become HTTP/2", b"PRI * HT", ""),
        ("headers do not end", b"GET / HTTP/1.1\r\nhost: x\r\nx-a:", ""),
        ("idle between requests", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 200"),
        ("idle HTTP/2", http2, "\0\0"),
    ] {
        let (found, time) = host.exchange(bytes).await;
        assert!(found.starts_with(answer) && answer.is_empty() == found.is_empty(), "{what}: {found}");
        assert!(time >= BRIEF, "{what}: {time:?}");
    }
    host.assert_serves().await;
}

#[tokio::test]
async fn headers_arriving_one_by_one_do_not_prolong_their_time() {
    let host = listen(|settings| settings.header_time = BRIEF).await;
    let started = Instant::now();
    let mut stream = TcpStream::connect(host.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let mut n_sent = 0;
    while stream.write_all(b"x: y\r\n").await.is_ok() {
        // The host's timer runs in this thread too, so it is over after some ten of these pauses whatever they take.
        n_sent += 1;
        assert!(n_sent < 50, "the host closes, and not for the number of fields");
        tokio::time::sleep(BRIEF / 10).await; // the pace of the attack, not a wait
    }
    assert!(started.elapsed() >= BRIEF, "{:?}", started.elapsed());
}

#[tokio::test]
async fn header_sections_have_a_limit() {
    let host = listen(|_| ()).await;
    for (headers, status) in [
        ("x: y\r\n".repeat(99), "200"),
        ("x: y\r\n".repeat(100), "431"),
        (format!("x: {}\r\n", "y".repeat(30_000)), "200"),
        (format!("x: {}\r\n", "y".repeat(40_000)), "431"),
    ] {
        let request = format!("GET / HTTP/1.1\r\nhost: x\r\n{headers}connection: close\r\n\r\n");
        let request = if headers.len() == 594 { request.replace("connection: close\r\n", "") } else { request };
        let mut stream = TcpStream::connect(host.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, format!("HTTP/1.1 {status}").as_bytes(), "{} bytes", headers.len());
    }
}

async fn http2(host: &Listening) -> h2::client::SendRequest<bytes::Bytes> {
    let stream = TcpStream::connect(host.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

fn get_root(headers: usize, bytes: usize) -> http::Request<()> {
    let mut request = http::Request::get("http://x/").body(()).unwrap();
    for _ in 0..headers {
        request.headers_mut().append("x", "y".repeat(bytes).parse().unwrap());
    }
    request
}

#[tokio::test]
async fn header_sections_of_http2_have_the_same_limit() {
    let host = listen(|_| ()).await;
    let mut client = http2(&host).await;
    for (headers, bytes, status) in [(100, 1, 200), (101, 1, 431), (1, 30_000, 200), (2, 20_000, 431), (1, 1, 200)] {
        let (answer, _) = client.send_request(get_root(headers, bytes), true).unwrap();
        assert_eq!(answer.await.unwrap().status(), status, "{headers} fields of {bytes} bytes");
    }
}

#[tokio::test]
async fn http2_allows_so_many_requests_at_once() {
    let host = listen(|_| ()).await;
    let mut client = http2(&host).await;
    client.send_request(get_root(0, 0), true).unwrap().0.await.unwrap(); // by now the host's settings are here
    assert_eq!(client.current_max_send_streams(), 128);
}

#[tokio::test]
async fn a_rapid_reset_ends_the_connection_and_nothing_else() {
    // It is for nothing else that the connection is closed while anybody waits for that.
    let host = listen(|settings| {
        settings.header_time = 10 * HANG_GUARD;
        settings.idle_time = 10 * HANG_GUARD;
        settings.response_time = 10 * HANG_GUARD;
    })
    .await;
    // Requests and their cancellations in one piece, so that all arrive before any of them is looked at.
    let mut flood = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for stream in (1..2001_u32).step_by(2) {
        // GET, http, /, and an authority of one letter.
        let block = [0x82, 0x86, 0x84, 0x41, 0x01, b'x'];
        flood.extend([0, 0, 6, 1, 5]); // as long as the block, HEADERS, END_HEADERS | END_STREAM
        flood.extend(stream.to_be_bytes());
        flood.extend(block);
        flood.extend([0, 0, 4, 3, 0]);
        flood.extend(stream.to_be_bytes());
        flood.extend([0, 0, 0, 8]);
    }
    let mut stream = TcpStream::connect(host.address).await.unwrap();
    _ = stream.write_all(&flood).await; // the host may close before all is sent
    let mut answer = Vec::new();
    _ = tokio::time::timeout(HANG_GUARD, stream.read_to_end(&mut answer)).await.expect("the host closes"); // or resets
    host.assert_serves().await;
}

#[tokio::test]
async fn connections_above_the_limit_wait_for_one_to_end() {
    let host = listen(|settings| settings.connections = 2).await;
    let mut connected = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(host.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        connected.push(stream);
    }
    let mut byte = [0];
    for stream in &mut connected[..2] {
        stream.read_exact(&mut byte).await.unwrap();
    }
    let third = connected.pop().unwrap();
    let mut third = tokio::spawn(async move {
        let (mut third, mut byte) = (third, [0]);
        third.read_exact(&mut byte).await.unwrap();
    });
    assert!(tokio::time::timeout(BRIEF, &mut third).await.is_err(), "it waits, however long this machine takes");
    drop(connected.pop());
    tokio::time::timeout(HANG_GUARD, third).await.expect("now it is served").unwrap();
}

#[tokio::test]
async fn a_peer_who_does_not_read_is_broken_off() {
    let host = listen(|settings| {
        settings.connections = 1;
        settings.unread_time = BRIEF;
    })
    .await;
    let mut stream = TcpStream::connect(host.address).await.unwrap();
    stream.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    // The only place becomes free again although nobody reads the 64 MiB.
    tokio::time::timeout(HANG_GUARD, host.assert_serves()).await.expect("the host gives up");
    let mut answer = Vec::new();
    assert!(stream.read_to_end(&mut answer).await.is_err() && answer.len() < 64 << 20, "{}", answer.len());
}

#[tokio::test]
async fn a_stream_lasts_for_operators_and_has_a_limit_for_callers() {
    let ticks = || {
        let tick = |()| async {
            tokio::time::sleep(BRIEF / 10).await; // the pace of the stream
            Some((Ok::<_, std::io::Error>("tick"), ()))
        };
        get(async move || Body::from_stream(futures::stream::unfold((), tick)))
    };
    let server = open(Settings { idle_time: BRIEF, response_time: BRIEF, ..Settings::default() }).await;
    let (callers, operators) = (server.ingress_addr, server.control_addr);
    server.admit(Router::new().route("/ticks", ticks()), Router::new().route("/ticks", ticks()));
    let open = async |address| reqwest::get(format!("http://{address}/ticks")).await.unwrap();
    let (mut callers, mut operators) = (open(callers).await, open(operators).await);
    let cut = async { while callers.chunk().await.is_ok() {} };
    tokio::time::timeout(HANG_GUARD, cut).await.expect("a caller's stream is broken off");
    // Time for it to be broken off too. A machine that is slow hears fewer ticks of it.
    let until = Instant::now() + 5 * BRIEF;
    while Instant::now() < until {
        operators.chunk().await.expect("an operator's goes on");
    }
}

#[tokio::test]
async fn a_panic_is_one_requests_only() {
    let host = listen(|_| ()).await;
    let client = client();
    let answer = Answer::of(client.get(format!("http://{}/panic", host.address))).await;
    assert_eq!(answer.problem(), (500, "host_error".to_owned()));
    host.assert_serves().await;
}

#[tokio::test]
async fn a_host_that_starts_says_so() {
    let server = open(Settings::default()).await;
    let (url, control) = (format!("http://{}/", server.ingress_addr), format!("http://{}", server.control_addr));
    let client = client();
    let answer = Answer::of(client.get(&url)).await;
    assert_eq!(answer.problem(), (503, "host_starting".to_owned()));
    assert_eq!(answer.headers["retry-after"], "1");
    let starting = Answer::of(client.get(format!("{control}/readyz"))).await;
    assert_eq!((starting.status, starting.body.as_str()), (503, "starting\n"));
    assert_eq!(Answer::of(client.get(format!("{control}/healthz"))).await.status, 200);

    server.admit(routes(), Router::new());
    assert_eq!(Answer::of(client.get(format!("{control}/readyz"))).await.status, 200);
    assert_eq!(Answer::of(client.get(&url)).await.body, "hello");
}
