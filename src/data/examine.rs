//! What an operator should know of a connection before scripts use it.

use std::path::Path;

use crate::data::{
    postgres,
    url::{ConnectionUrl, Driver},
};

/// Looks at a connection's URL, tries to connect for at most some seconds, and says what is wrong with it, in sentences.
/// They may repeat what the database says, but never the password.
pub async fn examine(url: &ConnectionUrl, sqlite_base: &Path) -> Vec<String> {
    match &url.0 {
        Driver::Postgres(url) => postgres::examine(url).await,
        Driver::Sqlite(folder) => {
            let folder = sqlite_base.join(folder);
            let looking = tokio::task::spawn_blocking(move || examine_folder(&folder));
            looking.await.expect("looking at a folder does not panic").into_iter().collect()
        }
    }
}

fn examine_folder(folder: &Path) -> Option<String> {
    let shown = folder.display();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return Some(format!("the folder `{shown}` cannot be read: {error}")),
    };
    let has_schema = entries.flatten().any(|entry| entry.path().extension().is_some_and(|extension| extension == "db"));
    (!has_schema).then(|| format!("the folder `{shown}` has no file `<schema>.db` yet, so there is no schema"))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn warnings(url: &str, base: &Path) -> Vec<String> {
        examine(&ConnectionUrl::parse(url).unwrap(), base).await
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
