use gatehouse_crds::certificate::IssuerKind;
use proptest::prelude::*;

use super::*;

const SERVER: &str = "https://ca.test/dir";

fn issuer(name: &str) -> Key {
    Key {
        kind: IssuerKind::ClusterIssuer,
        namespace: String::new(),
        name: name.into(),
    }
}

fn ask(certificate: &str, endpoint: Endpoint) -> Ask<'_> {
    Ask {
        certificate,
        endpoint,
        urgency: None,
        counts: true,
    }
}

fn unserved(certificate: &str, scope: Scope, retry_after: Option<u64>) -> Unserved<'_> {
    Unserved {
        certificate,
        scope,
        retry_after: retry_after.map(Duration::from_secs),
        message: "cannot reach ca.test",
        counts: true,
    }
}

/// One account, and seconds since the start.
struct TestOutages {
    outages: Outages,
    start: Instant,
}

impl TestOutages {
    fn new() -> Self {
        Self {
            outages: Outages::default(),
            start: Instant::now(),
        }
    }

    fn at(&self, second: u64) -> Instant {
        self.start + Duration::from_secs(second)
    }

    fn fails(&self, certificate: &str, second: u64) -> Option<Away> {
        let request = unserved(certificate, Scope::Server, None);
        self.outages.unserved(&issuer("le"), SERVER, &request, self.at(second))
    }

    fn asks(&self, certificate: &str, second: u64) -> Option<Away> {
        self.outages
            .ask(&issuer("le"), &ask(certificate, Endpoint::NewOrder), self.at(second))
    }

    fn answered(&self, certificate: &str) -> Woken {
        self.outages
            .answered(&issuer("le"), SERVER, certificate, Endpoint::NewOrder)
    }
}

#[test]
fn one_outage_is_one_failure_whoever_meets_it() {
    let outages_under_test = TestOutages::new();
    let first = outages_under_test
        .fails("a", 0)
        .map(|away| (away.is_first, away.failures, away.after));
    assert_eq!(first, Some((true, 1, Duration::from_secs(60))));
    // In flight when it began, or about to ask.
    for certificate in ["b", "c"] {
        let away = outages_under_test
            .fails(certificate, 1)
            .map(|away| (away.is_first, away.failures));
        assert_eq!(away, Some((false, 1)), "{certificate}");
    }
    let away = outages_under_test
        .asks("d", 2)
        .map(|away| (away.is_first, away.after, away.since));
    assert_eq!(away, Some((false, Duration::from_secs(58), Duration::from_secs(2))));
    // The next try fails as well: the same outage.
    assert_eq!(outages_under_test.asks("a", 60), None);
    let again = outages_under_test
        .fails("a", 61)
        .map(|away| (away.is_first, away.failures, away.after));
    assert_eq!(again, Some((false, 2, Duration::from_secs(120))));
}

#[test]
fn tries_are_a_quarter_of_an_hour_apart_at_most_and_one_at_a_time() {
    let outages_under_test = TestOutages::new();
    outages_under_test.fails("a", 0);
    let (mut second, mut pauses) = (0, Vec::new());
    for _ in 0..8 {
        let pause = outages_under_test
            .asks("a", second)
            .map_or(0, |away| away.after.as_secs());
        pauses.push(pause);
        second += pause;
        assert_eq!(outages_under_test.asks("a", second), None);
        assert!(outages_under_test.asks("b", second).is_some(), "another tries already");
        outages_under_test.fails("a", second);
    }
    assert_eq!(pauses, [60, 120, 240, 480, 810, 810, 810, 810]);
    assert!(pauses.iter().all(|pause| pause * 11 / 10 <= 900));
}

#[test]
fn a_try_that_does_not_come_back_is_not_waited_for() {
    let outages_under_test = TestOutages::new();
    outages_under_test.fails("a", 0);
    assert_eq!(outages_under_test.asks("gone", 60), None);
    assert!(outages_under_test.asks("b", 61).is_some());
    assert_eq!(outages_under_test.asks("b", 60 + 120), None);
}

