//! One walk of a virtual client: it opens a session and goes through a flow, step by step.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;
use sessiongate::timer::{Elapsed, Timer};

use super::alarm::Alarms;
use super::chance::Chance;
use super::credentials::{Credential, Credentials};
use super::http::{Answer, CallError, Wanted};
use super::measure::{Ended, Measurements, Window};
use super::pool::{Pool, Taken};
use super::scenario::{Flow, Per, Scenario, Source, Step};
use super::target::Target;
use super::template::Values;

/// What all walks of a thread share.
pub struct Ground {
    /// What is walked.
    pub scenario: Arc<Scenario>,
    /// Who walks.
    pub credentials: Arc<Credentials>,
    /// What is called.
    pub target: Arc<Target>,
    /// The connections of the thread.
    pub pool: Arc<Pool>,
    /// For time-outs.
    pub timer: Timer,
    /// For pauses.
    pub alarms: Alarms,
    /// What the thread measures.
    pub measured: Arc<Mutex<Measurements>>,
    /// When the run takes place.
    pub window: Window,
    /// How long a call may take.
    pub timeout: Duration,
    /// Whether clients think.
    pub think: bool,
    /// The seed of all chance.
    pub seed: u64,
    /// Calls that were sent and have not ended.
    pub running: AtomicU64,
}

/// A walk ends here because a call did not come out as expected.
struct Failed;

struct Walk<'g> {
    ground: &'g Ground,
    number: u64,
    /// Whether it belongs to the measurement or the warm-up.
    counts: bool,
    chance: Chance,
    credential: &'g Credential,
    session_id: String,
    captured: Vec<String>,
    answer: Answer,
    taken: Option<Taken>,
}

impl Ground {
    /// Walks, as it was meant to begin at `intended`.
    pub async fn walk(&self, number: u64, intended: Instant) {
        let mut chance = Chance::of_walk(self.seed, number);
        let flow_place = self.scenario.choose_flow(&mut chance);
        let flow = &self.scenario.flows[flow_place];
        let mut walk = Walk::new(self, number, chance, intended >= self.window.measured);
        walk.captured.resize(flow.slots, String::new());
        if walk.counts {
            self.measured.lock().walk(&self.window, flow_place, intended, Instant::now());
        }
        let done = walk.through(flow_place, flow, intended).await;
        if walk.counts {
            let mut measured = self.measured.lock();
            let counts = &mut measured.flows[flow_place];
            match done {
                Ok(true) => counts.completed += 1,
                Ok(false) => {}
                Err(Failed) => counts.failed += 1,
            }
        }
    }

    /// Opens a connection and a session on it, before the run; none if it cannot be done.
    pub async fn prepare(&self, number: u64) -> Option<Taken> {
        let mut walk = Walk::new(self, number, Chance::of_walk(self.seed ^ 1, number), true);
        walk.open_on_line(Instant::now()).await.ok()?;
        walk.taken
    }
}

impl Credential {
    /// The values of a call.
    pub fn values<'v>(
        &'v self,
        ground: &'v Ground,
        number: u64,
        repeat: u64,
        session_id: &'v str,
        captured: &'v [String],
    ) -> Values<'v> {
        let (client_id, subject, token) = (self.client_id.as_str(), self.subject.as_str(), self.token.as_str());
        Values { authority: &ground.target.authority, token, client_id, subject, session_id, number, repeat, captured }
    }
}

impl<'g> Walk<'g> {
    fn new(ground: &'g Ground, number: u64, mut chance: Chance, counts: bool) -> Self {
        let credential = ground.credentials.choose(&mut chance);
        Self {
            ground,
            number,
            counts,
            chance,
            credential,
            session_id: String::new(),
            captured: Vec::new(),
            answer: Answer::default(),
            taken: None,
        }
    }

    /// Whether it came to the end of the flow.
    async fn through(&mut self, place: usize, flow: &Flow, intended: Instant) -> Result<bool, Failed> {
        let ground = self.ground;
        let mut intended = intended;
        let per_line = ground.scenario.per == Per::Connection;
        if per_line {
            self.open_on_line(intended).await?;
        } else {
            self.call(0, 0, intended).await?;
            intended = Instant::now();
        }
        self.count(|measured| measured.flows[place].opened += 1);
        let last = flow.steps.len() - 1;
        for (at, index) in flow.steps.clone().enumerate() {
            let step = &ground.scenario.steps[index];
            self.count(|measured| measured.flows[place].reached[at] += 1);
            for repeat in 0..self.chance.between(step.repeat.low, step.repeat.high) {
                let pause = step.think.draw(&mut self.chance);
                if ground.think && !pause.is_zero() {
                    intended += pause;
                    ground.alarms.sleep_until(intended).await;
                }
                self.call(index, repeat, intended).await?;
                intended = Instant::now();
            }
            if at < last && !self.chance.happens(step.go_on) {
                self.count(|measured| measured.flows[place].left[at] += 1);
                return Ok(false);
            }
        }
        if ground.scenario.close && !per_line {
            self.call(ground.scenario.closing(), 0, intended).await?;
        }
        Ok(true)
    }

    fn count(&self, change: impl FnOnce(&mut Measurements)) {
        if self.counts {
            change(&mut self.ground.measured.lock());
        }
    }

