//! Values as values of MySQL.
//!
//! Owns: the conversion. The server does not tell what type a placeholder has; it converts what it gets, as it does with
//! literals: it rounds, takes every text that begins with no digit for the number 0, and leaves out what it does not understand. So
//! wherever the column is known, a value is made one of its type here, or refused.

use std::str::FromStr as _;

use bigdecimal::BigDecimal;
use sqlx::{Arguments as _, error::BoxDynError, mysql::MySqlArguments};

use crate::{
    data::{
        dialect::{invalid, shown},
        moments::{Moment, is_span},
        mysql::{geometry, types::Type},
        template::{Bound, Template},
    },
    domain::{
        sql::SqlError,
        value::{SqlValue, is_json},
    },
};

/// Most digits of a decimal, on either side of the point: more than any column keeps.
const DECIMAL_DIGITS_MAX: i64 = 100;

/// A value as it is sent.
#[derive(Debug, PartialEq)]
enum Sent {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Decimal(BigDecimal),
    Text(String),
    Bytes(Vec<u8>),
}

/// The statement's text: geometry is sent as text, which a function reads.
pub(super) fn render(template: &Template) -> String {
    template.render(|number| match &template.values[number] {
        Bound { r#type: Some(declared), value, .. }
            if !value.is_null() && Type::of_declared(declared) == Type::Geometry =>
        {
            // MariaDB makes NULL of a text that is not a shape, and cannot keep this one.
            "/*M!100500 COALESCE( */ST_GeomFromText(?)/*M!100500 , 'x') */".to_owned()
        }
        _ => "?".to_owned(),
    })
}

/// The values, in the order of their placeholders.
pub(super) fn arguments(template: &Template) -> Result<MySqlArguments, SqlError> {
    let mut arguments = MySqlArguments::default();
    // MySQL's placeholders have no numbers, so a value that is used twice is sent twice.
    for number in template.gaps() {
        let bound = &template.values[number];
        let what = || match &bound.column {
            Some(column) => format!("the value of column `{}`", shown(column)),
            None => format!("value {}", number + 1),
        };
        let sent = sent(bound).map_err(|problem| {
            let value = shown(&bound.value.shown());
            invalid(format!("{} is {value}: {problem}", what()))
        })?;
        add(&mut arguments, sent).map_err(|_| invalid(format!("{} cannot be sent", what())))?;
    }
    Ok(arguments)
}

/// Why a value cannot be sent; a sentence.
type Problem = String;

fn sent(bound: &Bound) -> Result<Sent, Problem> {
    let Bound { value, r#type, .. } = bound;
    if value.is_null() {
        return Ok(Sent::Null);
    }
    match r#type {
        None => anywhere(value),
        Some(declared) => {
            let r#type = Type::of_declared(declared);
            for_column(value, r#type, declared)?.ok_or_else(|| format!("a value of type {declared} is expected there"))
        }
    }
}

/// A value of which it is not known where it goes.
fn anywhere(value: &SqlValue) -> Result<Sent, Problem> {
    Ok(match value {
        SqlValue::Null => Sent::Null,
        SqlValue::Bool(value) => Sent::Bool(*value),
        SqlValue::Int(value) => Sent::Int(*value),
        SqlValue::BigInt(digits) => match digits.parse() {
            Ok(number) => Sent::Uint(number),
            Err(_) => Sent::Decimal(decimal(digits).ok_or("MySQL has no number of so many digits")?),
        },
        SqlValue::Decimal(text) => Sent::Decimal(decimal(text).ok_or("MySQL has no such decimal")?),
        SqlValue::Double(value) if !value.is_finite() => return Err("MySQL has no NaN and no infinity".to_owned()),
        SqlValue::Double(value) => Sent::Double(*value),
        SqlValue::Moment(text) => {
            Sent::Text(Moment::parse(text).map_or_else(|| text.clone(), |moment| moment.in_utc()))
        }
        SqlValue::Bytes(bytes) => Sent::Bytes(bytes.clone()),
        SqlValue::Text(text) | SqlValue::Literal(text) => Sent::Text(text.clone()),
        SqlValue::List(_) | SqlValue::Json(_) => Sent::Text(value.json().map_err(|error| error.to_string())?),
    })
}

/// A value for a column of this type; `None` if it is none.
fn for_column(value: &SqlValue, r#type: Type, declared: &str) -> Result<Option<Sent>, Problem> {
    let text = value.text().unwrap_or_default();
    Ok(match r#type {
        Type::Bool { .. } => match (value, text.as_ref()) {
            (SqlValue::Bool(value), _) => Some(Sent::Bool(*value)),
            (SqlValue::Literal(_), "true") => Some(Sent::Bool(true)),
            (SqlValue::Literal(_), "false") => Some(Sent::Bool(false)),
            _ => whole(value)?.and_then(|sent| within(sent, -128, 255)),
        },
        Type::Int { bits } => whole(value)?.and_then(|sent| within(sent, -1 << (bits - 1), (1 << (bits - 1)) - 1)),
        Type::Uint { bits } => whole(value)?.and_then(|sent| within(sent, 0, (1 << bits) - 1)),
        Type::Bits => whole(value)?.and_then(|sent| within(sent, 0, u64::MAX.into())),
        // The server makes 2001 of 1, and 1970 of 70.
        Type::Year => whole(value)?.and_then(|year| within(year, if year == 0 { 0 } else { 1901 }, 2155)),
        Type::Float => double(value).and_then(single),
        Type::Double => double(value).map(Sent::Double),
        Type::Decimal => match value {
            SqlValue::Bool(value) => Some(Sent::Bool(*value)),
            SqlValue::Int(_)
            | SqlValue::BigInt(_)
            | SqlValue::Decimal(_)
            | SqlValue::Text(_)
            | SqlValue::Literal(_) => decimal(text.trim()).map(Sent::Decimal),
            // The shortest text of a double is what its author means.
            SqlValue::Double(_) => decimal(&text).map(Sent::Decimal),
            _ => None,
        },
        Type::Date => {
            moment(value).filter(|moment| moment.is_date()).map(|moment| Sent::Text(moment.date().to_owned()))
        }
        Type::Datetime | Type::Timestamp => moment(value).map(|moment| Sent::Text(moment.in_utc())),
        Type::Time => match value {
            SqlValue::Text(text) | SqlValue::Literal(text) | SqlValue::Moment(text) if is_span(text) => {
                Some(Sent::Text(text.clone()))
            }
            _ => None,
        },
        Type::Labels => match value {
            SqlValue::List(_) | SqlValue::Json(_) | SqlValue::Bytes(_) => None,
            _ if has_labels(&text, declared) => Some(Sent::Text(plain_text(value))),
            _ => None,
        },
        Type::Text => Some(Sent::Text(plain_text(value))),
        Type::Geometry => match value {
            SqlValue::Text(text) | SqlValue::Literal(text) if geometry::is_text(text) => Some(Sent::Text(text.clone())),
            _ => None,
        },
        Type::Json if matches!(value, SqlValue::Literal(text) if !is_json(text)) => None,
        Type::Json => Some(Sent::Text(value.json().map_err(|error| error.to_string())?)),
        Type::Bytes => bytes(value).map(Sent::Bytes),
    })
}

/// A value as text, booleans as MySQL keeps them.
fn plain_text(value: &SqlValue) -> String {
    match value {
        SqlValue::Bool(value) => u8::from(*value).to_string(),
        value => value.text().unwrap_or_default().into_owned(),
    }
}

/// A whole number of any size.
fn whole(value: &SqlValue) -> Result<Option<i128>, Problem> {
    let Some(digits) = value.whole_digits() else { return Ok(None) };
    digits.parse().map(Some).map_err(|_| "the number is out of range".to_owned())
}

fn within(number: i128, min: i128, max: i128) -> Option<Sent> {
    if number < min || number > max {
        return None;
    }
    i64::try_from(number).map(Sent::Int).or_else(|_| u64::try_from(number).map(Sent::Uint)).ok()
}

/// A double as a column of singles keeps it; `None` if that is an infinity, or 0 although it is not.
fn single(double: f64) -> Option<Sent> {
    #[expect(clippy::cast_possible_truncation, reason = "the column rounds to its own precision")]
    let single = double as f32;
    (single.is_finite() && (single == 0.0) == (double == 0.0)).then(|| Sent::Double(single.into()))
}

fn double(value: &SqlValue) -> Option<f64> {
    let double: f64 = match value {
        SqlValue::Double(value) => *value,
        SqlValue::Bool(value) => f64::from(u8::from(*value)),
        SqlValue::Int(_) | SqlValue::BigInt(_) | SqlValue::Decimal(_) | SqlValue::Text(_) | SqlValue::Literal(_) => {
            let text = value.text()?;
            // Rust reads "inf" and "nan" too, MySQL does not.
            let text = text.trim();
            let double =
                text.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c)).then(|| text.parse().ok())??;
            let is_zero = !text.split(['e', 'E']).next()?.contains(|c| ('1'..='9').contains(&c));
            ((double == 0.0) == is_zero).then_some(double)?
        }
        SqlValue::Null | SqlValue::Bytes(_) | SqlValue::Moment(_) | SqlValue::Json(_) | SqlValue::List(_) => {
            return None;
        }
    };
    double.is_finite().then_some(double)
}

