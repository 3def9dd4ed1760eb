//! The URL under which callers know a host.

use std::{fmt, str::FromStr};

use url::Url;

use crate::domain::shown;

/// The beginning of the URLs that callers write, where a proxy stands in front: `https://api.example.com`, perhaps with a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl(String);

/// A text that no caller's URL begins with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` cannot begin callers' URLs: write for example https://api.example.com")]
pub struct InvalidPublicUrl {
    text: String,
}

impl PublicUrl {
    /// The text, without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PublicUrl {
    type Err = InvalidPublicUrl;

    fn from_str(text: &str) -> Result<Self, InvalidPublicUrl> {
        let invalid = || InvalidPublicUrl { text: shown(text) };
        let url = Url::parse(text).map_err(|_| invalid())?;
        let is_plain = matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !is_plain {
            return Err(invalid());
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_is_a_scheme_a_host_and_perhaps_a_path() {
        for (text, expected) in [
            ("https://api.example.com", Some("https://api.example.com")),
            ("https://API.example.com:443/", Some("https://api.example.com")),
            ("http://[::1]:8080", Some("http://[::1]:8080")),
            ("https://example.com/api/", Some("https://example.com/api")),
            ("api.example.com", None),
            ("", None),
            ("ftp://example.com", None),
            ("https://", None),
            ("https://user@example.com", None),
            ("https://:secret@example.com", None),
            ("https://example.com?a", None),
            ("https://example.com/#a", None),
        ] {
            let parsed = text.parse::<PublicUrl>();
            assert_eq!(parsed.as_ref().ok().map(PublicUrl::as_str), expected, "{text}");
            if let Err(error) = parsed {
                assert!(error.to_string().contains(&format!("`{text}`")), "{error}");
            }
        }
    }
}
