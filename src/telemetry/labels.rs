//! Names of routes and upstreams as small numbers, so that counting a call compares integers. The set is closed: names
//! come from configurations, never from calls.

use std::sync::Arc;

use parking_lot::RwLock;

/// The number of a name. Zero stands for no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Label(u16);

impl Label {
    /// No name: the call ended before it had one.
    pub const NONE: Self = Self(0);

    /// The label with this number.
    #[must_use]
    pub const fn numbered(number: u16) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// All names ever configured in this process, by their numbers; `-` has number zero.
#[derive(Debug)]
pub struct Labels(RwLock<Vec<Arc<str>>>);

impl Default for Labels {
    fn default() -> Self {
        Self(RwLock::new(vec!["-".into()]))
    }
}

impl Labels {
    /// The number of `name`, a new one if it has none yet. After 65,535 names, which takes thousands of reloads with
    /// ever new names, further ones share [`Label::NONE`].
    pub fn intern(&self, name: &Arc<str>) -> Label {
        let mut names = self.0.write();
        let known = names.iter().skip(1).position(|known| known == name).map(|place| place + 1);
        let place = known.unwrap_or_else(|| {
            names.push(Arc::clone(name));
            names.len() - 1
        });
        u16::try_from(place).map_or(Label::NONE, Label)
    }

    /// The name of a number; `-` for none.
    #[must_use]
    pub fn name(&self, label: Label) -> Arc<str> {
        self.0.read().get(usize::from(label.0)).cloned().unwrap_or_else(|| "-".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_numbers() {
        let labels = Labels::default();
        let (a, b) = (labels.intern(&"a".into()), labels.intern(&"b".into()));
        assert_ne!(a, b);
        assert_eq!(labels.intern(&"a".into()), a);
        assert_eq!((&*labels.name(b), &*labels.name(Label::NONE)), ("b", "-"));
    }
}
