use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;
use crate::auth::{Authenticator, Issuer};
use crate::policy::claims::ClaimRules;
use crate::policy::rejection::{Rejection, Why};
use crate::policy::session::Lifetimes;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const NOW: Now = Now { wall: Timestamp::from_secs(1_000), steady: Timestamp::from_secs(50) };

fn pem(algorithm: &'static rcgen::SignatureAlgorithm) -> String {
    rcgen::KeyPair::generate_for(algorithm).unwrap().serialize_pem()
}

fn signing(kid: Option<&str>) -> SigningKey {
    SigningKey::from_pem(pem(&rcgen::PKCS_ECDSA_P256_SHA256).as_bytes(), kid).unwrap()
}

fn own(signing: SigningKey, others: Vec<SigningKey>) -> TokenIssuer {
    TokenIssuer::new("gate".into(), ["orders".into()].into(), Duration::from_secs(900), signing, others)
}

/// An authenticator that takes originals of any issuer, and what this one issues.
fn auth(own: TokenIssuer) -> Authenticator {
    let keys = vec![VerificationKey::from_secret(SECRET, None, &[]).unwrap()];
    let issuers = vec![Issuer::with_keys("main", ClaimRules::default(), keys)];
    Authenticator::new(issuers, Default::default(), 16).with_own(Some(own))
}

fn original(claims: Value) -> String {
    let header = Header { typ: None, ..Header::new(Algorithm::HS256) };
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(SECRET)).unwrap()
}

fn session(caller: &Caller, id: SessionId) -> Session {
    let lifetimes = Lifetimes { idle: Duration::from_secs(600), absolute: Duration::from_secs(1_200) };
    Session::open(id.key(), Arc::clone(caller.owner()), Arc::clone(caller.scope()), lifetimes, NOW.steady)
}

