//! pqhost: a host for untrusted API handler scripts, with a fresh sandbox for every request.
//!
//! `docs/ARCHITECTURE.md` is the map. Modules stand here lowest first; each imports only from above itself, and
//! `tests/tidy.rs` checks the table in that document.

pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod control;
mod crypto;
pub mod data;
pub mod db;
pub mod domain;
pub mod egress;
pub mod ingress;
pub mod invoke;
mod marshal;
pub mod problem;
pub mod publish;
pub mod remote;
pub mod sandbox;
pub mod server;
pub mod telemetry;
pub mod vault;
