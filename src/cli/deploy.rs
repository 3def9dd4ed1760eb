//! `pqhost deploy`: makes a host match a script's folder, after showing what that takes.
//!
//! The folder's `pqhost.toml` names the tenant, the script, its endpoints, and the secrets that it may read. What a host has of them and
//! the file does not is taken away; what belongs to other scripts is left alone.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{BufRead as _, IsTerminal as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    cli::{
        args::DeployArgs,
        client::{Client, Refused, Target, in_tenant},
        output::{Output, escaped},
        scripts::{self, Publishing},
        sources::ScriptSource,
    },
    domain::{
        exchange::AuthMode,
        names::{ScriptName, SecretName, TenantName},
        route::{MethodSet, RoutePattern},
        script::SourceFile,
    },
    publish::content_hash,
};

/// The file of a script's folder that says how it is to be served. It is not part of the script.
pub(super) const DEPLOY_FILE: &str = "pqhost.toml";

/// What stands in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    tenant: TenantName,
    script: ScriptName,
    /// Secrets that are for some scripts only, this one among them.
    #[serde(default)]
    secrets: Vec<SecretName>,
    #[serde(default)]
    endpoints: Vec<WantedEndpoint>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedEndpoint {
    methods: String,
    route: String,
    #[serde(default)]
    auth: AuthMode,
    /// The version that it is pinned to.
    version: Option<i64>,
}

/// One step towards what is wanted.
#[derive(Debug, PartialEq)]
enum Step {
    Publish {
        first: bool,
    },
    Grant {
        secret: String,
    },
    /// Serve a version: the one that was just published, unless it was there.
    Promote {
        version: Option<i64>,
    },
    CreateEndpoint(Value),
    ReplaceEndpoint {
        id: i64,
        wanted: Value,
    },
    DeleteEndpoint {
        id: i64,
        was: String,
    },
    Revoke {
        secret: String,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = |wanted: &Value| {
            let text = |name: &str| wanted[name].as_str().unwrap_or_default().to_owned();
            let pinned = wanted["version"].as_i64().map(|number| format!(", version {number}")).unwrap_or_default();
            format!("endpoint {} {} ({}{pinned})", text("methods"), text("route"), text("auth"))
        };
        match self {
            Self::Publish { first: true } => write!(f, "+ publish the script"),
            Self::Publish { first: false } => write!(f, "~ publish a new version"),
            Self::CreateEndpoint(wanted) => write!(f, "+ {}", endpoint(wanted)),
            Self::ReplaceEndpoint { wanted, .. } => write!(f, "~ {}", endpoint(wanted)),
            Self::DeleteEndpoint { was, .. } => write!(f, "- endpoint {was}"),
            Self::Grant { secret } => write!(f, "+ may read secret {secret}"),
            Self::Promote { version: Some(version) } => write!(f, "~ serve version {version}"),
            Self::Promote { version: None } => write!(f, "~ serve it"),
            Self::Revoke { secret } => write!(f, "- may no longer read secret {secret}"),
        }
    }
}

pub(super) async fn deploy(target: &Target, args: DeployArgs, output: Output) -> Result<()> {
    let DeployArgs { folder, plan: plans_only, yes, message } = args;
    let wanted = read(&folder)?;
    let files = ScriptSource::new(folder.clone()).read(output)?;
    let client = Client::new(target, output).await?;
    let steps = plan(&client, &wanted, &files).await?;
    let shown: Vec<_> = steps.iter().map(|step| escaped(&step.to_string())).collect();
    if !output.json {
        output.progress(&match shown.is_empty() {
            true => format!("`{}` of tenant `{}` is as `{DEPLOY_FILE}` says", wanted.script, wanted.tenant),
            false => format!("`{}` of tenant `{}`:\n  {}", wanted.script, wanted.tenant, shown.join("\n  ")),
        });
    }
    if plans_only || steps.is_empty() {
        if output.json {
            output.done("", &json!({ "steps": shown, "is_done": steps.is_empty() }));
        }
        return Ok(());
    }
    if !yes {
        confirm(output)?;
    }
    let mut published = None;
    for step in steps {
        take(&client, &wanted, &files, &message, step, &mut published, output).await?;
    }
    output.done("deployed", &json!({ "steps": shown, "is_done": true }));
    Ok(())
}

