//! Which alerts a Certificate or a Gateway raises at a moment, and when that changes by time alone.

use std::time::Duration;

use gatehouse_crds::{
    alert::{Rule, Rules, Severity, Switch, Threshold},
    certificate::Certificate,
    gateway::Gateway,
};
use jiff::Timestamp;

use crate::{
    certificate::{
        renewal,
        rollout::ROLLED_OUT,
        status::{ISSUING, READY},
    },
    gateway::status::{EXPOSURE_MISMATCH, EXPOSURE_VERIFIED},
    kubernetes::conditions,
};

/// Time for which a renewal is reported.
const RENEWED_WINDOW: Duration = Duration::from_secs(300);
/// A renewed certificate that its workloads do not have after the first time is reported, and after the second it is critical.
const ROLLOUT_LATE: Duration = Duration::from_secs(600);
const ROLLOUT_CRITICAL: Duration = Duration::from_secs(86_400);
/// The reason of a failure for which no server answered.
pub(super) const NETWORK: &str = "Network";
/// A renewal that takes this share of the lifetime after its time is late.
const LATE: u32 = 50;

/// The rules of a policy, with their defaults in place. None is off.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a rule that is on or off")]
pub struct RuleSet {
    expiring: Option<Expiring>,
    expired: bool,
    renewal_failed: Option<RenewalFailed>,
    not_ready: Option<Duration>,
    reissue_held: bool,
    renewed: bool,
    exposure_mismatch: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct Expiring {
    warning: Threshold,
    critical: Threshold,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RenewalFailed {
    warning: i64,
    critical: i64,
}

impl RuleSet {
    /// Parses `spec.rules`. The error says what to write instead.
    pub fn parse(rules: Option<&Rules>) -> Result<Self, String> {
        let defaults = Rules::defaults();
        let rules = rules.unwrap_or(&defaults);
        let on = |switch: &Option<Switch>| switch.as_ref().is_some_and(|switch| switch.enabled.unwrap_or(true));
        let expiring = match &rules.expiring {
            None => None,
            Some(given) => {
                let threshold = |given: &Option<Threshold>, default: &str| match given {
                    Some(threshold) => Ok(threshold.clone()),
                    None => default.parse(),
                };
                Some(Expiring {
                    warning: threshold(&given.warning, "25%")?,
                    critical: threshold(&given.critical, "10%")?,
                })
            }
        };
        Ok(Self {
            expiring,
            expired: on(&rules.expired),
            renewal_failed: rules.renewal_failed.as_ref().map(|given| {
                let warning = given.after_attempts.unwrap_or(1).max(1);
                RenewalFailed {
                    warning,
                    critical: given.critical_after_attempts.unwrap_or(3).max(warning),
                }
            }),
            not_ready: rules.not_ready.as_ref().map(|given| {
                let after = given.after.as_ref().map(gatehouse_crds::duration::Duration::value);
                after.unwrap_or(Duration::from_secs(600))
            }),
            reissue_held: on(&rules.reissue_held),
            exposure_mismatch: on(&rules.exposure_mismatch),
            renewed: rules
                .renewed
                .as_ref()
                .is_some_and(|renewed| renewed.enabled.unwrap_or(false)),
        })
    }
}

/// One alert that an object raises now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    pub rule: Rule,
    pub severity: Severity,
    /// Time of its beginning, as far as the object shows it.
    pub since: Timestamp,
}

/// Findings, and when to judge again though nothing has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    pub findings: Vec<Finding>,
    pub next: Option<Timestamp>,
}

impl Judgement {
    fn at(&mut self, rule: Rule, severity: Severity, moment: Timestamp, now: Timestamp) {
        if moment > now {
            self.again(moment);
            return;
        }
        match self.findings.iter_mut().find(|finding| finding.rule == rule) {
            Some(finding) => finding.severity = finding.severity.max(severity),
            None => self.findings.push(Finding {
                rule,
                severity,
                since: moment,
            }),
        }
    }

    fn again(&mut self, moment: Timestamp) {
        self.next = Some(self.next.map_or(moment, |next| next.min(moment)));
    }
}

/// Judges `certificate` by `rules`.
///
/// A suspended one is left alone on purpose: it may run out, but not fail.
pub fn judge(certificate: &Certificate, rules: &RuleSet, now: Timestamp) -> Judgement {
    let mut judgement = Judgement::default();
    if certificate.metadata.deletion_timestamp.is_some() {
        return judgement;
    }
    let suspended = certificate.spec.suspend == Some(true);
    expiry(certificate, suspended, rules, now, &mut judgement);
    if !suspended {
        trouble(certificate, rules, now, &mut judgement);
    }
    renewed(certificate, rules, now, &mut judgement);
    judgement
}

