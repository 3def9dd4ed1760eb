//! `pq` on real databases, from inside the sandbox.

use serde_json::{Value, json};

use crate::support::TestApp;

/// Runs `body` as a handler with `db` in scope.
pub(crate) async fn run(app: &TestApp, name: &str, body: &str) -> Value {
    let acme = app.acme().await;
    let body: String = body.lines().map(|line| format!("    {line}\n")).collect();
    app.serve(&acme, name, &format!("def handler(request):\n    db = pq.dbconnect('dw_2')\n{body}")).await;
    let answer = app.get(&format!("/acme/{name}")).await;
    let record = app.invocation(&acme, answer.headers["x-request-id"].to_str().unwrap()).await;
    assert_eq!(answer.status, 200, "{name}: {}", record.traceback.unwrap_or_default());
    answer.json()
}

pub(crate) async fn app_with_accounts() -> TestApp {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.accounts(&acme).await;
    app
}

#[tokio::test]
async fn rows_touched_and_untouched_are_the_same() {
    let app = app_with_accounts().await;
    let expected = json!([
        {"id": 1, "name": "Ada", "revenue": 1.5}, {"id": 2, "name": "Bôb", "revenue": null},
        {"id": 3, "name": "C\"d", "revenue": 9007199254740992.0},
    ]);
    let fetch = "rows = db.fetch('dw_2', 'salesforce', 'accounts')";
    assert_eq!(run(&app, "untouched", &format!("{fetch}\nreturn rows")).await, expected);
    assert_eq!(run(&app, "touched", &format!("{fetch}\nlen(rows)\nreturn rows")).await, expected);
    assert_eq!(run(&app, "listed", &format!("{fetch}\nreturn list(rows)")).await, expected);
}

#[tokio::test]
async fn the_log_counts_what_was_streamed_once_it_has_left() {
    let app = app_with_accounts().await;
    let acme = app.acme().await;
    let sources = [
        ("streamed", "def handler(request): return pq.dbconnect('dw_2').fetch('dw_2', 'salesforce', 'accounts')", 3),
        ("whole", "def handler(request): return {'a': 'é'}", 0),
        (
            "failed",
            "def handler(request): return list(pq.dbconnect('dw_2').fetch('dw_2', query='SELECT 1 AS a'))[5]",
            1,
        ),
    ];
    for (name, source, n_rows) in sources {
        app.serve(&acme, name, source).await;
        let answer = app.get(&format!("/acme/{name}")).await;
        let record = app.invocation(&acme, answer.headers["x-request-id"].to_str().unwrap()).await;
        let n_bytes = if answer.status == 200 { answer.body.len() as u64 } else { 0 };
        assert_eq!((record.rows, record.answer_bytes), (n_rows, n_bytes), "{name}: {}", answer.body);
    }
}

#[tokio::test]
async fn rows_are_a_list_to_a_script() {
    let app = app_with_accounts().await;
    let body = "
import copy, csv, io, json, pickle
def rows(): return db.fetch('dw_2', 'salesforce', 'accounts', order_by='id', limit=2)
plain = [{'id': 1, 'name': 'Ada', 'revenue': 1.5}, {'id': 2, 'name': 'Bôb', 'revenue': None}]
match rows():
    case [first, *rest]: matched = first['id'] == 1 and len(rest) == 1
    case _: matched = False
out = io.StringIO()
csv.DictWriter(out, ['id', 'name', 'revenue']).writerows(rows())
mutated = rows(); mutated.append(3); mutated += [4]; mutated[0] = 0; del mutated[1]; mutated.insert(0, 9); mutated.reverse()
return {
    'isinstance': isinstance(rows(), list), 'dumps': json.loads(json.dumps(rows())) == plain,
    'dumps_default': json.loads(json.dumps(rows(), default=str)) == plain, 'dumps_indent': json.loads(json.dumps(rows(), indent=1)) == plain,
    'nested': json.loads(json.dumps({'a': [rows()]}, default=str)) == {'a': [plain]},
    'eq': rows() == plain and plain == rows() and rows() == rows() and rows() != [],
    'add': [1] + rows() == [1] + plain and rows() + [1] == plain + [1] and rows() + rows() == plain + plain and rows() * 2 == plain * 2,
    'sorted': sorted(rows(), key=lambda r: -r['id']) == plain[::-1], 'slice': rows()[1:] == plain[1:] and rows()[-1] == plain[-1],
    'copies': copy.copy(rows()) == plain and copy.deepcopy(rows()) == plain and pickle.loads(pickle.dumps(rows())) == plain,
    'str': '%s' % rows() == str(plain) and f'{rows()}' == str(plain) and repr(rows()) == repr(plain),
    'truth': bool(rows()) and not db.fetch('dw_2', 'salesforce', 'accounts', where={'id': 99}),
    'matched': matched, 'csv': out.getvalue() == '1,Ada,1.5\\r\\n2,B\\u00f4b,\\r\\n', 'mutated': mutated == [4, 3, 0, 9],
    'search': plain[1] in rows() and rows().index(plain[1]) == 1 and rows().count(plain[0]) == 1,
    'iterated': [r['id'] for r in rows()] == [1, 2] and [r['id'] for r in reversed(rows())] == [2, 1] and (lambda *a: len(a))(*rows()) == 2,
}
";
    let result = run(&app, "rows", body.trim()).await;
    for (what, held) in result.as_object().unwrap() {
        assert_eq!(held, &json!(true), "{what}");
    }
}

