//! The rows that tokens reach, by what they say.

use jsonwebtoken::Algorithm;

use super::{
    key_server::{Doing, KeyServer, OUTSIDE, Signer, claims as outside_claims},
    outside::{NEVER, trusting},
    *,
};
use crate::{
    db::issuers::NewIssuer,
    domain::rows::{RowFilter, Scalar, TEXT_BYTES_MAX},
};

/// Rows of `t` whose column `c` equals this.
fn filters(equals: Value) -> Vec<RowFilter> {
    let filter = json!([{"connection": "dw", "schema": "s", "table": "t", "column": "c", "equals": equals}]);
    serde_json::from_value(filter).unwrap()
}

/// What rows are told apart by.
fn value(token: VerifiedToken) -> Scalar {
    let rows = token.bearer().rows.expect("it is restricted");
    let [reachable] = &rows.0[..] else { panic!("{rows:?}") };
    reachable.table.clone().unwrap().only.unwrap().value
}

/// What is no value of a claim that rows could be told apart by.
fn unusable() -> Vec<Value> {
    let mut values =
        vec![json!(null), json!(true), json!(17.0), json!(17.5), json!(u64::MAX), json!([17]), json!({"a": 17})];
    values.extend(["", "\0", "a\0b", &"x".repeat(2 << 10), &"x".repeat(TEXT_BYTES_MAX + 1)].map(|text| json!(text)));
    values
}

fn request(claims: Value, row_filters: Vec<RowFilter>) -> TokenRequest {
    TokenRequest {
        claims: claims.as_object().unwrap().clone(),
        row_filters: Some(row_filters),
        ..TokenRequest::new("partner", Duration::from_secs(3600))
    }
}

