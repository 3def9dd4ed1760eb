//! The control API as the command line uses it: of a host somewhere, or, without one, of a data directory in this process.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use anyhow::{Context as _, Result, bail};
use axum::{Router, body::Body};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::Value;

use crate::{
    app::{Guests, Host, Workspace},
    auth::people::Principal,
    cli::{kept_login::KeptLogin, output::Output, serve::compiling},
    config::{Config, DataDir, api_token_from_environment, trusted_authorities},
    control::{self, PREFIX},
    domain::{control_database::ServerDatabase, secret::Secret},
};

/// Where commands go to.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// A host's control listener.
    pub(super) url: Option<String>,
    /// A data directory, with which no host needs to run.
    pub(super) data: Option<PathBuf>,
    /// Its control database, if that is on a server.
    pub(super) database: Option<ServerDatabase>,
}

/// The data directory unless one is given.
const DEFAULT_DATA: &str = "./pqhost-data";

impl Target {
    /// The data directory, for commands that work on one and on nothing else.
    ///
    /// # Errors
    /// If another host is named, or logged in to, and no directory.
    pub(super) fn data_of(&self, command: &str) -> Result<DataDir> {
        let is_named = self.data.is_some() || self.database.is_some();
        let elsewhere = match &self.url {
            Some(url) => Some(format!("--url (PQHOST_URL) says {}", trimmed(url))),
            None if is_named => None,
            None => KeptLogin::read()?.map(|login| format!("you are logged in to {}", login.url)),
        };
        match elsewhere {
            None => Ok(self.data()),
            Some(elsewhere) => bail!(
                "`pqhost {command}` works on a data directory of this machine, but {elsewhere}: run it where that host keeps its data, with \
                 `--data DIR` and without `--url`"
            ),
        }
    }

    /// The data directory, for commands that serve it.
    pub(super) fn data(&self) -> DataDir {
        let path = self.data.clone().unwrap_or_else(|| DEFAULT_DATA.into());
        DataDir::new(path).with_server(self.database.clone())
    }
}

/// The way to take a data directory that is not there.
#[derive(Debug, Clone, Copy)]
enum IfMissing {
    Fail,
    Create,
}

/// Calls the control API.
pub(super) struct Client {
    transport: Transport,
}

enum Transport {
    /// In this process, as somebody who could change the files anyway.
    Local(Router),
    Remote {
        http: reqwest::Client,
        url: String,
        token: Option<Secret>,
    },
}

/// An answer whose body still comes.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    pieces: BoxStream<'static, Result<Bytes>>,
}

/// The API refused.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub(super) struct Refused {
    /// The problem's code.
    pub(super) code: String,
    detail: String,
    /// Of a script that was refused.
    pub(super) traceback: Option<String>,
}

/// Whether the API refused because there is no such thing.
pub(super) fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.code == "not_found")
}

impl Client {
    /// A client of what the flags say; without any, of the host that one has logged in to, else of the data directory, which must be there.
    pub(super) async fn new(target: &Target, output: Output) -> Result<Self> {
        Self::of(target, IfMissing::Fail, output).await
    }

    /// The same, where the data directory is made if there is none.
    pub(super) async fn new_or_first(target: &Target, output: Output) -> Result<Self> {
        Self::of(target, IfMissing::Create, output).await
    }

    async fn of(target: &Target, if_missing: IfMissing, output: Output) -> Result<Self> {
        let token = api_token_from_environment();
        let is_local = target.data.is_some() || target.database.is_some();
        match &target.url {
            Some(url) => {
                let kept = KeptLogin::read()?.filter(|login| login.url == trimmed(url));
                Self::remote(url, token.or_else(|| kept.map(|login| login.token.into())))
            }
            None if is_local => Self::local(target.data(), if_missing, output).await,
            None => match KeptLogin::read()? {
                Some(login) => {
                    output.progress(&format!("on {}, where you are logged in", login.url));
                    Self::remote(&login.url, Some(login.token.into()))
                }
                None => Self::local(target.data(), if_missing, output).await,
            },
        }
    }

