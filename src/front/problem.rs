//! Refusals as `application/problem+json` (RFC 9457).

use std::fmt::Write as _;

use http::header::InvalidHeaderValue;
use http::{HeaderValue, StatusCode};

use super::grpc;
use crate::auth::dpop;
use crate::config::snapshot::ErrorConfig;
use crate::policy::credentials::Scheme;
use crate::policy::fields::FieldNames;
use crate::policy::rejection::{Rejection, Row, TABLE};
use crate::policy::session::Session;
use crate::policy::time::Timestamp;
use crate::policy::violation::Violations;

/// The part of a refusal that is the same for all calls, rendered once per snapshot.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) status: StatusCode,
    pub(super) proxy_status: HeaderValue,
    /// The challenges for a bearer token and for one with a proof, unless they name the scopes of a route; of
    /// `header-repeated` those for `authorization`.
    pub(super) challenges: Challenges,
    /// What gRPC clients get.
    pub(super) grpc: grpc::Status,
    /// The body up to the request id.
    body: Box<str>,
}

/// The templates of all refusals, in the order of the table.
pub(super) fn templates(errors: &ErrorConfig, via: &str) -> Vec<Template> {
    TABLE.iter().map(|row| Template::of(row, errors, via)).collect()
}

/// What differs from call to call.
pub(super) struct Details<'a> {
    pub(super) rejection: Rejection,
    pub(super) request_id: &'a str,
    /// Made of characters that need no escaping.
    pub(super) correlation_id: &'a str,
    pub(super) names: &'a FieldNames,
    /// The session, for its proven owner only.
    pub(super) session: Option<(&'a Session, Timestamp)>,
}

impl Template {
    fn of(row: &Row, errors: &ErrorConfig, via: &str) -> Self {
        let Row { code, title, detail, .. } = row;
        let status = errors.status.get(code).copied().unwrap_or(row.status);
        let (base, number) = (&errors.type_base, status.as_u16());
        let body = format!(
            "{{\"type\":\"{base}{code}\",\"title\":\"{title}\",\"status\":{number},\"detail\":\"{detail}\",\"code\":\"{code}\",\"instance\":\"urn:uuid:"
        );
        let proxy_status = proxy_status(via, proxy_error(row.reason), code);
        let value =
            |text: String| HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("sessiongate"));
        let challenge = |scheme| challenge(scheme, code, status).map(value);
        let challenges = Challenges { bearer: challenge(Scheme::Bearer), dpop: challenge(Scheme::Dpop) };
        let proxy_status = proxy_status.unwrap_or_else(|_| HeaderValue::from_static("sessiongate"));
        Self { status, proxy_status, challenges, grpc: grpc::Status::of(row), body: body.into() }
    }

    /// The body. Nothing in it comes from the request but the correlation id.
    pub(super) fn render(&self, details: &Details<'_>) -> String {
        let Details { rejection, request_id, correlation_id, names, session } = *details;
        let mut body = String::with_capacity(self.body.len() + 320);
        for part in [
            &*self.body,
            request_id,
            "\",\"request_id\":\"",
            request_id,
            "\",\"correlation_id\":\"",
            correlation_id,
            "\"",
        ] {
            body.push_str(part);
        }
        if let Some(found) = rejection.violations() {
            add_violations(&mut body, found, names);
        }
        // Writing to a string cannot fail.
        if let Some(wait) = rejection.wait() {
            _ = write!(body, ",\"retry_after\":{}", wait.0);
        }
        if let Some((session, now)) = session {
            add_session(&mut body, session, now);
        }
        body.push_str("}\n");
        body
    }
}

/// Names of steps need no escaping.
fn add_session(body: &mut String, session: &Session, now: Timestamp) {
    let outlook = session.outlook(now);
    let (state, left) = (session.standing(now).as_str(), session.expires_in(now));
    _ = write!(body, ",\"session\":{{\"state\":\"{state}\",\"step\":");
    match outlook.as_ref().and_then(|(flow, steps, _)| Some(flow.step_name(steps.last()?))) {
        Some(step) => _ = write!(body, "\"{step}\""),
        None => body.push_str("null"),
    }
    body.push_str(",\"allowed_next\":[");
    for (place, (flow, step)) in
        outlook.iter().flat_map(|(flow, _, next)| next.iter().map(move |step| (flow, step))).enumerate()
    {
        _ = write!(body, "{}\"{}\"", if place == 0 { "" } else { "," }, flow.step_name(step));
    }
    _ = write!(body, "],\"expires_in\":{left}}}");
}

fn add_violations(body: &mut String, found: Violations, names: &FieldNames) {
    body.push_str(",\"violations\":[");
    for (place, (field, fault)) in found.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        for part in [comma, "{\"field\":\"", names.name(field).as_str(), "\",\"code\":\"", fault.as_str(), "\"}"] {
            body.push_str(part);
        }
    }
    body.push(']');
}

/// `proxy-status`: who failed, and how (RFC 9209 section 2).
pub(super) fn proxy_status(via: &str, error: &str, code: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    HeaderValue::try_from(format!("{via}; error={error}; details=\"{code}\""))
}

