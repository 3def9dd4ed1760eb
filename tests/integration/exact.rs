//! Values that keep all they have: from a caller's JSON through a script into each kind of database, and back.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{data::run, support::TestApp};

/// One kind of database behind the connection `dw_2`, with a schema of its own.
struct Fixture {
    app: TestApp,
    kind: Kind,
    schema: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sqlite,
    Postgres,
    MySql,
}

const KINDS: [Kind; 3] = [Kind::Sqlite, Kind::Postgres, Kind::MySql];

impl Fixture {
    async fn new(kind: Kind) -> Self {
        // These tests are not about time, and machines are busy.
        let app = TestApp::with(|config| {
            config.limits.deadline = Duration::from_secs(60);
            config.limits.sql.statement_time = Duration::from_secs(30);
        })
        .await;
        let acme = app.acme().await;
        match kind {
            Kind::Sqlite => app.accounts(&acme).await,
            Kind::Postgres => app.connection(&acme, "dw_2", "postgres://postgres@127.0.0.1:5432/test").await,
            Kind::MySql => app.connection(&acme, "dw_2", "mysql://root@127.0.0.1:3306/test").await,
        }
        let fixture = Self { app, kind, schema: format!("pqexact_{}", uuid::Uuid::new_v4().simple()) };
        fixture.run("make", "db.create_schema('dw_2', s)\nreturn []").await;
        fixture
    }

    /// Runs `body` with `s` as the schema, and `refused`, which calls and gives the error's code and message.
    async fn run(&self, name: &str, body: &str) -> Value {
        run(&self.app, name, &format!("{}\n{}", self.prelude(), body.trim())).await
    }

    fn prelude(&self) -> String {
        let prelude = "
def refused(f):
    try: return f()
    except pq.exceptions.PeliqanClientException as e: return f'{e.code}: {e.message}'
";
        format!("s = '{}'\n{}", self.schema, prelude.trim())
    }

    /// The answer of a handler to JSON, as text.
    async fn answer(&self, name: &str, body: &str, request: &str) -> String {
        let acme = self.app.acme().await;
        let body: String =
            format!("{}\n{}", self.prelude(), body.trim()).lines().map(|line| format!("    {line}\n")).collect();
        let source = format!("def handler(request):\n    db = pq.dbconnect('dw_2')\n{body}");
        self.app.serve(&acme, name, &source).await;
        let request = self
            .app
            .request(Method::POST, &format!("/acme/{name}"))
            .header("content-type", "application/json")
            .body(request.to_owned());
        let answer = crate::support::Answer::of(request).await;
        assert_eq!(answer.status, 200, "{:?} {name}: {}", self.kind, answer.body);
        answer.body
    }

    /// The word of this database.
    fn word<'a>(&self, sqlite: &'a str, postgres: &'a str, mysql: &'a str) -> &'a str {
        match self.kind {
            Kind::Sqlite => sqlite,
            Kind::Postgres => postgres,
            Kind::MySql => mysql,
        }
    }

    async fn end(self) {
        self.app.assert_rewound();
        let cascade = self.word("", "CASCADE", "");
        if self.kind != Kind::Sqlite {
            self.run("drop", &format!("db.execute('dw_2', f'DROP SCHEMA {{s}} {cascade}')\nreturn []")).await;
        }
    }
}

/// Numbers that no double holds, and doubles with all their bits.
const DOC: &str = "{\"wei\":1234567890123456789012,\"deep\":[[{\"sum\":0.30000000000000004,\"n\":[-100000000000000000001,\
                   -941989543.4327705,1e+22,5e-324,18446744073709551615]}]],\"\u{e9}\":\"\\n\"}";

