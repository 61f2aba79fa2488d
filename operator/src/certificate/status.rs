//! The status as it is written: always the whole of it, made purely from the one before.

use std::time::Duration;

use gatehouse_crds::certificate::{
    AcmeStatus, AriStatus, Certificate, CertificateStatus, ChallengeStatus, LastFailure, SigningAuthority,
    SigningIssuer,
};
use jiff::Timestamp;

use super::{
    backoff,
    decide::IssuanceReason,
    failure::{Class, Failure},
    observed_secret::KeyPair,
    remarks::{self, ReadyIssuer},
    renewal,
};
use crate::{
    clock,
    kubernetes::{
        conditions::{self, ConditionUpdate, Status},
        names,
    },
};

/// A valid certificate for the spec is in the Secret.
pub const READY: &str = "Ready";
/// One is being obtained.
pub const ISSUING: &str = "Issuing";
/// The breaker holds it.
pub const HELD: &str = "ReissueHeld";
/// It was in its Secret already.
const ADOPTED: &str = "Adopted";
/// Its owner suspended it.
const SUSPENDED: &str = "Suspended";

/// Builds a status from the present one.
#[derive(Clone, Copy, Debug)]
pub struct StatusBuilder<'a> {
    pub certificate: &'a Certificate,
    pub now: Timestamp,
}

