//! Tokens that are broken, and tokens that somebody has broken on purpose.

use p256::pkcs8::EncodePublicKey as _;

use super::*;

/// A header with one member more, or another one.
fn with(header: &Value, member: &str, value: Value) -> Value {
    let mut header = header.clone();
    header[member] = value;
    header
}

#[tokio::test]
async fn broken_claims_are_refused() {
    for algorithm in ALGORITHMS {
        let fixture = Fixture::new().await;
        fixture.rotate(algorithm, None).await;
        let good = claims_of(&fixture.issue().await);
        let seconds = now_ms() / 1000;
        // What makes broken tokens makes good ones too, or this proves nothing.
        let again = fixture.signed(&fixture.header().await, &good).await;
        fixture.verify(&format!("Bearer {again}")).await.unwrap();
        for (claim, value, reason) in [
            ("exp", json!(seconds - 120), "it has expired"),
            ("exp", Value::Null, "it never expires"),
            ("exp", json!("soon"), "a date in it is none"),
            ("exp", json!(-1), "a date in it is none"),
            ("exp", json!(1e300), "a date in it is none"),
            ("exp", json!(u64::MAX), "a date in it is none"),
            ("nbf", json!(seconds + 3600), "it is not valid yet"),
            ("aud", json!("other"), "it is for another audience"),
            ("aud", json!(["other", "ACME"]), "it is for another audience"),
            ("aud", Value::Null, "it is for another audience"),
            ("iss", json!("other"), "it is of an unknown issuer"),
            ("iss", json!(["pqhost"]), "it names no issuer"),
            ("iss", Value::Null, "it names no issuer"),
            ("jti", Value::Null, "it has no id"),
            ("jti", json!(7), "its id is no text"),
            ("jti", json!("made-up"), "it was never issued"),
            ("jti", json!("' OR 1=1 --"), "it was never issued"),
        ] {
            let mut claims = good.clone();
            match value.clone() {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(claim)),
                value => claims[claim] = value,
            }
            let token = fixture.signed(&fixture.header().await, &claims).await;
            assert_eq!(fixture.reason(&token).await, reason, "{claim} {value}");
        }
        for claims in [json!([good]), json!("claims"), json!(null), json!(7)] {
            let token = fixture.signed(&fixture.header().await, &claims).await;
            assert_eq!(fixture.reason(&token).await, "its claims are malformed");
        }
    }
}

#[tokio::test]
async fn the_key_fixes_the_algorithm() {
    for algorithm in ALGORITHMS {
        let fixture = Fixture::new().await;
        let key = fixture.rotate(algorithm, None).await;
        let claims = claims_of(&fixture.issue().await);
        for claimed in
            ["HS256", "HS512", "RS256", "ES256", "ES384", "EdDSA", "none", "None", "NONE", "nOnE", "", "hs256"]
        {
            let header = json!({"alg": claimed, "kid": key.kid});
            let signed = fixture.signed(&header, &claims).await;
            if claimed == algorithm.as_str() {
                fixture.verify(&format!("Bearer {signed}")).await.unwrap();
                continue;
            }
            let unsigned = &signed[..=signed.rfind('.').unwrap()];
            for token in [signed.as_str(), unsigned] {
                let reason = fixture.reason(token).await;
                assert_eq!(reason, "it is signed with another algorithm", "{claimed} for {algorithm}");
            }
        }
        for header in
            [json!({"kid": key.kid}), json!({"alg": null, "kid": key.kid}), json!({"alg": [algorithm], "kid": key.kid})]
        {
            let reason = fixture.reason(&fixture.signed(&header, &claims).await).await;
            assert_eq!(reason, "it is signed with another algorithm", "{header}");
        }
    }
}

