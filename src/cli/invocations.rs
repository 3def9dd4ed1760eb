//! `pqhost invocation`: sending recorded requests again.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::{
    args::InvocationCommand,
    client::{Client, Target, in_tenant},
    output::{Output, confirm},
};

pub(super) async fn invocation(target: &Target, command: InvocationCommand, output: Output) -> Result<()> {
    let client = Client::new(target, output).await?;
    match command {
        InvocationCommand::Rerun { tenant, id, version, yes } => {
            if !yes {
                output.progress(
                    "the handler runs again, and what it writes to databases, state and other hosts is written once more",
                );
                confirm("nothing was run: to run it without being asked, use --yes", output)?;
            }
            let path = in_tenant(&tenant, &["invocations", &id, "rerun"]);
            let rerun = client.post(&path, &json!({ "version": version })).await?;
            output.done(&shown(&rerun), &rerun);
        }
    }
    Ok(())
}

/// What came of it, for people.
fn shown(rerun: &Value) -> String {
    let Value::Object(compared) = &rerun["comparison"] else { return String::new() };
    let status = |answer: &Value| {
        let code = answer["code"].as_str().map(|code| format!(" {code}")).unwrap_or_default();
        format!("{}{code}", answer["status"])
    };
    let mut lines =
        vec![format!("invocation {} ran version {}", rerun["invocation"].as_str().unwrap_or("-"), rerun["version"])];
    for (name, key) in [("status", "same_status"), ("headers", "same_headers"), ("body", "same_body")] {
        let verdict = match compared[key].as_bool() {
            Some(true) => "the same",
            Some(false) => "different",
            None => "the same as far as it is kept",
        };
        lines.push(format!("{name}: {verdict}"));
    }
    lines.push(format!("status {} then, {} now", status(&rerun["original"]), status(&rerun["rerun"])));
    if let Some(diff) = compared.get("diff").and_then(Value::as_str) {
        lines.push(diff.trim_end().to_owned());
    }
    lines.join("\n")
}
