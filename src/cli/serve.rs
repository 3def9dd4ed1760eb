//! `pqhost serve`, and what `demo` and `dev` share with it.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::{
    app::{Guests, Host, Workspace},
    cli::{args::ServeArgs, output::Output},
    config::{Config, DataDir},
    ingress,
    server::{self, Bound},
};

pub(super) fn data_dir(data: &Path) -> DataDir {
    DataDir::new(data.to_owned())
}

/// Told to people while they wait.
pub(super) fn compiling(output: Output) {
    output.progress("first start: compiling the Python runtime for this machine, which takes some seconds ...");
}

/// A host whose listeners are bound, but that does not serve yet.
pub(super) struct Ready {
    pub(super) host: Host,
    pub(super) bound: Bound,
    config: Config,
}

impl Ready {
    pub(super) fn ingress_url(&self) -> String {
        format!("http://{}", self.bound.ingress_addr)
    }

    pub(super) fn control_url(&self) -> String {
        format!("http://{}", self.bound.control_addr)
    }

    /// Serves until the process is told to stop, then drains.
    pub(super) async fn serve(self) -> Result<()> {
        self.serve_beside(Vec::new()).await
    }

    /// Serves while `companions` run, which are aborted before the host stops.
    pub(super) async fn serve_beside(self, companions: Vec<JoinHandle<()>>) -> Result<()> {
        let Self { host, bound, config } = self;
        let settings = ingress::Settings { dev: config.dev, ..ingress::Settings::default() };
        let router = ingress::router(host.invoker.clone(), Arc::clone(&host.workspace.auth), settings);
        bound.serve(router, server::control_router(), config.drain).await?;
        for companion in companions {
            companion.abort();
            _ = companion.await; // it was cancelled
        }
        host.stop().await;
        Ok(())
    }
}

/// Opens everything that `config` names.
pub(super) async fn start(config: Config, output: Output) -> Result<Ready> {
    let config = config.validated()?;
    let bound = server::bind(config.ingress, config.control).await.context("cannot listen")?;
    let workspace = Workspace::open(&config.data).await?;
    let (guests, _) = Guests::start(&config, &workspace, || compiling(output))?;
    let host = Host::start(&config, workspace, guests);
    Ok(Ready { host, bound, config })
}

pub(super) async fn serve(data: &Path, args: ServeArgs, output: Output) -> Result<()> {
    let ServeArgs {
        listen,
        guest_threads,
        slots,
        slots_per_tenant,
        deadline,
        fuel,
        memory,
        egress_private,
        rewind_by_discarding,
        verify_every,
    } = args;
    let mut config = Config::new(data_dir(data));
    config.ingress = listen.ingress;
    config.control = listen.control;
    config.guest_threads = guest_threads.unwrap_or(config.guest_threads);
    config.slots_max = slots.unwrap_or(config.slots_max);
    config.slots_per_tenant_max = slots_per_tenant.unwrap_or_else(|| config.slots_per_tenant_max.min(config.slots_max));
    config.limits.deadline = deadline.unwrap_or(config.limits.deadline);
    config.limits.fuel = fuel.unwrap_or(config.limits.fuel);
    config.limits.memory_bytes = memory.map_or(config.limits.memory_bytes, |mib| mib.saturating_mul(1 << 20));
    config.egress_private = egress_private;
    config.rewind_by_discarding = rewind_by_discarding;
    config.verify_every = verify_every;
    let ready = start(config, output).await?;
    let (ingress, control) = (ready.ingress_url(), ready.control_url());
    output.done(
        &format!("serving tenants' endpoints on {ingress}, control on {control}"),
        &json!({ "ingress": ingress, "control": control }),
    );
    ready.serve().await
}
