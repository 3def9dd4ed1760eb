//! Values of every type, out and in.

use super::*;

#[tokio::test]
async fn postgres_types_become_json() {
    let fixture = Fixture::postgres(
        "CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN positive AS int CHECK (value > 0);",
    )
    .await;
    let schema = fixture.schema.clone();
    for (sql, json) in [
        ("(-32768)::int2", "-32768"),
        ("2147483647::int4", "2147483647"),
        ("(-9223372036854775808)::int8", "-9223372036854775808"),
        ("4294967295::oid", "4294967295"),
        ("0.1::float4", "0.1"),
        ("1::float8", "1.0"),
        ("0.1::float8 + 0.2", "0.30000000000000004"),
        ("1e300::float8", "1e+300"),
        ("'NaN'::float8", "NaN"),
        ("'-Infinity'::float4", "-Infinity"),
        ("12.50::numeric", "12.5"),
        ("100::numeric", "100.0"),
        ("-0.001::numeric", "-0.001"),
        ("'NaN'::numeric", "NaN"),
        ("12345678901234567890.5::numeric", "1.2345678901234567e+19"),
        ("true", "true"),
        ("'ü\"\\\n\u{1F600}'::text", "\"ü\\\"\\\\\\n\u{1F600}\""),
        ("'a'::char(3)", "\"a  \""),
        ("'b'::varchar", "\"b\""),
        ("'c'::\"char\"", "\"c\""),
        ("'n'::name", "\"n\""),
        ("'untyped'", "\"untyped\""),
        ("'{\"b\": [1, 2.50, null], \"a\": \"x\"}'::json", "{\"b\": [1, 2.50, null], \"a\": \"x\"}"),
        ("'{\"b\": 1, \"a\": [true]}'::jsonb", "{\"a\": [true], \"b\": 1}"),
        ("'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid", "\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\""),
        ("date '2024-01-02'", "\"2024-01-02\""),
        ("date '0044-03-15 BC'", "\"0044-03-15 BC\""),
        ("date 'infinity'", "\"infinity\""),
        ("time '03:04:05.5'", "\"03:04:05.500000\""),
        ("timetz '03:04:05-07:30'", "\"03:04:05-07:30\""),
        ("timestamp '2024-01-02 03:04:05'", "\"2024-01-02T03:04:05\""),
        ("timestamp '1969-12-31 23:59:59.999999'", "\"1969-12-31T23:59:59.999999\""),
        ("timestamptz '2024-01-02 03:04:05.123456+02'", "\"2024-01-02T01:04:05.123456+00:00\""),
        ("timestamptz '-infinity'", "\"-infinity\""),
        ("'\\x00ff'::bytea", "\"\\\\x00ff\""),
        ("inet '10.0.0.1'", "\"10.0.0.1\""),
        ("inet '10.0.0.1/8'", "\"10.0.0.1/8\""),
        ("cidr '10.0.0.0/8'", "\"10.0.0.0/8\""),
        ("inet '2001:db8::1'", "\"2001:db8::1\""),
        ("macaddr '08:00:2b:01:02:03'", "\"08:00:2b:01:02:03\""),
        ("B'101'::bit(3)", "\"101\""),
        ("xmlparse(content '<a/>')", "\"<a/>\""),
        ("'happy'::mood", "\"happy\""),
        ("5::positive", "5"),
        ("ARRAY[1, NULL, 3]", "[1,null,3]"),
        ("ARRAY[[1,2],[3,4]]", "[[1,2],[3,4]]"),
        ("ARRAY[]::text[]", "[]"),
        ("ARRAY['a\"', 'b,c']", "[\"a\\\"\",\"b,c\"]"),
        ("ARRAY[1.50, 2]::numeric[]", "[1.5,2.0]"),
        ("ARRAY['sad']::mood[]", "[\"sad\"]"),
        ("ARRAY[date '2024-01-02']", "[\"2024-01-02\"]"),
        ("NULL::int", "null"),
        ("NULL::jsonb", "null"),
    ] {
        let sql = format!(
            "SELECT {} AS v",
            sql.replace("mood", &format!("{schema}.mood")).replace("positive", &format!("{schema}.positive"))
        );
        assert_eq!(row_text(&fixture, query(&*sql)).await, format!("[{{\"v\":{json}}}]"), "{sql}");
    }
    for interval in [
        "1 year 2 mons -3 days +04:05:06.7",
        "-00:00:01",
        "00:00:00",
        "1 day",
        "-1 years -2 mons",
        "2 days -00:01:00",
        "100:00:00.000001",
    ] {
        let rows =
            fixture.query(format!("SELECT i, i::text AS t FROM (SELECT interval '{interval}' AS i) x")).await.unwrap();
        assert_eq!(rows[0]["i"], rows[0]["t"]);
    }
    fixture.end().await;
}

