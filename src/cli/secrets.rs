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
        client::{Client, Target, in_tenant},
        output::Output,
    },
    domain::secret::{REDACTED_BYTES_MIN, SECRET_BYTES_MAX, Secret},
    vault::stream::StreamKey,
};

pub(super) async fn secret(target: &Target, command: SecretCommand, output: Output) -> Result<()> {
    let client = Client::new(target, output).await?;
    match command {
        SecretCommand::Set { tenant, name, from_file, scripts, all_scripts } => {
            let value = read_value(from_file.as_deref())?;
            let scripts = (!scripts.is_empty()).then_some(scripts);
            let body = json!({ "value": value.expose_str()?, "scripts": scripts, "all_scripts": all_scripts });
            client.put(&in_tenant(&tenant, &["secrets", name.as_str()]), &body).await?;
            if value.expose().len() < REDACTED_BYTES_MIN {
                output.progress(&format!(
                    "note: it is shorter than {REDACTED_BYTES_MIN} bytes, so it is not redacted from logs if a script prints it"
                ));
            }
            output.done(&format!("set secret `{name}` of tenant `{tenant}`"), &json!({ "name": name }));
        }
        SecretCommand::Delete { tenant, name } => {
            client.delete(&in_tenant(&tenant, &["secrets", name.as_str()])).await?;
            output.done(&format!("deleted secret `{name}` of tenant `{tenant}`"), &json!({ "name": name }));
        }
        SecretCommand::List { tenant } => {
            let secrets = client.list(&in_tenant(&tenant, &["secrets"])).await?;
            output.items(&["name", "scripts", "created_at", "updated_at"], &secrets);
        }
    }
    Ok(())
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

pub(super) async fn rotate(target: &Target, output: Output) -> Result<()> {
    let data = target.data_of("vault rotate")?;
    let workspace = Workspace::open_existing(&data).await?;
    let rotated = workspace.rotate_vault_key().await?;
    output.done(
        &format!("replaced the vault key of {data} and sealed {} values anew", rotated.n_values),
        &json!({ "resealed": rotated.n_values, "data": data.path(), "database": data.database().to_string() }),
    );
    if rotated.is_from_environment {
        output.progress("now make the value of PQHOST_VAULT_KEY_NEXT that of PQHOST_VAULT_KEY, and restart the host");
    }
    Ok(())
}

pub(super) fn create_key(file: &Path, output: Output) -> Result<()> {
    StreamKey::create(file)?;
    output.done(
        &format!("created the key `{}`: keep it apart from what it seals", file.display()),
        &json!({ "file": file }),
    );
    Ok(())
}
