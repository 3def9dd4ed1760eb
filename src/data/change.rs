//! Changes of rows: insert, update, upsert, delete.
//!
//! Owns: their SQL. Never: pastes a name or a value; names are quoted, values bound with the type of their column.

mod mysql;

use std::{collections::HashSet, sync::Arc};

use serde_json::{Map, Value};

use crate::{
    data::{
        Database,
        catalog::{Table, without_key},
        placeholders::Template,
        scope::{Granted, write_exact},
        select::{Dialect, Form, Statement, VALUES_MAX, invalid, quoted, quoted_table, shown, shown_table},
    },
    domain::sql::{Action, Change, SqlError, SqlErrorCode, TableName},
};

/// Most rows of one insert. As many as a result may have, because the rows are returned.
const INSERTED_ROWS_MAX: usize = 10_000;
/// Most columns that rows may name together. PostgreSQL's tables take 1,600, SQLite's 2,000.
pub(super) const COLUMNS_MAX: usize = 1000;
/// Most rows times columns of one statement: each is a word of SQL, whether a row names the column or not.
const CELLS_MAX: usize = 500_000;

type Row = Map<String, Value>;

impl Database {
    /// Changes rows of a table. Gives the rows as they are now (of a delete: as they were) as a JSON array.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for values that are none of their column's type, a key that is not the table's, a table without
    /// primary key; `UnknownRow` when the key names no row; `NotAllowed` for what a restricted caller may not reach; what the
    /// database says.
    pub async fn change(&self, change: Change) -> Result<Vec<u8>, SqlError> {
        let Change { table: name, action } = change;
        self.check_name(&name.database)?;
        let granted = self.grant(name)?;
        let is_remembered = !self.is_inside();
        match self.try_change(&granted, &action).await {
            // The table may have changed since it was read. Nothing was done: the names did not fit.
            Err(error)
                if is_remembered && matches!(error.code, SqlErrorCode::UnknownColumn | SqlErrorCode::UnknownTable) =>
            {
                self.tables().forget(granted.name());
                self.try_change(&granted, &action).await
            }
            result => result,
        }
    }

    async fn try_change(&self, granted: &Granted, action: &Action) -> Result<Vec<u8>, SqlError> {
        let own = self.own(granted, action).await?;
        let action = own.as_ref().unwrap_or(action);
        if self.dialect() == Dialect::MySql {
            return self.change_in_mysql(granted, action).await;
        }
        match action {
            Action::Insert { rows } => self.insert(granted, rows).await,
            Action::Update { key, values } => {
                let key = self.key(granted.name(), key).await?;
                match self.update(granted, &key, values).await? {
                    Some(rows) => Ok(rows),
                    None => Err(unknown_row(granted.name(), &key)),
                }
            }
            Action::Upsert { key, values } => {
                let key = self.key(granted.name(), key).await?;
                if granted.only().is_some() {
                    return self.upsert_own(granted, &key, values).await;
                }
                self.upsert(granted, key, values).await
            }
            Action::Delete { key } => {
                let key = self.key(granted.name(), key).await?;
                let mut writer = Writer::new(self.dialect(), granted)?;
                writer.text("DELETE FROM ").table().text(" AS t0 WHERE ").key("t0.", &key)?.text(" RETURNING *");
                match self.json(writer.statement()).await? {
                    (_, 0) => Err(unknown_row(granted.name(), &key)),
                    (rows, _) => Ok(rows),
                }
            }
        }
    }

