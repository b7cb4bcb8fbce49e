//! `token`: mints an access token for development, as an authorization server would.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args as ClapArgs;
use jiff::SignedDuration;
use jiff::fmt::friendly::SpanParser;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value};
use sessiongate::auth::keys::SECRET_MIN;
use sessiongate::policy::ids::ClientId;
use sessiongate::policy::scopes::is_scope_token;
use zeroize::Zeroizing;

use super::failure::Failure;
use super::output::say;

const EXAMPLES: &str = "\
Examples:
  head -c 48 /dev/urandom | base64 > secret.key
  TOKEN=$(sessiongate token --hs256-secret-file secret.key --client-id my-app \\
      --subject alice --scope 'orders.read orders.write')

  One that has expired, and one with more claims:
  sessiongate token --hs256-secret-file secret.key --client-id my-app --expires-in=-5m
  sessiongate token --hs256-secret-file secret.key --client-id my-app \\
      --claim tenant=7 --claim roles='[\"a\",\"b\"]'

Only the token is printed. It is signed with HS256 and its header has neither kid nor typ.";

/// Mint an access token for development
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// File with the secret that the gateway verifies tokens with, at least 32 bytes; one line end at its end does not
    /// count
    #[arg(long, value_name = "FILE")]
    hs256_secret_file: PathBuf,

    /// The client application the token is for (claim client_id)
    #[arg(long, value_name = "ID", value_parser = parse_client)]
    client_id: ClientId,

    /// The user the token is for (claim sub)
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,

    /// Scopes, separated by spaces; may be given several times (claim scope)
    #[arg(long, value_name = "SCOPES", value_parser = parse_scopes)]
    scope: Vec<String>,

    /// Who issues the token (claim iss)
    #[arg(long, value_name = "ISSUER")]
    issuer: Option<String>,

    /// Whom the token is for; may be given several times (claim aud)
    #[arg(long, value_name = "AUD")]
    audience: Vec<String>,

    /// How long the token is good for, such as 1h or 90s; negative for one that has expired
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration, allow_hyphen_values = true)]
    expires_in: SignedDuration,

    /// Another claim; the value is JSON or, if it is not, text; overrules the claims above; may be given several times
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = parse_claim)]
    claims: Vec<(String, Value)>,
}

/// A client-id of the command line.
///
/// # Errors
/// What is wrong with it.
pub fn parse_client(text: &str) -> Result<ClientId, String> {
    ClientId::parse(text).map_err(|_| "a client-id is 1 to 128 of A-Z, a-z, 0-9, '.', '_' and '-'".into())
}

/// Scopes of the command line.
///
/// # Errors
/// What is wrong with them.
pub fn parse_scopes(text: &str) -> Result<String, String> {
    match text.split_ascii_whitespace().find(|scope| !is_scope_token(scope)) {
        Some(wrong) => Err(format!("{wrong:?} is not a scope (RFC 6749 section 3.3)")),
        None => Ok(text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")),
    }
}

fn parse_duration(text: &str) -> Result<SignedDuration, String> {
    SpanParser::new().parse_duration(text).map_err(|_| "write a number with a unit, such as 90s, 15m or 1h30m".into())
}

fn parse_claim(text: &str) -> Result<(String, Value), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            Ok((name.into(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
        }
        _ => Err("write NAME=VALUE".into()),
    }
}

/// Prints a token.
///
/// # Errors
/// [`Failure::Input`] for a secret that cannot be read or is too short.
pub fn run(args: &Args) -> Result<(), Failure> {
    let secret = read_secret(&args.hs256_secret_file)?;
    say(mint(&secret, args.claims(now()))?)
}

impl Args {
    fn claims(&self, now: Duration) -> Map<String, Value> {
        let issued = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let mut claims = Map::new();
        let mut add = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        add("client_id", self.client_id.as_str().into());
        if let Some(subject) = &self.subject {
            add("sub", subject.as_str().into());
        }
        if !self.scope.is_empty() {
            add("scope", self.scope.join(" ").into());
        }
        if let Some(issuer) = &self.issuer {
            add("iss", issuer.as_str().into());
        }
        match self.audience.as_slice() {
            [] => None,
            [one] => add("aud", one.as_str().into()),
            several => add("aud", several.into()),
        };
        add("iat", issued.into());
        add("exp", issued.saturating_add(self.expires_in.as_secs()).into());
        claims.extend(self.claims.iter().cloned());
        claims
    }
}

/// Time since the epoch.
pub fn now() -> Duration {
    sessiongate::clock::Clock::default().wall().since(sessiongate::policy::time::Timestamp::EPOCH)
}

/// Signs claims with HS256.
///
/// # Errors
/// [`Failure::Runtime`] if they cannot be signed.
pub fn mint(secret: &[u8], claims: Map<String, Value>) -> Result<String, Failure> {
    let header = Header { typ: None, ..Header::new(Algorithm::HS256) };
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret))
        .map_err(|error| Failure::runtime("cannot sign the token", error))
}

/// A secret as the gateway reads it: the bytes of the file without one line end.
fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |what: String| Failure::Input(format!("{}: {what}", path.display()));
    let secret = fs::read(path).map_err(|error| failed(format!("cannot read it: {error}")))?;
    usable_secret(secret).map_err(failed)
}

/// A secret without the line end at its end.
///
/// # Errors
/// That it is too short.
pub fn usable_secret(secret: Vec<u8>) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut secret = Zeroizing::new(secret);
    if secret.last() == Some(&b'\n') {
        secret.pop();
        if secret.last() == Some(&b'\r') {
            secret.pop();
        }
    }
    if secret.len() < SECRET_MIN {
        let bytes = secret.len();
        return Err(format!("the secret has {bytes} bytes; HMAC needs at least {SECRET_MIN}"));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn claims(line: &str) -> Value {
        let words = ["token", "--hs256-secret-file", "f", "--client-id", "shop"].into_iter();
        let line = Line::try_parse_from(words.chain(line.split_ascii_whitespace())).unwrap();
        Value::Object(line.args.claims(Duration::from_secs(1_000)))
    }

    #[test]
    fn claims_follow_the_flags() {
        assert_eq!(claims(""), serde_json::json!({ "client_id": "shop", "iat": 1000, "exp": 4600 }));
        assert_eq!(
            claims("--subject u --scope a --scope b --issuer i --audience x --expires-in 90s --claim n=7 --claim t=x"),
            serde_json::json!({
                "client_id": "shop", "sub": "u", "scope": "a b", "iss": "i", "aud": "x", "iat": 1000, "exp": 1090,
                "n": 7, "t": "x",
            })
        );
        assert_eq!(claims("--audience x --audience y")["aud"], serde_json::json!(["x", "y"]));
        assert_eq!(claims("--expires-in -5m")["exp"], 700);
        assert_eq!(claims("--claim exp=1")["exp"], 1);
    }

    #[test]
    fn bad_values_are_refused() {
        let refused = |flag: &str, value: &str| {
            let words = ["token", "--hs256-secret-file", "f", "--client-id", "shop", flag, value];
            Line::try_parse_from(words).is_err()
        };
        assert!(refused("--scope", "a\"b") && refused("--expires-in", "soon") && refused("--claim", "x"));
        assert!(Line::try_parse_from(["token", "--hs256-secret-file", "f", "--client-id", "a b"]).is_err());
    }
}
