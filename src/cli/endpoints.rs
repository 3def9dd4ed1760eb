//! `pqhost endpoint`: what callers reach.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    cli::{
        args::{
            Switch,
            endpoints::{BackendArgs, EndpointCommand, SetArgs, TableArg},
        },
        client::{Client, Target, in_tenant},
        output::Output,
    },
    domain::endpoint::{EndpointSettings, TableSource},
};

/// Fields of an endpoint that are its own, in the API's words.
const OWN: [&str; 9] = ["methods", "route", "script", "version", "source", "auth", "enabled", "record", "settings"];

pub(super) async fn endpoint(target: &Target, command: EndpointCommand, output: Output) -> Result<()> {
    let client = Client::new(target, output).await?;
    match command {
        EndpointCommand::Create { tenant, method, route, script, backend, auth, version, record, settings } => {
            let mut body = json!({
                "methods": method.to_string(), "route": route.to_string(), "auth": auth, "record": record,
            });
            let BackendArgs { table, source } = backend;
            if let Some(script) = script {
                body["script"] = json!(script);
                body["version"] = json!(version);
            }
            if let Some(source) = source_of(table, source.as_deref())? {
                body["source"] = source;
            }
            if let Some(path) = settings {
                body["settings"] = json!(read_toml::<EndpointSettings>(&path)?);
            }
            let created = client.post(&in_tenant(&tenant, &["endpoints"]), &body).await?;
            let sentence = format!("created endpoint {method} /{tenant}{route} for {} ({auth})", answering(&created));
            output.done(&sentence, &created);
        }
        EndpointCommand::Set(args) => set(&client, args, output).await?,
        EndpointCommand::Enable { tenant, id, switch } => {
            let path = in_tenant(&tenant, &["endpoints", &id.to_string()]);
            let on = switch == Switch::On;
            let replaced = change(&client, &path, |wanted| wanted["enabled"] = json!(on)).await?;
            let state = if on { "answers" } else { "is switched off" };
            output.done(&format!("endpoint {id} {state}"), &replaced);
        }
        EndpointCommand::Record { tenant, id, switch } => {
            let path = in_tenant(&tenant, &["endpoints", &id.to_string()]);
            let on = switch == Switch::On;
            let replaced = change(&client, &path, |wanted| wanted["record"] = json!(on)).await?;
            let sentence = match switch {
                Switch::On => format!("requests of endpoint {id} and their answers are kept from now on"),
                Switch::Off => {
                    format!("requests of endpoint {id} are no longer kept; those that are stay as long as the log")
                }
            };
            output.done(&sentence, &replaced);
        }
        EndpointCommand::Show { tenant, id } => {
            let endpoint = client.get(&in_tenant(&tenant, &["endpoints", &id.to_string()])).await?;
            output.done(&serde_json::to_string_pretty(&endpoint)?, &endpoint);
        }
        EndpointCommand::Delete { tenant, id } => {
            client.delete(&in_tenant(&tenant, &["endpoints", &id.to_string()])).await?;
            output.done(&format!("deleted endpoint {id} of tenant `{tenant}`"), &json!({ "id": id }));
        }
        EndpointCommand::List { tenant } => {
            let mut endpoints = client.list(&in_tenant(&tenant, &["endpoints"])).await?;
            for endpoint in &mut endpoints {
                endpoint["answered_by"] = answering(endpoint).into();
            }
            let headings = ["id", "methods", "route", "answered_by", "version", "auth", "enabled", "record"];
            output.items(&headings, &endpoints);
        }
    }
    Ok(())
}

/// Changes what answers for an endpoint, for whom, and its settings.
async fn set(client: &Client, args: SetArgs, output: Output) -> Result<()> {
    let SetArgs { tenant, id, script, backend, auth, version, live, settings } = args;
    let path = in_tenant(&tenant, &["endpoints", &id.to_string()]);
    let source = source_of(backend.table, backend.source.as_deref())?;
    let settings = settings.map(|path| read_toml::<EndpointSettings>(&path)).transpose()?;
    let replaced = change(client, &path, |wanted| {
        if let Some(script) = script {
            // It was pinned to a version of the script that it had.
            if wanted["script"] != script.as_str() {
                wanted["version"] = Value::Null;
            }
            (wanted["script"], wanted["source"]) = (json!(script), Value::Null);
        }
        if let Some(source) = source {
            // What only a script has goes with it.
            (wanted["script"], wanted["version"], wanted["record"]) = (Value::Null, Value::Null, json!(false));
            wanted["source"] = source;
        }
        if live {
            wanted["version"] = Value::Null;
        }
        if let Some(version) = version {
            wanted["version"] = json!(version);
        }
        if let Some(auth) = auth {
            wanted["auth"] = json!(auth);
        }
        if let Some(settings) = settings {
            wanted["settings"] = json!(settings);
        }
    });
    let replaced = replaced.await?;
    output.done(&format!("endpoint {id} is answered by {}", answering(&replaced)), &replaced);
    Ok(())
}

/// Replaces an endpoint by what it is, but for a change.
async fn change(client: &Client, path: &str, change: impl FnOnce(&mut Value)) -> Result<Value> {
    let (endpoint, tag) = client.get_tagged(path).await?;
    let mut wanted = json!({});
    for name in OWN {
        wanted[name] = endpoint[name].clone();
    }
    change(&mut wanted);
    client.replace(path, &wanted, tag.as_ref()).await
}

fn source_of(table: Option<TableArg>, file: Option<&Path>) -> Result<Option<Value>> {
    Ok(match (table, file) {
        (Some(TableArg { connection, schema, table }), None) => {
            Some(json!({ "connection": connection, "schema": schema, "table": table }))
        }
        (None, Some(path)) => Some(json!(read_toml::<TableSource>(path)?)),
        (None, None) => None,
        (Some(_), Some(_)) => bail!("give --table or --source, not both"),
    })
}

fn read_toml<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    toml::from_str(&text).with_context(|| format!("`{}` is not valid", path.display()))
}

/// What answers for an endpoint, for people.
pub(super) fn answering(endpoint: &Value) -> String {
    let source = &endpoint["source"];
    match (endpoint["script"].as_str(), source["table"].as_str()) {
        (Some(script), _) => format!("script `{script}`"),
        (None, Some(table)) => format!("table `{table}`"),
        (None, None) => "a query".to_owned(),
    }
}
