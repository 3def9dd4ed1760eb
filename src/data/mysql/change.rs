//! Changes of rows in MySQL and MariaDB.
//!
//! Owns: giving back the rows that were changed. MariaDB gives those that are inserted or deleted itself; all others are read before or
//! after their change, in one transaction with it, by the key that the database keeps.

use crate::{
    data::{
        Database,
        database::Written,
        dialect::{Dialect, invalid, shown_table},
        read::{catalog::Table, scope::Granted},
        statement::{Purpose, Statement},
        template::Template,
        transaction::Author,
        write::change::{Key, Writer, check_insert, check_values, named_key, new_row, unknown_row},
    },
    domain::{
        sql::{Action, RowFormat, SqlError, SqlErrorCode, TableName},
        value::{Record, SqlValue},
    },
};

/// SQL to MariaDB, and a comment to MySQL.
pub(super) const RETURNING: &str = " /*M!100500 RETURNING * */";

impl Database {
    /// As `try_change`. What is refused in between, leaves nothing.
    pub(crate) async fn change_in_mysql(
        &self,
        granted: &Granted,
        action: &Action,
        format: RowFormat,
    ) -> Result<Vec<u8>, SqlError> {
        // Outside of the transaction, so that it is remembered.
        let table = self.table(granted.name()).await?;
        let is_one_statement =
            self.gives_rows_back() && matches!(action, Action::Insert { .. } | Action::Delete { .. });
        let changes = Changes { granted, table: &table, format };
        if self.is_inside() || is_one_statement {
            return changes.change(self, action).await;
        }
        match changes.change_in_transaction(self, action).await {
            // Two upserts at once both found no row; the second finds the row of the first now.
            Err(error) if matches!(action, Action::Upsert { .. }) && error.code == SqlErrorCode::ConstraintViolated => {
                changes.change_in_transaction(self, action).await
            }
            result => result,
        }
    }

    /// Tells whether a table has unique keys besides its primary key.
    pub(crate) async fn has_other_unique_keys(&self, name: &TableName) -> Result<bool, SqlError> {
        let mut template = Template::default();
        template.text(
            "SELECT 1 AS known FROM information_schema.STATISTICS \
             WHERE NON_UNIQUE = 0 AND INDEX_NAME <> 'PRIMARY' AND TABLE_NAME = ",
        );
        template.value(SqlValue::from(name.table.as_str()));
        template.text(" AND (@@lower_case_table_names > 0 OR BINARY TABLE_NAME = ");
        template.value(SqlValue::from(name.table.as_str()));
        template.text(") AND TABLE_SCHEMA = ");
        match &name.schema {
            Some(schema) => template.value(SqlValue::from(schema.as_str())),
            None => template.text("DATABASE()"),
        }
        template.text(" LIMIT 1");
        let known: Vec<serde_json::Value> = self.rows(Statement::ours(template, Purpose::read(name))).await?;
        Ok(!known.is_empty())
    }
}

/// Changes of one table.
struct Changes<'a> {
    granted: &'a Granted,
    table: &'a Table,
    format: RowFormat,
}

