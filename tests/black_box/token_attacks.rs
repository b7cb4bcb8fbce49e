//! Forged and twisted tokens (RFC 8725, and what other gateways have fallen for): each is refused with its exact code, and
//! nothing of it reaches an upstream or an address that it names.

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use crate::harness::{CLIENT, Config, Gate, Origin, SECRET, Session, Setup, claims, now, sign, sign_with, token};

/// The issuer with a public key, and that key.
const SIGNER: &str = "https://signer.example";
static PAIR: LazyLock<rcgen::KeyPair> = LazyLock::new(|| {
    rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).expect("a key")
});

/// A token and the code it is refused with.
struct Attack(String, String, &'static str);

const INVALID: &str = "token-invalid";

struct Attacks {
    all: Vec<Attack>,
    /// An address that nobody must ask.
    trap: String,
}

impl Attacks {
    fn add(&mut self, name: impl Into<String>, token: String) {
        self.all.push(Attack(name.into(), token, INVALID));
    }

    /// Good claims of the issuer with the secret, under this header and a good signature.
    fn header(&mut self, header: &str) {
        let header = header.replace("{trap}", &self.trap);
        self.add(format!("header {header}"), sign(&header, &claims().to_string()));
    }

    /// These claims under a good header and signature.
    fn claims(&mut self, claims: &str) {
        let claims = claims.replace("{now}", &now().to_string()).replace("{client}", CLIENT);
        self.add(format!("claims {claims}"), sign(r#"{"alg":"HS256"}"#, &claims));
    }
}

fn none_in_all_spellings(attacks: &mut Attacks) {
    let payload = claims().to_string();
    for alg in ["none", "None", "NONE", "nOnE", "none ", "\\u006eone", "", "null", "HS0", "plain"] {
        let header = format!(r#"{{"alg":"{alg}"}}"#);
        let signed = sign(&header, &payload);
        let message = signed.rsplit_once('.').expect("three parts").0.to_owned();
        attacks.add(format!("alg {alg:?}, signed"), signed);
        attacks.add(format!("alg {alg:?}, unsigned"), format!("{message}."));
    }
    for header in [r#"{"alg":null}"#, r#"{"alg":["HS256"]}"#, r#"{"alg":7}"#, "{}", r#"{"Alg":"HS256"}"#] {
        attacks.header(header);
    }
}

fn algorithms_of_other_keys(attacks: &mut Attacks) {
    let of_signer = {
        let mut claims = claims();
        claims["iss"] = json!(SIGNER);
        claims.to_string()
    };
    let (pem, der) = (PAIR.public_key_pem(), PAIR.public_key_raw().to_vec());
    for (name, secret) in
        [("PEM", pem.as_bytes()), ("trimmed PEM", pem.trim().as_bytes()), ("DER", &der), ("nothing", b"")]
    {
        for kid in ["", r#","kid":"rsa""#] {
            let header = format!(r#"{{"alg":"HS256"{kid}}}"#);
            attacks.add(
                format!("the public key as {name} for HS256{kid}"),
                sign_with(&header, &of_signer, hmac::HMAC_SHA256, secret),
            );
        }
    }
    let message =
        |alg: &str| [&*format!(r#"{{"alg":"{alg}"}}"#), &of_signer].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    for (alg, length) in [("ES256", 64), ("ES384", 96), ("EdDSA", 64), ("RS256", 256), ("PS256", 256)] {
        attacks.add(format!("{alg} of zeros"), format!("{}.{}", message(alg), URL_SAFE_NO_PAD.encode(vec![0; length])));
    }
    // Signed by the right key in a way that it is not for.
    let key = EncodingKey::from_rsa_pem(PAIR.serialize_pem().as_bytes()).expect("a key");
    for (alg, name) in [(Algorithm::PS256, "PS256"), (Algorithm::RS512, "RS512")] {
        let signature = jsonwebtoken::crypto::sign(message(name).as_bytes(), &key, alg).expect("a signature");
        attacks.add(format!("{name} with a key for RS256"), format!("{}.{signature}", message(name)));
    }
    attacks.add("the secret of another issuer", sign(r#"{"alg":"HS256"}"#, &of_signer));
}

fn keys_of_the_senders_choice(attacks: &mut Attacks) {
    let own = "eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg";
    let payload = claims().to_string();
    for header in [
        format!(r#"{{"alg":"HS256","jwk":{{"kty":"oct","k":"{own}"}}}}"#),
        r#"{"alg":"HS256","jku":"{trap}/jwks"}"#.into(),
        r#"{"alg":"HS256","x5u":"{trap}/chain"}"#.into(),
        r#"{"alg":"HS256","x5c":["MIIB"]}"#.into(),
        r#"{"alg":"HS256","kid":"{trap}/key"}"#.into(),
        r#"{"alg":"HS256","kid":"../../../../../dev/null"}"#.into(),
        r#"{"alg":"HS256","kid":"/proc/self/environ"}"#.into(),
        r#"{"alg":"HS256","kid":"' UNION SELECT 'x' --"}"#.into(),
        r#"{"alg":"HS256","kid":"x\u0000y"}"#.into(),
        r#"{"alg":"HS256","kid":"$(id)"}"#.into(),
    ] {
        let header = header.replace("{trap}", &attacks.trap);
        let forged = sign_with(&header, &payload, hmac::HMAC_SHA256, &[b'x'; 32]);
        attacks.add(format!("signed by the sender, header {header}"), forged);
        attacks.add(format!("an empty secret, header {header}"), sign_with(&header, &payload, hmac::HMAC_SHA256, b""));
    }
    for header in [r#"{"alg":"HS256","kid":7}"#, r#"{"alg":"HS256","kid":["main"]}"#] {
        attacks.header(header);
    }
}

fn headers_that_read_in_two_ways(attacks: &mut Attacks) {
    for header in [
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","\u0061lg":"none"}"#,
        r#"{"alg":"HS256","kid":"a","kid":"b"}"#,
        r#"{"alg":"HS256","x":{"y":1,"y":2}}"#,
        r#"{"alg":"HS256","crit":["exp"]}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#,
        r#"{"alg":"HS256","b64":false}"#,
        r#"["HS256"]"#,
        r#""HS256""#,
        r#"{"alg":"HS256"} "x""#,
        r#"{"alg":"HS256",}"#,
        "{'alg':'HS256'}",
        "",
    ] {
        attacks.header(header);
    }
}

fn claims_that_read_in_two_ways(attacks: &mut Attacks) {
    for claims in [
        // Times that are none, or have passed, or have not come.
        r#"{"client_id":"{client}"}"#,
        r#"{"client_id":"{client}","exp":null}"#,
        r#"{"client_id":"{client}","exp":"4000000000"}"#,
        r#"{"client_id":"{client}","exp":true}"#,
        r#"{"client_id":"{client}","exp":[4000000000]}"#,
        r#"{"client_id":"{client}","exp":{"$gt":0}}"#,
        r#"{"client_id":"{client}","exp":-1}"#,
        r#"{"client_id":"{client}","exp":-0.5}"#,
        r#"{"client_id":"{client}","exp":0}"#,
        r#"{"client_id":"{client}","exp":1.5}"#,
        r#"{"client_id":"{client}","exp":1e999}"#,
        r#"{"client_id":"{client}","exp":NaN}"#,
        r#"{"client_id":"{client}","exp":Infinity}"#,
        r#"{"client_id":"{client}","exp":0x7fffffff}"#,
        r#"{"client_id":"{client}","exp":4000000000,"nbf":"0"}"#,
        r#"{"client_id":"{client}","exp":4000000000,"nbf":-1}"#,
        r#"{"client_id":"{client}","exp":4000000000,"nbf":3999999999}"#,
        r#"{"client_id":"{client}","exp":4000000000,"nbf":1e300}"#,
        r#"{"client_id":"{client}","exp":4000000000,"iat":"now"}"#,
        // Claims twice.
        r#"{"client_id":"{client}","exp":1,"exp":4000000000}"#,
        r#"{"client_id":"other","client_id":"{client}","exp":4000000000}"#,
        r#"{"client_id":"{client}","exp":4000000000,"client\u005fid":"other"}"#,
        r#"{"client_id":"{client}","exp":4000000000,"scope":"a","scope":"listerine.all"}"#,
        r#"{"client_id":"{client}","exp":4000000000,"role":"a","role":"b"}"#,
        r#"{"client_id":"{client}","exp":4000000000,"act":{"sub":"a","sub":"b"}}"#,
        // Claims of other kinds.
        r#"{"client_id":["{client}"],"exp":4000000000}"#,
        r#"{"client_id":{"client_id":"{client}"},"exp":4000000000}"#,
        r#"{"client_id":"","exp":4000000000}"#,
        r#"{"exp":4000000000}"#,
        r#"{"client_id":"{client}","exp":4000000000,"iss":["ENTAPI"]}"#,
        r#"{"client_id":"{client}","exp":4000000000,"sub":7}"#,
        r#"{"client_id":"{client}","exp":4000000000,"scope":["listerine.all"]}"#,
        r#"{"client_id":"{client}","exp":4000000000,"aud":7}"#,
        r#"[{"client_id":"{client}","exp":4000000000}]"#,
        "null",
        "",
    ] {
        attacks.claims(claims);
    }
    let deep = format!(r#"{{"client_id":"{CLIENT}","exp":4000000000,"x":{}{}}}"#, "[".repeat(500), "]".repeat(500));
    attacks.add("claims beyond any depth", sign(r#"{"alg":"HS256"}"#, &deep));
}

fn other_forms(attacks: &mut Attacks) {
    let good = token();
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    for (name, token) in [
        ("nothing signed", format!("{header}.{payload}.")),
        ("two parts", format!("{header}.{payload}")),
        ("four parts", format!("{good}.{signature}")),
        ("five parts, as if encrypted", format!("{header}.{payload}.{signature}.{payload}.{signature}")),
        ("an empty header", format!(".{payload}.{signature}")),
        ("empty claims", format!("{header}..{signature}")),
        ("only dots", "..".into()),
        ("a nested token", sign(r#"{"alg":"HS256","cty":"JWT"}"#, &good)),
        ("a token in a token", sign_with(r#"{"alg":"HS256"}"#, &good, hmac::HMAC_SHA256, b"x")),
        ("the signature cut", format!("{header}.{payload}.{}", &signature[..signature.len() - 4])),
        ("the signature and more", format!("{good}AAAA")),
        ("the signature twice", format!("{good}{signature}")),
        ("a padded signature", format!("{good}=")),
        ("the other base64", format!("{header}.{payload}.{}", STANDARD.encode([0xfb, 0xef, 0xff].repeat(11)))),
        ("a line end in it", format!("{header}.{payload}.{}", signature.replacen(|_: char| true, "-", 1))),
        (
            "another payload",
            format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(r#"{"client_id":"x","exp":4e9}"#)),
        ),
        (
            "8 KiB of a token",
            format!("{}.{payload}.{signature}", "a".repeat(8192 - payload.len() - signature.len() - 2)),
        ),
    ] {
        attacks.add(name, token);
    }
    // The last character of the signature has bits that no byte needs: only zeros are canonical (RFC 4648 section 3.5).
    let last = signature.chars().last().expect("a character");
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = alphabet.chars().nth(alphabet.find(last).expect("base64url") + 1).expect("another one");
    let cut = &good[..good.len() - 1];
    attacks.add("a signature that is not canonical", format!("{cut}{next}"));
    attacks.all.push(Attack("more than 8 KiB".into(), format!("{}{good}", "a".repeat(8192)), "credentials-malformed"));
    for look_alike in ["\u{435}", "\u{200b}", "\u{ff0e}", "\u{212a}"] {
        let twisted = format!("{}{look_alike}{}", &good[..10], &good[11..]);
        attacks.all.push(Attack(format!("a look-alike {look_alike:?}"), twisted, "credentials-malformed"));
    }
    // Padding within a token is no token68 (RFC 9110 section 11.2).
    attacks.all.push(Attack(
        "a padded header".into(),
        format!("{header}=.{payload}.{signature}"),
        "credentials-malformed",
    ));
    attacks.all.push(Attack(
        "padded claims".into(),
        format!("{header}.{payload}=.{signature}"),
        "credentials-malformed",
    ));
    attacks.all.push(Attack("percent-encoded".into(), good.replace('.', "%2E"), "credentials-malformed"));
    // Written with other characters in its JSON, the issuer is another one.
    for iss in
        ["https://signer.example/", "HTTPS://SIGNER.EXAMPLE", "https://signer.ex\u{430}mple", " https://signer.example"]
    {
        let mut of = claims();
        of["iss"] = json!(iss);
        of["exp"] = Value::from(4_000_000_000u64);
        let key = EncodingKey::from_rsa_pem(PAIR.serialize_pem().as_bytes()).expect("a key");
        let header = jsonwebtoken::Header { kid: Some("rsa".into()), ..jsonwebtoken::Header::new(Algorithm::RS256) };
        attacks.add(format!("iss {iss:?}"), jsonwebtoken::encode(&header, &of, &key).expect("a token"));
    }
}

#[test]
fn each_forged_token_is_refused_with_its_code_and_reaches_nothing() {
    let (origin, trap) = (Origin::start(), Origin::start());
    let signer = format!(
        "name = \"signer\"\nissuer = \"{SIGNER}\"\nkeys = [{{ pem = {{ file = \"{{dir}}/rsa.pem\" }}, kid = \"rsa\" }}]"
    );
    let main = "name = \"main\"\nkeys = [{ secret = { file = \"{dir}/secret\" } }]";
    let setup = Setup::configured(&Config::new(&origin.url()).lenient().issuer(&signer).issuer(main));
    setup.write("rsa.pem", PAIR.public_key_pem());
    let gate: Gate = setup.start();
    let session = gate.open();

    let mut attacks = Attacks { all: Vec::new(), trap: trap.url() };
    none_in_all_spellings(&mut attacks);
    algorithms_of_other_keys(&mut attacks);
    keys_of_the_senders_choice(&mut attacks);
    headers_that_read_in_two_ways(&mut attacks);
    claims_that_read_in_two_ways(&mut attacks);
    other_forms(&mut attacks);
    assert!(attacks.all.len() > 120, "{} attacks", attacks.all.len());

    let mut admitted = Vec::new();
    for Attack(name, token, code) in &attacks.all {
        for call in [session.with_token(token).get("/orders"), Session::opening(token, CLIENT)] {
            let reply = gate.send(&call);
            let refused = reply.status == 401 || reply.status == 400;
            if refused {
                let problem = reply.assert_refused(code);
                assert_eq!(problem["code"], *code, "{name}");
            } else {
                admitted.push(format!("{name}: {}", reply.status));
            }
        }
    }
    assert!(admitted.is_empty(), "{admitted:#?}");
    origin.assert_untouched();
    trap.assert_untouched();
    gate.send(&session.get("/orders")).assert_status(200);
    assert!(!gate.stderr().contains(SECRET));
}

#[test]
fn a_token_of_a_mebibyte_is_not_even_read() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let session = gate.open();
    for size in [40 * 1024, 1024 * 1024] {
        let mut raw = gate.connect();
        // The gate need not take all of it.
        let _ = raw.try_send(session.with_token(&"a".repeat(size)).get("/orders").bytes());
        if let Some(reply) = raw.next_to("GET") {
            assert_eq!(reply.status, 431, "{size}");
        }
        gate.send(&session.get("/orders")).assert_status(200);
    }
    assert_eq!(origin.calls(), 2);
}
