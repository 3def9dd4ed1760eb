//! The invocation log: written in batches, read by its tenant, pruned to the newest.

mod write;

use sqlx::FromRow;

use crate::{
    db::{
        Db, DbError, from_column,
        invocations::write::{insert_plain, insert_special},
        to_column,
        usage::{self, UsageRecord},
    },
    domain::names::{EndpointId, InvocationId, ScriptId, ScriptName, TenantId, VersionId},
};

/// Most entries that one [`Invocations::list`] gives.
pub const LIST_MAX: u32 = 1000;

/// What is kept of one invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvocationRecord {
    /// Also the request's id.
    pub id: InvocationId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The script that ran.
    pub script: ScriptId,
    /// The version that ran; `None` when the script has none.
    pub version: Option<VersionId>,
    /// The endpoint that was called.
    pub endpoint: EndpointId,
    /// Upper case.
    pub method: String,
    /// Below the tenant, without the query string.
    pub path: String,
    /// HTTP status of the answer.
    pub status: u16,
    /// Code of the problem, when the invocation failed.
    pub code: Option<String>,
    /// Milliseconds since 1970.
    pub started_at_ms: i64,
    /// From the start of the handler to its response.
    pub duration_us: u64,
    /// Units of fuel used.
    pub fuel: u64,
    /// Pages that were rewound.
    pub dirty_pages: u64,
    /// Rows read from databases.
    pub rows: u64,
    /// Bytes of the body that the handler answered.
    pub answer_bytes: u64,
    /// What the handler printed, up to its limit.
    pub log: String,
    /// Of an exception that left the handler.
    pub traceback: Option<String>,
    /// What it repeats, if it is a re-run.
    pub rerun: Option<RerunOf>,
    /// Request and answer, sealed; `None` as well in what is read: see [`Invocations::find_recording`].
    pub recording: Option<Vec<u8>>,
}

/// What a re-run repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RerunOf {
    /// The invocation whose request was sent again.
    pub invocation: InvocationId,
    /// Who asked for it, as the audit log names them.
    pub by: String,
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedInvocation {
    /// Its place in the log; pass the last one seen as `after` to go on from there.
    pub seq: i64,
    /// The script's name.
    pub script_name: Option<ScriptName>,
    /// The version's number.
    pub version_number: Option<i64>,
    /// Whether its request and answer are kept.
    pub is_recorded: bool,
    /// What was kept.
    pub record: InvocationRecord,
}

/// Which entries of a tenant.
#[derive(Debug, Clone, Default)]
pub struct InvocationFilter {
    /// Written before this entry.
    pub before: Option<i64>,
    /// Of this script.
    pub script: Option<ScriptName>,
    /// Of the script's version with this number.
    pub version: Option<i64>,
    /// Of this endpoint.
    pub endpoint: Option<EndpointId>,
    /// With at least this status.
    pub status_min: Option<u16>,
    /// With at most this status.
    pub status_max: Option<u16>,
    /// Started at or after this time, in milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// Started before this time, in milliseconds since 1970.
    pub until_ms: Option<i64>,
}

/// Whether entries come with what was printed and with tracebacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Details {
    /// They do.
    Shown,
    /// They come without, as if there were none.
    LeftOut,
}

/// Selects [`Row`]s that a filter lets through, with these columns for the details.
macro_rules! search {
    ($details:literal) => {
        concat!(
            "SELECT i.seq, i.tenant_id, i.id, i.script_id, i.version_id, i.endpoint_id, i.method, i.path, i.status, i.code,
                    i.started_at_ms, i.duration_us, i.fuel, i.dirty_pages, i.row_count, i.answer_bytes,
                    i.rerun_of, i.rerun_by, CAST(CASE WHEN i.recording IS NULL THEN 0 ELSE 1 END AS BIGINT) AS is_recorded, ",
            $details,
            ", s.name AS script_name, v.number AS version_number
             FROM invocation i
             LEFT JOIN script s ON s.tenant_id = i.tenant_id AND s.id = i.script_id
             LEFT JOIN version v ON v.tenant_id = i.tenant_id AND v.id = i.version_id
             WHERE i.tenant_id = $1 AND i.seq < $2
                   AND ($3 = '' OR s.name = $3) AND ($4 = 0 OR v.number = $4) AND ($5 = 0 OR i.endpoint_id = $5)
                   AND i.status >= $6 AND i.status <= $7 AND i.started_at_ms >= $8 AND i.started_at_ms < $9
             ORDER BY i.seq DESC LIMIT $10"
        )
    };
}

