//! What a running script may ask of its host.
//!
//! Owns: the trait that `invoke` implements, and its types. Never: decides what a tenant is granted.

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::domain::{
    http::{HttpError, HttpRequest, HttpResponse},
    names::{ConnectionId, ConnectionName, ScriptId, ScriptName, TenantName},
    secret::{Secret, SecretError},
    sql::{Change, Column, NewTable, RowFormat, Select, SqlError, TableColumn, TableName, TableWrite},
    state::{StateEntry, StateError},
};

/// An open result set; valid during one invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CursorId(pub u32);

/// An open transaction; valid during one invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransactionId(pub u32);

/// Where a statement runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Name of one of the tenant's connections.
    pub connection: String,
    /// A transaction of this connection.
    pub transaction: Option<TransactionId>,
}

/// One of the tenant's connections and what is behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseInfo {
    /// The connection.
    pub id: ConnectionId,
    /// Its name.
    pub name: ConnectionName,
    /// Whether it is the tenant's default.
    pub is_default: bool,
    /// What kind of database it is; empty when the connection cannot be used.
    pub dialect: &'static str,
    /// Schemas with the names of their tables, or why they are not known.
    pub schemas: Result<Vec<(String, Vec<String>)>, SqlError>,
}

/// A statement that has started.
#[derive(Debug)]
pub struct OpenedCursor {
    /// To ask for its rows.
    pub cursor: CursorId,
    /// Its columns, in order.
    pub columns: Vec<Column>,
}

/// Facts about the running script.
#[derive(Debug, Clone)]
pub struct ScriptInfo {
    /// Whose script it is.
    pub tenant: TenantName,
    /// Its id.
    pub script_id: ScriptId,
    /// Its name.
    pub script_name: ScriptName,
    /// The tenant's default connection.
    pub default_connection: Option<(ConnectionId, String)>,
}

/// Given to each invocation; everything a script can reach outside of its sandbox is behind this.
///
/// Calls are made one at a time. Dropping a returned future must be safe: the invocation was cancelled.
pub trait Capabilities: SqlAccess + StateAccess + SecretAccess + HttpAccess + TenantMetadata + Send {
    /// Facts about the script.
    fn describe(&self) -> ScriptInfo;
}

/// The tenant's databases.
pub trait SqlAccess {
    /// Starts a statement.
    fn fetch(&mut self, place: Place, select: Select) -> BoxFuture<'_, Result<OpenedCursor, SqlError>>;

    /// The next rows as a list in this format; `None` after the last. An unknown cursor has no rows.
    fn next(&mut self, cursor: CursorId, format: RowFormat) -> BoxFuture<'_, Result<Option<Bytes>, SqlError>>;

    /// Gives a cursor up; unknown ones are ignored.
    fn close(&mut self, cursor: CursorId);

    /// Changes rows; gives them as a list in this format.
    fn change(&mut self, place: Place, change: Change, format: RowFormat) -> BoxFuture<'_, Result<Vec<u8>, SqlError>>;

    /// Keeps records in a table that is made to fit; gives their number.
    fn write(&mut self, place: Place, write: TableWrite) -> BoxFuture<'_, Result<u64, SqlError>>;

    /// Creates a schema, unless it is there.
    fn create_schema(&mut self, place: Place, database: String, schema: String) -> BoxFuture<'_, Result<(), SqlError>>;

    /// Creates a table.
    fn create_table(&mut self, place: Place, new: NewTable) -> BoxFuture<'_, Result<(), SqlError>>;

    /// The columns of a table, in order.
    fn describe_table(&mut self, place: Place, name: TableName) -> BoxFuture<'_, Result<Vec<TableColumn>, SqlError>>;

    /// The tenant's connections and what is behind them; only that of a name, if one is given.
    fn list_databases(&mut self, connection: Option<String>) -> BoxFuture<'_, Result<Vec<DatabaseInfo>, SqlError>>;

    /// Begins a transaction.
    fn begin(&mut self, connection: String) -> BoxFuture<'_, Result<TransactionId, SqlError>>;

    /// Keeps what a transaction has changed.
    fn commit(&mut self, transaction: TransactionId) -> BoxFuture<'_, Result<(), SqlError>>;

    /// Undoes what a transaction has changed; unknown ones are ignored.
    fn rollback(&mut self, transaction: TransactionId) -> BoxFuture<'_, ()>;
}

/// What scripts of the tenant remember between requests. Without an id, the running script is meant.
pub trait StateAccess {
    /// The state of a script of the tenant.
    fn get_state(&mut self, script: Option<ScriptId>) -> BoxFuture<'_, Result<StateEntry, StateError>>;

    /// Replaces the state of a script of the tenant. `value` is at most
    /// [`STATE_BYTES_MAX`](crate::domain::state::STATE_BYTES_MAX) long.
    fn set_state(&mut self, script: Option<ScriptId>, value: Option<String>) -> BoxFuture<'_, Result<(), StateError>>;

    /// Replaces the running script's state if it is at `revision`; otherwise returns what is there now.
    fn compare_and_set_state(
        &mut self,
        revision: i64,
        value: Option<String>,
    ) -> BoxFuture<'_, Result<Option<StateEntry>, StateError>>;
}

/// Secrets that the script may read.
pub trait SecretAccess {
    /// The value of a secret.
    fn get_secret(&mut self, name: String) -> BoxFuture<'_, Result<Secret, SecretError>>;
}

/// A connection, told to scripts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Its id.
    pub id: ConnectionId,
    /// Its name.
    pub name: ConnectionName,
    /// Whether it is the tenant's default.
    pub is_default: bool,
}

/// A script of the tenant, told to its scripts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptSummary {
    /// Its id.
    pub id: ScriptId,
    /// Its name.
    pub name: ScriptName,
    /// Number of its newest version, if one is published.
    pub version: Option<i64>,
}

/// The list cannot be read; the text is for the script's author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MetadataError(pub String);

/// What the tenant has.
pub trait TenantMetadata {
    /// Its connections by name.
    fn list_connections(&mut self) -> BoxFuture<'_, Result<Vec<ConnectionInfo>, MetadataError>>;

    /// Its scripts by name.
    fn list_scripts(&mut self) -> BoxFuture<'_, Result<Vec<ScriptSummary>, MetadataError>>;
}

/// HTTP servers that the tenant may call.
pub trait HttpAccess {
    /// Sends a request to a host of the tenant's allow-list.
    fn send(&mut self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpError>>;

    /// Sends a request to the tenant's HTTP connection of this name; its URL is relative to the connection's.
    fn call<'a>(
        &'a mut self,
        connection: &'a str,
        request: HttpRequest,
    ) -> BoxFuture<'a, Result<HttpResponse, HttpError>>;
}
