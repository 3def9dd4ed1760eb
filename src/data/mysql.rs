//! MySQL and MariaDB.
//!
//! Owns: the pool of sessions, and running one statement in one; the types; changes, which do not give their rows back here. Never:
//! writes SQL that reads (see `read`).
//!
//! **Round trips.** A table read whose statement this session has prepared before costs one.
//!
//! **Session state.** sqlx cannot reset a session. So sessions are shared only by statements that see no state: table
//! reads, our own changes in their transactions, and authors' statements that provably neither leave nor see any (see
//! `plain`). Every other statement has a new session to itself, which is closed after it.
//!
//! **Stopping.** Neither server notices while it computes that its client is gone. A statement that nobody waits for is
//! stopped with `KILL` from a second connection; the server's own limit on statements bounds it should that fail.
//!
//! **Statements are prepared, always.** The prepared form takes one statement at a time, whatever the server and sqlx
//! have agreed upon, and has values with types instead of text. LOCAL INFILE is never agreed upon.

mod catalog;
mod change;
mod decode;
mod driver;
mod encode;
mod error;
mod examine;
mod geometry;
mod json_columns;
mod plain;
mod session;
mod types;

pub(crate) use crate::data::mysql::{driver::MySqlPool, examine::examine};
