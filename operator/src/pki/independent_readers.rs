//! What Gatehouse writes, read by programs that others wrote: `openssl` and Java's `keytool`.
//!
//! Both must be on the PATH; a missing one fails the tests and says so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::{
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use super::{
    Extras, KeyEncoding, KeyParameters, PrivateKey, RsaSize, SubjectIn,
    certificate_signing_request,
    encoding::certificates_pem,
    keystore::{
        KeystoreContent, Pkcs12Profile, jks_keystore, jks_keystore_matches, jks_truststore,
        pkcs12_keystore, pkcs12_keystore_matches, pkcs12_truststore,
    },
    samples::{
        Ca, PARAMETERS, ca_request, everything, for_hours, leaf, named, now, p256, permitting,
        two_tier,
    },
    self_sign,
};

/// What a program printed on both outputs, and whether it was content.
fn attempt(directory: &Path, program: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program} cannot be started ({error}): install OpenSSL 3 and a JDK, and put them on the PATH"));
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

fn run(directory: &Path, program: &str, arguments: &[&str]) -> String {
    let (content, text) = attempt(directory, program, arguments);
    assert!(content, "{program} {arguments:?}: {text}");
    text
}

fn openssl(directory: &Path, arguments: &[&str]) -> String {
    run(directory, "openssl", arguments)
}

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

/// A minute after the samples are issued.
fn moment() -> String {
    (now().as_second() + 60).to_string()
}

#[test]
fn openssl_reads_keys_of_every_kind_in_every_encoding() {
    for parameters in PARAMETERS
        .into_iter()
        .chain([KeyParameters::Rsa(RsaSize::Bits3072)])
    {
        let key = PrivateKey::generate(parameters).unwrap();
        for encoding in [KeyEncoding::Pkcs1, KeyEncoding::Pkcs8] {
            let folder = folder(&[
                ("key.pem", key.to_pem(encoding).unwrap().as_bytes()),
                ("key.der", &key.to_der(encoding).unwrap()),
                ("public.der", key.public_key_der()),
            ]);
            openssl(
                folder.path(),
                &["pkey", "-in", "key.pem", "-check", "-noout"],
            );
            openssl(
                folder.path(),
                &[
                    "pkey", "-in", "key.pem", "-pubout", "-outform", "DER", "-out", "pem.pub",
                ],
            );
            openssl(
                folder.path(),
                &[
                    "pkey", "-in", "key.der", "-inform", "DER", "-pubout", "-outform", "DER",
                    "-out", "der.pub",
                ],
            );
            for public in ["pem.pub", "der.pub"] {
                assert_eq!(
                    std::fs::read(folder.path().join(public)).unwrap(),
                    key.public_key_der(),
                    "{parameters} {encoding:?}"
                );
            }
        }
    }
}

