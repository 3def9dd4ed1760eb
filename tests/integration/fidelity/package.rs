//! The package `test` of a CPython, as files of a script.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pqhost::domain::script::SourceFile;
use sha2::{Digest as _, Sha256};

/// The modules whose tests run: `json` means `test_json`, a module or a package of modules.
const MODULES: &str = include_str!("../../fidelity/modules.txt");

/// Runs tests in the sandbox.
const HANDLER: &str = include_str!("../../fidelity/handler.py");

/// What tests read and import besides other modules of tests.
const FOLDERS: [&str; 2] = ["support", "decimaltestdata"];

/// Files that tests read.
const DATA: [&str; 9] = [
    "cmath_testcases.txt",
    "floating_points.txt",
    "formatfloat_testcases.txt",
    "ieee754.txt",
    "math_testcases.txt",
    "randv2_32.pck",
    "randv2_64.pck",
    "randv3.pck",
    "test_difflib_expect.html",
];

/// Where it is, unless the environment variable [`VARIABLE`] says otherwise.
const FOLDER: &str = "/usr/lib/python3.11/test";

const VARIABLE: &str = "PQHOST_CPYTHON_TESTS";

/// The package `test` of CPython 3.11.
pub(super) struct TestPackage {
    files: Vec<SourceFile>,
}

impl TestPackage {
    /// Reads what the tests need of it.
    pub(super) fn find() -> Self {
        let folder = std::env::var_os(VARIABLE).map_or_else(|| PathBuf::from(FOLDER), PathBuf::from);
        assert!(
            folder.join("test_json").is_dir(),
            "{} does not hold CPython's tests: apt-get install libpython3.11-testsuite, or set {VARIABLE}",
            folder.display()
        );
        let rows = rows();
        let mut files = Vec::new();
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let wanted = DATA.contains(&name.as_str())
                || match name.strip_prefix("test_") {
                    Some(row) => rows.contains(&row.trim_end_matches(".py")),
                    None if path.is_dir() => FOLDERS.contains(&name.as_str()),
                    None => name.ends_with(".py"),
                };
            if wanted {
                read(&path, &format!("test/{name}"), &mut files);
            }
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Self { files }
    }

    /// The script that runs tests.
    pub(super) fn script(&self) -> Vec<SourceFile> {
        let handler = SourceFile { name: "handler.py".to_owned(), content: HANDLER.as_bytes().to_vec() };
        [handler].into_iter().chain(self.files.iter().cloned()).collect()
    }

    /// The names of [`MODULES`].
    pub(super) fn rows(&self) -> Vec<String> {
        rows().into_iter().map(str::to_owned).collect()
    }

    /// The modules of tests of a row, by the names that Python imports.
    pub(super) fn modules_of(&self, row: &str) -> Vec<String> {
        if row == "datetime" {
            // `test_datetime` runs this once with each implementation; there is one here.
            return vec!["test.datetimetester".to_owned()];
        }
        let (file, folder) = (format!("test/test_{row}.py"), format!("test/test_{row}/test_"));
        let is_of_row = |name: &&str| *name == file || (name.starts_with(&folder) && name.ends_with(".py"));
        let names = self.files.iter().map(|file| file.name.as_str()).filter(is_of_row);
        let modules: Vec<_> = names.map(|name| name.trim_end_matches(".py").replace('/', ".")).collect();
        assert!(!modules.is_empty(), "CPython has no tests of {row}");
        modules
    }

    /// Tells one version of the package from another.
    pub(super) fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        for SourceFile { name, content } in &self.files {
            hasher.update(format!("{name} {}\n", content.len()));
            hasher.update(content);
        }
        hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

fn rows() -> Vec<&'static str> {
    MODULES.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace).collect()
}

/// Adds a file, or those of a folder.
fn read(path: &Path, name: &str, files: &mut Vec<SourceFile>) {
    if path.is_file() {
        files.push(SourceFile { name: name.to_owned(), content: fs::read(path).unwrap() });
        return;
    }
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let base = path.file_name().unwrap().to_str().unwrap();
        if base != "__pycache__" {
            read(&path, &format!("{name}/{base}"), files);
        }
    }
}
