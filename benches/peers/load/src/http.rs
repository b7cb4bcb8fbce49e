//! As much of HTTP/1.1 as the two ends of a benchmark need: heads, and bodies with a length.

/// The length of the head that `bytes` starts with, if it is there whole.
pub fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// The value of a field.
pub fn field<'h>(head: &'h [u8], name: &str) -> Option<&'h [u8]> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let (start, rest) = line.split_at_checked(name.len())?;
        let value = rest.strip_prefix(b":")?;
        start.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
    })
}

/// Whether the connection ends after this message.
pub fn closes(head: &[u8]) -> bool {
    field(head, "connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"))
}

/// The length of the body, zero if the head does not say.
pub fn body_length(head: &[u8]) -> usize {
    field(head, "content-length").and_then(|value| std::str::from_utf8(value).ok()?.parse().ok()).unwrap_or(0)
}

/// Whether the status of a response is 2xx.
pub fn succeeded(head: &[u8]) -> bool {
    head.get(9) == Some(&b'2')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nconnection:close\r\n\r\nbody";
        let length = head_length(head).expect("it is whole");
        assert_eq!(&head[length..], b"body");
        assert_eq!(body_length(head), 12);
        assert!(closes(head));
        assert!(succeeded(head));
        assert_eq!(head_length(b"HTTP/1.1 200 OK\r\n"), None);
    }
}
