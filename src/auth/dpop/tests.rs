use jsonwebtoken::EncodingKey;
use jsonwebtoken::jwk::Jwk as LibraryJwk;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
const NOW: u64 = 1_562_262_618;
const CALL: Proven<'_> =
    Proven { method: "GET", https: true, host: "resource.example.org", path: "/protectedresource" };

/// The proof of RFC 9449 section 7.1.
const PUBLISHED: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";
const PUBLISHED_KEY: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";

/// A client with its key.
struct Client {
    private: EncodingKey,
    algorithm: Algorithm,
    jwk: Value,
}

impl Client {
    fn new(algorithm: Algorithm) -> Self {
        let kind = match algorithm {
            Algorithm::ES256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            _ => &rcgen::PKCS_RSA_SHA256,
        };
        let pem = rcgen::KeyPair::generate_for(kind).unwrap().serialize_pem();
        let private = match algorithm {
            Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes()).unwrap(),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(),
        };
        let mut jwk = serde_json::to_value(LibraryJwk::from_encoding_key(&private, algorithm).unwrap()).unwrap();
        jwk.as_object_mut().unwrap().remove("alg");
        Self { private, algorithm, jwk }
    }

    fn header(&self) -> Value {
        json!({"typ": "dpop+jwt", "alg": format!("{:?}", self.algorithm), "jwk": self.jwk})
    }

    fn sign(&self, header: &str, claims: &str) -> String {
        let message = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.private, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }

    fn thumbprint(&self) -> Thumbprint {
        let jwk: Jwk = serde_json::from_value(self.jwk.clone()).unwrap();
        jwk.public(self.algorithm).unwrap().1
    }
}

fn claims() -> Value {
    json!({
        "jti": "e1j3V_bKic8-LAEB", "htm": "GET", "htu": "https://resource.example.org/protectedresource", "iat": NOW,
        "ath": "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo",
    })
}

/// With some members changed; `null` removes one.
fn with(mut value: Value, changes: &Value) -> Value {
    let members = value.as_object_mut().unwrap();
    for (name, change) in changes.as_object().unwrap() {
        if change.is_null() {
            members.remove(name)
        } else {
            members.insert(name.clone(), change.clone())
        };
    }
    value
}

fn judge(text: &str, bound: Thumbprint, call: &Proven<'_>, token: &str, now: u64) -> Result<ProofName, ProofFault> {
    Proof::parse(text)?.verify(bound, call, token, &DpopRules::default(), Timestamp::from_secs(now))
}

fn thumbprint(text: &str) -> Thumbprint {
    serde_json::from_value(json!(text)).unwrap()
}

#[test]
fn the_published_example_is_good() {
    let bound = thumbprint(PUBLISHED_KEY);
    assert_eq!(Proof::parse(PUBLISHED).unwrap().thumbprint, bound);
    assert!(judge(PUBLISHED, bound, &CALL, TOKEN, NOW).is_ok());
}

