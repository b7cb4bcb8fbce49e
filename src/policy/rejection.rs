//! The one table of refusals: every answer sessiongate gives instead of passing a call on.
//!
//! A [`Rejection`] is an answer to a caller: small, `Copy`, at most one number inside, no text from the request. What an
//! operator needs to know beyond it is logged where it happened, before the error became a `Rejection`.

use http::StatusCode;

use super::grpc::GrpcStatus;
use super::method::MethodSet;
use super::proof::ProofFault;
use super::violation::Violations;

/// Seconds a caller should wait before the next try (`Retry-After`, RFC 9110 section 10.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Wait(pub u32);

/// Why a well-formed token was not accepted. For the log; every caller is told `token-invalid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// Not three base64url parts, or not the JSON a token holds.
    Shape,
    /// The algorithm is not one of the key's, or no key is of its kind.
    Algorithm,
    /// The header demands an extension we do not know (`crit`, RFC 7515 section 4.1.11).
    Critical,
    /// The header does not say that it is an access token (`typ`, RFC 9068 section 2.1).
    Type,
    /// No key of the issuer has this `kid`.
    UnknownKey,
    /// The signature does not match.
    Signature,
    /// No configured issuer has this `iss`.
    Issuer,
    /// `aud` names none of the configured audiences.
    Audience,
    /// A claim is missing or has the wrong type.
    Claims,
    /// Its issuer says that it is not active (RFC 7662 section 2.2).
    Inactive,
    /// `exp` has passed.
    Expired,
    /// `nbf` has not come yet.
    NotYetValid,
    /// `cnf` binds the token to something that cannot be verified (RFC 7800 section 3.1).
    Confirmation,
    /// The token is not bound as its issuer or the route demands, or a proof comes with a token that is bound to no key.
    Unbound,
    /// A token that is bound to a key came as a bearer token (RFC 9449 section 7.1).
    Downgraded,
    /// The connection does not show the certificate that the token is bound to (RFC 8705 section 3).
    Certificate,
    /// The proof is wrong (RFC 9449 section 4.3).
    Proof(ProofFault),
}

/// One row of the table: what a caller, a metric and the log are told of a [`Rejection`].
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Name of the variant, the finest distinction the log makes.
    pub reason: &'static str,
    /// Default status; `errors.status` can override it by code.
    pub status: StatusCode,
    /// What a gRPC client is told instead; no setting overrides it.
    pub grpc: GrpcStatus,
    /// Stable problem code: the `code` of the body, the metric label, the end of the problem type.
    pub code: &'static str,
    /// Short title of the problem type (RFC 9457 section 3.1.3).
    pub title: &'static str,
    /// What the caller should do next.
    pub detail: &'static str,
}

