//! A server that scripts call: well-behaved on some paths, hostile on others.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// The key of RFC 7515, appendix A.2.
const RSA_MODULUS: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";

/// Runs until it is dropped.
pub(crate) struct Upstream {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream));
            }
        });
        Self { address, connections, serving }
    }

    /// Connections that were made so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

struct Request {
    method: String,
    target: String,
    headers: BTreeMap<String, String>,
    body: String,
}

async fn serve(mut stream: TcpStream) {
    // A peer that goes away ends this.
    while let Some(request) = read(&mut stream).await {
        if answer(&mut stream, request).await.is_none() {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
    let mut lines = text.split("\r\n");
    let mut first = lines.next().unwrap().split(' ');
    let (method, target) = (first.next().unwrap().to_owned(), first.next().unwrap().to_owned());
    let headers: BTreeMap<_, _> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    while bytes.len() < head + 4 + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8_lossy(&bytes[head + 4..]).into_owned();
    Some(Request { method, target, headers, body })
}

/// Sends a response with a body.
async fn reply(stream: &mut TcpStream, head: &str, body: &[u8]) -> Option<()> {
    let head = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(body).await.ok()
}

/// Answers; `None` if the connection is over.
async fn answer(stream: &mut TcpStream, request: Request) -> Option<()> {
    let Request { method, target, headers, body } = &request;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match parts[..] {
        ["echo", ..] => {
            let echo = json!({"method": method, "target": target, "headers": headers, "body": body}).to_string();
            let fields = "content-type: application/json\r\nset-cookie: seen=1; Path=/\r\nx-twice: a\r\nx-twice: b";
            if method == "HEAD" {
                let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\ncontent-length: {}\r\n\r\n", echo.len());
                return stream.write_all(head.as_bytes()).await.ok();
            }
            reply(stream, &format!("200 OK\r\n{fields}"), echo.as_bytes()).await
        }
        ["status", status] => reply(stream, &format!("{status} Some Reason"), b"oops").await,
        ["redirect"] => reply(stream, &format!("302 Found\r\nlocation: {query}"), b"").await,
        ["loop"] => reply(stream, "302 Found\r\nlocation: /loop", b"").await,
        ["jwks"] => {
            let key = json!({"kid": "k1", "use": "sig", "alg": "RS256", "kty": "RSA", "e": "AQAB", "n": RSA_MODULUS});
            reply(stream, "200 OK", json!({"keys": [key]}).to_string().as_bytes()).await
        }
        ["latin"] => {
            let answer =
                b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nx-name: caf\xe9\r\ncontent-length: 4\r\n\r\ncaf\xe9";
            stream.write_all(answer).await.ok()
        }
        ["given", hex] => reply(stream, "200 OK", &hex::decode(hex).unwrap()).await,
        ["mirror"] => reply(stream, "200 OK\r\ncontent-encoding: gzip", &hex::decode(body).unwrap()).await,
        ["v1", ..] => {
            let (status, answer) = api(&request, parts[1..].join("/").as_str(), query);
            reply(stream, status, answer.to_string().as_bytes()).await
        }
        [hostile] => misbehave(stream, hostile).await,
        _ => None,
    }
}

/// An API that wants a token.
fn api(request: &Request, path: &str, query: &str) -> (&'static str, Value) {
    let authorized = request.headers.get("authorization").is_some_and(|value| value == "Bearer hunter2");
    match (authorized, path) {
        (false, _) => ("401 Unauthorized", json!({"error": "who are you"})),
        (true, "contacts") if request.method == "GET" => ("200 OK", json!([{"id": 1, "query": query}, {"id": 2}])),
        (true, "contacts/7") => ("200 OK", json!({"id": 7, "name": "Ada"})),
        (true, "contacts/404") => ("404 Not Found", json!({"error": "no such contact"})),
        (true, rest) => ("200 OK", json!({"method": request.method, "path": rest, "body": request.body})),
    }
}

/// What a server may do and should not. Any other path hangs up.
async fn misbehave(stream: &mut TcpStream, how: &str) -> Option<()> {
    match how {
        "endless" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.ok()?;
            let piece = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            loop {
                stream.write_all(piece.as_bytes()).await.ok()?;
            }
        }
        "announced" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n").await.ok()?;
            std::future::pending().await
        }
        "dripping" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await.ok()?;
            loop {
                stream.write_all(b"x").await.ok()?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        "headers" => {
            let fields: String = (0..200).map(|n| format!("\r\nx-{n}: y")).collect();
            reply(stream, &format!("200 OK{fields}"), b"").await
        }
        "garbage" => {
            stream.write_all(b"\x16\x03\x01 no http\r\n\r\n").await.ok()?;
            None
        }
        "silent" => std::future::pending().await,
        _ => None,
    }
}
