//! The buckets of all rate rules, of this gate alone. They outlive reloads, since they go by the names of rules.

use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::config::Snapshot;
use crate::policy::address;
use crate::policy::head::Head;
use crate::policy::ids::{Owner, SessionKey};
use crate::policy::rates::{Empty, Per, Rate, RateRule, RateRules, Rated, RuleId, Spare, nanos};
use crate::policy::rejection::Rejection;
use crate::policy::severity::Severity;
use crate::policy::time::Timestamp;
use crate::store::memory::Spread;

/// Most buckets, of about 50 bytes each. Whoever comes beyond it shares one bucket per rule with all others who do: so
/// a flood of addresses takes no memory and escapes no rule.
const BUCKETS_MAX: usize = 1_000_000;

/// Shards of the map: at most so many entries are locked while one is swept as a shard holds.
const SHARDS: usize = 128;

/// A name of a bucket, spread evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct BucketKey(u128);

impl Hash for BucketKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0.to_le_bytes());
    }
}

/// A call, as rate rules see it.
#[derive(Debug, Clone, Copy)]
pub struct Counted<'c> {
    /// Number of its route,
    pub route: u16,
    /// and its name.
    pub route_name: &'c str,
    /// Its session; none where it opens one.
    pub session: Option<SessionKey>,
    /// Whose call it is.
    pub owner: &'c Owner,
    /// The client's own rate, if it has one.
    pub own_rate: Option<Rate>,
    /// Where it comes from.
    pub address: IpAddr,
}

impl<'c> Counted<'c> {
    /// The call that a head is, on the route of this number.
    #[must_use]
    pub fn of(
        live: &'c Snapshot,
        head: &Head<'_>,
        route: u16,
        session: Option<SessionKey>,
        owner: &'c Owner,
        own_rate: Option<Rate>,
    ) -> Self {
        let peer = head.sender().address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Self {
            route,
            route_name: live.routes.routes().get(usize::from(route)).map_or("", |route| &route.name),
            session,
            owner,
            own_rate,
            address: address::of_client(head, peer, &live.trusted_proxies),
        }
    }
}

/// The buckets.
#[derive(Debug)]
pub struct Limiter {
    buckets: DashMap<BucketKey, AtomicU64, BuildHasherDefault<Spread>>,
    /// How many there are: counting the shards takes a lock of each.
    held: AtomicUsize,
    most: usize,
    /// Two, since 64 bits can be made to collide by trying.
    hashers: [std::hash::RandomState; 2],
}

impl Default for Limiter {
    fn default() -> Self {
        Self::with_most(BUCKETS_MAX)
    }
}

impl Limiter {
    fn with_most(most: usize) -> Self {
        let buckets = DashMap::with_capacity_and_hasher_and_shard_amount(0, BuildHasherDefault::default(), SHARDS);
        Self { buckets, held: AtomicUsize::new(0), most, hashers: Default::default() }
    }

    /// Counts a call under all rules of its route, or under none of them if one refuses it. What was found is noted in
    /// `rated`.
    ///
    /// # Errors
    /// `rate-limited`.
    pub fn count(
        &self,
        rules: &RateRules,
        call: &Counted<'_>,
        now: Timestamp,
        rated: &mut Rated,
    ) -> Result<(), Rejection> {
        if let Some(rate) = call.own_rate {
            let taken = self.take(self.own_key(call), RuleId::OWN_RATE, rate, now);
            note(rated, RuleId::OwnRate, Severity::Enforce, rate, taken)?;
        }
        // A rule that only observes may have had nothing to give. There are fewer rules than bits.
        let mut gave = 0_u128;
        for (number, rule) in rules.of(call.route) {
            let Some(key) = self.bucket(rule, call) else { continue };
            let taken = self.take(key, &rule.name, rule.rate, now);
            gave |= u128::from(taken.is_ok()).checked_shl(number.into()).unwrap_or(0);
            if let Err(refusal) = note(rated, RuleId::Numbered(number), rule.severity, rule.rate, taken) {
                self.give_back(rules, call, gave);
                return Err(refusal);
            }
        }
        Ok(())
    }

