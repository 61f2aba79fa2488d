//! The `ca` issuer: a CA whose pair is in a Secret, checked before it signs anything.

use gatehouse_crds::issuer::CaIssuer;
use jiff::Timestamp;

use super::{NotReady, registry::CaSigner};
use crate::{
    issuer::solver::{SecretReadError, SecretReader},
    pki::{Authority, Extras},
};

/// Says until when the CA can sign, and for what only.
pub fn message(secret: &str, authority: &Authority) -> String {
    let only = authority
        .only_for()
        .map(|usages| format!(", for {usages} only"))
        .unwrap_or_default();
    format!(
        "The CA in Secret {secret} can sign until {}{only}.",
        authority.not_after()
    )
}

/// Reads and checks the CA.
pub async fn load(spec: &CaIssuer, secrets: &dyn SecretReader, now: Timestamp) -> Result<CaSigner, NotReady> {
    let name = &spec.secret_name;
    let data = secrets.read(name).await.map_err(|error| match error {
        SecretReadError::NotFound => NotReady::new(
            "SecretMissing",
            format!(
                "the CA's Secret {name} does not exist; make one of type kubernetes.io/tls with tls.crt and tls.key"
            ),
        ),
        SecretReadError::Failed(detail) => NotReady::transient(
            "SecretUnreadable",
            format!("the CA's Secret {name} cannot be read: {detail}"),
        ),
    })?;
    let get = |key: &'static str| {
        data.get(key)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| NotReady::new("SecretMalformed", format!("the CA's Secret {name} has no {key}")))
    };
    let root = data.get("ca.crt").map(|pem| pem.as_slice());
    let authority = Authority::load(get("tls.crt")?, get("tls.key")?, root, now)
        .map_err(|error| NotReady::new(error.reason(), format!("the CA in Secret {name} cannot sign: {error}")))?;
    Ok(CaSigner {
        authority,
        extras: Extras {
            crl_distribution_points: spec.crl_distribution_points.clone(),
            ocsp_servers: spec.ocsp_servers.clone(),
            issuing_certificate_urls: spec.issuing_certificate_urls.clone(),
        },
    })
}
