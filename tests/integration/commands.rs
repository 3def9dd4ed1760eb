//! The program's commands, each as part of a story.

use std::{
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::program::{Installation, POSTGRES};

/// What a command that reads standard input prints, or its error.
fn finish(mut command: Command, input: &str) -> Result<Value, String> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    _ = child.stdin.take().unwrap().write_all(input.as_bytes()); // not all of them read it
    let output = child.wait_with_output().unwrap();
    let value: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    match output.status.success() {
        true => Ok(value),
        false => Err(value["error"].as_str().unwrap_or_default().to_owned()),
    }
}

/// Runs a command that reads standard input.
fn run_with(place: &Installation, arguments: &[&str], input: &str) -> Value {
    finish(place.command(arguments), input).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

/// A command of somebody whose home this is, on another machine than the host's.
fn elsewhere(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pqhost"));
    command.current_dir(home).env("HOME", home).env_remove("XDG_CONFIG_HOME").arg("--json").args(arguments);
    command
}

fn column<'a>(rows: &'a Value, name: &str) -> Vec<&'a Value> {
    rows.as_array().unwrap().iter().map(|row| &row[name]).collect()
}

#[test]
fn secrets_and_hosts_are_given_and_taken_back() {
    let place = Installation::new();
    assert_eq!(run_with(&place, &["secret", "set", "acme", "typed"], "hunter22"), json!({"name": "typed"}));
    let file = place.folder().join("value");
    std::fs::write(&file, "from a file").unwrap();
    place.run(&["secret", "set", "acme", "filed", "--from-file", file.to_str().unwrap()]);
    let listed = place.run(&["secret", "list", "acme"]);
    assert_eq!(column(&listed, "name"), ["filed", "typed"]);
    assert!(!listed.to_string().contains("hunter22") && !listed.to_string().contains("from a file"), "{listed}");

    place.run(&["egress", "allow", "acme", "https://api.example.com"]);
    place.run(&["egress", "allow", "acme", "https://other.example.com"]);
    let hosts = place.run(&["egress", "list", "acme"]).to_string();
    assert!(hosts.contains("api.example.com") && hosts.contains("other.example.com"), "{hosts}");
    place.run(&["egress", "deny", "acme", "https://api.example.com"]);
    let hosts = place.run(&["egress", "list", "acme"]).to_string();
    assert!(!hosts.contains("api.example.com") && hosts.contains("other.example.com"), "{hosts}");

    assert_eq!(place.run(&["vault", "rotate"])["resealed"], 2);
    place.run(&["secret", "delete", "acme", "typed"]);
    assert_eq!(column(&place.run(&["secret", "list", "acme"]), "name"), ["filed"]);
    assert!(!place.command(&["secret", "delete", "acme", "typed"]).output().unwrap().status.success());

    // Who did all this is written down, and nothing secret with it.
    let audit = place.run(&["audit"]);
    assert!(column(&audit, "action").contains(&&json!("rotate_vault_key")), "{audit}");
    assert!(!audit.to_string().contains("hunter22"), "{audit}");
}

