//! Limits of one invocation.

use std::time::Duration;

use crate::domain::quota::UsedUp;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Linear memory that every image holds free above what its script uses, in bytes.
///
/// The smallest memory limit there can be: guest memory of this size is already there when a script starts, so that
/// ordinary requests never grow their memory (a slot that grew is dropped).
pub const HEADROOM_BYTES: u64 = 64 * MIB;

/// What one invocation may use. Each limit ends in an error that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Units of fuel, roughly WebAssembly instructions.
    ///
    /// A hello handler needs 0.1 million; 10,000 million are 1.5 to 3 seconds of computing. Less than the deadline, because a
    /// handler that waits for a database holds no core and one that computes does.
    pub fuel: u64,
    /// Time from the start of the handler to its response.
    ///
    /// Covers computing *and* waiting. 10 s is well below the 60 s at which common proxies give up, so callers see our 504
    /// with an invocation id instead of a dropped connection.
    pub deadline: Duration,
    /// Linear memory above the runtime's own, in bytes; at least [`HEADROOM_BYTES`].
    pub memory_bytes: u64,
    /// Request body, in bytes; the caller gets a 413.
    pub request_body_bytes: u64,
    /// Response body that a handler returns itself, in bytes. Streamed rows do not count.
    pub response_body_bytes: u64,
    /// Text kept of what a handler prints, in bytes. The rest is dropped and counted.
    pub log_bytes: u64,
    /// What a script may ask of databases.
    pub sql: SqlLimits,
    /// What a script may ask of HTTP servers.
    pub http: HttpLimits,
}

/// What one invocation may ask of databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqlLimits {
    /// Time for one statement, from sending it to its last row entering the guest.
    pub statement_time: Duration,
    /// Statements in one invocation.
    pub statements: u32,
    /// Rows of one result that may enter the guest.
    pub guest_rows: u64,
    /// Bytes of one result, as JSON, that may enter the guest.
    pub guest_bytes: u64,
    /// Rows of one result that may be streamed to a caller.
    pub streamed_rows: u64,
    /// Time for streaming one result to a caller, slow callers included.
    ///
    /// A stream holds a database connection, so a caller who does not read must not hold it for ever.
    pub stream_time: Duration,
    /// Why SQLite files may not grow, if they may not.
    pub sqlite_is_full: Option<UsedUp>,
}

/// Reads of secrets, and of lists of scripts and connections, in one invocation: each is a query to the control database.
pub const CONTROL_READS_MAX: u32 = 200;

/// What one invocation may ask of HTTP servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// Requests in one invocation, redirects included.
    pub requests: u32,
    /// Body of one request, in bytes.
    pub request_bytes: usize,
    /// Body of one response, in bytes. An endless one is cut here.
    pub response_bytes: usize,
    /// Header fields of one request, and of one response.
    pub headers: usize,
    /// Names and values of these, in bytes.
    pub header_bytes: usize,
    /// Time for one request, from connecting to the last byte of its response.
    ///
    /// Besides, every request ends when nine tenths of the deadline have passed, so that a handler whose server is slow can
    /// still answer.
    pub time: Duration,
}

/// How long sessions of programs outside of a sandbox last, and how many there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// A session without a call for this long ends. If its program is gone, its transactions hold locks until then.
    pub idle_time: Duration,
    /// A session ends after this time, whatever it does.
    pub total_time: Duration,
    /// Sessions of one tenant: a few authors, and tests that run in parallel.
    pub per_tenant_max: usize,
    /// Sessions of all tenants. Each may hold a call of some 20 MB in memory.
    pub all_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fuel: 10_000_000_000,
            deadline: Duration::from_secs(10),
            memory_bytes: HEADROOM_BYTES,
            request_body_bytes: 2 * MIB,
            response_body_bytes: 6 * MIB,
            log_bytes: 64 * KIB,
            sql: SqlLimits::default(),
            http: HttpLimits::default(),
        }
    }
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            idle_time: Duration::from_secs(60),
            total_time: Duration::from_secs(15 * 60),
            per_tenant_max: 16,
            all_max: 128,
        }
    }
}

impl Default for SqlLimits {
    fn default() -> Self {
        Self {
            statement_time: Duration::from_secs(5),
            statements: 100,
            guest_rows: 10_000,
            guest_bytes: 8 * MIB,
            streamed_rows: 1_000_000,
            stream_time: Duration::from_secs(300),
            sqlite_is_full: None,
        }
    }
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            requests: 50,
            request_bytes: 8 << 20,
            response_bytes: 8 << 20,
            headers: 100,
            header_bytes: 64 << 10,
            time: Duration::from_secs(60),
        }
    }
}
