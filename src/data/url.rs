//! Connection URLs.
//!
//! Owns: what a URL may say, and the secret it holds. Never: opens a connection.
//! Invariant: no error and no `Debug` text shows any part of a URL, because a mistyped one may hold the password anywhere.

use std::{fmt, path::PathBuf, str::FromStr};

use percent_encoding::percent_decode_str;
use sqlx::{mysql::MySqlSslMode, postgres::PgSslMode};
use url::Url;
use zeroize::Zeroizing;

/// Longest connection URL, in bytes. Real ones have some hundred.
pub const URL_BYTES_MAX: usize = 4096;

/// Where a tenant's database is and how to log in. A secret: it shows nothing of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionUrl(pub(crate) Driver, pub(crate) Mode);

/// What statements of a connection may do; the words of `mode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `rw`: what the database lets its user do.
    #[default]
    ReadWrite,
    /// `ro`: the host refuses every change.
    ReadOnly,
}

impl Mode {
    fn parse(text: &str) -> Result<Self, InvalidConnectionUrl> {
        match text {
            "rw" => Ok(Self::ReadWrite),
            "ro" => Ok(Self::ReadOnly),
            _ => Err(InvalidConnectionUrl::UnknownMode),
        }
    }

    pub(crate) fn is_read_only(self) -> bool {
        self == Self::ReadOnly
    }
}

/// A parsed URL, one variant for each kind of database.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Driver {
    /// A MySQL or MariaDB server.
    MySql(Box<ServerUrl>),
    /// A PostgreSQL server.
    Postgres(Box<ServerUrl>),
    /// A folder of SQLite files; relative to [`DataSettings::sqlite_base`](crate::data::DataSettings) unless absolute.
    Sqlite(PathBuf),
}

/// The parts of the URL of a database server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ServerUrl {
    /// Name, address, or the folder of a Unix socket.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: Option<Zeroizing<String>>,
    pub(crate) database: String,
    pub(crate) ssl_mode: SslMode,
    pub(crate) ssl_root_cert: Option<PathBuf>,
}

/// How to encrypt; the words of `sslmode`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Why a text is no connection URL. Says what is wrong without repeating any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConnectionUrl {
    /// Longer than [`URL_BYTES_MAX`].
    #[error("the connection URL is longer than {URL_BYTES_MAX} bytes")]
    TooLong,
    /// Of no kind of database that we know.
    #[error("the connection URL must begin with `postgres://`, `postgresql://`, `mysql://`, `mariadb://` or `sqlite:`")]
    Scheme,
    /// Not a URL.
    #[error(
        "the connection URL cannot be read: percent-encode `/`, `?`, `#`, `@`, `:` and `%` in the user and password"
    )]
    Syntax,
    /// A part is not UTF-8 once decoded, or holds a NUL.
    #[error("the connection URL's {0} is not valid text")]
    Text(&'static str),
    /// A part that must be there is missing.
    #[error("the connection URL has no {0}")]
    Missing(&'static str),
    /// A query parameter we do not know.
    #[error("the connection URL has an unknown parameter: known are `mode`, `sslmode`, `sslrootcert` and `host`")]
    UnknownParameter,
    /// `sslmode` is none of its words.
    #[error(
        "the connection URL's `sslmode` is unknown: use `disable`, `allow`, `prefer`, `require`, `verify-ca` or `verify-full`"
    )]
    UnknownSslMode,
    /// `mode` is none of its words.
    #[error("the connection URL's `mode` is unknown: use `ro` or `rw`")]
    UnknownMode,
    /// A SQLite URL with a host, user or parameter.
    #[error(
        "a SQLite connection URL names a folder and nothing else but `?mode=ro`: `sqlite:///absolute/folder` or `sqlite:folder`"
    )]
    SqliteFolder,
    /// A relative SQLite folder that leaves its base.
    #[error("a relative SQLite folder may not contain `..`")]
    SqliteParent,
}

impl ConnectionUrl {
    /// Whether it is a folder of SQLite files.
    #[must_use]
    pub fn is_sqlite(&self) -> bool {
        matches!(self.0, Driver::Sqlite(_))
    }

    /// The same database, of which nothing is changed.
    #[must_use]
    pub fn reading_only(self) -> Self {
        Self(self.0, Mode::ReadOnly)
    }

