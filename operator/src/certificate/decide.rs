//! Decides what to do next about one Certificate, as a pure function.

use gatehouse_crds::certificate::{AuthorityType, Certificate, CertificateStatus};
use jiff::Timestamp;

use super::{
    dependencies,
    desired::{DesiredCertificate, SpecError, differs},
    failure::{Class, Failure},
    observed_secret::{InvalidSecret, KeyPair, SecretMetadata},
    renewal,
    status::{READY, StatusBuilder},
};
use crate::{
    clock,
    issuer::registry::Since,
    kubernetes::{conditions, names},
    pki::Fidelity,
};

/// Everything that the decision depends on.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
pub struct Observed<'a> {
    pub certificate: &'a Certificate,
    pub desired: &'a Result<DesiredCertificate, SpecError>,
    pub secret: Secret<'a>,
    /// Fingerprint of the Secrets that hold the keystores' passwords now, when they may have changed.
    pub passwords: Option<&'a str>,
    /// The other Certificate that has a better claim to the Secret: it wants it and has made it, or
    /// was created first, while there is none.
    pub rival: Option<&'a str>,
    /// The status says that an order at a CA is in progress.
    pub in_flight: bool,
    /// An order is in progress in this process.
    pub has_order: bool,
    /// The issuer that is asked next spends an order.
    pub spends_order: bool,
    /// The latest good news of the issuers.
    pub issuers: Since,
    /// Whether an object that the Certificate waits for has changed since the last look.
    pub changed: bool,
    /// Record of the last failure in this process.
    pub pause: Pause,
    pub now: Timestamp,
}

/// Record of a failed attempt in this process, in addition to the status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pause {
    /// The revision of the registry when the attempt began; 0 when another process made it.
    pub revision: u64,
    /// Failures in a row, those that are not counted included.
    pub failures: u32,
    /// The CA that was away is back.
    pub is_over: bool,
}

/// State of the target Secret.
#[derive(Clone, Copy, Debug)]
pub enum Secret<'a> {
    /// The watch shows none of type `kubernetes.io/tls`.
    NotSeen,
    /// It was read, and does not exist.
    Absent,
    /// Its metadata.
    Seen(&'a SecretMetadata),
    /// Its metadata, and what is inside.
    Read(&'a SecretMetadata, &'a Result<KeyPair, InvalidSecret>),
}

/// Action for the Certificate.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Nothing at all.
    Ignore,
    /// Read the Secret's body and decide again.
    ReadSecret,
    /// Everything is up to date, but the passwords' Secrets have changed: check whether the keystores still open with them.
    /// If so, decide again without `passwords`, else read the Secret.
    CheckKeystores,
    /// Say why nothing can be done.
    Refuse(Failure),
    /// The pair is good: take over its Secret, or write the same pair in the form now wanted.
    Write,
    /// Get a new certificate.
    Issue(IssuanceReason),
    /// A new certificate is due, but the last attempt failed and it is not time for another.
    BackOff { until: Timestamp },
    /// All is well. Look again at `next`.
    UpToDate { renewal: Timestamp, next: Timestamp },
    /// All is well, and the CA is due to be asked for its advice.
    AskAdvice { renewal: Timestamp },
}

/// Why a new certificate is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssuanceReason {
    First,
    SpecChanged,
    Requested,
    /// By the clock; `Expired` when it is too late already.
    Due,
    Expired,
    /// By the CA's renewal information.
    Advised,
    /// The Secret is gone.
    SecretMissing,
    /// The Secret exists, but its content cannot be used.
    SecretDamaged,
    /// The owner of a foreign Secret consents.
    Consent,
}

impl IssuanceReason {
    /// The word for events, annotations and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "First",
            Self::SpecChanged => "SpecChanged",
            Self::Requested => "Requested",
            Self::Due => "Due",
            Self::Expired => "Expired",
            Self::Advised => "Advised",
            Self::SecretMissing => "SecretMissing",
            Self::SecretDamaged => "SecretDamaged",
            Self::Consent => "Consent",
        }
    }

    /// For humans, after "a new certificate is obtained because".
    pub fn because(self) -> &'static str {
        match self {
            Self::First => "there is none yet",
            Self::SpecChanged => "the spec asks for another one",
            Self::Requested => "its renewal was requested",
            Self::Due => "it is time to renew it",
            Self::Expired => "it has expired",
            Self::Advised => "the CA advises to renew it",
            Self::SecretMissing => "the Secret is gone",
            Self::SecretDamaged => "what is in the Secret cannot serve",
            Self::Consent => "the Secret's owner consents to its replacement",
        }
    }

    /// Returns whether neither a user nor the clock caused it, so that many at once indicate an accident.
    pub fn is_unrequested(self) -> bool {
        matches!(self, Self::SecretMissing | Self::SecretDamaged)
    }
}

