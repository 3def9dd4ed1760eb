//! The round.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde_json::value::RawValue;

use super::{
    values::{Given, canonical, json_of, unmarshalled},
    *,
};
use crate::domain::page::{Comparison, Condition, OrderBy, PageQuery, PageSource, Test};

/// Number of the row that has NULL.
const NULL_ROW: i64 = 99;

/// The operations that a type supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ability {
    /// Everything; this is their primary key in SQL.
    Key(&'static str),
    /// Everything but an order.
    UnorderedKey,
    Ordered,
    Compared,
    Opaque,
}

/// A column type with values for it, no two of them the same to the database.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) r#type: String,
    pub(super) values: Vec<Given>,
    pub(super) ability: Ability,
}

impl Case {
    fn is_json(&self) -> bool {
        let name = self.r#type.to_ascii_lowercase();
        name == "json" || name == "jsonb"
    }

    /// Set if a list is one value of the type, as in arrays and JSON.
    fn has_lists(&self) -> bool {
        self.is_json() || self.r#type.ends_with("[]") || self.r#type.ends_with("vector") && self.r#type != "tsvector"
    }

    /// SQL of its tables: `u` and its number, with NULL; `k` and its number, whose primary key the values are.
    fn tables(&self, nth: usize) -> String {
        let r#type = &self.r#type;
        let keyed = match self.ability {
            Ability::Key(key) => format!("CREATE TABLE k{nth} (n INTEGER, k {type}, PRIMARY KEY ({key}));"),
            Ability::UnorderedKey => format!("CREATE TABLE k{nth} (n INTEGER, k {type} PRIMARY KEY);"),
            Ability::Ordered | Ability::Compared | Ability::Opaque => String::new(),
        };
        // A column of type TIMESTAMP may be NULL on MariaDB only if that is said.
        format!("CREATE TABLE u{nth} (n INTEGER PRIMARY KEY, k {type} NULL);{keyed}\n")
    }
}

/// SQL that makes the tables of all cases.
pub(super) fn tables(cases: &[Case]) -> String {
    cases.iter().enumerate().map(|(nth, case)| case.tables(nth)).collect()
}

