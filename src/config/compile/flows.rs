//! Flows: the order of steps, checked for what no session could do.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::config::nearest::{did_you_mean, listed};
use crate::config::raw::{self, At, File, IdempotencyRule, Period, Table};
use crate::policy::flow::graph::{Obstacle, obstacle, reachable};
use crate::policy::flow::{
    Binding, COUNTERS_MAX, Flow, Flows, Idempotency, MaxAttempts, STEPS_MAX, Step, StepId, StepSet,
};
use crate::policy::method::{MethodSet, Verb};
use crate::policy::route::{Action, Route, RouteTable};
use crate::policy::severity::Severity;

use super::context::Context;
use super::headers;
use super::routes;

/// For how long after the last step calls that only read are taken.
const READ_GRACE: Duration = Duration::from_secs(15 * 60);

/// Longest gap between two steps.
const GAP_MAX: Period = Period::secs(7 * 24 * 3600);

const READS: MethodSet = MethodSet::NONE.with(Verb::Get).with(Verb::Head);

pub(super) fn flows(cx: &mut Context<'_>, file: &File, table: &RouteTable) -> Flows {
    let (mut flows, mut names, mut clients) = (Vec::new(), Vec::new(), Vec::new());
    let mut for_all = None;
    for written in &file.flows {
        let name = cx.name("flow", written.name.as_ref(), written.span(), "ordering", &names).unwrap_or_default();
        names.push(name);
        for client in &written.clients {
            if clients.contains(&client.as_str()) {
                cx.mistake(client.span(), format!("the client {:?} has a flow already", &**client));
            }
            clients.push(client);
        }
        if written.clients.is_empty()
            && let Some(other) = for_all.replace(name)
        {
            let message = format!("the flow {other:?} is for all clients already");
            cx.mistake_hint(written.span(), message, "write clients = [..] in one of them");
        }
        let flow = Compile { file, table, written }.flow(cx, name);
        flows.push((written.clients.iter().map(|client| client.as_str().into()).collect(), Arc::new(flow)));
    }
    Flows::new(flows)
}

/// One flow while it is compiled.
struct Compile<'f> {
    file: &'f File,
    table: &'f RouteTable,
    written: &'f Table<raw::Flow>,
}

impl<'f> Compile<'f> {
    fn flow(&self, cx: &mut Context<'_>, name: &str) -> Flow {
        let steps = &self.written.steps;
        if steps.is_empty() {
            let hint = "add [[flows.steps]] with a name and routes";
            cx.missing(self.written.span(), "steps", "the flow has no step", hint);
        }
        if let Some(extra) = steps.get(STEPS_MAX) {
            cx.mistake(extra.span(), format!("there are more than {STEPS_MAX} steps in this flow"));
        }
        let mut names = Vec::with_capacity(steps.len());
        for step in steps {
            names.push(cx.name("step", step.name.as_ref(), step.span(), "order", &names).unwrap_or_default());
        }
        let (mut compiled, mut bindings, mut counters) = (Vec::new(), Vec::new(), 0);
        for (place, written) in steps.iter().enumerate() {
            let Some(id) = StepId::at(place) else { break };
            let bound = self.bindings(cx, written, id, &bindings);
            let writes = bound.iter().any(Binding::writes);
            bindings.extend(bound);
            compiled.push(self.step(cx, written, &names, place, writes, &mut counters));
        }
        let reached = reachable(&compiled);
        for (place, written) in steps.iter().enumerate().take(STEPS_MAX) {
            let Some(id) = StepId::at(place).filter(|id| !reached.contains(*id)) else { continue };
            let at = written.after.span();
            let name = |id: StepId| names.get(id.place()).copied().unwrap_or_default();
            match obstacle(&compiled, id) {
                Obstacle::Circle(steps) => {
                    let circle: Vec<String> = steps.iter().map(|id| format!("{:?}", name(id))).collect();
                    let message =
                        format!("no session can reach this step: {} wait for each other", circle.join(" and "));
                    let message = if circle.len() == 1 { "this step waits for itself".to_owned() } else { message };
                    cx.mistake_hint(at, message, "let one of them come first, or wait for any = [..] of several");
                }
                Obstacle::Behind(first) => {
                    let message =
                        format!("no session can reach this step: it waits for {:?}, which none can", name(first));
                    cx.mistake(at, message);
                }
            }
        }
        Flow::new(Arc::from(name), compiled, bindings)
    }

