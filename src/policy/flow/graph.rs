//! Which steps of a flow no session can ever reach.

use super::{Step, StepId, StepSet};

/// What stands in the way of a step that cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// It waits for steps that wait for it: these, itself included.
    Circle(StepSet),
    /// It waits for a step that cannot be reached itself.
    Behind(StepId),
}

/// Steps that some session can reach: those that wait for nothing, and those whose conditions can be met by others that can
/// be reached.
#[must_use]
pub fn reachable(steps: &[Step]) -> StepSet {
    let mut reached = StepSet::NONE;
    loop {
        let opened = |step: &Step| {
            step.after_all.is_within(reached) && (step.after_any.is_empty() || step.after_any.meets(reached))
        };
        let places = steps.iter().enumerate().filter(|(_, step)| opened(step));
        let next: StepSet = places.filter_map(|(place, _)| StepId::at(place)).collect();
        if next == reached {
            return reached;
        }
        reached = next;
    }
}

/// Why a step that is not [`reachable`] is not.
#[must_use]
pub fn obstacle(steps: &[Step], step: StepId) -> Obstacle {
    let reached = reachable(steps);
    let waits = |step: StepId| {
        let after = steps.get(step.place()).map_or(StepSet::NONE, |step| step.after_all.union(step.after_any));
        after.iter().filter(|before| !reached.contains(*before)).collect::<StepSet>()
    };
    // Everything that a step waits for, directly or not.
    let behind = |step: StepId| {
        let (mut found, mut more) = (StepSet::NONE, waits(step));
        while !more.is_within(found) {
            found = found.union(more);
            more = found.iter().fold(StepSet::NONE, |all, before| all.union(waits(before)));
        }
        found
    };
    let before = behind(step);
    match before.iter().find(|first| *first != step) {
        Some(first) if !before.contains(step) => Obstacle::Behind(first),
        _ => Obstacle::Circle(before.iter().filter(|other| behind(*other).contains(step)).collect()),
    }
}
