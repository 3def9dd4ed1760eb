//! `pqhost script`: publishing, comparing, going back.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use serde_json::{Value, json};

use crate::{
    cli::{
        args::ScriptCommand,
        client::{Client, Refused, Target, in_tenant, is_missing},
        output::Output,
        sources::ScriptSource,
    },
    domain::{
        names::{ScriptName, TenantName},
        script::{SourceFile, VENDORED_FOLDER, is_file_name},
    },
};

pub(super) async fn script(target: &Target, command: ScriptCommand, output: Output) -> Result<()> {
    let client = Client::new(target, output).await?;
    match command {
        ScriptCommand::Publish { tenant, scripts, message, no_promote } => {
            for (name, file) in named_files(&scripts)? {
                let files = ScriptSource::new(file.into()).read(output)?;
                let publishing = Publishing { message: &message, promote: !no_promote };
                let published = publish(&client, &tenant, &name, files, publishing, output).await?;
                output.done(&published.sentence, &published.value);
                if no_promote && !output.json {
                    let number = &published.value["version"];
                    output.progress(&format!("it is not live: `pqhost script promote {tenant} {name} {number}`"));
                }
            }
        }
        ScriptCommand::List { tenant } => {
            let scripts = client.list(&in_tenant(&tenant, &["scripts"])).await?;
            output.items(&["id", "name", "live_version", "latest_version", "created_at"], &scripts);
        }
        ScriptCommand::Versions { tenant, script } => {
            let versions = client.list(&in_tenant(&tenant, &["scripts", script.as_str(), "versions"])).await?;
            output.items(&["number", "author", "message", "load", "created_at"], &versions);
        }
        ScriptCommand::Push { tenant, script, folder } => push(&client, &tenant, &script, folder, output).await?,
        ScriptCommand::Diff(_) => {} // has exit codes of its own: see `diff`
        ScriptCommand::Pull { tenant, script, folder, version } => {
            pull(&client, &tenant, &script, version, &folder, output).await?;
        }
        ScriptCommand::Promote { tenant, script, version } => {
            let path = in_tenant(&tenant, &["scripts", script.as_str(), "live-version"]);
            let promoted = client.put(&path, &json!({ "version": version })).await?;
            output.done(&format!("version {version} of `{script}` is live"), &promoted);
        }
        ScriptCommand::RollBack { tenant, script } => {
            let path = in_tenant(&tenant, &["scripts", script.as_str(), "roll-back"]);
            let live = client.get(&in_tenant(&tenant, &["scripts", script.as_str()])).await?["live_version"].take();
            let back = client.post(&path, &json!({ "from": live })).await?;
            output.done(&format!("version {} of `{script}` is live again", back["live_version"]), &back);
        }
        ScriptCommand::Purge { tenant, script, version } => {
            client.delete(&in_version(&tenant, &script, version, "files")).await?;
            let purged = json!({ "script": script, "version": version });
            output.done(&format!("destroyed the source of version {version} of `{script}`"), &purged);
        }
        ScriptCommand::Preview { tenant, script, version } => {
            let preview = client.post(&in_version(&tenant, &script, version, "previews"), &json!({})).await?;
            output.done(preview["path"].as_str().unwrap_or_default(), &preview);
        }
        ScriptCommand::Previews { tenant, script } => {
            let previews = client.list(&in_tenant(&tenant, &["scripts", script.as_str(), "previews"])).await?;
            output.items(&["id", "version", "created_at", "expires_at"], &previews);
        }
        ScriptCommand::RevokePreview { tenant, script, id } => {
            client.delete(&in_tenant(&tenant, &["scripts", script.as_str(), "previews", &id])).await?;
            output.done(&format!("revoked preview {id}"), &json!({ "id": id }));
        }
        ScriptCommand::Delete { tenant, script } => {
            client.delete(&in_tenant(&tenant, &["scripts", script.as_str()])).await?;
            output.done(&format!("deleted script `{script}` of tenant `{tenant}`"), &json!({ "name": script }));
        }
    }
    Ok(())
}

pub(super) fn in_version(tenant: &TenantName, script: &ScriptName, version: i64, what: &str) -> String {
    in_tenant(tenant, &["scripts", script.as_str(), "versions", &version.to_string(), what])
}

/// `NAME FILE` or `NAME=FILE...`.
fn named_files(scripts: &[String]) -> Result<Vec<(ScriptName, String)>> {
    if let [name, file] = scripts
        && !name.contains('=')
    {
        return Ok(vec![(name.parse()?, file.clone())]);
    }
    let named = scripts.iter().map(|script| {
        let (name, file) =
            script.split_once('=').with_context(|| format!("`{script}` is not of the form NAME=FILE"))?;
        Ok((name.parse()?, file.to_owned()))
    });
    named.collect()
}

/// How a script is published.
#[derive(Debug, Clone, Copy)]
pub(super) struct Publishing<'a> {
    /// What is new, for people.
    pub(super) message: &'a str,
    /// Whether it is served at once.
    pub(super) promote: bool,
}

/// What was published, for people and for machines.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) sentence: String,
    pub(super) value: Value,
}

