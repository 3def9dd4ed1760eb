//! What a script remembers between requests, and what it may be told about it.

use crate::domain::quota::UsedUp;

/// Largest state of a script, as JSON, in bytes.
///
/// State is read and written as a whole, so it is for tokens, cursors and settings; what grows belongs into a database.
/// Writing 1 MiB takes the control database a few milliseconds, which other tenants' writes wait for.
pub const STATE_BYTES_MAX: usize = 1 << 20;

/// Reads and writes of state in one invocation.
///
/// Each write waits for the disk: 500 are about the time that an invocation has. `update_state` under contention takes one
/// for each attempt.
pub const STATE_OPERATIONS_MAX: u32 = 500;

/// The state of a script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateEntry {
    /// JSON as it was written; absent when never set, or cleared.
    pub value: Option<String>,
    /// Counts writes; 0 when never set.
    pub revision: i64,
}

/// Why state was not read or not written, in words that the script's author may read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The tenant has no such script.
    #[error("there is no script with the id {id}; pq.list_scripts() gives those that there are")]
    UnknownScript {
        /// The id.
        id: i64,
    },
    /// The value is beyond [`STATE_BYTES_MAX`].
    #[error(
        "the state is {bytes} bytes as JSON; at most {STATE_BYTES_MAX} are allowed: keep what grows in a database, for \
         example with dbconnect().write()"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The value is not JSON.
    #[error("the state is not JSON: {problem}; write it with pq.set_state(), which makes JSON of it")]
    NotJson {
        /// What is wrong, and where.
        problem: String,
    },
    /// More than [`STATE_OPERATIONS_MAX`].
    #[error("the handler may read and write state {STATE_OPERATIONS_MAX} times in one request")]
    TooManyOperations,
    /// As much is kept for the tenant as may be.
    #[error("{0}: no more state is kept")]
    QuotaUsedUp(UsedUp),
    /// The host cannot read or write now.
    #[error("the host cannot read or write state right now; try again")]
    Unavailable,
}
