//! Tokens of issuers outside, whose servers of keys do what servers do.

use std::time::Instant;

use jsonwebtoken::Algorithm;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::sync::watch;

use super::{
    key_server::{Doing, KeyServer, OUTSIDE, Signer, claims},
    *,
};
use crate::{auth::issuers::Times, db::issuers::NewIssuer};

const LONG: Duration = Duration::from_secs(3600);

/// Times that never pass in a test.
pub(super) const NEVER: Times = Times { fresh: LONG, kept: LONG, again: LONG, again_without: LONG };

/// Every request asks.
const ALWAYS: Times = Times { fresh: Duration::ZERO, kept: LONG, again: Duration::ZERO, again_without: Duration::ZERO };

/// A tenant that trusts the issuer of a server's keys.
pub(super) async fn trusting(server: &KeyServer, times: Times) -> Fixture {
    let fixture = Fixture::with_times(times).await;
    fixture.trust(OUTSIDE, &server.url()).await;
    fixture
}

impl Fixture {
    async fn trust(&self, issuer: &str, url: &str) {
        let new = NewIssuer {
            issuer: issuer.to_owned(),
            jwks_url: url.to_owned(),
            audience: "orders".to_owned(),
            row_filters: None,
        };
        self.auth.db.issuers().insert_issuer(self.tenant, &new).await.unwrap();
        self.auth.db.look_for_changes().await.unwrap();
    }

