//! Refusals as `application/problem+json` (RFC 9457).

use std::fmt::Write as _;

use crate::config::snapshot::ErrorConfig;
use crate::policy::fields::FieldNames;
use crate::policy::rejection::Rejection;
use crate::policy::session::Session;
use crate::policy::time::Timestamp;

/// What a problem body is made of.
pub(super) struct Problem<'a> {
    pub(super) rejection: Rejection,
    pub(super) status: u16,
    pub(super) request_id: &'a str,
    /// Made of characters that need no escaping.
    pub(super) correlation_id: &'a str,
    pub(super) errors: &'a ErrorConfig,
    pub(super) names: &'a FieldNames,
    /// The session, for its proven owner only.
    pub(super) session: Option<(&'a Session, Timestamp)>,
}

impl Problem<'_> {
    /// The body. Nothing in it comes from the request but the correlation id.
    pub(super) fn render(&self) -> String {
        let row = self.rejection.row();
        let mut body = String::with_capacity(512);
        for part in [
            "{\"type\":\"",
            &self.errors.type_base,
            row.code,
            "\",\"title\":\"",
            row.title,
            "\",\"detail\":\"",
            row.detail,
            "\",\"code\":\"",
            row.code,
            "\",\"instance\":\"urn:uuid:",
            self.request_id,
            "\",\"request_id\":\"",
            self.request_id,
            "\",\"correlation_id\":\"",
            self.correlation_id,
            "\",\"status\":",
        ] {
            body.push_str(part);
        }
        // Writing to a string cannot fail.
        _ = write!(body, "{}", self.status);
        self.add_violations(&mut body);
        if let Some(wait) = self.rejection.wait() {
            _ = write!(body, ",\"retry_after\":{}", wait.0);
        }
        if let Some((session, now)) = self.session {
            let (state, left) = (session.standing(now).as_str(), session.expires_in(now));
            _ = write!(
                body,
                ",\"session\":{{\"state\":\"{state}\",\"step\":null,\"allowed_next\":[],\"expires_in\":{left}}}"
            );
        }
        body.push('}');
        body
    }

    fn add_violations(&self, body: &mut String) {
        let Some(found) = self.rejection.violations() else { return };
        body.push_str(",\"violations\":[");
        for (place, (field, fault)) in found.iter().enumerate() {
            let (comma, name, code) = (if place == 0 { "" } else { "," }, self.names.name(field), fault.as_str());
            _ = write!(body, "{comma}{{\"field\":\"{name}\",\"code\":\"{code}\"}}");
        }
        body.push(']');
    }
}

/// Error type of `proxy-status` (RFC 9209 section 2.3).
pub(super) const fn proxy_error(rejection: Rejection) -> &'static str {
    match rejection {
        Rejection::RequestMalformed
        | Rejection::TargetMalformed
        | Rejection::HostMalformed
        | Rejection::HeadTooLarge
        | Rejection::UriTooLong
        | Rejection::BodyTooLarge
        | Rejection::RequestTimeout => "http_request_error",
        Rejection::UpstreamFailed => "connection_terminated",
        Rejection::UpstreamUnavailable(_) => "destination_unavailable",
        Rejection::UpstreamTimeout => "http_response_timeout",
        Rejection::Overloaded(_) => "connection_limit_reached",
        Rejection::LoopDetected => "proxy_loop_detected",
        Rejection::Internal => "proxy_internal_error",
        _ => "http_request_denied",
    }
}

/// `www-authenticate`, where the refusal has a challenge (RFC 6750 section 3).
pub(super) fn challenge(rejection: Rejection, scopes: &str) -> Option<String> {
    const REALM: &str = "Bearer realm=\"sessiongate\"";
    match rejection {
        Rejection::CredentialsMissing(_) => Some(REALM.into()),
        Rejection::CredentialsMalformed(_) => {
            Some(format!("{REALM}, error=\"invalid_request\", error_description=\"the credentials are malformed\""))
        }
        Rejection::TokenInvalid(_) => Some(format!(
            "{REALM}, error=\"invalid_token\", error_description=\"the access token is invalid or has expired\""
        )),
        Rejection::ScopeInsufficient => Some(format!("{REALM}, error=\"insufficient_scope\", scope=\"{scopes}\"")),
        _ => None,
    }
}
