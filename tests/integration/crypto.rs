//! `jwt`, `cryptography` and `hashlib` in scripts, with the vectors of their specifications.

use serde_json::{Value, json};

use crate::{
    support::{HANG_GUARD, TestApp},
    upstream::Upstream,
};

/// Runs `body` as a handler.
async fn run(app: &TestApp, name: &str, body: &str) -> Value {
    let acme = app.acme().await;
    let body: String = body.trim().lines().map(|line| format!("    {line}\n")).collect();
    app.serve(&acme, name, &format!("import base64, hashlib, json, jwt\n{VECTORS}\ndef handler(request):\n{body}"))
        .await;
    let answer = app.get(&format!("/acme/{name}")).await;
    let record = app.invocation(&acme, answer.headers["x-request-id"].to_str().unwrap()).await;
    assert_eq!(answer.status, 200, "{name}: {} {}", answer.body, record.traceback.unwrap_or_default());
    answer.json()
}

fn all_true(results: &Value) {
    for (what, held) in results.as_object().unwrap() {
        assert_eq!(held, &json!(true), "{what}: {results}");
    }
}

/// RFC 7515, appendices A.1 to A.3; the first is also the example of RFC 7519, section 3.1.
const VECTORS: &str = r#"
PAYLOAD = 'eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ'
HS256 = f'eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{PAYLOAD}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk'
HMAC_KEY = {'kty': 'oct', 'k': 'AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow'}
RS256 = f'eyJhbGciOiJSUzI1NiJ9.{PAYLOAD}.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw'
RSA_KEY = {'kty': 'RSA', 'e': 'AQAB', 'n': 'ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ',
           'd': 'Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ'}
ES256 = f'eyJhbGciOiJFUzI1NiJ9.{PAYLOAD}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q'
EC_KEY = {'kty': 'EC', 'crv': 'P-256', 'x': 'f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU', 'y': 'x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0', 'd': 'jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI'}
CLAIMS = {'iss': 'joe', 'exp': 1300819380, 'http://example.com/is_root': True}
LATE = {'verify_exp': False}
# Of `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -aes256 -pass pass:secret`.
ENCRYPTED = '''-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAjTEwhe87BP8AICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEMesm+oIw0Ph8RbQUMfkWOoEgZAE
VVCZa7OgV9IkpEwSfk9sJWssruy11pYFHcDXyQKkeHhz45n/piztKnp5gwT2mLrN
i1gi4kytN8B+4b1SIBex80qAncdbSd0pCikygu/wz0zsqxtUKopRFsMCs0zRF544
xKtA0+TnDGKbzQ5bq50T3gUZqg90V89PXvsFJhRdwEq12D6f/vT7hY3PPUIzMto=
-----END ENCRYPTED PRIVATE KEY-----'''
def without(key): return {name: value for name, value in key.items() if name != 'd'}
def raised(call):
    try: return call()
    except Exception as e: return type(e).__name__
"#;

#[tokio::test]
async fn the_tokens_of_the_specifications_verify() {
    let app = TestApp::new().await;
    let body = "
hs, rs, es = (jwt.PyJWK(key, algorithm=alg).key for key, alg in [(HMAC_KEY, 'HS256'), (without(RSA_KEY), 'RS256'), (without(EC_KEY), 'ES256')])
def decode(token, key, alg): return jwt.decode(token, key, algorithms=[alg], options=LATE)
return {
    'hs256': decode(HS256, hs, 'HS256') == CLAIMS, 'rs256': decode(RS256, rs, 'RS256') == CLAIMS, 'es256': decode(ES256, es, 'ES256') == CLAIMS,
    'expired': raised(lambda: jwt.decode(HS256, hs, algorithms=['HS256'])) == 'ExpiredSignatureError',
    'changed': all(raised(lambda: decode(t[:-5] + 'AAAAA', k, a)) == 'InvalidSignatureError' for t, k, a in [(HS256, hs, 'HS256'), (RS256, rs, 'RS256'), (ES256, es, 'ES256')]),
    'other_key': raised(lambda: decode(HS256, 'k' * 64, 'HS256')) == 'InvalidSignatureError',
    'none': raised(lambda: jwt.decode('eyJhbGciOiJub25lIn0.' + PAYLOAD + '.', '', algorithms=['HS256'], options=LATE)) == 'InvalidAlgorithmError',
    'confusion': raised(lambda: decode(HS256, rs, 'RS256')) == 'InvalidAlgorithmError',
    'no_algorithms': raised(lambda: jwt.decode(HS256, hs)) == 'DecodeError',
    'header': jwt.get_unverified_header(RS256) == {'alg': 'RS256'},
}
";
    all_true(&run(&app, "verify", body).await);
}

