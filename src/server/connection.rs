//! One connection: its protocol, its limits, its end.

use std::{
    convert::Infallible,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, response::Response};
use futures::FutureExt as _;
use http::Request;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    domain::{
        client::{ClientAddress, Scheme},
        names::InvocationId,
    },
    problem::{Problem, RequestError},
    server::{Phase, Settings},
};

/// Header section of a request with its URL, in bytes; more is answered with 431.
const HEADER_BYTES_MAX: u32 = 32 << 10;

/// Header fields of a request; more is answered with 431.
const HEADERS_MAX: usize = 100;

/// Requests at once on one h2c connection.
const STREAMS_MAX: u32 = 128;

/// Requests on one h2c connection that were taken back before anybody looked at them; more is an attack ("rapid reset"), and
/// ends the connection. Browsers and proxies take back a few at a time.
const STREAMS_RESET_MAX: usize = 20;

/// Requests on one h2c connection that were malformed; each costs little, but nobody's client sends hundreds.
const STREAMS_BROKEN_MAX: usize = 128;

/// What answers requests of a listener.
#[derive(Debug)]
pub(super) enum Answering {
    Callers(Arc<Phase>),
    Operators(Router),
}

/// A listener's connections.
pub(super) struct Side {
    answering: Answering,
    tls: Option<TlsAcceptor>,
    settings: Settings,
    builder: Builder<TokioExecutor>,
    permits: Arc<Semaphore>,
    running: TaskTracker,
    /// Connections are to end once their requests are answered.
    stopping: CancellationToken,
    /// Connections are to end now.
    ending: CancellationToken,
}

/// The end of a connection, from where the host sees it.
#[derive(Debug, Clone, Copy)]
struct Peer {
    address: SocketAddr,
    scheme: Scheme,
}

impl std::fmt::Debug for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Side")
            .field("answering", &self.answering)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Side {
    pub(super) fn new(answering: Answering, settings: Settings, tls: Option<TlsAcceptor>) -> Self {
        Self {
            answering,
            tls,
            builder: builder(settings.header_time),
            permits: Arc::new(Semaphore::new(settings.connections)),
            settings,
            running: TaskTracker::new(),
            stopping: CancellationToken::new(),
            ending: CancellationToken::new(),
        }
    }

    /// Permission for one more connection.
    pub(super) async fn permit(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Serves a connection.
    pub(super) fn spawn(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        let side = Arc::clone(self);
        self.running.spawn(async move {
            side.run(stream, peer).await;
            drop(permit);
        });
    }

    /// Lets each connection end after the requests that it carries now, idle ones at once.
    pub(super) async fn drain(&self) {
        self.stopping.cancel();
        self.running.close();
        self.running.wait().await;
    }

    /// Ends all connections.
    pub(super) fn cut_off(&self) {
        self.ending.cancel();
    }

    async fn run(self: Arc<Self>, stream: TcpStream, address: SocketAddr) {
        _ = stream.set_nodelay(true); // worth trying: it only costs latency if it fails
        let Some(tls) = &self.tls else { return self.serve(stream, Peer { address, scheme: Scheme::Http }).await };
        let shaken = tokio::select! {
            shaken = timeout(self.settings.header_time, tls.accept(stream)) => shaken,
            () = self.stopping.cancelled() => return,
            () = self.ending.cancelled() => return,
        };
        match shaken {
            Ok(Ok(stream)) => self.serve(stream, Peer { address, scheme: Scheme::Https }).await,
            Ok(Err(error)) => tracing::debug!(%error, peer = %address, "a peer speaks no TLS that is accepted"),
            Err(_) => tracing::debug!(peer = %address, "a peer did not begin TLS in time"),
        }
    }

    async fn serve(self: &Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: Peer) {
        let activity = Arc::new(Activity::default());
        let service =
            hyper::service::service_fn(|request| Arc::clone(self).answer(request, peer, Running::start(&activity)));
        let mut connection = pin!(self.builder.serve_connection(TokioIo::new(stream), service));
        let Settings { idle_time, response_time, .. } = self.settings;
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => Some(ended),
            () = self.stopping.cancelled() => None,
            () = activity.idle(idle_time) => None,
            () = self.ending.cancelled() => return,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => ended,
                    () = tokio::time::sleep(response_time) => return,
                    () = self.ending.cancelled() => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, peer = %peer.address, "a connection ended");
        }
    }

    async fn answer(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        peer: Peer,
        running: Running,
    ) -> Result<Response, Infallible> {
        let refuse = |problem: Problem| Ok(problem.into_response(InvocationId::generate()));
        // HTTP/1.1 has refused it already.
        if request.headers().len() > HEADERS_MAX {
            return refuse(Problem::from(&RequestError::TooManyHeaders { limit: HEADERS_MAX }));
        }
        let router = match &self.answering {
            Answering::Operators(router) => router,
            Answering::Callers(phase) => match phase.router.get() {
                Some(router) => router,
                None => return refuse(Problem::host_starting()),
            },
        };
        let (client, scheme) = self.client_of(&request, peer);
        request.extensions_mut().insert(client);
        request.extensions_mut().insert(scheme);
        let answer = tower_service::Service::call(&mut router.clone(), request);
        let response = contained(answer).await;
        drop(running);
        Ok(response)
    }
}

impl Side {
    /// The client of a request and the protocol that it speaks, through however many proxies.
    fn client_of(&self, request: &Request<Incoming>, peer: Peer) -> (ClientAddress, Scheme) {
        let proxies = &self.settings.trusted_proxies;
        let values_of = |field: &str| -> Vec<&str> {
            // A value that is no text says nothing that could be believed.
            request.headers().get_all(field).iter().map(|value| value.to_str().unwrap_or_default()).collect()
        };
        let address = peer.address.ip();
        let client = proxies.client(address, &values_of(proxies.field.name()));
        (client, proxies.scheme(peer.scheme, address, &values_of(proxies.field.of_protocol())))
    }
}

fn builder(header_time: Duration) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_time)
        .max_buf_size(HEADER_BYTES_MAX as usize)
        .max_headers(HEADERS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(header_time)
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(STREAMS_RESET_MAX)
        .max_local_error_reset_streams(STREAMS_BROKEN_MAX)
        .max_header_list_size(HEADER_BYTES_MAX);
    builder
}

/// What happens on a connection.
#[derive(Debug, Default)]
struct Activity {
    /// Requests without an answer yet.
    running: AtomicUsize,
    /// Requests so far.
    begun: AtomicU64,
}

impl Activity {
    /// Resolves when no request has come or run for `time`.
    async fn idle(&self, time: Duration) {
        let mut begun_before = 0;
        loop {
            tokio::time::sleep(time).await;
            let begun = self.begun.load(Ordering::Relaxed);
            if begun == begun_before && self.running.load(Ordering::Relaxed) == 0 {
                return;
            }
            begun_before = begun;
        }
    }
}

/// A request that has no answer yet.
struct Running(Arc<Activity>);

impl Running {
    fn start(activity: &Arc<Activity>) -> Self {
        activity.running.fetch_add(1, Ordering::Relaxed);
        activity.begun.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A panic in a request is a bug, but only that request's.
async fn contained(answer: impl Future<Output = Result<Response, Infallible>>) -> Response {
    match AssertUnwindSafe(answer).catch_unwind().await {
        Ok(Ok(response)) => response,
        Err(_) => {
            let id = InvocationId::generate();
            tracing::error!(invocation.id = %id, "a request panicked");
            Problem::host_error().into_response(id)
        }
    }
}
