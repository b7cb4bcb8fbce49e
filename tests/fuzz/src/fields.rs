//! Values of single fields.
//!
//! The first byte of an input chooses the parser; the others are the value.

use sessiongate::policy::credentials::{Scheme, TOKEN_MAX, token};
use sessiongate::policy::headers::is_safe_id;
use sessiongate::policy::ids::{ClientId, SessionId, SessionKey, is_client_id};
use sessiongate::policy::media::{MediaPattern, accepts, essence};
use sessiongate::policy::scopes::{ScopeNames, is_scope_token};
use sessiongate::policy::target::{host_name, is_host, query_has_token};

/// Reads bytes as the value of a field.
pub fn check(bytes: &[u8]) {
    let [parser, value @ ..] = bytes else { return };
    let text = std::str::from_utf8(value).ok();
    match parser {
        b'b' => credentials(value),
        b'm' => text.into_iter().for_each(media),
        b's' => text.into_iter().for_each(scopes),
        b'i' => ids(value),
        b'h' => host(value),
        _ => text.into_iter().for_each(|query| {
            let wanted = query.split(['&', ';']).any(|pair| pair.split('=').next() == Some("access_token"));
            // A pair without `=` carries nothing.
            assert!(!query_has_token(query) || wanted);
        }),
    }
}

fn credentials(value: &[u8]) {
    let Ok((scheme, token)) = token(value) else { return };
    assert!(!token.is_empty() && token.len() <= TOKEN_MAX && value.ends_with(token.as_bytes()));
    let before = &value[..value.len() - token.len()];
    let name: &[u8] = match scheme {
        Scheme::Bearer => b"bearer",
        Scheme::Dpop => b"dpop",
    };
    let (named, spaces) = before.split_at(name.len());
    assert!(named.eq_ignore_ascii_case(name) && !spaces.is_empty() && spaces.iter().all(|byte| *byte == b' '));
    let body = token.trim_end_matches('=');
    assert!(!body.is_empty() && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte)));
}

/// The first line is a pattern, the second a `content-type` or `accept`.
fn media(text: &str) {
    let (pattern, value) = text.split_once('\n').unwrap_or((text, "application/json"));
    let bare = essence(value.as_bytes());
    assert!(!bare.contains(&b';'));
    let Some(pattern) = MediaPattern::parse(pattern) else { return };
    assert_eq!(MediaPattern::parse(&pattern.to_string()).as_ref(), Some(&pattern));
    let admitted = pattern.admits(bare);
    let exact = pattern.to_string();
    if !exact.contains('*') {
        assert_eq!(admitted, bare.eq_ignore_ascii_case(exact.as_bytes()));
        assert!(accepts(exact.as_bytes(), std::slice::from_ref(&pattern)));
    }
    let accepted = accepts(value.as_bytes(), std::slice::from_ref(&pattern));
    assert!(!accepted || value.contains('/'), "{value}");
    assert!(!accepts(value.as_bytes(), &[]));
}

fn scopes(text: &str) {
    let tokens: Vec<_> = text.split(' ').filter(|scope| is_scope_token(scope)).collect();
    assert!(tokens.iter().all(|scope| scope.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte))));
    let mut names = ScopeNames::default();
    let Ok(set) = names.intern(tokens.iter().copied()) else { return };
    assert_eq!(names.known(text.split(' ')), set);
    assert!(set.contains_all(&set) && set.is_empty() == tokens.is_empty());
}

fn ids(value: &[u8]) {
    if let Ok(id) = SessionId::parse(value) {
        assert!(id.reveal().as_bytes().eq_ignore_ascii_case(value));
        assert!(SessionId::parse(id.reveal().as_bytes()) == Ok(id));
        assert!(!format!("{id:?}").contains(&id.reveal()));
    }
    let safe = is_safe_id(value);
    assert!(!safe || value.iter().all(|byte| byte.is_ascii_graphic() && !b"\",;<>\\".contains(byte)));
    let Ok(text) = std::str::from_utf8(value) else {
        assert!(!safe && !is_client_id(value));
        return;
    };
    assert_eq!(ClientId::parse(text).is_ok(), is_client_id(value));
    assert!(!is_client_id(value) || value.iter().all(|byte| byte.is_ascii_graphic() && *byte != b','));
    if let Ok(key) = SessionKey::parse(text) {
        assert!(key.to_string().eq_ignore_ascii_case(text) && SessionKey::parse_id_or_key(text) == Ok(key));
    }
    _ = SessionKey::parse_id_or_key(text);
}

fn host(value: &[u8]) {
    if !is_host(value) {
        return;
    }
    let text = std::str::from_utf8(value).expect("a host is ASCII");
    assert!(!text.contains(['@', '/', ',', ' ', '\\', '?', '#', '%']), "{text}");
    let name = host_name(text);
    assert!(!name.is_empty() && text.starts_with(name), "{text}");
    let rest = &text[name.len()..];
    // The dot that ends a fully qualified name belongs to neither.
    let port = rest.strip_prefix('.').unwrap_or(rest);
    assert!(
        port.is_empty() || port.starts_with(':') && port[1..].bytes().all(|digit| digit.is_ascii_digit()),
        "{text}"
    );
    assert!(text.parse::<http::uri::Authority>().is_ok() || port == ":" || port.len() > 5 || name.starts_with('['));
}