#[tokio::test]
async fn numbers_of_a_caller_come_back_digit_by_digit() {
    for kind in KINDS {
        let fixture = Fixture::new(kind).await;
        // SQLite has no whole numbers beyond 64 bits and no decimals: there they are kept as text.
        let (id, d) =
            (fixture.word("TEXT", "numeric(30)", "decimal(30)"), fixture.word("TEXT", "numeric", "decimal(40,20)"));
        let (f, doc) = (fixture.word("REAL", "double precision", "DOUBLE"), fixture.word("JSON", "json", "JSON"));
        let body = format!(
            "
from decimal import Decimal
db.execute('dw_2', f'CREATE TABLE {{s}}.t (id {id} PRIMARY KEY, f {f}, d {d}, doc {doc}, owner varchar(20))')
given = request['json']
rows = lambda **options: db.fetch('dw_2', s, 't', order_by='id', decimals=True, **options)
db.insert('dw_2', s, 't', [{{'id': given['id'] - 1, 'owner': 'alice'}}, {{**given, 'd': Decimal(given['d']), 'owner': 'bob'}}])
[kept] = rows(where={{'owner': 'bob'}})
same = type(kept['id'])
found = [[r['owner'] for r in rows(where={{c: kept[c]}})] for c in ('id', 'f', 'd')]
found += [[r['owner'] for r in rows(where={{'id': v}})] for v in (given['id'], Decimal(given['id']), [given['id'], 5])]
sql = f'SELECT owner FROM {{s}}.t WHERE id = %s AND f = %s'
found += [[r['owner'] for r in db.fetch('dw_2', query=sql, params=[kept['id'], kept['f']])]]
up = db.update('dw_2', s, 't', kept['id'], owner='BOB', **{{c: kept[c] for c in ('f', 'd', 'doc')}})['detail']
db.upsert('dw_2', s, 't', given['id'], doc=up['doc'])
db.upsert('dw_2', s, 't', given['id'] + 1, f=up['f'], d=kept['d'], doc=up['doc'])
db.write(s, 't', [{{'id': given['id'] + 2, 'f': up['f'], 'd': kept['d'], 'doc': up['doc']}}])
values = [same(given['id'] + 3), up['f'], kept['d'], json.dumps(up['doc'])]
db.execute('dw_2', f'INSERT INTO {{s}}.t (id, f, d, doc) VALUES (%s, %s, %s, %s)', values)
gone = db.delete('dw_2', s, 't', kept['id'])['detail']
number = lambda row: {{**row, 'id': Decimal(row['id']), 'd': row['d'] and Decimal(row['d'])}}
return [found, gone['owner'], gone['f'], gone['doc'], [number(row) for row in rows()]]
"
        );
        let request = format!(
            "{{\"id\": 100000000000000000001, \"f\": -941989543.4327705, \"d\": \"0.10000000000000000001\", \"doc\": {DOC}}}"
        );
        let row = |id: &str| {
            format!(
                "{{\"id\":{id},\"f\":-941989543.4327705,\"d\":0.10000000000000000001,\"doc\":{DOC},\"owner\":null}}"
            )
        };
        let expected = format!(
            "[[{}],\"BOB\",-941989543.4327705,{DOC},[{{\"id\":100000000000000000000,\"f\":null,\"d\":null,\"doc\":null,\
             \"owner\":\"alice\"}},{},{},{}]]",
            ["[\"bob\"]"; 7].join(","),
            row("100000000000000000002"),
            row("100000000000000000003"),
            row("100000000000000000004"),
        );
        assert_eq!(fixture.answer("numbers", &body, &request).await, expected, "{kind:?}");

        // Rows that nobody looks at have all digits, too.
        let body = "return db.fetch('dw_2', s, 't', order_by='-id', limit=1, decimals=True)";
        let quote = fixture.word("\"", "", "");
        let untouched = row(&format!("{quote}100000000000000000004{quote}"))
            .replace("0.10000000000000000001", &format!("{quote}0.10000000000000000001{quote}"));
        let answer = fixture.answer("untouched", body, "").await;
        let answer = answer.replace(", ", ",").replace(": ", ":").replace("\\u00e9", "\u{e9}");
        assert_eq!(answer, format!("[{untouched}]"), "{kind:?}");
        fixture.end().await;
    }
}

