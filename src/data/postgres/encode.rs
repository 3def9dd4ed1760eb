//! JSON values as values of PostgreSQL types.
//!
//! Owns: the conversion, driven by the types that the server inferred. Never: guesses a type.

use serde_json::Value;
use sqlx::{
    Arguments as _, Encode, Postgres, Type, TypeInfo as _,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgArguments, PgTypeInfo, PgTypeKind},
};

use crate::{
    data::select::{Statement, invalid, shown},
    domain::sql::SqlError,
};

/// How a value is sent.
enum Wire {
    Bool,
    Int {
        bytes: usize,
    },
    Float {
        bytes: usize,
    },
    Text,
    Json,
    Jsonb,
    /// As text, which the server casts to this type.
    Cast(String),
}

fn wire(r#type: &PgTypeInfo) -> Wire {
    match r#type.oid().map(|oid| oid.0) {
        Some(16) => Wire::Bool,
        Some(21) => Wire::Int { bytes: 2 },
        Some(23) => Wire::Int { bytes: 4 },
        Some(20) => Wire::Int { bytes: 8 },
        Some(700) => Wire::Float { bytes: 4 },
        Some(701) => Wire::Float { bytes: 8 },
        Some(19 | 25 | 705 | 1042 | 1043) => Wire::Text,
        Some(114) => Wire::Json,
        Some(3802) => Wire::Jsonb,
        // Their plain names mean a length of 1.
        Some(18) => Wire::Cast("pg_catalog.\"char\"".to_owned()),
        Some(1560) => Wire::Cast("pg_catalog.\"bit\"".to_owned()),
        Some(1561) => Wire::Cast("pg_catalog.\"bit\"[]".to_owned()),
        Some(1002) => Wire::Cast("pg_catalog.\"char\"[]".to_owned()),
        Some(1014) => Wire::Cast("pg_catalog.bpchar[]".to_owned()),
        _ => match r#type.kind() {
            PgTypeKind::Enum(_) => Wire::Text,
            // The catalogue's own spelling of the name: quoted and with its schema where that is needed.
            _ => Wire::Cast(r#type.name().to_owned()),
        },
    }
}

/// The SQL name of the type to which the placeholder must be cast, if its value goes as text.
pub(super) fn cast(r#type: &PgTypeInfo) -> Option<String> {
    match wire(r#type) {
        Wire::Cast(name) => Some(name),
        Wire::Bool | Wire::Int { .. } | Wire::Float { .. } | Wire::Text | Wire::Json | Wire::Jsonb => None,
    }
}

