use std::sync::Arc;

use super::*;
use crate::policy::claims::{Caller, ClaimRules};
use crate::policy::scopes::ScopeNames;

fn caller(answer: &str, issuer: Option<&str>) -> Result<Caller, Why> {
    let rules = ClaimRules { issuer: issuer.map(Arc::from), ..ClaimRules::default() };
    claims(answer, issuer, Timestamp::from_secs(1000))?.caller(&rules, &ScopeNames::default(), |text| text.into())
}

#[test]
fn an_answer_may_leave_out_what_a_token_must_say() {
    let least = caller(r#"{"active":true,"client_id":"c"}"#, Some("I")).unwrap();
    assert_eq!((least.expires(), least.owner().issuer.as_deref()), (Timestamp::from_secs(1000), Some("I")));
    let whole = r#"{"active":true,"client_id":"c","exp":77,"iss":"I","sub":"s","scope":"a b","nbf":null}"#;
    let whole = caller(whole, Some("I")).unwrap();
    assert_eq!((whole.expires(), &**whole.scope()), (Timestamp::from_secs(77), "a b"));
    for (wrong, why) in [
        (r#"{"active":true,"client_id":"c","iss":"J"}"#, Why::Issuer),
        (r#"{"active":true}"#, Why::Claims),
        (r#"{"active":true,"client_id":"c","client_id":"d"}"#, Why::Claims),
        (r#"{"active":true,"client_id":"c","exp":"soon"}"#, Why::Claims),
    ] {
        assert_eq!(caller(wrong, Some("I")).unwrap_err(), why, "{wrong}");
    }
}

#[test]
fn a_dead_issuer_is_asked_once_per_pause() {
    let (mut breaker, now) = (Breaker::default(), Instant::now());
    for _ in 1..FAILURES {
        breaker.failed("gone".into(), now);
        assert!(breaker.admits(now));
    }
    breaker.failed("gone".into(), now);
    assert!(!breaker.admits(now));
    let later = now + FIRST_PAUSE;
    assert!(breaker.admits(later), "one goes ahead");
    assert!(!breaker.admits(later), "the others wait for it");
    breaker.failed("gone".into(), later);
    assert!(!breaker.admits(later + FIRST_PAUSE), "the pause grows");
    let mut now = later;
    for _ in 0..100 {
        now += LONGEST_PAUSE;
        assert!(breaker.admits(now));
        breaker.failed("gone".into(), now);
        assert!(breaker.pause() <= LONGEST_PAUSE);
    }
    assert_eq!(breaker.pause(), LONGEST_PAUSE);
}

#[test]
fn what_was_under_way_when_an_issuer_died_makes_no_longer_pause() {
    let (mut breaker, now) = (Breaker::default(), Instant::now());
    let counted = (0..QUESTIONS).filter_map(|_| breaker.failed("gone".into(), now)).last();
    assert_eq!(counted, Some(FAILURES));
    assert!(!breaker.admits(now) && breaker.admits(now + FIRST_PAUSE));
}

#[test]
fn both_parts_of_the_credentials_are_encoded() {
    let value = basic("a:b", &SecretString::from("c d%-_.")).unwrap();
    let text = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
    assert_eq!(STANDARD.decode(text).unwrap(), b"a%3Ab:c+d%25-_.");
    assert!(value.is_sensitive());
}