#[tokio::test]
async fn a_public_key_is_no_secret_to_sign_with() {
    for algorithm in [KeyAlgorithm::Es256, KeyAlgorithm::EdDsa] {
        let fixture = Fixture::new().await;
        let key = fixture.rotate(algorithm, None).await;
        let claims = claims_of(&fixture.issue().await);
        let public = key.public_key.clone().unwrap();
        let jwk = fixture.auth.public_keys(fixture.tenant).await.unwrap()["keys"][0].clone();
        let mut secrets = vec![
            public.clone(),
            public[1..].to_vec(),
            hex::encode(&public).into_bytes(),
            URL_SAFE_NO_PAD.encode(&public).into_bytes(),
            jwk.to_string().into_bytes(),
            serde_json::to_vec_pretty(&jwk).unwrap(),
            json!({ "keys": [jwk] }).to_string().into_bytes(),
            jwk["x"].as_str().unwrap().as_bytes().to_vec(),
            key.kid.clone().into_bytes(),
            Vec::new(),
        ];
        if algorithm == KeyAlgorithm::Es256 {
            let point = p256::PublicKey::from_sec1_bytes(&public).unwrap();
            let pem = point.to_public_key_pem(p256::pkcs8::LineEnding::LF).unwrap();
            secrets.extend([pem.trim_end().as_bytes().to_vec(), pem.into_bytes()]);
            secrets.push(point.to_public_key_der().unwrap().into_vec());
        }
        for secret in secrets {
            for claimed in ["HS256", algorithm.as_str()] {
                let header = json!({"alg": claimed, "typ": "JWT", "kid": key.kid});
                let secret = EncodingKey::from_secret(&secret);
                let token = signed_with(&secret, jsonwebtoken::Algorithm::HS256, &header, &claims);
                let reason = fixture.reason(&token).await;
                assert!(
                    ["it is signed with another algorithm", "its signature is wrong"].contains(&reason),
                    "{reason}"
                );
            }
        }
    }
}

#[tokio::test]
async fn only_keys_of_the_tenant_count() {
    let fixture = Fixture::new().await;
    let claims = claims_of(&fixture.issue().await);
    let long = "k".repeat(5000);
    for kid in [
        "unknown",
        "../../vault.key",
        "/dev/null",
        "' OR 1=1 --",
        "x' UNION SELECT 1,2 --",
        "",
        "\0",
        "a\0b",
        &long,
        "*",
        "%",
    ] {
        let token = fixture.signed(&json!({"alg": "HS256", "kid": kid}), &claims).await;
        assert_eq!(fixture.reason(&token).await, "it names an unknown key", "{kid:?}");
    }
    for kid in [json!(null), json!(7), json!(["a"]), json!({"a": 1})] {
        let token = fixture.signed(&json!({"alg": "HS256", "kid": kid}), &claims).await;
        assert_eq!(fixture.reason(&token).await, "its header is malformed", "{kid}");
    }
    assert_eq!(fixture.reason(&fixture.signed(&json!({"alg": "HS256"}), &claims).await).await, "it names no key");

    let other_name: TenantName = "other".parse().unwrap();
    let other = fixture.auth.db.tenants().create_tenant(&other_name).await.unwrap();
    let request = TokenRequest::new("partner", Duration::from_secs(3600));
    let foreign = issue(&fixture.auth, other, &other_name, request).await;
    assert_eq!(fixture.reason(&foreign).await, "it names an unknown key");
    // Also when it is remembered as valid for its own tenant.
    let value = HeaderValue::from_str(&format!("Bearer {foreign}")).unwrap();
    fixture.auth.verify(other, &other_name, fixture.endpoint, "GET", Some(&value)).await.unwrap();
    assert_eq!(fixture.reason(&foreign).await, "it names an unknown key");
    // A tenant that says with its own key what a token of another one says.
    let theirs = fixture.signed(&fixture.header().await, &claims_of(&foreign)).await;
    assert_eq!(fixture.reason(&theirs).await, "it is for another audience");
    let mut claims = claims_of(&foreign);
    claims["aud"] = json!("acme");
    let theirs = fixture.signed(&fixture.header().await, &claims).await;
    assert_eq!(fixture.reason(&theirs).await, "it was never issued", "a token's id is good in its own tenant only");
}

