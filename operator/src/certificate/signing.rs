//! Issuing by a CA in the process, or by the certificate's own key.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    decide::IssuanceReason,
    desired::DesiredCertificate,
    failure::{Class, Failure},
    observed_secret::KeyPair,
    renewal,
};
use crate::{
    issuer::registry::{CaSigner, Key},
    pki::{self, AuthorityError, Chain, Issued, PrivateKey, Validity, certificate::CertificateError},
};

/// Lifetime when neither the user nor the CA has an opinion.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(90 * 86_400);

/// So far notBefore is set back, for peers whose clocks are behind; never before a CA's own.
const BACKDATED: Duration = Duration::from_secs(60);

/// Why a renewal would be in vain: the CA's end caps the new certificate's, which would end no later than the old.
/// Renewed at half of the rest again and again, it would cause work until the CA's last second.
pub fn in_vain(issuer: &Key, ca: &CaSigner, cause: IssuanceReason, not_after: Option<Timestamp>) -> Option<Failure> {
    let end = ca.authority.not_after();
    let by_time = matches!(cause, IssuanceReason::Due | IssuanceReason::Advised);
    (by_time && not_after.is_some_and(|not_after| end <= not_after)).then(|| {
        Failure::new(
            Class::Waiting(Duration::from_secs(300)),
            "IssuerNotReady",
            format!("{issuer} ends at {end} itself, so that a new certificate would not last longer than the present one; renew the CA in its Secret"),
        )
    })
}

/// Signs with the CA, whose end caps the certificate's.
pub fn by_ca(
    ca: &CaSigner,
    desired: &DesiredCertificate,
    key: Arc<PrivateKey>,
    now: Timestamp,
) -> Result<KeyPair, Failure> {
    ca.authority.check_time(now).map_err(|error| refused(&error))?;
    let issued = ca
        .authority
        .sign(
            &desired.request,
            key.public_key_der(),
            validity(desired, now),
            &ca.extras,
        )
        .map_err(|error| refused(&error))?;
    key_pair(key, &issued)
}

/// Signs with the key that is certified.
pub fn by_itself(desired: &DesiredCertificate, key: Arc<PrivateKey>, now: Timestamp) -> Result<KeyPair, Failure> {
    let issued = pki::self_sign(&desired.request, &key, validity(desired, now)).map_err(|error| refused(&error))?;
    key_pair(key, &issued)
}

/// The lifetime counts from the issue: a certificate for an hour is valid for that hour, and for the minute before.
fn validity(desired: &DesiredCertificate, now: Timestamp) -> Validity {
    let now = renewal::whole_seconds(now);
    let lifetime = desired.duration.unwrap_or(DEFAULT_LIFETIME);
    Validity {
        not_before: now.checked_sub(BACKDATED).unwrap_or(now),
        not_after: now.checked_add(lifetime).unwrap_or(Timestamp::MAX),
    }
}

fn key_pair(key: Arc<PrivateKey>, issued: &Issued) -> Result<KeyPair, Failure> {
    let read = |der: &[u8]| {
        pki::Certificate::from_der(der)
            .map_err(|error: CertificateError| Failure::new(Class::Transient, "Invalid", error.to_string()))
    };
    let chain = Chain {
        leaf: read(&issued.leaf)?,
        intermediates: issued
            .intermediates
            .iter()
            .map(|der| read(der))
            .collect::<Result<_, _>>()?,
        root: issued.root.as_ref().map(|der| read(der)).transpose()?,
        others: Vec::new(),
    };
    Ok(KeyPair::new(key, chain))
}