#[tokio::test]
async fn decimals_reach_the_caller_with_all_their_digits() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    let nested = "{'a': [D('12345678901234567.89'), (D(10**18), {'b': {D('0.10000000000000000001')}})], 'n': 10**40}";
    for (index, (expression, body)) in [
        ("[D('12345678901234567.89'), D('1.50'), D('3'), D('-0.1')]", "[12345678901234567.89,1.5,3,-0.1]"),
        ("[D(10**18), D('1E+3'), D(10**60), D('1E+400')]", "[1000000000000000000,1000,1000000000000000000000000000000000000000000000000000000000000,1E+400]"),
        (nested, "{\"a\":[12345678901234567.89,[1000000000000000000,{\"b\":[0.10000000000000000001]}]],\"n\":10000000000000000000000000000000000000000}"),
        ("[D('NaN'), D('sNaN'), D('-Infinity'), float('nan'), D('0.10000000000000000001')]", "[null,null,null,null,0.10000000000000000001]"),
        ("{'a': float('nan'), 'b': '\\ud800'}", "{\"a\":null,\"b\":\"\\ud800\"}"),
        ("[D('0.10000000000000000001'), 'é\\udc80\"', {'\\ud800': 1}]", "[0.10000000000000000001,\"é\\udc80\\\"\",{\"\\ud800\":1}]"),
        ("[D('0.10000000000000000001'), float('inf'), 'é\\ud800']", "[0.10000000000000000001,null,\"é\\ud800\"]"),
        ("[0.1 + 0.2, -941989543.4327705, 5e-324, 2**64]", "[0.30000000000000004,-941989543.4327705,5e-324,18446744073709551616]"),
    ]
    .into_iter()
    .enumerate()
    {
        let source = format!("from decimal import Decimal as D\ndef handler(request):\n    return {expression}\n");
        app.serve(&acme, &format!("d{index}"), &source).await;
        let answer = app.get(&format!("/acme/d{index}")).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, body), "{expression}");
    }
    app.assert_rewound();
}

#[tokio::test]
async fn fetched_values_given_back_name_the_same_row() {
    for kind in KINDS {
        let fixture = Fixture::new(kind).await;
        for (nth, (name, column, one, other)) in [
            ("bytes", fixture.word("BLOB", "bytea", "BINARY(4)"), "bytes([0, 255, 65, 66])", "b'abcd'"),
            (
                "moments",
                fixture.word("TIMESTAMPTZ", "timestamptz", "TIMESTAMP(6)"),
                "datetime.datetime(2024, 1, 2, 3, 4, 5, 500000, tzinfo=datetime.UTC)",
                "'2024-01-02T03:04:05+00:00'",
            ),
            ("days", fixture.word("DATE", "date", "DATE"), "datetime.date(2024, 1, 2)", "'2024-01-03'"),
            ("floats", fixture.word("REAL", "double precision", "DOUBLE"), "0.1 + 0.2", "0.3"),
        ]
        .into_iter()
        .enumerate()
        {
            let body = format!(
                "
import datetime
t = 't{nth}'
db.execute('dw_2', f'CREATE TABLE {{s}}.{{t}} (k {column} NOT NULL PRIMARY KEY, v integer)')
db.insert('dw_2', s, t, [{{'k': {one}, 'v': 1}}, {{'k': {other}, 'v': 2}}])
key = db.fetch('dw_2', s, t, where={{'v': 1}})[0]['k']
values = lambda: sorted(r['v'] for r in db.fetch('dw_2', s, t))
found = [r['v'] for given in (key, [key], {one}) for r in db.fetch('dw_2', s, t, where={{'k': given}})]
steps = [found, db.update('dw_2', s, t, key, v=3)['detail']['v'], values()]
steps += [db.upsert('dw_2', s, t, key, v=4)['detail']['v'], db.upsert('dw_2', s, t, {one}, v=5)['detail']['k'] == key, values()]
db.write(s, t, [{{'k': key, 'v': 6}}], pk='k')
steps += [values(), db.delete('dw_2', s, t, key)['detail'] == {{'k': key, 'v': 6}}, values()]
return steps + [refused(lambda: db.delete('dw_2', s, t, key))[:24]]
"
            );
            let expected =
                json!([[1, 1, 1], 3, [2, 3], 4, true, [2, 5], [2, 6], true, [2], "ERROR_ROW_DOES_NOT_EXIST"]);
            assert_eq!(fixture.run(name, &body).await, expected, "{kind:?} {name}");
        }
        fixture.end().await;
    }
}