/// Publishes a script. What its module-level code printed, and the traceback if it failed, are shown.
pub(super) async fn publish(
    client: &Client,
    tenant: &TenantName,
    name: &ScriptName,
    files: Vec<SourceFile>,
    Publishing { message, promote }: Publishing<'_>,
    output: Output,
) -> Result<Published> {
    let start = Instant::now();
    let path = in_tenant(tenant, &["scripts", name.as_str(), "versions"]);
    let files: Vec<_> = files.into_iter().map(file).collect();
    let body = json!({ "files": files, "message": message, "promote": promote });
    let version = match client.post(&path, &body).await {
        Ok(version) => version,
        Err(error) => {
            if let Some(traceback) = error.downcast_ref::<Refused>().and_then(|refused| refused.traceback.as_ref()) {
                output.progress(traceback.trim_end());
            }
            bail!("`{name}`: {error:#}");
        }
    };
    let publish_ms = start.elapsed().as_secs_f64() * 1e3;
    if let Some(log) = version["log"].as_str().filter(|log| !log.is_empty()) {
        output.progress(log.trim_end());
    }
    let number = &version["number"];
    let mut sentence = format!("published `{name}` version {number} in {publish_ms:.0} ms");
    if let Some(reason) = version["load_reason"].as_str() {
        sentence.push_str(&format!(
            "\nnote: its module-level code runs in every request, strangers' too, which costs some milliseconds, and whatever it writes to\n      \
             databases, state and other hosts it writes each time, because {reason};\n      \
             move that into a function to have the rest run once"
        ));
    }
    for suspect in version["suspects"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        sentence.push_str(&format!("\nwarning: {suspect}"));
    }
    if version["suspects"].as_array().is_some_and(|suspects| !suspects.is_empty()) {
        sentence.push_str(&format!(
            "\n         whoever may author reads it in this version for good: keep it with `pqhost secret set`, publish anew, and then\n         \
             `pqhost script purge {tenant} {name} {number}`"
        ));
    }
    let value = json!({
        "script": name, "version": number, "publish_ms": publish_ms, "image_bytes": version["image_bytes"],
        "load": version["load"], "load_reason": version["load_reason"], "suspects": version["suspects"], "is_live": version["is_live"],
    });
    Ok(Published { sentence, value })
}

/// A file as the API takes it.
fn file(file: SourceFile) -> Value {
    let SourceFile { name, content } = file;
    match String::from_utf8(content) {
        Ok(text) => json!({ "name": name, "text": text }),
        Err(error) => json!({ "name": name, "base64": STANDARD.encode(error.as_bytes()) }),
    }
}

/// Writes a version's files, but for fetched packages, into a folder.
async fn pull(
    client: &Client,
    tenant: &TenantName,
    script: &ScriptName,
    version: Option<i64>,
    folder: &Path,
    output: Output,
) -> Result<()> {
    let version = match version {
        Some(version) => version,
        None => live_version(client, tenant, script).await?,
    };
    let mut written = Vec::new();
    for SourceFile { name, content } in download(client, tenant, script, version).await? {
        if !is_file_name(&name) || name.split('/').any(|part| part.starts_with('.')) {
            bail!("the host gave a file that cannot be written: `{name}`");
        }
        let path = folder.join(&name);
        let failed = || format!("cannot write `{}`", path.display());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(failed)?;
        }
        fs::write(&path, content).with_context(failed)?;
        written.push(name);
    }
    let sentence = format!("wrote version {version} of `{script}` into `{}`: {}", folder.display(), written.join(", "));
    output.done(&sentence, &json!({ "version": version, "files": written }));
    Ok(())
}

/// Number of the script's live version.
pub(super) async fn live_version(client: &Client, tenant: &TenantName, script: &ScriptName) -> Result<i64> {
    let shown = client.get(&in_tenant(tenant, &["scripts", script.as_str()])).await?;
    shown["live_version"].as_i64().with_context(|| format!("no version of `{script}` is live: use --version"))
}

/// A version's files, but for packages, which publishing fetches.
pub(super) async fn download(
    client: &Client,
    tenant: &TenantName,
    script: &ScriptName,
    version: i64,
) -> Result<Vec<SourceFile>> {
    let download = client.get(&in_version(tenant, script, version, "files")).await?;
    let mut files = Vec::new();
    for file in download["files"].as_array().into_iter().flatten() {
        let name = file["name"].as_str().unwrap_or_default().to_owned();
        if is_package(&name) {
            continue;
        }
        let content = match (file["text"].as_str(), file["base64"].as_str()) {
            (Some(text), _) => text.as_bytes().to_vec(),
            (None, Some(base64)) => STANDARD.decode(base64).context("the host gave a file that is no base64")?,
            (None, None) => bail!("the host gave a file without content"),
        };
        files.push(SourceFile { name, content });
    }
    Ok(files)
}

/// Whether a file is part of a package that the script requires.
fn is_package(name: &str) -> bool {
    name.split('/').next() == Some(VENDORED_FOLDER)
}

/// Tag of the draft that a script does not have.
const NO_DRAFT: HeaderValue = HeaderValue::from_static("\"0\"");

/// Saves a folder as the draft, for `publish` of the control API or another author to go on with.
async fn push(
    client: &Client,
    tenant: &TenantName,
    script: &ScriptName,
    folder: PathBuf,
    output: Output,
) -> Result<()> {
    let files = ScriptSource::new(folder).read(output)?;
    let names: Vec<_> = files.iter().map(|file| file.name.clone()).filter(|name| !is_package(name)).collect();
    let path = in_tenant(tenant, &["scripts", script.as_str()]);
    if let Err(error) = client.get(&path).await {
        if !is_missing(&error) {
            return Err(error);
        }
        client.post(&in_tenant(tenant, &["scripts"]), &json!({ "name": script })).await?;
    }
    let files: Vec<_> = files.into_iter().map(file).collect();
    let path = format!("{path}/draft");
    let tag = match client.get_tagged(&path).await {
        Ok((_, tag)) => tag,
        Err(error) if is_missing(&error) => Some(NO_DRAFT),
        Err(error) => return Err(error),
    };
    client.replace(&path, &json!({ "files": files }), tag.as_ref()).await?;
    let sentence = format!("saved the draft of `{script}`: {}; nothing is published", names.join(", "));
    output.done(&sentence, &json!({ "script": script, "files": names }));
    Ok(())
}
