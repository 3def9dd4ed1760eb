//! Scripts, their drafts, and which version is live.

use axum::extract::State;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    control::{
        Control,
        access::InTenant,
        extract::{Created, Expected, InPath, InQuery, Json, Page, PageQuery, Tagged, time},
        quotas::check_room,
    },
    db::{Db, drafts::Draft as DraftRow, scripts::Script as ScriptRow, versions::Version as VersionRow},
    domain::{
        names::{ScriptName, TenantId, TenantName},
        script::{MAIN_FILE, SCRIPT_BYTES_MAX, SCRIPT_FILES_MAX, SourceFile, is_file_name},
        shown,
    },
    problem::api::ApiError,
};

/// What a new script starts as.
const BOILERPLATE: &str = "\
def handler(request):
    # request: method, path, query, headers, data, json ... See docs/SCRIPTS.md.
    # rows = pq.dbconnect(pq.DW_NAME).fetch(pq.DW_NAME, 'public', 'orders')
    return {\"hello\": request[\"query\"].get(\"name\", \"world\")}
";

/// A script.
#[derive(Serialize, ToSchema)]
pub(super) struct Script {
    id: i64,
    #[schema(value_type = String)]
    name: ScriptName,
    /// Number of its newest version
    latest_version: Option<i64>,
    /// Number of the version that its endpoints serve, unless they are pinned to another
    live_version: Option<i64>,
    created_at: String,
}

/// A script to be created. Its draft is a handler that says hello.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewScript {
    #[schema(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")]
    name: ScriptName,
}

/// A file of a script: exactly one of `text` and `base64`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// Relative path, for example `handler.py`
    pub(super) name: String,
    /// The content, if it is UTF-8
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<String>,
    /// The content in base64
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) base64: Option<String>,
}

/// What an author works on.
#[derive(Serialize, ToSchema)]
pub(super) struct Draft {
    /// The first one defines `handler`
    files: Vec<File>,
    updated_at: String,
}

/// Files that take the place of the draft's.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SaveDraft {
    /// The first one defines `handler`
    files: Vec<File>,
}

/// A version of the script.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Promote {
    /// Its number
    #[schema(minimum = 1)]
    version: i64,
}

/// The version to go back from.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RollBack {
    /// Number of the live version, so that a request that is sent twice goes back once
    #[schema(minimum = 1)]
    from: i64,
}

/// List scripts
#[utoipa::path(get, path = "/tenants/{tenant}/scripts", tag = "scripts", params(PageQuery),
    responses((status = 200, description = "Scripts by name", body = Page<Script>)))]
pub(super) async fn list_scripts(
    scope: InTenant,
    InQuery(page): InQuery<PageQuery>,
) -> Result<Json<Page<Script>>, ApiError> {
    let (limit, after) = page.bounds()?;
    let scripts = scope.db.scripts().list_scripts_after(scope.id(), after.as_deref(), limit + 1).await?;
    Ok(Json(Page::new(scripts, limit, |script| script.name.to_string(), Script::from)))
}

/// Create a script
#[utoipa::path(post, path = "/tenants/{tenant}/scripts", tag = "scripts", request_body = NewScript,
    responses((status = 201, description = "Created", body = Script)))]
pub(super) async fn create_script(
    State(control): State<Control>,
    scope: InTenant,
    Json(NewScript { name }): Json<NewScript>,
) -> Result<Created<Script>, ApiError> {
    let files = [SourceFile { name: MAIN_FILE.to_owned(), content: BOILERPLATE.as_bytes().to_vec() }];
    let draft = to_stored(&files)?;
    check_room(&control, &scope, draft.len()).await?;
    let script = scope.db.scripts().create_script(scope.id(), &name, &draft).await?;
    Ok(Created(script.into()))
}

/// Show a script
#[utoipa::path(get, path = "/tenants/{tenant}/scripts/{script}", tag = "scripts",
    responses((status = 200, description = "The script", body = Script)))]
pub(super) async fn show_script(
    scope: InTenant,
    InPath((_, name)): InPath<(TenantName, ScriptName)>,
) -> Result<Json<Script>, ApiError> {
    Ok(Json(find_script(&scope.db, scope.id(), &name).await?.into()))
}

/// Delete a script that no endpoint leads to, with its versions, draft and state
#[utoipa::path(delete, path = "/tenants/{tenant}/scripts/{script}", tag = "scripts",
    responses((status = 204, description = "Deleted"), (status = 409, description = "Endpoints lead to it")))]
