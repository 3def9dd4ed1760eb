//! The data directory on disk: made, and closed to other users of the machine.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
};

use crate::config::DataDir;

/// The rights of others on a file.
const OTHERS: u32 = 0o077;

/// Files of the host in the directory itself begin so, but for the key: the vault refuses one that others could read.
const DATABASE: &str = "pqhost.db";

impl DataDir {
    /// Makes the directory, and the folders in it, unless they exist; and takes from other users of the machine what they may
    /// do with them and with the host's files there, as an earlier version or a copy may have left them.
    ///
    /// # Errors
    /// If that fails.
    pub fn prepare(&self) -> io::Result<()> {
        let folders = [self.images(), self.cache(), self.sqlite()];
        for folder in std::iter::once(self.path()).chain(folders.iter().map(|folder| folder.as_path())) {
            make_private_folder(folder)?;
            close_to_others(folder)?;
        }
        for entry in entries(self.path())? {
            if entry.file_name().as_encoded_bytes().starts_with(DATABASE.as_bytes()) {
                close_to_others(&entry.path())?;
            }
        }
        folders.iter().try_for_each(|folder| close_all_in(folder))
    }
}

/// Makes a folder, and those above it, that no other user of the machine may look into.
///
/// # Errors
/// If that fails.
pub fn make_private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Closes all that is in a closed folder, but for what belongs to another user.
fn close_all_in(folder: &Path) -> io::Result<()> {
    for entry in entries(folder)? {
        let close = || {
            close_to_others(&entry.path())?;
            if entry.file_type()?.is_dir() { close_all_in(&entry.path()) } else { Ok(()) }
        };
        match close() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    fs::read_dir(folder)?.collect()
}

/// Takes a file or folder from others, unless it is a link. One that is gone meanwhile needs nothing.
fn close_to_others(path: &Path) -> io::Result<()> {
    let close = || {
        let metadata = fs::symlink_metadata(path)?;
        let mode = metadata.permissions().mode();
        match mode & OTHERS != 0 && !metadata.is_symlink() {
            true => fs::set_permissions(path, Permissions::from_mode(mode & !OTHERS)),
            false => Ok(()),
        }
    };
    match close() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, os::unix::fs::symlink, path::PathBuf};

    use super::*;

    fn write_open(path: &Path) {
        let folder = path.parent().unwrap();
        fs::create_dir_all(folder).unwrap();
        fs::write(path, "x").unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o664)).unwrap();
        fs::set_permissions(folder, Permissions::from_mode(0o775)).unwrap();
    }

    /// Modes of all that is in a folder, links not followed.
    fn modes(folder: &Path) -> BTreeMap<PathBuf, u32> {
        let mut modes = BTreeMap::new();
        for entry in entries(folder).unwrap() {
            let metadata = fs::symlink_metadata(entry.path()).unwrap();
            if metadata.is_dir() {
                modes.extend(self::modes(&entry.path()));
            }
            if !metadata.is_symlink() {
                modes.insert(entry.path(), metadata.permissions().mode() & 0o7777);
            }
        }
        modes
    }

    #[test]
    fn what_an_earlier_version_left_open_is_closed() {
        let (outside, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let data = DataDir::new(folder.path().join("above/data"));
        let own = [
            "pqhost.db",
            "pqhost.db-wal",
            "pqhost.db-shm",
            "pqhost.db.lock",
            "images/a.image",
            "images/a.b.tmp",
            "cache/a.native",
            "sqlite/acme/main.db",
            "sqlite/acme/dw/x.db-journal",
        ];
        let others = ["vault.key", "notes"];
        for file in own.iter().chain(&others) {
            write_open(&data.path().join(file));
        }
        write_open(&outside.path().join("linked/file"));
        symlink(outside.path().join("linked"), data.sqlite().join("folder")).unwrap();
        symlink(outside.path().join("linked/file"), data.images().join("b.image")).unwrap();
        symlink("nowhere", data.images().join("c.image")).unwrap();
        for _ in 0..2 {
            data.prepare().unwrap();
            let modes = modes(data.path());
            for (path, mode) in &modes {
                let expected = match others.iter().any(|name| path.ends_with(name)) {
                    true => 0o664,
                    false if path.is_dir() => 0o700,
                    false => 0o600,
                };
                assert_eq!(*mode, expected, "{}", path.display());
            }
            assert_eq!(modes.len(), own.len() + others.len() + 5, "{modes:?}");
            assert_eq!(fs::metadata(data.path()).unwrap().permissions().mode() & 0o7777, 0o700);
        }
        assert!(modes(outside.path()).values().all(|mode| [0o664, 0o775].contains(mode)), "links are not followed");
    }

    #[test]
    fn a_new_directory_is_closed_with_those_above_it() {
        let folder = tempfile::tempdir().unwrap();
        DataDir::new(folder.path().join("a/b")).prepare().unwrap();
        let modes = modes(folder.path());
        assert!(modes.len() == 5 && modes.values().all(|mode| *mode == 0o700), "{modes:?}");
    }
}