/// Takes all cases through the round, and tells all that is wrong.
pub(super) async fn check(fixture: &Fixture, cases: &[Case]) {
    let mut problems = Vec::new();
    for (nth, case) in cases.iter().enumerate() {
        let mut round = Round { fixture, table: format!("u{nth}"), case, problems: Vec::new() };
        round.without_key().await;
        if let Ability::Key(_) | Ability::UnorderedKey = case.ability {
            round.table = format!("k{nth}");
            round.with_key().await;
        }
        problems.extend(round.problems.into_iter().map(|problem| format!("{}: {problem}", case.r#type)));
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

struct Round<'a> {
    fixture: &'a Fixture,
    table: String,
    case: &'a Case,
    problems: Vec<String>,
}

/// A row as a script gets it.
#[derive(Debug, Clone)]
struct Fetched {
    n: i64,
    /// As the script gives it back.
    value: SqlValue,
    kind: ColumnKind,
}

/// Rows of a page: number and value, each as the page has them.
type PageRows = Vec<(i64, String)>;

impl Round<'_> {
    fn wrong(&mut self, problem: String) {
        self.problems.push(problem);
    }

    /// Says so if the two are not equal.
    fn expect<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, found: T, expected: T) {
        if found != expected {
            self.wrong(format!("{what}: {found:?} instead of {expected:?}"));
        }
    }

    /// Says so if something is not refused with the column's name.
    fn expect_refusal<T: std::fmt::Debug>(&mut self, what: &str, result: Result<T, SqlError>) {
        match result {
            Err(error) if error.code == SqlErrorCode::InvalidArgument && error.message.contains("`k`") => {}
            other => self.wrong(format!("{what}: {other:?} instead of a refusal")),
        }
    }

    async fn change(&self, action: Action, format: RowFormat) -> Result<Vec<u8>, SqlError> {
        let change = Change { table: self.fixture.name(&self.table), action };
        self.fixture.database().change(change, format).await
    }

    fn select(&self, filter: Record) -> Select {
        let TableName { schema, table, .. } = self.fixture.name(&self.table);
        Select { schema, table: Some(table), filter, decimals: true, ..Select::default() }
    }

    async fn fetched(&self, filter: Record) -> Result<Vec<Fetched>, SqlError> {
        let mut cursor = self.fixture.fetch(self.select(filter)).await?;
        let kind = cursor.columns()[1].kind;
        let mut fetched = Vec::new();
        while let Some(batch) = cursor.next_batch(RowFormat::Marshal).await? {
            for row in unmarshalled(&batch) {
                let [(_, SqlValue::Int(n)), (_, value)] = &row[..] else { panic!("{row:?}") };
                let value = match value {
                    SqlValue::Text(text) if kind == ColumnKind::Decimal => SqlValue::Decimal(text.clone()),
                    other => other.clone(),
                };
                fetched.push(Fetched { n: *n, value, kind });
            }
        }
        Ok(fetched)
    }

    /// The numbers of the rows with this value.
    async fn numbers(&self, value: SqlValue) -> Result<Vec<i64>, SqlError> {
        let filter = [("k".to_owned(), value)].into_iter().collect();
        Ok(self.fetched(filter).await?.iter().map(|row| row.n).collect())
    }

    async fn all_numbers(&self) -> Vec<i64> {
        let mut numbers: Vec<_> = self.fetched(Record::new()).await.unwrap().iter().map(|row| row.n).collect();
        numbers.sort_unstable();
        numbers
    }

    /// The JSON of the value in one row.
    async fn json(&self, n: i64, decimals: bool) -> Result<String, SqlError> {
        let filter = [("n".to_owned(), SqlValue::Int(n))].into_iter().collect();
        let mut cursor = self.fixture.fetch(Select { decimals, ..self.select(filter) }).await?;
        let batch = cursor.next_batch(RowFormat::Json).await?.unwrap_or_default();
        Ok(value_in(&batch))
    }

    /// Inserts all values, and compares what is given back and what is fetched in both formats.
    async fn insert(&mut self) {
        for (given, n) in self.case.values.iter().zip(0..) {
            let row = [("n".to_owned(), SqlValue::Int(n)), ("k".to_owned(), given.value.clone())].into_iter().collect();
            let shown = given.value.shown();
            let inserted = match self.change(Action::Insert { rows: vec![row] }, RowFormat::Json).await {
                Ok(rows) => value_in(&rows),
                Err(error) => {
                    self.wrong(format!("insert {shown}: {error}"));
                    continue;
                }
            };
            let fetched = self.json(n, false).await;
            self.expect(&format!("insert {shown}, given back"), Ok(inserted), fetched);
            let fetched = self.json(n, true).await.map(|json| canonical(&json));
            self.expect(&format!("insert {shown}, fetched"), fetched, Ok(canonical(&given.shown)));
            let filter = [("n".to_owned(), SqlValue::Int(n))].into_iter().collect();
            let marshalled = self.fetched(filter).await.unwrap();
            let marshalled = canonical(&json_of(&marshalled[0].value));
            self.expect(&format!("insert {shown}, fetched as marshal"), marshalled, canonical(&given.shown));
        }
    }

    /// In the table that has NULL, too.
    async fn without_key(&mut self) {
        let row = [("n".to_owned(), SqlValue::Int(NULL_ROW)), ("k".to_owned(), SqlValue::Null)].into_iter().collect();
        if let Err(error) = self.change(Action::Insert { rows: vec![row] }, RowFormat::Json).await {
            return self.wrong(format!("insert NULL: {error}"));
        }
        self.insert().await;
        let rows = self.fetched(Record::new()).await.unwrap();
        self.found_by_script(&rows).await;
        self.found_by_caller(&rows).await;
        let has_order = matches!(self.case.ability, Ability::Key(_) | Ability::Ordered);
        if has_order {
            self.paged(&["k", "n"]).await;
        } else {
            let result = self.page(&["k", "n"], false, 2, None, PageFormat::Json).await;
            self.expect_refusal("order", result.map(|(rows, _)| rows));
        }
    }

    /// `where` finds what `fetch` gave.
    async fn found_by_script(&mut self, rows: &[Fetched]) {
        let is_compared = self.case.ability != Ability::Opaque;
        for Fetched { n, value, kind } in rows {
            let mut values = vec![value.clone()];
            match value {
                SqlValue::Text(text) if *kind != ColumnKind::Plain => values.push(SqlValue::Moment(text.clone())),
                _ => {}
            }
            if !self.case.has_lists() {
                values.push(SqlValue::List(vec![value.clone()])); // any of these
            }
            for value in values {
                let found = self.numbers(value.clone()).await;
                let what = format!("where {}", value.shown());
                if is_compared || *n == NULL_ROW {
                    self.expect(&what, found, Ok(vec![*n]));
                } else {
                    self.expect_refusal(&what, found);
                }
            }
        }
    }

    /// A filter finds what a page shows.
    async fn found_by_caller(&mut self, rows: &[Fetched]) {
        let shown = match self.page(&["n"], false, 100, None, PageFormat::Json).await {
            Ok((rows, _)) => rows.into_iter().collect::<BTreeMap<_, _>>(),
            Err(error) => return self.wrong(format!("page: {error}")),
        };
        let is_compared = self.case.ability != Ability::Opaque;
        for Fetched { n, value, .. } in rows.iter().filter(|row| row.n != NULL_ROW) {
            let json = shown[n].as_str();
            let given = self.case.values.get(usize::try_from(*n).unwrap());
            // JSON has no word for NaN, so nothing can be looked for that has it somewhere.
            if given.is_some_and(|given| given.is_hidden) || matches!(value, SqlValue::List(_) if value.json().is_err())
            {
                continue;
            }
            let shown = match serde_json::from_str::<Value>(json) {
                Ok(Value::String(text)) if !self.case.is_json() => text,
                Ok(Value::Null) => value.text().unwrap_or_default().into_owned(), // what JSON has no word for
                Ok(_) | Err(_) => json.to_owned(),
            };
            for test in [Test::Compare(Comparison::Equal, shown.clone()), Test::In(vec![shown.clone()])] {
                let what = format!("filter {test:?}");
                let condition = Condition { column: "k".to_owned(), test };
                let query = PageQuery { conditions: vec![condition], ..self.query(&["n"], false, 100) };
                let found = self.page_of(&query, PageFormat::Json).await;
                let found = found.map(|(rows, _)| rows.iter().map(|(n, _)| *n).collect::<Vec<_>>());
                if is_compared {
                    self.expect(&what, found, Ok(vec![*n]));
                } else {
                    self.expect_refusal(&what, found);
                }
            }
        }
    }

    fn query(&self, order: &[&str], descending: bool, limit: u32) -> PageQuery {
        let order = order.iter().map(|column| OrderBy { column: (*column).to_owned(), descending }).collect();
        PageQuery {
            source: PageSource::Table(self.fixture.name(&self.table)),
            columns: None,
            conditions: Vec::new(),
            order,
            after: None,
            limit,
            counts: false,
            is_asked: true,
        }
    }

    async fn page(
        &self,
        order: &[&str],
        descending: bool,
        limit: u32,
        after: Option<Vec<SqlValue>>,
        format: PageFormat,
    ) -> Result<(PageRows, Option<Vec<SqlValue>>), SqlError> {
        self.page_of(&PageQuery { after, ..self.query(order, descending, limit) }, format).await
    }

    /// The rows of a page, and where the next begins.
    async fn page_of(
        &self,
        query: &PageQuery,
        format: PageFormat,
    ) -> Result<(PageRows, Option<Vec<SqlValue>>), SqlError> {
        let written = self.fixture.database().page(query).await?.into_page(format, 1 << 20).await?;
        let rows = match format {
            PageFormat::Json => {
                let rows: Vec<IndexMap<String, Box<RawValue>>> = serde_json::from_slice(&written.bytes).unwrap();
                rows.iter().map(|row| (row["n"].get().parse().unwrap(), row["k"].get().to_owned())).collect()
            }
            PageFormat::Csv => {
                let mut reader = csv::Reader::from_reader(&written.bytes[..]);
                let rows = reader.records().map(|row| {
                    let row = row.unwrap();
                    (row[0].parse().unwrap(), row[1].to_owned())
                });
                rows.collect()
            }
        };
        let next = written.last.filter(|_| written.n_rows == u64::from(query.limit)).map(|last| {
            let value =
                |by: &OrderBy| last[written.columns.iter().position(|known| known.name == by.column).unwrap()].clone();
            // As the cursor of an endpoint keeps them.
            let values: Vec<_> = query.order.iter().map(value).collect();
            serde_json::from_slice(&serde_json::to_vec(&values).unwrap()).unwrap()
        });
        Ok((rows, next))
    }

    /// All pages: each row is on one of them, once, NULL last, and CSV has the cells of JSON.
    async fn paged(&mut self, order: &[&str]) {
        let mut numbers = self.all_numbers().await;
        let mut orders = Vec::new();
        for (limit, descending, format) in [
            (1, false, PageFormat::Json),
            (2, true, PageFormat::Json),
            (1, true, PageFormat::Csv),
            (2, false, PageFormat::Csv),
        ] {
            let what = format!("pages of {limit}, descending {descending}, {format:?}");
            let mut rows = PageRows::new();
            let mut after = None;
            loop {
                match self.page(order, descending, limit, after, format).await {
                    Ok((more, next)) => {
                        rows.extend(more);
                        after = next;
                    }
                    Err(error) => {
                        self.wrong(format!("{what}, after {} rows: {error}", rows.len()));
                        break;
                    }
                }
                if after.is_none() || rows.len() > numbers.len() + 2 {
                    break;
                }
            }
            let mut found: Vec<i64> = rows.iter().map(|(n, _)| *n).collect();
            if numbers.contains(&NULL_ROW) {
                self.expect(&format!("{what}, NULL"), found.last().copied(), Some(NULL_ROW));
            }
            orders.push((descending, found.clone()));
            found.sort_unstable();
            self.expect(&what, found, numbers.clone());
            let cells =
                rows.into_iter().map(|(n, cell)| (n, if format == PageFormat::Json { cell_of(&cell) } else { cell }));
            let cells: BTreeMap<_, _> = cells.collect();
            if let Ok((all, _)) = self.page(&["n"], false, 100, None, PageFormat::Json).await {
                let all: BTreeMap<_, _> = all.into_iter().map(|(n, cell)| (n, cell_of(&cell))).collect();
                self.expect(&format!("{what}, cells"), cells, all);
            }
        }
        numbers.retain(|n| *n != NULL_ROW);
        for (descending, found) in &mut orders {
            found.retain(|n| *n != NULL_ROW);
            if *descending {
                found.reverse();
            }
        }
        orders.dedup_by(|one, other| one.1 == other.1);
        self.expect("the two directions", orders.len(), 1);
    }

    /// In the table whose key the values are.
    async fn with_key(&mut self) {
        self.insert().await;
        if self.case.ability != Ability::UnorderedKey {
            self.paged(&["k"]).await;
        }
        let rows = self.fetched(Record::new()).await.unwrap();
        let mut numbers: Vec<i64> = rows.iter().map(|row| row.n).collect();
        for Fetched { n, value, kind } in &rows {
            let mut keys = vec![value.clone()];
            if let (SqlValue::Text(text), true) = (value, *kind != ColumnKind::Plain) {
                keys.push(SqlValue::Moment(text.clone()));
            }
            for (key, nth) in keys.iter().zip(0..) {
                let what = |verb: &str| format!("{verb} by {}", key.shown());
                let action = |n: i64, verb: &str| {
                    let (key, values) = (by(key), [("n".to_owned(), SqlValue::Int(n))].into_iter().collect());
                    if verb == "update" { Action::Update { key, values } } else { Action::Upsert { key, values } }
                };
                let mut expected = numbers.clone();
                for (verb, new) in [("update", 100), ("upsert", 200)] {
                    let new = new + n + 1000 * nth;
                    let last = *expected.iter().find(|number| *number % 100 == n % 100).unwrap_or(n);
                    match self.change(action(new, verb), RowFormat::Marshal).await {
                        Ok(changed) => {
                            let changed: Vec<_> =
                                unmarshalled(&changed).into_iter().map(|row| row[0].1.clone()).collect();
                            self.expect(&what(verb), changed, vec![SqlValue::Int(new)]);
                        }
                        Err(error) => self.wrong(format!("{}: {error}", what(verb))),
                    }
                    expected.iter_mut().filter(|number| **number == last).for_each(|number| *number = new);
                    expected.sort_unstable();
                    let found = self.all_numbers().await;
                    self.expect(&format!("{}, all rows", what(verb)), found, expected.clone());
                }
                numbers = self.all_numbers().await;
            }
        }
        self.deleted(&rows).await;
    }

    /// Deletes each row by its key, upserts it anew, and deletes it for good.
    async fn deleted(&mut self, rows: &[Fetched]) {
        let mut n_rows = self.all_numbers().await.len();
        for (nth, Fetched { n, value, .. }) in rows.iter().enumerate() {
            let what = format!("delete by {}", value.shown());
            let delete = || Action::Delete { key: by(value) };
            if let Err(error) = self.change(delete(), RowFormat::Json).await {
                self.wrong(format!("{what}: {error}"));
                continue;
            }
            let left = self.all_numbers().await.len();
            self.expect(&what, left, n_rows - 1);
            let again = self.change(delete(), RowFormat::Json).await.map_err(|error| error.code);
            self.expect(&format!("{what} again"), again.err(), Some(SqlErrorCode::UnknownRow));
            let values = [("n".to_owned(), SqlValue::Int(*n))].into_iter().collect();
            let upserted = self.change(Action::Upsert { key: by(value), values }, RowFormat::Json).await;
            if let Err(error) = upserted {
                self.wrong(format!("upsert of a new row by {}: {error}", value.shown()));
            }
            let json = self.json(*n, true).await.map(|json| canonical(&json));
            self.expect(&format!("{what}, upserted"), json, Ok(canonical(&self.case.values[nth_of(rows, nth)].shown)));
            if self.change(delete(), RowFormat::Json).await.is_ok() {
                n_rows -= 1;
            }
        }
        let left = self.all_numbers().await;
        self.expect("rows that are left", left, Vec::new());
    }
}

/// The number, from 0, of the value that the row has.
fn nth_of(rows: &[Fetched], nth: usize) -> usize {
    usize::try_from(rows[nth].n).unwrap()
}

/// A key as a script gives it: a list or a dict must stand below the column's name.
fn by(value: &SqlValue) -> RowKey {
    match value {
        SqlValue::List(_) | SqlValue::Json(_) => {
            RowKey::Columns([("k".to_owned(), value.clone())].into_iter().collect())
        }
        other => RowKey::Value(other.clone()),
    }
}

/// The JSON of `k` in a list of one row `{"n":…,"k":…}`.
fn value_in(rows: &[u8]) -> String {
    let rows = std::str::from_utf8(rows).unwrap();
    let value = rows.split_once(",\"k\":").and_then(|(_, rest)| rest.strip_suffix("}]"));
    value.unwrap_or_else(|| panic!("{rows}")).to_owned()
}

/// The cell of CSV that holds what the JSON says.
fn cell_of(json: &str) -> String {
    match serde_json::from_str::<Value>(json) {
        Ok(Value::String(text)) => text,
        Ok(Value::Null) => String::new(),
        Ok(_) | Err(_) => json.to_owned(),
    }
}
