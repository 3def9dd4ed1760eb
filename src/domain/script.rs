//! A script as its author wrote it.

/// Largest script, all files together, in bytes: what a person writes is far below, and each byte is kept for ever.
pub const SCRIPT_BYTES_MAX: usize = 1 << 20;

/// One file of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Relative path, for example `handler.py`.
    pub name: String,
    /// The file.
    pub content: Vec<u8>,
}