    /// A client of a data directory. A host that runs with it sees changes at once.
    async fn local(data: DataDir, if_missing: IfMissing, output: Output) -> Result<Self> {
        let workspace = match if_missing {
            IfMissing::Fail => Workspace::open_existing(&data).await?,
            IfMissing::Create => Workspace::open(&data).await?,
        };
        let workspace = Arc::new(workspace);
        let for_guests = Arc::clone(&workspace);
        let started = OnceLock::new(); // keeps the guests' threads
        let start_publisher = Box::new(move || {
            let (guests, _) = Guests::start(&Config::new(data.clone()), &for_guests, || compiling(output))?;
            Ok(Arc::clone(&started.get_or_init(|| guests).publisher))
        });
        let parts = control::Parts::of_workspace(&workspace, start_publisher);
        Ok(Self { transport: Transport::Local(control::router(parts)) })
    }

    /// A client of a host in this process.
    pub(super) fn of_host(host: &Host) -> Self {
        Self { transport: Transport::Local(control::router(control::Parts::of_host(host))) }
    }

    /// A client of a host somewhere.
    pub(super) fn remote(url: &str, token: Option<Secret>) -> Result<Self> {
        let url = trimmed(url);
        if !url.starts_with("http://") && !url.starts_with("https://") {
            bail!("`{url}` is no address of a host: write for example http://127.0.0.1:8081");
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        _ = rustls::crypto::ring::default_provider().install_default(); // a host of this process may have done it
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("cannot set up TLS")?
            .with_root_certificates(trusted_roots()?)
            .with_no_client_auth();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("cannot set up HTTP")?;
        Ok(Self { transport: Transport::Remote { http, url: url.to_owned(), token } })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        self.send(Method::GET, path, None).await
    }

    /// What is no JSON.
    pub(super) async fn text(&self, path: &str) -> Result<String> {
        let Answer { status, pieces, .. } = self.open(Method::GET, path, None, None).await?;
        let text = collect(pieces).await?;
        if !status.is_success() {
            return Err(refusal(status, &text));
        }
        String::from_utf8(text).context("the answer is no text: is this the control address of a pqhost?")
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(Method::POST, path, Some(body)).await
    }

    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(Method::PUT, path, Some(body)).await
    }

    /// What is there, and the tag of its revision.
    pub(super) async fn get_tagged(&self, path: &str) -> Result<(Value, Option<HeaderValue>)> {
        self.exchange(Method::GET, path, None, None).await
    }

    /// Replaces what has this tag, if nobody else has replaced it meanwhile.
    pub(super) async fn replace(&self, path: &str, body: &Value, tag: Option<&HeaderValue>) -> Result<Value> {
        self.exchange(Method::PUT, path, Some(body), tag).await.map(|(value, _)| value)
    }

    pub(super) async fn patch(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(Method::PATCH, path, Some(body)).await
    }

    pub(super) async fn delete(&self, path: &str) -> Result<Value> {
        self.send(Method::DELETE, path, None).await
    }

    /// All entries of a list.
    pub(super) async fn list(&self, path: &str) -> Result<Vec<Value>> {
        let mut items = Vec::new();
        let path = format!("{path}{}limit=1000", if path.contains('?') { '&' } else { '?' });
        let mut next = path.clone();
        loop {
            let mut page = self.get(&next).await?;
            if let Value::Array(page) = page["items"].take() {
                items.extend(page);
            }
            match page["next_cursor"].as_str() {
                Some(cursor) => next = format!("{path}&cursor={cursor}"),
                None => return Ok(items),
            }
        }
    }

