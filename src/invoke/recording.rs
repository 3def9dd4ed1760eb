//! Requests and answers of endpoints that record, so that a request can be sent again.
//!
//! Owns: what of them is kept, its form, and its seal. Credentials are left out: what a token said is kept, the token is not.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use crate::{
    domain::{
        exchange::{Caller, HandlerBody, HandlerRequest, HandlerResponse, TokenBearer, UploadedFile},
        names::{InvocationId, TenantId},
        sql::SqlError,
    },
    invoke::{
        Inner, InvokeError, RowStream,
        recorder::{Recorder, Room},
        redaction::SECRET_HEADERS,
    },
    vault::DataKey,
};

/// What is kept of a body, in bytes. Bodies of APIs have some kilobytes; a hundred thousand recordings of this size fill a disk.
///
/// Of a longer answer its beginning is kept. A longer request is kept without its body, and cannot be sent again.
pub const RECORDED_BODY_BYTES_MAX: usize = 256 << 10;

/// Largest recording, in bytes, before it is compressed: of a form, body, fields and files are kept, as JSON.
const RECORDING_BYTES_MAX: usize = 16 << 20;

/// In front of what is kept: how it is written.
const FORMAT: u8 = 1;

/// A header field of an answer that holds what a caller presents later.
const SET_COOKIE: &str = "set-cookie";

/// A request and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recording {
    /// The request.
    pub request: RecordedRequest,
    /// What came of it.
    pub answer: RecordedAnswer,
}

/// What is kept of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedRequest {
    method: String,
    url: String,
    path: String,
    query_string: String,
    headers: Vec<(String, String)>,
    body: RecordedBody,
    form: Vec<(String, String)>,
    files: Vec<RecordedFile>,
    path_params: Vec<(String, String)>,
    client_ip: String,
    /// Id and claims of the caller's token, in recordings of before there was `caller`.
    #[serde(default, skip_serializing)]
    token: Option<(String, Map<String, Value>)>,
    /// Who called, so that a re-run reaches the same rows.
    #[serde(default)]
    caller: Caller,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct RecordedFile {
    field: String,
    name: String,
    content_type: String,
    #[serde(with = "base64_bytes")]
    content: Bytes,
}

/// What is kept of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedAnswer {
    /// HTTP status.
    pub status: u16,
    /// Code of the problem, when the invocation failed.
    pub code: Option<String>,
    /// As the script gave them, without cookies.
    pub headers: Vec<(String, String)>,
    /// The body, or its beginning.
    pub body: RecordedBody,
}

/// What is kept of a body.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RecordedBody {
    /// Its beginning, up to [`RECORDED_BODY_BYTES_MAX`].
    #[serde(with = "base64_bytes")]
    pub bytes: Bytes,
    /// Whether there was more.
    pub is_cut: bool,
}

impl RecordedRequest {
    pub(super) fn of(request: &HandlerRequest) -> Self {
        let HandlerRequest {
            method,
            url,
            path,
            query_string,
            headers,
            body,
            form,
            files,
            path_params,
            client_ip,
            request_id: _,
            caller,
        } = request;
        let is_cut = body.len() > RECORDED_BODY_BYTES_MAX;
        let file = |UploadedFile { field, name, content_type, content }: &UploadedFile| RecordedFile {
            field: field.clone(),
            name: name.clone(),
            content_type: content_type.clone(),
            content: Bytes::copy_from_slice(content),
        };
        let is_kept = |(name, _): &&(String, String)| !SECRET_HEADERS.contains(&name.as_str());
        Self {
            method: method.clone(),
            url: url.clone(),
            path: path.clone(),
            query_string: query_string.clone(),
            headers: headers.iter().filter(is_kept).cloned().collect(),
            body: RecordedBody { bytes: if is_cut { Bytes::new() } else { Bytes::copy_from_slice(body) }, is_cut },
            form: if is_cut { Vec::new() } else { form.clone() },
            files: if is_cut { Vec::new() } else { files.iter().map(file).collect() },
            path_params: path_params.clone(),
            client_ip: client_ip.clone(),
            token: None,
            caller: caller.clone(),
        }
    }

    /// Bytes of a request that [`Self::of`] would keep, but for what a listener bounds to some KiB: headers and the like.
    pub(super) fn bytes_of(request: &HandlerRequest) -> usize {
        let HandlerRequest { body, form, files, .. } = request;
        if body.len() > RECORDED_BODY_BYTES_MAX {
            return 0;
        }
        let form = form.iter().map(|(name, value)| name.len() + value.len());
        body.len() + form.sum::<usize>() + files.iter().map(|file| file.content.len()).sum::<usize>()
    }

