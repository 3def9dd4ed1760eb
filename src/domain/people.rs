//! People who manage tenants, and what they may do.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::domain::shown;

/// Shortest password, in characters. Length is what counts against guessing; rules about characters are not.
pub const PASSWORD_CHARS_MIN: usize = 12;

/// Longest password, in bytes: hashing takes time that grows with it.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// Longest e-mail address, in bytes (RFC 5321).
pub const EMAIL_BYTES_MAX: usize = 254;

/// Holds a browser's session with the control API. Cookies know no ports: the data plane neither shows it to handlers nor lets
/// them set it.
pub const SESSION_COOKIE: &str = "pqhost_session";

/// What somebody may do in a tenant. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads everything but secrets.
    Viewer,
    /// Writes and publishes scripts, connects them to endpoints.
    Author,
    /// Manages connections, secrets, tokens and members.
    Owner,
}

impl Role {
    /// All roles, least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Author, Self::Owner];

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Author => "author",
            Self::Owner => "owner",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is no [`Role`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown role `{0}`: use viewer, author or owner")]
pub struct InvalidRole(String);

impl FromStr for Role {
    type Err = InvalidRole;

    fn from_str(text: &str) -> Result<Self, InvalidRole> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| InvalidRole(shown(text)))
    }
}

/// An e-mail address in lower case, as it names a user.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Email(String);

/// The text is no e-mail address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no e-mail address")]
pub struct InvalidEmail(String);

impl Email {
    /// The address as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Email {
    type Error = InvalidEmail;

    /// Checks only what tells a typing error from an address: whether mail arrives there nobody can see from the text.
    fn try_from(text: String) -> Result<Self, InvalidEmail> {
        let is_plain = |c: char| !c.is_whitespace() && !c.is_control();
        let is_email = text.len() <= EMAIL_BYTES_MAX
            && text.chars().all(is_plain)
            && text.split_once('@').is_some_and(|(name, domain)| {
                !name.is_empty()
                    && domain.contains('.')
                    && !domain.contains('@')
                    && domain.split('.').all(|l| !l.is_empty())
            });
        match is_email {
            true => Ok(Self(text.to_lowercase())),
            false => Err(InvalidEmail(shown(&text))),
        }
    }
}

impl FromStr for Email {
    type Err = InvalidEmail;

    fn from_str(text: &str) -> Result<Self, InvalidEmail> {
        Self::try_from(text.to_owned())
    }
}

impl From<Email> for String {
    fn from(email: Email) -> Self {
        email.0
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_include_those_before_them() {
        assert!(Role::Viewer < Role::Author && Role::Author < Role::Owner);
        for role in Role::ALL {
            assert_eq!(role.to_string().parse::<Role>(), Ok(role));
        }
        assert!("admin".parse::<Role>().is_err());
    }

    #[test]
    fn addresses_are_compared_in_lower_case_and_typing_errors_are_seen() {
        assert_eq!("Ann@Acme.example".parse::<Email>().unwrap().as_str(), "ann@acme.example");
        let long = format!("{}@a.example", "x".repeat(254));
        for bad in
            ["", "ann", "ann@", "@acme.example", "ann@acme", "a b@acme.example", "a@b@c.d", "a@b..c", "a@b.c\n", &long]
        {
            assert!(bad.parse::<Email>().is_err(), "{bad}");
        }
    }
}
