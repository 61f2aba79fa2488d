//! Messages for tests: an alert of each rule, groups, a heartbeat, a test.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use gatehouse_crds::alert::{Rule, Severity};
use gatehouse_crds::certificate::{IssuerKind, LastFailure, SigningIssuer};
use jiff::Timestamp;

use crate::alert::message::{Alert, Content, GatewayFacts, Group, Message, Status, Subject};

pub(in crate::alert) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Time of every sample.
pub(in crate::alert) fn now() -> Timestamp {
    at("2026-11-21T10:00:00Z")
}

pub(in crate::alert) fn letsencrypt() -> SigningIssuer {
    SigningIssuer {
        kind: IssuerKind::ClusterIssuer,
        name: "letsencrypt".into(),
    }
}

/// Six days before its end, with attempts that failed.
pub(in crate::alert) fn failing() -> Subject {
    Subject {
        namespace: "app".into(),
        name: "catalog".into(),
        secret_name: Some("catalog-tls".into()),
        dns_names: vec!["catalog.example.com".into(), "*.catalog.example.com".into()],
        issuer: Some(letsencrypt()),
        serial_number: Some("04c1a2".into()),
        not_before: Some(at("2026-08-29T10:00:00Z")),
        not_after: Some(at("2026-11-27T10:00:00Z")),
        renewal_time: Some(at("2026-10-28T10:00:00Z")),
        failed_attempts: Some(2),
        last_failure: Some(LastFailure {
            time: at("2026-11-21T09:59:00Z"),
            reason: "ChallengeFailed".into(),
            message: "catalog.example.com: no <TXT> record & no *CNAME* at _acme-challenge".into(),
        }),
        next_attempt_time: Some(at("2026-11-21T11:30:00Z")),
        gateway: None,
    }
}

/// The same after it was renewed a minute ago.
pub(in crate::alert) fn renewed() -> Subject {
    Subject {
        serial_number: Some("04c1a3".into()),
        not_before: Some(at("2026-11-21T08:59:00Z")),
        not_after: Some(at("2027-02-19T08:59:00Z")),
        renewal_time: Some(at("2027-01-20T08:59:00Z")),
        failed_attempts: None,
        last_failure: None,
        next_attempt_time: None,
        ..failing()
    }
}

/// An Internal Gateway with a public address.
fn exposed() -> Subject {
    Subject {
        namespace: "staging".into(),
        name: "shop-api".into(),
        gateway: Some(GatewayFacts {
            service_name: Some("shop-api-internal-load-balancer".into()),
            provider: Some("GKE".into()),
            scope: "Internal".into(),
            addresses: vec!["203.0.113.7".into()],
            message: Some("The scope is Internal, but 203.0.113.7 is a public address".into()),
        }),
        ..Subject::default()
    }
}

pub(in crate::alert) fn alert(rule: Rule, severity: Severity, subject: Subject) -> Alert {
    Alert {
        status: Status::Firing,
        severity,
        rule,
        fingerprint: "0123456789abcdef0123456789abcdef".into(),
        since: at("2026-11-21T07:00:00Z"),
        ended: None,
        subject: Arc::new(subject),
        clears: false,
    }
}

pub(in crate::alert) fn over(alert: Alert) -> Alert {
    Alert {
        status: Status::Resolved,
        ended: Some(now()),
        ..alert
    }
}

/// 42 Certificates, of which each ends a day later than the one before.
pub(in crate::alert) fn group(rule: Rule) -> Group {
    let subject = |place: i64| {
        let end = Timestamp::from_second(failing().not_after.unwrap().as_second() + place * 86_400).unwrap();
        Arc::new(Subject {
            name: format!("shop-{place}"),
            secret_name: Some(format!("shop-{place}-tls")),
            dns_names: vec![format!("shop-{place}.example.com")],
            not_after: Some(end),
            ..failing()
        })
    };
    Group {
        status: Status::Firing,
        severity: Severity::Critical,
        rule,
        fingerprint: "fedcba9876543210fedcba9876543210".into(),
        since: at("2026-11-21T09:58:30Z"),
        ended: None,
        issuer: Some(letsencrypt()),
        count: 42,
        first: (0..20).map(subject).collect(),
    }
}

pub(in crate::alert) fn group_over(group: Group) -> Group {
    Group {
        status: Status::Resolved,
        ended: Some(now()),
        ..group
    }
}

pub(in crate::alert) fn message(content: Content) -> Message {
    Message {
        id: "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W".into(),
        time: now(),
        policy: "app/main".into(),
        content,
    }
}

pub(in crate::alert) fn expiring() -> Alert {
    alert(Rule::Expiring, Severity::Warning, failing())
}

/// Every rule firing, with what a Certificate looks like then.
pub(in crate::alert) fn every_rule() -> Vec<Alert> {
    let expired = Subject {
        not_after: Some(at("2026-11-21T08:00:00Z")),
        ..failing()
    };
    let never = Subject {
        serial_number: None,
        not_before: None,
        not_after: None,
        renewal_time: None,
        ..failing()
    };
    let held = Subject {
        next_attempt_time: Some(at("2026-11-21T10:09:00Z")),
        ..renewed()
    };
    vec![
        expiring(),
        alert(Rule::Expired, Severity::Critical, expired),
        alert(Rule::RenewalFailed, Severity::Critical, failing()),
        alert(Rule::NotReady, Severity::Critical, never),
        alert(Rule::ReissueHeld, Severity::Warning, held),
        alert(Rule::Renewed, Severity::Info, renewed()),
        alert(Rule::ExposureMismatch, Severity::Critical, exposed()),
    ]
}
