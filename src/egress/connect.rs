//! How long connecting may take.
//!
//! The HTTP client knows one limit for all requests; scripts set theirs in each. The limit of a request is around the task
//! that sends it, and this layer, which that task calls, finds it there.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use tower_layer::Layer;
use tower_service::Service;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Longest time for a connection: resolving, TCP and TLS.
///
/// Two retransmissions of a lost first packet fit in; whoever has not answered then rarely does.
pub(super) const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

tokio::task_local! {
    /// The limit of the request that is being sent.
    pub(super) static CONNECT_TIME: Duration;
}

/// No connection in time.
#[derive(Debug, thiserror::Error)]
#[error("no connection in time")]
pub(super) struct ConnectTimedOut;

/// Adds the limit to a connector.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectTimeLayer;

/// A connector with the limit.
#[derive(Debug, Clone)]
pub(super) struct ConnectTime<S>(S);

impl<S> Layer<S> for ConnectTimeLayer {
    type Service = ConnectTime<S>;

    fn layer(&self, connector: S) -> Self::Service {
        ConnectTime(connector)
    }
}

impl<S, Target> Service<Target> for ConnectTime<S>
where
    S: Service<Target, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, target: Target) -> Self::Future {
        let limit = CONNECT_TIME.try_with(|limit| *limit).unwrap_or(CONNECT_TIME_MAX);
        let connecting = self.0.call(target);
        Box::pin(async move {
            match tokio::time::timeout(limit, connecting).await {
                Ok(connected) => connected,
                Err(_) => Err(ConnectTimedOut.into()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connector that never connects.
    struct Nowhere;

    impl Service<()> for Nowhere {
        type Response = ();
        type Error = BoxError;
        type Future = futures::future::Pending<Result<(), BoxError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, (): ()) -> Self::Future {
            futures::future::pending()
        }
    }

    #[tokio::test]
    async fn connecting_ends_with_the_limit_of_the_request() {
        let connecting =
            CONNECT_TIME.scope(Duration::from_millis(10), async { ConnectTimeLayer.layer(Nowhere).call(()).await });
        let error = tokio::time::timeout(CONNECT_TIME_MAX, connecting).await.unwrap().unwrap_err();
        assert!(error.is::<ConnectTimedOut>(), "{error}");
    }
}