/// The decision.
pub fn decide(observed: &Observed<'_>) -> Decision {
    let certificate = observed.certificate;
    if certificate.metadata.deletion_timestamp.is_some() || certificate.spec.suspend == Some(true) {
        return Decision::Ignore;
    }
    let desired = match observed.desired {
        Ok(desired) => desired,
        Err(error) => return Decision::Refuse(Failure::new(Class::Spec, error.reason(), error.to_string())),
    };
    if let Some(rival) = observed.rival {
        return Decision::Refuse(claimed_by(&certificate.spec.secret_name, rival));
    }
    let decision = match observed.secret {
        Secret::NotSeen | Secret::Absent => Decision::Issue(if status(observed).revision.is_some() {
            IssuanceReason::SecretMissing
        } else {
            IssuanceReason::First
        }),
        Secret::Seen(metadata) => by_metadata(observed, desired, metadata),
        Secret::Read(metadata, contents) => by_contents(observed, desired, metadata, contents),
    };
    let decision = match decision {
        Decision::Issue(_) if !observed.in_flight => back_off(observed).unwrap_or(decision),
        _ => decision,
    };
    if is_doubtful(observed, &decision) {
        return Decision::ReadSecret;
    }
    decision
}

/// Returns whether the Secret is to be read before it is taken for missing: the watch may not have shown it yet, as after a
/// backup was restored. Only before a missing Secret counts as a loss, and before an order is spent.
fn is_doubtful(observed: &Observed<'_>, decision: &Decision) -> bool {
    let matters = match decision {
        Decision::Issue(IssuanceReason::SecretMissing) => true,
        Decision::Issue(IssuanceReason::First) => observed.spends_order,
        _ => false,
    };
    matters && matches!(observed.secret, Secret::NotSeen) && !observed.has_order
}

fn by_metadata(observed: &Observed<'_>, desired: &DesiredCertificate, metadata: &SecretMetadata) -> Decision {
    if !is_ours(observed, metadata) {
        return Decision::ReadSecret;
    }
    let in_step = metadata.intact
        && metadata.serial_number.is_some()
        && metadata.serial_number == status(observed).serial_number
        && status(observed).not_before.is_some()
        && status(observed).not_after == metadata.not_after;
    if !in_step {
        return Decision::ReadSecret;
    }
    if let Some(cause) = due(observed, desired, metadata) {
        return Decision::Issue(cause);
    }
    if metadata.output_hash.as_deref() != Some(&desired.output_hash) || metadata.template != desired.template {
        return Decision::ReadSecret;
    }
    // The passwords may differ from those of the existing keystores.
    if observed
        .passwords
        .is_some_and(|now| metadata.passwords.as_deref() != Some(now))
    {
        return Decision::CheckKeystores;
    }
    up_to_date(observed, metadata)
}

fn by_contents(
    observed: &Observed<'_>,
    desired: &DesiredCertificate,
    metadata: &SecretMetadata,
    contents: &Result<KeyPair, InvalidSecret>,
) -> Decision {
    let ours = is_ours(observed, metadata);
    let trouble = match contents {
        Err(damage) => Some(damage.to_string()),
        Ok(pair) => mismatch(observed, desired, metadata, pair),
    };
    match trouble {
        // What another tool made is never repaired by us: its owner has to say so.
        Some(_) if !ours && metadata.adopt => Decision::Issue(IssuanceReason::Consent),
        Some(trouble) if !ours => conflict(metadata, &trouble),
        Some(_) if spec_changed(desired, metadata) => Decision::Issue(IssuanceReason::SpecChanged),
        Some(_) => Decision::Issue(IssuanceReason::SecretDamaged),
        None => match contents {
            Ok(pair) if pair.leaf().not_after <= observed.now => Decision::Issue(if ours {
                IssuanceReason::Expired
            } else {
                IssuanceReason::Due
            }),
            _ if ours && status(observed).serial_number == metadata.serial_number => {
                match due(observed, desired, metadata) {
                    Some(cause) => Decision::Issue(cause),
                    None => Decision::Write,
                }
            }
            _ => Decision::Write,
        },
    }
}

