//! The request target, read once. It is never rewritten: routes match its canonical reading, its raw bytes go upstream.

use std::borrow::Cow;

use super::rejection::Rejection;

/// The path of the session endpoint. Only this exact path is the endpoint.
pub const SESSION_PATH: &str = "/session";

/// Reads a raw path as routes see it: escapes of unreserved characters undone (RFC 3986 section 6.2.2.2), everything
/// else as it came.
///
/// # Errors
/// [`Rejection::TargetMalformed`] for what two readers could take for different paths: dot segments plain, encoded or
/// with parameters (`..;x`), `%2F`, `%5C`, `%00`, a raw backslash, a broken escape, and a path that is `/session` only
/// after decoding.
pub fn canonical(path: &str) -> Result<Cow<'_, str>, Rejection> {
    if !path.starts_with('/') {
        return Err(Rejection::TargetMalformed);
    }
    // Most paths have nothing to look into.
    if memchr::memchr3(b'\\', b'%', b'.', path.as_bytes()).is_none() {
        return Ok(Cow::Borrowed(path));
    }
    if path.contains('\\') {
        return Err(Rejection::TargetMalformed);
    }
    let read = if path.contains('%') { Cow::Owned(decoded(path)?) } else { Cow::Borrowed(path) };
    if read.contains("/.") && read.split('/').any(is_dots) {
        return Err(Rejection::TargetMalformed);
    }
    if read == SESSION_PATH && path != SESSION_PATH {
        return Err(Rejection::TargetMalformed);
    }
    Ok(read)
}

/// Whether a segment is `.` or `..`, or would be to a reader that cuts off path parameters first, as servlet containers
/// do: `/public/..;/orders` is `/orders` to them.
fn is_dots(segment: &str) -> bool {
    let Some(rest) = segment.strip_prefix("..").or_else(|| segment.strip_prefix('.')) else { return false };
    rest.is_empty() || rest.starts_with(';') || rest.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("%3b"))
}

fn decoded(path: &str) -> Result<String, Rejection> {
    let mut read = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        read.push_str(&rest[..at]);
        let escape = rest.get(at..at + 3).ok_or(Rejection::TargetMalformed)?;
        let digits = &escape[1..];
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(Rejection::TargetMalformed);
        }
        let byte = u8::from_str_radix(digits, 16).map_err(|_| Rejection::TargetMalformed)?;
        match byte {
            b'/' | b'\\' | 0 => return Err(Rejection::TargetMalformed),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => read.push(char::from(byte)),
            _ => read.push_str(escape),
        }
        rest = &rest[at + 3..];
    }
    read.push_str(rest);
    Ok(read)
}

/// Whether the query carries an access token (RFC 6750 section 2.3, which RFC 9700 section 4.3.2 forbids), its name
/// plain or escaped: whoever reads the query undoes that.
#[must_use]
pub fn query_has_token(query: &str) -> bool {
    const NAME: &str = "access_token";
    if !query.contains('%') && !query.contains(NAME) {
        return false;
    }
    query.split(['&', ';']).any(|pair| {
        let Some((name, _)) = pair.split_once('=') else { return false };
        percent_encoding::percent_decode_str(name).eq(NAME.bytes())
    })
}

/// Whether `host` is a host with an optional port, and nothing else (RFC 9112 section 3.2).
#[must_use]
pub fn is_host(host: &[u8]) -> bool {
    let (name, port) = match host {
        [b'[', rest @ ..] => {
            let Some(end) = rest.iter().position(|byte| *byte == b']') else { return false };
            let literal = &rest[..end];
            if literal.is_empty() || !literal.iter().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte)) {
                return false;
            }
            (literal, &rest[end + 1..])
        }
        _ => {
            let end = host.iter().position(|byte| *byte == b':').unwrap_or(host.len());
            host.split_at(end)
        }
    };
    let named = !name.is_empty()
        && name[0] != b'.'
        && name.len() <= 255
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:".contains(byte));
    let numbered = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    named && numbered
}

/// The host without its port and without the dot that ends a fully qualified name: `shop.example.` is the same host as
/// `shop.example`, so it must not fall through to the routes of another.
#[must_use]
pub fn host_name(host: &str) -> &str {
    let end = match host.rfind(']') {
        Some(end) => end + 1,
        None => host.find(':').unwrap_or(host.len()),
    };
    let name = &host[..end];
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreserved_escapes_are_undone_and_nothing_else() {
        assert_eq!(canonical("/a/b").unwrap(), "/a/b");
        assert_eq!(canonical("/%61%2Db/%7Eu").unwrap(), "/a-b/~u");
        assert_eq!(canonical("/c%20d;v=1/%2520x/e%3ff").unwrap(), "/c%20d;v=1/%2520x/e%3ff");
        assert_eq!(canonical("//a//b").unwrap(), "//a//b");
        assert_eq!(canonical("/caf\u{e9}/%C3%A9").unwrap(), "/caf\u{e9}/%C3%A9");
        assert_eq!(canonical("/a..b/.well-known/.../.a;b").unwrap(), "/a..b/.well-known/.../.a;b");
    }

    #[test]
    fn ambiguous_paths_are_refused() {
        for path in [
            "",
            "session",
            "/a/../b",
            "/a/./b",
            "/..",
            "/.",
            "/a/%2e%2E/b",
            "/a/.%2e",
            "/a/..;/b",
            "/a/.;x=1",
            "/a/%2e.;/b",
            "/a/..%3B/b",
            "/..%3bx",
            "/%2fa",
            "/a%5cb",
            "/a\\b",
            "/a%00",
            "/a%",
            "/a%4",
            "/a%zz",
            "/a%+1",
            "/%73ession",
            "/sessio%6E",
        ] {
            assert_eq!(canonical(path), Err(Rejection::TargetMalformed), "{path}");
        }
    }

    #[test]
    fn look_alikes_of_the_session_path_are_other_paths() {
        for path in ["/session/", "//session", "/SESSION", "/session;a", "/sessions"] {
            assert_ne!(canonical(path).unwrap(), SESSION_PATH, "{path}");
        }
    }

    #[test]
    fn hosts_are_plain() {
        for host in ["example.com", "example.com:8080", "127.0.0.1:1", "[::1]", "[::1]:443", "a_b", "example.com:"] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in
            ["", "a,b", "user@host", "host:port", "host:123456", "[::1", "[]", "a b", "a/b", ":80", "[::1]x", ".", ".a"]
        {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
        assert_eq!((host_name("a:1"), host_name("[::1]:1"), host_name("a")), ("a", "[::1]", "a"));
        assert_eq!((host_name("a.b."), host_name("a.b.:1")), ("a.b", "a.b"));
    }

    #[test]
    fn tokens_in_queries_are_seen() {
        for query in ["a=1&access_token=x", "access%5Ftoken=x", "a;%61ccess_token=x", "access_token="] {
            assert!(query_has_token(query), "{query}");
        }
        for query in ["my_access_token=x", "a=access_token", "a=%61&access_token", "access%255Ftoken=x", ""] {
            assert!(!query_has_token(query), "{query}");
        }
    }
}
