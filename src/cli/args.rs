//! Flags and arguments.

mod authoring;
mod callers;
pub(super) mod endpoints;
mod keys;
pub(super) mod local;
pub(super) mod quotas;
mod reach;
mod serving;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Parser, Subcommand};

pub(super) use crate::cli::args::{
    authoring::{DiffArgs, InvocationCommand, Switch},
    callers::{IssuerCommand, SigningKeyCommand, TokenCommand},
    endpoints::EndpointCommand,
    keys::{KeyArgs, KeyCommand},
    serving::{DevArgs, ListenArgs, ServeArgs},
};
use crate::{
    cli::args::{
        local::{ExportArgs, ImportArgs, Unshown},
        quotas::{QuotaCommand, UsageCommand},
    },
    domain::{
        egress::AllowRule,
        names::{ConnectionName, ScriptName, SecretName, TenantName},
        people::{Email, Role},
    },
};

/// Hosts untrusted API handler scripts: a fresh sandbox for every request.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
pub(super) struct Cli {
    /// Directory that holds everything a host keeps [default: ./pqhost-data, unless one is logged in]
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// Control database of the host, if not a file in that directory: `postgres://USER:PASSWORD@HOST/DATABASE`. Everybody on this
    /// machine can read arguments: put a URL with a password into the variable
    #[arg(long, global = true, value_name = "URL", env = "PQHOST_DATABASE", hide_env_values = true)]
    pub(super) database: Option<Unshown>,
    /// Control address of the host to manage, for example `http://127.0.0.1:8081`; its token is read from `PQHOST_TOKEN`
    #[arg(long = "url", global = true, value_name = "URL", env = "PQHOST_URL", conflicts_with = "data")]
    pub(super) control_url: Option<String>,
    /// Print JSON for machines
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve a tenant with example data and endpoints
    Demo(ListenArgs),
    /// Serve all tenants
    Serve(ServeArgs),
    /// Serve one handler file or folder, reloaded whenever it is saved
    Dev(DevArgs),
    /// Show a tenant's invocations and what they printed
    Logs(LogsArgs),
    /// Tenants
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// What a tenant may use over time
    #[command(subcommand)]
    Quota(QuotaCommand),
    /// What tenants used
    #[command(subcommand)]
    Usage(UsageCommand),
    /// Databases and HTTP APIs of a tenant
    #[command(subcommand)]
    Connection(ConnectionCommand),
    /// Hosts that a tenant's scripts may call
    #[command(subcommand)]
    Egress(EgressCommand),
    /// Scripts of a tenant
    #[command(subcommand)]
    Script(ScriptCommand),
    /// Endpoints of a tenant
    #[command(subcommand)]
    Endpoint(EndpointCommand),
    /// Invocations of a tenant
    #[command(subcommand)]
    Invocation(InvocationCommand),
    /// Tokens that callers of a tenant's endpoints present
    #[command(subcommand)]
    Token(TokenCommand),
    /// Keys that consumers of a tenant's endpoints present, and the rows that these reach
    #[command(subcommand)]
    Key(KeyCommand),
    /// Keys that sign a tenant's tokens
    #[command(subcommand)]
    SigningKey(SigningKeyCommand),
    /// Issuers outside of pqhost whose tokens a tenant accepts
    #[command(subcommand)]
    Issuer(IssuerCommand),
    /// Secrets that a tenant's scripts read with `pq.get_secret`
    #[command(subcommand)]
    Secret(SecretCommand),
    /// The key that secrets, connections and signing keys are sealed with
    #[command(subcommand)]
    Vault(VaultCommand),
    /// Bring the control database's schema up to date, as `serve` and every command do by themselves, and say what there was to do
    Migrate {
        /// Only say what there is to do; fails if there is anything
        #[arg(long)]
        check: bool,
    },
    /// Write the whole host, or one tenant, into a file that `import` reads
    Export(ExportArgs),
    /// Take in what `export` has written: a tenant, or a whole host where there is none
    Import(ImportArgs),
    /// Make a host match a script's folder and its `pqhost.toml`, after showing what that takes
    Deploy(DeployArgs),
    /// Log in to a host with an API token, or with --email and a password, from standard input
    Login(LoginArgs),
    /// Log out
    Logout,
    /// Show who one is
    Whoami,
    /// Users of the control API
    #[command(subcommand)]
    User(UserCommand),
    /// Users' roles in a tenant
    #[command(subcommand)]
    Member(MemberCommand),
    /// Tokens of programs that manage a tenant
    #[command(subcommand)]
    ApiToken(ApiTokenCommand),
    /// Tokens that may do everything on a host
    #[command(subcommand)]
    OperatorToken(OperatorTokenCommand),
    /// Show who changed what, newest first
    Audit {
        /// Of the host as a whole unless given
        tenant: Option<TenantName>,
    },
    /// Print a script that completes commands in a shell
    Completions { shell: clap_complete::Shell },
    /// Write manual pages into a folder
    ManPages { folder: PathBuf },
}