/// Judges a Gateway by `rules`. Nothing of it changes by time alone.
pub fn judge_gateway(gateway: &Gateway, rules: &RuleSet, now: Timestamp) -> Judgement {
    let mut judgement = Judgement::default();
    let conditions = gateway
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let mismatch = conditions::find(conditions, EXPOSURE_VERIFIED)
        .filter(|verified| verified.status == "False" && verified.reason == EXPOSURE_MISMATCH);
    if let (true, None, Some(mismatch)) = (rules.exposure_mismatch, &gateway.metadata.deletion_timestamp, mismatch) {
        let since = mismatch.last_transition_time.0.min(now);
        judgement.at(Rule::ExposureMismatch, Severity::Critical, since, now);
    }
    judgement
}

fn expiry(certificate: &Certificate, suspended: bool, rules: &RuleSet, now: Timestamp, judgement: &mut Judgement) {
    let Some(status) = &certificate.status else { return };
    let (Some(start), Some(end)) = (renewal::start_of(status), status.not_after) else {
        return;
    };
    let lifetime = Duration::try_from(end.duration_since(start)).unwrap_or_default();
    if let Some(expiring) = &rules.expiring {
        // Who renews late on purpose is not warned before it is due.
        let due = status.renewal_time.filter(|_| !suspended);
        let late = due.and_then(|due| due.checked_add(lifetime / LATE).ok());
        for (threshold, severity) in [
            (&expiring.warning, Severity::Warning),
            (&expiring.critical, Severity::Critical),
        ] {
            let moment = end.checked_sub(threshold.of(lifetime)).unwrap_or(start);
            judgement.at(
                Rule::Expiring,
                severity,
                late.map_or(moment, |late| moment.max(late).min(end)),
                now,
            );
        }
    }
    if rules.expired {
        judgement.at(Rule::Expired, Severity::Critical, end, now);
    }
}

fn trouble(certificate: &Certificate, rules: &RuleSet, now: Timestamp, judgement: &mut Judgement) {
    let status = certificate.status.as_ref();
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    if let (Some(rule), Some(status)) = (&rules.renewal_failed, status) {
        let mut attempts = i64::from(status.failed_attempts.unwrap_or_default());
        if status.last_failure.as_ref().is_some_and(|last| last.reason == NETWORK) {
            // Its server is away, as another Certificate has found out: that attempt counts for all that wait.
            attempts = attempts.max(1);
        }
        let since = status.last_failure.as_ref().map_or(now, |last| last.time.min(now));
        if attempts >= rule.critical {
            judgement.at(Rule::RenewalFailed, Severity::Critical, since, now);
        } else if attempts >= rule.warning {
            judgement.at(Rule::RenewalFailed, Severity::Warning, since, now);
        }
    }
    if rules.renewal_failed.is_some()
        && let Some(rollout) = conditions::find(conditions, ROLLED_OUT).filter(|rollout| rollout.status == "False")
    {
        let since = rollout.last_transition_time.0;
        for (after, severity) in [
            (ROLLOUT_LATE, Severity::Warning),
            (ROLLOUT_CRITICAL, Severity::Critical),
        ] {
            let moment = since.checked_add(after).unwrap_or(since);
            judgement.at(Rule::RenewalFailed, severity, moment, now);
        }
    }
    if let Some(after) = rules.not_ready {
        let ready = conditions::find(conditions, READY);
        let changed = ready.map(|ready| ready.last_transition_time.0);
        let made = certificate.metadata.creation_timestamp.as_ref().map(|time| time.0);
        // One that never was ready is not since the first look at it.
        let never = status.is_none_or(|status| status.serial_number.is_none());
        let since = if never { made.or(changed) } else { changed.or(made) };
        let since = since.filter(|_| ready.is_none_or(|ready| ready.status != "True"));
        if let Some(moment) = since.and_then(|since| since.checked_add(after).ok()) {
            judgement.at(Rule::NotReady, Severity::Critical, moment, now);
        }
    }
    if rules.reissue_held
        && let Some(held) = conditions::find(conditions, ISSUING).filter(|issuing| issuing.reason == "ReissueHeld")
    {
        let since = held.last_transition_time.0.min(now);
        judgement.at(Rule::ReissueHeld, Severity::Warning, since, now);
    }
}

fn renewed(certificate: &Certificate, rules: &RuleSet, now: Timestamp, judgement: &mut Judgement) {
    let Some(status) = certificate.status.as_ref().filter(|_| rules.renewed) else {
        return;
    };
    let Some(issued_at) = status.issued_at.filter(|_| status.revision.unwrap_or_default() > 1) else {
        return;
    };
    let over = issued_at.checked_add(RENEWED_WINDOW).unwrap_or(issued_at);
    if over > now {
        // Our own clock wrote it; one that is ahead of now is of this moment.
        judgement.at(Rule::Renewed, Severity::Info, issued_at.min(now), now);
        judgement.again(over);
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
