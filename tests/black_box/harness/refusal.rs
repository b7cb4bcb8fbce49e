//! What every refusal must look like.

use serde_json::Value;

use super::Reply;

/// Problem codes and the statuses they may have: the tests' own copy.
const CODES: &[(&str, &[u16])] = &[
    ("credentials-missing", &[401]),
    ("credentials-malformed", &[400]),
    ("token-invalid", &[401]),
    ("issuer-unavailable", &[503]),
    ("route-unknown", &[404]),
    ("method-not-allowed", &[405]),
    ("method-not-implemented", &[501]),
    ("scope-insufficient", &[403]),
    ("client-mismatch", &[403]),
    ("client-not-allowed", &[403]),
    ("session-mismatch", &[403]),
    ("header-missing", &[400]),
    ("header-invalid", &[400]),
    ("header-repeated", &[400]),
    ("media-type-unsupported", &[415]),
    ("not-acceptable", &[406]),
    ("session-not-found", &[404]),
    ("session-expired", &[404]),
    ("session-closed", &[404]),
    ("session-revoked", &[404]),
    ("session-suspended", &[403]),
    ("step-not-allowed", &[409]),
    ("step-in-progress", &[409]),
    ("step-indeterminate", &[409]),
    ("idempotency-key-missing", &[400]),
    ("idempotency-in-flight", &[409]),
    ("idempotency-key-reused", &[422]),
    ("rate-limited", &[429]),
    ("session-limit", &[429]),
    ("request-too-large", &[413, 414, 431]),
    ("request-timeout", &[408]),
    ("request-malformed", &[400]),
    ("loop-detected", &[508]),
    ("upstream-failed", &[502]),
    ("upstream-unavailable", &[503]),
    ("overloaded", &[503]),
    ("draining", &[503]),
    ("upstream-timeout", &[504]),
];

impl Reply {
    /// Fails unless this is the refusal `code` in all its parts; gives its body.
    #[track_caller]
    pub fn assert_refused(&self, code: &str) -> Value {
        let problem = self.assert_refused_with_status(code, None);
        let statuses = CODES.iter().find(|(known, _)| *known == code).expect("a known code").1;
        assert!(statuses.contains(&self.status), "{code} with status {}", self.status);
        problem
    }

    /// The same, where the status is known or was changed by configuration.
    #[track_caller]
    pub fn assert_refused_with_status(&self, code: &str, status: Option<u16>) -> Value {
        let shown = format!("{} {:?} {}", self.status, self.fields, self.text());
        assert!(self.complete, "a whole answer: {shown}");
        self.assert_refusal_fields(code, &shown);
        if let Some(status) = status {
            assert_eq!(self.status, status, "{shown}");
        }

        let problem: Value = serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no problem: {shown}"));
        assert_eq!(problem["code"], code, "{shown}");
        assert_eq!(problem["status"], self.status, "{shown}");
        assert!(problem["type"].as_str().is_some_and(|text| text.ends_with(code)), "type: {shown}");
        for name in ["title", "detail"] {
            assert!(problem[name].as_str().is_some_and(|text| !text.is_empty()), "{name}: {shown}");
        }
        let request = self.field("x-request-id").unwrap_or_default();
        assert_eq!(problem["request_id"], request, "{shown}");
        assert_eq!(problem["instance"], format!("urn:uuid:{request}"), "{shown}");
        assert_eq!(problem["correlation_id"], self.field("x-correlation-id").unwrap_or_default(), "{shown}");
        for secret in &self.secrets {
            // The owner of a session may be told its id, in its own field and nowhere else.
            let told = |(name, value): &(String, String)| name != "session-id" && value.contains(secret.as_str());
            let in_fields = self.fields.iter().any(told);
            assert!(!self.text().contains(secret.as_str()) && !in_fields, "a secret came back: {shown}");
        }
        if code == "session-not-found" || self.status == 401 {
            assert!(self.field("session-id").is_none(), "a session that is not the caller's own: {shown}");
            assert!(self.field("session-expires-in").is_none() && problem.get("session").is_none(), "{shown}");
        }
        if matches!(self.status, 429 | 503) {
            assert!(problem["retry_after"].as_u64().is_some(), "retry_after: {shown}");
        }
        problem
    }

    /// Fails unless this is the refusal `status` of a HEAD: all its fields and no body.
    #[track_caller]
    pub fn assert_head_refused(&self, code: &str, status: u16) {
        let shown = format!("{} {:?}", self.status, self.fields);
        assert_eq!(self.status, status, "{shown}");
        assert!(self.body.is_empty(), "a body: {shown}");
        self.assert_refusal_fields(code, &shown);
    }

    #[track_caller]
    fn assert_refusal_fields(&self, code: &str, shown: &str) {
        assert_eq!(self.field("content-type"), Some("application/problem+json"), "{code}: {shown}");
        assert_eq!(self.field("cache-control"), Some("no-store"), "{code}: {shown}");
        assert!(self.field("proxy-status").is_some(), "Proxy-Status: {shown}");
        let request = self.field("x-request-id").unwrap_or_default();
        assert!(uuid::Uuid::parse_str(request).is_ok(), "x-request-id: {shown}");
        assert!(self.field("x-correlation-id").is_some_and(|id| !id.is_empty()), "x-correlation-id: {shown}");
        // RFC 6750 section 3 lets the errors about the credentials themselves carry a challenge too.
        let challenged = self.field("www-authenticate").is_some();
        match self.status {
            401 => assert!(challenged, "a 401 says how: {shown}"),
            400 | 403 => {}
            _ => assert!(!challenged, "a challenge where none belongs: {shown}"),
        }
        let waits = self.field("retry-after").is_some_and(|text| text.parse::<u32>().is_ok());
        // A step may come too soon.
        assert!(waits == matches!(self.status, 429 | 503) || self.status == 409, "Retry-After: {shown}");
        if self.status == 405 {
            assert!(self.field("allow").is_some(), "Allow: {shown}");
        }
    }
}

/// The fields and faults of a problem, in its order.
#[track_caller]
pub fn violations(problem: &Value) -> Vec<(String, String)> {
    let all = problem["violations"].as_array().unwrap_or_else(|| panic!("no violations in {problem}"));
    all.iter()
        .map(|violation| {
            let text =
                |name: &str| violation[name].as_str().unwrap_or_else(|| panic!("{name} in {violation}")).to_owned();
            (text("field"), text("code"))
        })
        .collect()
}
