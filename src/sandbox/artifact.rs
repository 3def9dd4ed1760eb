//! Native code of the runtime component, kept on disk between starts.
//!
//! Owns: the artifact file format and its integrity check. Never: decides *what* is compiled (see `runtime`).
//! Invariant: bytes reach wasmtime only after their MAC has been verified in this file.
#![expect(unsafe_code, reason = "wasmtime offers no safe way to load native code")]

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use wasmtime::{Engine, component::Component};

const MAC_BYTES: usize = 32;

/// A directory of native code that only this installation can have written.
#[derive(Debug)]
pub(crate) struct ArtifactCache {
    directory: PathBuf,
    key: [u8; 32],
}

/// How an artifact was come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArtifactOrigin {
    /// Loaded; nothing was compiled.
    Cached,
    /// Compiled, because there was none.
    Compiled,
    /// Compiled, because what was there is damaged or was not written by this installation.
    Replaced,
}

impl ArtifactCache {
    /// # Errors
    /// If the directory or its key file cannot be created or read.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
        Ok(Self { directory: directory.to_owned(), key: read_or_create_key(&directory.join("artifact.key"))? })
    }

    /// The native code of `component` for `engine`: from disk if it is there and authentic, else compiled and kept.
    ///
    /// `compiling` is called before a compilation, which takes seconds.
    ///
    /// # Errors
    /// If the component does not compile. A cache that cannot be written is not an error: the next start compiles again.
    pub(crate) fn load(
        &self,
        engine: &Engine,
        component: &[u8],
        compiling: impl FnOnce(),
    ) -> wasmtime::Result<(Component, ArtifactOrigin)> {
        let path = self.directory.join(format!("{}.native", fingerprint(engine, component)));
        let origin = match fs::read(&path) {
            Ok(file) => match self.verified(&file, &path).and_then(|native| deserialize(engine, native)) {
                Some(component) => return Ok((component, ArtifactOrigin::Cached)),
                None => ArtifactOrigin::Replaced,
            },
            Err(_) => ArtifactOrigin::Compiled,
        };
        compiling();
        let native = engine.precompile_component(component)?;
        if let Err(error) = self.keep(&path, &native) {
            tracing::warn!(%error, path = %path.display(), "cannot keep compiled code; the next start compiles again");
        }
        let loaded = deserialize(engine, Verified(&native));
        Ok((loaded.ok_or_else(|| wasmtime::Error::msg("freshly compiled code does not load"))?, origin))
    }

    fn mac(&self, path: &Path, native: &[u8]) -> blake3::Hash {
        let name = path.file_name().map(|name| name.as_encoded_bytes()).unwrap_or_default();
        blake3::Hasher::new_keyed(&self.key).update(name).update(native).finalize()
    }

    fn verified<'a>(&self, file: &'a [u8], path: &Path) -> Option<Verified<'a>> {
        let (mac, native) = file.split_first_chunk::<MAC_BYTES>()?;
        // `Hash` compares in constant time.
        (self.mac(path, native) == *mac).then_some(Verified(native))
    }

    fn keep(&self, path: &Path, native: &[u8]) -> io::Result<()> {
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(self.mac(path, native).as_bytes())?;
        file.write_all(native)?;
        file.sync_all()?;
        fs::rename(temporary, path)
    }
}

/// Native code that this process compiled, or whose MAC is right.
struct Verified<'a>(&'a [u8]);

fn deserialize(engine: &Engine, native: Verified<'_>) -> Option<Component> {
    // JUSTIFICATION: wasmtime offers no safe way to load precompiled code, and compiling costs seconds at every start.
    // SAFETY: `Verified` bytes were compiled by this process or carry a MAC made by this installation over exactly them.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    let component = unsafe { Component::deserialize(engine, native.0) };
    component.ok()
}

/// Names the native code: the component, and everything of wasmtime, its settings and the CPU that shapes it.
fn fingerprint(engine: &Engine, component: &[u8]) -> blake3::Hash {
    struct Fingerprint(blake3::Hasher);
    impl std::hash::Hasher for Fingerprint {
        fn finish(&self) -> u64 {
            0 // unused: the full hash is taken instead
        }
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }
    let mut hasher = Fingerprint(blake3::Hasher::new());
    std::hash::Hash::hash(&engine.precompile_compatibility_hash(), &mut hasher);
    hasher.0.update(component);
    hasher.0.finalize()
}

fn read_or_create_key(path: &Path) -> io::Result<[u8; 32]> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| io::Error::other(format!("no random numbers: {error}")))?;
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            file.write_all(&key)?;
            file.sync_all()?;
            Ok(key)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let stored = fs::read(path)?;
            // A start that died between creating and writing leaves a short file: replace it; the cache is rebuilt.
            match <[u8; 32]>::try_from(stored) {
                Ok(stored) => Ok(stored),
                Err(_) => fs::write(path, key).map(|()| key),
            }
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPONENT: &str = r#"(component (core module $m (func (export "f"))) (core instance $i (instantiate $m))
        (func (export "f") (canon lift (core func $i "f"))))"#;

    fn load(cache: &ArtifactCache) -> ArtifactOrigin {
        let engine = Engine::default();
        let mut compiled = false;
        let (_, origin) = cache.load(&engine, &wat::parse_str(COMPONENT).unwrap(), || compiled = true).unwrap();
        assert_eq!(compiled, origin != ArtifactOrigin::Cached);
        origin
    }

    fn artifact(directory: &Path) -> PathBuf {
        let mut files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        files.find(|path| path.extension().is_some_and(|extension| extension == "native")).unwrap()
    }

    #[test]
    fn compiles_once() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(load(&ArtifactCache::open(directory.path()).unwrap()), ArtifactOrigin::Compiled);
        assert_eq!(load(&ArtifactCache::open(directory.path()).unwrap()), ArtifactOrigin::Cached);
    }

    #[test]
    fn rebuilds_what_is_damaged_cut_or_foreign() {
        let directory = tempfile::tempdir().unwrap();
        let cache = ArtifactCache::open(directory.path()).unwrap();
        load(&cache);
        let path = artifact(directory.path());
        let good = fs::read(&path).unwrap();
        for (what, bytes) in [
            ("a flipped bit in the code", [&good[..good.len() - 1], &[good[good.len() - 1] ^ 1]].concat()),
            ("a flipped bit in the MAC", [&[good[0] ^ 1], &good[1..]].concat()),
            ("cut short", good[..good.len() / 2].to_vec()),
            ("empty", Vec::new()),
            ("no MAC at all", good[MAC_BYTES..].to_vec()),
        ] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(load(&cache), ArtifactOrigin::Replaced, "{what}");
            assert_eq!(load(&cache), ArtifactOrigin::Cached, "after {what}");
        }
        // Another installation's file, which is right for its own key.
        let other = tempfile::tempdir().unwrap();
        load(&ArtifactCache::open(other.path()).unwrap());
        fs::copy(artifact(other.path()), &path).unwrap();
        assert_eq!(load(&cache), ArtifactOrigin::Replaced, "another installation's");
    }

    #[test]
    fn other_settings_are_another_artifact() {
        let component = wat::parse_str(COMPONENT).unwrap();
        let fuel = Engine::new(wasmtime::Config::new().consume_fuel(true)).unwrap();
        assert_ne!(fingerprint(&Engine::default(), &component), fingerprint(&fuel, &component));
    }
}
