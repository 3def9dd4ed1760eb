//! The control database on a server: shared by hosts, restarted, unreachable.

use std::process::Command;

use pqhost::{
    app::{StartError, Workspace},
    config::DataDir,
    db::endpoints::{Backend, NewEndpoint},
    domain::{control_database::ServerDatabase, exchange::AuthMode},
    vault::VaultError,
};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use crate::{control::Api, program::Installation, restart::Server, support::TestApp};

const POSTGRES: &str = "postgres://postgres@127.0.0.1:5432/test";

/// A schema of PostgreSQL for one test.
pub(crate) struct Schema(String);

impl Schema {
    /// None without a PostgreSQL, which is loud, and never in CI.
    #[expect(clippy::print_stderr, reason = "what is skipped is to be seen")]
    pub(crate) async fn new() -> Option<Self> {
        let schema = Self(format!("pqcontrol_{}", uuid::Uuid::new_v4().simple()));
        match PgConnection::connect(POSTGRES).await {
            Ok(_) => {
                execute(&format!("CREATE SCHEMA {}", schema.0)).await;
                Some(schema)
            }
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "no PostgreSQL answers: {error}");
                eprintln!("#### SKIPPED on PostgreSQL, because none answers on 127.0.0.1:5432: {error}");
                None
            }
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("{POSTGRES}?options=-c%20search_path%3D{}", self.0)
    }

    pub(crate) fn database(&self) -> ServerDatabase {
        self.url().parse().unwrap()
    }

    /// How many changes hosts have made.
    async fn count_changes(&self) -> i64 {
        let mut connection = PgConnection::connect(POSTGRES).await.unwrap();
        let count = format!("SELECT counter FROM {}.change", self.0);
        sqlx::query_scalar(sqlx::AssertSqlSafe(count)).fetch_one(&mut connection).await.unwrap()
    }

    /// True while a change has begun and is neither kept nor undone.
    pub(crate) async fn is_being_changed(&self) -> bool {
        let mut connection = PgConnection::connect(POSTGRES).await.unwrap();
        let locks = "SELECT EXISTS (SELECT FROM pg_locks JOIN pg_class ON pg_class.oid = pg_locks.relation
             WHERE relname = 'change' AND relnamespace = $1::regnamespace AND mode = 'RowExclusiveLock')";
        sqlx::query_scalar(locks).bind(&self.0).fetch_one(&mut connection).await.unwrap()
    }

    pub(crate) async fn drop(self) {
        execute(&format!("SET client_min_messages = warning; DROP SCHEMA {} CASCADE", self.0)).await;
    }
}

/// The same of a control database that is a file.
pub(crate) fn is_file_being_changed(data: &DataDir) -> bool {
    let database = rusqlite::Connection::open(data.path().join("pqhost.db")).unwrap();
    database.busy_timeout(std::time::Duration::ZERO).unwrap();
    match database.execute_batch("BEGIN IMMEDIATE; ROLLBACK") {
        Ok(()) => false,
        Err(error) => {
            assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy), "{error}");
            true
        }
    }
}

async fn execute(sql: &str) {
    let mut connection = PgConnection::connect(POSTGRES).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
}

/// Runs a test with the control database in a file and then on PostgreSQL.
#[expect(clippy::future_not_send, reason = "a test awaits it where it is")]
pub(crate) async fn on_each(test: impl AsyncFn(TestApp)) {
    test(TestApp::new().await).await;
    if let Some(schema) = Schema::new().await {
        test(TestApp::on(&schema.database()).await).await;
        schema.drop().await;
    }
}

/// The same for tests of the program.
pub(crate) async fn on_each_installation(test: impl AsyncFn(&Installation)) {
    test(&Installation::new()).await;
    if let Some(schema) = Schema::new().await {
        test(&Installation::on(&schema.url())).await;
        schema.drop().await;
    }
}