#[test]
fn keys_that_openssl_wrote_are_read() {
    let folder = folder(&[]);
    let path = folder.path();
    openssl(
        path,
        &[
            "genpkey",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:2048",
            "-out",
            "rsa8.pem",
        ],
    );
    openssl(
        path,
        &["rsa", "-in", "rsa8.pem", "-traditional", "-out", "rsa1.pem"],
    );
    openssl(
        path,
        &[
            "ecparam",
            "-name",
            "secp384r1",
            "-genkey",
            "-out",
            "ec1.pem",
        ],
    );
    openssl(
        path,
        &["ec", "-in", "ec1.pem", "-no_public", "-out", "ec1-bare.pem"],
    );
    openssl(
        path,
        &[
            "pkcs8", "-topk8", "-nocrypt", "-in", "ec1.pem", "-out", "ec8.pem",
        ],
    );
    openssl(
        path,
        &["genpkey", "-algorithm", "ED25519", "-out", "ed.pem"],
    );
    openssl(
        path,
        &[
            "pkcs8",
            "-topk8",
            "-in",
            "ec8.pem",
            "-passout",
            "pass:secret",
            "-out",
            "encrypted8.pem",
        ],
    );
    openssl(
        path,
        &[
            "ec",
            "-in",
            "ec1.pem",
            "-aes256",
            "-passout",
            "pass:secret",
            "-out",
            "encrypted1.pem",
        ],
    );
    openssl(
        path,
        &[
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:secp256k1",
            "-out",
            "k1.pem",
        ],
    );
    openssl(
        path,
        &[
            "genpkey",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:1024",
            "-out",
            "rsa1024.pem",
        ],
    );
    let read = |name: &str| PrivateKey::from_pem(&std::fs::read(path.join(name)).unwrap());
    assert_eq!(
        read("rsa1.pem").unwrap().pkcs8_der(),
        read("rsa8.pem").unwrap().pkcs8_der()
    );
    assert_eq!(
        read("ec1.pem").unwrap().pkcs8_der(),
        read("ec8.pem").unwrap().pkcs8_der()
    );
    assert_eq!(
        read("ec1-bare.pem").unwrap().pkcs8_der(),
        read("ec8.pem").unwrap().pkcs8_der()
    );
    assert_eq!(read("ed.pem").unwrap().parameters(), KeyParameters::Ed25519);
    for (name, reason) in [
        ("encrypted8.pem", "EncryptedPrivateKey"),
        ("encrypted1.pem", "EncryptedPrivateKey"),
        ("k1.pem", "UnsupportedKeyAlgorithm"),
        ("rsa1024.pem", "UnsupportedKeyAlgorithm"),
    ] {
        let error = read(name).unwrap_err();
        assert_eq!(error.reason(), reason, "{name}: {error}");
    }
}

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
        assert!(
            !text.contains("Subject Alternative Name: critical"),
            "{text}"
        );
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
            super::CertificateRequest {
                name_constraints: permitting(&["example.com"]),
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
            &[
                "req", "-inform", "DER", "-in", "csr.der", "-verify", "-noout", "-text",
            ],
        );
        assert!(
            parts.iter().all(|part| text.contains(part)),
            "{parts:?} not in {text}"
        );
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
            .sign(
                &everything(),
                key.public_key_der(),
                for_hours(24),
                &Extras::default(),
            )
            .unwrap();
        let folder = folder(&[
            (
                "leaf.pem",
                certificates_pem([issued.leaf.as_slice()]).as_bytes(),
            ),
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

    let root = super::CertificateRequest {
        name_constraints: permitting(&["example.com"]),
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
    let free = super::self_sign(&ca_request("Root"), &root.key, for_hours(10)).unwrap();
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
            &[
                "verify",
                "-attime",
                &moment(),
                "-CAfile",
                "root.pem",
                "leaf.pem",
            ],
        );
        assert_eq!(good, admitted, "{text}");
        assert!(
            admitted || text.contains("permitted subtree violation"),
            "{text}"
        );
    }
}