/// Why a readable pair is not what is wanted, if so.
fn mismatch(
    observed: &Observed<'_>,
    desired: &DesiredCertificate,
    metadata: &SecretMetadata,
    pair: &KeyPair,
) -> Option<String> {
    let ours = is_ours(observed, metadata);
    if ours && spec_changed(desired, metadata) {
        return Some("it was made for another spec".into());
    }
    if ours
        && !pair.is_restored
        && metadata
            .chain_hash
            .as_deref()
            .is_some_and(|written| differs(written, &pair.chain_hash()))
    {
        return Some("tls.crt or ca.crt is not what was issued".into());
    }
    // What was issued for this spec is not issued again for what its CA chose otherwise: it would choose so again.
    let fidelity = if ours || is_recorded(observed, pair) {
        Fidelity::NamesAndKey
    } else {
        Fidelity::AuthorityDecides
    };
    let mismatches = pair.leaf().satisfies(&desired.request, desired.key, fidelity).err()?;
    Some(
        mismatches
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; "),
    )
}

fn status<'a>(observed: &Observed<'a>) -> &'a CertificateStatus {
    static NONE: std::sync::LazyLock<CertificateStatus> = std::sync::LazyLock::new(CertificateStatus::default);
    observed.certificate.status.as_ref().unwrap_or(&NONE)
}

fn is_ours(observed: &Observed<'_>, metadata: &SecretMetadata) -> bool {
    metadata.certificate.is_some() && metadata.certificate == observed.certificate.metadata.name
}

/// Whether the status says that this certificate was issued for the spec as it is: its Secret may have lost its notes.
fn is_recorded(observed: &Observed<'_>, pair: &KeyPair) -> bool {
    let status = status(observed);
    let ready = conditions::find(&status.conditions, READY);
    status.fingerprint_sha256 == Some(pair.leaf().fingerprint_sha256())
        && ready.is_some_and(|ready| {
            ready.status == "True" && ready.observed_generation == observed.certificate.metadata.generation
        })
}

fn spec_changed(desired: &DesiredCertificate, metadata: &SecretMetadata) -> bool {
    metadata
        .request_hash
        .as_deref()
        .is_some_and(|written| differs(written, &desired.request_hash))
}

/// Returns why a valid certificate is to be replaced, if so: the first reason that applies.
fn due(observed: &Observed<'_>, desired: &DesiredCertificate, metadata: &SecretMetadata) -> Option<IssuanceReason> {
    let status = status(observed);
    if spec_changed(desired, metadata) {
        return Some(IssuanceReason::SpecChanged);
    }
    if is_requested(observed.certificate, observed.now) {
        return Some(IssuanceReason::Requested);
    }
    if status.not_after.is_some_and(|end| end <= observed.now) {
        return Some(IssuanceReason::Expired);
    }
    if is_signed_ahead(observed, metadata) {
        return Some(IssuanceReason::SecretDamaged);
    }
    if by_clock(observed).is_some_and(|time| time <= observed.now) {
        return Some(IssuanceReason::Due);
    }
    if advice(observed, metadata).is_some_and(|time| time <= observed.now) {
        return Some(IssuanceReason::Advised);
    }
    None
}

/// Whether an issuer of ours has signed it while this operator's clock was ahead, so that no client accepts it yet.
///
/// The API server's clock, which dates the Secret's last write, is the witness: this clock may be behind now. What an ACME
/// server dates ahead is its choice, and would be again.
fn is_signed_ahead(observed: &Observed<'_>, metadata: &SecretMetadata) -> bool {
    let status = status(observed);
    let signed_here = status
        .authority
        .as_ref()
        .is_some_and(|authority| matches!(authority.kind, AuthorityType::CA | AuthorityType::SelfSigned));
    let is_later = |start: Timestamp, than: Timestamp| start.duration_since(than) > clock::SKEW;
    signed_here
        && status
            .not_before
            .zip(metadata.written)
            .is_some_and(|(start, written)| is_later(start, written) && is_later(start, observed.now))
}

/// The owner's request for a renewal, once its time has come.
fn requested(observed: &Observed<'_>) -> Option<Timestamp> {
    renewal::requested(observed.certificate).filter(|time| *time <= observed.now)
}

/// Whether its owner wants a renewal that has not been answered yet.
pub fn is_requested(certificate: &Certificate, now: Timestamp) -> bool {
    let issued_at = certificate
        .status
        .as_ref()
        .and_then(|status| renewal::issued_at(status, now));
    renewal::requested(certificate).is_some_and(|time| time <= now && issued_at.is_none_or(|issued| time > issued))
}

/// `time`, or the time of a request yet to come when that is sooner.
pub fn or_requested(certificate: &Certificate, now: Timestamp, time: Timestamp) -> Timestamp {
    renewal::requested(certificate)
        .filter(|asked| *asked > now)
        .map_or(time, |asked| asked.min(time))
}

fn before<'a>(observed: &Observed<'a>) -> StatusBuilder<'a> {
    StatusBuilder {
        certificate: observed.certificate,
        now: observed.now,
    }
}

