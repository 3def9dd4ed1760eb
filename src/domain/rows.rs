//! Which rows a caller may reach, whatever the script that it calls asks for.
//!
//! A [`RowFilter`] is what an owner writes down; who calls turns a list of them into a [`RowScope`], or is not let in.

use std::{collections::HashSet, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::domain::{names::ConnectionName, value::SqlValue};

/// Most row filters of one caller: each is looked at in each statement.
pub const FILTERS_MAX: usize = 64;

/// Longest name of a schema, a table, a column, an attribute or a claim, in bytes: no database has longer ones.
const NAME_BYTES_MAX: usize = 255;

/// Longest text that rows are compared with, in bytes. What tells customers apart is a few words at most.
pub const TEXT_BYTES_MAX: usize = 1 << 10;

/// Everything that a restricted caller may reach of its tenant's databases; what is not named here is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowScope(pub Vec<Reachable>);

impl RowScope {
    /// Whether anything of a connection may be reached.
    #[must_use]
    pub fn names(&self, connection: &str) -> bool {
        self.0.iter().any(|reachable| reachable.connection.as_str() == connection)
    }

    /// Bytes of memory that it takes, roughly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let of_condition = |only: &RowCondition| only.column.len() + only.value.text_bytes();
        let of_table = |table: &ReachableTable| {
            let ReachableTable { schema, table, only } = table;
            schema.as_ref().map_or(0, String::len) + table.len() + only.as_ref().map_or(0, of_condition)
        };
        let of = |reachable: &Reachable| {
            let Reachable { connection, table } = reachable;
            size_of::<Reachable>() + connection.as_str().len() + table.as_ref().map_or(0, of_table)
        };
        size_of::<Self>() + self.0.iter().map(of).sum::<usize>()
    }
}

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

impl Scalar {
    /// The value, if it is one by which rows may be told apart.
    #[must_use]
    pub fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Number(number) => number.as_i64().map(Self::Integer),
            Value::String(text) => Some(Self::Text(text.clone())).filter(Self::is_usable),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// As a database writes it.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Integer(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }

    /// As a value of a column.
    #[must_use]
    pub fn value(&self) -> SqlValue {
        match self {
            Self::Integer(number) => SqlValue::Int(*number),
            Self::Text(text) => SqlValue::from(text.as_str()),
        }
    }

    fn text_bytes(&self) -> usize {
        match self {
            Self::Integer(_) => 0,
            Self::Text(text) => text.len(),
        }
    }

    /// An empty text is refused because it is a value that somebody forgot.
    fn is_usable(&self) -> bool {
        match self {
            Self::Integer(_) => true,
            Self::Text(text) => !text.is_empty() && text.len() <= TEXT_BYTES_MAX && !text.contains('\0'),
        }
    }
}

/// What whoever has it may reach: everything of a connection, a table, or those rows of a table that have a value in a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RowFilter {
    /// Name of a connection of the tenant
    #[schema(value_type = String)]
    pub connection: ConnectionName,
    /// Schema of the table; the database's default unless given
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Table or view; everything of the connection, statements of the author's too, unless given
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Column that tells which rows; all unless given
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// What the column must be equal to, exactly
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<FilterValue>,
}

/// A value, or where who calls has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FilterValue {
    /// This whole number or text
    #[schema(value_type = Value)]
    Value(Scalar),
    /// An attribute of a consumer key
    Attribute(String),
    /// A claim of a token
    Claim(String),
}

/// Why row filters cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRowFilters {
    /// There are too many.
    #[error("{0} row filters are more than {FILTERS_MAX}")]
    TooMany(usize),
    /// One is none.
    #[error("row filter {nth}: {problem}")]
    Filter {
        /// Which, from 1.
        nth: usize,
        /// What is wrong.
        problem: String,
    },
}

/// Why a caller has no value for a row filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} `{name}` of a row filter is missing, or is neither a whole number nor a text of 1 to {TEXT_BYTES_MAX} bytes"
)]
pub struct Unresolved {
    what: &'static str,
    name: String,
}

