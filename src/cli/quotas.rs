//! `pqhost quota` and `pqhost usage`: what tenants may use, and what they used.

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    cli::{
        args::quotas::{QuotaArgs, QuotaCommand, UsageCommand},
        client::{Client, Target, in_tenant},
        output::Output,
    },
    domain::quota::Month,
};

/// Names of quotas, as the API has them.
const QUOTAS: [&str; 5] = ["requests_per_second", "concurrency", "fuel_per_day", "storage_bytes", "scripts"];

/// What is shown of usage.
const USED: [&str; 7] = ["requests", "failed", "refused", "fuel", "duration_us", "rows", "answer_bytes"];

pub(super) async fn quota(target: &Target, command: QuotaCommand, output: Output) -> Result<()> {
    let client = Client::new(target, output).await?;
    match command {
        QuotaCommand::Show { tenant } => {
            let shown = client.get(&in_tenant(&tenant, &["quotas"])).await?;
            if output.json {
                output.done("", &shown);
            } else {
                output.items(&["quota", "granted", "used"], &rows(&shown));
            }
        }
        QuotaCommand::Set { tenant, quotas } => {
            let path = in_tenant(&tenant, &["quotas"]);
            let mut wanted = client.get(&path).await?["quotas"].take();
            let QuotaArgs { requests_per_second, concurrency, fuel_per_day, storage_bytes, scripts } = quotas;
            let given = [requests_per_second, concurrency, fuel_per_day, storage_bytes, scripts];
            for (name, grant) in QUOTAS.iter().zip(given) {
                if let Some(grant) = grant {
                    wanted[*name] = json!(grant.0);
                }
            }
            client.put(&path, &wanted).await?;
            output.done(&format!("tenant `{tenant}` may use {}", sentence(&wanted)), &wanted);
        }
    }
    Ok(())
}

/// A line for each quota.
fn rows(shown: &Value) -> Vec<Value> {
    let used = &shown["used"];
    let used = |name: &str| match name {
        "fuel_per_day" => used["fuel_today"].clone(),
        "storage_bytes" => used["storage"]["total"].clone(),
        "scripts" => used["scripts"].clone(),
        _ => Value::Null, // moments later it would be wrong
    };
    let row = |name: &&str| json!({ "quota": name, "granted": shown["quotas"][*name], "used": used(name) });
    QUOTAS.iter().map(row).collect()
}

fn sentence(quotas: &Value) -> String {
    let granted = QUOTAS.iter().filter(|name| !quotas[**name].is_null());
    let granted: Vec<_> = granted.map(|name| format!("{} {name}", quotas[*name])).collect();
    if granted.is_empty() { "what the host allows".to_owned() } else { granted.join(", ") }
}

pub(super) async fn usage(target: &Target, command: UsageCommand, output: Output) -> Result<()> {
    let client = Client::new(target, output).await?;
    let query = |month: Option<Month>| month.map_or_else(String::new, |month| format!("month={month}"));
    match command {
        UsageCommand::Show { tenant, month, csv: true } => {
            let path = format!("{}?format=csv&{}", in_tenant(&tenant, &["usage"]), query(month));
            output.text(&client.text(&path).await?);
        }
        UsageCommand::Show { tenant, month, csv: false } => {
            let shown = client.get(&format!("{}?{}", in_tenant(&tenant, &["usage"]), query(month))).await?;
            if output.json {
                output.done("", &shown);
                return Ok(());
            }
            let mut lines = shown["days"].as_array().cloned().unwrap_or_default();
            let mut total = shown["total"].clone();
            total["day"] = json!("total");
            lines.push(total);
            output.items(&[&["day"], &USED[..]].concat(), &lines);
        }
        UsageCommand::List { month } => {
            let tenants = client.list(&format!("/usage?{}", query(month))).await?;
            output.items(&[&["tenant", "tenant_id"], &USED[..]].concat(), &tenants);
        }
    }
    Ok(())
}