fn by_clock(observed: &Observed<'_>) -> Option<Timestamp> {
    before(observed).clock()
}

/// The moment that the CA advises, if it is followed. That it was recalled is known by the time of the renewal that was written then.
fn advice(observed: &Observed<'_>, metadata: &SecretMetadata) -> Option<Timestamp> {
    let status = status(observed);
    let time = renewal::advised_time(status.acme.as_ref()?.ari.as_ref()?, before(observed).certificate_seed())?;
    let follows = renewal::follows_advice(
        is_by_advice(metadata),
        status.not_before?,
        status.not_after?,
        observed.now,
    );
    (follows || status.renewal_time == Some(time)).then_some(time)
}

/// Returns whether the present certificate was itself issued by advice.
pub fn is_by_advice(metadata: &SecretMetadata) -> bool {
    metadata.cause.as_deref() == Some(IssuanceReason::Advised.as_str())
}

fn up_to_date(observed: &Observed<'_>, metadata: &SecretMetadata) -> Decision {
    let Some(clock) = by_clock(observed) else {
        return Decision::ReadSecret;
    };
    let renewal = advice(observed, metadata).map_or(clock, |advised| advised.min(clock));
    let check = status(observed)
        .acme
        .as_ref()
        .and_then(|acme| acme.ari.as_ref())
        .and_then(|ari| ari.next_check_time)
        .map(|check| {
            clock::RENEWAL_INFO
                .believe(Some(check), observed.now)
                .unwrap_or(observed.now)
        });
    match check.filter(|_| metadata.ari_identifier.is_some()) {
        Some(check) if check <= observed.now => Decision::AskAdvice { renewal },
        check => Decision::UpToDate {
            renewal,
            next: or_requested(
                observed.certificate,
                observed.now,
                check.map_or(renewal, |check| check.min(renewal)),
            ),
        },
    }
}

/// The last attempt failed: whether its pause is still on. A changed spec ends it at once, and so
/// does a request that came after the failure.
fn back_off(observed: &Observed<'_>) -> Option<Decision> {
    let status = status(observed);
    let failure = status.last_failure.as_ref()?;
    // A failure that is yet to come, or a pause that none has, is the work of a clock that was wrong.
    clock::past(Some(failure.time), observed.now)?;
    let until = clock::ATTEMPT
        .believe(status.next_attempt_time, observed.now)
        .filter(|time| *time > observed.now)?;
    let issuing = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Issuing")?;
    let same_spec = issuing.observed_generation == observed.certificate.metadata.generation;
    let asked_since = requested(observed).is_some_and(|time| time > failure.time);
    // The awaited object exists; and a Secret that was in the way would have been seen by now.
    let arrived = match failure.reason.as_str() {
        "IssuerNotReady" => {
            let Since {
                examined,
                ready,
                refreshed,
            } = observed.issuers;
            examined.max(ready).max(refreshed) > observed.pause.revision
        }
        "SecretConflict" | "SecretImmutable" => true,
        reason if observed.changed && dependencies::is_awaited(reason) => true,
        // The CA's word, which no change of ours takes back; only that it answers others after a pause that it asked for.
        "RateLimited" => observed.pause.is_over,
        _ => observed.issuers.refreshed > observed.pause.revision || observed.pause.is_over,
    };
    (same_spec && !asked_since && !arrived).then(|| Decision::BackOff {
        until: or_requested(observed.certificate, observed.now, until),
    })
}

/// A Secret that another Certificate wants, and had first.
fn claimed_by(name: &str, rival: &str) -> Failure {
    Failure::new(
        Class::Waiting(std::time::Duration::from_secs(60)),
        "SecretConflict",
        format!(
            "Secret {name} belongs to another Certificate, {rival}, which wants it too. Choose another secretName for one of them."
        ),
    )
}

/// A Secret that is in the way.
fn conflict(metadata: &SecretMetadata, trouble: &str) -> Decision {
    Decision::Refuse(secret_conflict(&metadata.name, trouble))
}

/// Returns the failure for a foreign Secret in the way.
pub fn secret_conflict(name: &str, trouble: &str) -> Failure {
    Failure::new(
        Class::Waiting(std::time::Duration::from_secs(60)),
        "SecretConflict",
        format!(
            "Secret {name} exists already and is not ours to overwrite: {trouble}. Choose another secretName, delete the Secret, \
             or consent to its replacement with: kubectl annotate secret {name} {}=true",
            names::ADOPT
        ),
    )
}

#[cfg(test)]
#[path = "decide_cases.rs"]
mod cases;
#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
