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
    data::Cursor,
    domain::{
        limits::SqlLimits,
        sql::{Select, SqlError, SqlErrorCode},
    },
    invoke::script_host::ScriptHost,
    sandbox::capabilities::{CursorId, OpenedCursor, SqlAccess},
};

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

    /// Rows read from all cursors so far.
    pub(in crate::invoke) fn rows_read(&self) -> u64 {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
    }
}

impl ScriptHost {
    async fn open(&mut self, connection: &str, select: Select) -> Result<OpenedCursor, SqlError> {
        let limits: SqlLimits = self.endpoint.limits.sql;
        if self.n_statements >= limits.statements {
            let message = format!("the handler may run {} statements in one request", limits.statements);
            return Err(SqlError::new(SqlErrorCode::TooManyStatements, message));
        }
        self.n_statements += 1;
        let target = self.directory.find_target(self.routes.tenant_id, connection).await?;
        let cursor = self.connections.fetch(target, select, limits).await?;
        let id = CursorId(self.n_statements);
        let columns = cursor.columns().to_vec();
        self.cursors.counters.lock().unwrap_or_else(PoisonError::into_inner).push(cursor.row_counter());
        self.cursors.put(id, cursor);
        Ok(OpenedCursor { cursor: id, columns })
    }
}

impl SqlAccess for ScriptHost {
    fn fetch<'a>(&'a mut self, connection: &'a str, select: Select) -> BoxFuture<'a, Result<OpenedCursor, SqlError>> {
        self.open(connection, select).boxed()
    }

    fn next(&mut self, id: CursorId) -> BoxFuture<'_, Result<Option<Bytes>, SqlError>> {
        async move {
            let Some(mut cursor) = self.cursors.take(id) else { return Ok(None) };
            let batch = cursor.next_batch().await?;
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
}
