//! The CAs from the one that signs up to the root, and what each lets those below it do (RFC 5280 §6.1).

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{
    authority::AuthorityError,
    certificate::Certificate,
    key::{KeyError, KeyParameters},
    name_constraints::directory_within,
    request::{CertificateRequest, name_der},
    signed::Validity,
    usage::Usage,
};

/// Checks what holds for every leaf, whatever it says.
pub(super) fn check(path: &[Certificate]) -> Result<(), AuthorityError> {
    for (position, ca) in path.iter().enumerate() {
        let name = || ca.display_name();
        let is_root = position > 0 && ca.is_self_signed();
        // Roots of before X.509 version 3 have no extensions; that they are trusted is what makes them CAs.
        if !ca.is_ca && !is_root {
            return Err(AuthorityError::NotAnAuthority { ca: name() });
        }
        if ca
            .key_usage
            .as_ref()
            .is_some_and(|usages| !usages.contains(&Usage::CertSign))
        {
            return Err(AuthorityError::MayNotSign { ca: name() });
        }
        if let Some(oid) = &ca.unknown_critical {
            return Err(AuthorityError::UnknownCritical {
                ca: name(),
                oid: oid.clone(),
            });
        }
        // A root's own signature is never checked.
        if let Some(digest) = ca.weak_digest.filter(|_| !ca.is_self_signed()) {
            return Err(AuthorityError::WeakSignature { ca: name(), digest });
        }
        if let Err(KeyError::UnsupportedRsaSize { bits }) = KeyParameters::of_public_key(&ca.public_key)
            && bits < 2048
        {
            return Err(AuthorityError::WeakKey { ca: name(), bits });
        }
    }
    for (ca, below) in with_depth(path, 0) {
        // The leaf counts, and it has no policy (§6.1.5 a, g).
        if ca.require_explicit_policy.is_some_and(|skip| skip <= below + 1) {
            return Err(AuthorityError::PolicyRequired { ca: ca.display_name() });
        }
    }
    check_depth(path, 0)?;
    check_usages_overlap(path)
}

/// Checks that every CA is valid at this moment.
pub(super) fn check_time(path: &[Certificate], now: Timestamp) -> Result<(), AuthorityError> {
    for ca in path {
        let (ca, not_before, not_after) = (ca.display_name(), ca.not_before, ca.not_after);
        if now > not_after {
            return Err(AuthorityError::Expired { ca, not_after });
        }
        if now < not_before {
            return Err(AuthorityError::NotYetValid { ca, not_before });
        }
    }
    Ok(())
}

/// Checks that every CA lets the signing one sign this request.
pub(super) fn check_request(path: &[Certificate], request: &CertificateRequest) -> Result<(), AuthorityError> {
    check_depth(path, u32::from(request.is_ca))?;
    let subject = name_der(Some(&request.subject), request.common_name.as_deref());
    let wanted = request.effective_usages();
    for ca in path {
        if let Some(allowed) = restricted(ca)
            && let Some(usage) = wanted
                .iter()
                .find(|usage| usage.extended_oid().is_some() && !allowed.contains(usage))
        {
            return Err(AuthorityError::UsageNotPermitted {
                ca: ca.display_name(),
                usage: usage.name(),
                allowed: list(allowed),
            });
        }
        let Some(constraints) = &ca.name_constraints else {
            continue;
        };
        let refused = constraints
            .admit(request)
            .err()
            .or_else(|| directory_within(&subject, &ca.permitted_directories, &ca.excluded_directories).err());
        if let Some(refused) = refused {
            return Err(AuthorityError::NameNotPermitted {
                ca: ca.display_name(),
                name: refused.name,
                excluded_by: refused.excluded_by,
            });
        }
    }
    Ok(())
}

/// The time in which every CA is valid.
pub(super) fn validity(path: &[Certificate]) -> Validity {
    let start = path.iter().map(|ca| ca.not_before).max();
    let end = path.iter().map(|ca| ca.not_after).min();
    Validity {
        not_before: start.unwrap_or(Timestamp::MIN),
        not_after: end.unwrap_or(Timestamp::MAX),
    }
}

/// The extended key usages that every CA lets a leaf have; `None` when there is no limit.
pub(super) fn usages(path: &[Certificate]) -> Option<BTreeSet<Usage>> {
    path.iter()
        .filter_map(restricted)
        .cloned()
        .reduce(|all, more| all.intersection(&more).copied().collect())
}

/// Usages by their names.
pub(super) fn list(usages: &BTreeSet<Usage>) -> String {
    if usages.is_empty() {
        return "other purposes".to_owned();
    }
    usages.iter().map(|usage| usage.name()).collect::<Vec<_>>().join(", ")
}

/// The extended key usages to which a CA limits those below it, as verifiers nest them (CA/Browser Forum §7.1.2.2).
fn restricted(ca: &Certificate) -> Option<&BTreeSet<Usage>> {
    ca.extended_key_usage
        .as_ref()
        .filter(|allowed| !allowed.contains(&Usage::Any))
}

/// Checks that there is a usage that no CA takes away from all leaves.
fn check_usages_overlap(path: &[Certificate]) -> Result<(), AuthorityError> {
    let mut left: Option<BTreeSet<Usage>> = None;
    for ca in path {
        let Some(allowed) = restricted(ca).filter(|allowed| !allowed.is_empty()) else {
            continue;
        };
        let both = match &left {
            None => allowed.clone(),
            Some(left) => left.intersection(allowed).copied().collect(),
        };
        if let Some(left) = left.filter(|_| both.is_empty()) {
            return Err(AuthorityError::NoUsageLeft {
                ca: ca.display_name(),
                allowed: list(allowed),
                below: list(&left),
            });
        }
        left = Some(both);
    }
    Ok(())
}

fn check_depth(path: &[Certificate], below: u32) -> Result<(), AuthorityError> {
    for (ca, below) in with_depth(path, below) {
        if let Some(path_length) = ca.path_length.filter(|length| *length < below) {
            return Err(AuthorityError::PathTooShort {
                ca: ca.display_name(),
                path_length,
                below,
            });
        }
    }
    Ok(())
}

/// Each CA with how many CAs are below it, when so many are below the one that signs.
fn with_depth(path: &[Certificate], mut below: u32) -> impl Iterator<Item = (&Certificate, u32)> {
    path.iter().map(move |ca| {
        let here = below;
        // Self-issued CAs do not count (§6.1.4 l).
        below += u32::from(!ca.is_self_issued());
        (ca, here)
    })
}

#[cfg(test)]
#[path = "path_tests.rs"]
mod tests;
