#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use super::*;

const NAME: &str = "lb.example.com";

fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + 60 * minute).unwrap()
}

fn names() -> Vec<String> {
    vec![NAME.to_owned()]
}

fn public() -> Verdict {
    Verdict::Public(format!("{NAME} (203.0.113.7)"))
}

fn silent() -> Verdict {
    Verdict::Unknown(format!("The name {NAME} cannot be looked up: timeout"))
}

/// The status after these checks, each a minute after the one before it.
fn after(checks: &[(Verdict, Vec<String>)]) -> GatewayStatus {
    checks
        .iter()
        .zip(0..)
        .fold(GatewayStatus::default(), |before, ((verdict, addresses), minute)| {
            next(&before, verdict, addresses.clone(), at(minute))
        })
}

#[allow(clippy::needless_pass_by_value, reason = "made in place")]
fn next(before: &GatewayStatus, verdict: &Verdict, addresses: Vec<String>, now: Timestamp) -> GatewayStatus {
    let (condition, exposure) = conclude(verdict, Some(before), &addresses, now);
    let mut status = GatewayStatus {
        exposure,
        ..before.clone()
    };
    conditions::set(&mut status.conditions, &condition, Some(1), now);
    status
}

fn said(status: &GatewayStatus) -> (&str, &str, &str) {
    let said = conditions::find(&status.conditions, EXPOSURE_VERIFIED).unwrap();
    (&said.status, &said.reason, &said.message)
}

#[test]
fn what_was_public_stays_so_until_an_answer_says_otherwise_and_says_since_when() {
    let first = after(&[(public(), names())]);
    for no_answer in [
        (silent(), names()),
        // The address is gone from the Service: that is no answer to whether the next is private.
        (Verdict::Unknown("There is no address yet".into()), vec![]),
        // Another name, of which nothing is known.
        (
            Verdict::Awaited("other.example.com is being looked up".into()),
            vec!["other.example.com".into()],
        ),
    ] {
        let status = next(&first, &no_answer.0, no_answer.1.clone(), at(5));
        assert_eq!(
            (said(&status).0, said(&status).1),
            ("False", EXPOSURE_MISMATCH),
            "{no_answer:?}"
        );
        // Since the first time, in the same words.
        let later = next(&status, &no_answer.0, no_answer.1, at(9));
        assert_eq!(later, status);
        assert_eq!(
            conditions::find(&later.conditions, EXPOSURE_VERIFIED)
                .unwrap()
                .last_transition_time
                .0,
            at(0)
        );
    }
    let status = next(&first, &silent(), names(), at(5));
    assert_eq!(
        said(&status).2,
        format!(
            "The scope is Internal, but {NAME} (203.0.113.7) was a public address when it was last checked. Unknown since {}: The name {NAME} cannot be looked up: timeout",
            at(5)
        )
    );
    let resolved = next(&status, &Verdict::Private, names(), at(6));
    assert_eq!((said(&resolved).0, said(&resolved).1), ("True", "Internal"));
    assert_eq!(resolved.exposure.unwrap().unverified_since, None);
}

#[test]
fn a_restart_says_nothing_new_while_names_are_looked_up_again() {
    let awaited = Verdict::Awaited(format!("The name {NAME} is being looked up"));
    for before in [
        after(&[(public(), names())]),
        after(&[(Verdict::Private, names())]),
        after(&[(public(), names()), (silent(), names())]),
        after(&[(Verdict::Private, names()), (silent(), names())]),
    ] {
        assert_eq!(next(&before, &awaited, names(), at(50)), before);
    }
}

#[test]
fn what_was_private_is_believed_for_an_hour_and_only_of_the_same_addresses() {
    let first = after(&[(Verdict::Private, names())]);
    let status = next(&first, &silent(), names(), at(5));
    assert_eq!((said(&status).0, said(&status).1), ("True", "Internal"));
    assert!(
        said(&status).2.contains(&format!("Unknown since {}", at(5))),
        "{}",
        said(&status).2
    );
    let late = next(&status, &silent(), names(), at(66));
    assert_eq!((said(&late).0, said(&late).1), ("Unknown", "NotVerified"));
    let other = next(&first, &silent(), vec!["other.example.com".into()], at(5));
    assert_eq!((said(&other).0, said(&other).1), ("Unknown", "NotVerified"));
    assert_eq!(other.exposure, None);
}

#[test]
fn a_status_of_an_older_version_is_known_by_its_condition() {
    let mut before = after(&[(public(), names())]);
    before.exposure = None;
    let status = next(&before, &silent(), names(), at(5));
    assert_eq!((said(&status).0, said(&status).1), ("False", EXPOSURE_MISMATCH));
}

#[test]
fn a_clock_that_was_ahead_leaves_no_time_to_come() {
    let first = after(&[(public(), names())]);
    let ahead = next(&first, &silent(), names(), at(500_000));
    let back = next(&ahead, &silent(), names(), at(7));
    assert_eq!(back.exposure.unwrap().unverified_since, Some(at(7)));
}

#[test]
fn what_is_known_to_be_public_and_is_still_there_is_acted_on_without_an_answer() {
    let before = after(&[(public(), names())]);
    assert_eq!(acted_on(&silent(), Some(&before), &names()), public());
    // Not of an address that came after it, nor against an answer.
    assert_eq!(acted_on(&silent(), Some(&before), &["10.0.0.7".to_owned()]), silent());
    assert_eq!(acted_on(&Verdict::Private, Some(&before), &names()), Verdict::Private);
    assert_eq!(acted_on(&silent(), None, &names()), silent());
}

#[test]
fn only_what_was_public_is_acted_on_not_what_was_beside_it() {
    let all = ["10.0.0.7".to_owned(), NAME.to_owned(), "node port 30080".to_owned()];
    let before = after(&[(public(), all.to_vec())]);
    for (there, expected) in [
        (&all[..], public()),
        (&all[1..2], public()),
        (&all[..1], silent()),
        (&all[2..], silent()),
    ] {
        assert_eq!(acted_on(&silent(), Some(&before), there), expected, "{there:?}");
    }
    let subject = "203.0.113.5 of the node one, where its node ports are open,";
    let by_node = Verdict::Public(subject.into());
    let before = after(&[(by_node.clone(), all.to_vec())]);
    assert_eq!(acted_on(&silent(), Some(&before), &all[2..]), by_node);
    assert_eq!(acted_on(&silent(), Some(&before), &all[..2]), silent());
}
