//! Commands that create, change and list what a tenant has, by way of the control API.

use std::{fs, io::Read as _, path::Path};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    cli::{
        args::{ConnectionCommand, EgressCommand, TenantCommand},
        client::{Client, Target, in_tenant, path},
        output::Output,
    },
    domain::names::{ConnectionName, TenantName},
};

/// Largest file of header fields, in bytes.
const HEADERS_BYTES_MAX: u64 = 64 << 10;

pub(super) async fn tenant(target: &Target, command: TenantCommand, output: Output) -> Result<()> {
    let client = match command {
        TenantCommand::Create { .. } => Client::new_or_first(target, output).await?,
        TenantCommand::Delete { .. } | TenantCommand::List | TenantCommand::SetDefault { .. } => {
            Client::new(target, output).await?
        }
    };
    match command {
        TenantCommand::Create { name } => {
            let created = client.post("/tenants", &json!({ "name": name })).await?;
            output.done(&format!("created tenant `{name}`"), &created);
        }
        TenantCommand::Delete { name } => {
            client.delete(&in_tenant(&name, &[])).await?;
            output.done(&format!("deleted tenant `{name}`"), &json!({ "name": name }));
        }
        TenantCommand::List => output.items(&["name", "created_at"], &client.list("/tenants").await?),
        TenantCommand::SetDefault { name, connection } => {
            let body = json!({ "default_connection": connection });
            let tenant = client.patch(&in_tenant(&name, &[]), &body).await?;
            output.done(&format!("the default connection of tenant `{name}` is `{connection}`"), &tenant);
        }
    }
    Ok(())
}

pub(super) async fn connection(target: &Target, command: ConnectionCommand, output: Output) -> Result<()> {
    let client = Client::new(target, output).await?;
    match command {
        ConnectionCommand::Create { tenant, name, url, header, headers_from } => {
            let body = json!({ "name": name, "url": url, "headers": headers(header, headers_from.as_deref())? });
            let mut created = client.post(&in_tenant(&tenant, &["connections"]), &body).await?;
            created["warnings"] = remarks(&client, &tenant, &name, &created).await?;
            output.done(&format!("created connection `{name}` of tenant `{tenant}`"), &created);
            warn(&created["warnings"], output);
        }
        ConnectionCommand::Replace { tenant, name, url, header, headers_from } => {
            let body = json!({ "url": url, "headers": headers(header, headers_from.as_deref())? });
            let mut replaced = client.put(&in_tenant(&tenant, &["connections", name.as_str()]), &body).await?;
            replaced["warnings"] = remarks(&client, &tenant, &name, &replaced).await?;
            output.done(&format!("replaced connection `{name}` of tenant `{tenant}`"), &replaced);
            warn(&replaced["warnings"], output);
        }
        ConnectionCommand::SetReaders { tenant, name, scripts, no_script: _, all_scripts } => {
            let path = in_tenant(&tenant, &["connections", name.as_str(), "readers"]);
            let scripts = (!all_scripts).then_some(scripts);
            client.put(&path, &json!({ "scripts": scripts })).await?;
            let who = match &scripts {
                None => "all scripts".to_owned(),
                Some(scripts) if scripts.is_empty() => "no script".to_owned(),
                Some(scripts) => {
                    let names: Vec<_> = scripts.iter().map(|script| format!("`{script}`")).collect();
                    format!("only {}", names.join(", "))
                }
            };
            let sentence = format!("connection `{name}` of tenant `{tenant}` may be used by: {who}");
            output.done(&sentence, &json!({ "name": name, "scripts": scripts }));
        }
        ConnectionCommand::Tables { tenant, name } => {
            let tables = client.list(&in_tenant(&tenant, &["connections", name.as_str(), "tables"])).await?;
            output.items(&["schema", "name"], &tables);
        }
        ConnectionCommand::Preview { tenant, name, schema, table, limit } => {
            let path = in_tenant(&tenant, &["connections", name.as_str(), "tables", &schema, &table]);
            show_preview(&client.get(&format!("{path}?limit={limit}")).await?, output);
        }
        ConnectionCommand::Test { tenant, name } => {
            let tested = client.post(&in_tenant(&tenant, &["connections", name.as_str(), "test"]), &json!({})).await?;
            let is_reachable = tested["is_reachable"] == true;
            output.done(if is_reachable { "the database answers" } else { "the database cannot be used" }, &tested);
            warn(&tested["remarks"], output);
        }
        ConnectionCommand::Delete { tenant, name } => {
            client.delete(&in_tenant(&tenant, &["connections", name.as_str()])).await?;
            output.done(&format!("deleted connection `{name}` of tenant `{tenant}`"), &json!({ "name": name }));
        }
        ConnectionCommand::List { tenant } => {
            let connections = client.list(&in_tenant(&tenant, &["connections"])).await?;
            output.items(&["id", "name", "kind", "is_default", "scripts", "created_at"], &connections);
        }
    }
    Ok(())
}

