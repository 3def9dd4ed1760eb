//! The folder of a SQLite connection: each file `<schema>.db` is a schema.
//!
//! Owns: finding the files, and creating one for a new schema. Never: follows a symbolic link, or opens a database.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    data::{
        select::{invalid, shown},
        sqlite::{
            SqlitePool, broken,
            jail::{Jail, READ_ONLY},
        },
    },
    domain::sql::{SqlError, SqlErrorCode},
};

/// Longest name of a schema that a script may create, in bytes: file systems take 255 with ending, and `-journal`.
const CREATED_NAME_BYTES_MAX: usize = 63;
/// Longest name of a schema that is recognised, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// Device and inode of a file, by schema.
pub(super) type Files = BTreeMap<String, (u64, u64)>;

/// The folder as an absolute path without links in it.
pub(super) fn real_folder(folder: &Path) -> Result<PathBuf, SqlError> {
    match folder.canonicalize() {
        Ok(folder) if folder.is_dir() => Ok(folder),
        Ok(_) | Err(_) => {
            Err(SqlError::new(SqlErrorCode::Unavailable, "the SQLite folder of this connection does not exist"))
        }
    }
}

/// The schemas of a folder: regular files `<schema>.db`, no links.
pub(super) fn list_files(folder: &Path) -> Result<Files, SqlError> {
    let unreadable =
        |_| SqlError::new(SqlErrorCode::Unavailable, "the SQLite folder of this connection cannot be read");
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        let Some(schema) = name.to_str().and_then(|name| name.strip_suffix(".db")) else { continue };
        // `temp` is SQLite's own.
        if schema.is_empty() || schema.len() > NAME_BYTES_MAX || schema.eq_ignore_ascii_case("temp") {
            continue;
        }
        // Of the entry itself, not of what a link points to. A file that vanished meanwhile is none.
        if let Ok(metadata) = entry.metadata()
            && metadata.is_file()
        {
            files.insert(schema.to_owned(), (metadata.dev(), metadata.ino()));
        }
    }
    Ok(files)
}

/// Bytes of the files of a folder that are in use; those of free pages are not, so that deleting rows makes room.
///
/// Asks SQLite: opening and closing a file in any other way would take this process's locks on it away. Where SQLite cannot say, it is
/// how long the files are.
pub(crate) fn used_bytes(folder: &Path) -> u64 {
    let opened = Jail::open(folder, true, u64::MAX).ok();
    opened.and_then(|jail| jail.used_bytes().ok()).unwrap_or_else(|| {
        let files = list_files(folder).unwrap_or_default();
        let length = |schema: &String| fs::symlink_metadata(path(folder, schema)).map_or(0, |file| file.len());
        files.keys().map(length).fold(0, u64::saturating_add)
    })
}

/// Creates a schema, unless there is one of this name in any case.
///
/// Only the host ever creates files in the folder, and only under a name that cannot lead out of it.
pub(crate) async fn create_schema(pool: Arc<SqlitePool>, schema: String) -> Result<(), SqlError> {
    if pool.read_only {
        return Err(SqlError::new(SqlErrorCode::ReadOnly, READ_ONLY));
    }
    check_name(&schema)?;
    let thread = pool.thread().await?;
    let creating = tokio::task::spawn_blocking(move || {
        let _thread = thread;
        create_file(&pool, &schema)
    });
    creating.await.map_err(|_| broken())?
}

fn create_file(pool: &SqlitePool, schema: &str) -> Result<(), SqlError> {
    let unwritable =
        |_| SqlError::new(SqlErrorCode::Unavailable, "the SQLite folder of this connection cannot be written");
    let folder = real_folder(&pool.folder)?;
    // Others who create a schema wait, so that together they cannot create more than can be used.
    let lock = File::open(&folder).map_err(unwritable)?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).map_err(|error| unwritable(error.into()))?;
    let jail = Jail::open(&folder, false, pool.file_bytes)?;
    let files = list_files(&folder)?;
    // SQLite's own name for it is in lower case.
    let schema = if schema.eq_ignore_ascii_case("main") { "main" } else { schema };
    if files.keys().any(|known| known.eq_ignore_ascii_case(schema)) {
        return Ok(());
    }
    let n_max = jail.attached_max()?;
    let n_files = files.keys().filter(|known| *known != "main").count();
    if schema != "main" && n_files >= n_max {
        let message = format!("a SQLite connection can have {n_max} schemas besides `main`, and has that many");
        return Err(SqlError::new(SqlErrorCode::NotAllowed, message));
    }
    // `create_new` follows no link. An empty file is an empty database.
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path(&folder, schema));
    match created {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let message = format!("schema `{schema}` cannot be created: something else has its name");
            Err(SqlError::new(SqlErrorCode::NotAllowed, message))
        }
        Err(error) => Err(unwritable(error)),
    }
}

fn path(folder: &Path, schema: &str) -> PathBuf {
    folder.join(format!("{schema}.db"))
}

fn check_name(schema: &str) -> Result<(), SqlError> {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | ' ');
    let is_good = schema.starts_with(|c: char| c.is_alphanumeric() || c == '_')
        && schema.chars().all(is_plain)
        && schema.len() <= CREATED_NAME_BYTES_MAX
        && !["temp", "sqlite"].iter().any(|reserved| schema.eq_ignore_ascii_case(reserved));
    if is_good {
        return Ok(());
    }
    Err(invalid(format!(
        "schema `{}` cannot be created: its name becomes that of a file, so use 1 to {CREATED_NAME_BYTES_MAX} letters, \
         digits, `_`, `-` or spaces, starting with a letter, digit or `_`",
        shown(schema)
    )))
}
