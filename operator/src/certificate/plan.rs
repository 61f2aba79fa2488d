//! What to do next about one Certificate: the whole decision, and nothing but the decision.

use gatehouse_crds::certificate::{AuthorityType, Certificate, CertificateStatus};
use jiff::Timestamp;

use super::{
    dependencies,
    failure::{Class, Failure},
    holding::{Damage, Facts, Held},
    outcome::{Before, READY},
    renewal,
    wanted::{SpecError, Wanted, differs},
};
use crate::{
    clock,
    issuer::registry::Since,
    kubernetes::{conditions, names},
    pki::Fidelity,
};

/// Everything that the decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    pub certificate: &'a Certificate,
    pub wanted: &'a Result<Wanted, SpecError>,
    pub secret: Secret<'a>,
    /// Fingerprint of the Secrets that hold the keystores' passwords now, when they may have changed.
    pub passwords: Option<&'a str>,
    /// The other Certificate that has a better claim to the Secret: it wants it and has made it, or
    /// was there first while there is none.
    pub rival: Option<&'a str>,
    /// An order at a CA is under way.
    pub in_flight: bool,
    /// The latest good news of the issuers.
    pub issuers: Since,
    /// Whether an object that the Certificate waits for has changed since the last look.
    pub changed: bool,
    /// What this process remembers of the last failure.
    pub pause: Pause,
    pub now: Timestamp,
}

/// What a process remembers of a failed attempt, beside the status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pause {
    /// The revision of the registry when the attempt began; 0 when another process made it.
    pub revision: u64,
    /// Failures in a row, those that are not counted included.
    pub failures: u32,
    /// The CA that was away is back.
    pub is_over: bool,
}

/// What is known of the target Secret.
#[derive(Clone, Copy, Debug)]
pub enum Secret<'a> {
    /// There is none of type `kubernetes.io/tls`.
    Absent,
    /// Its metadata.
    Seen(&'a Facts),
    /// Its metadata, and what is inside.
    Read(&'a Facts, &'a Result<Held, Damage>),
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// Nothing at all.
    Leave,
    /// Read the Secret's body and decide again.
    ReadSecret,
    /// Say why nothing can be done.
    Refuse(Failure),
    /// The pair is good: take over its Secret, or write the same pair in the form now wanted.
    Write,
    /// Get a new certificate.
    Issue(Cause),
    /// A new certificate is due, but the last attempt failed and it is not time for another.
    Hold { until: Timestamp },
    /// All is well. Look again at `next`.
    Serve { renewal: Timestamp, next: Timestamp },
    /// All is well, and the CA is due to be asked for its advice.
    AskAdvice { renewal: Timestamp },
}

/// Why a new certificate is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
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
    /// The Secret is there, but what is in it cannot serve.
    SecretDamaged,
    /// The owner of a foreign Secret consents.
    Consent,
}

impl Cause {
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

    /// Whether it is nobody's wish and no clock's, so that many at once point to a mishap.
    pub fn is_unasked(self) -> bool {
        matches!(self, Self::SecretMissing | Self::SecretDamaged)
    }
}

/// The decision.
pub fn plan(input: &Input<'_>) -> Plan {
    let certificate = input.certificate;
    if certificate.metadata.deletion_timestamp.is_some() || certificate.spec.suspend == Some(true) {
        return Plan::Leave;
    }
    let wanted = match input.wanted {
        Ok(wanted) => wanted,
        Err(error) => return Plan::Refuse(Failure::new(Class::Spec, error.reason(), error.to_string())),
    };
    if let Some(rival) = input.rival {
        return Plan::Refuse(taken(&certificate.spec.secret_name, rival));
    }
    let plan = match input.secret {
        Secret::Absent => Plan::Issue(if status(input).revision.is_some() {
            Cause::SecretMissing
        } else {
            Cause::First
        }),
        Secret::Seen(facts) => by_metadata(input, wanted, facts),
        Secret::Read(facts, contents) => by_contents(input, wanted, facts, contents),
    };
    match plan {
        Plan::Issue(_) if !input.in_flight => hold(input).unwrap_or(plan),
        _ => plan,
    }
}

fn by_metadata(input: &Input<'_>, wanted: &Wanted, facts: &Facts) -> Plan {
    if !is_ours(input, facts) {
        return Plan::ReadSecret;
    }
    let in_step = facts.intact
        && facts.serial_number.is_some()
        && facts.serial_number == status(input).serial_number
        && status(input).not_before.is_some()
        && status(input).not_after == facts.not_after;
    if !in_step {
        return Plan::ReadSecret;
    }
    if let Some(cause) = due(input, wanted, facts) {
        return Plan::Issue(cause);
    }
    if facts.output_hash.as_deref() != Some(&wanted.output_hash) || facts.template != wanted.template {
        return Plan::ReadSecret;
    }
    // The passwords may be others than those of the keystores that are there.
    if input
        .passwords
        .is_some_and(|now| facts.passwords.as_deref() != Some(now))
    {
        return Plan::ReadSecret;
    }
    serve(input, facts)
}

