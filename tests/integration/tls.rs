//! TLS of the listeners, and the URLs that callers see behind a proxy or without one.

use std::{fs, path::Path, process::Command, sync::Arc};

use pqhost::{
    auth::people::People,
    domain::{secret::Secret, tls::TlsFiles},
};
use reqwest::{Client, Version};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{HANG_GUARD, TestApp};

/// Certificates for `localhost`, each with its key.
const FIRST: &str = include_str!("../../src/egress/tests/localhost.pem");
const SECOND: &str = include_str!("../../src/server/tests/other.pem");

/// Files in a folder of the test's own.
fn files(folder: &Path, certificate: &str) -> TlsFiles {
    let files = TlsFiles { certificate: folder.join("cert.pem"), key: folder.join("key.pem") };
    fs::write(&files.key, certificate).unwrap();
    fs::write(&files.certificate, certificate).unwrap();
    files
}

/// A client that trusts one certificate, each of whose requests makes a connection.
fn trusting(certificate: &str, alpn: &[&[u8]]) -> Client {
    _ = rustls::crypto::ring::default_provider().install_default(); // another test may have done it
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut tls = builder.with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Client::builder().tls_backend_preconfigured(tls).timeout(HANG_GUARD).pool_max_idle_per_host(0).build().unwrap()
}

/// The same address by the name that the certificates are for.
fn named(url: &str) -> String {
    url.replace("127.0.0.1", "localhost")
}

#[tokio::test]
async fn both_listeners_speak_tls_and_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let tls = files(folder.path(), FIRST);
    let app = TestApp::with(|config| config.tls = Some(tls)).await;
    let acme = app.acme().await;
    app.serve(&acme, "url", "def handler(request): return request['url']").await;
    let url = named(&app.url);
    for (alpn, version) in
        [(&[&b"h2"[..], b"http/1.1"][..], Version::HTTP_2), (&[b"http/1.1"], Version::HTTP_11), (&[], Version::HTTP_11)]
    {
        let answer = trusting(FIRST, alpn).get(format!("{url}/acme/url?a=1")).send().await.unwrap();
        assert_eq!(answer.version(), version, "{alpn:?}");
        assert_eq!(answer.text().await.unwrap(), format!("{url}/acme/url?a=1"));
    }
    let client = trusting(FIRST, &[]);
    assert_eq!(client.get(format!("{}/readyz", named(&app.control_url))).send().await.unwrap().status(), 200);
    assert!(trusting(SECOND, &[]).get(&url).send().await.is_err(), "another certificate was believed");
    // Without TLS, there is no answer.
    for address in [&app.url, &app.control_url] {
        let mut stream = TcpStream::connect(address.trim_start_matches("https://")).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        _ = stream.read_to_end(&mut answer).await; // an error is the end, too
        assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_new_certificate_is_taken_and_an_unusable_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let tls = files(folder.path(), FIRST);
    let app = TestApp::with(|config| config.tls = Some(tls.clone())).await;
    let url = format!("{}/readyz", named(&app.control_url));
    let taken = async |certificate: &str| {
        let client = trusting(certificate, &[]);
        let asking = async {
            while client.get(&url).send().await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(HANG_GUARD, asking).await.unwrap();
    };
    taken(FIRST).await;
    // A key that is not the certificate's: until the right one is there, the first certificate is shown.
    fs::write(&tls.certificate, SECOND).unwrap();
    taken(FIRST).await;
    fs::write(&tls.key, SECOND).unwrap();
    taken(SECOND).await;
    fs::remove_file(&tls.key).unwrap();
    fs::write(&tls.certificate, "nothing").unwrap();
    taken(SECOND).await;
    files(folder.path(), FIRST);
    taken(FIRST).await;
}

#[tokio::test]
async fn a_host_whose_certificate_cannot_be_used_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let TlsFiles { certificate, key } = files(folder.path(), FIRST);
    let other = folder.path().join("other.pem");
    fs::write(&other, SECOND).unwrap();
    let (certificate, key, other) = (certificate.to_str().unwrap(), key.to_str().unwrap(), other.to_str().unwrap());
    for (arguments, said) in [
        (&["--tls-cert", certificate, "--tls-key", "none.pem"][..], "`none.pem`"),
        (&["--tls-cert", "none.pem", "--tls-key", key], "`none.pem`"),
        (&["--tls-cert", certificate, "--tls-key", other], other),
        (&["--tls-cert", certificate], "--tls-key"),
        (&["--tls-key", key], "--tls-cert"),
        (&["--public-url", "api.example.com"], "`api.example.com`"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pqhost"));
        let done = command
            .args(["--data", "data", "serve", "--ingress", "127.0.0.1:0", "--control", "127.0.0.1:0"])
            .args(arguments)
            .current_dir(folder.path())
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && errors.contains(said), "{arguments:?}: {errors}");
    }
    assert!(!folder.path().join("data").exists(), "a host that did not start has left its directory");
}

#[tokio::test]
async fn urls_are_those_that_callers_write() {
    let script = "def handler(request): return request['url']";
    let proxied = |config: &mut pqhost::config::Config| {
        config.trusted_proxies.networks = vec!["127.0.0.0/8".parse().unwrap()];
    };
    let app = TestApp::with(proxied).await;
    app.serve(&app.acme().await, "url", script).await;
    let request = app.client.get(format!("{}/acme/url", app.url)).header("x-forwarded-proto", "https");
    let seen = request.header("host", "api.example.com").send().await.unwrap().text().await.unwrap();
    assert_eq!(seen, "https://api.example.com/acme/url");

    let app = TestApp::with(|config| config.public_url = Some("https://example.com/api/".parse().unwrap())).await;
    let acme = app.acme().await;
    app.serve(&acme, "url", script).await;
    let request = app.client.get(format!("{}/acme/url?a=%20b", app.url)).header("x-forwarded-proto", "http");
    let seen = request.header("host", "api.example.com").send().await.unwrap().text().await.unwrap();
    assert_eq!(seen, "https://example.com/api/acme/url?a=%20b");
}

/// A browser never sends a session's cookie without TLS once it was begun with TLS.
#[tokio::test]
async fn cookies_of_sessions_are_secure_where_the_caller_speaks_tls() {
    let folder = tempfile::tempdir().unwrap();
    let tls = files(folder.path(), FIRST);
    let direct = TestApp::with(|config| config.tls = Some(tls)).await;
    let proxied = TestApp::with(|config| config.trusted_proxies.networks = vec!["127.0.0.0/8".parse().unwrap()]).await;
    let plain = TestApp::new().await;
    for app in [&direct, &proxied, &plain] {
        let hash = People::new(app.workspace.db.clone())
            .hash_password(Secret::from("correct horse battery".to_owned()))
            .await
            .unwrap();
        app.workspace.db.users().create_user(&"olga@acme.example".parse().unwrap(), &hash).await.unwrap();
    }
    for (app, said, is_secure) in [
        (&direct, None, true),
        (&proxied, Some("https"), true),
        (&proxied, Some("http"), false),
        (&proxied, None, false),
        (&plain, Some("https"), false),
    ] {
        let body = json!({"email": "olga@acme.example", "password": "correct horse battery", "cookie": true});
        let client = trusting(FIRST, &[]);
        let mut request = client.post(format!("{}/api/v1/session", named(&app.control_url))).json(&body);
        if let Some(said) = said {
            request = request.header("x-forwarded-proto", said);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 201, "{said:?}");
        let cookie = answer.headers()["set-cookie"].to_str().unwrap();
        assert_eq!(cookie.split("; ").any(|attribute| attribute == "Secure"), is_secure, "{said:?}: {cookie}");
    }
}
