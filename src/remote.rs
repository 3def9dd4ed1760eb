//! `pq` for programs outside of a sandbox: sessions, each of which is what one invocation of a script is.
//!
//! Owns: which sessions there are, for how long, and that each does one thing at a time. Never: HTTP, or what a script may do.
//!
//! A session's limits count over all of its calls. Its cursors and transactions live in it and end with it. A call that is cut
//! off, by its deadline or because its caller has gone, ends the session: nobody could tell how far it came.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    domain::{
        limits::SessionLimits,
        names::{InvocationId, ScriptId, ScriptName, TenantId, TenantName},
    },
    invoke::{Detached, DetachedError, InvokeError, Invoker},
    sandbox::outside::{Call, OutsideError, Reply},
};

/// Why there is no session, or no reply. All but `Invoke` may be told to the caller.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// There is no such tenant, or no such script.
    #[error("tenant `{tenant}` has no script `{script}`; create it with `pqhost script publish`")]
    UnknownScript {
        /// The tenant.
        tenant: TenantName,
        /// The script.
        script: ScriptName,
    },
    /// There is no such session of this script.
    #[error(
        "the session is over, or there never was one: it was idle for too long, a call was cut off, or the host was restarted"
    )]
    UnknownSession,
    /// The session has not finished its last call.
    #[error("the session is busy with another call")]
    Busy,
    /// There are too many.
    #[error("{whose} {limit} sessions, which is the limit; close one, or wait until it is over")]
    TooMany {
        /// Who has them.
        whose: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The call is none.
    #[error("{0}")]
    InvalidCall(String),
    /// The call took too long, and has ended the session.
    #[error("the call ran longer than {deadline:?}; the session is over")]
    DeadlineExceeded {
        /// The limit.
        deadline: Duration,
    },
    /// The host failed.
    #[error(transparent)]
    Invoke(#[from] InvokeError),
}

/// The sessions of a host.
#[derive(Debug)]
pub struct Sessions {
    invoker: Invoker,
    limits: SessionLimits,
    open: Mutex<HashMap<InvocationId, Arc<Session>>>,
}

#[derive(Debug)]
struct Session {
    /// By id: another tenant or script may get the name later.
    script: (TenantId, ScriptId),
    opened: Instant,
    resting: Mutex<Resting>,
}

/// A session between two calls.
#[derive(Debug)]
struct Resting {
    since: Instant,
    /// Absent during a call, and for ever after one that was cut off.
    capabilities: Option<Detached>,
}

impl Session {
    fn resting(&self) -> MutexGuard<'_, Resting> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sessions {
    /// No sessions yet.
    #[must_use]
    pub fn new(invoker: Invoker, limits: SessionLimits) -> Self {
        Self { invoker, limits, open: Mutex::default() }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<InvocationId, Arc<Session>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session for a script, which need not be published.
    ///
    /// # Errors
    /// If there is no such script, or there are too many sessions.
    pub async fn open(&self, tenant: &TenantName, script: &ScriptName) -> Result<InvocationId, SessionError> {
        let capabilities = self.invoker.detach(tenant, script).await?;
        let Some(capabilities) = capabilities else {
            return Err(SessionError::UnknownScript { tenant: tenant.clone(), script: script.clone() });
        };
        let (tenant, script) = capabilities.script();
        let (id, now) = (InvocationId::generate(), Instant::now());
        let resting = Mutex::new(Resting { since: now, capabilities: Some(capabilities) });
        let session = Session { script: (tenant, script), opened: now, resting };
        self.end_old();
        let mut all = self.all();
        let SessionLimits { per_tenant_max, all_max, .. } = self.limits;
        if all.values().filter(|other| other.script.0 == tenant).count() >= per_tenant_max {
            return Err(SessionError::TooMany { whose: "the tenant has", limit: per_tenant_max });
        }
        if all.len() >= all_max {
            return Err(SessionError::TooMany { whose: "all tenants have", limit: all_max });
        }
        all.insert(id, Arc::new(session));
        drop(all);
        tracing::info!(tenant.id = %tenant, script.id = %script, session.id = %id, "a session has begun");
        Ok(id)
    }

    /// Takes a session for one call. To be done before the call is read: that is what bounds the calls in memory.
    ///
    /// # Errors
    /// If there is no such session of this script, or it is busy.
    pub fn claim(
        self: &Arc<Self>,
        tenant: TenantId,
        script: ScriptId,
        id: InvocationId,
    ) -> Result<Claimed, SessionError> {
        let session = self.find(tenant, script, id)?;
        let capabilities = session.resting().capabilities.take().ok_or(SessionError::Busy)?;
        let claim = Claim { sessions: Arc::clone(self), id, session };
        Ok(Claimed { capabilities, claim })
    }

    fn find(&self, tenant: TenantId, script: ScriptId, id: InvocationId) -> Result<Arc<Session>, SessionError> {
        self.end_old();
        let session = self.all().get(&id).map(Arc::clone);
        session.filter(|session| session.script == (tenant, script)).ok_or(SessionError::UnknownSession)
    }

    /// Ends a session; what its transactions have not committed is rolled back.
    ///
    /// # Errors
    /// If there is no such session of this script.
    pub fn close(&self, tenant: TenantId, script: ScriptId, id: InvocationId) -> Result<(), SessionError> {
        self.find(tenant, script, id)?;
        self.end(id);
        Ok(())
    }

    fn end(&self, id: InvocationId) {
        let ended = self.all().remove(&id);
        if let Some(Session { script: (tenant, script), .. }) = ended.as_deref() {
            tracing::info!(tenant.id = %tenant, script.id = %script, session.id = %id, "a session has ended");
        }
    }

    fn end_old(&self) {
        let SessionLimits { idle_time, total_time, .. } = self.limits;
        let is_old = |session: &Session| {
            let resting = session.resting();
            let is_idle = resting.capabilities.is_some() && resting.since.elapsed() >= idle_time;
            is_idle || session.opened.elapsed() >= total_time
        };
        let old: Vec<_> = self.all().iter().filter(|(_, session)| is_old(session)).map(|(id, _)| *id).collect();
        for id in old {
            self.end(id);
        }
    }

    /// Ends sessions when their time is over. Runs until aborted.
    pub async fn keep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.limits.idle_time / 10).await;
            self.end_old();
        }
    }
}