#[tokio::test]
async fn bytes_of_any_kind_are_kept_as_bytes() {
    for kind in KINDS {
        let fixture = Fixture::new(kind).await;
        let (blob, hex) =
            (fixture.word("BLOB", "bytea", "LONGBLOB"), fixture.word("hex(b)", "encode(b, 'hex')", "hex(b)"));
        let body = format!(
            "
db.execute('dw_2', f'CREATE TABLE {{s}}.t (id integer PRIMARY KEY, b {blob})')
given = bytes([0, 255, 65])
db.insert('dw_2', s, 't', id=1, b=given)
db.update('dw_2', s, 't', 1, b=db.fetch('dw_2', s, 't')[0]['b'])
db.insert('dw_2', s, 't', [{{'id': 2, 'b': bytearray(given)}}, {{'id': 3, 'b': memoryview(given)}}])
db.write(s, 't', [{{'id': 4, 'b': given}}])
db.execute('dw_2', f'INSERT INTO {{s}}.t VALUES (%s, %s)', [5, given])
shown = [r['h'].lower() for r in db.fetch('dw_2', query=f\"SELECT {hex} AS h FROM {{s}}.t ORDER BY id\")]
return [shown, len(db.fetch('dw_2', s, 't', where={{'b': given}}))]
"
        );
        assert_eq!(fixture.run("bytes", &body).await, json!([vec!["00ff41"; 5], 5]), "{kind:?}");
        fixture.end().await;
    }
}

#[tokio::test]
async fn rounded_values_are_given_back_as_kept() {
    for kind in [Kind::Postgres, Kind::MySql] {
        let fixture = Fixture::new(kind).await;
        let body = "
db.execute('dw_2', f'CREATE TABLE {s}.t (k decimal(10,2) PRIMARY KEY, n integer)')
one = db.insert('dw_2', s, 't', k=3.333, n=1)['detail']
two = db.insert('dw_2', s, 't', [{'k': 4.004}, {'k': 5.006}])['detail']
whole = [refused(lambda: f())[:22] for f in (
    lambda: db.write(s, 't', [{'k': 9, 'n': 2.5}]), lambda: db.insert('dw_2', s, 't', k=9, n='2.7'), lambda: db.update('dw_2', s, 't', 3.33, n=1.5))]
return [one, [r['k'] for r in two], whole, [r['k'] for r in db.fetch('dw_2', s, 't', order_by='k')]]
";
        let expected = json!([{"k": 3.33, "n": 1}, [4.0, 5.01], vec!["ERROR_INVALID_ARGUMENT"; 3], [3.33, 4.0, 5.01]]);
        assert_eq!(fixture.run("rounded", body).await, expected, "{kind:?}");
        fixture.end().await;
    }
}

#[tokio::test]
async fn unkeepable_values_are_refused_by_name() {
    for kind in KINDS {
        let fixture = Fixture::new(kind).await;
        let body = format!(
            "
db.execute('dw_2', f'CREATE TABLE {{s}}.t (id integer PRIMARY KEY, n {}, doc {})')
long = 'p' * 251 + '_2023'
wrote = refused(lambda: db.write(s, 'ln', [{{'n': 1, long: 'x'}}]))
return [
    wrote, refused(lambda: db.fetch('dw_2', s, 'ln')[:]),
    refused(lambda: db.insert('dw_2', s, 't', id=1, doc={{'a': [float('nan')]}})),
    refused(lambda: db.insert('dw_2', s, 't', id=1, n=float('nan'))),
    refused(lambda: db.insert('dw_2', s, 't', id=2**70)),
    refused(lambda: db.fetch('dw_2', s, 't', where={{'id': '\\ud800'}})),
    refused(lambda: db.fetch('dw_2', query='SELECT %s', params=[{{1, 2}}])),
    refused(lambda: db.insert('dw_2', s, 't', id=1, doc={{(1, 2): 3}})),
    refused(lambda: db.insert('dw_2', s, 't', id=10**5000)),
    len(db.fetch('dw_2', s, 't')),
]
",
            fixture.word("REAL", "numeric(5)", "DOUBLE"),
            fixture.word("JSON", "jsonb", "JSON"),
        );
        let result = fixture.run("refused", &body).await;
        let parts = [
            "name `ppp",
            "ERROR_TABLE_DOES_NOT_EXIST",
            "NaN or an infinity inside of a dict",
            "NaN",
            "column `id`",
            "`where` hold characters that are not valid Unicode",
            "params holds a value of the type set",
            "a dict with a key",
            "more than 4300 digits",
        ];
        for (nth, part) in parts.into_iter().enumerate() {
            let message = result[nth].as_str().unwrap_or_default();
            if (kind, nth) == (Kind::Postgres, 3) {
                continue; // numeric has NaN
            }
            assert!(message.contains(part), "{kind:?} {nth} {part}: {}", result[nth]);
        }
        let n_kept = if kind == Kind::Postgres { 1 } else { 0 };
        assert!(result[9].as_u64().unwrap() <= n_kept, "{kind:?}");
        fixture.end().await;
    }
}

#[tokio::test]
async fn own_statements_mean_the_same_on_each_database() {
    for kind in KINDS {
        let fixture = Fixture::new(kind).await;
        let body = format!(
            "
doc = {{'a': [1, 10**20], 'b': 0.1}}
other = s + '_2'
db.create_schema('dw_2', other)
for schema in (s, other): db.execute('dw_2', f'CREATE TABLE {{schema}}.only_here (id integer PRIMARY KEY, doc {})')
db.execute('dw_2', f'INSERT INTO {{s}}.only_here VALUES (%s, %s)', [1, json.dumps(doc)])
db.execute('dw_2', f'INSERT INTO {{s}}.only_here VALUES (:id, :doc)', {{'id': 2, 'doc': doc}})
db.insert('dw_2', s, 'only_here', id=3, doc=json.dumps(doc))
docs = [r['doc'] == doc for r in db.fetch('dw_2', s, query='SELECT doc FROM only_here ORDER BY id')]
twice = db.fetch('dw_2', query=f'SELECT a.id, b.id FROM {{s}}.only_here a JOIN {{s}}.only_here b ON b.id = a.id + 1 ORDER BY 1')
def counted(schema): return refused(lambda: db.fetch('dw_2', schema, query='SELECT count(*) AS n FROM only_here')[0]['n'])
others = [counted(schema) for schema in (other, s, other)]
def inside():
    with db.transaction(): return [counted(schema) for schema in (s, other, s)]
others += [str(refused(inside))[:22], refused(lambda: db.fetch('dw_2', other, query='SELECT * FROM no_such'))[:27]]
others += [other in str(db.fetch('dw_2', query=\"SELECT {current} AS here\")[0]['here'])]
if '{drop}': db.execute('dw_2', f'DROP SCHEMA {{other}} {drop}')
unknown = refused(lambda: db.fetch('dw_2', 'no_such_schema', query='SELECT 1'))
return [docs, [dict(r) for r in twice], others, unknown[:27]]
",
            fixture.word("JSON", "jsonb", "JSON"),
            current = fixture.word("'main'", "current_schema()", "database()"),
            drop = fixture.word("", "CASCADE", " "),
        );
        // SQLite itself looks in all schemas, so the host refuses what it would find in another one.
        let s = &fixture.schema;
        let hidden = format!(
            "ERROR_NOT_ALLOWED: table `only_here` is in the schemas `{s}` and `{s}_2`: write `{s}_2.only_here` in `query`, or name no \
             schema beside it"
        );
        let (elsewhere, inside) = match kind {
            Kind::Sqlite => (json!(hidden), "ERROR_TRANSACTION_OVER"),
            Kind::Postgres | Kind::MySql => (json!(0), "[3, 0, 3]"),
        };
        let others = json!([elsewhere, 3, elsewhere, inside, "ERROR_TABLE_DOES_NOT_EXIST:", false]);
        // A JSON text in a statement of one's own is JSON; `insert` keeps a text as a text.
        let expected = json!([[true, true, false], [{"id": 1, "id_2": 2}, {"id": 2, "id_2": 3}], others, "ERROR_SCHEMA_DOES_NOT_EXIST"]);
        assert_eq!(fixture.run("own", &body).await, expected, "{kind:?}");
        fixture.end().await;
    }
}
