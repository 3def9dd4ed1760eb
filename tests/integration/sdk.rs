//! `pq` outside of the sandbox: the package of `guest-sdk/python`, installed by pip, against a whole host.

mod sessions;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use pqhost::{
    db::credentials::CredentialsOf,
    domain::{people::Role, secret::Readers},
};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection, Row as _};

use crate::{
    egress,
    program::Installation,
    secrets::{script_id, set_secret},
    support::{Answer, HANG_GUARD, Tenant, TestApp},
    upstream::Upstream,
};

const POSTGRES: &str = "postgres://postgres@127.0.0.1:5432/test";

/// A folder that pip has installed the package into.
fn installed() -> &'static Path {
    static INSTALLED: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, site) = INSTALLED.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        // A copy: setuptools builds in the folder it is given.
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-sdk/python");
        let copy = folder.path().join("sdk");
        let copied = Command::new("cp").arg("-r").arg(sources).arg(&copy).status().unwrap();
        assert!(copied.success());
        let site = folder.path().join("site");
        pip(&["wheel", "--no-deps", "--wheel-dir"], &[&folder.path().join("wheels"), &copy]);
        let wheel = std::fs::read_dir(folder.path().join("wheels")).unwrap().next().unwrap().unwrap().path();
        pip(&["install", "--no-deps", "--target"], &[&site, &wheel]);
        (folder, site)
    });
    site
}

fn pip(arguments: &[&str], paths: &[&Path]) {
    let mut command = Command::new("python3");
    command.args(["-m", "pip", "--disable-pip-version-check", "--quiet"]).args(arguments).args(paths);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A Python program with the package and these variables.
fn program(source: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new("python3");
    command.arg("-c").arg(format!("import json, pq\nfrom pq.exceptions import PeliqanClientException\n{source}"));
    command.env("PYTHONPATH", installed()).env("PYTHONDONTWRITEBYTECODE", "1").envs(variables.iter().copied());
    for variable in ["PQHOST_URL", "PQHOST_TOKEN", "PQHOST_SCRIPT"] {
        if !variables.iter().any(|(name, _)| *name == variable) {
            command.env_remove(variable);
        }
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a program prints, as JSON.
async fn run(mut program: Command) -> Value {
    let output = tokio::task::spawn_blocking(move || program.stdin(Stdio::null()).output().unwrap()).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaint.is_empty(), "{text}{complaint}");
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

/// A program that is talked with, killed in the end.
struct Conversation(Child);

impl Conversation {
    fn start(mut program: Command) -> Self {
        Self(program.stderr(Stdio::inherit()).spawn().unwrap())
    }

    /// The next line that it prints.
    async fn hear(&mut self) -> String {
        let mut output = BufReader::with_capacity(1, self.0.stdout.take().unwrap());
        let (line, output) = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            (line, output)
        })
        .await
        .unwrap();
        self.0.stdout = Some(output.into_inner());
        line.trim().to_owned()
    }

    fn tell(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"go on\n").unwrap();
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        _ = self.0.kill(); // it may have ended
        _ = self.0.wait();
    }
}

/// A host with the script `orders` and a token for its authors.
struct Authored {
    app: TestApp,
    acme: Tenant,
    token: String,
}

impl Authored {
    async fn new() -> Self {
        Self::with(|_| ()).await
    }

    async fn with(change: impl FnOnce(&mut pqhost::config::Config)) -> Self {
        let app = TestApp::with(change).await;
        let acme = app.acme().await;
        app.serve(&acme, "orders", "def handler(request): return 'published'").await;
        let token = app.api_token(&acme, Role::Author).await;
        Self { app, acme, token }
    }

    fn program(&self, source: &str) -> Command {
        let variables =
            [("PQHOST_URL", &*self.app.control_url), ("PQHOST_TOKEN", &self.token), ("PQHOST_SCRIPT", "acme/orders")];
        program(source, &variables)
    }

    async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        let url = format!("{}/api/v1/tenants/acme/scripts/orders/sessions{path}", self.app.control_url);
        Answer::of(self.app.client.post(url).bearer_auth(&self.token).body(body)).await
    }

    async fn session(&self) -> String {
        let answer = self.post("", "").await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["session"].as_str().unwrap().to_owned()
    }
}