#[test]
fn openssl_prints_the_serial_number_fingerprint_and_extras_as_we_do() {
    let (_, intermediate) = two_tier();
    let extras = Extras {
        crl_distribution_points: vec![
            "http://crl.example.com/one".into(),
            "http://crl.example.com/two".into(),
        ],
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

/// A key with its chain and the root, for keystores.
struct Pair {
    key: PrivateKey,
    chain: Vec<Vec<u8>>,
    authorities: Vec<Vec<u8>>,
}

impl Pair {
    fn new(parameters: KeyParameters) -> Self {
        let (_, intermediate) = two_tier();
        let key = PrivateKey::generate(parameters).unwrap();
        let issued = intermediate
            .authority()
            .sign(
                &named(&["a.example.com"]),
                key.public_key_der(),
                for_hours(24),
                &Extras::default(),
            )
            .unwrap();
        let chain = std::iter::once(&issued.leaf)
            .chain(issued.intermediates.iter())
            .cloned()
            .collect();
        Self {
            key,
            chain,
            authorities: vec![issued.root.as_deref().unwrap().clone()],
        }
    }

    fn content(&self) -> KeystoreContent<'_> {
        KeystoreContent {
            key: &self.key,
            chain: &self.chain,
            authorities: &self.authorities,
        }
    }
}

const PASSWORD: &str = "pass wörd";

#[test]
fn openssl_opens_pkcs12_keystores_of_every_profile() {
    for parameters in PARAMETERS {
        let pair = Pair::new(parameters);
        for (profile, scheme) in [
            (Pkcs12Profile::LegacyRC2, "pbeWithSHA1And40BitRC2-CBC"),
            (Pkcs12Profile::LegacyDES, "pbeWithSHA1And3-KeyTripleDES-CBC"),
            (
                Pkcs12Profile::Modern2023,
                "PBES2, PBKDF2, AES-256-CBC, Iteration 2048, PRF hmacWithSHA256",
            ),
        ] {
            let folder = folder(&[
                (
                    "store.p12",
                    &pkcs12_keystore(pair.content(), PASSWORD, profile).unwrap(),
                ),
                ("password", PASSWORD.as_bytes()),
            ]);
            let text = openssl(
                folder.path(),
                &[
                    "pkcs12",
                    "-legacy",
                    "-in",
                    "store.p12",
                    "-passin",
                    "file:password",
                    "-nodes",
                    "-info",
                ],
            );
            assert!(
                text.contains(scheme) && text.contains("friendlyName: certificate"),
                "{text}"
            );
            assert_eq!(text.matches("BEGIN CERTIFICATE").count(), 3, "{text}");
            let start = text.find("-----BEGIN PRIVATE KEY").unwrap();
            assert_eq!(
                PrivateKey::from_pem(&text.as_bytes()[start..])
                    .unwrap()
                    .pkcs8_der(),
                pair.key.pkcs8_der()
            );
            let wrong = attempt(
                folder.path(),
                "openssl",
                &[
                    "pkcs12",
                    "-legacy",
                    "-in",
                    "store.p12",
                    "-passin",
                    "pass:other",
                    "-nodes",
                ],
            );
            assert!(
                !wrong.0 && wrong.1.contains("invalid password"),
                "{}",
                wrong.1
            );
        }
    }
}

#[test]
fn a_pkcs12_keystore_of_openssls_writing_with_the_same_content_matches() {
    let pair = Pair::new(PARAMETERS[1]);
    let all: Vec<&[u8]> = pair
        .chain
        .iter()
        .chain(&pair.authorities)
        .map(Vec::as_slice)
        .collect();
    let folder = folder(&[
        (
            "key.pem",
            pair.key.to_pem(KeyEncoding::Pkcs8).unwrap().as_bytes(),
        ),
        ("leaf.pem", certificates_pem([all[0]]).as_bytes()),
        (
            "rest.pem",
            certificates_pem(all[1..].iter().copied()).as_bytes(),
        ),
    ]);
    let arguments = [
        "pkcs12",
        "-export",
        "-inkey",
        "key.pem",
        "-in",
        "leaf.pem",
        "-certfile",
        "rest.pem",
        "-name",
        "certificate",
        "-passout",
        "pass:secret",
        "-out",
        "store.p12",
    ];
    openssl(folder.path(), &arguments);
    let store = std::fs::read(folder.path().join("store.p12")).unwrap();
    assert!(pkcs12_keystore_matches(
        &store,
        pair.content(),
        "secret",
        Pkcs12Profile::Modern2023
    ));
    assert!(!pkcs12_keystore_matches(
        &store,
        pair.content(),
        "other",
        Pkcs12Profile::Modern2023
    ));
}

/// Java itself refuses other than ASCII with PBES2 ("Password is not ASCII").
const JAVA_PASSWORD: &str = "pass word";

fn keytool(directory: &Path, arguments: &[&str]) -> String {
    let language = ["-J-Duser.language=en", "-J-Dfile.encoding=UTF-8"];
    run(directory, "keytool", &[arguments, &language].concat())
}

#[test]
fn keytool_opens_pkcs12_keystores_and_truststores() {
    let pair = Pair::new(PARAMETERS[0]);
    let store = pkcs12_keystore(pair.content(), JAVA_PASSWORD, Pkcs12Profile::Modern2023).unwrap();
    let trust =
        pkcs12_truststore(&pair.authorities, JAVA_PASSWORD, Pkcs12Profile::Modern2023).unwrap();
    let legacy =
        pkcs12_truststore(&pair.authorities, JAVA_PASSWORD, Pkcs12Profile::LegacyDES).unwrap();
    let folder = folder(&[
        ("store.p12", &store),
        ("trust.p12", &trust),
        ("legacy.p12", &legacy),
        ("password", JAVA_PASSWORD.as_bytes()),
    ]);
    let list = |name: &str| {
        keytool(
            folder.path(),
            &[
                "-list",
                "-v",
                "-keystore",
                name,
                "-storepass:file",
                "password",
            ],
        )
    };
    let text = list("store.p12");
    assert!(
        text.contains("Alias name: certificate")
            && text.contains("PrivateKeyEntry")
            && text.contains("Certificate chain length: 3"),
        "{text}"
    );
    for name in ["trust.p12", "legacy.p12"] {
        let text = list(name);
        assert!(
            text.contains("Alias name: ca\n")
                && text.contains("trustedCertEntry")
                && text.contains("CN=Sample Root"),
            "{text}"
        );
    }
}

#[test]
fn keytool_opens_jks_keystores_and_truststores_and_takes_the_key_out() {
    for parameters in PARAMETERS {
        let pair = Pair::new(parameters);
        let (store, trust) = (
            jks_keystore(pair.content(), PASSWORD).unwrap(),
            jks_truststore(&pair.authorities, PASSWORD).unwrap(),
        );
        let folder = folder(&[
            ("store.jks", &store),
            ("trust.jks", &trust),
            ("password", PASSWORD.as_bytes()),
        ]);
        let list = |name: &str| {
            keytool(
                folder.path(),
                &[
                    "-list",
                    "-v",
                    "-keystore",
                    name,
                    "-storetype",
                    "JKS",
                    "-storepass:file",
                    "password",
                ],
            )
        };
        let text = list("store.jks");
        for part in [
            "contains 2 entries",
            "Alias name: certificate",
            "PrivateKeyEntry",
            "Certificate chain length: 2",
            "Alias name: ca\n",
            "Jun 1, 2026",
        ] {
            assert!(text.contains(part), "{part} not in {text}");
        }
        let text = list("trust.jks");
        assert!(
            text.contains("contains 1 entry")
                && text.contains("trustedCertEntry")
                && text.contains("CN=Sample Root"),
            "{text}"
        );

        // Java decrypts the key and hands it on; OpenSSL sees the same one.
        let arguments = [
            "-importkeystore",
            "-srckeystore",
            "store.jks",
            "-srcstoretype",
            "JKS",
            "-srcstorepass:file",
            "password",
            "-srcalias",
            "certificate",
            "-destkeystore",
            "out.p12",
            "-deststoretype",
            "PKCS12",
            "-deststorepass",
            "ascii-secret",
            "-noprompt",
        ];
        keytool(folder.path(), &arguments);
        let text = openssl(
            folder.path(),
            &[
                "pkcs12",
                "-in",
                "out.p12",
                "-passin",
                "pass:ascii-secret",
                "-nodes",
                "-nocerts",
            ],
        );
        let start = text.find("-----BEGIN PRIVATE KEY").unwrap();
        assert_eq!(
            PrivateKey::from_pem(&text.as_bytes()[start..])
                .unwrap()
                .pkcs8_der(),
            pair.key.pkcs8_der(),
            "{parameters}"
        );
    }
}

#[test]
fn a_jks_keystore_of_javas_writing_with_the_same_content_matches() {
    let pair = Pair::new(PARAMETERS[1]);
    let content = KeystoreContent {
        authorities: &[],
        ..pair.content()
    };
    let store = pkcs12_keystore(content, "ascii-secret", Pkcs12Profile::Modern2023).unwrap();
    let folder = folder(&[("store.p12", &store)]);
    let arguments = [
        "-importkeystore",
        "-srckeystore",
        "store.p12",
        "-srcstoretype",
        "PKCS12",
        "-srcstorepass",
        "ascii-secret",
        "-destkeystore",
        "java.jks",
        "-deststoretype",
        "JKS",
        "-deststorepass",
        "ascii-secret",
        "-noprompt",
    ];
    keytool(folder.path(), &arguments);
    let java = std::fs::read(folder.path().join("java.jks")).unwrap();
    assert!(jks_keystore_matches(&java, content, "ascii-secret"));
    assert!(!jks_keystore_matches(&java, pair.content(), "ascii-secret"));
}
