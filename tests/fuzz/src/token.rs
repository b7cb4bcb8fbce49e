//! Tokens and keys: no caller without a signature made with the secret.
//!
//! The first byte of an input chooses what the others are: a token, edits of a good token, a header and claims that get
//! signed, a key set, a PEM file.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use sessiongate::auth::keys::VerificationKey;
use sessiongate::auth::{Authenticator, Issuer};
use sessiongate::policy::claims::ClaimRules;
use sessiongate::policy::scopes::ScopeNames;
use sessiongate::policy::time::Timestamp;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
const CLAIMS: &str = r#"{"sub":"s","iss":"ENTAPI","client_id":"shop","scope":"orders.read x","exp":4000000000}"#;

/// Two issuers, so that one is found by its name; both have the same key.
static AUTHENTICATOR: LazyLock<Authenticator> = LazyLock::new(|| {
    _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    let key = VerificationKey::from_secret(SECRET, None, &[]).expect("a long secret");
    authenticator(&[Some("ENTAPI"), None], &[key])
});

fn authenticator(issuers: &[Option<&str>], keys: &[VerificationKey]) -> Authenticator {
    let issuer = |iss: &Option<&str>| {
        let claims = ClaimRules { issuer: iss.map(Into::into), ..ClaimRules::default() };
        Issuer::with_keys("main", claims, keys.to_vec())
    };
    // Few are remembered: every token is to be looked at.
    Authenticator::new(issuers.iter().map(issuer).collect(), ScopeNames::default(), 4)
}

/// Reads bytes as a token or as keys.
pub fn check(bytes: &[u8]) {
    let [kind, rest @ ..] = bytes else { return };
    LazyLock::force(&AUTHENTICATOR);
    match kind {
        b't' => std::str::from_utf8(rest).into_iter().for_each(identify),
        b'e' => identify(&edited(rest)),
        b's' => signed_by_us(rest),
        b'k' => key_set(rest),
        b'p' => pem(rest),
        _ => {}
    }
}

fn signature(message: &str) -> String {
    jsonwebtoken::crypto::sign(message.as_bytes(), &EncodingKey::from_secret(SECRET), Algorithm::HS256).expect("signed")
}

fn signed(header: &[u8], claims: &[u8]) -> String {
    let message = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let signature = signature(&message);
    format!("{message}.{signature}")
}

/// A token gets a caller only if all of it, to the last character, is what we would have made.
fn identify(token: &str) {
    let Ok(caller) = AUTHENTICATOR.identify(token) else { return };
    let (message, given) = token.rsplit_once('.').expect("it has a signature");
    assert_eq!(given, signature(message), "{token}");
    let header = message.split('.').next().unwrap_or_default();
    let header = URL_SAFE_NO_PAD.decode(header).expect("base64url");
    let header: serde_json::Value = serde_json::from_slice(&header).expect("JSON");
    assert_eq!(header["alg"], "HS256", "{token}");
    assert!(
        header.get("crit").is_none_or(serde_json::Value::is_null) && header.get("b64").is_none_or(|b64| b64.is_null()),
        "{token}"
    );
    assert!(!caller.owner().client.as_str().is_empty());
    _ = caller.judge(Timestamp::from_secs(2_000_000_000));
    let again = AUTHENTICATOR.identify(token).expect("remembered or not");
    assert_eq!(again.owner(), caller.owner());
}

/// A good token after edits of three bytes each: place, kind, character.
fn edited(edits: &[u8]) -> String {
    let mut token = signed(HEADER.as_bytes(), CLAIMS.as_bytes()).into_bytes();
    for edit in edits.chunks_exact(3) {
        let place = usize::from(edit[0]) * token.len() / 256;
        let letter = edit[2] & 0x7f;
        match edit[1] % 4 {
            0 => token[place] = letter,
            1 => token.insert(place, letter),
            2 if token.len() > 1 => _ = token.remove(place),
            _ => token[place] ^= 1 << (letter % 7),
        }
    }
    String::from_utf8(token).expect("ASCII")
}

/// The first line is a header, the others are claims; the signature is good.
fn signed_by_us(text: &[u8]) {
    let end = text.iter().position(|byte| *byte == b'\n');
    let (header, claims) = end.map_or((HEADER.as_bytes(), text), |end| (&text[..end], &text[end + 1..]));
    identify(&signed(header, claims));
}

fn key_set(json: &[u8]) {
    let Ok((keys, _)) = VerificationKey::from_jwks(json) else { return };
    assert!(!keys.is_empty());
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA, Algorithm::HS256] {
        try_with(&keys, algorithm);
    }
}

fn pem(text: &[u8]) {
    let Ok(key) = VerificationKey::from_pem(text, None, &[]) else { return };
    for hmac in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        assert!(!key.verifies(hmac), "a public key is no secret");
    }
    let keys = [key];
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA] {
        try_with(&keys, algorithm);
    }
    // The old trick: the public key as an HMAC secret.
    let message = [HEADER, CLAIMS].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let by_pem = jsonwebtoken::crypto::sign(message.as_bytes(), &EncodingKey::from_secret(text), Algorithm::HS256);
    let token = format!("{message}.{}", by_pem.expect("signed"));
    assert!(authenticator(&[None], &keys).identify(&token).is_err());
}

/// No key verifies a signature that was not made with it.
fn try_with(keys: &[VerificationKey], algorithm: Algorithm) {
    let header = format!(r#"{{"alg":"{algorithm:?}"}}"#);
    let message = [&*header, CLAIMS].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let auth = authenticator(&[None], keys);
    for length in [32, 64, 96, 256] {
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(vec![0; length]));
        assert!(auth.identify(&token).is_err(), "{algorithm:?}");
    }
}