impl StatusBuilder<'_> {
    fn status(self) -> CertificateStatus {
        self.certificate.status.clone().unwrap_or_default()
    }

    fn set(
        self,
        status: &mut CertificateStatus,
        type_: &'static str,
        value: bool,
        reason: &'static str,
        message: String,
    ) {
        let verdict = ConditionUpdate {
            type_,
            status: Status::from(value),
            reason,
            message,
        };
        conditions::set(
            &mut status.conditions,
            &verdict,
            self.certificate.metadata.generation,
            self.now,
        );
    }

    fn seed(&self, salt: &str) -> u64 {
        renewal::seed(&[self.certificate.metadata.uid.as_deref().unwrap_or_default(), salt])
    }

    /// The seed of the certificate that the status speaks of: its renewal is spread by it.
    pub fn certificate_seed(self) -> u64 {
        self.seed(
            self.certificate
                .status
                .as_ref()
                .and_then(|status| status.serial_number.as_deref())
                .unwrap_or_default(),
        )
    }

    /// Now in whole seconds, but never before the request that is answered now: it would be answered again.
    pub fn stamp(self) -> Timestamp {
        let now = renewal::whole_seconds(self.now);
        let answered = renewal::requested(self.certificate).filter(|time| *time > now && *time <= self.now);
        answered.map_or(now, |_| now.checked_add(Duration::from_secs(1)).unwrap_or(now))
    }

    /// When the certificate that the status speaks of is to be renewed by the clock alone.
    pub fn clock(self) -> Option<Timestamp> {
        let status = self.certificate.status.as_ref()?;
        let (start, end) = (status.not_before?, status.not_after?);
        let issued_at = renewal::issued_at(status, self.now);
        let counts_from = renewal::start(start, end, issued_at);
        let time = renewal::renewal_time(counts_from, end, &self.certificate.spec, self.certificate_seed());
        Some(time.max(renewal::soonest(issued_at.unwrap_or(start), end)))
    }

    /// Whether the certificate that the status speaks of is still good for the spec.
    fn serves(&self, status: &CertificateStatus, cause: Option<IssuanceReason>) -> bool {
        let lost = matches!(
            cause,
            Some(
                IssuanceReason::First
                    | IssuanceReason::SpecChanged
                    | IssuanceReason::SecretMissing
                    | IssuanceReason::SecretDamaged
                    | IssuanceReason::Consent
            )
        );
        !lost && status.serial_number.is_some() && status.not_after.is_some_and(|end| end > self.now)
    }

    /// Until when the certificate that the status speaks of serves while another is obtained because of `cause`.
    pub fn serving_until(self, cause: IssuanceReason) -> Option<Timestamp> {
        let status = self.status();
        status.not_after.filter(|_| self.serves(&status, Some(cause)))
    }

    /// An attempt is under way.
    pub fn issuing(&self, cause: IssuanceReason, issuer: &SigningIssuer, order: Option<Order>) -> CertificateStatus {
        let mut status = self.status();
        let message = format!(
            "{} {} is asked for a certificate, since {}.",
            issuer.kind,
            issuer.name,
            cause.because()
        );
        if !self.serves(&status, Some(cause)) {
            self.set(&mut status, READY, false, ISSUING, message.clone());
        }
        self.set(&mut status, ISSUING, true, cause.as_str(), message);
        status.next_attempt_time = order.as_ref().map(|order| renewal::whole_seconds(order.look_again));
        status.acme = without_order(status.acme);
        if let Some(order) = order {
            let acme = status.acme.get_or_insert_default();
            acme.order_url = Some(order.url);
            acme.order_issuer = Some(issuer.clone());
            acme.order_server = Some(order.server);
            acme.order_request = Some(order.request_hash);
            acme.waiting_since = order.waiting_since.map(renewal::whole_seconds);
            acme.challenges = order.challenges;
        }
        status
    }

    /// The pair is in the Secret.
    pub fn issued(&self, issued: &Issued<'_>) -> CertificateStatus {
        let before = self.status();
        let leaf = issued.pair.leaf();
        let same = before.serial_number.as_ref() == Some(&leaf.serial_hex());
        let issued_at = if issued.is_new {
            self.stamp()
        } else {
            // Anyone may have edited the annotation: used only where it can be true.
            let noted = clock::past(issued.noted, self.now).filter(|time| leaf.not_before <= *time);
            let known = if same {
                renewal::issued_at(&before, self.now)
            } else {
                noted.or(issued.written)
            };
            let known = renewal::whole_seconds(known.unwrap_or(leaf.not_before));
            // The time of a write has whole seconds: a request of the same second, which it answered, would seem newer.
            let answered = renewal::requested(self.certificate)
                .filter(|asked| !same && issued.answers_request && renewal::whole_seconds(*asked) == known);
            let after = |_| known.checked_add(Duration::from_secs(1)).unwrap_or(known);
            answered.filter(|asked| *asked > known).map_or(known, after)
        };
        let known_url = before.acme.as_ref().and_then(|acme| acme.certificate_url.clone());
        let certificate_url = issued.certificate_url.clone().or(known_url.filter(|_| same));
        let mut status = CertificateStatus {
            conditions: before.conditions.clone(),
            not_before: Some(renewal::whole_seconds(leaf.not_before)),
            not_after: Some(renewal::whole_seconds(leaf.not_after)),
            serial_number: Some(leaf.serial_hex()),
            fingerprint_sha256: Some(leaf.fingerprint_sha256()),
            // The status takes precedence over the Secret's annotations, which any client may have changed.
            issuer: before.issuer.filter(|_| same).or_else(|| issued.issuer.clone()),
            authority: before.authority.filter(|_| same).or_else(|| issued.authority.clone()),
            differences: issued.differences.clone(),
            issued_at: Some(issued_at),
            revision: Some(before.revision.unwrap_or_default() + i64::from(!same)),
            failed_attempts: Some(0),
            acme: issued.first_advice.map(|time| AcmeStatus {
                ari: Some(AriStatus {
                    next_check_time: Some(renewal::whole_seconds(time)),
                    ..AriStatus::default()
                }),
                ..AcmeStatus::default()
            }),
            ..CertificateStatus::default()
        };
        // Advice is about one certificate: taken for another's, it would renew that at once.
        if same && before.acme.as_ref().is_some_and(|acme| acme.ari.is_some()) {
            status.acme = without_order(before.acme);
        }
        if certificate_url.is_some() {
            status.acme.get_or_insert_default().certificate_url = certificate_url;
        }
        let seed = self.seed(status.serial_number.as_deref().unwrap_or_default());
        let start = renewal::start(leaf.not_before, leaf.not_after, Some(issued_at));
        let time = renewal::renewal_time(start, leaf.not_after, &self.certificate.spec, seed);
        status.renewal_time = Some(time.max(renewal::soonest(issued_at, leaf.not_after)));
        let secret = &self.certificate.spec.secret_name;
        // A Secret that was rewritten in another form says nothing about where the certificate came from.
        let reason = match (issued.is_new, same) {
            (true, _) => "Issued",
            (false, true) => ready_reason(&before.conditions),
            (false, false) => ADOPTED,
        };
        let remarks = match issued.ready_issuer {
            Some(ready) => remarks::remarks(self.certificate, &status, ready, self.now),
            None => remarks::differing(&status.differences)
                .into_iter()
                .chain(remarks::ahead(&status, self.now))
                .collect(),
        };
        let message = with_remarks(good_until(secret, reason, Some(leaf.not_after)), &remarks);
        self.set(&mut status, READY, true, reason, message);
        self.set(
            &mut status,
            ISSUING,
            false,
            "Issued",
            "No certificate is being obtained.".into(),
        );
        status
    }

    /// The attempt failed.
    pub fn failed(&self, failure: &Failure, cause: Option<IssuanceReason>) -> CertificateStatus {
        let mut status = self.status();
        let waiting = matches!(failure.class, Class::Waiting(_) | Class::Held(_));
        let serves = self.serves(&status, cause) && failure.reason != "SecretConflict";
        let attempts = status.failed_attempts.unwrap_or_default();
        let attempts = if waiting { attempts } else { attempts.saturating_add(1) };
        let end = status.not_after.filter(|_| serves);
        let next = backoff::next_attempt(
            failure.class,
            u32::try_from(attempts).unwrap_or(1),
            end,
            self.seed("attempt"),
            self.now,
        );
        status.failed_attempts = Some(attempts);
        status.last_failure = Some(LastFailure {
            time: self.stamp(),
            reason: failure.reason.to_owned(),
            message: failure.message.clone(),
        });
        // Never sooner than the CA said.
        status.next_attempt_time = Some(renewal::whole_seconds_up(next));
        // An order that was only interrupted is taken up again by the next attempt.
        if !keeps_order(failure.class) {
            status.acme = without_order(status.acme);
        }
        if !serves {
            self.set(&mut status, READY, false, failure.reason, failure.message.clone());
        }
        self.set(&mut status, ISSUING, false, failure.reason, failure.message.clone());
        status
    }

    /// The breaker holds it.
    pub fn held(&self, cause: IssuanceReason, until: Timestamp) -> CertificateStatus {
        let mut status = self.status();
        let message = format!(
            "A new certificate is due, since {}; but so many are at once that it is held until {until}. \
             If that is what you want, ask for it with: kubectl annotate --overwrite -n {} certificates.gatehouse.dev {} {}=$(date -u +%FT%TZ)",
            cause.because(),
            self.certificate.metadata.namespace.as_deref().unwrap_or_default(),
            self.certificate.metadata.name.as_deref().unwrap_or_default(),
            names::RENEW_REQUESTED_AT,
        );
        if !self.serves(&status, Some(cause)) {
            self.set(&mut status, READY, false, HELD, message.clone());
        }
        self.set(&mut status, ISSUING, false, HELD, message);
        status.next_attempt_time = Some(renewal::whole_seconds(until));
        status
    }

    /// Its owner suspended it: nothing is under way any more.
    pub fn suspended(&self) -> CertificateStatus {
        let mut status = self.status();
        let message = "spec.suspend is true: nothing is done until it is taken away.";
        if !conditions::is_true(&status.conditions, READY) {
            self.set(&mut status, READY, false, SUSPENDED, message.into());
        }
        self.set(&mut status, ISSUING, false, SUSPENDED, message.into());
        status.next_attempt_time = None;
        status.acme = without_order(status.acme);
        status
    }

    /// The CA's advice, or that it gave none until the next check.
    pub fn advised(&self, advice: AriStatus, renewal: Timestamp) -> CertificateStatus {
        let mut status = self.status();
        status.renewal_time = Some(renewal);
        status.acme.get_or_insert_default().ari = Some(advice);
        status
    }

    /// All is well; the time of the renewal may have moved. `issuer` is the one that signed, when it is ready.
    pub fn serving(&self, renewal: Timestamp, issuer: Option<&ReadyIssuer>) -> CertificateStatus {
        let mut status = self.status();
        status.renewal_time = Some(renewal);
        status.next_attempt_time = None;
        // What failed is not needed any more, and neither is what was under way.
        status.failed_attempts = status.failed_attempts.map(|_| 0);
        status.acme = without_order(status.acme);
        // Versions before recorded no authority. Theirs is taken to be what the issuer has when that is first noticed.
        if status.authority.is_none() && status.issuer.is_some() {
            status.authority = issuer.map(|issuer| issuer.authority.clone());
        }
        let reason = ready_reason(&status.conditions);
        let base = good_until(&self.certificate.spec.secret_name, reason, status.not_after);
        let kept = conditions::find(&status.conditions, READY)
            .filter(|ready| ready.status == "True")
            .map(|ready| ready.message.clone());
        let message = match issuer {
            Some(issuer) => with_remarks(base, &remarks::remarks(self.certificate, &status, issuer, self.now)),
            None => kept.unwrap_or(base),
        };
        self.set(&mut status, READY, true, reason, message);
        self.set(
            &mut status,
            ISSUING,
            false,
            "Issued",
            "No certificate is being obtained.".into(),
        );
        status
    }
}

