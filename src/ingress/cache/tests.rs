use std::sync::atomic::{AtomicUsize, Ordering};

use axum::response::IntoResponse as _;
use serde_json::json;
use tokio::sync::Semaphore;

use super::*;
use crate::{
    domain::{
        endpoint::TableSource,
        limits::Limits,
        names::{ConnectionName, EndpointId},
        route::MethodSet,
    },
    ingress::etag::Conditions,
    invoke::Backend,
};

#[derive(Debug)]
struct Failed(String);

impl From<JoinError> for Failed {
    fn from(error: JoinError) -> Self {
        Self(error.to_string())
    }
}

fn policy() -> CachePolicy {
    serde_json::from_value(json!({"ttl": 10, "stale_while_revalidate": 100, "headers": ["accept"]})).unwrap()
}

fn question(generation: u64) -> Question {
    let source = TableSource {
        connection: "dw".parse::<ConnectionName>().unwrap(),
        schema: None,
        table: Some("t".to_owned()),
        query: None,
        columns: None,
        key: Vec::new(),
        page_rows: 1,
        page_rows_max: 1,
    };
    let endpoint = EndpointTarget {
        id: EndpointId(1),
        methods: MethodSet::ANY,
        route: "/".to_owned(),
        auth: AuthMode::Public,
        enabled: true,
        limits: Limits::default(),
        record: false,
        settings: serde_json::from_value(json!({"cache": policy()})).unwrap(),
        revision: 1,
        backend: Backend::Table(source),
    };
    let conditions = Conditions::of(&HeaderMap::new());
    Question { key: blake3::hash(b"q"), generation, endpoint: Arc::new(endpoint), conditions, is_head: false }
}

/// A cache, and a handler that counts its runs and answers when it may.
struct Fixture {
    cache: Arc<AnswerCache<Failed>>,
    runs: Arc<AtomicUsize>,
    /// Of those who asked, for how many the handler ran.
    ran: AtomicUsize,
    gate: Arc<Semaphore>,
}

impl Fixture {
    fn new() -> Self {
        let (runs, ran) = (Arc::default(), AtomicUsize::new(0));
        Self { cache: Arc::new(AnswerCache::new()), runs, ran, gate: Arc::new(Semaphore::new(0)) }
    }

    async fn ask(
        &self,
        question: Question,
        answer: impl Fn(usize) -> Result<Response, Failed> + Send + Sync + 'static,
    ) -> Result<(String, String), Arc<Failed>> {
        let (runs, gate) = (Arc::clone(&self.runs), Arc::clone(&self.gate));
        let run = move |_| async move {
            let number = runs.fetch_add(1, Ordering::SeqCst);
            gate.acquire().await.unwrap().forget();
            answer(number)
        };
        let Answered { outcome, ran } = self.cache.answer(question, InvocationId::generate(), run).await;
        self.ran.fetch_add(ran.into(), Ordering::SeqCst);
        let response = outcome?;
        let from = response.headers().get(X_CACHE).map_or("", |value| value.to_str().unwrap()).to_owned();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Ok((String::from_utf8(body.to_vec()).unwrap(), from))
    }

