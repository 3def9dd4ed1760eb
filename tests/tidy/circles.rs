//! The files that each file takes names from, and circles among them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Write as _,
};

use crate::names::{Names, Path, tokens, without_tests};

/// From a file to those that it takes something from, with the names.
pub(crate) type Graph = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Files of `src/` without those of tests: where each is, and its text.
pub(crate) type Files = BTreeMap<String, String>;

/// The module that a file is, from the crate's root.
fn module_of(file: &str) -> Path {
    let below = file.trim_start_matches("src/").trim_end_matches(".rs");
    if below == "lib" { Vec::new() } else { below.split('/').map(str::to_owned).collect() }
}

struct Modules<'f> {
    /// The file that each module is.
    files: BTreeMap<Path, &'f str>,
    names: BTreeMap<&'f str, Names>,
}

impl<'f> Modules<'f> {
    fn of(files: &'f Files) -> Self {
        let named = |(file, text): (&'f String, &String)| {
            (file.as_str(), Names::of(&without_tests(&tokens(text)), &module_of(file)))
        };
        let names = files.iter().map(named).collect();
        Self { files: files.keys().map(|file| (module_of(file), file.as_str())).collect(), names }
    }

    /// The files that a path leads to, each with the name that is taken from it: the one where it ends, and before it
    /// those that hand the name on.
    fn find(&self, path: &[String]) -> Vec<Found<'f>> {
        let mut found = Vec::new();
        let mut path = path.to_vec();
        // Each step leads to another file, or names that hand each other on would go round.
        while let Some((file, module)) = self.longest(&path) {
            if found.iter().any(|earlier: &Found<'_>| earlier.file == file) {
                break;
            }
            let inside = &path[module..];
            let name = inside.first().or(path.last()).cloned().unwrap_or_default();
            let handed_on = self.names[file].imports.iter().find(|import| inside.first() == Some(&import.name));
            let is_handed_on = handed_on.is_some();
            let next = handed_on.map(|import| [&import.path, &inside[1..]].concat());
            found.push(Found { file, name, is_handed_on });
            let Some(next) = next else { break };
            path = next;
        }
        found
    }

    /// The file of the longest beginning of a path that is a module, and how long that is.
    fn longest(&self, path: &[String]) -> Option<(&'f str, usize)> {
        (0..=path.len()).rev().find_map(|length| Some((*self.files.get(&path[..length])?, length)))
    }
}

struct Found<'f> {
    file: &'f str,
    name: String,
    /// True if the file has the name from another one.
    is_handed_on: bool,
}

/// The graph of files.
///
/// A module's file may name its own children: it shows what they offer, and they build on what it defines. So what it
/// takes from them is no edge, but what they take from it is, unless it merely hands that on.
pub(crate) fn graph(files: &Files) -> Graph {
    let modules = Modules::of(files);
    let mut graph = Graph::new();
    for (file, names) in &modules.names {
        let own = module_of(file);
        let edges = graph.entry((*file).to_owned()).or_default();
        for found in names.paths().flat_map(|path| modules.find(path)) {
            let theirs = module_of(found.file);
            let is_own = theirs.starts_with(&own);
            let is_handed_on_from_above = found.is_handed_on && own.starts_with(&theirs);
            if !is_own && !is_handed_on_from_above {
                edges.entry(found.file.to_owned()).or_default().insert(found.name);
            }
        }
    }
    graph
}

/// Circles, each as short as it can be, so that every file that is in any is in one of these.
pub(crate) fn circles(graph: &Graph) -> Vec<Vec<String>> {
    let mut circles: Vec<Vec<String>> = Vec::new();
    for file in graph.keys() {
        if !circles.iter().flatten().any(|known| known == file) {
            circles.extend(shortest_circle(graph, file));
        }
    }
    circles
}

/// The shortest way from a file to itself.
fn shortest_circle(graph: &Graph, file: &str) -> Option<Vec<String>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut waiting = VecDeque::from([file]);
    while let Some(at) = waiting.pop_front() {
        for next in graph.get(at)?.keys() {
            if next == file {
                let mut way = vec![at.to_owned()];
                while let Some(before) = came_from.get(way.last()?.as_str()) {
                    way.push((*before).to_owned());
                }
                way.reverse();
                return Some(way);
            }
            if !came_from.contains_key(next.as_str()) {
                came_from.insert(next, at);
                waiting.push_back(next);
            }
        }
    }
    None
}

/// A circle for people, a line for each of its files.
pub(crate) fn shown(graph: &Graph, circle: &[String]) -> String {
    let mut text = String::new();
    for (file, next) in circle.iter().zip(circle.iter().cycle().skip(1)) {
        let names: Vec<_> = graph[file][next].iter().map(String::as_str).collect();
        writeln!(text, "    {file} takes {} from {next}", names.join(", ")).expect("a text takes any text");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown_circles(files: &[(&str, &str)]) -> Vec<String> {
        let files = files.iter().map(|(file, text)| (format!("src/{file}.rs"), (*text).to_owned())).collect();
        let graph = graph(&files);
        circles(&graph).iter().map(|circle| shown(&graph, circle)).collect()
    }

    #[test]
    fn a_circle_is_shown_with_its_names() {
        let a = "use crate::{b::{B, inner::C}, x};";
        let circles =
            shown_circles(&[("a", a), ("b", ""), ("b/inner", "fn f() { crate::a::make(); }"), ("x", "use crate::b;")]);
        let expected = "    src/a.rs takes C from src/b/inner.rs\n    src/b/inner.rs takes make from src/a.rs\n";
        assert_eq!(circles, [expected]);
    }

    #[test]
    fn a_module_and_its_children_are_no_circle() {
        let parent = "mod one; mod two; pub use self::one::One; struct Shared; fn f(_: crate::a::two::Two) {}";
        let (one, two) = ("use crate::a::Shared; struct One;", "use super::Shared; struct Two;");
        assert_eq!(shown_circles(&[("a", parent), ("a/one", one), ("a/two", two)]), [""; 0]);
    }

    #[test]
    fn a_name_that_is_handed_on_is_followed() {
        let (parent, one) = ("pub(crate) use crate::a::one::One;", "use super::two::Two; struct One;");
        let files = |two| [("a", parent), ("a/one", one), ("a/two", two)];
        assert_eq!(shown_circles(&files("struct Two;")), [""; 0]);
        let circles = shown_circles(&files("use crate::a::One; struct Two;"));
        let expected = "    src/a/one.rs takes Two from src/a/two.rs\n    src/a/two.rs takes One from src/a/one.rs\n";
        assert_eq!(circles, [expected]);
        // Names that hand each other on end nowhere.
        assert_eq!(shown_circles(&[("a", "use crate::b::X;"), ("b", "use crate::a::X;")]).len(), 1);
    }
}
