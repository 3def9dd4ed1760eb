//! Endpoints: which script, table or query answers which requests.

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};
use sqlx::FromRow;

use crate::{
    db::{Db, DbError, error::is_missing_reference, now_ms},
    domain::{
        endpoint::{EndpointSettings, TableSource},
        exchange::AuthMode,
        names::{EndpointId, ScriptId, ScriptName, TenantId, VersionId},
        route::{MethodSet, RoutePattern, RouteTable},
    },
};

/// What an endpoint is to be.
#[derive(Debug, Clone)]
pub struct NewEndpoint {
    /// The methods that it answers.
    pub methods: MethodSet,
    /// The paths that it answers.
    pub route: RoutePattern,
    /// What answers.
    pub backend: NewBackend,
    /// Who may call it.
    pub auth: AuthMode,
    /// Whether its requests and answers are kept.
    pub record: bool,
    /// Whether it answers.
    pub enabled: bool,
    /// Everything else.
    pub settings: EndpointSettings,
}

/// What is to answer for an endpoint.
#[derive(Debug, Clone)]
pub enum NewBackend {
    /// A script.
    Script {
        /// The script.
        script: ScriptId,
        /// The version that answers, if not the script's live one.
        pinned_version: Option<VersionId>,
    },
    /// A table or a query.
    Table(TableSource),
}

impl NewEndpoint {
    /// An endpoint that a script's live version answers, with nothing set.
    #[must_use]
    pub fn to_script(methods: MethodSet, route: RoutePattern, script: ScriptId, auth: AuthMode) -> Self {
        let backend = NewBackend::Script { script, pinned_version: None };
        Self { methods, route, backend, auth, record: false, enabled: true, settings: EndpointSettings::default() }
    }
}

/// An endpoint of a tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Upper case, separated by commas, or `ANY`.
    pub methods: String,
    /// The route.
    pub route: String,
    /// What answers.
    pub backend: Backend,
    /// Who may call it.
    pub auth: AuthMode,
    /// Whether its requests and answers are kept.
    pub record: bool,
    /// Whether it answers.
    pub enabled: bool,
    /// Everything else.
    pub settings: EndpointSettings,
    /// Counts changes, from 1.
    pub revision: i64,
    /// When it was created, in milliseconds since 1970.
    pub created_at_ms: i64,
}

/// What answers for an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// A script.
    Script {
        /// The script.
        id: ScriptId,
        /// Its name.
        name: ScriptName,
        /// The version that answers: the pinned one, else the script's live one, once there is one.
        served_version: Option<VersionId>,
        /// Number of the version that it is pinned to.
        pinned_version: Option<i64>,
    },
    /// A table or a query.
    Table(TableSource),
}

impl Endpoint {
    /// Name of the script that answers, if one does.
    #[must_use]
    pub fn script_name(&self) -> Option<&ScriptName> {
        match &self.backend {
            Backend::Script { name, .. } => Some(name),
            Backend::Table(_) => None,
        }
    }
}

/// Selects endpoints as [`Row`]s.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT e.id, e.methods, e.route, e.script_id, s.name AS script_name, e.auth,
         COALESCE(e.version_id, s.live_version_id) AS served_version, p.number AS pinned_version,
         e.record, e.source, e.enabled, e.settings, e.revision, e.created_at_ms
         FROM endpoint e LEFT JOIN script s ON s.id = e.script_id AND s.tenant_id = e.tenant_id
         LEFT JOIN version p ON p.tenant_id = e.tenant_id AND p.id = e.version_id ",
            $rest
        )
    };
}

const ONE: &str = select!("WHERE e.tenant_id = $1 AND e.id = $2");

#[derive(FromRow)]
struct Row {
    id: i64,
    methods: String,
    route: String,
    script_id: Option<i64>,
    script_name: Option<String>,
    auth: String,
    served_version: Option<i64>,
    pinned_version: Option<i64>,
    record: i64,
    source: Option<String>,
    enabled: i64,
    settings: String,
    revision: i64,
    created_at_ms: i64,
}

/// Statements about endpoints.
#[derive(Debug, Clone, Copy)]
pub struct Endpoints<'a>(pub(super) &'a Db);

