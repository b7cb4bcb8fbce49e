//! Refusals as gRPC clients read them: a status in the trailers of an HTTP answer that is always 200 (gRPC over HTTP/2).

use std::fmt::Write as _;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::policy::fields::FieldNames;
use crate::policy::rejection::{Rejection, Row};

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
const PROBLEM: HeaderName = HeaderName::from_static("x-sg-problem");

/// The type of an answer without a message.
pub(super) const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// What `grpc-message` may not hold as it is.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// What is the same whenever a refusal is told to a gRPC client.
#[derive(Debug)]
pub(super) struct Status {
    number: HeaderValue,
    title: &'static str,
    /// What to do next, encoded.
    message: HeaderValue,
    code: HeaderValue,
}

impl Status {
    pub(super) fn of(row: &Row) -> Self {
        Self {
            number: HeaderValue::from(u16::from(row.grpc.number())),
            title: row.title,
            message: message(row.detail),
            code: HeaderValue::from_static(row.code),
        }
    }

    /// Adds the fields to the trailers, which are the whole answer if nothing was sent before.
    pub(super) fn write(&self, rejection: Rejection, names: &FieldNames, trailers: &mut HeaderMap) {
        trailers.insert(STATUS, self.number.clone());
        trailers.insert(MESSAGE, self.message(rejection, names));
        trailers.insert(PROBLEM, self.code.clone());
        if let Some(wait) = rejection.wait() {
            trailers.insert(PUSHBACK, HeaderValue::from(u64::from(wait.0) * 1000));
        }
    }

    /// There is no list of violations as in a problem, so the message names them.
    fn message(&self, rejection: Rejection, names: &FieldNames) -> HeaderValue {
        let Some(found) = rejection.violations() else { return self.message.clone() };
        let mut text = self.title.to_owned();
        for (place, (field, fault)) in found.iter().enumerate() {
            let comma = if place == 0 { ":" } else { "," };
            // Writing to a string cannot fail.
            _ = write!(text, "{comma} {} {}", names.name(field), fault.as_str());
        }
        message(&text)
    }
}

fn message(text: &str) -> HeaderValue {
    HeaderValue::try_from(utf8_percent_encode(text, ENCODED).to_string()).unwrap_or(HeaderValue::from_static("-"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::rejection::{TABLE, Wait};
    use crate::policy::violation::{Fault, Field, Violations};

    fn written(rejection: Rejection) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        Status::of(rejection.row()).write(rejection, &FieldNames::default(), &mut trailers);
        trailers
    }

    #[test]
    fn violations_are_named_in_the_message() {
        let found = Violations::NONE.with(Field::ClientId, Fault::Missing).with(Field::SessionId, Fault::Invalid);
        let trailers = written(Rejection::HeaderMissing(found));
        assert_eq!(trailers[STATUS], "3");
        assert_eq!(trailers[PROBLEM], "header-missing");
        assert_eq!(trailers[MESSAGE], "Required header missing: client-id missing, session-id invalid");
    }

    #[test]
    fn who_should_wait_is_told_in_milliseconds() {
        assert_eq!(written(Rejection::Draining(Wait(2)))[PUSHBACK], "2000");
        assert!(!written(Rejection::RouteUnknown).contains_key(PUSHBACK));
    }

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(message("100 % Käse\n"), "100 %25 K%C3%A4se%0A");
        for row in TABLE {
            assert_ne!(Status::of(row).message, "-", "{}", row.code);
        }
    }
}
