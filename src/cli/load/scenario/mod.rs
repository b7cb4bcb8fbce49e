//! What virtual clients do: sessions, flows and their steps, ready to be walked.

mod compile;
mod file;
mod request;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use file::{Per, Repeat, Source, Status};
pub use request::Request;
use sessiongate::config::{ConfigErrors, other};

use super::chance::{Chance, Think};

/// The scenarios that are built in, by name.
pub const BUILT_IN: [(&str, &str); 2] =
    [("ordering", include_str!("ordering.toml")), ("plain", include_str!("plain.toml"))];

/// A scenario.
#[derive(Debug)]
pub struct Scenario {
    /// Its name, for reports.
    pub name: String,
    /// What a session is for.
    pub per: Per,
    /// The clients it names itself.
    pub clients: Vec<Client>,
    /// At least one.
    pub flows: Vec<Flow>,
    /// All calls, in the order of reports: the one that opens a session, those of the flows, the one that closes it.
    pub steps: Vec<Step>,
    /// Whether a walk that came to its end closes its session.
    pub close: bool,
}

/// Who calls.
#[derive(Debug)]
pub struct Client {
    /// Its client-id.
    pub id: String,
    /// How often it is chosen, relative to others.
    pub weight: f64,
    /// How it authorizes.
    pub identity: Identity,
}

/// How a client authorizes.
#[derive(Debug)]
pub enum Identity {
    /// By a token that somebody else made.
    Token(sessiongate::config::raw::SecretRef),
    /// By tokens signed here.
    Signed {
        /// The secret to sign with.
        secret: sessiongate::config::raw::SecretRef,
        /// The name of its users.
        subject: Option<String>,
        /// How many users it has.
        subjects: u32,
        /// All other claims.
        claims: serde_json::Map<String, serde_json::Value>,
    },
}

/// A way through the API.
#[derive(Debug)]
pub struct Flow {
    /// Its name.
    pub name: String,
    /// How often it is chosen, relative to others.
    pub weight: f64,
    /// Its steps, as places in [`Scenario::steps`]; at least one.
    pub steps: std::ops::Range<usize>,
    /// How many values its steps capture.
    pub slots: usize,
}

/// A call.
#[derive(Debug)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// Its method and path as written, for reports.
    pub shown: String,
    /// What is sent.
    pub request: Request,
    /// What must come.
    pub expect: Vec<Status>,
    /// The pause before it.
    pub think: Think,
    /// How many times it is made.
    pub repeat: Repeat,
    /// The probability that the walk goes on after it.
    pub go_on: f64,
    /// What is kept of the answer.
    pub captures: Vec<Capture>,
    /// The fields that those are in, in their order; names in lowercase.
    pub fields: Vec<String>,
}

/// A value of an answer that later steps use.
#[derive(Debug, Clone)]
pub struct Capture {
    /// Where it is put.
    pub slot: usize,
    /// Where it is found.
    pub source: Source,
}

impl Step {
    /// Whether `status` is one that must come.
    pub fn expects(&self, status: u16) -> bool {
        self.expect.iter().any(|expected| match expected {
            Status::Exactly(exactly) => *exactly == status,
            Status::Class(class) => *class == status / 100,
        })
    }

    /// The fields that `captures` are in.
    fn fields(captures: &[Capture]) -> Vec<String> {
        let names = captures.iter().filter_map(|capture| match &capture.source {
            Source::Header(name) => Some(name.clone()),
            Source::Json(_) => None,
        });
        names.collect()
    }

    /// Whether the body of an expected answer is needed.
    pub fn needs_body(&self) -> bool {
        self.captures.iter().any(|capture| matches!(capture.source, Source::Json(_)))
    }
}

impl Scenario {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, super::Failure> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| super::Failure::Input(format!("cannot read the scenario {}: {error}", path.display())))?;
        Ok(Self::parse(&text, &path.display().to_string())?)
    }

    /// Reads `text`; `origin` stands for it in messages.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ConfigErrors> {
        other::read(text, origin, compile::compile)
    }

    /// The call that opens a session.
    pub fn opening(&self) -> &Step {
        &self.steps[0]
    }

    /// The place of the call that closes a session.
    pub fn closing(&self) -> usize {
        self.steps.len() - 1
    }

    /// How many calls a walk makes on average, sessions of connections aside.
    pub fn calls_per_walk(&self) -> f64 {
        let weights: f64 = self.flows.iter().map(|flow| flow.weight).sum();
        let per_flow = self.flows.iter().map(|flow| {
            let mut reached = 1.0;
            let mut calls = if self.per == Per::Walk { 1.0 } else { 0.0 };
            for step in &self.steps[flow.steps.clone()] {
                calls += reached * (step.repeat.low + step.repeat.high) as f64 / 2.0;
                reached *= step.go_on;
            }
            // The last step is followed by nothing, so its probability to go on is 1.
            let closed = if self.close && self.per == Per::Walk { reached } else { 0.0 };
            flow.weight * (calls + closed)
        });
        per_flow.sum::<f64>() / weights
    }

    /// The flow of a walk.
    pub fn choose_flow(&self, chance: &mut Chance) -> usize {
        chance.choose(self.flows.iter().map(|flow| flow.weight))
    }
}
