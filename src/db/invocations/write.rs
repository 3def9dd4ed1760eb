//! Appending to the log.

use std::sync::LazyLock;

use sqlx::{Any, any::AnyArguments, query::Query};

use crate::db::{Tx, invocations::InvocationRecord, placeholders, to_column};

const COLUMNS: usize = 17;

/// Rows of one INSERT. More would be slower: finding a statement's nth parameter takes SQLite n steps.
const CHUNK: usize = 16;

/// What few records have: re-runs, and those with a recording.
const SPECIAL_COLUMNS: [&str; 4] = ["rerun_of", "rerun_by", "recording_bytes", "recording"];

static INSERT_CHUNK: LazyLock<String> = LazyLock::new(|| insert_sql(CHUNK, &[]));
static INSERT_ONE: LazyLock<String> = LazyLock::new(|| insert_sql(1, &[]));
static INSERT_SPECIAL: LazyLock<String> = LazyLock::new(|| insert_sql(1, &SPECIAL_COLUMNS));

fn insert_sql(n_rows: usize, more_columns: &[&str]) -> String {
    let more: String = more_columns.iter().map(|column| format!(", {column}")).collect();
    format!(
        "INSERT INTO invocation (tenant_id, id, script_id, version_id, endpoint_id, method, path, status, code,
                                 started_at_ms, duration_us, fuel, dirty_pages, row_count, answer_bytes, log, traceback{more})
         VALUES {}",
        placeholders(n_rows, COLUMNS + more_columns.len())
    )
}

/// Appends records without a recording that repeat nothing: nearly all.
pub(super) async fn insert_plain(tx: &mut Tx, records: &[InvocationRecord]) -> Result<(), sqlx::Error> {
    let (chunks, rest) = records.as_chunks::<CHUNK>();
    for chunk in chunks {
        chunk.iter().fold(sqlx::query(INSERT_CHUNK.as_str()), bind).execute(&mut **tx).await?;
    }
    for record in rest {
        bind(sqlx::query(INSERT_ONE.as_str()), record).execute(&mut **tx).await?;
    }
    Ok(())
}

pub(super) async fn insert_special(tx: &mut Tx, records: &[InvocationRecord]) -> Result<(), sqlx::Error> {
    for record in records {
        let rerun = record.rerun.as_ref();
        bind(sqlx::query(INSERT_SPECIAL.as_str()), record)
            .bind(rerun.map(|rerun| rerun.invocation.to_string()))
            .bind(rerun.map(|rerun| text(&rerun.by)))
            .bind(to_column(record.recording.as_ref().map_or(0, Vec::len) as u64))
            .bind(record.recording.clone())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Binds the values of one row, in the order of [`insert_sql`].
fn bind<'q>(query: Query<'q, Any, AnyArguments>, record: &InvocationRecord) -> Query<'q, Any, AnyArguments> {
    let InvocationRecord {
        id,
        tenant,
        script,
        version,
        endpoint,
        method,
        path,
        status,
        code,
        started_at_ms,
        duration_us,
        fuel,
        dirty_pages,
        rows,
        answer_bytes,
        log,
        traceback,
        rerun: _,
        recording: _,
    } = record;
    query
        .bind(tenant.0)
        .bind(id.to_string())
        .bind(script.0)
        .bind(version.map(|version| version.0))
        .bind(endpoint.0)
        .bind(text(method))
        .bind(text(path))
        .bind(i64::from(*status))
        .bind(code.clone())
        .bind(*started_at_ms)
        .bind(to_column(*duration_us))
        .bind(to_column(*fuel))
        .bind(to_column(*dirty_pages))
        .bind(to_column(*rows))
        .bind(to_column(*answer_bytes))
        .bind(text(log))
        .bind(traceback.as_deref().map(text))
}

/// Text that every database can hold: PostgreSQL refuses NUL, and one such row would lose the whole batch.
fn text(text: &str) -> String {
    match text.contains('\0') {
        true => text.replace('\0', "\u{fffd}"),
        false => text.to_owned(),
    }
}
