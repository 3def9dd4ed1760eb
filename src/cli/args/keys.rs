//! Flags of consumer keys.

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};

use crate::{
    cli::args::{parse_duration, reach::ReachArgs},
    domain::{names::TenantName, rate_limit::RateLimit, route::MethodSet},
};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum KeyCommand {
    /// Create a key; its text is shown once
    Create {
        tenant: TenantName,
        /// How long it is valid, for example 12h or 30d
        #[arg(long, value_name = "TIME", default_value = "365d", value_parser = parse_duration)]
        expires: Duration,
        #[command(flatten)]
        terms: KeyArgs,
    },
    /// Replace what a key is for; its text and its expiry stay
    Replace {
        tenant: TenantName,
        id: String,
        #[command(flatten)]
        terms: KeyArgs,
    },
    /// Show a key without its text
    Show { tenant: TenantName, id: String },
    /// Revoke a key
    Revoke { tenant: TenantName, id: String },
    /// List keys
    List { tenant: TenantName },
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("reach").required(true))]
pub(in crate::cli) struct KeyArgs {
    /// Whose it is, for people
    #[arg(long, default_value = "")]
    pub(in crate::cli) name: String,
    /// Route of an endpoint that it is for; may be repeated [default: all endpoints]
    #[arg(long = "endpoint", value_name = "ROUTE")]
    pub(in crate::cli) endpoints: Vec<String>,
    /// Methods that it is for, for example GET,POST [default: all]
    #[arg(long)]
    pub(in crate::cli) methods: Option<MethodSet>,
    /// What is known of its holder, for example `customer=17` or `region=west`; may be repeated
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = parse_attribute)]
    pub(in crate::cli) attributes: Vec<(String, serde_json::Value)>,
    #[command(flatten)]
    pub(in crate::cli) reach: ReachArgs,
    /// How often it may be used on each host, for example 100/60s [default: without limit]
    #[arg(long, value_name = "REQUESTS/TIME", value_parser = parse_rate)]
    pub(in crate::cli) rate: Option<RateLimit>,
}

/// `NAME=VALUE`; a value that reads as a whole number is one.
fn parse_attribute(text: &str) -> Result<(String, serde_json::Value), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    let number = value.parse::<i64>().ok().filter(|number| number.to_string() == value);
    Ok((name.to_owned(), number.map_or_else(|| value.into(), serde_json::Value::from)))
}

/// `100/60s`.
fn parse_rate(text: &str) -> Result<RateLimit, String> {
    let (requests, time) = text.split_once('/').ok_or("write it as REQUESTS/TIME, for example 100/60s")?;
    let requests = requests.parse().map_err(|error| format!("`{requests}`: {error}"))?;
    let seconds = u32::try_from(parse_duration(time)?.as_secs()).unwrap_or(u32::MAX);
    RateLimit::new(requests, seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn attributes_and_rates_are_what_they_look_like() {
        assert_eq!(parse_attribute("customer=17").unwrap().1, json!(17));
        assert_eq!(parse_attribute("customer=017").unwrap().1, json!("017"));
        assert_eq!(parse_attribute("a=b=c").unwrap(), ("a".to_owned(), json!("b=c")));
        assert!(parse_attribute("customer").is_err());
        assert_eq!(parse_rate("100/1m").unwrap(), RateLimit::new(100, 60).unwrap());
        for bad in ["100", "0/60s", "x/60s", "1/9999d", "-1/60s"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
    }
}
