//! From the file to the scenario.

use std::collections::BTreeMap;

use http::{HeaderName, Method};
use serde_json::{Map, Value};
use sessiongate::config::other::Mistakes;
use sessiongate::config::raw::{At, Table};
use sessiongate::policy::ids::ClientId;
use sessiongate::policy::scopes::is_scope_token;

use super::file::{self, File};
use super::{Capture, Client, Flow, Identity, Repeat, Request, Scenario, Source, Status, Step};
use crate::cli::load::chance::Think;
use crate::cli::load::template::{BUILT_IN, Place, Template};

/// Fields that belong to the connection and the framing of a message, which the generator writes itself.
const OURS: [&str; 7] = ["host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "expect"];

const ONCE: Repeat = Repeat { low: 1, high: 1 };
const AT_ONCE: Think = Think::Fixed(std::time::Duration::ZERO);

/// Fields by name; an empty value takes a field away.
type Fields = BTreeMap<String, At<String>>;

pub(super) fn compile(file: &File, mistakes: &mut Mistakes) -> Scenario {
    let mut compiler = Compiler { file, mistakes, names: Vec::new() };
    let open = compiler.session_step("open session", Method::POST);
    let mut steps = vec![open];
    let mut flows: Vec<Flow> = Vec::new();
    if file.flows.is_empty() {
        compiler.mistakes.add_with_hint(0..0, "there is no flow", "add [[flows]] with [[flows.steps]]");
    }
    for flow in &file.flows {
        let name = compiler.name(flow.name.as_ref(), flow.span(), "flow");
        if flows.iter().any(|other| other.name == name) {
            compiler.mistakes.add_with_hint(flow.span(), format!("there are two flows {name:?}"), "give each a name");
        }
        if flow.steps.is_empty() {
            compiler.mistakes.add_with_hint(flow.span(), "a flow without steps", "add [[flows.steps]]");
        }
        compiler.names.clear();
        let first = steps.len();
        for (place, step) in flow.steps.iter().enumerate() {
            let last = place + 1 == flow.steps.len();
            steps.push(compiler.step(step, last));
        }
        let weight = compiler.weight(flow.weight.as_ref());
        flows.push(Flow { name, weight, steps: first..steps.len(), slots: compiler.names.len() });
    }
    compiler.names.clear();
    steps.push(compiler.session_step("close session", Method::DELETE));
    let clients = file.clients.iter().filter_map(|client| compiler.client(client)).collect();
    Scenario {
        name: file.name.as_ref().map_or_else(|| "unnamed".to_owned(), |name| (**name).clone()),
        per: file.session.per,
        clients,
        flows,
        steps,
        close: file.session.close,
    }
}

struct Compiler<'f> {
    file: &'f File,
    mistakes: &'f mut Mistakes,
    /// What the steps of this flow have captured so far, by slot.
    names: Vec<String>,
}

