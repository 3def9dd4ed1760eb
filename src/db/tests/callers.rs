//! Signing keys, issuers, and uses of tokens and keys.

use super::{
    consumer_keys::{consumer_key, terms},
    *,
};
use crate::db::issuers::{ISSUERS_MAX, NewIssuer};

pub(super) fn issuer(name: &str) -> NewIssuer {
    let (issuer, jwks_url) = (name.to_owned(), format!("{name}/keys"));
    let row_filters = terms(None).row_filters;
    NewIssuer { issuer, jwks_url, audience: "orders".to_owned(), row_filters }
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
        let made = db.issuers().insert_issuer(other, &issuer("https://a.example.com")).await.unwrap();
        assert_eq!(made.row_filters, terms(None).row_filters);
        let open = NewIssuer { row_filters: None, ..issuer("https://b.example.com") };
        let open = db.issuers().insert_issuer(other, &open).await.unwrap();
        assert_eq!(db.issuers().list_issuers(other).await.unwrap(), [made, open]);
        for name in ["https://a.example.com", "https://b.example.com"] {
            assert!(db.issuers().delete_issuer(other, name).await.unwrap());
        }
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
async fn uses_are_noted_for_what_was_presented_and_never_backwards() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let (tenant, other) = (create_tenant(&db, "acme").await, create_tenant(&db, "other").await);
        for id in ["t", "u"] {
            let claims = serde_json::json!({"a": "\u{0}"}).as_object().unwrap().clone();
            let methods = Some("GET,PUT".parse().unwrap());
            let row_filters = terms(None).row_filters.filter(|_| id == "t");
            let new = NewToken { methods, claims, row_filters, ..new_token(id) };
            db.tokens().insert_token(tenant, &new).await.unwrap();
            let found = db.tokens().find_token(tenant, id).await.unwrap().unwrap();
            assert_eq!((found.methods, found.claims, found.last_used_at_ms), (new.methods, new.claims, None));
            assert_eq!(found.row_filters, new.row_filters);
            db.consumer_keys().insert_key(tenant, &consumer_key(id, None)).await.unwrap();
        }
        let last_used = async || {
            let mut last_used = Vec::new();
            for id in ["t", "u"] {
                last_used.push(db.tokens().find_token(tenant, id).await.unwrap().unwrap().last_used_at_ms);
                last_used.push(db.consumer_keys().find_key(tenant, id).await.unwrap().unwrap().last_used_at_ms);
            }
            last_used
        };
        let mut expected = vec![None; 4];
        for (place, presented) in [Presented::Token, Presented::ConsumerKey].into_iter().enumerate() {
            for (of, id, at_ms, noted) in [
                (other, "t", 100_000, None),
                (tenant, "unknown", 100_000, None),
                (tenant, "t", 100_000, Some(100_000)),
                (tenant, "t", 159_999, Some(100_000)),
                (tenant, "t", 160_000, Some(160_000)),
                (tenant, "t", 90_000, Some(160_000)),
            ] {
                db.uses().note_uses(&[Use { presented, tenant: of, id: id.into(), at_ms }]).await.unwrap();
                expected[place] = noted;
                assert_eq!(last_used().await, expected, "{presented:?} {id} {at_ms}");
            }
        }
        // Two hosts that note the same in another order do not wait for each other in a circle.
        let uses = |order: [(Presented, &str); 4], at_ms| {
            order.map(|(presented, id)| Use { presented, tenant, id: id.into(), at_ms })
        };
        let mut order = [
            (Presented::Token, "t"),
            (Presented::ConsumerKey, "u"),
            (Presented::Token, "u"),
            (Presented::ConsumerKey, "t"),
        ];
        let beside = fresh.open().await;
        for n in 10..30 {
            let one = uses(order, n * 100_000);
            order.reverse();
            let two = uses(order, n * 100_000);
            let (one, two) = tokio::join!(db.uses().note_uses(&one), beside.uses().note_uses(&two));
            one.and(two).unwrap();
        }
        assert_eq!(last_used().await, [Some(2_900_000); 4]);
    })
    .await;
}
