//! The words of the business as types.
//!
//! Owns: names, ids, limits, faults, and what a script and a database say to each other. Never: I/O.

pub mod client;
pub mod control_database;
pub mod egress;
pub mod endpoint;
pub mod exchange;
pub mod http;
pub mod limits;
pub mod names;
pub mod page;
pub mod people;
pub mod percent;
pub mod preview;
pub mod public_url;
pub mod quota;
pub mod rate_limit;
pub mod route;
pub mod rows;
pub mod script;
pub mod secret;
pub mod signing;
pub mod sql;
pub mod state;
pub mod tls;
pub mod value;
pub mod visible;

/// Who caused a failure. Status, log level and metrics follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The HTTP caller: input, authorization, size.
    Caller,
    /// The tenant's script.
    Script,
    /// A quota of the tenant.
    Quota,
    /// pqhost itself, its operator or its machine.
    Host,
}

/// How much of a text an error shows, in characters.
const SHOWN_CHARS_MAX: usize = 80;

/// What somebody sent, as an error or a log may show it: its beginning, with control characters and all but ASCII escaped.
#[must_use]
pub fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_default).collect()
}
