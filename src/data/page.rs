//! Pages of rows: conditions, an order, and where the page before ended.
//!
//! Owns: their SQL. Never: pastes a name or a value; an author's query alone is text, in parentheses.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    data::{
        Cursor, Database,
        catalog::Table,
        placeholders::{self, Template},
        scope::{Granted, write_exact},
        select::{
            Dialect, Form, QUERY_BYTES_MAX, Statement, column_of_source, invalid, quoted_table, shown, write_condition,
        },
    },
    domain::{
        page::{Comparison, Condition, OrderBy, PageQuery, PageSource, Test},
        sql::{Params, SqlError, SqlErrorCode, TableName},
    },
};

/// Conditions of one page, at most.
const CONDITIONS_MAX: usize = 100;

impl Database {
    /// Starts reading a page.
    ///
    /// # Errors
    ///
    /// `UnknownColumn` and `InvalidArgument` for what the caller asked; else as [`fetch`](Self::fetch).
    pub async fn page(&self, query: &PageQuery) -> Result<Cursor, SqlError> {
        let mut writer = self.writer(&query.source).await?;
        writer.text("SELECT ");
        match &query.columns {
            Some(columns) => writer.columns(columns)?,
            None => writer.text("*"),
        }
        writer.rows(query)?;
        if let Some(after) = &query.after {
            writer.after(&query.order, after)?;
        }
        writer.order(&query.order)?;
        writer.text(&format!(" LIMIT {}", query.limit));
        self.run(writer.statement()).await
    }

    /// How many rows there are on all pages.
    ///
    /// # Errors
    ///
    /// As [`page`](Self::page).
    pub async fn count(&self, query: &PageQuery) -> Result<u64, SqlError> {
        #[derive(Deserialize)]
        struct Counted {
            n: u64,
        }
        let mut writer = self.writer(&query.source).await?;
        writer.text("SELECT COUNT(*) AS n");
        writer.rows(query)?;
        let rows: Vec<Counted> = self.rows(writer.statement()).await?;
        rows.first().map(|row| row.n).ok_or_else(|| {
            SqlError::new(SqlErrorCode::StatementFailed, "the database did not count") // no database does that
        })
    }

    /// The columns of a table in the database's order, and those of its primary key.
    ///
    /// # Errors
    ///
    /// `UnknownTable`, `UnknownSchema`, `NotAllowed`, or what the database says.
    pub async fn columns(&self, name: TableName) -> Result<(Vec<String>, Vec<String>), SqlError> {
        let table = self.table(self.grant(name)?.name()).await?;
        let columns = table.columns.iter().map(|column| column.name.clone()).collect();
        Ok((columns, table.key().into_iter().map(str::to_owned).collect()))
    }

    /// Names of the `:name` placeholders in an author's query, each once.
    #[must_use]
    pub fn parameters(&self, sql: &str) -> Vec<String> {
        placeholders::names(self.dialect(), sql)
    }

    /// Looks the source up, as far as the caller may reach it.
    async fn writer<'a>(&self, source: &'a PageSource) -> Result<Writer<'a>, SqlError> {
        let from = match source {
            PageSource::Table(name) => {
                let granted = self.grant(name.clone())?;
                let table = self.table(granted.name()).await?;
                From::Table { granted, table }
            }
            PageSource::Query { sql, values } => {
                self.check_open("a query")?;
                From::Query { sql, values }
            }
        };
        Ok(Writer {
            dialect: self.dialect(),
            from,
            template: Template::default(),
            value_columns: Vec::new(),
            has_where: false,
        })
    }
}

/// Where the rows are.
enum From<'a> {
    Table { granted: Granted, table: Arc<Table> },
    Query { sql: &'a str, values: &'a Map<String, Value> },
}

struct Writer<'a> {
    dialect: Dialect,
    from: From<'a>,
    template: Template,
    /// The column that each value is for; empty where that is not known.
    value_columns: Vec<String>,
    has_where: bool,
}