    /// Whether all of it was kept, so that it can be sent again.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.body.is_cut
    }

    /// The request as a handler receives it, as an invocation of its own.
    pub(super) fn again(&self, request_id: InvocationId) -> HandlerRequest {
        let Self { method, url, path, query_string, headers, body, form, files, path_params, client_ip, token, caller } =
            self.clone();
        let file =
            |RecordedFile { field, name, content_type, content }| UploadedFile { field, name, content_type, content };
        HandlerRequest {
            method,
            url,
            path,
            query_string,
            headers,
            body: body.bytes,
            form,
            files: files.into_iter().map(file).collect(),
            path_params,
            client_ip,
            request_id,
            caller: match token {
                None => caller,
                Some((id, claims)) => Caller::Token(TokenBearer {
                    id: Some(id.into()),
                    issuer: "pqhost".into(),
                    claims: Arc::new(claims),
                    methods: None,
                    rows: None,
                }),
            },
        }
    }
}

/// An answer that is on its way to the caller, and kept meanwhile.
pub(super) struct PendingAnswer {
    head: RecordedAnswer,
    rows: Option<oneshot::Receiver<RecordedBody>>,
}

impl PendingAnswer {
    /// What is kept of an outcome, and the outcome, whose rows must be read to their end to be kept.
    pub(super) fn of(
        outcome: Result<HandlerResponse<RowStream>, InvokeError>,
    ) -> (Result<HandlerResponse<RowStream>, InvokeError>, Self) {
        let HandlerResponse { status, headers, body } = match outcome {
            Ok(response) => response,
            Err(error) => {
                let (status, code) = (error.status(), Some(error.code().to_owned()));
                let head = RecordedAnswer { status, code, headers: Vec::new(), body: RecordedBody::default() };
                return (Err(error), Self { head, rows: None });
            }
        };
        let is_kept = |(name, _): &&(String, String)| !name.eq_ignore_ascii_case(SET_COOKIE);
        let kept_headers = headers.iter().filter(is_kept).cloned().collect();
        let (body, kept, rows) = match body {
            HandlerBody::Bytes(bytes) => {
                let mut kept = RecordedBody::default();
                // A slice would keep all of a large body.
                kept.bytes = Bytes::copy_from_slice(&bytes[..bytes.len().min(RECORDED_BODY_BYTES_MAX)]);
                kept.is_cut = kept.bytes.len() < bytes.len();
                (HandlerBody::Bytes(bytes), kept, None)
            }
            HandlerBody::Rows(rows) => {
                let (kept, receiver) = oneshot::channel();
                let rows = KeptRows { rows, bytes: Vec::new(), is_cut: false, has_ended: false, kept: Some(kept) };
                (HandlerBody::Rows(rows.boxed()), RecordedBody::default(), Some(receiver))
            }
        };
        let head = RecordedAnswer { status, code: None, headers: kept_headers, body: kept };
        (Ok(HandlerResponse { status, headers, body }), Self { head, rows })
    }

    /// Bytes of the body that are kept, at most.
    pub(super) fn bytes_max(&self) -> usize {
        if self.rows.is_some() { RECORDED_BODY_BYTES_MAX } else { self.head.body.bytes.len() }
    }

    /// The answer, once the caller has read it, or has gone.
    pub(super) async fn finished(self) -> RecordedAnswer {
        let Self { head, rows } = self;
        match rows {
            None => head,
            Some(rows) => {
                let body = rows.await.unwrap_or(RecordedBody { bytes: Bytes::new(), is_cut: true });
                RecordedAnswer { body, ..head }
            }
        }
    }
}

/// Rows on their way to a caller, of which the beginning is kept.
struct KeptRows {
    rows: RowStream,
    bytes: Vec<u8>,
    is_cut: bool,
    has_ended: bool,
    kept: Option<oneshot::Sender<RecordedBody>>,
}

impl Stream for KeptRows {
    type Item = Result<Bytes, SqlError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.rows.poll_next_unpin(context);
        match &next {
            Poll::Ready(Some(Ok(piece))) => {
                let room = RECORDED_BODY_BYTES_MAX - self.bytes.len();
                self.bytes.extend_from_slice(&piece[..piece.len().min(room)]);
                self.is_cut |= piece.len() > room;
            }
            Poll::Ready(None) => self.has_ended = true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        next
    }
}

impl Drop for KeptRows {
    fn drop(&mut self) {
        let bytes = Bytes::from(std::mem::take(&mut self.bytes));
        let is_cut = self.is_cut || !self.has_ended;
        if let Some(kept) = self.kept.take() {
            _ = kept.send(RecordedBody { bytes, is_cut }); // whoever waited has gone with the host
        }
    }
}

