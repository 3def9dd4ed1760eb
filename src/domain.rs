//! The words of the business as types.
//!
//! Owns: names, ids, limits, faults, and what a script and a database say to each other. Never: I/O.

pub mod client;
pub mod control_database;
pub mod egress;
pub mod exchange;
pub mod http;
pub mod limits;
pub mod names;
pub mod people;
pub mod percent;
pub mod preview;
pub mod route;
pub mod rows;
pub mod script;
pub mod secret;
pub mod signing;
pub mod sql;
pub mod state;

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