/// The message of a Ready certificate, before the remarks.
fn good_until(secret: &str, reason: &str, end: Option<Timestamp>) -> String {
    let verb = if reason == ADOPTED {
        "existed already and fits"
    } else {
        "was issued"
    };
    let until = end.map_or_else(String::new, |end| format!(" and is good until {end}"));
    format!("The certificate in Secret {secret} {verb}{until}.")
}

/// Returns the remarks in the message of a Ready certificate.
pub fn remarks_in(message: &str) -> Option<&str> {
    let (_, remarks) = message.split_once(". ")?;
    Some(remarks)
}

fn with_remarks(message: String, remarks: &[String]) -> String {
    remarks
        .iter()
        .fold(message, |message, remark| format!("{message} {remark}"))
}

/// Facts about the certificate at its CA, without the order.
fn without_order(acme: Option<AcmeStatus>) -> Option<AcmeStatus> {
    let AcmeStatus {
        ari, certificate_url, ..
    } = acme?;
    (ari.is_some() || certificate_url.is_some()).then(|| AcmeStatus {
        ari,
        certificate_url,
        ..AcmeStatus::default()
    })
}

/// Whether an order outlives a failure of this class.
pub fn keeps_order(class: Class) -> bool {
    matches!(
        class,
        Class::Transient | Class::Away(_) | Class::Held(_) | Class::RetryAfter(_)
    )
}

