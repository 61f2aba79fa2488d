#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use Severity::{Critical, Warning};
use proptest::prelude::*;

use super::*;
use crate::alert::{
    durable,
    message::{Alert, Content, Message, Status, Subject, fingerprint},
    policy::Receiver,
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

fn name(uid: &str) -> Arc<Name> {
    Arc::new(Name {
        namespace: "app".into(),
        name: "web".into(),
        uid: uid.into(),
    })
}

fn finding(rule: Rule, severity: Severity) -> Finding {
    Finding {
        rule,
        severity,
        since: at(0),
    }
}

/// Returns what is reported: begun, worse, ended.
fn reported(state: &mut State) -> (Vec<Rule>, Vec<Rule>, Vec<Rule>) {
    let news = std::mem::take(&mut state.news);
    for firing in state.firing.values_mut() {
        firing.last_sent = Some(at(0));
    }
    (
        news.begun.iter().map(|key| key.rule).collect(),
        news.worse.iter().map(|key| key.rule).collect(),
        news.ended.iter().map(|(key, _)| key.rule).collect(),
    )
}

#[test]
fn an_alert_begins_once_worsens_once_never_gets_milder_and_ends_once() {
    let mut state = State::default();
    let web = name("1");
    let mut see = |findings: &[Finding]| {
        state.observe(AlertKind::Certificate, "app", "web", Some((&web, findings)));
        reported(&mut state)
    };
    let (warning, critical) = (finding(Rule::Expiring, Warning), finding(Rule::Expiring, Critical));
    assert_eq!(see(&[warning]), (vec![Rule::Expiring], vec![], vec![]));
    assert_eq!(see(&[warning]), (vec![], vec![], vec![]));
    assert_eq!(see(&[critical]), (vec![], vec![Rule::Expiring], vec![]));
    assert_eq!(see(&[warning]), (vec![], vec![], vec![]));
    let expired = finding(Rule::Expired, Critical);
    assert_eq!(see(&[critical, expired]), (vec![Rule::Expired], vec![], vec![]));
    assert_eq!(see(&[]), (vec![], vec![], vec![Rule::Expiring, Rule::Expired]));
    assert_eq!(see(&[]), (vec![], vec![], vec![]));
}

#[test]
fn what_ends_before_it_was_told_is_not_told_at_all() {
    let mut state = State::default();
    let web = name("1");
    state.observe(
        AlertKind::Certificate,
        "app",
        "web",
        Some((&web, &[finding(Rule::NotReady, Critical)])),
    );
    state.observe(AlertKind::Certificate, "app", "web", Some((&web, &[])));
    assert!(state.news.is_empty() && state.firing.is_empty());
}

#[test]
fn one_that_is_deleted_ends_and_one_made_again_begins() {
    let mut state = State::default();
    let failed = [finding(Rule::RenewalFailed, Warning)];
    state.observe(AlertKind::Certificate, "app", "web", Some((&name("1"), &failed)));
    state.observe(AlertKind::Certificate, "app", "web-2", Some((&name("9"), &[])));
    reported(&mut state);
    state.observe(AlertKind::Certificate, "app", "web", Some((&name("2"), &failed)));
    assert_eq!(
        reported(&mut state),
        (vec![Rule::RenewalFailed], vec![], vec![Rule::RenewalFailed])
    );
    state.observe(AlertKind::Certificate, "app", "web", None);
    assert_eq!(reported(&mut state), (vec![], vec![], vec![Rule::RenewalFailed]));
}

#[test]
fn a_state_survives_being_packed_and_ten_thousand_alerts_fit() {
    let mut state = State::default();
    let issuer = Arc::new(GroupKey {
        rule: Rule::Expired,
        issuer: Some("ClusterIssuer/letsencrypt".into()),
    });
    for number in 0_u32..10_000 {
        let name = Arc::new(Name {
            namespace: format!("team-{}", number % 40),
            name: format!("service-{number}"),
            uid: format!(
                "{:032x}",
                u128::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
            ),
        });
        let firing = Firing {
            severity: Critical,
            since: at(number.into()),
            last_sent: Some(at(0)),
            group: Some(issuer.clone()),
            delivered_to: DestinationSet::default(),
        };
        state.firing.insert(
            Key {
                name,
                rule: Rule::Expired,
            },
            firing,
        );
    }
    let (packed, shed) = durable::pack(&mut state);
    assert_eq!(shed, []);
    assert!(packed.len() < 600_000, "{}", packed.len());
    let read = durable::unpack(&packed).unwrap();
    assert_eq!(read.firing, state.firing);
    assert!(durable::unpack(b"rubbish").is_err());
}

/// 32 hexadecimal digits that no packing makes smaller.
fn random(number: u32, salt: &str) -> String {
    fingerprint(&format!("{salt}/{number}"), Rule::Expiring)
}

fn uid(number: u32) -> String {
    random(number, "uid")
}

#[test]
fn a_storm_of_ten_thousand_that_waits_for_two_alertmanagers_is_kept_whole() {
    let mut state = State::default();
    let mut alerts = Vec::new();
    for number in 0_u32..10_000 {
        let uid = uid(number);
        let spread = i64::from(number) * 7919 % 5_000_000;
        let name = Arc::new(Name {
            namespace: format!("team-{}", number % 40),
            name: format!("service-{number}"),
            uid: uid.clone(),
        });
        let key = Key {
            name: name.clone(),
            rule: Rule::Expiring,
        };
        let firing = Firing {
            severity: Warning,
            since: at(spread),
            last_sent: Some(at(0)),
            group: None,
            delivered_to: DestinationSet::default(),
        };
        state.firing.insert(key, firing);
        alerts.push(Alert {
            status: Status::Firing,
            severity: Warning,
            rule: Rule::Expiring,
            fingerprint: fingerprint(&uid, Rule::Expiring),
            since: at(spread),
            ended: None,
            subject: Arc::new(Subject {
                namespace: name.namespace.clone(),
                name: name.name.clone(),
                secret_name: Some(format!("service-{number}-tls")),
                dns_names: vec![format!("service-{number}.team-{}.example.com", number % 40)],
                issuer: Some(SigningIssuer {
                    kind: gatehouse_crds::certificate::IssuerKind::ClusterIssuer,
                    name: "letsencrypt".into(),
                }),
                serial_number: Some(random(number, "serial")),
                not_before: Some(at(spread - 7_000_000)),
                not_after: Some(at(spread + 1_000_000)),
                renewal_time: Some(at(spread - 1_000_000)),
                ..Subject::default()
            }),
            clears: false,
        });
    }
    let receivers = ["blue", "green"].map(|name| Receiver {
        name: name.into(),
        least: Warning,
        webhook: serde_json::from_value(
            serde_json::json!({"url": format!("https://{name}"), "format": "Alertmanager"}),
        )
        .unwrap(),
    });
    state.sync(&receivers, 1, at(0));
    for (id, receiver) in [(0, "blue"), (1, "green")] {
        let queue = &mut state.destination_mut(id).unwrap().queue;
        for (number, alerts) in alerts.chunks(200).enumerate() {
            let message = Message {
                id: format!("msg_{}", random(u32::try_from(number).unwrap(), receiver)),
                time: at(0),
                policy: "app/ops".into(),
                content: Content::Batch {
                    alerts: alerts.to_vec(),
                    valid_seconds: 43_200,
                },
            };
            assert_eq!(queue.push(message, 1, at(0)), 0);
        }
    }
    let (packed, shed) = durable::pack(&mut state);
    assert_eq!(shed, []);
    assert!(packed.len() < 750_000, "{}", packed.len());
    let mut read = durable::unpack(&packed).unwrap();
    assert_eq!(
        (read.queue("blue").unwrap().len(), read.queue("green").unwrap().len()),
        (50, 50)
    );
    // The next leader sends it complete again, for existing and deleted Certificates.
    let known = |_: AlertKind, _: &str, name: &str| {
        let number: usize = name.strip_prefix("service-")?.parse().ok()?;
        let subject = Subject::clone(&alerts[number].subject);
        (number != 1).then(|| (uid(u32::try_from(number).unwrap()), subject))
    };
    let mut content = read
        .destination_mut(0)
        .unwrap()
        .queue
        .start(u64::MAX, at(0))
        .unwrap()
        .content;
    content.complete(known);
    let Content::Batch { alerts: sent, .. } = content else {
        panic!("a batch")
    };
    assert_eq!((&sent[0], &sent[2..200]), (&alerts[0], &alerts[2..200]));
    assert_eq!(sent[1].subject.to_string(), "team-1/service-1");
    assert_eq!(sent[1].fingerprint.len(), 32);
}

proptest! {
    /// Whatever happens: what was begun and not ended is what fires, and nothing begins or ends twice.
    #[test]
    fn every_beginning_has_one_end(steps in prop::collection::vec((0u8..3, 0u8..8, any::<bool>()), 1..100)) {
        let mut state = State::default();
        let mut open = std::collections::BTreeSet::new();
        for (uid, rules, there) in steps {
            let web = name(&uid.to_string());
            let all = [Rule::Expiring, Rule::Expired, Rule::NotReady];
            let found: Vec<Finding> = all.iter().enumerate()
                .filter(|(bit, _)| rules & (1 << bit) != 0)
                .map(|(_, rule)| finding(*rule, Warning))
                .collect();
            state.observe(AlertKind::Certificate, "app", "web", there.then_some((&web, found.as_slice())));
            let news = std::mem::take(&mut state.news);
            for (key, _) in news.ended {
                prop_assert!(open.remove(&key));
            }
            for key in news.begun {
                state.firing.get_mut(&key).unwrap().last_sent = Some(at(0));
                prop_assert!(open.insert(key));
            }
            prop_assert_eq!(&open, &state.firing.keys().cloned().collect());
        }
    }
}
