//! Statuses of gRPC, as far as the gateway gives any (gRPC: status codes and their use).

/// What a gRPC client is told of a refusal, in `grpc-status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrpcStatus {
    /// The call is wrong whatever the state of the system.
    InvalidArgument = 3,
    /// It took too long; it may have had its effect.
    DeadlineExceeded = 4,
    /// What it needs is not there.
    NotFound = 5,
    /// The caller is known and may not.
    PermissionDenied = 7,
    /// A limit is reached, of size or of number: what gRPC libraries say of a message that is too large.
    ResourceExhausted = 8,
    /// Not in this state: something else comes first.
    FailedPrecondition = 9,
    /// Another call got in between; later it may go.
    Aborted = 10,
    /// No such method here.
    Unimplemented = 12,
    /// A bug or a misconfiguration of ours.
    Internal = 13,
    /// Not now; perhaps later.
    Unavailable = 14,
    /// The credentials are missing or no good.
    Unauthenticated = 16,
}

impl GrpcStatus {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// Whether this `content-type` is of gRPC over HTTP/2: `application/grpc`, `application/grpc+proto`. Not gRPC-Web, whose
/// clients read what other HTTP clients read.
#[must_use]
pub fn is_grpc(content_type: &[u8]) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    let (Some(start), rest) = (content_type.get(..TYPE.len()), content_type.get(TYPE.len()..).unwrap_or_default())
    else {
        return false;
    };
    start.eq_ignore_ascii_case(TYPE) && matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_told_from_its_look_alikes() {
        for yes in ["application/grpc", "application/grpc+proto", "Application/GRPC; charset=utf-8"] {
            assert!(is_grpc(yes.as_bytes()), "{yes}");
        }
        for no in ["", "application/grp", "application/grpc-web", "application/grpc-web+proto", "application/json"] {
            assert!(!is_grpc(no.as_bytes()), "{no}");
        }
    }
}
