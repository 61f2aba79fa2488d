#![allow(clippy::unwrap_used)]
use super::*;

fn spec(more: &str) -> api::CertificateSpec {
    serde_saphyr::from_str(&format!(
        "secretName: web-tls\nissuerRef: {{name: ca}}\ndnsNames: [www.example.com, example.com]\n{more}"
    ))
    .unwrap()
}

fn hash_of(more: &str) -> String {
    DesiredCertificate::parse(&spec(more)).unwrap().request_hash
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let desired = DesiredCertificate::parse(&spec("")).unwrap();
    assert_eq!(desired.key, KeyParameters::Ecdsa(Curve::P256));
    assert_eq!(desired.encoding, KeyEncoding::Pkcs8);
    assert!(!desired.keep_key);
    assert_eq!(desired.duration, None);
    assert_eq!(
        desired.request.usages,
        [Usage::DigitalSignature, Usage::KeyEncipherment, Usage::ServerAuth]
    );
}

#[test]
fn writing_a_default_out_or_reordering_names_is_not_another_certificate() {
    let plain = hash_of("");
    for same in [
        "privateKey: {algorithm: ECDSA, size: 256}",
        "privateKey: {rotationPolicy: Never, encoding: PKCS1}",
        "usages: [server auth, key encipherment, digital signature]",
        "isCA: false",
        "subject: {}",
        "secretTemplate: {labels: {a: b}}",
        "renewBefore: 24h",
        "suspend: true",
        "fallbackIssuerRefs: [{name: other}]",
    ] {
        assert_eq!(hash_of(same), plain, "{same}");
    }
    let mut turned = spec("");
    turned.dns_names = vec!["EXAMPLE.com".into(), "www.example.com".into(), "example.com".into()];
    assert_eq!(DesiredCertificate::parse(&turned).unwrap().request_hash, plain);
}

#[test]
fn whatever_is_in_the_certificate_makes_another_hash() {
    let plain = hash_of("");
    for other in [
        "privateKey: {size: 384}",
        "usages: [client auth]",
        "commonName: example.com",
        "duration: 24h",
        "ipAddresses: [192.0.2.7]",
        "uris: ['spiffe://x/y']",
        "emailAddresses: [a@example.com]",
        "subject: {organizations: [A]}",
    ] {
        assert_ne!(hash_of(other), plain, "{other}");
    }
    let mut issuer = spec("");
    issuer.issuer_ref.kind = Some(api::IssuerKind::ClusterIssuer);
    assert_ne!(DesiredCertificate::parse(&issuer).unwrap().request_hash, plain);
}

#[test]
fn the_form_of_the_secret_has_a_hash_of_its_own() {
    let plain = DesiredCertificate::parse(&spec("")).unwrap().output_hash;
    for other in [
        "privateKey: {encoding: PKCS1}",
        "secretTemplate: {annotations: {a: b}}",
        "additionalOutputFormats: [{type: DER}]",
        "secretDeletionPolicy: Delete",
        "keystores: {jks: {create: true, passwordSecretRef: {name: a, key: b}}}",
    ] {
        let desired = DesiredCertificate::parse(&spec(other)).unwrap();
        assert_ne!(desired.output_hash, plain, "{other}");
        assert_eq!(desired.request_hash, hash_of(""), "{other}");
    }
}

#[test]
fn a_hash_of_another_recipe_is_no_difference() {
    assert!(differs("1-aa", "1-bb"));
    assert!(!differs("1-aa", "1-aa"));
    assert!(!differs("0-aa", "1-bb"));
    assert!(!differs("", "1-bb"));
}

#[test]
fn what_admission_would_have_refused_is_refused_here_too() {
    for (wrong, says) in [
        ("privateKey: {size: 1024}", "256, 384 or 521"),
        ("privateKey: {algorithm: Ed25519, size: 256}", "no size"),
        ("duration: 5s", "30s"),
        ("duration: 1h\nrenewBefore: 1h", "under duration"),
        ("renewBefore: 1h\nrenewBeforePercentage: 5", "only one"),
        ("usages: [flying]", "flying"),
        ("ipAddresses: [example.com]", "192.0.2.7"),
        (
            "isCA: true\ncommonName: x\nnameConstraints: {permitted: {ipRanges: [ten]}}",
            "10.0.0.0/8",
        ),
    ] {
        let error = DesiredCertificate::parse(&spec(wrong)).unwrap_err();
        assert!(error.to_string().contains(says), "{wrong}: {error}");
        assert_eq!(error.reason(), "Invalid");
    }
}

#[test]
fn an_acme_request_proves_the_common_name_too() {
    let desired = DesiredCertificate::parse(&spec("commonName: api.example.com")).unwrap();
    let names: Vec<_> = desired.for_acme().dns_names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["www.example.com", "example.com", "api.example.com"]);
}
