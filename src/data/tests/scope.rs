//! What callers with row filters reach.

use std::sync::Arc;

use super::*;
use crate::domain::{
    rows::{Reachable, ReachableTable, RowCondition, RowScope, Scalar},
    sql::{NewTable, TableWrite},
};

/// Orders of the customers 17, 18 and of nobody.
const ORDERS: &str = "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER, note VARCHAR(40) UNIQUE);
    INSERT INTO orders VALUES (1, 17, 'a'), (2, 18, 'b'), (3, 17, 'c'), (4, NULL, 'd');
    CREATE VIEW all_orders AS SELECT * FROM orders; CREATE TABLE empty (id INTEGER PRIMARY KEY)";

/// The same database thrice.
async fn everywhere(setup: &str) -> [Fixture; 3] {
    let [postgres, sqlite] = both(setup).await;
    [postgres, sqlite, Fixture::mysql(setup).await]
}

impl Fixture {
    /// Where [`Fixture::name`] says that tables are.
    fn reachable(&self, table: &str, only: Option<(&str, Scalar)>) -> Reachable {
        let TableName { schema, table, .. } = self.name(table);
        let only = only.map(|(column, value)| RowCondition { column: column.to_owned(), value });
        Reachable { connection: self.target.name.clone(), table: Some(ReachableTable { schema, table, only }) }
    }

    fn from(&self, table: &str) -> Select {
        let TableName { schema, table, .. } = self.name(table);
        Select { schema, table: Some(table), ..Select::default() }
    }

    fn scoped(&self, reachable: Vec<Reachable>) -> Database {
        self.database().scoped(Some(&RowScope(reachable))).unwrap()
    }

    /// The database for who reaches the rows of one table with a value in a column.
    fn only(&self, table: &str, column: &str, value: impl Into<Scalar>) -> Database {
        self.scoped(vec![self.reachable(table, Some((column, value.into())))])
    }
}

impl From<i64> for Scalar {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<&str> for Scalar {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl Database {
    async fn read(&self, select: Select) -> Result<Vec<Value>, SqlError> {
        let mut cursor = self.fetch(select).await?;
        let mut rows = Vec::new();
        while let Some(batch) = cursor.next_batch(RowFormat::Json).await? {
            rows.extend(serde_json::from_slice::<Vec<Value>>(&batch).unwrap());
        }
        Ok(rows)
    }

    async fn ids(&self, select: Select) -> Vec<i64> {
        let mut ids: Vec<_> = self.read(select).await.unwrap().iter().map(|row| row["id"].as_i64().unwrap()).collect();
        ids.sort_unstable();
        ids
    }

