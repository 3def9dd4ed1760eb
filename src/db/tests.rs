//! The database as its users see it: real files, several handles and processes.

mod callers;
mod changes;
mod consumer_keys;
mod crash;
mod databases;
mod fresh;
mod log;
mod state;
mod transfer;
mod upgrades;
mod usage;

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    db::{
        Db, DbError,
        connections::ConnectionKind,
        credentials::{CredentialsOf, Grounds, Holder, NewCredential},
        endpoints::{Backend, Endpoint, NewBackend, NewEndpoint},
        idempotency::Remembered,
        invocations::{InvocationRecord, RerunOf},
        previews::NewPreview,
        signing_keys::NewSigningKey,
        tenants::Tenant,
        tests::fresh::{Fresh, located, on_each, on_server},
        tokens::{EndpointsOfRoutes, NewToken},
        uses::{Presented, Use},
        versions::{ImageRef, LoadMode, Loaded, NewVersion},
    },
    domain::{
        control_database::ControlDatabase,
        exchange::AuthMode,
        names::{ConnectionId, EndpointId, InvocationId, ScriptId, TenantId, VersionId},
        script::SourceFile,
        signing::KeyAlgorithm,
    },
};

async fn create_tenant(db: &Db, name: &str) -> TenantId {
    db.tenants().create_tenant(&name.parse().unwrap()).await.unwrap()
}

async fn ensure_script(db: &Db, tenant: TenantId, name: &str) -> ScriptId {
    db.scripts().ensure_script(tenant, &name.parse().unwrap()).await.unwrap()
}

fn new_version(script: ScriptId) -> NewVersion {
    NewVersion {
        script,
        script_name: "hello".parse().unwrap(),
        files: vec![
            SourceFile { name: "handler.py".to_owned(), content: b"def handler(request): ...\xff\0".to_vec() },
            SourceFile { name: "util.py".to_owned(), content: Vec::new() },
        ],
        content_hash: "c0".repeat(32),
        loaded: Loaded {
            mode: LoadMode::Image,
            reason: None,
            image: Some(ImageRef { hash: "1a".repeat(32), bytes: 1 << 40 }),
            runtime_hash: "2b".repeat(32),
        },
        message: String::new(),
        promote: true,
    }
}

fn new_endpoint(script: ScriptId, methods: &str, route: &str) -> NewEndpoint {
    let (methods, route) = (methods.parse().unwrap(), route.parse().unwrap());
    NewEndpoint::to_script(methods, route, script, AuthMode::Jwt)
}

fn served(endpoint: &Endpoint) -> Option<VersionId> {
    match &endpoint.backend {
        Backend::Script { served_version, .. } => *served_version,
        Backend::Table(_) => None,
    }
}

fn signing_key(kid: &str) -> NewSigningKey {
    NewSigningKey { kid: kid.to_owned(), algorithm: KeyAlgorithm::Hs256, public_key: None }
}

fn new_token(id: &str) -> NewToken {
    NewToken {
        id: id.to_owned(),
        name: "ci".to_owned(),
        only: None,
        methods: None,
        claims: serde_json::Map::new(),
        row_filters: None,
        expires_at_ms: 9,
    }
}

fn record(tenant: TenantId) -> InvocationRecord {
    InvocationRecord {
        id: InvocationId::generate(),
        tenant,
        script: ScriptId(1),
        version: Some(VersionId(1)),
        endpoint: EndpointId(1),
        method: "GET".to_owned(),
        path: "/accounts/17".to_owned(),
        status: 200,
        code: None,
        started_at_ms: 1_700_000_000_000,
        duration_us: 123,
        fuel: 220_000,
        dirty_pages: 105,
        rows: 0,
        answer_bytes: 0,
        log: String::new(),
        traceback: None,
        rerun: None,
        recording: None,
    }
}

