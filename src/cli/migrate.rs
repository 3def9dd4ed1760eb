//! `pqhost migrate`: the schema of the control database.

use anyhow::{Result, bail};
use serde_json::json;

use crate::{
    cli::{client::Target, output::Output},
    db::{
        Db,
        migrations::{Migration, MigrationState, list_migrations},
    },
    domain::control_database::ControlDatabase,
};

pub(super) async fn migrate(target: &Target, check: bool, output: Output) -> Result<()> {
    let data = target.data_of("migrate")?;
    let database = data.database();
    if let ControlDatabase::File(file) = &database
        && !file.is_file()
    {
        bail!(
            "there is no control database `{database}`: `pqhost serve` makes one, or name another directory with `--data`"
        );
    }
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
