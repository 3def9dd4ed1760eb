//! Sessions of programs: whose they are, how long they last, and what becomes of them.

use super::*;

#[tokio::test]
async fn a_session_is_not_that_of_another_script_that_gets_the_name() {
    let authored = Authored::new().await;
    let session = authored.session().await;
    let call = json!({"interface": "context", "function": "describe", "arguments": []}).to_string();
    assert_eq!(authored.post(&format!("/{session}/calls"), call.clone()).await.status, 200);
    let Authored { app, acme, .. } = &authored;
    let name = "orders".parse().unwrap();
    let script = app.workspace.db.scripts().find_script(acme.id, &name).await.unwrap().unwrap();
    for endpoint in app.workspace.db.endpoints().list_endpoints(acme.id).await.unwrap() {
        app.workspace.db.endpoints().delete_endpoint(acme.id, endpoint.id, None).await.unwrap();
    }
    app.workspace.db.scripts().delete_script(acme.id, script.id, &name).await.unwrap();
    for step in ["without a script", "with another one"] {
        let answer = authored.post(&format!("/{session}/calls"), call.clone()).await;
        assert_eq!(answer.problem(), (404, "session_unknown".to_owned()), "{step}");
        app.try_publish(acme, "orders", "def handler(request): return 1").await.unwrap();
    }
}

#[tokio::test]
async fn sessions_are_bounded_and_end_when_they_are_closed() {
    let authored = Authored::with(|config| config.sessions.per_tenant_max = 2).await;
    let (first, _second) = (authored.session().await, authored.session().await);
    assert_eq!(authored.post("", "").await.problem(), (429, "too_many_sessions".to_owned()));
    let url = format!("{}/api/v1/tenants/acme/scripts/orders/sessions/{first}", authored.app.control_url);
    let delete = || authored.app.client.delete(&url).bearer_auth(&authored.token);
    assert_eq!(Answer::of(delete()).await.status, 204);
    assert_eq!(Answer::of(delete()).await.problem(), (404, "session_unknown".to_owned()));
    authored.session().await;
}

/// Rows of a table of one number, on a connection of its own.
async fn numbers(database: &mut PgConnection, sql: &str) -> Vec<i32> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).fetch_all(database).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn the_transaction_of_a_program_that_disappears_is_rolled_back_on_postgres() {
    let authored = Authored::with(|config| config.sessions.idle_time = Duration::from_secs(3)).await;
    authored.app.connection(&authored.acme, "dw", POSTGRES).await;
    let mut database = PgConnection::connect(POSTGRES).await.unwrap();
    let table = format!("pqsdk_gone_{}", std::process::id());
    for sql in [format!("DROP TABLE IF EXISTS {table}"), format!("CREATE TABLE {table} AS SELECT 1 AS n")] {
        numbers(&mut database, &sql).await;
    }
    let source = format!(
        "
with pq.dbconnect('dw').transaction() as tx:
    tx.execute('dw', 'UPDATE {table} SET n = 2')
    print('changed', flush=True)
    input()"
    );
    let mut gone = Conversation::start(authored.program(&source));
    assert_eq!(gone.hear().await, "changed");
    drop(gone); // killed: it says no goodbye
    // Waits for the lock as long as the session lasts, and finds the row as it was.
    let update = format!("UPDATE {table} SET n = n + 10 RETURNING n");
    let changed = tokio::time::timeout(HANG_GUARD, numbers(&mut database, &update)).await;
    assert_eq!(changed.expect("the lock is released"), [11]);
    numbers(&mut database, &format!("DROP TABLE {table}")).await;
}

#[tokio::test]
async fn a_session_that_was_idle_is_replaced_unless_something_is_lost() {
    let authored = Authored::with(|config| config.sessions.idle_time = Duration::from_millis(700)).await;
    authored.app.accounts(&authored.acme).await;
    let told = run(authored.program(
        "
import time
db = pq.dbconnect('dw_2')
before = len(db.fetch('dw_2', 'salesforce', 'accounts'))
time.sleep(2)
after = len(db.fetch('dw_2', 'salesforce', 'accounts'))
codes = []
def lost(function, *arguments):
    try:
        function(*arguments)
    except PeliqanClientException as e:
        codes.append(e.code)
def change():
    with db.transaction() as tx:
        tx.delete('dw_2', 'salesforce', 'accounts', 1)
        time.sleep(2)
lost(change)
lost(change)
stream = db.fetch_stream('dw_2', 'salesforce', 'accounts')
time.sleep(2)
lost(next, stream)
print(json.dumps([before, after, codes, len(db.fetch('dw_2', 'salesforce', 'accounts'))]))",
    ))
    .await;
    let over = "ERROR_SESSION_UNKNOWN";
    assert_eq!(told, json!([3, 3, [over, over, over], 3]));
}

#[tokio::test]
async fn a_call_that_takes_too_long_ends_its_session() {
    let authored = Authored::with(|config| config.limits.deadline = Duration::from_secs(2)).await;
    authored.app.connection(&authored.acme, "dw", POSTGRES).await;
    let told = run(authored.program(
        "
db = pq.dbconnect('dw')
codes = []
try:
    with db.transaction() as tx:
        tx.execute('dw', 'SELECT pg_sleep(60)')
except PeliqanClientException as e:
    codes.append(e.code)
print(json.dumps([codes, db.fetch('dw', query='SELECT 1 AS n')]))",
    ))
    .await;
    assert_eq!(told, json!([["ERROR_CALL_DEADLINE"], [{"n": 1}]]));
}

#[tokio::test]
async fn a_host_that_is_restarted_between_two_calls_is_told_apart() {
    let installation = Installation::new();
    installation.publish("orders", "def handler(request): return 1");
    let folder = installation.folder().join("sqlite/acme");
    std::fs::create_dir_all(&folder).unwrap();
    rusqlite::Connection::open(folder.join("main.db"))
        .unwrap()
        .execute("CREATE TABLE t (n INTEGER PRIMARY KEY)", [])
        .unwrap();
    installation.run(&["connection", "create", "acme", "dw", "sqlite:acme"]);
    let token = installation.run(&["api-token", "create", "acme", "author"]);
    let serving = installation.serve_at("127.0.0.1:0", &[]);
    let control = serving.control.clone();
    let source = "
db = pq.dbconnect('dw')
pq.set_state(1)
codes = []
try:
    with db.transaction() as tx:
        tx.insert('dw', None, 't', n=1)
        print('inserted', flush=True)
        input()
        try:
            tx.insert('dw', None, 't', n=2)
        except PeliqanClientException as e:
            codes.append(e.code)
        print('down', flush=True)
        input()
        tx.insert('dw', None, 't', n=3)
except PeliqanClientException as e:
    codes.append(e.code)
db.insert('dw', None, 't', n=4)
print(json.dumps([codes, db.fetch('dw', None, 't'), pq.get_state()]))";
    let variables = [
        ("PQHOST_URL", &*control),
        ("PQHOST_TOKEN", token["token"].as_str().unwrap()),
        ("PQHOST_SCRIPT", "acme/orders"),
    ];
    let mut program = Conversation::start(program(source, &variables));
    assert_eq!(program.hear().await, "inserted");
    drop(serving); // killed
    program.tell();
    assert_eq!(program.hear().await, "down");
    let _serving = installation.serve_at(control.strip_prefix("http://").unwrap(), &[]);
    program.tell();
    let told: Value = serde_json::from_str(&program.hear().await).unwrap();
    assert_eq!(told, json!([["ERROR_HOST_UNAVAILABLE", "ERROR_SESSION_UNKNOWN"], [{"n": 4}], 1]));
}