    /// Takes a connection for the whole walk, and opens a session on it if there is none.
    async fn open_on_line(&mut self, intended: Instant) -> Result<(), Failed> {
        let ground = self.ground;
        self.take(0, intended).await?;
        let known = self.taken.as_ref().and_then(|taken| taken.line.as_ref()?.session.as_ref());
        if let Some((client, session)) = known {
            self.credential = ground.credentials.all().get(*client).unwrap_or(self.credential);
            self.session_id.clone_from(session);
            return Ok(());
        }
        self.call(0, 0, intended).await?;
        let client = ground.credentials.all().iter().position(|known| std::ptr::eq(known, self.credential));
        if let Some(line) = self.taken.as_mut().and_then(|taken| taken.line.as_mut()) {
            line.session = client.map(|client| (client, self.session_id.clone()));
        }
        Ok(())
    }

    async fn take(&mut self, step: usize, intended: Instant) -> Result<(), Failed> {
        let taken = self.ground.timer.timeout(self.ground.timeout, self.ground.pool.take()).await;
        let error = match taken {
            Ok(Ok(taken)) => {
                self.taken = Some(taken);
                return Ok(());
            }
            Ok(Err(_)) => CallError::Connect,
            Err(Elapsed) => CallError::Timeout,
        };
        self.ended(step, intended, None, Err(error));
        Err(Failed)
    }

    async fn call(&mut self, index: usize, repeat: u64, intended: Instant) -> Result<(), Failed> {
        let ground = self.ground;
        let step = &ground.scenario.steps[index];
        if self.taken.as_ref().is_none_or(|taken| taken.line.is_none()) {
            self.take(index, intended).await?;
        }
        let Some(line) = self.taken.as_mut().and_then(|taken| taken.line.as_mut()) else { return Err(Failed) };
        let sent = Instant::now();
        ground.running.fetch_add(1, Ordering::Relaxed);
        let values = self.credential.values(ground, self.number, repeat, &self.session_id, &self.captured);
        // Bodies of refusals say why.
        let body = |status| step.needs_body() || !step.expects(status);
        let wanted = Wanted { fields: &step.fields, body: &body };
        let exchange = line.wire.exchange(&step.request, &values, &mut self.chance, wanted, &mut self.answer);
        let outcome = match ground.timer.timeout(ground.timeout, exchange).await {
            Err(Elapsed) => Err(CallError::Timeout),
            Ok(Err(error)) => Err(error),
            Ok(Ok(())) => Ok(self.answer.status),
        };
        ground.running.fetch_sub(1, Ordering::Relaxed);
        let expected = self.ended(index, intended, Some(sent), outcome);
        if outcome.is_err() || !expected {
            // Over HTTP/1.1 nothing more can be said on this connection, or its session has ended.
            if let Some(line) = self.taken.as_mut().and_then(|taken| taken.line.as_mut()) {
                line.session = None;
            }
        }
        let captured = if expected { self.capture(index, step) } else { Err(Failed) };
        if ground.scenario.per == Per::Walk {
            self.taken = None;
        }
        captured
    }

    /// Counts a call that ended; whether it came out as expected.
    fn ended(
        &mut self,
        index: usize,
        intended: Instant,
        sent: Option<Instant>,
        outcome: Result<u16, CallError>,
    ) -> bool {
        let expected = outcome.is_ok_and(|status| self.ground.scenario.steps[index].expects(status));
        let mut measured = self.ground.measured.lock();
        if !self.counts {
            measured.warm_up_call(intended.elapsed());
            return expected;
        }
        measured.call(&self.ground.window, index, &Ended { intended, sent, at: Instant::now(), outcome, expected });
        if outcome.is_ok()
            && !expected
            && let Some(code) = problem(&self.answer.body, "code")
        {
            // Codes are words of the gate; anything longer is not one of them.
            *measured.problems.entry(code.chars().take(64).collect()).or_default() += 1;
        }
        expected
    }

    fn capture(&mut self, index: usize, step: &Step) -> Result<(), Failed> {
        let mut fields = self.answer.fields.iter_mut();
        let mut json = None;
        for capture in &step.captures {
            let value = match &capture.source {
                Source::Header(_) => fields.next().and_then(Option::take),
                Source::Json(pointer) => {
                    let body =
                        json.get_or_insert_with(|| serde_json::from_slice(&self.answer.body).unwrap_or(Value::Null));
                    match body.pointer(pointer) {
                        Some(Value::String(text)) => Some(text.clone()),
                        Some(value @ (Value::Number(_) | Value::Bool(_))) => Some(value.to_string()),
                        Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => None,
                    }
                }
            };
            // What has line ends in it could become another header field.
            let Some(value) =
                value.filter(|value| !value.is_empty() && !value.bytes().any(|byte| byte < b' ' || byte == 0x7f))
            else {
                self.count(|measured| measured.not_captured(index));
                return Err(Failed);
            };
            match self.captured.get_mut(capture.slot) {
                _ if index == 0 => self.session_id = value,
                Some(slot) => *slot = value,
                None => {}
            }
        }
        Ok(())
    }
}

/// A member of a problem body (RFC 9457).
pub fn problem(body: &[u8], member: &str) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    body.get(member)?.as_str().map(str::to_owned)
}
