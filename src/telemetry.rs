//! What operators see of a running process.
//!
//! Owns: how log lines are formatted and filtered; the field names used everywhere: `tenant.id`, `tenant.name`, `script.name`,
//! `version.id`, `endpoint.id`, `connection.name`, `invocation.id`, `error`. Never: tokens, secrets, bodies.

use tracing_subscriber::{EnvFilter, fmt, util::SubscriberInitExt as _};

/// What is logged unless `RUST_LOG` says otherwise.
const DEFAULT_FILTER: &str = "warn,pqhost=info";

/// Sends log lines to stderr, as JSON if asked. The first call counts.
pub fn init(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let initialized = if json { builder.json().finish().try_init() } else { builder.finish().try_init() };
    _ = initialized; // somebody else, for example a test, has installed a subscriber: theirs stays
}