/// A decimal of a size that can be written out.
fn decimal(text: &str) -> Option<BigDecimal> {
    let decimal = BigDecimal::from_str(text).ok()?;
    let (digits, scale) = decimal.as_bigint_and_exponent();
    let n_digits = i64::try_from(digits.to_string().len()).ok()?;
    (scale.abs() <= DECIMAL_DIGITS_MAX && n_digits <= 2 * DECIMAL_DIGITS_MAX).then(|| decimal.with_scale(scale.max(0)))
}

fn moment(value: &SqlValue) -> Option<Moment<'_>> {
    match value {
        SqlValue::Text(text) | SqlValue::Literal(text) | SqlValue::Moment(text) => Moment::parse(text),
        _ => None,
    }
}

/// Bytes, or the text `\x00ff` that stands for them; other texts are their own bytes.
fn bytes(value: &SqlValue) -> Option<Vec<u8>> {
    match value {
        SqlValue::Bytes(bytes) => Some(bytes.clone()),
        SqlValue::Text(text) | SqlValue::Literal(text) => match text.strip_prefix("\\x") {
            Some(digits) => hex::decode(digits).ok(),
            None => Some(text.clone().into_bytes()),
        },
        SqlValue::Null
        | SqlValue::Bool(_)
        | SqlValue::Int(_)
        | SqlValue::BigInt(_)
        | SqlValue::Decimal(_)
        | SqlValue::Double(_)
        | SqlValue::Moment(_)
        | SqlValue::Json(_)
        | SqlValue::List(_) => None,
    }
}

