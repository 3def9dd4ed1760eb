//! Publishing: from an author's files to an immutable version that can serve.
//!
//! Owns: checking a script, making its image, deciding whether its module-level code may be frozen. Never: runs handlers.

mod suspects;

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::{
    db::{
        Db, DbError,
        versions::{ImageRef, LoadMode, Loaded, NewVersion, Version},
    },
    domain::{
        limits::Limits,
        names::{ScriptName, TenantId, VersionId},
        script::{FILE_NAME_BYTES_MAX, SCRIPT_BYTES_MAX, SCRIPT_FILES_MAX, SourceFile, is_file_name},
        shown,
    },
    sandbox::{
        Observation,
        images::{ImageError, ImageLibrary},
        runtime::{Runtime, RuntimeError},
        slot::{CallError, ScriptFailure, Slot},
    },
};

/// What an author publishes.
#[derive(Debug)]
pub struct Publication {
    /// Of which script.
    pub script: ScriptName,
    /// The source; the first file defines `handler`.
    pub files: Vec<SourceFile>,
    /// What its author says about it.
    pub message: String,
    /// Whether endpoints serve it at once, unless they name another version.
    pub promote: bool,
}

/// A published version, and what its module-level code printed.
#[derive(Debug)]
pub struct Published {
    /// The new version.
    pub version: Version,
    /// What was printed.
    pub log: String,
    /// Places of the source that look like they hold a secret, one sentence each.
    pub suspects: Vec<String>,
}

/// Why a script was not published. Nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The upload is no script.
    #[error("the script is {bytes} bytes large; at most {SCRIPT_BYTES_MAX} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// There are too many files.
    #[error("the script has {files} files, packages included; at most {SCRIPT_FILES_MAX} are allowed")]
    TooManyFiles {
        /// How many.
        files: usize,
    },
    /// A file is not named by a relative path.
    #[error("`{name}` is no name of a script's file: use a relative path of at most {FILE_NAME_BYTES_MAX} bytes")]
    InvalidFileName {
        /// The name, escaped and shortened.
        name: String,
    },
    /// There is no file.
    #[error("a script needs at least one file")]
    Empty,
    /// Its module-level code failed, or there is no handler.
    #[error("{}: {}", .0.type_name, .0.message)]
    Rejected(ScriptFailure),
    /// Its module-level code used more than it may.
    #[error("the module-level code {what}")]
    LimitExceeded {
        /// Which limit, in words.
        what: String,
    },
    /// Its image cannot be stored.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The control database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// No sandbox can be made.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The task that made the image died: a bug.
    #[error("making the image failed unexpectedly")]
    Panicked,
}

/// Publishes scripts.
#[derive(Debug)]
pub struct Publisher {
    runtime: Arc<Runtime>,
    images: Arc<ImageLibrary>,
    db: Db,
    limits: Limits,
    /// Where guests run.
    guests: Handle,
    /// What this process has made anew. Hosts that share a database and differ in their runtime, as during an upgrade, would
    /// otherwise go on replacing each other's images.
    rebuilt: moka::sync::Cache<VersionId, Loaded>,
}

/// Versions whose images were made anew that are remembered, at most.
const REBUILT_MAX: u64 = 10_000;

/// What became of a version's image.
#[derive(Debug)]
pub struct Rebuilt {
    /// What publishing made of the version.
    pub loaded: Loaded,
    /// Whether the database says so since now.
    pub is_stored: bool,
}

impl Publisher {
    /// A publisher whose module-level code runs on `guests` under `limits`.
    #[must_use]
    pub fn new(runtime: Arc<Runtime>, images: Arc<ImageLibrary>, db: Db, limits: Limits, guests: Handle) -> Self {
        let rebuilt = moka::sync::Cache::new(REBUILT_MAX);
        Self { runtime, images, db, limits, guests, rebuilt }
    }

    /// Publishes files as the next version of a script, which is created if there is none. `db` tells who does.
    ///
    /// # Errors
    /// If the script is not sound; see [`PublishError`].
    pub async fn publish(
        &self,
        db: &Db,
        tenant: TenantId,
        publication: Publication,
    ) -> Result<Published, PublishError> {
        let Publication { script: script_name, files, message, promote } = publication;
        check_files(&files)?;
        let files = Arc::new(files);
        let (loaded, log) = self.make_image(Arc::clone(&files)).await?;
        let script = db.scripts().ensure_script(tenant, &script_name).await?;
        let content_hash = content_hash(&files);
        let files = Arc::unwrap_or_clone(files);
        let suspects = suspects::suspects(&files);
        let new = NewVersion { script, script_name, files, content_hash, loaded, message, promote };
        let version = db.versions().insert_version(tenant, new).await?;
        Ok(Published { version, log, suspects })
    }

    /// Makes a version's image anew: after the host's runtime has changed, when the image file is damaged, or on another host
    /// than the one that published it.
    ///
    /// # Errors
    /// As for [`Self::publish`].
    pub async fn rebuild(&self, tenant: TenantId, version: &Version) -> Result<Rebuilt, PublishError> {
        if let Some(loaded) = self.rebuilt.get(&version.id)
            && self.is_usable(&loaded).await?
        {
            return Ok(Rebuilt { loaded, is_stored: false });
        }
        let files = self.db.versions().list_files(tenant, version.id).await?;
        let (loaded, _) = self.make_image(Arc::new(files)).await?;
        let is_stored = loaded != version.loaded;
        if is_stored {
            self.db.versions().update_image(tenant, version.id, &loaded).await?;
        }
        self.rebuilt.insert(version.id, loaded.clone());
        Ok(Rebuilt { loaded, is_stored })
    }

