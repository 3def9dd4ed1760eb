//! Which rows a caller may reach, whatever the script that it calls asks for.

use serde::{Deserialize, Serialize};

use crate::domain::names::ConnectionName;

/// Everything that a restricted caller may reach of its tenant's databases; what is not named here is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowScope(pub Vec<Reachable>);

/// A table, or all of a connection, that a restricted caller may reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reachable {
    /// Of the tenant.
    pub connection: ConnectionName,
    /// What of it; everything, statements of the author's too, if absent.
    pub table: Option<ReachableTable>,
}

/// A table that a restricted caller may reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachableTable {
    /// The database's default if absent.
    pub schema: Option<String>,
    /// Its name.
    pub table: String,
    /// The only rows that the caller may reach, if not all.
    pub only: Option<RowCondition>,
}

/// Rows with this value in this column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCondition {
    /// The column.
    pub column: String,
    /// Its value.
    pub value: Scalar,
}

/// A value that is compared exactly, in any database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// A whole number.
    Integer(i64),
    /// A text.
    Text(String),
}
