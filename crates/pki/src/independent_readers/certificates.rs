use super::{attempt, folder, moment, openssl};
use crate::{
    Authority, CertificateRequest, Chain, Extras, KeyParameters, PrivateKey, SubjectIn, Validity,
    certificate_signing_request,
    encoding::certificates_pem,
    samples::{Ca, PARAMETERS, ca_request, everything, for_hours, leaf, named, p256, permitting, two_tier},
    self_sign,
};

#[test]
fn openssl_verifies_requests_of_every_algorithm_and_finds_everything_in_them() {
    for parameters in PARAMETERS {
        let key = PrivateKey::generate(parameters).unwrap();
        let folder = folder(&[(
            "csr.der",
            &certificate_signing_request(&everything(), &key, SubjectIn::Full).unwrap(),
        )]);
        let text = openssl(
            folder.path(),
            &[
                "req",
                "-inform",
                "DER",
                "-in",
                "csr.der",
                "-verify",
                "-noout",
                "-text",
                "-nameopt",
                "RFC2253,-esc_msb,utf8",
            ],
        );
        for part in [
            "Certificate request self-signature verify OK",
            "CN=shop.example.com,serialNumber=HRB-1,OU=Ops,OU=Dev,O=Second,O=Acme & Söhne,street=Street 1,postalCode=10115,L=Mitte,ST=Berlin,C=DE",
            "DNS:shop.example.com, DNS:*.shop.example.com, DNS:xn--bcher-kva.example.com, IP Address:192.0.2.7, IP Address:2001:DB8:0:0:0:0:0:7, URI:spiffe://example.com/shop, email:shop@example.com",
            "Digital Signature, Key Encipherment",
            "TLS Web Server Authentication, TLS Web Client Authentication, IPSec User",
            "CA:FALSE",
        ] {
            assert!(text.contains(part), "{parameters}: {part} not in {text}");
        }
        assert!(!text.contains("Subject Alternative Name: critical"), "{text}");
    }
    let key = p256();
    for (request, subject_in, parts) in [
        (
            everything(),
            SubjectIn::Empty,
            vec!["Subject Alternative Name: critical"],
        ),
        (
            everything(),
            SubjectIn::CommonNameOnly,
            vec!["Subject: CN = shop.example.com\n"],
        ),
        (
            CertificateRequest {
                name_constraints: Some(permitting(&["example.com"])),
                ..ca_request("Sub CA")
            },
            SubjectIn::Full,
            vec![
                "CA:TRUE",
                "Name Constraints: critical",
                "DNS:example.com",
                "Certificate Sign, CRL Sign",
            ],
        ),
    ] {
        let folder = folder(&[(
            "csr.der",
            &certificate_signing_request(&request, &key, subject_in).unwrap(),
        )]);
        let text = openssl(
            folder.path(),
            &["req", "-inform", "DER", "-in", "csr.der", "-verify", "-noout", "-text"],
        );
        assert!(parts.iter().all(|part| text.contains(part)), "{parts:?} not in {text}");
    }
}

#[test]
fn openssl_verifies_chains_of_every_algorithm_strictly() {
    for parameters in PARAMETERS {
        let root = Ca::root(&ca_request("Root"), parameters, for_hours(1_000));
        let intermediate = root.below(&ca_request("Intermediate"), for_hours(500));
        let key = PrivateKey::generate(parameters).unwrap();
        let issued = intermediate
            .authority()
            .sign(&everything(), key.public_key_der(), for_hours(24), &Extras::default())
            .unwrap();
        let folder = folder(&[
            ("leaf.pem", certificates_pem([issued.leaf.as_slice()]).as_bytes()),
            ("chain.pem", issued.chain_pem().as_bytes()),
            ("root.pem", root.root_pem.as_bytes()),
        ]);
        let verify = |purpose: &str| {
            let moment = moment();
            let arguments = [
                "verify",
                "-x509_strict",
                "-attime",
                &moment,
                "-CAfile",
                "root.pem",
                "-untrusted",
                "chain.pem",
                "-purpose",
                purpose,
                "leaf.pem",
            ];
            attempt(folder.path(), "openssl", &arguments)
        };
        for purpose in ["sslserver", "sslclient"] {
            let (good, text) = verify(purpose);
            assert!(good, "{parameters} {purpose}: {text}");
        }
        assert!(!verify("timestampsign").0, "only the usages asked for");
    }
}

#[test]
fn openssl_verifies_self_signed_leaves_and_refuses_names_outside_the_constraints() {
    let issued = self_sign(&named(&["a.example.com"]), &p256(), for_hours(1)).unwrap();
    let folder = folder(&[("leaf.pem", issued.chain_pem().as_bytes())]);
    openssl(
        folder.path(),
        &[
            "verify",
            "-x509_strict",
            "-attime",
            &moment(),
            "-CAfile",
            "leaf.pem",
            "leaf.pem",
        ],
    );

    let root = CertificateRequest {
        name_constraints: Some(permitting(&["example.com"])),
        ..ca_request("Root")
    };
    let root = Ca::root(&root, KeyParameters::Ed25519, for_hours(10));
    let issued = root
        .authority()
        .sign(
            &named(&["a.example.com"]),
            p256().public_key_der(),
            for_hours(1),
            &Extras::default(),
        )
        .unwrap();
    // The same key without the constraints signs what the constrained root refuses.
    let free = self_sign(&ca_request("Root"), &root.key, for_hours(10)).unwrap();
    let free = Ca {
        chain_pem: free.chain_pem(),
        root_pem: free.root_pem().unwrap(),
        key: root.key,
    };
    let outside = free
        .authority()
        .sign(
            &named(&["a.example.org"]),
            p256().public_key_der(),
            for_hours(1),
            &Extras::default(),
        )
        .unwrap();
    for (pem, admitted) in [(issued.chain_pem(), true), (outside.chain_pem(), false)] {
        std::fs::write(folder.path().join("root.pem"), &root.root_pem).unwrap();
        std::fs::write(folder.path().join("leaf.pem"), pem).unwrap();
        let (good, text) = attempt(
            folder.path(),
            "openssl",
            &["verify", "-attime", &moment(), "-CAfile", "root.pem", "leaf.pem"],
        );
        assert_eq!(good, admitted, "{text}");
        assert!(admitted || text.contains("permitted subtree violation"), "{text}");
    }
}

