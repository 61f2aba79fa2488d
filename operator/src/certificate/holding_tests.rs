#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use super::*;
use crate::certificate::{
    plan::Cause,
    samples::{self, edit, entry, issued_at, take},
};

fn written() -> Secret {
    let certificate = samples::certificate("additionalOutputFormats: [{type: DER}]");
    samples::written(&certificate, &samples::pair(&certificate, issued_at()), Cause::First)
}

fn intact(secret: &Secret) -> bool {
    Facts::of(&secret.metadata).intact
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
    let wanted = samples::wanted(&certificate);
    let whole = samples::written(&certificate, &samples::pair(&certificate, issued_at()), Cause::First);
    let mark = |secret: &Secret| Facts::of(&secret.metadata).template;
    assert_eq!(mark(&whole), wanted.template);
    assert_eq!(mark(&written()), samples::wanted(&samples::certificate("")).template);
    assert_ne!(mark(&written()), wanted.template);
    for (map, key) in [
        ("f:labels", "f:team"),
        ("f:labels", "f:tier"),
        ("f:annotations", "f:note"),
    ] {
        let mut secret = whole.clone();
        take(&mut secret, &["f:metadata", map, key]);
        assert_ne!(mark(&secret), wanted.template, "{key}");
        assert!(intact(&secret), "{key}: the pair is untouched");
    }
    // One that somebody adds is theirs.
    let mut secret = whole;
    let theirs = json!({"f:metadata": {"f:labels": {"f:theirs": {}}}});
    let entries = secret.metadata.managed_fields.as_mut().unwrap();
    entries.push(entry("kubectl-edit", "Update", theirs));
    assert_eq!(mark(&secret), wanted.template);
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
    let held = samples::pair(&certificate, issued_at());
    let facts = Facts::of(&samples::written(&certificate, &held, Cause::Due).metadata);
    let wanted = samples::wanted(&certificate);
    assert_eq!(
        facts,
        Facts {
            namespace: "app".into(),
            name: "web-tls".into(),
            uid: "5ec4e7".into(),
            resource_version: "7".into(),
            certificate: Some("web".into()),
            adopt: false,
            intact: true,
            template: wanted.template,
            written: None,
            issuer: Some("Issuer/ca".into()),
            serial_number: Some(held.leaf().serial_hex()),
            not_after: Some(held.leaf().not_after),
            request_hash: Some(wanted.request_hash),
            output_hash: Some(wanted.output_hash),
            chain_hash: Some(held.chain_hash()),
            ari_identifier: Some("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE".into()),
            cause: Some("Due".into()),
        }
    );
    assert_eq!(facts.signing_issuer(), Some(samples::ca()));
}

#[test]
fn a_pair_is_read_as_it_was_written_and_damage_is_named() {
    let secret = written();
    let held = read(&secret).unwrap();
    assert_eq!(Some(held.chain_hash()), Facts::of(&secret.metadata).chain_hash);

    let damaged = |change: &dyn Fn(&mut Secret)| {
        let mut secret = written();
        change(&mut secret);
        read(&secret).unwrap_err()
    };
    assert_eq!(damaged(&|secret| secret.type_ = None), Damage::Type("Opaque".into()));
    assert_eq!(damaged(&|secret| secret.data = None), Damage::Missing("tls.crt"));
    assert_eq!(
        damaged(&|secret| edit(secret, "tls.key", "")),
        Damage::Missing("tls.key")
    );
    assert!(matches!(
        damaged(&|secret| edit(secret, "tls.key", "x")),
        Damage::Unreadable("tls.key", _)
    ));
    assert!(matches!(
        damaged(&|secret| edit(secret, "tls.crt", "x")),
        Damage::Unreadable("tls.crt", _)
    ));
    let other = written().data.unwrap().remove("tls.key").unwrap();
    let key = String::from_utf8(other.0).unwrap();
    assert_eq!(damaged(&|secret| edit(secret, "tls.key", &key)), Damage::Mismatch);
}

#[test]
fn a_key_shows_in_no_debug_output() {
    let secret = written();
    let pem = String::from_utf8(secret.data.as_ref().unwrap()["tls.key"].0.clone()).unwrap();
    let line = pem.lines().nth(1).unwrap();
    let shown = format!("{:?} {:?}", read(&secret).unwrap(), Facts::of(&secret.metadata));
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
    assert!(matches!(read(&secret), Err(Damage::Unreadable("tls.crt", _))));
    assert_eq!(key(&secret).unwrap().public_key_der(), made.public_key_der());
    wipe(&mut secret);
    assert!(secret.data.unwrap().values().all(|value| value.0.is_empty()));
}
