//! `traceparent` (W3C Trace Context level 1, section 3.2): every call is part of a trace, the client's or a new one.

use std::ops::Range;

use http::HeaderValue;

/// Writes the value for the upstream: the client's trace and flags with a span of ours, or a new trace that nobody
/// sampled. Says whether it is the client's, whose `tracestate` belongs to it then (section 3.3).
pub(super) fn write_parent(client: Option<&HeaderValue>, out: &mut Vec<u8>) -> bool {
    let mut parent = *b"00-00000000000000000000000000000000-0000000000000000-00";
    let given = client.map(HeaderValue::as_bytes).filter(|value| is_valid(value));
    match given {
        Some(given) => parent.copy_from_slice(given),
        None => hex(crate::random::bytes::<16>(), &mut parent[TRACE]),
    }
    hex(crate::random::bytes::<8>(), &mut parent[SPAN]);
    out.extend_from_slice(&parent);
    given.is_some()
}

/// Where the trace and the span are.
const TRACE: Range<usize> = 3..35;
const SPAN: Range<usize> = 36..52;

fn hex<const N: usize>(bytes: [u8; N], text: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.into_iter().zip(text.as_chunks_mut::<2>().0) {
        *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    }
}

/// Whether this is `00-<trace>-<span>-<flags>`, in lower case and with neither id zero.
fn is_valid(value: &[u8]) -> bool {
    let Ok(value) = <&[u8; 55]>::try_from(value) else { return false };
    let hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let some = |part: &[u8]| part.iter().any(|byte| *byte != b'0');
    let (trace, span, flags) = (&value[TRACE], &value[SPAN], &value[53..]);
    value.starts_with(b"00-")
        && (value[35], value[52]) == (b'-', b'-')
        && hex(trace)
        && some(trace)
        && hex(span)
        && some(span)
        && hex(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parent(client: &str) -> String {
        let mut out = Vec::new();
        write_parent(Some(&HeaderValue::from_str(client).unwrap()), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_valid_trace_goes_on_with_a_span_of_ours() {
        let ours = parent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        assert!(ours.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && ours.ends_with("-01"), "{ours}");
        assert!(!ours.contains("b7ad6b7169203331") && is_valid(ours.as_bytes()));
    }

    #[test]
    fn anything_else_starts_a_new_trace() {
        for value in [
            "",
            "00-0-0-00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        ] {
            let ours = parent(value);
            assert!(is_valid(ours.as_bytes()) && ours.ends_with("-00"), "{value}");
        }
    }
}