    fn step(
        &self,
        cx: &mut Context<'_>,
        written: &Table<raw::FlowStep>,
        names: &[&str],
        place: usize,
        writes: bool,
        counters: &mut u8,
    ) -> Step {
        let [after_all, after_any] =
            [&written.after.all, &written.after.any].map(|list| self.after(cx, list, names, place));
        let gap =
            |cx: &mut Context<'_>, period: &At<Period>| cx.within(period, Period(Duration::from_millis(1))..=GAP_MAX).0;
        let min_gap = written.min_gap.as_ref().map(|period| gap(cx, period));
        let max_gap = written.max_gap.as_ref().map(|period| gap(cx, period));
        if let (Some(least), Some(most), Some(at)) = (min_gap, max_gap, &written.max_gap)
            && least > most
        {
            cx.mistake(at.span(), format!("max_gap ({}) is shorter than min_gap ({})", Period(most), Period(least)));
        }
        let max_attempts = written.max_attempts.as_ref().map(|most| {
            let limit = MaxAttempts { counter: *counters, most: u8::try_from(cx.within(most, 1..=255)).unwrap_or(1) };
            if *written.repeat && **most == 1 {
                cx.mistake_hint(most.span(), "a step that may be tried once cannot be repeated", "remove one of them");
            }
            *counters = counters.saturating_add(1);
            if usize::from(*counters) == COUNTERS_MAX + 1 {
                cx.mistake(most.span(), format!("more than {COUNTERS_MAX} steps of this flow have max_attempts"));
            }
            limit
        });
        let idempotency = match written.idempotency.as_deref() {
            Some(IdempotencyRule::Required) => Idempotency::Required,
            Some(IdempotencyRule::Off) => Idempotency::Off,
            Some(IdempotencyRule::Optional) | None => Idempotency::Optional,
        };
        self.refuse_contradictions(cx, written, writes);
        Step {
            name: names.get(place).copied().unwrap_or_default().into(),
            after_all,
            after_any,
            repeat: *written.repeat,
            exclusive: *written.exclusive,
            max_attempts,
            min_gap,
            max_gap,
            terminal: written.terminal.then(|| written.read_grace.as_ref().map_or(READ_GRACE, |at| gap(cx, at))),
            idempotency,
            severity: written.severity.as_deref().map_or(Severity::Enforce, |severity| headers::severity(*severity)),
        }
    }

    fn refuse_contradictions(&self, cx: &mut Context<'_>, written: &raw::FlowStep, writes: bool) {
        if *written.terminal && *written.repeat {
            let message = "the last step cannot be repeated: after it no step can be done";
            cx.mistake_hint(written.repeat.span(), message, "remove repeat or terminal");
        }
        if let Some(grace) = written.read_grace.as_ref().filter(|_| !*written.terminal) {
            let message = "read_grace is about the time after the last step, and this is none";
            cx.mistake_hint(grace.span(), message, "remove it, or write terminal = true");
        }
        // Without a route that is there, nobody knows what it does.
        if writes || written.routes.iter().all(|name| self.route(name).is_none()) {
            return;
        }
        let only = "its methods only read";
        if *written.exclusive {
            let message = format!("the step has nothing to suffer from another one: {only}");
            cx.mistake_hint(written.exclusive.span(), message, "remove exclusive");
        }
        if let Some(rule) = written.idempotency.as_ref().filter(|rule| ***rule == IdempotencyRule::Required) {
            cx.mistake_hint(rule.span(), format!("there is nothing to repeat: {only}"), "remove idempotency");
        }
    }

