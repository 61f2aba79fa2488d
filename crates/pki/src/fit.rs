//! Compares a certificate with a request: decides adoption and re-issue.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use super::{
    certificate::Certificate,
    key::KeyParameters,
    name_constraints::{NameConstraints, Subtrees},
    request::{CertificateRequest, Subject},
    usage::Usage,
};

/// Fidelity of a CA to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fidelity {
    /// It writes what was asked: our own CA and self-signing. Subject and usages count.
    Exact,
    /// It has its own mind, as ACME CAs do: it drops the subject or the common name, or takes
    /// another of the names for it, adds the common name to the alternative names, and chooses the
    /// usages by its profile. Asking again would change none of that, so it is no mismatch.
    AuthorityDecides,
    /// It issued this certificate for this very request. The ordered names and the key count; whatever else a CA
    /// adds, drops or chooses ([`Certificate::deviations`]) it would choose again.
    NamesAndKey,
}

/// A difference between a certificate and its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    MissingName {
        name: String,
    },
    UnwantedName {
        name: String,
    },
    CommonName {
        wanted: Option<String>,
        found: Option<String>,
    },
    Subject,
    Key {
        wanted: KeyParameters,
        found: Option<KeyParameters>,
    },
    IsCa {
        wanted: bool,
    },
    Usages {
        wanted: Vec<Usage>,
        found: Vec<Usage>,
    },
    NameConstraints,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |name: &Option<String>| {
            name.as_ref()
                .map_or_else(|| "none".to_owned(), |name| format!("{name:?}"))
        };
        let list = |usages: &[Usage]| usages.iter().map(|usage| usage.name()).collect::<Vec<_>>().join(", ");
        match self {
            Self::MissingName { name } => write!(f, "the name {name} is missing"),
            Self::UnwantedName { name } => write!(f, "the name {name} is not asked for"),
            Self::CommonName { wanted, found } => {
                write!(f, "the common name is {}, wanted {}", text(found), text(wanted))
            }
            Self::Subject => f.write_str("the subject is another"),
            Self::Key {
                wanted,
                found: Some(found),
            } => write!(f, "the key is {found}, wanted {wanted}"),
            Self::Key { wanted, found: None } => write!(f, "the key is of an unknown kind, wanted {wanted}"),
            Self::IsCa { wanted: true } => f.write_str("it is not a CA"),
            Self::IsCa { wanted: false } => f.write_str("it is a CA"),
            Self::Usages { wanted, found } => write!(f, "the usages are [{}], wanted [{}]", list(found), list(wanted)),
            Self::NameConstraints => f.write_str("the name constraints are others"),
        }
    }
}

impl Certificate {
    /// Whether this certificate is the one asked for, apart from its validity; else everything in
    /// which it is not. Order, repetition and the case of DNS names never matter.
    pub fn satisfies(
        &self,
        request: &CertificateRequest,
        key: KeyParameters,
        fidelity: Fidelity,
    ) -> Result<(), Vec<Mismatch>> {
        let mut mismatches = self.missing_names(request);
        if fidelity != Fidelity::NamesAndKey {
            mismatches.extend(self.unwanted_names(request, fidelity));
            if !self.has_acceptable_common_name(request, fidelity) {
                mismatches.push(self.common_name_mismatch(request));
            }
        }
        if self.key_parameters != Some(key) {
            mismatches.push(Mismatch::Key {
                wanted: key,
                found: self.key_parameters,
            });
        }
        if self.is_ca != request.is_ca {
            mismatches.push(Mismatch::IsCa { wanted: request.is_ca });
        }
        if fidelity == Fidelity::Exact {
            mismatches.extend(self.subject_mismatch(request));
            mismatches.extend(self.usage_mismatch(request));
            if self.name_constraints.as_ref().map(sorted_constraints)
                != request.name_constraints.as_ref().map(sorted_constraints)
            {
                mismatches.push(Mismatch::NameConstraints);
            }
        }
        if mismatches.is_empty() { Ok(()) } else { Err(mismatches) }
    }

    /// Returns in what a certificate that satisfies `request` by [`Fidelity::NamesAndKey`] is more, less or other
    /// than requested. The common name counts where it is no alternative name, and the usages where the user chose
    /// them (`usages_chosen`): CAs leave out the common name and key encipherment as a rule.
    pub fn deviations(&self, request: &CertificateRequest, usages_chosen: bool) -> Vec<Mismatch> {
        let mut deviations = self.unwanted_names(request, Fidelity::NamesAndKey);
        if !self.has_acceptable_common_name(request, Fidelity::NamesAndKey) {
            deviations.push(self.common_name_mismatch(request));
        }
        deviations.extend(self.subject_mismatch(request));
        let serves = |usages: &BTreeSet<Usage>| usages.contains(&Usage::ServerAuth) || usages.contains(&Usage::Any);
        if usages_chosen || self.extended_key_usage.as_ref().is_some_and(|usages| !serves(usages)) {
            deviations.extend(self.usage_mismatch(request));
        }
        deviations
    }

    fn alternative_names(&self) -> BTreeSet<(&'static str, String)> {
        names(
            self.dns_names.iter().cloned(),
            &self.ip_addresses,
            &self.uris,
            &self.email_addresses,
        )
    }

