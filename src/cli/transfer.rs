//! `pqhost export` and `pqhost import`: a host or a tenant in a file.

use anyhow::{Result, bail};
use serde_json::json;

use crate::{
    app::{Workspace, transfer::Transferred},
    cli::{
        args::local::{ExportArgs, ImportArgs},
        client::Target,
        output::Output,
    },
    config::DataDir,
    vault::stream::StreamKey,
};

pub(super) async fn export(target: &Target, args: ExportArgs, output: Output) -> Result<()> {
    let ExportArgs { tenant, with_log, key_file, file } = args;
    let data = target.data_of("export")?;
    let key = StreamKey::read(&key_file)?;
    let workspace = Workspace::open_existing(&data).await?;
    if workspace.db.tenants().list_tenants().await?.is_empty() {
        bail!("there is nothing to export: {data} has no tenant");
    }
    let transferred = workspace.export(tenant.as_ref(), with_log, &key, &file).await?;
    tell(["exported", "of"], &transferred, &data, output);
    Ok(())
}

pub(super) async fn import(target: &Target, args: ImportArgs, output: Output) -> Result<()> {
    let ImportArgs { rename, key_file, file } = args;
    let data = target.data_of("import")?;
    let key = StreamKey::read(&key_file)?;
    let workspace = Workspace::open(&data).await?;
    let transferred = workspace.import(&key, &file, rename).await?;
    tell(["imported", "into"], &transferred, &data, output);
    Ok(())
}

fn tell([done, r#where]: [&str; 2], transferred: &Transferred, data: &DataDir, output: Output) {
    let Transferred { tenant, rows } = transferred;
    let what = tenant.as_ref().map_or_else(|| "the whole host".to_owned(), |name| format!("tenant `{name}`"));
    output.done(
        &format!("{done} {what}, {rows} rows {where} {data}"),
        &json!({ "tenant": tenant, "rows": rows, "data": data.path(), "database": data.database().to_string() }),
    );
}