#[tokio::test]
async fn tokens_are_signed_with_every_algorithm() {
    let app = TestApp::new().await;
    let body = "
rsa, ec = jwt.PyJWK(RSA_KEY, algorithm='RS256').key, jwt.PyJWK(EC_KEY, algorithm='ES256').key
signed = {a: jwt.encode({'sub': 'x'}, {'H': 'k' * 64, 'R': rsa, 'P': rsa, 'E': ec}[a[0]], algorithm=a, headers={'kid': '1'})
          for a in ['HS256', 'HS384', 'HS512', 'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256']}
public = {'H': 'k' * 64, 'R': rsa.public_key(), 'P': rsa.public_key(), 'E': ec.public_key()}
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives import hashes, serialization as s
exact = rsa.sign(RS256.rpartition('.')[0].encode(), padding.PKCS1v15(), hashes.SHA256())
pem = rsa.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
public_pem = ec.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
return {
    'verify': all(jwt.decode(t, public[a[0]], algorithms=[a]) == {'sub': 'x'} for a, t in signed.items()), 'rfc': base64.urlsafe_b64encode(exact).decode().rstrip('=') == RS256.rpartition('.')[2],
    'pem': jwt.decode(jwt.encode({'a': 1}, pem, algorithm='RS256'), rsa.public_key(), algorithms=['RS256']) == {'a': 1},
    'public_pem': jwt.decode(signed['ES256'], public_pem.decode(), algorithms=['ES256']) == {'sub': 'x'},
    'jwk': json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa))['d'] == RSA_KEY['d'] and json.loads(jwt.algorithms.ECAlgorithm.to_jwk(ec))['d'] == EC_KEY['d'],
    'secret_is_pem': raised(lambda: jwt.encode({}, public_pem, algorithm='HS256')) == 'InvalidKeyError',
    'bad_pem': raised(lambda: jwt.encode({}, '-----BEGIN PRIVATE KEY-----\\nAAAA\\n-----END PRIVATE KEY-----', algorithm='RS256')) == 'InvalidKeyError',
    'wrong_kind': raised(lambda: jwt.encode({}, pem, algorithm='ES256')) == 'InvalidKeyError',
}
";
    all_true(&run(&app, "sign", body).await);
    // A signature of PSS is random, so module-level code that makes one is not frozen.
    let acme = app.acme().await;
    let source = format!(
        "import jwt\n{VECTORS}\nKEY = jwt.PyJWK(RSA_KEY, algorithm='PS256').key\nTOKEN = jwt.encode({{}}, KEY, algorithm='PS256')\ndef handler(request): return TOKEN\n"
    );
    let reason = app.serve(&acme, "early", &source).await.version.loaded.reason;
    assert!(reason.as_deref().is_some_and(|reason| reason.contains("uses random numbers")), "{reason:?}");
    let body = "
import time
now = int(time.time())
def token(**claims): return jwt.encode(claims, 'k' * 32, algorithm='HS256')
def decode(t, **more): return raised(lambda: jwt.decode(t, 'k' * 32, algorithms=['HS256'], **more))
return {
    'exp': decode(token(exp=now - 5)) == 'ExpiredSignatureError', 'leeway': decode(token(exp=now - 5), leeway=60) == {'exp': now - 5},
    'nbf': decode(token(nbf=now + 60)) == 'ImmatureSignatureError', 'aud': decode(token(aud='a'), audience='b') == 'InvalidAudienceError',
    'aud_ok': decode(token(aud=['a', 'b']), audience='b') == {'aud': ['a', 'b']}, 'iss': decode(token(iss='a'), issuer='b') == 'InvalidIssuerError',
    'missing': decode(token(), options={'require': ['exp']}) == 'MissingRequiredClaimError', 'garbage': decode('x.y') == 'DecodeError',
}
";
    all_true(&run(&app, "claims", body).await);
}

