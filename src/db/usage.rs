//! What tenants used, by day, and how much is kept for them.
//!
//! Usage is written with the invocation log and, like it, is no change that hosts look for.

use std::collections::{BTreeMap, HashMap};

use sqlx::FromRow;

use crate::{
    db::{Db, DbError, Tx, from_column, placeholders, to_column},
    domain::{
        names::{TenantId, TenantName},
        quota::{Day, Usage},
    },
};

/// Days of tenants that one statement adds to. More would be slower: finding a statement's nth parameter takes SQLite n steps.
const CHUNK: usize = 16;

fn add_sql(n_rows: usize) -> String {
    format!(
        "INSERT INTO tenant_usage (tenant_id, day, requests, failed, refused, fuel, duration_us, row_count, answer_bytes)
         VALUES {}
         ON CONFLICT (tenant_id, day) DO UPDATE SET
            requests = tenant_usage.requests + excluded.requests, failed = tenant_usage.failed + excluded.failed,
            refused = tenant_usage.refused + excluded.refused, fuel = tenant_usage.fuel + excluded.fuel,
            duration_us = tenant_usage.duration_us + excluded.duration_us,
            row_count = tenant_usage.row_count + excluded.row_count,
            answer_bytes = tenant_usage.answer_bytes + excluded.answer_bytes
         RETURNING tenant_id, day, fuel",
        placeholders(n_rows, 9)
    )
}

/// What a tenant has used, to be added to what it used that day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageRecord {
    /// Whose it is.
    pub tenant: TenantId,
    /// When.
    pub day: Day,
    /// What.
    pub usage: Usage,
}

/// What a tenant has used, for a list of tenants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantUsage {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name; `None` when it is gone.
    pub name: Option<TenantName>,
    /// What.
    pub usage: Usage,
}

/// Bytes that the control database keeps for a tenant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeptBytes {
    /// Files of versions, and drafts.
    pub source: u64,
    /// States of scripts.
    pub state: u64,
    /// Recordings of requests and answers.
    pub recordings: u64,
}

#[derive(FromRow)]
struct Row {
    day: i64,
    requests: i64,
    failed: i64,
    refused: i64,
    fuel: i64,
    duration_us: i64,
    row_count: i64,
    answer_bytes: i64,
}

impl Row {
    fn usage(&self) -> Usage {
        let Self { day: _, requests, failed, refused, fuel, duration_us, row_count, answer_bytes } = *self;
        Usage {
            requests: from_column(requests),
            failed: from_column(failed),
            refused: from_column(refused),
            fuel: from_column(fuel),
            duration_us: from_column(duration_us),
            rows: from_column(row_count),
            answer_bytes: from_column(answer_bytes),
        }
    }
}

#[derive(FromRow)]
struct TenantRow {
    tenant_id: i64,
    name: Option<String>,
    #[sqlx(flatten)]
    row: Row,
}

/// Statements about usage.
#[derive(Debug, Clone, Copy)]
pub struct UsageLog<'a>(pub(super) &'a Db);

