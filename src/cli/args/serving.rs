//! Arguments of commands that serve.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use ipnet::IpNet;

use crate::{
    cli::args::parse_duration,
    domain::{client::ForwardedField, public_url::PublicUrl},
};

#[derive(Debug, Args)]
pub(in crate::cli) struct ListenArgs {
    /// Where callers connect; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(in crate::cli) ingress: SocketAddr,
    /// Where operators connect; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    pub(in crate::cli) control: SocketAddr,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ServeArgs {
    #[command(flatten)]
    pub(in crate::cli) listen: ListenArgs,
    /// Threads that run handlers [default: one per core]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) guest_threads: Option<usize>,
    /// Handlers that may run at once
    #[arg(long, value_name = "N")]
    pub(in crate::cli) slots: Option<usize>,
    /// Handlers of one tenant that may run at once
    #[arg(long, value_name = "N")]
    pub(in crate::cli) slots_per_tenant: Option<usize>,
    /// Longest time of one invocation, for example 10s
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(in crate::cli) deadline: Option<Duration>,
    /// Fuel of one invocation, roughly instructions
    #[arg(long, value_name = "N")]
    pub(in crate::cli) fuel: Option<u64>,
    /// Memory of one invocation above the runtime's own, in MiB
    #[arg(long, value_name = "MIB")]
    pub(in crate::cli) memory: Option<u64>,
    /// Network that is not public and that scripts may reach, if their tenant may call the host; may be repeated
    #[arg(long, value_name = "CIDR")]
    pub(in crate::cli) egress_private: Vec<IpNet>,
    /// What a SQLite file may grow to; each schema of a tenant's SQLite connection is a file
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..))]
    pub(in crate::cli) sqlite_size: Option<u64>,
    /// Network of proxies that say where requests come from; may be repeated
    #[arg(long, value_name = "CIDR")]
    pub(in crate::cli) trusted_proxy: Vec<IpNet>,
    /// The header field in which they say it: `x-forwarded-for` unless given, or `forwarded`
    #[arg(long, value_name = "FIELD", requires = "trusted_proxy")]
    pub(in crate::cli) forwarded_field: Option<ForwardedField>,
    /// File with the certificate that both listeners show, in PEM form, followed by those that vouch for it; read anew when it changes
    #[arg(long, value_name = "FILE", env = "PQHOST_TLS_CERT", requires = "tls_key")]
    pub(in crate::cli) tls_cert: Option<PathBuf>,
    /// File with its private key, in PEM form
    #[arg(long, value_name = "FILE", env = "PQHOST_TLS_KEY", requires = "tls_cert")]
    pub(in crate::cli) tls_key: Option<PathBuf>,
    /// Beginning of the URLs that callers write, if it is another than they connect to, for example `https://api.example.com`
    #[arg(long, value_name = "URL", env = "PQHOST_PUBLIC_URL")]
    pub(in crate::cli) public_url: Option<PublicUrl>,
    /// Invocation records kept for each tenant
    #[arg(long, value_name = "N")]
    pub(in crate::cli) records: Option<u32>,
    /// How long invocation records are kept, for example 30d
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(in crate::cli) records_age: Option<Duration>,
    /// Rewind memory as on kernels without `PAGEMAP_SCAN`: slower, for comparison
    #[arg(long)]
    pub(in crate::cli) rewind_by_discarding: bool,
    /// Compare the whole memory with its image after each Nth rewind
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(in crate::cli) verify_every: usize,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DevArgs {
    /// The file that defines `handler`, or a folder with a `handler.py`
    pub(in crate::cli) file: PathBuf,
    /// Port on 127.0.0.1; 0 picks a free one
    #[arg(long, value_name = "N", default_value_t = 8080)]
    pub(in crate::cli) port: u16,
    /// Network that is not public and that the handler may reach, for example 127.0.0.0/8; may be repeated
    #[arg(long, value_name = "CIDR")]
    pub(in crate::cli) egress_private: Vec<IpNet>,
}
