//! insert, update, upsert, delete.

use super::*;

const ITEMS: &str = "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price REAL, extra JSON, seen BOOLEAN DEFAULT true);
    INSERT INTO items (id, name, price) VALUES (1, 'one', 1.5), (2, 'two', NULL)";

async fn items() -> [Fixture; 2] {
    both(ITEMS).await
}

#[tokio::test]
async fn an_inserted_row_comes_back_with_its_generated_key() {
    let postgres = Fixture::postgres("CREATE TABLE t (id bigserial PRIMARY KEY, name text, tags jsonb, at timestamptz DEFAULT '2024-01-02Z', b bytea)").await;
    let sqlite = Fixture::sqlite(&[(
        "shop",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, tags JSON, at TIMESTAMP DEFAULT '2024-01-02T00:00:00+00:00', b BLOB)",
    )]);
    for fixture in [postgres, sqlite] {
        let first = fixture
            .change("t", insert(json!({"name": "a'; DROP TABLE t; --", "tags": {"x": [1, null]}, "b": "\\x00ff"})))
            .await
            .unwrap();
        assert_eq!(
            first,
            json!([{"id": 1, "name": "a'; DROP TABLE t; --", "tags": {"x": [1, null]}, "at": "2024-01-02T00:00:00+00:00", "b": "\\x00ff"}])
        );
        // Several rows in one statement; what one of them does not name is its default.
        let rows = fixture
            .change("t", insert(json!([{"name": "b"}, {"tags": "5", "at": "2025-01-01T00:00:00+00:00"}])))
            .await
            .unwrap();
        assert_eq!(rows[0], json!({"id": 2, "name": "b", "tags": null, "at": "2024-01-02T00:00:00+00:00", "b": null}));
        assert_eq!(rows[1], json!({"id": 3, "name": null, "tags": "5", "at": "2025-01-01T00:00:00+00:00", "b": null}));
        assert_eq!(fixture.change("t", insert(json!({}))).await.unwrap()[0]["id"], 4);
        assert_eq!(fixture.all("t").await.as_array().unwrap().len(), 4);
        fixture.end().await;
    }
}

#[tokio::test]
async fn rows_are_changed_by_their_primary_key() {
    for fixture in items().await {
        let changed = fixture.change("items", update(json!(1), json!({"price": 2, "extra": [1]}))).await.unwrap();
        assert_eq!(changed, json!([{"id": 1, "name": "one", "price": 2.0, "extra": [1], "seen": true}]));
        let changed = fixture.change("items", update(json!({"id": 2}), json!({"id": 20}))).await.unwrap();
        assert_eq!(changed[0]["id"], 20);
        // Of an existing row, columns that are not named keep their values, `NOT NULL` ones too.
        let kept = fixture.change("items", upsert(json!(20), json!({"price": 7.5}))).await.unwrap();
        assert_eq!((&kept[0]["name"], &kept[0]["price"]), (&json!("two"), &json!(7.5)));
        let new = fixture.change("items", upsert(json!("3"), json!({"id": 3, "name": "three"}))).await.unwrap();
        assert_eq!(new, json!([{"id": 3, "name": "three", "price": null, "extra": null, "seen": true}]));
        let gone = fixture.change("items", delete(json!(1))).await.unwrap();
        assert_eq!(gone[0]["name"], "one");
        assert_eq!(fixture.all("items").await.as_array().unwrap().len(), 2);
        fixture.end().await;
    }
}