#[test]
fn the_published_thumbprint_is_ours() {
    // RFC 7638 section 3.1.
    let jwk: Jwk = serde_json::from_value(json!({
        "kty": "RSA", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
    }))
    .unwrap();
    let (_, own) = jwk.public(Algorithm::RS256).unwrap();
    assert_eq!(own, thumbprint("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"));
    // RFC 8037 appendix A.3.
    let jwk: Jwk = serde_json::from_value(json!({
        "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    }))
    .unwrap();
    let (_, own) = jwk.public(Algorithm::EdDSA).unwrap();
    assert_eq!(own, thumbprint("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"));
}

#[test]
fn every_algorithm_that_is_offered_is_taken() {
    for algorithm in [Algorithm::ES256, Algorithm::RS256, Algorithm::PS256] {
        let client = Client::new(algorithm);
        let proof = client.sign(&client.header().to_string(), &claims().to_string());
        assert!(judge(&proof, client.thumbprint(), &CALL, TOKEN, NOW).is_ok(), "{algorithm:?}");
    }
    // The key of RFC 8037 appendix A; the JWT library reads no other form of such keys.
    let seed = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
    let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    der.extend(URL_SAFE_NO_PAD.decode(seed).unwrap());
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let client = Client { private: EncodingKey::from_ed_der(&der), algorithm: Algorithm::EdDSA, jwk };
    let proof = client.sign(&client.header().to_string(), &claims().to_string());
    assert!(judge(&proof, client.thumbprint(), &CALL, TOKEN, NOW).is_ok());
}

#[test]
fn each_wrong_header_has_its_reason() {
    let client = Client::new(Algorithm::ES256);
    let jwk = |changes: Value| json!({"jwk": with(client.jwk.clone(), &changes)});
    for (changes, fault) in [
        (json!({"typ": null}), ProofFault::Type),
        (json!({"typ": "JWT"}), ProofFault::Type),
        (json!({"typ": "at+jwt"}), ProofFault::Type),
        (json!({"alg": null}), ProofFault::Shape),
        (json!({"alg": 1}), ProofFault::Shape),
        (json!({"alg": "none"}), ProofFault::Algorithm),
        (json!({"alg": "HS256"}), ProofFault::Algorithm),
        (json!({"alg": "ES384"}), ProofFault::Algorithm),
        (json!({"alg": "es256"}), ProofFault::Algorithm),
        (json!({"crit": ["exp"]}), ProofFault::Critical),
        (json!({"b64": false}), ProofFault::Critical),
        (json!({"jwk": null}), ProofFault::Jwk),
        (json!({"jwk": "key"}), ProofFault::Jwk),
        (json!({"jwk": {}}), ProofFault::Jwk),
        (json!({"jwk": {"kty": "oct", "k": "AAAA"}}), ProofFault::PrivateKey),
        (jwk(json!({"d": "AAAA"})), ProofFault::PrivateKey),
        (jwk(json!({"p": "AAAA"})), ProofFault::PrivateKey),
        (jwk(json!({"oth": []})), ProofFault::PrivateKey),
        (jwk(json!({"kty": "RSA"})), ProofFault::Jwk),
        (jwk(json!({"crv": "P-384"})), ProofFault::Jwk),
        (jwk(json!({"crv": null})), ProofFault::Jwk),
        (jwk(json!({"x": null})), ProofFault::Jwk),
        (jwk(json!({"y": "not base64url!"})), ProofFault::Jwk),
        (jwk(json!({"x": "\",\"y\":\""})), ProofFault::Jwk),
        (jwk(json!({"x": "AAAA"})), ProofFault::Key),
        (json!({"alg": "RS256"}), ProofFault::Jwk),
    ] {
        let proof = client.sign(&with(client.header(), &changes).to_string(), &claims().to_string());
        let verdict = judge(&proof, client.thumbprint(), &CALL, TOKEN, NOW);
        assert_eq!(verdict, Err(fault), "{changes}");
    }
    let twice = client.header().to_string().replacen('{', "{\"alg\":\"ES256\",", 1);
    let proof = client.sign(&twice, &claims().to_string());
    assert_eq!(judge(&proof, client.thumbprint(), &CALL, TOKEN, NOW), Err(ProofFault::Shape));
}

#[test]
fn each_wrong_claim_has_its_reason() {
    let client = Client::new(Algorithm::ES256);
    for (changes, fault) in [
        (json!({"jti": null}), ProofFault::Claims),
        (json!({"jti": ""}), ProofFault::Claims),
        (json!({"jti": 7}), ProofFault::Claims),
        (json!({"htm": null}), ProofFault::Claims),
        (json!({"htm": "POST"}), ProofFault::Method),
        (json!({"htm": "get"}), ProofFault::Method),
        (json!({"htu": null}), ProofFault::Claims),
        (json!({"htu": "https://resource.example.org/other"}), ProofFault::Target),
        (json!({"htu": "http://resource.example.org/protectedresource"}), ProofFault::Target),
        (json!({"htu": "https://resource.example.org:8443/protectedresource"}), ProofFault::Target),
        (json!({"htu": "https://resource.example.com/protectedresource"}), ProofFault::Target),
        (json!({"htu": "/protectedresource"}), ProofFault::Target),
        (json!({"iat": null}), ProofFault::Claims),
        (json!({"iat": "1562262618"}), ProofFault::Claims),
        (json!({"iat": -1}), ProofFault::Claims),
        (json!({"iat": NOW - 61}), ProofFault::Stale),
        (json!({"iat": NOW + 6}), ProofFault::Early),
        (json!({"iat": NOW * 1000}), ProofFault::Early),
        (json!({"ath": null}), ProofFault::Token),
        (json!({"ath": ""}), ProofFault::Token),
        (json!({"ath": TOKEN}), ProofFault::Token),
        (json!({"ath": "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo="}), ProofFault::Token),
    ] {
        let proof = client.sign(&client.header().to_string(), &with(claims(), &changes).to_string());
        assert_eq!(judge(&proof, client.thumbprint(), &CALL, TOKEN, NOW), Err(fault), "{changes}");
    }
    for good in [
        json!({"iat": NOW - 60}),
        json!({"iat": NOW + 5}),
        json!({"iat": 1_562_262_617.5}),
        json!({"nonce": "n", "exp": 1}),
    ] {
        let proof = client.sign(&client.header().to_string(), &with(claims(), &good).to_string());
        assert!(judge(&proof, client.thumbprint(), &CALL, TOKEN, NOW).is_ok(), "{good}");
    }
}

#[test]
fn each_wrong_form_or_context_has_its_reason() {
    let (client, other) = (Client::new(Algorithm::ES256), Client::new(Algorithm::ES256));
    let good = client.sign(&client.header().to_string(), &claims().to_string());
    let bound = client.thumbprint();
    let long = format!("{good}{}", "A".repeat(PROOF_MAX));
    let (message, signature) = good.rsplit_once('.').unwrap();
    let reversed: String = signature.chars().rev().collect();
    let by_other = other.sign(&client.header().to_string(), &claims().to_string());
    for (text, fault) in [
        ("", ProofFault::Shape),
        ("a.b", ProofFault::Shape),
        ("a.b.c", ProofFault::Shape),
        ("..", ProofFault::Shape),
        ("e30.e30.e30", ProofFault::Shape),
        (&format!("{good}.e30"), ProofFault::Shape),
        (&format!("{message}."), ProofFault::Shape),
        (&format!("{good}, {good}"), ProofFault::Shape),
        (&format!("{message}.{reversed}"), ProofFault::Signature),
        (&format!("{message}.AAAA"), ProofFault::Signature),
        (&format!("{good}="), ProofFault::Signature),
        (&by_other, ProofFault::Signature),
        (&long, ProofFault::TooLarge),
    ] {
        assert_eq!(judge(text, bound, &CALL, TOKEN, NOW), Err(fault), "{text}");
    }
    assert_eq!(judge(&good, other.thumbprint(), &CALL, TOKEN, NOW), Err(ProofFault::Key));
    assert_eq!(judge(&good, bound, &CALL, "another", NOW), Err(ProofFault::Token));
    assert_eq!(judge(&good, bound, &Proven { method: "HEAD", ..CALL }, TOKEN, NOW), Err(ProofFault::Method));
    assert_eq!(judge(&good, bound, &Proven { https: false, ..CALL }, TOKEN, NOW), Err(ProofFault::Target));
    assert_eq!(judge(&good, bound, &CALL, TOKEN, NOW + 61), Err(ProofFault::Stale));
}

#[test]
fn a_proof_is_named_by_its_key_and_its_jti() {
    let [one, two] = [0, 1].map(|_| Client::new(Algorithm::ES256));
    let name = |client: &Client, changes: Value| {
        let proof = client.sign(&client.header().to_string(), &with(claims(), &changes).to_string());
        judge(&proof, client.thumbprint(), &CALL, TOKEN, NOW).unwrap()
    };
    assert_eq!(name(&one, json!({})), name(&one, json!({"iat": NOW - 1})));
    assert_ne!(name(&one, json!({})), name(&one, json!({"jti": "other"})));
    assert_ne!(name(&one, json!({})), name(&two, json!({})));
}

proptest! {
    /// Whatever a field holds, nothing panics, and no changed proof is taken.
    #[test]
    fn no_other_text_is_a_proof(place in 0..PUBLISHED.len(), byte in b' '..=b'~', text in "[ -~]{0,64}") {
        prop_assert!(Proof::parse(&text).is_err());
        let mut changed = PUBLISHED.to_owned().into_bytes();
        changed[place] = byte;
        let changed = String::from_utf8(changed).unwrap();
        let verdict = judge(&changed, thumbprint(PUBLISHED_KEY), &CALL, TOKEN, NOW);
        prop_assert_eq!(verdict.is_ok(), changed == PUBLISHED);
    }
}
