//! Tokens, good and forged.

mod broken;
mod key_server;
mod outside;
mod rows;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ipnet::IpNet;
use jsonwebtoken::{DecodingKey, EncodingKey, Validation};
use serde_json::json;

use super::*;
use crate::{
    db::{endpoints::NewEndpoint, uses::Use},
    domain::{control_database::ControlDatabase, exchange::AuthMode},
};

/// No test takes this long unless something hangs.
const HANG_GUARD: Duration = Duration::from_secs(120);

struct Fixture {
    auth: Authenticator,
    tenant: TenantId,
    name: TenantName,
    /// Of two endpoints the first; tokens are verified for it.
    endpoint: EndpointId,
    other_endpoint: EndpointId,
    _directory: tempfile::TempDir,
}

impl Fixture {
    /// A tenant with a signing key of the default kind.
    async fn new() -> Self {
        let fixture = Self::with_times(Times::default()).await;
        fixture.rotate(KeyAlgorithm::default(), None).await;
        fixture
    }

    async fn with_times(times: Times) -> Self {
        Self::with(times, vec!["127.0.0.0/8".parse().unwrap()]).await
    }

    async fn with(times: Times, listed: Vec<IpNet>) -> Self {
        Self::with_egress(times, Egress::new(listed)).await
    }

    async fn with_egress(times: Times, egress: Egress) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let db = Db::open(&ControlDatabase::File(directory.path().join("pqhost.db"))).await.unwrap();
        let vault = Arc::new(Vault::open(&directory.path().join("vault.key"), None).unwrap());
        let name: TenantName = "acme".parse().unwrap();
        let tenant = db.tenants().create_tenant(&name).await.unwrap();
        let script = db.scripts().ensure_script(tenant, &"hello".parse().unwrap()).await.unwrap();
        let create = async |route: &str| {
            let (methods, route, auth) = ("ANY".parse().unwrap(), route.parse().unwrap(), AuthMode::Jwt);
            let new = NewEndpoint::to_script(methods, route, script, auth);
            db.endpoints().create_endpoint(tenant, &new).await.unwrap().id
        };
        let (endpoint, other_endpoint) = (create("/a").await, create("/b").await);
        let auth = Authenticator::with_times(db, vault, Arc::new(egress), times);
        Self { auth, tenant, name, endpoint, other_endpoint, _directory: directory }
    }

    async fn rotate(&self, algorithm: KeyAlgorithm, overlap: Option<Duration>) -> SigningKey {
        let key = self.auth.create_signing_key(&self.auth.db, self.tenant, algorithm, overlap).await.unwrap();
        self.auth.db.look_for_changes().await.unwrap();
        key
    }

    /// The key that signs.
    async fn key(&self) -> SigningKey {
        self.auth.db.signing_keys().list(self.tenant).await.unwrap().remove(0)
    }

    async fn issue(&self) -> String {
        self.issue_with(TokenRequest::new("partner", Duration::from_secs(3600))).await
    }

    async fn issue_with(&self, request: TokenRequest) -> String {
        issue(&self.auth, self.tenant, &self.name, request).await
    }

    async fn verify(&self, authorization: &str) -> Result<VerifiedToken, AuthError> {
        self.verify_for("GET", authorization).await
    }

    async fn verify_for(&self, method: &str, authorization: &str) -> Result<VerifiedToken, AuthError> {
        let value = HeaderValue::from_str(authorization).unwrap();
        self.auth.verify(self.tenant, &self.name, self.endpoint, method, Some(&value)).await
    }

    async fn reason(&self, token: &str) -> &'static str {
        match self.verify(&format!("Bearer {token}")).await {
            Err(AuthError::InvalidToken { reason }) => reason,
            other => panic!("{other:?}"),
        }
    }

    /// The tenant's private key for the library that stands in for all others.
    fn private(&self, key: &SigningKey) -> (EncodingKey, jsonwebtoken::Algorithm) {
        let private = self.auth.vault.unseal(&key_context(self.tenant, &key.kid), &key.sealed).unwrap();
        let private = private.expose();
        match key.algorithm {
            KeyAlgorithm::Hs256 => (EncodingKey::from_secret(private), jsonwebtoken::Algorithm::HS256),
            KeyAlgorithm::Es256 => (EncodingKey::from_ec_der(private), jsonwebtoken::Algorithm::ES256),
            KeyAlgorithm::EdDsa => (EncodingKey::from_ed_der(private), jsonwebtoken::Algorithm::EdDSA),
        }
    }

    /// A token signed with the tenant's own key, whatever it says.
    async fn signed(&self, header: &Value, claims: &Value) -> String {
        let (key, algorithm) = self.private(&self.key().await);
        signed_with(&key, algorithm, header, claims)
    }

    async fn header(&self) -> Value {
        let key = self.key().await;
        json!({"alg": key.algorithm, "typ": "JWT", "kid": key.kid})
    }
}

