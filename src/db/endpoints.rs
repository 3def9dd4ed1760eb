//! Endpoints: which script answers which requests.

use sqlx::FromRow;

use crate::{
    db::{
        Db, DbError,
        error::{Unique, is_missing_reference},
        now_ms,
    },
    domain::{
        exchange::AuthMode,
        names::{EndpointId, ScriptId, ScriptName, TenantId, VersionId},
    },
};

const ROUTE_TAKEN: Unique =
    Unique { name: "endpoint_route_taken", columns: "endpoint.tenant_id, endpoint.route, endpoint.methods" };

/// An endpoint to be created.
#[derive(Debug, Clone)]
pub struct NewEndpoint {
    /// Upper case, separated by commas, or `ANY`.
    pub methods: String,
    /// The route, which the caller has checked.
    pub route: String,
    /// The script that answers.
    pub script: ScriptId,
    /// Who may call it.
    pub auth: AuthMode,
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
    /// That script's newest version, once one is published.
    pub latest_version: Option<VersionId>,
}

#[derive(FromRow)]
struct Row {
    id: i64,
    methods: String,
    route: String,
    script_id: i64,
    script_name: String,
    auth: String,
    latest_version: Option<i64>,
}

/// Statements about endpoints.
#[derive(Debug, Clone, Copy)]
pub struct Endpoints<'a>(pub(super) &'a Db);

impl Endpoints<'_> {
    /// Creates an endpoint.
    ///
    /// # Errors
    /// [`DbError::RouteTaken`] when an endpoint with the same route text shares a method, [`DbError::Unknown`] when the
    /// tenant has no such script, or the database fails.
    pub async fn create_endpoint(self, tenant: TenantId, new: NewEndpoint) -> Result<EndpointId, DbError> {
        let NewEndpoint { methods, route, script, auth } = new;
        let mut tx = self.0.begin_change().await?;
        let existing: Vec<String> =
            sqlx::query_scalar("SELECT methods FROM endpoint WHERE tenant_id = $1 AND route = $2")
                .bind(tenant.0)
                .bind(&route)
                .fetch_all(&mut *tx)
                .await?;
        if let Some(methods) = existing.into_iter().find(|existing| overlap(existing, &methods)) {
            return Err(DbError::RouteTaken { route, methods });
        }
        let id = sqlx::query_scalar(
            "INSERT INTO endpoint (tenant_id, methods, route, script_id, auth, created_at_ms)
             VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
        )
        .bind(tenant.0)
        .bind(&methods)
        .bind(&route)
        .bind(script.0)
        .bind(auth.to_string())
        .bind(now_ms())
        .fetch_one(&mut *tx)
        .await
        .map_err(|error| {
            if ROUTE_TAKEN.is_violated(&error) {
                DbError::RouteTaken { route, methods }
            } else if is_missing_reference(&error) {
                DbError::Unknown { what: "script", id: script.0 }
            } else {
                error.into()
            }
        })?;
        tx.commit().await?;
        Ok(EndpointId(id))
    }

    /// The tenant's endpoints by route.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list_endpoints(self, tenant: TenantId) -> Result<Vec<Endpoint>, DbError> {
        sqlx::query_as::<_, Row>(
            "SELECT e.id, e.methods, e.route, e.script_id, s.name AS script_name, e.auth,
                    (SELECT v.id FROM version v WHERE v.script_id = e.script_id ORDER BY v.number DESC LIMIT 1)
                        AS latest_version
             FROM endpoint e JOIN script s ON s.id = e.script_id AND s.tenant_id = e.tenant_id
             WHERE e.tenant_id = $1 ORDER BY e.route, e.methods",
        )
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
            latest_version: row.latest_version.map(VersionId),
        })
    }
}

/// Whether two lists of methods share one.
fn overlap(one: &str, other: &str) -> bool {
    let methods = |list: &str| list.split(',').map(|method| method.trim().to_ascii_uppercase()).collect::<Vec<_>>();
    let (one, other) = (methods(one), methods(other));
    let any = |list: &[String]| list.iter().any(|method| method == "ANY");
    any(&one) || any(&other) || one.iter().any(|method| other.contains(method))
}

#[cfg(test)]
mod tests {
    use super::overlap;

    #[test]
    fn methods_overlap_when_they_share_one() {
        for (one, other, expected) in [
            ("GET", "GET", true),
            ("GET", "POST", false),
            ("GET,POST", "PUT, post", true),
            ("ANY", "DELETE", true),
            ("PATCH", "ANY", true),
        ] {
            assert_eq!(overlap(one, other), expected, "{one} / {other}");
        }
    }
}
