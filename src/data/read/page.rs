//! Pages of rows: conditions, an order, and where the page before ended.
//!
//! Owns: their SQL. Never: pastes a name or a value; an author's query alone is text, in parentheses.

use std::sync::Arc;

use serde::Deserialize;

use crate::{
    data::{
        Cursor, Database,
        described::{Described, Order},
        dialect::{Dialect, invalid, shown},
        read::{
            catalog::{Source, Table},
            condition::Compared,
            scope::{Granted, write_exact},
        },
        statement::{Purpose, Statement},
        template::{self, Template},
    },
    domain::{
        page::{Comparison, Condition, OrderBy, PageQuery, PageSource, Test},
        sql::{Params, SqlError, SqlErrorCode, TableName},
        value::{Record, SqlValue},
    },
};

/// Conditions of one page, at most.
const CONDITIONS_MAX: usize = 100;

/// Longest text behind which a page may begin, in characters: MySQL orders by the beginning of longer ones.
const MYSQL_ORDERED_CHARS_MAX: usize = 500;

impl Database {
    /// Starts reading a page.
    ///
    /// # Errors
    ///
    /// `UnknownColumn` and `InvalidArgument` for what the caller asked; else as [`fetch`](Self::fetch).
    pub async fn page(&self, query: &PageQuery) -> Result<Cursor, SqlError> {
        if let Some(statement) = self.untouched(query).await? {
            return self.run(statement).await;
        }
        let mut writer = self.writer(&query.source).await?;
        writer.source()?;
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
        let statement = writer.statement();
        self.run(statement).await
    }

    /// A query of which nothing but its first rows is asked: as its author wrote it, in the order that its author wrote.
    async fn untouched(&self, query: &PageQuery) -> Result<Option<Statement>, SqlError> {
        let PageQuery { source: PageSource::Query { sql, values }, columns, conditions, order, after, limit, .. } =
            query
        else {
            return Ok(None);
        };
        if columns.is_some() || !conditions.is_empty() || !order.is_empty() || after.is_some() {
            return Ok(None);
        }
        self.check_open("a query")?;
        // Whoever asks for a page is told the same of a query that cannot be one.
        if self.described_query(sql).await?.is_renamed {
            return Ok(None);
        }
        let sql = sql.trim().trim_end_matches(';').to_owned();
        let template = template::parse(self.dialect(), sql, Params::Named(literals(values)))?;
        let purpose = Purpose::Author { offset: 0, limit: Some((*limit).into()), schema: None };
        Ok(Some(Statement { decimals: true, ..Statement::ours(template, purpose) }))
    }

    /// The number of rows on all pages.
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
        writer.source()?;
        writer.text("SELECT COUNT(*) AS n");
        writer.rows(query)?;
        let rows: Vec<Counted> = self.rows(writer.statement()).await?;
        rows.first().map(|row| row.n).ok_or_else(|| {
            SqlError::new(SqlErrorCode::StatementFailed, "the database did not count") // no database does that
        })
    }

    /// Names of the `:name` placeholders in an author's query, each once.
    #[must_use]
    pub fn parameters(&self, sql: &str) -> Vec<String> {
        template::names(self.dialect(), sql)
    }

    /// Looks the source up, as far as the caller may reach it.
    async fn writer<'a>(&self, source: &'a PageSource) -> Result<Writer<'a>, SqlError> {
        let (from, described) = match source {
            PageSource::Table(name) => {
                let granted = self.grant(name.clone())?;
                let described = self.described_table(granted.name()).await?;
                let table = self.table(granted.name()).await?;
                (From::Table { granted, table }, described)
            }
            PageSource::Query { sql, values } => {
                self.check_open("a query")?;
                (From::Query { values }, self.described_query(sql).await?)
            }
        };
        Ok(Writer { dialect: self.dialect(), from, described, template: Template::default(), has_where: false })
    }
}

/// Values that an address has: read as whatever they stand for.
fn literals(values: &Record) -> Record {
    let literal = |value: &SqlValue| match value {
        SqlValue::Text(text) => SqlValue::Literal(text.clone()),
        other => other.clone(),
    };
    values.iter().map(|(name, value)| (name.clone(), literal(value))).collect()
}

/// The place of the rows.
enum From<'a> {
    Table { granted: Granted, table: Arc<Table> },
    Query { values: &'a Record },
}

struct Writer<'a> {
    dialect: Dialect,
    from: From<'a>,
    described: Arc<Source>,
    template: Template,
    has_where: bool,
}