pub(super) async fn delete_script(
    scope: InTenant,
    InPath((_, name)): InPath<(TenantName, ScriptName)>,
) -> Result<StatusCode, ApiError> {
    let script = find_script(&scope.db, scope.id(), &name).await?;
    scope.db.scripts().delete_script(scope.id(), script.id, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Show a script's draft
#[utoipa::path(get, path = "/tenants/{tenant}/scripts/{script}/draft", tag = "scripts",
    responses((status = 200, description = "The draft, with an `ETag`", body = Draft)))]
pub(super) async fn show_draft(
    scope: InTenant,
    InPath((_, name)): InPath<(TenantName, ScriptName)>,
) -> Result<Tagged<Draft>, ApiError> {
    let script = find_script(&scope.db, scope.id(), &name).await?;
    let draft = find_draft(&scope.db, scope.id(), &script).await?;
    let files = from_stored(&draft)?.into_iter().map(File::from).collect();
    Ok(Tagged(draft.revision, Draft { files, updated_at: time(draft.updated_at_ms) }))
}

/// Save a script's draft; nothing is run
#[utoipa::path(put, path = "/tenants/{tenant}/scripts/{script}/draft", tag = "scripts", request_body = SaveDraft,
    params(("if-match" = Option<String>, Header, description = "`ETag` of the draft that this one replaces")),
    responses((status = 200, description = "Saved", body = Draft), (status = 412, description = "Somebody else saved it")))]
pub(super) async fn save_draft(
    State(control): State<Control>,
    scope: InTenant,
    InPath((_, name)): InPath<(TenantName, ScriptName)>,
    Expected(expected): Expected,
    Json(SaveDraft { files }): Json<SaveDraft>,
) -> Result<Tagged<Draft>, ApiError> {
    let script = find_script(&scope.db, scope.id(), &name).await?;
    let files = source_files(files)?;
    let stored = to_stored(&files)?;
    check_room(&control, &scope, stored.len()).await?;
    let draft = scope.db.drafts().set_draft(scope.id(), script.id, &name, &stored, expected).await?;
    let files = files.into_iter().map(File::from).collect();
    Ok(Tagged(draft.revision, Draft { files, updated_at: time(draft.updated_at_ms) }))
}

/// Make a version the live one, which endpoints serve unless they are pinned to another
#[utoipa::path(put, path = "/tenants/{tenant}/scripts/{script}/live-version", tag = "scripts", request_body = Promote,
    responses((status = 200, description = "Promoted", body = Script)))]
pub(super) async fn promote_version(
    scope: InTenant,
    InPath((_, name)): InPath<(TenantName, ScriptName)>,
    Json(Promote { version: number }): Json<Promote>,
) -> Result<Json<Script>, ApiError> {
    let script = find_script(&scope.db, scope.id(), &name).await?;
    let version = find_whole_version(&scope.db, scope.id(), &script, number).await?;
    scope.db.scripts().set_live_version(scope.id(), &script, version.id, number, None).await?;
    Ok(Json(find_script(&scope.db, scope.id(), &name).await?.into()))
}

/// Make the version live again that was live before this one
#[utoipa::path(post, path = "/tenants/{tenant}/scripts/{script}/roll-back", tag = "scripts", request_body = RollBack,
    responses((status = 200, description = "Rolled back", body = Script),
              (status = 412, description = "Another version is live")))]
pub(super) async fn roll_back(
    scope: InTenant,
    InPath((_, name)): InPath<(TenantName, ScriptName)>,
    Json(RollBack { from }): Json<RollBack>,
) -> Result<Json<Script>, ApiError> {
    let script = find_script(&scope.db, scope.id(), &name).await?;
    let Some((live, _)) = script.live_version.filter(|(_, number)| *number == from) else {
        return Err(ApiError::Stale);
    };
    let previous = scope.db.scripts().find_previous_version(scope.id(), script.id).await?;
    let (version, number) =
        previous.ok_or_else(|| ApiError::Invalid(format!("no other version of `{name}` was live before")))?;
    scope.db.scripts().set_live_version(scope.id(), &script, version, number, Some(live)).await?;
    Ok(Json(find_script(&scope.db, scope.id(), &name).await?.into()))
}

pub(super) async fn find_script(db: &Db, tenant: TenantId, name: &ScriptName) -> Result<ScriptRow, ApiError> {
    let script = db.scripts().find_script(tenant, name).await?;
    script.ok_or_else(|| ApiError::Unknown { what: "script", name: name.to_string() })
}

