//! A statement that is ready to run.

use crate::{data::template::Template, domain::sql::TableName};

/// A statement, ready to run.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) template: Template,
    pub(crate) purpose: Purpose,
    pub(crate) decimals: bool,
    pub(crate) shape: Shape,
    pub(crate) detail: ErrorDetail,
    /// Columns of JSON among those that a change gives back, where the database itself does not tell.
    pub(crate) json_columns: Vec<String>,
    /// Set if it is only prepared, to learn of its columns.
    pub(crate) is_dry: bool,
}

/// The part of a database's own words that an error may repeat.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum ErrorDetail {
    /// All of them.
    #[default]
    Full,
    /// None that show values: they may be of rows that are not the caller's.
    WithoutValues,
}

/// The author of a statement, and the rights that follow.
#[derive(Debug, Clone)]
pub(crate) enum Purpose {
    /// Our SQL: it reads one table and changes nothing.
    Read { schema: Option<String>, table: String },
    /// The author's SQL: it may do anything. Rows are skipped and cut off by the host. Names without a schema are looked up in
    /// `schema` first, if one is given.
    Author { offset: u64, limit: Option<u64>, schema: Option<String> },
    /// Our SQL: it changes rows of one table, or the table itself.
    Change { schema: Option<String>, table: String },
}

impl Purpose {
    /// To read a table.
    pub(crate) fn read(name: &TableName) -> Self {
        Self::Read { schema: name.schema.clone(), table: name.table.clone() }
    }

    /// To change a table.
    pub(crate) fn change(name: &TableName) -> Self {
        Self::Change { schema: name.schema.clone(), table: name.table.clone() }
    }

    /// The schema and the name of the table that our own SQL is about.
    pub(crate) fn table(&self) -> Option<(Option<&str>, &str)> {
        match self {
            Self::Read { schema, table } | Self::Change { schema, table } => Some((schema.as_deref(), table)),
            Self::Author { .. } => None,
        }
    }

    /// The schema in which names without one are looked up first, if the author's SQL comes with one.
    pub(crate) fn looks_in(&self) -> Option<&str> {
        match self {
            Self::Author { schema, .. } => schema.as_deref(),
            Self::Read { .. } | Self::Change { .. } => None,
        }
    }

    /// Tells whether the SQL is an author's.
    pub(crate) fn is_author(&self) -> bool {
        matches!(self, Self::Author { .. })
    }

    /// The number of rows to skip, and of those to take then.
    pub(crate) fn window(&self) -> (u64, u64) {
        match self {
            Self::Author { offset, limit, .. } => (*offset, limit.unwrap_or(u64::MAX)),
            Self::Read { .. } | Self::Change { .. } => (0, u64::MAX),
        }
    }
}

/// The form of a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Shape {
    /// An object of column to value.
    #[default]
    Object,
    /// A list of all values.
    List,
}

impl Statement {
    /// A statement of our own.
    pub(crate) fn ours(template: Template, purpose: Purpose) -> Self {
        Self {
            template,
            purpose,
            decimals: false,
            shape: Shape::Object,
            detail: ErrorDetail::Full,
            json_columns: Vec::new(),
            is_dry: false,
        }
    }
}