async fn issue(auth: &Authenticator, tenant: TenantId, name: &TenantName, request: TokenRequest) -> String {
    auth.create_token(&auth.db, tenant, name, request).await.unwrap().text.expose_str().unwrap().to_owned()
}

fn claims_of(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

/// A token with any header at all.
fn signed_with(key: &EncodingKey, algorithm: jsonwebtoken::Algorithm, header: &Value, claims: &Value) -> String {
    let message = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

const ALGORITHMS: [KeyAlgorithm; 3] = [KeyAlgorithm::Hs256, KeyAlgorithm::Es256, KeyAlgorithm::EdDsa];

#[tokio::test]
async fn a_token_is_accepted_under_both_schemes() {
    let fixture = Fixture::new().await;
    let text = fixture.issue().await;
    for scheme in ["Bearer", "JWT", "jwt", "BEARER"] {
        let token = fixture.verify(&format!("{scheme} {text}")).await.unwrap();
        let bearer = token.bearer();
        assert_eq!(
            (bearer.claims["aud"].as_str(), bearer.claims["jti"].as_str()),
            (Some("acme"), bearer.id.as_deref())
        );
        assert_eq!(&*bearer.issuer, "pqhost");
    }
}

#[tokio::test]
async fn no_token_and_other_schemes_are_missing() {
    let fixture = Fixture::new().await;
    assert!(matches!(
        fixture.auth.verify(fixture.tenant, &fixture.name, fixture.endpoint, "GET", None).await,
        Err(AuthError::MissingToken)
    ));
    for authorization in ["", "Bearer", "Basic YTpi"] {
        assert!(matches!(fixture.verify(authorization).await, Err(AuthError::MissingToken)), "{authorization}");
    }
}

#[tokio::test]
async fn tokens_of_each_algorithm_are_accepted_here_and_by_others_with_the_public_key() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.auth.public_keys(fixture.tenant).await.unwrap(), json!({"keys": []}), "HS256 is a secret");
    for algorithm in ALGORITHMS {
        fixture.rotate(algorithm, Some(Duration::ZERO)).await;
        let token = fixture.issue().await;
        fixture.verify(&format!("Bearer {token}")).await.unwrap();
        // And what another library signs with the same key.
        let again = fixture.signed(&fixture.header().await, &claims_of(&token)).await;
        fixture.verify(&format!("Bearer {again}")).await.unwrap();

        let set = fixture.auth.public_keys(fixture.tenant).await.unwrap();
        let header = jsonwebtoken::decode_header(&token).unwrap();
        assert_eq!(header.alg, fixture.private(&fixture.key().await).1);
        if algorithm == KeyAlgorithm::Hs256 {
            assert_eq!(set, json!({"keys": []}));
            continue;
        }
        assert_eq!(set["keys"].as_array().unwrap().len(), 1, "{set}");
        let jwk = &set["keys"][0];
        assert_eq!((&jwk["kid"], &jwk["use"], &jwk["alg"]), (&json!(header.kid), &json!("sig"), &json!(algorithm)));
        assert!(jwk.get("d").is_none() && jwk.get("k").is_none(), "{jwk}");
        let key = DecodingKey::from_jwk(&serde_json::from_value(jwk.clone()).unwrap()).unwrap();
        let mut validation = Validation::new(header.alg);
        validation.set_audience(&["acme"]);
        jsonwebtoken::decode::<Value>(&token, &key, &validation).unwrap();
    }
}

#[tokio::test]
async fn keys_rotate_with_overlap() {
    let fixture = Fixture::new().await;
    let first = fixture.issue().await;
    let ours = fixture.key().await;
    let second_key = fixture.rotate(KeyAlgorithm::Es256, None).await;
    let second = fixture.issue().await;
    for token in [&first, &second] {
        fixture.verify(&format!("Bearer {token}")).await.unwrap();
    }
    // The key that signs stays; the other one goes, and its tokens with it.
    let keys = fixture.auth.db.signing_keys();
    let error = keys.delete(fixture.tenant, &second_key.kid).await.unwrap_err();
    assert!(matches!(error, DbError::InUse { .. }), "{error}");
    assert!(keys.delete(fixture.tenant, &ours.kid).await.unwrap());
    assert!(!keys.delete(fixture.tenant, &ours.kid).await.unwrap());
    fixture.auth.db.look_for_changes().await.unwrap();
    assert_eq!(fixture.reason(&first).await, "it names an unknown key");
    fixture.verify(&format!("Bearer {second}")).await.unwrap();

    // A token that is remembered ends with its key too. Nobody forgets in between.
    let overlap = Duration::from_secs(1);
    let begin = std::time::Instant::now();
    fixture.rotate(KeyAlgorithm::EdDsa, Some(overlap)).await;
    let third = fixture.issue().await;
    while fixture.verify(&format!("Bearer {second}")).await.is_ok() {
        assert!(begin.elapsed() < HANG_GUARD, "it ends");
        tokio::task::yield_now().await;
    }
    assert!(begin.elapsed() > overlap / 2, "not before: {:?}", begin.elapsed());
    assert_eq!(fixture.reason(&second).await, "it names an unknown key");
    fixture.verify(&format!("Bearer {third}")).await.unwrap();
    assert_eq!(fixture.auth.public_keys(fixture.tenant).await.unwrap()["keys"].as_array().unwrap().len(), 1);
    // A longer overlap gives an older key no more time than it had.
    fixture.rotate(KeyAlgorithm::Hs256, Some(Duration::from_secs(3600))).await;
    assert_eq!(fixture.auth.db.signing_keys().list(fixture.tenant).await.unwrap().len(), 2);
    fixture.rotate(KeyAlgorithm::Hs256, Some(Duration::ZERO)).await;
    assert_eq!(fixture.reason(&third).await, "it names an unknown key");
}