pub(super) async fn find_version(
    db: &Db,
    tenant: TenantId,
    script: &ScriptRow,
    number: i64,
) -> Result<VersionRow, ApiError> {
    let version = db.versions().find_version_numbered(tenant, script.id, number).await?;
    version.ok_or_else(|| ApiError::Unknown { what: "version", name: format!("{number} of script {}", script.name) })
}

/// The same, if its source is still there.
pub(super) async fn find_whole_version(
    db: &Db,
    tenant: TenantId,
    script: &ScriptRow,
    number: i64,
) -> Result<VersionRow, ApiError> {
    let version = find_version(db, tenant, script, number).await?;
    match version.purged_at_ms {
        Some(_) => Err(ApiError::Purged { script: script.name.clone(), version: number }),
        None => Ok(version),
    }
}

async fn find_draft(db: &Db, tenant: TenantId, script: &ScriptRow) -> Result<DraftRow, ApiError> {
    let draft = db.drafts().find_draft(tenant, script.id).await?;
    draft.ok_or_else(|| ApiError::Unknown { what: "draft of script", name: script.name.to_string() })
}

/// The files of a script's draft.
pub(super) async fn draft_files(db: &Db, tenant: TenantId, script: &ScriptRow) -> Result<Vec<SourceFile>, ApiError> {
    from_stored(&find_draft(db, tenant, script).await?)
}

/// Checks what can be told without running anything.
pub(super) fn source_files(files: Vec<File>) -> Result<Vec<SourceFile>, ApiError> {
    if files.is_empty() || files.len() > SCRIPT_FILES_MAX {
        return Err(ApiError::Invalid(format!("a script has 1 to {SCRIPT_FILES_MAX} files, not {}", files.len())));
    }
    let files = files.into_iter().map(SourceFile::try_from).collect::<Result<Vec<_>, _>>()?;
    let bytes: usize = files.iter().map(|file| file.content.len()).sum();
    if bytes > SCRIPT_BYTES_MAX {
        return Err(ApiError::Invalid(format!("a script has at most {SCRIPT_BYTES_MAX} bytes, not {bytes}")));
    }
    let mut names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(ApiError::Invalid(format!("the file `{}` is there twice", pair[0]))),
        None => Ok(files),
    }
}

impl TryFrom<File> for SourceFile {
    type Error = ApiError;

    fn try_from(file: File) -> Result<Self, ApiError> {
        let File { name, text, base64 } = file;
        let name_shown = shown(&name);
        if !is_file_name(&name) {
            return Err(ApiError::Invalid(format!("`{name_shown}` is no relative path of a file")));
        }
        let content = match (text, base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(base64)) => STANDARD
                .decode(base64)
                .map_err(|error| ApiError::Invalid(format!("the file `{name_shown}` is not base64: {error}")))?,
            (Some(_), Some(_)) | (None, None) => {
                return Err(ApiError::Invalid(format!("the file `{name_shown}` needs either `text` or `base64`")));
            }
        };
        Ok(Self { name, content })
    }
}

impl From<SourceFile> for File {
    fn from(file: SourceFile) -> Self {
        let SourceFile { name, content } = file;
        match String::from_utf8(content) {
            Ok(text) => Self { name, text: Some(text), base64: None },
            Err(error) => Self { name, text: None, base64: Some(STANDARD.encode(error.as_bytes())) },
        }
    }
}

impl From<ScriptRow> for Script {
    fn from(script: ScriptRow) -> Self {
        let ScriptRow { id, name, latest_version, live_version, created_at_ms } = script;
        let number = |version: Option<(_, i64)>| version.map(|(_, number)| number);
        Self {
            id: id.0,
            name,
            latest_version: number(latest_version),
            live_version: number(live_version),
            created_at: time(created_at_ms),
        }
    }
}

fn to_stored(files: &[SourceFile]) -> Result<String, ApiError> {
    let files: Vec<_> = files.iter().map(|file| (file.name.as_str(), STANDARD.encode(&file.content))).collect();
    serde_json::to_string(&files).map_err(|error| ApiError::Host(error.to_string()))
}

fn from_stored(draft: &DraftRow) -> Result<Vec<SourceFile>, ApiError> {
    let unreadable = |error: &dyn std::fmt::Display| ApiError::Host(format!("a draft cannot be read: {error}"));
    let files: Vec<(String, String)> = serde_json::from_str(&draft.files).map_err(|error| unreadable(&error))?;
    let file = |(name, content): (String, String)| {
        let content = STANDARD.decode(content).map_err(|error| unreadable(&error))?;
        Ok(SourceFile { name, content })
    };
    files.into_iter().map(file).collect()
}
