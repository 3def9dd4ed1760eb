//! A host of its own for each test, with the real runtime, databases and sockets.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use pqhost::{
    app::{Guests, Host, Workspace},
    auth::{TokenRequest, people::People},
    config::{Config, DataDir},
    control,
    data::ConnectionUrl,
    db::{
        Db,
        cache::ReadAt,
        connections::ConnectionKind,
        credentials::{Grounds, Holder},
        endpoints::{Endpoint, NewBackend, NewEndpoint},
        invocations::{InvocationRecord, LoggedInvocation},
    },
    domain::{
        control_database::ServerDatabase,
        endpoint::EndpointSettings,
        exchange::AuthMode,
        names::{ScriptId, TenantId, TenantName},
        people::Role,
        script::SourceFile,
    },
    ingress,
    invoke::directory::url_context,
    publish::{Publication, PublishError, Published},
    sandbox::pool::PoolStatus,
    server,
};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// No test takes this long unless something hangs.
pub(crate) const HANG_GUARD: Duration = Duration::from_secs(120);

/// A change is seen within a second, and on a machine of any speed long before a host reads everything anew, which it does
/// every 60 s without any change.
const CHANGE_GUARD: Duration = Duration::from_secs(50);

/// A running host with one tenant, `acme`.
pub(crate) struct TestApp {
    /// As another process has it open.
    pub workspace: Workspace,
    /// The host's own.
    db: Db,
    pub url: String,
    pub control_url: String,
    pub client: Client,
    guests: Arc<pqhost::publish::Publisher>,
    invoker: pqhost::invoke::Invoker,
    pool: Arc<pqhost::sandbox::pool::Pool>,
    _host: HostGuard,
    _directory: tempfile::TempDir,
}

struct HostGuard {
    host: Option<Host>,
    serving: JoinHandle<()>,
}

impl Drop for HostGuard {
    fn drop(&mut self) {
        self.serving.abort();
        drop(self.host.take());
    }
}

/// A tenant of a test.
#[derive(Clone)]
pub(crate) struct Tenant {
    pub id: TenantId,
    pub name: TenantName,
}

pub(crate) async fn changes_seen(db: &Db) -> ReadAt {
    db.look_for_changes().await.unwrap();
    db.now()
}

