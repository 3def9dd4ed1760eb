//! Where the next page begins: behind the values that the last row of this one has in the columns of the order.

use std::{borrow::Cow, collections::HashMap};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, value::RawValue};

use crate::{
    domain::{
        page::{OrderBy, PageQuery},
        shown,
    },
    ingress::tables::{invalid, misread},
    invoke::tables::{Page, TableError},
};

/// Longest cursor, in bytes.
const CURSOR_BYTES_MAX: usize = 4096;

/// The order that a cursor belongs to, as text.
pub(super) fn order_text(order: &[OrderBy]) -> String {
    let column = |by: &OrderBy| format!("{}{}", if by.descending { "-" } else { "" }, by.column);
    order.iter().map(column).collect::<Vec<_>>().join(",")
}

/// The values behind which the page begins that is asked for.
pub(super) fn read_cursor(cursor: &str, order: &[OrderBy]) -> Result<Vec<Value>, TableError> {
    let garbage = || invalid("`cursor` is none: take it from the page before, with the same `order`".to_owned());
    if cursor.len() > CURSOR_BYTES_MAX {
        return Err(garbage());
    }
    let json = BASE64_URL_SAFE_NO_PAD.decode(cursor).map_err(|_| garbage())?;
    let (of, values): (String, Vec<Value>) = serde_json::from_slice(&json).map_err(|_| garbage())?;
    let is_plain = |value: &Value| !matches!(value, Value::Array(_) | Value::Object(_));
    if of != order_text(order) || values.len() != order.len() || order.is_empty() || !values.iter().all(is_plain) {
        return Err(garbage());
    }
    Ok(values)
}

/// The cursor of the page behind this one, if there may be one.
pub(super) fn next_cursor(page: &Page, query: &PageQuery) -> Result<Option<String>, TableError> {
    if page.n_rows < u64::from(query.limit) {
        return Ok(None);
    }
    let rows: Vec<&RawValue> = serde_json::from_slice(&page.rows).map_err(|error| misread(&error))?;
    let Some(last) = rows.last() else { return Ok(None) };
    let last: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_str(last.get()).map_err(|error| misread(&error))?;
    let mut values = Vec::with_capacity(query.order.len());
    for OrderBy { column, .. } in &query.order {
        let value = last.get(column.as_str());
        let missing = || TableError::Misconfigured(format!("the rows have no column `{}`", shown(column)));
        values.push(exact(value.ok_or_else(missing)?)?);
    }
    let json = serde_json::to_vec(&(order_text(&query.order), values)).map_err(|error| misread(&error))?;
    let cursor = BASE64_URL_SAFE_NO_PAD.encode(json);
    if cursor.len() > CURSOR_BYTES_MAX {
        let columns = order_text(&query.order);
        return Err(invalid(format!(
            "the last row is too long to begin a page behind it: order by less than `{columns}`"
        )));
    }
    Ok(Some(cursor))
}

/// A value that is equal to the column's: a number that JSON's numbers do not hold stays text.
fn exact(raw: &RawValue) -> Result<Value, TableError> {
    let value: Value = serde_json::from_str(raw.get()).map_err(|error| misread(&error))?;
    Ok(match value {
        Value::Number(number) if number.is_f64() && number.to_string() != raw.get() => Value::from(raw.get()),
        value => value,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::ingress::tables::read::tests::asked;

    #[test]
    fn a_cursor_is_good_for_its_own_order_and_keeps_numbers_exact() {
        let (query, _) = asked("order=-total&limit=2").unwrap();
        let rows =
            Bytes::from_static(br#"[{"id":1,"total":2},{"id":9007199254740993,"total":0.10000000000000000001}]"#);
        let page = Page { columns: Vec::new(), rows, n_rows: 2, total: None, room: None };
        let cursor = next_cursor(&page, &query).unwrap().unwrap();
        let values = read_cursor(&cursor, &query.order).unwrap();
        assert_eq!(values, [json!("0.10000000000000000001"), json!(9_007_199_254_740_993_i64)]);
        assert!(read_cursor(&cursor, &asked("order=total").unwrap().0.order).is_err());
        let crafted = |json: Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
        for crafted in [
            crafted(json!(["-total,id", [1]])),
            crafted(json!(["-total,id", [1, {"a": 1}]])),
            crafted(json!(["-total,id", 1])),
            crafted(json!({"a": 1})),
            "A".repeat(CURSOR_BYTES_MAX + 1),
        ] {
            assert!(read_cursor(&crafted, &query.order).is_err(), "{crafted}");
        }
        let short = Page { n_rows: 1, ..page };
        assert_eq!(next_cursor(&short, &query).unwrap(), None, "it was the last page");
    }
}
