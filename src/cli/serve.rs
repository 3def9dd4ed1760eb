//! `pqhost serve`, and what `demo` and `dev` share with it.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::{
    app::{Guests, Host, Workspace},
    cli::{args::ServeArgs, output::Output},
    config::{Config, DataDir},
    control,
    domain::{
        client::{Scheme, TrustedProxies},
        tls::TlsFiles,
    },
    ingress,
    server::{self, Server, Stopped},
};

/// Told to people while they wait.
pub(super) fn compiling(output: Output) {
    output.progress("first start: compiling the Python runtime for this machine, which takes some seconds ...");
}

/// A host that tells callers to come back later until they are admitted.
pub(super) struct Ready {
    pub(super) host: Host,
    server: Server,
    config: Config,
}

impl Ready {
    pub(super) fn ingress_url(&self) -> String {
        format!("{}://{}", self.scheme().as_str(), self.server.ingress_addr)
    }

    pub(super) fn control_url(&self) -> String {
        format!("{}://{}", self.scheme().as_str(), self.server.control_addr)
    }

    fn scheme(&self) -> Scheme {
        if self.config.tls.is_some() { Scheme::Https } else { Scheme::Http }
    }

    /// Lets callers and operators in. To be done before anybody is told that the host serves.
    pub(super) fn admit_callers(&self) {
        let Self { host, server, config } = self;
        let public_url = config.public_url.clone();
        let settings = ingress::Settings { dev: config.dev, public_url, ..ingress::Settings::default() };
        let callers = ingress::router(host.invoker.clone(), Arc::clone(&host.workspace.auth), settings);
        server.admit(callers, control::router(control::Parts::of_host(host)));
    }

    /// Serves until the process is told to stop, then drains.
    pub(super) async fn serve(self) -> Result<()> {
        self.serve_beside(Vec::new()).await
    }

    /// Serves while `companions` run, which are aborted before the host stops.
    pub(super) async fn serve_beside(self, companions: Vec<JoinHandle<()>>) -> Result<()> {
        let Self { host, server, config } = self;
        let stopped = server.serve(config.drain).await?;
        for companion in companions {
            companion.abort();
            _ = companion.await; // it was cancelled
        }
        host.stop(stopped == Stopped::CutOff).await;
        Ok(())
    }
}

/// Opens everything that `config` names.
pub(super) async fn start(config: Config, output: Output) -> Result<Ready> {
    let config = config.validated()?;
    let bound = server::bind(config.ingress, config.control).await.context("cannot listen")?;
    let settings = server::Settings {
        trusted_proxies: config.trusted_proxies.clone(),
        tls: config.tls.clone(),
        ..server::Settings::of_this_process()
    };
    let server = bound.open(settings).context("cannot listen")?;
    let workspace = Workspace::open(&config.data).await?;
    // On a thread of its own: the listeners answer meanwhile.
    let starting = tokio::task::spawn_blocking(move || {
        let guests = Guests::start(&config, &workspace, || compiling(output));
        guests.map(|(guests, _)| (config, workspace, guests))
    });
    let (config, workspace, guests) = starting.await??;
    let host = Host::start(&config, workspace, guests);
    Ok(Ready { host, server, config })
}

pub(super) async fn serve(data: DataDir, args: ServeArgs, output: Output) -> Result<()> {
    let ServeArgs {
        listen,
        guest_threads,
        slots,
        slots_per_tenant,
        deadline,
        fuel,
        memory,
        egress_private,
        sqlite_size,
        trusted_proxy,
        forwarded_field,
        tls_cert,
        tls_key,
        public_url,
        records,
        records_age,
        rewind_by_discarding,
        verify_every,
    } = args;
    let mut config = Config::new(data);
    config.ingress = listen.ingress;
    config.control = listen.control;
    config.guest_threads = guest_threads.unwrap_or(config.guest_threads);
    config.slots_max = slots.unwrap_or(config.slots_max);
    config.slots_per_tenant_max = slots_per_tenant.unwrap_or_else(|| config.slots_per_tenant_max.min(config.slots_max));
    config.limits.deadline = deadline.unwrap_or(config.limits.deadline);
    config.limits.fuel = fuel.unwrap_or(config.limits.fuel);
    config.limits.memory_bytes = memory.map_or(config.limits.memory_bytes, |mib| mib.saturating_mul(1 << 20));
    config.egress_private = egress_private;
    config.sqlite_bytes = sqlite_size.map_or(config.sqlite_bytes, |mib| mib.saturating_mul(1 << 20));
    config.trusted_proxies = TrustedProxies { networks: trusted_proxy, field: forwarded_field.unwrap_or_default() };
    config.tls = tls_cert.zip(tls_key).map(|(certificate, key)| TlsFiles { certificate, key });
    config.public_url = public_url;
    config.records_kept = records.unwrap_or(config.records_kept);
    config.records_age = records_age.unwrap_or(config.records_age);
    config.rewind_by_discarding = rewind_by_discarding;
    config.verify_every = verify_every;
    let ready = start(config, output).await?;
    ready.admit_callers();
    let (ingress, control) = (ready.ingress_url(), ready.control_url());
    output.done(
        &format!("serving tenants' endpoints on {ingress}, control on {control}"),
        &json!({ "ingress": ingress, "control": control }),
    );
    ready.serve().await
}
