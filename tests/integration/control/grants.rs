//! Which scripts may use a connection.

use serde_json::{Value, json};

use super::Api;
use crate::{
    egress,
    support::{Tenant, TestApp},
};

/// Uses the connection `dw_2` in every way there is; gives what came of each.
const USER: &str = "
def code(f):
    try: return f()
    except Exception as e: return [getattr(e, 'code', type(e).__name__), str(e)]
def handler(request):
    db = pq.dbconnect('dw_2')
    def begun():
        with db.transaction(): return 'begun'
    return {
        'fetch': code(lambda: len(db.fetch('dw_2', 'salesforce', 'accounts'))),
        'insert': code(lambda: db.insert('dw_2', 'salesforce', 'accounts', {'name': 'x'})['status']),
        'transaction': code(begun),
        'databases': code(lambda: [d['name'] for d in pq.list_databases()]),
        'connections': [c['name'] for c in pq.list_connections()],
        'default': pq.DW_NAME,
    }
";

/// Uses the connection of the name in the query.
const CALLER: &str = "
def handler(request):
    try: return [pq.dbconnect(request['query']['c']).fetch(request['query']['c'], 'salesforce', 'accounts')]
    except Exception as e: return [e.code, str(e)]
";

async fn called(app: &TestApp, path: &str) -> Value {
    let answer = app.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()
}

async fn app() -> (TestApp, Tenant, Api) {
    let app = TestApp::new().await;
    let acme = app.acme().await;
    app.accounts(&acme).await;
    let owner = Api::operator(&app).await.user("olga@acme.example", "acme", "owner").await;
    (app, acme, owner)
}

#[tokio::test]
async fn a_connection_is_open_to_all_scripts_or_to_those_that_are_named() {
    let (app, acme, owner) = app().await;
    for name in ["one", "two"] {
        app.serve(&acme, name, USER).await;
    }
    let readers = "/tenants/acme/connections/dw_2/readers";
    let open = called(&app, "/acme/one").await;
    assert_eq!(
        (&open["default"], &open["connections"], &open["transaction"]),
        (&json!("dw_2"), &json!(["dw_2"]), &json!("begun"))
    );
    assert_eq!(called(&app, "/acme/two").await["default"], "dw_2");

    // Cached as it was, and closed with the next request.
    owner.put(readers, &json!({"scripts": ["one"]})).await.expect("204");
    assert_eq!(owner.get("/tenants/acme/connections/dw_2").await.expect("200")["scripts"], json!(["one"]));
    assert_eq!(owner.get("/tenants/acme/connections").await.expect("200")["items"][0]["scripts"], json!(["one"]));
    assert_eq!(called(&app, "/acme/one").await["connections"], json!(["dw_2"]));
    let closed = called(&app, "/acme/two").await;
    let unknown = json!(["ERROR_CONNECTION_DOES_NOT_EXIST", "unknown connection `dw_2`: there are none"]);
    for way in ["fetch", "insert", "transaction"] {
        assert_eq!(closed[way], unknown, "{way}");
    }
    let nothing = [("connections", json!([])), ("databases", json!([])), ("default", Value::Null)];
    for (what, none) in nothing {
        assert_eq!(closed[what], none, "{what}: {closed}");
    }

    // A name that is closed looks like one that is not there.
    app.serve(&acme, "probe", CALLER).await;
    let message = |value: Value| value[1].as_str().unwrap().replace("nothing", "dw_2");
    let (taken, free) = (called(&app, "/acme/probe?c=dw_2").await, called(&app, "/acme/probe?c=nothing").await);
    assert_eq!((&taken[0], message(taken.clone())), (&free[0], message(free.clone())));

    // One more, one less.
    owner.put(&format!("{readers}/two"), &json!({})).await.expect("204");
    assert_eq!(called(&app, "/acme/two").await["default"], "dw_2");
    owner.delete(&format!("{readers}/one")).await.expect("204");
    assert_eq!(called(&app, "/acme/one").await["fetch"], unknown);
    let audit = owner.get("/tenants/acme/audit?limit=1").await.expect("200");
    let seen = (&audit["items"][0]["action"], &audit["items"][0]["target"]);
    assert_eq!(seen, (&json!("set_connection_readers"), &json!("dw_2: two")));

    // Nobody, then everybody again.
    owner.put(readers, &json!({"scripts": []})).await.expect("204");
    assert_eq!(called(&app, "/acme/one").await["fetch"], unknown);
    owner.put(readers, &json!({"scripts": null})).await.expect("204");
    assert_eq!(called(&app, "/acme/two").await["transaction"], "begun");

    owner.put(&format!("{readers}/one"), &json!({})).await.expect("409 in_use");
    owner.delete(&format!("{readers}/one")).await.expect("409 in_use");

    owner.put(readers, &json!({"scripts": ["nothing"]})).await.expect("404 not_found");
    owner.put("/tenants/acme/connections/no/readers", &json!({"scripts": null})).await.expect("404 not_found");
    let author = Api::anonymous(&app).with_token(&app.api_token(&acme, pqhost::domain::people::Role::Author).await);
    author.put(readers, &json!({"scripts": null})).await.expect("403 forbidden");
    // Neither a script nor a connection is kept by its grants.
    owner.post("/tenants/acme/scripts", &json!({"name": "three"})).await.expect("201");
    owner.put(readers, &json!({"scripts": ["three"]})).await.expect("204");
    owner.delete("/tenants/acme/scripts/three").await.expect("204");
    assert_eq!(owner.get("/tenants/acme/connections/dw_2").await.expect("200")["scripts"], json!([]));
    owner.put(readers, &json!({"scripts": ["one"]})).await.expect("204");
    owner.delete("/tenants/acme/connections/dw_2").await.expect("204");
    app.assert_rewound();
}

