//! What a process remembers, and which changes end that.

use std::time::Duration;

use crate::{
    db::{
        Db,
        cache::TenantCache,
        connections::ConnectionKind,
        tests::{
            callers, create_tenant, ensure_script, fresh::on_each, new_endpoint, new_token, new_version, record,
            signing_key,
        },
        uses::{Presented, Use},
    },
    domain::names::TenantId,
};

#[tokio::test]
async fn every_change_is_seen_by_other_handles_and_concerns_its_tenant_only_and_the_log_is_none() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let watcher = fresh.open().await;
        let bystander = create_tenant(&db, "globex").await;
        watcher.look_for_changes().await.unwrap();
        let cache = TenantCache::new(&watcher, Duration::from_secs(3600), 100, |()| 1);
        let remember = |tenant: TenantId| cache.insert(tenant, watcher.now(), ());
        let is_remembered = async |tenant: TenantId| {
            watcher.look_for_changes().await.unwrap();
            cache.get(tenant, &tenant).is_some()
        };
        remember(bystander);
        let tenant = create_tenant(&db, "acme").await;
        remember(tenant);
        let expect_change = async |what: &str| {
            assert!(!is_remembered(tenant).await, "{what} is not seen");
            assert!(is_remembered(bystander).await, "{what} is none of a bystander's");
            remember(tenant);
        };
        let script = ensure_script(&db, tenant, "hello").await;
        expect_change("ensure_script").await;
        let version = db.versions().insert_version(tenant, new_version(script)).await.unwrap();
        expect_change("insert_version").await;
        db.versions().update_image(tenant, version.id, &version.loaded).await.unwrap();
        expect_change("update_image").await;
        db.endpoints().create_endpoint(tenant, &new_endpoint(script, "GET", "/a")).await.unwrap();
        expect_change("create_endpoint").await;
        db.tokens().insert_token(tenant, &new_token("t")).await.unwrap();
        expect_change("insert_token").await;
        db.tokens().revoke_token(tenant, "t").await.unwrap();
        expect_change("revoke_token").await;
        db.signing_keys().insert(tenant, &signing_key("k"), None, || b"s".to_vec()).await.unwrap();
        expect_change("insert of a signing key").await;
        db.signing_keys().insert(tenant, &signing_key("l"), None, || b"s".to_vec()).await.unwrap();
        expect_change("insert of another one").await;
        db.signing_keys().delete(tenant, "k").await.unwrap();
        expect_change("delete of a signing key").await;
        let issuer = callers::issuer("https://login.example.com");
        db.issuers().insert_issuer(tenant, &issuer).await.unwrap();
        expect_change("insert_issuer").await;
        db.issuers().delete_issuer(tenant, &issuer.issuer).await.unwrap();
        expect_change("delete_issuer").await;
        let connection = db
            .connections()
            .create_connection(tenant, &"dw".parse().unwrap(), ConnectionKind::Sql, |_| vec![])
            .await
            .unwrap()
            .0
            .id;
        expect_change("create_connection").await;
        db.tenants().set_default_connection(tenant, connection).await.unwrap();
        expect_change("set_default_connection").await;
        let row = db.connections().find_connection(tenant, &"dw".parse().unwrap()).await.unwrap().unwrap();
        db.connections().set_readers(tenant, &row, &[], true).await.unwrap();
        expect_change("set_readers of a connection").await;
        db.egress().allow(tenant, &"api.example.com".parse().unwrap()).await.unwrap();
        expect_change("allow").await;
        db.egress().deny(tenant, &"api.example.com".parse().unwrap()).await.unwrap();
        expect_change("deny").await;

        db.invocations().insert_batch(&[record(tenant)], &[]).await.unwrap();
        watcher.invocations().insert_batch(&[record(tenant)], &[]).await.unwrap();
        db.invocations().prune(tenant, 0, 10).await.unwrap();
        ensure_script(&db, tenant, "hello").await;
        let user = db.users().create_user(&"ann@example.com".parse().unwrap(), "hash").await.unwrap();
        assert!(db.users().delete_user(user, &"ann@example.com".parse().unwrap()).await.unwrap());
        db.audit().note(tenant, "preview_table", "dw.orders").await.unwrap();
        assert_eq!(db.audit().list(Some(tenant), None, 1).await.unwrap()[0].target, "dw.orders");
        db.recordings().ensure_key(tenant, || b"key".to_vec()).await.unwrap();
        for presented in [Presented::Token, Presented::ConsumerKey] {
            db.uses().note_uses(&[Use { presented, tenant, id: "t".into(), at_ms: 1 }]).await.unwrap();
        }
        db.tenants().create_tenant(&"acme".parse().unwrap()).await.unwrap_err();
        assert!(is_remembered(tenant).await, "nothing that a host remembers has changed");
    })
    .await;
}