#[test]
fn the_wheel_holds_pq_and_its_types_and_nothing_of_the_sandbox() {
    let mut found: Vec<_> = std::fs::read_dir(installed()).unwrap().map(|e| e.unwrap().file_name()).collect();
    found.sort();
    assert_eq!(found, ["peliqan", "peliqan-stubs", "pq", "pq-stubs", "pqhost_sdk-0.1.0.dist-info"]);
    for file in ["pq/testing.py", "pq/_remote/_session.py", "pq-stubs/py.typed", "peliqan-stubs/__init__.pyi"] {
        assert!(installed().join(file).exists(), "{file}");
    }
}

/// Does everything that `pq` has. What it gives is to be the same in the sandbox and outside.
const EVERYTHING: &str = r#"
from peliqan.exceptions import PeliqanClientException
import datetime, decimal, json, uuid

def raised(function, *arguments, **options):
    try:
        return ["gave", str(function(*arguments, **options))]
    except Exception as e:
        assert isinstance(e, PeliqanClientException), repr(e)
        return [type(e).__name__, e.code, e.message, e.error]

def databases(s, is_postgres):
    db = pq.dbconnect('dw_2')
    records = [{'id': n, 'name': f'né "{n}"', 'price': n / 4, 'ok': n > 3, 'more': {'a': [n, None]}} for n in range(1, 6)]
    yield db.write(s, 'things', records, pk='id')
    yield db.fetch('dw_2', s, 'things', order_by='-id', limit=2, offset=1)
    yield db.fetch('dw_2', s, 'things', where={'id': [2, 3, 99]}, order_by='id')
    yield db.fetch('dw_2', query=f'SELECT name FROM {s}.things WHERE id = %s OR name = %s ORDER BY id', params=[2, 'né "4"'])
    yield db.fetch('dw_2', query=f'SELECT id FROM {s}.things WHERE id = :id', params={'id': 3})
    yield db.fetch('dw_2', query=f"SELECT NULL AS a FROM {s}.things LIMIT 1", fillna_with='nothing')
    yield db.execute('dw_2', f'SELECT id, price FROM {s}.things ORDER BY id')
    yield db.execute('dw_2', f'UPDATE {s}.things SET price = 9 WHERE id = 1')
    yield db.insert('dw_2', s, 'things', {'id': 10, 'name': 'ten'}, price=2.5)
    exact = {'n': [10**20, 0.1 + 0.2, decimal.Decimal('1.50')], 'b': [b'\x00\xff', datetime.date(2024, 1, 2)], 5: {None: uuid.UUID(int=1)}}
    yield db.insert('dw_2', s, 'things', id=7000, name=bytearray(b'a'), price=-941989543.4327705, more=exact)
    yield db.fetch('dw_2', s, 'things', where={'price': -941989543.4327705}), db.delete('dw_2', s, 'things', decimal.Decimal(7000))
    yield db.insert('dw_2', s, 'things', [{'id': n} for n in range(11, 2000)])['detail'][-1]
    lengths = [len(batch) for batch in db.fetch_stream('dw_2', s, 'things')]
    assert len(lengths) > 1
    yield lengths
    yield [batch['detail'][0] + [len(batch['detail'])] for batch in db.execute_stream('dw_2', f'SELECT id FROM {s}.things')]
    first = next(iter(db.fetch_stream('dw_2', s, 'things', order_by='id')))
    yield first[0]
    yield db.update('dw_2', s, 'things', 10, name='TEN')
    yield db.upsert('dw_2', s, 'things', 5000, {'name': 'new'})
    yield db.delete('dw_2', s, 'things', 5000)
    with db.transaction() as tx:
        tx.insert('dw_2', s, 'things', id=6000)
        yield tx.fetch('dw_2', s, 'things', where={'id': 6000})
    try:
        with db.transaction() as tx:
            tx.delete('dw_2', s, 'things', 6000)
            raise KeyError
    except KeyError:
        pass
    yield db.fetch('dw_2', s, 'things', where={'id': 6000})
    errors = []
    def break_off():
        with db.transaction() as tx:
            errors.extend(raised(tx.insert, 'dw_2', s, 'things', id=n) for n in (6000, 6001))
    yield raised(break_off), errors
    yield db.create_table('dw_2', s, 'made', {'n': 'integer', 't': 'text'}, pk='n')
    yield raised(db.create_table, 'dw_2', s, 'made')
    yield db.get_table_schema('dw_2', s, 'things')
    yield pq.get_schema(f'dw_2.{s}')
    yield pq.get_table(f'dw_2.{s}.made')
    yield pq.load_table('dw_2', s, 'made'), pq.trinoconnect().execute(f'SELECT count(*) AS n FROM {s}.things')
    if is_postgres:
        query = "SELECT DATE '2024-02-29' AS d, TIMESTAMPTZ '2024-02-29 12:00+02' AS t, 1.50::numeric AS n, 'a'::bytea AS b"
        yield db.fetch('dw_2', query=query)
        [row] = db.fetch('dw_2', query=query, enable_datetime_as_string=False, tz='Europe/Brussels', decimals=True)
        yield [repr(value) for value in row.values()]
    yield raised(db.fetch, 'dw_2', s, 'missing')
    yield raised(db.fetch, 'dw_2', query='SELEKT 1')
    yield raised(db.fetch, 'dw_2', s, 'things', query='SELECT 1')
    yield raised(db.fetch, 'dw_2', s, 'things', df=True)
    yield raised(db.update, 'dw_2', s, 'things', 70000, name='x')
    yield raised(db.write, s, 'big', [{'t': 'x' * (1 << 20)}] * 11)
    loop = {}
    loop['twice'] = [loop, loop]
    for value in (object(), {1, 2}, '\ud800', {'a': [float('nan')]}, {(1, 2): 3}, loop, 10**5000, iter([])):
        yield raised(db.insert, 'dw_2', s, 'things', name=value)
    yield raised(db.fetch, 'dw_2', query='SELECT %s', params={1: ...}), raised(db.fetch, 'dw_2', s, 'things', where=[1])
    yield raised(pq.dbconnect('nowhere').fetch, 'a', 'b', 'c')
    yield raised(pq.dbconnect)