#[derive(FromRow)]
struct Row {
    seq: i64,
    script_name: Option<String>,
    version_number: Option<i64>,
    tenant_id: i64,
    id: String,
    script_id: i64,
    version_id: Option<i64>,
    endpoint_id: i64,
    method: String,
    path: String,
    status: i64,
    code: Option<String>,
    started_at_ms: i64,
    duration_us: i64,
    fuel: i64,
    dirty_pages: i64,
    row_count: i64,
    answer_bytes: i64,
    log: String,
    traceback: Option<String>,
    rerun_of: Option<String>,
    rerun_by: Option<String>,
    is_recorded: i64,
}

/// The columns of a [`Row`], for `invocation i`, without the recording, which may be large.
macro_rules! select {
    ($from:literal) => {
        concat!(
            "SELECT i.seq, i.tenant_id, i.id, i.script_id, i.version_id, i.endpoint_id, i.method, i.path, i.status, i.code,
                    i.started_at_ms, i.duration_us, i.fuel, i.dirty_pages, i.row_count, i.answer_bytes, i.log, i.traceback,
                    i.rerun_of, i.rerun_by, CAST(CASE WHEN i.recording IS NULL THEN 0 ELSE 1 END AS BIGINT) AS is_recorded,
                    s.name AS script_name, v.number AS version_number ",
            $from
        )
    };
}

/// Statements about invocations.
#[derive(Debug, Clone, Copy)]
pub struct Invocations<'a>(pub(super) &'a Db);

