//! What is behind a database connection: its tables, and their first rows.

use std::sync::Arc;

use axum::extract::State;
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use utoipa::ToSchema;

use crate::{
    control::{
        Control,
        access::InTenant,
        connections::find_connection,
        extract::{InPath, InQuery, Json, Page, PageQuery},
    },
    data::{Connections, DataSettings, Database},
    db::connections::ConnectionKind,
    domain::{
        limits::SqlLimits,
        names::{ConnectionName, TenantName},
        shown,
        sql::{Select, SqlError, TableColumn, TableName},
    },
    invoke::directory::target_of,
    problem::api::ApiError,
};

/// Rows of a preview, at most and by default.
const ROWS_MAX: u64 = 100;
const ROWS_DEFAULT: u64 = 20;

/// Bytes of a preview's rows, as JSON.
const ROWS_BYTES_MAX: usize = 1 << 20;

/// Schemas and tables of a database that are listed, at most.
const TABLES_MAX: u64 = 100_000;

/// Connections to one database, beside those of scripts: people look at one table at a time.
const CONNECTIONS: usize = 2;

/// Databases that are looked at, at once.
const DATABASES_MAX: usize = 64;

/// Statements on SQLite at once; each holds a thread.
const SQLITE_STATEMENTS: usize = 8;

/// A table or view.
#[derive(Serialize, ToSchema)]
pub(super) struct Table {
    schema: String,
    name: String,
}

/// How much of a table.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PreviewQuery {
    /// Rows at most: 1 to 100, 20 unless given
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u64>,
}

/// The columns of a table and some of its rows.
#[derive(Serialize, ToSchema)]
pub(super) struct TablePreview {
    columns: Vec<TablePreviewColumn>,
    /// Column to value, as scripts return rows to callers; in no particular order
    #[schema(value_type = Vec<Object>)]
    rows: Vec<Box<RawValue>>,
}

/// A column.
#[derive(Serialize, ToSchema)]
pub(super) struct TablePreviewColumn {
    name: String,
    /// In the database's words
    data_type: String,
    /// JSON schema of its values, as callers get them
    #[schema(value_type = Object)]
    schema: Value,
    nullable: bool,
    /// Whether the database alone writes it
    generated: bool,
    /// Its place in the primary key, from 1; 0 when it is no part of it
    key_position: i64,
}

/// Connections of people who look at tables. They only read, whatever scripts may do.
pub(super) fn connections(settings: DataSettings) -> Arc<Connections> {
    Arc::new(Connections::new(DataSettings {
        pool_connections: CONNECTIONS,
        pools: DATABASES_MAX,
        sqlite_statements: SQLITE_STATEMENTS,
        ..settings
    }))
}

/// List the tables and views of a database
#[utoipa::path(get, path = "/tenants/{tenant}/connections/{connection}/tables", tag = "connections", params(PageQuery),
    responses((status = 200, description = "Tables and views by schema and name", body = Page<Table>),
              (status = 422, description = "The database cannot be read; `detail` says why")))]
pub(super) async fn list_tables(
    State(control): State<Control>,
    scope: InTenant,
    InPath((_, name)): InPath<(TenantName, ConnectionName)>,
    InQuery(page): InQuery<PageQuery>,
) -> Result<Json<Page<Table>>, ApiError> {
    let (limit, after) = page.bounds()?;
    let after: Option<(String, String)> = after
        .as_deref()
        .map(serde_json::from_str)
        .transpose()
        .map_err(|_| ApiError::InvalidParameter("`cursor` is none of ours".to_owned()))?;
    let mut tables = tables_of(&database(&control, &scope, &name).await?).await?;
    tables.sort(); // as the cursor compares them, which databases may do in another way
    tables.retain(|table| after.as_ref().is_none_or(|after| table > after));
    tables.truncate(limit as usize + 1);
    let key = |table: &(String, String)| serde_json::json!([table.0, table.1]).to_string();
    Ok(Json(Page::new(tables, limit, key, |(schema, name)| Table { schema, name })))
}

