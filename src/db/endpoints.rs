//! Endpoints: which script answers which requests.

use std::fmt;

use sqlx::FromRow;

use crate::{
    db::{Db, DbError, error::is_missing_reference, now_ms},
    domain::{
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
    /// The script that answers.
    pub script: ScriptId,
    /// The version that answers, if not the script's live one.
    pub pinned_version: Option<VersionId>,
    /// Who may call it.
    pub auth: AuthMode,
    /// Whether its requests and answers are kept.
    pub record: bool,
}

/// An endpoint of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Upper case, separated by commas, or `ANY`.
    pub methods: String,
    /// The route.
    pub route: String,
    /// The script that answers.
    pub script: ScriptId,
    /// That script's name.
    pub script_name: ScriptName,
    /// Who may call it.
    pub auth: AuthMode,
    /// Whether its requests and answers are kept.
    pub record: bool,
    /// The version that answers: the pinned one, else the script's live one, once there is one.
    pub served_version: Option<VersionId>,
    /// Number of the version that it is pinned to.
    pub pinned_version: Option<i64>,
    /// Counts changes, from 1.
    pub revision: i64,
    /// When it was created, in milliseconds since 1970.
    pub created_at_ms: i64,
}

/// Selects endpoints as [`Row`]s.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT e.id, e.methods, e.route, e.script_id, s.name AS script_name, e.auth,
         COALESCE(e.version_id, s.live_version_id) AS served_version, p.number AS pinned_version,
         e.record, e.revision, e.created_at_ms
         FROM endpoint e JOIN script s ON s.id = e.script_id AND s.tenant_id = e.tenant_id
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
    script_id: i64,
    script_name: String,
    auth: String,
    served_version: Option<i64>,
    pinned_version: Option<i64>,
    record: i64,
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
        let mut tx = self.0.begin_derived_change().await?;
        expect_free_route(&mut tx, tenant, None, new).await?;
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO endpoint (tenant_id, methods, route, script_id, auth, version_id, record, created_at_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id",
        )
        .bind(tenant.0)
        .bind(new.methods.to_string())
        .bind(new.route.to_string())
        .bind(new.script.0)
        .bind(new.auth.to_string())
        .bind(new.pinned_version.map(|version| version.0))
        .bind(i64::from(new.record))
        .bind(now_ms())
        .fetch_one(&mut *tx)
        .await
        .map_err(|error| missing_script(error, new.script))?;
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
        let mut tx = self.0.begin_derived_change().await?;
        let before = expect_endpoint(&mut tx, tenant, endpoint).await?;
        if expected.is_some_and(|expected| expected != before.revision) {
            return Err(DbError::Stale);
        }
        expect_free_route(&mut tx, tenant, Some(endpoint), new).await?;
        sqlx::query(
            "UPDATE endpoint SET methods = $3, route = $4, script_id = $5, auth = $6, version_id = $7,
                    record = $8, revision = revision + 1
             WHERE tenant_id = $1 AND id = $2",
        )
        .bind(tenant.0)
        .bind(endpoint.0)
        .bind(new.methods.to_string())
        .bind(new.route.to_string())
        .bind(new.script.0)
        .bind(new.auth.to_string())
        .bind(new.pinned_version.map(|version| version.0))
        .bind(i64::from(new.record))
        .execute(&mut *tx)
        .await
        .map_err(|error| missing_script(error, new.script))?;
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
        let mut tx = self.0.begin_derived_change().await?;
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
        Ok(Self {
            id: EndpointId(row.id),
            methods: row.methods,
            route: row.route,
            script: ScriptId(row.script_id),
            script_name: row.script_name.try_into().map_err(|error| DbError::corrupt("script name", error))?,
            auth: row.auth.parse().map_err(|error| DbError::corrupt("endpoint", error))?,
            record: row.record != 0,
            served_version: row.served_version.map(VersionId),
            pinned_version: row.pinned_version,
            revision: row.revision,
            created_at_ms: row.created_at_ms,
        })
    }
}

/// As the audit log names it: with all that can be changed.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { methods, route, script_name, auth, pinned_version, record, .. } = self;
        write!(f, "{methods} {route} to {script_name}")?;
        if let Some(number) = pinned_version {
            write!(f, " version {number}")?;
        }
        write!(f, " ({auth}{})", if *record { ", recorded" } else { "" })
    }
}

/// The endpoint as the transaction sees it.
async fn expect_endpoint(tx: &mut crate::db::Tx, tenant: TenantId, endpoint: EndpointId) -> Result<Endpoint, DbError> {
    let row = sqlx::query_as::<_, Row>(ONE).bind(tenant.0).bind(endpoint.0).fetch_optional(&mut **tx).await?;
    row.ok_or(DbError::Unknown { what: "endpoint", id: endpoint.0 })?.try_into()
}

fn missing_script(error: sqlx::Error, script: ScriptId) -> DbError {
    match is_missing_reference(&error) {
        true => DbError::Unknown { what: "script", id: script.0 },
        false => error.into(),
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
