//! From the file to its scenarios.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, Method, Uri};
use sessiongate::config::other::Mistakes;
use sessiongate::config::raw::{At, Table};
use sessiongate::policy::ids::is_client_id;
use sessiongate::policy::rejection::TABLE;
use sessiongate::policy::scopes::is_scope_token;
use sessiongate::policy::session::Standing;

use super::file::{self, Answer, File};
use super::{Call, Expected, Fields, Scenario, Suite, Who};

/// What a call is expected to be that is not refused.
const OK: &str = "ok";

pub(super) fn compile(file: &File, text: &str, origin: &str, mistakes: &mut Mistakes) -> Suite {
    if file.scenario.is_empty() {
        mistakes.add_with_hint(0..0, "there is no scenario", "add [[scenario]] with a name and [[scenario.call]]");
    }
    let mut compiler = Compiler { text, mistakes };
    let mut scenarios: Vec<Scenario> = Vec::with_capacity(file.scenario.len());
    for written in &file.scenario {
        let scenario = compiler.scenario(written);
        if scenarios.iter().any(|other| other.name == scenario.name) && !scenario.name.is_empty() {
            let message = format!("there are two scenarios {:?}", scenario.name);
            compiler.mistakes.add_with_hint(written.span(), message, "give each a name");
        }
        scenarios.push(scenario);
    }
    let config = file.config.as_ref().map(|config| config.as_str().into());
    Suite { origin: origin.to_owned(), config, scenarios }
}

struct Compiler<'a> {
    text: &'a str,
    mistakes: &'a mut Mistakes,
}

impl Compiler<'_> {
    fn scenario(&mut self, written: &Table<file::Scenario>) -> Scenario {
        let name = written.name.as_ref().map_or("", |name| name.trim());
        if name.is_empty() {
            let place = written.name.as_ref().map_or(written.span(), At::span);
            self.mistakes.add_with_hint(place, "the scenario has no name", "write name = \"..\", what it shows");
        }
        if written.call.is_empty() {
            self.mistakes.add_with_hint(written.span(), "the scenario has no call", "add [[scenario.call]]");
        }
        Scenario {
            name: name.to_owned(),
            who: self.who(written.client.as_ref(), written.subject.as_ref(), written.scopes.as_deref()),
            headers: self.fields(&written.headers),
            calls: written.call.iter().map(|call| self.call(call)).collect(),
        }
    }

    fn call(&mut self, written: &Table<file::Call>) -> Call {
        let method = match &written.method {
            None => Method::GET,
            Some(method) => Method::from_bytes(method.as_bytes()).unwrap_or_else(|_| {
                self.mistakes.add_with_hint(method.span(), format!("{:?} is not a method", &**method), "like \"POST\"");
                Method::GET
            }),
        };
        let uri = match &written.path {
            None => {
                self.mistakes.add_with_hint(written.span(), "\"path\" is missing", "write path = \"/offers\"");
                Uri::default()
            }
            Some(path) => match path.parse::<Uri>() {
                Ok(uri) if path.starts_with('/') && uri.authority().is_none() => uri,
                _ => {
                    let message = format!("{:?} is not a path", &**path);
                    self.mistakes.add_with_hint(path.span(), message, "it starts with / and may have a query");
                    Uri::default()
                }
            },
        };
        let answer = written.answer.as_deref().copied().unwrap_or(Answer::Status(200));
        Call {
            line: self.text.get(..written.span().start).unwrap_or_default().matches('\n').count() + 1,
            method,
            uri,
            after: written.after.as_ref().map_or_else(Default::default, |after| after.0),
            who: self.who(written.client.as_ref(), written.subject.as_ref(), written.scopes.as_deref()),
            headers: self.fields(&written.headers),
            body: written.body.as_ref().map(|body| (**body).clone()),
            answer,
            expect: self.expected(written, answer),
        }
    }

    fn expected(&mut self, written: &file::Call, answer: Answer) -> Expected {
        let code = match &written.expect {
            // Who says that the upstream fails expects what clients are told then.
            None => answer.rejection().map(|rejection| rejection.code()),
            Some(expect) if expect.as_str() == OK => None,
            Some(expect) => {
                let codes = TABLE.iter().map(|row| row.code);
                let known = codes.clone().find(|code| *code == expect.as_str());
                if known.is_none() {
                    let message = format!("{:?} is neither \"ok\" nor a problem code", &**expect);
                    self.mistakes.add_unknown(expect.span(), message, expect, std::iter::once(OK).chain(codes));
                }
                known
            }
        };
        let reason = written.reason.as_ref().and_then(|reason| {
            let known = TABLE.iter().find(|row| row.reason == reason.as_str());
            match known {
                None => {
                    let message = format!("{:?} is not a reason of a refusal", &**reason);
                    self.mistakes.add_unknown(reason.span(), message, reason, TABLE.iter().map(|row| row.reason));
                }
                Some(row) if code != Some(row.code) => {
                    let hint = format!("write expect = {:?}", row.code);
                    self.mistakes.add_with_hint(reason.span(), "this is the reason of another refusal", hint);
                }
                Some(_) => {}
            }
            known.map(|row| row.reason)
        });
        let session = written.session.as_ref().map(|session| {
            let states = Standing::ALL.into_iter().map(Standing::as_str);
            if !states.clone().any(|state| state == session.as_str()) {
                let message = format!("{:?} is not a state of a session", &**session);
                self.mistakes.add_unknown(session.span(), message, session, states);
            }
            (**session).clone()
        });
        Expected {
            code,
            reason,
            replayed: written.replayed,
            step: written.step.as_ref().map(|step| Some((**step).clone()).filter(|step| !step.is_empty())),
            allowed_next: written
                .allowed_next
                .as_ref()
                .map(|steps| steps.iter().map(|step| (**step).clone()).collect()),
            session,
        }
    }

    fn who(&mut self, client: Option<&At<String>>, subject: Option<&At<String>>, scopes: Option<&[At<String>]>) -> Who {
        if let Some(client) = client.filter(|client| !is_client_id(client.as_bytes())) {
            self.mistakes.add(client.span(), format!("{:?} is not a client-id", &**client));
        }
        for scope in scopes.into_iter().flatten().filter(|scope| !is_scope_token(scope)) {
            self.mistakes.add(scope.span(), format!("{:?} is not a scope token (RFC 6749 section 3.3)", &**scope));
        }
        Who {
            client: client.map(|client| (**client).clone()),
            subject: subject.map(|subject| (**subject).clone()),
            scopes: scopes.map(|scopes| scopes.iter().map(|scope| (**scope).clone()).collect()),
        }
    }

    fn fields(&mut self, written: &BTreeMap<String, At<String>>) -> Fields {
        let mut fields = Fields::with_capacity(written.len());
        for (name, value) in written {
            match (HeaderName::try_from(name.as_str()), HeaderValue::from_str(value)) {
                (Ok(name), Ok(sent)) => fields.push((name, Some(sent).filter(|sent| !sent.is_empty()))),
                (Err(_), _) => self.mistakes.add(value.span(), format!("{name:?} is not the name of a header field")),
                (_, Err(_)) => self.mistakes.add(value.span(), "this is no value of a header field"),
            }
        }
        fields
    }
}
