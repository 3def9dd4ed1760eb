//! What operations take apart from requests, with errors that name the input.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::{
    extract::{
        FromRequest, FromRequestParts, Path, Query, Request,
        rejection::{BytesRejection, FailedToBufferBody, JsonRejection},
    },
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::{IntoParams, ToSchema};

use crate::{
    domain::{quota::Day, shown},
    problem::api::ApiError,
};

/// Largest body: the files of the largest script in base64, with some room.
pub(super) const BODY_BYTES_MAX: usize = 24 << 20;

/// Entries of a page, at most and by default.
const PAGE_MAX: u32 = 1000;
const PAGE_DEFAULT: u32 = 100;

/// Time for a body to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);

/// A JSON body.
#[derive(Debug)]
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        match in_time(axum::Json::from_request(request, state)).await? {
            Ok(axum::Json(body)) => Ok(Self(body)),
            Err(JsonRejection::MissingJsonContentType(_)) => Err(ApiError::NotJson),
            Err(JsonRejection::BytesRejection(BytesRejection::FailedToBufferBody(
                FailedToBufferBody::LengthLimitError(_),
            ))) => Err(ApiError::BodyTooLarge { limit_bytes: BODY_BYTES_MAX }),
            Err(error) => Err(ApiError::InvalidBody(reason(&error))),
        }
    }
}

/// Gives up on a body that does not arrive.
pub(super) async fn in_time<T>(reading: impl Future<Output = T>) -> Result<T, ApiError> {
    tokio::time::timeout(BODY_TIME, reading).await.map_err(|_| ApiError::BodyTimeout { limit: BODY_TIME })
}

/// What is wrong with a body: the innermost cause says where.
fn reason(error: &JsonRejection) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    shown_text(&cause.to_string())
}

/// A message that quotes the input, shortened and without control characters.
fn shown_text(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// Something that was created.
#[derive(Debug)]
pub(super) struct Created<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        (StatusCode::CREATED, axum::Json(self.0)).into_response()
    }
}

/// Something with a revision, which `If-Match` may name.
#[derive(Debug)]
pub(super) struct Tagged<T>(pub(super) i64, pub(super) T);

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let Self(revision, body) = self;
        let mut response = axum::Json(body).into_response();
        if let Ok(value) = HeaderValue::from_str(&format!("\"{revision}\"")) {
            response.headers_mut().insert(header::ETAG, value);
        }
        response
    }
}

/// The revision that a change expects: what `If-Match` says; `None` when it does not say or says `*`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected(pub(super) Option<i64>);

impl<S: Sync> FromRequestParts<S> for Expected {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        expected_revision(&parts.headers).map(Self)
    }
}

fn expected_revision(headers: &HeaderMap) -> Result<Option<i64>, ApiError> {
    let Some(field) = headers.get(header::IF_MATCH) else { return Ok(None) };
    if field == "*" {
        return Ok(None);
    }
    let tag = field.to_str().ok().and_then(|text| text.strip_prefix('"')?.strip_suffix('"')?.parse().ok());
    // A tag that we never gave is that of nothing that is here.
    tag.map(Some).ok_or(ApiError::Stale)
}

/// Parameters of the path.
#[derive(Debug)]
pub(super) struct InPath<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(value) = Path::from_request_parts(parts, state)
            .await
            .map_err(|error| ApiError::InvalidParameter(shown_text(&error.body_text())))?;
        Ok(Self(value))
    }
}

/// Parameters of the query.
#[derive(Debug)]
pub(super) struct InQuery<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for InQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(value) = Query::from_request_parts(parts, state)
            .await
            .map_err(|error| ApiError::InvalidParameter(shown_text(&error.body_text())))?;
        Ok(Self(value))
    }
}

/// Which part of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Entries at most: 1 to 1000, 100 unless given
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before
    cursor: Option<String>,
}

impl PageQuery {
    /// How many entries to give, and behind which key.
    pub(super) fn bounds(self) -> Result<(u32, Option<String>), ApiError> {
        bounds(self.limit, self.cursor)
    }
}

/// How many entries to give, and behind which key.
pub(super) fn bounds(limit: Option<u32>, cursor: Option<String>) -> Result<(u32, Option<String>), ApiError> {
    let limit = limit.unwrap_or(PAGE_DEFAULT);
    if limit == 0 || limit > PAGE_MAX {
        return Err(ApiError::InvalidParameter(format!("`limit` must be 1 to {PAGE_MAX}, not {limit}")));
    }
    let key = cursor.map(|cursor| {
        let key = URL_SAFE_NO_PAD.decode(&cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        key.filter(|key| !key.contains('\0'))
            .ok_or_else(|| ApiError::InvalidParameter(format!("`cursor` is none of ours: `{}`", shown(&cursor))))
    });
    Ok((limit, key.transpose()?))
}

/// The key of [`bounds`] when it is a number.
pub(super) fn numeric(key: Option<&str>) -> Result<Option<i64>, ApiError> {
    let invalid = |_| ApiError::InvalidParameter("`cursor` is none of ours".to_owned());
    key.map(|key| key.parse().map_err(invalid)).transpose()
}

/// A part of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page<T> {
    items: Vec<T>,
    /// Pass as `cursor` to get the next part; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A page of at most `limit` of the `limit + 1` rows that were asked for; `key` is what the next page starts behind.
    pub(super) fn new<R>(mut rows: Vec<R>, limit: u32, key: impl Fn(&R) -> String, item: impl Fn(R) -> T) -> Self {
        let has_more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next_cursor = rows.last().filter(|_| has_more).map(|row| URL_SAFE_NO_PAD.encode(key(row)));
        Self { items: rows.into_iter().map(item).collect(), next_cursor }
    }
}

/// The day that it is.
pub(super) fn today() -> Day {
    Day::of(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

/// A time of the control database, RFC 3339.
pub(super) fn time(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms)
        .map_or_else(String::new, |time| time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_end_where_rows_end() {
        let page = |n, limit| Page::new((0..n).collect::<Vec<_>>(), limit, i32::to_string, |n| n);
        assert_eq!(page(3, 3).next_cursor, None);
        let more = page(4, 3);
        assert_eq!((more.items.len(), more.next_cursor.as_deref()), (3, Some("Mg")));
        assert_eq!(bounds(None, more.next_cursor).unwrap(), (100, Some("2".to_owned())));
        for (limit, cursor) in [(Some(0), None), (Some(1001), None), (None, Some("?")), (None, Some("AA"))] {
            assert!(bounds(limit, cursor.map(str::to_owned)).is_err(), "{limit:?} {cursor:?}");
        }
    }
}