#[tokio::test]
async fn tenants_have_unique_names() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let id = create_tenant(&db, "acme").await;
        let error = db.tenants().create_tenant(&"acme".parse().unwrap()).await.unwrap_err();
        assert_eq!(error.to_string(), "there is already a tenant `acme`");
        let found = db.tenants().find_tenant(&"acme".parse().unwrap()).await.unwrap();
        assert!(matches!(found, Some(Tenant { id: found, default_connection: None, .. }) if found == id), "{found:?}");
        assert_eq!(db.tenants().find_tenant(&"other".parse().unwrap()).await.unwrap(), None);
        assert_eq!(db.tenants().list_tenants().await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_version_comes_back_as_it_was_published() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let tenant = create_tenant(&db, "acme").await;
        let script = ensure_script(&db, tenant, "hello").await;
        assert_eq!(ensure_script(&db, tenant, "hello").await, script);

        let first = db.versions().insert_version(tenant, new_version(script)).await.unwrap();
        let second = db.versions().insert_version(tenant, new_version(script)).await.unwrap();
        assert_eq!((first.number, second.number), (1, 2));
        assert_eq!(db.versions().find_version(tenant, first.id).await.unwrap().as_ref(), Some(&first));
        assert_eq!(db.versions().list_files(tenant, first.id).await.unwrap(), new_version(script).files);
        assert_eq!(
            db.versions().list_versions(tenant, script, None, 10).await.unwrap(),
            [second.clone(), first.clone()]
        );
        let listed = db.scripts().list_scripts(tenant).await.unwrap();
        assert_eq!(listed[0].latest_version, Some((second.id, 2)));

        let loaded = Loaded {
            mode: LoadMode::PerRequest,
            reason: Some("line 3 reads the clock".to_owned()),
            image: None,
            runtime_hash: "3c".repeat(32),
        };
        db.versions().update_image(tenant, first.id, &loaded).await.unwrap();
        let updated = db.versions().find_version(tenant, first.id).await.unwrap().unwrap();
        assert_eq!((updated.loaded, updated.content_hash), (loaded, first.content_hash));
    })
    .await;
}

#[tokio::test]
async fn a_version_that_is_purged_meanwhile_gets_no_image() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let tenant = create_tenant(&db, "acme").await;
        let id = ensure_script(&db, tenant, "hello").await;
        let version =
            db.versions().insert_version(tenant, NewVersion { promote: false, ..new_version(id) }).await.unwrap();
        let script = db.scripts().find_script(tenant, &"hello".parse().unwrap()).await.unwrap().unwrap();
        db.versions().purge_version(tenant, &script, &version).await.unwrap();
        let purged = db.versions().find_version(tenant, version.id).await.unwrap().unwrap();
        assert_eq!((purged.loaded.image.as_ref(), purged.purged_at_ms.is_some()), (None, true));
        // A host that was making its image when it was purged has read the source before.
        for error in [
            db.versions().update_image(tenant, version.id, &version.loaded).await.unwrap_err(),
            db.scripts().set_live_version(tenant, &script, version.id, 1, None).await.unwrap_err(),
            db.versions().purge_version(tenant, &script, &version).await.unwrap_err(),
        ] {
            assert!(matches!(error, DbError::Unknown { what: "version", .. }), "{error}");
        }
    })
    .await;
}

#[tokio::test]
async fn two_files_of_a_version_have_two_names() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let tenant = create_tenant(&db, "acme").await;
        let script = ensure_script(&db, tenant, "hello").await;
        let mut new = new_version(script);
        new.files[1].name = "handler.py".to_owned();
        let error = db.versions().insert_version(tenant, new).await.unwrap_err();
        assert_eq!(error.to_string(), "there is already a file `handler.py`");
        assert_eq!(db.versions().list_versions(tenant, script, None, 10).await.unwrap(), [], "nothing of it was kept");
    })
    .await;
}

