//! Commands that create and list what a host knows. They work beside a running host, which sees the change at once.

use std::{path::Path, time::Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::{
    app::{Guests, Workspace},
    auth::TokenRequest,
    cli::{
        args::{ConnectionCommand, EndpointCommand, ScriptCommand, TenantCommand, TokenCommand},
        egress::create_http_connection,
        output::{Output, escaped},
        serve::{compiling, data_dir},
        sources::ScriptSource,
    },
    config::Config,
    data::{self, ConnectionUrl},
    db::{connections::ConnectionKind, endpoints::NewEndpoint, tenants::Tenant, versions::LoadMode},
    domain::{
        exchange::AuthMode,
        names::{ConnectionName, ScriptName, TenantName},
        route::{MethodSet, RoutePattern, RouteTable},
        script::SourceFile,
    },
    egress::HttpConnection,
    invoke::directory::url_context,
    publish::{PublishError, Publisher},
};

/// A time of the control database as people and machines read it.
pub(super) fn time(ms: i64) -> Value {
    chrono::DateTime::from_timestamp_millis(ms)
        .map_or(Value::Null, |time| Value::from(time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)))
}

pub(super) async fn find_tenant(workspace: &Workspace, name: &TenantName) -> Result<Tenant> {
    let tenant = workspace.db.tenants().find_tenant(name).await?;
    tenant.with_context(|| format!("there is no tenant `{name}`: create it with `pqhost tenant create {name}`"))
}

pub(super) async fn tenant(data: &Path, command: TenantCommand, output: Output) -> Result<()> {
    let workspace = Workspace::open(&data_dir(data)).await?;
    match command {
        TenantCommand::Create { name } => {
            let id = workspace.db.tenants().create_tenant(&name).await?;
            output.done(&format!("created tenant `{name}`"), &json!({ "id": id, "name": name }));
        }
        TenantCommand::List => {
            let tenants = workspace.db.tenants().list_tenants().await?;
            let rows: Vec<_> = tenants
                .iter()
                .map(|tenant| vec![json!(tenant.id), json!(tenant.name), time(tenant.created_at_ms)])
                .collect();
            output.table(&["id", "name", "created_at"], &rows);
        }
    }
    Ok(())
}

pub(super) async fn connection(directory: &Path, command: ConnectionCommand, output: Output) -> Result<()> {
    let workspace = Workspace::open(&data_dir(directory)).await?;
    match command {
        ConnectionCommand::Create { tenant, name, url, header, headers_from } => {
            let tenant = find_tenant(&workspace, &tenant).await?;
            let (id, warnings) = if HttpConnection::is_http(&url) {
                (create_http_connection(&workspace, &tenant, &name, &url, header, headers_from).await?, Vec::new())
            } else if header.is_empty() && headers_from.is_none() {
                let id = create_connection(&workspace, &tenant, &name, &url).await?;
                (id, data::examine(&ConnectionUrl::parse(&url)?, &workspace.data.sqlite()).await)
            } else {
                bail!("--header and --headers-from go with a connection whose URL is https:// or http://");
            };
            let sentence = format!("created connection `{name}` of tenant `{}`", tenant.name);
            output.done(&sentence, &json!({ "id": id, "name": name, "warnings": warnings }));
            if !output.json {
                for warning in &warnings {
                    output.progress(&format!("warning: {}", escaped(warning)));
                }
            }
        }
        ConnectionCommand::List { tenant } => {
            let tenant = find_tenant(&workspace, &tenant).await?;
            let connections = workspace.db.connections().list_connections(tenant.id).await?;
            let rows: Vec<_> = connections
                .iter()
                .map(|row| {
                    let default = tenant.default_connection == Some(row.id);
                    vec![
                        json!(row.id),
                        json!(row.name),
                        json!(row.kind.to_string()),
                        json!(default),
                        time(row.created_at_ms),
                    ]
                })
                .collect();
            output.table(&["id", "name", "kind", "default", "created_at"], &rows);
        }
    }
    Ok(())
}

