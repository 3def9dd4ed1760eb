//! Tokens, good and forged.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

use super::*;
use crate::{
    db::endpoints::NewEndpoint,
    domain::{control_database::ControlDatabase, exchange::AuthMode},
};

struct Fixture {
    auth: Authenticator,
    tenant: TenantId,
    name: TenantName,
    key: SigningKey,
    token: String,
    /// Of two endpoints the first; tokens are verified for it.
    endpoint: EndpointId,
    other_endpoint: EndpointId,
    _directory: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let db = Db::open(&ControlDatabase::File(directory.path().join("pqhost.db"))).await.unwrap();
        let vault = Arc::new(Vault::open(&directory.path().join("vault.key"), None).unwrap());
        let name: TenantName = "acme".parse().unwrap();
        let tenant = db.tenants().create_tenant(&name).await.unwrap();
        let script = db.scripts().ensure_script(tenant, &"hello".parse().unwrap()).await.unwrap();
        let create = async |route: &str| {
            let (methods, route, auth) = ("GET".parse().unwrap(), route.parse().unwrap(), AuthMode::Jwt);
            let new = NewEndpoint::to_script(methods, route, script, auth);
            db.endpoints().create_endpoint(tenant, &new).await.unwrap().id
        };
        let (endpoint, other_endpoint) = (create("/a").await, create("/b").await);
        let auth = Authenticator::new(db, vault);
        let token = issue(&auth, tenant, &name, None).await;
        let key = auth.db.signing_keys().list(tenant).await.unwrap().remove(0);
        Self { auth, tenant, name, key, token, endpoint, other_endpoint, _directory: directory }
    }

    async fn verify(&self, authorization: &str) -> Result<VerifiedToken, AuthError> {
        let value = HeaderValue::from_str(authorization).unwrap();
        self.auth.verify(self.tenant, &self.name, self.endpoint, Some(&value)).await
    }

    async fn reason(&self, token: &str) -> &'static str {
        match self.verify(&format!("Bearer {token}")).await {
            Err(AuthError::InvalidToken { reason }) => reason,
            other => panic!("{other:?}"),
        }
    }

    /// A token signed with the tenant's own key, whatever it says.
    fn signed(&self, header: &Value, claims: &Value) -> String {
        let secret = self.auth.vault.unseal(&key_context(self.tenant, &self.key.kid), &self.key.sealed).unwrap();
        let message = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let key = EncodingKey::from_secret(secret.expose());
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        format!("{message}.{signature}")
    }

    fn header(&self) -> Value {
        json!({"alg": "HS256", "typ": "JWT", "kid": self.key.kid})
    }

    fn claims(&self) -> Value {
        let payload = self.token.split('.').nth(1).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
    }

    fn changed(&self, claim: &str, value: Value) -> String {
        let mut claims = self.claims();
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(claim)),
            value => claims[claim] = value,
        }
        self.signed(&self.header(), &claims)
    }
}

