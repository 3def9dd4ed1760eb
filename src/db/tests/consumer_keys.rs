//! Keys of consumers.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::{
    db::consumer_keys::{KeyTerms, NewConsumerKey},
    domain::rate_limit::RateLimit,
};

pub(super) fn terms(endpoint: Option<EndpointId>) -> KeyTerms {
    KeyTerms {
        name: "Partner é".to_owned(),
        endpoints: endpoint.map(|endpoint| Arc::from([endpoint])),
        methods: Some("GET,POST".parse().unwrap()),
        attributes: Arc::new(json!({"customer": 17, "tags": ["a"]}).as_object().unwrap().clone()),
        row_filters: serde_json::from_value(json!([{"connection": "dw", "table": "orders"}])).unwrap(),
        rate_limit: Some(RateLimit::new(100, 60).unwrap()),
    }
}

pub(super) fn consumer_key(id: &str, endpoint: Option<EndpointId>) -> NewConsumerKey {
    NewConsumerKey { id: id.to_owned(), hash: format!("hash of {id}"), terms: terms(endpoint), expires_at_ms: 1000 }
}

#[tokio::test]
async fn keys_are_kept_replaced_and_revoked() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let (acme, globex) = (create_tenant(&db, "acme").await, create_tenant(&db, "globex").await);
        let script = ensure_script(&db, acme, "hello").await;
        let endpoint = db.endpoints().create_endpoint(acme, &new_endpoint(script, "GET", "/a")).await.unwrap().id;
        let keys = db.consumer_keys();
        keys.insert_key(acme, &consumer_key("a", Some(endpoint))).await.unwrap();
        keys.insert_key(acme, &consumer_key("b", None)).await.unwrap();
        keys.insert_key(globex, &consumer_key("c", None)).await.unwrap();

        let a = keys.find_by_hash(acme, "hash of a").await.unwrap().unwrap();
        assert_eq!((&a.terms, a.revision, a.last_used_at_ms), (&terms(Some(endpoint)), 1, None));
        assert_eq!(keys.find_key(acme, "a").await.unwrap().unwrap(), a);
        assert!(keys.find_by_hash(globex, "hash of a").await.unwrap().is_none(), "another tenant's");
        assert!(keys.find_key(acme, "c").await.unwrap().is_none());
        let list = async |after: Option<&str>, limit| keys.list_keys_after(acme, after, limit).await.unwrap();
        assert_eq!(list(None, 1).await, std::slice::from_ref(&a));
        assert_eq!(list(Some("a"), 10).await.iter().map(|key| key.id.as_str()).collect::<Vec<_>>(), ["b"]);

        let foreign = keys.insert_key(globex, &consumer_key("d", Some(endpoint))).await.unwrap_err();
        assert!(matches!(foreign, DbError::Unknown { what: "endpoint", .. }), "{foreign}");
        let plain = KeyTerms {
            name: String::new(),
            endpoints: None,
            methods: None,
            attributes: Arc::default(),
            row_filters: None,
            rate_limit: None,
        };
        assert!(matches!(keys.replace_terms(acme, "a", &plain, Some(2)).await.unwrap_err(), DbError::Stale));
        assert!(keys.replace_terms(acme, "c", &plain, None).await.unwrap().is_none());
        let replaced = keys.replace_terms(acme, "a", &plain, Some(1)).await.unwrap().unwrap();
        assert_eq!((replaced.terms, replaced.revision), (plain.clone(), 2));
        // The endpoints that are left are those it is for: none, and not all.
        keys.replace_terms(acme, "a", &terms(Some(endpoint)), None).await.unwrap();
        db.endpoints().delete_endpoint(acme, endpoint, None).await.unwrap();
        let left = keys.find_key(acme, "a").await.unwrap().unwrap();
        assert_eq!(left.terms.endpoints.as_deref(), Some(&[][..]));

        assert!(!keys.revoke_key(globex, "a").await.unwrap());
        assert!(keys.revoke_key(acme, "a").await.unwrap());
        let revoked = keys.find_key(acme, "a").await.unwrap().unwrap().revoked_at_ms;
        assert!(revoked.is_some() && keys.revoke_key(acme, "a").await.unwrap());
        assert_eq!(keys.find_key(acme, "a").await.unwrap().unwrap().revoked_at_ms, revoked);
    })
    .await;
}

#[tokio::test]
async fn old_keys_go() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let acme = create_tenant(&db, "acme").await;
        let keys = db.consumer_keys();
        keys.insert_key(acme, &consumer_key("a", None)).await.unwrap();
        const MONTH: i64 = 30 * 86_400_000;
        assert_eq!(keys.prune_expired(1000 + MONTH, 10).await.unwrap(), 0);
        assert_eq!(keys.prune_expired(1001 + MONTH, 10).await.unwrap(), 1);
    })
    .await;
}
