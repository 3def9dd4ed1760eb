//! The tenant's databases, for one invocation.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};

use crate::{
    data::{Cursor, Database, Transaction},
    domain::{
        limits::SqlLimits,
        sql::{Change, NewTable, RowFormat, Select, SqlError, SqlErrorCode, TableColumn, TableName, TableWrite},
    },
    invoke::script_host::ScriptHost,
    sandbox::capabilities::{CursorId, DatabaseInfo, OpenedCursor, Place, SqlAccess, TransactionId},
};

/// Transactions that one invocation may have open at once. Each holds one of the eight connections to its database; two
/// are enough to move rows from one database to another.
const TRANSACTIONS_MAX: usize = 2;

/// The open cursors of one invocation, shared with whoever streams one of them to the caller.
#[derive(Debug, Default)]
pub(in crate::invoke) struct Cursors {
    open: Mutex<HashMap<CursorId, Cursor>>,
    /// Row counters of all cursors, open or not.
    counters: Mutex<Vec<Arc<AtomicU64>>>,
}

impl Cursors {
    pub(in crate::invoke) fn take(&self, cursor: CursorId) -> Option<Cursor> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&cursor)
    }

    fn put(&self, id: CursorId, cursor: Cursor) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(id, cursor);
    }

    fn is_open(&self, id: CursorId) -> bool {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&id)
    }

    /// Rows read from all cursors so far.
    pub(in crate::invoke) fn rows_read(&self) -> u64 {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
    }
}

/// A transaction of this invocation. Dropping it rolls it back.
#[derive(Debug)]
struct OpenTransaction {
    connection: String,
    transaction: Transaction,
    /// The last result in it, which must be read before the next statement.
    last_cursor: Option<CursorId>,
}

/// The transactions that an invocation has begun and not ended.
#[derive(Debug, Default)]
pub(in crate::invoke) struct Transactions(HashMap<TransactionId, OpenTransaction>);

impl ScriptHost {
    /// Counts a statement against the invocation's limit.
    fn count_statement(&mut self) -> Result<u32, SqlError> {
        let n_max = self.limits.sql.statements;
        if self.n_statements >= n_max {
            let message = format!("the handler may run {n_max} statements in one request");
            return Err(SqlError::new(SqlErrorCode::TooManyStatements, message));
        }
        self.n_statements += 1;
        Ok(self.n_statements)
    }

    /// The database that a statement is for, as far as the caller may reach it, and the statement's number.
    async fn database(&mut self, place: &Place) -> Result<(Database, u32), SqlError> {
        let number = self.count_statement()?;
        let target = self
            .directory
            .find_target(self.routes.tenant_id, self.script, &place.connection, self.rows.as_deref())
            .await?;
        let sqlite_is_full = if target.url.is_sqlite() { self.storage_used_up().await } else { None };
        let limits = SqlLimits { sqlite_is_full, ..self.limits.sql };
        let database = self.connections.database(target, limits).scoped(self.rows.as_deref())?;
        let Some(id) = place.transaction else { return Ok((database, number)) };
        let open = self.transactions.0.get(&id).filter(|open| open.connection == place.connection);
        let Some(open) = open else {
            return Err(SqlError::new(SqlErrorCode::TransactionOver, "the transaction is over"));
        };
        if open.last_cursor.is_some_and(|cursor| self.cursors.is_open(cursor)) {
            let message = "inside of a transaction, a result must be read to its end before the next statement";
            return Err(SqlError::new(SqlErrorCode::InvalidArgument, message));
        }
        Ok((database.inside(open.transaction.clone()), number))
    }

    async fn open(&mut self, place: Place, select: Select) -> Result<OpenedCursor, SqlError> {
        let (database, number) = self.database(&place).await?;
        let cursor = database.fetch(select).await?;
        let id = CursorId(number);
        let columns = cursor.columns().to_vec();
        self.cursors.counters.lock().unwrap_or_else(PoisonError::into_inner).push(cursor.row_counter());
        self.cursors.put(id, cursor);
        if let Some(open) = place.transaction.and_then(|id| self.transactions.0.get_mut(&id)) {
            open.last_cursor = Some(id);
        }
        Ok(OpenedCursor { cursor: id, columns })
    }

    /// Takes a transaction that is to be ended. Rows that nobody has read would hold up its end, so they are given up.
    fn end(&mut self, id: TransactionId) -> Option<Transaction> {
        let OpenTransaction { connection: _, transaction, last_cursor } = self.transactions.0.remove(&id)?;
        drop(last_cursor.and_then(|cursor| self.cursors.take(cursor)));
        Some(transaction)
    }

