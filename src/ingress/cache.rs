//! Answers that are given again.
//!
//! Owns: which answers are kept and for how long, and that callers who ask the same at the same time wait for one run of the handler. Never:
//! lets anybody in; whoever asks has been identified in this request.
//!
//! An answer is good for those routes that its request found its way by. After a change of the tenant there are others, and it is not given again.

mod question;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, HttpBody as _},
    response::Response,
};
use bytes::{Bytes, BytesMut};
use futures::{FutureExt as _, StreamExt as _, future::Shared, stream};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use tokio::{sync::oneshot, task::JoinError, time::Instant};

pub(super) use self::question::Question;
use self::question::{Key, told_apart_by};
use crate::{
    domain::{endpoint::CachePolicy, exchange::AuthMode, names::InvocationId},
    ingress::etag,
    invoke::EndpointTarget,
};

/// What kept answers take, in bytes. Those that are asked for least make room, so that one tenant's many that nobody asks for twice push
/// out nobody's. A miss costs a run of the handler.
const BYTES_MAX: u64 = 64 << 20;

/// Longest body that is kept, in bytes: so that 64 answers at least find room. A longer one is given to whoever asked, and not kept.
const BODY_BYTES_MAX: usize = 1 << 20;

/// What an answer takes besides its body and its fields, in bytes, roughly.
const ANSWER_BYTES: usize = 1 << 10;

/// Says where an answer comes from; absent if it may not be kept.
const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// Where an answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// From the handler, just now.
    Miss,
    Hit,
    /// Kept for longer than it is fresh, and being fetched anew.
    Stale,
}

/// An answer that is kept.
#[derive(Debug)]
struct Kept {
    generation: u64,
    made_at: Instant,
    fresh_for: Duration,
    kept_for: Duration,
    etag: HeaderValue,
    /// As they are sent. `age` and `x-cache` are among them, so that setting those takes no memory.
    fields: HeaderMap,
    body: Bytes,
}

/// What whoever asked gets.
#[derive(Debug)]
pub(super) struct Answered<E> {
    /// An answer, or whatever kept the run from one.
    pub(super) outcome: Result<Response, Arc<E>>,
    /// Whether the handler ran because of this request.
    pub(super) ran: bool,
}

impl<E> Answered<E> {
    fn from_memory(response: Response) -> Self {
        Self { outcome: Ok(response), ran: false }
    }

    fn by_run(outcome: Result<Response, Arc<E>>) -> Self {
        Self { outcome, ran: true }
    }
}

/// What came of a run that others wait for: an answer if it may be kept, or the failure.
type Outcome<E> = Result<Option<Arc<Kept>>, Arc<E>>;

type Runs<E> = HashMap<(Key, u64), Shared<oneshot::Receiver<Outcome<E>>>>;

/// Answers of all endpoints that keep them. `E` is what keeps a request from its answer.
pub(super) struct AnswerCache<E> {
    answers: moka::sync::Cache<Key, Arc<Kept>>,
    /// Handlers that run at the moment, one for each question: as many as requests, at most.
    runs: Mutex<Runs<E>>,
}

