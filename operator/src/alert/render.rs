//! Texts for people, in one sentence: the state, and how much time is left.
//!
//! Pure, and always relative to a given moment. The texts of Certificates are expected to be fit to show
//! (see `format::tamed`); each format escapes what comes from here.

use std::time::Duration;

use gatehouse_crds::alert::{AlertKind, Rule, Severity};
use gatehouse_crds::certificate::{LastFailure, SigningIssuer};
use jiff::Timestamp;

use super::message::{Alert, Group, Status, Subject};
use crate::egress::printable;

/// Maximum length of a failure's message in a sentence, in characters.
const MAX_WHY: usize = 300;

/// So many Certificates are named in a sentence.
const EXAMPLES: usize = 3;

/// A few words above the sentence: `Critical: certificate runs out`.
pub(super) fn headline(status: Status, severity: Severity, rule: Rule) -> String {
    let level = match (status, severity) {
        (Status::Resolved, _) => "Resolved",
        (_, Severity::Critical) => "Critical",
        (_, Severity::Warning) => "Warning",
        (_, Severity::Info) => "Info",
    };
    let what = match rule {
        Rule::Expiring => "certificate runs out",
        Rule::Expired => "certificate has run out",
        Rule::RenewalFailed => "certificate cannot be renewed",
        Rule::NotReady => "no valid certificate",
        Rule::ReissueHeld => "re-issue held back",
        Rule::Renewed => "certificate renewed",
        Rule::ExposureMismatch => "internal gateway is public",
    };
    format!("{level}: {what}")
}

/// The sentence for one alert, as of `at`.
pub(super) fn alert(alert: &Alert, at: Timestamp) -> String {
    let subject = &*alert.subject;
    match alert.status {
        Status::Firing => firing(alert.rule, subject, at),
        Status::Resolved => resolved(alert, at),
    }
}

fn firing(rule: Rule, subject: &Subject, at: Timestamp) -> String {
    let why = why(subject.last_failure.as_ref());
    let end = subject.not_after;
    match rule {
        Rule::Expiring | Rule::Expired => {
            let end = end.map_or_else(|| claim(rule).to_owned(), |end| runs_out(end, at));
            format!("Certificate {subject} {end} and has not been renewed{why}")
        }
        // No attempt failed: what came of the last did not reach its workloads.
        Rule::RenewalFailed if subject.failed_attempts == Some(0) => {
            format!("Certificate {subject} was renewed, but its workloads still serve the one before{why}")
        }
        Rule::RenewalFailed => {
            let done = if end.is_some() { "renewed" } else { "issued" };
            let tries = match subject.failed_attempts {
                Some(1) => " in 1 attempt".to_owned(),
                Some(many) => format!(" in {many} attempts"),
                None => String::new(),
            };
            let end = end.map_or_else(String::new, |end| format!(" and {}", runs_out(end, at)));
            format!("Certificate {subject} could not be {done}{tries}{end}{why}")
        }
        Rule::NotReady => format!("There is no valid certificate for {subject}{why}"),
        Rule::ReissueHeld => {
            let until = subject
                .next_attempt_time
                .filter(|next| *next > at)
                .map_or_else(String::new, |next| {
                    format!(" for {} (until {})", span(between(at, next)), moment(next))
                });
            format!(
                "Certificate {subject} must be issued again, but is held back{until}: too many Secrets were lost or \
                 damaged at once"
            )
        }
        Rule::ExposureMismatch => {
            let message = subject.gateway.as_ref().and_then(|gateway| gateway.message.as_deref());
            format!(
                "Gateway {subject} {}: {}",
                claim(rule),
                message.unwrap_or("see its status")
            )
        }
        Rule::Renewed => match end.filter(|end| *end > at) {
            Some(end) => format!("Certificate {subject} was renewed and {}", valid(end, at)),
            None => format!("Certificate {subject} was renewed"),
        },
    }
}

fn resolved(alert: &Alert, at: Timestamp) -> String {
    let subject = &*alert.subject;
    let ended = alert.ended.unwrap_or(at);
    if alert.rule == Rule::Renewed {
        return format!("The news that Certificate {subject} was renewed is closed");
    }
    let lasted = span(between(alert.since, ended));
    if alert.rule.kind() == AlertKind::Gateway {
        return format!(
            "The alert that Gateway {subject} {} is over after {lasted}",
            claim(alert.rule)
        );
    }
    match subject.not_after.filter(|end| fresh(subject, *end, ended)) {
        Some(end) if alert.rule != Rule::ReissueHeld => format!(
            "Certificate {subject} was renewed and {}; the alert that it {} is over after {lasted}",
            valid(end, at),
            claim(alert.rule),
        ),
        _ => format!(
            "The alert that Certificate {subject} {} is over after {lasted}",
            claim(alert.rule)
        ),
    }
}