    async fn describe_databases(&mut self, only: Option<String>) -> Result<Vec<DatabaseInfo>, SqlError> {
        let (tenant, script) = (self.routes.tenant_id, self.script);
        let default = self.routes.default_connection(&self.script_name).map(|(id, _)| id);
        let known = match only {
            Some(name) => {
                let target = self.directory.find_target(tenant, script, &name, self.rows.as_deref()).await?;
                vec![(target.connection, target.name)]
            }
            None => {
                let mut all = self.directory.list_connections(tenant, script).await?;
                all.retain(|(_, name)| self.rows.as_ref().is_none_or(|rows| rows.names(name.as_str())));
                all
            }
        };
        let mut databases = Vec::new();
        for (id, name) in known {
            let place = Place { connection: name.to_string(), transaction: None };
            let (dialect, schemas) = match self.database(&place).await {
                Ok((database, _)) => (database.dialect_name(), database.schemas().await),
                // Not this database's problem, but the script's.
                Err(error) if error.code == SqlErrorCode::TooManyStatements => return Err(error),
                Err(error) => ("", Err(error)),
            };
            let schemas = schemas.map(|all| all.into_iter().map(|schema| (schema.name, schema.tables)).collect());
            let is_default = default == Some(id);
            databases.push(DatabaseInfo { id, name, is_default, dialect, schemas });
        }
        Ok(databases)
    }

    async fn begin_transaction(&mut self, connection: String) -> Result<TransactionId, SqlError> {
        if self.transactions.0.len() >= TRANSACTIONS_MAX {
            let message = format!("a handler may have {TRANSACTIONS_MAX} transactions open at once");
            return Err(SqlError::new(SqlErrorCode::NotAllowed, message));
        }
        if self.transactions.0.values().any(|open| open.connection == connection) {
            let message = format!("a transaction on connection `{connection}` is open: they cannot be nested");
            return Err(SqlError::new(SqlErrorCode::NotAllowed, message));
        }
        let (database, number) = self.database(&Place { connection: connection.clone(), transaction: None }).await?;
        let transaction = database.begin().await?;
        let id = TransactionId(number);
        self.transactions.0.insert(id, OpenTransaction { connection, transaction, last_cursor: None });
        Ok(id)
    }
}

impl SqlAccess for ScriptHost {
    fn fetch(&mut self, place: Place, select: Select) -> BoxFuture<'_, Result<OpenedCursor, SqlError>> {
        self.open(place, select).boxed()
    }

    fn next(&mut self, id: CursorId, format: RowFormat) -> BoxFuture<'_, Result<Option<Bytes>, SqlError>> {
        async move {
            let Some(mut cursor) = self.cursors.take(id) else { return Ok(None) };
            let batch = cursor.next_batch(format).await?;
            if batch.is_some() {
                self.cursors.put(id, cursor);
            }
            Ok(batch)
        }
        .boxed()
    }

    fn close(&mut self, cursor: CursorId) {
        drop(self.cursors.take(cursor));
    }

    fn change(&mut self, place: Place, change: Change, format: RowFormat) -> BoxFuture<'_, Result<Vec<u8>, SqlError>> {
        async move { self.database(&place).await?.0.change(change, format).await }.boxed()
    }

    fn write(&mut self, place: Place, write: TableWrite) -> BoxFuture<'_, Result<u64, SqlError>> {
        async move { self.database(&place).await?.0.write(write).await }.boxed()
    }

    fn create_schema(&mut self, place: Place, database: String, schema: String) -> BoxFuture<'_, Result<(), SqlError>> {
        async move { self.database(&place).await?.0.create_schema(&database, &schema).await }.boxed()
    }

    fn create_table(&mut self, place: Place, new: NewTable) -> BoxFuture<'_, Result<(), SqlError>> {
        async move { self.database(&place).await?.0.create_table(new).await }.boxed()
    }

    fn describe_table(&mut self, place: Place, name: TableName) -> BoxFuture<'_, Result<Vec<TableColumn>, SqlError>> {
        async move { self.database(&place).await?.0.describe(&name).await }.boxed()
    }

    fn list_databases(&mut self, connection: Option<String>) -> BoxFuture<'_, Result<Vec<DatabaseInfo>, SqlError>> {
        self.describe_databases(connection).boxed()
    }

    fn begin(&mut self, connection: String) -> BoxFuture<'_, Result<TransactionId, SqlError>> {
        self.begin_transaction(connection).boxed()
    }

    fn commit(&mut self, id: TransactionId) -> BoxFuture<'_, Result<(), SqlError>> {
        async move {
            match self.end(id) {
                Some(transaction) => transaction.commit().await,
                None => Err(SqlError::new(SqlErrorCode::TransactionOver, "the transaction is over")),
            }
        }
        .boxed()
    }

    fn rollback(&mut self, id: TransactionId) -> BoxFuture<'_, ()> {
        async move {
            if let Some(transaction) = self.end(id) {
                transaction.rollback().await;
            }
        }
        .boxed()
    }
}
