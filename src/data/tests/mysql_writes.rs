//! Changes, writes, the catalogue and transactions on MySQL and MariaDB.

use super::*;
use crate::domain::sql::{NewTable, TableWrite};

const ITEMS: &str = "CREATE TABLE items (id int AUTO_INCREMENT PRIMARY KEY, name varchar(40) NOT NULL, price double, extra json,
    seen boolean DEFAULT true, at timestamp(6) NULL, CHECK (price >= 0)); INSERT INTO items (name, price) VALUES ('one', 1.5), ('two', NULL)";

#[tokio::test]
async fn mysql_rows_are_changed_by_their_primary_key() {
    let fixture = Fixture::mysql(ITEMS).await;
    let change = |action| fixture.change("items", action);
    let rows =
        change(insert(json!({"name": "a'; DROP TABLE items; --", "extra": "text", "at": "2024-01-02T05:04:05+02:00"})))
            .await;
    let inserted = json!({"id": 3, "name": "a'; DROP TABLE items; --", "price": null, "extra": "text", "seen": true, "at": "2024-01-02T03:04:05+00:00"});
    assert_eq!(rows.unwrap(), json!([inserted]));
    // Several rows in one statement; what one of them does not name is its default.
    let rows =
        change(insert(json!([{"name": "b"}, {"name": "c", "extra": {"x": [1, null]}, "seen": false}]))).await.unwrap();
    assert_eq!((&rows[0]["id"], &rows[0]["extra"], &rows[0]["seen"]), (&json!(4), &json!(null), &json!(true)));
    assert_eq!(
        (&rows[1]["id"], &rows[1]["extra"], &rows[1]["seen"]),
        (&json!(5), &json!({"x": [1, null]}), &json!(false))
    );
    let rows = change(insert(json!([{"id": 11, "name": "x"}, {"id": 10, "name": "y"}]))).await.unwrap();
    assert_eq!((&rows[0]["id"], &rows[1]["id"]), (&json!(11), &json!(10)), "in the order in which they were given");
    let changed = change(update(json!(1), json!({"price": 2, "extra": [1]}))).await.unwrap();
    assert_eq!(
        (&changed[0]["price"], &changed[0]["extra"], &changed[0]["name"]),
        (&json!(2.0), &json!([1]), &json!("one"))
    );
    assert_eq!(change(update(json!({"id": 2}), json!({"id": 20}))).await.unwrap()[0]["id"], 20);
    let kept = change(upsert(json!(20), json!({"price": 7.5}))).await.unwrap();
    assert_eq!((&kept[0]["name"], &kept[0]["price"]), (&json!("two"), &json!(7.5)));
    assert_eq!(change(upsert(json!(30), json!({"id": 30, "name": "new"}))).await.unwrap()[0]["name"], "new");
    assert_eq!(change(delete(json!("1"))).await.unwrap()[0]["name"], "one");
    for (action, code) in [
        (update(json!(9), json!({"id": 20})), SqlErrorCode::UnknownRow),
        (delete(json!(1)), SqlErrorCode::UnknownRow),
        (delete(json!("1 or 1=1")), SqlErrorCode::InvalidArgument),
        (insert(json!({"name": "z", "nope": 1})), SqlErrorCode::UnknownColumn),
        (insert(json!({"id": 20, "name": "z"})), SqlErrorCode::ConstraintViolated),
        (insert(json!({"price": 1})), SqlErrorCode::ConstraintViolated),
        (insert(json!({"name": "z", "price": -1})), SqlErrorCode::ConstraintViolated),
    ] {
        let error = change(action.clone()).await.unwrap_err();
        assert_eq!(error.code, code, "{action:?}: {error}");
    }
    assert_eq!(fixture.all("items").await.as_array().unwrap().len(), 7, "nothing was changed by what failed");
    fixture.end().await;
}

/// To MySQL itself, 0 equals every text that begins with no digit.
#[tokio::test]
async fn a_number_names_no_row_with_a_text_for_key() {
    let fixture = Fixture::mysql(
        "CREATE TABLE t (token varchar(20) PRIMARY KEY, n int); INSERT INTO t VALUES ('a', 1), ('b', 2)",
    )
    .await;
    for key in [json!(0), json!(false), json!(0.0)] {
        for action in [delete(key.clone()), update(key.clone(), json!({"n": 9}))] {
            assert_eq!(fixture.change("t", action).await.unwrap_err().code, SqlErrorCode::UnknownRow, "{key}");
        }
    }
    assert_eq!(fixture.change("t", upsert(json!(0), json!({"n": 3}))).await.unwrap(), json!([{"token": "0", "n": 3}]));
    assert_eq!(fixture.query("SELECT SUM(n) AS s FROM t").await.unwrap(), [json!({"s": 6.0})]);
    fixture.end().await;
}

