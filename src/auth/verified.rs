//! A token that was found valid, as it is remembered.

use std::sync::{Arc, atomic::AtomicI64};

use serde_json::{Map, Value};

use crate::domain::{exchange::TokenBearer, names::EndpointId, route::MethodSet, rows::RowScope};

/// A token that was found valid.
#[derive(Debug, Clone)]
pub struct VerifiedToken {
    /// Its id; one of an outside issuer may have none.
    pub id: Option<Arc<str>>,
    /// Who issued it.
    pub issuer: Arc<str>,
    /// Its claims.
    pub claims: Arc<Map<String, Value>>,
    /// The only endpoints it is for, if not all.
    pub(super) only: Option<Arc<[EndpointId]>>,
    /// The only methods it is for, if not all.
    pub(super) methods: Option<MethodSet>,
    /// The only rows it reaches, if not all.
    pub(super) rows: Option<Arc<RowScope>>,
    /// When it, or the key that signed it, ends, in milliseconds since 1970.
    pub(super) good_until_ms: u64,
    /// When its last use was noted; an outside issuer's is not.
    pub(super) noted: Option<Arc<AtomicI64>>,
    /// Bytes of its text.
    pub(super) bytes: usize,
}

impl VerifiedToken {
    /// Bytes of memory that it takes, roughly: what is read from a token takes some three times its text.
    pub(super) fn weight(&self) -> usize {
        300 + 3 * self.bytes + self.rows.as_ref().map_or(0, |rows| rows.bytes())
    }

    /// Who presented it.
    #[must_use]
    pub fn bearer(self) -> TokenBearer {
        let Self { id, issuer, claims, methods, rows, only: _, good_until_ms: _, noted: _, bytes: _ } = self;
        TokenBearer { id, issuer, claims, methods, rows }
    }
}
