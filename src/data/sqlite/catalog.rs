//! SQLite's catalogue.

use crate::{
    data::{dialect::Dialect, read::catalog::Catalog, template::Template},
    domain::{sql::SqlError, value::SqlValue},
};

pub(super) const CATALOG: Catalog = Catalog { columns, tables: TABLES, schema: None };

const TABLES: &str = "SELECT DISTINCT schema, CASE WHEN name LIKE 'sqlite\\_%' ESCAPE '\\' THEN NULL ELSE name END AS \"table\" \
             FROM pragma_table_list WHERE schema <> 'temp' AND type IN ('table', 'view', 'virtual') ORDER BY 1, 2";

fn columns(schema: Option<&str>, table: &str) -> Result<Template, SqlError> {
    Dialect::Sqlite.quoted_table(schema, table)?; // checks the names
    let mut template = Template::default();
    template.text(
        "SELECT name, type AS data_type, NOT \"notnull\" AS nullable, hidden IN (2, 3) AS generated, \
         dflt_value AS default_sql, pk AS key_position FROM pragma_table_xinfo(",
    );
    template.value(SqlValue::from(table));
    if let Some(schema) = schema {
        template.text(", ");
        template.value(SqlValue::from(schema));
    }
    template.text(") WHERE hidden <> 1 ORDER BY cid");
    Ok(template)
}
