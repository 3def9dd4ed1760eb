//! One tenant's database, as statements are run on it.
//!
//! Owns: where a statement runs, in a session of the pool or in a transaction. Never: writes SQL.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use tokio::{runtime::Handle, sync::oneshot};

use crate::{
    data::{
        AnyPool,
        catalog::TableCache,
        cursor::{self, Cursor},
        mysql, postgres,
        scope::Scope,
        select::{self, Asked, Dialect, Form, Statement, first_word},
        sqlite,
        transaction::{self, Author, Transaction},
    },
    domain::{
        limits::SqlLimits,
        names::ConnectionName,
        sql::{Select, SqlError, SqlErrorCode},
    },
};

/// A tenant's database, and how statements run on it. Cheap to make; it holds no connection.
#[derive(Debug)]
pub struct Database {
    pool: AnyPool,
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
        pool: AnyPool,
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
        Self::new(pool.clone(), Arc::clone(tables), runtime.clone(), name.clone(), *limits).within(scope.clone())
    }

    /// Starts a statement and waits for its first rows, its end or its error.
    ///
    /// Dropping the returned future stops the statement.
    ///
    /// # Errors
    ///
    /// Arguments of the wrong form, what the database says, `StatementTimeout` after `limits.statement_time` without a
    /// row, `Unavailable` when no connection can be had; `NotAllowed` for what a restricted caller may not reach.
    pub async fn fetch(&self, select: Select) -> Result<Cursor, SqlError> {
        self.check_name(&select.database)?;
        let is_stream = select.stream;
        let statement = self.statement(select)?;
        let changes_tables = match statement.form {
            Form::Query { .. } => changes_tables(&statement.template.render(|_| String::new())),
            Form::Table { .. } | Form::Change { .. } => false,
        };
        let cursor = self.run(statement).await;
        if changes_tables {
            self.tables.forget_all();
        }
        cursor.map(|cursor| if is_stream { cursor.into_stream() } else { cursor })
    }

    /// What a script's `fetch` runs.
    fn statement(&self, select: Select) -> Result<Statement, SqlError> {
        match select::asked(&select)? {
            Asked::Table(name) => Statement::of_table(self.dialect(), &self.grant(name)?, select),
            Asked::Query => {
                self.check_open("a statement of your own (`query`, `execute`)")?;
                Statement::of_author(self.dialect(), select)
            }
        }
    }

    /// What kind of database it is.
    #[must_use]
    pub fn dialect_name(&self) -> &'static str {
        match self.dialect() {
            Dialect::MySql => "mysql",
            Dialect::Postgres => "postgres",
            Dialect::Sqlite => "sqlite",
        }
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
        match &self.pool {
            AnyPool::MySql(pool) => {
                _ = self.runtime.spawn(mysql::hold(Arc::clone(pool), self.limits, author, orders, begun));
            }
            AnyPool::Postgres(pool) => {
                _ = self.runtime.spawn(postgres::hold(Arc::clone(pool), self.limits, orders, begun));
            }
            AnyPool::Sqlite(pool) => _ = self.runtime.spawn(sqlite::hold(Arc::clone(pool), orders, begun)),
        }
        let gone = |_| SqlError::new(SqlErrorCode::Unavailable, "the transaction could not begin");
        result.await.map_err(gone)??;
        Ok(transaction)
    }

    /// Runs a statement.
    pub(super) async fn run(&self, statement: Statement) -> Result<Cursor, SqlError> {
        let statement = Statement { told: self.scope.told(), ..statement };
        if let Some(transaction) = &self.transaction {
            return transaction.run(statement, self.limits).await;
        }
        let (producer, cursor) = cursor::open(self.limits);
        match &self.pool {
            AnyPool::MySql(pool) => _ = self.runtime.spawn(mysql::run(Arc::clone(pool), statement, producer)),
            AnyPool::Postgres(pool) => _ = self.runtime.spawn(postgres::run(Arc::clone(pool), statement, producer)),
            AnyPool::Sqlite(pool) => _ = self.runtime.spawn(sqlite::run(Arc::clone(pool), statement, producer)),
        }
        cursor.await
    }

    /// Runs a statement of ours and gives its rows as one JSON array for a script, and their number.
    ///
    /// On PostgreSQL it runs in the task that waits for it: such statements are short, and handing them to another thread
    /// and their row back takes a good part of their time.
    pub(super) async fn json(&self, statement: Statement) -> Result<(Vec<u8>, u64), SqlError> {
        match (&self.pool, &self.transaction) {
            (AnyPool::Postgres(pool), None) => {
                let statement = Statement { told: self.scope.told(), ..statement };
                let (producer, cursor) = cursor::open(self.limits);
                let running = postgres::run(Arc::clone(pool), statement, producer);
                let reading = async { whole(cursor.await?).await };
                let ((), rows) = futures::join!(running, reading);
                rows
            }
            _ => whole(self.run(statement).await?).await,
        }
    }

    /// Runs a statement of ours and reads its rows.
    pub(super) async fn rows<R: DeserializeOwned>(&self, statement: Statement) -> Result<Vec<R>, SqlError> {
        let mut cursor = self.run(statement).await?;
        let mut rows = Vec::new();
        while let Some(batch) = cursor.next_batch().await? {
            let unreadable = |_| SqlError::new(SqlErrorCode::StatementFailed, "the database's rows could not be read");
            rows.append(&mut serde_json::from_slice(&batch).map_err(unreadable)?);
        }
        Ok(rows)
    }

    /// Creates a schema where that is not a statement.
    pub(super) fn sqlite(&self) -> Option<Arc<sqlite::SqlitePool>> {
        match &self.pool {
            AnyPool::Sqlite(pool) => Some(Arc::clone(pool)),
            AnyPool::MySql(_) | AnyPool::Postgres(_) => None,
        }
    }

    /// Checks the database name that a script gave.
    pub(super) fn check_name(&self, given: &str) -> Result<(), SqlError> {
        select::check_database(given, &self.name, self.pool.database())
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

    pub(super) fn tables(&self) -> &TableCache {
        &self.tables
    }

    pub(super) fn is_inside(&self) -> bool {
        self.transaction.is_some()
    }
}

/// All rows as one JSON array for a script, and their number.
async fn whole(mut cursor: Cursor) -> Result<(Vec<u8>, u64), SqlError> {
    let mut json = Vec::new();
    while let Some(batch) = cursor.next_batch().await? {
        if json.pop().is_some() {
            json.push(b','); // in place of the bracket that ended the batch before
            json.extend_from_slice(&batch[1..]);
        } else {
            json.extend_from_slice(&batch);
        }
    }
    if json.is_empty() {
        json.extend_from_slice(b"[]");
    }
    Ok((json, cursor.rows_read()))
}

/// Whether an author's statement may change what is known of tables.
fn changes_tables(sql: &str) -> bool {
    ["alter", "create", "drop", "do", "call", "rename"].contains(&first_word(sql).as_str())
}
