//! Re-runs: a recorded request, sent again.

use axum::extract::State;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    control::{
        Control,
        access::InTenant,
        extract::{InPath, Json},
    },
    db::invocations::LoggedInvocation,
    domain::{
        names::{InvocationId, ScriptName, TenantName, VersionId},
        script::SourceFile,
        shown,
    },
    invoke::{
        error::InvokeError,
        recording::{RECORDED_BODY_BYTES_MAX, RecordedAnswer, RecordedBody, Recording},
    },
    problem::api::ApiError,
};

/// What a diff calls a body.
const BODY: &str = "body";

/// JSON is laid out before it is compared, unless that makes it larger than this, in bytes.
const LAID_OUT_BYTES_MAX: usize = 1 << 20;

/// Which version is to run.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRerun {
    /// Number of a version of the same script; the one that ran unless given
    #[schema(minimum = 1)]
    version: Option<i64>,
}

/// A request that was sent again.
#[derive(Serialize, ToSchema)]
pub(super) struct Rerun {
    /// Id of the new invocation
    invocation: String,
    /// Number of the version that ran now
    version: i64,
    /// What came of it the first time
    original: RerunAnswer,
    /// What came of it now
    rerun: RerunAnswer,
    comparison: RerunComparison,
}

/// What came of a request.
#[derive(Serialize, ToSchema)]
pub(super) struct RerunAnswer {
    status: u16,
    /// Code of the problem, when it failed
    code: Option<String>,
    /// Names and values as the script gave them, without cookies
    headers: Vec<(String, String)>,
    /// The body, if it is UTF-8
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// The body in base64
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    /// Whether this is only the body's beginning: 256 KiB are kept
    is_cut: bool,
}

/// What is the same.
#[derive(Serialize, ToSchema)]
pub(super) struct RerunComparison {
    /// Status and code
    same_status: bool,
    /// Fields and their values, in any order
    same_headers: bool,
    /// Null when what is kept of both is the same, but one was cut
    same_body: Option<bool>,
    /// Unified diff of the bodies if they are text; JSON is laid out first
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<String>,
}

/// Send a recorded request again. The handler really runs, and what it writes is written
#[utoipa::path(post, path = "/tenants/{tenant}/invocations/{id}/rerun", tag = "invocations", request_body = NewRerun,
    responses((status = 200, description = "Both answers, and how they differ", body = Rerun),
              (status = 409, description = "The request was not recorded")))]
pub(super) async fn rerun_invocation(
    State(control): State<Control>,
    scope: InTenant,
    InPath((_, text)): InPath<(TenantName, String)>,
    Json(NewRerun { version }): Json<NewRerun>,
) -> Result<Json<Rerun>, ApiError> {
    let unknown = || ApiError::Unknown { what: "invocation", name: shown(&text) };
    let id: InvocationId = text.parse().map_err(|_| unknown())?;
    let entry = scope.db.invocations().find_invocation(scope.id(), id).await?.ok_or_else(unknown)?;
    let recording = find_recording(&control, &scope, &entry).await?;
    let (script, version, number) = find_version(&scope, &entry, version).await?;
    let host = control.invoker()?;
    let by = scope.db.actor().to_owned();
    scope.db.audit().note(scope.id(), "rerun_invocation", &format!("{id} with {script} version {number}")).await?;
    let rerun = host.rerun((&scope.tenant.name, &script), &entry, &recording.request, version, &by).await;
    let rerun = rerun.map_err(not_run)?;
    let rerun =
        rerun.ok_or_else(|| ApiError::Unknown { what: "version", name: format!("{number} of script {script}") })?;
    let comparison = compare(&control, &scope, &recording.answer, &rerun.answer).await?;
    Ok(Json(Rerun {
        invocation: rerun.id.to_string(),
        version: rerun.version,
        original: recording.answer.into(),
        rerun: rerun.answer.into(),
        comparison,
    }))
}

/// Why the host did not come to run it.
fn not_run(error: InvokeError) -> ApiError {
    match error {
        InvokeError::Db(error) => error.into(),
        other => ApiError::Host(other.to_string()),
    }
}