    /// Lets everybody come as far as they come by themselves.
    async fn settle(&self) {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    fn keep(&self, age: Duration, generation: u64, body: &'static str) {
        let kept = Kept::new(HeaderMap::new(), body.into(), &policy(), &question(1).endpoint, generation);
        let kept = Kept { made_at: Instant::now().checked_sub(age).unwrap(), ..kept };
        self.cache.answers.insert(question(1).key, Arc::new(kept));
    }
}

fn numbered(number: usize) -> Result<Response, Failed> {
    Ok(number.to_string().into_response())
}

fn told(body: &str, from: &str) -> (String, String) {
    (body.to_owned(), from.to_owned())
}

#[tokio::test]
async fn whoever_asks_the_same_at_the_same_time_waits_for_one_run() {
    let fixture = Arc::new(Fixture::new());
    let asking = (0..20).map(|_| fixture.ask(question(1), numbered));
    let (answers, ()) = tokio::join!(futures::future::join_all(asking), async {
        fixture.settle().await;
        assert_eq!(fixture.runs.load(Ordering::SeqCst), 1);
        fixture.gate.add_permits(1);
    });
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert!(answers.contains(&told("0", "miss")));
    assert_eq!(answers.iter().filter(|answer| **answer == told("0", "hit")).count(), 19);
    assert_eq!(fixture.ask(question(1), numbered).await.unwrap(), told("0", "hit"));
    assert_eq!(fixture.ran.load(Ordering::SeqCst), 1);
    assert!(fixture.cache.runs().is_empty());
}

#[tokio::test]
async fn a_failure_is_everybodys_who_waits_and_nobodys_afterwards() {
    let fixture = Fixture::new();
    let asking = (0..5).map(|_| fixture.ask(question(1), |number| Err(Failed(number.to_string()))));
    let (answers, ()) = tokio::join!(futures::future::join_all(asking), async {
        fixture.settle().await;
        fixture.gate.add_permits(2);
    });
    assert!(answers.iter().all(|answer| answer.as_ref().is_err_and(|error| error.0 == "0")), "{answers:?}");
    assert_eq!(fixture.ran.load(Ordering::SeqCst), 1, "the others are counted by whoever asks the cache");
    assert_eq!(fixture.ask(question(1), numbered).await.unwrap(), told("1", "miss"));
}

#[tokio::test]
async fn a_run_that_dies_leaves_nobody_waiting() {
    let fixture = Fixture::new();
    fixture.gate.add_permits(10);
    let asking =
        (0..5).map(|_| fixture.ask(question(1), |number| if number == 0 { panic!("dies") } else { numbered(number) }));
    let answers = futures::future::join_all(asking).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 1, "{answers:?}");
    assert!(fixture.cache.runs().is_empty());
}

#[tokio::test]
async fn what_may_not_be_kept_is_given_to_nobody_else() {
    let fixture = Fixture::new();
    fixture.gate.add_permits(100);
    let own = |number: usize| {
        let mut response = number.to_string().into_response();
        response.headers_mut().insert(header::SET_COOKIE, "session=1".parse().unwrap());
        Ok(response)
    };
    let answers = futures::future::join_all((0..5).map(|_| fixture.ask(question(1), own))).await;
    let mut bodies: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().0).collect();
    bodies.sort();
    assert_eq!(bodies, ["0", "1", "2", "3", "4"]);
    assert_eq!(fixture.cache.answers.iter().count(), 0);
}

#[tokio::test]
async fn a_run_goes_on_when_whoever_asked_first_goes_away() {
    let fixture = Arc::new(Fixture::new());
    let first = tokio::spawn({
        let fixture = Arc::clone(&fixture);
        async move { fixture.ask(question(1), numbered).await }
    });
    fixture.settle().await;
    let (second, ()) = tokio::join!(fixture.ask(question(1), numbered), async {
        fixture.settle().await;
        first.abort();
        fixture.settle().await;
        fixture.gate.add_permits(1);
    });
    assert_eq!(second.unwrap(), told("0", "hit"));
}

#[tokio::test]
async fn a_stale_answer_is_given_at_once_and_fetched_anew_once() {
    let fixture = Fixture::new();
    fixture.keep(Duration::from_secs(50), 1, "old");
    for _ in 0..5 {
        assert_eq!(fixture.ask(question(1), numbered).await.unwrap(), told("old", "stale"));
    }
    fixture.settle().await;
    assert_eq!(fixture.runs.load(Ordering::SeqCst), 1);
    fixture.gate.add_permits(1);
    fixture.settle().await;
    assert_eq!(fixture.ask(question(1), numbered).await.unwrap(), told("0", "hit"));

    // A failure changes nothing: what is stale is given until its time is over.
    fixture.keep(Duration::from_secs(50), 1, "old");
    fixture.gate.add_permits(1);
    let fail = |_| Err(Failed("down".to_owned()));
    assert_eq!(fixture.ask(question(1), fail).await.unwrap(), told("old", "stale"));
    fixture.settle().await;
    assert_eq!(fixture.ask(question(1), fail).await.unwrap(), told("old", "stale"));
    fixture.keep(Duration::from_secs(110), 1, "useless");
    fixture.settle().await;
    fixture.gate.add_permits(10);
    assert!(fixture.ask(question(1), fail).await.is_err());
}

