//! `pqhost login`: which host, and as whom, from now on.

use std::io::{IsTerminal as _, Read as _};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    cli::{
        args::LoginArgs,
        client::{Client, Refused, Target, path},
        kept_login::KeptLogin,
        output::Output,
    },
    domain::secret::Secret,
};

/// Longest password or token that is read, in bytes.
const INPUT_BYTES_MAX: u64 = 4096;

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
    KeptLogin { url: url.clone(), token }.write()?;
    let actor = whoami["actor"].as_str().unwrap_or_default();
    output.done(&format!("logged in to {url} as {actor}"), &whoami);
    Ok(())
}

/// Ends the session, and forgets the login.
pub(super) async fn logout(output: Output) -> Result<()> {
    let Some(KeptLogin { url, token }) = KeptLogin::read()? else { bail!("you are not logged in") };
    let ended = Client::remote(&url, Some(Secret::from(token)))?.delete("/session").await;
    let is_token = ended
        .as_ref()
        .is_err_and(|error| error.downcast_ref::<Refused>().is_some_and(|refused| refused.code == "no_session"));
    KeptLogin::remove()?;
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
