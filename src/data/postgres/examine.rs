//! Whether a role is one that scripts should have.

use std::{net::IpAddr, time::Duration};

use sqlx::{Connection as _, Row as _, postgres::PgConnection};
use tokio::time::timeout;

use crate::data::{
    DataSettings,
    postgres::PostgresPool,
    url::{PostgresUrl, SslMode},
};

/// Longest that an operator waits for a database that does not answer.
const EXAMINING_TIME: Duration = Duration::from_secs(5);

/// Shorter passwords are too likely to be part of innocent words.
const REDACTED_BYTES_MIN: usize = 3;

/// Says what is wrong with a connection, without its password.
pub(crate) async fn examine(url: &PostgresUrl) -> Vec<String> {
    let mut warnings: Vec<String> = of_encryption(url).map(str::to_owned).into_iter().collect();
    match timeout(EXAMINING_TIME, ask(url)).await {
        Ok(Ok(None)) => {}
        Ok(Ok(Some(warning))) => warnings.push(warning),
        Ok(Err(error)) => warnings.push(format!("cannot connect: {}", message_of(&error))),
        Err(_) => warnings.push(format!("cannot connect: the database did not answer within {EXAMINING_TIME:?}")),
    }
    let secret = url.password.as_deref().map(String::as_str).filter(|text| text.len() >= REDACTED_BYTES_MIN);
    match secret {
        Some(secret) => warnings.into_iter().map(|text| text.replace(secret, "[password]")).collect(),
        None => warnings,
    }
}

fn of_encryption(url: &PostgresUrl) -> Option<&'static str> {
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

async fn ask(url: &PostgresUrl) -> Result<Option<String>, sqlx::Error> {
    let pool = PostgresPool::new(url.clone(), &DataSettings::new("/".into()));
    let mut connection = PgConnection::connect_with(&pool.options(EXAMINING_TIME, false)).await?;
    let row = sqlx::query(
        "SELECT rolname::text, rolsuper, EXISTS (
             SELECT FROM pg_catalog.pg_roles AS special
             WHERE special.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files')
               AND pg_catalog.pg_has_role(special.oid, 'MEMBER'))
         FROM pg_catalog.pg_roles WHERE rolname = current_user",
    )
    .fetch_one(&mut connection)
    .await?;
    let (role, is_superuser, reaches_files): (String, bool, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    _ = connection.close().await; // the answer is here
    Ok(if is_superuser {
        Some(format!(
            "role `{role}` is a superuser: scripts could do anything to the whole server; use a role of its own"
        ))
    } else if reaches_files {
        Some(format!("role `{role}` reaches files or programs of the database's machine; use a role that does not"))
    } else {
        None
    })
}

fn message_of(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}
