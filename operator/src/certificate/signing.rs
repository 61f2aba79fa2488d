//! Issuing by a CA in the process, or by the certificate's own key.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    failure::{Class, Failure},
    holding::Held,
    renewal,
    wanted::Wanted,
};
use crate::{
    issuer::registry::CaSigner,
    pki::{self, AuthorityError, Chain, Issued, PrivateKey, Validity, certificate::CertificateError},
};

/// Lifetime when neither the user nor the CA has an opinion.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(90 * 86_400);

/// Signs with the CA, whose end caps the certificate's.
pub fn by_ca(ca: &CaSigner, wanted: &Wanted, key: Arc<PrivateKey>, now: Timestamp) -> Result<Held, Failure> {
    ca.authority.check_time(now).map_err(|error| refused(&error))?;
    let issued = ca
        .authority
        .sign(&wanted.request, key.public_key_der(), validity(wanted, now), &ca.extras)
        .map_err(|error| refused(&error))?;
    held(key, &issued)
}

/// Signs with the key that is certified.
pub fn by_itself(wanted: &Wanted, key: Arc<PrivateKey>, now: Timestamp) -> Result<Held, Failure> {
    let issued = pki::self_sign(&wanted.request, &key, validity(wanted, now)).map_err(|error| refused(&error))?;
    held(key, &issued)
}

fn validity(wanted: &Wanted, now: Timestamp) -> Validity {
    let not_before = renewal::whole_seconds(now);
    let lifetime = wanted.duration.unwrap_or(DEFAULT_LIFETIME);
    Validity {
        not_before,
        not_after: not_before.checked_add(lifetime).unwrap_or(Timestamp::MAX),
    }
}

fn held(key: Arc<PrivateKey>, issued: &Issued) -> Result<Held, Failure> {
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
    };
    Ok(Held::new(key, chain))
}

/// A CA that may not sign this: its owner or the Certificate's has to mend something.
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