/// A recording that is being made, with the room that it takes.
pub(super) struct Begun {
    request: RecordedRequest,
    request_bytes: usize,
    room: Room,
}

impl Begun {
    /// Begins with what is kept of a request; `None` if there is no room.
    pub(super) fn with(request: &HandlerRequest, recorder: &Recorder) -> Option<Self> {
        let request_bytes = RecordedRequest::bytes_of(request);
        let room = recorder.reserve(request_bytes + RECORDED_BODY_BYTES_MAX)?;
        Some(Self { request: RecordedRequest::of(request), request_bytes, room })
    }

    /// The recording, once the answer has left.
    pub(super) async fn finished(self, answer: PendingAnswer) -> (Recording, Room) {
        let Self { request, request_bytes, mut room } = self;
        room.shrink_to(request_bytes + answer.bytes_max());
        (Recording { request, answer: answer.finished().await }, room)
    }
}

impl Inner {
    /// A recording as it is stored; `None` if that fails, which must not fail the invocation. One at a time is made: compressing takes
    /// processor time and memory, and those that wait have their room already.
    pub(super) async fn sealed(&self, tenant: TenantId, id: InvocationId, recording: Recording) -> Option<Vec<u8>> {
        let key = match self.directory.recording_key(tenant).await {
            Ok(key) => key,
            Err(error) => {
                tracing::error!(tenant.id = %tenant, invocation.id = %id, %error, "a request is not recorded");
                return None;
            }
        };
        let _turn = self.sealing.acquire().await.ok()?; // it is never closed
        let sealed = tokio::task::spawn_blocking(move || seal(&key, id, &recording)).await;
        match sealed.map_err(|error| error.to_string()).and_then(|sealed| sealed) {
            Ok(sealed) => Some(sealed),
            Err(error) => {
                tracing::error!(tenant.id = %tenant, invocation.id = %id, error, "a request is not recorded");
                None
            }
        }
    }

    /// The recording of an invocation, if there is one.
    pub(super) async fn find_recording(
        &self,
        tenant: TenantId,
        id: InvocationId,
    ) -> Result<Option<Recording>, InvokeError> {
        let Some(sealed) = self.db.invocations().find_recording(tenant, id).await? else { return Ok(None) };
        let key = self.directory.recording_key(tenant).await?;
        let opened = tokio::task::spawn_blocking(move || unseal(&key, id, &sealed)).await;
        let opened = opened.map_err(|error| error.to_string()).and_then(|opened| opened);
        opened.map(Some).map_err(|error| InvokeError::Host(format!("a recording cannot be read: {error}")))
    }
}

fn context(id: InvocationId) -> String {
    format!("recording:{id}")
}

fn seal(key: &DataKey, id: InvocationId, recording: &Recording) -> Result<Vec<u8>, String> {
    let json = serde_json::to_vec(recording).map_err(|error| error.to_string())?;
    if json.len() > RECORDING_BYTES_MAX {
        return Err(format!("it has {} bytes; at most {RECORDING_BYTES_MAX} are kept", json.len()));
    }
    let compressed = zstd::bulk::compress(&json, zstd::DEFAULT_COMPRESSION_LEVEL).map_err(|error| error.to_string())?;
    let mut stored = vec![FORMAT];
    stored.extend(key.seal(&context(id), &compressed));
    Ok(stored)
}

fn unseal(key: &DataKey, id: InvocationId, stored: &[u8]) -> Result<Recording, String> {
    let Some((&FORMAT, sealed)) = stored.split_first() else { return Err("unknown format".to_owned()) };
    let compressed = key.unseal(&context(id), sealed).map_err(|error| error.to_string())?;
    let json = zstd::bulk::decompress(compressed.expose(), RECORDING_BYTES_MAX).map_err(|error| error.to_string())?;
    serde_json::from_slice(&json).map_err(|error| error.to_string())
}

