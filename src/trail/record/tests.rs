use proptest::prelude::*;

use super::*;

/// A call of which nothing is known.
pub fn entry() -> Entry {
    Entry {
        time: Timestamp::EPOCH,
        session: None,
        number: 0,
        request: Uuid::nil(),
        verb: None,
        route: Label::NONE,
        upstream: Label::NONE,
        refusal: 0,
        status: 0,
        admitted: NEVER,
        first_byte: NEVER,
        total: 0,
        bytes_in: 0,
        bytes_out: 0,
        ended_by: EndedBy::Gate,
        http2: false,
        tls: false,
        query: false,
        body: false,
        fields: 0,
        outcome: None,
        step_rule: 0,
        rate_rule: Label::NONE,
        observed: Violations::NONE,
        lengths: [0; TEXTS],
    }
}

/// One call of a batch, pushed into it.
pub fn batch(calls: impl IntoIterator<Item = (Entry, String)>) -> Batch {
    let mut batch = Batch::default();
    for (entry, path) in calls {
        batch.push(entry, Texts { path: &path, subject: "ada", ..Texts::default() });
    }
    batch
}

#[test]
fn the_fixed_part_is_small() {
    assert!(size_of::<Entry>() <= 160, "{}", size_of::<Entry>());
}

#[test]
fn long_texts_are_cut_between_letters() {
    let long = "ä".repeat(TEXT_MAX);
    let batch = batch([(entry(), long)]);
    let (_, texts) = batch.iter().next().unwrap();
    assert_eq!((texts.path.len(), texts.path.chars().all(|letter| letter == 'ä')), (TEXT_MAX, true));
}

proptest! {
    #[test]
    fn a_ring_keeps_the_last_calls_with_their_own_texts(
        paths in proptest::collection::vec("[a-zä]{0,500}", 1..60),
        most in 1usize..20,
    ) {
        let calls = paths.iter().zip(1..).map(|(path, number)| (Entry { number, ..entry() }, path.clone()));
        let batch = batch(calls);
        let mut ring = Ring::default();
        for (entry, texts) in batch.iter() {
            ring.push(entry, texts, most);
            prop_assert!(ring.calls() <= most);
            prop_assert!(ring.text.len() <= (most * Ring::TEXT_PER_CALL).max(TEXT_MAX));
        }
        let kept = &paths[paths.len() - ring.calls()..];
        let mut seen = Vec::new();
        ring.for_each(|entry, texts| seen.push((entry.number as usize, texts.path.to_owned(), texts.subject.to_owned())));
        prop_assert_eq!(ring.forgotten() as usize, paths.len() - kept.len());
        prop_assert_eq!(seen.len(), kept.len());
        for ((number, path, subject), place) in seen.iter().zip(paths.len() - kept.len()..) {
            prop_assert_eq!((*number, path, subject.as_str()), (place + 1, &paths[place], ""));
        }
    }
}

#[test]
fn a_session_id_in_a_path_is_not_told() {
    let id = SessionId::parse(b"758fc320-af96-4faf-8af7-536e7cac5775").unwrap();
    let masked = |path: &str| without_id(path, id);
    let twice = "/carts/758FC320-af96-4faf-8af7-536e7cac5775/Items/758fc320-af96-4faf-8af7-536e7cac5775";
    assert_eq!(masked(twice).as_deref(), Some("/carts/{session-id}/Items/{session-id}"));
    assert_eq!(masked("/carts/758fc320-af96-4faf-8af7-536e7cac5776/items"), None);
    assert_eq!(masked("/carts"), None);
}
