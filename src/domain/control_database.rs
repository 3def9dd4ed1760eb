//! Where the control database is.

use std::{fmt, path::PathBuf, str::FromStr};

use percent_encoding::percent_decode_str;
use url::Url;
use zeroize::Zeroizing;

/// Where the control database is. Shows itself without its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlDatabase {
    /// An SQLite file, created when there is none.
    File(PathBuf),
    /// A database of a PostgreSQL server, which several hosts may share.
    Server(ServerDatabase),
}

/// A database of a PostgreSQL server, and how to log in to it.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerDatabase {
    url: Zeroizing<String>,
    shown: String,
}

/// The text is no URL of a PostgreSQL database. Does not echo it: a mistyped one may hold the password anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected the URL of a PostgreSQL database, such as postgres://USER:PASSWORD@HOST/DATABASE")]
pub struct InvalidServerUrl;

impl ServerDatabase {
    /// The URL, password included.
    #[must_use]
    pub fn expose_url(&self) -> &str {
        &self.url
    }
}

impl FromStr for ServerDatabase {
    type Err = InvalidServerUrl;

    fn from_str(text: &str) -> Result<Self, InvalidServerUrl> {
        let url = Url::parse(text).map_err(|_| InvalidServerUrl)?;
        if !matches!(url.scheme(), "postgres" | "postgresql") || url.cannot_be_a_base() {
            return Err(InvalidServerUrl);
        }
        let parameter =
            |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        let host = url.host_str().filter(|host| !host.is_empty()).map(str::to_owned);
        let host = host.or_else(|| parameter("host")).unwrap_or_else(|| "localhost".to_owned());
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let shown = format!("{}:{}", decode(&host), url.port().unwrap_or(5432));
        let shown = match url.path().trim_start_matches('/') {
            "" => shown,
            database => format!("{shown}/{}", decode(database)),
        };
        Ok(Self { url: Zeroizing::new(text.to_owned()), shown })
    }
}

impl fmt::Display for ServerDatabase {
    /// Host, port and database.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for ServerDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServerDatabase").field(&self.shown).finish()
    }
}

impl fmt::Display for ControlDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Server(server) => server.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_shown_without_its_password() {
        for (url, shown) in [
            ("postgres://me:hunter2@db.example.com/pqhost", "db.example.com:5432/pqhost"),
            ("postgresql://me:hunter2@[::1]:6543/a%20b?sslmode=require", "[::1]:6543/a b"),
            ("postgres://me:hunter2@%2Frun%2Fpg/x", "/run/pg:5432/x"),
            ("postgres:///x?host=/run/pg&password=hunter2", "/run/pg:5432/x"),
            ("postgres://", "localhost:5432"),
        ] {
            let server: ServerDatabase = url.parse().unwrap_or_else(|_| panic!("{url}"));
            assert_eq!(server.to_string(), shown);
            let database = ControlDatabase::Server(server);
            assert!(!format!("{database} {database:?}").contains("hunter2"), "{database:?}");
        }
        for bad in ["", "hunter2", "mysql://u:hunter2@h/d", "postgres:hunter2", "sqlite:x", "postgres//u:hunter2@h"] {
            let error = bad.parse::<ServerDatabase>().unwrap_err().to_string();
            assert!(!error.contains("hunter2") && error.contains("postgres://"), "{error}");
        }
    }
}
