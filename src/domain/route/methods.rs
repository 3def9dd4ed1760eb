//! Sets of request methods.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::domain::shown;

/// The methods that a route may name, in the order in which sets are written.
const NAMED: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const GET: u8 = 1 << 0;
const HEAD: u8 = 1 << 1;
const OPTIONS: u8 = 1 << 6;
/// Any method at all, also ones without a bit of their own. Never together with another bit.
const ANY: u8 = 1 << 7;

/// Methods of an endpoint: some of the named ones, or any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MethodSet(u8);

/// The text is no [`MethodSet`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown method `{0}`: use ANY, or one or several of GET HEAD POST PUT PATCH DELETE OPTIONS separated by commas"
)]
pub struct InvalidMethods(String);

impl MethodSet {
    /// Every method.
    pub const ANY: Self = Self(ANY);
    /// No method.
    pub(super) const NONE: Self = Self(0);

    /// Whether this set is [`MethodSet::ANY`].
    #[must_use]
    pub fn is_any(self) -> bool {
        self.0 == ANY
    }

    /// Whether this set names `method` (upper case). [`MethodSet::ANY`] names none.
    pub(super) fn names(self, method: &str) -> bool {
        bit_of(method).is_some_and(|bit| self.0 & bit != 0)
    }

    /// Each method of the set, in the order in which sets are written; `ANY` for any.
    pub fn names_listed(self) -> impl Iterator<Item = &'static str> {
        let any = self.is_any().then_some("ANY");
        any.into_iter().chain(NAMED.into_iter().filter(move |name| self.names(name)))
    }

    /// Whether a request with this method (upper case) is in the set, HEAD being a GET without a body.
    #[must_use]
    pub fn allows(self, method: &str) -> bool {
        self.is_any() || self.names(method) || (method == "HEAD" && self.names("GET"))
    }

    /// Methods in both sets, where ANY stands for itself only: `GET` beside `ANY` is a refinement, not a conflict.
    pub(super) fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Methods in either set.
    pub(super) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether no method is in this set.
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What the host answers for an endpoint with these methods: GET brings HEAD, and OPTIONS is always answered.
    #[must_use]
    pub fn with_implied(self) -> Self {
        let head = if self.0 & GET != 0 { HEAD } else { 0 };
        Self(self.0 | head | OPTIONS)
    }
}

fn bit_of(method: &str) -> Option<u8> {
    NAMED.iter().position(|named| *named == method).map(|index| 1 << index)
}

impl FromStr for MethodSet {
    type Err = InvalidMethods;

    /// Reads `ANY`, `GET`, or `get,post`; in either case, with spaces where the reader likes them.
    fn from_str(text: &str) -> Result<Self, InvalidMethods> {
        if text.trim().eq_ignore_ascii_case("any") {
            return Ok(Self::ANY);
        }
        text.split(',').try_fold(Self::NONE, |set, word| {
            let bit = bit_of(&word.trim().to_ascii_uppercase());
            let unknown = || InvalidMethods(shown(word.trim()));
            bit.map(|bit| Self(set.0 | bit)).ok_or_else(unknown)
        })
    }
}

impl TryFrom<String> for MethodSet {
    type Error = InvalidMethods;

    fn try_from(text: String) -> Result<Self, InvalidMethods> {
        text.parse()
    }
}

impl From<MethodSet> for String {
    fn from(methods: MethodSet) -> Self {
        methods.to_string()
    }
}

impl fmt::Display for MethodSet {
    /// Writes `ANY` or the methods separated by `, `, as an `Allow` header wants them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_any() {
            return f.write_str("ANY");
        }
        let mut separator = "";
        for name in NAMED.iter().filter(|name| self.names(name)) {
            write!(f, "{separator}{name}")?;
            separator = ", ";
        }
        Ok(())
    }
}
