//! The types of MySQL and MariaDB.

use super::*;

fn numbers() -> Vec<Case> {
    let forty = format!("{}.{}", "9".repeat(35), "1".repeat(30));
    vec![
        key("BOOL", vec![truth(true), truth(false), int(2), int(-128)]),
        key("TINYINT", vec![int(-128), int(0), int(1), int(127)]),
        key("TINYINT UNSIGNED", vec![int(0), int(255)]),
        key("TINYINT(1) UNSIGNED", vec![truth(false), truth(true), int(255)]),
        key("SMALLINT", vec![int(-32768), int(32767)]),
        key("SMALLINT UNSIGNED", vec![int(0), int(65535)]),
        key("MEDIUMINT", vec![int(-8_388_608), int(8_388_607)]),
        key("MEDIUMINT UNSIGNED", vec![int(0), int(16_777_215)]),
        key("INT", vec![int(i32::MIN.into()), int(i32::MAX.into())]),
        key("INT UNSIGNED", vec![int(0), int(u32::MAX.into())]),
        key("INT(5) ZEROFILL", vec![int(0), int(42)]),
        key("BIGINT", vec![int(i64::MIN), int((1 << 53) + 1), int(1 << 53), int(i64::MAX)]),
        key("BIGINT UNSIGNED", vec![int(0), int(i64::MAX), big("9223372036854775808"), big("18446744073709551615")]),
        key("BIT", vec![int(0), int(1)]),
        key("BIT(12)", vec![int(0), int(4095), int(513)]),
        key("BIT(64)", vec![int(0), big("18446744073709551615"), int(i64::MAX)]),
        key("YEAR", vec![int(0), int(1901), int(2024), int(2155)]),
        key(
            "FLOAT",
            vec![double(0.1), double(-0.0).shown("0.0"), double(3.402_82e38), double(16_777_216.0), double(1.5e-39)],
        ),
        key(
            "DOUBLE",
            vec![
                double(0.1 + 0.2),
                double(-941_989_543.432_770_5),
                double(f64::MIN_POSITIVE),
                double(f64::MAX),
                double(1e22),
                double(-0.0).shown("0.0"),
            ],
        ),
        key(
            "DECIMAL(10,2)",
            vec![dec("1.50"), int(2).shown("\"2.00\""), dec("-99999999.99"), double(0.1).shown("\"0.10\"")],
        ),
        key("DECIMAL(10,2) ZEROFILL", vec![dec("1.50"), int(2).shown("\"2.00\"")]),
        key(
            "DECIMAL(30)",
            vec![
                big("100000000000000000000").shown("\"100000000000000000000\""),
                big("100000000000000000001").shown("\"100000000000000000001\""),
                dec("-999999999999999999999999999999"),
            ],
        ),
        key(
            "DECIMAL(65,30)",
            vec![
                dec(&forty),
                dec(&format!("-{forty}")),
                dec("0.000000000000000000000000000001"),
                dec("1E+30").shown("\"1000000000000000000000000000000.000000000000000000000000000000\""),
            ],
        ),
    ]
}

/// Texts that differ in every collation.
fn awkward() -> Vec<Given> {
    vec![
        text(""),
        text("a'b\"c\\d"),
        text("{\"a\": 1}"),
        text("é\u{fc}"),
        text("NULL"),
        text("\\x00"),
        text("\\xzz"),
        text("a\tb\n"),
        text("A"),
        text("5"),
        text("0"),
        text("%_"),
    ]
}

