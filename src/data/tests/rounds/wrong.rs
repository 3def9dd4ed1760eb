//! Values of every wrong kind, for every type: refused by the column's name, or kept as they are.

use std::str::FromStr as _;

use bigdecimal::{BigDecimal, RoundingMode};

use super::{
    values::{canonical, json_of},
    *,
};
use crate::{data::moments::Moment, domain::value::double_text};

fn candidates() -> Vec<SqlValue> {
    let moment = |text: &str| SqlValue::Moment(text.to_owned());
    let given = [
        truth(true),
        int(5),
        int(-1),
        int(70),
        int(20_240_102),
        int(16_777_217),
        int((1 << 53) + 1),
        big("1000000000000000000000000000001"),
        dec("2.5"),
        dec("1E+400"),
        double(2.5),
        double(1e300),
        double(f64::NAN),
        double(f64::INFINITY),
        text("never"),
        text(""),
        text("2.5"),
        text("1e400"),
        text("a\0b"),
        text(&"x".repeat(300)),
        text("2024-01-02T03:04:05+02:00"),
        text("2024-01-02T03:04:05"),
        text("24:30:00"),
        bytes(&[0, 255, 1]),
        list(vec![int(1), text("a")]),
        list(vec![]),
        json("{\"a\":1}"),
    ];
    let moments = ["2024-01-02T03:04:05+02:00", "2024-01-02T03:04:05", "2024-01-02", "03:04:05", "03:04:05+02:00"];
    given.into_iter().map(|given| given.value).chain(moments.map(moment)).collect()
}

/// Inserts all candidates into the `u` tables of the cases, which are empty.
pub(super) async fn check(fixture: &Fixture, cases: &[Case]) {
    let mut problems = Vec::new();
    for (nth, case) in cases.iter().enumerate() {
        let table = format!("u{nth}");
        let TableName { schema, .. } = fixture.name(&table);
        for (value, n) in candidates().into_iter().zip(0..) {
            let row = [("n".to_owned(), SqlValue::Int(n)), ("k".to_owned(), value.clone())].into_iter().collect();
            let change = Change { table: fixture.name(&table), action: Action::Insert { rows: vec![row] } };
            let inserted = fixture.database().change(change, RowFormat::Json).await;
            let filter = [("n".to_owned(), SqlValue::Int(n))].into_iter().collect();
            let select = Select {
                schema: schema.clone(),
                table: Some(table.clone()),
                filter,
                decimals: true,
                ..Select::default()
            };
            let mut cursor = fixture.fetch(select).await.unwrap();
            let rows = cursor.next_batch(RowFormat::Json).await.unwrap();
            let kept = rows.map(|rows| {
                let rows = String::from_utf8(rows.to_vec()).unwrap();
                rows.split_once(",\"k\":").unwrap().1.strip_suffix("}]").unwrap().to_owned()
            });
            let problem = match (inserted, kept) {
                (Err(error), None) if is_named(&error) => continue,
                (Ok(_), Some(kept)) if is_same(&value, &kept, &case.r#type) => continue,
                (Err(error), kept) => format!("{:?} {error} (kept: {kept:?})", error.code),
                (Ok(_), kept) => format!("is kept as {kept:?}"),
            };
            problems.push(format!("{}, {value:?}: {problem}", case.r#type));
        }
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// Types whose texts are written in several ways: of those only the server knows what is the same.
const READ_BY_SERVER: [&str; 5] = ["cidr", "interval", "tsvector", "hstore", "oidvector"];

/// Tells that it is kept with the padding of its column: spaces or zeros.
fn is_padded(given: &SqlValue, kept: &str, r#type: &str) -> bool {
    let digits = match given {
        SqlValue::Bytes(bytes) => hex::encode(bytes),
        other => hex::encode(&*other.text().unwrap_or_default()),
    };
    let is_binary = r#type.starts_with("BINARY(") && matches!(given, SqlValue::Bytes(_) | SqlValue::Text(_));
    let is_char = r#type.starts_with("char(") && given.text().is_some_and(|text| text == kept.trim_end());
    is_char || (is_binary && kept.trim_end_matches('0') == format!("\\x{digits}").trim_end_matches('0'))
}

/// Whether an error says which column it is about.
fn is_named(error: &SqlError) -> bool {
    let is_about_value = matches!(error.code, SqlErrorCode::InvalidArgument | SqlErrorCode::ConstraintViolated);
    is_about_value && ["`k`", "'k'"].iter().any(|name| error.message.contains(name))
}

/// Whether what is kept is the value that was given, as the documents say.
fn is_same(given: &SqlValue, kept: &str, r#type: &str) -> bool {
    let exact = canonical(kept) == canonical(&json_of(given));
    let kept = serde_json::from_str::<String>(kept).unwrap_or_else(|_| kept.to_owned());
    exact
        || given.text().is_some_and(|text| text == kept)
        || is_same_number(given, &kept, r#type)
        || is_same_moment(given, &kept)
        || matches!(given, SqlValue::Text(text) if kept == format!("\\x{}", hex::encode(text)))
        || is_padded(given, &kept, r#type)
        || matches!(given, SqlValue::Bool(true) if kept == "1")
        || matches!(given, SqlValue::List(_) if r#type.ends_with("[]") && kept.replace([' ', '"'], "") == json_of(given).replace('"', ""))
        || matches!(given, SqlValue::Text(_) if READ_BY_SERVER.contains(&r#type))
}

fn is_same_number(given: &SqlValue, kept: &str, r#type: &str) -> bool {
    let text = match given {
        SqlValue::Bool(value) => u8::from(*value).to_string(),
        other => other.text().unwrap_or_default().into_owned(),
    };
    let name = r#type.to_ascii_lowercase();
    let rounded = |text: &str| match name.as_str() {
        "real" | "float" => text.parse::<f32>().ok().map(|single| double_text(single.into())),
        _ if name.contains("double") || name.contains("real") => text.parse::<f64>().ok().map(double_text),
        _ => None,
    };
    if let (Some(one), Some(other)) = (rounded(&text), rounded(kept)) {
        return one == other;
    }
    match (BigDecimal::from_str(&text), BigDecimal::from_str(kept)) {
        (Ok(one), Ok(other)) if ["numeric(", "decimal(", "money"].iter().any(|exact| name.starts_with(exact)) => {
            // The column's own rounding.
            one.with_scale_round(other.fractional_digit_count(), RoundingMode::HalfUp) == other
        }
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

fn is_same_moment(given: &SqlValue, kept: &str) -> bool {
    let whole = |text: &str| {
        let moment = Moment::parse(text)?.in_utc();
        Some(if moment.len() == 10 { format!("{moment} 00:00:00") } else { moment })
    };
    let text = given.text().unwrap_or_default();
    whole(&text).is_some_and(|given| whole(kept) == Some(given)) || (kept == format!("{text}+00:00"))
}
