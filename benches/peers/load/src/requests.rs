//! What is sent: requests from a file in turn, or one with a new access token each time.
//!
//! For the latter the request has `{token}` where its token belongs, and the file `sign` has three lines: the HS256 secret,
//! the token's header, and its claims with `{id}` where something new belongs.

use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, io};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::hmac;

/// The requests of a run.
pub enum Requests {
    /// These in turn.
    Given { all: Vec<Vec<u8>>, next: usize },
    /// The same with a token that nobody has seen.
    Signed(Box<Signed>),
}

/// A request around a token.
pub struct Signed {
    key: hmac::Key,
    header: String,
    claims: [String; 2],
    request: [String; 2],
    serial: u128,
    text: String,
}

impl Requests {
    /// Reads them.
    pub fn read(path: &str, sign: Option<&str>) -> io::Result<Self> {
        let text = fs::read(path)?;
        let all: Vec<Vec<u8>> = text.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        let Some(sign) = sign else { return Ok(Self::Given { all, next: 0 }) };

        let material = fs::read_to_string(sign)?;
        let mut lines = material.lines();
        let mut line = || lines.next().ok_or(io::Error::other("the file has three lines"));
        let key = hmac::Key::new(hmac::HMAC_SHA256, line()?.as_bytes());
        let header = format!("{}.", BASE64.encode(line()?));
        let claims = around(line()?, "{id}")?;
        let request = around(&String::from_utf8_lossy(&all[0]), "{token}")?;
        // Another run must not repeat these tokens.
        let serial = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?.as_nanos();
        Ok(Self::Signed(Box::new(Signed { key, header, claims, request, serial, text: String::new() })))
    }

    /// The next one.
    pub fn next(&mut self) -> &[u8] {
        match self {
            Self::Given { all, next } => {
                let request = &all[*next];
                *next = (*next + 1) % all.len();
                request
            }
            Self::Signed(signed) => signed.next(),
        }
    }
}

impl Signed {
    fn next(&mut self) -> &[u8] {
        self.serial += 1;
        let claims = format!("{}{:032x}{}", self.claims[0], self.serial, self.claims[1]);
        let text = &mut self.text;
        text.clear();
        text.push_str(&self.request[0]);
        let token = text.len();
        text.push_str(&self.header);
        BASE64.encode_string(claims, text);
        let signature = hmac::sign(&self.key, &text.as_bytes()[token..]);
        text.push('.');
        BASE64.encode_string(signature, text);
        text.push_str(&self.request[1]);
        text.as_bytes()
    }
}

/// What stands before and after a mark.
fn around(text: &str, mark: &str) -> io::Result<[String; 2]> {
    let (before, after) = text.split_once(mark).ok_or_else(|| io::Error::other(format!("no {mark} in {text:?}")))?;
    Ok([before.to_owned(), after.to_owned()])
}
