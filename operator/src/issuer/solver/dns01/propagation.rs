//! Is the record there, at every server that the CA may ask?

use std::time::Duration;

use futures::future::join_all;
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Name, RData, RecordType},
};
use jiff::{SignedDuration, Timestamp};

use super::{
    super::{Readiness, SolverError},
    Record, plain,
    wire::{self, question},
    zone::{Authority, cname},
};

/// Longest wait for one server, all its addresses together.
const SERVER_TIMEOUT: Duration = Duration::from_secs(10);

/// Answer of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    There,
    Missing,
    /// The name is a CNAME there.
    Alias(Name),
    /// It did not answer.
    Silent,
    /// It answered, but does not serve the zone: how it said so.
    Lame(String),
}

impl Seen {
    /// Returns true when it says what the zone holds.
    const fn serves(&self) -> bool {
        matches!(self, Self::There | Self::Missing | Self::Alias(_))
    }
}

/// Asks all servers, and judges.
pub(super) async fn check(
    authorities: &[Authority],
    recursion: bool,
    record: &Record,
    value: &str,
    deadline: Deadline,
) -> Result<Readiness, SolverError> {
    let seen = join_all(authorities.iter().map(|authority| async move {
        let seen = tokio::time::timeout(SERVER_TIMEOUT, look(authority, recursion, record, value)).await;
        seen.unwrap_or(Seen::Silent)
    }))
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

/// Asks the addresses of one server until one says what the zone holds.
async fn look(authority: &Authority, recursion: bool, record: &Record, value: &str) -> Seen {
    let mut seen = Seen::Silent;
    for address in &authority.addresses {
        match wire::exchange(*address, &question(&record.name, RecordType::TXT, recursion)).await {
            Ok(answer) => match read(&answer.message, recursion, record, value) {
                said if said.serves() => return said,
                lame => seen = lame,
            },
            Err(error) => {
                tracing::debug!(server = authority.name, %address, %error, "no answer for a TXT record");
            }
        }
    }
    seen
}

/// Classifies an answer. A server that was not asked to recurse speaks for the zone only where it is authoritative.
fn read(message: &Message, recursion: bool, record: &Record, value: &str) -> Seen {
    if holds(message, &record.name, value) {
        return Seen::There;
    }
    if !matches!(message.response_code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return Seen::Lame(mnemonic(message.response_code).to_owned());
    }
    if !recursion && !message.authoritative {
        let elsewhere = message
            .authorities
            .iter()
            .find(|other| other.record_type() == RecordType::NS);
        return Seen::Lame(match elsewhere {
            Some(referral) => format!("refers to {}", plain(&referral.name)),
            None => "not authoritative".to_owned(),
        });
    }
    cname(message, &record.name).map_or(Seen::Missing, Seen::Alias)
}

/// The code as name servers log it.
const fn mnemonic(code: ResponseCode) -> &'static str {
    match code {
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::Refused => "REFUSED",
        ResponseCode::NotAuth => "NOTAUTH",
        ResponseCode::NotZone => "NOTZONE",
        _ => "an error",
    }
}

/// True when one of the TXT records at the name has exactly this value. Strings of one record are one text (RFC 1464).
fn holds(message: &Message, name: &Name, value: &str) -> bool {
    message.answers.iter().any(|record| match &record.data {
        RData::TXT(txt) => record.name == *name && txt.txt_data.concat() == value.as_bytes(),
        _ => false,
    })
}