#[derive(Debug, Args)]
pub(super) struct DeployArgs {
    /// The folder, with a `handler.py` and a `pqhost.toml`
    #[arg(default_value = ".")]
    pub(super) folder: PathBuf,
    /// Only show what it takes
    #[arg(long)]
    pub(super) plan: bool,
    /// Do not ask
    #[arg(long)]
    pub(super) yes: bool,
    /// What is new, for people
    #[arg(long, short, default_value = "")]
    pub(super) message: String,
}

#[derive(Debug, Args)]
pub(super) struct LoginArgs {
    /// The host's control address
    pub(super) url: String,
    /// Log in as this user
    #[arg(long)]
    pub(super) email: Option<Email>,
}

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Create a user; the password is read from standard input
    Create { email: Email },
    /// Give a user a new password, read from standard input, which ends its sessions
    SetPassword { email: Email },
    /// Delete a user with its roles and tokens
    Delete { email: Email },
    /// List users
    List,
}

#[derive(Debug, Subcommand)]
pub(super) enum MemberCommand {
    /// Give a user a role in the tenant: viewer, author or owner
    Set { tenant: TenantName, email: Email, role: Role },
    /// Take a user out of the tenant
    Remove { tenant: TenantName, email: Email },
    /// List members
    List { tenant: TenantName },
}

#[derive(Debug, Subcommand)]
pub(super) enum ApiTokenCommand {
    /// Create a token with a role: viewer, author or owner; its text is shown once
    Create {
        tenant: TenantName,
        role: Role,
        #[command(flatten)]
        token: TokenArgs,
    },
    /// Revoke a token
    Revoke { tenant: TenantName, id: String },
    /// List tokens
    List { tenant: TenantName },
}

#[derive(Debug, Subcommand)]
pub(super) enum OperatorTokenCommand {
    /// Create a token; its text is shown once
    Create {
        #[command(flatten)]
        token: TokenArgs,
    },
    /// Revoke a token
    Revoke { id: String },
    /// List tokens
    List,
}

#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    /// What it is for, for people
    #[arg(long, default_value = "")]
    pub(super) name: String,
    /// How long it is valid, for example 12h or 30d; at most 366d
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = parse_duration)]
    pub(super) expires: Duration,
}

#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    pub(super) tenant: TenantName,
    /// Keep running and show new invocations
    #[arg(long, short)]
    pub(super) follow: bool,
    /// Show this many of the newest invocations
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) last: u32,
}

#[derive(Debug, Subcommand)]
pub(super) enum TenantCommand {
    /// Create a tenant
    Create { name: TenantName },
    /// Delete a tenant that has no scripts
    Delete { name: TenantName },
    /// List tenants
    List,
    /// Choose the connection that scripts mean by `pq.DW_NAME`
    SetDefault { name: TenantName, connection: ConnectionName },
}

#[derive(Debug, Subcommand)]
pub(super) enum ConnectionCommand {
    /// Create a connection; the tenant's first one is its default
    Create {
        tenant: TenantName,
        name: ConnectionName,
        /// `postgres://USER:PASSWORD@HOST/DATABASE`, the same with `mysql://`, `sqlite:FOLDER`, or `https://HOST/PATH` of an API
        url: String,
        /// Header field that the host adds to each request of an API, for example `Authorization: Bearer ...`
        #[arg(long, value_name = "NAME: VALUE")]
        header: Vec<String>,
        /// File with such header fields, one a line; `-` for standard input
        #[arg(long, value_name = "FILE")]
        headers_from: Option<PathBuf>,
    },
    /// Replace where a connection leads, for example with a new password
    Replace {
        tenant: TenantName,
        name: ConnectionName,
        url: String,
        /// As for `create`
        #[arg(long, value_name = "NAME: VALUE")]
        header: Vec<String>,
        /// As for `create`
        #[arg(long, value_name = "FILE")]
        headers_from: Option<PathBuf>,
    },
    /// Choose the scripts that may use a connection
    #[command(group = clap::ArgGroup::new("readers").required(true))]
    SetReaders {
        tenant: TenantName,
        name: ConnectionName,
        /// Only this script may use it; may be repeated
        #[arg(long = "script", value_name = "SCRIPT", group = "readers")]
        scripts: Vec<ScriptName>,
        /// No script may use it
        #[arg(long, group = "readers")]
        no_script: bool,
        /// All scripts of the tenant may use it
        #[arg(long, group = "readers")]
        all_scripts: bool,
    },
    /// List the tables and views of a database
    Tables { tenant: TenantName, name: ConnectionName },
    /// Show the first rows of a table
    Preview {
        tenant: TenantName,
        name: ConnectionName,
        /// As `tables` shows it
        schema: String,
        table: String,
        /// Rows at most
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
        limit: u32,
    },
    /// Try to connect to a database
    Test { tenant: TenantName, name: ConnectionName },
    /// Delete a connection
    Delete { tenant: TenantName, name: ConnectionName },
    /// List connections
    List { tenant: TenantName },
}