#[tokio::test]
async fn a_token_brings_no_key_and_says_nothing_of_where_one_is() {
    let fixture = Fixture::new().await;
    let key = fixture.rotate(KeyAlgorithm::Es256, None).await;
    let claims = claims_of(&fixture.issue().await);
    let made = keys::generate(KeyAlgorithm::Es256).unwrap();
    let evil = EncodingKey::from_ec_der(&made.private);
    let jwk = jwks::public_key(&key.kid, KeyAlgorithm::Es256, made.public.as_deref()).unwrap();
    let header = json!({"alg": "ES256", "typ": "JWT", "kid": key.kid});
    for (member, value) in [
        ("jwk", jwk.clone()),
        ("jku", json!("https://evil.example.com/jwks.json")),
        ("x5u", json!("https://evil.example.com/chain.pem")),
        ("x5c", json!(["MIIB"])),
        ("kid", json!("evil")),
    ] {
        let header = with(&header, member, value);
        let token = signed_with(&evil, jsonwebtoken::Algorithm::ES256, &header, &claims);
        let reason = fixture.reason(&token).await;
        assert!(["its signature is wrong", "it names an unknown key"].contains(&reason), "{member}: {reason}");
        // With the tenant's own signature they are as good as not there.
        if member != "kid" {
            let token = fixture.signed(&header, &claims).await;
            fixture.verify(&format!("Bearer {token}")).await.unwrap();
        }
    }
}

#[tokio::test]
async fn headers_of_something_else_are_refused() {
    let fixture = Fixture::new().await;
    let claims = claims_of(&fixture.issue().await);
    let header = fixture.header().await;
    let outcome =
        async |header: &Value| match fixture.verify(&format!("Bearer {}", fixture.signed(header, &claims).await)).await
        {
            Ok(_) => "good",
            Err(AuthError::InvalidToken { reason }) => reason,
            Err(error) => panic!("{error}"),
        };
    for crit in [json!(["b64"]), json!(["exp"]), json!([]), json!(null), json!("x")] {
        let seen = outcome(&with(&header, "crit", crit.clone())).await;
        assert_eq!(seen, "its header has extensions that must be understood", "{crit}");
    }
    for (typ, expected) in [
        (json!("JWT"), "good"),
        (json!("jwt"), "good"),
        (json!("at+jwt"), "good"),
        (json!("application/at+jwt"), "good"),
        (json!("logout+jwt"), "it is a token for something else"),
        (json!("JWE"), "it is a token for something else"),
        (json!(""), "it is a token for something else"),
        (json!(7), "it is a token for something else"),
        (json!(null), "it is a token for something else"),
    ] {
        assert_eq!(outcome(&with(&header, "typ", typ.clone())).await, expected, "{typ}");
    }
}

