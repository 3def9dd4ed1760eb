//! Moving rows between databases of both kinds.

use std::collections::BTreeSet;

use zeroize::Zeroizing;

use super::{
    consumer_keys::{consumer_key, terms},
    *,
};
use crate::{
    db::{
        sealed::SealedFor,
        transfer::{
            Selection, layout,
            row::{MovedRow, Value},
            tables::{LEFT_OUT, Rows, TABLES},
        },
        usage::UsageRecord,
    },
    domain::{
        control_database::ControlDatabase,
        people::{Email, Role},
        quota::{Day, Quotas, Usage},
        secret::Readers,
    },
};

#[tokio::test]
async fn every_table_and_column_is_moved_or_left_out_for_a_reason() {
    let schema = databases::columns(&Fresh::file()).await;
    let moved: BTreeSet<_> = TABLES
        .iter()
        .flat_map(|table| table.columns.iter().map(|(column, _)| (table.name.to_owned(), (*column).to_owned())))
        .collect();
    let expected: BTreeSet<_> = schema.into_keys().filter(|(table, _)| !LEFT_OUT.contains(&table.as_str())).collect();
    assert_eq!(moved, expected, "add it to TABLES in db/transfer/tables.rs, or to LEFT_OUT with a reason");
}

#[tokio::test]
async fn a_tenants_rows_are_found_without_looking_at_those_of_others() {
    let file = Fresh::file();
    let db = file.open().await;
    for table in TABLES.iter().filter(|table| table.rows != Rows::Host) {
        let explain = format!("EXPLAIN QUERY PLAN {}", table.select(Some(TenantId(1))));
        let query = sqlx::query_as::<_, (i64, i64, i64, String)>(sqlx::AssertSqlSafe(explain)).bind(1_i64);
        for (_, _, _, step) in query.fetch_all(&db.readers).await.unwrap() {
            assert!(!step.starts_with("SCAN"), "{}: {step}", table.name);
        }
    }
}

/// Two tenants with something of everything. The ids of a row here are not those of a row elsewhere.
async fn fill(db: &Db) {
    let email: Email = "ann@acme.example".parse().unwrap();
    let gone = create_tenant(db, "gone").await;
    ensure_script(db, gone, "gone").await;
    let user = db.users().create_user(&email, "hash").await.unwrap();
    for name in ["acme", "globex"] {
        let tenant = create_tenant(db, name).await;
        let script = ensure_script(db, tenant, "hello").await;
        let first = db.versions().insert_version(tenant, new_version(script)).await.unwrap();
        let second = db.versions().insert_version(tenant, new_version(script)).await.unwrap();
        let backend = NewBackend::Script { script, pinned_version: Some(first.id) };
        let pinned = NewEndpoint { backend, ..new_endpoint(script, "GET", "/a") };
        let endpoint = db.endpoints().create_endpoint(tenant, &pinned).await.unwrap().id;
        db.endpoints().create_endpoint(tenant, &new_endpoint(script, "ANY", "/b")).await.unwrap();
        let seal = |id: ConnectionId| format!("sealed:connection:{id}:url of {name}").into_bytes();
        let dw = "dw".parse().unwrap();
        let (dw, _) = db.connections().create_connection(tenant, &dw, ConnectionKind::Sql, seal).await.unwrap();
        db.connections().set_readers(tenant, &dw, &[script], true).await.unwrap();
        db.egress().allow(tenant, &"api.example.com".parse().unwrap()).await.unwrap();
        let readers = Readers::Only(vec![script]);
        let key = "key".parse().unwrap();
        let seal = |id| format!("sealed:secret:{id}:secret of {name}").into_bytes();
        db.secrets().set_secret(tenant, &key, &readers, seal).await.unwrap();
        let seal = || format!("sealed:signing-key:{tenant}:k:key of {name}").into_bytes();
        db.signing_keys().insert(tenant, &signing_key("k"), None, seal).await.unwrap();
        db.issuers().insert_issuer(tenant, &callers::issuer(name)).await.unwrap();
        let id = format!("token of {name}");
        let only = Some(EndpointsOfRoutes { routes: vec!["/a".to_owned()], ids: vec![endpoint] });
        let row_filters = terms(None).row_filters;
        let token = NewToken { only, row_filters, ..new_token(&id) };
        db.tokens().insert_token(tenant, &token).await.unwrap();
        db.consumer_keys().insert_key(tenant, &consumer_key(&format!("key of {name}"), Some(endpoint))).await.unwrap();
        db.state().set_state(tenant, script, Some("{\"a\": 1}")).await.unwrap();
        db.drafts().set_draft(tenant, script, &"hello".parse().unwrap(), "[]", None).await.unwrap();
        let (version, script_name) = (second.id, "hello".parse().unwrap());
        let preview = NewPreview { hash: id, version, script: script_name, number: 2, expires_at_ms: i64::MAX };
        db.previews().insert_preview(tenant, &preview).await.unwrap();
        db.members().set_member(tenant, user, &email, Role::Owner).await.unwrap();
        let holder = Holder::Tenant { tenant, role: Role::Author };
        credential(db, &format!("api token of {name}"), holder).await;
        let seal = || format!("sealed:recording-key:{tenant}:recording key of {name}").into_bytes();
        db.recordings().ensure_key(tenant, seal).await.unwrap();
        let recording = Some(b"recording".to_vec());
        let known = InvocationRecord { script, version: Some(second.id), endpoint, recording, ..record(tenant) };
        let unknown = InvocationRecord { script: ScriptId(777), version: None, ..record(tenant) };
        let usage = Usage { fuel: 7, ..Usage::of_request(500) };
        let used = UsageRecord { tenant, day: Day(20_000), usage };
        db.invocations().insert_batch(&[known, unknown], &[used]).await.unwrap();
        let quotas = Quotas { fuel_per_day: Some(u64::MAX), ..Quotas::default() };
        db.tenants().set_quotas(tenant, &quotas).await.unwrap();
    }
    credential(db, "operator", Holder::Operator).await;
    credential(db, "session", Holder::Session { user, email }).await;
    let gone = (gone, "gone".parse().unwrap());
    let script = ensure_script(db, gone.0, "gone").await;
    db.scripts().delete_script(gone.0, script, &"gone".parse().unwrap()).await.unwrap();
    db.tenants().delete_tenant(gone.0, &gone.1).await.unwrap();
}

