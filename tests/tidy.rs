//! Rules about the source itself, which no compiler checks: imports between modules, where `unsafe` may stand, headers,
//! sizes, and promises that name their tests.
//!
//! The table of modules is read from `docs/ARCHITECTURE.md`, so that the document and this test cannot differ.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The only files that may contain `unsafe`.
const UNSAFE_FILES: [&str; 3] = ["src/sandbox/artifact.rs", "src/sandbox/memory.rs", "src/sandbox/memory/tests.rs"];

/// The only file that may read the environment. Tests may too: they ask for temporary directories and their own program.
const ENVIRONMENT_FILE: &str = "src/config.rs";

/// Longer files usually hide two modules.
const LINES_MAX: usize = 500;

/// Files that are longer than [`LINES_MAX`], and why.
const LONG_FILES: [(&str, &str); 1] = [(
    "src/sandbox/memory.rs",
    "unsafe code and the invariants it rests on stay in one file, where a reader sees both",
)];

/// Not modules of their own.
const ROOTS: [&str; 2] = ["lib", "main"];

#[test]
fn modules_import_only_what_the_table_allows() {
    let table = module_table();
    let mut offences = Vec::new();
    for file in rust_files("src") {
        let module = top_level_module(&file);
        if ROOTS.contains(&module.as_str()) {
            continue;
        }
        let Some(allowed) = table.get(&module) else { continue }; // the test below finds it
        let code = code_of(&read(&file));
        for import in crate_imports(&code).into_iter().filter(|import| *import != module) {
            if !allowed.contains(&import) {
                offences.push(format!("{file}: `{module}` may not import `crate::{import}`"));
            }
        }
        for parent in words_behind(&code, "super::").into_iter().filter(|word| table.contains_key(word)) {
            offences.push(format!("{file}: write `crate::{parent}`, not `super::{parent}`"));
        }
    }
    assert_none(&offences, "change the import, or the table in docs/ARCHITECTURE.md and what it stands for");
}

#[test]
fn the_table_lists_exactly_the_modules_that_exist() {
    let listed: BTreeSet<String> = module_table().into_keys().collect();
    let existing: BTreeSet<String> = rust_files("src").iter().map(|file| top_level_module(file)).collect();
    let existing: BTreeSet<String> = existing.into_iter().filter(|name| !ROOTS.contains(&name.as_str())).collect();
    assert_eq!(listed, existing, "left: docs/ARCHITECTURE.md; right: src/");
}

#[test]
fn unsafe_code_stands_only_where_it_is_expected() {
    let files = rust_files("src").into_iter().filter(|file| words(&code_of(&read(file))).any(|word| word == "unsafe"));
    let offences: Vec<_> = files.filter(|file| !UNSAFE_FILES.contains(&file.as_str())).collect();
    assert_none(&offences, "`unsafe` may stand only in UNSAFE_FILES");
}

#[test]
fn every_file_has_a_header_and_every_module_says_what_it_owns() {
    let mut offences = Vec::new();
    for file in rust_files("src") {
        let text = read(&file);
        let header: Vec<_> = text.lines().take_while(|line| line.starts_with("//!")).collect();
        if header.is_empty() {
            offences.push(format!("{file}: starts without `//!`"));
        }
        let is_module = file.matches('/').count() == 1 && !ROOTS.contains(&top_level_module(&file).as_str());
        for word in ["Owns:", "Never:"] {
            if is_module && !header.iter().any(|line| line.contains(word)) {
                offences.push(format!("{file}: its header does not say `{word}`"));
            }
        }
    }
    assert_none(&offences, "say what the file is for, what it owns, and what it never does");
}

#[test]
fn only_config_reads_the_environment() {
    let files = rust_files("src").into_iter().filter(|file| file != ENVIRONMENT_FILE && !file.ends_with("/tests.rs"));
    let offences: Vec<_> = files.filter(|file| reads_environment(&code_of(&read(file)))).collect();
    assert_none(&offences, "read the environment in src/config.rs");
}

#[test]
fn long_files_have_a_reason() {
    let mut offences = Vec::new();
    for file in ["src", "tests", "runtime", "benches"].into_iter().flat_map(rust_files) {
        let n_lines = read(&file).lines().count();
        let exempt = LONG_FILES.iter().any(|(long, _)| *long == file);
        match (n_lines > LINES_MAX, exempt) {
            (true, false) => {
                offences.push(format!("{file}: {n_lines} lines; split it, or give a reason in LONG_FILES"));
            }
            (false, true) => offences.push(format!("{file}: {n_lines} lines; no longer an exception")),
            (true, true) | (false, false) => {}
        }
    }
    for (file, _) in LONG_FILES.iter().filter(|(file, _)| !root().join(file).exists()) {
        offences.push(format!("{file}: does not exist"));
    }
    assert_none(&offences, "files have at most 500 lines");
}

