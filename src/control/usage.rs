//! What tenants used, by month.

use axum::response::{IntoResponse as _, Response};
use http::header;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    control::{
        access::{Access, InTenant},
        extract::{InQuery, Json, Page, bounds, numeric, today},
    },
    db::usage::TenantUsage as TenantRow,
    domain::{
        names::{TenantId, TenantName},
        quota::{Day, Month, Usage},
        shown,
    },
    problem::api::ApiError,
};

/// What was used.
#[derive(Serialize, ToSchema)]
pub(super) struct Used {
    /// Requests that were let in
    requests: u64,
    /// Those of them that were answered with 500 or more
    failed: u64,
    /// Requests that a quota turned away, which are not among `requests`
    refused: u64,
    /// Units of fuel
    fuel: u64,
    /// Time that handlers took, waiting included
    duration_us: u64,
    /// Rows read from databases
    rows: u64,
    /// Bytes of bodies that were answered
    answer_bytes: u64,
}

impl From<Usage> for Used {
    fn from(usage: Usage) -> Self {
        let Usage { requests, failed, refused, fuel, duration_us, rows, answer_bytes } = usage;
        Self { requests, failed, refused, fuel, duration_us, rows, answer_bytes }
    }
}

/// The columns of CSV, in the order of [`Used`] behind the day.
const COLUMNS: [&str; 8] = ["day", "requests", "failed", "refused", "fuel", "duration_us", "rows", "answer_bytes"];

/// What was used in a day.
#[derive(Serialize, ToSchema)]
pub(super) struct DayUsed {
    /// In UTC
    #[schema(format = Date)]
    day: String,
    #[serde(flatten)]
    used: Used,
}

/// What a tenant used in a month.
#[derive(Serialize, ToSchema)]
pub(super) struct MonthUsed {
    month: String,
    /// Those on which something was used
    days: Vec<DayUsed>,
    total: Used,
}

/// What a tenant used, among others.
#[derive(Serialize, ToSchema)]
pub(super) struct TenantUsed {
    /// Its name; null when it is gone
    #[schema(value_type = Option<String>)]
    tenant: Option<TenantName>,
    /// Tells those apart that are gone
    tenant_id: i64,
    #[serde(flatten)]
    used: Used,
}

/// In which form an answer comes.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Format {
    #[default]
    Json,
    Csv,
}

/// Which month.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct UsageQuery {
    /// `YYYY-MM`; the current one (UTC) unless given
    #[param(pattern = "^[0-9]{4}-[0-9]{2}$")]
    month: Option<String>,
    /// CSV has a line of headings and one for each day, and no total
    #[serde(default)]
    #[param(inline, required = false)]
    format: Format,
}

/// Which month, and which part of the list of tenants.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AllUsageQuery {
    /// `YYYY-MM`; the current one (UTC) unless given
    #[param(pattern = "^[0-9]{4}-[0-9]{2}$")]
    month: Option<String>,
    /// Entries at most: 1 to 1000, 100 unless given
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before
    cursor: Option<String>,
}

/// Show what a tenant used in a month, by day
#[utoipa::path(get, path = "/tenants/{tenant}/usage", tag = "tenants", params(UsageQuery),
    responses((status = 200, description = "What was used, as far as hosts have written it",
               content((MonthUsed = "application/json"), (String = "text/csv")))))]
pub(super) async fn show_usage(
    scope: InTenant,
    InQuery(UsageQuery { month, format }): InQuery<UsageQuery>,
) -> Result<Response, ApiError> {
    let month = month_of(month)?;
    let (first, end) = month.days();
    let days = scope.db.usage().list_days(scope.id(), first, end).await?;
    match format {
        Format::Json => Ok(Json(in_month(month, days)).into_response()),
        Format::Csv => {
            let text = csv(&days).map_err(|error| ApiError::Host(error.to_string()))?;
            let name = format!("attachment; filename=\"usage-{}-{month}.csv\"", scope.tenant.name);
            let fields =
                [(header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()), (header::CONTENT_DISPOSITION, name)];
            Ok((fields, text).into_response())
        }
    }
}

/// List what tenants used in a month
#[utoipa::path(get, path = "/usage", tag = "operators", params(AllUsageQuery),
    responses((status = 200, description = "Tenants that used something, those that are gone too, by age", body = Page<TenantUsed>)))]
pub(super) async fn list_usage(
    access: Access,
    InQuery(AllUsageQuery { month, limit, cursor }): InQuery<AllUsageQuery>,
) -> Result<Json<Page<TenantUsed>>, ApiError> {
    let (limit, after) = bounds(limit, cursor)?;
    let after = TenantId(numeric(after.as_deref())?.unwrap_or(0));
    let tenants = access.db.usage().list_tenants(month_of(month)?.days(), after, limit + 1).await?;
    let item = |TenantRow { tenant, name, usage }| TenantUsed { tenant: name, tenant_id: tenant.0, used: usage.into() };
    Ok(Json(Page::new(tenants, limit, |row| row.tenant.0.to_string(), item)))
}

fn month_of(text: Option<String>) -> Result<Month, ApiError> {
    let Some(text) = text else {
        return Month::of(today()).ok_or_else(|| ApiError::Host("the clock is out of any calendar".to_owned()));
    };
    text.parse().map_err(|error| ApiError::InvalidParameter(format!("`month` is `{}`: {error}", shown(&text))))
}

fn in_month(month: Month, days: Vec<(Day, Usage)>) -> MonthUsed {
    let mut total = Usage::default();
    days.iter().for_each(|(_, usage)| total += *usage);
    let day = |(day, usage): (Day, Usage)| DayUsed { day: day.to_string(), used: usage.into() };
    MonthUsed { month: month.to_string(), days: days.into_iter().map(day).collect(), total: total.into() }
}

fn csv(days: &[(Day, Usage)]) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS)?;
    for (day, usage) in days {
        let Usage { requests, failed, refused, fuel, duration_us, rows, answer_bytes } = usage;
        let counts = [requests, failed, refused, fuel, duration_us, rows, answer_bytes].map(u64::to_string);
        writer.write_record(std::iter::once(day.to_string()).chain(counts))?;
    }
    writer.into_inner().map_err(|error| error.to_string().into())
}