#[tokio::test]
async fn es384_and_scrypt_give_what_their_specifications_say_and_encrypted_keys_are_refused() {
    let app = TestApp::with(|config| config.limits.deadline = HANG_GUARD).await;
    // RFC 6979, appendix A.2.6, with SHA-384 and the message "sample"; RFC 7914, section 12.
    let body = "
from cryptography.hazmat.primitives import hashes, serialization as s
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
def part(text): return base64.urlsafe_b64encode(bytes.fromhex(text)).decode().rstrip('=')
jwk = {'kty': 'EC', 'crv': 'P-384',
       'd': part('6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D896D5724E4C70A825F872C9EA60D2EDF5'),
       'x': part('EC3A4E415B4E19A4568618029F427FA5DA9A8BC4AE92E02E06AAE5286B300C64DEF8F0EA9055866064A254515480BC13'),
       'y': part('8015D9B72D7D57244EA8EF9AC0C621896708A59367F9DFB9F54CA84B3F1C9DB1288B231C3AE0D4FE7344FD2533264720')}
key, public = jwt.PyJWK(jwk, algorithm='ES384').key, jwt.PyJWK(without(jwk), algorithm='ES384').key
r = 0x94EDBB92A5ECB8AAD4736E56C691916B3F88140666CE9FA73D64C4EA95AD133C81A648152E44ACF96E36DD1E80FABE46
q = 0x99EF4AEB15F178CEA1FE40DB2603138F130E740A19624526203B6351D0A3A94FA329C145786E679E7B82C71A38628AC8
signature, sha384 = utils.encode_dss_signature(r, q), ec.ECDSA(hashes.SHA384())
token = jwt.encode({'sub': 'x'}, key, algorithm='ES384')
head, _, tail = token.rpartition('.')
def decode(token, key, alg): return jwt.decode(token, key, algorithms=[alg])
def derive(password, salt, n, r, p): return Scrypt(salt=salt, length=64, n=n, r=r, p=p).derive(password).hex()
once = Scrypt(salt=b'', length=64, n=16, r=1, p=1)
once.derive(b'')
return {
    'verify': public.verify(signature, b'sample', sha384) is None,
    'changed': raised(lambda: public.verify(signature, b'samplf', sha384)) == 'InvalidSignature',
    'round': decode(token, public, 'ES384') == {'sub': 'x'},
    'length': len(base64.urlsafe_b64decode(tail)) == 96,
    'changed_token': raised(lambda: decode(head + '.' + 'A' * 128, public, 'ES384')) == 'InvalidSignatureError',
    'curve': raised(lambda: jwt.encode({}, jwt.PyJWK(EC_KEY, algorithm='ES256').key, algorithm='ES384')) == 'InvalidKeyError',
    'scrypt_16': derive(b'', b'', 16, 1, 1) == '77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906',
    'scrypt_1024': derive(b'password', b'NaCl', 1024, 8, 16) == 'fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b3731622eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640',
    'scrypt_verify': Scrypt(b'', 64, 16, 1, 1).verify(b'', bytes.fromhex(derive(b'', b'', 16, 1, 1))) is None,
    'scrypt_other': raised(lambda: Scrypt(b'', 64, 16, 1, 1).verify(b'x', bytes(64))) == 'InvalidKey',
    'scrypt_once': raised(lambda: once.derive(b'')) == 'AlreadyFinalized',
    'scrypt_n': raised(lambda: derive(b'', b'', 3, 1, 1)) == 'ValueError',
    'encrypted': raised(lambda: s.load_pem_private_key(ENCRYPTED.encode(), b'secret')) == 'UnsupportedAlgorithm',
    'encrypted_without_password': raised(lambda: s.load_pem_private_key(ENCRYPTED.encode(), None)) == 'ValueError',
    'encrypted_for_jwt': raised(lambda: jwt.encode({}, ENCRYPTED, algorithm='RS256')) == 'InvalidKeyError',
}
";
    all_true(&run(&app, "es384", body).await);
}

#[tokio::test]
async fn keys_of_an_issuer_are_fetched_over_allowed_hosts() {
    let app = TestApp::with(|config| config.egress_private = vec!["127.0.0.0/8".parse().unwrap()]).await;
    let (acme, upstream) = (app.acme().await, Upstream::start().await);
    app.workspace.db.egress().allow(acme.id, &upstream.url("").parse().unwrap()).await.unwrap();
    let body = format!(
        "token = jwt.encode({{'a': 1}}, jwt.PyJWK(RSA_KEY, algorithm='RS256').key, algorithm='RS256', headers={{'kid': 'k1'}})\n\
         key = jwt.PyJWKClient('{}').get_signing_key_from_jwt(token)\n\
         return jwt.decode(token, key, algorithms=['RS256'])",
        upstream.url("/jwks")
    );
    assert_eq!(run(&app, "jwks", &body).await, json!({"a": 1}));
}

