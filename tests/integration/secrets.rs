//! Secrets, what scripts are told of their tenant, and what they cannot call.

use pqhost::{
    app::Workspace,
    domain::{names::ScriptId, secret::Readers},
    invoke::directory::secret_context,
};
use reqwest::Method;
use serde_json::json;

use crate::support::{Answer, Tenant, TestApp};

const SECRET: &str = "s3cr3t-Value/é";

pub(crate) async fn set_secret(app: &TestApp, tenant: &Tenant, name: &str, value: &str, readers: Readers) {
    let seal = |id| app.workspace.vault.seal(&secret_context(id), value.as_bytes());
    app.workspace.db.secrets().set_secret(tenant.id, &name.parse().unwrap(), &readers, seal).await.unwrap();
}

pub(crate) async fn script_id(app: &TestApp, tenant: &Tenant, name: &str) -> ScriptId {
    app.workspace.db.scripts().find_script(tenant.id, &name.parse().unwrap()).await.unwrap().unwrap().id
}

/// Answers with the secret that the query names, or with the error's code and message.
const READER: &str = "
def handler(request):
    try:
        return [pq.get_secret(request['query']['name'])]
    except Exception as e:
        return [e.code, e.message]
";

#[tokio::test]
async fn a_script_reads_secrets_of_its_tenant_that_it_was_granted() {
    let app = TestApp::new().await;
    let (acme, other) = (app.acme().await, app.tenant("other").await);
    for (tenant, script) in [(&acme, "one"), (&acme, "two"), (&other, "one")] {
        app.serve(tenant, script, READER).await;
    }
    set_secret(&app, &acme, "open", SECRET, Readers::Unchanged).await;
    set_secret(&app, &acme, "granted", "for one", Readers::Only(vec![script_id(&app, &acme, "one").await])).await;
    set_secret(&app, &acme, "granted", "for one, again", Readers::Unchanged).await; // grants stay
    set_secret(&app, &other, "granted", "theirs", Readers::Unchanged).await;

    let unknown = |name: &str, script: &str, tenant: &str| {
        let message = format!(
            "there is no secret `{name}` that script `{script}` may read: store it with `pqhost secret set {tenant} {name}`, \
             or grant it with `--script {script}`"
        );
        json!(["ERROR_SECRET_DOES_NOT_EXIST", message])
    };
    for (path, expected) in [
        ("/acme/one?name=open", json!([SECRET])),
        ("/acme/two?name=open", json!([SECRET])),
        ("/acme/one?name=granted", json!(["for one, again"])),
        ("/acme/two?name=granted", unknown("granted", "two", "acme")),
        ("/acme/two?name=nothing", unknown("nothing", "two", "acme")),
        ("/other/one?name=open", unknown("open", "one", "other")),
        ("/other/one?name=granted", json!(["theirs"])),
        ("/acme/one?name=a%00b%0A", unknown("a\\u{0}b\\n", "one", "acme")),
    ] {
        assert_eq!(app.get(path).await.json(), expected, "{path}");
    }
    set_secret(&app, &acme, "granted", "for all", Readers::AllScripts).await;
    assert_eq!(app.get("/acme/two?name=granted").await.json(), json!(["for all"]));
    assert!(app.workspace.db.secrets().delete_secret(acme.id, &"granted".parse().unwrap()).await.unwrap());
    assert_eq!(app.get("/acme/two?name=granted").await.json(), unknown("granted", "two", "acme"));
    assert_eq!(app.get("/other/one?name=granted").await.json(), json!(["theirs"]));
    // A script cannot be granted another tenant's secret.
    let theirs = Readers::Only(vec![script_id(&app, &other, "one").await]);
    let seal = |_| Vec::new();
    let refused = app.workspace.db.secrets().set_secret(acme.id, &"open".parse().unwrap(), &theirs, seal).await;
    assert!(refused.is_err());
    assert_eq!(app.get("/acme/one?name=open").await.json(), json!([SECRET]), "nothing was changed");
}

#[tokio::test]
async fn printed_secrets_are_redacted_from_log_and_traceback() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    set_secret(&app, &acme, "key", SECRET, Readers::Unchanged).await;
    set_secret(&app, &acme, "pem", "-----BEGIN-----\nabcdefgh\n-----END-----\n", Readers::Unchanged).await;
    let source = "
