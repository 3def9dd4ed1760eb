//! Signing keys, issuers, and uses of tokens.

use super::*;
use crate::db::issuers::{ISSUERS_MAX, NewIssuer};

pub(super) fn issuer(name: &str) -> NewIssuer {
    let (issuer, jwks_url) = (name.to_owned(), format!("{name}/keys"));
    NewIssuer { issuer, jwks_url, audience: "orders".to_owned() }
}

#[tokio::test]
async fn the_newest_key_signs_and_older_ones_verify_until_their_end() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let (tenant, other) = (create_tenant(&db, "acme").await, create_tenant(&db, "other").await);
        let insert = async |kid: &str, overlap_ms| {
            db.signing_keys().insert(tenant, &signing_key(kid), overlap_ms, || kid.as_bytes().to_vec()).await
        };
        let listed = async || {
            let keys = db.signing_keys().list(tenant).await.unwrap();
            keys.into_iter().map(|key| (key.kid, key.verifies_until_ms.is_some())).collect::<Vec<_>>()
        };
        let expect =
            |keys: &[(&str, bool)]| keys.iter().map(|(kid, ends)| ((*kid).to_owned(), *ends)).collect::<Vec<_>>();
        let key = insert("a", None).await.unwrap();
        assert_eq!(db.signing_keys().list(tenant).await.unwrap(), [key]);
        let error = insert("a", None).await.unwrap_err();
        assert_eq!(error.to_string(), "there is already a signing key `a`");
        let public = NewSigningKey { algorithm: KeyAlgorithm::Es256, public_key: Some(vec![4, 0]), ..signing_key("b") };
        db.signing_keys().insert(tenant, &public, None, || b"b".to_vec()).await.unwrap();
        let found = db.signing_keys().list(tenant).await.unwrap().remove(0);
        assert_eq!((found.algorithm, found.public_key), (public.algorithm, public.public_key));
        assert_eq!(listed().await, expect(&[("b", false), ("a", false)]));
        insert("c", Some(3_600_000)).await.unwrap();
        let ends = db.signing_keys().list(tenant).await.unwrap().remove(1).verifies_until_ms;
        insert("d", Some(7_200_000)).await.unwrap();
        assert_eq!(listed().await, expect(&[("d", false), ("c", true), ("b", true), ("a", true)]));
        assert_eq!(db.signing_keys().list(tenant).await.unwrap()[2].verifies_until_ms, ends, "no later than before");
        // Those of others end when theirs do.
        db.signing_keys().insert(other, &signing_key("x"), None, || b"x".to_vec()).await.unwrap();
        insert("e", Some(0)).await.unwrap();
        assert_eq!(listed().await, expect(&[("e", false)]));
        assert_eq!(db.signing_keys().list(other).await.unwrap()[0].verifies_until_ms, None);
        let later = crate::db::now_ms() + 1;
        assert_eq!(db.signing_keys().prune_expired(later, 3).await.unwrap(), 3, "no more than asked for");
        assert_eq!(db.signing_keys().prune_expired(later, 3).await.unwrap(), 1);

        assert!(matches!(db.signing_keys().delete(tenant, "e").await, Err(DbError::InUse { .. })));
        assert!(!db.signing_keys().delete(tenant, "x").await.unwrap());
        let gone = db.signing_keys().insert(TenantId(99), &signing_key("x"), None, Vec::new).await.unwrap_err();
        assert!(matches!(gone, DbError::Unknown { .. }), "{gone}");
    })
    .await;
}

#[tokio::test]
async fn issuers_are_of_one_tenant_and_bounded() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let (tenant, other) = (create_tenant(&db, "acme").await, create_tenant(&db, "other").await);
        let names: Vec<_> = (0..ISSUERS_MAX).map(|n| format!("https://{n:02}.example.com")).collect();
        for name in names.iter().rev() {
            db.issuers().insert_issuer(tenant, &issuer(name)).await.unwrap();
        }
        let listed = db.issuers().list_issuers(tenant).await.unwrap();
        assert_eq!(listed.iter().map(|issuer| &issuer.issuer).collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
        assert_eq!(
            (listed[0].jwks_url.as_str(), listed[0].audience.as_str()),
            ("https://00.example.com/keys", "orders")
        );
        let error = db.issuers().insert_issuer(tenant, &issuer("https://more.example.com")).await.unwrap_err();
        assert_eq!(error.to_string(), "a tenant has at most 20 issuers: delete one first");

        assert_eq!(db.issuers().list_issuers(other).await.unwrap(), []);
        assert!(!db.issuers().delete_issuer(other, &names[0]).await.unwrap());
        db.issuers().insert_issuer(other, &issuer(&names[0])).await.unwrap();
        let error = db.issuers().insert_issuer(other, &issuer(&names[0])).await.unwrap_err();
        assert_eq!(error.to_string(), "there is already a trusted issuer `https://00.example.com`");
        assert!(db.issuers().delete_issuer(tenant, &names[0]).await.unwrap());
        assert_eq!(db.issuers().list_issuers(other).await.unwrap().len(), 1);
        let gone = db.issuers().insert_issuer(TenantId(99), &issuer(&names[0])).await.unwrap_err();
        assert!(matches!(gone, DbError::Unknown { .. }), "{gone}");
        db.tenants().delete_tenant(other, &"other".parse().unwrap()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn uses_of_tokens_are_noted_for_their_tenant_and_never_backwards() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let (tenant, other) = (create_tenant(&db, "acme").await, create_tenant(&db, "other").await);
        for id in ["t", "u"] {
            let claims = serde_json::json!({"a": "\u{0}"}).as_object().unwrap().clone();
            let methods = Some("GET,PUT".parse().unwrap());
            let new =
                NewToken { id: id.to_owned(), name: String::new(), only: None, methods, claims, expires_at_ms: 9 };
            db.tokens().insert_token(tenant, &new).await.unwrap();
            let found = db.tokens().find_token(tenant, id).await.unwrap().unwrap();
            assert_eq!((found.methods, found.claims, found.last_used_at_ms), (new.methods, new.claims, None));
        }
        let note = async |tenant, id: &str, at_ms| {
            db.tokens().note_uses(&[TokenUse { tenant, id: id.to_owned(), at_ms }]).await.unwrap();
            let [t, u] = ["t", "u"].map(|id| db.tokens().find_token(TenantId(1), id));
            (t.await.unwrap().unwrap().last_used_at_ms, u.await.unwrap().unwrap().last_used_at_ms)
        };
        assert_eq!(note(other, "t", 100_000).await, (None, None));
        assert_eq!(note(tenant, "t", 100_000).await, (Some(100_000), None));
        assert_eq!(note(tenant, "t", 159_999).await, (Some(100_000), None));
        assert_eq!(note(tenant, "t", 160_000).await, (Some(160_000), None));
        assert_eq!(note(tenant, "t", 90_000).await, (Some(160_000), None));
        assert_eq!(note(tenant, "unknown", 90_000).await, (Some(160_000), None));
        // Two hosts that note the same in another order do not wait for each other in a circle.
        let uses = |ids: [&str; 2], at_ms| ids.map(|id| TokenUse { tenant, id: id.to_owned(), at_ms });
        let beside = fresh.open().await;
        for n in 10..30 {
            let (one, two) = (uses(["t", "u"], n * 100_000), uses(["u", "t"], n * 100_000));
            let (one, two) = tokio::join!(db.tokens().note_uses(&one), beside.tokens().note_uses(&two));
            one.and(two).unwrap();
        }
    })
    .await;
}
