//! Values as a script gives them, and as it gets them.

use bigdecimal::num_bigint::{BigInt, Sign};

use super::*;
use crate::domain::value::double_text;

/// A value that is given, and what `fetch` with exact decimals is to show of it: the same, unless it is said otherwise.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) value: SqlValue,
    pub(super) shown: String,
    /// Set if the text that shows it means another value.
    pub(super) is_hidden: bool,
}

impl Given {
    /// Given so, shown otherwise.
    pub(super) fn shown(self, shown: &str) -> Self {
        Self { shown: shown.to_owned(), ..self }
    }

    /// Not to be found by the text that a page shows.
    pub(super) fn hidden(self) -> Self {
        Self { is_hidden: true, ..self }
    }
}

impl From<SqlValue> for Given {
    fn from(value: SqlValue) -> Self {
        Self { shown: json_of(&value), value, is_hidden: false }
    }
}

pub(super) fn null() -> Given {
    SqlValue::Null.into()
}

pub(super) fn truth(value: bool) -> Given {
    SqlValue::Bool(value).into()
}

pub(super) fn int(value: i64) -> Given {
    SqlValue::Int(value).into()
}

pub(super) fn big(digits: &str) -> Given {
    SqlValue::BigInt(digits.to_owned()).into()
}

pub(super) fn dec(text: &str) -> Given {
    SqlValue::Decimal(text.to_owned()).into()
}

pub(super) fn double(value: f64) -> Given {
    SqlValue::Double(value).into()
}

pub(super) fn text(text: &str) -> Given {
    SqlValue::from(text).into()
}

pub(super) fn bytes(bytes: &[u8]) -> Given {
    SqlValue::Bytes(bytes.to_vec()).into()
}

pub(super) fn json(json: &str) -> Given {
    SqlValue::Json(json.to_owned()).into()
}

pub(super) fn list(items: Vec<Given>) -> Given {
    SqlValue::List(items.into_iter().map(|given| given.value).collect()).into()
}

/// A value as the JSON of a script has it.
pub(super) fn json_of(value: &SqlValue) -> String {
    match value {
        SqlValue::Double(value) => double_text(*value),
        SqlValue::Decimal(text) => Value::from(text.as_str()).to_string(),
        SqlValue::List(items) => format!("[{}]", items.iter().map(json_of).collect::<Vec<_>>().join(",")),
        other => other.json().unwrap(),
    }
}

/// JSON without spaces, with characters instead of escapes, and floats as their shortest text.
pub(super) fn canonical(json: &str) -> String {
    let mut out = String::new();
    let mut rest = json;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => {
                let mut ends = rest.char_indices().skip(1);
                let mut is_escaped = false;
                let end = ends.find(|(_, c)| {
                    let is_end = *c == '"' && !is_escaped;
                    is_escaped = *c == '\\' && !is_escaped;
                    is_end
                });
                end.map_or(rest.len(), |(at, _)| at + 1)
            }
            '0'..='9' | '-' => rest.find(|c: char| !(c.is_alphanumeric() || "+-.".contains(c))).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        rest = after;
        match first {
            '"' => out.push_str(&serde_json::from_str::<Value>(token).unwrap().to_string()),
            '0'..='9' | '-' if token.contains(['.', 'e', 'E']) => out.push_str(&double_text(token.parse().unwrap())),
            first if first.is_whitespace() => {}
            _ => out.push_str(token),
        }
    }
    out
}

/// Rows in `marshal`, as Python reads them and a script gives them back: a dict is JSON.
pub(super) fn unmarshalled(rows: &[u8]) -> Vec<Vec<(String, SqlValue)>> {
    let mut reader = Unmarshal { rest: rows, marked: Vec::new() };
    assert_eq!(reader.take(1), b"[");
    let n_rows = reader.length();
    let rows = (0..n_rows).map(|_| {
        assert_eq!(reader.take(1), b"{");
        reader.fields()
    });
    let rows = rows.collect();
    assert!(reader.rest.is_empty());
    rows
}

struct Unmarshal<'a> {
    rest: &'a [u8],
    marked: Vec<String>,
}

impl<'a> Unmarshal<'a> {
    fn take(&mut self, n_bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(n_bytes);
        self.rest = rest;
        taken
    }

    fn length(&mut self) -> usize {
        i32::from_le_bytes(self.take(4).try_into().unwrap()).try_into().unwrap()
    }

    fn fields(&mut self) -> Vec<(String, SqlValue)> {
        let mut fields = Vec::new();
        while self.rest[0] != b'0' {
            let SqlValue::Text(key) = self.value() else { panic!("no key") };
            fields.push((key, self.value()));
        }
        self.take(1);
        fields
    }

    fn value(&mut self) -> SqlValue {
        let code = self.take(1)[0];
        let value = match code & 0x7f {
            b'N' => SqlValue::Null,
            b'T' => SqlValue::Bool(true),
            b'F' => SqlValue::Bool(false),
            b'i' => SqlValue::Int(i32::from_le_bytes(self.take(4).try_into().unwrap()).into()),
            b'l' => self.long(),
            b'g' => SqlValue::Double(f64::from_le_bytes(self.take(8).try_into().unwrap())),
            b'z' | b'Z' => {
                let length = usize::from(self.take(1)[0]);
                self.text(length)
            }
            b'a' | b'u' | b't' => {
                let length = self.length();
                self.text(length)
            }
            b'r' => {
                let number = self.length();
                return SqlValue::from(self.marked[number].as_str());
            }
            b'[' => {
                let n_items = self.length();
                SqlValue::List((0..n_items).map(|_| self.value()).collect())
            }
            b'{' => {
                let field =
                    |(key, value): (String, SqlValue)| format!("{}:{}", Value::from(key), value.json().unwrap());
                SqlValue::Json(format!("{{{}}}", self.fields().into_iter().map(field).collect::<Vec<_>>().join(",")))
            }
            other => panic!("unknown code {other}"),
        };
        if code & 0x80 != 0 {
            let SqlValue::Text(text) = &value else { panic!("only texts are marked") };
            self.marked.push(text.clone());
        }
        value
    }

    fn text(&mut self, length: usize) -> SqlValue {
        SqlValue::from(std::str::from_utf8(self.take(length)).unwrap())
    }

    /// Sign and number of its digits of 15 bits, then these, the lowest first.
    fn long(&mut self) -> SqlValue {
        let length = i32::from_le_bytes(self.take(4).try_into().unwrap());
        let mut number = BigInt::from(0);
        for nth in 0..length.unsigned_abs() {
            let digit = u16::from_le_bytes(self.take(2).try_into().unwrap());
            number += BigInt::from(digit) << (15 * nth);
        }
        let number = if length < 0 { -number } else { number };
        assert!(number.sign() != Sign::NoSign);
        number.to_string().parse().map_or_else(|_| SqlValue::BigInt(number.to_string()), SqlValue::Int)
    }
}