#[tokio::test]
async fn what_was_answered_before_a_change_is_no_answer_after_it() {
    let fixture = Fixture::new();
    fixture.keep(Duration::ZERO, 1, "before");
    assert_eq!(fixture.ask(question(1), numbered).await.unwrap(), told("before", "hit"));
    let (before, after, ()) = tokio::join!(
        async {
            fixture.cache.answers.invalidate_all();
            fixture.ask(question(1), numbered).await.unwrap()
        },
        fixture.ask(question(2), numbered),
        async {
            fixture.settle().await;
            assert_eq!(fixture.runs.load(Ordering::SeqCst), 2, "a run of before is not waited for");
            fixture.gate.add_permits(2);
        }
    );
    assert_eq!((before, after.unwrap()), (told("0", "miss"), told("1", "miss")));
}

#[tokio::test]
async fn long_and_broken_bodies_go_on_as_they_came() {
    let pieces = |broken: bool| {
        let pieces = std::iter::repeat_n(Bytes::from(vec![b'x'; 700_000]), 3).map(Ok);
        let end = broken.then(|| Err(std::io::Error::other("gone")));
        Body::from_stream(stream::iter(pieces.chain(end)))
    };
    let long = whole(pieces(false)).await.unwrap_err();
    assert_eq!(long.collect().await.unwrap().to_bytes().len(), 2_100_000);
    assert!(whole(pieces(true)).await.unwrap_err().collect().await.is_err());
    let broken = stream::iter([Ok("a"), Err(std::io::Error::other("gone"))]);
    assert!(whole(Body::from_stream(broken)).await.unwrap_err().collect().await.is_err());
    assert!(whole(Body::from(vec![0; BODY_BYTES_MAX + 1])).await.is_err());
    assert_eq!(whole(Body::from(vec![0; BODY_BYTES_MAX])).await.unwrap().len(), BODY_BYTES_MAX);
    let joined = Body::from_stream(stream::iter(["a", "", "bc"].map(Ok::<_, std::io::Error>)));
    assert_eq!(whole(joined).await.unwrap(), "abc");
    assert_eq!(whole(Body::empty()).await.unwrap(), "");
}

#[test]
fn what_a_script_says_decides_whether_its_answer_is_kept() {
    let kept = |status: u16, fields: &[(&'static str, &'static str)]| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in fields {
            response.headers_mut().append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        may_be_kept(&response, &policy(), &question(1).endpoint)
    };
    for fields in [
        &[][..],
        &[("cache-control", "public, max-age=5")],
        &[("vary", "Accept")],
        &[("vary", "accept"), ("vary", "ACCEPT, accept")],
        &[("x-a", "private")],
    ] {
        assert!(kept(200, fields), "{fields:?}");
    }
    for fields in [
        &[("set-cookie", "a=b")][..],
        &[("cache-control", "no-store")],
        &[("cache-control", "max-age=5, PRIVATE")],
        &[("cache-control", "private=\"x-a\"")],
        &[("cache-control", "max-age=5"), ("cache-control", " no-cache ")],
        &[("cache-control", "ü")],
        &[("vary", "*")],
        &[("vary", "accept, cookie")],
        &[("vary", "")],
    ] {
        assert!(!kept(200, fields), "{fields:?}");
    }
    for status in [201, 204, 206, 301, 304, 404, 500] {
        assert!(!kept(status, &[]), "{status}");
    }
}
