//! Flags that say which rows callers reach.

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use clap::Args;

use crate::domain::rows::{FilterValue, RowFilter, Scalar, check_filters};

/// One of these at most; whoever must say one requires the group `reach`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ReachArgs {
    /// Rows that may be reached, whatever scripts ask for; may be repeated. COLUMN must equal `attribute:NAME` of a consumer key, `claim:NAME` of
    /// a token, `text:TEXT` or `number:N`
    #[arg(long, value_name = "CONNECTION[:[SCHEMA.]TABLE[:COLUMN=VALUE]]", group = "reach", value_parser = parse_rows)]
    rows: Vec<RowFilter>,
    /// The same as a JSON list, from a file
    #[arg(long, value_name = "FILE", group = "reach")]
    rows_from: Option<PathBuf>,
    /// No database may be reached at all
    #[arg(long, group = "reach")]
    no_rows: bool,
    /// All rows may be reached that scripts reach
    #[arg(long, group = "reach")]
    all_rows: bool,
}

impl ReachArgs {
    /// The row filters; `None` for all rows, also when nothing is said.
    ///
    /// # Errors
    /// If the file has none.
    pub(in crate::cli) fn filters(self) -> anyhow::Result<Option<Vec<RowFilter>>> {
        let Self { rows, rows_from, no_rows, all_rows: _ } = self;
        if let Some(file) = rows_from {
            let text = fs::read(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
            let filters = serde_json::from_slice(&text);
            return filters.map(Some).with_context(|| format!("`{}` is no JSON list of row filters", file.display()));
        }
        Ok((no_rows || !rows.is_empty()).then_some(rows))
    }
}

/// `CONNECTION[:[SCHEMA.]TABLE[:COLUMN=VALUE]]`.
fn parse_rows(text: &str) -> Result<RowFilter, String> {
    let mut parts = text.splitn(3, ':');
    let connection = parts.next().unwrap_or_default().parse().map_err(|error| format!("{error}"))?;
    let (schema, table) = match parts.next() {
        Some(table) => match table.split_once('.') {
            Some((schema, table)) => (Some(schema.to_owned()), Some(table.to_owned())),
            None => (None, Some(table.to_owned())),
        },
        None => (None, None),
    };
    let (column, equals) = match parts.next() {
        Some(condition) => {
            let (column, value) = condition.split_once('=').ok_or("write the condition as COLUMN=VALUE")?;
            (Some(column.to_owned()), Some(parse_value(value)?))
        }
        None => (None, None),
    };
    let filter = RowFilter { connection, schema, table, column, equals };
    check_filters(std::slice::from_ref(&filter)).map_err(|error| error.to_string())?;
    Ok(filter)
}

fn parse_value(text: &str) -> Result<FilterValue, String> {
    let unknown = || format!("`{text}` is none of attribute:NAME, claim:NAME, text:TEXT, number:N");
    let (kind, value) = text.split_once(':').ok_or_else(unknown)?;
    Ok(match kind {
        "attribute" => FilterValue::Attribute(value.to_owned()),
        "claim" => FilterValue::Claim(value.to_owned()),
        "text" => FilterValue::Value(Scalar::Text(value.to_owned())),
        "number" => FilterValue::Value(Scalar::Integer(value.parse().map_err(|error| format!("`{value}`: {error}"))?)),
        _ => return Err(unknown()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn row_filters_are_written_in_one_word() {
        for (text, filter) in [
            ("dw", json!({"connection": "dw"})),
            ("dw:orders", json!({"connection": "dw", "table": "orders"})),
            ("dw:public.orders", json!({"connection": "dw", "schema": "public", "table": "orders"})),
            (
                "dw:public.orders:customer_id=attribute:customer",
                json!({"connection": "dw", "schema": "public", "table": "orders", "column": "customer_id",
                    "equals": {"attribute": "customer"}}),
            ),
            (
                "dw:orders:url=text:https://a=b",
                json!({"connection": "dw", "table": "orders", "column": "url", "equals": {"value": "https://a=b"}}),
            ),
            (
                "dw:orders:c=number:-5",
                json!({"connection": "dw", "table": "orders", "column": "c", "equals": {"value": -5}}),
            ),
        ] {
            assert_eq!(json!(parse_rows(text).unwrap()), filter, "{text}");
        }
        for bad in
            ["", "dw:", "dw:.t", "dw:t:c", "dw:t:c=17", "dw:t:c=number:x", "dw:t:=number:1", "dw:t:c=text:", "a b:t"]
        {
            assert!(parse_rows(bad).is_err(), "{bad}");
        }
    }
}