#[tokio::test]
async fn composite_keys_are_dicts() {
    for fixture in both("CREATE TABLE t (a INTEGER, b TEXT, v INTEGER, PRIMARY KEY (b, a))").await {
        fixture.change("t", insert(json!({"a": 1, "b": "x", "v": 1}))).await.unwrap();
        let key = json!({"a": 1, "b": "x"});
        assert_eq!(fixture.change("t", update(key.clone(), json!({"v": 2}))).await.unwrap()[0]["v"], 2);
        assert_eq!(fixture.change("t", upsert(json!({"a": 1, "b": "y"}), json!({}))).await.unwrap()[0]["b"], "y");
        assert_eq!(fixture.change("t", upsert(key.clone(), json!({}))).await.unwrap()[0]["v"], 2);
        for bad in [json!(1), json!({"a": 1}), json!({"a": 1, "b": "x", "v": 2}), json!({"a": 1, "b": null})] {
            let error = fixture.change("t", delete(bad.clone())).await.unwrap_err();
            assert_eq!(error.code, SqlErrorCode::InvalidArgument, "{bad}: {error}");
        }
        assert!(
            fixture.change("t", delete(json!(1))).await.unwrap_err().message.contains("is (b, a): give `pk` as a dict")
        );
        assert_eq!(fixture.change("t", delete(key)).await.unwrap()[0]["v"], 2);
        fixture.end().await;
    }
}

#[tokio::test]
async fn what_cannot_be_changed_is_told() {
    let setup = format!(
        "{ITEMS}; CREATE TABLE loose (v INTEGER); CREATE TABLE child (id INTEGER PRIMARY KEY, item INTEGER REFERENCES items (id))"
    );
    for fixture in both(&setup).await {
        let change = |table: &'static str, action| fixture.change(table, action);
        for (error, code, text) in [
            (change("items", update(json!(9), json!({"price": 1}))).await, SqlErrorCode::UnknownRow, "has id = 9"),
            (change("items", delete(json!(9))).await, SqlErrorCode::UnknownRow, "has id = 9"),
            (change("items", update(json!(1), json!({}))).await, SqlErrorCode::InvalidArgument, "at least one column"),
            (
                change("items", update(json!(null), json!({"price": 1}))).await,
                SqlErrorCode::InvalidArgument,
                "`pk` is None",
            ),
            (change("loose", delete(json!(1))).await, SqlErrorCode::InvalidArgument, "no primary key"),
            (change("nope", delete(json!(1))).await, SqlErrorCode::UnknownTable, "nope`"),
            (change("nope", insert(json!({"a": 1}))).await, SqlErrorCode::UnknownTable, "nope`"),
            (change("items", insert(json!({"nope": 1}))).await, SqlErrorCode::UnknownColumn, "nope"),
            (change("items", update(json!(1), json!({"no\"pe": 1}))).await, SqlErrorCode::UnknownColumn, "no"),
            (change("items", insert(json!({"": 1}))).await, SqlErrorCode::InvalidArgument, "is empty"),
            (change("items", insert(json!([]))).await, SqlErrorCode::InvalidArgument, "needs a row"),
            (change("items", insert(json!({"id": 1, "name": "x"}))).await, SqlErrorCode::ConstraintViolated, ""),
            (change("items", insert(json!({"id": 5, "price": 1}))).await, SqlErrorCode::ConstraintViolated, "name"),
            (change("child", insert(json!({"item": 99, "id": 1}))).await, SqlErrorCode::ConstraintViolated, ""),
            (
                change("items", upsert(json!(1), json!({"id": 2, "name": "x"}))).await,
                SqlErrorCode::InvalidArgument,
                "differs from `pk`",
            ),
        ] {
            let error = error.unwrap_err();
            assert_eq!(error.code, code, "{error}");
            assert!(error.message.contains(text), "{error}");
        }
        let missing = Change {
            table: TableName { schema: Some("nowhere".into()), ..fixture.name("items") },
            action: delete(json!(1)),
        };
        assert_eq!(
            fixture.database().change(missing, RowFormat::Json).await.unwrap_err().code,
            SqlErrorCode::UnknownSchema
        );
        let rows: Vec<_> = (0..10_001).map(|n| json!({"id": n, "name": "x"})).collect();
        assert_eq!(change("items", insert(Value::Array(rows))).await.unwrap_err().code, SqlErrorCode::InputTooLarge);
        let rows: Vec<_> = (0..2000).map(|n| json!({(format!("c{n}")): 1})).collect();
        assert_eq!(change("items", insert(Value::Array(rows))).await.unwrap_err().code, SqlErrorCode::InputTooLarge);
        let rows: Vec<_> = (0..5000).map(|n| json!({(format!("c{}", n % 900)): 1})).collect();
        assert_eq!(change("items", insert(Value::Array(rows))).await.unwrap_err().code, SqlErrorCode::InputTooLarge);
        assert_eq!(fixture.all("items").await.as_array().unwrap().len(), 2, "nothing was changed by what failed");
        fixture.end().await;
    }
}

