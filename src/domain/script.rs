//! A script as its author wrote it.

/// Largest script, all files and packages together, in bytes.
///
/// What a person writes is far below; popular pure-Python packages with what they need have 0.1 to 6 MiB. The sandbox holds
/// the files in its memory, of which this is a quarter, and each byte is kept for ever.
pub const SCRIPT_BYTES_MAX: usize = 16 << 20;

/// Most files of a script. Packages of 16 MiB have 1,000 to 2,000.
pub const SCRIPT_FILES_MAX: usize = 4_000;

/// Longest path of a file, in bytes; as long as file systems allow names.
pub const FILE_NAME_BYTES_MAX: usize = 255;

/// The file that defines `handler`.
pub const MAIN_FILE: &str = "handler.py";

/// The folder of a script's packages.
pub const VENDORED_FOLDER: &str = "site-packages";

/// One file of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Relative path, for example `handler.py`.
    pub name: String,
    /// The file.
    pub content: Vec<u8>,
}

/// Whether `name` is a path that names one place below the script's folder, the same on every system.
#[must_use]
pub fn is_file_name(name: &str) -> bool {
    name.len() <= FILE_NAME_BYTES_MAX
        && !name.chars().any(|c| c.is_control() || c == '\\')
        && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_stay_below_the_folder() {
        for good in ["handler.py", "a/b/c.json", "templates/é x.html", "a/..b", &"x".repeat(255)] {
            assert!(is_file_name(good), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "../a", "a/../b", ".", "a/./b", "a\\b", "a\0", "a\nb", &"x".repeat(256)] {
            assert!(!is_file_name(bad), "{bad:?}");
        }
    }
}
