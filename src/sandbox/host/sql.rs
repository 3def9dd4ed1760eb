//! `pq:host/sql` for guests.

mod convert;

use wasmtime::Result as Trappable;

use crate::{
    domain::sql::{NewTable, RowFormat},
    sandbox::{
        bindings::pq::host::sql,
        capabilities::{CursorId, TransactionId},
        host::Granted,
    },
};

/// What a guest gets: a value or an error for its author.
type Answer<T> = Result<T, sql::Error>;

/// Values above this size are read on another thread, so that guests on this one go on: it takes up to a millisecond.
const LARGE_BYTES: usize = 32 << 10;

/// Computes something, on a thread of its own if it is large.
async fn aside<R: Send + 'static>(is_large: bool, compute: impl FnOnce() -> R + Send + 'static) -> Trappable<R> {
    if is_large {
        return tokio::task::spawn_blocking(compute).await.map_err(wasmtime::Error::from);
    }
    Ok(compute())
}

impl Granted<'_> {
    /// The format in which rows are read: by guests as their world says, by others as JSON.
    fn format(&self) -> RowFormat {
        match self {
            Self::Guest(_) => RowFormat::Marshal,
            Self::Outside(_) => RowFormat::Json,
        }
    }
}

impl sql::Host for Granted<'_> {
    async fn fetch(&mut self, place: sql::Place, select: sql::Select) -> Trappable<Answer<sql::Opened>> {
        let is_large = select.params.len() + select.filter.len() > LARGE_BYTES;
        let select = match aside(is_large, move || convert::select(select)).await? {
            Ok(select) => select,
            Err(error) => return Ok(Err(error.into())),
        };
        let opened = self.granted()?.fetch(place.into(), select).await;
        Ok(opened.map_err(sql::Error::from).map(|opened| sql::Opened {
            cursor: opened.cursor.0,
            columns: opened.columns.into_iter().map(sql::Column::from).collect(),
        }))
    }

    async fn next(&mut self, cursor: u32) -> Trappable<Answer<Vec<u8>>> {
        let format = self.format();
        let batch = self.granted()?.next(CursorId(cursor), format).await;
        Ok(batch.map(|batch| batch.map(Vec::from).unwrap_or_default()).map_err(sql::Error::from))
    }

    fn close(&mut self, cursor: u32) -> Trappable<()> {
        self.granted()?.close(CursorId(cursor));
        Ok(())
    }

    async fn change(
        &mut self,
        place: sql::Place,
        table: sql::TableName,
        action: sql::Action,
        key: Vec<u8>,
        rows: Vec<u8>,
    ) -> Trappable<Answer<Vec<u8>>> {
        let is_large = key.len() + rows.len() > LARGE_BYTES;
        let change = match aside(is_large, move || convert::change(table, action, &key, &rows)).await? {
            Ok(change) => change,
            Err(error) => return Ok(Err(error.into())),
        };
        let format = self.format();
        Ok(self.granted()?.change(place.into(), change, format).await.map_err(sql::Error::from))
    }

    async fn write(
        &mut self,
        place: sql::Place,
        table: sql::TableName,
        records: Vec<u8>,
        types: String,
        key: Vec<String>,
    ) -> Trappable<Answer<u64>> {
        let is_large = records.len() + types.len() > LARGE_BYTES;
        let write = match aside(is_large, move || convert::write(table, &records, &types, key)).await? {
            Ok(write) => write,
            Err(error) => return Ok(Err(error.into())),
        };
        Ok(self.granted()?.write(place.into(), write).await.map_err(sql::Error::from))
    }

    async fn create_schema(&mut self, place: sql::Place, database: String, schema: String) -> Trappable<Answer<()>> {
        Ok(self.granted()?.create_schema(place.into(), database, schema).await.map_err(sql::Error::from))
    }

    async fn create_table(
        &mut self,
        place: sql::Place,
        table: sql::TableName,
        fields: Vec<(String, String)>,
        key: Vec<String>,
    ) -> Trappable<Answer<()>> {
        let new = NewTable { table: table.into(), fields, key };
        Ok(self.granted()?.create_table(place.into(), new).await.map_err(sql::Error::from))
    }

    async fn describe(&mut self, place: sql::Place, table: sql::TableName) -> Trappable<Answer<Vec<sql::TableColumn>>> {
        let columns = self.granted()?.describe_table(place.into(), table.into()).await;
        Ok(columns.map(|columns| columns.into_iter().map(sql::TableColumn::from).collect()).map_err(sql::Error::from))
    }

    async fn list_databases(&mut self, connection: Option<String>) -> Trappable<Answer<Vec<sql::Database>>> {
        let databases = self.granted()?.list_databases(connection).await;
        Ok(databases.map(|all| all.into_iter().map(sql::Database::from).collect()).map_err(sql::Error::from))
    }

    async fn begin(&mut self, connection: String) -> Trappable<Answer<u32>> {
        Ok(self.granted()?.begin(connection).await.map(|transaction| transaction.0).map_err(sql::Error::from))
    }

    async fn commit(&mut self, transaction: u32) -> Trappable<Answer<()>> {
        Ok(self.granted()?.commit(TransactionId(transaction)).await.map_err(sql::Error::from))
    }

    async fn rollback(&mut self, transaction: u32) -> Trappable<()> {
        self.granted()?.rollback(TransactionId(transaction)).await;
        Ok(())
    }
}