    /// Whether a token is valid (200), invalid (401), or that cannot be told (503). Never takes it from memory.
    async fn outcome(&self, token: &str) -> u16 {
        self.auth.verified.clear();
        match self.verify(&format!("Bearer {token}")).await {
            Ok(_) => 200,
            Err(AuthError::InvalidToken { .. }) => 401,
            Err(AuthError::IssuerUnavailable { retry_after }) => {
                assert!((1..=3600).contains(&retry_after.as_secs()), "{retry_after:?}");
                503
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn tokens_of_each_algorithm_are_accepted_by_the_keys_of_their_issuer() {
    use Algorithm::{ES256, ES384, EdDSA, PS256, RS256, RS384, RS512};
    let server = KeyServer::start(Doing::HangingUp).await;
    let fixture = trusting(&server, ALWAYS).await;
    for algorithm in [ES256, ES384, EdDSA, RS256, RS384, RS512, PS256] {
        let signer = Signer::new(algorithm, "k1");
        server.now(Doing::Publishing(vec![signer.jwk("alg", json!(algorithm))]));
        let token = fixture.verify(&format!("Bearer {}", signer.token())).await.unwrap();
        let bearer = token.bearer();
        assert_eq!((&*bearer.issuer, bearer.id, bearer.methods), (OUTSIDE, None, None), "{algorithm:?}");
        assert_eq!(bearer.claims["sub"], "ada");
        // Without `alg`, a key is for what its kind is for mostly.
        let is_usual = ![RS384, RS512, PS256].contains(&algorithm);
        server.now(Doing::Publishing(vec![signer.jwk.clone()]));
        assert_eq!(fixture.outcome(&signer.token()).await, if is_usual { 200 } else { 401 }, "{algorithm:?}");
        let other = Signer { jwk: signer.jwk.clone(), ..Signer::new(algorithm, "k1") };
        assert_eq!(fixture.outcome(&other.token()).await, 401, "{algorithm:?} signed by somebody else");
    }
}

#[tokio::test]
async fn what_an_issuer_says_must_be_for_the_tenant_and_now() {
    let signer = Signer::new(Algorithm::ES256, "k1");
    let server = KeyServer::start(Doing::Publishing(vec![signer.jwk.clone()])).await;
    let fixture = trusting(&server, NEVER).await;
    let seconds = now_ms() / 1000;
    for (claim, value, outcome) in [
        ("iss", json!(OUTSIDE.trim_end_matches('/')), 401),
        ("iss", json!("https://other.example.com/"), 401),
        ("iss", json!([OUTSIDE]), 401),
        // With our name, it must be signed by our key.
        ("iss", json!("pqhost"), 401),
        ("aud", json!("orders"), 200),
        ("aud", json!("acme"), 401),
        ("aud", json!([]), 401),
        ("exp", json!(seconds - 61), 401),
        ("exp", json!(seconds - 30), 200),
        ("nbf", json!(seconds + 30), 200),
        ("nbf", json!(seconds + 120), 401),
        ("jti", json!("t1"), 200),
        ("jti", json!(1), 401),
        // Of ours, but no business of other issuers.
        ("endpoint", json!("/other"), 200),
    ] {
        let mut claims = claims();
        claims[claim] = value.clone();
        assert_eq!(fixture.outcome(&signer.sign(&claims)).await, outcome, "{claim} {value}");
    }
    for missing in ["iss", "aud", "exp"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(missing);
        assert_eq!(fixture.outcome(&signer.sign(&claims)).await, 401, "without {missing}");
    }
    // The issuer is trusted by one tenant, and only as long as it is.
    let token = signer.token();
    assert_eq!(fixture.outcome(&token).await, 200);
    let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    let other: TenantName = "other".parse().unwrap();
    let tenant = fixture.auth.db.tenants().create_tenant(&other).await.unwrap();
    let elsewhere = fixture.auth.verify(tenant, &other, fixture.endpoint, "GET", Some(&value)).await;
    assert!(matches!(elsewhere, Err(AuthError::InvalidToken { .. })), "{elsewhere:?}");
    assert!(fixture.auth.db.issuers().delete_issuer(fixture.tenant, OUTSIDE).await.unwrap());
    fixture.auth.db.look_for_changes().await.unwrap();
    assert_eq!(fixture.outcome(&token).await, 401);
}

#[tokio::test]
async fn keys_that_are_none_for_tokens_verify_none() {
    let signer = Signer::new(Algorithm::ES256, "k1");
    let other = Signer::new(Algorithm::ES256, "k1");
    let secret = json!({"kty": "oct", "kid": "k1", "k": URL_SAFE_NO_PAD.encode("secret"), "alg": "HS256"});
    let rsa = Signer::new(Algorithm::RS256, "k1");
    let n = rsa.jwk["n"].as_str().unwrap();
    let good = signer.jwk.clone();
    let server = KeyServer::start(Doing::HangingUp).await;
    let fixture = trusting(&server, ALWAYS).await;
    let header = json!({"alg": "HS256", "kid": "k1"});
    let shared = |secret: &[u8]| signed_with(&EncodingKey::from_secret(secret), Algorithm::HS256, &header, &claims());
    for (keys, token, outcome) in [
        (vec![good.clone()], signer.token(), 200),
        (vec![good.clone(), good.clone()], signer.token(), 200), // twice the same is not two
        (vec![json!(null), json!(7), json!({}), good.clone()], signer.token(), 200),
        (vec![secret.clone(), good.clone()], signer.token(), 200),
        (vec![secret.clone(), good.clone()], shared(b"secret"), 401),
        (vec![good.clone()], shared(&serde_json::to_vec(&good).unwrap()), 401),
        (vec![good.clone(), other.jwk.clone()], signer.token(), 401), // which of the two?
        (vec![good.clone(), rsa.jwk.clone()], signer.token(), 401),
        (vec![signer.jwk("use", json!("enc")), other.jwk("kid", json!("k2"))], signer.token(), 401),
        (vec![signer.jwk("use", json!("sig"))], signer.token(), 200),
        (vec![signer.jwk("key_ops", json!(["sign"])), other.jwk("kid", json!("k2"))], signer.token(), 401),
        (vec![signer.jwk("key_ops", json!(["verify"]))], signer.token(), 200),
        (vec![signer.jwk("d", json!("AAAA")), other.jwk("kid", json!("k2"))], signer.token(), 401),
        (vec![signer.jwk("alg", json!("HS256")), other.jwk("kid", json!("k2"))], signer.token(), 401),
        (vec![signer.jwk("alg", json!("none")), other.jwk("kid", json!("k2"))], signer.token(), 401),
        (vec![signer.jwk("alg", json!("ES384")), other.jwk("kid", json!("k2"))], signer.token(), 401),
        (vec![signer.jwk("crv", json!("P-384")), other.jwk("kid", json!("k2"))], signer.token(), 401),
        (vec![signer.jwk("x", signer.jwk["y"].clone())], signer.token(), 401), // on no curve
        (vec![rsa.jwk("n", json!(&n[..170])), other.jwk("kid", json!("k2"))], rsa.token(), 401), // 1024 bits
        (vec![rsa.jwk("n", json!(n.repeat(3))), other.jwk("kid", json!("k2"))], rsa.token(), 401),
        (vec![rsa.jwk("n", json!(format!("AAAA{n}")))], rsa.token(), 200), // as a number it is the same
        (vec![signer.jwk("kid", json!("k".repeat(300))), other.jwk("kid", json!("k2"))], signer.token(), 401),
    ] {
        server.now(Doing::Publishing(keys.clone()));
        assert_eq!(fixture.outcome(&token).await, outcome, "{keys:?} {token}");
    }
    // Without a name, only the only key.
    let unnamed = Signer { jwk: signer.jwk("kid", Value::Null), ..signer };
    for (keys, outcome) in [
        (vec![good.clone()], 200),
        (vec![unnamed.jwk.clone()], 200),
        (vec![good.clone(), other.jwk("kid", json!("k2"))], 401),
    ] {
        server.now(Doing::Publishing(keys.clone()));
        assert_eq!(fixture.outcome(&unnamed.token()).await, outcome, "{keys:?}");
    }
}

#[tokio::test]
async fn a_server_of_keys_that_misbehaves_is_unavailable_and_soon() {
    let signer = Signer::new(Algorithm::ES256, "k1");
    let good = json!({ "keys": [&signer.jwk] }).to_string();
    let many: Vec<Value> = (0..101).map(|n| signer.jwk("kid", json!(n.to_string()))).collect();
    let elsewhere = KeyServer::start(Doing::Publishing(vec![signer.jwk.clone()])).await;
    let redirect = format!("302 Found\r\nlocation: {}", elsewhere.url()).leak();
    let server = KeyServer::start(Doing::HangingUp).await;
    let fixture = trusting(&server, ALWAYS).await;
    for doing in [
        Doing::HangingUp,
        Doing::Silent,
        Doing::Dripping,
        Doing::Endless,
        Doing::Sending("404 Not Found", good.clone()),
        Doing::Sending("500 Oops", good.clone()),
        Doing::Sending("204 No Content", String::new()),
        Doing::Sending(redirect, good.clone()),
        Doing::Sending("200 OK", String::new()),
        Doing::Sending("200 OK", "<html>log in</html>".to_owned()),
        Doing::Sending("200 OK", "[]".to_owned()),
        Doing::Sending("200 OK", "{\"keys\": {}}".to_owned()),
        Doing::Sending("200 OK", "{\"keys\": []}".to_owned()),
        Doing::Sending("200 OK", "[".repeat(100_000)),
        Doing::Sending("200 OK", format!("{good}{}", " ".repeat(300 << 10))),
        Doing::Sending("200 OK\r\ncontent-encoding: gzip", "\u{1f}".to_owned()),
        Doing::Publishing(many),
    ] {
        server.now(doing);
        let outcome = tokio::time::timeout(HANG_GUARD, fixture.outcome(&signer.token())).await;
        assert_eq!(outcome.expect("it is given up"), 503);
    }
    assert_eq!(elsewhere.asked(), 0, "nobody is sent elsewhere");
    server.now(Doing::Publishing(vec![signer.jwk.clone()]));
    assert_eq!(fixture.outcome(&signer.token()).await, 200);
}

#[tokio::test]
async fn addresses_that_are_not_public_are_not_asked_for_keys() {
    let signer = Signer::new(Algorithm::ES256, "k1");
    let server = KeyServer::start(Doing::Publishing(vec![signer.jwk.clone()])).await;
    let port = server.address.port();
    let fixture = Fixture::with(ALWAYS, Vec::new()).await;
    for (n, url) in [
        server.url(),
        format!("https://127.0.0.1:{port}/keys"),
        format!("https://localhost:{port}/keys"),
        format!("http://localhost:{port}/keys"),
        format!("https://[::ffff:127.0.0.1]:{port}/keys"),
        "https://169.254.169.254/keys".to_owned(),
        "http://192.0.2.1/keys".to_owned(),
        "file:///etc/passwd".to_owned(),
    ]
    .into_iter()
    .enumerate()
    {
        let issuer = format!("https://issuer-{n}.example.com");
        fixture.trust(&issuer, &url).await;
        let mut claims = claims();
        claims["iss"] = json!(issuer);
        assert_eq!(fixture.outcome(&signer.sign(&claims)).await, 503, "{url}");
    }
    assert_eq!(server.asked(), 0);
    // The operator has listed the address, which is no reason to send what is asked for over http to a name.
    let listed = Fixture::with(ALWAYS, vec!["127.0.0.0/8".parse().unwrap()]).await;
    listed.trust(OUTSIDE, &format!("http://localhost:{port}/keys")).await;
    assert_eq!(listed.outcome(&signer.token()).await, 503);
    assert_eq!(server.asked(), 0);
}

#[tokio::test]
async fn keys_come_over_https_from_whom_authorities_vouch_for() {
    /// A certificate for `localhost` that only tests trust, and its key.
    const LOCALHOST: &[u8] = include_bytes!("../../egress/tests/localhost.pem");
    let certificate = || CertificateDer::from_pem_slice(LOCALHOST).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate()], PrivateKeyDer::from_pem_slice(LOCALHOST).unwrap())
        .unwrap();
    let signer = Signer::new(Algorithm::EdDSA, "k1");
    let server = KeyServer::start_with(Doing::Publishing(vec![signer.jwk.clone()]), Some(tls)).await;
    let url = |host: &str| format!("https://{host}:{}/keys", server.address.port());
    let listed = || -> Vec<IpNet> { vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()] };

    let stranger = Fixture::with(ALWAYS, listed()).await;
    stranger.trust(OUTSIDE, &url("localhost")).await;
    assert_eq!(stranger.outcome(&signer.token()).await, 503);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate()).unwrap();
    let fixture = Fixture::with_egress(ALWAYS, Egress::with_roots(listed(), roots)).await;
    fixture.trust(OUTSIDE, &url("127.0.0.1")).await;
    assert_eq!(fixture.outcome(&signer.token()).await, 503, "the certificate is for another name");
    assert_eq!(server.asked(), 0);
    assert!(fixture.auth.db.issuers().delete_issuer(fixture.tenant, OUTSIDE).await.unwrap());
    fixture.trust(OUTSIDE, &url("localhost")).await;
    assert_eq!(fixture.outcome(&signer.token()).await, 200);
}

