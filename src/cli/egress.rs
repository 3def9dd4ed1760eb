//! `pqhost egress`, and what `pqhost connection create` does for HTTP APIs.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    app::Workspace,
    cli::{
        args::EgressCommand,
        nouns::{find_tenant, time},
        output::Output,
        serve::data_dir,
    },
    db::{connections::ConnectionKind, tenants::Tenant},
    domain::names::{ConnectionId, ConnectionName},
    egress::HttpConnection,
    invoke::directory::url_context,
};

/// Largest file of header fields, in bytes.
const HEADERS_BYTES_MAX: u64 = 64 << 10;

pub(super) async fn egress(data: &Path, command: EgressCommand, output: Output) -> Result<()> {
    let workspace = Workspace::open(&data_dir(data)).await?;
    match command {
        EgressCommand::Allow { tenant, host } => {
            let tenant = find_tenant(&workspace, &tenant).await?;
            workspace.db.egress().allow(tenant.id, &host).await?;
            let sentence = format!("scripts of tenant `{}` may call `{host}`", tenant.name);
            output.done(&sentence, &json!({ "host": host.to_string() }));
        }
        EgressCommand::Deny { tenant, host } => {
            let tenant = find_tenant(&workspace, &tenant).await?;
            if !workspace.db.egress().deny(tenant.id, &host).await? {
                bail!("tenant `{}` has no rule `{host}`: see `pqhost egress list {0}`", tenant.name);
            }
            let sentence = format!("scripts of tenant `{}` may no longer call `{host}`", tenant.name);
            output.done(&sentence, &json!({ "host": host.to_string() }));
        }
        EgressCommand::List { tenant } => {
            let tenant = find_tenant(&workspace, &tenant).await?;
            let rules = workspace.db.egress().list_rules(tenant.id).await?;
            let rows: Vec<_> = rows_of(rules.iter().map(|row| (row.rule.to_string(), row.created_at_ms)));
            output.table(&["host", "created_at"], &rows);
        }
    }
    Ok(())
}

fn rows_of(rules: impl Iterator<Item = (String, i64)>) -> Vec<Vec<serde_json::Value>> {
    rules.map(|(rule, created_at_ms)| vec![json!(rule), time(created_at_ms)]).collect()
}

/// Seals and stores an HTTP connection.
pub(super) async fn create_http_connection(
    workspace: &Workspace,
    tenant: &Tenant,
    name: &ConnectionName,
    url: &str,
    mut headers: Vec<String>,
    file: Option<PathBuf>,
) -> Result<ConnectionId> {
    if let Some(file) = file {
        headers.extend(read_lines(&file)?);
    }
    let connection = HttpConnection::new(url, headers.iter().map(String::as_str))?;
    let text = connection.to_sealed_text();
    let seal = |id| workspace.vault.seal(&url_context(id), text.as_bytes());
    Ok(workspace.db.connections().create_connection(tenant.id, name, ConnectionKind::Http, seal).await?)
}

/// Lines of a file, or of standard input for `-`.
fn read_lines(file: &Path) -> Result<Vec<String>> {
    let mut text = Zeroizing::new(String::new());
    let read = if file == Path::new("-") {
        std::io::stdin().take(HEADERS_BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(HEADERS_BYTES_MAX).read_to_string(&mut text))
    };
    read.with_context(|| format!("cannot read header fields from `{}`", file.display()))?;
    Ok(text.lines().map(str::to_owned).collect())
}
