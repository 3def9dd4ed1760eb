//! Changes of rows: insert, update, upsert, delete.
//!
//! Owns: their SQL. Never: pastes a name or a value; names are quoted, values bound with the type of their column.

use std::collections::HashSet;

use crate::{
    data::{
        Database,
        database::Written,
        dialect::{Dialect, invalid, shown, shown_table},
        read::{
            catalog::{CatalogColumn, Table, without_key},
            condition::Compared,
            scope::{Granted, write_exact},
        },
        statement::{Purpose, Statement},
        template::Template,
    },
    domain::{
        sql::{Action, Change, RowFormat, RowKey, SqlError, SqlErrorCode, TableName},
        value::{Record, SqlValue},
    },
};

/// Most rows of one insert. As many as a result may have, because the rows are returned.
const INSERTED_ROWS_MAX: usize = 10_000;
/// Most columns that rows may name together. PostgreSQL's tables take 1,600, SQLite's 2,000.
pub(crate) const COLUMNS_MAX: usize = 1000;
/// Most rows times columns of one statement: each is a word of SQL, whether a row names the column or not.
const CELLS_MAX: usize = 500_000;

impl Database {
    /// Changes rows of a table. Gives the rows as they are now (of a delete: as they were) as a list in this format.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for values that are none of their column's type, a key that is not the table's, a table without
    /// primary key; `UnknownRow` when the key names no row; `NotAllowed` for what a restricted caller may not reach; what the
    /// database says.
    pub async fn change(&self, change: Change, format: RowFormat) -> Result<Vec<u8>, SqlError> {
        let Change { table: name, action } = change;
        self.check_name(&name.database)?;
        let granted = self.grant(name)?;
        let is_remembered = !self.is_inside();
        match self.try_change(&granted, &action, format).await {
            // The table may have changed since it was read. Nothing was done: the names did not fit.
            Err(error)
                if is_remembered && matches!(error.code, SqlErrorCode::UnknownColumn | SqlErrorCode::UnknownTable) =>
            {
                self.tables().forget(granted.name());
                self.try_change(&granted, &action, format).await
            }
            result => result,
        }
    }