    fn missing_names(&self, request: &CertificateRequest) -> Vec<Mismatch> {
        let found = self.alternative_names();
        requested_names(request)
            .difference(&found)
            .map(|(_, name)| Mismatch::MissingName { name: name.clone() })
            .collect()
    }

    fn unwanted_names(&self, request: &CertificateRequest, fidelity: Fidelity) -> Vec<Mismatch> {
        let wanted = requested_names(request);
        let common_name = request
            .common_name
            .as_deref()
            .filter(|_| fidelity != Fidelity::Exact)
            .map(str::to_ascii_lowercase);
        let others = (self.other_names > 0).then(|| Mismatch::UnwantedName {
            name: "of another form".to_owned(),
        });
        self.alternative_names()
            .difference(&wanted)
            .filter(|(_, name)| common_name.as_ref() != Some(name))
            .map(|(_, name)| Mismatch::UnwantedName { name: name.clone() })
            .chain(others)
            .collect()
    }

    fn common_name_mismatch(&self, request: &CertificateRequest) -> Mismatch {
        Mismatch::CommonName {
            wanted: request.common_name.clone(),
            found: self.common_name.clone(),
        }
    }

    fn subject_mismatch(&self, request: &CertificateRequest) -> Option<Mismatch> {
        (sorted_subject(&self.subject) != sorted_subject(&request.subject)).then_some(Mismatch::Subject)
    }

    fn usage_mismatch(&self, request: &CertificateRequest) -> Option<Mismatch> {
        let found: BTreeSet<Usage> = self
            .key_usage
            .iter()
            .chain(&self.extended_key_usage)
            .flatten()
            .copied()
            .collect();
        let wanted = request.effective_usages();
        (found != wanted).then(|| Mismatch::Usages {
            wanted: wanted.into_iter().collect(),
            found: found.into_iter().collect(),
        })
    }

    fn has_acceptable_common_name(&self, request: &CertificateRequest, fidelity: Fidelity) -> bool {
        let wanted = request.common_name.as_deref().filter(|name| !name.is_empty());
        // Self-signed certificates and CAs take a name of the list when none is asked for.
        let is_a_name = |name: &str| {
            let name = name.to_ascii_lowercase();
            self.dns_names.contains(&name)
                || self.ip_addresses.iter().any(|address| address.to_string() == name)
                || self
                    .uris
                    .iter()
                    .chain(&self.email_addresses)
                    .any(|other| other.eq_ignore_ascii_case(&name))
        };
        match (wanted, self.common_name.as_deref()) {
            (None, None) => true,
            (Some(wanted), None) => match fidelity {
                Fidelity::Exact => false,
                Fidelity::AuthorityDecides => true,
                Fidelity::NamesAndKey => is_a_name(wanted),
            },
            // Where alternative names are, clients look at nothing else, and some CAs write a name of their own.
            (None, Some(_)) if fidelity == Fidelity::AuthorityDecides && request.has_alternative_names() => true,
            (wanted, Some(found)) => {
                wanted == Some(found) || ((wanted.is_none() || fidelity != Fidelity::Exact) && is_a_name(found))
            }
        }
    }
}

fn requested_names(request: &CertificateRequest) -> BTreeSet<(&'static str, String)> {
    names(
        request.dns_names.iter().map(ToString::to_string),
        &request.ip_addresses,
        &request.uris,
        &request.email_addresses,
    )
}

fn names(
    dns: impl Iterator<Item = String>,
    addresses: &[IpAddr],
    uris: &[String],
    emails: &[String],
) -> BTreeSet<(&'static str, String)> {
    dns.map(|name| ("dns", name))
        .chain(addresses.iter().map(|address| ("ip", address.to_string())))
        .chain(uris.iter().map(|uri| ("uri", uri.clone())))
        .chain(emails.iter().map(|address| ("email", address.clone())))
        .collect()
}

/// Other writers order the values of one attribute otherwise, Go's as a set.
fn sorted_subject(subject: &Subject) -> Subject {
    let mut subject = subject.clone();
    for values in [
        &mut subject.organizations,
        &mut subject.organizational_units,
        &mut subject.countries,
        &mut subject.provinces,
        &mut subject.localities,
        &mut subject.street_addresses,
        &mut subject.postal_codes,
    ] {
        values.retain(|value| !value.is_empty());
        values.sort();
    }
    subject.serial_number = subject.serial_number.filter(|value| !value.is_empty());
    subject
}

fn sorted_constraints(constraints: &NameConstraints) -> NameConstraints {
    let sorted = |subtrees: &Subtrees| {
        let mut subtrees = subtrees.clone();
        subtrees.ip_ranges = subtrees.ip_ranges.iter().map(ipnet::IpNet::trunc).collect();
        subtrees.dns_domains.sort();
        subtrees.ip_ranges.sort();
        subtrees.email_addresses.sort();
        subtrees.uri_domains.sort();
        subtrees
    };
    NameConstraints {
        critical: constraints.critical,
        permitted: sorted(&constraints.permitted),
        excluded: sorted(&constraints.excluded),
    }
}

#[cfg(test)]
mod tests;