impl Invocations<'_> {
    /// Appends records of any tenants, and adds to what tenants used, in one transaction: all or none. Gives, for each addition, the fuel
    /// that the tenant has used that day.
    ///
    /// Survives `kill -9`; a power failure may take the last moments with it, because it does not wait for the disk.
    ///
    /// # Errors
    /// The database fails.
    pub async fn insert_batch(self, records: &[InvocationRecord], used: &[UsageRecord]) -> Result<Vec<u64>, DbError> {
        if records.is_empty() && used.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = self.0.begin_log().await?;
        let is_plain = |record: &InvocationRecord| record.recording.is_none() && record.rerun.is_none();
        for run in records.chunk_by(|a, b| is_plain(a) == is_plain(b)) {
            if is_plain(&run[0]) {
                insert_plain(&mut tx, run).await?;
            } else {
                insert_special(&mut tx, run).await?;
            }
        }
        let fuel_used = usage::add(&mut tx, used).await?;
        tx.commit().await?;
        Ok(fuel_used)
    }

    /// Entries of the tenant, oldest first: those that were written after entry `after`, or without it the newest ones.
    /// At most `limit` and [`LIST_MAX`].
    ///
    /// # Errors
    /// The database fails.
    pub async fn list(
        self,
        tenant: TenantId,
        after: Option<i64>,
        limit: u32,
    ) -> Result<Vec<LoggedInvocation>, DbError> {
        let sql = match after {
            Some(_) => {
                select!(
                    "FROM invocation i
                 LEFT JOIN script s ON s.tenant_id = i.tenant_id AND s.id = i.script_id
                 LEFT JOIN version v ON v.tenant_id = i.tenant_id AND v.id = i.version_id
                 WHERE i.tenant_id = $1 AND i.seq > $2 ORDER BY i.seq LIMIT $3"
                )
            }
            None => {
                select!(
                    "FROM invocation i
                 LEFT JOIN script s ON s.tenant_id = i.tenant_id AND s.id = i.script_id
                 LEFT JOIN version v ON v.tenant_id = i.tenant_id AND v.id = i.version_id
                 WHERE i.tenant_id = $1 AND i.seq IN
                       (SELECT seq FROM invocation WHERE tenant_id = $1 AND seq > $2 ORDER BY seq DESC LIMIT $3)
                 ORDER BY i.seq"
                )
            }
        };
        sqlx::query_as::<_, Row>(sql)
            .bind(tenant.0)
            .bind(after.unwrap_or(0))
            .bind(i64::from(limit.min(LIST_MAX)))
            .fetch_all(&self.0.readers)
            .await?
            .into_iter()
            .map(LoggedInvocation::try_from)
            .collect()
    }

    /// Entries of the tenant that the filter lets through, newest first.
    ///
    /// # Errors
    /// The database fails.
    pub async fn search(
        self,
        tenant: TenantId,
        filter: &InvocationFilter,
        details: Details,
        limit: u32,
    ) -> Result<Vec<LoggedInvocation>, DbError> {
        let InvocationFilter { before, script, version, endpoint, status_min, status_max, since_ms, until_ms } = filter;
        // Each log may have 64 KiB.
        let sql = match details {
            Details::Shown => search!("i.log, i.traceback"),
            Details::LeftOut => search!("'' AS log, CAST(NULL AS TEXT) AS traceback"),
        };
        sqlx::query_as::<_, Row>(sql)
            .bind(tenant.0)
            .bind(before.unwrap_or(i64::MAX))
            .bind(script.as_ref().map_or("", ScriptName::as_str))
            .bind(version.unwrap_or(0))
            .bind(endpoint.map_or(0, |endpoint| endpoint.0))
            .bind(i64::from(status_min.unwrap_or(0)))
            .bind(i64::from(status_max.unwrap_or(u16::MAX)))
            .bind(since_ms.unwrap_or(i64::MIN))
            .bind(until_ms.unwrap_or(i64::MAX))
            .bind(i64::from(limit))
            .fetch_all(&self.0.readers)
            .await?
            .into_iter()
            .map(LoggedInvocation::try_from)
            .collect()
    }

    /// The tenant's entry of this id.
    ///
    /// # Errors
    /// The database fails.
    pub async fn find_invocation(
        self,
        tenant: TenantId,
        id: InvocationId,
    ) -> Result<Option<LoggedInvocation>, DbError> {
        sqlx::query_as::<_, Row>(select!(
            "FROM invocation i
             LEFT JOIN script s ON s.tenant_id = i.tenant_id AND s.id = i.script_id
             LEFT JOIN version v ON v.tenant_id = i.tenant_id AND v.id = i.version_id
             WHERE i.tenant_id = $1 AND i.id = $2"
        ))
        .bind(tenant.0)
        .bind(id.to_string())
        .fetch_optional(&self.0.readers)
        .await?
        .map(LoggedInvocation::try_from)
        .transpose()
    }

    /// The sealed recording of the tenant's entry of this id; `None` without such an entry, or one that was not recorded.
    ///
    /// # Errors
    /// The database fails.
    pub async fn find_recording(self, tenant: TenantId, id: InvocationId) -> Result<Option<Vec<u8>>, DbError> {
        let recording: Option<Option<Vec<u8>>> =
            sqlx::query_scalar("SELECT recording FROM invocation WHERE tenant_id = $1 AND id = $2")
                .bind(tenant.0)
                .bind(id.to_string())
                .fetch_optional(&self.0.readers)
                .await?;
        Ok(recording.flatten())
    }

    /// Deletes entries of any tenant that started before a time, at most `delete_max` of the oldest. Gives the number that were
    /// deleted: call again while it is `delete_max`.
    ///
    /// # Errors
    /// The database fails.
    pub async fn prune_older(self, before_ms: i64, delete_max: u32) -> Result<u64, DbError> {
        let mut tx = self.0.begin_log().await?;
        // By time: an import puts old entries behind new ones.
        let deleted = sqlx::query(
            "DELETE FROM invocation WHERE seq IN
             (SELECT seq FROM invocation WHERE started_at_ms < $1 ORDER BY started_at_ms LIMIT $2)",
        )
        .bind(before_ms)
        .bind(i64::from(delete_max))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(deleted.rows_affected())
    }

    /// Takes the recordings away from the tenant's oldest entries that have one, but keeps the newest ones as long as they have `keep_bytes`
    /// together, and takes at most `take_max`. Gives the number that were taken: call again while it is `take_max`.
    ///
    /// # Errors
    /// The database fails.
    pub async fn prune_recordings(self, tenant: TenantId, keep_bytes: u64, take_max: u32) -> Result<u64, DbError> {
        let newest_to_take: Option<i64> = sqlx::query_scalar(
            "SELECT MAX(seq) FROM
             (SELECT seq, SUM(recording_bytes) OVER (ORDER BY seq DESC) AS bytes FROM invocation
              WHERE tenant_id = $1 AND recording_bytes > 0) AS newest
             WHERE bytes > $2",
        )
        .bind(tenant.0)
        .bind(to_column(keep_bytes))
        .fetch_one(&self.0.readers)
        .await?;
        let Some(newest_to_take) = newest_to_take else { return Ok(0) };
        let mut tx = self.0.begin_log().await?;
        let taken = sqlx::query(
            "UPDATE invocation SET recording = NULL, recording_bytes = 0 WHERE seq IN
             (SELECT seq FROM invocation WHERE tenant_id = $1 AND recording_bytes > 0 AND seq <= $2 ORDER BY seq LIMIT $3)",
        )
        .bind(tenant.0)
        .bind(newest_to_take)
        .bind(i64::from(take_max))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(taken.rows_affected())
    }

    /// Deletes the tenant's oldest entries, but keeps the newest `keep` and deletes at most `delete_max`. Gives the number
    /// that were deleted: call again while it is `delete_max`.
    ///
    /// # Errors
    /// The database fails.
    pub async fn prune(self, tenant: TenantId, keep: u32, delete_max: u32) -> Result<u64, DbError> {
        let newest_to_delete: Option<i64> =
            sqlx::query_scalar("SELECT seq FROM invocation WHERE tenant_id = $1 ORDER BY seq DESC LIMIT 1 OFFSET $2")
                .bind(tenant.0)
                .bind(i64::from(keep))
                .fetch_optional(&self.0.readers)
                .await?;
        let Some(newest_to_delete) = newest_to_delete else { return Ok(0) };
        let mut tx = self.0.begin_log().await?;
        let deleted = sqlx::query(
            "DELETE FROM invocation WHERE seq IN
             (SELECT seq FROM invocation WHERE tenant_id = $1 AND seq <= $2 ORDER BY seq LIMIT $3)",
        )
        .bind(tenant.0)
        .bind(newest_to_delete)
        .bind(i64::from(delete_max))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(deleted.rows_affected())
    }
}