#[test]
fn every_promise_names_its_test() {
    const DOCUMENT: &str = "docs/SPECIFICATION.md";
    let functions: BTreeSet<String> = ["src", "tests", "benches"]
        .into_iter()
        .flat_map(rust_files)
        .flat_map(|file| words_behind(&code_of(&read(&file)), "fn "))
        .collect();
    let promises = table_rows(&read(DOCUMENT), "promise");
    assert!(!promises.is_empty(), "{DOCUMENT} has no table whose first column is `promise`");
    let mut offences = Vec::new();
    for row in promises {
        let (promise, checked_by) = (row.first().cloned().unwrap_or_default(), row.last().cloned().unwrap_or_default());
        if checked_by == "not yet measured" {
            continue;
        }
        let names = quoted(&checked_by);
        if names.is_empty() {
            offences.push(format!("{promise}: names no test, and does not say `not yet measured`"));
        }
        for name in names {
            let function = name.rsplit("::").next().unwrap_or(&name);
            let is_file = name.contains('/') && root().join(&name).is_file();
            if !is_file && !functions.contains(function) {
                offences.push(format!("{promise}: there is no `{name}`"));
            }
        }
    }
    assert_none(&offences, "docs/SPECIFICATION.md promises what nothing checks");
}

/// The checks above are worth what their reading of source is worth.
#[test]
fn source_is_read_as_a_compiler_would() {
    let imports = |code: &str| crate_imports(&code_of(code)).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(imports("use crate::db::Db; fn f() { crate::vault::open() }"), "db vault");
    assert_eq!(
        imports("use crate::{\n    db::{Db, versions::{A, B}},\n    domain,\n    vault as v,\n};"),
        "db domain vault"
    );
    assert_eq!(imports("pub(crate) use crate :: {db, data};"), "data db");
    assert_eq!(imports("// crate::a\n/* crate::b /* crate::c */ crate::d */ \"crate::e\" r#\"crate::\"f\"#"), "");
    assert_eq!(imports(r#"let quote = '"'; use crate::db; let other = '"';"#), "db");
    assert_eq!(imports("fn f<'a>(x: &'a str) { crate::db::g(x, '\\'', b'\"') }"), "db");
    assert_eq!(imports("mycrate::db"), "");
    assert!(words(&code_of("unsafe { }")).any(|word| word == "unsafe"));
    assert!(!words(&code_of("unsafe_code // unsafe")).any(|word| word == "unsafe"));
    for reading in
        ["std::env::var(x)", "use std::{env, fs};", "env::vars_os()", "#[arg(long, env = \"X\")]", "#[arg(env)]"]
    {
        assert!(reads_environment(&code_of(reading)), "{reading}");
    }
    for other in ["env!(\"OUT_DIR\")", "let environment = 1;", "\"std::env\""] {
        assert!(!reads_environment(&code_of(other)), "{other}");
    }
}

fn assert_none(offences: &[String], rule: &str) {
    assert!(offences.is_empty(), "{rule}:\n  {}", offences.join("\n  "));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    let text = fs::read_to_string(root().join(file));
    assert!(text.is_ok(), "{file} cannot be read: {text:?}");
    text.unwrap_or_default()
}

/// Rust files below a directory, relative to the root, in order; none if there is no such directory.
fn rust_files(directory: &str) -> Vec<String> {
    let mut files = Vec::new();
    let mut directories = vec![PathBuf::from(directory)];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = fs::read_dir(root().join(&directory)) else { continue };
        for entry in entries.flatten() {
            let path = directory.join(entry.file_name());
            // What `runtime/build.sh` and the linters leave there is nobody's source.
            let generated = ["build", "venv", ".venv", "target"].iter().any(|name| path.ends_with(name));
            if entry.path().is_dir() && !generated {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path.display().to_string());
            }
        }
    }
    assert!(directory != "src" || !files.is_empty(), "no source was found");
    files.sort();
    files
}

/// `db` for `src/db.rs` and `src/db/tokens.rs`.
fn top_level_module(file: &str) -> String {
    let below = file.trim_start_matches("src/");
    below.split('/').next().unwrap_or(below).trim_end_matches(".rs").to_owned()
}

/// What each module may import, from the table whose first column is `module`.
fn module_table() -> BTreeMap<String, BTreeSet<String>> {
    let mut table = BTreeMap::new();
    let mut above = BTreeSet::new();
    for row in table_rows(&read("docs/ARCHITECTURE.md"), "module") {
        let (modules, imports) = (quoted(&row[0]), row.last().cloned().unwrap_or_default());
        assert_eq!(modules.len(), 1, "one module in each row: {row:?}");
        let allowed: BTreeSet<String> = words(&imports).map(str::to_owned).collect();
        let lower: Vec<_> = allowed.difference(&above).collect();
        assert!(lower.is_empty(), "{modules:?} may import only what stands above it, not {lower:?}");
        above.insert(modules[0].clone());
        assert!(table.insert(modules[0].clone(), allowed).is_none(), "{modules:?} has two rows");
    }
    assert!(!table.is_empty(), "docs/ARCHITECTURE.md has no table whose first column is `module`");
    table
}

