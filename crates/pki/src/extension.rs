//! X.509 extensions as DER (RFC 5280 §4.2).

use std::net::IpAddr;

use yasna::{DERWriter, Tag, TagClass, models::ObjectIdentifier};

use super::{
    name_constraints::{NameConstraints, Subtrees},
    request::CertificateRequest,
    usage::Usage,
};

/// One extension; `value` is the DER inside its OCTET STRING.
pub(super) struct Extension {
    pub(super) oid: &'static [u64],
    pub(super) critical: bool,
    pub(super) value: Vec<u8>,
}

const SUBJECT_KEY_IDENTIFIER: &[u64] = &[2, 5, 29, 14];
const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const SUBJECT_ALT_NAME: &[u64] = &[2, 5, 29, 17];
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const NAME_CONSTRAINTS: &[u64] = &[2, 5, 29, 30];
const CRL_DISTRIBUTION_POINTS: &[u64] = &[2, 5, 29, 31];
const AUTHORITY_KEY_IDENTIFIER: &[u64] = &[2, 5, 29, 35];
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];
const AUTHORITY_INFO_ACCESS: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 1, 1];
const AD_OCSP: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 48, 1];
const AD_CA_ISSUERS: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 48, 2];

const RFC822_NAME: u64 = 1;
const DNS_NAME: u64 = 2;
const URI: u64 = 6;
const IP_ADDRESS: u64 = 7;

/// The extensions that the request itself asks for, the same in a CSR and in a certificate.
pub(super) fn of_request(request: &CertificateRequest, subject_is_empty: bool) -> Vec<Extension> {
    let usages = request.effective_usages();
    let mut extensions = vec![basic_constraints(request.is_ca)];
    extensions.extend(key_usage(usages.iter().copied()));
    extensions.extend(extended_key_usage(usages.iter().copied()));
    extensions.extend(subject_alt_name(request, subject_is_empty));
    extensions.extend(
        request
            .name_constraints
            .as_ref()
            .filter(|_| request.is_ca)
            .map(name_constraints),
    );
    extensions
}

/// Critical when there is no subject beside it (§4.2.1.6).
fn subject_alt_name(request: &CertificateRequest, critical: bool) -> Option<Extension> {
    let value = || {
        yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                for name in &request.dns_names {
                    write_general_name(writer.next(), DNS_NAME, name.as_str().as_bytes());
                }
                for address in &request.ip_addresses {
                    match address {
                        IpAddr::V4(address) => {
                            write_general_name(writer.next(), IP_ADDRESS, &address.octets());
                        }
                        IpAddr::V6(address) => {
                            write_general_name(writer.next(), IP_ADDRESS, &address.octets());
                        }
                    }
                }
                for uri in &request.uris {
                    write_general_name(writer.next(), URI, uri.as_bytes());
                }
                for address in &request.email_addresses {
                    write_general_name(writer.next(), RFC822_NAME, address.as_bytes());
                }
            });
        })
    };
    request.has_alternative_names().then(|| Extension {
        oid: SUBJECT_ALT_NAME,
        critical,
        value: value(),
    })
}

fn write_general_name(writer: DERWriter<'_>, form: u64, content: &[u8]) {
    let tag = Tag {
        tag_class: TagClass::ContextSpecific,
        tag_number: form,
    };
    writer.write_tagged_implicit(tag, |writer| writer.write_bytes(content));
}

fn basic_constraints(is_ca: bool) -> Extension {
    let value = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            if is_ca {
                writer.next().write_bool(true);
            }
        });
    });
    Extension {
        oid: BASIC_CONSTRAINTS,
        critical: true,
        value,
    }
}

fn key_usage(usages: impl Iterator<Item = Usage>) -> Option<Extension> {
    let bits = usages
        .filter_map(Usage::key_usage_bit)
        .fold(0_u16, |bits, bit| bits | 0x8000 >> bit);
    // Trailing zero bits of a named bit list are left out in DER (X.690 §11.2.2).
    let length = 16 - bits.trailing_zeros() as usize;
    let octets = bits.to_be_bytes();
    let octets = octets.get(..length.div_ceil(8)).unwrap_or(&octets);
    (bits != 0).then(|| Extension {
        oid: KEY_USAGE,
        critical: true,
        value: yasna::construct_der(|writer| writer.write_bitvec_bytes(octets, length)),
    })
}

