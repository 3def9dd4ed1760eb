//! Set if an account is one that scripts should have.

use std::time::Duration;

use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use crate::data::{mysql::session::Connector, url::ServerUrl};

/// Rights on the whole server that no script needs: everything, other sessions, files, other accounts.
const TOO_MUCH: [&str; 5] = ["ALL PRIVILEGES", "SUPER", "FILE", "PROCESS", "CREATE USER"];

/// Connects, for at most this long, and says what is wrong with the account.
pub(crate) async fn examine(url: &ServerUrl, time: Duration) -> Result<Option<String>, sqlx::Error> {
    let mut connection = Connector::new(url.clone(), true, time).options().connect().await?;
    let grants = sqlx::raw_sql("SHOW GRANTS").fetch_all(&mut connection).await?;
    let grants = grants.iter().map(|row| row.try_get::<String, _>(0)).collect::<Result<Vec<_>, _>>()?;
    _ = connection.close().await; // the answer is here
    let of_server = grants.iter().filter_map(|grant| grant.split_once(" ON *.* ")).map(|(rights, _)| rights);
    let rights: Vec<&str> =
        of_server.flat_map(|rights| rights.trim_start_matches("GRANT ").split(',')).map(str::trim).collect();
    Ok(TOO_MUCH.iter().find(|right| rights.contains(right)).map(|right| {
        format!("the account has {right} on the whole server, which scripts should not have; use an account of its own")
    }))
}