/// Remembers a tenant, and what is known of a name that nobody has.
struct Remembering {
    db: Db,
    cache: TenantCache<&'static str, Option<TenantId>>,
}

impl Remembering {
    fn new(db: Db) -> Self {
        let cache = TenantCache::new(&db, Duration::from_secs(3600), 100, |_| 1);
        Self { db, cache }
    }

    fn remember(&self, name: &'static str, tenant: Option<TenantId>) {
        self.cache.insert(name, self.db.now(), tenant);
    }

    async fn knows(&self, name: &'static str) -> bool {
        self.db.look_for_changes().await.unwrap();
        self.cache.get_of(&name, |tenant| *tenant).is_some()
    }
}

#[tokio::test]
async fn what_was_read_before_a_change_is_not_believed_after_it_whoever_was_slow() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let tenant = create_tenant(&db, "acme").await;
        let host = Remembering::new(fresh.open().await);
        host.db.look_for_changes().await.unwrap();
        let read_at = host.db.now();
        let generation = host.db.generation(tenant, read_at);
        assert_eq!(host.db.generation(tenant, host.db.now()), generation, "nothing has changed");
        ensure_script(&db, tenant, "hello").await;
        host.db.look_for_changes().await.unwrap();
        host.cache.insert("acme", read_at, Some(tenant));
        assert!(!host.knows("acme").await);
        assert_eq!(host.db.generation(tenant, read_at), generation);
        assert_ne!(host.db.generation(tenant, host.db.now()), generation);
        host.remember("acme", Some(tenant));
        assert!(host.knows("acme").await);
    })
    .await;
}

#[tokio::test]
async fn a_tenant_that_comes_or_goes_is_seen() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let host = Remembering::new(fresh.open().await);
        let bystander = create_tenant(&db, "globex").await;
        host.db.look_for_changes().await.unwrap();
        host.remember("acme", None);
        host.remember("globex", Some(bystander));
        assert!(host.knows("acme").await);
        let tenant = create_tenant(&db, "acme").await;
        assert!(!host.knows("acme").await);
        host.remember("acme", Some(tenant));
        db.tenants().delete_tenant(tenant, &"acme".parse().unwrap()).await.unwrap();
        assert!(!host.knows("acme").await);
        assert!(host.knows("globex").await);
    })
    .await;
}

#[tokio::test]
async fn changes_of_no_tenant_those_of_an_older_pqhost_and_a_backup_concern_everybody() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let host = Remembering::new(fresh.open().await);
        let (one, other) = (create_tenant(&db, "acme").await, create_tenant(&db, "globex").await);
        let remember = async || {
            host.db.look_for_changes().await.unwrap();
            host.remember("acme", Some(one));
            host.remember("globex", Some(other));
        };
        let forgets_both = async || [host.knows("acme").await, host.knows("globex").await] == [false, false];

        remember().await;
        db.sealed().reseal_all::<()>(|_, _| Ok(None)).await.unwrap().unwrap();
        assert!(forgets_both().await, "a change of no tenant");

        // It counts its changes, and says nothing of tenants; ours beside it change nothing about that.
        remember().await;
        ensure_script(&db, one, "hello").await;
        let older = "UPDATE change SET counter = counter + 1 WHERE id = 1";
        let mut tx = db.writer.begin().await.unwrap();
        sqlx::query(older).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        assert!(forgets_both().await, "a change by an older pqhost");

        remember().await;
        let mut tx = db.writer.begin().await.unwrap();
        let back = "UPDATE change SET counter = counter - 1, attributed = attributed - 1 WHERE id = 1";
        sqlx::query(back).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        assert!(forgets_both().await, "an older state of the database");
    })
    .await;
}
