//! `pqhost deploy`: makes a host match a script's folder, after showing what that takes.
//!
//! The folder's `pqhost.toml` names the tenant, the script, its endpoints, and the secrets and connections that it may use. What a host has of them and
//! the file does not is taken away; what belongs to other scripts is left alone. Endpoints that a table or query answers belong to no script, so only
//! those are changed that the file names, and none is taken away.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    cli::{
        args::DeployArgs,
        client::{Client, Target, in_tenant, is_missing},
        endpoints::answering,
        output::{Output, confirm},
        scripts::{self, Publishing},
        sources::{DEPLOY_FILE, ScriptSource},
    },
    domain::{
        endpoint::{EndpointSettings, TableSource},
        exchange::AuthMode,
        names::{ConnectionName, ScriptName, SecretName, TenantName},
        route::{MethodSet, RoutePattern},
        script::SourceFile,
    },
    publish::content_hash,
};

/// What stands in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    tenant: TenantName,
    script: ScriptName,
    /// Secrets that are for some scripts only, this one among them.
    #[serde(default)]
    secrets: Vec<SecretName>,
    /// Connections that are for some scripts only, this one among them.
    #[serde(default)]
    connections: Vec<ConnectionName>,
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
    /// The table or query that answers instead of the script.
    source: Option<TableSource>,
    /// The version that it is pinned to.
    version: Option<i64>,
    /// Whether requests and answers are kept.
    #[serde(default)]
    record: bool,
    #[serde(default = "yes")]
    enabled: bool,
    #[serde(default)]
    settings: EndpointSettings,
}

fn yes() -> bool {
    true
}

/// What of an endpoint may differ from the file.
const COMPARED: [&str; 7] = ["script", "source", "auth", "version", "record", "enabled", "settings"];

/// Something that a script may use if it is granted to it: what the API calls a list of it, one of it, and using it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Grantable {
    list: &'static str,
    noun: &'static str,
    verb: &'static str,
    create: &'static str,
}

const SECRETS: Grantable = Grantable { list: "secrets", noun: "secret", verb: "read", create: "set" };
const CONNECTIONS: Grantable = Grantable { list: "connections", noun: "connection", verb: "use", create: "create" };

/// Endpoints of a host, by their methods and routes.
type Endpoints<'a> = BTreeMap<(String, String), &'a Value>;

