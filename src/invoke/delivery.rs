//! Answers on their way to callers.
//!
//! Owns: how many bytes of an answer's body there were. Rows are counted as they leave, so that what is known is known
//! when the caller has read them to their end, or has gone.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::sync::oneshot;

use crate::{
    domain::{
        exchange::{HandlerBody, HandlerResponse},
        sql::SqlError,
    },
    invoke::RowStream,
};

/// Bytes of a body.
pub(super) enum Delivery {
    /// It left at once.
    Whole(u64),
    /// It leaves row by row.
    Rows(oneshot::Receiver<u64>),
}

impl Delivery {
    /// Counts what leaves with a response.
    pub(super) fn of(response: HandlerResponse<RowStream>) -> (HandlerResponse<RowStream>, Self) {
        let HandlerResponse { status, headers, body } = response;
        let (body, delivery) = match body {
            HandlerBody::Bytes(bytes) => {
                let n_bytes = bytes.len() as u64;
                (HandlerBody::Bytes(bytes), Self::Whole(n_bytes))
            }
            HandlerBody::Rows(rows) => {
                let (sender, receiver) = oneshot::channel();
                let rows = CountedRows { rows, n_bytes: 0, sender: Some(sender) };
                (HandlerBody::Rows(rows.boxed()), Self::Rows(receiver))
            }
        };
        (HandlerResponse { status, headers, body }, delivery)
    }

    /// How many there were, once the caller has read them or has gone.
    pub(super) async fn finished(self) -> u64 {
        match self {
            Self::Whole(n_bytes) => n_bytes,
            Self::Rows(receiver) => receiver.await.unwrap_or(0), // the stream tells even when it is dropped
        }
    }
}

struct CountedRows {
    rows: RowStream,
    n_bytes: u64,
    sender: Option<oneshot::Sender<u64>>,
}

impl Stream for CountedRows {
    type Item = Result<Bytes, SqlError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.rows.poll_next_unpin(context);
        if let Poll::Ready(Some(Ok(piece))) = &next {
            self.n_bytes += piece.len() as u64;
        }
        next
    }
}

impl Drop for CountedRows {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take() {
            _ = sender.send(self.n_bytes); // whoever waited has gone with the host
        }
    }
}
