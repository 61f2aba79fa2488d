#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use super::*;
use crate::certificate::{
    decide::IssuanceReason,
    samples::{self, edit, entry, issued_at, take},
};

fn written() -> Secret {
    let certificate = samples::certificate("additionalOutputFormats: [{type: DER}]");
    samples::written(
        &certificate,
        &samples::pair(&certificate, issued_at()),
        IssuanceReason::First,
    )
}

fn intact(secret: &Secret) -> bool {
    SecretMetadata::of(&secret.metadata).intact
}

/// Whether it is intact after `change`.
fn after(change: impl FnOnce(&mut Secret)) -> bool {
    let mut secret = written();
    assert!(intact(&secret), "as we wrote it");
    change(&mut secret);
    intact(&secret)
}

#[test]
fn what_we_wrote_is_intact_until_somebody_takes_a_field_of_it() {
    for path in [
        ["f:data", "f:tls.crt"].as_slice(),
        &["f:data", "f:tls.key"],
        &["f:data", "f:ca.crt"],
        &["f:data", "f:key.der"],
        &["f:metadata", "f:labels", "f:gatehouse.dev/managed"],
        &["f:metadata", "f:labels", "f:app.kubernetes.io/managed-by"],
        &["f:metadata", "f:annotations", "f:gatehouse.dev/certificate"],
        &["f:metadata", "f:annotations", "f:gatehouse.dev/chain-hash"],
        // Present, and not as we wrote them.
        &["f:metadata", "f:annotations", "f:gatehouse.dev/issuer"],
        &["f:metadata", "f:annotations", "f:gatehouse.dev/cause"],
        &["f:metadata", "f:annotations", "f:gatehouse.dev/serial-number"],
        &["f:metadata", "f:annotations", "f:gatehouse.dev/not-after"],
        &["f:metadata", "f:annotations", "f:gatehouse.dev/request-hash"],
        &["f:metadata", "f:annotations", "f:gatehouse.dev/output-hash"],
        &["f:metadata", "f:annotations", "f:gatehouse.dev/data-keys"],
    ] {
        assert!(!after(|secret| take(secret, path)), "{path:?}");
    }
    assert!(!after(|secret| secret.metadata.managed_fields = None));
    assert!(!after(|secret| secret.metadata.annotations = None));
}

#[test]
fn a_label_or_annotation_of_the_template_is_missed_when_somebody_takes_it() {
    let template =
        "secretTemplate: {labels: {team: shop, tier: edge}, annotations: {note: ours, gatehouse.dev/cause: x}}";
    let certificate = samples::certificate(template);
    let desired = samples::desired(&certificate);
    let whole = samples::written(
        &certificate,
        &samples::pair(&certificate, issued_at()),
        IssuanceReason::First,
    );
    let mark = |secret: &Secret| SecretMetadata::of(&secret.metadata).template;
    assert_eq!(mark(&whole), desired.template);
    assert_eq!(mark(&written()), samples::desired(&samples::certificate("")).template);
    assert_ne!(mark(&written()), desired.template);
    for (map, key) in [
        ("f:labels", "f:team"),
        ("f:labels", "f:tier"),
        ("f:annotations", "f:note"),
    ] {
        let mut secret = whole.clone();
        take(&mut secret, &["f:metadata", map, key]);
        assert_ne!(mark(&secret), desired.template, "{key}");
        assert!(intact(&secret), "{key}: the pair is untouched");
    }
    // One that a user adds is theirs.
    let mut secret = whole;
    let theirs = json!({"f:metadata": {"f:labels": {"f:theirs": {}}}});
    let entries = secret.metadata.managed_fields.as_mut().unwrap();
    entries.push(entry("kubectl-edit", "Update", theirs));
    assert_eq!(mark(&secret), desired.template);
}

#[test]
fn what_others_add_or_own_with_us_does_not_matter() {
    let add = |manager: &'static str, operation: &'static str, fields: serde_json::Value| {
        move |secret: &mut Secret| {
            let entries = secret.metadata.managed_fields.as_mut().unwrap();
            entries.insert(0, entry(manager, operation, fields));
        }
    };
    assert!(after(add("kubectl-edit", "Update", json!({"f:data": {"f:extra": {}}}))));
    assert!(after(add(
        "kubectl-label",
        "Update",
        json!({"f:metadata": {"f:labels": {"f:team": {}}}})
    )));
    // The same value applied by two: both own it.
    assert!(after(add(
        "backup",
        "Apply",
        json!({"f:data": {"f:tls.crt": {}, "f:tls.key": {}}})
    )));
    // Not our apply, whatever its name.
    assert!(after(add("gatehouse", "Update", json!({"f:data": {"f:other": {}}}))));
}