#[tokio::test]
async fn mysql_tables_are_made_to_fit_what_is_written() {
    let fixture = Fixture::mysql("CREATE TABLE two (id int PRIMARY KEY, mail varchar(20) UNIQUE)").await;
    let schema = format!("{}_new", fixture.schema);
    let name = TableName { schema: Some(schema.clone()), table: "events".into(), ..TableName::default() };
    let write = async |table: &TableName, records: Value, key: &[&str]| {
        let Value::Array(records) = records else { panic!("no list") };
        let write = TableWrite {
            table: table.clone(),
            records: records.into_iter().map(row).collect(),
            key: key.iter().map(|column| (*column).to_owned()).collect(),
            ..TableWrite::default()
        };
        fixture.database().write(write).await
    };
    let all = || {
        fixture.rows(Select {
            schema: Some(schema.clone()),
            table: Some("events".into()),
            order_by: vec!["id".into()],
            ..Select::default()
        })
    };
    let event = json!({"id": "e1", "n": 1, "ok": true, "data": {"a": [1, {"b": null}]}, "list": [], "nothing": null});
    assert_eq!(write(&name, json!([event]), &["id"]).await.unwrap(), 1);
    assert_eq!(all().await.unwrap(), [event]);
    // A new column, and the row replaced: what the new record does not say is gone.
    write(&name, json!([{"id": "e1", "amount": 2.5}]), &["id"]).await.unwrap();
    let replaced =
        json!({"id": "e1", "n": null, "ok": null, "data": null, "list": null, "nothing": null, "amount": 2.5});
    assert_eq!(all().await.unwrap(), [replaced]);
    let many = Value::Array((0..20_000).map(|n| json!({"id": format!("m{n}"), "n": n})).collect());
    assert_eq!(write(&name, many, &[]).await.unwrap(), 20_000);
    assert_eq!(
        fixture.query(format!("SELECT COUNT(*) AS n FROM {schema}.events")).await.unwrap(),
        [json!({"n": 20_001})]
    );
    let error = write(&fixture.name("two"), json!([{"id": 1, "mail": "x"}]), &["id"]).await.unwrap_err();
    assert!(error.code == SqlErrorCode::InvalidArgument && error.message.contains("`upsert`"), "{error}");
    // The catalogue.
    let columns = fixture.database().describe(&name).await.unwrap();
    let types: Vec<_> = columns.iter().map(|column| (&*column.data_type, column.key_position)).collect();
    assert_eq!(types[..4], [("varchar(255)", 1), ("bigint(20)", 0), ("tinyint(1)", 0), ("json", 0)]);
    let schemas = fixture.database().schemas().await.unwrap();
    assert!(schemas.iter().any(|known| known.name == schema && known.tables == ["events"]), "{schemas:?}");
    let new = NewTable { table: fixture.name("made"), fields: vec![("note".into(), "text".into())], key: vec![] };
    fixture.database().create_table(new.clone()).await.unwrap();
    assert_eq!(fixture.database().create_table(new).await.unwrap_err().code, SqlErrorCode::AlreadyExists);
    let rows = fixture.change("made", insert(json!({"note": "no key"}))).await.unwrap();
    assert_eq!(rows, json!([{"note": "no key"}]));
    assert!(fixture.change("made", delete(json!(1))).await.unwrap_err().message.contains("no primary key"));
    for (name, code) in [
        (fixture.name("nope"), SqlErrorCode::UnknownTable),
        (TableName { schema: Some("nowhere".into()), ..name }, SqlErrorCode::UnknownSchema),
    ] {
        assert_eq!(fixture.database().describe(&name).await.unwrap_err().code, code);
    }
    mysql_admin(&format!("DROP DATABASE {schema}")).await;
    fixture.end().await;
}

