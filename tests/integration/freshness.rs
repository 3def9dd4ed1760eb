//! The promise: every request starts from byte-identical published memory, whatever the last one did.

use serde_json::{Value, json};

use crate::support::TestApp;

/// Writes a marker wherever Python can reach, or looks for one.
const HOSTILE: &str = "
import abc, atexit, builtins, codecs, collections.abc, contextvars, copyreg, decimal, functools, gc, json, linecache, logging, mimetypes
import os, random, re, socket, sys, threading, types, urllib.parse, warnings, weakref
COUNT = 0
KEPT = []
CACHE = {}
class Thing: pass
VARIABLE = contextvars.ContextVar('marker', default=None)
LOCAL = threading.local()
ITERATOR = iter(range(10))

@functools.lru_cache
def cached(key):
    return [key]

def closure():
    n = 0
    def count():
        nonlocal n
        n += 1
        return n
    return count
CLOSURE = closure()

def generate():
    seen = yield 'first'
    while True: seen = yield seen
GENERATOR = generate(); next(GENERATOR)

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
    VARIABLE.set('marker'); LOCAL.marker = 1; next(ITERATOR); cached('marker').append('marker'); CLOSURE(); GENERATOR.send('marker')
    collections.abc.Sequence.register(Thing); copyreg.dispatch_table[Thing] = 'marker'; codecs.register_error('marker', lambda e: ('', e.end))
    atexit.register(mark); warnings.filterwarnings('ignore', 'marker'); mimetypes.add_type('x/marker', '.marker')
    sys.excepthook = mark; sys.argv.append('marker'); sys.meta_path.append('marker'); sys.path_hooks.append('marker')
    sys.setswitchinterval(0.5); sys.displayhook = mark; socket.setdefaulttimeout(7); decimal.DefaultContext.prec = 5
    linecache.cache['marker'] = (1, None, [], 'marker'); mark.__defaults__ = ('marker',); default.__kwdefaults__ = {'marker': 1}
    os.environ['TZ'] = 'marker'; os.urandom = lambda n: b'0' * n; builtins.len = lambda x: 0; dict.fromkeys(range(100_000))
    weakref.finalize(Thing, mark); peliqan = sys.modules['peliqan']; peliqan.marker = 1; type(pq.dbconnect('x')).marker = 1
    os.umask(0o77) if hasattr(os, 'umask') else None; sys.modules['handler'].marker = 1; sys.modules['pqhost_runtime.loader'].marker = 1
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
    see('context', VARIABLE.get()); see('local', hasattr(LOCAL, 'marker')); see('iterator', ITERATOR.__length_hint__() != 10)
    see('lru', cached.cache_info().currsize); see('closure', CLOSURE.__closure__[0].cell_contents); see('registered', issubclass(Thing, collections.abc.Sequence))
    see('copyreg', Thing in copyreg.dispatch_table); see('warnings', any('marker' in str(f[1]) for f in warnings.filters))
    try: see('codecs', codecs.lookup_error('marker'))
    except LookupError: pass
    see('atexit', atexit._ncallbacks() > CALLBACKS); see('mimetypes', mimetypes.guess_type('a.marker')[0]); see('excepthook', sys.excepthook is not sys.__excepthook__)
    see('argv', 'marker' in sys.argv); see('meta_path', 'marker' in sys.meta_path); see('path_hooks', 'marker' in sys.path_hooks)
    see('switch', sys.getswitchinterval() == 0.5); see('displayhook', sys.displayhook is mark); see('socket', socket.getdefaulttimeout())
    see('DefaultContext', decimal.DefaultContext.prec != 28); see('linecache', 'marker' in linecache.cache); see('defaults', mark.__defaults__)
    see('kwdefaults', default.__kwdefaults__); see('tz', os.environ.get('TZ')); see('urandom', os.urandom.__name__ != 'urandom'); see('len', len([1]) != 1)
    see('peliqan', hasattr(sys.modules['peliqan'], 'marker')); see('connection', hasattr(type(pq.dbconnect('x')), 'marker'))
    see('handler module', hasattr(sys.modules['handler'], 'marker')); see('loader', hasattr(sys.modules['pqhost_runtime.loader'], 'marker'))
    see('heap', any(isinstance(o, dict) and 'marker' in o and o is not locals() for o in gc.get_objects() if type(o) is dict and o.get('marker') == 1))
    return found

CALLBACKS = atexit._ncallbacks()

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
    let mut numbers = std::collections::HashSet::new();
    let mut clean = |answer: &Value| {
        assert_eq!(answer["found"], json!([]));
        assert!(numbers.insert(answer["random"].to_string()), "random numbers do not go on from a seed");
    };
    clean(&app.get("/acme/one").await.json());
    for _ in 0..3 {
        // Replacing the handler's code leaves the marked request's own answer to what ran before.
        let marked = app.get("/acme/one?mark").await.json();
        assert!(
            marked["found"].as_array().unwrap().len() > 45,
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
    // A slot is dropped after the answer has left.
    while app.pool().discarded < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(app.pool().discarded, 3);
}

#[tokio::test]
async fn closing_every_file_descriptor_is_ones_own_problem() {
    let app = TestApp::with(|config| {
        config.slots_max = 1;
        config.slots_per_tenant_max = 1;
    })
    .await;
    let acme = app.acme().await;
    let source = "
import os
def handler(request):
    for fd in range(20):
        if request['query_string'] == 'close':
            try: os.close(fd)
            except OSError: pass
        if request['query_string'] == 'write':
            try: os.write(fd, b'to a descriptor')
            except OSError: pass
    print('printed')
    return [os.urandom(1) != b'']
";
    app.serve(&acme, "fd", source).await;
    for query in ["close", "", "write", "", "close", "write", ""] {
        let answer = app.get(&format!("/acme/fd?{query}")).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "[true]"), "{query}");
        let record = app.invocation(&acme, answer.headers["x-request-id"].to_str().unwrap()).await;
        assert!(record.log.contains("printed"), "{query}: {}", record.log);
    }
}