#[test]
fn the_first_answer_wakes_all_who_wait() {
    let outages_under_test = TestOutages::new();
    outages_under_test.fails("a", 0);
    outages_under_test.asks("b", 1);
    outages_under_test.asks("c", 2);
    assert_eq!(outages_under_test.answered("b").released, ["a", "c"]);
    assert_eq!(outages_under_test.asks("d", 3), None, "it is back");
    assert_eq!(outages_under_test.answered("b"), Woken::default());
}

#[test]
fn what_a_ca_said_is_not_shortened_and_not_repeated_for_ever() {
    let outages_under_test = TestOutages::new();
    let retry_after = |certificate: &str, second, retry_after| {
        let request = unserved(certificate, Scope::Server, retry_after);
        outages_under_test
            .outages
            .unserved(&issuer("le"), SERVER, &request, outages_under_test.at(second))
            .map(|away| away.after.as_secs())
    };
    assert_eq!(retry_after("a", 0, Some(40)), Some(40));
    let hurried = Ask {
        urgency: Some(Duration::from_secs(5)),
        ..ask("a", Endpoint::Order)
    };
    assert!(
        outages_under_test
            .outages
            .ask(&issuer("le"), &hurried, outages_under_test.at(39))
            .is_some()
    );
    assert!(
        outages_under_test
            .outages
            .ask(&issuer("le"), &hurried, outages_under_test.at(40))
            .is_none()
    );
    // A server that says `Retry-After: 1` again and again is asked less often.
    let mut second = 40;
    let mut pauses = Vec::new();
    for _ in 0..4 {
        let pause = retry_after("a", second, Some(1)).unwrap_or_default();
        pauses.push(pause);
        second += pause;
        assert_eq!(outages_under_test.asks("a", second), None);
    }
    assert_eq!(pauses, [10, 30, 120, 810]);
    assert_eq!(retry_after("a", second, Some(90 * 86_400)), Some(86_400));
}

#[test]
fn a_certificate_about_to_expire_asks_more_often() {
    let outages_under_test = TestOutages::new();
    outages_under_test.fails("a", 0);
    let hurried = |seconds, second| {
        let ask = Ask {
            urgency: Some(Duration::from_secs(seconds)),
            ..ask("near", Endpoint::NewOrder)
        };
        outages_under_test
            .outages
            .ask(&issuer("le"), &ask, outages_under_test.at(second))
    };
    assert!(hurried(20, 19).is_some());
    assert!(hurried(0, 4).is_some(), "never more often than each five seconds");
    assert!(hurried(20, 20).is_none());
}

#[test]
fn what_one_endpoint_refuses_holds_no_other() {
    let outages_under_test = TestOutages::new();
    let request = unserved("a", Scope::Endpoint(Endpoint::Finalize), None);
    outages_under_test
        .outages
        .unserved(&issuer("le"), SERVER, &request, outages_under_test.at(0));
    assert_eq!(outages_under_test.asks("b", 1), None);
    // An answer elsewhere says nothing of it, until the server itself is away.
    assert_eq!(outages_under_test.answered("b").released, Vec::<String>::new());
    let finalize = ask("c", Endpoint::Finalize);
    assert!(
        outages_under_test
            .outages
            .ask(&issuer("le"), &finalize, outages_under_test.at(1))
            .is_some()
    );
    outages_under_test.fails("d", 2);
    assert!(outages_under_test.asks("b", 3).is_some());
    assert_eq!(outages_under_test.answered("b").released, ["d"]);
    let finalized = |certificate| {
        outages_under_test
            .outages
            .answered(&issuer("le"), SERVER, certificate, Endpoint::Finalize)
    };
    assert_eq!(finalized("c").released, ["a"]);
}

#[test]
fn a_certificate_that_a_ca_can_never_serve_holds_up_no_others_again() {
    let outages_under_test = TestOutages::new();
    assert!(outages_under_test.fails("poison", 0).is_some());
    outages_under_test.asks("good", 1);
    assert_eq!(outages_under_test.asks("good", 60), None);
    assert_eq!(outages_under_test.answered("good").released, ["poison"]);
    assert_eq!(outages_under_test.fails("poison", 62), None, "its own trouble");
    assert_eq!(outages_under_test.asks("good", 63), None);
    // Once it is served it is a Certificate like others.
    outages_under_test.answered("poison");
    assert!(outages_under_test.fails("poison", 70).is_some());
}

