//! The names of the rest of the crate in the text of a file.
//!
//! Not a parser of Rust: it knows comments, literals, modules, `use`, and paths that begin with `crate`, `super`, `self` or
//! an imported name, which is enough for this code.

use std::{collections::BTreeSet, iter::Peekable, slice::Iter};

/// A path from the crate's root, for example `["domain", "names", "TenantId"]`; `*` stands for everything there.
pub(crate) type Path = Vec<String>;

/// A name that a file imports, and what it is the name of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Import {
    pub(crate) name: String,
    pub(crate) path: Path,
}

/// The names of its crate in a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// By `use`.
    pub(crate) imports: Vec<Import>,
    /// In its code.
    pub(crate) inline: Vec<Path>,
}

impl Names {
    /// Its names that are this module.
    pub(crate) fn of(tokens: &[String], module: &[String]) -> Self {
        let children = tokens.windows(3).filter(|three| three[0] == "mod" && three[2] == ";");
        let children: BTreeSet<&str> = children.map(|three| three[1].as_str()).collect();
        let mut names = Self::default();
        let mut module = module.to_vec();
        // Braces that are open, and at how many of them each module in this file began.
        let (mut depth, mut inline_modules) = (0, Vec::new());
        let mut by_imported_name = Vec::new();
        let mut rest = tokens.iter().peekable();
        let mut before = "";
        while let Some(token) = rest.next() {
            match token.as_str() {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    if inline_modules.pop_if(|began_at| *began_at == depth).is_some() {
                        module.pop();
                    }
                }
                "mod" => {
                    let mut ahead = rest.clone();
                    if let (Some(name), Some("{")) = (ahead.next(), ahead.next().map(String::as_str)) {
                        module.push(name.clone());
                        inline_modules.push(depth);
                    }
                }
                "pub" => skip_visibility(&mut rest),
                // `use<'a>` says what a type captures.
                "use" if rest.peek().is_some_and(|next| *next != "<") => {
                    let mut imports = Vec::new();
                    read_tree(&mut rest, &[], &mut imports);
                    let known = imports.into_iter().filter_map(|import| {
                        let path = from_root(import.path, &module, &children)?;
                        Some(Import { path, ..import })
                    });
                    names.imports.extend(known);
                }
                _ if is_name(token) && !matches!(before, "::" | ".") => {
                    let mut path = vec![token.clone()];
                    while rest.next_if(|next| *next == "::").is_some() {
                        path.extend(rest.next_if(|next| is_name(next)).cloned());
                    }
                    match token.as_str() {
                        _ if path.len() == 1 => {}
                        "crate" | "super" | "self" => names.inline.extend(from_root(path, &module, &children)),
                        _ => by_imported_name.push(path),
                    }
                }
                _ => {}
            }
            before = token;
        }
        for path in by_imported_name {
            let import = names.imports.iter().find(|import| import.name == path[0]);
            names.inline.extend(import.map(|import| [&import.path, &path[1..]].concat()));
        }
        names
    }

    /// All of them.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.imports.iter().map(|import| &import.path).chain(&self.inline)
    }
}

type Rest<'t> = Peekable<Iter<'t, String>>;

/// The `(super)` or `(in crate::a)` of a `pub`.
fn skip_visibility(rest: &mut Rest<'_>) {
    let mut ahead = rest.clone();
    let is_open = ahead.next().is_some_and(|token| token == "(");
    if is_open && ahead.next().is_some_and(|token| ["crate", "super", "self", "in"].contains(&token.as_str())) {
        while rest.next().is_some_and(|token| token != ")") {}
    }
}

/// Reads what follows `use`, or stands between the commas of its braces.
fn read_tree(rest: &mut Rest<'_>, prefix: &[String], imports: &mut Vec<Import>) {
    let mut path = prefix.to_vec();
    let mut alias = None;
    while let Some(token) = rest.next_if(|next| !matches!(next.as_str(), "," | "}" | ";")) {
        match token.as_str() {
            "::" => {}
            "as" => alias = rest.next().cloned(),
            "{" => {
                while rest.peek().is_some_and(|next| *next != "}") {
                    read_tree(rest, &path, imports);
                    rest.next_if(|next| *next == ",");
                }
                rest.next();
                return;
            }
            _ => path.push(token.clone()),
        }
    }
    // `a::{self, b}` names `a`.
    path.pop_if(|last| last == "self");
    if let Some(name) = alias.or_else(|| path.last().cloned()) {
        imports.push(Import { name, path });
    }
}