fn texts() -> Vec<Case> {
    let with = |mut values: Vec<Given>, more: Vec<Given>| {
        values.extend(more);
        values
    };
    let wide = || with(awkward(), vec![text("😀\u{2028}"), text("日本")]);
    let by_case = || with(wide(), vec![text("a")]);
    let prefixed = |r#type: &str, values: Vec<Given>| Case { ability: Ability::Key("k(60)"), ..key(r#type, values) };
    vec![
        key("CHAR(9)", wide()),
        key("VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci", wide()),
        key("VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci", wide()),
        key("VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", by_case()),
        key("VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci", awkward()),
        key("VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_bin", with(awkward(), vec![text("a")])),
        key("VARCHAR(20) CHARACTER SET utf16", wide()),
        prefixed("TINYTEXT", wide()),
        prefixed("TEXT CHARACTER SET latin1", awkward()),
        prefixed("TEXT", with(wide(), vec![text(&"x".repeat(400))])),
        prefixed("MEDIUMTEXT COLLATE utf8mb4_bin", by_case()),
        prefixed("LONGTEXT", wide()),
        key(
            "ENUM('low','it''s','high','Ünï','a,b')",
            vec![text("low"), text("it's"), text("high"), text("Ünï"), text("a,b")],
        ),
        key("SET('c','a','it''s','é')", vec![text(""), text("c"), text("c,a"), text("a"), text("it's,é")]),
        key(
            "UUID",
            vec![
                text("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
                text("00000000-0000-0000-0000-000000000001"),
                text("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A12").shown("\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12\""),
            ],
        ),
        key("INET6", vec![text("2001:db8::1"), text("::"), text("::ffff:10.0.0.1")]),
        key("INET4", vec![text("10.0.0.1"), text("255.255.255.255")]),
        key(
            "BINARY(16)",
            vec![
                bytes(&[0; 16]),
                bytes(&[255; 16]),
                bytes(b"\\x00ff0123456789"),
                text("\\x000102030405060708090a0b0c0d0e0f"),
            ],
        ),
        key("BINARY(4)", vec![bytes(b"ABCD"), bytes(&[0, 255, 65, 39]), bytes(b"a").shown("\"\\\\x61000000\"")]),
        key("VARBINARY(20)", vec![bytes(&[]), bytes(&[0, 255, 65]), bytes(b"\\x00ff"), text("\\x00ff"), bytes(&[0])]),
        prefixed("TINYBLOB", vec![bytes(&[]), bytes(&[0, 255, 65]), bytes(b"\\x00ff")]),
        prefixed("BLOB", vec![bytes(&[]), bytes(&[0, 255, 65]), bytes(b"'\"")]),
        prefixed("LONGBLOB", vec![bytes(&[]), bytes(&[0, 255, 65])]),
        compared("POINT", vec![text("POINT(1 -2.5)")]),
        compared("GEOMETRY", vec![text("LINESTRING(0 0,1 1)"), text("POLYGON((0 0,1 0,1 1,0 0))")]),
        ordered(
            "JSON",
            vec![
                json("{\"a\": 1234567890123456789012, \"b\": [1.5, null]}"),
                json("{}"),
                text("t\"\\é"),
                text(""),
                text("{\"a\": 1}"),
                int(5),
                big("1000000000000000000000000000000"),
                double(0.1),
                truth(true),
                list(vec![]),
                list(vec![int(1), list(vec![text("b"), null()])]),
            ],
        ),
    ]
}

fn moments() -> Vec<Case> {
    vec![
        key("DATE", vec![text("2024-02-29"), text("1000-01-01"), text("9999-12-31"), text("0001-01-01")]),
        key("DATETIME", vec![text("2024-01-02T03:04:05"), text("9999-12-31T23:59:59")]),
        key(
            "DATETIME(6)",
            vec![
                text("2024-01-02T03:04:05.123456"),
                text("2024-01-02T03:04:05.123457+02:00").shown("\"2024-01-02T01:04:05.123457\""),
                text("0001-01-01T00:00:00"),
            ],
        ),
        key(
            "TIMESTAMP",
            vec![
                text("2024-01-02T03:04:05+00:00"),
                text("2038-01-19T03:14:07+00:00"),
                text("1970-01-01T00:00:01+00:00"),
            ],
        ),
        key(
            "TIMESTAMP(6)",
            vec![
                text("2024-01-02T03:04:05.123456+00:00"),
                text("2024-01-02T03:04:05.5-07:30").shown("\"2024-01-02T10:34:05.500000+00:00\""),
                text("2024-01-02T03:04:05").shown("\"2024-01-02T03:04:05+00:00\""),
            ],
        ),
        key("TIME", vec![text("00:00:00"), text("838:59:59"), text("-838:59:59"), text("23:59:59")]),
        key("TIME(6)", vec![text("03:04:05.500000"), text("-01:30:00.000001"), text("100:00:00")]),
    ]
}

#[tokio::test]
async fn mysql_numbers_and_moments_survive_the_round() {
    let cases: Vec<Case> = [numbers(), moments()].into_iter().flatten().collect();
    let fixture = Fixture::mysql(&harness::tables(&cases)).await;
    check(&fixture, &cases).await;
    fixture.end().await;
}

#[tokio::test]
async fn mysql_refuses_or_keeps_what_is_of_another_type() {
    let cases: Vec<Case> = [numbers(), moments(), texts()].into_iter().flatten().collect();
    let fixture = Fixture::mysql(&harness::tables(&cases)).await;
    wrong::check(&fixture, &cases).await;
    fixture.end().await;
}

#[tokio::test]
async fn mysql_texts_survive_the_round() {
    let cases = texts();
    let fixture = Fixture::mysql(&harness::tables(&cases)).await;
    check(&fixture, &cases).await;
    fixture.end().await;
}
