//! The invocation log.

use std::time::{Duration, Instant};

use axum::{
    extract::State,
    response::{
        IntoResponse as _, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures::TryStreamExt as _;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    control::{
        Control, Needs,
        access::InTenant,
        extract::{InPath, InQuery, Json, Page, bounds, numeric, time},
    },
    db::invocations::{Details, InvocationFilter, LoggedInvocation},
    domain::{
        names::{EndpointId, InvocationId, ScriptName, TenantName},
        shown,
    },
    problem::api::ApiError,
};

/// How often new entries are looked for.
const FOLLOW_POLL: Duration = Duration::from_millis(300);

/// Entries read at a time; each has up to 64 KiB of log.
const FOLLOWED_AT_ONCE: u32 = 100;

/// How often it is looked whether somebody who follows still may.
const LET_IN_FOR: Duration = Duration::from_secs(1);

/// A comment is sent when nothing else was for so long, so that no proxy takes the connection for dead.
const FOLLOW_KEEP_ALIVE: Duration = Duration::from_secs(15);

/// One run of a handler.
#[derive(Serialize, ToSchema)]
pub(super) struct Invocation {
    /// Its place in the log, which grows
    seq: i64,
    /// What callers get as `x-request-id`
    id: String,
    #[schema(value_type = Option<String>)]
    script: Option<ScriptName>,
    /// Number of the version that ran
    version: Option<i64>,
    /// Id of the endpoint
    endpoint: i64,
    method: String,
    /// Below the tenant, without the query
    path: String,
    status: u16,
    /// Code of the problem, when it failed
    code: Option<String>,
    started_at: String,
    duration_us: u64,
    /// Units of fuel that it used
    fuel: u64,
    /// Pages of memory that were rewound
    dirty_pages: u64,
    /// Rows that it read from databases
    rows: u64,
    /// Bytes of the body that it answered
    answer_bytes: u64,
    /// Whether its request and answer are kept, so that it can be re-run
    is_recorded: bool,
    /// Id of the invocation that it repeats, if it is a re-run
    rerun_of: Option<String>,
    /// Who asked for the re-run
    rerun_by: Option<String>,
    /// What it printed; in lists only with `details`
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    /// Of an exception that left the handler; in lists only with `details`
    #[serde(skip_serializing_if = "Option::is_none")]
    traceback: Option<String>,
}

/// Where to begin.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct FollowQuery {
    /// `seq` behind which to begin; now unless given. `last-event-id` does the same
    after: Option<i64>,
}

/// Which runs.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct InvocationQuery {
    /// Entries at most: 1 to 1000, 100 unless given
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before
    cursor: Option<String>,
    /// Only of this script
    #[param(value_type = Option<String>)]
    script: Option<ScriptName>,
    /// Only of this version of the script
    version: Option<i64>,
    /// Only of this endpoint
    endpoint: Option<i64>,
    /// Only with a status at least this, for example 500
    status_min: Option<u16>,
    /// Only with a status at most this
    status_max: Option<u16>,
    /// Only started at or after this time (RFC 3339)
    since: Option<String>,
    /// Only started before this time (RFC 3339)
    until: Option<String>,
    /// With what they printed
    #[serde(default)]
    details: bool,
}

/// List invocations
#[utoipa::path(get, path = "/tenants/{tenant}/invocations", tag = "invocations", params(InvocationQuery),
    responses((status = 200, description = "Invocations, newest first", body = Page<Invocation>)))]
pub(super) async fn list_invocations(
    scope: InTenant,
    InQuery(query): InQuery<InvocationQuery>,
) -> Result<Json<Page<Invocation>>, ApiError> {
    let InvocationQuery { limit, cursor, script, version, endpoint, status_min, status_max, since, until, details } =
        query;
    let (limit, before) = bounds(limit, cursor)?;
    if version.is_some() && script.is_none() {
        return Err(ApiError::InvalidParameter("`version` goes with `script`".to_owned()));
    }
    let filter = InvocationFilter {
        before: numeric(before.as_deref())?,
        script,
        version,
        endpoint: endpoint.map(EndpointId),
        status_min,
        status_max,
        since_ms: since.as_deref().map(|text| milliseconds("since", text)).transpose()?,
        until_ms: until.as_deref().map(|text| milliseconds("until", text)).transpose()?,
    };
    let shown = if details { Details::Shown } else { Details::LeftOut };
    let entries = scope.db.invocations().search(scope.id(), &filter, shown, limit + 1).await?;
    let item = |entry: LoggedInvocation| match details {
        true => Invocation::from(entry),
        false => Invocation { log: None, traceback: None, ..entry.into() },
    };
    Ok(Json(Page::new(entries, limit, |entry| entry.seq.to_string(), item)))
}

