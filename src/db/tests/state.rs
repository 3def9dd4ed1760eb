//! State, secrets and what the vault has sealed.

use super::*;
use crate::{
    db::sealed::{SEALED_COLUMNS, SealedFor},
    domain::{secret::Readers, state::StateEntry},
};

#[tokio::test]
async fn a_compare_and_set_of_an_old_revision_changes_nothing() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let tenant = create_tenant(&db, "acme").await;
        let script = ensure_script(&db, tenant, "hello").await;
        let state = db.state();
        let entry = |value: Option<&str>, revision| Some(StateEntry { value: value.map(str::to_owned), revision });
        assert_eq!(state.find_state(tenant, script).await.unwrap(), entry(None, 0));
        assert!(state.compare_and_set_state(tenant, script, 0, Some("1")).await.unwrap());
        assert!(!state.compare_and_set_state(tenant, script, 0, Some("2")).await.unwrap());
        assert!(!state.compare_and_set_state(tenant, script, 7, Some("2")).await.unwrap());
        assert_eq!(state.find_state(tenant, script).await.unwrap(), entry(Some("1"), 1));
        // Clearing does not start anew: who has seen revision 1 must not overwrite what came after it.
        state.set_state(tenant, script, None).await.unwrap();
        assert_eq!(state.find_state(tenant, script).await.unwrap(), entry(None, 2));
        assert!(!state.compare_and_set_state(tenant, script, 1, Some("2")).await.unwrap());
        assert!(state.compare_and_set_state(tenant, script, 2, Some("3")).await.unwrap());
        assert_eq!(state.find_state(tenant, script).await.unwrap(), entry(Some("3"), 3));
    })
    .await;
}

#[tokio::test]
async fn changes_that_wait_for_each_other_keep_no_script_from_writing_its_state() {
    on_server(async |fresh| {
        let db = fresh.open().await;
        let tenant = create_tenant(&db, "acme").await;
        let script = ensure_script(&db, tenant, "hello").await;
        let mut changes = vec![db.begin_derived_change(None).await.unwrap()];
        while changes.len() < 3 {
            changes.push(db.writer.begin().await.unwrap());
        }
        let moment = std::time::Duration::from_millis(50);
        assert!(tokio::time::timeout(moment, db.writer.begin()).await.is_err(), "changes take all there are");
        db.state().set_state(tenant, script, Some("1")).await.expect("a script waits for none of those connections");
    })
    .await;
}

