//! Somebody outside who signs tokens, and a server of keys that does what servers do.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use jsonwebtoken::Algorithm;
use p256::pkcs8::EncodePrivateKey as _;
use rsa::{pkcs1::EncodeRsaPrivateKey as _, rand_core::OsRng, traits::PublicKeyParts as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
};

use super::*;

pub(super) const OUTSIDE: &str = "https://login.example.com/";

/// Somebody outside who signs tokens.
pub(super) struct Signer {
    pub(super) algorithm: Algorithm,
    pub(super) key: EncodingKey,
    pub(super) jwk: Value,
}

impl Signer {
    pub(super) fn new(algorithm: Algorithm, kid: &str) -> Self {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (key, mut jwk) = match algorithm {
            Algorithm::ES256 => {
                let secret = p256::SecretKey::random(&mut OsRng);
                let point = p256::EncodedPoint::from(secret.public_key());
                let (x, y) = (encode(point.x().unwrap()), encode(point.y().unwrap()));
                let key = EncodingKey::from_ec_der(secret.to_pkcs8_der().unwrap().as_bytes());
                (key, json!({"kty": "EC", "crv": "P-256", "x": x, "y": y}))
            }
            Algorithm::ES384 => {
                let secret = p384::SecretKey::random(&mut OsRng);
                let point = p384::EncodedPoint::from(secret.public_key());
                let (x, y) = (encode(point.x().unwrap()), encode(point.y().unwrap()));
                let key = EncodingKey::from_ec_der(secret.to_pkcs8_der().unwrap().as_bytes());
                (key, json!({"kty": "EC", "crv": "P-384", "x": x, "y": y}))
            }
            Algorithm::EdDSA => {
                let made = keys::generate(KeyAlgorithm::EdDsa).unwrap();
                let key = EncodingKey::from_ed_der(&made.private);
                (key, json!({"kty": "OKP", "crv": "Ed25519", "x": encode(&made.public.unwrap())}))
            }
            _ => {
                let secret = rsa::RsaPrivateKey::new(&mut OsRng, 2048).unwrap();
                let (n, e) = (encode(&secret.n().to_bytes_be()), encode(&secret.e().to_bytes_be()));
                let key = EncodingKey::from_rsa_der(secret.to_pkcs1_der().unwrap().as_bytes());
                (key, json!({"kty": "RSA", "n": n, "e": e}))
            }
        };
        jwk["kid"] = json!(kid);
        Self { algorithm, key, jwk }
    }

    pub(super) fn jwk(&self, member: &str, value: Value) -> Value {
        let mut jwk = self.jwk.clone();
        match value {
            Value::Null => drop(jwk.as_object_mut().unwrap().remove(member)),
            value => jwk[member] = value,
        }
        jwk
    }

    pub(super) fn sign(&self, claims: &Value) -> String {
        let mut header = jsonwebtoken::Header::new(self.algorithm);
        header.kid = self.jwk["kid"].as_str().map(str::to_owned);
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }

    pub(super) fn token(&self) -> String {
        self.sign(&claims())
    }
}

pub(super) fn claims() -> Value {
    json!({"iss": OUTSIDE, "aud": ["orders", "other"], "sub": "ada", "exp": now_ms() / 1000 + 600})
}

/// What a server of keys does with a request.
#[derive(Clone)]
pub(super) enum Doing {
    Publishing(Vec<Value>),
    Sending(&'static str, String),
    Endless,
    Dripping,
    Silent,
    HangingUp,
    /// Publishes once it is told to.
    Waiting(watch::Receiver<bool>, Vec<Value>),
}

/// A server of keys; runs until it is dropped.
pub(super) struct KeyServer {
    pub(super) address: SocketAddr,
    doing: Arc<Mutex<Doing>>,
    asked: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl KeyServer {
    pub(super) async fn start(doing: Doing) -> Self {
        Self::start_with(doing, None).await
    }

    /// With TLS, if there is a configuration for it.
    pub(super) async fn start_with(doing: Doing, tls: Option<rustls::ServerConfig>) -> Self {
        let acceptor = tls.map(|tls| tokio_rustls::TlsAcceptor::from(Arc::new(tls)));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (doing, asked) = (Arc::new(Mutex::new(doing)), Arc::new(AtomicUsize::new(0)));
        let (does, counter) = (Arc::clone(&doing), Arc::clone(&asked));
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, does, counter) = (acceptor.clone(), Arc::clone(&does), Arc::clone(&counter));
                tokio::spawn(async move {
                    match acceptor {
                        Some(acceptor) => answer(acceptor.accept(stream).await.ok()?, does, counter).await,
                        None => answer(stream, does, counter).await,
                    }
                });
            }
        });
        Self { address, doing, asked, serving }
    }

    pub(super) fn now(&self, doing: Doing) {
        *self.doing.lock().unwrap() = doing;
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/keys", self.address)
    }
}

/// Answers requests of a connection until one side hangs up.
async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    doing: Arc<Mutex<Doing>>,
    asked: Arc<AtomicUsize>,
) -> Option<()> {
    loop {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut request).await.ok()? == 0 {
                return None;
            }
        }
        assert!(request.starts_with(b"GET /keys HTTP/1.1\r\n"), "{}", String::from_utf8_lossy(&request));
        asked.fetch_add(1, Ordering::SeqCst);
        let now = doing.lock().unwrap().clone();
        let (head, body) = match now {
            Doing::Publishing(keys) => ("200 OK", json!({ "keys": keys }).to_string()),
            Doing::Waiting(mut told, keys) => {
                told.wait_for(|told| *told).await.ok()?;
                ("200 OK", json!({ "keys": keys }).to_string())
            }
            Doing::Sending(head, body) => (head, body),
            Doing::HangingUp => return None,
            Doing::Silent => std::future::pending().await,
            Doing::Endless => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.ok()?;
                let piece = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
                loop {
                    stream.write_all(piece.as_bytes()).await.ok()?;
                }
            }
            Doing::Dripping => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await.ok()?;
                loop {
                    stream.write_all(b" ").await.ok()?;
                    tokio::time::sleep(Duration::from_millis(20)).await; // the pace of the attack: half an hour in all
                }
            }
        };
        let head = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.ok()?;
        stream.write_all(body.as_bytes()).await.ok()?;
    }
}
