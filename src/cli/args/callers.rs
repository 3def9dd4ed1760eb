//! Flags of commands about callers of endpoints: their tokens, and who signs them.

use std::time::Duration;

use clap::Subcommand;

use crate::{
    cli::args::{parse_duration, reach::ReachArgs},
    domain::{names::TenantName, route::MethodSet, signing::KeyAlgorithm},
};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum TokenCommand {
    /// Create a token; its text is shown once
    Create {
        tenant: TenantName,
        /// How long it is valid, for example 12h or 30d
        #[arg(long, value_name = "TIME", default_value = "30d", value_parser = parse_duration)]
        expires: Duration,
        /// Route of the only endpoints that it is for; may be repeated
        #[arg(long = "endpoint", value_name = "ROUTE")]
        endpoints: Vec<String>,
        /// The only methods that it is for, for example GET,POST
        #[arg(long)]
        methods: Option<MethodSet>,
        /// What it says besides, for handlers: a JSON object, for example '{"partner": 17}'
        #[arg(long, value_name = "JSON")]
        claims: Option<String>,
        #[command(flatten)]
        reach: ReachArgs,
        /// What it is for, for people
        #[arg(long, default_value = "")]
        name: String,
    },
    /// Revoke a token
    Revoke { tenant: TenantName, id: String },
    /// List tokens
    List { tenant: TenantName },
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum SigningKeyCommand {
    /// Create a key, which signs the tenant's tokens from now on
    Create {
        tenant: TenantName,
        /// HS256, ES256 or EdDSA
        algorithm: KeyAlgorithm,
        /// How long tokens of the other keys stay good, for example 30d [default: until those keys are deleted]
        #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "no_overlap")]
        overlap: Option<Duration>,
        /// Refuse tokens of the other keys at once
        #[arg(long)]
        no_overlap: bool,
    },
    /// Delete a key that signs no longer; its tokens are refused from now on
    Delete { tenant: TenantName, kid: String },
    /// List keys
    List { tenant: TenantName },
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum IssuerCommand {
    /// Accept the tokens of an issuer
    Add {
        tenant: TenantName,
        /// What its tokens say in `iss`, to the letter
        issuer: String,
        /// URL of its keys (JWKS)
        jwks_url: String,
        /// What its tokens for this tenant say in `aud`, to the letter
        audience: String,
        #[command(flatten)]
        reach: ReachArgs,
    },
    /// Accept the tokens of an issuer no longer
    Remove { tenant: TenantName, issuer: String },
    /// List issuers
    List { tenant: TenantName },
}
