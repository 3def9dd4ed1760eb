//! Commands about callers of endpoints: their tokens, and who signs them.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::cli::{
    args::{IssuerCommand, SigningKeyCommand, TokenCommand},
    client::{Client, Target, in_tenant, path},
    nouns::show_token,
    output::Output,
};

pub(super) async fn token(target: &Target, command: TokenCommand, output: Output) -> Result<()> {
    let client = Client::new(target, output).await?;
    match command {
        TokenCommand::Create { tenant, expires, endpoints, methods, claims, reach, name } => {
            let mut body = json!({ "name": name, "methods": methods, "expires_in": expires.as_secs() });
            if let Some(filters) = reach.filters()? {
                body["row_filters"] = json!(filters);
            }
            if !endpoints.is_empty() {
                body["endpoints"] = json!(endpoints);
            }
            if let Some(claims) = claims {
                body["claims"] = serde_json::from_str(&claims).context("--claims is no JSON")?;
            }
            show_token(&client.post(&in_tenant(&tenant, &["tokens"]), &body).await?, output)?;
        }
        TokenCommand::Revoke { tenant, id } => {
            client.delete(&in_tenant(&tenant, &["tokens", &id])).await?;
            output.done(&format!("revoked token {id}"), &json!({ "id": id }));
        }
        TokenCommand::List { tenant } => {
            let tokens = client.list(&in_tenant(&tenant, &["tokens"])).await?;
            let columns = [
                "id",
                "name",
                "endpoints",
                "methods",
                "claims",
                "row_filters",
                "expires_at",
                "last_used_at",
                "revoked_at",
            ];
            output.items(&columns, &tokens);
        }
    }
    Ok(())
}

pub(super) async fn signing_key(target: &Target, command: SigningKeyCommand, output: Output) -> Result<()> {
    let client = Client::new(target, output).await?;
    match command {
        SigningKeyCommand::Create { tenant, algorithm, overlap, no_overlap } => {
            let seconds = overlap.map(|overlap| overlap.as_secs()).or(no_overlap.then_some(0));
            let mut body = json!({ "algorithm": algorithm });
            if let Some(seconds) = seconds {
                body["overlap"] = json!(seconds);
            }
            let created = client.post(&in_tenant(&tenant, &["signing-keys"]), &body).await?;
            let kid = created["kid"].as_str().context("the host gave no `kid`")?;
            output.done(&format!("tokens of tenant `{tenant}` are signed with {algorithm} key {kid}"), &created);
        }
        SigningKeyCommand::Delete { tenant, kid } => {
            client.delete(&in_tenant(&tenant, &["signing-keys", &kid])).await?;
            let sentence = format!("deleted key {kid} of tenant `{tenant}`; its tokens are refused");
            output.done(&sentence, &json!({ "kid": kid }));
        }
        SigningKeyCommand::List { tenant } => {
            let keys = client.list(&in_tenant(&tenant, &["signing-keys"])).await?;
            output.items(&["kid", "algorithm", "signs", "created_at", "verifies_until"], &keys);
        }
    }
    Ok(())
}

pub(super) async fn issuer(target: &Target, command: IssuerCommand, output: Output) -> Result<()> {
    let client = Client::new(target, output).await?;
    match command {
        IssuerCommand::Add { tenant, issuer, jwks_url, audience, reach } => {
            let mut body = json!({ "issuer": issuer, "jwks_url": jwks_url, "audience": audience });
            if let Some(filters) = reach.filters()? {
                body["row_filters"] = json!(filters);
            }
            let added: Value = client.post(&in_tenant(&tenant, &["issuers"]), &body).await?;
            output.done(&format!("tenant `{tenant}` accepts tokens of `{issuer}`"), &added);
        }
        IssuerCommand::Remove { tenant, issuer } => {
            let query = format!("{}?issuer={}", in_tenant(&tenant, &["issuers"]), &path(&[&issuer])[1..]);
            client.delete(&query).await?;
            let sentence = format!("tenant `{tenant}` accepts tokens of `{issuer}` no longer");
            output.done(&sentence, &json!({ "issuer": issuer }));
        }
        IssuerCommand::List { tenant } => {
            let issuers = client.list(&in_tenant(&tenant, &["issuers"])).await?;
            output.items(&["issuer", "jwks_url", "audience", "row_filters", "created_at"], &issuers);
        }
    }
    Ok(())
}
