//! `pqhost logs`: what a tenant's handlers did and printed.

use std::{path::Path, time::Duration};

use anyhow::Result;
use serde_json::json;

use crate::{
    app::Workspace,
    cli::{
        args::LogsArgs,
        nouns,
        output::{Output, escaped},
        serve::data_dir,
    },
    db::{
        Db,
        invocations::{InvocationRecord, LIST_MAX, LoggedInvocation},
    },
    domain::names::TenantId,
};

/// How often new invocations are looked for.
const POLL: Duration = Duration::from_millis(300);

pub(super) async fn logs(data: &Path, args: LogsArgs, output: Output) -> Result<()> {
    let workspace = Workspace::open(&data_dir(data)).await?;
    let tenant = nouns::find_tenant(&workspace, &args.tenant).await?;
    let newest = workspace.db.invocations().list(tenant.id, None, args.last).await?;
    for invocation in &newest {
        show(invocation, output);
    }
    if args.follow {
        follow_from(workspace.db, tenant.id, newest.last().map(|invocation| invocation.seq), output).await;
    }
    Ok(())
}

/// Shows invocations from now on. Runs until dropped.
pub(super) async fn follow(db: Db, tenant: TenantId, output: Output) {
    let newest = db.invocations().list(tenant, None, 1).await.unwrap_or_default();
    follow_from(db, tenant, newest.last().map(|invocation| invocation.seq), output).await;
}

async fn follow_from(db: Db, tenant: TenantId, after: Option<i64>, output: Output) {
    let mut after = after.unwrap_or(0);
    loop {
        match db.invocations().list(tenant, Some(after), LIST_MAX).await {
            Ok(new) => {
                for invocation in &new {
                    show(invocation, output);
                    after = invocation.seq;
                }
            }
            Err(error) => output.progress(&format!("cannot read the log: {error}")),
        }
        tokio::time::sleep(POLL).await;
    }
}

fn show(invocation: &LoggedInvocation, output: Output) {
    let LoggedInvocation { script_name, version_number, record, .. } = invocation;
    let InvocationRecord { id, method, path, status, code, started_at_ms, duration_us, log, traceback, .. } = record;
    let time = chrono::DateTime::from_timestamp_millis(*started_at_ms).unwrap_or_default();
    let time = time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let script = script_name.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
    let version = version_number.map_or_else(|| "-".to_owned(), |number| format!("v{number}"));
    let ms = Duration::from_micros(*duration_us).as_secs_f64() * 1e3;
    let code_text = code.as_deref().unwrap_or_default();
    let mut text = format!("{time} {method} {} {status} {code_text} {script} {version} {ms:.1} ms {id}", escaped(path));
    for part in [Some(log), traceback.as_ref()].into_iter().flatten() {
        for line in escaped(part).lines() {
            text.push_str("\n    ");
            text.push_str(line);
        }
    }
    output.done(
        &text,
        &json!({
            "id": id, "at": time, "method": method, "path": path, "status": status, "code": code, "script": script_name,
            "version": version_number, "duration_us": duration_us, "fuel": record.fuel, "dirty_pages": record.dirty_pages,
            "rows": record.rows, "log": log, "traceback": traceback,
        }),
    );
}
