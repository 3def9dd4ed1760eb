//! `pqhost dev`: one script, in the same sandbox as in production, reloaded whenever it is saved.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Result;
use serde_json::json;

use crate::{
    cli::{
        args::DevArgs,
        logs, nouns,
        output::Output,
        serve::{self, data_dir},
        sources::ScriptSource,
    },
    config::Config,
    db::tenants::Tenant,
    domain::{
        exchange::AuthMode,
        names::{ScriptName, TenantName},
        script::SourceFile,
    },
    invoke::Invoker,
    publish::Publisher,
};

/// The tenant, and the script of it, that `pqhost dev` serves. Connections are made with `pqhost connection create dev ...`.
const NAME: &str = "dev";

const ROUTE: &str = "/**";

/// How often the file is looked at. Works on every file system, unlike notifications.
const POLL: Duration = Duration::from_millis(200);

pub(super) async fn dev(data: &Path, args: DevArgs, output: Output) -> Result<()> {
    let DevArgs { file, port, egress_private } = args;
    let mut source = ScriptSource::new(file.clone());
    let files = source.read(output)?;
    let mut config = Config::new(data_dir(data));
    config.ingress.set_port(port);
    config.control.set_port(0);
    config.dev = true;
    config.egress_private = egress_private;
    let ready = serve::start(config, output).await?;

    let workspace = &ready.host.workspace;
    let name: TenantName = NAME.parse()?;
    if workspace.db.tenants().find_tenant(&name).await?.is_none() {
        workspace.db.tenants().create_tenant(&name).await?;
    }
    let tenant = nouns::find_tenant(workspace, &name).await?;
    let script: ScriptName = NAME.parse()?;
    workspace.db.scripts().ensure_script(tenant.id, &script).await?;
    if workspace.db.endpoints().list_endpoints(tenant.id).await?.is_empty() {
        nouns::create_endpoint(workspace, &tenant, "ANY".parse()?, &ROUTE.parse()?, &script, AuthMode::Public).await?;
    }
    ready.admit_callers();
    let url = format!("{}/{NAME}/", ready.ingress_url());
    output.done(&format!("serving `{}` at {url}", file.display()), &json!({ "url": url }));

    let publisher =
        Publishing { publisher: Arc::clone(&ready.host.guests.publisher), invoker: ready.host.invoker.clone() };
    let reloading = tokio::spawn(publisher.reload(source, files, tenant.clone(), script, output));
    let showing = tokio::spawn(logs::follow(workspace.db.clone(), tenant.id, output));
    ready.serve_beside(vec![reloading, showing]).await
}

struct Publishing {
    publisher: Arc<Publisher>,
    invoker: Invoker,
}

impl Publishing {
    /// Publishes the script now and whenever it changes. Runs until aborted.
    async fn reload(
        self,
        mut source: ScriptSource,
        mut files: Vec<SourceFile>,
        tenant: Tenant,
        script: ScriptName,
        output: Output,
    ) {
        let mut stamps = source.stamps();
        loop {
            match nouns::publish(&self.publisher, &tenant, &script, files.clone(), output).await {
                Ok(()) => self.invoker.forget(),
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
}