#[tokio::test]
async fn a_tenant_has_so_many_keys_and_no_more() {
    let fixture = Fixture::new().await;
    let create = async || {
        let db = &fixture.auth.db;
        fixture.auth.create_signing_key(db, fixture.tenant, KeyAlgorithm::EdDsa, None).await
    };
    let mut made = 1;
    let error = loop {
        match create().await {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((made, error.to_string().as_str()), (20, "a tenant has at most 20 signing keys: delete one first"));
}

#[tokio::test]
async fn a_revoked_token_is_refused_once_caches_are_told() {
    let fixture = Fixture::new().await;
    let text = fixture.issue().await;
    let token = fixture.verify(&format!("JWT {text}")).await.unwrap();
    assert!(fixture.auth.db.tokens().revoke_token(fixture.tenant, &token.id.unwrap()).await.unwrap());
    fixture.auth.db.look_for_changes().await.unwrap();
    assert_eq!(fixture.reason(&text).await, "it was revoked");
}

#[tokio::test]
async fn a_bound_token_is_for_its_endpoints_only() {
    let fixture = Fixture::new().await;
    let bound = async |routes: &[&str], ids: &[EndpointId]| {
        let routes = routes.iter().map(|route| (*route).to_owned()).collect();
        let only = Some(EndpointsOfRoutes { routes, ids: ids.to_vec() });
        fixture.issue_with(TokenRequest { only, ..TokenRequest::new("partner", Duration::from_secs(3600)) }).await
    };
    for ids in [&[fixture.other_endpoint][..], &[]] {
        let bound = bound(&["/b"], ids).await;
        assert_eq!(claims_of(&bound)["endpoint"], "/b");
        for _ in 0..2 {
            let outcome = fixture.verify(&format!("Bearer {bound}")).await;
            assert!(matches!(outcome, Err(AuthError::TokenNotForEndpoint)), "{outcome:?}");
        }
    }
    let bound = bound(&["/a", "/b"], &[fixture.other_endpoint, fixture.endpoint]).await;
    assert_eq!(claims_of(&bound)["endpoint"], json!(["/a", "/b"]));
    assert!(fixture.verify(&format!("Bearer {bound}")).await.is_ok());
    let listed = fixture.auth.db.tokens().list_tokens_after(fixture.tenant, None, 10).await.unwrap();
    assert!(listed.iter().any(|token| token.routes == Some(vec!["/a".to_owned(), "/b".to_owned()])), "{listed:?}");
}

#[tokio::test]
async fn a_token_for_some_methods_is_for_no_others() {
    let fixture = Fixture::new().await;
    let methods: MethodSet = "GET,PUT".parse().unwrap();
    let request = TokenRequest::new("reader", Duration::from_secs(3600));
    let text = fixture.issue_with(TokenRequest { methods: Some(methods), ..request }).await;
    for (method, is_allowed) in [
        ("GET", true),
        ("HEAD", true),
        ("PUT", true),
        ("POST", false),
        ("OPTIONS", false),
        ("PURGE", false),
        ("get", false),
    ] {
        for _ in 0..2 {
            match fixture.verify_for(method, &format!("Bearer {text}")).await {
                Ok(token) => assert!(is_allowed && token.bearer().methods == Some(methods), "{method}"),
                Err(AuthError::TokenNotForMethod) => assert!(!is_allowed, "{method}"),
                Err(error) => panic!("{method}: {error}"),
            }
        }
    }
}

#[tokio::test]
async fn claims_are_what_was_given_and_nothing_that_the_host_says() {
    let fixture = Fixture::new().await;
    let request = |claims: Value| TokenRequest {
        claims: claims.as_object().unwrap().clone(),
        ..TokenRequest::new("partner", Duration::from_secs(3600))
    };
    let given = json!({"partner": 17, "rows": ["a", {"b": null}], "sub": "ada", "\u{0}é": "\u{0}"});
    let text = fixture.issue_with(request(given.clone())).await;
    let token = fixture.verify(&format!("Bearer {text}")).await.unwrap();
    for (name, value) in given.as_object().unwrap() {
        assert_eq!(token.claims[name], *value);
    }
    let listed = fixture.auth.db.tokens().list_tokens_after(fixture.tenant, None, 10).await.unwrap();
    assert_eq!(Value::from(listed[0].claims.clone()), given);

    let refused = async |claims: Value| {
        let created = fixture.auth.create_token(&fixture.auth.db, fixture.tenant, &fixture.name, request(claims)).await;
        created.unwrap_err().to_string()
    };
    for reserved in ["iss", "aud", "jti", "iat", "exp", "nbf", "endpoint"] {
        assert_eq!(refused(json!({reserved: 1})).await, format!("the claim `{reserved}` is set by the host"));
    }
    let largest = "x".repeat((4 << 10) - r#"{"a":""}"#.len());
    fixture.issue_with(request(json!({"a": largest}))).await;
    let too_large = refused(json!({"a": format!("{largest}x")})).await;
    assert_eq!(too_large, "the claims of a token may have 4096 bytes as JSON");
    let routes = (0..20).map(|n| format!("/{n}{}", "x".repeat(400))).collect();
    let only = Some(EndpointsOfRoutes { routes, ids: vec![fixture.endpoint] });
    let request = TokenRequest { only, ..TokenRequest::new("partner", Duration::from_secs(3600)) };
    let created = fixture.auth.create_token(&fixture.auth.db, fixture.tenant, &fixture.name, request).await;
    assert!(matches!(created, Err(AuthError::TokenTooLarge { limit_bytes: TOKEN_BYTES_MAX })), "{created:?}");
}

#[tokio::test]
async fn the_last_use_of_a_token_is_noted_once_a_minute_and_drops_no_caches() {
    let fixture = Fixture::new().await;
    let text = fixture.issue().await;
    let unused = fixture.issue().await;
    let (db, tenant) = (&fixture.auth.db, fixture.tenant);
    let last_used = async |token: &str| {
        let id = claims_of(token)["jti"].as_str().unwrap().to_owned();
        db.tokens().find_token(tenant, &id).await.unwrap().unwrap().last_used_at_ms
    };
    let counted = db.count_changes().await;
    let begin = signed(now_ms());
    for _ in 0..5 {
        fixture.verify(&format!("Bearer {text}")).await.unwrap();
    }
    fixture.auth.write_uses().await;
    let first = last_used(&text).await.unwrap();
    assert!((begin..=signed(now_ms())).contains(&first));
    assert_eq!(last_used(&unused).await, None);
    assert_eq!(db.count_changes().await, counted);

    // Within the minute no more, whatever is remembered here or by another host.
    fixture.auth.db.look_for_changes().await.unwrap();
    fixture.verify(&format!("Bearer {text}")).await.unwrap();
    let id: Arc<str> = claims_of(&text)["jti"].as_str().unwrap().into();
    let by_another = |at_ms| [Use { presented: Presented::Token, tenant, id: Arc::clone(&id), at_ms }];
    db.uses().note_uses(&by_another(first + 59_000)).await.unwrap();
    fixture.auth.write_uses().await;
    assert_eq!(last_used(&text).await, Some(first));
    db.uses().note_uses(&by_another(first + 60_000)).await.unwrap();
    db.uses().note_uses(&by_another(first + 30_000)).await.unwrap();
    assert_eq!(last_used(&text).await, Some(first + 60_000), "a host that is behind takes nothing back");
}

#[tokio::test]
async fn what_was_read_before_a_revocation_is_not_believed_after_it() {
    let fixture = Fixture::new().await;
    let text = fixture.issue().await;
    fixture.verify(&format!("Bearer {text}")).await.unwrap();
    let Fixture { auth, tenant, .. } = &fixture;
    let hash = (*tenant, blake3::hash(text.as_bytes()));
    let read_at = auth.db.now();
    let (trust, token) = (auth.trusts.get(*tenant, tenant).unwrap(), auth.verified.get(*tenant, &hash).unwrap());
    fixture.rotate(KeyAlgorithm::Es256, Some(Duration::ZERO)).await;
    // Somebody who has read before, and was slow, remembers only now.
    auth.trusts.insert(*tenant, read_at, trust);
    assert_eq!(fixture.reason(&text).await, "it names an unknown key");
    auth.verified.insert(hash, read_at, token);
    assert_eq!(fixture.reason(&text).await, "it names an unknown key");
}