fn read(folder: &Path) -> Result<Wanted> {
    let path = folder.join(DEPLOY_FILE);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let mut wanted: Wanted = toml::from_str(&text).with_context(|| format!("`{}` is not valid", path.display()))?;
    for endpoint in &mut wanted.endpoints {
        // As the host writes them, so that they can be compared.
        endpoint.methods = endpoint.methods.parse::<MethodSet>()?.to_string();
        endpoint.route = endpoint.route.parse::<RoutePattern>()?.to_string();
    }
    Ok(wanted)
}

fn confirm(output: Output) -> Result<()> {
    if !std::io::stdin().is_terminal() {
        bail!("nothing was changed: look at the plan, and run it with --yes");
    }
    output.progress("go on? [y/N]");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
    if !answer.trim().eq_ignore_ascii_case("y") {
        bail!("nothing was changed");
    }
    Ok(())
}

/// What it takes to make the host match.
async fn plan(client: &Client, wanted: &Wanted, files: &[SourceFile]) -> Result<Vec<Step>> {
    let Wanted { tenant, script, secrets, endpoints } = wanted;
    let mut steps = Vec::new();
    let current = match client.get(&in_tenant(tenant, &["scripts", script.as_str()])).await {
        Ok(script) => Some(script),
        Err(error) if is_missing_script(&error, client, tenant).await => None,
        Err(error) => return Err(error),
    };
    let number = |field: &str| current.as_ref().and_then(|script| script[field].as_i64());
    let holds_files = async |number: Option<i64>| -> Result<bool> {
        let Some(number) = number else { return Ok(false) };
        let path = in_tenant(tenant, &["scripts", script.as_str(), "versions", &number.to_string()]);
        Ok(client.get(&path).await?["content_hash"] == content_hash(files))
    };
    let (grants, revocations) = plan_secrets(client, tenant, script, secrets).await?;
    let (live, latest) = (number("live_version"), number("latest_version"));
    // What a version reads it may read before it is served. A script must be there to be granted anything.
    if holds_files(live).await? {
        steps.extend(grants);
    } else if holds_files(latest).await? {
        steps.extend(grants);
        steps.push(Step::Promote { version: latest });
    } else {
        steps.push(Step::Publish { first: live.is_none() });
        steps.extend(grants);
        steps.push(Step::Promote { version: None });
    }

    let known = client.list(&in_tenant(tenant, &["endpoints"])).await?;
    let mut ours: BTreeMap<(String, String), &Value> = BTreeMap::new();
    for endpoint in known.iter().filter(|endpoint| endpoint["script"] == script.as_str()) {
        let text = |name: &str| endpoint[name].as_str().unwrap_or_default().to_owned();
        ours.insert((text("methods"), text("route")), endpoint);
    }
    let mut changes = Vec::new();
    for WantedEndpoint { methods, route, auth, version } in endpoints {
        let body = json!({ "methods": methods, "route": route, "script": script, "auth": auth, "version": version });
        match ours.remove(&(methods.clone(), route.clone())) {
            None => changes.push(Step::CreateEndpoint(body)),
            Some(endpoint) if endpoint["auth"] == body["auth"] && endpoint["version"] == body["version"] => {}
            Some(endpoint) => {
                changes.push(Step::ReplaceEndpoint { id: endpoint["id"].as_i64().unwrap_or_default(), wanted: body });
            }
        }
    }
    // What goes makes room for what comes.
    for ((methods, route), endpoint) in ours {
        let id = endpoint["id"].as_i64().unwrap_or_default();
        steps.push(Step::DeleteEndpoint { id, was: format!("{methods} {route}") });
    }
    steps.extend(changes);
    steps.extend(revocations);
    if steps.iter().any(|step| matches!(step, Step::Grant { .. } | Step::Revoke { .. })) {
        expect_owner(client, tenant).await?;
    }
    Ok(steps)
}

