//! What an operator should know of a connection before scripts use it.

use std::{future::Future, net::IpAddr, path::Path, time::Duration};

use tokio::time::timeout;

use crate::data::{
    mysql, postgres,
    url::{ConnectionUrl, Driver, ServerUrl, SslMode},
};

/// Longest that an operator waits for a database that does not answer.
const EXAMINING_TIME: Duration = Duration::from_secs(5);

/// Shorter passwords are too likely to be part of innocent words.
const REDACTED_BYTES_MIN: usize = 3;

/// What came of looking at a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examination {
    /// Set if the database answers.
    pub is_reachable: bool,
    /// What is wrong or risky, in sentences. They may repeat what the database says, but never the password.
    pub remarks: Vec<String>,
}

/// Looks at a connection's URL, and tries to connect for at most some seconds.
pub async fn examine(url: &ConnectionUrl, sqlite_base: &Path) -> Examination {
    match &url.0 {
        Driver::MySql(url) => examine_server(url, mysql::examine(url, EXAMINING_TIME)).await,
        Driver::Postgres(url) => examine_server(url, postgres::examine(url, EXAMINING_TIME)).await,
        Driver::Sqlite(folder) => {
            let folder = sqlite_base.join(folder);
            let looking = tokio::task::spawn_blocking(move || examine_folder(&folder));
            looking.await.expect("looking at a folder does not panic")
        }
    }
}

/// Says what is wrong with a connection to a server, without its password. `asking` connects.
async fn examine_server(
    url: &ServerUrl,
    asking: impl Future<Output = Result<Option<String>, sqlx::Error>>,
) -> Examination {
    let mut remarks: Vec<String> = of_encryption(url).map(str::to_owned).into_iter().collect();
    let answer = timeout(EXAMINING_TIME, asking).await;
    let is_reachable = matches!(answer, Ok(Ok(_)));
    match answer {
        Ok(Ok(remark)) => remarks.extend(remark),
        Ok(Err(error)) => remarks.push(format!("cannot connect: {}", message_of(&error))),
        Err(_) => remarks.push(format!("cannot connect: the database did not answer within {EXAMINING_TIME:?}")),
    }
    let secret = url.password.as_deref().map(String::as_str).filter(|text| text.len() >= REDACTED_BYTES_MIN);
    if let Some(secret) = secret {
        remarks = remarks.into_iter().map(|text| text.replace(secret, "[password]")).collect();
    }
    Examination { is_reachable, remarks }
}

fn of_encryption(url: &ServerUrl) -> Option<&'static str> {
    let address = url.host.parse::<IpAddr>().map(|address| address.to_canonical());
    let is_local = url.host.starts_with('/') || url.host == "localhost" || address.is_ok_and(|a| a.is_loopback());
    match url.ssl_mode {
        _ if is_local => None,
        SslMode::Disable | SslMode::Allow | SslMode::Prefer => Some(
            "the database is on another machine, and the connection to it may be unencrypted: add `sslmode=verify-full`",
        ),
        SslMode::Require => Some(
            "the connection is encrypted but does not notice an impostor: use `sslmode=verify-full` beyond one machine",
        ),
        SslMode::VerifyCa | SslMode::VerifyFull => None,
    }
}

