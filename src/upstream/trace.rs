//! `traceparent` (W3C Trace Context level 1, section 3.2): every call is part of a trace, the client's or a new one.

use std::fmt::Write as _;

use http::HeaderValue;

/// Length of a version 00 value.
const LEN: usize = 55;

/// The value for the upstream: the client's trace and flags with a span of ours, or a new trace that nobody sampled.
#[must_use]
pub fn parent(client: Option<&HeaderValue>) -> HeaderValue {
    let span: [u8; 8] = crate::random::bytes();
    let mut value = String::with_capacity(LEN);
    let given = client.and_then(|value| value.to_str().ok()).filter(|value| is_valid(value));
    match given {
        Some(given) => value.push_str(&given[..36]),
        None => {
            let trace: [u8; 16] = crate::random::bytes();
            _ = write!(value, "00-{:032x}-", u128::from_be_bytes(trace));
        }
    }
    _ = write!(value, "{:016x}", u64::from_be_bytes(span));
    value.push_str(given.map_or("-00", |given| &given[52..55]));
    HeaderValue::try_from(value)
        .unwrap_or_else(|_| HeaderValue::from_static("00-00000000000000000000000000000001-0000000000000001-00"))
}

fn is_valid(value: &str) -> bool {
    let parts: Vec<&str> = value.split('-').collect();
    let hex = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let some = |part: &str| part.bytes().any(|byte| byte != b'0');
    matches!(parts[..], ["00", trace, span, flags]
        if hex(trace, 32) && some(trace) && hex(span, 16) && some(span) && hex(flags, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_trace_goes_on_with_a_span_of_ours() {
        let client = HeaderValue::from_static("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let ours = parent(Some(&client));
        let ours = ours.to_str().unwrap();
        assert!(ours.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && ours.ends_with("-01"), "{ours}");
        assert!(!ours.contains("b7ad6b7169203331") && is_valid(ours));
    }

    #[test]
    fn anything_else_starts_a_new_trace() {
        for value in [
            "",
            "00-0-0-00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        ] {
            let ours = parent(Some(&HeaderValue::from_str(value).unwrap()));
            assert!(is_valid(ours.to_str().unwrap()) && ours.as_bytes().ends_with(b"-00"), "{value}");
        }
    }
}
