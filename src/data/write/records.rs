//! Keeping records in a table that is made to fit them.
//!
//! Owns: creating what is missing, and replacing rows by their key. Never: changes the type of a column that is there.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::{
    data::{
        Database,
        dialect::{Dialect, invalid, shown, shown_table},
        read::{catalog::Table, scope::Granted},
        transaction::Author,
        write::{
            change::{Writer, columns_of, text_of},
            define::{FieldType, add_column_statement, create_statement},
        },
    },
    domain::{
        sql::{SqlError, SqlErrorCode, TableName, TableWrite},
        value::{Record, SqlValue},
    },
};

/// Attempts to make the table fit. One is enough, unless others change the table at the same moment.
const ATTEMPTS: usize = 4;
/// Values of one statement, at most: large enough that round trips matter little, small enough for a statement's time.
const CHUNK_VALUES: usize = 20_000;

impl Database {
    /// Keeps records: creates the schema, the table and columns where they are missing, and replaces rows with the same
    /// key. Of records with the same key the last one counts. All records are kept or none; what was created stays.
    /// Gives the number of records.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a record without its key, a value that is none of its column's type, a key that is not the
    /// table's; what the database says.
    pub async fn write(&self, write: TableWrite) -> Result<u64, SqlError> {
        let TableWrite { table: name, records, types, key } = write;
        self.check_name(&name.database)?;
        let granted = self.grant_whole(name, "write", "use `insert`, `update` or `upsert`")?;
        let types = declared_types(&types)?;
        let n_records = records.len() as u64;
        if records.is_empty() {
            return Ok(0);
        }
        if records.iter().any(Record::is_empty) {
            return Err(invalid("a record without any field cannot be kept"));
        }
        let mut attempt = 1;
        loop {
            let result = self.try_write(&granted, &records, &types, &key).await;
            match result {
                Err(error) if attempt < ATTEMPTS && !self.is_inside() && is_outdated(error.code) => {
                    self.tables().forget(granted.name());
                    attempt += 1;
                }
                result => return result.map(|()| n_records),
            }
        }
    }

    async fn try_write(
        &self,
        granted: &Granted,
        records: &[Record],
        types: &HashMap<String, FieldType>,
        key: &[String],
    ) -> Result<(), SqlError> {
        let name = granted.name();
        let columns = columns_of(records)?;
        let inferred = inferred_types(records);
        let type_of =
            |column: &str| types.get(column).or_else(|| inferred.get(column)).copied().unwrap_or(FieldType::Text);
        let table = match self.table(name).await {
            Ok(table) => table,
            Err(error) if matches!(error.code, SqlErrorCode::UnknownTable | SqlErrorCode::UnknownSchema) => {
                check_key(key, records)?;
                if let (SqlErrorCode::UnknownSchema, Some(schema)) = (error.code, &name.schema) {
                    self.create_schema("", schema).await?;
                }
                let declared = types.keys().map(String::as_str).filter(|column| !columns.contains(column));
                let mut fields: Vec<_> = columns.iter().map(|column| ((*column).to_owned(), type_of(column))).collect();
                let mut declared: Vec<_> = declared.map(|column| (column.to_owned(), types[column])).collect();
                declared.sort_by(|one, other| one.0.cmp(&other.0));
                fields.append(&mut declared);
                match self.perform(create_statement(self.dialect(), granted, &fields, key, true)?).await {
                    // PostgreSQL's way to say that somebody else has just created it.
                    Err(error) if error.code == SqlErrorCode::ConstraintViolated && !self.is_inside() => {}
                    result => result?,
                }
                self.tables().forget(name);
                self.table(name).await?
            }
            Err(error) => return Err(error),
        };
        let missing: Vec<&str> =
            columns.iter().copied().filter(|column| table.column(column, self.dialect()).is_none()).collect();
        for column in &missing {
            self.add_column(granted, column, type_of(column)).await?;
        }
        let table = if missing.is_empty() {
            table
        } else {
            self.tables().forget(name);
            self.table(name).await?
        };
        self.put_records(granted, records, &columns, &table, key).await
    }