/// A server that is silent or does not serve the zone does not count while another does: the CA's resolver passes
/// over it too, and a cluster without IPv6 would never get a certificate. One that answers without the record counts.
fn judge(
    authorities: &[Authority],
    seen: &[Seen],
    record: &Record,
    deadline: Deadline,
) -> Result<Readiness, SolverError> {
    let all = || authorities.iter().map(|authority| authority.name.as_str()).zip(seen);
    let servers_that = |wanted: &Seen| -> String {
        let names = all().filter(|(_, seen)| *seen == wanted).map(|(name, _)| name);
        names.collect::<Vec<_>>().join(", ")
    };
    let complete = |(_, seen): (&str, &Seen)| *seen == Seen::There || !seen.serves();
    if all().all(complete) && all().any(|(_, seen)| *seen == Seen::There) {
        return Ok(Readiness::Ready);
    }
    let mut parts = Vec::new();
    for (wanted, what) in [(Seen::Missing, "does not have it"), (Seen::Silent, "does not answer")] {
        let names = servers_that(&wanted);
        if !names.is_empty() {
            parts.push(format!("{names} {what}"));
        }
    }
    let mut alias = None;
    for (name, seen) in all() {
        match seen {
            Seen::Alias(target) => {
                parts.push(format!("{name} has a CNAME to {} instead", plain(target)));
                alias = Some(target);
            }
            Seen::Lame(how) => parts.push(format!(
                "{name} does not serve the zone {} ({how})",
                plain(&record.zone)
            )),
            _ => {}
        }
    }
    let (name, missing) = (plain(&record.name), parts.join("; "));
    let waiting = deadline.wait(&format!("waiting for TXT {name}: {missing}"));
    waiting.ok_or_else(|| match alias {
        Some(target) => SolverError::DnsDelegated {
            name,
            target: plain(target),
        },
        None => SolverError::PropagationTimeout {
            record: format!("TXT {name}"),
            timeout: format!("{:#}", deadline.timeout),
            missing,
        },
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
    use hickory_proto::rr::{
        Record as Rr,
        rdata::{CNAME, NS, TXT},
    };

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
        use Seen::{Alias, Missing, Silent, There};
        let lame = || Seen::Lame("REFUSED".into());
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
            (&[There, lame()], None),
            (&[There, lame(), Silent, lame()], None),
            (
                &[lame(), Missing],
                Some("ns2.test does not have it; ns1.test does not serve the zone test (REFUSED)"),
            ),
            (&[lame()], Some("ns1.test does not serve the zone test (REFUSED)")),
            (
                &[There, Alias(Name::from_ascii("x.other.test.").unwrap())],
                Some("ns2.test has a CNAME to x.other.test instead"),
            ),
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
    fn a_cname_that_stays_is_named_with_what_to_write() {
        let alias = Seen::Alias(Name::from_ascii("x.other.test.").unwrap());
        let error = judged(&[Seen::There, alias], 120).unwrap_err();
        assert_eq!(error.reason(), "DnsDelegated");
        assert!(error.to_string().contains("cnameStrategy: Follow"), "{error}");
    }

    fn answered(code: ResponseCode, authoritative: bool, records: &[(&str, RData)], referral: Option<&str>) -> Message {
        let name = |text: &str| Name::from_ascii(text).unwrap();
        let mut message = Message::query();
        message.metadata.response_code = code;
        message.metadata.authoritative = authoritative;
        for (owner, data) in records {
            message.add_answer(Rr::from_rdata(name(owner), 1, data.clone()));
        }
        if let Some(zone) = referral {
            message.add_authority(Rr::from_rdata(name(zone), 1, RData::NS(NS(name("ns.elsewhere.")))));
        }
        message
    }

    #[test]
    fn only_a_server_of_the_zone_says_what_it_holds() {
        use ResponseCode::{NXDomain, NoError, NotAuth, Refused, ServFail};
        let txt = |text: &str| RData::TXT(TXT::new(vec![text.into()]));
        let at = "_acme-challenge.a.test.";
        let target = Name::from_ascii("x.other.test.").unwrap();
        let alias = RData::CNAME(CNAME(target.clone()));
        let lame = |how: &str| Seen::Lame(how.into());
        for (message, recursion, expected) in [
            (answered(NoError, true, &[(at, txt("v"))], None), false, Seen::There),
            (answered(NoError, true, &[(at, txt("w"))], None), false, Seen::Missing),
            (answered(NXDomain, true, &[], None), false, Seen::Missing),
            (answered(NoError, false, &[], None), true, Seen::Missing),
            (answered(Refused, false, &[], None), false, lame("REFUSED")),
            (answered(Refused, false, &[], None), true, lame("REFUSED")),
            (answered(ServFail, false, &[], None), false, lame("SERVFAIL")),
            (answered(NotAuth, false, &[], None), false, lame("NOTAUTH")),
            (answered(NoError, false, &[], Some(".")), false, lame("refers to .")),
            (
                answered(NoError, false, &[], Some("sub.test.")),
                false,
                lame("refers to sub.test"),
            ),
            (answered(NXDomain, false, &[], None), false, lame("not authoritative")),
            (
                answered(NoError, true, &[(at, alias.clone()), ("x.other.test.", txt("v"))], None),
                false,
                Seen::Alias(target),
            ),
        ] {
            let record = Record {
                name: Name::from_ascii(at).unwrap(),
                zone: Name::from_ascii("a.test.").unwrap(),
            };
            assert_eq!(read(&message, recursion, &record, "v"), expected, "{message}");
        }
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
        let name = Name::from_ascii("A.test.").unwrap();
        assert!(holds(&message, &name, "thevalue") && holds(&message, &name, "other"));
        assert!(!holds(&message, &name, "the") && !holds(&message, &name, "othe"));
        assert!(!holds(&message, &name.base_name(), "other"));
    }
}
