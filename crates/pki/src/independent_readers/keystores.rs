use std::path::Path;

use super::{attempt, folder, openssl, run};
use crate::{
    Extras, KeyParameters, PrivateKey,
    keystore::{KeystoreContent, Pkcs12Profile, jks_keystore, jks_truststore, pkcs12_keystore, pkcs12_truststore},
    samples::{PARAMETERS, for_hours, named, two_tier},
};

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
                PrivateKey::from_pem(&text.as_bytes()[start..]).unwrap().pkcs8_der(),
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
            assert!(!wrong.0 && wrong.1.contains("invalid password"), "{}", wrong.1);
        }
    }
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
    let trust = pkcs12_truststore(&pair.authorities, JAVA_PASSWORD, Pkcs12Profile::Modern2023).unwrap();
    let legacy = pkcs12_truststore(&pair.authorities, JAVA_PASSWORD, Pkcs12Profile::LegacyDES).unwrap();
    let folder = folder(&[
        ("store.p12", &store),
        ("trust.p12", &trust),
        ("legacy.p12", &legacy),
        ("password", JAVA_PASSWORD.as_bytes()),
    ]);
    let list = |name: &str| {
        keytool(
            folder.path(),
            &["-list", "-v", "-keystore", name, "-storepass:file", "password"],
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
            text.contains("Alias name: ca\n") && text.contains("trustedCertEntry") && text.contains("CN=Sample Root"),
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
            text.contains("contains 1 entry") && text.contains("trustedCertEntry") && text.contains("CN=Sample Root"),
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
            PrivateKey::from_pem(&text.as_bytes()[start..]).unwrap().pkcs8_der(),
            pair.key.pkcs8_der(),
            "{parameters}"
        );
    }
}
