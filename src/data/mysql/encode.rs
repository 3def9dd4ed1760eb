//! JSON values as values of MySQL.
//!
//! Owns: the conversion. The server does not tell what type a placeholder has; it converts what it gets, as it does with
//! literals. Booleans are numbers there; lists and objects are kept as JSON text.
//!
//! **Comparisons.** To MySQL every text without digits at its beginning equals the number 0. A caller who sends a number
//! where a script expects a token must not match all tokens, so values of `where` are converted to the kind of their
//! column first, or refused.

use serde_json::Value;
use sqlx::{
    Arguments as _, Column as _,
    mysql::{MySqlArguments, MySqlColumn},
};

use crate::{
    data::{
        mysql::decode::{is_number, is_text},
        select::{invalid, shown},
    },
    domain::sql::SqlError,
};

/// The values, in the order of their placeholders; `columns` are those of the result, `names` those that the first
/// values are compared with.
pub(super) fn arguments(
    values: &[&Value],
    names: &[String],
    columns: &[MySqlColumn],
) -> Result<MySqlArguments, SqlError> {
    let mut arguments = MySqlArguments::default();
    for (nth, value) in values.iter().enumerate() {
        // Names of columns do not depend on case here.
        let column = names.get(nth).and_then(|name| columns.iter().find(|column| same_name(column.name(), name)));
        let added = match column {
            Some(column) if is_text(column.type_info()) => arguments.add(text_of(value)),
            Some(column) if is_number(column.type_info()) && !reads_as_number(value) => {
                let value = shown(&value.to_string());
                return Err(invalid(format!("value {} is {value}: a number is expected there", nth + 1)));
            }
            Some(_) | None => add(&mut arguments, value),
        };
        added.map_err(|_| invalid(format!("value {} cannot be sent", nth + 1)))?;
    }
    Ok(arguments)
}

fn same_name(one: &str, other: &str) -> bool {
    one == other || one.to_lowercase() == other.to_lowercase()
}

fn add(arguments: &mut MySqlArguments, value: &Value) -> Result<(), sqlx::error::BoxDynError> {
    match value {
        Value::Null => arguments.add(None::<&str>),
        Value::Bool(value) => arguments.add(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => arguments.add(integer),
            (None, Some(integer)) => arguments.add(integer),
            (None, None) => arguments.add(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => arguments.add(text.as_str()),
        Value::Array(_) | Value::Object(_) => arguments.add(value.to_string()),
    }
}

/// A value as text, booleans as MySQL keeps them.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Bool(value) => Some(u8::from(*value).to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => Some(value.to_string()),
    }
}

fn reads_as_number(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => {
            // Rust reads "inf" and "nan" too, MySQL does not.
            let text = text.trim();
            !text.contains(|c: char| c.is_ascii_alphabetic() && c != 'e' && c != 'E') && text.parse::<f64>().is_ok()
        }
        Value::Array(_) | Value::Object(_) => false,
    }
}
