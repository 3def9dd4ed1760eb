//! Reading for a script's `fetch`: a table, or the rows of a statement.
//!
//! Owns: what arguments are valid together, the SQL of the table form. Never: runs anything but through [`Database`].

use crate::{
    data::{
        Cursor, Database,
        dialect::{Dialect, VALUES_MAX, invalid},
        pieces::first_word,
        read::{
            catalog::Source,
            condition::Compared,
            scope::{Granted, write_exact},
        },
        statement::{Purpose, Shape, Statement},
        template::{self, Template},
    },
    domain::{
        sql::{Params, Select, SqlError, TableName},
        value::{Record, SqlValue},
    },
};

/// Longest `query`, in bytes. Generous for SQL a person wrote, small for a database's parser.
pub(crate) const QUERY_BYTES_MAX: usize = 1 << 20;
/// Most columns in `order_by`.
const ORDER_BY_MAX: usize = 64;

impl Database {
    /// Starts a statement and waits for its first rows, its end or its error.
    ///
    /// Dropping the returned future stops the statement.
    ///
    /// # Errors
    ///
    /// Arguments of the wrong form, what the database says, `StatementTimeout` after `limits.statement_time` without a
    /// row, `Unavailable` when no connection can be had; `NotAllowed` for what a restricted caller may not reach.
    pub async fn fetch(&self, select: Select) -> Result<Cursor, SqlError> {
        self.check_name(&select.database)?;
        let is_stream = select.stream;
        let statement = match read_of(&select)? {
            Read::Table(name) => {
                let granted = self.grant(name)?;
                let source = match select.filter.is_empty() {
                    true => None,
                    false => Some(self.described_table(granted.name()).await?),
                };
                of_table(self.dialect(), &granted, source.as_deref(), select)?
            }
            Read::Query => {
                self.check_open("a statement of your own (`query`, `execute`)")?;
                of_author(self.dialect(), select)?
            }
        };
        let changes_tables =
            statement.purpose.is_author() && changes_tables(self.dialect(), &statement.template.sketch());
        let cursor = self.run(statement).await;
        if changes_tables {
            self.tables().forget_all();
        }
        cursor.map(|cursor| if is_stream { cursor.into_stream() } else { cursor })
    }
}

/// The source of a `fetch`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Read {
    /// Rows of this table.
    Table(TableName),
    /// The rows of a statement.
    Query,
}

/// The source of a `fetch`: exactly one.
fn read_of(select: &Select) -> Result<Read, SqlError> {
    let Select { database, schema, table, query, .. } = select;
    match (table, query) {
        (Some(table), None) => {
            let (database, schema, table) = (database.clone(), schema.clone(), table.clone());
            Ok(Read::Table(TableName { database, schema, table }))
        }
        (None, Some(_)) => Ok(Read::Query),
        (Some(_), Some(_)) => Err(invalid("give a table or a `query`, not both")),
        (None, None) => Err(invalid("give a table or a `query`")),
    }
}

/// Checks the arguments of a table read and writes its SQL.
fn of_table(
    dialect: Dialect,
    granted: &Granted,
    source: Option<&Source>,
    select: Select,
) -> Result<Statement, SqlError> {
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
    let template = table_template(dialect, granted, source, &filter, &order_by, limit, offset)?;
    let statement = Statement::ours(template, Purpose::read(granted.name()));
    Ok(Statement { decimals, shape: shape(lists), ..statement })
}