    /// Events of a stream, as JSON, until it ends.
    pub(super) async fn follow(&self, path: &str) -> Result<BoxStream<'static, Result<Value>>> {
        let Answer { status, pieces, .. } = self.open(Method::GET, path, None, None).await?;
        if !status.is_success() {
            return Err(refusal(status, &collect(pieces).await?));
        }
        let mut buffer = Vec::new();
        let events = pieces.map_ok(move |piece| {
            buffer.extend_from_slice(&piece);
            let mut events = Vec::new();
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                // One event has one line of data; ids and comments are of no interest here.
                events
                    .extend(line.strip_prefix(b"data: ").map(|data| serde_json::from_slice(data).map_err(Into::into)));
            }
            futures::stream::iter(events)
        });
        Ok(events.try_flatten().boxed())
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        self.exchange(method, path, body, None).await.map(|(value, _)| value)
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        tag: Option<&HeaderValue>,
    ) -> Result<(Value, Option<HeaderValue>)> {
        let Answer { status, headers, pieces } = self.open(method, path, body, tag).await?;
        let text = collect(pieces).await?;
        if !status.is_success() {
            return Err(refusal(status, &text));
        }
        let value = match text.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&text)
                .context("the answer is no JSON: is this the control address of a pqhost?")?,
        };
        Ok((value, headers.get(header::ETAG).cloned()))
    }

    async fn open(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        tag: Option<&HeaderValue>,
    ) -> Result<Answer> {
        let body = body.map(Value::to_string);
        match &self.transport {
            Transport::Local(router) => {
                let request =
                    Request::builder().method(method).uri(format!("{PREFIX}{path}")).extension(Principal::Local);
                let mut request = request.header(header::CONTENT_TYPE, "application/json");
                if let Some(tag) = tag {
                    request = request.header(header::IF_MATCH, tag);
                }
                let request = request.body(body.map_or_else(Body::empty, Body::from))?;
                let answer = tower_service::Service::call(&mut router.clone(), request).await;
                let response = answer.unwrap_or_else(|never| match never {});
                let (parts, body) = response.into_parts();
                let pieces = body.into_data_stream().map_err(Into::into).boxed();
                Ok(Answer { status: parts.status, headers: parts.headers, pieces })
            }
            Transport::Remote { http, url, token } => {
                let mut request = http.request(method, format!("{url}{PREFIX}{path}"));
                if let Some(token) = token {
                    request = request.bearer_auth(token.expose_str()?);
                }
                if let Some(body) = body {
                    request = request.header(header::CONTENT_TYPE, "application/json").body(body);
                }
                if let Some(tag) = tag {
                    request = request.header(header::IF_MATCH, tag);
                }
                let mut response = request.send().await.with_context(|| format!("cannot reach {url}"))?;
                let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
                Ok(Answer { status, headers, pieces: response.bytes_stream().map_err(Into::into).boxed() })
            }
        }
    }
}

fn trimmed(url: &str) -> &str {
    url.trim_end_matches('/')
}

async fn collect(pieces: BoxStream<'static, Result<Bytes>>) -> Result<Vec<u8>> {
    pieces
        .try_fold(Vec::new(), async |mut all, piece| {
            all.extend_from_slice(&piece);
            Ok(all)
        })
        .await
}

fn refusal(status: StatusCode, body: &[u8]) -> anyhow::Error {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |field: &str| problem[field].as_str().map(str::to_owned);
    match text("code").zip(text("detail")) {
        Some((code, _)) if code == "unauthenticated" => {
            anyhow::anyhow!("no valid credential: run `pqhost login URL`, or set PQHOST_TOKEN")
        }
        Some((code, detail)) => Refused { code, detail, traceback: text("traceback") }.into(),
        None => anyhow::anyhow!("the host answered {status}: is this its control address?"),
    }
}

/// A path of the API from its segments, which may hold anything.
pub(super) fn path(segments: &[&str]) -> String {
    /// What stands in names and addresses, and needs no escape.
    const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'@');
    segments.iter().map(|segment| format!("/{}", utf8_percent_encode(segment, ESCAPED))).collect()
}

/// [`path`] below a tenant.
pub(super) fn in_tenant(tenant: &crate::domain::names::TenantName, segments: &[&str]) -> String {
    path(&["tenants", tenant.as_str()]) + &path(segments)
}

/// The public authorities, and those that the environment names.
fn trusted_roots() -> Result<rustls::RootCertStore> {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let Some(file) = trusted_authorities() else { return Ok(roots) };
    let certificates = CertificateDer::pem_file_iter(&file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let named = || format!("cannot use SSL_CERT_FILE, `{}`", file.display());
    for certificate in certificates.with_context(named)? {
        roots.add(certificate).with_context(named)?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn what_somebody_else_has_changed_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let client = Client::local(DataDir::new(folder.path().to_owned()), IfMissing::Create, Output { json: false })
            .await
            .unwrap();
        client.post("/tenants", &json!({ "name": "acme" })).await.unwrap();
        client.post("/tenants/acme/scripts", &json!({ "name": "hello" })).await.unwrap();
        let path = "/tenants/acme/scripts/hello/draft";
        let files = |text: &str| json!({ "files": [{ "name": "handler.py", "text": text }] });
        let (_, tag) = client.get_tagged(path).await.unwrap();
        assert!(tag.is_some());
        client.replace(path, &files("first"), tag.as_ref()).await.unwrap();
        let error = client.replace(path, &files("second"), tag.as_ref()).await.unwrap_err();
        assert_eq!(error.downcast_ref::<Refused>().unwrap().code, "changed_meanwhile");
        assert_eq!(client.get(path).await.unwrap()["files"][0]["text"], "first");
    }
}
