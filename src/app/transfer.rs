//! A host or a tenant in one file: to move it to another host, or to another kind of control database.
//!
//! The file is a sealed stream (`vault::stream`). Its first piece is the head, the last one the tail, both JSON; those between
//! are rows. What the vault of a host has sealed is in it as it was before, so the key of the file is as secret as the vault's.
//!
//! Reading and writing the file blocks: these are commands that do nothing else.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, BufWriter},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use crate::{
    app::{Workspace, rotation::context},
    db::{
        self, DbError, migrations,
        transfer::{Selection, TableLayout, layout, row::MovedRow},
    },
    domain::names::TenantName,
    vault::{
        VaultError,
        stream::{Piece, StreamError, StreamKey, StreamOpener, StreamSealer},
    },
};

/// Why nothing was exported or imported.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The control database failed, or has a tenant of that name.
    #[error(transparent)]
    Db(#[from] DbError),
    /// What is sealed does not open.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The file is not what it should be.
    #[error("`{path}`: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: StreamError,
    },
    /// The export has what a newer pqhost knows.
    #[error("the export is of a newer pqhost (schema {export}, this one has {here}): upgrade first")]
    NewerSchema {
        /// Number of the newest migration where it was made.
        export: i64,
        /// The same here.
        here: i64,
    },
    /// There is no such tenant to export.
    #[error("there is no tenant `{0}`")]
    UnknownTenant(TenantName),
    /// A host can only be imported where there is none.
    #[error(
        "this host has tenants or users: import a whole host into an empty one, or export single tenants with --tenant"
    )]
    NotEmpty,
    /// A host has no name that could be another one.
    #[error("the export is of a whole host: --as is for tenants")]
    NoTenantToRename,
    /// The pieces are sealed as they should be, and make no sense.
    #[error("the export makes no sense: {0}")]
    Malformed(&'static str),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transferred {
    /// The tenant, under its name here; `None` for a whole host.
    pub tenant: Option<TenantName>,
    /// Rows in the file.
    pub rows: u64,
}

/// What an export says about itself.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    pqhost: String,
    /// Number of the newest migration.
    schema: i64,
    exported_at_ms: u64,
    /// `None`: a whole host.
    tenant: Option<TenantName>,
    with_log: bool,
    tables: Vec<TableLayout>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Tail {
    rows: u64,
}

impl Workspace {
    /// Writes the whole host, or a tenant, into a new file. Hosts may serve meanwhile; what they change is not in it.
    ///
    /// # Errors
    /// If anything cannot be read or written. There is no file then.
    pub async fn export(
        &self,
        tenant: Option<&TenantName>,
        with_log: bool,
        key: &StreamKey,
        path: &Path,
    ) -> Result<Transferred, TransferError> {
        let failed = |cause: io::Error| TransferError::File { path: path.to_owned(), cause: cause.into() };
        let id = match tenant {
            Some(name) => {
                let found = self.db.tenants().find_tenant(name).await?;
                Some(found.ok_or_else(|| TransferError::UnknownTenant(name.clone()))?.id)
            }
            None => None,
        };
        let head = Head {
            pqhost: env!("CARGO_PKG_VERSION").to_owned(),
            schema: migrations::newest(),
            exported_at_ms: db::now_ms().unsigned_abs(),
            tenant: tenant.cloned(),
            with_log,
            tables: layout(),
        };
        if path.symlink_metadata().is_ok() {
            return Err(failed(io::ErrorKind::AlreadyExists.into()));
        }
        let (part, file) = Part::create(path)?;
        let written = self.write(Selection { tenant: id, with_log }, &head, key, file).await;
        let (file, rows) = written.map_err(|error| match error {
            WriteError::Stream(cause) => TransferError::File { path: path.to_owned(), cause },
            WriteError::Other(error) => error,
        })?;
        file.sync_all().map_err(failed)?;
        part.publish(path).map_err(failed)?;
        Ok(Transferred { tenant: tenant.cloned(), rows })
    }

