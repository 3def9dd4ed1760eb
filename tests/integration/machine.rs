//! What others on the machine may read.

use std::{
    fs::{self, Permissions},
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{program::Installation, support::share_cache};

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
