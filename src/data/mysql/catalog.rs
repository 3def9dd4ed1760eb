//! MySQL's catalogue.

use crate::{
    data::{dialect::Dialect, read::catalog::Catalog, template::Template},
    domain::{sql::SqlError, value::SqlValue},
};

pub(super) const CATALOG: Catalog = Catalog {
    columns,
    tables: TABLES,
    schema: Some("SELECT 1 AS known FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = "),
};

const TABLES: &str = "SELECT s.SCHEMA_NAME AS `schema`, t.TABLE_NAME AS `table` FROM information_schema.SCHEMATA s \
             LEFT JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = s.SCHEMA_NAME \
             WHERE s.SCHEMA_NAME NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys') ORDER BY 1, 2";

fn columns(schema: Option<&str>, table: &str) -> Result<Template, SqlError> {
    Dialect::MySql.quoted_table(schema, table)?; // checks the names
    let mut template = Template::default();
    // The comments are for MariaDB, whose JSON is a text with a constraint.
    template.text(
        "SELECT c.COLUMN_NAME AS name, /*M!100500 CASE WHEN EXISTS (SELECT 1 FROM information_schema.CHECK_CONSTRAINTS j \
         WHERE j.CONSTRAINT_SCHEMA = c.TABLE_SCHEMA AND j.TABLE_NAME = c.TABLE_NAME \
         AND j.CHECK_CLAUSE = CONCAT('json_valid(`', REPLACE(c.COLUMN_NAME, '`', '``'), '`)')) \
         THEN 'json' ELSE */ c.COLUMN_TYPE /*M!100500 END */ AS data_type, c.IS_NULLABLE = 'YES' AS nullable, \
         c.EXTRA LIKE '%VIRTUAL GENERATED%' OR c.EXTRA LIKE '%STORED GENERATED%' AS generated, \
         NULL AS default_sql, CAST(IFNULL(k.SEQ_IN_INDEX, 0) AS SIGNED) AS key_position FROM information_schema.COLUMNS c \
         LEFT JOIN information_schema.STATISTICS k ON k.TABLE_SCHEMA = c.TABLE_SCHEMA \
         AND BINARY k.TABLE_NAME = BINARY c.TABLE_NAME AND k.INDEX_NAME = 'PRIMARY' AND k.COLUMN_NAME = c.COLUMN_NAME \
         WHERE c.TABLE_NAME = ",
    );
    template.value(SqlValue::from(table));
    // This catalogue does not know case, but most servers have tables that differ in nothing else.
    template.text(" AND (@@lower_case_table_names > 0 OR BINARY c.TABLE_NAME = ");
    template.value(SqlValue::from(table));
    template.text(")");
    template.text(" AND c.TABLE_SCHEMA = ");
    match schema {
        Some(schema) => template.value(SqlValue::from(schema)),
        None => template.text("DATABASE()"),
    }
    template.text(" ORDER BY c.ORDINAL_POSITION");
    Ok(template)
}
