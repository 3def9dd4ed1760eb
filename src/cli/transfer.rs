//! `pqhost export` and `pqhost import`: a host or a tenant in a file.

use anyhow::Result;
use serde_json::json;

use crate::{
    app::{Workspace, transfer::Transferred},
    cli::{
        args::local::{ExportArgs, ImportArgs},
        output::Output,
    },
    config::DataDir,
    vault::stream::StreamKey,
};

pub(super) async fn export(data: &DataDir, args: ExportArgs, output: Output) -> Result<()> {
    let ExportArgs { tenant, with_log, key_file, file } = args;
    let key = StreamKey::read(&key_file)?;
    let workspace = Workspace::open(data).await?;
    let transferred = workspace.export(tenant.as_ref(), with_log, &key, &file).await?;
    tell("exported", &transferred, output);
    Ok(())
}

pub(super) async fn import(data: &DataDir, args: ImportArgs, output: Output) -> Result<()> {
    let ImportArgs { rename, key_file, file } = args;
    let key = StreamKey::read(&key_file)?;
    let workspace = Workspace::open(data).await?;
    let transferred = workspace.import(&key, &file, rename).await?;
    tell("imported", &transferred, output);
    Ok(())
}

fn tell(what: &str, transferred: &Transferred, output: Output) {
    let Transferred { tenant, rows } = transferred;
    let of = tenant.as_ref().map_or_else(|| "the whole host".to_owned(), |name| format!("tenant `{name}`"));
    output.done(&format!("{what} {of}: {rows} rows"), &json!({ "tenant": tenant, "rows": rows }));
}