    /// What each rule of a call's route would make of it. Nothing is taken.
    #[must_use]
    pub fn look(&self, rules: &RateRules, call: &Counted<'_>, now: Timestamp) -> Vec<(RuleId, Result<Spare, Empty>)> {
        let look = |key: BucketKey, rule: &str, rate: Rate| {
            let own = self.buckets.get(&key);
            let bucket = own.or_else(|| if self.has_room() { None } else { self.buckets.get(&self.shared(rule)) });
            let full_at = bucket.map_or(0, |bucket| bucket.load(Ordering::Relaxed));
            rate.take(full_at, now).map(|(_, spare)| spare)
        };
        let own = call.own_rate.map(|rate| (RuleId::OwnRate, look(self.own_key(call), RuleId::OWN_RATE, rate)));
        let common = rules.of(call.route).filter_map(|(number, rule)| {
            Some((RuleId::Numbered(number), look(self.bucket(rule, call)?, &rule.name, rule.rate)))
        });
        own.into_iter().chain(common).collect()
    }

    /// Gives back what a call took: of its own rate, and of the rules whose bit is set in `gave`.
    fn give_back(&self, rules: &RateRules, call: &Counted<'_>, gave: u128) {
        let own = call.own_rate.map(|rate| (self.own_key(call), RuleId::OWN_RATE, rate));
        let common =
            rules.of(call.route).filter(|(number, _)| gave.checked_shr((*number).into()).unwrap_or(0) & 1 == 1);
        let common = common.filter_map(|(_, rule)| Some((self.bucket(rule, call)?, &*rule.name, rule.rate)));
        for (key, rule, rate) in own.into_iter().chain(common) {
            // Who has no bucket of its own took from the shared one.
            if let Some(bucket) = self.buckets.get(&key).or_else(|| self.buckets.get(&self.shared(rule))) {
                _ = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| Some(rate.give_back(full_at)));
            }
        }
    }

    /// Forgets the buckets that are full: they are the same as none.
    pub fn sweep(&self, now: Timestamp) {
        let now = nanos(now);
        self.buckets.retain(|_, full_at| {
            let keep = *full_at.get_mut() > now;
            if !keep {
                self.held.fetch_sub(1, Ordering::Relaxed);
            }
            keep
        });
    }

    /// Buckets that are not full.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn has_room(&self) -> bool {
        self.held.load(Ordering::Relaxed) < self.most
    }

    fn take(&self, key: BucketKey, rule: &str, rate: Rate, now: Timestamp) -> Result<Spare, Empty> {
        if let Some(bucket) = self.buckets.get(&key) {
            return take(&bucket, rate, now);
        }
        // Two may both find room where there is for one; the bound is not exact.
        let key = if self.has_room() { key } else { self.shared(rule) };
        match self.buckets.entry(key) {
            Entry::Occupied(bucket) => take(bucket.get(), rate, now),
            Entry::Vacant(place) => {
                self.held.fetch_add(1, Ordering::Relaxed);
                take(&place.insert(AtomicU64::new(0)), rate, now)
            }
        }
    }

    /// The bucket of a call; none where the rule does not concern it.
    fn bucket(&self, rule: &RateRule, call: &Counted<'_>) -> Option<BucketKey> {
        let name = &*rule.name;
        Some(match rule.per {
            Per::Session => self.key((name, Per::Session, call.session?)),
            // Who has a rate of its own is not under the common one.
            Per::Client if call.own_rate.is_some() => return None,
            Per::Client => self.key((name, Per::Client, &call.owner.issuer, call.owner.client.as_str())),
            Per::Address => self.key((name, Per::Address, network(call.address))),
            Per::Route => self.key((name, Per::Route, call.route_name)),
            Per::All => self.shared(name),
        })
    }

    /// The one bucket of a rule for all, and for those who find no room for one of their own.
    fn shared(&self, rule: &str) -> BucketKey {
        self.key((rule, Per::All))
    }

    /// The bucket of the client's own rate.
    fn own_key(&self, call: &Counted<'_>) -> BucketKey {
        self.key((RuleId::OWN_RATE, Per::Client, &call.owner.issuer, call.owner.client.as_str()))
    }

    fn key(&self, name: impl Hash) -> BucketKey {
        let [high, low] = self.hashers.each_ref().map(|hasher| hasher.hash_one(&name));
        BucketKey(u128::from(high) << 64 | u128::from(low))
    }
}

fn take(bucket: &AtomicU64, rate: Rate, now: Timestamp) -> Result<Spare, Empty> {
    let mut full_at = bucket.load(Ordering::Relaxed);
    loop {
        let (next, spare) = rate.take(full_at, now)?;
        match bucket.compare_exchange_weak(full_at, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return Ok(spare),
            Err(changed) => full_at = changed,
        }
    }
}

