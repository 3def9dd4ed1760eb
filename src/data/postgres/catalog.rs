//! PostgreSQL's catalogue.

use crate::{
    data::{dialect::Dialect, read::catalog::Catalog, template::Template},
    domain::{sql::SqlError, value::SqlValue},
};

pub(super) const CATALOG: Catalog = Catalog {
    columns,
    tables: TABLES,
    schema: Some("SELECT 1 AS known FROM pg_catalog.pg_namespace WHERE nspname = "),
};

const TABLES: &str = "SELECT n.nspname::text AS schema, c.relname::text AS \"table\" FROM pg_catalog.pg_namespace n \
             LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
             AND NOT c.relispartition AND pg_catalog.has_table_privilege(c.oid, 'SELECT') \
             WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' \
             AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') ORDER BY 1, 2";

fn columns(schema: Option<&str>, table: &str) -> Result<Template, SqlError> {
    let quoted = Dialect::Postgres.quoted_table(schema, table)?;
    let mut template = Template::default();
    template.text(
        "SELECT a.attname::text AS name, pg_catalog.format_type(a.atttypid, a.atttypmod) AS data_type, \
         NOT a.attnotnull AS nullable, (a.attgenerated <> '' OR a.attidentity = 'a') AS generated, \
         NULL::text AS default_sql, \
         coalesce(pg_catalog.array_position(i.indkey::int2[], a.attnum) + 1, 0) AS key_position \
         FROM pg_catalog.pg_attribute a \
         JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
         LEFT JOIN pg_catalog.pg_index i ON i.indrelid = a.attrelid AND i.indisprimary \
         WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attrelid = pg_catalog.to_regclass(",
    );
    template.value(SqlValue::Text(quoted));
    template.text(") ORDER BY a.attnum");
    Ok(template)
}
