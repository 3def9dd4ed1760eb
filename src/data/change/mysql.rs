//! Changes of rows in MySQL and MariaDB, which do not give changed rows back.
//!
//! Owns: reading the rows before or after their change, in one transaction with it.

use serde_json::Value;

use crate::{
    data::{
        Database,
        catalog::Table,
        change::{Row, Writer, check_insert, check_values, new_row, unknown_row},
        scope::Granted,
        select::{Dialect, Form, Statement, invalid},
        transaction::Author,
    },
    domain::sql::{Action, SqlError, SqlErrorCode, TableName},
};

impl Database {
    /// As `try_change`. What is refused in between, leaves nothing.
    pub(super) async fn change_in_mysql(&self, granted: &Granted, action: &Action) -> Result<Vec<u8>, SqlError> {
        // Outside of the transaction, so that it is remembered.
        let table = self.table(granted.name()).await?;
        if self.is_inside() {
            return self.change_around(granted, &table, action).await;
        }
        match self.change_in_transaction(granted, &table, action).await {
            // Two upserts at once both found no row; the second finds the row of the first now.
            Err(error) if matches!(action, Action::Upsert { .. }) && error.code == SqlErrorCode::ConstraintViolated => {
                self.change_in_transaction(granted, &table, action).await
            }
            result => result,
        }
    }

    async fn change_in_transaction(
        &self,
        granted: &Granted,
        table: &Table,
        action: &Action,
    ) -> Result<Vec<u8>, SqlError> {
        let transaction = self.begin_for(Author::Host).await?;
        let inside = self.again().inside(transaction.clone());
        // Dropping the transaction rolls it back.
        let rows = inside.change_around(granted, table, action).await?;
        drop(inside);
        transaction.commit().await?;
        Ok(rows)
    }

    async fn change_around(&self, granted: &Granted, table: &Table, action: &Action) -> Result<Vec<u8>, SqlError> {
        let name = granted.name();
        match action {
            Action::Insert { rows } => self.insert_and_read(granted, table, rows).await,
            Action::Update { key, values } => {
                let key = comparable(self.key(name, key).await?, table);
                self.locked(granted, &key).await?.ok_or_else(|| unknown_row(name, &key))?;
                self.update_and_read(granted, table, &key, values).await
            }
            Action::Upsert { key, values } => {
                let key = self.key(name, key).await?;
                let (values, row) = new_row(&key, values)?;
                let row = match granted.own(table, self.dialect())? {
                    Some(own) => own.inserted(&row)?,
                    None => row,
                };
                let key = comparable(key, table);
                match self.locked(granted, &key).await? {
                    Some(rows) if values.is_empty() => Ok(rows),
                    Some(_) => self.update_and_read(granted, table, &key, &values).await,
                    None => self.insert_and_read(granted, table, &[row]).await,
                }
            }
            Action::Delete { key } => {
                let key = comparable(self.key(name, key).await?, table);
                let rows = self.locked(granted, &key).await?.ok_or_else(|| unknown_row(name, &key))?;
                let mut writer = Writer::new(self.dialect(), granted)?;
                writer.text("DELETE FROM ").table().text(" WHERE ").key("", &key)?;
                self.json(writer.statement()).await?;
                Ok(rows)
            }
        }
    }

    /// The row of a key, which nobody else changes until the transaction ends.
    async fn locked(&self, granted: &Granted, key: &Row) -> Result<Option<Vec<u8>>, SqlError> {
        let mut writer = Writer::new(self.dialect(), granted)?;
        writer.text("SELECT * FROM ").table().text(" WHERE ").key("", key)?.text(" FOR UPDATE");
        let (rows, n_rows) = self.json(reading(writer, granted.name())).await?;
        Ok((n_rows > 0).then_some(rows))
    }

    /// Changes a row that is there, perhaps its key too.
    async fn update_and_read(
        &self,
        granted: &Granted,
        table: &Table,
        key: &Row,
        values: &Row,
    ) -> Result<Vec<u8>, SqlError> {
        let mut writer = Writer::new(self.dialect(), granted)?;
        writer.update().table().text(" SET ").assignments(values, |column, value| fitting(value, column, table))?;
        writer.text(" WHERE ").key("", key)?;
        check_values(self.dialect(), &writer)?;
        self.json(writer.statement()).await?;
        let mut new_key = key.clone();
        for (column, value) in &mut new_key {
            if let Some(new) = values.get(column) {
                *value = new.clone();
            }
        }
        Ok(self.locked(granted, &new_key).await?.unwrap_or_else(|| b"[]".to_vec()))
    }