#[derive(Debug, Subcommand)]
pub(super) enum EgressCommand {
    /// Let the tenant's scripts call a host
    Allow {
        tenant: TenantName,
        /// `HOST`, `HOST:PORT` or `*.DOMAIN`; https, unless `http://` stands in front
        host: AllowRule,
    },
    /// Take a host off the list, written as `list` shows it
    Deny { tenant: TenantName, host: AllowRule },
    /// List the hosts that may be called
    List { tenant: TenantName },
}

#[derive(Debug, Subcommand)]
pub(super) enum ScriptCommand {
    /// Publish a new version of a script, or of several
    Publish {
        tenant: TenantName,
        /// `NAME FILE`, or any number of `NAME=FILE`; a folder in place of a file has a `handler.py`, and may have other
        /// modules, data, and a `requirements.txt` of pure-Python packages
        #[arg(required = true, num_args = 1.., value_name = "NAME FILE | NAME=FILE")]
        scripts: Vec<String>,
        /// What is new, for people
        #[arg(long, short, default_value = "")]
        message: String,
        /// Do not serve it yet: look at it with `preview`, then `promote` it
        #[arg(long)]
        no_promote: bool,
    },
    /// List scripts
    List { tenant: TenantName },
    /// List versions of a script
    Versions { tenant: TenantName, script: ScriptName },
    /// Save a folder as the script's draft, without publishing it; the script is created if there is none
    Push { tenant: TenantName, script: ScriptName, folder: PathBuf },
    /// Compare a folder, or a version, with another version. Exits with 0 if they are the same, 1 if not, 2 if that cannot be told
    Diff(DiffArgs),
    /// Write a version's files into a folder
    Pull {
        tenant: TenantName,
        script: ScriptName,
        folder: PathBuf,
        /// [default: the live one]
        #[arg(long)]
        version: Option<i64>,
    },
    /// Make a version the live one
    Promote { tenant: TenantName, script: ScriptName, version: i64 },
    /// Make the version live again that was live before
    RollBack { tenant: TenantName, script: ScriptName },
    /// Destroy the source of a version that is not served, for example because it holds a secret
    Purge { tenant: TenantName, script: ScriptName, version: i64 },
    /// Print an address at which a version answers before it is live
    Preview { tenant: TenantName, script: ScriptName, version: i64 },
    /// List the addresses that `preview` has printed, by id
    Previews { tenant: TenantName, script: ScriptName },
    /// Make such an address answer no longer
    RevokePreview { tenant: TenantName, script: ScriptName, id: String },
    /// Delete a script that no endpoint leads to
    Delete { tenant: TenantName, script: ScriptName },
}

#[derive(Debug, Subcommand)]
pub(super) enum SecretCommand {
    /// Create a secret or replace its value, which is read from standard input or a file
    Set {
        tenant: TenantName,
        name: SecretName,
        /// Read the value from this file instead of standard input
        #[arg(long, value_name = "FILE")]
        from_file: Option<PathBuf>,
        /// Only this script may read it; may be repeated [default: as before, at first all scripts of the tenant]
        #[arg(long = "script", value_name = "SCRIPT")]
        scripts: Vec<ScriptName>,
        /// All scripts of the tenant may read it
        #[arg(long, conflicts_with = "scripts")]
        all_scripts: bool,
    },
    /// Delete a secret
    Delete { tenant: TenantName, name: SecretName },
    /// List secrets, without their values
    List { tenant: TenantName },
}

#[derive(Debug, Subcommand)]
pub(super) enum VaultCommand {
    /// Replace the key, and seal everything anew with the new one
    Rotate,
    /// Create a key for exports in a new file
    CreateKey { file: PathBuf },
}

/// Writes `pqhost.1` and a page for each command into a folder.
pub(super) fn write_man_pages(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(<Cli as clap::CommandFactory>::command(), folder)
}

/// `90s`, `15m`, `12h` or `30d`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is no time: write for example 90s, 15m, 12h or 30d");
    let unit = text.chars().next_back().ok_or_else(bad)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86400,
        _ => return Err(bad()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| bad())?;
    count.checked_mul(seconds).filter(|seconds| *seconds > 0).map(Duration::from_secs).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn times_have_a_unit() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("30d"), Ok(Duration::from_secs(30 * 86400)));
        for bad in ["", "s", "30", "0s", "-1d", "1.5h", "1w", "99999999999999999999d", "213503982334602d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
