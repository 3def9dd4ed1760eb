//! Moving a host or a tenant from one control database to another, of either kind.
//!
//! Owns: which rows are moved, in which order, and what becomes of ids. Never: the file in between, and what seals it.
//! Invariant: an import is one transaction, and an export one snapshot; both hold one row at a time in memory, and an import the ids of
//! one tenant and of all users.

use std::collections::HashMap;

use futures::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use sqlx::{Any, AssertSqlSafe, Row as _, any::AnyRow};
use zeroize::Zeroizing;

use crate::{
    db::{
        Db, DbError, Tx,
        sealed::{SEALED_COLUMNS, SealedFor},
        transfer::{
            row::{MovedRow, Value},
            tables::{Kind, Part, Rows, TABLES, Table},
        },
    },
    domain::names::{TenantId, TenantName},
};

pub mod row;
pub(in crate::db) mod tables;

/// Tenants of a host that are looked up at a time.
const TENANTS_AT_ONCE: i64 = 100;

/// What is moved.
#[derive(Debug, Clone)]
pub struct Selection {
    /// A tenant, or the whole host.
    pub tenant: Option<TenantId>,
    /// With the invocation log.
    pub with_log: bool,
}

/// A table as an export describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableLayout {
    /// Its name.
    pub name: String,
    /// The columns, in the order of a row's values.
    pub columns: Vec<String>,
}

/// The tables of every export of this program.
#[must_use]
pub fn layout() -> Vec<TableLayout> {
    let columns = |table: &Table| table.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
    TABLES.iter().map(|table| TableLayout { name: table.name.to_owned(), columns: columns(table) }).collect()
}

/// Statements that move rows.
#[derive(Debug, Clone, Copy)]
pub struct Transfer<'a>(pub(super) &'a Db);

impl<'a> Transfer<'a> {
    /// Gives all rows that are selected to `emit`, as they were at one moment, what is sealed opened by `unseal`.
    ///
    /// # Errors
    /// The outer error if the database fails, the inner one if `unseal` or `emit` does.
    pub async fn export<E: From<DbError> + Send>(
        self,
        selection: &Selection,
        unseal: impl Fn(&SealedFor, &[u8]) -> Result<Zeroizing<Vec<u8>>, E> + Send + Sync,
        mut emit: impl FnMut(MovedRow) -> Result<(), E> + Send,
    ) -> Result<(), E> {
        let mut tx = self.0.readers.begin_snapshot().await.map_err(DbError::from)?;
        let is_host = selection.tenant.is_none();
        let is_wanted = |table: &Table| match table.part {
            Part::Tenant | Part::Callers => true,
            Part::People => is_host,
            Part::Log => selection.with_log,
        };
        let tables = || (0_u16..).zip(TABLES).filter(|(_, table)| is_wanted(table));
        for (place, table) in tables().filter(|(_, table)| table.rows == Rows::Host) {
            export_table(&mut tx, place, table, None, &unseal, &mut emit).await?;
        }
        let mut after = 0;
        loop {
            let tenants = match selection.tenant {
                Some(tenant) => vec![tenant.0],
                None => next_tenants(&mut tx, after).await?,
            };
            for tenant in &tenants {
                for (place, table) in tables().filter(|(_, table)| table.rows != Rows::Host) {
                    export_table(&mut tx, place, table, Some(TenantId(*tenant)), &unseal, &mut emit).await?;
                }
            }
            match tenants.last() {
                Some(last) if is_host => after = *last,
                Some(_) | None => break,
            }
        }
        for (place, table) in tables().filter(|(_, table)| is_host && table.rows == Rows::TenantAndHost) {
            export_table(&mut tx, place, table, None, &unseal, &mut emit).await?;
        }
        Ok(())
    }

    /// Begins to take rows in. Nothing is kept before [`Import::finish`].
    ///
    /// # Errors
    /// The database fails.
    pub async fn begin_import(
        self,
        action: &str,
        target: &str,
        layout: &[TableLayout],
        rename: Option<TenantName>,
    ) -> Result<Import, DbError> {
        let layout = layout.iter().map(Incoming::new).collect::<Result<_, _>>()?;
        let tx = self.0.begin_change(None, action, target).await?;
        let is_on_server = self.0.writer.is_server();
        Ok(Import { tx, is_on_server, layout, rename, ids: HashMap::new(), late: Vec::new() })
    }
}