/// Whether it is the script that does not exist, not the tenant.
async fn is_missing_script(error: &anyhow::Error, client: &Client, tenant: &TenantName) -> bool {
    let is_missing = error.downcast_ref::<Refused>().is_some_and(|refused| refused.code == "not_found");
    is_missing && client.get(&in_tenant(tenant, &[])).await.is_ok()
}

/// Whoever may not grant secrets is told before anything is changed, not when half of it is done.
async fn expect_owner(client: &Client, tenant: &TenantName) -> Result<()> {
    let role = client.get(&in_tenant(tenant, &[])).await?["role"].take();
    if role != "owner" {
        bail!(
            "`{DEPLOY_FILE}` changes which secrets the script may read, which needs the role owner: nothing was changed"
        );
    }
    Ok(())
}

/// Steps that let the script read secrets, and those that let it do so no longer.
async fn plan_secrets(
    client: &Client,
    tenant: &TenantName,
    script: &ScriptName,
    wanted: &[SecretName],
) -> Result<(Vec<Step>, Vec<Step>)> {
    let known = client.list(&in_tenant(tenant, &["secrets"])).await?;
    for name in wanted {
        if !known.iter().any(|secret| secret["name"] == name.as_str()) {
            bail!("tenant `{tenant}` has no secret `{name}`: store it first with `pqhost secret set {tenant} {name}`");
        }
    }
    let (mut grants, mut revocations) = (Vec::new(), Vec::new());
    for secret in known {
        // Secrets for all scripts are nobody's to grant.
        let Some(readers) = secret["scripts"].as_array() else { continue };
        let name = secret["name"].as_str().unwrap_or_default().to_owned();
        let reads = readers.iter().any(|name| name == script.as_str());
        match (reads, wanted.iter().any(|wanted| wanted.as_str() == name)) {
            (false, true) => grants.push(Step::Grant { secret: name }),
            (true, false) => revocations.push(Step::Revoke { secret: name }),
            (true, true) | (false, false) => {}
        }
    }
    Ok((grants, revocations))
}

async fn take(
    client: &Client,
    wanted: &Wanted,
    files: &[SourceFile],
    message: &str,
    step: Step,
    published: &mut Option<i64>,
    output: Output,
) -> Result<()> {
    let Wanted { tenant, script, .. } = wanted;
    match step {
        Step::Publish { .. } => {
            let publishing = Publishing { message, promote: false };
            let publication = scripts::publish(client, tenant, script, files.to_vec(), publishing, output).await?;
            *published = publication.value["version"].as_i64();
            output.progress(&publication.sentence);
        }
        Step::Promote { version } => {
            let version = version.or(*published);
            client
                .put(&in_tenant(tenant, &["scripts", script.as_str(), "live-version"]), &json!({ "version": version }))
                .await?;
        }
        Step::CreateEndpoint(body) => _ = client.post(&in_tenant(tenant, &["endpoints"]), &body).await?,
        Step::ReplaceEndpoint { id, wanted } => {
            client.put(&in_tenant(tenant, &["endpoints", &id.to_string()]), &wanted).await?;
        }
        Step::DeleteEndpoint { id, .. } => {
            client.delete(&in_tenant(tenant, &["endpoints", &id.to_string()])).await?;
        }
        Step::Grant { secret } => {
            client.put(&in_tenant(tenant, &["secrets", &secret, "readers", script.as_str()]), &json!({})).await?;
        }
        Step::Revoke { secret } => {
            client.delete(&in_tenant(tenant, &["secrets", &secret, "readers", script.as_str()])).await?;
        }
    }
    Ok(())
}