impl Writer<'_> {
    fn statement(self) -> Statement {
        let form = match self.from {
            From::Table { granted, .. } => {
                let TableName { schema, table, .. } = granted.name().clone();
                Form::Table { schema, table }
            }
            From::Query { .. } => Form::Query { offset: 0, limit: None },
        };
        Statement { decimals: true, ..Statement::ours(self.template, self.value_columns, form) }
    }

    /// The table, of which a query's columns are not known.
    fn table(&self) -> Option<&Table> {
        match &self.from {
            From::Table { table, .. } => Some(table),
            From::Query { .. } => None,
        }
    }

    fn text(&mut self, sql: &str) {
        self.template.text(sql);
    }

    /// A column of the source, by its quoted name.
    fn column(&self, argument: &str, name: &str) -> Result<String, SqlError> {
        if self.table().is_some_and(|table| table.column(name, self.dialect).is_none()) {
            return Err(SqlError::new(SqlErrorCode::UnknownColumn, format!("unknown column `{}`", shown(name))));
        }
        column_of_source(self.dialect, argument, name)
    }

    fn columns(&mut self, names: &[String]) -> Result<(), SqlError> {
        for (nth, name) in names.iter().enumerate() {
            let column = self.column("select", name)?;
            self.text(if nth == 0 { "" } else { ", " });
            self.text(&column);
        }
        Ok(())
    }

    /// The source's rows that fulfil the conditions, and that the caller may reach.
    fn rows(&mut self, query: &PageQuery) -> Result<(), SqlError> {
        self.text(" FROM ");
        let only = match &self.from {
            From::Table { granted, .. } => {
                let TableName { schema, table, .. } = granted.name();
                let (table, only) = (quoted_table(self.dialect, schema.as_deref(), table)?, granted.only().cloned());
                self.text(&format!("{table} AS t0"));
                only
            }
            From::Query { sql, values } => {
                if sql.len() > QUERY_BYTES_MAX || sql.contains('\0') {
                    return Err(invalid("`query` is too long, or contains a NUL character"));
                }
                // On a line of its own, so that a comment at its end does not take the rest.
                let sql = format!("(\n{}\n) AS t0", sql.trim().trim_end_matches(';'));
                let mut values = (*values).clone();
                if self.dialect == Dialect::Sqlite {
                    let texts = values.values_mut().filter(|value| value.is_string());
                    texts.for_each(|value| *value = number_or_text(value.as_str().unwrap_or_default()));
                }
                let query = placeholders::parse(self.dialect, sql, Params::Named(values))?;
                self.template.append(query);
                self.value_columns.resize(self.n_values(), String::new());
                None
            }
        };
        if let Some(only) = only {
            self.and();
            write_exact(&mut self.template, &mut self.value_columns, self.dialect, "t0.", &only)?;
        }
        self.conditions(&query.conditions)
    }

    fn and(&mut self) {
        self.text(if self.has_where { " AND " } else { " WHERE " });
        self.has_where = true;
    }

    fn conditions(&mut self, conditions: &[Condition]) -> Result<(), SqlError> {
        if conditions.len() > CONDITIONS_MAX {
            return Err(invalid(format!("there are more than {CONDITIONS_MAX} conditions")));
        }
        for Condition { column: name, test } in conditions {
            let column = self.column("where", name)?;
            self.and();
            match test {
                Test::Compare(Comparison::Equal, text) => self.equal(name, &column, &self.read(name, text)),
                Test::Compare(comparison, text) => {
                    let value = self.read(name, text);
                    self.text(&format!("{column} {} ", comparison.sql()));
                    self.value(name, value);
                }
                Test::In(texts) => {
                    let values = texts.iter().map(|text| self.read(name, text)).collect();
                    self.equal(name, &column, &Value::Array(values));
                }
                Test::IsNull(true) => self.text(&format!("{column} IS NULL")),
                Test::IsNull(false) => self.text(&format!("{column} IS NOT NULL")),
                Test::Is(truth) => self.equal(name, &column, &Value::Bool(*truth)),
                Test::Like(pattern) => {
                    let text = match self.dialect {
                        Dialect::Postgres => format!("CAST({column} AS text)"),
                        Dialect::MySql => format!("CAST({column} AS CHAR)"),
                        Dialect::Sqlite => column,
                    };
                    self.text(&format!("{text} LIKE "));
                    self.value("", Value::from(like(pattern)));
                    self.text(" ESCAPE '!'");
                }
            }
        }
        Ok(())
    }

    /// A text as a value of the column, where its type makes a difference that binding does not know of.
    fn read(&self, column: &str, text: &str) -> Value {
        let known = self.table().and_then(|table| table.column(column, self.dialect));
        let r#type = known.map(|column| column.data_type.to_ascii_lowercase()).unwrap_or_default();
        let is_boolean = r#type.starts_with("bool") || r#type == "tinyint(1)";
        match (is_boolean, text) {
            (true, "true") => Value::Bool(true),
            (true, "false") => Value::Bool(false),
            // What an expression gives has no type in SQLite that a text would be converted to.
            _ if r#type.is_empty() && self.dialect == Dialect::Sqlite => number_or_text(text),
            _ => Value::from(text),
        }
    }

    /// Values as the driver counts them: MySQL's has one for each placeholder, also where several stand for the same.
    fn n_values(&self) -> usize {
        match self.dialect {
            Dialect::MySql => self.template.gaps().count(),
            Dialect::Postgres | Dialect::Sqlite => self.template.values.len(),
        }
    }

    fn value(&mut self, column: &str, value: Value) {
        self.template.value(value);
        self.value_columns.push(column.to_owned());
    }

    fn equal(&mut self, name: &str, column: &str, value: &Value) {
        write_condition(&mut self.template, self.dialect, column, value);
        self.value_columns.resize(self.n_values(), name.to_owned());
    }

    fn may_be_null(&self, column: &str) -> bool {
        self.table().and_then(|table| table.column(column, self.dialect)).is_none_or(|column| column.nullable)
    }

    fn order(&mut self, order: &[OrderBy]) -> Result<(), SqlError> {
        for (nth, OrderBy { column: name, descending }) in order.iter().enumerate() {
            let column = self.column("order", name)?;
            self.text(if nth == 0 { " ORDER BY " } else { ", " });
            // Databases differ in where they put NULL.
            if self.may_be_null(name) {
                self.text(&format!("({column} IS NULL), "));
            }
            self.text(&column);
            self.text(if *descending { " DESC" } else { "" });
        }
        Ok(())
    }

    /// Rows behind the one that has these values: behind it in the first column, or the same there and behind it in the
    /// next, and so on.
    fn after(&mut self, order: &[OrderBy], values: &[Value]) -> Result<(), SqlError> {
        if order.len() != values.len() {
            return Err(invalid("the cursor belongs to another order"));
        }
        self.and();
        self.text("(");
        for (nth, OrderBy { column: name, descending }) in order.iter().enumerate() {
            self.text(if nth == 0 { "(" } else { " OR (" });
            for (OrderBy { column: name, .. }, value) in order.iter().zip(values).take(nth) {
                let column = self.column("order", name)?;
                self.equal(name, &column, value);
                self.text(" AND ");
            }
            let column = self.column("order", name)?;
            match &values[nth] {
                Value::Null => self.text("1 = 0"), // NULL is the last there is
                value => {
                    let nullable = self.may_be_null(name);
                    self.text(if nullable { "(" } else { "" });
                    self.text(&format!("{column} {} ", if *descending { "<" } else { ">" }));
                    self.value(name, value.clone());
                    if nullable {
                        self.text(&format!(" OR {column} IS NULL)"));
                    }
                }
            }
            self.text(")");
        }
        self.text(")");
        Ok(())
    }
}

/// A text as a number, if the number's text is the same: SQLite compares a text with a number by their kinds alone, and turns a number into the
/// same text where a column holds texts.
fn number_or_text(text: &str) -> Value {
    let integer = text.parse::<i64>().ok().map(Value::from);
    let number = || text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from);
    let is_same = |number: &Value| *text == *number.to_string();
    integer.or_else(number).filter(is_same).unwrap_or_else(|| Value::from(text))
}

/// A pattern of SQL in which `!` escapes.
fn like(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    for character in pattern.chars() {
        match character {
            '%' | '_' | '!' => out.extend(['!', character]),
            '*' => out.push('%'),
            _ => out.push(character),
        }
    }
    out
}
