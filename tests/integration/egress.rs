//! Outbound HTTP, from inside the sandbox: what libraries can do, and what hostile scripts and servers cannot.

use pqhost::{db::connections::ConnectionKind, egress::HttpConnection, invoke::directory::url_context};
use serde_json::{Value, json};

use crate::{
    contract::play,
    support::{HANG_GUARD, Tenant, TestApp},
    upstream::Upstream,
};

/// A host whose scripts may reach this machine, and a server that tenant `acme` may call.
pub(crate) async fn app() -> (TestApp, Upstream) {
    let app = TestApp::with(|config| config.egress_private = vec!["127.0.0.0/8".parse().unwrap()]).await;
    let upstream = Upstream::start().await;
    allow(&app, &app.acme().await, &upstream.url("")).await;
    (app, upstream)
}

async fn allow(app: &TestApp, tenant: &Tenant, rule: &str) {
    app.workspace.db.egress().allow(tenant.id, &rule.parse().unwrap()).await.unwrap();
    app.see_changes().await;
}

/// What a handler with this body, and `base` as the server's URL, returns.
async fn run(app: &TestApp, tenant: &Tenant, upstream: &Upstream, body: &str) -> Value {
    let name = format!("s{}", app.workspace.db.scripts().list_scripts(tenant.id).await.unwrap().len());
    let body: String = body.trim().lines().map(|line| format!("    {line}\n")).collect();
    let source = format!(
        "import requests\nbase = '{}'\ndef body(request):\n{body}def handler(request): return [body(request)]\n",
        upstream.url("")
    );
    app.serve(tenant, &name, &source).await;
    let answer = app.get(&format!("/{}/{name}", tenant.name)).await;
    if answer.status != 200 {
        let record = app.invocation(tenant, answer.headers["x-request-id"].to_str().unwrap()).await;
        panic!("{} {}", answer.body, record.traceback.unwrap_or_default());
    }
    answer.json()[0].take()
}

/// A body that returns the name and text of the exception that `expression` raises.
fn raised(expression: &str) -> String {
    format!(
        "import urllib.request, http.client, urllib3, socket\ntry:\n    {expression}\nexcept Exception as e:\n    return [type(e).__name__, str(e)]\nreturn 'nothing'"
    )
}

fn all_true(results: &Value) {
    for (what, held) in results.as_object().unwrap() {
        assert_eq!(held, &json!(true), "{what}: {results}");
    }
}