#[tokio::test]
async fn a_set_is_fetched_once_and_for_a_new_key_once_more() {
    let (old, new) = (Signer::new(Algorithm::ES256, "old"), Signer::new(Algorithm::ES256, "new"));
    let server = KeyServer::start(Doing::Publishing(vec![old.jwk.clone()])).await;
    let times = Times { again: Duration::from_millis(300), ..NEVER };
    let fixture = trusting(&server, times).await;
    for _ in 0..20 {
        assert_eq!(fixture.outcome(&old.token()).await, 200);
        fixture.auth.db.tenants().set_public_document(fixture.tenant, false).await.unwrap();
        fixture.auth.db.look_for_changes().await.unwrap(); // a change here is none there
    }
    assert_eq!(server.asked(), 1);

    // The issuer rotates; whoever makes up names of keys does not make us ask for each.
    server.now(Doing::Publishing(vec![old.jwk.clone(), new.jwk.clone()]));
    let begin = Instant::now();
    let mut outcomes = Vec::new();
    while !outcomes.ends_with(&[200]) {
        let made_up =
            Signer { jwk: json!({"kid": format!("made-up-{}", outcomes.len())}), ..Signer::new(Algorithm::ES256, "") };
        assert_eq!(fixture.outcome(&made_up.token()).await, 401);
        outcomes.push(fixture.outcome(&new.token()).await);
        assert!(begin.elapsed() < HANG_GUARD, "{outcomes:?}");
    }
    assert!(server.asked() as u128 <= 2 + begin.elapsed().as_millis() / 300, "{}", server.asked());
    assert_eq!(fixture.outcome(&old.token()).await, 200);
}