mod base64_bytes {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use bytes::Bytes;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text).map(Bytes::from).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(body: usize) -> HandlerRequest {
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        HandlerRequest {
            method: "POST".to_owned(),
            url: "http://h/acme/x?a=1".to_owned(),
            path: "/x".to_owned(),
            query_string: "a=1".to_owned(),
            headers: vec![field("authorization", "JWT t"), field("cookie", "c=1"), field("x-a", "b")],
            body: vec![0xff; body].into(),
            form: vec![field("f", "v")],
            files: vec![UploadedFile {
                field: "up".to_owned(),
                name: "a.bin".to_owned(),
                content_type: "x/y".to_owned(),
                content: Bytes::from_static(b"\0\xff"),
            }],
            path_params: vec![field("id", "7")],
            client_ip: "127.0.0.1".to_owned(),
            request_id: InvocationId::generate(),
            caller: Caller::Token(TokenBearer {
                id: Some("t".into()),
                issuer: "pqhost".into(),
                claims: json!({"sub": "ann"}).as_object().unwrap().clone().into(),
                methods: None,
                rows: None,
            }),
        }
    }

    fn answer(body: HandlerBody<RowStream>) -> Result<HandlerResponse<RowStream>, InvokeError> {
        let headers = vec![("X-A".to_owned(), "b".to_owned()), ("Set-Cookie".to_owned(), "s=1".to_owned())];
        Ok(HandlerResponse { status: 200, headers, body })
    }

    #[tokio::test]
    async fn what_is_sent_again_is_the_request_without_its_credentials() {
        let (sent, id) = (request(1000), InvocationId::generate());
        let (_, pending) = PendingAnswer::of(answer(HandlerBody::Bytes(Bytes::from_static(b"hi"))));
        let recording = Recording { request: RecordedRequest::of(&sent), answer: pending.finished().await };
        let key = DataKey::open(&DataKey::generate()).unwrap();
        let stored = seal(&key, id, &recording).unwrap();
        assert!(unseal(&key, InvocationId::generate(), &stored).is_err(), "it belongs to its invocation");
        let read = unseal(&key, id, &stored).unwrap();
        assert_eq!(read, recording);
        assert_eq!(read.answer.headers, [("X-A".to_owned(), "b".to_owned())]);
        let again = read.request.again(id);
        let expected = HandlerRequest { request_id: id, headers: vec![("x-a".to_owned(), "b".to_owned())], ..sent };
        assert_eq!(format!("{again:?}"), format!("{expected:?}"));
    }

    #[test]
    fn a_request_that_is_too_large_is_kept_without_its_body() {
        let at = RecordedRequest::of(&request(RECORDED_BODY_BYTES_MAX));
        assert!(at.is_whole() && at.body.bytes.len() == RECORDED_BODY_BYTES_MAX);
        let above = RecordedRequest::of(&request(RECORDED_BODY_BYTES_MAX + 1));
        assert!(!above.is_whole() && above.body.bytes.is_empty() && above.form.is_empty() && above.files.is_empty());
    }

    #[tokio::test]
    async fn the_beginning_of_an_answer_is_kept_while_it_streams() {
        let body = async |pieces: Vec<Vec<u8>>, read: usize| {
            let rows = futures::stream::iter(pieces.into_iter().map(|piece| Ok(Bytes::from(piece)))).boxed();
            let (outcome, pending) = PendingAnswer::of(answer(HandlerBody::Rows(rows)));
            let HandlerBody::Rows(mut rows) = outcome.unwrap().body else { panic!("these are rows") };
            let mut seen = Vec::new();
            for _ in 0..read {
                seen.extend(rows.next().await.into_iter().flatten().flatten());
            }
            drop(rows);
            (seen, pending.finished().await.body)
        };
        let (seen, kept) = body(vec![b"[1".to_vec(), b",2]".to_vec()], 3).await;
        assert_eq!((&seen[..], &kept.bytes[..], kept.is_cut), (&b"[1,2]"[..], &b"[1,2]"[..], false));
        let (seen, kept) = body(vec![b"[1".to_vec(), b",2]".to_vec()], 1).await;
        assert_eq!((&seen[..], &kept.bytes[..], kept.is_cut), (&b"[1"[..], &b"[1"[..], true), "the caller has gone");
        let (seen, kept) = body(vec![vec![1; RECORDED_BODY_BYTES_MAX], vec![2; 10]], 3).await;
        assert_eq!(
            (seen.len(), kept.bytes.len(), kept.is_cut),
            (RECORDED_BODY_BYTES_MAX + 10, RECORDED_BODY_BYTES_MAX, true)
        );
        let long = Bytes::from(vec![1; RECORDED_BODY_BYTES_MAX + 1]);
        let kept = PendingAnswer::of(answer(HandlerBody::Bytes(long))).1.finished().await.body;
        assert_eq!((kept.bytes.len(), kept.is_cut), (RECORDED_BODY_BYTES_MAX, true));
        let failed = PendingAnswer::of(Err(InvokeError::ScriptExited)).1.finished().await;
        assert_eq!((failed.status, failed.code.as_deref()), (500, Some("script_exit")));
    }
}
