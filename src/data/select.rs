//! From a [`Select`] to a statement.
//!
//! Owns: what arguments are valid together, quoting of identifiers, the SQL of the table form. Never: runs anything.
//! Invariant: nothing of a script's arguments but `query` itself reaches SQL text unquoted.

use std::fmt::Write as _;

use serde_json::Value;

use crate::{
    data::{
        json::Shape,
        placeholders::{self, Template},
        scope::{Granted, write_exact},
    },
    domain::{
        names::ConnectionName,
        sql::{Params, Select, SqlError, SqlErrorCode, TableName},
    },
};

/// Longest identifier, in bytes. PostgreSQL cuts at 63, MySQL refuses above 64, SQLite has no limit; longer names are mistakes.
pub(crate) const IDENTIFIER_BYTES_MAX: usize = 255;
/// Longest `query`, in bytes. Generous for SQL a person wrote, small for a database's parser.
pub(crate) const QUERY_BYTES_MAX: usize = 1 << 20;
/// Most columns in `order_by`.
pub(crate) const ORDER_BY_MAX: usize = 64;
/// Most values of one statement: the highest number that the protocols of PostgreSQL and MySQL can count.
pub(crate) const VALUES_MAX: usize = 65_535;

/// Whose SQL to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    MySql,
    Postgres,
    Sqlite,
}

/// What to run.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) template: Template,
    /// The column that each of the first values is for; the values after them have none.
    pub(crate) value_columns: Vec<String>,
    pub(crate) form: Form,
    pub(crate) decimals: bool,
    pub(crate) shape: Shape,
    pub(crate) told: Told,
}

/// What of a database's own words an error may repeat.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Told {
    /// All of them.
    #[default]
    All,
    /// None that show values: they may be of rows that are not the caller's.
    WithoutValues,
}

/// Whose a statement is and what it may do.
#[derive(Debug)]
pub(crate) enum Form {
    /// Our SQL: it reads one table and changes nothing.
    Table { schema: Option<String>, table: String },
    /// The author's SQL: it may do anything. Rows are skipped and cut off by the host.
    Query { offset: u64, limit: Option<u64> },
    /// Our SQL: it changes rows of one table, or the table itself.
    Change { schema: Option<String>, table: String },
}

/// What a script's `fetch` is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Rows of this table.
    Table(TableName),
    /// The rows of a statement.
    Query,
}

/// What a `fetch` is for: one thing.
pub(crate) fn asked(select: &Select) -> Result<Asked, SqlError> {
    let Select { database, schema, table, query, .. } = select;
    match (table, query) {
        (Some(table), None) => {
            let (database, schema, table) = (database.clone(), schema.clone(), table.clone());
            Ok(Asked::Table(TableName { database, schema, table }))
        }
        (None, Some(_)) => Ok(Asked::Query),
        (Some(_), Some(_)) => Err(invalid("give a table or a `query`, not both")),
        (None, None) => Err(invalid("give a table or a `query`")),
    }
}

impl Statement {
    /// Checks the arguments of a table read and writes its SQL.
    pub(crate) fn of_table(dialect: Dialect, granted: &Granted, select: Select) -> Result<Self, SqlError> {
        let Select {
            database: _,
            schema: _,
            table: _,
            query: _,
            params,
            filter,
            order_by,
            limit,
            offset,
            decimals,
            lists,
            stream: _,
        } = select;
        if params != Params::None {
            return Err(invalid("`params` go with `query`, not with a table: use `where`"));
        }
        let (template, value_columns) = table_template(dialect, granted, &filter, &order_by, limit, offset)?;
        let TableName { database: _, schema, table } = granted.name().clone();
        Ok(Self {
            template,
            value_columns,
            form: Form::Table { schema, table },
            decimals,
            shape: shape(lists),
            told: Told::All,
        })
    }

    /// Checks the arguments of an author's statement.
    pub(crate) fn of_author(dialect: Dialect, select: Select) -> Result<Self, SqlError> {
        let Select {
            database: _,
            schema: _,
            table: _,
            query,
            params,
            filter,
            order_by,
            limit,
            offset,
            decimals,
            lists,
            stream: _,
        } = select;
        let query = query.unwrap_or_default();
        if !filter.is_empty() || !order_by.is_empty() {
            return Err(invalid("`where` and `order_by` go with a table: write them into the `query`"));
        }
        if query.len() > QUERY_BYTES_MAX {
            return Err(invalid(format!("`query` is longer than {QUERY_BYTES_MAX} bytes")));
        }
        if query.contains('\0') {
            return Err(invalid("`query` contains a NUL character"));
        }
        if query.trim().is_empty() {
            return Err(invalid("`query` is empty"));
        }
        let template = placeholders::parse(dialect, query, params)?;
        let form = Form::Query { offset: offset.unwrap_or(0), limit };
        Ok(Self { template, value_columns: Vec::new(), form, decimals, shape: shape(lists), told: Told::All })
    }

