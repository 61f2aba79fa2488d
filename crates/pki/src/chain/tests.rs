#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use super::*;
use crate::{
    Curve, Extras, KeyEncoding, KeyParameters,
    samples::{Ca, ca_request, chain, everything, for_hours, named, p256, two_tier},
};

fn bundle(certificates: &[&Certificate]) -> String {
    certificates_pem(certificates.iter().map(|certificate| certificate.der.as_slice()))
}

#[test]
fn a_chain_is_put_in_order_whatever_the_order_it_comes_in() {
    let (_, intermediate) = two_tier();
    let key = p256();
    let wanted = chain(
        &intermediate
            .authority()
            .sign(&everything(), key.public_key_der(), for_hours(1), &Extras::default())
            .unwrap(),
    );
    let stranger = Ca::root(&ca_request("Stranger"), KeyParameters::Ed25519, for_hours(1));
    let stranger = read_bundle(stranger.chain_pem.as_bytes()).unwrap().remove(0);
    let (leaf, middle, root) = (&wanted.leaf, &wanted.intermediates[0], wanted.root.as_ref().unwrap());
    for order in [
        [leaf, middle, root],
        [root, middle, leaf],
        [middle, leaf, root],
        [root, leaf, middle],
    ] {
        assert_eq!(Chain::read(bundle(&order).as_bytes(), None).unwrap(), wanted);
        assert_eq!(
            Chain::read(
                bundle(&[&order[..], &[&stranger, leaf]].concat()).as_bytes(),
                Some(&key)
            )
            .unwrap(),
            wanted
        );
    }
    assert_eq!(wanted.pem(), bundle(&[leaf, middle]));
    assert_eq!(wanted.der(), [leaf.der.clone(), middle.der.clone()]);
    assert_eq!(wanted.root_pem().unwrap(), bundle(&[root]));
    assert_eq!(
        Chain::read(bundle(&[leaf, middle]).as_bytes(), Some(&key))
            .unwrap()
            .root,
        None
    );
    let lone = Chain::read(bundle(&[leaf]).as_bytes(), Some(&key)).unwrap();
    assert_eq!((lone.intermediates.len(), lone.root), (0, None));
}

#[test]
fn a_renewed_ca_of_the_same_name_does_not_break_the_chain_and_an_impostor_does() {
    let parameters = KeyParameters::Ecdsa(Curve::P256);
    let (old, new) = (
        Ca::root(&ca_request("Root"), parameters, for_hours(10)),
        Ca::root(&ca_request("Root"), parameters, for_hours(10)),
    );
    let leaf = new
        .authority()
        .sign(
            &named(&["a.example"]),
            p256().public_key_der(),
            for_hours(1),
            &Extras::default(),
        )
        .unwrap();
    let leaf_pem = leaf.chain_pem();
    let read = |cas: &[&str]| Chain::read(format!("{leaf_pem}{}", cas.concat()).as_bytes(), None);
    assert_eq!(
        read(&[&old.chain_pem, &new.chain_pem]).unwrap().root_pem().unwrap(),
        new.root_pem
    );
    let error = read(&[&old.chain_pem]).unwrap_err();
    assert_eq!(
        (error.reason(), error),
        (
            "BrokenChain",
            ChainError::WrongSignature {
                subject: "a.example".into()
            }
        )
    );
}

#[test]
fn what_is_no_bundle_of_certificates_is_told_apart() {
    let key = p256();
    let key_pem = key.to_pem(KeyEncoding::Pkcs8).unwrap();
    let section = |content: &[u8]| pem_section("CERTIFICATE", content).to_string();
    let good = bundle(&[&chain(&crate::self_sign(&named(&["a.example"]), &key, for_hours(1)).unwrap()).leaf]);
    let line = |rest: &str| format!("{rest}line {}", good.lines().count() + 1);
    for (pem, says) in [
        (String::new(), "no PEM section".to_owned()),
        ("0\u{5}".into(), "is DER".into()),
        (
            key_pem.to_string(),
            "no certificate but a PEM section \"PRIVATE KEY\"".into(),
        ),
        (section(b"nothing"), "certificate 1 (line 1) cannot be read".into()),
        (
            format!("{good}{}", section(b"nothing")),
            line("certificate 2 (") + ") cannot be read",
        ),
        (
            format!("{good}-----BEGIN CERTIFICATE-----\nAAAA\n"),
            line("") + ": the section \"CERTIFICATE\" that begins here has no END line",
        ),
        (
            format!("{good}{}", *pem_section("PKCS7", b"nothing")),
            line("") + ": a section \"PKCS7\" cannot be read; write certificates as CERTIFICATE sections",
        ),
        (good.repeat(1_001), "more than 1000".into()),
    ] {
        let error = read_bundle(pem.as_bytes()).expect_err(&says);
        assert_eq!(error.reason(), "InvalidCertificate");
        assert!(error.to_string().contains(&says), "{error}");
    }
    assert_eq!(
        Chain::read(good.as_bytes(), Some(&p256())).unwrap_err(),
        ChainError::KeyMismatch
    );
    assert_eq!(read_bundle(format!("{}{good}", *key_pem).as_bytes()).unwrap().len(), 1);
}

/// A certificate for `key` by `ca`, whose issuer name is `issuer` (DER) in place of the CA's own writing of it.
fn signed_as(ca: &Ca, issuer: &[u8], key: &PrivateKey) -> Certificate {
    let extensions = crate::extension::of_request(&named(&["a.example"]), true);
    let body = crate::signed::Body {
        serial: crate::SerialNumber::random().unwrap(),
        issuer,
        validity: for_hours(1),
        subject: &[0x30, 0],
        public_key: key.public_key_der(),
        extensions: &extensions,
    };
    Certificate::from_der(&body.sign(&ca.key).unwrap()).unwrap()
}

