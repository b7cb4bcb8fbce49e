use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

use super::*;
use crate::auth::keys::{KeyError, VerificationKey};
use crate::policy::claims::ClaimRules;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn issuer(name: &str, iss: Option<&str>, keys: Vec<VerificationKey>) -> Issuer {
    Issuer::with_keys(name, ClaimRules { issuer: iss.map(Arc::from), ..ClaimRules::default() }, keys)
}

fn secret(kid: Option<&str>, bytes: &[u8]) -> VerificationKey {
    VerificationKey::from_secret(bytes, kid, &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512]).unwrap()
}

fn authenticator(issuers: Vec<Issuer>) -> Authenticator {
    Authenticator::new(issuers, ScopeNames::default(), 16)
}

fn claims() -> serde_json::Value {
    json!({"sub": "s", "iss": "ENTAPI", "client_id": "c", "scope": "listerine.all", "exp": 4_000_000_000u64})
}

fn raw(header: &str, payload: &str, signature: &[u8]) -> String {
    [header.as_bytes(), payload.as_bytes(), signature].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
}

fn signed(header: &str) -> String {
    let message = [header, &claims().to_string()].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), &EncodingKey::from_secret(SECRET), Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

#[test]
fn the_documented_token_passes_and_is_verified_once() {
    let auth = authenticator(vec![issuer("main", None, vec![secret(None, SECRET)])]);
    let token = signed(r#"{"alg":"HS256"}"#);
    let first = auth.identify(&token).unwrap();
    let second = auth.identify(&token).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!((auth.counts().hits.load(Ordering::Relaxed), auth.counts().misses.load(Ordering::Relaxed)), (1, 1));
}

#[test]
fn all_hmac_lengths_work_where_the_key_allows_them() {
    let auth = authenticator(vec![issuer("main", None, vec![secret(None, SECRET)])]);
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let token = encode(&Header::new(algorithm), &claims(), &EncodingKey::from_secret(SECRET)).unwrap();
        assert!(auth.identify(&token).is_ok(), "{algorithm:?}");
    }
    let only = VerificationKey::from_secret(SECRET, None, &[]).unwrap();
    let auth = authenticator(vec![issuer("main", None, vec![only])]);
    let token = encode(&Header::new(Algorithm::HS512), &claims(), &EncodingKey::from_secret(SECRET)).unwrap();
    assert_eq!(auth.identify(&token).unwrap_err(), Rejection::TokenInvalid(Why::Algorithm));
}