    /// A change of a filtered table, with what is inserted as the caller's own, and what it changes left so. `None` if the
    /// table is not filtered.
    ///
    /// # Errors
    /// Those of a change; `NotAllowed` if a row would become another caller's.
    async fn own(&self, granted: &Granted, action: &Action) -> Result<Option<Action>, SqlError> {
        if let Action::Update { values, .. } = action
            && values.is_empty()
        {
            return Err(invalid("`update` needs at least one column to change"));
        }
        if granted.only().is_none() {
            return Ok(None);
        }
        let table = self.table(granted.name()).await?;
        let Some(own) = granted.own(&table, self.dialect())? else { return Ok(None) };
        Ok(Some(match action {
            Action::Insert { rows } => {
                check_insert(rows)?;
                Action::Insert { rows: rows.iter().map(|row| own.inserted(row)).collect::<Result<_, _>>()? }
            }
            Action::Update { key, values } => Action::Update { key: key.clone(), values: own.changed(values)? },
            Action::Upsert { key, values } => {
                let named = self.key(granted.name(), key).await?;
                own.changed(&named)?; // the key of a new row must be the caller's, too
                Action::Upsert { key: key.clone(), values: own.changed(values)? }
            }
            Action::Delete { key } => Action::Delete { key: key.clone() },
        }))
    }

    async fn insert(&self, granted: &Granted, rows: &[Row]) -> Result<Vec<u8>, SqlError> {
        let columns = check_insert(rows)?;
        let is_even = rows.iter().all(|row| row.len() == columns.len());
        // Only then is it needed what the missing columns default to.
        let table = if is_even { None } else { Some(self.table(granted.name()).await?) };
        let mut writer = Writer::new(self.dialect(), granted)?;
        if columns.is_empty() {
            writer.text("INSERT INTO ").table().text(" DEFAULT VALUES RETURNING *");
        } else {
            let rows: Vec<&Row> = rows.iter().collect();
            writer.insert(&columns, &rows, table.as_deref())?.text(" RETURNING *");
        }
        check_values(self.dialect(), &writer)?;
        Ok(self.json(writer.statement()).await?.0)
    }

    /// Changes columns of one row; `None` if there is no such row.
    async fn update(&self, granted: &Granted, key: &Row, values: &Row) -> Result<Option<Vec<u8>>, SqlError> {
        let mut writer = Writer::new(self.dialect(), granted)?;
        writer.update().table().text(" AS t0 SET ").assignments(values, |_, value| value.clone())?;
        writer.text(" WHERE ").key("t0.", key)?.text(" RETURNING *");
        check_values(self.dialect(), &writer)?;
        let (rows, n_rows) = self.json(writer.statement()).await?;
        Ok((n_rows > 0).then_some(rows))
    }

    /// Tries an update first, because an insert would need the columns that an existing row keeps.
    async fn upsert(&self, granted: &Granted, key: Row, values: &Row) -> Result<Vec<u8>, SqlError> {
        let (values, row) = new_row(&key, values)?;
        if !values.is_empty()
            && let Some(rows) = self.update(granted, &key, &values).await?
        {
            return Ok(rows);
        }
        let columns: Vec<&str> = values.keys().map(String::as_str).collect();
        let key_columns: Vec<&str> = key.keys().map(String::as_str).collect();
        let all: Vec<&str> = row.keys().map(String::as_str).collect();
        // Without a column to change, the row is given back by changing nothing.
        let changed = if columns.is_empty() { &key_columns } else { &columns };
        let mut writer = Writer::new(self.dialect(), granted)?;
        writer.insert(&all, &[&row], None)?;
        writer.on_conflict(&key_columns, changed, None)?.text(" RETURNING *");
        Ok(self.json(writer.statement()).await?.0)
    }

    /// An upsert into a filtered table: a row of others with the same key is in the way of the new one, and stays as it is.
    async fn upsert_own(&self, granted: &Granted, key: &Row, values: &Row) -> Result<Vec<u8>, SqlError> {
        let (values, row) = new_row(key, values)?;
        if let Some(rows) = self.update(granted, key, &values).await? {
            return Ok(rows);
        }
        let table = self.table(granted.name()).await?;
        let Some(own) = granted.own(&table, self.dialect())? else { return Err(unknown_row(granted.name(), key)) };
        match self.insert(granted, &[own.inserted(&row)?]).await {
            // Two upserts at once both found no row; the second finds the row of the first now.
            Err(error) if error.code == SqlErrorCode::ConstraintViolated && !self.is_inside() => {
                self.update(granted, key, &values).await?.ok_or(error)
            }
            result => result,
        }
    }