/// Show the columns and first rows of a table
#[utoipa::path(get, path = "/tenants/{tenant}/connections/{connection}/tables/{schema}/{table}", tag = "connections",
    params(PreviewQuery),
    responses((status = 200, description = "Columns and rows", body = TablePreview),
              (status = 422, description = "The table cannot be read; `detail` says why")))]
pub(super) async fn preview_table(
    State(control): State<Control>,
    scope: InTenant,
    InPath((_, name, schema, table)): InPath<(TenantName, ConnectionName, String, String)>,
    InQuery(PreviewQuery { limit }): InQuery<PreviewQuery>,
) -> Result<Json<TablePreview>, ApiError> {
    let limit = limit.unwrap_or(ROWS_DEFAULT);
    if limit == 0 || limit > ROWS_MAX {
        return Err(ApiError::InvalidParameter(format!("`limit` must be 1 to {ROWS_MAX}, not {limit}")));
    }
    let database = database(&control, &scope, &name).await?;
    if !database.lists(&schema, &table).await? {
        let name = shown(&format!("{schema}.{table}"));
        return Err(ApiError::Unknown { what: "table", name });
    }
    let table_name = TableName { database: String::new(), schema: Some(schema.clone()), table: table.clone() };
    let columns = database.describe(&table_name).await?;
    let select = Select { schema: Some(schema), table: Some(table), limit: Some(limit), ..Select::default() };
    let mut pieces = database.fetch(select).await?.into_json().boxed();
    let mut json = Vec::new();
    while let Some(piece) = pieces.next().await {
        json.extend_from_slice(&piece?);
        if json.len() > ROWS_BYTES_MAX {
            let message =
                format!("{limit} rows of the table have more than {ROWS_BYTES_MAX} bytes: use a lower `limit`");
            return Err(ApiError::DatabaseRefused(message));
        }
    }
    let rows = serde_json::from_slice(&json).map_err(|error| ApiError::Host(format!("rows are no JSON: {error}")))?;
    Ok(Json(TablePreview { columns: columns.into_iter().map(TablePreviewColumn::from).collect(), rows }))
}

/// The database behind a connection, to be read only.
pub(super) async fn database(control: &Control, scope: &InTenant, name: &ConnectionName) -> Result<Database, ApiError> {
    let row = find_connection(&scope.db, scope.id(), name).await?;
    if row.kind != ConnectionKind::Sql {
        return Err(ApiError::Invalid(format!("`{name}` is an HTTP API, which has no tables")));
    }
    let mut target = target_of(&control.vault, scope.id(), row).map_err(|error| ApiError::Host(error.to_string()))?;
    target.url = target.url.reading_only();
    let limits = SqlLimits::default();
    // One limit for a statement, whether its rows are counted as those of a script or of a caller.
    let limits =
        SqlLimits { guest_rows: TABLES_MAX, streamed_rows: ROWS_MAX, stream_time: limits.statement_time, ..limits };
    Ok(control.connections.database(target, limits))
}

/// Schema and name of each table and view.
async fn tables_of(database: &Database) -> Result<Vec<(String, String)>, SqlError> {
    let schemas = database.schemas().await?;
    let tables =
        schemas.into_iter().flat_map(|schema| schema.tables.into_iter().map(move |table| (schema.name.clone(), table)));
    Ok(tables.collect())
}

impl From<SqlError> for ApiError {
    fn from(error: SqlError) -> Self {
        Self::DatabaseRefused(error.message)
    }
}

impl From<TableColumn> for TablePreviewColumn {
    fn from(column: TableColumn) -> Self {
        let TableColumn { name, data_type, schema, nullable, generated, key_position } = column;
        Self { name, data_type: data_type.to_string(), schema, nullable, generated, key_position }
    }
}
