//! What is particular to MySQL and MariaDB.

use super::*;

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn mysql_types_become_json() {
    let cases = [
        ("tinyint", "-128", "-128"),
        ("tinyint unsigned", "255", "255"),
        ("smallint", "-32768", "-32768"),
        ("smallint unsigned", "65535", "65535"),
        ("mediumint", "-8388608", "-8388608"),
        ("mediumint unsigned", "16777215", "16777215"),
        ("int", "-2147483648", "-2147483648"),
        ("int unsigned", "4294967295", "4294967295"),
        ("int(5) zerofill", "7", "7"),
        ("bigint", "-9223372036854775808", "-9223372036854775808"),
        ("bigint unsigned", "18446744073709551615", "18446744073709551615"),
        ("bool", "true", "true"),
        ("tinyint(1)", "0", "false"),
        ("tinyint(1)", "-2", "-2"),
        ("tinyint(1) unsigned", "200", "200"),
        ("tinyint(2)", "1", "1"),
        ("float", "0.1", "0.1"),
        ("double", "0.1", "0.1"),
        ("double", "1e300", "1e+300"),
        ("decimal(10,2)", "12.5", "12.5"),
        ("decimal(10,2)", "-0.1", "-0.1"),
        ("decimal(10,0)", "100", "100.0"),
        ("decimal(10,2) zerofill", "12.5", "12.5"),
        ("decimal(65,30)", "12345678901234567890.5", "1.2345678901234567e+19"),
        ("bit(1)", "b'1'", "1"),
        ("bit(10)", "b'1000000001'", "513"),
        ("bit(64)", "18446744073709551615", "18446744073709551615"),
        ("char(3)", "'a'", "\"a\""),
        ("varchar(20)", "'ü\"\\\\\\n\u{1F600}'", "\"ü\\\"\\\\\\n\u{1F600}\""),
        ("varchar(5) character set latin1", "'é'", "\"é\""),
        ("varchar(5) collate utf8mb4_bin", "'é'", "\"é\""),
        ("tinytext", "'é'", "\"é\""),
        ("text", "'é'", "\"é\""),
        ("mediumtext", "'é'", "\"é\""),
        ("longtext collate utf8mb4_bin", "'{}'", "\"{}\""),
        ("binary(2)", "x'00ff'", "\"\\\\x00ff\""),
        ("varbinary(5)", "x'00ff'", "\"\\\\x00ff\""),
        ("tinyblob", "x'00ff'", "\"\\\\x00ff\""),
        ("blob", "x''", "\"\\\\x\""),
        ("mediumblob", "x'00ff'", "\"\\\\x00ff\""),
        ("longblob", "x'00ff'", "\"\\\\x00ff\""),
        ("enum('sad','happy')", "'happy'", "\"happy\""),
        ("enum('sad','happy') collate utf8mb4_bin", "'sad'", "\"sad\""),
        ("set('a','b','c')", "'c,a'", "\"a,c\""),
        ("json", "'{\"b\": [1, 2.50, null]}'", "{\"b\": [1, 2.50, null]}"),
        ("json", "'\"text\"'", "\"text\""),
        ("date", "'2024-01-02'", "\"2024-01-02\""),
        ("date", "'0000-00-00'", "\"0000-00-00\""),
        ("date", "'2024-00-31'", "\"2024-00-31\""),
        ("date", "'9999-12-31'", "\"9999-12-31\""),
        ("time", "'03:04:05'", "\"03:04:05\""),
        ("time", "'00:00:00'", "\"00:00:00\""),
        ("time(6)", "'-03:04:05.5'", "\"-03:04:05.500000\""),
        ("time", "'-838:59:59'", "\"-838:59:59\""),
        ("time(3)", "'99:59:59.25'", "\"99:59:59.250000\""),
        ("datetime", "'2024-01-02 03:04:05'", "\"2024-01-02T03:04:05\""),
        ("datetime(6)", "'1000-01-01 00:00:00.000001'", "\"1000-01-01T00:00:00.000001\""),
        ("datetime", "'2024-01-02'", "\"2024-01-02T00:00:00\""),
        ("datetime", "0", "\"0000-00-00T00:00:00\""),
        ("timestamp", "'2024-01-02 03:04:05'", "\"2024-01-02T03:04:05+00:00\""),
        ("timestamp(3)", "'2024-01-02 03:04:05.25'", "\"2024-01-02T03:04:05.250000+00:00\""),
        ("timestamp", "0", "\"0000-00-00T00:00:00+00:00\""),
        ("year", "2024", "2024"),
        ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\""),
        ("inet4", "'10.0.0.1'", "\"10.0.0.1\""),
        ("inet6", "'2001:db8::1'", "\"2001:db8::1\""),
        ("geometry", "ST_GeomFromText('POINT(1 -2.5)', 4326)", "\"POINT(1 -2.5)\""),
        ("linestring", "ST_GeomFromText('LINESTRING(0 0,1 1)')", "\"LINESTRING(0 0,1 1)\""),
        (
            "polygon",
            "ST_GeomFromText('POLYGON((0 0,4 0,4 4,0 0),(1 1,2 1,2 2,1 1))')",
            "\"POLYGON((0 0,4 0,4 4,0 0),(1 1,2 1,2 2,1 1))\"",
        ),
        ("multipoint", "ST_GeomFromText('MULTIPOINT(0 0,1 1)')", "\"MULTIPOINT((0 0),(1 1))\""),
        (
            "multilinestring",
            "ST_GeomFromText('MULTILINESTRING((0 0,1 1),(2 2,3 3))')",
            "\"MULTILINESTRING((0 0,1 1),(2 2,3 3))\"",
        ),
        (
            "multipolygon",
            "ST_GeomFromText('MULTIPOLYGON(((0 0,4 0,4 4,0 0)))')",
            "\"MULTIPOLYGON(((0 0,4 0,4 4,0 0)))\"",
        ),
        (
            "geometrycollection",
            "ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1),MULTIPOINT(2 2))')",
            "\"GEOMETRYCOLLECTION(POINT(1 1),MULTIPOINT((2 2)))\"",
        ),
    ];
    let mut setup = "SET sql_mode = '';".to_owned();
    for (nth, (r#type, value, _)) in cases.iter().enumerate() {
        setup +=
            &format!("CREATE TABLE t{nth} (id int, v {type} NULL); INSERT INTO t{nth} VALUES (1, {value}), (2, NULL);");
    }
    let fixture = Fixture::mysql(&setup).await;
    for (nth, (r#type, value, json)) in cases.iter().enumerate() {
        let select = Select { order_by: vec!["id".into()], ..fixture.table(&format!("t{nth}")) };
        let expected = format!("[{{\"id\":1,\"v\":{json}}},{{\"id\":2,\"v\":null}}]");
        assert_eq!(row_text(&fixture, select).await, expected, "{type} {value}");
    }
    for (sql, json) in [
        ("NULL", "null"),
        ("1 = 1", "1"),
        ("'a'", "\"a\""),
        ("SUM(1)", "1.0"),
        ("COUNT(*)", "1"),
        ("CAST(1 AS unsigned)", "1"),
        ("1.50", "1.5"),
        ("CONCAT('a', 'é')", "\"aé\""),
        ("x'00'", "\"\\\\x00\""),
        ("TIMEDIFF('01:00', '02:30:00.5')", "\"-01:30:00.500000\""),
    ] {
        assert_eq!(
            row_text(&fixture, query(format!("SELECT {sql} AS v"))).await,
            format!("[{{\"v\":{json}}}]"),
            "{sql}"
        );
    }
    fixture.end().await;
}

#[tokio::test]
async fn mysql_columns_say_how_to_read_them() {
    let fixture =
        Fixture::mysql("CREATE TABLE t (n decimal(5,2), d date, t time, dt datetime, ts timestamp NULL, i int)").await;
    use ColumnKind::{Date, Decimal, Plain, Time, Timestamp, TimestampTz};
    let kinds = |cursor: &Cursor| cursor.columns().iter().map(|column| column.kind).collect::<Vec<_>>();
    // No row is needed for that.
    let cursor = fixture.fetch(fixture.table("t")).await.unwrap();
    assert_eq!(kinds(&cursor), [Plain, Date, Time, Timestamp, TimestampTz, Plain]);
    let sql = "SELECT 12345678901234567890123.4500 AS n";
    let mut cursor = fixture.fetch(Select { decimals: true, ..query(sql) }).await.unwrap();
    assert_eq!(kinds(&cursor), [Decimal]);
    assert_eq!(
        cursor.next_batch(RowFormat::Json).await.unwrap().unwrap(),
        "[{\"n\":\"12345678901234567890123.4500\"}]"
    );
    let cursor = fixture.fetch(Select { decimals: true, ..query(sql) }).await.unwrap();
    assert_eq!(streamed(cursor).await.unwrap(), b"[{\"n\":12345678901234567890123.4500}]");
    fixture.end().await;
}

#[tokio::test]
async fn json_of_mariadb_is_found_by_readers_too() {
    let fixture = Fixture::mysql(
        "CREATE TABLE t (`a``b` json, x text COLLATE utf8mb4_bin); INSERT INTO t VALUES ('[1]', '[1]');
         CREATE VIEW v AS SELECT `a``b`, x FROM t; SET check_constraint_checks = 0; CREATE TABLE broken (j json); INSERT INTO broken VALUES ('{')",
    )
    .await;
    let expected = [json!({"a`b": [1], "x": "[1]"})];
    assert_eq!(fixture.rows(fixture.table("t")).await.unwrap(), expected);
    assert_eq!(fixture.query("SELECT y.x, y.`a``b` FROM t AS y").await.unwrap(), expected);
    assert_eq!(fixture.rows(fixture.table("broken")).await.unwrap(), [json!({"j": "{"})]);
    // A result without an origin, and one whose origin is a view.
    assert_eq!(fixture.query("SELECT CONCAT(x) AS x FROM t").await.unwrap(), [json!({"x": "[1]"})]);
    assert_eq!(fixture.rows(fixture.table("v")).await.unwrap()[0]["x"], json!("[1]"));
    let reader = format!("{}_reader", fixture.schema);
    mysql_admin(&format!("CREATE USER {reader} IDENTIFIED BY 'x'; GRANT SELECT ON {}.t TO {reader}", fixture.schema))
        .await;
    let mut other = Fixture::new(&format!("mysql://{reader}:x@127.0.0.1/{}", fixture.schema), fixture.schema.clone());
    assert_eq!(other.rows(other.table("t")).await.unwrap(), expected);
    // What it may not do names neither account nor host.
    let error = other.rows(other.table("broken")).await.unwrap_err();
    assert_eq!(error.code, SqlErrorCode::StatementFailed);
    assert!(error.message.contains("SELECT command denied"), "{error}");
    assert!(!error.message.contains(&reader) && !error.message.contains("127.0.0.1"), "{error}");
    other.target.url = fixture.target.url.clone();
    drop(other);
    mysql_admin(&format!("DROP USER {reader}")).await;
    fixture.end().await;
}

#[tokio::test]
async fn mysql_params_are_values() {
    let fixture = Fixture::mysql(
        "CREATE TABLE t (i int, l bigint unsigned, f double, n decimal(10,2), b bool, x text, d date, dt datetime(6), j json, bl blob)",
    )
    .await;
    for (column, value, json) in [
        ("i", json!(5), json!(5)),
        ("i", json!("5"), json!(5)),
        ("i", json!(5.0), json!(5)),
        ("l", json!(u64::MAX), json!(u64::MAX)),
        ("l", json!(9_007_199_254_740_993_u64), json!(9_007_199_254_740_993_u64)),
        ("f", json!(1.5), json!(1.5)),
        ("n", json!("0.10"), json!(0.1)),
        ("b", json!(true), json!(true)),
        ("x", json!("a'; DROP TABLE t; --\\"), json!("a'; DROP TABLE t; --\\")),
        ("x", json!(5), json!("5")),
        ("d", json!("2024-01-02"), json!("2024-01-02")),
        ("dt", json!("2024-01-02T03:04:05.5"), json!("2024-01-02T03:04:05.500000")),
        ("j", json!({"a": [1, null]}), json!({"a": [1, null]})),
        ("bl", json!("a"), json!("\\x61")),
        ("i", json!(null), json!(null)),
    ] {
        let inserted = fixture.query_with(&format!("INSERT INTO t ({column}) VALUES (%s)"), json!([value])).await;
        assert_eq!(inserted, Ok(vec![]), "{column} {value}");
        let filter = [(column.to_owned(), json!([value]).into())].into_iter().collect();
        let found = fixture.rows(Select { filter, ..fixture.table("t") }).await.unwrap();
        let equals = value.is_object() || found.iter().any(|row| row[column] == json);
        assert!(equals && found.iter().all(|row| row[column] == json), "{column} {value}: {found:?}");
        mysql_admin(&format!("TRUNCATE TABLE {}.t", fixture.schema)).await;
    }
    for (sql, params) in [
        ("SELECT ? AS a, ? AS b, ? AS c, ? AS d, ? AS e", json!([1, 1.5, "x", null, 1])),
        ("SELECT %s AS a, %s AS b, %s AS c, %s AS d, %s AS e", json!([1, 1.5, "x", null, 1])),
        ("SELECT $1 AS a, $2 AS b, $3 AS c, $4 AS d, $1 AS e", json!([1, 1.5, "x", null])),
        ("SELECT :a AS a, :b AS b, :c AS c, :d AS d, :a AS e", json!({"a": 1, "b": 1.5, "c": "x", "d": null, "z": 0})),
    ] {
        let rows = fixture.query_with(sql, params).await;
        assert_eq!(rows.as_deref(), Ok(&[json!({"a": 1, "b": 1.5, "c": "x", "d": null, "e": 1})][..]), "{sql}");
    }
    let error = fixture.query("SELECT ?").await.unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (SqlErrorCode::InvalidArgument, "`query` has 1 placeholders, `params` has 0 values")
    );
    fixture.end().await;
}