#[tokio::test]
async fn a_wrong_value_names_its_column() {
    let [postgres, sqlite] = items().await;
    let error = postgres.change("items", insert(json!({"name": "x", "price": "cheap"}))).await.unwrap_err();
    assert_eq!(error.message, "the value of column `price` is \"cheap\": a float4 is expected there");
    assert_eq!(error.code, SqlErrorCode::InvalidArgument);
    // NUL is no text in PostgreSQL; SQLite keeps it.
    let error = postgres.change("items", insert(json!({"id": 7, "name": "a\0b"}))).await.unwrap_err();
    assert_eq!(error.code, SqlErrorCode::InvalidArgument, "{error}");
    assert!(error.message.contains("`name`"), "{error}");
    let row = sqlite.change("items", insert(json!({"name": "a\0b"}))).await.unwrap();
    assert_eq!(row[0]["name"], "a\0b");
    for fixture in [postgres, sqlite] {
        assert!(fixture.change("items", insert(json!({"id": 8, "name": "ok"}))).await.is_ok());
        fixture.end().await;
    }
}

#[tokio::test]
async fn a_changed_table_is_known_as_it_is_now() {
    for fixture in both("CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER)").await {
        fixture.change("t", insert(json!({"id": 1, "v": 1}))).await.unwrap();
        fixture.change("t", update(json!(1), json!({"v": 2}))).await.unwrap();
        let name = fixture.name("t");
        let table = format!("{}.t", name.schema.as_deref().unwrap());
        fixture.query(format!("DROP TABLE {table}")).await.unwrap();
        fixture.query(format!("CREATE TABLE {table} (key TEXT PRIMARY KEY, v INTEGER)")).await.unwrap();
        fixture.change("t", insert(json!({"key": "a", "v": 1}))).await.unwrap();
        assert_eq!(fixture.change("t", update(json!("a"), json!({"v": 3}))).await.unwrap()[0]["v"], 3);
        // Changed behind our back.
        match fixture.schema.as_str() {
            "" => write_sqlite(&fixture.folder.path().join("shop.db"), "ALTER TABLE t RENAME COLUMN key TO code"),
            schema => admin(&format!("ALTER TABLE {schema}.t RENAME COLUMN key TO code")).await,
        }
        assert_eq!(
            fixture.change("t", update(json!("a"), json!({"v": 4}))).await.unwrap(),
            json!([{"code": "a", "v": 4}])
        );
        fixture.end().await;
    }
}

#[tokio::test]
async fn an_insert_leaves_nothing_in_its_session() {
    let fixture = Fixture::postgres("CREATE TABLE t (id bigserial PRIMARY KEY)").await;
    fixture.change("t", insert(json!({}))).await.unwrap();
    // The same session: it kept its prepared statement, but not the last value of the sequence.
    let error = fixture.query("SELECT lastval()").await.unwrap_err();
    assert!(error.message.contains("lastval is not yet defined"), "{error}");
    // Inside of a transaction it is the transaction's own; nothing of it, or of what was before, is told elsewhere.
    fixture.change("t", insert(json!({}))).await.unwrap();
    let database = fixture.database();
    let transaction = database.begin().await.unwrap();
    let inside = database.inside(transaction.clone());
    let error = inside.fetch(query("SELECT lastval()")).await.unwrap_err();
    assert!(error.message.contains("lastval is not yet defined"), "{error}");
    let transaction = fixture.database().begin().await.unwrap();
    let inside = fixture.database().inside(transaction.clone());
    inside.change(Change { table: fixture.name("t"), action: insert(json!({})) }, RowFormat::Json).await.unwrap();
    transaction.commit().await.unwrap();
    let error = fixture.query("SELECT lastval()").await.unwrap_err();
    assert!(error.message.contains("lastval is not yet defined"), "{error}");
    fixture.end().await;
}