    async fn try_change(&self, granted: &Granted, action: &Action, format: RowFormat) -> Result<Vec<u8>, SqlError> {
        let own = self.own(granted, action).await?;
        let action = own.as_ref().unwrap_or(action);
        if self.dialect() == Dialect::MySql {
            return self.change_in_mysql(granted, action, format).await;
        }
        let (key, values) = match action {
            Action::Insert { rows } => return Ok(self.insert(granted, rows, format).await?.rows),
            Action::Update { key, values } | Action::Upsert { key, values } => (key, Some(values)),
            Action::Delete { key } => (key, None),
        };
        let table = self.table(granted.name()).await?;
        let by = Key { values: named_key(&table, granted.name(), key)?, table: &table };
        let Some(values) = values else { return self.delete(granted, &by, format).await };
        if !matches!(action, Action::Upsert { .. }) {
            let updated = self.update(granted, &by, values, format).await?;
            return updated.ok_or_else(|| unknown_row(granted.name(), &by.values));
        }
        match granted.only() {
            Some(_) => self.upsert_own(granted, &by, values, format).await,
            None => self.upsert(granted, &by, values, format).await,
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
                own.changed(&named_key(&table, granted.name(), key)?)?; // the key of a new row must be the caller's, too
                Action::Upsert { key: key.clone(), values: own.changed(values)? }
            }
            Action::Delete { key } => Action::Delete { key: key.clone() },
        }))
    }

    async fn insert(&self, granted: &Granted, rows: &[Record], format: RowFormat) -> Result<Written, SqlError> {
        let columns = check_insert(rows)?;
        let is_even = rows.iter().all(|row| row.len() == columns.len());
        // Only then is it needed what the missing columns default to.
        let table = if is_even { None } else { Some(self.table(granted.name()).await?) };
        let mut writer = Writer::new(self.dialect(), granted)?;
        if columns.is_empty() {
            writer.text("INSERT INTO ").table().text(" DEFAULT VALUES RETURNING *");
        } else {
            let rows: Vec<&Record> = rows.iter().collect();
            writer.insert(&columns, &rows, table.as_deref())?.text(" RETURNING *");
        }
        check_values(self.dialect(), &writer)?;
        self.written(writer.statement(), format).await
    }

    async fn delete(&self, granted: &Granted, key: &Key<'_>, format: RowFormat) -> Result<Vec<u8>, SqlError> {
        let mut writer = Writer::new(self.dialect(), granted)?;
        writer.text("DELETE FROM ").table().text(" AS t0 WHERE ").key("t0.", key)?.text(" RETURNING *");
        match self.written(writer.statement(), format).await? {
            Written { n_rows: 0, .. } => Err(unknown_row(granted.name(), &key.values)),
            Written { rows, .. } => Ok(rows),
        }
    }

    /// Changes columns of one row; `None` if there is no such row.
    async fn update(
        &self,
        granted: &Granted,
        key: &Key<'_>,
        values: &Record,
        format: RowFormat,
    ) -> Result<Option<Vec<u8>>, SqlError> {
        let mut writer = Writer::new(self.dialect(), granted)?;
        writer.update().table().text(" AS t0 SET ").assignments(values)?;
        writer.text(" WHERE ").key("t0.", key)?.text(" RETURNING *");
        check_values(self.dialect(), &writer)?;
        let Written { rows, n_rows, .. } = self.written(writer.statement(), format).await?;
        Ok((n_rows > 0).then_some(rows))
    }

    /// Tries an update first, because an insert would need the columns that an existing row keeps.
    async fn upsert(
        &self,
        granted: &Granted,
        key: &Key<'_>,
        values: &Record,
        format: RowFormat,
    ) -> Result<Vec<u8>, SqlError> {
        let (values, row) = new_row(&key.values, values)?;
        if !values.is_empty()
            && let Some(rows) = self.update(granted, key, &values, format).await?
        {
            return Ok(rows);
        }
        let columns: Vec<&str> = values.keys().map(String::as_str).collect();
        let key_columns: Vec<&str> = key.values.keys().map(String::as_str).collect();
        let all: Vec<&str> = row.keys().map(String::as_str).collect();
        // Without a column to change, the row is given back by changing nothing.
        let changed = if columns.is_empty() { &key_columns } else { &columns };
        let mut writer = Writer::new(self.dialect(), granted)?;
        writer.insert(&all, &[&row], None)?;
        writer.on_conflict(&key_columns, changed, None)?.text(" RETURNING *");
        Ok(self.written(writer.statement(), format).await?.rows)
    }

    /// An upsert into a filtered table: a row of others with the same key is in the way of the new one, and stays as it is.
    async fn upsert_own(
        &self,
        granted: &Granted,
        key: &Key<'_>,
        values: &Record,
        format: RowFormat,
    ) -> Result<Vec<u8>, SqlError> {
        let (values, row) = new_row(&key.values, values)?;
        if let Some(rows) = self.update(granted, key, &values, format).await? {
            return Ok(rows);
        }
        let own = granted.own(key.table, self.dialect())?;
        let own = own.ok_or_else(|| unknown_row(granted.name(), &key.values))?;
        match self.insert(granted, &[own.inserted(&row)?], format).await.map(|written| written.rows) {
            // Two upserts at once both found no row; the second finds the row of the first now.
            Err(error) if error.code == SqlErrorCode::ConstraintViolated && !self.is_inside() => {
                self.update(granted, key, &values, format).await?.ok_or(error)
            }
            result => result,
        }
    }
}

/// The key of a row, and its table.
#[derive(Debug, Clone)]
pub(crate) struct Key<'a> {
    pub(crate) values: Record,
    pub(crate) table: &'a Table,
}