#[tokio::test]
async fn endpoints_share_no_method_on_a_route() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let tenant = create_tenant(&db, "acme").await;
        let script = ensure_script(&db, tenant, "hello").await;
        let create =
            async |methods, route| db.endpoints().create_endpoint(tenant, &new_endpoint(script, methods, route)).await;
        create("GET", "/a").await.unwrap();
        create("POST", "/a").await.unwrap();
        create("ANY", "/b").await.unwrap();
        let error = create("PUT,GET", "/a").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "endpoint `GET, PUT /a` conflicts with `GET /a`: both would answer GET for the same paths"
        );
        // ANY takes what other endpoints leave.
        create("GET", "/b").await.unwrap();
        create("ANY", "/b").await.unwrap_err();

        let published = db.versions().insert_version(tenant, new_version(script)).await.unwrap();
        let listed = db.endpoints().list_endpoints(tenant).await.unwrap();
        let shown: Vec<_> = listed.iter().map(|e| (e.methods.as_str(), e.route.as_str(), served(e))).collect();
        let version = Some(published.id);
        assert_eq!(
            shown,
            [("GET", "/a", version), ("POST", "/a", version), ("ANY", "/b", version), ("GET", "/b", version)]
        );
        assert_eq!((listed[0].script_name().unwrap().as_str(), listed[0].auth), ("hello", AuthMode::Jwt));
    })
    .await;
}

#[tokio::test]
async fn nothing_of_another_tenant_is_seen_or_used() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let (mine, theirs) = (create_tenant(&db, "mine").await, create_tenant(&db, "theirs").await);
        let script = ensure_script(&db, theirs, "hello").await;
        let version = db.versions().insert_version(theirs, new_version(script)).await.unwrap();
        let connection = db
            .connections()
            .create_connection(theirs, &"dw".parse().unwrap(), ConnectionKind::Sql, |_| vec![1])
            .await
            .unwrap()
            .0
            .id;
        db.endpoints().create_endpoint(theirs, &new_endpoint(script, "GET", "/a")).await.unwrap();
        let token = new_token("t1");
        db.tokens().insert_token(theirs, &token).await.unwrap();
        db.signing_keys().insert(theirs, &signing_key("k1"), None, || b"sealed".to_vec()).await.unwrap();
        let rule = "api.example.com".parse().unwrap();
        db.egress().allow(theirs, &rule).await.unwrap();
        let logged = InvocationRecord { tenant: theirs, ..record(theirs) };
        db.invocations().insert_batch(std::slice::from_ref(&logged), &[]).await.unwrap();

        let hello = "hello".parse().unwrap();
        assert_eq!(db.scripts().find_script(mine, &hello).await.unwrap(), None);
        assert_eq!(db.scripts().list_scripts(mine).await.unwrap(), []);
        assert_eq!(db.versions().find_version(mine, version.id).await.unwrap(), None);
        assert_eq!(db.versions().list_files(mine, version.id).await.unwrap(), []);
        assert_eq!(db.versions().list_versions(mine, script, None, 10).await.unwrap(), []);
        assert_eq!(db.endpoints().list_endpoints(mine).await.unwrap(), []);
        assert_eq!(db.tokens().find_token(mine, "t1").await.unwrap(), None);
        assert_eq!(db.tokens().list_tokens_after(mine, None, 10).await.unwrap(), []);
        assert!(!db.tokens().revoke_token(mine, "t1").await.unwrap());
        assert_eq!(db.tokens().find_token(theirs, "t1").await.unwrap().unwrap().revoked_at_ms, None);
        assert_eq!(db.signing_keys().list(mine).await.unwrap(), []);
        assert!(!db.signing_keys().delete(mine, "k1").await.unwrap());
        assert_eq!(db.egress().list_rules(mine).await.unwrap(), []);
        assert!(!db.egress().deny(mine, &rule).await.unwrap());
        assert_eq!(db.egress().list_rules(theirs).await.unwrap().len(), 1);
        assert_eq!(db.connections().find_connection(mine, &"dw".parse().unwrap()).await.unwrap(), None);
        assert_eq!(db.connections().list_connections(mine).await.unwrap(), []);
        assert_eq!(db.invocations().list(mine, None, 10).await.unwrap(), []);
        assert_eq!(db.invocations().find_invocation(mine, logged.id).await.unwrap(), None);
        assert_eq!(db.invocations().prune(mine, 0, 10).await.unwrap(), 0);

        let is_unknown =
            |error: DbError, what: &str| assert!(error.to_string().contains(&format!("no {what}")), "{error}");
        is_unknown(db.versions().insert_version(mine, new_version(script)).await.unwrap_err(), "script");
        let loaded = new_version(script).loaded;
        is_unknown(db.versions().update_image(mine, version.id, &loaded).await.unwrap_err(), "version");
        is_unknown(
            db.endpoints().create_endpoint(mine, &new_endpoint(script, "GET", "/a")).await.unwrap_err(),
            "script",
        );
        is_unknown(db.tenants().set_default_connection(mine, connection).await.unwrap_err(), "connection");
        db.tenants().set_default_connection(theirs, connection).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_connection_is_sealed_for_its_own_id() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let tenant = create_tenant(&db, "acme").await;
        let dw = "dw_2".parse().unwrap();
        let seal = |id: ConnectionId| format!("sealed for {id}").into_bytes();
        let (created, is_default) =
            db.connections().create_connection(tenant, &dw, ConnectionKind::Sql, seal).await.unwrap();
        let row = db.connections().find_connection(tenant, &dw).await.unwrap().unwrap();
        assert_eq!((row.revision, &row.sealed_url), (1, &format!("sealed for {}", row.id).into_bytes()));
        assert_eq!((created, is_default), (row, true));
        let second = db.connections().create_connection(tenant, &"b".parse().unwrap(), ConnectionKind::Sql, seal).await;
        assert!(!second.unwrap().1, "the first one stays the default");
        let error = db.connections().create_connection(tenant, &dw, ConnectionKind::Sql, seal).await.unwrap_err();
        assert_eq!(error.to_string(), "there is already a connection `dw_2`");
        let error = db.connections().create_connection(TenantId(99), &dw, ConnectionKind::Sql, seal).await.unwrap_err();
        assert!(matches!(error, DbError::Unknown { .. }), "{error}");
    })
    .await;
}

