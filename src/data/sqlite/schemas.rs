//! The schemas of a folder: their room, and new ones.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use crate::{
    data::sqlite::{
        folder::{list_files, path, real_folder},
        jail::Jail,
    },
    domain::sql::{SqlError, SqlErrorCode},
};

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

/// Creates a schema, unless there is one of this name in any case. Blocks.
///
/// Only the host ever creates files in the folder, and only under a name that cannot lead out of it.
pub(super) fn create_file(folder: &Path, file_bytes: u64, schema: &str) -> Result<(), SqlError> {
    let unwritable =
        |_| SqlError::new(SqlErrorCode::Unavailable, "the SQLite folder of this connection cannot be written");
    let folder = real_folder(folder)?;
    // Others who create a schema wait, so that together they cannot create more than can be used.
    let lock = File::open(&folder).map_err(unwritable)?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).map_err(|error| unwritable(error.into()))?;
    let jail = Jail::open(&folder, false, file_bytes)?;
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