impl<E> AnswerCache<E>
where
    E: From<JoinError> + Send + Sync + 'static,
{
    pub(super) fn new() -> Self {
        let answers = moka::sync::Cache::builder()
            .max_capacity(BYTES_MAX)
            .weigher(|_, kept: &Arc<Kept>| u32::try_from(kept.bytes()).unwrap_or(u32::MAX))
            .expire_after(WhenUseless)
            .build();
        Self { answers, runs: Mutex::default() }
    }

    /// The answer to a question: one that was kept, one that others wait for already, or what `run` gives.
    ///
    /// `run` goes on if whoever asked goes away, because others may wait for it. Everybody who waits for one that fails gets the failure, and
    /// whoever asks next starts another.
    pub(super) async fn answer<R, F>(self: &Arc<Self>, question: Question, id: InvocationId, run: R) -> Answered<E>
    where
        R: FnOnce(InvocationId) -> F + Send,
        F: Future<Output = Result<Response, E>> + Send + 'static,
    {
        let asked = match self.find(&question) {
            Some(kept) if kept.is_fresh() => return Answered::from_memory(kept.response(Origin::Hit, &question)),
            Some(kept) => {
                let response = kept.response(Origin::Stale, &question);
                let Asked::First(first) = self.ask(&question, |kept| kept.is_fresh()) else {
                    return Answered::from_memory(response);
                };
                // Its outcome is the cache's; nobody waits for it. It ends with the handler's deadline at the latest.
                drop(tokio::spawn(first.run(run(InvocationId::generate()))));
                return Answered::by_run(Ok(response));
            }
            None => self.ask(&question, |_| true),
        };
        match asked {
            Asked::Kept(kept) => Answered::from_memory(kept.response(Origin::Hit, &question)),
            Asked::Running(outcome) => match outcome.await {
                Ok(Ok(Some(kept))) => Answered::from_memory(kept.response(Origin::Hit, &question)),
                Ok(Err(error)) => Answered { outcome: Err(error), ran: false },
                // What may not be kept may not be given to others either.
                Ok(Ok(None)) | Err(_) => Answered::by_run(run(id).await.map(without_origin).map_err(Arc::new)),
            },
            Asked::First(first) => Answered::by_run(match tokio::spawn(first.run(run(id))).await {
                Ok(Ok(Ran::Kept(kept))) => Ok(kept.response(Origin::Miss, &question)),
                Ok(Ok(Ran::Unkept(response))) => Ok(without_origin(response)),
                Ok(Err(error)) => Err(error),
                Err(died) => Err(Arc::new(died.into())),
            }),
        }
    }

    fn find(&self, question: &Question) -> Option<Arc<Kept>> {
        self.answers.get(&question.key).filter(|kept| kept.generation == question.generation && !kept.is_useless())
    }

    /// Joins the run for a question, or is the one to start it, unless there is an answer by now that is `good`.
    fn ask(self: &Arc<Self>, question: &Question, good: impl Fn(&Kept) -> bool) -> Asked<E> {
        let at = (question.key, question.generation);
        let mut runs = self.runs();
        if let Some(outcome) = runs.get(&at) {
            return Asked::Running(outcome.clone());
        }
        // A run keeps its answer first and leaves the list then.
        if let Some(kept) = self.find(question).filter(|kept| good(kept)) {
            return Asked::Kept(kept);
        }
        let (outcome, receiver) = oneshot::channel();
        runs.insert(at, receiver.shared());
        drop(runs);
        Asked::First(First {
            cache: Arc::clone(self),
            at,
            endpoint: Arc::clone(&question.endpoint),
            outcome: Some(outcome),
        })
    }

    fn runs(&self) -> MutexGuard<'_, Runs<E>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E> fmt::Debug for AnswerCache<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerCache").field("answers", &self.answers.entry_count()).finish_non_exhaustive()
    }
}

/// What becomes of a question to which there was no answer.
enum Asked<E> {
    Kept(Arc<Kept>),
    Running(Shared<oneshot::Receiver<Outcome<E>>>),
    First(First<E>),
}

/// Whoever runs the handler for all who ask the same. Dropped before it has run, those run it themselves.
struct First<E> {
    cache: Arc<AnswerCache<E>>,
    at: (Key, u64),
    endpoint: Arc<EndpointTarget>,
    outcome: Option<oneshot::Sender<Outcome<E>>>,
}

/// What a run gave.
enum Ran {
    Kept(Arc<Kept>),
    Unkept(Response),
}

impl<E: Send + Sync> First<E> {
    async fn run(mut self, run: impl Future<Output = Result<Response, E>> + Send) -> Result<Ran, Arc<E>> {
        let (key, generation) = self.at;
        let ran = match run.await {
            Ok(response) => Ok(keep(response, &self.endpoint, generation).await),
            Err(error) => Err(Arc::new(error)),
        };
        let outcome = match &ran {
            Ok(Ran::Kept(kept)) => {
                self.cache.answers.insert(key, Arc::clone(kept));
                Ok(Some(Arc::clone(kept)))
            }
            Ok(Ran::Unkept(_)) => Ok(None),
            Err(error) => Err(Arc::clone(error)),
        };
        if let Some(waiting) = self.outcome.take() {
            _ = waiting.send(outcome); // perhaps nobody waits
        }
        ran
    }
}

impl<E> Drop for First<E> {
    fn drop(&mut self) {
        self.cache.runs.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.at);
    }
}

/// An answer that is not kept, whatever its script says about that.
fn without_origin(mut response: Response) -> Response {
    response.headers_mut().remove(X_CACHE);
    response
}

/// Takes in an answer, or leaves it as it came if it may not be kept.
async fn keep(response: Response, endpoint: &EndpointTarget, generation: u64) -> Ran {
    let Some(policy) = endpoint.settings.cache.as_ref().filter(|policy| may_be_kept(&response, policy, endpoint))
    else {
        return Ran::Unkept(response);
    };
    let (parts, body) = response.into_parts();
    let body = match whole(body).await {
        Ok(body) => body,
        Err(body) => return Ran::Unkept(Response::from_parts(parts, body)),
    };
    Ran::Kept(Arc::new(Kept::new(parts.headers, body, policy, endpoint, generation)))
}

/// Whether others may get this answer: it is whole and says nothing to the contrary, and what it depends on is in its key.
fn may_be_kept(response: &Response, policy: &CachePolicy, endpoint: &EndpointTarget) -> bool {
    let fields = response.headers();
    let forbids = |directive: &str| {
        let name = directive.split('=').next().unwrap_or_default().trim();
        ["no-store", "no-cache", "private"].into_iter().any(|no| name.eq_ignore_ascii_case(no))
    };
    let is_in_key = |name: &str| told_apart_by(policy, endpoint).any(|known| known.eq_ignore_ascii_case(name.trim()));
    response.status() == StatusCode::OK
        && !fields.contains_key(header::SET_COOKIE)
        && words(fields, &header::CACHE_CONTROL).all(|word| word.is_some_and(|directive| !forbids(directive)))
        && words(fields, &header::VARY).all(|word| word.is_some_and(is_in_key))
}