fn extended_key_usage(usages: impl Iterator<Item = Usage>) -> Option<Extension> {
    let oids: Vec<_> = usages.filter_map(Usage::extended_oid).collect();
    let value = || {
        yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                for oid in &oids {
                    writer.next().write_oid(&ObjectIdentifier::from_slice(oid));
                }
            });
        })
    };
    (!oids.is_empty()).then(|| Extension {
        oid: EXTENDED_KEY_USAGE,
        critical: false,
        value: value(),
    })
}

fn name_constraints(constraints: &NameConstraints) -> Extension {
    let value = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            for (tag, subtrees) in [(0, &constraints.permitted), (1, &constraints.excluded)] {
                if !subtrees.is_empty() {
                    writer.next().write_tagged_implicit(Tag::context(tag), |writer| {
                        write_subtrees(writer, subtrees);
                    });
                }
            }
        });
    });
    Extension {
        oid: NAME_CONSTRAINTS,
        critical: constraints.critical,
        value,
    }
}

fn write_subtrees(writer: DERWriter<'_>, subtrees: &Subtrees) {
    writer.write_sequence(|writer| {
        let mut write = |form, content: &[u8]| {
            writer
                .next()
                .write_sequence(|writer| write_general_name(writer.next(), form, content));
        };
        for domain in &subtrees.dns_domains {
            write(DNS_NAME, domain.as_bytes());
        }
        for range in &subtrees.ip_ranges {
            // The address, then the mask (§4.2.1.10).
            let octets = match (range.network(), range.netmask()) {
                (IpAddr::V4(address), IpAddr::V4(mask)) => [address.octets(), mask.octets()].concat(),
                (IpAddr::V6(address), IpAddr::V6(mask)) => [address.octets(), mask.octets()].concat(),
                _ => continue,
            };
            write(IP_ADDRESS, &octets);
        }
        for address in &subtrees.email_addresses {
            write(RFC822_NAME, address.as_bytes());
        }
        for domain in &subtrees.uri_domains {
            write(URI, domain.as_bytes());
        }
    });
}

pub(super) fn subject_key_identifier(identifier: &[u8]) -> Extension {
    let value = yasna::construct_der(|writer| writer.write_bytes(identifier));
    Extension {
        oid: SUBJECT_KEY_IDENTIFIER,
        critical: false,
        value,
    }
}

pub(super) fn authority_key_identifier(identifier: &[u8]) -> Extension {
    let value = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer
                .next()
                .write_tagged_implicit(Tag::context(0), |writer| writer.write_bytes(identifier));
        });
    });
    Extension {
        oid: AUTHORITY_KEY_IDENTIFIER,
        critical: false,
        value,
    }
}

/// All URLs in one distribution point: they are ways to the same list (§4.2.1.13).
pub(super) fn crl_distribution_points(urls: &[String]) -> Option<Extension> {
    let value = || {
        yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_sequence(|writer| {
                    writer.next().write_tagged(Tag::context(0), |writer| {
                        writer.write_tagged_implicit(Tag::context(0), |writer| {
                            writer.write_sequence(|writer| {
                                for url in urls {
                                    write_general_name(writer.next(), URI, url.as_bytes());
                                }
                            });
                        });
                    });
                });
            });
        })
    };
    (!urls.is_empty()).then(|| Extension {
        oid: CRL_DISTRIBUTION_POINTS,
        critical: false,
        value: value(),
    })
}

pub(super) fn authority_info_access(ocsp_servers: &[String], issuing_certificates: &[String]) -> Option<Extension> {
    let value = || {
        yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                for (method, urls) in [(AD_OCSP, ocsp_servers), (AD_CA_ISSUERS, issuing_certificates)] {
                    for url in urls {
                        writer.next().write_sequence(|writer| {
                            writer.next().write_oid(&ObjectIdentifier::from_slice(method));
                            write_general_name(writer.next(), URI, url.as_bytes());
                        });
                    }
                }
            });
        })
    };
    let wanted = !(ocsp_servers.is_empty() && issuing_certificates.is_empty());
    wanted.then(|| Extension {
        oid: AUTHORITY_INFO_ACCESS,
        critical: false,
        value: value(),
    })
}