/// Whether the certificate is new, or else the alert may have ended because the Certificate was deleted or is
/// no longer selected: then nothing must sound as if all were well.
fn fresh(subject: &Subject, end: Timestamp, at: Timestamp) -> bool {
    let Some(start) = subject.not_before else {
        return false;
    };
    subject.failed_attempts.is_none() && between(at, end) * 4 >= between(start, end) * 3
}

/// The sentence for many, as of `at`.
pub(super) fn group(group: &Group, at: Timestamp) -> String {
    let whose = group
        .issuer
        .as_ref()
        .map_or_else(String::new, |issuer| format!(" of {}", self::issuer(issuer)));
    let who = format!("{} {}{whose} {}", group.count, plural(group.rule), claims(group.rule));
    if group.status == Status::Resolved {
        let lasted = span(between(group.since, group.ended.unwrap_or(at)));
        return format!("The alert that {who} is over after {lasted}");
    }
    let soonest = group
        .first
        .iter()
        .filter_map(|subject| Some((subject.not_after.filter(|end| *end > at)?, subject)))
        .min_by_key(|(end, _)| *end)
        .filter(|_| group.rule == Rule::Expiring);
    if let Some((end, subject)) = soonest {
        let others = group.first.iter().filter(|other| *other != subject);
        let others = named(
            others.map(|other| &**other),
            group.count.saturating_sub(1),
            EXAMPLES - 1,
        );
        return format!(
            "{who}: {subject} in {} ({}), {others}",
            span(between(at, end)),
            moment(end)
        );
    }
    let example = group.first.iter().find(|subject| subject.last_failure.is_some());
    let example = example.map_or_else(String::new, |subject| {
        format!("; {subject}{}", why(subject.last_failure.as_ref()))
    });
    let named = named(group.first.iter().map(|subject| &**subject), group.count, EXAMPLES);
    format!("{who}: {named}{example}")
}

/// `app/a, app/b and 7 more`.
pub(super) fn named<'a>(subjects: impl Iterator<Item = &'a Subject>, count: usize, most: usize) -> String {
    let names: Vec<_> = subjects.take(most).map(ToString::to_string).collect();
    let more = count.saturating_sub(names.len());
    match (names.is_empty(), more) {
        (_, 0) => names.join(", "),
        (true, _) => format!("{more} in all"),
        (false, _) => format!("{} and {more} more", names.join(", ")),
    }
}

/// Returns the sentence of a heartbeat.
pub(super) fn heartbeat(policy: &str, interval: Duration) -> String {
    format!(
        "Gatehouse is alive and watches the Certificates of {}; the next sign of life comes in {}",
        self::policy(policy),
        span(interval)
    )
}

/// The sentence of a test.
pub(super) fn test(policy: &str) -> String {
    format!("This is a test of {}: nothing is wrong", self::policy(policy))
}

/// `AlertPolicy app/main`, `ClusterAlertPolicy main`.
pub(super) fn policy(policy: &str) -> String {
    let kind = if policy.contains('/') {
        "AlertPolicy"
    } else {
        "ClusterAlertPolicy"
    };
    format!("{kind} {policy}")
}

/// `ClusterIssuer letsencrypt`.
pub(super) fn issuer(issuer: &SigningIssuer) -> String {
    format!("{} {}", issuer.kind.as_str(), issuer.name)
}

