//! Connections: databases and HTTP APIs of a tenant. Their URLs go in and never come out.

use std::collections::BTreeMap;

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    control::{
        Control,
        access::InTenant,
        extract::{Created, Expected, InPath, InQuery, Json, Page, PageQuery, Tagged, time},
        scripts::find_script,
        secrets::{SetReaders, script_ids},
    },
    data::{self, ConnectionUrl},
    db::{
        Db,
        connections::{ConnectionKind, ConnectionRow},
    },
    domain::{
        names::{ConnectionId, ConnectionName, ScriptName, TenantId, TenantName},
        secret::Secret,
    },
    egress::HttpConnection,
    invoke::directory::url_context,
    problem::api::ApiError,
};

/// A connection without its URL.
#[derive(Serialize, ToSchema)]
pub(super) struct Connection {
    id: i64,
    #[schema(value_type = String)]
    name: ConnectionName,
    /// `sql` or `http`
    kind: String,
    /// Whether scripts mean it by `pq.DW_NAME`
    is_default: bool,
    /// The only scripts that may use it; all of the tenant when absent
    #[schema(value_type = Option<Vec<String>>)]
    scripts: Option<Vec<ScriptName>>,
    created_at: String,
}

/// Where a connection leads.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Address {
    /// `postgres://`, `mysql://`, `sqlite:FOLDER`, or `https://` of an API; may hold a password
    #[schema(format = Password)]
    url: String,
    /// Header fields that the host adds to each request of an API, for example `Authorization: Bearer ...`
    #[serde(default)]
    headers: Vec<String>,
}

/// A connection to be created. The tenant's first database is its default.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewConnection {
    #[schema(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")]
    name: ConnectionName,
    /// `postgres://`, `mysql://`, `sqlite:FOLDER`, or `https://` of an API; may hold a password
    #[schema(format = Password)]
    url: String,
    /// Header fields that the host adds to each request of an API, for example `Authorization: Bearer ...`
    #[serde(default)]
    headers: Vec<String>,
}

/// What came of connecting.
#[derive(Serialize, ToSchema)]
pub(super) struct Examination {
    is_reachable: bool,
    /// What is wrong or risky, in sentences; the database's own words, without the password
    remarks: Vec<String>,
}

type InConnection = InPath<(TenantName, ConnectionName)>;

/// List connections
#[utoipa::path(get, path = "/tenants/{tenant}/connections", tag = "connections", params(PageQuery),
    responses((status = 200, description = "Connections by name", body = Page<Connection>)))]
pub(super) async fn list_connections(
    scope: InTenant,
    InQuery(page): InQuery<PageQuery>,
) -> Result<Json<Page<Connection>>, ApiError> {
    let (limit, after) = page.bounds()?;
    let rows = scope.db.connections().list_connections_after(scope.id(), after.as_deref(), limit + 1).await?;
    let grants = scope.db.connections().list_grants(scope.id()).await?;
    Ok(Json(Page::new(rows, limit, |row| row.name.to_string(), |row| Connection::new(&scope, row, &grants))))
}

/// Create a connection; whether it can be reached is seen by testing it
///
/// The role of an owner is enough for the URL of an HTTP API. A database needs an operator's token: the host itself connects to it, from within
/// its network and with its files.
#[utoipa::path(post, path = "/tenants/{tenant}/connections", tag = "connections", request_body = NewConnection,
    responses((status = 201, description = "Created", body = Connection),
              (status = 403, description = "The URL is that of a database, and the caller no operator")))]
pub(super) async fn create_connection(
    State(control): State<Control>,
    scope: InTenant,
    Json(NewConnection { name, url, headers }): Json<NewConnection>,
) -> Result<Created<Connection>, ApiError> {
    let (kind, text) = sealable(url, &headers)?;
    expect_may_connect(&scope, kind)?;
    let seal = |id| control.vault.seal(&url_context(id), text.expose());
    let (row, is_default) = scope.db.connections().create_connection(scope.id(), &name, kind, seal).await?;
    Ok(Created(Connection { is_default, ..Connection::new(&scope, row, &BTreeMap::new()) }))
}