    /// Adds a column, unless somebody else has just added one of exactly this name.
    async fn add_column(&self, granted: &Granted, column: &str, r#type: FieldType) -> Result<(), SqlError> {
        match self.perform(add_column_statement(self.dialect(), granted, column, r#type)?).await {
            Err(error) if error.code == SqlErrorCode::AlreadyExists && !self.is_inside() => {
                self.tables().forget(granted.name());
                let table = self.table(granted.name()).await?;
                if table.columns.iter().any(|known| known.name == column) { Ok(()) } else { Err(error) }
            }
            result => result,
        }
    }

    /// Inserts or replaces, in one transaction when it takes several statements.
    async fn put_records(
        &self,
        granted: &Granted,
        records: &[Record],
        columns: &[&str],
        table: &Table,
        key: &[String],
    ) -> Result<(), SqlError> {
        let name = granted.name();
        let table_key = table.key();
        let key = effective_key(name, &table_key, key)?;
        // A key that the database numbers may be left out, by all records or by none.
        let is_numbered = !key.is_empty() && !columns.contains(&key[0].as_str());
        let is_keyed = !key.is_empty() && !is_numbered;
        if is_keyed {
            check_key(&key, records)?;
        }
        if is_keyed && self.dialect() == Dialect::MySql && self.has_other_unique_keys(name).await? {
            let table = shown_table(name.schema.as_deref(), &name.table);
            return Err(invalid(format!(
                "table {table} has a unique key besides its primary key, and MySQL would replace the row of either: use \
                 `upsert` for each record"
            )));
        }
        let rows = if is_keyed { last_of_each(records, &key) } else { records.iter().collect() };
        let n_values = self.dialect().values_max().min(CHUNK_VALUES);
        let chunks: Vec<&[&Record]> = rows.chunks((n_values / columns.len().max(1)).max(1)).collect();
        let key: Vec<&str> = key.iter().map(String::as_str).collect();
        let changed: Vec<&str> = columns.iter().copied().filter(|column| !key.contains(column)).collect();
        let statement = |chunk: &[&Record]| {
            let mut writer = Writer::new(self.dialect(), granted)?;
            writer.insert(columns, chunk, Some(table))?;
            if is_keyed {
                writer.on_conflict(&key, &changed, Some(table))?;
            }
            Ok::<_, SqlError>(writer.typed_statement(table))
        };
        if self.is_inside() || chunks.len() == 1 {
            for chunk in chunks {
                self.perform(statement(chunk)?).await?;
            }
            return Ok(());
        }
        let transaction = self.begin_for(Author::Host).await?;
        let inside = self.again().inside(transaction.clone());
        for chunk in chunks {
            inside.perform(statement(chunk)?).await?; // dropping the transaction rolls it back
        }
        drop(inside);
        transaction.commit().await
    }
}

/// For each column the type that keeps all values that records have for it.
fn inferred_types(records: &[Record]) -> HashMap<&str, FieldType> {
    let mut types = HashMap::new();
    for (column, value) in records.iter().flatten() {
        if let Some(r#type) = FieldType::of(value) {
            types
                .entry(column.as_str())
                .and_modify(|known: &mut FieldType| *known = known.with(r#type))
                .or_insert(r#type);
        }
    }
    types
}

/// Tells whether an error may mean that the table is not as it was remembered.
fn is_outdated(code: SqlErrorCode) -> bool {
    matches!(
        code,
        SqlErrorCode::UnknownTable
            | SqlErrorCode::UnknownSchema
            | SqlErrorCode::UnknownColumn
            | SqlErrorCode::AlreadyExists
    )
}

/// The columns that name a row: those asked for, which must be the table's, or the table's.
fn effective_key(name: &TableName, table_key: &[&str], asked: &[String]) -> Result<Vec<String>, SqlError> {
    let is_same = asked.len() == table_key.len() && asked.iter().all(|column| table_key.contains(&column.as_str()));
    if asked.is_empty() || is_same {
        return Ok(table_key.iter().map(|column| (*column).to_owned()).collect());
    }
    let table = shown_table(name.schema.as_deref(), &name.table);
    let has = if table_key.is_empty() {
        "it has no primary key".to_owned()
    } else {
        format!("its primary key is ({})", table_key.join(", "))
    };
    let asked = shown(&asked.join(", "));
    Err(invalid(format!("table {table} exists and cannot be written with `pk` ({asked}): {has}")))
}

fn check_key(key: &[String], records: &[Record]) -> Result<(), SqlError> {
    for (nth, record) in records.iter().enumerate() {
        if let Some(missing) = key.iter().find(|column| record.get(*column).is_none_or(SqlValue::is_null)) {
            return Err(invalid(format!("record {} has no `{}`, which is part of its `pk`", nth + 1, shown(missing))));
        }
    }
    Ok(())
}

/// The records without those that a later one replaces.
fn last_of_each<'a>(records: &'a [Record], key: &[String]) -> Vec<&'a Record> {
    let key_of = |record: &Record| key.iter().filter_map(|column| record.get(column)).map(text_of).collect::<Vec<_>>();
    let mut last = HashMap::new();
    for (nth, record) in records.iter().enumerate() {
        last.insert(key_of(record), nth);
    }
    let is_last = |(nth, record): &(usize, &Record)| last.get(&key_of(record)) == Some(nth);
    records.iter().enumerate().filter(is_last).map(|(_, record)| record).collect()
}

/// Types from a JSON schema (`{"properties": {"a": {"type": ["null", "string"], "format": "date-time"}}}`), or from column
/// to type.
fn declared_types(schema: &Map<String, Value>) -> Result<HashMap<String, FieldType>, SqlError> {
    let properties = match schema.get("properties") {
        Some(Value::Object(properties)) => properties,
        _ => schema,
    };
    let mut types = HashMap::new();
    for (column, declared) in properties {
        let unreadable = || invalid(format!("`object_schema`: the type of `{}` cannot be read", shown(column)));
        let (declared, format) = match declared {
            Value::Object(property) => (
                property.get("type").ok_or_else(unreadable)?,
                property.get("format").and_then(Value::as_str).unwrap_or_default(),
            ),
            other => (other, ""),
        };
        let names: Vec<&str> = match declared {
            Value::String(name) => vec![name],
            Value::Array(names) => names.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect(),
            _ => return Err(unreadable()),
        };
        let found = match (&names[..], format) {
            (["string"], "date-time" | "date" | "time" | "uuid") => FieldType::parse(format)?,
            // A JSON schema's integer has no size.
            (["integer"], _) => FieldType::BigInteger,
            ([name], _) => FieldType::parse(name)?,
            _ => FieldType::Json,
        };
        types.insert(column.clone(), found);
    }
    Ok(types)
}