#[tokio::test]
async fn requests_does_what_it_does_elsewhere() {
    let (app, upstream) = app().await;
    let body = "
import io
echo = base + '/echo/x'
def sent(**kwargs): return requests.post(echo, **kwargs).json()
r = requests.get(echo, params={'a': [1, 2], 'b': 'é'}, headers={'X-A': 'b'}, timeout=5)
basic = requests.get(echo, auth=('user', 'pass')).json()['headers']['authorization']
class Token(requests.auth.AuthBase):
    def __call__(self, r): r.headers['X-Token'] = 't'; return r
session = requests.Session(); session.headers['X-S'] = 's'; session.params = {'p': 'q'}
first = session.get(echo).json(); second = session.get(echo).json()
stream = requests.get(echo, stream=True)
retry = requests.Session(); retry.mount('http://', requests.adapters.HTTPAdapter(max_retries=urllib3_retry()))
hops = requests.get(base + '/redirect?/redirect?/echo')
bad = requests.get(base + '/status/404')
try: bad.raise_for_status()
except requests.HTTPError as e: raised = e.response.status_code == 404 and '404 Client Error: Some Reason' in str(e)
try: requests.get(base + '/status/200').json()
except requests.exceptions.JSONDecodeError: no_json = True
files = sent(files={'f': ('a.txt', b'content')}, data={'k': 'v'})
return {
    'json': r.json()['method'] == 'GET' and r.ok and r.status_code == requests.codes.ok and r.reason == 'OK',
    'params': r.json()['target'] == '/echo/x?a=1&a=2&b=%C3%A9' and r.url.endswith('b=%C3%A9'),
    'headers': r.json()['headers']['x-a'] == 'b' and r.headers['Content-Type'] == 'application/json' and r.headers['X-Twice'] == 'a, b',
    'agent': r.json()['headers']['user-agent'].startswith('python-requests/') and r.json()['headers']['host'] in base,
    'time': 0 <= r.elapsed.total_seconds() < 10, 'bytes': type(r.content) is bytes and r.text[0] == '{',
    'post': sent(json={'n': [1]})['body'] == '{\"n\": [1]}' and sent(data={'a': 'b c'})['body'] == 'a=b+c' and sent(data=b'raw')['body'] == 'raw',
    'content_type': sent(json=1)['headers']['content-type'] == 'application/json',
    'file_body': sent(data=io.BytesIO(b'file'))['body'] == 'file', 'chunked': sent(data=iter([b'ab', b'c']))['body'] == 'abc',
    'files': 'content' in files['body'] and files['headers']['content-type'].startswith('multipart/form-data; boundary='),
    'methods': all(requests.request(m, echo).json()['method'] == m for m in ['PUT', 'PATCH', 'DELETE', 'OPTIONS']),
    'head': requests.head(echo).status_code == 200 and int(requests.head(echo).headers['content-length']) > 10,
    'basic': basic == 'Basic dXNlcjpwYXNz', 'auth': requests.get(echo, auth=Token()).json()['headers']['x-token'] == 't',
    'url_auth': requests.get(echo.replace('//', '//u:p@')).json()['headers']['authorization'] == 'Basic dTpw',
    'session': first['headers']['x-s'] == 's' and first['target'].endswith('?p=q') and 'cookie' not in first['headers'],
    'cookies': second['headers']['cookie'] == 'seen=1' and session.cookies['seen'] == '1',
    'lines': b''.join(stream.iter_content(7)) == requests.get(echo).content and len(list(requests.get(echo).iter_lines())) == 1,
    'redirects': len(hops.history) == 2 and hops.history[0].status_code == 302 and hops.json()['target'] == '/echo',
    'no_redirect': requests.get(base + '/redirect?/echo', allow_redirects=False).headers['location'] == '/echo',
    'errors': not bad.ok and raised and no_json, 'latin': requests.get(base + '/latin').text == 'café',
    'encoding': requests.get(base + '/latin').encoding == 'ISO-8859-1' and requests.get(base + '/latin').headers['x-name'] == 'café',
    'retries': retry.get(base + '/status/200').text == 'oops', 'prepared': session.send(requests.Request('GET', echo).prepare()).ok,
}
";
    let body = body.replace("urllib3_retry()", "__import__('urllib3').Retry(2)");
    all_true(&run(&app, &app.acme().await, &upstream, &body).await);
    app.assert_rewound();
}

