//! Values of every kind in the addresses of table endpoints: as filters, as orders, in cursors.

use serde_json::{Value, json, value::RawValue};
use url::form_urlencoded::byte_serialize;

use crate::{
    support::TestApp,
    tables::{drop_schema, execute, ids, schema_on_each, serve},
};

/// A value as an address has it.
fn encoded(value: &str) -> String {
    byte_serialize(value.as_bytes()).collect()
}

/// The rows of a page and of all that follow it.
async fn walk(app: &TestApp, path: &str) -> Vec<Value> {
    let (mut rows, mut next) = (Vec::new(), Some(path.to_owned()));
    while let Some(path) = next {
        let page = app.get(&path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.body);
        rows.extend(page.json().as_array().unwrap().clone());
        let link = page.headers.get("link").map(|link| link.to_str().unwrap().to_owned());
        next = link.map(|link| link.trim_start_matches('<').split('>').next().unwrap().to_owned());
        assert!(rows.len() < 100, "{path}: pages do not end");
    }
    rows
}

fn numbers(rows: &[Value]) -> Vec<i64> {
    rows.iter().map(|row| row["id"].as_i64().unwrap()).collect()
}

/// A row, with its value as it is written.
#[derive(serde::Deserialize)]
struct Shown {
    id: i64,
    v: Box<RawValue>,
}

