use super::{folder, openssl};
use crate::{KeyEncoding, KeyParameters, PrivateKey, RsaSize, samples::PARAMETERS};

#[test]
fn openssl_reads_keys_of_every_kind_in_every_encoding() {
    for parameters in PARAMETERS.into_iter().chain([KeyParameters::Rsa(RsaSize::Bits3072)]) {
        let key = PrivateKey::generate(parameters).unwrap();
        for encoding in [KeyEncoding::Pkcs1, KeyEncoding::Pkcs8] {
            let folder = folder(&[
                ("key.pem", key.to_pem(encoding).unwrap().as_bytes()),
                ("key.der", &key.to_der(encoding).unwrap()),
                ("public.der", key.public_key_der()),
            ]);
            openssl(folder.path(), &["pkey", "-in", "key.pem", "-check", "-noout"]);
            openssl(
                folder.path(),
                &[
                    "pkey", "-in", "key.pem", "-pubout", "-outform", "DER", "-out", "pem.pub",
                ],
            );
            openssl(
                folder.path(),
                &[
                    "pkey", "-in", "key.der", "-inform", "DER", "-pubout", "-outform", "DER", "-out", "der.pub",
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
    openssl(path, &["rsa", "-in", "rsa8.pem", "-traditional", "-out", "rsa1.pem"]);
    openssl(path, &["ecparam", "-name", "secp384r1", "-genkey", "-out", "ec1.pem"]);
    openssl(path, &["ec", "-in", "ec1.pem", "-no_public", "-out", "ec1-bare.pem"]);
    openssl(
        path,
        &["pkcs8", "-topk8", "-nocrypt", "-in", "ec1.pem", "-out", "ec8.pem"],
    );
    openssl(path, &["genpkey", "-algorithm", "ED25519", "-out", "ed.pem"]);
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
