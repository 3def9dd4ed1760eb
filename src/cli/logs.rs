//! `pqhost logs`: what a tenant's handlers did and printed.

use std::time::Duration;

use anyhow::Result;
use futures::StreamExt as _;
use serde_json::Value;

use crate::{
    cli::{
        args::LogsArgs,
        client::{Client, Target, in_tenant},
        output::Output,
    },
    domain::{names::TenantName, visible::visible_in_line},
};

/// Pause before a stream that ended is taken up again.
const RESUME_PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn logs(target: &Target, args: LogsArgs, output: Output) -> Result<()> {
    let LogsArgs { tenant, follow: follows, last } = args;
    let client = Client::new(target, output).await?;
    let newest = client.get(&format!("{}?details=true&limit={last}", in_tenant(&tenant, &["invocations"]))).await?;
    let newest = newest["items"].as_array().cloned().unwrap_or_default();
    for invocation in newest.iter().rev() {
        show(invocation, output);
    }
    if follows {
        let after = newest.first().and_then(|invocation| invocation["seq"].as_i64());
        follow(&client, &tenant, after.unwrap_or(0), output).await?;
    }
    Ok(())
}

/// Shows invocations behind `after`, until the host lets nobody follow any more. A stream that ends, as connections do in time, is taken up
/// where it ended.
pub(super) async fn follow(client: &Client, tenant: &TenantName, mut after: i64, output: Output) -> Result<()> {
    let path = in_tenant(tenant, &["invocations", "live"]);
    loop {
        let mut invocations = client.follow(&format!("{path}?after={after}")).await?;
        while let Some(Ok(invocation)) = invocations.next().await {
            after = invocation["seq"].as_i64().unwrap_or(after);
            show(&invocation, output);
        }
        tokio::time::sleep(RESUME_PAUSE).await;
    }
}

fn show(invocation: &Value, output: Output) {
    let text = |name: &str| visible_in_line(invocation[name].as_str().unwrap_or("-"));
    let version = invocation["version"].as_i64().map_or_else(|| "-".to_owned(), |number| format!("v{number}"));
    let ms = invocation["duration_us"].as_f64().unwrap_or_default() / 1e3;
    let code = invocation["code"].as_str().unwrap_or_default();
    let mut line = format!(
        "{} {} {} {} {code} {} {version} {ms:.1} ms {}",
        text("started_at"),
        text("method"),
        text("path"),
        invocation["status"],
        text("script"),
        text("id"),
    );
    for part in ["log", "traceback"] {
        for printed in invocation[part].as_str().unwrap_or_default().lines() {
            line.push_str("\n    ");
            line.push_str(printed);
        }
    }
    output.done(&line, invocation);
}
