//! The objects that a Certificate waits for, each watched by its name.

use std::collections::BTreeSet;

use gatehouse_crds::certificate::{Certificate, RolloutKind};

use super::status::{ISSUING, READY};
use crate::kubernetes::{
    conditions,
    dependency::{Dependency, Dependent, Kind},
};

/// The kind of the Certificates among those who wait.
pub const KIND: &str = "Certificate";

/// Names a Certificate among those who wait.
pub fn dependent(namespace: &str, name: &str) -> Dependent {
    Dependent::new(KIND, namespace, name)
}

/// Returns the objects whose change is to enqueue `certificate`.
///
/// None for a Certificate without keystores that is well: its Secret is in the watch of all TLS Secrets.
pub fn of(certificate: &Certificate) -> BTreeSet<Dependency> {
    let mut all = BTreeSet::new();
    let spec = &certificate.spec;
    if certificate.metadata.deletion_timestamp.is_some() || spec.suspend == Some(true) {
        return all;
    }
    let namespace = certificate.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(keystores) = &spec.keystores {
        let pkcs12 = keystores.pkcs12.as_ref().filter(|pkcs12| pkcs12.create);
        let jks = keystores.jks.as_ref().filter(|jks| jks.create);
        let passwords = pkcs12.map(|pkcs12| &pkcs12.password_secret_ref);
        let passwords = passwords.into_iter().chain(jks.map(|jks| &jks.password_secret_ref));
        all.extend(passwords.map(|password| Dependency::secret(namespace, &password.name)));
    }
    let Some(status) = &certificate.status else { return all };
    // A Secret in the way may be of any type; one that cannot be written may be deleted.
    let is_in_the_way = [READY, ISSUING].iter().any(|type_| {
        conditions::find(&status.conditions, type_)
            .is_some_and(|condition| condition.status == "False" && concerns_target(&condition.reason))
    });
    if is_in_the_way {
        all.insert(Dependency::secret(namespace, &spec.secret_name));
    }
    all.extend(status.pending_rollouts.iter().map(|target| Dependency {
        namespace: namespace.to_owned(),
        name: target.name.clone(),
        kind: match target.kind {
            RolloutKind::Deployment => Kind::Deployment,
            RolloutKind::StatefulSet => Kind::StatefulSet,
            RolloutKind::DaemonSet => Kind::DaemonSet,
        },
    }));
    all
}

/// Whether a failure of this reason is about the Secret that is to be written.
pub fn concerns_target(reason: &str) -> bool {
    reason.starts_with("Secret")
}

/// Whether a failure of this reason may be over when an object that was waited for has changed.
pub fn is_awaited(reason: &str) -> bool {
    reason == "KeystoreFailed" || concerns_target(reason)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jiff::Timestamp;

    use super::*;
    use crate::{certificate::samples, kubernetes::conditions::Status};

    fn names(certificate: &Certificate) -> Vec<String> {
        of(certificate).iter().map(ToString::to_string).collect()
    }

    fn failed(mut certificate: Certificate, type_: &'static str, reason: &'static str) -> Certificate {
        let verdict = conditions::ConditionUpdate {
            type_,
            status: Status::False,
            reason,
            message: "no".into(),
        };
        let status = certificate.status.get_or_insert_default();
        conditions::set(&mut status.conditions, &verdict, Some(1), Timestamp::UNIX_EPOCH);
        certificate
    }

    #[test]
    fn a_certificate_that_is_well_costs_no_watch() {
        let certificate = samples::certificate("rollout: [{kind: Deployment, name: web}]");
        let pair = samples::pair(&certificate, samples::issued_at());
        assert_eq!(names(&certificate), [""; 0]);
        let issued = samples::with_issued(certificate, &pair, samples::issued_at());
        assert_eq!(names(&issued), [""; 0]);
    }

    #[test]
    fn the_passwords_of_its_keystores_are_watched_also_later() {
        let keystores = |more: &str| {
            samples::certificate(&format!(
                "keystores:\n  pkcs12: {{create: true, passwordSecretRef: {{name: p12, key: password}}}}\n  jks: {{create: \
                 {more}, passwordSecretRef: {{name: jks, key: password}}}}\n"
            ))
        };
        assert_eq!(names(&keystores("true")), ["Secret app/jks", "Secret app/p12"]);
        assert_eq!(names(&keystores("false")), ["Secret app/p12"]);
        let mut suspended = keystores("true");
        suspended.spec.suspend = Some(true);
        assert_eq!(names(&suspended), [""; 0]);
    }

    #[test]
    fn a_secret_in_the_way_is_watched_whatever_its_type() {
        for (type_, reason, watched) in [
            (READY, "SecretConflict", true),
            (ISSUING, "SecretConflict", true),
            (ISSUING, "SecretWriteFailed", true),
            (ISSUING, "Network", false),
            (READY, "IssuerNotReady", false),
        ] {
            let certificate = failed(samples::certificate(""), type_, reason);
            assert_eq!(
                names(&certificate) == ["Secret app/web-tls"],
                watched,
                "{type_} {reason}"
            );
        }
    }
}