/// Checks that every filter says clearly what it means.
///
/// # Errors
/// For names that cannot be, parts that go with others, and filters that contradict each other.
pub fn check_filters(filters: &[RowFilter]) -> Result<(), InvalidRowFilters> {
    if filters.len() > FILTERS_MAX {
        return Err(InvalidRowFilters::TooMany(filters.len()));
    }
    let mut seen = HashSet::new();
    for (nth, filter) in filters.iter().enumerate() {
        let wrong = |problem: &str| InvalidRowFilters::Filter { nth: nth + 1, problem: problem.to_owned() };
        filter.check().map_err(wrong)?;
        let RowFilter { connection, schema, table, .. } = filter;
        if !seen.insert((connection, schema, table)) {
            return Err(wrong("another one is for the same table"));
        }
        // The default schema has a name, too: both may be the same table.
        let may_be_same = |other: &RowFilter| {
            let is_named_so = other.connection == *connection && other.table == *table;
            is_named_so && other.schema.is_some() != schema.is_some()
        };
        if filters.iter().any(may_be_same) {
            return Err(wrong("another one names the same table, one of them without `schema`: give it in both"));
        }
        let is_mixed = |other: &RowFilter| other.connection == *connection && other.table.is_none();
        if table.is_some() && filters.iter().any(is_mixed) {
            return Err(wrong("another one opens its whole connection"));
        }
    }
    Ok(())
}

/// [`check_filters`] for callers that bring claims and nothing else.
///
/// # Errors
/// Also for an attribute, which no such caller has.
pub fn check_filters_by_claims(filters: &[RowFilter]) -> Result<(), InvalidRowFilters> {
    check_filters(filters)?;
    let is_by_attribute = |filter: &RowFilter| matches!(filter.equals, Some(FilterValue::Attribute(_)));
    match filters.iter().position(is_by_attribute) {
        Some(place) => {
            let problem = "only consumer keys have attributes: name a `claim`".to_owned();
            Err(InvalidRowFilters::Filter { nth: place + 1, problem })
        }
        None => Ok(()),
    }
}

/// What these filters let a caller reach.
///
/// # Errors
/// When the caller has no value for one of them: it must not be let in then.
pub fn resolve_filters(
    filters: &[RowFilter],
    attributes: &Map<String, Value>,
    claims: &Map<String, Value>,
) -> Result<Arc<RowScope>, Unresolved> {
    let reachable = filters.iter().map(|filter| filter.resolve(attributes, claims)).collect::<Result<_, _>>()?;
    Ok(Arc::new(RowScope(reachable)))
}

impl RowFilter {
    /// Bytes of memory that it takes, roughly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let Self { connection, schema, table, column, equals } = self;
        let names = [schema, table, column].into_iter().flatten().map(String::len).sum::<usize>();
        let value = match equals {
            Some(FilterValue::Value(value)) => value.text_bytes(),
            Some(FilterValue::Attribute(name) | FilterValue::Claim(name)) => name.len(),
            None => 0,
        };
        size_of::<Self>() + connection.as_str().len() + names + value
    }

    fn check(&self) -> Result<(), &'static str> {
        let Self { connection: _, schema, table, column, equals } = self;
        let source = match equals {
            None => None,
            Some(FilterValue::Value(value)) if value.is_usable() => None,
            Some(FilterValue::Value(_)) => return Err("`value` must be a whole number or a text of 1 to 1024 bytes"),
            Some(FilterValue::Attribute(name) | FilterValue::Claim(name)) => Some(name),
        };
        let names = [schema.as_ref(), table.as_ref(), column.as_ref(), source];
        if names.into_iter().flatten().any(|name| name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0'))
        {
            return Err("names have 1 to 255 bytes, none of them NUL");
        }
        match (schema, table, column, equals) {
            (Some(_), None, _, _) => Err("`schema` goes with `table`"),
            (_, None, Some(_), _) => Err("`column` goes with `table`"),
            (_, _, Some(_), None) => Err("`column` goes with `equals`"),
            (_, _, None, Some(_)) => Err("`equals` goes with `column`"),
            (_, Some(_), Some(_), Some(_)) | (_, Some(_), None, None) | (None, None, None, None) => Ok(()),
        }
    }

    fn resolve(&self, attributes: &Map<String, Value>, claims: &Map<String, Value>) -> Result<Reachable, Unresolved> {
        let Self { connection, schema, table, column, equals } = self;
        let connection = connection.clone();
        let only = match (column, equals) {
            (Some(column), Some(equals)) => {
                Some(RowCondition { column: column.clone(), value: equals.resolve(attributes, claims)? })
            }
            // Half a condition is none that could be kept: what was checked has no such filter.
            (Some(name), None) => return Err(Unresolved { what: "the value of column", name: name.clone() }),
            (None, Some(_)) => return Err(Unresolved { what: "the column of table", name: format!("{table:?}") }),
            (None, None) => None,
        };
        let table = match (table, only) {
            (Some(table), only) => Some(ReachableTable { schema: schema.clone(), table: table.clone(), only }),
            (None, Some(only)) => return Err(Unresolved { what: "the table of column", name: only.column }),
            (None, None) => None,
        };
        Ok(Reachable { connection, table })
    }
}

