//! The type of a column of a result.

use std::sync::Arc;

use serde_json::Value;

/// A column of a result, of which no row was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Described {
    /// Of no other column of the result.
    pub(crate) name: String,
    /// Set if the database calls it otherwise: like another one.
    pub(crate) is_renamed: bool,
    /// Its type in the database's words.
    pub(crate) declared: Arc<str>,
    /// JSON schema of its values, as callers get them; NULL is not in it.
    pub(crate) schema: Value,
    pub(crate) order: Order,
    pub(crate) equality: Equality,
}

/// When two values of a column are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Equality {
    /// When the database says that they are equal.
    AsItIs,
    /// As JSON: whatever its spaces are. A list is one value.
    Json,
    /// As lists: a list is one value.
    List,
    /// When all fields are: one of which all fields are NULL is not NULL.
    Composite,
    /// As shapes: by their text.
    Shape,
    /// The database cannot tell.
    No,
}

impl Equality {
    /// Tells whether a list is one value of the column, and not several of which any is meant.
    pub(crate) fn has_lists(self) -> bool {
        matches!(self, Self::Json | Self::List)
    }
}

/// The order of a column's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// By the column itself.
    AsItIs,
    /// By the number of a label (MySQL's ENUM), or by the bits of several (SET).
    ByNumber { labels: Arc<[String]>, is_set: bool },
    /// By its text: labels whose numbers are not known.
    AsText,
    /// They have none, or none that tells all values apart.
    No,
}