/// What stands between the commas of a field; `None` for a value that is no text.
fn words<'f>(fields: &'f HeaderMap, name: &HeaderName) -> impl Iterator<Item = Option<&'f str>> {
    let values = fields.get_all(name).iter().map(|value| value.to_str().ok());
    values.flat_map(|value| match value {
        Some(value) => value.split(',').map(Some).collect(),
        None => vec![None],
    })
}

/// The whole body, or the same body if it is too long to be kept or breaks off.
async fn whole(mut body: Body) -> Result<Bytes, Body> {
    let (mut pieces, mut bytes) = (Vec::new(), 0);
    while bytes <= BODY_BYTES_MAX && body.size_hint().lower() <= BODY_BYTES_MAX as u64 {
        match body.frame().await {
            None => {
                // Copied, as what came may hold on to more than its bytes.
                let mut joined = BytesMut::with_capacity(bytes);
                joined.extend(pieces.into_iter().flatten());
                return Ok(joined.freeze());
            }
            Some(Ok(frame)) => {
                let piece = frame.into_data().unwrap_or_default();
                bytes += piece.len();
                pieces.push(Ok(piece));
            }
            Some(Err(error)) => {
                pieces.push(Err(error));
                break;
            }
        }
    }
    Err(Body::from_stream(stream::iter(pieces).chain(body.into_data_stream())))
}

impl Kept {
    fn new(
        mut fields: HeaderMap,
        body: Bytes,
        policy: &CachePolicy,
        endpoint: &EndpointTarget,
        generation: u64,
    ) -> Self {
        let CachePolicy { ttl, stale_while_revalidate, .. } = policy;
        let etag = fields.get(header::ETAG).cloned();
        let etag = etag.unwrap_or_else(|| etag::of(fields.get(header::CONTENT_TYPE), &body));
        fields.insert(header::ETAG, etag.clone());
        if !fields.contains_key(header::CACHE_CONTROL) {
            // Else it is marked as its callers', as all answers are where callers are asked for a credential.
            let whose = if endpoint.auth == AuthMode::Public { "public, " } else { "" };
            let stale = match stale_while_revalidate {
                0 => String::new(),
                seconds => format!(", stale-while-revalidate={seconds}"),
            };
            let value = HeaderValue::try_from(format!("{whose}max-age={ttl}{stale}")).expect("words and numbers");
            fields.insert(header::CACHE_CONTROL, value);
        }
        fields.remove(header::VARY);
        for name in told_apart_by(policy, endpoint).filter_map(|name| HeaderValue::from_str(name).ok()) {
            fields.append(header::VARY, name);
        }
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        fields.insert(header::AGE, HeaderValue::from(0));
        fields.insert(X_CACHE, HeaderValue::from_static("miss"));
        let fresh_for = Duration::from_secs((*ttl).into());
        let kept_for = fresh_for + Duration::from_secs((*stale_while_revalidate).into());
        Self { generation, made_at: Instant::now(), fresh_for, kept_for, etag, fields, body }
    }

    fn is_fresh(&self) -> bool {
        self.made_at.elapsed() < self.fresh_for
    }

    fn is_useless(&self) -> bool {
        self.made_at.elapsed() >= self.kept_for
    }

    fn bytes(&self) -> usize {
        let fields: usize = self.fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        ANSWER_BYTES + 2 * fields + self.body.len()
    }

    fn response(&self, origin: Origin, question: &Question) -> Response {
        let mut response = Response::new(Body::empty());
        let mut fields = self.fields.clone();
        match origin {
            Origin::Miss => _ = fields.remove(header::AGE),
            Origin::Hit | Origin::Stale => {
                fields.insert(header::AGE, HeaderValue::from(self.made_at.elapsed().as_secs()));
                let origin = if origin == Origin::Hit { "hit" } else { "stale" };
                fields.insert(X_CACHE, HeaderValue::from_static(origin));
            }
        }
        if question.conditions.name(&self.etag) {
            fields.remove(header::CONTENT_LENGTH);
            fields.remove(header::CONTENT_TYPE);
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else if !question.is_head {
            *response.body_mut() = Body::from(self.body.clone());
        }
        *response.headers_mut() = fields;
        response
    }
}

/// An answer leaves memory when it may not be given even as a stale one.
struct WhenUseless;

impl moka::Expiry<Key, Arc<Kept>> for WhenUseless {
    fn expire_after_create(&self, _: &Key, kept: &Arc<Kept>, _: std::time::Instant) -> Option<Duration> {
        Some(kept.kept_for)
    }

    fn expire_after_update(
        &self,
        _: &Key,
        kept: &Arc<Kept>,
        _: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(kept.kept_for)
    }
}