#[tokio::test]
async fn a_script_is_deleted_while_it_writes_its_state() {
    on_server(async |fresh| {
        let db = fresh.open().await;
        let tenant = create_tenant(&db, "acme").await;
        let (script, name) = (ensure_script(&db, tenant, "hello").await, "hello".parse().unwrap());
        let mut writing = db.state_writer.begin().await.unwrap();
        sqlx::query("INSERT INTO script_state (tenant_id, script_id, value, revision, updated_at_ms) VALUES ($1, $2, '1', 1, 1)")
            .bind(tenant.0)
            .bind(script.0)
            .execute(&mut *writing)
            .await
            .unwrap();
        let (deleting, state) = (db.clone(), db.clone());
        let deleting = tokio::spawn(async move { deleting.scripts().delete_script(tenant, script, &name).await });
        // Time for what must not happen: where a machine does less in it, less is tried.
        let moment = std::time::Duration::from_millis(300);
        tokio::time::sleep(moment).await;
        let late = tokio::spawn(async move { state.state().set_state(tenant, script, Some("2")).await });
        tokio::time::sleep(moment).await;
        assert!(!deleting.is_finished(), "it waits for what the script has begun");
        writing.commit().await.unwrap();
        deleting.await.unwrap().unwrap();
        let late = late.await.unwrap();
        assert!(matches!(late, Ok(()) | Err(DbError::Unknown { what: "script", .. })), "{late:?}");
        assert_eq!(db.state().find_state(tenant, script).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn who_manages_a_script_replaces_its_state_and_that_is_noted_or_neither() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let tenant = create_tenant(&db, "acme").await;
        let (script, name) = (ensure_script(&db, tenant, "hello").await, "hello".parse().unwrap());
        let replace = async |expected, value| db.state().replace_state(tenant, script, &name, expected, value).await;
        assert!(matches!(replace(Some(1), Some("0")).await, Err(DbError::Stale)), "there is no state yet");
        replace(Some(0), Some("1")).await.unwrap();
        db.state().set_state(tenant, script, Some("2")).await.unwrap();
        assert!(matches!(replace(Some(1), None).await, Err(DbError::Stale)), "the script has written meanwhile");
        replace(Some(2), Some("3")).await.unwrap();
        replace(None, None).await.unwrap();
        let entry = db.state().find_state(tenant, script).await.unwrap().unwrap();
        assert_eq!((entry.value, entry.revision), (None, 4));
        let audit = db.audit().list(Some(tenant), None, 10).await.unwrap();
        let actions: Vec<_> = audit.iter().map(|entry| entry.action.as_str()).collect();
        assert_eq!(actions, ["clear_state", "set_state", "set_state", "create_script"]);
        let unknown = db.state().replace_state(tenant, ScriptId(99), &name, None, Some("1")).await.unwrap_err();
        assert!(matches!(unknown, DbError::Unknown { what: "script", .. }), "{unknown}");
    })
    .await;
}

#[tokio::test]
async fn of_many_who_grant_a_secret_at_once_nobodys_grant_is_lost() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let tenant = create_tenant(&db, "acme").await;
        let name = "key".parse().unwrap();
        db.secrets().set_secret(tenant, &name, &Readers::Only(Vec::new()), |_| vec![1]).await.unwrap();
        let mut scripts = Vec::new();
        for n in 0..5 {
            scripts.push(ensure_script(&db, tenant, &format!("s{n}")).await);
        }
        let granting = scripts.iter().map(|script| db.secrets().add_reader(tenant, &name, *script));
        assert!(futures::future::join_all(granting).await.into_iter().all(Result::unwrap));
        assert!(db.secrets().add_reader(tenant, &name, scripts[0]).await.unwrap(), "again does no harm");
        assert!(db.secrets().remove_reader(tenant, &name, scripts[1]).await.unwrap());
        let listed = db.secrets().list_secrets(tenant).await.unwrap().remove(0).scripts.unwrap();
        assert_eq!(listed.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["s0", "s2", "s3", "s4"]);
        let newest = db.audit().list(Some(tenant), None, 1).await.unwrap().remove(0);
        assert_eq!((newest.action.as_str(), newest.target.as_str()), ("set_readers", "key: s0, s2, s3, s4"));

        assert!(!db.secrets().add_reader(tenant, &"absent".parse().unwrap(), scripts[0]).await.unwrap());
        let open = "open".parse().unwrap();
        db.secrets().set_secret(tenant, &open, &Readers::Unchanged, |_| vec![1]).await.unwrap();
        for refused in [
            db.secrets().add_reader(tenant, &open, scripts[0]).await,
            db.secrets().remove_reader(tenant, &open, scripts[0]).await,
        ] {
            assert!(matches!(refused, Err(DbError::InUse { .. })), "{refused:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn state_and_secrets_of_another_tenant_are_not_seen_or_changed() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let (mine, theirs) = (create_tenant(&db, "mine").await, create_tenant(&db, "theirs").await);
        let script = ensure_script(&db, theirs, "hello").await;
        let name = "key".parse().unwrap();
        db.state().set_state(theirs, script, Some("1")).await.unwrap();
        let secret = db.secrets().set_secret(theirs, &name, &Readers::Unchanged, |_| vec![1]).await.unwrap();

        assert_eq!(db.state().find_state(mine, script).await.unwrap(), None);
        assert!(db.state().set_state(mine, script, Some("2")).await.is_err());
        assert!(db.state().compare_and_set_state(mine, script, 1, Some("2")).await.is_err());
        assert_eq!(db.state().find_state(theirs, script).await.unwrap().unwrap().value.as_deref(), Some("1"));
        assert_eq!(db.secrets().find_secret_for(mine, &name, script).await.unwrap(), None);
        assert_eq!(db.secrets().list_secrets(mine).await.unwrap(), []);
        assert!(!db.secrets().delete_secret(mine, &name).await.unwrap());
        let found = db.secrets().find_secret_for(theirs, &name, script).await.unwrap().unwrap();
        assert_eq!((found.id, found.sealed), (secret, vec![1]));
    })
    .await;
}

