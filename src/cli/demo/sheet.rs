//! The sheet of the demo: what runs where, and the calls as `curl` lines.
//!
//! From the first `curl` line on, the sheet is a script for bash and zsh as it stands. Comments hold no quotes: a zsh
//! that does not know comments would wait for their end.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::script::{self, Bearer, Client, Expect, Fields, Session, Step, UNKNOWN_SESSION};
use super::setup::{CLIENT, OTHER_CLIENT};

/// Tokens that the lines use.
pub struct Tokens {
    /// With all scopes.
    pub full: String,
    /// With the scope to read only.
    pub read_only: String,
}

/// The lines, as a script.
pub fn lines(gate: SocketAddr, tokens: &Tokens) -> String {
    let mut lines =
        format!("GATE=http://{gate}\nCLIENT={CLIENT}\nTOKEN={}\nREADER={}\n", tokens.full, tokens.read_only);
    let mut number = 0;
    let mut heading = |lines: &mut String, step: &Step| {
        number += 1;
        // Writing to a string cannot fail.
        _ = writeln!(lines, "\n# {number}. {}: {}", step.title, expected(step.expect));
    };
    heading(&mut lines, &script::OPEN);
    lines.push_str(OPEN);
    for step in script::FLOW {
        heading(&mut lines, step);
        lines.push_str(&curl(step));
    }
    lines.push_str("\n# Refused, before the ordering service sees anything:\n");
    for step in script::REFUSALS.iter().filter(|step| step.on_sheet) {
        heading(&mut lines, step);
        lines.push_str(&curl(step));
    }
    for step in [&script::CLOSE, &script::CLOSED] {
        heading(&mut lines, step);
        lines.push_str(&curl(step));
    }
    lines
}

/// Opens the session, keeps its id, and names the six headers.
const OPEN: &str = r#"ANSWER=$(curl -si -X POST "$GATE/session" -H "authorization: Bearer $TOKEN" -H "client-id: $CLIENT"); echo "$ANSWER"
SESSION=$(echo "$ANSWER" | tr -d '\r' | awk 'tolower($1) == "session-id:" { print $2 }')
SIX=(-H "authorization: Bearer $TOKEN" -H "client-id: $CLIENT" -H "session-id: $SESSION" \
     -H "x-correlation-id: demo-1" -H "accept: application/json" -H "content-type: application/json")
"#;

fn expected(expect: Expect) -> String {
    match expect {
        Expect::Gate(status) => format!("{status}"),
        Expect::Service(status) => format!("{status} from the service"),
        Expect::Replayed(status) => format!("{status} as before"),
        Expect::Refused(status, code) => format!("{status} {code}"),
    }
}

fn curl(step: &Step) -> String {
    let mut line = String::from("curl -si ");
    if step.method != "GET" {
        _ = write!(line, "-X {} ", step.method);
    }
    _ = write!(line, "\"$GATE{}\"", step.path);
    if (Fields { key: None, ..step.fields }) == script::SIX {
        line.push_str(" \"${SIX[@]}\"");
        if let Some(key) = step.fields.key {
            _ = write!(line, " -H \"idempotency-key: {key}\"");
        }
    } else {
        let mut fields = spelled_out(&step.fields);
        fields.extend(step.body.map(|_| format!("-H \"content-type: {}\"", step.fields.content_type)));
        for field in fields.chunks(3) {
            _ = write!(line, " \\\n     {}", field.join(" "));
        }
    }
    if let Some(body) = step.body {
        _ = write!(line, " -d '{body}'");
    }
    // A problem has no line end of its own.
    line.push_str("; echo\n");
    line
}

/// The fields one by one, where what is special about a call is one of them.
fn spelled_out(fields: &Fields) -> Vec<String> {
    let bearer = match fields.bearer {
        Some(Bearer::ReadOnly) => Some("authorization: Bearer $READER".to_owned()),
        Some(_) => Some("authorization: Bearer $TOKEN".into()),
        None => None,
    };
    let client = match fields.client {
        Client::Own => "client-id: $CLIENT".to_owned(),
        Client::Other => format!("client-id: {OTHER_CLIENT}"),
    };
    let session = fields.session.map(|session| match session {
        Session::Own => "session-id: $SESSION".to_owned(),
        Session::Unknown => format!("session-id: {UNKNOWN_SESSION}"),
    });
    let correlation = fields.correlation.then(|| "x-correlation-id: demo-1".to_owned());
    let accept = fields.accept.map(|accept| format!("accept: {accept}"));
    let all = [bearer, Some(client), session, correlation, accept];
    all.into_iter().flatten().map(|field| format!("-H \"{field}\"")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_a_script_without_quotes_in_comments() {
        let tokens = Tokens { full: "a.b.c".into(), read_only: "d.e.f".into() };
        let lines = lines(SocketAddr::from(([127, 0, 0, 1], 8080)), &tokens);
        let comments = lines.lines().filter(|line| line.starts_with('#'));
        assert!(comments.clone().all(|line| !line.contains(['\'', '"', '`'])), "{lines}");
        assert!(comments.count() > 14);
        for code in ["credentials-missing", "header-missing", "client-mismatch", "session-not-found"] {
            assert!(lines.contains(code), "{code}");
        }
        assert!(lines.contains("scope-insufficient") && lines.contains("session-closed"));
        let checked = std::process::Command::new("bash").args(["-n", "-c", &lines]).output();
        assert!(checked.is_ok_and(|bash| bash.status.success()), "{lines}");
    }
}
