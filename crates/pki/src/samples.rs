//! Keys, requests and CAs for the tests of this room.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use jiff::{SignedDuration, Timestamp};

use super::{
    Authority, CertificateRequest, Chain, Curve, DnsName, Extras, Issued, KeyEncoding, KeyParameters, NameConstraints,
    PrivateKey, RsaSize, Subject, Subtrees, Usage, Validity, certificate::Certificate, encoding::certificates_pem,
    self_sign,
};

/// Parameters whose keys are made quickly, one of each algorithm and curve.
pub(super) const PARAMETERS: [KeyParameters; 5] = [
    KeyParameters::Rsa(RsaSize::Bits2048),
    KeyParameters::Ecdsa(Curve::P256),
    KeyParameters::Ecdsa(Curve::P384),
    KeyParameters::Ecdsa(Curve::P521),
    KeyParameters::Ed25519,
];

pub(super) fn p256() -> PrivateKey {
    PrivateKey::generate(KeyParameters::Ecdsa(Curve::P256)).unwrap()
}

/// A moment at which the samples are issued; independent readers get it too, so that no clock counts.
pub(super) fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

pub(super) fn for_hours(hours: i64) -> Validity {
    Validity {
        not_before: now(),
        not_after: now() + SignedDuration::from_hours(hours),
    }
}

pub(super) fn named(names: &[&str]) -> CertificateRequest {
    CertificateRequest {
        dns_names: names.iter().map(|name| DnsName::parse(name).unwrap()).collect(),
        usages: vec![Usage::DigitalSignature, Usage::KeyEncipherment, Usage::ServerAuth],
        ..Default::default()
    }
}

/// A request that asks for everything that a leaf can have.
pub(super) fn everything() -> CertificateRequest {
    CertificateRequest {
        common_name: Some("shop.example.com".into()),
        subject: Subject {
            organizations: vec!["Acme & Söhne".into(), "Second".into()],
            organizational_units: vec!["Dev".into(), "Ops".into()],
            countries: vec!["DE".into()],
            provinces: vec!["Berlin".into()],
            localities: vec!["Mitte".into()],
            street_addresses: vec!["Street 1".into()],
            postal_codes: vec!["10115".into()],
            serial_number: Some("HRB-1".into()),
        },
        dns_names: ["shop.example.com", "*.shop.example.com", "bücher.example.com"]
            .map(|name| DnsName::parse(name).unwrap())
            .into(),
        ip_addresses: vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()],
        uris: vec!["spiffe://example.com/shop".into()],
        email_addresses: vec!["shop@example.com".into()],
        usages: vec![
            Usage::DigitalSignature,
            Usage::KeyEncipherment,
            Usage::ServerAuth,
            Usage::ClientAuth,
            Usage::IpsecUser,
        ],
        ..Default::default()
    }
}

pub(super) fn ca_request(name: &str) -> CertificateRequest {
    CertificateRequest {
        common_name: Some(name.into()),
        is_ca: true,
        usages: vec![Usage::CertSign, Usage::CrlSign],
        ..Default::default()
    }
}

pub(super) fn permitting(domains: &[&str]) -> NameConstraints {
    let dns_domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
    NameConstraints {
        critical: true,
        permitted: Subtrees {
            dns_domains,
            ..Default::default()
        },
        ..Default::default()
    }
}

/// A root, and when asked an intermediate below it, as Secrets would hold them.
pub(super) struct Ca {
    pub(super) key: PrivateKey,
    pub(super) chain_pem: String,
    pub(super) root_pem: String,
}

impl Ca {
    pub(super) fn root(request: &CertificateRequest, parameters: KeyParameters, validity: Validity) -> Self {
        let key = PrivateKey::generate(parameters).unwrap();
        let issued = self_sign(request, &key, validity).unwrap();
        Self {
            key,
            chain_pem: issued.chain_pem(),
            root_pem: issued.root_pem().unwrap(),
        }
    }

    pub(super) fn below(&self, request: &CertificateRequest, validity: Validity) -> Self {
        let key = p256();
        let issued = self
            .authority()
            .sign(request, key.public_key_der(), validity, &Extras::default())
            .unwrap();
        Self {
            key,
            chain_pem: issued.chain_pem(),
            root_pem: self.root_pem.clone(),
        }
    }

    pub(super) fn load(&self, at: Timestamp) -> Result<Authority, super::AuthorityError> {
        let key = self.key.to_pem(KeyEncoding::Pkcs8).unwrap();
        Authority::load(
            self.chain_pem.as_bytes(),
            key.as_bytes(),
            Some(self.root_pem.as_bytes()),
            at,
        )
    }

    pub(super) fn authority(&self) -> Authority {
        self.load(now()).unwrap()
    }
}

/// A root and the authority of an intermediate below it.
pub(super) fn two_tier() -> (Ca, Ca) {
    let root = Ca::root(
        &ca_request("Sample Root"),
        KeyParameters::Ecdsa(Curve::P384),
        for_hours(10_000),
    );
    let intermediate = root.below(&ca_request("Sample Intermediate"), for_hours(5_000));
    (root, intermediate)
}

pub(super) fn leaf(issued: &Issued) -> Certificate {
    Certificate::from_der(&issued.leaf).unwrap()
}

pub(super) fn chain(issued: &Issued) -> Chain {
    let all = std::iter::once(&issued.leaf)
        .chain(issued.intermediates.iter())
        .chain(issued.root.as_deref());
    Chain::read(certificates_pem(all.map(Vec::as_slice)).as_bytes(), None).unwrap()
}