async fn credential(db: &Db, id: &str, holder: Holder) {
    let (id, hash) = (id.to_owned(), format!("hash of {id}"));
    let new = NewCredential { id, holder, name: String::new(), hash, expires_at_ms: 9 };
    db.credentials().insert_credential(&new, Grounds::None).await.unwrap();
}

/// A vault that shows whether a value is sealed for what it belongs to.
fn prefix(value: &SealedFor) -> String {
    match value {
        SealedFor::Connection(id) => format!("sealed:connection:{id}:"),
        SealedFor::SigningKey { tenant, kid } => format!("sealed:signing-key:{tenant}:{kid}:"),
        SealedFor::Secret(id) => format!("sealed:secret:{id}:"),
        SealedFor::RecordingKey(tenant) => format!("sealed:recording-key:{tenant}:"),
        SealedFor::Check => panic!("it stays with its host"),
    }
}

async fn export(db: &Db, selection: &Selection) -> Vec<MovedRow> {
    let mut rows = Vec::new();
    let unseal = |value: &SealedFor, sealed: &[u8]| {
        let prefix = prefix(value);
        let plain = sealed.strip_prefix(prefix.as_bytes()).unwrap_or_else(|| panic!("{prefix}"));
        Ok::<_, DbError>(Zeroizing::new(plain.to_vec()))
    };
    let emit = |row: MovedRow| {
        rows.push(MovedRow::decode(&row.encode()).unwrap());
        Ok(())
    };
    db.transfer().export(selection, unseal, emit).await.unwrap();
    rows
}

async fn import(db: &Db, rows: Vec<MovedRow>, rename: Option<&str>) -> Result<(), DbError> {
    let rename = rename.map(|name| name.parse().unwrap());
    let mut import = db.transfer().begin_import("import_host", "", &layout(), rename).await?;
    let seal = |value: &SealedFor, plain: &[u8]| [prefix(value).as_bytes(), plain].concat();
    for row in rows {
        import.insert(row, seal).await?;
    }
    import.finish().await
}

const HOST: Selection = Selection { tenant: None, with_log: true };

/// What of an export does not depend on ids, without the audit log, in which imports are noted.
fn shown(rows: &[MovedRow]) -> Vec<String> {
    let ids_gone = |row: &MovedRow| {
        let text = format!("{row:?}");
        text.split("Integer(").map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit())).collect::<String>()
    };
    let audit = TABLES.iter().position(|table| table.name == "audit").unwrap();
    rows.iter().filter(|row| usize::from(row.table) != audit).map(ids_gone).collect()
}

