//! What tells answers apart.

use axum::body::{Body, HttpBody as _};
use http::{HeaderValue, Method, header, request::Parts};

use crate::{
    domain::{
        endpoint::CachePolicy,
        exchange::{AuthMode, Caller, KeyHolder, TokenBearer},
    },
    ingress::{Routed, etag::Conditions},
    invoke::Backend,
};

/// Length of most keys before they are hashed, in bytes; longer ones are allocated twice.
const KEY_BYTES: usize = 512;

/// What an answer is kept for: the hash of everything that tells it from others.
pub(super) type Key = blake3::Hash;

/// A request whose answer may be kept, or may have been.
#[derive(Debug)]
pub(in crate::ingress) struct Question {
    pub(super) key: Key,
    /// Of the routes by which it came: what was answered before a change is no answer after it.
    pub(super) generation: u64,
    pub(super) policy: std::sync::Arc<CachePolicy>,
    /// Whether anybody may call.
    pub(super) is_public: bool,
    pub(super) conditions: Conditions,
    pub(super) is_head: bool,
}
