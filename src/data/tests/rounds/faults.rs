//! Faults that were found elsewhere than in a round: each with its smallest input.

use super::{values::unmarshalled, *};
use crate::domain::page::{OrderBy, PageQuery, PageSource};

async fn all(setup: &str) -> [Fixture; 3] {
    let [postgres, sqlite] = both(setup).await;
    [postgres, sqlite, Fixture::mysql(setup).await]
}

fn record(pairs: &[(&str, SqlValue)]) -> Record {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

fn whole(digits: &str) -> SqlValue {
    SqlValue::BigInt(digits.to_owned())
}

#[tokio::test]
async fn a_number_of_21_digits_names_its_own_row_only() {
    let rows = "VALUES (100000000000000000000, 'alice'), (100000000000000000001, 'bob')";
    let setup = format!("CREATE TABLE acc (id numeric(30) PRIMARY KEY, owner varchar(9)); INSERT INTO acc {rows}");
    for fixture in [Fixture::postgres(&setup).await, Fixture::mysql(&setup).await] {
        let bob = whole("100000000000000000001");
        let updated =
            Action::Update { key: RowKey::Value(bob.clone()), values: record(&[("owner", SqlValue::from("BOB"))]) };
        assert_eq!(fixture.change("acc", updated).await.unwrap()[0]["owner"], "BOB");
        let sql = format!("SELECT owner FROM {}.acc WHERE id = %s", fixture.schema);
        let params = Params::Positional(vec![bob.clone()]);
        assert_eq!(fixture.rows(Select { params, ..query(sql) }).await.unwrap(), [json!({"owner": "BOB"})]);
        let deleted = Action::Delete { key: RowKey::Value(bob) };
        assert_eq!(fixture.change("acc", deleted).await.unwrap()[0]["owner"], "BOB");
        assert_eq!(fixture.all("acc").await.as_array().unwrap().len(), 1);
        assert_eq!(fixture.all("acc").await[0]["owner"], "alice");
        fixture.end().await;
    }
}

#[tokio::test]
async fn a_double_keeps_all_its_bits() {
    for fixture in all("CREATE TABLE d (n INTEGER PRIMARY KEY, v double precision)").await {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut doubles = Vec::new();
        while doubles.len() < 1000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // Every third is of a size that people use.
            let double = match doubles.len() % 3 {
                0 => (state >> 11) as f64 / 9_007_199_254_740_992.0 * 2e9 - 1e9,
                _ => f64::from_bits(state),
            };
            // MariaDB keeps no denormal numbers, nor -0.0.
            if double.is_normal() {
                doubles.push(double);
            }
        }
        doubles[0] = -941_989_543.432_770_5;
        let rows = doubles.iter().zip(0..);
        let rows =
            rows.map(|(double, n)| record(&[("n", SqlValue::Int(n)), ("v", SqlValue::Double(*double))])).collect();
        let change = Change { table: fixture.name("d"), action: Action::Insert { rows } };
        let mut kept = unmarshalled(&fixture.database().change(change, RowFormat::Marshal).await.unwrap());
        kept.sort_by_key(|row| if let SqlValue::Int(n) = row[0].1 { n } else { panic!("{row:?}") });
        assert_eq!(kept.len(), doubles.len());
        for (row, double) in kept.iter().zip(&doubles) {
            let SqlValue::Double(kept) = row[1].1 else { panic!("{row:?}") };
            assert_eq!(kept.to_bits(), double.to_bits(), "{double}");
        }
        let TableName { schema, .. } = fixture.name("d");
        for (double, n) in doubles.iter().zip(0..).step_by(97) {
            let filter = record(&[("v", SqlValue::Double(*double))]);
            let select = Select { schema: schema.clone(), table: Some("d".into()), filter, ..Select::default() };
            let found = fixture.rows(select).await.unwrap();
            assert_eq!(found.iter().map(|row| row["n"].as_i64()).collect::<Vec<_>>(), [Some(n)], "{double}");
        }
        fixture.end().await;
    }
}

