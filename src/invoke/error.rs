//! Why an invocation gave no answer.

use std::time::Duration;

use crate::{
    db::DbError,
    domain::{Fault, names::ScriptName, quota::UsedUp, shown},
    sandbox::{
        pool::PoolError,
        slot::{CallError, FailureKind, ScriptFailure},
    },
};

/// Why an invocation gave no answer, named for what can be done about it.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// The endpoint's script has no version yet.
    #[error("script `{script}` has no published version")]
    NotPublished {
        /// The script.
        script: ScriptName,
    },
    /// The handler raised, or its source does not load. The exception's text is for its author only: it may hold secrets.
    #[error("the handler raised {}", shown(&.0.type_name))]
    ScriptRaised(ScriptFailure),
    /// The handler returned something that is no response.
    #[error("the handler returned something that is no response")]
    BadReturn(ScriptFailure),
    /// The handler ended the process.
    #[error("the handler ended its process")]
    ScriptExited,
    /// The handler broke its sandbox.
    #[error("the handler was stopped: {reason}")]
    ScriptTrapped {
        /// In wasmtime's words.
        reason: String,
    },
    /// All fuel was used.
    #[error("the handler used all of its {limit} units of fuel")]
    OutOfFuel {
        /// The limit.
        limit: u64,
    },
    /// The deadline passed.
    #[error("the handler ran longer than {deadline:?}")]
    DeadlineExceeded {
        /// The limit.
        deadline: Duration,
    },
    /// The memory limit was hit.
    #[error("the handler needed more than its {limit_bytes} bytes of memory")]
    OutOfMemory {
        /// The limit.
        limit_bytes: u64,
    },
    /// The stack was exhausted.
    #[error("the handler exhausted its stack")]
    StackOverflow,
    /// The response is too large.
    #[error("the handler's response has {seen_bytes} bytes; at most {limit_bytes} are allowed")]
    ResponseTooLarge {
        /// The limit.
        limit_bytes: u64,
        /// What the handler returned.
        seen_bytes: u64,
    },
    /// The tenant runs as many handlers as it may.
    #[error("the tenant already runs {limit} handlers at once")]
    TooManyInFlight {
        /// The limit.
        limit: usize,
    },
    /// The tenant has used what it was granted.
    #[error("{used_up}")]
    QuotaUsedUp {
        /// What that was.
        used_up: UsedUp,
        /// When to try again.
        retry_after: Duration,
    },
    /// The host runs as many handlers as it may.
    #[error("all {limit} slots are in use")]
    Overloaded {
        /// The limit.
        limit: usize,
        /// When to try again.
        retry_after: Duration,
    },
    /// The control database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A bug, or a machine out of resources.
    #[error("{0}")]
    Host(String),
}

impl InvokeError {
    /// The stable code that callers see.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotPublished { .. } => "script_not_published",
            Self::ScriptRaised(_) => "script_error",
            Self::BadReturn(_) => "script_bad_return",
            Self::ScriptExited => "script_exit",
            Self::ScriptTrapped { .. } => "script_trap",
            Self::OutOfFuel { .. } => "script_fuel",
            Self::DeadlineExceeded { .. } => "script_deadline",
            Self::OutOfMemory { .. } => "script_memory",
            Self::StackOverflow => "script_stack",
            Self::ResponseTooLarge { .. } => "script_response_too_large",
            Self::TooManyInFlight { .. } => "tenant_concurrency",
            Self::QuotaUsedUp { .. } => "quota_exceeded",
            Self::Overloaded { .. } => "host_overloaded",
            Self::Db(_) | Self::Host(_) => "host_error",
        }
    }

    /// The HTTP status that callers see.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::NotPublished { .. }
            | Self::ScriptRaised(_)
            | Self::BadReturn(_)
            | Self::ScriptExited
            | Self::ScriptTrapped { .. }
            | Self::OutOfFuel { .. }
            | Self::OutOfMemory { .. }
            | Self::StackOverflow
            | Self::ResponseTooLarge { .. }
            | Self::Db(_)
            | Self::Host(_) => 500,
            Self::DeadlineExceeded { .. } => 504,
            Self::TooManyInFlight { .. } | Self::QuotaUsedUp { .. } => 429,
            Self::Overloaded { .. } => 503,
        }
    }

    /// Who caused it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::NotPublished { .. }
            | Self::ScriptRaised(_)
            | Self::BadReturn(_)
            | Self::ScriptExited
            | Self::ScriptTrapped { .. }
            | Self::OutOfFuel { .. }
            | Self::DeadlineExceeded { .. }
            | Self::OutOfMemory { .. }
            | Self::StackOverflow
            | Self::ResponseTooLarge { .. } => Fault::Script,
            Self::TooManyInFlight { .. } | Self::QuotaUsedUp { .. } => Fault::Quota,
            Self::Overloaded { .. } | Self::Db(_) | Self::Host(_) => Fault::Host,
        }
    }

    /// The traceback for the script's author, if there is one.
    #[must_use]
    pub fn traceback(&self) -> Option<&str> {
        match self {
            Self::ScriptRaised(failure) | Self::BadReturn(failure) => Some(&failure.traceback),
            Self::NotPublished { .. }
            | Self::ScriptExited
            | Self::ScriptTrapped { .. }
            | Self::OutOfFuel { .. }
            | Self::DeadlineExceeded { .. }
            | Self::OutOfMemory { .. }
            | Self::StackOverflow
            | Self::ResponseTooLarge { .. }
            | Self::TooManyInFlight { .. }
            | Self::QuotaUsedUp { .. }
            | Self::Overloaded { .. }
            | Self::Db(_)
            | Self::Host(_) => None,
        }
    }

    pub(super) fn from_call(error: CallError, memory_bytes: u64) -> Self {
        match error {
            CallError::Script(failure) => match failure.kind {
                FailureKind::Raised | FailureKind::Syntax | FailureKind::NoHandler => Self::ScriptRaised(failure),
                FailureKind::BadReturn => Self::BadReturn(failure),
                FailureKind::Exited => Self::ScriptExited,
                FailureKind::OutOfMemory => Self::OutOfMemory { limit_bytes: memory_bytes },
            },
            CallError::OutOfFuel { limit } => Self::OutOfFuel { limit },
            CallError::OutOfMemory { limit_bytes } => Self::OutOfMemory { limit_bytes },
            CallError::StackOverflow => Self::StackOverflow,
            CallError::Exited => Self::ScriptExited,
            CallError::Trapped(reason) => Self::ScriptTrapped { reason },
            CallError::ObservedHost => Self::Host("a handler ran without capabilities".to_owned()),
        }
    }
}

impl From<PoolError> for InvokeError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::TenantBusy { limit } => Self::TooManyInFlight { limit },
            PoolError::Overloaded { limit } => Self::Overloaded { limit, retry_after: Duration::from_secs(1) },
            PoolError::Runtime(error) => Self::Host(error.to_string()),
        }
    }
}