/// Converts values to the types of their placeholders. Errors name the column of a value where it is known.
pub(super) fn arguments(statement: &Statement, types: &[PgTypeInfo]) -> Result<PgArguments, SqlError> {
    let values = &statement.template.values;
    let what = |nth| match statement.column(nth) {
        Some(column) => format!("the value of column `{}`", shown(column)),
        None => format!("value {}", nth + 1),
    };
    let mut arguments = PgArguments::default();
    for (nth, (value, r#type)) in values.iter().zip(types).enumerate() {
        let bytes = encode(value, r#type).map_err(|problem| {
            let value = shown(&value.to_string());
            invalid(format!("{} is {value}: {problem} {} is expected there", what(nth), r#type.name().to_lowercase()))
        })?;
        arguments
            .add(Raw { r#type: r#type.clone(), bytes })
            .map_err(|_| invalid(format!("{} is too large", what(nth))))?;
    }
    Ok(arguments)
}

/// Why a value cannot be sent; the beginning of a sentence about the type.
type Problem = &'static str;

fn encode(value: &Value, r#type: &PgTypeInfo) -> Result<Option<Vec<u8>>, Problem> {
    if value.is_null() {
        return Ok(None);
    }
    Ok(Some(match wire(r#type) {
        Wire::Bool => vec![u8::from(bool_of(value)?)],
        Wire::Int { bytes } => int_of(value, bytes)?,
        Wire::Float { bytes } => {
            let double = float_of(value)?;
            #[expect(clippy::cast_possible_truncation, reason = "the column is a float4")]
            if bytes == 4 { (double as f32).to_be_bytes().to_vec() } else { double.to_be_bytes().to_vec() }
        }
        Wire::Text => text_of(value).into_bytes(),
        Wire::Json => value.to_string().into_bytes(),
        Wire::Jsonb => format!("\u{1}{value}").into_bytes(), // 1 is the version of the format
        Wire::Cast(_) => match (r#type.kind(), value) {
            (PgTypeKind::Array(item), Value::Array(items)) => {
                let mut literal = String::new();
                write_array(&mut literal, items, &wire(item));
                literal.into_bytes()
            }
            (_, Value::Array(_) | Value::Object(_)) => return Err("a"),
            _ => text_of(value).into_bytes(),
        },
    }))
}

fn bool_of(value: &Value) -> Result<bool, Problem> {
    match value {
        Value::Bool(value) => Ok(*value),
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "t" | "true" | "yes" | "on" | "1" => Ok(true),
            "f" | "false" | "no" | "off" | "0" => Ok(false),
            _ => Err("a"),
        },
        _ => Err("a"),
    }
}

fn int_of(value: &Value, bytes: usize) -> Result<Vec<u8>, Problem> {
    let number = match value {
        Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?)),
        Value::String(text) => text.trim().parse::<i64>().ok(),
        _ => None,
    };
    let number = number.ok_or("an")?;
    let encoded = match bytes {
        2 => i16::try_from(number).map(|number| number.to_be_bytes().to_vec()),
        4 => i32::try_from(number).map(|number| number.to_be_bytes().to_vec()),
        _ => Ok(number.to_be_bytes().to_vec()),
    };
    encoded.map_err(|_| "it is out of range, an")
}

/// A double that is a whole number, as one.
fn whole(double: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53: above, doubles skip integers
    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
    (double.fract() == 0.0 && double.abs() <= EXACT).then_some(double as i64)
}

fn float_of(value: &Value) -> Result<f64, Problem> {
    match value {
        Value::Number(number) => number.as_f64().ok_or("a"),
        Value::String(text) => text.trim().parse().map_err(|_| "a"),
        _ => Err("a"),
    }
}

/// A value as the text that a literal would have.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// Writes an array literal, every item quoted.
fn write_array(out: &mut String, items: &[Value], item_wire: &Wire) {
    out.push('{');
    for (nth, item) in items.iter().enumerate() {
        if nth > 0 {
            out.push(',');
        }
        let text = match (item, item_wire) {
            (Value::Null, _) => {
                out.push_str("NULL");
                continue;
            }
            (_, Wire::Json | Wire::Jsonb) => item.to_string(),
            (Value::Array(items), _) => {
                write_array(out, items, item_wire);
                continue;
            }
            // 5.0 is an integer here, as it is outside of an array.
            (_, Wire::Int { .. }) => {
                item.as_f64().and_then(whole).map_or_else(|| text_of(item), |whole| whole.to_string())
            }
            (_, Wire::Bool | Wire::Float { .. } | Wire::Text | Wire::Cast(_)) => text_of(item),
        };
        out.push('"');
        for character in text.chars() {
            if matches!(character, '"' | '\\') {
                out.push('\\');
            }
            out.push(character);
        }
        out.push('"');
    }
    out.push('}');
}

/// A value that is already in its wire form.
struct Raw {
    r#type: PgTypeInfo,
    bytes: Option<Vec<u8>>,
}

impl Type<Postgres> for Raw {
    fn type_info() -> PgTypeInfo {
        // Never asked for: `produces` says it for each value.
        <str as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for Raw {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let Some(bytes) = &self.bytes else { return Ok(IsNull::Yes) };
        buffer.extend_from_slice(bytes);
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(self.r#type.clone())
    }

    fn size_hint(&self) -> usize {
        self.bytes.as_ref().map_or(0, Vec::len)
    }
}