pub(super) async fn create_connection(
    workspace: &Workspace,
    tenant: &Tenant,
    name: &ConnectionName,
    url: &str,
) -> Result<crate::domain::names::ConnectionId> {
    ConnectionUrl::parse(url)?;
    let seal = |id| workspace.vault.seal(&url_context(id), url.as_bytes());
    let id = workspace.db.connections().create_connection(tenant.id, name, ConnectionKind::Sql, seal).await?;
    if tenant.default_connection.is_none() {
        workspace.db.tenants().set_default_connection(tenant.id, id).await?;
    }
    Ok(id)
}

pub(super) async fn script(data: &Path, command: ScriptCommand, output: Output) -> Result<()> {
    let workspace = Workspace::open(&data_dir(data)).await?;
    match command {
        ScriptCommand::Publish { tenant, scripts } => {
            let scripts = named_files(&scripts)?;
            let tenant = find_tenant(&workspace, &tenant).await?;
            let config = Config::new(data_dir(data));
            let (guests, _) = Guests::start(&config, &workspace, || compiling(output))?;
            for (name, file) in scripts {
                let files = ScriptSource::new(file.into()).read(output)?;
                publish(&guests.publisher, &tenant, &name, files, output).await?;
            }
        }
        ScriptCommand::List { tenant } => {
            let tenant = find_tenant(&workspace, &tenant).await?;
            let scripts = workspace.db.scripts().list_scripts(tenant.id).await?;
            let version = |script: &crate::db::scripts::Script| script.latest_version.map(|(_, number)| number);
            let rows: Vec<_> = scripts
                .iter()
                .map(|script| {
                    vec![json!(script.id), json!(script.name), json!(version(script)), time(script.created_at_ms)]
                })
                .collect();
            output.table(&["id", "name", "version", "created_at"], &rows);
        }
    }
    Ok(())
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

/// Publishes a script.
pub(super) async fn publish(
    publisher: &Publisher,
    tenant: &Tenant,
    name: &ScriptName,
    files: Vec<SourceFile>,
    output: Output,
) -> Result<()> {
    let start = Instant::now();
    let published = match publisher.publish(tenant.id, name, files).await {
        Ok(published) => published,
        Err(PublishError::Rejected(failure)) => {
            output.progress(escaped(&failure.traceback).trim_end());
            bail!("`{name}` was not published: {}: {}", failure.type_name, escaped(&failure.message));
        }
        Err(error) => return Err(error).with_context(|| format!("`{name}` was not published")),
    };
    let publish_ms = start.elapsed().as_secs_f64() * 1e3;
    if !published.log.is_empty() {
        output.progress(escaped(&published.log).trim_end());
    }
    let version = &published.version;
    let mut sentence = format!("published `{name}` version {} in {publish_ms:.0} ms", version.number);
    if let (LoadMode::PerRequest, Some(reason)) = (version.loaded.mode, &version.loaded.reason) {
        let reason = escaped(reason);
        sentence.push_str(&format!(
            "\nnote: its module-level code runs in every request, which costs some milliseconds, because {reason};\n      \
             move that into a function to have it run once"
        ));
    }
    let image_bytes = version.loaded.image.as_ref().map(|image| image.bytes);
    output.done(
        &sentence,
        &json!({
            "script": name, "version": version.number, "publish_ms": publish_ms, "image_bytes": image_bytes,
            "load": version.loaded.mode.to_string(), "load_reason": version.loaded.reason,
        }),
    );
    Ok(())
}

pub(super) async fn endpoint(data: &Path, command: EndpointCommand, output: Output) -> Result<()> {
    let workspace = Workspace::open(&data_dir(data)).await?;
    match command {
        EndpointCommand::Create { tenant, method, route, script, auth } => {
            let tenant = find_tenant(&workspace, &tenant).await?;
            let id = create_endpoint(&workspace, &tenant, method, &route, &script, auth).await?;
            let sentence = format!("created endpoint {method} /{}{route} for script `{script}` ({auth})", tenant.name);
            output.done(&sentence, &json!({ "id": id, "method": method.to_string(), "route": route.to_string() }));
        }
        EndpointCommand::List { tenant } => {
            let tenant = find_tenant(&workspace, &tenant).await?;
            let endpoints = workspace.db.endpoints().list_endpoints(tenant.id).await?;
            let rows: Vec<_> = endpoints
                .iter()
                .map(|e| vec![json!(e.id), json!(e.methods), json!(e.route), json!(e.script_name), json!(e.auth)])
                .collect();
            output.table(&["id", "methods", "route", "script", "auth"], &rows);
        }
    }
    Ok(())
}

pub(super) async fn create_endpoint(
    workspace: &Workspace,
    tenant: &Tenant,
    methods: MethodSet,
    route: &RoutePattern,
    script: &ScriptName,
    auth: AuthMode,
) -> Result<crate::domain::names::EndpointId> {
    let found = workspace.db.scripts().find_script(tenant.id, script).await?;
    let found = found.with_context(|| {
        format!(
            "tenant `{0}` has no script `{script}`: publish it with `pqhost script publish {0} {script} FILE`",
            tenant.name
        )
    })?;
    let mut table = RouteTable::default();
    for existing in workspace.db.endpoints().list_endpoints(tenant.id).await? {
        table.insert(existing.methods.parse()?, existing.route.parse()?, ())?;
    }
    table.insert(methods, route.clone(), ())?;
    let new = NewEndpoint { methods: methods.to_string(), route: route.to_string(), script: found.id, auth };
    Ok(workspace.db.endpoints().create_endpoint(tenant.id, new).await?)
}

pub(super) async fn token(data: &Path, command: TokenCommand, output: Output) -> Result<()> {
    let workspace = Workspace::open(&data_dir(data)).await?;
    match command {
        TokenCommand::Create { tenant, expires, endpoint, name } => {
            let tenant = find_tenant(&workspace, &tenant).await?;
            if let Some(route) = &endpoint {
                let endpoints = workspace.db.endpoints().list_endpoints(tenant.id).await?;
                if !endpoints.iter().any(|endpoint| endpoint.route == *route) {
                    bail!("tenant `{}` has no endpoint with the route `{route}`", tenant.name);
                }
            }
            let request = TokenRequest { name, expires_in: expires, endpoint_route: endpoint };
            let token = workspace.auth.create_token(tenant.id, &tenant.name, request).await?;
            let text = token.text.expose_str()?;
            let expires_at = time(token.expires_at_ms);
            output.done(text, &json!({ "id": token.id, "token": text, "expires_at": expires_at }));
            if !output.json {
                output.progress(&format!(
                    "token {} is valid until {}; it is not shown again",
                    token.id,
                    expires_at.as_str().unwrap_or("-")
                ));
            }
        }
        TokenCommand::Revoke { tenant, id } => {
            let tenant = find_tenant(&workspace, &tenant).await?;
            if !workspace.db.tokens().revoke_token(tenant.id, &id).await? {
                bail!("tenant `{}` has no token `{}` that is still valid", tenant.name, escaped(&id));
            }
            output.done(&format!("revoked token {id}"), &json!({ "id": id }));
        }
        TokenCommand::List { tenant } => {
            let tenant = find_tenant(&workspace, &tenant).await?;
            let tokens = workspace.db.tokens().list_tokens(tenant.id).await?;
            let rows: Vec<_> = tokens
                .iter()
                .map(|token| {
                    let revoked = token.revoked_at_ms.map_or(Value::Null, time);
                    vec![
                        json!(token.id),
                        json!(token.name),
                        json!(token.endpoint_route),
                        time(token.expires_at_ms),
                        revoked,
                    ]
                })
                .collect();
            output.table(&["id", "name", "endpoint", "expires_at", "revoked_at"], &rows);
        }
    }
    Ok(())
}
