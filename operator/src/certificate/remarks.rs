//! Says of a good certificate what its owner may want to know: where its CA chose otherwise than the spec, and that its
//! issuer has changed since. Neither makes it bad, and neither replaces it by itself.

use gatehouse_crds::certificate::{AuthorityType, Certificate, CertificateStatus, SigningAuthority};
use jiff::Timestamp;

use super::differences;
use crate::clock;
use crate::issuer::server::is_same_server;

/// An issuer that is ready, as far as a certificate of it is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyIssuer {
    pub authority: SigningAuthority,
    /// Whether the Certificate's `duration` reaches it.
    pub takes_duration: bool,
}

/// Returns the remarks about the certificate that `status` describes, each a sentence or two.
pub fn remarks(
    certificate: &Certificate,
    status: &CertificateStatus,
    issuer: &ReadyIssuer,
    now: Timestamp,
) -> Vec<String> {
    differing(&status.differences)
        .into_iter()
        .chain(ahead(status, now))
        .chain(lifetime(certificate, status, issuer))
        .chain(replaced(certificate, status, issuer))
        .collect()
}

/// Says in what a certificate is not what the spec asks for.
pub fn differing(differences: &[String]) -> Option<String> {
    (!differences.is_empty()).then(|| {
        format!(
            "The CA decided otherwise than the spec, and the certificate is used as it is: {}.",
            differences.join("; ")
        )
    })
}

/// Says when a certificate begins that its CA dated ahead. It is not replaced: the CA would date the next one so, too.
///
/// The words stay true when that time has passed before the next look.
pub fn ahead(status: &CertificateStatus, now: Timestamp) -> Option<String> {
    let start = status.not_before?;
    (start.duration_since(now) > clock::SKEW)
        .then(|| format!("The CA dated it ahead, and clients accept it from {start} only: check the clocks of the CA and of this cluster."))
}

fn lifetime(certificate: &Certificate, status: &CertificateStatus, issuer: &ReadyIssuer) -> Option<String> {
    let asked = certificate.spec.duration.as_ref()?.value();
    let (start, end) = (status.not_before?, status.not_after?);
    differences::lifetime((start, end), asked, status.issued_at.unwrap_or(start))?;
    let name = &status.issuer.as_ref()?.name;
    Some(match (issuer.authority.kind, issuer.takes_duration) {
        (AuthorityType::ACME, false) => format!(
            "An ACME CA decides the lifetime: to request spec.duration from it, set acme.enableDurationFeature: true on {name}."
        ),
        (AuthorityType::ACME, true) => {
            format!("{name} requests spec.duration from its CA (acme.enableDurationFeature), which decides.")
        }
        (AuthorityType::CA | AuthorityType::SelfSigned, _) => "No certificate outlives its CA.".to_owned(),
    })
}

fn replaced(certificate: &Certificate, status: &CertificateStatus, issuer: &ReadyIssuer) -> Option<String> {
    let (signed, now) = (status.authority.as_ref()?, &issuer.authority);
    if is_same(signed, now) {
        return None;
    }
    let by = status.issuer.as_ref()?;
    let metadata = &certificate.metadata;
    let renewal = status
        .renewal_time
        .map_or_else(String::new, |time| format!(" ({time})"));
    Some(format!(
        "It was issued by {}; {} {} now issues by {}, which takes effect with the next renewal{renewal}. To replace the \
         certificate now: kubectl gatehouse renew -n {} {}",
        named(signed),
        by.kind,
        by.name,
        named(now),
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    ))
}

/// Whether both are the same CA. A CA of which no key is known may be any.
fn is_same(one: &SigningAuthority, other: &SigningAuthority) -> bool {
    one.kind == other.kind
        && is_same_server(one.server.as_deref(), other.server.as_deref())
        && (one.key_id.is_none() || other.key_id.is_none() || one.key_id == other.key_id)
}

fn named(authority: &SigningAuthority) -> String {
    let detail = |text: &Option<String>| text.as_deref().map_or_else(String::new, |text| format!(" {text}"));
    match authority.kind {
        AuthorityType::ACME => format!("the ACME server{}", detail(&authority.server)),
        AuthorityType::CA => format!("a CA with the key{}", detail(&authority.key_id)),
        AuthorityType::SelfSigned => "its own key".to_owned(),
    }
}

#[cfg(test)]
#[path = "remarks_tests.rs"]
mod tests;