#[test]
fn another_account_at_the_same_server_is_not_held_up_and_profits_from_an_answer() {
    let outages_under_test = TestOutages::new();
    outages_under_test.fails("a", 0);
    let other = ask("o", Endpoint::NewOrder);
    assert!(
        outages_under_test
            .outages
            .ask(&issuer("other"), &other, outages_under_test.at(1))
            .is_none()
    );
    outages_under_test.outages.registered(&issuer("third"), SERVER, false);
    outages_under_test
        .outages
        .registered(&issuer("elsewhere"), "https://other.test/dir", false);
    let woken = outages_under_test
        .outages
        .answered(&issuer("other"), SERVER, "o", Endpoint::NewOrder);
    let expected = Woken {
        hinted: vec!["a".into()],
        issuers: vec![issuer("third")],
        ..Woken::default()
    };
    assert_eq!(woken, expected);
    assert_eq!(outages_under_test.asks("a", 6), None, "it may ask now");
    // A hint is given once for each try that failed.
    let woken = outages_under_test
        .outages
        .answered(&issuer("other"), SERVER, "o", Endpoint::NewOrder);
    assert_eq!(woken.hinted, Vec::<String>::new());
}

#[test]
fn the_failure_of_one_that_is_gone_is_the_next_ones_and_nothing_is_left_behind() {
    let outages_under_test = TestOutages::new();
    outages_under_test.fails("a", 0);
    outages_under_test.outages.forget("a");
    assert_eq!(outages_under_test.asks("b", 1).map(|away| away.is_first), Some(true));
    assert_eq!(outages_under_test.asks("c", 1).map(|away| away.is_first), Some(false));
    outages_under_test.answered("b");
    assert!(outages_under_test.outages.lock().is_empty());
    outages_under_test.fails("a", 2);
    outages_under_test.outages.forget_issuer(&issuer("le"));
    assert!(outages_under_test.outages.lock().is_empty());
}

#[test]
fn what_waits_since_before_a_restart_is_woken_and_holds_no_others() {
    let outages_under_test = TestOutages::new();
    outages_under_test
        .outages
        .recall(&issuer("le"), "a", true, outages_under_test.at(0));
    outages_under_test
        .outages
        .recall(&issuer("le"), "b", false, outages_under_test.at(0));
    assert_eq!(outages_under_test.asks("c", 0), None);
    assert_eq!(outages_under_test.asks("d", 0), None);
    // It is still away: the same outage, which has had its failure.
    assert_eq!(outages_under_test.fails("c", 1).map(|away| away.is_first), Some(false));
    assert!(outages_under_test.asks("d", 2).is_some());
    assert_eq!(outages_under_test.answered("c").released, ["a", "b", "d"]);
}

#[test]
fn what_is_no_attempt_is_not_the_failure() {
    let outages_under_test = TestOutages::new();
    let advice = Unserved {
        counts: false,
        ..unserved("a", Scope::Server, None)
    };
    let away = outages_under_test
        .outages
        .unserved(&issuer("le"), SERVER, &advice, outages_under_test.at(0));
    assert_eq!(away.map(|away| away.is_first), Some(false));
    assert_eq!(outages_under_test.asks("b", 1).map(|away| away.is_first), Some(true));
}

proptest! {
    #[test]
    fn whatever_happens_an_outage_has_one_failure_and_an_answer_ends_it(
        events in proptest::collection::vec((0u8..4, 0u8..6, 0u64..400), 1..120),
    ) {
        let outages_under_test = TestOutages::new();
        let (mut second, mut counted) = (0, 0);
        for (kind, certificate, wait) in events {
            second += wait;
            let name = format!("c{certificate}");
            let away = match kind {
                0 => outages_under_test.fails(&name, second),
                1 | 2 => outages_under_test.asks(&name, second),
                _ => {
                    outages_under_test.answered(&name);
                    counted = 0;
                    None
                }
            };
            if let Some(away) = away {
                counted += u32::from(away.is_first);
                prop_assert!(away.after <= Duration::from_secs(810));
            }
            prop_assert!(counted <= 1);
            if kind == 3 {
                prop_assert_eq!(outages_under_test.asks(&name, second), None);
            }
        }
    }
}
