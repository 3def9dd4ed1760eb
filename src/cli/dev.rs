//! `pqhost dev`: one script, in the same sandbox as in production, reloaded whenever it is saved.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use serde_json::json;

use crate::{
    cli::{
        args::DevArgs,
        client::{Client, in_tenant},
        logs,
        output::Output,
        scripts::{self, Publishing},
        serve,
        sources::ScriptSource,
    },
    config::{Config, DataDir},
    domain::{
        names::{ScriptName, TenantName},
        script::SourceFile,
    },
};

/// The tenant, and the script of it, that `pqhost dev` serves. Connections are made with `pqhost connection create dev ...`.
const NAME: &str = "dev";

const ROUTE: &str = "/**";

/// How often the file is looked at. Works on every file system, unlike notifications.
const POLL: Duration = Duration::from_millis(200);

pub(super) async fn dev(data: DataDir, args: DevArgs, output: Output) -> Result<()> {
    let DevArgs { file, port, egress_private } = args;
    let mut source = ScriptSource::new(file.clone());
    let files = source.read(output)?;
    let mut config = Config::new(data);
    config.ingress.set_port(port);
    config.control.set_port(0);
    config.dev = true;
    config.egress_private = egress_private;
    let ready = serve::start(config, output).await?;

    let client = Arc::new(Client::of_host(&ready.host));
    let tenant: TenantName = NAME.parse()?;
    let script: ScriptName = NAME.parse()?;
    set_up(&client, &tenant, &script).await?;
    ready.admit_callers();
    let url = format!("{}/{NAME}/", ready.ingress_url());
    output.done(&format!("serving `{}` at {url}", file.display()), &json!({ "url": url }));

    let newest = client.get(&format!("{}?limit=1", in_tenant(&tenant, &["invocations"]))).await?;
    let newest = newest["items"][0]["seq"].as_i64().unwrap_or(0);
    let reloading = tokio::spawn(reload(Arc::clone(&client), source, files, tenant.clone(), script, output));
    let showing = tokio::spawn(async move {
        if let Err(error) = logs::follow(&client, &tenant, newest, output).await {
            output.progress(&format!("cannot show the log any longer: {error:#}"));
        }
    });
    ready.serve_beside(vec![reloading, showing]).await
}

/// The tenant, the script and its endpoint, if they are not there yet.
async fn set_up(client: &Client, tenant: &TenantName, script: &ScriptName) -> Result<()> {
    if !client.list("/tenants").await?.iter().any(|known| known["name"] == tenant.as_str()) {
        client.post("/tenants", &json!({ "name": tenant })).await?;
    }
    if client.list(&in_tenant(tenant, &["scripts"])).await?.is_empty() {
        client.post(&in_tenant(tenant, &["scripts"]), &json!({ "name": script })).await?;
    }
    let endpoints = in_tenant(tenant, &["endpoints"]);
    if client.list(&endpoints).await?.is_empty() {
        let endpoint = json!({ "methods": "ANY", "route": ROUTE, "script": script, "auth": "public" });
        client.post(&endpoints, &endpoint).await?;
    }
    Ok(())
}

/// Publishes the script now and whenever it changes. Runs until aborted.
async fn reload(
    client: Arc<Client>,
    mut source: ScriptSource,
    mut files: Vec<SourceFile>,
    tenant: TenantName,
    script: ScriptName,
    output: Output,
) {
    let mut stamps = source.stamps();
    loop {
        let publishing = Publishing { message: "", promote: true };
        match scripts::publish(&client, &tenant, &script, files.clone(), publishing, output).await {
            Ok(published) => output.done(&published.sentence, &published.value),
            Err(error) => output.progress(&format!("{error:#}; the last good version goes on serving")),
        }
        files = loop {
            tokio::time::sleep(POLL).await;
            let now = source.stamps();
            if now == stamps {
                continue;
            }
            stamps = now;
            match source.read(output) {
                Ok(new) if new != files => break new,
                // Saved without a change, or caught while an editor replaces it: look again.
                Ok(_) => {}
                Err(error) => output.progress(&format!("{error:#}")),
            }
        };
    }
}