async fn next_tenants(tx: &mut Tx, after: i64) -> Result<Vec<i64>, DbError> {
    Ok(sqlx::query_scalar("SELECT id FROM tenant WHERE id > $1 ORDER BY id LIMIT $2")
        .bind(after)
        .bind(TENANTS_AT_ONCE)
        .fetch_all(&mut **tx)
        .await?)
}

async fn export_table<E: From<DbError> + Send>(
    tx: &mut Tx,
    place: u16,
    table: &Table,
    tenant: Option<TenantId>,
    unseal: &(impl Fn(&SealedFor, &[u8]) -> Result<Zeroizing<Vec<u8>>, E> + Sync),
    emit: &mut (impl FnMut(MovedRow) -> Result<(), E> + Send),
) -> Result<(), E> {
    let query = sqlx::query(AssertSqlSafe(table.select(tenant))).bind(tenant.map_or(0, |tenant| tenant.0));
    let mut rows = query.fetch(&mut **tx);
    while let Some(row) = rows.try_next().await.map_err(DbError::from)? {
        let mut values = read(table, &row).map_err(DbError::from)?;
        if let Some(place) = sealed_place(table) {
            let value = sealed_for(table, table.columns, &values)?;
            if let Value::Blob(sealed) = &values[place] {
                values[place] = Value::Blob(unseal(&value, sealed)?);
            }
        }
        emit(MovedRow { table: place, values })?;
    }
    Ok(())
}

fn read(table: &Table, row: &AnyRow) -> Result<Vec<Value>, sqlx::Error> {
    let value = |(place, (_, kind)): (usize, &(&str, Kind))| {
        Ok(match kind {
            Kind::Id | Kind::Of(_) | Kind::Late(_) | Kind::Past(_) | Kind::Integer => {
                row.try_get::<Option<i64>, _>(place)?.map_or(Value::Null, Value::Integer)
            }
            Kind::Text => row.try_get::<Option<String>, _>(place)?.map_or(Value::Null, Value::Text),
            Kind::Blob | Kind::Sealed => {
                let bytes = row.try_get::<Option<Vec<u8>>, _>(place)?;
                bytes.map_or(Value::Null, |bytes| Value::Blob(Zeroizing::new(bytes)))
            }
        })
    };
    table.columns.iter().enumerate().map(value).collect()
}

/// Whether rows of other tables name a table's rows by their ids.
fn is_referred_to(table: &str) -> bool {
    let names_it = |(_, kind): &(&str, Kind)| match kind {
        Kind::Of(to) | Kind::Late(to) | Kind::Past(to) => *to == table,
        Kind::Id | Kind::Integer | Kind::Text | Kind::Blob | Kind::Sealed => false,
    };
    TABLES.iter().any(|other| other.columns.iter().any(names_it))
}

fn sealed_place(table: &Table) -> Option<usize> {
    table.columns.iter().position(|(_, kind)| *kind == Kind::Sealed)
}

/// What the sealed value of a row is sealed for.
fn sealed_for(table: &Table, columns: &[(&str, Kind)], values: &[Value]) -> Result<SealedFor, DbError> {
    let value = |name: &str| columns.iter().position(|(column, _)| *column == name).map(|place| &values[place]);
    let sealed = SEALED_COLUMNS.iter().find(|sealed| sealed.table == table.name);
    let kid = match value("kid") {
        Some(Value::Text(kid)) => kid.clone(),
        _ => String::new(),
    };
    match (sealed, value("tenant_id"), value("id")) {
        (Some(sealed), Some(Value::Integer(tenant)), Some(Value::Integer(id))) => {
            Ok((sealed.of)(TenantId(*tenant), *id, kid))
        }
        _ => Err(DbError::corrupt("export", "a sealed value belongs to nothing")),
    }
}

