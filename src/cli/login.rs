//! `pqhost login`: which host, and as whom, from now on.

use std::{
    fs::{self, OpenOptions},
    io::{IsTerminal as _, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    cli::{
        args::LoginArgs,
        client::{Client, Refused, Target, path},
        output::Output,
    },
    config::login_file,
    domain::secret::Secret,
};

/// Longest password or token that is read, in bytes.
const INPUT_BYTES_MAX: u64 = 4096;

/// What is kept of a login.
#[derive(Serialize, Deserialize)]
pub(super) struct Login {
    /// The host's control address.
    pub(super) url: String,
    /// A session's or an API token.
    pub(super) token: String,
}

/// The login that was kept, if there is one.
pub(super) fn read() -> Result<Option<Login>> {
    let Some(file) = login_file() else { return Ok(None) };
    match fs::read(&file) {
        Ok(text) => Ok(Some(
            serde_json::from_slice(&text).with_context(|| format!("`{}` is no login: delete it", file.display()))?,
        )),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read `{}`", file.display())),
    }
}

/// Logs in with an API token, or with a user's password, read from standard input.
pub(super) async fn login(args: LoginArgs, output: Output) -> Result<()> {
    let LoginArgs { url, email } = args;
    let url = url.trim_end_matches('/').to_owned();
    let what = if email.is_some() { "password" } else { "API token" };
    let secret = read_secret(what)?;
    let token = match &email {
        Some(email) => {
            let client = Client::remote(&url, None)?;
            let session = client.post("/session", &json!({ "email": email, "password": secret.as_str() })).await?;
            session["token"].as_str().context("the host gave no session")?.to_owned()
        }
        None => secret.to_string(),
    };
    let whoami = Client::remote(&url, Some(Secret::from(token.clone())))?.get("/session").await?;
    write(&Login { url: url.clone(), token })?;
    let actor = whoami["actor"].as_str().unwrap_or_default();
    output.done(&format!("logged in to {url} as {actor}"), &whoami);
    Ok(())
}

/// Ends the session, and forgets the login.
pub(super) async fn logout(output: Output) -> Result<()> {
    let Some(Login { url, token }) = read()? else { bail!("you are not logged in") };
    let ended = Client::remote(&url, Some(Secret::from(token)))?.delete("/session").await;
    let is_token = ended
        .as_ref()
        .is_err_and(|error| error.downcast_ref::<Refused>().is_some_and(|refused| refused.code == "no_session"));
    if let Some(file) = login_file() {
        fs::remove_file(&file).with_context(|| format!("cannot remove `{}`", file.display()))?;
    }
    if is_token {
        output.progress("the API token is forgotten here, but stays valid until it expires or is revoked");
    } else {
        ended.context("the login is forgotten, but the host did not end the session")?;
    }
    output.done(&format!("logged out of {url}"), &json!({ "url": url, "is_ended": !is_token }));
    Ok(())
}

pub(super) async fn whoami(target: &Target, output: Output) -> Result<()> {
    let whoami = Client::new(target, output).await?.get(&path(&["session"])).await?;
    output.done(whoami["actor"].as_str().unwrap_or_default(), &whoami);
    Ok(())
}

fn write(login: &Login) -> Result<()> {
    let file =
        login_file().context("there is no home directory to keep the login in: set PQHOST_URL and PQHOST_TOKEN")?;
    let failed = || format!("cannot write `{}`", file.display());
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(failed)?;
    }
    // A new file, so that its mode is ours whatever was there.
    let temporary = file.with_extension("new");
    _ = fs::remove_file(&temporary); // usually there is none
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).with_context(failed)?;
    new.write_all(&serde_json::to_vec(login)?).with_context(failed)?;
    fs::rename(&temporary, &file).with_context(failed)
}

/// A secret from standard input, without the line break at its end.
pub(super) fn read_secret(what: &str) -> Result<Zeroizing<String>> {
    if std::io::stdin().is_terminal() {
        bail!("pipe the {what} in, so that it is neither shown nor kept in the shell's history");
    }
    let mut text = Zeroizing::new(String::new());
    std::io::stdin()
        .take(INPUT_BYTES_MAX)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read the {what}"))?;
    let secret = text.trim_end_matches(['\n', '\r']);
    if secret.is_empty() {
        bail!("the {what} is empty");
    }
    Ok(Zeroizing::new(secret.to_owned()))
}
