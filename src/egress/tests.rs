use std::{net::Ipv4Addr, time::Instant};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

/// A certificate for `localhost` that only this test trusts, and its key.
const LOCALHOST: &[u8] = include_bytes!("tests/localhost.pem");

/// A TLS server that answers one request on each connection; its port.
async fn tls_server() -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(LOCALHOST).unwrap()],
            PrivateKeyDer::from_pem_slice(LOCALHOST).unwrap(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            _ = stream.read(&mut request).await;
            _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
        }
    });
    port
}

async fn get(egress: &Egress, url: String) -> Result<HttpResponse, HttpError> {
    let allowed = [AllowRule::of_url(&Url::parse(&url).unwrap()).unwrap()];
    let request = HttpRequest { method: "GET".to_owned(), url, ..HttpRequest::default() };
    let until = Instant::now() + Duration::from_secs(60);
    egress.send(TenantId(1), &allowed, request, &HttpLimits::default(), until).await
}

#[tokio::test]
async fn only_trusted_certificates_of_the_right_name_are_accepted() {
    let port = tls_server().await;
    let loopback: Vec<IpNet> = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(LOCALHOST).unwrap()).unwrap();
    let trusting = Egress::with_roots(loopback.clone(), roots);
    let response = get(&trusting, format!("https://localhost:{port}/")).await.unwrap();
    assert_eq!((response.status, response.reason.as_str(), response.body.as_slice()), (200, "OK", &b"hi"[..]));
    for (egress, host) in [(&trusting, "127.0.0.1"), (&Egress::new(loopback), "localhost")] {
        let error = get(egress, format!("https://{host}:{port}/")).await.unwrap_err();
        assert_eq!(error.code, HttpErrorCode::TlsFailed, "{host}: {error}");
    }
    // Speaking plain HTTP to a TLS port is a broken connection, not a response.
    let error = get(&trusting, format!("http://localhost:{port}/")).await.unwrap_err();
    assert_eq!(error.code, HttpErrorCode::ConnectionBroken, "{error}");
}

#[tokio::test]
async fn a_tenant_keeps_connections_to_a_bounded_number_of_servers() {
    let egress = Egress::new(Vec::new());
    for n in 0..1_000 {
        egress.client(TenantId(1), &format!("{n}.example.com")).unwrap();
        let known = egress.tenants.get(&TenantId(1)).unwrap();
        assert!(known.servers.lock().unwrap().len() <= SERVERS_PER_TENANT);
    }
}
