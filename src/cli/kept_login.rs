//! The login that is kept between two commands: which host, and as whom.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::config::login_file;

/// The kept part of a login.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptLogin {
    /// The host's control address.
    pub(super) url: String,
    /// A session's or an API token.
    pub(super) token: String,
}

impl KeptLogin {
    /// The login that was kept, if there is one.
    pub(super) fn read() -> Result<Option<Self>> {
        let Some(file) = login_file() else { return Ok(None) };
        match fs::read(&file) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text).with_context(|| {
                format!(
                    "`{}` does not hold a login that this program can read: delete it and run `pqhost login` again",
                    file.display()
                )
            })?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read `{}`", file.display())),
        }
    }

    /// Keeps it instead of the one before.
    pub(super) fn write(&self) -> Result<()> {
        let file = login_file().context(
            "no home directory was found, where the login would be kept: set PQHOST_URL and PQHOST_TOKEN instead",
        )?;
        let failed = || format!("cannot write `{}`", file.display());
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).with_context(failed)?;
        }
        // A new file, so that its mode is ours whatever was there.
        let temporary = file.with_extension("new");
        _ = fs::remove_file(&temporary); // usually there is none
        let mut new =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).with_context(failed)?;
        new.write_all(&serde_json::to_vec(self)?).with_context(failed)?;
        fs::rename(&temporary, &file).with_context(failed)
    }

    /// Forgets the one that was kept.
    pub(super) fn remove() -> Result<()> {
        let Some(file) = login_file() else { return Ok(()) };
        fs::remove_file(&file).with_context(|| format!("cannot remove `{}`", file.display()))
    }
}
