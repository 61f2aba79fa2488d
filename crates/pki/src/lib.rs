//! Keys and certificates: the pure part of issuing, as values in and values out.
//!
//! Nothing here reads a file, a clock or the network; what depends on the time takes it as an
//! argument. The only thing drawn from outside is randomness, for keys, serial numbers and salts.
//!
//! - [`dns_name`]: a DNS name that cannot be wrong, with Unicode turned into A-labels.
//! - [`key`]: private keys made, read from PEM, written in every encoding, used to sign.
//! - [`usage`], [`request`]: what a certificate is asked to say.
//! - [`csr`]: PKCS#10 for a CA elsewhere.
//! - [`authority`]: a CA of our own, checked before it signs; and self-signed certificates.
//! - [`name_constraints`]: RFC 5280 §4.2.1.10. `path`: what the CAs above a leaf let it be.
//! - [`certificate`], [`chain`]: what CAs and Secrets give, read and put in order.
//! - [`fit`]: compares a certificate with a request.
//! - [`keystore`]: PKCS#12 and JKS.
//! - [`pem`]: the one reader for PEM from outside; [`encoding`]: PEM as we write it.
//! - [`name`]: distinguished names, compared as RFC 5280 §7.1 wants it.

pub mod authority;
pub mod certificate;
pub mod chain;
pub mod csr;
pub mod dns_name;
pub mod encoding;
mod extension;
pub mod fit;
#[cfg(test)]
mod independent_readers;
pub mod key;
pub mod keystore;
pub mod name;
pub mod name_constraints;
mod path;
pub mod pem;
pub mod request;
#[cfg(test)]
mod samples;
mod signed;
pub mod usage;

pub use authority::{Authority, AuthorityError, Extras, Issued, self_sign};
pub use certificate::Certificate;
pub use chain::{Chain, ChainError};
pub use csr::{SubjectIn, certificate_signing_request};
pub use dns_name::{DnsName, DnsNameError};
pub use fit::{Fidelity, Mismatch};
pub use key::{Curve, KeyEncoding, KeyError, KeyParameters, PrivateKey, RsaSize};
pub use name_constraints::{NameConstraints, Subtrees};
pub use request::{CertificateRequest, RequestError, Subject};
pub use signed::{SerialNumber, Validity};
pub use usage::Usage;
