//! PostgreSQL's types.

use super::*;

const TYPES: &str =
    "CREATE TYPE mood AS ENUM ('sad', 'it''s', 'happy', ''); CREATE DOMAIN positive AS int CHECK (value > 0);
    CREATE TYPE pair AS (a int, b text); CREATE TYPE floatrange AS RANGE (subtype = float8);";

fn numbers() -> Vec<Case> {
    let forty = "0.1234567890123456789012345678901234567891";
    vec![
        key("boolean", vec![truth(true), truth(false)]),
        key("smallint", vec![int(-32768), int(0), int(32767)]),
        key("integer", vec![int(i32::MIN.into()), int(-1), int(i32::MAX.into())]),
        key("bigint", vec![int(i64::MIN), int((1 << 53) + 1), int(1 << 53), int(i64::MAX)]),
        key(
            "real",
            vec![
                double(0.1),
                double(-0.0),
                double(3.402_823_5e38),
                double(1e-45),
                double(f64::NAN),
                double(f64::INFINITY),
                double(f64::NEG_INFINITY),
                double(16_777_216.0),
            ],
        ),
        key(
            "double precision",
            vec![
                double(0.1 + 0.2),
                double(-941_989_543.432_770_5),
                double(5e-324),
                double(f64::MAX),
                double(-0.0),
                double(1e22),
                double(f64::NAN),
                double(f64::INFINITY),
                double(f64::NEG_INFINITY),
            ],
        ),
        key(
            "numeric",
            vec![
                int(0).shown("\"0\""),
                dec("-12.50"),
                dec("1E+3").shown("\"1000\""),
                dec("1000000000000000000000000000000"),
                big("1000000000000000000000000000001").shown("\"1000000000000000000000000000001\""),
                dec(forty),
                dec("0.1234567890123456789012345678901234567892"),
                dec("NaN"),
                dec("Infinity"),
                dec("-Infinity"),
                double(0.1).shown("\"0.1\""),
            ],
        ),
        key(
            "numeric(30)",
            vec![
                big("100000000000000000000").shown("\"100000000000000000000\""),
                big("100000000000000000001").shown("\"100000000000000000001\""),
                big("-999999999999999999999999999999").shown("\"-999999999999999999999999999999\""),
            ],
        ),
        key("numeric(10,2)", vec![dec("1.50"), int(2).shown("\"2.00\""), dec("-99999999.99")]),
        key("money", vec![dec("12.34"), dec("-92233720368547758.08"), dec("92233720368547758.07"), dec("0.00")]),
        key("oid", vec![int(0), int(4_294_967_295)]),
        key("regclass", vec![int(1259), int(1249)]),
        compared("xid", vec![int(3), int(4_294_967_295)]),
        compared("cid", vec![int(3), int(4_294_967_295)]),
        key("xid8", vec![int(3), big("18446744073709551615")]),
        key("positive", vec![int(1), int(i32::MAX.into())]),
    ]
}

