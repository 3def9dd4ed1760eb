//! What an operator can set, validated once at the start.
//!
//! Owns: defaults, their reasons, the data directory, the environment. Never: reads anything later.

mod folder;

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;

pub use crate::config::folder::make_private_folder;
use crate::domain::{
    client::TrustedProxies,
    control_database::{ControlDatabase, ServerDatabase},
    limits::{HEADROOM_BYTES, Limits, SessionLimits},
    public_url::PublicUrl,
    secret::Secret,
    tls::TlsFiles,
};

/// The environment variable that holds the vault's key instead of a file.
pub const VAULT_KEY_VARIABLE: &str = "PQHOST_VAULT_KEY";

/// The environment variable that holds the key which takes its place, while it is being changed.
pub const NEXT_VAULT_KEY_VARIABLE: &str = "PQHOST_VAULT_KEY_NEXT";

/// Everything a host keeps: a directory, and its control database, which is a file there or on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir {
    path: PathBuf,
    server: Option<ServerDatabase>,
}

impl DataDir {
    /// A data directory; it need not exist.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, server: None }
    }

    /// The same with the control database on a server, if one is given.
    #[must_use]
    pub fn with_server(self, server: Option<ServerDatabase>) -> Self {
        Self { server, ..self }
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The control database.
    #[must_use]
    pub fn database(&self) -> ControlDatabase {
        match &self.server {
            Some(server) => ControlDatabase::Server(server.clone()),
            None => ControlDatabase::File(self.path.join("pqhost.db")),
        }
    }

    /// The vault's key, unless the environment has it.
    #[must_use]
    pub fn vault_key(&self) -> PathBuf {
        self.path.join("vault.key")
    }

    /// Images of scripts.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.path.join("images")
    }

    /// Native code of the runtime; may be deleted at any time.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.path.join("cache")
    }

    /// Below this lie SQLite connections with relative paths.
    #[must_use]
    pub fn sqlite(&self) -> PathBuf {
        self.path.join("sqlite")
    }
}

impl fmt::Display for DataDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.path.display())?;
        match &self.server {
            Some(server) => write!(f, " with the control database `{server}`"),
            None => Ok(()),
        }
    }
}

/// A setting that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting} {problem}")]
pub struct InvalidConfig {
    setting: &'static str,
    problem: String,
}

/// The settings of a host.
#[derive(Debug)]
pub struct Config {
    /// Where everything is kept.
    pub data: DataDir,
    /// Where callers connect. Port 0 picks a free one.
    pub ingress: SocketAddr,
    /// Where operators connect. Another origin than ingress, because handlers may answer with hostile HTML.
    pub control: SocketAddr,
    /// Threads that run guests. As many as there are cores: guests compute.
    pub guest_threads: usize,
    /// Handlers that may run at once. Each slot holds 1 to 10 MB; waiting for databases needs slots, not cores.
    pub slots_max: usize,
    /// Handlers of one tenant that may run at once: half of all, so that no tenant can take every slot.
    pub slots_per_tenant_max: usize,
    /// Requests that may wait for a slot.
    pub queue_max: usize,
    /// How long a request may wait for a slot before it is told to come back later.
    pub queue_wait: Duration,
    /// What an invocation may use.
    pub limits: Limits,
    /// Sessions of authors' programs.
    pub sessions: SessionLimits,
    /// Networks that are not public and that scripts may reach all the same, if their tenant may call the host. None: an
    /// operator has to know what listens there and trusts whoever comes from this machine.
    pub egress_private: Vec<IpNet>,
    /// What a SQLite file of a tenant may grow to.
    pub sqlite_bytes: u64,
    /// Proxies in front of the listeners that say where a request comes from. None: anybody else could make that up.
    pub trusted_proxies: TrustedProxies,
    /// The certificate of both listeners; without one they speak no TLS.
    pub tls: Option<TlsFiles>,
    /// The beginning of every URL as callers write it, up to the path, where that is another one than they connect to.
    pub public_url: Option<PublicUrl>,
    /// Invocation records kept for each tenant.
    pub records_kept: u32,
    /// How long they are kept.
    pub records_age: Duration,
    /// How long requests in flight may take to finish when the host is told to stop.
    pub drain: Duration,
    /// Shows tracebacks to callers: for `pqhost dev` only.
    pub dev: bool,
    /// Rewinds memory by dropping its private pages, as on kernels without `PAGEMAP_SCAN`.
    pub rewind_by_discarding: bool,
    /// After each this many rewinds, compare the whole memory with its image; 0 for never.
    pub verify_every: usize,
}

