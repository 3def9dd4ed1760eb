//! Commands on consumer keys.

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use crate::cli::{
    args::{KeyArgs, KeyCommand},
    client::{Client, Target, in_tenant},
    output::Output,
};

pub(super) async fn key(target: &Target, command: KeyCommand, output: Output) -> Result<()> {
    let client = Client::new(target, output).await?;
    match command {
        KeyCommand::Create { tenant, expires, terms } => {
            let mut body = body(terms)?;
            body["expires_in"] = json!(expires.as_secs());
            let created = client.post(&in_tenant(&tenant, &["consumer-keys"]), &body).await?;
            let text = |name: &str| created[name].as_str().with_context(|| format!("the host gave no `{name}`"));
            output.done(text("key")?, &created);
            if !output.json {
                let (id, expires_at) = (text("id")?, text("expires_at")?);
                output.progress(&format!("key {id} is valid until {expires_at}; it is not shown again"));
            }
        }
        KeyCommand::Replace { tenant, id, terms } => {
            let path = in_tenant(&tenant, &["consumer-keys", &id]);
            let (_, tag) = client.get_tagged(&path).await?;
            let replaced = client.replace(&path, &body(terms)?, tag.as_ref()).await?;
            output.done(&format!("replaced what key {id} is for"), &replaced);
        }
        KeyCommand::Show { tenant, id } => {
            let key = client.get(&in_tenant(&tenant, &["consumer-keys", &id])).await?;
            output.done(&serde_json::to_string_pretty(&key)?, &key);
        }
        KeyCommand::Revoke { tenant, id } => {
            client.delete(&in_tenant(&tenant, &["consumer-keys", &id])).await?;
            output.done(&format!("revoked key {id}"), &json!({ "id": id }));
        }
        KeyCommand::List { tenant } => {
            let keys = client.list(&in_tenant(&tenant, &["consumer-keys"])).await?;
            let headings =
                ["id", "name", "endpoints", "methods", "row_filters", "expires_at", "last_used_at", "revoked_at"];
            output.items(&headings, &keys);
        }
    }
    Ok(())
}

fn body(terms: KeyArgs) -> Result<Value> {
    let KeyArgs { name, endpoints, methods, attributes, reach, rate } = terms;
    Ok(json!({
        "name": name,
        "endpoints": (!endpoints.is_empty()).then_some(endpoints),
        "methods": methods,
        "attributes": attributes.into_iter().collect::<Map<_, _>>(),
        "row_filters": reach.filters()?,
        "rate_limit": rate,
    }))
}
