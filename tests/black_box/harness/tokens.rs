//! Access tokens of the documented shape, and every way to get them wrong.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// The HMAC secret of every gate, unless a test says otherwise.
pub const SECRET: &str = "the-hmac-secret-of-the-tests-0123456789abcdefghijklmnopqrstuvwxyz";

/// The client of the documented example.
pub const CLIENT: &str = "EnterpriseAPIM-RPuj1Q5nWk6bDC9fP3VpsjRJTmnLshfqo7cbq437";

/// Somebody else.
pub const OTHER_CLIENT: &str = "another.client_app-2";

/// Seconds since the epoch.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970").as_secs()
}

/// Claims as the authorization server of the ordering API writes them.
pub fn claims() -> Value {
    json!({
        "sub": "buyer-1",
        "scope": "listerine.all",
        "iss": "ENTAPI",
        "grant_type": "client_credentials",
        "exp": now() + 3600,
        "iat": now(),
        "client_id": CLIENT,
    })
}

/// A good token of [`CLIENT`].
pub fn token() -> String {
    token_with(json!({}))
}

/// A token with some claims changed; `null` removes one.
pub fn token_with(changes: Value) -> String {
    let mut claims = claims();
    let all = claims.as_object_mut().expect("claims are an object");
    for (name, value) in changes.as_object().expect("changes are an object") {
        if value.is_null() {
            all.remove(name);
        } else {
            all.insert(name.clone(), value.clone());
        }
    }
    sign(r#"{"alg":"HS256"}"#, &claims.to_string())
}

/// Any header and payload under a good HS256 signature.
pub fn sign(header: &str, payload: &str) -> String {
    sign_with(header, payload, hmac::HMAC_SHA256, SECRET.as_bytes())
}

/// Any header and payload under any HMAC.
pub fn sign_with(header: &str, payload: &str, algorithm: hmac::Algorithm, secret: &[u8]) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = hmac::sign(&hmac::Key::new(algorithm, secret), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}