/// A table as an export has it, and as it is here.
#[derive(Debug)]
struct Incoming {
    table: &'static Table,
    columns: Vec<(&'static str, Kind)>,
    insert: String,
}

impl Incoming {
    fn new(layout: &TableLayout) -> Result<Self, DbError> {
        let unknown =
            |what: &str| DbError::corrupt("export", format!("it has a {what}, which this pqhost does not know"));
        let TableLayout { name, columns } = layout;
        let table = TABLES.iter().find(|table| table.name == name);
        let table = table.ok_or_else(|| unknown(&format!("table `{name}`")))?;
        let column = |name: &String| {
            let known = table.columns.iter().find(|(column, _)| column == name);
            known.copied().ok_or_else(|| unknown(&format!("column `{}.{name}`", table.name)))
        };
        let columns = columns.iter().map(column).collect::<Result<Vec<_>, _>>()?;
        let inserted: Vec<_> = columns.iter().filter(|(_, kind)| *kind != Kind::Id).map(|(name, _)| *name).collect();
        let places: Vec<_> = (1..=inserted.len()).map(|place| format!("${place}")).collect();
        let returning = columns.iter().find(|(_, kind)| *kind == Kind::Id);
        let returning = returning.map(|(name, _)| format!(" RETURNING {name}")).unwrap_or_default();
        let insert =
            format!("INSERT INTO {} ({}) VALUES ({}){returning}", table.name, inserted.join(", "), places.join(", "));
        Ok(Self { table, columns, insert })
    }
}

/// A reference to a row that was not there yet.
#[derive(Debug)]
struct LateReference {
    table: &'static str,
    column: &'static str,
    id: i64,
    to: (&'static str, i64),
}

/// An import that has begun. Dropping it undoes everything.
#[derive(Debug)]
pub struct Import {
    tx: Tx,
    is_on_server: bool,
    layout: Vec<Incoming>,
    rename: Option<TenantName>,
    /// From a table and an id in the export to the id here.
    ids: HashMap<(&'static str, i64), i64>,
    late: Vec<LateReference>,
}

impl Import {
    /// Whether the host has neither tenants nor users.
    ///
    /// # Errors
    /// The database fails.
    pub async fn is_host_empty(&mut self) -> Result<bool, DbError> {
        let rows: i64 =
            sqlx::query_scalar("SELECT (SELECT COUNT(*) FROM tenant) + (SELECT COUNT(*) FROM user_account)")
                .fetch_one(&mut *self.tx)
                .await?;
        Ok(rows == 0)
    }

    /// Takes in a row. `seal` seals what it holds for this host.
    ///
    /// # Errors
    /// [`DbError::NameTaken`] when there is a tenant of that name, [`DbError::Corrupt`] when the row does not fit, or the database fails.
    pub async fn insert(&mut self, row: MovedRow, seal: impl Fn(&SealedFor, &[u8]) -> Vec<u8>) -> Result<(), DbError> {
        let Some(Incoming { table, columns, insert }) = self.layout.get(usize::from(row.table)) else {
            return Err(DbError::corrupt("export", "a row is of no table"));
        };
        let (table, columns, insert) = (*table, columns.clone(), insert.clone());
        let mut values = row.values;
        if values.len() != columns.len() {
            return Err(DbError::corrupt("export", format!("a row of `{}` has another number of values", table.name)));
        }
        if table.part == Part::Callers && self.rename.is_some() {
            return Ok(());
        }
        if table.name == "tenant" {
            self.set_late_references().await?;
            self.ids.retain(|(table, _), _| *table == "user_account");
            if let (Some(name), Some(place)) = (&self.rename, columns.iter().position(|(column, _)| *column == "name"))
            {
                values[place] = Value::Text(name.to_string());
            }
        }
        let mut old_id = None;
        let mut late = Vec::new();
        let mut sealed = None;
        for ((column, kind), value) in columns.iter().zip(&mut values) {
            match (kind, &*value) {
                (Kind::Id, Value::Integer(id)) => old_id = Some(*id),
                (Kind::Of(to), Value::Integer(id)) => {
                    let missing = || DbError::corrupt("export", format!("`{}.{column}` refers to no row", table.name));
                    *value = Value::Integer(*self.ids.get(&(*to, *id)).ok_or_else(missing)?);
                }
                (Kind::Past(to), Value::Integer(id)) => {
                    *value = Value::Integer(self.ids.get(&(*to, *id)).copied().unwrap_or(0));
                }
                (Kind::Late(to), Value::Integer(id)) => {
                    late.push((*column, (*to, *id)));
                    *value = Value::Null;
                }
                (Kind::Sealed, Value::Blob(_)) => {
                    // Sealed for the new id, once that is known; nobody sees it before.
                    sealed = Some((*column, std::mem::replace(value, Value::Blob(Zeroizing::default()))));
                }
                _ => {}
            }
        }
        let Some(old_id) = old_id else {
            return self.execute(table, &insert, &columns, &values).await.map(|_| ());
        };
        let id = self.execute(table, &insert, &columns, &values).await?;
        let id = id.ok_or_else(|| DbError::corrupt("export", "a row got no id"))?;
        if is_referred_to(table.name) {
            self.ids.insert((table.name, old_id), id);
        }
        self.late.extend(late.into_iter().map(|(column, to)| LateReference { table: table.name, column, id, to }));
        if let Some((column, Value::Blob(plain))) = sealed {
            if let Some(place) = columns.iter().position(|(_, kind)| *kind == Kind::Id) {
                values[place] = Value::Integer(id);
            }
            let value = seal(&sealed_for(table, &columns, &values)?, &plain);
            let update = format!("UPDATE {} SET {column} = $2 WHERE id = $1", table.name);
            sqlx::query(AssertSqlSafe(update)).bind(id).bind(value).execute(&mut *self.tx).await?;
        }
        Ok(())
    }

