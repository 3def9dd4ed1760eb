//! Bytes that must not be seen.

use std::fmt;

use zeroize::Zeroizing;

/// A password, key or URL with credentials.
///
/// Has no `Display`, no `Serialize` and a `Debug` that tells nothing; its memory is overwritten when it is dropped.
/// `expose` is the only way in, so that reviewers can search for it.
pub struct Secret(Zeroizing<Vec<u8>>);

/// The secret is not UTF-8, though a text was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret that should be text is not UTF-8")]
pub struct NotText;

impl Secret {
    /// The bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The secret as text.
    ///
    /// # Errors
    /// [`NotText`] when it is not UTF-8.
    pub fn expose_str(&self) -> Result<&str, NotText> {
        std::str::from_utf8(&self.0).map_err(|_| NotText)
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_tells_nothing() {
        assert_eq!(format!("{:?}", Some(Secret::from("hunter2".to_owned()))), "Some(Secret(..))");
    }

    #[test]
    fn only_utf8_is_text() {
        assert_eq!(Secret::from("ü".to_owned()).expose_str(), Ok("ü"));
        assert_eq!(Secret::from(vec![0xff]).expose_str(), Err(NotText));
    }
}
