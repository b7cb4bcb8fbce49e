//! Proofs of possession: none is taken that was not made with the key, for the call, the token and the time.
//!
//! The first byte of an input chooses what the others are: a proof, edits of a good proof, claims that get signed.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use sessiongate::auth::dpop::{DpopRules, Proof};
use sessiongate::policy::binding::Thumbprint;
use sessiongate::policy::proof::Proven;
use sessiongate::policy::time::Timestamp;

/// The key of RFC 8037 appendix A, of no use elsewhere: its signatures are the same every time.
const SEED: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
const HEADER: &str = r#"{"typ":"dpop+jwt","alg":"EdDSA","jwk":{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}}"#;
const CLAIMS: &str = r#"{"jti":"1","htm":"GET","htu":"https://shop.test/orders","iat":1000,"ath":"PEaenWxYddN6Q_NT1PiOYfz4EsZu7jRXRlpAsNpBU-A"}"#;
const TOKEN: &str = "token";
const CALL: Proven<'_> = Proven { method: "GET", https: true, host: "shop.test", path: "/orders" };
const THUMBPRINT: &str = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";

static KEY: LazyLock<EncodingKey> = LazyLock::new(|| {
    _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    der.extend(URL_SAFE_NO_PAD.decode(SEED).expect("a seed"));
    EncodingKey::from_ed_der(&der)
});

/// Reads bytes as a proof.
pub fn check(bytes: &[u8]) {
    let [kind, rest @ ..] = bytes else { return };
    LazyLock::force(&KEY);
    match kind {
        b'p' => std::str::from_utf8(rest).into_iter().for_each(judge),
        b'e' => judge(&edited(rest)),
        b's' => signed_by_the_client(rest),
        _ => {}
    }
}

fn signed(claims: &[u8]) -> String {
    let message = [HEADER.as_bytes(), claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &KEY, Algorithm::EdDSA).expect("signed");
    format!("{message}.{signature}")
}

fn bound() -> Thumbprint {
    let bytes = URL_SAFE_NO_PAD.decode(THUMBPRINT).expect("base64url");
    Thumbprint(bytes.try_into().expect("32 bytes"))
}

fn is_good(proof: &str) -> bool {
    let verify =
        |proof: Proof<'_>| proof.verify(bound(), &CALL, TOKEN, &DpopRules::default(), Timestamp::from_secs(1_000));
    Proof::parse(proof).and_then(verify).is_ok()
}

/// Only a text that the client itself would make of these claims is good.
fn judge(proof: &str) {
    if is_good(proof) {
        let claims = proof.split('.').nth(1).expect("claims");
        let claims = URL_SAFE_NO_PAD.decode(claims).expect("base64url");
        assert_eq!(proof, signed(&claims));
    }
}

/// A good proof after edits of two bytes each: place and character.
fn edited(edits: &[u8]) -> String {
    let mut proof = signed(CLAIMS.as_bytes()).into_bytes();
    assert!(is_good(&String::from_utf8_lossy(&proof)));
    for edit in edits.chunks_exact(2) {
        let place = usize::from(edit[0]) * proof.len() / 256;
        proof[place] = edit[1];
    }
    String::from_utf8_lossy(&proof).into_owned()
}

/// What the client signed is judged by what it says.
fn signed_by_the_client(claims: &[u8]) {
    if !is_good(&signed(claims)) {
        return;
    }
    let claims: serde_json::Value = serde_json::from_slice(claims).expect("JSON");
    assert_eq!(claims["htm"], "GET");
    assert!(claims["jti"].as_str().is_some_and(|jti| !jti.is_empty()));
    assert!(claims["iat"].as_f64().is_some_and(|iat| (940.0..=1005.0).contains(&iat)));
    let htu = claims["htu"].as_str().expect("a text").to_ascii_lowercase();
    assert!(htu.starts_with("https://shop.test") && htu.contains("/orders") || htu.contains('%'), "{htu}");
    assert_eq!(claims["ath"], "PEaenWxYddN6Q_NT1PiOYfz4EsZu7jRXRlpAsNpBU-A");
}