impl Changes<'_> {
    async fn change_in_transaction(&self, database: &Database, action: &Action) -> Result<Vec<u8>, SqlError> {
        let transaction = database.begin_for(Author::Host).await?;
        let inside = database.again().inside(transaction.clone());
        // Dropping the transaction rolls it back.
        let rows = self.change(&inside, action).await?;
        drop(inside);
        transaction.commit().await?;
        Ok(rows)
    }

    async fn change(&self, database: &Database, action: &Action) -> Result<Vec<u8>, SqlError> {
        let Self { granted, table, .. } = self;
        let name = granted.name();
        match action {
            Action::Insert { rows } => self.insert(database, rows).await,
            Action::Update { key, values } => {
                let key = named_key(table, name, key)?;
                let kept = self.locked(database, &key).await?.ok_or_else(|| unknown_row(name, &key))?;
                self.update(database, &kept, values).await
            }
            Action::Upsert { key, values } => {
                let key = named_key(table, name, key)?;
                let (values, row) = new_row(&key, values)?;
                let row = match granted.own(table, Dialect::MySql)? {
                    Some(own) => own.inserted(&row)?,
                    None => row,
                };
                match self.locked(database, &key).await? {
                    Some(kept) if values.is_empty() => self.read(database, &kept).await,
                    Some(kept) => self.update(database, &kept, &values).await,
                    None => self.insert(database, &[row]).await,
                }
            }
            Action::Delete { key } => {
                let key = named_key(table, name, key)?;
                self.delete(database, &key).await
            }
        }
    }

    /// The key of a row as the database keeps it, if there is such a row. Nobody else changes the row until the transaction ends.
    async fn locked(&self, database: &Database, key: &Record) -> Result<Option<Record>, SqlError> {
        let names: Vec<&str> = key.keys().map(String::as_str).collect();
        let mut writer = self.writer()?;
        writer
            .text("SELECT ")
            .names(&names)?
            .text(" FROM ")
            .table()
            .text(" WHERE ")
            .key("", &self.by(key))?
            .text(" FOR UPDATE");
        let rows =
            database.read_with(writer.reading_statement(self.table), async |cursor| cursor.values().await).await?;
        let key_of = |row: Vec<SqlValue>| names.iter().map(|name| (*name).to_owned()).zip(row).collect();
        Ok(rows.into_iter().next().map(key_of))
    }

    /// The row with a key, which must be there.
    async fn read(&self, database: &Database, key: &Record) -> Result<Vec<u8>, SqlError> {
        let mut writer = self.writer()?;
        writer.text("SELECT * FROM ").table().text(" WHERE ").key("", &self.by(key))?;
        let Written { rows, n_rows, .. } = database.written(writer.reading_statement(self.table), self.format).await?;
        if n_rows == 1 { Ok(rows) } else { Err(self.not_as_given()) }
    }

    /// Changes a row that is there, perhaps its key too.
    async fn update(&self, database: &Database, kept: &Record, values: &Record) -> Result<Vec<u8>, SqlError> {
        let mut writer = self.writer()?;
        writer.update().table().text(" SET ").assignments(values)?.text(" WHERE ").key("", &self.by(kept))?;
        check_values(Dialect::MySql, &writer)?;
        let Written { n_changed, .. } = database.written(writer.typed_statement(self.table), self.format).await?;
        if n_changed != 1 {
            return Err(unknown_row(self.granted.name(), kept));
        }
        let mut new_key = kept.clone();
        for (column, value) in &mut new_key {
            let new = values.iter().find(|(name, _)| Dialect::MySql.is_same_column(name, column));
            if let Some((_, new)) = new {
                *value = new.clone();
            }
        }
        self.read(database, &new_key).await
    }

    async fn delete(&self, database: &Database, key: &Record) -> Result<Vec<u8>, SqlError> {
        let unknown = || unknown_row(self.granted.name(), key);
        let mut before = None;
        if !database.gives_rows_back() {
            let mut writer = self.writer()?;
            writer.text("SELECT * FROM ").table().text(" WHERE ").key("", &self.by(key))?.text(" FOR UPDATE");
            let locked = database.written(writer.reading_statement(self.table), self.format).await?;
            if locked.n_rows == 0 {
                return Err(unknown());
            }
            before = Some(locked.rows);
        }
        let mut writer = self.writer()?;
        writer.text("DELETE FROM ").table().text(" WHERE ").key("", &self.by(key))?.text(RETURNING);
        let Written { rows, n_rows, n_changed } =
            database.written(writer.typed_statement(self.table), self.format).await?;
        match before {
            Some(before) if n_rows == 1 || n_changed == 1 => Ok(before),
            None if n_rows == 1 => Ok(rows),
            Some(_) | None => Err(unknown()),
        }
    }

    /// Inserts rows, and gives them as they are kept.
    async fn insert(&self, database: &Database, rows: &[Record]) -> Result<Vec<u8>, SqlError> {
        let columns = check_insert(rows)?;
        let mut writer = self.writer()?;
        if columns.is_empty() {
            writer.text("INSERT INTO ").table().text(" () VALUES ()");
        } else {
            writer.insert(&columns, &rows.iter().collect::<Vec<_>>(), Some(self.table))?;
        }
        writer.text(RETURNING);
        check_values(Dialect::MySql, &writer)?;
        let written = database.written(writer.typed_statement(self.table), self.format).await?;
        if written.n_rows == rows.len() as u64 {
            return Ok(written.rows);
        }
        self.inserted(database, rows).await
    }

    /// The rows that were just inserted, in the order of their keys: from MySQL, which does not give them itself.
    async fn inserted(&self, database: &Database, rows: &[Record]) -> Result<Vec<u8>, SqlError> {
        let key = self.table.key();
        let names_key = |row: &Record| key.iter().all(|column| row.get(*column).is_some_and(|value| !value.is_null()));
        let n_named = rows.iter().filter(|row| names_key(row)).count();
        let mut reader = self.writer()?;
        reader.text("SELECT * FROM ").table().text(" WHERE (");
        if !key.is_empty() && n_named == rows.len() {
            for (nth, row) in rows.iter().enumerate() {
                let key = key.iter().map(|column| ((*column).to_owned(), row[*column].clone())).collect();
                reader.text(if nth == 0 { "(" } else { " OR (" }).equals("", &self.by(&key))?.text(")");
            }
        } else if let ([key], true, 0) = (&key[..], self.is_numbered(), n_named) {
            // The numbers of one INSERT follow each other.
            reader.name(key)?.text(" BETWEEN LAST_INSERT_ID() AND LAST_INSERT_ID() + @@auto_increment_increment * ");
            reader.plain_value(SqlValue::from(rows.len() as u64 - 1));
        } else {
            let table = shown_table(self.granted.name().schema.as_deref(), &self.granted.name().table);
            return Err(invalid(format!(
                "the new rows of table {table} could not be given back, because nothing tells them from others: name the \
                 primary key in all of them or in none, or use `execute` or `write`"
            )));
        }
        reader.text(")").own("")?.text(" ORDER BY ").names(&key)?;
        let read = database.written(reader.reading_statement(self.table), self.format).await?;
        if read.n_rows == rows.len() as u64 { Ok(read.rows) } else { Err(self.not_as_given()) }
    }

    /// The error for a key that the database does not keep as it was given. Nothing of the change is kept.
    fn not_as_given(&self) -> SqlError {
        let table = shown_table(self.granted.name().schema.as_deref(), &self.granted.name().table);
        let key = self.table.key().join(", ");
        invalid(format!("table {table} does not keep this value of its primary key ({key}) as it is: round it before"))
    }

    fn by(&self, key: &Record) -> Key<'_> {
        Key { values: key.clone(), table: self.table }
    }

    fn writer(&self) -> Result<Writer<'_>, SqlError> {
        Writer::new(Dialect::MySql, self.granted)
    }

    /// Tells whether the key is one integer, which the database may number.
    fn is_numbered(&self) -> bool {
        let mut key = self.table.columns.iter().filter(|column| column.key_position > 0);
        matches!((key.next(), key.next()), (Some(column), None) if column.data_type.contains("int"))
    }
}
