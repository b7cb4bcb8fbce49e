//! Proposals as a configuration file, with comments for whoever finishes it.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::description::Description;
use super::routes::{Proposal, Scopes};

/// What a file begins with, and what its upstream is.
pub struct Frame<'a> {
    /// The description.
    pub description: &'a Description,
    /// Where it came from.
    pub source: &'a str,
    /// The address of the servers behind the gate.
    pub upstream: &'a str,
}

/// Fields that the gate rules by itself, under these names or by `headers`.
const RULED: [&str; 7] =
    ["authorization", "client-id", "session-id", "x-correlation-id", "content-type", "accept", "idempotency-key"];

/// The file.
pub fn file(frame: &Frame<'_>, proposals: &[Proposal]) -> String {
    let Frame { description, source, upstream } = frame;
    let mut out = format!(
        "# Proposed from {source} ({}) by `sessiongate import`: {} routes. Read it before it guards anything; what it cannot\n\
         # know is marked TODO. Then: sessiongate check sessiongate.toml\n\nversion = 1\n\n\
         [[listeners]]\naddress = \"127.0.0.1:8080\"\n\n\
         [[issuers]]\nname = \"main\"\n\
         # TODO: whose tokens are taken: issuer = \"https://login.example.com\" with key_set = {{}}, or a key of your own.\n\
         keys = [{{ secret = {{ file = \"secret.key\" }} }}]\n\n\
         [[upstreams]]\nname = \"api\"\n# TODO: the servers behind the gate.\nendpoints = [{}]\n",
        plain(&description.title),
        proposals.iter().filter(|proposal| proposal.unusable.is_none()).count(),
        quoted(upstream),
    );
    let demanded: BTreeSet<&str> =
        description.operations.iter().flat_map(|operation| &operation.fields).map(String::as_str).collect();
    let others: Vec<_> = demanded.into_iter().filter(|name| !RULED.contains(name)).collect();
    if !others.is_empty() {
        line(&mut out, "");
        line(
            &mut out,
            "# Header fields that the description demands and the gate does not look at; the servers check them:",
        );
        line(&mut out, &format!("# {}", others.iter().map(|name| plain(name)).collect::<Vec<_>>().join(", ")));
        line(&mut out, "# If one of them is a correlation id: [headers.correlation-id] name = \"..\"");
    }
    for proposal in proposals {
        out.push('\n');
        route(&mut out, proposal);
    }
    if !description.notes.is_empty() {
        line(&mut out, "\n# Not understood:");
        description.notes.iter().for_each(|note| line(&mut out, &format!("# - {}", plain(note))));
    }
    out
}

fn route(out: &mut String, proposal: &Proposal) {
    let mut text = String::new();
    proposal.remarks.iter().for_each(|remark| line(&mut text, &format!("# {}", plain(remark))));
    line(&mut text, "[[routes]]");
    line(&mut text, &format!("name = {}", quoted(&proposal.name)));
    line(&mut text, &format!("path = {}", quoted(&proposal.path)));
    let verbs: Vec<_> = proposal.verbs.iter().map(|verb| quoted(verb.as_str())).collect();
    line(&mut text, &format!("methods = [{}]", verbs.join(", ")));
    match &proposal.scopes {
        Scopes::All(scopes) if scopes.is_empty() => {}
        Scopes::All(scopes) => line(&mut text, &format!("scopes = [{}]", list(scopes))),
        Scopes::Any(scopes) => line(&mut text, &format!("scopes = {{ any = [{}] }}", list(scopes))),
    }
    line(&mut text, "upstream = \"api\"");
    if !proposal.media.is_empty() {
        let types: Vec<_> = proposal.media.iter().cloned().collect();
        line(&mut text, &format!("headers = {{ content-type = {{ allow = [{}] }} }}", list(&types)));
    }
    if proposal.free {
        line(&mut text, "# The description demands no token here. For calls without token and session:");
        line(&mut text, "# exempt = true");
    }
    match &proposal.unusable {
        None => out.push_str(&text),
        Some(reason) => {
            line(out, &format!("# The gate cannot have this one: {}", plain(reason)));
            text.lines().for_each(|written| line(out, &format!("# {written}")));
        }
    }
}

fn line(out: &mut String, text: &str) {
    // Writing to a string cannot fail.
    _ = writeln!(out, "{text}");
}

fn list(texts: &[String]) -> String {
    texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ")
}

/// A TOML string.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => {
                out.push('\\');
                out.push(char);
            }
            control if control.is_control() => _ = write!(out, "\\u{:04X}", u32::from(control)),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// Text of a description in a comment: one line of it.
fn plain(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).take(300).collect()
}