#[tokio::test]
async fn columns_say_how_to_read_them() {
    let fixture = Fixture::postgres("").await;
    let sql = "SELECT 1.50::numeric AS n, date '2024-01-02' AS d, localtime AS t, localtimestamp AS ts, now() AS tz, 1 AS \"p\"\"q\"";
    let kinds = |cursor: &Cursor| cursor.columns().iter().map(|column| column.kind).collect::<Vec<_>>();
    let cursor = fixture.fetch(query(sql)).await.unwrap();
    use ColumnKind::{Date, Decimal, Plain, Time, Timestamp, TimestampTz};
    assert_eq!(kinds(&cursor), [Plain, Date, Time, Timestamp, TimestampTz, Plain]);
    assert_eq!(cursor.columns()[5].name, "p\"q");
    let mut cursor = fixture
        .fetch(Select { decimals: true, ..query("SELECT 1.50::numeric AS n, 'NaN'::numeric AS m") })
        .await
        .unwrap();
    assert_eq!(kinds(&cursor), [Decimal, Decimal]);
    assert_eq!(cursor.next_batch(RowFormat::Json).await.unwrap().unwrap(), "[{\"n\":\"1.50\",\"m\":\"NaN\"}]");
    let cursor = fixture
        .fetch(Select { decimals: true, ..query("SELECT 1.50::numeric AS n, 'NaN'::numeric AS m") })
        .await
        .unwrap();
    assert_eq!(streamed(cursor).await.unwrap(), b"[{\"n\":1.50,\"m\":null}]");
    let cursor = fixture.fetch(query("SELECT 'NaN'::float8 AS n, 'Infinity'::float4 AS i")).await.unwrap();
    assert_eq!(streamed(cursor).await.unwrap(), b"[{\"n\":null,\"i\":null}]");
    let empty = fixture.fetch(query("SELECT 1 AS a WHERE false")).await.unwrap();
    assert_eq!(empty.columns().len(), 1);
    assert_eq!(fixture.query("SELECT FROM generate_series(1, 2)").await.unwrap(), [json!({}), json!({})]);
    fixture.end().await;
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn params_take_the_types_that_the_server_infers() {
    let fixture = Fixture::postgres(
        "CREATE TYPE mood AS ENUM ('sad', 'happy');
         CREATE TABLE t (i int, s int2, l int8, f float8, g float4, n numeric(10,2), b bool, x text, v varchar(3), c char(3),
         u uuid, ts timestamp, tz timestamptz, d date, j jsonb, k json, ia int[], ta text[], iv interval, ip inet, by bytea, m mood, bt bit(3))",
    )
    .await;
    let schema = fixture.schema.clone();
    for (column, value, json) in [
        ("i", json!(5), json!(5)),
        ("i", json!("5"), json!(5)),
        ("i", json!(5.0), json!(5)),
        ("s", json!(-7), json!(-7)),
        ("l", json!(i64::MAX), json!(i64::MAX)),
        ("f", json!(1.5), json!(1.5)),
        ("f", json!(2), json!(2.0)),
        ("g", json!("0.1"), json!(0.1)),
        ("n", json!(12.5), json!(12.5)),
        ("n", json!("0.10"), json!(0.1)),
        ("b", json!(true), json!(true)),
        ("b", json!("f"), json!(false)),
        ("x", json!("a'; DROP TABLE t; --"), json!("a'; DROP TABLE t; --")),
        ("x", json!(5), json!("5")),
        ("x", json!({"a": 1}), json!("{\"a\":1}")),
        ("v", json!("abc"), json!("abc")),
        ("c", json!("abc"), json!("abc")),
        ("u", json!("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), json!("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
        ("ts", json!("2024-01-02T03:04:05.5"), json!("2024-01-02T03:04:05.500000")),
        ("tz", json!("2024-01-02T03:04:05Z"), json!("2024-01-02T03:04:05+00:00")),
        ("d", json!("2024-01-02"), json!("2024-01-02")),
        ("j", json!({"a": [1, null]}), json!({"a": [1, null]})),
        ("j", json!("{\"a\": \"text\"}"), json!({"a": "text"})),
        ("k", json!([1, "b"]), json!([1, "b"])),
        ("ia", json!([1, null, 3]), json!([1, null, 3])),
        ("ta", json!(["a\"\\", "", "NULL", "{}"]), json!(["a\"\\", "", "NULL", "{}"])),
        ("iv", json!("1 day 02:00"), json!("1 day 02:00:00")),
        ("ip", json!("10.0.0.1"), json!("10.0.0.1")),
        ("by", json!("\\x00ff"), json!("\\x00ff")),
        ("m", json!("happy"), json!("happy")),
        ("bt", json!("101"), json!("101")),
        ("i", json!(null), json!(null)),
        ("j", json!(null), json!(null)),
        ("iv", json!(null), json!(null)),
    ] {
        let sql = format!("INSERT INTO {schema}.t ({column}) VALUES (%s) RETURNING {column} AS v");
        let rows = fixture.query_with(&sql, json!([value])).await;
        assert_eq!(rows.as_deref(), Ok(&[json!({"v": json})][..]), "{column} {value}");
        if json.is_null() || column == "k" || column == "j" {
            continue; // NULL equals nothing, json has no equality, and a text in `where` is a text in JSON
        }
        if let Value::Array(_) | Value::Object(_) = value {
            continue; // in `where` an array means any of
        }
        let filter = [(column.to_owned(), json!([value]).into())].into_iter().collect();
        let found = fixture.rows(Select { filter, ..fixture.table("t") }).await.unwrap();
        assert!(found.iter().any(|row| row[column] == json), "{column} {value}: {found:?}");
    }
    let rows = fixture.query_with("SELECT $2::int + $1 AS a, $1::int AS b, '%s' AS c", json!([1, 2])).await.unwrap();
    assert_eq!(rows, [json!({"a": 3, "b": 1, "c": "%s"})]);
    let rows = fixture
        .query_with("SELECT :n::text AS a, :d::date + 1 AS b", json!({"n": "x", "d": "2024-01-31"}))
        .await
        .unwrap();
    assert_eq!(rows, [json!({"a": "x", "b": "2024-02-01"})]);
    for (sql, value, part) in [
        ("SELECT %s::int", json!("abc"), "value 1 is \"abc\": an int4 is expected there"),
        ("SELECT %s::int", json!(1.5), "value 1 is 1.5: an int4 is expected there"),
        ("SELECT %s::int2", json!(70000), "out of range"),
        ("SELECT %s::bool", json!("maybe"), "a bool is expected"),
        ("SELECT %s::date", json!([1]), "a date is expected"),
    ] {
        let error = fixture.query_with(sql, json!([value])).await.unwrap_err();
        assert_eq!(error.code, SqlErrorCode::InvalidArgument, "{error}");
        assert!(error.message.contains(part), "{error}");
    }
    let error = fixture.query_with("SELECT %s::date", json!(["tomorrowish"])).await.unwrap_err();
    assert_eq!(error.code, SqlErrorCode::StatementFailed);
    assert!(error.message.contains("tomorrowish"), "{error}");
    let error = fixture.query("SELECT $1::int").await.unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (SqlErrorCode::InvalidArgument, "`query` has 1 placeholders, `params` has 0 values")
    );
    fixture.end().await;
}

#[tokio::test]
async fn sqlite_types_become_json() {
    let fixture = Fixture::sqlite(&[(
        "t",
        "CREATE TABLE v (i INTEGER, r REAL, x TEXT, bl BLOB, b BOOLEAN, j JSON, n NUMERIC(10,2), d DATE, ts TIMESTAMP, tz TIMESTAMPTZ);
         INSERT INTO v VALUES (9223372036854775807, 1.0, 'ü\"', x'00ff', 1, '{\"a\": [1]}', 12.50, '2024-01-02', '2024-01-02 03:04:05', '2024-01-02T03:04:05Z');
         INSERT INTO v VALUES (NULL, 9e999, NULL, NULL, 0, 'not json', 5, NULL, NULL, NULL)",
    )]);
    let table = || Select { schema: Some("t".into()), table: Some("v".into()), ..Select::default() };
    assert_eq!(
        row_text(&fixture, table()).await,
        "[{\"i\":9223372036854775807,\"r\":1.0,\"x\":\"ü\\\"\",\"bl\":\"\\\\x00ff\",\"b\":true,\"j\":{\"a\": [1]},\"n\":12.5,\
         \"d\":\"2024-01-02\",\"ts\":\"2024-01-02 03:04:05\",\"tz\":\"2024-01-02T03:04:05Z\"},\
         {\"i\":null,\"r\":Infinity,\"x\":null,\"bl\":null,\"b\":false,\"j\":\"not json\",\"n\":5.0,\"d\":null,\"ts\":null,\"tz\":null}]"
    );
    let cursor = fixture.fetch(Select { decimals: true, ..table() }).await.unwrap();
    assert_eq!(cursor.columns().iter().filter(|column| column.kind == ColumnKind::Decimal).count(), 1);
    assert_eq!(cursor.columns()[8].kind, ColumnKind::Timestamp);
    let json: Value = serde_json::from_slice(&streamed(cursor).await.unwrap()).unwrap();
    assert_eq!((&json[0]["n"], &json[1]["r"]), (&json!(12.5), &json!(null)));
    for (sql, params) in [
        ("SELECT ? AS a, ? AS b, ? AS c, ? AS d", json!([1, 1.5, "x", null])),
        ("SELECT %s AS a, %s AS b, %s AS c, %s AS d", json!([1, 1.5, "x", null])),
        ("SELECT $1 AS a, $2 AS b, $3 AS c, $4 AS d", json!([1, 1.5, "x", null])),
        ("SELECT :a AS a, :b AS b, :c AS c, :d AS d", json!({"a": 1, "b": 1.5, "c": "x", "d": null, "unused": 0})),
    ] {
        let rows = fixture.query_with(sql, params).await;
        assert_eq!(rows.as_deref(), Ok(&[json!({"a": 1, "b": 1.5, "c": "x", "d": null})][..]), "{sql}");
    }
}

#[tokio::test]
async fn types_of_extensions_are_known_by_name() {
    // In a database of its own, because an extension is there for a whole database.
    let database = format!("pqdata_extensions_{}", std::process::id());
    admin(&format!("CREATE DATABASE {database}")).await;
    let fixture = Fixture::new(&format!("postgres://postgres@127.0.0.1/{database}"), String::new());
    fixture.query("CREATE SCHEMA ext").await.unwrap();
    fixture.query("CREATE EXTENSION citext SCHEMA ext").await.unwrap();
    fixture.query("CREATE EXTENSION ltree SCHEMA ext").await.unwrap();
    fixture.query("CREATE EXTENSION hstore SCHEMA ext").await.unwrap();
    let rows = fixture.query("SELECT 'a=>1, \"b c\"=>NULL'::ext.hstore AS h, ''::ext.hstore AS e").await.unwrap();
    assert_eq!(rows, [json!({"h": {"a": "1", "b c": null}, "e": {}})]);
    let sql = "SELECT 'Ab'::ext.citext AS c, 'a.b'::ext.ltree AS l, ARRAY['x']::ext.citext[] AS a, %s::ext.citext AS p";
    let rows = fixture.query_with(sql, json!(["It's"])).await.unwrap();
    assert_eq!(rows, [json!({"c": "Ab", "l": "a.b", "a": ["x"], "p": "It's"})]);
    drop(fixture);
    admin(&format!("DROP DATABASE {database} WITH (FORCE)")).await;
}
