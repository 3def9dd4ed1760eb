//! What is published, as invocations need it: routes and connections of tenants, cached until something changes.

mod http;

use std::{collections::HashMap, sync::Arc, time::Duration};

use crate::{
    data::{ConnectionUrl, Target, not_named},
    db::{
        self, Db,
        cache::{ReadAt, TenantCache},
        connections::{ConnectionKind, ConnectionRow},
        versions::{LoadMode, Version},
    },
    domain::{
        egress::AllowRule,
        endpoint::{EndpointSettings, TableSource},
        exchange::AuthMode,
        limits::Limits,
        names::{
            ConnectionId, ConnectionName, EndpointId, ScriptId, ScriptName, SecretId, TenantId, TenantName, VersionId,
        },
        preview::PreviewToken,
        quota::Usage,
        route::{MethodSet, RoutePattern, RouteTable},
        rows::RowScope,
        script::SourceFile,
        shown,
        sql::{SqlError, SqlErrorCode},
    },
    egress::HttpConnection,
    invoke::{
        InvokeError,
        meter::{Granted, Meters, today},
    },
    vault::{DataKey, Vault},
};

/// Connections and allow-lists that are remembered, at most; a miss costs a query or two.
const CACHED_MAX: u64 = 10_000;

/// What is remembered of tenants' routes, in bytes; a miss costs a few queries. An endpoint takes about a kilobyte, and the source of a
/// version that loads in each request what it is long, so this is a bound of memory where a number of tenants would be none.
const ROUTES_BYTES_MAX: u64 = 256 << 20;

/// An endpoint among remembered routes, or a tenant, or a name that is no tenant's, in bytes, roughly.
const ROUTE_BYTES: usize = 1 << 10;

/// Entries are read anew after this time, in case a change went unnoticed.
const CACHED_FOR: Duration = Duration::from_secs(60);

/// The routes of a tenant.
#[derive(Debug)]
pub struct TenantRoutes {
    /// Whose they are.
    pub tenant_id: TenantId,
    /// Its name.
    pub tenant: TenantName,
    /// Whether everybody may read the OpenAPI document of its endpoints.
    pub public_document: bool,
    /// Tells what is made of these from what is made of those after the tenant's next change.
    pub generation: u64,
    /// Its default connection, whichever scripts may use it.
    default_connection: Option<DefaultConnection>,
    /// What it may use over time, and what it uses.
    pub(super) granted: Granted,
    /// Where requests go.
    pub table: RouteTable<Arc<EndpointTarget>>,
    /// What this occupies, roughly.
    bytes: usize,
}

#[derive(Debug)]
struct DefaultConnection {
    id: ConnectionId,
    name: ConnectionName,
    /// The only scripts that may use it; all of the tenant if absent.
    readers: Option<Vec<ScriptName>>,
}

impl TenantRoutes {
    /// Lets a request in whose caller may call. A stranger must not use up the tenant's quota, so ask only then.
    ///
    /// # Errors
    /// [`InvokeError::QuotaUsedUp`] when more come in a second than the tenant is granted.
    pub fn admit(&self) -> Result<(), InvokeError> {
        self.granted.admit()
    }

    /// Counts what the tenant uses besides invocations, which count themselves: a request that was let in and is answered without a
    /// handler. Cheap: it is written later, with the invocation records.
    pub fn count(&self, usage: Usage) {
        self.granted.meter().count(usage);
    }

    /// The tenant's default connection, if this script may use it.
    #[must_use]
    pub fn default_connection(&self, script: &ScriptName) -> Option<(ConnectionId, &ConnectionName)> {
        let DefaultConnection { id, name, readers } = self.default_connection.as_ref()?;
        readers.as_ref().is_none_or(|readers| readers.contains(script)).then_some((*id, name))
    }
}

/// What an endpoint leads to.
#[derive(Debug, Clone)]
pub struct EndpointTarget {
    /// The endpoint.
    pub id: EndpointId,
    /// The methods that it answers.
    pub methods: MethodSet,
    /// The paths that it answers.
    pub route: String,
    /// Who may call it.
    pub auth: AuthMode,
    /// Whether it answers.
    pub enabled: bool,
    /// What an invocation may use.
    pub limits: Limits,
    /// Whether requests and answers are kept.
    pub record: bool,
    /// Everything else that it was told.
    pub settings: EndpointSettings,
    /// Counts its changes.
    pub revision: i64,
    /// What answers.
    pub backend: Backend,
}