    /// A statement of our own.
    pub(crate) fn ours(template: Template, value_columns: Vec<String>, form: Form) -> Self {
        Self { template, value_columns, form, decimals: false, shape: Shape::Object, told: Told::All }
    }

    /// The column that a value is for, if it is known.
    pub(crate) fn column(&self, value: usize) -> Option<&str> {
        self.value_columns.get(value).map(String::as_str).filter(|column| !column.is_empty())
    }
}

fn shape(lists: bool) -> Shape {
    if lists { Shape::List } else { Shape::Object }
}

/// The first word of SQL text in lower case, after comments and parentheses: what kind of statement it is.
pub(crate) fn first_word(sql: &str) -> String {
    let mut rest = sql;
    loop {
        rest = rest.trim_start_matches(|c: char| c == '(' || c == ';' || c.is_whitespace());
        let length = placeholders::comment_at(rest);
        if length == 0 {
            break;
        }
        rest = &rest[length..];
    }
    rest.chars().take_while(|c| c.is_ascii_alphabetic()).collect::<String>().to_ascii_lowercase()
}

/// Checks the name of the database that a script gave against those by which it may call this one.
pub(crate) fn check_database(given: &str, connection: &ConnectionName, real: &str) -> Result<(), SqlError> {
    if given.is_empty() || given == connection.as_str() || given == real {
        return Ok(());
    }
    Err(SqlError::new(
        SqlErrorCode::UnknownDatabase,
        format!("unknown database `{}`: connection `{connection}` has one database", shown(given)),
    ))
}

/// The SQL of a table read, and the columns of its first values.
fn table_template(
    dialect: Dialect,
    granted: &Granted,
    filter: &serde_json::Map<String, Value>,
    order_by: &[String],
    limit: Option<u64>,
    offset: Option<u64>,
) -> Result<(Template, Vec<String>), SqlError> {
    let TableName { database: _, schema, table } = granted.name();
    let mut template = Template::default();
    let mut value_columns = filter_columns(filter, dialect);
    template.text("SELECT * FROM ");
    template.text(&quoted_table(dialect, schema.as_deref(), table)?);
    template.text(" AS t0");
    for (nth, (column, value)) in filter.iter().enumerate() {
        template.text(if nth == 0 { " WHERE " } else { " AND " });
        write_condition(&mut template, dialect, &column_of_source(dialect, "where", column)?, value);
    }
    if let Some(only) = granted.only() {
        // Each condition of the script's is closed in itself, so this one holds for all rows.
        template.text(if filter.is_empty() { " WHERE " } else { " AND " });
        write_exact(&mut template, &mut value_columns, dialect, "t0.", only)?;
    }
    if order_by.len() > ORDER_BY_MAX {
        return Err(invalid(format!("`order_by` has more than {ORDER_BY_MAX} columns")));
    }
    for (nth, column) in order_by.iter().enumerate() {
        template.text(if nth == 0 { " ORDER BY " } else { ", " });
        let (column, direction) = column.strip_prefix('-').map_or((column.as_str(), ""), |name| (name, " DESC"));
        template.text(&format!("{}{direction}", column_of_source(dialect, "order_by", column)?));
    }
    match (limit, dialect) {
        (Some(limit), _) => {
            template.text(" LIMIT ");
            template.value(count(limit));
        }
        // These two know OFFSET only after LIMIT.
        (None, Dialect::Sqlite) if offset.is_some() => template.text(" LIMIT -1"),
        (None, Dialect::MySql) if offset.is_some() => template.text(" LIMIT 18446744073709551615"),
        (None, Dialect::MySql | Dialect::Postgres | Dialect::Sqlite) => {}
    }
    if let Some(offset) = offset {
        template.text(" OFFSET ");
        template.value(count(offset));
    }
    if template.values.len() > VALUES_MAX {
        return Err(invalid(format!("`where` has more than {VALUES_MAX} values")));
    }
    Ok((template, value_columns))
}

