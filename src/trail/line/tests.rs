use proptest::prelude::*;

use super::*;
use crate::policy::ids::SessionId;
use crate::policy::method::Verb;
use crate::policy::time::Timestamp;
use crate::trail::record::tests::entry;

/// A call of which everything is known.
pub fn full() -> Line<'static> {
    Line {
        trail: Version,
        time: "2026-11-25T15:00:51.007Z".into(),
        session: "8ab04f6b6ce6e2281026898dbf8e9f7d".into(),
        number: 3,
        request_id: "0d9a2c1e-5d8e-4f6a-9f0e-3b8a2a1c4d5e".into(),
        correlation_id: "c-1".into(),
        client: "web-shop".into(),
        subject: "ada".into(),
        method: "POST".into(),
        host: "api.example".into(),
        path: "/orders".into(),
        query: true,
        body: true,
        scope: "orders:read orders:write".into(),
        headers: Field::ALL.into_iter().collect(),
        protocol: "h2".into(),
        route: "orders".into(),
        upstream: "shop".into(),
        verdict: Verdict::Refused,
        code: "upstream-failed".into(),
        status: 502,
        ended_by: "gate".into(),
        observed: Observed(Violations::NONE.with(Field::Accept, Fault::Missing)),
        rate_rule: "per-client".into(),
        flow: "ordering".into(),
        step: "order".into(),
        step_before: "configure".into(),
        step_after: "configure".into(),
        step_outcome: "indeterminate".into(),
        step_rule: "max_gap".into(),
        admission_us: Some(12),
        first_byte_us: Some(900),
        total_us: 1000,
        bytes_in: 10,
        bytes_out: 100,
    }
}

fn written(line: &Line<'_>) -> String {
    let mut text = Vec::new();
    line.write(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn a_line_reads_as_it_was_written() {
    let text = written(&full());
    assert!(text.starts_with("{\"trail\":1,\"time\":\"2026-11-25T15:00:51.007Z\",\"session\":\"8ab0"), "{text}");
    assert_eq!(Line::parse(text.as_bytes()).unwrap(), full());
    assert!(full().moment().is_some());
}

#[test]
fn what_is_not_known_is_not_written() {
    let text = with_line(&entry(), Texts::default(), &Labels::default(), "", written);
    for key in
        ["session", "number", "correlation_id", "client", "subject", "host", "path", "query", "scope", "observed"]
    {
        assert!(!text.contains(&format!("\"{key}\"")), "{key}: {text}");
    }
    assert!(Line::parse(text.as_bytes()).is_ok());
}

#[test]
fn other_lines_are_no_calls() {
    for wrong in [
        "",
        "{}",
        "null",
        "{\"time\":\"2026-11-25T15:00:51.007Z\",\"event\":\"call\",\"code\":\"ok\",\"verdict\":\"admitted\"}",
        "{\"trail\":2,\"time\":\"2026-11-25T15:00:51.007Z\",\"code\":\"ok\",\"verdict\":\"admitted\"}",
        "{\"trail\":1,\"time\":\"2026-11-25T15:00:51.007Z\",\"code\":\"ok\",\"verdict\":\"maybe\"}",
    ] {
        assert!(Line::parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
    // What later versions may add is no reason not to read a line.
    let more =
        "{\"trail\":1,\"time\":\"t\",\"code\":\"ok\",\"verdict\":\"admitted\",\"headers\":[\"new\"],\"new\":[{}]}";
    assert!(Line::parse(more.as_bytes()).is_ok());
}

proptest! {
    #[test]
    fn every_call_survives_being_written_and_read(
        texts in proptest::array::uniform10(".{0,40}"),
        number in 0u32..,
        millis in 0u64..4_102_444_799_000,
        total in 0u64..,
        status in 0u16..,
        id in any::<[u8; 16]>(),
    ) {
        let [correlation, client, host, path, scopes, flow, step, step_before, step_after, subject] = &texts;
        let texts =
            Texts { correlation, client, host, path, scopes, flow, step, step_before, step_after, subject };
        let entry = Entry {
            time: Timestamp::from_millis(millis),
            session: Some(SessionId::from_random(id).key()),
            number,
            verb: Some(Verb::Patch),
            total,
            status,
            ..entry()
        };
        with_line(&entry, texts, &Labels::default(), subject, |line| {
            let text = written(line);
            prop_assert_eq!(text.matches('\n').count(), 1);
            prop_assert_eq!(&Line::parse(text.as_bytes()).unwrap(), line);
            Ok(())
        })?;
    }

    #[test]
    fn nothing_that_is_read_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        _ = Line::parse(&bytes);
    }
}
