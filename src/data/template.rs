//! SQL text with gaps for values.
//!
//! Owns: finding `%s`, `?`, `$1` and `:name` in SQL text without touching literals, quoted names, comments or casts.
//! Never: checks SQL; what is wrong with it, the database says.

use std::{collections::HashMap, sync::Arc};

use crate::{
    data::{
        dialect::{Dialect, VALUES_MAX, invalid, shown},
        pieces::{first_length, leading_digits, leading_word, opaque_length, starts_word},
    },
    domain::{
        sql::{Params, SqlError},
        value::SqlValue,
    },
};

/// SQL text with gaps for values.
#[derive(Debug, Default)]
pub(crate) struct Template {
    parts: Vec<Part>,
    /// The values of the gaps, by number from 0.
    pub(crate) values: Vec<Bound>,
}

/// A value, and what is known of where it goes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bound {
    pub(crate) value: SqlValue,
    /// The column of the statement's table that the value is for, or is compared with.
    pub(crate) column: Option<String>,
    /// The type of that column in the database's words, where it is known and the database does not infer it.
    pub(crate) r#type: Option<Arc<str>>,
}

#[derive(Debug)]
enum Part {
    Text(String),
    Value(usize),
}

impl Template {
    /// Appends SQL text.
    pub(crate) fn text(&mut self, text: &str) {
        if let Some(Part::Text(last)) = self.parts.last_mut() {
            last.push_str(text);
        } else {
            self.parts.push(Part::Text(text.to_owned()));
        }
    }

    /// Appends a gap for a new value.
    pub(crate) fn value(&mut self, value: SqlValue) {
        self.push(Bound { value, ..Bound::default() });
    }

    /// Appends a gap for a new value of a column.
    pub(crate) fn column_value(&mut self, column: &str, value: SqlValue) {
        self.push(Bound { value, column: Some(column.to_owned()), r#type: None });
    }

    fn push(&mut self, bound: Bound) {
        self.parts.push(Part::Value(self.values.len()));
        self.values.push(bound);
    }

    /// Says the type of the column that the last values are for.
    pub(crate) fn tell_last(&mut self, declared: &Arc<str>, n_values: usize) {
        for bound in self.values.iter_mut().rev().take(n_values) {
            bound.r#type = Some(Arc::clone(declared));
        }
    }

    /// Appends another template with its values.
    pub(crate) fn append(&mut self, other: Self) {
        let offset = self.values.len();
        for part in other.parts {
            match part {
                Part::Text(text) => self.text(&text),
                Part::Value(number) => self.parts.push(Part::Value(offset + number)),
            }
        }
        self.values.extend(other.values);
    }

    /// The numbers of the gaps (from 0), in the order in which they stand.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = usize> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Value(number) => Some(*number),
        })
    }

    /// The SQL, each gap filled with what `placeholder` gives for its number (from 0).
    pub(crate) fn render(&self, placeholder: impl Fn(usize) -> String) -> String {
        let mut sql = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => sql.push_str(text),
                Part::Value(number) => sql.push_str(&placeholder(*number)),
            }
        }
        sql
    }

    /// The SQL with something harmless in its gaps, to be looked at.
    pub(crate) fn sketch(&self) -> String {
        self.render(|_| "NULL".to_owned())
    }
}

/// Finds the placeholders for `params` in `sql`. Without params the text is used exactly as it stands.
pub(crate) fn parse(dialect: Dialect, sql: String, params: Params) -> Result<Template, SqlError> {
    let (values, names) = match params {
        Params::None => return Ok(Template { parts: vec![Part::Text(sql)], values: vec![] }),
        Params::Positional(values) => (values, None),
        Params::Named(map) => {
            let names = map.keys().cloned().zip(0..).collect::<HashMap<_, _>>();
            (map.into_iter().map(|(_, value)| value).collect(), Some(names))
        }
    };
    if values.len() > VALUES_MAX {
        return Err(invalid(format!("`params` has more than {VALUES_MAX} values")));
    }
    let mut scanner =
        Scanner { dialect, sql: &sql, at: 0, style: None, next: 0, brackets: 0, found: Template::default() };
    match &names {
        Some(names) => scanner.scan_named(|name| names.get(name).copied().ok_or_else(|| unknown_name(name)))?,
        None => scanner.scan_positional(values.len())?,
    }
    let mut template = scanner.found;
    template.values = values.into_iter().map(|value| Bound { value, ..Bound::default() }).collect();
    // Named values may go unused (one dict for several statements), and a database wants none it cannot place.
    if names.is_some() {
        template.drop_unused();
    } else {
        template.check_all_used()?;
    }
    Ok(template)
}

