//! Arguments of `pqhost endpoint`.

use std::{path::PathBuf, str::FromStr};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use crate::{
    cli::args::Switch,
    domain::{
        exchange::AuthMode,
        names::{ConnectionName, ScriptName, TenantName},
        route::{MethodSet, RoutePattern},
    },
};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum EndpointCommand {
    /// Create an endpoint to a script, a table or a query
    Create {
        tenant: TenantName,
        /// `GET`, several as `GET,POST`, or `ANY`
        method: MethodSet,
        /// For example `/orders/{id}`; `*` matches a segment, `**` the rest
        route: RoutePattern,
        /// The script that answers
        #[arg(required_unless_present_any = ["table", "source"], conflicts_with_all = ["table", "source"])]
        script: Option<ScriptName>,
        #[command(flatten)]
        backend: BackendArgs,
        /// `jwt`: callers present a token; `key`: a consumer key; `public`: anyone
        #[arg(long, default_value_t)]
        auth: AuthMode,
        /// The version that it serves, whatever the script's live one is
        #[arg(long)]
        version: Option<i64>,
        /// Keep requests and answers, sealed, so that they can be re-run
        #[arg(long)]
        record: bool,
        /// TOML with limits, `cors`, `cache`, `rate_limit`, `description`, `input`, `output`
        #[arg(long, value_name = "FILE")]
        settings: Option<PathBuf>,
    },
    /// Change what answers for an endpoint, for whom, and its settings; its address stays
    Set(SetArgs),
    /// Switch an endpoint on or off
    Enable { tenant: TenantName, id: i64, switch: Switch },
    /// Keep an endpoint's requests and answers from now on, sealed, as long as the invocation log; or no longer
    Record { tenant: TenantName, id: i64, switch: Switch },
    /// Show an endpoint with its settings
    Show { tenant: TenantName, id: i64 },
    /// Delete an endpoint, by its id
    Delete { tenant: TenantName, id: i64 },
    /// List endpoints
    List { tenant: TenantName },
}

/// A change of an endpoint.
#[derive(Debug, Args)]
pub(in crate::cli) struct SetArgs {
    pub(in crate::cli) tenant: TenantName,
    pub(in crate::cli) id: i64,
    /// The script that answers from now on
    #[arg(long, conflicts_with_all = ["table", "source"])]
    pub(in crate::cli) script: Option<ScriptName>,
    #[command(flatten)]
    pub(in crate::cli) backend: BackendArgs,
    /// `jwt`, `key` or `public`
    #[arg(long)]
    pub(in crate::cli) auth: Option<AuthMode>,
    /// The version that it serves, whatever the script's live one is
    #[arg(long)]
    pub(in crate::cli) version: Option<i64>,
    /// Serve the script's live version from now on, whatever it is
    #[arg(long, conflicts_with_all = ["version", "table", "source"])]
    pub(in crate::cli) live: bool,
    /// TOML with all settings that it is to have
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) settings: Option<PathBuf>,
}

/// What answers instead of a script.
#[derive(Debug, Args)]
pub(in crate::cli) struct BackendArgs {
    /// A table that answers without a script
    #[arg(long, value_name = "CONNECTION:[SCHEMA.]TABLE", conflicts_with = "source")]
    pub(in crate::cli) table: Option<TableArg>,
    /// TOML that describes a table or query: `connection`, `schema`, `table` or `query`, `columns`, `key`, `page_rows`
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) source: Option<PathBuf>,
}

/// A table of a connection.
#[derive(Debug, Clone)]
pub(in crate::cli) struct TableArg {
    pub(in crate::cli) connection: ConnectionName,
    pub(in crate::cli) schema: Option<String>,
    pub(in crate::cli) table: String,
}

impl FromStr for TableArg {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (connection, table) = text.split_once(':').context("write CONNECTION:TABLE or CONNECTION:SCHEMA.TABLE")?;
        let (schema, table) = match table.split_once('.') {
            Some((schema, table)) => (Some(schema.to_owned()), table),
            None => (None, table),
        };
        Ok(Self { connection: connection.parse()?, schema, table: table.to_owned() })
    }
}
