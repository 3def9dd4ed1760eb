//! `pq:host/http` for guests.

use std::time::Duration;

use crate::{
    domain::http::{HttpError, HttpErrorCode, HttpRequest, HttpResponse},
    sandbox::{bindings::pq::host::http, host::Granted},
};

impl http::Host for Granted<'_> {
    async fn send(&mut self, request: http::Request) -> wasmtime::Result<Result<http::Response, http::Error>> {
        let outcome = self.granted()?.send(request_from_guest(request)).await;
        Ok(outcome.map(http::Response::from).map_err(http::Error::from))
    }

    async fn call(
        &mut self,
        connection: String,
        request: http::Request,
    ) -> wasmtime::Result<Result<http::Response, http::Error>> {
        let outcome = self.granted()?.call(&connection, request_from_guest(request)).await;
        Ok(outcome.map(http::Response::from).map_err(http::Error::from))
    }
}

/// Everything in it is `egress`'s to judge.
fn request_from_guest(request: http::Request) -> HttpRequest {
    let http::Request { method, url, headers, body, connect_timeout_ms, read_timeout_ms } = request;
    let time = |ms: u32| Duration::from_millis(ms.into());
    HttpRequest {
        method,
        url,
        headers,
        body,
        connect_timeout: connect_timeout_ms.map(time),
        read_timeout: read_timeout_ms.map(time),
    }
}

impl From<HttpResponse> for http::Response {
    fn from(response: HttpResponse) -> Self {
        let HttpResponse { status, reason, headers, body } = response;
        Self { status, reason, headers, body }
    }
}

impl From<HttpError> for http::Error {
    fn from(error: HttpError) -> Self {
        let code = match error.code {
            HttpErrorCode::InvalidRequest => http::ErrorCode::InvalidRequest,
            HttpErrorCode::NotAllowed => http::ErrorCode::NotAllowed,
            HttpErrorCode::TooManyRequests => http::ErrorCode::TooManyRequests,
            HttpErrorCode::RequestTooLarge => http::ErrorCode::RequestTooLarge,
            HttpErrorCode::ResponseTooLarge => http::ErrorCode::ResponseTooLarge,
            HttpErrorCode::ConnectFailed => http::ErrorCode::ConnectFailed,
            HttpErrorCode::ConnectTimeout => http::ErrorCode::ConnectTimeout,
            HttpErrorCode::TlsFailed => http::ErrorCode::TlsFailed,
            HttpErrorCode::ReadTimeout => http::ErrorCode::ReadTimeout,
            HttpErrorCode::ConnectionBroken => http::ErrorCode::ConnectionBroken,
            HttpErrorCode::UnknownConnection => http::ErrorCode::UnknownConnection,
        };
        Self { code, message: error.message }
    }
}