    /// The primary key that `given` means, column to value.
    async fn key(&self, name: &TableName, given: &Value) -> Result<Row, SqlError> {
        let table: Arc<Table> = self.table(name).await?;
        let columns = table.key();
        let shown_name = || shown_table(name.schema.as_deref(), &name.table);
        let Some(first) = columns.first() else { return Err(without_key(name)) };
        let key = match given {
            Value::Object(values) => {
                let fits = values.len() == columns.len() && columns.iter().all(|column| values.contains_key(*column));
                if !fits {
                    let message = format!("the primary key of table {} is ({})", shown_name(), columns.join(", "));
                    return Err(invalid(format!("{message}: `pk` must name exactly these columns")));
                }
                values.clone()
            }
            _ if columns.len() > 1 => {
                let message = format!("the primary key of table {} is ({})", shown_name(), columns.join(", "));
                return Err(invalid(format!("{message}: give `pk` as a dict of these columns")));
            }
            value => [((*first).to_owned(), value.clone())].into_iter().collect(),
        };
        if key.values().any(Value::is_null) {
            return Err(invalid("`pk` is None, which no row has as its primary key"));
        }
        Ok(key)
    }
}

/// The columns of rows that may be inserted.
fn check_insert(rows: &[Row]) -> Result<Vec<&str>, SqlError> {
    if rows.is_empty() {
        return Err(invalid("`insert` needs a row"));
    }
    if rows.len() > INSERTED_ROWS_MAX {
        let message = format!("`insert` takes {INSERTED_ROWS_MAX} rows at once: use `write`, or insert in parts");
        return Err(SqlError::new(SqlErrorCode::InputTooLarge, message));
    }
    let columns = columns_of(rows)?;
    if columns.is_empty() && rows.len() > 1 {
        return Err(invalid("`insert` of several rows needs at least one column"));
    }
    Ok(columns)
}

/// The values of an upsert without those of its key, and the row that it adds if there is none.
fn new_row(key: &Row, values: &Row) -> Result<(Row, Row), SqlError> {
    let mut values = values.clone();
    for (column, value) in key {
        if values.remove(column).is_some_and(|given| text_of(&given) != text_of(value)) {
            return Err(invalid(format!("`upsert`: column `{}` differs from `pk`", shown(column))));
        }
    }
    let row = key.clone().into_iter().chain(values.clone()).collect();
    Ok((values, row))
}

fn unknown_row(name: &TableName, key: &Row) -> SqlError {
    let key: Vec<String> = key.iter().map(|(column, value)| format!("{column} = {value}")).collect();
    let table = shown_table(name.schema.as_deref(), &name.table);
    SqlError::new(SqlErrorCode::UnknownRow, format!("no row of table {table} has {}", shown(&key.join(", "))))
}

/// All columns that any row names, in the order of their first appearance.
pub(super) fn columns_of(rows: &[Row]) -> Result<Vec<&str>, SqlError> {
    let mut seen = HashSet::new();
    let names = rows.iter().flat_map(Map::keys).map(String::as_str).filter(|column| seen.insert(*column));
    let columns: Vec<&str> = names.take(COLUMNS_MAX + 1).collect();
    if columns.len() > COLUMNS_MAX {
        let message = format!("the rows name more than {COLUMNS_MAX} columns");
        return Err(SqlError::new(SqlErrorCode::InputTooLarge, message));
    }
    Ok(columns)
}

/// A key's value as text: in one column, 5 and "5" are the same.
pub(super) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Most values of one statement.
pub(super) fn values_max(dialect: Dialect) -> usize {
    match dialect {
        Dialect::MySql | Dialect::Postgres => VALUES_MAX,
        // SQLITE_MAX_VARIABLE_NUMBER
        Dialect::Sqlite => 32_766,
    }
}