fn by_contents(input: &Input<'_>, wanted: &Wanted, facts: &Facts, contents: &Result<Held, Damage>) -> Plan {
    let ours = is_ours(input, facts);
    let trouble = match contents {
        Err(damage) => Some(damage.to_string()),
        Ok(held) => misfit(input, wanted, facts, held),
    };
    match trouble {
        // What another tool made is never repaired by us: its owner has to say so.
        Some(_) if !ours && facts.adopt => Plan::Issue(Cause::Consent),
        Some(trouble) if !ours => conflict(facts, &trouble),
        Some(_) if spec_changed(wanted, facts) => Plan::Issue(Cause::SpecChanged),
        Some(_) => Plan::Issue(Cause::SecretDamaged),
        None => match contents {
            Ok(held) if held.leaf().not_after <= input.now => {
                Plan::Issue(if ours { Cause::Expired } else { Cause::Due })
            }
            _ if ours && status(input).serial_number == facts.serial_number => match due(input, wanted, facts) {
                Some(cause) => Plan::Issue(cause),
                None => Plan::Write,
            },
            _ => Plan::Write,
        },
    }
}

/// Why a readable pair is not what is wanted, if so.
fn misfit(input: &Input<'_>, wanted: &Wanted, facts: &Facts, held: &Held) -> Option<String> {
    let ours = is_ours(input, facts);
    if ours && spec_changed(wanted, facts) {
        return Some("it was made for another spec".into());
    }
    if ours
        && !held.is_restored
        && facts
            .chain_hash
            .as_deref()
            .is_some_and(|written| differs(written, &held.chain_hash()))
    {
        return Some("tls.crt or ca.crt is not what was issued".into());
    }
    // What was issued for this spec is not issued again for what its CA chose otherwise: it would choose so again.
    let fidelity = if ours || is_recorded(input, held) {
        Fidelity::NamesAndKey
    } else {
        Fidelity::AuthorityDecides
    };
    let mismatches = held.leaf().satisfies(&wanted.request, wanted.key, fidelity).err()?;
    Some(
        mismatches
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; "),
    )
}

fn status<'a>(input: &Input<'a>) -> &'a CertificateStatus {
    static NONE: std::sync::LazyLock<CertificateStatus> = std::sync::LazyLock::new(CertificateStatus::default);
    input.certificate.status.as_ref().unwrap_or(&NONE)
}

fn is_ours(input: &Input<'_>, facts: &Facts) -> bool {
    facts.certificate.is_some() && facts.certificate == input.certificate.metadata.name
}

/// Whether the status says that this certificate was issued for the spec as it is: its Secret may have lost its notes.
fn is_recorded(input: &Input<'_>, held: &Held) -> bool {
    let status = status(input);
    let ready = conditions::find(&status.conditions, READY);
    status.fingerprint_sha256 == Some(held.leaf().fingerprint_sha256())
        && ready.is_some_and(|ready| {
            ready.status == "True" && ready.observed_generation == input.certificate.metadata.generation
        })
}

fn spec_changed(wanted: &Wanted, facts: &Facts) -> bool {
    facts
        .request_hash
        .as_deref()
        .is_some_and(|written| differs(written, &wanted.request_hash))
}

/// The policies, first come first served: is the certificate that is there, and good, to be replaced?
fn due(input: &Input<'_>, wanted: &Wanted, facts: &Facts) -> Option<Cause> {
    let status = status(input);
    if spec_changed(wanted, facts) {
        return Some(Cause::SpecChanged);
    }
    if is_requested(input.certificate, input.now) {
        return Some(Cause::Requested);
    }
    if status.not_after.is_some_and(|end| end <= input.now) {
        return Some(Cause::Expired);
    }
    if is_signed_ahead(input, facts) {
        return Some(Cause::SecretDamaged);
    }
    if by_clock(input).is_some_and(|time| time <= input.now) {
        return Some(Cause::Due);
    }
    if advice(input, facts).is_some_and(|time| time <= input.now) {
        return Some(Cause::Advised);
    }
    None
}

/// Whether an issuer of ours has signed it while this operator's clock was ahead, so that no client accepts it yet.
///
/// The API server's clock, which dates the Secret's last write, is the witness: this clock may be behind now. What an ACME
/// server dates ahead is its choice, and would be again.
fn is_signed_ahead(input: &Input<'_>, facts: &Facts) -> bool {
    let status = status(input);
    let signed_here = status
        .authority
        .as_ref()
        .is_some_and(|authority| matches!(authority.kind, AuthorityType::CA | AuthorityType::SelfSigned));
    let is_later = |start: Timestamp, than: Timestamp| start.duration_since(than) > clock::SKEW;
    signed_here
        && status
            .not_before
            .zip(facts.written)
            .is_some_and(|(start, written)| is_later(start, written) && is_later(start, input.now))
}