async fn issue(auth: &Authenticator, tenant: TenantId, name: &TenantName, only: Option<&[EndpointId]>) -> String {
    let expires_in = Duration::from_secs(3600);
    let only = only.map(|ids| EndpointsOfRoute { route: "/accounts".to_owned(), ids: ids.to_vec() });
    let request = TokenRequest { name: "partner".to_owned(), expires_in, only };
    auth.create_token(&auth.db, tenant, name, request).await.unwrap().text.expose_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_token_is_accepted_under_both_schemes() {
    let fixture = Fixture::new().await;
    for scheme in ["Bearer", "JWT", "jwt", "BEARER"] {
        let token = fixture.verify(&format!("{scheme} {}", fixture.token)).await.unwrap();
        let claims = &token.claims;
        assert_eq!((claims["aud"].as_str(), claims["jti"].as_str()), (Some("acme"), Some(token.id.as_ref())));
    }
    // The helper that makes broken tokens makes good ones too, or the tests below prove nothing.
    let good = fixture.signed(&fixture.header(), &fixture.claims());
    assert!(fixture.verify(&format!("Bearer {good}")).await.is_ok());
}

#[tokio::test]
async fn no_token_and_other_schemes_are_missing() {
    let fixture = Fixture::new().await;
    assert!(matches!(
        fixture.auth.verify(fixture.tenant, &fixture.name, fixture.endpoint, None).await,
        Err(AuthError::MissingToken)
    ));
    for authorization in ["", "Bearer", "Basic YTpi"] {
        assert!(matches!(fixture.verify(authorization).await, Err(AuthError::MissingToken)), "{authorization}");
    }
}

#[tokio::test]
async fn broken_claims_are_refused() {
    let fixture = Fixture::new().await;
    for (claim, value, reason) in [
        ("exp", json!(now() - 120), "it has expired"),
        ("exp", Value::Null, "it lacks a required claim"),
        ("exp", json!("soon"), "it lacks a required claim"),
        ("nbf", json!(now() + 3600), "it is not valid yet"),
        ("aud", json!("other"), "it is for another tenant"),
        ("aud", Value::Null, "it lacks a required claim"),
        ("iss", json!("other"), "it is of another issuer"),
        ("jti", Value::Null, "it has no id"),
        ("jti", json!("made-up"), "it was never issued"),
    ] {
        assert_eq!(fixture.reason(&fixture.changed(claim, value)).await, reason, "{claim}");
    }
}

#[tokio::test]
async fn the_key_fixes_the_algorithm() {
    let fixture = Fixture::new().await;
    let claims = fixture.claims();
    for algorithm in ["HS512", "RS256", "ES256", "EdDSA"] {
        let header = json!({"alg": algorithm, "kid": fixture.key.kid});
        assert_eq!(fixture.reason(&fixture.signed(&header, &claims)).await, "it is signed with another algorithm");
    }
    for algorithm in ["none", "None", "NONE", ""] {
        let header = json!({"alg": algorithm, "kid": fixture.key.kid});
        let signed = fixture.signed(&header, &claims);
        let unsigned = &signed[..=signed.rfind('.').unwrap()];
        for token in [signed.as_str(), unsigned] {
            assert_eq!(fixture.reason(token).await, "its header is malformed", "{algorithm}");
        }
    }
}

#[tokio::test]
async fn only_keys_of_the_tenant_count() {
    let fixture = Fixture::new().await;
    for kid in [json!("unknown"), json!("../../vault.key"), json!("' OR 1=1 --"), json!("")] {
        let token = fixture.signed(&json!({"alg": "HS256", "kid": kid}), &fixture.claims());
        assert_eq!(fixture.reason(&token).await, "it names an unknown key");
    }
    assert_eq!(fixture.reason(&fixture.signed(&json!({"alg": "HS256"}), &fixture.claims())).await, "it names no key");

    let other_name: TenantName = "other".parse().unwrap();
    let other = fixture.auth.db.tenants().create_tenant(&other_name).await.unwrap();
    let foreign = issue(&fixture.auth, other, &other_name, None).await;
    assert_eq!(fixture.reason(&foreign).await, "it names an unknown key");
    // Also when it is remembered as valid for its own tenant.
    let value = HeaderValue::from_str(&format!("Bearer {foreign}")).unwrap();
    fixture.auth.verify(other, &other_name, fixture.endpoint, Some(&value)).await.unwrap();
    assert_eq!(fixture.reason(&foreign).await, "it names an unknown key");
}

#[tokio::test]
async fn garbage_is_refused() {
    let fixture = Fixture::new().await;
    let token = &fixture.token;
    let (payload, signature) = (token.find('.').unwrap() + 3, token.rfind('.').unwrap() + 3);
    let flipped = |at: usize| {
        let other = if &token[at..=at] == "A" { "B" } else { "A" };
        format!("{}{other}{}", &token[..at], &token[at + 1..])
    };
    assert_eq!(fixture.reason(&flipped(payload)).await, "its signature is wrong");
    assert_eq!(fixture.reason(&flipped(signature)).await, "its signature is wrong");
    for garbage in ["", "..", "a.b.c", "a", &token[..20]] {
        assert_eq!(fixture.reason(garbage).await, "its header is malformed", "{garbage}");
    }
    assert_eq!(fixture.reason(&"a".repeat(TOKEN_BYTES_MAX + 1)).await, "it is too long");
}

#[tokio::test]
async fn a_revoked_token_is_refused_once_caches_are_told() {
    let fixture = Fixture::new().await;
    let token = fixture.verify(&format!("JWT {}", fixture.token)).await.unwrap();
    assert!(fixture.auth.db.tokens().revoke_token(fixture.tenant, &token.id).await.unwrap());
    fixture.auth.forget();
    assert_eq!(fixture.reason(&fixture.token).await, "it was revoked");
}

#[tokio::test]
async fn a_bound_token_is_for_its_endpoints_only() {
    let fixture = Fixture::new().await;
    let bound = async |ids: &[EndpointId]| issue(&fixture.auth, fixture.tenant, &fixture.name, Some(ids)).await;
    for ids in [&[fixture.other_endpoint][..], &[]] {
        let bound = bound(ids).await;
        for _ in 0..2 {
            let outcome = fixture.verify(&format!("Bearer {bound}")).await;
            assert!(matches!(outcome, Err(AuthError::TokenNotForEndpoint)), "{outcome:?}");
        }
    }
    let bound = bound(&[fixture.other_endpoint, fixture.endpoint]).await;
    assert!(fixture.verify(&format!("Bearer {bound}")).await.is_ok());
}
