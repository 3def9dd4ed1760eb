//! The program's commands on a data directory, each as part of a story.

use std::{io::Write as _, process::Stdio};

use serde_json::{Value, json};

use crate::program::Installation;

/// Runs a command that reads standard input.
fn run_with(place: &Installation, arguments: &[&str], input: &str) -> Value {
    let mut child = place.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
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

    assert_eq!(place.run(&["vault", "rotate"]), json!({"resealed": 2}));
    place.run(&["secret", "delete", "acme", "typed"]);
    assert_eq!(column(&place.run(&["secret", "list", "acme"]), "name"), ["filed"]);
    assert!(!place.command(&["secret", "delete", "acme", "typed"]).output().unwrap().status.success());

    // Who did all this is written down, and nothing secret with it.
    let audit = place.run(&["audit"]);
    assert!(column(&audit, "action").contains(&&json!("rotate_vault_key")), "{audit}");
    assert!(!audit.to_string().contains("hunter22"), "{audit}");
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