/// The names of `:name` placeholders in `sql`, each once.
pub(crate) fn names(dialect: Dialect, sql: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut scanner = Scanner { dialect, sql, at: 0, style: None, next: 0, brackets: 0, found: Template::default() };
    // Every name is taken, so nothing is refused.
    _ = scanner.scan_named(|name| {
        Ok(names.iter().position(|known| known == name).unwrap_or_else(|| {
            names.push(name.to_owned());
            names.len() - 1
        }))
    });
    names
}

fn unknown_name(name: &str) -> SqlError {
    invalid(format!("`query` has the placeholder `:{}`, `params` has no such name", shown(name)))
}

impl Template {
    fn used(&self) -> Vec<bool> {
        let mut used = vec![false; self.values.len()];
        for part in &self.parts {
            if let Part::Value(number) = part {
                used[*number] = true;
            }
        }
        used
    }

    fn check_all_used(&self) -> Result<(), SqlError> {
        let used = self.used();
        if used.iter().all(|used| *used) {
            return Ok(());
        }
        let placeholders = used.iter().filter(|used| **used).count();
        Err(invalid(format!("`params` has {} values, `query` has {placeholders} placeholders", used.len())))
    }

    fn drop_unused(&mut self) {
        let used = self.used();
        let mut new_numbers = Vec::with_capacity(used.len());
        let mut n_kept = 0;
        for used in &used {
            new_numbers.push(n_kept);
            n_kept += usize::from(*used);
        }
        for part in &mut self.parts {
            if let Part::Value(number) = part {
                *number = new_numbers[*number];
            }
        }
        let mut used = used.into_iter();
        self.values.retain(|_| used.next().unwrap_or(false));
    }
}

/// The placeholders of a positional statement; one kind in one statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Percent,
    Question,
    Numbered,
}