/// The cells of every row of the Markdown tables whose first column has this title.
fn table_rows(text: &str, title: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Option<Vec<String>> {
        let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
        Some(inner.split('|').map(|cell| cell.trim().to_owned()).collect())
    };
    let (mut rows, mut inside, mut in_table) = (Vec::new(), false, false);
    for line in text.lines() {
        let Some(row) = cells(line) else {
            (inside, in_table) = (false, false);
            continue;
        };
        if !in_table {
            in_table = true;
            inside = row[0] == title;
        } else if inside && !row[0].starts_with("---") {
            rows.push(row);
        }
    }
    rows
}

/// What stands between backquotes.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !is_word(c)).filter(|word| !word.is_empty())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The words that follow each occurrence of `prefix`, where that is not the end of a longer word.
fn words_behind(code: &str, prefix: &str) -> Vec<String> {
    let starts = code.match_indices(prefix).filter(|(at, _)| !code[..*at].ends_with(is_word));
    starts.map(|(at, _)| leading_word(&code[at + prefix.len()..]).to_owned()).collect()
}

fn leading_word(text: &str) -> &str {
    let text = text.trim_start();
    &text[..text.find(|c| !is_word(c)).unwrap_or(text.len())]
}

/// The names that directly follow `crate::`, also in groups.
fn crate_imports(code: &str) -> BTreeSet<String> {
    let code: String = code.split_whitespace().collect::<Vec<_>>().join(" ").replace(" ::", "::").replace(":: ", "::");
    let mut imports = BTreeSet::new();
    for (at, _) in code.match_indices("crate::").filter(|(at, _)| !code[..*at].ends_with(is_word)) {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => _ = imports.insert(leading_word(rest).to_owned()),
            Some(group) => imports.extend(first_words(group)),
        }
    }
    imports.remove("");
    imports
}

/// The first word of each element of a group, whose opening brace has been read.
fn first_words(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                found.push(leading_word(&group[start..at]).to_owned());
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    found
}

/// Whether code names `std::env`, or lets clap read the environment.
fn reads_environment(code: &str) -> bool {
    let mut rest = code;
    while let Some(at) = rest.find("env") {
        let (before, after) = (&rest[..at], &rest[at + "env".len()..]);
        let whole_word = !before.ends_with(is_word) && !after.starts_with(is_word);
        if whole_word && !after.starts_with('!') && !before.ends_with('.') {
            return true;
        }
        rest = after;
    }
    false
}

/// Source without comments and without the contents of literals.
fn code_of(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let skipped = comment(rest).or_else(|| raw_string(rest, &code)).or_else(|| literal(rest));
        let length = skipped.unwrap_or(c.len_utf8());
        if skipped.is_some() {
            code.push(' ');
        } else {
            code.push(c);
        }
        rest = &rest[length..];
    }
    code
}

/// Length of the comment that `text` starts with.
fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if !text.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            at += 1;
        }
        if depth == 0 {
            return Some(at);
        }
    }
    Some(text.len())
}

/// Length of the raw string that `text` starts with; `before` tells `r"` from the end of a word.
fn raw_string(text: &str, before: &str) -> Option<usize> {
    let hashes = text.strip_prefix('r')?;
    let quote = hashes.find('"')?;
    // `br"` and `cr"` have their letter in `before`.
    let word_before = before.trim_end_matches(['b', 'c']).ends_with(is_word);
    if word_before || !hashes[..quote].chars().all(|c| c == '#') {
        return None;
    }
    let end = format!("\"{}", &hashes[..quote]);
    let content = &hashes[quote + 1..];
    Some(1 + quote + 1 + content.find(&end).map_or(content.len(), |at| at + end.len()))
}

/// Length of the string or character that `text` starts with; a lifetime is neither.
fn literal(text: &str) -> Option<usize> {
    let quote = text.chars().next().filter(|c| ['"', '\''].contains(c))?;
    let mut characters = text.char_indices().skip(1);
    if quote == '\'' {
        let mut inside = text[1..].chars();
        let is_character = matches!((inside.next(), inside.next()), (Some('\\'), _) | (Some(_), Some('\'')));
        if !is_character {
            return None;
        }
    }
    while let Some((at, c)) = characters.next() {
        if c == '\\' {
            characters.next();
        } else if c == quote {
            return Some(at + 1);
        }
    }
    Some(text.len())
}
