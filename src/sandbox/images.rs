//! Script images on disk, and those that are mapped.
//!
//! Owns: the directory of image files and the bounded cache of mapped images. Never: decides which version uses which.
//! Invariant: an image is mapped only if its file has the hash that names it.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use crate::sandbox::{image::PageSet, memory::MappedImage, runtime::Runtime};

/// Bytes of mapped images that are kept for the next call, beyond those that slots show.
const CACHE_BYTES: u64 = 32 << 20;

/// A mapped image that no call has needed for this long is given up.
const CACHE_IDLE: Duration = Duration::from_secs(300);

/// Level at which image files are compressed: 3 MB take a few milliseconds, and publishing waits for it.
const ZSTD_LEVEL: i32 = 3;

/// Why there is no such image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The file is missing, damaged, or of another runtime: publishing again makes it anew.
    #[error("image {hash} cannot be used: {reason}")]
    Unusable {
        /// Its name.
        hash: String,
        /// Why.
        reason: String,
    },
    /// Writing failed.
    #[error("writing an image: {0}")]
    Write(#[from] io::Error),
}

/// The images of one data directory.
#[derive(Debug)]
pub struct ImageLibrary {
    directory: PathBuf,
    base: Arc<MappedImage>,
    mapped: moka::sync::Cache<String, Arc<MappedImage>>,
}

/// A stored image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredImage {
    /// Hash of the file, which names it.
    pub hash: String,
    /// Size of the file.
    pub bytes: u64,
}

impl ImageLibrary {
    /// The images of this directory, which are of `runtime`.
    ///
    /// # Errors
    /// If the directory cannot be made.
    pub fn open(directory: PathBuf, runtime: &Runtime) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let mapped = moka::sync::Cache::builder()
            .max_capacity(CACHE_BYTES)
            .weigher(|_, image: &Arc<MappedImage>| u32::try_from(image.resident_bytes()).unwrap_or(u32::MAX))
            .time_to_idle(CACHE_IDLE)
            .build();
        Ok(Self { directory, base: Arc::clone(runtime.base()), mapped })
    }

    fn path(&self, hash: &str) -> PathBuf {
        self.directory.join(format!("{hash}.image"))
    }

    /// Writes an image, which differs from the base image by `pages`. Durable when this returns.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn save(&self, pages: &PageSet) -> Result<StoredImage, ImageError> {
        let file = pages.encode(ZSTD_LEVEL, self.base.whole())?;
        let hash = blake3::hash(&file).to_hex().to_string();
        let path = self.path(&hash);
        let stored = StoredImage { hash, bytes: file.len() as u64 };
        if path.exists() {
            return Ok(stored);
        }
        let temporary = self.directory.join(format!("{}.{}.tmp", stored.hash, uuid::Uuid::new_v4().simple()));
        let mut output = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        output.write_all(&file)?;
        output.sync_all()?;
        fs::rename(&temporary, &path)?;
        fs::File::open(&self.directory)?.sync_all()?;
        Ok(stored)
    }

    /// The image of this name, if it is mapped already.
    pub(crate) fn get_mapped(&self, hash: &str) -> Option<Arc<MappedImage>> {
        self.mapped.get(hash)
    }

    /// The image of this name, mapped. Blocks on the disk if it is not in use already, for about a millisecond.
    ///
    /// # Errors
    /// If there is none, or its file is not what its name says.
    pub(crate) fn get(&self, hash: &str) -> Result<Arc<MappedImage>, ImageError> {
        if let Some(image) = self.mapped.get(hash) {
            return Ok(image);
        }
        let unusable = |reason: String| ImageError::Unusable { hash: hash.to_owned(), reason };
        let file = fs::read(self.path(hash)).map_err(|error| unusable(error.to_string()))?;
        if blake3::hash(&file).to_hex().as_str() != hash {
            return Err(unusable("its content does not match its name".to_owned()));
        }
        let image =
            MappedImage::decode(&file, Some(Arc::clone(&self.base))).map_err(|error| unusable(error.to_string()))?;
        let image = Arc::new(image);
        self.mapped.insert(hash.to_owned(), Arc::clone(&image));
        // Else the cache makes room only after some dozens of insertions, each of which may be large.
        self.mapped.run_pending_tasks();
        Ok(image)
    }

    /// Bytes of mapped images that are kept, and how many there may be.
    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> (u64, u64) {
        (self.mapped.weighted_size(), CACHE_BYTES)
    }
}
