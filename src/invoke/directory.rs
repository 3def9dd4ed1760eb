//! What is published, as invocations need it: routes and connections of tenants, cached until something changes.

mod http;

use std::{
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    data::{ConnectionUrl, Target},
    db::{
        Db,
        connections::ConnectionKind,
        versions::{LoadMode, Version},
    },
    domain::{
        egress::AllowRule,
        exchange::AuthMode,
        limits::Limits,
        names::{ConnectionId, ConnectionName, EndpointId, ScriptId, ScriptName, SecretId, TenantId, TenantName},
        preview::PreviewToken,
        route::{MethodSet, RoutePattern, RouteTable},
        script::SourceFile,
        sql::{SqlError, SqlErrorCode},
    },
    egress::HttpConnection,
    invoke::InvokeError,
    vault::Vault,
};

/// Tenants and connections that are remembered, at most; a miss costs a few queries.
const CACHED_MAX: u64 = 10_000;

/// Entries are read anew after this time, in case a change went unnoticed.
const CACHED_FOR: Duration = Duration::from_secs(60);

/// The routes of a tenant.
#[derive(Debug)]
pub struct TenantRoutes {
    /// Whose they are.
    pub tenant_id: TenantId,
    /// Its name.
    pub tenant: TenantName,
    /// Its default connection.
    pub default_connection: Option<(ConnectionId, ConnectionName)>,
    /// Where requests go.
    pub table: RouteTable<Arc<EndpointTarget>>,
}

/// What an endpoint leads to.
#[derive(Debug, Clone)]
pub struct EndpointTarget {
    /// The endpoint.
    pub id: EndpointId,
    /// Who may call it.
    pub auth: AuthMode,
    /// Its script.
    pub script: ScriptId,
    /// The script's name.
    pub script_name: ScriptName,
    /// What an invocation may use.
    pub limits: Limits,
    /// The version that it serves: the one that it is pinned to, else the script's live one.
    pub(crate) version: Option<RunnableVersion>,
}

/// A version, ready to run.
#[derive(Debug, Clone)]
pub(crate) struct RunnableVersion {
    pub(crate) version: Version,
    /// The source, if module-level code runs in each request.
    pub(crate) files: Option<Vec<SourceFile>>,
}

/// Caches over the control database.
#[derive(Debug)]
pub(crate) struct Directory {
    db: Db,
    vault: Arc<Vault>,
    limits: Limits,
    routes: moka::sync::Cache<TenantName, Option<Arc<TenantRoutes>>>,
    targets: moka::sync::Cache<(TenantId, ConnectionName), Target>,
    rules: moka::sync::Cache<TenantId, Arc<[AllowRule]>>,
    http_connections: moka::sync::Cache<(TenantId, ConnectionName), Arc<HttpConnection>>,
    /// Counts [`Self::forget`], so that what was read before a change is not remembered after it.
    forgotten: AtomicU64,
}

fn cache<K, V>() -> moka::sync::Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    moka::sync::Cache::builder().max_capacity(CACHED_MAX).time_to_live(CACHED_FOR).build()
}

impl Directory {
    pub(crate) fn new(db: Db, vault: Arc<Vault>, limits: Limits) -> Self {
        let (routes, targets, rules, http_connections) = (cache(), cache(), cache(), cache());
        Self { db, vault, limits, routes, targets, rules, http_connections, forgotten: AtomicU64::new(0) }
    }