/// One step towards what is wanted.
#[derive(Debug, PartialEq)]
enum Step {
    Publish {
        first: bool,
    },
    Grant {
        of: Grantable,
        name: String,
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
        of: Grantable,
        name: String,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = |wanted: &Value| {
            let text = |name: &str| wanted[name].as_str().unwrap_or_default().to_owned();
            let pinned = wanted["version"].as_i64().map(|number| format!(", version {number}")).unwrap_or_default();
            let recorded = if wanted["record"] == true { ", recorded" } else { "" };
            let off = if wanted["enabled"] == false { ", switched off" } else { "" };
            let set: Vec<_> =
                wanted["settings"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            let set = if set.is_empty() { String::new() } else { format!("; {}", set.join(", ")) };
            let source = match &wanted["source"] {
                Value::Null => String::new(),
                _ => format!(", {}", answering(wanted)),
            };
            format!(
                "endpoint {} {} ({}{source}{pinned}{recorded}{off}{set})",
                text("methods"),
                text("route"),
                text("auth")
            )
        };
        match self {
            Self::Publish { first: true } => write!(f, "+ publish the script"),
            Self::Publish { first: false } => write!(f, "~ publish a new version"),
            Self::CreateEndpoint(wanted) => write!(f, "+ {}", endpoint(wanted)),
            Self::ReplaceEndpoint { wanted, .. } => write!(f, "~ {}", endpoint(wanted)),
            Self::DeleteEndpoint { was, .. } => write!(f, "- endpoint {was}"),
            Self::Grant { of: Grantable { noun, verb, .. }, name } => write!(f, "+ may {verb} {noun} {name}"),
            Self::Promote { version: Some(version) } => write!(f, "~ serve version {version}"),
            Self::Promote { version: None } => write!(f, "~ serve it"),
            Self::Revoke { of: Grantable { noun, verb, .. }, name } => {
                write!(f, "- may no longer {verb} {noun} {name}")
            }
        }
    }
}

pub(super) async fn deploy(target: &Target, args: DeployArgs, output: Output) -> Result<()> {
    let DeployArgs { folder, plan: plans_only, yes, message } = args;
    let wanted = read(&folder)?;
    let files = ScriptSource::new(folder.clone()).read(output)?;
    let client = Client::new(target, output).await?;
    let steps = plan(&client, &wanted, &files).await?;
    let shown: Vec<_> = steps.iter().map(ToString::to_string).collect();
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
        confirm("nothing was changed: look at the plan, and run it with --yes", output)?;
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

/// What it takes to make the host match.
async fn plan(client: &Client, wanted: &Wanted, files: &[SourceFile]) -> Result<Vec<Step>> {
    let Wanted { tenant, script, secrets, connections, endpoints } = wanted;
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
    let secrets: Vec<_> = secrets.iter().map(SecretName::as_str).collect();
    let connections: Vec<_> = connections.iter().map(ConnectionName::as_str).collect();
    let (mut grants, mut revocations) = plan_grants(client, tenant, script, SECRETS, &secrets).await?;
    let (more_grants, more_revocations) = plan_grants(client, tenant, script, CONNECTIONS, &connections).await?;
    grants.extend(more_grants);
    revocations.extend(more_revocations);
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
    let (mut ours, mut nobodys): (Endpoints<'_>, Endpoints<'_>) = (BTreeMap::new(), BTreeMap::new());
    for endpoint in &known {
        let text = |name: &str| endpoint[name].as_str().unwrap_or_default().to_owned();
        let of = match endpoint["script"].as_str() {
            Some(name) if name == script.as_str() => &mut ours,
            None => &mut nobodys,
            Some(_) => continue,
        };
        of.insert((text("methods"), text("route")), endpoint);
    }
    let mut changes = Vec::new();
    for WantedEndpoint { methods, route, auth, source, version, record, enabled, settings } in endpoints {
        let script = source.is_none().then_some(script);
        let body = json!({
            "methods": methods, "route": route, "script": script, "source": source, "auth": auth, "version": version, "record": record,
            "enabled": enabled, "settings": settings,
        });
        let address = (methods.clone(), route.clone());
        match ours.remove(&address).or_else(|| nobodys.remove(&address)) {
            None => changes.push(Step::CreateEndpoint(body)),
            Some(endpoint) if COMPARED.iter().all(|name| endpoint[name] == body[name]) => {}
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
    is_missing(error) && client.get(&in_tenant(tenant, &[])).await.is_ok()
}

/// Whoever may not grant anything is told before anything is changed, not when half of it is done.
async fn expect_owner(client: &Client, tenant: &TenantName) -> Result<()> {
    let role = client.get(&in_tenant(tenant, &[])).await?["role"].take();
    if role != "owner" {
        bail!(
            "`{DEPLOY_FILE}` changes which secrets and connections the script may use, which needs the role owner: nothing was changed"
        );
    }
    Ok(())
}

/// Steps that let the script use what it is to use, and those that let it do so no longer.
async fn plan_grants(
    client: &Client,
    tenant: &TenantName,
    script: &ScriptName,
    of: Grantable,
    wanted: &[&str],
) -> Result<(Vec<Step>, Vec<Step>)> {
    let Grantable { list, noun, create, .. } = of;
    let known = client.list(&in_tenant(tenant, &[list])).await?;
    for name in wanted {
        if !known.iter().any(|one| one["name"] == *name) {
            bail!(
                "tenant `{tenant}` has no {noun} `{name}`: make it first with `pqhost {noun} {create} {tenant} {name}`"
            );
        }
    }
    let (mut grants, mut revocations) = (Vec::new(), Vec::new());
    for one in known {
        // What is for all scripts is nobody's to grant.
        let Some(readers) = one["scripts"].as_array() else { continue };
        let name = one["name"].as_str().unwrap_or_default().to_owned();
        let reads = readers.iter().any(|name| name == script.as_str());
        match (reads, wanted.contains(&name.as_str())) {
            (false, true) => grants.push(Step::Grant { of, name }),
            (true, false) => revocations.push(Step::Revoke { of, name }),
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
        Step::Grant { of, name } => {
            client.put(&in_tenant(tenant, &[of.list, &name, "readers", script.as_str()]), &json!({})).await?;
        }
        Step::Revoke { of, name } => {
            client.delete(&in_tenant(tenant, &[of.list, &name, "readers", script.as_str()])).await?;
        }
    }
    Ok(())
}
