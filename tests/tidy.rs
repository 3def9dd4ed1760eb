//! Checks that reviewers would otherwise have to make: layers, circles, unsafe code, headers, promises without a test.
#![expect(clippy::unwrap_used, clippy::panic, reason = "clippy knows test functions, but not their helpers")]

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/names.rs"]
mod names;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::names::{Names, tokens};

/// Files that may hold unsafe code.
const UNSAFE_FILES: [&str; 3] = ["src/sandbox/memory.rs", "src/sandbox/memory/tests.rs", "src/sandbox/artifact.rs"];

/// Files that are longer than [`LINES_MAX`], and why.
const LONG_FILES: [(&str, &str); 1] =
    [("src/sandbox/memory.rs", "all unsafe code of rewinding, to be read in one piece")];

const LINES_MAX: usize = 560;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All Rust files below a folder, as paths from the root.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    files.sort();
    assert!(!files.is_empty(), "{folder}");
    files
}

/// The top-level module that a file of `src` belongs to.
fn module_of(file: &Path) -> String {
    let below = file.strip_prefix("src").unwrap();
    let first = below.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

fn is_tests(file: &Path) -> bool {
    file.ends_with("tests.rs") || file.components().any(|part| part.as_os_str() == "tests")
}

/// The table in `docs/ARCHITECTURE.md`: module to what it may import.
fn allowed_imports() -> BTreeMap<String, BTreeSet<String>> {
    let text = read(&root().join("docs/ARCHITECTURE.md"));
    let section = text.split("## Modules").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let imports = cells[3].split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        (cells[1].trim_matches('`').to_owned(), imports)
    })
    .collect()
}

#[test]
fn modules_import_downward_only() {
    let allowed = allowed_imports();
    assert!(allowed.len() >= 15, "{allowed:?}");
    for file in rust_files("src") {
        let module = module_of(&file);
        if module == "lib" || module == "main" {
            continue;
        }
        let allowed = allowed.get(&module).unwrap_or_else(|| panic!("`{module}` is missing in docs/ARCHITECTURE.md"));
        let below = file.strip_prefix("src").unwrap().with_extension("");
        let own: Vec<_> = below.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        let names = Names::of(&tokens(&read(&root().join(&file))), &own);
        for import in names.paths().filter_map(|path| path.first()) {
            assert!(*import == module || allowed.contains(import), "{} may not import `{import}`", file.display());
        }
    }
}

#[test]
fn files_import_each_other_in_no_circle() {
    let files = rust_files("src").into_iter().filter(|file| !is_tests(file) && !file.ends_with("main.rs"));
    let files = files.map(|file| (file.to_str().unwrap().to_owned(), read(&root().join(&file)))).collect();
    let graph = circles::graph(&files);
    let shown: Vec<_> = circles::circles(&graph).iter().map(|circle| circles::shown(&graph, circle)).collect();
    assert!(
        shown.is_empty(),
        "files import each other in circles; move what closes a circle to the lower file, or to one of its own:\n{}",
        shown.join("\n")
    );
}

#[test]
fn unsafe_code_stands_in_two_files() {
    for file in rust_files("src") {
        let code: String =
            read(&root().join(&file)).lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let has_unsafe = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe_code"].iter().any(|word| code.contains(word));
        assert_eq!(has_unsafe, UNSAFE_FILES.iter().any(|allowed| file == Path::new(allowed)), "{}", file.display());
    }
}

#[test]
fn each_file_says_what_it_is() {
    for file in rust_files("src") {
        let text = read(&root().join(&file));
        assert!(text.starts_with("//!") || is_tests(&file), "{} has no header", file.display());
        let is_module = file.components().count() == 2 && !file.ends_with("lib.rs") && !file.ends_with("main.rs");
        if is_module {
            for word in ["Owns:", "Never:"] {
                assert!(
                    text.contains(&format!("//! {word}")) || text.contains(&format!(" {word} ")),
                    "{}: {word}",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn files_are_short() {
    for file in rust_files("src") {
        let lines = read(&root().join(&file)).lines().count();
        let excused = LONG_FILES.iter().any(|(long, _)| file == Path::new(long));
        assert!(lines <= LINES_MAX || excused, "{} has {lines} lines, which are two modules in one", file.display());
    }
    for (file, _) in LONG_FILES {
        let lines = read(&root().join(file)).lines().count();
        assert!(lines > LINES_MAX, "`{file}` has {lines} lines, as any file may have: delete its row of LONG_FILES");
    }
}

#[test]
fn each_promise_names_what_enforces_it() {
    let text = read(&root().join("docs/SPECIFICATION.md"));
    let sources: String =
        ["src", "tests"].iter().flat_map(|folder| rust_files(folder)).map(|file| read(&root().join(file))).collect();
    let rows: Vec<_> = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise")).collect();
    assert!(rows.len() > 20, "{}", rows.len());
    for row in rows.iter().filter(|row| !row.starts_with("| ---")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let enforced = cells[3];
        if enforced == "not yet measured" {
            continue;
        }
        for name in enforced.split(',').map(|name| name.trim().trim_matches('`')) {
            let exists = sources.contains(&format!("fn {name}("))
                || sources.contains(&format!("    {name}:"))
                || root().join(name).exists();
            assert!(exists, "`{name}` enforces nothing: {row}");
        }
    }
}
