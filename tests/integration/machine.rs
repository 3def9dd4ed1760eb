//! What others on the machine may read, and what a terminal gets to see of tenants' text.

use std::{
    fs::{self, Permissions},
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use pqhost::{app::Workspace, config::DataDir};

use crate::{
    program::Installation,
    support::{Answer, HANG_GUARD, client, share_cache},
};

/// The command, run by somebody whose files are open to all unless a program says otherwise.
fn open_handed(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask 0 && exec \"$0\" \"$@\""]).arg(command.get_program()).args(command.get_args());
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    shell
}

/// Killed in the end.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill(); // it may have ended
        _ = self.0.wait();
    }
}

/// All files and folders in a folder, with their modes; links, and what they lead to, are not among them.
fn modes(folder: &Path) -> Vec<(PathBuf, u32)> {
    let mut modes = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let Ok(metadata) = fs::symlink_metadata(entry.path()) else { continue }; // it is gone meanwhile
        if metadata.is_dir() {
            modes.extend(self::modes(&entry.path()));
        }
        if !metadata.is_symlink() {
            modes.push((entry.path(), metadata.permissions().mode()));
        }
    }
    modes
}

fn open_to_others(folder: &Path) -> Vec<PathBuf> {
    modes(folder).into_iter().filter(|(_, mode)| mode & 0o077 != 0).map(|(path, _)| path).collect()
}

#[tokio::test]
async fn others_on_the_machine_read_nothing_of_what_is_kept() {
    let place = Installation::empty(None);
    let data = place.folder().join("data");
    fs::create_dir(&data).unwrap();
    share_cache(&data);
    let demo = ["demo", "--ingress", "127.0.0.1:0", "--control", "127.0.0.1:0", "--data", data.to_str().unwrap()];
    let mut host = Running(open_handed(&place.command(&demo)).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(host.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("ingress"), "{line}");
    let kept = modes(&data);
    for name in ["pqhost.db", "pqhost.db-wal", "pqhost.db-shm", "pqhost.db.lock", "vault.key", "salesforce.db"] {
        assert!(kept.iter().any(|(path, _)| path.ends_with(name)), "{name}: {kept:?}");
    }
    assert!(kept.iter().any(|(path, _)| path.extension().is_some_and(|kind| kind == "image")), "{kept:?}");
    assert_eq!(open_to_others(&data), Vec::<PathBuf>::new());
    assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
    drop(host);

    // As an earlier version left it.
    for (path, mode) in modes(&data) {
        if !path.ends_with("vault.key") {
            fs::set_permissions(&path, Permissions::from_mode(mode | 0o066)).unwrap();
        }
    }
    let listing = ["tenant", "list", "--data", data.to_str().unwrap()];
    assert!(open_handed(&place.command(&listing)).status().unwrap().success());
    assert_eq!(open_to_others(&data), Vec::<PathBuf>::new());
}

/// Turns the text behind it, colours and clears a terminal, and hides.
const SPOOF: &str = "safe\u{202e}\u{2066}\u{200b}\u{feff}\u{9b}2J\u{1b}[2J\u{7f}\u{7}";

fn misleads(text: &str) -> bool {
    text.chars().any(|c| c != '\n' && c != '\t' && (c.is_control() || SPOOF[4..].contains(c)) && !c.is_ascii_graphic())
}

#[tokio::test]
async fn no_command_passes_on_what_a_terminal_obeys() {
    let place = Installation::new();
    let escapes: String = SPOOF.chars().skip(4).map(|c| format!("\\u{:04x}", u32::from(c))).collect();
    let raising = format!("def handler(request):\n    print('safe{escapes}')\n    raise ValueError('safe{escapes}')\n");
    place.publish("spoof", &raising);
    let file = |name: &str, source: String| {
        let file = place.folder().join(name);
        fs::write(&file, source).unwrap();
        format!("{}={}", name.trim_end_matches(".py"), file.display())
    };
    let printing = file("printing.py", format!("print('safe{escapes}')\n{raising}"));
    let failing = file("failing.py", format!("raise ValueError('safe{escapes}')\n"));
    let serving = place.serve_at("127.0.0.1:0", &[]);
    let answer = Answer::of(client().get(format!("{}/acme/spoof?a=1", serving.ingress))).await;
    assert_eq!(answer.status, 500, "{}", answer.body);
    let workspace = Workspace::open(&DataDir::new(place.folder().to_owned())).await.unwrap();
    let acme = workspace.db.tenants().find_tenant(&"acme".parse().unwrap()).await.unwrap().unwrap().id;
    let started = Instant::now();
    while workspace.db.invocations().list(acme, None, 1).await.unwrap().is_empty() {
        assert!(started.elapsed() < HANG_GUARD, "nothing is recorded");
    }
    let data = place.folder().to_str().unwrap();
    // The host refuses what has control characters in a message.
    let turned = SPOOF.split_once('\u{9b}').unwrap().0;
    let commands: [(&[&str], bool); 6] = [
        (&["logs", "acme"], true),
        (&["script", "publish", "acme", &printing, "--message", turned], true),
        (&["script", "publish", "acme", &failing], true),
        (&["script", "versions", "acme", "printing"], true),
        (&["token", "revoke", "acme", SPOOF], false),
        (&["audit"], false),
    ];
    for json in [false, true] {
        for (arguments, is_shown) in commands {
            let mut command = Command::new(env!("CARGO_BIN_EXE_pqhost"));
            command.args(["--data", data]).args(json.then_some("--json")).args(arguments).stdin(Stdio::null());
            let output = command.output().unwrap();
            let shown = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
            assert!(!misleads(&shown), "{arguments:?}: {shown:?}");
            assert!(!is_shown || shown.contains("202e"), "{arguments:?} shows it: {shown}");
        }
    }
}
