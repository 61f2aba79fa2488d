//! Whether certificates belong together: in their order, and up to a root that is trusted.

use crate::pki::Certificate;

/// More steps up than any chain has.
const DEEPEST: usize = 10;

/// Returns the fault in the order, as a text; none when each is signed by the next.
pub(super) fn disorder(certificates: &[Certificate]) -> Vec<String> {
    certificates
        .iter()
        .zip(certificates.iter().skip(1))
        .enumerate()
        .filter_map(|(position, (lower, upper))| {
            let (number, next) = (position + 1, position + 2);
            if lower.issuer_name != upper.subject_name {
                let signer = lower
                    .issuer_common_name
                    .as_deref()
                    .unwrap_or("a CA without a common name");
                return Some(format!(
                    "certificate {number} is signed by {signer}, and certificate {next} is that of {}",
                    upper.display_name()
                ));
            }
            match lower.is_signed_by(upper) {
                Some(true) => None,
                Some(false) => Some(format!(
                    "certificate {next} has the name of the issuer of certificate {number}, but did not sign it"
                )),
                None => Some(format!(
                    "the signature of certificate {number} is of a kind that is not supported"
                )),
            }
        })
        .collect()
}

/// The root at which the chain of the first certificate ends, if it is among `roots`.
pub(super) fn root<'a>(certificates: &'a [Certificate], roots: &'a [Certificate]) -> Option<&'a Certificate> {
    let mut top = certificates.first()?;
    for _ in 0..DEEPEST {
        if let Some(root) = roots
            .iter()
            .find(|root| *root == top || (root.subject_name == top.issuer_name && top.is_signed_by(root) == Some(true)))
        {
            return Some(root);
        }
        top = certificates.iter().find(|upper| {
            *upper != top && upper.subject_name == top.issuer_name && top.is_signed_by(upper) == Some(true)
        })?;
    }
    None
}
