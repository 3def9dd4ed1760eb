//! Properties of cursors that hold for whatever a caller sends.
//!
//! Owns: the checks, which tests run on seeded bytes and `fuzz/` on whatever it finds. Never: part of a host.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::json;

use crate::{
    data::WrittenRows,
    domain::{
        endpoint::TableSource,
        page::{OrderBy, PageQuery, PageSource},
        sql::{Column, ColumnKind},
        value::SqlValue,
    },
    ingress::tables::cursor::{fingerprint, next_cursor, order_text, read_cursor},
};

/// Checks that any text is read or refused as a cursor, and that a cursor is read as the values that it was made of.
///
/// # Panics
///
/// If it is not.
pub fn check_cursor(input: &[u8]) {
    let source: TableSource = serde_json::from_value(json!({"connection": "dw", "table": "t"})).expect("it is sound");
    let values = Values(input).collect::<Vec<_>>();
    let order: Vec<_> =
        (0..values.len()).map(|nth| OrderBy { column: format!("c{nth}"), descending: nth % 2 == 0 }).collect();

    let text = String::from_utf8_lossy(input);
    assert!(read_cursor(&text, &order, &source).is_err(), "{text:?} is of no endpoint");
    // As somebody makes it who knows how.
    let begin = json!({"of": fingerprint(&source), "order": order_text(&order)}).to_string();
    let crafted = format!("{},\"values\":{text}}}", begin.trim_end_matches('}'));
    if let Ok(read) = read_cursor(&BASE64_URL_SAFE_NO_PAD.encode(crafted), &order, &source) {
        assert_eq!(read.len(), order.len(), "{text:?}");
    }

    let column = |by: &OrderBy| Column { name: by.column.clone(), kind: ColumnKind::Plain };
    let rows = WrittenRows {
        columns: order.iter().map(column).collect(),
        bytes: bytes::Bytes::new(),
        n_rows: 1,
        last: Some(values.clone()),
    };
    let page_source = PageSource::Table(source.table_name());
    let query = PageQuery {
        source: page_source,
        columns: None,
        conditions: Vec::new(),
        order,
        after: None,
        limit: 1,
        counts: false,
        is_asked: true,
    };
    match next_cursor(&rows, &query, &source) {
        Ok(Some(cursor)) if !values.is_empty() => {
            let read = read_cursor(&cursor, &query.order, &source).expect("it is the host's own");
            // NaN is not equal to itself.
            assert_eq!(format!("{read:?}"), format!("{values:?}"));
        }
        // Longer than a cursor may be.
        Err(_) => assert!(input.len() > 500, "{values:?}"),
        Ok(_) => assert!(values.is_empty(), "a full page has a next one"),
    }
}

/// Values that a row may have, made of bytes.
struct Values<'a>(&'a [u8]);

impl Values<'_> {
    fn take(&mut self, length: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken.to_vec()
    }
}

impl Iterator for Values<'_> {
    type Item = SqlValue;

    fn next(&mut self) -> Option<SqlValue> {
        let [kind, length] = self.take(2)[..] else { return None };
        let bytes = self.take(usize::from(length % 32));
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let mut number = [0; 8];
        number[..bytes.len().min(8)].copy_from_slice(&bytes[..bytes.len().min(8)]);
        Some(match kind % 10 {
            0 => SqlValue::Null,
            1 => SqlValue::Bool(length % 2 == 0),
            2 => SqlValue::Int(i64::from_le_bytes(number)),
            3 => SqlValue::BigInt(text),
            4 => SqlValue::Decimal(text),
            5 => SqlValue::Double(f64::from_bits(u64::from_le_bytes(number))),
            6 => SqlValue::Text(text),
            7 => SqlValue::Bytes(bytes),
            8 => SqlValue::Moment(text),
            _ => SqlValue::Literal(text),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_of_random_rows_are_read_again() {
        let mut random = blake3::Hasher::new().update(b"a seed").finalize_xof();
        for nth in 0..20_000 {
            let mut bytes = vec![0; nth % 200];
            random.fill(&mut bytes);
            check_cursor(&bytes);
        }
        for crafted in ["[]", "[null]", "[{\"int\": 1}]", "[[[[[", "[{\"list\": [{\"list\": []}]}]", "1}//"] {
            check_cursor(crafted.as_bytes());
        }
        check_cursor("[".repeat(100_000).as_bytes());
    }
}
