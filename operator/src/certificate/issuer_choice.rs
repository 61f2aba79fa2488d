//! Decides what to do with the issuer that is asked next: sign, wait for it, or fail.

use std::time::Duration;

use gatehouse_crds::certificate::IssuerKind::{ClusterIssuer, Issuer};

use super::failure::{Class, Failure};
use crate::issuer::registry::{Key, Signer, State};

/// Time for an issuer to appear: it may have been applied a moment after its Certificate, or may not be listed yet.
const GRACE_PERIOD: Duration = Duration::from_secs(1);
/// A check for an issuer that is not ready, in case its change is missed.
const RETRY_AFTER: Duration = Duration::from_secs(300);

/// Action for an issuer.
pub enum Choice {
    Sign(Signer),
    /// Its change enqueues the Certificate; at the latest it is checked again after this time.
    Wait(Duration),
    Fail(Failure),
}

/// Decides by the issuer's state, `None` when it does not exist, and the time since the attempt began.
/// `reads_cluster_issuers` is false for an operator of single namespaces.
pub fn choose(issuer: &Key, state: Option<State>, waited: Duration, reads_cluster_issuers: bool) -> Choice {
    match state {
        Some(State::Ready(signer)) => Choice::Sign(signer),
        Some(State::Examining) => Choice::Wait(super::issue::REQUEUE_AFTER),
        Some(State::Refused(message)) => {
            let message = format!("{issuer} cannot sign: {message}");
            Choice::Fail(Failure::new(Class::Refused, "IssuerNotReady", message))
        }
        Some(State::NotReady(message)) => Choice::Fail(not_ready(format!("{issuer} cannot sign: {message}"))),
        None if waited < GRACE_PERIOD => Choice::Wait(GRACE_PERIOD / 4),
        None => Choice::Fail(not_ready(missing(issuer, reads_cluster_issuers))),
    }
}

fn not_ready(message: String) -> Failure {
    Failure::new(Class::Waiting(RETRY_AFTER), "IssuerNotReady", message)
}

fn missing(issuer: &Key, reads_cluster_issuers: bool) -> String {
    match issuer.kind {
        Issuer => format!(
            "there is no Issuer {} in namespace {}; make it, or correct spec.issuerRef (kind: ClusterIssuer names one for the whole cluster)",
            issuer.name, issuer.namespace
        ),
        ClusterIssuer if reads_cluster_issuers => format!(
            "there is no ClusterIssuer {}; make it, or correct spec.issuerRef",
            issuer.name
        ),
        ClusterIssuer => format!(
            "this operator looks after single namespaces (--namespace) and cannot read ClusterIssuer {}; use an Issuer",
            issuer.name
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use gatehouse_crds::certificate::IssuerKind;

    use super::*;

    fn key(kind: IssuerKind) -> Key {
        Key {
            kind,
            namespace: if kind == Issuer { "app".into() } else { String::new() },
            name: "ca".into(),
        }
    }

    fn decided(kind: IssuerKind, state: Option<State>, waited: Duration, reads_cluster_issuers: bool) -> String {
        match choose(&key(kind), state, waited, reads_cluster_issuers) {
            Choice::Sign(_) => "sign".into(),
            Choice::Wait(time) => format!("wait {} ms", time.as_millis()),
            Choice::Fail(failure) => format!("{:?} {}: {failure}", failure.class, failure.reason),
        }
    }

    #[test]
    fn an_issuer_signs_is_waited_for_or_is_the_failure() {
        let (early, late) = (Duration::from_millis(999), GRACE_PERIOD);
        for (kind, state, waited, reads, expected) in [
            (Issuer, Some(State::Ready(Signer::SelfSigned)), early, true, "sign"),
            (Issuer, Some(State::Examining), late, true, "wait 60000 ms"),
            (Issuer, None, early, true, "wait 250 ms"),
            (
                Issuer,
                None,
                late,
                true,
                "Waiting(300s) IssuerNotReady: there is no Issuer ca in namespace app",
            ),
            (
                ClusterIssuer,
                None,
                late,
                true,
                "Waiting(300s) IssuerNotReady: there is no ClusterIssuer ca;",
            ),
            (
                ClusterIssuer,
                None,
                late,
                false,
                "Waiting(300s) IssuerNotReady: this operator",
            ),
            (
                Issuer,
                Some(State::NotReady("no key".into())),
                early,
                true,
                "Waiting(300s) IssuerNotReady: Issuer ca cannot sign: no key",
            ),
            (
                Issuer,
                Some(State::Refused("deactivated".into())),
                early,
                true,
                "Refused IssuerNotReady: Issuer ca cannot sign: deactivated",
            ),
        ] {
            let got = decided(kind, state, waited, reads);
            assert!(got.starts_with(expected), "{got}");
        }
    }
}
