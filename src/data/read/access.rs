//! The part of a database that one caller may reach.
//!
//! Owns: keeping a [`Database`] within a caller's scope. Never: decides what the scope is (see `scope`).

use crate::{
    data::{
        Database,
        dialect::shown_table,
        read::scope::{Granted, Scope, not_named, refused},
    },
    domain::{
        rows::{ReachableTable, RowScope},
        sql::{SqlError, TableName},
    },
};

impl Database {
    /// The same database, as far as a caller may reach it; `None` is a caller without row filters.
    ///
    /// # Errors
    ///
    /// `NotAllowed` if the filters do not name this connection.
    pub fn scoped(self, rows: Option<&RowScope>) -> Result<Self, SqlError> {
        let scope = Scope::of(rows, self.connection());
        if let Scope::Nothing = scope {
            return Err(not_named(self.connection().as_str()));
        }
        Ok(self.within(scope))
    }

    /// The table that a script means, if the caller may reach it.
    pub(crate) fn grant(&self, name: TableName) -> Result<Granted, SqlError> {
        self.scope().table(name)
    }

    /// The table that a script means, if the caller may reach all rows of it. `instead` is what to do otherwise.
    pub(crate) fn grant_whole(&self, name: TableName, what: &str, instead: &str) -> Result<Granted, SqlError> {
        let granted = self.grant(name)?;
        if granted.only().is_some() {
            let table = shown_table(granted.name().schema.as_deref(), &granted.name().table);
            return Err(refused(format!("`{what}` is not for callers with a row filter of table {table}: {instead}")));
        }
        Ok(granted)
    }

    /// Fails unless the caller may reach everything of this connection.
    pub(crate) fn check_open(&self, what: &str) -> Result<(), SqlError> {
        match self.scope() {
            Scope::All => Ok(()),
            Scope::Tables(_) | Scope::Nothing => {
                let message = format!(
                    "{what} is not for callers with row filters on connection `{}`: use the functions that name a table",
                    self.connection()
                );
                Err(refused(message))
            }
        }
    }

    /// Tells whether the caller may know of a table, or of a schema without one.
    pub(crate) fn shows(&self, schema: &str, table: Option<&str>) -> bool {
        let schema_of = |known: &ReachableTable| known.schema.as_deref().unwrap_or(self.default_schema()) == schema;
        match self.scope() {
            Scope::All => true,
            Scope::Nothing => false,
            Scope::Tables(tables) => tables.iter().any(|known| Some(&*known.table) == table && schema_of(known)),
        }
    }
}
