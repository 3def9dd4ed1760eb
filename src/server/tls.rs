//! TLS of the listeners: the certificate and its key, from files that are read anew when they change.
//!
//! Owns: reading the files, and which certificate a handshake gets. Never: looks at the certificates of clients.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{task::JoinHandle, time::interval};
use tokio_rustls::TlsAcceptor;

use crate::domain::tls::TlsFiles;

/// Pause between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The TLS of the listeners.
pub(super) struct Tls {
    pub(super) acceptor: TlsAcceptor,
    /// Looks at the files until it is aborted.
    pub(super) looking: JoinHandle<()>,
}

impl Tls {
    /// Reads the files, and begins to look whether they change.
    ///
    /// # Errors
    /// If a file cannot be read or used; the error names it.
    pub(super) fn start(files: TlsFiles) -> io::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let seen = Seen::of(&files);
        let shown = Arc::new(Shown(RwLock::new(Arc::new(read(&files, &provider)?))));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let looking = tokio::spawn(look(files, seen, shown, provider));
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), looking })
    }
}

/// The certificate that handshakes get now.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Device, inode, size, and time of the last change in seconds and nanoseconds.
type Stamp = (u64, u64, u64, i64, i64);

/// The files as they were when they were last looked at; `None` for one that was not there.
#[derive(Debug, PartialEq, Eq)]
struct Seen([Option<Stamp>; 2]);

impl Seen {
    fn of(files: &TlsFiles) -> Self {
        let seen = |path: &Path| {
            let file = fs::metadata(path).ok()?;
            Some((file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
        };
        Self([&files.certificate, &files.key].map(|path| seen(path)))
    }
}

/// Takes a new certificate when the files have changed. One that cannot be used changes nothing: the files may be half written.
async fn look(files: TlsFiles, mut seen: Seen, shown: Arc<Shown>, provider: Arc<CryptoProvider>) {
    let mut ticks = interval(LOOK_EVERY);
    loop {
        ticks.tick().await;
        let (looked_at, used) = (files.clone(), Arc::clone(&provider));
        let looking = move || {
            let now = Seen::of(&looked_at);
            (now != seen).then(|| read(&looked_at, &used)).map_or((seen, None), |result| (now, Some(result)))
        };
        let Ok((now, result)) = tokio::task::spawn_blocking(looking).await else { return }; // the host stops
        seen = now;
        match result {
            Some(Ok(key)) => {
                *shown.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
                tracing::info!(certificate = %files.certificate.display(), "took a new certificate");
            }
            Some(Err(error)) => tracing::warn!(%error, "kept the certificate that was read before"),
            None => {}
        }
    }
}

fn read(files: &TlsFiles, provider: &CryptoProvider) -> io::Result<CertifiedKey> {
    let unusable = |path: &Path, problem: &dyn std::fmt::Display| {
        io::Error::new(ErrorKind::InvalidData, format!("`{}`: {problem}", path.display()))
    };
    let TlsFiles { certificate, key } = files;
    let certificates = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = certificates.map_err(|error| unusable(certificate, &error))?;
    if certificates.is_empty() {
        return Err(unusable(certificate, &"there is no certificate in it"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
    CertifiedKey::from_der(certificates, private, provider).map_err(|error| unusable(key, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCALHOST: &str = include_str!("../egress/tests/localhost.pem");

    #[test]
    fn unusable_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let provider = rustls::crypto::ring::default_provider();
        let (good, empty, prose) =
            (folder.path().join("good"), folder.path().join("empty"), folder.path().join("prose"));
        let other = folder.path().join("other");
        fs::write(&good, LOCALHOST).unwrap();
        fs::write(&empty, "").unwrap();
        fs::write(&prose, "-----BEGIN CERTIFICATE-----\nhello\n-----END CERTIFICATE-----\n").unwrap();
        fs::write(&other, include_str!("tests/other.pem")).unwrap();
        let none = folder.path().join("none");
        let result = |certificate: &Path, key: &Path| {
            read(&TlsFiles { certificate: certificate.to_owned(), key: key.to_owned() }, &provider)
        };
        assert!(result(&good, &good).is_ok());
        for (certificate, key, named) in [
            (&none, &good, &none),
            (&empty, &good, &empty),
            (&prose, &good, &prose),
            (&good, &none, &none),
            (&good, &empty, &empty),
            (&good, &other, &other),
        ] {
            let error = result(certificate, key).unwrap_err().to_string();
            assert!(error.contains(&named.display().to_string()), "{error}");
        }
    }
}
