//! PEM (RFC 7468) as we write it; [`super::pem`] reads.

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

/// One PEM section with its final line end. The text is wiped when dropped, since it may be a key.
pub(super) fn pem_section(label: &str, der: &[u8]) -> Zeroizing<String> {
    let text = Zeroizing::new(STANDARD.encode(der));
    // Room for everything at once, so that no copy of a key stays behind in a smaller allocation.
    let mut pem = Zeroizing::new(String::with_capacity(
        text.len() + text.len() / 64 + 2 * label.len() + 40,
    ));
    pem.push_str("-----BEGIN ");
    pem.push_str(label);
    pem.push_str("-----\n");
    let mut rest = text.as_str();
    while let Some((line, after)) = rest
        .split_at_checked(rest.len().min(64))
        .filter(|(line, _)| !line.is_empty())
    {
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END ");
    pem.push_str(label);
    pem.push_str("-----\n");
    pem
}

/// Certificates (DER) as one PEM bundle, in the order given.
pub fn certificates_pem<'a>(certificates: impl IntoIterator<Item = &'a [u8]>) -> String {
    certificates.into_iter().fold(String::new(), |mut pem, der| {
        pem.push_str(&pem_section("CERTIFICATE", der));
        pem
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_section_reads_back_and_its_lines_are_at_most_64_long(der in proptest::collection::vec(any::<u8>(), 0..300)) {
            let pem = pem_section("CERTIFICATE", &der);
            let read = pem::parse(pem.as_bytes()).unwrap();
            prop_assert_eq!(read.contents(), der.as_slice());
            prop_assert!(pem.lines().all(|line| line.len() <= 64));
        }
    }
}
