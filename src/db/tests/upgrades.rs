//! Programs of two versions at one database.

use super::*;
use crate::db::signing_keys::SigningKey;

#[tokio::test]
async fn tokens_of_an_older_pqhost_stay_good_for_the_endpoints_of_their_route() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let tenant = create_tenant(&db, "acme").await;
        let script = ensure_script(&db, tenant, "hello").await;
        let create = async |methods, route| {
            db.endpoints().create_endpoint(tenant, &new_endpoint(script, methods, route)).await.unwrap().id
        };
        let mut of_a = vec![create("GET", "/a").await, create("POST", "/a").await];
        create("GET", "/b").await;
        for sql in [
            "DROP TABLE token_endpoint",
            "DROP INDEX token_by_expiry",
            "DROP INDEX preview_by_expiry",
            "DELETE FROM _sqlx_migrations WHERE version = 22",
            "INSERT INTO token (id, tenant_id, name, endpoint_route, created_at_ms, expires_at_ms)
         VALUES ('bound', 1, '', '/a', 0, 9), ('free', 1, '', NULL, 0, 9)",
        ] {
            sqlx::query(sql).execute(&db.writer).await.unwrap();
        }
        db.close().await;
        let db = fresh.open().await;
        let mut found = db.tokens().list_endpoints_of(tenant, "bound").await.unwrap();
        found.sort();
        of_a.sort();
        assert_eq!(found, of_a);
        assert_eq!(db.tokens().list_endpoints_of(tenant, "free").await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn keys_and_tokens_of_an_older_pqhost_are_of_the_only_kind_that_it_had() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let tenant = create_tenant(&db, "acme").await;
        for sql in [
            "DROP TABLE issuer",
            "DROP INDEX signing_key_by_end",
            "ALTER TABLE signing_key DROP COLUMN algorithm",
            "ALTER TABLE signing_key DROP COLUMN public_key",
            "ALTER TABLE signing_key DROP COLUMN verifies_until_ms",
            "ALTER TABLE token DROP COLUMN methods",
            "ALTER TABLE token DROP COLUMN claims",
            "ALTER TABLE token DROP COLUMN last_used_at_ms",
            "DELETE FROM _sqlx_migrations WHERE version = 30",
            "INSERT INTO token (id, tenant_id, name, endpoint_route, created_at_ms, expires_at_ms)
             VALUES ('bound', 1, '', '/a b', 0, 9)",
        ] {
            sqlx::query(sql).execute(&db.writer).await.unwrap();
        }
        sqlx::query("INSERT INTO signing_key (tenant_id, kid, sealed, created_at_ms) VALUES (1, 'k', $1, 7)")
            .bind(b"sealed".to_vec())
            .execute(&db.writer)
            .await
            .unwrap();
        db.close().await;
        let db = fresh.open().await;
        let key = SigningKey {
            kid: "k".to_owned(),
            algorithm: KeyAlgorithm::Hs256,
            sealed: b"sealed".to_vec(),
            public_key: None,
            created_at_ms: 7,
            verifies_until_ms: None,
        };
        assert_eq!(db.signing_keys().list(tenant).await.unwrap(), [key]);
        let token = db.tokens().find_token(tenant, "bound").await.unwrap().unwrap();
        assert_eq!((token.routes, token.methods, token.claims.len()), (Some(vec!["/a b".to_owned()]), None, 0));
        assert_eq!(token.row_filters, None);
    })
    .await;
}

#[tokio::test]
async fn what_an_older_pqhost_does_not_know_goes_with_what_it_deletes() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let tenant = create_tenant(&db, "acme").await;
        let script = ensure_script(&db, tenant, "hello").await;
        for name in ["one", "two"] {
            let (name, seal) = (name.parse().unwrap(), |_| vec![]);
            let created = db.connections().create_connection(tenant, &name, ConnectionKind::Sql, seal).await;
            db.connections().set_readers(tenant, &created.unwrap().0, &[script], true).await.unwrap();
        }
        db.recordings().ensure_key(tenant, || b"key".to_vec()).await.unwrap();
        db.issuers().insert_issuer(tenant, &callers::issuer("https://login.example.com")).await.unwrap();
        let count = async |sql| sqlx::query_scalar::<_, i64>(sql).fetch_one(&db.readers).await.unwrap();
        for (delete, grants) in [
            ("UPDATE tenant SET default_connection_id = NULL", 2),
            ("DELETE FROM connection WHERE name = 'one'", 1),
            ("DELETE FROM script", 0),
            ("DELETE FROM connection", 0),
            ("DELETE FROM tenant", 0),
        ] {
            sqlx::query(delete).execute(&db.writer).await.unwrap();
            assert_eq!(count("SELECT COUNT(*) FROM connection_grant").await, grants, "{delete}");
        }
        assert_eq!(count("SELECT COUNT(*) FROM recording_key").await, 0);
        assert_eq!(count("SELECT COUNT(*) FROM issuer").await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_column_that_a_newer_pqhost_adds_disturbs_no_host_that_runs() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let tenant = create_tenant(&db, "acme").await;
        let script = ensure_script(&db, tenant, "hello").await;
        let version = db.versions().insert_version(tenant, new_version(script)).await.unwrap();
        db.tokens().insert_token(tenant, &new_token("t")).await.unwrap();
        let holder = Holder::Tenant { tenant, role: crate::domain::people::Role::Author };
        let (id, hash) = ("c".to_owned(), "h".to_owned());
        let new = NewCredential { id, holder, name: String::new(), hash, expires_at_ms: 9 };
        db.credentials().insert_credential(&new, Grounds::None).await.unwrap();
        let read = async || {
            assert!(db.versions().find_version(tenant, version.id).await.unwrap().is_some());
            assert!(db.tokens().find_token(tenant, "t").await.unwrap().is_some());
            assert!(db.credentials().find_by_hash("h").await.unwrap().is_some());
        };
        read().await; // connections remember statements
        for table in ["version", "token", "credential"] {
            let sql = format!("ALTER TABLE {table} ADD COLUMN newer BIGINT NOT NULL DEFAULT 0");
            sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&db.writer).await.unwrap();
        }
        read().await;
    })
    .await;
}
