//! AlertPolicies that are in trouble: alerts that fire, receivers that take nothing.

use gatehouse_crds::alert::{AlertPolicyStatus, FiringAlert, Severity};
use jiff::Timestamp;

use crate::cli::{
    moment::relative,
    terminal::{Paint, Screen},
};

/// Alerts of one policy that are named; the rest is counted.
const NAMED: usize = 5;

/// A policy, by its kind and name, with its status.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Policy {
    /// `AlertPolicy app/ops` or `ClusterAlertPolicy ops`.
    pub title: String,
    pub status: AlertPolicyStatus,
}

/// The section below the table. Empty when all is well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Alarms {
    pub text: String,
    /// Returns whether a user has to act: an alert that is no mere event, or a receiver that fails.
    pub serious: bool,
}

/// Gathers what is wrong. `namespace`: only what concerns it.
pub(in crate::cli) fn alarms(policies: &[Policy], namespace: Option<&str>, now: Timestamp, screen: Screen) -> Alarms {
    let mut alarms = Alarms::default();
    for policy in policies {
        let lines = lines(policy, namespace, now, screen, &mut alarms.serious);
        if !lines.is_empty() {
            let title = screen.paint(&policy.title, Paint::Strong);
            alarms.text.extend(["\n", &title, "\n", &lines]);
        }
    }
    alarms
}

fn lines(policy: &Policy, namespace: Option<&str>, now: Timestamp, screen: Screen, serious: &mut bool) -> String {
    let status = &policy.status;
    let mut text = String::new();
    let mut line = |paint, words: String| {
        text.extend(["  ", &screen.paint(&words, paint), "\n"]);
    };
    let refused = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == READY && condition.status == "False");
    if let Some(refused) = refused {
        *serious = true;
        line(
            Paint::Bad,
            format!("not carried out: {}: {}", refused.reason, refused.message),
        );
    }
    let subject = |alert: &FiringAlert| alert.certificate.clone().or(alert.gateway.clone()).unwrap_or_default();
    let concerns = |subject: &str| {
        namespace.is_none_or(|namespace| subject.split_once('/').is_some_and(|(of, _)| of == namespace))
    };
    let firing: Vec<_> = status.firing.iter().filter(|alert| concerns(&subject(alert))).collect();
    for alert in firing.iter().take(NAMED) {
        *serious |= alert.severity > Severity::Info;
        let paint = match alert.severity {
            Severity::Critical => Paint::Bad,
            Severity::Warning => Paint::Warn,
            Severity::Info => Paint::Plain,
        };
        line(
            paint,
            format!(
                "{}: {} {}, since {}",
                alert.severity.as_str(),
                subject(alert),
                alert.rule.as_str(),
                relative(alert.since, now)
            ),
        );
    }
    if let Some(more) = firing.len().checked_sub(NAMED).filter(|more| *more > 0) {
        *serious = true;
        line(Paint::Plain, format!("and {more} more"));
    }
    for receiver in &status.receivers {
        if !receiver.stopped && receiver.consecutive_failures == 0 {
            continue;
        }
        *serious = true;
        let what = if receiver.stopped {
            "stopped, since it answered 410 Gone".to_owned()
        } else {
            let last = receiver
                .last_failure
                .map(|time| format!(", the last {}", relative(time, now)));
            format!(
                "fails ({} in a row{}, {} waiting)",
                receiver.consecutive_failures,
                last.unwrap_or_default(),
                receiver.pending
            )
        };
        let why = receiver
            .message
            .as_ref()
            .map(|why| format!(": {why}"))
            .unwrap_or_default();
        line(Paint::Bad, format!("receiver {} {what}{why}", receiver.name));
    }
    text
}

/// The condition that says whether a policy can be carried out.
const READY: &str = "Ready";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PAPER: Screen = Screen {
        colour: false,
        width: None,
    };

    fn policy(status: &str) -> Policy {
        Policy {
            title: "AlertPolicy app/ops".into(),
            status: serde_saphyr::from_str(status).unwrap(),
        }
    }

    fn alarms_of(status: &str, namespace: Option<&str>) -> Alarms {
        alarms(
            &[policy(status)],
            namespace,
            "2026-11-21T12:00:00Z".parse().unwrap(),
            PAPER,
        )
    }

    #[test]
    fn alerts_and_failing_receivers_are_told_and_healthy_ones_are_not() {
        let alarms = alarms_of(
            "firing:\n- {certificate: app/shop, rule: renewalFailed, severity: warning, since: 2026-11-21T09:00:00Z}\n- {certificate: zoo/shop, rule: expired, severity: critical, since: 2026-11-21T09:00:00Z}\nreceivers:\n- {name: chat, consecutiveFailures: 3, pending: 2, lastFailure: 2026-11-21T11:55:00Z, message: connection refused}\n- {name: pager, consecutiveFailures: 1, pending: 0, stopped: true}\n- {name: mail, consecutiveFailures: 0, pending: 0}\n",
            Some("app"),
        );
        insta::assert_snapshot!(alarms.text, @r"

        AlertPolicy app/ops
          warning: app/shop renewalFailed, since 3h ago
          receiver chat fails (3 in a row, the last 5m ago, 2 waiting): connection refused
          receiver pager stopped, since it answered 410 Gone
        ");
        assert!(alarms.serious);
    }

    #[test]
    fn news_is_no_trouble_and_many_are_counted() {
        let news = "firing:\n- {certificate: app/shop, rule: renewed, severity: info, since: 2026-11-21T11:59:00Z}\n";
        assert!(!alarms_of(news, None).serious);
        assert_eq!(alarms_of("{}", None), Alarms::default());
        #[allow(clippy::format_collect, reason = "a test")]
        let many: String = (0..8)
            .map(|n| {
                format!("- {{certificate: app/c{n}, rule: expired, severity: critical, since: 2026-11-21T11:59:00Z}}\n")
            })
            .collect();
        assert!(
            alarms_of(&format!("firing:\n{many}"), None)
                .text
                .ends_with("  and 3 more\n")
        );
    }
}