/// A session that is about to call a function. Dropping it ends the session, unless it has been given back.
#[derive(Debug)]
pub struct Claimed {
    capabilities: Detached,
    claim: Claim,
}

#[derive(Debug)]
struct Claim {
    sessions: Arc<Sessions>,
    id: InvocationId,
    session: Arc<Session>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.session.resting().capabilities.is_none() {
            self.sessions.end(self.id);
        }
    }
}

impl Claimed {
    /// Calls a function, and gives the session back.
    ///
    /// # Errors
    /// If there is no reply. After `DeadlineExceeded`, and if the returned future is dropped, the session is over.
    pub async fn call(mut self, call: Call) -> Result<Reply, SessionError> {
        match self.capabilities.call(call).await {
            Ok(reply) => {
                self.give_back();
                Ok(reply)
            }
            Err(DetachedError::Outside(OutsideError::Host(message))) => {
                self.give_back();
                Err(InvokeError::Host(message).into())
            }
            Err(DetachedError::Outside(
                error @ (OutsideError::UnknownFunction(_) | OutsideError::InvalidArguments { .. }),
            )) => {
                self.give_back();
                Err(SessionError::InvalidCall(error.to_string()))
            }
            Err(DetachedError::DeadlineExceeded { deadline }) => Err(SessionError::DeadlineExceeded { deadline }),
        }
    }

    /// Leaves the session as it is: there was no call after all.
    pub fn give_back(self) {
        let Self { capabilities, claim } = self;
        *claim.session.resting() = Resting { since: Instant::now(), capabilities: Some(capabilities) };
    }
}
