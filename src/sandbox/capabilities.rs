//! What a running script may ask of its host.
//!
//! Owns: the trait that `invoke` implements, and its types. Never: decides what a tenant is granted.

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::domain::{
    http::{HttpError, HttpRequest, HttpResponse},
    names::{ConnectionId, ScriptId, ScriptName, TenantName},
    sql::{Column, Select, SqlError},
};

/// An open result set; valid during one invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CursorId(pub u32);

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
pub trait Capabilities: SqlAccess + HttpAccess + Send {
    /// Facts about the script.
    fn describe(&self) -> ScriptInfo;
}

/// The tenant's databases.
pub trait SqlAccess {
    /// Starts a statement on the tenant's connection of this name.
    fn fetch<'a>(&'a mut self, connection: &'a str, select: Select) -> BoxFuture<'a, Result<OpenedCursor, SqlError>>;

    /// The next rows as a JSON array; `None` after the last. An unknown cursor has no rows.
    fn next(&mut self, cursor: CursorId) -> BoxFuture<'_, Result<Option<Bytes>, SqlError>>;

    /// Gives a cursor up; unknown ones are ignored.
    fn close(&mut self, cursor: CursorId);
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