#[tokio::test]
async fn what_is_moved_to_the_other_kind_and_back_is_the_same() {
    let file = Fresh::file();
    let original = file.open().await;
    fill(&original).await;
    let exported = export(&original, &HOST).await;
    let tables: BTreeSet<_> = exported.iter().map(|row| row.table).collect();
    assert_eq!(tables.len(), TABLES.len(), "there is something of everything");
    on_server(async |fresh| {
        let server = fresh.open().await;
        import(&server, exported.clone(), None).await.unwrap();
        let on_server = export(&server, &HOST).await;
        assert_eq!(shown(&on_server), shown(&exported));
        let back = Fresh::file();
        let back = back.open().await;
        import(&back, on_server.clone(), None).await.unwrap();
        let again = export(&back, &HOST).await;
        // Ids are given in the same order, so these are equal to the number, but for what importing noted.
        let without_audit = |rows: &[MovedRow]| -> Vec<_> {
            let audit = TABLES.iter().position(|table| table.name == "audit").unwrap();
            rows.iter().filter(|row| usize::from(row.table) != audit).cloned().collect()
        };
        assert_eq!(without_audit(&again), without_audit(&on_server));
        assert_eq!(again.len(), on_server.len() + 1);

        for db in [&server, &back] {
            let tenant = db.tenants().find_tenant(&"acme".parse().unwrap()).await.unwrap().unwrap();
            let script = db.scripts().find_script(tenant.id, &"hello".parse().unwrap()).await.unwrap().unwrap();
            assert_eq!((script.live_version.unwrap().1, script.latest_version.unwrap().1), (2, 2));
            let previous = db.scripts().find_previous_version(tenant.id, script.id).await.unwrap();
            assert_eq!(previous.unwrap().1, 1);
            let endpoints = db.endpoints().list_endpoints(tenant.id).await.unwrap();
            assert!(matches!(endpoints[0].backend, Backend::Script { pinned_version: Some(1), .. }), "{endpoints:?}");
            let files = db.versions().list_files(tenant.id, script.live_version.unwrap().0).await.unwrap();
            assert_eq!(files, new_version(script.id).files);
            let dw = db.connections().find_connection(tenant.id, &"dw".parse().unwrap()).await.unwrap().unwrap();
            assert_eq!(tenant.default_connection, Some(dw.id));
            let log = db.invocations().list(tenant.id, None, 10).await.unwrap();
            assert_eq!((log[0].version_number, &log[1].script_name), (Some(2), &None));
            // Nothing that is made from now on meets what was moved.
            create_tenant(db, "new").await;
            ensure_script(db, tenant.id, "new").await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_tenant_is_moved_without_people_and_a_copy_without_callers() {
    on_each(async |fresh| {
        let file = Fresh::file();
        let original = file.open().await;
        fill(&original).await;
        let acme = original.tenants().find_tenant(&"acme".parse().unwrap()).await.unwrap().unwrap();
        let selection = Selection { tenant: Some(acme.id), with_log: false };
        let rows = export(&original, &selection).await;
        let text = format!("{rows:?}");
        for absent in ["globex", "ann@acme.example\"", "api token", "session"] {
            assert!(!text.contains(absent), "{absent}: {text}");
        }
        let log = TABLES.iter().position(|table| table.name == "invocation").unwrap();
        assert!(rows.iter().all(|row| usize::from(row.table) != log));
        let db = fresh.open().await;
        import(&db, rows.clone(), None).await.unwrap();
        let error = import(&db, rows.clone(), None).await.unwrap_err();
        assert_eq!(error.to_string(), "there is already a tenant `acme`");
        import(&db, rows, Some("copy")).await.unwrap();
        let tokens = async |name: &str| {
            let tenant = db.tenants().find_tenant(&name.parse().unwrap()).await.unwrap().unwrap();
            let keys = db.signing_keys().list(tenant.id).await.unwrap().len();
            let issuers = db.issuers().list_issuers(tenant.id).await.unwrap().len();
            (db.tokens().list_tokens_after(tenant.id, None, 10).await.unwrap().len(), keys, issuers)
        };
        assert_eq!((tokens("acme").await, tokens("copy").await), ((1, 1, 1), (0, 0, 0)));
        assert_eq!(db.users().list_users(None, 10).await.unwrap(), []);
        // Both are whole.
        export(&db, &HOST).await;
    })
    .await;
}

#[tokio::test]
async fn a_text_with_nul_is_moved_where_it_can_be_and_named_where_it_cannot() {
    let file = Fresh::file();
    let original = file.open().await;
    fill(&original).await;
    let exported = export(&original, &HOST).await;
    // An older pqhost on SQLite kept such texts.
    let with_nul = |table: &str, column: &str| {
        let place = TABLES.iter().position(|known| known.name == table).unwrap();
        let column = TABLES[place].columns.iter().position(|(name, _)| *name == column).unwrap();
        let mut rows = exported.clone();
        let row = rows.iter_mut().find(|row| usize::from(row.table) == place).unwrap();
        row.values[column] = Value::Text("a\0b".to_owned());
        rows
    };
    let (log, message) = (with_nul("invocation", "log"), with_nul("version", "message"));
    on_each(async |fresh| {
        let is_file = matches!(fresh.database, ControlDatabase::File(_));
        let db = fresh.open().await;
        let imported = import(&db, message.clone(), None).await;
        match is_file {
            true => imported.unwrap(),
            false => {
                let error = imported.unwrap_err().to_string();
                assert!(error.contains("`version.message` has a text with a NUL"), "{error}");
                import(&db, log.clone(), None).await.unwrap();
                assert!(format!("{:?}", export(&db, &HOST).await).contains("a\u{fffd}b"));
            }
        }
    })
    .await;
}
