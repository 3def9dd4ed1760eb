//! The folder of a SQLite connection: each file `<schema>.db` is a schema.
//!
//! Owns: finding the files, and what a new one may be called. Never: follows a symbolic link, or opens a file.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::{
    data::dialect::{invalid, shown},
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

/// The file of a schema.
pub(super) fn path(folder: &Path, schema: &str) -> PathBuf {
    folder.join(format!("{schema}.db"))
}

/// Refuses names that cannot be those of a file.
pub(super) fn check_name(schema: &str) -> Result<(), SqlError> {
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
