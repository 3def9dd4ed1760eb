//! Conditions on a column: one value, any of several, NULL.
//!
//! Owns: its SQL, by when two values of the column's type are the same. Never: pastes a value.

use std::sync::Arc;

use crate::{
    data::{
        described::{Described, Equality},
        dialect::{Dialect, invalid, shown},
        template::Template,
    },
    domain::{sql::SqlError, value::SqlValue},
};

/// A column that values are compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Compared<'a> {
    dialect: Dialect,
    name: &'a str,
    sql: &'a str,
    declared: Option<&'a Arc<str>>,
    equality: Equality,
}

impl<'a> Compared<'a> {
    /// A column, which is `sql` in SQL, as a result shows it; of one that is not known the database judges.
    pub(crate) fn new(dialect: Dialect, name: &'a str, sql: &'a str, described: Option<&'a Described>) -> Self {
        let declared = described.map(|described| &described.declared);
        let equality = described.map_or(Equality::AsItIs, |described| described.equality);
        Self { dialect, name, sql, declared, equality }
    }

    /// A column of a key, by its type in the catalogue.
    pub(crate) fn of_key(dialect: Dialect, name: &'a str, sql: &'a str, declared: Option<&'a Arc<str>>) -> Self {
        let is_json = dialect != Dialect::Postgres && declared.is_some_and(|name| is_json(name));
        let equality = if is_json { Equality::Json } else { Equality::AsItIs };
        Self { dialect, name, sql, declared, equality }
    }

    /// Appends that the column is this value. A list means any of its items, unless lists are the column's values.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the column, if the database cannot compare its values.
    pub(crate) fn write(&self, template: &mut Template, value: &SqlValue) -> Result<(), SqlError> {
        match value {
            SqlValue::Null => self.write_null(template, true),
            SqlValue::List(choices) if !self.equality.has_lists() => return self.write_any(template, choices),
            value => {
                self.check()?;
                self.write_equal(template, value);
            }
        }
        Ok(())
    }

    /// Appends that the column is this one value.
    pub(crate) fn write_one(&self, template: &mut Template, value: &SqlValue) {
        self.write_equal(template, value);
    }

    /// Appends that the column is any of these values.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(crate) fn write_any(&self, template: &mut Template, choices: &[SqlValue]) -> Result<(), SqlError> {
        let (nulls, choices): (Vec<_>, Vec<_>) = choices.iter().cloned().partition(SqlValue::is_null);
        if choices.is_empty() && !nulls.is_empty() {
            self.write_null(template, true);
            return Ok(());
        }
        self.check()?;
        let column = self.sql;
        template.text("(");
        match (self.dialect, self.equality) {
            _ if choices.is_empty() => template.text("1 = 0"),
            (Dialect::Postgres, Equality::AsItIs) => {
                template.text(&format!("{column} = ANY("));
                self.bind(template, SqlValue::List(choices));
                template.text(")");
            }
            (Dialect::MySql | Dialect::Sqlite, Equality::AsItIs) => {
                template.text(&format!("{column} IN ("));
                for (nth, choice) in choices.into_iter().enumerate() {
                    template.text(if nth == 0 { "" } else { ", " });
                    self.bind(template, choice);
                }
                template.text(")");
            }
            (Dialect::Postgres | Dialect::MySql | Dialect::Sqlite, _) => {
                for (nth, choice) in choices.iter().enumerate() {
                    template.text(if nth == 0 { "" } else { " OR " });
                    self.write_equal(template, choice);
                }
            }
        }
        if !nulls.is_empty() {
            template.text(" OR ");
            self.write_null(template, true);
        }
        template.text(")");
        Ok(())
    }

    /// Appends that the column is another value than this, and not NULL.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(crate) fn write_other(&self, template: &mut Template, value: &SqlValue) -> Result<(), SqlError> {
        self.check()?;
        if self.equality == Equality::AsItIs || self.dialect == Dialect::Postgres {
            template.text(&format!("{} <> ", self.sql));
            self.bind(template, value.clone());
            return Ok(());
        }
        template.text(&format!("({} IS NOT NULL AND NOT ", self.sql));
        self.write_equal(template, value);
        template.text(")");
        Ok(())
    }

    /// Appends that the column is NULL, or that it is not.
    pub(crate) fn write_null(&self, template: &mut Template, is_null: bool) {
        template.text(&self.null(is_null));
    }

    /// SQL that says whether the column is NULL. PostgreSQL calls a row NULL if all of its fields are.
    pub(crate) fn null(&self, is_null: bool) -> String {
        let column = self.sql;
        match (self.equality, is_null) {
            (Equality::Composite, true) => format!("{column} IS NOT DISTINCT FROM NULL"),
            (Equality::Composite, false) => format!("{column} IS DISTINCT FROM NULL"),
            (_, true) => format!("{column} IS NULL"),
            (_, false) => format!("{column} IS NOT NULL"),
        }
    }

    fn write_equal(&self, template: &mut Template, value: &SqlValue) {
        let column = self.sql;
        let (before, after) = match (self.dialect, self.equality) {
            // Each of the two servers reads the comments that are meant for it. To MariaDB, NULL is equal to all JSON.
            (Dialect::MySql, Equality::Json) => (
                format!("({column} IS NOT NULL AND /*M!100700 JSON_EQUALS({column}, *//*!50708 {column} = CAST( */"),
                "/*M!100700 ) *//*!50708 AS JSON) */)",
            ),
            (Dialect::MySql, Equality::Shape) => (format!("ST_AsText({column}) = ST_AsText("), ")"),
            (Dialect::Sqlite, Equality::Json) => {
                (format!("iif(json_valid({column}), json({column}), {column}) = json("), ")")
            }
            (Dialect::Postgres | Dialect::MySql | Dialect::Sqlite, _) => (format!("{column} = "), ""),
        };
        template.text(&before);
        self.bind(template, value.clone());
        template.text(after);
    }

    fn bind(&self, template: &mut Template, value: SqlValue) {
        template.column_value(self.name, value);
        if let Some(declared) = self.declared {
            template.tell_last(declared, 1);
        }
    }

    fn check(&self) -> Result<(), SqlError> {
        if self.equality != Equality::No {
            return Ok(());
        }
        let (name, declared) = (shown(self.name), self.declared.map_or("", |declared| declared).to_lowercase());
        Err(invalid(format!("column `{name}` has the type {declared}, whose values cannot be compared")))
    }
}

fn is_json(declared: &str) -> bool {
    ["json", "jsonb"].iter().any(|name| declared.eq_ignore_ascii_case(name))
}