/// Returns the failure of a CA that may not sign this: the spec of one of the two has to be fixed.
fn refused(error: &AuthorityError) -> Failure {
    match error {
        AuthorityError::Expired { .. } | AuthorityError::NotYetValid { .. } => Failure::new(
            Class::Waiting(Duration::from_secs(300)),
            "IssuerNotReady",
            error.to_string(),
        ),
        AuthorityError::Request(_) => Failure::new(Class::Spec, "Invalid", error.to_string()),
        _ => Failure::new(Class::Refused, "Rejected", error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pki::{Authority, Extras, KeyEncoding};

    fn desired(more: &str) -> DesiredCertificate {
        let spec = format!("secretName: a\nissuerRef: {{name: ca}}\n{more}");
        DesiredCertificate::parse(&serde_saphyr::from_str(&spec).unwrap()).unwrap()
    }

    #[test]
    fn notbefore_is_a_minute_back_and_the_lifetime_counts_from_the_issue() {
        let now: Timestamp = "2026-01-01T00:00:00.7Z".parse().unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let root = desired("commonName: root\nisCA: true\nduration: 24h");
        let key = Arc::new(PrivateKey::generate(root.key).unwrap());
        let pem = key.to_pem(KeyEncoding::Pkcs8).unwrap();
        let root = by_itself(&root, key, now).unwrap();
        assert_eq!(root.leaf().not_before, at("2025-12-31T23:59:00Z"));
        assert_eq!(root.leaf().not_after, at("2026-01-02T00:00:00Z"));
        let ca = CaSigner {
            authority: Authority::load(root.chain.pem().as_bytes(), pem.as_bytes(), None, now).unwrap(),
            extras: Extras::default(),
        };
        let by_ca = |spec: &str, time: &str| {
            let desired = desired(spec);
            let key = Arc::new(PrivateKey::generate(desired.key).unwrap());
            let pair = by_ca(&ca, &desired, key, at(time)).unwrap();
            (pair.leaf().not_before, pair.leaf().not_after)
        };
        for (spec, time, from, to) in [
            (
                "dnsNames: [a.test]\nduration: 1h",
                "2026-01-01T10:00:00Z",
                "2026-01-01T09:59:00Z",
                "2026-01-01T11:00:00Z",
            ),
            (
                "dnsNames: [a.test]\nduration: 30s",
                "2026-01-01T10:00:00Z",
                "2026-01-01T09:59:00Z",
                "2026-01-01T10:00:30Z",
            ),
            // Never before the CA's own, nor after its end.
            (
                "dnsNames: [a.test]\nduration: 1h",
                "2025-12-31T23:59:10Z",
                "2025-12-31T23:59:00Z",
                "2026-01-01T00:59:10Z",
            ),
            (
                "dnsNames: [a.test]\nduration: 1h",
                "2026-01-01T23:59:50Z",
                "2026-01-01T23:58:50Z",
                "2026-01-02T00:00:00Z",
            ),
        ] {
            assert_eq!(by_ca(spec, time), (at(from), at(to)), "{spec} {time}");
        }
    }

    #[test]
    fn a_ca_that_ends_with_the_certificate_is_not_asked_for_another() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let root = desired("commonName: root\nisCA: true\nduration: 2h");
        let key = Arc::new(PrivateKey::generate(root.key).unwrap());
        let pem = key.to_pem(KeyEncoding::Pkcs8).unwrap();
        let root = by_itself(&root, key, now).unwrap();
        let ca = CaSigner {
            authority: Authority::load(root.chain.pem().as_bytes(), pem.as_bytes(), None, now).unwrap(),
            extras: Extras::default(),
        };
        let issuer = Key {
            kind: gatehouse_crds::certificate::IssuerKind::Issuer,
            namespace: "app".into(),
            name: "ca".into(),
        };
        let ends = |spec: &str| {
            let desired = desired(spec);
            let key = Arc::new(PrivateKey::generate(desired.key).unwrap());
            Some(by_ca(&ca, &desired, key, now).unwrap().leaf().not_after)
        };
        let (capped, short) = (ends("dnsNames: [a.test]"), ends("dnsNames: [a.test]\nduration: 1h"));
        assert_eq!(
            in_vain(&issuer, &ca, IssuanceReason::Due, capped).unwrap().reason,
            "IssuerNotReady"
        );
        assert_eq!(in_vain(&issuer, &ca, IssuanceReason::Due, short), None);
        for cause in [
            IssuanceReason::SpecChanged,
            IssuanceReason::Requested,
            IssuanceReason::SecretDamaged,
            IssuanceReason::Expired,
        ] {
            assert_eq!(in_vain(&issuer, &ca, cause, capped), None, "{cause:?}");
        }
    }
}
