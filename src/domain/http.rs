//! What a script may ask of an HTTP server, and what it may be told.

use std::time::Duration;

/// Header fields; each character of a value stands for one byte, U+0000 to U+00FF.
pub type Fields = Vec<(String, String)>;

/// One outbound request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpRequest {
    /// For example `GET`.
    pub method: String,
    /// As the script gave it. Nothing about it is trusted.
    pub url: String,
    /// As the script gave them.
    pub headers: Fields,
    /// The exact bytes.
    pub body: Vec<u8>,
    /// Longest time until there is a connection.
    pub connect_timeout: Option<Duration>,
    /// Longest time without a byte of the response.
    pub read_timeout: Option<Duration>,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpResponse {
    /// The status code.
    pub status: u16,
    /// The text behind it.
    pub reason: String,
    /// Without those that concern the connection.
    pub headers: Fields,
    /// As it was sent: `content-encoding` is not decoded.
    pub body: Vec<u8>,
}

/// Why there is no response, named for what the author can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HttpErrorCode {
    /// The method, URL or a header field cannot be sent.
    InvalidRequest,
    /// The tenant may not call this host, port and scheme, or the address behind it.
    NotAllowed,
    /// More requests than one invocation may send.
    TooManyRequests,
    /// More bytes than a request may have.
    RequestTooLarge,
    /// More bytes than a response may have.
    ResponseTooLarge,
    /// The name does not resolve, or nobody answers at the address.
    ConnectFailed,
    /// No connection in time.
    ConnectTimeout,
    /// The certificate is not trusted, or TLS failed otherwise.
    TlsFailed,
    /// Connected, but nothing came in time.
    ReadTimeout,
    /// The connection broke, or what came is not HTTP.
    ConnectionBroken,
    /// The tenant has no such HTTP connection.
    UnknownConnection,
}

/// An error of a request, in words that its author may read.
///
/// `message` never holds credentials, addresses, or anything of another tenant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct HttpError {
    /// What kind of error.
    pub code: HttpErrorCode,
    /// One sentence.
    pub message: String,
}

impl HttpError {
    /// An error with its message.
    pub fn new(code: HttpErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}
