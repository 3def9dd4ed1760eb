//! One tenant's database, as statements are run on it.
//!
//! Owns: where a statement runs, in a session of the pool or in a transaction. Never: writes SQL.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use tokio::{runtime::Handle, sync::oneshot};

use crate::{
    data::{
        cursor::{self, Cursor},
        dialect::{Dialect, check_database},
        read::{
            catalog::{Catalog, TableCache},
            scope::Scope,
        },
        run::AnyDriver,
        statement::Statement,
        transaction::{self, Author, Transaction},
    },
    domain::{
        limits::SqlLimits,
        names::ConnectionName,
        sql::{RowFormat, SqlError, SqlErrorCode},
    },
};

/// A tenant's database, and how statements run on it. Cheap to make; it holds no connection.
#[derive(Debug)]
pub struct Database {
    pool: Arc<dyn AnyDriver>,
    tables: Arc<TableCache>,
    runtime: Handle,
    name: ConnectionName,
    limits: SqlLimits,
    transaction: Option<Transaction>,
    scope: Scope,
}

impl Database {
    /// For statements that may reach everything; see [`scoped`](Self::scoped).
    pub(super) fn new(
        pool: Arc<dyn AnyDriver>,
        tables: Arc<TableCache>,
        runtime: Handle,
        name: ConnectionName,
        limits: SqlLimits,
    ) -> Self {
        Self { pool, tables, runtime, name, limits, transaction: None, scope: Scope::All }
    }

    /// The same database, with every statement in a transaction.
    #[must_use]
    pub fn inside(self, transaction: Transaction) -> Self {
        Self { transaction: Some(transaction), ..self }
    }

    /// The same database, within narrower bounds.
    pub(super) fn within(self, scope: Scope) -> Self {
        Self { scope, ..self }
    }

    /// The same database, for statements outside of a transaction.
    pub(super) fn again(&self) -> Self {
        let Self { pool, tables, runtime, name, limits, transaction: _, scope } = self;
        Self::new(Arc::clone(pool), Arc::clone(tables), runtime.clone(), name.clone(), *limits).within(scope.clone())
    }

    /// The kind of database.
    #[must_use]
    pub fn dialect_name(&self) -> &'static str {
        self.dialect().name()
    }

    /// Begins a transaction, which has a connection of its own until it ends.
    ///
    /// # Errors
    ///
    /// What the database says, `Conflict` when SQLite's lock cannot be had, `Unavailable` when no connection can be had.
    pub async fn begin(&self) -> Result<Transaction, SqlError> {
        self.begin_for(Author::Script).await
    }

    /// Begins a transaction for statements of `author`.
    pub(super) async fn begin_for(&self, author: Author) -> Result<Transaction, SqlError> {
        let (transaction, orders) = transaction::open();
        let (begun, result) = oneshot::channel();
        _ = self.runtime.spawn(Arc::clone(&self.pool).hold(self.limits, author, orders, begun));
        let gone = |_| SqlError::new(SqlErrorCode::Unavailable, "the transaction could not begin");
        result.await.map_err(gone)??;
        Ok(transaction)
    }

    /// Runs a statement.
    pub(super) async fn run(&self, statement: Statement) -> Result<Cursor, SqlError> {
        let statement = Statement { detail: self.scope.detail(), ..statement };
        if let Some(transaction) = &self.transaction {
            return transaction.run(statement, self.limits).await;
        }
        let (producer, cursor) = cursor::open(self.limits, statement.shape);
        _ = self.runtime.spawn(Arc::clone(&self.pool).run(statement, producer));
        cursor.await
    }

    /// Runs a statement of ours, and reads its rows with `read`.
    pub(super) async fn read_with<R>(
        &self,
        statement: Statement,
        read: impl AsyncFnOnce(&mut Cursor) -> Result<R, SqlError>,
    ) -> Result<R, SqlError> {
        if self.transaction.is_some() || !self.pool.runs_in_place() {
            return read(&mut self.run(statement).await?).await;
        }
        let statement = Statement { detail: self.scope.detail(), ..statement };
        let (producer, cursor) = cursor::open(self.limits, statement.shape);
        let running = Arc::clone(&self.pool).run(statement, producer);
        let reading = async { read(&mut cursor.await?).await };
        let ((), result) = futures::join!(running, reading);
        result
    }

    /// Runs a statement of ours that changes rows, and gives those that it gives as a list in this format, with their number.
    pub(super) async fn written(&self, statement: Statement, format: RowFormat) -> Result<Written, SqlError> {
        self.read_with(statement, async |cursor| {
            let rows = cursor.whole(format).await?;
            Ok(Written { rows, n_rows: cursor.rows_read(), n_changed: cursor.n_changed() })
        })
        .await
    }

    /// Runs a statement of ours whose rows do not matter.
    pub(super) async fn perform(&self, statement: Statement) -> Result<(), SqlError> {
        self.written(statement, RowFormat::Json).await.map(|_| ())
    }

    /// Runs a statement of ours and reads its rows.
    pub(super) async fn rows<R: DeserializeOwned>(&self, statement: Statement) -> Result<Vec<R>, SqlError> {
        let unreadable = |_| SqlError::new(SqlErrorCode::StatementFailed, "the database's rows could not be read");
        let json = self.read_with(statement, async |cursor| cursor.whole(RowFormat::Json).await).await?;
        serde_json::from_slice(&json).map_err(unreadable)
    }

    /// Creates a schema where that is not a statement.
    pub(super) async fn create_schema_file(&self, schema: &str) -> Option<Result<(), SqlError>> {
        Some(Arc::clone(&self.pool).create_schema(schema.to_owned())?.await)
    }

    /// Checks the database name that a script gave.
    pub(super) fn check_name(&self, given: &str) -> Result<(), SqlError> {
        check_database(given, &self.name, self.pool.database())
    }

    pub(super) fn connection(&self) -> &ConnectionName {
        &self.name
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The schema of a table whose schema is not named, as far as the host knows.
    pub(super) fn default_schema(&self) -> &str {
        match self.dialect() {
            Dialect::MySql => self.pool.database(),
            Dialect::Postgres => "public",
            Dialect::Sqlite => "main",
        }
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.pool.dialect()
    }

    /// The queries to the database's catalogue.
    pub(super) fn catalog(&self) -> &'static Catalog {
        self.pool.catalog()
    }

    pub(super) fn tables(&self) -> &TableCache {
        &self.tables
    }

    /// Tells whether a change gives back the rows that it changes, as far as is known.
    pub(super) fn gives_rows_back(&self) -> bool {
        self.pool.gives_rows_back()
    }

    pub(super) fn is_inside(&self) -> bool {
        self.transaction.is_some()
    }
}

/// The outcome of a change.
#[derive(Debug)]
pub(super) struct Written {
    /// The rows that the statement gives, as a list.
    pub(super) rows: Vec<u8>,
    pub(super) n_rows: u64,
    /// Rows that the statement has found to change, where its database says so.
    pub(super) n_changed: u64,
}
