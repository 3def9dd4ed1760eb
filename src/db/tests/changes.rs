//! What a process remembers, and which changes end that.

use std::time::Duration;

use crate::{
    db::{
        Db,
        cache::TenantCache,
        connections::ConnectionKind,
        tests::{
            callers,
            consumer_keys::{consumer_key, terms},
            create_tenant, ensure_script,
            fresh::{Fresh, on_each},
            new_endpoint, new_token, new_version, record, signing_key,
        },
        uses::{Presented, Use},
    },
    domain::{
        names::{ConnectionName, TenantId},
        quota::Quotas,
    },
};

/// A process that remembers two tenants, while another one changes `tenant`.
struct Watch {
    db: Db,
    watcher: Db,
    cache: TenantCache<TenantId, ()>,
    tenant: TenantId,
    bystander: TenantId,
}

impl Watch {
    async fn new(fresh: &Fresh) -> Self {
        let (db, watcher) = (fresh.open().await, fresh.open().await);
        let (tenant, bystander) = (create_tenant(&db, "acme").await, create_tenant(&db, "globex").await);
        let cache = TenantCache::new(&watcher, Duration::from_secs(3600), 100, |()| 1);
        let watch = Self { db, watcher, cache, tenant, bystander };
        watch.watcher.look_for_changes().await.unwrap();
        watch.remember(tenant);
        watch.remember(bystander);
        watch
    }

    fn remember(&self, tenant: TenantId) {
        self.cache.insert(tenant, self.watcher.now(), ());
    }

    async fn is_remembered(&self, tenant: TenantId) -> bool {
        self.watcher.look_for_changes().await.unwrap();
        self.cache.get(tenant, &tenant).is_some()
    }

    async fn expect_change(&self, what: &str) {
        assert!(!self.is_remembered(self.tenant).await, "{what} is not seen");
        assert!(self.is_remembered(self.bystander).await, "{what} is none of a bystander's");
        self.remember(self.tenant);
    }
}

#[tokio::test]
async fn changes_of_scripts_and_endpoints_are_seen_by_other_handles_and_concern_their_tenant_only() {
    on_each(async |fresh| {
        let watch = Watch::new(fresh).await;
        let (db, tenant) = (&watch.db, watch.tenant);
        let script = ensure_script(db, tenant, "hello").await;
        watch.expect_change("ensure_script").await;
        let version = db.versions().insert_version(tenant, new_version(script)).await.unwrap();
        watch.expect_change("insert_version").await;
        db.versions().update_image(tenant, version.id, &version.loaded).await.unwrap();
        watch.expect_change("update_image").await;
        let found = db.scripts().find_script(tenant, &"hello".parse().unwrap()).await.unwrap().unwrap();
        db.scripts().set_live_version(tenant, &found, version.id, 1, None).await.unwrap();
        watch.expect_change("set_live_version").await;
        let other = db.versions().insert_version(tenant, new_version(script)).await.unwrap();
        watch.expect_change("insert_version").await;
        db.scripts().set_live_version(tenant, &found, other.id, 2, None).await.unwrap();
        watch.expect_change("set_live_version").await;
        db.versions().purge_version(tenant, &found, &version).await.unwrap();
        watch.expect_change("purge_version").await;
        let endpoint = db.endpoints().create_endpoint(tenant, &new_endpoint(script, "GET", "/a")).await.unwrap().id;
        watch.expect_change("create_endpoint").await;
        db.endpoints().update_endpoint(tenant, endpoint, &new_endpoint(script, "GET", "/b"), None).await.unwrap();
        watch.expect_change("update_endpoint").await;
        db.endpoints().delete_endpoint(tenant, endpoint, None).await.unwrap();
        watch.expect_change("delete_endpoint").await;
        db.scripts().delete_script(tenant, script, &"hello".parse().unwrap()).await.unwrap();
        watch.expect_change("delete_script").await;
    })
    .await;
}

