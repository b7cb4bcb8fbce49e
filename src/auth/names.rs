//! One copy of the texts that many tokens share: clients, issuers, scopes. A million sessions of a hundred clients keep a
//! hundred client-ids.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

/// Texts that are kept; further ones are not shared. Nobody but a trusted issuer can fill the set.
const MOST: usize = 65_536;

/// The shared texts.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<HashSet<Arc<str>>>);

impl Names {
    /// The shared copy of `text`.
    pub(super) fn intern(&self, text: &str) -> Arc<str> {
        let mut names = self.0.lock();
        if let Some(known) = names.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        if names.len() < MOST {
            names.insert(Arc::clone(&new));
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_share_one_copy() {
        let names = Names::default();
        assert!(Arc::ptr_eq(&names.intern("a"), &names.intern("a")));
        assert!(!Arc::ptr_eq(&names.intern("a"), &names.intern("b")));
    }
}
