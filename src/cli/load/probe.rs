//! One call before the run: what would be wrong with every call is said at once.

use sessiongate::timer::Elapsed;

use super::chance::Chance;
use super::http::{Answer, Wanted};
use super::scenario::Step;
use super::target::DialError;
use super::walk::{Ground, problem};

impl Ground {
    /// Asks for a session once, and gives it back: what would be wrong with all calls is found before the run.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub async fn probe(&self) -> Result<(), String> {
        let credential = self.credentials.all().first().ok_or("there are no credentials")?;
        let (mut chance, mut answer) = (Chance::of_walk(self.seed ^ 2, 0), Answer::default());
        let opening = self.scenario.opening();
        let mut taken = self.timer.timeout(self.timeout, self.pool.take()).await;
        let taken = match &mut taken {
            Ok(Ok(taken)) => taken,
            Ok(Err(error)) => return Err(explained(error)),
            Err(Elapsed) => return Err(format!("no connection to {} in time", self.target.authority)),
        };
        let line = taken.line.as_mut().ok_or("there is no connection")?;
        let wanted = Wanted { fields: &opening.fields, body: &|_| true };
        let values = credential.values(self, 0, 0, "", &[]);
        let exchange = line.wire.exchange(&opening.request, &values, &mut chance, wanted, &mut answer);
        match self.timer.timeout(self.timeout, exchange).await {
            Err(Elapsed) => return Err(format!("{} does not answer {}", self.target.authority, opening.shown)),
            Ok(Err(error)) => {
                return Err(format!(
                    "{} gives no answer to {}: {}",
                    self.target.authority,
                    opening.shown,
                    error.name()
                ));
            }
            Ok(Ok(())) => {}
        }
        if !opening.expects(answer.status) {
            return Err(refused(opening, &answer));
        }
        let Some(session) = answer.fields.first_mut().and_then(Option::take) else {
            return Err(format!("the answer to {} has no {}", opening.shown, opening.fields.join(", ")));
        };
        let closing = &self.scenario.steps[self.scenario.closing()];
        let values = credential.values(self, 0, 0, &session, &[]);
        let exchange = line.wire.exchange(&closing.request, &values, &mut chance, wanted, &mut answer);
        // It would end by itself; that it does so now is a courtesy.
        _ = self.timer.timeout(self.timeout, exchange).await;
        Ok(())
    }
}

fn refused(step: &Step, answer: &Answer) -> String {
    let mut text = format!("{} was answered with {}", step.shown, answer.status);
    if let Some(code) = problem(&answer.body, "code") {
        text.push_str(&format!(" {code}"));
    }
    if let Some(detail) = problem(&answer.body, "detail") {
        text.push_str(&format!(": {detail}"));
    }
    text
}

fn explained(error: &DialError) -> String {
    match error {
        DialError::Connect { .. } => format!("{error}; is the target running?"),
        DialError::Tls { .. } => {
            format!("{error}; give --ca FILE, or --insecure for a certificate that nobody vouches for")
        }
        DialError::NoHttp2 { .. } | DialError::Http2 { .. } => error.to_string(),
    }
}