/// Show a connection
#[utoipa::path(get, path = "/tenants/{tenant}/connections/{connection}", tag = "connections",
    responses((status = 200, description = "The connection, with an `ETag`", body = Connection)))]
pub(super) async fn show_connection(
    scope: InTenant,
    InPath((_, name)): InConnection,
) -> Result<Tagged<Connection>, ApiError> {
    let row = find_connection(&scope.db, scope.id(), &name).await?;
    let grants = scope.db.connections().list_grants(scope.id()).await?;
    Ok(Tagged(row.revision, Connection::new(&scope, row, &grants)))
}

/// Replace where a connection leads, for example with a new password
///
/// As for `create_connection`, a database needs an operator's token. A database stays a database, and an API an API.
#[utoipa::path(put, path = "/tenants/{tenant}/connections/{connection}", tag = "connections", request_body = Address,
    params(("if-match" = Option<String>, Header, description = "`ETag` of the connection as it was read")),
    responses((status = 200, description = "Replaced", body = Connection),
              (status = 403, description = "The URL is that of a database, and the caller no operator"),
              (status = 412, description = "Somebody else changed it")))]
pub(super) async fn replace_connection(
    State(control): State<Control>,
    scope: InTenant,
    InPath((_, name)): InConnection,
    Expected(expected): Expected,
    Json(Address { url, headers }): Json<Address>,
) -> Result<Tagged<Connection>, ApiError> {
    let (kind, text) = sealable(url, &headers)?;
    expect_may_connect(&scope, kind)?;
    let row = find_connection(&scope.db, scope.id(), &name).await?;
    if row.kind != kind {
        // Scripts that use it would have to change, and the tenant's default is a database.
        let sentence =
            format!("`{name}` is of the kind `{}`, this URL of the kind `{kind}`: create another connection", row.kind);
        return Err(ApiError::Invalid(sentence));
    }
    let seal = |id| control.vault.seal(&url_context(id), text.expose());
    let row = scope.db.connections().update_connection(scope.id(), row, expected, seal).await?;
    let grants = scope.db.connections().list_grants(scope.id()).await?;
    Ok(Tagged(row.revision, Connection::new(&scope, row, &grants)))
}

/// Delete a connection; scripts that use it fail from then on
#[utoipa::path(delete, path = "/tenants/{tenant}/connections/{connection}", tag = "connections",
    params(("if-match" = Option<String>, Header, description = "`ETag` of the connection as it was read")),
    responses((status = 204, description = "Deleted"), (status = 412, description = "Somebody else changed it")))]
pub(super) async fn delete_connection(
    scope: InTenant,
    InPath((_, name)): InConnection,
    Expected(expected): Expected,
) -> Result<StatusCode, ApiError> {
    let row = find_connection(&scope.db, scope.id(), &name).await?;
    scope.db.connections().delete_connection(scope.id(), &row, expected).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Change which scripts may use a connection; running ones notice with their next statement or request
#[utoipa::path(put, path = "/tenants/{tenant}/connections/{connection}/readers", tag = "connections",
    request_body = SetReaders, responses((status = 204, description = "Changed")))]
pub(super) async fn set_connection_readers(
    scope: InTenant,
    InPath((_, name)): InConnection,
    Json(SetReaders { scripts }): Json<SetReaders>,
) -> Result<StatusCode, ApiError> {
    let row = find_connection(&scope.db, scope.id(), &name).await?;
    let ids = script_ids(&scope, scripts.as_deref().unwrap_or_default()).await?;
    scope.db.connections().set_readers(scope.id(), &row, &ids, scripts.is_some()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Let one more script use a connection that is for some scripts only
#[utoipa::path(put, path = "/tenants/{tenant}/connections/{connection}/readers/{script}", tag = "connections",
    responses((status = 204, description = "It may use the connection"),
              (status = 409, description = "All scripts of the tenant may use it")))]