/// What answers for an endpoint.
#[derive(Debug, Clone)]
pub enum Backend {
    /// A script.
    Script(Arc<ScriptTarget>),
    /// A table or a query.
    Table(TableSource),
}

/// A script, and the version of it that answers.
#[derive(Debug, Clone)]
pub struct ScriptTarget {
    /// The script.
    pub id: ScriptId,
    /// Its name.
    pub name: ScriptName,
    /// The one that the endpoint is pinned to, else the script's live one.
    pub(crate) version: Option<RunnableVersion>,
}

/// A version, ready to run.
#[derive(Debug, Clone)]
pub(crate) struct RunnableVersion {
    pub(crate) version: Version,
    /// The source, if module-level code runs in each request.
    pub(crate) files: Option<Arc<[SourceFile]>>,
}

impl RunnableVersion {
    fn source_bytes(&self) -> usize {
        self.files.iter().flat_map(|files| files.iter()).map(|file| file.name.len() + file.content.len()).sum()
    }
}

/// Caches over the control database.
#[derive(Debug)]
pub(crate) struct Directory {
    db: Db,
    vault: Arc<Vault>,
    limits: Limits,
    meters: Meters,
    routes: TenantCache<TenantName, Option<Arc<TenantRoutes>>>,
    /// By script, as connections may be restricted to some.
    targets: TenantCache<(TenantId, ScriptId, ConnectionName), Target>,
    rules: TenantCache<TenantId, Arc<[AllowRule]>>,
    /// As `targets`.
    http_connections: TenantCache<(TenantId, ScriptId, ConnectionName), Arc<HttpConnection>>,
    recording_keys: TenantCache<TenantId, DataKey>,
}

impl Directory {
    pub(super) fn new(db: Db, vault: Arc<Vault>, limits: Limits, meters: Meters) -> Self {
        let weigh = |routes: &Option<Arc<TenantRoutes>>| routes.as_ref().map_or(ROUTE_BYTES, |routes| routes.bytes);
        Self {
            routes: TenantCache::new(&db, CACHED_FOR, ROUTES_BYTES_MAX, weigh),
            targets: TenantCache::new(&db, CACHED_FOR, CACHED_MAX, |_| 1),
            rules: TenantCache::new(&db, CACHED_FOR, CACHED_MAX, |_| 1),
            http_connections: TenantCache::new(&db, CACHED_FOR, CACHED_MAX, |_| 1),
            recording_keys: TenantCache::new(&db, CACHED_FOR, CACHED_MAX, |_| 1),
            db,
            vault,
            limits,
            meters,
        }
    }