    /// What an invocation may use.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Reads everything anew from now on.
    pub(crate) fn forget(&self) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        self.routes.invalidate_all();
        self.targets.invalidate_all();
        self.rules.invalidate_all();
        self.http_connections.invalidate_all();
    }

    /// Keeps what was read when [`Self::forget`] had been called `forgotten` times.
    fn remember<K, V>(&self, cache: &moka::sync::Cache<K, V>, key: K, value: V, forgotten: u64)
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
    {
        cache.insert(key.clone(), value);
        // Looked at after inserting: a change in between finds the entry, or is seen here.
        if self.forgotten.load(Ordering::SeqCst) != forgotten {
            cache.invalidate(&key);
        }
    }

    pub(crate) async fn find_routes(&self, name: &TenantName) -> Result<Option<Arc<TenantRoutes>>, InvokeError> {
        if let Some(known) = self.routes.get(name) {
            return Ok(known);
        }
        let forgotten = self.forgotten.load(Ordering::SeqCst);
        let routes = self.read_routes(name).await?.map(Arc::new);
        self.remember(&self.routes, name.clone(), routes.clone(), forgotten);
        Ok(routes)
    }

    async fn read_routes(&self, name: &TenantName) -> Result<Option<TenantRoutes>, InvokeError> {
        let Some(tenant) = self.db.tenants().find_tenant(name).await? else { return Ok(None) };
        let default_connection = match tenant.default_connection {
            Some(id) => {
                let connections = self.db.connections().list_connections(tenant.id).await?;
                connections.into_iter().find(|row| row.id == id).map(|row| (id, row.name))
            }
            None => None,
        };
        let mut table = RouteTable::default();
        for endpoint in self.db.endpoints().list_endpoints(tenant.id).await? {
            let (Ok(methods), Ok(pattern)) =
                (endpoint.methods.parse::<MethodSet>(), endpoint.route.parse::<RoutePattern>())
            else {
                tracing::error!(tenant.name = %name, endpoint.id = %endpoint.id, "an endpoint's stored route cannot be read");
                continue;
            };
            let version = match endpoint.served_version {
                Some(version) => self.runnable(tenant.id, version).await?,
                None => None,
            };
            let target = EndpointTarget {
                id: endpoint.id,
                auth: endpoint.auth,
                script: endpoint.script,
                script_name: endpoint.script_name,
                limits: self.limits,
                version,
            };
            if let Err(conflict) = table.insert(methods, pattern, Arc::new(target)) {
                tracing::error!(tenant.name = %name, %conflict, "an endpoint is not served");
            }
        }
        Ok(Some(TenantRoutes { tenant_id: tenant.id, tenant: name.clone(), default_connection, table }))
    }

    /// The endpoint as it answers in a preview: with the previewed version, if that is one of its script.
    pub(crate) async fn preview(
        &self,
        tenant: TenantId,
        token: &PreviewToken,
        endpoint: &Arc<EndpointTarget>,
    ) -> Result<Option<Arc<EndpointTarget>>, InvokeError> {
        let Some(id) = self.db.previews().find_preview(tenant, &token.hash()).await? else { return Ok(None) };
        let version = self.runnable(tenant, id).await?;
        Ok(match version.filter(|version| version.version.script == endpoint.script) {
            Some(version) => Some(Arc::new(EndpointTarget { version: Some(version), ..(**endpoint).clone() })),
            None => Some(Arc::clone(endpoint)),
        })
    }

    async fn runnable(
        &self,
        tenant: TenantId,
        version: crate::domain::names::VersionId,
    ) -> Result<Option<RunnableVersion>, InvokeError> {
        let Some(version) = self.db.versions().find_version(tenant, version).await? else { return Ok(None) };
        let files = match version.loaded.mode {
            LoadMode::Image => None,
            LoadMode::PerRequest => Some(self.db.versions().list_files(tenant, version.id).await?),
        };
        Ok(Some(RunnableVersion { version, files }))
    }

    /// The connection that a script names.
    ///
    /// # Errors
    /// If the tenant has none of this name; the message names those that it has.
    pub(crate) async fn find_target(&self, tenant: TenantId, name: &str) -> Result<Target, SqlError> {
        let Ok(name) = name.parse::<ConnectionName>() else { return Err(self.unknown_connection(tenant, name).await) };
        if let Some(target) = self.targets.get(&(tenant, name.clone())) {
            return Ok(target);
        }
        let forgotten = self.forgotten.load(Ordering::SeqCst);
        let unavailable = |error: &dyn std::fmt::Display| {
            tracing::error!(tenant.id = %tenant, connection.name = %name, %error, "a connection cannot be read");
            SqlError::new(SqlErrorCode::Unavailable, format!("connection `{name}` cannot be used right now"))
        };
        let row = self.db.connections().find_connection(tenant, &name).await.map_err(|error| unavailable(&error))?;
        let Some(row) = row.filter(|row| row.kind == ConnectionKind::Sql) else {
            return Err(self.unknown_connection(tenant, name.as_str()).await);
        };
        let url = self.vault.unseal(&url_context(row.id), &row.sealed_url).map_err(|error| unavailable(&error))?;
        let url = url.expose_str().map_err(|error| unavailable(&error))?;
        let url = ConnectionUrl::parse(url).map_err(|error| unavailable(&error))?;
        let target = Target { tenant, connection: row.id, revision: row.revision, name: name.clone(), url };
        self.remember(&self.targets, (tenant, name), target.clone(), forgotten);
        Ok(target)
    }

    /// The tenant's connections.
    ///
    /// # Errors
    /// If the control database fails.
    pub(crate) async fn list_connections(
        &self,
        tenant: TenantId,
    ) -> Result<Vec<(ConnectionId, ConnectionName)>, SqlError> {
        let rows = self.db.connections().list_connections(tenant).await.map_err(|error| {
            tracing::error!(tenant.id = %tenant, %error, "connections cannot be listed");
            SqlError::new(SqlErrorCode::Unavailable, "connections cannot be listed right now")
        })?;
        Ok(rows.into_iter().map(|row| (row.id, row.name)).collect())
    }

    async fn unknown_connection(&self, tenant: TenantId, name: &str) -> SqlError {
        SqlError::new(SqlErrorCode::UnknownConnection, self.unknown(tenant, name, ConnectionKind::Sql).await)
    }

    /// A sentence that names the connections of this kind that there are.
    async fn unknown(&self, tenant: TenantId, name: &str, kind: ConnectionKind) -> String {
        let known = self.db.connections().list_connections(tenant).await.unwrap_or_default();
        let known: Vec<_> = known.iter().filter(|row| row.kind == kind).map(|row| format!("`{}`", row.name)).collect();
        let known =
            if known.is_empty() { "there are none".to_owned() } else { format!("there is {}", known.join(", ")) };
        let name: String = name.chars().take(80).flat_map(char::escape_default).collect();
        format!("unknown connection `{name}`: {known}")
    }
}

/// What a connection's URL is sealed for.
#[must_use]
pub fn url_context(connection: ConnectionId) -> String {
    format!("connection:{connection}")
}

/// What a secret is sealed for.
#[must_use]
pub fn secret_context(secret: SecretId) -> String {
    format!("secret:{secret}")
}