#[tokio::test]
async fn hosts_that_share_a_database_see_each_others_changes() {
    let Some(schema) = Schema::new().await else { return };
    let one = TestApp::on(&schema.database()).await;
    let key = one.workspace.data.vault_key();
    let join = |config: &mut pqhost::config::Config| {
        std::fs::copy(&key, config.data.vault_key()).unwrap();
        config.data = config.data.clone().with_server(Some(schema.database()));
    };
    let other = TestApp::with(join).await;
    let acme = one.acme().await;
    // Published on one, served by the other, which makes the image that it lacks from the source.
    one.serve(&acme, "hello", "x = [1, 2, 3]\ndef handler(request): return x").await;
    let published = other.until("/acme/hello", |answer| answer.status == 200).await;
    assert_eq!(published.body, "[1,2,3]");
    one.serve(&acme, "closed", "def handler(request): return 'in'").await;
    one.endpoint(&acme, "GET", "/closed-too", "closed", AuthMode::Jwt).await;
    let token = one.token(&acme).await;
    let call = |app: &TestApp| app.request(reqwest::Method::GET, "/acme/closed-too").bearer_auth(&token);
    other.until_with(&call, |answer| answer.status == 200).await;
    assert_eq!(one.until_with(&call, |answer| answer.status == 200).await.body, "in");

    // A new version, a token that is revoked: on the other within a second, whichever made the change.
    other.try_publish(&acme, "hello", "def handler(request): return 'two'").await.unwrap();
    one.until("/acme/hello", |answer| answer.body == "two").await;
    let listed = other.workspace.db.tokens().list_tokens_after(acme.id, None, 10).await.unwrap();
    assert!(other.workspace.db.tokens().revoke_token(acme.id, &listed[0].id).await.unwrap());
    one.until_with(&call, |answer| answer.status == 401).await;

    // Secrets of one open on the other, and neither replaces the other's images for ever.
    let counter = schema.count_changes().await;
    for _ in 0..3 {
        for app in [&one, &other] {
            assert_eq!(app.get("/acme/hello").await.body, "two");
            app.see_changes().await;
        }
    }
    assert!(schema.count_changes().await <= counter + 1);

    // An endpoint that is switched off on one.
    let endpoints = one.workspace.db.endpoints().list_endpoints(acme.id).await.unwrap();
    let hello = endpoints.iter().find(|endpoint| endpoint.route == "/hello").unwrap();
    let Backend::Script { id: script, .. } = hello.backend else { panic!("{hello:?}") };
    let (methods, route) = (hello.methods.parse().unwrap(), hello.route.parse().unwrap());
    let off = NewEndpoint { enabled: false, ..NewEndpoint::to_script(methods, route, script, AuthMode::Public) };
    one.workspace.db.endpoints().update_endpoint(acme.id, hello.id, &off, None).await.unwrap();
    for app in [&one, &other] {
        let answer = app.until("/acme/hello", |answer| answer.status == 404).await;
        assert_eq!(answer.problem().1, "endpoint_disabled");
    }
    drop((one, other));
    schema.drop().await;
}

#[tokio::test]
async fn a_host_with_another_vault_key_does_not_join() {
    let Some(schema) = Schema::new().await else { return };
    // Nothing is sealed yet but what tells the key.
    let app = TestApp::on(&schema.database()).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let data = DataDir::new(elsewhere.path().to_owned()).with_server(Some(schema.database()));
    let error = Workspace::open(&data).await.unwrap_err();
    assert!(matches!(error, StartError::Vault(VaultError::WrongKey { .. })), "{error}");
    std::fs::copy(app.workspace.data.vault_key(), data.vault_key()).unwrap();
    Workspace::open(&data).await.unwrap();
    drop(app);
    schema.drop().await;
}

#[tokio::test]
async fn a_host_outlives_its_control_database_on_postgres() {
    let server = Server::start();
    let url = format!("postgres://postgres@127.0.0.1:{}/test", server.port);
    let app = TestApp::on(&url.parse().unwrap()).await;
    app.serve(&app.acme().await, "hello", "def handler(request): return 'hi'").await;
    let api = Api::operator(&app).await;
    assert_eq!(app.get("/acme/hello").await.body, "hi");

    // What is cached is served while the database is away; what is not, and every change, is refused for now.
    server.run("stop");
    assert_eq!(app.get("/acme/hello").await.body, "hi");
    let refused = api.post("/tenants", &json!({"name": "globex"})).await.expect("503 unavailable");
    assert!(!refused.to_string().contains("127.0.0.1"), "{refused}");
    assert_eq!(app.get("/globex/hello").await.problem(), (500, "host_error".to_owned()));
    server.run("start");
    api.post("/tenants", &json!({"name": "globex"})).await.expect("201");
    assert_eq!(app.get("/acme/hello").await.body, "hi");
}

#[tokio::test]
async fn the_schema_is_brought_up_to_date_by_hand_or_by_the_host() {
    let brought_up = |place: &Installation| {
        let pending = place.command(&["migrate", "--check"]).output().unwrap();
        let text = String::from_utf8(pending.stdout).unwrap();
        assert!(
            !pending.status.success() && text.contains("\"pending\"") && text.contains("are to be applied"),
            "{text}"
        );
        place.run(&["migrate"]);
        let rows = place.run(&["migrate", "--check"]);
        let rows = rows.as_array().unwrap();
        assert!(rows.iter().all(|row| row["state"] == "applied") && !rows.is_empty(), "{rows:?}");
        place.run(&["tenant", "create", "acme"]);
    };
    // A file without tables, as a start that was killed leaves it.
    let place = Installation::empty(None);
    rusqlite::Connection::open(place.folder().join("pqhost.db")).unwrap().execute_batch("VACUUM").unwrap();
    brought_up(&place);
    if let Some(schema) = Schema::new().await {
        brought_up(&Installation::empty(Some(schema.url())));
        schema.drop().await;
    }
}

#[test]
fn a_database_that_cannot_be_reached_is_named_without_its_password() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["tenant", "list"][..], &["serve"], &["migrate", "--check"], &["vault", "rotate"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pqhost"));
        command.arg("--data").arg(folder.path()).args(arguments);
        command.args(["--database", "postgres://me:hunter2@127.0.0.1:1/pqhost"]);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains("`127.0.0.1:1/pqhost`"), "{arguments:?}: {text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_pqhost"));
    command.args(["tenant", "list"]).env("PQHOST_DATABASE", "mysql://me:hunter2@127.0.0.1/pqhost");
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("postgres://USER"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}