fn check_values(dialect: Dialect, writer: &Writer<'_>) -> Result<(), SqlError> {
    let n_max = values_max(dialect);
    if writer.columns.len() <= n_max {
        return Ok(());
    }
    let message = format!("one statement takes {n_max} values: use `write`, or change the rows in parts");
    Err(SqlError::new(SqlErrorCode::InputTooLarge, message))
}

/// Writes a statement that changes one table.
pub(super) struct Writer<'a> {
    dialect: Dialect,
    granted: &'a Granted,
    quoted: String,
    template: Template,
    columns: Vec<String>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(dialect: Dialect, granted: &'a Granted) -> Result<Self, SqlError> {
        let TableName { database: _, schema, table } = granted.name();
        let quoted = quoted_table(dialect, schema.as_deref(), table)?;
        Ok(Self { dialect, granted, quoted, template: Template::default(), columns: Vec::new() })
    }

    pub(super) fn statement(self) -> Statement {
        let Self { dialect: _, granted, quoted: _, template, columns } = self;
        let TableName { database: _, schema, table } = granted.name().clone();
        let form = Form::Change { schema, table };
        Statement::ours(template, columns, form)
    }

    pub(super) fn text(&mut self, sql: &str) -> &mut Self {
        self.template.text(sql);
        self
    }

    pub(super) fn table(&mut self) -> &mut Self {
        self.template.text(&self.quoted);
        self
    }

    pub(super) fn name(&mut self, column: &str) -> Result<&mut Self, SqlError> {
        self.template.text(&quoted(self.dialect, "column", column)?);
        Ok(self)
    }

    pub(super) fn names(&mut self, columns: &[&str]) -> Result<&mut Self, SqlError> {
        for (nth, column) in columns.iter().enumerate() {
            self.text(if nth == 0 { "" } else { ", " }).name(column)?;
        }
        Ok(self)
    }

    fn value(&mut self, column: &str, value: &Value) -> &mut Self {
        self.template.value(value.clone());
        self.columns.push(column.to_owned());
        self
    }

    /// The row of this key, if it is the caller's.
    fn key(&mut self, alias: &str, key: &Row) -> Result<&mut Self, SqlError> {
        self.equals(alias, key)?.own(alias)
    }

    /// Each column of the key is this.
    fn equals(&mut self, alias: &str, key: &Row) -> Result<&mut Self, SqlError> {
        for (nth, (column, value)) in key.iter().enumerate() {
            self.text(if nth == 0 { "" } else { " AND " }).text(alias);
            self.name(column)?.text(" = ").value(column, value);
        }
        Ok(self)
    }

    /// `AND` the row is the caller's.
    fn own(&mut self, alias: &str) -> Result<&mut Self, SqlError> {
        if let Some(only) = self.granted.only() {
            self.text(" AND ");
            write_exact(&mut self.template, &mut self.columns, self.dialect, alias, only)?;
        }
        Ok(self)
    }

    /// What is set in an update. Nothing is the filter's column, to what it is.
    fn assignments(&mut self, values: &Row, fitting: impl Fn(&str, &Value) -> Value) -> Result<&mut Self, SqlError> {
        for (nth, (column, value)) in values.iter().enumerate() {
            self.text(if nth == 0 { "" } else { ", " })
                .name(column)?
                .text(" = ")
                .value(column, &fitting(column, value));
        }
        if let (true, Some(only)) = (values.is_empty(), self.granted.only()) {
            self.name(&only.column)?.text(" = ").name(&only.column)?;
        }
        Ok(self)
    }

    /// `UPDATE`. A constraint of SQLite may say that the rows in the way of others' are deleted: not those of other callers.
    fn update(&mut self) -> &mut Self {
        self.text(if self.keeps_others() { "UPDATE OR ABORT " } else { "UPDATE " })
    }

    fn keeps_others(&self) -> bool {
        self.dialect == Dialect::Sqlite && self.granted.only().is_some()
    }

    /// `INSERT INTO … VALUES …`. What a row does not name gets its default, which `table` tells.
    pub(super) fn insert(
        &mut self,
        columns: &[&str],
        rows: &[&Row],
        table: Option<&Table>,
    ) -> Result<&mut Self, SqlError> {
        if rows.len() * columns.len() > CELLS_MAX {
            let message = "the rows name too many different columns for one statement: insert in parts";
            return Err(SqlError::new(SqlErrorCode::InputTooLarge, message));
        }
        self.text(if self.keeps_others() { "INSERT OR ABORT INTO " } else { "INSERT INTO " });
        self.table().text(" (").names(columns)?.text(") VALUES ");
        for (nth, row) in rows.iter().enumerate() {
            self.text(if nth == 0 { "(" } else { ", (" });
            for (nth, column) in columns.iter().enumerate() {
                self.text(if nth == 0 { "" } else { ", " });
                match (row.get(*column), table) {
                    (Some(value), Some(table)) if self.dialect == Dialect::MySql => {
                        self.value(column, &mysql::fitting(value, column, table))
                    }
                    (Some(value), _) => self.value(column, value),
                    (None, _) => self.text(&default_of(self.dialect, table, column)),
                };
            }
            self.text(")");
        }
        Ok(self)
    }

    /// `ON CONFLICT` of the key, take the new values of `changed`, and the default of all other columns of `replaced`.
    pub(super) fn on_conflict(
        &mut self,
        key: &[&str],
        changed: &[&str],
        replaced: Option<&Table>,
    ) -> Result<&mut Self, SqlError> {
        let dialect = self.dialect;
        // MySQL takes any unique key of the table for the conflict; `write` sees to it that there is no other.
        if dialect == Dialect::MySql {
            self.text(" ON DUPLICATE KEY UPDATE ");
        } else {
            self.text(" ON CONFLICT (").names(key)?.text(") DO UPDATE SET ");
        }
        let mut comma = "";
        for column in changed {
            self.text(comma).name(column)?.text(" = ").new_value(column)?;
            comma = ", ";
        }
        for column in replaced.map_or(&[][..], |table| &table.columns) {
            let name = column.name.as_str();
            let is_same = |other: &&str| match dialect {
                Dialect::Postgres => *other == name,
                Dialect::MySql => other.to_lowercase() == name.to_lowercase(),
                Dialect::Sqlite => other.eq_ignore_ascii_case(name),
            };
            if column.generated || changed.iter().any(is_same) || key.iter().any(is_same) {
                continue;
            }
            self.text(comma).name(name)?.text(" = ").text(&default_of(dialect, replaced, name));
            comma = ", ";
        }
        // A row that is nothing but its key is replaced by itself.
        if let (true, Some(first)) = (comma.is_empty(), key.first()) {
            self.name(first)?.text(" = ").new_value(first)?;
        }
        Ok(self)
    }

    /// The value of a column that was to be inserted.
    fn new_value(&mut self, column: &str) -> Result<&mut Self, SqlError> {
        match self.dialect {
            Dialect::MySql => Ok(self.text("VALUES(").name(column)?.text(")")),
            Dialect::Postgres | Dialect::Sqlite => self.text("excluded.").name(column),
        }
    }
}

/// What a column is set to when nothing is said about it. SQLite has no word for it, so its own text is used, which it
/// has accepted as an expression before.
fn default_of(dialect: Dialect, table: Option<&Table>, column: &str) -> String {
    match dialect {
        Dialect::MySql | Dialect::Postgres => "DEFAULT".to_owned(),
        Dialect::Sqlite => {
            let default = table.and_then(|table| table.column(column, dialect)).and_then(|c| c.default_sql.clone());
            default.map_or_else(|| "NULL".to_owned(), |sql| format!("({sql})"))
        }
    }
}
