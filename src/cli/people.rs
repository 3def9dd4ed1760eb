//! Commands about people, their roles and tokens, and what they did.

use anyhow::Result;
use serde_json::json;

use crate::{
    cli::{
        args::{ApiTokenCommand, MemberCommand, OperatorTokenCommand, TokenArgs, UserCommand},
        client::{Client, Target, in_tenant, path},
        login::read_secret,
        nouns::show_token,
        output::Output,
    },
    domain::names::TenantName,
};

/// Changes shown of an audit log, at most.
const AUDIT_ENTRIES: u32 = 200;

pub(super) async fn user(target: &Target, command: UserCommand, output: Output) -> Result<()> {
    let client = Client::new(target, output).await?;
    match command {
        UserCommand::Create { email } => {
            let body = json!({ "email": email, "password": read_secret("password")?.as_str() });
            let created = client.post("/users", &body).await?;
            output.done(&format!("created user {email}"), &created);
        }
        UserCommand::SetPassword { email } => {
            let body = json!({ "password": read_secret("password")?.as_str() });
            client.put(&path(&["users", email.as_str(), "password"]), &body).await?;
            output.done(&format!("set a new password for {email}"), &json!({ "email": email }));
        }
        UserCommand::Delete { email } => {
            client.delete(&path(&["users", email.as_str()])).await?;
            output.done(&format!("deleted user {email}"), &json!({ "email": email }));
        }
        UserCommand::List => output.items(&["email", "created_at"], &client.list("/users").await?),
    }
    Ok(())
}

pub(super) async fn member(target: &Target, command: MemberCommand, output: Output) -> Result<()> {
    let client = Client::new(target, output).await?;
    match command {
        MemberCommand::Set { tenant, email, role } => {
            client.put(&in_tenant(&tenant, &["members", email.as_str()]), &json!({ "role": role })).await?;
            let value = json!({ "email": email, "role": role });
            output.done(&format!("{email} is {role} of tenant `{tenant}`"), &value);
        }
        MemberCommand::Remove { tenant, email } => {
            client.delete(&in_tenant(&tenant, &["members", email.as_str()])).await?;
            output.done(&format!("{email} is no member of tenant `{tenant}` any more"), &json!({ "email": email }));
        }
        MemberCommand::List { tenant } => {
            output.items(&["email", "role", "since"], &client.list(&in_tenant(&tenant, &["members"])).await?);
        }
    }
    Ok(())
}

pub(super) async fn api_token(target: &Target, command: ApiTokenCommand, output: Output) -> Result<()> {
    let client = Client::new(target, output).await?;
    match command {
        ApiTokenCommand::Create { tenant, role, token: TokenArgs { name, expires } } => {
            let body = json!({ "role": role, "name": name, "expires_in": expires.as_secs() });
            show_token(&client.post(&in_tenant(&tenant, &["api-tokens"]), &body).await?, output)?;
        }
        ApiTokenCommand::Revoke { tenant, id } => {
            client.delete(&in_tenant(&tenant, &["api-tokens", &id])).await?;
            output.done(&format!("revoked token {id}"), &json!({ "id": id }));
        }
        ApiTokenCommand::List { tenant } => {
            let tokens = client.list(&in_tenant(&tenant, &["api-tokens"])).await?;
            output.items(&["id", "name", "role", "expires_at", "last_used_at", "revoked_at"], &tokens);
        }
    }
    Ok(())
}

pub(super) async fn operator_token(target: &Target, command: OperatorTokenCommand, output: Output) -> Result<()> {
    let client = Client::new(target, output).await?;
    match command {
        OperatorTokenCommand::Create { token: TokenArgs { name, expires } } => {
            let body = json!({ "name": name, "expires_in": expires.as_secs() });
            show_token(&client.post("/operator-tokens", &body).await?, output)?;
        }
        OperatorTokenCommand::Revoke { id } => {
            client.delete(&path(&["operator-tokens", &id])).await?;
            output.done(&format!("revoked token {id}"), &json!({ "id": id }));
        }
        OperatorTokenCommand::List => {
            let tokens = client.list("/operator-tokens").await?;
            output.items(&["id", "name", "expires_at", "last_used_at", "revoked_at"], &tokens);
        }
    }
    Ok(())
}

pub(super) async fn audit(target: &Target, tenant: Option<TenantName>, output: Output) -> Result<()> {
    let client = Client::new(target, output).await?;
    let log = tenant.map_or_else(|| "/audit".to_owned(), |tenant| in_tenant(&tenant, &["audit"]));
    let page = client.get(&format!("{log}?limit={AUDIT_ENTRIES}")).await?;
    let entries = page["items"].as_array().cloned().unwrap_or_default();
    output.items(&["at", "actor", "action", "target"], &entries);
    Ok(())
}