def handler(request):
    key, pem = pq.get_secret('key'), pq.get_secret('pem')
    print('key', key, {'k': key})
    print(key[:5], end='')
    print(key[5:])
    print(pem.replace('\\n', ' | '), repr(pem))
    print('x' * (64 * 1024 - 300 - len(request['query'].get('pad', ''))), end='')
    print(key * 40)
    raise ValueError(f'bad key {key}')
";
    app.serve(&acme, "leak", source).await;
    for pad in ["", "a", "aaaaaaaa"] {
        let answer = app.get(&format!("/acme/leak?pad={pad}")).await;
        let record = app.invocation(&acme, answer.headers["x-request-id"].to_str().unwrap()).await;
        for text in [&record.log, record.traceback.as_ref().unwrap()] {
            for hidden in [SECRET, "s3cr3t-Val", "abcdefgh", "BEGIN"] {
                assert!(!text.contains(hidden), "{hidden}: {text}");
            }
            assert!(text.contains("[redacted]"), "{text}");
        }
        assert!(record.log.contains("key [redacted] {'k': '[redacted]'}\n[redacted]\n"), "{}", &record.log[..200]);
        assert!(record.log.contains("more bytes were printed"));
    }
}

#[tokio::test]
async fn a_caller_cannot_make_a_record_grow_by_its_credentials() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.serve(
        &acme,
        "fails",
        "def handler(request):\n    print('Traceback ' * 50)\n    raise ValueError('redacted')\n",
    )
    .await;
    let plain = app.get("/acme/fails").await;
    let plain = app.invocation(&acme, plain.headers["x-request-id"].to_str().unwrap()).await;
    let plain = (plain.log.len(), plain.traceback.unwrap().len());
    for cycles in (0..=40).step_by(4).chain([900]) {
        let cycle = |n: usize| format!(";redact;x{n:05};redact;ed]ed]");
        let cookie = format!("Traceback{}", (0..cycles).map(cycle).collect::<String>());
        let request = app.request(Method::GET, "/acme/fails").header("cookie", cookie);
        let answer = Answer::of(request).await;
        let record = app.invocation(&acme, answer.headers["x-request-id"].to_str().unwrap()).await;
        let traceback = record.traceback.unwrap();
        assert!(record.log.contains("[redacted]") && traceback.contains("[redacted]"), "{}", record.log);
        // Each of the 50 and of the few is replaced once.
        assert!(record.log.len() <= plain.0 + 50 && traceback.len() <= plain.1 + 20, "{cycles}: {traceback}");
    }
}

#[tokio::test]
async fn a_request_reads_no_more_secrets_than_are_redacted() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    for n in 0..5 {
        set_secret(&app, &acme, &format!("s{n}"), &n.to_string().repeat(64 << 10), Readers::Unchanged).await;
    }
    let source = "
def handler(request):
    read = []
    try:
        for n in [0, 1, 0, 2, 3, 1, 4]:
            read.append(pq.get_secret(f's{n}')[0])
    except Exception as e:
        print(pq.get_secret('s3'))
        return [read, e.code, e.message]
";
    app.serve(&acme, "reads", source).await;
    let answer = app.get("/acme/reads").await;
    let told = "the handler may read 262144 bytes of secrets in one request; read only those that it needs";
    assert_eq!(answer.json(), json!([["0", "1", "0", "2", "3", "1"], "ERROR_TOO_MANY_READS", told]));
    let record = app.invocation(&acme, answer.headers["x-request-id"].to_str().unwrap()).await;
    assert!(record.log.starts_with("[redacted]\n["), "{}", record.log);
}

