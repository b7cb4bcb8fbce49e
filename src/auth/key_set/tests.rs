use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::auth::{Authenticator, Issuer, Issuers};
use crate::policy::claims::{Caller, ClaimRules};

/// An issuer that publishes what a test tells it to.
struct Publisher {
    url: Url,
    /// Answers to come, each once; the last one for ever.
    answers: Arc<Mutex<VecDeque<String>>>,
    fetches: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Publisher {
    async fn start(first: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/jwks", listener.local_addr().unwrap())).unwrap();
        let answers = Arc::new(Mutex::new(VecDeque::from([first])));
        let (fetches, heads) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<String>>>::default());
        let publisher = Self { url, answers, fetches, heads };
        let (answers, fetches) = (Arc::clone(&publisher.answers), Arc::clone(&publisher.fetches));
        let heads = Arc::clone(&publisher.heads);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = [0; 4096];
                let read = socket.read(&mut head).await.unwrap_or(0);
                heads.lock().push(String::from_utf8_lossy(&head[..read]).into_owned());
                fetches.fetch_add(1, Ordering::SeqCst);
                let answer = {
                    let mut answers = answers.lock();
                    if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }
                };
                _ = socket.write_all(answer.unwrap_or_default().as_bytes()).await;
            }
        });
        publisher
    }

    fn publish(&self, answer: String) {
        *self.answers.lock() = VecDeque::from([answer]);
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

fn answer(status: &str, fields: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{fields}\r\n{body}", body.len())
}

fn set(keys: &[&Key]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| key.public.clone()).collect();
    answer("200 OK", "etag: \"1\"\r\n", &json!({ "keys": keys }).to_string())
}

struct Key {
    kid: &'static str,
    private: EncodingKey,
    public: Value,
}

impl Key {
    fn new(kid: &'static str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let private = EncodingKey::from_ed_pem(pair.serialize_pem().as_bytes()).unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key_raw());
        Self { kid, private, public: json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid}) }
    }

    fn sign(&self, kid: Option<&str>) -> String {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::EdDSA) };
        encode(&header, &json!({"client_id": "c", "exp": 4_000_000_000u64}), &self.private).unwrap()
    }

    fn token(&self) -> String {
        self.sign(Some(self.kid))
    }
}

const MS: Duration = Duration::from_millis(1);

fn config(url: &Url) -> KeySetConfig {
    KeySetConfig {
        source: Source::Url(url.clone()),
        reach: Reach { trust: None, allow_http: false, timeout: 2000 * MS },
        refresh: 3_600_000 * MS..=3_600_000 * MS,
        cooldown: 600_000 * MS,
        wait: 5000 * MS,
        max_stale: 86_400_000 * MS,
    }
}

fn authenticator(config: KeySetConfig) -> Authenticator {
    let issuer = Issuer::with_key_set("main", ClaimRules::default(), config);
    Authenticator::new(vec![issuer], Default::default(), 100)
}

/// An authenticator whose key set is kept up to date.
fn alive(config: KeySetConfig) -> (Arc<Authenticator>, Arc<Issuers>) {
    let mut auth = authenticator(config);
    let issuers = Arc::new(Issuers::default());
    issuers.adopt(&mut auth);
    let supervised = Arc::clone(&issuers);
    tokio::spawn(async move { supervised.supervise().await });
    (Arc::new(auth), issuers)
}

async fn identify(auth: &Authenticator, token: &str) -> Result<Arc<Caller>, Rejection> {
    match auth.recall(token) {
        Ok(caller) => Ok(caller),
        Err(crate::auth::Unidentified::Refused(rejection)) => Err(rejection),
        Err(crate::auth::Unidentified::Ask(inquiry)) => auth.inquire(token, inquiry).await,
    }
}

const UNKNOWN: Rejection = Rejection::TokenInvalid(Why::UnknownKey);
const UNAVAILABLE: Rejection = Rejection::IssuerUnavailable(RETRY);