#[test]
fn keys_are_made_shown_changed_and_revoked() {
    let place = Installation::new();
    let rows = "dw:public.orders:customer_id=attribute:customer";
    let create = ["key", "create", "acme", "--name", "Ada", "--attribute", "customer=17", "--rows", rows];
    let created = place.run(&[&create[..], &["--rate", "100/1m", "--methods", "get", "--expires", "1d"]].concat());
    let (id, text) = (created["id"].as_str().unwrap(), created["key"].as_str().unwrap());
    assert!(text.starts_with("pqk_"), "{created}");
    let shown = place.run(&["key", "show", "acme", id]);
    let filter = json!({"connection": "dw", "schema": "public", "table": "orders", "column": "customer_id",
        "equals": {"attribute": "customer"}});
    assert_eq!((&shown["row_filters"], &shown["methods"]), (&json!([filter]), &json!("GET")));
    assert_eq!((&shown["attributes"]["customer"], &shown["rate_limit"]["seconds"]), (&json!(17), &json!(60)));

    let file = place.folder().join("rows.json");
    std::fs::write(&file, r#"[{"connection": "dw", "table": "a.b:c"}]"#).unwrap();
    let replaced = place.run(&["key", "replace", "acme", id, "--rows-from", file.to_str().unwrap()]);
    assert_eq!(replaced["row_filters"], json!([{"connection": "dw", "table": "a.b:c"}]));
    assert_eq!(place.run(&["key", "replace", "acme", id, "--no-rows"])["row_filters"], json!([]));
    assert_eq!(place.run(&["key", "replace", "acme", id, "--all-rows"])["row_filters"], Value::Null);
    let unsaid = place.command(&["key", "create", "acme"]).output().unwrap();
    assert!(!unsaid.status.success(), "what a key reaches must be said");
    place.run(&["key", "revoke", "acme", id]);
    let listed = place.run(&["key", "list", "acme"]);
    assert!(listed[0]["revoked_at"].is_string() && !listed.to_string().contains(text), "{listed}");
}

#[test]
fn every_command_explains_itself() {
    let place = Installation::new();
    let help = |words: &[&str]| {
        let output = place.command(&[words, &["--help"]].concat()).output().unwrap();
        assert!(output.status.success(), "{words:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for shell in ["bash", "zsh", "fish"] {
        let output = place.command(&["completions", shell]).output().unwrap();
        assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("pqhost"), "{shell}");
    }
    assert!(help(&["egress", "allow"]).contains("--url") && help(&["connection", "create"]).contains("--headers-from"));
}

#[test]
fn people_log_in_from_elsewhere_with_what_they_were_given() {
    const PASSWORDS: [&str; 2] = ["correct horse battery", "another horse battery"];
    let place = Installation::new();
    run_with(&place, &["user", "create", "ann@acme.example"], PASSWORDS[0]);
    assert!(finish(place.command(&["user", "create", "bob@acme.example"]), "short").unwrap_err().contains("12"));
    assert_eq!(column(&place.run(&["user", "list"]), "email"), ["ann@acme.example"]);
    place.run(&["member", "set", "acme", "ann@acme.example", "owner"]);
    let members = place.run(&["member", "list", "acme"]);
    assert_eq!(column(&members, "email"), ["ann@acme.example"]);
    assert_eq!(column(&members, "role"), ["owner"]);

    let host = place.serve_at("127.0.0.1:0", &[]);
    let home = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str], input: &str| finish(elsewhere(home.path(), arguments), input);
    let with_token = |token: &str, arguments: &[&str]| {
        let mut command = elsewhere(home.path(), arguments);
        command.env("PQHOST_URL", &host.control).env("PQHOST_TOKEN", token);
        finish(command, "")
    };
    let token = place.run(&["operator-token", "create", "--name", "me", "--expires", "1h"]);
    let (id, text) = (token["id"].as_str().unwrap(), token["token"].as_str().unwrap());
    assert_eq!(column(&place.run(&["operator-token", "list"]), "name"), ["me"]);
    run(&["login", &host.control], "pqh_wrong").unwrap_err();
    run(&["login", &host.control], &format!("{text}\n")).unwrap();
    let login = home.path().join(".config/pqhost/login.json");
    assert_eq!(std::fs::metadata(&login).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(run(&["whoami"], "").unwrap()["actor"], format!("operator token {id} me"));
    assert_eq!(column(&run(&["tenant", "list"], "").unwrap(), "name"), ["acme"]);
    assert_eq!(run(&["logout"], "").unwrap()["is_ended"], false, "a token is only forgotten");
    assert!(!login.exists());
    assert_eq!(with_token(text, &["whoami"]).unwrap()["is_operator"], true);
    place.run(&["operator-token", "revoke", id]);
    assert!(with_token(text, &["whoami"]).unwrap_err().contains("pqhost login"));

    let log_in = |password: &str| run(&["login", &host.control, "--email", "ann@acme.example"], password);
    assert!(log_in("wrong horse battery").unwrap_err().contains("wrong"));
    log_in(PASSWORDS[0]).unwrap();
    assert_eq!(run(&["whoami"], "").unwrap()["tenants"], json!([{"tenant": "acme", "role": "owner"}]));
    let session: Value = serde_json::from_slice(&std::fs::read(&login).unwrap()).unwrap();
    let session = session["token"].as_str().unwrap();
    assert_eq!(run(&["logout"], "").unwrap()["is_ended"], true);
    with_token(session, &["whoami"]).unwrap_err();
    run(&["logout"], "").unwrap_err();
    run_with(&place, &["user", "set-password", "ann@acme.example"], PASSWORDS[1]);
    log_in(PASSWORDS[0]).unwrap_err();
    log_in(PASSWORDS[1]).unwrap();

    // Programs have tokens with a role.
    let token = run(&["api-token", "create", "acme", "author", "--name", "ci"], "").unwrap();
    let (id, text) = (token["id"].as_str().unwrap(), token["token"].as_str().unwrap());
    let shown = run(&["api-token", "list", "acme"], "").unwrap();
    assert_eq!(column(&shown, "name"), ["ci"]);
    assert_eq!(column(&shown, "role"), ["author"]);
    assert_eq!(with_token(text, &["script", "list", "acme"]).unwrap(), json!([]));
    with_token(text, &["api-token", "list", "acme"]).unwrap_err();
    // An author is told before anything is changed that it may not grant secrets.
    run(&["secret", "set", "acme", "key", "--script", "other"], "v").unwrap_err();
    let handler = home.path().join("handler.py");
    std::fs::write(&handler, "def handler(request): return 1\n").unwrap();
    run(&["script", "publish", "acme", "other", handler.to_str().unwrap()], "").unwrap();
    run(&["secret", "set", "acme", "key", "--script", "other"], "v").unwrap();
    let file = "tenant = 'acme'\nscript = 'orders'\nsecrets = ['key']\n";
    std::fs::write(home.path().join("pqhost.toml"), file).unwrap();
    assert!(with_token(text, &["deploy", "--yes"]).unwrap_err().contains("role owner"));
    assert_eq!(column(&run(&["script", "list", "acme"], "").unwrap(), "name"), ["other"]);
    run(&["deploy", "--yes"], "").unwrap();
    assert_eq!(with_token(text, &["deploy", "--yes"]).unwrap(), json!({"steps": [], "is_done": true}));
    run(&["api-token", "revoke", "acme", id], "").unwrap();
    with_token(text, &["script", "list", "acme"]).unwrap_err();

    assert!(finish(place.command(&["user", "delete", "ann@acme.example"]), "").unwrap_err().contains("only owner"));
    run_with(&place, &["user", "create", "bob@acme.example"], PASSWORDS[0]);
    place.run(&["member", "set", "acme", "bob@acme.example", "owner"]);
    place.run(&["member", "remove", "acme", "ann@acme.example"]);
    run(&["script", "list", "acme"], "").unwrap_err();
    place.run(&["user", "delete", "ann@acme.example"]);
    assert_eq!(column(&place.run(&["user", "list"]), "email"), ["bob@acme.example"]);
    let audit = place.run(&["audit", "acme"]);
    assert!(column(&audit, "target").contains(&&json!(format!("{id} ci (author)"))), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_published_compared_looked_at_served_and_taken_back() {
    let place = Installation::new();
    let handler = |text: &str| {
        let file = place.folder().join("orders.py");
        std::fs::write(&file, format!("def handler(request): return '{text}'\n")).unwrap();
        file.to_str().unwrap().to_owned()
    };
    place.run(&["script", "publish", "acme", "orders", &handler("one"), "--message", "first"]);
    place.run(&["endpoint", "create", "acme", "GET", "/orders", "orders", "--auth", "public"]);
    let second = ["script", "publish", "acme", "orders", &handler("two"), "--message", "second", "--no-promote"];
    assert_eq!(place.run(&second)["is_live"], false);
    let versions = place.run(&["script", "versions", "acme", "orders"]);
    assert_eq!(column(&versions, "message"), ["second", "first"]);
    // As of `diff`, 1 means that they differ.
    let differ = |arguments: &[&str]| {
        let output = place.command(&[&["script", "diff", "acme", "orders"], arguments].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let diff = differ(&["2"]);
    let text = diff["diff"].as_str().unwrap();
    assert!(
        text.contains("-def handler(request): return 'one'") && text.contains("+def handler(request): return 'two'")
    );
    let from_nothing = differ(&["2", "--from", "0"]);
    assert!(from_nothing["diff"].as_str().unwrap().contains("--- /dev/null"), "{from_nothing}");

    let host = place.serve_at("127.0.0.1:0", &[]);
    let get = async |path: &str| reqwest::get(format!("{}{path}", host.ingress)).await.unwrap().text().await.unwrap();
    let until = async |expected: &str| {
        let seen = async { while get("/acme/orders").await != expected {} };
        tokio::time::timeout(crate::support::HANG_GUARD, seen).await.expect("the host sees the change");
    };
    assert_eq!(get("/acme/orders").await, "one");
    let preview = place.run(&["script", "preview", "acme", "orders", "2"]);
    let path = format!("{}/orders", preview["path"].as_str().unwrap());
    assert_eq!(get(&path).await, "two");
    let previews = place.run(&["script", "previews", "acme", "orders"]);
    assert_eq!((column(&previews, "id"), column(&previews, "version")), (vec![&preview["id"]], vec![&json!(2)]));
    place.run(&["script", "revoke-preview", "acme", "orders", preview["id"].as_str().unwrap()]);
    assert!(get(&path).await.contains("endpoint_unknown"));

    assert_eq!(place.run(&["script", "promote", "acme", "orders", "2"])["live_version"], 2);
    until("two").await;
    assert_eq!(place.run(&["script", "roll-back", "acme", "orders"])["live_version"], 1);
    until("one").await;
    let folder = tempfile::tempdir().unwrap();
    let pull = |more: &[&str]| {
        place.run(&[&["script", "pull", "acme", "orders", folder.path().to_str().unwrap()], more].concat());
        std::fs::read_to_string(folder.path().join("handler.py")).unwrap()
    };
    assert!(pull(&[]).contains("'one'") && pull(&["--version", "2"]).contains("'two'"));

    assert!(finish(place.command(&["script", "delete", "acme", "orders"]), "").unwrap_err().contains("GET /orders"));
    let endpoint = place.run(&["endpoint", "list", "acme"])[0]["id"].to_string();
    place.run(&["endpoint", "delete", "acme", &endpoint]);
    place.run(&["script", "delete", "acme", "orders"]);
    assert_eq!(place.run(&["script", "list", "acme"]), json!([]));
}

#[test]
fn connections_are_tested_and_replaced() {
    let place = Installation::new();
    let created = place.run(&["connection", "create", "acme", "dw", "postgres://postgres:hunter22@127.0.0.1:1/test"]);
    assert!(created["warnings"][0].as_str().unwrap().starts_with("cannot connect"), "{created}");
    assert!(!created.to_string().contains("hunter22"), "{created}");
    assert_eq!(place.run(&["connection", "test", "acme", "dw"])["is_reachable"], false);
    place.run(&["connection", "replace", "acme", "dw", POSTGRES]);
    assert_eq!(place.run(&["connection", "test", "acme", "dw"])["is_reachable"], true);
    let headers = place.folder().join("headers");
    std::fs::write(&headers, "Authorization: Bearer hunter22\n").unwrap();
    let crm = ["connection", "create", "acme", "crm", "https://api.example.com/", "--headers-from"];
    place.run(&[&crm[..], &[headers.to_str().unwrap()]].concat());
    finish(place.command(&["connection", "test", "acme", "crm"]), "").unwrap_err();
    finish(place.command(&["connection", "replace", "acme", "dw", "https://api.example.com/"]), "").unwrap_err();
    finish(place.command(&["tenant", "set-default", "acme", "crm"]), "").unwrap_err();
    place.run(&["connection", "create", "acme", "files", "sqlite:acme"]);
    place.run(&["tenant", "set-default", "acme", "files"]);
    let listed = place.run(&["connection", "list", "acme"]);
    assert_eq!(column(&listed, "name"), ["crm", "dw", "files"]);
    assert_eq!(column(&listed, "is_default"), [&json!(false), &json!(false), &json!(true)]);
    place.run(&["connection", "delete", "acme", "files"]);
    assert_eq!(column(&place.run(&["connection", "list", "acme"]), "name"), ["crm", "dw"]);
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let place = Installation::new();
    let folder = place.folder().join("man");
    let output = place.command(&["man-pages", folder.to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    for page in ["pqhost", "pqhost-serve", "pqhost-script-publish", "pqhost-operator-token-create"] {
        let text = std::fs::read_to_string(folder.join(format!("{page}.1"))).unwrap();
        assert!(text.starts_with(".ie") && text.contains(".SH NAME"), "{page}: {text:.200}");
    }
    let text = std::fs::read_to_string(folder.join("pqhost-serve.1")).unwrap();
    assert!(text.contains("trusted\\-proxy"), "{text}");
}