/// The owner's request for a renewal, once its time has come.
fn requested(input: &Input<'_>) -> Option<Timestamp> {
    renewal::requested(input.certificate).filter(|time| *time <= input.now)
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

fn before<'a>(input: &Input<'a>) -> Before<'a> {
    Before {
        certificate: input.certificate,
        now: input.now,
    }
}

fn by_clock(input: &Input<'_>) -> Option<Timestamp> {
    before(input).clock()
}

/// The moment that the CA advises, if it is followed. That it was recalled is known by the time of the renewal that was written then.
fn advice(input: &Input<'_>, facts: &Facts) -> Option<Timestamp> {
    let status = status(input);
    let time = renewal::advised_time(status.acme.as_ref()?.ari.as_ref()?, before(input).certificate_seed())?;
    let follows = renewal::follows_advice(is_by_advice(facts), status.not_before?, status.not_after?, input.now);
    (follows || status.renewal_time == Some(time)).then_some(time)
}

/// Whether the certificate that is there was itself obtained by advice.
pub fn is_by_advice(facts: &Facts) -> bool {
    facts.cause.as_deref() == Some(Cause::Advised.as_str())
}

fn serve(input: &Input<'_>, facts: &Facts) -> Plan {
    let Some(clock) = by_clock(input) else {
        return Plan::ReadSecret;
    };
    let renewal = advice(input, facts).map_or(clock, |advised| advised.min(clock));
    let check = status(input)
        .acme
        .as_ref()
        .and_then(|acme| acme.ari.as_ref())
        .and_then(|ari| ari.next_check_time)
        .map(|check| clock::RENEWAL_INFO.believe(Some(check), input.now).unwrap_or(input.now));
    match check.filter(|_| facts.ari_identifier.is_some()) {
        Some(check) if check <= input.now => Plan::AskAdvice { renewal },
        check => Plan::Serve {
            renewal,
            next: or_requested(
                input.certificate,
                input.now,
                check.map_or(renewal, |check| check.min(renewal)),
            ),
        },
    }
}

/// The last attempt failed: whether its pause is still on. A changed spec ends it at once, and so
/// does a request that came after the failure.
fn hold(input: &Input<'_>) -> Option<Plan> {
    let status = status(input);
    let failure = status.last_failure.as_ref()?;
    // A failure that is yet to come, or a pause that none has, is the work of a clock that was wrong.
    clock::past(Some(failure.time), input.now)?;
    let until = clock::ATTEMPT
        .believe(status.next_attempt_time, input.now)
        .filter(|time| *time > input.now)?;
    let issuing = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Issuing")?;
    let same_spec = issuing.observed_generation == input.certificate.metadata.generation;
    let asked_since = requested(input).is_some_and(|time| time > failure.time);
    // What was waited for is there; and a Secret that was in the way would have been seen by now.
    let arrived = match failure.reason.as_str() {
        "IssuerNotReady" => {
            let Since {
                examined,
                ready,
                mended,
            } = input.issuers;
            examined.max(ready).max(mended) > input.pause.revision
        }
        "SecretConflict" | "SecretImmutable" => true,
        reason if input.changed && dependencies::is_awaited(reason) => true,
        // The CA's word, which no change of ours takes back; only that it answers others after a pause that it asked for.
        "RateLimited" => input.pause.is_over,
        _ => input.issuers.mended > input.pause.revision || input.pause.is_over,
    };
    (same_spec && !asked_since && !arrived).then(|| Plan::Hold {
        until: or_requested(input.certificate, input.now, until),
    })
}

/// A Secret that another Certificate wants, and had first.
fn taken(name: &str, rival: &str) -> Failure {
    Failure::new(
        Class::Waiting(std::time::Duration::from_secs(60)),
        "SecretConflict",
        format!(
            "Secret {name} belongs to another Certificate, {rival}, which wants it too. Choose another secretName for one of them."
        ),
    )
}

/// A Secret that is in the way.
fn conflict(facts: &Facts, trouble: &str) -> Plan {
    Plan::Refuse(secret_conflict(&facts.name, trouble))
}

/// How a foreign Secret in the way is told to its owner.
pub fn secret_conflict(name: &str, trouble: &str) -> Failure {
    Failure::new(
        Class::Waiting(std::time::Duration::from_secs(60)),
        "SecretConflict",
        format!(
            "Secret {name} is there already and is not ours to overwrite: {trouble}. Choose another secretName, delete the Secret, \
             or consent to its replacement with: kubectl annotate secret {name} {}=true",
            names::ADOPT
        ),
    )
}

#[cfg(test)]
#[path = "plan_cases.rs"]
mod cases;
#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
