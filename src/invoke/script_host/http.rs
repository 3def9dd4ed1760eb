//! HTTP servers, for one invocation.

use std::time::Instant;

use futures::{FutureExt as _, future::BoxFuture};

use crate::{
    domain::http::{HttpError, HttpErrorCode, HttpRequest, HttpResponse},
    invoke::script_host::ScriptHost,
    sandbox::capabilities::HttpAccess,
};

impl ScriptHost {
    /// Counts a request, whatever comes of it.
    fn count_request(&mut self) -> Result<(), HttpError> {
        let requests = self.limits.http.requests;
        if self.n_requests >= requests {
            let message = format!("the handler may send {requests} HTTP requests in one request");
            return Err(HttpError::new(HttpErrorCode::TooManyRequests, message));
        }
        self.n_requests += 1;
        Ok(())
    }

    /// When requests end, so that the handler has a tenth of its deadline left to answer.
    fn requests_until(&self) -> Instant {
        self.started + self.limits.deadline * 9 / 10
    }
}

impl HttpAccess for ScriptHost {
    fn send(&mut self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
        async move {
            self.count_request()?;
            let tenant = self.routes.tenant_id;
            let rules = self.directory.find_rules(tenant).await?;
            self.egress.send(tenant, &rules, request, &self.limits.http, self.requests_until()).await
        }
        .boxed()
    }

    fn call<'a>(
        &'a mut self,
        connection: &'a str,
        request: HttpRequest,
    ) -> BoxFuture<'a, Result<HttpResponse, HttpError>> {
        async move {
            self.count_request()?;
            let tenant = self.routes.tenant_id;
            let connection = self.directory.find_http_connection(tenant, self.script, connection).await?;
            let limits = &self.limits.http;
            self.egress.call(tenant, &connection, request, limits, self.requests_until()).await
        }
        .boxed()
    }
}