    async fn is_usable(&self, loaded: &Loaded) -> Result<bool, PublishError> {
        let Some(ImageRef { hash, .. }) = loaded.image.clone() else { return Ok(true) };
        let images = Arc::clone(&self.images);
        tokio::task::spawn_blocking(move || images.get(&hash).is_ok()).await.map_err(|_| PublishError::Panicked)
    }

    async fn make_image(&self, files: Arc<Vec<SourceFile>>) -> Result<(Loaded, String), PublishError> {
        let work = ImageWork {
            runtime: Arc::clone(&self.runtime),
            images: Arc::clone(&self.images),
            limits: self.limits,
            files,
        };
        self.guests.spawn(work.run()).await.map_err(|_| PublishError::Panicked)?
    }
}

fn check_files(files: &[SourceFile]) -> Result<(), PublishError> {
    let bytes = files.iter().map(|file| file.content.len() + file.name.len()).sum();
    if bytes > SCRIPT_BYTES_MAX {
        return Err(PublishError::TooLarge { bytes });
    }
    if files.is_empty() {
        return Err(PublishError::Empty);
    }
    if files.len() > SCRIPT_FILES_MAX {
        return Err(PublishError::TooManyFiles { files: files.len() });
    }
    match files.iter().find(|file| !is_file_name(&file.name)) {
        Some(file) => {
            let name = shown(&file.name);
            Err(PublishError::InvalidFileName { name })
        }
        None => Ok(()),
    }
}

/// Names the source, in hexadecimal: the same files in the same order have the same hash.
#[must_use]
pub fn content_hash(files: &[SourceFile]) -> String {
    let mut hasher = blake3::Hasher::new();
    for SourceFile { name, content } in files {
        for part in [name.as_bytes(), content] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
    }
    hasher.finalize().to_hex().to_string()
}

struct ImageWork {
    runtime: Arc<Runtime>,
    images: Arc<ImageLibrary>,
    limits: Limits,
    files: Arc<Vec<SourceFile>>,
}

impl ImageWork {
    async fn run(self) -> Result<(Loaded, String), PublishError> {
        let mut slot = self.runtime.new_slot().await?;
        let outcome = self.load(&mut slot, false).await;
        let observed = slot.observed();
        let log = slot.take_log().text;
        match outcome {
            Ok(()) if observed.is_none() => {}
            Ok(()) | Err(Failure::Call(CallError::ObservedHost)) => return Ok((self.per_request().await?, log)),
            Err(failure) => return Err(self.refusal(failure)),
        }
        let Some(pages) = slot.snapshot().map_err(ImageError::from)? else {
            let what = "keeps more memory than an image has room for".to_owned();
            return Err(PublishError::LimitExceeded { what });
        };
        let images = Arc::clone(&self.images);
        let stored =
            tokio::task::spawn_blocking(move || images.save(&pages)).await.map_err(|_| PublishError::Panicked)??;
        let image = Some(ImageRef { hash: stored.hash, bytes: stored.bytes });
        Ok((Loaded { mode: LoadMode::Image, reason: None, image, runtime_hash: self.runtime.hash().to_owned() }, log))
    }

    /// Module-level code saw the world: it runs in each request, and its author is told which line made it so.
    async fn per_request(&self) -> Result<Loaded, PublishError> {
        let mut slot = self.runtime.new_slot().await?;
        _ = self.load(&mut slot, true).await; // it ends as it did before; what it observed is of interest
        let reason = match slot.observed() {
            Some((what, Some((file, line)))) => format!("{file}, line {line}, {what}"),
            Some((what, None)) => format!("module-level code {what}"),
            None => format!("module-level code {}", Observation::Clock),
        };
        let runtime_hash = self.runtime.hash().to_owned();
        Ok(Loaded { mode: LoadMode::PerRequest, reason: Some(reason), image: None, runtime_hash })
    }

    async fn load(&self, slot: &mut Slot, explain: bool) -> Result<(), Failure> {
        slot.begin(None, &self.limits).map_err(|error| Failure::Call(CallError::Trapped(error.to_string())))?;
        let load = slot.load(&self.files, explain, &self.limits);
        tokio::time::timeout(self.limits.deadline, load).await.map_err(|_| Failure::Deadline)?.map_err(Failure::Call)
    }

    fn refusal(&self, failure: Failure) -> PublishError {
        let what = match failure {
            Failure::Call(CallError::Script(failure)) => return PublishError::Rejected(failure),
            Failure::Call(CallError::OutOfFuel { limit }) => format!("used all of its {limit} units of fuel"),
            Failure::Call(CallError::OutOfMemory { limit_bytes }) => {
                format!("needs more than {limit_bytes} bytes of memory")
            }
            Failure::Call(CallError::StackOverflow) => "exhausted its stack".to_owned(),
            Failure::Call(CallError::Exited) => "ended the process".to_owned(),
            Failure::Call(CallError::Trapped(what)) => format!("broke the sandbox's rules: {what}"),
            Failure::Call(CallError::ObservedHost) => "called the host".to_owned(),
            Failure::Deadline => format!("ran longer than {:?}", self.limits.deadline),
        };
        PublishError::LimitExceeded { what }
    }
}

enum Failure {
    Call(CallError),
    Deadline,
}
