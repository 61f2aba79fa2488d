//! Progress of a renewal, from the Certificate's status.

use gatehouse_crds::certificate::{Certificate, ChallengeState, LastFailure};
use jiff::Timestamp;

use crate::{certificate::status::ISSUING, cli::moment::relative, kubernetes::conditions};

/// A renewal that was asked for, and what there was before.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub namespace: String,
    pub name: String,
    time: Timestamp,
    revision: i64,
    failure: Option<LastFailure>,
}

/// Progress of a renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It has not begun.
    Waiting,
    /// It is under way; in words.
    UnderWay(String),
    /// In words.
    Done(String),
    /// The reason, and in words.
    Failed(String, String),
}

impl Asked {
    pub fn new(namespace: String, name: String, time: Timestamp, before: Option<&Certificate>) -> Self {
        let status = before
            .and_then(|certificate| certificate.status.clone())
            .unwrap_or_default();
        Self {
            namespace,
            name,
            time,
            revision: status.revision.unwrap_or_default(),
            failure: status.last_failure,
        }
    }

    /// Judges the status as it is now.
    pub fn progress(&self, certificate: &Certificate, now: Timestamp) -> Progress {
        let status = certificate.status.clone().unwrap_or_default();
        let newer = status.revision.unwrap_or_default() > self.revision;
        if let Some(issued) = status.issued_at.filter(|issued| newer && *issued >= self.time) {
            let end = status
                .not_after
                .map_or_else(String::new, |end| format!(", good until {end}"));
            let by = status
                .issuer
                .map_or_else(String::new, |by| format!(", by {} {}", by.kind, by.name));
            let revision = status.revision.unwrap_or_default();
            return Progress::Done(format!(
                "renewed {}: revision {revision}{end}{by}",
                relative(issued, now)
            ));
        }
        let issuing = conditions::find(&status.conditions, ISSUING);
        if let Some(issuing) = issuing.filter(|issuing| issuing.status == "True") {
            let challenges = status.acme.map(|acme| acme.challenges).unwrap_or_default();
            let open = challenges
                .iter()
                .find(|challenge| challenge.state != ChallengeState::Valid);
            return Progress::UnderWay(match open {
                Some(open) => {
                    let said = open
                        .message
                        .as_ref()
                        .map(|words| format!(": {words}"))
                        .unwrap_or_default();
                    format!("{} for {} is {:?}{said}", open.kind, open.identifier, open.state)
                }
                None => issuing.message.clone(),
            });
        }
        let failure = status.last_failure.filter(|last| self.failure.as_ref() != Some(last));
        match failure.filter(|last| last.time >= self.time) {
            Some(last) => {
                let next = status.next_attempt_time;
                let next = next.map_or_else(String::new, |time| {
                    format!(" The next attempt is {}.", relative(time, now))
                });
                let message = crate::certificate::controller::sentence(&last.message);
                Progress::Failed(last.reason, format!("{message}{next}"))
            }
            None => Progress::Waiting,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::samples::{NOW, certificate};

    fn progress(before: &str, after: &str) -> Progress {
        let now = NOW.parse().unwrap();
        let asked = Asked::new("app".into(), "web".into(), now, Some(&certificate("web", before)));
        asked.progress(&certificate("web", after), now)
    }

    const BEFORE: &str = "status: {revision: 3, issuedAt: 2026-10-01T00:00:00Z, lastFailure: {time: 2026-11-21T11:00:00Z, reason: Network, message: no route}}";

    #[test]
    fn only_a_newer_certificate_than_the_request_is_the_one() {
        assert_eq!(progress(BEFORE, BEFORE), Progress::Waiting);
        assert_eq!(
            progress(BEFORE, "status: {revision: 4, issuedAt: 2026-11-21T11:59:59Z}"),
            Progress::Waiting
        );
        assert_eq!(
            progress(
                BEFORE,
                "status: {revision: 4, issuedAt: 2026-11-21T12:00:00Z, notAfter: 2027-02-19T12:00:00Z, issuer: {kind: Issuer, name: ca}}"
            ),
            Progress::Done("renewed now: revision 4, good until 2027-02-19T12:00:00Z, by Issuer ca".into())
        );
    }

    #[test]
    fn what_is_under_way_names_the_challenge_that_is_open() {
        let status = |challenges: &str| {
            format!(
                "status: {{revision: 3, acme: {{challenges: [{challenges}]}}, conditions: [{{type: Issuing, status: 'True', reason: Requested, message: asked, lastTransitionTime: 2026-11-21T12:00:00Z}}]}}"
            )
        };
        assert_eq!(progress(BEFORE, &status("")), Progress::UnderWay("asked".into()));
        assert_eq!(
            progress(
                BEFORE,
                &status(
                    "{type: dns-01, identifier: a.test, state: Valid}, {type: dns-01, identifier: b.test, state: Propagating, message: 1 of 2 servers}"
                )
            ),
            Progress::UnderWay("dns-01 for b.test is Propagating: 1 of 2 servers".into())
        );
    }

    #[test]
    fn an_old_failure_is_not_this_ones() {
        let failed = |time: &str| {
            format!(
                "status: {{revision: 3, nextAttemptTime: 2026-11-21T12:01:00Z, lastFailure: {{time: {time}, reason: Rejected, message: the CA refuses}}, conditions: [{{type: Issuing, status: 'False', reason: Rejected, message: m, lastTransitionTime: 2026-11-21T12:00:00Z}}]}}"
            )
        };
        assert_eq!(progress(BEFORE, &failed("2026-11-21T11:59:00Z")), Progress::Waiting);
        assert_eq!(
            progress(BEFORE, &failed("2026-11-21T12:00:00Z")),
            Progress::Failed("Rejected".into(), "the CA refuses. The next attempt is in 60s.".into())
        );
    }
}