#[tokio::test]
async fn fetch_understands_its_parameters() {
    let app = app_with_accounts().await;
    let ids = |rows: &Value| rows.as_array().unwrap().iter().map(|row| row["id"].as_i64().unwrap()).collect::<Vec<_>>();
    for (index, (arguments, expected)) in [
        ("query='SELECT * FROM salesforce.accounts WHERE id > %s', params=[1]", vec![2, 3]),
        ("query='SELECT * FROM salesforce.accounts WHERE name = :name', params={'name': 'Ada'}", vec![1]),
        ("'salesforce', 'accounts', where={'id': [1, 3]}, order_by='-id'", vec![3, 1]),
        ("'salesforce', 'accounts', where={'revenue': None}", vec![2]),
        ("'salesforce', 'accounts', order_by=['id'], limit=1, offset=1", vec![2]),
    ]
    .into_iter()
    .enumerate()
    {
        let rows = run(&app, &format!("p{index}"), &format!("return db.fetch('dw_2', {arguments})")).await;
        assert_eq!(ids(&rows), expected, "{arguments}");
    }
    let filled =
        run(&app, "fill", "return db.fetch('dw_2', 'salesforce', 'accounts', where={'id': 2}, fillna_with='none')")
            .await;
    assert_eq!(filled[0]["revenue"], "none");
}

#[tokio::test]
async fn what_fails_raises_with_a_code_and_a_sentence() {
    let app = app_with_accounts().await;
    for (index, (expression, code, text)) in [
        ("pq.dbconnect('nope').fetch('nope', 's', 't')", "ERROR_CONNECTION_DOES_NOT_EXIST", "there is `dw_2`"),
        ("db.fetch('dw_2', 'salesforce', 'nope')", "ERROR_TABLE_DOES_NOT_EXIST", "nope"),
        ("db.fetch('dw_2', 'salesforce', 'a\"; DROP TABLE accounts; --')", "ERROR_TABLE_DOES_NOT_EXIST", "DROP"),
        ("db.fetch('other', 'salesforce', 'accounts')", "ERROR_DATABASE_DOES_NOT_EXIST", "other"),
        ("db.fetch('dw_2', query='SELEC 1')", "ERROR_STATEMENT_FAILED", "SELEC"),
        ("db.fetch('dw_2', query=\"ATTACH '/etc/passwd' AS x\")", "ERROR_NOT_ALLOWED", "ATTACH"),
        ("db.fetch('dw_2')", "ERROR_INVALID_ARGUMENT", "table"),
        ("db.fetch('dw_2', 'salesforce', 5)", "ERROR_INVALID_ARGUMENT", "table_name must be a str"),
        ("db.fetch('dw_2', 'salesforce', 'accounts', limit=-1)", "ERROR_INVALID_ARGUMENT", "limit"),
        ("db.fetch('dw_2', 'salesforce', 'accounts', df=True)", "ERROR_OPERATION_NOT_SUPPORTED", "pandas"),
        ("pq.dbconnect('')", "ERROR_INVALID_ARGUMENT", "name of a connection"),
    ]
    .into_iter()
    .enumerate()
    {
        let body = format!(
            "from peliqan.exceptions import PeliqanClientException\ntry:\n    {expression}\nexcept PeliqanClientException as e:\n    return [e.code, e.message]"
        );
        let result = run(&app, &format!("e{index}"), &body).await;
        assert_eq!(result[0], code, "{expression}: {result}");
        assert!(result[1].as_str().unwrap().contains(text), "{expression}: {result}");
    }
    assert_eq!(run(&app, "after", "return [len(db.fetch('dw_2', 'salesforce', 'accounts'))]").await.to_string(), "[3]");
}

#[tokio::test]
async fn statements_are_limited() {
    let app = app_with_accounts().await;
    let body = "
try:
    for n in range(101): db.fetch('dw_2', query='SELECT 1')[0]
except Exception as e: return [n, e.code]
";
    assert_eq!(run(&app, "many", body.trim()).await, json!([100, "ERROR_TOO_MANY_STATEMENTS"]));
    let body = "
try:
    return len(db.fetch('dw_2', query='WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20000) SELECT i FROM n'))
except Exception as e: return [e.code]
";
    assert_eq!(run(&app, "large", body.trim()).await, json!(["ERROR_RESULT_TOO_LARGE"]));
    // Untouched, the same rows stream to the caller.
    let rows = run(&app, "stream", "return db.fetch('dw_2', query='WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20000) SELECT i FROM n')").await;
    assert_eq!(rows.as_array().unwrap().len(), 20000);
}