async fn find_recording(control: &Control, scope: &InTenant, entry: &LoggedInvocation) -> Result<Recording, ApiError> {
    let id = entry.record.id;
    if let Some(rerun) = &entry.record.rerun {
        let message = format!("invocation {id} is itself a re-run, which is not recorded: re-run {}", rerun.invocation);
        return Err(ApiError::NotRecorded(message));
    }
    if !entry.is_recorded {
        let (tenant, endpoint) = (&scope.tenant.name, entry.record.endpoint);
        return Err(ApiError::NotRecorded(format!(
            "invocation {id} was not recorded: turn on `record` of its endpoint (`pqhost endpoint record {tenant} {endpoint} \
             on`), and re-run a later one"
        )));
    }
    let recording = control.invoker()?.find_recording(entry).await;
    match recording.map_err(not_run)? {
        Some(recording) if recording.request.is_whole() => Ok(recording),
        Some(_) => Err(ApiError::NotRecorded(format!(
            "the request of invocation {id} cannot be sent again: its body has more than the {RECORDED_BODY_BYTES_MAX} \
             bytes that are kept"
        ))),
        None => Err(ApiError::Unknown { what: "invocation", name: id.to_string() }), // it was just pruned
    }
}

/// The script and the version to run, with its number.
async fn find_version(
    scope: &InTenant,
    entry: &LoggedInvocation,
    number: Option<i64>,
) -> Result<(ScriptName, VersionId, i64), ApiError> {
    let script = entry.script_name.clone();
    let script = script.ok_or_else(|| ApiError::Unknown { what: "script", name: entry.record.script.to_string() })?;
    let number = number.or(entry.version_number);
    let unknown = |number: i64| ApiError::Unknown { what: "version", name: format!("{number} of script {script}") };
    let number = number.ok_or_else(|| {
        ApiError::Invalid(format!("no version of `{script}` had been published then: name the `version` to run"))
    })?;
    let found = scope.db.versions().find_version_numbered(scope.id(), entry.record.script, number).await?;
    let version = found.ok_or_else(|| unknown(number))?;
    match version.purged_at_ms {
        Some(_) => Err(ApiError::Purged { script, version: number }),
        None => Ok((script, version.id, number)),
    }
}

async fn compare(
    control: &Control,
    scope: &InTenant,
    original: &RecordedAnswer,
    rerun: &RecordedAnswer,
) -> Result<RerunComparison, ApiError> {
    let mut compared = compare_outlines(original, rerun);
    if let Some((old, new)) = comparable(&original.body, &rerun.body) {
        let file = |text: String| vec![SourceFile { name: BODY.to_owned(), content: text.into_bytes() }];
        compared.diff = Some(control.compare(scope.id(), file(old), file(new)).await?.text);
    }
    Ok(compared)
}

/// What is the same, without a diff.
fn compare_outlines(original: &RecordedAnswer, rerun: &RecordedAnswer) -> RerunComparison {
    let headers = |answer: &RecordedAnswer| {
        let fields = answer.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
        let mut fields: Vec<_> = fields.collect();
        fields.sort();
        fields
    };
    RerunComparison {
        same_status: (original.status, &original.code) == (rerun.status, &rerun.code),
        same_headers: headers(original) == headers(rerun),
        same_body: compare_bodies(&original.body, &rerun.body),
        diff: None,
    }
}

/// Whether two bodies are the same; `None` if what is kept does not tell: one that was cut may go on as the other does.
fn compare_bodies(old: &RecordedBody, new: &RecordedBody) -> Option<bool> {
    let may_go_on_as = |cut: &RecordedBody, other: &RecordedBody| cut.is_cut && other.bytes.starts_with(&cut.bytes);
    match may_go_on_as(old, new) || may_go_on_as(new, old) {
        true => None,
        false => Some(old.bytes == new.bytes),
    }
}

/// Two bodies that differ as texts to be compared by line.
fn comparable(old: &RecordedBody, new: &RecordedBody) -> Option<(String, String)> {
    if compare_bodies(old, new) != Some(false) {
        return None;
    }
    let (old, new) = (text_of(old)?, text_of(new)?);
    match (laid_out(&old), laid_out(&new)) {
        (Some(old), Some(new)) => Some((old, new)),
        _ => Some((old, new)),
    }
}

