//! The value that a statement of ours failed for.
//!
//! Owns: trying the values one by one, in the session that refused them. Never: changes anything.

use std::collections::HashMap;

use sqlx::{AssertSqlSafe, Executor as _, Row as _, SqlSafeStr as _, TypeInfo as _, postgres::PgConnection};

use crate::{
    data::{
        dialect::{Dialect, shown},
        postgres::encode,
        statement::Statement,
        template::Bound,
    },
    domain::sql::{SqlError, SqlErrorCode},
};

/// Values that are tried, at most: what takes a part of the time for which errors are explained.
const TRIED_MAX: usize = 20_000;
/// Values of one try, at most.
const TRIED_AT_ONCE: usize = 200;

/// Bytes of a `name`, at most.
const NAME_BYTES_MAX: usize = 63;

/// A value that is tried: which, its text, and the type that is to take it.
struct Tried<'a> {
    bound: &'a Bound,
    text: String,
    r#type: &'a str,
}

/// The error that names the column whose value is not one of its type; `None` if there is no such value, or none that is found.
pub(super) async fn blamed(
    connection: &mut PgConnection,
    statement: &Statement,
    explained: &SqlError,
) -> Option<SqlError> {
    if statement.template.values.iter().all(|bound| bound.column.is_none()) {
        return None;
    }
    let sql = statement.template.render(|number| format!("${}", number + 1));
    let prepared = connection.prepare_with(AssertSqlSafe(sql).into_sql_str(), &[]).await.ok()?;
    let types = encode::parameter_types(&prepared);
    let declared = declared_types(connection, statement).await.ok()?;
    let mut tried = Vec::new();
    for (bound, r#type) in statement.template.values.iter().zip(types).take(TRIED_MAX) {
        let Some(column) = &bound.column else { continue };
        let Some(text) = (!bound.value.is_null()).then(|| encode::text_of(&bound.value, r#type).ok()).flatten() else {
            continue;
        };
        // What a column is compared with may be a list of its values.
        let is_of_column = |declared: &&String| declared.ends_with("[]") == r#type.name().ends_with("[]");
        let r#type = declared.get(column).filter(is_of_column).map_or(r#type.name(), String::as_str);
        tried.push(Tried { bound, text, r#type });
    }
    for chunk in tried.chunks(TRIED_AT_ONCE) {
        if takes(connection, chunk).await.ok()? {
            continue;
        }
        for one in chunk {
            if !takes(connection, std::slice::from_ref(one)).await.ok()? {
                return Some(error_of(one, explained));
            }
        }
    }
    tried.iter().find(|one| is_cut(one)).map(|one| error_of(one, explained))
}

fn error_of(Tried { bound, .. }: &Tried<'_>, explained: &SqlError) -> SqlError {
    let (column, value) = (shown(bound.column.as_deref().unwrap_or_default()), shown(&bound.value.shown()));
    let message = format!("the value of column `{column}` is {value}: {}", explained.message);
    // A domain's check is a constraint.
    let is_constraint = explained.code == SqlErrorCode::ConstraintViolated;
    SqlError::new(if is_constraint { explained.code } else { SqlErrorCode::InvalidArgument }, message)
}

/// The types of the columns of the statement's table, with lengths.
async fn declared_types(
    connection: &mut PgConnection,
    statement: &Statement,
) -> Result<HashMap<String, String>, sqlx::Error> {
    let quoted =
        statement.purpose.table().and_then(|(schema, table)| Dialect::Postgres.quoted_table(schema, table).ok());
    let Some(quoted) = quoted else { return Ok(HashMap::new()) };
    let rows = sqlx::query(
        "SELECT attname::text, pg_catalog.format_type(atttypid, atttypmod) FROM pg_catalog.pg_attribute \
         WHERE attrelid = pg_catalog.to_regclass($1) AND attnum > 0 AND NOT attisdropped",
    )
    .bind(quoted)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Tells whether the server reads these texts as values of their types.
async fn takes(connection: &mut PgConnection, tried: &[Tried<'_>]) -> Result<bool, sqlx::Error> {
    let casts: Vec<_> =
        tried.iter().enumerate().map(|(nth, one)| format!("(${}::text)::{} IS NULL", nth + 1, one.r#type)).collect();
    let sql = AssertSqlSafe(format!("SELECT {}", casts.join(", "))).into_sql_str();
    let query = tried.iter().fold(sqlx::query(sql), |query, one| query.bind(&one.text)).persistent(false);
    match query.fetch_all(connection).await {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Tells whether a cast would cut the text, where keeping it is an error.
fn is_cut(Tried { text, r#type, .. }: &Tried<'_>) -> bool {
    if *r#type == "name" {
        return text.len() > NAME_BYTES_MAX;
    }
    let Some((name, rest)) = r#type.split_once('(') else { return false };
    let Some(length) = rest.strip_suffix(')').and_then(|length| length.parse::<usize>().ok()) else { return false };
    match name {
        "character varying" | "character" => text.trim_end_matches(' ').chars().count() > length,
        "bit" => text.len() != length,
        "bit varying" => text.len() > length,
        _ => false,
    }
}
