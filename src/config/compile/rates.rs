//! How fast calls may come.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use crate::config::nearest::did_you_mean;
use crate::config::raw::{At, File, Overload, PerName, Period, RateLimit, RuleSeverity, SessionBudget, Size, Table};
use crate::policy::overload::OverloadRule;
use crate::policy::rates::{Per, Rate, RateRule, RateRules, RuleId};
use crate::policy::route::RouteTable;
use crate::policy::session::Budget;

use super::context::Context;
use super::headers::severity;

/// Most rules: looking through them is part of each call.
const RULES_MAX: usize = 100;

pub(super) fn rules(cx: &mut Context<'_>, file: &File, routes: &RouteTable) -> RateRules {
    if let Some(beyond) = file.rate_limits.get(RULES_MAX) {
        cx.mistake(beyond.span(), format!("there are more than {RULES_MAX} rules"));
        return RateRules::default();
    }
    let mut names = vec![RuleId::OWN_RATE, RuleId::BUDGET];
    let (mut rules, mut applies) = (Vec::new(), Vec::new());
    for written in &file.rate_limits {
        let name = cx.name("rate limit", written.name.as_ref(), written.span(), "calls-per-client", &names);
        names.extend(name);
        let on = on(cx, written, routes);
        if let (Some(name), Some(rule)) = (name, rule(cx, written))
            && written.severity != RuleSeverity::Off
        {
            rules.push(RateRule { name: name.into(), ..rule });
            applies.push(on);
        }
    }
    RateRules::new(rules, routes.routes().len(), |rule, route| applies[rule].get(route).is_some_and(|on| *on))
}

fn rule(cx: &mut Context<'_>, written: &Table<RateLimit>) -> Option<RateRule> {
    let per = match written.per.as_deref() {
        Some(PerName::Session) => Some(Per::Session),
        Some(PerName::Client) => Some(Per::Client),
        Some(PerName::Address) => Some(Per::Address),
        Some(PerName::Route) => Some(Per::Route),
        Some(PerName::All) => Some(Per::All),
        None => {
            cx.missing(written.span(), "per", "\"per\" is missing", "write per = \"client\"");
            None
        }
    };
    let Some(requests) = &written.requests else {
        cx.missing(written.span(), "requests", "\"requests\" is missing", "write requests = 100");
        return None;
    };
    let window = cx.within(&written.window, Period(Duration::from_millis(1))..=Period::secs(24 * 3600)).0;
    let rate = rate(requests, window, written.burst.as_ref());
    if rate.is_none() {
        cx.mistake(requests.span(), "that is more than one call each nanosecond");
    }
    let severity = severity(written.severity);
    Some(RateRule { name: "".into(), per: per?, rate: rate?, severity })
}

/// Any burst fits a window of at most a day.
fn rate(requests: &At<NonZeroU32>, window: Duration, burst: Option<&At<NonZeroU32>>) -> Option<Rate> {
    Rate::new(**requests, window, burst.map_or(**requests, |burst| **burst))
}

/// Which routes a rule is for, by their numbers.
fn on(cx: &mut Context<'_>, written: &RateLimit, routes: &RouteTable) -> Vec<bool> {
    let routes = routes.routes();
    let Some(named) = &written.routes else {
        return routes.iter().map(|route| !route.exempt).collect();
    };
    if named.is_empty() {
        cx.mistake_hint(
            named.span(),
            "the rule is for no route",
            "leave the key out for all, or write severity = \"off\"",
        );
    }
    let mut on = vec![false; routes.len()];
    for name in named.iter() {
        match routes.iter().position(|route| *route.name == **name) {
            Some(place) if routes[place].exempt => {
                cx.mistake(name.span(), format!("{:?} is exempt: its calls are not counted", &**name));
            }
            Some(place) => on[place] = true,
            None => {
                let guess = did_you_mean(name, routes.iter().map(|route| &*route.name));
                cx.mistake_guess(name.span(), format!("there is no route {:?}", &**name), guess);
            }
        }
    }
    on
}

pub(super) fn overload(cx: &mut Context<'_>, table: &Table<Overload>) -> Option<OverloadRule> {
    let open_below = cx.within(&table.open_below, 1..=100);
    let Some(most) = &table.max_calls else {
        cx.missing(table.span(), "max_calls", "\"max_calls\" is missing", "write max_calls = 10000");
        return None;
    };
    Some(OverloadRule::new(**most, open_below))
}

pub(super) fn budget(cx: &mut Context<'_>, table: &Table<SessionBudget>) -> Option<Budget> {
    if table.calls.is_none() && table.bytes.is_none() {
        cx.mistake_hint(table.span(), "the budget has no limit", "write calls = 1000, or bytes = \"1GiB\"");
    }
    let bytes = table.bytes.as_ref().and_then(|most| NonZeroU64::new(cx.within(most, Size(1)..=Size(u64::MAX / 2)).0));
    let budget = Budget { calls: table.calls.as_deref().copied(), bytes, severity: severity(table.severity) };
    (table.severity != RuleSeverity::Off).then_some(budget)
}