#[tokio::test]
async fn mysql_transactions_keep_all_or_nothing() {
    let fixture = Fixture::mysql(ITEMS).await;
    let prices = async || fixture.query("SELECT SUM(price) AS s FROM items").await.unwrap()[0]["s"].clone();
    let begin = async || {
        let transaction = fixture.database().begin().await.unwrap();
        (fixture.database().inside(transaction.clone()), transaction)
    };
    let change = |action| Change { table: fixture.name("items"), action };
    let (inside, transaction) = begin().await;
    inside.change(change(update(json!(2), json!({"price": 4}))), RowFormat::Json).await.unwrap();
    inside.fetch(query("UPDATE items SET price = price + 1")).await.unwrap();
    assert_eq!(prices().await, json!(1.5), "nobody else sees it yet");
    transaction.commit().await.unwrap();
    assert_eq!(prices().await, json!(7.5));
    // Rolled back, and forgotten.
    let (inside, transaction) = begin().await;
    inside.change(change(delete(json!(1))), RowFormat::Json).await.unwrap();
    transaction.rollback().await;
    assert_eq!(
        inside.change(change(delete(json!(2))), RowFormat::Json).await.unwrap_err().code,
        SqlErrorCode::TransactionOver
    );
    let (inside, transaction) = begin().await;
    inside.change(change(delete(json!(1))), RowFormat::Json).await.unwrap();
    drop((inside, transaction));
    assert_eq!(prices().await, json!(7.5));
    // What would commit is refused, and an error ends it.
    let (inside, transaction) = begin().await;
    inside.change(change(delete(json!(1))), RowFormat::Json).await.unwrap();
    for sql in [
        "COMMIT",
        "/* x */ begin",
        "CREATE TABLE u (id int)",
        "SET autocommit = 1",
        "LOCK TABLES items WRITE",
        "TRUNCATE items",
        "CALL p()",
        "/*! COMMIT */",
        "/* /* */ COMMIT -- */ SELECT 1",
        "/*!CREATE TABLE u AS */ SELECT 1",
    ] {
        let error = inside.fetch(query(sql)).await.unwrap_err();
        assert_eq!(error.code, SqlErrorCode::NotAllowed, "{sql}: {error}");
    }
    let error = inside.change(change(update(json!(2), json!({"price": -1}))), RowFormat::Json).await.unwrap_err();
    assert_eq!(error.code, SqlErrorCode::ConstraintViolated, "{error}");
    assert_eq!(transaction.commit().await.unwrap_err().code, SqlErrorCode::TransactionOver);
    assert_eq!(prices().await, json!(7.5));
    fixture.end().await;
}

#[tokio::test]
async fn deadlocks_of_mysql_are_conflicts() {
    let fixture = Fixture::mysql(ITEMS).await;
    let one = fixture.database().begin().await.unwrap();
    let other = fixture.database().begin().await.unwrap();
    let set = |transaction: &Transaction, id: i64| {
        let database = fixture.database().inside(transaction.clone());
        let sql = format!("UPDATE items SET price = 1 WHERE id = {id}");
        async move { database.fetch(query(sql)).await.map(|_| ()) }
    };
    set(&one, 1).await.unwrap();
    set(&other, 2).await.unwrap();
    let (first, second) = tokio::join!(set(&one, 2), set(&other, 1));
    let errors: Vec<_> = [first, second].into_iter().filter_map(Result::err).collect();
    assert_eq!(errors.iter().map(|error| error.code).collect::<Vec<_>>(), [SqlErrorCode::Conflict], "{errors:?}");
    drop((one, other));
    fixture.end().await;
}

#[tokio::test]
async fn a_mysql_connection_may_be_for_reading_only() {
    let mut fixture = Fixture::mysql(ITEMS).await;
    fixture.target.url = ConnectionUrl::parse(&format!("{MYSQL}/{}?mode=ro", fixture.schema)).unwrap();
    assert_eq!(fixture.rows(fixture.table("items")).await.unwrap().len(), 2);
    assert_eq!(fixture.query("SELECT @a := 1 AS a").await.unwrap().len(), 1);
    for sql in [
        "INSERT INTO items (name) VALUES ('x')",
        "UPDATE items SET price = 1",
        "DROP TABLE items",
        "SET SESSION TRANSACTION READ WRITE",
        "SET STATEMENT tx_read_only = 0 FOR DELETE FROM items",
        "START TRANSACTION READ WRITE",
        "/*! DELETE FROM items */",
        "/*!SET STATEMENT tx_read_only = 0 FOR DELETE FROM items WHERE id IN (*/ SELECT 1 /*!)*/",
        "CALL p()",
    ] {
        let error = fixture.query(sql).await.unwrap_err();
        assert_eq!(error.code, SqlErrorCode::ReadOnly, "{sql}: {error}");
    }
    for action in [insert(json!({"name": "x"})), delete(json!(1))] {
        assert_eq!(fixture.change("items", action).await.unwrap_err().code, SqlErrorCode::ReadOnly);
    }
    assert_eq!(fixture.rows(fixture.table("items")).await.unwrap().len(), 2);
    fixture.end().await;
}

#[tokio::test]
async fn mysql_tables_whose_names_differ_in_case_are_not_mixed_up() {
    let fixture = Fixture::mysql(
        "CREATE TABLE items (id int PRIMARY KEY, note text); CREATE TABLE Items (no int PRIMARY KEY, id int UNIQUE)",
    )
    .await;
    for (table, key, other) in [("items", "id", "note"), ("Items", "no", "id")] {
        let columns = fixture.database().describe(&fixture.name(table)).await.unwrap();
        let names: Vec<_> = columns.iter().map(|column| (column.name.as_str(), column.key_position)).collect();
        assert_eq!(names, [(key, 1), (other, 0)], "{table}");
        fixture.change(table, upsert(json!(1), json!({other: "5"}))).await.unwrap();
    }
    let write = TableWrite {
        table: fixture.name("items"),
        records: vec![row(json!({"id": 1, "note": "b"}))],
        ..TableWrite::default()
    };
    assert_eq!(fixture.database().write(write).await.unwrap(), 1, "the unique key is the other table's");
    fixture.end().await;
}
