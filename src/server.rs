//! Listeners: accepting connections, speaking HTTP/1.1 and h2c, telling whether the host is ready, draining.
//!
//! Owns: limits of connections and header sections, the order of starting and of shutting down. Never: knows what a request
//! means.
//!
//! The listeners answer as soon as they are bound: while a host compiles its runtime, callers get `503` and the reason
//! instead of a refused connection.

mod connection;
mod tls;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    response::Response,
    routing::get,
};
use http::StatusCode;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};

use crate::{
    domain::{client::TrustedProxies, names::InvocationId, tls::TlsFiles},
    problem::Problem,
    server::{
        connection::{Answering, Side},
        tls::Tls,
    },
};

/// Connections of the control listener, at most. `control` bounds those that last, tails, to a quarter, so that probes and people get in.
const CONTROL_CONNECTIONS_MAX: usize = 1024;

/// Time for an answer to an operator, when its connection carries nothing else: a tail lasts. Whoever is gone is noticed all the same
/// ([`Settings::unread_time`]), and `control` ends what may no longer be seen.
const CONTROL_RESPONSE_TIME: Duration = Duration::from_secs(12 * 3600);

/// Pause after the kernel refuses to accept, for example because there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a listener allows its connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Callers' connections, at most. Further ones wait in the kernel's queue until one ends.
    pub connections: usize,
    /// Time for a request's header section, and for which an HTTP/1.1 connection may be idle between requests.
    pub header_time: Duration,
    /// A connection without any request for this long is closed; checked as often, so it may last twice as long. For HTTP/2,
    /// and for connections that never say what they speak; the header time ends an idle HTTP/1.1 connection.
    pub idle_time: Duration,
    /// Time for the answers that are still being sent when a connection is closed for being idle. Rows stream for at most
    /// 300 s.
    pub response_time: Duration,
    /// A connection whose peer takes none of what was sent for this long is broken off.
    pub unread_time: Duration,
    /// Proxies that say where a request comes from.
    pub trusted_proxies: TrustedProxies,
    /// The certificate that the listeners show; without one they speak no TLS.
    pub tls: Option<TlsFiles>,
}

impl Settings {
    /// The defaults, with as many connections as this process has file descriptors for: half of them, because databases and
    /// files need some too.
    #[must_use]
    pub fn of_this_process() -> Self {
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
        let connections = usize::try_from(files / 2).unwrap_or(usize::MAX).clamp(1, 10_000);
        Self { connections, ..Self::default() }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections: 10_000,
            header_time: Duration::from_secs(30),
            idle_time: Duration::from_secs(30),
            response_time: Duration::from_secs(300),
            unread_time: Duration::from_secs(60),
            trusted_proxies: TrustedProxies::default(),
            tls: None,
        }
    }
}

/// Two bound listeners.
#[derive(Debug)]
pub struct Bound {
    ingress: TcpListener,
    control: TcpListener,
    /// Where callers connect.
    pub ingress_addr: SocketAddr,
    /// Where operators connect.
    pub control_addr: SocketAddr,
}

/// Binds both listeners; port 0 picks a free one.
///
/// # Errors
/// If an address is in use or not this machine's; the error names it.
pub async fn bind(ingress: SocketAddr, control: SocketAddr) -> io::Result<Bound> {
    let listener = async |address: SocketAddr| {
        TcpListener::bind(address).await.map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))
    };
    let (ingress, control) = (listener(ingress).await?, listener(control).await?);
    let (ingress_addr, control_addr) = (ingress.local_addr()?, control.local_addr()?);
    Ok(Bound { ingress, control, ingress_addr, control_addr })
}

/// What a host does at the moment.
#[derive(Debug, Default)]
struct Phase {
    /// What answers callers; absent while the host starts.
    router: OnceLock<Router>,
    /// What answers operators beside health checks; absent while the host starts.
    operators: OnceLock<Router>,
    draining: AtomicBool,
}

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// All requests in flight were answered.
    Drained,
    /// Some were cut off, because the time was over or a second signal came.
    CutOff,
}

/// Listeners that answer.
#[derive(Debug)]
pub struct Server {
    /// Where callers connect.
    pub ingress_addr: SocketAddr,
    /// Where operators connect.
    pub control_addr: SocketAddr,
    phase: Arc<Phase>,
    ingress: Arc<Side>,
    control: Arc<Side>,
    accepting_callers: JoinHandle<()>,
    accepting_operators: JoinHandle<()>,
    /// Looks whether the certificate changes.
    looking: Option<JoinHandle<()>>,
}