fn part(token: &str, place: usize) -> Value {
    let part = token.split('.').nth(place).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

const ID: SessionId = SessionId::from_random([7; 16]);

#[test]
fn an_issued_token_says_what_rfc_9068_demands_and_who_presented_what() {
    let auth = auth(own(signing(Some("k1")), vec![]));
    let caller = auth
        .identify(&original(json!({"iss": "as", "sub": "s", "client_id": "shop", "scope": "a b", "exp": 5_000})))
        .unwrap();
    let issued = auth.own().unwrap().issue(&caller, &session(&caller, ID), ID, NOW).unwrap();
    assert_eq!(part(&issued.text, 0), json!({"alg": "ES256", "typ": "at+jwt", "kid": "k1"}));
    let mut claims = part(&issued.text, 1);
    assert!(uuid::Uuid::parse_str(claims["jti"].take().as_str().unwrap()).is_ok());
    assert_eq!(
        claims,
        json!({
            "iss": "gate", "sub": "s", "aud": ["orders"], "client_id": "shop", "sid": ID.reveal(), "scope": "a b",
            "iat": 1_000, "exp": 1_900, "jti": null, "presented": {"iss": "as", "sub": "s"},
        })
    );
    assert_eq!(issued.expires, Timestamp::from_secs(1_900));
}

#[test]
fn an_issued_token_leads_back_to_the_same_owner_and_to_one_session() {
    let auth = auth(own(signing(None), vec![]));
    for claims in [
        json!({"iss": "as", "sub": "s", "client_id": "shop", "scope": "a b", "exp": 5_000}),
        json!({"client_id": "shop", "exp": 5_000}),
        json!({"iss": "", "sub": "", "azp": "shop", "exp": 5_000}),
        json!({"sub": "shop", "client_id": "shop", "exp": 5_000}),
    ] {
        let caller = auth.identify(&original(claims.clone())).unwrap();
        let issued = auth.own().unwrap().issue(&caller, &session(&caller, ID), ID, NOW).unwrap();
        let back = auth.identify(&issued.text).unwrap();
        assert_eq!(back.owner(), caller.owner(), "{claims}");
        assert_eq!((back.scope(), back.is_issued(), caller.is_issued()), (caller.scope(), true, false));
        assert!(back.may_enter(ID) && !back.may_enter(SessionId::from_random([8; 16])));
        assert_eq!(back.judge(Timestamp::from_secs(1_899)), Ok(()));
        assert_eq!(back.judge(Timestamp::from_secs(1_900)), Err(Why::Expired));
    }
}

#[test]
fn a_token_ends_with_its_session() {
    let auth = auth(own(signing(None), vec![]));
    let caller = auth.identify(&original(json!({"client_id": "shop", "exp": 5_000}))).unwrap();
    let session = session(&caller, ID);
    for (passed, left) in [(0, 900), (300, 900), (301, 899), (1_199, 1), (1_200, 0), (2_000, 0)] {
        let now = Now {
            wall: NOW.wall.after(Duration::from_secs(passed)),
            steady: NOW.steady.after(Duration::from_secs(passed)),
        };
        let issued = auth.own().unwrap().issue(&caller, &session, ID, now).unwrap();
        assert_eq!(issued.expires.since(now.wall).as_secs(), left, "{passed}");
    }
}

#[test]
fn after_a_rotation_old_tokens_are_good_until_the_old_key_is_gone() {
    let (old, new) = (pem(&rcgen::PKCS_ECDSA_P256_SHA256), pem(&rcgen::PKCS_ED25519));
    let key = |pem: &str| SigningKey::from_pem(pem.as_bytes(), None).unwrap();
    let before = auth(own(key(&old), vec![key(&new)]));
    let caller = before.identify(&original(json!({"client_id": "shop", "exp": 5_000}))).unwrap();
    let issue = |auth: &Authenticator| auth.own().unwrap().issue(&caller, &session(&caller, ID), ID, NOW).unwrap().text;
    let first = issue(&before);
    let overlap = auth(own(key(&new), vec![key(&old)]));
    let second = issue(&overlap);
    let after = auth(own(key(&new), vec![]));
    for auth in [&before, &overlap] {
        assert!(auth.identify(&first).is_ok() && auth.identify(&second).is_ok());
    }
    assert!(after.identify(&second).is_ok());
    assert_eq!(after.identify(&first).unwrap_err(), Rejection::TokenInvalid(Why::UnknownKey));
    assert_eq!((part(&first, 0)["alg"].take(), part(&second, 0)["alg"].take()), (json!("ES256"), json!("EdDSA")));
}

#[test]
fn nobody_else_speaks_for_the_gate() {
    let auth = auth(own(signing(Some("k1")), vec![]));
    let claims = json!({
        "iss": "gate", "sub": "s", "aud": ["orders"], "client_id": "shop", "sid": ID.reveal(), "iat": 1, "exp": 5_000,
        "jti": uuid::Uuid::nil(), "presented": {},
    });
    assert_eq!(auth.identify(&original(claims.clone())).unwrap_err(), Rejection::TokenInvalid(Why::Algorithm));
    let stranger = signing(Some("k1"));
    let forged = jsonwebtoken::encode(&stranger.header, &claims, &stranger.private).unwrap();
    assert_eq!(auth.identify(&forged).unwrap_err(), Rejection::TokenInvalid(Why::Signature));
    let stranger = signing(Some("k2"));
    let forged = jsonwebtoken::encode(&stranger.header, &claims, &stranger.private).unwrap();
    assert_eq!(auth.identify(&forged).unwrap_err(), Rejection::TokenInvalid(Why::UnknownKey));
}

#[test]
fn an_issued_token_ends_with_the_issuer_of_the_one_it_stands_for() {
    let (pem, named) = (pem(&rcgen::PKCS_ECDSA_P256_SHA256), |name: &str| {
        let keys = vec![VerificationKey::from_secret(SECRET, None, &[]).unwrap()];
        Issuer::with_keys("main", ClaimRules { issuer: Some(name.into()), ..ClaimRules::default() }, keys)
    });
    let auth = |issuers| {
        let own = own(SigningKey::from_pem(pem.as_bytes(), None).unwrap(), vec![]);
        Authenticator::new(issuers, Default::default(), 16).with_own(Some(own))
    };
    let both = auth(vec![named("as"), named("partner")]);
    let caller = both.identify(&original(json!({"iss": "partner", "client_id": "shop", "exp": 5_000}))).unwrap();
    let issued = both.own().unwrap().issue(&caller, &session(&caller, ID), ID, NOW).unwrap();
    assert!(both.identify(&issued.text).is_ok());
    let without = auth(vec![named("as")]);
    assert_eq!(without.identify(&issued.text).unwrap_err(), Rejection::TokenInvalid(Why::Issuer));
}

#[test]
fn the_key_set_holds_public_keys_only() {
    let ed = SigningKey::from_pem(pem(&rcgen::PKCS_ED25519).as_bytes(), Some("ed")).unwrap();
    let own = own(signing(None), vec![ed]);
    let set: Value = serde_json::from_slice(own.key_set()).unwrap();
    let keys = set["keys"].as_array().unwrap();
    let names = |key: &Value| key.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&keys[0]), ["alg", "crv", "kid", "kty", "use", "x", "y"]);
    assert_eq!(names(&keys[1]), ["alg", "crv", "kid", "kty", "use", "x"]);
    assert_eq!((&keys[1]["kid"], &keys[1]["alg"], &keys[0]["use"]), (&json!("ed"), &json!("EdDSA"), &json!("sig")));
    assert_eq!(VerificationKey::from_jwks(own.key_set()).unwrap().0.len(), 2);
    assert!(!format!("{own:?}").contains("private"));
}

#[test]
fn only_p_256_and_ed25519_sign() {
    for wrong in [pem(&rcgen::PKCS_ECDSA_P384_SHA384), "not a key".into(), String::new()] {
        assert_eq!(SigningKey::from_pem(wrong.as_bytes(), None).unwrap_err(), UnusableKey, "{wrong}");
    }
    let public = rcgen::KeyPair::generate().unwrap().public_key_pem();
    assert_eq!(SigningKey::from_pem(public.as_bytes(), None).unwrap_err(), UnusableKey);
}

#[test]
fn an_upstream_gets_the_same_token_for_half_its_life() {
    let own = own(signing(None), vec![]);
    let auth = auth(self::own(signing(None), vec![]));
    let caller = auth.identify(&original(json!({"client_id": "shop", "exp": 5_000}))).unwrap();
    let session = session(&caller, ID);
    let at = |secs| Now {
        wall: NOW.wall.after(Duration::from_secs(secs)),
        steady: NOW.steady.after(Duration::from_secs(secs)),
    };
    let first = own.for_upstream(&caller, &session, ID, at(0)).unwrap();
    assert!(first.is_sensitive());
    assert_eq!(own.for_upstream(&caller, &session, ID, at(449)).unwrap(), first);
    assert_ne!(own.for_upstream(&caller, &session, ID, at(450)).unwrap(), first);
}