impl TestApp {
    pub(crate) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    /// A host with other settings.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start(change, |_| ()).await
    }

    /// A host whose control database is on a server.
    pub(crate) async fn on(server: &ServerDatabase) -> Self {
        Self::with(|config| config.data = config.data.clone().with_server(Some(server.clone()))).await
    }

    /// A host with other settings of its data plane.
    pub(crate) async fn with_ingress(change: impl FnOnce(&mut ingress::Settings)) -> Self {
        Self::start(|_| (), change).await
    }

    async fn start(change: impl FnOnce(&mut Config), change_ingress: impl FnOnce(&mut ingress::Settings)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        share_cache(directory.path());
        let mut config = Config::new(DataDir::new(directory.path().to_owned()));
        config.verify_every = 1;
        change(&mut config);
        let config = config.validated().unwrap();
        let loopback = ([127, 0, 0, 1], 0).into();
        let bound = server::bind(loopback, loopback).await.unwrap();
        let workspace = Workspace::open(&config.data).await.unwrap();
        let acme = "acme".parse().unwrap();
        if workspace.db.tenants().find_tenant(&acme).await.unwrap().is_none() {
            workspace.db.tenants().create_tenant(&acme).await.unwrap(); // another host may share its database
        }
        let (guests, _) = Guests::start(&config, &workspace, || ()).unwrap();
        let host = Host::start(&config, workspace, guests);
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        let url_of = |address| format!("{scheme}://{address}");
        let (url, control_url) = (url_of(bound.ingress_addr), url_of(bound.control_addr));
        // However slow the machine is, documents are whole.
        let mut settings = ingress::Settings {
            dev: config.dev,
            describing_time: HANG_GUARD,
            public_url: config.public_url.clone(),
            ..ingress::Settings::default()
        };
        change_ingress(&mut settings);
        let router = ingress::router(host.invoker.clone(), Arc::clone(&host.workspace.auth), settings);
        let settings = server::Settings {
            trusted_proxies: config.trusted_proxies.clone(),
            tls: config.tls.clone(),
            ..server::Settings::of_this_process()
        };
        let server = bound.open(settings).unwrap();
        server.admit(router, control::router(control::Parts::of_host(&host)));
        let serving = tokio::spawn(async move {
            server.serve(Duration::from_secs(10)).await.unwrap();
        });
        Self {
            workspace: Workspace::open(&config.data).await.unwrap(),
            url,
            control_url,
            client: Client::builder().timeout(HANG_GUARD).build().unwrap(),
            db: host.workspace.db.clone(),
            guests: Arc::clone(&host.guests.publisher),
            invoker: host.invoker.clone(),
            pool: Arc::clone(&host.pool),
            _host: HostGuard { host: Some(host), serving },
            _directory: directory,
        }
    }

    /// The tenant that is there from the start.
    pub(crate) async fn acme(&self) -> Tenant {
        self.tenant("acme").await
    }

    pub(crate) async fn tenant(&self, name: &str) -> Tenant {
        let name: TenantName = name.parse().unwrap();
        let id = match self.workspace.db.tenants().find_tenant(&name).await.unwrap() {
            Some(tenant) => tenant.id,
            None => self.workspace.db.tenants().create_tenant(&name).await.unwrap(),
        };
        Tenant { id, name }
    }

    pub(crate) async fn try_publish(
        &self,
        tenant: &Tenant,
        name: &str,
        source: impl AsRef<[u8]>,
    ) -> Result<Published, PublishError> {
        let files = vec![SourceFile { name: "handler.py".to_owned(), content: source.as_ref().to_vec() }];
        self.try_publish_files(tenant, name, files).await
    }

    pub(crate) async fn try_publish_files(
        &self,
        tenant: &Tenant,
        name: &str,
        files: Vec<SourceFile>,
    ) -> Result<Published, PublishError> {
        let script = name.parse().unwrap();
        let publication = Publication { script, files, message: String::new(), promote: true };
        let published = self.guests.publish(&self.workspace.db, tenant.id, publication).await;
        self.see_changes().await;
        published
    }

    /// Publishes a script and makes a public endpoint `/name` for it that answers every method.
    pub(crate) async fn serve(&self, tenant: &Tenant, name: &str, source: &str) -> Published {
        let published = self.try_publish(tenant, name, source).await.unwrap();
        self.endpoint(tenant, "ANY", &format!("/{name}"), name, AuthMode::Public).await;
        published
    }

    pub(crate) async fn endpoint(&self, tenant: &Tenant, methods: &str, route: &str, script: &str, auth: AuthMode) {
        self.endpoint_with(tenant, (methods, route), script, auth, serde_json::json!({})).await;
    }

    /// An endpoint with settings, as JSON.
    pub(crate) async fn endpoint_with(
        &self,
        tenant: &Tenant,
        (methods, route): (&str, &str),
        script: &str,
        auth: AuthMode,
        settings: Value,
    ) -> Endpoint {
        let script =
            self.workspace.db.scripts().find_script(tenant.id, &script.parse().unwrap()).await.unwrap().unwrap();
        let (methods, route) = (methods.parse().unwrap(), route.parse().unwrap());
        let settings: EndpointSettings = serde_json::from_value(settings).unwrap();
        settings.check().unwrap();
        let new = NewEndpoint { settings, ..NewEndpoint::to_script(methods, route, script.id, auth) };
        let endpoint = self.workspace.db.endpoints().create_endpoint(tenant.id, &new).await.unwrap();
        self.see_changes().await;
        endpoint
    }

    /// Makes an endpoint that a table or a query answers.
    pub(crate) async fn table_endpoint(&self, tenant: &Tenant, route: &str, source: Value, auth: AuthMode) {
        self.table_endpoint_with(tenant, route, source, auth, json!({})).await;
    }

    pub(crate) async fn table_endpoint_with(
        &self,
        tenant: &Tenant,
        route: &str,
        source: Value,
        auth: AuthMode,
        settings: Value,
    ) {
        let backend = NewBackend::Table(serde_json::from_value(source).unwrap());
        let route = route.parse().unwrap();
        let new = NewEndpoint {
            backend,
            settings: serde_json::from_value(settings).unwrap(),
            ..NewEndpoint::to_script("GET".parse().unwrap(), route, ScriptId::NONE, auth)
        };
        self.workspace.db.endpoints().create_endpoint(tenant.id, &new).await.unwrap();
        self.see_changes().await;
    }

    pub(crate) async fn connection(&self, tenant: &Tenant, name: &str, url: &str) {
        ConnectionUrl::parse(url).unwrap();
        let seal = |id| self.workspace.vault.seal(&url_context(id), url.as_bytes());
        self.workspace
            .db
            .connections()
            .create_connection(tenant.id, &name.parse().unwrap(), ConnectionKind::Sql, seal)
            .await
            .unwrap();
        self.see_changes().await;
    }

    /// A SQLite connection `dw_2` with a table `salesforce.accounts` of three rows.
    pub(crate) async fn accounts(&self, tenant: &Tenant) {
        let folder = self.workspace.data.sqlite().join(tenant.name.as_str());
        std::fs::create_dir_all(&folder).unwrap();
        let database = rusqlite::Connection::open(folder.join("salesforce.db")).unwrap();
        database
            .execute_batch(
                "CREATE TABLE accounts (id INTEGER PRIMARY KEY, name TEXT, revenue REAL);
                 INSERT INTO accounts VALUES (1, 'Ada', 1.5), (2, 'Bôb', NULL), (3, 'C\"d', 9007199254740993)",
            )
            .unwrap();
        self.connection(tenant, "dw_2", &format!("sqlite:{}", tenant.name)).await;
    }

    pub(crate) async fn token(&self, tenant: &Tenant) -> String {
        let request = TokenRequest::new("test", HANG_GUARD);
        let token =
            self.workspace.auth.create_token(&self.workspace.db, tenant.id, &tenant.name, request).await.unwrap();
        token.text.expose_str().unwrap().to_owned()
    }

    /// A token for programs that have a role in the tenant.
    pub(crate) async fn api_token(&self, tenant: &Tenant, role: Role) -> String {
        let (db, holder) = (&self.workspace.db, Holder::Tenant { tenant: tenant.id, role });
        let token = People::new(db.clone())
            .create_token(db, holder, "test".to_owned(), HANG_GUARD, Grounds::None)
            .await
            .unwrap();
        token.text.expose_str().unwrap().to_owned()
    }

    /// Tells whether anything has changed in between.
    pub(crate) async fn changes_seen(&self) -> ReadAt {
        changes_seen(&self.db).await
    }

    /// Sees changes of other processes, and those that tests make as one would, at once.
    pub(crate) async fn see_changes(&self) {
        self.db.look_for_changes().await.unwrap();
    }

    /// What `run` gives when the host begins without answers and sees no change meanwhile, after which it begins anew.
    pub(crate) async fn undisturbed<T>(&self, tenant: &Tenant, run: impl AsyncFn() -> T) -> T {
        let generation = async || self.invoker.find_routes(&tenant.name).await.unwrap().unwrap().generation;
        let public = self.invoker.find_routes(&tenant.name).await.unwrap().unwrap().public_document;
        loop {
            self.workspace.db.tenants().set_public_document(tenant.id, public).await.unwrap(); // as it is: a change all the same
            self.see_changes().await;
            let before = generation().await;
            let given = run().await;
            if generation().await == before {
                return given;
            }
        }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        Answer::of(self.request(Method::POST, path).body(body)).await
    }

    /// Sends a request until the answer is as it should be, which may take as long as a change takes to be seen.
    pub(crate) async fn until(&self, path: &str, is_so: impl Fn(&Answer) -> bool + Send + Sync) -> Answer {
        self.until_with(&|app: &Self| app.request(Method::GET, path), is_so).await
    }

    pub(crate) async fn until_with(
        &self,
        request: &(impl Fn(&Self) -> RequestBuilder + Sync),
        is_so: impl Fn(&Answer) -> bool + Send + Sync,
    ) -> Answer {
        let waiting = async {
            loop {
                let answer = Answer::of(request(self)).await;
                if is_so(&answer) {
                    return answer;
                }
            }
        };
        tokio::time::timeout(CHANGE_GUARD, waiting).await.expect("the change is seen soon")
    }

    pub(crate) fn pool(&self) -> PoolStatus {
        self.pool.status()
    }

    /// The newest record of the tenant, once it is written.
    pub(crate) async fn last_invocation(&self, tenant: &Tenant, after: usize) -> LoggedInvocation {
        let waiting = async {
            loop {
                let mut all = self.workspace.db.invocations().list(tenant.id, None, 1000).await.unwrap();
                if all.len() > after {
                    return all.pop().unwrap();
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(HANG_GUARD, waiting).await.expect("the record is written soon")
    }

    /// The record of the invocation of this id, once it is written.
    pub(crate) async fn invocation(&self, tenant: &Tenant, id: &str) -> InvocationRecord {
        let id = id.parse().unwrap();
        let waiting = async {
            loop {
                match self.workspace.db.invocations().find_invocation(tenant.id, id).await.unwrap() {
                    Some(found) => return found.record,
                    None => tokio::task::yield_now().await,
                }
            }
        };
        tokio::time::timeout(HANG_GUARD, waiting).await.expect("the record is written soon")
    }

    /// Asserts that no rewind has left anything behind, by comparison of whole memories.
    pub(crate) fn assert_rewound(&self) {
        assert_eq!(self.pool().differences, 0);
    }
}

/// A client for tests that have no host in their own process, which would choose the provider of TLS.
pub(crate) fn client() -> Client {
    _ = rustls::crypto::ring::default_provider().install_default(); // another test has done it
    Client::new()
}

/// A response, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: String,
}

impl Answer {
    pub(crate) async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, body: response.text().await.unwrap() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Status and code of a problem document, which must name the invocation as the header does.
    #[track_caller]
    pub(crate) fn problem(&self) -> (u16, String) {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        let document = self.json();
        assert_eq!(document["status"], self.status);
        assert_eq!(document["invocation_id"], self.headers["x-request-id"].to_str().unwrap());
        (self.status, document["code"].as_str().unwrap().to_owned())
    }
}

/// All tests share one compiled copy of the runtime.
pub(crate) fn share_cache(data: &Path) {
    let cache = std::env::var_os("PQHOST_TEST_CACHE").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| std::env::temp_dir().join("pqhost-test-cache"));
    std::fs::create_dir_all(&cache).unwrap();
    std::os::unix::fs::symlink(cache, data.join("cache")).unwrap();
}

/// `examples/NAME/FILE`.
pub(crate) fn example(name: &str, file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
