//! What differs between a file and a server.

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt as _, time::Duration};

use tokio::time::timeout;

use super::*;
use crate::db::migrations::{MigrationState, list_migrations};

/// No test takes this long unless something hangs.
const HANG_GUARD: Duration = Duration::from_secs(120);

#[tokio::test]
async fn a_file_that_cannot_be_a_database_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a #?% db");
    Db::open(&ControlDatabase::File(path.clone())).await.unwrap();
    let mode = std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let text = folder.path().join("text.db");
    std::fs::write(&text, "no database ".repeat(1000)).unwrap();
    for (path, expected) in [(text.as_path(), "not a database"), (Path::new("/nonexistent/pqhost.db"), "No such file")]
    {
        let error = Db::open(&ControlDatabase::File(path.to_owned())).await.unwrap_err().to_string();
        assert!(error.contains(&format!("`{}`", path.display())) && error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_used_is_named_without_the_password() {
    let open = async |url: &str| {
        let database = ControlDatabase::Server(url.parse().unwrap());
        let error = timeout(HANG_GUARD, Db::open(&database)).await.expect("it is given up").unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(!text.contains("hunter2"), "{text}");
        assert!(matches!(error, DbError::Unreachable(_)), "{text}");
        error.to_string()
    };
    let refused = open("postgres://postgres:hunter2@127.0.0.1:1/test").await;
    assert!(refused.contains("`127.0.0.1:1/test`") && refused.contains("refused"), "{refused}");
    // One that accepts and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let timed_out = open(&format!("postgres://postgres:hunter2@127.0.0.1:{port}/test?sslmode=disable")).await;
    assert!(
        timed_out.contains(&format!("127.0.0.1:{port}")) && timed_out.contains("no connection within"),
        "{timed_out}"
    );
    on_server(async |_| {
        let unknown = open("postgres://postgres:hunter2@127.0.0.1:5432/pqhost_no_such_database").await;
        assert!(unknown.contains("127.0.0.1:5432") && unknown.contains("does not exist"), "{unknown}");
        let unknown = open("postgres://pqhost_nobody:hunter2@127.0.0.1:5432/test").await;
        assert!(unknown.contains("pqhost_nobody"), "{unknown}");
    })
    .await;
}

#[tokio::test]
async fn connections_that_the_server_ends_are_replaced() {
    on_server(async |fresh| {
        let db = fresh.open().await;
        let tenant = create_tenant(&db, "acme").await;
        let others = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1";
        let end_all = async || -> i64 {
            let mut admin = fresh::admin().await.unwrap();
            sqlx::query_scalar(others).bind(&fresh.name).fetch_one(&mut admin).await.unwrap()
        };
        // Idle ones: nobody notices.
        db.audit().list(None, None, 10).await.unwrap();
        assert!(end_all().await > 0);
        assert_eq!(db.audit().list(None, None, 10).await.unwrap().len(), 1);

        // In the middle of a change: an error, and nothing is kept.
        let mut tx = db.begin_change(tenant, "half", "a change").await.unwrap();
        sqlx::query("SELECT seq FROM audit").execute(&mut *tx).await.unwrap();
        assert!(end_all().await > 0);
        let error = DbError::from(sqlx::query("SELECT 1").execute(&mut *tx).await.unwrap_err());
        assert!(matches!(error, DbError::Unreachable(_)), "{error:?}");
        drop(tx);
        assert_eq!(db.audit().list(None, None, 10).await.unwrap().len(), 1);
        create_tenant(&db, "globex").await;
    })
    .await;
}

#[tokio::test]
async fn text_that_a_server_cannot_store_is_refused_and_nothing_else() {
    on_server(async |fresh| {
        let db = fresh.open().await;
        let tenant = create_tenant(&db, "acme").await;
        let token = |name: &str| NewToken { name: name.to_owned(), ..new_token("t") };
        let error = db.tokens().insert_token(tenant, &token("a\0b")).await.unwrap_err();
        assert!(matches!(error, DbError::NulInText), "{error:?}");
        db.tokens().insert_token(tenant, &token("a\u{1}\u{10ffff}b")).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_change_that_waits_too_long_for_another_is_told_so() {
    on_server(async |fresh| {
        let (one, other) = (fresh.open().await, fresh.open().await);
        let held = one.begin_derived_change(None).await.unwrap();
        let error = other.tenants().create_tenant(&"acme".parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, DbError::Busy), "{error:?}");
        drop(held);
        create_tenant(&other, "acme").await;
    })
    .await;
}

#[tokio::test]
async fn who_follows_the_log_of_several_hosts_misses_nothing() {
    on_server(async |fresh| {
        let (one, other) = (fresh.open().await, fresh.open().await);
        let tenant = create_tenant(&one, "acme").await;
        let writers = [one.clone(), other].map(|db| async move {
            for _ in 0..50 {
                let batch: Vec<_> = (0..20).map(|_| record(tenant)).collect();
                db.invocations().insert_batch(&batch, &[]).await.unwrap();
            }
        });
        let following = async {
            let (mut after, mut seen) = (0, 0);
            while seen < 2000 {
                let new = one.invocations().list(tenant, Some(after), 1000).await.unwrap();
                after = new.last().map_or(after, |entry| entry.seq);
                seen += new.len();
            }
        };
        let both = futures::future::join(futures::future::join_all(writers), following);
        timeout(HANG_GUARD, both).await.expect("all 2000 are seen");
    })
    .await;
}

/// Table and column, and whether the column may be absent.
pub(super) async fn columns(fresh: &Fresh) -> BTreeMap<(String, String), bool> {
    let sql = match &fresh.database {
        // A primary key may be NULL in SQLite, but never is.
        ControlDatabase::File(_) => {
            "SELECT t.name, c.name, 1 - MAX(c.\"notnull\", c.pk > 0) FROM sqlite_master t JOIN pragma_table_info(t.name) c
             WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' AND t.name NOT LIKE '_sqlx_%'"
        }
        ControlDatabase::Server(_) => {
            "SELECT table_name::text, column_name::text, CASE is_nullable WHEN 'YES' THEN 1 ELSE 0 END
             FROM information_schema.columns WHERE table_schema = current_schema() AND table_name NOT LIKE '_sqlx_%'"
        }
    };
    let db = fresh.open().await;
    let rows: Vec<(String, String, i64)> = sqlx::query_as(sql).fetch_all(&db.readers).await.unwrap();
    rows.into_iter().map(|(table, column, nullable)| ((table, column), nullable != 0)).collect()
}

#[tokio::test]
async fn both_kinds_have_the_same_schema() {
    let file = columns(&Fresh::file()).await;
    assert!(file.len() > 100, "{file:?}");
    on_server(async |fresh| {
        let server = columns(fresh).await;
        type Columns = BTreeMap<(String, String), bool>;
        let only = |a: &Columns, b: &Columns| -> Vec<String> {
            a.iter().filter(|(key, value)| b.get(*key) != Some(*value)).map(|entry| format!("{entry:?}")).collect()
        };
        let differences = (only(&file, &server), only(&server, &file));
        assert!(differences.0.is_empty() && differences.1.is_empty(), "migrations differ: {differences:?}");

        let db = fresh.open().await;
        let odd: Vec<(String, String, String)> = sqlx::query_as(
            "SELECT table_name::text, column_name::text, data_type::text FROM information_schema.columns
             WHERE table_schema = current_schema() AND table_name NOT LIKE '_sqlx_%'
             AND NOT (data_type = 'text' AND collation_name = 'C' OR data_type IN ('bigint', 'bytea'))",
        )
        .fetch_all(&db.readers)
        .await
        .unwrap();
        assert_eq!(odd, [], "text is ordered byte by byte, and other types cannot be read from both");
    })
    .await;
    let numbers = async |fresh: &Fresh| {
        let all = list_migrations(&fresh.database).await.unwrap();
        all.into_iter().map(|migration| migration.number).filter(|number| *number > 20).collect::<Vec<_>>()
    };
    let of_file = numbers(&Fresh::file()).await;
    on_server(async |fresh| assert_eq!(numbers(fresh).await, of_file)).await;
}

#[tokio::test]
async fn migrations_are_listed_as_they_are() {
    on_each(async |fresh| {
        let states = async || {
            let all = list_migrations(&fresh.database).await.unwrap();
            all.into_iter().map(|migration| migration.state).collect::<Vec<_>>()
        };
        let before = states().await;
        assert!(!before.is_empty() && before.iter().all(|state| *state == MigrationState::Pending), "{before:?}");
        if let ControlDatabase::File(path) = &fresh.database {
            assert!(!path.exists(), "looking creates nothing");
        }
        let db = fresh.open().await;
        let after = states().await;
        assert!(
            after.len() == before.len() && after.iter().all(|state| *state == MigrationState::Applied),
            "{after:?}"
        );

        // The schema of a newer pqhost is accepted.
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (9999, 'later', TRUE, $1, 0)",
        )
        .bind(vec![0_u8])
        .execute(&db.writer)
        .await
        .unwrap();
        db.close().await;
        fresh.open().await;
        assert_eq!(states().await.last(), Some(&MigrationState::Newer));
    })
    .await;
}
