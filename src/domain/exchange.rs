//! A request to a handler and what came of it, between ingress and the sandbox.

use std::{fmt, str::FromStr, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::domain::{names::InvocationId, route::MethodSet, rows::RowScope, shown};

/// Who may call an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthMode {
    /// Callers present a token of the tenant.
    #[default]
    Jwt,
    /// Callers present a consumer key of the tenant.
    Key,
    /// Anyone; the script checks for itself.
    Public,
}

/// The text is no [`AuthMode`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown auth mode `{0}`: use `jwt`, `key` or `public`")]
pub struct InvalidAuthMode(String);

impl FromStr for AuthMode {
    type Err = InvalidAuthMode;

    fn from_str(text: &str) -> Result<Self, InvalidAuthMode> {
        match text {
            "jwt" => Ok(Self::Jwt),
            "key" => Ok(Self::Key),
            "public" => Ok(Self::Public),
            other => Err(InvalidAuthMode(shown(other))),
        }
    }
}

impl fmt::Display for AuthMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jwt => "jwt",
            Self::Key => "key",
            Self::Public => "public",
        })
    }
}

/// Who is calling, as the host verified it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Caller {
    /// A public endpoint: nothing is known.
    #[default]
    Public,
    /// The bearer of a token.
    Token(TokenBearer),
    /// The holder of a consumer key of this tenant.
    Key(KeyHolder),
}

impl Caller {
    /// The rows that it reaches, if not all that the script does.
    #[must_use]
    pub fn rows(&self) -> Option<&Arc<RowScope>> {
        match self {
            Self::Public => None,
            Self::Token(bearer) => bearer.rows.as_ref(),
            Self::Key(holder) => holder.rows.as_ref(),
        }
    }
}

/// The bearer of a token, of this tenant or of an outside issuer that it trusts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenBearer {
    /// The token's id (`jti`); one of an outside issuer may have none.
    pub id: Option<Arc<str>>,
    /// Who issued it: `pqhost`, or the outside issuer.
    pub issuer: Arc<str>,
    /// All verified claims.
    pub claims: Arc<Map<String, Value>>,
    /// The methods that it is for, if not all.
    pub methods: Option<MethodSet>,
    /// The rows that it reaches, if not all.
    pub rows: Option<Arc<RowScope>>,
}

/// The holder of a consumer key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyHolder {
    /// The key's id.
    pub id: Arc<str>,
    /// What the tenant wrote down about its holder.
    pub attributes: Arc<Map<String, Value>>,
    /// The methods that it is for, if not all.
    pub methods: Option<MethodSet>,
    /// The rows that it reaches, if not all.
    pub rows: Option<Arc<RowScope>>,
}

/// One uploaded file of a multipart body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadedFile {
    /// Name of the form field.
    pub field: String,
    /// File name as the caller sent it.
    pub name: String,
    /// Media type as the caller sent it, or `application/octet-stream`.
    pub content_type: String,
    /// The file.
    pub content: Bytes,
}

/// What a handler receives; see `wit/types.wit` for the meaning of each field.
#[derive(Debug, Clone)]
pub struct HandlerRequest {
    /// Upper case.
    pub method: String,
    /// As the caller used it.
    pub url: String,
    /// Below the tenant, percent-decoded.
    pub path: String,
    /// Without the leading `?`.
    pub query_string: String,
    /// In order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The exact bytes.
    pub body: Bytes,
    /// Fields of an urlencoded or multipart body.
    pub form: Vec<(String, String)>,
    /// Files of a multipart body.
    pub files: Vec<UploadedFile>,
    /// What the route's named segments matched.
    pub path_params: Vec<(String, String)>,
    /// Address of the peer.
    pub client_ip: String,
    /// Also the invocation's id.
    pub request_id: InvocationId,
    /// Who is calling.
    pub caller: Caller,
}

/// What a handler answered; `R` is an open result set.
#[derive(Debug)]
pub struct HandlerResponse<R> {
    /// 200 to 599.
    pub status: u16,
    /// As the script gave them: unchecked.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: HandlerBody<R>,
}

/// Body of a [`HandlerResponse`].
#[derive(Debug)]
pub enum HandlerBody<R> {
    /// Bytes that the handler made.
    Bytes(Bytes),
    /// Rows that the host streams as one JSON array.
    Rows(R),
}