impl TryFrom<Row> for LoggedInvocation {
    type Error = DbError;

    fn try_from(row: Row) -> Result<Self, DbError> {
        let script_name = row.script_name.map(ScriptName::try_from).transpose();
        let id = |text: String| text.parse::<InvocationId>().map_err(|error| DbError::corrupt("invocation id", error));
        let rerun_of = row.rerun_of.map(id).transpose()?;
        Ok(Self {
            seq: row.seq,
            script_name: script_name.map_err(|error| DbError::corrupt("script name", error))?,
            version_number: row.version_number,
            is_recorded: row.is_recorded != 0,
            record: InvocationRecord {
                id: id(row.id)?,
                tenant: TenantId(row.tenant_id),
                script: ScriptId(row.script_id),
                version: row.version_id.map(VersionId),
                endpoint: EndpointId(row.endpoint_id),
                method: row.method,
                path: row.path,
                status: u16::try_from(row.status).map_err(|error| DbError::corrupt("status", error))?,
                code: row.code,
                started_at_ms: row.started_at_ms,
                duration_us: from_column(row.duration_us),
                fuel: from_column(row.fuel),
                dirty_pages: from_column(row.dirty_pages),
                rows: from_column(row.row_count),
                answer_bytes: from_column(row.answer_bytes),
                log: row.log,
                traceback: row.traceback,
                rerun: rerun_of.zip(row.rerun_by).map(|(invocation, by)| RerunOf { invocation, by }),
                recording: None,
            },
        })
    }
}