fn texts() -> Vec<Case> {
    let awkward = || {
        vec![
            text(""),
            text("a'b\"c\\d"),
            text("{\"a\": 1}"),
            text("{1,2}"),
            text("é😀\u{2028}"),
            text("NULL"),
            text("null"),
            text("\\x00"),
            text(" a\tb\n"),
            text("A"),
            text("a"),
            text("5"),
        ]
    };
    let mut long = awkward();
    long.push(text(&"ü".repeat(600)));
    vec![
        key("text", long),
        key("varchar(20)", awkward()),
        key("name", awkward()),
        key("char(3)", vec![text("abc"), text("a").shown("\"a  \""), text("").shown("\"   \""), text("é'\"")]),
        key("\"char\"", vec![text("c"), text("'"), text("\\"), text("")]),
        key("citext", vec![text("Ab"), text("b'\""), text("")]),
        key("mood", vec![text("sad"), text("it's"), text("happy"), text("")]),
        opaque("xml", vec![text("<a/>"), text("<b>é'\"</b>"), text("")]),
        key("ltree", vec![text("a.b"), text("a"), text("")]),
        opaque("lquery", vec![text("a.*"), text("a.b@")]),
        key(
            "uuid",
            vec![
                text("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
                text("00000000-0000-0000-0000-000000000000"),
                text("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A12").shown("\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12\""),
            ],
        ),
        key("bytea", vec![bytes(&[]), bytes(&[0, 255, 65]), text("\\x00ff"), bytes(b"\\x00ff"), bytes(b"'\"")]),
        key("bit(3)", vec![text("101"), text("000")]),
        key("bit varying", vec![text("1"), text("10"), text("")]),
    ]
}

fn moments() -> Vec<Case> {
    vec![
        key(
            "date",
            vec![
                text("2024-02-29"),
                text("0044-03-15 BC"),
                text("4713-01-01 BC"),
                text("5874897-12-31"),
                text("infinity"),
                text("-infinity"),
            ],
        ),
        key("time", vec![text("00:00:00"), text("23:59:59.999999"), text("24:00:00"), text("03:04:05.500000")]),
        key("timetz", vec![text("03:04:05-07:30"), text("03:04:05+00:00"), text("00:00:00.000001+15:59:59")]),
        key(
            "timestamp",
            vec![
                text("2024-01-02T03:04:05.123456"),
                text("0044-03-15T12:00:00 BC"),
                text("294276-12-31T23:59:59.999999"),
                text("infinity"),
                text("-infinity"),
                text("1969-12-31T23:59:59.999999"),
            ],
        ),
        key(
            "timestamptz",
            vec![
                text("2024-01-02T03:04:05.123456+00:00"),
                text("2024-01-02T03:04:05.123457+02:00").shown("\"2024-01-02T01:04:05.123457+00:00\""),
                text("0044-03-15T12:00:00+00:00 BC"),
                text("294276-12-31T23:59:59+00:00"),
                text("infinity"),
                text("-infinity"),
            ],
        ),
        key(
            "interval",
            vec![
                text("1 year 2 mons -3 days +04:05:06.7"),
                text("-00:00:01"),
                text("00:00:00"),
                text("100:00:00.000001"),
            ],
        ),
    ]
}

fn addresses_and_shapes() -> Vec<Case> {
    vec![
        key("inet", vec![text("10.0.0.1"), text("10.0.0.1/8"), text("2001:db8::1"), text("::ffff:10.0.0.1/120")]),
        key("cidr", vec![text("10.0.0.0/8"), text("2001:db8::/32")]),
        key("macaddr", vec![text("08:00:2b:01:02:03"), text("ff:ff:ff:ff:ff:ff")]),
        key("macaddr8", vec![text("08:00:2b:01:02:03:04:05")]),
        key("pg_lsn", vec![text("16/B374D848"), text("0/0"), text("FFFFFFFF/FFFFFFFF")]),
        key("tid", vec![text("(0,1)"), text("(4294967295,65535)")]),
        opaque("point", vec![text("(1,-2.5)"), text("(1e+300,0)")]),
        opaque("line", vec![text("{1,2,3}")]),
        opaque("lseg", vec![text("[(0,0),(1,1)]")]),
        opaque("box", vec![text("(1,1),(0,0)"), text("(2,2),(1,1)")]),
        opaque("path", vec![text("((0,0),(1,1))"), text("[(0,0),(1,1)]")]),
        opaque("polygon", vec![text("((0,0),(1,1),(2,0))")]),
        opaque("circle", vec![text("<(1,2),3>"), text("<(2,2),3>")]),
        opaque("jsonpath", vec![text("$.\"a\"")]),
        key("tsvector", vec![text("'a b':1,2B 'it''s\\\\x':3"), text("'cat'"), text("")]),
        key("int4range", vec![text("[1,5)"), text("empty"), text("(,5)"), text("(,)")]),
        key("int8range", vec![text("[1,9223372036854775807)")]),
        key(
            "numrange",
            vec![text("(1.50,]").shown("\"(1.50,)\""), text("[-1.5,infinity]").shown("\"[-1.5,Infinity]\"")],
        ),
        key("daterange", vec![text("[2024-01-01,infinity)"), text("[\"0044-03-15 BC\",2024-01-01)")]),
        key("tsrange", vec![text("[2024-01-01T00:00:00,)"), text("[\"0044-03-15T00:00:00 BC\",2024-01-01T00:00:00)")]),
        key("tstzrange", vec![text("[2024-01-01T00:00:00+00:00,)")]),
        key("floatrange", vec![text("[1,2.5]"), text("[0.1,NaN)")]),
        key("pair", vec![text("(1,\"a \"\"b\\\\,)\")"), text("(,)"), text("(,\"\")")]),
    ]
}

fn json_and_lists() -> Vec<Case> {
    let numbers = "{\"a\": 1234567890123456789012, \"b\": [1.5, null, -0.0, 1e300]}";
    vec![
        opaque("json", vec![json(numbers), text("t\"\\"), list(vec![int(1), text("b"), null()]), json("{}")]),
        key(
            "jsonb",
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
        unordered_key("hstore", vec![json("{\"a\": \"1\", \"b \\\"c\": null}"), json("{}"), json("{\"\": \"é\\\\\"}")]),
        key(
            "int[]",
            vec![list(vec![int(1), null(), int(-3)]), list(vec![]), list(vec![list(vec![int(1)]), list(vec![int(2)])])],
        ),
        key(
            "text[]",
            vec![
                list(vec![
                    text("a\"\\"),
                    text(""),
                    text("NULL"),
                    text("null"),
                    text("{}"),
                    text("é"),
                    null(),
                    text(" ,"),
                ]),
                list(vec![text("b")]),
            ],
        ),
        key("bigint[]", vec![list(vec![int(i64::MIN), int(i64::MAX)])]),
        key("numeric[]", vec![list(vec![double(1.5), double(f64::NAN)]).shown("[\"1.5\",\"NaN\"]").hidden()]),
        key("double precision[]", vec![list(vec![double(0.1 + 0.2), double(f64::INFINITY), double(-0.0)])]),
        key("real[]", vec![list(vec![double(0.1), double(f64::NAN)])]),
        key("boolean[]", vec![list(vec![truth(true), null(), truth(false)])]),
        key("jsonb[]", vec![list(vec![json("{\"a\":[1]}"), text("x"), int(1), null()]), list(vec![json("{}")])]),
        opaque("json[]", vec![list(vec![json("{\"a\":[1]}"), text("x")])]),
        opaque("point[]", vec![list(vec![text("(1,2)")])]),
        key("bytea[]", vec![list(vec![bytes(&[0, 255]), bytes(&[])])]),
        key("uuid[]", vec![list(vec![text("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")])]),
        key("timestamptz[]", vec![list(vec![text("2024-01-02T03:04:05+00:00"), text("infinity")])]),
        key("date[]", vec![list(vec![text("0044-03-15 BC"), text("2024-01-02")])]),
        key("interval[]", vec![list(vec![text("1 day 02:00:00")])]),
        key("money[]", vec![list(vec![double(-0.05), double(12.34)]).shown("[\"-0.05\",\"12.34\"]")]),
        key("mood[]", vec![list(vec![text("sad"), text("it's"), text("")])]),
        key("positive[]", vec![list(vec![int(1), int(2)])]),
        key("pair[]", vec![list(vec![text("(1,\"a \"\"b\\\\,)\")"), text("(,)")])]),
        key("int4range[]", vec![list(vec![text("[1,5)"), text("empty")])]),
        key("inet[]", vec![list(vec![text("10.0.0.1"), text("::1")])]),
        key("bit(3)[]", vec![list(vec![text("101")])]),
        key("char(3)[]", vec![list(vec![text("abc")])]),
        key("\"char\"[]", vec![list(vec![text("c"), text("\\")])]),
        unordered_key("hstore[]", vec![list(vec![json("{\"a\":\"1\"}")])]),
        key("oidvector", vec![list(vec![int(1), int(2)])]),
    ]
}

#[tokio::test]
async fn postgres_numbers_and_texts_survive_the_round() {
    let cases: Vec<Case> = [numbers(), texts()].into_iter().flatten().collect();
    rounds(&cases).await;
}

#[tokio::test]
async fn postgres_moments_and_shapes_survive_the_round() {
    let cases: Vec<Case> = [moments(), addresses_and_shapes()].into_iter().flatten().collect();
    rounds(&cases).await;
}

#[tokio::test]
async fn postgres_json_and_lists_survive_the_round() {
    rounds(&json_and_lists()).await;
}

async fn rounds(cases: &[Case]) {
    let own = Own::new(cases).await;
    check(&own.fixture, cases).await;
    own.end().await;
}

/// A database of its own, because an extension is there for a whole database.
struct Own {
    fixture: Fixture,
    database: String,
}

impl Own {
    async fn new(cases: &[Case]) -> Self {
        let schema = new_schema();
        let database = format!("{schema}_rounds");
        admin(&format!("CREATE DATABASE {database}")).await;
        let url = format!("postgres://postgres@127.0.0.1/{database}");
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let setup = format!(
            "CREATE EXTENSION citext; CREATE EXTENSION ltree; CREATE EXTENSION hstore; CREATE SCHEMA {schema};
             SET search_path = {schema}, public; {TYPES} {}",
            harness::tables(cases)
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(setup)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        Self { fixture: Fixture::new(&url, schema), database }
    }

    async fn end(self) {
        drop(self.fixture);
        admin(&format!("DROP DATABASE {} WITH (FORCE)", self.database)).await;
    }
}

#[tokio::test]
async fn postgres_refuses_or_keeps_what_is_of_another_type() {
    let cases = [numbers(), texts(), moments(), addresses_and_shapes(), json_and_lists()];
    let cases: Vec<Case> = cases.into_iter().flatten().collect();
    let own = Own::new(&cases).await;
    wrong::check(&own.fixture, &cases).await;
    own.end().await;
}