#[tokio::test]
async fn rows_are_lists_if_that_is_asked_for() {
    for fixture in items().await {
        let schema = fixture.name("").schema.unwrap();
        let sql = format!("SELECT id, name, id AS id FROM {schema}.items ORDER BY id");
        let rows = fixture.rows(Select { lists: true, ..query(sql) }).await.unwrap();
        assert_eq!(rows, [json!([1, "one", 1]), json!([2, "two", 2])]);
        fixture.end().await;
    }
}

#[tokio::test]
async fn a_read_only_connection_changes_nothing() {
    for mut fixture in items().await {
        fixture.read_only();
        let schema = fixture.name("").schema.unwrap();
        let table = format!("{schema}.items");
        for sql in [
            format!("INSERT INTO {table} (id, name) VALUES (9, 'x')"),
            format!("UPDATE {table} SET price = 1"),
            format!("DELETE FROM {table}"),
            format!("DROP TABLE {table}"),
            format!("CREATE TABLE {schema}.u (id INTEGER)"),
            format!("ALTER TABLE {table} ADD COLUMN more INTEGER"),
        ] {
            let error = fixture.query(&*sql).await.unwrap_err();
            assert_eq!(error.code, SqlErrorCode::ReadOnly, "{sql}: {error}");
        }
        for action in [insert(json!({"name": "x"})), update(json!(1), json!({"price": 1})), delete(json!(1))] {
            assert_eq!(fixture.change("items", action).await.unwrap_err().code, SqlErrorCode::ReadOnly);
        }
        assert_eq!(fixture.database().create_schema("", "pq_ro_new").await.unwrap_err().code, SqlErrorCode::ReadOnly);
        let transaction = fixture.database().begin().await.unwrap();
        let inside = fixture.database().inside(transaction);
        let error = inside
            .change(Change { table: fixture.name("items"), action: delete(json!(1)) }, RowFormat::Json)
            .await
            .unwrap_err();
        assert_eq!(error.code, SqlErrorCode::ReadOnly, "{error}");
        drop(inside);
        assert_eq!(fixture.all("items").await.as_array().unwrap().len(), 2);
        fixture.end().await;
    }
}

#[tokio::test]
async fn nothing_makes_a_read_only_connection_writable() {
    let [mut fixture, _] = items().await;
    fixture.read_only();
    let table = format!("{}.items", fixture.schema);
    for escape in [
        "SET default_transaction_read_only = off".to_owned(),
        "SELECT set_config('default_transaction_read_only', 'off', false)".to_owned(),
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE".to_owned(),
        format!("DO $$ BEGIN SET transaction_read_only = off; DELETE FROM {table}; END $$"),
        format!(
            "WITH x AS (SELECT set_config('transaction_read_only', 'off', true)) DELETE FROM {table} WHERE (SELECT count(*) FROM x) = 1"
        ),
    ] {
        _ = fixture.query(&*escape).await; // some are errors
        let error = fixture.query(format!("DELETE FROM {table}")).await.unwrap_err();
        assert_eq!(error.code, SqlErrorCode::ReadOnly, "{escape}: {error}");
    }
    for escape in ["SET TRANSACTION READ WRITE", "SET transaction_read_only = off"] {
        let transaction = fixture.database().begin().await.unwrap();
        let inside = fixture.database().inside(transaction);
        assert!(inside.fetch(query(escape)).await.is_err(), "{escape}");
        assert!(inside.fetch(query(format!("DELETE FROM {table}"))).await.is_err(), "{escape}");
    }
    assert_eq!(fixture.all("items").await.as_array().unwrap().len(), 2);
    fixture.end().await;
}