#[tokio::test]
async fn secrets_are_listed_with_the_scripts_that_may_read_them() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let tenant = create_tenant(&db, "acme").await;
        let (a, b) = (ensure_script(&db, tenant, "a").await, ensure_script(&db, tenant, "b").await);
        let set = async |name: &str, readers| {
            let name = name.parse().unwrap();
            db.secrets().set_secret(tenant, &name, &readers, |_| vec![1]).await.unwrap();
        };
        set("open", Readers::Unchanged).await;
        set("both", Readers::Only(vec![b, a, a])).await;
        set("none", Readers::Only(Vec::new())).await;
        set("was_restricted", Readers::Only(vec![a])).await;
        set("was_restricted", Readers::AllScripts).await;
        let listed = db.secrets().list_secrets(tenant).await.unwrap();
        let shown: Vec<_> = listed
            .iter()
            .map(|secret| {
                (secret.name.as_str(), secret.scripts.as_ref().map(|all| all.iter().map(|s| s.as_str()).collect()))
            })
            .collect();
        let expected: [(&str, Option<Vec<&str>>); 4] =
            [("both", Some(vec!["a", "b"])), ("none", Some(vec![])), ("open", None), ("was_restricted", None)];
        assert_eq!(shown, expected);
    })
    .await;
}

#[tokio::test]
async fn changing_the_key_reaches_every_sealed_column_of_the_schema() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let mut columns: Vec<_> =
            databases::columns(fresh).await.into_keys().filter(|(_, column)| column.contains("sealed")).collect();
        let mut known: Vec<_> = SEALED_COLUMNS.iter().map(|s| (s.table.to_owned(), s.column.to_owned())).collect();
        known.sort();
        columns.sort();
        assert_eq!(known, columns);

        let tenant = create_tenant(&db, "acme").await;
        let connection = db
            .connections()
            .create_connection(tenant, &"dw".parse().unwrap(), ConnectionKind::Sql, |_| vec![1])
            .await
            .unwrap()
            .0
            .id;
        db.signing_keys().insert(tenant, &signing_key("k"), None, || vec![2]).await.unwrap();
        let name = "key".parse().unwrap();
        let secret = db.secrets().set_secret(tenant, &name, &Readers::Unchanged, |_| vec![3]).await.unwrap();
        db.recordings().ensure_key(tenant, || vec![4]).await.unwrap();
        assert_eq!(db.recordings().ensure_key(tenant, || vec![5]).await.unwrap(), [4], "there is one for each tenant");
        db.sealed().ensure_check(|| vec![5]).await.unwrap();
        assert_eq!(db.sealed().ensure_check(|| vec![6]).await.unwrap(), [5], "there is one");
        let mut seen = Vec::new();
        let failed =
            db.sealed().reseal_all(|_, sealed| if sealed == [3] { Err("broken") } else { Ok(Some(vec![9])) }).await;
        assert_eq!(failed.unwrap(), Err("broken"), "and nothing is changed");
        let resealed = db.sealed().reseal_all(|value, sealed| {
            seen.push((value.clone(), sealed.to_vec()));
            Ok::<_, ()>((sealed != [2]).then(|| vec![sealed[0] + 10]))
        });
        assert_eq!(resealed.await.unwrap(), Ok(4));
        let signing_key = SealedFor::SigningKey { tenant, kid: "k".to_owned() };
        assert_eq!(
            seen,
            [
                (SealedFor::Connection(connection), vec![1]),
                (signing_key, vec![2]),
                (SealedFor::Secret(secret), vec![3]),
                (SealedFor::RecordingKey(tenant), vec![4]),
                (SealedFor::Check, vec![5])
            ]
        );
        let url = db.connections().find_connection(tenant, &"dw".parse().unwrap()).await.unwrap().unwrap().sealed_url;
        let key = db.signing_keys().list(tenant).await.unwrap().remove(0).sealed;
        let script = ensure_script(&db, tenant, "hello").await;
        let value = db.secrets().find_secret_for(tenant, &name, script).await.unwrap().unwrap().sealed;
        assert_eq!((url, key, value), (vec![11], vec![2], vec![13]));
        assert_eq!(db.recordings().find_key(tenant).await.unwrap(), Some(vec![14]));
    })
    .await;
}
