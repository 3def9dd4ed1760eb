//! Reading a script from its author's disk: one file, or a folder with the packages that it requires.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::SystemTime,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cli::output::Output,
    domain::script::{MAIN_FILE, SCRIPT_BYTES_MAX, SourceFile, VENDORED_FOLDER},
};

/// The file of a script's folder that says how it is to be served. It is not part of the script.
pub(super) const DEPLOY_FILE: &str = "pqhost.toml";

/// Names the packages that a script requires, as pip reads it.
const REQUIREMENTS: &str = "requirements.txt";

/// What fetches them; run by the author's own Python.
const VENDOR: &str = include_str!("vendor.py");

/// Where a script is on its author's disk.
#[derive(Debug)]
pub(super) struct ScriptSource {
    path: PathBuf,
    /// The packages that were fetched last, and the requirements that they are for.
    packages: Option<(Vec<u8>, Vec<SourceFile>)>,
}

/// A file and when it was changed.
pub(super) type Stamp = (PathBuf, Option<SystemTime>);

impl ScriptSource {
    /// A script that is one file, or a folder.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, packages: None }
    }

    /// The files of the script. The first one defines the handler.
    ///
    /// A script that is one file is called `handler.py` in tracebacks, whatever its path here.
    pub(super) fn read(&mut self, output: Output) -> Result<Vec<SourceFile>> {
        let mut reader = self.reader()?;
        let Self { path, packages } = self;
        let required = reader.files.iter().find(|file| file.name == REQUIREMENTS);
        let Some(required) = required else { return Ok(reader.files) };
        let required = required.content.clone();
        if packages.as_ref().is_none_or(|(known, _)| *known != required) {
            let folder = fetch_packages(&path.join(REQUIREMENTS), output)?;
            let mut fetched = FolderReader { bytes: reader.bytes, ..FolderReader::default() };
            fetched.read(&folder.0, &format!("{VENDORED_FOLDER}/"))?;
            *packages = Some((required, fetched.files));
        }
        reader.files.extend(packages.iter().flat_map(|(_, files)| files.clone()));
        Ok(reader.files)
    }

    /// The files of the script without the packages that it requires.
    pub(super) fn read_own(&self) -> Result<Vec<SourceFile>> {
        Ok(self.reader()?.files)
    }

    /// Reads what the author wrote.
    fn reader(&self) -> Result<FolderReader> {
        let (path, mut reader) = (&self.path, FolderReader::default());
        if !path.is_dir() {
            let content = fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
            reader.files.push(SourceFile { name: MAIN_FILE.to_owned(), content });
            return Ok(reader);
        }
        reader.read(path, "")?;
        let main = reader.files.iter().position(|file| file.name == MAIN_FILE);
        let main = main.with_context(|| format!("the folder `{}` has no `{MAIN_FILE}`", path.display()))?;
        reader.files[..=main].rotate_right(1);
        Ok(reader)
    }

    /// What there is and when it was changed: differs after the author has saved something.
    pub(super) fn stamps(&self) -> Vec<Stamp> {
        let mut stamps = Vec::new();
        let mut paths = vec![self.path.clone()];
        while let Some(path) = paths.pop() {
            let metadata = fs::symlink_metadata(&path).ok();
            if metadata.as_ref().is_some_and(fs::Metadata::is_dir) {
                let entries = fs::read_dir(&path).into_iter().flatten().flatten();
                paths.extend(entries.filter(|entry| !is_left_out(&entry.file_name())).map(|entry| entry.path()));
            }
            stamps.push((path, metadata.and_then(|metadata| metadata.modified().ok())));
        }
        stamps.sort();
        stamps
    }
}

/// Hidden and compiled files, and what says how to deploy it, are no part of a script.
fn is_left_out(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") || name == b"__pycache__" || name.ends_with(b".pyc") || name == DEPLOY_FILE.as_bytes()
}

#[derive(Default)]
struct FolderReader {
    files: Vec<SourceFile>,
    bytes: usize,
}

