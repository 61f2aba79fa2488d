#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::*;

/// A folder of this crate's checkout.
fn folder(path: &str) -> PathBuf {
    Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join(path)
}

/// The code of a folder without its tests.
fn sources(path: &Path, into: &mut Vec<String>) {
    if path.is_file() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let is_test = ["test", "sample", "independent", "plan_cases", "against", "fake"]
            .iter()
            .any(|mark| name.contains(mark));
        if path.extension().is_some_and(|extension| extension == "rs") && !is_test {
            let text = fs::read_to_string(path).unwrap();
            into.push(text.split("#[cfg(test)]").next().unwrap().to_owned());
        }
        return;
    }
    let is_test = path.file_name().is_some_and(|name| {
        let name = name.to_string_lossy();
        name == "tests" || name.starts_with("independent") || name.starts_with("against")
    });
    if !is_test {
        for entry in fs::read_dir(path).unwrap() {
            sources(&entry.unwrap().path(), into);
        }
    }
}

/// Every text in quotes that is one word in CamelCase, or one capitalised.
fn words(paths: &[&str]) -> BTreeSet<String> {
    let mut texts = Vec::new();
    for path in paths {
        sources(&folder(path), &mut texts);
    }
    let mut words = BTreeSet::new();
    for text in &texts {
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for word in line.split('"').skip(1).step_by(2) {
                let camel = word.starts_with(|first: char| first.is_ascii_uppercase())
                    && word.chars().any(|letter| letter.is_ascii_lowercase())
                    && word.chars().all(|letter| letter.is_ascii_alphanumeric());
                if camel {
                    words.insert(word.to_owned());
                }
            }
        }
    }
    words
}

/// Strings in the code that are no failure's reason. A new reason that is in neither list fails the tests below.
const OTHER_WORDS: &[&str] = &[
    // Types and values of conditions.
    "Ready",
    "Issuing",
    "True",
    "False",
    "Unknown",
    // Reasons of events and of good news.
    "Issued",
    "Renewed",
    "Adopted",
    "IssuanceFailed",
    "FallbackIssuer",
    "AlternateChainUnreadable",
    "RolledOut",
    "IssuedDifferently",
    "DurationRefused",
    // Answers of the API server that other reasons are made of.
    "Immutable",
    "TooLarge",
    "FieldValueTooLong",
    // Why a certificate is due.
    "First",
    "SpecChanged",
    "Requested",
    "Due",
    "Advised",
    "SecretDamaged",
    "Consent",
    // Kinds, algorithms, actions, and other strings in quotes.
    "Secret",
    "Issuer",
    "ClusterIssuer",
    "Certificate",
    "Ingress",
    "Service",
    "EndpointSlice",
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "Opaque",
    "Apply",
    "Update",
    "Issue",
    "Read",
    "Ed25519",
    "Content",
    "Examine",
    "PrivateKey",
    "Gatehouse",
];

fn unadvised(paths: &[&str], of: &[Of]) -> Vec<String> {
    words(paths)
        .into_iter()
        .filter(|word| !OTHER_WORDS.contains(&word.as_str()))
        .filter(|word| of.iter().all(|of| advice(*of, word).is_none()))
        .collect()
}