    fn after(&self, cx: &mut Context<'_>, list: &[At<String>], names: &[&str], place: usize) -> StepSet {
        let mut set = StepSet::NONE;
        for name in list {
            let found = names.iter().position(|known| *known == name.as_str());
            let Some(found) = found.and_then(StepId::at) else {
                let guess = did_you_mean(name, names.iter().copied());
                let guess = guess.or_else(|| Some(format!("there is {}", listed(names))));
                cx.mistake_guess(name.span(), format!("no step of this flow is named {:?}", &**name), guess);
                continue;
            };
            if found.place() == place {
                cx.mistake(name.span(), "a step cannot come after itself");
            } else if set.contains(found) {
                cx.mistake(name.span(), format!("{:?} is listed twice", &**name));
            } else if self.written.steps.get(found.place()).is_some_and(|step| *step.terminal) {
                cx.mistake(name.span(), format!("nothing comes after {:?}: it is terminal", &**name));
                // Said once; that nobody reaches it follows from it.
                set = set.with(found);
            } else {
                set = set.with(found);
            }
        }
        set
    }

    fn route(&self, name: &str) -> Option<&'f Route> {
        self.table.routes().iter().find(|route| *route.name == *name)
    }

    /// The calls that a step is.
    fn bindings(
        &self,
        cx: &mut Context<'_>,
        written: &Table<raw::FlowStep>,
        step: StepId,
        others: &[Binding],
    ) -> Vec<Binding> {
        if written.routes.is_empty() {
            cx.missing(written.span(), "routes", "the step has no route", "write routes = [\"order\"]");
        }
        let wanted = written.methods.as_ref().map(|list| routes::methods(cx, Some(list), written.span()));
        if let Some(list) = written.methods.as_ref().filter(|_| wanted.is_some_and(|set| set.contains(Verb::Options))) {
            cx.mistake(list.span(), "OPTIONS asks what can be done, and is no step");
        }
        let mut found: Vec<(Range<usize>, &Route)> = Vec::new();
        for name in &written.routes {
            match self.route(name) {
                Some(route) if found.iter().any(|(_, other)| other.name == route.name) => {
                    cx.mistake(name.span(), format!("{:?} is listed twice", &**name));
                }
                Some(route) if route.action == Action::Session => {
                    cx.mistake(name.span(), "the session endpoint is no step: it opens, shows and closes the session");
                }
                Some(route) if route.exempt => {
                    let message = format!("the route {:?} is exempt: its calls have no session", &**name);
                    cx.mistake(name.span(), message);
                }
                Some(route) => found.push((name.span(), route)),
                None => self.unknown_route(cx, name),
            }
        }
        // Calls that only read are steps where nothing else is.
        let all = found.iter().fold(MethodSet::NONE, |all, (_, route)| all.union(route.methods));
        let changing = [Verb::Post, Verb::Put, Verb::Patch, Verb::Delete];
        let changing = changing.into_iter().fold(MethodSet::NONE, MethodSet::with).intersection(all);
        let usual = if changing.is_empty() { READS } else { changing };
        let mut bindings = Vec::with_capacity(found.len());
        for (at, route) in found {
            let methods = route.methods.intersection(wanted.unwrap_or(usual));
            if methods.is_empty() {
                let message = format!("the route {:?} takes none of the methods of this step", &*route.name);
                cx.mistake_hint(at, message, format!("it takes {}", route.methods));
                continue;
            }
            let clash = others
                .iter()
                .find(|other| other.route == route.name && !other.methods.intersection(methods).is_empty());
            if let Some(other) = clash {
                let step = self.written.steps.get(other.step.place()).and_then(|step| step.name.as_deref());
                let (methods, step) = (other.methods.intersection(methods), step.map_or("-", String::as_str));
                let message = format!("{methods} of the route {:?} is step {step:?} already", &*route.name);
                cx.mistake_hint(at, message, "write methods = [..] to tell them apart");
                continue;
            }
            bindings.push(Binding { route: Arc::clone(&route.name), methods, step });
        }
        bindings
    }

    fn unknown_route(&self, cx: &mut Context<'_>, name: &At<String>) {
        let all = || self.file.routes.iter().filter_map(|route| route.name.as_deref().map(String::as_str));
        // One that is there and has a mistake of its own is not unknown.
        if all().any(|known| known == name.as_str()) || self.file.routes.is_empty() {
            return;
        }
        let guess = did_you_mean(name, all()).or_else(|| {
            let some: Vec<&str> = all().take(5).collect();
            Some(format!("there is {}", listed(&some)))
        });
        cx.mistake_guess(name.span(), format!("no route is named {:?}", &**name), guess);
    }
}