impl Endpoints<'_> {
    /// Creates an endpoint.
    ///
    /// # Errors
    /// [`DbError::RouteTaken`] when an endpoint answers the same requests, [`DbError::Unknown`] when the tenant has no such
    /// script, or the database fails.
    pub async fn create_endpoint(self, tenant: TenantId, new: &NewEndpoint) -> Result<Endpoint, DbError> {
        let mut tx = self.0.begin_derived_change(tenant).await?;
        expect_free_route(&mut tx, tenant, None, new).await?;
        let BackendColumns { script, version, source } = new.backend.columns()?;
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO endpoint (tenant_id, methods, route, script_id, auth, version_id, record, source, enabled, settings, created_at_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING id",
        )
        .bind(tenant.0)
        .bind(new.methods.to_string())
        .bind(new.route.to_string())
        .bind(script)
        .bind(new.auth.to_string())
        .bind(version)
        .bind(i64::from(new.record))
        .bind(source)
        .bind(i64::from(new.enabled))
        .bind(to_json(&new.settings)?)
        .bind(now_ms())
        .fetch_one(&mut *tx)
        .await
        .map_err(|error| missing_script(error, &new.backend))?;
        let created = expect_endpoint(&mut tx, tenant, EndpointId(id)).await?;
        self.0.note_change(&mut tx, tenant, "create_endpoint", &created.to_string()).await?;
        tx.commit().await?;
        Ok(created)
    }

    /// Replaces what an endpoint is, if it is still at revision `expected` (`None` for any). Gives what it is now.
    ///
    /// # Errors
    /// [`DbError::Stale`] when it is not, [`DbError::Unknown`] when the tenant has no such endpoint or script,
    /// [`DbError::RouteTaken`], or the database fails.
    pub async fn update_endpoint(
        self,
        tenant: TenantId,
        endpoint: EndpointId,
        new: &NewEndpoint,
        expected: Option<i64>,
    ) -> Result<Endpoint, DbError> {
        let mut tx = self.0.begin_derived_change(tenant).await?;
        let before = expect_endpoint(&mut tx, tenant, endpoint).await?;
        if expected.is_some_and(|expected| expected != before.revision) {
            return Err(DbError::Stale);
        }
        expect_free_route(&mut tx, tenant, Some(endpoint), new).await?;
        let BackendColumns { script, version, source } = new.backend.columns()?;
        sqlx::query(
            "UPDATE endpoint SET methods = $3, route = $4, script_id = $5, auth = $6, version_id = $7,
                    record = $8, source = $9, enabled = $10, settings = $11, revision = revision + 1
             WHERE tenant_id = $1 AND id = $2",
        )
        .bind(tenant.0)
        .bind(endpoint.0)
        .bind(new.methods.to_string())
        .bind(new.route.to_string())
        .bind(script)
        .bind(new.auth.to_string())
        .bind(version)
        .bind(i64::from(new.record))
        .bind(source)
        .bind(i64::from(new.enabled))
        .bind(to_json(&new.settings)?)
        .execute(&mut *tx)
        .await
        .map_err(|error| missing_script(error, &new.backend))?;
        let after = expect_endpoint(&mut tx, tenant, endpoint).await?;
        self.0.note_change(&mut tx, tenant, "update_endpoint", &format!("{before}, now {after}")).await?;
        tx.commit().await?;
        Ok(after)
    }

    /// Deletes an endpoint, if it is still at revision `expected` (`None` for any).
    ///
    /// # Errors
    /// [`DbError::Stale`] when it is not, [`DbError::Unknown`] when the tenant has none of this id, or the database fails.
    pub async fn delete_endpoint(
        self,
        tenant: TenantId,
        endpoint: EndpointId,
        expected: Option<i64>,
    ) -> Result<(), DbError> {
        let mut tx = self.0.begin_derived_change(tenant).await?;
        let before = expect_endpoint(&mut tx, tenant, endpoint).await?;
        if expected.is_some_and(|expected| expected != before.revision) {
            return Err(DbError::Stale);
        }
        sqlx::query("DELETE FROM endpoint WHERE tenant_id = $1 AND id = $2")
            .bind(tenant.0)
            .bind(endpoint.0)
            .execute(&mut *tx)
            .await?;
        self.0.note_change(&mut tx, tenant, "delete_endpoint", &before.to_string()).await?;
        tx.commit().await?;
        Ok(())
    }

    /// The tenant's endpoint of this id.
    ///
    /// # Errors
    /// The database fails.
    pub async fn find_endpoint(self, tenant: TenantId, endpoint: EndpointId) -> Result<Option<Endpoint>, DbError> {
        sqlx::query_as::<_, Row>(ONE)
            .bind(tenant.0)
            .bind(endpoint.0)
            .fetch_optional(&self.0.readers)
            .await?
            .map(Endpoint::try_from)
            .transpose()
    }

    /// The tenant's endpoints by id, those behind `after` if given.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list_endpoints_after(
        self,
        tenant: TenantId,
        after: Option<EndpointId>,
        limit: u32,
    ) -> Result<Vec<Endpoint>, DbError> {
        sqlx::query_as::<_, Row>(select!("WHERE e.tenant_id = $1 AND e.id > $2 ORDER BY e.id LIMIT $3"))
            .bind(tenant.0)
            .bind(after.map_or(0, |endpoint| endpoint.0))
            .bind(i64::from(limit))
            .fetch_all(&self.0.readers)
            .await?
            .into_iter()
            .map(Endpoint::try_from)
            .collect()
    }

    /// The tenant's endpoints by route.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list_endpoints(self, tenant: TenantId) -> Result<Vec<Endpoint>, DbError> {
        sqlx::query_as::<_, Row>(select!("WHERE e.tenant_id = $1 ORDER BY e.route, e.methods"))
            .bind(tenant.0)
            .fetch_all(&self.0.readers)
            .await?
            .into_iter()
            .map(Endpoint::try_from)
            .collect()
    }
}