    /// Reads a URL: `postgres://user:password@host:5432/database?sslmode=require`, the same with `mysql://`,
    /// `sqlite:///absolute/folder` or `sqlite:folder`.
    ///
    /// # Errors
    ///
    /// Names what is wrong, without any part of the URL.
    pub fn parse(text: &str) -> Result<Self, InvalidConnectionUrl> {
        if text.len() > URL_BYTES_MAX {
            return Err(InvalidConnectionUrl::TooLong);
        }
        if let Some(folder) = text.strip_prefix("sqlite:") {
            let (folder, mode) = match folder.split_once("?mode=") {
                Some((folder, mode)) => (folder, Mode::parse(mode)?),
                None => (folder, Mode::default()),
            };
            return parse_sqlite(folder).map(|path| Self(Driver::Sqlite(path), mode));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return parse_server(text, 5432).map(|(url, mode)| Self(Driver::Postgres(Box::new(url)), mode));
        }
        if text.starts_with("mysql://") || text.starts_with("mariadb://") {
            return parse_server(text, 3306).map(|(url, mode)| Self(Driver::MySql(Box::new(url)), mode));
        }
        Err(InvalidConnectionUrl::Scheme)
    }
}

impl fmt::Debug for ConnectionUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Driver::MySql(_) => "ConnectionUrl(mysql)",
            Driver::Postgres(_) => "ConnectionUrl(postgres)",
            Driver::Sqlite(_) => "ConnectionUrl(sqlite)",
        })
    }
}

impl FromStr for ConnectionUrl {
    type Err = InvalidConnectionUrl;

    fn from_str(text: &str) -> Result<Self, InvalidConnectionUrl> {
        Self::parse(text)
    }
}

fn parse_sqlite(text: &str) -> Result<PathBuf, InvalidConnectionUrl> {
    let path = match text.strip_prefix("//") {
        Some(absolute) if absolute.starts_with('/') => absolute,
        Some(_) => return Err(InvalidConnectionUrl::SqliteFolder),
        None => text,
    };
    if path.contains(['?', '#']) {
        return Err(InvalidConnectionUrl::SqliteFolder);
    }
    let path = decode(path, "folder")?;
    if path.is_empty() {
        return Err(InvalidConnectionUrl::Missing("folder"));
    }
    let path = PathBuf::from(path);
    if path.is_relative() && path.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(InvalidConnectionUrl::SqliteParent);
    }
    Ok(path)
}

fn parse_server(text: &str, default_port: u16) -> Result<(ServerUrl, Mode), InvalidConnectionUrl> {
    let url = Url::parse(text).map_err(|_| InvalidConnectionUrl::Syntax)?;
    if url.fragment().is_some() {
        return Err(InvalidConnectionUrl::Syntax);
    }
    let user = decode(url.username(), "user")?;
    let password = url.password().map(|text| decode(text, "password")).transpose()?.map(Zeroizing::new);
    let mut host = decode(url.host_str().unwrap_or_default(), "host")?;
    let database = decode(url.path().trim_start_matches('/'), "database")?;
    let mut ssl_mode = SslMode::Prefer;
    let mut ssl_root_cert = None;
    let mut mode = Mode::default();
    for (name, value) in url.query_pairs() {
        match &*name {
            "mode" => mode = Mode::parse(&value)?,
            "sslmode" => ssl_mode = SslMode::parse(&value)?,
            "sslrootcert" => ssl_root_cert = Some(PathBuf::from(&*value)),
            "host" => host = value.into_owned(),
            _ => return Err(InvalidConnectionUrl::UnknownParameter),
        }
    }
    for (part, what) in [(&user, "user"), (&host, "host"), (&database, "database")] {
        if part.is_empty() {
            return Err(InvalidConnectionUrl::Missing(what));
        }
    }
    let port = url.port().unwrap_or(default_port);
    // An IPv6 address stands in brackets in a URL and without them in a connection.
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok((ServerUrl { host, port, user, password, database, ssl_mode, ssl_root_cert }, mode))
}

fn decode(text: &str, what: &'static str) -> Result<String, InvalidConnectionUrl> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| InvalidConnectionUrl::Text(what))?;
    if text.contains('\0') {
        return Err(InvalidConnectionUrl::Text(what));
    }
    Ok(text.into_owned())
}

impl SslMode {
    fn parse(text: &str) -> Result<Self, InvalidConnectionUrl> {
        Ok(match text {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return Err(InvalidConnectionUrl::UnknownSslMode),
        })
    }
}

impl From<SslMode> for PgSslMode {
    fn from(mode: SslMode) -> Self {
        match mode {
            SslMode::Disable => Self::Disable,
            SslMode::Allow => Self::Allow,
            SslMode::Prefer => Self::Prefer,
            SslMode::Require => Self::Require,
            SslMode::VerifyCa => Self::VerifyCa,
            SslMode::VerifyFull => Self::VerifyFull,
        }
    }
}