impl Compiler<'_> {
    fn name(&mut self, name: Option<&At<String>>, place: std::ops::Range<usize>, what: &str) -> String {
        match name {
            Some(name) if !name.trim().is_empty() => (**name).clone(),
            _ => {
                self.mistakes.add_with_hint(place, format!("a {what} without a name"), "write name = \"..\"");
                String::new()
            }
        }
    }

    fn weight(&mut self, weight: Option<&At<f64>>) -> f64 {
        match weight {
            None => 1.0,
            Some(weight) if weight.is_finite() && **weight > 0.0 => **weight,
            Some(weight) => {
                self.mistakes.add_with_hint(
                    weight.span(),
                    "a weight is a number above 0",
                    "leave out what never happens",
                );
                1.0
            }
        }
    }

    fn session_step(&mut self, name: &str, method: Method) -> Step {
        let session = &self.file.session;
        let path = session.path.clone().unwrap_or_else(|| "/session".to_owned().into());
        let opening = method == Method::POST;
        let own = if opening { session.headers.clone() } else { Fields::new() };
        let body = session.body.as_ref().filter(|_| opening);
        let request = self.request(method, &path, &own, body, !opening);
        let captures = match (&session.header, opening) {
            (_, false) => Vec::new(),
            (header, true) => {
                let header = header.clone().unwrap_or_else(|| "session-id".to_owned().into());
                if HeaderName::try_from(header.as_str()).is_err() {
                    self.mistakes.add(header.span(), format!("{:?} is not the name of a field", *header));
                }
                let source = Source::Header(header.to_ascii_lowercase());
                vec![Capture { slot: 0, source }]
            }
        };
        Step {
            name: name.into(),
            shown: format!("{} {}", request.method, *path),
            request,
            expect: vec![Status::Class(2)],
            think: AT_ONCE,
            repeat: ONCE,
            go_on: 1.0,
            fields: Step::fields(&captures),
            captures,
        }
    }

    fn step(&mut self, step: &Table<file::Step>, last: bool) -> Step {
        let name = self.name(step.name.as_ref(), step.span(), "step");
        let method = step.method.clone().unwrap_or_else(|| "GET".to_owned().into());
        let parsed =
            Method::from_bytes(method.as_bytes()).ok().filter(|_| method.bytes().all(|b| b.is_ascii_uppercase()));
        let usual = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
        let parsed = parsed.filter(|parsed| usual.contains(&parsed.as_str())).unwrap_or_else(|| {
            self.mistakes.add_unknown(method.span(), format!("{:?} is not a method", *method), &method, usual);
            Method::GET
        });
        let path = step.path.clone().unwrap_or_else(|| {
            self.mistakes.add_with_hint(step.span(), "a step without a path", "write path = \"/..\"");
            "/".to_owned().into()
        });
        let request = self.request(parsed, &path, &step.headers, step.body.as_ref(), true);
        let go_on = match &step.go_on {
            None => 1.0,
            Some(go_on) if !(0.0..=1.0).contains(&**go_on) => {
                self.mistakes.add_with_hint(
                    go_on.span(),
                    "a probability is a number from 0 to 1",
                    "0.8 is four in five",
                );
                1.0
            }
            Some(go_on) if last => {
                self.mistakes.add_with_hint(go_on.span(), "nothing follows the last step of a flow", "leave go_on out");
                1.0
            }
            Some(go_on) => **go_on,
        };
        if let Some(expect) = step.expect.as_ref().filter(|expect| expect.is_empty()) {
            self.mistakes.add_with_hint(expect.span(), "no answer would be right", "write expect = [200] or [\"2xx\"]");
        }
        let captures: Vec<_> = step.capture.iter().map(|(name, source)| self.capture(name, source)).collect();
        Step {
            name,
            shown: format!("{} {}", request.method, *path),
            request,
            expect: step.expect.as_ref().map_or_else(|| vec![Status::Class(2)], |expect| (**expect).clone()),
            think: step.think.as_ref().map_or(AT_ONCE, |think| think.0),
            repeat: step.repeat.as_ref().map_or(ONCE, |repeat| **repeat),
            go_on,
            fields: Step::fields(&captures),
            captures,
        }
    }

    fn capture(&mut self, name: &str, source: &At<Source>) -> Capture {
        let plain = name.starts_with(|letter: char| letter.is_ascii_lowercase())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !plain {
            let hint = "use lowercase letters, digits and '_', a letter first";
            self.mistakes.add_with_hint(source.span(), format!("{name:?} cannot name a variable"), hint);
        } else if BUILT_IN.contains(&name) {
            self.mistakes.add_with_hint(source.span(), format!("{{{name}}} is built in"), "choose another name");
        }
        match &**source {
            Source::Json(pointer) if !pointer.is_empty() && !pointer.starts_with('/') => {
                let message = format!("{pointer:?} is not a JSON pointer (RFC 6901)");
                self.mistakes.add_with_hint(source.span(), message, "it starts with '/', like \"/offers/0/id\"");
            }
            Source::Header(header) if HeaderName::try_from(header.as_str()).is_err() => {
                self.mistakes.add(source.span(), format!("{header:?} is not the name of a field"));
            }
            Source::Json(_) | Source::Header(_) => {}
        }
        let slot = self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        let source = match &**source {
            Source::Json(pointer) => Source::Json(pointer.clone()),
            Source::Header(header) => Source::Header(header.to_ascii_lowercase()),
        };
        Capture { slot, source }
    }

    /// Puts a request together. `guarded` calls show all six fields; the one that opens a session shows two.
    fn request(
        &mut self,
        method: Method,
        path: &At<String>,
        own: &Fields,
        body: Option<&At<String>>,
        guarded: bool,
    ) -> Request {
        if !path.starts_with('/') || path.bytes().any(|byte| byte <= b' ' || byte == 0x7f || byte == b'#') {
            let hint = "it starts with '/' and has no spaces, like \"/offers?page=1\"";
            self.mistakes.add_with_hint(path.span(), format!("{:?} is not a path", **path), hint);
        }
        let mut fields: Vec<(String, At<String>)> = Vec::new();
        let mut default = |name: &str, value: &str| fields.push((name.to_owned(), value.to_owned().into()));
        default("authorization", "Bearer {token}");
        default("client-id", "{client_id}");
        if guarded {
            let session = self.file.session.header.as_ref().map_or("session-id", |header| header.as_str());
            default(&session.to_ascii_lowercase(), "{session_id}");
            default("x-correlation-id", "{uuid}");
            default("accept", "application/json");
        }
        if body.is_some() {
            default("content-type", "application/json");
        }
        for (name, value) in self.file.headers.iter().chain(own) {
            let lower = name.to_ascii_lowercase();
            if HeaderName::try_from(name.as_str()).is_err() {
                self.mistakes.add(value.span(), format!("{name:?} is not the name of a field"));
            } else if OURS.contains(&lower.as_str()) {
                let hint = "the generator writes it itself; leave it out";
                self.mistakes.add_with_hint(value.span(), format!("{name:?} cannot be set"), hint);
            } else if value.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
                self.mistakes.add(value.span(), "a field cannot hold control characters");
            }
            fields.retain(|(known, _)| *known != lower);
            // An empty value takes a default away.
            if !value.is_empty() {
                fields.push((lower, value.clone()));
            }
        }
        let path = self.template(path, Place::Path);
        let fields = fields.into_iter().map(|(name, value)| (name, self.template(&value, Place::Field))).collect();
        let body = body.map(|body| self.template(body, Place::Body));
        Request::new(method, path, fields, body)
    }

    fn template(&mut self, text: &At<String>, place: Place) -> Template {
        let slot = |name: &str| self.names.iter().position(|known| known == name);
        match Template::parse(text, place, slot) {
            Ok(template) => template,
            Err(name) => {
                let known: Vec<&str> = BUILT_IN.iter().copied().chain(self.names.iter().map(String::as_str)).collect();
                let message = format!("nothing before has captured {{{name}}}");
                self.mistakes.add_unknown(text.span(), message, &name, known);
                Template::default()
            }
        }
    }

    fn client(&mut self, client: &Table<file::Client>) -> Option<Client> {
        let id = match &client.id {
            Some(id) if ClientId::parse(id).is_ok() => (**id).clone(),
            Some(id) => {
                let hint = "1 to 128 of A-Z, a-z, 0-9, '.', '_' and '-'";
                self.mistakes.add_with_hint(id.span(), format!("{:?} is not a client-id", **id), hint);
                return None;
            }
            None => {
                self.mistakes.add_with_hint(client.span(), "a client without an id", "write id = \"..\"");
                return None;
            }
        };
        let weight = self.weight(client.weight.as_ref());
        let identity = match (&client.token, &client.secret) {
            (Some(token), None) => Identity::Token((**token).clone()),
            (None, Some(secret)) => Identity::Signed {
                secret: (**secret).clone(),
                subject: client.subject.as_ref().map(|subject| (**subject).clone()),
                subjects: self.subjects(client.subjects.as_ref()),
                claims: self.claims(client),
            },
            (None, None) | (Some(_), Some(_)) => {
                let hint =
                    "write token = { file = \"..\" } for a token you have, or secret = { file = \"..\" } to sign here";
                self.mistakes.add_with_hint(client.span(), "a client has either a token or a secret", hint);
                return None;
            }
        };
        Some(Client { id, weight, identity })
    }

    fn subjects(&mut self, subjects: Option<&At<u32>>) -> u32 {
        match subjects.map(|subjects| (**subjects, subjects.span())) {
            None => 1,
            Some((number @ 1..=100_000, _)) => number,
            Some((_, place)) => {
                self.mistakes.add(place, "a client has from 1 to 100000 subjects");
                1
            }
        }
    }

    fn claims(&mut self, client: &file::Client) -> Map<String, Value> {
        let mut claims = Map::new();
        if let Some(scope) = &client.scope {
            if let Some(wrong) = scope.split_ascii_whitespace().find(|scope| !is_scope_token(scope)) {
                self.mistakes.add(scope.span(), format!("{wrong:?} is not a scope (RFC 6749 section 3.3)"));
            }
            claims.insert("scope".into(), scope.as_str().into());
        }
        for (name, value) in [("iss", &client.issuer), ("aud", &client.audience)] {
            if let Some(value) = value {
                claims.insert(name.into(), value.as_str().into());
            }
        }
        claims.extend(client.claims.clone());
        claims
    }
}