#[tokio::test]
async fn a_moment_with_any_offset_names_its_row() {
    let fixture = Fixture::mysql(
        "CREATE TABLE k (sensor int, at datetime, v int, PRIMARY KEY (sensor, at)); \
         INSERT INTO k VALUES (1, '2024-01-02 03:04:05', 1)",
    )
    .await;
    let spellings =
        ["2024-01-02T03:04:05+00:00", "2024-01-02T03:04:05Z", "2024-01-02T05:04:05+02:00", "2024-01-02 03:04:05"];
    for (spelling, v) in spellings.iter().zip([10, 20, 30, 40]) {
        let key = json!({"sensor": 1, "at": spelling});
        assert_eq!(fixture.change("k", update(key.clone(), json!({"v": v}))).await.unwrap()[0]["v"], v, "{spelling}");
        assert_eq!(fixture.change("k", upsert(key, json!({"v": v + 1}))).await.unwrap()[0]["v"], v + 1, "{spelling}");
        let kept = json!([{"sensor": 1, "at": "2024-01-02T03:04:05", "v": v + 1}]);
        assert_eq!(fixture.all("k").await, kept, "{spelling}");
    }
    let other = json!({"sensor": 1, "at": "2024-01-02T03:04:05+02:00"});
    let error = fixture.change("k", delete(other)).await.unwrap_err();
    assert_eq!(error.code, SqlErrorCode::UnknownRow);
    fixture.change("k", delete(json!({"sensor": 1, "at": "2024-01-02T03:04:05+00:00"}))).await.unwrap();
    assert_eq!(fixture.all("k").await, json!([]));
    fixture.end().await;
}

#[tokio::test]
async fn rows_come_back_as_the_column_has_rounded_them() {
    let fixture = Fixture::mysql(
        "CREATE TABLE d (k decimal(10,2) PRIMARY KEY, v int); CREATE TABLE t (k datetime PRIMARY KEY, v int);
         CREATE TABLE n (id int PRIMARY KEY, n int)",
    )
    .await;
    let rows = fixture.change("d", insert(json!([{"k": 3.333, "v": 1}, {"k": 4.444, "v": 2}]))).await.unwrap();
    assert_eq!(rows, json!([{"k": 3.33, "v": 1}, {"k": 4.44, "v": 2}]));
    let rows = fixture.change("t", insert(json!({"k": "2024-01-02T03:04:05.7", "v": 1}))).await.unwrap();
    assert_eq!(rows[0]["v"], 1);
    for value in [json!(2.5), json!("2.7"), json!(true), json!(1e10)] {
        let result = fixture.change("n", insert(json!({"id": 1, "n": value}))).await;
        if value == json!(true) {
            fixture.change("n", delete(json!(1))).await.unwrap();
            continue;
        }
        let error = result.unwrap_err();
        assert!(error.code == SqlErrorCode::InvalidArgument && error.message.contains("`n`"), "{error}");
        assert_eq!(fixture.all("n").await, json!([]));
    }
    fixture.end().await;
}

fn page_of(sql: &str) -> PageQuery {
    PageQuery {
        source: PageSource::Query { sql: sql.to_owned(), values: Record::new() },
        columns: None,
        conditions: Vec::new(),
        order: Vec::new(),
        after: None,
        limit: 10,
        counts: false,
        is_asked: false,
    }
}