    /// What an invocation may use.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    pub(crate) async fn find_routes(&self, name: &TenantName) -> Result<Option<Arc<TenantRoutes>>, InvokeError> {
        let owner = |routes: &Option<Arc<TenantRoutes>>| routes.as_ref().map(|routes| routes.tenant_id);
        if let Some(known) = self.routes.get_of(name, owner) {
            return Ok(known);
        }
        let read_at = self.db.now();
        let routes = self.read_routes(name, read_at).await?.map(Arc::new);
        self.routes.insert(name.clone(), read_at, routes.clone());
        Ok(routes)
    }

    async fn read_routes(&self, name: &TenantName, read_at: ReadAt) -> Result<Option<TenantRoutes>, InvokeError> {
        let Some(tenant) = self.db.tenants().find_tenant(name).await? else { return Ok(None) };
        let default_connection = match tenant.default_connection {
            Some(id) => self.read_default_connection(tenant.id, id).await?,
            None => None,
        };
        let (mut table, mut bytes) = (RouteTable::default(), ROUTE_BYTES);
        // Several endpoints may lead to one version.
        let mut versions: HashMap<VersionId, Option<RunnableVersion>> = HashMap::new();
        for endpoint in self.db.endpoints().list_endpoints(tenant.id).await? {
            let (Ok(methods), Ok(pattern)) =
                (endpoint.methods.parse::<MethodSet>(), endpoint.route.parse::<RoutePattern>())
            else {
                tracing::error!(tenant.name = %name, endpoint.id = %endpoint.id, "an endpoint's stored route cannot be read");
                continue;
            };
            bytes += ROUTE_BYTES + endpoint.settings.bytes();
            let backend = match endpoint.backend {
                db::endpoints::Backend::Table(source) => Backend::Table(source),
                db::endpoints::Backend::Script { id, name, served_version, pinned_version: _ } => {
                    let version = match served_version {
                        Some(id) => match versions.get(&id) {
                            Some(known) => known.clone(),
                            None => {
                                let version = self.runnable(tenant.id, id).await?;
                                bytes += version.as_ref().map_or(0, RunnableVersion::source_bytes);
                                versions.insert(id, version.clone());
                                version
                            }
                        },
                        None => None,
                    };
                    Backend::Script(Arc::new(ScriptTarget { id, name, version }))
                }
            };
            let target = EndpointTarget {
                id: endpoint.id,
                methods,
                route: endpoint.route,
                auth: endpoint.auth,
                enabled: endpoint.enabled,
                limits: endpoint.settings.limits.within(self.limits),
                record: endpoint.record,
                settings: endpoint.settings,
                revision: endpoint.revision,
                backend,
            };
            if let Err(conflict) = table.insert(methods, pattern, Arc::new(target)) {
                tracing::error!(tenant.name = %name, %conflict, "an endpoint is not served");
            }
        }
        let fuel_used = match tenant.quotas.fuel_per_day {
            Some(_) => self.db.usage().find_fuel(tenant.id, today()).await?,
            None => 0,
        };
        Ok(Some(TenantRoutes {
            tenant_id: tenant.id,
            tenant: name.clone(),
            public_document: tenant.public_document,
            generation: self.db.generation(tenant.id, read_at),
            default_connection,
            granted: self.meters.grant(tenant.id, &tenant.quotas, fuel_used),
            table,
            bytes,
        }))
    }

    async fn read_default_connection(
        &self,
        tenant: TenantId,
        id: ConnectionId,
    ) -> Result<Option<DefaultConnection>, InvokeError> {
        let connections = self.db.connections().list_connections(tenant).await?;
        let Some(row) = connections.into_iter().find(|row| row.id == id) else { return Ok(None) };
        let readers = match row.restricted {
            true => Some(self.db.connections().list_grants(tenant).await?.remove(&id).unwrap_or_default()),
            false => None,
        };
        Ok(Some(DefaultConnection { id, name: row.name, readers }))
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
        Ok(Some(match (version, &endpoint.backend) {
            (Some(version), Backend::Script(script)) if version.version.script == script.id => {
                let script = ScriptTarget { version: Some(version), ..(**script).clone() };
                Arc::new(EndpointTarget { backend: Backend::Script(Arc::new(script)), ..(**endpoint).clone() })
            }
            (Some(_) | None, Backend::Script(_) | Backend::Table(_)) => Arc::clone(endpoint),
        }))
    }

    pub(crate) async fn runnable(
        &self,
        tenant: TenantId,
        version: VersionId,
    ) -> Result<Option<RunnableVersion>, InvokeError> {
        let found = self.db.versions().find_version(tenant, version).await?;
        let Some(version) = found.filter(|version| version.purged_at_ms.is_none()) else { return Ok(None) };
        let files = match version.loaded.mode {
            LoadMode::Image => None,
            LoadMode::PerRequest => Some(self.db.versions().list_files(tenant, version.id).await?.into()),
        };
        Ok(Some(RunnableVersion { version, files }))
    }

    /// The connection that a script names, for a caller that reaches these `rows` only, if not all.
    ///
    /// # Errors
    /// `NotAllowed` if the caller reaches nothing of it, whether it is there or not; or the tenant has none of this name that the script may use:
    /// the message names those that there are for this caller.
    pub(crate) async fn find_target(
        &self,
        tenant: TenantId,
        script: ScriptId,
        name: &str,
        rows: Option<&RowScope>,
    ) -> Result<Target, SqlError> {
        if rows.is_some_and(|rows| !rows.names(name)) {
            return Err(not_named(name));
        }
        let unknown = async || {
            let is_told = |row: &ConnectionRow| {
                row.kind == ConnectionKind::Sql && rows.is_none_or(|rows| rows.names(row.name.as_str()))
            };
            let message = self.unknown(tenant, script, name, is_told).await;
            SqlError::new(SqlErrorCode::UnknownConnection, message)
        };
        let Ok(name) = name.parse::<ConnectionName>() else { return Err(unknown().await) };
        let key = (tenant, script, name);
        if let Some(target) = self.targets.get(tenant, &key) {
            return Ok(target);
        }
        let name = &key.2;
        let read_at = self.db.now();
        let unavailable = |error: &dyn std::fmt::Display| {
            tracing::error!(tenant.id = %tenant, connection.name = %name, %error, "a connection cannot be read");
            SqlError::new(SqlErrorCode::Unavailable, format!("connection `{name}` cannot be used right now"))
        };
        let row = self.db.connections().find_connection_for(tenant, name, script).await;
        let row = row.map_err(|error| unavailable(&error))?;
        let Some(row) = row.filter(|row| row.kind == ConnectionKind::Sql) else { return Err(unknown().await) };
        let target = target_of(&self.vault, tenant, row).map_err(|error| unavailable(&error))?;
        self.targets.insert(key, read_at, target.clone());
        Ok(target)
    }

    /// The tenant's connections that a script may use.
    ///
    /// # Errors
    /// If the control database fails.
    pub(crate) async fn list_connections(
        &self,
        tenant: TenantId,
        script: ScriptId,
    ) -> Result<Vec<(ConnectionId, ConnectionName)>, SqlError> {
        let rows = self.db.connections().list_connections_for(tenant, script).await.map_err(|error| {
            tracing::error!(tenant.id = %tenant, %error, "connections cannot be listed");
            SqlError::new(SqlErrorCode::Unavailable, "connections cannot be listed right now")
        })?;
        Ok(rows.into_iter().map(|row| (row.id, row.name)).collect())
    }

    /// A sentence that names the connections that the script may use and is told of. One that it may not use looks like one that is not there.
    async fn unknown(
        &self,
        tenant: TenantId,
        script: ScriptId,
        name: &str,
        is_told: impl Fn(&ConnectionRow) -> bool,
    ) -> String {
        let known = self.db.connections().list_connections_for(tenant, script).await.unwrap_or_default();
        let known: Vec<_> = known.iter().filter(|row| is_told(row)).map(|row| format!("`{}`", row.name)).collect();
        let known =
            if known.is_empty() { "there are none".to_owned() } else { format!("there is {}", known.join(", ")) };
        format!("unknown connection `{}`: {known}", shown(name))
    }

    /// The key that seals a tenant's recordings, made when there is none.
    ///
    /// # Errors
    /// If the control database fails, or the key does not open.
    pub(crate) async fn recording_key(&self, tenant: TenantId) -> Result<DataKey, InvokeError> {
        if let Some(key) = self.recording_keys.get(tenant, &tenant) {
            return Ok(key);
        }
        let read_at = self.db.now();
        let context = recording_key_context(tenant);
        let seal = || self.vault.seal(&context, DataKey::generate().expose());
        let sealed = self.db.recordings().ensure_key(tenant, seal).await?;
        let key = self.vault.unseal(&context, &sealed).and_then(|key| DataKey::open(&key));
        let key = key.map_err(|error| InvokeError::Host(error.to_string()))?;
        self.recording_keys.insert(tenant, read_at, key.clone());
        Ok(key)
    }
}

/// What is known of a database connection, with its URL.
///
/// # Errors
/// If its URL does not open, or is none.
pub fn target_of(
    vault: &Vault,
    tenant: TenantId,
    row: ConnectionRow,
) -> Result<Target, Box<dyn std::error::Error + Send + Sync>> {
    let url = vault.unseal(&url_context(row.id), &row.sealed_url)?;
    let url = ConnectionUrl::parse(url.expose_str()?)?;
    Ok(Target { tenant, connection: row.id, revision: row.revision, name: row.name, url })
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

/// What the key of a tenant's recordings is sealed for.
#[must_use]
pub fn recording_key_context(tenant: TenantId) -> String {
    format!("recording-key:{tenant}")
}
