//! The command line: noun, then verb.
//!
//! Owns: flags, what people and machines read on stdout, exit codes. Never: does the work of a command's module.

mod args;
mod callers;
mod client;
mod demo;
mod deploy;
mod dev;
mod diff;
mod endpoints;
mod invocations;
mod kept_login;
mod keys;
mod login;
mod logs;
mod migrate;
mod nouns;
mod output;
mod people;
mod quotas;
mod scripts;
mod secrets;
mod serve;
mod sources;
mod transfer;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use crate::cli::{
    args::{Cli, Command, ScriptCommand, VaultCommand},
    client::Target,
    output::Output,
};

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { data, database, control_url, json, command } = Cli::parse();
    let output = Output { json };
    let database = match database.map(|database| database.database()).transpose() {
        Ok(database) => database,
        Err(error) => return output.fail(&anyhow::Error::from(error).context("--database")),
    };
    let target = Target { url: control_url, data, database };
    crate::telemetry::init(json);
    limit_core_dumps();
    raise_file_limit();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output.fail(&anyhow::anyhow!("cannot start threads: {error}")),
    };
    let outcome = runtime.block_on(async {
        let done = match command {
            Command::Script(ScriptCommand::Diff(args)) => return Ok(diff::diff(&target, args, output).await),
            Command::Serve(args) => serve::serve(target.data(), args, output).await,
            Command::Demo(args) => demo::demo(target.data(), args, output).await,
            Command::Dev(args) => dev::dev(target.data(), args, output).await,
            Command::Logs(args) => logs::logs(&target, args, output).await,
            Command::Tenant(command) => nouns::tenant(&target, command, output).await,
            Command::Quota(command) => quotas::quota(&target, command, output).await,
            Command::Usage(command) => quotas::usage(&target, command, output).await,
            Command::Connection(command) => nouns::connection(&target, command, output).await,
            Command::Egress(command) => nouns::egress(&target, command, output).await,
            Command::Script(command) => scripts::script(&target, command, output).await,
            Command::Endpoint(command) => endpoints::endpoint(&target, command, output).await,
            Command::Invocation(command) => invocations::invocation(&target, command, output).await,
            Command::Key(command) => keys::key(&target, command, output).await,
            Command::Token(command) => callers::token(&target, command, output).await,
            Command::SigningKey(command) => callers::signing_key(&target, command, output).await,
            Command::Issuer(command) => callers::issuer(&target, command, output).await,
            Command::Secret(command) => secrets::secret(&target, command, output).await,
            Command::Vault(VaultCommand::Rotate) => secrets::rotate(&target, output).await,
            Command::Vault(VaultCommand::CreateKey { file }) => secrets::create_key(&file, output),
            Command::Export(args) => transfer::export(&target, args, output).await,
            Command::Import(args) => transfer::import(&target, args, output).await,
            Command::Migrate { check } => migrate::migrate(&target, check, output).await,
            Command::Deploy(args) => deploy::deploy(&target, args, output).await,
            Command::Login(args) => login::login(args, output).await,
            Command::Logout => login::logout(output).await,
            Command::Whoami => login::whoami(&target, output).await,
            Command::User(command) => people::user(&target, command, output).await,
            Command::Member(command) => people::member(&target, command, output).await,
            Command::ApiToken(command) => people::api_token(&target, command, output).await,
            Command::OperatorToken(command) => people::operator_token(&target, command, output).await,
            Command::Audit { tenant } => people::audit(&target, tenant, output).await,
            Command::Completions { shell } => {
                output.completions(shell);
                Ok(())
            }
            Command::ManPages { folder } => args::write_man_pages(&folder).context("cannot write manual pages"),
        };
        done.map(|()| ExitCode::SUCCESS)
    });
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code,
        Err(error) => output.fail(&error),
    }
}

/// Guests' memory may hold tenants' data: it must not end up in a core dump.
fn limit_core_dumps() {
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Core, none) {
        tracing::warn!(%error, "core dumps cannot be turned off");
    }
}

/// Each connection is a file descriptor, and the usual limit of 1,024 is a soft one.
fn raise_file_limit() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}
