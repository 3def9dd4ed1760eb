//! `pqhost deploy`: a folder in version control, and a host that matches it.

use std::path::Path;

use serde_json::{Value, json};

use crate::program::Installation;

const HANDLER: &str = "def handler(request): return 'one'\n";

const FILE: &str = r#"
tenant = "acme"
script = "orders"

[[endpoints]]
methods = "GET"
route = "/orders"
auth = "public"

[[endpoints]]
methods = "POST"
route = "/orders"
"#;

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

#[test]
fn deploying_makes_the_host_match_the_folder() {
    let place = Installation::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let shown = path.to_str().unwrap();
    let steps = |value: &Value| value["steps"].as_array().unwrap().clone();
    write(path, "handler.py", HANDLER);
    write(path, "pqhost.toml", FILE);

    let first =
        ["+ publish the script", "~ serve it", "+ endpoint GET /orders (public)", "+ endpoint POST /orders (jwt)"];
    let planned = place.run(&["deploy", shown, "--plan"]);
    assert_eq!((steps(&planned), &planned["is_done"]), (first.map(Value::from).to_vec(), &json!(false)));
    assert_eq!(place.run(&["script", "list", "acme"]), json!([]), "a plan changes nothing");
    let output = place.command(&["deploy", shown]).output().unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stdout).contains("--yes"), "{output:?}");
    assert_eq!(place.run(&["script", "list", "acme"]), json!([]), "nor does what nobody agreed to");
    assert_eq!(steps(&place.run(&["deploy", shown, "--yes"])), first.map(Value::from));
    let again = place.run(&["deploy", shown, "--yes"]);
    assert_eq!(again, json!({"steps": [], "is_done": true}));

    // Another handler, one endpoint less, one that is open now, a secret.
    write(path, "handler.py", "def handler(request): return 'two'\n");
    place.run(&["script", "publish", "acme", "other", path.join("handler.py").to_str().unwrap()]);
    place.run(&["endpoint", "create", "acme", "GET", "/other", "other"]);
    let secret = path.join(".secret");
    std::fs::write(&secret, "hunter22").unwrap();
    let from = secret.to_str().unwrap();
    place.run(&["secret", "set", "acme", "key", "--from-file", from, "--script", "other"]);
    place.run(&["connection", "create", "acme", "crm", "https://api.example.com/"]);
    place.run(&["connection", "set-readers", "acme", "crm", "--script", "other"]);
    write(
        path,
        "pqhost.toml",
        "tenant = 'acme'\nscript = 'orders'\nsecrets = ['key']\nconnections = ['crm']\n[[endpoints]]\nmethods = 'post'\n\
         route = '/orders'\nauth = 'public'\nrecord = true\n",
    );
    let changed = place.run(&["deploy", shown, "--yes", "--message", "open"]);
    let expected = [
        "~ publish a new version",
        "+ may read secret key",
        "+ may use connection crm",
        "~ serve it",
        "- endpoint GET /orders",
        "~ endpoint POST /orders (public, recorded)",
    ];
    assert_eq!(steps(&changed), expected.map(Value::from));
    let endpoints = place.run(&["endpoint", "list", "acme"]);
    let routes: Vec<_> =
        endpoints.as_array().unwrap().iter().map(|e| (&e["methods"], &e["route"], &e["auth"])).collect();
    let (post, get) =
        ((&json!("POST"), &json!("/orders"), &json!("public")), (&json!("GET"), &json!("/other"), &json!("jwt")));
    assert_eq!(routes, [post, get], "what belongs to other scripts is left alone");
    let secrets = place.run(&["secret", "list", "acme"]);
    assert_eq!(secrets[0]["scripts"], json!(["orders", "other"]));
    assert_eq!(place.run(&["connection", "list", "acme"])[0]["scripts"], json!(["orders", "other"]));
    assert_eq!(place.run(&["deploy", shown, "--plan"])["is_done"], true);
    let versions = place.run(&["script", "versions", "acme", "orders"]);
    assert_eq!((&versions[0]["number"], &versions[0]["message"]), (&json!(2), &json!("open")));

    // What was deployed can be had back, without the file that says how.
    let copy = tempfile::tempdir().unwrap();
    let pulled = place.run(&["script", "pull", "acme", "orders", copy.path().to_str().unwrap()]);
    assert_eq!(pulled, json!({"version": 2, "files": ["handler.py"]}));
    assert_eq!(
        std::fs::read_to_string(copy.path().join("handler.py")).unwrap(),
        "def handler(request): return 'two'\n"
    );

    // What is published already is only served, and a secret is taken away in the end.
    let file = std::fs::read_to_string(path.join("pqhost.toml")).unwrap();
    write(path, "handler.py", "def handler(request): return 'three'\n");
    place.run(&["script", "publish", "acme", "orders", "--no-promote", path.join("handler.py").to_str().unwrap()]);
    write(path, "pqhost.toml", &file.replace("'key'", ""));
    let served = ["~ serve version 3", "- may no longer read secret key"];
    assert_eq!(steps(&place.run(&["deploy", shown, "--yes"])), served.map(Value::from));
    assert_eq!(place.run(&["secret", "list", "acme"])[0]["scripts"], json!(["other"]));
    assert_eq!(place.run(&["script", "list", "acme"])[0]["name"], "orders");
    assert_eq!(place.run(&["script", "list", "acme"])[0]["live_version"], 3);
}

