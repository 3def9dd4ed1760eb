//! Flags of comparing and of re-running.

use clap::{Args, Subcommand};

use crate::domain::names::{ScriptName, TenantName};

#[derive(Debug, Args)]
pub(in crate::cli) struct DiffArgs {
    pub(in crate::cli) tenant: TenantName,
    pub(in crate::cli) script: ScriptName,
    /// A version's number, or a folder
    #[arg(value_name = "VERSION | FOLDER")]
    pub(in crate::cli) newer: String,
    /// The older version [default: for a folder the live one, for a version the one before]
    #[arg(long, visible_alias = "version", value_name = "VERSION")]
    pub(in crate::cli) from: Option<i64>,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum InvocationCommand {
    /// Send the request of an invocation again, which must have been recorded: see `endpoint record`. The handler really runs, and
    /// what it writes to databases, state and other hosts is written
    Rerun {
        tenant: TenantName,
        id: String,
        /// The version that is to run [default: the one that ran]
        #[arg(long, value_name = "VERSION")]
        version: Option<i64>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum Switch {
    On,
    Off,
}