impl FolderReader {
    /// Reads a folder and what is below it, by name. Hidden and compiled files are left out, and links to folders.
    fn read(&mut self, folder: &Path, prefix: &str) -> Result<()> {
        let unreadable = || format!("cannot read `{}`", folder.display());
        let mut entries = fs::read_dir(folder).with_context(unreadable)?.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            if is_left_out(&entry.file_name()) {
                continue;
            }
            let Ok(name) = entry.file_name().into_string() else { bail!("`{}` is no text", path.display()) };
            let name = format!("{prefix}{name}");
            if entry.file_type()?.is_dir() {
                if name == VENDORED_FOLDER {
                    bail!("`{}` is where pqhost puts packages: name them in `{REQUIREMENTS}`", path.display());
                }
                self.read(&path, &format!("{name}/"))?;
            } else if path.is_file() {
                self.read_file(&path, name)?;
            }
        }
        Ok(())
    }

    fn read_file(&mut self, path: &Path, name: String) -> Result<()> {
        // One byte more than there is room for: whoever publishes it must see that it is too large.
        let room = (SCRIPT_BYTES_MAX + 1).saturating_sub(self.bytes);
        let mut content = Vec::new();
        let file = File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        file.take(room as u64)
            .read_to_end(&mut content)
            .with_context(|| format!("cannot read `{}`", path.display()))?;
        self.bytes += content.len();
        if self.bytes > SCRIPT_BYTES_MAX {
            bail!("the script and its packages have more than {SCRIPT_BYTES_MAX} bytes, from `{}` on", path.display());
        }
        self.files.push(SourceFile { name, content });
        Ok(())
    }
}

/// A folder that is removed when this is dropped.
struct TemporaryFolder(PathBuf);

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0); // what remains in the system's temporary folder does no harm
    }
}

/// Fetches the packages with the author's Python into a folder.
fn fetch_packages(requirements: &Path, output: Output) -> Result<TemporaryFolder> {
    let folder = std::env::temp_dir().join(format!("pqhost-{}", uuid::Uuid::new_v4().simple()));
    fs::create_dir(&folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    let folder = TemporaryFolder(folder);
    let child = Command::new("python3")
        .args(["-I", "-"])
        .args([requirements, &folder.0])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
            "`{}` names packages, which python3 fetches, but there is no python3 on the PATH; on Debian: apt-get install \
             python3-pip",
            requirements.display()
        ),
        Err(error) => return Err(error).context("cannot run python3"),
    };
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(VENDOR.as_bytes()).context("cannot run python3")?;
    drop(stdin);
    let done = child.wait_with_output().context("cannot run python3")?;
    if !done.status.success() {
        let told = String::from_utf8_lossy(&done.stderr);
        bail!("packages of `{}`: {}", requirements.display(), told.trim());
    }
    let packages: Vec<_> = String::from_utf8_lossy(&done.stdout).lines().map(str::to_owned).collect();
    if !packages.is_empty() {
        output.progress(&format!("packages: {}", packages.join(", ")));
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Result<Vec<SourceFile>> {
        ScriptSource::new(path.to_owned()).read(Output { json: false })
    }

    fn names(files: &[SourceFile]) -> Vec<&str> {
        files.iter().map(|file| file.name.as_str()).collect()
    }

    #[test]
    fn a_folder_is_read_by_name_with_the_handler_first() {
        let folder = tempfile::tempdir().unwrap();
        for file in
            ["b.txt", "a/__init__.py", "a/x.json", "handler.py", "z.py", ".git/x", "a/__pycache__/x.pyc", ".env"]
        {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).unwrap();
        let files = read(folder.path()).unwrap();
        assert_eq!(names(&files), ["handler.py", "a/__init__.py", "a/x.json", "b.txt", "z.py"]);
        assert_eq!(files[2].content, b"a/x.json");
        assert_eq!(names(&read(&folder.path().join("z.py")).unwrap()), ["handler.py"]);
    }

    #[test]
    fn folders_that_are_no_scripts_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = |folder: &Path| format!("{:#}", read(folder).unwrap_err());
        assert!(error(folder.path()).ends_with("has no `handler.py`"));
        fs::write(folder.path().join("handler.py"), "").unwrap();
        fs::create_dir(folder.path().join("site-packages")).unwrap();
        assert!(error(folder.path()).contains("name them in `requirements.txt`"));
        fs::remove_dir(folder.path().join("site-packages")).unwrap();
        let large = File::create(folder.path().join("large.bin")).unwrap();
        large.set_len(1 << 30).unwrap();
        assert!(error(folder.path()).contains("more than 16777216 bytes"));
    }
}
