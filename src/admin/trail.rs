//! The trail of a session for the operator: as JSON, as NDJSON, as CSV.

use http::request::Parts;
use http::{StatusCode, header};
use serde_json::json;

use super::{Admin, Refusal, Reply, json as reply, sessions, text};
use crate::trail::csv;

const OFF: Refusal = Refusal(StatusCode::NOT_FOUND, "no trail is kept; add [trail] to the configuration");
const NO_CALLS: Refusal =
    Refusal(StatusCode::NOT_FOUND, "there are no calls of this session in memory; older ones may be in files");
const FORM: Refusal = Refusal(StatusCode::BAD_REQUEST, "format is json, ndjson or csv");

/// The form of an answer.
enum Form {
    Json,
    Ndjson,
    Csv,
}

/// `GET /sessions/{id or key}/trail?format=`
pub(super) fn show(admin: &Admin, name: &str, request: &Parts) -> Result<Reply, Refusal> {
    let form = form(request)?;
    let session = sessions::key(name)?;
    if !admin.trail.is_on() {
        return Err(OFF);
    }
    Ok(match form {
        Form::Json => {
            let mut calls = Vec::new();
            let visit = |line: &crate::trail::line::Line<'_>| calls.extend(serde_json::to_value(line).ok());
            let forgotten = admin.trail.lines(session, visit).ok_or(NO_CALLS)?;
            let key = session.to_string();
            reply(StatusCode::OK, &json!({ "session": key, "forgotten": forgotten, "calls": calls }))
        }
        Form::Ndjson => {
            let mut lines = Vec::new();
            // Memory takes everything.
            admin.trail.lines(session, |line| _ = line.write(&mut lines)).ok_or(NO_CALLS)?;
            text(StatusCode::OK, "application/x-ndjson", String::from_utf8_lossy(&lines).into_owned())
        }
        Form::Csv => {
            let mut table = csv::HEAD.to_owned();
            admin.trail.lines(session, |line| csv::write(&mut table, line)).ok_or(NO_CALLS)?;
            text(StatusCode::OK, "text/csv; charset=utf-8; header=present", table)
        }
    })
}

/// What the query asks for, else what `accept` names first, else JSON.
fn form(request: &Parts) -> Result<Form, Refusal> {
    let query = request.uri.query().unwrap_or_default();
    if let Some((name, value)) = url::form_urlencoded::parse(query.as_bytes()).next() {
        return match (&*name, &*value) {
            ("format", "json") => Ok(Form::Json),
            ("format", "ndjson") => Ok(Form::Ndjson),
            ("format", "csv") => Ok(Form::Csv),
            _ => Err(FORM),
        };
    }
    let accept = request.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let named = accept.split(',').map(|media| media.split(';').next().unwrap_or_default().trim());
    let known = named.filter_map(|media| match media {
        "application/json" => Some(Form::Json),
        "application/x-ndjson" | "application/jsonl" => Some(Form::Ndjson),
        "text/csv" => Some(Form::Csv),
        _ => None,
    });
    Ok(known.into_iter().next().unwrap_or(Form::Json))
}