    /// Inserts rows and reads them, in the order of their keys.
    async fn insert_and_read(&self, granted: &Granted, table: &Table, rows: &[Row]) -> Result<Vec<u8>, SqlError> {
        let columns = check_insert(rows)?;
        let mut writer = Writer::new(self.dialect(), granted)?;
        if columns.is_empty() {
            writer.text("INSERT INTO ").table().text(" () VALUES ()");
        } else {
            writer.insert(&columns, &rows.iter().collect::<Vec<_>>(), Some(table))?;
        }
        check_values(self.dialect(), &writer)?;
        let key = table.key();
        let names_key = |row: &Row| key.iter().all(|column| row.get(*column).is_some_and(|value| !value.is_null()));
        let n_named = rows.iter().filter(|row| names_key(row)).count();
        if n_named > 0 && n_named < rows.len() {
            return Err(invalid("`insert` of several rows: all of them or none must name the primary key"));
        }
        self.json(writer.statement()).await?;
        let mut reader = Writer::new(self.dialect(), granted)?;
        reader.text("SELECT * FROM ").table().text(" WHERE (");
        if !key.is_empty() && n_named == rows.len() {
            for (nth, row) in rows.iter().enumerate() {
                let key = key.iter().map(|column| ((*column).to_owned(), row[*column].clone())).collect();
                reader.text(if nth == 0 { "(" } else { " OR (" }).equals("", &comparable(key, table))?.text(")");
            }
        } else if let ([key], true) = (&key[..], is_numbered(table)) {
            // The numbers of one INSERT follow each other.
            let n_more = Value::from(rows.len() - 1);
            reader.name(key)?.text(" BETWEEN LAST_INSERT_ID() AND LAST_INSERT_ID() + @@auto_increment_increment * ");
            reader.value("", &n_more);
        } else {
            // Nothing tells these rows from others.
            return serde_json::to_vec(rows).map_err(|_| invalid("the rows cannot be given back"));
        }
        reader.text(")").own("")?.text(" ORDER BY ").names(&key)?;
        Ok(self.json(reading(reader, granted.name())).await?.0)
    }
}

/// A value as its column can take it: JSON as text, and moments in UTC without an offset, which MariaDB does not read.
pub(super) fn fitting(value: &Value, column: &str, table: &Table) -> Value {
    let r#type = table.column(column, Dialect::MySql).map_or("", |column| column.data_type.as_str());
    match value {
        Value::Null => Value::Null,
        value if r#type == "json" => Value::from(value.to_string()),
        Value::String(text) if r#type.starts_with("datetime") || r#type.starts_with("timestamp") => {
            match chrono::DateTime::parse_from_rfc3339(text) {
                Ok(moment) => Value::from(moment.naive_utc().format("%Y-%m-%d %H:%M:%S%.6f").to_string()),
                Err(_) => value.clone(),
            }
        }
        value => value.clone(),
    }
}

/// A statement that reads the table.
fn reading(writer: Writer<'_>, name: &TableName) -> Statement {
    let Statement { template, value_columns, .. } = writer.statement();
    Statement::ours(template, value_columns, Form::Table { schema: name.schema.clone(), table: name.table.clone() })
}

/// Whether the key is one integer, which the database may number.
fn is_numbered(table: &Table) -> bool {
    let mut key = table.columns.iter().filter(|column| column.key_position > 0);
    matches!((key.next(), key.next()), (Some(column), None) if column.data_type.contains("int"))
}

/// The key with texts for columns of texts. To MySQL the number 0 equals every text that begins with no digit, so that a
/// wrong key would name all rows.
fn comparable(mut key: Row, table: &Table) -> Row {
    const TEXTS: [&str; 5] = ["char", "varchar", "enum", "set", "text"];
    for (column, value) in &mut key {
        let is_text = table.column(column, Dialect::MySql).is_some_and(|known| {
            let r#type = known.data_type.split('(').next().unwrap_or_default();
            TEXTS.iter().any(|text| r#type.ends_with(text))
        });
        match value {
            Value::Bool(is_true) if is_text => *value = Value::from(u8::from(*is_true).to_string()),
            Value::Number(number) if is_text => *value = Value::from(number.to_string()),
            _ => {}
        }
    }
    key
}
