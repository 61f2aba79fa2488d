//! Is the record there, at every server that the CA may ask?

use std::time::Duration;

use futures::future::join_all;
use hickory_proto::{
    op::Message,
    rr::{Name, RData, RecordType},
};
use jiff::{SignedDuration, Timestamp};

use super::{
    super::{Readiness, SolverError},
    Record, plain,
    wire::{self, question},
    zone::Authority,
};

/// What a server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    There,
    Missing,
    /// It did not answer.
    Silent,
}

/// Asks all servers, and judges.
pub(super) async fn check(
    authorities: &[Authority],
    recursion: bool,
    record: &Record,
    value: &str,
    deadline: Deadline,
) -> Result<Readiness, SolverError> {
    let seen = join_all(
        authorities
            .iter()
            .map(|authority| look(authority, recursion, &record.name, value)),
    )
    .await;
    judge(authorities, &seen, record, deadline)
}

/// When the wait began, what time it is, and how long it may last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    pub(super) presented_at: Timestamp,
    pub(super) now: Timestamp,
    pub(super) timeout: SignedDuration,
}

impl Deadline {
    /// None when the time is over.
    pub(super) fn wait(self, message: &str) -> Option<Readiness> {
        let waited = self.now.duration_since(self.presented_at);
        (waited < self.timeout).then(|| Readiness::Wait {
            after: pause(waited),
            message: message.into(),
        })
    }
}

async fn look(authority: &Authority, recursion: bool, name: &Name, value: &str) -> Seen {
    for address in &authority.addresses {
        match wire::exchange(*address, &question(name, RecordType::TXT, recursion)).await {
            Ok(answer) if holds(&answer.message, value) => return Seen::There,
            Ok(_) => return Seen::Missing,
            Err(error) => {
                tracing::debug!(server = authority.name, %address, %error, "no answer for a TXT record");
            }
        }
    }
    Seen::Silent
}

/// True when one of the TXT records has exactly this value. Strings of one record are one text (RFC 1464).
fn holds(message: &Message, value: &str) -> bool {
    message.answers.iter().any(|record| match &record.data {
        RData::TXT(txt) => txt.txt_data.concat() == value.as_bytes(),
        _ => false,
    })
}

/// A silent server does not count while another answers: the CA's resolver passes over it too, and a cluster
/// without IPv6 would never get a certificate. One that answers without the record does count.
fn judge(
    authorities: &[Authority],
    seen: &[Seen],
    record: &Record,
    deadline: Deadline,
) -> Result<Readiness, SolverError> {
    let named = |wanted: Seen| -> Vec<&str> {
        let pairs = authorities.iter().zip(seen);
        pairs
            .filter(|(_, seen)| **seen == wanted)
            .map(|(authority, _)| authority.name.as_str())
            .collect()
    };
    let (there, missing, silent) = (named(Seen::There), named(Seen::Missing), named(Seen::Silent));
    if missing.is_empty() && !there.is_empty() {
        return Ok(Readiness::Ready);
    }
    let mut parts = Vec::new();
    if !missing.is_empty() {
        parts.push(format!("{} does not have it", missing.join(", ")));
    }
    if !silent.is_empty() {
        parts.push(format!("{} does not answer", silent.join(", ")));
    }
    let (record, missing) = (format!("TXT {}", plain(&record.name)), parts.join("; "));
    deadline
        .wait(&format!("waiting for {record}: {missing}"))
        .ok_or_else(|| SolverError::PropagationTimeout {
            record,
            timeout: format!("{:#}", deadline.timeout),
            missing,
        })
}

/// Often at first, for servers that take a second, and a quarter of the time already waited later on.
fn pause(waited: SignedDuration) -> Duration {
    let quarter = waited.max(SignedDuration::ZERO).unsigned_abs() / 4;
    quarter.clamp(Duration::from_millis(200), Duration::from_secs(10))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use hickory_proto::rr::{Record as Rr, rdata::TXT};

    use super::*;

    fn judged(seen: &[Seen], waited: i64) -> Result<Readiness, SolverError> {
        let authorities: Vec<_> = (1..=seen.len())
            .map(|n| Authority {
                name: format!("ns{n}.test"),
                addresses: vec![],
            })
            .collect();
        let record = Record {
            name: Name::from_ascii("_acme-challenge.a.test.").unwrap(),
            zone: Name::from_ascii("test.").unwrap(),
        };
        let deadline = Deadline {
            presented_at: Timestamp::UNIX_EPOCH,
            now: Timestamp::from_second(waited).unwrap(),
            timeout: SignedDuration::from_mins(2),
        };
        judge(&authorities, seen, &record, deadline)
    }

    #[test]
    fn the_record_must_be_at_every_server_that_answers() {
        use Seen::{Missing, Silent, There};
        let cases: &[(&[Seen], Option<&str>)] = &[
            (&[There], None),
            (&[There, There], None),
            (&[There, Silent], None),
            (&[There, Missing], Some("ns2.test does not have it")),
            (&[Missing, Missing], Some("ns1.test, ns2.test does not have it")),
            (
                &[Silent, Missing, There],
                Some("ns2.test does not have it; ns1.test does not answer"),
            ),
            (&[Silent], Some("ns1.test does not answer")),
            (&[], Some("")),
        ];
        for (seen, missing) in cases {
            let expected = match missing {
                None => Readiness::Ready,
                Some(missing) => Readiness::Wait {
                    after: Duration::from_millis(200),
                    message: format!("waiting for TXT _acme-challenge.a.test: {missing}"),
                },
            };
            assert_eq!(judged(seen, 0), Ok(expected), "{seen:?}");
        }
    }

    #[test]
    fn after_the_timeout_the_servers_are_named_that_do_not_have_it() {
        assert!(matches!(judged(&[Seen::Missing], 119), Ok(Readiness::Wait { .. })));
        assert_eq!(judged(&[Seen::There], 121), Ok(Readiness::Ready), "late, but there");
        let error = judged(&[Seen::There, Seen::Missing], 120).unwrap_err();
        assert_eq!(error.reason(), "PropagationTimeout");
        assert_eq!(
            error.to_string(),
            "TXT _acme-challenge.a.test was not seen within 2m: ns2.test does not have it"
        );
    }

    #[test]
    fn the_pause_grows_with_the_wait() {
        for (waited, pause_millis) in [(-5, 200), (0, 200), (1, 250), (8, 2000), (60, 10_000), (3600, 10_000)] {
            assert_eq!(
                pause(SignedDuration::from_secs(waited)),
                Duration::from_millis(pause_millis)
            );
        }
    }

    #[test]
    fn a_value_is_found_among_others_and_across_strings() {
        let name = Name::from_ascii("a.test.").unwrap();
        let mut message = Message::query();
        message.add_answer(Rr::from_rdata(
            name.clone(),
            1,
            RData::TXT(TXT::new(vec!["other".into()])),
        ));
        message.add_answer(Rr::from_rdata(
            name,
            1,
            RData::TXT(TXT::new(vec!["the".into(), "value".into()])),
        ));
        assert!(holds(&message, "thevalue") && holds(&message, "other"));
        assert!(!holds(&message, "the") && !holds(&message, "othe"));
    }
}
