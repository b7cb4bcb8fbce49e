//! How many calls may run at once, and who is turned away first.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::rejection::{Rejection, Wait};

/// What those who are turned away are told to wait, in seconds.
const WAIT: Wait = Wait(1);

/// How much would be lost with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// It would open a session: nothing has begun yet.
    Opening,
    /// It is part of a session.
    Underway,
}

/// How many calls may run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverloadRule {
    most: NonZeroU32,
    /// From so many on no session is opened.
    opening: u32,
}

impl OverloadRule {
    /// At most `most` calls; sessions are opened only while fewer than `opening_percent` of them run.
    #[must_use]
    pub fn new(most: NonZeroU32, opening_percent: u8) -> Self {
        let opening = u64::from(most.get()) * u64::from(opening_percent) / 100;
        // At least one, or none could ever be opened.
        let opening = u32::try_from(opening).unwrap_or(u32::MAX).max(1);
        Self { most, opening }
    }

    /// Whether a call of this priority may run beside `running` others.
    ///
    /// # Errors
    /// `overloaded`.
    pub const fn admits(&self, running: u32, priority: Priority) -> Result<(), Rejection> {
        let most = match priority {
            Priority::Opening => self.opening,
            Priority::Underway => self.most.get(),
        };
        if running < most { Ok(()) } else { Err(Rejection::Overloaded(WAIT)) }
    }
}

/// Calls that run now, in all workers.
#[derive(Debug, Default)]
pub struct Running(Arc<AtomicU32>);

/// The place of a call that runs; it is free again when this is dropped.
#[derive(Debug)]
pub struct Place(Arc<AtomicU32>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Running {
    /// A place for a call of this priority.
    ///
    /// # Errors
    /// `overloaded`.
    pub fn enter(&self, rule: &OverloadRule, priority: Priority) -> Result<Place, Rejection> {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(&self.0));
        rule.admits(before, priority)?;
        Ok(place)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back_and_those_who_have_not_begun_go_first() {
        let (running, rule) = (Running::default(), OverloadRule::new(NonZeroU32::new(4).unwrap(), 50));
        let mut places = Vec::new();
        for _ in 0..2 {
            places.push(running.enter(&rule, Priority::Opening).unwrap());
        }
        assert!(running.enter(&rule, Priority::Opening).is_err());
        for _ in 0..2 {
            places.push(running.enter(&rule, Priority::Underway).unwrap());
        }
        assert!(running.enter(&rule, Priority::Underway).is_err());
        assert_eq!(running.count(), 4, "who was refused has no place");
        places.pop();
        assert!(running.enter(&rule, Priority::Underway).is_ok());
        drop(places);
        assert_eq!(running.count(), 0);
    }
}
