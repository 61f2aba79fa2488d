//! Whether a certificate is what was asked for: decides adoption and re-issue.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use super::{
    certificate::Certificate,
    key::KeyParameters,
    name_constraints::{NameConstraints, Subtrees},
    request::{CertificateRequest, Subject},
    usage::Usage,
};

/// How closely a CA follows a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fidelity {
    /// It writes what was asked: our own CA and self-signing. Subject and usages count.
    Exact,
    /// It has its own mind, as ACME CAs do: it drops the subject or the common name, or takes
    /// another of the names for it, adds the common name to the alternative names, and chooses the
    /// usages by its profile. Asking again would change none of that, so it is no mismatch.
    AuthorityDecides,
}

/// One thing in which a certificate is not what was asked for.
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
        let mut mismatches = self.name_mismatches(request, fidelity);
        if !self.has_acceptable_common_name(request, fidelity) {
            mismatches.push(Mismatch::CommonName {
                wanted: request.common_name.clone(),
                found: self.common_name.clone(),
            });
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
            if sorted_subject(&self.subject) != sorted_subject(&request.subject) {
                mismatches.push(Mismatch::Subject);
            }
            let found: BTreeSet<Usage> = self
                .key_usage
                .iter()
                .chain(&self.extended_key_usage)
                .flatten()
                .copied()
                .collect();
            let wanted = request.effective_usages();
            if found != wanted {
                mismatches.push(Mismatch::Usages {
                    wanted: wanted.into_iter().collect(),
                    found: found.into_iter().collect(),
                });
            }
            if self.name_constraints.as_ref().map(sorted_constraints)
                != request.name_constraints.as_ref().map(sorted_constraints)
            {
                mismatches.push(Mismatch::NameConstraints);
            }
        }
        if mismatches.is_empty() { Ok(()) } else { Err(mismatches) }
    }

    fn name_mismatches(&self, request: &CertificateRequest, fidelity: Fidelity) -> Vec<Mismatch> {
        let dns = request.dns_names.iter().map(ToString::to_string);
        let (wanted, found) = (
            names(dns, &request.ip_addresses, &request.uris, &request.email_addresses),
            names(
                self.dns_names.iter().cloned(),
                &self.ip_addresses,
                &self.uris,
                &self.email_addresses,
            ),
        );
        let common_name = request
            .common_name
            .as_deref()
            .filter(|_| fidelity == Fidelity::AuthorityDecides)
            .map(str::to_ascii_lowercase);
        let missing = wanted
            .difference(&found)
            .map(|(_, name)| Mismatch::MissingName { name: name.clone() });
        let unwanted = found
            .difference(&wanted)
            .filter(|(_, name)| common_name.as_ref() != Some(name))
            .map(|(_, name)| Mismatch::UnwantedName { name: name.clone() });
        let others = (self.other_names > 0).then(|| Mismatch::UnwantedName {
            name: "of another form".to_owned(),
        });
        missing.chain(unwanted).chain(others).collect()
    }

    fn has_acceptable_common_name(&self, request: &CertificateRequest, fidelity: Fidelity) -> bool {
        let wanted = request.common_name.as_deref().filter(|name| !name.is_empty());
        let Some(found) = self.common_name.as_deref() else {
            return wanted.is_none() || fidelity == Fidelity::AuthorityDecides;
        };
        // Self-signed certificates and CAs take a name of the list when none is asked for.
        let is_a_name = || {
            let found = found.to_ascii_lowercase();
            self.dns_names.contains(&found)
                || self.ip_addresses.iter().any(|address| address.to_string() == found)
                || self
                    .uris
                    .iter()
                    .chain(&self.email_addresses)
                    .any(|name| name.eq_ignore_ascii_case(&found))
        };
        wanted == Some(found) || ((wanted.is_none() || fidelity == Fidelity::AuthorityDecides) && is_a_name())
    }
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
