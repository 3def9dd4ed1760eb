//! pqhost: a host for untrusted API handler scripts, with a fresh sandbox for every request.
//!
//! `docs/ARCHITECTURE.md` is the map. Modules stand here lowest first; each imports only from above itself, and
//! `tests/tidy.rs` checks the table in that document.

pub mod data;
pub mod db;
pub mod domain;
pub mod invoke;
pub mod publish;
pub mod sandbox;
pub mod vault;