/// The reason of a Ready condition is a closed list, so that it can be `'static`.
fn ready_reason(conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]) -> &'static str {
    match conditions::find(conditions, READY).map(|ready| ready.reason.as_str()) {
        Some(ADOPTED) => ADOPTED,
        _ => "Issued",
    }
}

/// An order in flight.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    pub url: String,
    /// Whose it is: the URL of its directory.
    pub server: String,
    pub request_hash: String,
    /// Since when the CA has the next move.
    pub waiting_since: Option<Timestamp>,
    pub challenges: Vec<ChallengeStatus>,
    /// When we look at it at the latest.
    pub look_again: Timestamp,
}

/// The certificate that was written to the Secret.
#[derive(Clone, Debug)]
pub struct Issued<'a> {
    pub pair: &'a KeyPair,
    /// Signing issuer, when known.
    pub issuer: Option<SigningIssuer>,
    /// Whether it was signed now, or existed already.
    pub is_new: bool,
    /// Whether a pair that we wrote before, and could not note, was made because a renewal was requested.
    pub answers_request: bool,
    /// When we wrote the Secret, if it is ours.
    pub written: Option<Timestamp>,
    /// When it was issued by the Secret's own word, if it is ours.
    pub noted: Option<Timestamp>,
    /// When the CA is first asked for its advice; none for CAs without any.
    pub first_advice: Option<Timestamp>,
    /// In what it is not what the spec asks for, by its CA's decision.
    pub differences: Vec<String>,
    /// The issuer that signed, when it is ready; `authority` is what it signed with, when that is known.
    pub ready_issuer: Option<&'a ReadyIssuer>,
    pub authority: Option<SigningAuthority>,
    /// URL at the CA, when it was ordered now.
    pub certificate_url: Option<String>,
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
