//! Puts a host together.
//!
//! Owns: what exists once per process, and the order in which it starts and stops. Never: parses flags, serves HTTP.

pub mod rotation;
pub mod transfer;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::task::JoinHandle;

use crate::{
    auth::Authenticator,
    config::{Config, DataDir, vault_keys_from_environment},
    data::{Connections, DataSettings},
    db::{Db, DbError, sealed::SealedFor},
    domain::control_database::ControlDatabase,
    egress::Egress,
    invoke::{self, CHANGE_POLL, Invoker},
    publish::Publisher,
    remote::Sessions,
    sandbox::{
        ArtifactOrigin, RewindMethod,
        images::ImageLibrary,
        pool::{Pool, PoolSettings},
        runtime::{Runtime, RuntimeError},
    },
    vault::{EnvironmentKeys, Vault, VaultError},
};

/// How long the last invocation records may take to be written when a host stops.
const RECORDS_WAIT: Duration = Duration::from_secs(5);

/// Temporary files older than this are leftovers of a process that was killed; younger ones may be somebody's who publishes.
const LEFTOVER_AGE: Duration = Duration::from_secs(3600);

/// Why a host does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("the data directory `{path}` cannot be used: {error}")]
    DataDir {
        /// Which.
        path: PathBuf,
        /// What the machine said.
        error: std::io::Error,
    },
    /// Nothing is kept there.
    #[error(
        "there is no data directory `{path}`: name it with `--data`; `pqhost serve` and `pqhost tenant create` make one"
    )]
    NoDataDir {
        /// The place that was named.
        path: PathBuf,
    },
    /// The control database cannot be opened.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The vault cannot be opened.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The Python runtime does not start.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// There are no threads to run guests on.
    #[error("cannot start the guests' threads: {0}")]
    Threads(std::io::Error),
}

/// What every command works with: the control database and the vault of a data directory.
#[derive(Debug)]
pub struct Workspace {
    /// The directory.
    pub data: DataDir,
    /// The control database.
    pub db: Db,
    /// Seals what is secret in it.
    pub vault: Arc<Vault>,
    /// Issues and verifies tokens.
    pub auth: Arc<Authenticator>,
}

impl Workspace {
    /// The same for a data directory that must be there, so that a wrong name is not taken for an empty host.
    ///
    /// # Errors
    /// [`StartError::NoDataDir`] if there is none; if it cannot be used.
    pub async fn open_existing(data: &DataDir) -> Result<Self, StartError> {
        let is_there = match data.database() {
            ControlDatabase::File(file) => file.is_file(),
            ControlDatabase::Server(_) => data.path().is_dir(),
        };
        if is_there { Self::open(data).await } else { Err(StartError::NoDataDir { path: data.path().to_owned() }) }
    }

    /// Opens a data directory, which is created if it does not exist. A running host may use it at the same time.
    ///
    /// # Errors
    /// If it cannot be used.
    pub async fn open(data: &DataDir) -> Result<Self, StartError> {
        let unusable = |error| StartError::DataDir { path: data.path().to_owned(), error };
        data.prepare().map_err(unusable)?;
        let db = Db::open(&data.database()).await?;
        let keys = vault_keys_from_environment().map(|(current, next)| EnvironmentKeys { current, next });
        let vault = Arc::new(Vault::open(&data.vault_key(), keys)?);
        // A host that joins others at a server, with a key of its own, could open nothing of theirs and they nothing of its.
        if let ControlDatabase::Server(_) = data.database() {
            let seal = || vault.seal(&rotation::context(&SealedFor::Check), b"");
            vault.expect_key_of(&db.sealed().ensure_check(seal).await?)?;
        }
        // Commands issue tokens. A host verifies them too, and reaches what its operator lists (`Host::start`).
        let egress = Arc::new(Egress::new(Vec::new()));
        let auth = Arc::new(Authenticator::new(db.clone(), Arc::clone(&vault), egress));
        Ok(Self { data: data.clone(), db, vault, auth })
    }
}

/// What running and publishing scripts needs.
#[derive(Debug)]
pub struct Guests {
    /// Makes slots.
    pub runtime: Arc<Runtime>,
    /// The scripts' images.
    pub images: Arc<ImageLibrary>,
    /// Publishes scripts.
    pub publisher: Arc<Publisher>,
    /// Threads of guests: separate, so that a busy guest never delays accepting or time limits of others.
    threads: Option<tokio::runtime::Runtime>,
}

impl Guests {
    /// Loads the Python runtime; `compiling` is called if that takes seconds because it must be compiled first.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(
        config: &Config,
        workspace: &Workspace,
        compiling: impl FnOnce(),
    ) -> Result<(Self, ArtifactOrigin), StartError> {
        let method = config.rewind_by_discarding.then_some(RewindMethod::Discard);
        let (runtime, origin) = Runtime::load(&workspace.data.cache(), method, compiling)?;
        let runtime = Arc::new(runtime);
        let unusable = |error| StartError::DataDir { path: workspace.data.images(), error };
        let images = Arc::new(ImageLibrary::open(workspace.data.images(), &runtime).map_err(unusable)?);
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.guest_threads)
            .thread_name("guest")
            .enable_all()
            .build()
            .map_err(StartError::Threads)?;
        let publisher = Publisher::new(
            Arc::clone(&runtime),
            Arc::clone(&images),
            workspace.db.clone(),
            config.limits,
            threads.handle().clone(),
        );
        Ok((Self { runtime, images, publisher: Arc::new(publisher), threads: Some(threads) }, origin))
    }

    fn handle(&self) -> tokio::runtime::Handle {
        self.threads.as_ref().expect("only `drop` takes the threads").handle().clone()
    }
}

