//! Percent-encoding, read strictly.
//!
//! Owns: the decision what is no valid encoding. Never: guesses what a caller may have meant.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Why a text cannot be percent-decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEncoding {
    /// A `%` without two hexadecimal digits behind it.
    #[error("the `%` at byte {at} is not followed by two hexadecimal digits")]
    BadEscape {
        /// Offset of the `%` in the text.
        at: usize,
    },
    /// The decoded bytes are no text.
    #[error("its percent-decoded bytes are not UTF-8")]
    NotUtf8,
}

/// Checks that each `%` in `text` starts an escape of two hexadecimal digits.
///
/// # Errors
/// [`InvalidEncoding::BadEscape`] for the first that does not.
pub fn check_escapes(text: &str) -> Result<(), InvalidEncoding> {
    let bytes = text.as_bytes();
    let is_hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    match bytes.iter().enumerate().find(|&(at, &byte)| byte == b'%' && !(is_hex(at + 1) && is_hex(at + 2))) {
        Some((at, _)) => Err(InvalidEncoding::BadEscape { at }),
        None => Ok(()),
    }
}

/// Decodes `text`, borrowing it when nothing is encoded.
///
/// # Errors
/// A malformed escape, or bytes that are not UTF-8.
pub fn decode(text: &str) -> Result<Cow<'_, str>, InvalidEncoding> {
    check_escapes(text)?;
    percent_decode_str(text).decode_utf8().map_err(|_not_utf8| InvalidEncoding::NotUtf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_or_names_the_fault() {
        for (text, expected) in [
            ("", Ok("")),
            ("plain", Ok("plain")),
            ("a%20b", Ok("a b")),
            ("%C3%a9", Ok("é")),
            ("a+b", Ok("a+b")),
            ("%2525", Ok("%25")),
            ("%", Err(InvalidEncoding::BadEscape { at: 0 })),
            ("ab%4", Err(InvalidEncoding::BadEscape { at: 2 })),
            ("%41%zz", Err(InvalidEncoding::BadEscape { at: 3 })),
            ("%ff", Err(InvalidEncoding::NotUtf8)),
            ("%c0%af", Err(InvalidEncoding::NotUtf8)),    // overlong `/`
            ("%ed%a0%80", Err(InvalidEncoding::NotUtf8)), // surrogate
        ] {
            assert_eq!(decode(text).as_deref(), expected.as_ref().map(|t| *t), "{text}");
        }
    }
}