#[tokio::test]
async fn a_handler_that_runs_loses_a_connection_with_its_next_statement() {
    let (app, acme, owner) = app().await;
    // Begins a transaction, waits until it is told that the connection was taken from it, and goes on.
    let source = "
import time
def handler(request):
    if request['query'].get('told'):
        pq.set_interface_state(int(request['query']['told']), 'told')
        return []
    pq.set_state('waiting')
    db = pq.dbconnect('dw_2')
    try:
        with db.transaction():
            db.insert('dw_2', 'salesforce', 'accounts', {'name': 'kept?'})
            while pq.get_state() != 'told': time.sleep(0.05)
            return [len(db.fetch('dw_2', 'salesforce', 'accounts'))]
    except Exception as e: return [e.code]
";
    app.serve(&acme, "holder", source).await;
    app.serve(&acme, "teller", source).await;
    let holder = owner.get("/tenants/acme/scripts/holder").await.expect("200")["id"].as_i64().unwrap();
    let state = "/tenants/acme/scripts/holder/state";
    let told = async {
        while owner.get(state).await.expect("200")["value"] != "waiting" {}
        owner.put("/tenants/acme/connections/dw_2/readers", &json!({"scripts": ["teller"]})).await.expect("204");
        called(&app, &format!("/acme/teller?told={holder}")).await;
    };
    let (held, ()) = tokio::join!(called(&app, "/acme/holder"), told);
    let closed = json!(["ERROR_CONNECTION_DOES_NOT_EXIST"]);
    assert_eq!(held, closed);
    // Nothing of it is there for the next request, and what it had not committed is undone.
    assert_eq!(called(&app, "/acme/holder").await, closed);
    owner.put("/tenants/acme/connections/dw_2/readers", &json!({"scripts": null})).await.expect("204");
    app.serve(&acme, "count", CALLER).await;
    let rows = called(&app, "/acme/count?c=dw_2").await;
    assert_eq!(rows[0].as_array().unwrap().len(), 3, "{rows}");
}

#[tokio::test]
async fn http_connections_are_restricted_in_the_same_way() {
    let (app, upstream) = egress::app().await;
    let acme = app.acme().await;
    egress::connect(&app, &acme, &upstream).await;
    let source = "
def handler(request):
    try: return [pq.connect('crm').get('contacts', 5)['path']]
    except Exception as e: return [e.code, str(e)]
";
    for name in ["one", "two"] {
        app.serve(&acme, name, source).await;
        assert_eq!(called(&app, &format!("/acme/{name}")).await, json!(["contacts/5"]));
    }
    let api = Api::operator(&app).await;
    api.put("/tenants/acme/connections/crm/readers", &json!({"scripts": ["one"]})).await.expect("204");
    assert_eq!(called(&app, "/acme/one").await, json!(["contacts/5"]));
    let closed = json!(["ERROR_CONNECTION_DOES_NOT_EXIST", "unknown connection `crm`: there are none"]);
    assert_eq!(called(&app, "/acme/two").await, closed);
}
