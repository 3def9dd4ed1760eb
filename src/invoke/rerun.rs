//! Sending a recorded request again.

use std::sync::Arc;

use futures::StreamExt as _;

use crate::{
    db::invocations::{LoggedInvocation, RerunOf},
    domain::{
        exchange::HandlerBody,
        names::{InvocationId, ScriptName, TenantName, VersionId},
    },
    invoke::{
        Answer, Call, InvokeError, Invoker, ScriptTarget,
        recording::{PendingAnswer, RECORDED_BODY_BYTES_MAX, RecordedAnswer, RecordedRequest, Recording},
    },
};

/// What came of a request that was sent again.
#[derive(Debug)]
pub struct Rerun {
    /// The invocation's own id.
    pub id: InvocationId,
    /// Number of the version that ran.
    pub version: i64,
    /// What came of it.
    pub answer: RecordedAnswer,
}

impl Invoker {
    /// The recording of an invocation; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn find_recording(&self, entry: &LoggedInvocation) -> Result<Option<Recording>, InvokeError> {
        self.0.find_recording(entry.record.tenant, entry.record.id).await
    }

    /// Runs a version's handler with the request of an invocation of its script. It is an invocation like any other, with the same
    /// limits, and what it writes is written; the log says what it repeats, and who asked.
    ///
    /// `None` if there is no such tenant or version.
    ///
    /// # Errors
    /// If the control database fails. What the handler does wrong is part of the answer.
    pub async fn rerun(
        &self,
        (tenant, script): (&TenantName, &ScriptName),
        entry: &LoggedInvocation,
        request: &RecordedRequest,
        version: VersionId,
        by: &str,
    ) -> Result<Option<Rerun>, InvokeError> {
        let Some(routes) = self.find_routes(tenant).await? else { return Ok(None) };
        let record = &entry.record;
        let Some(version) = self.0.directory.runnable(routes.tenant_id, version).await? else { return Ok(None) };
        let number = version.version.number;
        let target = Arc::new(ScriptTarget { id: record.script, name: script.clone(), version: Some(version) });
        let id = InvocationId::generate();
        let rerun = Some(RerunOf { invocation: record.id, by: by.to_owned() });
        let (limits, request) = (self.0.directory.limits(), request.again(id));
        let call = Call { routes, endpoint: record.endpoint, script: target, limits, record: false, request, rerun };
        let outcome = self.invoke(call).await.map(|Answer { response, version: _ }| response);
        let (outcome, pending) = PendingAnswer::of(outcome);
        if let Ok(HandlerBody::Rows(mut rows)) = outcome.map(|response| response.body) {
            let mut n_bytes = 0;
            while let Some(Ok(piece)) = rows.next().await {
                n_bytes += piece.len();
                if n_bytes > RECORDED_BODY_BYTES_MAX {
                    break; // more is not kept of the first run either
                }
            }
        }
        Ok(Some(Rerun { id, version: number, answer: pending.finished().await }))
    }
}