fn note(
    rated: &mut Rated,
    rule: RuleId,
    severity: Severity,
    rate: Rate,
    taken: Result<Spare, Empty>,
) -> Result<(), Rejection> {
    match taken {
        Ok(spare) => {
            rated.note(rule, rate, spare);
            Ok(())
        }
        Err(empty) => {
            rated.note(rule, rate, Spare { calls: 0, full_in: empty.wait });
            rated.exceed(rule, severity);
            if severity == Severity::Enforce { Err(Rejection::RateLimited(empty.retry_after())) } else { Ok(()) }
        }
    }
}

/// Who shares a bucket with an address: in IPv6 one subscriber has a network of 64 bits at least (RFC 6177).
const fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(long) => IpAddr::V6(Ipv6Addr::from_bits(long.to_bits() & !(u64::MAX as u128))),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;
    use crate::policy::ids::{ClientId, SessionId};

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    fn rule(name: &str, per: Per, requests: u32, severity: Severity) -> RateRule {
        let requests = NonZeroU32::new(requests).unwrap();
        let rate = Rate::new(requests, Duration::from_secs(60), requests).unwrap();
        RateRule { name: name.into(), per, rate, severity }
    }

    fn owner(client: &str) -> Owner {
        Owner { issuer: Some("as".into()), client: ClientId::parse(client).unwrap(), subject: None, binding: None }
    }

    fn call(owner: &Owner) -> Counted<'_> {
        let session = Some(SessionId::from_random([1; 16]).key());
        Counted { route: 0, route_name: "a", session, owner, own_rate: None, address: [192, 0, 2, 1].into() }
    }

    fn all(rules: Vec<RateRule>) -> RateRules {
        RateRules::new(rules, 1, |_, _| true)
    }

    fn passes(limiter: &Limiter, rules: &RateRules, call: &Counted<'_>) -> bool {
        limiter.count(rules, call, NOW, &mut Rated::default()).is_ok()
    }

    #[test]
    fn each_has_a_bucket_of_its_own() {
        let (shop, other) = (owner("shop"), owner("other"));
        let of_partner = Owner { issuer: Some("partner".into()), ..owner("shop") };
        let first = call(&shop);
        let session = Some(SessionId::from_random([2; 16]).key());
        let v6 = |last: u16| Counted { address: [0x2001, 0xdb8, 0, 0, 0, 0, 0, last].into(), ..first };
        for (per, same, different) in [
            (Per::Session, call(&other), Counted { session, ..first }),
            (Per::Client, Counted { session, ..first }, call(&other)),
            (Per::Client, Counted { session, ..first }, call(&of_partner)),
            (Per::Address, call(&other), Counted { address: [192, 0, 2, 2].into(), ..first }),
            (Per::Address, call(&other), v6(1)),
            (Per::Route, call(&other), Counted { route_name: "b", ..first }),
        ] {
            let (limiter, rules) = (Limiter::default(), all(vec![rule("r", per, 1, Severity::Enforce)]));
            assert!(passes(&limiter, &rules, &first), "{per:?}");
            assert!(!passes(&limiter, &rules, &same), "{per:?}");
            assert!(passes(&limiter, &rules, &different), "{per:?}");
        }
        let (limiter, rules) = (Limiter::default(), all(vec![rule("r", Per::Address, 1, Severity::Enforce)]));
        assert!(passes(&limiter, &rules, &v6(1)) && !passes(&limiter, &rules, &v6(2)), "one network");
        let (limiter, rules) = (Limiter::default(), all(vec![rule("r", Per::All, 1, Severity::Enforce)]));
        assert!(passes(&limiter, &rules, &first) && !passes(&limiter, &rules, &call(&of_partner)));
    }

    #[test]
    fn a_call_that_one_rule_refuses_takes_from_none() {
        let shop = owner("shop");
        let session = |number| Counted { session: Some(SessionId::from_random([number; 16]).key()), ..call(&shop) };
        let rules =
            all(vec![rule("a", Per::Client, 2, Severity::Enforce), rule("b", Per::Session, 1, Severity::Enforce)]);
        let limiter = Limiter::default();
        assert!(passes(&limiter, &rules, &session(1)));
        for _ in 0..10 {
            assert!(!passes(&limiter, &rules, &session(1)));
        }
        assert!(passes(&limiter, &rules, &session(2)), "the client still has its second call");
        assert!(!passes(&limiter, &rules, &session(3)));
    }

    #[test]
    fn a_refused_call_gives_back_what_it_took_and_no_more() {
        let shop = owner("shop");
        let rules = all(vec![
            rule("watched", Per::Client, 1, Severity::Observe),
            rule("shared", Per::Address, 2, Severity::Enforce),
            rule("strict", Per::Session, 1, Severity::Enforce),
        ]);
        // With room for fewer buckets than rules, the last ones take from shared ones.
        for most in [100, 2, 1] {
            let (limiter, mut rated) = (Limiter::with_most(most), Rated::default());
            assert!(passes(&limiter, &rules, &call(&shop)));
            for _ in 0..5 {
                assert!(!passes(&limiter, &rules, &call(&shop)), "{most}");
            }
            // Nothing came back to the rule that had given nothing.
            _ = limiter.count(&rules, &call(&shop), NOW, &mut rated);
            assert!(limiter.look(&rules, &call(&shop), NOW)[0].1.is_err(), "{most}");
            // The rule in between still has its second call.
            assert!(limiter.look(&rules, &call(&shop), NOW)[1].1.is_ok(), "{most}");
        }
    }

    #[test]
    fn a_rate_of_its_own_stands_for_the_common_one() {
        let shop = owner("shop");
        let own_rate = Rate::new(NonZeroU32::new(2).unwrap(), Duration::from_secs(60), NonZeroU32::new(2).unwrap());
        let (limiter, own) = (Limiter::default(), Counted { own_rate, ..call(&shop) });
        let rules = all(vec![rule("a", Per::Client, 1, Severity::Enforce)]);
        assert!(passes(&limiter, &rules, &own) && passes(&limiter, &rules, &own) && !passes(&limiter, &rules, &own));
        let mut rated = Rated::default();
        _ = limiter.count(&rules, &own, NOW, &mut rated);
        assert_eq!(rated.exceeded, Some((RuleId::OwnRate, Severity::Enforce)));
    }

    #[test]
    fn who_only_looks_takes_nothing() {
        let shop = owner("shop");
        let (limiter, rules) = (Limiter::default(), all(vec![rule("r", Per::Client, 1, Severity::Enforce)]));
        for _ in 0..3 {
            let looked = limiter.look(&rules, &call(&shop), NOW);
            assert!(matches!(looked.as_slice(), [(RuleId::Numbered(0), Ok(spare))] if spare.calls == 0), "{looked:?}");
        }
        assert!(limiter.is_empty() && passes(&limiter, &rules, &call(&shop)));
        assert!(matches!(limiter.look(&rules, &call(&shop), NOW).as_slice(), [(_, Err(_))]));
    }

    #[test]
    fn what_only_observes_refuses_nothing_and_the_tightest_is_shown() {
        let shop = owner("shop");
        let rules =
            all(vec![rule("a", Per::Client, 1, Severity::Observe), rule("b", Per::Session, 5, Severity::Enforce)]);
        let limiter = Limiter::default();
        let mut rated = Rated::default();
        for _ in 0..2 {
            rated = Rated::default();
            limiter.count(&rules, &call(&shop), NOW, &mut rated).unwrap();
        }
        assert_eq!(rated.exceeded, Some((RuleId::Numbered(0), Severity::Observe)));
        assert_eq!(rated.tightest.map(|shown| (shown.rule, shown.spare.calls)), Some((RuleId::Numbered(0), 0)));
    }

    #[test]
    fn full_buckets_are_forgotten_and_the_rest_is_bounded() {
        let (shop, rules) = (owner("shop"), all(vec![rule("a", Per::Address, 1, Severity::Enforce)]));
        let limiter = Limiter::with_most(3);
        let from = |last| Counted { address: [192, 0, 2, last].into(), ..call(&shop) };
        assert!((1..=3).all(|last| passes(&limiter, &rules, &from(last))));
        assert!(passes(&limiter, &rules, &from(4)), "the first of those who share");
        assert!(!passes(&limiter, &rules, &from(5)) && limiter.len() == 4);
        limiter.sweep(NOW);
        assert_eq!(limiter.len(), 4);
        limiter.sweep(NOW.after(Duration::from_secs(60)));
        assert!(limiter.is_empty());
        assert!(passes(&limiter, &rules, &from(5)));
    }

    #[test]
    fn threads_together_take_what_one_would() {
        let (limiter, rules) = (Limiter::default(), all(vec![rule("a", Per::All, 1_000, Severity::Enforce)]));
        let taken = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let shop = owner("shop");
                    for _ in 0..500 {
                        taken.fetch_add(u64::from(passes(&limiter, &rules, &call(&shop))), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(taken.into_inner(), 1_000);
    }
}
