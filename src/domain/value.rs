//! A value on its way between a script, or a caller, and a database.
//!
//! Owns: the kinds of values there are, and their text and JSON. Never: rounds, or knows a database; what a column makes of a value
//! is told by the types of each database (see `data`).

use std::borrow::Cow;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::Value;

/// Columns, or names of placeholders, with their values, in order.
pub type Record = IndexMap<String, SqlValue>;

/// Most digits of a whole number: as many as Python reads of a text.
pub const DIGITS_MAX: usize = 4300;

/// A value, exactly as it was given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SqlValue {
    /// NULL.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number beyond 64 bits: `-` if it is negative, and its decimal digits.
    BigInt(String),
    /// An exact decimal as Python writes it: `-12.50`, `1E+3`, `NaN`, `Infinity`.
    Decimal(String),
    /// A double with all its bits; NaN and infinities, too.
    Double(#[serde(with = "bits")] f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// ISO 8601 text of a date, a time of day, or both, with or without offset.
    Moment(String),
    /// JSON text of an object, with its numbers as they were given.
    Json(String),
    /// A list: an array, JSON, or several values of which any is meant, by where it stands.
    List(Vec<Self>),
    /// A value in its database's own words, as a page shows it or an address has it: read as the type of its column.
    Literal(String),
}

/// A value that JSON has no word for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("JSON has no NaN and no infinity")]
pub struct NotJson;

impl SqlValue {
    /// Tells whether it is NULL.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The text that stands for the value in a column of texts; `None` for NULL. Lists and objects are JSON, bytes `\x00ff`.
    #[must_use]
    pub fn text(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Null => return None,
            Self::Bool(value) => Cow::Borrowed(if *value { "true" } else { "false" }),
            Self::Int(value) => itoa::Buffer::new().format(*value).to_owned().into(),
            Self::Double(value) => double_text(*value).into(),
            Self::BigInt(text)
            | Self::Decimal(text)
            | Self::Text(text)
            | Self::Moment(text)
            | Self::Json(text)
            | Self::Literal(text) => text.as_str().into(),
            Self::Bytes(bytes) => format!("\\x{}", hex::encode(bytes)).into(),
            Self::List(_) => self.lenient_json().into(),
        })
    }

    /// The value as JSON text, numbers with all their digits.
    ///
    /// # Errors
    /// For NaN and infinities, wherever they stand.
    pub fn json(&self) -> Result<String, NotJson> {
        let mut out = String::new();
        self.write_json(&mut out)?;
        Ok(out)
    }

    /// Appends the value as JSON text.
    ///
    /// # Errors
    /// As [`json`](Self::json).
    pub fn write_json(&self, out: &mut String) -> Result<(), NotJson> {
        match self {
            Self::Null => out.push_str("null"),
            Self::Double(value) if !value.is_finite() => return Err(NotJson),
            Self::Decimal(text) => out.push_str(&json_number(text).ok_or(NotJson)?),
            Self::Json(text) | Self::Literal(text) => out.push_str(text),
            Self::Bool(_) | Self::Int(_) | Self::BigInt(_) | Self::Double(_) => {
                out.push_str(&self.text().unwrap_or_default());
            }
            Self::Text(_) | Self::Moment(_) | Self::Bytes(_) => {
                write_json_string(out, &self.text().unwrap_or_default());
            }
            Self::List(items) => {
                out.push('[');
                for (nth, item) in items.iter().enumerate() {
                    if nth > 0 {
                        out.push(',');
                    }
                    item.write_json(out)?;
                }
                out.push(']');
            }
        }
        Ok(())
    }

    /// As JSON, with what JSON has no word for as text: for messages and for columns of texts.
    fn lenient_json(&self) -> String {
        match self {
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(Self::lenient_json).collect();
                format!("[{}]", items.join(","))
            }
            other => other.json().unwrap_or_else(|NotJson| {
                let mut quoted = String::new();
                write_json_string(&mut quoted, &other.text().unwrap_or_default());
                quoted
            }),
        }
    }

    /// The value as an error shows it: text in quotes, everything else as it is written.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Text(_) | Self::Moment(_) | Self::Bytes(_) | Self::List(_) | Self::Null => self.lenient_json(),
            Self::Literal(text) => {
                let mut quoted = String::new();
                write_json_string(&mut quoted, text);
                quoted
            }
            Self::Bool(_) | Self::Int(_) | Self::BigInt(_) | Self::Decimal(_) | Self::Double(_) | Self::Json(_) => {
                self.text().unwrap_or_default().into_owned()
            }
        }
    }

    /// The digits of a whole number, of whatever kind it was given: `5.0` and `"5"` are 5. `None` if it is not whole, or not a number.
    #[must_use]
    pub fn whole_digits(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Bool(value) => Some(Cow::Borrowed(if *value { "1" } else { "0" })),
            Self::Int(_) | Self::BigInt(_) => self.text(),
            Self::Double(value) => (value.is_finite() && value.fract() == 0.0).then(|| format!("{value:.0}").into()),
            Self::Decimal(text) | Self::Text(text) | Self::Literal(text) => whole(text.trim()),
            Self::Null | Self::Bytes(_) | Self::Moment(_) | Self::Json(_) | Self::List(_) => None,
        }
    }
}