    async fn act(&self, table: TableName, action: Action) -> Result<Value, SqlError> {
        let rows = self.change(Change { table, action }, RowFormat::Json).await?;
        Ok(serde_json::from_slice(&rows).unwrap())
    }
}

#[tokio::test]
async fn a_restricted_caller_reads_only_what_its_filters_name() {
    for fixture in everywhere(ORDERS).await {
        let mine = fixture.only("orders", "customer_id", 17);
        assert_eq!(fixture.database().ids(fixture.from("orders")).await, [1, 2, 3, 4], "without a filter all are read");
        assert_eq!(mine.ids(fixture.from("orders")).await, [1, 3]);
        assert_eq!(mine.ids(Select { schema: None, ..fixture.from("orders") }).await, [1, 3], "the filter's schema");
        let filtered = |filter: Value| Select { filter: row(filter), ..fixture.from("orders") };
        for (filter, ids) in [
            (json!({"customer_id": 18}), &[][..]),
            (json!({"customer_id": [17, 18, null]}), &[1, 3]),
            (json!({"note": ["a", "b", null]}), &[1]),
            (json!({"customer_id": null}), &[]),
        ] {
            assert_eq!(mine.ids(filtered(filter.clone())).await, ids, "{filter}");
        }
        let page = Select { order_by: vec!["-id".into()], limit: Some(1), offset: Some(1), ..fixture.from("orders") };
        assert_eq!(mine.ids(page).await, [1]);
        let lists = Select { lists: true, order_by: vec!["id".into()], ..fixture.from("orders") };
        assert_eq!(mine.read(lists).await.unwrap(), [json!([1, 17, "a"]), json!([3, 17, "c"])]);
        let stream = mine.fetch(fixture.from("orders")).await.unwrap();
        assert_eq!(serde_json::from_slice::<Vec<Value>>(&streamed(stream).await.unwrap()).unwrap().len(), 2);

        let refused = async |select: Select| {
            let error = mine.read(select.clone()).await.unwrap_err();
            assert_eq!(error.code, SqlErrorCode::NotAllowed, "{select:?}: {error}");
            error.message
        };
        for table in ["all_orders", "empty", "Orders", "orders ", "ORDERS", "no_such"] {
            assert!(refused(fixture.from(table)).await.contains("do not name table"), "{table}");
        }
        for schema in ["", "public", "main", "information_schema"] {
            refused(Select { schema: Some(schema.into()), ..fixture.from("orders") }).await;
        }
        assert!(refused(query("SELECT 1")).await.starts_with("a statement of your own"));
        fixture.end().await;
    }
}

#[tokio::test]
async fn a_restricted_caller_is_shown_only_what_its_filters_name() {
    for fixture in everywhere(ORDERS).await {
        let mine = fixture.only("orders", "customer_id", 17);
        let TableName { schema: Some(schema), .. } = fixture.name("orders") else { panic!("a schema") };
        let shown: Vec<_> = mine.schemas().await.unwrap().into_iter().map(|s| (s.name, s.tables)).collect();
        assert_eq!(shown, [(schema.clone(), vec!["orders".to_owned()])]);
        assert!(mine.lists(&schema, "orders").await.unwrap());
        assert!(!mine.lists(&schema, "all_orders").await.unwrap());
        assert_eq!(mine.describe(&fixture.name("orders")).await.unwrap().len(), 3);
        for hidden in ["all_orders", "ORDERS"] {
            assert_eq!(mine.describe(&fixture.name(hidden)).await.unwrap_err().code, SqlErrorCode::NotAllowed);
        }
        fixture.end().await;
    }
}

#[tokio::test]
async fn a_restricted_caller_changes_only_its_own_rows() {
    for fixture in everywhere(ORDERS).await {
        let before = fixture.all("orders").await;
        let mine = fixture.only("orders", "customer_id", 17);
        let act = async |action: Action| mine.act(fixture.name("orders"), action).await;
        for (action, code) in [
            (update(json!(2), json!({"note": "x"})), SqlErrorCode::UnknownRow),
            (update(json!(4), json!({"note": "x"})), SqlErrorCode::UnknownRow),
            (update(json!(1), json!({"customer_id": 18})), SqlErrorCode::NotAllowed),
            (update(json!(1), json!({"customer_id": null})), SqlErrorCode::NotAllowed),
            (update(json!(1), json!({"customer_id": 17.0})), SqlErrorCode::NotAllowed),
            (update(json!(1), json!({"Customer_ID": 18})), SqlErrorCode::UnknownColumn),
            (update(json!(2), json!({"customer_id": 17})), SqlErrorCode::UnknownRow),
            (update(json!(1), json!({"id": 2})), SqlErrorCode::ConstraintViolated),
            (delete(json!(2)), SqlErrorCode::UnknownRow),
            (upsert(json!(2), json!({"note": "x"})), SqlErrorCode::ConstraintViolated),
            (upsert(json!(2), json!({})), SqlErrorCode::ConstraintViolated),
            (upsert(json!(9), json!({"customer_id": 18})), SqlErrorCode::NotAllowed),
            (upsert(json!(9), json!({"note": "b"})), SqlErrorCode::ConstraintViolated),
            (insert(json!({"id": 2})), SqlErrorCode::ConstraintViolated),
            (insert(json!({"id": 9, "customer_id": 18})), SqlErrorCode::NotAllowed),
            (insert(json!([{"id": 9}, {"id": 10, "customer_id": null}])), SqlErrorCode::NotAllowed),
            (insert(json!({"id": 9, "customer_id": 17, "CUSTOMER_ID": 18})), SqlErrorCode::UnknownColumn),
            (insert(json!({"id": 9, "customer_\u{130}d": 18})), SqlErrorCode::UnknownColumn),
        ] {
            let error = act(action.clone()).await.unwrap_err();
            assert_eq!(error.code, code, "{action:?}: {error}");
        }
        assert_eq!(fixture.all("orders").await, before, "nothing was changed");

        let row = |id: i64, note: Option<&str>| json!([{"id": id, "customer_id": 17, "note": note}]);
        assert_eq!(act(insert(json!({"id": 5}))).await.unwrap(), row(5, None));
        assert_eq!(act(insert(json!({"id": 6, "customer_id": "17", "note": "f"}))).await.unwrap(), row(6, Some("f")));
        assert_eq!(act(update(json!(1), json!({"customer_id": 17, "note": "x"}))).await.unwrap(), row(1, Some("x")));
        assert_eq!(act(update(json!(1), json!({"customer_id": 17}))).await.unwrap(), row(1, Some("x")));
        assert_eq!(act(upsert(json!(3), json!({"note": "y"}))).await.unwrap(), row(3, Some("y")));
        assert_eq!(act(upsert(json!(3), json!({}))).await.unwrap(), row(3, Some("y")));
        assert_eq!(act(upsert(json!(7), json!({"note": "z"}))).await.unwrap(), row(7, Some("z")));
        assert_eq!(act(delete(json!(5))).await.unwrap(), row(5, None));
        assert_eq!(mine.ids(fixture.from("orders")).await, [1, 3, 6, 7]);
        assert_eq!(fixture.database().ids(fixture.from("orders")).await, [1, 2, 3, 4, 6, 7]);
        fixture.end().await;
    }
}

#[tokio::test]
async fn what_makes_tables_needs_more_than_rows_of_one() {
    for fixture in everywhere(ORDERS).await {
        let rows = fixture.only("orders", "customer_id", 17);
        let whole = fixture.scoped(vec![fixture.reachable("empty", None), fixture.reachable("made", None)]);
        let open = fixture.scoped(vec![Reachable { connection: fixture.target.name.clone(), table: None }]);
        let write = |table: &str| TableWrite {
            table: fixture.name(table),
            records: vec![row(json!({"id": 2}))],
            ..TableWrite::default()
        };
        let new = |table: &str| NewTable { table: fixture.name(table), ..NewTable::default() };
        let is_refused = |error: SqlError| assert_eq!(error.code, SqlErrorCode::NotAllowed, "{error}");
        is_refused(rows.write(write("orders")).await.unwrap_err());
        is_refused(rows.write(write("other")).await.unwrap_err());
        is_refused(rows.create_table(new("orders")).await.unwrap_err());
        is_refused(rows.create_table(new("other")).await.unwrap_err());
        is_refused(whole.create_table(new("other")).await.unwrap_err());
        for database in [&rows, &whole] {
            is_refused(database.create_schema("", "other").await.unwrap_err());
            is_refused(database.read(query("SELECT 1 AS n")).await.unwrap_err());
        }
        assert_eq!(whole.write(write("empty")).await.unwrap(), 1);
        whole.create_table(new("made")).await.unwrap();
        assert_eq!(open.read(query("SELECT 1 AS n")).await.unwrap(), [json!({"n": 1})]);
        open.create_table(new("other")).await.unwrap();
        fixture.end().await;
    }
}

#[tokio::test]
async fn transactions_keep_a_caller_to_its_rows() {
    for fixture in everywhere(ORDERS).await {
        let mine = || fixture.only("orders", "customer_id", 17);
        let transaction = mine().begin().await.unwrap();
        let inside = || mine().inside(transaction.clone());
        assert_eq!(inside().ids(fixture.from("orders")).await, [1, 3]);
        assert_eq!(inside().read(query("SELECT 1")).await.unwrap_err().code, SqlErrorCode::NotAllowed);
        inside().act(fixture.name("orders"), upsert(json!(8), json!({"note": "h"}))).await.unwrap();
        let error =
            inside().act(fixture.name("orders"), update(json!(8), json!({"customer_id": 18}))).await.unwrap_err();
        assert_eq!(error.code, SqlErrorCode::NotAllowed, "refused before the database, so the transaction goes on");
        transaction.clone().commit().await.unwrap();
        assert_eq!(mine().ids(fixture.from("orders")).await, [1, 3, 8]);
        fixture.end().await;
    }
}

#[tokio::test]
async fn a_table_is_meant_clearly_or_not_at_all() {
    let fixture = Fixture::sqlite(&[("one", ORDERS), ("two", ORDERS)]);
    let in_schema = |schema: Option<&str>, value: i64| Reachable {
        connection: fixture.target.name.clone(),
        table: Some(ReachableTable {
            schema: schema.map(str::to_owned),
            table: "orders".to_owned(),
            only: Some(RowCondition { column: "customer_id".to_owned(), value: Scalar::Integer(value) }),
        }),
    };
    let orders = |schema: Option<&str>| Select {
        schema: schema.map(str::to_owned),
        table: Some("orders".to_owned()),
        ..Select::default()
    };
    let both = fixture.scoped(vec![in_schema(Some("one"), 17), in_schema(Some("two"), 18)]);
    assert_eq!(both.ids(orders(Some("one"))).await, [1, 3]);
    assert_eq!(both.ids(orders(Some("two"))).await, [2]);
    let error = both.read(orders(None)).await.unwrap_err();
    assert_eq!(error.message, "the row filters of this caller name `one.orders` and `two.orders`: give the schema");
    let default = fixture.scoped(vec![in_schema(None, 17)]);
    assert_eq!(default.ids(orders(None)).await, [1, 3]);
    assert_eq!(default.read(orders(Some("two"))).await.unwrap_err().code, SqlErrorCode::NotAllowed);

    let nothing = fixture.database().scoped(Some(&RowScope::default())).unwrap_err();
    assert_eq!(nothing.message, "the row filters of this caller do not name connection `dw_2`");
    let other = RowScope(vec![Reachable { connection: "other".parse().unwrap(), table: None }]);
    assert_eq!(fixture.database().scoped(Some(&other)).unwrap_err().code, SqlErrorCode::NotAllowed);
    assert_eq!(fixture.database().scoped(None).unwrap().ids(orders(Some("one"))).await.len(), 4);
    let mixed = vec![Reachable { connection: fixture.target.name.clone(), table: None }, in_schema(Some("one"), 17)];
    assert_eq!(fixture.scoped(mixed).read(query("SELECT 1")).await.unwrap_err().code, SqlErrorCode::NotAllowed);
}

/// In each database, what its own comparison takes for the same, and the filter does not.
#[tokio::test]
async fn values_are_compared_byte_by_byte() {
    // Type of the column, what it holds, and the filter's value.
    let mysql = [
        ("varchar(20)", "'ACME'", "acme".into()),
        ("varchar(20)", "'acme '", "acme".into()),
        ("varchar(20)", "'acmé'", "acme".into()),
        ("varchar(20)", "'acme'", "acme ".into()),
        ("varchar(20)", "'abc'", 0.into()),
        ("varchar(20)", "'17x'", 17.into()),
        ("varchar(20)", "'017'", 17.into()),
        ("varchar(20)", "'17.0'", 17.into()),
        ("int", "0", "abc".into()),
        ("int", "1", "1e0".into()),
        ("int", "17", "17abc".into()),
        ("int", "17", " 17".into()),
        ("bigint", "9007199254740993", "9007199254740992".into()),
        ("double", "9007199254740992", 9007199254740993.into()),
        ("decimal(10, 2)", "17", 17.into()),
        ("varchar(20) CHARACTER SET latin1", "_latin1 x'c3a9'", "é".into()),
        ("int", "NULL", 0.into()),
    ];
    let postgres = [
        ("text", "'ACME'", "acme".into()),
        ("text COLLATE blind", "'ACME'", "acme".into()),
        ("char(8)", "'acme'", "acme ".into()),
        ("varchar(20)", "'017'", 17.into()),
        ("numeric", "17.00", 17.into()),
        ("uuid", "'00000000-0000-0000-0000-0000000000aa'", "00000000-0000-0000-0000-0000000000AA".into()),
        ("double precision", "9007199254740992", 9007199254740993.into()),
        ("boolean", "true", "yes".into()),
        ("integer", "NULL", 0.into()),
    ];
    let sqlite = [
        ("TEXT COLLATE NOCASE", "'ACME'", "acme".into()),
        ("TEXT COLLATE RTRIM", "'acme '", "acme".into()),
        ("INTEGER", "1", "1e0".into()),
        ("INTEGER", "17", "017".into()),
        ("INTEGER", "17", " 17".into()),
        ("REAL", "17", 17.into()),
        ("", "17.0", 17.into()),
        ("", "x'61'", "a".into()),
        ("INTEGER", "NULL", 0.into()),
    ];
    let cases = postgres.map(|case| ("postgres", case)).into_iter();
    let cases = cases.chain(mysql.map(|case| ("mysql", case))).chain(sqlite.map(|case| ("sqlite", case)));
    for (dialect, (r#type, stored, value)) in cases {
        let setup = format!("CREATE TABLE t (id INTEGER PRIMARY KEY, c {type}); INSERT INTO t VALUES (1, {stored})");
        let blind = "CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level1', deterministic = false);";
        let fixture = match dialect {
            "postgres" => Fixture::postgres(&format!("{blind} {setup}")).await,
            "mysql" => Fixture::mysql(&setup).await,
            _ => Fixture::sqlite(&[("shop", &setup)]),
        };
        let value: Scalar = value;
        let theirs = fixture.only("t", "c", value.clone());
        // A value that is none of the column's type may be an error; what it may not be is a row.
        let read = theirs.read(fixture.from("t")).await.unwrap_or_default();
        assert_eq!(read, Vec::<Value>::new(), "{dialect} {type}: {stored} is not {value:?}");
        for action in [update(json!(1), json!({"id": 2})), delete(json!(1)), upsert(json!(1), json!({}))] {
            theirs.act(fixture.name("t"), action.clone()).await.expect_err("a row of nobody");
        }
        assert_eq!(fixture.database().ids(fixture.from("t")).await, [1], "{dialect} {type} {stored}");
        fixture.end().await;
    }
}

#[tokio::test]
async fn own_rows_are_found_whatever_type_tells_whose_they_are() {
    let uuid = "00000000-0000-0000-0000-0000000000aa";
    /// A type, the databases that have it, and values as they are stored and as a filter says them.
    type Case = (&'static str, &'static [&'static str], Vec<(&'static str, Scalar)>);
    let cases: [Case; 8] = [
        (
            "integer",
            &["postgres", "mysql", "sqlite"],
            vec![("17", 17.into()), ("17", "17".into()), ("-5", (-5).into())],
        ),
        ("bigint", &["postgres", "mysql", "sqlite"], vec![("9007199254740993", 9007199254740993.into())]),
        ("varchar(20)", &["postgres", "mysql", "sqlite"], vec![("'Acmé ''x'", "Acmé 'x".into()), ("'17'", 17.into())]),
        ("text", &["postgres", "mysql", "sqlite"], vec![("'ACME'", "ACME".into()), ("'x\\x'", "x\\x".into())]),
        ("char(8)", &["postgres", "mysql", "sqlite"], vec![("'acme'", "acme".into())]),
        ("numeric", &["postgres", "sqlite"], vec![("17", 17.into())]),
        ("uuid", &["postgres"], vec![("'00000000-0000-0000-0000-0000000000AA'", uuid.into())]),
        ("varchar(20) CHARACTER SET latin1", &["mysql"], vec![("'é'", "é".into())]),
    ];
    for (r#type, dialects, values) in cases {
        for (dialect, (stored, value)) in dialects.iter().flat_map(|dialect| values.iter().map(move |v| (*dialect, v)))
        {
            let stored = if dialect == "mysql" { stored.replace('\\', "\\\\") } else { (*stored).to_owned() };
            let setup =
                format!("CREATE TABLE t (id INTEGER PRIMARY KEY, c {type}); INSERT INTO t VALUES (1, {stored})");
            let fixture = match dialect {
                "postgres" => Fixture::postgres(&setup).await,
                "mysql" => Fixture::mysql(&setup).await,
                _ => Fixture::sqlite(&[("shop", &setup)]),
            };
            let mine = fixture.only("t", "c", value.clone());
            assert_eq!(mine.ids(fixture.from("t")).await, [1], "{dialect} {type} {value:?}");
            fixture.end().await;
        }
    }
}

#[tokio::test]
async fn a_column_that_changes_what_it_is_given_is_only_read() {
    // Each of these would make the new row, or one that is there, another caller's.
    let cases = [
        ("mysql", "varchar(3)", Scalar::from("acme")),
        ("mysql", "varchar(4)", "acme ".into()),
        ("mysql", "tinyint", 300.into()),
        ("mysql", "int unsigned", (-1).into()),
        ("mysql", "int GENERATED ALWAYS AS (id) STORED", 17.into()),
        ("postgres", "varchar(4)", "acme    ".into()),
        ("postgres", "\"char\"", "acme".into()),
        ("postgres", "name", "x".repeat(70).as_str().into()),
        ("postgres", "uuid", "00000000-0000-0000-0000-0000000000AA".into()),
        ("postgres", "integer", "017".into()),
        ("postgres", "integer GENERATED ALWAYS AS (id) STORED", 17.into()),
        ("sqlite", "INTEGER", "1e0".into()),
        ("sqlite", "JSON", "acme".into()),
        ("sqlite", "BLOB", "\\x00".into()),
        ("sqlite", "REAL", 17.into()),
        ("sqlite", "INTEGER AS (id) STORED", 17.into()),
    ];
    for (dialect, r#type, value) in cases {
        let setup = format!("SET sql_mode = ''; CREATE TABLE t (id INTEGER PRIMARY KEY, c {type})");
        let setup = if dialect == "mysql" { setup } else { setup["SET sql_mode = ''; ".len()..].to_owned() };
        let fixture = match dialect {
            "postgres" => Fixture::postgres(&setup).await,
            "mysql" => Fixture::mysql(&setup).await,
            _ => Fixture::sqlite(&[("shop", &setup)]),
        };
        let theirs = fixture.only("t", "c", value.clone());
        for action in [insert(json!({"id": 17})), upsert(json!(17), json!({}))] {
            let error = theirs.act(fixture.name("t"), action).await.unwrap_err();
            assert_eq!(error.code, SqlErrorCode::NotAllowed, "{dialect} {type} {value:?}: {error}");
        }
        assert_eq!(fixture.database().ids(fixture.from("t")).await, [0_i64; 0], "{dialect} {type} {value:?}");
        fixture.end().await;
    }
}

#[tokio::test]
async fn a_constraint_that_replaces_rows_replaces_none_of_others() {
    let fixture = Fixture::sqlite(&[(
        "shop",
        "CREATE TABLE t (id INTEGER PRIMARY KEY ON CONFLICT REPLACE, c INTEGER, u TEXT UNIQUE ON CONFLICT REPLACE);
         INSERT INTO t VALUES (1, 17, 'a'), (2, 18, 'b')",
    )]);
    let before = fixture.all("t").await;
    let mine = fixture.only("t", "c", 17);
    for action in [
        insert(json!({"id": 2})),
        insert(json!({"u": "b"})),
        update(json!(1), json!({"id": 2})),
        update(json!(1), json!({"u": "b"})),
        upsert(json!(1), json!({"u": "b"})),
        upsert(json!(2), json!({"u": "c"})),
    ] {
        let error = mine.act(fixture.name("t"), action.clone()).await.unwrap_err();
        assert_eq!(error.code, SqlErrorCode::ConstraintViolated, "{action:?}: {error}");
    }
    assert_eq!(fixture.all("t").await, before);
}

#[tokio::test]
async fn a_key_of_several_columns_may_say_whose_a_row_is() {
    let setup = "CREATE TABLE t (c INTEGER, id INTEGER, v INTEGER, PRIMARY KEY (c, id)); INSERT INTO t VALUES (17, 1, 0), (18, 1, 0)";
    for fixture in everywhere(setup).await {
        let mine = fixture.only("t", "c", 17);
        let act = async |action: Action| mine.act(fixture.name("t"), action).await;
        let key = |c: i64, id: i64| json!({"c": c, "id": id});
        assert_eq!(act(update(key(18, 1), json!({"v": 1}))).await.unwrap_err().code, SqlErrorCode::UnknownRow);
        assert_eq!(act(delete(key(18, 1))).await.unwrap_err().code, SqlErrorCode::UnknownRow);
        assert_eq!(act(upsert(key(18, 1), json!({"v": 1}))).await.unwrap_err().code, SqlErrorCode::NotAllowed);
        assert_eq!(act(upsert(key(18, 2), json!({}))).await.unwrap_err().code, SqlErrorCode::NotAllowed);
        assert_eq!(act(upsert(key(17, 1), json!({"v": 1}))).await.unwrap()[0]["v"], 1);
        assert_eq!(act(upsert(key(17, 2), json!({}))).await.unwrap()[0]["id"], 2);
        assert_eq!(fixture.all("t").await.as_array().unwrap().len(), 3);
        fixture.end().await;
    }
}

#[tokio::test]
async fn two_upserts_at_once_of_one_caller_both_succeed() {
    // MariaDB may call it a deadlock, as it does for callers without filters.
    for fixture in both(ORDERS).await {
        let mine = Arc::new(fixture.only("orders", "customer_id", 17));
        let one = |note: &'static str| mine.act(fixture.name("orders"), upsert(json!(50), json!({"note": note})));
        let (first, second) = tokio::join!(one("p"), one("q"));
        assert_eq!((first.unwrap()[0]["id"].clone(), second.unwrap()[0]["id"].clone()), (json!(50), json!(50)));
        fixture.end().await;
    }
}

/// Whatever is in the way of a caller's rows, errors do not show it.
#[tokio::test]
async fn errors_show_a_restricted_caller_nothing_of_other_rows() {
    let everyones =
        "CREATE TABLE t (id INTEGER PRIMARY KEY, c INTEGER, u VARCHAR(20) UNIQUE, n INTEGER CHECK (n < 100));
        CREATE TABLE refers (t INTEGER, theirs VARCHAR(20), FOREIGN KEY (t) REFERENCES t (id));
        INSERT INTO t VALUES (1, 17, '1', 1), (2, 18, 'sesame', -8765); INSERT INTO refers VALUES (1, 'sesame')";
    for fixture in everywhere(everyones).await {
        for action in [
            insert(json!({"id": 2, "n": 5})),
            insert(json!({"id": 3, "u": "sesame"})),
            update(json!(1), json!({"u": "sesame"})),
            upsert(json!(3), json!({"u": "sesame"})),
            update(json!(1), json!({"n": 1000})),
            delete(json!(1)),
        ] {
            let told = fixture.change("t", action.clone()).await.unwrap_err();
            let details = matches!(fixture.target.url.0, Driver::Postgres(_));
            assert_eq!(told.message.contains("DETAIL"), details, "to whom all rows are open: {told}");
            nothing_is_shown(&fixture, action, SqlErrorCode::ConstraintViolated).await;
        }
        fixture.end().await;
    }
}

#[tokio::test]
async fn errors_of_postgres_show_no_other_rows_either() {
    let postgres = Fixture::postgres(
        "CREATE TABLE t (id int PRIMARY KEY, c int, r int4range, later int4range, EXCLUDE USING gist (r WITH &&),
             EXCLUDE USING gist (later WITH &&) DEFERRABLE INITIALLY DEFERRED);
         INSERT INTO t VALUES (1, 17, '[1,5)', NULL), (2, 18, '[-8769,-8760)', '[-8769,-8760)');
         CREATE TABLE texts (id int, owner text, secret text); INSERT INTO texts VALUES (2, 'customer 18', 'sesame');
         CREATE VIEW numbers AS SELECT id, right(owner, 2)::int AS c, secret::int AS n FROM texts",
    )
    .await;
    for action in [insert(json!({"id": 3, "r": "[-8765,-8764)"})), update(json!(1), json!({"r": "[-8765,-8764)"}))] {
        nothing_is_shown(&postgres, action, SqlErrorCode::ConstraintViolated).await;
    }
    let deferred = postgres.only("t", "c", 17);
    let transaction = deferred.begin().await.unwrap();
    let inside = deferred.inside(transaction.clone());
    inside.act(postgres.name("t"), update(json!(1), json!({"later": "[-8765,-8764)"}))).await.unwrap();
    let error = transaction.commit().await.unwrap_err();
    assert_eq!(error.code, SqlErrorCode::ConstraintViolated);
    assert!(!error.message.contains("-876"), "{error}");
    // The server looks at the condition that costs less first.
    let filter = row(json!({"n": 5}));
    let error =
        postgres.only("numbers", "c", 17).read(Select { filter, ..postgres.from("numbers") }).await.unwrap_err();
    assert_eq!(error.message, "a value is not one that a column or an expression can take (SQLSTATE 22P02)");
    postgres.end().await;
}

#[tokio::test]
async fn errors_of_mysql_show_no_other_rows_either() {
    let mysql = Fixture::mysql(
        "CREATE TABLE t (id VARCHAR(20) PRIMARY KEY, c INT); INSERT INTO t VALUES ('sesame', 18);
         CREATE TABLE u (id INT PRIMARY KEY, c INT, secret VARCHAR(20)); INSERT INTO u VALUES (1, 17, ''), (2, 18, 'sesame');
         CREATE TRIGGER copies BEFORE UPDATE ON u FOR EACH ROW SET NEW.id = (SELECT secret FROM u WHERE c = 18)",
    )
    .await;
    nothing_is_shown(&mysql, update(json!(5), json!({"c": 17})), SqlErrorCode::UnknownRow).await;
    let error =
        mysql.only("u", "c", 17).act(mysql.name("u"), update(json!(1), json!({"secret": "x"}))).await.unwrap_err();
    assert_eq!(error.message, "a value is not one that a column or an expression can take (SQLSTATE 22007)");
    mysql.end().await;
}

#[tokio::test]
async fn errors_of_sqlite_show_no_other_rows_either() {
    let sqlite = Fixture::sqlite(&[(
        "shop",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, c INTEGER, path TEXT); INSERT INTO t VALUES (2, 18, 'sesame');
         CREATE VIEW picked AS SELECT id, c, json_extract('{}', path) AS v FROM t",
    )]);
    let filter = row(json!({"v": 5}));
    let picked = || Select { filter: filter.clone(), ..sqlite.from("picked") };
    assert!(sqlite.rows(picked()).await.unwrap_err().message.contains("sesame"), "to whom all rows are open");
    let error = sqlite.only("picked", "c", 17).read(picked()).await.unwrap_err();
    assert_eq!(error.message, "a value that is used as a JSON path is not one: paths look like `$.name`");
}

/// Tries a change of `t` as customer 17: outside of a transaction, inside, and what is said of the transaction then.
async fn nothing_is_shown(fixture: &Fixture, action: Action, code: SqlErrorCode) {
    let mine = || fixture.only("t", "c", 17);
    let outside = mine().act(fixture.name("t"), action.clone()).await.unwrap_err();
    assert_eq!(outside.code, code, "{action:?}: {outside}");
    let transaction = mine().begin().await.unwrap();
    let inside = mine().inside(transaction.clone());
    let first = inside.act(fixture.name("t"), action.clone()).await.unwrap_err();
    let then = transaction.commit().await.err();
    for error in [outside, first].into_iter().chain(then) {
        for shown in ["sesame", "-876", ")=(", "DETAIL"] {
            assert!(!error.message.contains(shown), "{action:?}: {error}");
        }
    }
}