/// Rows below the names of their columns; for machines all that the API says.
fn show_preview(preview: &Value, output: Output) {
    if output.json {
        output.done("", preview);
        return;
    }
    let columns = preview["columns"].as_array().into_iter().flatten();
    let names: Vec<&str> = columns.filter_map(|column| column["name"].as_str()).collect();
    output.items(&names, preview["rows"].as_array().map_or(&[], Vec::as_slice));
}

/// What is wrong or risky with a database that was just named.
async fn remarks(client: &Client, tenant: &TenantName, name: &ConnectionName, connection: &Value) -> Result<Value> {
    if connection["kind"] != "sql" {
        return Ok(json!([]));
    }
    let path = in_tenant(tenant, &["connections", name.as_str(), "test"]);
    Ok(client.post(&path, &json!({})).await?["remarks"].take())
}

fn warn(remarks: &Value, output: Output) {
    if output.json {
        return; // they are part of the result
    }
    for remark in remarks.as_array().into_iter().flatten().filter_map(Value::as_str) {
        output.progress(&format!("warning: {remark}"));
    }
}

/// Header fields of flags and of a file.
fn headers(mut headers: Vec<String>, file: Option<&Path>) -> Result<Vec<String>> {
    let Some(file) = file else { return Ok(headers) };
    let mut text = Zeroizing::new(String::new());
    let read = if file == Path::new("-") {
        std::io::stdin().take(HEADERS_BYTES_MAX).read_to_string(&mut text)
    } else {
        fs::File::open(file).and_then(|file| file.take(HEADERS_BYTES_MAX).read_to_string(&mut text))
    };
    read.with_context(|| format!("cannot read header fields from `{}`", file.display()))?;
    headers.extend(text.lines().map(str::to_owned));
    Ok(headers)
}

pub(super) async fn egress(target: &Target, command: EgressCommand, output: Output) -> Result<()> {
    let client = Client::new(target, output).await?;
    match command {
        EgressCommand::Allow { tenant, host } => {
            let body = json!({ "host": host.to_string() });
            let allowed = client.post(&in_tenant(&tenant, &["allowed-hosts"]), &body).await?;
            output.done(&format!("scripts of tenant `{tenant}` may call `{host}`"), &allowed);
        }
        EgressCommand::Deny { tenant, host } => {
            let host = host.to_string();
            let escaped_host = path(&[&host]);
            let query = format!("{}?host={}", in_tenant(&tenant, &["allowed-hosts"]), &escaped_host[1..]);
            client.delete(&query).await?;
            let sentence = format!("scripts of tenant `{tenant}` may no longer call `{host}`");
            output.done(&sentence, &json!({ "host": host }));
        }
        EgressCommand::List { tenant } => {
            output.items(&["host", "created_at"], &client.list(&in_tenant(&tenant, &["allowed-hosts"])).await?);
        }
    }
    Ok(())
}

/// A token that was created: its text is the result, the rest is for people.
pub(super) fn show_token(created: &Value, output: Output) -> Result<()> {
    let text = |name: &str| created[name].as_str().with_context(|| format!("the host gave no `{name}`"));
    output.done(text("token")?, created);
    if !output.json {
        let (id, expires_at) = (text("id")?, text("expires_at")?);
        output.progress(&format!("token {id} is valid until {expires_at}; it is not shown again"));
    }
    Ok(())
}
