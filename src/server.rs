//! Listeners: accepting connections, speaking HTTP/1.1 and h2c, draining.
//!
//! Owns: limits of connections and header sections, the order of shutting down. Never: knows what a request means.

use std::{convert::Infallible, io, net::SocketAddr, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{Router, extract::ConnectInfo, response::Response, routing::get};
use futures::FutureExt as _;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::Semaphore,
};

use crate::{domain::names::InvocationId, problem::Problem};

/// Connections of one listener, at most. Further ones wait in the kernel's queue until one ends.
const CONNECTIONS_MAX: usize = 10_000;

/// Time for a request's header section, and for which a connection may be idle between requests.
const HEADER_TIME: Duration = Duration::from_secs(30);

/// Header section of a request, in bytes; more is answered with 431.
const HEADER_BYTES_MAX: usize = 32 << 10;

/// Header fields of a request; more is answered with 431.
const HEADERS_MAX: usize = 100;

/// Requests at once on one h2c connection.
const STREAMS_MAX: u32 = 128;

/// Pause after the kernel refuses to accept, for example because there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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

/// The control listener's paths: `/healthz`, the process is up; `/readyz`, it serves.
pub fn control_router() -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(async || "ok\n"))
        .fallback(async || Problem::not_found().into_response(InvocationId::generate()))
}

impl Bound {
    /// Serves until SIGTERM or SIGINT, then accepts no more and lets what is in flight finish for `drain`. A second signal
    /// ends at once.
    ///
    /// # Errors
    /// If signals cannot be received.
    pub async fn serve(self, ingress: Router, control: Router, drain: Duration) -> io::Result<()> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut stop = async move || {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        };
        let (ingress_connections, control_connections) = (GracefulShutdown::new(), GracefulShutdown::new());
        tokio::select! {
            () = accept(self.ingress, ingress, &ingress_connections) => {}
            () = accept(self.control, control, &control_connections) => {}
            () = stop() => {}
        }
        tracing::info!("stopping: finishing what is in flight");
        let drained = async { tokio::join!(ingress_connections.shutdown(), control_connections.shutdown()) };
        tokio::select! {
            _ = drained => {}
            () = tokio::time::sleep(drain) => tracing::warn!(?drain, "some requests did not finish in time"),
            () = stop() => tracing::warn!("told twice to stop: not waiting for requests in flight"),
        }
        Ok(())
    }
}

/// Accepts connections for ever.
async fn accept(listener: TcpListener, router: Router, connections: &GracefulShutdown) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let builder = Arc::new(builder());
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await.expect("the semaphore is never closed");
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let connection = connection(&builder, stream, peer, router.clone());
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, %peer, "a connection ended");
            }
            drop(permit);
        });
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HEADER_TIME)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEADER_BYTES_MAX).expect("it is 32 KiB"));
    builder
}

fn connection(
    builder: &Builder<TokioExecutor>,
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = Box<dyn std::error::Error + Send + Sync>> + 'static {
    _ = stream.set_nodelay(true); // worth trying: it only costs latency if it fails
    let service = hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let mut router = router.clone();
        async move {
            let answer = tower_service::Service::call(&mut router, request);
            Ok::<Response, Infallible>(contained(answer).await)
        }
    });
    builder.serve_connection(TokioIo::new(stream), service).into_owned()
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