/// Returns further facts about one alert, under names for people.
pub(super) fn facts(alert: &Alert) -> Vec<(&'static str, String)> {
    let subject = &*alert.subject;
    let failure = |failure: &LastFailure| format!("{}: {}", failure.reason, failure.message);
    let gateway = subject.gateway.as_ref();
    let kind = match alert.rule.kind() {
        AlertKind::Certificate => "Certificate",
        AlertKind::Gateway => "Gateway",
    };
    let facts = [
        (kind, Some(subject.to_string())),
        ("Service", gateway.and_then(|gateway| gateway.service_name.clone())),
        ("Provider", gateway.and_then(|gateway| gateway.provider.clone())),
        (
            "Addresses",
            gateway
                .map(|gateway| gateway.addresses.join(", "))
                .filter(|addresses| !addresses.is_empty()),
        ),
        (
            "Names",
            Some(subject.dns_names.join(", ")).filter(|names| !names.is_empty()),
        ),
        ("Issuer", subject.issuer.as_ref().map(issuer)),
        ("Valid until", subject.not_after.map(moment)),
        ("Since", Some(moment(alert.since))),
        ("Ended", alert.ended.map(moment)),
        (
            "Failed attempts",
            subject.failed_attempts.map(|attempts| attempts.to_string()),
        ),
        ("Last failure", subject.last_failure.as_ref().map(failure)),
        ("Next attempt", subject.next_attempt_time.map(moment)),
    ];
    facts
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// The same of many.
pub(super) fn group_facts(group: &Group) -> Vec<(&'static str, String)> {
    let certificates = named(group.first.iter().map(|subject| &**subject), group.count, Group::NAMED);
    let facts = [
        (plural(group.rule), Some(certificates)),
        ("Issuer", group.issuer.as_ref().map(issuer)),
        ("Since", Some(moment(group.since))),
        ("Ended", group.ended.map(moment)),
    ];
    facts
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// Returns the remedy.
pub(super) fn runbook(rule: Rule) -> String {
    let name = rule.as_snake().replace('_', "-");
    format!("https://github.com/gatehouse-dev/gatehouse/blob/main/docs/runbooks/{name}.md")
}

/// `6 days`, `47 hours`, `90 seconds`: the largest unit of which there are two or more, rounded down.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (count, unit) = [(86_400, "day"), (3600, "hour"), (60, "minute")]
        .into_iter()
        .map(|(length, unit)| (seconds / length, unit))
        .find(|(count, _)| *count >= 2)
        .unwrap_or((seconds, "second"));
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// To the second: finer is noise.
pub(super) fn moment(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// Nothing when `end` is not after `start`.
fn between(start: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(start)).unwrap_or_default()
}

fn runs_out(end: Timestamp, at: Timestamp) -> String {
    if end > at {
        format!("runs out in {} ({})", span(between(at, end)), moment(end))
    } else {
        format!("ran out {} ago ({})", span(between(end, at)), moment(end))
    }
}

fn valid(end: Timestamp, at: Timestamp) -> String {
    format!("is valid for {} (until {})", span(between(at, end)), moment(end))
}

fn why(failure: Option<&LastFailure>) -> String {
    failure.map_or_else(String::new, |failure| {
        let message = clipped(&failure.message, MAX_WHY);
        format!(": {}: {message}", failure.reason)
    })
}

/// `text` fit to show, with a sign where it was cut.
pub(super) fn clipped(text: &str, max: usize) -> String {
    let mut clipped = printable(text, max + 1);
    if let Some((cut, _)) = clipped.char_indices().nth(max) {
        let cut = clipped
            .get(..cut)
            .map_or(0, |kept| kept.char_indices().next_back().map_or(0, |(last, _)| last));
        clipped.truncate(cut);
        clipped.push('…');
    }
    clipped
}

/// Returns the end of the sentence that begins with "the alert that it".
fn claim(rule: Rule) -> &'static str {
    match rule {
        Rule::Expiring => "runs out soon",
        Rule::Expired => "has run out",
        Rule::RenewalFailed => "cannot be renewed",
        Rule::NotReady => "is not valid",
        Rule::ReissueHeld => "is held back",
        Rule::Renewed => "was renewed",
        Rule::ExposureMismatch => "is meant to be internal and is public",
    }
}

/// Returns the subject of a rule for many objects.
pub(super) fn plural(rule: Rule) -> &'static str {
    match rule.kind() {
        AlertKind::Certificate => "Certificates",
        AlertKind::Gateway => "Gateways",
    }
}

fn claims(rule: Rule) -> &'static str {
    match rule {
        Rule::Expiring => "run out soon and have not been renewed",
        Rule::Expired => "have run out and have not been renewed",
        Rule::RenewalFailed => "cannot be renewed",
        Rule::NotReady => "have no valid certificate",
        Rule::ReissueHeld => "must be issued again, but are held back",
        Rule::Renewed => "were renewed",
        Rule::ExposureMismatch => "are meant to be internal and are public",
    }
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