def the_rest():
    yield pq.DW_NAME, pq.DW_ID, pq.INTERFACE_ID
    pq.set_state(None)
    yield pq.get_state()
    pq.set_state({'é': [1, 2.5, '5', True, None, 2**62]})
    yield pq.get_state()
    yield pq.update_state(lambda state: {**state, 'n': 1})
    yield pq.get_interface_state(pq.INTERFACE_ID), raised(pq.get_interface_state, 999)
    yield raised(pq.set_state, 'x' * 1100000), raised(pq.set_state, object())
    yield pq.get_secret('granted'), raised(pq.get_secret, 'others'), raised(pq.get_secret, 'nothing')
    yield pq.list_connections(), pq.list_scripts()
    crm = pq.connect('crm')
    yield crm.list('contacts', limit=2), crm.get('contacts', 404), crm.add('notes', {'text': 'é'})
    yield raised(pq.connect('nowhere').get, 'x')
    yield raised(pq.sftpconnect), str(pq.HTTPError(404, 'x'))

def handler(request):
    s, is_postgres = request['query']['schema'], 'postgres' in request['query']
    return [*databases(s, is_postgres), *the_rest()]
"#;

#[tokio::test]
async fn a_program_outside_gets_what_the_script_gets() {
    let upstream = Upstream::start().await;
    let source = tempfile::tempdir().unwrap();
    let file = source.path().join("handler.py");
    std::fs::write(&file, EVERYTHING).unwrap();
    for postgres in [false, true] {
        let authored = Authored::with(|config| {
            config.egress_private = vec!["127.0.0.0/8".parse().unwrap()];
            config.limits.deadline = Duration::from_secs(60); // this is not about time, and machines are busy
            config.limits.sql.statement_time = Duration::from_secs(30);
        })
        .await;
        let Authored { app, acme, .. } = &authored;
        app.try_publish(acme, "orders", EVERYTHING).await.unwrap();
        match postgres {
            true => app.connection(acme, "dw_2", POSTGRES).await,
            false => app.accounts(acme).await,
        }
        egress::connect(app, acme, &upstream).await;
        let reader = script_id(app, acme, "orders").await;
        set_secret(app, acme, "granted", "s3cr3t/é", Readers::Only(vec![reader])).await;
        app.try_publish(acme, "other", EVERYTHING).await.unwrap();
        let other = script_id(app, acme, "other").await;
        set_secret(app, acme, "others", "theirs", Readers::Only(vec![other])).await;

        let schema = |who: &str| format!("pqsdk_{who}_{}", std::process::id());
        let flag = if postgres { "&postgres" } else { "" };
        let answer = app.get(&format!("/acme/orders?schema={}{flag}", schema("inside"))).await;
        let record = app.invocation(acme, answer.headers["x-request-id"].to_str().unwrap()).await;
        assert_eq!(answer.status, 200, "{}", record.traceback.unwrap_or_default());
        let outside = run(authored.program(&format!(
            "import pq.testing\nscript = pq.testing.load({:?})\n\
             result = script.handler(pq.testing.request(query_string='schema={}{flag}'))\nprint(json.dumps(result))",
            file.to_str().unwrap(),
            schema("outside")
        )))
        .await;
        let renamed = outside.to_string().replace(&schema("outside"), &schema("inside"));
        let (inside, outside) = (answer.json(), serde_json::from_str::<Value>(&renamed).unwrap());
        let (inside, outside) = (inside.as_array().unwrap(), outside.as_array().unwrap());
        assert!(inside.len() >= 45, "{}", inside.len());
        for (inside, outside) in inside.iter().zip(outside) {
            assert_eq!(inside, outside, "postgres: {postgres}");
        }
        assert_eq!(inside.len(), outside.len());
        if postgres {
            let mut database = PgConnection::connect(POSTGRES).await.unwrap();
            for who in ["inside", "outside"] {
                let sql = format!("DROP SCHEMA {} CASCADE", schema(who));
                sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut database).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn two_programs_lose_no_update_of_the_state() {
    let authored = Authored::new().await;
    let source = "for _ in range(25): pq.update_state(lambda n: (n or 0) + 1)\nprint(json.dumps(pq.get_state()))";
    let (one, two) = tokio::join!(run(authored.program(source)), run(authored.program(source)));
    assert_eq!(std::cmp::max(one.as_i64(), two.as_i64()), Some(50), "{one} {two}");
}

#[tokio::test]
async fn limits_count_over_a_session_and_anew_in_the_next() {
    let authored = Authored::with(|config| config.limits.sql.statements = 5).await;
    authored.app.accounts(&authored.acme).await;
    let counted = run(authored.program(
        "
def count():
    n = 0
    try:
        while True:
            pq.dbconnect('dw_2').fetch('dw_2', 'salesforce', 'accounts')
            n += 1
    except PeliqanClientException as e:
        return [n, e.code]
first = count()
again = count()
pq.configure()
print(json.dumps([first, again, count()]))",
    ))
    .await;
    let over = "ERROR_TOO_MANY_STATEMENTS";
    assert_eq!(counted, json!([[5, over], [0, over], [5, over]]));
}

#[tokio::test]
async fn who_may_not_is_refused_with_a_code() {
    let Authored { app, acme, token } = Authored::new().await;
    let other = app.tenant("other").await;
    let (caller, foreign) = (app.token(&acme).await, app.api_token(&other, Role::Owner).await);
    let viewer = app.api_token(&acme, Role::Viewer).await;
    for (token, script, code) in [
        (&*token, "acme/orders", "none"),
        ("nonsense", "acme/orders", "ERROR_UNAUTHENTICATED"),
        (&caller, "acme/orders", "ERROR_UNAUTHENTICATED"),
        (&viewer, "acme/orders", "ERROR_FORBIDDEN"),
        (&foreign, "acme/orders", "ERROR_NOT_FOUND"), // of the tenant: who has no role there learns nothing
        (&token, "other/orders", "ERROR_NOT_FOUND"),
        (&token, "nobody/orders", "ERROR_NOT_FOUND"),
        (&token, "acme/nothing", "ERROR_SCRIPT_UNKNOWN"),
        (&token, "acme/a b", "ERROR_INVALID_PARAMETER"),
        (&token, "orders", "ERROR_NOT_CONFIGURED"),
        ("two\nlines", "acme/orders", "ERROR_NOT_CONFIGURED"),
    ] {
        let source = "
try:
    pq.get_state()
    print(json.dumps(['none', '']))
except PeliqanClientException as e:
    print(json.dumps([e.code, e.message]))";
        let variables = [("PQHOST_URL", &*app.control_url), ("PQHOST_TOKEN", token), ("PQHOST_SCRIPT", script)];
        let refused = run(program(source, &variables)).await;
        assert_eq!(refused[0], code, "{script}: {refused}");
        assert!(!refused.to_string().contains("nonsense") && !refused.to_string().contains(token), "{refused}");
    }
    for (url, code) in [
        ("http://127.0.0.1:1", "ERROR_HOST_UNAVAILABLE"),
        (&app.url, "ERROR_ENDPOINT_UNKNOWN"), // the wrong one of the two addresses
        ("127.0.0.1:8081", "ERROR_NOT_CONFIGURED"),
        ("http://127.0.0.1:port", "ERROR_NOT_CONFIGURED"),
    ] {
        let source = format!(
            "
pq.configure(url={url:?}, token='t', script='acme/orders')
try:
    pq.get_state()
except PeliqanClientException as e:
    print(json.dumps(e.code))"
        );
        assert_eq!(run(program(&source, &[])).await, code, "{url}");
    }
    let unconfigured = "
try:
    pq.DW_NAME
except PeliqanClientException as e:
    print(json.dumps(e.code))";
    assert_eq!(run(program(unconfigured, &[])).await, "ERROR_NOT_CONFIGURED");
}

#[tokio::test]
async fn a_revoked_token_opens_nothing_and_calls_nothing() {
    let authored = Authored::new().await;
    let session = authored.session().await;
    let call = json!({"interface": "context", "function": "describe", "arguments": []}).to_string();
    assert_eq!(authored.post(&format!("/{session}/calls"), call.clone()).await.status, 200);
    let (credentials, of) = (authored.app.workspace.db.credentials(), CredentialsOf::Tenant(authored.acme.id));
    for credential in credentials.list_credentials(of, None, 100).await.unwrap() {
        assert!(credentials.revoke_credential(of, &credential.id).await.unwrap());
    }
    for path in [format!("/{session}/calls"), String::new()] {
        let answer = authored.post(&path, call.clone()).await;
        assert_eq!((answer.status, &answer.json()["code"]), (401, &json!("unauthenticated")), "{path}");
    }
}

/// The example of docs/SDK.md.
#[tokio::test]
async fn values_made_by_hand_are_read() {
    let document = std::fs::read_to_string("docs/SDK.md").unwrap();
    let (begin, end) = (document.find("    {\"interface\": \"sql\"").unwrap(), document.find("\n`Tg==` is").unwrap());
    let mut call: Value = serde_json::from_str(&document[begin..end]).unwrap();
    call["arguments"][0]["connection"] = json!("dw_2");
    call["arguments"][1]["schema"] = json!("salesforce");
    call["arguments"][1]["table"] = json!("accounts");

    let authored = Authored::new().await;
    authored.app.accounts(&authored.acme).await;
    let calls = format!("/{}/calls", authored.session().await);
    for (filter, n_rows) in [(None, 0), (Some("e3UCAAAAaWRpAgAAADA="), 1), (Some("Tg=="), 3)] {
        if let Some(filter) = filter {
            call["arguments"][1]["filter"] = json!(filter);
        }
        let opened = authored.post(&calls, call.to_string()).await.json();
        let next = json!({"interface": "sql", "function": "next", "arguments": [opened["ok"]["cursor"]]});
        let rows = BASE64_STANDARD.decode(authored.post(&calls, next.to_string()).await.json()["ok"].as_str().unwrap());
        let rows: Value = serde_json::from_slice(&rows.unwrap()).unwrap_or_default();
        assert_eq!(rows.as_array().map_or(0, Vec::len), n_rows, "{filter:?}: {opened}");
    }
}

#[tokio::test]
async fn garbage_is_refused_and_the_session_goes_on() {
    let authored = Authored::new().await;
    authored.app.accounts(&authored.acme).await;
    let session = authored.session().await;
    let place = json!({"connection": "dw_2", "transaction": null});
    let table = json!({"database": "dw_2", "schema": "salesforce", "table": "accounts"});
    let call = |interface: &str, function: &str, arguments: Value| {
        json!({"interface": interface, "function": function, "arguments": arguments}).to_string()
    };
    for (body, expected) in [
        (String::new(), "the body cannot be read: EOF"),
        ("[".to_owned(), "the body cannot be read: EOF"),
        ("{}".to_owned(), "the body cannot be read: missing field"),
        (
            json!({"interface": "sql", "function": "next", "arguments": [], "more": 1}).to_string(),
            "the body cannot be read: unknown field",
        ),
        (call("sql", "drop", json!([])), "there is no function `sql.drop`"),
        (call("crypto", "sign", json!([])), "there is no function `crypto.sign`"),
        (call("log", "write", json!(["Stdout", "x"])), "there is no function `log.write`"),
        (call("http", "steal", json!([])), "there is no function `http.steal`"),
        (call("s\nql", &"x".repeat(1000), json!([])), "there is no function `s\\\\nql.xxxx"),
        (call("context", "describe", json!([1])), "it takes 0, not 1"),
        (call("sql", "next", json!([])), "it takes 1, not 0"),
        (call("sql", "next", json!(["one"])), "`cursor`: invalid type"),
        (call("sql", "next", json!([-1])), "`cursor`: invalid value"),
        (call("sql", "next", json!([1_u64 << 40])), "`cursor`: invalid value"),
        (call("sql", "describe", json!([place, {"table": 5}])), "`table`: "),
        (call("sql", "describe", json!([table, place])), "`place`: "),
        (call("sql", "change", json!([place, table, "Destroy", "null", "[]"])), "`action`: unknown variant"),
        (call("sql", "change", json!([place, table, "Insert", "Tg==", [{"id": 9}]])), "`rows`: invalid type"),
        (call("http", "call", json!(["crm", {"method": "GET", "url": "/", "headers": [], "body": "%"}])), "base64"),
        (call("state", "set", json!([null, 5])), "`value`: invalid type"),
    ] {
        let answer = authored.post(&format!("/{session}/calls"), body.clone()).await;
        let refused = if expected.contains("body") { (400, "invalid_body") } else { (422, "invalid_call") };
        assert_eq!(answer.problem(), (refused.0, refused.1.to_owned()), "{body:.200}");
        assert!(answer.body.contains(expected) && answer.body.len() < 500, "{body:.200}: {}", answer.body);
    }
    // The sandbox's own checks.
    for (function, arguments, code) in [
        ("commit", json!([7]), "TransactionOver"),
        ("begin", json!(["nowhere"]), "UnknownConnection"),
        ("describe", json!([{"connection": "dw_2", "transaction": 9}, table]), "TransactionOver"),
        ("change", json!([place, table, "Insert", "Tg==", "WwEAAABpAQAAAA=="]), "InvalidArgument"), // [1]
        ("change", json!([place, table, "Insert", "Tg==", "W3siaWQiOiA5fV0="]), "UnsupportedValue"), // JSON
        ("change", json!([place, table, "Insert", "Tg==", ""]), "InvalidArgument"),
    ] {
        let answer = authored.post(&format!("/{session}/calls"), call("sql", function, arguments)).await;
        assert_eq!(answer.json()["err"]["code"], code, "{function}: {answer:?}");
    }
    assert_eq!(
        authored.post(&format!("/{session}/calls"), call("sql", "next", json!([99]))).await.json(),
        json!({"ok": ""})
    );
    let huge = authored.post(&format!("/{session}/calls"), vec![b' '; (21 << 20) + 1]).await;
    assert_eq!(huge.problem(), (413, "body_too_large".to_owned()));
    let answer = authored.post(&format!("/{session}/calls"), call("sql", "describe", json!([place, table]))).await;
    assert_eq!(answer.json()["ok"].as_array().unwrap().len(), 3, "{answer:?}");

    for path in ["/nonsense/calls", "/00000000-0000-7000-8000-000000000000/calls"] {
        assert_eq!(authored.post(path, "{}").await.problem(), (404, "session_unknown".to_owned()), "{path}");
    }
    // A session is one script's, and of one tenant.
    let Authored { app, acme, token } = &authored;
    app.try_publish(acme, "second", "def handler(request): return 1").await.unwrap();
    let other = app.tenant("other").await;
    app.try_publish(&other, "orders", "def handler(request): return 1").await.unwrap();
    for (tenant, script, token) in
        [("acme", "second", token), ("other", "orders", &app.api_token(&other, Role::Author).await)]
    {
        for (method, rest) in [(Method::POST, "/calls"), (Method::DELETE, "")] {
            let url = format!("{}/api/v1/tenants/{tenant}/scripts/{script}/sessions/{session}{rest}", app.control_url);
            let answer = Answer::of(app.client.request(method, url).bearer_auth(token).body("{}")).await;
            assert_eq!(answer.problem(), (404, "session_unknown".to_owned()), "{tenant}/{script}{rest}");
        }
    }
}
