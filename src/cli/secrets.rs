//! Secrets of scripts, and the key that seals them.

use std::{
    fs::File,
    io::{IsTerminal as _, Read},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    app::Workspace,
    cli::{
        args::SecretCommand,
        nouns::{find_tenant, time},
        output::Output,
        serve::data_dir,
    },
    db::tenants::Tenant,
    domain::{
        names::{ScriptName, SecretName},
        secret::{REDACTED_BYTES_MIN, Readers, SECRET_BYTES_MAX, Secret},
    },
    invoke::directory::secret_context,
};

pub(super) async fn secret(data: &Path, command: SecretCommand, output: Output) -> Result<()> {
    let workspace = Workspace::open(&data_dir(data)).await?;
    match command {
        SecretCommand::Set { tenant, name, from_file, scripts, all_scripts } => {
            let tenant = find_tenant(&workspace, &tenant).await?;
            let readers = readers(&workspace, &tenant, &scripts, all_scripts).await?;
            let value = read_value(from_file.as_deref())?;
            set(&workspace, &tenant, &name, &readers, &value, output).await?;
        }
        SecretCommand::Delete { tenant, name } => {
            let tenant = find_tenant(&workspace, &tenant).await?;
            if !workspace.db.secrets().delete_secret(tenant.id, &name).await? {
                bail!("tenant `{}` has no secret `{name}`", tenant.name);
            }
            output.done(&format!("deleted secret `{name}` of tenant `{}`", tenant.name), &json!({ "name": name }));
        }
        SecretCommand::List { tenant } => {
            let tenant = find_tenant(&workspace, &tenant).await?;
            let secrets = workspace.db.secrets().list_secrets(tenant.id).await?;
            let scripts = |scripts: &Option<Vec<ScriptName>>| match scripts {
                None => json!("all"),
                Some(names) if output.json => json!(names),
                Some(names) => json!(names.iter().map(ScriptName::as_str).collect::<Vec<_>>().join(",")),
            };
            let rows: Vec<_> = secrets
                .iter()
                .map(|secret| {
                    let (created, updated) = (time(secret.created_at_ms), time(secret.updated_at_ms));
                    vec![json!(secret.name), scripts(&secret.scripts), created, updated]
                })
                .collect();
            output.table(&["name", "scripts", "created_at", "updated_at"], &rows);
        }
    }
    Ok(())
}

async fn set(
    workspace: &Workspace,
    tenant: &Tenant,
    name: &SecretName,
    readers: &Readers,
    value: &Secret,
    output: Output,
) -> Result<()> {
    let seal = |id| workspace.vault.seal(&secret_context(id), value.expose());
    workspace.db.secrets().set_secret(tenant.id, name, readers, seal).await?;
    if value.expose().len() < REDACTED_BYTES_MIN {
        output.progress(&format!(
            "note: it is shorter than {REDACTED_BYTES_MIN} bytes, so it is not redacted from logs if a script prints it"
        ));
    }
    output.done(&format!("set secret `{name}` of tenant `{}`", tenant.name), &json!({ "name": name }));
    Ok(())
}

async fn readers(workspace: &Workspace, tenant: &Tenant, scripts: &[ScriptName], all_scripts: bool) -> Result<Readers> {
    if all_scripts {
        return Ok(Readers::AllScripts);
    }
    if scripts.is_empty() {
        return Ok(Readers::Unchanged);
    }
    let mut ids = Vec::new();
    for name in scripts {
        let script = workspace.db.scripts().find_script(tenant.id, name).await?;
        let script = script.with_context(|| {
            format!(
                "tenant `{0}` has no script `{name}`: publish it with `pqhost script publish {0} {name} FILE`",
                tenant.name
            )
        })?;
        ids.push(script.id);
    }
    Ok(Readers::Only(ids))
}

/// The value: what was piped in or stands in the file, without one line break at its end.
fn read_value(file: Option<&Path>) -> Result<Secret> {
    let bytes = match file {
        Some(path) => {
            let file = File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?;
            read_bounded(file).with_context(|| format!("cannot read `{}`", path.display()))?
        }
        None if std::io::stdin().is_terminal() => {
            bail!(
                "pipe the secret in, so that it is neither shown nor kept in the shell's history, or use --from-file FILE"
            )
        }
        None => read_bounded(std::io::stdin()).context("cannot read standard input")?,
    };
    let value = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let value = value.strip_suffix(b"\r").unwrap_or(value);
    if value.is_empty() {
        bail!("the secret is empty");
    }
    if value.len() > SECRET_BYTES_MAX {
        bail!("the secret has more than {SECRET_BYTES_MAX} bytes");
    }
    let value = Secret::from(value.to_vec());
    value.expose_str().context("scripts receive secrets as text: encode binary ones, for example as base64")?;
    Ok(value)
}

fn read_bounded(source: impl Read) -> Result<Zeroizing<Vec<u8>>> {
    // One line break more than the largest secret, and one byte to notice that it is larger. No growth that leaves copies.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX + 4));
    source.take(SECRET_BYTES_MAX as u64 + 3).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(super) async fn rotate(data: &Path, output: Output) -> Result<()> {
    let workspace = Workspace::open(&data_dir(data)).await?;
    let rotated = workspace.rotate_vault_key().await?;
    output.done(
        &format!("replaced the vault key and sealed {} values anew", rotated.n_values),
        &json!({ "resealed": rotated.n_values }),
    );
    if rotated.is_from_environment {
        output.progress("now make the value of PQHOST_VAULT_KEY_NEXT that of PQHOST_VAULT_KEY, and restart the host");
    }
    Ok(())
}