impl Config {
    /// The defaults, with everything below `data`.
    #[must_use]
    pub fn new(data: DataDir) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get);
        Self {
            data,
            ingress: SocketAddr::from(([127, 0, 0, 1], 8080)),
            control: SocketAddr::from(([127, 0, 0, 1], 8081)),
            guest_threads: cores,
            slots_max: 64,
            slots_per_tenant_max: 32,
            queue_max: 1024,
            queue_wait: Duration::from_secs(5),
            limits: Limits::default(),
            sessions: SessionLimits::default(),
            egress_private: Vec::new(),
            sqlite_bytes: 1 << 30,
            trusted_proxies: TrustedProxies::default(),
            tls: None,
            public_url: None,
            records_kept: 100_000,
            records_age: Duration::from_secs(30 * 86400),
            drain: Duration::from_secs(30),
            dev: false,
            rewind_by_discarding: false,
            verify_every: 0,
        }
    }

    /// Checks what defaults cannot have wrong but settings can.
    ///
    /// # Errors
    /// With the first setting that cannot be.
    pub fn validated(self) -> Result<Self, InvalidConfig> {
        let refuse = |setting, problem: String| Err(InvalidConfig { setting, problem });
        if self.ingress == self.control && self.ingress.port() != 0 {
            return refuse("--control", format!("must be another address than --ingress, {}", self.ingress));
        }
        if self.guest_threads == 0 || self.guest_threads > GUEST_THREADS_MAX {
            let problem = format!("must be 1 to {GUEST_THREADS_MAX}, not {}", self.guest_threads);
            return refuse("--guest-threads", problem);
        }
        if self.slots_max > SLOTS_MAX {
            return refuse("--slots", format!("must be at most {SLOTS_MAX}, not {}", self.slots_max));
        }
        if self.slots_max == 0 || self.slots_per_tenant_max == 0 || self.slots_per_tenant_max > self.slots_max {
            let problem = format!("must be 1 to --slots, {}, not {}", self.slots_max, self.slots_per_tenant_max);
            return refuse("--slots-per-tenant", problem);
        }
        if self.limits.memory_bytes < HEADROOM_BYTES {
            return refuse(
                "--memory",
                format!("must be at least {HEADROOM_BYTES} bytes, not {}", self.limits.memory_bytes),
            );
        }
        if self.limits.deadline.is_zero() || self.limits.deadline > DEADLINE_MAX {
            return refuse(
                "--deadline",
                format!("must be more than 0 and at most {DEADLINE_MAX:?}, not {:?}", self.limits.deadline),
            );
        }
        if self.limits.fuel < FUEL_MIN {
            return refuse("--fuel", format!("must be at least {FUEL_MIN}, not {}", self.limits.fuel));
        }
        Ok(self)
    }
}

/// Guests compute: threads beyond the largest machine's cores only cost memory.
const GUEST_THREADS_MAX: usize = 1024;

/// Each slot reserves some gigabytes of addresses, of which a process has 128 TiB, and dozens of the 65,530 mappings.
const SLOTS_MAX: usize = 4096;

/// Longest deadline that may be set.
const DEADLINE_MAX: Duration = Duration::from_secs(300);

/// Less than this does not even start a handler.
const FUEL_MIN: u64 = 10_000_000;

/// The vault's key from the environment, if it is there, and the one that takes its place.
#[must_use]
pub fn vault_keys_from_environment() -> Option<(Secret, Option<Secret>)> {
    #[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
    let variable = |name| std::env::var(name).ok().map(Secret::from);
    Some((variable(VAULT_KEY_VARIABLE)?, variable(NEXT_VAULT_KEY_VARIABLE)))
}

/// The control API's token from the environment.
#[must_use]
pub fn api_token_from_environment() -> Option<Secret> {
    #[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
    std::env::var("PQHOST_TOKEN").ok().map(Secret::from)
}

/// A file with certificates of authorities that are trusted besides the public ones, from the variable that other programs look at, too.
#[must_use]
pub fn trusted_authorities() -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
    std::env::var("SSL_CERT_FILE").ok().filter(|file| !file.is_empty()).map(PathBuf::from)
}

/// Where `pqhost login` keeps what it knows: in the user's configuration folder, if there is one.
#[must_use]
pub fn login_file() -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
    let folder = |name| std::env::var(name).ok().filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let folder = folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")))?;
    Some(folder.join("pqhost/login.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_bad_settings_are_named() {
        let config = || Config::new(DataDir::new("data".into()));
        assert!(config().validated().is_ok());
        let changed = |change: fn(&mut Config)| {
            let mut config = config();
            change(&mut config);
            config.validated().unwrap_err().to_string()
        };
        for (change, name) in [
            ((|c| c.control = c.ingress) as fn(&mut Config), "--control"),
            (|c| c.guest_threads = 0, "--guest-threads"),
            (|c| c.guest_threads = 1025, "--guest-threads"),
            (|c| c.slots_max = usize::MAX, "--slots must"),
            (|c| c.slots_max = 1, "--slots-per-tenant"),
            (|c| c.limits.memory_bytes = 1, "--memory"),
            (|c| c.limits.deadline = Duration::ZERO, "--deadline"),
            (|c| c.limits.deadline = Duration::from_secs(301), "--deadline"),
            (|c| c.limits.fuel = 1, "--fuel"),
        ] {
            assert!(changed(change).starts_with(name), "{name}");
        }
    }
}