impl Drop for Guests {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

/// A host that can serve.
#[derive(Debug)]
pub struct Host {
    /// Its data directory.
    pub workspace: Workspace,
    /// Its guests.
    pub guests: Guests,
    /// Runs handlers.
    pub invoker: Invoker,
    /// Its slots.
    pub pool: Arc<Pool>,
    /// Sessions of authors' programs.
    pub sessions: Arc<Sessions>,
    keeping_sessions: JoinHandle<()>,
    recording: JoinHandle<()>,
    keeping: JoinHandle<()>,
    watching: JoinHandle<()>,
    noting: JoinHandle<()>,
}

impl Host {
    /// Puts a host together from an open workspace. Must be called on the runtime that serves.
    #[must_use]
    pub fn start(config: &Config, mut workspace: Workspace, guests: Guests) -> Self {
        let egress = Arc::new(Egress::new(config.egress_private.clone()));
        let (db, vault) = (workspace.db.clone(), Arc::clone(&workspace.vault));
        workspace.auth = Arc::new(Authenticator::new(db, vault, Arc::clone(&egress)));
        let pool = Pool::new(
            Arc::clone(&guests.runtime),
            PoolSettings {
                slots_max: config.slots_max,
                slots_per_tenant_max: config.slots_per_tenant_max,
                queue_max: config.queue_max,
                queue_wait: config.queue_wait,
                verify_every: config.verify_every,
            },
        );
        let keeping = guests.handle().spawn(Arc::clone(&pool).keep());
        let databases =
            DataSettings { sqlite_bytes: config.sqlite_bytes, ..DataSettings::new(workspace.data.sqlite()) };
        let connections = Connections::new(databases.clone());
        let readers = connections.beside(databases);
        let (invoker, recording) = Invoker::new(invoke::Parts {
            db: workspace.db.clone(),
            vault: Arc::clone(&workspace.vault),
            connections: Arc::new(connections),
            readers: Arc::new(readers),
            egress,
            pool: Arc::clone(&pool),
            images: Arc::clone(&guests.images),
            publisher: Arc::clone(&guests.publisher),
            guests: guests.handle(),
            limits: config.limits,
            records_kept: config.records_kept,
            records_age: config.records_age,
        });
        let sessions = Arc::new(Sessions::new(invoker.clone(), config.sessions));
        let keeping_sessions = tokio::spawn(Arc::clone(&sessions).keep());
        for directory in [workspace.data.images(), workspace.data.cache()] {
            remove_leftovers(&directory);
        }
        let watching = tokio::spawn(watch(workspace.db.clone()));
        let noting = tokio::spawn(Arc::clone(&workspace.auth).keep());
        Self { workspace, guests, invoker, pool, sessions, keeping_sessions, recording, keeping, watching, noting }
    }

    /// Stops what runs in the background, after the last invocation records are written. Handlers whose callers have gone may
    /// finish within 5 seconds, unless it is to happen `at_once`.
    pub async fn stop(self, at_once: bool) {
        let Self {
            workspace,
            guests,
            invoker,
            pool,
            sessions,
            keeping_sessions,
            mut recording,
            keeping,
            watching,
            noting,
        } = self;
        for task in [watching, keeping, keeping_sessions, noting] {
            task.abort();
            _ = task.await; // it was cancelled
        }
        workspace.auth.write_uses().await;
        drop((invoker, pool, sessions));
        // Stopping the guests ends the handlers that still run, and with the last of them the recording.
        let guests = (!at_once).then_some(guests);
        if tokio::time::timeout(RECORDS_WAIT, &mut recording).await.is_err() {
            tracing::error!("the last invocation records could not be written in time");
        }
        drop(guests);
        workspace.db.close().await;
    }
}

/// Sees when another process has changed the control database.
async fn watch(db: Db) {
    loop {
        if let Err(error) = db.look_for_changes().await {
            tracing::error!(%error, "cannot look for changes of the control database");
        }
        tokio::time::sleep(CHANGE_POLL).await;
    }
}

/// Removes old temporary files of writers that were killed. Nothing depends on them but room on the disk.
fn remove_leftovers(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let age = entry.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|time| time.elapsed().ok());
        if path.extension().is_some_and(|extension| extension == "tmp") && age.is_some_and(|age| age > LEFTOVER_AGE) {
            match std::fs::remove_file(&path) {
                Ok(()) => tracing::info!(path = %path.display(), "removed a leftover of a process that was killed"),
                Err(error) => tracing::warn!(%error, path = %path.display(), "a leftover cannot be removed"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn only_old_temporary_files_are_leftovers() {
        let directory = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - LEFTOVER_AGE - Duration::from_secs(1);
        for (name, modified) in [("a.tmp", old), ("b.tmp", SystemTime::now()), ("c.image", old)] {
            std::fs::File::create(directory.path().join(name)).unwrap().set_modified(modified).unwrap();
        }
        remove_leftovers(directory.path());
        let mut left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["b.tmp", "c.image"]);
        remove_leftovers(&directory.path().join("nowhere"));
    }
}
