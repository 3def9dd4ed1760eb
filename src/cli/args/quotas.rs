//! Arguments of `pqhost quota` and `pqhost usage`.

use std::str::FromStr;

use clap::{Args, Subcommand};

use crate::domain::{names::TenantName, quota::Month};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum QuotaCommand {
    /// Show what a tenant may use, and what it uses now
    Show { tenant: TenantName },
    /// Grant a tenant something; what is not named stays as it is
    Set {
        tenant: TenantName,
        #[command(flatten)]
        quotas: QuotaArgs,
    },
}

/// What is granted.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(in crate::cli) struct QuotaArgs {
    /// Requests in a second, on each host
    #[arg(long, value_name = "N | none")]
    pub(in crate::cli) requests_per_second: Option<Grant>,
    /// Handlers that run at once, on each host
    #[arg(long, value_name = "N | none")]
    pub(in crate::cli) concurrency: Option<Grant>,
    /// Units of fuel in a day (UTC), on all hosts together
    #[arg(long, value_name = "N | none")]
    pub(in crate::cli) fuel_per_day: Option<Grant>,
    /// Bytes that are kept
    #[arg(long, value_name = "N | none")]
    pub(in crate::cli) storage_bytes: Option<Grant>,
    /// Scripts
    #[arg(long, value_name = "N | none")]
    pub(in crate::cli) scripts: Option<Grant>,
}

/// A number, or `none` for no quota.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Grant(pub(in crate::cli) Option<u64>);

impl FromStr for Grant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            number => {
                number.parse().map(|number| Self(Some(number))).map_err(|error| format!("{error}; or write none"))
            }
        }
    }
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum UsageCommand {
    /// Show what a tenant used in a month, by day
    Show {
        tenant: TenantName,
        /// `YYYY-MM`, in UTC [default: the current one]
        #[arg(long)]
        month: Option<Month>,
        /// Print CSV, without a total
        #[arg(long)]
        csv: bool,
    },
    /// List what tenants used in a month
    List {
        /// `YYYY-MM`, in UTC [default: the current one]
        #[arg(long)]
        month: Option<Month>,
    },
}
