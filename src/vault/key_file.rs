//! The file that holds the vault's key: 64 hexadecimal digits, readable by its owner only.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::{domain::secret::Secret, vault::VaultError};

pub(super) type KeyBytes = Zeroizing<[u8; 32]>;

/// Longest key file that is read, in bytes: a key, a newline, and some room to notice that it is too long.
const KEY_FILE_BYTES_MAX: usize = 256;

/// The keys in and beside `path`, the one that seals first; a new one when there is no such file.
///
/// Two keys while they are being changed. The new one is looked for first: if it is not there, either the change has not
/// begun or it is complete, and `path`, read after that, holds the key that seals.
pub(super) fn read_or_create(path: &Path) -> Result<Vec<KeyBytes>, VaultError> {
    let next = read(&next_path(path))?;
    let current = match read(path)? {
        Some(key) => key,
        None => {
            create(path).map_err(|cause| failed("create", path, cause))?;
            // Read what is there now: another process may have been faster.
            read(path)?.ok_or_else(|| failed("read", path, io::ErrorKind::NotFound.into()))?
        }
    };
    Ok(next.into_iter().chain([current]).collect())
}

/// Creates a key file where there is none.
pub(super) fn create_new(path: &Path) -> Result<(), VaultError> {
    if path.exists() {
        return Err(VaultError::KeyFileExists { path: path.to_owned() });
    }
    create(path).map_err(|cause| failed("create", path, cause))
}

/// The key in a file that must be there.
pub(super) fn read_existing(path: &Path) -> Result<KeyBytes, VaultError> {
    read(path)?.ok_or_else(|| failed("read", path, io::ErrorKind::NotFound.into()))
}

/// Waits until no other process changes the key.
pub(super) fn lock(path: &Path) -> Result<File, VaultError> {
    let lock = with_suffix(path, ".lock");
    let open = || {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&lock)?;
        file.lock()?;
        Ok(file)
    };
    open().map_err(|cause| failed("lock", &lock, cause))
}

/// Creates the key that is to take the place of the one in `path`, unless it is there already.
pub(super) fn create_next(path: &Path) -> Result<(), VaultError> {
    let next = next_path(path);
    if read(&next)?.is_none() {
        create(&next).map_err(|cause| failed("create", &next, cause))?;
    }
    Ok(())
}

/// Puts the new key in the old one's place, in one step.
pub(super) fn promote_next(path: &Path) -> Result<(), VaultError> {
    let next = next_path(path);
    fs::rename(&next, path).and_then(|()| sync_folder(path)).map_err(|cause| failed("replace", path, cause))
}

fn next_path(path: &Path) -> PathBuf {
    with_suffix(path, ".next")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

pub(super) fn parse_key(text: &Secret, origin: impl FnOnce() -> String) -> Result<KeyBytes, VaultError> {
    let mut key = KeyBytes::default();
    match hex::decode_to_slice(text.expose().trim_ascii(), key.as_mut()) {
        Ok(()) => Ok(key),
        Err(_) => Err(VaultError::InvalidKey { origin: origin() }), // the cause would tell a character of the key
    }
}

fn read(path: &Path) -> Result<Option<KeyBytes>, VaultError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", path, error)),
    };
    let mode = file.metadata().map_err(|error| failed("read", path, error))?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(VaultError::KeyFileExposed { path: path.to_owned(), mode });
    }
    let mut text = Vec::with_capacity(KEY_FILE_BYTES_MAX); // no growth that would leave copies behind
    file.take(KEY_FILE_BYTES_MAX as u64).read_to_end(&mut text).map_err(|error| failed("read", path, error))?;
    parse_key(&Secret::from(text), || format!("`{}`", path.display())).map(Some)
}

/// Writes a new key beside `path` and links it there, so that the file is complete or absent, also after a crash, and a
/// key that another process wrote meanwhile is kept.
fn create(path: &Path) -> io::Result<()> {
    let mut key = KeyBytes::default();
    getrandom::fill(key.as_mut()).map_err(|error| io::Error::other(error.to_string()))?;
    let mut text = Zeroizing::new([b'\n'; 65]);
    hex::encode_to_slice(&key, &mut text[..64]).expect("32 bytes are 64 digits");

    let temporary = temporary_path(path);
    let written = write_new(&temporary, &text[..]).and_then(|()| match fs::hard_link(&temporary, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    });
    let removed = fs::remove_file(&temporary);
    written?;
    removed?;
    sync_folder(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

fn temporary_path(path: &Path) -> PathBuf {
    with_suffix(path, &format!(".{}.new", uuid::Uuid::new_v4().simple()))
}

fn failed(action: &'static str, path: &Path, cause: io::Error) -> VaultError {
    VaultError::KeyFile { action, path: path.to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_private_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vault.key");
        let key = read_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_or_create(&path).unwrap(), key);
        assert!(key.len() == 1 && *key[0] != [0; 32]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "the temporary file is gone");
    }

    #[test]
    fn processes_that_start_together_agree_on_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vault.key");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| read_or_create(&path).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vault.key");
        read_or_create(&path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let error = read_or_create(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("{mode:04o}")) && error.contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn a_broken_key_file_is_an_error_and_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vault.key");
        for content in ["", "0a", &"0a".repeat(33), &"zz".repeat(32), &"0a".repeat(10_000)] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            let error = read_or_create(&path).unwrap_err();
            assert!(matches!(error, VaultError::InvalidKey { .. }), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
    }

    #[test]
    fn a_directory_that_is_missing_is_named() {
        let error = read_or_create(Path::new("/nonexistent/vault.key")).unwrap_err().to_string();
        assert!(error.starts_with("cannot create the vault key `/nonexistent/vault.key`"), "{error}");
    }
}