impl UsageLog<'_> {
    /// Units of fuel that a tenant has used in a day.
    ///
    /// # Errors
    /// The database fails.
    pub async fn find_fuel(self, tenant: TenantId, day: Day) -> Result<u64, DbError> {
        let fuel: Option<i64> = sqlx::query_scalar("SELECT fuel FROM tenant_usage WHERE tenant_id = $1 AND day = $2")
            .bind(tenant.0)
            .bind(day.0)
            .fetch_optional(&self.0.readers)
            .await?;
        Ok(from_column(fuel.unwrap_or(0)))
    }

    /// What a tenant used on each day from `first` to before `end`; days on which it used nothing are left out.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list_days(self, tenant: TenantId, first: Day, end: Day) -> Result<Vec<(Day, Usage)>, DbError> {
        let rows = sqlx::query_as::<_, Row>(
            "SELECT day, requests, failed, refused, fuel, duration_us, row_count, answer_bytes FROM tenant_usage
             WHERE tenant_id = $1 AND day >= $2 AND day < $3 ORDER BY day",
        )
        .bind(tenant.0)
        .bind(first.0)
        .bind(end.0)
        .fetch_all(&self.0.readers)
        .await?;
        Ok(rows.into_iter().map(|row| (Day(row.day), row.usage())).collect())
    }

    /// What tenants used from `first` to before `end`, by their ids, those behind `after`; those that used nothing are left out.
    ///
    /// # Errors
    /// The database fails.
    pub async fn list_tenants(
        self,
        (first, end): (Day, Day),
        after: TenantId,
        limit: u32,
    ) -> Result<Vec<TenantUsage>, DbError> {
        sqlx::query_as::<_, TenantRow>(
            "SELECT u.tenant_id, (SELECT name FROM tenant WHERE id = u.tenant_id) AS name, MIN(u.day) AS day,
                    CAST(SUM(u.requests) AS BIGINT) AS requests, CAST(SUM(u.failed) AS BIGINT) AS failed,
                    CAST(SUM(u.refused) AS BIGINT) AS refused, CAST(SUM(u.fuel) AS BIGINT) AS fuel,
                    CAST(SUM(u.duration_us) AS BIGINT) AS duration_us, CAST(SUM(u.row_count) AS BIGINT) AS row_count,
                    CAST(SUM(u.answer_bytes) AS BIGINT) AS answer_bytes
             FROM tenant_usage u WHERE u.tenant_id > $1 AND u.day >= $2 AND u.day < $3
             GROUP BY u.tenant_id ORDER BY u.tenant_id LIMIT $4",
        )
        .bind(after.0)
        .bind(first.0)
        .bind(end.0)
        .bind(i64::from(limit))
        .fetch_all(&self.0.readers)
        .await?
        .into_iter()
        .map(|TenantRow { tenant_id, name, row }| {
            let name = name.map(TenantName::try_from).transpose();
            let name = name.map_err(|error| DbError::corrupt("tenant name", error))?;
            Ok(TenantUsage { tenant: TenantId(tenant_id), name, usage: row.usage() })
        })
        .collect()
    }

    /// Bytes that are kept for a tenant.
    ///
    /// Reads no content, and one row for each version: there may be gigabytes.
    ///
    /// # Errors
    /// The database fails.
    pub async fn find_kept_bytes(self, tenant: TenantId) -> Result<KeptBytes, DbError> {
        let (versions, drafts, state, recordings): (i64, i64, i64, i64) = sqlx::query_as(
            "SELECT (SELECT CAST(COALESCE(SUM(COALESCE(v.source_bytes,
                        (SELECT SUM(OCTET_LENGTH(f.content)) FROM version_file f WHERE f.version_id = v.id))), 0) AS BIGINT)
                     FROM version v WHERE v.tenant_id = $1),
                    (SELECT CAST(COALESCE(SUM(OCTET_LENGTH(d.files)), 0) AS BIGINT)
                     FROM script s JOIN script_draft d ON d.script_id = s.id WHERE s.tenant_id = $1),
                    (SELECT CAST(COALESCE(SUM(OCTET_LENGTH(st.value)), 0) AS BIGINT)
                     FROM script_state st WHERE st.tenant_id = $1),
                    (SELECT CAST(COALESCE(SUM(recording_bytes), 0) AS BIGINT)
                     FROM invocation WHERE tenant_id = $1 AND recording_bytes > 0)",
        )
        .bind(tenant.0)
        .fetch_one(&self.0.readers)
        .await?;
        let source = from_column(versions).saturating_add(from_column(drafts));
        Ok(KeptBytes { source, state: from_column(state), recordings: from_column(recordings) })
    }

    /// Deletes what was used before a day, at most `delete_max` days of tenants. Gives the number that were deleted: call again while it is
    /// `delete_max`.
    ///
    /// # Errors
    /// The database fails.
    pub async fn prune(self, before: Day, delete_max: u32) -> Result<u64, DbError> {
        let mut tx = self.0.begin_log().await?;
        let deleted = sqlx::query(
            "DELETE FROM tenant_usage WHERE (tenant_id, day) IN
             (SELECT tenant_id, day FROM tenant_usage WHERE day < $1 ORDER BY day LIMIT $2)",
        )
        .bind(before.0)
        .bind(i64::from(delete_max))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(deleted.rows_affected())
    }
}

/// Adds to what was used. Gives, for each record, the fuel of that day, by all hosts, with this.
pub(super) async fn add(tx: &mut Tx, records: &[UsageRecord]) -> Result<Vec<u64>, sqlx::Error> {
    // One statement may change a row once only, and a tenant may have two meters for a while.
    let mut sums: BTreeMap<(TenantId, Day), Usage> = BTreeMap::new();
    for UsageRecord { tenant, day, usage } in records {
        *sums.entry((*tenant, *day)).or_default() += *usage;
    }
    let sums: Vec<_> = sums.into_iter().collect();
    let mut fuel_used = HashMap::with_capacity(sums.len());
    for chunk in sums.chunks(CHUNK) {
        // All but placeholders is ours, from above.
        let mut query = sqlx::query_as::<_, (i64, i64, i64)>(sqlx::AssertSqlSafe(add_sql(chunk.len())));
        for ((tenant, day), usage) in chunk {
            let Usage { requests, failed, refused, fuel, duration_us, rows, answer_bytes } = *usage;
            query = query.bind(tenant.0).bind(day.0);
            for count in [requests, failed, refused, fuel, duration_us, rows, answer_bytes] {
                query = query.bind(to_column(count));
            }
        }
        for (tenant, day, fuel) in query.fetch_all(&mut **tx).await? {
            fuel_used.insert((TenantId(tenant), Day(day)), from_column(fuel));
        }
    }
    Ok(records.iter().map(|record| fuel_used.get(&(record.tenant, record.day)).copied().unwrap_or(0)).collect())
}
