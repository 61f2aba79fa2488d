#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use super::*;
use crate::alert::format::samples::{at, every_rule, expiring, failing, group, group_over, now, over, renewed};

const WHY: &str = ": ChallengeFailed: catalog.example.com: no <TXT> record & no *CNAME* at _acme-challenge";

fn sentence(rule: Rule, subject: Subject) -> String {
    alert(
        &crate::alert::format::samples::alert(rule, Severity::Warning, subject),
        now(),
    )
}

#[test]
fn each_rule_says_what_is_up_and_how_much_time_is_left() {
    let said: Vec<_> = every_rule().iter().map(|each| alert(each, now())).collect();
    assert_eq!(
        said,
        [
            &format!("Certificate app/catalog runs out in 6 days (2026-11-27T10:00:00Z) and has not been renewed{WHY}"),
            &format!(
                "Certificate app/catalog ran out 2 hours ago (2026-11-21T08:00:00Z) and has not been renewed{WHY}"
            ),
            &format!(
                "Certificate app/catalog could not be renewed in 2 attempts and runs out in 6 days \
                 (2026-11-27T10:00:00Z){WHY}"
            ),
            &format!("There is no valid certificate for app/catalog{WHY}"),
            "Certificate app/catalog must be issued again, but is held back for 9 minutes (until \
             2026-11-21T10:09:00Z): too many Secrets were lost or damaged at once",
            "Certificate app/catalog was renewed and is valid for 89 days (until 2027-02-19T08:59:00Z)",
            "Gateway staging/shop-api is meant to be internal and is public: The scope is Internal, but 203.0.113.7 is a public address",
        ]
    );
}

#[test]
fn what_is_not_known_is_left_out() {
    let bare = || Subject {
        namespace: "app".into(),
        name: "new".into(),
        ..Subject::default()
    };
    let table = [
        (
            Rule::Expiring,
            "Certificate app/new runs out soon and has not been renewed",
        ),
        (
            Rule::Expired,
            "Certificate app/new has run out and has not been renewed",
        ),
        (Rule::RenewalFailed, "Certificate app/new could not be issued"),
        (Rule::NotReady, "There is no valid certificate for app/new"),
        (
            Rule::ReissueHeld,
            "Certificate app/new must be issued again, but is held back: too many Secrets were lost or damaged at once",
        ),
        (Rule::Renewed, "Certificate app/new was renewed"),
    ];
    for (rule, expected) in table {
        assert_eq!(sentence(rule, bare()), expected);
    }
}

#[test]
fn a_certificate_that_ran_out_while_it_expired_is_said_to_have_run_out() {
    let late = Subject {
        not_after: Some(at("2026-11-21T09:58:59Z")),
        last_failure: None,
        ..failing()
    };
    assert_eq!(
        sentence(Rule::Expiring, late),
        "Certificate app/catalog ran out 61 seconds ago (2026-11-21T09:58:59Z) and has not been renewed"
    );
}

#[test]
fn a_renewal_that_does_not_reach_its_workloads_is_not_called_a_failed_attempt() {
    let mut late = every_rule()[2].clone();
    let subject = std::sync::Arc::make_mut(&mut late.subject);
    subject.failed_attempts = Some(0);
    if let Some(failure) = &mut subject.last_failure {
        failure.message = "Deployment web does not exist: create it, or remove it from spec.rollout.".into();
    }
    let text = alert(&late, now());
    assert!(
        text.starts_with("Certificate app/catalog was renewed, but its workloads still serve the one before"),
        "{text}"
    );
    assert!(text.contains("Deployment web does not exist"), "{text}");
}

#[test]
fn the_end_speaks_of_a_renewal_only_when_there_is_a_new_certificate() {
    let refreshed = Alert {
        subject: renewed().into(),
        ..over(expiring())
    };
    assert_eq!(
        alert(&refreshed, now()),
        "Certificate app/catalog was renewed and is valid for 89 days (until 2027-02-19T08:59:00Z); the alert that it \
         runs out soon is over after 3 hours"
    );
    // Deleted, or no longer selected.
    assert_eq!(
        alert(&over(expiring()), now()),
        "The alert that Certificate app/catalog runs out soon is over after 3 hours"
    );
    let held = over(every_rule()[4].clone());
    assert_eq!(
        alert(&held, now()),
        "The alert that Certificate app/catalog is held back is over after 3 hours"
    );
    let news = over(every_rule()[5].clone());
    assert_eq!(
        alert(&news, now()),
        "The news that Certificate app/catalog was renewed is closed"
    );
}

#[test]
fn a_group_tells_how_many_whose_and_the_first() {
    assert_eq!(
        super::group(&group(Rule::Expiring), now()),
        "42 Certificates of ClusterIssuer letsencrypt run out soon and have not been renewed: app/shop-0 in 6 days \
         (2026-11-27T10:00:00Z), app/shop-1, app/shop-2 and 39 more"
    );
    let mixed = Group {
        issuer: None,
        ..group(Rule::RenewalFailed)
    };
    assert_eq!(
        super::group(&mixed, now()),
        format!("42 Certificates cannot be renewed: app/shop-0, app/shop-1, app/shop-2 and 39 more; app/shop-0{WHY}")
    );
    assert_eq!(
        super::group(&group_over(group(Rule::NotReady)), now()),
        "The alert that 42 Certificates of ClusterIssuer letsencrypt have no valid certificate is over after 90 seconds"
    );
}

#[test]
fn a_span_is_told_in_the_largest_unit_of_which_there_are_two() {
    let table = [
        (0, "0 seconds"),
        (1, "1 second"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (7199, "119 minutes"),
        (7200, "2 hours"),
        (2 * 86_400 - 1, "47 hours"),
        (2 * 86_400, "2 days"),
        (90 * 86_400, "90 days"),
    ];
    for (seconds, expected) in table {
        assert_eq!(span(Duration::from_secs(seconds)), expected);
    }
}

#[test]
fn the_policys_kind_is_told_by_its_name() {
    assert_eq!(
        test("app/main"),
        "This is a test of AlertPolicy app/main: nothing is wrong"
    );
    assert_eq!(
        heartbeat("all", Duration::from_secs(86_400)),
        "Gatehouse is alive and watches the Certificates of ClusterAlertPolicy all; the next sign of life comes in 24 \
         hours"
    );
}

#[test]
fn a_long_text_is_cut_with_a_sign() {
    assert_eq!(clipped("aüc", 3), "aüc");
    assert_eq!(clipped("aücd", 3), "aü…");
    assert_eq!(clipped("a\nb\u{1b}[1m", 10), "a b [1m");
}
