//! Outbound HTTP: of scripts, and of the host for keys of tenants' issuers.
//!
//! Owns: allow-lists and address rules as they are applied to a request, connections, limits of size and time. Never: follows
//! redirects, keeps cookies, uses a proxy, decodes bodies, counts the requests of an invocation (see `invoke`).
//! Invariant: a connection is made to an address that `address` has judged, and to no other.

mod address;
mod connect;
mod connection;
mod prepare;
mod resolver;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    error::Error,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::TryFutureExt as _;
use ipnet::IpNet;
use reqwest::{Client, redirect};
use tokio::time::{Instant, timeout_at};
use url::{Host, Url};

pub use crate::egress::connection::HttpConnection;
use crate::{
    domain::{
        egress::AllowRule,
        http::{HttpError, HttpErrorCode, HttpRequest, HttpResponse},
        limits::HttpLimits,
        names::TenantId,
    },
    egress::{
        connect::{CONNECT_TIME, CONNECT_TIME_MAX, ConnectTimeLayer, ConnectTimedOut},
        resolver::{AddressRefused, CheckedResolver},
    },
};

/// Tenants whose connections are kept; those that called out longest ago lose theirs first.
const TENANTS_MAX: u64 = 1_000;

/// A tenant that has not called out for this long has no connections.
const TENANT_IDLE: Duration = Duration::from_secs(300);

/// How long an unused connection is kept. Common servers close theirs after a minute.
const CONNECTION_IDLE: Duration = Duration::from_secs(30);

/// Unused connections to one server.
const IDLE_PER_SERVER: usize = 4;

/// Servers that a tenant keeps connections to: with a `*.` rule, a script could otherwise collect any number.
const SERVERS_PER_TENANT: usize = 64;

/// Sends scripts' requests.
#[derive(Debug)]
pub struct Egress {
    listed: Arc<[IpNet]>,
    tls: rustls::ClientConfig,
    tenants: moka::sync::Cache<TenantId, Arc<TenantClient>>,
}

/// The connections of one tenant: what one tenant does to a connection, another must not meet.
#[derive(Debug)]
struct TenantClient {
    client: Client,
    servers: Mutex<HashSet<String>>,
}

impl Egress {
    /// Without connections. Addresses in `listed` may be reached although they are not public.
    #[must_use]
    pub fn new(listed: Vec<IpNet>) -> Self {
        Self::with_roots(listed, rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })
    }

    /// The same, with other authorities than the public ones.
    pub(crate) fn with_roots(listed: Vec<IpNet>, roots: rustls::RootCertStore) -> Self {
        // One provider for the process: HTTP clients ask for it even when, as here, they are given their TLS settings.
        _ = rustls::crypto::ring::default_provider().install_default(); // an earlier host of this process has done it
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has cipher suites for TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tenants = moka::sync::Cache::builder().max_capacity(TENANTS_MAX).time_to_idle(TENANT_IDLE).build();
        Self { listed: listed.into(), tls, tenants }
    }

    /// Whether a URL's host is a literal address that the operator has listed: what is there is as safe as the operator's network.
    #[must_use]
    pub fn lists_host_of(&self, url: &Url) -> bool {
        let address: IpAddr = match url.host() {
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
            Some(Host::Domain(_)) | None => return false,
        };
        self.listed.iter().any(|network| network.contains(&address))
    }

    /// Sends a request if `allowed` permits, and reads its response until `until` at the latest.
    ///
    /// Dropping the returned future closes the connection.
    ///
    /// # Errors
    /// See [`HttpErrorCode`].
    pub async fn send(
        &self,
        tenant: TenantId,
        allowed: &[AllowRule],
        request: HttpRequest,
        limits: &HttpLimits,
        until: std::time::Instant,
    ) -> Result<HttpResponse, HttpError> {
        let url = prepare::target(&request.url, allowed, &self.listed)?;
        let method = prepare::method(&request.method)?;
        let headers = prepare::headers(&request.headers, limits)?;
        prepare::check_body(&request, limits)?;
        let connect_time = request.connect_timeout.unwrap_or(CONNECT_TIME_MAX).min(CONNECT_TIME_MAX);
        let read_time = request.read_timeout.unwrap_or(limits.time);
        let until = Instant::from_std(until).min(Instant::now() + limits.time);

        let server = shown_server(&url);
        let client = self.client(tenant, &server)?;
        let sending = client.request(method, url).headers(headers).body(request.body).send();
        let sending = CONNECT_TIME.scope(connect_time, sending);
        // Connecting has a limit of its own within this.
        let first_byte = until.min(Instant::now() + connect_time + read_time);
        let response = timeout_at(first_byte, sending).await.map_err(|_| read_timeout(&server))?;
        let response = response.map_err(|error| explain(&error, &server))?;
        read(response, limits, read_time, until, &server).await
    }

    /// Sends a request to a tenant's HTTP connection, with its credentials.
    ///
    /// # Errors
    /// As [`send`](Self::send), and if the request's URL leads out of the connection's.
    pub async fn call(
        &self,
        tenant: TenantId,
        connection: &HttpConnection,
        request: HttpRequest,
        limits: &HttpLimits,
        until: std::time::Instant,
    ) -> Result<HttpResponse, HttpError> {
        let (rule, request) = (connection.rule()?, connection.aim(request)?);
        self.send(tenant, &[rule], request, limits, until).await
    }

    /// The tenant's client; a new one without connections if the old one has seen too many servers.
    fn client(&self, tenant: TenantId, server: &str) -> Result<Client, HttpError> {
        if let Some(known) = self.tenants.get(&tenant) {
            let mut servers = known.servers.lock().unwrap_or_else(PoisonError::into_inner);
            if servers.contains(server) || servers.len() < SERVERS_PER_TENANT {
                servers.insert(server.to_owned());
                return Ok(known.client.clone());
            }
        }
        let client = Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .dns_resolver(CheckedResolver::new(Arc::clone(&self.listed)))
            .connector_layer(ConnectTimeLayer)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .http1_only()
            .pool_idle_timeout(CONNECTION_IDLE)
            .pool_max_idle_per_host(IDLE_PER_SERVER)
            .build()
            .map_err(|error| {
                tracing::error!(%error, "no HTTP client can be made");
                HttpError::new(HttpErrorCode::ConnectFailed, "outbound HTTP is not available right now")
            })?;
        let servers = Mutex::new(HashSet::from([server.to_owned()]));
        self.tenants.insert(tenant, Arc::new(TenantClient { client: client.clone(), servers }));
        Ok(client)
    }
}