/// Tells whether a text is among the labels of an ENUM or a SET, in whatever case. Where those are not known, the server judges.
fn has_labels(text: &str, declared: &str) -> bool {
    let Some((kind, labels)) = declared.split_once('(') else { return true };
    let labels = labels.to_lowercase();
    let is_known = |label: &str| labels.contains(&format!("'{}'", label.to_lowercase().replace('\'', "''")));
    match kind {
        "set" => text.is_empty() || text.split(',').all(is_known),
        _ => text.is_empty() || is_known(text),
    }
}

fn add(arguments: &mut MySqlArguments, sent: Sent) -> Result<(), BoxDynError> {
    match sent {
        Sent::Null => arguments.add(None::<&str>),
        Sent::Bool(value) => arguments.add(value),
        Sent::Int(value) => arguments.add(value),
        Sent::Uint(value) => arguments.add(value),
        Sent::Double(value) => arguments.add(value),
        Sent::Decimal(value) => arguments.add(value),
        Sent::Text(value) => arguments.add(value),
        Sent::Bytes(value) => arguments.add(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent_to(declared: &str, value: SqlValue) -> Result<Sent, Problem> {
        sent(&Bound { value, column: None, r#type: Some(declared.into()) })
    }

    #[test]
    fn a_value_is_of_its_columns_type_or_refused() {
        let text = |text: &str| SqlValue::from(text);
        let decimal = |text: &str| Sent::Decimal(text.parse().unwrap());
        for (declared, value, sent) in [
            ("int(11)", SqlValue::Int(5), Some(Sent::Int(5))),
            ("int(11)", SqlValue::Double(5.0), Some(Sent::Int(5))),
            ("int(11)", SqlValue::Double(2.5), None),
            ("int(11)", text("2.7"), None),
            ("int(11)", text("-7"), Some(Sent::Int(-7))),
            ("int(11)", SqlValue::Int(1 << 31), None),
            ("bigint(20) unsigned", SqlValue::BigInt(u64::MAX.to_string()), Some(Sent::Uint(u64::MAX))),
            ("bigint(20) unsigned", SqlValue::Int(-1), None),
            ("bigint(20)", SqlValue::Int(i64::MIN), Some(Sent::Int(i64::MIN))),
            ("tinyint(1)", SqlValue::Literal("true".into()), Some(Sent::Bool(true))),
            ("decimal(30,0)", SqlValue::BigInt("100000000000000000001".into()), Some(decimal("100000000000000000001"))),
            ("decimal(30,2)", SqlValue::Double(0.1), Some(decimal("0.1"))),
            ("decimal(30,2)", text("1E+3"), Some(decimal("1000"))),
            ("decimal(30,2)", SqlValue::Decimal("1E+999999999".into()), None),
            ("decimal(30,2)", text("none"), None),
            ("float", SqlValue::Double(0.1), Some(Sent::Double(f64::from(0.1_f32)))),
            ("double", text("inf"), None),
            ("double", text("1e999"), None),
            ("double", text("1e-999"), None),
            ("double", text("-0e5"), Some(Sent::Double(-0.0))),
            ("float", SqlValue::Double(1e300), None),
            ("float", SqlValue::Double(1e-300), None),
            ("year(4)", SqlValue::Int(0), Some(Sent::Int(0))),
            ("year(4)", SqlValue::Int(2024), Some(Sent::Int(2024))),
            ("year(4)", SqlValue::Int(70), None),
            ("point", text("POINT(1 2)"), Some(Sent::Text("POINT(1 2)".into()))),
            ("point", text("point"), None),
            ("double", SqlValue::Double(f64::NAN), None),
            ("varchar(9)", SqlValue::Int(0), Some(Sent::Text("0".into()))),
            ("varchar(9)", SqlValue::Bool(true), Some(Sent::Text("1".into()))),
            ("binary(2)", text("\\x00ff"), Some(Sent::Bytes(vec![0, 255]))),
            ("binary(2)", text("\\x0"), None),
            ("blob", text("ab"), Some(Sent::Bytes(b"ab".to_vec()))),
            ("json", text("a"), Some(Sent::Text("\"a\"".into()))),
            ("json", SqlValue::Literal("{".into()), None),
            ("json", SqlValue::Literal("{\"a\": 1.0}".into()), Some(Sent::Text("{\"a\": 1.0}".into()))),
            ("datetime", text("2024-01-02T03:04:05+02:00"), Some(Sent::Text("2024-01-02 01:04:05".into()))),
            ("datetime", text("never"), None),
            ("date", text("2024-01-02"), Some(Sent::Text("2024-01-02".into()))),
            ("date", text("2024-01-02T03:00:00"), None),
            ("time", text("-838:59:59"), Some(Sent::Text("-838:59:59".into()))),
            ("time", text("noon"), None),
            ("enum('low','it''s')", text("IT'S"), Some(Sent::Text("IT'S".into()))),
            ("enum('low','it''s')", text("none"), None),
            ("set('a','c')", text("a,c"), Some(Sent::Text("a,c".into()))),
            ("set('a','c')", text("a,d"), None),
        ] {
            let result = sent_to(declared, value.clone());
            assert_eq!(result.as_ref().ok(), sent.as_ref(), "{declared} {value:?}: {result:?}");
        }
    }
}