/// Error type of `proxy-status` (RFC 9209 section 2.3), by the reason of a refusal.
fn proxy_error(reason: &str) -> &'static str {
    match reason {
        "RequestMalformed" | "TargetMalformed" | "HostMalformed" | "HeadTooLarge" | "UriTooLong" | "BodyTooLarge"
        | "RequestTimeout" => "http_request_error",
        "UpstreamFailed" => "connection_terminated",
        "UpstreamUnavailable" => "destination_unavailable",
        "Overloaded" => "connection_limit_reached",
        "UpstreamTimeout" => "http_response_timeout",
        "LoopDetected" => "proxy_loop_detected",
        "Internal" => "proxy_internal_error",
        _ => "http_request_denied",
    }
}

/// Challenges by scheme.
#[derive(Debug)]
pub(super) struct Challenges {
    bearer: Option<HeaderValue>,
    dpop: Option<HeaderValue>,
}

impl Challenges {
    /// The one of a scheme.
    pub(super) const fn of(&self, scheme: Scheme) -> Option<&HeaderValue> {
        match scheme {
            Scheme::Bearer => self.bearer.as_ref(),
            Scheme::Dpop => self.dpop.as_ref(),
        }
    }
}

/// How a challenge begins: who asks, and for what.
fn realm(scheme: Scheme) -> String {
    let realm = format!("{} realm=\"sessiongate\"", scheme.as_str());
    match scheme {
        Scheme::Bearer => realm,
        Scheme::Dpop => format!("{realm}, algs=\"{}\"", dpop::ALGORITHMS),
    }
}

/// `www-authenticate`, where a code has a challenge (RFC 6750 section 3). Every 401 has one (RFC 9110 section 15.5.2), also
/// where `errors.status` made it one.
fn challenge(scheme: Scheme, code: &str, status: StatusCode) -> Option<String> {
    let (error, description) = match code {
        _ if !has_challenge(status) => return None,
        "credentials-missing" => return Some(realm(scheme)),
        "credentials-malformed" | "header-repeated" => ("invalid_request", "the credentials are malformed"),
        "token-invalid" => ("invalid_token", "the access token is invalid or has expired"),
        _ => return (status == StatusCode::UNAUTHORIZED).then(|| realm(scheme)),
    };
    Some(format!("{}, error=\"{error}\", error_description=\"{description}\"", realm(scheme)))
}

/// Whether an answer of this status says how to authenticate: another credential would help.
fn has_challenge(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// The challenge of a call whose token lacks scopes that its route demands.
pub(super) fn scope_challenge(scheme: Scheme, scopes: &str, status: StatusCode) -> Option<HeaderValue> {
    if !has_challenge(status) {
        return None;
    }
    HeaderValue::try_from(format!("{}, error=\"insufficient_scope\", scope=\"{scopes}\"", realm(scheme))).ok()
}

/// The challenge of a call whose proof is wrong (RFC 9449 section 7.1).
pub(super) fn proof_challenge(status: StatusCode) -> Option<HeaderValue> {
    if !has_challenge(status) {
        return None;
    }
    HeaderValue::try_from(format!("{}, error=\"invalid_dpop_proof\"", realm(Scheme::Dpop))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::violation::{Fault, Field};

    #[test]
    fn a_challenge_follows_the_status() {
        let status = [
            ("session-expired", StatusCode::UNAUTHORIZED),
            ("token-invalid", StatusCode::NOT_FOUND),
            ("credentials-missing", StatusCode::FORBIDDEN),
        ];
        let errors = ErrorConfig { type_base: "urn:problem:".into(), status: status.into_iter().collect() };
        for (row, template) in TABLE.iter().zip(templates(&errors, "gate")) {
            let expected = ["session-expired", "credentials-missing", "credentials-malformed", "header-repeated"];
            let expected = expected.contains(&row.code);
            assert_eq!(template.challenges.of(Scheme::Bearer).is_some(), expected, "{}", row.code);
        }
    }

    #[test]
    fn every_refusal_renders_as_json_with_its_code() {
        let errors = ErrorConfig { type_base: "https://problems.example/".into(), status: Default::default() };
        let (templates, names) = (templates(&errors, "gate"), FieldNames::default());
        for (row, template) in TABLE.iter().zip(templates) {
            let rejection = Rejection::HeaderMissing(Violations::NONE.with(Field::ClientId, Fault::Missing));
            let details = Details { rejection, request_id: "r", correlation_id: "c", names: &names, session: None };
            let body: serde_json::Value = serde_json::from_str(&template.render(&details)).unwrap();
            assert_eq!(body["code"], row.code);
            assert_eq!(body["type"], format!("https://problems.example/{}", row.code));
            assert_eq!(body["violations"], serde_json::json!([{"field": "client-id", "code": "missing"}]));
            assert_eq!(
                template.challenges.of(Scheme::Bearer).is_some(),
                row.status == 401 || matches!(row.code, "credentials-malformed" | "header-repeated"),
                "{}",
                row.code
            );
        }
    }
}