#[tokio::test]
async fn postgres_rows_reach_handler_and_caller() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.connection(&acme, "dw_2", "postgres://postgres@127.0.0.1:5432/test").await;
    let query = "SELECT 1::int8 << 60 AS big, 1.5::numeric AS n, 'NaN'::float8 AS nan, ARRAY[1,2] AS a, '{\\\"k\\\": [1]}'::jsonb AS j, \
                 true AS b, '2024-01-02 03:04:05+00'::timestamptz AS at, NULL AS nothing, 'é'::text AS t";
    let expected = json!([{"big": 1_i64 << 60, "n": 1.5, "nan": null, "a": [1, 2], "j": {"k": [1]}, "b": true,
                           "at": "2024-01-02T03:04:05+00:00", "nothing": null, "t": "é"}]);
    assert_eq!(run(&app, "u", &format!("return db.fetch('dw_2', query=\"{query}\")")).await, expected);
    assert_eq!(
        run(&app, "t", &format!("return [dict(r) for r in db.fetch('dw_2', query=\"{query}\")]")).await,
        expected
    );
    let body = "
row = db.fetch('dw_2', query=\"SELECT '2024-07-01 00:00:00+00'::timestamptz AS at, 1.10::numeric AS n\",
               enable_datetime_as_string=False, decimals=True)[0]
return [str(row['at']), str(row['n'])]
";
    assert_eq!(run(&app, "types", body.trim()).await, json!(["2024-07-01 00:00:00+00:00", "1.10"]));
    // Brussels is two hours ahead in summer and one in winter.
    let body = "
rows = db.fetch('dw_2', query=\"SELECT '2024-07-01 00:00:00+00'::timestamptz AS at UNION ALL SELECT '2024-12-01 00:00:00+00' ORDER BY 1\",
                enable_datetime_as_string=False, tz='Europe/Brussels')
return [str(row['at']) for row in rows]
";
    let expected = json!(["2024-07-01 02:00:00+02:00", "2024-12-01 01:00:00+01:00"]);
    assert_eq!(run(&app, "zone", body.trim()).await, expected);
}

#[tokio::test]
async fn mysql_rows_reach_handler_and_caller() {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.connection(&acme, "dw_2", "mysql://root@127.0.0.1:3306/test").await;
    let query = "SELECT CAST(18446744073709551615 AS UNSIGNED) AS big, 1.50 AS n, CAST('2024-01-02' AS DATE) AS d, NULL AS nothing, \
                 CAST('2024-01-02 03:04:05' AS DATETIME) AS at, CAST('0000-00-00' AS DATE) AS zero, \
                 TIMEDIFF('01:00', '02:30:00') AS span, 'é' AS t";
    let expected = json!([{"big": u64::MAX, "n": 1.5, "d": "2024-01-02", "nothing": null, "at": "2024-01-02T03:04:05",
                           "zero": "0000-00-00", "span": "-01:30:00", "t": "é"}]);
    assert_eq!(run(&app, "u", &format!("return db.fetch('test', query=\"{query}\")")).await, expected);
    assert_eq!(
        run(&app, "t", &format!("return [dict(r) for r in db.fetch('dw_2', query=\"{query}\")]")).await,
        expected
    );
    // What Python's types cannot hold stays text.
    let body = format!(
        "row = db.fetch('dw_2', query=\"{query}\", enable_datetime_as_string=False, decimals=True)[0]\n\
         return [repr(row[name]) for name in ('n', 'd', 'at', 'zero', 'span', 'big')]"
    );
    assert_eq!(
        run(&app, "types", &body).await,
        json!([
            "Decimal('1.50')",
            "datetime.date(2024, 1, 2)",
            "datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)",
            "'0000-00-00'",
            "'-01:30:00'",
            "18446744073709551615"
        ])
    );
    let body = "
from peliqan.exceptions import PeliqanClientException
def code(**arguments):
    try: db.fetch('test', **arguments)
    except PeliqanClientException as e: return e.code
return [code(schema_name='nowhere', table_name='t'), code(table_name='nope'), code(query='SELECT nope'), code(query='SELEC'),
        db.fetch('', 'information_schema', 'SCHEMATA', where={'SCHEMA_NAME': 'test'})[0]['SCHEMA_NAME'],
        db.fetch('test', query='SELECT %s AS a', params=['b'])[0]['a']]
";
    assert_eq!(
        run(&app, "errors", body.trim()).await,
        json!([
            "ERROR_SCHEMA_DOES_NOT_EXIST",
            "ERROR_TABLE_DOES_NOT_EXIST",
            "ERROR_COLUMN_DOES_NOT_EXIST",
            "ERROR_STATEMENT_FAILED",
            "test",
            "b"
        ])
    );
}

#[tokio::test]
async fn another_tenants_connection_does_not_exist() {
    let app = app_with_accounts().await;
    let other = app.tenant("other").await;
    app.serve(
        &other,
        "steal",
        "def handler(request): return pq.dbconnect('dw_2').fetch('dw_2', 'salesforce', 'accounts')",
    )
    .await;
    assert_eq!(app.get("/other/steal").await.problem(), (500, "script_error".to_owned()));
    let traceback = app.last_invocation(&other, 0).await.record.traceback.unwrap();
    assert!(traceback.contains("unknown connection `dw_2`: there are none"), "{traceback}");
}