pub(crate) fn write_condition(template: &mut Template, dialect: Dialect, column: &str, value: &Value) {
    let Value::Array(choices) = value else {
        if value.is_null() {
            template.text(&format!("{column} IS NULL"));
        } else {
            template.text(&format!("{column} = "));
            template.value(value.clone());
        }
        return;
    };
    let (nulls, choices): (Vec<_>, Vec<_>) = choices.iter().cloned().partition(Value::is_null);
    template.text(&format!("({column}"));
    match dialect {
        Dialect::Postgres => {
            template.text(" = ANY(");
            template.value(Value::Array(choices));
            template.text(")");
        }
        // MySQL knows no empty list.
        Dialect::MySql if choices.is_empty() => template.text(" IN (NULL)"),
        Dialect::MySql | Dialect::Sqlite => {
            template.text(" IN (");
            for (nth, choice) in choices.into_iter().enumerate() {
                template.text(if nth == 0 { "" } else { ", " });
                template.value(choice);
            }
            template.text(")");
        }
    }
    if !nulls.is_empty() {
        template.text(&format!(" OR {column} IS NULL"));
    }
    template.text(")");
}

/// The column of each value that [`write_condition`] binds, in order.
fn filter_columns(filter: &serde_json::Map<String, Value>, dialect: Dialect) -> Vec<String> {
    let n_values = |value: &Value| match value {
        Value::Null => 0,
        Value::Array(_) if dialect == Dialect::Postgres => 1,
        Value::Array(choices) => choices.iter().filter(|choice| !choice.is_null()).count(),
        _ => 1,
    };
    filter.iter().flat_map(|(column, value)| std::iter::repeat_n(column.clone(), n_values(value))).collect()
}

/// A row count as every database can hold it.
fn count(number: u64) -> Value {
    Value::from(i64::try_from(number).unwrap_or(i64::MAX))
}

/// The name of a table as SQL, with its schema if one is given.
pub(crate) fn quoted_table(dialect: Dialect, schema: Option<&str>, table: &str) -> Result<String, SqlError> {
    let table = quoted(dialect, "table", table)?;
    match schema {
        Some(schema) => Ok(format!("{}.{table}", quoted(dialect, "schema", schema)?)),
        None => Ok(table),
    }
}

/// The name of a table as an error shows it.
pub(crate) fn shown_table(schema: Option<&str>, table: &str) -> String {
    let schema = schema.map_or_else(String::new, |schema| format!("{}.", shown(schema)));
    format!("`{schema}{}`", shown(table))
}

/// An identifier as SQL, quoted.
pub(crate) fn quoted(dialect: Dialect, argument: &str, name: &str) -> Result<String, SqlError> {
    let problem = if name.is_empty() {
        "is empty"
    } else if name.len() > IDENTIFIER_BYTES_MAX {
        "is longer than 255 bytes"
    } else if name.contains('\0') {
        "contains a NUL character"
    } else {
        return Ok(match dialect {
            Dialect::MySql => backticked(name),
            Dialect::Postgres | Dialect::Sqlite => format!("\"{}\"", name.replace('"', "\"\"")),
        });
    };
    Err(invalid(format!("`{argument}`: name `{}` {problem}", shown(name))))
}

/// A column of the one source `t0`, and nothing else if it has none of this name: a lone `"name"` is a text for SQLite then, and `t0."name"` a call
/// of a function for PostgreSQL, to which a lone `"t0"` is a whole row.
pub(crate) fn column_of_source(dialect: Dialect, argument: &str, name: &str) -> Result<String, SqlError> {
    let quoted = quoted(dialect, argument, name)?;
    Ok(match dialect {
        Dialect::Postgres if name != "t0" => quoted,
        Dialect::Postgres | Dialect::MySql | Dialect::Sqlite => format!("t0.{quoted}"),
    })
}

/// An identifier as MySQL quotes it.
pub(crate) fn backticked(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A text from a script as an error may show it: its beginning, with control characters escaped.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (nth, character) in text.chars().enumerate() {
        if nth == 80 {
            shown.push('…');
            break;
        }
        // A quote is no danger here and reads better as it is.
        if character == '"' || character == '\'' {
            shown.push(character);
        } else {
            _ = write!(shown, "{}", character.escape_debug()); // writing to a String cannot fail
        }
    }
    shown
}