pub(super) async fn add_connection_reader(
    scope: InTenant,
    InPath((_, name, script)): InPath<(TenantName, ConnectionName, ScriptName)>,
) -> Result<StatusCode, ApiError> {
    let row = find_connection(&scope.db, scope.id(), &name).await?;
    let script = find_script(&scope.db, scope.id(), &script).await?;
    scope.db.connections().add_reader(scope.id(), &row, script.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Let a script use a connection no longer that is for some scripts only
#[utoipa::path(delete, path = "/tenants/{tenant}/connections/{connection}/readers/{script}", tag = "connections",
    responses((status = 204, description = "It may not use the connection"),
              (status = 409, description = "All scripts of the tenant may use it")))]
pub(super) async fn remove_connection_reader(
    scope: InTenant,
    InPath((_, name, script)): InPath<(TenantName, ConnectionName, ScriptName)>,
) -> Result<StatusCode, ApiError> {
    let row = find_connection(&scope.db, scope.id(), &name).await?;
    let script = find_script(&scope.db, scope.id(), &script).await?;
    scope.db.connections().remove_reader(scope.id(), &row, script.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Try to connect to a database
#[utoipa::path(post, path = "/tenants/{tenant}/connections/{connection}/test", tag = "connections",
    responses((status = 200, description = "What came of it", body = Examination)))]
pub(super) async fn test_connection(
    State(control): State<Control>,
    scope: InTenant,
    InPath((_, name)): InConnection,
) -> Result<Json<Examination>, ApiError> {
    let row = find_connection(&scope.db, scope.id(), &name).await?;
    if row.kind != ConnectionKind::Sql {
        return Err(ApiError::Invalid(format!("`{name}` is an HTTP API: call it from a script to test it")));
    }
    let url = control.vault.unseal(&url_context(row.id), &row.sealed_url)?;
    let url = url.expose_str().map_err(|error| ApiError::Host(error.to_string()))?;
    let url = ConnectionUrl::parse(url).map_err(|error| ApiError::Host(error.to_string()))?;
    let data::Examination { is_reachable, remarks } = data::examine(&url, &control.data.sqlite()).await;
    Ok(Json(Examination { is_reachable, remarks }))
}

pub(super) async fn find_connection(
    db: &Db,
    tenant: TenantId,
    name: &ConnectionName,
) -> Result<ConnectionRow, ApiError> {
    let row = db.connections().find_connection(tenant, name).await?;
    row.ok_or_else(|| ApiError::Unknown { what: "connection", name: name.to_string() })
}

/// The host itself connects to databases, from within its network and with its file system: an operator says to which.
fn expect_may_connect(scope: &InTenant, kind: ConnectionKind) -> Result<(), ApiError> {
    match kind {
        ConnectionKind::Http => Ok(()), // each request's address is checked
        ConnectionKind::Sql if scope.principal.is_operator() => Ok(()),
        ConnectionKind::Sql => Err(ApiError::Forbidden { needs: "operator, for a database" }),
    }
}

/// What is sealed of an address.
fn sealable(url: String, headers: &[String]) -> Result<(ConnectionKind, Secret), ApiError> {
    let invalid = |error: &dyn std::fmt::Display| ApiError::Invalid(error.to_string());
    if HttpConnection::is_http(&url) {
        let connection =
            HttpConnection::new(&url, headers.iter().map(String::as_str)).map_err(|error| invalid(&error))?;
        return Ok((ConnectionKind::Http, Secret::from(connection.to_sealed_text().to_string())));
    }
    if !headers.is_empty() {
        return Err(invalid(&"`headers` go with a connection whose URL is https:// or http://"));
    }
    ConnectionUrl::parse(&url).map_err(|error| invalid(&error))?;
    Ok((ConnectionKind::Sql, Secret::from(url)))
}

impl Connection {
    fn new(scope: &InTenant, row: ConnectionRow, grants: &BTreeMap<ConnectionId, Vec<ScriptName>>) -> Self {
        let ConnectionRow { id, name, kind, revision: _, sealed_url: _, restricted, created_at_ms } = row;
        let is_default = scope.tenant.default_connection == Some(id);
        let scripts = restricted.then(|| grants.get(&id).cloned().unwrap_or_default());
        Self { id: id.0, name, kind: kind.to_string(), is_default, scripts, created_at: time(created_at_ms) }
    }
}
