#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use super::*;
use crate::{
    certificate::desired::DesiredCertificate,
    pki::{Authority, Extras, KeyEncoding, Validity, self_sign},
};

const PAPER: Screen = Screen {
    colour: false,
    width: None,
};

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

struct Made {
    pem: String,
    key: String,
}

fn wanted(more: &str) -> DesiredCertificate {
    let spec = format!("secretName: a\nissuerRef: {{name: ca}}\n{more}");
    DesiredCertificate::parse(&serde_saphyr::from_str(&spec).unwrap()).unwrap()
}

fn validity(days: u64) -> Validity {
    let not_before = now().checked_sub(Duration::from_secs(86_400)).unwrap();
    Validity {
        not_before,
        not_after: not_before.checked_add(Duration::from_secs(days * 86_400)).unwrap(),
    }
}

fn made(der: &[u8], key: &PrivateKey) -> Made {
    Made {
        pem: crate::pki::encoding::certificates_pem([der]),
        key: key.to_pem(KeyEncoding::Pkcs8).unwrap().to_string(),
    }
}

fn root() -> Made {
    let wanted = wanted("commonName: root\nisCA: true");
    let key = PrivateKey::generate(wanted.key).unwrap();
    made(&self_sign(&wanted.request, &key, validity(3650)).unwrap().leaf, &key)
}

fn leaf(root: &Made, days: u64) -> Made {
    let wanted = wanted("dnsNames: [www.example.com, shop.example.com]\nsubject: {organizations: [Shop]}");
    let key = PrivateKey::generate(wanted.key).unwrap();
    let ca = Authority::load(root.pem.as_bytes(), root.key.as_bytes(), None, now()).unwrap();
    let signed = ca
        .sign(
            &wanted.request,
            key.public_key_der(),
            validity(days),
            &Extras::default(),
        )
        .unwrap();
    made(&signed.leaf, &key)
}

fn secret(data: &[(&str, &str)]) -> Subject {
    Subject {
        title: "Secret app/web-tls, of type kubernetes.io/tls".into(),
        labels: BTreeMap::new(),
        annotations: [
            (labels::CERTIFICATE, "web"),
            (labels::ISSUER, "Issuer/ca"),
            (observed_secret::CAUSE, "Due"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into(),
        is_file: false,
        data: data
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Zeroizing::new(value.as_bytes().to_vec())))
            .collect(),
    }
}

/// Without what is random.
fn masked(text: &str) -> String {
    text.lines()
        .map(|line| {
            let random = ["  Serial", "  SHA-256"].iter().any(|label| line.starts_with(label));
            let line = if random {
                line.split_at(14).0.to_owned() + "…"
            } else {
                line.to_owned()
            };
            line + "\n"
        })
        .collect()
}

fn reported(data: &[(&str, &str)]) -> (String, bool) {
    let (text, fine) = report(&secret(data), now(), PAPER);
    for (_, value) in data {
        for line in value
            .lines()
            .filter(|line| value.contains("PRIVATE KEY") && !line.starts_with('-'))
        {
            assert!(!text.contains(line), "a private key is shown");
        }
    }
    (masked(&text), fine)
}

#[test]
fn a_secret_in_which_all_fits_is_told_whole() {
    let root = root();
    let leaf = leaf(&root, 90);
    let (text, fine) = reported(&[
        ("tls.crt", &leaf.pem),
        ("tls.key", &leaf.key),
        ("ca.crt", &root.pem),
        ("keystore.p12", "xxx"),
        ("notes", "yy"),
    ]);
    insta::assert_snapshot!(text);
    assert!(fine);
}

#[test]
fn what_does_not_fit_is_said_and_makes_the_exit_code() {
    let (first, second) = (root(), root());
    let (leaf, other, short) = (leaf(&first, 90), leaf(&second, 90), leaf(&first, 1));
    let chain = format!("{}{}", leaf.pem, first.pem);
    let turned = format!("{}{}", first.pem, leaf.pem);
    for (data, words) in [
        (
            vec![("tls.crt", leaf.pem.as_str()), ("tls.key", &other.key)],
            "it is another key",
        ),
        (vec![("tls.crt", &leaf.pem)], "tls.key         is missing or empty"),
        (vec![("tls.key", &leaf.key)], "tls.crt         is missing or empty"),
        (
            vec![("tls.crt", &leaf.pem), ("tls.key", &leaf.key), ("ca.crt", &second.pem)],
            "does not lead to any certificate in ca.crt",
        ),
        (vec![("tls.crt", &short.pem), ("tls.key", &short.key)], "expired"),
        (
            vec![("tls.crt", &turned), ("tls.key", &leaf.key)],
            "certificate 2, which must come first",
        ),
        (
            vec![("tls.crt", "nothing"), ("tls.key", &leaf.key)],
            "holds no PEM section",
        ),
        (
            vec![("tls.crt", &leaf.pem), ("tls.key", &leaf.pem)],
            "this is a certificate, not a private key",
        ),
    ] {
        let (text, fine) = reported(&data);
        assert!(!fine && text.contains(words), "{words}:\n{text}");
    }
    let (text, fine) = reported(&[("tls.crt", &chain), ("tls.key", &leaf.key)]);
    assert!(
        fine && text.contains("each certificate is signed by the next"),
        "{text}"
    );
    let stranger = format!("{}{}", leaf.pem, second.pem);
    let (text, fine) = reported(&[("tls.crt", &stranger), ("tls.key", &leaf.key)]);
    assert!(!fine && text.contains("did not sign it"), "{text}");
}

#[test]
fn a_file_may_hold_certificates_alone() {
    let root = root();
    let mut subject = secret(&[("tls.crt", &root.pem)]);
    subject.is_file = true;
    subject.annotations.clear();
    let (text, fine) = report(&subject, now(), PAPER);
    assert!(fine, "{text}");
    assert!(!text.contains("Managed by") && !text.contains("Private key"), "{text}");
    assert!(text.contains("it is its own root"), "{text}");
}