#[test]
fn the_facts_are_what_the_notes_say() {
    let certificate = samples::certificate("");
    let pair = samples::pair(&certificate, issued_at());
    let metadata = SecretMetadata::of(&samples::written(&certificate, &pair, IssuanceReason::Due).metadata);
    let desired = samples::desired(&certificate);
    assert_eq!(
        metadata,
        SecretMetadata {
            namespace: "app".into(),
            name: "web-tls".into(),
            uid: "5ec4e7".into(),
            resource_version: "7".into(),
            certificate: Some("web".into()),
            adopt: false,
            intact: true,
            template: desired.template,
            written: None,
            issuer: Some("Issuer/ca".into()),
            serial_number: Some(pair.leaf().serial_hex()),
            not_after: Some(pair.leaf().not_after),
            request_hash: Some(desired.request_hash),
            output_hash: Some(desired.output_hash),
            chain_hash: Some(pair.chain_hash()),
            ari_identifier: Some("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE".into()),
            cause: Some("Due".into()),
            passwords: None,
            issued_at: None,
        }
    );
    assert_eq!(metadata.signing_issuer(), Some(samples::ca()));
}

#[test]
fn a_pair_is_read_as_it_was_written_and_damage_is_named() {
    let secret = written();
    let pair = read(&secret).unwrap();
    assert_eq!(Some(pair.chain_hash()), SecretMetadata::of(&secret.metadata).chain_hash);

    let damaged = |change: &dyn Fn(&mut Secret)| {
        let mut secret = written();
        change(&mut secret);
        read(&secret).unwrap_err()
    };
    assert_eq!(
        damaged(&|secret| secret.type_ = None),
        InvalidSecret::Type("Opaque".into())
    );
    assert_eq!(damaged(&|secret| secret.data = None), InvalidSecret::Missing("tls.crt"));
    assert_eq!(
        damaged(&|secret| edit(secret, "tls.key", "")),
        InvalidSecret::Missing("tls.key")
    );
    assert!(matches!(
        damaged(&|secret| edit(secret, "tls.key", "x")),
        InvalidSecret::Unreadable("tls.key", _)
    ));
    assert!(matches!(
        damaged(&|secret| edit(secret, "tls.crt", "x")),
        InvalidSecret::Unreadable("tls.crt", _)
    ));
    let other = written().data.unwrap().remove("tls.key").unwrap();
    let key = String::from_utf8(other.0).unwrap();
    assert_eq!(
        damaged(&|secret| edit(secret, "tls.key", &key)),
        InvalidSecret::Mismatch
    );
}

/// A pair by an intermediate CA below a root, and the CAs as their issuer has them.
fn by_two_tiers() -> (KeyPair, Vec<Certificate>) {
    use crate::pki::{Authority, Extras, KeyEncoding};
    let at = |spec: &str| samples::desired(&samples::certificate(spec));
    let key = |desired: &crate::certificate::desired::DesiredCertificate| {
        Arc::new(PrivateKey::generate(desired.key).unwrap())
    };
    let ca_of = |pair: &KeyPair| {
        let pem = pair.key.to_pem(KeyEncoding::Pkcs8).unwrap();
        crate::issuer::registry::CaSigner {
            authority: Authority::load(
                pair.chain.pem().as_bytes(),
                pem.as_bytes(),
                pair.ca.as_deref().map(str::as_bytes),
                issued_at(),
            )
            .unwrap(),
            extras: Extras::default(),
        }
    };
    let root = at("commonName: root\nisCA: true\nduration: 9000h");
    let root = crate::certificate::signing::by_itself(&root, key(&root), issued_at()).unwrap();
    let middle = at("commonName: middle\nisCA: true\nduration: 8000h");
    let middle = crate::certificate::signing::by_ca(&ca_of(&root), &middle, key(&middle), issued_at()).unwrap();
    let ca = ca_of(&middle);
    let leaf = at("");
    let leaf = crate::certificate::signing::by_ca(&ca, &leaf, key(&leaf), issued_at()).unwrap();
    let path = ca.authority.path().to_vec();
    (leaf, path)
}