#[test]
fn a_file_that_cannot_be_deployed_is_refused_by_name_and_changes_nothing() {
    let place = Installation::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(path, "handler.py", HANDLER);
    for (bad, named) in [
        ("tenant = 'acme'", "script"),
        ("tenant = 'acme'\nscript = 'orders'\nendpoint = 1", "endpoint"),
        ("tenant = 'acme'\nscript = 'orders'\n[[endpoints]]\nmethods = 'FETCH'\nroute = '/x'", "FETCH"),
        ("tenant = 'nothing'\nscript = 'orders'", "nothing"),
        ("tenant = 'acme'\nscript = 'orders'\nsecrets = ['absent']", "absent"),
        ("tenant = 'acme'\nscript = 'orders'\nconnections = ['absent']", "no connection `absent`"),
    ] {
        write(path, "pqhost.toml", bad);
        let output = place.command(&["deploy", path.to_str().unwrap(), "--yes"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && text.contains(named), "{bad}: {text}");
    }
    assert_eq!(place.run(&["script", "list", "acme"]), json!([]));
    assert_eq!(place.run(&["endpoint", "list", "acme"]), json!([]));
}

#[test]
fn an_endpoint_of_the_file_may_be_a_tables_and_the_scripts_again() {
    let place = Installation::new();
    let folder = tempfile::tempdir().unwrap();
    let (path, shown) = (folder.path(), folder.path().to_str().unwrap());
    let deploy = |endpoints: &str| {
        write(path, "pqhost.toml", &format!("tenant = 'acme'\nscript = 'orders'\n{endpoints}"));
        let done = place.run(&["deploy", shown, "--yes"]);
        assert_eq!(place.run(&["deploy", shown, "--plan"]), json!({"steps": [], "is_done": true}));
        let steps = done["steps"].as_array().unwrap().iter().map(|step| step.as_str().unwrap().to_owned());
        steps.filter(|step| step.contains("endpoint")).collect::<Vec<_>>()
    };
    let listed = || {
        let endpoints = place.run(&["endpoint", "list", "acme"]);
        let told =
            |e: &Value| json!([e["id"], e["route"], e["script"], e["source"]["table"], e["source"]["page_rows"]]);
        Value::from(endpoints.as_array().unwrap().iter().map(told).collect::<Vec<_>>())
    };
    write(path, "handler.py", HANDLER);
    place.run(&["connection", "create", "acme", "dw", "sqlite:acme"]);
    place.run(&["endpoint", "create", "acme", "GET", "/theirs", "--table", "dw:t"]);
    let theirs = json!([1, "/theirs", null, "t", 100]);

    let table = "[[endpoints]]\nmethods = 'GET'\nroute = '/rows'\nauth = 'key'\nsource = { connection = 'dw', table = 'orders' }\n";
    assert_eq!(deploy(table), ["+ endpoint GET /rows (key, table `orders`)"]);
    let own = |script: Value, table: Value, page_rows: Value| json!([theirs, [2, "/rows", script, table, page_rows]]);
    assert_eq!(listed(), own(Value::Null, json!("orders"), json!(100)));
    let longer = table.replace("'orders' }", "'orders', page_rows = 7 }");
    assert_eq!(deploy(&longer), ["~ endpoint GET /rows (key, table `orders`)"]);
    assert_eq!(listed(), own(Value::Null, json!("orders"), json!(7)));
    let query = table.replace("table = 'orders'", "query = 'SELECT 1', key = ['x']");
    assert_eq!(deploy(&query), ["~ endpoint GET /rows (key, a query)"]);
    let scripted = "[[endpoints]]\nmethods = 'GET'\nroute = '/rows'\nauth = 'key'\nversion = 1\nrecord = true\n";
    assert_eq!(deploy(scripted), ["~ endpoint GET /rows (key, version 1, recorded)"]);
    assert_eq!(listed(), own(json!("orders"), Value::Null, Value::Null));
    assert_eq!(deploy(table), ["~ endpoint GET /rows (key, table `orders`)"]);
    // Whose it is nobody knows, once no file names it.
    assert_eq!(deploy(""), [""; 0]);
    assert_eq!(listed(), own(Value::Null, json!("orders"), json!(100)));
}

#[test]
fn an_endpoint_loses_what_belonged_to_what_answered_before() {
    let place = Installation::new();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "handler.py", HANDLER);
    let handler = folder.path().join("handler.py");
    for script in ["one", "other"] {
        place.run(&["script", "publish", "acme", script, handler.to_str().unwrap()]);
    }
    place.run(&["connection", "create", "acme", "dw", "sqlite:acme"]);
    place.run(&["endpoint", "create", "acme", "GET", "/e", "one", "--version", "1", "--record"]);
    let set = |arguments: &[&str]| {
        let e = place.run(&[&["endpoint", "set", "acme", "1"], arguments].concat());
        json!([e["script"], e["version"], e["source"]["table"], e["record"]])
    };
    assert_eq!(set(&["--script", "one"]), json!(["one", 1, null, true]), "as it was");
    assert_eq!(set(&["--script", "other"]), json!(["other", null, null, true]), "the version was the other script's");
    assert_eq!(set(&["--version", "1"]), json!(["other", 1, null, true]));
    assert_eq!(set(&["--live"]), json!(["other", null, null, true]));
    set(&["--version", "1"]);
    assert_eq!(set(&["--table", "dw:t"]), json!([null, null, "t", false]));
    assert_eq!(set(&["--script", "one", "--version", "1"]), json!(["one", 1, null, false]));
    let both = place.command(&["endpoint", "set", "acme", "1", "--live", "--version", "1"]).output().unwrap();
    assert!(!both.status.success(), "{both:?}");
}