impl From<SslMode> for MySqlSslMode {
    fn from(mode: SslMode) -> Self {
        match mode {
            SslMode::Disable => Self::Disabled,
            // Encryption is asked for first or not at all here.
            SslMode::Allow | SslMode::Prefer => Self::Preferred,
            SslMode::Require => Self::Required,
            SslMode::VerifyCa => Self::VerifyCa,
            SslMode::VerifyFull => Self::VerifyIdentity,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> ServerUrl {
        match ConnectionUrl::parse(text).unwrap().0 {
            Driver::MySql(url) | Driver::Postgres(url) => *url,
            Driver::Sqlite(_) => panic!("{text} is no server"),
        }
    }

    #[test]
    fn reads_postgres_urls() {
        let url =
            server("postgresql://al%40ice:s%2Fe%3Acret@[::1]:6000/my%20db?sslmode=verify-full&sslrootcert=/ca.pem");
        assert_eq!(
            (url.host.as_str(), url.port, url.user.as_str(), url.database.as_str()),
            ("::1", 6000, "al@ice", "my db")
        );
        assert_eq!(url.password.as_deref().map(String::as_str), Some("s/e:cret"));
        assert!(url.ssl_mode == SslMode::VerifyFull && url.ssl_root_cert == Some("/ca.pem".into()));
        let url = server("postgres://u@localhost/db?host=/var/run/postgresql");
        assert_eq!((url.host.as_str(), url.port), ("/var/run/postgresql", 5432));
    }

    #[test]
    fn reads_mysql_urls() {
        for scheme in ["mysql", "mariadb"] {
            let url = server(&format!("{scheme}://al%40ice:s%2Fe@db.example/shop?sslmode=require"));
            assert_eq!((url.host.as_str(), url.port, url.user.as_str()), ("db.example", 3306, "al@ice"));
            assert!(url.database == "shop" && url.ssl_mode == SslMode::Require);
            let url = ConnectionUrl::parse(&format!("{scheme}://u:hunter2@h/d")).unwrap();
            assert_eq!(format!("{url:?}"), "ConnectionUrl(mysql)");
        }
    }

    #[test]
    fn reads_sqlite_folders() {
        for (text, path) in
            [("sqlite:///srv/a%20b", "/srv/a b"), ("sqlite:/srv/x", "/srv/x"), ("sqlite:acme/dw", "acme/dw")]
        {
            assert!(ConnectionUrl::parse(text).unwrap().0 == Driver::Sqlite(path.into()), "{text}");
        }
        assert_eq!(ConnectionUrl::parse("sqlite:a/../../b").unwrap_err(), InvalidConnectionUrl::SqliteParent);
        assert_eq!(ConnectionUrl::parse("sqlite://host/x").unwrap_err(), InvalidConnectionUrl::SqliteFolder);
        assert_eq!(ConnectionUrl::parse("sqlite:x?mode=memory").unwrap_err(), InvalidConnectionUrl::UnknownMode);
        assert_eq!(ConnectionUrl::parse("sqlite:x?cache=1").unwrap_err(), InvalidConnectionUrl::SqliteFolder);
        assert_eq!(ConnectionUrl::parse("sqlite:").unwrap_err(), InvalidConnectionUrl::Missing("folder"));
    }

    #[test]
    fn a_url_may_ask_for_reading_only() {
        for (text, mode) in [
            ("sqlite:x", Mode::ReadWrite),
            ("sqlite:x?mode=rw", Mode::ReadWrite),
            ("sqlite:x?mode=ro", Mode::ReadOnly),
            ("postgres://u@h/d", Mode::ReadWrite),
            ("postgres://u@h/d?sslmode=disable&mode=ro", Mode::ReadOnly),
        ] {
            assert_eq!(ConnectionUrl::parse(text).unwrap().1, mode, "{text}");
        }
        assert_eq!(ConnectionUrl::parse("postgres://u@h/d?mode=x").unwrap_err(), InvalidConnectionUrl::UnknownMode);
    }

    #[test]
    fn no_text_shows_any_part_of_a_url() {
        for bad in [
            "hunter2",
            "oracle://u:hunter2@h/d",
            "mysql://u:hunter2@h/",
            "postgres://u:hun/ter2@h/d",
            "postgres://u:1?hunter2@h/d",
            "postgres://u:1#hunter2@h/d",
            "postgres://u:hunter2@h/",
            "postgres://:hunter2@h/d",
            "postgres://u:hunter2@/d",
            "postgres://u:%ffhunter2@h/d",
            "postgres://u:hunter2@h/d?hunter2=1",
            "postgres://u:x@h/d?sslmode=hunter2",
            "postgres://u:hunter2%00@h/d",
            "postgres://u:hunter2@h:99999/d",
            &"hunter2".repeat(1000),
        ] {
            let error = ConnectionUrl::parse(bad).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
        let url = ConnectionUrl::parse("postgres://u:hunter2@h/d").unwrap();
        assert_eq!(format!("{url:?}"), "ConnectionUrl(postgres)");
    }
}