impl Bound {
    /// Begins to answer: callers get `503` until [`Server::admit`], operators see the host's health.
    ///
    /// # Errors
    /// If the listeners cannot be set up, or the certificate cannot be used; the error names its file.
    pub fn open(self, settings: Settings) -> io::Result<Server> {
        let Self { ingress: callers, control: operators, ingress_addr, control_addr } = self;
        let phase = Arc::new(Phase::default());
        let milliseconds = u32::try_from(settings.unread_time.as_millis()).unwrap_or(u32::MAX);
        let connections = settings.connections.min(CONTROL_CONNECTIONS_MAX);
        let for_control = Settings { connections, response_time: CONTROL_RESPONSE_TIME, ..settings.clone() };
        let tls = settings.tls.clone().map(Tls::start).transpose()?;
        let (acceptor, looking) = tls.map(|Tls { acceptor, looking }| (acceptor, looking)).unzip();
        let ingress = Arc::new(Side::new(Answering::Callers(Arc::clone(&phase)), settings, acceptor.clone()));
        let control =
            Arc::new(Side::new(Answering::Operators(control_router(Arc::clone(&phase))), for_control, acceptor));
        for listener in [&callers, &operators] {
            // Accepted connections inherit it. It ends those that wait for a peer who does not read.
            rustix::net::sockopt::set_tcp_user_timeout(listener, milliseconds)?;
        }
        let accepting_callers = tokio::spawn(accept(callers, Arc::clone(&ingress)));
        let accepting_operators = tokio::spawn(accept(operators, Arc::clone(&control)));
        Ok(Server {
            ingress_addr,
            control_addr,
            phase,
            ingress,
            control,
            accepting_callers,
            accepting_operators,
            looking,
        })
    }
}

impl Server {
    /// From now on these routers answer callers and operators; until then they are told to come back later.
    pub fn admit(&self, callers: Router, operators: Router) {
        _ = self.phase.operators.set(operators); // one host admits them once
        _ = self.phase.router.set(callers);
    }

    /// Serves until SIGTERM or SIGINT, then refuses new connections and lets what is in flight finish for `drain`. A second
    /// signal ends at once. Operators are answered until the end.
    ///
    /// # Errors
    /// If signals cannot be received.
    pub async fn serve(self, drain: Duration) -> io::Result<Stopped> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut told_to_stop = async move || {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        };
        told_to_stop().await;

        tracing::info!("stopping: finishing what is in flight");
        self.phase.draining.store(true, Ordering::Relaxed);
        self.accepting_callers.abort();
        let stopped = tokio::select! {
            () = self.ingress.drain() => Stopped::Drained,
            () = tokio::time::sleep(drain) => {
                tracing::warn!(?drain, "some requests did not finish in time");
                Stopped::CutOff
            }
            () = told_to_stop() => {
                tracing::warn!("told twice to stop: not waiting for requests in flight");
                Stopped::CutOff
            }
        };
        Ok(stopped)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for task in [&self.accepting_callers, &self.accepting_operators].into_iter().chain(&self.looking) {
            task.abort();
        }
        for side in [&self.ingress, &self.control] {
            side.cut_off();
        }
    }
}

/// The control listener's paths: `/healthz`, the process is up; `/readyz`, it serves; everything else is for the control plane.
fn control_router(phase: Arc<Phase>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(show_readiness))
        .fallback(pass_on)
        .with_state(phase)
}

async fn pass_on(State(phase): State<Arc<Phase>>, request: Request) -> Response {
    match phase.operators.get() {
        Some(router) => match tower_service::Service::call(&mut router.clone(), request).await {
            Ok(response) => response,
            Err(never) => match never {},
        },
        None => Problem::host_starting().into_response(InvocationId::generate()),
    }
}

async fn show_readiness(State(phase): State<Arc<Phase>>) -> (StatusCode, &'static str) {
    if phase.draining.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else if phase.router.get().is_none() {
        (StatusCode::SERVICE_UNAVAILABLE, "starting\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
}

/// Accepts connections until aborted.
async fn accept(listener: TcpListener, side: Arc<Side>) {
    loop {
        let permit = side.permit().await;
        match listener.accept().await {
            Ok((stream, peer)) => side.spawn(stream, peer, permit),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