impl Writer<'_> {
    fn statement(self) -> Statement {
        let purpose = match self.from {
            From::Table { granted, .. } => Purpose::read(granted.name()),
            From::Query { .. } => Purpose::Author { offset: 0, limit: None, schema: None },
        };
        Statement { decimals: true, ..Statement::ours(self.template, purpose) }
    }

    fn text(&mut self, sql: &str) {
        self.template.text(sql);
    }

    fn described(&self, name: &str) -> Result<&Described, SqlError> {
        let found = self.described.column(name, self.dialect);
        found.ok_or_else(|| SqlError::new(SqlErrorCode::UnknownColumn, format!("unknown column `{}`", shown(name))))
    }

    /// A column of the source, by its quoted name.
    fn column(&self, argument: &str, name: &str) -> Result<String, SqlError> {
        self.described(name)?;
        self.dialect.column_of_source(argument, name)
    }

    /// A column, as it is ordered and compared.
    fn ordered(&self, argument: &str, name: &str) -> Result<(String, Order), SqlError> {
        let column = self.column(argument, name)?;
        let Described { order, declared, .. } = self.described(name)?;
        let sql = match order {
            Order::AsItIs => column,
            Order::ByNumber { .. } => format!("({column} + 0)"),
            Order::AsText => format!("CAST({column} AS CHAR)"),
            Order::No => {
                let message = format!(
                    "`{argument}`: column `{}` has the type {declared}, whose values have no order",
                    shown(name)
                );
                return Err(invalid(message));
            }
        };
        Ok((sql, order.clone()))
    }

    fn columns(&mut self, names: &[String]) -> Result<(), SqlError> {
        for (nth, name) in names.iter().enumerate() {
            let column = self.column("select", name)?;
            self.text(if nth == 0 { "" } else { ", " });
            self.text(&column);
        }
        Ok(())
    }

    /// Writes the names by which the columns of a query are told apart, if two of them have one name.
    fn source(&mut self) -> Result<(), SqlError> {
        let described = Arc::clone(&self.described);
        let (From::Query { values }, Some(sql), true) = (&self.from, &described.sql, described.is_renamed) else {
            return Ok(());
        };
        let values = literals(values);
        self.text(&format!("WITH t0({}) AS ", described.quoted_names(self.dialect)?));
        self.query(sql, values)?;
        self.text(" ");
        Ok(())
    }

    /// An author's query in parentheses: on lines of its own, so that a comment at its end does not take the rest.
    fn query(&mut self, sql: &str, values: Record) -> Result<(), SqlError> {
        let query = template::parse(self.dialect, format!("(\n{sql}\n)"), Params::Named(values))?;
        self.template.append(query);
        Ok(())
    }

    /// The source's rows that fulfil the conditions, and that the caller may reach.
    fn rows(&mut self, query: &PageQuery) -> Result<(), SqlError> {
        self.text(" FROM ");
        match &self.from {
            From::Table { granted, .. } => {
                let TableName { schema, table, .. } = granted.name();
                let (table, only) = (self.dialect.quoted_table(schema.as_deref(), table)?, granted.only().cloned());
                self.text(&format!("{table} AS t0"));
                if let Some(only) = only {
                    self.and();
                    write_exact(&mut self.template, self.dialect, "t0.", &only)?;
                }
            }
            From::Query { .. } if self.described.is_renamed => self.text("t0"),
            From::Query { values } => {
                let (described, values) = (Arc::clone(&self.described), literals(values));
                self.query(described.sql.as_deref().unwrap_or_default(), values)?;
                self.text(" AS t0");
            }
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
            let described = Arc::clone(&self.described);
            let compared = Compared::new(self.dialect, name, &column, described.column(name, self.dialect));
            match test {
                Test::Compare(Comparison::Equal, text) => {
                    compared.write(&mut self.template, &SqlValue::Literal(text.clone()))?;
                }
                Test::Compare(Comparison::NotEqual, text) => {
                    compared.write_other(&mut self.template, &SqlValue::Literal(text.clone()))?;
                }
                Test::Compare(comparison, text) => {
                    let (column, order) = self.ordered(name, name)?;
                    self.text(&format!("{column} {} ", comparison.sql()));
                    self.ordered_value(name, &order, SqlValue::Literal(text.clone()))?;
                }
                Test::In(texts) => {
                    let values: Vec<_> = texts.iter().cloned().map(SqlValue::Literal).collect();
                    compared.write_any(&mut self.template, &values)?;
                }
                Test::IsNull(is_null) => compared.write_null(&mut self.template, *is_null),
                Test::Is(truth) => compared.write(&mut self.template, &SqlValue::Bool(*truth))?,
                Test::Like(pattern) => {
                    let text = match self.dialect {
                        Dialect::Postgres => format!("CAST({column} AS text)"),
                        Dialect::MySql => format!("CAST({column} AS CHAR)"),
                        Dialect::Sqlite => column,
                    };
                    self.text(&format!("{text} LIKE "));
                    self.template.value(SqlValue::from(like(pattern).as_str()));
                    self.text(" ESCAPE '!'");
                }
            }
        }
        Ok(())
    }

    fn value(&mut self, name: &str, value: SqlValue) -> Result<(), SqlError> {
        let declared = Arc::clone(&self.described(name)?.declared);
        self.template.column_value(name, value);
        self.template.tell_last(&declared, 1);
        Ok(())
    }

    /// A value as its column is ordered.
    fn ordered_value(&mut self, name: &str, order: &Order, value: SqlValue) -> Result<(), SqlError> {
        match order {
            Order::ByNumber { labels, is_set } => {
                let text = value.text().unwrap_or_default();
                let number = number_of(&text, labels, *is_set).ok_or_else(|| {
                    invalid(format!(
                        "`{}`: `{}` is not one of {}",
                        shown(name),
                        shown(&text),
                        shown(&labels.join(", "))
                    ))
                })?;
                self.template.value(SqlValue::from(number));
                Ok(())
            }
            Order::AsText => {
                self.template.value(SqlValue::Text(value.text().unwrap_or_default().into_owned()));
                Ok(())
            }
            Order::AsItIs | Order::No => self.value(name, value),
        }
    }

    /// SQL that says whether a column is NULL.
    fn null(&self, name: &str) -> Result<String, SqlError> {
        let column = self.column("order", name)?;
        Ok(Compared::new(self.dialect, name, &column, self.described.column(name, self.dialect)).null(true))
    }

    fn may_be_null(&self, column: &str) -> bool {
        match &self.from {
            From::Table { table, .. } => table.column(column, self.dialect).is_none_or(|column| column.nullable),
            From::Query { .. } => true,
        }
    }

    fn order(&mut self, order: &[OrderBy]) -> Result<(), SqlError> {
        for (nth, OrderBy { column: name, descending }) in order.iter().enumerate() {
            let (ordered, _) = self.ordered("order", name)?;
            self.text(if nth == 0 { " ORDER BY " } else { ", " });
            // Databases differ in where they put NULL.
            if self.may_be_null(name) {
                let null = self.null(name)?;
                self.text(&format!("({null}), "));
            }
            self.text(&ordered);
            self.text(if *descending { " DESC" } else { "" });
        }
        Ok(())
    }

    /// Rows behind the one that has these values: behind it in the first column, or the same there and behind it in the
    /// next, and so on.
    fn after(&mut self, order: &[OrderBy], values: &[SqlValue]) -> Result<(), SqlError> {
        if order.len() != values.len() {
            return Err(invalid("the cursor belongs to another order"));
        }
        self.and();
        self.text("(");
        for (nth, OrderBy { column: name, descending }) in order.iter().enumerate() {
            self.text(if nth == 0 { "(" } else { " OR (" });
            for (OrderBy { column: name, .. }, value) in order.iter().zip(values).take(nth) {
                self.is_at(name, value)?;
                self.text(" AND ");
            }
            let (column, order) = self.ordered("order", name)?;
            match &values[nth] {
                SqlValue::Null => self.text("1 = 0"), // NULL is the last there is
                value => {
                    self.check_length(name, value)?;
                    let nullable = self.may_be_null(name);
                    self.text(if nullable { "(" } else { "" });
                    self.text(&format!("{column} {} ", if *descending { "<" } else { ">" }));
                    self.last_value(name, &order, value.clone())?;
                    if nullable {
                        let null = self.null(name)?;
                        self.text(&format!(" OR {null})"));
                    }
                }
            }
            self.text(")");
        }
        self.text(")");
        Ok(())
    }

    /// The column is at this value in the order.
    fn is_at(&mut self, name: &str, value: &SqlValue) -> Result<(), SqlError> {
        let (column, order) = self.ordered("order", name)?;
        if value.is_null() {
            let null = self.null(name)?;
            self.text(&null);
            return Ok(());
        }
        self.text(&format!("{column} = "));
        self.last_value(name, &order, value.clone())
    }

    /// A value of the last row of a page. On SQLite, whose columns have values of any kind, it is of the kind that the row had.
    fn last_value(&mut self, name: &str, order: &Order, value: SqlValue) -> Result<(), SqlError> {
        match self.dialect {
            Dialect::Sqlite => {
                self.template.value(value);
                Ok(())
            }
            Dialect::Postgres | Dialect::MySql => self.ordered_value(name, order, value),
        }
    }

    fn check_length(&self, name: &str, value: &SqlValue) -> Result<(), SqlError> {
        let is_long = || value.text().is_some_and(|text| text.chars().count() > MYSQL_ORDERED_CHARS_MAX);
        if self.dialect == Dialect::MySql && is_long() {
            let message = format!(
                "`order`: a value of column `{}` has more than {MYSQL_ORDERED_CHARS_MAX} characters, of which MySQL does not \
                 look at all when it orders: order by another column",
                shown(name)
            );
            return Err(invalid(message));
        }
        Ok(())
    }
}

/// The number by which a value of an ENUM or a SET is ordered; `None` if it has a label that is not there.
fn number_of(text: &str, labels: &[String], is_set: bool) -> Option<u64> {
    let place = |label: &str| labels.iter().position(|known| known == label);
    match (text, is_set) {
        ("", _) => Some(0), // nothing of a SET, or what an ENUM holds instead of a wrong value
        (_, false) => Some(place(text)? as u64 + 1),
        (_, true) => text
            .split(',')
            .try_fold(0, |bits, label| Some(bits | 1_u64.checked_shl(u32::try_from(place(label)?).ok()?)?)),
    }
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
