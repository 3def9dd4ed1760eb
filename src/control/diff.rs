//! Unified diffs, bounded in size and time: the texts are somebody else's.

use std::time::Duration;

use crate::domain::script::SourceFile;

/// Unchanged lines shown around a changed one.
const CONTEXT_LINES: usize = 3;

/// Longest text that is compared line by line, in bytes.
const COMPARED_BYTES_MAX: usize = 2 << 20;

/// How long two texts are compared before the rest is shown as replaced.
const COMPARE_TIME: Duration = Duration::from_millis(500);

/// Longest diff, in bytes; what follows is cut off at a line's end, and the last line says so.
const DIFF_BYTES_MAX: usize = 1 << 20;

/// The difference of two texts; empty if there is none. Takes up to a second: not for threads that serve.
pub(crate) fn of_texts(old: &str, new: &str, from: &str, to: &str) -> String {
    if old == new {
        return String::new();
    }
    if old.len().max(new.len()) > COMPARED_BYTES_MAX {
        return format!("Files {from} and {to} differ, and are too large to be compared by line\n");
    }
    let lines = similar::TextDiff::configure().timeout(COMPARE_TIME).diff_lines(old, new);
    cut(lines.unified_diff().context_radius(CONTEXT_LINES).header(from, to).to_string())
}

/// The difference of all files, by name.
pub(crate) fn of_files(older: &[SourceFile], newer: &[SourceFile]) -> String {
    let mut names: Vec<&str> = older.iter().chain(newer).map(|file| file.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let find =
        |files: &[SourceFile], name| files.iter().find(|file| file.name == name).map(|file| file.content.clone());
    let mut diff = String::new();
    for name in names {
        if diff.len() > DIFF_BYTES_MAX {
            break;
        }
        let (old, new) = (find(older, name), find(newer, name));
        if old == new {
            continue;
        }
        let label = |content: &Option<Vec<u8>>, side| {
            content.as_ref().map_or_else(|| "/dev/null".to_owned(), |_| format!("{side}/{name}"))
        };
        let (from, to) = (label(&old, "a"), label(&new, "b"));
        let text = |content: Option<Vec<u8>>| String::from_utf8(content.unwrap_or_default());
        match (text(old), text(new)) {
            // A file that is empty now, or was.
            (Ok(old), Ok(new)) if old == new => diff.push_str(&format!("--- {from}\n+++ {to}\n")),
            (Ok(old), Ok(new)) => diff.push_str(&of_texts(&old, &new, &from, &to)),
            _ => diff.push_str(&format!("Binary files {from} and {to} differ\n")),
        }
    }
    cut(diff)
}

fn cut(mut diff: String) -> String {
    if diff.len() > DIFF_BYTES_MAX {
        let end = diff.as_bytes()[..DIFF_BYTES_MAX].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        diff.truncate(end);
        diff.push_str("\\ The diff is longer than 1 MiB; the rest is left out\n");
    }
    diff
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn files(files: &[(&str, &[u8])]) -> Vec<SourceFile> {
        files.iter().map(|(name, content)| SourceFile { name: (*name).to_owned(), content: content.to_vec() }).collect()
    }

    #[test]
    fn a_diff_shows_changed_added_removed_and_binary_files() {
        let older = files(&[("handler.py", b"a = 1\nb = 2\n"), ("gone.txt", b"x\n"), ("same", b"s"), ("bin", b"\xff")]);
        let newer = files(&[
            ("handler.py", b"a = 1\nb = 3\n"),
            ("new.txt", b"y\n"),
            ("same", b"s"),
            ("bin", b"\xfe"),
            ("void", b""),
        ]);
        insta::assert_snapshot!(of_files(&older, &newer), @r"
        Binary files a/bin and b/bin differ
        --- a/gone.txt
        +++ /dev/null
        @@ -1 +0,0 @@
        -x
        --- a/handler.py
        +++ b/handler.py
        @@ -1,2 +1,2 @@
         a = 1
        -b = 2
        +b = 3
        --- /dev/null
        +++ b/new.txt
        @@ -0,0 +1 @@
        +y
        --- /dev/null
        +++ b/void
        ");
        assert_eq!(of_files(&newer, &newer), "");
    }

    #[test]
    fn a_diff_is_bounded_in_time_and_size() {
        let lines = |n: usize, step: usize| (0..n).map(|i| format!("{}\n", i * step % 7919)).collect::<String>();
        let (old, new) = (lines(200_000, 31), lines(200_000, 77));
        let started = Instant::now();
        let diff = of_texts(&old, &new, "a", "b");
        assert!(started.elapsed() < 20 * COMPARE_TIME, "{:?}", started.elapsed());
        assert!(diff.len() < DIFF_BYTES_MAX + 100 && diff.ends_with("the rest is left out\n"), "{}", diff.len());
        let large = "x".repeat(COMPARED_BYTES_MAX + 1);
        assert_eq!(of_texts(&large, "", "a", "b"), "Files a and b differ, and are too large to be compared by line\n");
    }
}