impl Fixture {
    /// The claim or attribute that is missing.
    async fn unresolved(&self, token: &str) -> String {
        match self.verify(&format!("Bearer {token}")).await {
            Err(AuthError::NoRows(unresolved)) => unresolved.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_token_reaches_the_rows_that_its_claims_name() {
    let fixture = Fixture::new().await;
    let reached = async |text: &str| value(fixture.verify(&format!("Bearer {text}")).await.unwrap());
    for (claim, value) in [
        (json!(17), Scalar::Integer(17)),
        (json!(i64::MIN), Scalar::Integer(i64::MIN)),
        (json!("17"), Scalar::Text("17".to_owned())),
        (json!("é' OR 1=1 --"), Scalar::Text("é' OR 1=1 --".to_owned())),
        (json!("x".repeat(TEXT_BYTES_MAX)), Scalar::Text("x".repeat(TEXT_BYTES_MAX))),
    ] {
        let text = fixture.issue_with(request(json!({"partner": claim}), filters(json!({"claim": "partner"})))).await;
        assert_eq!([reached(&text).await, reached(&text).await], [value.clone(), value], "first read, then remembered");
    }
    for name in ["iss", "aud", "jti", "iat", "exp"] {
        let text = fixture.issue_with(request(json!({}), filters(json!({"claim": name})))).await;
        assert_eq!(reached(&text).await.value(), claims_of(&text)[name].clone().into(), "{name}");
    }
    let text = fixture.issue_with(request(json!({}), filters(json!({"value": 5})))).await;
    assert_eq!(reached(&text).await, Scalar::Integer(5));

    let rows = async |row_filters: Option<Vec<RowFilter>>| {
        let text = fixture.issue_with(TokenRequest { row_filters, ..request(json!({}), vec![]) }).await;
        fixture.verify(&format!("Bearer {text}")).await.unwrap().bearer().rows
    };
    assert_eq!(rows(None).await, None);
    assert_eq!(rows(Some(Vec::new())).await, Some(Arc::default()), "with an empty list, none at all");
}

#[tokio::test]
async fn a_token_whose_claims_do_not_satisfy_its_filters_is_not_made() {
    let fixture = Fixture::new().await;
    let mut refused: Vec<_> = unusable().into_iter().map(|value| json!({"partner": value})).collect();
    refused.extend([json!({}), json!({"Partner": 17}), json!({"partner ": 17})]);
    for claims in refused {
        let request = request(claims.clone(), filters(json!({"claim": "partner"})));
        let made = fixture.auth.create_token(&fixture.auth.db, fixture.tenant, &fixture.name, request).await;
        let error = made.map(|token| token.id).unwrap_err();
        assert!(error.to_string().starts_with("claim `partner` of a row filter is missing"), "{claims}: {error}");
    }
    let request = request(json!({"partner": 17}), filters(json!({"attribute": "partner"})));
    let made = fixture.auth.create_token(&fixture.auth.db, fixture.tenant, &fixture.name, request).await;
    assert!(matches!(made, Err(AuthError::NoRows(_))), "a claim is no attribute: {made:?}");
    assert_eq!(fixture.auth.db.tokens().list_tokens_after(fixture.tenant, None, 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_token_that_says_nothing_for_its_filter_lets_nobody_in() {
    let fixture = Fixture::new().await;
    let text = fixture.issue_with(request(json!({"partner": 17}), filters(json!({"claim": "partner"})))).await;
    let header = fixture.header().await;
    // Whoever has the key may sign anything for a row that there is; and a row may come from a file that was imported.
    let saying = async |partner: Option<Value>| {
        let mut claims = claims_of(&text);
        match partner {
            Some(value) => claims["partner"] = value,
            None => drop(claims.as_object_mut().unwrap().remove("partner")),
        }
        fixture.signed(&header, &claims).await
    };
    let again = saying(Some(json!(18))).await;
    assert_eq!(value(fixture.verify(&format!("Bearer {again}")).await.unwrap()), Scalar::Integer(18));
    for partner in unusable().into_iter().map(Some).chain([None]) {
        let text = saying(partner.clone()).await;
        for _ in 0..2 {
            let unresolved = fixture.unresolved(&text).await;
            assert!(unresolved.starts_with("claim `partner` of a row filter is missing"), "{partner:?}: {unresolved}");
        }
    }
}

#[tokio::test]
async fn tokens_of_an_outside_issuer_reach_the_rows_that_their_claims_name() {
    let signer = Signer::new(Algorithm::ES256, "k1");
    let server = KeyServer::start(Doing::Publishing(vec![signer.jwk.clone()])).await;
    let fixture = trusting(&server, NEVER).await;
    let saying = |name: &str, value: Value| {
        let mut claims = outside_claims();
        claims[name] = value;
        signer.sign(&claims)
    };
    let (ada, bob) = (saying("customer", json!("ada")), saying("customer", json!("bob")));
    let unrestricted = fixture.verify(&format!("Bearer {ada}")).await.unwrap();
    assert_eq!(unrestricted.bearer().rows, None);

    let restrict = async |row_filters: Vec<RowFilter>| {
        let issuers = fixture.auth.db.issuers();
        assert!(issuers.delete_issuer(fixture.tenant, OUTSIDE).await.unwrap());
        let (issuer, jwks_url, audience) = (OUTSIDE.to_owned(), server.url(), "orders".to_owned());
        let new = NewIssuer { issuer, jwks_url, audience, row_filters: Some(row_filters) };
        issuers.insert_issuer(fixture.tenant, &new).await.unwrap();
        fixture.auth.db.look_for_changes().await.unwrap();
    };
    restrict(filters(json!({"claim": "customer"}))).await;
    for _ in 0..2 {
        for (text, name) in [(&ada, "ada"), (&bob, "bob")] {
            let token = fixture.verify(&format!("Bearer {text}")).await.unwrap();
            assert_eq!(value(token), Scalar::Text(name.to_owned()));
        }
    }
    for bad in unusable() {
        let unresolved = fixture.unresolved(&saying("customer", bad.clone())).await;
        assert!(unresolved.starts_with("claim `customer` of a row filter is missing"), "{bad}: {unresolved}");
    }
    fixture.unresolved(&signer.token()).await;
    fixture.unresolved(&saying("Customer", json!("ada"))).await;
    // Claims that the host checks for itself may name rows too, if they are of a kind that can.
    for (name, good, bad) in [
        ("sub", json!("ada"), json!(["ada"])),
        ("aud", json!("orders"), json!(["orders"])),
        ("exp", json!(now_ms() / 1000 + 500), json!(now_ms() as f64 / 1000.0 + 500.5)),
        ("jti", json!("t1"), json!("")),
    ] {
        restrict(filters(json!({"claim": name}))).await;
        let token = fixture.verify(&format!("Bearer {}", saying(name, good.clone()))).await.unwrap();
        assert_eq!(value(token).value(), good.clone().into(), "{name}");
        fixture.unresolved(&saying(name, bad)).await;
    }
    // What the issuer's tokens reach is nothing to the tenant's own.
    fixture.rotate(KeyAlgorithm::default(), None).await;
    let own = fixture.issue().await;
    assert_eq!(fixture.verify(&format!("Bearer {own}")).await.unwrap().bearer().rows, None);
}

#[tokio::test]
async fn what_is_remembered_of_row_filters_is_counted() {
    let fixture = Fixture::new().await;
    let weight = async |count: usize| {
        let filter = |n: usize| json!({"connection": "dw", "table": format!("t{n}"), "column": "c", "equals": {"claim": "partner"}});
        let row_filters = serde_json::from_value((0..count).map(filter).collect()).unwrap();
        let text = fixture.issue_with(request(json!({"partner": "x".repeat(TEXT_BYTES_MAX)}), row_filters)).await;
        fixture.auth.verified.clear();
        fixture.verify(&format!("Bearer {text}")).await.unwrap();
        fixture.auth.verified.weight()
    };
    let (none, many) = (weight(0).await, weight(64).await);
    let values = 64 * u64::try_from(TEXT_BYTES_MAX).unwrap();
    assert!((values..2 * values).contains(&(many - none)), "{none} {many}");

    let trusted = async || {
        fixture.auth.trusts.clear();
        fixture.auth.public_keys(fixture.tenant).await.unwrap();
        fixture.auth.trusts.weight()
    };
    let before = trusted().await;
    let filter = |n: usize| json!({"connection": "dw", "table": format!("{n:0>255}")});
    let new = NewIssuer {
        issuer: OUTSIDE.to_owned(),
        jwks_url: OUTSIDE.to_owned(),
        audience: "orders".to_owned(),
        row_filters: serde_json::from_value((0..64).map(filter).collect()).unwrap(),
    };
    fixture.auth.db.issuers().insert_issuer(fixture.tenant, &new).await.unwrap();
    assert!(trusted().await - before > 64 * 255);
}