/// The error for an argument of the wrong form.
pub(crate) fn invalid(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlErrorCode::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::data::scope::Scope;

    fn table(select: Select) -> Select {
        Select { table: Some("t".into()), ..select }
    }

    fn statement(dialect: Dialect, select: Select) -> Result<Statement, SqlError> {
        match asked(&select)? {
            Asked::Table(name) => Statement::of_table(dialect, &Scope::All.table(name)?, select),
            Asked::Query => Statement::of_author(dialect, select),
        }
    }

    fn sql(dialect: Dialect, select: Select) -> String {
        statement(dialect, select).unwrap().template.render(|n| format!("${}", n + 1))
    }

    fn error(select: Select) -> String {
        let error = statement(Dialect::Postgres, select).unwrap_err();
        assert_eq!(error.code, SqlErrorCode::InvalidArgument);
        error.message
    }

    #[test]
    fn the_table_form_binds_every_value_and_quotes_every_name() {
        let filter = json!({"a\"b": 1, "n": null, "c": ["x", null], "e": []}).as_object().unwrap().clone();
        let order_by = vec!["-x".to_owned(), "y; DROP TABLE t".to_owned()];
        let select = Select { schema: Some("s\".t--".into()), filter, order_by, offset: Some(7), ..Select::default() };
        assert_eq!(
            sql(Dialect::Postgres, table(select.clone())),
            "SELECT * FROM \"s\"\".t--\".\"t\" AS t0 WHERE \"a\"\"b\" = $1 AND \"n\" IS NULL \
             AND (\"c\" = ANY($2) OR \"c\" IS NULL) AND (\"e\" = ANY($3)) \
             ORDER BY \"x\" DESC, \"y; DROP TABLE t\" OFFSET $4"
        );
        assert!(
            sql(Dialect::Sqlite, table(select))
                .ends_with("(t0.\"e\" IN ()) ORDER BY t0.\"x\" DESC, t0.\"y; DROP TABLE t\" LIMIT -1 OFFSET $3")
        );
        let filter = json!({"a`b": 1, "n": null, "c": ["x", null, "y"], "e": []}).as_object().unwrap().clone();
        let select = Select { schema: Some("s`.t--".into()), filter, offset: Some(7), ..Select::default() };
        let statement = statement(Dialect::MySql, table(select)).unwrap();
        assert_eq!(
            statement.template.render(|_| "?".to_owned()),
            "SELECT * FROM `s``.t--`.`t` AS t0 WHERE t0.`a``b` = ? AND t0.`n` IS NULL \
             AND (t0.`c` IN (?, ?) OR t0.`c` IS NULL) AND (t0.`e` IN (NULL)) LIMIT 18446744073709551615 OFFSET ?"
        );
        assert_eq!(statement.value_columns, ["a`b", "c", "c"]);
    }

    #[test]
    fn a_bad_name_is_told_with_its_argument_escaped_and_short() {
        assert_eq!(
            error(Select { table: Some("a\0\n".into()), ..Select::default() }),
            "`table`: name `a\\0\\n` contains a NUL character"
        );
        assert_eq!(
            error(table(Select { schema: Some(String::new()), ..Select::default() })),
            "`schema`: name `` is empty"
        );
        let long = error(table(Select { order_by: vec!["x".repeat(10 << 20)], ..Select::default() }));
        assert!(long.starts_with("`order_by`: name `xxx") && long.len() < 200, "{long}");
        let filter = json!({"": 1}).as_object().unwrap().clone();
        assert_eq!(error(table(Select { filter, ..Select::default() })), "`where`: name `` is empty");
    }

    #[test]
    fn contradictory_arguments_are_refused() {
        let query = || Select { query: Some("SELECT 1".into()), ..Select::default() };
        assert_eq!(error(Select::default()), "give a table or a `query`");
        assert_eq!(error(table(query())), "give a table or a `query`, not both");
        assert!(error(Select { order_by: vec!["a".into()], ..query() }).contains("go with a table"));
        assert!(
            error(table(Select { params: Params::Positional(vec![]), ..Select::default() })).contains("use `where`")
        );
        assert_eq!(error(Select { query: Some(" ".into()), ..Select::default() }), "`query` is empty");
        assert!(error(Select { query: Some("SELECT\0".into()), ..Select::default() }).contains("NUL"));
        assert!(error(Select { query: Some("x".repeat(QUERY_BYTES_MAX + 1)), ..Select::default() }).contains("longer"));
    }

    #[test]
    fn the_first_word_tells_the_kind_of_statement() {
        for (sql, word) in [
            ("SELECT 1", "select"),
            (" /* a */ -- b\n ;(CoMMit)", "commit"),
            ("/* unclosed", ""),
            ("rollback;", "rollback"),
            ("é", ""),
        ] {
            assert_eq!(first_word(sql), word, "{sql}");
        }
    }

    #[test]
    fn a_database_has_three_names() {
        let name: ConnectionName = "dw_2".parse().unwrap();
        for good in ["", "dw_2", "warehouse"] {
            check_database(good, &name, "warehouse").unwrap();
        }
        let error = check_database("other\n", &name, "warehouse").unwrap_err();
        assert_eq!(error.code, SqlErrorCode::UnknownDatabase);
        assert_eq!(error.message, "unknown database `other\\n`: connection `dw_2` has one database");
    }
}
