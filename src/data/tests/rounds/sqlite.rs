//! SQLite's declared types, and none.

use super::*;

fn kinds() -> Vec<Case> {
    let texts = || {
        vec![
            text(""),
            text("a'b\"c\\d"),
            text("{\"a\": 1}"),
            text("é😀"),
            text("NULL"),
            text("5"),
            text("5.0"),
            text("\\x00"),
            text("A"),
            text("a"),
        ]
    };
    vec![
        key("INTEGER", vec![int(i64::MIN), int((1 << 53) + 1), int(1 << 53), int(i64::MAX), int(0)]),
        key("INT", vec![int(i64::MIN), int(i64::MAX), double(0.5), text("five").hidden()]),
        key("BIGINT", vec![int(-1), int(i64::MAX)]),
        key(
            "REAL",
            vec![
                double(0.1 + 0.2),
                double(-941_989_543.432_770_5),
                double(5e-324),
                double(f64::MAX),
                double(f64::INFINITY),
                double(f64::NEG_INFINITY),
                int(5).shown("5.0"),
            ],
        ),
        key("DOUBLE PRECISION", vec![double(1e22), double(0.1)]),
        key("TEXT", texts()),
        key("VARCHAR(20)", texts()),
        key("TEXT COLLATE NOCASE", vec![text("A"), text("b"), text("")]),
        key("CLOB", texts()),
        key(
            "BLOB",
            vec![bytes(&[]), bytes(&[0, 255, 65]), bytes(b"\\x00ff"), text("\\x00ff"), int(5), double(0.5), text("t")],
        ),
        key(
            "",
            vec![
                int(5),
                double(5.5),
                text("5").hidden(),
                text("x"),
                bytes(&[0, 255]),
                int(i64::MAX),
                double(1e300),
                text(""),
            ],
        ),
    ]
}

fn meanings() -> Vec<Case> {
    vec![
        key("BOOLEAN", vec![truth(true), truth(false), int(2)]),
        key(
            "JSON",
            vec![
                json("{\"a\": 1234567890123456789012, \"b\": [1.5, null]}"),
                json("{}"),
                text("t\"\\é"),
                text(""),
                text("{\"a\": 1}"),
                text("5"),
                int(5),
                double(0.1),
                truth(true),
                list(vec![]),
                list(vec![int(1), list(vec![text("b"), null()])]),
            ],
        ),
        key(
            "NUMERIC",
            vec![dec("12.5"), int(5).shown("\"5\""), dec("-0.001"), int(i64::MAX).shown("\"9223372036854775807\"")],
        ),
        key("DECIMAL(10,2)", vec![dec("1.50").shown("\"1.5\""), dec("0.01"), dec("12345678.91")]),
        key("DATE", vec![text("2024-02-29"), text("0044-03-15"), text("never").hidden()]),
        key("TIME", vec![text("03:04:05.5"), text("23:59")]),
        key("TIMESTAMP", vec![text("2024-01-02T03:04:05"), text("2024-01-02 03:04:05.123456"), int(1_700_000_000)]),
        key("DATETIME", vec![text("2024-01-02T03:04:05")]),
        key("TIMESTAMPTZ", vec![text("2024-01-02T03:04:05Z"), text("2024-01-02T03:04:05+02:00")]),
        key("POINT", vec![int(5), double(0.25), text("x").hidden()]),
    ]
}

fn cases() -> Vec<Case> {
    [kinds(), meanings()].into_iter().flatten().collect()
}

#[tokio::test]
async fn sqlite_values_survive_the_round() {
    let cases = cases();
    let fixture = Fixture::sqlite(&[("shop", &harness::tables(&cases))]);
    check(&fixture, &cases).await;
}

#[tokio::test]
async fn sqlite_refuses_or_keeps_what_is_of_another_type() {
    let cases = cases();
    let fixture = Fixture::sqlite(&[("shop", &harness::tables(&cases))]);
    wrong::check(&fixture, &cases).await;
}
