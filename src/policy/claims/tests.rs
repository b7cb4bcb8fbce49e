use super::*;

fn rules() -> ClaimRules {
    ClaimRules::default()
}

fn caller(json: &str, rules: &ClaimRules) -> Result<Caller, Why> {
    Claims::read(json)?.caller(rules, &ScopeNames::default(), |text| text.into())
}

#[test]
fn the_documented_token_is_understood() {
    let json = r#"{"sub":"s","scope":"listerine.all","iss":"ENTAPI","grant_type":"client_credentials","exp":1700000600,"iat":1700000000,"client_id":"EnterpriseAPIM-x"}"#;
    let caller = caller(json, &rules()).unwrap();
    assert_eq!((caller.owner().client.as_str(), &**caller.scope()), ("EnterpriseAPIM-x", "listerine.all"));
    assert_eq!(caller.expires(), Timestamp::from_secs(1_700_000_600));
}

#[test]
fn times_are_numbers_with_fractions() {
    assert_eq!(
        caller(r#"{"client_id":"a","exp":600.25}"#, &rules()).unwrap().expires(),
        Timestamp::from_millis(600_250)
    );
    for wrong in [
        r#"{"client_id":"a"}"#,
        r#"{"client_id":"a","exp":"600"}"#,
        r#"{"client_id":"a","exp":-1}"#,
        r#"{"client_id":"a","exp":600,"nbf":"1"}"#,
        r#"{"client_id":"a","exp":600,"exp":700}"#,
        r#"{"client_id":"a","exp":null}"#,
        r#"{"client_id":"a","exp":600,"x":1,"x":1}"#,
        r#"{"client_id":"a","exp":600,"act":{"x":1,"x":1}}"#,
    ] {
        assert_eq!(caller(wrong, &rules()).unwrap_err(), Why::Claims, "{wrong}");
    }
    assert!(caller(r#"{"client_id":"a","exp":1e300}"#, &rules()).is_ok());
}

#[test]
fn one_leeway_holds_for_both_ends() {
    let caller = caller(r#"{"client_id":"a","exp":1000,"nbf":500}"#, &rules()).unwrap();
    for (secs, verdict) in [(469, Err(Why::NotYetValid)), (470, Ok(())), (1029, Ok(())), (1030, Err(Why::Expired))] {
        assert_eq!(caller.judge(Timestamp::from_secs(secs)), verdict, "{secs}");
    }
}

#[test]
fn no_two_subjects_look_alike_to_an_upstream() {
    let subject = |sub: &str| {
        let json = serde_json::json!({"client_id": "a", "exp": 1, "sub": sub}).to_string();
        let value = caller(&json, &rules()).unwrap().fields().subject.clone();
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    for (sub, seen) in [
        ("alice", "alice"),
        (" alice", "%20alice"),
        ("alice ", "alice%20"),
        ("auth0|a@b.c", "auth0|a@b.c"),
        ("a\nb", "a%0Ab"),
        ("a%0Ab", "a%250Ab"),
        ("gr\u{fc}n", "gr%C3%BCn"),
    ] {
        assert_eq!(subject(sub).as_deref(), Some(seen), "{sub:?}");
    }
}

#[test]
fn an_audience_has_two_shapes() {
    let rules = ClaimRules { audiences: vec!["orders".into()], ..rules() };
    assert!(caller(r#"{"client_id":"a","exp":1,"aud":"orders"}"#, &rules).is_ok());
    assert!(caller(r#"{"client_id":"a","exp":1,"aud":["orders","other"]}"#, &rules).is_ok());
    for wrong in [
        r#"{"client_id":"a","exp":1,"aud":"other"}"#,
        r#"{"client_id":"a","exp":1}"#,
        r#"{"client_id":"a","exp":1,"aud":[]}"#,
    ] {
        assert_eq!(caller(wrong, &rules).unwrap_err(), Why::Audience, "{wrong}");
    }
}

#[test]
fn a_sid_binds_the_token_to_one_session() {
    let id = SessionId::from_random([7; 16]);
    let json = format!(r#"{{"client_id":"a","exp":1,"sid":"{}"}}"#, id.reveal());
    let bound = caller(&json, &rules()).unwrap();
    assert!(bound.may_enter(id) && !bound.may_enter(SessionId::from_random([8; 16])));
    assert!(!caller(r#"{"client_id":"a","exp":1,"sid":"elsewhere"}"#, &rules()).unwrap().may_enter(id));
    let ignored = ClaimRules { sid_binds: false, ..rules() };
    assert!(caller(r#"{"client_id":"a","exp":1,"sid":"elsewhere"}"#, &ignored).unwrap().may_enter(id));
}

#[test]
fn scopes_come_from_the_first_claim_that_is_there() {
    let both = r#"{"client_id":"a","exp":1,"scope":"x y","scp":["z"]}"#;
    let only = |claims: &[ScopeClaim]| ClaimRules { scope_claims: claims.to_vec(), ..rules() };
    for (json, rules, scope) in [
        (both, rules(), "x y"),
        (both, only(&[ScopeClaim::Scp, ScopeClaim::Scope]), "z"),
        (both, only(&[ScopeClaim::Scp]), "z"),
        (r#"{"client_id":"a","exp":1,"scp":["x","y"]}"#, rules(), "x y"),
        (r#"{"client_id":"a","exp":1,"scp":"x y"}"#, rules(), "x y"),
        (r#"{"client_id":"a","exp":1,"scp":"x y"}"#, only(&[ScopeClaim::Scope]), ""),
    ] {
        assert_eq!(&**caller(json, &rules).unwrap().scope(), scope, "{json}");
    }
    assert_eq!(caller(r#"{"client_id":"a","exp":1,"scope":["x"]}"#, &rules()).unwrap_err(), Why::Claims);
}

#[test]
fn claims_can_be_demanded() {
    let rules = ClaimRules { required: vec!["jti".into(), "sub".into()], ..rules() };
    assert!(caller(r#"{"client_id":"a","exp":1,"sub":"s","jti":"1"}"#, &rules).is_ok());
    for wrong in [
        r#"{"client_id":"a","exp":1,"sub":"s"}"#,
        r#"{"client_id":"a","exp":1,"sub":"s","jti":null}"#,
        r#"{"client_id":"a","exp":1,"sub":"s","JTI":"1"}"#,
    ] {
        assert_eq!(caller(wrong, &rules).unwrap_err(), Why::Claims, "{wrong}");
    }
}

#[test]
fn clients_are_found_in_order() {
    assert_eq!(caller(r#"{"azp":"b","cid":"c","exp":1}"#, &rules()).unwrap().owner().client.as_str(), "b");
    assert_eq!(caller(r#"{"exp":1}"#, &rules()).unwrap_err(), Why::Claims);
    assert_eq!(caller(r#"{"client_id":"a b","exp":1}"#, &rules()).unwrap_err(), Why::Claims);
}
