//! What reviewers would otherwise have to watch: layers, unsafe code, headers, promises without a test.
#![expect(clippy::unwrap_used, clippy::panic, reason = "clippy knows test functions, but not their helpers")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Files that may hold unsafe code.
const UNSAFE_FILES: [&str; 3] = ["src/sandbox/memory.rs", "src/sandbox/memory/tests.rs", "src/sandbox/artifact.rs"];

/// Files that may be longer than [`LINES_MAX`], and why.
const LONG_FILES: [(&str, &str); 3] = [
    ("src/sandbox/memory.rs", "all unsafe code of rewinding, to be read in one piece"),
    ("src/db/tests.rs", "one table of cases per entity"),
    ("src/data/postgres/decode.rs", "one arm per PostgreSQL type"),
];

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

/// The top-level modules named in `crate::x` and in `use crate::{x::..., y::...}`.
fn imports_of(text: &str) -> BTreeSet<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        if !rest.starts_with('{') {
            found.insert(name(rest));
            continue;
        }
        let mut depth = 0;
        let mut expects_name = false;
        for (index, c) in rest.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 1 && expects_name && !c.is_whitespace() {
                found.insert(name(&rest[index..]));
                expects_name = false;
            }
            expects_name |= depth == 1 && matches!(c, '{' | ',');
            if depth == 0 {
                break;
            }
        }
    }
    found.remove("");
    found
}

#[test]
fn imports_are_found() {
    let text = "use crate::{\n    a::{self, b, c},\n    d,\n    e::f,\n}; fn x() { crate::g::h(); mycrate::i::j(); }";
    assert_eq!(imports_of(text), ["a", "d", "e", "g"].map(str::to_owned).into());
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
        for import in imports_of(&read(&root().join(&file))) {
            assert!(import == module || allowed.contains(&import), "{} may not import `{import}`", file.display());
        }
    }
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
        let is_tests = file.ends_with("tests.rs") || file.components().any(|part| part.as_os_str() == "tests");
        assert!(text.starts_with("//!") || is_tests, "{} has no header", file.display());
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