#[tokio::test]
async fn the_vault_key_is_replaced_while_a_host_serves() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.accounts(&acme).await;
    app.serve(&acme, "read", READER).await;
    let rows = "def handler(request): return pq.dbconnect('dw_2').fetch('dw_2', 'salesforce', 'accounts')";
    app.try_publish(&acme, "rows", rows).await.unwrap();
    app.endpoint(&acme, "GET", "/rows", "rows", pqhost::domain::exchange::AuthMode::Jwt).await;
    set_secret(&app, &acme, "key", SECRET, Readers::Unchanged).await;
    let token = app.token(&acme).await;
    let key_file = app.workspace.data.vault_key();
    let keys_are_served = async || {
        let rows = app.request(Method::GET, "/acme/rows").bearer_auth(&token);
        assert_eq!(Answer::of(rows).await.json().as_array().unwrap().len(), 3);
        assert_eq!(app.get("/acme/read?name=key").await.json(), json!([SECRET]));
    };
    keys_are_served().await;
    for round in 0..2 {
        let before = std::fs::read(&key_file).unwrap();
        // As another process does it.
        let workspace = Workspace::open(&app.workspace.data).await.unwrap();
        let rotated = workspace.rotate_vault_key().await.unwrap();
        assert_eq!(rotated.n_values, 3, "a connection, a signing key, a secret");
        assert_ne!(std::fs::read(&key_file).unwrap(), before, "round {round}");
        app.see_changes().await;
        keys_are_served().await;
        assert_eq!(Workspace::open(&app.workspace.data).await.unwrap().rotate_vault_key().await.unwrap().n_values, 3);
        app.see_changes().await;
        keys_are_served().await;
    }
}

#[tokio::test]
async fn a_script_is_told_what_its_tenant_has() {
    let app = TestApp::new().await;
    let (acme, other) = (app.acme().await, app.tenant("other").await);
    app.accounts(&acme).await;
    app.connection(&acme, "b", "sqlite:acme").await;
    app.serve(&other, "theirs", "def handler(request): return [pq.list_connections(), pq.DW_NAME]").await;
    let source = "
def handler(request):
    return [pq.list_connections(), pq.list_scripts(), [pq.DW_NAME, pq.DW_ID], pq.INTERFACE_ID == pq.list_scripts()[0]['id']]
";
    app.serve(&acme, "s", source).await;
    let connections = app.workspace.db.connections().list_connections(acme.id).await.unwrap();
    app.workspace.db.tenants().set_default_connection(acme.id, connections[1].id).await.unwrap();
    app.see_changes().await;
    let (b, dw) = (connections[0].id, connections[1].id);
    let expected = json!([
        [{"id": b, "name": "b", "is_datawarehouse": false}, {"id": dw, "name": "dw_2", "is_datawarehouse": true}],
        [{"id": script_id(&app, &acme, "s").await, "name": "s", "version": 1}], ["dw_2", dw], true,
    ]);
    assert_eq!(app.get("/acme/s").await.json(), expected);
    assert_eq!(app.get("/other/theirs").await.json(), json!([[], null]));
    let source = "
def handler(request):
    try:
        for n in range(1000): pq.list_scripts()
    except Exception as e: return [n, e.code]
";
    app.serve(&acme, "many", source).await;
    assert_eq!(app.get("/acme/many").await.json(), json!([200, "ERROR_METADATA_UNAVAILABLE"]));
}

#[tokio::test]
async fn what_has_no_meaning_here_says_so() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    let source = "
import peliqan
from peliqan import exceptions
def handler(request):
    messages = {}
    for name in ['sftpconnect', 'aiconnect', 'run_pipeline', 'run_script', 'run_anything', 'add_script', 'refresh_table', 'update_cell', 'add_subaccount']:
        try:
            getattr(peliqan, name)('a', b=1)
        except exceptions.OperationNotSupported as e:
            messages[name] = [e.code, e.message]
    try:
        pq.nonsense
    except AttributeError as e:
        messages['nonsense'] = str(e)
    e = exceptions.PeliqanClientException('m', 'C', {'d': 1})
    return [messages, [str(e), e.message, e.code, e.error_dict, e.error], issubclass(exceptions.PeliqanJsonSerializerException, exceptions.PeliqanClientException)]
";
    app.serve(&acme, "no", source).await;
    let answer = app.get("/acme/no").await.json();
    let messages = answer[0].as_object().unwrap();
    assert_eq!(messages.len(), 10, "{answer}");
    for (name, told) in messages.iter().filter(|(name, _)| *name != "nonsense") {
        assert_eq!(told[0], "ERROR_OPERATION_NOT_SUPPORTED");
        assert!(told[1].as_str().unwrap().starts_with(&format!("pq.{name}() is not supported: ")), "{told}");
    }
    assert_eq!(messages["nonsense"], "module 'pq' has no attribute 'nonsense'");
    let error = json!({"code": "C", "message": "m", "error_dict": {"d": 1}});
    assert_eq!(answer[1], json!(["m", "m", "C", {"d": 1}, error]));
    assert_eq!(answer[2], true);
}
