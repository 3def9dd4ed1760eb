//! SQLite.
//!
//! Owns: running one statement on a blocking thread, the pool of open folders, the types. Never: decides what a statement may do
//! (see `jail`).
//!
//! Through rusqlite, not sqlx, because the jail needs what sqlx does not offer: an authorizer, run-time limits and a
//! handler that stops a statement half-way. Both link the same SQLite.
//!
//! **Session state.** The jail refuses what could leave some: temporary tables, transactions of a script's own, pragmas. A connection that
//! wrote anything is closed all the same, because it remembers the last row id and the number of changes.

mod catalog;
mod driver;
mod error;
mod folder;
mod jail;
mod schemas;
mod types;

pub(crate) use crate::data::sqlite::{driver::SqlitePool, schemas::used_bytes, types::Affinity};