/// Scheme, host and port of a URL: what messages may show.
fn shown_server(url: &Url) -> String {
    AllowRule::of_url(url).map_or_else(|_| String::new(), |rule| rule.to_string())
}

/// Reads a response to its end, which an endless one does not have.
async fn read(
    mut response: reqwest::Response,
    limits: &HttpLimits,
    read_time: Duration,
    until: Instant,
    server: &str,
) -> Result<HttpResponse, HttpError> {
    let too_large = || {
        let message = format!("the response of `{server}` is larger than {} bytes", limits.response_bytes);
        HttpError::new(HttpErrorCode::ResponseTooLarge, message)
    };
    if response.content_length().is_some_and(|announced| announced > limits.response_bytes as u64) {
        return Err(too_large());
    }
    let status = response.status();
    let reason = response.extensions().get::<hyper::ext::ReasonPhrase>();
    let reason = match reason {
        Some(reason) => reason.as_bytes().iter().copied().map(char::from).collect(),
        None => status.canonical_reason().unwrap_or_default().to_owned(),
    };
    let headers = prepare::response_fields(response.headers(), limits)?;
    let mut body = Vec::new();
    loop {
        let next = timeout_at(until.min(Instant::now() + read_time), response.chunk().map_err(|e| explain(&e, server)));
        let Some(chunk) = next.await.map_err(|_| read_timeout(server))?? else { break };
        if body.len() + chunk.len() > limits.response_bytes {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(HttpResponse { status: status.as_u16(), reason, headers, body })
}

fn read_timeout(server: &str) -> HttpError {
    HttpError::new(HttpErrorCode::ReadTimeout, format!("`{server}` did not answer in time"))
}

/// The TLS error in an I/O error. Its layers wrap one another without naming each other as the source.
fn tls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    let inner = error.get_ref()?;
    inner.downcast_ref().or_else(|| tls_error(inner.downcast_ref()?))
}

/// What a failure of the HTTP client means for the author. Addresses, which may be internal, stay out of it.
fn explain(error: &reqwest::Error, server: &str) -> HttpError {
    let mut tls = None;
    let mut kind = None;
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<AddressRefused>() {
            let message = format!("`{server}` resolves to addresses that scripts may not call");
            return HttpError::new(HttpErrorCode::NotAllowed, message);
        }
        if error.is::<ConnectTimedOut>() {
            let message = format!("no connection to `{server}` in time");
            return HttpError::new(HttpErrorCode::ConnectTimeout, message);
        }
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            kind = Some(error.kind());
            tls = tls.or(tls_error(error));
        }
        tls = tls.or(error.downcast_ref::<rustls::Error>());
        cause = error.source();
    }
    if let Some(tls) = tls {
        return HttpError::new(HttpErrorCode::TlsFailed, format!("TLS with `{server}` failed: {tls}"));
    }
    let reason = kind.map_or_else(String::new, |kind| format!(": {kind}"));
    if error.is_connect() {
        return HttpError::new(HttpErrorCode::ConnectFailed, format!("no connection to `{server}`{reason}"));
    }
    HttpError::new(HttpErrorCode::ConnectionBroken, format!("the connection to `{server}` broke{reason}"))
}