async fn page_text(fixture: &Fixture, query: &PageQuery, format: PageFormat) -> String {
    let written = fixture.database().page(query).await.unwrap().into_page(format, 1 << 20).await.unwrap();
    String::from_utf8(written.bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn two_columns_of_one_name_are_both_there() {
    for fixture in all("CREATE TABLE j (id INTEGER PRIMARY KEY); INSERT INTO j VALUES (1), (2)").await {
        let schema = fixture.name("j").schema.unwrap();
        let sql = format!("SELECT a.id, b.id FROM {schema}.j a JOIN {schema}.j b ON b.id = a.id + 1");
        assert_eq!(fixture.query(&*sql).await.unwrap(), [json!({"id": 1, "id_2": 2})]);
        let order = vec![OrderBy { column: "id_2".to_owned(), descending: true }];
        for query in [page_of(&sql), PageQuery { order, ..page_of(&sql) }] {
            assert_eq!(page_text(&fixture, &query, PageFormat::Json).await, r#"[{"id":1,"id_2":2}]"#);
            assert_eq!(page_text(&fixture, &query, PageFormat::Csv).await, "id,id_2\r\n1,2\r\n");
        }
        fixture.end().await;
    }
}

#[tokio::test]
async fn a_query_keeps_its_own_order() {
    let rows = "INSERT INTO sales VALUES (1, 5), (2, 9), (3, 1), (4, 7)";
    for fixture in all(&format!("CREATE TABLE sales (day INTEGER, total INTEGER); {rows}")).await {
        let schema = fixture.name("sales").schema.unwrap();
        let sql = format!("SELECT day, total FROM {schema}.sales ORDER BY total DESC");
        let query = PageQuery { limit: 2, ..page_of(&sql) };
        let expected = r#"[{"day":2,"total":9},{"day":4,"total":7}]"#;
        assert_eq!(page_text(&fixture, &query, PageFormat::Json).await, expected);
        let query = PageQuery { columns: Some(vec!["total".to_owned()]), ..query };
        assert_eq!(page_text(&fixture, &query, PageFormat::Json).await, r#"[{"total":9},{"total":7}]"#);
        fixture.end().await;
    }
}

#[tokio::test]
async fn names_that_are_cut_are_refused_before_anything_is_done() {
    let fixture = Fixture::postgres("CREATE TABLE t (id int PRIMARY KEY, v int)").await;
    let (long, fits) = ("p".repeat(66), "q".repeat(63));
    let error = fixture.change("t", insert(json!({"id": 1, (long.clone()): 2}))).await.unwrap_err();
    assert!(error.code == SqlErrorCode::InvalidArgument && error.message.contains("63 bytes"), "{error}");
    let write = |column: &str| crate::domain::sql::TableWrite {
        table: fixture.name("made"),
        records: vec![record(&[("id", SqlValue::Int(1)), (column, SqlValue::Int(2))])],
        key: vec!["id".to_owned()],
        ..Default::default()
    };
    assert_eq!(fixture.database().write(write(&long)).await.unwrap_err().code, SqlErrorCode::InvalidArgument);
    assert_eq!(fixture.rows(fixture.table("made")).await.unwrap_err().code, SqlErrorCode::UnknownTable);
    fixture.database().write(write(&fits)).await.unwrap();
    assert_eq!(fixture.all("made").await, json!([{"id": 1, (fits): 2}]));
    fixture.end().await;
}

#[tokio::test]
async fn json_text_of_an_author_is_json_on_each_database() {
    for fixture in all("CREATE TABLE j (id INTEGER PRIMARY KEY, d JSON)").await {
        let schema = fixture.name("j").schema.unwrap();
        let sql = format!("INSERT INTO {schema}.j VALUES (%s, %s)");
        fixture.query_with(&sql, json!([1, "{\"a\": [1]}"])).await.unwrap();
        fixture.change("j", insert(json!({"id": 2, "d": "{\"a\": [1]}"}))).await.unwrap();
        fixture.change("j", insert(json!({"id": 3, "d": {"a": [1]}}))).await.unwrap();
        let all = json!([{"id": 1, "d": {"a": [1]}}, {"id": 2, "d": "{\"a\": [1]}"}, {"id": 3, "d": {"a": [1]}}]);
        assert_eq!(fixture.all("j").await, all);
        fixture.end().await;
    }
}

#[tokio::test]
async fn a_query_looks_in_its_schema_first() {
    for fixture in all("CREATE TABLE only_here (n INTEGER); INSERT INTO only_here VALUES (7)").await {
        let schema = fixture.name("only_here").schema;
        let select = Select { schema, ..query("SELECT n FROM only_here") };
        assert_eq!(fixture.rows(select).await.unwrap(), [json!({"n": 7})]);
        let select = Select { schema: Some("nowhere".to_owned()), ..query("SELECT n FROM only_here") };
        assert_eq!(fixture.rows(select).await.unwrap_err().code, SqlErrorCode::UnknownSchema);
        fixture.end().await;
    }
}

#[tokio::test]
async fn sqlite_refuses_tables_that_it_would_find_in_another_schema() {
    let fixture = Fixture::sqlite(&[
        ("main", "CREATE TABLE t (n INTEGER); CREATE VIEW v AS SELECT 1 AS n"),
        ("a", "CREATE TABLE t (n INTEGER); CREATE TABLE T2 (n INTEGER)"),
        ("b", "CREATE TABLE t2 (n INTEGER); CREATE TABLE v (n INTEGER); CREATE TABLE own (n INTEGER)"),
    ]);
    for (schema, sql, is_allowed) in [
        ("a", "SELECT * FROM t", false),
        ("a", "SELECT count(*) FROM t", false),
        ("a", "SELECT * FROM a.t", true),
        ("a", "SELECT * FROM t2", true),
        ("b", "SELECT * FROM t2", false),
        ("B", "SELECT * FROM T2", false),
        ("b", "SELECT n FROM (SELECT * FROM v)", false),
        ("b", "INSERT INTO t2 VALUES (1)", false),
        ("b", "UPDATE t2 SET n = 1", false),
        ("b", "DELETE FROM t2", false),
        ("b", "DROP TABLE t2", false),
        ("b", "DROP VIEW v", false),
        ("b", "ALTER TABLE t2 ADD COLUMN m", false),
        ("b", "CREATE TABLE fresh (n INTEGER)", false),
        ("b", "CREATE TABLE b.fresh (n INTEGER)", true),
        ("b", "SELECT * FROM own", true),
        ("b", "SELECT * FROM t", true),
        ("main", "SELECT * FROM t", true),
        ("main", "CREATE TABLE fresh (n INTEGER)", true),
    ] {
        let select = Select { schema: Some(schema.to_owned()), ..query(sql) };
        match fixture.rows(select).await {
            Ok(_) => assert!(is_allowed, "{schema}: {sql}"),
            Err(error) => {
                assert_eq!((error.code, is_allowed), (SqlErrorCode::NotAllowed, false), "{schema}: {sql}: {error}");
            }
        }
    }
    // A statement that names no schema is as free as ever.
    assert!(fixture.query("SELECT * FROM t2").await.is_ok());
}

#[tokio::test]
async fn a_slice_is_not_a_placeholder() {
    let fixture = Fixture::postgres("").await;
    assert_eq!(fixture.database().parameters("SELECT id, tags[1:id], :x FROM t"), ["x"]);
    fixture.end().await;
}

#[tokio::test]
async fn what_the_database_makes_itself_comes_back() {
    let mysql = Fixture::mysql(
        "CREATE TABLE g (id int AUTO_INCREMENT PRIMARY KEY, a int, b int AS (a * 2) STORED, c int AS (a + 1) VIRTUAL);
         SET sql_mode = ''; CREATE TABLE z (id int PRIMARY KEY, d date, t datetime); INSERT INTO z VALUES (1, 0, 0), (2, '2024-00-31', NULL)",
    )
    .await;
    let postgres = Fixture::postgres(
        "CREATE TABLE g (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int, b int GENERATED ALWAYS AS (a * 2) STORED, c int DEFAULT 6)",
    )
    .await;
    let sqlite = Fixture::sqlite(&[(
        "shop",
        "CREATE TABLE g (id INTEGER PRIMARY KEY AUTOINCREMENT, a INTEGER, b INTEGER AS (a * 2) STORED, c INTEGER AS (a + 1))",
    )]);
    for fixture in [&mysql, &postgres, &sqlite] {
        let rows = fixture.change("g", insert(json!([{"a": 5}, {"a": 5}]))).await.unwrap();
        assert_eq!(rows, json!([{"id": 1, "a": 5, "b": 10, "c": 6}, {"id": 2, "a": 5, "b": 10, "c": 6}]));
        let rows = fixture.change("g", update(json!(2), json!({"a": 7}))).await.unwrap();
        assert_eq!((&rows[0]["a"], &rows[0]["b"]), (&json!(7), &json!(14)));
        let error = fixture.change("g", insert(json!({"a": 5, "b": 11}))).await.unwrap_err();
        assert!(error.message.contains('b'), "{error}");
        assert_eq!(fixture.change("g", delete(json!(2))).await.unwrap()[0]["id"], 2);
    }
    // Zero dates are found by what is shown of them, and change nothing else.
    let rows =
        json!([{"id": 1, "d": "0000-00-00", "t": "0000-00-00T00:00:00"}, {"id": 2, "d": "2024-00-31", "t": null}]);
    assert_eq!(mysql.all("z").await, rows);
    for (filter, id) in
        [(json!({"d": "0000-00-00"}), 1), (json!({"t": "0000-00-00T00:00:00"}), 1), (json!({"d": "2024-00-31"}), 2)]
    {
        let found = mysql.rows(Select { filter: row(filter.clone()), ..mysql.table("z") }).await.unwrap();
        assert_eq!(found.iter().map(|row| row["id"].clone()).collect::<Vec<_>>(), [json!(id)], "{filter}");
    }
    mysql.end().await;
    postgres.end().await;
}

#[tokio::test]
async fn the_value_that_a_server_refuses_is_named() {
    let fixture = Fixture::postgres(
        "CREATE TABLE t (id int PRIMARY KEY, d date, v varchar(3), n numeric(4,2), u uuid, b bit(3), a int[])",
    )
    .await;
    let many = |bad: Value| {
        let row = |id: i32| json!({"id": id, "d": "2024-01-02", "v": "abc", "n": 1, "b": "101"});
        let mut rows: Vec<_> = (0..300).map(row).collect();
        rows[250].as_object_mut().unwrap().extend(bad.as_object().unwrap().clone());
        insert(Value::Array(rows))
    };
    for (bad, column) in [
        (json!({"d": "tomorrowish"}), "d"),
        (json!({"v": "abcd"}), "v"),
        (json!({"n": 100}), "n"),
        (json!({"u": "x"}), "u"),
        (json!({"b": "1011"}), "b"),
        (json!({"a": "{1,x}"}), "a"),
    ] {
        let error = fixture.change("t", many(bad.clone())).await.unwrap_err();
        assert_eq!(error.code, SqlErrorCode::InvalidArgument, "{bad}: {error}");
        assert!(error.message.starts_with(&format!("the value of column `{column}` is")), "{bad}: {error}");
        assert_eq!(fixture.all("t").await, json!([]));
    }
    // A transaction is over before the value is looked for.
    let transaction = fixture.database().begin().await.unwrap();
    let inside = fixture.database().inside(transaction.clone());
    let change = Change { table: fixture.name("t"), action: insert(json!({"id": 1, "d": "never"})) };
    let error = inside.change(change, RowFormat::Json).await.unwrap_err();
    assert!(error.message.contains("`d`"), "{error}");
    drop((inside, transaction));
    let filter = record(&[("d", SqlValue::from("never"))]);
    let error = fixture.rows(Select { filter, ..fixture.table("t") }).await.unwrap_err();
    assert!(error.code == SqlErrorCode::InvalidArgument && error.message.contains("`d`"), "{error}");
    fixture.end().await;
}

#[tokio::test]
async fn a_list_is_the_value_of_a_column_of_lists() {
    let fixture = Fixture::postgres(
        "CREATE TABLE t (id int PRIMARY KEY, a text[], j jsonb, x text); \
         INSERT INTO t VALUES (1, '{a,b}', '[1,2]', 'a'), (2, '{}', '1', 'b'), (3, NULL, NULL, NULL)",
    )
    .await;
    for (filter, ids) in [
        (json!({"a": ["a", "b"]}), vec![1]),
        (json!({"a": []}), vec![2]),
        (json!({"a": null}), vec![3]),
        (json!({"j": [1, 2]}), vec![1]),
        (json!({"j": 1}), vec![2]),
        (json!({"x": ["a", null]}), vec![1, 3]),
        (json!({"x": [null]}), vec![3]),
        (json!({"x": []}), vec![]),
    ] {
        let select = Select { filter: row(filter.clone()), order_by: vec!["id".into()], ..fixture.table("t") };
        let found: Vec<_> = fixture.rows(select).await.unwrap().iter().map(|row| row["id"].as_i64().unwrap()).collect();
        assert_eq!(found, ids, "{filter}");
    }
    fixture.end().await;
}
