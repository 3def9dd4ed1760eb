//! The place where the next page begins: behind the values that the last row of this one has in the columns of the order.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::{
    data::WrittenRows,
    domain::{
        endpoint::TableSource,
        page::{OrderBy, PageQuery},
        shown,
        value::SqlValue,
    },
    ingress::tables::invalid,
    invoke::tables::TableError,
};

/// Longest cursor, in bytes.
const CURSOR_BYTES_MAX: usize = 4096;

/// The content of a cursor. It is the caller's to keep, and nobody's secret: it says no more than the row that the caller has seen.
#[derive(Debug, Serialize, Deserialize)]
struct Cursor {
    /// The table or query that it is of; another endpoint's values mean something else.
    of: String,
    order: String,
    values: Vec<SqlValue>,
}

/// The order that a cursor belongs to, as text.
pub(super) fn order_text(order: &[OrderBy]) -> String {
    let column = |by: &OrderBy| format!("{}{}", if by.descending { "-" } else { "" }, by.column);
    order.iter().map(column).collect::<Vec<_>>().join(",")
}

/// A source in a few characters.
pub(super) fn fingerprint(source: &TableSource) -> String {
    let TableSource { connection, schema, table, query, .. } = source;
    let text = serde_json::to_vec(&(connection, schema, table, query)).unwrap_or_default();
    blake3::hash(&text).to_hex()[..12].to_owned()
}

/// The values behind which the page begins that is asked for.
pub(super) fn read_cursor(cursor: &str, order: &[OrderBy], source: &TableSource) -> Result<Vec<SqlValue>, TableError> {
    let refused =
        |why: &str| invalid(format!("`cursor` {why}: take it from the `link` or `x-next-cursor` of the page before"));
    if cursor.len() > CURSOR_BYTES_MAX {
        return Err(refused("is too long"));
    }
    let json = BASE64_URL_SAFE_NO_PAD.decode(cursor).map_err(|_| refused("cannot be read"))?;
    let Cursor { of, order: its_order, values } =
        serde_json::from_slice(&json).map_err(|_| refused("cannot be read"))?;
    if of != fingerprint(source) {
        return Err(refused("is of another endpoint"));
    }
    let is_scalar = |value: &SqlValue| !matches!(value, SqlValue::List(_));
    let fits = its_order == order_text(order) && values.len() == order.len() && values.iter().all(is_scalar);
    if fits && !order.is_empty() { Ok(values) } else { Err(refused("is of another `order`")) }
}

/// The cursor of the page behind this one, if there may be one.
pub(super) fn next_cursor(
    rows: &WrittenRows,
    query: &PageQuery,
    source: &TableSource,
) -> Result<Option<String>, TableError> {
    let Some(last) = rows.last.as_ref().filter(|_| rows.n_rows >= u64::from(query.limit)) else { return Ok(None) };
    let mut values = Vec::with_capacity(query.order.len());
    for OrderBy { column, .. } in &query.order {
        let nth = rows.columns.iter().position(|known| known.name == *column);
        let value = nth.and_then(|nth| last.get(nth));
        let missing = || TableError::Misconfigured(format!("the rows have no column `{}`", shown(column)));
        values.push(value.ok_or_else(missing)?.clone());
    }
    let cursor = Cursor { of: fingerprint(source), order: order_text(&query.order), values };
    let json = serde_json::to_vec(&cursor).map_err(|error| TableError::Misconfigured(error.to_string()))?;
    let cursor = BASE64_URL_SAFE_NO_PAD.encode(json);
    if cursor.len() > CURSOR_BYTES_MAX {
        let columns = order_text(&query.order);
        return Err(invalid(format!(
            "the last row is too long to begin a page behind it: order by less than `{columns}`"
        )));
    }
    Ok(Some(cursor))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        domain::sql::{Column, ColumnKind},
        ingress::tables::read::tests::{asked, source},
    };

    #[test]
    fn a_cursor_is_good_for_its_own_source_and_order() {
        let query = asked("order=-total&limit=2").unwrap().query;
        let orders = source(json!({"connection": "dw", "table": "orders"}));
        let column = |name: &str| Column { name: name.to_owned(), kind: ColumnKind::Plain };
        let last = vec![SqlValue::Int(9_007_199_254_740_993), SqlValue::Literal("0.10000000000000000001".into())];
        let rows = |n_rows| WrittenRows {
            columns: vec![column("id"), column("total")],
            bytes: bytes::Bytes::new(),
            n_rows,
            last: Some(last.clone()),
        };
        let cursor = next_cursor(&rows(2), &query, &orders).unwrap().unwrap();
        let values = read_cursor(&cursor, &query.order, &orders).unwrap();
        assert_eq!(values, [last[1].clone(), last[0].clone()]);
        assert_eq!(next_cursor(&rows(1), &query, &orders).unwrap(), None, "it was the last page");

        let others = source(json!({"connection": "dw", "table": "others"}));
        for (cursor, order, source, why) in [
            (cursor.clone(), "total", &orders, "another `order`"),
            (cursor.clone(), "-total", &others, "another endpoint"),
            (BASE64_URL_SAFE_NO_PAD.encode("[\"-total,id\",[1]]"), "-total", &orders, "cannot be read"),
            (BASE64_URL_SAFE_NO_PAD.encode("{\"a\":1}"), "-total", &orders, "cannot be read"),
            ("A".repeat(CURSOR_BYTES_MAX + 1), "-total", &orders, "too long"),
            ("%".to_owned(), "-total", &orders, "cannot be read"),
        ] {
            let order = asked(&format!("order={order}")).unwrap().query.order;
            let error = read_cursor(&cursor, &order, source).unwrap_err().to_string();
            assert!(error.contains(why), "{why}: {error}");
        }
        for values in [json!([{"int": 1}]), json!([{"list": []}, "null"])] {
            let crafted = json!({"of": fingerprint(&orders), "order": "-total,id", "values": values}).to_string();
            assert!(read_cursor(&BASE64_URL_SAFE_NO_PAD.encode(crafted), &query.order, &orders).is_err());
        }
    }
}
