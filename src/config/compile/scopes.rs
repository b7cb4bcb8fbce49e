//! Scopes that routes demand.

use crate::config::raw::{At, NameList};
use crate::policy::scopes::{SCOPES_MAX, ScopeNames, ScopeRule, ScopeSet, is_scope_token};

use super::context::Context;

/// Compiles scope lists and gives every scope its number.
#[derive(Default)]
pub(super) struct Scopes {
    names: ScopeNames,
    /// Said once: the numbers have run out.
    full: bool,
}

impl Scopes {
    pub(super) fn into_names(self) -> ScopeNames {
        self.names
    }

    pub(super) fn rule(&mut self, cx: &mut Context<'_>, list: &NameList) -> ScopeRule {
        let (all, any) = (self.set(cx, &list.all), self.set(cx, &list.any));
        let mut words: Vec<&str> = Vec::new();
        for scope in list.all.iter().chain(&list.any) {
            if !words.contains(&scope.as_str()) {
                words.push(scope);
            }
        }
        ScopeRule { all, any, text: words.join(" ").into() }
    }

    fn set(&mut self, cx: &mut Context<'_>, scopes: &[At<String>]) -> ScopeSet {
        let mut good = Vec::with_capacity(scopes.len());
        for scope in scopes {
            if is_scope_token(scope) {
                good.push(scope.as_str());
                continue;
            }
            let message = format!("{:?} is not a scope token (RFC 6749 section 3.3)", &**scope);
            let words: Vec<&str> = scope.split_whitespace().collect();
            if words.len() > 1 && words.iter().all(|word| is_scope_token(word)) {
                cx.mistake_hint(scope.span(), message, format!("write each scope on its own: {words:?}"));
            } else {
                cx.mistake(scope.span(), message);
            }
        }
        let set = self.names.intern(good);
        if set.is_err() && !std::mem::replace(&mut self.full, true) {
            // `scopes` is not empty: an empty list never runs out of numbers.
            let at = scopes.first().map_or(0..0, At::span);
            cx.mistake(at, format!("there are more than {SCOPES_MAX} scopes in this file"));
        }
        set.unwrap_or(ScopeSet::NONE)
    }
}