/// The primary key that `given` means, column to value.
pub(crate) fn named_key(table: &Table, name: &TableName, given: &RowKey) -> Result<Record, SqlError> {
    let columns = table.key();
    let shown_name = || shown_table(name.schema.as_deref(), &name.table);
    let Some(first) = columns.first() else { return Err(without_key(name)) };
    let key = match given {
        RowKey::Columns(values) => {
            let fits = values.len() == columns.len() && columns.iter().all(|column| values.contains_key(*column));
            if !fits {
                let message = format!("the primary key of table {} is ({})", shown_name(), columns.join(", "));
                return Err(invalid(format!("{message}: `pk` must name exactly these columns")));
            }
            values.clone()
        }
        RowKey::Value(_) if columns.len() > 1 => {
            let message = format!("the primary key of table {} is ({})", shown_name(), columns.join(", "));
            return Err(invalid(format!("{message}: give `pk` as a dict of these columns")));
        }
        RowKey::Value(value) => [((*first).to_owned(), value.clone())].into_iter().collect(),
    };
    if key.values().any(SqlValue::is_null) {
        return Err(invalid("`pk` is None, which no row has as its primary key"));
    }
    Ok(key)
}

/// The columns of rows that may be inserted.
pub(crate) fn check_insert(rows: &[Record]) -> Result<Vec<&str>, SqlError> {
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
pub(crate) fn new_row(key: &Record, values: &Record) -> Result<(Record, Record), SqlError> {
    let mut values = values.clone();
    for (column, value) in key {
        if values.shift_remove(column).is_some_and(|given| text_of(&given) != text_of(value)) {
            return Err(invalid(format!("`upsert`: column `{}` differs from `pk`", shown(column))));
        }
    }
    let row = key.clone().into_iter().chain(values.clone()).collect();
    Ok((values, row))
}

pub(crate) fn unknown_row(name: &TableName, key: &Record) -> SqlError {
    let key: Vec<String> = key.iter().map(|(column, value)| format!("{column} = {}", value.shown())).collect();
    let table = shown_table(name.schema.as_deref(), &name.table);
    SqlError::new(SqlErrorCode::UnknownRow, format!("no row of table {table} has {}", shown(&key.join(", "))))
}

/// All columns that any row names, in the order of their first appearance.
pub(crate) fn columns_of(rows: &[Record]) -> Result<Vec<&str>, SqlError> {
    let mut seen = HashSet::new();
    let names = rows.iter().flat_map(Record::keys).map(String::as_str).filter(|column| seen.insert(*column));
    let columns: Vec<&str> = names.take(COLUMNS_MAX + 1).collect();
    if columns.len() > COLUMNS_MAX {
        let message = format!("the rows name more than {COLUMNS_MAX} columns");
        return Err(SqlError::new(SqlErrorCode::InputTooLarge, message));
    }
    Ok(columns)
}

/// A key's value as text: in one column, 5, 5.0 and "5" are the same.
pub(crate) fn text_of(value: &SqlValue) -> String {
    let digits = match value {
        SqlValue::Double(_) | SqlValue::Decimal(_) => value.whole_digits(),
        _ => None,
    };
    digits.or_else(|| value.text()).unwrap_or_default().into_owned()
}

pub(crate) fn check_values(dialect: Dialect, writer: &Writer<'_>) -> Result<(), SqlError> {
    let n_max = dialect.values_max();
    if writer.template.values.len() <= n_max {
        return Ok(());
    }
    let message = format!("one statement takes {n_max} values: use `write`, or change the rows in parts");
    Err(SqlError::new(SqlErrorCode::InputTooLarge, message))
}

/// Writes a statement that changes one table.
pub(crate) struct Writer<'a> {
    dialect: Dialect,
    granted: &'a Granted,
    quoted: String,
    template: Template,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(dialect: Dialect, granted: &'a Granted) -> Result<Self, SqlError> {
        let TableName { database: _, schema, table } = granted.name();
        let quoted = dialect.quoted_table(schema.as_deref(), table)?;
        Ok(Self { dialect, granted, quoted, template: Template::default() })
    }

    /// A statement that changes the table.
    pub(crate) fn statement(self) -> Statement {
        let purpose = Purpose::change(self.granted.name());
        Statement::ours(self.template, purpose)
    }

    /// A statement that changes the table, whose columns the catalogue knows.
    pub(crate) fn typed_statement(mut self, table: &Table) -> Statement {
        table.tell(&mut self.template, self.dialect);
        let is_json = |column: &&CatalogColumn| self.dialect == Dialect::MySql && *column.data_type == *"json";
        let json_columns = table.columns.iter().filter(is_json).map(|column| column.name.clone()).collect();
        Statement { json_columns, ..self.statement() }
    }

    /// A statement that reads the table, whose columns the catalogue knows.
    pub(crate) fn reading_statement(self, table: &Table) -> Statement {
        let purpose = Purpose::read(self.granted.name());
        Statement { purpose, ..self.typed_statement(table) }
    }

    pub(crate) fn text(&mut self, sql: &str) -> &mut Self {
        self.template.text(sql);
        self
    }

    pub(crate) fn table(&mut self) -> &mut Self {
        self.template.text(&self.quoted);
        self
    }

    pub(crate) fn name(&mut self, column: &str) -> Result<&mut Self, SqlError> {
        self.template.text(&self.dialect.quoted("column", column)?);
        Ok(self)
    }

    pub(crate) fn names(&mut self, columns: &[&str]) -> Result<&mut Self, SqlError> {
        for (nth, column) in columns.iter().enumerate() {
            self.text(if nth == 0 { "" } else { ", " }).name(column)?;
        }
        Ok(self)
    }

    fn value(&mut self, column: &str, value: &SqlValue) -> &mut Self {
        self.template.column_value(column, value.clone());
        self
    }

    /// A value that is for no column.
    pub(crate) fn plain_value(&mut self, value: SqlValue) -> &mut Self {
        self.template.value(value);
        self
    }

    /// The row of this key, if it is the caller's.
    pub(crate) fn key(&mut self, alias: &str, key: &Key<'_>) -> Result<&mut Self, SqlError> {
        self.equals(alias, key)?.own(alias)
    }

    /// Each column of the key is this.
    pub(crate) fn equals(&mut self, alias: &str, key: &Key<'_>) -> Result<&mut Self, SqlError> {
        for (nth, (column, value)) in key.values.iter().enumerate() {
            self.text(if nth == 0 { "" } else { " AND " });
            let sql = format!("{alias}{}", self.dialect.quoted("column", column)?);
            let declared = key.table.column(column, self.dialect).map(|column| &column.data_type);
            Compared::of_key(self.dialect, column, &sql, declared).write_one(&mut self.template, value);
        }
        Ok(self)
    }

    /// `AND` the row is the caller's.
    pub(crate) fn own(&mut self, alias: &str) -> Result<&mut Self, SqlError> {
        if let Some(only) = self.granted.only() {
            self.text(" AND ");
            write_exact(&mut self.template, self.dialect, alias, only)?;
        }
        Ok(self)
    }

    /// Writes the assignments of an update. If there are none, the filter's column is set to itself.
    pub(crate) fn assignments(&mut self, values: &Record) -> Result<&mut Self, SqlError> {
        for (nth, (column, value)) in values.iter().enumerate() {
            self.text(if nth == 0 { "" } else { ", " }).name(column)?.text(" = ").value(column, value);
        }
        if let (true, Some(only)) = (values.is_empty(), self.granted.only()) {
            self.name(&only.column)?.text(" = ").name(&only.column)?;
        }
        Ok(self)
    }

    /// `UPDATE`. A constraint of SQLite may say that the rows in the way of others' are deleted: not those of other callers.
    pub(crate) fn update(&mut self) -> &mut Self {
        self.text(if self.keeps_others() { "UPDATE OR ABORT " } else { "UPDATE " })
    }

    fn keeps_others(&self) -> bool {
        self.dialect == Dialect::Sqlite && self.granted.only().is_some()
    }

    /// `INSERT INTO … VALUES …`. What a row does not name gets its default, which `table` tells.
    pub(crate) fn insert(
        &mut self,
        columns: &[&str],
        rows: &[&Record],
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
                match row.get(*column) {
                    Some(value) => self.value(column, value),
                    None => self.text(&default_of(self.dialect, table, column)),
                };
            }
            self.text(")");
        }
        Ok(self)
    }

    /// `ON CONFLICT` of the key, take the new values of `changed`, and the default of all other columns of `replaced`.
    pub(crate) fn on_conflict(
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
            let is_same = |other: &&str| dialect.is_same_column(other, name);
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

/// The value of a column of which nothing is said. SQLite has no word for it, so its own text is used, which it
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