#[test]
fn a_chain_or_ca_that_was_damaged_is_put_together_again_around_its_leaf() {
    let (pair, path) = by_two_tiers();
    assert_eq!(pair.chain.intermediates.len(), 1);
    let combined = samples::certificate("additionalOutputFormats: [{type: CombinedPEM}]");
    let plain = samples::certificate("");
    let leaf = Chain {
        intermediates: Vec::new(),
        ..pair.chain.clone()
    }
    .pem();
    let middle = pair.chain.pem().replacen(&leaf, "", 1);
    let stranger = samples::pair(&plain, issued_at()).chain.pem();
    let root = pair.ca.clone().unwrap();
    let none: &[Certificate] = &[];
    for (case, certificate, key, value, path, restores) in [
        (
            "the leaf alone, with the issuer",
            &plain,
            "tls.crt",
            leaf.as_str(),
            path.as_slice(),
            true,
        ),
        ("the leaf alone, with a copy", &combined, "tls.crt", &leaf, none, true),
        (
            "the leaf alone, and nothing to go by",
            &plain,
            "tls.crt",
            &leaf,
            none,
            false,
        ),
        (
            "another order",
            &plain,
            "tls.crt",
            &format!("{middle}{leaf}"),
            none,
            true,
        ),
        (
            "another intermediate",
            &plain,
            "tls.crt",
            &format!("{leaf}{stranger}"),
            &path,
            true,
        ),
        (
            "the root behind",
            &plain,
            "tls.crt",
            &format!("{leaf}{middle}{root}"),
            none,
            true,
        ),
        ("no ca.crt", &plain, "ca.crt", "", &path, true),
        ("another ca.crt", &plain, "ca.crt", &stranger, &path, true),
        ("junk for a ca.crt", &plain, "ca.crt", "junk", &path, true),
        ("no ca.crt, and nothing to go by", &plain, "ca.crt", "", none, false),
    ] {
        let mut secret = samples::written(certificate, &pair, IssuanceReason::First);
        let metadata = SecretMetadata::of(&secret.metadata);
        assert!(!read_own(&secret, &metadata, path).unwrap().is_restored, "{case}");
        edit(&mut secret, key, value);
        let found = read_own(&secret, &SecretMetadata::of(&secret.metadata), path).unwrap();
        let same = (found.chain.pem(), &found.ca) == (pair.chain.pem(), &pair.ca);
        assert_eq!(same, restores, "{case}");
        assert_eq!(Some(found.chain_hash()) == metadata.chain_hash, restores, "{case}");
        assert_eq!(found.leaf(), pair.leaf(), "{case}");
    }
}

#[test]
fn another_leaf_or_key_is_never_put_together_with_what_was_written() {
    let (pair, path) = by_two_tiers();
    let certificate = samples::certificate("");
    let other = samples::pair(&certificate, issued_at());
    let mut secret = samples::written(&certificate, &pair, IssuanceReason::First);
    edit(&mut secret, "tls.crt", &other.chain.pem());
    assert_eq!(
        read_own(&secret, &SecretMetadata::of(&secret.metadata), &path).unwrap_err(),
        InvalidSecret::Mismatch
    );
    let pem = other.key.to_pem(crate::pki::KeyEncoding::Pkcs8).unwrap();
    edit(&mut secret, "tls.key", &pem);
    assert!(
        !read_own(&secret, &SecretMetadata::of(&secret.metadata), &path)
            .unwrap()
            .is_restored
    );
    let mut secret = samples::written(&certificate, &pair, IssuanceReason::First);
    edit(&mut secret, "tls.crt", "junk");
    assert!(read_own(&secret, &SecretMetadata::of(&secret.metadata), &path).is_err());
}

#[test]
fn an_adopted_pair_keeps_every_certificate_that_its_secret_had() {
    let (pair, path) = by_two_tiers();
    let stranger = samples::pair(&samples::certificate(""), issued_at()).chain.pem();
    let pem = pair.key.to_pem(crate::pki::KeyEncoding::Pkcs8).unwrap();
    let found = format!("{stranger}{}{}", pair.ca.as_deref().unwrap(), pair.chain.pem());
    let secret = Secret {
        type_: Some(TLS.into()),
        data: Some(BTreeMap::from([
            ("tls.crt".into(), ByteString(found.into_bytes())),
            ("tls.key".into(), ByteString(pem.as_bytes().to_vec())),
        ])),
        ..Secret::default()
    };
    let read = read(&secret).unwrap();
    let written = read_bundle(read.chain.pem().as_bytes()).unwrap();
    assert_eq!(written.len(), 4);
    assert!(read.chain.pem().starts_with(&pair.chain.pem()));
    assert!(path.iter().all(|ca| written.contains(ca)));
}

#[test]
fn a_key_shows_in_no_debug_output() {
    let secret = written();
    let pem = String::from_utf8(secret.data.as_ref().unwrap()["tls.key"].0.clone()).unwrap();
    let line = pem.lines().nth(1).unwrap();
    let shown = format!(
        "{:?} {:?}",
        read(&secret).unwrap(),
        SecretMetadata::of(&secret.metadata)
    );
    assert!(!shown.contains(line) && !shown.contains("PRIVATE KEY"));
}

#[test]
fn a_damaged_certificate_takes_no_key_with_it() {
    let made = PrivateKey::generate(crate::pki::KeyParameters::Ecdsa(crate::pki::Curve::P256)).unwrap();
    let pem = made.to_pem(crate::pki::KeyEncoding::Pkcs8).unwrap();
    let mut secret = Secret {
        type_: Some(TLS.into()),
        data: Some(BTreeMap::from([
            ("tls.crt".into(), ByteString(b"junk".to_vec())),
            ("tls.key".into(), ByteString(pem.as_bytes().to_vec())),
        ])),
        ..Secret::default()
    };
    assert!(matches!(read(&secret), Err(InvalidSecret::Unreadable("tls.crt", _))));
    assert_eq!(key(&secret).unwrap().public_key_der(), made.public_key_der());
    wipe(&mut secret);
    assert!(secret.data.unwrap().values().all(|value| value.0.is_empty()));
}