/// A path as it is from the crate's root; `None` if it leads to another crate.
fn from_root(path: Path, module: &[String], children: &BTreeSet<&str>) -> Option<Path> {
    let mut base = module.to_vec();
    let mut rest = path.as_slice();
    match rest.first()?.as_str() {
        "crate" => base.clear(),
        "super" => {
            base.pop()?;
        }
        "self" => {}
        first if children.contains(first) => return Some([base, path].concat()),
        _ => return None,
    }
    rest = &rest[1..];
    while rest.first().is_some_and(|first| first == "super") {
        base.pop()?;
        rest = &rest[1..];
    }
    Some([&base, rest].concat())
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, `::` and single other characters of a file, without comments and literals.
pub(crate) fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            _ if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            _ if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => string_length(rest),
            '\'' => quote_length(rest),
            _ if is_name(&rest[..c.len_utf8()]) => {
                let name = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                let raw = raw_string_length(rest, name);
                tokens.extend(raw.is_none().then(|| rest[..name].to_owned()));
                raw.unwrap_or(name)
            }
            _ => {
                let length = if rest.starts_with("::") { 2 } else { c.len_utf8() };
                tokens.extend((!c.is_whitespace()).then(|| rest[..length].to_owned()));
                length
            }
        };
        rest = &rest[length..];
    }
    tokens
}

/// Bytes of the string at the start of a text.
fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Bytes of the character, or of the quote of a lifetime, at the start of a text.
fn quote_length(text: &str) -> usize {
    let mut inner = text[1..].char_indices();
    match inner.next() {
        Some((_, '\\')) => text[3..].find('\'').map_or(text.len(), |end| 3 + end + 1),
        Some((_, c)) if text[1 + c.len_utf8()..].starts_with('\'') => c.len_utf8() + 2,
        _ => 1,
    }
}

/// Bytes of the raw string at the start of a text whose first name ends at `name`; `None` if there is none.
fn raw_string_length(text: &str, name: usize) -> Option<usize> {
    if !matches!(&text[..name], "r" | "br" | "cr") {
        return None;
    }
    let hashes = text[name..].find(|c| c != '#')?;
    let open = name + hashes + 1;
    if !text[name + hashes..].starts_with('"') {
        return None;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    Some(text[open..].find(&close).map_or(text.len(), |end| open + end + close.len()))
}

/// The same without items that only tests have.
pub(crate) fn without_tests(tokens: &[String]) -> Vec<String> {
    let mark = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut rest = tokens;
    while let Some((token, others)) = rest.split_first() {
        if rest.len() < mark.len() || !rest.iter().zip(mark).all(|(token, mark)| token == mark) {
            kept.push(token.clone());
            rest = others;
            continue;
        }
        rest = &rest[mark.len()..];
        let mut depth = 0;
        let end = rest.iter().position(|token| {
            depth += match token.as_str() {
                "(" | "[" | "{" => 1,
                ")" | "]" | "}" => -1,
                _ => 0,
            };
            depth == 0 && (token == ";" || token == "}")
        });
        rest = &rest[end.map_or(rest.len(), |end| end + 1)..];
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Names {
        Names::of(&without_tests(&tokens(text)), &["here".to_owned(), "inner".to_owned()])
    }

    fn written(paths: impl Iterator<Item = impl std::borrow::Borrow<Path>>) -> Vec<String> {
        paths.map(|path| path.borrow().join("::")).collect()
    }

    #[test]
    fn imports_are_found() {
        let text = "use std::fmt; use crate::{\n    a::{self, b, c::{d as e, f::*}},\n    g,\n};
            pub(in crate::x) use self::h::I; use super::j::{K, L,}; mod m; use m::N; use super::super::o;";
        let found = names(text);
        let paths = written(found.imports.iter().map(|import| &import.path));
        let expected = ["a", "a::b", "a::c::d", "a::c::f::*", "g", "here::inner::h::I", "here::j::K", "here::j::L"];
        assert_eq!(paths, [&expected[..], &["here::inner::m::N", "o"]].concat());
        assert_eq!(found.imports[2].name, "e");
        assert_eq!(found.inline, [[""; 0]; 0]);
    }

    #[test]
    fn paths_in_code_are_found() {
        let text = "pub(super) fn f<'a>(x: &'a crate::a::B) -> impl Sized + use<'a> {
                super::c::<'_>(self.x); other::crate_::d()
            }
            mod m { fn g() { super::e(); } }
            const F: u8 = self::f::F;
            use crate::{g, h::I as J};
            fn k() { g::l::m(J::N, other::g::o(), p.g::<J>()) }";
        let expected = ["a::B", "here::c", "here::inner::e", "here::inner::f::F", "g::l::m", "h::I::N"];
        assert_eq!(written(names(text).inline.iter()), expected);
    }

    #[test]
    fn comments_literals_and_tests_name_nothing() {
        let text = r##"
            // crate::a
            /* crate::b */
            const C: &str = "crate::c \" crate::c"; const D: &str = r#"crate::d " crate::d"#; const E: char = '"';
            const F: char = '\''; fn f(x: &crate::seen::X) {}
            #[cfg(test)]
            mod tests { use crate::g; fn h() { crate::i(); } }
            #[cfg(test)]
            use crate::j;
            use crate::seen::Y;
        "##;
        let found = names(text);
        assert_eq!(written(found.paths()), ["seen::Y", "seen::X"]);
    }
}
