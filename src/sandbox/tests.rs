//! Slots with the real runtime.

use std::{
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use super::{
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
    let stored = images.save(&slot.snapshot().unwrap()).unwrap();
    println!("image {} bytes", stored.bytes);
    slot.mount(&images.get(&stored.hash).unwrap()).unwrap();
    (slot, images, directory)
}

async fn call(slot: &mut Slot) -> Result<String, CallError> {
    let limits = Limits::default();
    slot.begin(None, &limits).unwrap();
    let response = slot.handle(request(), &limits).await?;
    let HandlerBody::Bytes(body) = response.body else { panic!("rows") };
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn speed() {
    let (mut slot, _images, _directory) =
        loaded("COUNT = 0\ndef handler(request):\n    global COUNT\n    COUNT += 1\n    return {'hello': request['path'], 'n': COUNT}\n").await;
    let (mut handle, mut rewind) = (Vec::new(), Vec::new());
    let mut pages = 0;
    let mut fuel = 0;
    for _ in 0..3000 {
        let start = std::time::Instant::now();
        let body = call(&mut slot).await.unwrap();
        handle.push(start.elapsed());
        fuel = slot.usage(&Limits::default()).fuel;
        let start = std::time::Instant::now();
        pages = slot.rewind().await.unwrap();
        rewind.push(start.elapsed());
        assert!(body.contains("\"n\": 1") || body.contains("\"n\":1"), "{body}");
    }
    handle.sort();
    rewind.sort();
    println!("handle {:?} rewind {:?} pages {pages} fuel {fuel}", handle[1500], rewind[1500]);
    let mut create = Vec::new();
    let mut slots = Vec::new();
    for _ in 0..50 {
        let start = std::time::Instant::now();
        slots.push(RUNTIME.new_slot().await.unwrap());
        create.push(start.elapsed());
    }
    create.sort();
    println!("new slot {:?}", create[25]);
    slot.verify().unwrap();
}
