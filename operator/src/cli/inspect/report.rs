//! Report about a Secret or a file. Nothing of a private key but its kind.

use std::collections::BTreeMap;

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::chain;
use crate::{
    certificate::observed_secret,
    cli::{
        describe::{Page, names},
        moment::both,
        terminal::{Paint, Screen},
    },
    kubernetes::names as labels,
    pki::{Certificate, PrivateKey, chain::read_bundle},
};

/// Subject of the inspection.
pub(super) struct Subject {
    pub title: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// A file holds everything in one; a Secret has a place for each.
    pub is_file: bool,
    pub data: BTreeMap<String, Zeroizing<Vec<u8>>>,
}

/// The text, and whether all of it fits.
pub(super) fn report(subject: &Subject, now: Timestamp, screen: Screen) -> (String, bool) {
    let mut report = Report {
        subject,
        page: Page::new(screen),
        now,
        fine: true,
    };
    report.page.title(&subject.title, Paint::Strong);
    report.managed();
    let certificates = report.certificates();
    report.key(&certificates);
    report.chain(&certificates);
    report.further();
    (report.page.end(), report.fine)
}

struct Report<'a> {
    subject: &'a Subject,
    page: Page,
    now: Timestamp,
    fine: bool,
}

impl Report<'_> {
    fn value(&self, key: &str) -> Option<&[u8]> {
        let value = self.subject.data.get(key)?;
        Some(value.as_slice()).filter(|value| !value.is_empty())
    }

    /// Something that does not fit.
    fn wrong(&mut self, label: &str, words: &str) {
        self.fine = false;
        self.page.painted(label, words, Paint::Bad);
    }

    fn managed(&mut self) {
        let note = |key: &str| self.subject.annotations.get(key).map(String::as_str);
        let who = if let Some(certificate) = note(labels::CERTIFICATE) {
            let issuer = note(labels::ISSUER).map(|issuer| format!(", signed by {issuer}"));
            let cause = note(observed_secret::CAUSE).map(|cause| format!(", issued for {cause}"));
            format!(
                "Gatehouse, for Certificate {certificate}{}{}",
                issuer.unwrap_or_default(),
                cause.unwrap_or_default()
            )
        } else if let Some(certificate) = note("cert-manager.io/certificate-name") {
            format!("cert-manager, for Certificate {certificate}")
        } else if let Some(other) = self.subject.labels.get(labels::APP_MANAGED_BY) {
            other.clone()
        } else if self.subject.is_file {
            return;
        } else {
            "no Certificate that claims it".to_owned()
        };
        self.page.line("Managed by", &who);
        if note(labels::ADOPT) == Some(labels::TRUE) {
            self.page.line("", "its owner consents that Gatehouse takes it over");
        }
    }

    fn certificates(&mut self) -> Vec<Certificate> {
        let Some(pem) = self.value("tls.crt") else {
            self.page.heading("Certificates");
            self.wrong("tls.crt", "is missing or empty");
            return Vec::new();
        };
        match read_bundle(pem) {
            Ok(certificates) => {
                for (position, certificate) in certificates.iter().enumerate() {
                    let role = match (position, certificate.is_self_signed(), certificate.is_ca) {
                        (0, false, _) => "leaf",
                        (0, true, _) => "signed by its own key",
                        (_, true, _) => "root",
                        (_, false, true) => "intermediate",
                        (_, false, false) => "not a CA",
                    };
                    let title = format!("Certificate {} of {}: {role}", position + 1, certificates.len());
                    self.page.heading(&title);
                    self.certificate(certificate);
                }
                certificates
            }
            Err(error) => {
                self.page.heading("Certificates");
                let place = if self.subject.is_file { "it" } else { "tls.crt" };
                self.wrong(place, &format!("cannot be read: {error}"));
                Vec::new()
            }
        }
    }

    fn certificate(&mut self, certificate: &Certificate) {
        let unnamed = || "(none)".to_owned();
        self.page.line("Subject", &subject(certificate).unwrap_or_else(unnamed));
        let names = names(certificate);
        if !names.is_empty() {
            self.page.line("Names", &names.join(", "));
        }
        self.page.line(
            "Issuer",
            &certificate.issuer_common_name.clone().unwrap_or_else(unnamed),
        );
        let (start, end) = (certificate.not_before, certificate.not_after);
        if start > self.now {
            self.wrong("Valid from", &format!("{}: not yet valid", both(start, self.now)));
        } else {
            self.page.line("Valid from", &both(start, self.now));
        }
        if end <= self.now {
            self.wrong("Valid to", &format!("{}: expired", both(end, self.now)));
        } else {
            self.page.line("Valid to", &both(end, self.now));
        }
        self.page.line("Serial", &certificate.serial_hex());
        let key = certificate.key_parameters.map(|key| key.to_string());
        self.page.line("Key", key.as_deref().unwrap_or("of another kind"));
        let usages: Vec<_> = certificate
            .key_usage
            .iter()
            .chain(&certificate.extended_key_usage)
            .flatten()
            .map(ToString::to_string)
            .collect();
        let usages = if usages.is_empty() {
            "not restricted".to_owned()
        } else {
            usages.join(", ")
        };
        self.page.line("Usages", &usages);
        if certificate.is_ca {
            let depth = certificate
                .path_length
                .map_or_else(String::new, |depth| format!(", with at most {depth} CAs below it"));
            self.page.line("CA", &format!("yes{depth}"));
        }
        self.page.line("SHA-256", &certificate.fingerprint_sha256());
    }

    fn key(&mut self, certificates: &[Certificate]) {
        let Some(pem) = self.value("tls.key") else {
            if !self.subject.is_file {
                self.page.heading("Private key");
                self.wrong("tls.key", "is missing or empty");
            }
            return;
        };
        let key = PrivateKey::from_pem(pem);
        self.page.heading("Private key");
        match key {
            Err(error) => self.wrong("tls.key", &format!("cannot be read: {error}")),
            Ok(key) => {
                self.page.line("Kind", &key.parameters().to_string());
                let fits = certificates.iter().position(|certificate| certificate.matches(&key));
                match fits {
                    Some(0) => self.page.painted("Fits", "certificate 1", Paint::Good),
                    Some(position) => {
                        self.wrong("Fits", &format!("certificate {}, which must come first", position + 1));
                    }
                    None if certificates.is_empty() => {}
                    None => self.wrong("Fits", "none of the certificates: it is another key"),
                }
            }
        }
    }

    fn chain(&mut self, certificates: &[Certificate]) {
        let Some(leaf) = certificates.first() else { return };
        self.page.heading("Chain");
        let disorder = chain::disorder(certificates);
        if disorder.is_empty() {
            let words = match certificates.len() {
                1 => "one certificate",
                _ => "each certificate is signed by the next",
            };
            self.page.line("Order", words);
        }
        for words in disorder {
            self.wrong("Order", &words);
        }
        match self.value("ca.crt").map(read_bundle) {
            Some(Ok(roots)) => match chain::root(certificates, &roots) {
                Some(root) if root.not_after <= self.now => {
                    let words = format!("the chain ends at {} in ca.crt, which has expired", root.display_name());
                    self.wrong("Trust", &words);
                }
                Some(root) => {
                    let words = format!("the chain ends at {} in ca.crt", root.display_name());
                    self.page.painted("Trust", &words, Paint::Good);
                }
                None => self.wrong("Trust", "the chain does not lead to any certificate in ca.crt"),
            },
            Some(Err(error)) => self.wrong("ca.crt", &format!("cannot be read: {error}")),
            None if leaf.is_self_signed() => self.page.line("Trust", "it is its own root"),
            None => {
                let top = certificates.last().unwrap_or(leaf);
                let words = if top.is_self_signed() {
                    format!("it brings its own root, {}", top.display_name())
                } else {
                    format!(
                        "there is no ca.crt: clients have to know {}",
                        top.issuer_common_name.as_deref().unwrap_or("its issuer")
                    )
                };
                self.page.line("Trust", &words);
            }
        }
    }

    fn further(&mut self) {
        let known = ["tls.crt", "tls.key", "ca.crt"];
        let further: Vec<_> = self
            .subject
            .data
            .iter()
            .filter(|(key, _)| !known.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.len()))
            .collect();
        if further.is_empty() {
            return;
        }
        self.page.heading("Further keys");
        for (key, length) in further {
            let kind = match key.as_str() {
                "tls-combined.pem" => "the key, then the chain",
                "key.der" => "the key in DER",
                "keystore.p12" => "PKCS#12 with the key and the chain",
                "truststore.p12" => "PKCS#12 with the CA",
                "keystore.jks" => "Java keystore with the key and the chain",
                "truststore.jks" => "Java keystore with the CA",
                _ => "not looked into",
            };
            self.page.line(&key, &format!("{kind}, {length} bytes"));
        }
    }
}

/// The distinguished name, as far as it is of the usual parts.
fn subject(certificate: &Certificate) -> Option<String> {
    let subject = &certificate.subject;
    let mut parts: Vec<String> = certificate
        .common_name
        .iter()
        .map(|name| format!("CN={name}"))
        .collect();
    for (label, values) in [
        ("OU", &subject.organizational_units),
        ("O", &subject.organizations),
        ("L", &subject.localities),
        ("ST", &subject.provinces),
        ("C", &subject.countries),
    ] {
        parts.extend(values.iter().map(|value| format!("{label}={value}")));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
