//! What authors do with the program: folders and versions, tables, re-runs.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use pqhost::{app::Workspace, config::DataDir};
use serde_json::{Value, json};

use crate::{
    program::Installation,
    support::{Answer, client},
};

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

fn printed(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[tokio::test]
async fn a_folder_is_pushed_and_compared_with_what_is_live() {
    let place = Installation::new();
    let folder = tempfile::tempdir().unwrap();
    let shown = folder.path().to_str().unwrap();
    // Exit code and diff.
    let diff = |arguments: &[&str]| {
        let output = place.command(&[&["script", "diff", "acme"], arguments].concat()).output().unwrap();
        let value = printed(&output);
        let text = value["diff"].as_str().or_else(|| value["error"].as_str()).unwrap().to_owned();
        (output.status.code().unwrap(), text)
    };
    write(folder.path(), "handler.py", "def handler(request): return 'one'\n");
    write(folder.path(), "pqhost.toml", "tenant = 'acme'\nscript = 'orders'\n");

    let pushed = place.run(&["script", "push", "acme", "orders", shown]);
    assert_eq!(pushed, json!({"script": "orders", "files": ["handler.py"]}));
    let listed = place.run(&["script", "list", "acme"]);
    assert_eq!(
        (&listed[0]["name"], &listed[0]["latest_version"]),
        (&json!("orders"), &Value::Null),
        "nothing is published"
    );
    write(folder.path(), "data.bin", "text\n");
    place.run(&["script", "push", "acme", "orders", shown]);
    let workspace = Workspace::open(&DataDir::new(place.folder().to_owned())).await.unwrap();
    let acme = workspace.db.tenants().find_tenant(&"acme".parse().unwrap()).await.unwrap().unwrap();
    let script = workspace.db.scripts().find_script(acme.id, &"orders".parse().unwrap()).await.unwrap().unwrap();
    let draft = workspace.db.drafts().find_draft(acme.id, script.id).await.unwrap().unwrap();
    assert!(draft.files.contains("handler.py") && draft.files.contains("data.bin"), "{}", draft.files);
    std::fs::remove_file(folder.path().join("data.bin")).unwrap();

    let (code, text) = diff(&["orders", shown]);
    assert!(code == 2 && text.contains("no version of `orders` is live"), "{code} {text}");
    place.run(&["script", "publish", "acme", "orders", shown]);
    assert_eq!(diff(&["orders", shown]), (0, String::new()));
    write(folder.path(), "handler.py", "def handler(request): return 'two'\n");
    write(folder.path(), "new.txt", "x\n");
    // Packages are not fetched for it: they are no part of what is compared.
    write(folder.path(), "requirements.txt", "no-such-package-anywhere\n");
    let (code, text) = diff(&["orders", shown]);
    assert_eq!(code, 1);
    for line in [
        "--- a/handler.py",
        "-def handler(request): return 'one'",
        "+def handler(request): return 'two'",
        "+++ b/new.txt",
        "+no-such-package-anywhere",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    std::fs::remove_file(folder.path().join("requirements.txt")).unwrap();
    place.run(&["script", "publish", "acme", "orders", shown]);
    assert_eq!(diff(&["orders", shown]).0, 0);
    let (code, against_one) = diff(&["orders", shown, "--version", "1"]);
    assert_eq!((code, &against_one), (1, &diff(&["orders", "2", "--from", "1"]).1), "as the host says it");
    assert_eq!(diff(&["orders", "2"]).0, 1);
    assert_eq!(diff(&["orders", "2", "--from", "2"]).0, 0);
    for trouble in [["orders", "/nowhere"], ["nothing", shown], ["orders", "9"]] {
        assert_eq!(diff(&trouble).0, 2, "{trouble:?}");
    }
}

#[test]
fn tables_are_looked_at_and_connections_restricted() {
    let place = Installation::new();
    let folder = place.folder().join("sqlite/acme");
    std::fs::create_dir_all(&folder).unwrap();
    let database = rusqlite::Connection::open(folder.join("crm.db")).unwrap();
    database
        .execute_batch(
            "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO people VALUES (1, 'Ada'), (2, 'Bob')",
        )
        .unwrap();
    place.run(&["connection", "create", "acme", "dw", "sqlite:acme"]);
    assert_eq!(place.run(&["connection", "tables", "acme", "dw"]), json!([{"schema": "crm", "name": "people"}]));
    let preview = place.run(&["connection", "preview", "acme", "dw", "crm", "people", "--limit", "1"]);
    assert_eq!(preview["rows"], json!([{"id": 1, "name": "Ada"}]));
    let people = Command::new(env!("CARGO_BIN_EXE_pqhost"))
        .arg("--data")
        .arg(place.folder())
        .args(["connection", "preview", "acme", "dw", "crm", "people"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&people.stdout), "id  name\n1   Ada\n2   Bob\n");

    place.publish("hello", "def handler(request): return 'hi'");
    place.run(&["connection", "set-readers", "acme", "dw", "--script", "hello"]);
    assert_eq!(place.run(&["connection", "list", "acme"])[0]["scripts"], json!(["hello"]));
    place.run(&["connection", "set-readers", "acme", "dw", "--no-script"]);
    assert_eq!(place.run(&["connection", "list", "acme"])[0]["scripts"], json!([]));
    place.run(&["connection", "set-readers", "acme", "dw", "--all-scripts"]);
    assert_eq!(place.run(&["connection", "list", "acme"])[0]["scripts"], Value::Null);
    let unsaid = place.command(&["connection", "set-readers", "acme", "dw"]).output().unwrap();
    assert!(!unsaid.status.success(), "{unsaid:?}");
}

#[tokio::test]
async fn a_recorded_request_is_re_run_by_its_author() {
    let place = Installation::new();
    place.publish("hello", "def handler(request): return {'v': 1}");
    let endpoint = place.run(&["endpoint", "list", "acme"])[0]["id"].to_string();
    assert_eq!(place.run(&["endpoint", "record", "acme", &endpoint, "on"])["record"], true);
    let token = place.run(&["operator-token", "create"])["token"].as_str().unwrap().to_owned();
    let host = place.serve_at("127.0.0.1:0", &[]);
    let answer = Answer::of(client().get(format!("{}/acme/hello", host.ingress))).await;
    let id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
    let rerun = |arguments: &[&str], json: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pqhost"));
        command.args(["--url", &host.control]).env("PQHOST_TOKEN", &token).stdin(Stdio::null());
        command.args(if json { &["--json"][..] } else { &[] });
        command.args(["invocation", "rerun", "acme", &id]).args(arguments).output().unwrap()
    };
    place.publish("other", "def handler(request): return 'x'"); // by now the invocation is in the log
    let unasked = rerun(&[], true);
    assert!(!unasked.status.success() && printed(&unasked).to_string().contains("--yes"), "{unasked:?}");
    let mut same = printed(&rerun(&["--yes"], true));
    while same["error"].as_str().is_some_and(|error| error.contains("there is no invocation")) {
        same = printed(&rerun(&["--yes"], true)); // records are written behind
    }
    assert_eq!(same["comparison"], json!({"same_status": true, "same_headers": true, "same_body": true}), "{same}");
    let file = place.folder().join("v2.py");
    std::fs::write(&file, "def handler(request): return {'v': 2}, 201").unwrap();
    place.run(&["script", "publish", "acme", "hello", file.to_str().unwrap(), "--no-promote"]);
    let other = rerun(&["--version", "2", "--yes"], false);
    let text = String::from_utf8_lossy(&other.stdout);
    for line in [
        "ran version 2",
        "status: different",
        "headers: the same",
        "body: different",
        "status 200 then, 201 now",
        "-  \"v\": 1",
        "+  \"v\": 2",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    place.run(&["endpoint", "record", "acme", &endpoint, "off"]);
    let without_host = place.command(&["invocation", "rerun", "acme", &id, "--yes"]).output().unwrap();
    assert!(printed(&without_host).to_string().contains("no host runs here"), "{without_host:?}");
}