impl FilterValue {
    fn resolve(&self, attributes: &Map<String, Value>, claims: &Map<String, Value>) -> Result<Scalar, Unresolved> {
        let (what, name, value) = match self {
            Self::Value(value) => return Ok(value.clone()),
            Self::Attribute(name) => ("attribute", name, attributes.get(name)),
            Self::Claim(name) => ("claim", name, claims.get(name)),
        };
        value.and_then(Scalar::of).ok_or_else(|| Unresolved { what, name: name.clone() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filters(json: Value) -> Result<Vec<RowFilter>, String> {
        let filters: Vec<RowFilter> = serde_json::from_value(json).map_err(|error| error.to_string())?;
        check_filters(&filters).map_err(|error| error.to_string())?;
        Ok(filters)
    }

    #[test]
    fn a_filter_says_clearly_what_it_means() {
        let t = |more: Value| {
            let mut filter = json!({"connection": "dw", "table": "t"});
            filter.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!([filter])
        };
        for good in [
            json!([]),
            json!([{"connection": "dw"}, {"connection": "dw_2"}]),
            json!([{"connection": "dw", "schema": "s", "table": "t"}, {"connection": "dw", "schema": "s_2", "table": "t"}]),
            json!([{"connection": "dw", "table": "t"}, {"connection": "dw_2", "schema": "s", "table": "t"}]),
            json!([{"connection": "dw", "table": "t"}, {"connection": "dw", "schema": "s", "table": "u"}]),
            t(json!({})),
            t(json!({"schema": "s", "column": "c", "equals": {"value": 17}})),
            t(json!({"column": "c", "equals": {"value": "a"}})),
            t(json!({"column": "c", "equals": {"attribute": "customer"}})),
            t(json!({"column": "c", "equals": {"claim": "customer"}})),
        ] {
            filters(good.clone()).unwrap_or_else(|error| panic!("{error}: {good}"));
        }
        for bad in [
            json!({}),
            json!([{}]),
            json!([{"connection": "../x", "table": "t"}]),
            json!([{"connection": "dw", "schema": "s"}]),
            json!([{"connection": "dw", "column": "c", "equals": {"value": 1}}]),
            json!([{"connection": "dw", "tables": "t"}]),
            json!([{"connection": "dw"}, {"connection": "dw", "table": "t"}]),
            json!([{"connection": "dw", "table": "t"}, {"connection": "dw", "table": "t"}]),
            json!([{"connection": "dw", "table": "t"}, {"connection": "dw", "schema": "s", "table": "t"}]),
            json!([{"connection": "dw", "schema": "s", "table": "t", "column": "c", "equals": {"value": 1}},
                   {"connection": "dw", "table": "t"}]),
            Value::Array(vec![json!({"connection": "dw"}); FILTERS_MAX + 1]),
            t(json!({"table": ""})),
            t(json!({"table": "a\0"})),
            t(json!({"schema": "x".repeat(256)})),
            t(json!({"column": "c"})),
            t(json!({"equals": {"value": 1}})),
            t(json!({"column": "c", "equals": 1})),
            t(json!({"column": "c", "equals": {}})),
            t(json!({"column": "c", "equals": {"value": 1, "attribute": "a"}})),
            t(json!({"column": "c", "equals": {"value": null}})),
            t(json!({"column": "c", "equals": {"value": true}})),
            t(json!({"column": "c", "equals": {"value": 1.0}})),
            t(json!({"column": "c", "equals": {"value": u64::MAX}})),
            t(json!({"column": "c", "equals": {"value": ""}})),
            t(json!({"column": "c", "equals": {"value": "a\0b"}})),
            t(json!({"column": "c", "equals": {"value": "x".repeat(TEXT_BYTES_MAX + 1)}})),
            t(json!({"column": "c", "equals": {"value": [1]}})),
            t(json!({"column": "c", "equals": {"attribute": 1}})),
            t(json!({"column": "c", "equals": {"attribute": ""}})),
        ] {
            assert!(filters(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_filter_by_claims_names_no_attribute() {
        let by = |equals: Value| {
            let filter =
                json!([{"connection": "dw"}, {"connection": "d", "table": "t", "column": "c", "equals": equals}]);
            check_filters_by_claims(&filters(filter).unwrap()).map_err(|error| error.to_string())
        };
        let refused = "row filter 2: only consumer keys have attributes: name a `claim`".to_owned();
        assert_eq!(by(json!({"attribute": "customer"})), Err(refused));
        for good in [json!({"claim": "customer"}), json!({"value": 17})] {
            assert_eq!(by(good), Ok(()));
        }
        let twice: Vec<RowFilter> =
            serde_json::from_value(json!([{"connection": "dw"}, {"connection": "dw"}])).unwrap();
        assert!(check_filters_by_claims(&twice).is_err());
    }

    #[test]
    fn what_is_remembered_weighs_what_its_texts_do() {
        let weights = |table: &str, value: &str| {
            let filter = json!([{"connection": "dw", "table": table, "column": "c", "equals": {"value": value}}]);
            let filters = filters(filter).unwrap();
            [filters[0].bytes(), resolve_filters(&filters, &Map::new(), &Map::new()).unwrap().bytes()]
        };
        let least = weights("t", "x");
        assert!(least[0] > size_of::<RowFilter>() && least[1] > size_of::<Reachable>(), "{least:?}");
        assert_eq!(weights("t", &"x".repeat(TEXT_BYTES_MAX)), least.map(|bytes| bytes + TEXT_BYTES_MAX - 1));
        assert_eq!(weights(&"t".repeat(200), "x"), least.map(|bytes| bytes + 199));
    }

    #[test]
    fn a_caller_without_a_value_resolves_to_nothing_at_all() {
        let filter = |equals: Value| json!([{"connection": "dw", "table": "t", "column": "c", "equals": equals}]);
        let attributes = json!({"n": -5, "t": "a'b", "null": null, "true": true, "float": 1.5, "big": u64::MAX,
            "empty": "", "nul": "\0", "long": "x".repeat(TEXT_BYTES_MAX + 1), "list": ["a"], "dict": {"a": 1}});
        let attributes = attributes.as_object().unwrap();
        let resolve = |equals: Value| resolve_filters(&filters(filter(equals)).unwrap(), attributes, &Map::new());
        let value = |equals: Value| {
            let scope = resolve(equals).unwrap();
            scope.0[0].table.clone().unwrap().only.unwrap().value
        };
        assert_eq!(value(json!({"attribute": "n"})), Scalar::Integer(-5));
        assert_eq!(value(json!({"attribute": "t"})), Scalar::Text("a'b".to_owned()));
        assert_eq!(value(json!({"value": "17"})), Scalar::Text("17".to_owned()));
        for name in ["null", "true", "float", "big", "empty", "nul", "long", "list", "dict", "absent"] {
            assert!(resolve(json!({"attribute": name})).is_err(), "{name}");
        }
        let error = resolve(json!({"claim": "n"})).unwrap_err();
        assert!(error.to_string().starts_with("claim `n` of a row filter is missing"), "{error}");
    }
}