struct Scanner<'a> {
    dialect: Dialect,
    sql: &'a str,
    at: usize,
    style: Option<Style>,
    next: usize,
    /// Brackets of PostgreSQL's subscripts that are open.
    brackets: usize,
    found: Template,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        &self.sql[self.at..]
    }

    fn copy(&mut self, length: usize) {
        let text = &self.sql[self.at..self.at + length];
        self.found.text(text);
        self.at += length;
    }

    fn scan_named(&mut self, mut number_of: impl FnMut(&str) -> Result<usize, SqlError>) -> Result<(), SqlError> {
        while !self.rest().is_empty() {
            let rest = self.rest();
            if let Some(length) = opaque_length(self.dialect, rest) {
                self.copy(length);
            } else if rest.starts_with("::") || rest.starts_with(":=") {
                self.copy(2);
            } else if rest.starts_with(':') && self.is_slice() {
                self.copy(1);
            } else if let Some(name) = rest.strip_prefix(':').map(leading_word).filter(|name| starts_word(name)) {
                self.found.parts.push(Part::Value(number_of(name)?));
                self.at += 1 + name.len();
            } else {
                match rest.as_bytes()[0] {
                    b'[' => self.brackets += 1,
                    b']' => self.brackets = self.brackets.saturating_sub(1),
                    _ => {}
                }
                self.copy(first_length(rest));
            }
        }
        Ok(())
    }

    /// Tells whether a colon here separates the bounds of a slice, as in `tags[1:id]`: it stands in brackets, directly behind a bound.
    fn is_slice(&self) -> bool {
        let is_bound = |c: char| c.is_alphanumeric() || matches!(c, '_' | '"' | ')' | ']');
        self.brackets > 0 && self.sql[..self.at].ends_with(is_bound)
    }

    fn scan_positional(&mut self, n_values: usize) -> Result<(), SqlError> {
        while !self.rest().is_empty() {
            let rest = self.rest();
            if let Some(length) = opaque_length(self.dialect, rest) {
                self.copy(length);
            } else if rest.starts_with("%%") {
                self.found.text("%");
                self.at += 2;
            } else if rest.strip_prefix('%').is_some_and(|rest| leading_word(rest) == "s") {
                self.at += 2;
                self.push(Style::Percent, None, n_values)?;
            } else if let Some(digits) = rest.strip_prefix('$').map(leading_digits).filter(|digits| !digits.is_empty())
            {
                self.at += 1 + digits.len();
                self.push(Style::Numbered, Some(digits), n_values)?;
            } else if self.dialect != Dialect::Postgres && rest.starts_with('?') {
                // MySQL has no `?1`.
                let digits = if self.dialect == Dialect::Sqlite { leading_digits(&rest[1..]) } else { "" };
                self.at += 1 + digits.len();
                if digits.is_empty() {
                    self.push(Style::Question, None, n_values)?;
                } else {
                    self.push(Style::Numbered, Some(digits), n_values)?;
                }
            } else {
                self.copy(first_length(rest));
            }
        }
        Ok(())
    }

    fn push(&mut self, style: Style, digits: Option<&str>, n_values: usize) -> Result<(), SqlError> {
        if *self.style.get_or_insert(style) != style {
            return Err(invalid("`query` mixes kinds of placeholders: use only `%s`, only `?` or only `$1`"));
        }
        let number = match digits {
            None => self.next,
            Some(digits) => match digits.parse::<usize>().ok().and_then(|number| number.checked_sub(1)) {
                Some(number) => number,
                None => {
                    return Err(invalid(format!(
                        "`query` has the placeholder `${}`: they count from 1",
                        shown(digits)
                    )));
                }
            },
        };
        if number >= n_values {
            return Err(invalid(format!(
                "`query` has a placeholder {}, `params` has {n_values} values",
                number.saturating_add(1)
            )));
        }
        self.next += 1;
        self.found.parts.push(Part::Value(number));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positional(dialect: Dialect, sql: &str, n: i64) -> Result<String, SqlError> {
        let params = Params::Positional((0..n).map(SqlValue::Int).collect());
        parse(dialect, sql.to_owned(), params).map(|template| template.render(|n| format!("<{n}>")))
    }

    fn named(dialect: Dialect, sql: &str, params: &[(&str, i64)]) -> Result<(String, Vec<SqlValue>), SqlError> {
        let params = params.iter().map(|(name, value)| ((*name).to_owned(), SqlValue::Int(*value))).collect();
        let template = parse(dialect, sql.to_owned(), Params::Named(params))?;
        let sql = template.render(|n| format!("<{n}>"));
        Ok((sql, template.values.into_iter().map(|bound| bound.value).collect()))
    }

    #[test]
    fn without_params_nothing_is_touched() {
        let sql = "SELECT '%s', 5 %% 2, :x, $1, ?";
        assert_eq!(parse(Dialect::Postgres, sql.to_owned(), Params::None).unwrap().render(|_| String::new()), sql);
    }

    #[test]
    fn positional_placeholders_are_found_outside_of_literals_only() {
        for (sql, expected) in [
            ("SELECT %s, '%s', \"%s\", %s -- %s", "SELECT <0>, '%s', \"%s\", <1> -- %s"),
            ("SELECT $2, $1, $$ $1 $$, $t$ $1 $$ $t$", "SELECT <1>, <0>, $$ $1 $$, $t$ $1 $$ $t$"),
            ("SELECT E'\\'%s', '\\', %s, e'' || %s", "SELECT E'\\'%s', '\\', <0>, e'' || <1>"),
            ("/* %s /* %s */ %s */ %s %%size %s", "/* %s /* %s */ %s */ <0> %size <1>"),
            ("SELECT 'it''s %s', a$1, %s, 7 %size, %s", "SELECT 'it''s %s', a$1, <0>, 7 %size, <1>"),
            ("SELECT x ? 'a' AND %s ?| 'é' || %s", "SELECT x ? 'a' AND <0> ?| 'é' || <1>"),
        ] {
            assert_eq!(positional(Dialect::Postgres, sql, 2).unwrap(), expected);
        }
        assert_eq!(
            positional(Dialect::Sqlite, "SELECT ?, [?], `?`, '?', ? /* ? */", 2).unwrap(),
            "SELECT <0>, [?], `?`, '?', <1> /* ? */"
        );
        assert_eq!(
            positional(Dialect::MySql, "SELECT ?, `?`, 'it\\'s ?', \"\\\"?\", 5--?, [1] # ?\n -- ?\n /* ? */", 2)
                .unwrap(),
            "SELECT <0>, `?`, 'it\\'s ?', \"\\\"?\", 5--<1>, [1] # ?\n -- ?\n /* ? */"
        );
        assert_eq!(positional(Dialect::Sqlite, "SELECT ?2, ?1", 2).unwrap(), "SELECT <1>, <0>");
    }

    #[test]
    fn named_placeholders_leave_casts_alone() {
        let (sql, values) = named(
            Dialect::Postgres,
            "SELECT :a::int, a[1:2], ':a', \":a\", x := 1, :b_1, :a -- :zz",
            &[("unused", 0), ("b_1", 1), ("a", 2)],
        )
        .unwrap();
        assert_eq!(sql, "SELECT <1>::int, a[1:2], ':a', \":a\", x := 1, <0>, <1> -- :zz");
        assert_eq!(values, [SqlValue::Int(1), SqlValue::Int(2)]);
        let error = named(Dialect::Postgres, "SELECT :nope", &[]).unwrap_err();
        assert_eq!(error.message, "`query` has the placeholder `:nope`, `params` has no such name");
    }

    #[test]
    fn slices_have_bounds_and_no_names() {
        for (sql, expected) in [
            ("tags[1:id]", "tags[1:id]"),
            (
                "tags[a:id], tags[\"a\":id], tags[f(1):id], tags[b[1]:id]",
                "tags[a:id], tags[\"a\":id], tags[f(1):id], tags[b[1]:id]",
            ),
            ("tags[:id], tags[1 :id], tags[1: :id]", "tags[<0>], tags[1 <0>], tags[1: <0>]"),
            ("tags[1:id] = :id, ']' ] x:id", "tags[1:id] = <0>, ']' ] x<0>"),
        ] {
            assert_eq!(named(Dialect::Postgres, sql, &[("id", 1)]).unwrap().0, expected);
        }
        assert_eq!(names(Dialect::Postgres, "tags[1:id]"), [""; 0]);
    }

    #[test]
    fn numbers_must_match() {
        for (sql, n, message) in [
            ("SELECT %s", 2, "`params` has 2 values, `query` has 1 placeholders"),
            ("SELECT %s, %s", 1, "`query` has a placeholder 2, `params` has 1 values"),
            ("SELECT $0", 1, "`query` has the placeholder `$0`: they count from 1"),
            (
                "SELECT $99999999999999999999999",
                1,
                "`query` has the placeholder `$99999999999999999999999`: they count from 1",
            ),
            ("SELECT $1, %s", 1, "`query` mixes kinds of placeholders: use only `%s`, only `?` or only `$1`"),
        ] {
            assert_eq!(positional(Dialect::Postgres, sql, n).unwrap_err().message, message);
        }
    }

    #[test]
    fn unclosed_things_end_with_the_text() {
        for sql in ["'%s", "\"%s", "/* %s", "$$ %s", "E'%s\\", "-- %s", "$", "%", "é'"] {
            assert_eq!(positional(Dialect::Postgres, sql, 0).unwrap(), sql, "{sql}");
        }
    }
}
