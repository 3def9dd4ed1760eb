//! Versions: published, immutable, numbered.

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    control::{
        Control,
        access::InTenant,
        diff::Diff,
        extract::{Created, InPath, InQuery, Json, Page, PageQuery, numeric, time},
        quotas::check_room,
        scripts::{File, draft_files, find_script, find_version, find_whole_version, source_files},
    },
    db::versions::Version as VersionRow,
    domain::names::{ScriptName, TenantName},
    problem::api::ApiError,
    publish::Publication,
};

/// Longest message of a version, in bytes.
const MESSAGE_BYTES_MAX: usize = 2000;

/// A version.
#[derive(Serialize, ToSchema)]
pub(super) struct Version {
    number: i64,
    /// BLAKE3 of its files, in hexadecimal
    content_hash: String,
    /// Who published it
    author: String,
    message: String,
    /// `image`: module-level code ran once; `per_request`: it runs in every request, because of `load_reason`
    load: String,
    load_reason: Option<String>,
    created_at: String,
    /// When its source was destroyed; absent while it is there
    #[serde(skip_serializing_if = "Option::is_none")]
    purged_at: Option<String>,
}

/// What is to be published.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewVersion {
    /// The first one defines `handler`; the draft's files unless given
    files: Option<Vec<File>>,
    /// What is new
    #[serde(default)]
    #[schema(max_length = 2000)]
    message: String,
    /// Whether endpoints serve it at once, unless they are pinned to another version
    #[serde(default = "yes")]
    promote: bool,
}

fn yes() -> bool {
    true
}

/// A version that was published.
#[derive(Serialize, ToSchema)]
pub(super) struct PublishedVersion {
    #[serde(flatten)]
    version: Version,
    /// Size of its image
    image_bytes: Option<u64>,
    /// What its module-level code printed
    log: String,
    /// Places of the source that look like they hold a secret, one sentence each
    suspects: Vec<String>,
    is_live: bool,
}

/// The files of a version.
#[derive(Serialize, ToSchema)]
pub(super) struct Download {
    /// The first one defines `handler`
    files: Vec<File>,
}

/// How two versions differ.
#[derive(Serialize, ToSchema)]
pub(super) struct Comparison {
    /// Unified diff; empty when they do not
    diff: String,
    /// Whether all that differs is in it: files that are too large, or more than can be compared in time, are only named
    is_complete: bool,
}

/// With what to compare.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CompareQuery {
    /// The older version; the one before unless given, 0 for nothing
    from: Option<i64>,
}

type InScript = InPath<(TenantName, ScriptName)>;
type InVersion = InPath<(TenantName, ScriptName, i64)>;

/// List a script's versions
#[utoipa::path(get, path = "/tenants/{tenant}/scripts/{script}/versions", tag = "versions", params(PageQuery),
    responses((status = 200, description = "Versions, newest first", body = Page<Version>)))]
pub(super) async fn list_versions(
    scope: InTenant,
    InPath((_, name)): InScript,
    InQuery(page): InQuery<PageQuery>,
) -> Result<Json<Page<Version>>, ApiError> {
    let (limit, before) = page.bounds()?;
    let before = numeric(before.as_deref())?;
    let script = find_script(&scope.db, scope.id(), &name).await?;
    let versions = scope.db.versions().list_versions(scope.id(), script.id, before, limit + 1).await?;
    Ok(Json(Page::new(versions, limit, |version| version.number.to_string(), Version::from)))
}

/// Publish a script's next version; the script is created if there is none
#[utoipa::path(post, path = "/tenants/{tenant}/scripts/{script}/versions", tag = "versions", request_body = NewVersion,
    responses((status = 201, description = "Published", body = PublishedVersion),
              (status = 422, description = "The script is not sound; `traceback` says where")))]