fn message_of(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

fn examine_folder(folder: &Path) -> Examination {
    let shown = folder.display();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            let remarks = vec![format!("the folder `{shown}` cannot be read: {error}")];
            return Examination { is_reachable: false, remarks };
        }
    };
    let has_schema = entries.flatten().any(|entry| entry.path().extension().is_some_and(|extension| extension == "db"));
    let remark = || format!("the folder `{shown}` has no file `<schema>.db` yet, so there is no schema");
    Examination { is_reachable: true, remarks: (!has_schema).then(remark).into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn warnings(url: &str, base: &Path) -> Vec<String> {
        examine(&ConnectionUrl::parse(url).unwrap(), base).await.remarks
    }

    #[tokio::test]
    async fn a_folder_is_there_and_has_a_schema() {
        let base = tempfile::tempdir().unwrap();
        assert!(warnings("sqlite:acme", base.path()).await[0].contains("acme` cannot be read: No such file"));
        std::fs::create_dir(base.path().join("acme")).unwrap();
        assert!(warnings("sqlite:acme", base.path()).await[0].contains("has no file `<schema>.db` yet"));
        std::fs::write(base.path().join("acme/main.db"), "").unwrap();
        assert_eq!(warnings("sqlite:acme", base.path()).await, [""; 0]);
    }

    #[tokio::test]
    async fn a_postgres_role_should_be_nobody_special() {
        let base = Path::new("/");
        let superuser = warnings("postgres://postgres@127.0.0.1:5432/test", base).await;
        assert_eq!(superuser.len(), 1, "{superuser:?}");
        assert!(superuser[0].contains("role `postgres` is a superuser"), "{superuser:?}");

        let role = format!("examined_{}", std::process::id());
        let mut admin = {
            use sqlx::Connection as _;
            sqlx::PgConnection::connect("postgres://postgres@127.0.0.1:5432/test").await.unwrap()
        };
        let mut execute = async |sql: String| {
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
        };
        execute(format!("CREATE ROLE {role} LOGIN PASSWORD 'p'")).await;
        let url = format!("postgres://{role}:p@127.0.0.1:5432/test");
        let plain = warnings(&url, base).await;
        execute(format!("GRANT pg_read_server_files TO {role}")).await;
        let member = warnings(&url, base).await;
        execute(format!("DROP ROLE {role}")).await;
        assert_eq!(plain, [""; 0]);
        assert!(member[0].contains("reaches files or programs of the database's machine"), "{member:?}");
    }

    #[tokio::test]
    async fn a_mysql_account_should_be_nobody_special() {
        let base = Path::new("/");
        let root = warnings("mysql://root@127.0.0.1:3306/test", base).await;
        assert_eq!(root.len(), 1, "{root:?}");
        assert!(root[0].contains("has ALL PRIVILEGES on the whole server"), "{root:?}");

        let account = format!("examined_{}", std::process::id());
        let mut admin = {
            use sqlx::Connection as _;
            sqlx::MySqlConnection::connect("mysql://root@127.0.0.1:3306/test").await.unwrap()
        };
        let mut execute = async |sql: String| {
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
        };
        execute(format!("CREATE USER {account} IDENTIFIED BY 's3cret'; GRANT SELECT ON test.* TO {account}")).await;
        let url = format!("mysql://{account}:s3cret@127.0.0.1:3306/test");
        let plain = warnings(&url, base).await;
        execute(format!("GRANT FILE, PROCESS ON *.* TO {account}")).await;
        let special = warnings(&url, base).await;
        execute(format!("DROP USER {account}")).await;
        assert_eq!(plain, [""; 0]);
        assert!(special[0].contains("has FILE on the whole server"), "{special:?}");
        let refused = warnings("mysql://nobody_of_this_name:s3cret@127.0.0.1:3306/test", base).await;
        assert!(refused[0].contains("cannot connect: Access denied"), "{refused:?}");
        let remote = warnings("mysql://u:p@pqhost.invalid:1/test", base).await;
        assert!(remote[0].contains("may be unencrypted"), "{remote:?}");
    }

    #[tokio::test]
    async fn what_the_database_says_is_shown_but_no_password() {
        let base = Path::new("/");
        let unknown = warnings("postgres://nobody_of_this_name:s3cret@127.0.0.1:5432/test", base).await;
        assert!(unknown[0].contains("cannot connect: role \"nobody_of_this_name\" does not exist"), "{unknown:?}");
        let database = warnings("postgres://postgres:s3cret@127.0.0.1:5432/no_s3cret_here", base).await;
        assert!(database[0].contains("no_[password]_here"), "{database:?}");
        let closed = warnings("postgres://u:s3cret@127.0.0.1:1/test", base).await;
        assert!(closed[0].contains("cannot connect: ") && closed[0].contains("refused"), "{closed:?}");
    }

    #[tokio::test]
    async fn a_password_should_not_cross_a_network_unprotected() {
        let base = Path::new("/");
        for (mode, warning) in [
            ("", "may be unencrypted"),
            ("?sslmode=disable", "may be unencrypted"),
            ("?sslmode=require", "does not notice an impostor"),
            ("?sslmode=verify-full", ""),
        ] {
            // Nobody is there, and no name is looked up: an address of documentation.
            let found = warnings(&format!("postgres://u:p@[::ffff:127.0.0.2]:1/test{mode}"), base).await;
            assert_eq!(found.len(), 1, "loopback is this machine: {found:?}");
            let found = warnings(&format!("postgres://u:p@pqhost.invalid:1/test{mode}"), base).await;
            let about_encryption: Vec<_> = found.iter().filter(|text| text.contains("sslmode")).collect();
            assert_eq!(about_encryption.len(), usize::from(!warning.is_empty()), "{mode}: {found:?}");
            assert!(about_encryption.iter().all(|text| text.contains(warning)), "{mode}: {found:?}");
        }
    }
}