#[tokio::test]
async fn hosts_are_allowed_once_and_denied_as_they_are_listed() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let tenant = create_tenant(&db, "acme").await;
        for text in ["https://API.example.com:443", "api.example.com", "*.example.com:8443", "http://api.example.com"] {
            db.egress().allow(tenant, &text.parse().unwrap()).await.unwrap();
        }
        let listed = async || {
            let rows = db.egress().list_rules(tenant).await.unwrap();
            rows.into_iter().map(|row| row.rule.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(listed().await, ["*.example.com:8443", "api.example.com", "http://api.example.com"]);
        assert!(db.egress().deny(tenant, &"api.example.com".parse().unwrap()).await.unwrap());
        assert!(!db.egress().deny(tenant, &"api.example.com".parse().unwrap()).await.unwrap());
        assert_eq!(listed().await, ["*.example.com:8443", "http://api.example.com"]);
        let error = db.egress().allow(TenantId(99), &"a.example.com".parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, DbError::Unknown { .. }), "{error}");
    })
    .await;
}

#[tokio::test]
async fn revoking_twice_keeps_the_first_time() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let tenant = create_tenant(&db, "acme").await;
        db.tokens().insert_token(tenant, &new_token("t")).await.unwrap();
        assert!(db.tokens().revoke_token(tenant, "t").await.unwrap());
        let first = db.tokens().find_token(tenant, "t").await.unwrap().unwrap();
        assert!(first.revoked_at_ms.is_some());
        assert!(db.tokens().revoke_token(tenant, "t").await.unwrap());
        assert_eq!(db.tokens().find_token(tenant, "t").await.unwrap(), Some(first));
        assert!(!db.tokens().revoke_token(tenant, "u").await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn what_has_expired_is_deleted_and_nothing_else() {
    const MONTH: i64 = 30 * 86_400_000;
    on_each(async |fresh| {
        let db = fresh.open().await;
        let tenant = create_tenant(&db, "acme").await;
        let script = ensure_script(&db, tenant, "hello").await;
        let version = db.versions().insert_version(tenant, new_version(script)).await.unwrap();
        let email: crate::domain::people::Email = "ann@acme.example".parse().unwrap();
        let user = db.users().create_user(&email, "hash").await.unwrap();
        let session = || Holder::Session { user, email: email.clone() };
        for (id, holder, expires_at_ms) in [
            ("a", session(), 1000),
            ("b", session(), 2000),
            ("c", Holder::User { user, email: email.clone() }, 1000),
            ("d", Holder::Operator, 1000 + MONTH),
        ] {
            let (id, hash) = (id.to_owned(), format!("hash of {id}"));
            let new = NewCredential { id, holder, name: String::new(), hash, expires_at_ms };
            db.credentials().insert_credential(&new, Grounds::None).await.unwrap();
        }
        let endpoint = db.endpoints().create_endpoint(tenant, &new_endpoint(script, "GET", "/a")).await.unwrap();
        for (id, expires_at_ms) in [("old", 1000), ("new", 1000 + MONTH)] {
            let only = Some(EndpointsOfRoutes { routes: vec!["/a".to_owned()], ids: vec![endpoint.id] });
            let new = NewToken { only, expires_at_ms, ..new_token(id) };
            db.tokens().insert_token(tenant, &new).await.unwrap();
        }
        for (hash, expires_at_ms) in [("old", 1000), ("new", i64::MAX)] {
            let (hash, script) = (hash.to_owned(), "hello".parse().unwrap());
            let new = NewPreview { hash, version: version.id, script, number: 1, expires_at_ms };
            db.previews().insert_preview(tenant, &new).await.unwrap();
        }
        assert_eq!(db.idempotency().begin("key", "request").await.unwrap(), Remembered::Fresh);

        let left = async || {
            let of = [CredentialsOf::User(user), CredentialsOf::Operators];
            let mut ids = Vec::new();
            for of in of {
                ids.extend(db.credentials().list_credentials(of, None, 10).await.unwrap().into_iter().map(|c| c.id));
            }
            ids.extend(
                db.tokens().list_tokens_after(tenant, None, 10).await.unwrap().into_iter().map(|token| token.id),
            );
            let previews: Vec<String> =
                sqlx::query_scalar("SELECT hash FROM preview ORDER BY hash").fetch_all(&db.readers).await.unwrap();
            (ids, previews)
        };
        let prune = async |now| {
            let credentials = db.credentials().prune_expired(now, 10).await.unwrap();
            let tokens = db.tokens().prune_expired(now, 10).await.unwrap();
            (credentials, tokens, db.previews().prune_expired(now, 10).await.unwrap())
        };
        let all = left().await;
        assert_eq!(prune(1000).await, (0, 0, 0));
        assert_eq!(left().await, all);
        assert_eq!(prune(1001).await, (1, 0, 1), "a session, and not the tokens, which lists show for a month");
        assert_eq!(db.credentials().prune_expired(1001 + MONTH, 1).await.unwrap(), 1, "no more than asked for");
        assert_eq!(prune(1001 + MONTH).await, (1, 1, 0));
        assert_eq!(left().await, (vec!["d".to_owned(), "new".to_owned()], vec!["new".to_owned()]));
        let bound: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM token_endpoint").fetch_one(&db.readers).await.unwrap();
        assert_eq!(bound, 1, "the endpoints of a token go with it");

        let now = crate::db::now_ms();
        assert_eq!(db.idempotency().prune_expired(now, 10).await.unwrap(), 0);
        assert_eq!(db.idempotency().prune_expired(now + 86_401_000, 10).await.unwrap(), 1);
        assert_eq!(db.idempotency().begin("key", "request").await.unwrap(), Remembered::Fresh);
    })
    .await;
}

#[tokio::test]
async fn what_the_control_api_reads_keeps_no_invocation_waiting() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let control = db.for_control();
        let mut reading = Vec::new();
        for _ in 0..crate::db::connect::SHOWING_MAX {
            reading.push(control.readers.begin_snapshot().await.unwrap());
        }
        let moment = std::time::Duration::from_millis(50);
        let one_more = tokio::time::timeout(moment, control.readers.begin_snapshot()).await;
        assert!(one_more.is_err(), "lists take all there are");
        // Who looks for changes with those waits, and lets others look.
        let waiting = control.clone();
        let waiting = tokio::spawn(async move { waiting.look_for_changes().await });
        tokio::task::yield_now().await;
        db.look_for_changes().await.expect("an invocation reads");
        assert!(!waiting.is_finished(), "it has waited neither for a connection nor for who does");
        create_tenant(&control, "acme").await;
        waiting.abort();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_publishers_get_numbers_without_gaps() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let tenant = create_tenant(&db, "acme").await;
        let script = ensure_script(&db, tenant, "hello").await;
        let publishers = (0..4).map(|_| {
            let database = fresh.database.clone();
            tokio::spawn(async move {
                let db = Db::open(&database).await.unwrap();
                let mut numbers = Vec::new();
                for _ in 0..10 {
                    numbers.push(db.versions().insert_version(tenant, new_version(script)).await.unwrap().number);
                }
                numbers
            })
        });
        let mut numbers: Vec<_> =
            futures::future::join_all(publishers).await.into_iter().flat_map(Result::unwrap).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=40).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_beside_a_host_that_logs_without_pause_is_not_locked_out() {
    on_each(async |fresh| {
        let host = fresh.open().await;
        let tenant = create_tenant(&host, "acme").await;
        let logging = tokio::spawn(async move {
            loop {
                let batch: Vec<_> = (0..600).map(|_| record(tenant)).collect();
                host.invocations().insert_batch(&batch, &[]).await.unwrap();
            }
        });
        let command = fresh.open().await;
        for n in 0..20 {
            create_tenant(&command, &format!("tenant-{n}")).await;
        }
        assert!(!logging.is_finished(), "the log was written all the while");
        logging.abort();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_open_a_new_database_at_once() {
    on_each(async |fresh| {
        let opened = (0..8).map(|n| {
            let database = fresh.database.clone();
            tokio::spawn(async move {
                let db = Db::open(&database).await.unwrap();
                create_tenant(&db, &format!("tenant-{n}")).await;
                db.close().await;
            })
        });
        for result in futures::future::join_all(opened).await {
            result.unwrap();
        }
        let db = fresh.open().await;
        assert_eq!(db.tenants().list_tenants().await.unwrap().len(), 8);
    })
    .await;
}

#[tokio::test]
async fn the_audit_log_says_whether_an_endpoint_records() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let tenant = create_tenant(&db, "acme").await;
        let script = ensure_script(&db, tenant, "hello").await;
        let silent = new_endpoint(script, "GET", "/a");
        let id = db.endpoints().create_endpoint(tenant, &silent).await.unwrap().id;
        let recording = NewEndpoint { record: true, ..silent };
        db.endpoints().update_endpoint(tenant, id, &recording, None).await.unwrap();
        let target = db.audit().list(Some(tenant), None, 1).await.unwrap().remove(0).target;
        assert_eq!(target, "GET /a to hello (jwt), now GET /a to hello (jwt, recorded)");
    })
    .await;
}