/// To MySQL itself, every text without digits at its beginning equals 0, and the other way round.
#[tokio::test]
async fn numbers_match_no_texts_and_texts_no_numbers() {
    let fixture = Fixture::mysql(
        "CREATE TABLE tokens (id int, token varchar(20), price decimal(5,2)); INSERT INTO tokens VALUES (0, 'secret', 0), (12, '7', 1.5)",
    )
    .await;
    for (filter, expected) in [
        (json!({"token": 0}), vec![]),
        (json!({"TOKEN": 0}), vec![]),
        (json!({"token": false}), vec![]),
        (json!({"token": [0, 1.5]}), vec![]),
        (json!({"token": {"a": 1}}), vec![]),
        (json!({"token": 7}), vec![12]),
        (json!({"token": "secret"}), vec![0]),
        (json!({"id": "12"}), vec![12]),
        (json!({"id": " 12 "}), vec![12]),
        (json!({"price": "1.50", "token": null}), vec![]),
        (json!({"price": "15e-1", "token": [null, "7"]}), vec![12]),
    ] {
        let rows = fixture.rows(Select { filter: tests_filter(&filter), ..fixture.table("tokens") }).await.unwrap();
        let ids: Vec<i64> = rows.iter().map(|row| row["id"].as_i64().unwrap()).collect();
        assert_eq!(ids, expected, "{filter}");
    }
    for filter in [
        json!({"id": "secret"}),
        json!({"id": "12 or 1=1"}),
        json!({"price": ""}),
        json!({"id": {"a": 1}}),
        json!({"token": "7", "id": ["12", "nan"]}),
    ] {
        let error =
            fixture.rows(Select { filter: tests_filter(&filter), ..fixture.table("tokens") }).await.unwrap_err();
        assert_eq!(error.code, SqlErrorCode::InvalidArgument, "{filter}: {error}");
        assert!(error.message.contains("is expected there"), "{error}");
    }
    fixture.end().await;
}