#[tokio::test]
async fn urllib_http_client_and_urllib3_work_too() {
    let (app, upstream) = app().await;
    let body = "
import http.client, json, ssl, urllib.error, urllib.parse, urllib.request, urllib3
echo = base + '/echo'
with urllib.request.urlopen(echo, timeout=5) as r: plain = json.load(r); facts = (r.status, r.reason, r.headers['X-Twice'], r.geturl())
posted = json.load(urllib.request.urlopen(urllib.request.Request(echo, data=b'a=b', headers={'X-A': 'b'}, method='PUT')))
try: urllib.request.urlopen(base + '/status/500')
except urllib.error.HTTPError as e: http_error = (e.code, e.reason, e.read()) == (500, 'Some Reason', b'oops')
try: urllib.request.urlopen('http://nowhere.invalid/')
except urllib.error.URLError as e: url_error = 'may not call' in str(e.reason)
c = http.client.HTTPConnection(urllib.parse.urlsplit(base).netloc)
c.request('POST', '/echo?x', body='hi', headers={'X-B': 'c'}); one = c.getresponse(); first = json.load(one)
c.request('GET', '/echo'); second = json.load(c.getresponse())
c.putrequest('POST', '/echo'); c.putheader('Content-Length', '4'); c.endheaders(); c.send(b'ab'); c.send(b'cd'); third = json.load(c.getresponse())
pool = urllib3.PoolManager()
return {
    'urlopen': plain['method'] == 'GET' and facts == (200, 'OK', 'a', echo), 'request': (posted['method'], posted['body'], posted['headers']['x-a']) == ('PUT', 'a=b', 'b'),
    'http_error': http_error, 'url_error': url_error, 'redirect': json.load(urllib.request.urlopen(base + '/redirect?/echo'))['target'] == '/echo',
    'client': (one.status, first['target'], first['body'], first['headers']['x-b']) == (200, '/echo?x', 'hi', 'c'),
    'reused': second['method'] == 'GET', 'manual': third['body'] == 'abcd', 'https': http.client.HTTPSConnection('x').port == 443,
    'urllib3': pool.request('GET', echo).json()['method'] == 'GET', 'context': ssl.create_default_context().check_hostname,
    'handler': any(type(h).__name__ == 'HTTPSHandler' for h in urllib.request.build_opener(urllib.request.HTTPSHandler(context=ssl.create_default_context())).handlers),
}
";
    all_true(&run(&app, &app.acme().await, &upstream, body).await);
    // The host keeps its connection to a server between requests.
    assert!(upstream.connections() < 6, "{}", upstream.connections());
}

#[tokio::test]
async fn scripts_call_what_their_tenant_may_call_and_nothing_else() {
    let (app, upstream) = app().await;
    let (acme, other) = (app.acme().await, app.tenant("other").await);
    let refused = async |tenant: &Tenant, url: &str| {
        let outcome = run(&app, tenant, &upstream, &raised(&format!("requests.get('{url}')"))).await;
        (outcome[0].as_str().unwrap().to_owned(), outcome[1].as_str().unwrap().to_owned())
    };
    let port = upstream.address.port();
    // Another tenant, another port, another notation of a host that is not on the list, user and password tricks.
    for (tenant, url) in [
        (&other, upstream.url("/echo")),
        (&acme, "http://127.0.0.1:1/".to_owned()),
        (&acme, format!("http://127.0.0.2:{port}/echo")),
        (&acme, format!("http://localhost:{port}/echo")),
        (&acme, format!("http://[::ffff:127.0.0.1]:{port}/echo")),
        (&acme, format!("https://127.0.0.1:{port}/echo")),
        (&acme, format!("http://127.0.0.1:{port}@evil.example/echo")),
    ] {
        let (name, message) = refused(tenant, &url).await;
        assert_eq!(name, "ConnectionError", "{url}: {message}");
        assert!(message.contains("may not call"), "{url}: {message}");
    }
    // Other notations of the same address are the same address.
    let dotless = u32::from(std::net::Ipv4Addr::LOCALHOST);
    for host in [dotless.to_string(), "0x7f.1".to_owned(), "0177.0.0.1".to_owned()] {
        let body = format!("return requests.get('http://{host}:{port}/echo').status_code");
        assert_eq!(run(&app, &acme, &upstream, &body).await, json!(200), "{host}");
    }
    // The list can change while the host runs.
    app.workspace.db.egress().deny(acme.id, &upstream.url("").parse().unwrap()).await.unwrap();
    app.see_changes().await;
    assert!(refused(&acme, &upstream.url("/echo")).await.1.contains("may not call"));
}