#[test]
fn forged_and_foreign_tokens_are_refused_with_their_reason() {
    let auth = authenticator(vec![issuer("main", None, vec![secret(None, SECRET)])]);
    let payload = claims().to_string();
    let good = signed(r#"{"alg":"HS256"}"#);
    let (message, signature) = good.rsplit_once('.').unwrap();
    for (token, why) in [
        ("a.b".to_owned(), Why::Shape),
        ("a.b.c.d".to_owned(), Why::Shape),
        (format!("{message}."), Why::Shape),
        (format!("{message}.{}", signature.replace(|c: char| c.is_ascii_digit(), "x")), Why::Signature),
        (format!("{message}.!!"), Why::Signature),
        (raw(r#"{"alg":"none"}"#, &payload, b"x"), Why::Algorithm),
        (raw(r#"{"alg":"NoNe"}"#, &payload, b"x"), Why::Algorithm),
        (raw(r#"{"alg":"RS256"}"#, &payload, b"x"), Why::Algorithm),
        (raw(r#"{"alg":"HS256","alg":"none"}"#, &payload, b"x"), Why::Shape),
        (signed(r#"{"alg":"HS256","x":1,"x":1}"#), Why::Shape),
        (signed(r#"{"alg":"HS256","jwk":{"k":1,"k":2}}"#), Why::Shape),
        (signed(r#"{"alg":"HS256","crit":["exp"]}"#), Why::Critical),
        (signed(r#"{"alg":"HS256","b64":false}"#), Why::Critical),
        (raw("not json", &payload, b"x"), Why::Shape),
        (raw(r#"{"alg":"HS256"}"#, "[]", b"x"), Why::Claims),
    ] {
        assert_eq!(auth.identify(&token).unwrap_err(), Rejection::TokenInvalid(why), "{token}");
    }
    assert_eq!(auth.remembered(), 0);
}

#[test]
fn an_issuer_can_demand_the_type_of_access_tokens() {
    let mut strict = issuer("main", None, vec![secret(None, SECRET)]);
    strict.typ = TokenType::AtJwt;
    let auth = authenticator(vec![strict]);
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt"] {
        assert!(auth.identify(&signed(&format!(r#"{{"alg":"HS256","typ":"{typ}"}}"#))).is_ok(), "{typ}");
    }
    for header in [r#"{"alg":"HS256"}"#, r#"{"alg":"HS256","typ":"JWT"}"#, r#"{"alg":"HS256","typ":"xat+jwt"}"#] {
        assert_eq!(auth.identify(&signed(header)).unwrap_err(), Rejection::TokenInvalid(Why::Type), "{header}");
    }
}

#[test]
fn an_issuer_can_have_fewer_algorithms_than_its_keys() {
    let mut strict = issuer("main", None, vec![secret(None, SECRET)]);
    strict.algorithms = vec![Algorithm::HS384, Algorithm::HS512];
    let auth = authenticator(vec![strict]);
    let refused = auth.identify(&signed(r#"{"alg":"HS256"}"#)).unwrap_err();
    assert_eq!(refused, Rejection::TokenInvalid(Why::Algorithm));
    let token = encode(&Header::new(Algorithm::HS512), &claims(), &EncodingKey::from_secret(SECRET)).unwrap();
    assert!(auth.identify(&token).is_ok());
}

#[test]
fn header_and_claims_are_text_to_the_last_member() {
    let auth = authenticator(vec![issuer("main", None, vec![secret(None, SECRET)])]);
    let good = (br#"{"alg":"HS256","typ":"."}"#, br#"{"client_id":"c","exp":4000000000,"x":"."}"#);
    for (header, claims, why) in [(b'J', b'x', None), (0xff, b'x', Some(Why::Shape)), (b'J', 0xff, Some(Why::Shape))] {
        let with = |text: &[u8], byte| text.iter().map(|b| if *b == b'.' { byte } else { *b }).collect::<Vec<_>>();
        let parts = [with(good.0, header), with(good.1, claims)];
        let message = parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let key = EncodingKey::from_secret(SECRET);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        let outcome = auth.identify(&format!("{message}.{signature}"));
        assert_eq!(outcome.err(), why.map(Rejection::TokenInvalid));
    }
}

#[test]
fn keys_are_found_by_kid_and_issuers_by_iss() {
    let other = b"ffffffffffffffffffffffffffffffff".as_slice();
    let auth = authenticator(vec![
        issuer("main", Some("ENTAPI"), vec![secret(Some("k1"), other), secret(Some("k2"), SECRET)]),
        issuer("other", Some("OTHER"), vec![secret(None, other)]),
    ]);
    assert!(auth.identify(&signed(r#"{"alg":"HS256","kid":"k2"}"#)).is_ok());
    assert!(auth.identify(&signed(r#"{"alg":"HS256"}"#)).is_ok());
    assert_eq!(
        auth.identify(&signed(r#"{"alg":"HS256","kid":"k1"}"#)).unwrap_err(),
        Rejection::TokenInvalid(Why::Signature)
    );
    assert_eq!(
        auth.identify(&signed(r#"{"alg":"HS256","kid":"../k2"}"#)).unwrap_err(),
        Rejection::TokenInvalid(Why::UnknownKey)
    );
    let mut foreign = claims();
    foreign["iss"] = json!("OTHER");
    let token = encode(&Header::new(Algorithm::HS256), &foreign, &EncodingKey::from_secret(SECRET)).unwrap();
    assert_eq!(auth.identify(&token).unwrap_err(), Rejection::TokenInvalid(Why::Signature));
    foreign["iss"] = json!("NOBODY");
    let token = encode(&Header::new(Algorithm::HS256), &foreign, &EncodingKey::from_secret(SECRET)).unwrap();
    assert_eq!(auth.identify(&token).unwrap_err(), Rejection::TokenInvalid(Why::Issuer));
}

#[test]
fn asymmetric_keys_come_from_pem_and_from_key_sets() {
    let mut entries = vec![json!({"kty": "unknown"}), json!({"kty": "oct", "k": "c2hvcnQ"})];
    for (algorithm, pair) in [
        (Algorithm::ES256, rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap()),
        (Algorithm::ES384, rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap()),
        (Algorithm::EdDSA, rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap()),
        (
            Algorithm::RS256,
            rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap(),
        ),
    ] {
        let private = pair.serialize_pem();
        let signing = match algorithm {
            Algorithm::EdDSA => EncodingKey::from_ed_pem(private.as_bytes()),
            Algorithm::RS256 => EncodingKey::from_rsa_pem(private.as_bytes()),
            _ => EncodingKey::from_ec_pem(private.as_bytes()),
        }
        .unwrap();
        let token = encode(&Header::new(algorithm), &claims(), &signing).unwrap();
        let key = VerificationKey::from_pem(pair.public_key_pem().as_bytes(), None, &[]).unwrap();
        assert!(authenticator(vec![issuer("pem", None, vec![key])]).identify(&token).is_ok(), "{algorithm:?} by PEM");

        let mut jwk = match algorithm {
            Algorithm::EdDSA => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(pair.public_key_raw())})
            }
            _ => serde_json::to_value(jsonwebtoken::jwk::Jwk::from_encoding_key(&signing, algorithm).unwrap()).unwrap(),
        };
        jwk["kid"] = json!(format!("{algorithm:?}"));
        entries.push(jwk);
        let (keys, skipped) = VerificationKey::from_jwks(json!({"keys": entries}).to_string().as_bytes()).unwrap();
        assert_eq!(skipped, 2);
        assert!(authenticator(vec![issuer("set", None, keys)]).identify(&token).is_ok(), "{algorithm:?} by key set");
    }
}

#[test]
fn a_public_key_never_verifies_an_hmac() {
    let pair = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let pem = pair.public_key_pem();
    let key = VerificationKey::from_pem(pem.as_bytes(), None, &[]).unwrap();
    let token = encode(&Header::new(Algorithm::HS256), &claims(), &EncodingKey::from_secret(pem.as_bytes())).unwrap();
    let auth = authenticator(vec![issuer("main", None, vec![key])]);
    assert_eq!(auth.identify(&token).unwrap_err(), Rejection::TokenInvalid(Why::Algorithm));
}

#[test]
fn unusable_keys_say_why() {
    assert_eq!(VerificationKey::from_secret(b"short", None, &[]).unwrap_err(), KeyError::SecretTooShort(5));
    assert_eq!(VerificationKey::from_pem(b"nonsense", None, &[]).unwrap_err(), KeyError::NotAKey);
    assert_eq!(
        VerificationKey::from_secret(SECRET, None, &[Algorithm::RS256]).unwrap_err(),
        KeyError::AlgorithmMismatch(Algorithm::RS256)
    );
    assert!(matches!(VerificationKey::from_jwks(b"{}"), Err(KeyError::NotAKeySet(_))));
    assert_eq!(VerificationKey::from_jwks(br#"{"keys":[]}"#).unwrap_err(), KeyError::NoUsableKey { skipped: 0 });
}