#[tokio::test]
async fn a_set_that_is_old_goes_on_while_its_server_is_dead_and_ends_when_it_is_withdrawn() {
    let (old, new) = (Signer::new(Algorithm::ES256, "old"), Signer::new(Algorithm::ES256, "new"));
    let server = KeyServer::start(Doing::Publishing(vec![old.jwk.clone()])).await;
    let fixture = trusting(&server, ALWAYS).await;
    assert_eq!(fixture.outcome(&old.token()).await, 200);
    server.now(Doing::HangingUp);
    assert_eq!(fixture.outcome(&old.token()).await, 200);
    assert_eq!(fixture.outcome(&new.token()).await, 503, "whether there is such a key cannot be told");
    server.now(Doing::Publishing(vec![new.jwk.clone()]));
    assert_eq!(fixture.outcome(&old.token()).await, 401);
    assert_eq!(fixture.outcome(&new.token()).await, 200);

    let times = Times { fresh: Duration::ZERO, kept: Duration::from_millis(200), ..ALWAYS };
    let fixture = trusting(&server, times).await;
    assert_eq!(fixture.outcome(&new.token()).await, 200);
    server.now(Doing::HangingUp);
    let begin = Instant::now();
    while fixture.outcome(&new.token()).await == 200 {
        assert!(begin.elapsed() < HANG_GUARD, "it is not kept for ever");
    }
    assert_eq!(fixture.outcome(&new.token()).await, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_need_a_slow_set_one_asks_and_the_rest_wait_or_come_back() {
    let signer = Signer::new(Algorithm::ES256, "k1");
    let (tell, told) = watch::channel(false);
    let server = KeyServer::start(Doing::Waiting(told, vec![signer.jwk.clone()])).await;
    let fixture = Arc::new(trusting(&server, NEVER).await);
    let calls: Vec<_> = (0..300)
        .map(|n| {
            let fixture = Arc::clone(&fixture);
            let mut claims = claims();
            claims["sub"] = json!(n);
            let token = signer.sign(&claims);
            tokio::spawn(async move { fixture.outcome(&token).await })
        })
        .collect();
    // Those that found no place to wait have come back before the set was there.
    let begin = Instant::now();
    while calls.iter().filter(|call| call.is_finished()).count() < 200 {
        assert!(begin.elapsed() < HANG_GUARD);
        tokio::task::yield_now().await;
    }
    tell.send(true).unwrap();
    let mut outcomes = Vec::new();
    for call in calls {
        outcomes.push(call.await.unwrap());
    }
    let count = |status| outcomes.iter().filter(|outcome| **outcome == status).count();
    assert_eq!((count(200), count(503)), (100, 200), "{outcomes:?}");
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn a_caller_who_hangs_up_does_not_stop_the_fetch_for_others() {
    let signer = Signer::new(Algorithm::ES256, "k1");
    let (tell, told) = watch::channel(false);
    let server = KeyServer::start(Doing::Waiting(told, vec![signer.jwk.clone()])).await;
    let fixture = trusting(&server, NEVER).await;
    let token = signer.token();
    let impatient = tokio::time::timeout(Duration::from_millis(100), fixture.outcome(&token)).await;
    assert!(impatient.is_err());
    tell.send(true).unwrap();
    assert_eq!(fixture.outcome(&token).await, 200);
    assert_eq!(server.asked(), 1);
}