#[tokio::test]
async fn garbage_is_refused() {
    let fixture = Fixture::new().await;
    let token = &fixture.issue().await;
    let (payload, signature) = (token.find('.').unwrap() + 3, token.rfind('.').unwrap() + 3);
    let flipped = |at: usize| {
        let other = if &token[at..=at] == "A" { "B" } else { "A" };
        format!("{}{other}{}", &token[..at], &token[at + 1..])
    };
    let parts: Vec<&str> = token.split('.').collect();
    let (header, claims) = (parts[0], parts[1]);
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    // The last character of 32 bytes in base64 has bits to spare.
    let spare = format!("{}{}", &token[..token.len() - 1], next_letter(token.as_bytes()[token.len() - 1]));
    let padded = format!("{token}=");
    for (garbage, reason) in [
        (flipped(signature), "its signature is wrong"),
        (flipped(payload), "its claims are malformed"),
        (spare, "its signature is malformed"),
        (padded, "its signature is malformed"),
        (format!("{header}=.{claims}.{}", parts[2]), "its header is malformed"),
        (format!("{token}."), "its claims are malformed"),
        (format!("{token}.{}", parts[2]), "its claims are malformed"),
        (format!(".{token}"), "its header is malformed"),
        (format!("{header}..{}", parts[2]), "its claims are malformed"), // detached
        (format!("{header}.{claims}"), "it has too few parts"),
        (
            format!("{header}.{}.{}", encode(&claims_of(token).to_string().replace("acme", "acmf")), parts[2]),
            "its signature is wrong",
        ),
        (format!("{header}.{claims}."), "its signature is wrong"),
        (format!("{header}.{claims}.{}", encode("short")), "its signature is wrong"),
        (format!("{}.{claims}.{}", encode("[]"), parts[2]), "its header is malformed"),
        (format!("{}.{claims}.{}", encode("\u{feff}{}"), parts[2]), "its header is malformed"),
        (format!("{}.{claims}.{}", encode(&"[".repeat(2000)), parts[2]), "its header is malformed"),
        (
            format!("{header}.{}.{}", encode(&format!("{{\"a\":{}", "[".repeat(2000))), parts[2]),
            "its claims are malformed",
        ),
        (format!("{header}.{claims}.+{}", &parts[2][1..]), "its signature is malformed"), // of the other alphabet
        (String::new(), "it has no signature"),
        ("a".to_owned(), "it has no signature"),
        ("..".to_owned(), "its header is malformed"),
        ("a.b.c".to_owned(), "its header is malformed"),
        (token[..20].to_owned(), "it has no signature"),
        ("a".repeat(TOKEN_BYTES_MAX + 1), "it is too long"),
        (format!("{header}.{}.{}", encode(&format!("{{\"a\":\"{}\"}}", "x".repeat(6200))), parts[2]), "it is too long"),
    ] {
        assert_eq!(fixture.reason(&garbage).await, reason, "{garbage}");
    }
    for spaced in [format!("{header} .{claims}.{}", parts[2]), format!("{token} {token}"), format!("{token},{token}")] {
        assert!(matches!(fixture.verify(&format!("Bearer {spaced}")).await, Err(AuthError::InvalidToken { .. })));
    }
    let latin = HeaderValue::from_bytes(b"Bearer \xff").unwrap();
    let outcome = fixture.auth.verify(fixture.tenant, &fixture.name, fixture.endpoint, "GET", Some(&latin)).await;
    assert!(matches!(outcome, Err(AuthError::InvalidToken { .. })), "{outcome:?}");
}

fn next_letter(letter: u8) -> char {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let place = ALPHABET.iter().position(|known| *known == letter).unwrap();
    char::from(ALPHABET[place + 1])
}

#[tokio::test]
async fn what_is_said_twice_is_refused() {
    let fixture = Fixture::new().await;
    let token = fixture.issue().await;
    let (header, claims) = (fixture.header().await.to_string(), claims_of(&token).to_string());
    let (key, algorithm) = fixture.private(&fixture.key().await);
    let signed = |header: &str, claims: &str| {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        format!("{message}.{}", jsonwebtoken::crypto::sign(message.as_bytes(), &key, algorithm).unwrap())
    };
    fixture.verify(&format!("Bearer {}", signed(&header, &claims))).await.unwrap();
    for again in ["\"aud\":\"acme\"", "\"exp\":9999999999", "\"jti\":\"x\"", "\"\\u0061ud\":\"other\""] {
        let twice = claims.replacen('{', &format!("{{{again},"), 1);
        assert_eq!(fixture.reason(&signed(&header, &twice)).await, "its claims are malformed", "{again}");
    }
    for again in ["\"alg\":\"none\"", "\"kid\":\"x\""] {
        let twice = header.replacen('{', &format!("{{{again},"), 1);
        assert_eq!(fixture.reason(&signed(&twice, &claims)).await, "its header is malformed", "{again}");
    }
}
