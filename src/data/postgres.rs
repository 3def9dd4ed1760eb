//! PostgreSQL.
//!
//! Owns: sessions, and running one statement in one; the types. Never: writes SQL that reads or changes rows (see `read`, `write`).
//!
//! **Round trips.** A table read whose statement this session has prepared before costs one: bind, execute, sync. There
//! is no BEGIN and no SET: limits are settings of the session.
//!
//! **Session state.** A table read is our own SQL and changes no session state. Our own changes leave the last values of
//! sequences, which only an author's statement could ask for: they are removed before the next one of those, and not
//! after each change. After an author's statement, which may
//! have called a function that does anything, the session is reset with `DISCARD ALL` before anyone else gets it; in a
//! transaction that fails, and then the session is closed. It is closed without further ado after a statement that may
//! leave what no reset removes (see [`outlasts_reset`]). All this takes place after the rows have left.
//!
//! **Stopping.** A statement nobody waits for is stopped by closing its session: the server looks for that every half
//! second (`client_connection_check_interval`), and `statement_timeout` bounds it in any case.

mod blame;
mod catalog;
mod decode;
mod driver;
mod encode;
mod error;
mod examine;
mod geometric;
mod numeric;
mod text;
mod types;

pub(crate) use crate::data::postgres::{driver::PostgresPool, examine::examine};
