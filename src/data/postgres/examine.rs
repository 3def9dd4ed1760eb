//! Set if a role is one that scripts should have.

use std::time::Duration;

use sqlx::{Connection as _, Row as _, postgres::PgConnection};
use tokio::runtime::Handle;

use crate::data::{DataSettings, postgres::driver::PostgresPool, url::ServerUrl};

/// Connects, for at most this long, and says what is wrong with the role.
pub(crate) async fn examine(url: &ServerUrl, time: Duration) -> Result<Option<String>, sqlx::Error> {
    let pool = PostgresPool::new(url.clone(), true, &DataSettings::new("/".into()), Handle::current());
    let mut connection = PgConnection::connect_with(&pool.options(time, false)).await?;
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