    async fn write(
        &self,
        selection: Selection,
        head: &Head,
        key: &StreamKey,
        file: File,
    ) -> Result<(File, u64), WriteError> {
        let mut sealer = StreamSealer::new(BufWriter::new(file), key)?;
        sealer.write(&serde_json::to_vec(head).expect("numbers and texts become JSON"))?;
        let mut rows = 0;
        let unseal = |value: &_, sealed: &[u8]| -> Result<_, WriteError> {
            let plain = self.vault.unseal(&context(value), sealed).map_err(TransferError::from)?;
            Ok(Zeroizing::new(plain.expose().to_vec()))
        };
        let emit = |row: MovedRow| {
            rows += 1;
            Ok(sealer.write(&row.encode())?)
        };
        self.db.transfer().export(&selection, unseal, emit).await?;
        let tail = Tail { rows };
        let output = sealer.finish(&serde_json::to_vec(&tail).expect("a number becomes JSON"))?;
        let file = output.into_inner().map_err(|error| StreamError::from(error.into_error()))?;
        Ok((file, rows))
    }

    /// Takes in what [`Self::export`] has written, a tenant under another name if one is given. Other hosts may serve meanwhile; they
    /// see all of it or nothing.
    ///
    /// # Errors
    /// If the file was not written with this key, is incomplete or was changed, is of a newer pqhost, or is in the way of what is
    /// there. Nothing is changed then.
    pub async fn import(
        &self,
        key: &StreamKey,
        path: &Path,
        rename: Option<TenantName>,
    ) -> Result<Transferred, TransferError> {
        let failed = |cause| TransferError::File { path: path.to_owned(), cause };
        let file = File::open(path).map_err(|cause| failed(cause.into()))?;
        let mut opener = StreamOpener::new(BufReader::new(file), key).map_err(failed)?;
        let head: Head = json(&opener.read().map_err(failed)?)?;
        if head.schema > migrations::newest() {
            return Err(TransferError::NewerSchema { export: head.schema, here: migrations::newest() });
        }
        if rename.is_some() && head.tenant.is_none() {
            return Err(TransferError::NoTenantToRename);
        }
        let tenant = rename.clone().or(head.tenant);
        let (action, target) = match &tenant {
            Some(name) => ("import_tenant", name.as_str()),
            None => ("import_host", ""),
        };
        let mut import = self.db.transfer().begin_import(action, target, &head.tables, rename).await?;
        if tenant.is_none() && !import.is_host_empty().await? {
            return Err(TransferError::NotEmpty);
        }
        let mut rows = 0;
        loop {
            let piece = opener.read().map_err(failed)?;
            if piece.is_last {
                let tail: Tail = json(&piece)?;
                if tail.rows != rows {
                    return Err(TransferError::Malformed("rows are missing"));
                }
                break;
            }
            let row = MovedRow::decode(&piece.plain).ok_or(TransferError::Malformed("a row cannot be read"))?;
            import.insert(row, |value, plain| self.vault.seal(&context(value), plain)).await?;
            rows += 1;
        }
        import.finish().await?;
        Ok(Transferred { tenant, rows })
    }
}

fn json<T: DeserializeOwned>(piece: &Piece) -> Result<T, TransferError> {
    serde_json::from_slice(&piece.plain).map_err(|_| TransferError::Malformed("its head or tail cannot be read"))
}

/// The file's name as long as it is incomplete. Dropping it removes that name.
struct Part(PathBuf);

impl Part {
    /// A new file: another one, of an export that runs or was killed, is neither shared nor removed.
    fn create(path: &Path) -> Result<(Self, File), TransferError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".part");
        let name = PathBuf::from(name);
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&name) {
            Ok(file) => Ok((Self(name), file)),
            Err(cause) => Err(TransferError::File { path: name, cause: cause.into() }),
        }
    }

    /// Gives the file its name, if there is no other one of that name by now.
    fn publish(self, path: &Path) -> io::Result<()> {
        std::fs::hard_link(&self.0, path)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.0); // if it cannot be removed, it has an end that nobody mistakes
    }
}

/// Why an export cannot be written, before the file's name is known.
enum WriteError {
    Stream(StreamError),
    Other(TransferError),
}

