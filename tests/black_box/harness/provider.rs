//! A real OpenID provider (oidc-provider on Node.js), which a test can give other keys, end, and start again.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{CLIENT, Call, PATIENCE, Raw, dead_address};

/// What the client authenticates with at the provider.
const CLIENT_SECRET: &str = "the-client-secret-of-the-tests-0123456789";

const SCRIPT: &str = include_str!("../../oidc/provider.mjs");

/// A private key as a provider keeps it.
#[derive(Clone)]
pub struct SigningKey(Value);

impl SigningKey {
    /// A new one, for ES256.
    pub fn new(kid: &str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
        // An uncompressed point: a byte, then both coordinates.
        let (x, y) = pair.public_key_raw()[1..].split_at(32);
        let private = private_number(&pair.serialize_der());
        let [x, y, d] = [x, y, &private].map(|part| URL_SAFE_NO_PAD.encode(part));
        Self(json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kid, "x": x, "y": y, "d": d}))
    }
}

/// The private number in PKCS#8 of P-256: the octet string of 32 bytes after the version of the inner structure.
fn private_number(der: &[u8]) -> Vec<u8> {
    let mark = [0x02, 0x01, 0x01, 0x04, 0x20];
    let at = memchr::memmem::find(der, &mark).expect("an EC private key") + mark.len();
    der[at..at + 32].to_vec()
}

/// A running provider.
pub struct Provider {
    address: SocketAddr,
    process: Mutex<Option<Process>>,
}

struct Process {
    child: Child,
    input: ChildStdin,
    said: Receiver<String>,
}

impl Provider {
    /// One that signs with the first of these keys.
    pub fn start(keys: &[&SigningKey]) -> Self {
        let provider = Self::absent();
        provider.restart(keys);
        provider
    }

    /// One that is yet to come.
    pub fn absent() -> Self {
        Self { address: dead_address(), process: Mutex::default() }
    }

    /// Its issuer.
    pub fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What the gate introspects with, for a file.
    pub fn secret() -> &'static str {
        CLIENT_SECRET
    }

    /// Starts it (again), at the same address.
    pub fn restart(&self, keys: &[&SigningKey]) {
        self.kill();
        let folder = installed();
        let script = folder.join("provider.mjs");
        // Other tests may read it now.
        let fresh = tempfile::NamedTempFile::new_in(&folder).expect("a file");
        std::fs::write(fresh.path(), SCRIPT).expect("a script");
        fresh.persist(&script).expect("a script");
        let mut command = Command::new(folder.join("node_modules/.bin/node"));
        command.arg(&script).arg(self.address.port().to_string()).args([CLIENT, CLIENT_SECRET]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("its own Node: {error}; run tests/run"));
        let input = child.stdin.take().expect("stdin is piped");
        let output = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let (tell, said) = channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        *self.process.lock().expect("the process") = Some(Process { child, input, said });
        self.rotate(keys);
    }

    /// Gives it other keys; it signs with the first.
    #[track_caller]
    pub fn rotate(&self, keys: &[&SigningKey]) {
        let keys: Vec<_> = keys.iter().map(|key| &key.0).collect();
        let mut process = self.process.lock().expect("the process");
        let process = process.as_mut().expect("it runs");
        writeln!(process.input, "{}", json!(keys)).expect("it reads");
        let ready = |line: &String| line.contains("ready");
        assert!(
            std::iter::from_fn(|| process.said.recv_timeout(PATIENCE).ok()).any(|line| ready(&line)),
            "it is not ready"
        );
    }

    /// Ends it at once.
    pub fn kill(&self) {
        if let Some(mut process) = self.process.lock().expect("the process").take() {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }

    /// An access token that is a JWT, by client credentials.
    #[track_caller]
    pub fn token(&self) -> String {
        self.grant("&resource=urn:orders")
    }

    /// An access token that only the provider can read.
    #[track_caller]
    pub fn opaque_token(&self) -> String {
        self.grant("")
    }

    #[track_caller]
    fn grant(&self, more: &str) -> String {
        let reply = self.post("/token", &format!("grant_type=client_credentials&scope=listerine.all{more}"));
        let token = reply["access_token"].as_str();
        token.unwrap_or_else(|| panic!("no token: {reply}")).to_owned()
    }

    /// Revokes a token.
    #[track_caller]
    pub fn revoke(&self, token: &str) {
        self.post("/token/revocation", &format!("token={token}"));
    }

    #[track_caller]
    fn post(&self, path: &str, form: &str) -> Value {
        let basic = STANDARD.encode(format!("{CLIENT}:{CLIENT_SECRET}"));
        let call = Call::new("POST", path)
            .field("authorization", &format!("Basic {basic}"))
            .field("content-type", "application/x-www-form-urlencoded")
            .body(form);
        let reply = Raw::connect(self.address).exchange(&call);
        reply.assert_status(200);
        serde_json::from_slice(&reply.body).unwrap_or_default()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where `tests/run` has installed it.
fn installed() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("oidc");
    let there = folder.join("node_modules/oidc-provider").is_dir();
    assert!(there, "{} has no oidc-provider; run tests/run, which installs it", folder.display());
    folder
}
