//! Commands work on the host that they are told to, or say why not, and leave nothing where there was none.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use crate::{program::Installation, support::share_cache};

/// Nothing listens there.
const NO_DATABASE: &str = "postgres://postgres@127.0.0.1:1/none";

/// Every verb that works on a data directory and on nothing else; `key` and `file` are made by the test.
const LOCAL_ONLY: [&[&str]; 5] = [
    &["export", "--key-file", "key", "out.pqx"],
    &["import", "--key-file", "key", "in.pqx"],
    &["vault", "rotate"],
    &["migrate"],
    &["migrate", "--check"],
];

/// Verbs that need a host which is there: one of each noun, and those that do without a noun.
const ON_A_HOST: [&[&str]; 20] = [
    &["tenant", "list"],
    &["tenant", "delete", "acme"],
    &["quota", "show", "acme"],
    &["usage", "show", "acme"],
    &["connection", "list", "acme"],
    &["egress", "list", "acme"],
    &["script", "list", "acme"],
    &["script", "purge", "acme", "orders", "1"],
    &["endpoint", "list", "acme"],
    &["invocation", "rerun", "acme", "0", "--yes"],
    &["key", "list", "acme"],
    &["token", "list", "acme"],
    &["signing-key", "list", "acme"],
    &["issuer", "list", "acme"],
    &["secret", "list", "acme"],
    &["user", "list"],
    &["member", "list", "acme"],
    &["operator-token", "list"],
    &["audit"],
    &["logs", "acme"],
];

/// A folder in which a command runs, and a home without a login.
struct Place {
    folder: tempfile::TempDir,
    home: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap(), home: tempfile::tempdir().unwrap() };
        let made = place.run(&["vault", "create-key", "key"], &[]);
        assert!(made.status.success(), "{}", said(&made));
        place
    }

    fn log_in(&self, url: &str) {
        let folder = self.home.path().join("pqhost");
        fs::create_dir_all(&folder).unwrap();
        let login = serde_json::json!({"url": url, "token": "pqh_none"}).to_string();
        fs::write(folder.join("login.json"), login).unwrap();
    }

    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pqhost"));
        for variable in ["PQHOST_URL", "PQHOST_TOKEN", "PQHOST_DATABASE", "PQHOST_VAULT_KEY"] {
            command.env_remove(variable);
        }
        command.env("XDG_CONFIG_HOME", self.home.path()).envs(variables.iter().copied());
        command.args(arguments).current_dir(self.folder.path()).output().unwrap()
    }

    /// The names of what is in the folder, but for the key.
    fn holds(&self) -> Vec<String> {
        let names = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).filter(|name| name != "key").collect()
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn refused(output: &Output, words: &[&str], what: &dyn std::fmt::Debug) {
    let said = said(output);
    assert!(!output.status.success(), "{what:?} was carried out: {said}");
    for word in words {
        assert!(said.contains(word), "{what:?}: {word} is not in {said}");
    }
}

#[test]
fn commands_that_work_on_a_directory_refuse_another_host() {
    let place = Place::new();
    fs::write(place.folder.path().join("in.pqx"), "x").unwrap();
    for verb in LOCAL_ONLY {
        let url = "http://host.example:8081";
        refused(&place.run(&[verb, &["--url", url]].concat(), &[]), &["--url", url, "--data DIR"], &verb);
        refused(&place.run(verb, &[("PQHOST_URL", url)]), &["PQHOST_URL", url], &verb);
    }
    place.log_in("http://login.example:8081");
    for verb in LOCAL_ONLY {
        refused(&place.run(verb, &[]), &["logged in to http://login.example:8081", "--data DIR"], &verb);
    }
    assert_eq!(place.holds(), ["in.pqx"]);
}

#[test]
fn no_command_makes_a_data_directory_of_a_wrong_name() {
    let place = Place::new();
    let wrong = |verb: &[&str], data: &[&str]| place.run(&[verb, data].concat(), &[]);
    for verb in ON_A_HOST.iter().chain(&LOCAL_ONLY).filter(|verb| verb[0] != "import") {
        for data in [&["--data", "wrong"][..], &[]] {
            let shown = data.last().copied().unwrap_or("pqhost-data");
            refused(&wrong(verb, data), &[shown, "--data"], verb);
        }
        refused(&place.run(verb, &[("PQHOST_DATABASE", NO_DATABASE)]), &["error"], verb);
        assert_eq!(place.holds(), [] as [&str; 0], "{verb:?}");
    }
    // A folder that holds something else is none either.
    fs::create_dir(place.folder.path().join("empty")).unwrap();
    for verb in ON_A_HOST.iter().chain(&LOCAL_ONLY).filter(|verb| verb[0] != "import") {
        refused(&wrong(verb, &["--data", "empty"]), &["empty"], verb);
    }
    assert_eq!(fs::read_dir(place.folder.path().join("empty")).unwrap().count(), 0);
}

#[test]
fn commands_name_the_directory_and_the_database_that_they_used() {
    let place = Place::new();
    let (installation, other) = (Installation::new(), tempfile::tempdir().unwrap());
    share_cache(other.path());
    place.log_in("http://login.example:8081"); // a directory that is named goes before it
    let named = |verb: &[&str], folder: &Path| {
        let folder = folder.to_str().unwrap();
        let done = place.run(&[verb, &["--data", folder]].concat(), &[]);
        assert!(done.status.success() && said(&done).contains(folder), "{verb:?}: {}", said(&done));
    };
    named(&["export", "--key-file", "key", "out.pqx"], installation.folder());
    named(&["vault", "rotate"], installation.folder());
    named(&["import", "--key-file", "key", "out.pqx"], other.path());
    let listed = place.run(&["tenant", "list", "--data", other.path().to_str().unwrap()], &[]);
    assert!(said(&listed).contains("acme"), "{}", said(&listed));
}

#[test]
fn an_export_of_nothing_fails_and_writes_nothing() {
    let place = Place::new();
    let installation = Installation::new();
    installation.run(&["tenant", "delete", "acme"]);
    let folder = installation.folder().to_str().unwrap();
    let export = ["export", "--key-file", "key", "out.pqx", "--data", folder];
    refused(&place.run(&export, &[]), &["nothing to export", folder], &export);
    assert_eq!(place.holds(), [] as [&str; 0]);
}