/// Checks the arguments of an author's statement.
fn of_author(dialect: Dialect, select: Select) -> Result<Statement, SqlError> {
    let Select {
        database: _,
        schema,
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
    let template = template::parse(dialect, query, params)?;
    let purpose =
        Purpose::Author { offset: offset.unwrap_or(0), limit, schema: schema.filter(|schema| !schema.is_empty()) };
    Ok(Statement { decimals, shape: shape(lists), ..Statement::ours(template, purpose) })
}

fn shape(lists: bool) -> Shape {
    if lists { Shape::List } else { Shape::Object }
}

/// Tells whether an author's statement may change what is known of tables.
fn changes_tables(dialect: Dialect, sql: &str) -> bool {
    ["alter", "create", "drop", "do", "call", "rename"].contains(&first_word(dialect, sql).as_str())
}

/// The SQL of a table read.
fn table_template(
    dialect: Dialect,
    granted: &Granted,
    source: Option<&Source>,
    filter: &Record,
    order_by: &[String],
    limit: Option<u64>,
    offset: Option<u64>,
) -> Result<Template, SqlError> {
    let TableName { database: _, schema, table } = granted.name();
    let mut template = Template::default();
    template.text("SELECT * FROM ");
    template.text(&dialect.quoted_table(schema.as_deref(), table)?);
    template.text(" AS t0");
    for (nth, (column, value)) in filter.iter().enumerate() {
        template.text(if nth == 0 { " WHERE " } else { " AND " });
        let quoted = dialect.column_of_source("where", column)?;
        let described = source.and_then(|source| source.column(column, dialect));
        Compared::new(dialect, column, &quoted, described).write(&mut template, value)?;
    }
    if let Some(only) = granted.only() {
        // Each condition of the script's is closed in itself, so this one holds for all rows.
        template.text(if filter.is_empty() { " WHERE " } else { " AND " });
        write_exact(&mut template, dialect, "t0.", only)?;
    }
    if order_by.len() > ORDER_BY_MAX {
        return Err(invalid(format!("`order_by` has more than {ORDER_BY_MAX} columns")));
    }
    for (nth, column) in order_by.iter().enumerate() {
        template.text(if nth == 0 { " ORDER BY " } else { ", " });
        let (column, direction) = column.strip_prefix('-').map_or((column.as_str(), ""), |name| (name, " DESC"));
        template.text(&format!("{}{direction}", dialect.column_of_source("order_by", column)?));
    }
    match (limit, dialect.no_limit()) {
        (Some(limit), _) => {
            template.text(" LIMIT ");
            template.value(count(limit));
        }
        (None, Some(no_limit)) if offset.is_some() => template.text(&format!(" LIMIT {no_limit}")),
        (None, Some(_) | None) => {}
    }
    if let Some(offset) = offset {
        template.text(" OFFSET ");
        template.value(count(offset));
    }
    if template.values.len() > VALUES_MAX {
        return Err(invalid(format!("`where` has more than {VALUES_MAX} values")));
    }
    Ok(template)
}

/// A row count as every database can hold it.
fn count(number: u64) -> SqlValue {
    SqlValue::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{data::read::scope::Scope, domain::sql::SqlErrorCode};

    fn where_(filter: serde_json::Value) -> Record {
        filter.as_object().unwrap().clone().into_iter().map(|(column, value)| (column, value.into())).collect()
    }

    fn table(select: Select) -> Select {
        Select { table: Some("t".into()), ..select }
    }

    fn statement(dialect: Dialect, select: Select) -> Result<Statement, SqlError> {
        match read_of(&select)? {
            Read::Table(name) => of_table(dialect, &Scope::All.table(name)?, None, select),
            Read::Query => of_author(dialect, select),
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
        let filter = where_(json!({"a\"b": 1, "n": null, "c": ["x", null], "e": []}));
        let order_by = vec!["-x".to_owned(), "y; DROP TABLE t".to_owned()];
        let select = Select { schema: Some("s\".t--".into()), filter, order_by, offset: Some(7), ..Select::default() };
        assert_eq!(
            sql(Dialect::Postgres, table(select.clone())),
            "SELECT * FROM \"s\"\".t--\".\"t\" AS t0 WHERE \"a\"\"b\" = $1 AND \"n\" IS NULL \
             AND (\"c\" = ANY($2) OR \"c\" IS NULL) AND (1 = 0) \
             ORDER BY \"x\" DESC, \"y; DROP TABLE t\" OFFSET $3"
        );
        assert!(
            sql(Dialect::Sqlite, table(select))
                .ends_with("(1 = 0) ORDER BY t0.\"x\" DESC, t0.\"y; DROP TABLE t\" LIMIT -1 OFFSET $3")
        );
        let filter = where_(json!({"a`b": 1, "n": null, "c": ["x", null, "y"], "e": []}));
        let select = Select { schema: Some("s`.t--".into()), filter, offset: Some(7), ..Select::default() };
        let statement = statement(Dialect::MySql, table(select)).unwrap();
        assert_eq!(
            statement.template.render(|_| "?".to_owned()),
            "SELECT * FROM `s``.t--`.`t` AS t0 WHERE t0.`a``b` = ? AND t0.`n` IS NULL \
             AND (t0.`c` IN (?, ?) OR t0.`c` IS NULL) AND (1 = 0) LIMIT 18446744073709551615 OFFSET ?"
        );
        let columns: Vec<_> = statement.template.values.iter().map(|bound| bound.column.as_deref()).collect();
        assert_eq!(columns, [Some("a`b"), Some("c"), Some("c"), None]);
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
        let filter = where_(json!({"": 1}));
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
}
