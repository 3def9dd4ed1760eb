//! The promise: every request starts from byte-identical published memory, whatever the last one did.

use serde_json::{Value, json};

use crate::support::TestApp;

/// Writes a marker wherever Python can reach, or looks for one.
const HOSTILE: &str = "
import builtins, collections, decimal, gc, json, logging, os, random, re, sys, threading, urllib.parse, types
COUNT = 0
KEPT = []
CACHE = {}
class Thing: pass

def default(value=[]):
    return value

def mark():
    global COUNT
    COUNT += 1
    KEPT.append('marker'); CACHE['marker'] = 1; Thing.marker = 1; default().append('marker')
    builtins.marker = 1; sys.modules['marker'] = types.ModuleType('marker'); sys.path.append('marker')
    os.environ['MARKER'] = '1'; json.marker = 1; urllib.parse.marker = 1; pq.marker = 1
    re.compile('marker[0-9]{3}'); sys.intern('marker' * 3); decimal.getcontext().prec = 5
    logging.getLogger('marker').setLevel(10); threading.current_thread().name = 'marker'
    sys.setrecursionlimit(777); gc.enable(); random.seed(4)
    json.JSONEncoder.item_separator = '; '
    sys.stdout.marker = 1; handler.marker = 1; handler.__code__ = (lambda request: ['hijacked']).__code__

def look():
    found = []
    def see(what, seen):
        if seen: found.append(what)
    see('count', COUNT); see('list', KEPT); see('dict', CACHE); see('class', hasattr(Thing, 'marker')); see('default', default())
    see('builtins', hasattr(builtins, 'marker')); see('modules', 'marker' in sys.modules); see('path', 'marker' in sys.path)
    see('environ', 'MARKER' in os.environ); see('json', hasattr(json, 'marker')); see('parse', hasattr(urllib.parse, 'marker'))
    see('pq', hasattr(type(pq), 'marker') or 'marker' in vars(pq)); see('prec', decimal.getcontext().prec != 28)
    see('logger', 'marker' in logging.Logger.manager.loggerDict); see('thread', threading.current_thread().name == 'marker')
    see('recursion', sys.getrecursionlimit() == 777); see('gc', gc.isenabled()); see('separator', json.JSONEncoder.item_separator != ', ')
    see('stdout', hasattr(sys.stdout, 'marker')); see('handler', hasattr(handler, 'marker'))
    see('heap', any(isinstance(o, dict) and 'marker' in o and o is not locals() for o in gc.get_objects() if type(o) is dict and o.get('marker') == 1))
    return found

def handler(request):
    if request['query_string'] == 'mark':
        mark()
    return {'found': look(), 'random': random.random()}
";

async fn no_marker_survives(discarding: bool) {
    let app = TestApp::with(|config| {
        config.rewind_by_discarding = discarding;
        config.guest_threads = 1;
        config.slots_max = 1;
        config.slots_per_tenant_max = 1;
    })
    .await;
    let (acme, other) = (app.acme().await, app.tenant("other").await);
    app.serve(&acme, "one", HOSTILE).await;
    app.serve(&acme, "two", HOSTILE).await;
    app.serve(&other, "three", HOSTILE).await;
    let clean = |answer: &Value| assert_eq!(answer["found"], json!([]));
    clean(&app.get("/acme/one").await.json());
    for _ in 0..3 {
        // Replacing the handler's code leaves the marked request's own answer to what ran before.
        let marked = app.get("/acme/one?mark").await.json();
        assert!(
            marked["found"].as_array().unwrap().len() > 15,
            "the markers can be seen where they were made: {marked}"
        );
        clean(&app.get("/acme/one").await.json());
        app.get("/acme/one?mark").await;
        clean(&app.get("/acme/two").await.json());
        app.get("/acme/two?mark").await;
        clean(&app.get("/other/three").await.json());
    }
    app.assert_rewound();
    assert_eq!(app.pool().discarded, 0, "all of this was rewound, not thrown away");
}

#[tokio::test]
async fn no_marker_survives_rewinding() {
    no_marker_survives(false).await;
}

#[tokio::test]
async fn no_marker_survives_rewinding_by_discarding() {
    no_marker_survives(true).await;
}

#[tokio::test]
async fn random_numbers_differ_in_every_request() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    let source = "
import random, secrets, uuid
from random import random as bound, shuffle
OWN = random.Random(5)
def handler(request):
    x = list(range(50)); shuffle(x)
    return [random.random(), bound(), x, random.gauss(), str(uuid.uuid4()), secrets.token_hex(), random.SystemRandom().random()]
";
    app.serve(&acme, "r", source).await;
    let (one, two) = (app.get("/acme/r").await.json(), app.get("/acme/r").await.json());
    for (index, (a, b)) in one.as_array().unwrap().iter().zip(two.as_array().unwrap()).enumerate() {
        assert_ne!(a, b, "{index}");
    }
}

#[tokio::test]
async fn large_and_small_calls_alternate_on_one_slot() {
    let app = TestApp::with(|config| {
        config.slots_max = 1;
        config.slots_per_tenant_max = 1;
    })
    .await;
    let acme = app.acme().await;
    let source = "
KEEP = []
def handler(request):
    n = int(request['query_string'])
    KEEP.append(bytearray(b'x' * n))
    return [len(KEEP), len(KEEP[0])]
";
    app.serve(&acme, "big", source).await;
    for n in [10, 20_000_000, 10, 1_000_000, 25_000_000, 5] {
        assert_eq!(app.get(&format!("/acme/big?{n}")).await.json(), json!([1, n]));
    }
    app.assert_rewound();
    assert_eq!(app.pool().discarded, 0);
}

#[tokio::test]
async fn a_slot_that_trapped_is_thrown_away() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.serve(&acme, "trap", "import os\nCOUNT = 0\ndef handler(request):\n    global COUNT\n    COUNT += 1\n    if request['query_string']: os.abort()\n    return COUNT, 200\n".replace("return COUNT, 200", "return [COUNT]").as_str()).await;
    for _ in 0..3 {
        assert_eq!(app.get("/acme/trap?now").await.problem(), (500, "script_trap".to_owned()));
        assert_eq!(app.get("/acme/trap").await.json(), json!([1]));
    }
    assert_eq!(app.pool().discarded, 3);
}