    /// Keeps everything.
    ///
    /// # Errors
    /// The database fails.
    pub async fn finish(mut self) -> Result<(), DbError> {
        self.set_late_references().await?;
        Ok(self.tx.commit().await?)
    }

    async fn execute(
        &mut self,
        table: &Table,
        insert: &str,
        columns: &[(&str, Kind)],
        values: &[Value],
    ) -> Result<Option<i64>, DbError> {
        let mut query = sqlx::query::<Any>(AssertSqlSafe(insert.to_owned()));
        for ((column, kind), value) in columns.iter().zip(values).filter(|((_, kind), _)| *kind != Kind::Id) {
            query = match (kind, value) {
                // PostgreSQL takes no such text. SQLite does.
                (Kind::Text, Value::Text(text)) if self.is_on_server && text.contains('\0') => match table.part {
                    Part::Log => query.bind(text.replace('\0', "\u{fffd}")),
                    Part::Tenant | Part::Callers | Part::People => {
                        let what =
                            format!("`{}.{column}` has a text with a NUL, which PostgreSQL does not take", table.name);
                        return Err(DbError::corrupt("export", what));
                    }
                },
                (Kind::Text, Value::Text(text)) => query.bind(text.clone()),
                (Kind::Text, Value::Null) => query.bind(None::<String>),
                (Kind::Blob | Kind::Sealed, Value::Blob(bytes)) => query.bind(bytes.to_vec()),
                (Kind::Blob | Kind::Sealed, Value::Null) => query.bind(None::<Vec<u8>>),
                (Kind::Of(_) | Kind::Late(_) | Kind::Past(_) | Kind::Integer, Value::Integer(number)) => {
                    query.bind(*number)
                }
                (Kind::Of(_) | Kind::Late(_) | Kind::Past(_) | Kind::Integer, Value::Null) => query.bind(None::<i64>),
                _ => {
                    let what = format!("a value of `{}.{column}` is of another type", table.name);
                    return Err(DbError::corrupt("export", what));
                }
            };
        }
        let inserted = query.fetch_optional(&mut *self.tx).await;
        let row = inserted.map_err(|error| match error.as_database_error() {
            Some(cause) if cause.is_unique_violation() => {
                let named = |((column, _), value): (&(&str, Kind), &Value)| match (*column, value) {
                    ("name" | "email" | "id", Value::Text(name)) => Some(name.clone()),
                    _ => None,
                };
                let name = columns.iter().zip(values).find_map(named).unwrap_or_default();
                DbError::NameTaken { what: table.name, name }
            }
            _ => error.into(),
        })?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    async fn set_late_references(&mut self) -> Result<(), DbError> {
        for LateReference { table, column, id, to } in std::mem::take(&mut self.late) {
            // A version that was live once may be gone; nothing is live then.
            let Some(to) = self.ids.get(&to) else { continue };
            let update = format!("UPDATE {table} SET {column} = $2 WHERE id = $1");
            sqlx::query(AssertSqlSafe(update)).bind(id).bind(*to).execute(&mut *self.tx).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_that_rows_refer_to_are_remembered() {
        let has_id = |table: &&Table| table.columns.iter().any(|(_, kind)| *kind == Kind::Id);
        let (referred_to, others): (Vec<_>, Vec<_>) =
            TABLES.iter().filter(has_id).map(|table| table.name).partition(|name| is_referred_to(name));
        assert!(referred_to.contains(&"user_account") && referred_to.contains(&"version"), "{referred_to:?}");
        assert!(others.contains(&"egress_rule") && others.contains(&"signing_key"), "{others:?}");
    }
}
