//! Arguments of what is done on the host's own machine.

use std::{fmt, path::PathBuf};

use clap::Args;
use zeroize::Zeroizing;

use crate::domain::{
    control_database::{InvalidServerUrl, ServerDatabase},
    names::TenantName,
};

/// An argument that no error message repeats.
#[derive(Clone)]
pub(in crate::cli) struct Unshown(Zeroizing<String>);

impl Unshown {
    pub(in crate::cli) fn database(&self) -> Result<ServerDatabase, InvalidServerUrl> {
        self.0.parse()
    }
}

impl From<String> for Unshown {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Unshown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unshown")
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ExportArgs {
    /// Only this tenant, without people and their tokens
    #[arg(long, value_name = "TENANT")]
    pub(in crate::cli) tenant: Option<TenantName>,
    /// With the invocation log
    #[arg(long)]
    pub(in crate::cli) with_log: bool,
    /// The key that seals the file, as `pqhost vault create-key` makes one
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) key_file: PathBuf,
    /// The file, which must not exist
    pub(in crate::cli) file: PathBuf,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ImportArgs {
    /// Give the tenant another name; tokens and keys of its callers are left out
    #[arg(long = "as", value_name = "NAME")]
    pub(in crate::cli) rename: Option<TenantName>,
    /// The key that the file was sealed with
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) key_file: PathBuf,
    /// The file
    pub(in crate::cli) file: PathBuf,
}
