//! The types of PostgreSQL beyond the common ones.

use super::*;

const TYPES: &str = "CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN positive AS int CHECK (value > 0);
    CREATE TYPE pair AS (a int, b text); CREATE TYPE nested AS (p pair, m mood, n positive, c money, x text[]);
    CREATE TYPE floatrange AS RANGE (subtype = float8)";

/// SQL in which the types above have their schema before them.
fn qualified(sql: &str, schema: &str) -> String {
    ["mood", "positive", "pair", "nested", "floatrange"]
        .iter()
        .fold(sql.to_owned(), |sql, name| sql.replace(&format!("::{name}"), &format!("::{schema}.{name}")))
}

#[tokio::test]
async fn rarer_types_become_json() {
    let fixture = Fixture::postgres(TYPES).await;
    for (sql, json) in [
        ("'-Infinity'::numeric", "-Infinity"),
        ("timestamp '0044-03-15 12:00 BC'", r#""0044-03-15T12:00:00 BC""#),
        ("timestamp '294276-12-31 23:59:59'", r#""294276-12-31T23:59:59""#),
        ("macaddr8 '08:00:2b:01:02:03:04:05'", r#""08:00:2b:01:02:03:04:05""#),
        ("B'10'::varbit", r#""10""#),
        ("ARRAY[[[true]],[[NULL::bool]]]", "[[[true]],[[null]]]"),
        ("'[0:1]={1,2}'::int[]", "[1,2]"),
        ("12.34::money", "12.34"),
        ("ARRAY[(-0.05)::money]", "[-0.05]"),
        ("pg_sleep(0)", r#""""#),
        ("'pg_class'::regclass", "1259"),
        ("'int4'::regtype", "23"),
        ("'1 2'::int2vector", "[1,2]"),
        ("'(0,1)'::tid", r#""(0,1)""#),
        ("'5'::xid", "5"),
        ("'18446744073709551615'::xid8", "18446744073709551615"),
        ("'16/B374D848'::pg_lsn", r#""16/B374D848""#),
        ("'$.a'::jsonpath", r#""$.\"a\"""#),
        ("point(1, -2.5)", r#""(1,-2.5)""#),
        ("lseg '[(0,0),(1,1e300)]'", r#""[(0,0),(1,1e+300)]""#),
        ("box '(1,1),(0,0)'", r#""(1,1),(0,0)""#),
        ("line '{1,2,3}'", r#""{1,2,3}""#),
        ("path '((0,0),(1,1))'", r#""((0,0),(1,1))""#),
        ("path '[(0,0),(1,1)]'", r#""[(0,0),(1,1)]""#),
        ("polygon '((0,0),(1,1),(2,0))'", r#""((0,0),(1,1),(2,0))""#),
        ("circle '<(1,2),3>'", r#""<(1,2),3>""#),
        ("ARRAY[point(1, 2)]", r#"["(1,2)"]"#),
        ("int4range(1, 5)", r#""[1,5)""#),
        ("int8range(NULL, 5)", r#""(,5)""#),
        ("numrange(1.50, NULL, '(]')", r#""(1.50,)""#),
        ("'empty'::int4range", r#""empty""#),
        ("daterange('2024-01-01', 'infinity')", r#""[2024-01-01,infinity)""#),
        ("tsrange('2024-01-01', NULL)", r#""[2024-01-01T00:00:00,)""#),
        ("tstzrange('2024-01-01 00:00+00', NULL)", r#""[2024-01-01T00:00:00+00:00,)""#),
        ("'[1,2.5]'::floatrange", r#""[1,2.5]""#),
        ("ARRAY[int4range(1, 5)]", r#"["[1,5)"]"#),
        ("(1, 'x')::pair", r#""(1,x)""#),
        ("(NULL, '')::pair", r#""(,\"\")""#),
        ("ARRAY[(1, 'x')::pair]", r#"["(1,x)"]"#),
        ("ROW(1, 'a, b', NULL, 1.50, true, date '2024-01-02')", r#""(1,\"a, b\",,1.50,t,2024-01-02)""#),
        ("to_tsvector('simple', 'the cat s cat')", r#""'cat':2,4 's':3 'the':1""#),
        ("setweight('a:1'::tsvector, 'A') || 'b'::tsvector", r#""'a':1A 'b'""#),
    ] {
        let sql = format!("SELECT {} AS v", qualified(sql, &fixture.schema));
        assert_eq!(row_text(&fixture, query(&*sql)).await, format!("[{{\"v\":{json}}}]"), "{sql}");
    }
    let mut cursor = fixture.fetch(Select { decimals: true, ..query("SELECT 1.5::money AS m") }).await.unwrap();
    assert_eq!(cursor.columns()[0].kind, ColumnKind::Decimal);
    assert_eq!(cursor.next_batch(RowFormat::Json).await.unwrap().unwrap(), r#"[{"m":"1.50"}]"#);
    fixture.end().await;
}

#[tokio::test]
async fn types_within_types_are_as_postgres_prints_them() {
    let fixture = Fixture::postgres(TYPES).await;
    for value in [
        r#"ROW((1, 'a "\')::pair, 'sad'::mood, 5, 1::money, ARRAY['a b', NULL, 'null', '', '{}\"'])::nested"#,
        r"(1, 'a''b(c)')::pair",
        r"ROW('it''s'::text, 1e300::float8, 2::float8, '\x00ff'::bytea, 'f'::bool, '{}'::int[], '{{1,2},{3,4}}'::int[])",
        r#"ROW('{"a": 1}'::jsonb, '00000000-0000-0000-0000-000000000001'::uuid, inet '10.0.0.1', point(1, 2), 'NaN'::numeric)"#,
        r"'a b:1,2B ''it''''s\\x'':3'::tsvector",
        "numrange(-1.5, 'infinity')",
        "(NULL, NULL)::pair",
    ] {
        let value = qualified(value, &fixture.schema);
        let rows = fixture.query(format!("SELECT v, v::text AS t FROM (SELECT {value} AS v) x")).await.unwrap();
        // Its sign is a setting of the server.
        let printed = rows[0]["t"].as_str().unwrap().replace("$1.00", "1.00");
        assert_eq!(rows[0]["v"], json!(printed), "{value}");
    }
    fixture.end().await;
}

#[tokio::test]
async fn types_that_cannot_be_returned_are_named() {
    let fixture = Fixture::postgres("").await;
    for (sql, r#type) in [("'a & b'::tsquery", "tsquery"), ("txid_current_snapshot()", "txid_snapshot")] {
        let error = fixture.query(format!("SELECT 1 AS a, {sql} AS \"v w\"")).await.unwrap_err();
        assert_eq!(error.code, SqlErrorCode::UnsupportedType);
        for part in ["column `v w`", r#type, "\"v w\"::text"] {
            assert!(error.message.contains(part), "{error}");
        }
        assert_eq!(fixture.query(format!("SELECT ({sql})::text AS v")).await.unwrap().len(), 1);
    }
    let error = fixture.query("SELECT '{[1,2)}'::int4multirange AS v").await.unwrap_err();
    assert_eq!(error.code, SqlErrorCode::UnsupportedType);
    assert!(error.message.contains("multirange") && error.message.contains("::text"), "{error}");
    fixture.end().await;
}
