//! A page of rows, as a caller asks for it.

use crate::domain::{
    sql::TableName,
    value::{Record, SqlValue},
};

/// One page of a table, or of the rows that a query gives.
#[derive(Debug, Clone, PartialEq)]
pub struct PageQuery {
    /// The place of the rows.
    pub source: PageSource,
    /// The columns to give; all if absent.
    pub columns: Option<Vec<String>>,
    /// What the rows must be; all of it.
    pub conditions: Vec<Condition>,
    /// How they are ordered. For pages to follow each other, these columns together tell all rows apart.
    pub order: Vec<OrderBy>,
    /// Values of the columns of `order` in the last row of the page before.
    pub after: Option<Vec<SqlValue>>,
    /// At most this many rows.
    pub limit: u32,
    /// Whether the rows on all pages are to be counted.
    pub counts: bool,
    /// Whether anything of it is the caller's: what the database refuses may be the caller's fault then.
    pub is_asked: bool,
}

/// Where rows are.
#[derive(Debug, Clone, PartialEq)]
pub enum PageSource {
    /// A table or view.
    Table(TableName),
    /// An author's statement that reads.
    Query {
        /// In the database's own dialect.
        sql: String,
        /// Values of its `:name` placeholders.
        values: Record,
    },
}

/// What a row must be.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// In this column.
    pub column: String,
    /// This.
    pub test: Test,
}

/// A test of a column. Values are texts that are read as values of the column's type.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// A comparison.
    Compare(Comparison, String),
    /// One of these.
    In(Vec<String>),
    /// NULL, or not.
    IsNull(bool),
    /// True or false.
    Is(bool),
    /// A pattern in which `*` stands for any text.
    Like(String),
}

/// How to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `<>`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
}

impl Comparison {
    /// The operator in SQL.
    #[must_use]
    pub fn sql(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
        }
    }
}

/// A column that rows are ordered by. NULL comes last in either direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderBy {
    /// The column.
    pub column: String,
    /// Whether the largest comes first.
    pub descending: bool,
}