#[tokio::test]
async fn changes_of_callers_are_seen_by_other_handles_and_concern_their_tenant_only() {
    on_each(async |fresh| {
        let watch = Watch::new(fresh).await;
        let (db, tenant) = (&watch.db, watch.tenant);
        db.tokens().insert_token(tenant, &new_token("t")).await.unwrap();
        watch.expect_change("insert_token").await;
        db.tokens().revoke_token(tenant, "t").await.unwrap();
        watch.expect_change("revoke_token").await;
        db.consumer_keys().insert_key(tenant, &consumer_key("a", None)).await.unwrap();
        watch.expect_change("insert_key").await;
        db.consumer_keys().replace_terms(tenant, "a", &terms(None), None).await.unwrap().unwrap();
        watch.expect_change("replace_terms").await;
        assert!(db.consumer_keys().revoke_key(tenant, "a").await.unwrap());
        watch.expect_change("revoke_key").await;
        db.signing_keys().insert(tenant, &signing_key("k"), None, || b"s".to_vec()).await.unwrap();
        watch.expect_change("insert of a signing key").await;
        db.signing_keys().insert(tenant, &signing_key("l"), None, || b"s".to_vec()).await.unwrap();
        watch.expect_change("insert of another one").await;
        db.signing_keys().delete(tenant, "k").await.unwrap();
        watch.expect_change("delete of a signing key").await;
        let issuer = callers::issuer("https://login.example.com");
        db.issuers().insert_issuer(tenant, &issuer).await.unwrap();
        watch.expect_change("insert_issuer").await;
        db.issuers().delete_issuer(tenant, &issuer.issuer).await.unwrap();
        watch.expect_change("delete_issuer").await;
        db.tenants().set_public_document(tenant, true).await.unwrap();
        watch.expect_change("set_public_document").await;
        db.tenants().set_quotas(tenant, &Quotas { scripts: Some(5), ..Quotas::default() }).await.unwrap();
        watch.expect_change("set_quotas").await;
    })
    .await;
}

#[tokio::test]
async fn changes_of_connections_and_hosts_are_seen_by_other_handles_and_concern_their_tenant_only() {
    on_each(async |fresh| {
        let watch = Watch::new(fresh).await;
        let (db, tenant) = (&watch.db, watch.tenant);
        let script = ensure_script(db, tenant, "hello").await;
        watch.expect_change("ensure_script").await;
        let dw: ConnectionName = "dw".parse().unwrap();
        db.connections().create_connection(tenant, &dw, ConnectionKind::Sql, |_| vec![]).await.unwrap();
        watch.expect_change("create_connection").await;
        let row = db.connections().find_connection(tenant, &dw).await.unwrap().unwrap();
        db.tenants().set_default_connection(tenant, row.id).await.unwrap();
        watch.expect_change("set_default_connection").await;
        db.connections().set_readers(tenant, &row, &[], true).await.unwrap();
        watch.expect_change("set_readers of a connection").await;
        db.connections().add_reader(tenant, &row, script).await.unwrap();
        watch.expect_change("add_reader").await;
        db.connections().remove_reader(tenant, &row, script).await.unwrap();
        watch.expect_change("remove_reader").await;
        let row = db.connections().update_connection(tenant, row, None, |_| b"sealed".to_vec()).await.unwrap();
        watch.expect_change("update_connection").await;
        db.connections().delete_connection(tenant, &row, None).await.unwrap();
        watch.expect_change("delete_connection").await;
        db.egress().allow(tenant, &"api.example.com".parse().unwrap()).await.unwrap();
        watch.expect_change("allow").await;
        db.egress().deny(tenant, &"api.example.com".parse().unwrap()).await.unwrap();
        watch.expect_change("deny").await;
    })
    .await;
}

#[tokio::test]
async fn the_log_people_and_tenants_that_come_change_nothing_of_what_is_remembered() {
    on_each(async |fresh| {
        let watch = Watch::new(fresh).await;
        let (db, tenant) = (&watch.db, watch.tenant);
        ensure_script(db, tenant, "hello").await;
        watch.expect_change("ensure_script").await;
        db.invocations().insert_batch(&[record(tenant)], &[]).await.unwrap();
        watch.watcher.invocations().insert_batch(&[record(tenant)], &[]).await.unwrap();
        db.invocations().prune(tenant, 0, 10).await.unwrap();
        ensure_script(db, tenant, "hello").await;
        let user = db.users().create_user(&"ann@example.com".parse().unwrap(), "hash").await.unwrap();
        assert!(db.users().delete_user(user, &"ann@example.com".parse().unwrap()).await.unwrap());
        db.audit().note(tenant, "preview_table", "dw.orders").await.unwrap();
        assert_eq!(db.audit().list(Some(tenant), None, 1).await.unwrap()[0].target, "dw.orders");
        db.recordings().ensure_key(tenant, || b"key".to_vec()).await.unwrap();
        for presented in [Presented::Token, Presented::ConsumerKey] {
            db.uses().note_uses(&[Use { presented, tenant, id: "t".into(), at_ms: 1 }]).await.unwrap();
        }
        db.tenants().create_tenant(&"acme".parse().unwrap()).await.unwrap_err();
        create_tenant(db, "initech").await;
        assert!(watch.is_remembered(tenant).await);
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