#[tokio::test]
async fn one_statement_and_one_result() {
    let fixture = Fixture::mysql(
        "CREATE TABLE t (id int); INSERT INTO t VALUES (1); CREATE PROCEDURE one() SELECT 1 AS a;
         CREATE PROCEDURE none() DO 1; CREATE PROCEDURE two() BEGIN SELECT 1 AS a; SELECT 'x' AS b, 2 AS c; END",
    )
    .await;
    for sql in ["SELECT 1; DROP TABLE t", "SELECT 1;; SELECT 2", "DO 1; DROP TABLE t"] {
        let error = fixture.query(sql).await.unwrap_err();
        assert_eq!(error.code, SqlErrorCode::StatementFailed, "{sql}");
        assert!(error.message.contains("syntax"), "{error}");
    }
    assert_eq!(fixture.query("SELECT id FROM t;").await.unwrap(), [json!({"id": 1})]);
    assert_eq!(fixture.query("CALL one()").await.unwrap(), [json!({"a": 1})]);
    assert_eq!(fixture.query("CALL none()").await.unwrap(), [] as [Value; 0]);
    let error = fixture.query("CALL two()").await.unwrap_err();
    assert!(error.message.contains("several results"), "{error}");
    let error = fixture.query("LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE t").await.unwrap_err();
    assert!(error.message.contains("not allowed") || error.message.contains("disabled"), "{error}");
    assert_eq!(fixture.query("SELECT COUNT(*) AS n FROM t").await.unwrap(), [json!({"n": 1})]);
    fixture.end().await;
}