impl TryFrom<Row> for Endpoint {
    type Error = DbError;

    fn try_from(row: Row) -> Result<Self, DbError> {
        let backend = match (row.script_id, row.script_name, row.source) {
            (Some(id), Some(name), None) => Backend::Script {
                id: ScriptId(id),
                name: name.try_into().map_err(|error| DbError::corrupt("script name", error))?,
                served_version: row.served_version.map(VersionId),
                pinned_version: row.pinned_version,
            },
            (_, _, Some(source)) => Backend::Table(from_json(&source)?),
            (_, _, None) => return Err(DbError::corrupt("endpoint", "nothing answers")),
        };
        Ok(Self {
            id: EndpointId(row.id),
            methods: row.methods,
            route: row.route,
            backend,
            auth: row.auth.parse().map_err(|error| DbError::corrupt("endpoint", error))?,
            record: row.record != 0,
            enabled: row.enabled != 0,
            settings: from_json(&row.settings)?,
            revision: row.revision,
            created_at_ms: row.created_at_ms,
        })
    }
}

/// As the audit log names it: with all that can be changed.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { methods, route, backend, auth, record, enabled, settings, .. } = self;
        write!(f, "{methods} {route} to ")?;
        match backend {
            Backend::Script { name, pinned_version: None, .. } => write!(f, "{name}")?,
            Backend::Script { name, pinned_version: Some(number), .. } => write!(f, "{name} version {number}")?,
            Backend::Table(source) => f.write_str(&to_json(source).map_err(|_| fmt::Error)?)?,
        }
        write!(f, " ({auth}{}{})", if *record { ", recorded" } else { "" }, if *enabled { "" } else { ", disabled" })?;
        match *settings == EndpointSettings::default() {
            true => Ok(()),
            false => write!(f, " {}", to_json(settings).map_err(|_| fmt::Error)?),
        }
    }
}

/// Columns that say what answers.
struct BackendColumns {
    script: Option<i64>,
    version: Option<i64>,
    source: Option<String>,
}

impl NewBackend {
    fn columns(&self) -> Result<BackendColumns, DbError> {
        Ok(match self {
            Self::Script { script, pinned_version } => BackendColumns {
                script: Some(script.0),
                version: pinned_version.map(|version| version.0),
                source: None,
            },
            Self::Table(source) => BackendColumns { script: None, version: None, source: Some(to_json(source)?) },
        })
    }
}

fn to_json(value: &impl Serialize) -> Result<String, DbError> {
    serde_json::to_string(value).map_err(|error| DbError::corrupt("endpoint", error))
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, DbError> {
    serde_json::from_str(text).map_err(|error| DbError::corrupt("endpoint", error))
}

/// The endpoint as the transaction sees it.
async fn expect_endpoint(tx: &mut crate::db::Tx, tenant: TenantId, endpoint: EndpointId) -> Result<Endpoint, DbError> {
    let row = sqlx::query_as::<_, Row>(ONE).bind(tenant.0).bind(endpoint.0).fetch_optional(&mut **tx).await?;
    row.ok_or(DbError::Unknown { what: "endpoint", id: endpoint.0 })?.try_into()
}

fn missing_script(error: sqlx::Error, backend: &NewBackend) -> DbError {
    match backend {
        NewBackend::Script { script, .. } if is_missing_reference(&error) => {
            DbError::Unknown { what: "script", id: script.0 }
        }
        NewBackend::Script { .. } | NewBackend::Table(_) => error.into(),
    }
}

/// Refuses a route that answers the same requests as another endpoint of the tenant than `except`.
async fn expect_free_route(
    tx: &mut crate::db::Tx,
    tenant: TenantId,
    except: Option<EndpointId>,
    new: &NewEndpoint,
) -> Result<(), DbError> {
    let others: Vec<(String, String)> =
        sqlx::query_as("SELECT methods, route FROM endpoint WHERE tenant_id = $1 AND id <> $2")
            .bind(tenant.0)
            .bind(except.map_or(0, |endpoint| endpoint.0)) // no endpoint has the id 0
            .fetch_all(&mut **tx)
            .await?;
    let mut table = RouteTable::default();
    for (methods, route) in others {
        let methods = methods.parse().map_err(|error| DbError::corrupt("endpoint", error))?;
        let route = route.parse().map_err(|error| DbError::corrupt("endpoint", error))?;
        _ = table.insert(methods, route, ()); // those that are there may be as they are
    }
    table.insert(new.methods, new.route.clone(), ()).map_err(DbError::RouteTaken)
}
