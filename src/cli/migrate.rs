//! `pqhost migrate`: the schema of the control database.

use anyhow::{Result, bail};
use serde_json::json;

use crate::{
    cli::output::Output,
    config::DataDir,
    db::{
        Db,
        migrations::{Migration, MigrationState, list_migrations},
    },
};

pub(super) async fn migrate(data: &DataDir, check: bool, output: Output) -> Result<()> {
    let database = data.database();
    let migrations = list_migrations(&database).await?;
    let rows: Vec<_> = migrations
        .iter()
        .map(|Migration { number, name, state }| json!({ "number": number, "name": name, "state": word(*state) }))
        .collect();
    output.items(&["number", "name", "state"], &rows);
    let pending = migrations.iter().filter(|migration| migration.state == MigrationState::Pending).count();
    if check {
        if pending > 0 {
            bail!("{pending} migrations of `{database}` are to be applied");
        }
        return Ok(());
    }
    if pending > 0 {
        if let crate::domain::control_database::ControlDatabase::File(_) = database {
            data.prepare()?;
        }
        Db::open(&database).await?.close().await;
        output.progress(&format!("applied {pending} migrations to `{database}`"));
    }
    Ok(())
}

fn word(state: MigrationState) -> &'static str {
    match state {
        MigrationState::Applied => "applied",
        MigrationState::Pending => "pending",
        MigrationState::Newer => "applied by a newer pqhost",
    }
}