#[test]
fn an_issuer_named_in_another_string_type_or_case_is_found() {
    let (root, intermediate) = two_tier();
    let of = |pem: &str| read_bundle(pem.as_bytes()).unwrap();
    let middle = of(&intermediate.chain_pem).remove(0);
    let top = of(&root.root_pem).remove(0);
    let common_name = |tag: u8, text: &str| {
        let length = u8::try_from(text.len()).unwrap();
        let oid = [6, 3, 0x55, 4, 3];
        let value = [&[tag, length], text.as_bytes()].concat();
        let wrap = |tag: u8, content: Vec<u8>| [vec![tag, u8::try_from(content.len()).unwrap()], content].concat();
        wrap(0x30, wrap(0x31, wrap(0x30, [&oid[..], &value].concat())))
    };
    let key = p256();
    for (case, issuer) in [
        ("PrintableString", common_name(19, "Sample Intermediate")),
        ("another case", common_name(12, "SAMPLE intermediate")),
        ("spaces", common_name(12, " Sample  Intermediate ")),
    ] {
        let leaf = signed_as(&intermediate, &issuer, &key);
        assert_ne!(leaf.issuer_der, middle.subject_der, "{case}");
        let chain = Chain::read(bundle(&[&leaf, &middle, &top]).as_bytes(), Some(&key)).unwrap();
        assert_eq!(chain.pem(), bundle(&[&leaf, &middle]), "{case}");
        assert_eq!(chain.root.as_ref(), Some(&top), "{case}");
    }
}

#[test]
fn what_is_kept_of_a_bundle_is_all_of_it() {
    let (root, intermediate) = two_tier();
    let key = p256();
    let issued = intermediate
        .authority()
        .sign(
            &named(&["a.example"]),
            key.public_key_der(),
            for_hours(1),
            &Extras::default(),
        )
        .unwrap();
    let stranger = Ca::root(&ca_request("Stranger"), KeyParameters::Ed25519, for_hours(1));
    let text = format!("{}{}{}", stranger.chain_pem, root.root_pem, issued.chain_pem());
    let found = read_bundle(text.as_bytes()).unwrap();
    let chain = Chain::order(&found, Some(&key)).unwrap();
    assert_eq!(read_bundle(chain.pem().as_bytes()).unwrap().len(), 2);
    let kept = chain.keep(&found);
    let written = read_bundle(kept.pem().as_bytes()).unwrap();
    assert_eq!(written.len(), found.len());
    assert!(
        kept.pem().starts_with(&issued.chain_pem()),
        "the leaf first, then its issuers"
    );
    assert_eq!(kept.der().len(), 2, "keystores hold the chain alone");
    // Reading back what was written finds the same.
    assert_eq!(Chain::order(&written, Some(&key)).unwrap().keep(&written), kept);
}

#[test]
fn certificates_with_trust_settings_of_openssl_are_read() {
    let key = p256();
    let issued = crate::self_sign(&named(&["a.example"]), &key, for_hours(1)).unwrap();
    // X509_CERT_AUX: trusted for server authentication.
    let settings = [0x30, 0x0c, 0x30, 0x0a, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1];
    let trusted = pem_section("TRUSTED CERTIFICATE", &[&issued.leaf[..], &settings].concat());
    let old = pem_section("X509 CERTIFICATE", &issued.leaf);
    for pem in [trusted, old] {
        let read = read_bundle(pem.as_bytes()).unwrap();
        assert_eq!(read[0].der, issued.leaf);
    }
}

#[test]
fn the_preferred_chain_is_found_by_its_topmost_issuer_first() {
    let chain = |root: &str, with_root: bool| {
        let root = Ca::root(&ca_request(root), KeyParameters::Ecdsa(Curve::P256), for_hours(10));
        let middle = root.below(&ca_request("Middle"), for_hours(10));
        let mut chain = chain(
            &middle
                .authority()
                .sign(
                    &named(&["a.example"]),
                    p256().public_key_der(),
                    for_hours(1),
                    &Extras::default(),
                )
                .unwrap(),
        );
        chain.root = chain.root.filter(|_| with_root);
        chain
    };
    let chains = [chain("Root A", false), chain("Root B", false), chain("Root C", true)];
    for (preferred, position) in [
        ("Root A", Some(0)),
        ("Root B", Some(1)),
        ("Root C", Some(2)),
        ("Middle", Some(0)),
        ("Root D", None),
    ] {
        assert_eq!(
            Chain::prefer(&chains, preferred),
            position.map(|at: usize| &chains[at]),
            "{preferred}"
        );
    }
}

#[test]
fn a_chain_of_more_cas_than_make_sense_is_refused() {
    let root = Ca::root(&ca_request("CA 0"), KeyParameters::Ecdsa(Curve::P256), for_hours(10));
    let mut cas = vec![root];
    for depth in 1..=MOST_AUTHORITIES {
        let next = cas[depth - 1].below(&ca_request(&format!("CA {depth}")), for_hours(10));
        cas.push(next);
    }
    let read = |ca: &Ca| Chain::read(format!("{}{}", ca.chain_pem, ca.root_pem).as_bytes(), Some(&ca.key));
    assert_eq!(
        read(&cas[MOST_AUTHORITIES]).unwrap().intermediates.len(),
        MOST_AUTHORITIES - 1
    );
    let leaf = cas[MOST_AUTHORITIES].below(&ca_request("CA 11"), for_hours(10));
    assert_eq!(read(&leaf), Err(ChainError::TooDeep));
}