/// Follow invocations as they are recorded, as server-sent events with the JSON of an `Invocation`
///
/// The stream ends when its caller may no longer see it.
#[utoipa::path(get, path = "/tenants/{tenant}/invocations/live", tag = "invocations", params(FollowQuery),
    responses((status = 200, description = "A stream without end", content_type = "text/event-stream", body = String),
              (status = 429, description = "There are too many of them")))]
pub(super) async fn follow_invocations(
    State(control): State<Control>,
    scope: InTenant,
    headers: HeaderMap,
    InQuery(FollowQuery { after }): InQuery<FollowQuery>,
) -> Result<Response, ApiError> {
    let tail = control.tails.begin(&scope.principal)?;
    let resumed = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    let after = match resumed.or(after) {
        Some(after) => after,
        None => {
            let newest = scope.db.invocations().list(scope.id(), None, 1).await?;
            newest.last().map_or(0, |entry| entry.seq)
        }
    };
    let begun = (after, Instant::now(), control, scope, tail);
    let batches = futures::stream::try_unfold(begun, async |(after, mut let_in_at, control, scope, tail)| {
        loop {
            let new = scope.db.invocations().list(scope.id(), Some(after), FOLLOWED_AT_ONCE).await?;
            // Looked at after reading: nothing is shown that was recorded longer than this after the credential was revoked.
            if let_in_at.elapsed() >= LET_IN_FOR {
                if !control.is_still_let_in(&scope, Needs::Viewer).await? {
                    return Ok::<_, ApiError>(None);
                }
                let_in_at = Instant::now();
            }
            if let Some(last) = new.last() {
                let after = last.seq;
                return Ok(Some((new, (after, let_in_at, control, scope, tail))));
            }
            tokio::time::sleep(FOLLOW_POLL).await;
        }
    });
    let events = batches
        .map_ok(|entries| futures::stream::iter(entries.into_iter().map(|entry| Ok::<_, ApiError>(event(entry)))));
    let keep_alive = KeepAlive::new().interval(FOLLOW_KEEP_ALIVE);
    Ok(Sse::new(events.try_flatten()).keep_alive(keep_alive).into_response())
}

fn event(entry: LoggedInvocation) -> Event {
    let id = entry.seq.to_string();
    let event = Event::default().id(id);
    event.json_data(Invocation::from(entry)).unwrap_or_default()
}

/// Show an invocation with its log and traceback
#[utoipa::path(get, path = "/tenants/{tenant}/invocations/{id}", tag = "invocations",
    responses((status = 200, description = "The invocation", body = Invocation)))]
pub(super) async fn show_invocation(
    scope: InTenant,
    InPath((_, text)): InPath<(TenantName, String)>,
) -> Result<Json<Invocation>, ApiError> {
    let unknown = || ApiError::Unknown { what: "invocation", name: shown(&text) };
    let id: InvocationId = text.parse().map_err(|_| unknown())?;
    let entry = scope.db.invocations().find_invocation(scope.id(), id).await?.ok_or_else(unknown)?;
    Ok(Json(entry.into()))
}

fn milliseconds(name: &str, text: &str) -> Result<i64, ApiError> {
    let time = chrono::DateTime::parse_from_rfc3339(text)
        .map_err(|_| ApiError::InvalidParameter(format!("`{name}` is no RFC 3339 time: `{}`", shown(text))))?;
    Ok(time.timestamp_millis())
}

impl From<LoggedInvocation> for Invocation {
    fn from(entry: LoggedInvocation) -> Self {
        let LoggedInvocation { seq, script_name, version_number, is_recorded, record } = entry;
        let (rerun_of, rerun_by) = record.rerun.map(|rerun| (rerun.invocation.to_string(), rerun.by)).unzip();
        Self {
            seq,
            id: record.id.to_string(),
            script: script_name,
            version: version_number,
            endpoint: record.endpoint.0,
            method: record.method,
            path: record.path,
            status: record.status,
            code: record.code,
            started_at: time(record.started_at_ms),
            duration_us: record.duration_us,
            fuel: record.fuel,
            dirty_pages: record.dirty_pages,
            rows: record.rows,
            answer_bytes: record.answer_bytes,
            is_recorded,
            rerun_of,
            rerun_by,
            log: Some(record.log),
            traceback: record.traceback,
        }
    }
}