#[tokio::test]
async fn fernet_gives_and_refuses_what_its_specification_says() {
    let app = TestApp::new().await;
    let body = "
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
f = Fernet('cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=')
made = b'gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA=='
good = 'gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykRtfsH-p1YsUD2Q=='
now = 499162801
invalid = {
    'incorrect mac': 'gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykQUFBQUFBQUFBQQ==',
    'too short': 'gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPA==',
    'invalid base64': '%%%%%%%%%%%%%AECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykRtfsH-p1YsUD2Q==',
    'no whole blocks': 'gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPOm73QeoCk9uGib28Xe5vz6oxq5nmxbx_v7mrfyudzUm',
    'padding error': 'gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0ODz4LEpdELGQAad7aNEHbf-JkLPIpuiYRLQ3RtXatOYREu2FWke6CnJNYIbkuKNqOhw==',
    'far future': 'gAAAAAAdwStRAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAnja1xKYyhd-Y6mSkTOyTGJmw2Xc2a6kBd-iX9b_qXQcw==',
    'wrong iv': 'gAAAAAAdwJ6xBQECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAkLhFLHpGtDBRLRTZeUfWgHSv49TF2AUEZ1TIvcZjK1zQ==',
}
results = {name: raised(lambda: f.decrypt_at_time(token, 60, now)) == 'InvalidToken' for name, token in invalid.items()}
old, new = Fernet(Fernet.generate_key()), Fernet(Fernet.generate_key())
both = MultiFernet([new, old])
token = old.encrypt(b'secret')
return results | {
    'generate': f._encrypt(b'hello', 499162800, bytes(range(16))) == made, 'verify': f.decrypt_at_time(made, 60, now) == b'hello',
    'expired': raised(lambda: f.decrypt_at_time(made, 60, now + 90)) == 'InvalidToken' and raised(lambda: f.decrypt_at_time(good, 60, now + 90)) == 'InvalidToken',
    'round': all(old.decrypt(old.encrypt(bytes(n))) == bytes(n) for n in [0, 1, 15, 16, 17, 1000]), 'ttl': old.decrypt(token, ttl=60) == b'secret',
    'time': old.extract_timestamp(token) > 1_700_000_000, 'other_key': raised(lambda: new.decrypt(token)) == 'InvalidToken',
    'multi': both.decrypt(token) == b'secret' and new.decrypt(both.rotate(token)) == b'secret',
    'rotated_time': new.extract_timestamp(both.rotate(token)) == old.extract_timestamp(token),
    'bad_key': raised(lambda: Fernet(b'short')) == 'ValueError' and raised(lambda: Fernet(base64.urlsafe_b64encode(bytes(31)))) == 'ValueError',
    'text': raised(lambda: f.encrypt('text')) == 'TypeError',
}
";
    all_true(&run(&app, "fernet", body).await);
}

#[tokio::test]
async fn passwords_are_hashed_by_the_host_and_paid_for() {
    let app = TestApp::with(|config| config.limits.deadline = HANG_GUARD).await;
    let body = "
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives import hashes
return {
    'pbkdf2': hashlib.pbkdf2_hmac('sha1', b'password', b'salt', 4096).hex() == '4b007901b765489abead49d926f721d065a429c1',
    'sha256': hashlib.pbkdf2_hmac('sha256', b'Password', b'NaCl', 80000, dklen=64).hex().startswith('4ddcd8f60b98be21830cee5ef22701f9'),
    'many': len(hashlib.pbkdf2_hmac('sha256', b'p', b's', 600_000)) == 32, 'unknown': raised(lambda: hashlib.pbkdf2_hmac('md4', b'', b'', 1)) == 'ValueError',
    'scrypt': hashlib.scrypt(b'pleaseletmein', salt=b'SodiumChloride', n=16384, r=8, p=1).hex().startswith('7023bdcb3afd7348461c06cd81fd38eb'),
    'memory': raised(lambda: hashlib.scrypt(b'', salt=b'', n=2**20, r=8, p=1)) == 'ValueError', 'n': raised(lambda: hashlib.scrypt(b'', salt=b'', n=3, r=8, p=1)) == 'ValueError',
    'kdf': PBKDF2HMAC(algorithm=hashes.SHA256(), length=32, salt=b's', iterations=10).derive(b'p') == hashlib.pbkdf2_hmac('sha256', b'p', b's', 10),
}
";
    all_true(&run(&app, "kdf", body).await);
    let acme = app.acme().await;
    let source = "import hashlib\ndef handler(request):\n    while True: hashlib.pbkdf2_hmac('sha256', b'p', b's', 4_000_000_000)\n";
    app.serve(&acme, "costly", source).await;
    assert_eq!(app.get("/acme/costly").await.problem(), (500, "script_fuel".to_owned()));
    let spent = app.last_invocation(&acme, 1).await.record;
    assert_eq!(spent.code.as_deref(), Some("script_fuel"));
    // At module level it is a function like any other.
    let source = "import hashlib\nKEY = hashlib.pbkdf2_hmac('sha256', b'p', b's', 1000)\ndef handler(request): return [len(KEY)]\n";
    assert_eq!(app.serve(&acme, "key", source).await.version.loaded.reason, None);
    assert_eq!(app.get("/acme/key").await.json(), json!([32]));
}