#[test]
fn openssl_prints_the_serial_number_fingerprint_and_extras_as_we_do() {
    let (_, intermediate) = two_tier();
    let extras = Extras {
        crl_distribution_points: vec!["http://crl.example.com/one".into(), "http://crl.example.com/two".into()],
        ocsp_servers: vec!["http://ocsp.example.com".into()],
        issuing_certificate_urls: vec!["http://ca.example.com/ca.der".into()],
    };
    let issued = intermediate
        .authority()
        .sign(
            &named(&["a.example.com"]),
            p256().public_key_der(),
            for_hours(24),
            &extras,
        )
        .unwrap();
    let leaf = leaf(&issued);
    let folder = folder(&[("leaf.der", &issued.leaf)]);
    let text = openssl(
        folder.path(),
        &[
            "x509",
            "-inform",
            "DER",
            "-in",
            "leaf.der",
            "-noout",
            "-serial",
            "-fingerprint",
            "-sha256",
            "-text",
        ],
    );
    let serial = format!("serial={}\n", leaf.serial_hex().to_uppercase());
    let fingerprint = leaf.fingerprint_sha256().to_uppercase();
    assert!(
        text.contains(&serial) && text.replace(':', "").contains(&fingerprint),
        "{text}"
    );
    for part in [
        "URI:http://crl.example.com/one",
        "URI:http://crl.example.com/two",
        "OCSP - URI:http://ocsp.example.com",
        "CA Issuers - URI:http://ca.example.com/ca.der",
        "X509v3 Subject Key Identifier",
        "X509v3 Authority Key Identifier",
        "X509v3 Subject Alternative Name: critical",
        "X509v3 Basic Constraints: critical\n                CA:FALSE",
        "X509v3 Key Usage: critical\n                Digital Signature, Key Encipherment",
        "Not Before: Jun  1 12:00:00 2026 GMT",
        "Not After : Jun  2 12:00:00 2026 GMT",
    ] {
        assert!(text.contains(part), "{part} not in {text}");
    }
}

#[test]
fn a_ca_of_openssls_making_signs_and_its_certificate_is_read_whole() {
    let folder = folder(&[]);
    let path = folder.path();
    openssl(
        path,
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            "ca.key",
            "-out",
            "ca.crt",
            "-subj",
            "/C=DE/O=One/O=Two/CN=Foreign CA",
            "-days",
            "2",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
            "-addext",
            "nameConstraints=critical,permitted;DNS:example.com,excluded;IP:10.0.0.0/255.0.0.0,permitted;email:example.com",
        ],
    );
    let read = |name: &str| std::fs::read(path.join(name)).unwrap();
    let certificate = Chain::read(&read("ca.crt"), None).unwrap().leaf;
    let constraints = certificate.name_constraints.clone().unwrap();
    assert_eq!(
        (constraints.critical, constraints.permitted.dns_domains),
        (true, vec!["example.com".to_owned()])
    );
    assert_eq!(constraints.permitted.email_addresses, ["example.com"]);
    assert_eq!(constraints.excluded.ip_ranges, ["10.0.0.0/8".parse().unwrap()]);
    assert_eq!(
        (
            certificate.subject.organizations.join(" "),
            certificate.common_name.as_deref()
        ),
        ("One Two".to_owned(), Some("Foreign CA"))
    );
    assert!(certificate.is_self_signed() && certificate.is_ca);

    // OpenSSL dates it by the machine's clock, so the moment is taken from the certificate.
    let start = certificate.not_before;
    let authority = Authority::load(&read("ca.crt"), &read("ca.key"), None, start).unwrap();
    let validity = Validity {
        not_before: start,
        not_after: certificate.not_after,
    };
    let issued = authority
        .sign(
            &named(&["a.example.com"]),
            p256().public_key_der(),
            validity,
            &Extras::default(),
        )
        .unwrap();
    std::fs::write(path.join("leaf.pem"), issued.chain_pem()).unwrap();
    let moment = (start.as_second() + 60).to_string();
    openssl(
        path,
        &[
            "verify",
            "-x509_strict",
            "-attime",
            &moment,
            "-CAfile",
            "ca.crt",
            "leaf.pem",
        ],
    );
    let outside = authority.sign(
        &named(&["a.example.org"]),
        p256().public_key_der(),
        validity,
        &Extras::default(),
    );
    assert_eq!(outside.unwrap_err().reason(), "NameNotPermitted");
}
