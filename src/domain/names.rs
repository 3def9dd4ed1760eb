//! Names and ids.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::domain::shown;

/// Longest name of a tenant, script or connection, in bytes.
///
/// 63 is the limit of a DNS label and of a PostgreSQL identifier, so that a name fits wherever it may be shown or used.
pub const NAME_BYTES_MAX: usize = 63;

/// Why a text is no valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} name `{name}` is not valid: use 1 to {NAME_BYTES_MAX} letters, digits, `_` or `-`, starting with a letter or digit"
)]
pub struct InvalidName {
    what: &'static str,
    name: String,
}

/// Whether `text` is 1 to [`NAME_BYTES_MAX`] ASCII letters, digits, `_` or `-`, starting with a letter or digit.
fn is_name(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

macro_rules! name {
    ($(#[$doc:meta])* $Name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $Name(String);

        impl $Name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $Name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::try_from(text.to_owned())
            }
        }

        impl TryFrom<String> for $Name {
            type Error = InvalidName;

            fn try_from(name: String) -> Result<Self, InvalidName> {
                if is_name(&name) { Ok(Self(name)) } else {
                    // An invalid name may be anything: show its beginning only, with control characters escaped.
                    let name = shown(&name);
                    Err(InvalidName { what: $what, name })
                }
            }
        }

        impl From<$Name> for String {
            fn from(name: $Name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A tenant, as it stands in the first segment of its endpoints' URLs.
    TenantName, "tenant"
);
name!(
    /// A script of a tenant.
    ScriptName, "script"
);
name!(
    /// A connection of a tenant.
    ConnectionName, "connection"
);
name!(
    /// A secret of a tenant.
    SecretName, "secret"
);

macro_rules! id {
    ($(#[$doc:meta])* $Name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $Name(pub i64);

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A tenant's row.
    TenantId
);
id!(
    /// A script's row.
    ScriptId
);
id!(
    /// A version's row; unique over all scripts and tenants.
    VersionId
);
id!(
    /// An endpoint's row.
    EndpointId
);
id!(
    /// A connection's row.
    ConnectionId
);
id!(
    /// A secret's row.
    SecretId
);
id!(
    /// A user's row.
    UserId
);

impl ScriptId {
    /// Stands for no script: that of an endpoint which a table answers. No row has this id, so nothing is granted to it.
    pub const NONE: Self = Self(0);
}

/// One run of a handler: a version 7 UUID, so ids sort by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InvocationId(uuid::Uuid);

impl InvocationId {
    /// A new id.
    #[must_use]
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7())
    }
}

impl fmt::Display for InvocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for InvocationId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_plain_words() {
        for good in ["a", "dw_2", "Acme-7", "0x", &"a".repeat(63)] {
            assert_eq!(good.parse::<TenantName>().unwrap().as_str(), good);
        }
        for bad in ["", "_a", "-a", "a b", "a/b", "é", "a\0", "..", &"a".repeat(64)] {
            assert!(bad.parse::<TenantName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_invalid_name_is_shown_escaped_and_short() {
        let error = format!("a\n{}", "x".repeat(10_000)).parse::<ScriptName>().unwrap_err().to_string();
        assert!(error.starts_with("script name `a\\nxxx") && error.len() < 300, "{error}");
    }
}