#[test]
fn no_reason_of_a_certificate_is_without_advice() {
    let paths = [
        "src/certificate",
        "../crates/acme/src/error.rs",
        "../crates/acme/src/plan.rs",
        "src/issuer/solver/select.rs",
    ];
    let missing: Vec<_> = unadvised(&paths, &[Of::Certificate])
        .into_iter()
        // A cause that is also a solver's word.
        .filter(|word| word != "SecretMissing")
        .collect();
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn no_refusal_of_the_api_server_is_without_advice() {
    // A conflict is never reported; a write of unknown outcome is repeated silently.
    let mut missing = unadvised(&["src/kubernetes/apply/error.rs"], &[Of::Certificate]);
    missing.retain(|word| !["Conflict", "Timeout", "Unreachable"].contains(&word.as_str()));
    assert_eq!(missing, Vec::<String>::new());
}

/// Words in the code of Gateways that are no trouble's reason.
const OTHER_WORDS_OF_GATEWAYS: &[&str] = &[
    // Types of conditions, and reasons of good news.
    "Accepted",
    "Programmed",
    "ExposureVerified",
    "ResolvedRefs",
    "Internal",
    "External",
    "AddressAssigned",
    // The API server's message about a write: reported as ServiceRefused or CertificateRefused.
    "Conflict",
    "Forbidden",
    "QuotaExceeded",
    "NamespaceTerminating",
    // Values of Services, nodes and Pods, kinds, and actions.
    "ClusterIP",
    "LoadBalancer",
    "None",
    "All",
    "Frontend",
    "LoadBalancerSourceRangesIgnored",
    "NodePort",
    "IPv4",
    "IPv6",
    "SingleStack",
    "RequireDualStack",
    "InternalIP",
    "ExternalIP",
    "Failed",
    "Succeeded",
    "PodScheduled",
    "Gateway",
    "Service",
    "EndpointSlice",
    "NetworkPolicy",
    "CiliumLoadBalancerIPPool",
    "Program",
    // Providers, and what they read.
    "AWSLoadBalancerController",
    "Alibaba",
    "Baidu",
    "Cilium",
    "EKSAutoMode",
    "Intranet",
    "KubeVip",
    "MetalLB",
    "OCINetwork",
    "OVHcloud",
    "OpenStack",
    "Other",
    "Tencent",
    "Yandex",
];

#[test]
fn no_reason_of_a_gateway_is_without_advice() {
    let mut missing = unadvised(&["src/gateway"], &[Of::Gateway]);
    missing.retain(|word| !OTHER_WORDS_OF_GATEWAYS.contains(&word.as_str()));
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn no_word_of_a_solver_is_without_advice() {
    assert_eq!(
        unadvised(&["src/issuer/solver/error.rs"], &[Of::Solver]),
        Vec::<String>::new()
    );
}

#[test]
fn no_reason_of_an_issuer_is_without_advice() {
    let paths = [
        "src/issuer/account.rs",
        "src/issuer/ca.rs",
        "src/issuer/controller.rs",
        "../crates/acme/src/error.rs",
        "../crates/pki/src/authority.rs",
        "../crates/pki/src/chain.rs",
        "../crates/pki/src/key.rs",
        "../crates/pki/src/csr.rs",
    ];
    assert_eq!(unadvised(&paths, &[Of::Issuer]), Vec::<String>::new());
}

#[test]
fn every_reason_in_the_reference_has_advice() {
    let page = fs::read_to_string(folder("../docs/reference/conditions.md")).unwrap();
    let mut section = "";
    for line in page.lines() {
        section = line.strip_prefix("## ").unwrap_or(section);
        let of = match section {
            "Certificate: failures" => Of::Certificate,
            "Solvers" => Of::Solver,
            "Issuer and ClusterIssuer: `Ready`" => Of::Issuer,
            "Gateway" | "Gateway: listeners" => Of::Gateway,
            _ => continue,
        };
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let cell = match of {
            Of::Issuer if cells.get(1) == Some(&"False") => cells[2],
            // The first cell is the condition.
            Of::Gateway if cells.get(2).is_some_and(|status| ["False", "Unknown"].contains(status)) => cells[3],
            Of::Issuer | Of::Gateway => continue,
            Of::Certificate | Of::Solver => cells.get(1).copied().unwrap_or_default(),
        };
        for word in cell.split('`').skip(1).step_by(2) {
            assert!(advice(of, word).is_some(), "{section}: {word}");
        }
    }
}

#[test]
fn an_advice_is_given_once_for_each_reason() {
    for table in [CERTIFICATE, SOLVER, ISSUER, gateway::GATEWAY] {
        let names: BTreeSet<_> = table.iter().map(|(word, _)| word).collect();
        assert_eq!(names.len(), table.len());
        for (word, advice) in table {
            assert!(advice.len() > 20 && !advice.contains('\n'), "{word}");
        }
    }
}

#[test]
fn the_words_in_brackets_are_found_in_their_order() {
    let message = "a.test: k refused: bad key (DnsRefused); before that: b.test: gone (SecretMissing)";
    assert_eq!(solver_words(message), ["DnsRefused", "SecretMissing"]);
    assert_eq!(solver_words("the CA said: (Something) DnsRefused"), Vec::<&str>::new());
}