macro_rules! rejections {
    ($($(#[$doc:meta])* $variant:ident $(($payload:ty))? => $status:ident, $grpc:ident, $code:literal, $title:literal, $detail:literal;)+) => {
        /// Why a call was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Rejection { $($(#[$doc])* $variant $(($payload))?,)+ }

        /// The rows of all refusals, in the order of the enum.
        pub const TABLE: &[Row] = &[$(Row {
            reason: stringify!($variant),
            status: StatusCode::$status,
            grpc: GrpcStatus::$grpc,
            code: $code,
            title: $title,
            detail: $detail,
        },)+];

        #[derive(Clone, Copy)]
        enum Index { $($variant,)+ }

        impl Rejection {
            /// Position of this refusal in [`TABLE`].
            #[must_use]
            pub const fn index(self) -> usize {
                match self { $(rejections!(@pattern $variant $($payload)?) => Index::$variant as usize,)+ }
            }
        }
    };
    (@pattern $variant:ident) => { Rejection::$variant };
    (@pattern $variant:ident $payload:ty) => { Rejection::$variant(_) };
}

rejections! {
    // variant                       status                  status of gRPC     code                     title, what to do next
    /// HTTP that is malformed, or that two parsers could read differently (RFC 9112 section 11.2).
    RequestMalformed              => BAD_REQUEST,            InvalidArgument,   "request-malformed",     "Malformed request", "The request is not valid HTTP or is ambiguous; fix the client before sending it again.";
    /// The target is ambiguous: dot segments, encoded separators, a disguised `/session`.
    TargetMalformed               => BAD_REQUEST,            InvalidArgument,   "request-malformed",     "Malformed request", "Send the path in canonical form: no dot segments, backslashes, encoded separators or broken escapes.";
    /// `Host` missing, repeated, malformed or at odds with the target (RFC 9112 section 3.2).
    HostMalformed                 => BAD_REQUEST,            InvalidArgument,   "request-malformed",     "Malformed request", "Send exactly one valid Host field that agrees with the request target.";
    /// The request line, a field or the whole head is larger than the limit.
    HeadTooLarge                  => REQUEST_HEADER_FIELDS_TOO_LARGE, ResourceExhausted, "request-too-large", "Request head too large", "Send fewer or smaller header fields.";
    /// The target is longer than the limit.
    UriTooLong                    => URI_TOO_LONG,           ResourceExhausted, "request-too-large",     "URI too long", "Send a shorter request target.";
    /// The body is longer than the route allows.
    BodyTooLarge                  => PAYLOAD_TOO_LARGE,      ResourceExhausted, "request-too-large",     "Request body too large", "Send a smaller body; the route's limit is in its documentation.";
    /// The head or the body did not arrive in time.
    RequestTimeout                => REQUEST_TIMEOUT,        DeadlineExceeded,  "request-timeout",       "Request too slow", "Send the request again, without pausing.";
    /// A method this gateway does not implement.
    MethodNotImplemented          => NOT_IMPLEMENTED,        Unimplemented,     "method-not-implemented","Method not implemented", "Use GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS.";
    /// No route for this host and path.
    RouteUnknown                  => NOT_FOUND,              NotFound,          "route-unknown",         "No such route", "Check the host and the path of the call.";
    /// The path exists, the method is not allowed on it.
    MethodNotAllowed(MethodSet)   => METHOD_NOT_ALLOWED,     Unimplemented,     "method-not-allowed",    "Method not allowed", "Use one of the methods in the Allow field.";
    /// The request passed through this gateway before (RFC 9110 section 7.6.3).
    LoopDetected                  => LOOP_DETECTED,          Internal,          "loop-detected",         "Forwarding loop", "The request has passed this gateway before; fix the upstream address that points back at it.";

    /// No `authorization`, or a scheme other than Bearer and DPoP, or than DPoP where that is demanded (RFC 6750 section 3).
    CredentialsMissing(Violations)   => UNAUTHORIZED,        Unauthenticated,   "credentials-missing",   "Credentials missing", "Send the access token in the authorization field, with the scheme that www-authenticate names.";
    /// `authorization` with characters no token has, longer than 8 KiB, or a token in the query.
    CredentialsMalformed(Violations) => BAD_REQUEST,         InvalidArgument,   "credentials-malformed", "Credentials malformed", "Send one bearer token of at most 8 KiB in the authorization field, never in the query.";
    /// A security field is repeated, comma-joined, or named by `Connection`.
    HeaderRepeated(Violations)       => BAD_REQUEST,         InvalidArgument,   "header-repeated",       "Header repeated", "Send each of the named fields exactly once and not in Connection.";
    /// A required field is absent.
    HeaderMissing(Violations)        => BAD_REQUEST,         InvalidArgument,   "header-missing",        "Required header missing", "Send the fields named in 'violations'.";
    /// A field does not have the form it must have.
    HeaderInvalid(Violations)        => BAD_REQUEST,         InvalidArgument,   "header-invalid",        "Header invalid", "Correct the fields named in 'violations'.";
    /// The body's media type is not one the route takes.
    MediaTypeUnsupported(Violations) => UNSUPPORTED_MEDIA_TYPE, InvalidArgument,   "media-type-unsupported", "Media type unsupported", "Send the body as application/json and say so in content-type.";
    /// The client does not accept what the route produces.
    NotAcceptable(Violations)        => NOT_ACCEPTABLE,      InvalidArgument,   "not-acceptable",        "Not acceptable", "Accept application/json.";

    /// A well-formed token that does not verify.
    TokenInvalid(Why)             => UNAUTHORIZED,           Unauthenticated,   "token-invalid",         "Token invalid", "Get a new access token; the session continues with it.";
    /// Whether the token is good cannot be told: the issuer does not answer.
    IssuerUnavailable(Wait)       => SERVICE_UNAVAILABLE,    Unavailable,       "issuer-unavailable",    "Issuer unavailable", "The token cannot be judged now; repeat the call with it after the time in Retry-After.";
    /// The token belongs to another client than the client-id field says.
    ClientMismatch                => FORBIDDEN,              PermissionDenied,  "client-mismatch",       "Client mismatch", "Send the client-id that the access token was issued to.";
    /// The registry does not know the client, or has it disabled.
    ClientNotAllowed              => FORBIDDEN,              PermissionDenied,  "client-not-allowed",    "Client not allowed", "This client may not use the API; ask the operator.";
    /// The token lacks a scope that the route demands.
    ScopeInsufficient             => FORBIDDEN,              PermissionDenied,  "scope-insufficient",    "Scope insufficient", "Get an access token with the scopes that this call needs.";
    /// The token is bound to another session.
    SessionMismatch               => FORBIDDEN,              PermissionDenied,  "session-mismatch",      "Session mismatch", "Use the access token with the session it was issued for.";

    /// No such session.
    SessionUnknown                => NOT_FOUND,              NotFound,          "session-not-found",     "Session not found", "Open a session with POST /session.";
    /// Someone else's session; the caller is told the same as for an unknown one.
    SessionForeign                => NOT_FOUND,              NotFound,          "session-not-found",     "Session not found", "Open a session with POST /session.";
    /// The session was idle too long or reached its absolute end.
    SessionExpired                => NOT_FOUND,              NotFound,          "session-expired",       "Session expired", "Open a new session with POST /session.";
    /// The owner closed the session.
    SessionClosed                 => NOT_FOUND,              NotFound,          "session-closed",        "Session closed", "Open a new session with POST /session.";
    /// The operator revoked the session.
    SessionRevoked                => NOT_FOUND,              NotFound,          "session-revoked",       "Session revoked", "Open a new session with POST /session.";
    /// The session is suspended: by the operator, or because others tried to use it.
    SessionSuspended              => FORBIDDEN,              PermissionDenied,  "session-suspended",     "Session suspended", "This session is suspended; ask the operator.";
    /// More calls than a rate rule lets pass.
    RateLimited(Wait)             => TOO_MANY_REQUESTS,      ResourceExhausted, "rate-limited",          "Too many calls", "Repeat the call after the time in Retry-After.";
    /// The session has made as many calls, or moved as many bytes, as one may in its life.
    BudgetSpent(Wait)             => TOO_MANY_REQUESTS,      ResourceExhausted, "rate-limited",          "Session budget spent", "This session can do no more; close it with DELETE /session and open a new one.";
    /// The client has as many live sessions as it may have.
    SessionLimit(Wait)            => TOO_MANY_REQUESTS,      ResourceExhausted, "session-limit",         "Too many sessions", "Close a session with DELETE /session, or wait until one expires.";
    /// A step of the session's flow that must come before was not done.
    StepOutOfOrder                => CONFLICT,               FailedPrecondition, "step-not-allowed",     "Step not allowed", "A step that must come first was not done; call one of the steps named in 'session.allowed_next'.";
    /// The step was done and may not be done again.
    StepRepeated                  => CONFLICT,               FailedPrecondition, "step-not-allowed",     "Step not allowed", "This step was done and cannot be done again; go on with one of the steps named in 'session.allowed_next'.";
    /// The step was tried as often as it may be.
    StepAttempts                  => CONFLICT,               FailedPrecondition, "step-not-allowed",     "Step not allowed", "This step was tried as often as it may be in one session; open a new session with POST /session.";
    /// The step comes too soon after the one before.
    StepTooEarly(Wait)            => CONFLICT,               FailedPrecondition, "step-not-allowed",     "Step not allowed", "This step comes too soon after the one before; repeat the call after the time in Retry-After.";
    /// The step comes too late after the one before.
    StepTooLate                   => CONFLICT,               FailedPrecondition, "step-not-allowed",     "Step not allowed", "This step comes too late after the one before; repeat one of the steps named in 'session.allowed_next' first.";
    /// The last step of the flow was done.
    FlowOver                      => CONFLICT,               FailedPrecondition, "step-not-allowed",     "Step not allowed", "The last step of this session was done; open a new session with POST /session.";
    /// The step, or one that must be alone, runs.
    StepInProgress                => CONFLICT,               Aborted,           "step-in-progress",      "Step in progress", "Another call of this session is doing this step or one that must be alone; wait for its answer, then read the state.";
    /// Nobody knows whether the step, or one that must be alone, was done.
    StepIndeterminate             => CONFLICT,               FailedPrecondition, "step-indeterminate",   "Outcome unknown", "The outcome of an earlier call is unknown; repeat that call with the same Idempotency-Key, or read the state and open a new session.";
    /// The call was done before, and its answer could not be kept.
    AnswerNotKept                 => CONFLICT,               FailedPrecondition, "step-not-allowed",     "Step not allowed", "This call was done before, and its answer could not be kept; read the state, then go on with one of the steps named in 'session.allowed_next'.";
    /// The first call with this Idempotency-Key runs.
    IdempotencyInFlight           => CONFLICT,               Aborted,           "idempotency-in-flight", "Call in progress", "The first call with this Idempotency-Key is not answered yet; repeat it a little later to get its answer.";
    /// The step needs an Idempotency-Key.
    IdempotencyKeyMissing         => BAD_REQUEST,            InvalidArgument,   "idempotency-key-missing", "Idempotency key missing", "Send an Idempotency-Key, a new one for each new request, and the same one when you repeat it.";
    /// The Idempotency-Key was used with another payload.
    IdempotencyKeyReused          => UNPROCESSABLE_ENTITY,   InvalidArgument,   "idempotency-key-reused","Idempotency key reused", "Use a new Idempotency-Key for a different request.";

    /// The upstream refused, reset, or did not speak HTTP.
    UpstreamFailed                => BAD_GATEWAY,            Unavailable,       "upstream-failed",       "Upstream failed", "The outcome of the call is unknown; read the state before repeating it.";
    /// No upstream connection can be had now; nothing was sent.
    UpstreamUnavailable(Wait)     => SERVICE_UNAVAILABLE,    Unavailable,       "upstream-unavailable",  "Upstream unavailable", "Nothing was sent; repeat the call after the time in Retry-After.";
    /// The upstream has as many calls or connections as it may.
    Overloaded(Wait)              => SERVICE_UNAVAILABLE,    Unavailable,       "overloaded",            "Overloaded", "Nothing was sent; repeat the call after the time in Retry-After.";
    /// The upstream did not accept the connection or answer in time.
    UpstreamTimeout               => GATEWAY_TIMEOUT,        DeadlineExceeded,  "upstream-timeout",      "Upstream timeout", "The outcome of the call is unknown; read the state before repeating it.";
    /// This gateway is shutting down; it opens no new sessions.
    Draining(Wait)                => SERVICE_UNAVAILABLE,    Unavailable,       "draining",              "Shutting down", "Repeat the call after the time in Retry-After; another instance will answer.";
    /// Our own bug.
    Internal                      => INTERNAL_SERVER_ERROR,  Internal,          "internal",              "Internal error", "Report the request id to the operator.";
}

impl Rejection {
    /// The row of this refusal.
    #[must_use]
    pub const fn row(self) -> &'static Row {
        &TABLE[self.index()]
    }

    /// Stable problem code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.row().code
    }

    /// Default status.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        self.row().status
    }

    /// How long the caller should wait, where waiting helps.
    #[must_use]
    pub const fn wait(self) -> Option<Wait> {
        match self {
            Self::RateLimited(wait)
            | Self::BudgetSpent(wait)
            | Self::SessionLimit(wait)
            | Self::StepTooEarly(wait)
            | Self::IssuerUnavailable(wait)
            | Self::UpstreamUnavailable(wait)
            | Self::Overloaded(wait)
            | Self::Draining(wait) => Some(wait),
            _ => None,
        }
    }

    /// The header fields at fault, if the refusal is about fields.
    #[must_use]
    pub const fn violations(self) -> Option<Violations> {
        match self {
            Self::CredentialsMissing(found)
            | Self::CredentialsMalformed(found)
            | Self::HeaderRepeated(found)
            | Self::HeaderMissing(found)
            | Self::HeaderInvalid(found)
            | Self::MediaTypeUnsupported(found)
            | Self::NotAcceptable(found) => Some(found),
            _ => None,
        }
    }

    /// Whether the connection must not carry another request (over HTTP/1): who sends what can be read in two ways may
    /// have hidden more behind it, and where we erred ourselves nothing is certain.
    #[must_use]
    pub const fn closes_connection(self) -> bool {
        matches!(self, Self::RequestMalformed | Self::TargetMalformed | Self::HostMalformed | Self::Internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_code_has_one_meaning() {
        for row in TABLE {
            assert!(row.status.is_client_error() || row.status.is_server_error(), "{}", row.reason);
            assert!(row.code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", row.code);
            assert!(row.detail.ends_with('.'), "{}", row.reason);
        }
    }

    #[test]
    fn the_status_of_grpc_follows_that_of_http() {
        for row in TABLE {
            let expected = match row.status.as_u16() {
                400 | 406 | 415 | 422 => 3,
                408 | 504 => 4,
                404 => 5,
                403 => 7,
                413 | 414 | 429 | 431 => 8,
                409 if matches!(row.code, "step-in-progress" | "idempotency-in-flight") => 10,
                409 => 9,
                405 | 501 => 12,
                500 | 508 => 13,
                502 | 503 => 14,
                401 => 16,
                other => panic!("{other} has no counterpart yet"),
            };
            assert_eq!(row.grpc.number(), expected, "{}", row.reason);
        }
    }

    #[test]
    fn a_foreign_session_looks_like_an_unknown_one() {
        let (foreign, unknown) = (Rejection::SessionForeign.row(), Rejection::SessionUnknown.row());
        assert_eq!(
            (foreign.status, foreign.code, foreign.title, foreign.detail),
            (unknown.status, unknown.code, unknown.title, unknown.detail)
        );
    }

    #[test]
    fn a_rejection_stays_small() {
        assert!(size_of::<Rejection>() <= 8);
    }
}