/// A body as text. One that was cut may end within a character.
fn text_of(body: &RecordedBody) -> Option<String> {
    match std::str::from_utf8(&body.bytes) {
        Ok(text) => Some(text.to_owned()),
        Err(error) if body.is_cut && error.error_len().is_none() => {
            std::str::from_utf8(&body.bytes[..error.valid_up_to()]).map(str::to_owned).ok()
        }
        Err(_) => None,
    }
}

/// JSON with a line for each value.
fn laid_out(text: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let lines = serde_json::to_string_pretty(&value).ok()? + "\n";
    (lines.len() <= LAID_OUT_BYTES_MAX).then_some(lines)
}

impl From<RecordedAnswer> for RerunAnswer {
    fn from(answer: RecordedAnswer) -> Self {
        let RecordedAnswer { status, code, headers, body } = answer;
        let text = text_of(&body);
        let base64 = if text.is_none() { Some(STANDARD.encode(&body.bytes)) } else { None };
        Self { status, code, headers, text, base64, is_cut: body.is_cut }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &[u8], is_cut: bool) -> RecordedAnswer {
        let headers = vec![("X-A".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())];
        RecordedAnswer { status: 200, code: None, headers, body: RecordedBody { bytes: body.to_vec().into(), is_cut } }
    }

    #[test]
    fn answers_are_compared_by_what_callers_see() {
        let swapped = vec![("B".to_owned(), "2".to_owned()), ("x-a".to_owned(), "1".to_owned())];
        let same = compare_outlines(&answer(b"x", false), &RecordedAnswer { headers: swapped, ..answer(b"x", false) });
        assert!(same.same_status && same.same_headers && same.same_body == Some(true));
        let other = RecordedAnswer { status: 201, headers: Vec::new(), ..answer(b"y", false) };
        let other = compare_outlines(&answer(b"x", false), &other);
        assert!(!other.same_status && !other.same_headers && other.same_body == Some(false));
    }

    #[test]
    fn bodies_that_only_were_cut_do_not_differ() {
        for (old, is_old_cut, new, is_new_cut, expected) in [
            ("x", true, "x", false, None),
            ("x", true, "x", true, None),
            ("x", true, "xy", false, None),
            ("x", true, "xy", true, None),
            ("xy", true, "x", true, None),
            ("x", true, "y", false, Some(false)),
            ("xy", true, "xz", true, Some(false)),
            ("xy", true, "x", false, Some(false)), // whole, and shorter than what is kept of the other
            ("x", false, "xy", false, Some(false)),
        ] {
            let (old, new) = (answer(old.as_bytes(), is_old_cut).body, answer(new.as_bytes(), is_new_cut).body);
            for (old, new) in [(&old, &new), (&new, &old)] {
                assert_eq!(compare_bodies(old, new), expected, "{old:?} {new:?}");
                assert_eq!(comparable(old, new).is_some(), expected == Some(false), "{old:?} {new:?}");
            }
        }
    }

    #[test]
    fn bodies_are_compared_as_text_and_json_is_laid_out() {
        let compared = |old: &[u8], new: &[u8]| comparable(&answer(old, false).body, &answer(new, false).body);
        let laid_out = ("{\n  \"a\": 1\n}\n".to_owned(), "[]\n".to_owned());
        assert_eq!(compared(br#"{"a":1}"#, b" []"), Some(laid_out));
        assert_eq!(compared(b"a", b"{}"), Some(("a".to_owned(), "{}".to_owned())));
        assert_eq!((compared(b"\xff", b"a"), compared(b"a", b"a")), (None, None));
        let deep = [b"[".repeat(100), b"1,".repeat(30_000), b"1".to_vec(), b"]".repeat(100)].concat();
        assert_eq!(compared(&deep, b"1").unwrap().0.len(), deep.len(), "JSON that gets too large stays as it is");
        let cut = text_of(&RecordedBody { bytes: "é".as_bytes()[..1].to_vec().into(), is_cut: true });
        assert_eq!(cut.as_deref(), Some(""));
    }
}