impl From<Value> for SqlValue {
    /// A value of JSON. Its numbers are those that [`Value`] holds: read what must be exact by other means.
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(integer), ..) => Self::Int(integer),
                (None, Some(integer), _) => Self::BigInt(integer.to_string()),
                (None, None, double) => Self::Double(double.unwrap_or(f64::NAN)),
            },
            Value::String(text) => Self::Text(text),
            Value::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Value::Object(_) => Self::Json(value.to_string()),
        }
    }
}

impl From<u64> for SqlValue {
    fn from(number: u64) -> Self {
        i64::try_from(number).map_or_else(|_| Self::BigInt(number.to_string()), Self::Int)
    }
}

impl From<&str> for SqlValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// The shortest text that reads back as this double, with a point or an exponent; `NaN`, `Infinity`, `-Infinity`.
#[must_use]
pub fn double_text(value: f64) -> String {
    if value.is_finite() {
        return zmij::Buffer::new().format_finite(value).to_owned();
    }
    let text = match value.is_nan() {
        true => "NaN",
        false if value > 0.0 => "Infinity",
        false => "-Infinity",
    };
    text.to_owned()
}

/// A decimal text as a number of JSON; `None` for what is not finite.
#[must_use]
pub fn json_number(decimal: &str) -> Option<String> {
    let text = decimal.strip_prefix('+').unwrap_or(decimal);
    let digits = text.strip_prefix('-').unwrap_or(text);
    // Python writes `1E+3` and `0E-7`, which are numbers of JSON, too.
    digits.starts_with(|c: char| c.is_ascii_digit()).then(|| text.to_owned())
}

/// The digits of a whole number that is written as a decimal: `5`, `-5.00`, `1E+3`, but not `5.5` or `1E+9999999`.
fn whole(text: &str) -> Option<Cow<'_, str>> {
    let (sign, unsigned) = match text.as_bytes().first()? {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !unsigned.is_empty() && is_digits(unsigned) && !unsigned.starts_with('0') {
        return Some(if sign.is_empty() { unsigned.into() } else { text.into() });
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (unsigned, 0),
    };
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if (before.is_empty() && after.is_empty()) || !is_digits(before) || !is_digits(after) {
        return None;
    }
    let digits = format!("{before}{after}");
    let point = i32::try_from(before.len()).ok()?.checked_add(exponent)?;
    let kept = usize::try_from(point.max(0)).ok()?;
    if digits.bytes().skip(kept).any(|digit| digit != b'0') || kept > DIGITS_MAX {
        return None;
    }
    let mut whole: String = digits.chars().take(kept).collect();
    whole.extend(std::iter::repeat_n('0', kept.saturating_sub(digits.len())));
    let whole = whole.trim_start_matches('0');
    Some(if whole.is_empty() { "0".into() } else { format!("{sign}{whole}").into() })
}