#[tokio::test]
async fn the_first_token_of_a_new_key_is_accepted_and_random_kids_cause_one_fetch() {
    let (old, new) = (Key::new("old"), Key::new("new"));
    let publisher = Publisher::start(set(&[&old])).await;
    let (auth, _issuers) = alive(config(&publisher.url));
    assert!(identify(&auth, &old.token()).await.is_ok(), "the very first token waits for the first set");
    assert_eq!(publisher.fetches(), 1);

    publisher.publish(set(&[&old, &new]));
    let tokens = [new.token(), new.token(), old.token()];
    let all = futures_util::future::join_all(tokens.iter().map(|token| identify(&auth, token))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(publisher.fetches(), 2);

    let random: Vec<_> = (0..200).map(|number| new.sign(Some(&format!("random-{number}")))).collect();
    let all = futures_util::future::join_all(random.iter().map(|token| identify(&auth, token))).await;
    assert!(all.iter().all(|outcome| *outcome.as_ref().unwrap_err() == UNKNOWN), "{all:?}");
    assert_eq!(publisher.fetches(), 2, "the cool-down holds");
}

#[tokio::test]
async fn a_flood_of_random_kids_keeps_no_new_key_out_beyond_the_cool_down() {
    let (old, new) = (Key::new("old"), Key::new("new"));
    let publisher = Publisher::start(set(&[&old])).await;
    let (auth, _issuers) = alive(KeySetConfig { cooldown: 4_000 * MS, wait: 500 * MS, ..config(&publisher.url) });
    identify(&auth, &old.token()).await.unwrap();
    assert_eq!(identify(&auth, &old.sign(Some("random"))).await.unwrap_err(), UNKNOWN);
    assert_eq!(publisher.fetches(), 2);

    publisher.publish(set(&[&old, &new]));
    assert_eq!(identify(&auth, &new.token()).await.unwrap_err(), UNKNOWN, "the cool-down holds");
    // Nobody has to ask again: one who was turned away is enough.
    while publisher.fetches() < 3 {
        tokio::time::sleep(10 * MS).await;
    }
    assert!(identify(&auth, &new.token()).await.is_ok(), "it was not noted as absent");
    assert_eq!(publisher.fetches(), 3);
}

#[tokio::test]
async fn two_hundred_random_kids_at_once_share_one_fetch() {
    let key = Key::new("key");
    let publisher = Publisher::start(set(&[&key])).await;
    let (auth, _issuers) = alive(config(&publisher.url));
    identify(&auth, &key.token()).await.unwrap();
    let random: Vec<_> = (0..200).map(|number| key.sign(Some(&format!("random-{number}")))).collect();
    let all = futures_util::future::join_all(random.iter().map(|token| identify(&auth, token))).await;
    assert!(all.iter().all(|outcome| *outcome.as_ref().unwrap_err() == UNKNOWN), "{all:?}");
    assert_eq!(publisher.fetches(), 2);
}

#[tokio::test]
async fn what_a_key_has_verified_ends_with_the_key() {
    let (gone, stays) = (Key::new("gone"), Key::new("stays"));
    let publisher = Publisher::start(set(&[&gone, &stays])).await;
    let (auth, _issuers) = alive(config(&publisher.url));
    let live = crate::testing::snapshot(Arc::into_inner(auth).expect("nobody else has it"));
    let auth = &live.auth;
    let memo = crate::gate::memo::TokenMemo::default();
    let (first, second) = (gone.token(), stays.token());
    let kept = identify(auth, &second).await.unwrap();
    identify(auth, &first).await.unwrap();
    memo.recall(&live, &first).unwrap();

    publisher.publish(set(&[&stays]));
    auth.key_sets()[0].refresh().await.unwrap();
    assert!(memo.recall(&live, &first).is_err(), "not in the memo of a connection");
    assert_eq!(identify(auth, &first).await.unwrap_err(), UNKNOWN, "nor in the cache");
    assert!(Arc::ptr_eq(&kept, &auth.identify(&second).unwrap()), "what others have verified is not verified again");
}

#[tokio::test]
async fn the_last_good_set_stays_until_it_is_too_old() {
    let key = Key::new("key");
    let publisher = Publisher::start(set(&[&key])).await;
    let (auth, _issuers) = alive(KeySetConfig { max_stale: 1500 * MS, ..config(&publisher.url) });
    identify(&auth, &key.token()).await.unwrap();
    let keys = &auth.key_sets()[0];
    let large = answer("200 OK", "", &format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(300_000)));
    for (bad, reason) in [
        (answer("500 Internal Server Error", "", ""), "500"),
        (answer("302 Found", "location: http://127.0.0.1:1/\r\n", ""), "redirects"),
        (answer("200 OK", "", "<html>"), "not a JSON Web Key Set"),
        (answer("200 OK", "", r#"{"keys":[]}"#), "no usable"),
        (
            answer("200 OK", "", r#"{"keys":[{"kty":"oct","k":"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE"}]}"#),
            "no usable",
        ),
        (large, "larger"),
        (String::new(), "http://"),
    ] {
        publisher.publish(bad);
        let error = keys.refresh().await.unwrap_err();
        assert!(error.contains(reason), "{error}");
        assert!(auth.identify(&key.token()).is_ok(), "{reason}");
        assert_eq!(identify(&auth, &key.sign(Some("other"))).await.unwrap_err(), UNAVAILABLE, "{reason}");
    }
    let end = Instant::now() + 20_000 * MS;
    while auth.identify(&key.token()).is_ok() {
        assert!(Instant::now() < end, "it stays for ever");
        tokio::time::sleep(10 * MS).await;
    }
    publisher.publish(set(&[&key]));
    keys.refresh().await.unwrap();
    assert!(auth.identify(&key.token()).is_ok());
}

#[tokio::test]
async fn an_unchanged_set_is_not_sent_again() {
    let key = Key::new("key");
    let publisher = Publisher::start(set(&[&key])).await;
    let (auth, _issuers) = alive(config(&publisher.url));
    identify(&auth, &key.token()).await.unwrap();
    publisher.publish(answer("304 Not Modified", "", ""));
    let keys = &auth.key_sets()[0];
    keys.refresh().await.unwrap();
    assert!(publisher.heads.lock().last().unwrap().contains("if-none-match: \"1\""));
    assert_eq!(keys.counts().unchanged.load(Ordering::Relaxed), 1);
    assert!(auth.identify(&key.token()).is_ok());
}

#[tokio::test]
async fn bad_entries_are_skipped_and_secrets_are_not_published() {
    let key = Key::new("key");
    let entries = json!([
        7, null, {}, {"kty": "RSA", "n": "AQ", "e": "AQAB"}, {"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ", "use": "enc"},
        {"kty": "oct", "k": URL_SAFE_NO_PAD.encode([7; 32]), "kid": "key"}, key.public
    ]);
    let publisher = Publisher::start(answer("200 OK", "", &json!({ "keys": entries }).to_string())).await;
    let (auth, _issuers) = alive(config(&publisher.url));
    identify(&auth, &key.token()).await.unwrap();
    let report = auth.key_sets()[0].report();
    assert_eq!((report.keys.len(), report.skipped), (1, 6));
}

#[tokio::test]
async fn what_is_known_outlives_a_reload() {
    let key = Key::new("key");
    let publisher = Publisher::start(set(&[&key])).await;
    let (auth, issuers) = alive(config(&publisher.url));
    identify(&auth, &key.token()).await.unwrap();

    let mut same = authenticator(config(&publisher.url));
    issuers.adopt(&mut same);
    assert!(Arc::ptr_eq(&auth.key_sets()[0], &same.key_sets()[0]));
    let mut changed = authenticator(KeySetConfig { wait: MS, ..config(&publisher.url) });
    issuers.adopt(&mut changed);
    assert!(changed.identify(&key.token()).is_ok());
    let mut moved = authenticator(config(&publisher.url.join("/elsewhere").unwrap()));
    issuers.adopt(&mut moved);
    assert_eq!(moved.identify(&key.token()).unwrap_err(), UNAVAILABLE);
    assert!(identify(&moved, &key.token()).await.is_ok());
}

#[tokio::test]
async fn without_a_kid_only_keys_of_the_right_kind_are_tried() {
    let (one, other) = (Key::new("one"), Key::new("other"));
    let publisher = Publisher::start(set(&[&one, &other])).await;
    let (auth, _issuers) = alive(config(&publisher.url));
    assert!(identify(&auth, &other.sign(None)).await.is_ok());
    let confused = encode(&Header::new(Algorithm::HS256), &json!({"exp": 1}), &EncodingKey::from_secret(b"x")).unwrap();
    assert_eq!(identify(&auth, &confused).await.unwrap_err(), Rejection::TokenInvalid(Why::Algorithm));
    assert_eq!(publisher.fetches(), 1, "no key could ever verify that");
}