#[tokio::test]
async fn private_addresses_are_refused_however_they_are_written() {
    let app = TestApp::new().await;
    let (acme, upstream) = (app.acme().await, Upstream::start().await);
    let port = upstream.address.port();
    for rule in [
        format!("http://127.0.0.1:{port}"),
        format!("http://localhost:{port}"),
        format!("http://[::ffff:127.0.0.1]:{port}"),
        "http://169.254.169.254".to_owned(),
    ] {
        allow(&app, &acme, &rule).await;
    }
    for host in [
        format!("127.0.0.1:{port}"),
        format!("2130706433:{port}"),
        format!("0x7f000001:{port}"),
        format!("0177.0.0.1:{port}"),
        format!("127.1:{port}"),
        // A name that resolves to loopback.
        format!("localhost:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("[::ffff:7f00:1]:{port}"),
        "169.254.169.254".to_owned(),
    ] {
        let outcome = run(&app, &acme, &upstream, &raised(&format!("requests.get('http://{host}/echo')"))).await;
        let message = outcome[1].as_str().unwrap();
        assert!(message.contains("scripts may not call"), "{host}: {message}");
        assert!(!message.contains("127.0.0.1') ") && outcome[0] == "ConnectionError", "{host}: {message}");
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn each_redirect_is_checked_anew() {
    let (app, upstream) = app().await;
    let acme = app.acme().await;
    for (call, name, text) in [
        (
            "requests.get(base + '/redirect?http://169.254.169.254/latest/meta-data/')",
            "ConnectionError",
            "may not call",
        ),
        ("requests.get(base + '/redirect?http://localhost:1/')", "ConnectionError", "may not call"),
        ("requests.get(base + '/redirect?file:///etc/passwd')", "InvalidSchema", "No connection adapters"),
        ("urllib.request.urlopen(base + '/redirect?http://169.254.169.254/')", "URLError", "may not call"),
        ("requests.get(base + '/loop')", "TooManyRedirects", "30 redirects"),
    ] {
        let outcome = run(&app, &acme, &upstream, &raised(call)).await;
        assert_eq!(outcome[0], name, "{call}: {outcome}");
        assert!(outcome[1].as_str().unwrap().contains(text), "{call}: {outcome}");
    }
}

#[tokio::test]
async fn hostile_servers_and_requests_end_in_exceptions() {
    let (app, upstream) = app().await;
    let acme = app.acme().await;
    for (call, name, text) in [
        ("requests.get(base + '/endless')", "ConnectionError", "larger than 8388608 bytes"),
        ("requests.get(base + '/announced')", "ConnectionError", "larger than 8388608 bytes"),
        // As much time to connect as the host allows, on a slow machine too.
        ("requests.get(base + '/dripping', timeout=(60, 0.02))", "ReadTimeout", "did not answer in time"),
        ("requests.get(base + '/silent', timeout=(60, 0.2))", "ReadTimeout", "did not answer in time"),
        ("urllib.request.urlopen(base + '/silent', timeout=1)", "URLError", "did not answer in time"),
        ("requests.get(base + '/headers')", "ConnectionError", "broke"),
        ("requests.get(base + '/garbage')", "ConnectionError", "broke"),
        ("requests.get(base + '/hangup')", "ConnectionError", "broke"),
        ("requests.post(base + '/echo', data=b'x' * (9 << 20))", "ConnectionError", "8388608 bytes"),
        ("requests.get(base + '/echo', headers={'X-A': 'b\\r\\nX-C: d'})", "InvalidHeader", "header value"),
        (
            "requests.get(base + '/echo', headers={f'X-{n}': 'b' for n in range(200)})",
            "ConnectionError",
            "header fields",
        ),
        ("requests.request('CONNECT', base + '/echo')", "ConnectionError", "cannot be sent"),
        ("requests.get('http://127.0.0.1')", "ConnectionError", "may not call"),
        ("requests.get('nonsense')", "MissingSchema", "No scheme supplied"),
        ("requests.get('http://')", "InvalidURL", "No host supplied"),
        ("requests.get(base + '/echo', verify='/etc/ca.pem')", "SSLError", "verify="),
        ("requests.get(base + '/echo', cert='/etc/me.pem')", "SSLError", "cert="),
        ("requests.get(base + '/echo', proxies={'http': 'http://127.0.0.1:3128'})", "ConnectionError", "prox"),
        ("urllib3.PoolManager().request('GET', base + '/hangup', retries=False)", "ProtocolError", "broke"),
        ("http.client.HTTPConnection('127.0.0.1').request('GET', '/')", "PermissionError", "may not call"),
    ] {
        let outcome = run(&app, &acme, &upstream, &raised(call)).await;
        assert_eq!(outcome[0], name, "{call}: {outcome}");
        assert!(outcome[1].as_str().unwrap().contains(text), "{call}: {outcome}");
    }
    // Nobody listens there any more.
    let gone = Upstream::start().await.address;
    allow(&app, &acme, &format!("http://{gone}")).await;
    let outcome = run(&app, &acme, &upstream, &raised(&format!("requests.get('http://{gone}/')"))).await;
    assert_eq!(outcome[0], "ConnectionError", "{outcome}");
    app.assert_rewound();
}

#[tokio::test]
async fn a_gzip_bomb_hits_the_limits_of_its_own_script() {
    let app = TestApp::with(|config| {
        config.egress_private = vec!["127.0.0.0/8".parse().unwrap()];
        // Enough to make the bomb.
        config.limits.fuel *= 10;
        config.limits.deadline = HANG_GUARD;
    })
    .await;
    let (acme, upstream) = (app.acme().await, Upstream::start().await);
    allow(&app, &acme, &upstream.url("")).await;
    let body = "
import gzip
small = gzip.compress(b'hello' * 100)
return requests.post(base + '/mirror', data=small.hex()).text == 'hello' * 100
";
    assert_eq!(run(&app, &acme, &upstream, body).await, json!(true));
    let source = format!(
        "import requests, zlib\ndef handler(request):\n    c = zlib.compressobj(1, wbits=31)\n    piece = bytes(1 << 20)\n    \
         bomb = b''.join(c.compress(piece) for _ in range(100)) + c.flush()\n    \
         return len(requests.post('{}', data=bomb.hex()).content)\n",
        upstream.url("/mirror")
    );
    app.serve(&acme, "bomb", &source).await;
    let (status, code) = app.get("/acme/bomb").await.problem();
    assert_eq!(status, 500);
    assert!(["script_memory", "script_error"].contains(&code.as_str()), "{code}");
    assert_eq!(run(&app, &acme, &upstream, "return 1").await, json!(1));
    app.assert_rewound();
}

#[tokio::test]
async fn requests_are_counted_and_end_before_the_deadline() {
    let with_deadline = async |deadline| {
        let app = TestApp::with(|config| {
            config.egress_private = vec!["127.0.0.0/8".parse().unwrap()];
            config.limits.deadline = deadline;
        })
        .await;
        let (acme, upstream) = (app.acme().await, Upstream::start().await);
        allow(&app, &acme, &upstream.url("")).await;
        (app, acme, upstream)
    };
    // A tenth of it is left to answer.
    let (app, acme, upstream) = with_deadline(std::time::Duration::from_secs(10)).await;
    let slow = run(&app, &acme, &upstream, &raised("requests.get(base + '/silent')")).await;
    assert_eq!(slow[0], "ReadTimeout", "{slow}");
    let (app, acme, upstream) = with_deadline(HANG_GUARD).await;
    let body = "
import urllib.request
try:
    for n in range(60): urllib.request.urlopen(base + '/status/200').close()
except OSError as e: return [n, str(e)]
";
    let counted = run(&app, &acme, &upstream, body).await;
    assert_eq!(counted[0], 50, "{counted}");
    assert!(counted[1].as_str().unwrap().contains("50 HTTP requests"), "{counted}");
}

#[tokio::test]
async fn a_request_at_module_level_is_made_in_each_request() {
    let (app, upstream) = app().await;
    let acme = app.acme().await;
    let source = format!(
        "import requests\nSESSION = requests.Session()\nSTATUS = SESSION.get('{}').status_code\ndef handler(request): return [STATUS]\n",
        upstream.url("/echo")
    );
    let version = app.serve(&acme, "early", &source).await.version;
    let reason = version.loaded.reason.unwrap_or_default();
    assert!(reason.contains("handler.py, line 3"), "{reason}");
    for _ in 0..2 {
        assert_eq!(app.get("/acme/early").await.json(), json!([200]));
    }
    // A session alone observes nothing.
    let source = "import requests\nSESSION = requests.Session()\ndef handler(request): return 1\n";
    assert_eq!(app.serve(&acme, "late", source).await.version.loaded.reason, None);
}

/// Makes the connection `crm` to the server's API.
pub(crate) async fn connect(app: &TestApp, tenant: &Tenant, upstream: &Upstream) {
    let connection = HttpConnection::new(&upstream.url("/v1"), ["Authorization: Bearer hunter2"]).unwrap();
    let text = connection.to_sealed_text();
    let seal = |id| app.workspace.vault.seal(&url_context(id), text.as_bytes());
    let name = "crm".parse().unwrap();
    app.workspace.db.connections().create_connection(tenant.id, &name, ConnectionKind::Http, seal).await.unwrap();
    app.see_changes().await;
}

#[tokio::test]
async fn the_example_calls_an_api() {
    let (app, upstream) = app().await;
    let acme = app.acme().await;
    connect(&app, &acme, &upstream).await;
    play(&app, &acme, "call-an-api").await;
    assert_eq!(app.get("/acme/call-an-api?id=404").await.status, 404);
}

#[tokio::test]
async fn a_connector_uses_credentials_that_its_script_never_sees() {
    let (app, upstream) = app().await;
    // Not on the allow-list: the connection is enough, for itself alone.
    let other = app.tenant("other").await;
    connect(&app, &other, &upstream).await;
    let body = "
from peliqan.exceptions import PeliqanClientException
crm = pq.connect('crm')
def code(call):
    try: return call()
    except PeliqanClientException as e: return e.code
missing = crm.get('contacts', 404)
return {
    'apicall': crm.apicall('contacts?a=b') == [{'id': 1, 'query': 'a=b'}, {'id': 2}],
    'params': crm.list('contacts', page=2)[0]['query'] == 'page=2', 'findone': crm.findone('contacts')['id'] == 1,
    'get': crm.get('contacts', 'a/b') == {'method': 'GET', 'path': 'contacts/a%2Fb', 'body': ''},
    'add': crm.add('contacts', {'name': 'A'}, age=1) == {'status': 'success', 'detail': {'method': 'POST', 'path': 'contacts', 'body': '{\"name\": \"A\", \"age\": 1}'}},
    'update': crm.update('contacts', id=5, name='B')['detail'] == {'method': 'PATCH', 'path': 'contacts/5', 'body': '{\"name\": \"B\"}'},
    'upsert': crm.upsert('contacts', {'id': 5})['detail']['method'] == 'PUT', 'delete': crm.delete('contacts', 5)['detail']['method'] == 'DELETE',
    'error': missing['status'] == 'error' and missing['detail']['status_code'] == 404 and missing['detail']['body'] == {'error': 'no such contact'},
    'write_error': crm.update('contacts', id=404, a=1)['status'] == 'error',
    'header': crm.apicall('x', headers={'Authorization': 'Bearer mine'})['path'] == 'x',
    'escape': code(lambda: crm.apicall('../echo')) == 'ERROR_NOT_ALLOWED' and code(lambda: crm.apicall('http://169.254.169.254/')) == 'ERROR_NOT_ALLOWED',
    'unknown': code(lambda: pq.connect('nope').get('x')) == 'ERROR_CONNECTION_DOES_NOT_EXIST',
    'sql': code(lambda: pq.dbconnect('crm').fetch('crm', 's', 't')) == 'ERROR_CONNECTION_DOES_NOT_EXIST',
    'full_url': crm.apicall(base + '/v1/next')['path'] == 'next',
}
";
    all_true(&run(&app, &other, &upstream, body).await);
    let direct = run(&app, &other, &upstream, &raised("requests.get(base + '/v1/contacts')")).await;
    assert!(direct[1].as_str().unwrap().contains("may not call"), "{direct}");
    let foreign = run(&app, &app.acme().await, &upstream, &raised("pq.connect('crm').get('contacts')")).await;
    assert!(foreign[1].as_str().unwrap().contains("unknown connection `crm`: there are none"), "{foreign}");
}