impl From<StreamError> for WriteError {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

impl From<TransferError> for WriteError {
    fn from(error: TransferError) -> Self {
        Self::Other(error)
    }
}

impl From<DbError> for WriteError {
    fn from(error: DbError) -> Self {
        Self::Other(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DataDir;

    /// Imports a file of these pieces.
    async fn import(pieces: &[&[u8]], rename: Option<&str>) -> Result<Transferred, TransferError> {
        let folder = tempfile::tempdir().unwrap();
        let (key_file, file) = (folder.path().join("key"), folder.path().join("export"));
        StreamKey::create(&key_file).unwrap();
        let key = StreamKey::read(&key_file).unwrap();
        let mut sealer = StreamSealer::new(Vec::new(), &key).unwrap();
        let (last, others) = pieces.split_last().unwrap();
        for piece in others {
            sealer.write(piece).unwrap();
        }
        std::fs::write(&file, sealer.finish(last).unwrap()).unwrap();
        let workspace = Workspace::open(&DataDir::new(folder.path().join("data"))).await.unwrap();
        let imported = workspace.import(&key, &file, rename.map(|name| name.parse().unwrap())).await;
        if imported.is_err() {
            assert_eq!(workspace.db.count_changes().await, 0, "nothing is changed");
        }
        imported
    }

    fn head(change: impl FnOnce(&mut Head)) -> Vec<u8> {
        let mut head = Head {
            pqhost: "9.9.9".to_owned(),
            schema: migrations::newest(),
            exported_at_ms: 0,
            tenant: None,
            with_log: false,
            tables: layout(),
        };
        change(&mut head);
        serde_json::to_vec(&head).unwrap()
    }

    #[tokio::test]
    async fn what_only_a_newer_pqhost_knows_is_refused_by_name() {
        let newer = head(|head| head.schema += 1);
        let error = import(&[&newer, b"{\"rows\": 0}"], None).await.unwrap_err();
        assert!(matches!(error, TransferError::NewerSchema { .. }), "{error}");
        for (change, expected) in [
            ((|head| head.tables[0].name = "robots".to_owned()) as fn(&mut Head), "`robots`"),
            (|head| head.tables[1].columns.push("colour".to_owned()), "`tenant.colour`"),
        ] {
            let error = import(&[&head(change), b"{\"rows\": 0}"], None).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        // An older one has fewer tables and columns.
        let older = head(|head| {
            head.schema = 1;
            head.tables.truncate(2);
        });
        assert_eq!(import(&[&older, b"{\"rows\": 0}"], None).await.unwrap().rows, 0);
    }

    #[test]
    fn an_export_takes_the_place_of_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("export");
        let names = || {
            let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
            let mut names: Vec<_> = names.collect();
            names.sort();
            names
        };
        let (first, _) = Part::create(&path).unwrap();
        let second = Part::create(&path).map(|_| ()).unwrap_err();
        assert!(matches!(&second, TransferError::File { path, .. } if path.ends_with("export.part")), "{second}");
        assert_eq!(names(), ["export.part"], "that of the first is still there");
        first.publish(&path).unwrap();
        assert_eq!(names(), ["export"]);

        std::fs::write(&path, "other").unwrap();
        let (late, _) = Part::create(&path).unwrap();
        assert_eq!(late.publish(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!((names(), std::fs::read_to_string(&path).unwrap()), (vec!["export".into()], "other".to_owned()));
    }

    #[tokio::test]
    async fn pieces_that_make_no_sense_change_nothing() {
        let whole = head(|_| ());
        for (pieces, expected) in [
            (&[&b"{}"[..], b"{\"rows\": 0}"][..], "head or tail"),
            (&[&whole, b"{\"rows\": 1}"], "rows are missing"),
            (&[&whole, b"x", b"{\"rows\": 1}"], "a row cannot be read"),
            (&[&whole, &[0xff, 0xff], b"{\"rows\": 1}"], "no table"),
            (&[&whole, &[0, 0], b"{\"rows\": 1}"], "another number of values"),
            (&[&whole], "cut off"),
        ] {
            let error = import(pieces, None).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let error = import(&[&whole, b"{\"rows\": 0}"], Some("other")).await.unwrap_err();
        assert!(matches!(error, TransferError::NoTenantToRename), "{error}");
    }
}
