//! `Certificate`: a TLS certificate that must exist, in a Secret, always fresh.

mod key;
mod output;
mod spec;
mod status;

pub use key::{KeyAlgorithm, KeyEncoding, PrivateKeySpec, RotationPolicy};
pub use output::{
    JksKeystore, Keystores, OutputFormat, OutputFormatType, Pkcs12Keystore, Pkcs12Profile, RolloutKind, RolloutTarget,
    SecretDeletionPolicy, SecretTemplate,
};
pub use spec::{Certificate, CertificateSpec, IssuerKind, IssuerRef, NameConstraintItem, NameConstraints, X509Subject};
pub use status::{
    AcmeStatus, AriStatus, AuthorityType, CertificateStatus, ChallengeState, ChallengeStatus, LastFailure,
    SigningAuthority, SigningIssuer,
};