/// Types of columns with awkward values, of which no two are equal, in their order.
fn ordered(kind: &str) -> Vec<(&'static str, &'static [&'static str])> {
    match kind {
        "postgres" => vec![
            ("numeric", &["'-Infinity'", "-1e30", "0", "0.1", "0.10000000000000000001", "1e30", "'Infinity'", "'NaN'"]),
            ("double precision", &["'-Infinity'", "-0.1", "0", "0.1", "0.30000000000000004", "'Infinity'", "'NaN'"]),
            ("real", &["'-Infinity'", "0.1", "16777216", "'Infinity'", "'NaN'"]),
            ("bigint", &["-9223372036854775808", "-1", "9007199254740992", "9007199254740993"]),
            ("jsonb", &["'null'", "'\"a\"'", "'1'", "'1.5'", "'false'", "'true'", "'[1]'", "'{\"n\": 3}'"]),
            ("text[]", &["'{}'", "'{a}'", "'{a,b}'", "'{\"a,b\",c}'", "'{b,NULL}'", "'{NULL}'"]),
            ("integer[]", &["'{}'", "'{1}'", "'{1,2}'", "'{{1,2},{3,4}}'", "'{2}'"]),
            ("bytea", &["''", "'\\x00'", "'\\x41'", "'\\x5c783431'", "'\\xff'"]),
            ("text COLLATE \"C\"", &["''", "' '", "'A'", "'NULL'", "'\\x41'", "'a'", "'a''b'", "'é'"]),
            ("boolean", &["false", "true"]),
            ("timestamp", &["'-infinity'", "'0044-03-15 12:00 BC'", "'2024-01-02 03:04:05.000001'", "'infinity'"]),
            (
                "timestamptz",
                &["'-infinity'", "'0044-03-15 12:00+00 BC'", "'2024-01-02 03:04:05.000001+00'", "'infinity'"],
            ),
            ("date", &["'-infinity'", "'0044-03-15 BC'", "'2024-01-02'", "'infinity'"]),
            ("interval", &["'-1 day'", "'0'", "'1 day'", "'1 mon'", "'1 year 2 mons'"]),
            ("uuid", &["'00000000-0000-0000-0000-000000000000'", "'6ba7b810-9dad-11d1-80b4-00c04fd430c8'"]),
            ("inet", &["'10.0.0.2/8'", "'10.0.0.1'", "'::1'"]),
            ("int4range", &["'empty'", "'(,5)'", "'[1,5)'", "'[1,)'"]),
            ("bit varying", &["''", "'0'", "'01'", "'1'"]),
            ("money", &["-1.5", "0", "12.34"]),
        ],
        "mysql" => vec![
            ("enum('low','medium','high')", &["'low'", "'medium'", "'high'"]),
            ("set('c','a')", &["''", "'c'", "'a'", "'c,a'"]),
            ("binary(4)", &["x'00000000'", "x'41'", "x'41424344'", "x'5c783431'", "x'ffffffff'"]),
            ("varbinary(20)", &["x''", "x'00'", "x'41'", "x'5c783431'", "x'ff'"]),
            ("blob", &["x''", "x'00'", "x'41'", "x'ff'"]),
            ("decimal(50,20)", &["-1e28", "0", "0.1", "0.10000000000000000001", "1e28"]),
            ("double", &["-1e300", "-0.1", "0", "0.1", "0.30000000000000004", "1e300"]),
            ("float", &["-3e38", "0", "0.1", "16777216", "3e38"]),
            ("bigint unsigned", &["0", "9007199254740993", "18446744073709551615"]),
            ("bit(64)", &["b'0'", "b'1'", "18446744073709551615"]),
            ("boolean", &["0", "1", "2"]),
            (
                "timestamp(6)",
                &["'1970-01-02 00:00:00'", "'2024-01-02 03:04:05.000001'", "'2024-01-02 03:04:05.000002'"],
            ),
            ("datetime(6)", &["'1000-01-01'", "'2024-01-02 03:04:05.000001'", "'9999-12-31 23:59:59.999999'"]),
            ("date", &["'1000-01-01'", "'2024-01-02'", "'9999-12-31'"]),
            ("time(6)", &["'-838:59:59'", "'-00:00:01'", "'00:00:00'", "'12:30:00.5'", "'100:00:00'"]),
            ("year", &["0", "1901", "2155"]),
            ("varchar(20) COLLATE utf8mb4_bin", &["''", "'A'", "'\\\\x41'", "'a'", "'é'"]),
            ("json", &["'1'", "'[1]'", "'{\"n\": 3}'"]),
        ],
        _ => vec![
            ("BLOB", &["x''", "x'00'", "x'41'", "x'5c783431'", "x'ff'"]),
            ("", &["-1", "0.5", "1", "9007199254740993", "''", "'1'", "'\\x41'", "'a'", "x''", "x'41'"]),
            ("INTEGER", &["-9223372036854775808", "9007199254740992", "9007199254740993"]),
            ("REAL", &["-9e999", "-0.1", "0", "0.1", "0.30000000000000004", "9e999"]),
            ("DECIMAL(20,2)", &["-1.5", "0", "12.34", "1000000000000"]),
            ("TEXT", &["''", "'1'", "'A'", "'\\x41'", "'a'", "'é'"]),
            ("JSON", &["'[1]'", "'{\"n\": 3}'"]),
            ("BOOLEAN", &["0", "1"]),
            ("DATETIME", &["'2024-01-02 03:04:05'", "'2024-01-02T03:04:05Z'"]),
        ],
    }
}

#[tokio::test]
async fn pages_in_the_order_of_any_type_have_each_row_once() {
    for (kind, schema, app) in schema_on_each("ordered").await {
        for (nth, (declared, values)) in ordered(kind).into_iter().enumerate() {
            let mut sql = vec![
                format!("CREATE TABLE {schema}.t{nth} (id INTEGER PRIMARY KEY, v {declared} NULL)"),
                format!("INSERT INTO {schema}.t{nth} VALUES (100, NULL), (101, NULL), (102, NULL)"),
            ];
            // Each twice, so that pages end between equal values.
            let row = |(place, value): (usize, &&str)| {
                format!("INSERT INTO {schema}.t{nth} VALUES ({0}, {value}), ({1}, {value})", 2 * place, 2 * place + 1)
            };
            sql.extend(values.iter().enumerate().map(row));
            execute(&app, &sql).await;
            let (route, what) = (format!("/t{nth}"), format!("{kind} {declared}"));
            serve(&app, &route, json!({"connection": "dw_2", "schema": schema, "table": format!("t{nth}")})).await;
            let n_rows = i64::try_from(values.len()).unwrap() * 2;
            let up: Vec<i64> = (0..n_rows).chain(100..103).collect();
            let pairs = (0..n_rows / 2).rev().flat_map(|pair| [2 * pair, 2 * pair + 1]);
            let down: Vec<i64> = pairs.chain(100..103).collect();
            for (order, expected) in [("v", &up), ("-v", &down)] {
                for limit in [1, 2, 3, 50] {
                    let rows = walk(&app, &format!("/acme{route}?order={order}&limit={limit}")).await;
                    assert_eq!(numbers(&rows), *expected, "{what} order={order} limit={limit}: {rows:?}");
                }
            }
            // What a page shows is found by it, where the column has a type.
            if declared.is_empty() {
                continue;
            }
            let page = app.get(&format!("/acme{route}?v=is.not_null&limit=50")).await;
            for Shown { id, v } in serde_json::from_str::<Vec<Shown>>(&page.body).unwrap() {
                let text = match serde_json::from_str(v.get()) {
                    Ok(Value::Null) => continue, // NaN and infinities, which JSON does not have
                    Ok(Value::String(text)) if declared != "jsonb" => text,
                    _ => v.get().to_owned(),
                };
                let found = app.get(&format!("/acme{route}?v=eq.{}", encoded(&text))).await;
                assert_eq!(found.status, 200, "{what} {text}: {}", found.body);
                assert!(ids(&found).contains(&id), "{what}: {text} finds {}", found.body);
            }
        }
        drop_schema(&app, kind, &schema).await;
    }
}

#[tokio::test]
async fn binary_keys_tell_rows_apart() {
    for (kind, schema, app) in schema_on_each("binary").await {
        let (declared, literal) = match kind {
            "postgres" => ("bytea", "'\\x"),
            "mysql" => ("BINARY(4)", "x'"),
            _ => ("BLOB", "x'"),
        };
        let keys = ["00000000", "41424344", "5c783431", "7fffffff", "ffffffff"];
        let mut sql = vec![format!("CREATE TABLE {schema}.bk (k {declared} PRIMARY KEY, id INTEGER)")];
        let insert = |(nth, key): (usize, &&str)| format!("INSERT INTO {schema}.bk VALUES ({literal}{key}', {nth})");
        sql.extend(keys.iter().enumerate().map(insert));
        execute(&app, &sql).await;
        let source = json!({"connection": "dw_2", "schema": schema, "table": "bk"});
        serve(&app, "/bk", source.clone()).await;
        serve(&app, "/bk/{k}", source).await;
        for limit in [1, 2, 5] {
            let rows = walk(&app, &format!("/acme/bk?limit={limit}")).await;
            assert_eq!(numbers(&rows), [0, 1, 2, 3, 4], "{kind} limit={limit}");
            let rows = walk(&app, &format!("/acme/bk?limit={limit}&order=-k")).await;
            assert_eq!(numbers(&rows), [4, 3, 2, 1, 0], "{kind} limit={limit}");
        }
        for (nth, key) in (0_i64..).zip(keys) {
            for path in [
                format!("/acme/bk/%5Cx{key}"),
                format!("/acme/bk?k=eq.%5Cx{key}"),
                format!("/acme/bk?k=in.(%5Cx{key})"),
            ] {
                let found = app.get(&path).await;
                assert_eq!(ids(&found), [nth], "{kind} {path}");
                assert_eq!(found.json()[0]["k"], format!("\\x{key}"), "{kind}");
            }
        }
        assert_eq!(ids(&app.get("/acme/bk?k=gt.%5Cx41424344").await), [2, 3, 4], "{kind}");
        assert_eq!(ids(&app.get("/acme/bk?k=ne.%5Cx41424344").await), [0, 2, 3, 4], "{kind}");
        for wrong in ["%5Cx4", "%5Cxzz"] {
            let answer = app.get(&format!("/acme/bk?k=eq.{wrong}")).await;
            match kind {
                "sqlite" => assert_eq!(ids(&answer), [0; 0], "its BLOB column may have texts"),
                _ => {
                    assert_eq!(answer.problem(), (400, "invalid_filter".to_owned()), "{kind} {wrong}");
                    assert!(answer.json()["detail"].as_str().unwrap().contains("`k`"), "{kind}: {}", answer.body);
                }
            }
        }
        drop_schema(&app, kind, &schema).await;
    }
}

/// A table of two rows, its filters with the rows that they find, and filters that are refused.
type Filters = (&'static str, [&'static str; 2], &'static [(&'static str, &'static [i64])], &'static [&'static str]);

const MOMENTS: &[(&str, &[i64])] = &[
    ("v=gte.2024-01-02T02:30:00-01:00", &[2]),
    ("v=gte.2024-01-02T05:30:00%2B02:00", &[2]),
    ("v=eq.2024-01-02T05:00:00%2B02:00", &[1]),
    ("v=eq.2024-01-02T03:00:00Z", &[1]),
    ("v=in.(2024-01-02T05:00:00%2B02:00)", &[1]),
    ("v=lt.2024-01-02T03:30:00.000001%2B00:00", &[1, 2]),
];
const NO_MOMENTS: &[&str] =
    &["v=gte.never", "v=eq.2024-13-01", "v=in.(2024-01-02,never)", "v=eq.2024-01-02T03:00:00+02:00"];
const NUMBERS: &[(&str, &[i64])] = &[("v=gt.5.0", &[2]), ("v=lt.5.5", &[1]), ("v=in.(7,8)", &[2]), ("v=in.()", &[])];

fn filters(kind: &str) -> Vec<Filters> {
    match kind {
        "postgres" => postgres_filters(),
        "mysql" => mysql_filters(),
        _ => sqlite_filters(),
    }
}

fn postgres_filters() -> Vec<Filters> {
    vec![
        ("timestamptz", ["'2024-01-02 03:00+00'", "'2024-01-02 03:30+00'"], MOMENTS, NO_MOMENTS),
        (
            "timestamp",
            ["'2024-01-02 03:00'", "'2024-01-02 03:30'"],
            &[("v=eq.2024-01-02T03:00:00", &[1])],
            &["v=gte.never"],
        ),
        (
            "integer",
            ["5", "7"],
            &[("v=gt.5", &[2]), ("v=in.(7,8)", &[2]), ("v=in.()", &[])],
            &["v=eq.abc", "v=in.(5,x)", "v=gt."],
        ),
        ("numeric", ["5", "7"], NUMBERS, &["v=eq.abc"]),
        (
            "jsonb",
            ["'{\"n\": 3}'", "'\"x\"'"],
            &[("v=eq.{\"n\": 3}", &[1]), ("v=ne.{\"n\": 3}", &[2]), ("v=eq.\"x\"", &[2])],
            &["v=eq.{"],
        ),
        ("json", ["'{\"n\": 3}'", "'\"x\"'"], &[("v=is.not_null", &[1, 2])], &["v=eq.{\"n\": 3}", "v=gt.1", "order=v"]),
        (
            "text[]",
            ["'{\"a,b\",c}'", "'{NULL}'"],
            &[
                ("v=eq.[\"a,b\", \"c\"]", &[1]),
                ("v=eq.{\"a,b\",c}", &[1]),
                ("v=in.({NULL},[])", &[2]),
                ("v=eq.[null]", &[2]),
                ("v=gt.[\"b\"]", &[2]),
            ],
            &["v=eq.[", "v=eq.a", "v=in.({},{)"],
        ),
        (
            "numeric[]",
            ["'{12345678901234567890.10}'", "'{{1,2}}'"],
            &[("v=eq.[12345678901234567890.10]", &[1]), ("v=eq.[[1,2]]", &[2])],
            &["v=eq.[\"a\"]"],
        ),
        (
            "uuid",
            ["'6ba7b810-9dad-11d1-80b4-00c04fd430c8'", "NULL"],
            &[("v=eq.6BA7B810-9dad-11d1-80b4-00c04fd430c8", &[1])],
            &["v=eq.6ba7"],
        ),
        ("boolean", ["true", "false"], &[("v=is.true", &[1]), ("v=eq.false", &[2])], &["v=eq.maybe"]),
        ("numeric", ["'NaN'", "'Infinity'"], &[("v=eq.NaN", &[1]), ("v=eq.Infinity", &[2]), ("v=is.null", &[])], &[]),
    ]
}

fn mysql_filters() -> Vec<Filters> {
    vec![
        ("timestamp", ["'2024-01-02 03:00'", "'2024-01-02 03:30'"], MOMENTS, NO_MOMENTS),
        ("datetime", ["'2024-01-02 03:00'", "'2024-01-02 03:30'"], MOMENTS, NO_MOMENTS),
        (
            "int",
            ["5", "7"],
            &[("v=gt.5", &[2]), ("v=in.(7,8)", &[2]), ("v=in.()", &[])],
            &["v=eq.abc", "v=in.(5,x)", "v=gt."],
        ),
        ("decimal(5,2)", ["5", "7"], NUMBERS, &["v=eq.abc"]),
        (
            "enum('low','high')",
            ["'low'", "'high'"],
            &[("v=gt.low", &[2]), ("v=eq.high", &[2]), ("v=ne.high", &[1])],
            &["v=eq.none", "v=gt.none", "v=in.(low,none)"],
        ),
        ("set('c','a')", ["'c'", "'c,a'"], &[("v=eq.c,a", &[2]), ("v=gt.c", &[2])], &["v=eq.x", "v=gt.c,x"]),
        ("json", ["'{\"n\": 3}'", "'\"x\"'"], &[("v=eq.{\"n\": 3}", &[1]), ("v=eq.\"x\"", &[2])], &["v=eq.{"]),
        ("boolean", ["true", "false"], &[("v=is.true", &[1]), ("v=eq.false", &[2])], &["v=eq.maybe"]),
        ("point", ["POINT(1,2)", "NULL"], &[("v=is.null", &[2])], &["order=v", "v=gt.1"]),
    ]
}

fn sqlite_filters() -> Vec<Filters> {
    vec![
        (
            "TIMESTAMPTZ",
            ["'2024-01-02T03:00:00+00:00'", "'2024-01-02T03:30:00+00:00'"],
            &[("v=eq.2024-01-02T03:00:00%2B00:00", &[1])],
            &["v=gte.never"],
        ),
        ("INTEGER", ["5", "7"], NUMBERS, &["v=eq.abc", "v=in.(5,x)", "v=gt."]),
        ("REAL", ["5", "7"], NUMBERS, &["v=eq.abc"]),
        ("JSON", ["'{\"n\": 3}'", "'\"x\"'"], &[("v=eq.{\"n\": 3}", &[1]), ("v=eq.\"x\"", &[2])], &["v=eq.{"]),
        ("BOOLEAN", ["1", "0"], &[("v=is.true", &[1]), ("v=eq.false", &[2])], &["v=eq.maybe"]),
    ]
}

#[tokio::test]
async fn filters_are_read_as_values_of_their_columns() {
    for (kind, schema, app) in schema_on_each("filtering").await {
        for (nth, (declared, [one, other], found, refused)) in filters(kind).into_iter().enumerate() {
            let sql = [
                format!("CREATE TABLE {schema}.t{nth} (id INTEGER PRIMARY KEY, v {declared} NULL)"),
                format!("INSERT INTO {schema}.t{nth} VALUES (1, {one}), (2, {other})"),
            ];
            execute(&app, &sql).await;
            let source = json!({"connection": "dw_2", "schema": schema, "table": format!("t{nth}")});
            serve(&app, &format!("/t{nth}"), source).await;
            let query = json!({"connection": "dw_2", "query": format!("SELECT * FROM {schema}.t{nth}"), "key": ["id"]});
            serve(&app, &format!("/q{nth}"), query).await;
            for route in [format!("/t{nth}"), format!("/q{nth}")] {
                // Which labels there are, and their numbers, is not known of a query's columns.
                let is_unlabelled = route.starts_with("/q") && declared.contains("('");
                for (filter, expected) in found {
                    if is_unlabelled && filter.contains("=gt.") {
                        continue;
                    }
                    let answer =
                        app.get(&format!("/acme{route}?{}", filter.replace('"', "%22").replace(' ', "%20"))).await;
                    assert_eq!(answer.status, 200, "{kind} {declared} {route} {filter}: {}", answer.body);
                    assert_eq!(ids(&answer), *expected, "{kind} {declared} {route} {filter}");
                }
                for filter in refused.iter().filter(|_| !is_unlabelled) {
                    let answer =
                        app.get(&format!("/acme{route}?{}", filter.replace('"', "%22").replace(' ', "%20"))).await;
                    assert_eq!(answer.status, 400, "{kind} {declared} {route} {filter}: {}", answer.body);
                    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
                    assert!(detail.contains("`v`"), "{kind} {declared} {route} {filter}: {detail}");
                    // A `+` that is not encoded means a space.
                    assert_eq!(
                        detail.contains("%2B"),
                        filter.contains('+'),
                        "{kind} {declared} {route} {filter}: {detail}"
                    );
                }
            }
        }
        drop_schema(&app, kind, &schema).await;
    }
}