pub(super) async fn publish_version(
    State(control): State<Control>,
    scope: InTenant,
    InPath((_, name)): InScript,
    Json(NewVersion { files, message, promote }): Json<NewVersion>,
) -> Result<Created<PublishedVersion>, ApiError> {
    if message.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\t')) {
        return Err(ApiError::Invalid("`message` may have no control characters but newlines and tabs".to_owned()));
    }
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(ApiError::Invalid(format!("`message` may have {MESSAGE_BYTES_MAX} bytes, not {}", message.len())));
    }
    let files = match files {
        Some(files) => source_files(files)?,
        None => {
            let script = find_script(&scope.db, scope.id(), &name).await?;
            draft_files(&scope.db, scope.id(), &script).await?
        }
    };
    check_room(&control, &scope, files.iter().map(|file| file.content.len()).sum()).await?;
    let publication = Publication { script: name, files, message, promote };
    let published = control.publisher().await?.publish(&scope.db, scope.id(), publication).await?;
    let image_bytes = published.version.loaded.image.as_ref().map(|image| image.bytes);
    Ok(Created(PublishedVersion {
        version: published.version.into(),
        image_bytes,
        log: published.log,
        suspects: published.suspects,
        is_live: promote,
    }))
}

/// Show a version
#[utoipa::path(get, path = "/tenants/{tenant}/scripts/{script}/versions/{version}", tag = "versions",
    responses((status = 200, description = "The version", body = Version)))]
pub(super) async fn show_version(
    scope: InTenant,
    InPath((_, name, number)): InVersion,
) -> Result<Json<Version>, ApiError> {
    let script = find_script(&scope.db, scope.id(), &name).await?;
    Ok(Json(find_version(&scope.db, scope.id(), &script, number).await?.into()))
}

/// Download a version's files
#[utoipa::path(get, path = "/tenants/{tenant}/scripts/{script}/versions/{version}/files", tag = "versions",
    responses((status = 200, description = "The files exactly as they were published", body = Download)))]
pub(super) async fn download_version(
    scope: InTenant,
    InPath((_, name, number)): InVersion,
) -> Result<Json<Download>, ApiError> {
    let script = find_script(&scope.db, scope.id(), &name).await?;
    let version = find_whole_version(&scope.db, scope.id(), &script, number).await?;
    let files = scope.db.versions().list_files(scope.id(), version.id).await?;
    Ok(Json(Download { files: files.into_iter().map(File::from).collect() }))
}

/// Show what a version changed
#[utoipa::path(get, path = "/tenants/{tenant}/scripts/{script}/versions/{version}/diff", tag = "versions",
    params(CompareQuery),
    responses((status = 200, description = "The difference", body = Comparison)))]
pub(super) async fn compare_versions(
    State(control): State<Control>,
    scope: InTenant,
    InPath((_, name, number)): InVersion,
    InQuery(CompareQuery { from }): InQuery<CompareQuery>,
) -> Result<Json<Comparison>, ApiError> {
    let script = find_script(&scope.db, scope.id(), &name).await?;
    let newer = find_whole_version(&scope.db, scope.id(), &script, number).await?;
    let older = match from.unwrap_or(number - 1) {
        0 => Vec::new(),
        number => {
            let older = find_whole_version(&scope.db, scope.id(), &script, number).await?;
            scope.db.versions().list_files(scope.id(), older.id).await?
        }
    };
    let newer = scope.db.versions().list_files(scope.id(), newer.id).await?;
    let Diff { text, is_complete } = control.compare(scope.id(), older, newer).await?;
    Ok(Json(Comparison { diff: text, is_complete }))
}

/// Destroy a version's source, for example because it holds a secret; its number, hash, author and message stay
#[utoipa::path(delete, path = "/tenants/{tenant}/scripts/{script}/versions/{version}/files", tag = "versions",
    responses((status = 204, description = "Destroyed; previews of it have ended, and it can no longer be served"),
              (status = 409, description = "Endpoints serve it: promote another version, or pin them to one")))]
pub(super) async fn purge_version(
    scope: InTenant,
    InPath((_, name, number)): InVersion,
) -> Result<StatusCode, ApiError> {
    let script = find_script(&scope.db, scope.id(), &name).await?;
    let version = find_whole_version(&scope.db, scope.id(), &script, number).await?;
    scope.db.versions().purge_version(scope.id(), &script, &version).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<VersionRow> for Version {
    fn from(version: VersionRow) -> Self {
        let VersionRow { id: _, script: _, number, content_hash, loaded, author, message, created_at_ms, purged_at_ms } =
            version;
        Self {
            number,
            content_hash,
            author,
            message,
            load: loaded.mode.to_string(),
            load_reason: loaded.reason,
            created_at: time(created_at_ms),
            purged_at: purged_at_ms.map(time),
        }
    }
}
