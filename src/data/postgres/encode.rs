//! Values as values of PostgreSQL types.
//!
//! Owns: the conversion, driven by the types that the server inferred. Never: guesses a type.

use serde_json::value::RawValue;
use sqlx::{
    Arguments as _, Either, Encode, Postgres, Statement as _, Type, TypeInfo as _,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgArguments, PgStatement, PgTypeInfo, PgTypeKind},
};

use crate::{
    data::{
        dialect::{invalid, shown},
        moments::Moment,
        statement::Statement,
        template::Bound,
    },
    domain::{
        sql::SqlError,
        value::{SqlValue, double_text, is_json},
    },
};

/// The form in which a value is sent.
enum Wire {
    Bool,
    Int {
        bytes: usize,
    },
    Float {
        bytes: usize,
    },
    Text,
    Bytes,
    Json,
    Jsonb,
    /// As text, which the server casts to this type.
    Cast(String),
}

fn wire(r#type: &PgTypeInfo) -> Wire {
    match r#type.oid().map(|oid| oid.0) {
        Some(16) => Wire::Bool,
        Some(17) => Wire::Bytes,
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

/// The types that the server has inferred for the placeholders of a statement.
pub(super) fn parameter_types(statement: &PgStatement) -> &[PgTypeInfo] {
    match statement.parameters() {
        Some(Either::Left(types)) => types,
        Some(Either::Right(_)) | None => &[],
    }
}

/// The SQL name of the type to which the placeholder must be cast, if its value goes as text.
pub(super) fn cast(bound: &Bound, r#type: &PgTypeInfo) -> Option<String> {
    match (wire(r#type), &bound.r#type) {
        // Composites are compared as records, which cannot be read.
        (Wire::Cast(_), Some(declared)) if r#type.oid().is_some_and(|oid| oid.0 == 2249) => Some(declared.to_string()),
        // A cast from text looks for a table of that name.
        (Wire::Cast(name), _) if name == "regclass" && bound.value.whole_digits().is_some() => {
            Some("pg_catalog.oid::pg_catalog.regclass".to_owned())
        }
        (Wire::Cast(name), _) => Some(name),
        (
            Wire::Bool | Wire::Int { .. } | Wire::Float { .. } | Wire::Text | Wire::Bytes | Wire::Json | Wire::Jsonb,
            _,
        ) => None,
    }
}

/// Converts values to the types of their placeholders. Errors name the column of a value where it is known.
pub(super) fn arguments(statement: &Statement, types: &[PgTypeInfo]) -> Result<PgArguments, SqlError> {
    let mut arguments = PgArguments::default();
    let is_author = statement.purpose.is_author();
    for (nth, (bound, r#type)) in statement.template.values.iter().zip(types).enumerate() {
        let what = || match &bound.column {
            Some(column) => format!("the value of column `{}`", shown(column)),
            None => format!("value {}", nth + 1),
        };
        let value = match (&bound.value, wire(r#type)) {
            // An author who writes SQL passes JSON as text, as to other databases and by other drivers.
            (SqlValue::Text(text), Wire::Json | Wire::Jsonb) if is_author => &SqlValue::Json(text.clone()),
            (SqlValue::Text(text), _) if is_author => &SqlValue::Literal(text.clone()),
            // What a caller compares a column with is looked at as what a script keeps in it.
            (SqlValue::Literal(text), _) if bound.column.is_some() && is_moment(r#type) => {
                &SqlValue::Text(text.clone())
            }
            (value, _) => value,
        };
        let bytes = encode(value, r#type).map_err(|problem| {
            let value = shown(&value.shown());
            invalid(format!("{} is {value}: {problem} {} is expected there", what(), r#type.name().to_lowercase()))
        })?;
        arguments
            .add(Raw { r#type: r#type.clone(), bytes })
            .map_err(|_| invalid(format!("{} is too large", what())))?;
    }
    Ok(arguments)
}

/// Why a value cannot be sent; the beginning of a sentence about the type.
type Problem = &'static str;

const NOT_JSON: Problem = "NaN and infinities are not in JSON, a";
const OUT_OF_RANGE: Problem = "it is out of range, a";

fn encode(value: &SqlValue, r#type: &PgTypeInfo) -> Result<Option<Vec<u8>>, Problem> {
    if value.is_null() {
        return Ok(None);
    }
    Ok(Some(match wire(r#type) {
        Wire::Bool => vec![u8::from(bool_of(value)?)],
        Wire::Int { bytes } => int_of(value, bytes)?,
        Wire::Float { bytes } => {
            let double = float_of(value, bytes)?;
            #[expect(clippy::cast_possible_truncation, reason = "the column is a float4")]
            if bytes == 4 { (double as f32).to_be_bytes().to_vec() } else { double.to_be_bytes().to_vec() }
        }
        Wire::Bytes => bytes_of(value)?,
        Wire::Jsonb => format!("\u{1}{}", json_of(value)?).into_bytes(), // 1 is the format's version
        Wire::Text | Wire::Json | Wire::Cast(_) => text_of(value, r#type)?.into_bytes(),
    }))
}

/// The text that the server reads as this value of a type.
pub(super) fn text_of(value: &SqlValue, r#type: &PgTypeInfo) -> Result<String, Problem> {
    let text = match (wire(r#type), r#type.kind()) {
        (Wire::Cast(_), PgTypeKind::Domain(base)) => text_of(value, base)?,
        (Wire::Cast(_), PgTypeKind::Array(item)) => {
            // The text of int2vector and oidvector has no braces.
            let is_vector = r#type.oid().is_some_and(|oid| matches!(oid.0, 22 | 30));
            array_of(value, item, is_vector)?
        }
        (Wire::Bool, _) => bool_of(value)?.to_string(),
        (Wire::Int { bytes }, _) => {
            int_of(value, bytes)?;
            value.whole_digits().unwrap_or_default().into_owned()
        }
        (Wire::Float { bytes }, _) => double_text(float_of(value, bytes)?),
        (Wire::Bytes, _) => format!("\\x{}", hex::encode(bytes_of(value)?)),
        (Wire::Json | Wire::Jsonb, _) => json_of(value)?,
        (Wire::Text, _) => value.text().unwrap_or_default().into_owned(),
        (Wire::Cast(_), _) => cast_text(value, r#type)?,
    };
    if text.contains('\0') { Err("PostgreSQL has no NUL in texts, a") } else { Ok(text) }
}

/// The text of a value of a type that the server reads. It reads more than is meant: parts of a text, and texts of other types.
fn cast_text(value: &SqlValue, r#type: &PgTypeInfo) -> Result<String, Problem> {
    let oid = r#type.oid().map_or(0, |oid| oid.0);
    let is_known_as = |name: &str| r#type.name().rsplit('.').next() == Some(name);
    let text = value.text().unwrap_or_default();
    match (oid, value) {
        (CHAR, _) if text.len() > 1 => Err("it has more than one byte, a"),
        (TRANSACTION_64, _) => unsigned(value, u64::MAX),
        (OID | TRANSACTION | COMMAND, _) => unsigned(value, u32::MAX.into()),
        (oid, _) if is_object(oid) && value.whole_digits().is_some() => unsigned(value, u32::MAX.into()),
        (MONEY, SqlValue::Text(_) | SqlValue::Literal(_)) if text.trim().is_empty() => Err("a"),
        (NUMERIC | MONEY, SqlValue::Int(_) | SqlValue::BigInt(_) | SqlValue::Decimal(_) | SqlValue::Double(_)) => {
            Ok(text.into_owned())
        }
        (DATE | TIME | TIME_TZ | TIMESTAMP, SqlValue::Text(_) | SqlValue::Moment(_)) => moment_of(&text, oid),
        (TIMESTAMP_TZ, SqlValue::Moment(_)) => Ok(text.into_owned()),
        (_, SqlValue::Json(json)) if is_known_as("hstore") => {
            hstore_of(json).ok_or("only texts and null may be the values, an")
        }
        (_, SqlValue::Literal(json)) if is_known_as("hstore") && json.starts_with('{') => hstore_of(json).ok_or("an"),
        (_, SqlValue::List(_) | SqlValue::Json(_)) => Err("a"),
        (_, SqlValue::Text(_) | SqlValue::Literal(_)) => Ok(text.into_owned()),
        (_, _) if is_known_as("citext") => Ok(text.into_owned()),
        _ => Err("a"),
    }
}

const CHAR: u32 = 18;
const OID: u32 = 26;
const TRANSACTION: u32 = 28;
const COMMAND: u32 = 29;
const MONEY: u32 = 790;
const DATE: u32 = 1082;
const TIME: u32 = 1083;
const TIMESTAMP: u32 = 1114;
const TIMESTAMP_TZ: u32 = 1184;
const TIME_TZ: u32 = 1266;
const NUMERIC: u32 = 1700;
const TRANSACTION_64: u32 = 5069;

/// Tells whether it refers to something of the catalogue, by its name or its number: regproc, regclass, regtype and their like.
fn is_object(oid: u32) -> bool {
    matches!(oid, 24 | 2202..=2206 | 3734 | 3769 | 4089 | 4096 | 4191)
}

/// The digits of a number that has no sign. The server counts others from its other end, and takes what is none for 0.
fn unsigned(value: &SqlValue, max: u64) -> Result<String, Problem> {
    if let SqlValue::Bool(_) = value {
        return Err("a");
    }
    let number: u64 = value.whole_digits().ok_or("a")?.parse().map_err(|_| OUT_OF_RANGE)?;
    if number <= max { Ok(number.to_string()) } else { Err(OUT_OF_RANGE) }
}

/// Tells whether it is a date, a time of day, or both without an offset.
fn is_moment(r#type: &PgTypeInfo) -> bool {
    r#type.oid().is_some_and(|oid| matches!(oid.0, DATE | TIME | TIMESTAMP | TIME_TZ))
}

/// The text of a moment. The server leaves out what the type has not: a time of day, a date, an offset.
fn moment_of(text: &str, oid: u32) -> Result<String, Problem> {
    let is_after_sign = || text.get(1..).is_some_and(|rest| rest.contains(['+', '-']) || rest.ends_with(['z', 'Z']));
    match (oid, Moment::parse(text)) {
        (DATE, Some(moment)) if !moment.is_date() => Err("it has a time of day, a"),
        (TIME | TIME_TZ, Some(_)) => Err("it has a date, a"),
        (TIME, None) if text.starts_with(|c: char| c.is_ascii_digit()) && is_after_sign() => Err("it has an offset, a"),
        (TIMESTAMP, Some(moment)) => Ok(moment.in_utc()),
        _ => Ok(text.to_owned()),
    }
}

fn json_of(value: &SqlValue) -> Result<String, Problem> {
    if matches!(value, SqlValue::Literal(text) if !is_json(text)) {
        return Err("a");
    }
    value.json().map_err(|_| NOT_JSON)
}

fn bool_of(value: &SqlValue) -> Result<bool, Problem> {
    match value {
        SqlValue::Bool(value) => Ok(*value),
        SqlValue::Text(text) | SqlValue::Literal(text) => match text.trim().to_ascii_lowercase().as_str() {
            "t" | "true" | "yes" | "on" | "1" => Ok(true),
            "f" | "false" | "no" | "off" | "0" => Ok(false),
            _ => Err("a"),
        },
        _ => Err("a"),
    }
}

fn int_of(value: &SqlValue, bytes: usize) -> Result<Vec<u8>, Problem> {
    const OUT_OF_RANGE: Problem = "it is out of range, an";
    let digits = match value {
        SqlValue::Bool(_) => None,
        value => value.whole_digits(),
    };
    let number: i64 = digits.ok_or("an")?.parse().map_err(|_| OUT_OF_RANGE)?;
    let encoded = match bytes {
        2 => i16::try_from(number).map(|number| number.to_be_bytes().to_vec()),
        4 => i32::try_from(number).map(|number| number.to_be_bytes().to_vec()),
        _ => Ok(number.to_be_bytes().to_vec()),
    };
    encoded.map_err(|_| OUT_OF_RANGE)
}

/// A double that the column rounds to its own precision, but not to an infinity or to 0.
fn float_of(value: &SqlValue, bytes: usize) -> Result<f64, Problem> {
    let double: f64 = match value {
        SqlValue::Double(value) => *value,
        SqlValue::Int(_) | SqlValue::BigInt(_) | SqlValue::Decimal(_) | SqlValue::Text(_) | SqlValue::Literal(_) => {
            let text = value.text().unwrap_or_default();
            let text = text.trim();
            let double: f64 = text.parse().map_err(|_| "a")?;
            let has_digits = |digits: std::ops::RangeInclusive<char>| {
                text.split(['e', 'E']).next().unwrap_or_default().contains(|c| digits.contains(&c))
            };
            if (double.is_infinite() && has_digits('0'..='9')) || (double == 0.0 && has_digits('1'..='9')) {
                return Err(OUT_OF_RANGE);
            }
            double
        }
        SqlValue::Null
        | SqlValue::Bool(_)
        | SqlValue::Bytes(_)
        | SqlValue::Moment(_)
        | SqlValue::Json(_)
        | SqlValue::List(_) => return Err("a"),
    };
    #[expect(clippy::cast_possible_truncation, reason = "the column is a float4")]
    let single = double as f32;
    if bytes == 4 && ((single.is_infinite() && double.is_finite()) || (single == 0.0 && double != 0.0)) {
        return Err(OUT_OF_RANGE);
    }
    Ok(double)
}

/// Bytes, or the text `\x00ff` that stands for them; other texts are their own bytes.
fn bytes_of(value: &SqlValue) -> Result<Vec<u8>, Problem> {
    match value {
        SqlValue::Bytes(bytes) => Ok(bytes.clone()),
        SqlValue::Text(text) | SqlValue::Literal(text) => match text.strip_prefix("\\x") {
            Some(digits) => hex::decode(digits).map_err(|_| "a"),
            None => Ok(text.clone().into_bytes()),
        },
        _ => Err("a"),
    }
}

/// The text of an array. What a page shows of one is JSON.
fn array_of(value: &SqlValue, item: &PgTypeInfo, is_vector: bool) -> Result<String, Problem> {
    let mut out = String::new();
    match value {
        SqlValue::List(items) if is_vector => {
            let items: Result<Vec<_>, _> = items.iter().map(|value| text_of(value, item)).collect();
            out = items?.join(" ");
        }
        SqlValue::List(items) => write_array(&mut out, items, item)?,
        SqlValue::Literal(text) => match list_of(text) {
            Some(list) => return array_of(&list, item, is_vector),
            // What a page ended with is as in other arrays.
            None if is_vector => out = text.trim_matches(['{', '}']).replace(',', " "),
            None => out.push_str(text),
        },
        SqlValue::Text(text) => out.push_str(text),
        _ => return Err("a list for a"),
    }
    Ok(out)
}

/// The list that a JSON text is, with its numbers as they are written.
fn list_of(json: &str) -> Option<SqlValue> {
    let items: Vec<&RawValue> = serde_json::from_str(json).ok()?;
    let item = |item: &RawValue| {
        let json = item.get();
        Some(match json.as_bytes().first()? {
            b'[' => list_of(json)?,
            b'"' => SqlValue::Text(serde_json::from_str(json).ok()?),
            b'{' => SqlValue::Json(json.to_owned()),
            b'n' => SqlValue::Null,
            b't' | b'f' => SqlValue::Bool(json == "true"),
            _ => SqlValue::Decimal(json.to_owned()),
        })
    };
    items.into_iter().map(item).collect::<Option<_>>().map(SqlValue::List)
}

/// Writes an array literal, every item quoted.
fn write_array(out: &mut String, items: &[SqlValue], r#type: &PgTypeInfo) -> Result<(), Problem> {
    let is_json = matches!(wire(r#type), Wire::Json | Wire::Jsonb);
    out.push('{');
    for (nth, item) in items.iter().enumerate() {
        if nth > 0 {
            out.push(',');
        }
        match item {
            SqlValue::Null => out.push_str("NULL"),
            SqlValue::List(items) if !is_json => write_array(out, items, r#type)?,
            item => {
                out.push('"');
                push_escaped(out, &text_of(item, r#type)?);
                out.push('"');
            }
        }
    }
    out.push('}');
    Ok(())
}

/// The text of an `hstore` for an object of texts.
fn hstore_of(json: &str) -> Option<String> {
    let pairs: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).ok()?;
    let mut out = String::new();
    for (nth, (key, value)) in pairs.iter().enumerate() {
        out.push_str(if nth > 0 { ", \"" } else { "\"" });
        push_escaped(&mut out, key);
        out.push_str("\"=>");
        match value {
            serde_json::Value::Null => out.push_str("NULL"),
            serde_json::Value::String(text) => {
                out.push('"');
                push_escaped(&mut out, text);
                out.push('"');
            }
            _ => return None,
        }
    }
    Some(out)
}

fn push_escaped(out: &mut String, text: &str) {
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
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
