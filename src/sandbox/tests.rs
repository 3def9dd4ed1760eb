//! Slots with the real runtime.

use std::{
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use super::{
    image::PageSet,
    images::ImageLibrary,
    runtime::Runtime,
    slot::{CallError, Slot},
};
use crate::domain::{
    exchange::{Caller, HandlerBody, HandlerRequest},
    limits::Limits,
    names::InvocationId,
    script::SourceFile,
};

/// One for all tests: compiling takes seconds.
static RUNTIME: LazyLock<Arc<Runtime>> = LazyLock::new(|| {
    let cache = std::env::var_os("PQHOST_TEST_CACHE").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| std::env::temp_dir().join("pqhost-test-cache"));
    Arc::new(Runtime::load(&cache, None, || {}).expect("the embedded runtime loads").0)
});

fn request() -> HandlerRequest {
    HandlerRequest {
        method: "GET".to_owned(),
        url: "http://localhost/acme/hello?a=1".to_owned(),
        path: "/hello".to_owned(),
        query_string: "a=1".to_owned(),
        headers: vec![("host".to_owned(), "localhost".to_owned()), ("user-agent".to_owned(), "test".to_owned())],
        body: bytes::Bytes::new(),
        form: Vec::new(),
        files: Vec::new(),
        path_params: Vec::new(),
        client_ip: "127.0.0.1".to_owned(),
        request_id: InvocationId::generate(),
        caller: Caller::Public,
    }
}

fn source(text: &str) -> Vec<SourceFile> {
    vec![SourceFile { name: "handler.py".to_owned(), content: text.as_bytes().to_vec() }]
}

async fn loaded(text: &str) -> (Slot, ImageLibrary, tempfile::TempDir) {
    let limits = Limits::default();
    let mut slot = RUNTIME.new_slot().await.unwrap();
    slot.begin(None, &limits).unwrap();
    slot.load(&source(text), false, &limits).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let images = ImageLibrary::open(directory.path().to_owned(), &RUNTIME).unwrap();
    let stored = images.save(&slot.snapshot().unwrap().unwrap()).unwrap();
    assert!(stored.bytes < 300 << 10, "an image is at most 300 KiB: {}", stored.bytes);
    slot.mount(&images.get(&stored.hash).unwrap()).unwrap();
    (slot, images, directory)
}

async fn call(slot: &mut Slot) -> Result<String, CallError> {
    let limits = Limits::default();
    slot.begin(None, &limits).unwrap();
    let response = slot.handle(&request(), &limits).await?;
    let HandlerBody::Bytes(body) = response.body else { panic!("rows") };
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

const COUNTER: &str = "COUNT = 0\ndef handler(request):\n    global COUNT\n    COUNT += 1\n    return {'hello': request['path'], 'n': COUNT}\n";

#[tokio::test]
async fn a_rewound_slot_answers_as_the_first_time() {
    let (mut slot, _images, _directory) = loaded(COUNTER).await;
    for _ in 0..200 {
        assert_eq!(call(&mut slot).await.unwrap(), r#"{"hello":"/hello","n":1}"#);
        slot.rewind().await.unwrap();
        slot.verify().unwrap();
    }
}

#[tokio::test]
async fn without_rewinding_state_would_survive() {
    let (mut slot, _images, _directory) = loaded(COUNTER).await;
    call(&mut slot).await.unwrap();
    assert_eq!(call(&mut slot).await.unwrap(), r#"{"hello":"/hello","n":2}"#);
    assert!(slot.verify().is_err());
}

#[tokio::test]
async fn the_clock_of_a_slot_starts_in_each_call() {
    let source = "import time\ndef handler(request):\n    time.sleep(0.02)\n    return [time.monotonic_ns(), time.perf_counter_ns()]\n";
    let (mut slot, _images, _directory) = loaded(source).await;
    for _ in 0..3 {
        let begun = std::time::Instant::now();
        let told: Vec<u128> = serde_json::from_str(&call(&mut slot).await.unwrap()).unwrap();
        let passed = begun.elapsed().as_nanos();
        assert!(told.iter().all(|told| (20_000_000..=passed).contains(told)), "{told:?} in {passed}");
        slot.rewind().await.expect("a script that waits is an ordinary one");
    }
}

#[tokio::test]
async fn a_slot_that_held_several_resources_is_dropped() {
    for (body, is_dropped) in [
        ("pass", false),
        ("time.sleep(0.001); time.sleep(0.001)", false),
        ("os.write(1, b'x')", true),
        ("os.write(1, b'x'); os.close(1)", false),
        ("os.write(1, b'x'); os.write(2, b'x'); os.close(1); os.close(2)", true),
        ("os.write(1, b'x'); os.write(2, b'x'); os.close(2); os.close(1)", true),
        ("os.write(1, b'x'); time.sleep(0.001); os.close(1)", true),
    ] {
        let source = format!("import os, time\ndef handler(request):\n    {body}\n    return []\n");
        let (mut slot, _images, _directory) = loaded(&source).await;
        call(&mut slot).await.unwrap();
        assert_eq!(slot.rewind().await.is_err(), is_dropped, "{body}");
    }
}

#[tokio::test]
async fn an_ordinary_call_dirties_few_pages() {
    let (mut slot, _images, _directory) = loaded(COUNTER).await;
    call(&mut slot).await.unwrap();
    let pages = slot.rewind().await.unwrap();
    assert!(pages < 80, "each page costs a tenth of a microsecond in every request: {pages}");
}

#[tokio::test]
async fn a_new_slot_shows_the_base_image() {
    RUNTIME.new_slot().await.unwrap().verify().unwrap();
}

#[test]
fn images_that_are_kept_mapped_are_bounded_at_any_time() {
    const PAGE_BYTES: usize = 4096;
    let directory = tempfile::tempdir().unwrap();
    let images = ImageLibrary::open(directory.path().to_owned(), &RUNTIME).unwrap();
    let base = RUNTIME.base().whole();
    let mut memory = base.to_vec();
    let changed = 0..256; // pages, a megabyte
    let mut most = 0;
    for n in 1..=64_u8 {
        for page in changed.clone() {
            memory[page * PAGE_BYTES] = base[page * PAGE_BYTES] ^ n;
        }
        let pages = PageSet::difference_among(&memory, base, changed.clone());
        images.get(&images.save(&pages).unwrap().hash).unwrap();
        let (kept, bound) = images.kept_bytes();
        assert!(kept <= bound, "{kept} bytes after image {n}");
        most = kept.max(most);
    }
    assert!(most > 16 << 20, "they are kept: {most}");
}
