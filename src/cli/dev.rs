//! `pqhost dev`: one handler file, in the same sandbox as in production, reloaded whenever it is saved.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::{
    cli::{
        args::DevArgs,
        logs, nouns,
        output::Output,
        serve::{self, data_dir},
    },
    config::Config,
    db::tenants::Tenant,
    domain::{
        exchange::AuthMode,
        names::{ScriptName, TenantName},
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
    let content = std::fs::read(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
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
    let reloading = tokio::spawn(publisher.reload(file, content, tenant.clone(), script, output));
    let showing = tokio::spawn(logs::follow(workspace.db.clone(), tenant.id, output));
    ready.serve_beside(vec![reloading, showing]).await
}

struct Publishing {
    publisher: Arc<Publisher>,
    invoker: Invoker,
}

impl Publishing {
    /// Publishes the file now and whenever it changes. Runs until aborted.
    async fn reload(self, file: PathBuf, mut content: Vec<u8>, tenant: Tenant, script: ScriptName, output: Output) {
        let mut modified = modified_at(&file);
        loop {
            match nouns::publish(&self.publisher, &tenant, &script, content.clone(), output).await {
                Ok(()) => self.invoker.forget(),
                Err(error) => output.progress(&format!("{error:#}; the last good version goes on serving")),
            }
            content = loop {
                tokio::time::sleep(POLL).await;
                let now = modified_at(&file);
                if now == modified {
                    continue;
                }
                modified = now;
                match std::fs::read(&file) {
                    Ok(new) if new != content => break new,
                    // Saved without a change, or caught while an editor replaces it: look again.
                    Ok(_) | Err(_) => {}
                }
            };
        }
    }
}

fn modified_at(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}