/// Tells whether a text is JSON.
#[must_use]
pub fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

fn write_json_string(out: &mut String, text: &str) {
    out.push_str(&Value::from(text).to_string());
}

/// Doubles as their bits: JSON has no NaN, and its readers may round.
mod bits {
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(value.to_bits())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        u64::deserialize(deserializer).map(f64::from_bits)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whole_numbers_are_recognised_in_any_spelling() {
        for (value, digits) in [
            (SqlValue::Int(-5), Some("-5")),
            (SqlValue::BigInt("100000000000000000001".into()), Some("100000000000000000001")),
            (SqlValue::Double(5.0), Some("5")),
            (SqlValue::Double(1e20), Some("100000000000000000000")),
            (SqlValue::Double(5.5), None),
            (SqlValue::Double(f64::NAN), None),
            (SqlValue::Decimal("5.00".into()), Some("5")),
            (SqlValue::Decimal("1E+3".into()), Some("1000")),
            (SqlValue::Decimal("120E-1".into()), Some("12")),
            (SqlValue::Decimal("1E-1".into()), None),
            (SqlValue::Decimal("1E+999999999".into()), None),
            (SqlValue::Decimal("0E+99".into()), Some("0")),
            (SqlValue::Decimal("NaN".into()), None),
            (SqlValue::Text(" +007 ".into()), Some("7")),
            (SqlValue::Text("-0".into()), Some("0")),
            (SqlValue::Text(String::new()), None),
            (SqlValue::Text("-".into()), None),
            (SqlValue::Text(".".into()), None),
            (SqlValue::Text("1e".into()), None),
            (SqlValue::Text("٣".into()), None),
            (SqlValue::Bool(true), Some("1")),
            (SqlValue::Moment("2024".into()), None),
        ] {
            assert_eq!(value.whole_digits().as_deref(), digits, "{value:?}");
        }
    }

    #[test]
    fn json_keeps_every_digit() {
        let list = SqlValue::List(vec![
            SqlValue::BigInt("1234567890123456789012".into()),
            SqlValue::Decimal("0.10000000000000000001".into()),
            SqlValue::Double(-941_989_543.432_770_5),
            SqlValue::Json("{\"v\":1.50}".into()),
            SqlValue::Text("a\"\n".into()),
            SqlValue::Bytes(vec![0, 255]),
            SqlValue::Null,
        ]);
        let expected = "[1234567890123456789012,0.10000000000000000001,-941989543.4327705,{\"v\":1.50},\"a\\\"\\n\",\"\\\\x00ff\",null]";
        assert_eq!(list.json().as_deref(), Ok(expected));
        for value in [SqlValue::Double(f64::INFINITY), SqlValue::Decimal("-Infinity".into())] {
            assert_eq!(SqlValue::List(vec![value]).json(), Err(NotJson));
        }
    }

    #[test]
    fn values_survive_as_part_of_a_cursor() {
        for value in [
            SqlValue::Double(f64::NAN),
            SqlValue::Double(-0.0),
            SqlValue::Double(0.1 + 0.2),
            SqlValue::Int(i64::MIN),
            SqlValue::Bytes(vec![0, 255]),
            SqlValue::Literal("{\"a\": 1.0}".into()),
            SqlValue::Null,
        ] {
            let read: SqlValue = serde_json::from_slice(&serde_json::to_vec(&value).unwrap()).unwrap();
            assert_eq!(format!("{read:?}"), format!("{value:?}"));
        }
        assert_eq!(
            SqlValue::from(json!({"b": 1, "a": [u64::MAX]})),
            SqlValue::Json("{\"b\":1,\"a\":[18446744073709551615]}".into())
        );
    }
}
